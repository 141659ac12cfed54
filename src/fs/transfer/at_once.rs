//! The frame of a change at once: what is held while a line takes over from another view, and who is told afterwards.
//!
//! From the first point to the last nobody else changes the lines concerned: snapshots and commits are held off, and so are
//! the gates of the line and of the one that it takes over from. Readers go on. In between lies a guard, the change, and
//! a guard that tells what was changed from what comes later. Nothing is left of a change that is refused. Lock order: as
//! for a snapshot; all is let go of before a commit that space is to come from, and before the kernel is told.

use super::apply::{Transferred, carry_out, close_gate};
use super::plan::Plan;
use crate::format::provenance::{Provenance, Reason};
use crate::format::{Ino, LineId};
use crate::fs::content::drop_reference;
use crate::fs::difference::{Name, PathChange, difference, names_of};
use crate::fs::heads::{Gate, Head, Heads};
use crate::fs::items::path_of;
use crate::fs::past::{OneAtATime, Past};
use crate::ops::{Error, Result};
use crate::volume::{SnapshotInfo, Turn, View, VolumeError};
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

/// How often somebody who seems to have a file open is looked for again.
const CLOSING_ROUNDS: usize = 20;
/// How long after the last time.
const CLOSING_PAUSE: Duration = Duration::from_millis(10);
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
    /// A line that is compared with that view from then on, or with none.
    pub base: Option<(LineId, Option<Arc<View>>)>,
}

/// What was changed.
pub struct Done {
    /// The line before.
    pub before: SnapshotInfo,
    /// The line right after.
    pub after: SnapshotInfo,
    /// What was changed.
    pub transferred: Transferred,
}

