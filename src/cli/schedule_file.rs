//! Schedules as a TOML file: read with the line and column of every error, and written.
//!
//! Nothing in it is ever run: it has names, rules and nothing else.

use crate::schedule::{
    DEFAULT_SCHEDULE, RuleError, RuleWords, SCHEDULES_MAX, Schedule, is_schedule_name, parse_rule_word,
};
use std::fmt;
use std::fmt::Write;
use std::ops::Range;
use toml::de::{DeTable, DeValue};

/// What is wrong with a file, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct FileError {
    /// Counted from 1.
    pub(super) line: usize,
    /// The character in it, counted from 1.
    pub(super) column: usize,
    /// What is wrong, and what would be right.
    pub(super) what: String,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.what)
    }
}

/// The same, by the byte at which it is.
pub(super) type AtByte<T> = Result<T, (usize, String)>;

const KEYS: &str = "name, every, keep, budget, free, always, timer";

/// The schedules of a file.
pub(super) fn read(text: &str) -> Result<Vec<Schedule>, FileError> {
    located(text, parse(text))
}

/// What was read of a text, with errors by line and column.
pub(super) fn located<T>(text: &str, found: AtByte<T>) -> Result<T, FileError> {
    found.map_err(|(at, what)| {
        let before = text.get(..at).unwrap_or(text);
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
        FileError { line, column: before[start..].chars().count() + 1, what }
    })
}

fn parse(text: &str) -> AtByte<Vec<Schedule>> {
    let file = DeTable::parse(text)
        .map_err(|e| (e.span().map_or(0, |span| span.start), e.message().trim().replace('\n', ", ")))?;
    let mut all: Vec<Schedule> = Vec::new();
    for (key, value) in file.get_ref() {
        if key.get_ref() != "schedule" {
            let what = format!("'{}' means nothing here: schedules are tables [[schedule]]", key.get_ref());
            return Err((key.span().start, what));
        }
        let DeValue::Array(tables) = value.get_ref() else {
            return Err((key.span().start, "write it as [[schedule]], once for each".into()));
        };
        for table in tables {
            let at = table.span().start;
            let DeValue::Table(fields) = table.get_ref() else {
                return Err((at, "a schedule is a table: [[schedule]]".into()));
            };
            let schedule = schedule(text, fields, at)?;
            if all.iter().any(|other| other.name == schedule.name) {
                return Err((at, format!("a second schedule called '{}'", schedule.name)));
            }
            if all.len() == SCHEDULES_MAX {
                return Err((at, format!("a line has {SCHEDULES_MAX} schedules at most")));
            }
            all.push(schedule);
        }
    }
    Ok(all)
}

fn schedule(text: &str, fields: &DeTable<'_>, at: usize) -> AtByte<Schedule> {
    let (mut words, mut name) = (RuleWords::default(), DEFAULT_SCHEDULE.to_string());
    for (key, value) in fields {
        let span = value.span();
        let key_at = key.span().start;
        match (&key.get_ref()[..], value.get_ref()) {
            ("name", DeValue::String(text)) if is_schedule_name(text) => name = text.to_string(),
            ("name", _) => {
                return Err((span.start, "a name is up to 32 letters, digits, '-', '_' and '.'".into()));
            }
            (key @ ("every" | "keep" | "budget" | "free"), DeValue::String(rule)) => {
                word(&mut words, text, (key, rule), &span)?;
            }
            ("keep", DeValue::Array(items)) => {
                let mut all = Vec::new();
                for item in items {
                    let DeValue::String(class) = item.get_ref() else {
                        return Err((item.span().start, "text, such as \"24h\"".into()));
                    };
                    // Each by itself first, so that an error is where it is.
                    word(&mut RuleWords::default(), text, ("keep", class), &item.span())?;
                    all.push(class.to_string());
                }
                word(&mut words, text, ("keep", &all.join(",")), &(span.start..span.start))?;
            }
            ("always", DeValue::Boolean(true)) => rule(&mut words, "always", key_at)?,
            ("timer", DeValue::Boolean(false)) => rule(&mut words, "timer=off", key_at)?,
            ("always" | "timer", DeValue::Boolean(_)) => {}
            ("always" | "timer", _) => return Err((span.start, "true or false".into())),
            ("every" | "keep" | "budget" | "free", _) => {
                return Err((span.start, format!("text in quotation marks: {} = \"...\"", key.get_ref())));
            }
            _ => return Err((key_at, format!("'{}' is no key; there are {KEYS}", key.get_ref()))),
        }
    }
    words.complete(&name, 1).map_err(|e| (at, e.what))
}

