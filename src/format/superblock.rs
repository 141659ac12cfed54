//! The superblock: one 4 KiB slot that roots a whole state of the store.
//!
//! Slots lie in two rings (A and B, 64 slots each); state number `seq` goes to slot `seq % 64` of both. The valid slot
//! with the greatest `seq` is the state of the store. The checksum covers the slot behind itself.

use super::ids::COUNTER_MAX;
use super::pointer::RawPtr;
use super::provenance::Provenance;
use super::view::Consistency;
use super::{
    BLOCK_BYTES, BlockPtr, Copies, Epoch, FormatError, Generation, Identity, Ino, LineId, Slot, ViewId, bad,
};
use crate::limits::{LOG_BYTES_MIN, RESERVED_BYTES, STORE_BYTES_MIN};
use xxhash_rust::xxh3::xxh3_64_with_seed;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// Bytes of a slot.
pub const SLOT_BYTES: usize = 4096;
/// Slots of a ring.
pub const RING_SLOTS: u64 = 64;
/// Format version that this program writes; it reads no other.
pub const VERSION: u32 = 1;
/// Incompatible feature: content may be compressed, and inodes say whether it is to be.
pub const INCOMPAT_COMPRESSION: u64 = 1;
/// Incompatible feature: the store is one side of a mirror, and has a [label](super::mirror::Label).
pub const INCOMPAT_MIRRORED: u64 = 4;
/// Content may be away from home, and may have moved while references to it say where it was.
pub const INCOMPAT_REMAP: u64 = 1 << 3;
/// Content was purged: references may lead to nothing, and leaves may be other than pointers say.
pub const INCOMPAT_PURGED: u64 = 1 << 6;
/// Incompatible features that this program knows.
pub const INCOMPAT_KNOWN: u64 = INCOMPAT_COMPRESSION | INCOMPAT_MIRRORED | INCOMPAT_REMAP | INCOMPAT_PURGED;
/// Read-only compatible features that this program knows.
pub const RO_COMPAT_KNOWN: u64 = 0;

const MAGIC: u64 = u64::from_le_bytes(*b"snapfs\x0d\x0a");
const SEED: u64 = 0x5342;

/// A snapshot that was made while nothing else had changed: only the superblock tells of it until the next commit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PendingPoint {
    /// Its number.
    pub id: ViewId,
    /// The line whose head it is of.
    pub line: LineId,
    /// What the numbers of its nodes carry.
    pub slot: Slot,
    /// Of the slot.
    pub generation: Generation,
    /// Its point in time.
    pub epoch: Epoch,
    /// Seconds and nanoseconds since 1970 UTC.
    pub created: (i64, u32),
    /// Pause in nanoseconds.
    pub pause_ns: u64,
    /// What took part.
    pub consistency: Consistency,
    /// Its name.
    pub name: Vec<u8>,
    /// Why it was made, and by whom.
    pub provenance: Provenance,
    /// If it was received from another store: as it is known there.
    pub identity: Option<Identity>,
}

/// A state of the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Superblock {
    /// What blocks carry the start of: the identity of the store, or of the one that it was split off from.
    pub uuid: [u8; 16],
    /// Identity of the store.
    pub identity: [u8; 16],
    /// Number of this state; the slot is `seq % 64`.
    pub seq: u64,
    /// Epoch that this state closes.
    pub epoch: Epoch,
    /// When it was written: seconds and nanoseconds since 1970 UTC.
    pub time: (i64, u32),
    /// Size of the address space in bytes.
    pub size: u64,
    /// Root of the meta tree.
    pub meta_root: BlockPtr,
    /// Newest block of the space map, if anything was ever recorded.
    pub space_map: Option<BlockPtr>,
    /// Bytes that the space map says are allocated.
    pub allocated: u64,
    /// Next view number.
    pub next_view: ViewId,
    /// Next line number.
    pub next_line: LineId,
    /// Next generation; 0 when all are used up.
    pub next_generation: Generation,
    /// Next inode number.
    pub next_ino: Ino,
    /// Next id of a dead list, bucket or job.
    pub next_id: u64,
    /// Length of the log, behind the rings.
    pub log_bytes: u64,
    /// Position in the log of the first record that this state does not contain.
    pub log_start: u64,
    /// Session of the log: records of others mean nothing.
    pub log_generation: u64,
    /// A record stands at `log_start`, without effects at least; it was durable before this state was. If not, nothing
    /// need be in the log.
    pub log_begins: bool,
    /// How often each metadata block is kept.
    pub metadata_copies: Copies,
    /// Features that a program must know to open the store.
    pub incompat: u64,
    /// Snapshots that the meta tree does not know yet, oldest first.
    pub pending: Vec<PendingPoint>,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawSuperblock {
    checksum: le::U64,
    magic: le::U64,
    version: le::U32,
    pending_count: le::U32,
    compat: le::U64,
    ro_compat: le::U64,
    incompat: le::U64,
    uuid: [u8; 16],
    seq: le::U64,
    epoch: le::U64,
    time_secs: le::I64,
    time_nanos: le::U32,
    next_generation: le::U32,
    size: le::U64,
    meta_root: RawPtr,
    space_map: RawPtr,
    allocated: le::U64,
    next_ino: le::U64,
    next_id: le::U64,
    next_view: le::U64,
    log_bytes: le::U64,
    log_start: le::U64,
    log_generation: le::U64,
    next_line: le::U64,
    identity: [u8; 16],
    reserved: [u8; 246],
    log_begins: u8,
    metadata_copies: u8,
}

