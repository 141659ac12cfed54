//! The records of what was purged: places that are being written over, references that lead to nothing, and leaves that
//! were rewritten.

use super::{BLOCK_BYTES, BlockAddr, Epoch, FormatError, Key, Kind, NODE_BYTES, ViewId, bad};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// The value of an inline item whose content was purged: content has one byte at least.
pub const PURGED_INLINE: &[u8] = &[];
/// Bytes of a leaf in one item, and of the rest of a purge.
pub const PIECE_BYTES: usize = 4096;

/// A place whose content is purged and that is allocated still. One item of the meta tree, at its address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeldRecord {
    /// Bytes, a multiple of 4096.
    pub len: u64,
    /// There are zeros, and it stays until its references are gone; else the record is a reference itself, and it is to
    /// be written over.
    pub wiped: bool,
}

/// References that lead to nothing. One item of the meta tree, at the address that they have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GoneRecord {
    /// Bytes, a multiple of 4096.
    pub len: u64,
    /// They were born up to and in this epoch; what is younger is of something else.
    pub until: Epoch,
    /// How many there are.
    pub refs: u64,
}

/// A leaf of a view that is not what pointers say. One item of the meta tree, at its address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeafRecord {
    /// Where its second copy is, or 0.
    pub copy: BlockAddr,
    /// Epoch in which it was written.
    pub birth: Epoch,
    /// What it must hash to.
    pub checksum: u64,
    /// All of it is in the pieces, and it may not be at its place yet.
    pub in_pieces: bool,
}

/// What was asked for by a purge that has more leaves to rewrite than one commit takes, until the commit with the last of them.
/// Items of the meta tree, each a piece, numbered from 0.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PurgeRest {
    /// From the root of the line.
    pub path: Vec<u8>,
    /// The snapshots in which it is that path.
    pub views: Vec<ViewId>,
    /// Others who have some of it lose it, too.
    pub all: bool,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawRest {
    views: le::U32,
    path_len: le::U32,
    all: u8,
    reserved: [u8; 7],
}
const _: () = assert!(size_of::<RawRest>() == 16);

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawHeld {
    len: le::U64,
    wiped: u8,
    reserved: [u8; 7],
}
const _: () = assert!(size_of::<RawHeld>() == 16);

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawGone {
    len: le::U64,
    until: le::U64,
    refs: le::U64,
}
const _: () = assert!(size_of::<RawGone>() == 24);

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawLeaf {
    copy: le::U64,
    birth: le::U64,
    checksum: le::U64,
    in_pieces: u8,
    reserved: [u8; 7],
}
const _: () = assert!(size_of::<RawLeaf>() == 32);

fn is_range(at: u64, len: u64) -> bool {
    let blocks = |n: u64| n != 0 && n.is_multiple_of(BLOCK_BYTES);
    blocks(at) && blocks(len) && at.checked_add(len).is_some()
}

impl HeldRecord {
    /// Its key in the meta tree.
    pub fn key(addr: u64) -> Key {
        Key::new(0, Kind::PurgeHeld, addr)
    }

    /// To the value of its item.
    pub fn encode(&self) -> Vec<u8> {
        let raw = RawHeld { len: self.len.into(), wiped: self.wiped.into(), reserved: [0; 7] };
        raw.as_bytes().to_vec()
    }

    /// From its item.
    pub fn decode(addr: u64, bytes: &[u8]) -> Result<HeldRecord, FormatError> {
        let Ok(raw) = RawHeld::read_from_bytes(bytes) else {
            return bad!("record of a purged place has {} bytes, not 16", bytes.len());
        };
        if !is_range(addr, raw.len.get()) || raw.wiped > 1 || raw.reserved != [0; 7] {
            return bad!("record of a purged place {addr:#x}+{} makes no sense", raw.len);
        }
        Ok(HeldRecord { len: raw.len.get(), wiped: raw.wiped == 1 })
    }
}

impl GoneRecord {
    /// Its key in the meta tree.
    pub fn key(addr: u64) -> Key {
        Key::new(0, Kind::Purged, addr)
    }

