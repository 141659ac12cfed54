//! The auditor: proves the invariants of `docs/architecture.md` from the bytes of one committed state.
//!
//! It trusts nothing that the running volume holds in memory, reads around the cache, changes nothing, and works offline
//! as well as on a live store (the state is pinned). It reports what it finds, in stable sentences, and goes on.

mod derived;
mod files;
mod lists;
mod object;
mod path;
mod refs;
mod space;
mod tiling;
mod waiting;

pub use derived::{Counters, Derived, SpaceTruth, derive};

pub use path::path_of;
pub use waiting::check_waiting;

use crate::volume::audit::Committed;
use crate::volume::{Volume, VolumeError};

/// How much is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Depth {
    /// All metadata.
    Metadata,
    /// All metadata and every block of file content, once each.
    Data,
}

/// What the auditor counted and found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Epoch of the state.
    pub epoch: u64,
    /// Views: heads, snapshots, hidden ones.
    pub views: u64,
    /// Tree nodes read.
    pub nodes: u64,
    /// Items read.
    pub items: u64,
    /// Inodes of the live tree.
    pub inodes: u64,
    /// Snapshots whose files were not read, because there are too many; their space was proved.
    pub snapshots_unchecked: u64,
    /// Bytes that the space map calls allocated.
    pub allocated_bytes: u64,
    /// Bytes of file content whose checksums were proved.
    pub data_bytes: u64,
    /// Records that wait in the log of a store that nobody has open, and their bytes.
    pub log_records: u64,
    /// See there.
    pub log_bytes: u64,
    /// Everything that is not as it must be; empty means proved.
    pub problems: Vec<String>,
}

/// Problems reported at most; a broken root would otherwise drown the reader.
const PROBLEMS_MAX: usize = 200;

impl Report {
    /// About a state of which nothing is proved yet.
    fn of(state: &Committed) -> Report {
        Report {
            epoch: state.superblock.epoch.0,
            views: state.records.len() as u64,
            allocated_bytes: state.allocated.bytes(),
            ..Report::default()
        }
    }

    fn problem(&mut self, what: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(what);
        }
    }

    fn is_full(&self) -> bool {
        self.problems.len() >= PROBLEMS_MAX
    }

    /// True if everything was proved.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Audits the newest committed state of a volume. An error means that not even its tables can be read.
pub fn check(volume: &Volume, depth: Depth) -> Result<Report, VolumeError> {
    let (state, mut report) = check_state(volume, depth)?;
    files::check(&state, &mut report);
    Ok(report)
}

/// [`check`] without what makes trees into files: for trees that hold something else.
pub fn check_space(volume: &Volume, depth: Depth) -> Result<Report, VolumeError> {
    check_state(volume, depth).map(|(_, report)| report)
}

fn check_state(volume: &Volume, depth: Depth) -> Result<(Committed, Report), VolumeError> {
    let state = volume.committed()?;
    let mut report = Report::of(&state);
    space::check(&state, depth, &mut report, &mut Derived::default());
    Ok((state, report))
}

#[cfg(test)]
mod tests;
