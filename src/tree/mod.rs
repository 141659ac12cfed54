//! An ordered map of [`Key`] to bytes over copy-on-write blocks.
//!
//! A tree is its root ([`Child`]); cloning a root is a snapshot of the whole map. Changes go through [`Edit`], which
//! copies every node that is older than the current epoch and reports the replaced one as dead: a node that any root,
//! reader or commit may still see is never changed. Addresses are assigned late, by [`write_out`].
//!
//! The tree knows nothing of files, snapshots or free space.

mod edit;
mod node;
mod read;
mod scan;
mod walk;
mod write;

pub use edit::{Dead, Edit};
pub use node::{Child, Node};
pub use read::{Item, Range, get, last_at_or_before, nodes_between, range};
pub use scan::{Bounds, Met, Span, leads_to, scan};
pub use walk::{LostNode, Step, Visit, walk, walk_readable};
pub use write::{NodeWriter, settle, write_out};

use crate::format::header::BlockKind;
use crate::format::leaf::LeafPage;
use crate::format::{BlockPtr, Key, NODE_BYTES};
use crate::store::{Cache, Store, StoreError};
use node::Body;
use std::sync::Arc;

/// Result of the tree: its only failures are those of the store.
pub type Result<T> = std::result::Result<T, StoreError>;
pub(crate) use crate::store::StoreError as TreeError;

impl TreeError {
    pub(crate) fn corrupt(what: String) -> TreeError {
        StoreError::Corrupt(what)
    }
}

/// Reads nodes through a bounded cache. Any thread, no lock held over I/O.
pub struct Pager {
    store: Arc<Store>,
    cache: Cache<Arc<Node>>,
}

impl Pager {
    /// A pager over `store` that keeps at most `cache_bytes` of clean nodes.
    pub fn new(store: Arc<Store>, cache_bytes: usize) -> Pager {
        Pager { store, cache: Cache::new(cache_bytes) }
    }

    /// The store below.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Bytes of clean nodes in memory.
    pub fn cached_bytes(&self) -> usize {
        self.cache.bytes()
    }

    fn load(&self, ptr: &BlockPtr) -> Result<Arc<Node>> {
        if let Some(node) = self.cache.get(ptr.addr)
            && node.stored_at() == Some(*ptr)
        {
            return Ok(node);
        }
        let node = Arc::new(self.load_uncached(ptr)?);
        self.cache.insert(ptr.addr, node.clone(), node.weight());
        Ok(node)
    }

    /// Reads a node from the device whatever the cache holds: for the auditor.
    pub fn load_uncached(&self, ptr: &BlockPtr) -> Result<Node> {
        if ptr.len as usize != NODE_BYTES {
            return Err(TreeError::corrupt(format!("tree node at {} has length {}", ptr.addr, ptr.len)));
        }
        let (bytes, header) = self.store.read_block(ptr, &[BlockKind::Leaf, BlockKind::Inner])?;
        Node::decode(bytes, header, ptr)
    }

    /// A leaf, read from the device.
    pub fn load_leaf(&self, ptr: &BlockPtr) -> Result<LeafPage> {
        match self.load_uncached(ptr)?.body {
            Body::Leaf(page) => Ok(page),
            Body::Inner(_) => Err(TreeError::corrupt(format!("the tree node at {} is no leaf", ptr.addr))),
        }
    }

    /// Children of an inner node with the least keys below them, read from the device.
    pub fn load_entries(&self, ptr: &BlockPtr) -> Result<Vec<(Key, BlockPtr)>> {
        let Body::Inner(inner) = self.load_uncached(ptr)?.body else {
            return Err(TreeError::corrupt(format!("the tree node at {} is a leaf", ptr.addr)));
        };
        let children = inner.keys.into_iter().zip(inner.children);
        Ok(children.filter_map(|(key, child)| child.stored().map(|ptr| (key, ptr))).collect())
    }

    fn resolve(&self, child: &Child) -> Result<Arc<Node>> {
        match child {
            Child::Mem(node) => Ok(node.clone()),
            Child::Stored(ptr) => self.load(ptr),
        }
    }

    /// Puts a node that was just written where readers find it.
    fn adopt(&self, ptr: &BlockPtr, node: Arc<Node>) {
        let weight = node.weight();
        self.cache.insert(ptr.addr, node, weight);
    }
}

#[cfg(test)]
mod tests;
