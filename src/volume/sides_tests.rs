//! A store on two disks of which one is taken away, or put back to an older time, at the wrong moment: the other alone is the
//! store.

use super::mirroring::{StaleSide, unwritten};
use super::{
    Access, FillFrom, LackingSide, OpenOptions, RINGS, Volume, compare_sides, level_states, log_ends,
    newest_and_before, newest_superblock, side_that_is_short, side_that_lacks,
};
use crate::check::{Depth, check};
use crate::clock::Clock;
use crate::device::mirror::{NewSide, Present, open_sides, write_label};
use crate::device::{CrashPolicy, Device, DeviceError, DirDevice, Mirror, Op, Persistence, Sim};
use crate::fixtures::{
    ADMIN, Hooked, Hooks, RW, bytes, files_of, find, make, mount, new_store, overwrite, put, read_whole,
    together_labels,
};
use crate::format::mirror::Standing;
use crate::format::superblock::{RING_SLOTS, SLOT_BYTES};
use crate::fs::{Fs, FsOptions};
use crate::ops::{AllocateMode, NodeId, Operations, SyncScope};
use crate::store::Room;
use fastrand::Rng;
use parking_lot::Mutex;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Weak};
use std::time::Duration;

const SIZE: u64 = 32 << 20;
const LIMIT: Duration = Duration::from_secs(600);

/// A seed that no other opening has.
fn fresh() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, SeqCst)
}

fn present(sim: &Sim, device: Arc<dyn Device>) -> Present {
    let (newest, before) = newest_and_before(sim).unwrap();
    Present::read(device, (newest.epoch.0, before.0), newest.seq).unwrap()
}

/// What is on two disks when the power goes in the middle of an fsync: the first has all that was written, the second nothing
/// that was not flushed. For each flush of it.
fn cut_in_fsyncs() -> Vec<[Sim; 2]> {
    #[derive(Default)]
    struct Cuts(Mutex<Vec<[Sim; 2]>>, Mutex<Weak<Sim>>);

    impl Hooks for Cuts {
        fn before_flush(&self) -> Result<(), DeviceError> {
            if let Some(sim) = self.1.lock().upgrade() {
                self.0.lock().push([CrashPolicy::KeepAll, CrashPolicy::DropAll].map(|how| sim.crash(how)));
            }
            Ok(())
        }
    }

    let sim = new_store(SIZE);
    {
        let fs = mount(sim.clone());
        put(&fs, NodeId::ROOT, "before", &bytes(1, 100_000));
        fs.volume().set_mirrored(true).unwrap();
        fs.close().unwrap();
    }
    for label in together_labels().iter().take(1) {
        write_label(&*sim, label).unwrap();
    }
    let device = Arc::new(Hooked::over_shared(sim.clone(), Cuts::default()));
    let fs = mount(device.clone());
    for n in 0..3 {
        *device.hooks.1.lock() = Arc::downgrade(&sim);
        let name = format!("late{n}");
        let (entry, handle) = fs.create(&ADMIN, NodeId::ROOT, name.as_bytes(), 0o640, RW).unwrap();
        fs.write(entry.attr.node, handle, 0, &late(n), false).unwrap();
        fs.fsync(entry.attr.node, handle, SyncScope::All).unwrap();
    }
    *device.hooks.1.lock() = Weak::new();
    let cuts = std::mem::take(&mut *device.hooks.0.lock());
    for [_, second] in &cuts {
        write_label(second, &together_labels()[1]).unwrap();
    }
    cuts
}

/// Takes a side away at a call of it.
struct Leaves {
    mirror: Mutex<Weak<Mirror>>,
    side: usize,
    sim: Arc<Sim>,
    /// Calls until then; none any more at 0.
    left: AtomicU64,
}

impl Leaves {
    fn step(&self) {
        if self.left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)) == Ok(1)
            && let Some(mirror) = self.mirror.lock().upgrade()
        {
            [Op::Read, Op::Write, Op::Flush]
                .iter()
                .for_each(|op| self.sim.fail(*op, 1, Persistence::Forever));
            // Unless the other went before.
            let _is_last = mirror.leave_out(self.side, "it was taken away");
        }
    }
}

impl Hooks for Leaves {
    fn before_read(&self, _: u64) {
        self.step();
    }
    fn before_write(&self, _: usize) {
        self.step();
    }
    fn before_flush(&self) -> Result<(), DeviceError> {
        self.step();
        Ok(())
    }
}

