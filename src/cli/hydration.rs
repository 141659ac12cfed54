//! How copies in other stores are told.

use super::limit::UNLIMITED;
use super::output;
use crate::names;
use serde_json::Value;

/// How many of a hundred parts are done.
pub(super) fn percent(copy: &Value) -> u64 {
    let number = |key: &str| copy[key].as_u64().unwrap_or(0);
    match (copy["state"].as_str(), number("about_bytes")) {
        (Some("whole" | "away"), _) => 100,
        (_, 0) => 0,
        (_, all) => (number("done_bytes").saturating_mul(100) / all).min(99),
    }
}

/// How a copy stands, in some words.
pub(super) fn in_words(copy: &Value) -> String {
    let number = |key: &str| copy[key].as_u64();
    let size = |key: &str| output::size(number(key).unwrap_or(0));
    let done = || format!("{} of about {} ({} %)", size("done_bytes"), size("about_bytes"), percent(copy));
    let left = number("eta_seconds").map_or(String::new(), |s| format!(", {} left", output::duration(s)));
    let limit = number("limit_bytes").map_or(String::new(), |l| format!(", at most {}/s", output::size(l)));
    let why = copy["trouble"].as_str().map(names::sentence).unwrap_or_default();
    match copy["state"].as_str().unwrap_or("unknown") {
        "running" => format!("running, {}, {}/s{left}{limit}", done(), size("rate_bytes")),
        state @ ("whole" | "away") => {
            let ended = copy["ended"].as_str().and_then(output::parse_rfc3339).map(output::local);
            let whole = format!("whole since {}", ended.unwrap_or_default());
            if state == "away" { format!("away: nothing is there now; {whole}") } else { whole }
        }
        "waiting" => format!("waiting, {}: {why}", done()),
        state => format!("{state}, {}{limit}", done()),
    }
}

/// What all copies of a snapshot come to, in words, and how many of a hundred parts of the one are done that has the least.
pub(super) fn state_of(copies: &[Value]) -> (&'static str, Option<u64>) {
    let is = |copy: &&Value, states: &[&str]| states.contains(&copy["state"].as_str().unwrap_or_default());
    let is_done = |copy: &&Value| is(copy, &["whole", "away"]);
    let left: Vec<&Value> = copies.iter().filter(|copy| !is_done(copy)).collect();
    let state = match (copies, &left[..]) {
        ([], _) => "here alone",
        (_, []) if copies.iter().any(|copy| is(&copy, &["whole"])) => "copied",
        (_, []) => "copied, and the copy is away",
        (_, left) if left.iter().all(|copy| is(copy, &["paused"])) => "being copied, which is paused",
        _ => "being copied",
    };
    let least = left.into_iter().map(percent).min();
    (state, least.or((!copies.is_empty()).then_some(100)))
}

/// Copies that are not whole, as a table; none if there is none.
pub(super) fn table(copies: &Value) -> Option<String> {
    let rows = copies.as_array().into_iter().flatten().filter(|copy| copy["state"] != "whole").map(|copy| {
        let shown =
            |key: &str| names::get(copy, key).map(|name| names::shown_bytes(&name)).unwrap_or_default();
        vec![shown("name"), shown("to"), in_words(copy)]
    });
    let rows: Vec<_> = rows.collect();
    (!rows.is_empty()).then(|| output::table(&["COPYING", "TO STORE", "STATE"], &rows, &[]))
}

/// A limit as it is told, if it is one.
pub(super) fn told_limit(rate: u64) -> Option<u64> {
    Some(rate).filter(|rate| *rate != 0 && *rate != UNLIMITED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn all_copies_of_a_snapshot_come_to_one_state() {
        let copy = |state: &str| json!({"state": state, "done_bytes": 1, "about_bytes": 4});
        let of = |states: &[&str]| state_of(&states.iter().map(|state| copy(state)).collect::<Vec<_>>());
        assert_eq!(of(&[]), ("here alone", None));
        assert_eq!(of(&["whole", "away"]), ("copied", Some(100)));
        assert_eq!(of(&["away"]), ("copied, and the copy is away", Some(100)));
        assert_eq!(of(&["whole", "paused"]), ("being copied, which is paused", Some(25)));
        assert_eq!(of(&["paused", "waiting"]), ("being copied", Some(25)));
    }

    #[test]
    fn copies_are_told_in_words() {
        let mut copy = json!({
            "state": "running", "done_bytes": 1 << 20, "about_bytes": 4 << 20, "rate_bytes": 1 << 10,
            "eta_seconds": 3072, "limit_bytes": 2048, "trouble": "it is away",
        });
        let words = "running, 1.0 MiB of about 4.0 MiB (25 %), 1.0 KiB/s, 51:12 left, at most 2.0 KiB/s";
        assert_eq!(in_words(&copy), words);
        copy["state"] = "waiting".into();
        assert!(in_words(&copy).ends_with(": it is away"));
        copy["done_bytes"] = (5 << 20).into();
        assert_eq!(percent(&copy), 99);
        copy["state"] = "whole".into();
        assert_eq!(percent(&copy), 100);
        copy["state"] = "away".into();
        assert!(
            in_words(&copy).starts_with("away: nothing is there now; whole since"),
            "{}",
            in_words(&copy)
        );
        assert_eq!((told_limit(0), told_limit(9), told_limit(UNLIMITED)), (None, Some(9), None));
    }
}
