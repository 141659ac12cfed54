//! What people and programs read: tables, sizes, times. A reader that went away (broken pipe) is success.

use super::engine::{CloneRow, SnapshotRow};
use crate::clock;
use crate::names;
use crate::ops::Timestamp;
use crate::sys::process::local_time;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;

/// Writes to standard output.
pub(super) fn print(text: &str) -> Result<(), String> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(format!("cannot write the output: {e}")),
        _ => Ok(()),
    }
}

/// Writes a JSON value, indented.
pub(super) fn print_json(value: &Value) -> Result<(), String> {
    print(&format!("{value:#}\n"))
}

/// So many of what this word says, which has an "s" unless there is one of it.
pub(super) fn counted(count: u64, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

/// Bytes in binary units, three digits: `0 B`, `1.5 KiB`, `20 GiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 || value >= 99.95 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// Seconds as `1:02:03`, or `2:03` below an hour.
pub(super) fn duration(seconds: u64) -> String {
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if h > 0 { format!("{h}:{m:02}:{s:02}") } else { format!("{m}:{s:02}") }
}

/// A size as a user writes it: digits and a binary unit (`4096`, `64K`, `10GiB`, `1.5t`).
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is no size; write it as 512M, 20G or 1.5T");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let unit = unit.trim().to_ascii_lowercase();
    let shift = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return Err(wrong()),
    };
    let bytes = number * (1u64 << shift) as f64;
    if (0.0..9e18).contains(&bytes) { Ok(bytes as u64) } else { Err(wrong()) }
}

/// Seconds since 1970 as RFC 3339 in UTC, with as many digits of a second as there are.
pub(super) fn rfc3339(t: Timestamp) -> String {
    let whole = clock::rfc3339(t);
    match t.nanos {
        0 => whole,
        n => format!("{}.{n:09}Z", whole.trim_end_matches('Z')),
    }
}

/// The other way.
pub(super) fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let numbers = |text: &str, by| text.rsplitn(3, by).map(|n| n.parse().ok()).collect::<Option<Vec<i64>>>();
    let ([day, month, year], [second, minute, hour]) = (&numbers(date, '-')?[..], &numbers(time, ':')?[..])
    else {
        return None;
    };
    let day = clock::seconds_from_date(*year, *month, *day)?;
    Some(Timestamp {
        secs: day + hour * 3600 + minute * 60 + second,
        nanos: format!("{fraction:0<9}").parse().ok()?,
    })
}

/// A time as people here read it, to the second: local, with its distance from UTC. `@` and this picks a snapshot.
pub(super) fn local(t: Timestamp) -> String {
    let shown = local_time(t.secs).and_then(|[year, month, day, hour, minute, second]| {
        let there = clock::seconds_from_date(year, month, day)? + hour * 3600 + minute * 60 + second;
        let east = (there - t.secs) / 60;
        let (sign, zone) = (if east < 0 { '-' } else { '+' }, east.abs());
        let zone = format!("{sign}{:02}:{:02}", zone / 60, zone % 60);
        Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{zone}"))
    });
    shown.unwrap_or_else(|| rfc3339(t))
}

