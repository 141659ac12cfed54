//! The flush: delayed data gets its place, in the transaction of a commit or of a snapshot.
//!
//! In three parts, so that one that fails leaves the data delayed, in whatever head it fails. First what is delayed is
//! looked through and put onto the device ([`look_through`]); with a turn at the gate, and before anything is locked that
//! other heads need. Then it goes into the tree ([`place_all`]), in a transaction that can be taken back. When that has
//! succeeded for all heads, the gates close and the delayed blocks settle ([`settle`]), which cannot fail: up to then
//! readers go on. Blocks of zeros become holes, small
//! files go into the tree, the rest is staged in long runs over all files, compressed where that is wanted.

use super::inline::inline_first_block;
use super::stager::Stager;
use crate::format::inode::Inode;
use crate::format::{BLOCK_BYTES, Extent, Ino, Key, Kind};
use crate::fs::heads::{Block, Change, Dirty, Gate, Pass};
use crate::fs::items::extents::{self, Keep};
use crate::fs::items::{Items, away_record, goes_home, is_zero};
use crate::fs::log::Note;
use crate::limits::INLINE_BYTES_MAX;
use crate::volume::{ContentRun, Staged, Txn, View, VolumeError};
use std::collections::BTreeMap;
use std::ops::Range;

type Result<T> = std::result::Result<T, VolumeError>;

/// Data handed to the volume in one call, at most (and then up to the end of the run).
const STAGE_BYTES: usize = 8 << 20;

/// What a head holds back, looked through: all of it has a place on the device, and none in the tree.
pub struct Found {
    /// Files that are not there any more.
    gone: Vec<Ino>,
    /// Files that go into the tree.
    small: Vec<Ino>,
    inodes: BTreeMap<Ino, Inode>,
    /// Blocks of zeros: the first and how many.
    zeros: Vec<(Ino, u64, u64)>,
    early: Early,
    /// Of each early batch, which blocks are still what they were.
    kept: Vec<Vec<bool>>,
    batches: Vec<Batch>,
}

/// Files whose delayed blocks are in the transaction.
pub struct Placed(Vec<Ino>);

/// Looks through everything that a head holds back. Whoever has the turn at its gate keeps it until [`settle_round`].
pub fn look_through_all(gate: &Gate, stager: Stager, early: Early) -> Result<Found> {
    let files: Vec<Ino> = gate.dirty.files().into_iter().collect();
    look_through(&gate.dirty, stager, &stager.view()?, &files, early)
}

/// Makes the head in `txn` complete: delayed data, and a record of each inode without a name.
pub fn complete(gate: &Gate, txn: &mut Txn, found: Found) -> Result<Placed> {
    let placed = place_all(&gate.dirty, txn, found)?;
    for ino in gate.unlinked.keys() {
        let key = Key::new(Ino::ORPHANS.0, Kind::Orphan, ino.0);
        if txn.view().get(&key)?.is_none() {
            txn.insert(key, &[])?;
        }
    }
    Ok(placed)
}

/// What was placed is in a transaction that will be visible. Returns the number of the round, for [`Dirty::end_round`] once
/// it is.
pub fn settle_round(gate: &mut Gate, placed: Placed) -> u64 {
    let round = gate.dirty.begin_round();
    settle(&mut gate.dirty, placed);
    round
}

fn settle(dirty: &mut Dirty, placed: Placed) {
    placed.0.into_iter().for_each(|ino| dirty.settle(ino));
}

/// Contiguous blocks of one file, none of them zero.
struct Run {
    ino: Ino,
    first: u64,
    blocks: Vec<Block>,
    /// As in [`ContentRun`].
    level: Option<u8>,
}

impl Run {
    fn bytes(&self) -> u64 {
        self.blocks.len() as u64 * BLOCK_BYTES
    }
}

/// Staged data and the runs in it, in order.
struct Batch {
    staged: Staged,
    runs: Vec<Run>,
}

