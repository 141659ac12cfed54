//! Before much is gone there is a snapshot: when what is gone of the line at the root of the mount passes a threshold, the point
//! that has all of it becomes a snapshot with a name and a reason.
//!
//! Whoever keeps the time asks every second ([`Past::tend_tripwire`]), and once more at the end. What the one has that was kept last does
//! not count again for an hour, as long as it is there. Whoever deletes much all the time has one of each minute, and does not drown in
//! them: the last few stay, and before them one an hour, a few too; when space is short only those of the last hour, until somebody would
//! be refused for want of it. One that somebody has renamed, or holds, is his.

use super::snapdir::Past;
use crate::format::inode::Inode;
use crate::format::provenance::{Provenance, Reason};
use crate::format::terms::Threshold;
use crate::format::{Ino, Key, Kind};
use crate::fs::heads::{GoneFiles, Head, RollingPoint, Tripwire};
use crate::fs::items::Items;
use crate::ops::{Error, FileType, Result};
use crate::volume::{SnapshotInfo, View};
use std::sync::Arc;
use std::time::Duration;

/// A point is this old before the next is made.
const ROLL_INTERVAL: Duration = Duration::from_secs(60);
/// So many files are much, of any line.
const FILES_MAX: u32 = 1000;
/// Less than so many files are not, whatever their share.
const FILES_MIN: u64 = 20;
/// One in so many of the files or bytes of a line are much.
const SHARE: u64 = 4;
/// To count files so many times as many inodes are looked at, at most.
const INODES_PER_FILE: u64 = 4;
/// So long they stay even if space is short, and what the last one has does not count again.
const KEPT_MIN: Duration = Duration::from_secs(3600);
/// So many of them stay, however soon one came after the other.
const KEPT_LAST: usize = 8;
/// And before these so many, from one to the next so many seconds.
const KEPT_OLDER: usize = 4;
const KEPT_OLDER_SECS: i64 = 3600;
/// A clock that was set back by more tells no more of what was changed when.
const CLOCK_SLACK: Duration = Duration::from_secs(1);
/// How long it is waited for who makes a snapshot. It is tried again.
const PATIENCE: Duration = Duration::from_millis(500);

/// What there is to tell of the trip wire.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TripwireState {
    /// What has a snapshot be kept: so many files, or a quarter of all. None: nothing.
    pub files_max: Option<u32>,
    /// The newest point: seconds and nanoseconds since 1970. None if there is none.
    pub point: Option<(i64, u32)>,
    /// What is gone since the older of the points.
    pub gone: GoneFiles,
    /// Of that, what the snapshot does not have that was kept last.
    pub lost: GoneFiles,
    /// No point is kept, because space is short.
    pub is_short_of_space: bool,
    /// The newest snapshot that was kept so.
    pub last: Option<Vec<u8>>,
}

impl Past {
    /// Has a snapshot be kept if much is gone, thins those that were, and has the points roll on.
    pub fn tend_tripwire(&self) {
        if let Err(e) = self.tend() {
            log::debug!("what goes from the tree is not watched well: {e}");
        }
    }

    /// The last look before the end: keeps what is to be kept, and nothing else.
    pub fn end_tripwire(&self) {
        let head = self.commits.heads.main();
        self.forget_kept_if_in_doubt(&head);
        if let Err(e) = self.keep_if_much_is_gone(&head) {
            log::warn!("no snapshot is kept of what was there before much was deleted: {e}");
        }
        head.tripwire.let_go();
    }

    /// What there is to tell of it.
    pub fn tripwire_state(&self) -> Result<TripwireState> {
        let head = self.commits.heads.main();
        Ok(TripwireState {
            files_max: self.files_max(&head)?,
            point: head.tripwire.newest().map(|point| point.created),
            gone: head.tripwire.gone(),
            lost: head.tripwire.lost(),
            is_short_of_space: self.commits.is_short_of_space(),
            last: self.kept_before(&head).pop().map(|last| last.name),
        })
    }

    /// Somebody wants space, or has asked for something to go: a point that few files have gone since is given up, and made anew
    /// within a second. So is one that was a snapshot and was deleted, whatever has gone: it is to be kept by nobody. True if there was one.
    pub fn let_go_of_point(&self) -> bool {
        let wire = &self.commits.heads.main().tripwire;
        (wire.gone().files < FILES_MIN || self.has_deleted_point(wire)) && wire.let_go()
    }

    fn has_deleted_point(&self, wire: &Tripwire) -> bool {
        wire.points().iter().any(|point| self.commits.heads.volume.was_deleted(point.view.id()))
    }

