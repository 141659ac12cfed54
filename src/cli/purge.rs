//! `purge`: content of a path is taken out of snapshots, through the daemon of its mount.

use super::engine::PurgeRequest;
use super::engine::{PathOrder, PathQuestion};
use super::output;
use super::paths::{daemon_of, locate_patiently};
use super::purge_args::PurgeArgs;
use super::purge_order;
use super::snapshots::written;
use super::users;
use crate::ctl::{Code, Failure};
use crate::names;
use crate::sys::process;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// Others, and files, that are told by name.
const OTHERS_SHOWN: usize = 20;

/// Purges, or says what that would do. Refused where others have some of it.
pub(super) fn run(args: &PurgeArgs) -> Result<(), Failure> {
    if process::effective_uid() != 0 {
        return Err(Failure::new(Code::Denied, "only root purges what snapshots hold"));
    }
    let located = locate_patiently(&args.path)?;
    let client = daemon_of(&args.path, &located)?;
    let of_snapshot = client.record().snapshot.clone();
    let names = located.names.clone();
    let path = PathOrder { question: PathQuestion::Versions, dir: located.dir, names, of_snapshot };
    let request = PurgeRequest {
        path,
        snapshots: args.snapshots.clone().into_encoded_bytes(),
        all: args.all,
        dry_run: args.dry_run,
    };
    let asked = located.proved(purge_order::encode(&request));
    let told = client.call("purge", asked, &mut |_| {}).map_err(|f| {
        // What it says of what it has done by then is told as it is.
        let is_its_end = matches!(f.code, Code::Io | Code::NotMounted) && client.has_left();
        if is_its_end { ended(&args.path) } else { f }
    })?;
    let refused = told["refused"].as_bool() == Some(true);
    if args.json.json {
        written(output::print_json(&told))?;
    } else {
        let open = told_open(&told, client.record().device);
        let text = text(&names::shown(&args.path), &told, args.dry_run) + &open;
        if refused { eprint!("{text}") } else { written(output::print(&text))? }
    }
    if refused {
        let what = match told["live"].as_bool() {
            Some(true) => {
                "nothing was purged: what is live has some of the content; delete it there, and have it closed, first"
            }
            _ => "nothing was purged: others have some of the content; --all takes it from them, too",
        };
        return Err(Failure::new(Code::Busy, format!("{}: {what}", names::shown(&args.path))));
    }
    if told["lacks_a_side"].as_bool() == Some(true) {
        let what = "one side of the mirror was lost meanwhile and may have some of it still: that is written over once it is \
                    back and filled (snapfs mirror resync)";
        return Err(Failure::new(Code::Other, format!("{}: {what}", names::shown(&args.path))));
    }
    if told["is_left"].as_bool() == Some(true) {
        let what = "snapshots that this was cloned from have it still: they are purged where they belong";
        return Err(Failure::new(Code::Other, format!("{}: {what}", names::shown(&args.path))));
    }
    Ok(())
}

/// The daemon is gone, and has not said what is done.
fn ended(path: &Path) -> Failure {
    let what = "the mount has ended meanwhile; what was begun goes on by itself with the next mount: purge it again then, which \
                does and tells what is left";
    Failure::new(Code::Io, format!("{}: {what}", names::shown(path)))
}

fn shown(object: &Value, key: &str) -> Option<String> {
    names::get(object, key).map(|name| names::shown_bytes(&name))
}

/// What of others is never taken.
fn is_live(other: &Value) -> bool {
    other.get("snapshot").is_none() && other["in_trash"] != true
}

/// How much it is: small files are in the nodes of trees.
fn parts(told: &Value) -> Vec<String> {
    let number = |key: &str| told[key].as_u64().unwrap_or(0);
    let mut parts = Vec::new();
    if number("file_count") != 1 {
        parts.push(output::counted(number("file_count"), "file"));
    }
    if number("stored_bytes") > 0 {
        parts.push(output::size(number("stored_bytes")) + " of content");
    }
    if number("nodes") > 0 {
        parts.push(output::counted(number("nodes"), "node") + " of trees rewritten");
    }
    parts
}

fn in_trash(object: &Value) -> &'static str {
    if object["in_trash"] == true { " (in the trash)" } else { "" }
}

