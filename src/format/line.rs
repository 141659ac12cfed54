//! The line record: one item of the meta tree for each writable tree.

use super::provenance::Provenance;
use super::schedule::{Schedule, put_schedules, take_schedules};
use super::terms::{RawTerms, Terms};
use super::{FormatError, Generation, LineId, Slot, ViewId, bad};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// Who may change a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LineState {
    /// Whoever may change files.
    #[default]
    Writable,
    /// Nobody: it was received from another store. Its clones are writable.
    Received,
    /// Whoever receives it: nobody else sees it, and it may be half of something.
    Receiving,
    /// Nobody: it was dropped, and can be brought back.
    Trashed,
}

impl LineState {
    /// Its number on disk.
    pub fn number(self) -> u8 {
        match self {
            LineState::Writable => 0,
            LineState::Received => 1,
            LineState::Receiving => 2,
            LineState::Trashed => 3,
        }
    }

    /// From its number on disk.
    pub fn from_number(n: u8) -> Option<LineState> {
        use LineState::*;
        [Writable, Received, Receiving, Trashed].into_iter().find(|s| s.number() == n)
    }

    /// True for lines that users know of.
    pub fn is_shown(self) -> bool {
        matches!(self, LineState::Writable | LineState::Received)
    }
}

/// A line: a writable tree with its past.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LineRecord {
    /// Its number.
    pub id: LineId,
    /// Its name, unique in the store; empty for the main line alone.
    pub name: Vec<u8>,
    /// The view that is written.
    pub head: ViewId,
    /// What the numbers of its nodes carry.
    pub slot: Slot,
    /// Of the slot.
    pub generation: Generation,
    /// Of the head: changes when the line gets another.
    pub head_generation: Generation,
    /// The newest view that it has in common with the line that it was made from, if there is one left.
    pub origin: Option<ViewId>,
    /// The snapshot with which it is compared by a merge or rebase: kept, without a name, as long as a line has it. The
    /// main line has none.
    pub base: Option<ViewId>,
    /// The line that it was made from, which may be gone.
    pub from: Option<LineId>,
    /// Creation: seconds and nanoseconds since 1970 UTC.
    pub created: (i64, u32),
    /// For how long it is kept.
    pub terms: Terms,
    /// Who may change it.
    pub state: LineState,
    /// Why it was made, and by whom.
    pub provenance: Provenance,
    /// By which snapshots of it are taken by themselves: at most [`SCHEDULES_MAX`](super::schedule::SCHEDULES_MAX).
    pub schedules: Vec<Schedule>,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawLine {
    id: le::U64,
    head: le::U64,
    origin: le::U64,
    created_secs: le::I64,
    created_nanos: le::U32,
    slot: le::U32,
    generation: le::U32,
    head_generation: le::U32,
    name_len: le::U16,
    state: u8,
    schedules: u8,
    terms: RawTerms,
    from: le::U64,
    base: le::U64,
}

const RAW_BYTES: usize = 116;
const _: () = assert!(size_of::<RawLine>() == RAW_BYTES);

impl LineRecord {
    /// To the value of a meta tree item: 116 bytes, the name, the provenance and the schedules.
    pub fn encode(&self) -> Vec<u8> {
        let raw = RawLine {
            id: self.id.0.into(),
            head: self.head.0.into(),
            origin: self.origin.map_or(0, |o| o.0).into(),
            created_secs: self.created.0.into(),
            created_nanos: self.created.1.into(),
            slot: self.slot.0.into(),
            generation: self.generation.0.into(),
            head_generation: self.head_generation.0.into(),
            name_len: (self.name.len() as u16).into(),
            state: self.state.number(),
            schedules: self.schedules.len() as u8,
            terms: self.terms.raw(),
            from: self.from.map_or(0, |line| line.0).into(),
            base: self.base.map_or(0, |b| b.0).into(),
        };
        let mut out = raw.as_bytes().to_vec();
        out.extend_from_slice(&self.name);
        self.provenance.encode(&mut out);
        put_schedules(&self.schedules, &mut out);
        out
    }

