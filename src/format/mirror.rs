//! The label: which side of a mirrored store a device is, and how it stands to the other side.
//!
//! Who is newer is said by generations, never by a clock: a side that goes on without its partner takes a new one first
//! and notes from which it parted. The newest valid of four places is in force, and a label is written to the two that
//! do not hold the one in force, so a crash leaves the old or the new one.

use super::mark::FileBirth;
use super::{FormatError, bad};
use xxhash_rust::xxh3::xxh3_64_with_seed;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// Where labels are: behind the marks. Label number n is at places `2 * (n % 2)` and the one after it.
pub const LABEL_ADDRS: [u64; 4] = [260 << 10, 772 << 10, 264 << 10, 776 << 10];
/// Bytes that are written for a label.
pub const LABEL_BYTES: usize = 4096;
/// Longest path of a partner that is noted, in bytes.
pub const PARTNER_PATH_MAX: usize = 3072;
/// Generations before the one that it last parted from that a label knows.
pub const EARLIER_MAX: usize = 32;

const MAGIC: [u8; 8] = *b"SnpSide\n";
const SEED: u64 = 0x4D53;

/// How a side stands to its partner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Both have everything that was acknowledged.
    Together,
    /// It goes on without its partner, which has less.
    Alone,
    /// It is being filled from its partner, and is no store until that is done.
    Incomplete,
    /// Its partner went on without it and could tell it so.
    Stale,
    /// It was split off, or had another split off: a store of its own, which remembers from when on.
    Split,
}

/// A generation that has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PastGeneration {
    /// Which, not 0.
    pub generation: u64,
    /// What had been committed on both sides when it ended: an epoch.
    pub until: u64,
}

