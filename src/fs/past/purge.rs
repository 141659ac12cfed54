//! Purge: content of a path is taken out of snapshots, and out of the device.
//!
//! In this order (docs/decisions/0040): snapshots are held off and content stays where it is; what goes is found; a commit holds all of it, and from then on nobody reads it; the kernel drops its
//! pages; zeros and leaves are written; a commit gives the places back. Then, with nothing held, what no tree leads to.

use super::purge_plan::PurgePlan;
use super::snapdir::{OneAtATime, Past};
use crate::format::ViewId;
use crate::format::purge::PurgeRest;
use crate::ops::{Error, NodeId, ROOM_WAIT_MAX, Result, RoomFor};
use crate::volume::purge::{Ordered, PurgeOrder};
use crate::volume::{NothingMoves, VolumeError, WipedBytes};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

/// So many leaves are rewritten by one commit.
const LEAVES_AT_ONCE: usize = if cfg!(test) { 4 } else { 1024 };
/// Room is made so often at most.
const ROUNDS_MAX: usize = 4;
/// What goes on in the background waits so long for room at once: whoever unmounts waits for it.
const PATIENCE: Duration = Duration::from_secs(1);
/// Commits that are made for work in the background to end, at most.
const COMMITS_MAX: usize = 10_000;
/// Commits after which what was freed before them is free, unless it is read.
const COMMITS_TO_FREE: usize = 3;

/// What is to be purged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PurgeAsked {
    /// From the root of the line: a file, a symbolic link, or a directory with all that are below it.
    pub path: Vec<u8>,
    /// In these snapshots, which are the line's own, or were before they got into the trash.
    pub snapshots: Vec<ViewId>,
    /// Others who have some of it lose it, too.
    pub all: bool,
    /// Nothing is done.
    pub dry_run: bool,
}

/// How a purge has ended.
pub enum PurgeEnd {
    /// Nothing was done: it was not to be, or there is nothing, or others have some of it.
    Planned(PurgePlan),
    /// It is gone.
    Purged(PurgePlan, WipedBytes),
    /// Some of it is gone, and this is why not all: the rest goes on in the background, or when the store is opened again.
    Stopped(Error),
}

/// How much is done at once, and what was missed for that.
#[derive(Clone)]
struct Portions {
    /// Bytes.
    needed: Cell<u64>,
    /// One commit holds so many places at most.
    places: Cell<usize>,
    /// So many were to be held by the last commit that was tried, if any was.
    tried: Cell<Option<usize>>,
    /// A commit holds some of it.
    has_begun: Cell<bool>,
}

impl Portions {
    fn new() -> Portions {
        Portions {
            needed: Cell::new(0),
            places: Cell::new(usize::MAX),
            tried: Cell::new(None),
            has_begun: Cell::new(false),
        }
    }

    /// Half as many as were tried from now on; false if it is one, or if none was tried.
    fn halve(&self) -> bool {
        let Some(tried) = self.tried.get() else { return false };
        let half = self.places.get().min(tried) / 2;
        self.places.set(half.max(1));
        half > 0
    }
}

impl Past {
    /// Purges a path. What another purge has left to do is done before, if nothing is in its way. `NotFound`: it is in none of the snapshots. `NotSupported`: it is no
    /// file, link or directory in one. `Busy`: one of the snapshots is held, or what was found has changed since, or it is more than one commit takes, and what another
    /// has left is noted still. `Io`: the store is being closed. On an error nothing was done; what comes up later has the purge be
    /// [`PurgeEnd::Stopped`].
    pub fn purge(&self, asked: &PurgeAsked) -> Result<PurgeEnd> {
        let volume = &self.commits.heads.volume;
        let _one = self.purging.lock();
        let portions = Portions::new();
        if asked.dry_run {
            return self.purge_now(asked, &portions);
        }
        let those_there = || -> Vec<ViewId> {
            let trashed: BTreeSet<ViewId> = volume.trashed_snapshots().iter().map(|info| info.id).collect();
            let is_there = |view: &ViewId| volume.snapshot_info(*view).is_some() || trashed.contains(view);
            asked.snapshots.iter().copied().filter(is_there).collect()
        };
        let (chosen, until) = (those_there(), Instant::now() + ROOM_WAIT_MAX);
        // What others share with one that went to make room is not found from the rest.
        let go_on = || {
            self.check_purges_go_on()?;
            if those_there() == chosen { Ok(()) } else { Err(Error::Stale) }
        };
        match self.once_there_is_room(&portions, until, &go_on, || self.purge_now(asked, &portions)) {
            Err(e) if portions.has_begun.get() => Ok(PurgeEnd::Stopped(e)),
            done => done,
        }
    }

