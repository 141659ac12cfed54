//! Schedules at work: what is due is taken, what is to go goes, and what there is to tell of it.
//!
//! Whoever keeps the time asks often ([`Fs::keep_schedules`]); a user asks once ([`Fs::run_schedules`],
//! [`Fs::prune_schedules`]). What a schedule says is in the record of its line; what is remembered here is how a look follows
//! from the one before, and it is lost with the mount.
//!
//! Deletion goes in steps: some snapshots in each look, each for itself. For want of space none is deleted while what was
//! deleted before is on its way back, and none before what brings enough back in the trash.

use super::file_system::Fs;
use super::heads::Head;
use super::past::{Applications, OtherSnapshot, WatchedSchedule, moment};
use crate::format::line::{LineRecord, LineState};
use crate::format::{LineId, ViewId};
use crate::ops::{Error, Result, RoomFor};
use crate::schedule::{Cadence, Ruling, Schedule, Share, TakenSnapshot, decide, least_loss, thinning_order};
use crate::volume::{Planner, SnapshotInfo};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Snapshots that one look deletes of one schedule at most.
pub const PRUNED_AT_ONCE: usize = 8;
/// So often it is looked whether something is to go, if nothing was taken.
const PRUNE_INTERVAL: Duration = Duration::from_secs(60);
/// The timer tries again, and ends with the mount.
const TIMERS_PATIENCE: Duration = Duration::from_secs(1);
/// Who asked waits for whoever makes a snapshot.
const USERS_PATIENCE: Duration = Duration::from_secs(600);
/// So often, if space is wanted.
const ROOM_INTERVAL: Duration = Duration::from_secs(2);
/// Thinning begins when this part of what is to be left free is free beyond that, because freed space comes back late.
const MARGIN_SHARE: u64 = 4;
/// If all that may go is not enough, less than one in so many bytes of a store is no reason to delete anything.
const NEXT_TO_NOTHING_SHARE: u64 = 1024;
/// Nor is less than that, or one in so many bytes of what is wanted, a reason to empty something in the trash: that is well within
/// the margin.
const MISSED_SHARE: u64 = 2 * MARGIN_SHARE;

/// How a schedule is doing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScheduleState {
    /// It.
    pub schedule: Schedule,
    /// The name of its line, empty of the main line.
    pub line: Vec<u8>,
    /// Its snapshots that are there.
    pub snapshots: usize,
    /// The newest of them: seconds and nanoseconds since 1970.
    pub last: Option<(i64, u32)>,
    /// When the next is due, if something changes, in seconds since 1970.
    pub next: Option<i64>,
    /// Why the last attempt failed, if it did.
    pub error: Option<String>,
    /// Nothing is deleted for now, because the clock is not where one would think.
    pub clock_distrusted: bool,
}

/// What became of a schedule that was run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScheduleRun {
    /// Its name.
    pub schedule: String,
    /// The snapshot that was taken.
    pub taken: Option<SnapshotInfo>,
    /// Those that were deleted.
    pub gone: Vec<SnapshotInfo>,
    /// So many are to go and stay for now, because the clock is not where one would think.
    pub kept_back: usize,
}

/// What is to become of a snapshot of a schedule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuledSnapshot {
    /// The schedule.
    pub schedule: String,
    /// It.
    pub snapshot: SnapshotInfo,
    /// For which reasons it stays.
    pub ruling: Ruling,
    /// It goes for want of space, whatever the ruling: because of this.
    pub thinned: Option<&'static str>,
}

/// What is to become of the snapshots of a schedule, and of the trash because it wants space.
struct Rulings {
    /// Its snapshots, oldest first.
    rows: Vec<RuledSnapshot>,
    /// What is to go from the trash before any of them goes for want of space: what was deleted first first.
    trash: Vec<u64>,
}

/// What may go for want of space, and what comes back of it.
struct Floor<'p> {
    planner: &'p Planner<'p>,
    /// What may go from the trash, what was deleted first first.
    trash: Vec<u64>,
    /// Snapshots that go whatever is wanted; and those that may, first what goes first.
    anyway: Vec<ViewId>,
    order: Vec<ViewId>,
}

