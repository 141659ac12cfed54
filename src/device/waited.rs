//! How long somebody has waited for a host, and how a host says that it is still at work.
//!
//! Time counts only as far as this program was there to see it pass: whoever waits looks every so often, and from one look
//! to the next no more than a small part of the limit counts. So a program that stood still (a stopped process, a suspended
//! machine, a clock that has jumped) finds nobody late when it goes on: what was asked had no time to answer either. The
//! clock is the one that goes only forward, whatever the time of day is set to.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// From one look to the next no more than this part of the limit counts.
const PARTS: u32 = 16;
/// What counts in any case: no timer is finer than that on a busy machine.
const COUNTS_MIN: Duration = Duration::from_millis(20);

/// The time; in tests that of the thread, once it has one of its own.
fn now() -> Instant {
    #[cfg(test)]
    if let Some(now) = test_clock::TIME.get() {
        return now;
    }
    Instant::now()
}

/// A clock of one thread, which stands still unless somebody has time pass.
#[cfg(test)]
pub(super) mod test_clock {
    use std::cell::Cell;
    use std::time::{Duration, Instant};

    thread_local! {
        pub(super) static TIME: Cell<Option<Instant>> = const { Cell::new(None) };
    }

    /// So much time passes.
    pub(in crate::device) fn pass(time: Duration) {
        TIME.set(Some(TIME.get().unwrap_or_else(Instant::now) + time));
    }
}

/// Somebody waits, up to a limit.
pub(super) struct Waited {
    limit: Duration,
    waited: Duration,
    seen: Instant,
}

impl Waited {
    /// From now on.
    pub fn new(limit: Duration) -> Waited {
        Waited { limit, waited: Duration::ZERO, seen: now() }
    }

    /// What counts at most from one look to the next: so often has to be looked.
    fn counts_max(limit: Duration) -> Duration {
        (limit / PARTS).max(COUNTS_MIN)
    }

    /// Looks at the clock. True if the time is over.
    pub fn is_over(&mut self) -> bool {
        let now = now();
        self.count(now.saturating_duration_since(self.seen));
        self.seen = now;
        self.left().is_zero()
    }

    fn count(&mut self, passed: Duration) {
        self.waited += passed.min(Waited::counts_max(self.limit));
    }

    fn left(&self) -> Duration {
        self.limit.saturating_sub(self.waited)
    }

    /// What has counted up to the last look.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// How long to sleep until the next look.
    pub fn until_look(&self) -> Duration {
        (Waited::counts_max(self.limit) / 2).min(self.left())
    }

    /// The time begins again.
    pub fn again(&mut self) {
        *self = Waited::new(self.limit);
    }
}

/// Who is told that the work of a thread goes on.
pub(super) trait Awaited: Send + Sync {
    /// A call of the host has returned.
    fn goes_on(&self);
}

thread_local! {
    /// Who waits for what this thread does.
    static AWAITED: RefCell<Option<Arc<dyn Awaited>>> = const { RefCell::new(None) };
}

/// Does some work, of which `by` hears how it goes on.
pub(super) fn awaited<T>(by: Arc<dyn Awaited>, work: impl FnOnce() -> T) -> T {
    struct Back(Option<Arc<dyn Awaited>>);
    impl Drop for Back {
        fn drop(&mut self) {
            AWAITED.with_borrow_mut(|awaited| std::mem::swap(awaited, &mut self.0));
        }
    }
    let _back = Back(AWAITED.replace(Some(by)));
    work()
}

/// Says that one of many calls of the host has returned that make up one question: whoever waits for the answer waits
/// from now on, so that a long answer is not taken for none. Not for what keeps users waiting: a write or a flush has
/// its limit as a whole.
pub(super) fn goes_on() {
    let by = AWAITED.with_borrow(Option::clone);
    by.into_iter().for_each(|by| by.goes_on());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    #[test]
    fn time_in_which_nobody_looked_is_not_waited_for() {
        let limit = Duration::from_secs(10);
        let mut waited = Waited::new(limit);
        // A night in which the machine slept.
        waited.count(Duration::from_secs(8 * 3600));
        assert!(waited.waited() < limit / 10 && !waited.left().is_zero());
        let mut looks = 0;
        while !waited.left().is_zero() {
            waited.count(waited.until_look());
            looks += 1;
        }
        assert!((20..=40).contains(&looks), "the rest of the limit counts as it passes: {looks}");
        waited.again();
        assert_eq!(waited.waited(), Duration::ZERO);
        // A short limit is no shorter for that.
        let mut short = Waited::new(Duration::from_millis(50));
        short.count(Duration::from_millis(20));
        assert_eq!(short.left(), Duration::from_millis(30));
    }

    #[test]
    fn who_waits_hears_of_this_work_and_of_no_other() {
        #[derive(Default)]
        struct Counts(AtomicUsize);
        impl Awaited for Counts {
            fn goes_on(&self) {
                self.0.fetch_add(1, SeqCst);
            }
        }
        let (outer, inner) = (Arc::new(Counts::default()), Arc::new(Counts::default()));
        goes_on();
        awaited(outer.clone(), || {
            goes_on();
            awaited(inner.clone(), goes_on);
            goes_on();
        });
        goes_on();
        assert_eq!((outer.0.load(SeqCst), inner.0.load(SeqCst)), (2, 1));
    }
}
