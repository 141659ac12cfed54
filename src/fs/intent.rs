//! What the log says of the part of the live state that is not in the tree: delayed data and inodes without a name.
//!
//! The volume replays items; the notes here come between them, in the order in which things happened, and are carried
//! out on the tree as it was at that moment. So delayed data is back in the delayed blocks as it was written, partial
//! blocks over the same old content.

use super::change::Gate;
use super::dirty::{Dirty, DirtyBlock, zero_block};
use super::error::inconsistent;
use super::items::Items;
use super::read::read_blocks;
use crate::format::inode::Inode;
use crate::format::{BLOCK_BYTES, Ino, Key, Kind, item};
use crate::limits::{FILE_BYTES_MAX, INLINE_BYTES_MAX};
use crate::ops::FileType;
use crate::volume::{Replay, Txn, VolumeError};
use std::sync::Arc;

type Result<T> = std::result::Result<T, VolumeError>;

/// One thing that happened behind the gate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Note<'a> {
    /// Bytes came into a delayed block.
    Write {
        ino: Ino,
        block: u64,
        /// Offset in the block.
        at: u16,
        /// Whether the block, if it was not delayed yet, has no place in the tree.
        fresh: bool,
        bytes: &'a [u8],
    },
    /// Bytes of a delayed block became zero.
    Zero { ino: Ino, block: u64, at: u16, fresh: bool, len: u16 },
    /// Delayed blocks of a range (block numbers) were forgotten, or have their place in the tree now.
    Discard { ino: Ino, from: u64, to: u64 },
    /// The tree maps a range of blocks now.
    Mapped { ino: Ino, from: u64, to: u64 },
    /// The delayed first block became an inline item.
    Inlined { ino: Ino },
    /// An inode lost its last name.
    Unlinked { ino: Ino },
    /// An inode without a name is gone.
    Purged { ino: Ino },
}

/// Header of a note: tag, flags, offset in the block, length, inode, block or start, end.
const HEADER_BYTES: usize = 32;
/// Blocks of the longest file.
const FILE_BLOCKS_MAX: u64 = FILE_BYTES_MAX / BLOCK_BYTES;

impl Note<'_> {
    /// Leaves the note in the record of `txn`.
    pub fn put(&self, txn: &mut Txn) {
        txn.note(|out| self.encode(out));
    }

    /// Appends its bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut header = |tag: u8, fresh: bool, at: u16, len: usize, ino: Ino, from: u64, to: u64| {
            out.extend_from_slice(&[tag, u8::from(fresh)]);
            out.extend_from_slice(&at.to_le_bytes());
            out.extend_from_slice(&(len as u32).to_le_bytes());
            [ino.0, from, to].iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
        };
        match *self {
            Note::Write { ino, block, at, fresh, bytes } => {
                header(1, fresh, at, bytes.len(), ino, block, 0);
                out.extend_from_slice(bytes);
            }
            Note::Zero { ino, block, at, fresh, len } => header(2, fresh, at, len.into(), ino, block, 0),
            Note::Discard { ino, from, to } => header(3, false, 0, 0, ino, from, to),
            Note::Mapped { ino, from, to } => header(4, false, 0, 0, ino, from, to),
            Note::Inlined { ino } => header(5, false, 0, 0, ino, 0, 0),
            Note::Unlinked { ino } => header(6, false, 0, 0, ino, 0, 0),
            Note::Purged { ino } => header(7, false, 0, 0, ino, 0, 0),
        }
    }

    fn decode(bytes: &[u8]) -> Option<Note<'_>> {
        let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
        let word = |at: usize| header.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
        let fresh = match header[1] {
            0 => false,
            1 => true,
            _ => return None,
        };
        let at = u16::from_le_bytes([header[2], header[3]]);
        let len = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let (ino, from, to) = (Ino(word(8)?), word(16)?, word(24)?);
        let inside = usize::from(at).saturating_add(len) <= BLOCK_BYTES as usize && from < FILE_BLOCKS_MAX;
        if item::prove_key(&Key::new(ino.0, Kind::Inode, 0)).is_err() {
            return None;
        }
        let (plain, range) = (rest.is_empty(), rest.is_empty() && from <= to);
        match header[0] {
            1 if inside && rest.len() == len => {
                Some(Note::Write { ino, block: from, at, fresh, bytes: rest })
            }
            2 if inside && plain => Some(Note::Zero { ino, block: from, at, fresh, len: len as u16 }),
            3 if range => Some(Note::Discard { ino, from, to }),
            4 if range => Some(Note::Mapped { ino, from, to }),
            5 if plain => Some(Note::Inlined { ino }),
            6 if plain => Some(Note::Unlinked { ino }),
            7 if plain => Some(Note::Purged { ino }),
            _ => None,
        }
    }
}

impl Replay for Gate {
    fn restart(&mut self) {
        *self = Gate::default();
    }

    fn prove_item(&self, key: &Key, value: Option<&[u8]>) -> Result<()> {
        Ok(value.map_or_else(|| item::prove_key(key), |value| item::prove(key, value))?)
    }

    fn note(&mut self, txn: &mut Txn<'_>, note: &[u8]) -> Result<()> {
        replay(self, txn, note)
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

fn inode(txn: &Txn, ino: Ino) -> Result<Inode> {
    txn.view().inode(ino)?.ok_or_else(|| inconsistent(ino, "is in the log and not in the tree"))
}

/// Makes the delayed first block of a small file its inline item. The block is still delayed.
pub(super) fn inline_first_block(dirty: &Dirty, txn: &mut Txn, ino: Ino) -> Result<()> {
    let mut inode = inode(txn, ino)?;
    if let Some(block) = dirty.get(ino, 0) {
        let content = block.get(..inode.size as usize);
        let content = content.ok_or_else(|| inconsistent(ino, "is too long for an inline item"))?;
        txn.insert(Key::new(ino.0, Kind::Inline, 0), content)?;
        inode.has_inline = true;
        txn.insert(Key::new(ino.0, Kind::Inode, 0), &inode.encode())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(note: &Note<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        note.encode(&mut bytes);
        bytes
    }

    #[test]
    fn notes_round_trip_and_damage_is_refused() {
        let ino = Ino(77);
        let notes = [
            Note::Write { ino, block: 3, at: 4000, fresh: true, bytes: b"bytes" },
            Note::Write { ino, block: 0, at: 0, fresh: false, bytes: b"" },
            Note::Zero { ino, block: 9, at: 1, fresh: false, len: 4095 },
            Note::Discard { ino, from: 1, to: u64::MAX },
            Note::Mapped { ino, from: 1, to: 2 },
            Note::Inlined { ino },
            Note::Unlinked { ino },
            Note::Purged { ino },
        ];
        for note in notes {
            let bytes = encoded(&note);
            assert_eq!(Note::decode(&bytes), Some(note));
            for len in 0..bytes.len() {
                assert_ne!(Note::decode(&bytes[..len]), Some(note));
            }
            for at in 0..bytes.len() {
                let mut flipped = bytes.clone();
                flipped[at] ^= 0x80;
                let _ = Note::decode(&flipped);
            }
        }
        let beyond = Note::Zero { ino, block: 9, at: 2, fresh: false, len: 4095 };
        assert_eq!(Note::decode(&encoded(&beyond)), None, "ends behind its block");
    }
}
