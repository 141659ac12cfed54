//! Delayed data: blocks of files that were written but have no place on the device yet.
//!
//! A dirty block is newer than everything the tree says about it. Space for it was reserved when it was written, so a
//! flush cannot run out. It is zero beyond the end of its file. Blocks that a commit has put into its transaction stay
//! readable as settling until that transaction is known to be visible. No I/O here; the flush is in `flush`.

use crate::format::{BLOCK_BYTES, Ino};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Content of one block. Shared with readers; a writer copies it when they still hold it.
pub(super) type Block = Arc<[u8; BLOCK_BYTES as usize]>;

/// A block that waits for its place.
pub(super) struct DirtyBlock {
    /// Its content.
    pub data: Block,
    /// True if nothing in the tree maps it: its space is not in the inode's `blocks` yet.
    pub fresh: bool,
}

type Blocks = BTreeMap<u64, DirtyBlock>;

/// Delayed data of all files. Lives behind the gate.
#[derive(Default)]
pub(super) struct Dirty {
    files: BTreeMap<Ino, Blocks>,
    settling: BTreeMap<Ino, Blocks>,
    blocks: u64,
    round: u64,
    early: EarlyWatch,
}

/// What happens to files while what waits is put onto the device early, in passes.
#[derive(Default)]
struct EarlyWatch {
    /// From the first pass to the beginning of the round.
    on: bool,
    pass: usize,
    /// Files of which blocks were changed or taken away, and during which pass at last.
    touched: HashMap<Ino, usize>,
}

impl EarlyWatch {
    fn touch(&mut self, ino: Ino) {
        if self.on {
            self.touched.insert(ino, self.pass);
        }
    }
}

/// Content of a block of zeros.
pub(super) fn zero_block() -> Block {
    Arc::new([0; BLOCK_BYTES as usize])
}

impl Dirty {
    /// Bytes that wait.
    pub fn bytes(&self) -> u64 {
        self.blocks * BLOCK_BYTES
    }

    /// Content of a block, if it is delayed.
    pub fn get(&self, ino: Ino, block: u64) -> Option<&Block> {
        let find = |files: &'_ BTreeMap<Ino, Blocks>| files.get(&ino).is_some_and(|b| b.contains_key(&block));
        let files = if find(&self.files) { &self.files } else { &self.settling };
        files.get(&ino)?.get(&block).map(|b| &b.data)
    }

    /// Delayed blocks in `from..to` (block numbers), in order.
    pub fn collect(&self, ino: Ino, from: u64, to: u64) -> Vec<(u64, Block)> {
        let mut out = BTreeMap::new();
        for files in [&self.settling, &self.files] {
            if let Some(blocks) = files.get(&ino) {
                out.extend(blocks.range(from..to).map(|(n, b)| (*n, b.data.clone())));
            }
        }
        out.into_iter().collect()
    }

    /// How many blocks of `from..to` are not delayed yet.
    pub fn missing(&self, ino: Ino, from: u64, to: u64) -> u64 {
        let have = self.files.get(&ino).map_or(0, |b| b.range(from..to).count() as u64);
        (to - from) - have
    }

    /// The block to write into, put there by `load` when it is not delayed yet.
    pub fn edit(&mut self, ino: Ino, block: u64, load: impl FnOnce() -> DirtyBlock) -> &mut [u8; 4096] {
        self.early.touch(ino);
        let blocks = self.files.entry(ino).or_default();
        let added = &mut self.blocks;
        let b = blocks.entry(block).or_insert_with(|| {
            *added += 1;
            load()
        });
        Arc::make_mut(&mut b.data)
    }

    /// Forgets the blocks `from..to`. False if there were none.
    pub fn discard(&mut self, ino: Ino, from: u64, to: u64) -> bool {
        let Some(blocks) = self.files.get_mut(&ino) else { return false };
        self.early.touch(ino);
        let gone: Vec<u64> = blocks.range(from..to).map(|(n, _)| *n).collect();
        for n in &gone {
            blocks.remove(n);
        }
        self.blocks -= gone.len() as u64;
        if blocks.is_empty() {
            self.files.remove(&ino);
        }
        !gone.is_empty()
    }

    /// Notes that the tree maps the blocks `from..to` now.
    pub fn mapped(&mut self, ino: Ino, from: u64, to: u64) {
        for b in self.files.get_mut(&ino).into_iter().flat_map(|b| b.range_mut(from..to)) {
            b.1.fresh = false;
        }
    }

