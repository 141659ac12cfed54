//! The replay: carries out the notes of the log.
//!
//! Each on the tree as it was at that moment. So delayed data is back in the delayed blocks as it was written, partial
//! blocks over the same old content.

use super::inline::{inline_first_block, inode};
use crate::format::{BLOCK_BYTES, Ino};
use crate::fs::heads::{Dirty, DirtyBlock, Gate, zero_block};
use crate::fs::items::read_blocks;
use crate::fs::log::Note;
use crate::volume::{Txn, VolumeError};
use std::sync::Arc;

type Result<T> = std::result::Result<T, VolumeError>;

/// Carries out a note of a replayed record.
pub fn replay(gate: &mut Gate, txn: &mut Txn, note: &[u8]) -> Result<()> {
    let note = Note::decode(note)
        .ok_or_else(|| VolumeError::Corrupt { what: format!("a note of {} bytes in the log", note.len()) })?;
    let dirty = &mut gate.dirty;
    match note {
        Note::Write { ino, block, at, fresh, bytes } => {
            let whole = bytes.len() as u64 == BLOCK_BYTES;
            let base = if whole {
                DirtyBlock { data: zero_block(), fresh }
            } else {
                base(dirty, txn, ino, block, fresh)?
            };
            let at = usize::from(at);
            dirty.edit(ino, block, || base)[at..at + bytes.len()].copy_from_slice(bytes);
        }
        Note::Zero { ino, block, at, fresh, len } => {
            let base = base(dirty, txn, ino, block, fresh)?;
            let at = usize::from(at);
            dirty.edit(ino, block, || base)[at..at + usize::from(len)].fill(0);
        }
        Note::Discard { ino, from, to } => {
            dirty.discard(ino, from, to);
        }
        Note::Mapped { ino, from, to } => dirty.mapped(ino, from, to),
        Note::Inlined { ino } => {
            inline_first_block(dirty, txn, ino)?;
            dirty.discard(ino, 0, u64::MAX);
        }
        Note::Unlinked { ino } => {
            gate.unlinked.insert(ino, true);
        }
        Note::Purged { ino } => {
            gate.unlinked.remove(&ino);
        }
    }
    Ok(())
}

/// What the tree has of a block that is not delayed yet.
fn base(dirty: &Dirty, txn: &Txn, ino: Ino, block: u64, fresh: bool) -> Result<DirtyBlock> {
    let mut data = zero_block();
    if dirty.get(ino, block).is_none() {
        let inode = inode(txn, ino)?;
        if block * BLOCK_BYTES < inode.size {
            let bytes = Arc::make_mut(&mut data);
            read_blocks(txn.view(), ino, &inode, block * BLOCK_BYTES, bytes, |_| false)?;
        }
    }
    Ok(DirtyBlock { data, fresh })
}
