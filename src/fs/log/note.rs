//! What the log says of the part of the live state that is not in the tree: delayed data and inodes without a name.
//!
//! The volume replays items; the notes here come between them, in the order in which things happened.

use crate::format::{BLOCK_BYTES, Ino, Key, Kind, item};
use crate::limits::FILE_BYTES_MAX;
use crate::volume::Txn;

/// One thing that happened behind the gate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Note<'a> {
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
    /// An inode without a name has one again.
    Named { ino: Ino },
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
            Note::Named { ino } => header(8, false, 0, 0, ino, 0, 0),
        }
    }

    /// From its bytes. None if they are no note.
    pub fn decode(bytes: &[u8]) -> Option<Note<'_>> {
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
            8 if plain => Some(Note::Named { ino }),
            _ => None,
        }
    }
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
            Note::Named { ino },
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