    /// Delayed blocks that are in no count of the inode yet.
    pub fn fresh_blocks(&self, ino: Ino) -> u64 {
        self.files.get(&ino).map_or(0, |b| b.values().filter(|b| b.fresh).count() as u64)
    }

    /// Files with delayed data.
    pub fn files(&self) -> BTreeSet<Ino> {
        self.files.keys().copied().collect()
    }

    /// Blocks of a file.
    pub fn blocks(&self, ino: Ino) -> impl Iterator<Item = (u64, &Block)> {
        self.files.get(&ino).into_iter().flatten().map(|(n, b)| (*n, &b.data))
    }

    /// A pass begins: what waits in order, all of it in the first pass, then of the files that were touched meanwhile.
    pub fn begin_pass(&mut self, pass: usize) -> Vec<(Ino, u64, Block)> {
        let files: Vec<_> = if pass == 0 {
            self.early.touched.clear();
            self.files.iter().collect()
        } else {
            let mut touched: Vec<_> = self.early.touched.keys().collect();
            touched.sort_unstable();
            touched.into_iter().filter_map(|ino| self.files.get_key_value(ino)).collect()
        };
        (self.early.on, self.early.pass) = (true, pass);
        let blocks =
            files.into_iter().flat_map(|(ino, blocks)| blocks.iter().map(move |(n, b)| (*ino, *n, b)));
        blocks.map(|(ino, n, block)| (ino, n, block.data.clone())).collect()
    }

    /// True if blocks of a file were changed or taken away since the first pass.
    pub fn is_touched(&self, ino: Ino) -> bool {
        self.early.touched.contains_key(&ino)
    }

    /// Appends to `same`, for each of some blocks from `first` on that were seen in `pass`, whether it still waits.
    pub fn still(&self, pass: usize, ino: Ino, first: u64, blocks: &[Block], same: &mut Vec<bool>) {
        if self.early.touched.get(&ino).is_none_or(|touched| *touched < pass) {
            return same.resize(same.len() + blocks.len(), true);
        }
        let mut now = self.files.get(&ino).into_iter().flat_map(|b| b.range(first..)).peekable();
        same.extend(blocks.iter().zip(first..).map(|(block, n)| {
            while now.next_if(|(at, _)| **at < n).is_some() {}
            now.next_if(|(at, _)| **at == n).is_some_and(|(_, b)| Arc::ptr_eq(&b.data, block))
        }));
    }

    /// The file's blocks are in the current transaction: not dirty any more, readable until it is visible.
    pub fn settle(&mut self, ino: Ino) {
        if let Some(blocks) = self.files.remove(&ino) {
            self.early.touch(ino);
            self.blocks -= blocks.len() as u64;
            self.settling.insert(ino, blocks);
        }
    }

    /// Every earlier transaction is visible.
    pub fn settled(&mut self) {
        self.settling.clear();
    }

    /// A commit or snapshot starts: every earlier transaction is visible. Returns its number.
    pub fn begin_round(&mut self) -> u64 {
        self.settled();
        self.early.on = false;
        self.round += 1;
        self.round
    }

    /// The transaction of round `round` is visible. What a later one has let settle stays.
    pub fn end_round(&mut self, round: u64) {
        if self.round == round {
            self.settled();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settling_blocks_are_below_dirty_ones() {
        let ino = Ino(20);
        let mut d = Dirty::default();
        let load = || DirtyBlock { data: zero_block(), fresh: true };
        d.edit(ino, 1, load)[0] = 1;
        d.edit(ino, 2, load)[0] = 2;
        assert_eq!((d.bytes(), d.fresh_blocks(ino), d.missing(ino, 0, 4)), (8192, 2, 2));
        let round = d.begin_round();
        d.settle(ino);
        d.edit(ino, 2, load)[0] = 3;
        let seen: Vec<_> = d.collect(ino, 0, 9).iter().map(|(n, b)| (*n, b[0])).collect();
        assert_eq!((seen, d.bytes()), (vec![(1, 1), (2, 3)], 4096));
        assert_eq!(d.get(ino, 1).map(|b| b[0]), Some(1));
        d.end_round(round - 1);
        assert!(d.get(ino, 1).is_some());
        d.end_round(round);
        assert!(d.get(ino, 1).is_none());
        d.discard(ino, 0, 9);
        assert!(d.bytes() == 0 && d.files().is_empty());
    }
}
