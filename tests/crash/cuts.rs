//! The power is cut at every changing call of a device, and what is left is judged.
//!
//! The calls of a workload are recorded once and played onto a fresh disk; before each of them, disks are made as a
//! power cut there could leave them. Each must open, pass the audit, and show one state of the history: none older than
//! what was acknowledged before the cut, none that had not begun.

use std::ops::RangeInclusive;
use std::sync::Arc;

use fastrand::Rng;
use snapfs::check::{self, Depth};
use snapfs::device::{CrashPolicy, Sim};
use snapfs::fs::Fs;

use crate::lines::Model;
use crate::observe::{self, Numbers};
use crate::tape::{Call, Recorder};
use crate::workloads::Workload;
use crate::world::{Limits, Moment, World, open, template};

/// A workload that has run.
pub struct Recording {
    pub name: String,
    pub seed: u64,
    /// The disk before it.
    pub base: Sim,
    pub tape: Vec<Call>,
    pub history: Vec<Moment>,
    pub numbers: Numbers,
}

/// Runs a workload until it has made so many changing calls.
pub fn record(workload: &Workload, seed: u64, calls: u64) -> Recording {
    let recorder = Arc::new(Recorder::new(template()));
    let counter = recorder.clone();
    let mut world = World::new(recorder.clone(), Box::new(move || counter.len()), Limits::in_steps());
    (workload.run)(&mut world, &mut Rng::with_seed(seed), calls);
    let (history, numbers) = world.vanish();
    Recording { name: workload.name.into(), seed, base: template(), tape: recorder.tape(), history, numbers }
}

/// Opens a disk that shows `model`, changes something, and commits.
fn record_recovery(of: &Recording, disk: Sim, model: &Model, name: String) -> Recording {
    let base = disk.clone_image();
    let recorder = Arc::new(Recorder::new(disk));
    let counter = recorder.clone();
    let known = (model.clone(), of.numbers.clone());
    let world = World::resume(recorder.clone(), Box::new(move || counter.len()), Limits::in_steps(), known);
    let mut world = world.expect("it was opened before");
    world.put("recovered", b"changed after the recovery");
    world.commit();
    let (history, numbers) = world.vanish();
    Recording { name, seed: of.seed, base, tape: recorder.tape(), history, numbers }
}

impl Recording {
    /// Moments that may be found after the power was cut before call `cut` (counted from 0).
    pub fn allowed(&self, cut: u64, policy: CrashPolicy) -> RangeInclusive<usize> {
        // When every write survives, as after the death of the daemon alone, all that was answered is there.
        let whole = policy == CrashPolicy::KeepAll;
        let counts = |m: &&Moment| (m.acknowledged || whole) && m.after <= cut;
        let oldest = self.history.iter().rposition(|m| counts(&m)).unwrap_or(0);
        let newest = self.history.iter().rposition(|m| m.before < cut).unwrap_or(0);
        oldest..=newest.max(oldest)
    }

    /// The disk as it is before call `cut`.
    pub fn disk_at(&self, cut: u64) -> Sim {
        let sim = self.base.clone_image();
        self.tape[..cut as usize].iter().for_each(|call| call.play(&sim));
        sim
    }

    /// Judges what a power cut before call `cut` leaves on `disk`. Returns what it shows.
    pub fn judge(&self, disk: Sim, cut: u64, policy: CrashPolicy) -> Result<&Model, String> {
        let fs = open(Arc::new(disk), &Limits::in_steps())?;
        crate::past::no_orphans(&fs)?;
        audit(&fs)?;
        let found = self.find(&fs, self.allowed(cut, policy))?;
        if cut.is_multiple_of(16) {
            go_on(&fs)?;
        }
        Ok(found)
    }

    /// Which of the allowed moments the store shows.
    pub fn find(&self, fs: &Fs, allowed: RangeInclusive<usize>) -> Result<&Model, String> {
        let seen = observe::observe(fs, Some(fs))?;
        let names = |line: &[u8]| seen.names_of_snapshots(line);
        let shows = |model: &&Model| {
            let known = model.with_known_guards(names);
            known.is_some_and(|model| observe::compare(&seen, &model, &self.numbers).is_ok())
        };
        for n in allowed.clone().rev() {
            let moment = &self.history[n];
            let steps = if n == *allowed.start() { &[] } else { &moment.steps[..] };
            if let Some(found) = std::iter::once(&moment.model).chain(steps.iter().rev()).find(shows) {
                return Ok(found);
            }
        }
        let elsewhere = self.history.iter().rposition(|moment| shows(&&moment.model));
        let elsewhere = elsewhere.map(|n| format!("moment {n} ({})", self.history[n].what));
        let tell = |n: usize| {
            let moment = &self.history[n];
            let why = observe::compare(&seen, &moment.model, &self.numbers).err().unwrap_or_default();
            format!("\n    not moment {n} ({}): {why}", moment.what)
        };
        Err(format!(
            "it shows {} and none of these:{}",
            elsewhere.unwrap_or("no moment of the history".into()),
            allowed.rev().take(8).map(tell).collect::<String>()
        ))
    }
}

