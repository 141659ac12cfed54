//! What a scrub may see and leave: a committed state whose metadata is healed while it is read, and its own items.
//!
//! Less than an auditor sees, so that a damaged space map does not keep the rest from being read.

use super::error::corrupt;
use super::history::History;
use super::open::Loaded;
use super::remap::Remap;
use super::ring::{self, BadSlot};
use super::space_map::SpaceMap;
use super::view::Pin;
use super::{Result, Volume, VolumeError};
use crate::format::line::LineRecord;
use crate::format::superblock::{SLOT_BYTES, Superblock};
use crate::format::view::ViewRecord;
use crate::store::Reading;
use crate::tree::Pager;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most clean nodes that a scrub keeps, in bytes: those on the way to what it looks up.
const CACHE_BYTES: usize = 4 << 20;

/// A committed state, pinned.
pub struct Pinned {
    /// Its root.
    pub superblock: Superblock,
    /// Reads nodes of this state, all copies of each.
    pub pager: Pager,
    /// Views as recorded; snapshots that only the superblock tells of are not among them.
    pub records: Vec<ViewRecord>,
    /// Lines.
    pub lines: Vec<LineRecord>,
    /// The views' history.
    pub history: History,
    /// Where content is that has moved.
    pub remap: Remap,
    _pin: Arc<Pin>,
}

impl Volume {
    /// Pins the newest committed state. What it reaches is not reused as long as it is held: let go of it often.
    pub fn pin_to_scrub(&self) -> Result<Pinned> {
        let (superblock, pin) = {
            let committer = self.committer.lock();
            (committer.superblock.clone(), Pin::epoch(&self.shared, committer.superblock.epoch))
        };
        let pager = Pager::new(Arc::new(self.shared.store().beside(Reading::Scrub)), CACHE_BYTES);
        let loaded = Loaded::read(&pager, superblock.clone(), SpaceMap::default()).map_err(|e| match e {
            // A device of which other blocks can be read is not gone: the block is bad.
            VolumeError::Device(what) if pager.store().read_raw(0, &mut [0; SLOT_BYTES]).is_ok() => {
                corrupt(what)
            }
            e => e,
        })?;
        let (records, lines) = (loaded.records, loaded.lines);
        let history = History::from_records(records.clone(), superblock.next_view, superblock.next_id)
            .map_err(|e| corrupt(e.to_string()))?;
        Ok(Pinned { superblock, pager, records, lines, history, remap: loaded.remap, _pin: pin })
    }

    /// The superblock of the state in force.
    pub fn committed_superblock(&self) -> Superblock {
        self.committer.lock().superblock.clone()
    }

    /// Proves the superblock of the state in force in both rings, and writes bad slots anew if changes are taken.
    pub fn scrub_superblocks(&self) -> Vec<BadSlot> {
        let committer = self.committer.lock();
        ring::scrub(self.shared.store(), &committer.superblock)
    }

    /// Everything was read and nothing is bad: what was found bad before is gone.
    pub fn forget_damage(&self) {
        self.shared.store().health().forget();
    }

    /// The scrub's items, as they will be committed.
    pub fn scrub_items(&self) -> BTreeMap<u64, Vec<u8>> {
        self.state.read().scrub.clone()
    }

    /// Sets or removes an item of the scrub. Durable with the next commit.
    pub fn set_scrub_item(&self, n: u64, value: Option<Vec<u8>>) {
        let mut state = self.turn();
        let s = state.alone();
        match value {
            Some(value) => drop(s.scrub.insert(n, value)),
            None => drop(s.scrub.remove(&n)),
        }
        s.scrub_dirty.insert(n);
        s.changed = true;
    }
}
