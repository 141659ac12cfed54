//! Rules as users write them: `every=15m keep=24h,7d,4w,12mo,2y budget=20% free=5%`.
//!
//! Every error names the column at which it is. A bare `m` means minutes where a stretch of time is meant, as everywhere; in a
//! list of what is kept it would as well mean months, and is refused with both meanings told.

use super::keep::unit_list;
use crate::format::schedule::{Class, Period, Schedule, Share, Unit};
use std::fmt;

/// What is wrong with rules, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuleError {
    /// The character at which it is, counted from 1.
    pub column: usize,
    /// What is wrong, and what would be right.
    pub what: String,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: {}", self.column, self.what)
    }
}

type Result<T> = std::result::Result<T, RuleError>;

const WORDS: &str = "every=, keep=, budget=, free=, always, on-change, timer=on|off";
const EVERY_EXAMPLE: &str = "such as every=15m, every=1h or every=1d";
const KEEP_EXAMPLE: &str = "such as keep=24h,7d,4w,12mo,2y, or keep=all";

fn wrong<T>(column: usize, what: impl Into<String>) -> Result<T> {
    Err(RuleError { column, what: what.into() })
}

/// Rules on their way in: which of them were said, and where.
#[derive(Default)]
pub struct RuleWords {
    every: Option<Period>,
    keep: Option<Vec<Class>>,
    budget: Option<Share>,
    free: Option<Share>,
    always: Option<bool>,
    by_timer: Option<bool>,
}

/// A schedule of that name from a line of rules.
pub fn parse_rules(name: &str, text: &str) -> Result<Schedule> {
    let (mut said, mut column) = (RuleWords::default(), 1);
    for piece in text.split(char::is_whitespace) {
        if !piece.is_empty() {
            parse_rule_word(&mut said, piece, column)?;
        }
        column += piece.chars().count() + 1;
    }
    said.complete(name, text.trim_end().chars().count() + 1)
}

/// One word of a line of rules, which begins at that column.
pub fn parse_rule_word(said: &mut RuleWords, word: &str, column: usize) -> Result<()> {
    let (key, value) = match word.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (word, None),
    };
    let value_at = column + key.chars().count() + 1;
    match (key, value) {
        ("every", Some(value)) => once(&mut said.every, every(value, value_at)?, key, column),
        ("keep", Some(value)) => once(&mut said.keep, keep(value, value_at)?, key, column),
        ("budget", Some(value)) => once(&mut said.budget, share(value, value_at)?, key, column),
        ("free", Some(value)) => once(&mut said.free, share(value, value_at)?, key, column),
        ("always", None) => once(&mut said.always, true, "always or on-change", column),
        ("on-change", None) => once(&mut said.always, false, "always or on-change", column),
        ("timer", Some("on")) => once(&mut said.by_timer, true, key, column),
        ("timer", Some("off")) => once(&mut said.by_timer, false, key, column),
        ("timer", Some(value)) => wrong(value_at, format!("'{value}' is neither on nor off")),
        ("every" | "keep" | "budget" | "free" | "timer", None) => {
            wrong(value_at - 1, format!("a value is missing: {key}=..."))
        }
        ("always" | "on-change", Some(_)) => wrong(value_at - 1, format!("{key} stands alone")),
        _ => wrong(column, format!("'{key}' is no rule; there are {WORDS}")),
    }
}

fn once<T>(place: &mut Option<T>, value: T, key: &str, column: usize) -> Result<()> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => wrong(column, format!("{key} was said before")),
    }
}

impl RuleWords {
    /// All of it; what is missing would stand at that column.
    pub fn complete(self, name: &str, end: usize) -> Result<Schedule> {
        let Some(every) = self.every else {
            return wrong(end, format!("how often is missing: every=, {EVERY_EXAMPLE}"));
        };
        let Some(keep) = self.keep else {
            return wrong(end, format!("what is kept is missing: keep=, {KEEP_EXAMPLE}"));
        };
        Ok(Schedule {
            name: name.into(),
            every,
            keep,
            budget: self.budget,
            free: self.free,
            always: self.always.unwrap_or(false),
            by_hand: !self.by_timer.unwrap_or(true),
        })
    }
}

/// Digits, and what is behind them. A number that does not fit is as good as none.
fn number(text: &str) -> (Option<u32>, usize, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    (text[..digits].parse().ok(), digits, &text[digits..])
}

fn unit(text: &str) -> Option<Unit> {
    Unit::ALL.into_iter().find(|unit| unit.name() == text)
}

