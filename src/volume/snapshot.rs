//! Snapshots and clones by name: the point, the list, rename, delete, clone, rollback.

use super::commit::Prepare;
use super::history::Point;
use super::state::State;
use super::view::Pin;
use super::{Result, Txn, View, Volume, VolumeError};
use crate::format::log::{Effect, Effects};
use crate::format::superblock::PendingPoint;
use crate::format::view::{Consistency, Role, ViewRecord};
use crate::format::{Epoch, ViewId};
use crate::limits::{NAME_BYTES_MAX, VIEW_ID_MAX};
use crate::tree::Child;
use parking_lot::RwLockWriteGuard;
use std::sync::Arc;

/// A snapshot as it is listed. Counters are bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotInfo {
    /// Its number.
    pub id: ViewId,
    /// Its name.
    pub name: Vec<u8>,
    /// Seconds and nanoseconds since 1970 UTC.
    pub created: (i64, u32),
    /// Its point in time.
    pub epoch: Epoch,
    /// Everything that it reaches.
    pub referenced: u64,
    /// What only it reaches: deleting it alone frees this.
    pub exclusive: u64,
    /// What was written between the snapshot before it and it.
    pub written: u64,
    /// How long writers waited for it.
    pub pause_ns: u64,
    /// What took part.
    pub consistency: Consistency,
}

/// A snapshot to be.
#[derive(Clone, Copy)]
pub struct NewSnapshot<'n> {
    /// Its name, 1 to 255 bytes; what may be in it is decided above.
    pub name: &'n [u8],
    /// Seconds and nanoseconds since 1970 UTC.
    pub created: (i64, u32),
    /// What took part.
    pub consistency: Consistency,
    /// Tells how long writers have been waiting, in nanoseconds; asked at the point.
    pub pause_ns: &'n dyn Fn() -> u64,
}

impl State {
    /// What a snapshot that is made now will be.
    fn next_point(&self, new: &NewSnapshot<'_>) -> Result<PendingPoint> {
        if self.names.contains_key(new.name) {
            return Err(VolumeError::NameTaken);
        }
        if self.history.next_ids().0 > VIEW_ID_MAX {
            return Err(VolumeError::LimitReached(
                "all view numbers are used up (2^23 snapshots and clones)",
            ));
        }
        Ok(PendingPoint {
            id: ViewId(self.history.next_ids().0),
            epoch: self.epoch,
            created: new.created,
            pause_ns: (new.pause_ns)(),
            consistency: new.consistency,
            name: new.name.to_vec(),
        })
    }

    /// Takes the point: the live root is kept, the epoch moves on. Nothing is copied, counted or walked.
    pub(super) fn take_point(&mut self, point: PendingPoint) {
        self.apply_point(&point);
        self.epoch = point.epoch.next();
        self.points.push(point);
    }

    /// A snapshot that could not be made durable is not there: nobody may come to rely on it.
    fn forget_point(&mut self, id: ViewId) {
        if let Some(record) = self.history.get(id) {
            self.names.remove(&record.name);
        }
    }

    /// What a point means for history, roots and names: also how one is replayed from the superblock.
    pub(super) fn apply_point(&mut self, point: &PendingPoint) {
        let root = self.roots[&self.live].clone();
        let new = Point {
            epoch: point.epoch,
            name: point.name.clone(),
            created: point.created,
            consistency: point.consistency,
        };
        self.history.point_as(point.id, self.live, new);
        self.history.set_pause(point.id, point.pause_ns);
        if matches!(root, Child::Mem(_)) {
            self.unwritten.insert(point.id);
        }
        self.roots.insert(point.id, root);
        self.names.insert(point.name.clone(), point.id);
    }

    /// Gives a snapshot a name that is free.
    pub(super) fn rename(&mut self, id: ViewId, name: &[u8]) {
        if let Some(record) = self.history.get(id) {
            self.names.remove(&record.name);
        }
        self.names.insert(name.to_vec(), id);
        self.history.set_name(id, name.to_vec());
        self.changed = true;
    }

    /// Has the next commit delete a view that has no name any more.
    pub(super) fn delete(&mut self, id: ViewId) {
        // Its record says so too, for the case that the commit has to leave it to a later one.
        self.history.set_name(id, Vec::new());
        self.deletes.push(id);
    }

