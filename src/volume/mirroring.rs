//! What a volume does so that its device can be a mirror: which ranges a side needs, filling it, and giving one that
//! leaves an identity of its own.

use super::audit::Committed;
use super::error::corrupt;
use super::remap::reference;
use super::{Access, OpenOptions, Result, Volume, VolumeError, ring};
use crate::device::mirror::MirrorError;
use crate::device::{Device, Mirror, RESERVED_BYTES};
use crate::format::job::Job;
use crate::format::superblock::{INCOMPAT_MIRRORED, RING_SLOTS, SLOT_BYTES, Superblock};
use crate::format::{BLOCK_BYTES, BlockPtr, Epoch, Extent, Kind};
use crate::store::RangeSet;
use crate::tree::{Step, Visit, walk};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Copied at once: no longer than this are changes of the same place held up.
const PIECE_BYTES: u64 = 1 << 20;

/// Where the superblocks are: what `Mirror::join` is to empty.
pub const RINGS: [(u64, u64); 2] = [
    (ring::RING_STARTS[0], RING_SLOTS * SLOT_BYTES as u64),
    (ring::RING_STARTS[1], RING_SLOTS * SLOT_BYTES as u64),
];

impl From<MirrorError> for VolumeError {
    fn from(e: MirrorError) -> VolumeError {
        match e {
            MirrorError::Device(e) => VolumeError::Device(e.to_string()),
            MirrorError::Refused(why) => VolumeError::NotAStore(why),
        }
    }
}

/// What one side has that was in no state of both.
pub struct StaleSide {
    /// Everything that is allocated in its newest state.
    allocated: RangeSet,
    /// What of that was born after the two parted.
    newer: RangeSet,
    parted_at: Epoch,
}

/// What is copied to a side.
struct ToFill {
    ranges: RangeSet,
    /// Bytes of the log. All of it may be another on a side that had one, in few places.
    log_bytes: u64,
    had_log: bool,
}

/// How far a filling is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Filled {
    /// Bytes that are done with.
    pub done: u64,
    /// Bytes to be done with.
    pub total: u64,
    /// Bytes that were copied: of what is done all but what proved to be the same.
    pub copied: u64,
}

impl StaleSide {
    /// Reads the newest state of a side that parted at `parted_at`, or later.
    ///
    /// # Errors
    /// If it cannot be read: then everything is to be copied.
    pub fn read(device: Arc<dyn Device>, parted_at: Epoch) -> Result<StaleSide> {
        let options = OpenOptions { access: Access::ReadOnly, cache_bytes: 1 << 20 };
        let volume = Volume::open(device, options)?;
        let state = volume.committed()?;
        let parted_at = parted_at.min(state.superblock.epoch);
        let newer = newer(&state, parted_at)?;
        Ok(StaleSide { allocated: state.allocated, newer, parted_at })
    }
}

/// Ranges of a state that were born after an epoch. Each once.
fn newer(state: &Committed, than: Epoch) -> Result<RangeSet> {
    let mut found = RangeSet::new();
    let mut add = |addr: u64, len: u64| add(&mut found, addr, len);
    let ranges = |ptr: &BlockPtr| ptr.ranges().collect::<Vec<_>>();
    let blocks = state.space_map.iter().filter(|ptr| ptr.birth > than);
    blocks.flat_map(ranges).for_each(|(addr, len)| add(addr, len));
    let mut trees = vec![(state.superblock.meta_root, than)];
    trees.extend(state.records.iter().filter_map(|record| record.root.map(|root| (root, than))));
    for job in state.jobs.values() {
        if let Job::FreeTree { root, newer_than, .. } = job {
            trees.push((*root, than.max(*newer_than)));
        }
    }
    for (root, than) in trees {
        newer_in_tree(state, &root, than, &mut add)?;
    }
    // What has moved keeps its birth, whenever that was.
    state.remap.iter().for_each(|record| add(record.new.0, record.len));
    let jobs = state.jobs.values().filter_map(|job| match job {
        Job::FreeList(list) | Job::DropList(list) => Some(*list),
        Job::FreeTree { .. } => None,
    });
    for list in jobs {
        for (_, entry) in state.dead_list(list)? {
            if entry.birth > than {
                let places = state.remap.places(entry.addr, entry.len, entry.birth);
                places.into_iter().for_each(|(addr, len)| add(addr, len));
            }
        }
    }
    Ok(found)
}

