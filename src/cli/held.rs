//! What holds a snapshot, and by whom, as the daemon tells it: holds, copies that are being made, what is sent of it and received
//! against it, and mounts of it alone. The same words in lists, in `show`, and where a deletion is refused.

use super::engine::SnapshotRow;
use super::hold_order::{HoldOrder, WantedHold};
use super::listed::listed;
use super::output;
use super::refusal::{told_clone, told_name, told_snapshot};
use super::streaming::TRANSFER_PREFIX;
use crate::ctl::{Code, Failure};
use crate::format::ViewId;
use crate::format::hold::HoldRecord;
use crate::format::hydration::CopyHold;
use crate::format::line::LineState;
use crate::format::provenance::Provenance;
use crate::fs::{Departure, Fs, HoldTerms, Reached};
use crate::names;
use crate::ops::{Error, NodeId, Timestamp};
use crate::sys::process::user_name;
use crate::volume::SnapshotInfo;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

fn time(secs: i64) -> String {
    output::rfc3339(Timestamp { secs, nanos: 0 })
}

fn put(object: &mut Value, key: &str, name: &[u8]) {
    names::put(object, key, OsStr::from_bytes(name));
}

fn told_hold(fs: &Fs, hold: &HoldRecord) -> Value {
    let mut object = json!({
        "kind": "hold", "tag": hold.tag, "since": time(hold.since_secs), "user": hold.by.user,
        "expires": hold.ends.map(|ends| time(fs.time_of_age(ends))),
    });
    match hold.by.command.is_empty() {
        true => object["command"] = Value::Null,
        false => put(&mut object, "command", &hold.by.command),
    }
    object
}

/// What is being sent and has no hold that says so.
fn told_departures(fs: &Fs) -> impl Iterator<Item = Departure> {
    let is_told = |departure: &Departure| {
        let holds = fs.volume().holds_of(departure.view);
        holds.iter().any(|hold| hold.tag.starts_with(TRANSFER_PREFIX))
    };
    let mut all = fs.departures();
    all.retain(|departure| !is_told(departure));
    all.into_iter()
}

/// All that holds a snapshot.
pub(super) fn all_of(fs: &Fs, view: ViewId) -> Vec<Value> {
    let volume = fs.volume();
    let mut all: Vec<Value> = volume.holds_of(view).iter().map(|hold| told_hold(fs, hold)).collect();
    for copy in volume.hydrations_of(view).into_iter().filter(|copy| copy.holds()) {
        let ends = match copy.hold {
            CopyHold::Until(ends) => Some(time(fs.time_of_age(ends))),
            CopyHold::Always | CopyHold::Ended => None,
        };
        let mut object = json!({
            "kind": "copy", "tag": "copy", "since": time(copy.begun_secs), "user": copy.user, "expires": ends,
        });
        put(&mut object, "to", &copy.path);
        all.push(object);
    }
    if let Some(line) = volume.received_against(view) {
        let ends = line.terms.expiry.map(|expiry| time(expiry.at));
        all.push(json!({
            "kind": "receive", "tag": "receive", "since": time(line.created.0), "user": line.provenance.user,
            "expires": ends,
        }));
    }
    for departure in told_departures(fs).filter(|departure| departure.view == view) {
        let since = time(departure.since_secs);
        let object =
            json!({"kind": "send", "tag": "send", "since": since, "user": departure.user, "expires": null});
        all.push(object);
    }
    if fs.is_mounted_alone(view) {
        all.push(json!({"kind": "mount", "tag": "mount", "since": null, "user": null, "expires": null}));
    }
    all
}

/// One in words: what it is called, by whom, until when.
pub(super) fn in_words(hold: &Value) -> String {
    let (tag, more) = (hold["tag"].as_str().unwrap_or_default(), more_of(hold));
    if more.is_empty() { tag.into() } else { format!("{tag} ({more})") }
}

