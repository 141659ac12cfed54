//! What the filling of a side tells while it goes on, and is told: how fast it may go, and when it ends.

use crate::volume::Filled;
use parking_lot::Mutex;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// How often a filling that is paused looks whether it may go on.
const PAUSE: Duration = Duration::from_millis(100);

/// What a filling tells, and is told.
#[derive(Default)]
pub(super) struct FillTold {
    pub(super) running: AtomicBool,
    pub(super) done: AtomicU64,
    pub(super) total: AtomicU64,
    pub(super) copied: AtomicU64,
    /// What of that was content, once it is known, and what could not be read.
    pub(super) content: Mutex<Option<u64>>,
    pub(super) unread: AtomicU64,
    pub(super) ends: AtomicBool,
    pub(super) paused: AtomicBool,
    /// Bytes a second at most; 0: no limit.
    pub(super) rate: AtomicU64,
    /// How the last one ended, if not well.
    pub(super) failed: Mutex<Option<String>>,
}

impl FillTold {
    /// How far it is.
    pub(super) fn at(&self, filled: Filled) {
        self.done.store(filled.done, SeqCst);
        self.total.store(filled.total, SeqCst);
        self.copied.store(filled.copied, SeqCst);
        self.unread.store(filled.unread, SeqCst);
        *self.content.lock() = filled.content;
    }
}

/// Keeps a filling to its rate.
pub(super) struct FillPace<'a> {
    told: &'a FillTold,
    since: Instant,
    from: u64,
}

impl FillPace<'_> {
    /// From now on.
    pub(super) fn new(told: &FillTold) -> FillPace<'_> {
        FillPace { told, since: Instant::now(), from: 0 }
    }

    /// How far the filling is: returns when it may go on, or is to end.
    pub(super) fn at(&mut self, filled: Filled) -> ControlFlow<()> {
        self.told.at(filled);
        loop {
            if self.told.ends.load(SeqCst) {
                return ControlFlow::Break(());
            }
            let rate = self.told.rate.load(SeqCst);
            let ahead = rate > 0
                && (filled.done - self.from) as f64 > rate as f64 * self.since.elapsed().as_secs_f64();
            if !self.told.paused.load(SeqCst) && !ahead {
                return ControlFlow::Continue(());
            }
            if self.told.paused.load(SeqCst) {
                (self.since, self.from) = (Instant::now(), filled.done);
            }
            std::thread::sleep(if ahead { PAUSE / 10 } else { PAUSE });
        }
    }
}