fn newer_in_tree(
    state: &Committed,
    root: &BlockPtr,
    than: Epoch,
    add: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    let visit = &mut |visit: Visit<'_>| {
        match visit {
            Visit::Node(ptr, ..) => ptr.ranges().for_each(|(addr, len)| add(addr, len)),
            Visit::Item(key, value) if key.kind == Kind::Extent as u8 => {
                let extent = Extent::decode(value)?;
                if extent.birth > than {
                    places(state, &extent).into_iter().for_each(|(addr, len)| add(addr, len));
                }
            }
            Visit::Item(..) | Visit::Old(..) => {}
        }
        Ok(Step::Into)
    };
    walk(&state.pager, root, than, visit)?;
    Ok(())
}

/// Where the content of an extent is.
fn places(state: &Committed, extent: &Extent) -> Vec<(u64, u64)> {
    let entry = reference(extent);
    state.remap.places(entry.addr, entry.len, entry.birth)
}

fn add(set: &mut RangeSet, addr: u64, len: u64) {
    set.take(addr, len);
    set.insert(addr, len);
}

impl Volume {
    /// True if programs that do not know mirrors refuse the store.
    pub fn is_mirrored(&self) -> bool {
        self.state.read().incompat & INCOMPAT_MIRRORED != 0
    }

    /// Has the next commit say whether the store is a side of a mirror. Nothing may depend on it before that commit has
    /// returned.
    pub fn set_mirrored(&self, mirrored: bool) -> Result<()> {
        self.check_writable()?;
        let mut turn = self.turn();
        let state = turn.alone();
        state.incompat =
            if mirrored { state.incompat | INCOMPAT_MIRRORED } else { state.incompat & !INCOMPAT_MIRRORED };
        state.changed = true;
        Ok(())
    }

    /// Has the store end at `size`, from the next commit on, which has to follow. Else returns where the last thing that is
    /// in use ends, or how far the log needs it to go.
    pub fn shrink(&self, size: u64) -> Result<std::result::Result<(), u64>> {
        let mut committer = self.committer.lock();
        if size >= committer.superblock.size {
            return Ok(Ok(()));
        }
        let least =
            (2 * (RESERVED_BYTES + committer.superblock.log_bytes)).max(crate::limits::STORE_BYTES_MIN);
        if size < least {
            return Ok(Err(least));
        }
        let ended = self.shared.store().alloc().end_at(size);
        if ended.is_ok() {
            committer.superblock.size = size / BLOCK_BYTES * BLOCK_BYTES;
            drop(committer);
            let mut turn = self.turn();
            turn.alone().changed = true;
        }
        Ok(ended)
    }

    /// Bytes of the address space.
    pub fn address_space(&self) -> u64 {
        self.committer.lock().superblock.size
    }

    /// What a side needs that gets all changes from now on: everything that is in use, or, of a side that has an older
    /// state, what may be another there.
    fn to_fill(&self, stale: Option<&StaleSide>) -> Result<ToFill> {
        let (in_use, uncommitted) = {
            let alloc = self.shared.store().alloc();
            (alloc.in_use(), alloc.in_use_uncommitted())
        };
        let log_bytes = self.committer.lock().superblock.log_bytes;
        let Some(stale) = stale else { return Ok(ToFill { ranges: in_use, log_bytes, had_log: false }) };
        let state = self.committed()?;
        let mut ranges = in_use.clone();
        for (addr, len) in stale.allocated.iter() {
            ranges.take(addr, len);
        }
        for (addr, len) in newer(&state, stale.parted_at)?.iter().chain(stale.newer.iter()) {
            for (addr, len) in in_use.clone_part(addr, len) {
                add(&mut ranges, addr, len);
            }
        }
        uncommitted.iter().for_each(|(addr, len)| add(&mut ranges, addr, len));
        Ok(ToFill { ranges, log_bytes, had_log: true })
    }

