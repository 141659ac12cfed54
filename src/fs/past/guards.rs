//! Guards and steps: snapshots that were made so that something can be taken back, and how long they stay.
//!
//! Of a line the last few stay whatever the clock says, those before for a month by a clock that is trusted, and no more than so many in
//! all: those that are too many are the oldest. How many steps there are is said by who makes them (`trials`).
//!
//! Before a write fails for want of space they go as well, after everything else that goes by itself: of all lines the oldest first, and last
//! of all the newest guard of each line, which is what `undo` goes back to, and its newest step. Nobody may have another way back from what was
//! done a moment ago, so each of these stays for an hour whatever is wanted. That guard stays as well while an older one does to which `undo`
//! would go back without it: what it took back then would be more than what was done last. What somebody has renamed, holds or reads is left alone, and so is what a trial or a command that goes on needs;
//! and what a clone is compared with, which would bring nothing back.

use super::snapdir::Past;
use super::undo::{has_automatic_name, undoable_of};
use crate::format::line::LineRecord;
use crate::format::provenance::Reason;
use crate::format::{LineId, ViewId};
use crate::fs::heads::{Head, RollingPoint};
use crate::volume::SnapshotInfo;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// So many guards of a line stay at most.
const GUARDS_MAX: usize = 64;
/// So many of the last stay however old they are.
const GUARDS_LAST: usize = 8;
/// And those before for so many seconds.
const GUARD_SECS: i64 = 30 * 86_400;
/// So long the newest guard of a line stays, and its newest step, whatever is wanted: time that has really passed, of this mount for those of before.
const YOUNG: Duration = Duration::from_secs(3600);
/// It is looked whether some are to go no more often than this, and if nothing has changed so often.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
const LOOK_AT_REST_INTERVAL: Duration = Duration::from_secs(3600);
/// So many of a line are deleted in one look, and so long it is waited for who makes a snapshot.
const GONE_AT_ONCE: usize = 8;
const PATIENCE: Duration = Duration::from_millis(500);

/// What is to become of a snapshot that is no schedule's, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OtherSnapshot {
    /// It.
    pub snapshot: SnapshotInfo,
    /// It goes at the next look.
    pub goes: bool,
    /// In words: it stays, or goes, because ...
    pub because: String,
}

impl Past {
    /// Deletes guards of which there are too many, or that are too old by a clock that is trusted. For a timer that asks often, by the time
    /// of day and what has passed, once the clock was looked at for this moment.
    pub fn keep_guards(&self, (now, passed): (i64, Duration)) {
        let changes = self.room.changes.load(SeqCst);
        let mut guards = self.guards.lock();
        let is_over = |(at, of): (Duration, u64)| {
            passed >= at + if of == changes { LOOK_AT_REST_INTERVAL } else { LOOK_INTERVAL }
        };
        if !guards.looked.is_none_or(is_over) {
            return;
        }
        guards.looked = Some((passed, changes));
        drop(guards);
        let is_trusted = self.timekeeper.seen.lock().clock.is_trusted();
        for (head, all) in self.guards_of_all() {
            let ends = ended(&all, now, is_trusted).into_iter();
            let mut go: Vec<SnapshotInfo> = ends.filter(|s| self.keeps_guard(s, &[]).is_none()).collect();
            if go.len() > GONE_AT_ONCE {
                go.truncate(GONE_AT_ONCE);
                self.guards.lock().looked = None;
            }
            let dropped = match self.drop_scheduled(&head, &go, PATIENCE) {
                Ok(dropped) => dropped,
                // Those of other lines may go all the same.
                Err(e) => {
                    log::warn!("guards that are old cannot be deleted: {e}");
                    continue;
                }
            };
            if !dropped.gone.is_empty() {
                log::info!("{} old guards were deleted", dropped.gone.len());
            }
            if dropped.is_held_off {
                // Whoever waits for this look does not wait for each line; the next is as if something had changed.
                self.guards.lock().looked = Some((passed, changes.wrapping_sub(1)));
                break;
            }
        }
    }

