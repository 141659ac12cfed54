//! What a change will need, read before it is made: while nobody waits for it.
//!
//! Where all of that is in memory, it is only looked at. Otherwise, or in doubt, the change is made on a copy of the tree
//! that nobody else sees, so that it meets exactly what the change itself will: the nodes on the way, and the neighbours
//! that one is joined with. What was met is kept for the thread until [`Kept`] is dropped, because the cache may let go of
//! it at any time.

use super::kept::Kept;
use super::node::{Body, Child, Inner, Node};
use super::{Edit, Pager, Result};
use crate::format::inner::CHILDREN_MAX;
use crate::format::leaf::{LeafPage, SLOT_BYTES};
use crate::format::{BlockAddr, Epoch, Key};
use std::sync::Arc;

/// What a change will do to a key: the value that it sets, none if it removes the key.
pub type Planned<'a> = (Key, Option<&'a [u8]>);

impl Kept {
    /// Reads what a change of the tree at `root` will need that does this to these keys, in ascending order.
    pub fn rehearse(
        &mut self,
        pager: &Pager,
        root: &Child,
        epoch: Epoch,
        changes: &[Planned<'_>],
    ) -> Result<()> {
        let mut look = Look { pager, met: Vec::new() };
        if look.below(root, changes).is_some() {
            self.keep(look.met);
            return Ok(());
        }
        self.meeting(|| {
            let (mut root, mut freed) = (root.clone(), Vec::new());
            let mut edit = Edit { pager, epoch, freed: &mut freed, nodes_made: 0 };
            for (key, value) in changes {
                match value {
                    Some(value) => edit.insert(&mut root, key, value)?,
                    None => drop(edit.remove(&mut root, key)?),
                }
            }
            Ok(())
        })
    }
}

/// Looks whether all that changes will need is in memory.
struct Look<'a> {
    pager: &'a Pager,
    /// What is in memory only because the cache has it.
    met: Vec<(BlockAddr, Arc<Node>)>,
}

impl Look<'_> {
    /// None if something is not in memory, or in doubt; else whether the node may be split, joined or dropped.
    fn below(&mut self, child: &Child, changes: &[Planned<'_>]) -> Option<bool> {
        match child {
            Child::Mem(node) => self.node(node, changes),
            Child::Stored(ptr) => {
                let node = self.pager.resident(ptr)?;
                let moves = self.node(&node, changes);
                self.met.push((ptr.addr, node));
                moves
            }
        }
    }

    fn node(&mut self, node: &Node, changes: &[Planned<'_>]) -> Option<bool> {
        let inner = match &node.body {
            Body::Leaf(page) => return Some(may_move(page, changes)),
            Body::Inner(inner) => inner,
        };
        let (mut rest, mut moving) = (changes, 0);
        while let Some((key, _)) = rest.first() {
            let i = inner.index(key);
            let here = inner.keys.get(i + 1).map_or(rest.len(), |end| rest.partition_point(|(k, _)| k < end));
            let (here, later) = rest.split_at(here.max(1));
            if self.below(&inner.children[i], here)? {
                moving += here.len();
                self.neighbours(inner, i, here.len())?;
            }
            rest = later;
        }
        let count = inner.children.len();
        let removes = changes.iter().any(|(_, value)| value.is_none());
        let splits = moving > 0 && count + moving > CHILDREN_MAX;
        Some(splits || removes && count < CHILDREN_MAX / 4 + moving)
    }

    /// Whether all is in memory that child `i` may be joined with by so many changes.
    fn neighbours(&mut self, inner: &Inner, i: usize, changes: usize) -> Option<()> {
        let last = inner.children.len() - 1;
        let mut before: Option<usize> = None;
        for child in &inner.children[i.saturating_sub(changes)..=(i + changes).min(last)] {
            let children = match child {
                Child::Mem(node) => children(node),
                Child::Stored(ptr) => {
                    let node = self.pager.resident(ptr)?;
                    let children = children(&node);
                    self.met.push((ptr.addr, node));
                    children
                }
            };
            // Where inner nodes are joined, so may be those below at the seam.
            if inner.level > 1 && before.is_some_and(|b| b + children <= CHILDREN_MAX / 4 * 3 + changes) {
                return None;
            }
            before = Some(children);
        }
        Some(())
    }
}

fn children(node: &Node) -> usize {
    match &node.body {
        Body::Leaf(_) => 0,
        Body::Inner(inner) => inner.children.len(),
    }
}

/// Whether changes may have a leaf split, joined with another, or dropped.
fn may_move(page: &LeafPage, changes: &[Planned<'_>]) -> bool {
    let longest: usize = changes.iter().map(|(_, v)| v.map_or(0, |v| v.len() + SLOT_BYTES)).sum();
    let fits = page.used() + longest <= LeafPage::ROOM;
    let (mut more, mut less) = (0, 0);
    for (key, value) in changes {
        if fits && value.is_some() {
            continue; // whatever is there now
        }
        let old = page.find(key).ok().map(|i| page.value(i).len() + SLOT_BYTES);
        match value {
            Some(value) => more += (value.len() + SLOT_BYTES).saturating_sub(old.unwrap_or(0)),
            None => less += old.unwrap_or(0),
        }
    }
    !fits && page.used() + more > LeafPage::ROOM || less > 0 && page.used() < LeafPage::ROOM / 4 + less
}
