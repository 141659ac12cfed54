//! What the daemon does for `rollback`, `promote` and `undo`: finds out what is meant, and tells what came of it.

use super::engine::{InTheWay, PromoteOrder, RollbackAnswer, RollbackOrder};
use super::refusal::{told, told_clone, told_snapshot, told_view};
use crate::ctl::{Code, Failure};
use crate::format::provenance::{Provenance, Reason};
use crate::fs::{Fs, Promoted, PromotionOrder, Switched, Undoable};
use crate::names;
use crate::ops::{Error, NodeId};
use crate::volume::SnapshotInfo;
use std::path::Path;

pub(super) fn rollback(fs: &Fs, store: &Path, order: &RollbackOrder) -> Result<RollbackAnswer, Failure> {
    let to = find(fs, order)?;
    let whole = |e: Error| told(store, &e);
    if order.dry_run {
        let in_the_way = fs.in_the_way(order.at).map_err(whole)?;
        return Ok(RollbackAnswer { in_the_way, ..answer(fs, store, order.at, &to)? });
    }
    // What is only told is found out before anything is done.
    let answer = answer(fs, store, order.at, &to)?;
    let why = Provenance { description: to.name.clone(), ..Reason::Rollback.into() };
    let switched = fs.rollback(order.at, &to, order.writers, &why).map_err(whole)?;
    Ok(ended(answer, switched))
}

pub(super) fn promote(fs: &Fs, order: &PromoteOrder) -> Result<RollbackAnswer, Failure> {
    let shown = names::shown_bytes(&order.name);
    let fails = |code, what: String| Err(Failure::new(code, format!("{shown}: {what}")));
    let asked = PromotionOrder {
        clone: &order.name,
        onto: order.onto.as_deref(),
        keep_as: order.keep_as.as_deref(),
        writers: order.writers,
    };
    let why = Provenance { description: order.name.clone(), ..Reason::Promote.into() };
    let unknown =
        order.onto.as_ref().filter(|onto| !onto.is_empty() && fs.volume().find_line(onto).is_none());
    match fs.promote(&asked, &why) {
        Ok(Promoted::Switched(switched)) => {
            let (root, in_the_way) = (NodeId::ROOT, InTheWay::default());
            Ok(ended(RollbackAnswer { root, view: order.name.clone(), guard: None, in_the_way }, switched))
        }
        Ok(Promoted::NoLine) => {
            let way = "name the line that it is to become with --onto: '.' or .clones/NAME";
            fails(Code::Invalid, format!("the line that it came from is gone; {way}"))
        }
        Ok(Promoted::NameTaken(name)) if order.keep_as.as_ref() == Some(&name) => {
            let name = names::shown_bytes(&name);
            fails(Code::Exists, format!("a snapshot called {name} is there; choose another name with --as"))
        }
        Ok(Promoted::NameTaken(name)) => {
            let name = names::shown_bytes(&name);
            let way = "rename one of them first (snapfs rename)";
            fails(Code::Exists, format!("the clone and the line both have a snapshot called {name}; {way}"))
        }
        Err(Error::NotFound) if unknown.is_some() => {
            Err(told_clone(unknown.map_or(&[][..], |name| &name[..]), &Error::NotFound))
        }
        Err(Error::Invalid) if fs.volume().find_line(&order.name).is_some() => {
            let what = match &order.keep_as {
                Some(name) => format!("{} is not a name for a snapshot", names::shown_bytes(name)),
                None => "a clone does not become itself".into(),
            };
            fails(Code::Invalid, what)
        }
        Err(Error::Busy) => {
            fails(Code::Busy, "it is what the mount shows; mount the store without -o clone= first".into())
        }
        Err(e) => Err(told_clone(&order.name, &e)),
    }
}

/// Takes a rollback back, or says what would stand in the way.
pub(super) fn undo(fs: &Fs, store: &Path, order: &RollbackOrder) -> Result<RollbackAnswer, Failure> {
    let whole = |e: Error| told(store, &e);
    let nothing = || {
        let what = "there is nothing to take back: no snapshot from before a rollback, restore, merge or rebase is there";
        Failure::new(Code::NotFound, format!("{}: {what}", names::shown(store)))
    };
    if order.dry_run {
        let last = fs.last_undoable(order.at).map_err(whole)?;
        let Some(Undoable::Switch(guard)) = last else { return Err(nothing()) };
        let in_the_way = fs.in_the_way(order.at).map_err(whole)?;
        return Ok(RollbackAnswer { in_the_way, ..answer(fs, store, order.at, &guard)? });
    }
    let root = fs.root_of_line(order.at).map_err(whole)?;
    let (guard, switched) = fs.undo(order.at, order.writers).map_err(whole)?.ok_or_else(nothing)?;
    let answer = RollbackAnswer { root, view: guard.name, guard: None, in_the_way: InTheWay::default() };
    Ok(ended(answer, switched))
}

fn answer(fs: &Fs, store: &Path, at: NodeId, to: &SnapshotInfo) -> Result<RollbackAnswer, Failure> {
    let root = fs.root_of_line(at).map_err(|e| told(store, &e))?;
    Ok(RollbackAnswer { root, view: to.name.clone(), guard: None, in_the_way: InTheWay::default() })
}

fn ended(answer: RollbackAnswer, switched: Switched) -> RollbackAnswer {
    match switched {
        Switched::Done(guard) => RollbackAnswer { guard: Some(guard.name), ..answer },
        Switched::Refused(in_the_way) => RollbackAnswer { in_the_way, ..answer },
    }
}

/// The snapshot that is meant. What is none is refused with the way to what may be meant.
fn find(fs: &Fs, order: &RollbackOrder) -> Result<SnapshotInfo, Failure> {
    let shown = names::shown_bytes(&order.view);
    let refuse = |what: String| Err(Failure::new(Code::Invalid, format!("{shown}: {what}")));
    if order.view.starts_with(b".clones/") {
        let way = "'snapfs promote' makes it the line, 'snapfs restore' takes files from it";
        return refuse(format!("a line goes back to a snapshot of its own, and this is a clone; {way}"));
    }
    if order.view == b"@live" {
        return refuse("this is the line as it is now; name a snapshot (snapfs list)".into());
    }
    match fs.snapshot_of_word(order.at, &order.view) {
        Err(Error::NotFound) => {
            let lines = fs.volume().lines().into_iter().filter(|line| line.state.is_shown());
            let other = lines.filter(|line| fs.volume().find_snapshot(line.id, &order.view).is_some());
            match other.map(|line| line.name).next() {
                Some(line) => {
                    let whose = if line.is_empty() {
                        "the main line".into()
                    } else {
                        format!(".clones/{}", names::shown_bytes(&line))
                    };
                    let way = "'snapfs restore' takes files from it";
                    refuse(format!("this is a snapshot of {whose}, and a line goes back to its own; {way}"))
                }
                None => Err(told_snapshot(&order.view, &Error::NotFound)),
            }
        }
        found => found.map_err(|e| told_view(&order.view, &e)),
    }
}
