//! Orders about the sides of a store as the daemon carries them out, on two simulated disks: the power of either or both is cut at each
//! of their changes, and each call of either fails.
//!
//! What was acknowledged is on what is left, by the ways by which a user gets at it: a mount with both, and with either alone. No side
//! is served that is not whole, what only a half had is lost nowhere, and the order that was cut off can be given again. The
//! disks are found where files would be, so that all of it runs as it does in the daemon, from the mount to the last label.

use super::builtin::{Held, open_volume};
use super::engine::{OpenFor, Partner};
use super::mirror_order::MirrorOrder;
use super::mirroring::StoreSides;
use super::mirroring_tests::Places;
use super::sides::label_in_force;
use super::store_device::simulated::put_disk_at;
use crate::check::{Depth, check};
use crate::clock::Clock;
use crate::ctl::{Code, Failure};
use crate::device::{CrashPolicy, Device, DeviceError, Op, Persistence, Sim};
use crate::fixtures::{ADMIN, RW, SNAPDIR, bytes, put, read_whole};
use crate::format::LineId;
use crate::format::mark::FileBirth;
use crate::format::mirror::Standing;
use crate::format::provenance::Provenance;
use crate::fs::{Fs, FsOptions};
use crate::ops::{NodeId, Operations};
use crate::volume::{View, Volume};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

/// The second disk is smaller: a store that has both ends where that does.
const SIZES: [u64; 2] = [48 << 20, 40 << 20];
/// No call of a simulated disk takes that long.
const LIMIT: Duration = Duration::from_secs(600);
const FILE_BYTES: usize = 40_000;

/// One of two disks whose power is cut at one moment.
struct Strip {
    sims: [Arc<Sim>; 2],
    n: usize,
    /// Changing calls of both that are still made.
    left: Arc<AtomicU64>,
}

impl Strip {
    fn change(&self) -> &Sim {
        let one_less = |left: u64| left.checked_sub(1);
        if self.left.fetch_update(SeqCst, SeqCst, one_less).is_err() {
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
        format!("simulated disk {}", self.n + 1)
    }
    /// As of a file, so that marks and labels say which one they are in.
    fn birth(&self, _: u64) -> Option<FileBirth> {
        Some(FileBirth { inode: self.n as u64 + 1, secs: 1, nanos: 0 })
    }
}

/// Two disks where two files would be.
struct Rig {
    places: Places,
    sims: Mutex<[Arc<Sim>; 2]>,
}

impl Rig {
    fn new(name: &str) -> Rig {
        let sims = Mutex::new([0, 1].map(|n| Arc::new(Sim::new(SIZES[n], 0))));
        Rig { places: Places::new(&format!("cuts-{name}")), sims }
    }

    /// Has these disks be found, or nothing where there is none. Returns them, and how many changes of both are left.
    fn put(&self, sims: [Option<&Sim>; 2]) -> ([Arc<Sim>; 2], Arc<AtomicU64>) {
        let left = Arc::new(AtomicU64::new(u64::MAX));
        let is_there = sims.map(|sim| sim.is_some());
        let sims = sims.map(|sim| Arc::new(sim.map_or_else(|| Sim::new(4096, 0), Sim::clone_image)));
        for n in 0..2 {
            let (path, left) = (self.places.at(n), left.clone());
            let disk =
                is_there[n].then(|| Arc::new(Strip { sims: sims.clone(), n, left }) as Arc<dyn Device>);
            match &disk {
                Some(_) => std::fs::File::create(&path).and_then(|file| file.set_len(SIZES[n])).unwrap(),
                None => drop(std::fs::remove_file(&path)),
            }
            put_disk_at(&path, disk);
        }
        *self.sims.lock() = sims.clone();
        (sims, left)
    }

    fn put_both(&self, sims: &[Sim; 2]) -> ([Arc<Sim>; 2], Arc<AtomicU64>) {
        self.put(sims.each_ref().map(Some))
    }

    /// How the disks are now, when nothing is open.
    fn image(&self) -> [Sim; 2] {
        self.sims.lock().each_ref().map(|sim| sim.crash(CrashPolicy::KeepAll))
    }

    /// How the second disk says that it stands.
    fn standing(&self) -> Result<Option<Standing>, String> {
        let disk = self.sims.lock()[1].clone();
        let (label, _) = label_in_force(&self.places.at(1), &*disk).map_err(|f| f.to_string())?;
        Ok(label.map(|label| label.standing))
    }

