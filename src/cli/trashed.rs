//! What the daemon does for orders about the trash: finds what is meant, brings it back or has it go, and tells what there is.

use super::output;
use super::pattern::{Pattern, is_pattern};
use super::refusal::told_name;
use super::trash_order::{TrashOrder, UndeleteOrder};
use crate::ctl::{Code, Failure};
use crate::format::trash::{TrashRecord, Trashed};
use crate::fs::Fs;
use crate::names;
use crate::ops::{Error, NodeId, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

const CLONE_PREFIX: &[u8] = b".clones/";

/// How it is called by commands.
pub(super) fn word(trash: &TrashRecord) -> Vec<u8> {
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

/// What a name or a pattern means: of what has the same name what was deleted last. A name is first taken as it is.
fn find(fs: &Fs, all: &[TrashRecord], name: &[u8]) -> Result<Vec<TrashRecord>, Failure> {
    if let Some(found) = all.iter().find(|trash| word(trash) == name) {
        return Ok(vec![found.clone()]);
    }
    let (of_clones, pattern) = match name.strip_prefix(CLONE_PREFIX) {
        Some(pattern) => (true, pattern),
        None => (false, name),
    };
    let mut found: Vec<TrashRecord> = Vec::new();
    if is_pattern(pattern) {
        let pattern = Pattern::parse(pattern);
        for trash in all {
            let is_clone = matches!(trash.what, Trashed::Line(..));
            let is_first = || found.iter().all(|later| later.name != trash.name);
            if is_clone == of_clones && pattern.means(&trash.name) && is_first() {
                found.push(trash.clone());
            }
        }
    }
    if !found.is_empty() {
        return Ok(found);
    }
    let (shown, is_pattern) = (names::shown_bytes(name), is_pattern(pattern));
    let what = match (fs.trash_secs(), is_pattern) {
        (Some(_), true) => "it matches nothing in the trash; what is there: snapfs list MNT --trash",
        (Some(_), false) => "it is not in the trash; what is there: snapfs list MNT --trash",
        (None, _) => {
            "there is no trash, and it is not in what is left of one; snapfs set trash=1h MNT has one from now on"
        }
    };
    Err(Failure::new(Code::NotFound, format!("{shown}: {what}")))
}

/// Brings back what is meant, oldest first, or tells what would come. What cannot come back stays, and is told with the reason.
fn undelete(fs: &Fs, at: NodeId, order: &UndeleteOrder) -> Result<Value, Failure> {
    let all = fs.trash_of(at).map_err(|e| told_name(b"", &e))?;
    let (mut meant, mut missing) = (BTreeMap::new(), Vec::new());
    for name in &order.names {
        match find(fs, &all, name) {
            Ok(found) => meant.extend(found.into_iter().map(|trash| (trash.number, trash))),
            Err(f) => missing.push(f.message),
        }
    }
    if order.new.is_some() && meant.len() > 1 {
        let what = format!("--as is for one, and these are {}", meant.len());
        return Err(Failure::new(Code::Invalid, what));
    }
    let named = meant.into_values().map(|trash| {
        let new = order.new.as_deref().map(|new| match trash.what {
            Trashed::Line(..) => new.strip_prefix(CLONE_PREFIX).unwrap_or(new),
            Trashed::Snapshot(..) => new,
        });
        let new = new.unwrap_or(&trash.name).to_vec();
        (trash, new)
    });
    let came = bring_back(fs, named, order.dry_run);
    let back: Vec<Value> = came
        .back
        .into_iter()
        .map(|(trash, new)| {
            let mut one = told(fs, &trash);
            let name = word(&TrashRecord { name: new, ..trash });
            names::put(&mut one, "name", OsStr::from_bytes(&name));
            one
        })
        .collect();
    let mut answer = json!({"kept": kept_told(&came.kept), "missing": missing});
    answer[if order.dry_run { "would_undelete" } else { "undeleted" }] = back.into();
    Ok(answer)
}

/// What came back, or would, and under which name, and what stays in the trash, with the reason.
struct Came {
    back: Vec<(TrashRecord, Vec<u8>)>,
    kept: Vec<(TrashRecord, Failure)>,
}

/// Brings back all of these that can come, each under its name, or tells which would.
fn bring_back(fs: &Fs, all: impl Iterator<Item = (TrashRecord, Vec<u8>)>, dry_run: bool) -> Came {
    let (mut came, mut clones) = (Came { back: Vec::new(), kept: Vec::new() }, 0);
    for (trash, new) in all {
        let done = match dry_run {
            true => fs.check_undelete(&trash, &new, clones),
            false => fs.undelete(&trash, &new),
        };
        match done {
            Ok(()) => {
                clones += usize::from(matches!(trash.what, Trashed::Line(..)));
                came.back.push((trash, new));
            }
            Err(e) => {
                let why = refused(fs, &trash, &new, &e);
                came.kept.push((trash, why));
            }
        }
    }
    came
}

fn kept_told(kept: &[(TrashRecord, Failure)]) -> Value {
    let told = |(trash, why): &(TrashRecord, Failure)| {
        let mut one = json!({"why": why.message});
        names::put(&mut one, "name", OsStr::from_bytes(&word(trash)));
        one
    };
    kept.iter().map(told).collect()
}

/// What keeps something from coming back, as a sentence.
fn refused(fs: &Fs, trash: &TrashRecord, name: &[u8], e: &Error) -> Failure {
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
        Error::Stale if !fs.is_in_trash(trash) => {
            "it is in the trash no more: another command has brought it back meanwhile, or had it go"
        }
        Error::Stale => "the clone that it was of is gone: bring that back first, if it is in the trash",
        e => return told_name(&word(trash), e),
    };
    Failure::new(Code::Other, format!("{shown}: {what}"))
}

/// Has all of these go for good that are there still: which have gone.
fn empty(fs: &Fs, all: Vec<TrashRecord>) -> Result<Vec<TrashRecord>, Failure> {
    let mut gone = Vec::new();
    for trash in all {
        match fs.empty_trash(trash.number) {
            Ok(()) => gone.push(trash),
            // Somebody was faster, or has brought it back.
            Err(Error::Stale) => {}
            Err(e) => return Err(told_name(&word(&trash), &e)),
        }
    }
    Ok(gone)
}

/// Carries out an order about the trash of the line that a node is of.
pub(super) fn carry_out(fs: &Fs, at: NodeId, order: &TrashOrder) -> Result<Value, Failure> {
    match order {
        TrashOrder::Undelete(order) => undelete(fs, at, order),
        TrashOrder::Empty(wanted) => {
            let mut all = fs.trash_of(at).map_err(|e| told_name(b"", &e))?;
            if !wanted.is_empty() {
                let meant = wanted.iter().map(|name| find(fs, &all, name)).collect::<Result<Vec<_>, _>>()?;
                let meant = meant.into_iter().flatten().map(|trash| (trash.number, trash));
                all = meant.collect::<BTreeMap<_, _>>().into_values().collect();
            }
            let mut answer = json!({});
            let gone: Vec<Vec<u8>> = empty(fs, all)?.iter().map(word).collect();
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

/// Takes the last deletion back, or says what would come: all that one command has deleted. What cannot come back stays, and is
/// told with the reason; if that is all of it, this fails.
pub(super) fn undo(fs: &Fs, at: NodeId, last: &TrashRecord, dry_run: bool) -> Result<Value, Failure> {
    let all = fs.trash_of(at).map_err(|e| told_name(&last.name, &e))?;
    let of_order =
        all.into_iter().filter(|trash| trash.number == last.number || is_of_one_order(last, trash));
    let mut of_order: Vec<(TrashRecord, Vec<u8>)> =
        of_order.map(|trash| (trash.clone(), trash.name)).collect();
    if of_order.is_empty() {
        // Another command was faster, and has left nothing.
        return Err(refused(fs, last, &last.name, &Error::Stale));
    }
    // What was deleted first comes back first.
    of_order.reverse();
    let came = bring_back(fs, of_order.into_iter(), dry_run);
    let mut answer = json!({"kept": kept_told(&came.kept)});
    let back: Vec<Vec<u8>> = came.back.iter().map(|(trash, _)| word(trash)).collect();
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
    #[test]
    fn whoever_was_slower_is_told_what_he_has_done_and_that_others_have_the_rest() {
        let fs = Fs::open(Volume::memory(1 << 30), FsOptions::default(), Clock::manual(1000)).unwrap();
        fs.volume().set_terms(LineId::MAIN, |terms| terms.trash = Some(3600)).unwrap();
        ["a", "b"].iter().for_each(|name| snapshot(&fs, name));
        let by = Provenance::default();
        for name in [b"a", b"b"] {
            fs.discard_snapshot_of(NodeId::ROOT, name, &by).unwrap();
        }
        let all = fs.trash_of(NodeId::ROOT).unwrap();
        let (b, a) = (&all[0], &all[1]);
        fs.undelete(a, b"a").unwrap();
        let both = || [a, b].map(|trash| (trash.clone(), trash.name.clone())).into_iter();
        let came = bring_back(&fs, both(), false);
        assert_eq!(came.back.iter().map(|(trash, _)| &*trash.name).collect::<Vec<_>>(), [b"b"]);
        let came = bring_back(&fs, both(), false);
        assert!(came.back.is_empty() && came.kept.len() == 2);
        assert!(came.kept[1].1.message.contains("b: it is in the trash no more"), "{}", came.kept[1].1);
        fs.discard_snapshot_of(NodeId::ROOT, b"b", &by).unwrap();
        let again = fs.trash_of(NodeId::ROOT).unwrap().remove(0);
        let gone = empty(&fs, vec![a.clone(), b.clone(), again.clone()]).unwrap();
        assert_eq!(gone, [again]);
    }

    #[test]
    fn what_cannot_come_back_keeps_nothing_else() {
        let clock = Clock::manual(1000);
        let fs = Fs::open(Volume::memory(1 << 30), FsOptions::default(), clock).unwrap();
        fs.volume().set_terms(LineId::MAIN, |terms| terms.trash = Some(3600)).unwrap();
        (1..4).for_each(|n| snapshot(&fs, &format!("k{n}")));
        let by = Provenance { command: b"snapfs delete k*".to_vec(), ..Provenance::default() };
        let all = fs.snapshots();
        fs.discard_snapshots_of(NodeId::ROOT, &all, Deletion::Kept(&by), &mut |_| true).unwrap();
        snapshot(&fs, "k2");
        let Some(Undoable::Deletion(last)) = fs.last_undoable(NodeId::ROOT).unwrap() else { panic!() };
        for dry_run in [true, false] {
            let told = undo(&fs, NodeId::ROOT, &last, dry_run).unwrap();
            assert_eq!(names::get_list(&told, "undeleted").unwrap(), [b"k1", b"k3"], "{told}");
            assert!(
                told["kept"][0]["why"].as_str().unwrap().contains("there is a snapshot called k2"),
                "{told}"
            );
        }
        // Another command has taken it back while this one looked for it.
        let gone = TrashRecord { number: last.number + 1, name: b"k1".to_vec(), ..(*last).clone() };
        let order = UndeleteOrder { names: vec![b"k2".to_vec()], new: None, dry_run: true };
        let told = undelete(&fs, NodeId::ROOT, &order).unwrap();
        assert!(told["kept"][0]["why"].as_str().unwrap().contains("--as"), "{told}");
        let why = refused(&fs, &gone, b"k1", &fs.undelete(&gone, b"k1").unwrap_err());
        assert!(why.message.contains("no more: another command"), "{why:?}");
    }

    #[test]
    fn a_rehearsal_counts_the_clones_that_would_come() {
        let fs = Fs::open(Volume::memory(1 << 30), FsOptions::default(), Clock::manual(1000)).unwrap();
        fs.volume().set_terms(LineId::MAIN, |terms| terms.trash = Some(3600)).unwrap();
        for name in ["c1", "c2"] {
            fs.clone_line(LineId::MAIN, name.as_bytes()).unwrap();
            fs.discard_clone(name.as_bytes(), &Provenance::default()).unwrap();
        }
        fs.volume().set_terms(LineId::MAIN, |terms| terms.clones_max = Some(1)).unwrap();
        let order = |dry_run| UndeleteOrder { names: vec![b".clones/c*".to_vec()], new: None, dry_run };
        let would = undelete(&fs, NodeId::ROOT, &order(true)).unwrap();
        let does = undelete(&fs, NodeId::ROOT, &order(false)).unwrap();
        assert_eq!((&would["kept"], &would["would_undelete"]), (&does["kept"], &does["undeleted"]));
        assert_eq!(does["kept"].as_array().map(Vec::len), Some(1), "{does}");
    }
}
