//! `create`, `list`, `rename`, `delete`: snapshots, through the daemon; listing also without one.

use super::args::{CreateArgs, DeleteArgs, RenameArgs, TargetArgs};
use super::engine::{Backend, OpenFor, StoreOptions};
use super::{output, wire};
use crate::ctl::{Client, Code, Failure, MountRecord};
use crate::fuse::mounts;
use crate::names;
use serde_json::{Value, json};
use std::path::Path;

fn written(result: Result<(), String>) -> Result<(), Failure> {
    result.map_err(|e| Failure::new(Code::Other, e))
}

pub(super) fn list(backend: &dyn Backend, args: &TargetArgs) -> Result<(), Failure> {
    let all = match Client::ask(&args.target, "list", json!({}))? {
        Some(all) => wire::decode_all(&all)?,
        None => {
            let look = StoreOptions { access: OpenFor::Look, ..StoreOptions::default() };
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

/// The daemon of `target`, unless the mount that leads to it is read-only: what `mkdir` is refused there the command is, too.
fn daemon_for_changes(target: &Path) -> Result<Client, Failure> {
    let client = Client::connect(target)?;
    let MountRecord { device, mountpoint, .. } = client.record();
    let around = std::fs::canonicalize(target).ok().and_then(|real| mounts::containing(&real).ok().flatten());
    // Of a store, where its daemon has mounted it.
    let through = match around.filter(|m| m.device == *device) {
        None => mounts::at(mountpoint).ok().flatten().filter(|m| m.device == *device),
        found => found,
    };
    match through {
        Some(m) if m.read_only => {
            let what = format!("the mount at {} is read-only and takes no changes", names::shown(&m.point));
            Err(Failure::new(Code::ReadOnly, format!("{}: {what}", names::shown(target))))
        }
        _ => Ok(client),
    }
}

pub(super) fn create(args: &CreateArgs) -> Result<(), Failure> {
    let client = daemon_for_changes(&args.target)?;
    let mut request = json!({});
    names::put(&mut request, "name", &args.name);
    let made = wire::decode(&client.call("create", request, &mut |_| {})?)?;
    if args.json.json { written(output::print_json(&output::snapshot_json(&made))) } else { Ok(()) }
}

pub(super) fn rename(args: &RenameArgs) -> Result<(), Failure> {
    let (mut request, mut answer) = (json!({}), json!({}));
    for (object, keys) in [(&mut request, ["name", "new_name"]), (&mut answer, ["was", "name"])] {
        names::put(object, keys[0], &args.name);
        names::put(object, keys[1], &args.new_name);
    }
    daemon_for_changes(&args.target)?.call("rename", request, &mut |_| {})?;
    if args.json.json { written(output::print_json(&answer)) } else { Ok(()) }
}

/// Goes on after a name that fails, and reports the first failure; each is told as it happens.
pub(super) fn delete(args: &DeleteArgs) -> Result<(), Failure> {
    let client = daemon_for_changes(&args.target)?;
    let (mut deleted, mut first) = (Vec::new(), None);
    for name in &args.names {
        let mut request = json!({});
        names::put(&mut request, "name", name);
        match client.call("delete", request, &mut |_| {}) {
            Ok(_) => deleted.push(name),
            Err(f) if first.is_none() => first = Some(f),
            Err(f) => eprintln!("snapfs: {f}"),
        }
    }
    if args.json.json {
        let mut answer = json!({});
        names::put_list(&mut answer, "deleted", &deleted);
        written(output::print_json(&answer))?;
    }
    first.map_or(Ok(()), Err)
}
