//! The extent item: a run of file content in blocks, with a CRC-32C for each 4 KiB.

use super::{BLOCK_BYTES, BlockAddr, Epoch, FormatError, bad};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// Longest extent in bytes.
pub const EXTENT_BYTES_MAX: u64 = 128 * 1024;

/// A run of blocks. `fs` stores it under its file offset and never looks at the address.
///
/// Lengths are multiples of 4096. An unwritten extent holds space, reads as zeros and has no checksums.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Extent {
    /// First block.
    pub(crate) addr: BlockAddr,
    /// Epoch in which this reference was made.
    pub(crate) birth: Epoch,
    /// Length in bytes.
    pub(crate) len: u32,
    /// CRC-32C of each block; empty exactly when unwritten.
    pub(crate) crcs: Vec<u32>,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawExtent {
    addr: le::U64,
    birth: le::U64,
    /// Bytes of the file that it covers.
    len: le::U32,
    /// Bytes on the device: equals `len` while nothing is compressed.
    stored_len: le::U32,
    /// Bit 0: unwritten.
    flags: u8,
    /// 0: none.
    compression: u8,
    reserved: [u8; 6],
}

const RAW_BYTES: usize = 32;
const _: () = assert!(size_of::<RawExtent>() == RAW_BYTES);
const UNWRITTEN: u8 = 1;

impl Extent {
    /// Bytes of the file that it covers, 4096..=131072.
    pub fn len_bytes(&self) -> u64 {
        u64::from(self.len)
    }

    /// True if it only holds space.
    pub fn is_unwritten(&self) -> bool {
        self.crcs.is_empty()
    }

    /// The part `from..from + len` (multiples of 4096, inside) as an extent of its own.
    pub fn slice(&self, from: u64, len: u64) -> Extent {
        assert!(from.is_multiple_of(BLOCK_BYTES) && len.is_multiple_of(BLOCK_BYTES) && len > 0);
        assert!(from + len <= self.len_bytes(), "slice {from}+{len} of {}", self.len);
        let crcs = if self.is_unwritten() {
            Vec::new()
        } else {
            self.crcs[(from / BLOCK_BYTES) as usize..((from + len) / BLOCK_BYTES) as usize].to_vec()
        };
        Extent { addr: BlockAddr(self.addr.0 + from), birth: self.birth, len: len as u32, crcs }
    }

    /// True if `next` goes on where this ends, on the device and in kind, so that the two may be one item.
    pub fn joins(&self, next: &Extent) -> bool {
        self.addr.0 + self.len_bytes() == next.addr.0
            && self.birth == next.birth
            && self.is_unwritten() == next.is_unwritten()
            && self.len_bytes() + next.len_bytes() <= EXTENT_BYTES_MAX
    }

    /// This and `next` as one. Only if [`Self::joins`].
    pub fn join(mut self, next: &Extent) -> Extent {
        assert!(self.joins(next));
        self.len += next.len;
        self.crcs.extend_from_slice(&next.crcs);
        self
    }

    /// To the value of a tree item.
    pub fn encode(&self) -> Vec<u8> {
        let raw = RawExtent {
            addr: self.addr.0.into(),
            birth: self.birth.0.into(),
            len: self.len.into(),
            stored_len: self.len.into(),
            flags: if self.is_unwritten() { UNWRITTEN } else { 0 },
            compression: 0,
            reserved: [0; 6],
        };
        let mut out = Vec::with_capacity(RAW_BYTES + 4 * self.crcs.len());
        out.extend_from_slice(raw.as_bytes());
        for crc in &self.crcs {
            out.extend_from_slice(&crc.to_le_bytes());
        }
        out
    }

    /// From the value of a tree item.
    pub fn decode(bytes: &[u8]) -> Result<Extent, FormatError> {
        let Ok((raw, rest)) = RawExtent::read_from_prefix(bytes) else {
            return bad!("extent item has {} bytes, fewer than 32", bytes.len());
        };
        let (addr, len) = (raw.addr.get(), u64::from(raw.len.get()));
        if addr == 0 || addr % BLOCK_BYTES != 0 || addr > u64::MAX - EXTENT_BYTES_MAX {
            return bad!("extent address {addr:#x} is zero or not a multiple of 4096");
        }
        if len == 0
            || len % BLOCK_BYTES != 0
            || len > EXTENT_BYTES_MAX
            || raw.stored_len.get() != raw.len.get()
        {
            return bad!(
                "extent length {len} (stored {}) is not a multiple of 4096 in 4096..=131072",
                raw.stored_len
            );
        }
        if raw.birth.get() == 0
            || raw.flags & !UNWRITTEN != 0
            || raw.compression != 0
            || raw.reserved != [0; 6]
        {
            return bad!(
                "extent birth is 0, or it has unknown flags {:#x}, compression or reserved bytes",
                raw.flags
            );
        }
        let blocks = if raw.flags & UNWRITTEN != 0 { 0 } else { (len / BLOCK_BYTES) as usize };
        if rest.len() != 4 * blocks {
            return bad!("extent item has {} bytes of checksums, expected {}", rest.len(), 4 * blocks);
        }
        let crcs = rest.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect();
        Ok(Extent { addr: BlockAddr(addr), birth: Epoch(raw.birth.get()), len: len as u32, crcs })
    }
}
