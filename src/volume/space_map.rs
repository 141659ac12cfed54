//! The space map: the allocator's state on the device, a chain of change blocks outside every tree.
//!
//! Each commit appends its changes by rewriting the newest, partly filled block. When the chain has grown to twice what
//! a fresh one would need, it is written anew. The chain can always be rebuilt by walking everything else.

use super::Result;
use super::error::corrupt;
use super::writer::CommitWriter;
use crate::format::header::{self, BlockKind, Header};
use crate::format::space_map::{CHANGES_MAX, SpaceChange, decode, encode};
use crate::format::{BlockPtr, Epoch, NODE_BYTES};
use crate::store::{Allocator, Store};
use crate::tree::NodeWriter;

/// The chain as it stands on the device.
#[derive(Default)]
pub struct SpaceMap {
    /// Full and newest blocks, oldest first.
    chain: Vec<BlockPtr>,
    /// Changes in the newest block.
    newest: Vec<SpaceChange>,
    /// Number of changes in all blocks.
    changes: usize,
    /// Number of changes when the chain was last written anew.
    base: usize,
    /// The chain does not tell what the allocator knows: the next append writes it anew.
    wrong: bool,
}

impl SpaceMap {
    /// Reads the chain from its newest block and applies it to a fresh allocator.
    pub fn load(store: &Store, newest: Option<BlockPtr>, alloc: &mut Allocator) -> Result<SpaceMap> {
        let (mut at, mut blocks) = (newest, Vec::new());
        while let Some(ptr) = at {
            let (bytes, header) = store.read_block(&ptr, &[BlockKind::SpaceMap])?;
            let in_block = |e| corrupt(format!("space map block at {}: {e}", ptr.addr));
            let (prev, changes) = decode(&bytes, header.count).map_err(in_block)?;
            if prev.is_some_and(|p| p.birth > ptr.birth) {
                return Err(corrupt(format!(
                    "space map block at {} is older than its predecessor",
                    ptr.addr
                )));
            }
            blocks.push((ptr, changes));
            at = prev;
            if blocks.len() > 1 << 20 {
                return Err(corrupt("the space map does not end".into()));
            }
        }
        let mut map = SpaceMap::default();
        for (ptr, changes) in blocks.into_iter().rev() {
            for change in &changes {
                let ok = match *change {
                    SpaceChange::Allocated(a, l) => alloc.mark_allocated(a, l),
                    SpaceChange::Freed(a, l) => alloc.mark_free(a, l),
                };
                if !ok {
                    return Err(corrupt(format!(
                        "space map block at {}: {change:?} contradicts the map",
                        ptr.addr
                    )));
                }
            }
            map.changes += changes.len();
            map.chain.push(ptr);
            map.newest = changes;
        }
        // Not what it has: else a chain that grows a little in each session is never written anew.
        map.base = alloc.allocated().len();
        let mut own: Vec<_> = map.chain.iter().flat_map(|p| p.ranges()).collect();
        own.sort_unstable();
        if let Some((addr, _)) = alloc.not_allocated(&own, 0) {
            return Err(corrupt(format!("the block at {addr:#x} of the space map is not in it")));
        }
        Ok(map)
    }

    /// A map that is wrong, in `blocks`: the next [`SpaceMap::append`] puts what the allocator knows in its place.
    pub fn to_replace(blocks: Vec<BlockPtr>) -> SpaceMap {
        SpaceMap { chain: blocks, wrong: true, ..SpaceMap::default() }
    }

    /// Newest block, for the superblock.
    pub fn head(&self) -> Option<BlockPtr> {
        self.chain.last().copied()
    }

    /// All blocks, for the auditor.
    pub fn blocks(&self) -> &[BlockPtr] {
        &self.chain
    }

    /// Appends what the commit of `epoch` allocated (`writer.allocated` and `data`) and freed. Its own blocks are
    /// included; the ranges that it freed itself are added to `freed`, which is in order afterwards, neighbours joined.
    pub fn append(
        &mut self,
        writer: &mut CommitWriter<'_>,
        store: &Store,
        data: &[(u64, u64)],
        freed: &mut Vec<(u64, u64)>,
        epoch: Epoch,
    ) -> Result<()> {
        let mut rewrite = self.wrong || self.changes > 2 * self.base + 8 * CHANGES_MAX;
        if rewrite && !self.wrong {
            // A long map of a full store waits for room, rather than fail the commit.
            let alloc = store.alloc();
            let blocks = alloc.allocated_count_max() + writer.allocated.len() + data.len() + freed.len();
            let places = (blocks / CHANGES_MAX + 1) as u64 * writer.copies.node_bytes();
            rewrite = places * 2 <= alloc.node_bytes_in_sum();
        }
        let replaced: Vec<BlockPtr> =
            if rewrite { std::mem::take(&mut self.chain) } else { self.chain.pop().into_iter().collect() };
        freed.extend(replaced.iter().flat_map(|p| p.ranges()));
        let fresh = merged(writer.allocated.iter().chain(data).copied().collect());
        *freed = merged(std::mem::take(freed));
        let mut all = std::mem::take(&mut self.newest);
        self.changes -= all.len();
        if rewrite {
            let mut set = store.allocated();
            fresh.iter().for_each(|(addr, len)| assert!(set.insert(*addr, *len)));
            freed.iter().for_each(|(addr, len)| assert!(set.remove(*addr, *len)));
            all = set.iter().map(|(a, l)| SpaceChange::Allocated(a, l)).collect();
            self.changes = 0;
        } else {
            all.extend(fresh.into_iter().map(|(a, l)| SpaceChange::Allocated(a, l)));
            all.extend(freed.iter().map(|(a, l)| SpaceChange::Freed(*a, *l)));
        }
        // Each of the new blocks holds the changes that tell of a new block.
        let count = all.len().div_ceil(CHANGES_MAX - writer.copies as usize).max(1);
        let mut places = Vec::with_capacity(count);
        for _ in 0..count {
            let place = writer.allocate(NODE_BYTES)?;
            let both = [place.addr, place.copy].into_iter().filter(|a| a.0 != 0);
            all.extend(both.map(|a| SpaceChange::Allocated(a.0, NODE_BYTES as u64)));
            places.push(place);
        }
        for (i, place) in places.into_iter().enumerate() {
            // Even shares: each place that was allocated gets a block.
            let changes = &all[i * all.len() / count..(i + 1) * all.len() / count];
            let mut bytes = encode(self.head(), changes);
            let header =
                Header { kind: BlockKind::SpaceMap, level: 0, count: changes.len() as u16, owner: 0 };
            let ptr = header::seal(&mut bytes, header, writer.fsid(), place, epoch);
            writer.write(place, bytes)?;
            self.chain.push(ptr);
            self.changes += changes.len();
            self.newest = changes.to_vec();
        }
        if rewrite {
            self.base = self.changes;
            self.wrong = false;
        }
        Ok(())
    }
}

/// Ranges in address order, neighbours joined.
fn merged(mut ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    ranges.sort_unstable();
    let mut out: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
    for (addr, len) in ranges {
        match out.last_mut() {
            Some((a, l)) if *a + *l == addr => *l += len,
            _ => out.push((addr, len)),
        }
    }
    out
}
