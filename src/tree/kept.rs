//! Nodes that a thread keeps in memory for the change that it is about to make: the cache may let go of them at any time.

use super::node::Node;
use crate::format::{BlockAddr, BlockPtr};
use foldhash::HashMap;
use std::cell::{Cell, RefCell};
use std::sync::Arc;

thread_local! {
    /// Nodes that the change which this thread is about to make will need.
    static KEPT: RefCell<HashMap<BlockAddr, Arc<Node>>> = RefCell::default();
    /// What the thread reads is kept.
    static KEEPING: Cell<bool> = const { Cell::new(false) };
}

/// Keeps what was read ahead, by and for this thread, until it is dropped.
#[derive(Default)]
pub struct Kept {
    any: bool,
}

impl Kept {
    /// Keeps all nodes that this thread meets while it runs `change`.
    pub fn meeting<T>(&mut self, change: impl FnOnce() -> T) -> T {
        self.any = true;
        KEEPING.set(true);
        let done = change();
        KEEPING.set(false);
        done
    }

    pub(super) fn keep(&mut self, nodes: Vec<(BlockAddr, Arc<Node>)>) {
        if !nodes.is_empty() {
            self.any = true;
            KEPT.with_borrow_mut(|kept| kept.extend(nodes));
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if self.any {
            // Taken out first: to drop a node may take long.
            drop(KEPT.take());
        }
    }
}

/// Keeps a node if the thread reads ahead.
pub(super) fn met(ptr: &BlockPtr, node: &Arc<Node>) {
    if KEEPING.get() {
        KEPT.with_borrow_mut(|kept| drop(kept.insert(ptr.addr, node.clone())));
    }
}

/// A node that was read ahead.
pub(super) fn kept(ptr: &BlockPtr) -> Option<Arc<Node>> {
    KEPT.with_borrow(|kept| kept.get(&ptr.addr).cloned()).filter(|node| node.stored_at() == Some(*ptr))
}
