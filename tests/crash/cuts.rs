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

use crate::observe::{self, Numbers};
use crate::reference::Model;
use crate::tape::{Call, Recorder};
use crate::workloads::Workload;
use crate::world::{Limits, Moment, World, open, template};

/// Whether everything that was answered is there when all writes survive: what the death of the daemon alone leaves.
pub const ANSWERED_IS_WRITTEN: bool = true;

/// A workload that has run.
pub struct Recording {
    pub name: &'static str,
    pub seed: u64,
    pub tape: Vec<Call>,
    pub history: Vec<Moment>,
    pub numbers: Numbers,
}

/// Runs a workload to its end.
pub fn record(workload: &Workload, seed: u64, calls: u64) -> Recording {
    let recorder = Arc::new(Recorder::new(template()));
    let counter = recorder.clone();
    let mut world = World::new(recorder.clone(), Box::new(move || counter.len()), Limits::default());
    (workload.run)(&mut world, &mut Rng::with_seed(seed), calls);
    let (history, numbers) = world.vanish();
    Recording { name: workload.name, seed, tape: recorder.tape(), history, numbers }
}

impl Recording {
    /// Moments that may be found after the power was cut before call `cut` (counted from 0).
    pub fn allowed(&self, cut: u64, policy: CrashPolicy) -> RangeInclusive<usize> {
        let whole = ANSWERED_IS_WRITTEN && policy == CrashPolicy::KeepAll;
        let counts = |m: &&Moment| (m.acknowledged || whole) && m.after <= cut;
        let oldest = self.history.iter().rposition(|m| counts(&m)).unwrap_or(0);
        let newest = self.history.iter().rposition(|m| m.before < cut).unwrap_or(0);
        oldest..=newest.max(oldest)
    }

    /// The disk as it is before call `cut`.
    pub fn disk_at(&self, cut: u64) -> Sim {
        let sim = template();
        self.tape[..cut as usize].iter().for_each(|call| call.play(&sim));
        sim
    }

    /// Judges what a power cut before call `cut` leaves on `disk`. Returns what it shows.
    pub fn judge(&self, disk: Sim, cut: u64, policy: CrashPolicy) -> Result<&Model, String> {
        let fs = open(Arc::new(disk), &Limits::default())?;
        audit(&fs)?;
        let found = self.find(&fs, self.allowed(cut, policy))?;
        if cut.is_multiple_of(16) {
            go_on(&fs)?;
        }
        Ok(found)
    }

    /// Which of the allowed moments the store shows.
    pub fn find(&self, fs: &Fs, allowed: RangeInclusive<usize>) -> Result<&Model, String> {
        let seen = observe::observe(fs)?;
        let shows = |model: &&Model| observe::compare(&seen, model, &self.numbers).is_ok();
        for n in allowed.clone().rev() {
            let moment = &self.history[n];
            let steps = if n == *allowed.start() { &[] } else { &moment.steps[..] };
            if let Some(found) = std::iter::once(&moment.model).chain(steps.iter().rev()).find(shows) {
                return Ok(found);
            }
        }
        let elsewhere = self.history.iter().rposition(|moment| shows(&&moment.model));
        let tell = |n: usize| {
            let moment = &self.history[n];
            let why = observe::compare(&seen, &moment.model, &self.numbers).err().unwrap_or_default();
            format!("\n    not moment {n} ({}): {why}", moment.what)
        };
        Err(format!(
            "it shows {} and none of these:{}",
            elsewhere.map_or("no moment of the history".into(), tell),
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
    use crate::observe::{ADMIN, READ, snapdir};
    use snapfs::ops::{NodeId, OpenFlags, Operations};
    let done = (|| {
        let write = OpenFlags { write: true, ..READ };
        let (entry, handle) = fs.create(&ADMIN, NodeId::ROOT, b"after the crash", 0o600, write)?;
        fs.write(entry.attr.node, handle, 0, &[7; 10_000], false)?;
        fs.mkdir(&ADMIN, snapdir(), b"after the crash", 0)?;
        fs.unlink(&ADMIN, NodeId::ROOT, b"after the crash")?;
        fs.release(entry.attr.node, handle);
        fs.forget(entry.attr.node);
        for snapshot in fs.snapshots() {
            fs.delete_snapshot(&snapshot.name)?;
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

/// Cuts the power before each of the calls in `from..to`.
pub fn try_all(recording: &Recording, from: u64, to: u64) -> Result<Tried, String> {
    let sim = recording.disk_at(from);
    let mut tried = Tried::default();
    for cut in from..to {
        let call = recording.tape.get(cut as usize);
        let seed = recording.seed.wrapping_mul(0x9E37_79B9).wrapping_add(cut * 2);
        let mut policies = vec![CrashPolicy::KeepAll, CrashPolicy::Random(seed), CrashPolicy::Shuffled(seed)];
        // What is durable changes only in a flush: the last cut before one asks the most of it.
        if call.is_none_or(Call::is_flush) {
            policies.push(CrashPolicy::DropAll);
        }
        tried.cuts += 1;
        for policy in policies {
            recording.judge(sim.crash(policy), cut, policy).map_err(|why| {
                format!(
                    "{}: power cut before call {cut} of {}, {policy:?}: {why}",
                    recording.name,
                    recording.tape.len()
                )
            })?;
            tried.disks += 1;
        }
        if let Some(call) = call {
            call.play(&sim);
        }
    }
    Ok(tried)
}
