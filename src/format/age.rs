//! The age of a store: how much time has passed for it, as far as that is believed, and by which time of day.

use super::ids::COUNTER_MAX;
use super::{FormatError, bad};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// Of a store that nobody has counted the time of: zeros.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AgeRecord {
    /// Seconds that have passed.
    pub secs: u64,
    /// The time of day then, in seconds since 1970 UTC; 0: not known.
    pub at: i64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawAge {
    secs: le::U64,
    at: le::I64,
}

/// Bytes of one.
pub(super) const AGE_BYTES: usize = 16;
const _: () = assert!(size_of::<RawAge>() == AGE_BYTES);

impl AgeRecord {
    /// Its bytes, as an item of the meta tree and in the log.
    pub fn encode(&self) -> [u8; AGE_BYTES] {
        let raw = RawAge { secs: self.secs.into(), at: self.at.into() };
        let mut out = [0; AGE_BYTES];
        out.copy_from_slice(raw.as_bytes());
        out
    }

    /// From these.
    pub fn decode(bytes: &[u8]) -> Result<AgeRecord, FormatError> {
        let Ok(raw) = RawAge::read_from_bytes(bytes) else {
            return bad!("the age of a store in {} bytes, not {AGE_BYTES}", bytes.len());
        };
        if raw.secs.get() >= COUNTER_MAX {
            return bad!("a store is {} seconds old", raw.secs.get());
        }
        Ok(AgeRecord { secs: raw.secs.get(), at: raw.at.get() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_damage() {
        for age in [AgeRecord::default(), AgeRecord { secs: COUNTER_MAX - 1, at: -1 }] {
            assert_eq!(AgeRecord::decode(&age.encode()), Ok(age));
        }
        let old = AgeRecord { secs: COUNTER_MAX, at: 0 };
        assert!(AgeRecord::decode(&old.encode()).is_err());
        assert!((0..AGE_BYTES).all(|len| AgeRecord::decode(&old.encode()[..len]).is_err()));
    }
}