    /// The store is about to be closed: purges end within a step, for good. Whoever has asked for one has its answer when this returns, or
    /// a little later.
    pub fn end_purges(&self) {
        self.purges_end.store(true, SeqCst);
        drop(self.purging.try_lock_for(PATIENCE));
    }

    /// Fails once purges are to end.
    pub(super) fn check_purges_go_on(&self) -> Result<()> {
        match self.purges_end.load(SeqCst) {
            true => Err(Error::Io("the store is being closed".into())),
            false => Ok(()),
        }
    }

    /// Purges, or goes on with it. Where there is no room for that some is made; where none is to be had, less is done at once. `go_on` says in
    /// between whether it is to go on.
    fn once_there_is_room<T>(
        &self,
        portions: &Portions,
        until: Instant,
        go_on: &dyn Fn() -> Result<()>,
        purge: impl Fn() -> Result<T>,
    ) -> Result<T> {
        let mut rounds = ROUNDS_MAX;
        loop {
            match self.commits.once_with_space(&purge) {
                Err(Error::NoSpace) => go_on()?,
                done => return done,
            }
            let wanted = RoomFor::Change(portions.needed.get());
            let patience = until.saturating_duration_since(Instant::now());
            if rounds > 0 && self.can_make_room(wanted) && self.make_room(wanted, patience) {
                rounds -= 1;
            } else if !portions.halve() {
                return Err(Error::NoSpace);
            }
            go_on()?;
        }
    }

    /// The same, with the room that there is.
    fn purge_now(&self, asked: &PurgeAsked, portions: &Portions) -> Result<PurgeEnd> {
        let heads = &self.commits.heads;
        let volume = &heads.volume;
        let go_on: &mut dyn FnMut(u64) -> bool = &mut |_| self.check_purges_go_on().is_ok();
        self.check_purges_go_on()?;
        let request = PurgeRest { path: asked.path.clone(), views: asked.snapshots.clone(), all: asked.all };
        let is_left = volume.purge_rest();
        if !asked.dry_run && is_left.is_some_and(|rest| !request.covers(&rest)) {
            // What it has tried says nothing of this one, unless there is no room for it.
            let of_rest = Portions { tried: Cell::new(None), ..portions.clone() };
            match self.carry_out_rest(&of_rest, go_on) {
                // It waits for somebody. What leaves nothing to note is done beside it.
                Ok(()) | Err(Error::Busy) => {}
                Err(e) => {
                    portions.needed.set(of_rest.needed.get());
                    portions.tried.set(of_rest.tried.get());
                    return Err(e);
                }
            }
        }
        if !asked.dry_run {
            self.refuse_held(&asked.snapshots)?;
        }
        let held = self.one_at_a_time();
        let nothing_moves = volume.hold_content();
        self.end_background_work(go_on)?;
        let mut plan = self.plan_purge(&asked.path, &asked.snapshots)?;
        if plan.found.is_empty() {
            return Err(Error::NotFound);
        }
        if asked.dry_run || plan.is_live() || !(asked.all || plan.others.is_empty()) {
            return Ok(PurgeEnd::Planned(plan));
        }
        // Nobody makes another while snapshots are held off.
        if heads.main().tripwire.let_go() {
            self.end_background_work(go_on)?;
            plan = self.plan_purge(&asked.path, &asked.snapshots)?;
        }
        if plan.is_empty() {
            // What was purged before may be held still, or left where no tree leads to.
            drop((nothing_moves, held));
            portions.has_begun.set(portions.has_begun.get() || volume.has_purged_left());
            volume.write_over_purged_while(go_on)?;
            if volume.purge_rest().is_some_and(|rest| request.covers(&rest)) {
                volume.end_purge_rest();
            }
            self.commits.commit()?;
        } else {
            self.carry_out(&plan, &request, portions, (nothing_moves, held), go_on)?;
        }
        match self.wipe(go_on)? {
            Some(wiped) => Ok(PurgeEnd::Purged(plan, wiped)),
            None => Err(self.check_purges_go_on().err().unwrap_or(Error::Stale)),
        }
    }

