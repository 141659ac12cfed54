//! What the auditor counted and found, and how much it reads.

use crate::volume::audit::Committed;

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
    pub(super) fn of(state: &Committed) -> Report {
        Report {
            epoch: state.superblock.epoch.0,
            views: state.records.len() as u64,
            allocated_bytes: state.allocated.bytes(),
            ..Report::default()
        }
    }

    pub(super) fn problem(&mut self, what: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(what);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.problems.len() >= PROBLEMS_MAX
    }

    /// True if everything was proved.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}
