//! The flush: delayed data gets its place, in the transaction of a commit or of a snapshot.
//!
//! Everything that can fail for want of space happens before the first change: a failed flush leaves the data delayed.
//! Blocks of zeros become holes, small files go into the tree, the rest is staged in long runs over all files.

use super::change::Gate;
use super::dirty::{Block, Dirty};
use super::extents::{self, Keep};
use super::items::Items;
use crate::format::inode::Inode;
use crate::format::{BLOCK_BYTES, Extent, Ino, Key, Kind};
use crate::limits::INLINE_BYTES_MAX;
use crate::volume::{Staged, Txn, Volume, VolumeError};

type Result<T> = std::result::Result<T, VolumeError>;

/// Data handed to the volume in one call, at most (and then up to the end of the run).
const STAGE_BYTES: usize = 8 << 20;

/// Makes the live tree in `txn` complete: delayed data, and a record of each inode without a name.
///
/// Returns the number of the round, for [`Dirty::end_round`] once the transaction is visible.
pub(super) fn prepare(gate: &mut Gate, volume: &Volume, txn: &mut Txn) -> Result<u64> {
    let round = gate.dirty.begin_round();
    let files: Vec<Ino> = gate.dirty.files().into_iter().collect();
    flush(&mut gate.dirty, volume, txn, &files)?;
    for ino in gate.unlinked.keys() {
        let key = Key::new(Ino::ORPHANS.0, Kind::Orphan, ino.0);
        if txn.view().get(&key)?.is_none() {
            txn.insert(key, &[])?;
        }
    }
    Ok(round)
}

/// Contiguous blocks of one file that are not zero, or that are all zero.
struct Run {
    file: usize,
    first: u64,
    blocks: u64,
    zero: bool,
}

/// Staged data and the runs in it.
struct Batch {
    staged: Staged,
    runs: Vec<Run>,
}

/// Gives the delayed data of `files` its place and lets it settle.
pub(super) fn flush(dirty: &mut Dirty, volume: &Volume, txn: &mut Txn, files: &[Ino]) -> Result<()> {
    let mut inodes: Vec<(Ino, Inode)> = Vec::with_capacity(files.len());
    let mut small = Vec::new();
    for ino in files {
        let Some(inode) = txn.view().inode(*ino)? else {
            dirty.discard(*ino, 0, u64::MAX);
            continue;
        };
        if fits_inline(dirty, txn, *ino, &inode)? {
            small.push((*ino, inode));
        } else {
            inodes.push((*ino, inode));
        }
    }
    let (batches, zeros) = stage(dirty, volume, &inodes)?;

    for (ino, mut inode) in small {
        if let Some(block) = dirty.get(ino, 0) {
            txn.insert(Key::new(ino.0, Kind::Inline, 0), &block[..inode.size as usize])?;
            inode.has_inline = true;
            txn.insert(Key::new(ino.0, Kind::Inode, 0), &inode.encode())?;
        }
        dirty.settle(ino);
    }
    for run in zeros {
        place(txn, &mut inodes[run.file], &run, &[])?;
    }
    for batch in batches {
        let extents = txn.publish(batch.staged);
        let mut rest = Cursor { extents: &extents, used: 0 };
        for run in batch.runs {
            let parts = rest.take(run.blocks * BLOCK_BYTES);
            let new = extents::lay(run.first * BLOCK_BYTES, parts);
            place(txn, &mut inodes[run.file], &run, &new)?;
        }
    }
    for (ino, inode) in inodes {
        txn.insert(Key::new(ino.0, Kind::Inode, 0), &inode.encode())?;
        dirty.settle(ino);
    }
    Ok(())
}

/// True if all content of the file fits into an inline item.
fn fits_inline(dirty: &Dirty, txn: &Txn, ino: Ino, inode: &Inode) -> Result<bool> {
    if inode.size == 0 || inode.size > INLINE_BYTES_MAX {
        return Ok(false);
    }
    let only_first = dirty.blocks(ino).all(|(n, _)| n == 0);
    Ok(only_first && extents::at(txn.view(), ino, 0)?.is_none())
}

/// Puts every block that is not zero onto the device. Changes nothing; what is staged is given back if this fails.
fn stage(dirty: &Dirty, volume: &Volume, inodes: &[(Ino, Inode)]) -> Result<(Vec<Batch>, Vec<Run>)> {
    let (mut batches, mut zeros) = (Vec::new(), Vec::new());
    let (mut data, mut runs) = (Vec::new(), Vec::new());
    for (file, (ino, _)) in inodes.iter().enumerate() {
        for run in runs_of(file, dirty.blocks(*ino)) {
            if run.zero {
                zeros.push(run);
                continue;
            }
            for n in run.first..run.first + run.blocks {
                if let Some(block) = dirty.get(*ino, n) {
                    data.extend_from_slice(&block[..]);
                }
            }
            runs.push(run);
            if data.len() >= STAGE_BYTES {
                batches.push(Batch { staged: volume.stage(&data)?, runs: std::mem::take(&mut runs) });
                data.clear();
            }
        }
    }
    if !data.is_empty() {
        batches.push(Batch { staged: volume.stage(&data)?, runs });
    }
    Ok((batches, zeros))
}

fn runs_of<'a>(file: usize, blocks: impl Iterator<Item = (u64, &'a Block)>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (n, block) in blocks {
        let zero = is_zero(&block[..]);
        let full = (STAGE_BYTES as u64) / BLOCK_BYTES;
        match runs.last_mut() {
            Some(run) if run.zero == zero && run.first + run.blocks == n && run.blocks < full => {
                run.blocks += 1;
            }
            _ => runs.push(Run { file, first: n, blocks: 1, zero }),
        }
    }
    runs
}

/// Maps a run to its new extents; none make a hole, but keep space that was asked for.
fn place(txn: &mut Txn, (ino, inode): &mut (Ino, Inode), run: &Run, new: &[(u64, Extent)]) -> Result<()> {
    if run.first == 0 && inode.has_inline {
        txn.remove(&Key::new(ino.0, Kind::Inline, 0))?;
        inode.has_inline = false;
    }
    let keep = if run.zero { Keep::Unwritten } else { Keep::Nothing };
    let (from, to) = (run.first * BLOCK_BYTES, (run.first + run.blocks) * BLOCK_BYTES);
    let grown = extents::replace(txn, *ino, from, to, keep, new)?;
    inode.blocks = extents::add_blocks(inode.blocks, grown);
    Ok(())
}

/// Takes extents off the front of a list, cut where needed.
pub(super) struct Cursor<'a> {
    /// The extents.
    pub extents: &'a [Extent],
    /// Bytes of the first that are gone.
    pub used: u64,
}

impl Cursor<'_> {
    /// The next `len` bytes. There must be as many.
    pub fn take(&mut self, mut len: u64) -> Vec<Extent> {
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

/// True if there is nothing but zeros.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<64>();
    rest.iter().all(|b| *b == 0) && chunks.iter().all(|c| c.iter().fold(0, |a, b| a | b) == 0)
}
