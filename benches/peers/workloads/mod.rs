//! The workloads, in groups that share their preparation. Each is one definition for all peers.

mod files;
mod large;
mod programs;
mod snapshots;
mod sync;
mod text;

use crate::common::mounts;
use crate::common::raw;
use crate::run::Run;
use crate::{Error, Result};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What a figure counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Million bytes in a second.
    Megabytes,
    /// Operations in a second.
    Operations,
    /// Seconds for the whole.
    Seconds,
    /// Milliseconds for one.
    Milliseconds,
    /// A plain number, not compared.
    Number,
}

/// One workload.
pub struct Phase {
    pub id: &'static str,
    pub title: &'static str,
    pub unit: Unit,
}

/// Workloads that run one after another on one peer.
pub struct Group {
    pub name: &'static str,
    pub needs_snapshots: bool,
    pub phases: &'static [Phase],
    pub run: fn(&mut Run) -> Result<()>,
}

const fn phase(id: &'static str, title: &'static str, unit: Unit) -> Phase {
    Phase { id, title, unit }
}

/// All of them, in the order of the table.
pub const GROUPS: [&Group; 18] = [
    &large::STREAM,
    &text::TEXT,
    &large::RANDOM,
    &large::MAPPED,
    &large::APPEND,
    &sync::FSYNC,
    &files::ONE,
    &files::FOUR,
    &programs::TREE,
    &programs::GIT,
    &programs::BUILD,
    &programs::SQLITE,
    &snapshots::WALK,
    &snapshots::FEW,
    &snapshots::THOUSAND,
    &snapshots::MANY,
    &snapshots::MANY_FILES,
    &snapshots::AMPLIFICATION,
];

/// The groups of these names.
pub fn chosen(names: &[String]) -> Result<Vec<&'static Group>> {
    if names.iter().any(|n| n == "all") {
        return Ok(GROUPS.to_vec());
    }
    let find = |name: &String| {
        let known = || GROUPS.map(|g| g.name).join(", ");
        let found = GROUPS.into_iter().find(|g| g.name == name);
        found.ok_or_else(|| Error::from(format!("no workload {name}; there are {}", known())))
    };
    names.iter().map(find).collect()
}

/// Prints what there is.
pub fn list() {
    println!("peers: {}", mounts::NAMES.join(", "));
    for group in GROUPS {
        println!("{}", group.name);
        group.phases.iter().for_each(|p| println!("    {}", p.title));
    }
}

/// Bytes that neither compress nor repeat, the same in every run.
fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(7).fill(&mut bytes);
    bytes
}

/// Runs `work` in threads that begin together; the sum of what they did.
fn in_threads(count: usize, work: impl Fn(usize) -> Result<u64> + Sync) -> Result<u64> {
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|n| scope.spawn(move || work(n))).collect();
        threads.into_iter().map(|t| t.join().unwrap_or_else(|_| Err("a thread panicked".into()))).sum()
    })
}

/// An end for operations that are counted. An interrupt brings it forward.
struct Deadline(Instant);

impl Deadline {
    fn after(time: Duration) -> Deadline {
        Deadline(Instant::now() + time)
    }

    fn has_come(&self) -> bool {
        raw::interrupted() || Instant::now() >= self.0
    }
}

/// A directory for `count` files each.
fn file_in(dir: &Path, prefix: &str, n: usize, count: usize) -> PathBuf {
    dir.join(format!("{prefix}{}", n / count)).join(format!("file{n}"))
}
