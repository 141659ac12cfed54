//! Room for those who write: before a change fails for want of space, something goes, and always in the same order. First the point
//! behind the trip wire if few files have gone since: it is made anew within a second. Then the trash, what was deleted first first; then
//! snapshots that schedules took, as few as are enough; then those that the trip wire kept, then guards and steps, the newest guard and the newest step of a line last;
//! and last the trip wire's points, unless snapshots would not be enough without them.
//!
//! Which may go is said in one place (`Past::keeps_from_going`), and in which order by `schedule`: first what no rule keeps, then the
//! coarsest class, of all schedules together; the last of each never, nor what a clone is compared with, which would bring nothing back
//! before the clone goes. Schedules that are run by hand keep what they took. Only what
//! together brings back what is wanted goes: a change that would be refused all the same costs no history.
//!
//! Whoever waits here holds nothing, and one at a time lets something go; the others find that room was made. What may be had so is known ahead,
//! so that `statfs` tells it at no cost.

use super::made_room::{Counted, FoundRoom, RoomUses, beside};
use super::snapdir::Past;
use crate::format::line::LineState;
use crate::format::{Ino, ViewId};
use crate::fs::heads::{Head, RollingPoint};
use crate::ops::{Error, ROOM_WAIT_MAX, Result, RoomFor};
use crate::schedule::{decide, thinning_order};
use crate::volume::{ReserveFor, SnapshotInfo, Space};
use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

/// At once at least so much is let go of, or this share of the store if that is less: each time costs some commits.
const STEP_BYTES: u64 = 64 << 20;
const STEP_SHARE: u64 = 64;
/// What comes back is worth another try if it is so much at least, in bytes.
const GAIN_BYTES_MIN: u64 = 1 << 20;
/// A change that needs little, records and nodes of the tree, is tried again so often at most.
const ROUNDS_MAX: usize = 4;
/// Whoever makes a snapshot may have to wait for the one who waits here: so long at most.
const PATIENCE: Duration = Duration::from_secs(10);
/// What may be had is counted anew after this time, or when snapshots have come or gone.
const COUNT_INTERVAL: Duration = Duration::from_secs(60);
/// What comes back by itself, and what may be had once more files are gone, is counted for no more than this part of the time.
const COUNTING_SHARE: u32 = 50;

/// A snapshot that may go by itself, and its line.
type MayGo = (Arc<Head>, SnapshotInfo);

impl Past {
    /// Counts what may be had, if that is not known; `passed` is time that never runs back. For a timer that asks often. What more may be
    /// had because files are gone since is counted for no more than a fiftieth of the time: a deletion that goes on changes it each time.
    pub fn count_room(&self, passed: Duration) -> Result<()> {
        self.count_coming(passed)?;
        let heads = &self.commits.heads;
        let wire = &heads.main().tripwire;
        let gone_bytes = wire.gone().bytes;
        // Points that hold what was deleted just now go, too, before a write fails.
        let points = if gone_bytes > 0 { wire.points() } else { Vec::new() };
        let uses = RoomUses {
            store: heads.volume.snapshot_uses(),
            standing: self.room.standing.load(SeqCst),
            points: points_of(&points),
            gone_bytes,
        };
        let may_again = passed >= *self.room.counted_again.lock();
        // What costs by how many snapshots there are is done only if something has changed.
        let is_as_before = |(at, of): &(Duration, RoomUses)| {
            let is_recent = of.gone_bytes == gone_bytes && passed < *at + COUNT_INTERVAL;
            (is_recent || !may_again) && of.is_so_but_for_gone(&uses)
        };
        let is_old = self.room.is_old.swap(false, SeqCst);
        if !is_old && self.room.looked.lock().as_ref().is_some_and(is_as_before) {
            return Ok(());
        }
        *self.room.looked.lock() = None;
        let begun = Instant::now();
        let now =
            Counted { may_go: ids(&self.may_go_without(&points)), points: points_of(&points), gone_bytes };
        drop(points);
        let mut cost = begun.elapsed();
        let is_known = |(at, of): &(Duration, Counted)| *of == now && passed < *at + COUNT_INTERVAL;
        if !is_old && self.room.counted.lock().as_ref().is_some_and(is_known) {
            *self.room.looked.lock() = Some((passed, uses));
            return Ok(());
        }
        let mut bytes = 0;
        if !(now.may_go.is_empty() && now.points.is_empty()) {
            let planner = heads.volume.planner()?;
            bytes = planner.would_free_with_points(&now.may_go, &now.points)?;
            cost += planner.worked_for();
        }
        *self.room.counted_again.lock() = passed + cost * COUNTING_SHARE;
        *self.room.counted.lock() = Some((passed, now));
        *self.room.looked.lock() = Some((passed, uses));
        self.room.may_free.store(bytes, SeqCst);
        Ok(())
    }

