//! `undelete`, `list --trash`, `delete --trash`: what was deleted and can come back, through the daemon; told also without one.

use super::engine::{Backend, OpenFor, StoreOptions, TrashOrder, UndeleteOrder};
use super::hold_args::UndeleteArgs;
use super::served;
use super::snapshots::{daemon_for_changes, written};
use super::{output, trash_order};
use crate::ctl::{Code, Failure};
use crate::names;
use crate::ops::NodeId;
use crate::sys::process::user_name;
use serde_json::Value;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub(super) fn undelete(args: &UndeleteArgs) -> Result<(), Failure> {
    let bytes = |name: &OsString| name.as_bytes().to_vec();
    let (names, new) = (args.names.iter().map(bytes).collect(), args.as_name.as_ref().map(bytes));
    let order = TrashOrder::Undelete(UndeleteOrder { names, new, dry_run: args.dry_run });
    let client =
        if args.dry_run { served::connect(&args.target)? } else { daemon_for_changes(&args.target)? };
    let told = client.call("trash", trash_order::encode(&order), &mut |_| {})?;
    let list = |key: &str| told[key].as_array().map(Vec::as_slice).unwrap_or_default();
    if args.json.json {
        written(output::print_json(&told))?;
    } else if args.dry_run {
        let back = list("would_undelete");
        let names = back.iter().filter_map(|one| names::get(one, "name"));
        let lines: String = names.map(|name| names::shown_bytes(&name) + "\n").collect();
        written(output::print(&format!("{lines}{} would come back\n", back.len())))?;
    }
    let kept = list("kept").iter().map(|one| one["why"].as_str().unwrap_or_default());
    let missing = list("missing").iter().map(|one| one.as_str().unwrap_or_default());
    let stays: Vec<&str> = kept.chain(missing).collect();
    // The last of the sentences is that of the failure.
    match stays.split_last() {
        None => Ok(()),
        Some((last, others)) => {
            others.iter().for_each(|what| eprintln!("snapfs: {}", names::sentence(what)));
            Err(Failure::new(Code::Other, names::sentence(last)))
        }
    }
}

/// Has what is in the trash go, or these.
pub(super) fn empty(target: &Path, all: &[OsString], json: bool) -> Result<(), Failure> {
    let order = TrashOrder::Empty(all.iter().map(|name| name.as_bytes().to_vec()).collect());
    let told = daemon_for_changes(target)?.call("trash", trash_order::encode(&order), &mut |_| {})?;
    if json { written(output::print_json(&told)) } else { Ok(()) }
}

/// Lists it.
pub(super) fn list(backend: &dyn Backend, target: &Path, json: bool) -> Result<(), Failure> {
    let all = match served::ask(target, "trash", trash_order::encode(&TrashOrder::Tell))? {
        Some(all) => all,
        None => {
            let look = StoreOptions { access: OpenFor::Look, ..StoreOptions::default() };
            let engine = backend.open(target, &look)?;
            let all = engine.trash(NodeId::ROOT, &TrashOrder::Tell);
            engine.close()?;
            all?
        }
    };
    if json {
        return written(output::print_json(&all));
    }
    let all = all.as_array().cloned().unwrap_or_default();
    if all.is_empty() {
        eprintln!("the trash is empty");
        return Ok(());
    }
    let row = |trash: &Value| {
        let local = |key: &str| {
            let time = trash[key].as_str().and_then(output::parse_rfc3339);
            time.map(output::local).unwrap_or_default()
        };
        let uid = trash["user"].as_u64().and_then(|uid| u32::try_from(uid).ok());
        let by = uid.map(|uid| user_name(uid).map_or(uid.to_string(), |name| names::shown_bytes(&name)));
        let name = names::get(trash, "name").map(|name| names::shown_bytes(&name));
        vec![name.unwrap_or_default(), local("deleted"), local("goes"), by.unwrap_or_default()]
    };
    let rows: Vec<Vec<String>> = all.iter().map(row).collect();
    written(output::print(&output::table(&["NAME", "DELETED", "GOES", "BY"], &rows, &[])))
}
