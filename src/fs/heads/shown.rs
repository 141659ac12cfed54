//! Numbers of blocks that the kernel was told and keeps: what is delayed counts until a flush finds that it takes less, or
//! another place, and no request of the kernel's says so.
//!
//! Kept is what may change so: files with delayed content, and those that are open for writing, whose content the kernel
//! may hold itself for now. The lock is a leaf.

use crate::ops::NodeId;
use foldhash::HashMap;
use parking_lot::Mutex;

/// All of them.
#[derive(Default)]
pub struct Shown(Mutex<HashMap<NodeId, Number>>);

/// What the kernel was told of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Number {
    /// Blocks of 512 bytes.
    pub blocks: u64,
    /// Told since the file was opened. The kernel forgets a number from before when the file is closed.
    asked: bool,
}

impl Shown {
    /// The kernel is being told this number.
    pub fn tell(&self, node: NodeId, blocks: u64) {
        self.0.lock().insert(node, Number { blocks, asked: true });
    }

    /// The number was in an answer that the kernel may have thrown away, as it does when it only brings times to us.
    pub fn doubt(&self, node: NodeId) {
        if let Some(number) = self.0.lock().get_mut(&node) {
            number.blocks = u64::MAX; // no number that a file can have
        }
    }

    /// A file was opened for writing: the kernel may have been told this number before.
    pub fn opened(&self, node: NodeId, blocks: u64) {
        self.0.lock().entry(node).or_insert(Number { blocks, asked: false });
    }

    /// The last handle that writes was closed.
    pub fn closed(&self, node: NodeId) {
        let mut shown = self.0.lock();
        if shown.get(&node).is_some_and(|number| !number.asked) {
            shown.remove(&node);
        }
    }

    /// What was told of a file.
    pub fn get(&self, node: NodeId) -> Option<Number> {
        self.0.lock().get(&node).copied()
    }

    /// Forgets a file, if what was told of it is still this.
    pub fn forget(&self, node: NodeId, number: Number) {
        let mut shown = self.0.lock();
        if shown.get(&node) == Some(&number) {
            shown.remove(&node);
        }
    }

    /// Forgets a file.
    pub fn drop(&self, node: NodeId) {
        self.0.lock().remove(&node);
    }

    /// Forgets all files of a tree.
    pub fn drop_tree(&self, tree: u32) {
        self.0.lock().retain(|node, _| node.tree() != tree);
    }

    /// All files that are kept.
    pub fn all(&self) -> Vec<NodeId> {
        self.0.lock().keys().copied().collect()
    }
}
