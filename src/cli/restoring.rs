//! What the daemon does for `restore`, and how that travels.

use super::engine::Engine;
use super::refusal;
use super::told_change::encode_change;
use crate::ctl::{Code, Failure};
use crate::format::provenance::Provenance;
use crate::fs::{Fs, NamedPath, PathChange, Refusal, RestoreOrder, Restored, Uncovered};
use crate::names;
use crate::ops::{Error, NodeId};
use crate::volume::SnapshotInfo;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Mounts that are named at most.
const MOUNTS_MAX: usize = 10;

/// Changes of paths in one line of an answer.
const CHANGES_TOLD: usize = 256;

/// The daemon's part.
pub(super) fn answer(
    engine: &dyn Engine,
    args: &Value,
    provenance: &Provenance,
    progress: &mut dyn FnMut(Value) -> bool,
) -> Result<Value, Failure> {
    let order = decode(args)
        .ok_or_else(|| Failure::new(Code::Invalid, "the request says nothing that can be restored"))?;
    let dry_run = args.get("dry_run").and_then(Value::as_bool).unwrap_or(false);
    engine.restore(&order, dry_run, provenance, progress)
}

/// An order as it came; none if it makes no sense.
pub(super) fn decode(args: &Value) -> Option<RestoreOrder> {
    let path = |value: &Value| {
        Some(NamedPath {
            at: NodeId(value["at"].as_u64()?),
            below: names::get_list(value, "below")?,
            name: names::get(value, "name")?,
        })
    };
    let paths = args.get("paths")?.as_array()?.iter().map(path).collect::<Option<Vec<_>>>()?;
    let to = args.get("to").and_then(Value::as_u64).map(NodeId);
    Some(RestoreOrder { paths, from: names::get(args, "from"), to })
}

/// What is asked of the daemon.
pub(super) struct RestoreWanted<'a> {
    pub(super) order: &'a RestoreOrder,
    pub(super) dry_run: bool,
    pub(super) provenance: &'a Provenance,
}

/// Does it, or tells what it would change.
pub(super) fn carry_out(
    fs: &Fs,
    store: &Path,
    wanted: &RestoreWanted<'_>,
    put: &mut dyn FnMut(Value) -> bool,
) -> Result<Value, Failure> {
    let RestoreWanted { order, dry_run, provenance } = *wanted;
    let why = |refusal| refused(store, order, refusal);
    if dry_run {
        let changes = fs.rehearse_restore(order, provenance).map_err(why)?;
        tell(&changes, put);
        return Ok(json!({}));
    }
    let Restored { changes, guards } = fs.restore(order, provenance).map_err(why)?;
    tell(&changes, put);
    Ok(guards.map_or(json!({}), |(before, after)| guards_told(&before, &after)))
}

/// Hands changes on, some at a time.
pub(super) fn tell(changes: &[PathChange], put: &mut dyn FnMut(Value) -> bool) {
    for some in changes.chunks(CHANGES_TOLD) {
        let some: Vec<Value> = some.iter().map(encode_change).collect();
        if !put(json!({"changes": some})) {
            break;
        }
    }
}

/// The guards of a change, by name, as they travel.
pub(super) fn guards_told(before: &SnapshotInfo, after: &SnapshotInfo) -> Value {
    let mut object = json!({});
    for (key, snapshot) in [("before", before), ("after", after)] {
        names::put(&mut object, key, OsStr::from_bytes(&snapshot.name));
    }
    object
}

fn refused(store: &Path, order: &RestoreOrder, refusal: Refusal) -> Failure {
    match refusal {
        Refusal::Path(path, e) => {
            let path = if path.is_empty() { ".".to_string() } else { names::shown_bytes(&path) };
            let (code, why) = match e {
                Error::NotFound => (Code::NotFound, "it is not in that view"),
                Error::NotADirectory if order.to.is_none() => (
                    Code::Exists,
                    "what is above it is no directory now; restore that, or elsewhere with --to",
                ),
                Error::Exists => (Code::Exists, "something of that name is there already"),
                Error::Invalid | Error::NameTooLong if order.to.is_some() => (
                    Code::Invalid,
                    "no file can be called what its copy would be; restore what is in it instead",
                ),
                e => return refusal::told(store, &e),
            };
            Failure::new(code, format!("{path}: {why}"))
        }
        Refusal::Failed(Error::CrossView) => {
            Failure::new(Code::Invalid, "the paths are of different lines; restore those of one at a time")
        }
        Refusal::Failed(Error::Invalid) => Failure::new(
            Code::Invalid,
            "from which view? Either say --from VIEW, or name paths as .snapshots/NAME/..., not both",
        ),
        Refusal::Failed(Error::ReadOnly) if order.to.is_some() => Failure::new(
            Code::ReadOnly,
            "nothing can be changed there: the directory of --to is in a snapshot, or the mount takes no changes",
        ),
        refusal => failed(store, refusal),
    }
}

/// Why nothing was changed, whatever was asked for.
pub(super) fn failed(store: &Path, refusal: Refusal) -> Failure {
    match refusal {
        Refusal::Writers(paths, count) => {
            let more = if count > paths.len() {
                format!(" and {} more", count - paths.len())
            } else {
                String::new()
            };
            let what = format!(
                "{}{more}: in use, and its content would change; have it closed (by who writes it, with \
                 cache=writeback by who reads it too)",
                paths.join(", ")
            );
            Failure::new(Code::Busy, what)
        }
        Refusal::Uncovers(lost) => uncovers(&lost),
        Refusal::View(word, e) => refusal::told_view(&word, &e),
        Refusal::Path(_, e) | Refusal::Failed(e) => refusal::told(store, &e),
    }
}

/// Why nothing is changed below which something is mounted.
pub(super) fn uncovers(lost: &Uncovered) -> Failure {
    let cover = match lost {
        Uncovered::Cover(cover) => cover,
        Uncovered::Mounts(points) => {
            let shown: Vec<String> = points.iter().take(MOUNTS_MAX).map(names::shown).collect();
            let more = match points.len() - shown.len() {
                0 => String::new(),
                n => format!(" and {n} more"),
            };
            let what = "other file systems are mounted there, and would be cut off; unmount them first";
            return Failure::new(Code::Busy, format!("{}{more}: {what}", shown.join(", ")));
        }
    };
    let (path, trial) = (names::shown_bytes(&cover.path), names::shown_bytes(&cover.trial));
    let what = "would be another, and a trial goes on that would no longer be apart from the live tree there";
    let way = "end it first, or wait for its end";
    Failure::new(Code::Busy, format!("{path}: this {what}, on the clone {trial}; {way}"))
}
