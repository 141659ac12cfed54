//! `merge` and `rebase`: what a clone changed, into its line, and the other way round, through the daemon.
//!
//! Conflicts are what was asked for, not a failure: they go to standard output, and the
//! exit code says that there are some.

use super::args::{MergeArgs, RebaseArgs};
use super::engine::MergeWay;
use super::merging;
use super::output::counted;
use super::snapshots::daemon_for_changes;
use crate::ctl::{Code, Failure};
use crate::names;
use crate::sys::process;
use serde_json::{Value, json};
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const DONE: u8 = 0;
const CONFLICTS: u8 = 3;

/// What is asked of the daemon.
struct Asked<'a> {
    target: &'a Path,
    name: &'a OsStr,
    way: MergeWay,
    dry_run: bool,
    json: bool,
}

pub(super) fn merge(args: &MergeArgs) -> Result<u8, Failure> {
    let way = if args.keep { MergeWay::MergeAndKeep } else { MergeWay::Merge };
    let MergeArgs { target, name, dry_run, .. } = args;
    ask(&Asked { target, name, way, dry_run: *dry_run, json: args.json.json })
}

pub(super) fn rebase(args: &RebaseArgs) -> Result<u8, Failure> {
    let RebaseArgs { target, name, dry_run, .. } = args;
    ask(&Asked { target, name, way: MergeWay::Rebase, dry_run: *dry_run, json: args.json.json })
}

fn ask(asked: &Asked<'_>) -> Result<u8, Failure> {
    let mut request = merging::encode(asked.name.as_bytes(), asked.way, asked.dry_run);
    request["user"] = process::effective_uid().into();
    names::put_list(&mut request, "command", &std::env::args_os().collect::<Vec<OsString>>());
    let mut told = json!({"changes": [], "conflicts": []});
    let client = daemon_for_changes(asked.target)?;
    let answer = client.stream("merge", request, &mut |piece| {
        for key in ["changes", "conflicts"] {
            let more = piece[key].as_array().cloned().unwrap_or_default();
            told[key].as_array_mut().into_iter().for_each(|all| all.extend(more.iter().cloned()));
        }
        true
    })?;
    let answer = answer.unwrap_or_default();
    let conflicts = told["conflicts"].as_array().map_or(0, Vec::len);
    let text = match asked.json {
        true => format!("{}\n", whole(asked, told, &answer, conflicts)),
        false => text(asked, &told, &answer),
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            return Err(Failure::new(Code::Other, format!("cannot write the output: {e}")));
        }
        _ => {}
    }
    if conflicts == 0 {
        return Ok(DONE);
    }
    let name = names::shown(asked.name);
    let conflicts = counted(conflicts as u64, "conflict");
    eprintln!("snapfs: {name}: {conflicts} with the other side, and nothing was changed");
    Ok(CONFLICTS)
}

fn whole(asked: &Asked<'_>, mut told: Value, answer: &Value, conflicts: usize) -> Value {
    told["done"] = (conflicts == 0 && !asked.dry_run).into();
    told["dropped"] = answer["dropped"].as_bool().unwrap_or(false).into();
    for key in ["before", "after"] {
        if let Some(name) = names::get(answer, key) {
            names::put(&mut told, key, OsStr::from_bytes(&name));
        }
    }
    told
}

fn text(asked: &Asked<'_>, told: &Value, answer: &Value) -> String {
    let all = |key: &str| told[key].as_array().cloned().unwrap_or_default();
    let (changes, conflicts) = (all("changes"), all("conflicts"));
    if !conflicts.is_empty() {
        return conflicts.iter().map(conflict_text).collect();
    }
    let mut text: String = changes.iter().map(change_text).collect();
    let name = names::shown(asked.name);
    text += &match (asked.dry_run, changes.is_empty(), names::get(answer, "before")) {
        (_, true, _) => format!("{name}: nothing to take over"),
        (true, false, _) => format!("{name}: would take over {}", counted(changes.len() as u64, "change")),
        (false, false, before) => {
            let before = before.map_or(String::new(), |b| format!("; before: {}", names::shown_bytes(&b)));
            format!("{name}: took over {}{before}", counted(changes.len() as u64, "change"))
        }
    };
    text.push('\n');
    if asked.way == MergeWay::Merge && !asked.dry_run && answer["dropped"] == false {
        text += &format!("{name}: stays, because it is in use or was changed meanwhile\n");
    }
    text
}

fn change_text(change: &Value) -> String {
    let path = |key: &str| names::get(change, key).map(|path| names::shown_bytes(&path)).unwrap_or_default();
    let slash = if change["type"] == "directory" { "/" } else { "" };
    match change["change"].as_str().unwrap_or("?") {
        "R" => format!("R {}{slash} -> {}{slash}\n", path("old_path"), path("path")),
        sign => format!("{sign} {}{slash}\n", path("path")),
    }
}

/// A conflict for people.
pub(super) fn conflict_text(conflict: &Value) -> String {
    let path = |object: &Value| names::get(object, "path").map(|path| names::shown_bytes(&path));
    let end = |key: &str| {
        let end = &conflict[key];
        let did = end["did"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let did = did.collect::<Vec<_>>().join(", ");
        let line = names::get(end, "line").map_or("?".into(), |line| names::shown_bytes(&line));
        match path(end) {
            Some(path) => format!("    {line}: {path} ({did})\n"),
            None => format!("    {line}: {did}\n"),
        }
    };
    let (path, why) = (path(conflict).unwrap_or_default(), conflict["why"].as_str().unwrap_or_default());
    format!("C {path}: {why}\n{}{}", end("source"), end("target"))
}
