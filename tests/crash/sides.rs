//! A store on two disks: the power is cut on either or both, a disk fails at its n-th call, and each disk alone must be
//! the whole store.
//!
//! What was not flushed may be on one disk and not on the other, and a call that was on its way may have reached one of
//! them. Nothing that fails on one disk may be seen by who uses the store.

use std::ops::{ControlFlow, RangeInclusive};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use parking_lot::Mutex;
use snapfs::device::mirror::{
    MirrorError, MirrorOpening, NewSide, Present, open_sides, read_label, write_label,
};
use snapfs::device::{CrashPolicy, Device, DeviceError, Mirror, Op, Persistence, Sim};
use snapfs::format::mirror::{Label, Standing};
use snapfs::format::scrub::ScrubState;
use snapfs::scrub::Scrub;
use snapfs::volume::{FillFrom, Filled, RINGS, newest_and_before};

use crate::cuts::{Recording, Tried, audit, go_on};
use crate::lines::Model;
use crate::workloads::Workload;
use crate::world::{Excuse, Limits, SIZE, World, open, template};

/// No call of a simulated disk takes that long.
const LIMIT_MS: u32 = 600_000;

/// What is left of two disks.
pub type Disks = [Option<Arc<Sim>>; 2];

/// The labels of two sides that are together.
pub fn labels() -> [Label; 2] {
    let label = |side| Label {
        pair: [5; 16],
        number: 1,
        side,
        partner: 3 - side,
        standing: Standing::Together,
        current: 99,
        parted_from: 0,
        parted_at: 0,
        parted_secs: 0,
        earlier: Vec::new(),
        limit_ms: LIMIT_MS,
        opened: false,
        home: None,
        wide: 0,
        path: Vec::new(),
    };
    [label(1), label(2)]
}

fn labelled(sim: Sim) -> [Sim; 2] {
    labels().map(|label| {
        let side = sim.clone_image();
        write_label(&side, &label).expect("a sound disk takes a label");
        side
    })
}

/// A seed that no other opening has.
pub fn fresh() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// What there is of a mirror, as a mount finds it. A disk without a store is none.
pub fn assemble(sides: Disks) -> Result<MirrorOpening, String> {
    let present = |sim: Option<Arc<Sim>>| {
        let sim = sim?;
        let newest = newest_and_before(&*sim);
        let (epochs, state) =
            newest.map_or(((0, 0), 0), |(newest, before)| ((newest.epoch.0, before.0), newest.seq));
        Some(Present::read(sim, epochs, state))
    };
    let [a, b] = sides.map(present).map(|side| side.transpose());
    let told = |e: MirrorError| e.to_string();
    let (a, b) = (a.map_err(told)?, b.map_err(told)?);
    let (first, second) = match (a, b) {
        (Some(a), b) => (a, b),
        (None, Some(b)) => (b, None),
        (None, None) => return Err("no disk is left".into()),
    };
    open_sides(first, second, false, fresh()).map_err(told)
}

impl Recording {
    /// Judges what is left of a mirror.
    pub fn judge_sides(
        &self,
        sides: [Option<Sim>; 2],
        allowed: RangeInclusive<usize>,
    ) -> Result<(Model, Disks), String> {
        let sides = sides.map(|side| side.map(Arc::new));
        let opening = assemble(sides.clone())?;
        let fs = open(Arc::new(opening.mirror), &Limits::in_steps())?;
        crate::past::no_orphans(&fs)?;
        audit(&fs)?;
        let found = self.find(&fs, allowed)?.clone();
        // From here on it is acknowledged.
        fs.commit().map_err(|e| format!("the first commit: {e:?}"))?;
        Ok((found, sides))
    }
}

/// Cuts the power of both disks before each of the calls in `from..to` of a workload: then with both, and with either
/// alone; and of each that survived a recovery with both, that it alone is the whole store.
pub fn try_cuts(recording: &Recording, from: u64, to: u64) -> Result<Tried, String> {
    let mut tried = Tried::default();
    let [a, b] = labels().map(|label| {
        let side = recording.base.clone_image();
        write_label(&side, &label).expect("a sound disk takes a label");
        recording.tape[..from as usize].iter().for_each(|call| call.play(&side));
        side
    });
    for cut in from..to {
        tried.cuts += 1;
        let next = recording.tape.get(cut as usize);
        let seed = recording.seed.wrapping_mul(0x9E37_79B9).wrapping_add(cut);
        // The next call may have reached one of them.
        let ahead = next.filter(|_| cut % 3 > 0).map(|call| {
            let ahead = if cut % 3 == 1 { &a } else { &b }.clone_image();
            call.play(&ahead);
            ahead
        });
        let (first, second) = match (&ahead, cut % 3) {
            (Some(ahead), 1) => (ahead, &b),
            (Some(ahead), _) => (&a, ahead),
            (None, _) => (&a, &b),
        };
        let policies = [
            (CrashPolicy::Random(seed), CrashPolicy::Random(seed ^ 0x5555)),
            (CrashPolicy::DropAll, CrashPolicy::Shuffled(seed)),
            (CrashPolicy::Shuffled(seed), CrashPolicy::DropAll),
        ];
        let (one, other) = policies[(cut / 3 % 3) as usize];
        let disks = [first.crash(one), second.crash(other)];
        let here = format!("{}: power cut before call {cut}, {one:?} and {other:?}", recording.name);
        let mut allowed = recording.allowed(cut, one);
        // What reached one disk may show.
        allowed = *allowed.start()..=*recording.allowed(cut + 1, one).end().max(allowed.end());
        let copy = |n: usize| Some(disks[n].clone_image());
        for alone in [[copy(0), None], [None, copy(1)]] {
            let which = if alone[0].is_some() { "first" } else { "second" };
            recording
                .judge_sides(alone, allowed.clone())
                .map_err(|why| format!("{here}, the {which} alone: {why}"))?;
            tried.disks += 1;
        }
        let (found, sides) = recording
            .judge_sides([copy(0), copy(1)], allowed)
            .map_err(|why| format!("{here}, both: {why}"))?;
        tried.disks += 1;
        for (n, side) in sides.into_iter().enumerate() {
            let Some(side) = side else { continue };
            let alone = side.crash(CrashPolicy::DropAll);
            show(recording, alone, &found)
                .map_err(|why| format!("{here}, side {n} alone after a recovery of both: {why}"))?;
            tried.disks += 1;
        }
        if let Some(call) = next {
            call.play(&a);
            call.play(&b);
        }
    }
    Ok(tried)
}