/// By whom one is and until when.
fn more_of(hold: &Value) -> String {
    let uid = hold["user"].as_u64().and_then(|uid| u32::try_from(uid).ok());
    let by = uid.map(|uid| match user_name(uid) {
        Some(name) => format!("by {}", names::shown_bytes(&name)),
        None => format!("by user {uid}"),
    });
    let local = |key: &str| hold[key].as_str().and_then(output::parse_rfc3339).map(output::local);
    let to = names::get(hold, "to").map(|to| format!("to {}", names::shown_bytes(&to)));
    let until = match (local("expires"), hold["kind"].as_str().unwrap_or_default()) {
        (Some(expires), "copy") => {
            Some(format!("until that is whole, or until {expires} if it does not go on"))
        }
        (Some(expires), "receive") => Some(format!("until {expires} unless it goes on")),
        (Some(expires), _) => Some(format!("until {expires}")),
        (None, "copy") => Some("until that is whole".into()),
        (None, "send") => Some("until that has ended".into()),
        (None, "mount") => Some("until it is unmounted".into()),
        (None, _) => None,
    };
    let parts: Vec<String> =
        [to, by, local("since").map(|since| format!("since {since}")), until].into_iter().flatten().collect();
    parts.join(", ")
}

/// Snapshots as they are listed, with what holds each.
pub(super) fn rows(fs: &Fs, all: &[SnapshotInfo]) -> Vec<SnapshotRow> {
    let volume = fs.volume();
    let mut tags: HashMap<ViewId, Vec<String>> = HashMap::new();
    for hold in volume.holds() {
        tags.entry(hold.view).or_default().push(hold.tag);
    }
    for copy in volume.hydrations().into_iter().filter(|copy| copy.holds()) {
        tags.entry(copy.view).or_default().push("copy".into());
    }
    let arriving = volume.lines().into_iter().filter(|line| line.state == LineState::Receiving);
    for base in arriving.filter_map(|line| line.base) {
        let of = tags.entry(base).or_default();
        of.extend((!of.iter().any(|tag| tag == "receive")).then(|| "receive".into()));
    }
    for departure in told_departures(fs) {
        let of = tags.entry(departure.view).or_default();
        of.extend((!of.iter().any(|tag| tag == "send")).then(|| "send".into()));
    }
    let with_tags =
        |s: &SnapshotInfo| SnapshotRow { held: tags.remove(&s.id).unwrap_or_default(), ..listed(s) };
    all.iter().map(with_tags).collect()
}

/// Why a snapshot cannot be deleted.
pub(super) fn told_kept(fs: &Fs, at: NodeId, name: &[u8], e: &Error) -> Failure {
    let found = fs.line_at(at).ok().and_then(|line| fs.volume().find_snapshot(line, name));
    let held = found.filter(|_| *e == Error::Busy).and_then(|found| refused(fs, name, found.id));
    held.unwrap_or_else(|| told_name(name, e))
}

/// Why a clone cannot be dropped.
pub(super) fn told_kept_clone(fs: &Fs, name: &[u8], e: &Error) -> Failure {
    let line = fs.volume().find_line(name).filter(|_| *e == Error::Busy);
    let own = line.map(|line| fs.volume().own_snapshots(line.id)).unwrap_or_default();
    let held = own.iter().find_map(|s| refused(fs, &s.name, s.id));
    held.unwrap_or_else(|| told_clone(name, e))
}

/// What keeps a snapshot from being deleted, by whom and until when, if it is a hold, a purge, a copy that is made of it, or what
/// is sent or received.
fn refused(fs: &Fs, name: &[u8], view: ViewId) -> Option<Failure> {
    let (name, volume, all) = (names::shown_bytes(name), fs.volume(), all_of(fs, view));
    let tags: Vec<String> = volume.holds_of(view).into_iter().map(|hold| hold.tag).collect();
    if let Some(first) = tags.first() {
        let way = format!("'snapfs release MNT {name} --tag {first}' lets it go");
        let holds = all.iter().filter(|hold| hold["kind"] == "hold").map(in_words);
        let holds = holds.collect::<Vec<_>>().join("; ");
        let what = format!("{name}: it is held ({}); {way}; {holds}", tags.join(", "));
        return Some(Failure::new(Code::Busy, what));
    }
    if volume.is_needed_to_purge(view) {
        let what =
            "a purge that has some left to do finds what others share from it, and it goes when that is done";
        return Some(Failure::new(Code::Busy, format!("{name}: {what}")));
    }
    let first = all.into_iter().find(|hold| hold["kind"] != "mount")?;
    let (more, what) = (more_of(&first), first["kind"].as_str().unwrap_or_default());
    let what = match what {
        "copy" => {
            format!("it is being copied ({more}); 'snapfs hydrate MNT {name} cancel' gives the copy up")
        }
        "send" => {
            format!("it is being sent ({more}): let that come to its end, or end the command that sends it")
        }
        _ => format!(
            "in use: what comes from another store is told against it ({more}); let that be finished, or give it up with \
             snapfs receive --drop TOKEN (snapfs list tells which)"
        ),
    };
    Some(Failure::new(Code::Busy, format!("{name}: {what}")))
}