    /// Gives a snapshot, whose root this is, a head.
    pub(super) fn fork(&mut self, snapshot: ViewId, root: Child, created: (i64, u32)) -> ViewId {
        let head = self.history.fork(snapshot, Vec::new(), created);
        if matches!(root, Child::Mem(_)) {
            self.unwritten.insert(head);
        }
        self.roots.insert(head, root);
        self.changed = true;
        head
    }
}

impl Txn<'_> {
    /// Ends the transaction on the live view with a snapshot of it, in one record.
    fn point(mut self, new: &NewSnapshot<'_>) -> Result<ViewId> {
        let point = self.state().next_point(new)?;
        let id = point.id;
        let mut state = self.end_with(&Effect::Point(point.clone()));
        state.take_point(point);
        Ok(id)
    }
}

fn info(record: &ViewRecord) -> SnapshotInfo {
    SnapshotInfo {
        id: record.id,
        name: record.name.clone(),
        created: record.created,
        epoch: record.epoch,
        referenced: record.referenced,
        exclusive: record.exclusive,
        written: record.written,
        pause_ns: record.pause_ns,
        consistency: record.consistency,
    }
}

impl Volume {
    /// All snapshots, oldest first.
    pub fn snapshots(&self) -> Vec<SnapshotInfo> {
        let state = self.state.read();
        let mut list: Vec<_> = state
            .history
            .views()
            .filter(|v| {
                v.role == Role::Snapshot && !v.name.is_empty() && state.names.get(&v.name) == Some(&v.id)
            })
            .map(info)
            .collect();
        drop(state);
        list.sort_by_key(|s| s.epoch);
        list
    }

    /// At most `max` snapshots with numbers above `after`, oldest first: numbers ascend with time.
    pub fn snapshots_after(&self, after: ViewId, max: usize) -> Vec<SnapshotInfo> {
        let state = self.state.read();
        let later = state.history.views_after(after).filter(|v| v.role == Role::Snapshot);
        later.filter(|v| state.names.get(&v.name) == Some(&v.id)).take(max).map(info).collect()
    }

    /// The newest snapshot.
    pub fn newest_snapshot(&self) -> Option<SnapshotInfo> {
        let state = self.state.read();
        let named = |v: &&ViewRecord| state.names.get(&v.name) == Some(&v.id);
        state.history.views_after(ViewId(0)).rev().filter(|v| v.role == Role::Snapshot).find(named).map(info)
    }

    /// Number of snapshots.
    pub fn snapshot_count(&self) -> usize {
        self.state.read().names.len()
    }

    /// The snapshot of that name.
    pub fn find_snapshot(&self, name: &[u8]) -> Option<SnapshotInfo> {
        let state = self.state.read();
        let id = state.names.get(name)?;
        state.history.get(*id).filter(|v| v.role == Role::Snapshot).map(info)
    }

    /// The snapshot of that number, as listed.
    pub fn snapshot_info(&self, id: ViewId) -> Option<SnapshotInfo> {
        let state = self.state.read();
        state.history.get(id).filter(|v| state.names.get(&v.name) == Some(&v.id)).map(info)
    }

    /// The tree of a snapshot, readable for as long as the view exists, also when the snapshot is deleted meanwhile.
    pub fn snapshot(&self, id: ViewId) -> Result<Arc<View>> {
        let state = self.state.read();
        let record = state.history.get(id).filter(|v| v.role == Role::Snapshot);
        let record =
            record.filter(|v| state.names.get(&v.name) == Some(&id)).ok_or(VolumeError::NoSuchView)?;
        let root = state.roots.get(&id).ok_or(VolumeError::NoSuchView)?.clone();
        let pin = Some(Pin::snapshot(&self.shared, id));
        Ok(Arc::new(View { id, epoch: record.epoch, root, shared: self.shared.clone(), _pin: pin }))
    }

