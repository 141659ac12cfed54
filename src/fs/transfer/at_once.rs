//! The frame of a change at once: what is held while a line takes over from another view, and who is told afterwards.
//!
//! From the first point to the last nobody else changes the lines concerned: snapshots and commits are held off, and so are
//! the gates of the line and of the one that it takes over from. Readers go on. In between lies a guard, the change, and
//! a guard that tells what was changed from what comes later. Nothing is left of a change that is refused. Lock order: as
//! for a snapshot; all is let go of before a commit that space is to come from, and before the kernel is told.

use super::apply::{Transferred, carry_out};
use super::plan::Plan;
use crate::format::provenance::{Provenance, Reason};
use crate::format::{Ino, LineId};
use crate::fs::content::drop_reference;
use crate::fs::heads::{Gate, Head, Heads};
use crate::fs::items::path_of;
use crate::fs::past::Past;
use crate::ops::{Error, Result};
use crate::volume::{SnapshotInfo, Turn, View};
use std::cell::RefCell;
use std::sync::Arc;

/// Paths that a refusal names at most.
const PATHS_MAX: usize = 20;

/// A change at once that is asked for.
#[derive(Clone)]
pub struct ChangeOrder<'o> {
    /// The head of the line that takes over.
    pub head: &'o Arc<Head>,
    /// That of the line which it takes over from, if that is a line and not a snapshot.
    pub other: Option<&'o Arc<Head>>,
    /// Why and by whom: of the guard before.
    pub provenance: &'o Provenance,
}

/// Both lines as they are, with all that the kernel held of files that are open, and nothing changes them.
pub struct Sides<'s> {
    /// The line that takes over.
    pub target: &'s View,
    /// The other.
    pub other: Option<&'s View>,
}

/// From where a plan takes over.
#[expect(dead_code, reason = "for plans between two lines, and for copies")]
pub enum TakenFrom {
    /// The line itself: a copy.
    Target,
    /// The other line.
    Other,
    /// Another view. A snapshot, which is kept by being held here.
    View(Arc<View>),
}

/// A plan, and from where it takes over.
pub struct Settled {
    /// What is taken over.
    pub plan: Plan,
    /// From where.
    pub source: TakenFrom,
    /// A line that is compared with that view from then on.
    pub base: Option<(LineId, Arc<View>)>,
}

/// What was changed.
pub struct Done {
    /// The line before.
    pub before: SnapshotInfo,
    /// The line right after.
    pub after: SnapshotInfo,
    /// What was changed.
    pub outcome: Transferred,
}

