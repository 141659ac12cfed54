//! Where time comes from. Nothing below `cli` reads the machine's clock but through a [`Clock`] that it was given,
//! so that a test can run at any time it likes. What has passed is told apart from the time of day, which may be set.

use crate::ops::Timestamp;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A source of wall-clock time. Cheap to clone; clones of a manual clock show the same time.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's.
    System,
    /// One that stands still until it is moved.
    Manual(Arc<ManualClock>),
}

/// A clock of a test, in nanoseconds.
#[derive(Debug, Default)]
pub struct ManualClock {
    /// Since 1970.
    now: AtomicI64,
    /// What has passed, however the time was set.
    passed: AtomicI64,
}

const NANOS: i64 = 1_000_000_000;

impl Clock {
    /// A clock that stands at `secs` seconds after 1970 until it is moved.
    pub fn manual(secs: i64) -> Clock {
        let now = AtomicI64::new(secs * NANOS);
        Clock::Manual(Arc::new(ManualClock { now, passed: AtomicI64::new(0) }))
    }

    /// So much time passes on a manual clock; the machine's clock ignores it.
    pub fn advance(&self, nanos: i64) {
        self.set(nanos);
        if let Clock::Manual(clock) = self {
            clock.passed.fetch_add(nanos, Ordering::Relaxed);
        }
    }

    /// Somebody sets a manual clock, by so much; the machine's clock ignores it.
    pub fn set(&self, by_nanos: i64) {
        if let Clock::Manual(clock) = self {
            clock.now.fetch_add(by_nanos, Ordering::Relaxed);
        }
    }

    /// What has passed since some moment, whatever was made of the time of day meanwhile.
    pub fn passed(&self) -> Duration {
        static FIRST: OnceLock<Instant> = OnceLock::new();
        match self {
            Clock::Manual(clock) => {
                Duration::from_nanos(clock.passed.load(Ordering::Relaxed).try_into().unwrap_or_default())
            }
            Clock::System => FIRST.get_or_init(Instant::now).elapsed(),
        }
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        let nanos = match self {
            Clock::Manual(clock) => clock.now.load(Ordering::Relaxed),
            Clock::System => match SystemTime::now().duration_since(UNIX_EPOCH) {
                Ok(since) => return Timestamp { secs: since.as_secs() as i64, nanos: since.subsec_nanos() },
                Err(before) => -(before.duration().as_nanos() as i64),
            },
        };
        Timestamp { secs: nanos.div_euclid(NANOS), nanos: nanos.rem_euclid(NANOS) as u32 }
    }
}

/// `2026.01.31-23.59.59`: in UTC, as in the names of automatic snapshots.
pub fn dotted(t: Timestamp) -> String {
    rfc3339(t).trim_end_matches('Z').replace('T', "-").replace(':', ".").replacen('-', ".", 2)
}

/// `2026-01-31T23:59:59Z`: RFC 3339 in UTC, whole seconds. Proleptic Gregorian calendar, any year.
pub fn rfc3339(t: Timestamp) -> String {
    let (days, second) = (t.secs.div_euclid(86_400), t.secs.rem_euclid(86_400));
    let (year, month, day) = date_of_day(days);
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}Z")
}

