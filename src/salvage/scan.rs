//! Every tree node on a device that its own header tells of, whoever points to it.
//!
//! A node counts if it is whole: magic number, checksum, keys in order. It says where it belongs; one that is found
//! elsewhere is the second copy of a block. Nodes of several stores may be found on one device, and nodes that no tree
//! has had for long. Memory: 104 bytes for each node, so at most 1/150 of the space that nodes take, and no more than
//! [`NODES_MAX`] nodes.

use super::report::SalvageProgress;
use crate::device::Device;
use crate::format::header::{self, BlockKind, SelfDescribed};
use crate::format::leaf::LeafPage;
use crate::format::{BLOCK_BYTES, BlockAddr, BlockPtr, Key, NODE_BYTES, inner};
use std::collections::BTreeMap;

/// Nodes that are taken note of at most.
const NODES_MAX: usize = 1 << 26;
/// Stores that are told apart at most: an image can be made to hold any number of them.
const STORES_MAX: usize = 64;
/// Read at once.
const CHUNK_BYTES: u64 = 4 << 20;

/// A node that was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct FoundNode {
    /// A pointer to it.
    pub ptr: BlockPtr,
    /// First 8 bytes of the uuid of its store.
    pub fsid: u64,
    /// View that wrote it, 0 for the meta tree.
    pub owner: u64,
    /// Height above the leaves.
    pub level: u8,
    /// First and last key of a leaf; of an inner node the second, because the first means nothing, and the last.
    pub first: Key,
    pub last: Key,
}

/// All nodes of one store, by address.
pub(super) struct Scan {
    nodes: Vec<FoundNode>,
    /// Bytes that could not be read.
    pub unreadable_bytes: u64,
}

/// What a device holds.
pub(super) struct Scanned {
    nodes: Vec<FoundNode>,
    stores: BTreeMap<u64, u64>,
    unreadable_bytes: u64,
}

impl Scanned {
    /// Reads everything.
    pub fn read(device: &dyn Device, progress: &mut dyn FnMut(SalvageProgress)) -> Scanned {
        let mut scanned = Scanned { nodes: Vec::new(), stores: BTreeMap::new(), unreadable_bytes: 0 };
        let ranges = device.stored();
        let total = ranges.iter().map(|(_, len)| len).sum();
        let mut done = 0;
        for (start, len) in ranges {
            let (mut at, end) = (start, start.saturating_add(len).min(device.size()));
            while at < end && scanned.nodes.len() < NODES_MAX {
                progress(SalvageProgress::Scanning { done: done + (at - start), total });
                at = scanned.chunk(device, at, end);
            }
            done += len;
        }
        scanned
    }

    /// Stores of which nodes were found, with their number, the one with most nodes first.
    pub fn stores(&self) -> Vec<(u64, u64)> {
        let mut stores: Vec<(u64, u64)> = self.stores.iter().map(|(fsid, n)| (*fsid, *n)).collect();
        stores.sort_by_key(|(fsid, n)| (std::cmp::Reverse(*n), *fsid));
        stores
    }

    /// The nodes of one store.
    pub fn of_store(self, fsid: u64) -> Scan {
        let mut nodes = self.nodes;
        nodes.retain(|node| node.fsid == fsid);
        // Where the block itself was found, its copy adds no node; with the block gone, the copy stands for it.
        let id = |n: &FoundNode| (n.ptr.addr, n.ptr.birth, n.ptr.checksum);
        nodes.sort_unstable_by_key(|n| (id(n), n.ptr.copy));
        nodes.dedup_by(|later, first| id(later) == id(first));
        Scan { nodes, unreadable_bytes: self.unreadable_bytes }
    }

    /// Looks at the nodes that start in one chunk; returns where the next one begins.
    fn chunk(&mut self, device: &dyn Device, at: u64, end: u64) -> u64 {
        let node = NODE_BYTES as u64;
        let mut buf = vec![0; (end - at).min(CHUNK_BYTES + node) as usize];
        self.unreadable_bytes += read_what_can_be(device, at, &mut buf);
        let mut from = 0;
        while let Some(block) = buf.get(from..from + NODE_BYTES)
            && (from as u64) < CHUNK_BYTES
        {
            from += match recognise(block, at + from as u64) {
                Some(found) => {
                    self.add(found);
                    NODE_BYTES
                }
                None => BLOCK_BYTES as usize,
            };
        }
        let next = at + from as u64;
        if next + node > end { end } else { next }
    }

    fn add(&mut self, found: FoundNode) {
        if self.stores.len() >= STORES_MAX && !self.stores.contains_key(&found.fsid) {
            return;
        }
        *self.stores.entry(found.fsid).or_default() += 1;
        self.nodes.push(found);
    }
}

impl Scan {
    /// All nodes, by address.
    pub fn nodes(&self) -> &[FoundNode] {
        &self.nodes
    }

    /// The node that a pointer means.
    pub fn find(&self, ptr: &BlockPtr) -> Option<&FoundNode> {
        let id = |p: &BlockPtr| (p.addr, p.birth, p.checksum);
        let at = self.nodes.binary_search_by_key(&id(ptr), |n| id(&n.ptr)).ok()?;
        self.nodes.get(at)
    }
}

/// Fills `buf` and leaves zeros where nothing can be read; returns how many bytes that are.
fn read_what_can_be(device: &dyn Device, at: u64, buf: &mut [u8]) -> u64 {
    if device.read_at(at, buf).is_ok() {
        return 0;
    }
    let mut lost = 0;
    for (i, block) in buf.chunks_mut(BLOCK_BYTES as usize).enumerate() {
        if device.read_at(at + i as u64 * BLOCK_BYTES, block).is_err() {
            block.fill(0);
            lost += block.len() as u64;
        }
    }
    lost
}

fn recognise(block: &[u8], place: u64) -> Option<FoundNode> {
    let SelfDescribed { header, fsid, mut ptr } =
        header::recognise(block, &[BlockKind::Leaf, BlockKind::Inner])?;
    if ptr.addr.0 != place {
        ptr.copy = BlockAddr(place);
    }
    let (first, last) = match header.kind {
        BlockKind::Leaf => {
            let page = LeafPage::decode(block.into(), header.count).ok()?;
            (page.key(0), page.key(page.count().checked_sub(1)?))
        }
        _ => {
            let entries = inner::decode(block, header.count).ok()?;
            let second = entries.get(1).map_or(Key::MIN, |(key, _)| *key);
            (second, entries.last()?.0)
        }
    };
    let level_fits = (header.kind == BlockKind::Leaf) == (header.level == 0);
    let sane = level_fits && header.level <= crate::limits::TREE_LEVEL_MAX;
    sane.then_some(FoundNode { ptr, fsid, owner: header.owner, level: header.level, first, last })
}
