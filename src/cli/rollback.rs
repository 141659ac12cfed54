//! `rollback`, `promote`, `undo`: what is asked of the daemon, and what users see of it.

use super::args::{DiffArgs, PromoteArgs, RollbackArgs, UndoArgs};
use super::diff::Printer;
use super::engine::{DiffOrder, DiffTold, InTheWay, RollbackAnswer};
use super::snapshots::{daemon_for_changes, written};
use super::told_rollback::{decode, encode_in_the_way, request};
use super::{output, users, wire};
use crate::ctl::{Client, Code, Failure};
use crate::names;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Files and places that a refusal names, at most.
const NAMED_MAX: usize = 10;

const DONE: u8 = 0;
const REFUSED: u8 = 1;

pub(super) fn rollback(args: &RollbackArgs) -> Result<u8, Failure> {
    let client = daemon_for_changes(&args.target)?;
    if args.dry_run {
        return preview(&client, args);
    }
    let answer = decode(&client.call("rollback", request(&args.view, args.force, false), &mut |_| {})?)?;
    report(&client, &args.target, &answer, args.json.json, "went back to")
}

pub(super) fn promote(args: &PromoteArgs) -> Result<u8, Failure> {
    let client = daemon_for_changes(&args.target)?;
    let mut request = json!({"force": args.force});
    names::put(&mut request, "name", &args.name);
    if let Some(onto) = &args.onto {
        let name = match onto.as_bytes() {
            b"." => Some(&b""[..]),
            onto => onto.strip_prefix(b".clones/").filter(|name| !name.is_empty()),
        };
        let what = || format!("{}: a line is '.', the main line, or .clones/NAME", names::shown(onto));
        let name = name.ok_or_else(|| Failure::new(Code::Invalid, what()))?;
        names::put(&mut request, "onto", OsStr::from_bytes(name));
    }
    if let Some(name) = &args.keep_as {
        names::put(&mut request, "as", name);
    }
    let answer = decode(&client.call("promote", request, &mut |_| {})?)?;
    report(&client, &args.target, &answer, args.json.json, "became")
}

/// What came of an undo that is a rollback, or what would.
pub(super) fn told_undo(client: &Client, args: &UndoArgs, answer: &Value) -> Result<u8, Failure> {
    let answer = decode(answer)?;
    if args.dry_run {
        return show(client, &args.target, args.force, args.json.json, answer);
    }
    report(client, &args.target, &answer, args.json.json, "went back to")
}

fn report(
    client: &Client,
    target: &Path,
    answer: &RollbackAnswer,
    json: bool,
    what: &str,
) -> Result<u8, Failure> {
    let Some(guard) = &answer.guard else {
        return Err(Failure::new(Code::Busy, refusal(client, target, &answer.in_the_way)));
    };
    let (view, guard) = (OsStr::from_bytes(&answer.view), OsStr::from_bytes(guard));
    if json {
        let mut done = json!({});
        names::put(&mut done, "view", view);
        names::put(&mut done, "guard", guard);
        written(output::print_json(&done))?;
    } else {
        let (view, guard) = (names::shown(view), names::shown(guard));
        written(output::print(&format!("{what} {view}; what was there before is snapshot {guard}\n")))?;
    }
    Ok(DONE)
}

/// Prints what would change, and what would be in the way of it.
fn preview(client: &Client, args: &RollbackArgs) -> Result<u8, Failure> {
    let answer = decode(&client.call("rollback", request(&args.view, args.force, true), &mut |_| {})?)?;
    show(client, &args.target, args.force, args.json.json, answer)
}

fn show(
    client: &Client,
    target: &Path,
    force: bool,
    json: bool,
    answer: RollbackAnswer,
) -> Result<u8, Failure> {
    let order = DiffOrder {
        from: b"@live".to_vec(),
        to: answer.view.clone(),
        under: Some(answer.root.0),
        told: DiffTold::Changes,
    };
    let form = DiffArgs::of(target, json);
    let mut printer = Printer::new(&form);
    client.stream("diff", wire::encode_diff(&order), &mut |piece| printer.take(&piece))?;
    printer.finish()?;
    let mut in_the_way = answer.in_the_way;
    if force {
        in_the_way.written.clear();
    }
    if json {
        let mut object = json!({"would_be_refused": !in_the_way.is_empty()});
        encode_in_the_way(&mut object, &in_the_way);
        written(output::print(&format!("{object}\n")))?;
    }
    if in_the_way.is_empty() {
        return Ok(DONE);
    }
    eprintln!("snapfs: it would be refused: {}", refusal(client, target, &in_the_way));
    Ok(REFUSED)
}

/// What stands in the way, where, who has it in use, and what to do.
fn refusal(client: &Client, target: &Path, in_the_way: &InTheWay) -> String {
    let mut text = format!("{}: ", names::shown(target));
    if !in_the_way.mounts.is_empty() {
        text += "other file systems are mounted below, and would be cut off; unmount them first:";
        for point in in_the_way.mounts.iter().take(NAMED_MAX) {
            text += &format!("\n  {}", names::shown(point));
        }
        text += &more(in_the_way.mounts.len());
        return text;
    }
    let some = &in_the_way.written[..in_the_way.written.len().min(NAMED_MAX)];
    let nodes = some.iter().map(|(node, _)| node.0).collect();
    let who = users::writers_of(client.record().device, nodes);
    text += "files are open for writing; close them, or let --force cut off whoever writes them:";
    for (node, path) in some {
        let path = path.as_ref().map(|path| names::shown_bytes(path));
        let path = path.unwrap_or_else(|| format!("a file without a name (inode {})", node.ino()));
        let who: Vec<&str> = who.iter().filter(|(n, _)| *n == node.0).map(|(_, who)| who.as_str()).collect();
        let who = if who.is_empty() { String::new() } else { format!(" by {}", who.join(", ")) };
        text += &format!("\n  {path}{who}");
    }
    text + &more(in_the_way.written.len())
}

fn more(count: usize) -> String {
    match count.saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!("\n  and {more} more"),
    }
}
