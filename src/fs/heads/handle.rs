//! Open files and directories, and how many of them each live inode has.
//!
//! A handle of a snapshot holds its view, which stays readable when the snapshot is deleted. The table is a leaf in the
//! lock order: nothing else is locked while it is.

use super::around::Around;
use super::head::Head;
use crate::ops::{Error, Handle, NodeId, OpenFlags, Result};
use crate::volume::View;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One open file or directory.
pub struct Open {
    /// What is open.
    pub node: NodeId,
    /// How.
    pub flags: OpenFlags,
    /// The view of a snapshot; none for the live tree.
    pub view: Option<Arc<View>>,
    /// The head of a live node, or of one whose past it shows: what is open keeps the number of its line from another's.
    #[expect(dead_code, reason = "held, and not looked at")]
    pub head: Option<Arc<Head>>,
    /// Where it was read.
    pub around: Around,
}

#[derive(Default)]
struct Table {
    last: u64,
    open: BTreeMap<u64, Arc<Open>>,
    /// Live nodes: handles, and those of them that write.
    counts: BTreeMap<NodeId, (u32, u32)>,
}

/// All of them. Any thread.
#[derive(Default)]
pub struct Handles(Mutex<Table>);

impl Handles {
    /// Adds one.
    pub fn add(&self, open: Open) -> Handle {
        let mut t = self.0.lock();
        t.last += 1;
        let n = t.last;
        if open.node.is_live() {
            let count = t.counts.entry(open.node).or_default();
            count.0 += 1;
            count.1 += u32::from(open.flags.write);
        }
        t.open.insert(n, Arc::new(open));
        Handle(n)
    }

    /// The open file behind `handle`, if it is of `node`.
    pub fn get(&self, node: NodeId, handle: Handle) -> Result<Arc<Open>> {
        match self.0.lock().open.get(&handle.0) {
            Some(open) if open.node == node => Ok(open.clone()),
            _ => Err(Error::BadHandle),
        }
    }

    /// Closes. True if nobody writes the live node any more, and this one did.
    pub fn remove(&self, handle: Handle) -> bool {
        let mut t = self.0.lock();
        let Some(open) = t.open.remove(&handle.0) else { return false };
        if open.node.is_live() {
            let (left, writers) = t.counts.get_mut(&open.node).map_or((0, 0), |count| {
                count.0 -= 1;
                count.1 -= u32::from(open.flags.write);
                *count
            });
            if left == 0 {
                t.counts.remove(&open.node);
            }
            return open.flags.write && writers == 0;
        }
        false
    }

    /// True if a handle of the live node is open.
    pub fn is_open(&self, node: NodeId) -> bool {
        self.0.lock().counts.contains_key(&node)
    }

    /// True if the live node is open for writing.
    pub fn is_writer(&self, node: NodeId) -> bool {
        self.0.lock().counts.get(&node).is_some_and(|count| count.1 > 0)
    }

    /// Live nodes that are open.
    pub fn all(&self) -> Vec<NodeId> {
        self.0.lock().counts.keys().copied().collect()
    }

    /// Live nodes that are open for writing.
    pub fn writers(&self) -> Vec<NodeId> {
        self.0.lock().counts.iter().filter(|(_, c)| c.1 > 0).map(|(node, _)| *node).collect()
    }
}