    /// Counts what comes back in the background of what was deleted. That costs by how much it is, so it is done for no more than
    /// a fiftieth of the time, and when something was deleted just now.
    fn count_coming(&self, passed: Duration) -> Result<()> {
        let (room, volume) = (&self.room, &self.commits.heads.volume);
        let is_old = room.coming_is_old.swap(false, SeqCst);
        if !is_old && passed < *room.coming_again.lock() {
            // What has come back by now is free, and must not count twice.
            if room.coming.load(SeqCst) > 0 && !volume.has_background_work() && !volume.has_deleted() {
                room.coming.store(0, SeqCst);
            }
            return Ok(());
        }
        let (left, cost) = volume.leftover_and_cost()?;
        *room.coming_again.lock() = passed + cost * COUNTING_SHARE;
        room.coming.store(left.bytes - left.read_bytes, SeqCst);
        Ok(())
    }

    /// False if whoever wants this need not wait: nothing goes by itself, or all of it would not be enough.
    pub fn can_make_room(&self, wanted: RoomFor) -> bool {
        let (heads, bytes) = (&self.commits.heads, bytes_of(wanted));
        if heads.is_read_only() || bytes > heads.volume.space().total {
            return false;
        }
        let has_point = heads.main().tripwire.newest().is_some();
        let comes_back = heads.volume.has_background_work() || heads.volume.needs_commit();
        if has_point || comes_back || !heads.volume.trash().is_empty() {
            return true;
        }
        let all = ids(&self.may_go());
        let together = match &*self.room.found.lock() {
            Some(found) if found.may_go == all && found.epoch == heads.volume.epoch() => found.together,
            _ => return !all.is_empty(),
        };
        together > 0 && heads.volume.space().available.saturating_add(together) >= bytes
    }

    /// Before snapshots are held off for something that has the kernel hand over what it holds of these lines. Where that may be more than
    /// there is room for, it hands it over now: it may wait for room, and whoever makes that has to delete snapshots. Room is made
    /// for no more than is written so. Called with nothing held.
    pub fn write_back_ahead(&self, lines: &[Arc<Head>]) -> Result<()> {
        let heads = &self.commits.heads;
        let (space, is_held) = (heads.volume.space(), heads.handles.mappers());
        let may_hold =
            |head: &Arc<Head>| is_held.iter().any(|node| node.tree() == head.node(Ino::ROOT).tree());
        let mut dirty = None;
        for head in lines.iter().filter(|head| may_hold(head)) {
            let dirty = *dirty.get_or_insert_with(|| heads.kernel().dirty_bytes_at_most());
            if space.available < dirty.max(step(space.total)) {
                self.write_back(head)?;
            }
        }
        Ok(())
    }

    /// The same, and room for some records of views or lines. It may be refused all the same, by what others do meanwhile.
    pub fn have_room_ahead(&self, purpose: ReserveFor, lines: &[Arc<Head>]) -> Result<()> {
        self.write_back_ahead(lines)?;
        let wanted = match purpose {
            ReserveFor::Write => RoomFor::Change(0),
            ReserveFor::Record => RoomFor::Record,
            ReserveFor::Delete => RoomFor::Deletion,
        };
        self.once_in_room(wanted, || Ok(self.commits.heads.volume.check_room_for_records(purpose)?))
    }

