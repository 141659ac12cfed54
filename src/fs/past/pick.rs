//! Names in `.snapshots` that pick a snapshot by its age. They can be looked up and are never listed.
//!
//! - `@latest` is the newest snapshot, `@prev` the one before it.
//! - `@-15m` is the newest that is at least 15 minutes old; the units are s, m, h, d and w.
//! - `@2026-01-31`, `@2026-01-31T10:00` and `@2026-01-31T10:00:00` are the newest that is not later than that; the
//!   named second itself still counts. The time is in UTC, with or without a `Z`, or in the zone that follows it
//!   (`+01:00`), as the list of snapshots shows it.
//!
//! The newest is the snapshot with the latest time, even if another was made after it by a clock that was wrong. A
//! snapshot whose own name looks like this is found by its name before these rules are asked.

use crate::clock::{number_of, parse_date};
use crate::ops::Timestamp;

/// Which one `name` picks at the time `now` out of snapshots made at `created` (in the order in which they were made).
pub fn pick(name: &[u8], now: Timestamp, created: &[Timestamp]) -> Option<usize> {
    let rule = std::str::from_utf8(name).ok()?.strip_prefix('@')?;
    let not_after = match rule {
        "latest" => return created.len().checked_sub(1),
        "prev" => return created.len().checked_sub(2),
        _ => moment_of(name, now)?,
    };
    let old_enough = created.iter().map(|t| (t.secs, t.nanos)).enumerate().filter(|(_, t)| *t <= not_after);
    old_enough.max_by_key(|(_, t)| *t).map(|(i, _)| i)
}

/// The last moment that an age or a time stands for at the time `now`: seconds since 1970 and nanoseconds. None for other names.
pub fn moment_of(name: &[u8], now: Timestamp) -> Option<(i64, u32)> {
    let rule = std::str::from_utf8(name).ok()?.strip_prefix('@')?;
    match rule.strip_prefix('-') {
        Some(age) => Some((now.secs.checked_sub(parse_age(age)?)?, now.nanos)),
        None => parse_date(rule),
    }
}

/// `15m` in seconds.
fn parse_age(age: &str) -> Option<i64> {
    let (number, unit) = age.split_at_checked(age.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return None,
    };
    number_of(number)?.checked_mul(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_as_it_is_told_is_read() {
        let at = |text: &[u8]| moment_of(text, Timestamp { secs: 0, nanos: 0 });
        assert_eq!(at(b"@2026-01-01T10:00:09.25Z"), Some((1_767_261_609, 250_000_000)));
        assert_eq!(at(b"@2026-01-01T11:00:09.000000001+01:00"), Some((1_767_261_609, 1)));
        assert_eq!(at(b"@2026-01-01T10:00:09Z"), Some((1_767_261_609, 999_999_999)));
        for bad in ["@2026-01-01T10:00.5Z", "@2026-01-01T10:00:09.Z", "@2026-01-01T10:00:09.1234567890Z"] {
            assert_eq!(at(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn rules() {
        // 2026-01-01T00:00:00Z, 10:00:00Z, and ten seconds later.
        let all = [1_767_225_600, 1_767_261_600, 1_767_261_610].map(|secs| Timestamp { secs, nanos: 0 });
        let now = Timestamp { secs: 1_767_261_700, nanos: 0 };
        for (name, id) in [
            ("@latest", Some(3)),
            ("@prev", Some(2)),
            ("@-1s", Some(3)),
            ("@-95s", Some(2)),
            ("@-1h", Some(1)),
            ("@-1d", None),
            ("@2026-01-01", Some(1)),
            ("@2026-01-01T10:00", Some(2)),
            ("@2026-01-01T10:00:09Z", Some(2)),
            ("@2026-01-01T10:01", Some(3)),
            ("@2025-12-31T23:59", None),
            ("@2026-02-30", None),
            ("@2026-01-01T11:00:00+01:00", Some(2)),
            ("@2026-01-01 05:00:05 -0500", Some(2)),
            ("@2026-01-01T10:00+00:01", Some(1)),
            ("@2026-01-01T10:00+1", None),
            ("@2026-01-01T10:00+0160", None),
            ("@2026-01-01T10:00+\u{e9}\u{e9}", None),
            ("@2026-01-01T10", None),
            ("@2026-01-01T25:00", None),
            ("@-", None),
            ("@-m", None),
            ("@-99999999999w", None),
            ("@-9999999999999999999w", None),
            ("@", None),
            ("latest", None),
        ] {
            assert_eq!(pick(name.as_bytes(), now, &all).map(|i| i + 1), id, "{name}");
        }
        // Made before the clock was set, between two others.
        let wrong = [all[0], Timestamp { secs: 7, nanos: 0 }, all[2]];
        let at = |name: &str| pick(name.as_bytes(), now, &wrong);
        assert_eq!(
            (at("@-1m"), at("@-1h"), at("@1970-01-02"), at("@-1d")),
            (Some(2), Some(0), Some(1), Some(1))
        );
        // The list shows whole seconds.
        let fraction = [Timestamp { secs: 1_767_225_600, nanos: 5 }];
        let at = |name: &str, now: Timestamp| pick(name.as_bytes(), now, &fraction).is_some();
        assert!(at("@2026-01-01T00:00:00Z", now) && !at("@2026-01-01T00:00", now));
        let hour_later = |nanos| Timestamp { secs: 1_767_229_200, nanos };
        assert!(at("@-1h", hour_later(5)) && !at("@-1h", hour_later(4)));
        assert!(pick(b"@latest", now, &[]).is_none() && pick(b"@prev", now, &all[..1]).is_none());
    }
}
