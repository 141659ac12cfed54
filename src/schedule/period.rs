//! Periods of the calendar: which one a moment is in, and when one begins. UTC; weeks begin on Mondays.

use crate::clock::{date_of_day, seconds_from_date};
use crate::format::schedule::{Period, Unit};

const DAY: i64 = 86_400;
/// 1970-01-01 was a Thursday.
const DAYS_SINCE_MONDAY: i64 = 3;

impl Unit {
    /// How users write it.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Minute => "min",
            Unit::Hour => "h",
            Unit::Day => "d",
            Unit::Week => "w",
            Unit::Month => "mo",
            Unit::Year => "y",
        }
    }

    /// What it is called in a sentence.
    pub fn word(self) -> &'static str {
        match self {
            Unit::Minute => "minute",
            Unit::Hour => "hour",
            Unit::Day => "day",
            Unit::Week => "week",
            Unit::Month => "month",
            Unit::Year => "year",
        }
    }

    /// Seconds that one has at least.
    fn least_secs(self) -> u64 {
        let days = match self {
            Unit::Minute => return 60,
            Unit::Hour => return 3600,
            Unit::Day => 1,
            Unit::Week => 7,
            Unit::Month => 28,
            Unit::Year => 365,
        };
        days * DAY as u64
    }
}

impl From<Unit> for Period {
    fn from(unit: Unit) -> Period {
        Period { count: 1, unit }
    }
}

impl Period {
    /// Seconds that one has at least.
    pub fn least_secs(self) -> u64 {
        self.unit.least_secs().saturating_mul(self.count.into())
    }

    /// The number of the period that a moment is in: later ones have greater numbers.
    pub fn number_at(self, secs: i64) -> i64 {
        let days = secs.div_euclid(DAY);
        let units = match self.unit {
            Unit::Minute => secs.div_euclid(60),
            Unit::Hour => secs.div_euclid(3600),
            Unit::Day => days,
            Unit::Week => (days + DAYS_SINCE_MONDAY).div_euclid(7),
            Unit::Month => {
                let (year, month, _) = date_of_day(days);
                year * 12 + month - 1
            }
            Unit::Year => date_of_day(days).0,
        };
        units.div_euclid(self.count.into())
    }

    /// When the period after the one that a moment is in begins; none beyond the year 9999.
    pub fn next_after(self, secs: i64) -> Option<i64> {
        let units = self.number_at(secs).checked_add(1)?.checked_mul(self.count.into())?;
        match self.unit {
            Unit::Minute => units.checked_mul(60),
            Unit::Hour => units.checked_mul(3600),
            Unit::Day => units.checked_mul(DAY),
            Unit::Week => units.checked_mul(7)?.checked_sub(DAYS_SINCE_MONDAY)?.checked_mul(DAY),
            Unit::Month => seconds_from_date(units.div_euclid(12), units.rem_euclid(12) + 1, 1),
            Unit::Year => seconds_from_date(units, 1, 1),
        }
    }

    /// Such as `15 minutes`, or `hour`: behind `every`.
    pub fn words(self) -> String {
        if self.count == 1 { self.unit.word().into() } else { plural(self.count.into(), self.unit.word()) }
    }
}

impl std::fmt::Display for Period {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.count, self.unit.name())
    }
}

/// `1 hour`, `2 hours`.
pub fn plural(count: u64, word: &str) -> String {
    if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") }
}