/// Delayed data that was put onto the device before the transaction began, with the pass in which it was. Blocks that
/// change meanwhile are put there again by the flush.
#[derive(Default)]
pub struct Early(Vec<(Pass, Batch)>);

#[cfg(test)]
impl Early {
    /// How many passes there were that put anything onto the device.
    pub fn passes(&self) -> usize {
        self.0.last().map_or(0, |(pass, _)| pass.number + 1)
    }
}

/// Times that delayed data is put onto the device early: while the first goes on for long, much comes to be delayed.
const EARLY_PASSES: usize = 2;
/// Blocks for which there is another pass.
const EARLY_BLOCKS_MIN: usize = 64;

/// Puts delayed data onto the device without holding anything up. Best effort: what fails here is tried again, and
/// reported, by the flush. Heads take turns pass by pass, so that little comes to be delayed in one after its last.
pub fn stage_early(stagers: &[Stager]) -> Vec<Early> {
    let mut heads: Vec<_> = stagers.iter().map(|_| (Early::default(), Some(None))).collect();
    for _ in 0..EARLY_PASSES {
        for (stager, (early, before)) in stagers.iter().zip(&mut heads) {
            if let Some(last) = *before {
                *before = stage_pass(*stager, early, last).map(Some);
            }
        }
    }
    heads.into_iter().map(|(early, _)| early).collect()
}

/// The first pass over a head, or one after another. None if there is no use in one more.
fn stage_pass(stager: Stager, early: &mut Early, before: Option<Pass>) -> Option<Pass> {
    let (pass, mut waiting, done, view) = {
        let mut gate = stager.head.gate.write();
        let (pass, waiting) = gate.dirty.begin_pass(before);
        let done = unchanged(&gate.dirty, |ino| gate.dirty.is_touched(ino), early).1;
        (pass, waiting, done, stager.view().ok()?)
    };
    let mut done = Passed(&done);
    waiting.retain(|(ino, n, _)| !done.has(*ino, *n));
    if pass.number > 0 && waiting.len() < EARLY_BLOCKS_MIN {
        return None;
    }
    let mut runs = Vec::new();
    for file in waiting.chunk_by(|a, b| a.0 == b.0) {
        let ino = file[0].0;
        if let Ok(Some(inode)) = view.inode(ino)
            && inode.size > INLINE_BYTES_MAX
            && let Ok(level) = stager.level(&view, ino, &inode)
            && let Ok(zeros) = zeros_of(stager, &view, &inode)
        {
            runs.extend(runs_of(file.iter().map(|(_, n, block)| (*n, block)), ino, level, zeros).0);
        }
    }
    // A block has space for two places, of which the flush may need one.
    let room = if pass.number == 0 { Use::Reserved } else { Use::Spare };
    let batches = stage(stager, runs, room).ok()?;
    early.0.extend(batches.into_iter().map(|batch| (pass, batch)));
    Some(pass)
}

/// Puts the delayed data of one file, if some of the `needed` blocks are delayed, onto the device without holding anything
/// up, as [`stage_early`] does for all. Only into space that nobody has reserved: a commit may be using that at the same
/// time.
pub fn stage_file(stager: Stager, ino: Ino, needed: Range<u64>) -> Early {
    let (waiting, view) = {
        let gate = stager.head.gate.read();
        if gate.dirty.missing(ino, needed.start, needed.end) == needed.end - needed.start {
            return Early::default();
        }
        let Ok(view) = stager.view() else { return Early::default() };
        (gate.dirty.collect_waiting(ino), view)
    };
    let Ok(Some(inode)) = view.inode(ino) else { return Early::default() };
    if inode.size <= INLINE_BYTES_MAX {
        return Early::default();
    }
    let Ok(level) = stager.level(&view, ino, &inode) else { return Early::default() };
    let Ok(zeros) = zeros_of(stager, &view, &inode) else { return Early::default() };
    let runs = runs_of(waiting.iter().map(|(n, block)| (*n, block)), ino, level, zeros).0;
    let batches = stage(stager, runs, Use::Spare).unwrap_or_default();
    Early(batches.into_iter().map(|batch| (Pass::UNWATCHED, batch)).collect())
}

