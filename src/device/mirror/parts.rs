//! What is written to both sides, in parts: who writes begins when the first has been copied for it.
//!
//! Whoever puts parts in never waits, so whoever takes them waits no longer than a copy in memory takes.

use parking_lot::{Condvar, Mutex};
use std::sync::Arc;

/// Copied at once.
pub(super) const PART_BYTES: usize = 256 << 10;

/// The parts of a write. Any thread; the lock is a leaf.
pub(super) struct WriteParts {
    pub count: usize,
    there: Mutex<Vec<Arc<[u8]>>>,
    more: Condvar,
}

impl WriteParts {
    pub fn new(count: usize) -> WriteParts {
        WriteParts { count, there: Mutex::default(), more: Condvar::new() }
    }

    /// The next part.
    pub fn put(&self, part: Arc<[u8]>) {
        self.there.lock().push(part);
        self.more.notify_all();
    }

    /// The part of this number, when it is there.
    pub fn take(&self, n: usize) -> Arc<[u8]> {
        let mut there = self.there.lock();
        loop {
            if let Some(part) = there.get(n) {
                return part.clone();
            }
            self.more.wait(&mut there);
        }
    }
}
