//! A table of records that have numbers of their own, and what of it a commit has to write: items of the meta tree of one kind.

use super::{Result, VolumeError};
use crate::format::FormatError;
use crate::format::ids::COUNTER_MAX;
use std::collections::{BTreeMap, BTreeSet};

/// A record of such a table.
pub(super) trait NumberedRecord: Sized {
    /// What it is, for messages.
    const WHAT: &'static str;
    fn number(&self) -> u64;
    fn encode(&self) -> Vec<u8>;
    fn decode(bytes: &[u8]) -> std::result::Result<Self, FormatError>;
}

/// All records.
#[derive(Clone)]
pub(super) struct Numbered<R> {
    map: BTreeMap<u64, R>,
    /// Those that no commit has taken yet as they are, or that are no more.
    dirty: BTreeSet<u64>,
    /// The greatest number that was given out since the store was opened.
    last: u64,
}

impl<R> Default for Numbered<R> {
    fn default() -> Numbered<R> {
        Numbered { map: BTreeMap::new(), dirty: BTreeSet::new(), last: 0 }
    }
}

impl<R: NumberedRecord> Numbered<R> {
    /// From the items of the meta tree; what makes no sense goes with the next commit.
    pub fn load(items: BTreeMap<u64, Vec<u8>>, mut makes_sense: impl FnMut(&R) -> bool) -> Numbered<R> {
        let last = items.keys().next_back().copied().unwrap_or(0);
        let mut all = Numbered { last, ..Numbered::default() };
        for (number, item) in items {
            match R::decode(&item) {
                Ok(record) if record.number() == number && makes_sense(&record) => {
                    all.map.insert(number, record);
                }
                decoded => {
                    let why = decoded.err().map_or("of what is not there".to_string(), |e| e.to_string());
                    log::warn!("the record {number} of {} is given up: {why}", R::WHAT);
                    all.dirty.insert(number);
                }
            }
        }
        all
    }

    /// The one of that number.
    pub fn get(&self, number: u64) -> Option<&R> {
        self.map.get(&number)
    }

    /// In the order of their numbers.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = &R> {
        self.map.values()
    }

    /// A number for one more.
    pub fn next(&self) -> Result<u64> {
        self.next_after(0)
    }

    /// The same if so many more have one before.
    pub fn next_after(&self, more: usize) -> Result<u64> {
        match self.last + more as u64 {
            last if last + 1 < COUNTER_MAX => Ok(last + 1),
            _ => Err(VolumeError::LimitReached("all numbers of holds, or of the trash, are used up")),
        }
    }

    /// Keeps one as it is now.
    pub fn set(&mut self, record: R) {
        let number = record.number();
        self.last = self.last.max(number);
        self.dirty.insert(number);
        self.map.insert(number, record);
    }

    /// Keeps it no more.
    pub fn remove(&mut self, number: u64) -> Option<R> {
        self.dirty.insert(number);
        self.map.remove(&number)
    }

    /// As if all numbers but so many had been given out.
    #[cfg(test)]
    pub fn use_up(&mut self, left: u64) {
        self.last = COUNTER_MAX - 1 - left;
    }

    /// How many changed.
    pub fn changed(&self) -> usize {
        self.dirty.len()
    }

    /// Items that changed, for the commit to write.
    pub fn take_changes(&mut self) -> impl Iterator<Item = (u64, Option<Vec<u8>>)> {
        std::mem::take(&mut self.dirty).into_iter().map(|n| (n, self.map.get(&n).map(R::encode)))
    }
}
