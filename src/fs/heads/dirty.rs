//! Delayed data: blocks of files that were written but have no place on the device yet.
//!
//! A dirty block is newer than everything the tree says about it. Space for it was reserved when it was written, so a
//! flush cannot run out. It is zero beyond the end of its file. Blocks that a commit has put into its transaction stay
//! readable as settling until that transaction is known to be visible. No I/O here; the flush is in `flush`.

use crate::format::{BLOCK_BYTES, Ino};
use foldhash::{HashMap, HashSet};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Content of one block. Shared with readers; a writer copies it when they still hold it.
pub type Block = Arc<[u8; BLOCK_BYTES as usize]>;

/// A block that waits for its place.
pub struct DirtyBlock {
    /// Its content.
    pub data: Block,
    /// True if nothing in the tree maps it: its space is not in the inode's `blocks` yet.
    pub fresh: bool,
}

type Blocks = BTreeMap<u64, DirtyBlock>;

/// Delayed data of all files. Lives behind the gate.
#[derive(Default)]
pub struct Dirty {
    files: BTreeMap<Ino, Blocks>,
    settling: BTreeMap<Ino, Blocks>,
    held: HashMap<Ino, SpaceBudget>,
    /// How many blocks of each file are fresh, if any are.
    fresh: HashMap<Ino, u64>,
    /// Files that the newest round, or a change since, let settle.
    placed: HashSet<Ino>,
    blocks: Arc<AtomicU64>,
    round: u64,
    watch: Watch,
}

/// What is known of the space that is held for the delayed blocks of a file.
#[derive(Clone, Copy, Default)]
pub struct SpaceBudget {
    /// Leaves of the tree that it is for, and those beside an inode without extents.
    pub leaves: u64,
    pub beside: u64,
    /// How many nodes its extents are in, once they were counted; inside, none if they are too many.
    pub span: Option<Option<usize>>,
}

/// A time at which what waits was looked through, to be put onto the device early.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pass {
    watch: u64,
    /// The first has 0.
    pub number: usize,
}

impl Pass {
    /// No pass that is watched: what was seen is looked at again.
    pub const UNWATCHED: Pass = Pass { watch: u64::MAX, number: 0 };
}

/// What happens to files while what waits is put onto the device early: from the first pass to the beginning of the
/// next round, whosever it is.
#[derive(Default)]
struct Watch {
    id: u64,
    on: bool,
    pass: usize,
    /// Files of which blocks were changed or taken away, and during which pass at last.
    touched: HashMap<Ino, usize>,
}

impl Watch {
    fn touch(&mut self, ino: Ino) {
        if self.on {
            self.touched.insert(ino, self.pass);
        }
    }
}

/// Content of a block of zeros.
pub fn zero_block() -> Block {
    Arc::new([0; BLOCK_BYTES as usize])
}

impl Dirty {
    /// Bytes that wait.
    #[cfg(test)]
    pub fn bytes(&self) -> u64 {
        self.blocks.load(Relaxed) * BLOCK_BYTES
    }

