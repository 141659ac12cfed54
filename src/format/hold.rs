//! The hold record: that a snapshot is not to be deleted, an item of the meta tree for each.

use super::ids::COUNTER_MAX;
use super::provenance::Provenance;
use super::{FormatError, ViewId, bad};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// Bytes of the tag of a hold at most.
pub const TAG_BYTES_MAX: usize = 64;
/// Holds of one snapshot at most.
pub const HOLDS_MAX: usize = 32;

/// True if a hold may be called so: letters and digits of ASCII, and some signs that no list is divided by.
pub fn is_tag(tag: &str) -> bool {
    let proper = |b: u8| b.is_ascii_alphanumeric() || b"-_.:@+/=".contains(&b);
    (1..=TAG_BYTES_MAX).contains(&tag.len()) && tag.bytes().all(proper)
}

/// A hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HoldRecord {
    /// Its number.
    pub number: u64,
    /// The snapshot.
    pub view: ViewId,
    /// What it is called: unique among those of the snapshot.
    pub tag: String,
    /// When it was put: seconds since 1970 UTC.
    pub since_secs: i64,
    /// The age of the store at which it ends, in seconds: not 0. None: when it is released.
    pub ends: Option<u64>,
    /// By whom, by which command.
    pub by: Provenance,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawHold {
    number: le::U64,
    view: le::U64,
    since_secs: le::I64,
    ends: le::U64,
    tag_len: u8,
    reserved: [u8; 7],
}
const RAW_BYTES: usize = 40;
const _: () = assert!(size_of::<RawHold>() == RAW_BYTES);

impl HoldRecord {
    /// To the value of a meta tree item: 40 bytes, the tag, the provenance.
    pub fn encode(&self) -> Vec<u8> {
        let raw = RawHold {
            number: self.number.into(),
            view: self.view.0.into(),
            since_secs: self.since_secs.into(),
            ends: self.ends.unwrap_or(0).into(),
            tag_len: self.tag.len() as u8,
            reserved: [0; 7],
        };
        let mut out = raw.as_bytes().to_vec();
        out.extend_from_slice(self.tag.as_bytes());
        self.by.encode(&mut out);
        out
    }

    /// From its item.
    pub fn decode(bytes: &[u8]) -> Result<HoldRecord, FormatError> {
        let Ok((raw, rest)) = RawHold::read_from_prefix(bytes) else {
            return bad!("hold record has {} bytes, fewer than {RAW_BYTES}", bytes.len());
        };
        let Some((tag, mut rest)) = rest.split_at_checked(raw.tag_len.into()) else {
            return bad!("the tag in a hold record is cut off");
        };
        let by = Provenance::take(&mut rest)?;
        let Some(tag) = std::str::from_utf8(tag).ok().filter(|tag| is_tag(tag)) else {
            return bad!("a hold with a tag of {} bytes that is none", tag.len());
        };
        let numbers = [raw.number.get(), raw.view.get()];
        let in_bounds = numbers.iter().all(|n| (1..COUNTER_MAX).contains(n)) && raw.ends.get() < COUNTER_MAX;
        if !in_bounds || raw.reserved != [0; 7] || !rest.is_empty() {
            return bad!("hold record {} of view {} makes no sense", numbers[0], numbers[1]);
        }
        Ok(HoldRecord {
            number: raw.number.get(),
            view: ViewId(raw.view.get()),
            tag: tag.into(),
            since_secs: raw.since_secs.get(),
            ends: Some(raw.ends.get()).filter(|ends| *ends != 0),
            by,
        })
    }
}

/// One with everything.
#[cfg(test)]
pub(super) fn sample() -> HoldRecord {
    HoldRecord {
        number: 3,
        view: ViewId(5),
        tag: "legal/2026".into(),
        since_secs: -7,
        ends: Some(9),
        by: Provenance { user: Some(0), command: b"snapfs hold".to_vec(), ..Provenance::default() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_damage() {
        let longest = HoldRecord { tag: "x".repeat(TAG_BYTES_MAX), ends: None, ..sample() };
        for hold in [sample(), longest] {
            assert_eq!(HoldRecord::decode(&hold.encode()), Ok(hold));
        }
        let bytes = sample().encode();
        for len in 0..bytes.len() {
            assert!(HoldRecord::decode(&bytes[..len]).is_err(), "{len}");
        }
        assert!(HoldRecord::decode(&[&bytes[..], &[0]].concat()).is_err());
        let wrong: [fn(&mut HoldRecord); 7] = [
            |h| h.number = 0,
            |h| h.number = COUNTER_MAX,
            |h| h.view = ViewId(0),
            |h| h.ends = Some(u64::MAX),
            |h| h.tag.clear(),
            |h| h.tag = "a,b".into(),
            |h| h.tag = "x".repeat(TAG_BYTES_MAX + 1),
        ];
        for change in wrong {
            let mut hold = sample();
            change(&mut hold);
            assert!(HoldRecord::decode(&hold.encode()).is_err(), "{hold:?}");
        }
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x40;
            let _ = HoldRecord::decode(&flipped);
        }
    }
}
