//! Reading a tree in pieces, past what cannot be read: for whoever looks for damage.
//!
//! Unlike a walk it starts anywhere, and a node without a good copy is shown and passed over. Always from the device.

use super::node::{Body, Child, Node};
use super::{Pager, Result, Step, TreeError};
use crate::format::{BlockPtr, Epoch, Key};

/// The keys that a node may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// The least.
    pub least: Key,
    /// One past the greatest; none at the end of the tree.
    pub end: Option<Key>,
}

/// What a scan meets, in key order; a node before what is below it.
pub enum Met<'a> {
    /// A node that was read and proved, with its height above the leaves.
    Node(&'a BlockPtr, Span, u8),
    /// A node that cannot be read, with its height if it is known: that of a root is not.
    Lost(&'a BlockPtr, Span, Option<u8>, &'a TreeError),
    /// An item of a leaf.
    Item(Key, &'a [u8]),
}

/// What is left out of a scan.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Nodes born up to and in this epoch, with everything below them.
    pub newer_than: Epoch,
    /// Items with smaller keys, and nodes that hold no others.
    pub from: Key,
}

/// Shows every node and item below `root` within the bounds. A visitor that does not want a node's children says
/// [`Step::Over`]. Fails only if the visitor does.
pub fn scan(
    pager: &Pager,
    root: &BlockPtr,
    bounds: Bounds,
    visit: &mut dyn FnMut(Met<'_>) -> Result<Step>,
) -> Result<Step> {
    let span = Span { least: Key::MIN, end: None };
    scan_below(pager, root, bounds, span, None, visit)
}

fn scan_below(
    pager: &Pager,
    ptr: &BlockPtr,
    bounds: Bounds,
    span: Span,
    level: Option<u8>,
    visit: &mut dyn FnMut(Met<'_>) -> Result<Step>,
) -> Result<Step> {
    if ptr.birth <= bounds.newer_than || span.end.is_some_and(|end| end <= bounds.from) {
        return Ok(Step::Into);
    }
    let node = match read(pager, ptr, level) {
        Ok(node) => node,
        Err(e) => return visit(Met::Lost(ptr, span, level, &e)),
    };
    match visit(Met::Node(ptr, span, node.level()))? {
        Step::Into => {}
        other => return Ok(other),
    }
    match &node.body {
        Body::Leaf(page) => {
            let first = page.find(&bounds.from).unwrap_or_else(|i| i);
            for i in first..page.count() {
                if visit(Met::Item(page.key(i), page.value(i)))? == Step::Stop {
                    return Ok(Step::Stop);
                }
            }
        }
        Body::Inner(inner) => {
            let ends = inner.keys.iter().skip(1).map(|k| Some(*k)).chain([span.end]);
            for ((key, child), end) in inner.keys.iter().zip(&inner.children).zip(ends) {
                let Child::Stored(ptr) = child else { continue };
                let below = Span { least: span.least.max(*key), end };
                if scan_below(pager, ptr, bounds, below, Some(inner.level - 1), visit)? == Step::Stop {
                    return Ok(Step::Stop);
                }
            }
        }
    }
    Ok(Step::Into)
}

fn read(pager: &Pager, ptr: &BlockPtr, level: Option<u8>) -> Result<Node> {
    let node = pager.load_uncached(ptr)?;
    match level {
        Some(level) if node.level() != level => Err(TreeError::corrupt(format!(
            "tree node at {} has level {}, expected {level}",
            ptr.addr,
            node.level()
        ))),
        _ => Ok(node),
    }
}

/// True if the tree leads to this very node on the way to `key`. What cannot be read leads nowhere.
pub fn leads_to(pager: &Pager, root: &BlockPtr, key: &Key, wanted: &BlockPtr) -> bool {
    let mut at = *root;
    while at != *wanted {
        // What was born before a node cannot hold it.
        if at.birth < wanted.birth {
            return false;
        }
        let Ok(node) = pager.load(&at) else { return false };
        let Body::Inner(inner) = &node.body else { return false };
        let Child::Stored(ptr) = &inner.children[inner.index(key)] else { return false };
        at = *ptr;
    }
    true
}
