//! Changes: insert and remove by copying the path, with the nodes that this frees reported to the caller.
//!
//! A call that fails because a node cannot be read leaves the map as it was: nodes may have been copied, but no item
//! changed.
//!
//! How full nodes are kept. A node is small if it is less than a quarter full.
//! - A removal that leaves a node small joins it with a neighbour below the same parent, if both together fill at most
//!   three quarters of a node.
//! - A split that makes a small node joins it with the next one, if both together fill at most half a node.
//!
//! So, as a rule, no two neighbours below a parent are small, and its leaves are at least an eighth full on average.

use super::node::{Body, Child, Inner, Node};
use super::{Pager, Result};
use crate::format::inner::CHILDREN_MAX;
use crate::format::leaf::LeafPage;
use crate::format::{BlockPtr, Epoch, Key};
use std::sync::Arc;

/// A node that a root no longer reaches.
#[derive(Clone)]
pub enum FreedNode {
    /// It was on the device.
    Stored(BlockPtr),
    /// It is being written, or belongs to a snapshot that is not written yet: its place is known after that commit.
    Pending(Arc<Node>),
}

impl FreedNode {
    /// Epoch in which it came to be.
    pub fn birth(&self) -> Epoch {
        match self {
            FreedNode::Stored(ptr) => ptr.birth,
            FreedNode::Pending(node) => node.birth,
        }
    }

    /// Where it is; none if it was never written.
    pub fn ptr(&self) -> Option<BlockPtr> {
        match self {
            FreedNode::Stored(ptr) => Some(*ptr),
            FreedNode::Pending(node) => node.stored_at(),
        }
    }
}

/// A change in progress: the epoch in which it happens, and its by-products.
pub struct Edit<'a> {
    /// Reads nodes.
    pub pager: &'a Pager,
    /// Nodes of this epoch change in place, older ones are copied.
    pub epoch: Epoch,
    /// Replaced nodes of earlier epochs.
    pub freed: &'a mut Vec<FreedNode>,
    /// Nodes of this epoch made minus nodes of this epoch dropped.
    pub nodes_made: i64,
}

/// An empty tree, one node, made in that epoch.
pub fn empty(epoch: Epoch) -> Child {
    Child::Mem(Arc::new(Node::leaf(epoch, LeafPage::new())))
}

