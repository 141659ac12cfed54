//! Numbers of blocks that the kernel was told and keeps: what is delayed counts until a flush finds that it takes less, or
//! another place, and no request of the kernel's says so.
//!
//! Kept is what may change so: files with delayed content, and those that are open for writing, whose content the kernel
//! may hold itself for now. Nobody is told of a number that did not change, or that nobody asked for.

use super::Fs;
use super::items::Items;
use crate::format::Ino;
use crate::format::inode::Inode;
use crate::ops::NodeId;
use parking_lot::Mutex;
use std::collections::HashMap;

/// All of them. The lock is a leaf.
#[derive(Default)]
pub(super) struct Shown(Mutex<HashMap<Ino, Number>>);

#[derive(Clone, Copy, PartialEq, Eq)]
struct Number {
    blocks: u64,
    /// Told since the file was opened. The kernel forgets a number from before when the file is closed.
    asked: bool,
}

impl Fs {
    /// What `stat` shows as blocks of a live regular file, noted where that may change by itself.
    pub(super) fn show_blocks(&self, ino: Ino, inode: &Inode) -> u64 {
        let gate = self.gate.read();
        let waits = gate.dirty.waits(ino);
        // The view that the inode is from may be older than the flush that has placed its blocks.
        let now = if waits { self.volume.live().inode(ino).ok().flatten() } else { None };
        let inode = now.as_ref().unwrap_or(inode);
        let blocks = Self::with_delayed(inode.blocks, inode, gate.dirty.fresh_blocks(ino));
        if waits || self.handles.is_writer(ino) {
            self.shown.0.lock().insert(ino, Number { blocks, asked: true });
        }
        blocks
    }

    /// The number was in an answer that the kernel may have thrown away, as it does when it only brings times to us.
    pub(super) fn perhaps_shown(&self, ino: Ino) {
        if let Some(number) = self.shown.0.lock().get_mut(&ino) {
            number.blocks = u64::MAX; // no number that a file can have
        }
    }

    /// A file was opened for writing: the kernel may have been told a number before.
    pub(super) fn opened_to_write(&self, ino: Ino) {
        let blocks = self.blocks_now(ino);
        let mut shown = self.shown.0.lock();
        shown.entry(ino).or_insert(Number { blocks: blocks.unwrap_or(0), asked: false });
    }

    /// The last handle that writes was closed.
    pub(super) fn closed_to_write(&self, ino: Ino) {
        let mut shown = self.shown.0.lock();
        if shown.get(&ino).is_some_and(|number| !number.asked) {
            shown.remove(&ino);
        }
    }

    /// Has the kernel forget the number of a file if it is another now.
    pub(super) fn tell_blocks(&self, ino: Ino) {
        let Some(number) = self.shown.0.lock().get(&ino).copied() else { return };
        let now = self.blocks_now(ino);
        if now != Some(number.blocks) {
            // First, so that whoever finds nothing to tell knows that it was told.
            if now.is_some() {
                self.kernel().forget_attributes(NodeId::new(0, ino.0));
            }
            let mut shown = self.shown.0.lock();
            if shown.get(&ino) == Some(&number) {
                shown.remove(&ino);
            }
        }
    }

    /// After a flush: the same for all files.
    pub(super) fn tell_all_blocks(&self) {
        let all: Vec<Ino> = self.shown.0.lock().keys().copied().collect();
        for ino in all {
            self.tell_blocks(ino);
            if !self.handles.is_writer(ino) && !self.gate.read().dirty.waits(ino) {
                self.shown.0.lock().remove(&ino);
            }
        }
    }

    fn blocks_now(&self, ino: Ino) -> Option<u64> {
        let gate = self.gate.read();
        let inode = self.volume.live().inode(ino).ok().flatten()?;
        Some(Self::with_delayed(inode.blocks, &inode, gate.dirty.fresh_blocks(ino)))
    }
}
