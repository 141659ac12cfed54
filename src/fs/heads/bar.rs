//! Files that nobody opens for a while: their content is being exchanged, and the kernel is not told of it yet.
//!
//! Whoever opened one would go on with what the kernel keeps of it: its size, to append there, or pages. A bar is part of the table
//! of handles, under its lock: a handle either is there before, and is seen, or is not made. Who is kept out waits on a thread
//! that answers no requests; no lock of the file system is held meanwhile.

use crate::ops::{Error, NodeId, OpenFlags, Result};
use parking_lot::{Condvar, Mutex};
use std::collections::HashSet;

/// Who is kept out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeptOut {
    /// Who wants to write.
    Writers,
    /// Everybody.
    All,
}

/// What has become of the files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BarEnd {
    /// They are as they were.
    AsBefore,
    /// They are others, and the kernel knows: who was kept out has to look for them once more.
    Exchanged,
}

/// One set of such files.
pub struct Bar {
    nodes: HashSet<NodeId>,
    out: KeptOut,
    end: Mutex<Option<BarEnd>>,
    ended: Condvar,
}

impl Bar {
    /// Around live nodes.
    pub fn new(nodes: HashSet<NodeId>, out: KeptOut) -> Bar {
        Bar { nodes, out, end: Mutex::new(None), ended: Condvar::new() }
    }

    /// True if this is not to be opened.
    pub fn keeps_out(&self, node: NodeId, flags: OpenFlags) -> bool {
        (flags.write || self.out == KeptOut::All) && self.nodes.contains(&node)
    }

    /// Lets in who waits.
    pub fn end(&self, end: BarEnd) {
        *self.end.lock() = Some(end);
        self.ended.notify_all();
    }

    /// Waits for that. Stale if the node has to be looked for once more.
    pub fn wait(&self) -> Result<()> {
        let mut end = self.end.lock();
        loop {
            match *end {
                Some(BarEnd::AsBefore) => return Ok(()),
                Some(BarEnd::Exchanged) => return Err(Error::Stale),
                None => self.ended.wait(&mut end),
            }
        }
    }
}