    /// Mounts the store on one of them, with the other where it should be.
    fn mount(&self, n: usize) -> Result<Store, Failure> {
        let opened = open_volume(&self.places.at(n), OpenFor::Mount, &Partner::AsNoted, 1 << 20)?;
        let Held::Sides(sides) = opened.held else { panic!("it is held for writing") };
        let fs = Fs::open(opened.volume, FsOptions::default(), Clock::manual(1_000_000))
            .map_err(|e| Failure::new(Code::Other, format!("{e:?}")))?;
        let sides = StoreSides::new(&fs, sides);
        Ok(Store { fs, sides })
    }

    fn attach(&self) -> MirrorOrder {
        MirrorOrder::Attach { path: self.places.at(1), force: true, limit: Some(LIMIT) }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        (0..2).for_each(|n| put_disk_at(&self.places.at(n), None));
    }
}

const RESYNC: MirrorOrder = MirrorOrder::Resync { with: None, keep: None, discard: false, dry_run: false };

/// What was acknowledged: files, by what their content is made of, and which of them are in a snapshot.
#[derive(Clone, Default)]
struct Model {
    files: BTreeMap<String, u64>,
    snapshots: BTreeMap<String, BTreeMap<String, u64>>,
}

/// A store that is mounted.
struct Store {
    fs: Arc<Fs>,
    sides: Arc<StoreSides>,
}

fn told(e: impl std::fmt::Debug) -> String {
    format!("{e:?}")
}

impl Store {
    fn order(&self, order: &MirrorOrder) -> Result<Value, Failure> {
        self.sides.order(order, &mut |_| true)
    }

