//! `space`, `plan`: what the space of a store is used for, and what deleting something would bring back; through the daemon, or of a
//! store that is not mounted.

use super::delete_order::DeleteOrder;
use super::engine::{Backend, OpenFor, StoreOptions};
use super::output::{self, counted, local, parse_rfc3339, size};
use super::served;
use super::space_args::{PlanArgs, PlanDeleteArgs, PlanFreeArgs, PlanVerb, SpaceArgs};
use super::space_order::{SpaceOrder, SpaceQuestion, encode};
use super::usage;
use crate::ctl::{Code, Failure};
use crate::names;
use crate::ops::NodeId;
use serde_json::Value;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Instant;

const DONE: u8 = 0;
/// What was planned cannot be done as it was asked for.
const NOT_SO: u8 = 1;

fn ask(backend: &dyn Backend, target: &Path, question: SpaceQuestion) -> Result<Value, Failure> {
    ask_for_long(backend, target, question, &mut |_| {})
}

/// What takes long tells how far it is.
fn ask_for_long(
    backend: &dyn Backend,
    target: &Path,
    question: SpaceQuestion,
    progress: &mut dyn FnMut(Value),
) -> Result<Value, Failure> {
    match served::connect(target) {
        Err(f) if f.code == Code::NotMounted => {}
        client => return client?.call("space", encode(&question), progress),
    }
    let options = StoreOptions { access: OpenFor::LookAsMounted, ..StoreOptions::default() };
    let engine = backend.open(target, &options)?;
    let mut put = |value| {
        progress(value);
        true
    };
    let answer = engine.space(&SpaceOrder { at: NodeId::ROOT, question }, &mut put);
    engine.close()?;
    answer
}

fn printed(json: bool, answer: &Value, text: impl FnOnce() -> String) -> Result<(), Failure> {
    let printed = if json { output::print_json(answer) } else { output::print(&text()) };
    printed.map_err(|e| Failure::new(Code::Other, e))
}

/// Prints what the space is used for.
pub(super) fn run(backend: &dyn Backend, args: &SpaceArgs) -> Result<(), Failure> {
    if args.paths {
        return paths(backend, args);
    }
    let answer = ask(backend, &args.target, SpaceQuestion::Parts)?;
    printed(args.json.json, &answer, || parts_text(&answer))
}

fn paths(backend: &dyn Backend, args: &SpaceArgs) -> Result<(), Failure> {
    let (shows, begun) = (!args.json.json && io::stderr().is_terminal(), Instant::now());
    let mut tell = |value: Value| {
        let (done, of) = (number(&value, "compared"), number(&value, "of"));
        if shows && done > 0 {
            let left = begun.elapsed().as_secs() * (of - done.min(of)) / done;
            let line =
                format!("{done} of {} compared, {} left", counted(of, "snapshot"), output::duration(left));
            // Who does not see it misses nothing that counts.
            let mut err = io::stderr().lock();
            let _ = write!(err, "\r{line:<60}").and_then(|()| err.flush());
        }
    };
    let answer = ask_for_long(backend, &args.target, SpaceQuestion::Paths(args.top), &mut tell);
    if shows {
        eprint!("\r{:<60}\r", "");
    }
    let answer = answer?;
    printed(args.json.json, &answer, || paths_text(&answer))
}

fn paths_text(answer: &Value) -> String {
    let shown =
        |row: &Value, key: &str| names::get(row, key).map_or("-".into(), |name| names::shown_bytes(&name));
    let rows: Vec<Vec<String>> = list(answer, "paths")
        .iter()
        .map(|row| vec![size(number(row, "bytes")), shown(row, "newest"), shown(row, "path")])
        .collect();
    let mut out = if rows.is_empty() {
        String::new()
    } else {
        output::table(&["SIZE", "NEWEST SNAPSHOT", "PATH"], &rows, &[0])
    };
    out += &format!("{} of content that only snapshots of this line hold\n", size(number(answer, "bytes")));
    match number(answer, "other_bytes") {
        0 => out,
        others => out + &format!("{} of it of very many small files, or without a path\n", size(others)),
    }
}