    /// Takes what was planned, but for what no tree leads to, as long as `go_on` says so: what is left then is noted.
    fn carry_out(
        &self,
        plan: &PurgePlan,
        rest: &PurgeRest,
        portions: &Portions,
        (nothing_moves, held): (NothingMoves<'_>, OneAtATime<'_>),
        go_on: &mut dyn FnMut(u64) -> bool,
    ) -> Result<()> {
        let heads = &self.commits.heads;
        self.refuse_held(&plan.edited.iter().copied().collect::<Vec<_>>())?;
        self.hold_all(&nothing_moves, plan, rest, portions, go_on)?;
        // Nobody reads it, shares it or moves it any more: whoever waits need not wait for zeros.
        drop((nothing_moves, held));
        heads.volume.write_over_purged_while(go_on)?;
        self.commits.commit()
    }

    /// Goes on with a purge that was cut off, or of which some was out of reach, as long as `go_on` says so. `Busy`: what is left of one
    /// is held, or others have come to share it: later.
    pub fn go_on_purging(&self, go_on: &mut dyn FnMut(u64) -> bool) -> Result<()> {
        // Somebody's purge does what is left before its own, and whoever has this wait need not wait for that.
        let Some(_one) = self.purging.try_lock() else { return Ok(()) };
        let heads = &self.commits.heads;
        if heads.is_read_only() || !heads.volume.purge_goes_on() {
            return Ok(());
        }
        heads.volume.write_over_purged_while(go_on)?;
        self.commits.commit()?;
        let rest = match self.carry_out_rest_in_room(go_on) {
            Err(_) if self.check_purges_go_on().is_err() => Ok(()),
            done => done,
        };
        if heads.volume.wiping_goes_on() && go_on(0) {
            match self.wipe(go_on)? {
                Some(_) if !heads.volume.has_purged_left() => {
                    log::info!("what was left of a purge is written over");
                }
                Some(wiped) => log::info!("some of a purge is out of reach still: {wiped:?}"),
                None => {}
            }
        }
        rest
    }

    fn carry_out_rest_in_room(&self, go_on: &mut dyn FnMut(u64) -> bool) -> Result<()> {
        if self.commits.heads.volume.purge_rest().is_none() {
            return Ok(());
        }
        let (portions, until, go_on) = (Portions::new(), Instant::now() + PATIENCE, RefCell::new(go_on));
        let goes_on = || if go_on.borrow_mut()(0) { Ok(()) } else { Err(Error::NoSpace) };
        let carry_out = || self.carry_out_rest(&portions, &mut |at| go_on.borrow_mut()(at));
        self.once_there_is_room(&portions, until, &goes_on, carry_out)
    }

    /// What one commit could not take in is planned anew: what is done already is not found any more.
    fn carry_out_rest(&self, portions: &Portions, go_on: &mut dyn FnMut(u64) -> bool) -> Result<()> {
        let heads = &self.commits.heads;
        let Some(rest) = heads.volume.purge_rest() else { return Ok(()) };
        let held = self.one_at_a_time();
        let nothing_moves = heads.volume.hold_content();
        self.end_background_work(go_on)?;
        if !go_on(0) {
            return Ok(());
        }
        let plan = self.plan_purge(&rest.path, &rest.views)?;
        if plan.is_empty() {
            heads.volume.end_purge_rest();
            return self.commits.commit();
        }
        if plan.is_live() || !(rest.all || plan.others.is_empty()) {
            return Err(Error::Busy);
        }
        self.carry_out(&plan, &rest, portions, (nothing_moves, held), go_on)
    }

    /// Whoever keeps a snapshot from going keeps its content: who holds it; who has it mounted by itself, of which another kernel may have pages;
    /// what is received against it.
    fn refuse_held(&self, snapshots: &[ViewId]) -> Result<()> {
        let volume = &self.commits.heads.volume;
        let infos = snapshots.iter().filter_map(|id| volume.snapshot_info(*id));
        match infos.into_iter().any(|info| self.keeps_from_purge(&info).is_some()) {
            true => Err(Error::Busy),
            false => Ok(()),
        }
    }

    /// Work in the background is done: what refers to what is in trees and lists alone.
    fn end_background_work(&self, go_on: &mut dyn FnMut(u64) -> bool) -> Result<()> {
        let volume = &self.commits.heads.volume;
        self.commits.commit()?;
        for _ in 0..COMMITS_MAX {
            if !volume.is_moving() || !go_on(0) {
                return Ok(());
            }
            if volume.is_set_aside() && !volume.has_background_work() {
                break;
            }
            self.commits.commit()?;
        }
        Err(Error::Busy)
    }