impl Edit<'_> {
    /// An empty tree.
    pub fn new_root(&mut self) -> Child {
        self.nodes_made += 1;
        empty(self.epoch)
    }

    /// Makes `child` a node of this epoch that nobody else sees, and lends it.
    fn own<'c>(&mut self, child: &'c mut Child) -> Result<&'c mut Node> {
        let unique = match child {
            Child::Mem(arc) => arc.birth == self.epoch && Arc::get_mut(arc).is_some(),
            Child::Stored(_) => false,
        };
        if !unique {
            let old = self.pager.resolve(child)?;
            let copy = Arc::new(old.copy(self.epoch));
            if old.birth < self.epoch {
                self.nodes_made += 1;
                self.free_node(child);
            }
            *child = Child::Mem(copy);
        }
        match child {
            Child::Mem(arc) => Ok(Arc::get_mut(arc).expect("just made, or seen to be unique")),
            Child::Stored(_) => unreachable!("made a memory node above"),
        }
    }

    /// `child` leaves the tree.
    fn free_node(&mut self, child: &Child) {
        match child {
            Child::Mem(node) if node.birth == self.epoch => self.nodes_made -= 1,
            Child::Mem(node) => self.freed.push(FreedNode::Pending(node.clone())),
            Child::Stored(ptr) => self.freed.push(FreedNode::Stored(*ptr)),
        }
    }

    /// Sets the value of `key`.
    pub fn insert(&mut self, root: &mut Child, key: &Key, value: &[u8]) -> Result<()> {
        if let Some((right_key, right)) = self.insert_below(root, key, value)? {
            let left = root.clone();
            let level = self.pager.resolve(&left)?.level() + 1;
            self.nodes_made += 1;
            let inner = Inner { level, keys: vec![Key::MIN, right_key], children: vec![left, right] };
            *root = Child::Mem(Arc::new(Node::inner(self.epoch, inner)));
        }
        Ok(())
    }

    fn insert_below(&mut self, child: &mut Child, key: &Key, value: &[u8]) -> Result<Option<(Key, Child)>> {
        let epoch = self.epoch;
        // The path is made ours top-down, so that a failed read below has changed nothing that counts.
        let node = self.own(child)?;
        match &mut node.body {
            Body::Leaf(page) => Ok(insert_in_leaf(page, key, value).map(|right| {
                self.nodes_made += 1;
                // All of the gap belongs to the right half: what is inserted there in descending order must not end up
                // in a leaf of its own each.
                let last = page.count().checked_sub(1).map(|last| page.key(last));
                let bound = last.map_or(right.key(0), |last| last.successor());
                (bound, Child::Mem(Arc::new(Node::leaf(epoch, right))))
            })),
            Body::Inner(inner) => {
                let i = inner.index(key);
                let Some((k, c)) = self.insert_below(&mut inner.children[i], key, value)? else {
                    return Ok(None);
                };
                // Above the bound of the left half also in a tree whose keys are not where they belong.
                let k = k.max(inner.keys[i].successor());
                inner.keys.insert(i + 1, k);
                inner.children.insert(i + 1, c);
                if is_small(&inner.children[i + 1]) && i + 2 < inner.children.len() {
                    self.join(inner, i + 1, 2);
                }
                if inner.children.len() <= CHILDREN_MAX {
                    return Ok(None);
                }
                let at = if i + 2 == inner.children.len() {
                    inner.children.len() - 1
                } else {
                    inner.children.len() / 2
                };
                let mut right_keys = inner.keys.split_off(at);
                let right_children = inner.children.split_off(at);
                let bound = std::mem::replace(&mut right_keys[0], Key::MIN);
                let right = Inner { level: inner.level, keys: right_keys, children: right_children };
                self.nodes_made += 1;
                Ok(Some((bound, Child::Mem(Arc::new(Node::inner(epoch, right))))))
            }
        }
    }

    /// Removes `key`; false if it was not there (and then nothing was copied).
    pub fn remove(&mut self, root: &mut Child, key: &Key) -> Result<bool> {
        if super::get(self.pager, root, key)?.is_none() {
            return Ok(false);
        }
        self.remove_below(root, key)?;
        // A root with one child is that child.
        loop {
            let only = match root {
                Child::Mem(node) => match &node.body {
                    Body::Inner(inner) if inner.children.len() == 1 => inner.children[0].clone(),
                    _ => return Ok(true),
                },
                Child::Stored(_) => return Ok(true),
            };
            self.free_node(root);
            *root = only;
        }
    }

    fn remove_below(&mut self, child: &mut Child, key: &Key) -> Result<()> {
        let node = self.own(child)?;
        match &mut node.body {
            Body::Leaf(page) => {
                if let Ok(i) = page.find(key) {
                    page.remove(i);
                }
                Ok(())
            }
            Body::Inner(inner) => {
                let i = inner.index(key);
                self.remove_below(&mut inner.children[i], key)?;
                self.rebalance(inner, i);
                Ok(())
            }
        }
    }

    /// Drops child `i` if it is empty, and joins it with a neighbour if it is small. What takes over the range of keys of a child
    /// that is dropped is made anew, so that what was removed is in the range of what is younger than the removal; if that
    /// cannot be read an empty child stays.
    fn rebalance(&mut self, inner: &mut Inner, i: usize) {
        let Child::Mem(node) = &inner.children[i] else { return };
        let empty = match &node.body {
            Body::Leaf(page) => page.count() == 0,
            Body::Inner(n) => n.children.is_empty(),
        };
        if empty && inner.children.len() > 1 {
            let heir = if i > 0 { i - 1 } else { 1 };
            if self.own_last(&mut inner.children[heir], i > 0).is_err() {
                return;
            }
            let gone = inner.children.remove(i);
            inner.keys.remove(i);
            inner.keys[0] = Key::MIN;
            self.free_node(&gone);
        } else if is_small(&inner.children[i]) {
            let at = if i > 0 && self.join(inner, i - 1, 3) { i - 1 } else { i };
            if is_small(&inner.children[at]) {
                self.join(inner, at, 3);
            }
        }
    }

    /// Makes a subtree anew along its last child, or its first.
    fn own_last(&mut self, child: &mut Child, last: bool) -> Result<()> {
        let node = self.own(child)?;
        match &mut node.body {
            Body::Leaf(_) => Ok(()),
            Body::Inner(inner) => {
                let at = if last { inner.children.len().saturating_sub(1) } else { 0 };
                inner.children.get_mut(at).map_or(Ok(()), |child| self.own_last(child, last))
            }
        }
    }

    /// Joins children `left` and `left + 1`, if they are there, if what comes of it is at most so many quarters full, and
    /// if both can be read.
    fn join(&mut self, inner: &mut Inner, left: usize, quarters: usize) -> bool {
        let Some([a, b]) = inner.children.get(left..left + 2) else { return false };
        let (Ok(a), Ok(b)) = (self.pager.resolve(a), self.pager.resolve(b)) else { return false };
        let body = match (&a.body, &b.body) {
            (Body::Leaf(x), Body::Leaf(y)) if x.used() + y.used() <= LeafPage::ROOM / 4 * quarters => {
                let mut page = x.clone();
                page.append(y);
                Body::Leaf(page)
            }
            (Body::Inner(x), Body::Inner(y))
                if x.children.len() + y.children.len() <= CHILDREN_MAX / 4 * quarters =>
            {
                let mut joined = x.clone();
                joined.keys.extend_from_slice(&y.keys);
                joined.keys[x.keys.len()] = inner.keys[left + 1];
                joined.children.extend(y.children.iter().cloned());
                // What has become neighbours may both be small.
                self.join(&mut joined, x.children.len() - 1, 2);
                Body::Inner(joined)
            }
            _ => return false,
        };
        self.free_node(&inner.children[left]);
        self.free_node(&inner.children[left + 1]);
        self.nodes_made += 1;
        let node = Node { birth: self.epoch, ptr: Default::default(), body };
        inner.children[left] = Child::Mem(Arc::new(node));
        inner.children.remove(left + 1);
        inner.keys.remove(left + 1);
        true
    }
}

