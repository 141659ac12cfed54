//! Open files and directories, and how many of them each live inode has.
//!
//! A handle of a snapshot holds its view, which stays readable when the snapshot is deleted. One of a file of a head is of
//! that head, and stale from the moment in which the line gets another; one of a directory goes on. Before that moment it is
//! refused changes first, and all else right before. The table is a leaf in the lock order: nothing else is locked while it is.

use super::around::Around;
use super::bar::{Bar, BarEnd, KeptOut};
use super::head::Head;
use crate::ops::{Error, FileType, Handle, NodeId, OpenFlags, Opening, Result};
use crate::volume::View;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashSet};
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

/// What is refused to handles of a head that is no more, or may soon be no more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Stale {
    /// Changes.
    Changes,
    /// Everything.
    All,
}

#[derive(Default)]
struct Table {
    last: u64,
    open: BTreeMap<u64, Arc<Open>>,
    /// Those whose head is no more, or about to be.
    stale: BTreeMap<u64, Stale>,
    /// Live nodes, and how many handles each has that are not stale.
    counts: BTreeMap<NodeId, Count>,
    /// What cannot be opened now.
    bars: Vec<Arc<Bar>>,
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

    fn make_stale(&mut self, head: &Arc<Head>, stale: Stale) -> Vec<NodeId> {
        let found = self
            .open
            .iter()
            .filter(|(n, open)| open.is_file_of(head) && self.stale.get(*n).is_none_or(|is| *is < stale));
        let found: Vec<_> = found.map(|(n, open)| (*n, open.clone())).collect();
        let mut nodes = BTreeSet::new();
        for (n, open) in found {
            if self.stale.insert(n, stale).is_none() {
                self.discount(&open);
            }
            nodes.insert(open.node);
        }
        nodes.into_iter().collect()
    }

    fn written(&self, head: &Arc<Head>) -> Vec<NodeId> {
        let writes = |(n, open): &(&u64, &Arc<Open>)| {
            open.is_file_of(head) && open.flags.write && !self.stale.contains_key(n)
        };
        let nodes: BTreeSet<_> = self.open.iter().filter(writes).map(|(_, open)| open.node).collect();
        nodes.into_iter().collect()
    }
}

/// All of them. Any thread.
#[derive(Default)]
pub struct Handles(Mutex<Table>);

impl Handles {
    /// Adds one, unless it cannot be opened now.
    pub fn add(&self, open: Open) -> Opening {
        let mut t = self.0.lock();
        if let Some(bar) = t.bars.iter().find(|bar| bar.keeps_out(open.node, open.flags)).cloned() {
            return Opening::Later(Box::new(move || bar.wait()));
        }
        t.last += 1;
        let n = t.last;
        t.count(&open);
        t.open.insert(n, Arc::new(open));
        Opening::Done(Handle(n))
    }

    /// Keeps live nodes from being opened until this is dropped. Those of them that somebody has open so are told, in no
    /// order.
    pub fn bar(&self, nodes: HashSet<NodeId>, out: KeptOut) -> (Barred<'_>, Vec<NodeId>) {
        let mut t = self.0.lock();
        let is_open = |node: &NodeId| match (t.counts.get(node), out) {
            (Some(count), KeptOut::Writers) => count.writing > 0,
            (count, _) => count.is_some(),
        };
        let open = nodes.iter().copied().filter(is_open).collect();
        let bar = Arc::new(Bar::new(nodes, out));
        t.bars.push(bar.clone());
        (Barred { handles: self, bar, end: BarEnd::AsBefore }, open)
    }

    /// The open file behind `handle`, if it is of `node`.
    pub fn get(&self, node: NodeId, handle: Handle) -> Result<Arc<Open>> {
        self.get_unless(Stale::Changes, node, handle)
    }

    /// The same for whoever only looks. The head that it is of may be no more.
    pub fn get_to_read(&self, node: NodeId, handle: Handle) -> Result<Arc<Open>> {
        self.get_unless(Stale::All, node, handle)
    }

    fn get_unless(&self, stale: Stale, node: NodeId, handle: Handle) -> Result<Arc<Open>> {
        let t = self.0.lock();
        match t.open.get(&handle.0) {
            Some(open) if open.node == node => match t.stale.get(&handle.0).is_some_and(|is| *is >= stale) {
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
        if t.stale.remove(&handle.0).is_some() { false } else { t.discount(&open) }
    }

    /// Makes all handles of files of a head stale that are not so yet: the nodes that they are of, each once.
    pub fn make_stale(&self, head: &Arc<Head>, stale: Stale) -> Vec<NodeId> {
        self.0.lock().make_stale(head, stale)
    }

    /// The same unless somebody writes one: then those that are written, and nothing is done.
    pub fn make_stale_unless_written(
        &self,
        head: &Arc<Head>,
        stale: Stale,
    ) -> std::result::Result<Vec<NodeId>, Vec<NodeId>> {
        let mut t = self.0.lock();
        let written = t.written(head);
        if written.is_empty() { Ok(t.make_stale(head, stale)) } else { Err(written) }
    }

    /// The head has stayed after all.
    pub fn make_good(&self, head: &Arc<Head>) {
        let mut t = self.0.lock();
        let of_head = |n: &&u64| t.open.get(*n).is_some_and(|open| open.is_file_of(head));
        let found: Vec<u64> = t.stale.keys().filter(of_head).copied().collect();
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
        t.open.iter().any(|(n, open)| open.is_file_of(head) && !t.stale.contains_key(n))
    }

    /// Files of a head that are open for writing.
    pub fn written(&self, head: &Arc<Head>) -> Vec<NodeId> {
        self.0.lock().written(head)
    }

    /// True if a handle of the live node is open.
    pub fn is_open(&self, node: NodeId) -> bool {
        self.0.lock().counts.contains_key(&node)
    }

    /// True if the live node is open for writing.
    pub fn is_writer(&self, node: NodeId) -> bool {
        self.0.lock().counts.get(&node).is_some_and(|count| count.writing > 0)
    }

    /// True if handles of the live node are open, and all of them are stale.
    pub fn are_stale(&self, node: NodeId) -> bool {
        let t = self.0.lock();
        let is_of = |n: &u64| t.open.get(n).is_some_and(|open| open.node == node);
        !t.counts.contains_key(&node) && t.stale.keys().any(is_of)
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

/// Nodes that are kept from being opened, until this is dropped.
pub struct Barred<'h> {
    handles: &'h Handles,
    bar: Arc<Bar>,
    end: BarEnd,
}

impl Barred<'_> {
    /// They are others now, and the kernel knows.
    pub fn exchanged(&mut self) {
        self.end = BarEnd::Exchanged;
    }
}

impl Drop for Barred<'_> {
    fn drop(&mut self) {
        self.handles.0.lock().bars.retain(|bar| !Arc::ptr_eq(bar, &self.bar));
        self.bar.end(self.end);
    }
}