    /// Bytes that would be copied to a side as things are now.
    ///
    /// # Errors
    /// If this side cannot be read.
    pub fn bytes_to_fill(&self, stale: Option<&StaleSide>, other: &dyn Device) -> Result<u64> {
        let to_fill = self.to_fill(stale)?;
        let mut bytes = to_fill.ranges.bytes() + RINGS.iter().map(|(_, len)| len).sum::<u64>();
        if !to_fill.had_log {
            return Ok(bytes + to_fill.log_bytes);
        }
        let mut buffers = [vec![0; PIECE_BYTES as usize], vec![0; PIECE_BYTES as usize]];
        let end = RESERVED_BYTES + to_fill.log_bytes;
        for at in (RESERVED_BYTES..end).step_by(PIECE_BYTES as usize) {
            let part = PIECE_BYTES.min(end - at) as usize;
            let [ours, theirs] = &mut buffers;
            let device = self.shared.store().device();
            device.read_at(at, &mut ours[..part]).map_err(|e| VolumeError::Device(e.to_string()))?;
            bytes += match other.read_at(at, &mut theirs[..part]) {
                Ok(()) => differing_blocks(&ours[..part], &theirs[..part]) * BLOCK_BYTES,
                Err(_) => part as u64,
            };
        }
        Ok(bytes)
    }

    /// Copies to the side of a mirror that is being filled all that it needs, superblocks last, and makes the two equals.
    /// `told` hears how far it is, may wait, and may end it.
    ///
    /// # Errors
    /// If a side fails, or it was ended: then the side stays incomplete.
    pub fn fill(
        &self,
        mirror: &Mirror,
        stale: Option<&StaleSide>,
        told: &mut dyn FnMut(Filled) -> ControlFlow<()>,
    ) -> Result<Filled> {
        let ToFill { ranges, log_bytes, had_log } = self.to_fill(stale)?;
        let pieces = |(addr, len): (u64, u64)| {
            (addr..addr + len)
                .step_by(PIECE_BYTES as usize)
                .map(move |at| (at, PIECE_BYTES.min(addr + len - at)))
        };
        let (log, rings) = ((RESERVED_BYTES, log_bytes), RINGS.into_iter());
        let total = ranges.bytes() + log_bytes + RINGS.iter().map(|(_, len)| len).sum::<u64>();
        let mut filled = Filled { done: 0, total, copied: 0 };
        let content = ranges.iter().flat_map(pieces).map(|piece| (piece, false));
        let rest = pieces(log)
            .map(|piece| (piece, had_log))
            .chain(rings.flat_map(pieces).map(|piece| (piece, false)));
        for ((at, len), may_be_same) in content.chain(rest) {
            if told(filled).is_break() {
                mirror.give_up("the filling was ended");
                return Err(VolumeError::NotAStore("the filling of the other side was ended".into()));
            }
            filled.copied += if may_be_same {
                mirror.copy_differing(at, len)?
            } else {
                mirror.copy(at, len)?;
                len
            };
            filled.done += len;
        }
        mirror.complete()?;
        Ok(filled)
    }

