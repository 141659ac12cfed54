//! The n-th call of a device fails, for every n until a workload is through without meeting the failure.
//!
//! Whatever fails, the answer tells it, nothing is half-done, and nothing acknowledged is lost. After a failed write or
//! flush the store takes no changes, tells why, and can be read; want of space refuses what asks for more and nothing
//! else. Opened again on a sound device the store is clean and shows what was acknowledged, or what was tried since.

use std::sync::Arc;

use fastrand::Rng;
use snapfs::device::{Op, Persistence, Sim};

use crate::cuts::{Recording, audit, go_on};
use crate::workloads::Workload;
use crate::world::{Excuse, Limits, World, open, template};

/// A failure to come.
#[derive(Clone, Copy, Debug)]
pub struct FaultKind {
    pub op: Op,
    pub persistence: Persistence,
    /// The host says that it is full.
    pub for_space: bool,
}

/// All of them.
pub fn ways() -> Vec<FaultKind> {
    // A host that allocates late may be full at a write or a flush although the space was promised.
    let ops =
        [(Op::Read, false), (Op::Write, false), (Op::Write, true), (Op::Flush, false), (Op::Flush, true)];
    let ways = ops.into_iter().chain([(Op::Back, true)]).flat_map(|(op, for_space)| {
        let way = move |persistence| FaultKind { op, persistence, for_space };
        [Persistence::Once, Persistence::Forever].map(way)
    });
    ways.collect()
}

/// What came of a sweep.
#[derive(Default, Clone, Copy)]
pub struct Swept {
    /// Runs that met the failure.
    pub runs: u64,
    /// Of these, runs after which the store took no changes.
    pub stopped: u64,
    /// Operations that were refused.
    pub refused: u64,
}

/// Runs the workload with the failure at its first, second, third... call, until it is not met or `most` runs are done.
pub fn sweep(
    workload: &Workload,
    seed: u64,
    calls: u64,
    failure: FaultKind,
    most: u64,
) -> Result<Swept, String> {
    let mut swept = Swept::default();
    for nth in 1..=most {
        let what = format!("{} with {failure:?} at call {nth}", workload.name);
        match run(workload, seed, calls, failure, nth).map_err(|why| format!("{what}: {why}"))? {
            None => break,
            Some((stopped, refused)) => {
                swept.runs += 1;
                swept.stopped += u64::from(stopped);
                swept.refused += refused;
            }
        }
    }
    Ok(swept)
}

/// One run; none if the failure was not met.
fn run(
    workload: &Workload,
    seed: u64,
    calls: u64,
    failure: FaultKind,
    nth: u64,
) -> Result<Option<(bool, u64)>, String> {
    let sim = Arc::new(template());
    let counter = sim.clone();
    // Hardly any cache, so that reads reach the device.
    let limits = Limits { cache_bytes: 1, ..Limits::default() };
    let mut world = World::new(sim.clone(), Box::new(move || counter.changes()), limits);
    world.excuse = Excuse::Faults;
    match failure.for_space {
        true => sim.fail_for_space(failure.op, nth, failure.persistence),
        false => sim.fail(failure.op, nth, failure.persistence),
    }
    (workload.run)(&mut world, &mut Rng::with_seed(seed), calls);
    let met = sim.faults_struck() > 0;
    let sound: Sim = sim.clone_image();
    let stopped = world.is_stopped();
    if met && stopped && failure.op != Op::Read {
        world.prove_stopped();
        world.prove_readable();
    }
    let refused = world.refused;
    let (history, numbers) = world.vanish();
    if !met {
        return Ok(None);
    }
    let recording =
        Recording { name: workload.name.into(), seed, base: template(), tape: Vec::new(), history, numbers };
    let fs = open(Arc::new(sound), &Limits::default())?;
    audit(&fs)?;
    let oldest = recording.history.iter().rposition(|m| m.acknowledged).unwrap_or(0);
    recording.find(&fs, oldest..=recording.history.len() - 1)?;
    go_on(&fs)?;
    Ok(Some((stopped, refused)))
}