/// Files that were deleted and are open: by whom, as far as this user can see.
fn told_open(told: &Value, device: (u32, u32)) -> String {
    let open = told["open"].as_array().map(Vec::as_slice).unwrap_or_default();
    let nodes: Vec<u64> = open.iter().filter_map(|open| open["inode"].as_u64()).collect();
    if nodes.is_empty() {
        return String::new();
    }
    let who = users::openers_of(device, nodes);
    let mut out = format!(
        "{} deleted and still open, and purged when closed:\n",
        output::counted(open.len() as u64, "file")
    );
    for open in open.iter().take(OTHERS_SHOWN) {
        let of = match shown(open, "line") {
            Some(line) => format!(" of clone {line}"),
            None => String::new(),
        };
        let node = open["inode"].as_u64().unwrap_or_default();
        let by: BTreeSet<&str> = who.iter().filter(|(is, _)| *is == node).map(|(_, by)| &by[..]).collect();
        let by = match by.is_empty() {
            true => "a process that cannot be seen from here, or work that is being done".to_string(),
            false => by.into_iter().collect::<Vec<_>>().join(", "),
        };
        out += &format!("  inode {node}{of}, by {by}\n");
    }
    out
}

/// What is left to do, and when that is done.
fn left(told: &Value) -> String {
    let number = |key: &str| told[key].as_u64().unwrap_or(0);
    let mut out = String::new();
    if number("held_up_bytes") > 0 {
        let bytes = output::size(number("held_up_bytes"));
        out += &format!(
            "{bytes} were freed lately and are being read: written over when nobody reads them any more\n"
        );
    }
    if number("read_snapshots") > 0 {
        let snapshots = output::counted(number("read_snapshots"), "deleted snapshot");
        out += &format!(
            "{snapshots} somebody began to read meanwhile: written over when nobody does any more\n"
        );
    }
    if told["unfreed"] == true {
        out += "what was deleted before is not all free yet: it is written over when it is\n";
    }
    out
}

/// What was done, or would be.
fn text(path: &str, told: &Value, dry_run: bool) -> String {
    let number = |key: &str| told[key].as_u64().unwrap_or(0);
    let found = told["snapshots"].as_array().cloned().unwrap_or_default();
    let called = |found: &Value| Some(shown(found, "name")? + in_trash(found));
    let list: Vec<String> = found.iter().filter_map(called).collect();
    let done = told["purged"].as_bool() == Some(true);
    let verb = if done { "purged" } else { "would purge" };
    let mut out = if number("stored_bytes") == 0 && number("nodes") == 0 {
        format!("{path}: no content is left in {}\n", list.join(", "))
    } else {
        format!(
            "{verb} {path} from {} ({}): {}\n",
            output::counted(list.len() as u64, "snapshot"),
            list.join(", "),
            parts(told).join(", "),
        )
    };
    let files = names::get_list(told, "files").filter(|files| files.len() > 1).unwrap_or_default();
    for file in files.iter().take(OTHERS_SHOWN).filter(|_| dry_run) {
        out += &format!("  /{}\n", names::shown_bytes(file));
    }
    if dry_run && files.len() > OTHERS_SHOWN {
        out += &format!("  and {} more (--json has all)\n", files.len() - OTHERS_SHOWN);
    }
    let others = told["others"].as_array().cloned().unwrap_or_default();
    let (live, others): (Vec<Value>, Vec<Value>) = others.into_iter().partition(is_live);
    let loses = if done { "lost it, too" } else { "would lose it, too" };
    let lives = if live.len() == 1 { "has it live" } else { "have it live" };
    let lives = format!("{lives}, and it is to be deleted there first");
    for (others, what) in [(live, &lives[..]), (others, loses)] {
        if others.is_empty() {
            continue;
        }
        out += &format!("{} {what}:\n", output::counted(others.len() as u64, "other"));
        for other in others.iter().take(OTHERS_SHOWN) {
            let file = shown(other, "path").unwrap_or_default();
            let of = match shown(other, "line") {
                Some(line) => format!(" of clone {line}"),
                None => String::new(),
            };
            let place = match shown(other, "snapshot") {
                Some(snapshot) => format!("snapshot {snapshot}{of}"),
                None if other["in_trash"] == true => of.trim_start_matches(" of ").to_string(),
                None => format!("the live tree{of}"),
            };
            out += &format!("  /{file} in {place}{}\n", in_trash(other));
        }
        if others.len() > OTHERS_SHOWN {
            out += &format!("  and {} more (--json has all)\n", others.len() - OTHERS_SHOWN);
        }
    }
    for left in told["inherited"].as_array().into_iter().flatten() {
        let name = shown(left, "name").unwrap_or_default();
        let whose = shown(left, "line").map_or("the main line".into(), |line| format!("clone {line}"));
        out += &format!(
            "the snapshot {name} has it still: it belongs to {whose}, that this was cloned from; purge it there\n"
        );
    }
    let copies: Vec<&str> =
        told["copies"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !copies.is_empty() {
        out += &format!("copies in other stores have it still, to be purged there: {}\n", copies.join(" "));
    }
    if done {
        out += &format!(
            "written over besides: {} of the log, {} of free space\n",
            output::size(number("log_bytes")),
            output::size(number("free_bytes") + number("reserved_bytes"))
        );
        out += &left(told);
    } else if dry_run {
        out += "nothing was done\n";
    }
    out
}