    /// Runs a change as [`Self::once_in_room`] does, and has it outlive this process.
    pub fn in_room<T>(&self, wanted: RoomFor, change: impl Fn() -> Result<T>) -> Result<T> {
        let done = self.once_in_room(wanted, change);
        self.commits.outliving(done)
    }

    /// Runs a change that may need this; once more when commits have brought something in, and again when room was made for
    /// it. Called with nothing held.
    pub fn once_in_room<T>(&self, wanted: RoomFor, change: impl Fn() -> Result<T>) -> Result<T> {
        let (mut rounds, until) = (ROUNDS_MAX, Instant::now() + ROOM_WAIT_MAX);
        let make_room = || self.make_room(wanted, until.saturating_duration_since(Instant::now()));
        loop {
            match self.commits.once_with_space(&change) {
                Err(Error::NoSpace) if rounds > 0 && self.can_make_room(wanted) && make_room() => rounds -= 1,
                done => return done,
            }
        }
    }

    /// Lets go of what is needed least, so that somebody who wants this finds room, and waits until it is back, no longer than
    /// this. False if there is nothing, or not enough, or it takes longer. Called with nothing held.
    pub fn make_room(&self, wanted: RoomFor, patience: Duration) -> bool {
        if self.commits.heads.is_read_only() {
            return false;
        }
        let (until, room) = (Instant::now() + patience, &self.room);
        let (made_before, failed_before) = (room.made.load(SeqCst), room.failed.lock().0);
        let Some(making) = room.begin(until) else { return false };
        if room.made.load(SeqCst) != made_before {
            return true;
        }
        // Where less was not to be had meanwhile, this is not either.
        let (failed, least) = *room.failed.lock();
        if failed != failed_before && least.is_some_and(|least| least <= wanted) {
            return false;
        }
        let Some(past) = self.me.upgrade() else { return false };
        beside(until, move || {
            let made = past.make_some(wanted, until, failed);
            // Whoever is told may be the last to use it, and the next to make some.
            drop((past, making));
            made
        })
    }

    /// The same, while nobody else does, and to its end; so often there was none before.
    fn make_some(&self, wanted: RoomFor, until: Instant, failed: u64) -> bool {
        let made = self.let_some_go(wanted, until).unwrap_or_else(|e| {
            log::warn!("no room is made for who writes: {e}");
            false
        });
        if made {
            self.room.made.fetch_add(1, SeqCst);
        } else if Instant::now() < until {
            // Not for want of time, of which others may have more.
            *self.room.failed.lock() = (failed + 1, Some(wanted));
        }
        made
    }

    /// What is missing of that which this must leave alone. Whatever makes room is tried, how little there may be.
    fn lacking(&self, wanted: RoomFor) -> u64 {
        let volume = &self.commits.heads.volume;
        match wanted {
            RoomFor::Deletion => 0,
            RoomFor::Record => volume.lacking_for(ReserveFor::Record),
            RoomFor::Change(_) => volume.lacking_for(ReserveFor::Write),
        }
    }

    /// True if there could be enough once all has gone that may, the trash and the points among it.
    fn could_be_enough(&self, wanted: RoomFor) -> Result<bool> {
        let (volume, space) = (&self.commits.heads.volume, self.commits.heads.volume.space());
        let points = self.commits.heads.main().tripwire.points();
        let all = ids(&self.may_go_without(&points));
        let together = volume.planner()?.would_free_with_trash(&all, &points_of(&points))?;
        let gain = together.saturating_add(volume.comes_back_bytes());
        let is_worth_it = bytes_of(wanted) > 0 || gain >= least_gain(space);
        // What a change may use begins where nothing is missing.
        let least = u64::from(matches!(wanted, RoomFor::Change(_)));
        let missing = bytes_of(wanted).max(least).saturating_add(self.lacking(wanted));
        Ok(is_worth_it && space.available.saturating_add(gain) >= missing)
    }

