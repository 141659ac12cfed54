//! The scrub's items in the meta tree: the record of how far it got, and a finding for each block that is lost.
//!
//! Not part of what a store means: without them, or when they do not decode, no scrub was ever made.

use super::key::KEY_BYTES;
use super::{Epoch, FormatError, Key, bad};
use crate::names;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// Most findings that are kept.
pub const FINDINGS_MAX: u64 = 100;
/// Most bytes of the texts of a finding, together.
pub const TEXT_BYTES_MAX: usize = 2000;
const _: () = assert!(TEXT_BYTES_MAX + FINDING_BYTES <= super::leaf::VALUE_BYTES_MAX);

/// Whether a scrub goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ScrubState {
    /// It does, also after the next mount.
    Running = 1,
    /// Not before it is told to.
    Paused = 2,
    /// It came to its end.
    Finished = 3,
    /// It was ended before.
    Stopped = 4,
}

/// What a scrub reads, in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Stage {
    /// Superblocks and the space map.
    Tables = 1,
    /// The meta tree.
    Meta = 2,
    /// Snapshots that were there when it began, oldest first. `number`: the epoch of the snapshot.
    Snapshots = 3,
    /// What heads held then. `number`: the head, or the snapshot of it that outlived it.
    Heads = 4,
}

/// How far a scrub got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cursor {
    /// What is being read.
    pub stage: Stage,
    /// Which one of several.
    pub number: u64,
    /// Of this, only what was born later is read.
    pub newer_than: Epoch,
    /// Items with smaller keys are done.
    pub key: Key,
}

/// The record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScrubRecord {
    /// Whether it goes on.
    pub state: ScrubState,
    /// How far it got.
    pub cursor: Cursor,
    /// What was born later is not its business.
    pub until: Epoch,
    /// Bytes that it reads a second at most; 0: as it finds right.
    pub limit: u64,
    /// Bytes read and proved.
    pub done_bytes: u64,
    /// Bytes that were allocated when it began.
    pub total_bytes: u64,
    /// Bad blocks that were made good from their second copy.
    pub healed: u64,
    /// Bad blocks that were not.
    pub bad: u64,
    /// When it began: seconds since 1970 UTC.
    pub started_secs: i64,
    /// When it ended, or this was written.
    pub ended_secs: i64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawRecord {
    state: u8,
    stage: u8,
    key: [u8; KEY_BYTES],
    reserved: [u8; 5],
    number: le::U64,
    newer_than: le::U64,
    until: le::U64,
    limit: le::U64,
    done_bytes: le::U64,
    total_bytes: le::U64,
    healed: le::U64,
    bad: le::U64,
    started_secs: le::I64,
    ended_secs: le::I64,
}
const _: () = assert!(size_of::<RawRecord>() == 104);

impl ScrubRecord {
    /// To the value of its item.
    pub fn encode(&self) -> Vec<u8> {
        let raw = RawRecord {
            state: self.state as u8,
            stage: self.cursor.stage as u8,
            key: self.cursor.key.encode(),
            reserved: [0; 5],
            number: self.cursor.number.into(),
            newer_than: self.cursor.newer_than.0.into(),
            until: self.until.0.into(),
            limit: self.limit.into(),
            done_bytes: self.done_bytes.into(),
            total_bytes: self.total_bytes.into(),
            healed: self.healed.into(),
            bad: self.bad.into(),
            started_secs: self.started_secs.into(),
            ended_secs: self.ended_secs.into(),
        };
        raw.as_bytes().to_vec()
    }

    /// From its item.
    pub fn decode(bytes: &[u8]) -> Result<ScrubRecord, FormatError> {
        use ScrubState::*;
        use Stage::*;
        let Ok(raw) = RawRecord::read_from_bytes(bytes) else {
            return bad!("scrub record has {} bytes, not 104", bytes.len());
        };
        let state = [Running, Paused, Finished, Stopped].into_iter().find(|s| *s as u8 == raw.state);
        let stage = [Tables, Meta, Snapshots, Heads].into_iter().find(|s| *s as u8 == raw.stage);
        let (Some(state), Some(stage), [0, 0, 0, 0, 0]) = (state, stage, raw.reserved) else {
            return bad!("scrub record has state {} and stage {}, or reserved bytes", raw.state, raw.stage);
        };
        Ok(ScrubRecord {
            state,
            cursor: Cursor {
                stage,
                number: raw.number.get(),
                newer_than: Epoch(raw.newer_than.get()),
                key: Key::decode(&raw.key),
            },
            until: Epoch(raw.until.get()),
            limit: raw.limit.get(),
            done_bytes: raw.done_bytes.get(),
            total_bytes: raw.total_bytes.get(),
            healed: raw.healed.get(),
            bad: raw.bad.get(),
            started_secs: raw.started_secs.get(),
            ended_secs: raw.ended_secs.get(),
        })
    }
}

/// A block that is bad and was not healed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Finding {
    /// Its address.
    pub addr: u64,
    /// Its length in bytes.
    pub len: u64,
    /// Files that it hits in all; `files` may name fewer.
    pub files_total: u64,
    /// Snapshots and heads that it hits in all; `views` may name fewer.
    pub views_total: u64,
    /// What it is and what is wrong with it.
    pub what: String,
    /// Paths of the files that it hits, with what of them.
    pub files: Vec<String>,
    /// Snapshots and heads that it hits, oldest first.
    pub views: Vec<String>,
}