/// Prints a plan. Returns the exit code: whether it can be done as it was asked for.
pub(super) fn plan(backend: &dyn Backend, args: &PlanArgs) -> Result<u8, Failure> {
    match &args.what {
        PlanVerb::Delete(what) => plan_deletion(backend, &args.target, what),
        PlanVerb::Free(what) => plan_room(backend, &args.target, what),
    }
}

fn plan_deletion(backend: &dyn Backend, target: &Path, args: &PlanDeleteArgs) -> Result<u8, Failure> {
    if args.names.iter().any(|name| name.is_empty()) {
        return Err(usage::wrong("a name is empty"));
    }
    let bytes = |word: &OsString| word.as_bytes().to_vec();
    let order = DeleteOrder {
        at: NodeId::ROOT,
        names: args.names.iter().map(bytes).collect(),
        before: args.before.as_ref().map(bytes),
        after: args.after.as_ref().map(bytes),
        dry_run: true,
        now: true,
        is_waited_for: false,
    };
    let answer = ask(backend, target, SpaceQuestion::Deletion(order))?;
    printed(args.json.json, &answer, || deletion_text(&answer))?;
    let refused = list(&answer, "refused");
    for why in refused.iter().filter_map(Value::as_str) {
        eprintln!("snapfs: {}", names::sentence(why));
    }
    Ok(if refused.is_empty() { DONE } else { NOT_SO })
}

fn plan_room(backend: &dyn Backend, target: &Path, args: &PlanFreeArgs) -> Result<u8, Failure> {
    let mut answer = ask(backend, target, SpaceQuestion::Room(args.bytes))?;
    let all = list(&answer, "snapshots");
    let is_served = served::connect(target).is_ok();
    let command = (!all.is_empty() && is_served).then(|| {
        let words = all.iter().filter_map(|s| names::get(s, "word")).map(|word| shell_word(&word));
        let target = shell_word(target.as_os_str().as_bytes());
        // What goes into the trash brings nothing back.
        let now = if answer["has_trash"] == true { " --now" } else { "" };
        format!("snapfs delete {target}{now} -- {}", words.collect::<Vec<_>>().join(" "))
    });
    let is_enough = answer["is_enough"] == true;
    answer["command"] = command.clone().into();
    printed(args.json.json, &answer, || room_text(&answer, command.as_deref()))?;
    if is_enough {
        return Ok(DONE);
    }
    let freed = size(number(&answer, "freed_bytes"));
    eprintln!(
        "snapfs: {} cannot be reached by deleting snapshots of this line: {freed} at most",
        size(args.bytes)
    );
    Ok(NOT_SO)
}

/// A word as shells take it back, whatever bytes are in it.
fn shell_word(word: &[u8]) -> String {
    let is_plain = |b: &u8| b.is_ascii_alphanumeric() || b"@%+=:,./-_".contains(b);
    match std::str::from_utf8(word) {
        Ok(text) if !text.is_empty() && word.iter().all(is_plain) => text.into(),
        Ok(text) if !text.chars().any(char::is_control) => format!("'{}'", text.replace('\'', r"'\''")),
        _ => format!("$'{}'", word.iter().map(|b| format!("\\x{b:02x}")).collect::<String>()),
    }
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or(0)
}

fn name_of(value: &Value) -> String {
    names::get(value, "name").map(|name| names::shown_bytes(&name)).unwrap_or_default()
}

fn when(value: &Value) -> String {
    value["created"].as_str().and_then(parse_rfc3339).map_or("-".into(), local)
}

fn sizes(row: &Value) -> Vec<String> {
    ["exclusive", "referenced", "written"].iter().map(|key| size(number(row, key))).collect()
}

