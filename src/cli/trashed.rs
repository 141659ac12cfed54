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
    let mut of_order: Vec<&TrashRecord> =
        all.iter().filter(|trash| trash.number == last.number || is_of_one_order(last, trash)).collect();
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

/// True if one command has deleted both, however long it took: all that it deletes has the time at which it began.
fn is_of_one_order(one: &TrashRecord, other: &TrashRecord) -> bool {
    let are_snapshots = [one, other].iter().all(|trash| matches!(trash.what, Trashed::Snapshot(..)));
    are_snapshots && !one.by.command.is_empty() && one.by == other.by && one.since_secs == other.since_secs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::fixtures::snapshot;
    use crate::format::LineId;
    use crate::format::provenance::Provenance;
    use crate::fs::{Deletion, FsOptions, Undoable};
    use crate::volume::Volume;

    #[test]
    fn what_one_command_deleted_comes_back_as_one() {
        let clock = Clock::manual(1000);
        let fs = Fs::open(Volume::memory(1 << 30), FsOptions::default(), clock.clone()).unwrap();
        fs.volume().set_terms(LineId::MAIN, |terms| terms.trash = Some(3600)).unwrap();
        (0..150).for_each(|n| snapshot(&fs, &format!("s{n:03}")));
        let by = |command: &[u8]| Provenance { command: command.to_vec(), ..Provenance::default() };
        let (first, second) = (by(b"snapfs delete s*"), by(b"snapfs delete other"));
        snapshot(&fs, "other");
        let all = fs.snapshots();
        let (other, many) = all.split_last().unwrap();
        // Its batches take longer than a second, and somebody else deletes something in between.
        let mut batches = 0;
        let done = fs.discard_snapshots_of(NodeId::ROOT, many, Deletion::Kept(&first), &mut |_| {
            clock.advance(5_000_000_000);
            batches += 1;
            if batches == 2 {
                let one = std::slice::from_ref(other);
                let told = fs.discard_snapshots_of(NodeId::ROOT, one, Deletion::Kept(&second), &mut |_| true);
                assert!(told.unwrap()[0].is_ok());
            }
            true
        });
        assert!(done.unwrap().iter().all(Result::is_ok) && batches == 3);
        let undo = || {
            let Some(Undoable::Deletion(last)) = fs.last_undoable(NodeId::ROOT).unwrap() else { panic!() };
            let told = undo(&fs, NodeId::ROOT, &last, false).unwrap();
            names::get_list(&told, "undeleted").unwrap()
        };
        assert_eq!(undo(), many.iter().map(|s| s.name.clone()).collect::<Vec<_>>());
        assert_eq!(undo(), [b"other"]);
        assert_eq!(fs.snapshots(), all);
    }
}
