//! A record of the intent log: what one transaction did, as effects on the tree and notes of the layer above.
//!
//! The checksum covers everything in the record that comes after it. A record holds its place in the log, the end of
//! the record before it, and the generation of the log. So a reader follows the records of one session only, and
//! nothing that an earlier session, or an earlier pass over the log's space, has left there.
//!
//! An effect is an item with its key, so a replay need not know which operation it came from. What a note means is
//! decided above `volume`.

use super::age::{AGE_BYTES, AgeRecord};
use super::hold::HoldRecord;
use super::hydration::HydrationRecord;
use super::key::KEY_BYTES;
use super::line::{LineRecord, LineState};
use super::provenance::Provenance;
use super::schedule::{Schedule, put_schedules, take_schedules};
use super::superblock::{PendingPoint, put_point, take_point};
use super::terms::{TERMS_BYTES, Terms};
use super::trash::TrashRecord;
use super::{BlockAddr, Epoch, FormatError, Generation, Key, LineId, ViewId, bad};
use std::ops::Range;
use xxhash_rust::xxh3::xxh3_64_with_seed;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// Bytes of a record's header.
pub const HEADER_BYTES: usize = 64;
/// Records start at multiples of this.
pub const ALIGN_BYTES: u64 = 8;
/// A block that was flushed is never written again: after a flush the next record starts at a multiple of this.
pub const FLUSH_BYTES: u64 = 4096;

const MAGIC: u32 = u32::from_le_bytes(*b"SnpL");
const SEED: u64 = 4;

/// Where a record stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordHeader {
    /// Bytes of the record, header included, without the padding behind it.
    pub len: u32,
    /// Session of the log.
    pub generation: u64,
    /// Position in the log: counts bytes and never starts anew.
    pub lsn: u64,
    /// Where the record before this one ended.
    pub prev_end: u64,
    /// Everything before this position had been flushed when the record was made.
    pub durable: u64,
    /// Epoch of what it tells.
    pub epoch: Epoch,
    /// The line that changed; of effects that say what they are about, any.
    pub line: LineId,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawHeader {
    checksum: le::U64,
    magic: le::U32,
    len: le::U32,
    generation: le::U64,
    lsn: le::U64,
    prev_end: le::U64,
    durable: le::U64,
    epoch: le::U64,
    line: le::U64,
}
const _: () = assert!(size_of::<RawHeader>() == HEADER_BYTES);

impl RecordHeader {
    /// Position of whatever follows.
    pub fn end(&self) -> u64 {
        self.lsn + u64::from(self.len).next_multiple_of(ALIGN_BYTES)
    }

    /// Appends the record with its padding to `out`.
    pub fn seal(&self, effects: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        let raw = RawHeader {
            checksum: 0.into(),
            magic: MAGIC.into(),
            len: self.len.into(),
            generation: self.generation.into(),
            lsn: self.lsn.into(),
            prev_end: self.prev_end.into(),
            durable: self.durable.into(),
            epoch: self.epoch.0.into(),
            line: self.line.0.into(),
        };
        out.extend_from_slice(raw.as_bytes());
        out.extend_from_slice(effects);
        let checksum = xxh3_64_with_seed(&out[start + 8..], SEED);
        out[start..start + 8].copy_from_slice(&checksum.to_le_bytes());
        out.resize(start + (self.end() - self.lsn) as usize, 0);
    }

    /// The header at the start of `bytes`, unproved; `None` if there is none.
    pub fn peek(bytes: &[u8]) -> Option<RecordHeader> {
        let (raw, _) = RawHeader::read_from_prefix(bytes).ok()?;
        let whole = raw.magic.get() == MAGIC && raw.len.get() as usize >= HEADER_BYTES;
        whole.then(|| RecordHeader {
            len: raw.len.get(),
            generation: raw.generation.get(),
            lsn: raw.lsn.get(),
            prev_end: raw.prev_end.get(),
            durable: raw.durable.get(),
            epoch: Epoch(raw.epoch.get()),
            line: LineId(raw.line.get()),
        })
    }

