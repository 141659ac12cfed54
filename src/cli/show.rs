//! `show`: one snapshot or clone whole: what the daemon tells of it, and how that is printed.

use super::args::ShowArgs;
use super::engine::{Backend, OpenFor, StoreOptions};
use super::held;
use super::home::{self, DONE};
use super::hydration;
use super::output;
use super::refusal::{told, told_clone, told_snapshot};
use super::served;
use crate::clock;
use crate::ctl::{Client, Code, Failure};
use crate::format::LineId;
use crate::format::provenance::Provenance;
use crate::fs::{Fs, method_of, stores_with};
use crate::names;
use crate::ops::{Error, NodeId, Timestamp};
use crate::sys::process::user_name;
use crate::volume::{CloneInfo, SnapshotInfo};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// How the word for a clone begins.
const CLONE_PREFIX: &[u8] = b".clones/";

/// All that is known of what a word names in the line that a node is of.
pub(super) fn answer(fs: &Fs, store: &Path, at: NodeId, word: &[u8]) -> Result<Value, Failure> {
    if let Some(name) = word.strip_prefix(CLONE_PREFIX) {
        let found =
            fs.volume().clones().into_iter().find(|clone| clone.line.name == name && !name.is_empty());
        return Ok(clone(fs, &found.ok_or_else(|| told_clone(name, &Error::NotFound))?));
    }
    if word == b"@live" {
        let what = "the live tree is no snapshot; snapfs status and snapfs info tell of it";
        return Err(Failure::new(Code::Invalid, format!("@live: {what}")));
    }
    let line = fs.line_at(at).map_err(|e| told(store, &e))?;
    let info = fs.snapshot_of_word(at, word).map_err(|e| told_snapshot(word, &e))?;
    snapshot(fs, &info, line).map_err(|e| told(store, &e))
}

fn snapshot(fs: &Fs, info: &SnapshotInfo, asked: LineId) -> Result<Value, Error> {
    let volume = fs.volume();
    let method = method_of(volume, info)?;
    let mut object = json!({
        "kind": "snapshot", "id": info.id.0, "inherited": info.line != asked, "created": time(info.created),
        "method": method, "consistency": info.consistency.name(), "pause_us": info.pause_ns / 1000,
        "referenced": info.referenced, "exclusive": info.exclusive, "written": info.written,
        "read_now": volume.is_read(info.id), "mounted_alone": fs.is_mounted_alone(info.id),
        "stores": stores_with(volume, info), "holds": held::all_of(fs, info.id),
    });
    if let Some(secs) = info.edited {
        object["edited"] = time((secs, 0)).into();
    }
    put(&mut object, "name", &info.name);
    let line = volume.line(info.line)?;
    put(&mut object, "line", &line_word(&line.name));
    let lineage = volume.lineage(info.line)?;
    let below = lineage.snapshots.iter().find(|s| s.id == info.id).and_then(|s| s.below);
    match below.and_then(|id| volume.snapshot_info(id)) {
        Some(below) => put(&mut object, "after", &below.name),
        None => object["after"] = Value::Null,
    }
    let clones = volume.clones().into_iter().filter(|clone| clone.line.origin == Some(info.id));
    let clones: Vec<Vec<u8>> = clones.map(|clone| clone.line.name).collect();
    names::put_list(
        &mut object,
        "clones",
        &clones.iter().map(|name| OsStr::from_bytes(name)).collect::<Vec<_>>(),
    );
    put_provenance(&mut object, &info.provenance);
    Ok(object)
}

fn clone(fs: &Fs, clone: &CloneInfo) -> Value {
    let line = &clone.line;
    let mut object = json!({
        "kind": "clone", "id": line.id.0, "created": time(line.created), "origin": null,
        "snapshots": clone.snapshots, "open_files": fs.open_files(line),
        "expires": line.terms.expiry.map(|e| time((e.at, 0))), "idle_seconds": line.terms.idling.map(|i| i.after),
        "referenced": clone.referenced, "exclusive": clone.exclusive, "written": clone.written,
    });
    put(&mut object, "name", &line.name);
    if let Some(from) = &clone.from {
        let from = line_word(from);
        let origin = match &clone.snapshot {
            Some(name) if from == b"." => [b".snapshots/", &name[..]].concat(),
            Some(name) => [&from[..], b"/.snapshots/", name].concat(),
            None => from,
        };
        put(&mut object, "origin", &origin);
    }
    put_provenance(&mut object, &line.provenance);
    object
}

fn line_word(name: &[u8]) -> Vec<u8> {
    if name.is_empty() { b".".to_vec() } else { [CLONE_PREFIX, name].concat() }
}

fn time((secs, nanos): (i64, u32)) -> String {
    output::rfc3339(Timestamp { secs, nanos })
}

fn put(object: &mut Value, key: &str, name: &[u8]) {
    names::put(object, key, OsStr::from_bytes(name));
}

fn put_provenance(object: &mut Value, made: &Provenance) {
    object["reason"] = made.reason.name().into();
    object["user"] = made.user.into();
    for (key, text) in [("description", &made.description), ("command", &made.command)] {
        match text.is_empty() {
            true => object[key] = Value::Null,
            false => put(object, key, text),
        }
    }
}

/// Prints it.
pub(super) fn run(backend: &dyn Backend, args: &ShowArgs) -> Result<u8, Failure> {
    match &args.name {
        Some(name) => view(backend, args, name).map(|()| DONE),
        None => home::show(args),
    }
}

