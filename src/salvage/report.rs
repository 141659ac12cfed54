//! What is asked of a salvage, and what it tells: progress, every name, and what came out in all.

use crate::ops::FileType;

/// Damaged ranges of a file that are told one by one at most.
const LOSSES_MAX: usize = 1000;

/// What is to be got out.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Name of a snapshot; else the live tree.
    pub snapshot: Option<Vec<u8>>,
    /// Take the newest nodes on the device, wherever superblocks and roots lead.
    pub by_scan: bool,
    /// The store, by the first 8 bytes of its uuid, if the device has nodes of several.
    pub fsid: Option<u64>,
}

/// How far it is.
#[derive(Clone, Copy, Debug)]
pub enum SalvageProgress {
    /// Looking for nodes: bytes read of all.
    Scanning {
        /// Bytes read.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Getting files out.
    Files {
        /// Names so far.
        names: u64,
        /// Bytes of content so far.
        bytes: u64,
    },
}

/// How well something came out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// All that it was.
    Whole,
    /// A part.
    Damaged,
    /// Nothing but its name.
    Lost,
}

/// What became of the content of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContentReport {
    /// Length of the file in bytes.
    pub size: u64,
    /// Bytes that were read and proved.
    pub good_bytes: u64,
    /// Ranges (offset, length) that are holes now because they could not be read, or may be; at most 1000.
    pub lost: Vec<(u64, u64)>,
    /// Bytes of content whose place in the file is not known.
    pub missing_bytes: u64,
}

impl ContentReport {
    /// True if nothing is known to be lost.
    pub fn is_whole(&self) -> bool {
        self.lost.is_empty() && self.missing_bytes == 0
    }

    /// Takes note of a range that could not be read.
    pub(super) fn lose(&mut self, offset: u64, len: u64) {
        let room = self.lost.len() < LOSSES_MAX;
        match self.lost.last_mut() {
            Some((at, l)) if *at + *l == offset => *l += len,
            _ if len > 0 && room => self.lost.push((offset, len)),
            _ => {}
        }
    }
}

/// One name that came out, or would.
#[derive(Clone, Debug)]
pub struct Rescued {
    /// Path below the output directory; of one beyond 64 KiB `...` and its end.
    pub path: Vec<u8>,
    /// What it is, if that is known.
    pub kind: Option<FileType>,
    /// How well.
    pub state: Outcome,
    /// Content of a file.
    pub content: ContentReport,
    /// What else is wrong, in words.
    pub notes: Vec<String>,
}

/// What came out in all.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Where the tree was found, in words.
    pub source: Vec<String>,
    /// Names: whole, damaged, lost.
    pub whole: u64,
    /// See `whole`.
    pub damaged: u64,
    /// See `whole`.
    pub lost: u64,
    /// Names in `lost+found`.
    pub without_parent: u64,
    /// Proved bytes of content.
    pub bytes: u64,
    /// Leaves of the tree that were read, and ranges of it that are lost.
    pub leaves: u64,
    /// See `leaves`.
    pub lost_ranges: u64,
    /// Bytes of the device that could not be read, where all of it was.
    pub unreadable_bytes: u64,
    /// The tree is that of an older state: newer ones, so many, lead nowhere.
    pub newer_states: u64,
}

impl Summary {
    /// True if nothing is known to be lost.
    pub fn is_whole(&self) -> bool {
        let found = self.newer_states == 0 && self.lost_ranges == 0;
        found && self.damaged == 0 && self.lost == 0 && self.without_parent == 0
    }
}

/// Why nothing, or no more, came out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SalvageError {
    /// There is nothing of a store.
    Nothing,
    /// No snapshot of that name was found.
    NoSuchSnapshot {
        /// Some that were.
        known: Vec<String>,
    },
    /// The output cannot be written.
    Output(String),
}

impl std::fmt::Display for SalvageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SalvageError::Nothing => write!(f, "nothing of a store was found"),
            SalvageError::NoSuchSnapshot { known } if known.is_empty() => {
                write!(f, "no snapshot of that name was found, and no other")
            }
            SalvageError::NoSuchSnapshot { known } => {
                write!(f, "no snapshot of that name was found; there are: {}", known.join(", "))
            }
            SalvageError::Output(what) => write!(f, "{what}"),
        }
    }
}

impl std::error::Error for SalvageError {}

/// Who is told of progress and of every name.
pub trait Listener {
    /// It goes on.
    fn progress(&mut self, progress: SalvageProgress);
    /// A name is done.
    fn rescued(&mut self, rescued: Rescued);
}