/// Why nothing was changed.
#[derive(Debug)]
pub enum Refusal {
    /// Files whose content would change are open for writing, or at all where the kernel keeps sizes: paths, of some if they
    /// are many, and how many there are.
    Writers(Vec<String>, usize),
    /// Something is wrong with a path.
    Path(Vec<u8>, Error),
    /// Or with the word for a view.
    View(Vec<u8>, Error),
    /// Another reason.
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Refusal {
    fn from(e: E) -> Refusal {
        Refusal::Failed(e.into())
    }
}

/// Makes a plan of a change, nothing if there is none.
pub type Settle<'s> = &'s mut dyn FnMut(&Sides<'_>) -> Result<Option<Settled>>;

type Refusable<T> = std::result::Result<T, Refusal>;

/// Does something with a plan at the gate of the line, and with what it takes over from.
type Act<'a, T> = &'a mut dyn FnMut(&mut Turn<'_, Gate>, Settled, &View) -> Refusable<T>;

/// Changes a line at once by the plan that `settle` makes, durable when this returns. Nothing if it makes none, or one of
/// nothing. If space is short `settle` is asked again, after commits.
pub fn change_at_once(past: &Past, order: &ChangeOrder<'_>, settle: Settle<'_>) -> Refusable<Option<Done>> {
    once_closed(|e| matches!(e, Refusal::Writers(..)), || change_now(past, order, settle))
}

/// Does something that open files may be in the way of, again for a moment while they are: the kernel answers `close` before
/// it tells us.
pub fn once_closed<T, E>(
    is_open: impl Fn(&E) -> bool,
    mut act: impl FnMut() -> std::result::Result<T, E>,
) -> std::result::Result<T, E> {
    for _ in 0..CLOSING_ROUNDS {
        match act() {
            Err(e) if is_open(&e) => std::thread::sleep(CLOSING_PAUSE),
            done => return done,
        }
    }
    act()
}

fn change_now(past: &Past, order: &ChangeOrder<'_>, settle: Settle<'_>) -> Refusable<Option<Done>> {
    if order.head.is_received {
        return Err(Error::ReadOnly.into());
    }
    let done = with_space(past, settle, &mut |settle, held| {
        hold(past, order, settle, &mut |gate, settled, source| {
            guarded(past, order, (gate, held), settled, source)
        })
    });
    // Whatever was made and deleted again, or stays.
    past.forget_snapdirs();
    let done = done?;
    if let Some(done) = &done {
        tell_kernel(past, order.head, &done.transferred);
        // What the log does not hold is in a commit.
        past.commits.sync()?;
    }
    Ok(done)
}

/// Does the same, and leaves the line as it was: what would change.
pub fn rehearse_at_once(
    past: &Past,
    order: &ChangeOrder<'_>,
    settle: Settle<'_>,
) -> Refusable<Vec<PathChange>> {
    once_closed(|e| matches!(e, Refusal::Writers(..)), || rehearse_now(past, order, settle))
}

fn rehearse_now(past: &Past, order: &ChangeOrder<'_>, settle: Settle<'_>) -> Refusable<Vec<PathChange>> {
    let (heads, line) = (&past.commits.heads, order.head.line);
    let changes = with_space(past, settle, &mut |settle, _| {
        hold(past, order, settle, &mut |_, settled, source| {
            let (now, mut changes) = (heads.clock.now(), None);
            let mut txn = heads.volume.begin(line)?;
            let before = txn.view().clone();
            let rehearsed = txn.attempt(|txn| -> std::result::Result<(), VolumeError> {
                carry_out(txn, source, settled.plan, now)?;
                changes = Some(difference(&before, txn.view(), None)?);
                Err(VolumeError::NoSuchView) // only to look
            });
            match (changes, rehearsed) {
                (Some(changes), _) => Ok(changes),
                (None, Err(e)) => Err(e.into()),
                (None, Ok(())) => Err(Error::Stale.into()),
            }
        })
    });
    Ok(changes?.unwrap_or_default())
}

/// Runs `act` with snapshots held off, once more if space is short and commits can make some available.
fn with_space<T>(
    past: &Past,
    settle: Settle<'_>,
    act: &mut dyn FnMut(Settle<'_>, &OneAtATime<'_>) -> Refusable<T>,
) -> Refusable<T> {
    let both = RefCell::new((settle, act));
    past.commits.with_space(|| {
        let (settle, act) = &mut *both.borrow_mut();
        match act(&mut **settle, &past.one_at_a_time()) {
            Err(Refusal::Failed(e)) => Err(e),
            done => Ok(done),
        }
    })?
}

/// Holds everything that has to be, asks for the plan and has `act` do something with it.
fn hold<T>(
    past: &Past,
    order: &ChangeOrder<'_>,
    settle: Settle<'_>,
    act: Act<'_, T>,
) -> Refusable<Option<T>> {
    let (commits, heads) = (&past.commits, &past.commits.heads);
    heads.check_writable()?;
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
            heads.volume.set_base(*line, base.as_deref())?;
        }
        return Ok(None);
    }
    refuse_open(heads, order.head, &target, &settled.plan)?;
    let gate = gates.iter_mut().find(|(head, _)| head.line == line).map(|(_, gate)| gate);
    let gate = gate.ok_or(Error::Stale)?;
    let kept;
    let source = match &settled.source {
        TakenFrom::Target => &target,
        TakenFrom::Other => other.as_ref().ok_or(Error::Invalid)?,
        TakenFrom::View(view) => {
            kept = view.clone();
            &kept
        }
    };
    act(gate, settled, source).map(Some)
}

/// The change with its guards.
fn guarded(
    past: &Past,
    order: &ChangeOrder<'_>,
    (gate, held): (&mut Turn<'_, Gate>, &OneAtATime<'_>),
    settled: Settled,
    source: &View,
) -> Refusable<Done> {
    let (heads, line) = (&past.commits.heads, order.head.line);
    let (before, _) = past.guard_as_held(order.head, order.provenance, held)?;
    let now = heads.clock.now();
    let transferred = (|| {
        let mut txn = heads.volume.begin(line)?;
        let done = txn.attempt(|txn| {
            let done = carry_out(txn, source, settled.plan, now)?;
            close_gate(gate, &done);
            Ok(done)
        });
        // Visible from here on.
        match settled.base.filter(|_| done.is_ok()) {
            Some((line, base)) => txn.end_with_base(line, base.as_deref()),
            None => drop(txn),
        }
        done
    })();
    gate.share();
    let transferred = transferred.inspect_err(|_: &VolumeError| {
        heads.volume.take_back_snapshot(line, before.id);
    })?;
    let after = Provenance { reason: Reason::After, ..order.provenance.clone() };
    let (after, _) = past.guard_as_held(order.head, &after, held)?;
    Ok(Done { before, after, transferred })
}

/// Nobody who writes a file is to go on with what is no longer what it was. Where the kernel keeps sizes, nobody who reads
/// it either: it would be read as long as it was.
fn refuse_open(heads: &Heads, head: &Head, target: &View, plan: &Plan) -> Refusable<()> {
    let is_open = |ino: &Ino| {
        let node = head.node(*ino);
        if heads.options.writeback_cache {
            heads.handles.is_open(node)
        } else {
            heads.handles.is_writer(node)
        }
    };
    let taken = plan.inodes.iter().filter(|(ino, takeover)| takeover.aspects.content && **ino < Plan::FRESH);
    let open: Vec<Ino> = taken.map(|(ino, _)| *ino).filter(is_open).collect();
    if open.is_empty() {
        return Ok(());
    }
    let paths = open.iter().take(PATHS_MAX).map(|ino| path_of(target, *ino)).collect();
    Err(Refusal::Writers(paths, open.len()))
}

/// Has the kernel forget what is another now. No lock is held: it waits for reads that are under way.
fn tell_kernel(past: &Past, head: &Head, done: &Transferred) {
    let heads = &past.commits.heads;
    let kernel = heads.kernel();
    let mut names: Vec<Name> = done.names.clone();
    if heads.options.writeback_cache
        && let Ok(view) = heads.view(head)
    {
        // Sizes go with the inode alone, and that with its names.
        let content = done.content.iter().filter_map(|ino| names_of(&view, *ino).ok());
        names.extend(content.flatten());
    }
    kernel.drop_names(names.into_iter().map(|(dir, name)| (head.node(dir), name)).collect());
    for ino in done.changed.iter().chain(&done.made) {
        kernel.invalidate_now(head.node(*ino));
    }
    for ino in &done.unlinked {
        // What the kernel does not know it does not forget: nobody else has these purged.
        if !kernel.invalidate_now(head.node(*ino)) {
            drop_reference(&past.commits, head.node(*ino), true);
        }
    }
}