    /// How many blocks wait, to be looked at without the gate.
    pub fn counter(&self) -> Arc<AtomicU64> {
        self.blocks.clone()
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

    /// Blocks of a file that have no place yet, in order.
    pub fn collect_waiting(&self, ino: Ino) -> Vec<(u64, Block)> {
        self.blocks(ino).map(|(n, block)| (n, block.clone())).collect()
    }

    /// How many blocks of `from..to` are not delayed yet.
    pub fn missing(&self, ino: Ino, from: u64, to: u64) -> u64 {
        let have = self.files.get(&ino).map_or(0, |b| b.range(from..to).count() as u64);
        (to - from) - have
    }

    /// How many blocks of a file are delayed.
    pub fn count(&self, ino: Ino) -> u64 {
        self.files.get(&ino).map_or(0, |b| b.len() as u64)
    }

    /// What is held for a file.
    pub fn held(&mut self, ino: Ino) -> &mut SpaceBudget {
        self.held.entry(ino).or_default()
    }

    /// The same, to be looked at.
    pub fn held_for(&self, ino: Ino) -> SpaceBudget {
        self.held.get(&ino).copied().unwrap_or_default()
    }

    /// The block to write into, put there by `load` when it is not delayed yet.
    pub fn edit(&mut self, ino: Ino, block: u64, load: impl FnOnce() -> DirtyBlock) -> &mut [u8; 4096] {
        self.watch.touch(ino);
        let blocks = self.files.entry(ino).or_default();
        let (added, fresh) = (&self.blocks, &mut self.fresh);
        let b = blocks.entry(block).or_insert_with(|| {
            added.fetch_add(1, Relaxed);
            let loaded = load();
            if loaded.fresh {
                *fresh.entry(ino).or_default() += 1;
            }
            loaded
        });
        Arc::make_mut(&mut b.data)
    }

    /// Forgets the blocks `from..to`. False if there were none.
    pub fn discard(&mut self, ino: Ino, from: u64, to: u64) -> bool {
        self.recount(ino);
        let Some(blocks) = self.files.get_mut(&ino) else { return false };
        self.watch.touch(ino);
        let gone: Vec<u64> = blocks.range(from..to).map(|(n, _)| *n).collect();
        let fresh = gone.iter().filter_map(|n| blocks.remove(n)).filter(|b| b.fresh).count();
        self.blocks.fetch_sub(gone.len() as u64, Relaxed);
        less_fresh(&mut self.fresh, ino, fresh as u64);
        if blocks.is_empty() {
            self.files.remove(&ino);
            self.held.remove(&ino);
        }
        !gone.is_empty()
    }

    /// The extents of a file are about to be others.
    fn recount(&mut self, ino: Ino) {
        if let Some(held) = self.held.get_mut(&ino) {
            held.span = None;
        }
    }

    /// Notes that the tree maps the blocks `from..to` now.
    pub fn mapped(&mut self, ino: Ino, from: u64, to: u64) {
        self.recount(ino);
        let mut mapped = 0;
        for b in self.files.get_mut(&ino).into_iter().flat_map(|b| b.range_mut(from..to)) {
            mapped += u64::from(std::mem::take(&mut b.1.fresh));
        }
        less_fresh(&mut self.fresh, ino, mapped);
    }

    /// Delayed blocks that are in no count of the inode yet.
    pub fn fresh_blocks(&self, ino: Ino) -> u64 {
        self.fresh.get(&ino).copied().unwrap_or(0)
    }

    /// True if blocks of a file are delayed, or were until the newest round.
    pub fn waits(&self, ino: Ino) -> bool {
        self.files.contains_key(&ino) || self.placed.contains(&ino)
    }

    /// Files with delayed data.
    pub fn files(&self) -> BTreeSet<Ino> {
        self.files.keys().copied().collect()
    }

    /// Blocks of a file.
    pub fn blocks(&self, ino: Ino) -> impl Iterator<Item = (u64, &Block)> {
        self.files.get(&ino).into_iter().flatten().map(|(n, b)| (*n, &b.data))
    }

    /// A pass begins: what waits in order, all of it in the first, then of the files that were touched meanwhile.
    pub fn begin_pass(&mut self, before: Option<Pass>) -> (Pass, Vec<(Ino, u64, Block)>) {
        let watch = &mut self.watch;
        let files: Vec<_> = match before {
            None => {
                (watch.id, watch.on, watch.pass) = (watch.id + 1, true, 0);
                watch.touched.clear();
                self.files.iter().collect()
            }
            Some(before) if watch.on && watch.id == before.watch => {
                watch.pass = before.number + 1;
                let mut touched: Vec<_> = watch.touched.keys().collect();
                touched.sort_unstable();
                touched.into_iter().filter_map(|ino| self.files.get_key_value(ino)).collect()
            }
            Some(_) => Vec::new(),
        };
        let blocks =
            files.into_iter().flat_map(|(ino, blocks)| blocks.iter().map(move |(n, b)| (*ino, *n, b)));
        let pass = Pass { watch: watch.id, number: watch.pass };
        (pass, blocks.map(|(ino, n, block)| (ino, n, block.data.clone())).collect())
    }

    /// True if blocks of a file were changed or taken away since the first pass.
    pub fn is_touched(&self, ino: Ino) -> bool {
        self.watch.touched.contains_key(&ino)
    }

    /// Appends to `same`, for each of some blocks from `first` on that were seen in `pass`, whether it still waits. In
    /// doubt they are looked at: what was seen is kept, so the same place in memory is the same content.
    pub fn still(&self, pass: Pass, ino: Ino, first: u64, blocks: &[Block], same: &mut Vec<bool>) {
        let watch = &self.watch;
        let watched = watch.on && watch.id == pass.watch;
        if watched && watch.touched.get(&ino).is_none_or(|touched| *touched < pass.number) {
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
            self.watch.touch(ino);
            self.held.remove(&ino);
            self.fresh.remove(&ino);
            self.placed.insert(ino);
            self.blocks.fetch_sub(blocks.len() as u64, Relaxed);
            self.settling.insert(ino, blocks);
        }
    }

    /// True if blocks are in a transaction that may not be visible yet.
    pub fn is_settling(&self) -> bool {
        !self.settling.is_empty()
    }

    /// Every earlier transaction is visible.
    pub fn settled(&mut self) {
        self.settling.clear();
    }

    /// A commit or snapshot starts: every earlier transaction is visible. Returns its number.
    pub fn begin_round(&mut self) -> u64 {
        self.settled();
        self.placed.clear();
        self.held.clear();
        self.round += 1;
        // From here on nobody notes what is touched.
        self.watch.on = false;
        self.round
    }

    /// The transaction of round `round` is visible. What a later one has let settle stays.
    pub fn end_round(&mut self, round: u64) {
        if self.round == round {
            self.settled();
        }
    }
}

/// Takes so many off the count of a file.
fn less_fresh(fresh: &mut HashMap<Ino, u64>, ino: Ino, fewer: u64) {
    if let Some(count) = fresh.get_mut(&ino).filter(|_| fewer > 0) {
        *count -= fewer;
        if *count == 0 {
            fresh.remove(&ino);
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

    #[test]
    fn a_later_pass_sees_what_was_touched_since_the_first() {
        let load = || DirtyBlock { data: zero_block(), fresh: true };
        let mut d = Dirty::default();
        let write = |d: &mut Dirty, ino, n, byte| d.edit(Ino(ino), n, load)[0] = byte;
        let places =
            |seen: &[(Ino, u64, Block)]| seen.iter().map(|(ino, n, _)| (ino.0, *n)).collect::<Vec<_>>();
        (0..3).for_each(|n| write(&mut d, 20, n, 1));
        write(&mut d, 21, 0, 1);
        write(&mut d, 22, 7, 1);
        let (one, first) = d.begin_pass(None);
        assert_eq!(places(&first), [(20, 0), (20, 1), (20, 2), (21, 0), (22, 7)]);
        write(&mut d, 20, 1, 2);
        write(&mut d, 30, 5, 2);
        d.settle(Ino(21));
        let (two, second) = d.begin_pass(Some(one));
        assert_eq!(places(&second), [(20, 0), (20, 1), (20, 2), (30, 5)]);
        assert!([20, 21, 30].iter().all(|ino| d.is_touched(Ino(*ino))) && !d.is_touched(Ino(22)));
        d.discard(Ino(30), 5, 6);
        write(&mut d, 22, 7, 3);

        let still = |d: &Dirty, pass, seen: &[(Ino, u64, Block)]| {
            let mut same = Vec::new();
            seen.iter()
                .for_each(|(ino, n, block)| d.still(pass, *ino, *n, std::slice::from_ref(block), &mut same));
            same
        };
        d.begin_round();
        assert_eq!(still(&d, one, &first), [true, false, true, false, false]);
        assert_eq!(still(&d, two, &second), [true, true, true, false]);
        // Nobody watches any more: what was seen is looked at, and nothing is left for another pass.
        write(&mut d, 20, 0, 4);
        d.begin_round();
        assert_eq!(still(&d, one, &first), [false, false, true, false, false]);
        assert!(d.begin_pass(Some(two)).1.is_empty());
        d.begin_pass(None);
        assert!(!d.is_touched(Ino(20)));
    }
}