    /// Makes a snapshot of the live tree, what `prepare` adds included. One record of the log makes it durable; false
    /// if the log does not hold it, and then the caller's next commit does.
    pub fn create_snapshot(&self, new: &NewSnapshot<'_>, prepare: Prepare<'_>) -> Result<(ViewId, bool)> {
        assert!((1..=NAME_BYTES_MAX).contains(&new.name.len()), "the name is checked above");
        self.check_writable()?;
        // Not while a commit is open: it would know the snapshot and not its tree.
        let _no_commit = self.committer.lock();
        self.check_writable()?;
        let mut txn = self.begin();
        if let Err(e) = prepare(&mut txn) {
            return Err(txn.failed(e));
        }
        let id = txn.point(new)?;
        self.write_log();
        match self.sync() {
            Ok(durable) => Ok((id, durable)),
            Err(e) => {
                self.state.write().forget_point(id);
                Err(e)
            }
        }
    }

    /// Gives a snapshot another name. Durable with the next commit.
    pub fn rename_snapshot(&self, id: ViewId, name: &[u8]) -> Result<()> {
        self.check_writable()?;
        // Not while a commit is open: it would write some of several new names, and two snapshots could share one
        // after a crash.
        let _no_commit = self.committer.lock();
        let mut state = self.state.write();
        if state.names.contains_key(name) {
            return Err(VolumeError::NameTaken);
        }
        let s = &mut *state;
        let record = s.history.get(id).ok_or(VolumeError::NoSuchView)?;
        if s.names.get(&record.name) != Some(&id) {
            return Err(VolumeError::NoSuchView);
        }
        s.rename(id, name);
        self.tell(state, &Effect::Rename(id, name));
        Ok(())
    }

    /// Ends a change of the views with its record.
    fn tell(&self, state: RwLockWriteGuard<'_, State>, effect: &Effect<'_>) {
        let mut effects = Effects::default();
        effects.push(effect);
        self.log.append(state.live, state.epoch, &effects);
        drop(state);
        self.write_log();
    }

    /// Deletes a snapshot: the name is gone at once, the space comes back in the background after the next commit, and not
    /// before the last reader is gone.
    pub fn delete_snapshot(&self, id: ViewId) -> Result<()> {
        self.check_writable()?;
        let mut state = self.state.write();
        let s = &mut *state;
        let record = s.history.get(id).filter(|v| v.role == Role::Snapshot).ok_or(VolumeError::NoSuchView)?;
        if s.names.get(&record.name) != Some(&id) {
            return Err(VolumeError::NoSuchView);
        }
        s.names.remove(&record.name);
        s.delete(id);
        self.tell(state, &Effect::Delete(id));
        Ok(())
    }

    /// A new writable head that starts as the snapshot is. Nothing is copied.
    pub fn clone_snapshot(&self, id: ViewId, created: (i64, u32)) -> Result<ViewId> {
        self.check_writable()?;
        let mut state = self.state.write();
        let s = &mut *state;
        let record = s.history.get(id).filter(|v| s.names.get(&v.name) == Some(&v.id));
        record.ok_or(VolumeError::NoSuchView)?;
        if s.history.next_ids().0 > VIEW_ID_MAX {
            return Err(VolumeError::LimitReached(
                "all view numbers are used up (2^23 snapshots and clones)",
            ));
        }
        let root = s.roots.get(&id).ok_or(VolumeError::NoSuchView)?.clone();
        let head = s.fork(id, root, created);
        self.tell(state, &Effect::Fork(id, head, created));
        Ok(head)
    }

    /// Drops a head that is not the live one, with everything that it wrote alone.
    pub fn drop_head(&self, head: ViewId) -> Result<()> {
        self.check_writable()?;
        let mut state = self.state.write();
        let s = &mut *state;
        let is_head = s.history.get(head).is_some_and(|v| v.role == Role::Head);
        if !is_head || head == s.live || s.deletes.contains(&head) {
            return Err(VolumeError::NoSuchView);
        }
        s.delete(head);
        self.tell(state, &Effect::Delete(head));
        Ok(())
    }

    /// Makes another head the live one; the old one stays a head.
    pub fn promote(&self, head: ViewId) -> Result<ViewId> {
        self.check_writable()?;
        let mut state = self.state.write();
        let s = &mut *state;
        let is_head = s.history.get(head).is_some_and(|v| v.role == Role::Head);
        if !is_head || s.deletes.contains(&head) {
            return Err(VolumeError::NoSuchView);
        }
        s.changed = true;
        let old = std::mem::replace(&mut s.live, head);
        self.tell(state, &Effect::Promote(head));
        Ok(old)
    }
}
