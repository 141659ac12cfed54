//! The block pointer: where a metadata block is and where its second copy, how old it is, and what it must hash to.

use super::{BLOCK_BYTES, BlockAddr, Epoch, FormatError, NODE_BYTES, bad};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// Pointer to a metadata block of any kind, 40 bytes on disk.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BlockPtr {
    /// Where it is.
    pub addr: BlockAddr,
    /// Second copy, byte for byte the same, or 0.
    pub copy: BlockAddr,
    /// Epoch in which it was written.
    pub birth: Epoch,
    /// Seeded XXH3-64 of its bytes.
    pub checksum: u64,
    /// Its length in bytes, a multiple of 4096.
    pub len: u32,
}

/// How often a store keeps each of its metadata blocks. The number is on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum Copies {
    /// Once.
    One = 1,
    /// Twice, in places far from each other.
    #[default]
    Two = 2,
}

impl Copies {
    /// From its number on disk.
    pub fn from_number(n: u8) -> Option<Copies> {
        [Copies::One, Copies::Two].into_iter().find(|c| *c as u8 == n)
    }

    /// Bytes that a tree node or a space map block takes, all copies together.
    pub fn node_bytes(self) -> u64 {
        self as u64 * NODE_BYTES as u64
    }
}

/// Where a metadata block is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CopyAddrs {
    /// The block.
    pub addr: BlockAddr,
    /// Its second copy, or 0.
    pub copy: BlockAddr,
}

impl CopyAddrs {
    /// A block without a second copy.
    pub fn single(addr: BlockAddr) -> CopyAddrs {
        CopyAddrs { addr, copy: BlockAddr(0) }
    }
}

/// [`BlockPtr`] on disk.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Debug)]
#[repr(C)]
pub struct RawPtr {
    addr: le::U64,
    copy: le::U64,
    birth: le::U64,
    checksum: le::U64,
    len: le::U32,
    reserved: le::U32,
}

/// Length of an encoded pointer.
pub const PTR_BYTES: usize = 40;
const _: () = assert!(size_of::<RawPtr>() == PTR_BYTES);

impl BlockPtr {
    /// What the block takes: address and length of each of its copies.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + use<> {
        let len = u64::from(self.len);
        [self.addr.0, self.copy.0].into_iter().filter(|a| *a != 0).map(move |a| (a, len))
    }

    /// To its bytes.
    pub fn encode(&self) -> RawPtr {
        RawPtr {
            addr: self.addr.0.into(),
            copy: self.copy.0.into(),
            birth: self.birth.0.into(),
            checksum: self.checksum.into(),
            len: self.len.into(),
            reserved: 0.into(),
        }
    }
}

impl RawPtr {
    /// The pointer, if it can be one: aligned, not zero, of a sane length.
    pub fn decode(&self) -> Result<BlockPtr, FormatError> {
        let p = BlockPtr {
            addr: BlockAddr(self.addr.get()),
            copy: BlockAddr(self.copy.get()),
            birth: Epoch(self.birth.get()),
            checksum: self.checksum.get(),
            len: self.len.get(),
        };
        if p.addr.0 == 0 || !p.addr.0.is_multiple_of(BLOCK_BYTES) || !p.copy.0.is_multiple_of(BLOCK_BYTES) {
            return bad!("pointer address {} or copy {} is zero or not a multiple of 4096", p.addr, p.copy);
        }
        if p.len == 0 || u64::from(p.len) % BLOCK_BYTES != 0 || p.len > 1 << 20 {
            return bad!("pointer length {} is not a multiple of 4096 in 4096..=1048576", p.len);
        }
        if p.copy.0 != 0 && p.addr.0.abs_diff(p.copy.0) < u64::from(p.len) {
            return bad!("pointer to {} has a copy at {}, which is no other place", p.addr, p.copy);
        }
        if p.birth.0 == 0 || self.reserved.get() != 0 {
            return bad!("pointer birth is 0 or reserved bytes are not: birth {}", p.birth.0);
        }
        Ok(p)
    }

    /// True for the all-zero pointer, which means none.
    pub fn is_none(&self) -> bool {
        self.as_bytes().iter().all(|b| *b == 0)
    }

    /// The all-zero pointer.
    pub fn none() -> RawPtr {
        RawPtr {
            addr: 0.into(),
            copy: 0.into(),
            birth: 0.into(),
            checksum: 0.into(),
            len: 0.into(),
            reserved: 0.into(),
        }
    }
}