    /// The one order: what costs nobody anything, what users have deleted, what schedules keep, and last what a mass deletion would
    /// be caught by. Each only if the one before was not enough, and none if all of them would not be.
    fn let_some_go(&self, wanted: RoomFor, until: Instant) -> Result<bool> {
        let before = self.commits.heads.volume.space();
        // What was deleted before may be on its way back.
        if self.bring_in(wanted, before)? {
            return Ok(true);
        }
        if !self.could_be_enough(wanted)? {
            return Ok(false);
        }
        if Instant::now() < until && self.let_go_of_point() && self.bring_in(wanted, before)? {
            return Ok(true);
        }
        let mut has_emptied = false;
        while Instant::now() < until && self.empty_some_trash(patience(until))? {
            has_emptied = true;
            if self.bring_in(wanted, before)? {
                return Ok(true);
            }
        }
        if Instant::now() >= until {
            return Ok(has_emptied);
        }
        if self.let_go_of_points_for(wanted)? && self.bring_in(wanted, before)? {
            return Ok(true);
        }
        if self.thin_for(wanted, until)? {
            return Ok(true);
        }
        if Instant::now() >= until {
            return Ok(has_emptied);
        }
        let had_point = self.commits.heads.main().tripwire.let_go();
        if had_point {
            self.commits.bring_back()?;
        }
        Ok(had_point || has_emptied)
    }

    /// Has come back what is on its way. True if there is enough, and more than there was; or more is to come.
    fn bring_in(&self, wanted: RoomFor, before: Space) -> Result<bool> {
        let volume = &self.commits.heads.volume;
        if volume.has_background_work() || volume.needs_commit() {
            self.commits.bring_back()?;
        }
        let now = volume.space();
        let gained = (now.available + before.lacking).saturating_sub(before.available + now.lacking);
        let is_enough = match wanted {
            RoomFor::Change(bytes) => now.available >= bytes.max(1),
            _ => self.lacking(wanted) == 0,
        };
        Ok(is_enough && gained >= least_gain(now) || gained > 0 && volume.has_background_work())
    }

    /// What this wants and is not there.
    fn missing(&self, wanted: RoomFor) -> u64 {
        let available = self.commits.heads.volume.space().available;
        bytes_of(wanted).saturating_add(self.lacking(wanted)).saturating_sub(available)
    }

    /// Lets the points behind the trip wire go before snapshots, if these would not be enough and bring more back without them: what
    /// a point has as well comes back of no snapshot. True if there were any.
    fn let_go_of_points_for(&self, wanted: RoomFor) -> Result<bool> {
        let (volume, wire) = (&self.commits.heads.volume, &self.commits.heads.main().tripwire);
        let (points, missing) = (wire.points(), self.missing(wanted));
        if points.is_empty() {
            return Ok(false);
        }
        let planner = volume.planner()?;
        let alone = planner.would_free(&ids(&self.may_go()))?;
        if alone >= missing {
            return Ok(false);
        }
        let all = ids(&self.may_go_without(&points));
        if planner.would_free_with_points(&all, &points_of(&points))? <= alone {
            return Ok(false);
        }
        drop((planner, points));
        Ok(wire.let_go())
    }

