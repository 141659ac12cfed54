//! The table of holds of snapshots, and the age of the store by which they end.

use super::numbered::{Numbered, NumberedRecord};
use crate::format::age::AgeRecord;
use crate::format::hold::HoldRecord;
use crate::format::{FormatError, ViewId};
use std::collections::HashMap;

/// Holds of the snapshots of a store.
#[derive(Clone, Default)]
pub(super) struct Holds {
    pub table: Numbered<HoldRecord>,
    /// Their numbers by snapshot.
    of_views: HashMap<ViewId, Vec<u64>>,
    /// How many end by themselves.
    pub ending: usize,
    /// How old the store is, and whether a commit has that.
    pub age: AgeRecord,
    pub age_is_dirty: bool,
}

impl NumberedRecord for HoldRecord {
    const WHAT: &'static str = "a hold";
    fn number(&self) -> u64 {
        self.number
    }
    fn encode(&self) -> Vec<u8> {
        self.encode()
    }
    fn decode(bytes: &[u8]) -> std::result::Result<HoldRecord, FormatError> {
        HoldRecord::decode(bytes)
    }
}

impl Holds {
    /// With these records.
    pub fn new(table: Numbered<HoldRecord>, age: AgeRecord) -> Holds {
        let mut of_views: HashMap<ViewId, Vec<u64>> = HashMap::new();
        for hold in table.all() {
            of_views.entry(hold.view).or_default().push(hold.number);
        }
        let ending = table.all().filter(|hold| hold.ends.is_some()).count();
        Holds { table, of_views, ending, age, age_is_dirty: false }
    }

    /// Those of a snapshot, oldest first.
    pub fn of(&self, view: ViewId) -> impl Iterator<Item = &HoldRecord> {
        let numbers = self.of_views.get(&view).into_iter().flatten();
        numbers.filter_map(|number| self.table.get(*number))
    }

    /// Keeps one more.
    pub fn set(&mut self, hold: HoldRecord) {
        self.of_views.entry(hold.view).or_default().push(hold.number);
        self.ending += usize::from(hold.ends.is_some());
        self.table.set(hold);
    }

    /// Keeps it no more.
    pub fn remove(&mut self, number: u64) {
        let Some(hold) = self.table.remove(number) else { return };
        self.ending -= usize::from(hold.ends.is_some());
        if let Some(numbers) = self.of_views.get_mut(&hold.view) {
            numbers.retain(|other| *other != number);
            if numbers.is_empty() {
                self.of_views.remove(&hold.view);
            }
        }
    }

    /// The age, if no commit has it yet.
    pub fn take_age(&mut self) -> Option<AgeRecord> {
        std::mem::take(&mut self.age_is_dirty).then_some(self.age)
    }
}
