//! The n-th write is lost or lands elsewhere, the n-th read returns what was there before, and the device says that all
//! went well, for every n until a workload is through without meeting it.
//!
//! Whatever it does, what can be read is right: it is an error, or what some moment of the history was. What was
//! acknowledged and is gone is told, by an error, by the replay of the log or by the audit; the one lie that cannot be
//! seen is the loss of what was written last, to the log or of content that its last records refer to, with no flush and
//! record behind it: that leaves a log that is whole and ends earlier.

use std::sync::Arc;

use fastrand::Rng;
use snapfs::device::{Call, Op, Sim};
use snapfs::limits::{LOG_BYTES_MIN, RESERVED_BYTES};

use crate::cuts::{Recording, audit};
use crate::workloads::Workload;
use crate::world::{Excuse, Limits, World, open, template};

/// What a device does instead of what it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// A write does nothing.
    LostWrite,
    /// A write lands at another place.
    MisdirectedWrite,
    /// A read returns what an earlier state of the disk had there.
    StaleRead,
}

/// All of them.
pub const LIES: [Lie; 3] = [Lie::LostWrite, Lie::MisdirectedWrite, Lie::StaleRead];

/// Bytes at the start of the store where a misdirected write lands: superblocks, log and what is allocated first.
const TARGETS: u64 = 4 << 20;

/// What came of a sweep.
#[derive(Default, Clone, Copy)]
pub struct Lied {
    /// Runs that met the lie.
    pub runs: u64,
    /// Of these, runs in which somebody told.
    pub told: u64,
    /// Runs that lost what was acknowledged last, unseen.
    pub unseen: u64,
}

/// Runs the workload with the lie at its first, second, third... call, until it is not met or `most` runs are done.
pub fn sweep(workload: &Workload, seed: u64, calls: u64, lie: Lie, most: u64) -> Result<Lied, String> {
    let (earlier, _) = play(workload, seed, calls / 2, |_| {});
    let mut lied = Lied::default();
    for nth in 1..=most {
        let what = |why| format!("{} with {lie:?} at call {nth}: {why}", workload.name);
        let (device, world) = play(workload, seed, calls, |sim| match lie {
            Lie::LostWrite => sim.lose_nth_write(nth),
            Lie::MisdirectedWrite => sim.misdirect_nth_write(nth, target(seed, nth)),
            Lie::StaleRead => sim.nth_read_is_stale(nth, &earlier),
        });
        let met = device.faults_struck() > 0;
        let refused = world.refused > 0;
        let (history, numbers) = world.vanish();
        if !met {
            break;
        }
        let recording = Recording {
            name: workload.name.into(),
            seed,
            base: template(),
            tape: Vec::new(),
            history,
            numbers,
        };
        let seen = judge(&recording, device.clone_image()).map_err(what)?;
        let calls = device.take_recording();
        let excused = || lie != Lie::StaleRead && hits_the_end_of_the_log(&calls, nth, target(seed, nth));
        if seen == Seen::Lost && !refused && !excused() {
            return Err(what("what was acknowledged is gone, and nobody tells".into()));
        }
        lied.runs += 1;
        lied.told += u64::from(refused || seen == Seen::Told);
        lied.unseen += u64::from(!refused && seen == Seen::Lost);
    }
    Ok(lied)
}

/// Runs the workload on a device that was prepared.
fn play(workload: &Workload, seed: u64, calls: u64, prepare: impl FnOnce(&Sim)) -> (Arc<Sim>, World) {
    let sim = Arc::new(template());
    let counter = sim.clone();
    let limits = Limits { cache_bytes: 1, ..Limits::default() };
    let mut world = World::new(sim.clone(), Box::new(move || counter.changes()), limits);
    world.excuse = Excuse::Faults;
    sim.start_recording();
    prepare(&sim);
    (workload.run)(&mut world, &mut Rng::with_seed(seed), calls);
    (sim, world)
}

fn target(seed: u64, nth: u64) -> u64 {
    Rng::with_seed(seed ^ nth << 20).u64(0..TARGETS / 4096) * 4096
}

/// True if the `nth` write came behind the last flush that a record tells of, or it, or the place where it landed, was of
/// the log there: nothing was written to the log since that would prove that there was more.
fn hits_the_end_of_the_log(calls: &[Call], nth: u64, to: u64) -> bool {
    let log = RESERVED_BYTES..RESERVED_BYTES + LOG_BYTES_MIN;
    let to_log = |call: &Call| call.op == Op::Write && log.contains(&call.offset);
    let last = calls.iter().rposition(to_log).expect("the log is in use");
    let flushed = calls[..last].iter().rposition(|call| call.op == Op::Flush).map_or(0, |at| at + 1);
    let mut writes = calls.iter().enumerate().filter(|(_, call)| call.op == Op::Write);
    let (place, own) = writes.nth(nth as usize - 1).expect("it was met");
    let hit = |call: &Call, at: u64| at < call.offset + call.len && call.offset < at + own.len;
    let mut to_its_end = calls[flushed..].iter().filter(|call| to_log(call));
    place >= flushed || to_its_end.any(|call| hit(call, own.offset) || hit(call, to))
}

/// What somebody who opens the store learns.
#[derive(PartialEq, Eq)]
enum Seen {
    /// All is there.
    Right,
    /// Something is wrong, and that is told.
    Told,
    /// What was acknowledged is not there, and nobody tells.
    Lost,
}

fn judge(recording: &Recording, disk: Sim) -> Result<Seen, String> {
    let Ok(fs) = open(Arc::new(disk), &Limits::default()) else { return Ok(Seen::Told) };
    let told = fs.recovered().damage.is_some() || fs.volume().is_read_only();
    let last = recording.history.len() - 1;
    let durable = recording.history.iter().rposition(|m| m.acknowledged).unwrap_or(0);
    match recording.find(&fs, durable..=last) {
        _ if crate::observe::observe(&*fs, Some(&fs)).is_err() => Ok(Seen::Told),
        Ok(_) if told || audit(&fs).is_err() => Ok(Seen::Told),
        Ok(_) => Ok(Seen::Right),
        Err(_) => {
            recording.find(&fs, 0..=last)?;
            Ok(if told || audit(&fs).is_err() { Seen::Told } else { Seen::Lost })
        }
    }
}
