//! What a volume does so that its device can be a mirror: what is newer on one side, and giving one that leaves an identity
//! of its own.

use super::audit::Committed;
use super::committer::Committer;
use super::error::corrupt;
use super::remap::reference;
use super::{Access, OpenOptions, Result, Volume, VolumeError, ring};
use crate::device::mirror::MirrorError;
use crate::device::{Device, Mirror, RESERVED_BYTES};
use crate::format::job::Job;
use crate::format::superblock::{INCOMPAT_MIRRORED, RING_SLOTS, SLOT_BYTES, Superblock};
use crate::format::{BLOCK_BYTES, BlockPtr, Epoch, Extent, Key, Kind, NODE_BYTES};
use crate::store::RangeSet;
use crate::tree::{Step, Visit, walk};
use std::sync::Arc;
use std::time::Duration;

/// Copied at once: no longer than this are changes of the same place held up.
pub(super) const PIECE_BYTES: u64 = 1 << 20;

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
    pub(super) device: Arc<dyn Device>,
    /// Everything that is allocated in its newest state.
    pub(super) allocated: RangeSet,
    /// What of that was born after the two parted.
    pub(super) newer: RangeSet,
    pub(super) parted_at: Epoch,
}

impl StaleSide {
    /// Reads the newest state of a side that parted at `parted_at`, or later.
    ///
    /// # Errors
    /// If it cannot be read: then everything is to be copied.
    pub fn read(device: Arc<dyn Device>, parted_at: Epoch) -> Result<StaleSide> {
        let options = OpenOptions { access: Access::ReadOnly, cache_bytes: 1 << 20 };
        let volume = Volume::open(device.clone(), options)?;
        let state = volume.committed()?;
        let parted_at = parted_at.min(state.superblock.epoch);
        let newer = newer(&state, parted_at, &mut || false)?.all;
        Ok(StaleSide { device, allocated: state.allocated, newer, parted_at })
    }
}

/// Ranges of a state that were born after an epoch. Each once.
pub(super) struct Younger {
    pub all: RangeSet,
    /// What of that is content, and not nodes of trees or blocks of the space map.
    pub content: RangeSet,
}

/// Something that was born after an epoch.
pub(super) enum Born<'a> {
    /// A node of a tree or a block of the space map.
    Node(&'a BlockPtr),
    /// A reference to content.
    Content(Extent),
}

/// Shows what trees of a state have, and its space map, that was born after an epoch: all of that is read, and as often it is asked
/// whether this `ends`. What several trees have may be shown several times.
pub(super) fn each_younger(
    state: &Committed,
    than: Epoch,
    ends: &mut dyn FnMut() -> bool,
    show: &mut dyn FnMut(Born<'_>),
) -> Result<()> {
    state.space_map.iter().filter(|ptr| ptr.birth > than).for_each(|ptr| show(Born::Node(ptr)));
    let mut trees = vec![(state.superblock.meta_root, than, Key::MIN)];
    trees.extend(state.records.iter().filter_map(|record| record.root.map(|root| (root, than, Key::MIN))));
    for job in state.jobs.values() {
        if let Job::FreeTree { root, newer_than, cursor } = job {
            trees.push((*root, than.max(*newer_than), *cursor));
        }
    }
    for (root, than, cursor) in trees {
        let visit = &mut |visit: Visit<'_>| {
            match visit {
                Visit::Node(..) if ends() => return Ok(Step::Stop),
                // Of a tree that is being freed: gone, and maybe somebody else's.
                Visit::Node(_, least, 0) if least < cursor => return Ok(Step::Over),
                Visit::Node(ptr, ..) => show(Born::Node(ptr)),
                Visit::Item(key, value) if key.kind == Kind::Extent as u8 => {
                    let extent = Extent::decode(value)?;
                    if extent.birth > than {
                        show(Born::Content(extent));
                    }
                }
                Visit::Item(..) | Visit::Old(..) => {}
            }
            Ok(Step::Into)
        };
        if walk(&state.pager, &root, than, visit)? == Step::Stop {
            return Err(ended());
        }
    }
    Ok(())
}

