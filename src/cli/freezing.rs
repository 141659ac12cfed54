//! What the daemon does for an order to freeze lines or to thaw them, and how it tells of those that are frozen.

use super::freeze_order::FrostWish;
use super::output::rfc3339;
use super::refusal::told;
use crate::clock;
use crate::ctl::{Code, Failure};
use crate::format::LineId;
use crate::fs::{FreezeDone, Frost, FrostEnd, Fs, ThawDone};
use crate::names;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Carries one out, and says what came of it: an object.
pub(super) fn carry_out(fs: &Fs, store: &Path, wish: &FrostWish) -> Result<Value, Failure> {
    let fails = |e| told(store, &e);
    match wish {
        FrostWish::Freeze(order) => match fs.freeze(order).map_err(fails)? {
            FreezeDone::Frozen(frost) => Ok(state(fs, &frost)),
            FreezeDone::Already(frost) => {
                let way = "'snapfs thaw MNT' ends that";
                Err(Failure::new(Code::Busy, format!("it is frozen already, {}: {way}", in_words(&frost))))
            }
            FreezeDone::NotInTime => {
                let timeout = clock::span(order.timeout.as_secs());
                let what =
                    "others were busy with it, and it is not frozen; try again, or with a longer --timeout";
                Err(Failure::new(Code::Busy, format!("it could not be frozen within {timeout}: {what}")))
            }
        },
        FrostWish::Thaw(at, of) => match fs.thaw(*at, of).map_err(fails)? {
            ThawDone::Thawed(frost) => Ok(state(fs, &frost)),
            ThawDone::Another(now, own) => {
                let now = in_words(&now);
                let what = match own {
                    Some(_) => format!("{}; it is frozen again, {now}, which goes on", not_frozen(own)),
                    None => format!("it is frozen, but {now}, which is another freeze and goes on"),
                };
                Err(Failure::new(Code::Busy, what))
            }
            ThawDone::NotFrozen(last) => Err(Failure::new(Code::NotFound, not_frozen(last))),
        },
        FrostWish::CallOff(number) => {
            fs.call_off_freeze(*number);
            Ok(json!({}))
        }
        FrostWish::End => {
            fs.end_frosts();
            Ok(json!({}))
        }
    }
}

/// Why there is nothing to thaw.
fn not_frozen(last: Option<Frost>) -> String {
    match last {
        Some(Frost { new, end: Some(FrostEnd::TimedOut), .. }) => format!(
            "it is not frozen any more: the freeze of {} ended by itself after {}, and changes have gone on since",
            rfc3339(new.since),
            clock::span(new.timeout.as_secs()),
        ),
        Some(Frost { new, end: Some(FrostEnd::ThawedByAnybody), .. }) => format!(
            "it is not frozen any more: the freeze of {} was thawed already, without its number, and changes have gone on since",
            rfc3339(new.since),
        ),
        _ => "it is not frozen".into(),
    }
}

/// By whom, since when and for how long.
fn in_words(frost: &Frost) -> String {
    let by = names::shown_bytes(&frost.new.by.command);
    let user = frost.new.by.user.map(|user| format!(" of user {user}")).unwrap_or_default();
    // It is frozen for less than a second, too.
    let left = clock::span(frost.left.as_secs().max(1));
    format!("by '{by}'{user} since {}, for {left} more", rfc3339(frost.new.since))
}

/// How all of a store are doing: for `status`.
pub(super) fn states(fs: &Fs) -> Value {
    let all = fs.frosts();
    if all.is_empty() { Value::Null } else { all.iter().map(|frost| state(fs, frost)).collect() }
}

/// One, for programs.
fn state(fs: &Fs, frost: &Frost) -> Value {
    let mut object = json!({
        "number": frost.number, "since": rfc3339(frost.new.since), "timeout_seconds": frost.new.timeout.as_secs(),
        "seconds_left": frost.left.as_secs(), "waiting": frost.waiting, "user": frost.new.by.user,
    });
    names::put(&mut object, "command", OsStr::from_bytes(&frost.new.by.command));
    let name = |line: LineId| fs.volume().line(line).map(|line| line.name).unwrap_or_default();
    let words = frost.new.lines.iter().map(|(line, _)| match &name(*line)[..] {
        b"" => b".".to_vec(),
        name => [b".clones/", name].concat(),
    });
    let words: Vec<Vec<u8>> = words.collect();
    names::put_list(
        &mut object,
        "lines",
        &words.iter().map(|word| OsStr::from_bytes(word)).collect::<Vec<_>>(),
    );
    object
}