impl Floor<'_> {
    /// What comes back with some of the trash, by their places in it, and the first so many snapshots.
    fn freed(&self, trash: &[usize], snapshots: usize) -> Result<u64> {
        let trash = trash.iter().map(|i| self.trash[*i]).collect();
        Ok(self.planner.would_free_emptying(&[&self.anyway, &self.order[..snapshots]].concat(), &trash)?)
    }

    /// What goes from the trash so that so much comes back, and how many snapshots do. The trash comes first, but for what is in it
    /// that brings next to nothing; and if all is not enough, nothing goes that brings next to nothing.
    fn plan(&self, wanted: u64, total: u64) -> Result<(Vec<u64>, usize)> {
        let nothing = total / NEXT_TO_NOTHING_SHARE;
        let all: Vec<usize> = (0..self.trash.len()).collect();
        let wanted = wanted.min(self.freed(&all, self.order.len())?.saturating_sub(nothing));
        let snapshots = fewest(self.order.len(), |n| Ok(self.freed(&all, n)? >= wanted))?;
        let enough = wanted - nothing.min(wanted / MISSED_SHARE);
        // What was deleted last is what somebody may miss.
        let worths: Vec<u64> = (0..self.trash.len() as u64).collect();
        let freed = &mut |trash: &[usize]| self.freed(trash, snapshots);
        let go = least_loss(&worths, enough, self.planner.tries_max(), freed)?.unwrap_or(all);
        Ok((go.into_iter().map(|i| self.trash[i]).collect(), snapshots))
    }
}

/// When what no rule keeps goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unkept {
    /// With the rest.
    GoesNow,
    /// When the clock is trusted again: what is short of space meanwhile does not rely on it.
    GoesLater,
}

/// An amount of space in bytes, of a store of so many.
fn bytes_of(share: Share, total: u64) -> u64 {
    match share {
        Share::Percent(percent) => (u128::from(total) * u128::from(percent) / 100) as u64,
        Share::Bytes(bytes) => bytes,
    }
}

impl Fs {
    /// Has snapshots of a line be taken by these schedules. Durable when this returns.
    pub fn set_schedules(&self, line: LineId, schedules: Vec<Schedule>) -> Result<()> {
        self.heads.check_writable()?;
        if self.heads.volume.line(line)?.state != LineState::Writable {
            return Err(Error::ReadOnly);
        }
        let set = || Ok(self.heads.volume.set_schedules(line, schedules.clone())?);
        self.past.once_in_room(RoomFor::Record, set)?;
        self.past.room.has_changed();
        self.commits.sync()
    }

    /// Looks at all schedules that are not run by hand: takes what is due, and deletes some of what is to go. True if there is
    /// more to delete at once. For a timer: it has to be asked often.
    pub fn keep_schedules(&self) -> bool {
        let lines = self.heads.volume.scheduled_lines();
        if self.heads.is_read_only() {
            self.past.timekeeper.seen.lock().schedules.clear();
            self.past.room.end();
            return false;
        }
        if lines.iter().all(|l| l.schedules.iter().all(|s| s.by_hand)) {
            let now = moment(&self.heads.clock);
            // What is run by hand is remembered as well, and how the clock goes.
            let running = self.past.timekeeper.running.try_lock();
            if running.is_some() {
                self.look(&lines, now);
            }
            let is_seen = running.is_some();
            drop(running);
            self.tend_space(now, is_seen);
            return false;
        }
        let _running = self.past.timekeeper.running.lock();
        // Whoever had it may have had it for long.
        let now = moment(&self.heads.clock);
        self.look(&lines, now);
        let mut more = false;
        for (line, schedule) in each(&lines).filter(|(_, schedule)| !schedule.by_hand) {
            let Some(head) = self.heads.of_line(line) else { continue };
            if let Err(e) = self.take_if_due(&head, schedule, now) {
                self.note(line.id, schedule, Some(format!("cannot take a snapshot: {e}")));
            }
            match self.prune_some(&head, schedule, now.1) {
                Ok(many) => more |= many,
                Err(e) => self.note(line.id, schedule, Some(format!("cannot delete a snapshot: {e}"))),
            }
        }
        self.tend_space(now, true);
        more
    }

