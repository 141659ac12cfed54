//! `create`, `list`, `rename`, `delete`: snapshots, through the daemon; listing also without one.

use super::args::{CreateArgs, DeleteArgs, RenameArgs, TargetArgs};
use super::engine::{Access, Backend, StoreOptions};
use super::{output, wire};
use crate::ctl::{Client, Code, Failure};
use serde_json::{Value, json};

fn written(result: Result<(), String>) -> Result<(), Failure> {
    result.map_err(|e| Failure::new(Code::Other, e))
}

pub(super) fn list(backend: &dyn Backend, args: &TargetArgs) -> Result<(), Failure> {
    let all = match Client::ask(&args.target, "list", json!({}))? {
        Some(all) => wire::decode_all(&all)?,
        None => {
            let look = StoreOptions { access: Access::Look, ..StoreOptions::default() };
            let engine = backend.open(&args.target, &look)?;
            let all = engine.snapshots();
            engine.close()?;
            all?
        }
    };
    if args.json.json {
        written(output::print_json(&Value::Array(all.iter().map(output::snapshot_json).collect())))
    } else if all.is_empty() {
        eprintln!("no snapshots");
        Ok(())
    } else {
        written(output::print(&output::snapshot_table(&all)))
    }
}

pub(super) fn create(args: &CreateArgs) -> Result<(), Failure> {
    let client = Client::connect(&args.target)?;
    let request = json!({"name": args.name});
    let made = wire::decode(&client.call("create", request, &mut |_| {})?)?;
    if args.json.json { written(output::print_json(&output::snapshot_json(&made))) } else { Ok(()) }
}

pub(super) fn rename(args: &RenameArgs) -> Result<(), Failure> {
    let request = json!({"name": args.name, "new_name": args.new_name});
    Client::connect(&args.target)?.call("rename", request, &mut |_| {})?;
    let answer = json!({"name": args.new_name, "was": args.name});
    if args.json.json { written(output::print_json(&answer)) } else { Ok(()) }
}

/// Goes on after a name that fails, and reports the first failure; each is told as it happens.
pub(super) fn delete(args: &DeleteArgs) -> Result<(), Failure> {
    let client = Client::connect(&args.target)?;
    let (mut deleted, mut first) = (Vec::new(), None);
    for name in &args.names {
        match client.call("delete", json!({"name": name}), &mut |_| {}) {
            Ok(_) => deleted.push(name),
            Err(f) if first.is_none() => first = Some(f),
            Err(f) => eprintln!("snapfs: {f}"),
        }
    }
    if args.json.json {
        written(output::print_json(&json!({"deleted": deleted})))?;
    }
    first.map_or(Ok(()), Err)
}