    fn tend(&self) -> Result<()> {
        let heads = &self.commits.heads;
        if !heads.options.tripwire || heads.is_read_only() {
            return Ok(());
        }
        let head = heads.main();
        if self.has_deleted_point(&head.tripwire) {
            head.tripwire.let_go();
        }
        self.forget_kept_if_in_doubt(&head);
        if let Err(e) = self.keep_if_much_is_gone(&head) {
            // That must not keep the next point from being made.
            log::warn!("what was there before a mass deletion is not kept as a snapshot: {e}");
        }
        if self.commits.is_short_of_space() {
            self.drop_kept(&head, self.old_enough(self.kept_before(&head)))?;
        }
        let Some(newest) = head.tripwire.newest() else {
            // The first change sees to one. A head that a rollback has made is in use, and so may one be that had to let go of it.
            let is_in_use = head.told.is_some() || head.tripwire.is_armed();
            return if is_in_use { self.roll(&head) } else { Ok(()) };
        };
        let age = heads.clock.passed().saturating_sub(newest.passed);
        if age >= ROLL_INTERVAL { self.roll(&head) } else { Ok(()) }
    }

    fn roll(&self, head: &Arc<Head>) -> Result<()> {
        match self.one_at_a_time_within(PATIENCE) {
            Some(_held) => self.commits.roll(head),
            None => Ok(()),
        }
    }

    /// So many files are much; none if nothing is.
    fn files_max(&self, head: &Head) -> Result<Option<u32>> {
        Ok(match self.commits.heads.volume.line(head.line)?.terms.tripwire {
            None => Some(FILES_MAX),
            Some(Threshold::Files(files)) => Some(files),
            Some(Threshold::Never) => None,
        })
    }

    /// Snapshots of a line's own that were kept so and that nobody has made his, oldest first.
    fn kept_before(&self, head: &Head) -> Vec<SnapshotInfo> {
        let prefix = Reason::MassDeletion.name_prefix().unwrap_or_default().as_bytes();
        let mut own = self.commits.heads.volume.own_snapshots(head.line);
        let is_kept = |s: &SnapshotInfo| s.provenance.reason == Reason::MassDeletion && !s.is_received;
        own.retain(|s| is_kept(s) && s.name.starts_with(prefix));
        own
    }

    /// What of them may go when nothing else is left that gives space, once these points are let go of: oldest first.
    pub(super) fn may_go_of_kept(&self, without: &[RollingPoint]) -> Vec<(Arc<Head>, SnapshotInfo)> {
        let head = self.commits.heads.main();
        let mut all = self.kept_before(&head);
        all.retain(|s| self.keeps_from_going_without(s, without).is_none());
        all.into_iter().map(|s| (head.clone(), s)).collect()
    }

    /// What was kept last counts for an hour, while it is there, and as long as times of change are to be trusted: a clock that is set back
    /// would have what was changed since look older.
    fn forget_kept_if_in_doubt(&self, head: &Head) {
        let Some(kept) = head.tripwire.kept() else { return };
        let (volume, clock) = (&self.commits.heads.volume, &self.commits.heads.clock);
        let ((created, at_rest_until), now, passed) = (kept.created, clock.now().secs, clock.passed());
        let shown = Duration::from_secs(now.saturating_sub(created).max(0).unsigned_abs());
        let is_set_back = now < created || shown + CLOCK_SLACK < passed.saturating_sub(at_rest_until);
        let is_old = passed.saturating_sub(kept.kept) >= KEPT_MIN;
        let is_there = || volume.snapshot_info(kept.id).is_some() && !volume.was_deleted(kept.id);
        if is_set_back || is_old || !is_there() {
            head.tripwire.forget_kept();
        }
    }

    fn keep_if_much_is_gone(&self, head: &Arc<Head>) -> Result<()> {
        let (lost, gone) = (head.tripwire.lost(), head.tripwire.gone());
        let Some(files_max) = self.files_max(head)? else {
            head.tripwire.let_go();
            return Ok(());
        };
        if lost.files == 0 {
            return Ok(());
        }
        let Some(point) = head.tripwire.before_it_was_gone() else { return Ok(()) };
        let may_be_a_share = || lost.files >= FILES_MIN && head.tripwire.has_grown();
        let is_much =
            lost.files >= u64::from(files_max) || may_be_a_share() && self.is_a_share(&point.view, lost)?;
        if !is_much {
            return Ok(());
        }
        if head.tripwire.kept().is_some_and(|kept| kept.id == point.view.id()) {
            // It has all of it.
            head.tripwire.forget_gone();
            return Ok(());
        }
        let Some(held) = self.one_at_a_time_within(PATIENCE) else { return Ok(()) };
        // A purge has had it let go of meanwhile, if it may have what was purged.
        let is_same = |now: &RollingPoint| now.view.id() == point.view.id();
        if !head.tripwire.before_it_was_gone().is_some_and(|now| is_same(&now)) {
            return Ok(());
        }
        self.keep(head, &point, gone)?;
        drop(held);
        head.tripwire.keep(&point, self.commits.heads.clock.passed());
        let all = self.kept_before(head);
        self.drop_kept(head, too_many(all))
    }

