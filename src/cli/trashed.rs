//! What the daemon does for orders about the trash: finds what is meant, brings it back or has it go, and tells what there is.

use super::output;
use super::refusal::told_name;
use super::trash_order::TrashOrder;
use crate::ctl::{Code, Failure};
use crate::format::trash::{TrashRecord, Trashed};
use crate::fs::Fs;
use crate::names;
use crate::ops::{Error, NodeId, Timestamp};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

const CLONE_PREFIX: &[u8] = b".clones/";

/// How it is called by commands.
fn word(trash: &TrashRecord) -> Vec<u8> {
    match trash.what {
        Trashed::Snapshot(..) => trash.name.clone(),
        Trashed::Line(..) => [CLONE_PREFIX, &trash.name].concat(),
    }
}

fn told(fs: &Fs, trash: &TrashRecord) -> Value {
    let time = |secs| output::rfc3339(Timestamp { secs, nanos: 0 });
    let kind = match trash.what {
        Trashed::Snapshot(..) => "snapshot",
        Trashed::Line(..) => "clone",
    };
    let mut object = json!({
        "kind": kind, "deleted": time(trash.since_secs), "user": trash.by.user,
        "goes": time(fs.time_of_age(trash.ends)),
    });
    names::put(&mut object, "name", OsStr::from_bytes(&word(trash)));
    match trash.by.command.is_empty() {
        true => object["command"] = Value::Null,
        false => names::put(&mut object, "command", OsStr::from_bytes(&trash.by.command)),
    }
    object
}

fn find(fs: &Fs, at: NodeId, name: &[u8]) -> Result<TrashRecord, Failure> {
    let all = fs.trash_of(at).map_err(|e| told_name(name, &e))?;
    let found = all.into_iter().find(|trash| word(trash) == name);
    found.ok_or_else(|| {
        let shown = names::shown_bytes(name);
        let what = match fs.trash_secs() {
            Some(_) => "it is not in the trash; what is there: snapfs list MNT --trash",
            None => "there is no trash, and it is not in what is left of one; snapfs set trash=1h MNT has one from now on",
        };
        Failure::new(Code::NotFound, format!("{shown}: {what}"))
    })
}

/// What keeps something from coming back, as a sentence.
fn refused(trash: &TrashRecord, name: &[u8], e: &Error) -> Failure {
    let shown = names::shown_bytes(&word(trash));
    let kind = match trash.what {
        Trashed::Snapshot(..) => "snapshot",
        Trashed::Line(..) => "clone",
    };
    let what = match e {
        Error::Exists => {
            let taken = names::shown_bytes(name);
            let way = "bring this one back under another name with --as";
            return Failure::new(
                Code::Exists,
                format!("{shown}: there is a {kind} called {taken} by now; {way}"),
            );
        }
        Error::LimitReached => {
            "there are as many clones as there may be: drop one, or snapfs set clones_max="
        }
        Error::Stale => "the clone that it was of is gone: bring that back first, if it is in the trash",
        e => return told_name(&word(trash), e),
    };
    Failure::new(Code::Other, format!("{shown}: {what}"))
}

/// Carries out an order about the trash of the line that a node is of.
pub(super) fn carry_out(fs: &Fs, at: NodeId, order: &TrashOrder) -> Result<Value, Failure> {
    match order {
        TrashOrder::Undelete(name, new) => {
            let trash = find(fs, at, name)?;
            let new = new.as_deref().map(|new| match trash.what {
                Trashed::Line(..) => new.strip_prefix(CLONE_PREFIX).unwrap_or(new),
                Trashed::Snapshot(..) => new,
            });
            let new = new.unwrap_or(&trash.name);
            fs.undelete(&trash, new).map_err(|e| refused(&trash, new, &e))?;
            let mut answer = told(fs, &trash);
            names::put(
                &mut answer,
                "name",
                OsStr::from_bytes(&word(&TrashRecord { name: new.to_vec(), ..trash })),
            );
            Ok(answer)
        }
        TrashOrder::Empty(wanted) => {
            let all = match &wanted[..] {
                [] => fs.trash_of(at).map_err(|e| told_name(b"", &e))?,
                some => some.iter().map(|name| find(fs, at, name)).collect::<Result<_, _>>()?,
            };
            for trash in &all {
                match fs.empty_trash(trash.number) {
                    Ok(()) | Err(Error::Stale) => {}
                    Err(e) => return Err(told_name(&word(trash), &e)),
                }
            }
            let mut answer = json!({});
            let gone: Vec<Vec<u8>> = all.iter().map(word).collect();
            names::put_list(
                &mut answer,
                "gone",
                &gone.iter().map(|n| OsStr::from_bytes(n)).collect::<Vec<_>>(),
            );
            Ok(answer)
        }
        TrashOrder::Tell => {
            let all = fs.trash_of(at).map_err(|e| told_name(b"", &e))?;
            Ok(Value::Array(all.iter().map(|trash| told(fs, trash)).collect()))
        }
    }
}

/// Takes the last deletion back, or says what would come: all that one command has deleted.
pub(super) fn undo(fs: &Fs, at: NodeId, last: &TrashRecord, dry_run: bool) -> Result<Value, Failure> {
    let all = fs.trash_of(at).map_err(|e| told_name(&last.name, &e))?;
    let mut of_order: Vec<&TrashRecord> = Vec::new();
    for trash in all.iter().skip_while(|trash| trash.number != last.number) {
        let goes_on = of_order.last().is_none_or(|later| is_of_one_order(later, trash));
        if !goes_on {
            break;
        }
        of_order.push(trash);
    }
    // What was deleted first comes back first.
    of_order.reverse();
    if !dry_run {
        for trash in &of_order {
            fs.undelete(trash, &trash.name).map_err(|e| refused(trash, &trash.name, &e))?;
        }
    }
    let mut answer = json!({});
    let back: Vec<Vec<u8>> = of_order.into_iter().map(word).collect();
    names::put_list(&mut answer, "undeleted", &back.iter().map(|n| OsStr::from_bytes(n)).collect::<Vec<_>>());
    Ok(answer)
}

/// True if one command has deleted both, the one right after the other.
fn is_of_one_order(later: &TrashRecord, earlier: &TrashRecord) -> bool {
    let are_snapshots = [later, earlier].iter().all(|trash| matches!(trash.what, Trashed::Snapshot(..)));
    let passed = later.since_secs.saturating_sub(earlier.since_secs);
    are_snapshots && !later.by.command.is_empty() && later.by == earlier.by && (0..=1).contains(&passed)
}
