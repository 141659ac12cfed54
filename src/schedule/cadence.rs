//! When a schedule is due, by a clock that may be wrong.
//!
//! A snapshot is due when the time of day has come into another period than the one in which the last was taken: at most one
//! after any time in which nobody looked. Where the time of day is before that of the last one, which a clock cannot be, one
//! is due when as much time has passed as a period has. In all, no more are taken than periods have passed since somebody began
//! to look, and two: one that makes up for the time before, and one because the first period was under way. What the time of day
//! says about the past cannot change that.

use crate::format::schedule::{Period, Schedule};
use std::time::Duration;

/// Beyond what has passed.
const BEYOND: u64 = 2;
/// After a failure so much passes until the next attempt.
const AFTER_FAILURE: Duration = Duration::from_secs(60);

/// What somebody who looks at a schedule again and again remembers of it.
#[derive(Clone, Debug)]
pub struct Cadence {
    /// Since when it is looked at, in time that has passed.
    since: Duration,
    taken: u64,
    /// When it was taken last, or found that nothing had changed.
    last: Duration,
    /// The period in which that was found.
    looked: Option<i64>,
    failed: Option<Duration>,
}

impl Cadence {
    /// Of somebody who begins to look.
    pub fn new(passed: Duration) -> Cadence {
        Cadence { since: passed, taken: 0, last: passed, looked: None, failed: None }
    }

    /// True if one is to be taken, by the time of day in seconds since 1970 and what has passed. The time of the last
    /// snapshot of the schedule is the one that it has in the list.
    pub fn is_due(&self, every: Period, last_taken: Option<i64>, (now, passed): (i64, Duration)) -> bool {
        let period = Duration::from_secs(every.least_secs());
        let may = BEYOND + (passed.saturating_sub(self.since).as_secs() / every.least_secs().max(1));
        if self.taken >= may || self.failed.is_some_and(|at| passed < at + AFTER_FAILURE) {
            return false;
        }
        let number = every.number_at(now);
        match last_taken {
            _ if self.looked == Some(number) => false,
            None => true,
            Some(last) if now >= last => number > every.number_at(last),
            Some(_) => passed >= self.last + period,
        }
    }

    /// When one is due if clocks are right, as a time of day; the past if it is due.
    pub fn next(&self, schedule: &Schedule, last_taken: Option<i64>, now: i64) -> Option<i64> {
        let number = schedule.every.number_at(now);
        let seen = self.looked == Some(number) || last_taken.is_some_and(|last| last > now);
        match last_taken {
            _ if seen => schedule.every.next_after(now),
            None => Some(now),
            Some(last) => schedule.every.next_after(last),
        }
    }

    /// One was taken.
    pub fn took(&mut self, passed: Duration) {
        (self.taken, self.last, self.looked, self.failed) = (self.taken + 1, passed, None, None);
    }

    /// Nothing had changed.
    pub fn found_nothing(&mut self, every: Period, (now, passed): (i64, Duration)) {
        (self.last, self.looked, self.failed) = (passed, Some(every.number_at(now)), None);
    }

    /// It could not be taken.
    pub fn failed(&mut self, passed: Duration) {
        self.failed = Some(passed);
    }

    /// Somebody asks for it now: that it failed a moment ago does not count.
    pub fn forget_failure(&mut self) {
        self.failed = None;
    }
}

/// The time of day was set if it is so many seconds away from where it was and what has passed since.
const SET_SECS: u64 = 60;
/// A clock that was set, or that is not where one would think, has to go well for so long before anything is deleted by it.
const WATCHED: Duration = Duration::from_secs(3600);
/// When somebody begins to look, the time of day is where one would think if the last snapshot is not younger, nor older
/// by more seconds than these.
const AWAY_SECS: u64 = 30 * 86_400;

/// Whether the time of day goes as time passes.
#[derive(Clone, Debug, Default)]
pub struct SteadyClock {
    last: Option<(i64, Duration)>,
    distrusted: Option<Duration>,
}

impl SteadyClock {
    /// A look at it. `newest` is the time of the newest automatic snapshot of the store, if there is one.
    pub fn look(&mut self, (now, passed): (i64, Duration), newest: Option<i64>) {
        let strange = match self.last {
            Some((then, before)) => {
                let expected = then.saturating_add_unsigned(passed.saturating_sub(before).as_secs());
                now.abs_diff(expected) > SET_SECS
            }
            None => newest.is_some_and(|newest| now < newest || now.abs_diff(newest) > AWAY_SECS),
        };
        if strange {
            self.distrusted = Some(passed);
        }
        self.last = Some((now, passed));
    }

    /// True if snapshots may be deleted by what it says, as of the last look.
    pub fn is_trusted(&self) -> bool {
        match (self.last, self.distrusted) {
            (Some((_, passed)), Some(since)) => passed >= since + WATCHED,
            (seen, _) => seen.is_some(),
        }
    }
}