/// After power cuts one disk takes no n-th and no later write: the store is opened all the same, and what is seen then
/// stays on the other alone. Returns how often that was tried.
pub fn unwritable(recording: &Recording, every: u64) -> Result<u64, String> {
    let mut tried = 0;
    let [a, b] = labels().map(|label| {
        let side = recording.base.clone_image();
        write_label(&side, &label).expect("a sound disk takes a label");
        side
    });
    for (cut, call) in recording.tape.iter().enumerate().map(|(cut, call)| (cut as u64, call)) {
        let seed = recording.seed.wrapping_mul(0x9E37_79B9).wrapping_add(cut);
        for victim in (0..2).filter(|_| cut % every == 0) {
            for nth in 1.. {
                let one = CrashPolicy::Random(seed);
                let disks = [a.crash(one), b.crash(CrashPolicy::Random(seed ^ 0x5555))];
                disks[victim].fail(Op::Write, nth, Persistence::Forever);
                let here = format!("{}: call {cut}, disk {victim}, write {nth}", recording.name);
                let allowed = recording.allowed(cut, one);
                let (found, sides) = recording
                    .judge_sides(disks.map(Some), allowed)
                    .map_err(|why| format!("{here}: {why}"))?;
                let has_failed = sides[victim].as_ref().is_some_and(|side| side.faults_struck() > 0);
                if !has_failed {
                    break;
                }
                tried += 1;
                let survivor = sides[1 - victim].as_ref().map(|side| side.crash(CrashPolicy::DropAll));
                let survivor = survivor.ok_or("no survivor")?;
                show(recording, survivor, &found).map_err(|why| format!("{here}, the survivor: {why}"))?;
            }
        }
        call.play(&a);
        call.play(&b);
    }
    Ok(tried)
}

/// A disk alone must show exactly this.
pub fn show(recording: &Recording, disk: Sim, model: &Model) -> Result<(), String> {
    let opening = assemble([Some(Arc::new(disk)), None])?;
    let fs = open(Arc::new(opening.mirror), &Limits::in_steps())?;
    audit(&fs)?;
    let seen = crate::observe::observe(&*fs, Some(&fs))?;
    crate::observe::compare(&seen, model, &recording.numbers)?;
    go_on(&fs)
}

/// Which disk, which call, and how it fails.
#[derive(Clone, Copy, Debug)]
pub struct SideFault {
    side: usize,
    op: Option<Op>,
    persistence: Persistence,
}

/// All of them; without a call the power of one disk is cut.
pub fn side_faults() -> Vec<SideFault> {
    let mut all = Vec::new();
    for side in 0..2 {
        all.push(SideFault { side, op: None, persistence: Persistence::Forever });
        for op in [Op::Read, Op::Write, Op::Flush, Op::Back] {
            for persistence in [Persistence::Once, Persistence::Forever] {
                all.push(SideFault { side, op: Some(op), persistence });
            }
        }
    }
    all
}

/// Runs the workload with the failure at its first, second, third... call on one side.
pub fn sweep(workload: &Workload, seed: u64, calls: u64, fault: SideFault, most: u64) -> Result<u64, String> {
    let mut runs = 0;
    let mut nth = 1;
    for _ in 0..most {
        let what = format!("{} with {fault:?} at call {nth}", workload.name);
        if !run(workload, seed, calls, fault, nth).map_err(|why| format!("{what}: {why}"))? {
            break;
        }
        runs += 1;
        // The first calls one by one, then farther apart.
        nth += 1 + nth / 12;
    }
    Ok(runs)
}

fn run(workload: &Workload, seed: u64, calls: u64, fault: SideFault, nth: u64) -> Result<bool, String> {
    let sims = labelled(template()).map(Arc::new);
    let victim = sims[fault.side].clone();
    let counter = sims[1 - fault.side].clone();
    let opening = assemble(sims.clone().map(Some))?;
    let limits = Limits { cache_bytes: 1, ..Limits::default() };
    let before = counter.changes();
    let mut world =
        World::new(Arc::new(opening.mirror), Box::new(move || counter.changes() - before), limits);
    world.excuse = Excuse::Nothing;
    match fault.op {
        Some(op) => victim.fail(op, nth, fault.persistence),
        None => victim.set_crash_at(victim.changes() + nth),
    }
    (workload.run)(&mut world, &mut Rng::with_seed(seed), calls);
    let met = victim.faults_struck() > 0 || victim.is_crashed();
    let (history, numbers) = world.vanish();
    if !met {
        return Ok(false);
    }
    let recording =
        Recording { name: workload.name.into(), seed, base: template(), tape: Vec::new(), history, numbers };
    let oldest = recording.history.iter().rposition(|m| m.acknowledged).unwrap_or(0);
    let allowed = oldest..=recording.history.len() - 1;
    let after = |policy| sims.clone().map(|sim| Some(sim.crash(policy)));
    let [a, b] = after(CrashPolicy::DropAll);
    let survivor = if fault.side == 0 { [None, b] } else { [a, None] };
    recording.judge_sides(survivor, allowed.clone()).map_err(|why| format!("the survivor: {why}"))?;
    for policy in [CrashPolicy::DropAll, CrashPolicy::Random(seed.wrapping_add(nth))] {
        let disks = after(policy);
        recording.judge_sides(disks, allowed.clone()).map_err(|why| format!("{policy:?}, both: {why}"))?;
    }
    Ok(true)
}

