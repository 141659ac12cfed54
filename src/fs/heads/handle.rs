//! Open files and directories, and how many of them each live inode has.
//!
//! A handle of a snapshot holds its view, which stays readable when the snapshot is deleted. One of a file of a head is of
//! that head, and stale from the moment in which the line gets another; one of a directory goes on. The table is a leaf in
//! the lock order: nothing else is locked while it is.

use super::around::Around;
use super::head::Head;
use crate::ops::{Error, FileType, Handle, NodeId, OpenFlags, Result};
use crate::volume::View;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One open file or directory.
pub struct Open {
    /// What is open.
    pub node: NodeId,
    /// Of which type it is.
    pub kind: FileType,
    /// How.
    pub flags: OpenFlags,
    /// The view of a snapshot; none for the live tree.
    pub view: Option<Arc<View>>,
    /// The head of a live node, or of one whose past it shows: what is open keeps the number of its line from another's.
    pub head: Option<Arc<Head>>,
    /// Where it was read.
    pub around: Around,
}

impl Open {
    /// The head that it was opened in.
    pub fn head(&self) -> Result<&Arc<Head>> {
        self.head.as_ref().ok_or(Error::Stale)
    }

    fn is_file_of(&self, head: &Arc<Head>) -> bool {
        let of_head = self.head.as_ref().is_some_and(|own| Arc::ptr_eq(own, head));
        of_head && self.node.is_live() && self.kind != FileType::Directory
    }
}

#[derive(Default)]
struct Table {
    last: u64,
    open: BTreeMap<u64, Arc<Open>>,
    /// Those whose head is no more, or about to be.
    stale: BTreeSet<u64>,
    /// Live nodes, and how many handles each has that are not stale.
    counts: BTreeMap<NodeId, Count>,
}

/// Handles of one node.
#[derive(Clone, Copy, Default)]
struct Count {
    all: u32,
    /// Those that write.
    writing: u32,
    /// Those of them through which a mapping can be changed.
    mapping: u32,
}

impl Count {
    /// What one handle adds.
    fn of(flags: OpenFlags) -> Count {
        let (writing, mapping) = (flags.write.into(), (flags.write && flags.read).into());
        Count { all: 1, writing, mapping }
    }
}

impl Table {
    fn count(&mut self, open: &Open) {
        if open.node.is_live() {
            let (count, more) = (self.counts.entry(open.node).or_default(), Count::of(open.flags));
            count.all += more.all;
            count.writing += more.writing;
            count.mapping += more.mapping;
        }
    }

    /// True if nobody writes the live node any more, and this one did.
    fn discount(&mut self, open: &Open) -> bool {
        if !open.node.is_live() {
            return false;
        }
        let (less, mut left) = (Count::of(open.flags), Count::default());
        if let Some(count) = self.counts.get_mut(&open.node) {
            count.all -= less.all;
            count.writing -= less.writing;
            count.mapping -= less.mapping;
            left = *count;
        }
        if left.all == 0 {
            self.counts.remove(&open.node);
        }
        open.flags.write && left.writing == 0
    }
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
        t.count(&open);
        t.open.insert(n, Arc::new(open));
        Handle(n)
    }

    /// The open file behind `handle`, if it is of `node`.
    pub fn get(&self, node: NodeId, handle: Handle) -> Result<Arc<Open>> {
        let t = self.0.lock();
        match t.open.get(&handle.0) {
            Some(open) if open.node == node => match t.stale.contains(&handle.0) {
                true => Err(Error::Stale),
                false => Ok(open.clone()),
            },
            _ => Err(Error::BadHandle),
        }
    }

    /// Closes. True if nobody writes the live node any more, and this one did.
    pub fn remove(&self, handle: Handle) -> bool {
        let mut t = self.0.lock();
        let Some(open) = t.open.remove(&handle.0) else { return false };
        if t.stale.remove(&handle.0) { false } else { t.discount(&open) }
    }

    /// Makes all handles of files of a head stale that are not yet: the nodes that they are of, each once.
    pub fn make_stale(&self, head: &Arc<Head>) -> Vec<NodeId> {
        let mut t = self.0.lock();
        let of_head = |(n, open): &(&u64, &Arc<Open>)| open.is_file_of(head) && !t.stale.contains(n);
        let found: Vec<_> = t.open.iter().filter(of_head).map(|(n, open)| (*n, open.clone())).collect();
        let mut nodes = BTreeSet::new();
        for (n, open) in found {
            t.discount(&open);
            t.stale.insert(n);
            nodes.insert(open.node);
        }
        nodes.into_iter().collect()
    }

    /// The head has stayed after all.
    pub fn make_good(&self, head: &Arc<Head>) {
        let mut t = self.0.lock();
        let of_head = |n: &&u64| t.open.get(*n).is_some_and(|open| open.is_file_of(head));
        let found: Vec<u64> = t.stale.iter().filter(of_head).copied().collect();
        for n in found {
            t.stale.remove(&n);
            if let Some(open) = t.open.get(&n).cloned() {
                t.count(&open);
            }
        }
    }

    /// True if a file of a head is open, and not stale.
    pub fn has_files(&self, head: &Arc<Head>) -> bool {
        let t = self.0.lock();
        t.open.iter().any(|(n, open)| open.is_file_of(head) && !t.stale.contains(n))
    }

    /// Files of a head that are open for writing.
    pub fn written(&self, head: &Arc<Head>) -> Vec<NodeId> {
        let t = self.0.lock();
        let writes = |(n, open): &(&u64, &Arc<Open>)| {
            open.is_file_of(head) && open.flags.write && !t.stale.contains(n)
        };
        let nodes: BTreeSet<_> = t.open.iter().filter(writes).map(|(_, open)| open.node).collect();
        nodes.into_iter().collect()
    }

    /// True if a handle of the live node is open.
    pub fn is_open(&self, node: NodeId) -> bool {
        self.0.lock().counts.contains_key(&node)
    }

    /// True if the live node is open for writing.
    pub fn is_writer(&self, node: NodeId) -> bool {
        self.0.lock().counts.get(&node).is_some_and(|count| count.writing > 0)
    }

    /// Live nodes that are open.
    pub fn all(&self) -> Vec<NodeId> {
        self.0.lock().counts.keys().copied().collect()
    }

    /// Live nodes that are open for writing.
    pub fn writers(&self) -> Vec<NodeId> {
        self.0.lock().counts.iter().filter(|(_, c)| c.writing > 0).map(|(node, _)| *node).collect()
    }

    /// Those of them of which the kernel may hold pages that it has not written: it passes on what `write` brings, but for
    /// what the write-back cache keeps, and then every handle that writes reads, too. What is changed in a mapping it keeps,
    /// and nobody has a mapping of what is open for writing alone (`mmap(2)`: EACCES).
    pub fn mappers(&self) -> Vec<NodeId> {
        self.0.lock().counts.iter().filter(|(_, c)| c.mapping > 0).map(|(node, _)| *node).collect()
    }
}