/// What of a state was born after an epoch: all of that is read, and as often it is asked whether this `ends`.
pub(super) fn newer(state: &Committed, than: Epoch, ends: &mut dyn FnMut() -> bool) -> Result<Younger> {
    let (mut content, mut nodes) = (RangeSet::new(), RangeSet::new());
    newer_of_trees(state, than, ends, (&mut content, &mut nodes))?;
    let mut others = RangeSet::new();
    let mut add = |addr: u64, len: u64| add(&mut others, addr, len);
    // What has moved keeps its birth, whenever that was.
    state.remap.iter().for_each(|record| add(record.new.0, record.len));
    // So does what was purged, and a leaf without what was.
    state.remap.purged.held().for_each(|(addr, held)| add(addr, held.len));
    for (addr, record) in &state.leaves {
        [*addr, record.copy.0].iter().filter(|at| **at != 0).for_each(|at| add(*at, NODE_BYTES as u64));
    }
    let jobs = state.jobs.values().filter_map(|job| match job {
        Job::FreeList(list) | Job::DropList(list) => Some(*list),
        Job::FreeTree { .. } => None,
    });
    for list in jobs {
        if ends() {
            return Err(ended());
        }
        for (_, entry) in state.dead_list(list)? {
            if entry.birth > than {
                let places = state.remap.places(entry.addr, entry.len, entry.birth);
                places.into_iter().for_each(|(addr, len)| add(addr, len));
            }
        }
    }
    let mut all = content.clone();
    nodes.iter().chain(others.iter()).for_each(|(addr, len)| self::add(&mut all, addr, len));
    Ok(Younger { all, content })
}

/// The same of trees and the space map alone. When this is ended, or fails, what was found by then is there.
pub(super) fn newer_of_trees(
    state: &Committed,
    than: Epoch,
    ends: &mut dyn FnMut() -> bool,
    (content, nodes): (&mut RangeSet, &mut RangeSet),
) -> Result<()> {
    each_younger(state, than, ends, &mut |younger| match younger {
        Born::Node(ptr) => ptr.ranges().for_each(|(addr, len)| add(nodes, addr, len)),
        Born::Content(extent) => {
            places(state, &extent).into_iter().for_each(|(addr, len)| add(content, addr, len));
        }
    })
}

/// Where the content of an extent is.
fn places(state: &Committed, extent: &Extent) -> Vec<(u64, u64)> {
    let entry = reference(extent);
    state.remap.places(entry.addr, entry.len, entry.birth)
}