fn every(value: &str, column: usize) -> Result<Period> {
    let (count, digits, name) = number(value);
    let at = column + digits;
    let unit = match name {
        "m" => Unit::Minute,
        "s" => return wrong(at, "a minute is the shortest time: every=1m"),
        "" => return wrong(at, format!("a unit is missing: m or min (minutes), {}", unit_list_from_hours())),
        _ => match unit(name) {
            Some(unit) => unit,
            None => {
                return wrong(
                    at,
                    format!("'{name}' is no unit; there are m or min (minutes), {}", unit_list_from_hours()),
                );
            }
        },
    };
    match count {
        Some(0) => wrong(column, "every 0 is never"),
        Some(count) if count <= COUNT_MAX => Ok(Period { count, unit }),
        _ if digits == 0 => wrong(column, format!("a number is missing, {EVERY_EXAMPLE}")),
        _ => wrong(column, format!("that is too much: {COUNT_MAX} at most")),
    }
}

/// No period or class has more.
const COUNT_MAX: u32 = 1_000_000;

fn unit_list_from_hours() -> String {
    let all = unit_list();
    all.split_once(", ").map(|(_, rest)| rest.to_string()).unwrap_or(all)
}

fn keep(value: &str, column: usize) -> Result<Vec<Class>> {
    if value == "all" {
        return Ok(Vec::new());
    }
    let (mut classes, mut at) = (Vec::<Class>::new(), column);
    for item in value.split(',') {
        let class = class(item, at)?;
        if classes.iter().any(|other| other.unit == class.unit) {
            return wrong(at, format!("{}s were said before", class.unit.word()));
        }
        classes.push(class);
        at += item.chars().count() + 1;
    }
    classes.sort_by_key(|class| class.unit);
    Ok(classes)
}

fn class(item: &str, column: usize) -> Result<Class> {
    let (count, digits, name) = number(item);
    let at = column + digits;
    if item.is_empty() {
        return wrong(column, format!("nothing is said here, {KEEP_EXAMPLE}"));
    }
    let unit = match (unit(name), name) {
        (Some(unit), _) => unit,
        (None, "m") => {
            let n = &item[..digits];
            return wrong(at, format!("'{n}m' could be minutes or months: write {n}min or {n}mo"));
        }
        (None, "") => return wrong(at, format!("a unit is missing: {}", unit_list())),
        (None, _) => return wrong(at, format!("'{name}' is no unit; there are {}", unit_list())),
    };
    match count {
        Some(0) => wrong(column, format!("0{name} keeps nothing: leave it out")),
        Some(count) if count <= COUNT_MAX => Ok(Class { count, unit }),
        _ if digits == 0 => wrong(column, format!("a number is missing, {KEEP_EXAMPLE}")),
        _ => wrong(column, format!("that is too much: {COUNT_MAX} at most")),
    }
}

const SIZES: [(&str, u32); 5] = [("", 0), ("K", 10), ("M", 20), ("G", 30), ("T", 40)];

fn share(value: &str, column: usize) -> Result<Share> {
    match parse_share(value) {
        Some(share) => Ok(share),
        None => wrong(column, format!("'{value}' is no amount of space, such as 20% (of the store) or 50G")),
    }
}

/// `20%`, or `50G`.
pub fn parse_share(text: &str) -> Option<Share> {
    let digits = |text: &str| -> Option<u64> {
        let proper = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|_| proper)
    };
    if let Some(percent) = text.strip_suffix('%') {
        let percent = digits(percent).filter(|percent| (1..=100).contains(percent))?;
        return Some(Share::Percent(percent as u8));
    }
    let text = text.strip_suffix("iB").or(text.strip_suffix('B')).unwrap_or(text);
    let (number, shift) = SIZES.iter().rev().find_map(|(unit, shift)| {
        let end = text.len().checked_sub(unit.len())?;
        let (number, end) = text.split_at_checked(end)?;
        end.eq_ignore_ascii_case(unit).then_some((number, *shift))
    })?;
    let bytes = digits(number)?.checked_mul(1 << shift).filter(|bytes| *bytes > 0)?;
    Some(Share::Bytes(bytes))
}

/// The other way.
pub fn share_text(share: Share) -> String {
    match share {
        Share::Percent(percent) => format!("{percent}%"),
        Share::Bytes(bytes) => {
            let (unit, shift) =
                SIZES.iter().rev().find(|(_, s)| bytes.is_multiple_of(1 << s)).unwrap_or(&SIZES[0]);
            format!("{}{unit}", bytes >> shift)
        }
    }
}

/// As it can be parsed again, without its name.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "every={} keep={}", self.every, keep_text(self))?;
        self.budget.map_or(Ok(()), |share| write!(f, " budget={}", share_text(share)))?;
        self.free.map_or(Ok(()), |share| write!(f, " free={}", share_text(share)))?;
        f.write_str(if self.always { " always" } else { "" })?;
        f.write_str(if self.by_hand { " timer=off" } else { "" })
    }
}

/// What it keeps, as a list.
fn keep_text(schedule: &Schedule) -> String {
    if schedule.keep.is_empty() {
        return "all".into();
    }
    let all: Vec<String> = schedule.keep.iter().map(|c| format!("{}{}", c.count, c.unit.name())).collect();
    all.join(",")
}
