//! The head of a line as the file system sees it: a writable tree, and what belongs to it and is not in the tree yet.

use super::dirty::Dirty;
use super::misses::Misses;
use super::told::Told;
use super::tripwire::Tripwire;
use crate::format::line::{LineRecord, LineState};
use crate::format::{BLOCK_BYTES, Generation, Ino, LineId, Slot, ViewId};
use crate::ops::{FileType, NodeId};
use crate::volume::LineHold;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// What the gate of a head guards: the part of its state that is not in the tree.
#[derive(Default)]
pub struct Gate {
    /// Delayed data.
    pub dirty: Dirty,
    /// Inodes without a name that still exist, and whether the kernel has forgotten them.
    pub unlinked: BTreeMap<Ino, bool>,
}

/// One writable tree. Inode numbers of two heads may be the same: what is kept by inode is kept in here.
///
/// Changes hold the gate for writing. Readers of content hold it for reading while they take a view and the delayed
/// blocks, and not while they read. Readers of names take a view and do not need the gate. Readers of attributes take a
/// view first; for the number of blocks of a file they then hold the gate for reading, because delayed blocks count.
pub struct Head {
    /// Its line.
    pub line: LineId,
    /// Its view. A line that was rolled back has another head, and another view: then this one is no more.
    pub view: ViewId,
    /// What tells its files from those of another head of the line: part of file handles.
    generation: Generation,
    /// The same of directories, which the heads of a line have in common.
    line_generation: Generation,
    /// Which of its files the kernel knows; none while it cannot know those of another head of the line.
    pub told: Option<Told>,
    /// It came from another store, and is changed by nobody.
    pub is_received: bool,
    root: NodeId,
    /// The gate.
    pub gate: RwLock<Gate>,
    /// Files whose content could not be compressed.
    pub misses: Misses,
    /// What has become of its old files.
    pub tripwire: Tripwire,
    /// Delayed blocks.
    delayed: Arc<AtomicU64>,
    /// Inodes without a name that its tree had when the line was made, from this one on, are still to be purged.
    pub inherited: Mutex<Option<Ino>>,
    /// Somebody asked for something in it since this was looked at.
    used: AtomicBool,
    _hold: LineHold,
}

impl Head {
    /// The head of a line, with what a replay of the log has found. Its nodes have numbers with this slot.
    pub fn new(line: &LineRecord, slot: Slot, gate: Gate, hold: LineHold) -> Head {
        Head {
            line: line.id,
            view: line.head,
            generation: line.head_generation,
            line_generation: line.generation,
            told: None,
            is_received: line.state == LineState::Received,
            root: NodeId::live(slot.0, Ino::ROOT.0),
            delayed: gate.dirty.counter(),
            gate: RwLock::new(gate),
            misses: Misses::default(),
            tripwire: Tripwire::default(),
            inherited: Mutex::new(None),
            used: AtomicBool::new(false),
            _hold: hold,
        }
    }

    /// The head that a line has got by a rollback. The tree that it begins with may have inodes without a name.
    pub fn forked(line: &LineRecord, slot: Slot, hold: LineHold) -> Head {
        let inherited = Mutex::new((line.state == LineState::Writable).then_some(Ino(0)));
        let told = Some(Told::default());
        Head { told, inherited, ..Head::new(line, slot, Gate::default(), hold) }
    }

    /// What tells an inode from another that had, or will have, the same number. Across a rollback directories keep theirs:
    /// whoever stands in one, or has it open, goes on in the new head.
    pub fn generation(&self, kind: FileType) -> Generation {
        if kind == FileType::Directory { self.line_generation } else { self.generation }
    }

    /// Delayed data in bytes. Waits for nobody who has the gate closed.
    pub fn delayed_bytes(&self) -> u64 {
        self.delayed.load(Relaxed) * BLOCK_BYTES
    }

    /// A request was about a node of it.
    pub fn note_use(&self) {
        self.used.store(true, Relaxed);
    }

    /// True if one was since this was asked last.
    pub fn take_used(&self) -> bool {
        self.used.swap(false, Relaxed)
    }

    /// The number of an inode of this head, as the kernel knows it.
    pub fn node(&self, ino: Ino) -> NodeId {
        self.root.sibling(ino.0)
    }
}
