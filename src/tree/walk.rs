//! Walking a tree by pointers, skipping what is old: for freeing, checking and comparing.

use super::node::{Body, Child, Node};
use super::{Pager, Result, TreeError};
use crate::format::{BlockPtr, Epoch, Key};

/// What a walk meets, in key order; a node before what is below it.
pub enum Visit<'a> {
    /// A node, with the least key that it may hold and its height above the leaves.
    Node(&'a BlockPtr, Key, u8),
    /// An item of a leaf.
    Item(Key, &'a [u8]),
    /// A node that is too old to be walked.
    Old(&'a BlockPtr),
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
    walk_below(pager, root, newer_than, None, Key::MIN, visit)
}

fn walk_below(
    pager: &Pager,
    ptr: &BlockPtr,
    newer_than: Epoch,
    level: Option<u8>,
    least: Key,
    visit: &mut dyn FnMut(Visit<'_>) -> Result<Step>,
) -> Result<Step> {
    if ptr.birth <= newer_than {
        let step = visit(Visit::Old(ptr))?;
        return Ok(if step == Step::Stop { Step::Stop } else { Step::Into });
    }
    // The level of the root is known only from the root itself; below, the parent says it before the node is read.
    if let Some(level) = level {
        match visit(Visit::Node(ptr, least, level))? {
            Step::Into => {}
            Step::Over => return Ok(Step::Into),
            Step::Stop => return Ok(Step::Stop),
        }
    }
    let node = pager.load_uncached(ptr)?;
    if let Some(level) = level
        && node.level() != level
    {
        return Err(TreeError::corrupt(format!(
            "tree node at {} has level {}, expected {level}",
            ptr.addr,
            node.level()
        )));
    }
    if level.is_none() {
        match visit(Visit::Node(ptr, least, node.level()))? {
            Step::Into => {}
            Step::Over => return Ok(Step::Into),
            Step::Stop => return Ok(Step::Stop),
        }
    }
    walk_node(pager, &node, newer_than, least, visit)
}

fn walk_node(
    pager: &Pager,
    node: &Node,
    newer_than: Epoch,
    least: Key,
    visit: &mut dyn FnMut(Visit<'_>) -> Result<Step>,
) -> Result<Step> {
    match &node.body {
        Body::Leaf(page) => {
            for i in 0..page.count() {
                if visit(Visit::Item(page.key(i), page.value(i)))? == Step::Stop {
                    return Ok(Step::Stop);
                }
            }
        }
        Body::Inner(inner) => {
            for (key, child) in inner.keys.iter().zip(&inner.children) {
                let Child::Stored(ptr) = child else {
                    unreachable!("a node from the device has stored children")
                };
                let least = least.max(*key);
                if walk_below(pager, ptr, newer_than, Some(inner.level - 1), least, visit)? == Step::Stop {
                    return Ok(Step::Stop);
                }
            }
        }
    }
    Ok(Step::Into)
}
