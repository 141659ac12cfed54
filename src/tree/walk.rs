//! Walking a tree by pointers, skipping what is old: for freeing, checking, comparing and rescuing.
//!
//! A node must lie where its parent says: one level lower, and with no key outside the range that the parent gives it.
//! So a walk ends, and visits no more leaves than there are keys in the inner nodes, whatever the bytes are.

use super::node::{Body, Child, Node};
use super::{Pager, Result, TreeError};
use crate::format::{BlockPtr, Epoch, Key};

/// What a walk meets, in key order; a node before what is below it.
pub enum Visit<'a> {
    /// A node, with the least key that it may hold and its height above the leaves.
    Node(&'a BlockPtr, Key, u8),
    /// An item of a leaf.
    Item(Key, &'a [u8]),
    /// A node that is too old to be walked, with the least key that it may hold.
    Old(&'a BlockPtr, Key),
}

/// A node that cannot be read, and so everything below it.
pub struct LostNode<'a> {
    /// The pointer to it.
    pub ptr: &'a BlockPtr,
    /// The least key that may be below it.
    pub from: Key,
    /// The first key that is not below it; none: there is no such.
    pub to: Option<Key>,
    /// Its height above the leaves, unless it is the root.
    pub level: Option<u8>,
    /// Why.
    pub error: TreeError,
}

/// What a visitor wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// On, and down into the node just shown.
    Into,
    /// On, but not into the node just shown.
    Over,
    /// No more.
    Stop,
}

/// Visits every node and item below `root` whose node was born after `newer_than`, from the device, not the cache.
pub fn walk(
    pager: &Pager,
    root: &BlockPtr,
    newer_than: Epoch,
    visit: &mut dyn FnMut(Visit<'_>) -> Result<Step>,
) -> Result<Step> {
    walk_readable(pager, root, newer_than, visit, &mut |lost| Err(lost.error))
}

/// As [`walk`], and goes on behind a node that cannot be read if `lost` says so. Such a node may have been visited
/// before it was found to be lost.
pub fn walk_readable(
    pager: &Pager,
    root: &BlockPtr,
    newer_than: Epoch,
    visit: &mut dyn FnMut(Visit<'_>) -> Result<Step>,
    lost: &mut dyn FnMut(LostNode<'_>) -> Result<()>,
) -> Result<Step> {
    let mut walk = Walk { pager, newer_than, visit, lost };
    walk.below(root, Expected { from: Key::MIN, to: None, level: None })
}

struct Walk<'a> {
    pager: &'a Pager,
    newer_than: Epoch,
    visit: &'a mut dyn FnMut(Visit<'_>) -> Result<Step>,
    lost: &'a mut dyn FnMut(LostNode<'_>) -> Result<()>,
}

/// What a parent says of a node.
#[derive(Clone, Copy)]
struct Expected {
    from: Key,
    to: Option<Key>,
    /// The level of the root is known only from the root itself; below, the parent says it before the node is read.
    level: Option<u8>,
}

impl Walk<'_> {
    fn below(&mut self, ptr: &BlockPtr, place: Expected) -> Result<Step> {
        if ptr.birth <= self.newer_than {
            let step = (self.visit)(Visit::Old(ptr, place.from))?;
            return Ok(if step == Step::Stop { Step::Stop } else { Step::Into });
        }
        if let Some(level) = place.level {
            match (self.visit)(Visit::Node(ptr, place.from, level))? {
                Step::Into => {}
                Step::Over => return Ok(Step::Into),
                Step::Stop => return Ok(Step::Stop),
            }
        }
        let node = match self.pager.load_uncached(ptr).and_then(|node| in_place(node, ptr, &place)) {
            Ok(node) => node,
            Err(error) => {
                let Expected { from, to, level } = place;
                (self.lost)(LostNode { ptr, from, to, level, error })?;
                return Ok(Step::Into);
            }
        };
        if place.level.is_none() {
            match (self.visit)(Visit::Node(ptr, place.from, node.level()))? {
                Step::Into => {}
                Step::Over => return Ok(Step::Into),
                Step::Stop => return Ok(Step::Stop),
            }
        }
        self.inside(&node, place)
    }

    fn inside(&mut self, node: &Node, place: Expected) -> Result<Step> {
        match &node.body {
            Body::Leaf(page) => {
                for i in 0..page.count() {
                    if (self.visit)(Visit::Item(page.key(i), page.value(i)))? == Step::Stop {
                        return Ok(Step::Stop);
                    }
                }
            }
            Body::Inner(inner) => {
                let level = Some(inner.level - 1);
                for (i, (key, child)) in inner.keys.iter().zip(&inner.children).enumerate() {
                    let Child::Stored(ptr) = child else {
                        unreachable!("a node from the device has stored children")
                    };
                    let to = inner.keys.get(i + 1).copied().or(place.to);
                    if self.below(ptr, Expected { from: place.from.max(*key), to, level })? == Step::Stop {
                        return Ok(Step::Stop);
                    }
                }
            }
        }
        Ok(Step::Into)
    }
}

/// Proves that a node has the level and the keys that belong to its place. Keys ascend, so the ends tell of all.
fn in_place(node: Node, ptr: &BlockPtr, place: &Expected) -> Result<Node> {
    if place.level.is_some_and(|level| node.level() != level) {
        return Err(TreeError::corrupt(format!(
            "tree node at {} has level {}, expected {}",
            ptr.addr,
            node.level(),
            place.level.unwrap_or_default()
        )));
    }
    let (first, last) = match &node.body {
        Body::Leaf(page) => match page.count() {
            0 => return Ok(node),
            n => (page.key(0), page.key(n - 1)),
        },
        // The first key of an inner node stands for the least of its range.
        Body::Inner(inner) => match inner.keys[..] {
            [_, second, .., last] => (second, last),
            [_, only] => (only, only),
            _ => return Ok(node),
        },
    };
    if first < place.from || place.to.is_some_and(|to| last >= to) {
        return Err(TreeError::corrupt(format!(
            "tree node at {} has keys {first:?} to {last:?}, outside of its range {:?} to {:?}",
            ptr.addr, place.from, place.to
        )));
    }
    Ok(node)
}