    /// True if a record may begin in a block of `bytes`, which are a part of a log from a multiple of [`ALIGN_BYTES`] on, that
    /// is of this or a later session and from `from` on, as far as its header can be read here. Unproved.
    pub fn may_begin(bytes: &[u8], block: Range<usize>, generation: u64, from: u64) -> bool {
        let number = |at: usize| {
            let bytes = bytes.get(at..at + 8)?;
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        };
        // Without the magic, which stands behind the checksum, there is no record.
        block.step_by(ALIGN_BYTES as usize).any(|at| {
            bytes.get(at..at + 4) == Some(&MAGIC.to_le_bytes()[..])
                && number(at + 8).is_none_or(|found| found >= generation)
                && number(at + 16).is_none_or(|lsn| lsn >= from)
        })
    }

    /// True if `record` (header and effects, without padding) is whole.
    pub fn proves(&self, record: &[u8]) -> bool {
        let Some((checksum, rest)) = record.split_first_chunk::<8>() else { return false };
        record.len() == self.len as usize && u64::from_le_bytes(*checksum) == xxh3_64_with_seed(rest, SEED)
    }
}

/// One thing that a transaction did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect<'a> {
    /// An item got a value.
    Insert(Key, &'a [u8]),
    /// An item went.
    Remove(Key),
    /// A range of content, written in place, became part of the head: address and length.
    Publish(u64, u64),
    /// The head no longer reaches an extent: address, length, birth.
    Free(u64, u64, Epoch),
    /// A range got one more reference: address and length.
    Share(u64, u64),
    /// Something that only the layer above understands.
    Note(&'a [u8]),
    /// A snapshot of a line's head was made, and the epoch ends.
    Point(PendingPoint),
    /// A snapshot got another name.
    Rename(ViewId, &'a [u8]),
    /// A snapshot was deleted.
    Delete(ViewId),
    /// A line was made, from the snapshot that is its origin.
    CreateLine(LineRecord),
    /// A line went, with its snapshots.
    DropLine(LineId),
    /// A line got another name.
    RenameLine(LineId, &'a [u8]),
    /// A line got another head.
    Rollback(Rollback),
    /// A line is compared with another snapshot from now on, or with none.
    Rebase(LineId, Option<ViewId>),
    /// Other terms were given to a line.
    SetTerms(LineId, Terms),
    /// A line got the head of another, with its snapshots, and that is gone.
    Promote(Promotion),
    /// Others may change a line from now on.
    SetState(LineId, LineState),
    /// A copy of a snapshot in another store is begun, or stands otherwise than before.
    SetHydration(HydrationRecord),
    /// No copy of that number is made any more, nor known.
    EndHydration(u64),
    /// Snapshots of a line are taken by these from now on.
    SetSchedules(LineId, Vec<Schedule>),
    /// A snapshot is held.
    SetHold(HoldRecord),
    /// The hold of that number is no more.
    EndHold(u64),
    /// The store has become so old.
    SetAge(AgeRecord),
    /// A snapshot or line was deleted and is in the trash.
    Trash(TrashRecord),
    /// What has that number in the trash is back, under this name.
    Undelete(u64, &'a [u8]),
    /// What has that number in the trash is gone.
    EmptyTrash(u64),
    /// A point without a name, or another snapshot of a line, is a snapshot of the line by that name from now on.
    Name(NamedPoint),
}

/// A point, and what it is called from then on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamedPoint {
    /// The point.
    pub view: ViewId,
    /// The line whose snapshot it is from then on.
    pub line: LineId,
    /// Its name.
    pub name: Vec<u8>,
    /// Why it is kept.
    pub provenance: Provenance,
}

/// A new head of a line, as a snapshot is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rollback {
    /// The line.
    pub line: LineId,
    /// What the new head begins as.
    pub snapshot: ViewId,
    /// The new head.
    pub head: ViewId,
    /// Its generation.
    pub head_generation: Generation,
    /// When: seconds and nanoseconds since 1970 UTC.
    pub created: (i64, u32),
}

/// A line that becomes another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Promotion {
    /// The line that goes, and whose head and snapshots the other gets.
    pub from: LineId,
    /// The line that gets them.
    pub line: LineId,
    /// The generation of its head from then on.
    pub head_generation: Generation,
}

/// Effects in the order in which they happened, as bytes.
#[derive(Clone, Default)]
pub struct Effects(Vec<u8>);

impl Effects {
    /// True if nothing happened.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// No effects, in the memory of these.
    pub fn cleared(mut self) -> Effects {
        self.0.clear();
        self
    }

    /// Bytes of memory that they keep.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Adds a note: the bytes that `put` appends.
    pub fn push_note(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        let out = &mut self.0;
        out.push(6);
        let start = out.len() + 4;
        out.extend_from_slice(&[0; 4]);
        put(out);
        let len = (out.len() - start) as u32;
        out[start - 4..start].copy_from_slice(&len.to_le_bytes());
    }

    /// Adds one.
    pub fn push(&mut self, effect: &Effect<'_>) {
        let out = &mut self.0;
        match effect {
            Effect::Insert(key, value) => {
                out.push(1);
                out.extend_from_slice(&key.encode());
                out.extend_from_slice(&(value.len() as u16).to_le_bytes());
                out.extend_from_slice(value);
            }
            Effect::Remove(key) => {
                out.push(2);
                out.extend_from_slice(&key.encode());
            }
            Effect::Publish(addr, len) => put(out, 3, &[*addr, *len]),
            Effect::Free(addr, len, birth) => put(out, 4, &[*addr, *len, birth.0]),
            Effect::Share(addr, len) => put(out, 5, &[*addr, *len]),
            Effect::Note(note) => self.push_note(|out| out.extend_from_slice(note)),
            Effect::Point(point) => {
                out.push(7);
                put_point(point, out);
            }
            Effect::Rename(view, name) => {
                put(out, 8, &[view.0]);
                put_bytes(out, name);
            }
            Effect::Delete(view) => put(out, 9, &[view.0]),
            Effect::CreateLine(line) => {
                out.push(10);
                put_bytes(out, &line.encode());
            }
            Effect::DropLine(line) => put(out, 11, &[line.0]),
            Effect::RenameLine(line, name) => {
                put(out, 12, &[line.0]);
                put_bytes(out, name);
            }
            Effect::Rollback(r) => {
                let (secs, nanos) = r.created;
                let words = [r.line.0, r.snapshot.0, r.head.0, secs as u64];
                put(out, 13, &words);
                out.extend_from_slice(&nanos.to_le_bytes());
                out.extend_from_slice(&r.head_generation.0.to_le_bytes());
            }
            Effect::Rebase(line, base) => put(out, 14, &[line.0, base.map_or(0, |base| base.0)]),
            Effect::SetTerms(line, terms) => {
                put(out, 15, &[line.0]);
                out.extend_from_slice(&terms.encode());
            }
            Effect::Promote(p) => {
                put(out, 16, &[p.from.0, p.line.0]);
                out.extend_from_slice(&p.head_generation.0.to_le_bytes());
            }
            Effect::SetState(line, state) => {
                put(out, 17, &[line.0]);
                out.push(state.number());
            }
            Effect::SetHydration(copy) => {
                out.push(18);
                put_bytes(out, &copy.encode());
            }
            Effect::EndHydration(number) => put(out, 19, &[*number]),
            Effect::SetSchedules(line, schedules) => {
                put(out, 20, &[line.0]);
                out.push(schedules.len() as u8);
                put_schedules(schedules, out);
            }
            Effect::SetHold(hold) => {
                out.push(31);
                put_bytes(out, &hold.encode());
            }
            Effect::EndHold(number) => put(out, 32, &[*number]),
            Effect::SetAge(age) => {
                out.push(33);
                out.extend_from_slice(&age.encode());
            }
            Effect::Trash(trash) => {
                out.push(34);
                put_bytes(out, &trash.encode());
            }
            Effect::Undelete(number, name) => {
                put(out, 35, &[*number]);
                put_bytes(out, name);
            }
            Effect::EmptyTrash(number) => put(out, 36, &[*number]),
            Effect::Name(point) => {
                put(out, 25, &[point.view.0, point.line.0]);
                put_bytes(out, &point.name);
                point.provenance.encode(out);
            }
        }
    }

    /// Reads effects back.
    pub fn decode(bytes: &[u8]) -> impl Iterator<Item = Result<Effect<'_>, FormatError>> {
        let mut rest = bytes;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let effect = take(&mut rest);
            if effect.is_err() {
                rest = &[];
            }
            Some(effect)
        })
    }
}