fn open(device: Arc<dyn Device>) -> Result<Arc<Fs>, String> {
    let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 1 << 20 };
    let volume = Volume::open(device, options).map_err(|e| e.to_string())?;
    let fs = Fs::open(volume, FsOptions::default(), Clock::manual(1000)).map_err(|e| format!("{e:?}"))?;
    // What is told of it is no error of anybody who asks.
    if fs.volume().is_read_only() { Err("it takes no changes".into()) } else { Ok(fs) }
}

fn late(n: u64) -> Vec<u8> {
    bytes(10 + n, [300_000, 30_000, 120_000][n as usize])
}

/// What is there is whole, and there is no later file without an earlier one.
fn seen(fs: &Fs) -> usize {
    assert_eq!(read_whole(fs, find(fs, "before")), Ok(bytes(1, 100_000)));
    let file = |n: u64| fs.lookup(&ADMIN, NodeId::ROOT, format!("late{n}").as_bytes()).ok();
    let there: Vec<_> = (0..3).map(file).collect();
    let count = there.iter().take_while(|file| file.is_some()).count();
    assert_eq!(there.iter().flatten().count(), count);
    for (n, file) in there.into_iter().flatten().enumerate() {
        let content = read_whole(fs, file.attr.node).expect("what is there can be read");
        assert!(content.is_empty() || content == late(n as u64), "late{n}");
    }
    count
}

/// Opens two disks, of which `gone` is taken away at its n-th call. False if there were not so many. With a second fault the
/// store may not open, but if it does all is well.
fn open_and_lose(
    cut: &[Sim; 2],
    (gone, nth): (usize, u64),
    second: Option<(Op, u64)>,
) -> Result<bool, String> {
    let sims = [0, 1].map(|n| Arc::new(cut[n].clone_image()));
    let sim = sims[gone].clone();
    let leaves = Leaves { mirror: Mutex::default(), side: gone, sim, left: AtomicU64::new(0) };
    let victim = Arc::new(Hooked::over_shared(sims[gone].clone(), leaves));
    let mut devices: [Arc<dyn Device>; 2] = [sims[0].clone(), sims[1].clone()];
    devices[gone] = victim.clone();
    let [a, b] = devices;
    let opening = open_sides(present(&sims[0], a), Some(present(&sims[1], b)), false, fresh()).unwrap();
    let mirror = Arc::new(opening.mirror);
    *victim.hooks.mirror.lock() = Arc::downgrade(&mirror);
    victim.hooks.left.store(nth, SeqCst);
    let survivor = &sims[1 - gone];
    if let Some((op, nth)) = second {
        survivor.fail(op, nth, Persistence::Once);
    }
    let fs = match open(mirror.clone()) {
        Err(_) if survivor.faults_struck() > 0 => return Ok(true),
        opened => opened?,
    };
    if let Some((Op::Read, nth)) = second {
        // It has failed by then.
        (0..nth).for_each(|_| drop(survivor.read_at(0, &mut [0; 4096])));
    }
    let found = seen(&fs);
    assert_eq!(check(fs.volume(), Depth::Metadata).unwrap().problems, [] as [String; 0]);
    // From here on it is acknowledged.
    let committed = fs.commit();
    let is_lost = mirror.sides() == [1 - gone];
    drop((fs, mirror));
    if survivor.faults_struck() > 0 && committed.is_err() {
        return Ok(true);
    }
    committed.unwrap();
    if is_lost {
        let alone = Arc::new(survivor.crash(CrashPolicy::DropAll));
        let opening = open_sides(present(&alone, alone.clone()), None, false, fresh()).unwrap();
        let fs = open(Arc::new(opening.mirror))?;
        assert_eq!(seen(&fs), found, "alone, later");
    }
    Ok(is_lost)
}

/// What only the side that is lost had is not part of the store that was opened, and all else is.
#[test]
fn a_side_that_is_lost_at_any_call_of_an_opening_leaves_what_the_other_has() {
    let mut tried = 0;
    for (n, cut) in cut_in_fsyncs().iter().enumerate().step_by(2) {
        for gone in 0..2 {
            let mut nth = 1;
            loop {
                let lost = open_and_lose(cut, (gone, nth), None);
                if !lost.unwrap_or_else(|why| panic!("cut {n}, side {gone}, call {nth}: {why}")) {
                    break;
                }
                tried += 1;
                // The first calls one by one, then farther apart.
                nth += 1 + nth / 5;
            }
        }
    }
    assert!(tried > 40, "{tried}");
}