/// A label.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Label {
    /// Identity of the pair, random.
    pub pair: [u8; 16],
    /// Number of this label on its side.
    pub number: u64,
    /// Identity of this side, and of its partner: not 0, and not the same.
    pub side: u64,
    /// See above.
    pub partner: u64,
    /// How it stands to the partner.
    pub standing: Standing,
    /// Generation, not 0.
    pub current: u64,
    /// The generation before this one: of a side that is alone the one that both last had; 0 if there was none.
    pub parted_from: u64,
    /// What had been committed on both when that ended: an epoch.
    pub parted_at: u64,
    /// When that was written, of a side that is alone: seconds since 1970 UTC, for people; 0: not known.
    pub parted_secs: i64,
    /// Generations before that, of a side that is alone those that it had since before these; newest first, at most [`EARLIER_MAX`]. What was acknowledged in any of them this side has.
    pub earlier: Vec<PastGeneration>,
    /// How long one side may keep the other waiting, in milliseconds, not 0.
    pub limit_ms: u32,
    /// Of a side that is split: it was opened for writing since. Of one that is alone: in this generation its partner was, or is,
    /// being filled. Of one that is stale: it was detached.
    pub opened: bool,
    /// The file that this side is in, as far as the host tells: a copy is in another one.
    pub home: Option<FileBirth>,
    /// Where the store ended before it was to fit on its partner, or on what was its partner; 0: it was not made to fit. It ends
    /// there again when it goes on without one for good.
    pub wide: u64,
    /// Where the partner was last: any bytes, may be empty.
    pub path: Vec<u8>,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawLabel {
    checksum: le::U64,
    magic: [u8; 8],
    pair: [u8; 16],
    number: le::U64,
    side: le::U64,
    partner: le::U64,
    current: le::U64,
    parted_from: le::U64,
    parted_at: le::U64,
    limit_ms: le::U32,
    path_len: le::U16,
    standing: u8,
    opened: u8,
    home_inode: le::U64,
    home_secs: le::U64,
    home_nanos: le::U32,
    reserved: [u8; 4],
    parted_secs: le::I64,
    wide: le::U64,
    earlier: [RawPast; EARLIER_MAX],
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawPast {
    generation: le::U64,
    until: le::U64,
}

const RAW_BYTES: usize = 128 + 16 * EARLIER_MAX;
const _: () = assert!(size_of::<RawLabel>() == RAW_BYTES);
const _: () = assert!(RAW_BYTES + PARTNER_PATH_MAX <= LABEL_BYTES);

impl Standing {
    fn number(self) -> u8 {
        match self {
            Standing::Together => 1,
            Standing::Alone => 2,
            Standing::Incomplete => 3,
            Standing::Stale => 4,
            Standing::Split => 5,
        }
    }

    fn from_number(number: u8) -> Option<Standing> {
        use Standing::*;
        [Together, Alone, Incomplete, Stale, Split].into_iter().find(|s| s.number() == number)
    }
}

impl Label {
    /// The label of a side that its partner, which has this one as well, goes on without for good.
    #[must_use]
    pub fn detached(self) -> Label {
        Label { number: self.number + 1, standing: Standing::Stale, opened: true, ..self }
    }

    /// True of a side that was detached.
    pub fn is_detached(&self) -> bool {
        self.standing == Standing::Stale && self.opened
    }

    /// The label that follows, of a new generation. `until` is what had been committed on both when this one ended: an epoch.
    #[must_use]
    pub fn followed(&self, standing: Standing, generation: u64, until: u64) -> Label {
        let before = PastGeneration { generation: self.parted_from, until: self.parted_at };
        let earlier =
            (before.generation != 0).then_some(before).into_iter().chain(self.earlier.iter().copied());
        Label {
            number: self.number + 1,
            standing,
            current: generation,
            parted_from: self.current,
            parted_at: until,
            parted_secs: 0,
            opened: false,
            earlier: earlier.take(EARLIER_MAX).collect(),
            ..self.clone()
        }
    }

    /// The label that follows, of a side that is alone and begins a generation for itself. `until` is what had been committed on it.
    /// From when on it is alone stays as it was.
    #[must_use]
    pub fn begun_again(&self, generation: u64, until: u64) -> Label {
        let ended = PastGeneration { generation: self.current, until };
        let earlier = std::iter::once(ended).chain(self.earlier.iter().copied());
        Label {
            number: self.number + 1,
            standing: Standing::Alone,
            current: generation,
            opened: false,
            earlier: earlier.take(EARLIER_MAX).collect(),
            ..self.clone()
        }
    }

    /// The same label, which says that what came with an epoch, and later, may be missing on the partner, whatever was committed on
    /// both.
    #[must_use]
    pub fn without(&self, epoch: u64) -> Label {
        let most = epoch.saturating_sub(1);
        let less = |past: &PastGeneration| PastGeneration { until: past.until.min(most), ..*past };
        let earlier = self.earlier.iter().map(less).collect();
        Label { parted_at: self.parted_at.min(most), earlier, ..self.clone() }
    }

    /// The same label, of a side whose partner has lost what it had: nothing counts that both had in common.
    #[must_use]
    pub fn with_nothing_in_common(&self) -> Label {
        self.without(0)
    }

    /// Generations that this side had before its own, newest first.
    pub fn past(&self) -> impl Iterator<Item = PastGeneration> + '_ {
        let last = PastGeneration { generation: self.parted_from, until: self.parted_at };
        (last.generation != 0).then_some(last).into_iter().chain(self.earlier.iter().copied())
    }

    /// The places of this label.
    #[must_use]
    pub fn addrs(&self) -> [u64; 2] {
        let first = 2 * (self.number % 2) as usize;
        [LABEL_ADDRS[first], LABEL_ADDRS[first + 1]]
    }

    /// To what is written: the label and zeros.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        assert!(self.path.len() <= PARTNER_PATH_MAX, "the path of a partner is too long for its label");
        assert!(self.earlier.len() <= EARLIER_MAX, "a label with more generations than it has room for");
        let mut earlier = [RawPast { generation: 0.into(), until: 0.into() }; EARLIER_MAX];
        for (raw, past) in earlier.iter_mut().zip(&self.earlier) {
            *raw = RawPast { generation: past.generation.into(), until: past.until.into() };
        }
        let home = self.home.unwrap_or(FileBirth { inode: 0, secs: 0, nanos: 0 });
        let raw = RawLabel {
            checksum: 0.into(),
            magic: MAGIC,
            pair: self.pair,
            number: self.number.into(),
            side: self.side.into(),
            partner: self.partner.into(),
            current: self.current.into(),
            parted_from: self.parted_from.into(),
            parted_at: self.parted_at.into(),
            limit_ms: self.limit_ms.into(),
            path_len: (self.path.len() as u16).into(),
            standing: self.standing.number(),
            opened: self.opened.into(),
            home_inode: home.inode.into(),
            home_secs: home.secs.into(),
            home_nanos: home.nanos.into(),
            reserved: [0; 4],
            parted_secs: self.parted_secs.into(),
            wide: self.wide.into(),
            earlier,
        };
        let mut bytes = raw.as_bytes().to_vec();
        bytes.extend_from_slice(&self.path);
        bytes.resize(LABEL_BYTES, 0);
        let checksum = xxh3_64_with_seed(&bytes[8..], SEED);
        bytes[..8].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// From what was read. None where no label was ever written.
    ///
    /// # Errors
    /// If it is neither zeros nor a label.
    pub fn decode(bytes: &[u8]) -> Result<Option<Label>, FormatError> {
        let Some((raw, rest)) = RawLabel::ref_from_prefix(bytes).ok().filter(|_| bytes.len() == LABEL_BYTES)
        else {
            return bad!("a label has {} bytes, not {LABEL_BYTES}", bytes.len());
        };
        if bytes.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        if raw.magic != MAGIC || raw.checksum.get() != xxh3_64_with_seed(&bytes[8..], SEED) {
            return bad!("the label has a wrong magic number or checksum");
        }
        let Some(standing) = Standing::from_number(raw.standing) else {
            return bad!("the label says standing {}, known are 1 to 5", raw.standing);
        };
        let path_len = usize::from(raw.path_len.get());
        let (path, end) = match rest.split_at_checked(path_len) {
            Some(parts) if path_len <= PARTNER_PATH_MAX => parts,
            _ => return bad!("the label has a path of {path_len} bytes"),
        };
        let earlier = raw.earlier.iter();
        let earlier: Vec<_> = earlier
            .map(|past| PastGeneration { generation: past.generation.get(), until: past.until.get() })
            .take_while(|past| past.generation != 0)
            .collect();
        let behind = &raw.earlier[earlier.len()..];
        let home =
            FileBirth { inode: raw.home_inode.get(), secs: raw.home_secs.get(), nanos: raw.home_nanos.get() };
        let label = Label {
            pair: raw.pair,
            number: raw.number.get(),
            side: raw.side.get(),
            partner: raw.partner.get(),
            standing,
            current: raw.current.get(),
            parted_from: raw.parted_from.get(),
            parted_at: raw.parted_at.get(),
            parted_secs: raw.parted_secs.get(),
            earlier,
            limit_ms: raw.limit_ms.get(),
            opened: raw.opened == 1,
            home: Some(home).filter(|home| home.inode != 0),
            wide: raw.wide.get(),
            path: path.to_vec(),
        };
        let named = label.side != 0 && label.partner != 0 && label.side != label.partner;
        let clean =
            raw.reserved == [0; 4] && raw.opened <= 1 && end.iter().chain(behind.as_bytes()).all(|b| *b == 0);
        if !named || !clean || label.current == 0 || label.limit_ms == 0 || label.number >= 1 << 62 {
            return bad!(
                "the label names no sides, no generation or no limit, or has reserved bytes that are not zero"
            );
        }
        Ok(Some(label))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_read_back_and_damage_is_refused() {
        let label = Label {
            pair: [7; 16],
            number: 9,
            side: 3,
            partner: 4,
            standing: Standing::Alone,
            current: 77,
            parted_from: 66,
            parted_at: 12,
            parted_secs: 1 << 34,
            earlier: vec![PastGeneration { generation: 55, until: 11 }],
            limit_ms: 10_000,
            opened: true,
            home: Some(FileBirth { inode: 12, secs: 1 << 33, nanos: 5 }),
            wide: 1 << 46,
            path: b"/disks/two".to_vec(),
        };
        let bytes = label.encode();
        assert_eq!(Label::decode(&bytes), Ok(Some(label.clone())));
        assert_eq!(label.addrs(), [264 << 10, 776 << 10]);
        let mut next = label.clone();
        for n in 0..2 * EARLIER_MAX as u64 {
            next = next.followed(Standing::Together, 1000 + n, 100 + n);
            assert_eq!(Label::decode(&next.encode()), Ok(Some(next.clone())));
        }
        let last = 1000 + 2 * EARLIER_MAX as u64 - 1;
        let past: Vec<_> = next.past().collect();
        assert_eq!(
            (past.len(), past[0]),
            (EARLIER_MAX + 1, PastGeneration { generation: last - 1, until: last - 900 })
        );
        for i in (0..RAW_BYTES + 16).chain([LABEL_BYTES - 1]) {
            let mut bad = bytes.clone();
            bad[i] ^= 4;
            assert!(Label::decode(&bad).is_err(), "a flip at byte {i} went unseen");
        }
        assert!(Label::decode(&bytes[..100]).is_err());
        // However often it begins anew alone, it knows what it parted from.
        let mut alone = label.clone();
        for n in 0..2 * EARLIER_MAX as u64 {
            alone = alone.begun_again(2000 + n, 20 + n);
            assert_eq!(Label::decode(&alone.encode()), Ok(Some(alone.clone())));
        }
        let past: Vec<_> = alone.past().collect();
        let last = 2 * EARLIER_MAX as u64 - 1;
        assert_eq!(past[0], PastGeneration { generation: 66, until: 12 });
        assert_eq!(past[1], PastGeneration { generation: 2000 + last - 1, until: 20 + last });
        assert_eq!((past.len(), alone.standing, alone.opened), (EARLIER_MAX + 1, Standing::Alone, false));
        let same = Label { partner: 3, ..label };
        assert!(Label::decode(&same.encode()).is_err());
        assert_eq!(Label::decode(&[0; LABEL_BYTES]), Ok(None));
    }
}