    /// What there is to do besides schedules: guards that have been there for long enough, if the clock was looked at for this moment, and
    /// what may be had when space is wanted.
    fn tend_space(&self, now: (i64, Duration), is_seen: bool) {
        if is_seen {
            self.past.keep_guards(now);
        }
        if let Err(e) = self.past.count_room(now.1) {
            log::warn!("what automatic snapshots hold is not known: {e}");
        }
    }

    /// Takes what is due of a line, whoever runs it else, and deletes all that is to go: by a rule only if the clock is where one would
    /// think. Of one schedule if that is named.
    pub fn run_schedules(&self, line: LineId, name: Option<&str>) -> Result<Vec<ScheduleRun>> {
        self.heads.check_writable()?;
        let _running = self.past.timekeeper.running.lock();
        let (record, now) = (self.heads.volume.line(line)?, moment(&self.heads.clock));
        let head = self.heads.of_line(&record).ok_or(Error::Stale)?;
        self.look(&self.heads.volume.scheduled_lines(), now);
        let mut all = Vec::new();
        for schedule in named(&record, name) {
            self.with_watched(line, schedule, |watched| watched.pace.is_asked_for());
            let taken = self.take_if_due(&head, schedule, now)?;
            let (gone, kept_back) = self.prune_all(&head, schedule, self.unkept())?;
            all.push(ScheduleRun { schedule: schedule.name.clone(), taken, gone, kept_back });
        }
        Ok(all)
    }

    /// What is to become of the snapshots of the schedules of a line, or of one of them, oldest first.
    pub fn rule_schedules(&self, line: LineId, name: Option<&str>) -> Result<Vec<RuledSnapshot>> {
        let record = self.heads.volume.line(line)?;
        let mut all = Vec::new();
        for schedule in named(&record, name) {
            all.extend(self.rulings(line, schedule, Unkept::GoesNow)?.rows);
        }
        Ok(all)
    }

    /// What is to become of the other snapshots of a line's own, and why, oldest first.
    pub fn rule_others(&self, line: LineId) -> Result<Vec<OtherSnapshot>> {
        Ok(self.past.others_of(&self.heads.volume.line(line)?, moment(&self.heads.clock).0))
    }

    /// Deletes what is to go of the snapshots of the schedules of a line, or of one of them, whatever the clock says. Tells which those
    /// were.
    pub fn prune_schedules(&self, line: LineId, name: Option<&str>) -> Result<Vec<ScheduleRun>> {
        self.heads.check_writable()?;
        let _running = self.past.timekeeper.running.lock();
        let record = self.heads.volume.line(line)?;
        let head = self.heads.of_line(&record).ok_or(Error::Stale)?;
        let mut all = Vec::new();
        for schedule in named(&record, name) {
            let (gone, kept_back) = self.prune_all(&head, schedule, Unkept::GoesNow)?;
            all.push(ScheduleRun { schedule: schedule.name.clone(), taken: None, gone, kept_back });
        }
        Ok(all)
    }

    /// What a schedule took of a line and is there, and the time of day.
    pub fn taken_by(&self, line: LineId, schedule: &Schedule) -> (i64, Vec<TakenSnapshot>) {
        let all = self.past.scheduled(line, &schedule.name);
        (moment(&self.heads.clock).0, self.past.as_taken(&all))
    }

    /// How the schedules of a line are doing, or those of all lines.
    pub fn schedule_states(&self, line: Option<LineId>) -> Vec<ScheduleState> {
        let mut lines = self.heads.volume.scheduled_lines();
        lines.retain(|record| line.is_none_or(|line| line == record.id));
        let now = moment(&self.heads.clock);
        let told = |(line, schedule): (&LineRecord, &Schedule)| {
            let all = self.past.scheduled(line.id, &schedule.name);
            let last = all.last().map(|s| s.created);
            let trouble = self.trouble_of(line, schedule);
            let seen = self.past.timekeeper.seen.lock();
            let watched = seen.schedules.get(&(line.id, schedule.name.clone()));
            let pace = watched.map_or_else(|| Cadence::new(now.1), |watched| watched.pace.clone());
            ScheduleState {
                schedule: schedule.clone(),
                line: line.name.clone(),
                snapshots: all.len(),
                last,
                next: pace.next(schedule, last.map(|last| last.0), now.0),
                error: watched.and_then(|watched| watched.error.clone()).or(trouble),
                clock_distrusted: watched.is_some() && !seen.clock.is_trusted(),
            }
        };
        each(&lines).map(told).collect()
    }

