//! When a schedule is due, by a clock that may be wrong.
//!
//! A snapshot is due when the time of day has come into another period than the one in which the last was taken: at most one
//! after any time in which nobody looked. Where the time of day is before that of the last one, which a clock cannot be, one
//! is due when as much time has passed as a period has. Who begins to look does not know how much has: where the last one is a
//! period or more ahead, one is due as soon as a clock would have been put right, and at once if somebody asks. The next goes by that
//! one, so each time that a clock is set back costs one at most, and a wrong future holds nothing up. In all, no more are taken than
//! periods have passed since somebody began to look, and two: one that makes up for the time before, and one because the first period
//! was under way. What the time of day says about the past cannot change that.

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
    /// When it was taken last.
    took: Option<Duration>,
    /// The period in which it was found that nothing had changed, and when.
    found: Option<(i64, Duration)>,
    failed: Option<Duration>,
    /// Somebody asks for it, who has waited for what there was to wait for.
    is_asked: bool,
}

impl Cadence {
    /// Of somebody who begins to look.
    pub fn new(passed: Duration) -> Cadence {
        Cadence { since: passed, taken: 0, took: None, found: None, failed: None, is_asked: false }
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
            _ if self.found.is_some_and(|(found, _)| found == number) => false,
            None => true,
            Some(last) if now >= last => number > every.number_at(last),
            Some(last) => match self.took.max(self.found.map(|(_, at)| at)) {
                Some(looked) => passed >= looked + period,
                None => {
                    let is_far = now.abs_diff(last) >= every.least_secs();
                    let wait = if self.is_asked { Duration::ZERO } else { WATCHED };
                    passed >= self.since + if is_far { wait.min(period) } else { period }
                }
            },
        }
    }

    /// When one is due if clocks are right, as a time of day; the past if it is due.
    pub fn next(&self, schedule: &Schedule, last_taken: Option<i64>, now: i64) -> Option<i64> {
        let number = schedule.every.number_at(now);
        let found = self.found.is_some_and(|(found, _)| found == number);
        let seen = found || last_taken.is_some_and(|last| last > now);
        match last_taken {
            _ if seen => schedule.every.next_after(now),
            None => Some(now),
            Some(last) => schedule.every.next_after(last),
        }
    }

    /// One was taken.
    pub fn took(&mut self, passed: Duration) {
        (self.taken, self.took, self.found, self.failed) = (self.taken + 1, Some(passed), None, None);
    }

    /// Nothing had changed.
    pub fn found_nothing(&mut self, every: Period, (now, passed): (i64, Duration)) {
        (self.found, self.failed) = (Some((every.number_at(now), passed)), None);
    }

    /// It could not be taken.
    pub fn failed(&mut self, passed: Duration) {
        self.failed = Some(passed);
    }

    /// Somebody asks for it now: that it failed a moment ago, or that nothing had changed, does not count.
    pub fn is_asked_for(&mut self) {
        (self.found, self.failed, self.is_asked) = (None, None, true);
    }
}

/// The time of day was set if it is so many seconds away from where it was and what has passed since.
const SET_SECS: u64 = 60;
/// A clock that was set, or that is not where one would think, has to go well for so long before anything is deleted by it.
const WATCHED: Duration = Duration::from_secs(3600);
/// When somebody begins to look, the time of day is where one would think if each of the snapshots of the last hour is not younger than
/// the next, nor older by more seconds than these; and so is the last one before the time of day.
const AWAY_SECS: u64 = 30 * 86_400;

/// Whether the time of day goes as time passes.
#[derive(Clone, Debug, Default)]
pub struct SteadyClock {
    last: Option<(i64, Duration)>,
    distrusted: Option<Duration>,
}

impl SteadyClock {
    /// True before the first look.
    pub fn is_new(&self) -> bool {
        self.last.is_none()
    }

    /// A look at it. `made` are the times of the automatic snapshots of the store, in the order in which they were made: they tell who
    /// looks for the first time how the clock has gone before.
    pub fn look(&mut self, (now, passed): (i64, Duration), made: &[i64]) {
        match self.last {
            Some((then, before)) => {
                let expected = then.saturating_add_unsigned(passed.saturating_sub(before).as_secs());
                if now.abs_diff(expected) > SET_SECS {
                    self.distrusted = Some(passed);
                }
            }
            None => self.distrusted = strange_since(now, made).map(|since| passed.saturating_sub(since)),
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

/// How long ago a clock was set that says this, as far as the times tell in this order: none if that was not within the hour in which
/// it matters.
fn strange_since(now: i64, made: &[i64]) -> Option<Duration> {
    let (mut later, mut slack) = (now, 0);
    for at in made.iter().rev() {
        let since = Duration::from_secs(now.abs_diff(later));
        if since >= WATCHED {
            return None;
        }
        if *at > later.saturating_add_unsigned(slack) || later.abs_diff(*at) > AWAY_SECS {
            return Some(since);
        }
        (later, slack) = (later.min(*at), SET_SECS);
    }
    None
}