    /// True if what is gone is a large part of a view: of its files or of its bytes. Looks at no more of it than decides that.
    fn is_a_share(&self, view: &View, gone: GoneFiles) -> Result<bool> {
        let (mut files, mut next) = (0, Key::MIN);
        let end = Key::new(Ino::END.0, Kind::Inode, 0);
        let most = gone.files.saturating_mul(SHARE);
        // What has no name any more is not among what there was, and directories are few.
        for _ in 0..most.saturating_mul(INODES_PER_FILE) {
            if files > most {
                break;
            }
            let Some((key, _)) = view.range(&next, &end).next().transpose()? else { return Ok(true) };
            let inode = view.inode(Ino(key.object))?;
            let is_there = |inode: Inode| inode.kind == FileType::Regular && inode.nlink > 0;
            files += u64::from(inode.is_some_and(is_there));
            next = Key::new(key.object + 1, Kind::Inode, 0);
        }
        let held = self.commits.heads.volume.referenced(view.id());
        Ok(gone.bytes.saturating_mul(SHARE) >= held)
    }

    /// Has a point be a snapshot that tells why. One that is a snapshot of somebody's is left as it is: it has what is gone.
    fn keep(&self, head: &Arc<Head>, point: &RollingPoint, gone: GoneFiles) -> Result<()> {
        let volume = &self.commits.heads.volume;
        let shown = volume.snapshot_info(point.view.id());
        let prefix = Reason::Schedule.name_prefix().unwrap_or_default().as_bytes();
        // What a schedule took and somebody renamed, or holds, is his.
        let is_a_schedules = |s: &SnapshotInfo| {
            s.line == head.line
                && !s.is_received
                && s.provenance.reason == Reason::Schedule
                && s.name.starts_with(prefix)
                && !volume.is_held(s.id)
        };
        if let Some(kept) = shown.filter(|s| !is_a_schedules(s)) {
            let name = crate::names::shown_bytes(&kept.name);
            log::info!("{} files are gone in a short time: snapshot '{name}' has them", gone.files);
            return Ok(());
        }
        let told = format!("{} files, {} bytes deleted or overwritten", gone.files, gone.bytes);
        let why = Provenance { description: told.clone().into_bytes(), ..Reason::MassDeletion.into() };
        let name = self.automatic_name(head, Reason::MassDeletion)?;
        let renamed = volume.snapshot_info(point.view.id()).map(|s| s.name);
        volume.name_point(&point.view, head.line, &name, &why)?;
        self.kept_at.lock().insert(point.view.id(), self.commits.heads.clock.passed());
        self.forget_snapdirs();
        if let Some(old) = renamed {
            self.tell_snapdirs(head, None, &old);
        }
        self.commits.sync()?;
        let name = crate::names::shown_bytes(&name);
        log::info!("{told} in a short time: snapshot '{name}' has what was there before");
        Ok(())
    }

    /// Those that stay no longer when space is short: an hour has passed since they were kept, or since the mount for those of before. A
    /// clock that may be set is not asked.
    fn old_enough(&self, mut all: Vec<SnapshotInfo>) -> Vec<SnapshotInfo> {
        let passed = self.commits.heads.clock.passed();
        let mut kept = self.kept_at.lock();
        kept.retain(|id, _| all.iter().any(|s| s.id == *id));
        all.retain(|s| passed.saturating_sub(*kept.get(&s.id).unwrap_or(&self.begun)) >= KEPT_MIN);
        all
    }

    /// Deletes these, oldest first, but for what is in use.
    fn drop_kept(&self, head: &Head, all: Vec<SnapshotInfo>) -> Result<()> {
        if all.is_empty() {
            return Ok(());
        }
        for s in all {
            let Some(held) = self.one_at_a_time_within(PATIENCE) else { return Ok(()) };
            let done = self.drop_snapshot(head, &s.name, &held);
            drop(held);
            match done {
                Ok(()) => self.tell_snapdirs(head, None, &s.name),
                Err(Error::Busy | Error::NotFound) => {}
                Err(e) => return Err(e),
            }
        }
        self.commits.outlive()
    }
}

/// Which of these go, when there is a new one: oldest first, as they are given.
fn too_many(mut all: Vec<SnapshotInfo>) -> Vec<SnapshotInfo> {
    all.truncate(all.len().saturating_sub(KEPT_LAST));
    let (mut go, mut stay): (Vec<SnapshotInfo>, Vec<SnapshotInfo>) = Default::default();
    for s in all {
        let since = stay.last().map(|before| s.created.0.saturating_sub(before.created.0));
        let is_soon = since.is_some_and(|since| (0..KEPT_OLDER_SECS).contains(&since));
        if is_soon { go.push(s) } else { stay.push(s) }
    }
    let too_old = stay.len().saturating_sub(KEPT_OLDER);
    go.extend(stay.drain(..too_old));
    go.sort_by_key(|s| s.id);
    go
}
