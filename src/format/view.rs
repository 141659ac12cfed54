//! The view record: one item of the meta tree for each head, snapshot and clone.

use super::pointer::RawPtr;
use super::superblock::COUNTER_MAX;
use super::{BlockPtr, Epoch, FormatError, ViewId, bad};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// What a view is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Writable: the live tree or a clone.
    Head,
    /// Read-only, with a name.
    Snapshot,
    /// A deleted snapshot that several views still descend from: no name, kept for its place in the history.
    Hidden,
}

/// How a snapshot came about: which applications took part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Consistency {
    /// As after a power cut.
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
    /// Name of a snapshot or clone; empty for the live head and hidden views.
    pub name: Vec<u8>,
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
    /// Root of its tree; none while it was never written.
    pub root: Option<BlockPtr>,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawView {
    id: le::U32,
    prev: le::U32,
    role: u8,
    consistency: u8,
    name_len: le::U16,
    created_nanos: le::U32,
    created_secs: le::I64,
    epoch: le::U64,
    list: le::U64,
    referenced: le::U64,
    written: le::U64,
    exclusive: le::U64,
    pause_ns: le::U64,
    root: RawPtr,
    reserved: [u8; 24],
}

const RAW_BYTES: usize = 136;
const _: () = assert!(size_of::<RawView>() == RAW_BYTES);

impl ViewRecord {
    /// To the value of a meta tree item: 136 bytes and the name.
    pub fn encode(&self) -> Vec<u8> {
        let raw = RawView {
            id: self.id.0.into(),
            prev: self.prev.map_or(0, |p| p.0).into(),
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
            reserved: [0; 24],
        };
        let mut out = raw.as_bytes().to_vec();
        out.extend_from_slice(&self.name);
        out
    }

    /// From its item.
    pub fn decode(bytes: &[u8]) -> Result<ViewRecord, FormatError> {
        let Ok((raw, name)) = RawView::read_from_prefix(bytes) else {
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
        if id.0 == 0
            || name.len() != usize::from(raw.name_len.get())
            || name.len() > 255
            || raw.reserved != [0; 24]
        {
            return bad!(
                "view record {} has a name of {} bytes, or reserved bytes that are not zero",
                id.0,
                name.len()
            );
        }
        let counters = [&raw.epoch, &raw.referenced, &raw.written, &raw.exclusive].map(|n| n.get());
        if counters.iter().any(|n| *n > COUNTER_MAX) {
            return bad!("view {} has a counter beyond its limit: {counters:?}", id.0);
        }
        Ok(ViewRecord {
            id,
            role,
            name: name.to_vec(),
            epoch: Epoch(raw.epoch.get()),
            prev: (raw.prev.get() != 0).then(|| ViewId(raw.prev.get())),
            list: raw.list.get(),
            referenced: raw.referenced.get(),
            written: raw.written.get(),
            exclusive: raw.exclusive.get(),
            created: (raw.created_secs.get(), raw.created_nanos.get()),
            pause_ns: raw.pause_ns.get(),
            consistency,
            root: if raw.root.is_none() { None } else { Some(raw.root.decode()?) },
        })
    }
}