pub(super) fn add(set: &mut RangeSet, addr: u64, len: u64) {
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

    /// How long one side may keep the other waiting; none of a store that is not mirrored.
    pub fn side_limit(&self) -> Option<Duration> {
        self.is_mirrored().then(|| self.shared.store().device().side_limit()).flatten()
    }

    /// Has that be so from now on. Durable on all sides that serve when it returns.
    ///
    /// # Errors
    /// If there is no other side, or a device fails.
    pub fn set_side_limit(&self, limit: Duration) -> Result<()> {
        self.check_writable()?;
        let set = self.shared.store().device().set_side_limit(limit);
        set.map_err(|e| VolumeError::Device(e.to_string()))
    }

    /// Has nothing be put behind `size` any more, until [`Volume::shrink`] has the store end there, or [`Volume::widen`] takes it
    /// back. Else returns where the last thing that is in use ends, or how far the log needs it to go. Nothing of it is durable.
    pub fn keep_before(&self, size: u64) -> Result<std::result::Result<(), u64>> {
        Ok(self.end_before(&self.committer.lock(), size))
    }

    fn end_before(&self, committer: &Committer, size: u64) -> std::result::Result<(), u64> {
        if size >= committer.superblock.size {
            return Ok(());
        }
        let least =
            (2 * (RESERVED_BYTES + committer.superblock.log_bytes)).max(crate::limits::STORE_BYTES_MIN);
        if size < least {
            return Err(least);
        }
        self.shared.store().alloc().end_at(size)
    }

    /// Has the store end at `size`, from the next commit on, which has to follow. That has what was said before by
    /// [`Volume::set_mirrored`] as well. Else returns what [`Volume::keep_before`] does.
    pub fn shrink(&self, size: u64) -> Result<std::result::Result<(), u64>> {
        let mut committer = self.committer.lock();
        let ended = self.end_before(&committer, size);
        if ended.is_ok() && size < committer.superblock.size {
            committer.superblock.size = size / BLOCK_BYTES * BLOCK_BYTES;
            drop(committer);
            let mut turn = self.turn();
            turn.alone().changed = true;
        }
        Ok(ended)
    }

    /// Has the store end at `size`, if that is behind its end, which `commit` makes durable before anything is put there. If it ends
    /// there already, something may be put there again.
    ///
    /// # Errors
    /// Those of `commit`: then it ends where it did, until it is opened again.
    pub fn widen<E>(
        &self,
        size: u64,
        commit: impl FnOnce() -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        {
            let mut committer = self.committer.lock();
            if size <= committer.superblock.size {
                self.shared.store().alloc().widen(size);
                return Ok(());
            }
            committer.superblock.size = size / BLOCK_BYTES * BLOCK_BYTES;
            drop(committer);
            self.turn().alone().changed = true;
        }
        commit()?;
        self.shared.store().alloc().widen(size);
        Ok(())
    }

    /// Bytes of the address space.
    pub fn address_space(&self) -> u64 {
        self.committer.lock().superblock.size
    }

    /// Parts the second side of a mirror at a moment: it becomes a store of its own, with `identity`, that has all that
    /// was written until then. Durable on both when it returns. How long changes were held up is what this says.
    ///
    /// # Errors
    /// If the sides are not in sync, or a device fails: then the side that was to leave is stale.
    pub fn split(&self, mirror: &Mirror, identity: [u8; 16]) -> Result<Duration> {
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

/// Ranges that are reserved and were never written.
pub(super) fn unwritten(state: &Committed) -> Result<RangeSet> {
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
    newest_and_before(device).map(|(newest, _)| newest)
}

/// The same, and the epoch of the state before that. Where that state is lost it is taken for the latest that it can have been.
pub fn newest_and_before(device: &dyn Device) -> Result<(Superblock, Epoch)> {
    let mut states = ring::read(device)?.states.into_iter();
    let newest = states.next().ok_or_else(|| corrupt("no superblock".into()))?;
    let before = states.next().filter(|before| before.seq + 1 == newest.seq);
    let epoch = before.map_or(Epoch(newest.epoch.0.saturating_sub(1)), |before| before.epoch);
    Ok((newest, epoch))
}

/// Whoever fills a side was told to end.
pub(super) fn ended() -> VolumeError {
    VolumeError::NotAStore("the filling of the other side was ended".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Memory;

    #[test]
    fn what_looks_for_what_is_newer_ends_when_it_is_told_to() {
        let device = Arc::new(Memory::new(64 << 20));
        Volume::create(device.clone(), 64 << 20, [9; 16], (0, 0)).unwrap();
        let options = OpenOptions { access: Access::ReadOnly, cache_bytes: 1 << 20 };
        let state = Volume::open(device, options).unwrap().committed().unwrap();
        let mut asked = 0;
        let all = newer(&state, Epoch(0), &mut || {
            asked += 1;
            false
        });
        assert!(all.unwrap().all.bytes() > 0 && asked > 1, "asked {asked} times");
        for last in 1..=asked {
            let mut left = last;
            let ended = newer(&state, Epoch(0), &mut || {
                left -= 1;
                left == 0
            });
            assert!(ended.is_err_and(|e| e.to_string().contains("ended")) && left == 0, "at {last}");
        }
    }
}
