//! The header of every metadata block: kind, place, age and checksum.
//!
//! The checksum covers everything behind itself and is seeded by the kind; the pointer to the block repeats checksum,
//! address and birth, so a lost, misplaced or stale block is told from the right one.

use super::pointer::CopyAddrs;
use super::{BlockAddr, BlockPtr, Epoch, FormatError, bad};
use xxhash_rust::xxh3::xxh3_64_with_seed;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// Length of the header in bytes.
pub const HEADER_BYTES: usize = 64;
const MAGIC: u32 = u32::from_le_bytes(*b"SnpB");

/// What a metadata block is. The number is on disk and seeds the checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum BlockKind {
    /// Tree leaf.
    Leaf = 1,
    /// Tree node above the leaves.
    Inner = 2,
    /// Part of the space map.
    SpaceMap = 3,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawHeader {
    checksum: le::U64,
    magic: le::U32,
    kind: u8,
    level: u8,
    count: le::U16,
    fsid: le::U64,
    addr: le::U64,
    birth: le::U64,
    owner: le::U64,
    reserved: [u8; 16],
}
const _: () = assert!(size_of::<RawHeader>() == HEADER_BYTES);

/// The fields of a header that differ from block to block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// What it is.
    pub kind: BlockKind,
    /// Height above the leaves; 0 for all but inner nodes.
    pub level: u8,
    /// Number of entries.
    pub count: u16,
    /// View (or list) that wrote it: a hint for salvage.
    pub owner: u64,
}

/// Writes the header into `block` and returns the pointer to it. A second copy names the place of the first.
pub fn seal(block: &mut [u8], header: Header, fsid: u64, places: CopyAddrs, birth: Epoch) -> BlockPtr {
    let CopyAddrs { addr, copy } = places;
    let raw = RawHeader {
        checksum: 0.into(),
        magic: MAGIC.into(),
        kind: header.kind as u8,
        level: header.level,
        count: header.count.into(),
        fsid: fsid.into(),
        addr: addr.0.into(),
        birth: birth.0.into(),
        owner: header.owner.into(),
        reserved: [0; 16],
    };
    block[..HEADER_BYTES].copy_from_slice(raw.as_bytes());
    let checksum = xxh3_64_with_seed(&block[8..], header.kind as u64);
    block[..8].copy_from_slice(&checksum.to_le_bytes());
    BlockPtr { addr, copy, birth, checksum, len: block.len() as u32 }
}

/// What a block says of itself: enough to point to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SelfDescribed {
    /// Its header.
    pub header: Header,
    /// First 8 bytes of the uuid of its store.
    pub fsid: u64,
    /// A pointer to it, at the address that it names.
    pub ptr: BlockPtr,
}

/// Recognises a whole block of one of `kinds` by its own header, whoever points to it. Quick to say no.
pub fn recognise(block: &[u8], kinds: &[BlockKind]) -> Option<SelfDescribed> {
    let (raw, _) = RawHeader::ref_from_prefix(block).ok()?;
    if raw.magic.get() != MAGIC || raw.reserved != [0; 16] {
        return None;
    }
    let kind = kinds.iter().copied().find(|k| *k as u8 == raw.kind)?;
    let checksum = xxh3_64_with_seed(block.get(8..)?, kind as u64);
    let (addr, birth) = (BlockAddr(raw.addr.get()), Epoch(raw.birth.get()));
    let sane = addr.0 != 0 && addr.0.is_multiple_of(super::BLOCK_BYTES) && birth.0 != 0;
    (sane && checksum == raw.checksum.get()).then(|| SelfDescribed {
        header: Header { kind, level: raw.level, count: raw.count.get(), owner: raw.owner.get() },
        fsid: raw.fsid.get(),
        ptr: BlockPtr { addr, copy: BlockAddr(0), birth, checksum, len: block.len() as u32 },
    })
}

/// Proves that `block` is what `ptr` points to and one of `kinds`, and returns its header.
pub fn verify(block: &[u8], ptr: &BlockPtr, kinds: &[BlockKind], fsid: u64) -> Result<Header, FormatError> {
    let Ok((raw, _)) = RawHeader::ref_from_prefix(block) else {
        return bad!("metadata block at {} has only {} bytes", ptr.addr, block.len());
    };
    let Some(kind) = kinds.iter().copied().find(|k| *k as u8 == raw.kind) else {
        return bad!("block at {} is of kind {}, expected one of {kinds:?}", ptr.addr, raw.kind);
    };
    let found = xxh3_64_with_seed(block.get(8..).unwrap_or_default(), kind as u64);
    if found != ptr.checksum || raw.checksum.get() != found {
        return bad!("block at {} has checksum {found:#x}, expected {:#x}", ptr.addr, ptr.checksum);
    }
    if raw.magic.get() != MAGIC || raw.reserved != [0; 16] {
        return bad!("block at {} has magic {:#x} or reserved bytes that are not zero", ptr.addr, raw.magic);
    }
    if raw.fsid.get() != fsid || raw.addr.get() != ptr.addr.0 || raw.birth.get() != ptr.birth.0 {
        return bad!(
            "block at {} says store {:#x}, address {:#x}, birth {}; expected {fsid:#x}, birth {}",
            ptr.addr,
            raw.fsid,
            raw.addr,
            raw.birth,
            ptr.birth.0
        );
    }
    Ok(Header { kind, level: raw.level, count: raw.count.get(), owner: raw.owner.get() })
}