/// Has the superblock say whether a store is mirrored.
fn set_mirrored(fs: &snapfs::fs::Fs, mirrored: bool) -> Result<(), String> {
    fs.volume().set_mirrored(mirrored).map_err(|e| e.to_string())?;
    fs.commit().map_err(|e| format!("{e:?}"))
}

/// Takes in a new disk: the label of the one that serves is there before its superblock says that there is one.
fn take_in(fs: &snapfs::fs::Fs, mirror: &Mirror, device: Arc<dyn Device>) -> Result<(), String> {
    let limit = Duration::from_millis(u64::from(LIMIT_MS));
    let new = NewSide { device, path: b"two".to_vec(), partner_path: b"one".to_vec(), limit };
    let labelled = || set_mirrored(fs, true).map_err(MirrorError::Refused);
    mirror.join_held(new, &RINGS, Arc::new(()), &labelled).map_err(|e| e.to_string())
}

/// Attaches a second disk to a store.
pub fn attach(fs: &snapfs::fs::Fs, mirror: &Mirror, disk: Arc<dyn Device>) -> Result<Filled, String> {
    take_in(fs, mirror, disk)?;
    let filled = fs.volume().fill(mirror, &FillFrom::Nothing, &mut |_| ControlFlow::Continue(()));
    filled.map_err(|e| e.to_string())
}

/// Fills a disk that was there before.
fn bring_back(
    fs: &snapfs::fs::Fs,
    mirror: &Mirror,
    disk: &Arc<dyn Device>,
    go: &mut dyn FnMut(Filled) -> ControlFlow<()>,
) -> Result<Filled, String> {
    let told = |e: snapfs::volume::VolumeError| e.to_string();
    let ours = mirror.label().ok_or("no label")?;
    let theirs = read_label(&**disk).map_err(|e| e.to_string())?.ok_or("no label there")?;
    let from = FillFrom::of_side(disk.clone(), &ours, &theirs, mirror.reached_epoch());
    fs.volume().note_rest(&from, &ours, &**disk).map_err(told)?;
    let limit = Duration::from_millis(u64::from(LIMIT_MS));
    let new = NewSide { device: disk.clone(), path: Vec::new(), partner_path: Vec::new(), limit };
    mirror.join(new, &RINGS).map_err(|e| e.to_string())?;
    fs.volume().fill(mirror, &from, go).map_err(told)
}

/// Bytes of superblocks that a disk has.
fn ring_bytes(sim: &Sim) -> u64 {
    let slots = RINGS.into_iter().flat_map(|(at, len)| (at..at + len).step_by(4096));
    4096 * slots.filter(|at| sim.peek(*at, 4096).iter().any(|byte| *byte != 0)).count() as u64
}

fn disk(sim: &Arc<Sim>) -> Arc<dyn Device> {
    sim.clone()
}

/// Two disks whose power is cut at one moment.
struct Strip {
    sims: [Arc<Sim>; 2],
    /// Which of them this is.
    n: usize,
    /// Changing calls of both that are still made.
    left: Arc<AtomicU64>,
}

impl Strip {
    fn change(&self) -> &Sim {
        let one_less = |left: u64| left.checked_sub(1);
        if self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_err() {
            self.sims.iter().for_each(|sim| sim.set_crash_at(1));
        }
        &self.sims[self.n]
    }
}

impl Device for Strip {
    fn size(&self) -> u64 {
        self.sims[self.n].size()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), DeviceError> {
        self.sims[self.n].read_at(offset, buf)
    }
    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<(), DeviceError> {
        self.change().write_at(offset, buf)
    }
    fn flush(&self) -> Result<(), DeviceError> {
        self.change().flush()
    }
    fn back(&self, offset: u64, len: u64) -> Result<(), DeviceError> {
        self.change().back(offset, len)
    }
    fn discard(&self, offset: u64, len: u64) {
        self.change().discard(offset, len);
    }
    fn available(&self) -> u64 {
        self.sims[self.n].available()
    }
    fn describe(&self) -> String {
        "a disk".into()
    }
}

/// What happens to the disks of a life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// Nothing.
    None,
    /// The power of one is cut.
    Power(usize),
    /// The power of both is cut at one moment.
    Blackout,
    /// A call of one fails.
    Call(usize, Op),
}

/// How a filling is cut off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// It is ended, as when the store is closed.
    Ended,
    /// The power is cut, or the program killed.
    Power,
    /// The disk is taken away.
    Away,
}

