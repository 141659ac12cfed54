//! How old a store is, by a clock that may be wrong: what time has really passed for it.
//!
//! While somebody looks, time is counted by the kernel, and what is made of the time of day changes nothing. What passed before,
//! while nobody did, only the time of day can tell. It is believed once, when the clock has gone as time passes for an hour, and
//! then the least that it said meanwhile, and no more than thirty days. Until then that time stays owed, over any number of mounts. So
//! a clock that jumps while somebody looks makes nothing older, and one that was wrong before ages a store by a month at most.

use crate::format::age::AgeRecord;
use std::time::Duration;

/// The time of day was set if it is so many seconds away from where it was and what has passed since.
const SET_SECS: u64 = 60;
/// It has to go well for so long before it is believed.
const WATCHED: Duration = Duration::from_secs(3600);
/// No more is believed at once.
const BELIEVED_SECS_MAX: u64 = 30 * 86_400;

/// What somebody who looks again and again knows of the age of a store.
#[derive(Clone, Debug)]
pub struct AgeClock {
    /// The age when he began, with what was believed since.
    base: u64,
    since: Duration,
    /// The least that is owed for the time before, until it is believed.
    owed: Option<u64>,
    /// Where the time of day would be: as it was when it was believed last.
    anchor: (i64, Duration),
    /// It was, by who looks or by who did before; what was only found is told to nobody.
    is_believed: bool,
    last: (i64, Duration),
    steady_since: Duration,
}

impl AgeClock {
    /// Of somebody who begins to look at a store of which this was noted; times of day in seconds since 1970, and what has
    /// passed.
    pub fn new(noted: AgeRecord, now: (i64, Duration)) -> AgeClock {
        let known = noted.at != 0;
        let mut clock = AgeClock {
            base: noted.secs,
            since: now.1,
            owed: known.then_some(u64::MAX),
            anchor: (if known { noted.at } else { now.0 }, now.1),
            is_believed: known,
            last: now,
            steady_since: now.1,
        };
        clock.look(now);
        clock
    }

    /// Forgets what passed before somebody looked, which is nobody's business; not how the clock has gone since.
    pub fn begin_anew(&mut self) {
        let (now, passed) = self.last;
        (self.base, self.since, self.owed) = (self.age().secs, passed, None);
        (self.anchor, self.is_believed) = ((now, passed), passed >= self.steady_since + WATCHED);
    }

    /// Where the time of day is thought to be.
    fn thought(&self, passed: Duration) -> i64 {
        self.anchor.0.saturating_add_unsigned(secs_from(self.anchor.1, passed))
    }

    /// A look at the clock.
    pub fn look(&mut self, (now, passed): (i64, Duration)) {
        let expected = self.last.0.saturating_add_unsigned(secs_from(self.last.1, passed));
        if now.abs_diff(expected) > SET_SECS {
            self.steady_since = passed;
        }
        self.last = (now, passed);
        let thought = self.thought(passed);
        if let Some(owed) = &mut self.owed {
            *owed = (*owed).min(u64::try_from(now.saturating_sub(thought)).unwrap_or(0));
        }
        if passed >= self.steady_since + WATCHED {
            self.base = self.base.saturating_add(self.owed());
            self.owed = None;
            (self.anchor, self.is_believed) = ((now, passed), true);
        }
    }

    /// How much may come to be believed of the time before, at most.
    pub fn owed(&self) -> u64 {
        self.owed.unwrap_or(0).min(BELIEVED_SECS_MAX)
    }

    /// How old the store is, as of the last look, and what is to be noted of it.
    pub fn age(&self) -> AgeRecord {
        let passed = self.last.1;
        let at = match self.thought(passed) {
            _ if !self.is_believed => 0, // it is not known
            0 => 1,
            at => at,
        };
        AgeRecord { secs: self.base.saturating_add(secs_from(self.since, passed)), at }
    }
}