/// The same with a call of the other that fails once.
#[test]
fn a_side_that_is_lost_and_a_call_of_the_other_that_fails() {
    let mut rng = Rng::with_seed(7);
    let cuts = cut_in_fsyncs();
    for n in 0..80 {
        let cut = rng.usize(..cuts.len());
        let (gone, nth) = (rng.usize(..2), rng.u64(1..60));
        let second = ([Op::Read, Op::Write, Op::Flush][rng.usize(..3)], rng.u64(1..40));
        let opened = open_and_lose(&cuts[cut], (gone, nth), Some(second));
        opened.unwrap_or_else(|why| {
            panic!("run {n}: cut {cut}, side {gone} at call {nth}, {second:?} of the other: {why}")
        });
    }
}

/// Takes a side in, notes what it has, and fills it as far as `go` lets.
fn bring(fs: &Fs, mirror: &Mirror, sim: &Arc<Sim>, go: &mut dyn FnMut(u64, u64) -> ControlFlow<()>) -> bool {
    let from = match (mirror.label(), crate::device::mirror::read_label(&**sim).unwrap()) {
        (Some(ours), Some(theirs)) => {
            let from = FillFrom::of_side(sim.clone(), &ours, &theirs, mirror.reached_epoch());
            fs.volume().note_rest(&from, &mirror.label_to_fill().unwrap(), &**sim).unwrap();
            from
        }
        _ => FillFrom::Nothing,
    };
    let new = NewSide { device: sim.clone(), path: Vec::new(), partner_path: Vec::new(), limit: LIMIT };
    mirror.join(new, &RINGS).unwrap();
    fs.volume().fill(mirror, &from, &mut |filled| go(filled.done, filled.total)).is_ok()
}

fn alone(sim: &Arc<Sim>) -> (Arc<Mirror>, Arc<Fs>) {
    let opening = open_sides(present(sim, sim.clone()), None, false, fresh()).unwrap();
    let mirror = Arc::new(opening.mirror);
    (mirror.clone(), files_of(Volume::open(mirror, options()).unwrap()))
}

fn options() -> OpenOptions {
    OpenOptions { access: Access::ReadWrite, cache_bytes: 1 << 20 }
}