/// Why nothing was changed.
#[derive(Debug)]
pub enum Refusal {
    /// Files whose content would change are open for writing: paths, of some if they are many, and how many there are.
    Writers(Vec<String>, usize),
    /// Another reason.
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Refusal {
    fn from(e: E) -> Refusal {
        Refusal::Failed(e.into())
    }
}

/// Changes a line at once by the plan that `settle` makes, durable when this returns. Nothing if it makes none, or one of
/// nothing. If space is short `settle` is asked again, after commits.
pub fn change_at_once(
    past: &Past,
    order: &ChangeOrder<'_>,
    settle: &mut dyn FnMut(&Sides<'_>) -> Result<Option<Settled>>,
) -> std::result::Result<Option<Done>, Refusal> {
    let settle = RefCell::new(settle);
    let done = past.commits.with_space(|| match hold_and_change(past, order, &mut **settle.borrow_mut()) {
        Err(Refusal::Failed(e)) => Err(e),
        done => Ok(done),
    });
    // Whatever was made and deleted again, or stays.
    past.forget_snapdirs();
    let done = done??;
    if let Some(done) = &done {
        tell_kernel(past, order.head, &done.outcome);
        // What the log does not hold is in a commit.
        past.commits.sync()?;
    }
    Ok(done)
}

fn hold_and_change(
    past: &Past,
    order: &ChangeOrder<'_>,
    settle: &mut dyn FnMut(&Sides<'_>) -> Result<Option<Settled>>,
) -> std::result::Result<Option<Done>, Refusal> {
    let (commits, heads) = (&past.commits, &past.commits.heads);
    heads.check_writable()?;
    let held = past.one_at_a_time();
    let lines: Vec<Arc<Head>> = std::iter::once(order.head).chain(order.other).cloned().collect();
    for head in &lines {
        past.write_back(head)?;
    }
    let _no_commit = commits.hold_off();
    let line = order.head.line;
    let (target, mut gates) =
        commits.complete_and_hold(&lines, &mut |prepare| heads.volume.complete_view(line, prepare))?;
    let other = order.other.map(|other| heads.view(other)).transpose()?;
    let Some(settled) = settle(&Sides { target: &target, other: other.as_ref() })? else { return Ok(None) };
    if settled.plan.is_empty() {
        if let Some((line, base)) = &settled.base {
            heads.volume.set_base(*line, base)?;
        }
        return Ok(None);
    }
    refuse_writers(heads, order.head, &target, &settled.plan)?;
    let source = match &settled.source {
        TakenFrom::Target => &target,
        TakenFrom::Other => other.as_ref().ok_or(Error::Invalid)?,
        TakenFrom::View(view) => view,
    };
    let gate = gates.iter_mut().find(|(head, _)| head.line == line).map(|(_, gate)| gate);
    let gate = gate.ok_or(Error::Stale)?;
    let (before, _) = past.guard_as_held(order.head, order.provenance, &held)?;
    let outcome = match attempt(heads, order.head, gate, source, settled.plan, settled.base) {
        Ok(outcome) => outcome,
        Err(e) => {
            heads.volume.take_back_snapshot(line, before.id);
            return Err(e.into());
        }
    };
    let reason = Provenance { reason: Reason::After, ..order.provenance.clone() };
    let (after, _) = past.guard_as_held(order.head, &reason, &held)?;
    Ok(Some(Done { before, after, outcome }))
}

/// Carries out a plan on `head`, whose gate this is and holds nothing back: as a whole or not at all, seen by nobody before
/// it is whole. What the log does not hold becomes durable with the next commit.
pub fn attempt(
    heads: &Heads,
    head: &Head,
    gate: &mut Turn<'_, Gate>,
    source: &View,
    plan: Plan,
    base: Option<(LineId, Arc<View>)>,
) -> Result<Transferred> {
    let now = heads.clock.now();
    let mut txn = heads.volume.begin(head.line)?;
    let done = txn.attempt(|txn| carry_out(gate, txn, source, plan, now));
    // Visible from here on.
    match base.filter(|_| done.is_ok()) {
        Some((line, base)) => txn.end_with_base(line, &base),
        None => drop(txn),
    }
    gate.share();
    Ok(done?)
}

/// Nobody who writes a file is to go on with what is no longer what it was.
fn refuse_writers(
    heads: &Heads,
    head: &Head,
    target: &View,
    plan: &Plan,
) -> std::result::Result<(), Refusal> {
    let taken = plan.inodes.iter().filter(|(_, takeover)| takeover.aspects.content);
    let open: Vec<Ino> = taken
        .map(|(ino, _)| *ino)
        .filter(|ino| *ino < Plan::FRESH && heads.handles.is_writer(head.node(*ino)))
        .collect();
    if open.is_empty() {
        return Ok(());
    }
    let paths = open.iter().take(PATHS_MAX).map(|ino| path_of(target, *ino)).collect();
    Err(Refusal::Writers(paths, open.len()))
}

/// Has the kernel forget what is another now. No lock is held: it waits for reads that are under way.
fn tell_kernel(past: &Past, head: &Head, outcome: &Transferred) {
    let heads = &past.commits.heads;
    let kernel = heads.kernel();
    let names = outcome.names.iter().map(|(dir, name)| (head.node(*dir), name.clone())).collect();
    kernel.drop_names(names);
    let inodes = [&outcome.changed, &outcome.made, &outcome.unlinked];
    let known: Vec<Vec<bool>> = inodes
        .iter()
        .map(|inodes| inodes.iter().map(|ino| kernel.invalidate_now(head.node(*ino))).collect())
        .collect();
    // What the kernel does not know it does not forget: nobody else has these purged.
    for (ino, _) in outcome.unlinked.iter().zip(&known[2]).filter(|(_, known)| !**known) {
        drop_reference(&past.commits, head.node(*ino), true);
    }
}