fn parts_text(answer: &Value) -> String {
    let rows: Vec<Vec<String>> = list(answer, "snapshots")
        .iter()
        .map(|s| {
            let line = names::get(s, "line").unwrap_or_default();
            let name = match &line[..] {
                b"." => name_of(s),
                line => format!("{}/.snapshots/{}", names::shown_bytes(line), name_of(s)),
            };
            [vec![name, when(s)], sizes(s)].concat()
        })
        .collect();
    let mut out = String::new();
    let head = ["SNAPSHOT", "CREATED", "EXCLUSIVE", "REFERENCED", "WRITTEN"];
    if !rows.is_empty() {
        out += &(output::table(&head, &rows, &[2, 3, 4]) + "\n");
    }
    let rows: Vec<Vec<String>> = list(answer, "clones")
        .iter()
        .map(|c| [vec![name_of(c), number(c, "snapshots").to_string()], sizes(c)].concat())
        .collect();
    if !rows.is_empty() {
        let head = ["CLONE", "SNAPSHOTS", "EXCLUSIVE", "REFERENCED", "WRITTEN"];
        out += &(output::table(&head, &rows, &[1, 2, 3, 4]) + "\n");
    }
    let part = |key: &str, what: &str| vec![size(number(answer, key)), what.to_string()];
    let mut rows = vec![
        part("live_bytes", "what the live tree and clones have now"),
        part("snapshots_bytes", "what only snapshots have"),
        part("tables_bytes", "the store's own tables"),
    ];
    if number(answer, "freeing_bytes") > 0 {
        rows.push(part("freeing_bytes", "deleted, and coming back in the background"));
    }
    rows.push(part("used_bytes", "used"));
    rows.push(part("free_bytes", "free"));
    out += &output::table(&["SIZE", ""], &rows, &[0]);
    if number(answer, "may_free_bytes") > 0 {
        let bytes = size(number(answer, "may_free_bytes"));
        out += &format!("automatic snapshots give {bytes} of it before a write fails: df calls that free\n");
    }
    if number(answer, "trash_bytes") > 0 {
        let bytes = size(number(answer, "trash_bytes"));
        out += &format!("the trash has {bytes} of it: snapfs delete MNT --trash gives it back\n");
    }
    match number(answer, "saved_by_sharing_bytes") {
        0 => out,
        saved => out + &format!("files share blocks: {} more without that\n", size(saved)),
    }
}

fn deletion_text(answer: &Value) -> String {
    let (snapshots, clones) = (number(answer, "snapshots"), number(answer, "clones"));
    let what = match (snapshots, clones) {
        (n, 0) => counted(n, "snapshot"),
        (0, n) => counted(n, "clone"),
        (s, c) => format!("{} and {}", counted(s, "snapshot"), counted(c, "clone")),
    };
    let exact = |bytes: u64| match bytes {
        0..1024 => size(bytes),
        more => format!("{} ({more} bytes)", size(more)),
    };
    let freed = exact(number(answer, "freed_bytes"));
    let then = size(number(answer, "free_then_bytes"));
    let mut out = format!("deleting {what} brings back {freed}: {then} free then\n");
    for stays in list(answer, "staying") {
        let bytes = size(number(stays, "bytes"));
        let of = match name_of(stays) {
            name if name.is_empty() => String::new(),
            name => format!(" of {name}"),
        };
        out += &match names::get(stays, "clone") {
            Some(clone) => {
                let clone = names::shown_bytes(&clone);
                format!(
                    "{bytes} more{of} when the clone {clone} is merged or dropped: it is compared with that\n"
                )
            }
            None => format!("{bytes} more{of} when nobody reads it any more\n"),
        };
    }
    match number(answer, "shared_bytes") {
        0 => out,
        shared => out + &format!("{} stay: other files share these blocks\n", size(shared)),
    }
}

fn room_text(answer: &Value, command: Option<&str>) -> String {
    let rows: Vec<Vec<String>> = list(answer, "snapshots")
        .iter()
        .map(|s| vec![name_of(s), when(s), s["reason"].as_str().unwrap_or_default().into()])
        .collect();
    if rows.is_empty() {
        return "no snapshot of this line that may go brings anything back\n".into();
    }
    let mut out = output::table(&["SNAPSHOT", "CREATED", "REASON"], &rows, &[]);
    out += &format!("together they bring back {}\n", size(number(answer, "freed_bytes")));
    command.map_or(out.clone(), |command| format!("{out}{command}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        for (word, quoted) in [
            (&b"@GMT-2026.01.05-00.00.00"[..], "@GMT-2026.01.05-00.00.00"),
            (b"a b", "'a b'"),
            (b"it's", r"'it'\''s'"),
            (b"$(x)", "'$(x)'"),
            (b"a\xff\n", r"$'\x61\xff\x0a'"),
            (b"", "''"),
        ] {
            assert_eq!(shell_word(word), quoted);
        }
    }
}
