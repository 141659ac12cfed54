//! For how long changes are held up by deletion: while a name goes, while a commit looks at what there is of deleted views, and
//! while it takes them out of the history.
//!
//! Time counts from when nobody else gets a turn at the state to when others do, by the clock that only goes forward. What whoever
//! deletes does without that, such as writing what it has changed, holds up nobody and is not counted.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What deletion has held up since the store was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RemovalPauses {
    /// How often.
    pub count: u64,
    /// For how long at most.
    pub longest: Duration,
    /// The most snapshots and heads that went meanwhile.
    pub views_most: u64,
}

/// The same, being counted.
#[derive(Default)]
pub(super) struct RemovalCounts {
    count: AtomicU64,
    longest_ns: AtomicU64,
    views_most: AtomicU64,
}

impl RemovalCounts {
    /// From now on somebody may be held up, until what this returns is dropped: before the turn is.
    pub fn begin(&self) -> HeldUp<'_> {
        HeldUp { counts: self, begun: Instant::now(), views: 0 }
    }

    pub fn now(&self) -> RemovalPauses {
        RemovalPauses {
            count: self.count.load(Relaxed),
            longest: Duration::from_nanos(self.longest_ns.load(Relaxed)),
            views_most: self.views_most.load(Relaxed),
        }
    }
}

/// Others are held up by a deletion.
#[must_use]
pub(super) struct HeldUp<'c> {
    counts: &'c RemovalCounts,
    begun: Instant,
    /// How many snapshots and heads go.
    pub views: usize,
}

impl Drop for HeldUp<'_> {
    fn drop(&mut self) {
        let HeldUp { counts, begun, views } = *self;
        counts.count.fetch_add(1, Relaxed);
        counts.longest_ns.fetch_max(begun.elapsed().as_nanos() as u64, Relaxed);
        counts.views_most.fetch_max(views as u64, Relaxed);
    }
}
