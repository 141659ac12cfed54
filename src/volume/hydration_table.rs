//! The table of copies in other stores, and what of it a commit has to write.

use super::{Result, VolumeError};
use crate::format::ViewId;
use crate::format::hydration::{CopyHold, HydrationRecord};
use crate::format::ids::COUNTER_MAX;
use std::collections::{BTreeMap, BTreeSet};

/// All of them.
#[derive(Clone, Default)]
pub(super) struct Hydrations {
    map: BTreeMap<u64, HydrationRecord>,
    /// Those that no commit has taken yet as they are, or that are no more.
    dirty: BTreeSet<u64>,
    /// The greatest number that was given out since the store was opened.
    last: u64,
}

impl Hydrations {
    /// From the items of the meta tree; what makes no sense goes with the next commit.
    pub fn load(items: BTreeMap<u64, Vec<u8>>, is_there: impl Fn(ViewId) -> bool) -> Hydrations {
        let mut all =
            Hydrations { last: items.keys().next_back().copied().unwrap_or(0), ..Hydrations::default() };
        for (number, item) in items {
            match HydrationRecord::decode(&item) {
                Ok(record) if record.number == number && is_there(record.view) => {
                    all.map.insert(number, record);
                }
                decoded => {
                    let why = decoded.err().map_or("of no snapshot".to_string(), |e| e.to_string());
                    log::warn!("the record {number} of a copy in another store is given up: {why}");
                    all.dirty.insert(number);
                }
            }
        }
        all
    }

    /// The one of that number.
    pub fn get(&self, number: u64) -> Option<&HydrationRecord> {
        self.map.get(&number)
    }

    /// In the order of their numbers.
    pub fn all(&self) -> impl Iterator<Item = &HydrationRecord> {
        self.map.values()
    }

    /// Those of a snapshot.
    pub fn of(&self, view: ViewId) -> impl Iterator<Item = &HydrationRecord> + Clone {
        self.map.values().filter(move |record| record.view == view)
    }

    /// The one of a snapshot in a store.
    pub fn find(&self, view: ViewId, store: &[u8; 16]) -> Option<&HydrationRecord> {
        self.of(view).find(|record| record.store == *store)
    }

    /// True if one holds its snapshot until an age of the store.
    pub fn wait_for_age(&self) -> bool {
        self.map.values().any(|copy| !copy.is_whole() && matches!(copy.hold, CopyHold::Until(_)))
    }

    /// True if a snapshot is needed for one.
    pub fn hold(&self, view: ViewId) -> bool {
        self.of(view).any(HydrationRecord::holds)
    }

    /// A number for one more.
    pub fn next(&self) -> Result<u64> {
        match self.last {
            last if last < COUNTER_MAX => Ok(last + 1),
            _ => Err(VolumeError::LimitReached("all numbers of copies in other stores are used up")),
        }
    }

    /// Keeps one as it is now. Another of the same snapshot in the same store, if that is whole, makes room for it: logs
    /// may have that, of programs that forgot whole copies of what went into the trash.
    pub fn set(&mut self, record: HydrationRecord) {
        let is_same = |o: &&HydrationRecord| o.store == record.store && o.number != record.number;
        let others = self.of(record.view).filter(|o| is_same(o) && o.is_whole());
        let others: Vec<u64> = others.map(|o| o.number).collect();
        others.into_iter().for_each(|number| self.remove(number));
        self.last = self.last.max(record.number);
        self.dirty.insert(record.number);
        self.map.insert(record.number, record);
    }

    /// How many of these there are.
    pub fn changed(&self) -> usize {
        self.dirty.len()
    }

    /// Keeps it no more.
    pub fn remove(&mut self, number: u64) {
        self.map.remove(&number);
        self.dirty.insert(number);
    }

    /// Items that changed, for the commit to write.
    pub fn take_changes(&mut self) -> impl Iterator<Item = (u64, Option<Vec<u8>>)> {
        std::mem::take(&mut self.dirty)
            .into_iter()
            .map(|n| (n, self.map.get(&n).map(HydrationRecord::encode)))
    }
}