/// Gives the delayed data of a file its place and lets it settle, in a change of its own.
pub fn flush_file(change: Change<'_>, stager: Stager, ino: Ino, early: Early) -> Result<()> {
    let found = look_through(&change.gate().dirty, stager, change.view(), &[ino], early)?;
    change.attempt(|gate, txn| {
        let placed = place_all(&gate.dirty, txn, found)?;
        settle(&mut gate.alone().dirty, placed);
        Ok(())
    })
}

/// Looks the delayed data of `files` through and puts onto the device what is not there yet.
fn look_through(dirty: &Dirty, stager: Stager, view: &View, files: &[Ino], early: Early) -> Result<Found> {
    let (mut inodes, mut gone, mut small) = (BTreeMap::new(), Vec::new(), Vec::new());
    for ino in files {
        match view.inode(*ino)? {
            None => gone.push(*ino),
            Some(inode) if fits_inline(dirty, view, *ino, &inode)? => small.push(*ino),
            Some(inode) => drop(inodes.insert(*ino, inode)),
        }
    }
    let (kept, done) = unchanged(dirty, |ino| inodes.contains_key(&ino), &early);
    let mut done = Passed(&done);
    let (mut runs, mut zeros) = (Vec::new(), Vec::new());
    for (ino, inode) in &inodes {
        let level = stager.level(view, *ino, inode)?;
        let zeros_as = zeros_of(stager, view, inode)?;
        let waiting = dirty.blocks(*ino).filter(|(n, _)| !done.has(*ino, *n));
        let (data, zero) = runs_of(waiting, *ino, level, zeros_as);
        runs.extend(data);
        zeros.extend(zero.into_iter().map(|(first, blocks)| (*ino, first, blocks)));
    }
    let batches = stage(stager, runs, Use::Reserved)?;
    Ok(Found { gone, small, inodes, zeros, early, kept, batches })
}

/// Puts what was found into the tree. The blocks are still delayed.
fn place_all(dirty: &Dirty, txn: &mut Txn, found: Found) -> Result<Placed> {
    let Found { gone, small, mut inodes, zeros, early, kept, batches } = found;
    let mut placed = gone;
    for ino in &placed {
        Note::Discard { ino: *ino, from: 0, to: u64::MAX }.put(txn);
    }
    for ino in small {
        txn.by_note(|out| Note::Inlined { ino }.encode(out), |txn| inline_first_block(dirty, txn, ino))?;
        placed.push(ino);
    }
    for (ino, first, blocks) in zeros {
        place(txn, &mut inodes, ino, first, blocks, &[])?;
    }
    for ((_, batch), kept) in early.0.into_iter().zip(kept) {
        place_early(txn, &mut inodes, batch, &kept)?;
    }
    for batch in batches {
        let extents = txn.publish(batch.staged);
        let mut rest = Cursor { extents: &extents, used: 0 };
        for run in batch.runs {
            let blocks = run.blocks.len() as u64;
            let new = extents::lay(run.first * BLOCK_BYTES, rest.take(blocks * BLOCK_BYTES));
            place(txn, &mut inodes, run.ino, run.first, blocks, &new)?;
        }
    }
    for (ino, inode) in inodes {
        txn.insert(Key::new(ino.0, Kind::Inode, 0), &inode.encode())?;
        Note::Discard { ino, from: 0, to: u64::MAX }.put(txn);
        placed.push(ino);
    }
    Ok(Placed(placed))
}

/// True if all content of the file fits into an inline item.
fn fits_inline(dirty: &Dirty, view: &View, ino: Ino, inode: &Inode) -> Result<bool> {
    if inode.size == 0 || inode.size > INLINE_BYTES_MAX {
        return Ok(false);
    }
    let only_first = dirty.blocks(ino).all(|(n, _)| n == 0);
    Ok(only_first && extents::at(view, ino, 0)?.is_none())
}

