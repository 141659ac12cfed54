//! Sides that are held, in the order in which they are lost and come back: two simulated disks behind two real locks.

use super::held_side::{HeldSide, LIMIT};
use super::hold::{lock, probe};
use super::mirror_order::MirrorOrder;
use super::mirroring::StoreSides;
use super::sides::{OpenedSides, hold_side};
use super::store_state;
use crate::check::{Depth, check};
use crate::clock::Clock;
use crate::ctl::Code;
use crate::device::hanging::Hanging;
use crate::device::lock::LockMode;
use crate::device::mirror::{NewSide, read_label, write_label};
use crate::device::patience::patiently;
use crate::device::{CrashPolicy, Device, Mirror, Op, Persistence, Sim};
use crate::fixtures::{ADMIN, Hooked, Hooks, RW, bytes, overwrite, put, read_whole, together_label};
use crate::format::mirror::{Label, PARTNER_PATH_MAX, Standing};
use crate::format::superblock::{RING_SLOTS, SLOT_BYTES};
use crate::format::{Key, LineId};
use crate::fs::{Fs, FsOptions};
use crate::limits::RESERVED_BYTES;
use crate::ops::{NodeId, Operations, SyncScope};
use crate::scrub::Scrub;
use crate::volume::{
    Access, FillFrom, OpenOptions, RINGS, Replay, Txn, Volume, VolumeError, newest_superblock,
};
use parking_lot::{Condvar, Mutex};
use serde_json::json;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const SIZE: u64 = 64 << 20;
/// Longer than a sound disk needs on a busy machine, and no longer than a test may wait.
const LIMIT_MS: u32 = 400;
/// Much longer than all limits together, and no longer than a test may wait before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// Two files that stand for two disks, which are removed at the end.
pub(super) struct Places(PathBuf);

