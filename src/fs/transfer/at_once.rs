//! The frame of a change at once: what is held while a line takes over from another view, and who is told afterwards.
//!
//! From the first point to the last nobody else changes the lines concerned: snapshots and commits are held off, and so are
//! the gates of the line and of the one that it takes over from. Readers go on. In between lies a guard, the change, and
//! a guard that tells what was changed from what comes later. Nothing is left of a change that is refused. Files whose content
//! is exchanged are kept from being opened from before the change until the kernel knows, and the line from being frozen; it is told
//! whatever else fails once the change is to be seen. Requests that change something are told before they would wait (see `heads::standstill`),
//! so threads that answer requests are left for those who read. Lock order: as for a snapshot; all is let go of before a commit that space is to come
//! from, and before the kernel is told.

use super::apply::{Transferred, carry_out, close_gate};
use super::plan::Plan;
use crate::format::provenance::{Provenance, Reason};
use crate::format::{Ino, LineId};
use crate::fs::content::{drop_left, drop_reference};
use crate::fs::difference::{Name, PathChange, difference, names_of};
use crate::fs::heads::{Barred, Gate, Head, Heads, KeptOut};
use crate::fs::items::path_of;
use crate::fs::past::{OneAtATime, Past, Uncovered};
use crate::ops::{Error, NodeId, ROOM_WAIT_MAX, Result, RoomFor};
use crate::volume::{ReserveFor, SnapshotInfo, Turn, View, VolumeError};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
    /// What these two hold.
    pub views: [Arc<View>; 2],
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
    /// A trial that goes on, or another file system, is mounted on a name that would be dropped, or below.
    Uncovers(Uncovered),
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

/// What is held, and what is to be done.
struct Held<'h, 'g> {
    gate: &'h mut Turn<'g, Gate>,
    /// The line.
    target: &'h View,
    settled: Settled,
    /// What it takes over from.
    source: &'h View,
    /// Since when changes are held up.
    closed: Instant,
}

/// Does something with what is held.
type Act<'a, T> = &'a mut dyn FnMut(Held<'_, '_>) -> Refusable<T>;

/// Changes a line at once by the plan that `settle` makes, durable when this returns. Nothing if it makes none, or one of
/// nothing. If space is short `settle` is asked again, after commits, and after what schedules took was let go.
pub fn change_at_once(past: &Past, order: &ChangeOrder<'_>, settle: Settle<'_>) -> Refusable<Option<Done>> {
    let heads = &past.commits.heads;
    let mut rounds = ROOM_ROUNDS_MAX;
    let lines: Vec<Arc<Head>> = std::iter::once(order.head).chain(order.other).cloned().collect();
    heads.check_writable()?;
    past.have_room_ahead(ReserveFor::Record, &lines)?;
    loop {
        let done = once_closed(heads, kept_out(heads), |open| change_now(past, order, settle, open));
        let is_short = matches!(done, Err(Refusal::Failed(Error::NoSpace)));
        // What is read, as the view that content is taken from, does not go.
        if !is_short || rounds == 0 || !past.can_make_room(NODES) || !past.make_room(NODES, ROOM_WAIT_MAX) {
            return done;
        }
        rounds -= 1;
    }
}

/// It is nodes of the tree that there has to be room for, and these are few.
const NODES: RoomFor = RoomFor::Change(0);
/// So often room is made for them at most.
const ROOM_ROUNDS_MAX: usize = 4;

/// Does something that open files may be in the way of, which it tells; again as soon as they are closed, if that is in a
/// moment: the kernel answers `close` before it tells us. Only they are looked at meanwhile, and nothing is held.
pub fn once_closed<T, E>(
    heads: &Heads,
    out: KeptOut,
    mut act: impl FnMut(&mut Vec<NodeId>) -> std::result::Result<T, E>,
) -> std::result::Result<T, E> {
    let is_open = |node: &NodeId| match out {
        KeptOut::Writers => heads.handles.is_writer(*node),
        KeptOut::All => heads.handles.is_open(*node),
    };
    let mut rounds = if heads.kernel().closes_late() { CLOSING_ROUNDS } else { 0 };
    loop {
        let mut open = Vec::new();
        let done = act(&mut open);
        if done.is_ok() || open.is_empty() {
            return done;
        }
        loop {
            if rounds == 0 {
                return done;
            }
            rounds -= 1;
            std::thread::sleep(CLOSING_PAUSE);
            if !open.iter().any(is_open) {
                break;
            }
        }
    }
}

/// Nobody who writes a file is to go on with what is no longer what it was. Where the kernel keeps sizes, nobody who reads
/// it either: it would be read as long as it was.
fn kept_out(heads: &Heads) -> KeptOut {
    if heads.options.writeback_cache { KeptOut::All } else { KeptOut::Writers }
}