fn secs_from(then: Duration, passed: Duration) -> u64 {
    passed.saturating_sub(then).as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;
    const DAY: u64 = 86_400;

    /// A machine with a clock that can be set.
    struct Machine {
        now: i64,
        passed: u64,
        clock: AgeClock,
    }

    impl Machine {
        fn at(now: i64, noted: AgeRecord) -> Machine {
            let passed = 1000;
            Machine { now, passed, clock: AgeClock::new(noted, (now, Duration::from_secs(passed))) }
        }

        fn look(&mut self) -> u64 {
            self.clock.look((self.now, Duration::from_secs(self.passed)));
            self.clock.age().secs
        }

        fn pass(&mut self, secs: u64) -> u64 {
            for _ in 0..secs.div_ceil(60) {
                self.now += 60;
                self.passed += 60;
                self.look();
            }
            self.look()
        }
    }

    const NOW: i64 = 1_800_000_000;

    #[test]
    fn time_that_is_watched_is_counted_whatever_the_clock_says() {
        let mut m = Machine::at(NOW, AgeRecord::default());
        assert_eq!(m.pass(2 * HOUR), 2 * HOUR);
        for jump in [400 * DAY as i64, -900 * DAY as i64, i64::MAX / 4, -i64::MAX / 4, 0] {
            m.now = NOW + jump;
            let before = m.look();
            assert_eq!(m.pass(3 * HOUR), before + 3 * HOUR);
        }
    }

    #[test]
    fn time_that_nobody_watched_is_believed_after_an_hour_and_in_bounds() {
        let noted = AgeRecord { secs: 50, at: NOW };
        for (away, believed) in [(DAY, DAY), (30 * DAY, 30 * DAY), (400 * DAY, 30 * DAY), (0, 0)] {
            let mut m = Machine::at(NOW + away as i64, noted);
            assert_eq!(m.pass(59 * 60), 50 + 59 * 60);
            assert_eq!(m.pass(60), 50 + HOUR + believed);
            assert_eq!(m.pass(DAY), 50 + HOUR + believed + DAY);
        }
        // A clock that stands before that says nothing.
        let mut m = Machine::at(5, noted);
        assert_eq!(m.pass(DAY), 50 + DAY);
    }

    #[test]
    fn a_clock_that_is_set_before_it_is_believed_says_the_least() {
        let noted = AgeRecord { secs: 0, at: NOW };
        // At 1970 at first; ahead at first; ahead later.
        for (first, then, believed) in
            [(9, NOW + DAY as i64, 0), (NOW * 2, NOW + 60, 60), (NOW + 60, NOW * 2, 60)]
        {
            let mut m = Machine::at(first, noted);
            m.pass(HOUR / 2);
            m.now = then + HOUR as i64 / 2;
            m.look();
            let age = m.pass(HOUR);
            assert_eq!(age, HOUR + HOUR / 2 + believed, "{first} {then}");
        }
    }

    #[test]
    fn where_a_clock_was_that_nobody_believed_is_not_told() {
        // Behind by years, as without a battery, and set right only when nobody looks.
        let mut m = Machine::at(5, AgeRecord::default());
        m.pass(HOUR / 2);
        assert_eq!(m.clock.age(), AgeRecord { secs: HOUR / 2, at: 0 });
        let mut m = Machine::at(NOW, m.clock.age());
        assert_eq!(m.pass(2 * HOUR), 2 * HOUR + HOUR / 2);
        assert_eq!(m.clock.age().at, m.now);
        // One that has gone well for an hour is believed by who begins anew.
        m.clock.begin_anew();
        assert_eq!(m.clock.age(), AgeRecord { secs: 2 * HOUR + HOUR / 2, at: m.now });
        m.now += DAY as i64;
        m.look();
        m.clock.begin_anew();
        assert_eq!(m.clock.age().at, 0);
    }

    #[test]
    fn what_is_owed_stays_so_over_short_mounts() {
        let mut noted = AgeRecord { secs: 0, at: NOW };
        let mut now = NOW;
        for _ in 0..10 {
            now += DAY as i64;
            let mut m = Machine::at(now, noted);
            m.pass(HOUR / 2);
            noted = m.clock.age();
            now = m.now;
        }
        assert_eq!(noted.secs, 5 * HOUR);
        let mut m = Machine::at(now, noted);
        assert_eq!(m.pass(HOUR), 6 * HOUR + 10 * DAY);
        // And it is owed no more.
        let mut m = Machine::at(m.now, m.clock.age());
        assert_eq!(m.pass(2 * HOUR), 8 * HOUR + 10 * DAY);
    }
}