    /// To the value of its item.
    pub fn encode(&self) -> Vec<u8> {
        let raw = RawGone { len: self.len.into(), until: self.until.0.into(), refs: self.refs.into() };
        raw.as_bytes().to_vec()
    }

    /// From its item.
    pub fn decode(addr: u64, bytes: &[u8]) -> Result<GoneRecord, FormatError> {
        let Ok(raw) = RawGone::read_from_bytes(bytes) else {
            return bad!("record of purged references has {} bytes, not 24", bytes.len());
        };
        let (len, until, refs) = (raw.len.get(), raw.until.get(), raw.refs.get());
        if !is_range(addr, len) || until == 0 || refs == 0 || refs > u64::from(u32::MAX) {
            return bad!("record of {refs} purged references to {addr:#x}+{len}, born up to {until}");
        }
        Ok(GoneRecord { len, until: Epoch(until), refs })
    }
}

impl LeafRecord {
    /// Its key in the meta tree.
    pub fn key(addr: u64) -> Key {
        Key::new(0, Kind::PurgedLeaf, addr)
    }

    /// Where it is, with its second copy.
    pub fn places(&self, addr: u64) -> impl Iterator<Item = (u64, u64)> + use<> {
        [addr, self.copy.0].into_iter().filter(|at| *at != 0).map(|at| (at, NODE_BYTES as u64))
    }

    /// The keys of the pieces of a leaf, in order.
    pub fn piece_keys(addr: u64) -> impl Iterator<Item = Key> {
        (0..(NODE_BYTES / PIECE_BYTES) as u64)
            .map(move |n| Key::new(0, Kind::PurgedPiece, addr + n * PIECE_BYTES as u64))
    }

    /// To the value of its item.
    pub fn encode(&self) -> Vec<u8> {
        let raw = RawLeaf {
            copy: self.copy.0.into(),
            birth: self.birth.0.into(),
            checksum: self.checksum.into(),
            in_pieces: self.in_pieces.into(),
            reserved: [0; 7],
        };
        raw.as_bytes().to_vec()
    }

    /// From its item.
    pub fn decode(addr: u64, bytes: &[u8]) -> Result<LeafRecord, FormatError> {
        let Ok(raw) = RawLeaf::read_from_bytes(bytes) else {
            return bad!("record of a rewritten leaf has {} bytes, not 32", bytes.len());
        };
        let (copy, birth, node) = (raw.copy.get(), raw.birth.get(), NODE_BYTES as u64);
        let apart = copy == 0 || (is_range(copy, node) && copy.abs_diff(addr) >= node);
        if !is_range(addr, node) || !apart || birth == 0 {
            return bad!("record of a leaf at {addr:#x} and {copy:#x}, rewritten, of epoch {birth}");
        }
        if raw.in_pieces > 1 || raw.reserved != [0; 7] {
            return bad!("record of a rewritten leaf at {addr:#x} has reserved bytes");
        }
        let (copy, birth) = (BlockAddr(copy), Epoch(birth));
        Ok(LeafRecord { copy, birth, checksum: raw.checksum.get(), in_pieces: raw.in_pieces == 1 })
    }
}

impl PurgeRest {
    /// All of the other is done when this is.
    pub fn covers(&self, other: &PurgeRest) -> bool {
        let has = |view| self.views.contains(view);
        self.path == other.path && self.all >= other.all && other.views.iter().all(has)
    }

    /// To its items.
    pub fn items(&self) -> Vec<(Key, Vec<u8>)> {
        let raw = RawRest {
            views: (self.views.len() as u32).into(),
            path_len: (self.path.len() as u32).into(),
            all: self.all.into(),
            reserved: [0; 7],
        };
        let mut bytes = raw.as_bytes().to_vec();
        self.views.iter().for_each(|view| bytes.extend(view.0.to_le_bytes()));
        bytes.extend(&self.path);
        let piece = |(n, bytes): (usize, &[u8])| (Key::new(0, Kind::PurgeRest, n as u64), bytes.to_vec());
        bytes.chunks(PIECE_BYTES).enumerate().map(piece).collect()
    }

