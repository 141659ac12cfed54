//! What a commit does to the allocator, in turns: freeing much takes long, and others need the allocator and the
//! processor meanwhile.
//!
//! Between two turns others see a part of it done. That is fine for each of these: only the committing thread changes
//! the state of what is allocated, settled or quarantined, and a range that is free a little later is not missed.

use super::{Allocator, RangeSet, Store};
use crate::format::Epoch;

/// Ranges, or entries of lists, that are done in one turn: about 50 us.
pub const TURN: usize = 256;

/// Between two turns: whoever waits for this processor goes first.
pub fn end_turn() {
    std::thread::yield_now();
}

impl Store {
    fn in_turns<T>(&self, all: &[T], mut work: impl FnMut(&mut Allocator, &[T])) {
        for (n, some) in all.chunks(TURN).enumerate() {
            if n > 0 {
                end_turn();
            }
            work(&mut self.alloc(), some);
        }
    }

    /// The first of these ranges that a commit may not free: see [`Allocator::not_allocated`].
    pub fn not_allocated(&self, mut ranges: Vec<(u64, u64)>) -> Option<(u64, u64)> {
        ranges.sort_unstable();
        let (mut from, mut found) = (0, None);
        self.in_turns(&ranges, |alloc, some| {
            found = found.or_else(|| alloc.not_allocated(some, from));
            from = some.last().map_or(from, |(addr, len)| addr.saturating_add(*len));
        });
        found
    }

    /// [`Allocator::allocated`].
    pub fn allocated(&self) -> RangeSet {
        let (mut all, mut from) = (RangeSet::new(), Some(0));
        while let Some(at) = from {
            let (some, next) = self.alloc().allocated_from(at, TURN);
            some.iter().for_each(|(addr, len)| assert!(all.insert(*addr, *len)));
            from = next;
            end_turn();
        }
        all
    }

    /// Ranges that were handed out are part of the state that is being committed.
    pub fn settle(&self, ranges: &[(u64, u64)]) {
        self.in_turns(ranges, |alloc, some| some.iter().for_each(|(addr, len)| alloc.settle(*addr, *len)));
    }

    /// A commit of `epoch` freed these ranges.
    pub fn quarantine(&self, epoch: Epoch, ranges: &[(u64, u64)]) {
        self.in_turns(ranges, |alloc, some| alloc.quarantine(epoch, some.to_vec()));
    }

    /// Lets go of everything that commits before `epoch` freed.
    pub fn release(&self, epoch: Epoch) {
        while self.alloc().release_some(epoch) {
            end_turn();
        }
    }
}