impl Places {
    pub(super) fn new(name: &str) -> Places {
        let dir = std::env::temp_dir().join(format!("snapfs-sides-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        for name in ["one.img", "two.img"] {
            std::fs::File::create(dir.join(name)).and_then(|file| file.set_len(SIZE)).unwrap();
        }
        Places(dir.canonicalize().unwrap())
    }

    pub(super) fn at(&self, n: usize) -> PathBuf {
        self.0.join(["one.img", "two.img"][n])
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn open(device: Arc<dyn Device>) -> Arc<Fs> {
    let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 1 << 20 };
    let volume = Volume::open(device, options).unwrap();
    Fs::open(volume, FsOptions::default(), Clock::manual(1_000_000)).unwrap()
}

fn held(path: &Path, device: Arc<dyn Device>) -> HeldSide {
    let kind = probe(path).unwrap();
    let lock = lock(path, &kind, LockMode::Exclusive).unwrap();
    HeldSide::new((path.into(), path.into()), false, (device, lock), LIMIT)
}

/// The same as if the device were a directory, which has no size of its own.
fn held_directory(path: &Path, device: Arc<dyn Device>) -> HeldSide {
    let lock = lock(path, &probe(path).unwrap(), LockMode::Exclusive).unwrap();
    HeldSide::new((path.into(), path.into()), true, (device, lock), LIMIT)
}

fn is_free(path: &Path) -> bool {
    match lock(path, &probe(path).unwrap(), LockMode::Exclusive) {
        Ok(_) => true,
        Err(f) => {
            assert_eq!(f.code, Code::Busy);
            false
        }
    }
}

/// A disk with a store, and the same once more.
fn two_disks() -> [Sim; 2] {
    let first = Arc::new(Sim::new(SIZE, 1));
    Volume::create(first.clone(), SIZE, [9; 16], (0, 0)).unwrap();
    {
        let fs = open(first.clone());
        fs.volume().set_mirrored(true).unwrap();
        fs.close().unwrap();
    }
    [first.clone_image(), first.clone_image()]
}

/// Labels of two sides that are in sync, which are written.
fn labelled(places: &Places, sims: [&Sim; 2], limit_ms: u32) -> [Label; 2] {
    let labels = [(1, 1), (2, 0)].map(|(side, other)| {
        let path = places.at(other).into_os_string().into_encoded_bytes();
        Label { limit_ms, path, ..together_label(side) }
    });
    for (sim, label) in sims.into_iter().zip(&labels) {
        write_label(sim, label).unwrap();
    }
    labels
}

/// A store on two devices with these labels that are in sync.
fn opened(
    places: &Places,
    devices: [Arc<dyn Device>; 2],
    labels: [Label; 2],
) -> (Arc<Mirror>, Arc<Fs>, Arc<StoreSides>) {
    let [a, b] = devices;
    let [one, two] = labels;
    let mirror = Arc::new(Mirror::together([(a.clone(), one), (b.clone(), two)], 7));
    let fs = open(mirror.clone());
    let (home, other) = (held(&places.at(0), a), Some(held(&places.at(1), b)));
    let named = home.path.clone();
    let opened = OpenedSides { mirror: mirror.clone(), home, other, is_behind: false, named };
    let sides = StoreSides::new(&fs, opened);
    (mirror, fs, sides)
}

/// A store on two disks that are in sync.
fn in_sync(places: &Places) -> ([Arc<Sim>; 2], Arc<Fs>, Arc<StoreSides>) {
    in_sync_on(places, 600_000, |sim| sim)
}

/// The same on what is made of the second disk, with a limit.
fn in_sync_on(
    places: &Places,
    limit_ms: u32,
    second: impl FnOnce(Arc<Sim>) -> Arc<dyn Device>,
) -> ([Arc<Sim>; 2], Arc<Fs>, Arc<StoreSides>) {
    let sims = two_disks().map(Arc::new);
    let labels = labelled(places, [&sims[0], &sims[1]], limit_ms);
    let [a, b] = sims.clone();
    let (_, fs, sides) = opened(places, [a, second(b)], labels);
    (sims, fs, sides)
}

fn order(sides: &Arc<StoreSides>, order: &MirrorOrder) -> Result<serde_json::Value, crate::ctl::Failure> {
    sides.order(order, &mut |_| true)
}

/// Loses a side to a write that fails, and waits until its calls have returned.
fn lose(sims: &[Arc<Sim>; 2], fs: &Fs, sides: &StoreSides, n: usize) {
    sims[n].fail(Op::Write, 1, Persistence::Once);
    fs.volume().set_mirrored(true).unwrap();
    fs.commit().unwrap();
    let calls = || {
        let status = sides.status();
        let lost = status["sides"].as_array().unwrap().iter().find(|side| side["state"] == "lost").cloned();
        lost.expect("a side is lost")["pending_calls"].as_u64()
    };
    while calls() != Some(0) {
        std::thread::yield_now();
    }
}

#[test]
fn a_side_that_is_lost_is_let_go_of_and_never_the_one_that_serves() {
    for n in 0..2 {
        let places = Places::new(&format!("lost{n}"));
        let (sims, fs, sides) = in_sync(&places);
        assert!(!is_free(&places.at(0)) && !is_free(&places.at(1)));
        lose(&sims, &fs, &sides, n);
        // Who serves is not what may be attached, and stays locked whatever is asked for.
        let path = places.at(1 - n);
        let refused = order(&sides, &MirrorOrder::Attach { path, force: true, limit: None }).unwrap_err();
        assert!(refused.message.contains("the store itself"), "{refused}");
        assert!(!is_free(&places.at(1 - n)));
        let status = order(&sides, &MirrorOrder::Detach).unwrap();
        assert_eq!(status["mirrored"], false);
        assert!(is_free(&places.at(n)), "side {n} is let go of");
        assert!(!is_free(&places.at(1 - n)), "side {n} was lost, and the other is locked");
        assert_eq!(read_label(&*sims[1 - n]).unwrap(), None);
        fs.close().unwrap();
        sides.close(true);
        assert!(is_free(&places.at(1 - n)));
    }
}

/// Has writes wait for as long as they are to.
#[derive(Default)]
struct Hangs(Mutex<bool>, Condvar);

impl Hooks for Hangs {
    fn before_write(&self, _: usize) {
        let mut hangs = self.0.lock();
        while *hangs {
            self.1.wait(&mut hangs);
        }
    }
}

/// A write of its label that hangs may change a side that has left: so nobody has it before that has returned.
#[test]
fn a_side_that_left_stays_held_until_its_calls_have_returned() {
    let places = Places::new("late");
    let mut disk = None;
    let (_, fs, sides) = in_sync_on(&places, 300, |sim| {
        let hooked = Arc::new(Hooked::over_shared(sim, Hangs::default()));
        disk = Some(hooked.clone());
        hooked
    });
    let disk = disk.unwrap();
    *disk.hooks.0.lock() = true;
    let status = order(&sides, &MirrorOrder::Detach).unwrap();
    assert_eq!(status["mirrored"], false);
    assert!(!is_free(&places.at(1)));
    let attach = MirrorOrder::Attach { path: places.at(1), force: true, limit: None };
    let refused = order(&sides, &attach).unwrap_err();
    assert!(refused.code == Code::Busy && refused.message.contains("have not returned"), "{refused}");
    *disk.hooks.0.lock() = false;
    disk.hooks.1.notify_all();
    let device: Arc<dyn Device> = disk.clone();
    assert!(sides.mirror().have_returned(&device, std::time::Duration::from_secs(60)));
    order(&sides, &attach).unwrap();
    while sides.status()["syncing"] == true {
        std::thread::yield_now();
    }
    assert_eq!(sides.status()["in_sync"], true);
    fs.close().unwrap();
    sides.close(true);
    assert!(is_free(&places.at(1)));
}

/// The same when it could not be parted to the end, and another is to come in its place.
#[test]
fn a_side_that_left_stays_held_when_another_is_to_come() {
    let mut left = false;
    // Until it is the writing that comes when the side has left, and before it is let go of.
    for nth in 1..=8 {
        if left {
            break;
        }
        let places = Places::new(&format!("late-other{nth}"));
        let mut disk = None;
        let (sims, fs, sides) = in_sync_on(&places, 100, |sim| {
            let hooked = Arc::new(Hooked::over_shared(sim, Hangs::default()));
            disk = Some(hooked.clone());
            hooked
        });
        let disk = disk.unwrap();
        let device: Arc<dyn Device> = disk.clone();
        *disk.hooks.0.lock() = true;
        sims[0].fail(Op::Write, nth, Persistence::Once);
        let detached = order(&sides, &MirrorOrder::Detach);
        if detached.is_err() && sides.mirror().pending_calls_of(&device) > 0 {
            let with = Some(places.0.join("another"));
            let resync = MirrorOrder::Resync { with, keep: None, discard: false, dry_run: false };
            let refused = order(&sides, &resync).unwrap_err();
            let pending = sides.mirror().pending_calls_of(&device) > 0;
            assert!(!pending || !is_free(&places.at(1)), "{nth}: {refused}");
            left |= pending && refused.message.contains("another");
        }
        *disk.hooks.0.lock() = false;
        disk.hooks.1.notify_all();
        assert!(sides.mirror().have_returned(&device, PATIENCE));
        let _ = fs.close(); // it may have failed
        sides.close(false);
        drop((disk, device));
        while !is_free(&places.at(1)) {
            std::thread::yield_now();
        }
    }
    assert!(left, "no side has left so");
}

#[test]
fn a_side_that_is_lost_comes_back_where_it_was() {
    for n in 0..2 {
        let places = Places::new(&format!("back{n}"));
        let (sims, fs, sides) = in_sync(&places);
        lose(&sims, &fs, &sides, n);
        let resync = MirrorOrder::Resync { with: None, keep: None, discard: false, dry_run: false };
        order(&sides, &resync).unwrap();
        while sides.status()["syncing"] == true {
            std::thread::yield_now();
        }
        let status = sides.status();
        assert_eq!(status["in_sync"], true, "{status}");
        assert!(!is_free(&places.at(0)) && !is_free(&places.at(1)));
        let theirs = read_label(&*sims[n]).unwrap().unwrap();
        let path = places.at(1 - n).into_os_string().into_encoded_bytes();
        assert_eq!((theirs.standing, theirs.path), (Standing::Together, path));
        fs.close().unwrap();
        sides.close(true);
    }
}

#[test]
fn a_store_that_was_to_fit_on_another_side_gets_its_size_back() {
    let disk = Arc::new(Sim::new(SIZE, 1));
    Volume::create(disk.clone(), SIZE, [9; 16], (0, 0)).unwrap();
    let fs = open(disk.clone());
    let (volume, free) = (fs.volume(), || fs.volume().space().available);
    let whole = free();
    assert_eq!(volume.shrink(SIZE / 2).unwrap(), Ok(()));
    fs.commit().unwrap();
    assert!(volume.address_space() == SIZE / 2 && free() < whole - SIZE / 4);
    // A commit that fails gives nothing back yet.
    disk.fail(Op::Write, 1, Persistence::Once);
    assert!(volume.widen(SIZE, || fs.commit()).is_err());
    drop(fs);
    let fs = open(disk.clone());
    fs.volume().widen(SIZE, || fs.commit()).unwrap();
    assert_eq!(fs.volume().address_space(), SIZE);
    assert!(fs.volume().space().available > whole - SIZE / 4);
    fs.close().unwrap();
    drop(fs);
    assert_eq!(open(disk).volume().address_space(), SIZE);
}

/// Where a disk has this block.
fn find(sim: &Sim, block: &[u8]) -> u64 {
    let is = |at: &u64| sim.peek(*at, block.len() as u64) == block;
    (0..SIZE).step_by(block.len()).find(is).expect("it is on the disk")
}

fn resynced(sides: &Arc<StoreSides>) -> serde_json::Value {
    let resync = MirrorOrder::Resync { with: None, keep: None, discard: false, dry_run: false };
    order(sides, &resync).unwrap();
    while sides.status()["syncing"] == true {
        std::thread::yield_now();
    }
    sides.status()
}

#[test]
fn superblocks_and_the_log_are_compared_as_well() {
    let places = Places::new("tables");
    let (sims, fs, sides) = in_sync(&places);
    put(&fs, NodeId::ROOT, "file", &bytes(1, 100_000));
    fs.commit().unwrap();
    put(&fs, NodeId::ROOT, "late", &bytes(2, 5_000));
    let verified = || order(&sides, &MirrorOrder::Verify).unwrap();
    assert_eq!(verified()["tables_differing"], json!([]));
    let state = newest_superblock(&*sims[1]).unwrap();
    let log = RESERVED_BYTES + state.log_start % state.log_bytes;
    let slot = state.seq % RING_SLOTS * SLOT_BYTES as u64;
    for at in [log, slot, RESERVED_BYTES / 2 + slot] {
        sims[1].flip(at + 60, 1);
        let found = verified();
        assert_eq!((&found["tables_differing"], &found["differing"]), (&json!([at]), &json!([])), "{at:#x}");
        sims[1].flip(at + 60, 1);
    }
    // What is behind the log's end is read by nobody.
    sims[1].flip(log + 8 * 4096, 1);
    assert_eq!(verified()["tables_differing"], json!([]));
    fs.close().unwrap();
    sides.close(true);
}

#[test]
fn what_a_side_did_not_get_because_it_cannot_be_read_is_told() {
    let places = Places::new("unread");
    let (sims, fs, sides) = in_sync(&places);
    lose(&sims, &fs, &sides, 1);
    let content = bytes(3, 100_000);
    put(&fs, NodeId::ROOT, "file", &content);
    fs.commit().unwrap();
    sims[0].make_unreadable(find(&sims[0], &content[8192..12288]), 4096);
    let status = resynced(&sides);
    assert_eq!((&status["in_sync"], &status["unread_bytes"]), (&json!(true), &json!(4096)), "{status}");
    assert!(status["copied_content_bytes"].as_u64() >= Some(90_000), "{status}");
    assert!(status["copied_content_bytes"].as_u64() < status["copied_bytes"].as_u64(), "{status}");
    // The next one tells of itself.
    lose(&sims, &fs, &sides, 1);
    assert_eq!(resynced(&sides)["unread_bytes"], 0);
    fs.close().unwrap();
    sides.close(true);
}

#[test]
fn a_store_is_as_large_as_it_was_when_nothing_came_of_another_side() {
    let places = Places::new("undone");
    let (sims, fs, sides) = in_sync(&places);
    lose(&sims, &fs, &sides, 1);
    // Nobody's label has room for this.
    let mut deep = places.0.clone();
    while deep.as_os_str().len() <= PARTNER_PATH_MAX {
        deep.push("d".repeat(200));
    }
    std::fs::create_dir_all(&deep).unwrap();
    let path = deep.join("small.img");
    std::fs::File::create(&path).and_then(|file| file.set_len(SIZE / 4 * 3)).unwrap();
    for _ in 0..2 {
        let attach = MirrorOrder::Attach { path: path.clone(), force: true, limit: None };
        let refused = order(&sides, &attach).unwrap_err();
        assert!(refused.message.contains("too long"), "{refused}");
        assert_eq!(fs.volume().address_space(), SIZE);
        assert_eq!(newest_superblock(&*sims[0]).unwrap().size, SIZE, "and durably");
    }
    assert!(fs.volume().is_mirrored(), "it is as it was");
    fs.close().unwrap();
    sides.close(true);
}

/// An order to go on with one side is given in another mount than the one to take in a smaller one: the label remembers.
#[test]
fn a_store_gets_its_size_back_when_a_smaller_side_goes_after_another_mount() {
    for is_directory in [false, true] {
        let places = Places::new(&format!("wide{is_directory}"));
        let [disk, _] = two_disks();
        let disk = Arc::new(disk);
        let hold = if is_directory { held_directory } else { held };
        let small = places.0.join("small.img");
        std::fs::File::create(&small).and_then(|file| file.set_len(SIZE / 4 * 3)).unwrap();
        let serve = |mirror: Arc<Mirror>, other: Option<HeldSide>| {
            let fs = open(mirror.clone());
            let (home, named) = (hold(&places.at(0), disk.clone()), places.at(0));
            let opened = OpenedSides { mirror, home, other, is_behind: false, named };
            let sides = StoreSides::new(&fs, opened);
            (fs, sides)
        };
        let (fs, sides) = serve(Arc::new(Mirror::solo(disk.clone(), 3)), None);
        let attach = MirrorOrder::Attach { path: small.clone(), force: false, limit: None };
        order(&sides, &attach).unwrap();
        assert_eq!(wait_filled(&sides)["in_sync"], true);
        assert_eq!(fs.volume().address_space(), SIZE / 4 * 3);
        fs.close().unwrap();
        sides.close(true);
        drop((fs, sides));

        let other = hold_side(&small, LIMIT, &None).unwrap();
        let devices: [Arc<dyn Device>; 2] = [disk.clone(), other.device().clone()];
        let labelled = devices.map(|device| {
            let label = read_label(&*device).unwrap().unwrap();
            (device, label)
        });
        let (fs, sides) = serve(Arc::new(Mirror::together(labelled, 9)), Some(other));
        assert_eq!(sides.status()["in_sync"], true);
        order(&sides, &MirrorOrder::Detach).unwrap();
        assert_eq!(fs.volume().address_space(), SIZE, "directory: {is_directory}");
        assert_eq!(newest_superblock(&*disk).unwrap().size, SIZE, "and durably");
        put(&fs, NodeId::ROOT, "large", &bytes(1, (SIZE / 2) as usize));
        fs.close().unwrap();
        sides.close(true);
        assert!(read_label(&*disk).unwrap().is_none());
    }
}

/// What cannot be read of the log that is over, or of a superblock that no longer counts, keeps no side from being filled, old
/// or new; and the state in force is on that side, also where neither of its superblocks can be read here.
#[test]
fn what_nobody_needs_need_not_be_readable_to_fill_a_side() {
    for is_new in [false, true] {
        let places = Places::new(&format!("bad{is_new}"));
        let (sims, fs, sides) = in_sync(&places);
        lose(&sims, &fs, &sides, 1);
        (0..4).for_each(|n| {
            put(&fs, NodeId::ROOT, &format!("file{n}"), &bytes(n, 50_000));
            fs.commit().unwrap();
        });
        let state = newest_superblock(&*sims[0]).unwrap();
        let dead = RESERVED_BYTES + (state.log_start + state.log_bytes / 2) % state.log_bytes / 4096 * 4096;
        let slot = |seq: u64| seq % RING_SLOTS * SLOT_BYTES as u64;
        sims[0].make_unreadable(dead, 4096);
        for at in [slot(state.seq - 1), slot(state.seq), slot(state.seq) + RESERVED_BYTES / 2] {
            sims[0].make_unreadable(at, 4096);
        }
        let theirs = read_label(&*sims[1]).unwrap().unwrap();
        let ours = sides.mirror().label().unwrap();
        let from = FillFrom::of_side(sims[1].clone(), &ours, &theirs, sides.mirror().reached_epoch());
        assert!(fs.volume().bytes_to_fill(&from, &*sims[1]).unwrap() > 200_000);
        if is_new {
            // As one that never was here, which has what it likes where the log is.
            sims[1].corrupt(dead, 4096, 7);
            crate::device::mirror::clear_labels(&*sims[1]).unwrap();
            let mirror = sides.mirror();
            assert!(mirror.forget_lost());
            let limit = std::time::Duration::from_secs(600);
            let (path, partner_path) = (b"two".to_vec(), b"one".to_vec());
            let new = NewSide { device: sims[1].clone(), path, partner_path, limit };
            mirror.join(new, &RINGS).unwrap();
            fs.volume().fill(mirror, &FillFrom::Nothing, &mut |_| ControlFlow::Continue(())).unwrap();
            assert_eq!(sims[1].peek(dead, 4096), [0; 4096]);
        } else {
            let status = resynced(&sides);
            assert_eq!(
                (&status["in_sync"], &status["sync_failed"]),
                (&json!(true), &json!(null)),
                "{status}"
            );
        }
        let theirs = newest_superblock(&*sims[1]).unwrap();
        assert!(theirs.seq >= state.seq, "{} and {}", theirs.seq, state.seq);
        fs.close().unwrap();
        sides.close(true);
        drop(fs);
        let alone = Arc::new(sims[1].clone_image());
        assert!(check(&open(alone).volume().clone(), Depth::Data).unwrap().is_clean());
    }
}

/// A place that was to be healed and did not take it is still bad on a side that is lost by that, however old it is: it is among
/// what that side gets.
#[test]
fn a_block_that_could_not_be_healed_is_copied_when_the_side_comes_back() {
    for is_content in [true, false] {
        let places = Places::new(&format!("heal{is_content}"));
        let (sims, fs, sides) = in_sync(&places);
        let content = bytes(5, 100_000);
        put(&fs, NodeId::ROOT, "file", &content);
        fs.commit().unwrap();
        let at = match is_content {
            true => find(&sims[1], &content[8192..12288]),
            false => newest_superblock(&*sims[1]).unwrap().meta_root.copy.0,
        };
        let sound = sims[0].peek(at, 4096);
        sims[1].corrupt(at, 4096, 7);
        sims[1].fail(Op::Write, 1, Persistence::Once);
        let volume = fs.volume();
        let mut scrub = Scrub::start(volume, 0, 1);
        while scrub.is_unfinished() {
            scrub.step(volume, 1 << 20).unwrap();
        }
        drop(scrub);
        let calls = || sides.status()["sides"][1]["pending_calls"].as_u64();
        while calls() != Some(0) {
            std::thread::yield_now();
        }
        assert_eq!(sides.status()["sides"][1]["state"], "lost", "it does not take what heals it");
        // A write that fails may have written some of it.
        sims[1].corrupt(at, 4096, 8);
        let status = resynced(&sides);
        assert_eq!(status["in_sync"], true, "{status}");
        assert_eq!(sims[1].peek(at, 4096), sound);
        let verified = order(&sides, &MirrorOrder::Verify).unwrap();
        assert_eq!(verified["differing"], json!([]));
        fs.close().unwrap();
        sides.close(true);
    }
}

/// What a side that was away needs is what has changed in the end, whatever was written in between, and no content twice: of
/// small changes not what the log has of them once more.
#[test]
fn a_resync_of_small_changes_copies_their_content_once() {
    let places = Places::new("small");
    let (sims, fs, sides) = in_sync(&places);
    const BLOCK: usize = 4096;
    let file = put(&fs, NodeId::ROOT, "file", &bytes(4, 1024 * BLOCK));
    fs.commit().unwrap();
    lose(&sims, &fs, &sides, 1);
    for round in 0..3 {
        // The same blocks each time.
        for n in 0..256 {
            overwrite(&fs, file, (n * 4 + 1) * BLOCK as u64, &bytes(round * 1000 + n, BLOCK));
        }
        fs.commit().unwrap();
    }
    let written = sims[1].counts().bytes_written;
    let status = resynced(&sides);
    let number = |key: &str| status[key].as_u64().unwrap();
    let (changed, copied, content) =
        (256 * BLOCK as u64, number("copied_bytes"), number("copied_content_bytes"));
    assert!((changed..=changed * 11 / 10).contains(&content), "{content} of {changed}");
    // Nodes, both copies of each, the space map, superblocks and what waits to be free. The log would be three times what has
    // changed.
    assert!(copied - content < changed * 3 / 4, "{} beside {content}", copied - content);
    // And that is what the side gets, but for labels and notes of how far it is.
    let got = sims[1].counts().bytes_written - written;
    assert!(got >= copied && got < copied + changed, "{got} and {copied}");
    let verified = order(&sides, &MirrorOrder::Verify).unwrap();
    assert_eq!((&verified["differing"], &verified["tables_differing"]), (&json!([]), &json!([])));
    fs.close().unwrap();
    sides.close(true);
}

/// Does something that must not be held up.
fn soon<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    patiently(PATIENCE, move |_| work()).unwrap_or_else(|| panic!("{what} is held up"))
}

#[test]
fn a_side_that_hangs_holds_up_no_commit_no_status_and_no_unmount() {
    for n in 0..2 {
        for early in [true, false] {
            let places = Places::new(&format!("hangs{n}{early}"));
            let disks = two_disks().map(Hanging::new);
            let labels = labelled(&places, [&disks[0].sim, &disks[1].sim], LIMIT_MS);
            let [a, b] = disks.clone();
            let (_, fs, sides) = opened(&places, [a, b], labels);
            put(&fs, NodeId::ROOT, "before", &bytes(1, 10_000));
            if early {
                disks[n].hang(true);
                let (fs, sides) = (fs.clone(), sides.clone());
                soon("a commit", move || {
                    put(&fs, NodeId::ROOT, "file", &bytes(1, 100_000));
                    fs.commit().unwrap();
                    assert_eq!(fs.volume().location().lost, None);
                    let status = store_state::status(&fs, Path::new("store"), (String::new(), false));
                    assert_eq!(status["state"], "ok");
                    assert_eq!(sides.status()["in_sync"], false);
                });
            }
            soon("an unmount", {
                let (fs, sides, disk) = (fs.clone(), sides.clone(), disks[n].clone());
                move || {
                    sides.end();
                    fs.close().unwrap();
                    disk.hang(true);
                    store_state::prove_whole(fs.volume(), Path::new("store")).unwrap();
                    sides.close(true);
                }
            });
            assert!(is_free(&places.at(1 - n)));
            disks[n].hang(false);
            while !is_free(&places.at(n)) {
                std::thread::yield_now();
            }
        }
    }
}

/// A side that was away and is back when the store is opened, on a disk that hangs when that is wanted.
fn behind(
    places: &Places,
    limit_ms: u32,
    hangs: bool,
) -> (Arc<Hanging>, Arc<Mirror>, Arc<Fs>, Arc<StoreSides>) {
    let [first, second] = two_disks();
    let labels = labelled(places, [&first, &second], limit_ms);
    let stale = Label { number: 2, standing: Standing::Stale, ..labels[1].clone() };
    write_label(&second, &stale).unwrap();
    let (first, second): (Arc<dyn Device>, _) = (Arc::new(first), Hanging::new(second));
    let [label, _] = labels;
    let mirror = Arc::new(Mirror::one_of_two(first.clone(), label, (1, 77), 7).unwrap());
    let fs = open(mirror.clone());
    let (home, other) = (held(&places.at(0), first), Some(held(&places.at(1), second.clone())));
    let named = home.path.clone();
    let opened = OpenedSides { mirror: mirror.clone(), home, other, is_behind: true, named };
    second.hang(hangs);
    let sides = soon("a mount", {
        let fs = fs.clone();
        move || StoreSides::new(&fs, opened)
    });
    (second, mirror, fs, sides)
}

fn wait_filled(sides: &StoreSides) -> serde_json::Value {
    while sides.status()["syncing"] == true {
        std::thread::yield_now();
    }
    sides.status()
}

#[test]
fn a_side_that_comes_back_and_hangs_holds_up_no_mount_and_is_told() {
    let places = Places::new("behind");
    let (disk, _, fs, sides) = behind(&places, LIMIT_MS, true);
    assert_eq!(sides.status()["syncing"], true);
    put(&fs, NodeId::ROOT, "file", &bytes(1, 10_000));
    fs.commit().unwrap();
    let status = wait_filled(&sides);
    let why = status["sync_failed"].as_str().unwrap().to_owned();
    assert!(why.contains("did not answer"), "{status}");
    assert_eq!(read_label(&disk.sim).unwrap().unwrap().standing, Standing::Stale);
    // It is in use until it answers, and comes back then.
    assert!(!is_free(&places.at(1)));
    disk.hang(false);
    while !is_free(&places.at(1)) {
        std::thread::yield_now();
    }
    fs.close().unwrap();
    sides.close(true);
    // One that answers is filled.
    let places = Places::new("answers");
    let (_, mirror, fs, sides) = behind(&places, LIMIT_MS, false);
    let status = wait_filled(&sides);
    assert!(status["in_sync"] == true && mirror.is_mirror(), "{status}");
    fs.close().unwrap();
    sides.close(true);
}

#[test]
fn what_is_found_out_about_a_side_that_comes_back_ends_with_the_store() {
    let places = Places::new("ends");
    let (disk, _, fs, sides) = behind(&places, 600_000, true);
    while disk.waiting() == 0 {
        std::thread::yield_now();
    }
    let ended = std::thread::spawn({
        let sides = sides.clone();
        move || sides.end()
    });
    while !sides.is_ending() {
        std::thread::yield_now();
    }
    let reads = disk.sim.counts().reads;
    disk.hang(false);
    soon("the end", move || ended.join().unwrap());
    assert!(disk.sim.counts().reads <= reads + 1, "no more of it is read");
    assert_eq!(read_label(&disk.sim).unwrap().unwrap().standing, Standing::Stale, "it has what it had");
    let resync = MirrorOrder::Resync { with: None, keep: None, discard: false, dry_run: false };
    let refused = order(&sides, &resync).unwrap_err();
    assert!(refused.message.contains("unmounted"), "{refused}");
    fs.close().unwrap();
    sides.close(true);
}

#[test]
fn a_side_that_hangs_when_it_is_to_come_back_is_an_error_unless_its_partner_hangs_as_well() {
    for both_hang in [false, true] {
        let places = Places::new(&format!("resync{both_hang}"));
        let disks = two_disks().map(Hanging::new);
        let labels = labelled(&places, [&disks[0].sim, &disks[1].sim], LIMIT_MS);
        let [a, b] = disks.clone();
        let (_, fs, sides) = opened(&places, [a, b], labels);
        disks[1].sim.fail(Op::Write, 1, Persistence::Once);
        put(&fs, NodeId::ROOT, "file", &bytes(1, 10_000));
        fs.commit().unwrap();
        while sides.status()["sides"][1]["pending_calls"] != 0 {
            std::thread::yield_now();
        }
        disks[0].hang(both_hang);
        disks[1].hang(true);
        let resync = MirrorOrder::Resync { with: None, keep: None, discard: false, dry_run: false };
        let ordered = std::thread::spawn({
            let sides = sides.clone();
            move || order(&sides, &resync)
        });
        if both_hang {
            std::thread::sleep(Duration::from_millis(u64::from(LIMIT_MS) * 3));
            disks.iter().for_each(|disk| disk.hang(false));
        }
        let answer = soon("a resync", || ordered.join().unwrap());
        if both_hang {
            answer.unwrap();
            assert_eq!(wait_filled(&sides)["in_sync"], true);
        } else {
            let refused = answer.unwrap_err();
            assert!(refused.message.contains("did not answer within"), "{refused}");
            assert_eq!(sides.status()["in_sync"], false);
        }
        disks[1].hang(false);
        fs.close().unwrap();
        sides.close(true);
    }
}

/// Carries out a log, and has a side be lost when it has proved what comes first.
struct Losing {
    mirror: Arc<Mirror>,
    loses: bool,
}

impl Replay for Losing {
    fn restart(&mut self) {}
    fn prove_item(&self, _: &Key, _: Option<&[u8]>) -> Result<(), VolumeError> {
        if self.loses {
            assert!(self.mirror.leave_out(0, "it is pulled out"));
        }
        Ok(())
    }
    fn forget(&mut self, _: LineId) {}
    fn note(&mut self, _: &mut Txn<'_>, _: &[u8]) -> Result<(), VolumeError> {
        Ok(())
    }
}

/// A power cut left what was not flushed on one side alone, which is lost while that is carried out: what is left is what
/// the other has.
#[test]
fn a_side_that_is_lost_while_the_log_is_replayed_takes_with_it_only_what_it_alone_had() {
    let places = Places::new("replay");
    let sims = two_disks().map(Arc::new);
    let labels = labelled(&places, [&sims[0], &sims[1]], 600_000);
    let [a, b] = sims.clone();
    let (_, fs, sides) = opened(&places, [a, b], labels.clone());
    let file = put(&fs, NodeId::ROOT, "file", &bytes(1, 100_000));
    fs.commit().unwrap();
    sims.iter().for_each(|sim| sim.fail(Op::Flush, 1, Persistence::Forever));
    overwrite(&fs, file, 0, &bytes(2, 100_000));
    let handle = fs.open(&ADMIN, file, RW).unwrap();
    assert!(fs.fsync(file, handle, SyncScope::All).is_err());
    let cut = [sims[0].crash(CrashPolicy::KeepAll), sims[1].crash(CrashPolicy::DropAll)];
    drop((fs, sides));
    for loses in [false, true] {
        let sims = [0, 1].map(|n| Arc::new(cut[n].clone_image()));
        let [a, b] = sims.clone();
        let [one, two] = labels.clone();
        let mirror = Arc::new(Mirror::together([(a, one), (b, two)], 7));
        let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 1 << 20 };
        let volume = Volume::open(mirror.clone(), options).unwrap();
        let recovered = volume.recover(&mut Losing { mirror: mirror.clone(), loses });
        assert_eq!((recovered.damage, recovered.bad_content), (None, Vec::new()));
        assert_eq!((recovered.records > 0, mirror.sides().len()), (!loses, if loses { 1 } else { 2 }));
        assert_eq!(volume.read_only_reason(), None);
        drop(volume);
        // What it has is whole, on the side that is left as well.
        let fs = open(sims[1].clone());
        let content = bytes(if loses { 1 } else { 2 }, 100_000);
        assert!(read_whole(&fs, crate::fixtures::find(&fs, "file")).unwrap() == content, "loses: {loses}");
    }
}