/// Columns padded to their widest cell; those in `right` are numbers.
pub(super) fn table(head: &[&str], rows: &[Vec<String>], right: &[usize]) -> String {
    let width = |c: usize| {
        let cells = rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count());
        cells.chain([head[c].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut out = String::new();
    let head: Vec<String> = head.iter().map(|h| h.to_string()).collect();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (c, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let gap = if c == 0 { "" } else { "  " };
            if right.contains(&c) {
                line.push_str(&format!("{gap}{cell:>width$}"));
            } else {
                line.push_str(&format!("{gap}{cell:<width$}"));
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Keys under which there are names; other texts are sentences.
const NAMES: [&str; 3] = ["store", "mountpoint", "snapshot"];

/// An object as lines `key: value`, for people, one for each of several values. Numbers whose key ends in `bytes` are sizes.
pub(super) fn fields(value: &Value) -> String {
    let mut out = String::new();
    if let Some(object) = value.as_object() {
        let is_hex = |key: &str| key.strip_suffix("_hex").is_some_and(|name| object.contains_key(name));
        for (key, item) in object.iter().filter(|(key, _)| !is_hex(key)) {
            let shown = match item {
                Value::String(_) if NAMES.contains(&key.as_str()) => {
                    vec![names::shown_bytes(&names::get(value, key).unwrap_or_default())]
                }
                Value::Array(all) if !all.is_empty() => all.iter().map(|one| words(key, one)).collect(),
                one => vec![words(key, one)],
            };
            // The unit says it is bytes, but where something else is called so.
            let label =
                key.strip_suffix("_bytes").filter(|label| !object.contains_key(*label)).unwrap_or(key);
            let line = |shown: String| format!("{}: {shown}\n", label.replace('_', " "));
            out.extend(shown.into_iter().map(line));
        }
    }
    out
}

/// A value under a key in words.
fn words(key: &str, value: &Value) -> String {
    match value {
        Value::String(text) => names::sentence(text),
        Value::Number(n) if key.ends_with("bytes") => size(n.as_u64().unwrap_or(0)),
        Value::Array(all) if !all.is_empty() => {
            all.iter().map(|one| words(key, one)).collect::<Vec<_>>().join(", ")
        }
        Value::Object(of) => {
            let one =
                |(key, value): (&String, &Value)| format!("{} {}", key.replace('_', " "), words(key, value));
            of.iter().map(one).collect::<Vec<_>>().join(", ")
        }
        Value::Null | Value::Array(_) => "-".into(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// A snapshot for programs.
pub(super) fn snapshot_json(s: &SnapshotRow) -> Value {
    let mut object = json!({
        "id": s.id, "created": rfc3339(s.created),
        "referenced": s.referenced, "exclusive": s.exclusive, "written": s.written, "held": s.held,
        "consistency": s.consistency.name(), "pause_us": s.pause_us,
    });
    if let Some(secs) = s.edited {
        object["edited"] = rfc3339(Timestamp { secs, nanos: 0 }).into();
    }
    names::put(&mut object, "name", OsStr::from_bytes(&s.name));
    object
}

/// What was made by a split, for programs.
pub(super) fn split_json(made: &SnapshotRow, answer: &Value) -> Value {
    let mut object = snapshot_json(made);
    object["split_pause_us"] = answer["split_pause_us"].clone();
    if let Some(store) = names::get(answer, "store") {
        names::put(&mut object, "store", OsStr::from_bytes(&store));
    }
    object
}

/// A clone for programs.
pub(super) fn clone_json(c: &CloneRow) -> Value {
    let mut object = json!({
        "id": c.id, "created": rfc3339(c.created), "origin": null, "reason": c.reason,
        "snapshots": c.snapshots,
        "referenced": c.referenced, "exclusive": c.exclusive, "written": c.written,
    });
    names::put(&mut object, "name", OsStr::from_bytes(&c.name));
    if let Some(origin) = &c.origin {
        names::put(&mut object, "origin", OsStr::from_bytes(origin));
    }
    object["expires"] = c.expires.map(rfc3339).into();
    object["idle_seconds"] = c.idle.into();
    object
}

/// Clones for people.
pub(super) fn clone_table(all: &[CloneRow]) -> String {
    let row = |c: &CloneRow| {
        let origin = c.origin.as_ref().map_or("-".into(), |origin| names::shown_bytes(origin));
        let sizes = [c.referenced, c.exclusive, c.written].map(size);
        let ends = match (c.expires, c.idle.map(clock::span)) {
            (Some(expires), Some(idle)) => format!("{} or idle {idle}", local(expires)),
            (Some(expires), None) => local(expires),
            (None, Some(idle)) => format!("idle {idle}"),
            (None, None) => "-".into(),
        };
        let words = [names::shown_bytes(&c.name), origin, c.reason.clone(), local(c.created), ends];
        [words.to_vec(), vec![c.snapshots.to_string()], sizes.to_vec()].concat()
    };
    let rows: Vec<Vec<String>> = all.iter().map(row).collect();
    let head = [
        "CLONE",
        "ORIGIN",
        "REASON",
        "CREATED",
        "EXPIRES",
        "SNAPSHOTS",
        "REFERENCED",
        "EXCLUSIVE",
        "WRITTEN",
    ];
    table(&head, &rows, &[5, 6, 7, 8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (102_400, "100 KiB"),
            (1_048_575, "1.0 MiB"),
            (20 << 30, "20.0 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn no_two_fields_have_one_label() {
        let text = fields(&json!({"trash": "1h", "trash_bytes": 0, "free_bytes": 4096}));
        assert_eq!(text, "free: 4.0 KiB\ntrash: 1h\ntrash bytes: 0 B\n");
    }

    #[test]
    fn what_is_nested_is_told_in_words() {
        let all =
            json!({"of": [], "in": ["a b", "c"], "sides": [{"n_bytes": 1024, "ok": true, "at": [1, 2]}]});
        assert_eq!(fields(&all), "in: a b\nin: c\nof: -\nsides: at 1, 2, n bytes 1.0 KiB, ok true\n");
    }

    #[test]
    fn durations_are_clocks() {
        assert_eq!(
            (duration(5), duration(754), duration(3723)),
            ("0:05".into(), "12:34".into(), "1:02:03".into())
        );
    }

    #[test]
    fn sizes_are_read() {
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("64K"), Ok(65536));
        assert_eq!(parse_size("10GiB"), Ok(10 << 30));
        assert_eq!(parse_size("1.5t"), Ok(3 << 39));
        for wrong in ["", "G", "1x", "-1", "1e9", "99999999P"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_rfc_3339() {
        let at = |secs, nanos| rfc3339(Timestamp { secs, nanos });
        assert_eq!(at(0, 0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_400, 5), "2000-02-29T00:00:00.000000005Z");
        assert_eq!(at(1_767_225_599, 0), "2025-12-31T23:59:59Z");
        assert_eq!(at(-1, 0), "1969-12-31T23:59:59Z");
        assert_eq!(at(4_107_542_400, 0), "2100-03-01T00:00:00Z");
        for (secs, nanos) in [(0, 0), (951_782_400, 5), (-1, 120_000_000), (4_107_542_400, 999_999_999)] {
            let t = Timestamp { secs, nanos };
            assert_eq!(parse_rfc3339(&rfc3339(t)), Some(t));
        }
        assert!(
            ["", "Z", "2000-01-01", "x-01-01T00:00:00Z"].iter().all(|text| parse_rfc3339(text).is_none())
        );
    }

    #[test]
    fn tables_line_up() {
        let rows = vec![vec!["a".into(), "10".into()], vec!["long".into(), "5".into()]];
        assert_eq!(table(&["N", "SIZE"], &rows, &[1]), "N     SIZE\na       10\nlong     5\n");
    }
}