fn put(out: &mut Vec<u8>, tag: u8, words: &[u64]) {
    out.push(tag);
    words.iter().for_each(|w| out.extend_from_slice(&w.to_le_bytes()));
}

/// Bytes behind their length.
fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn take<'a>(rest: &mut &'a [u8]) -> Result<Effect<'a>, FormatError> {
    let tag = take_bytes(rest, 1)?[0];
    Ok(match tag {
        1 => {
            let key = take_key(rest)?;
            Effect::Insert(key, take_counted(rest)?)
        }
        2 => Effect::Remove(take_key(rest)?),
        3 => {
            let (addr, len) = take_range(rest)?;
            Effect::Publish(addr, len)
        }
        4 => {
            let (addr, len) = take_range(rest)?;
            Effect::Free(addr, len, Epoch(take_u64(rest)?))
        }
        5 => {
            let (addr, len) = take_range(rest)?;
            Effect::Share(addr, len)
        }
        6 => {
            let len = take_u32(rest)?;
            Effect::Note(take_bytes(rest, len as usize)?)
        }
        7 => Effect::Point(take_point(rest)?),
        8 => {
            let view = ViewId(take_u64(rest)?);
            Effect::Rename(view, take_counted(rest)?)
        }
        9 => Effect::Delete(ViewId(take_u64(rest)?)),
        10 => Effect::CreateLine(LineRecord::decode(take_counted(rest)?)?),
        11 => Effect::DropLine(LineId(take_u64(rest)?)),
        12 => {
            let line = LineId(take_u64(rest)?);
            Effect::RenameLine(line, take_counted(rest)?)
        }
        13 => {
            let (line, snapshot) = (LineId(take_u64(rest)?), ViewId(take_u64(rest)?));
            let (head, secs) = (ViewId(take_u64(rest)?), take_u64(rest)? as i64);
            let created = (secs, take_u32(rest)?);
            let head_generation = Generation(take_u32(rest)?);
            Effect::Rollback(Rollback { line, snapshot, head, head_generation, created })
        }
        14 => {
            let (line, base) = (LineId(take_u64(rest)?), ViewId(take_u64(rest)?));
            Effect::Rebase(line, Some(base).filter(|base| base.0 != 0))
        }
        15 => {
            let line = LineId(take_u64(rest)?);
            Effect::SetTerms(line, Terms::decode(take_bytes(rest, TERMS_BYTES)?)?)
        }
        16 => {
            let (from, line) = (LineId(take_u64(rest)?), LineId(take_u64(rest)?));
            let head_generation = Generation(take_u32(rest)?);
            Effect::Promote(Promotion { from, line, head_generation })
        }
        17 => {
            let (line, number) = (LineId(take_u64(rest)?), take_bytes(rest, 1)?[0]);
            let Some(state) = LineState::from_number(number) else {
                return bad!("a line gets state {number} in a log record");
            };
            Effect::SetState(line, state)
        }
        18 => Effect::SetHydration(HydrationRecord::decode(take_counted(rest)?)?),
        19 => Effect::EndHydration(take_u64(rest)?),
        20 => {
            let (line, count) = (LineId(take_u64(rest)?), take_bytes(rest, 1)?[0]);
            Effect::SetSchedules(line, take_schedules(count, rest)?)
        }
        31 => Effect::SetHold(HoldRecord::decode(take_counted(rest)?)?),
        32 => Effect::EndHold(take_u64(rest)?),
        33 => Effect::SetAge(AgeRecord::decode(take_bytes(rest, AGE_BYTES)?)?),
        34 => Effect::Trash(TrashRecord::decode(take_counted(rest)?)?),
        35 => {
            let number = take_u64(rest)?;
            Effect::Undelete(number, take_counted(rest)?)
        }
        36 => Effect::EmptyTrash(take_u64(rest)?),
        25 => {
            let (view, line) = (ViewId(take_u64(rest)?), LineId(take_u64(rest)?));
            let name = take_counted(rest)?.to_vec();
            Effect::Name(NamedPoint { view, line, name, provenance: Provenance::take(rest)? })
        }
        _ => return bad!("effect {tag} in a log record"),
    })
}

