//! Snapshots drawn: what is kept of each hour, day and week, and sizes over time. Texts alone; who may see colours is asked once.
//!
//! Periods are those of UTC, and weeks begin on Mondays, as for schedules.

use super::engine::SnapshotRow;
use super::output::{counted, local, size};
use crate::ops::Timestamp;
use crate::sys::process;
use std::io::IsTerminal;

const HOUR: i64 = 3600;
const DAY: i64 = 86_400;
const WEEK: i64 = 7 * DAY;
/// 1970 began on a Thursday; its weeks began on the Monday before.
const MONDAY: i64 = -3 * DAY;
/// What is drawn of the past: how it is called, the length of a sign, and how many.
const STRIPS: [(&str, i64, i64, usize); 3] =
    [("hours", HOUR, 0, 48), ("days", DAY, 0, 60), ("weeks", WEEK, MONDAY, 60)];
/// Columns of a graph at most, and rows.
const COLUMNS: usize = 60;
const ROWS: usize = 8;
const EIGHTHS: [char; 9] =
    [' ', '\u{2581}', '\u{2582}', '\u{2583}', '\u{2584}', '\u{2585}', '\u{2586}', '\u{2587}', '\u{2588}'];

/// How it may look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ChartLook {
    colours: bool,
    /// Signs beyond ASCII.
    blocks: bool,
    /// Signs in a line.
    width: usize,
}

/// Beside a strip: its name, and how many are older.
const BESIDE_STRIP: usize = 7 + 12;
/// Beside a graph: what the greatest is.
const BESIDE_GRAPH: usize = 12;
/// Nothing is drawn of fewer signs, however narrow the terminal is.
const SIGNS_MIN: usize = 8;

impl ChartLook {
    /// As whoever reads the output can see it, and wants to.
    pub(super) fn of_output() -> ChartLook {
        let set = |key: &str| std::env::var(key).ok().filter(|value| !value.is_empty());
        let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG")).unwrap_or_default();
        let is_utf8 = locale.to_ascii_lowercase().replace('-', "").contains("utf8");
        let is_plain = set("NO_COLOR").is_some() || set("TERM").is_none_or(|term| term == "dumb");
        let width = process::terminal_columns(std::io::stdout()).unwrap_or(usize::MAX);
        ChartLook { colours: std::io::stdout().is_terminal() && !is_plain, blocks: is_utf8, width }
    }

    /// So many signs of `wanted` fit beside what else is in the line.
    fn fitting(self, wanted: usize, beside: usize) -> usize {
        wanted.min(self.width.saturating_sub(beside)).max(SIGNS_MIN)
    }

    fn paint(self, text: &str, colour: u8) -> String {
        if self.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_string() }
    }
}

/// How many snapshots there are of each hour, day and week until now, the oldest on the left.
pub(super) fn strip(all: &[SnapshotRow], now: i64, look: ChartLook) -> String {
    let mut out = String::new();
    for (word, length, first, signs) in STRIPS {
        let signs = look.fitting(signs, BESIDE_STRIP);
        let period = |secs: i64| secs.saturating_sub(first).div_euclid(length);
        let last = period(now);
        let mut counts = vec![0usize; signs];
        let mut older = 0u64;
        for s in all {
            let back = last.saturating_sub(period(s.created.secs));
            match usize::try_from(back) {
                Ok(back) if back < signs => counts[signs - 1 - back] += 1,
                Ok(_) => older += 1,
                // Of a time to come.
                Err(_) => counts[signs - 1] += 1,
            }
        }
        let sign = |count: &usize| match count {
            0 => ".".to_string(),
            1..=9 => look.paint(&count.to_string(), 32),
            _ => look.paint("+", 36),
        };
        let line: String = counts.iter().map(sign).collect();
        out += &format!("{word:<6} {line}");
        out += &if older > 0 { format!("  {older} older\n") } else { "\n".into() };
    }
    let until = local(Timestamp { secs: now, nanos: 0 });
    let told = format!("{} until {until};", counted(all.len() as u64, "snapshot"));
    let words = "a sign is an hour, a day or a week (UTC): . none, 1-9, + more";
    let gap = if told.len() + 1 + words.len() > look.width { "\n" } else { " " };
    out + &format!("{told}{gap}{words}\n")
}

/// What each reached, as an area over time, and below it what was written.
pub(super) fn graph(all: &[SnapshotRow], look: ChartLook) -> String {
    let mut all: Vec<&SnapshotRow> = all.iter().collect();
    all.sort_by_key(|s| (s.created.secs, s.created.nanos));
    let (Some(first), Some(last)) = (all.first(), all.last()) else { return String::new() };
    let at = |s: &SnapshotRow| i128::from(s.created.secs);
    let (from, span) = (at(first), (at(last) - at(first)).max(1));
    let columns = look.fitting(COLUMNS, BESIDE_GRAPH);
    let column = |s: &SnapshotRow| ((at(s) - from) * (columns as i128 - 1) / span) as usize;
    let (mut reached, mut written) = (vec![None; columns], vec![0u64; columns]);
    for s in &all {
        reached[column(s)] = Some(s.referenced);
        written[column(s)] = written[column(s)].saturating_add(s.written);
    }
    let mut known = 0;
    let reached: Vec<u64> = reached
        .into_iter()
        .map(|of| {
            known = of.unwrap_or(known);
            known
        })
        .collect();
    let mut out = area("referenced", &reached, ROWS, look, 34);
    out += &area("written", &written, ROWS / 4, look, 33);
    let (from, to) = (local(first.created), local(last.created));
    match columns.checked_sub(from.len() + to.len()) {
        Some(gap) => out + &format!("{:>10}  {from}{}{to}\n", "", " ".repeat(gap.max(1))),
        // Where there is no room for both in a line.
        None => out + &format!("{from} -\n{to}\n"),
    }
}

