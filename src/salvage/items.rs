//! The items of one tree as far as they can be read: lookups and ranges over what [`Leaves`] found.
//!
//! A leaf that turns out to be unreadable is a lost range like the others, and is not tried again. Items outside of the
//! range of their leaf are not looked at. Memory: the list of leaves and a bounded cache.

use super::leaves::{Keys, Leaf, Leaves};
use crate::format::inode::Inode;
use crate::format::leaf::LeafPage;
use crate::format::link::Links;
use crate::format::{Extent, Ino, Key, Kind, PlacedExtent};
use crate::store::Cache;
use crate::tree::Pager;
use crate::volume::remap::Remap;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Memory for leaves.
const CACHE_BYTES: usize = 64 << 20;

/// A tree to read from. One thread.
pub(super) struct SalvagedItems {
    pager: Pager,
    leaves: Leaves,
    /// Content that has moved, as far as it is known.
    remap: Remap,
    cache: Cache<Arc<LeafPage>>,
    /// Leaves that cannot be read, by their place in the list.
    unreadable: RefCell<BTreeSet<usize>>,
}

impl SalvagedItems {
    pub fn new(pager: Pager, leaves: Leaves, remap: Remap) -> SalvagedItems {
        SalvagedItems { pager, leaves, remap, cache: Cache::new(CACHE_BYTES), unreadable: RefCell::default() }
    }

    /// Reads content of an extent from `from` on and proves it: where it is said to have moved to, or else where it was. False
    /// if it is at neither.
    pub fn read_content(&self, extent: &Extent, from: u64, out: &mut [u8]) -> bool {
        let store = self.pager.store();
        if extent.is_compressed() {
            return store.read_extent(&PlacedExtent::in_place(extent), from, out).is_ok();
        }
        let part = extent.slice(from, out.len() as u64);
        let mut at = 0;
        let moved = self.remap.resolve(&part).iter().all(|placed| {
            let len = placed.extent().len_bytes() as usize;
            at += len;
            store.read_extent(placed, 0, &mut out[at - len..at]).is_ok()
        });
        moved || store.read_extent(&PlacedExtent::in_place(&part), 0, out).is_ok()
    }

    /// True if some of the tree was pieced together from nodes that a scan found.
    pub fn is_patched(&self) -> bool {
        self.leaves.patched
    }

    /// Leaves found, and ranges that are lost so far.
    pub fn counts(&self) -> (usize, usize) {
        let lost = self.leaves.lost.len() + self.leaves.holes.len() + self.unreadable.borrow().len();
        (self.leaves.list.len() - self.unreadable.borrow().len(), lost)
    }

    /// The value of a key.
    pub fn get(&self, key: &Key) -> Option<Vec<u8>> {
        let at = self.leaves.list.partition_point(|leaf| leaf.keys.from <= *key).checked_sub(1)?;
        if self.leaves.list[at].keys.to.is_some_and(|to| to <= *key) {
            return None;
        }
        let page = self.page(at)?;
        page.find(key).ok().map(|i| page.value(i).to_vec())
    }

    /// Items in `from..to`, ascending.
    pub fn range(&self, from: Key, to: Key) -> impl Iterator<Item = (Key, Vec<u8>)> + '_ {
        self.walk(from, to).map(|(page, i)| (page.key(i), page.value(i).to_vec()))
    }

    /// Every object of which there is an item, ascending.
    pub fn objects(&self) -> impl Iterator<Item = u64> + '_ {
        let mut last = None;
        self.walk(Key::MIN, Key::MAX).filter_map(move |(page, i)| {
            let object = page.key(i).object;
            (last.replace(object) != Some(object)).then_some(object)
        })
    }

    fn walk(&self, from: Key, to: Key) -> impl Iterator<Item = (Arc<LeafPage>, usize)> + '_ {
        let first = self.leaves.list.partition_point(|leaf| leaf.keys.to.is_some_and(|end| end <= from));
        let near = self.leaves.list.iter().enumerate().skip(first);
        near.take_while(move |(_, leaf)| leaf.keys.from < to).flat_map(move |(at, leaf)| {
            let page = self.page(at);
            let (from, to) = (from.max(leaf.keys.from), leaf.keys.to.map_or(to, |end| end.min(to)));
            let bound = |key: &Key| page.as_ref().map_or(0, |p| p.find(key).unwrap_or_else(|i| i));
            let (start, end) = (bound(&from), bound(&to));
            (start..end).filter_map(move |i| Some((page.clone()?, i)))
        })
    }

    fn page(&self, at: usize) -> Option<Arc<LeafPage>> {
        let Leaf { ptr, .. } = *self.leaves.list.get(at)?;
        if let Some(page) = self.cache.get(ptr.addr) {
            return Some(page);
        }
        if self.unreadable.borrow().contains(&at) {
            return None;
        }
        match self.pager.load_leaf(&ptr) {
            Ok(page) => {
                let page = Arc::new(page);
                self.cache.insert(ptr.addr, page.clone(), crate::format::NODE_BYTES);
                Some(page)
            }
            Err(e) => {
                log::info!("{e}");
                self.unreadable.borrow_mut().insert(at);
                None
            }
        }
    }

    /// Lost parts of `from..to`, as far as that range was read. Unknown ones count.
    pub fn lost_in(&self, from: Key, to: Key) -> Vec<Keys> {
        let wanted = Keys { from, to: Some(to) };
        let unreadable = self.unreadable.borrow();
        let leaves = unreadable.iter().map(|at| self.leaves.list[*at].keys);
        let known = self.leaves.lost.iter().copied().chain(self.leaves.holes.iter().map(|h| h.keys));
        let mut lost: Vec<Keys> = known.chain(leaves).filter_map(|keys| keys.meet(&wanted)).collect();
        lost.sort_by_key(|keys| keys.from);
        lost
    }

    /// The inode, if its item is there and makes sense.
    pub fn inode(&self, ino: Ino) -> Option<Inode> {
        Inode::decode(&self.get(&Key::new(ino.0, Kind::Inode, 0))?).ok()
    }

    /// Names of an inode as (directory, name), as the inode itself knows them.
    pub fn links(&self, ino: Ino) -> impl Iterator<Item = (Ino, Vec<u8>)> + '_ {
        let (from, to) = (Key::new(ino.0, Kind::Link, 0), Key::new(ino.0, Kind::Dirent, 0));
        self.range(from, to).flat_map(|(_, value)| Links::decode(&value).unwrap_or_default().names)
    }
}
