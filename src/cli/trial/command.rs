//! `snapfs try`: makes the clone, has the command run on it, shows what it changed, and ends it as the user says.

use super::ending::{self, Trial};
use super::watch::{self, HELD, Until};
use super::words::{self, OuterOrder, Processes, STAGE, StageOrder, TrialReport};
use crate::cli::args::TryArgs;
use crate::cli::snapshots::daemon_for_changes;
use crate::cli::wire;
use crate::ctl::{Bond, Client, Code, Failure};
use crate::fuse::mounts;
use crate::names;
use crate::ops::NodeId;
use crate::sys::mount::{keep_over_exec, major_minor};
use crate::sys::{family, process};
use serde_json::json;
use std::ffi::OsString;
use std::fs;
use std::io::{self, BufReader};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The line that is tried.
struct Tried {
    slot: u32,
    name: Option<Vec<u8>>,
}

/// Does it. The exit code is that of the command, if that was run.
pub(in crate::cli) fn run(args: &TryArgs) -> Result<u8, Failure> {
    let client = daemon_for_changes(&args.target)?;
    let tried = tried(&client, &args.target)?;
    if let Some(name) = &args.end.keep {
        ending::check_free(&client, name)?;
    }
    let mut request = json!({});
    names::put_list(&mut request, "command", &args.command);
    request["user"] = process::effective_uid().into();
    let (made, bond) = client.begin("try", request)?;
    let made = wire::decode_clone(&made)?;
    let trial = Trial { client: &client, args, step: made.name.clone(), name: made.name, slot: tried.slot };
    let ran = trial_of(&client, args, &tried, (&trial.name, &bond));
    match ran {
        Ok((code, interrupted)) => Ok(trial.end(code, interrupted)),
        Err(failure) => {
            trial.drop_clone().unwrap_or_else(|f| eprintln!("snapfs: {f}"));
            eprintln!("snapfs: {}", failure.why);
            Ok(failure.code)
        }
    }
}

/// The line that a path in a mount is in. A clone is made of it, wherever in it the path is.
fn tried(client: &Client, target: &Path) -> Result<Tried, Failure> {
    let shown = names::shown(target);
    let failed = |what: &str| Failure::new(Code::Other, format!("{shown}: {what}"));
    let device = client.record().device;
    let is_inside = |path: &Path| fs::metadata(path).ok().filter(|meta| major_minor(meta.dev()) == device);
    let (place, meta) = match is_inside(target) {
        Some(meta) => (target.to_path_buf(), meta),
        None => {
            let place = client.record().mountpoint.clone();
            let meta = is_inside(&place).ok_or_else(|| failed("its mount is out of sight here"))?;
            (place, meta)
        }
    };
    let node = NodeId(meta.ino());
    if !node.is_live() {
        return Err(failed("this is a snapshot; clone it, and try the command on the clone"));
    }
    let around = fs::canonicalize(&place).and_then(|real| Ok((mounts::containing(&real)?, real)));
    let around = match around {
        Ok((Some(mount), real)) if mount.device == device => Some((mount, real)),
        _ => None,
    };
    let Some((mount, real)) = around else { return Err(failed("its mount is out of sight here")) };
    let rest = real.strip_prefix(&mount.point).map_or(PathBuf::new(), Path::to_path_buf);
    let name = super::covering::LinePath::of(&mount.root.join(rest)).line;
    Ok(Tried { slot: node.slot(), name })
}

/// Has the command run on the clone. The exit code, and whether a signal asked for the end.
fn trial_of(
    client: &Client,
    args: &TryArgs,
    tried: &Tried,
    (clone, bond): (&[u8], &Bond),
) -> Result<(u8, bool), words::StageFailure> {
    let failed = |e: io::Error| words::StageFailure::new(format!("cannot start the trial: {e}"));
    let (hears, says) = io::pipe().map_err(failed)?;
    keep_over_exec(says.as_raw_fd()).map_err(failed)?;
    keep_over_exec(bond.as_raw_fd()).map_err(failed)?;
    let order = StageOrder::Outer(OuterOrder {
        parent: std::process::id(),
        report: says.as_raw_fd(),
        bond: bond.as_raw_fd(),
        device: client.record().device,
        slot: tried.slot,
        line: tried.name.clone(),
        clone: clone.to_vec(),
        processes: if args.isolate { Processes::OfTrial } else { Processes::All },
    });
    let order: OsString = serde_json::to_string(&order).map_err(|e| failed(e.into()))?.into();
    family::hold_signals(HELD).map_err(failed)?;
    // Should the outer process be killed, what it has left running comes here and is ended.
    family::adopt_orphans().map_err(failed)?;
    let mut child = Command::new("/proc/self/exe");
    let child = family::start(child.arg(STAGE).arg(order).args(&args.command), &[]);
    drop(says);
    let watched = child.and_then(|child| {
        let watched = watch::watch(child.id(), Until::ChildEnds)?;
        watch::end_descendants();
        watch::watch(0, Until::NoneIsLeft)?;
        Ok(watched)
    });
    family::let_signals_come(HELD).map_err(failed)?;
    let watched = watched.map_err(failed)?;
    match words::hear(&mut BufReader::new(hears)) {
        Ok(Some(TrialReport::Ended(code))) => Ok((code, watched.interrupted)),
        Ok(Some(TrialReport::Failed(failure))) => Err(failure),
        // It was killed, and the command with it.
        Ok(None) | Err(_) => Ok((watched.ended.exit_code(), true)),
    }
}
