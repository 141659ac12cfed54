//! Copied content on its way to become where its references have it: what a commit takes in.
//!
//! Two commits make a move: one that knows both places, and the next, which lets go of the old one. Nothing that anybody reads
//! is changed by either.

use super::table::Remap;
use crate::format::deadlist::DeadEntry;
use crate::format::remap::RemapRecord;
use crate::store::Store;
use crate::volume::extra_refs::ExtraRefs;
use std::sync::Arc;

/// Copied content that waits for a commit. Dropping it gives its space back.
pub struct Moving {
    store: Arc<Store>,
    records: Vec<RemapRecord>,
    /// Keeps the references from being let go of.
    _hold: Box<dyn Send>,
}

impl Moving {
    /// The new places are handed out and written, and part of nothing. As long as `hold` lives, nobody lets go of the
    /// references.
    pub fn new(store: Arc<Store>, records: Vec<RemapRecord>, hold: Box<dyn Send>) -> Moving {
        Moving { store, records, _hold: hold }
    }

    /// How many ranges there are.
    pub fn ranges(&self) -> u64 {
        self.records.len() as u64
    }

    /// True if some of a range that is referred to is on its way.
    pub fn has_some_of(&self, entry: &DeadEntry) -> bool {
        let DeadEntry { addr, len, birth } = *entry;
        let meets = |r: &RemapRecord| r.birth == birth && r.old.0 < addr + len && addr < r.old.0 + r.len;
        self.records.iter().any(meets)
    }

    /// In a commit: enters what may move, and returns that. Other places are given back.
    pub fn enter(&mut self, remap: &mut Remap, extra_refs: &ExtraRefs) -> Vec<RemapRecord> {
        let mut entered = Vec::new();
        for record in std::mem::take(&mut self.records) {
            let (old, len) = (record.old.0, record.len);
            // With extra references, moving one of them would not free the place.
            let free = !extra_refs.overlaps(old, len) && !remap.has_moved_to(old, len);
            let free = free && !remap.is_purged(old, len, record.birth);
            if free && remap.insert(&record) {
                entered.push(record);
            } else {
                self.store.alloc().give_back(record.new.0, len);
            }
        }
        entered
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        for record in &self.records {
            self.store.alloc().give_back(record.new.0, record.len);
        }
    }
}