/// Of each block of each early batch, whether it is still what a `wanted` file holds; and those blocks, in order. What was
/// compressed together counts only if all of it is the same.
fn unchanged(
    dirty: &Dirty,
    wanted: impl Fn(Ino) -> bool,
    early: &Early,
) -> (Vec<Vec<bool>>, Vec<(Ino, u64)>) {
    let (mut kept, mut done) = (Vec::new(), Vec::new());
    for (pass, batch) in &early.0 {
        let mut same = Vec::new();
        for run in &batch.runs {
            match wanted(run.ino) {
                true => dirty.still(*pass, run.ino, run.first, &run.blocks, &mut same),
                false => same.resize(same.len() + run.blocks.len(), false),
            }
        }
        let mut rest = &mut same[..];
        for extent in batch.staged.extents() {
            let (together, tail) = rest.split_at_mut((extent.len_bytes() / BLOCK_BYTES) as usize);
            if extent.is_compressed() && together.contains(&false) {
                together.fill(false);
            }
            rest = tail;
        }
        let blocks =
            batch.runs.iter().flat_map(|run| (run.first..).take(run.blocks.len()).map(|n| (run.ino, n)));
        done.extend(blocks.zip(&same).filter(|(_, same)| **same).map(|(block, _)| block));
        kept.push(same);
    }
    done.sort_unstable();
    (kept, done)
}

/// Walks along blocks in order and says which are among others.
struct Passed<'a>(&'a [(Ino, u64)]);

impl Passed<'_> {
    /// Blocks must be asked for in order.
    fn has(&mut self, ino: Ino, n: u64) -> bool {
        let before = self.0.iter().take_while(|block| **block < (ino, n)).count();
        self.0 = &self.0[before..];
        self.0.first() == Some(&(ino, n))
    }
}

/// Which space content is put into.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// What was reserved for it.
    Reserved,
    /// What nobody has reserved.
    Spare,
}

/// Puts runs onto the device. Changes nothing; what is staged is given back if this fails.
fn stage(stager: Stager, runs: Vec<Run>, room: Use) -> Result<Vec<Batch>> {
    let (mut batches, mut data, mut pending) = (Vec::new(), Vec::new(), Vec::new());
    let mut flush = |data: &mut Vec<u8>, pending: &mut Vec<Run>| -> Result<()> {
        if !data.is_empty() {
            let part = |run: &Run| stager.part(run.ino, run.first * BLOCK_BYTES, run.bytes(), run.level);
            let parts: Vec<ContentRun> = pending.iter().map(part).collect();
            let staged = match room {
                Use::Reserved => stager.volume.stage_reserved(data, &parts)?,
                Use::Spare => stager.volume.stage_runs(data, &parts)?,
            };
            let runs = std::mem::take(pending);
            runs.iter().zip(staged.gains()).for_each(|(run, gain)| stager.head.misses.learn(run.ino, *gain));
            batches.push(Batch { staged, runs });
            data.clear();
        }
        Ok(())
    };
    for run in runs {
        for block in &run.blocks {
            data.extend_from_slice(&block[..]);
        }
        pending.push(run);
        if data.len() >= STAGE_BYTES {
            flush(&mut data, &mut pending)?;
        }
    }
    flush(&mut data, &mut pending)?;
    Ok(batches)
}

/// What becomes of blocks of zeros.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Zeros {
    Holes,
    /// They have a place like other content.
    Content,
}

fn zeros_of(stager: Stager, view: &View, inode: &Inode) -> Result<Zeros> {
    Ok(if stager.goes_home(view, inode)? { Zeros::Content } else { Zeros::Holes })
}

