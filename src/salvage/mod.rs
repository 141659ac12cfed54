//! Getting files out of a store whose superblocks, roots or nodes are lost. The store is only read.
//!
//! [`source`] finds where the tree of the wanted view begins and [`leaves`] what is left of it, with the help of a
//! [`scan`] of the device where pointers lead nowhere; [`items`] reads it, [`names`] goes down the directories and
//! collects what has lost its directory, [`entry`] writes out one name, [`content`] proves and copies what is in files, [`output`] writes it, inside
//! one directory. Nothing unproved is written: what does not fit its checksum is a hole, and told.
//!
//! Bounds: an image decides nothing but the amount of work, which is proportional to its nodes and to what its extents
//! name. Memory is about 100 bytes for each leaf of the tree, the same for each node on the device if it is scanned, 100
//! bytes and the name for each directory and each file with several names, and 20 for every other file.

mod content;
mod entry;
mod items;
mod leaves;
mod names;
mod output;
mod scan;
mod source;
#[cfg(test)]
mod tests;

pub use content::Content;

use crate::device::Device;
use crate::ops::FileType;
use std::path::Path;
use std::sync::Arc;

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
pub enum Progress {
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
pub enum State {
    /// All that it was.
    Whole,
    /// A part.
    Damaged,
    /// Nothing but its name.
    Lost,
}

/// One name that came out, or would.
#[derive(Clone, Debug)]
pub struct Rescued {
    /// Path below the output directory.
    pub path: Vec<u8>,
    /// What it is, if that is known.
    pub kind: Option<FileType>,
    /// How well.
    pub state: State,
    /// Content of a file.
    pub content: Content,
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
    fn progress(&mut self, progress: Progress);
    /// A name is done.
    fn rescued(&mut self, rescued: Rescued);
}

/// Writes what can be had of a view to `out`, a new or empty directory; without it nothing is written, and everything is
/// read and proved all the same.
pub fn run(
    device: &Arc<dyn Device>,
    wanted: &Wanted,
    out: Option<&Path>,
    listener: &mut dyn Listener,
) -> Result<Summary, SalvageError> {
    let found = source::find(device, wanted, &mut |p| listener.progress(p))?;
    let failed = |path: &Path, e: std::io::Error| SalvageError::Output(format!("{}: {e}", path.display()));
    let output = out.map(|path| output::Output::create(path).map_err(|e| failed(path, e))).transpose()?;
    let mut summary = names::rescue(&found.items, output, listener)?;
    let (leaves, lost) = found.items.counts();
    summary.leaves = leaves as u64;
    summary.lost_ranges = lost as u64;
    summary.source = found.told;
    summary.unreadable_bytes = found.unreadable_bytes;
    summary.newer_states = found.newer_states;
    Ok(summary)
}