    /// From the values of its items, one behind the other.
    pub fn decode(bytes: &[u8]) -> Result<PurgeRest, FormatError> {
        let Ok((raw, rest)) = RawRest::read_from_prefix(bytes) else {
            return bad!("the rest of a purge has {} bytes", bytes.len());
        };
        let views_len = raw.views.get() as usize * 8;
        let is_whole = views_len + raw.path_len.get() as usize == rest.len() && raw.path_len.get() > 0;
        if !is_whole || raw.all > 1 || raw.reserved != [0; 7] {
            return bad!("the rest of a purge makes no sense");
        }
        let (views, path) = rest.split_at(views_len);
        let views = views
            .chunks_exact(8)
            .map(|view| ViewId(view.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))));
        Ok(PurgeRest { path: path.to_vec(), views: views.collect(), all: raw.all == 1 })
    }
}

/// The key of the item that says that what no tree leads to is being written over. It is empty.
pub fn wiping_key() -> Key {
    Key::new(0, Kind::PurgeWiping, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_refusals() {
        let held = HeldRecord { len: 8192, wiped: true };
        assert_eq!(HeldRecord::decode(4096, &held.encode()), Ok(held));
        let gone = GoneRecord { len: 4096, until: Epoch(7), refs: 3 };
        assert_eq!(GoneRecord::decode(4096, &gone.encode()), Ok(gone));
        let leaf = LeafRecord { copy: BlockAddr(1 << 20), birth: Epoch(3), checksum: 9, in_pieces: true };
        assert_eq!(LeafRecord::decode(4096, &leaf.encode()), Ok(leaf));
        for addr in [0, 5, u64::MAX - 4095] {
            assert!(HeldRecord::decode(addr, &held.encode()).is_err());
            assert!(GoneRecord::decode(addr, &gone.encode()).is_err());
            assert!(LeafRecord::decode(addr, &leaf.encode()).is_err());
        }
        assert!(LeafRecord::decode((1 << 20) + 4096, &leaf.encode()).is_err(), "they overlap");
        for at in [9, 15] {
            let mut bytes = held.encode();
            bytes[at] = 2;
            assert!(HeldRecord::decode(4096, &bytes).is_err());
        }
        for (at, value) in [(0, 1), (8, 0), (16, 0), (23, 1)] {
            let mut bytes = gone.encode();
            bytes[at] = value;
            assert!(GoneRecord::decode(4096, &bytes).is_err(), "{at}");
        }
        for (at, value) in [(0, 1), (8, 0), (24, 2), (31, 1)] {
            let mut bytes = leaf.encode();
            bytes[at] = value;
            assert!(LeafRecord::decode(4096, &bytes).is_err(), "{at}");
        }
        assert!(HeldRecord::decode(4096, &[]).is_err() && GoneRecord::decode(4096, &[]).is_err());
        assert_eq!(LeafRecord::piece_keys(1 << 20).count(), 4);
        for (path, views) in [(1, 0), (300, 1), (5000, 2000)] {
            let views = (1..=views).map(|n| ViewId(n << 40 | n)).collect();
            let rest = PurgeRest { path: vec![b'/'; path], views, all: path == 300 };
            let items = rest.items();
            assert!(
                items.iter().enumerate().all(|(n, (key, piece))| key.rest == n as u64 && piece.len() <= 4096)
            );
            let mut bytes: Vec<u8> = items.into_iter().flat_map(|(_, piece)| piece).collect();
            assert_eq!(PurgeRest::decode(&bytes), Ok(rest));
            assert!(PurgeRest::decode(&bytes[1..]).is_err());
            bytes[8] = 2;
            assert!(PurgeRest::decode(&bytes).is_err());
        }
        assert!(PurgeRest::decode(&[0; 16]).is_err(), "there is no path");
    }
}
