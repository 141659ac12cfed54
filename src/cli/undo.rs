//! `undo`: takes back what was done last to a line, through the daemon: by a rollback, or as a change at once.

use super::args::UndoArgs;
use super::engine::RollbackOrder;
use super::merge::conflict_text;
use super::merging::encode_conflict;
use super::restore::{ChangesTold, by_whom};
use super::restoring::{failed, guards_told, tell};
use super::snapshots::daemon_for_changes;
use super::{output, rewind, rollback, told_rollback, trashed};
use crate::ctl::{Code, Failure};
use crate::format::provenance::Provenance;
use crate::fs::{Fs, TakenBack, Undoable};
use crate::names;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::path::Path;

const DONE: u8 = 0;
const CONFLICTS: u8 = 3;

/// Takes it back, or tells what that would change. Returns the exit code: whether something was in the way.
pub(super) fn run(args: &UndoArgs) -> Result<u8, Failure> {
    let client = daemon_for_changes(&args.target)?;
    let request = by_whom(told_rollback::request(OsStr::new(""), args.force, args.dry_run));
    let (mut told, mut conflicts) = (ChangesTold::new(args.json.json, args.dry_run), Vec::new());
    let answer = client.stream("undo", request, &mut |piece| {
        conflicts.extend(piece["conflicts"].as_array().into_iter().flatten().cloned());
        told.take(&piece)
    });
    let answer = match answer {
        Err(f) if args.json.json => {
            let refused = json!({"changed": false, "why": f.message});
            output::print_json(&refused).map_err(|e| Failure::new(Code::Other, e))?;
            return Err(f);
        }
        answer => answer?,
    };
    let answer = answer.unwrap_or_default();
    if answer.get("root").is_some() {
        return rollback::told_undo(&client, args, &answer);
    }
    if let Some(back) = names::get_list(&answer, "undeleted") {
        let what = if args.dry_run { "would come back from the trash" } else { "is back from the trash" };
        let printed = match args.json.json {
            true => output::print_json(&answer),
            false => output::print(
                &back.iter().map(|name| format!("{} {what}\n", names::shown_bytes(name))).collect::<String>(),
            ),
        };
        printed.map_err(|e| Failure::new(Code::Other, e))?;
        return told_kept(&answer).map(|()| DONE);
    }
    if conflicts.is_empty() {
        return told.finish(&answer).map(|()| DONE);
    }
    let printed = match args.json.json {
        true => output::print_json(&json!({"changed": false, "conflicts": conflicts})),
        false => output::print(&conflicts.iter().map(conflict_text).collect::<String>()),
    };
    printed.map_err(|e| Failure::new(Code::Other, e))?;
    eprintln!("snapfs: nothing was taken back: what was changed then has changed since");
    Ok(CONFLICTS)
}

/// Fails if something that was deleted does not come back, with the reasons.
fn told_kept(answer: &Value) -> Result<(), Failure> {
    let kept = answer["kept"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut why = kept.iter().map(|one| names::sentence(one["why"].as_str().unwrap_or_default()));
    // The last of the sentences is that of the failure.
    let Some(last) = why.next_back() else { return Ok(()) };
    why.for_each(|what| eprintln!("snapfs: {what}"));
    Err(Failure::new(Code::Other, last))
}

/// The daemon's part: does it, or tells what it would change.
pub(super) fn carry_out(
    fs: &Fs,
    store: &Path,
    order: &RollbackOrder,
    provenance: &Provenance,
    put: &mut dyn FnMut(Value) -> bool,
) -> Result<Value, Failure> {
    let last = fs.last_undoable(order.at).map_err(|e| failed(store, e.into()))?;
    if let Some(Undoable::Deletion(trash)) = &last {
        return trashed::undo(fs, order.at, trash, order.dry_run);
    }
    let Some(Undoable::Change(change)) = last else {
        return Ok(told_rollback::encode(&rewind::undo(fs, store, order)?));
    };
    let done = match order.dry_run {
        true => fs.rehearse_take_back(order.at, &change, provenance),
        false => fs.take_back(order.at, &change, provenance),
    };
    match done.map_err(|e| failed(store, e))? {
        TakenBack::Conflicts(all) => {
            let sides = [change.before.name.clone(), b"@live".to_vec()];
            let all: Vec<Value> = all.iter().map(|conflict| encode_conflict(conflict, &sides)).collect();
            put(json!({"conflicts": all}));
            Ok(json!({}))
        }
        TakenBack::Done(restored) => {
            tell(&restored.changes, put);
            let guards = restored.guards.as_ref();
            Ok(guards.map_or(json!({}), |(before, after)| guards_told(before, after)))
        }
    }
}