/// Carries out an order about holds of snapshots of the line that a node is of.
pub(super) fn carry_out(fs: &Fs, at: NodeId, order: &HoldOrder, by: &Provenance) -> Result<Value, Failure> {
    let find = |name: &[u8]| match name.strip_prefix(b".clones/") {
        Some(clone) => {
            let clone = names::shown_bytes(clone);
            let what =
                "a clone is not held, but snapshots of it are, and it with them: snapfs hold MNT/.clones/";
            Err(Failure::new(Code::Invalid, format!(".clones/{clone}: {what}{clone} NAME")))
        }
        None => fs.snapshot_of_word(at, name).map_err(|e| told_snapshot(name, &e)),
    };
    match order {
        HoldOrder::Put(name, wanted) => {
            let found = find(name)?;
            let terms = HoldTerms { tag: &wanted.tag, after: wanted.after };
            let hold = fs.hold_snapshot(at, found.id, &terms, by);
            let hold = hold.map_err(|e| told_put(&found.name, wanted, &e))?;
            let mut told = told_hold(fs, &hold);
            put(&mut told, "snapshot", &found.name);
            Ok(told)
        }
        HoldOrder::Release(name, tag) => {
            let found = find(name)?;
            let shown = names::shown_bytes(&found.name);
            let tags: Vec<String> = fs.volume().holds_of(found.id).into_iter().map(|hold| hold.tag).collect();
            let tag = match (tag, &tags[..]) {
                (Some(tag), _) if tags.contains(tag) => tag,
                (None, [tag]) => tag,
                (None, [_, ..]) => {
                    let what = format!("it has several holds: say --tag, one of {}", tags.join(", "));
                    return Err(Failure::new(Code::Invalid, format!("{shown}: {what}")));
                }
                (tag, []) => {
                    let which = tag.as_ref().map_or(String::new(), |tag| format!(" '{tag}'"));
                    return Err(Failure::new(Code::NotFound, format!("{shown}: it has no hold{which}")));
                }
                (Some(tag), _) => {
                    let what = format!("it has no hold '{tag}', but {}", tags.join(", "));
                    return Err(Failure::new(Code::NotFound, format!("{shown}: {what}")));
                }
            };
            fs.release_snapshot(at, found.id, tag).map_err(|e| told_inherited(&found.name, &e))?;
            let mut told = json!({"tag": tag});
            put(&mut told, "snapshot", &found.name);
            Ok(told)
        }
        HoldOrder::Tell => {
            let line = fs.line_at(at).map_err(|e| told_name(b"", &e))?;
            let mut all = Vec::new();
            for snapshot in fs.volume().snapshots(line) {
                for mut hold in all_of(fs, snapshot.id) {
                    put(&mut hold, "snapshot", &snapshot.name);
                    all.push(hold);
                }
            }
            Ok(Value::Array(all))
        }
    }
}

/// Makes a snapshot that is held from the first moment on.
pub(super) fn create(
    fs: &Fs,
    at: NodeId,
    name: &[u8],
    (provenance, reached): (&Provenance, Reached<'_>),
    wanted: &WantedHold,
) -> Result<(), Failure> {
    let terms = HoldTerms { tag: &wanted.tag, after: wanted.after };
    fs.create_held_snapshot(at, name, (provenance, reached), &terms)
        .map(drop)
        .map_err(|e| told_name(name, &e))
}

fn told_put(name: &[u8], wanted: &WantedHold, e: &Error) -> Failure {
    let shown = names::shown_bytes(name);
    match e {
        Error::Exists => {
            let what = format!("it has a hold '{}' already: give this one another --tag", wanted.tag);
            Failure::new(Code::Exists, format!("{shown}: {what}"))
        }
        Error::LimitReached => {
            let what = "a snapshot has 32 holds at most: snapfs release some";
            Failure::new(Code::NoSpace, format!("{shown}: {what}"))
        }
        e => told_inherited(name, e),
    }
}

fn told_inherited(name: &[u8], e: &Error) -> Failure {
    match e {
        Error::NotPermitted => {
            let what = "it is another line's, from which this was cloned: hold and release it there";
            Failure::new(Code::Denied, format!("{}: {what}", names::shown_bytes(name)))
        }
        e => told_name(name, e),
    }
}