/// Values as columns of that many rows; the greatest is told beside.
fn area(what: &str, values: &[u64], rows: usize, look: ChartLook, colour: u8) -> String {
    let most = values.iter().copied().max().unwrap_or(0);
    let signs = EIGHTHS.len() - 1;
    let height = |value: u64| match most {
        0 => 0,
        most => (u128::from(value) * (rows * signs) as u128).div_ceil(u128::from(most)) as usize,
    };
    let mut out = format!("{what}, at most {}\n", size(most));
    for row in (0..rows).rev() {
        let sign = |value: &u64| {
            let eighths = height(*value).saturating_sub(row * signs).min(signs);
            match (look.blocks, eighths) {
                (true, eighths) => EIGHTHS[eighths],
                (false, 0) => ' ',
                (false, _) => '#',
            }
        };
        let line: String = values.iter().map(sign).collect();
        let label = if row + 1 == rows { size(most) } else { String::new() };
        out += format!("{label:>10}  {}", look.paint(line.trim_end(), colour)).trim_end();
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::view::Consistency;

    const PLAIN: ChartLook = ChartLook { colours: false, blocks: false, width: usize::MAX };
    /// 2026-01-05T12:00:00Z, a Monday.
    const NOON: i64 = 1_767_571_200 + 12 * HOUR;

    fn at(secs: i64, referenced: u64, written: u64) -> SnapshotRow {
        SnapshotRow {
            name: b"s".to_vec(),
            id: 1,
            created: Timestamp { secs, nanos: 0 },
            referenced,
            exclusive: Some(0),
            written,
            reason: "user".into(),
            description: Vec::new(),
            consistency: Consistency::FileSystem,
            pause_us: 7,
            held: Vec::new(),
            edited: None,
            method: None,
        }
    }

    #[test]
    fn a_strip_counts_hours_days_and_weeks() {
        let mut all: Vec<SnapshotRow> = (0..12).map(|n| at(NOON + n, 1, 1)).collect();
        all.extend([at(NOON - HOUR, 1, 1), at(NOON - HOUR - 1, 1, 1), at(NOON - 13 * HOUR, 1, 1)]);
        all.extend([at(NOON - 90 * DAY, 1, 1), at(NOON - 900 * DAY, 1, 1), at(NOON + DAY, 1, 1)]);
        let told = strip(&all, NOON, PLAIN);
        let lines: Vec<&str> = told.lines().collect();
        assert!(lines[0].starts_with("hours  ") && lines[0].ends_with("1..........11+  2 older"), "{told}");
        assert!(lines[1].starts_with("days   ") && lines[1].ends_with("....1+  2 older"), "{told}");
        // The day before is of the week before; that the clock was ahead once does not hide anything.
        assert!(lines[2].starts_with("weeks  ") && lines[2].ends_with("....1+  1 older"), "{told}");
        assert!(lines[3].starts_with("18 snapshots until "), "{told}");
        let coloured = strip(&all, NOON, ChartLook { colours: true, blocks: true, ..PLAIN });
        assert!(coloured.contains("\x1b[32m1\x1b[0m") && !told.contains('\x1b'));
        assert!(strip(&[at(i64::MIN, 1, 1), at(i64::MAX, 1, 1)], NOON, PLAIN).contains("older"));
    }

    #[test]
    fn a_graph_is_as_high_as_its_greatest() {
        let all: Vec<SnapshotRow> = (0..60).map(|n| at(NOON + n * HOUR, (n as u64) << 20, 1 << 20)).collect();
        let told = graph(&all, PLAIN);
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines.len(), 1 + ROWS + 1 + ROWS / 4 + 1, "{told}");
        assert!(lines[0] == "referenced, at most 59.0 MiB" && lines[1].starts_with("  59.0 MiB  "), "{told}");
        let marks = |line: &str| line.matches('#').count();
        assert!(marks(lines[1]) < marks(lines[ROWS]) && marks(lines[ROWS]) == 59, "{told}");
        assert_eq!(marks(lines[ROWS + 2]), 60, "{told}");
        assert!(graph(&all, ChartLook { colours: true, blocks: true, ..PLAIN }).contains('\u{2588}'));
        assert_eq!(graph(&[], PLAIN), "");
        for odd in [vec![at(5, 0, 0)], vec![at(i64::MIN, u64::MAX, 1), at(i64::MAX, 1, u64::MAX)]] {
            assert!(graph(&odd, PLAIN).contains("referenced, at most"));
        }
    }

    #[test]
    fn nothing_is_wider_than_the_terminal() {
        let all: Vec<SnapshotRow> =
            (0..900).map(|n| at(NOON - n * HOUR, (n as u64) << 20, 1 << 20)).collect();
        for width in [27, 40, 66, 72, 79, 80, 100, 1000] {
            for blocks in [false, true] {
                let look = ChartLook { blocks, width, ..PLAIN };
                for told in [strip(&all, NOON, look), graph(&all, look)] {
                    let words = |line: &str| line.contains("a sign is") || line.contains("snapshots until");
                    let lines = || told.lines().filter(|line| !words(line));
                    assert!(lines().all(|line| line.chars().count() <= width), "{width}\n{told}");
                }
            }
        }
        // A strip that is cut tells how many are older than that.
        let told = strip(&all, NOON, ChartLook { width: 40, ..PLAIN });
        assert!(told.lines().next().is_some_and(|line| line.ends_with("  879 older")), "{told}");
        assert_eq!(graph(&all, PLAIN), graph(&all, ChartLook { width: 72, ..PLAIN }));
    }
}