fn change_now(
    past: &Past,
    order: &ChangeOrder<'_>,
    settle: Settle<'_>,
    open: &mut Vec<NodeId>,
) -> Refusable<Option<Done>> {
    if order.head.is_received {
        return Err(Error::ReadOnly.into());
    }
    let _kept = past.under_way.keep_covers();
    // Who waits for a thaw may have a directory locked that the kernel locks as it is told.
    let (mut thawed, mut barred, mut made) = (None, None, None);
    let done = with_space(past, settle, &mut |settle, no_snapshot| {
        barred = None;
        hold(past, order, settle, &mut |held| {
            barred = Some(bar(past, order, &held, open)?);
            thawed = Some(past.commits.heads.keep_thawed(order.head)?);
            guarded(past, order, held, no_snapshot, &mut made)
        })
    });
    // Whatever was made and deleted again, or stays.
    past.forget_snapdirs();
    if let Some(made) = &made {
        tell_kernel(past, order.head, made);
        barred.iter_mut().for_each(Barred::exchanged);
    }
    drop((barred, thawed));
    past.commits.outlive()?;
    if made.is_some() {
        // What the log does not hold is in a commit.
        past.commits.sync_what_is_done()?;
    }
    done
}

/// Does the same, and leaves the line as it was: what would change. It takes no space.
pub fn rehearse_at_once(
    past: &Past,
    order: &ChangeOrder<'_>,
    settle: Settle<'_>,
) -> Refusable<Vec<PathChange>> {
    let heads = &past.commits.heads;
    once_closed(heads, kept_out(heads), |open| rehearse_now(past, order, settle, open))
}

fn rehearse_now(
    past: &Past,
    order: &ChangeOrder<'_>,
    settle: Settle<'_>,
    open: &mut Vec<NodeId>,
) -> Refusable<Vec<PathChange>> {
    let (heads, line) = (&past.commits.heads, order.head.line);
    let changes = with_space(past, settle, &mut |settle, _| {
        hold(past, order, settle, &mut |held| {
            drop(bar(past, order, &held, open)?);
            let Held { settled, source, .. } = held;
            let (now, mut changes, mut uncovered) = (heads.clock.now(), None, None);
            let mut txn = heads.volume.begin(line)?;
            let before = txn.view().clone();
            let rehearsed = txn.attempt(|txn| -> std::result::Result<(), VolumeError> {
                let done = carry_out(txn, source, settled.plan, now)?;
                uncovered = uncovered_by(past, order.head, (&before, txn.view()), &done)?;
                changes = Some(difference(&before, txn.view(), None)?);
                Err(VolumeError::NoSuchView) // only to look
            });
            if let Some(lost) = uncovered {
                return Err(Refusal::Uncovers(lost));
            }
            match (changes, rehearsed) {
                (Some(changes), _) => Ok(changes),
                (None, Err(e)) => Err(e.into()),
                (None, Ok(())) => Err(Error::Stale.into()),
            }
        })
    });
    past.commits.outlive()?;
    Ok(changes?.unwrap_or_default())
}

