//! The remap record: where content is that has moved, while the references to it say where it was.

use super::{BLOCK_BYTES, BlockAddr, Epoch, FormatError, bad};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// A range of content that has moved. One item of the meta tree each, at the new address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RemapRecord {
    /// Where references say that it is.
    pub old: BlockAddr,
    /// Birth of these.
    pub birth: Epoch,
    /// Bytes, a multiple of 4096.
    pub len: u64,
    /// Where it is.
    pub new: BlockAddr,
    /// The old place holds it, too, and is still allocated.
    pub doubled: bool,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawRemap {
    old: le::U64,
    birth: le::U64,
    len: le::U64,
    doubled: u8,
    reserved: [u8; 7],
}
const _: () = assert!(size_of::<RawRemap>() == 32);

impl RemapRecord {
    /// To the value of its item.
    pub fn encode(&self) -> Vec<u8> {
        let raw = RawRemap {
            old: self.old.0.into(),
            birth: self.birth.0.into(),
            len: self.len.into(),
            doubled: self.doubled.into(),
            reserved: [0; 7],
        };
        raw.as_bytes().to_vec()
    }

    /// From its item, which is at the address `new`.
    pub fn decode(new: u64, bytes: &[u8]) -> Result<RemapRecord, FormatError> {
        let Ok(raw) = RawRemap::read_from_bytes(bytes) else {
            return bad!("remap record has {} bytes, not 32", bytes.len());
        };
        let (old, birth, len) = (raw.old.get(), raw.birth.get(), raw.len.get());
        let is_range = |at: u64| at != 0 && at.is_multiple_of(BLOCK_BYTES) && at.checked_add(len).is_some();
        if len == 0 || len % BLOCK_BYTES != 0 || !is_range(old) || !is_range(new) || birth == 0 {
            return bad!("remap record of {old:#x}+{len}, born in {birth}, to {new:#x}");
        }
        if old < new + len && new < old + len {
            return bad!("remap record of {old:#x}+{len} to {new:#x}, which overlaps");
        }
        if raw.doubled > 1 || raw.reserved != [0; 7] {
            return bad!("remap record of {old:#x} is doubled {} times, or has reserved bytes", raw.doubled);
        }
        let (old, new, birth) = (BlockAddr(old), BlockAddr(new), Epoch(birth));
        Ok(RemapRecord { old, birth, len, new, doubled: raw.doubled == 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_refusals() {
        let record = RemapRecord {
            old: BlockAddr(1 << 20),
            birth: Epoch(7),
            len: 8192,
            new: BlockAddr(2 << 20),
            doubled: true,
        };
        let good = record.encode();
        assert_eq!(RemapRecord::decode(2 << 20, &good), Ok(record));
        for new in [0, 5, (1 << 20) + 4096, u64::MAX - 4095] {
            assert!(RemapRecord::decode(new, &good).is_err(), "{new:#x}");
        }
        for (at, value) in [(0, 1), (8, 0), (16, 1), (17, 0), (23, 0xff), (24, 2), (25, 1), (31, 1)] {
            let mut bytes = good.clone();
            bytes[at] = value;
            assert!(RemapRecord::decode(2 << 20, &bytes).is_err(), "byte {at} {value:#x}");
        }
        assert!(RemapRecord::decode(2 << 20, &good[1..]).is_err());
    }
}