/// Year, month and day of a day by its number, of which 1970-01-01 has 0. Proleptic Gregorian calendar, any year.
pub fn date_of_day(days: i64) -> (i64, i64, i64) {
    // Years start in March here, so that the leap day is the last of its year.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Nothing is to happen after a longer time than this: some 958 years.
pub const SPAN_MAX: &str = "50000w";
const SPAN_SECS_MAX: u64 = 50_000 * 7 * 86_400;

/// True for a time after which something may happen, in seconds: from a second to [`SPAN_MAX`].
pub fn is_span(seconds: u64) -> bool {
    (1..=SPAN_SECS_MAX).contains(&seconds)
}

/// `15m` in seconds: s, m, h, d, w.
pub fn parse_span(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = SPANS.iter().find(|(_, name)| *name == unit)?.0;
    let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    number.parse::<u64>().ok().filter(|_| is_number)?.checked_mul(seconds)
}

/// The other way, in the largest unit that tells it.
pub fn span(seconds: u64) -> String {
    let (unit, name) =
        SPANS.iter().rev().find(|(unit, _)| seconds.is_multiple_of(*unit)).unwrap_or(&SPANS[0]);
    format!("{}{name}", seconds / unit)
}

/// `2026-01-31`, `2026-01-31T10:00`, `2026-01-31T10:00:00+01:00`: the last moment of what is meant, in seconds since 1970 and
/// nanoseconds; with a fraction of a second that moment itself. Without a zone it is in UTC.
pub fn parse_date(text: &str) -> Option<(i64, u32)> {
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00"));
    let mut date = date.splitn(3, '-').map(number_of);
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (time, east) = split_zone(time)?;
    let (time, fraction) = match time.split_once('.') {
        Some((time, digits)) if digits.len() <= 9 && time.matches(':').count() == 2 => {
            (time, Some(number_of(&format!("{digits:0<9}")).filter(|_| !digits.is_empty())?))
        }
        Some(_) => return None,
        None => (time, None),
    };
    let mut time = time.splitn(3, ':').map(number_of);
    let (hour, minute) = (time.next()??, time.next()??);
    let second = time.next();
    // A second that is named has all moments of it.
    let nanos = match fraction {
        Some(nanos) => u32::try_from(nanos).ok()?,
        None if second.is_some() => 999_999_999,
        None => 0,
    };
    let second = second.unwrap_or(Some(0))?;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some((seconds_from_date(year, month, day)? + hour * 3600 + minute * 60 + second - east, nanos))
}

/// A time and how many seconds its zone is east of UTC: `10:00`, `10:00Z`, `10:00+01:00`, `10:00 +0100`.
fn split_zone(text: &str) -> Option<(&str, i64)> {
    if let Some(time) = text.strip_suffix('Z') {
        return Some((time, 0));
    }
    let Some(at) = text.find(['+', '-']) else { return Some((text, 0)) };
    let (time, zone) = text.split_at(at);
    let digits = zone[1..].replacen(':', "", 1);
    if digits.len() != 4 {
        return None;
    }
    let digits = number_of(&digits)?;
    let (hours, minutes) = (digits / 100, digits % 100);
    let east = hours * 3600 + minutes * 60;
    let valid = hours < 24 && minutes < 60;
    valid.then_some((time.trim_end_matches(' '), if zone.starts_with('-') { -east } else { east }))
}

/// Decimal digits and nothing else.
pub fn number_of(text: &str) -> Option<i64> {
    if text.is_empty() || text.len() > 12 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

const SPANS: [(u64, &str); 5] = [(1, "s"), (60, "m"), (3600, "h"), (86_400, "d"), (604_800, "w")];

/// Seconds after 1970 of the start of a day in UTC, if there is such a day (years 0 to 9999).
pub fn seconds_from_date(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(0..=9999).contains(&year) || day < 1 || day > days {
        return None;
    }
    let (y, from_march) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * from_march + 2) / 5 + day - 1;
    let (era, year_of_era) = (y.div_euclid(400), y.rem_euclid(400));
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some((era * 146_097 + day_of_era - 719_468) * 86_400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_known_seconds() {
        let text = |secs| rfc3339(Timestamp { secs, nanos: 5 });
        assert_eq!(text(0), "1970-01-01T00:00:00Z");
        assert_eq!(text(-1), "1969-12-31T23:59:59Z");
        assert_eq!(text(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(text(1_767_225_599), "2025-12-31T23:59:59Z");
        assert_eq!(text(4_107_542_400), "2100-03-01T00:00:00Z");
        assert_eq!(seconds_from_date(2000, 2, 29), Some(951_782_400));
        assert_eq!(seconds_from_date(2100, 3, 1), Some(4_107_542_400));
        assert_eq!(seconds_from_date(1970, 1, 1), Some(0));
        assert_eq!(seconds_from_date(2100, 2, 29), None);
        assert_eq!(seconds_from_date(2026, 13, 1), None);
    }

    #[test]
    fn spans_of_time() {
        for (text, seconds) in [("0s", 0), ("90s", 90), ("15m", 900), ("25h", 90_000), ("7d", 604_800)] {
            assert_eq!(parse_span(text), Some(seconds));
        }
        for bad in ["", "7", "d", "-1d", "+1d", "1y", "1 d", "99999999999999999999w", "9223372036854775807w"]
        {
            assert_eq!(parse_span(bad), None, "{bad}");
        }
        let most = parse_span(SPAN_MAX).unwrap();
        assert_eq!([0, 1, most, most + 1].map(is_span), [false, true, true, false]);
        let texts = [0, 90, 900, 90_000, 604_800, 86_400].map(span);
        assert_eq!(texts, ["0w", "90s", "15m", "25h", "1w", "1d"]);
    }

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = Clock::manual(5);
        let copy = clock.clone();
        assert_eq!(clock.now(), Timestamp { secs: 5, nanos: 0 });
        clock.advance(-1);
        assert_eq!(copy.now(), Timestamp { secs: 4, nanos: 999_999_999 });
        clock.advance(-5 * NANOS);
        assert_eq!(copy.now(), Timestamp { secs: -1, nanos: 999_999_999 });
        clock.set(7 * NANOS);
        clock.advance(6 * NANOS + 1);
        assert_eq!((copy.now().secs, copy.passed()), (13, Duration::from_secs(1)));
    }
}
