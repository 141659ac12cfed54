//! The view record: one item of the meta tree for each head, snapshot and clone.

use super::ids::COUNTER_MAX;
use super::pointer::RawPtr;
use super::provenance::Provenance;
use super::{BlockPtr, Epoch, FormatError, Generation, Identity, LineId, Slot, ViewId, bad};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// What a view is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Writable: the tree of a line.
    Head,
    /// Read-only, with a name.
    Snapshot,
    /// A deleted snapshot that several views still descend from: no name and no line, kept for its place in the history.
    Hidden,
}

/// How a snapshot came about: which applications took part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Consistency {
    /// To applications it is as after a power cut: what they should have done before was not done.
    Crash,
    /// All data that was written when it was asked for, dirty pages of the kernel included.
    FileSystem,
    /// As `FileSystem`, and the applications had been told to be quiet.
    Application,
}

impl Consistency {
    /// What users call it.
    pub fn name(self) -> &'static str {
        match self {
            Consistency::Crash => "crash",
            Consistency::FileSystem => "file system",
            Consistency::Application => "application",
        }
    }

    /// From what users call it.
    pub fn from_name(name: &str) -> Option<Consistency> {
        [Consistency::Crash, Consistency::FileSystem, Consistency::Application]
            .into_iter()
            .find(|c| c.name() == name)
    }

    /// Its number on disk.
    pub fn number(self) -> u8 {
        match self {
            Consistency::Crash => 1,
            Consistency::FileSystem => 2,
            Consistency::Application => 3,
        }
    }

    /// From its number on disk.
    pub fn from_number(n: u8) -> Option<Consistency> {
        [Consistency::Crash, Consistency::FileSystem, Consistency::Application]
            .into_iter()
            .find(|c| c.number() == n)
    }
}

/// A view. Counters are bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ViewRecord {
    /// Its number.
    pub id: ViewId,
    /// What it is.
    pub role: Role,
    /// The line whose head or snapshot it is; none if it is hidden or was deleted and somebody still read it.
    pub line: LineId,
    /// Name of a snapshot, unique in its line; empty for heads and for what is of no line.
    pub name: Vec<u8>,
    /// What the numbers of a snapshot's nodes carry. A head has no slot of its own.
    pub slot: Slot,
    /// Of the slot; none for heads and hidden views.
    pub generation: Generation,
    /// Point in time: blocks born up to and in this epoch are in the snapshot. 0 for heads.
    pub epoch: Epoch,
    /// The snapshot below, if any.
    pub prev: Option<ViewId>,
    /// Dead list of the edge from `prev`: blocks alive in `prev` and dead here.
    pub list: u64,
    /// All bytes that the view reaches.
    pub referenced: u64,
    /// Bytes born after `prev` that the view reaches.
    pub written: u64,
    /// Bytes that only this view reaches, while it has one child at most; computed on demand otherwise.
    pub exclusive: u64,
    /// Creation: seconds and nanoseconds since 1970 UTC.
    pub created: (i64, u32),
    /// How long writers had to wait for it, in nanoseconds.
    pub pause_ns: u64,
    /// What took part.
    pub consistency: Consistency,
    /// Why a snapshot was made, and by whom.
    pub provenance: Provenance,
    /// Of a snapshot that was received from another store: as it is known there.
    pub identity: Option<Identity>,
    /// Of a snapshot: sum over what is in it, if it was ever counted.
    pub digest: Option<u128>,
    /// When content was last purged from a snapshot, in seconds since 1970 UTC. What is made from it has it as well.
    pub edited: Option<i64>,
    /// Root of its tree; none while it was never written.
    pub root: Option<BlockPtr>,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawView {
    id: le::U64,
    prev: le::U64,
    line: le::U64,
    created_secs: le::I64,
    created_nanos: le::U32,
    slot: le::U32,
    generation: le::U32,
    role: u8,
    consistency: u8,
    name_len: le::U16,
    epoch: le::U64,
    list: le::U64,
    referenced: le::U64,
    written: le::U64,
    exclusive: le::U64,
    pause_ns: le::U64,
    root: RawPtr,
    identity: [u8; 16],
    digest: [u8; 16],
    edited: le::I64,
}

const RAW_BYTES: usize = 176;
const _: () = assert!(size_of::<RawView>() == RAW_BYTES);

impl ViewRecord {
    /// The head of a line that descends from nothing and was never written.
    pub fn head(id: ViewId, line: LineId, list: u64, created: (i64, u32)) -> ViewRecord {
        ViewRecord {
            id,
            role: Role::Head,
            line,
            name: Vec::new(),
            slot: Slot(0),
            generation: Generation(0),
            epoch: Epoch(0),
            prev: None,
            list,
            referenced: 0,
            written: 0,
            exclusive: 0,
            created,
            pause_ns: 0,
            consistency: Consistency::Crash,
            provenance: Provenance::default(),
            identity: None,
            digest: None,
            edited: None,
            root: None,
        }
    }

    /// To the value of a meta tree item: 176 bytes, the name, and the provenance.
    pub fn encode(&self) -> Vec<u8> {
        let raw = RawView {
            id: self.id.0.into(),
            prev: self.prev.map_or(0, |p| p.0).into(),
            line: self.line.0.into(),
            slot: self.slot.0.into(),
            generation: self.generation.0.into(),
            role: match self.role {
                Role::Head => 1,
                Role::Snapshot => 2,
                Role::Hidden => 3,
            },
            consistency: self.consistency.number(),
            name_len: (self.name.len() as u16).into(),
            created_nanos: self.created.1.into(),
            created_secs: self.created.0.into(),
            epoch: self.epoch.0.into(),
            list: self.list.into(),
            referenced: self.referenced.into(),
            written: self.written.into(),
            exclusive: self.exclusive.into(),
            pause_ns: self.pause_ns.into(),
            root: self.root.map_or(RawPtr::none(), |p| p.encode()),
            identity: self.identity.map_or([0; 16], |identity| identity.0),
            digest: self.digest.unwrap_or(0).to_le_bytes(),
            edited: self.edited.unwrap_or(0).into(),
        };
        let mut out = raw.as_bytes().to_vec();
        out.extend_from_slice(&self.name);
        self.provenance.encode(&mut out);
        out
    }