    /// From its item.
    pub fn decode(bytes: &[u8]) -> Result<LineRecord, FormatError> {
        let Ok((raw, rest)) = RawLine::read_from_prefix(bytes) else {
            return bad!("line record has {} bytes, fewer than {RAW_BYTES}", bytes.len());
        };
        let Some((name, mut rest)) = rest.split_at_checked(raw.name_len.get().into()) else {
            return bad!("the name of line {} is cut off", raw.id.get());
        };
        let provenance = Provenance::take(&mut rest)?;
        let schedules = take_schedules(raw.schedules, &mut rest)?;
        let Some(state) = LineState::from_number(raw.state) else {
            return bad!("line {} has state {}, known are 0..=3", raw.id.get(), raw.state);
        };
        let line = LineRecord {
            id: LineId(raw.id.get()),
            name: name.to_vec(),
            head: ViewId(raw.head.get()),
            slot: Slot(raw.slot.get()),
            generation: Generation(raw.generation.get()),
            head_generation: Generation(raw.head_generation.get()),
            origin: (raw.origin.get() != 0).then(|| ViewId(raw.origin.get())),
            base: (raw.base.get() != 0).then(|| ViewId(raw.base.get())),
            from: (raw.from.get() != 0).then(|| LineId(raw.from.get())),
            created: (raw.created_secs.get(), raw.created_nanos.get()),
            terms: Terms::parse(&raw.terms)?,
            state,
            provenance,
            schedules,
        };
        if name.len() > 255 || !rest.is_empty() {
            return bad!(
                "line record {} has a name of {} bytes, or {} bytes too many",
                line.id.0,
                name.len(),
                rest.len()
            );
        }
        let is_main = line.id == LineId::MAIN;
        if is_main && line.state != LineState::Writable {
            return bad!("the main line has state {}", raw.state);
        }
        if line.id == LineId::NONE || line.head.0 == 0 || is_main != name.is_empty() {
            return bad!("line {} has head {} and a name of {} bytes", line.id.0, line.head.0, name.len());
        }
        if line.from.is_some_and(|from| is_main || from >= line.id) {
            return bad!("line {} was made from {:?}, which is not older", line.id.0, line.from);
        }
        line.terms.fit(is_main)?;
        let generations = line.generation.0 != 0 && line.head_generation.0 != 0;
        if line.slot >= Slot::END || is_main != (line.slot == Slot::MAIN) || !generations {
            return bad!(
                "line {} has slot {} of generation {}, head generation {}",
                line.id.0,
                line.slot.0,
                line.generation.0,
                line.head_generation.0
            );
        }
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use super::super::terms::Expiry;
    use super::*;

    fn sample() -> LineRecord {
        LineRecord {
            id: LineId(7),
            name: b"trial".to_vec(),
            head: ViewId(1 << 40),
            slot: Slot(Slot::END.0 - 1),
            generation: Generation(u32::MAX),
            head_generation: Generation(3),
            origin: Some(ViewId(9)),
            base: Some(ViewId(8)),
            from: Some(LineId(2)),
            terms: Terms { expiry: Some(Expiry { after: 1, at: 2 }), ..Terms::default() },
            state: LineState::Received,
            created: (-4, 5),
            provenance: Provenance { description: b"x".to_vec(), ..Provenance::default() },
            schedules: vec![crate::format::schedule::sample()],
        }
    }

    #[test]
    fn round_trip_and_damage() {
        let line = sample();
        assert_eq!(LineRecord::decode(&line.encode()), Ok(line.clone()));
        let main_terms = Terms { clones_max: Some(9), ..Terms::default() };
        let main = LineRecord {
            id: LineId::MAIN,
            name: Vec::new(),
            slot: Slot::MAIN,
            origin: None,
            from: None,
            terms: main_terms,
            state: LineState::Writable,
            ..line
        };
        assert_eq!(LineRecord::decode(&main.encode()), Ok(main));
        for len in 0..RAW_BYTES + 5 {
            assert!(LineRecord::decode(&sample().encode()[..len]).is_err(), "cut at {len}");
        }
        let wrong: [fn(&mut LineRecord); 8] = [
            |l| l.id = LineId::NONE,
            |l| l.id = LineId::MAIN,
            |l| l.head = ViewId(0),
            |l| l.name.clear(),
            |l| l.slot = Slot::END,
            |l| l.slot = Slot::MAIN,
            |l| l.generation = Generation(0),
            |l| l.head_generation = Generation(0),
        ];
        for change in wrong {
            let mut line = sample();
            change(&mut line);
            assert!(LineRecord::decode(&line.encode()).is_err(), "{line:?}");
        }
        for count in [0, 2, u8::MAX] {
            let mut miscounted = sample().encode();
            miscounted[std::mem::offset_of!(RawLine, schedules)] = count;
            assert!(LineRecord::decode(&miscounted).is_err());
        }
    }
}