fn view(backend: &dyn Backend, args: &ShowArgs, name: &OsStr) -> Result<(), Failure> {
    let mut request = json!({});
    names::put(&mut request, "name", name);
    let client = served::if_any(Client::connect(&args.target))?;
    let mut found = match served::ask_found(client.as_ref(), &args.target, "show", request)? {
        Some(found) => found,
        None => {
            let look = StoreOptions { access: OpenFor::Look, ..StoreOptions::default() };
            let engine = backend.open(&args.target, &look)?;
            let found = engine.show(NodeId::ROOT, name.as_bytes());
            engine.close()?;
            found?
        }
    };
    if found["kind"] == "snapshot" {
        put_state(&mut found);
    }
    let uid = found["user"].as_u64().and_then(|uid| u32::try_from(uid).ok());
    if let Some(name) = uid.and_then(user_name) {
        put(&mut found, "user_name", &name);
    }
    let printed = if args.json.json { output::print_json(&found) } else { output::print(&text(&found)) };
    printed.map_err(|e| Failure::new(Code::Other, e))
}

/// What its copies come to. A whole one is looked for where it was last: by who asks, who may wait for that as nobody else.
fn put_state(found: &mut Value) {
    let mut copies = found["copies"].as_array().cloned().unwrap_or_default();
    for copy in copies.iter_mut().filter(|copy| copy["state"] == "whole") {
        let is_gone = |to: Vec<u8>| match std::fs::symlink_metadata(OsStr::from_bytes(&to)) {
            Err(e) => e.kind() == std::io::ErrorKind::NotFound,
            Ok(_) => false,
        };
        if names::get(copy, "to").is_some_and(is_gone) {
            copy["state"] = "away".into();
        }
    }
    let (state, percent) = hydration::state_of(&copies);
    (found["state"], found["hydration_percent"]) = (state.into(), json!(percent));
    found["copies"] = Value::Array(copies);
}

fn text(found: &Value) -> String {
    let name = |key: &str| names::get(found, key).map(|name| names::shown_bytes(&name));
    let number = |key: &str| found[key].as_u64();
    let yes_no = |key: &str| found[key].as_bool().map(|is| if is { "yes" } else { "no" }.to_string());
    let user = number("user").map(|uid| match name("user_name") {
        Some(name) => format!("{name} ({uid})"),
        None => uid.to_string(),
    });
    let clones = names::get_list(found, "clones").filter(|all| !all.is_empty());
    let clones =
        clones.map(|all| all.iter().map(|name| names::shown_bytes(name)).collect::<Vec<_>>().join(" "));
    let all = || found["copies"].as_array().into_iter().flatten();
    let stores = found["stores"].as_array().into_iter().flatten();
    // Of these it is known where they are, too.
    let stores = stores.filter(|store| all().all(|copy| copy["store"] != **store)).filter_map(Value::as_str);
    let stores = Some(stores.collect::<Vec<_>>().join(" ")).filter(|stores| !stores.is_empty());
    let copy = |copy: &Value| {
        let to = names::get(copy, "to").map(|to| names::shown_bytes(&to)).unwrap_or_default();
        format!("{to} (store {}): {}", copy["store"].as_str().unwrap_or("?"), hydration::in_words(copy))
    };
    let copies: Vec<String> = all().map(copy).collect();
    let copies = Some(copies.join("; ")).filter(|copies| !copies.is_empty());
    let holds: Vec<String> = found["holds"].as_array().into_iter().flatten().map(held::in_words).collect();
    let holds = Some(holds.join("; ")).filter(|holds| !holds.is_empty());
    let created = found["created"].as_str().and_then(output::parse_rfc3339).map(output::local);
    let edited = found["edited"].as_str().and_then(output::parse_rfc3339).map(output::local);
    let expires = found["expires"].as_str().and_then(output::parse_rfc3339).map(output::local);
    let size = |key: &str| number(key).map(output::size);
    let parts = found["kind"] == "snapshot" && found["exclusive"].is_null();
    let all = [
        (found["kind"].as_str().unwrap_or("name"), name("name")),
        ("line", name("line")),
        ("inherited", yes_no("inherited").filter(|is| is == "yes")),
        ("origin", name("origin")),
        ("after", name("after")),
        ("created", created),
        ("edited, content was purged", edited),
        ("expires", expires),
        ("goes when idle for", number("idle_seconds").map(clock::span)),
        ("reason", name("reason")),
        ("description", name("description")),
        ("made by", user),
        ("command", name("command")),
        ("method", name("method")),
        ("state", found["state"].as_str().map(Into::into)),
        ("hydration", number("hydration_percent").map(|percent| format!("{percent} %"))),
        ("copies", copies),
        ("copy in store", stores),
        ("consistency", name("consistency")),
        ("pause", number("pause_us").map(|us| format!("{us} us"))),
        ("referenced", size("referenced")),
        ("exclusive", size("exclusive").or_else(|| parts.then(|| "- (snapfs space tells)".into()))),
        ("written", size("written")),
        ("snapshots", number("snapshots").map(|n| n.to_string())),
        ("clones", clones),
        ("held by", holds),
        ("open files", number("open_files").map(|n| n.to_string())),
        ("being read", yes_no("read_now")),
        ("mounted alone", yes_no("mounted_alone")),
    ];
    all.into_iter().filter_map(|(key, value)| Some(format!("{key}: {}\n", value?))).collect()
}