    /// Until nothing goes on in the background.
    fn settle(&self) -> Value {
        loop {
            let status = self.sides.status();
            let pends = |side: &Value| side["pending_calls"].as_u64() > Some(0);
            if status["syncing"] == false && !status["sides"].as_array().is_some_and(|s| s.iter().any(pends))
            {
                return status;
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    fn in_sync(&self) -> bool {
        self.settle()["in_sync"] == true
    }

    /// Makes a file and commits it.
    fn put(&self, model: &mut Model, name: &str) -> Result<(), String> {
        let seed = name.bytes().fold(7, |seed: u64, byte| seed.wrapping_mul(31) + u64::from(byte));
        let put = || {
            let (entry, handle) = self.fs.create(&ADMIN, NodeId::ROOT, name.as_bytes(), 0o640, RW)?;
            let written = self.fs.write(entry.attr.node, handle, 0, &bytes(seed, FILE_BYTES), false);
            self.fs.release(entry.attr.node, handle);
            written?;
            self.fs.commit()
        };
        put().map_err(|e| format!("{name}: {e:?}"))?;
        model.files.insert(name.into(), seed);
        Ok(())
    }

    fn snapshot(&self, model: &mut Model, name: &str) -> Result<(), String> {
        self.fs.create_snapshot(name.as_bytes(), Provenance::default()).map_err(told)?;
        model.snapshots.insert(name.into(), model.files.clone());
        Ok(())
    }

    /// As the daemon does.
    fn split(&self, model: &mut Model, name: &str) -> Result<(), Failure> {
        let mut make = || {
            let made = self.fs.create_snapshot(name.as_bytes(), Provenance::default());
            made.map(|view| json!({"id": view.0})).map_err(|e| Failure::new(Code::Other, told(e)))
        };
        self.sides.split(&mut make, &mut || drop(self.fs.delete_snapshot(name.as_bytes())))?;
        model.snapshots.insert(name.into(), model.files.clone());
        Ok(())
    }

    /// It has all of this, nothing of what is `absent`, and is sound.
    fn prove(&self, model: &Model, absent: &[&str]) -> Result<(), String> {
        let fs = &*self.fs;
        let has = |dir: NodeId, files: &BTreeMap<String, u64>| {
            for (name, seed) in files {
                let node =
                    fs.lookup(&ADMIN, dir, name.as_bytes()).map_err(|e| format!("{name}: {e:?}"))?.attr.node;
                if read_whole(fs, node).map_err(|e| format!("{name}: {e:?}"))? != bytes(*seed, FILE_BYTES) {
                    return Err(format!("{name} has wrong content"));
                }
            }
            Ok(())
        };
        has(NodeId::ROOT, &model.files)?;
        for (name, files) in &model.snapshots {
            let dir =
                fs.lookup(&ADMIN, SNAPDIR, name.as_bytes()).map_err(|e| format!("snapshot {name}: {e:?}"))?;
            has(dir.attr.node, files).map_err(|why| format!("snapshot {name}: {why}"))?;
            let is_later = |file: &&String| !files.contains_key(*file);
            for later in model.files.keys().filter(is_later) {
                if fs.lookup(&ADMIN, dir.attr.node, later.as_bytes()).is_ok() {
                    return Err(format!("snapshot {name} has {later}, which came later"));
                }
            }
        }
        if let Some(name) =
            absent.iter().find(|name| fs.lookup(&ADMIN, NodeId::ROOT, name.as_bytes()).is_ok())
        {
            return Err(format!("it has {name}"));
        }
        fs.commit().map_err(|e| format!("it takes no commit: {e:?}"))?;
        let report = check(fs.volume(), Depth::Data).map_err(told)?;
        if report.is_clean() { Ok(()) } else { Err(format!("{report:?}")) }
    }

    /// How many snapshots of it, in whatever line, have the content of each of these.
    fn kept(&self, sums: &[u128]) -> Result<Vec<usize>, String> {
        let volume = self.fs.volume();
        let all = volume.lines().into_iter().flat_map(|line| volume.own_snapshots(line.id));
        let mut found = Vec::new();
        for snapshot in all {
            let view = volume.snapshot(snapshot.id).map_err(told)?;
            found.push(self.fs.sums_of(&view, &mut |_, _| {}).map_err(told)?);
        }
        Ok(sums.iter().map(|sum| found.iter().filter(|found| *found == sum).count()).collect())
    }

    /// The power goes, or the daemon is killed: nothing is written any more.
    fn vanish(self) {
        self.sides.end();
        self.sides.close(false);
    }

    fn close(self) -> Result<(), String> {
        self.sides.end();
        self.fs.close().map_err(told)?;
        self.sides.close(true);
        Ok(())
    }
}

/// What a half of a split has of its own.
#[derive(Clone)]
struct Half {
    model: Model,
    /// Of each tree that is to be kept.
    sums: Vec<u128>,
}

/// Disks from which an order is given again and again.
struct Base {
    sims: [Sim; 2],
    model: Model,
    half: Option<Half>,
}

/// A store on the first disk, and another one that is empty.
fn lone(rig: &Rig) -> Base {
    let new = Arc::new(Sim::new(SIZES[0], 1));
    Volume::create(new.clone(), SIZES[0], [9; 16], (0, 0)).unwrap();
    rig.put([Some(&new), Some(&Sim::new(SIZES[1], 2))]);
    let mut model = Model::default();
    let store = rig.mount(0).unwrap();
    ["a", "b"].iter().for_each(|name| store.put(&mut model, name).unwrap());
    store.snapshot(&mut model, "before").unwrap();
    store.put(&mut model, "c").unwrap();
    store.close().unwrap();
    Base { sims: rig.image(), model, half: None }
}

/// The same on both.
fn together(rig: &Rig) -> Base {
    let Base { sims, mut model, .. } = lone(rig);
    rig.put_both(&sims);
    let store = rig.mount(0).unwrap();
    store.order(&rig.attach()).unwrap();
    assert!(store.in_sync(), "{}", store.sides.status());
    store.put(&mut model, "second").unwrap();
    store.close().unwrap();
    Base { sims: rig.image(), model, half: None }
}

/// Both halves of a split, of which each went on.
fn apart(rig: &Rig, put_there: impl FnOnce(&Store, &mut Model)) -> Base {
    let Base { sims, mut model, .. } = together(rig);
    rig.put_both(&sims);
    let store = rig.mount(0).unwrap();
    store.split(&mut model, "moment").unwrap();
    let mut there = model.clone();
    store.put(&mut model, "mine").unwrap();
    store.close().unwrap();
    let half = rig.mount(1).unwrap();
    put_there(&half, &mut there);
    let volume = half.fs.volume();
    let newest = volume.newest_snapshot(LineId::MAIN).unwrap();
    let sum = |view: &View| half.fs.sums_of(view, &mut |_, _| {}).unwrap();
    let live = sum(&volume.live(LineId::MAIN).unwrap());
    let named = sum(&volume.snapshot(newest.id).unwrap());
    half.close().unwrap();
    let sums = if newest.name == b"moment" { vec![live] } else { vec![named, live] };
    Base { sims: rig.image(), model, half: Some(Half { model: there, sums }) }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// A store gets a second side.
    Attach,
    /// A side that was lost comes back.
    Return,
    /// The sides part.
    Split,
    /// A half that went on is brought in line.
    Resync,
    /// A side is let go of.
    Detach,
}

impl Step {
    fn base(self, rig: &Rig) -> Base {
        match self {
            Step::Attach => lone(rig),
            Step::Return | Step::Split | Step::Detach => together(rig),
            Step::Resync => apart(rig, |half, there| {
                half.put(there, "theirs").unwrap();
                half.snapshot(there, "own").unwrap();
                half.put(there, "more").unwrap();
            }),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trouble {
    /// The power of one is cut.
    Power(usize),
    /// The power of both is cut at one moment.
    Blackout,
    /// A call of one fails.
    Once(usize, Op),
    /// All calls of one fail from then on.
    Forever(usize, Op),
}

impl Trouble {
    fn victim(self) -> Option<usize> {
        match self {
            Trouble::Power(n) | Trouble::Once(n, _) | Trouble::Forever(n, _) => Some(n),
            Trouble::Blackout => None,
        }
    }
}

/// What came of a step.
struct Lived {
    model: Model,
    /// What was there at the split.
    at_split: Model,
    /// The order was carried out to its end.
    done: bool,
    disks: [Sim; 2],
}

/// Does the step, with the trouble at the n-th call from when the order is given. None if it was not met.
fn live(rig: &Rig, (step, trouble): (Step, Trouble), base: &Base, nth: u64) -> Result<Option<Lived>, String> {
    let (sims, left) = rig.put_both(&base.sims);
    let store = rig.mount(0).map_err(|f| f.to_string())?;
    let mut model = base.model.clone();
    if step == Step::Return {
        sims[1].fail(Op::Write, 1, Persistence::Once);
        store.put(&mut model, "alone")?;
        store.settle();
    }
    let struck = || sims.iter().map(|sim| sim.faults_struck()).sum::<u64>();
    let before = struck();
    match trouble {
        Trouble::Power(n) => sims[n].set_crash_at(sims[n].changes() + nth),
        Trouble::Blackout => left.store(nth - 1, SeqCst),
        Trouble::Once(n, op) => sims[n].fail(op, nth, Persistence::Once),
        Trouble::Forever(n, op) => sims[n].fail(op, nth, Persistence::Forever),
    }
    let mut at_split = model.clone();
    let mut stopped = Vec::new();
    let mut try_put = |model: &mut Model, name: &str| stopped.extend(store.put(model, name).err());
    let done = match step {
        Step::Attach | Step::Return | Step::Resync => {
            let order = if step == Step::Attach { rig.attach() } else { RESYNC };
            let ordered = store.order(&order);
            try_put(&mut model, "during");
            let done = ordered.map_err(|f| f.to_string()).map(|_| store.in_sync());
            try_put(&mut model, "after");
            done
        }
        Step::Split => {
            let done = store.split(&mut model, "moment");
            at_split = model.clone();
            try_put(&mut model, "after");
            done.map(|()| true).map_err(|f| f.to_string())
        }
        Step::Detach => {
            let done = store.order(&MirrorOrder::Detach);
            try_put(&mut model, "after");
            done.map(|_| true).map_err(|f| f.to_string())
        }
    };
    store.settle();
    let met = struck() > before || sims.iter().any(|sim| sim.is_crashed());
    if trouble.victim() == Some(1)
        && let Some(why) = stopped.first()
    {
        return Err(format!("what happens to the second disk stops the store: {why}"));
    }
    if !met {
        let why = done.as_ref().err();
        if *(done.as_ref().unwrap_or(&false)) && stopped.is_empty() {
            store.vanish();
            return Ok(None);
        }
        return Err(format!("without any trouble: {why:?} {stopped:?} {}", store.sides.status()));
    }
    // Each disk keeps what it likes of what was not flushed.
    let seed = nth.wrapping_mul(0x9E37_79B9);
    let policies = [
        [CrashPolicy::DropAll, CrashPolicy::DropAll],
        [CrashPolicy::Random(seed), CrashPolicy::Random(seed ^ 0x5555)],
        [CrashPolicy::DropAll, CrashPolicy::Shuffled(seed)],
        [CrashPolicy::Shuffled(seed), CrashPolicy::DropAll],
        [CrashPolicy::KeepAll, CrashPolicy::KeepAll],
    ][nth as usize % 5];
    let disks = [0, 1].map(|n| sims[n].crash(policies[n]));
    store.vanish();
    Ok(Some(Lived { model, at_split, done: done.unwrap_or(false), disks }))
}

/// The second disk by itself is a store that has what it has to have, or is refused. True if it has what only a half had.
fn second_alone(
    rig: &Rig,
    (step, trouble): (Step, Trouble),
    base: &Base,
    lived: &Lived,
) -> Result<bool, String> {
    rig.put([None, Some(&lived.disks[1])]);
    let is_sound = trouble.victim() != Some(1);
    let must_serve = match step {
        Step::Attach | Step::Return | Step::Resync => lived.done && is_sound,
        Step::Split => lived.done,
        Step::Detach => false,
    };
    let standing = rig.standing()?;
    let store = match rig.mount(1) {
        Err(f) if must_serve || standing == Some(Standing::Split) => {
            return Err(format!("it is refused: {f}"));
        }
        Err(_) => return Ok(false),
        Ok(store) => store,
    };
    let shows = |model: &Model, absent: &[&str]| store.prove(model, absent);
    let is_half = step == Step::Resync && standing == Some(Standing::Split);
    let proved = match (step, &base.half) {
        (Step::Resync, Some(half)) if is_half => shows(&half.model, &["mine", "during", "after"]),
        (Step::Split, _) if lived.done => shows(&lived.at_split, &["after"]),
        (Step::Split, _) => shows(&base.model, &[]),
        (Step::Detach, _) if lived.done && is_sound => Err("it is served after it was detached".into()),
        (Step::Detach, _) => shows(&base.model, &[]),
        (Step::Attach, _) | (Step::Return, _) if must_serve => shows(&lived.model, &[]),
        // Before it is overwritten it has what it had; from when it is served again all of it.
        (Step::Return, _) => shows(&base.model, &[]),
        _ if is_sound => shows(&lived.model, &[]),
        _ => shows(&base.model, &[]),
    };
    store.vanish();
    proved.map(|()| is_half)
}

/// A store that is by itself ends where it did.
fn is_wide(store: &Store) -> Result<(), String> {
    let volume = store.fs.volume();
    match volume.address_space() {
        size if volume.is_mirrored() || size == SIZES[0] => Ok(()),
        size => Err(format!("it is by itself and ends at {size:#x}")),
    }
}

/// All that is left of a step is what it has to be.
fn judge(rig: &Rig, (step, trouble): (Step, Trouble), base: &Base, lived: &Lived) -> Result<(), String> {
    let in_words = |what: &'static str| move |why: String| format!("{what}: {why}");
    let has_own = second_alone(rig, (step, trouble), base, lived).map_err(in_words("the second alone"))?;
    let ends_anew = matches!(step, Step::Attach | Step::Detach);
    if trouble.victim() != Some(0) {
        rig.put([Some(&lived.disks[0]), None]);
        let here = in_words("the first alone");
        let store = rig.mount(0).map_err(|f| here(f.to_string()))?;
        store.prove(&lived.model, &[]).map_err(here)?;
        if ends_anew {
            is_wide(&store).map_err(here)?;
        }
        store.vanish();
    }
    rig.put_both(&lived.disks);
    if step == Step::Split && rig.standing()? == Some(Standing::Split) {
        // Whoever has the half keeps nobody from the store that stays.
        let here = in_words("beside its half, which is mounted");
        let half = rig.mount(1).map_err(|f| here(f.to_string()))?;
        let store = rig.mount(0).map_err(|f| here(f.to_string()))?;
        store.prove(&lived.model, &[]).map_err(here)?;
        store.vanish();
        half.vanish();
        rig.put_both(&lived.disks);
    }
    let here = in_words("both");
    let store = match rig.mount(0) {
        Ok(store) => store,
        // The other one went on, and says so.
        Err(f) if trouble.victim() == Some(0) => {
            let store = rig.mount(1).map_err(|other| here(format!("{f}, and the second: {other}")))?;
            store.prove(&lived.model, &[]).map_err(here)?;
            store.vanish();
            return Ok(());
        }
        Err(f) => return Err(here(f.to_string())),
    };
    store.prove(&lived.model, &[]).map_err(here)?;
    if let Some(half) = &base.half
        && !has_own
        && store.kept(&half.sums)?.contains(&0)
    {
        return Err("what only the half had is on neither disk".into());
    }
    again(rig, step, base, lived, store).map_err(in_words("when it is ordered again"))
}

/// The order is given once more and carried out to its end; then both have everything, or what is right.
fn again(rig: &Rig, step: Step, base: &Base, lived: &Lived, store: Store) -> Result<(), String> {
    let mut model = lived.model.clone();
    let order = |order: &MirrorOrder| match store.order(order) {
        Ok(_) if store.in_sync() || *order == MirrorOrder::Detach => Ok(()),
        Ok(_) => Err(format!("{:?}: {}", order, store.sides.status())),
        Err(f) => Err(format!("{order:?}: {f}")),
    };
    let is_in_sync = store.in_sync();
    match step {
        Step::Attach if !is_in_sync => {
            is_wide(&store)?;
            order(&rig.attach())?;
        }
        Step::Return | Step::Resync | Step::Split if !is_in_sync => order(&RESYNC)?,
        Step::Split => {
            let name = if model.snapshots.contains_key("moment") { "again" } else { "moment" };
            // It may be there, of a split that was not acknowledged.
            let _ = store.fs.delete_snapshot(name.as_bytes());
            store.split(&mut model, name).map_err(|f| f.to_string())?;
            let at_split = model.clone();
            store.put(&mut model, "final")?;
            store.close()?;
            let half = rig.mount(1).map_err(|f| f.to_string())?;
            half.prove(&at_split, &["final"])?;
            let store = rig.mount(0).map_err(|f| format!("beside its half: {f}"))?;
            store.prove(&model, &[])?;
            half.close()?;
            return store.close();
        }
        Step::Detach => {
            if store.fs.volume().is_mirrored() {
                order(&MirrorOrder::Detach)?;
            }
            is_wide(&store)?;
            order(&rig.attach())?;
        }
        _ => {}
    }
    if let Some(half) = &base.half {
        let kept = store.kept(&half.sums)?;
        if kept.iter().any(|times| *times != 1) {
            return Err(format!("trees of the half were kept so often: {kept:?}"));
        }
    }
    store.put(&mut model, "final")?;
    store.close()?;
    let disks = rig.image();
    for n in 0..2 {
        let mut alone = [None, None];
        alone[n] = Some(&disks[n]);
        rig.put(alone);
        let store = rig.mount(n).map_err(|f| format!("disk {n} alone: {f}"))?;
        store.prove(&model, &[]).map_err(|why| format!("disk {n} alone: {why}"))?;
        store.vanish();
    }
    Ok(())
}

fn try_all(name: &str, step: Step, troubles: &[Trouble]) {
    let rig = Rig::new(name);
    let base = step.base(&rig);
    let (mut wrong, mut tried) = (Vec::new(), 0);
    for trouble in troubles {
        for nth in 1.. {
            let what = format!("{step:?}, {trouble:?} at call {nth}");
            match live(&rig, (step, *trouble), &base, nth) {
                Ok(None) => {
                    println!("{step:?}, {trouble:?}: {} calls", nth - 1);
                    break;
                }
                Ok(Some(lived)) => wrong.extend(
                    judge(&rig, (step, *trouble), &base, &lived).err().map(|why| format!("{what}: {why}")),
                ),
                Err(why) => wrong.push(format!("{what}: {why}")),
            }
            tried += 1;
            assert!(wrong.len() < 12, "{}", wrong.join("\n"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(tried > 10, "{tried}");
}

const POWER: [Trouble; 3] = [Trouble::Power(0), Trouble::Power(1), Trouble::Blackout];

/// Calls that fail, of either disk.
fn failures() -> Vec<Trouble> {
    let of_disk = |n| {
        let once = [Op::Read, Op::Write, Op::Flush].map(|op| Trouble::Once(n, op));
        once.into_iter().chain([Trouble::Forever(n, Op::Back)])
    };
    (0..2).flat_map(of_disk).collect()
}

#[test]
fn a_power_cut_in_an_attach_loses_nothing() {
    try_all("attach-power", Step::Attach, &POWER);
}

#[test]
fn a_failure_of_either_disk_in_an_attach_loses_nothing() {
    try_all("attach-failure", Step::Attach, &failures());
}

/// A store that became shorter for a side, and was split from it, knows how long it was whatever becomes of another attach.
#[test]
fn a_power_cut_in_an_attach_after_a_split_leaves_a_store_that_gets_its_size_back() {
    let rig = Rig::new("attach-again");
    let Base { sims, mut model, .. } = together(&rig);
    rig.put_both(&sims);
    let store = rig.mount(0).unwrap();
    store.split(&mut model, "moment").unwrap();
    store.close().unwrap();
    let [first, _] = rig.image();
    let blank = || Sim::new(SIZES[1], 3);
    for nth in 1.. {
        let (disks, _) = rig.put_both(&[first.clone_image(), blank()]);
        let store = rig.mount(0).unwrap();
        disks[0].set_crash_at(disks[0].changes() + nth);
        let done = store.order(&rig.attach()).is_ok();
        store.settle();
        let met = disks[0].is_crashed();
        let cut = disks[0].crash(CrashPolicy::DropAll);
        store.vanish();
        // Another disk again; then it goes.
        rig.put([Some(&cut), None]);
        let store = rig.mount(0).unwrap_or_else(|f| panic!("call {nth}: {f}"));
        store.close().unwrap();
        let [alone, _] = rig.image();
        rig.put_both(&[alone, blank()]);
        let store = rig.mount(0).unwrap_or_else(|f| panic!("call {nth}: {f}"));
        let attached = store.order(&rig.attach());
        assert!(attached.is_ok() && store.in_sync(), "call {nth}: {:?}", attached.map_err(|f| f.to_string()));
        store.order(&MirrorOrder::Detach).unwrap();
        assert_eq!(store.fs.volume().address_space(), SIZES[0], "call {nth}");
        store.prove(&model, &[]).unwrap_or_else(|why| panic!("call {nth}: {why}"));
        store.close().unwrap();
        if !met {
            assert!(done && nth > 10, "{nth} calls");
            return;
        }
    }
}

#[test]
fn a_power_cut_in_the_return_of_a_side_loses_nothing() {
    try_all("return-power", Step::Return, &POWER);
}

#[test]
fn a_failure_of_either_disk_in_the_return_of_a_side_loses_nothing() {
    try_all("return-failure", Step::Return, &failures());
}

#[test]
fn a_power_cut_in_a_split_loses_nothing() {
    try_all("split-power", Step::Split, &POWER);
}

#[test]
fn a_failure_of_either_disk_in_a_split_loses_nothing() {
    try_all("split-failure", Step::Split, &failures());
}

#[test]
fn a_power_cut_in_a_resync_loses_nothing_that_either_half_has() {
    try_all("resync-power", Step::Resync, &POWER);
}

#[test]
fn a_failure_of_either_disk_in_a_resync_loses_nothing_that_either_half_has() {
    try_all("resync-failure", Step::Resync, &failures());
}

#[test]
fn a_power_cut_in_a_detach_loses_nothing() {
    try_all("detach-power", Step::Detach, &POWER);
}

#[test]
fn a_failure_of_either_disk_in_a_detach_loses_nothing() {
    try_all("detach-failure", Step::Detach, &failures());
}

const BIG_BYTES: usize = 9 << 20;

/// Both halves of a split, of which the second has a big file of its own.
fn apart_with_a_big_file(rig: &Rig) -> (Base, Half) {
    let base = apart(rig, |half, _| {
        put(&half.fs, NodeId::ROOT, "big", &bytes(5, BIG_BYTES));
        half.fs.commit().unwrap();
    });
    let half = base.half.clone().unwrap();
    (base, half)
}

/// Leaves room for two thirds of the big file.
fn fill_up(store: &Store) {
    let room = || store.fs.volume().space_with_freed().available as usize;
    let mut names = 0..;
    while room() > BIG_BYTES * 2 / 3 {
        let n: u64 = names.next().expect("a number");
        put(&store.fs, NodeId::ROOT, &format!("large{n}"), &bytes(100 + n, 1 << 20));
        store.fs.commit().unwrap();
    }
}

/// What a resync has received of a half when the power goes is not sent again, and what comes of it is one snapshot.
#[test]
fn a_resync_that_was_cut_off_finds_again_what_it_had_received() {
    let rig = Rig::new("received");
    let (base, half) = apart_with_a_big_file(&rig);
    let (sims, left) = rig.put_both(&base.sims);
    let store = rig.mount(0).unwrap();
    let mut at_cut = 0;
    let cut = store.sides.order(&RESYNC, &mut |told| {
        at_cut = told["received_bytes"].as_u64().unwrap();
        if at_cut as usize > BIG_BYTES * 2 / 3 {
            // As the daemon does all the time.
            store.fs.commit().unwrap();
            left.store(0, SeqCst);
        }
        true
    });
    assert!(cut.is_err() && sims[0].is_crashed() && at_cut < BIG_BYTES as u64, "{cut:?} {at_cut}");
    let disks = [0, 1].map(|n| sims[n].crash(CrashPolicy::DropAll));
    store.vanish();
    let (sims, _) = rig.put_both(&disks);
    assert_eq!(rig.standing(), Ok(Some(Standing::Split)), "nothing of it is overwritten");
    let store = rig.mount(0).unwrap();
    assert_eq!(store.kept(&half.sums), Ok(vec![0]));
    let arrivals = store.fs.arrivals();
    assert_eq!(arrivals.len(), 1);
    assert!(
        arrivals[0].record.received_bytes > BIG_BYTES as u64 / 2,
        "{}",
        arrivals[0].record.received_bytes
    );
    // For all of it there is no room any more, and for the rest there is.
    fill_up(&store);
    let (mut first, mut last, before) = (None, 0, sims[0].counts().bytes_written);
    let mut written = 0;
    let told = store.sides.order(&RESYNC, &mut |told| {
        last = told["received_bytes"].as_u64().unwrap();
        first = first.or(Some(last));
        written = sims[0].counts().bytes_written - before;
        true
    });
    let received = told.unwrap()["received"].clone();
    assert_eq!(received.as_array().map(Vec::len), Some(1), "{received}");
    assert!(first > Some(BIG_BYTES as u64 / 2) && last > BIG_BYTES as u64 * 9 / 10, "{first:?} {last}");
    assert!(written < BIG_BYTES as u64 * 2 / 3, "{written} bytes were written for it");
    assert!(store.in_sync(), "{}", store.sides.status());
    assert_eq!(store.kept(&half.sums), Ok(vec![1]));
    assert!(store.fs.arrivals().is_empty());
    store.prove(&base.model, &["big"]).unwrap();
    store.close().unwrap();
}

/// What a half has of its own and there is no room for is overwritten by nothing: the half stays a store of its own.
#[test]
fn a_resync_without_room_for_what_the_half_has_is_refused_and_changes_nothing() {
    let rig = Rig::new("room");
    let (base, half) = apart_with_a_big_file(&rig);
    rig.put_both(&base.sims);
    let store = rig.mount(0).unwrap();
    fill_up(&store);
    let foretold = MirrorOrder::Resync { with: None, keep: None, discard: false, dry_run: true };
    let foretold = store.order(&foretold).unwrap();
    assert!(foretold["receive_bytes"].as_u64() > Some(BIG_BYTES as u64), "{foretold}");
    for _ in 0..2 {
        let refused = store.order(&RESYNC).unwrap_err();
        assert!(refused.code == Code::NoSpace && refused.message.contains("are free here"), "{refused}");
    }
    assert_eq!(rig.standing(), Ok(Some(Standing::Split)));
    assert!(store.fs.arrivals().is_empty() && store.kept(&half.sums) == Ok(vec![0]));
    store.prove(&base.model, &["big"]).unwrap();
    let there = rig.mount(1).unwrap();
    there.prove(&half.model, &["mine"]).unwrap();
    let big = there.fs.lookup(&ADMIN, NodeId::ROOT, b"big").unwrap().attr.node;
    assert!(read_whole(&there.fs, big).unwrap() == bytes(5, BIG_BYTES));
    there.close().unwrap();
    // What somebody says may be lost needs no room.
    let discard = MirrorOrder::Resync { with: None, keep: None, discard: true, dry_run: false };
    store.order(&discard).unwrap();
    assert!(store.in_sync(), "{}", store.sides.status());
    assert_eq!(store.kept(&half.sums), Ok(vec![0]));
    store.prove(&base.model, &["big"]).unwrap();
    store.close().unwrap();
}