    /// Remembers the schedules that there are, and looks at the clock.
    fn look(&self, lines: &[LineRecord], now: (i64, Duration)) {
        let key = |line: &LineRecord, schedule: &Schedule| (line.id, schedule.name.clone());
        let is_new = |line: &LineRecord, schedule: &Schedule| {
            let seen = self.past.timekeeper.seen.lock();
            seen.schedules.get(&key(line, schedule)).is_none_or(|watched| watched.schedule != *schedule)
        };
        let new: Vec<_> = each(lines).filter(|(line, schedule)| is_new(line, schedule)).collect();
        let new = new.into_iter().map(|(line, schedule)| {
            let last = self.past.scheduled(line.id, &schedule.name).last().map(|s| s.created.0);
            let (schedule, pace) = (schedule.clone(), Cadence::new(now.1));
            (key(line, &schedule), WatchedSchedule { schedule, pace, last, pruned: None, error: None })
        });
        let new: Vec<_> = new.collect();
        let there: BTreeSet<_> = each(lines).map(|(line, schedule)| key(line, schedule)).collect();
        let is_first = self.past.timekeeper.seen.lock().clock.is_new();
        let made = if is_first { self.past.times_made() } else { Vec::new() };
        let mut seen = self.past.timekeeper.seen.lock();
        seen.schedules.retain(|key, _| there.contains(key));
        seen.schedules.extend(new);
        seen.clock.look(now, &made);
    }

    /// When what no rule keeps goes, as of the last look.
    fn unkept(&self) -> Unkept {
        match self.past.timekeeper.seen.lock().clock.is_trusted() {
            true => Unkept::GoesNow,
            false => Unkept::GoesLater,
        }
    }

    /// What went wrong around the last snapshot of a schedule, though it was taken.
    fn trouble_of(&self, line: &LineRecord, schedule: &Schedule) -> Option<String> {
        self.past.timekeeper.troubles.lock().get(&(line.id, schedule.name.clone())).cloned()
    }

    /// Asks these before a snapshot is taken by a schedule.
    pub fn set_applications(&self, applications: Arc<dyn Applications>) {
        *self.past.timekeeper.applications.write() = Some(applications);
    }

    /// Changes what is remembered of a schedule.
    fn with_watched<T>(
        &self,
        line: LineId,
        schedule: &Schedule,
        work: impl FnOnce(&mut WatchedSchedule) -> T,
    ) -> Option<T> {
        self.past.timekeeper.seen.lock().schedules.get_mut(&(line, schedule.name.clone())).map(work)
    }

    fn note(&self, line: LineId, schedule: &Schedule, error: Option<String>) {
        self.with_watched(line, schedule, |watched| {
            if let Some(error) = error.as_ref().filter(|error| watched.error.as_ref() != Some(error)) {
                log::warn!("schedule '{}': {error}", schedule.name);
            }
            watched.error = error;
        });
    }

    fn take_if_due(
        &self,
        head: &Arc<Head>,
        schedule: &Schedule,
        now: (i64, Duration),
    ) -> Result<Option<SnapshotInfo>> {
        let due = self.with_watched(head.line, schedule, |watched| {
            watched.pace.is_due(schedule.every, watched.last, now)
        });
        if due != Some(true) {
            return Ok(None);
        }
        let taken = self.past.take_scheduled(head, schedule);
        self.with_watched(head.line, schedule, |watched| match &taken {
            Ok(Some(made)) => {
                watched.pace.took(now.1);
                (watched.last, watched.pruned, watched.error) = (Some(made.created.0), None, None);
            }
            Ok(None) => {
                watched.pace.found_nothing(schedule.every, now);
                watched.error = None;
            }
            Err(_) => watched.pace.failed(now.1),
        });
        taken
    }

