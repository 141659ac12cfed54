//! The trash record: a snapshot or clone that was deleted and can be brought back, an item of the meta tree for each.

use super::ids::COUNTER_MAX;
use super::line::LineState;
use super::provenance::Provenance;
use super::{FormatError, LineId, ViewId, bad};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// What is in the trash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trashed {
    /// A snapshot, which was of this line.
    Snapshot(ViewId, LineId),
    /// A line, which was in this state.
    Line(LineId, LineState),
}

/// Something in the trash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrashRecord {
    /// Its number.
    pub number: u64,
    /// What it is.
    pub what: Trashed,
    /// What it was called: 1 to 255 bytes.
    pub name: Vec<u8>,
    /// When it was deleted: seconds since 1970 UTC.
    pub since_secs: i64,
    /// The age of the store at which it goes, in seconds.
    pub ends: u64,
    /// The number of the next view when it was deleted: what has it or a greater one came later.
    pub next_view: ViewId,
    /// By whom it was deleted, by which command.
    pub by: Provenance,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawTrash {
    number: le::U64,
    view: le::U64,
    line: le::U64,
    since_secs: le::I64,
    ends: le::U64,
    next_view: le::U64,
    name_len: le::U16,
    state: u8,
    reserved: [u8; 5],
}
const RAW_BYTES: usize = 56;
const _: () = assert!(size_of::<RawTrash>() == RAW_BYTES);

impl TrashRecord {
    /// To the value of a meta tree item: 56 bytes, the name, the provenance.
    pub fn encode(&self) -> Vec<u8> {
        let (view, line, state) = match self.what {
            Trashed::Snapshot(view, line) => (view.0, line.0, 0),
            Trashed::Line(line, state) => (0, line.0, state.number()),
        };
        let raw = RawTrash {
            number: self.number.into(),
            view: view.into(),
            line: line.into(),
            since_secs: self.since_secs.into(),
            ends: self.ends.into(),
            next_view: self.next_view.0.into(),
            name_len: (self.name.len() as u16).into(),
            state,
            reserved: [0; 5],
        };
        let mut out = raw.as_bytes().to_vec();
        out.extend_from_slice(&self.name);
        self.by.encode(&mut out);
        out
    }

    /// From its item.
    pub fn decode(bytes: &[u8]) -> Result<TrashRecord, FormatError> {
        let Ok((raw, rest)) = RawTrash::read_from_prefix(bytes) else {
            return bad!("trash record has {} bytes, fewer than {RAW_BYTES}", bytes.len());
        };
        let Some((name, mut rest)) = rest.split_at_checked(raw.name_len.get().into()) else {
            return bad!("the name in a trash record is cut off");
        };
        let by = Provenance::take(&mut rest)?;
        let (number, view, line) = (raw.number.get(), raw.view.get(), LineId(raw.line.get()));
        let counted = [number, raw.next_view.get()].iter().all(|n| (1..COUNTER_MAX).contains(n));
        let fits = (1..=255).contains(&name.len()) && raw.ends.get() < COUNTER_MAX && view < COUNTER_MAX;
        if !counted || !fits || raw.reserved != [0; 5] || !rest.is_empty() || line == LineId::NONE {
            return bad!("trash record {number} of view {view} and line {} makes no sense", line.0);
        }
        let state = LineState::from_number(raw.state).filter(|state| state.is_shown());
        let what = match (view, state) {
            (0, Some(state)) if line != LineId::MAIN => Trashed::Line(line, state),
            (1.., Some(LineState::Writable)) => Trashed::Snapshot(ViewId(view), line),
            _ => {
                return bad!(
                    "trash record {number} of view {view} and line {} in state {}",
                    line.0,
                    raw.state
                );
            }
        };
        Ok(TrashRecord {
            number,
            what,
            name: name.to_vec(),
            since_secs: raw.since_secs.get(),
            ends: raw.ends.get(),
            next_view: ViewId(raw.next_view.get()),
            by,
        })
    }
}

/// One with everything.
#[cfg(test)]
pub(super) fn sample() -> TrashRecord {
    TrashRecord {
        number: 3,
        what: Trashed::Snapshot(ViewId(5), LineId(2)),
        name: b"monday".to_vec(),
        since_secs: -7,
        ends: 9,
        next_view: ViewId(6),
        by: Provenance { user: Some(0), command: b"rmdir".to_vec(), ..Provenance::default() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_damage() {
        let line = TrashRecord { what: Trashed::Line(LineId(9), LineState::Received), ..sample() };
        for trash in [sample(), line.clone()] {
            assert_eq!(TrashRecord::decode(&trash.encode()), Ok(trash));
        }
        let bytes = sample().encode();
        for len in 0..bytes.len() {
            assert!(TrashRecord::decode(&bytes[..len]).is_err(), "{len}");
        }
        assert!(TrashRecord::decode(&[&bytes[..], &[0]].concat()).is_err());
        let wrong: [fn(&mut TrashRecord); 9] = [
            |t| t.number = 0,
            |t| t.next_view = ViewId(0),
            |t| t.ends = COUNTER_MAX,
            |t| t.name.clear(),
            |t| t.name = vec![b'x'; 256],
            |t| t.what = Trashed::Snapshot(ViewId(5), LineId::NONE),
            |t| t.what = Trashed::Line(LineId::MAIN, LineState::Writable),
            |t| t.what = Trashed::Line(LineId(2), LineState::Receiving),
            |t| t.what = Trashed::Line(LineId(2), LineState::Trashed),
        ];
        for change in wrong {
            let mut trash = sample();
            change(&mut trash);
            assert!(TrashRecord::decode(&trash.encode()).is_err(), "{trash:?}");
        }
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x40;
            let _ = TrashRecord::decode(&flipped);
        }
    }
}