/// Less than a quarter full, as far as is known without reading it.
fn is_small(child: &Child) -> bool {
    match child {
        Child::Mem(node) => match &node.body {
            Body::Leaf(page) => page.used() < LeafPage::ROOM / 4,
            Body::Inner(inner) => inner.children.len() < CHILDREN_MAX / 4,
        },
        Child::Stored(_) => false,
    }
}

/// Inserts or replaces; returns the right half if the leaf had to be split.
fn insert_in_leaf(page: &mut LeafPage, key: &Key, value: &[u8]) -> Option<LeafPage> {
    let at = match page.find(key) {
        Ok(i) if page.overwrite(i, value) => return None,
        Ok(i) => {
            page.remove(i);
            i
        }
        Err(i) => i,
    };
    if page.fits(value.len()) {
        page.insert(at, key, value);
        return None;
    }
    // Ascending insertion leaves full leaves behind; anything else splits in the middle by bytes.
    let split = if at == page.count() { at } else { middle(page) };
    let mut right = page.split_off(split);
    if at < split || (at == split && page.count() > 0 && page.fits(value.len()) && right.count() > 0) {
        if page.fits(value.len()) {
            page.insert(at, key, value);
            return Some(right);
        }
        // Values of very different lengths: cut once more, right of the new item.
        let mut tail = page.split_off(at);
        for i in 0..right.count() {
            tail.insert(tail.count(), &right.key(i), right.value(i));
        }
        assert!(page.fits(value.len()), "half a leaf holds the longest value");
        page.insert(at, key, value);
        return Some(tail);
    }
    assert!(right.fits(value.len()), "half a leaf holds the longest value");
    right.insert(at - split, key, value);
    Some(right)
}

/// First index at which at least half of the bytes are to the left.
fn middle(page: &LeafPage) -> usize {
    let mut left = 0;
    for i in 0..page.count() {
        left += page.value(i).len() + 21;
        if left >= page.used() / 2 {
            return (i + 1).min(page.count() - 1);
        }
    }
    page.count() / 2
}
