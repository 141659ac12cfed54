//! What `every=1min keep=60min,24h,30d,12mo` leaves if something changes in each minute: told from the calendar, without a
//! look at how schedules decide.

use snapfs::clock::{rfc3339, seconds_from_date};
use snapfs::ops::Timestamp;

/// The rules.
pub const RULES: &str = "every=1m keep=60min,24h,30d,12mo";

const MINUTE: i64 = 60;

/// What there is after each minute since the first.
pub struct Minutes {
    first: i64,
    /// Months that begin after the first minute.
    months: Vec<i64>,
}

impl Minutes {
    /// One is taken in each minute from this one on, for so many days; in seconds since 1970.
    pub fn since(first: i64, days: i64) -> Minutes {
        let date = rfc3339(Timestamp { secs: first, nanos: 0 });
        let number = |digits: &str| digits.parse::<i64>().expect("a date has numbers");
        let month = number(&date[..4]) * 12 + number(&date[5..7]) - 1;
        let begin = |month: i64| seconds_from_date(month.div_euclid(12), month.rem_euclid(12) + 1, 1);
        let months = (month + 1..).map_while(begin);
        Minutes { first, months: months.take_while(|begin| *begin <= first + days * 86_400).collect() }
    }

    /// The times of those that are there when the one of this minute has been taken, oldest first.
    pub fn left(&self, now: i64) -> Vec<i64> {
        let first = self.first;
        // The newest of a period that is over is that of its last minute.
        let of = |secs: i64, count: i64| {
            let begins = now.div_euclid(secs) * secs;
            let over = (0..count - 1).map(move |n| begins - n * secs - MINUTE);
            over.take_while(move |at| *at >= first)
        };
        let months = self.months.iter().rev().filter(|begin| **begin <= now).map(|begin| begin - MINUTE);
        let mut all: Vec<i64> =
            of(MINUTE, 60).chain(of(3600, 24)).chain(of(86_400, 30)).chain(months.take(11)).collect();
        all.push(now);
        all.sort_unstable();
        all.dedup();
        all
    }
}