/// Runs `act` with snapshots held off, once more if space is short and commits can make some available. What it has changed
/// need not outlive this process yet.
fn with_space<T>(
    past: &Past,
    settle: Settle<'_>,
    act: &mut dyn FnMut(Settle<'_>, &OneAtATime<'_>) -> Refusable<T>,
) -> Refusable<T> {
    let both = RefCell::new((settle, act));
    past.commits.once_with_space(|| {
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
    lines.iter().try_for_each(|head| heads.check_thawed(head))?;
    for head in &lines {
        past.write_back(head)?;
    }
    let standing = heads.standstill.begin();
    let done = hold_still(past, order, &lines, settle, act);
    drop(standing);
    drop_left(commits);
    done
}

/// The same with nobody else who changes something.
fn hold_still<T>(
    past: &Past,
    order: &ChangeOrder<'_>,
    lines: &[Arc<Head>],
    settle: Settle<'_>,
    act: Act<'_, T>,
) -> Refusable<Option<T>> {
    let (commits, heads) = (&past.commits, &past.commits.heads);
    let _no_commit = commits.hold_off();
    let line = order.head.line;
    let mut closed = Instant::now();
    let (target, mut gates) = commits.complete_and_hold(lines, &mut |at| closed = at, &mut |prepare| {
        heads.volume.complete_view(line, prepare)
    })?;
    let other = order.other.map(|other| heads.view(other)).transpose()?;
    let Some(settled) = settle(&Sides { target: &target, other: other.as_ref() })? else { return Ok(None) };
    if settled.plan.is_empty() {
        if let Some((line, base)) = &settled.base {
            heads.volume.set_base(*line, base.as_deref())?;
        }
        return Ok(None);
    }
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
    act(Held { gate, target: &target, settled, source, closed }).map(Some)
}

/// The change with its guards. `made` is what was changed, from the moment on in which it is to be seen.
fn guarded(
    past: &Past,
    order: &ChangeOrder<'_>,
    held: Held<'_, '_>,
    no_snapshot: &OneAtATime<'_>,
    made: &mut Option<Transferred>,
) -> Refusable<Done> {
    let (heads, line) = (&past.commits.heads, order.head.line);
    let Held { gate, settled, source, closed, .. } = held;
    // The second is made when the change cannot be taken back any more.
    heads.volume.check_numbers_for_two()?;
    let (before, _) = past.guard_as_held(order.head, order.provenance, closed, no_snapshot)?;
    let (now, mut uncovered) = (heads.clock.now(), None);
    let transferred = (|| {
        let view = heads.volume.snapshot(before.id)?;
        let mut txn = heads.volume.begin(line)?;
        let was = txn.view().clone();
        let done = txn.attempt(|txn| {
            let done = carry_out(txn, source, settled.plan, now)?;
            uncovered = uncovered_by(past, order.head, (&was, txn.view()), &done)?;
            if uncovered.is_some() {
                return Err(VolumeError::NoSuchView); // nothing is changed
            }
            txn.reserve_attempted(ReserveFor::Write)?;
            close_gate(gate, &done);
            Ok(done)
        });
        // Visible from here on.
        match settled.base.filter(|_| done.is_ok()) {
            Some((line, base)) => txn.end_with_base(line, base.as_deref()),
            None => drop(txn),
        }
        done.map(|done| (done, view))
    })();
    gate.share();
    let transferred = transferred.inspect_err(|_: &VolumeError| {
        heads.volume.take_back_snapshot(line, before.id);
    });
    if let Some(lost) = uncovered {
        return Err(Refusal::Uncovers(lost));
    }
    let (transferred, view) = transferred?;
    *made = Some(transferred.clone());
    let after = Provenance { reason: Reason::After, ..order.provenance.clone() };
    let after = past.guard_as_held(order.head, &after, closed, no_snapshot);
    let after = after.and_then(|(after, _)| Ok((heads.volume.snapshot(after.id)?, after)));
    let (after_view, after) = after.map_err(|e| {
        Error::Io(format!("the line is changed, and has no snapshot of how it is since: {e}"))
    })?;
    Ok(Done { before, after, views: [view, after_view], transferred })
}

/// What is mounted on a name that [`tell_kernel`] would drop, or below.
fn uncovered_by(
    past: &Past,
    head: &Head,
    views: (&View, &View),
    done: &Transferred,
) -> std::result::Result<Option<Uncovered>, VolumeError> {
    let files = if past.commits.heads.options.writeback_cache { &done.content[..] } else { &[] };
    past.uncovered(head, views, &done.names, files)
}

/// Keeps files whose content would change from being opened. Refused if some are, which `open` is then.
fn bar<'p>(
    past: &'p Past,
    order: &ChangeOrder<'_>,
    held: &Held<'_, '_>,
    open: &mut Vec<NodeId>,
) -> Refusable<Barred<'p>> {
    let heads = &past.commits.heads;
    let inodes = held.settled.plan.inodes.iter();
    let taken = inodes.filter(|(ino, takeover)| takeover.aspects.content && **ino < Plan::FRESH);
    let nodes = taken.map(|(ino, _)| order.head.node(*ino)).collect();
    let (barred, found) = heads.handles.bar(nodes, kept_out(heads));
    *open = found;
    if open.is_empty() {
        return Ok(barred);
    }
    open.sort_unstable();
    let paths = open.iter().take(PATHS_MAX).map(|node| path_of(held.target, Ino(node.ino()))).collect();
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
    // What requests that have begun before are answered is of the line as it was. From here on there is no such answer to come.
    kernel.between_answers(&mut || ());
    kernel.drop_names(names.into_iter().map(|(dir, name)| (head.node(dir), name)).collect());
    for ino in &done.made {
        kernel.invalidate_now(head.node(*ino));
    }
    let is_unknown = |ino: &&Ino| !kernel.invalidate_now(head.node(**ino));
    let unknown: Vec<Ino> = done.changed.iter().filter(is_unknown).copied().collect();
    // An answer may name one that the kernel has still to take in.
    if let Some(dirs) = known_above(heads, head, &unknown) {
        kernel.take_in(&dirs);
        for ino in unknown {
            kernel.invalidate_now(head.node(ino));
        }
    }
    for ino in &done.unlinked {
        // What the kernel does not know it does not forget: nobody else has these purged.
        if !kernel.invalidate_now(head.node(*ino)) {
            drop_reference(&past.commits, head.node(*ino), true);
        }
    }
}

/// The directories that the kernel knows in which these have a name, if there are any.
fn known_above(heads: &Heads, head: &Head, inos: &[Ino]) -> Option<Vec<NodeId>> {
    let (root, view) = (head.node(Ino::ROOT), heads.view(head).ok()?);
    let known = heads.known_dirs.of_tree(root.tree()).into_iter().chain([root]);
    let known: BTreeSet<NodeId> = known.collect();
    // What cannot be read was not answered either.
    let names = inos.iter().filter_map(|ino| names_of(&view, *ino).ok()).flatten();
    let dirs: BTreeSet<NodeId> = names.map(|(dir, _)| head.node(dir)).collect();
    Some(dirs.intersection(&known).copied().collect::<Vec<_>>()).filter(|dirs| !dirs.is_empty())
}