    /// What of them may go when nothing else is left that gives space, once these points are let go of: first what goes first.
    pub(super) fn may_go_of_guards(&self, without: &[RollingPoint]) -> Vec<(Arc<Head>, SnapshotInfo)> {
        let passed = self.commits.heads.clock.passed();
        let of_all = self.guards_of_all();
        let ids = of_all.iter().flat_map(|(_, all)| all.iter().map(|s| s.id)).collect();
        let is_old = self.are_old(ids, passed);
        let (mut go, mut last) = (Vec::new(), Vec::new());
        for (head, all) in of_all {
            let newest = Newest::of(&all);
            // What was made last tells how old both are.
            let is_old = |ids: &[ViewId]| ids.last().is_some_and(|id| is_old(*id));
            let leaves_older = is_old(&newest.guards) && self.leaves_older(head.line, without);
            let may_go_last = |ids: &[ViewId]| is_old(ids) && !(leaves_older && ids == newest.guards);
            for s in all {
                let of = newest.those_with(s.id);
                if of.is_none_or(may_go_last) && self.keeps_guard(&s, without).is_none() {
                    let list = if of.is_none() { &mut go } else { &mut last };
                    list.push((head.clone(), s));
                }
            }
        }
        go.sort_by_key(|(_, s): &(Arc<Head>, SnapshotInfo)| s.id);
        last.sort_by_key(|(_, s): &(Arc<Head>, SnapshotInfo)| s.id);
        go.into_iter().chain(last).collect()
    }

    /// True if an undo would go back to something once all guards of a line have gone that may.
    fn leaves_older(&self, line: LineId, without: &[RollingPoint]) -> bool {
        let volume = &self.commits.heads.volume;
        let bases = volume.bases();
        let mut left = volume.own_snapshots(line);
        left.retain(|s| !is_guard(s) || bases.contains(&s.id) || self.keeps_guard(s, without).is_some());
        undoable_of(left).is_some()
    }

    /// What is to become of all snapshots of a line's own but those that its schedules took, oldest first.
    pub fn others_of(&self, line: &LineRecord, now: i64) -> Vec<OtherSnapshot> {
        let volume = &self.commits.heads.volume;
        let is_trusted = self.timekeeper.seen.lock().clock.is_trusted();
        let (own, bases) = (volume.own_snapshots(line.id), volume.bases());
        let guards: Vec<SnapshotInfo> = own.iter().filter(|s| is_guard(s)).cloned().collect();
        let (newest, ended) = (Newest::of(&guards), ended(&guards, now, is_trusted));
        let has = |some: &[SnapshotInfo], s: &SnapshotInfo| some.iter().any(|other| other.id == s.id);
        let mut all = Vec::new();
        for s in own {
            let (reason, command) = (s.provenance.reason, &s.provenance.command);
            let is_automatic = has_automatic_name(&s);
            let is_taken = reason == Reason::Schedule && is_automatic;
            if is_taken && line.schedules.iter().any(|schedule| schedule.name.as_bytes() == &command[..]) {
                continue;
            }
            let goes = has(&ended, &s) && self.keeps_guard(&s, &[]).is_none();
            let because = match self.keeps_guard(&s, &[]) {
                _ if s.is_received => "kept: it came from another store".into(),
                Some(kept) if is_automatic => format!("it is {kept}"),
                _ if is_taken => format!(
                    "kept: it was taken by '{}', which is no schedule of the line any more",
                    crate::names::shown_bytes(command)
                ),
                _ if !is_automatic && reason.name_prefix().is_some() => "kept: somebody has renamed it".into(),
                _ if goes => format!("a guard: it is older than {} days, or there are {GUARDS_MAX} newer ones", GUARD_SECS / 86_400),
                _ if reason == Reason::MassDeletion => {
                    "what was there before a mass deletion: the last of these stay; it goes when space is wanted".into()
                }
                _ if is_guard(&s) && bases.contains(&s.id) => format!(
                    "a guard that a clone is compared with: it stays for {} days, the last {GUARDS_LAST} longer, and does not go for space",
                    GUARD_SECS / 86_400
                ),
                _ if newest.guards.contains(&s.id) => {
                    "the newest guard: it goes last of all when space is wanted, not within an hour, nor before an older one that undo would go back to".into()
                }
                _ if newest.step.contains(&s.id) => {
                    "the newest step: it goes last of all when space is wanted, and not within an hour".into()
                }
                _ if is_step(&s) => {
                    "a step: it goes when there are too many newer ones, or space is wanted".into()
                }
                _ if is_guard(&s) => format!(
                    "a guard: it stays for {} days, the last {GUARDS_LAST} longer; it goes when space is wanted",
                    GUARD_SECS / 86_400
                ),
                _ => "kept: not automatic".into(),
            };
            all.push(OtherSnapshot { snapshot: s, goes, because });
        }
        all
    }