const RAW_BYTES: usize = 512;
const _: () = assert!(size_of::<RawSuperblock>() == RAW_BYTES);

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawPoint {
    id: le::U64,
    line: le::U64,
    created_secs: le::I64,
    epoch: le::U64,
    pause_ns: le::U64,
    created_nanos: le::U32,
    slot: le::U32,
    generation: le::U32,
    consistency: u8,
    reserved: u8,
    name_len: le::U16,
    identity: [u8; 16],
}
const POINT_BYTES: usize = 72;
const _: () = assert!(size_of::<RawPoint>() == POINT_BYTES);

/// Room for pending snapshots in a slot, in bytes; each takes 72, its name and its provenance.
pub const PENDING_ROOM: usize = SLOT_BYTES - RAW_BYTES;

impl PendingPoint {
    /// Bytes that it takes in a slot.
    pub fn encoded_len(&self) -> usize {
        POINT_BYTES + self.name.len() + self.provenance.encoded_len()
    }
}

/// Why a slot is not a superblock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SlotError {
    /// Not written, torn or damaged: skip it.
    Invalid(String),
    /// A whole superblock of a format that this program does not read.
    Foreign(String),
}

impl Superblock {
    /// To the bytes of its slot.
    pub fn encode(&self) -> Vec<u8> {
        let raw = RawSuperblock {
            checksum: 0.into(),
            magic: MAGIC.into(),
            version: VERSION.into(),
            pending_count: (self.pending.len() as u32).into(),
            compat: 0.into(),
            ro_compat: 0.into(),
            incompat: self.incompat.into(),
            uuid: self.uuid,
            seq: self.seq.into(),
            epoch: self.epoch.0.into(),
            time_secs: self.time.0.into(),
            time_nanos: self.time.1.into(),
            next_generation: self.next_generation.0.into(),
            size: self.size.into(),
            meta_root: self.meta_root.encode(),
            space_map: self.space_map.map_or(RawPtr::none(), |p| p.encode()),
            allocated: self.allocated.into(),
            next_ino: self.next_ino.0.into(),
            next_id: self.next_id.into(),
            next_view: self.next_view.0.into(),
            log_bytes: self.log_bytes.into(),
            log_start: self.log_start.into(),
            log_generation: self.log_generation.into(),
            next_line: self.next_line.0.into(),
            identity: self.identity,
            reserved: [0; 246],
            log_begins: self.log_begins.into(),
            metadata_copies: self.metadata_copies as u8,
        };
        let mut out = raw.as_bytes().to_vec();
        self.pending.iter().for_each(|p| put_point(p, &mut out));
        assert!(out.len() <= SLOT_BYTES, "pending snapshots overflow the slot");
        out.resize(SLOT_BYTES, 0);
        let checksum = checksum(&out);
        out[..8].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// From the bytes of a slot.
    pub fn decode(slot: &[u8]) -> Result<Superblock, SlotError> {
        let invalid = |e: FormatError| SlotError::Invalid(e.0);
        let Ok((raw, mut rest)) = RawSuperblock::ref_from_prefix(slot) else {
            return Err(SlotError::Invalid(format!("slot of {} bytes", slot.len())));
        };
        if raw.magic.get() != MAGIC {
            return Err(SlotError::Invalid("no snapfs superblock (magic number is missing)".into()));
        }
        if checksum(slot) != raw.checksum.get() {
            return Err(SlotError::Invalid("superblock checksum is wrong".into()));
        }
        if raw.version.get() != VERSION {
            return Err(SlotError::Foreign(format!(
                "the store has format version {}, this program reads version {VERSION}: use a newer snapfs",
                raw.version
            )));
        }
        if raw.incompat.get() & !INCOMPAT_KNOWN != 0 {
            return Err(SlotError::Foreign(format!(
                "the store uses features {:#x} that this program does not know: use a newer snapfs",
                raw.incompat.get() & !INCOMPAT_KNOWN
            )));
        }
        let mut pending = Vec::new();
        for _ in 0..raw.pending_count.get() {
            pending.push(take_point(&mut rest).map_err(invalid)?);
        }
        let metadata_copies = Copies::from_number(raw.metadata_copies).ok_or_else(|| {
            SlotError::Invalid(format!("superblock of {} copies of metadata", raw.metadata_copies))
        })?;
        let sb = Superblock {
            uuid: raw.uuid,
            identity: raw.identity,
            seq: raw.seq.get(),
            epoch: Epoch(raw.epoch.get()),
            time: (raw.time_secs.get(), raw.time_nanos.get()),
            size: raw.size.get(),
            meta_root: raw.meta_root.decode().map_err(invalid)?,
            space_map: if raw.space_map.is_none() {
                None
            } else {
                Some(raw.space_map.decode().map_err(invalid)?)
            },
            allocated: raw.allocated.get(),
            next_view: ViewId(raw.next_view.get()),
            next_line: LineId(raw.next_line.get()),
            next_generation: Generation(raw.next_generation.get()),
            next_ino: Ino(raw.next_ino.get()),
            next_id: raw.next_id.get(),
            log_bytes: raw.log_bytes.get(),
            log_start: raw.log_start.get(),
            log_generation: raw.log_generation.get(),
            log_begins: raw.log_begins == 1,
            metadata_copies,
            incompat: raw.incompat.get(),
            pending,
        };
        let (view, line) = (sb.next_view.0, sb.next_line.0);
        let counters = [sb.epoch.0, sb.seq, sb.next_id, sb.size, sb.log_start, sb.log_generation, view, line];
        if counters.iter().any(|n| *n > COUNTER_MAX) || !(Ino::FIRST_FREE..=Ino::END).contains(&sb.next_ino) {
            return Err(SlotError::Invalid(format!(
                "superblock has a counter beyond its limit: {counters:?}, {}",
                sb.next_ino.0
            )));
        }
        if sb.size < STORE_BYTES_MIN || !sb.size.is_multiple_of(BLOCK_BYTES) {
            return Err(SlotError::Invalid(format!("superblock of a store of {} bytes", sb.size)));
        }
        let log_ends = RESERVED_BYTES.checked_add(sb.log_bytes).is_some_and(|end| end <= sb.size / 2);
        if !log_ends || sb.log_bytes < LOG_BYTES_MIN || !sb.log_bytes.is_multiple_of(BLOCK_BYTES) {
            return Err(SlotError::Invalid(format!("superblock has a log of {} bytes", sb.log_bytes)));
        }
        if !sb.log_start.is_multiple_of(BLOCK_BYTES) {
            return Err(SlotError::Invalid(format!("superblock has a log that starts at {}", sb.log_start)));
        }
        if [Some(sb.meta_root), sb.space_map].into_iter().flatten().any(|p| p.birth > sb.epoch) {
            return Err(SlotError::Invalid("superblock points to what is newer than itself".into()));
        }
        if sb.epoch.0 == 0 || sb.next_line <= LineId::MAIN || raw.reserved != [0; 246] || raw.log_begins > 1 {
            return Err(SlotError::Invalid(
                "superblock has epoch 0, no line, or reserved bytes that are not zero".into(),
            ));
        }
        Ok(sb)
    }

    /// Read-only compatible features of the slot that this program does not know: the store may be read, not written.
    pub fn unknown_ro_features(slot: &[u8]) -> u64 {
        RawSuperblock::ref_from_prefix(slot).map_or(0, |(raw, _)| raw.ro_compat.get() & !RO_COMPAT_KNOWN)
    }
}

/// What the first eight bytes of a slot must be: covers everything behind them.
pub fn checksum(slot: &[u8]) -> u64 {
    xxh3_64_with_seed(slot.get(8..).unwrap_or_default(), SEED)
}

/// Appends a point.
pub(super) fn put_point(p: &PendingPoint, out: &mut Vec<u8>) {
    let raw = RawPoint {
        id: p.id.0.into(),
        created_nanos: p.created.1.into(),
        created_secs: p.created.0.into(),
        epoch: p.epoch.0.into(),
        pause_ns: p.pause_ns.into(),
        line: p.line.0.into(),
        slot: p.slot.0.into(),
        generation: p.generation.0.into(),
        consistency: p.consistency.number(),
        reserved: 0,
        name_len: (p.name.len() as u16).into(),
        identity: p.identity.map_or([0; 16], |identity| identity.0),
    };
    out.extend_from_slice(raw.as_bytes());
    out.extend_from_slice(&p.name);
    p.provenance.encode(out);
}

/// Takes a point off the front.
pub(super) fn take_point(rest: &mut &[u8]) -> Result<PendingPoint, FormatError> {
    let Ok((raw, tail)) = RawPoint::read_from_prefix(rest) else {
        return bad!("pending snapshots are cut off");
    };
    let len = usize::from(raw.name_len.get());
    let (Some(name), Some(tail)) = (tail.get(..len), tail.get(len..)) else {
        return bad!("pending name is cut off");
    };
    *rest = tail;
    let provenance = Provenance::take(rest)?;
    if raw.reserved != 0 {
        return bad!("pending snapshot has a reserved byte that is not zero");
    }
    let Some(consistency) = Consistency::from_number(raw.consistency) else {
        return bad!("pending snapshot has consistency {}", raw.consistency);
    };
    let (id, line, slot) = (ViewId(raw.id.get()), LineId(raw.line.get()), Slot(raw.slot.get()));
    let generation = Generation(raw.generation.get());
    let slotted = slot != Slot::MAIN && slot < Slot::END && generation.0 != 0;
    if id.0 == 0 || line == LineId::NONE || !slotted {
        return bad!(
            "pending snapshot {} of line {} has slot {} of generation {}",
            id.0,
            line.0,
            slot.0,
            generation.0
        );
    }
    Ok(PendingPoint {
        id,
        line,
        slot,
        generation,
        epoch: Epoch(raw.epoch.get()),
        created: (raw.created_secs.get(), raw.created_nanos.get()),
        pause_ns: raw.pause_ns.get(),
        consistency,
        name: name.to_vec(),
        provenance,
        identity: (raw.identity != [0; 16]).then_some(Identity(raw.identity)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::BlockAddr;
    use crate::format::provenance::Reason;

    fn sample() -> Superblock {
        let ptr =
            BlockPtr { addr: BlockAddr(8192), copy: BlockAddr(0), birth: Epoch(3), checksum: 9, len: 16384 };
        let point = |n: u64| PendingPoint {
            id: ViewId(n),
            line: LineId::MAIN,
            slot: Slot(5),
            generation: Generation(6),
            epoch: Epoch(n),
            created: (-5, 7),
            pause_ns: 1,
            consistency: Consistency::FileSystem,
            name: vec![b'n'; n as usize],
            provenance: Reason::Merge.into(),
            identity: (n > 1).then_some(Identity([9; 16])),
        };
        Superblock {
            uuid: [7; 16],
            identity: [8; 16],
            seq: 12,
            epoch: Epoch(4),
            time: (1, 2),
            size: 1 << 30,
            meta_root: ptr,
            space_map: None,
            allocated: 77,
            next_view: ViewId(9),
            next_line: LineId(4),
            next_generation: Generation(7),
            next_ino: Ino(16),
            next_id: 5,
            log_bytes: 1 << 20,
            log_start: 8192,
            log_generation: 3,
            log_begins: true,
            metadata_copies: Copies::Two,
            incompat: INCOMPAT_COMPRESSION,
            pending: vec![point(1), point(255)],
        }
    }

    #[test]
    fn round_trip_and_damage() {
        let slot = sample().encode();
        assert_eq!(Superblock::decode(&slot), Ok(sample()));
        for i in 0..slot.len() {
            let mut bad = slot.clone();
            bad[i] ^= 0x40;
            assert!(Superblock::decode(&bad).is_err(), "a flip at byte {i} went unseen");
        }
        for len in 0..slot.len() {
            assert!(Superblock::decode(&slot[..len]).is_err());
        }
    }

    #[test]
    fn features_that_are_not_known_are_refused() {
        let strange = Superblock { incompat: INCOMPAT_KNOWN | 1 << 63, ..sample() };
        assert!(matches!(Superblock::decode(&strange.encode()), Err(SlotError::Foreign(_))));
    }

    #[test]
    fn impossible_counters_are_refused() {
        let wrong: [fn(&mut Superblock); 17] = [
            |s| s.next_view = ViewId(COUNTER_MAX + 1),
            |s| s.next_line = LineId(COUNTER_MAX + 1),
            |s| s.next_line = LineId::MAIN,
            |s| s.pending[0].line = LineId::NONE,
            |s| s.pending[0].slot = Slot::END,
            |s| s.pending[1].generation = Generation(0),
            |s| s.epoch = Epoch(u64::MAX),
            |s| s.seq = u64::MAX,
            |s| s.next_id = COUNTER_MAX + 1,
            |s| s.next_ino = Ino(1),
            |s| s.next_ino = Ino(Ino::END.0 + 1),
            |s| s.size = 4096,
            |s| s.meta_root.birth = Epoch(5),
            |s| s.log_bytes = 0,
            |s| s.log_bytes = s.size,
            |s| s.log_start = 8193,
            |s| s.log_start = u64::MAX - 4095,
        ];
        for change in wrong {
            let mut sb = sample();
            change(&mut sb);
            assert!(matches!(Superblock::decode(&sb.encode()), Err(SlotError::Invalid(_))), "{sb:?}");
        }
    }
}