/// Bytes of a finding without its texts.
const FINDING_BYTES: usize = 40;
/// Between texts; in none of them, because whoever makes them escapes it.
const SEPARATOR: u8 = 0;

impl Finding {
    /// To the value of its item. Names that do not fit are left out; the totals stay.
    pub fn encode(&self) -> Vec<u8> {
        let mut room = TEXT_BYTES_MAX;
        let what = take(std::slice::from_ref(&self.what), &mut room);
        // Half of what is left for each, so that neither keeps the other out.
        let mut half = room / 2;
        let files = take(&self.files, &mut half);
        let mut rest = room - files.len();
        let views = take(&self.views, &mut rest);
        let mut out = Vec::with_capacity(FINDING_BYTES + TEXT_BYTES_MAX);
        for word in [self.addr, self.len, self.files_total, self.views_total] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        for text in [&what, &files, &views] {
            out.extend_from_slice(&(text.len() as u16).to_le_bytes());
        }
        out.extend_from_slice(&[0; 2]);
        [what, files, views].iter().for_each(|text| out.extend_from_slice(text));
        out
    }

    /// From its item.
    pub fn decode(bytes: &[u8]) -> Result<Finding, FormatError> {
        let Some((fixed, mut rest)) = bytes.split_at_checked(FINDING_BYTES) else {
            return bad!("finding of {} bytes, at least {FINDING_BYTES}", bytes.len());
        };
        let word = |at: usize| u64::from_le_bytes(fixed[at..at + 8].try_into().unwrap_or_default());
        let mut texts = [Vec::new(), Vec::new(), Vec::new()];
        for (n, text) in texts.iter_mut().enumerate() {
            let len = usize::from(u16::from_le_bytes([fixed[32 + 2 * n], fixed[33 + 2 * n]]));
            let Some((part, tail)) = rest.split_at_checked(len) else {
                return bad!("finding has a text of {len} bytes, of which {} are there", rest.len());
            };
            let strings = part.split(|b| *b == SEPARATOR).filter(|s| !s.is_empty());
            *text = strings.map(seen).collect();
            rest = tail;
        }
        if !rest.is_empty() || fixed[38..] != [0; 2] {
            return bad!("finding has {} bytes behind its texts, or reserved bytes", rest.len());
        }
        let [what, files, views] = texts;
        Ok(Finding {
            addr: word(0),
            len: word(8),
            files_total: word(16),
            views_total: word(24),
            what: what.into_iter().next().unwrap_or_default(),
            files,
            views,
        })
    }
}

/// What [`take`] put there; with right checksums and wrong bytes, what is seen of them.
fn seen(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| names::shown_bytes(bytes), str::to_string)
}

/// The first texts as far as they fit; a first one that is too long is cut.
fn take(texts: &[String], room: &mut usize) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::new();
    for text in texts {
        let mut fits = text.len();
        while out.is_empty() && (fits > *room || !text.is_char_boundary(fits)) {
            fits -= 1;
        }
        let len = fits + usize::from(!out.is_empty());
        if len > *room {
            break;
        }
        if !out.is_empty() {
            out.push(SEPARATOR);
        }
        out.extend_from_slice(&text.as_bytes()[..fits]);
        *room -= len;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> ScrubRecord {
        let cursor = Cursor {
            stage: Stage::Snapshots,
            number: 9,
            newer_than: Epoch(4),
            key: Key { object: 1, kind: 7, rest: 3 },
        };
        ScrubRecord {
            state: ScrubState::Paused,
            cursor,
            until: Epoch(20),
            limit: 1 << 20,
            done_bytes: 5,
            total_bytes: 6,
            healed: 7,
            bad: 8,
            started_secs: -9,
            ended_secs: 10,
        }
    }

    fn finding(files: usize, views: usize) -> Finding {
        Finding {
            addr: 1 << 40,
            len: 4096,
            files_total: 3,
            views_total: 4,
            what: "data block".into(),
            files: (0..files).map(|n| format!("/a/file{n}")).collect(),
            views: (0..views).map(|n| format!("snapshot {n}")).collect(),
        }
    }

    #[test]
    fn round_trip_and_damage() {
        let bytes = record().encode();
        assert_eq!(ScrubRecord::decode(&bytes).unwrap(), record());
        for len in 0..bytes.len() {
            assert!(ScrubRecord::decode(&bytes[..len]).is_err());
        }
        for f in [finding(0, 0), finding(1, 2), finding(20, 30)] {
            assert_eq!(Finding::decode(&f.encode()).unwrap(), f);
        }
        let mut rng = fastrand::Rng::with_seed(2);
        let whole = finding(3, 3).encode();
        for _ in 0..20_000 {
            let mut bytes = whole[..rng.usize(0..=whole.len())].to_vec();
            if !bytes.is_empty() {
                let at = rng.usize(0..bytes.len());
                bytes[at] = rng.u8(..);
            }
            let _ = (Finding::decode(&bytes), ScrubRecord::decode(&bytes));
        }
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let full = finding(1000, 1000);
        let bytes = full.encode();
        assert!(bytes.len() <= super::super::leaf::VALUE_BYTES_MAX);
        let kept = Finding::decode(&bytes).unwrap();
        assert!(kept.files.len() > 50 && kept.views.len() > 50);
        assert_eq!(kept.files[..], full.files[..kept.files.len()]);
        let long = Finding { what: "\u{e9}".repeat(5000), ..finding(2, 2) };
        assert!(Finding::decode(&long.encode()).unwrap().what.len() <= TEXT_BYTES_MAX);
    }
}