/// Fills a disk that is new, or was split off and changed, and cuts that off when half is done; changes go on with one disk,
/// and the filling as well. It copies what was not copied and what has changed.
pub fn cut_filling(cut: Cut, was_there: bool, seed: u64) -> Result<(), String> {
    let why = |e: &dyn std::fmt::Debug| format!("{e:?}");
    let sims = [Arc::new(template()), Arc::new(empty())];
    let mirror = Arc::new(Mirror::solo(sims[0].clone(), fresh()));
    let counter = sims[0].clone();
    let mut world = World::new(mirror.clone(), Box::new(move || counter.changes()), Limits::in_steps());
    world.put("before", &vec![1; 600_000]);
    world.commit();
    if was_there {
        attach(&world.fs(), &mirror, sims[1].clone())?;
        world.fs().volume().split(&mirror, [3; 16]).map_err(|e| why(&e))?;
    }
    let mut rng = Rng::with_seed(seed);
    for n in 0..40 {
        let content: Vec<u8> = (0..180_000).map(|_| rng.u8(..)).collect();
        world.put(&format!("file{n}"), &content);
    }
    world.commit();
    let fs = world.fs();
    let policies = [CrashPolicy::Random(seed), CrashPolicy::DropAll];
    let (mut left, mut at_cut, mut whole) = (None, Filled::default(), 0);
    let mut go = |filled: Filled| {
        whole = filled.total;
        if filled.done * 2 < filled.total || left.is_some() {
            return ControlFlow::Continue(());
        }
        at_cut = filled;
        match cut {
            Cut::Ended => return ControlFlow::Break(()),
            Cut::Away => sims[1].set_crash_at(sims[1].changes()),
            Cut::Power => {
                left = Some([sims[0].crash(policies[0]), sims[1].crash(policies[1])]);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    };
    let filled = if was_there {
        bring_back(&fs, &mirror, &disk(&sims[1]), &mut go)
    } else {
        take_in(&fs, &mirror, sims[1].clone())?;
        fs.volume().fill(&mirror, &FillFrom::Nothing, &mut go).map_err(|e| why(&e))
    };
    if filled.is_ok() {
        return Err("it was not cut off".into());
    }
    // It goes on with one disk.
    drop(fs);
    drop(world);
    drop(mirror);
    let [a, b] =
        left.unwrap_or_else(|| sims.clone().map(|sim| sim.crash(CrashPolicy::KeepAll))).map(Arc::new);
    if assemble([None, Some(b.clone())]).is_ok() {
        return Err("half a side is served".into());
    }
    let opening = assemble([Some(a.clone()), Some(b.clone())])?;
    let mirror = Arc::new(opening.mirror);
    if opening.behind.is_none() {
        return Err("the side is not known to be behind".into());
    }
    let fs = open(mirror.clone(), &Limits::default())?;
    let done = (|| {
        use snapfs::ops::{NodeId, OpenFlags, Operations};
        let (root, write) = (NodeId::ROOT, OpenFlags::READ_WRITE);
        let (entry, handle) = fs.create(&crate::observe::ADMIN, root, b"meanwhile", 0o600, write)?;
        fs.write(entry.attr.node, handle, 0, &[9; 150_000], false)?;
        fs.release(entry.attr.node, handle);
        fs.unlink(&crate::observe::ADMIN, root, b"file0")?;
        fs.commit()?;
        fs.commit()
    })();
    done.map_err(|e| why(&e))?;
    let filled = bring_back(&fs, &mirror, &disk(&b), &mut |_| ControlFlow::Continue(()))?;
    let copied = at_cut.copied + filled.copied;
    // Rings are written twice, and a part of what is between two notes; and what was changed meanwhile, with its metadata.
    let tables = RINGS.iter().map(|(_, len)| len).sum::<u64>();
    let most = whole + whole / 16 + (1 << 20) + tables + 600_000;
    let rest = whole - at_cut.done;
    if copied > most || filled.copied > rest + (most - whole) {
        return Err(format!(
            "{copied} bytes of {whole} were copied, {} after {}",
            filled.copied, at_cut.done
        ));
    }
    fs.close().map_err(|e| why(&e))?;
    drop(mirror);
    // Either has the same now, and what was there before.
    let mut seen = Vec::new();
    for alone in [[Some(a.clone()), None], [None, Some(b.clone())]] {
        let disks = alone.map(|sim| sim.map(|sim| Arc::new(sim.crash(CrashPolicy::DropAll))));
        let fs = open(Arc::new(assemble(disks)?.mirror), &Limits::default())?;
        audit(&fs)?;
        let live = fs.volume().live(snapfs::format::LineId::MAIN).map_err(|e| why(&e))?;
        seen.push(fs.sums_of(&live, &mut |_, _| {}).map_err(|e| why(&e))?);
    }
    if seen[0] != seen[1] { Err("the sides do not show the same".into()) } else { Ok(()) }
}

/// A store with some files, on one disk, which may get another.
fn lone() -> (Arc<Sim>, Arc<Mirror>, World) {
    let sim = Arc::new(template());
    let mirror = Arc::new(Mirror::solo(sim.clone(), fresh()));
    let counter = sim.clone();
    let mut world = World::new(mirror.clone(), Box::new(move || counter.changes()), Limits::in_steps());
    (0..12).for_each(|n| world.put(&format!("file{n}"), &vec![n; 150_000]));
    world.commit();
    (sim, mirror, world)
}

/// The n-th call of the only disk fails while another is filled from it. A block that cannot be read at once is read again; after
/// any other failure the new disk takes part no more. Returns how many failures were met.
pub fn attach_with_failures(op: Op) -> Result<u64, String> {
    for nth in 1.. {
        let (sim, mirror, mut world) = lone();
        world.excuse = Excuse::Faults;
        let other = Arc::new(empty());
        sim.fail(op, nth, Persistence::Once);
        let fs = world.fs();
        let done = attach(&fs, &mirror, other.clone());
        if sim.faults_struck() == 0 {
            return Ok(nth - 1);
        }
        let here = |why: &str| format!("{op:?} {nth}: {why}: {:?}, {:?}", done, mirror.states()[1]);
        if done.is_ok() {
            if mirror.sides() != [0, 1] {
                return Err(here("the sides are not together"));
            }
            continue;
        }
        while mirror.states()[1].as_ref().is_some_and(|side| side.pending_calls > 0) {
            std::thread::yield_now();
        }
        if mirror.states()[1].as_ref().is_some_and(|side| side.state != "lost") || !mirror.forget_lost() {
            return Err(here("the new disk still takes part"));
        }
        let before = other.changes();
        world.put("later", &[7; 50_000]);
        world.commit();
        if other.changes() != before {
            return Err(here("the new disk is still written to"));
        }
    }
    Ok(0)
}

/// What is deleted while a disk is filled is not copied.
pub fn freed_while_filled() -> Result<(), String> {
    let (sim, mirror, mut world) = lone();
    let big: Vec<u8> = (0..4_000_000u32).map(|n| (n ^ (n >> 7)) as u8).collect();
    world.put("big", &big);
    world.commit();
    let fs = world.fs();
    let mut is_there = true;
    let other = Arc::new(empty());
    let told = |e: snapfs::volume::VolumeError| e.to_string();
    take_in(&fs, &mirror, other.clone())?;
    let filled = fs.volume().fill(&mirror, &FillFrom::Nothing, &mut |_| {
        if std::mem::take(&mut is_there) {
            world.remove_all("big");
            (0..4).for_each(|_| world.commit());
            fs.volume().trim();
        }
        ControlFlow::Continue(())
    });
    let filled = filled.map_err(told)?;
    if filled.copied + 3_900_000 > filled.total {
        return Err(format!("{filled:?} with 4 MB deleted before they were copied"));
    }
    drop((fs, world, mirror));
    for alone in [[Some(sim), None], [None, Some(other)]] {
        let disks = alone.map(|sim| sim.map(|sim| Arc::new(sim.crash(CrashPolicy::DropAll))));
        let fs = open(Arc::new(assemble(disks)?.mirror), &Limits::default())?;
        audit(&fs)?;
    }
    Ok(())
}

/// A disk of the size of [`template`] that holds nothing.
pub fn empty() -> Sim {
    Sim::new(SIZE, 77)
}

/// What a life of two disks came to.
pub struct Lived {
    /// The power of a disk was cut on the way.
    pub met: bool,
    /// Bytes that the second disk was filled with at first, and when it came back, without rings.
    pub filled: [u64; 2],
    /// Bytes that were written to both disks while they were apart.
    pub changed: u64,
}

/// A store gets a second disk, is changed, is split, both halves are changed, the second disk comes back, and is detached. The
/// trouble comes with the n-th changing call, of the disk or of both, from when the second comes; calls that fail are counted
/// by their kind.
pub fn live(trouble: Trouble, nth: u64, seed: u64) -> Result<Lived, String> {
    let sims = [Arc::new(template()), Arc::new(empty())];
    let calls = Arc::new(AtomicU64::new(u64::MAX));
    let devices =
        [0, 1].map(|n| Arc::new(Strip { sims: sims.clone(), n, left: calls.clone() }) as Arc<dyn Device>);
    let mirror = Arc::new(Mirror::solo(devices[0].clone(), fresh()));
    let counter = sims[0].clone();
    let mut world = World::new(mirror.clone(), Box::new(move || counter.changes()), Limits::in_steps());
    world.put("first", &vec![1; 300_000]);
    (0..10).for_each(|n| world.put(&format!("kept{n}"), &vec![n; 200_000]));
    world.snap("before");
    world.commit();
    world.excuse = Excuse::Faults;
    match trouble {
        Trouble::None => {}
        Trouble::Power(victim) => sims[victim].set_crash_at(sims[victim].changes() + nth),
        Trouble::Blackout => calls.store(nth - 1, Ordering::SeqCst),
        Trouble::Call(victim, op) => sims[victim].fail(op, nth, Persistence::Once),
    }
    let is_met = || sims.iter().any(|sim| sim.is_crashed() || sim.faults_struck() > 0);
    let (mut filled, mut changed) = ([0; 2], 0);
    let mut split_at = None;
    let mut half_goes_on = false;
    let steps: Result<(), String> = (|| {
        let fs = world.fs();
        filled[0] = attach(&fs, &mirror, devices[1].clone())?.copied;
        world.put("second", &vec![2; 200_000]);
        world.snap("together");
        world.remove_all("first");
        world.fsync_dir("");
        world.commit();
        if is_met() {
            return Ok(());
        }
        fs.volume().split(&mirror, [3; 16]).map_err(|e| e.to_string())?;
        split_at = Some(world.history.len() - 1);
        set_mirrored(&fs, false)?;
        let written = || sims.iter().map(|sim| sim.counts().bytes_written).sum::<u64>();
        let at_split = written();
        world.put("alone", &vec![3; 100_000]);
        world.commit();
        if is_met() {
            return Ok(());
        }
        half_goes_on = true;
        {
            let half = Present::read(devices[1].clone(), (0, 0), 0)
                .and_then(|half| open_sides(half, None, false, fresh()));
            let half = half.map_err(|e| e.to_string())?;
            let other = open(Arc::new(half.mirror), &Limits::default())?;
            let done = (|| {
                use snapfs::ops::{NodeId, OpenFlags, Operations};
                let (root, write) = (NodeId::ROOT, OpenFlags::READ_WRITE);
                let (entry, handle) = other.create(&crate::observe::ADMIN, root, b"there", 0o600, write)?;
                other.write(entry.attr.node, handle, 0, &[9; 150_000], false)?;
                other.release(entry.attr.node, handle);
                other.commit()
            })();
            done.map_err(|e| format!("on the half: {e:?}"))?;
            other.close().map_err(|e| format!("{e:?}"))?;
        }
        changed = written() - at_split;
        set_mirrored(&fs, true)?;
        split_at = None;
        filled[1] = bring_back(&fs, &mirror, &devices[1], &mut |_| ControlFlow::Continue(()))?.copied;
        world.put("again", &vec![4; 50_000]);
        world.commit();
        if is_met() {
            return Ok(());
        }
        let why = |e: MirrorError| e.to_string();
        let parted = mirror.part().map_err(why)?;
        let stale = parted.label.clone().detached();
        parted.call(move |device| write_label(device, &stale)).map_err(|e| e.to_string())?;
        set_mirrored(&fs, false)?;
        mirror.relabel(|_| None).map_err(why)?;
        world.put("one", &vec![5; 50_000]);
        world.commit();
        Ok(())
    })();
    let met = is_met();
    if let (Err(why), false) = (&steps, met) {
        return Err(why.clone());
    }
    let (history, numbers) = world.vanish();
    drop(mirror);
    let recording =
        Recording { name: "life".into(), seed, base: template(), tape: Vec::new(), history, numbers };
    let oldest = recording.history.iter().rposition(|m| m.acknowledged).unwrap_or(0);
    let allowed = oldest..=recording.history.len() - 1;
    let random = seed.wrapping_mul(0x9E37_79B9).wrapping_add(nth);
    // Each keeps what it likes of what was not flushed.
    let policies = [
        [CrashPolicy::DropAll, CrashPolicy::DropAll],
        [CrashPolicy::Random(random), CrashPolicy::Random(random ^ 0x5555)],
        [CrashPolicy::DropAll, CrashPolicy::Shuffled(random)],
        [CrashPolicy::Shuffled(random), CrashPolicy::DropAll],
    ];
    let (first_is_whole, second_is_whole) = match trouble {
        Trouble::Power(victim) | Trouble::Call(victim, _) => (victim == 1 || !met, victim == 0 || !met),
        Trouble::Blackout | Trouble::None => (true, true),
    };
    for policy in policies.into_iter().skip(nth as usize % 2).step_by(2) {
        let disks = [0, 1].map(|n| sims[n].crash(policy[n]));
        let copy = |n: usize| Some(disks[n].clone_image());
        let here = |what: &str, why: String| format!("{policy:?}, {what}: {why}");
        // The second disk alone is no store, one of its own, or has everything.
        let label = read_label(&disks[1]).map_err(|e| e.to_string())?;
        let standing = label.map(|label| label.standing);
        match (standing, split_at) {
            // It has a history of its own by now: that it can be used is what counts.
            (Some(Standing::Split), Some(_)) if half_goes_on => {
                let why = |why: String| here("the half that went on", why);
                let half = assemble([copy(1).map(Arc::new), None]).map_err(why)?;
                open(Arc::new(half.mirror), &Limits::default()).map_err(why)?;
            }
            (Some(Standing::Split), Some(at)) => {
                recording
                    .judge_sides([copy(1), None], at..=at)
                    .map_err(|why| here("the half that was split off", why))?;
            }
            (Some(Standing::Together | Standing::Alone), None) if second_is_whole => {
                recording
                    .judge_sides([None, copy(1)], allowed.clone())
                    .map_err(|why| here("the second", why))?;
            }
            (Some(Standing::Incomplete), _) if assemble([None, copy(1).map(Arc::new)]).is_ok() => {
                return Err(here("the second", "it was served before it was filled".into()));
            }
            _ => {}
        }
        if first_is_whole {
            recording.judge_sides([copy(0), None], allowed.clone()).map_err(|why| here("the first", why))?;
        }
        // When it was split both are stores of their own.
        let second = if split_at.is_some() { None } else { copy(1) };
        recording.judge_sides([copy(0), second], allowed.clone()).map_err(|why| here("both", why))?;
    }
    let rings = ring_bytes(&sims[0]);
    Ok(Lived { met, filled: filled.map(|bytes| bytes.saturating_sub(rings)), changed })
}

/// The second disk is put back to what it was so many mounts ago, or, with none, five commits ago. It must be known as
/// older and have everything after it was filled. Returns how many bytes that took, without rings and log.
pub fn older_copy(mounts: u64, seed: u64) -> Result<u64, String> {
    let mut sims = labelled(template()).map(Arc::new);
    let (mut lived, mut copy, mut recording) = (None, None, None);
    for mount in 0..=mounts {
        let device = Arc::new(assemble(sims.clone().map(Some))?.mirror);
        let counter = sims[0].clone();
        let changes: Box<dyn Fn() -> u64> = Box::new(move || counter.changes());
        let limits = Limits::default();
        let mut world = match lived.take() {
            None => World::new(device, changes, limits),
            Some(lived) => World::resume(device, changes, limits, lived)?,
        };
        if copy.is_none() {
            (0..10).for_each(|n| world.put(&format!("kept{n}"), &vec![n; 200_000]));
            world.commit();
            copy = Some(sims[1].clone_image());
        }
        for n in 0..5 {
            world.put(&format!("file{n}of{mount}"), &vec![n; 50_000]);
            world.commit();
        }
        let model = world.model.clone();
        let (history, numbers) = world.vanish();
        lived = Some((model, numbers.clone()));
        let (name, base, tape) = ("an older copy".into(), template(), Vec::new());
        recording = Some(Recording { name, seed, base, tape, history, numbers });
    }
    let (Some(copy), Some(recording)) = (copy, recording) else { return Err("there was no mount".into()) };
    sims[1] = Arc::new(copy);
    let opening = assemble(sims.clone().map(Some))?;
    if opening.behind.is_none() {
        return Err("an older copy was taken for an equal".into());
    }
    let mirror = Arc::new(opening.mirror);
    let fs = open(mirror.clone(), &Limits::default())?;
    let filled = bring_back(&fs, &mirror, &disk(&sims[1]), &mut |_| ControlFlow::Continue(()))?;
    drop(fs);
    drop(mirror);
    let last = recording.history.len() - 1;
    for n in 0..2 {
        let mut alone = [None, None];
        alone[n] = Some(sims[n].crash(CrashPolicy::DropAll));
        recording.judge_sides(alone, last..=last).map_err(|why| format!("side {n}: {why}"))?;
    }
    Ok(filled.copied)
}

/// A disk of which blocks are destroyed all the time.
struct Rotting {
    sim: Arc<Sim>,
    /// Writes, and what chooses.
    state: Mutex<(u64, Rng)>,
    has_ended: AtomicBool,
}

impl Rotting {
    /// After every 40th write one of 40 blocks, but marks and labels, which are of one side alone.
    fn rot(&self) {
        let (writes, rng) = &mut *self.state.lock();
        *writes += 1;
        if *writes % 40 != 0 || self.has_ended.load(Ordering::Relaxed) {
            return;
        }
        for _ in 0..SIZE / 4096 / 40 {
            let at = rng.u64(0..SIZE / 4096) * 4096;
            if !(256 << 10..512 << 10).contains(&at) && !(768 << 10..1 << 20).contains(&at) {
                self.sim.corrupt(at, 4096, rng.u64(..));
            }
        }
    }
}

impl Device for Rotting {
    fn size(&self) -> u64 {
        self.sim.size()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), DeviceError> {
        self.sim.read_at(offset, buf)
    }
    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<(), DeviceError> {
        self.rot();
        self.sim.write_at(offset, buf)
    }
    fn flush(&self) -> Result<(), DeviceError> {
        self.sim.flush()
    }
    fn back(&self, offset: u64, len: u64) -> Result<(), DeviceError> {
        self.sim.back(offset, len)
    }
    fn discard(&self, offset: u64, len: u64) {
        self.sim.discard(offset, len);
    }
    fn available(&self) -> u64 {
        self.sim.available()
    }
    fn describe(&self) -> String {
        "a disk that rots".into()
    }
}

/// Blocks of one disk are destroyed while a workload runs: it notices nothing, and a scrub heals them all.
pub fn damage(workload: &Workload, seed: u64, calls: u64, side: usize) -> Result<u64, String> {
    let sims = labelled(template()).map(Arc::new);
    let state = Mutex::new((0, Rng::with_seed(seed)));
    let rotting = Arc::new(Rotting { sim: sims[side].clone(), state, has_ended: AtomicBool::new(false) });
    let mut devices: [Arc<dyn Device>; 2] = sims.clone().map(|sim| sim as Arc<dyn Device>);
    devices[side] = rotting.clone();
    let [a, b] = devices;
    let [a_label, b_label] = labels();
    let mirror = Arc::new(Mirror::together([(a, a_label), (b, b_label)], fresh()));
    let counter = sims[0].clone();
    let limits = Limits { cache_bytes: 1, ..Limits::default() };
    let mut world = World::new(mirror.clone(), Box::new(move || counter.changes()), limits);
    (workload.run)(&mut world, &mut Rng::with_seed(seed), calls);
    // What is bad by now is to be found.
    rotting.has_ended.store(true, Ordering::Relaxed);
    let before = world.fs().volume().damage().healed;
    world.reopen();
    let fs = world.fs();
    let volume = fs.volume();
    let mut scrub = Scrub::start(volume, 0, 1);
    while scrub.record().state == ScrubState::Running {
        scrub.step(volume, 1 << 20).map_err(|e| e.to_string())?;
    }
    if let Some(finding) = scrub.findings().first() {
        return Err(format!("the scrub could not heal {}", finding.what));
    }
    let healed = before + volume.damage().healed;
    if volume.damage().bad > 0 {
        return Err(format!("{:?} after the scrub", volume.damage()));
    }
    let (history, numbers) = world.vanish();
    let recording =
        Recording { name: workload.name.into(), seed, base: template(), tape: Vec::new(), history, numbers };
    let last = recording.history.len() - 1;
    fs.commit().map_err(|e| format!("{e:?}"))?;
    drop(fs);
    drop(mirror);
    // Either alone has everything, the one that was damaged as well.
    for n in 0..2 {
        let mut alone = [None, None];
        alone[n] = Some(sims[n].crash(CrashPolicy::DropAll));
        recording
            .judge_sides(alone, last..=last)
            .map_err(|why| format!("side {n} after the scrub: {why}"))?;
    }
    Ok(healed)
}

/// The same for a file whose content goes home: blocks are destroyed while it is overwritten under snapshots, copied out and brought
/// home. Returns what was healed, copied out and brought home.
pub fn damage_of_what_moves(seed: u64, side: usize) -> Result<[u64; 3], String> {
    use snapfs::ops::{NodeId, OpenFlags, Operations, XattrMode};
    const BLOCKS: u64 = 512;
    let why = |e: &dyn std::fmt::Debug| format!("{e:?}");
    let sims = labelled(template()).map(Arc::new);
    let state = Mutex::new((0, Rng::with_seed(seed)));
    let rotting = Arc::new(Rotting { sim: sims[side].clone(), state, has_ended: AtomicBool::new(false) });
    let mut devices: [Arc<dyn Device>; 2] = sims.clone().map(|sim| sim as Arc<dyn Device>);
    devices[side] = rotting.clone();
    let [a, b] = devices;
    let [a_label, b_label] = labels();
    let mirror = Arc::new(Mirror::together([(a, a_label), (b, b_label)], fresh()));
    let fs = open(mirror.clone(), &Limits { cache_bytes: 1, ..Limits::default() })?;
    let admin = &crate::observe::ADMIN;
    let mut rng = Rng::with_seed(seed);
    let mut bytes: Vec<u8> = (0..BLOCKS * 4096).map(|i| (i / 4096) as u8 | 1).collect();
    let mut snapshots: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let read = |fs: &snapfs::fs::Fs, snapshot: Option<&[u8]>| -> snapfs::ops::Result<Vec<u8>> {
        let mut dir = NodeId::ROOT;
        for name in snapshot.map(|name| [&b".snapshots"[..], name]).into_iter().flatten() {
            dir = fs.lookup(admin, dir, name)?.attr.node;
        }
        let node = fs.lookup(admin, dir, b"image")?.attr.node;
        let handle = fs.open(admin, node, OpenFlags::READ_ONLY)?;
        let mut found = vec![0; (BLOCKS * 4096) as usize];
        fs.read(node, handle, 0, &mut found)?;
        fs.release(node, handle);
        Ok(found)
    };
    let prove = |fs: &snapfs::fs::Fs, bytes: &[u8], snapshots: &[(Vec<u8>, Vec<u8>)]| {
        for (name, expected) in snapshots {
            if read(fs, Some(name)).map_err(|e| why(&e))? != *expected {
                return Err(format!("snapshot {}: content is wrong", String::from_utf8_lossy(name)));
            }
        }
        if read(fs, None).map_err(|e| why(&e))? == bytes { Ok(()) } else { Err("content is wrong".into()) }
    };
    let [mut copied, mut moved] = [0; 2];
    let mut home = |fs: &snapfs::fs::Fs| -> snapfs::ops::Result<bool> {
        let step = fs.bring_content_home(128 << 10)?;
        (copied, moved) = (copied + step.copied, moved + step.moved);
        Ok(step.more)
    };
    let done: snapfs::ops::Result<Result<(), String>> = (|| {
        fs.setxattr(admin, NodeId::ROOT, b"user.snapfs.layout", b"cow", XattrMode::Set)?;
        let (entry, handle) = fs.create(admin, NodeId::ROOT, b"image", 0o600, OpenFlags::READ_WRITE)?;
        let node = entry.attr.node;
        for (n, part) in bytes.chunks(64 << 10).enumerate() {
            fs.write(node, handle, (n as u64) << 16, part, false)?;
        }
        fs.commit()?;
        for round in 0..24 {
            if round % 4 == 0 {
                let name = format!("s{round}").into_bytes();
                fs.create_snapshot(&name, snapfs::fs::Reason::User)?;
                snapshots.push((name, bytes.clone()));
            }
            for _ in 0..40 {
                let (at, byte) = ((rng.u64(0..BLOCKS) * 4096) as usize, rng.u8(..));
                bytes[at..at + 4096].fill(byte);
                fs.write(node, handle, at as u64, &bytes[at..at + 4096], false)?;
            }
            fs.commit()?;
            home(&fs)?;
            if let Err(why) = prove(&fs, &bytes, &snapshots) {
                return Ok(Err(format!("round {round}: {why}")));
            }
        }
        fs.release(node, handle);
        Ok(Ok(()))
    })();
    done.map_err(|e| format!("an error reached who uses it: {e:?}"))??;
    rotting.has_ended.store(true, Ordering::Relaxed);
    for _ in 0..1000 {
        if !home(&fs).map_err(|e| why(&e))? {
            break;
        }
    }
    let volume = fs.volume();
    let mut scrub = Scrub::start(volume, 0, 1);
    while scrub.record().state == ScrubState::Running {
        scrub.step(volume, 1 << 20).map_err(|e| e.to_string())?;
    }
    if let Some(finding) = scrub.findings().first() {
        return Err(format!("the scrub could not heal {}", finding.what));
    }
    let healed = volume.damage().healed;
    fs.commit().map_err(|e| why(&e))?;
    drop((fs, mirror));
    for n in 0..2 {
        let mut alone = [None, None];
        alone[n] = Some(Arc::new(sims[n].crash(CrashPolicy::DropAll)));
        let fs = open(Arc::new(assemble(alone)?.mirror), &Limits::default())?;
        audit(&fs)?;
        prove(&fs, &bytes, &snapshots).map_err(|why| format!("side {n} after the scrub: {why}"))?;
    }
    Ok([healed, copied, moved])
}
