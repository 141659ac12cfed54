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
    MirrorError, MirrorOpening, NewSide, Present, open_sides, parted_at, write_label,
};
use snapfs::device::{CrashPolicy, Device, DeviceError, Mirror, Op, Persistence, Sim};
use snapfs::format::Epoch;
use snapfs::format::mirror::{Label, Standing};
use snapfs::format::scrub::ScrubState;
use snapfs::scrub::Scrub;
use snapfs::volume::{Filled, RINGS, StaleSide, newest_superblock};

use crate::cuts::{Recording, Tried, audit, go_on};
use crate::lines::Model;
use crate::workloads::Workload;
use crate::world::{Excuse, Limits, SIZE, World, open, template};

/// No call of a simulated disk takes that long.
const LIMIT_MS: u32 = 600_000;

/// What is left of two disks.
type Disks = [Option<Arc<Sim>>; 2];

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
        earlier: Vec::new(),
        limit_ms: LIMIT_MS,
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
fn fresh() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// What there is of a mirror, as a mount finds it. A disk without a store is none.
pub fn assemble(sides: Disks) -> Result<MirrorOpening, String> {
    let present = |sim: Option<Arc<Sim>>| {
        let sim = sim?;
        let (epoch, state) = newest_superblock(&*sim).map_or((0, 0), |state| (state.epoch.0, state.seq));
        Some(Present::read(sim, epoch, state))
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
    fn judge_sides(
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
fn show(recording: &Recording, disk: Sim, model: &Model) -> Result<(), String> {
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

/// Attaches a second disk to a store.
pub fn attach(fs: &snapfs::fs::Fs, mirror: &Mirror, disk: Arc<dyn Device>) -> Result<Filled, String> {
    let volume = fs.volume();
    let told = |e: snapfs::volume::VolumeError| e.to_string();
    volume.set_mirrored(true).map_err(told)?;
    fs.commit().map_err(|e| format!("{e:?}"))?;
    let limit = Duration::from_millis(u64::from(LIMIT_MS));
    let new = NewSide { device: disk, path: b"two".to_vec(), partner_path: b"one".to_vec(), limit };
    mirror.join(new, &RINGS).map_err(|e| e.to_string())?;
    volume.fill(mirror, None, &mut |_| ControlFlow::Continue(())).map_err(told)
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

/// A store gets a second disk, is changed, is split, both halves are changed, and the second disk comes back. The power of
/// one disk is cut at its n-th changing call from when the second comes.
pub fn live(victim: usize, nth: u64, seed: u64) -> Result<Lived, String> {
    let sims = [Arc::new(template()), Arc::new(empty())];
    let mirror = Arc::new(Mirror::solo(sims[0].clone(), fresh()));
    let counter = sims[0].clone();
    let mut world = World::new(mirror.clone(), Box::new(move || counter.changes()), Limits::in_steps());
    world.put("first", &vec![1; 300_000]);
    (0..10).for_each(|n| world.put(&format!("kept{n}"), &vec![n; 200_000]));
    world.snap("before");
    world.commit();
    world.excuse = Excuse::Faults;
    sims[victim].set_crash_at(sims[victim].changes() + nth);
    let is_met = || sims.iter().any(|sim| sim.is_crashed());
    let (mut filled, mut changed) = ([0; 2], 0);
    let mut split_at = None;
    let mut half_goes_on = false;
    let steps: Result<(), String> = (|| {
        let fs = world.fs();
        filled[0] = attach(&fs, &mirror, sims[1].clone())?.copied;
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
        let written = || sims.iter().map(|sim| sim.counts().bytes_written).sum::<u64>();
        let at_split = written();
        world.put("alone", &vec![3; 100_000]);
        world.commit();
        if is_met() {
            return Ok(());
        }
        half_goes_on = true;
        {
            let other = open(Arc::new(assemble([Some(sims[1].clone()), None])?.mirror), &Limits::default())?;
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
        let parted_at = mirror.label().map_or(0, |label| label.parted_at);
        let told = |e: snapfs::volume::VolumeError| e.to_string();
        let stale = StaleSide::read(sims[1].clone(), Epoch(parted_at)).map_err(told)?;
        fs.volume().set_mirrored(true).map_err(told)?;
        fs.commit().map_err(|e| format!("{e:?}"))?;
        split_at = None;
        let limit = Duration::from_millis(u64::from(LIMIT_MS));
        let new = NewSide { device: sims[1].clone(), path: Vec::new(), partner_path: Vec::new(), limit };
        mirror.join(new, &RINGS).map_err(|e| e.to_string())?;
        let go = &mut |_| ControlFlow::Continue(());
        filled[1] = fs.volume().fill(&mirror, Some(&stale), go).map_err(told)?.copied;
        world.put("again", &vec![4; 50_000]);
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
    for policy in [CrashPolicy::DropAll, CrashPolicy::Random(seed.wrapping_add(nth))] {
        let disks = sims.clone().map(|sim| sim.crash(policy));
        let copy = |n: usize| Some(disks[n].clone_image());
        let here = |what: &str, why: String| format!("{policy:?}, {what}: {why}");
        // The second disk alone is no store, one of its own, or has everything.
        let label = snapfs::device::mirror::read_label(&disks[1]).map_err(|e| e.to_string())?;
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
            (Some(Standing::Together | Standing::Alone), None) if victim == 0 || !met => {
                recording
                    .judge_sides([None, copy(1)], allowed.clone())
                    .map_err(|why| here("the second", why))?;
            }
            (Some(Standing::Incomplete), _) if assemble([None, copy(1).map(Arc::new)]).is_ok() => {
                return Err(here("the second", "it was served before it was filled".into()));
            }
            _ => {}
        }
        if victim == 1 || !met {
            recording.judge_sides([copy(0), None], allowed.clone()).map_err(|why| here("the first", why))?;
        }
        // When it was split both are stores of their own.
        let second = if split_at.is_some() { None } else { copy(1) };
        recording.judge_sides([copy(0), second], allowed.clone()).map_err(|why| here("both", why))?;
    }
    let tables = RINGS.iter().map(|(_, len)| len).sum::<u64>();
    Ok(Lived { met, filled: filled.map(|bytes| bytes.saturating_sub(tables)), changed })
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
    let behind = opening.behind.ok_or("an older copy was taken for an equal")?;
    let mirror = Arc::new(opening.mirror);
    let fs = open(mirror.clone(), &Limits::default())?;
    let labels = mirror.label().zip(behind.label);
    let at = labels.map_or(0, |(ours, theirs)| parted_at(&ours, &theirs));
    let told = |e: snapfs::volume::VolumeError| e.to_string();
    let stale = StaleSide::read(behind.device, Epoch(at)).map_err(told)?;
    let limit = Duration::from_millis(u64::from(LIMIT_MS));
    let new = NewSide { device: sims[1].clone(), path: Vec::new(), partner_path: Vec::new(), limit };
    mirror.join(new, &RINGS).map_err(|e| e.to_string())?;
    let go = &mut |_| ControlFlow::Continue(());
    let filled = fs.volume().fill(&mirror, Some(&stale), go).map_err(told)?;
    drop(fs);
    drop(mirror);
    let last = recording.history.len() - 1;
    for n in 0..2 {
        let mut alone = [None, None];
        alone[n] = Some(sims[n].crash(CrashPolicy::DropAll));
        recording.judge_sides(alone, last..=last).map_err(|why| format!("side {n}: {why}"))?;
    }
    Ok(filled.done.saturating_sub(RINGS.iter().map(|(_, len)| len).sum::<u64>() + (1 << 20)))
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
