//! The commit's work on the allocator, done in batches so that nobody waits long for it.
//!
//! Freeing many ranges takes long, and the allocator's lock keeps everybody else from allocating. So the committing thread
//! takes the lock for one batch at a time and gives up the processor in between. Others may therefore see a commit's work
//! half done. That is harmless: only the committing thread settles, quarantines and releases ranges, and a range that
//! becomes free a little later is only missed, never handed out twice.

use super::{Allocator, RangeSet, Store};
use crate::format::Epoch;

/// Ranges, or entries of lists, in one batch: about 50 us of work.
pub const BATCH: usize = 256;

/// Called between two batches: lets threads run that wait for this processor.
pub fn end_batch() {
    std::thread::yield_now();
}

impl Store {
    fn in_batches<T>(&self, all: &[T], mut work: impl FnMut(&mut Allocator, &[T])) {
        for (n, some) in all.chunks(BATCH).enumerate() {
            if n > 0 {
                end_batch();
            }
            work(&mut self.alloc(), some);
        }
    }

    /// The first of these ranges that a commit may not free: see [`Allocator::not_allocated`].
    pub fn not_allocated(&self, mut ranges: Vec<(u64, u64)>) -> Option<(u64, u64)> {
        ranges.sort_unstable();
        let (mut from, mut found) = (0, None);
        self.in_batches(&ranges, |alloc, some| {
            found = found.or_else(|| alloc.not_allocated(some, from));
            from = some.last().map_or(from, |(addr, len)| addr.saturating_add(*len));
        });
        found
    }

    /// [`Allocator::allocated`].
    pub fn allocated(&self) -> RangeSet {
        let (mut all, mut from) = (RangeSet::new(), Some(0));
        while let Some(at) = from {
            let (some, next) = self.alloc().allocated_from(at, BATCH);
            some.iter().for_each(|(addr, len)| assert!(all.insert(*addr, *len)));
            from = next;
            end_batch();
        }
        all
    }

    /// Ranges that were handed out become part of the state that is being committed.
    pub fn settle(&self, ranges: &[(u64, u64)]) {
        self.in_batches(ranges, |alloc, some| some.iter().for_each(|(addr, len)| alloc.settle(*addr, *len)));
    }

    /// A commit of `epoch` freed these ranges.
    pub fn quarantine(&self, epoch: Epoch, ranges: &[(u64, u64)]) {
        self.in_batches(ranges, |alloc, some| alloc.quarantine(epoch, some.to_vec()));
    }

    /// Makes free again what commits before `epoch` freed.
    pub fn release(&self, epoch: Epoch) {
        while self.alloc().release_some(epoch) {
            end_batch();
        }
    }
}