/// The store must be proved.
pub fn audit(fs: &Fs) -> Result<(), String> {
    let report = check::check(fs.volume(), Depth::Data).map_err(|e| format!("check: {e}"))?;
    if report.is_clean() { Ok(()) } else { Err(format!("check: {}", report.problems.join("\n    "))) }
}

/// The store must be of use.
pub fn go_on(fs: &Fs) -> Result<(), String> {
    use crate::observe::ADMIN;
    use crate::past;
    use snapfs::ops::{NodeId, OpenFlags, Operations};
    let done = (|| {
        let write = OpenFlags::READ_WRITE;
        for (n, line) in fs.volume().lines().into_iter().enumerate() {
            let root = NodeId::live(line.slot.0, NodeId::ROOT.ino());
            let (entry, handle) = fs.create(&ADMIN, root, b"after the crash", 0o600, write)?;
            fs.write(entry.attr.node, handle, 0, &[7; 10_000], false)?;
            past::take(fs, root, b"after the crash")?;
            fs.unlink(&ADMIN, root, b"after the crash")?;
            fs.release(entry.attr.node, handle);
            fs.forget(entry.attr.node);
            for snapshot in fs.volume().snapshots(line.id).iter().filter(|s| s.line == line.id) {
                past::delete(fs, &line.name, &snapshot.name)?;
            }
            if n % 2 == 1 {
                past::drop_line(fs, &line.name, root)?;
            }
        }
        fs.commit()?;
        fs.commit()
    })();
    done.map_err(|e: snapfs::ops::Error| format!("going on: {e:?}"))?;
    audit(fs).map_err(|e| format!("after going on: {e}"))
}

/// What was tried.
#[derive(Default, Clone, Copy)]
pub struct Tried {
    /// Device calls at which the power was cut.
    pub cuts: u64,
    /// Disks that were judged.
    pub disks: u64,
}

impl std::ops::AddAssign for Tried {
    fn add_assign(&mut self, other: Tried) {
        *self = Tried { cuts: self.cuts + other.cuts, disks: self.disks + other.disks };
    }
}

/// What is tried at each call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Tries {
    /// The disks that a power cut may leave.
    Once,
    /// And, on each of them, the same at every call of the recovery.
    Recovery,
}

/// What a power cut before a call may leave: everything that was written, as after the death of the daemon alone, and
/// another loss or order for each call. What is durable changes only in a flush: the last call before one asks the most
/// of it.
fn policies(recording: &Recording, cut: u64) -> Vec<CrashPolicy> {
    let seed = recording.seed.wrapping_mul(0x9E37_79B9).wrapping_add(cut);
    let lossy = if cut.is_multiple_of(2) { CrashPolicy::Random(seed) } else { CrashPolicy::Shuffled(seed) };
    let mut policies = vec![CrashPolicy::KeepAll, lossy];
    if recording.tape.get(cut as usize).is_none_or(Call::is_flush) {
        policies.push(CrashPolicy::DropAll);
    }
    policies
}

/// Cuts the power before each of the calls in `from..to`.
pub fn try_all(recording: &Recording, from: u64, to: u64, depth: Tries) -> Result<Tried, String> {
    let sim = recording.disk_at(from);
    let mut tried = Tried::default();
    for cut in from..to {
        tried.cuts += 1;
        for policy in policies(recording, cut) {
            let disk = sim.crash(policy);
            let calls = recording.tape.len();
            let here = format!("{}: power cut before call {cut} of {calls}, {policy:?}", recording.name);
            let found =
                recording.judge(disk.clone_image(), cut, policy).map_err(|why| format!("{here}: {why}"))?;
            tried.disks += 1;
            if depth == Tries::Recovery {
                let second = record_recovery(recording, disk, found, here);
                tried += try_all(&second, 0, second.tape.len() as u64 + 1, Tries::Once)?;
            }
        }
        if let Some(call) = recording.tape.get(cut as usize) {
            call.play(&sim);
        }
    }
    Ok(tried)
}
