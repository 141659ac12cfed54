//! For how long a clone is kept, and how many clones there may be: a part of line records.
//!
//! Lengths of time are seconds, moments seconds since 1970 UTC.

use super::{FormatError, bad};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// A clone goes at a moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expiry {
    /// How long that was away when it was said: not 0.
    pub after: u64,
    /// The moment.
    pub at: i64,
}

/// A clone goes when nobody has used it for so long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Idling {
    /// How long: not 0.
    pub after: u64,
    /// When it was used last, a share of that late at most.
    pub used: i64,
}

/// What was said about one line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Terms {
    /// Of a clone.
    pub expiry: Option<Expiry>,
    /// Of a clone.
    pub idling: Option<Idling>,
    /// Of the main line: so many clones there may be in the store. Not 0.
    pub clones_max: Option<u32>,
    /// Of the main line: what is deleted stays in the trash for so many seconds. Not 0.
    pub trash: Option<u64>,
    /// What has a snapshot be kept of what was there before.
    pub tripwire: Option<Threshold>,
}

/// How much has to be gone from a line in a short time so that a snapshot of what was there before is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Threshold {
    /// However much: none is kept.
    Never,
    /// So many files: not 0, nor more than [`THRESHOLD_FILES_MAX`].
    Files(u32),
}

/// Most files of a threshold.
pub const THRESHOLD_FILES_MAX: u32 = u32::MAX - 1;

/// On disk: zeros where nothing was said.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct RawTerms {
    expires_after: le::U64,
    expires_at: le::I64,
    idle_after: le::U64,
    used: le::I64,
    clones_max: le::U32,
    tripwire: le::U32,
    trash: le::U64,
}

/// Bytes of them.
pub(super) const TERMS_BYTES: usize = 48;
const _: () = assert!(size_of::<RawTerms>() == TERMS_BYTES);

impl Terms {
    /// True if the clone may go by itself.
    pub fn ends(&self) -> bool {
        self.expiry.is_some() || self.idling.is_some()
    }

    /// Refuses what is not said of the main line, or of others.
    pub fn fit(&self, is_main: bool) -> Result<(), FormatError> {
        if if is_main { self.ends() } else { self.clones_max.is_some() || self.trash.is_some() } {
            return bad!("terms {self:?} of a line for which there are none such");
        }
        Ok(())
    }

    pub(super) fn raw(&self) -> RawTerms {
        RawTerms {
            expires_after: self.expiry.map_or(0, |e| e.after).into(),
            expires_at: self.expiry.map_or(0, |e| e.at).into(),
            idle_after: self.idling.map_or(0, |i| i.after).into(),
            used: self.idling.map_or(0, |i| i.used).into(),
            clones_max: self.clones_max.unwrap_or(0).into(),
            trash: self.trash.unwrap_or(0).into(),
            tripwire: match self.tripwire {
                None => 0,
                Some(Threshold::Never) => u32::MAX,
                Some(Threshold::Files(files)) => files,
            }
            .into(),
        }
    }

    pub(super) fn parse(raw: &RawTerms) -> Result<Terms, FormatError> {
        let (after, at) = (raw.expires_after.get(), raw.expires_at.get());
        let (idle, used) = (raw.idle_after.get(), raw.used.get());
        if after == 0 && at != 0 || idle == 0 && used != 0 {
            return bad!("moments {at} and {used} of what does not end");
        }
        Ok(Terms {
            expiry: (after != 0).then_some(Expiry { after, at }),
            idling: (idle != 0).then_some(Idling { after: idle, used }),
            clones_max: Some(raw.clones_max.get()).filter(|max| *max != 0),
            trash: Some(raw.trash.get()).filter(|secs| *secs != 0),
            tripwire: match raw.tripwire.get() {
                0 => None,
                u32::MAX => Some(Threshold::Never),
                files => Some(Threshold::Files(files)),
            },
        })
    }

    /// Their bytes.
    pub fn encode(&self) -> [u8; TERMS_BYTES] {
        let mut out = [0; TERMS_BYTES];
        out.copy_from_slice(self.raw().as_bytes());
        out
    }

    /// From these.
    pub fn decode(bytes: &[u8]) -> Result<Terms, FormatError> {
        match RawTerms::read_from_bytes(bytes) {
            Ok(raw) => Terms::parse(&raw),
            Err(_) => bad!("terms of {} bytes, not {TERMS_BYTES}", bytes.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_damage() {
        let all = Terms {
            expiry: Some(Expiry { after: 9, at: -7 }),
            idling: Some(Idling { after: u64::MAX, used: 0 }),
            clones_max: Some(3),
            trash: Some(3600),
            tripwire: Some(Threshold::Files(7)),
        };
        for terms in [Terms::default(), all, Terms { expiry: None, ..all }, Terms { idling: None, ..all }] {
            assert_eq!(Terms::decode(&terms.encode()), Ok(terms));
        }
        let off = Terms { tripwire: Some(Threshold::Never), ..all };
        assert_eq!(Terms::decode(&off.encode()), Ok(off));
        assert!(all.fit(true).is_err() && all.fit(false).is_err());
        for len in 0..TERMS_BYTES {
            assert!(Terms::decode(&all.encode()[..len]).is_err());
        }
        for zeroed in [0..8, 16..24] {
            let mut bytes = Terms { idling: Some(Idling { after: 1, used: 5 }), ..all }.encode();
            bytes[zeroed].fill(0);
            assert!(Terms::decode(&bytes).is_err());
        }
    }
}
