//! What the daemon does for `rollback` and `undo`: finds out what is meant, and tells what came of it.

use super::engine::{InTheWay, RollbackAnswer, RollbackOrder};
use super::refusal::{told, told_view};
use crate::ctl::{Code, Failure};
use crate::format::provenance::{Provenance, Reason};
use crate::fs::{Fs, Switched};
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
    let why = Provenance { description: to.name.clone(), ..Reason::Rollback.into() };
    let switched = fs.rollback(order.at, &to, order.writers, &why).map_err(whole)?;
    Ok(ended(answer(fs, store, order.at, &to)?, switched))
}

pub(super) fn undo(fs: &Fs, store: &Path, order: &RollbackOrder) -> Result<RollbackAnswer, Failure> {
    let Some((guard, switched)) = fs.undo(order.at, order.writers).map_err(|e| told(store, &e))? else {
        let what = "there is nothing to take back: no snapshot from before a rollback is there";
        return Err(Failure::new(Code::NotFound, format!("{}: {what}", names::shown(store))));
    };
    Ok(ended(answer(fs, store, order.at, &guard)?, switched))
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
            let lines = fs.volume().lines().into_iter();
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
                None => Err(told_view(&order.view, &Error::NotFound)),
            }
        }
        found => found.map_err(|e| told_view(&order.view, &e)),
    }
}