    /// From its item.
    pub fn decode(bytes: &[u8]) -> Result<ViewRecord, FormatError> {
        let Ok((raw, rest)) = RawView::read_from_prefix(bytes) else {
            return bad!("view record has {} bytes, fewer than {RAW_BYTES}", bytes.len());
        };
        let id = ViewId(raw.id.get());
        let role = match raw.role {
            1 => Role::Head,
            2 => Role::Snapshot,
            3 => Role::Hidden,
            n => return bad!("view {} has role {n}, known are 1..=3", id.0),
        };
        let Some(consistency) = Consistency::from_number(raw.consistency) else {
            return bad!("view {} has consistency {}, known are 1..=3", id.0, raw.consistency);
        };
        let Some((name, mut rest)) = rest.split_at_checked(raw.name_len.get().into()) else {
            return bad!("the name of view {} is cut off", id.0);
        };
        let provenance = Provenance::take(&mut rest)?;
        if id.0 == 0 || name.len() > 255 || !rest.is_empty() {
            return bad!(
                "view record {} has a name of {} bytes, or {} bytes too many",
                id.0,
                name.len(),
                rest.len()
            );
        }
        let (line, slot) = (LineId(raw.line.get()), Slot(raw.slot.get()));
        let generation = Generation(raw.generation.get());
        let named = role == Role::Snapshot && line != LineId::NONE;
        if named == name.is_empty() || (role == Role::Hidden && line != LineId::NONE) {
            return bad!("view {} of line {} has a name of {} bytes", id.0, line.0, name.len());
        }
        let slotted = slot != Slot::MAIN && slot < Slot::END && generation.0 != 0;
        let slotless = slot.0 == 0 && generation.0 == 0;
        if if role == Role::Snapshot { !slotted } else { !slotless } {
            return bad!("view {} has slot {} of generation {}", id.0, slot.0, generation.0);
        }
        let counters = [&raw.epoch, &raw.referenced, &raw.written, &raw.exclusive].map(|n| n.get());
        if counters.iter().any(|n| *n > COUNTER_MAX) {
            return bad!("view {} has a counter beyond its limit: {counters:?}", id.0);
        }
        Ok(ViewRecord {
            id,
            role,
            line,
            name: name.to_vec(),
            slot,
            generation,
            epoch: Epoch(raw.epoch.get()),
            prev: (raw.prev.get() != 0).then(|| ViewId(raw.prev.get())),
            list: raw.list.get(),
            referenced: raw.referenced.get(),
            written: raw.written.get(),
            exclusive: raw.exclusive.get(),
            created: (raw.created_secs.get(), raw.created_nanos.get()),
            pause_ns: raw.pause_ns.get(),
            consistency,
            provenance,
            identity: (raw.identity != [0; 16]).then_some(Identity(raw.identity)),
            digest: Some(u128::from_le_bytes(raw.digest)).filter(|digest| *digest != 0),
            edited: Some(raw.edited.get()).filter(|secs| *secs != 0),
            root: if raw.root.is_none() { None } else { Some(raw.root.decode()?) },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::BlockAddr;

    fn sample() -> ViewRecord {
        let ptr =
            BlockPtr { addr: BlockAddr(8192), copy: BlockAddr(0), birth: Epoch(3), checksum: 9, len: 16384 };
        ViewRecord {
            id: ViewId(1 << 40),
            role: Role::Snapshot,
            line: LineId(1 << 33),
            name: b"monday".to_vec(),
            slot: Slot(Slot::END.0 - 1),
            generation: Generation(u32::MAX),
            epoch: Epoch(7),
            prev: Some(ViewId((1 << 40) - 1)),
            list: 9,
            referenced: 3,
            written: 2,
            exclusive: 1,
            created: (-4, 5),
            pause_ns: 6,
            consistency: Consistency::FileSystem,
            provenance: Provenance { user: Some(7), command: b"make".to_vec(), ..Provenance::default() },
            identity: Some(Identity([7; 16])),
            digest: Some(1 << 100),
            edited: Some(-8),
            root: Some(ptr),
        }
    }

    #[test]
    fn round_trip_and_damage() {
        let snapshot = sample();
        assert_eq!(ViewRecord::decode(&snapshot.encode()), Ok(snapshot.clone()));
        let deleted = ViewRecord { line: LineId::NONE, name: Vec::new(), ..snapshot };
        assert_eq!(ViewRecord::decode(&deleted.encode()), Ok(deleted.clone()));
        let (slot, generation) = (Slot(0), Generation(0));
        let head = ViewRecord { role: Role::Head, line: LineId::MAIN, slot, generation, ..deleted };
        assert_eq!(ViewRecord::decode(&head.encode()), Ok(head));
        let wrong: [fn(&mut ViewRecord); 8] = [
            |v| v.name.clear(),
            |v| v.line = LineId::NONE,
            |v| v.slot = Slot(0),
            |v| v.slot = Slot::END,
            |v| v.generation = Generation(0),
            |v| v.role = Role::Head,
            |v| v.role = Role::Hidden,
            |v| v.id = ViewId(0),
        ];
        for change in wrong {
            let mut view = sample();
            change(&mut view);
            assert!(ViewRecord::decode(&view.encode()).is_err(), "{view:?}");
        }
    }
}