    /// Guards and steps of each line that has any, oldest first.
    fn guards_of_all(&self) -> Vec<(Arc<Head>, Vec<SnapshotInfo>)> {
        let heads = &self.commits.heads;
        let of = |head: Arc<Head>| {
            let mut own = heads.volume.own_snapshots(head.line);
            own.retain(is_guard);
            (head, own)
        };
        heads.all().into_iter().map(of).filter(|(_, own)| !own.is_empty()).collect()
    }

    /// Why one may not go by itself now, in words behind "it is".
    fn keeps_guard(&self, s: &SnapshotInfo, without: &[RollingPoint]) -> Option<&'static str> {
        let is_needed = || is_step(s) && (self.under_way.needs(s.id) || self.has_clone(s.id));
        let needed = || is_needed().then_some("what a command or a trial goes on from");
        self.keeps_from_going_without(s, without).or_else(needed)
    }

    /// Which of them have been there for long enough, of all that are there now.
    fn are_old(&self, all: Vec<ViewId>, passed: Duration) -> impl Fn(ViewId) -> bool + use<> {
        let mut guards = self.guards.lock();
        let first = all.into_iter().map(|id| (id, *guards.first.get(&id).unwrap_or(&passed)));
        let first: HashMap<ViewId, Duration> = first.collect();
        guards.first.clone_from(&first);
        move |id| first.get(&id).is_some_and(|at| passed.saturating_sub(*at) >= YOUNG)
    }
}

/// True of a guard or step of this store's that nobody has made his.
fn is_guard(s: &SnapshotInfo) -> bool {
    let reason = s.provenance.reason;
    let others = matches!(reason, Reason::User | Reason::Split | Reason::Schedule | Reason::MassDeletion);
    !others && !s.is_received && has_automatic_name(s)
}

/// What goes last of a line.
struct Newest {
    /// What `undo` goes back to: one, or the two between which a change lies.
    guards: Vec<ViewId>,
    /// What was there before the last command.
    step: Vec<ViewId>,
}

impl Newest {
    /// Of all guards and steps of a line, oldest first.
    fn of(all: &[SnapshotInfo]) -> Newest {
        let guards: Vec<&SnapshotInfo> = all.iter().filter(|s| !is_step(s)).collect();
        let guards = match guards[..] {
            [.., before, last] if last.provenance.reason == Reason::After && before.id.0 + 1 == last.id.0 => {
                vec![before.id, last.id]
            }
            _ => guards.last().map(|s| s.id).into_iter().collect(),
        };
        // That of a trial goes with its clone.
        let step = all.iter().rfind(|s| s.provenance.reason == Reason::Step);
        Newest { guards, step: step.map(|s| s.id).into_iter().collect() }
    }

    /// Those of them among which this is.
    fn those_with(&self, id: ViewId) -> Option<&[ViewId]> {
        [&self.guards[..], &self.step].into_iter().find(|ids| ids.contains(&id))
    }
}

/// True of what was made for a command that was run or tried.
fn is_step(s: &SnapshotInfo) -> bool {
    matches!(s.provenance.reason, Reason::Step | Reason::Trial)
}

/// Those that stay no longer, oldest first.
fn ended(all: &[SnapshotInfo], now: i64, is_trusted: bool) -> Vec<SnapshotInfo> {
    let guards: Vec<&SnapshotInfo> = all.iter().filter(|s| !is_step(s)).collect();
    let is_old = |s: &SnapshotInfo| is_trusted && now.saturating_sub(s.created.0) > GUARD_SECS;
    let ends = |(i, s): &(usize, &&SnapshotInfo)| {
        let newer = guards.len() - 1 - i;
        newer >= GUARDS_MAX || newer >= GUARDS_LAST && is_old(s)
    };
    guards.iter().enumerate().filter(ends).map(|(_, s)| (*s).clone()).collect()
}