    /// A step of what is to go. True if there is more.
    fn prune_some(&self, head: &Head, schedule: &Schedule, passed: Duration) -> Result<bool> {
        let last = self.with_watched(head.line, schedule, |watched| watched.pruned).flatten();
        let is_over = |interval| last.is_none_or(|at| passed >= at + interval);
        let is_due =
            is_over(PRUNE_INTERVAL) || is_over(ROOM_INTERVAL) && self.wanted_bytes(schedule).is_some();
        if !is_due {
            return Ok(false);
        }
        let when = self.unkept();
        let Rulings { rows: mut go, trash } = self.rulings(head.line, schedule, when)?;
        if self.past.empty_these(&trash, PRUNED_AT_ONCE, TIMERS_PATIENCE)? > 0 {
            // What is in the trash goes first, and its space is on its way.
            self.commits.commit()?;
            return Ok(true);
        }
        // Want of space has nothing to do with what a clock says.
        go.retain(|ruled| ruled.thinned.is_some() || when == Unkept::GoesNow && ruled.ruling.goes());
        let more = go.len() > PRUNED_AT_ONCE;
        go.truncate(PRUNED_AT_ONCE);
        let go: Vec<SnapshotInfo> = go.into_iter().map(|ruled| ruled.snapshot).collect();
        let gone = self.past.drop_scheduled(head, &go, TIMERS_PATIENCE)?.gone;
        if !gone.is_empty() && schedule.free.is_some() {
            // No more goes for want of space before this has come back.
            self.commits.commit()?;
        }
        // What could not go is tried again later, and holds nothing up.
        let more = more && gone.len() == go.len();
        self.with_watched(head.line, schedule, |watched| {
            watched.pruned = Some(passed).filter(|_| !more);
        });
        Ok(more)
    }

    /// Deletes all that is to go. What that was, and how many stay for now because of the clock.
    fn prune_all(
        &self,
        head: &Head,
        schedule: &Schedule,
        when: Unkept,
    ) -> Result<(Vec<SnapshotInfo>, usize)> {
        let go = loop {
            let Rulings { rows, trash } = self.rulings(head.line, schedule, when)?;
            if self.past.empty_these(&trash, PRUNED_AT_ONCE, USERS_PATIENCE)? == 0 {
                break rows;
            }
            self.commits.bring_back()?;
        };
        let go = go.into_iter().filter(|ruled| ruled.ruling.goes() || ruled.thinned.is_some());
        let is_now = |ruled: &RuledSnapshot| ruled.thinned.is_some() || when == Unkept::GoesNow;
        let (go, later): (Vec<_>, Vec<_>) = go.partition(is_now);
        let go: Vec<SnapshotInfo> = go.into_iter().map(|ruled| ruled.snapshot).collect();
        Ok((self.past.drop_scheduled(head, &go, USERS_PATIENCE)?.gone, later.len()))
    }

    /// The snapshots of the line's other schedules that have a budget, but for those that would not go.
    fn limited_by_others(
        &self,
        planner: &Planner<'_>,
        line: LineId,
        schedule: &Schedule,
    ) -> Result<Vec<ViewId>> {
        let others = self.heads.volume.line(line)?.schedules.into_iter();
        let limited = others.filter(|other| other.budget.is_some() && other.name != schedule.name);
        let may_go = |s: &SnapshotInfo| self.past.keeps_from_going(s).is_none() && !planner.is_base(s.id);
        let theirs = limited.flat_map(|other| self.past.scheduled(line, &other.name));
        Ok(theirs.filter(may_go).map(|s| s.id).collect())
    }

