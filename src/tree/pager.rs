//! Nodes by pointer, through a bounded cache.

use super::node::{Body, Child, Node};
use super::{Result, TreeError, kept};
use crate::format::header::BlockKind;
use crate::format::leaf::LeafPage;
use crate::format::{BlockPtr, Key, NODE_BYTES};
use crate::store::{Cache, Store};
use std::sync::Arc;

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

    pub(super) fn load(&self, ptr: &BlockPtr) -> Result<Arc<Node>> {
        if let Some(node) = self.cache.get(ptr.addr)
            && node.stored_at() == Some(*ptr)
        {
            kept::met(ptr, &node);
            return Ok(node);
        }
        if let Some(node) = kept::kept(ptr) {
            return Ok(node);
        }
        loop {
            let entered = self.store.rewrites().entered();
            let node = Arc::new(self.load_uncached(ptr)?);
            kept::met(ptr, &node);
            self.cache.insert(ptr.addr, node.clone(), node.weight());
            if entered == self.store.rewrites().entered() {
                return Ok(node);
            }
            // Whoever rewrites a leaf drops it from the cache after that is known.
            self.cache.remove(ptr.addr);
        }
    }

    /// A leaf was rewritten: what is in memory of it is not it any more.
    pub fn drop_cached(&self, ptr: &BlockPtr) {
        self.cache.remove(ptr.addr);
    }

    /// A node, if it need not be read from the device.
    pub(super) fn resident(&self, ptr: &BlockPtr) -> Option<Arc<Node>> {
        let cached = self.cache.get(ptr.addr).filter(|node| node.stored_at() == Some(*ptr));
        cached.or_else(|| kept::kept(ptr))
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

    pub(super) fn resolve(&self, child: &Child) -> Result<Arc<Node>> {
        match child {
            Child::Mem(node) => match node.stored_at() {
                // Whoever has had it in memory since it was written is to have what it is now.
                Some(ptr) if self.store.rewrites().of(&ptr).is_some() => self.load(&ptr),
                _ => Ok(node.clone()),
            },
            Child::Stored(ptr) => self.load(ptr),
        }
    }

    /// Puts a node that was just written where readers find it.
    pub(super) fn adopt(&self, ptr: &BlockPtr, node: Arc<Node>) {
        let weight = node.weight();
        self.cache.insert(ptr.addr, node, weight);
    }
}
