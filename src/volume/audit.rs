//! What the auditor may see: one committed state, pinned, read from the device and not from memory.
//!
//! Works on a volume that is mounted and being written to: the pin keeps every block of the state from being reused.

pub use super::history::deadlist::FoundList;

use super::error::corrupt;
use super::history::{History, MetaRead, deadlist};
use super::holds;
use super::open::Loaded;
use super::purge::LeafTable;
use super::remap::Remap;
use super::space_map::SpaceMap;
use super::view::Pin;
use super::{Result, Volume};
use crate::device::RESERVED_BYTES;
use crate::format::deadlist::DeadEntry;
use crate::format::job::Job;
use crate::format::line::LineRecord;
use crate::format::superblock::Superblock;
use crate::format::view::ViewRecord;
use crate::format::{BlockPtr, Epoch, Key, LineId, ViewId};
use crate::store::{Allocator, RangeSet, Reading, StoreError};
use crate::tree::{self, Child, Item, Pager};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// A committed state as its bytes tell it.
pub struct Committed {
    /// Its root.
    pub superblock: Superblock,
    /// Reads nodes of this state.
    pub pager: Pager,
    /// Views as recorded; snapshots that only the superblock tells of are not among them.
    pub records: Vec<ViewRecord>,
    /// Lines.
    pub lines: Vec<LineRecord>,
    /// The views' history.
    pub history: History,
    /// Background work.
    pub jobs: BTreeMap<u64, Job>,
    /// Ranges with more than one reference: start, length, extra references.
    pub extra_refs: Vec<(u64, u64, u32)>,
    /// Content that has moved.
    pub remap: Remap,
    /// Leaves that are not what pointers say.
    pub leaves: LeafTable,
    /// True unless records of that may be lost: only of an examined state.
    pub remap_is_whole: bool,
    /// What the space map calls allocated; nothing if it cannot be read.
    pub allocated: RangeSet,
    /// Blocks of the space map, as far as they can be read.
    pub space_map: Vec<BlockPtr>,
    /// False if the space map says nothing: only of an examined state.
    pub map_is_readable: bool,
    /// What is wrong with holds; nothing of an examined state, which has that among its faults.
    pub hold_faults: Vec<String>,
    /// Ranges that the log says became part of a tree since: not allocated yet, and not to be written to. Only of an
    /// examined state.
    pub(super) logged: Vec<(u64, u64)>,
    pub(super) meta_root: Child,
    pub(super) _pin: Option<Arc<Pin>>,
}

impl Volume {
    /// Pins the newest committed state and reads its tables anew from the device, every copy of them.
    pub fn committed(&self) -> Result<Committed> {
        self.committed_for(Reading::Prove)
    }

    fn committed_for(&self, reading: Reading) -> Result<Committed> {
        let (superblock, pin) = {
            let committer = self.committer.lock();
            (committer.superblock.clone(), Pin::epoch(&self.shared, committer.superblock.epoch))
        };
        let mut alloc = Allocator::new(RESERVED_BYTES + superblock.log_bytes, superblock.size);
        let store = Arc::new(self.shared.store().beside(reading));
        let space_map = SpaceMap::load(&store, superblock.space_map, &mut alloc)?;
        let blocks = space_map.blocks().to_vec();
        let pager = Pager::new(store, 8 << 20);
        let loaded = Loaded::read(&pager, superblock.clone(), space_map)?;
        let history = History::from_records(loaded.records.clone(), superblock.next_view, superblock.next_id);
        let faults = holds::faults(&loaded.holds, &superblock, &loaded.records);
        Ok(Committed {
            hold_faults: faults.into_iter().map(|(_, what)| what).collect(),
            history: history.map_err(|e| corrupt(e.to_string()))?,
            superblock,
            pager,
            records: loaded.records,
            lines: loaded.lines,
            jobs: loaded.jobs,
            extra_refs: loaded.extra_refs.iter().collect(),
            remap: loaded.remap,
            leaves: loaded.leaves,
            remap_is_whole: true,
            allocated: alloc.allocated(),
            space_map: blocks,
            map_is_readable: true,
            logged: Vec::new(),
            meta_root: loaded.meta_root,
            _pin: Some(pin),
        })
    }
}

impl Committed {
    /// Entries of a dead list with their buckets.
    pub fn dead_list(&self, list: u64) -> Result<Vec<(Epoch, DeadEntry)>> {
        let meta = MetaRead { pager: &self.pager, root: &self.meta_root };
        Ok(deadlist::entries(meta, list, deadlist::ALL)?)
    }

    /// The same, as far as it can be read, with what is wrong with it.
    pub fn found_list(&self, list: u64) -> Result<FoundList> {
        let meta = MetaRead { pager: &self.pager, root: &self.meta_root };
        Ok(deadlist::found(meta, list)?)
    }

    /// Every item of the meta tree that belongs to a dead list, in key order.
    pub fn list_items(&self) -> impl Iterator<Item = std::result::Result<(Key, Item), StoreError>> + '_ {
        let from = Key { object: 1, kind: 0, rest: 0 };
        tree::range(&self.pager, &self.meta_root, &from, &Key::MAX)
    }

    /// Addresses that can be allocated.
    pub fn space(&self) -> Range<u64> {
        RESERVED_BYTES + self.superblock.log_bytes..self.superblock.size
    }

    /// The head of the main line.
    pub fn main_head(&self) -> Option<ViewId> {
        self.lines.iter().find(|l| l.id == LineId::MAIN).map(|l| l.head)
    }

    /// Exclusive bytes of a view.
    pub fn exclusive(&self, view: ViewId) -> Result<u64> {
        Ok(self.history.exclusive(view, MetaRead { pager: &self.pager, root: &self.meta_root })?)
    }
}
