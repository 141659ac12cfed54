//! Names that are looked up in `.snapshots` but never listed: they pick a snapshot by its age.
//!
//! `@latest` is the newest, `@prev` the one before it, `@-15m` the newest that is at least that old (s, m, h, d, w), and
//! `@2026-01-31`, `@2026-01-31T10:00` and `@2026-01-31T10:00:00` (UTC, with or without `Z`)
//! the newest not after then. Snapshots that have such a name themselves are found before this is asked.

use crate::clock::seconds_from_date;
use crate::ops::Timestamp;

/// Which one `name` picks at the time `now` out of snapshots made at `created` (oldest first).
pub fn pick(name: &[u8], now: Timestamp, created: &[Timestamp]) -> Option<usize> {
    let rule = std::str::from_utf8(name).ok()?.strip_prefix('@')?;
    let not_after = match rule {
        "latest" => return created.len().checked_sub(1),
        "prev" => return created.len().checked_sub(2),
        _ => match rule.strip_prefix('-') {
            Some(age) => now.secs.checked_sub(parse_age(age)?)?,
            None => parse_date(rule)?,
        },
    };
    created.iter().rposition(|t| (t.secs, t.nanos) <= (not_after, 0))
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

fn parse_date(text: &str) -> Option<i64> {
    let (date, time) = text.split_once('T').unwrap_or((text, "00:00:00"));
    let mut date = date.splitn(3, '-').map(number_of);
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = time.strip_suffix('Z').unwrap_or(time).splitn(3, ':').map(number_of);
    let (hour, minute) = (time.next()??, time.next()??);
    let second = time.next().unwrap_or(Some(0))?;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some(seconds_from_date(year, month, day)? + hour * 3600 + minute * 60 + second)
}

/// Decimal digits and nothing else.
fn number_of(text: &str) -> Option<i64> {
    if text.is_empty() || text.len() > 12 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(pick(b"@latest", now, &[]).is_none() && pick(b"@prev", now, &all[..1]).is_none());
    }
}