    /// Parts the second side of a mirror at a moment: it becomes a store of its own, with `identity`, that has all that
    /// was written until then. Durable on both when it returns. How long changes were held up is what this says.
    ///
    /// # Errors
    /// If the sides are not in sync, or a device fails: then the side that was to leave is stale.
    pub fn split(&self, mirror: &Mirror, identity: [u8; 16]) -> Result<std::time::Duration> {
        self.check_writable()?;
        let committer = self.committer.lock();
        self.check_writable()?;
        let _changing = self.shared.store().changing()?;
        let begun = std::time::Instant::now();
        let parted = mirror.part()?;
        let paused = begun.elapsed();
        let old = &committer.superblock;
        let leaving = Superblock {
            seq: old.seq + 1,
            identity,
            incompat: old.incompat & !INCOMPAT_MIRRORED,
            ..old.clone()
        };
        drop(committer);
        let failed = |e: crate::device::DeviceError| VolumeError::Device(e.to_string());
        parted.call(|device| device.flush()).map_err(failed)?;
        let written = move |device: &dyn Device| {
            let slot = leaving.encode();
            for start in ring::RING_STARTS {
                let at = start + leaving.seq % RING_SLOTS * SLOT_BYTES as u64;
                device.write_at(at, &slot)?;
            }
            device.flush()
        };
        parted.call(written).map_err(failed)?;
        mirror.left(&parted)?;
        Ok(paused)
    }
}

/// How many blocks of two pieces are not the same.
fn differing_blocks(a: &[u8], b: &[u8]) -> u64 {
    let block = BLOCK_BYTES as usize;
    a.chunks(block).zip(b.chunks(block)).filter(|(a, b)| a != b).count() as u64
}

/// What a comparison of the sides has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SidesCompared {
    /// Bytes of each side that were compared.
    pub bytes: u64,
    /// Addresses of blocks that differ, or cannot be read on a side.
    pub differing: Vec<u64>,
}

/// Compares what is allocated in a committed state, on both sides of a mirror, while it is in use. Space that was
/// reserved and never written may differ.
///
/// # Errors
/// If the state cannot be read, or a side is lost meanwhile.
pub fn compare_sides(volume: &Volume, mirror: &Mirror) -> Result<SidesCompared> {
    let state = volume.committed()?;
    let mut found = SidesCompared::default();
    let mut buffers = [vec![0; PIECE_BYTES as usize], vec![0; PIECE_BYTES as usize]];
    for (addr, len) in state.allocated.iter() {
        for at in (addr..addr + len).step_by(PIECE_BYTES as usize) {
            let part = PIECE_BYTES.min(addr + len - at) as usize;
            found.bytes += part as u64;
            let sides = mirror.sides();
            if sides.len() < 2 {
                return Err(VolumeError::Device("a side of the mirror was lost meanwhile".into()));
            }
            let mut is_read = true;
            for (side, buffer) in sides.into_iter().zip(&mut buffers) {
                is_read &= mirror.read_side(side, at, &mut buffer[..part]).is_ok();
            }
            let block = BLOCK_BYTES as usize;
            let [a, b] = [&buffers[0][..part], &buffers[1][..part]];
            let blocks = a.chunks(block).zip(b.chunks(block)).enumerate();
            let differing = blocks.filter(|(_, (a, b))| !is_read || a != b);
            found.differing.extend(differing.map(|(n, _)| at + n as u64 * BLOCK_BYTES));
        }
    }
    if !found.differing.is_empty() {
        let unwritten = unwritten(&state)?;
        found.differing.retain(|at| !unwritten.contains(*at, BLOCK_BYTES));
    }
    Ok(found)
}

/// Ranges that are reserved and were never written.
fn unwritten(state: &Committed) -> Result<RangeSet> {
    let mut found = RangeSet::new();
    for root in state.records.iter().filter_map(|record| record.root) {
        let visit = &mut |visit: Visit<'_>| {
            if let Visit::Item(key, value) = visit
                && key.kind == Kind::Extent as u8
            {
                let extent = Extent::decode(value)?;
                if extent.is_unwritten() {
                    places(state, &extent).into_iter().for_each(|(at, len)| add(&mut found, at, len));
                }
            }
            Ok(Step::Into)
        };
        walk(&state.pager, &root, Epoch(0), visit)?;
    }
    Ok(found)
}

/// What is known of a device before anything is opened: its newest superblock.
pub fn newest_superblock(device: &dyn Device) -> Result<Superblock> {
    let state = ring::read(device)?.states.into_iter().next();
    state.ok_or_else(|| corrupt("no superblock".into()))
}
