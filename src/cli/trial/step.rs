//! `snapfs run`: a snapshot, the command on the live tree, and what changed since.

use super::ending::{code_of, find_changes, print_changes};
use super::watch::{self, HELD, Until};
use super::words::StageFailure;
use crate::cli::args::RunArgs;
use crate::cli::engine::{DiffOrder, DiffTold};
use crate::cli::snapshots::daemon_for_changes;
use crate::cli::{output, wire};
use crate::ctl::{Client, Code, Failure};
use crate::names;
use crate::ops::NodeId;
use crate::sys::mount::major_minor;
use crate::sys::{family, process};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

/// Does it. The exit code is that of the command, if that was run.
pub(in crate::cli) fn run(args: &RunArgs) -> Result<u8, Failure> {
    let client = daemon_for_changes(&args.target)?;
    let mut request = json!({"keep": args.keep_steps, "user": process::effective_uid()});
    names::put_list(&mut request, "command", &args.command);
    // The command may take away what the target is found by.
    let meta = fs::metadata(&args.target).ok().filter(|m| major_minor(m.dev()) == client.record().device);
    let (step, _bond) = client.begin("step", request)?;
    let step = wire::decode(&step)?;
    let ran = ran(args);
    let (code, interrupted) = match ran {
        Ok(ran) => ran,
        Err(failure) => {
            eprintln!("snapfs: {}", failure.why);
            (failure.code, false)
        }
    };
    let order = DiffOrder {
        from: step.name.clone(),
        to: b"@live".to_vec(),
        under: meta.map(|meta| wire::root_of(meta.ino())),
        told: DiffTold::Changes,
    };
    // From here on nothing takes the command's exit code away.
    let mut told = Ok(());
    let changes = find_changes(&client, &order);
    let changes = changes.map_err(|f| eprintln!("snapfs: what the command changed: {f}")).ok();
    if let Some(changes) = &changes {
        told = print_changes(&args.target, changes, &args.json);
    }
    let undone = code != 0 && args.undo_on_failure && !changes.as_ref().is_some_and(Vec::is_empty);
    let undone = if undone { put_back(&client, &order) } else { Ok(Value::Null) };
    if args.json.json {
        let undone = undone.as_ref().is_ok_and(|guards| !guards.is_null());
        let mut object =
            json!({"exit_code": code, "interrupted": interrupted, "changes": changes, "undone": undone});
        names::put(&mut object, "view_before", OsStr::from_bytes(&step.name));
        told = output::print(&format!("{object}\n")).map_err(|e| Failure::new(Code::Other, e));
    }
    match undone {
        Err(f) => eprintln!("snapfs: nothing was put back: {f}"),
        Ok(guards) => {
            if let Some(before) = names::get(&guards, "before") {
                let (target, before) = (names::shown(&args.target), names::shown_bytes(&before));
                eprintln!("snapfs: all that changed was put back; as it was before that: {before}");
                eprintln!("snapfs: take that back with: snapfs undo {target}");
            }
        }
    }
    Ok(code_of(code, told))
}

/// Has the line be what it was before; the snapshots that guard that.
fn put_back(client: &Client, order: &DiffOrder) -> Result<Value, Failure> {
    let root = order.under.unwrap_or(NodeId::ROOT.0);
    let mut path = json!({"at": root});
    names::put(&mut path, "name", "");
    names::put_list(&mut path, "below", &[""; 0]);
    let mut request = json!({"paths": [path], "dry_run": false});
    names::put(&mut request, "from", OsStr::from_bytes(&order.from));
    Ok(client.stream("restore", request, &mut |_| true)?.unwrap_or_default())
}

/// Runs the command, and waits for it alone.
fn ran(args: &RunArgs) -> Result<(u8, bool), StageFailure> {
    let failed = |e: io::Error| StageFailure::new(format!("cannot run anything: {e}"));
    let Some((program, rest)) = args.command.split_first() else {
        return Err(StageFailure::new("there is no command"));
    };
    family::hold_signals(HELD).map_err(failed)?;
    let child = family::start(Command::new(program).args(rest), HELD);
    let watched = child
        .map_err(|e| StageFailure::of_command(&names::shown(program), &e))
        .and_then(|child| watch::watch(child.id(), Until::ChildEnds).map_err(failed));
    family::let_signals_come(HELD).map_err(failed)?;
    let watched = watched?;
    Ok((watched.ended.exit_code(), watched.interrupted))
}