    /// Lets as few of the snapshots go that may as are enough, or all of them. False if that brings nothing.
    fn thin_for(&self, wanted: RoomFor, until: Instant) -> Result<bool> {
        let (volume, all) = (&self.commits.heads.volume, self.may_go());
        // Asked first: what is committed meanwhile makes this old.
        let epoch = volume.epoch();
        let planner = volume.planner()?;
        let together = planner.would_free(&ids(&all))?;
        if self.commits.heads.main().tripwire.newest().is_none() {
            self.room.may_free.store(together, SeqCst);
            *self.room.found.lock() = Some(FoundRoom { may_go: ids(&all), epoch, together });
        }
        if together == 0 {
            return Ok(false);
        }
        let space = volume.space();
        let enough = self.missing(wanted).saturating_add(step(space.total)).min(together);
        let (mut low, mut high) = (1, all.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let freed = planner.would_free(&ids(&all[..middle]))?;
            if freed >= enough { high = middle } else { low = middle + 1 }
        }
        let left = together.saturating_sub(planner.would_free(&ids(&all[..low]))?);
        // It keeps what was freed since from being used.
        drop(planner);
        let mut gone = 0;
        for of_line in all[..low].chunk_by(|a, b| a.0.line == b.0.line) {
            // Nobody waits for it any more.
            if Instant::now() >= until {
                break;
            }
            let snapshots: Vec<SnapshotInfo> = of_line.iter().map(|(_, s)| s.clone()).collect();
            let dropped = self.drop_scheduled(&of_line[0].0, &snapshots, patience(until))?;
            gone += dropped.gone.len();
            if dropped.is_held_off {
                break;
            }
        }
        if gone > 0 {
            self.room.may_free.store(left, SeqCst);
            log::info!("space is wanted: {gone} automatic snapshots were let go");
            self.commits.bring_back()?;
        }
        Ok(gone > 0)
    }

    /// Snapshots that may go by themselves, first what goes first.
    fn may_go(&self) -> Vec<MayGo> {
        self.may_go_without(&[])
    }

    /// The same once these points are let go of, which may be such snapshots.
    fn may_go_without(&self, points: &[RollingPoint]) -> Vec<MayGo> {
        let heads = &self.commits.heads;
        let (mut all, now) = (Vec::new(), heads.clock.now().secs);
        for line in heads.volume.scheduled_lines().into_iter().filter(|l| l.state == LineState::Writable) {
            let Some(head) = heads.of_line(&line) else { continue };
            for schedule in line.schedules.iter().filter(|schedule| !schedule.by_hand) {
                let snapshots = self.scheduled(line.id, &schedule.name);
                let taken = self.as_taken_without(&snapshots, points);
                let rulings = decide(schedule, &taken, now);
                // What came from another store is a copy that somebody wants to have: only rules say that it goes.
                let goes = |i: &usize| !snapshots[*i].is_received || rulings[*i].goes();
                for i in thinning_order(&taken, &rulings).into_iter().filter(goes) {
                    let first = (Reverse(rulings[i].class_secs()), snapshots[i].created);
                    all.push((first, (head.clone(), snapshots[i].clone())));
                }
            }
        }
        all.sort_by_key(|(first, (_, s))| (*first, s.id));
        let kept_before = self.may_go_of_kept(points).into_iter();
        let guards = self.may_go_of_guards(points);
        let all = all.into_iter().map(|(_, may_go)| may_go).chain(kept_before).chain(guards);
        // What a clone is compared with brings nothing back.
        let bases = heads.volume.bases();
        all.filter(|(_, s)| !bases.contains(&s.id)).collect()
    }
}

/// Bytes of content that are wanted, as far as that is known.
fn bytes_of(wanted: RoomFor) -> u64 {
    if let RoomFor::Change(bytes) = wanted { bytes } else { 0 }
}

/// For so long it may be waited for whoever holds snapshots off.
fn patience(until: Instant) -> Duration {
    PATIENCE.min(until.saturating_duration_since(Instant::now()))
}

/// So much is worth another try; and what needs little, of which nobody says how much, needs no more.
fn least_gain(space: Space) -> u64 {
    GAIN_BYTES_MIN.min(step(space.total))
}

/// So much is let go of at once, of a store of that size.
fn step(total: u64) -> u64 {
    STEP_BYTES.min(total / STEP_SHARE)
}

fn points_of(points: &[RollingPoint]) -> Vec<ViewId> {
    points.iter().map(|point| point.view.id()).collect()
}

fn ids(all: &[MayGo]) -> Vec<ViewId> {
    all.iter().map(|(_, s)| s.id).collect()
}
