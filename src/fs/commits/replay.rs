//! The replay: carries out the notes of the log.
//!
//! Each on the tree as it was at that moment. So delayed data is back in the delayed blocks as it was written, partial
//! blocks over the same old content.

use super::inline::{inline_first_block, inode};
use crate::format::inode::Inode;
use crate::format::{BLOCK_BYTES, Ino, Key, LineId, item};
use crate::fs::error::inconsistent;
use crate::fs::heads::{Dirty, DirtyBlock, Gate, zero_block};
use crate::fs::items::{Items, read_blocks};
use crate::fs::log::Note;
use crate::limits::INLINE_BYTES_MAX;
use crate::ops::FileType;
use crate::volume::{Replay, Txn, VolumeError};
use std::collections::BTreeMap;
use std::sync::Arc;

type Result<T> = std::result::Result<T, VolumeError>;

/// What the log has found of each line.
#[derive(Default)]
pub struct Gates(pub BTreeMap<LineId, Gate>);

impl Replay for Gates {
    fn restart(&mut self) {
        self.0.clear();
    }

    fn prove_item(&self, key: &Key, value: Option<&[u8]>) -> Result<()> {
        Ok(value.map_or_else(|| item::prove_key(key), |value| item::prove(key, value))?)
    }

    fn forget(&mut self, line: LineId) {
        self.0.remove(&line);
    }

    fn note(&mut self, txn: &mut Txn<'_>, note: &[u8]) -> Result<()> {
        replay(self.0.entry(txn.line()).or_default(), txn, note)
    }
}

/// Carries out a note of a replayed record, if it makes sense there.
fn replay(gate: &mut Gate, txn: &mut Txn, note: &[u8]) -> Result<()> {
    let note = Note::decode(note)
        .ok_or_else(|| VolumeError::Corrupt { what: format!("a note of {} bytes in the log", note.len()) })?;
    let dirty = &mut gate.dirty;
    match note {
        Note::Write { ino, block, at, fresh, bytes } => {
            file(txn, ino)?;
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
            file(txn, ino)?;
            let base = base(dirty, txn, ino, block, fresh)?;
            let at = usize::from(at);
            dirty.edit(ino, block, || base)[at..at + usize::from(len)].fill(0);
        }
        Note::Discard { ino, from, to } => {
            dirty.discard(ino, from, to);
        }
        Note::Mapped { ino, from, to } => dirty.mapped(ino, from, to),
        Note::Inlined { ino } => {
            let size = file(txn, ino)?.size;
            if !(1..=INLINE_BYTES_MAX).contains(&size) {
                return Err(inconsistent(ino, "is not of a size for an inline item"));
            }
            inline_first_block(dirty, txn, ino)?;
            dirty.discard(ino, 0, u64::MAX);
        }
        Note::Unlinked { ino } => {
            if inode(txn, ino)?.nlink != 0 {
                return Err(inconsistent(ino, "has names and lost the last, as the log says"));
            }
            gate.unlinked.insert(ino, true);
        }
        Note::Purged { ino } => {
            if txn.view().inode(ino)?.is_some() {
                return Err(inconsistent(ino, "is gone, as the log says, and is in the tree"));
            }
            gate.unlinked.remove(&ino);
        }
        Note::Named { ino } => {
            if inode(txn, ino)?.nlink == 0 {
                return Err(inconsistent(ino, "has a name again, as the log says, and no links"));
            }
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

/// The inode of a regular file.
fn file(txn: &Txn, ino: Ino) -> Result<Inode> {
    let inode = inode(txn, ino)?;
    if inode.kind == FileType::Regular { Ok(inode) } else { Err(inconsistent(ino, "has no content")) }
}
