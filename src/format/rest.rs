//! The rest: what a side that is being filled from its partner does not have yet, so that a filling that is cut off goes on.
//!
//! It is of the side alone and counts only while its label says that it is incomplete, and only for the partner and the
//! generation that it names. Everything that the partner had committed in the epoch that is told is there, durably,
//! but for the ranges. The newest valid of two places is in force.

use super::ids::COUNTER_MAX;
use super::{BLOCK_BYTES, Epoch, FormatError, bad};
use xxhash_rust::xxh3::xxh3_64_with_seed;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// Where rests are: number n is at place `n % 2`.
pub const REST_ADDRS: [u64; 2] = [384 << 10, 896 << 10];
/// Bytes of such a place.
pub const REST_BYTES: usize = 64 << 10;
/// Most ranges that are told; where there are more, those with the least between them are told as one.
pub const REST_RANGES_MAX: usize = (REST_BYTES - RAW_BYTES) / RANGE_BYTES;

const MAGIC: [u8; 8] = *b"SnpRest\n";
const SEED: u64 = 0x5352;
const RANGE_BYTES: usize = 16;

/// A rest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FillRest {
    /// Number of this record on its side.
    pub number: u64,
    /// Identity of the pair.
    pub pair: [u8; 16],
    /// The generation of the partner.
    pub generation: u64,
    /// What was committed there is here, but for the ranges.
    pub epoch: Epoch,
    /// Addresses and lengths, ascending.
    pub ranges: Vec<(u64, u64)>,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawRest {
    checksum: le::U64,
    magic: [u8; 8],
    number: le::U64,
    pair: [u8; 16],
    generation: le::U64,
    epoch: le::U64,
    count: le::U32,
    reserved: [u8; 4],
}
const RAW_BYTES: usize = 64;
const _: () = assert!(size_of::<RawRest>() == RAW_BYTES);

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawRange {
    addr: le::U64,
    len: le::U64,
}
const _: () = assert!(size_of::<RawRange>() == RANGE_BYTES);

impl FillRest {
    /// The place of this record.
    #[must_use]
    pub fn addr(&self) -> u64 {
        FillRest::place(self.number)
    }

    /// The place of the record with this number.
    #[must_use]
    pub fn place(number: u64) -> u64 {
        REST_ADDRS[(number % 2) as usize]
    }

    /// To what is written: whole blocks.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        assert!(self.ranges.len() <= REST_RANGES_MAX, "more ranges than a rest can tell");
        let raw = RawRest {
            checksum: 0.into(),
            magic: MAGIC,
            number: self.number.into(),
            pair: self.pair,
            generation: self.generation.into(),
            epoch: self.epoch.0.into(),
            count: (self.ranges.len() as u32).into(),
            reserved: [0; 4],
        };
        let mut bytes = raw.as_bytes().to_vec();
        for (addr, len) in &self.ranges {
            bytes.extend_from_slice(RawRange { addr: (*addr).into(), len: (*len).into() }.as_bytes());
        }
        let checksum = xxh3_64_with_seed(&bytes[8..], SEED);
        bytes[..8].copy_from_slice(&checksum.to_le_bytes());
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES as usize), 0);
        bytes
    }

    /// From what was read of a place.
    ///
    /// # Errors
    /// If it is no rest.
    pub fn decode(bytes: &[u8]) -> Result<FillRest, FormatError> {
        let Ok((raw, rest)) = RawRest::ref_from_prefix(bytes) else {
            return bad!("a rest has {} bytes at least, not {}", RAW_BYTES, bytes.len());
        };
        let count = raw.count.get() as usize;
        if raw.magic != MAGIC || count > REST_RANGES_MAX || rest.len() < count * RANGE_BYTES {
            return bad!("the rest has a wrong magic number or {count} ranges");
        }
        let told = &bytes[8..RAW_BYTES + count * RANGE_BYTES];
        if raw.checksum.get() != xxh3_64_with_seed(told, SEED) || raw.reserved != [0; 4] {
            return bad!("the rest has a wrong checksum, or reserved bytes that are not zero");
        }
        if raw.number.get() >= COUNTER_MAX {
            return bad!("the rest has number {}", raw.number.get());
        }
        let mut ranges = Vec::with_capacity(count);
        let mut end = 0;
        for bytes in rest[..count * RANGE_BYTES].chunks_exact(RANGE_BYTES) {
            let Ok(range) = RawRange::ref_from_bytes(bytes) else {
                return bad!("a range of a rest is cut off");
            };
            let (addr, len) = (range.addr.get(), range.len.get());
            let whole = addr % BLOCK_BYTES == 0 && len % BLOCK_BYTES == 0 && len > 0;
            match addr.checked_add(len) {
                Some(next) if whole && addr >= end => end = next,
                _ => return bad!("the rest has a range of {len} bytes at {addr:#x} after {end:#x}"),
            }
            ranges.push((addr, len));
        }
        Ok(FillRest {
            number: raw.number.get(),
            pair: raw.pair,
            generation: raw.generation.get(),
            epoch: Epoch(raw.epoch.get()),
            ranges,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_is_read_back_and_damage_is_refused() {
        let ranges = vec![(4096, 8192), (12_288, 4096), (1 << 40, 1 << 30)];
        let rest = FillRest { number: 3, pair: [7; 16], generation: 5, epoch: Epoch(9), ranges };
        let bytes = rest.encode();
        assert_eq!((bytes.len(), rest.addr()), (4096, 896 << 10));
        assert_eq!(FillRest::decode(&bytes), Ok(rest.clone()));
        for i in 0..RAW_BYTES + 3 * RANGE_BYTES {
            let mut bad = bytes.clone();
            bad[i] ^= 4;
            assert!(FillRest::decode(&bad).is_err(), "a flip at byte {i} went unseen");
        }
        assert!(FillRest::decode(&bytes[..80]).is_err() && FillRest::decode(&[0; REST_BYTES]).is_err());
        for ranges in [vec![(4096, 0)], vec![(4096, 8192), (8192, 4096)], vec![(1, 4096)]] {
            assert!(FillRest::decode(&FillRest { ranges, ..rest.clone() }.encode()).is_err());
        }
        let ranges: Vec<_> = (0..REST_RANGES_MAX as u64).map(|n| (n * 8192, 4096)).collect();
        let full = FillRest { ranges, ..rest };
        assert_eq!(full.encode().len(), REST_BYTES);
        assert_eq!(FillRest::decode(&full.encode()), Ok(full));
    }
}