fn rule(words: &mut RuleWords, word: &str, at: usize) -> AtByte<()> {
    parse_rule_word(words, word, 1).map_err(|e| (at, e.what))
}

/// A rule whose value stands in the file at a span, in quotation marks.
fn word(words: &mut RuleWords, text: &str, (key, value): (&str, &str), span: &Range<usize>) -> AtByte<()> {
    parse_rule_word(words, &format!("{key}={value}"), 1).map_err(|RuleError { column, what }| {
        // If the value stands there as it is, the error is as far in it as in the word.
        let inner = text.get(span.clone()).and_then(|quoted| quoted.get(1..)).unwrap_or_default();
        let into = column.saturating_sub(key.chars().count() + 2);
        let bytes: usize = value.chars().take(into).map(char::len_utf8).sum();
        let at = if inner.starts_with(value) { span.start + 1 + bytes } else { span.start };
        (at, what)
    })
}

/// A file of which [`read`] makes the same schedules.
pub(super) fn written(all: &[Schedule]) -> String {
    let mut out = String::from("# Schedules of a snapfs line: snapfs schedule MNT --from FILE.toml\n");
    for schedule in all {
        out.push_str("\n[[schedule]]\n");
        let _ = writeln!(out, "name = \"{}\"", schedule.name);
        for rule in schedule.to_string().split(' ') {
            let _ = match rule.split_once('=') {
                Some(("timer", _)) => writeln!(out, "timer = false"),
                Some((key, value)) => writeln!(out, "{key} = \"{value}\""),
                None => writeln!(out, "{rule} = true"),
            };
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::parse_rules;

    #[test]
    fn files_are_written_and_read() {
        let all = vec![
            parse_rules("default", "every=15m keep=24h,7d,4w,12mo,2y budget=20% free=5G").unwrap(),
            parse_rules("nightly", "every=1d keep=all always timer=off").unwrap(),
        ];
        assert_eq!(read(&written(&all)), Ok(all));
        assert_eq!(read(""), Ok(Vec::new()));
        let other = "[[schedule]]\nevery = \"1h\"\nkeep = [\"24h\", '7d']\nalways = false\ntimer = true\n";
        assert_eq!(read(other), Ok(vec![parse_rules("default", "every=1h keep=24h,7d").unwrap()]));
    }

    #[test]
    fn errors_are_where_they_are() {
        for (text, line, column, what) in [
            ("[[schedule]]\nevery = \"1h\"\nkeep = \"24h,7m\"\n", 3, 14, "7min or 7mo"),
            ("[[schedule]]\nevery = \"1h\"\nkeep = [\"24h\",\n  \"7m\"]\n", 4, 5, "7min or 7mo"),
            ("[[schedule]]\nevery = \"30s\"\nkeep = \"24h\"\n", 2, 12, "a minute is the shortest"),
            ("[[schedule]]\nkeep = \"24h\"\n", 1, 1, "how often is missing"),
            ("[[schedule]]\nevery = 15\nkeep = \"24h\"\n", 2, 9, "quotation marks"),
            ("[[schedule]]\nevery = \"1h\"\nkeep = \"24h\"\nrun = \"rm -rf /\"\n", 4, 1, "'run' is no key"),
            ("[[schedule]]\nevery = \"1h\"\nkeep = \"24h\"\nalways = 1\n", 4, 10, "true or false"),
            ("[[schedule]]\nname = \"a b\"\n", 2, 8, "a name is"),
            ("every = \"1h\"\n", 1, 1, "[[schedule]]"),
            ("[schedule]\nevery = \"1h\"\n", 1, 2, "[[schedule]]"),
            ("[[schedule]]\nevery = \"1h\nkeep = 5\n", 2, 12, ""),
            ("[[schedule]]\nevery = \"1h\"\nevery = \"2h\"\n", 3, 1, ""),
            ("[[schedule]]\nbudget = \"\u{e4}%\"\n", 2, 11, "no amount of space"),
        ] {
            let error = read(text).expect_err(text);
            assert_eq!((error.line, error.column), (line, column), "{text}: {error}");
            assert!(error.what.contains(what), "{text}: {error}");
        }
        let two = "[[schedule]]\nevery = \"1h\"\nkeep = \"24h\"\n".repeat(2);
        let error = read(&two).unwrap_err();
        assert_eq!(error.line, 4, "{error}");
        let many: String = (0..9)
            .map(|n| format!("[[schedule]]\nname = \"n{n}\"\nevery = \"1h\"\nkeep = \"all\"\n"))
            .collect();
        assert_eq!(read(&many).unwrap_err().line, 33);
    }
}
