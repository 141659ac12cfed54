//! `hold`, `release`: snapshots that nobody deletes, through the daemon; told also without one.

use super::engine::{Backend, HoldOrder, OpenFor, StoreOptions};
use super::hold_args::{HoldArgs, ReleaseArgs};
use super::served;
use super::snapshots::{daemon_for_changes, put_maker, written};
use super::{held, hold_order, output};
use crate::ctl::Failure;
use crate::names;
use crate::ops::NodeId;
use serde_json::{Value, json};
use std::os::unix::ffi::OsStrExt;

pub(super) fn hold(backend: &dyn Backend, args: &HoldArgs) -> Result<(), Failure> {
    let name = match &args.name {
        Some(name) if !args.list => name,
        _ => return list(backend, args),
    };
    let order = HoldOrder::Put(name.as_bytes().to_vec(), args.held_for.wanted(&args.tag));
    let mut request = hold_order::encode(&order);
    put_maker(&mut request, None);
    let told = daemon_for_changes(&args.target)?.call("hold", request, &mut |_| {})?;
    if args.json.json { written(output::print_json(&told)) } else { Ok(()) }
}

pub(super) fn release(args: &ReleaseArgs) -> Result<(), Failure> {
    let order = HoldOrder::Release(args.name.as_bytes().to_vec(), args.tag.clone());
    let told = daemon_for_changes(&args.target)?.call("hold", hold_order::encode(&order), &mut |_| {})?;
    if args.json.json { written(output::print_json(&told)) } else { Ok(()) }
}

fn list(backend: &dyn Backend, args: &HoldArgs) -> Result<(), Failure> {
    let all = match served::ask(&args.target, "hold", hold_order::encode(&HoldOrder::Tell))? {
        Some(all) => all,
        None => {
            let look = StoreOptions { access: OpenFor::Look, ..StoreOptions::default() };
            let engine = backend.open(&args.target, &look)?;
            let all = engine.hold(NodeId::ROOT, &HoldOrder::Tell, &Default::default());
            engine.close()?;
            all?
        }
    };
    let wanted = |hold: &&Value| {
        args.name
            .as_ref()
            .is_none_or(|name| names::get(hold, "snapshot").is_some_and(|s| s == name.as_bytes()))
    };
    let all: Vec<Value> = all.as_array().into_iter().flatten().filter(wanted).cloned().collect();
    if args.json.json {
        return written(output::print_json(&json!(all)));
    }
    if all.is_empty() {
        eprintln!("nothing is held");
        return Ok(());
    }
    let row = |hold: &Value| {
        let name = names::get(hold, "snapshot").map(|name| names::shown_bytes(&name));
        vec![name.unwrap_or_default(), held::in_words(hold)]
    };
    let rows: Vec<Vec<String>> = all.iter().map(row).collect();
    written(output::print(&output::table(&["NAME", "HELD BY"], &rows, &[])))
}