/// What blocks of a file make up: runs of data, and runs of zeros as (first, number).
fn runs_of<'a>(
    waiting: impl Iterator<Item = (u64, &'a Block)>,
    ino: Ino,
    level: Option<u8>,
    zeros_as: Zeros,
) -> (Vec<Run>, Vec<(u64, u64)>) {
    let (mut runs, mut zeros): (Vec<Run>, Vec<(u64, u64)>) = (Vec::new(), Vec::new());
    for (n, block) in waiting {
        if zeros_as == Zeros::Holes && is_zero(&block[..]) {
            match zeros.last_mut() {
                Some((first, blocks)) if *first + *blocks == n => *blocks += 1,
                _ => zeros.push((n, 1)),
            }
            continue;
        }
        let full = STAGE_BYTES / BLOCK_BYTES as usize;
        match runs.last_mut() {
            Some(run) if run.first + run.blocks.len() as u64 == n && run.blocks.len() < full => {
                run.blocks.push(block.clone());
            }
            _ => runs.push(Run { ino, first: n, blocks: vec![block.clone()], level }),
        }
    }
    (runs, zeros)
}

/// Maps what is still wanted of an early batch, and gives the rest back.
fn place_early(txn: &mut Txn, inodes: &mut BTreeMap<Ino, Inode>, batch: Batch, kept: &[bool]) -> Result<()> {
    let extents = txn.publish(batch.staged);
    let mut rest = Cursor { extents: &extents, used: 0 };
    let mut kept = kept;
    for run in batch.runs {
        let (of_run, later) = kept.split_at(run.blocks.len());
        kept = later;
        let mut first = run.first;
        for alike in of_run.chunk_by(|a, b| a == b) {
            let blocks = alike.len() as u64;
            let parts = rest.take(blocks * BLOCK_BYTES);
            if alike[0] {
                let new = extents::lay(first * BLOCK_BYTES, parts);
                place(txn, inodes, run.ino, first, blocks, &new)?;
            } else {
                parts.iter().for_each(|part| txn.free(part));
            }
            first += blocks;
        }
    }
    Ok(())
}

/// Maps blocks to their new extents; none make a hole, but keep space that was asked for.
fn place(
    txn: &mut Txn,
    inodes: &mut BTreeMap<Ino, Inode>,
    ino: Ino,
    first: u64,
    blocks: u64,
    new: &[(u64, Extent)],
) -> Result<()> {
    let Some(inode) = inodes.get_mut(&ino) else { return Ok(()) };
    if first == 0 && inode.has_inline {
        txn.remove(&Key::new(ino.0, Kind::Inline, 0))?;
        inode.has_inline = false;
    }
    let keep = if new.is_empty() { Keep::Unwritten } else { Keep::Nothing };
    let (from, to) = (first * BLOCK_BYTES, (first + blocks) * BLOCK_BYTES);
    // Files whose content goes home are in the list once they were written over.
    let homes = txn.knows_homes() && !new.is_empty();
    let at_home = homes && goes_home(txn.view(), inode)? && txn.view().get(&away_record(ino))?.is_some();
    let grown = match at_home {
        true => extents::replace_at_home(txn, ino, from, to, keep, new)?,
        false => extents::replace(txn, ino, from, to, keep, new)?,
    };
    inode.blocks = extents::add_blocks(inode.blocks, grown);
    Ok(())
}

/// Takes extents off the front of a list, cut where needed.
struct Cursor<'a> {
    /// The extents.
    extents: &'a [Extent],
    /// Bytes of the first that are gone.
    used: u64,
}

impl Cursor<'_> {
    /// The next `len` bytes. There must be as many.
    fn take(&mut self, mut len: u64) -> Vec<Extent> {
        let mut out = Vec::new();
        while len > 0 {
            let Some(first) = self.extents.first() else { break };
            let part = len.min(first.len_bytes() - self.used);
            out.push(first.slice(self.used, part));
            self.used += part;
            len -= part;
            if self.used == first.len_bytes() {
                self.extents = &self.extents[1..];
                self.used = 0;
            }
        }
        debug_assert_eq!(len, 0, "extents cover less than was staged");
        out
    }
}