    /// What is to become of the snapshots of a schedule: by its classes, and of what they leave, for want of space.
    fn rulings(&self, line: LineId, schedule: &Schedule, unkept: Unkept) -> Result<Rulings> {
        let all = self.past.scheduled(line, &schedule.name);
        let taken = self.past.as_taken(&all);
        let rulings = decide(schedule, &taken, moment(&self.heads.clock).0);
        let wanted = self.wanted_bytes(schedule);
        let planner = match schedule.budget.is_some() || wanted.is_some() {
            true => Some(self.heads.volume.planner()?),
            false => None,
        };
        // What a clone is compared with brings nothing back.
        let gives_space = |i: &usize| planner.as_ref().is_none_or(|planner| !planner.is_base(all[*i].id));
        // What goes later than for want of space is the first of those that are to go for that.
        let going = |i: &usize| unkept == Unkept::GoesNow && rulings[*i].goes();
        let order: Vec<usize> =
            thinning_order(&taken, &rulings).into_iter().filter(|i| !going(i) && gives_space(i)).collect();
        // What comes back with those that go anyway, so many of the others, and more.
        let freed = |planner: &Planner<'_>, n: usize, more: &[ViewId]| {
            let anyway = (0..all.len()).filter(|i| going(i) && gives_space(i));
            let ids = anyway.chain(order[..n].iter().copied()).map(|i| all[i].id);
            planner.would_free(&ids.chain(more.iter().copied()).collect::<Vec<_>>())
        };
        let (mut thinned, mut trash) = (vec![None; all.len()], Vec::new());
        let total = self.heads.volume.space().total;
        if let (Some(budget), Some(planner)) = (schedule.budget.map(|share| bytes_of(share, total)), &planner)
        {
            // What two schedules hold counts for both, if both have a budget: else neither would ever be over his.
            let others = self.limited_by_others(planner, line, schedule)?;
            // What somebody keeps from going is his meanwhile, as what he has renamed is, and is not counted.
            let counted = (0..all.len()).filter(|i| taken[*i].kept.is_none() && gives_space(i));
            let counted: Vec<ViewId> = counted.map(|i| all[i].id).chain(others.iter().copied()).collect();
            let together = planner.would_free(&counted)?;
            // All of it but what none of those that stay has: exact for blocks that are in what goes and in what stays.
            let left = |n: usize| Ok::<u64, Error>(together.saturating_sub(freed(planner, n, &others)?));
            // What the last one alone holds is not brought below a budget by any other that goes.
            let least = left(order.len())?;
            let aim = if least > budget { least.saturating_add(budget) } else { budget };
            let n = fewest(order.len(), |n| Ok(left(n)? <= aim))?;
            order[..n].iter().for_each(|i| thinned[*i] = Some("over its budget"));
        }
        if let (Some(wanted), Some(planner)) = (wanted, &planner) {
            let anyway = (0..all.len()).filter(|i| going(i) && gives_space(i));
            let floor = Floor {
                planner,
                trash: self.heads.volume.trash_that_may_go(),
                anyway: anyway.map(|i| all[i].id).collect(),
                order: order.iter().map(|i| all[*i].id).collect(),
            };
            let n;
            (trash, n) = floor.plan(wanted, total)?;
            for i in &order[..n] {
                thinned[*i] = thinned[*i].or(Some("space is wanted"));
            }
        }
        let rows = all.into_iter().zip(rulings).zip(thinned);
        let rows = rows.map(|((snapshot, ruling), thinned)| RuledSnapshot {
            schedule: schedule.name.clone(),
            snapshot,
            ruling,
            thinned,
        });
        Ok(Rulings { rows: rows.collect(), trash })
    }

    /// How much is to come back so that a schedule leaves as much free as it is to. None while enough is free, or more is on its
    /// way.
    fn wanted_bytes(&self, schedule: &Schedule) -> Option<u64> {
        let volume = &self.heads.volume;
        let space = volume.space();
        let least = bytes_of(schedule.free?, space.total);
        let wanted = least.saturating_add(least / MARGIN_SHARE).saturating_sub(space.free);
        let comes_back = volume.has_background_work() || volume.has_deleted();
        (wanted > 0 && !comes_back).then_some(wanted)
    }
}

/// The fewest of `most` of which something is so, if it is so of all that are more; else all.
fn fewest(most: usize, mut is_so: impl FnMut(usize) -> Result<bool>) -> Result<usize> {
    let (mut low, mut high) = (0, most);
    while low < high {
        let middle = low + (high - low) / 2;
        if is_so(middle)? { high = middle } else { low = middle + 1 }
    }
    Ok(low)
}

fn each(lines: &[LineRecord]) -> impl Iterator<Item = (&LineRecord, &Schedule)> {
    let writable = lines.iter().filter(|line| line.state == LineState::Writable);
    writable.flat_map(|line| line.schedules.iter().map(move |schedule| (line, schedule)))
}

/// The schedules of a line, or the one of that name.
fn named<'l>(line: &'l LineRecord, name: Option<&'l str>) -> impl Iterator<Item = &'l Schedule> {
    line.schedules.iter().filter(move |schedule| name.is_none_or(|name| name == schedule.name))
}