/// What a side that is being filled has noted is of the history that the other had then. If that was put back to an older time,
/// before the filling or in the middle of it, and has gone on from there, the note does not count, however many states came since.
#[test]
fn what_a_side_has_noted_does_not_count_for_another_history() {
    for in_the_middle in [false, true] {
        let first = new_store(SIZE);
        let second = Arc::new(Sim::new(SIZE, 2));
        let old = {
            // It was mirrored once, and the other is away.
            let mirror = Arc::new(Mirror::solo(first.clone(), fresh()));
            let fs = mount(mirror.clone());
            fs.volume().set_mirrored(true).unwrap();
            put(&fs, NodeId::ROOT, "before", &bytes(1, 3 << 20));
            fs.commit().unwrap();
            assert!(bring(&fs, &mirror, &second, &mut |_, _| ControlFlow::Continue(())));
            assert!(mirror.leave_out(1, "it was taken away"));
            put(&fs, NodeId::ROOT, "early", &bytes(2, 2 << 20));
            fs.close().unwrap();
            drop((fs, mirror));
            let mut old = first.clone_image();
            let (mirror, fs) = alone(&first);
            let mut count = 0;
            let done = bring(&fs, &mirror, &second, &mut |done, total| {
                count += 1;
                if count == 2 && in_the_middle {
                    old = first.clone_image();
                }
                if (2..5).contains(&count) {
                    put(&fs, NodeId::ROOT, &format!("lost{count}"), &bytes(20 + count, 300_000));
                    fs.commit().unwrap();
                }
                if done * 4 < total * 3 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            assert!(!done && count > 5, "it was cut off");
            old
        };
        let first = Arc::new(old);
        let (mirror, fs) = alone(&first);
        for n in 0..8 {
            put(&fs, NodeId::ROOT, &format!("other{n}"), &bytes(40 + n, 200_000));
            fs.commit().unwrap();
        }
        fs.close().unwrap();
        drop((fs, mirror));
        let opening = open_sides(
            present(&first, first.clone()),
            Some(Present::read(second.clone(), (0, 0), 0).unwrap()),
            false,
            fresh(),
        );
        let mirror = Arc::new(opening.unwrap().mirror);
        let fs = files_of(Volume::open(mirror.clone(), options()).unwrap());
        assert!(bring(&fs, &mirror, &second, &mut |_, _| ControlFlow::Continue(())));
        let found = compare_sides(fs.volume(), &mirror).unwrap();
        assert_eq!(found.differing, [] as [u64; 0], "in the middle: {in_the_middle}");
        fs.close().unwrap();
        drop((fs, mirror));
        let (_mirror, fs) = alone(&second);
        assert!(check(fs.volume(), Depth::Data).unwrap().is_clean());
        for n in 0..8 {
            assert_eq!(read_whole(&fs, find(&fs, &format!("other{n}"))), Ok(bytes(40 + n, 200_000)));
        }
    }
}

/// Two disks with the same store, in sync.
fn in_sync() -> [Arc<Sim>; 2] {
    let first = new_store(SIZE);
    let fs = mount(first.clone());
    put(&fs, NodeId::ROOT, "before", &bytes(1, 300_000));
    fs.volume().set_mirrored(true).unwrap();
    fs.close().unwrap();
    drop(fs);
    let sims = [first.clone(), Arc::new(first.clone_image())];
    sims.iter().zip(together_labels()).for_each(|(sim, label)| write_label(&**sim, &label).unwrap());
    sims
}

/// Opens what is on two disks.
fn met(sims: &[Arc<Sim>; 2]) -> (Arc<Mirror>, Arc<Fs>, bool) {
    let [a, b] = sims.each_ref().map(|sim| present(sim, sim.clone()));
    let opening = open_sides(a, Some(b), false, fresh()).unwrap();
    let mirror = Arc::new(opening.mirror);
    level_states(&mirror).unwrap();
    (mirror.clone(), open(mirror).unwrap(), opening.behind.is_some())
}

/// A side that is one state older was put back to it, or a crash came between the two writes of a superblock: it gets what came
/// since, and not only the superblock.
#[test]
fn a_side_that_was_put_back_by_one_state_gets_what_came_with_it() {
    for old_one in 0..2 {
        let mut sims = in_sync();
        let (mirror, fs, _) = met(&sims);
        put(&fs, NodeId::ROOT, "early", &bytes(2, 100_000));
        fs.commit().unwrap();
        let old = sims[old_one].clone_image();
        let state = newest_superblock(&old).unwrap().seq;
        put(&fs, NodeId::ROOT, "f", &bytes(3, 200_000));
        while newest_superblock(&*sims[0]).unwrap().seq == state {
            fs.commit().unwrap();
        }
        let cut = sims.each_ref().map(|sim| Arc::new(sim.clone_image()));
        drop((fs, mirror));
        sims = cut;
        sims[old_one] = Arc::new(old);
        assert_eq!(newest_superblock(&*sims[1 - old_one]).unwrap().seq, state + 1);
        let (mirror, fs, is_behind) = met(&sims);
        assert!(!is_behind && mirror.sides() == [0, 1]);
        assert_eq!(compare_sides(fs.volume(), &mirror).unwrap().differing, [] as [u64; 0]);
        fs.close().unwrap();
        drop((fs, mirror));
        let (_mirror, fs) = alone(&sims[old_one]);
        assert!(check(fs.volume(), Depth::Data).unwrap().is_clean());
        assert_eq!(read_whole(&fs, find(&fs, "f")), Ok(bytes(3, 200_000)));
    }
}

/// Takes no flush once its disk has a newer state than this one.
struct LateWith(Arc<Sim>, AtomicU64);

impl Hooks for LateWith {
    fn before_flush(&self) -> Result<(), DeviceError> {
        if newest_superblock(&*self.0).unwrap().seq > self.1.load(SeqCst) {
            return Err(DeviceError::refused(std::io::ErrorKind::TimedOut, "it is late".into()));
        }
        Ok(())
    }
}

/// Epochs that ended with nothing to write have no state and count for nothing: a side that has one state more, which was under way
/// when the two parted, is behind, and one that has two is not.
#[test]
fn a_side_with_one_state_more_is_behind_however_many_epochs_came_in_between() {
    for (more, is_late) in [(1, true), (1, false), (2, false)] {
        let what = format!("{more} states, the side is late: {is_late}");
        let mut sims = in_sync();
        let (first, second) = (sims[0].clone(), sims[1].clone());
        let hooks = LateWith(second.clone(), AtomicU64::new(u64::MAX));
        let late = Arc::new(Hooked::over_shared(second.clone(), hooks));
        let (a, b) = (present(&first, first.clone()), present(&second, late.clone()));
        let mirror = Arc::new(open_sides(a, Some(b), false, fresh()).unwrap().mirror);
        let fs = open(mirror.clone()).unwrap();
        let newest = || newest_superblock(&*second).unwrap();
        put(&fs, NodeId::ROOT, "early", &bytes(2, 100_000));
        let mut state = 0;
        while newest().seq != state {
            state = newest().seq;
            fs.commit().unwrap();
        }
        let common = newest();
        (0..5).for_each(|_| fs.commit().unwrap());
        assert_eq!(newest().seq, common.seq, "nothing is to be written: {what}");
        let old = first.clone_image();
        if is_late {
            late.hooks.1.store(common.seq, SeqCst);
        }
        for n in 1..=more {
            put(&fs, NodeId::ROOT, &format!("f{n}"), &bytes(2 + n, 200_000));
            while newest().seq < common.seq + n {
                fs.commit().unwrap();
            }
        }
        assert_eq!(newest().seq, common.seq + more, "{what}");
        assert!(newest().epoch.0 > common.epoch.0 + more, "epochs came in between: {what}");
        assert_eq!(mirror.sides().len(), if is_late { 1 } else { 2 }, "{what}");
        if !is_late {
            // The power went before any of it was on the first, which then was opened alone.
            sims = [Arc::new(old), Arc::new(second.clone_image())];
        }
        drop((fs, mirror));
        let (mirror, fs) = alone(&sims[0]);
        put(&fs, NodeId::ROOT, "other", &bytes(9, 200_000));
        fs.close().unwrap();
        drop((fs, mirror));
        let [a, b] = sims.each_ref().map(|sim| present(sim, sim.clone()));
        let opened = open_sides(a, Some(b), false, fresh());
        if more > 1 {
            let why = opened.err().map(|e| e.to_string()).unwrap_or_default();
            assert!(why.contains("both sides of the mirror went on"), "{what}: {why}");
            continue;
        }
        let opening = opened.unwrap_or_else(|why| panic!("{what}: {why}"));
        assert!(opening.behind.is_some(), "{what}");
        // Without the state before its newest nobody knows how many there were in between.
        let damaged = sims[1].clone_image();
        for (ring, _) in RINGS {
            let slot = common.seq % RING_SLOTS * SLOT_BYTES as u64;
            damaged.write_at(ring + slot, &[0xAB; SLOT_BYTES]).unwrap();
        }
        let befores = [&*sims[1], &damaged].map(|sim| newest_and_before(sim).unwrap().1.0);
        assert_eq!(befores, [common.epoch.0, newest().epoch.0 - 1], "{what}");
        let mirror = Arc::new(opening.mirror);
        let fs = open(mirror.clone()).unwrap();
        assert!(bring(&fs, &mirror, &sims[1], &mut |_, _| ControlFlow::Continue(())), "{what}");
        assert_eq!(compare_sides(fs.volume(), &mirror).unwrap().differing, [] as [u64; 0], "{what}");
        fs.close().unwrap();
    }
}

/// Files that the side with the newer state has lost are not taken from one that lacks what came since; what the older one lacks is.
#[test]
fn a_side_that_was_put_back_is_not_served_because_the_newer_one_has_lost_files() {
    // States, and bytes of the log of one state.
    let cases = [
        (1, 0, true),
        (3, 0, true),
        (0, 4096, true),
        (1, 0, false),
        (3, 0, false),
        (0, 4096, false),
        (0, 0, true),
    ];
    for (behind, log, lacking_is_newer) in cases {
        let what = format!("{behind} states, the newer one lacks files: {lacking_is_newer}");
        let sims = in_sync();
        let sides = |state: u64| {
            let mut sides = sims.each_ref().map(|sim| present(sim, sim.clone()));
            (sides[0].place, sides[1].place) = ("/disks/a".into(), "/disks/b".into());
            sides[0].state = state;
            sides[1].state = state - behind;
            (sides[0].log, sides[1].log) = (8192, 8192 - log);
            let lacking = &mut sides[usize::from(!lacking_is_newer)];
            lacking.lacks = Some(format!("{} has lost files", lacking.place));
            sides
        };
        let state = newest_superblock(&*sims[0]).unwrap().seq + 3;
        for turned in [false, true] {
            let [a, b] = sides(state);
            let (a, b) = if turned { (b, a) } else { (a, b) };
            let opened = open_sides(a, Some(b), false, fresh());
            match (behind + log, lacking_is_newer) {
                (1.., true) => {
                    let why = opened.err().map(|e| e.to_string()).unwrap_or_default();
                    let names = ["/disks/a has lost files", "/disks/b has an older state", "put back"];
                    assert!(names.iter().all(|name| why.contains(name)), "{what}: {why}");
                }
                _ => {
                    let filled = opened.unwrap().behind.map(|side| side.place);
                    let expected = if lacking_is_newer { "/disks/a" } else { "/disks/b" };
                    assert_eq!(filled.as_deref(), Some(expected), "{what}");
                    break;
                }
            }
        }
    }
}

/// An image that is short behind all that is in use is no side to be opened, and its partner is served.
#[test]
fn a_side_that_is_short_where_nothing_is_lacks_that() {
    let mirror_of = |sims: &[Arc<Sim>; 2]| {
        let [a, b] = together_labels();
        Mirror::together([(sims[0].clone(), a), (sims[1].clone(), b)], fresh())
    };
    let sims = in_sync();
    let mirror = mirror_of(&sims);
    let short = SIZE - (1 << 20);
    assert_eq!(side_that_is_short(&mirror, [SIZE, SIZE]).unwrap(), None);
    assert_eq!(side_that_is_short(&mirror, [short, short]).unwrap(), None);
    assert_eq!(side_that_is_short(&mirror, [SIZE, 2 * SIZE]).unwrap(), None);
    for side in 0..2 {
        let mut sizes = [SIZE; 2];
        sizes[side] = short;
        assert_eq!(side_that_is_short(&mirror, sizes).unwrap(), Some(LackingSide { side, at: short }));
    }
}

/// A side that was put back to an earlier moment of the same state has none of what was written since, wherever that is: what was
/// promised room before, or was written over.
#[test]
fn a_side_that_was_put_back_within_a_state_gets_what_records_name() {
    for old_one in 0..2 {
        let mut sims = in_sync();
        let (mirror, fs, _) = met(&sims);
        let (entry, handle) = fs.create(&ADMIN, NodeId::ROOT, b"promised", 0o640, RW).unwrap();
        let promised = entry.attr.node;
        fs.fallocate(&ADMIN, promised, handle, 0, 1 << 20, AllocateMode::Extend).unwrap();
        let over = put(&fs, NodeId::ROOT, "over", &bytes(5, 500_000));
        fs.commit().unwrap();
        fs.commit().unwrap();
        let old = sims[old_one].clone_image();
        let state = newest_superblock(&old).unwrap().seq;
        fs.write(promised, handle, 0, &bytes(6, 1 << 20), false).unwrap();
        overwrite(&fs, over, 40_960, &bytes(7, 200_000));
        put(&fs, NodeId::ROOT, "new", &bytes(8, 100_000));
        fs.fsync(promised, handle, SyncScope::All).unwrap();
        let cut = sims.each_ref().map(|sim| Arc::new(sim.clone_image()));
        drop((fs, mirror));
        sims = cut;
        sims[old_one] = Arc::new(old);
        assert_eq!(newest_superblock(&*sims[1 - old_one]).unwrap().seq, state);
        let [(a, one), (b, two)] = [0, 1].map(|n| (sims[n].clone(), together_labels()[n].clone()));
        let ends = log_ends(&Mirror::together([(a, one), (b, two)], 0)).unwrap();
        assert!(ends[old_one] < ends[1 - old_one], "{ends:?}");
        let (mirror, fs, _) = met(&sims);
        fs.commit().unwrap();
        assert_eq!(mirror.sides(), [0, 1]);
        assert_eq!(compare_sides(fs.volume(), &mirror).unwrap().differing, [] as [u64; 0]);
        assert_eq!(read_whole(&fs, find(&fs, "promised")), Ok(bytes(6, 1 << 20)));
    }
}

/// A superblock slot of one side that the other has right is right again after the next opening, and after a scrub, whether a state is
/// in it or none ever was.
#[test]
fn a_bad_slot_of_one_side_is_healed_by_a_mount_and_by_a_scrub() {
    for bad in 0..2 {
        let sims = in_sync();
        let slots = (0..RING_SLOTS).map(|slot| RINGS[1].0 + slot * SLOT_BYTES as u64);
        let spoil = |sim: &Sim| slots.clone().for_each(|at| sim.write_at(at, &[0xAB; SLOT_BYTES]).unwrap());
        spoil(&sims[bad]);
        let (mirror, fs, _) = met(&sims);
        let tables = |fs: &Fs| compare_sides(fs.volume(), &mirror).unwrap().tables;
        assert_eq!(tables(&fs), [] as [u64; 0], "a mount");
        spoil(&sims[bad]);
        let found = fs.volume().scrub_superblocks();
        assert!(found.len() == RING_SLOTS as usize && found.iter().all(|slot| slot.healed));
        assert_eq!(tables(&fs), [] as [u64; 0], "a scrub");
        assert_eq!(fs.volume().scrub_superblocks().len(), 0);
    }
}

/// Room that was promised before a side came is promised there as well, so that what is reserved in it and never written has a place
/// on both.
#[test]
fn what_was_promised_before_a_side_came_has_a_place_there() {
    let dir = std::env::temp_dir().join(format!("snapfs-sides-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir(&dir).unwrap();
    let paths = ["a", "b"].map(|name| dir.join(name));
    let [first, second] = paths.each_ref().map(|path| Arc::new(DirDevice::create(path, 4 << 30).unwrap()));
    make(first.clone());
    let mirror = Arc::new(Mirror::solo(first, fresh()));
    let fs = mount(mirror.clone());
    fs.volume().set_mirrored(true).unwrap();
    put(&fs, NodeId::ROOT, "before", &bytes(1, 300_000));
    fs.commit().unwrap();
    let store = fs.volume().shared.store();
    store.secure(&mut store.alloc(), Room::default().and(40 << 20)).unwrap();
    let new = NewSide { device: second, path: Vec::new(), partner_path: Vec::new(), limit: LIMIT };
    mirror.join(new, &RINGS).unwrap();
    fs.volume().fill(&mirror, &FillFrom::Nothing, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(mirror.lacks_on(1, fs.volume().shared.store().alloc().not_unbacked()).unwrap(), []);
    reserve(&fs, 20 << 20);
    fs.commit().unwrap();
    fs.close().unwrap();
    let allocated: Vec<_> = fs.volume().committed().unwrap().allocated.iter().collect();
    drop((fs, mirror));
    let opened = || {
        let sides = paths.each_ref().map(|path| {
            let device: Arc<dyn Device> =
                Arc::new(DirDevice::open(path, 4 << 30, Access::ReadWrite).unwrap());
            let label = crate::device::mirror::read_label(&*device).unwrap().unwrap();
            assert_eq!(label.standing, Standing::Together);
            (device, label)
        });
        assert_eq!(sides[0].0.lacks(&allocated), []);
        (sides[1].0.clone(), Arc::new(Mirror::together(sides, 0)))
    };
    let (second, mirror) = opened();
    assert_eq!((second.lacks(&allocated), side_that_lacks(&mirror).unwrap()), (Vec::new(), None));
    drop((second, mirror));
    let at = allocated.iter().find(|range| range.0 >= 1 << 30).unwrap().0;
    let file = std::fs::File::options().write(true).open(paths[1].join("seg/00000001")).unwrap();
    file.set_len(at - (1 << 30)).unwrap();
    assert_eq!(side_that_lacks(&opened().1).unwrap(), Some(LackingSide { side: 1, at }));
    std::fs::remove_dir_all(&dir).unwrap();
}

/// Does something once, when space has been promised, and before anybody knows of that.
#[derive(Default)]
struct Promised(Mutex<Option<Deed>>);

type Deed = Box<dyn FnOnce(u64, u64) + Send>;

impl Hooks for Promised {
    fn after_back(&self, at: u64, len: u64) {
        let due = self.0.lock().take();
        due.into_iter().for_each(|deed| deed(at, len));
    }
}

/// Between the moment in which both hosts have promised space and the one in which that is known, the range is among what nobody
/// has room promised for.
#[test]
fn what_was_just_promised_is_not_taken_from_a_side_that_is_being_filled() {
    let (first, second) = (new_store(SIZE), Arc::new(Sim::new(SIZE, 2)));
    let mirror = Arc::new(Mirror::solo(first, fresh()));
    let device = Arc::new(Hooked::over_shared(mirror.clone(), Promised::default()));
    let fs = mount(device.clone());
    let new = NewSide { device: second.clone(), path: Vec::new(), partner_path: Vec::new(), limit: LIMIT };
    mirror.join(new, &RINGS).unwrap();
    let (told, promised) = std::sync::mpsc::channel();
    let volume = fs.volume().clone();
    *device.hooks.0.lock() = Some(Box::new(move |at, len| {
        let (over, is_over) = std::sync::mpsc::channel::<()>();
        let discarding = std::thread::spawn(move || {
            volume.discard_unused(&mirror, &mut || false).unwrap();
            drop(over);
        });
        // Much longer than it takes, if it does not wait for whoever promises.
        let _waits = is_over.recv_timeout(Duration::from_millis(300));
        told.send((at, len, discarding)).unwrap();
    }));
    let store = fs.volume().shared.store();
    let free = store.alloc().free_bytes();
    store.secure(&mut store.alloc(), Room::default().and(free + (1 << 20))).unwrap();
    let (at, len, discarding) = promised.recv().unwrap();
    discarding.join().unwrap();
    second.set_space_limit(second.backed_bytes());
    for (at, len) in store.alloc().not_unbacked_of(at, len) {
        second.back(at, len).expect("the promise stands");
    }
}

fn reserve(fs: &Fs, len: u64) {
    let (entry, handle) = fs.create(&ADMIN, NodeId::ROOT, b"reserved", 0o640, RW).unwrap();
    fs.fallocate(&ADMIN, entry.attr.node, handle, 0, len, AllocateMode::Extend).unwrap();
}

/// A side that has no place for what is reserved and was never written has lost no files, and gets one.
#[test]
fn what_was_never_written_is_no_loss() {
    let sims = in_sync();
    let (mirror, fs, _) = met(&sims);
    reserve(&fs, 1 << 20);
    fs.commit().unwrap();
    fs.close().unwrap();
    let state = fs.volume().committed().unwrap();
    let never: Vec<_> = unwritten(&state).unwrap().iter().collect();
    let root = state.superblock.meta_root.ranges().next().unwrap();
    let epoch = state.superblock.epoch;
    drop((state, mirror));
    assert_eq!(never.iter().map(|range| range.1).sum::<u64>(), 1 << 20);
    let lacking = |ranges: &[(u64, u64)]| {
        Arc::new(Hooked::over_shared(sims[1].clone(), Lacks(Mutex::new(ranges.to_vec()))))
    };
    let side = |second: &Arc<Hooked<Lacks>>| {
        let [a, b] = together_labels();
        side_that_lacks(&Arc::new(Mirror::together([(sims[0].clone(), a), (second.clone(), b)], 0))).unwrap()
    };
    let as_far = |second: &Arc<Hooked<Lacks>>| {
        let from = FillFrom::Stale(StaleSide::read(second.clone(), epoch).unwrap());
        fs.volume().as_far_as_there(from, &**second, &mut || false).unwrap()
    };
    let second = lacking(&never);
    assert!(matches!(as_far(&second), FillFrom::Stale(_)));
    assert_eq!(side(&second), None);
    assert_eq!(*second.hooks.0.lock(), [], "it has a place from now on");
    let second = lacking(&[&never[..], &[root]].concat());
    assert_eq!(side(&second), Some(LackingSide { side: 1, at: root.0 }));
    assert!(matches!(as_far(&second), FillFrom::Nothing));
}

/// Has no place for some ranges until it has promised space for them.
struct Lacks(Mutex<Vec<(u64, u64)>>);

impl Hooks for Lacks {
    fn after_back(&self, at: u64, len: u64) {
        self.0.lock().retain(|range| *range != (at, len));
    }
    fn lacks(&self, ranges: &[(u64, u64)]) -> Option<Vec<(u64, u64)>> {
        let within =
            |lost: &&(u64, u64)| ranges.iter().any(|(at, len)| *at <= lost.0 && lost.0 + lost.1 <= at + len);
        Some(self.0.lock().iter().filter(within).copied().collect())
    }
}

/// What a side that is taken for lost had in files that are gone counts for nothing, whatever is in their place.
#[test]
fn an_error_that_says_that_files_are_gone_is_noted_by_the_partner() {
    for (op_gone, until) in [(true, 0), (false, 5)] {
        let sims = in_sync();
        let [a, b] = together_labels();
        let second = Arc::new(Hooked::over_shared(sims[1].clone(), Gone(op_gone)));
        let mirror = Mirror::together([(sims[0].clone(), a), (second, b)], fresh());
        mirror.reached(5, 1_000);
        mirror.write_at(16 << 20, &[1; 4096]).unwrap();
        mirror.flush().unwrap();
        let ours = crate::device::mirror::read_label(&*sims[0]).unwrap().unwrap();
        assert_eq!((ours.standing, ours.parted_from, ours.parted_at), (Standing::Alone, 99, until));
    }
}

/// Takes no flush, because its file is gone or for another reason.
struct Gone(bool);

impl Hooks for Gone {
    fn before_flush(&self) -> Result<(), DeviceError> {
        let kind = if self.0 { std::io::ErrorKind::NotFound } else { std::io::ErrorKind::Other };
        Err(DeviceError::refused(kind, "it takes no flush".into()))
    }
}
