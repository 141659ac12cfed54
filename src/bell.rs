//! A bell: one thread sleeps until any other rings.

use parking_lot::{Condvar, Mutex};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

/// Rung by any thread at next to no cost; a ring that nobody waits for is kept for who comes next. Its lock is a leaf.
#[derive(Default)]
pub struct Bell {
    rung: AtomicBool,
    /// Whoever waits is to stop.
    ended: AtomicBool,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Bell {
    /// Wakes whoever waits, or keeps the next from waiting.
    pub fn ring(&self) {
        if !self.rung.load(SeqCst) && !self.rung.swap(true, SeqCst) {
            // Who is about to wait has seen it, or waits already.
            drop(self.lock.lock());
            self.changed.notify_all();
        }
    }

    /// Waits until it is rung, and returns true then, or until time is over.
    pub fn wait(&self, timeout: Duration) -> bool {
        let mut lock = self.lock.lock();
        if !self.rung.load(SeqCst) {
            self.changed.wait_for(&mut lock, timeout);
        }
        self.rung.swap(false, SeqCst)
    }

    /// Rings for the last time.
    pub fn end(&self) {
        self.ended.store(true, SeqCst);
        self.ring();
    }

    /// True once [`Self::end`] was called.
    pub fn has_ended(&self) -> bool {
        self.ended.load(SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_wakes_who_waits_and_is_not_lost_before_it_waits() {
        let bell = Bell::default();
        assert!(!bell.wait(Duration::ZERO));
        bell.ring();
        assert!(bell.wait(Duration::MAX));
        assert!(!bell.wait(Duration::ZERO));
        std::thread::scope(|s| {
            let waiter = s.spawn(|| bell.wait(Duration::from_secs(60)));
            bell.ring();
            assert!(waiter.join().unwrap());
        });
        assert!(!bell.has_ended());
        bell.end();
        assert!(bell.wait(Duration::ZERO) && bell.has_ended());
    }
}
