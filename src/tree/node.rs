//! A tree node in memory: immutable once shared, stored or dirty below.

use super::{Result, TreeError};
use crate::format::header::{BlockKind, Header};
use crate::format::leaf::LeafPage;
use crate::format::{BlockPtr, Epoch, Key, inner};
use std::sync::{Arc, OnceLock};

/// A subtree: on the device, or in memory with changes that no commit has written yet.
///
/// A `Mem` node whose `ptr` is set was written and only waits to be exchanged for its `Stored` form.
#[derive(Clone)]
pub enum Child {
    /// At a place on the device.
    Stored(BlockPtr),
    /// In memory; gets its place when it is committed.
    Mem(Arc<Node>),
}

impl Child {
    /// Its place, if it is not in memory.
    pub(super) fn stored(&self) -> Option<BlockPtr> {
        match self {
            Child::Stored(ptr) => Some(*ptr),
            Child::Mem(_) => None,
        }
    }

    /// Epoch in which its node came to be.
    pub(super) fn birth(&self) -> Epoch {
        match self {
            Child::Stored(ptr) => ptr.birth,
            Child::Mem(node) => node.birth,
        }
    }

    /// Its place, also if it is in memory still and was written.
    pub(super) fn place(&self) -> Option<BlockPtr> {
        match self {
            Child::Stored(ptr) => Some(*ptr),
            Child::Mem(node) => node.stored_at(),
        }
    }
}

/// A node. `birth` is the epoch in which it came to be; only a node of the current epoch may change.
pub struct Node {
    pub(super) birth: Epoch,
    pub(super) ptr: OnceLock<BlockPtr>,
    pub(super) body: Body,
}

pub(super) enum Body {
    Leaf(LeafPage),
    Inner(Inner),
}

/// Children in key order; `keys[i]` bounds child `i` from below and `keys[0]` is the least key.
#[derive(Clone)]
pub(super) struct Inner {
    pub level: u8,
    pub keys: Vec<Key>,
    pub children: Vec<Child>,
}

impl Inner {
    /// Index of the child that holds `key`.
    pub fn index(&self, key: &Key) -> usize {
        self.keys.partition_point(|k| k <= key).saturating_sub(1)
    }
}

impl Node {
    pub(super) fn leaf(birth: Epoch, page: LeafPage) -> Node {
        Node { birth, ptr: OnceLock::new(), body: Body::Leaf(page) }
    }

    pub(super) fn inner(birth: Epoch, inner: Inner) -> Node {
        Node { birth, ptr: OnceLock::new(), body: Body::Inner(inner) }
    }

    /// A copy that belongs to `epoch`.
    pub(super) fn copy(&self, epoch: Epoch) -> Node {
        let body = match &self.body {
            Body::Leaf(page) => Body::Leaf(page.clone()),
            Body::Inner(inner) => Body::Inner(inner.clone()),
        };
        Node { birth: epoch, ptr: OnceLock::new(), body }
    }

    /// From a verified block.
    pub(super) fn decode(bytes: Box<[u8]>, header: Header, ptr: &BlockPtr) -> Result<Node> {
        let in_block = |e| TreeError::corrupt(format!("tree node at {}: {e}", ptr.addr));
        let body = match header.kind {
            BlockKind::Leaf => Body::Leaf(LeafPage::decode(bytes, header.count).map_err(in_block)?),
            _ => {
                if header.level == 0 || header.level > crate::limits::TREE_LEVEL_MAX {
                    return Err(TreeError::corrupt(format!(
                        "inner node at {} has level {}",
                        ptr.addr, header.level
                    )));
                }
                let entries = inner::decode(&bytes, header.count).map_err(in_block)?;
                if let Some((_, child)) = entries.iter().find(|(_, p)| p.birth > ptr.birth) {
                    return Err(TreeError::corrupt(format!(
                        "node at {} of epoch {} holds a newer child at {} of epoch {}",
                        ptr.addr, ptr.birth.0, child.addr, child.birth.0
                    )));
                }
                let (keys, children) = entries.into_iter().map(|(k, p)| (k, Child::Stored(p))).unzip();
                Body::Inner(Inner { level: header.level, keys, children })
            }
        };
        let node = Node { birth: ptr.birth, ptr: OnceLock::new(), body };
        node.ptr.get_or_init(|| *ptr);
        Ok(node)
    }

    pub(super) fn level(&self) -> u8 {
        match &self.body {
            Body::Leaf(_) => 0,
            Body::Inner(inner) => inner.level,
        }
    }

    /// Bytes of memory that it keeps, roughly.
    pub(super) fn weight(&self) -> usize {
        match &self.body {
            Body::Leaf(_) => crate::format::NODE_BYTES + 160,
            Body::Inner(inner) => inner.keys.capacity() * (size_of::<Key>() + size_of::<Child>()) + 200,
        }
    }

    /// Where it was written; set by commit.
    pub fn stored_at(&self) -> Option<BlockPtr> {
        self.ptr.get().copied()
    }

    /// Epoch in which it came to be.
    pub fn birth(&self) -> Epoch {
        self.birth
    }
}