    /// From here on nobody reads it; or, if `go_on` ends it, a part of it.
    fn hold_all(
        &self,
        nothing_moves: &NothingMoves<'_>,
        plan: &PurgePlan,
        rest: &PurgeRest,
        portions: &Portions,
        go_on: &mut dyn FnMut(u64) -> bool,
    ) -> Result<()> {
        let heads = &self.commits.heads;
        let (volume, secs) = (&heads.volume, heads.clock.now().secs);
        let places = plan.places.ranges();
        let edited: Vec<ViewId> = plan.edited.iter().copied().collect();
        let all = plan.leaves_in_order();
        // So far it is: places go first, and leaves with the last of them.
        let (mut place, mut begin, mut at_once) = (0, 0, LEAVES_AT_ONCE);
        loop {
            let is_first = place == 0 && begin == 0;
            let count = portions.places.get().min(places.len() - place);
            portions.tried.set(Some(count));
            let to_place = place + count;
            let has_places = to_place < places.len();
            let end = if has_places { begin } else { all.len().min(begin + at_once) };
            // Whoever holds one of the snapshots meanwhile keeps what is left of it.
            let (asked, has_more) = (Some(rest.clone()), has_places || end < all.len());
            let mut order =
                PurgeOrder { edited: edited.clone(), secs, asked, has_more, ..PurgeOrder::default() };
            order.places = places[place..to_place].to_vec();
            order.known = plan.known_of(&order.places);
            order.seen = plan.seen.clone();
            for place in &all[begin..end] {
                order.leaves.extend(volume.leaf_without(place, &plan.inline)?);
            }
            portions.needed.set(volume.purge_bytes(&order.places, all.len().min(1)));
            match volume.order_purge(nothing_moves, order) {
                Err(VolumeError::NoSpace) if end > begin + 1 => {
                    at_once = (end - begin) / 2;
                    continue;
                }
                // What is held already is not asked for room again.
                Err(VolumeError::NoSpace) if !is_first && to_place > place + 1 => {
                    portions.halve();
                    continue;
                }
                done => done?,
            }
            // What was planned is void with what holds it in place.
            self.commits.commit().inspect_err(|_| volume.cancel_purge())?;
            if volume.ordered() != Some(Ordered::Held) {
                return Err(Error::Busy);
            }
            portions.has_begun.set(true);
            // Whatever becomes of the others. What they have may have been read once more until now.
            if is_first || !has_more {
                self.let_go_of(plan);
            }
            if !has_more {
                return Ok(());
            }
            (place, begin) = (to_place, end);
            volume.write_over_purged_while(go_on)?;
            self.commits.commit()?;
            if !go_on(0) {
                return Ok(());
            }
            self.refuse_held(&edited)?;
        }
    }

    /// The kernel may have pages of it, and the trip wire a point.
    fn let_go_of(&self, plan: &PurgePlan) {
        let heads = &self.commits.heads;
        // Before the first change of a mount one may have been made since.
        heads.main().tripwire.let_go();
        let kernel = heads.kernel();
        for (slot, ino) in &plan.in_snapshots {
            for node in NodeId::of_snapshot(*slot, ino.0) {
                kernel.invalidate_now(node);
            }
        }
        for node in &plan.in_trash {
            kernel.invalidate_now(*node);
        }
    }

    /// What no tree leads to. None if `go_on` ended it.
    fn wipe(&self, go_on: &mut dyn FnMut(u64) -> bool) -> Result<Option<WipedBytes>> {
        let volume = &self.commits.heads.volume;
        volume.free_hidden();
        // What is on its way to become free is free, or was read.
        match self.end_background_work(go_on) {
            Ok(()) | Err(Error::Busy) => {}
            Err(e) => return Err(e),
        }
        let until = volume.epoch();
        for _ in 0..COMMITS_TO_FREE {
            if go_on(0) {
                self.commits.commit()?;
            }
        }
        if !go_on(0) {
            return Ok(None);
        }
        let mut wiping = volume.begin_wiping(until)?;
        let mut goes_on = wiping.free(go_on)?;
        if goes_on {
            self.commits.commit()?;
            goes_on = wiping.reserved(go_on)?;
        }
        if !goes_on {
            return Ok(None);
        }
        let wiped = wiping.end();
        self.commits.commit()?;
        Ok(Some(wiped))
    }
}