fn take_bytes<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], FormatError> {
    match rest.split_at_checked(len) {
        Some((bytes, tail)) => {
            *rest = tail;
            Ok(bytes)
        }
        None => bad!("an effect in a log record is cut off"),
    }
}

fn take_u64(rest: &mut &[u8]) -> Result<u64, FormatError> {
    let mut word = [0; 8];
    word.copy_from_slice(take_bytes(rest, 8)?);
    Ok(u64::from_le_bytes(word))
}

fn take_u32(rest: &mut &[u8]) -> Result<u32, FormatError> {
    let mut word = [0; 4];
    word.copy_from_slice(take_bytes(rest, 4)?);
    Ok(u32::from_le_bytes(word))
}

/// Bytes behind their length.
fn take_counted<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], FormatError> {
    let len = take_bytes(rest, 2)?;
    take_bytes(rest, u16::from_le_bytes([len[0], len[1]]).into())
}

fn take_key(rest: &mut &[u8]) -> Result<Key, FormatError> {
    let mut key = [0; KEY_BYTES];
    key.copy_from_slice(take_bytes(rest, KEY_BYTES)?);
    Ok(Key::decode(&key))
}

fn take_range(rest: &mut &[u8]) -> Result<(u64, u64), FormatError> {
    let (addr, len) = (take_u64(rest)?, take_u64(rest)?);
    let whole = addr.is_multiple_of(super::BLOCK_BYTES) && len.is_multiple_of(super::BLOCK_BYTES);
    if !whole || addr == 0 || len == 0 || addr.checked_add(len).is_none() {
        return bad!("range {}+{len} in a log record", BlockAddr(addr));
    }
    Ok((addr, len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::hydration::{CopyHold, HydrationState};
    use crate::format::view::Consistency;
    use crate::format::{Kind, Slot};

    fn all() -> Vec<Effect<'static>> {
        let key = Key::new(17, Kind::Dirent, 99);
        let point = PendingPoint {
            provenance: crate::format::provenance::Reason::Step.into(),
            id: ViewId(5),
            line: LineId(1 << 40),
            slot: Slot(4),
            generation: Generation(9),
            epoch: Epoch(7),
            created: (-1, 5),
            pause_ns: 77,
            consistency: Consistency::FileSystem,
            name: b"monday".to_vec(),
            identity: Some(super::super::Identity([5; 16])),
        };
        let line = LineRecord {
            provenance: crate::format::provenance::Reason::Step.into(),
            id: LineId(2),
            name: b"trial".to_vec(),
            head: ViewId(6),
            slot: Slot(5),
            generation: Generation(10),
            head_generation: Generation(11),
            origin: Some(ViewId(5)),
            base: Some(ViewId(5)),
            from: Some(LineId::MAIN),
            terms: Terms::default(),
            state: LineState::Receiving,
            schedules: vec![super::super::schedule::sample()],
            created: (-9, 8),
        };
        let rollback = Rollback {
            line: LineId(2),
            snapshot: ViewId(5),
            head: ViewId(7),
            head_generation: Generation(12),
            created: (-9, 8),
        };
        vec![
            Effect::Insert(key, b"value"),
            Effect::Insert(key, b""),
            Effect::Remove(key),
            Effect::Publish(4096, 8192),
            Effect::Free(8192, 4096, Epoch(3)),
            Effect::Share(4096, 4096),
            Effect::Note(b"note"),
            Effect::Point(point),
            Effect::Rename(ViewId(5), b"tuesday"),
            Effect::Delete(ViewId(5)),
            Effect::CreateLine(line),
            Effect::RenameLine(LineId(2), b"other"),
            Effect::Rollback(rollback),
            Effect::Rebase(LineId(2), Some(ViewId(5))),
            Effect::Rebase(LineId(2), None),
            Effect::SetTerms(LineId(2), Terms { clones_max: Some(1), ..Terms::default() }),
            Effect::SetState(LineId(2), LineState::Received),
            Effect::SetSchedules(LineId(2), vec![super::super::schedule::sample()]),
            Effect::SetSchedules(LineId(2), Vec::new()),
            Effect::Promote(Promotion {
                from: LineId(3),
                line: LineId(u64::MAX),
                head_generation: Generation(9),
            }),
            Effect::DropLine(LineId(2)),
            Effect::SetHydration(HydrationRecord {
                hold: CopyHold::Until(99),
                user: Some(7),
                number: 3,
                view: ViewId(5),
                store: [7; 16],
                path: b"/copy".to_vec(),
                state: HydrationState::Paused,
                rate: 1 << 20,
                begun_secs: 4,
                ended_secs: 0,
                done_bytes: 1,
                about_bytes: 2,
                trouble: Vec::new(),
            }),
            Effect::EndHydration(3),
            Effect::SetHold(super::super::hold::sample()),
            Effect::EndHold(3),
            Effect::SetAge(AgeRecord { secs: 7, at: -1 }),
            Effect::Trash(super::super::trash::sample()),
            Effect::Undelete(3, b"back"),
            Effect::EmptyTrash(3),
            Effect::Name(NamedPoint {
                view: ViewId(5),
                line: LineId::MAIN,
                name: b"before".to_vec(),
                provenance: crate::format::provenance::Reason::MassDeletion.into(),
            }),
        ]
    }

    fn sealed(effects: &Effects) -> (RecordHeader, Vec<u8>) {
        let header = RecordHeader {
            len: (HEADER_BYTES + effects.bytes().len()) as u32,
            generation: 11,
            lsn: 4096,
            prev_end: 4000,
            durable: 16,
            epoch: Epoch(7),
            line: LineId::MAIN,
        };
        let mut out = Vec::new();
        header.seal(effects.bytes(), &mut out);
        (header, out)
    }

    #[test]
    fn round_trip() {
        let mut effects = Effects::default();
        all().iter().for_each(|e| effects.push(e));
        let back: Result<Vec<_>, _> = Effects::decode(effects.bytes()).collect();
        assert_eq!(back.unwrap(), all());
        let (header, bytes) = sealed(&effects);
        assert!(bytes.len().is_multiple_of(8));
        assert_eq!(RecordHeader::peek(&bytes), Some(header));
        assert!(header.proves(&bytes[..header.len as usize]));
    }

    #[test]
    fn damage_is_an_error_not_a_panic() {
        let mut effects = Effects::default();
        all().iter().for_each(|e| effects.push(e));
        let (header, bytes) = sealed(&effects);
        let record = &bytes[..header.len as usize];
        for at in 0..record.len() {
            let mut flipped = record.to_vec();
            flipped[at] ^= 0x40;
            let same = RecordHeader::peek(&flipped) == Some(header) && header.proves(&flipped);
            assert!(!same, "a flip at {at} is not seen");
            assert!(!header.proves(&record[..at]), "cut at {at}");
            // Whatever the bytes are, they decode to effects and at most one error.
            let _ = Effects::decode(&flipped[HEADER_BYTES.min(at)..]).count();
            let _ = Effects::decode(&effects.bytes()[..at.min(effects.bytes().len())]).count();
        }
    }
}
