//! Snapshots by name: the point, the list, rename, delete.

use super::commit::Prepare;
use super::history::Point;
use super::lines::{NO_GENERATION, NO_NUMBER, NO_SLOT};
use super::state::{StateTurn, VolumeState};
use super::view::Pin;
use super::{NewHold, ReserveFor, Result, Txn, View, Volume, VolumeError, visits};
use crate::format::age::AgeRecord;
use crate::format::ids::COUNTER_MAX;
use crate::format::log::{Effect, Effects, NamedPoint};
use crate::format::provenance::Provenance;
use crate::format::superblock::PendingPoint;
use crate::format::view::{Consistency, Role, ViewRecord};
use crate::format::{Epoch, Generation, Identity, LineId, Slot, ViewId};
use crate::limits::NAME_BYTES_MAX;
use crate::tree::Child;
use std::sync::Arc;

/// Records that making a snapshot changes, or deleting one: its own, that of the head, and those of views beside it.
pub(super) const RECORDS_OF_A_POINT: usize = 4;
/// Records that a hold changes: its own, and the age of the store.
const RECORDS_OF_A_HOLD: usize = 2;

/// A snapshot as it is listed. Counters are bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotInfo {
    /// Its number.
    pub id: ViewId,
    /// The line that it is of.
    pub line: LineId,
    /// What the numbers of its nodes carry.
    pub slot: Slot,
    /// Of the slot.
    pub generation: Generation,
    /// Its name.
    pub name: Vec<u8>,
    /// Seconds and nanoseconds since 1970 UTC.
    pub created: (i64, u32),
    /// Its point in time.
    pub epoch: Epoch,
    /// Everything that it reaches.
    pub referenced: u64,
    /// What only it reaches: deleting it alone frees this. None where lines part, and no counter tells: [`super::Planner::exclusive`] does.
    pub exclusive: Option<u64>,
    /// What was written between the snapshot before it and it.
    pub written: u64,
    /// How long writers waited for it.
    pub pause_ns: u64,
    /// What took part.
    pub consistency: Consistency,
    /// Why it was made, and by whom.
    pub provenance: Provenance,
    /// When content was last purged from it, in seconds since 1970 UTC.
    pub edited: Option<i64>,
    /// It came from another store: its provenance tells of that one.
    pub is_received: bool,
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
    /// Why, and by whom.
    pub provenance: &'n Provenance,
    /// If it comes from another store: as it is known there.
    pub identity: Option<Identity>,
    /// Tells how long writers have been waiting, in nanoseconds; asked at the point.
    pub pause_ns: &'n dyn Fn() -> u64,
}

impl VolumeState {
    /// What a snapshot of a line that is made now will be.
    pub(super) fn next_point(&self, line: LineId, new: &NewSnapshot<'_>) -> Result<PendingPoint> {
        if self.lines.snapshot(&self.history, line, new.name).is_some() {
            return Err(VolumeError::NameTaken);
        }
        Ok(PendingPoint {
            id: self.next_view()?,
            line,
            slot: self.lines.slots.find().ok_or(NO_SLOT)?,
            generation: self.lines.slots.find_generations(1).ok_or(NO_GENERATION)?,
            epoch: self.epoch,
            created: new.created,
            pause_ns: (new.pause_ns)(),
            consistency: new.consistency,
            name: new.name.to_vec(),
            provenance: new.provenance.clone(),
            identity: new.identity,
        })
    }

    /// Number of the next view.
    pub(super) fn next_view(&self) -> Result<ViewId> {
        let next = self.history.next_ids().0;
        if next.0 >= COUNTER_MAX {
            Err(VolumeError::LimitReached("all view numbers are used up"))
        } else {
            Ok(next)
        }
    }

    /// Takes the point: the root of the line's head is kept, the epoch moves on. Nothing is copied, counted or walked.
    pub(super) fn take_point(&mut self, point: PendingPoint) {
        self.apply_point(&point);
        self.epoch = point.epoch.next();
        self.points.push(point);
    }

    /// A snapshot that could not be made durable is not there: nobody may come to rely on it.
    fn forget_point(&mut self, id: ViewId) {
        if let Some(record) = self.history.get(id) {
            self.lines.forget_snapshot(record);
            self.history.disown(id);
        }
    }

    /// What a point means for history, roots and names: also how one is replayed from the superblock. The line exists.
    pub(super) fn apply_point(&mut self, point: &PendingPoint) {
        let Some(head) = self.lines.head(point.line) else { return };
        let root = self.roots[&head].clone();
        let new = Point {
            epoch: point.epoch,
            name: point.name.clone(),
            slot: point.slot,
            generation: point.generation,
            created: point.created,
            consistency: point.consistency,
            provenance: point.provenance.clone(),
            identity: point.identity,
        };
        self.history.point_as(point.id, head, new);
        self.history.set_pause(point.id, point.pause_ns);
        if matches!(root, Child::Mem(_)) {
            self.unwritten.insert(point.id);
        }
        self.roots.insert(point.id, root);
        if let Some(record) = self.history.get(point.id) {
            self.lines.add_snapshot(record);
        }
    }

    /// Gives a snapshot a name that is free.
    pub(super) fn rename(&mut self, id: ViewId, name: &[u8]) {
        if let Some(record) = self.history.get(id) {
            self.lines.rename_snapshot(record, name);
        }
        self.history.set_name(id, name.to_vec());
        self.changed = true;
    }

    /// Has the next commit delete a snapshot or a head that is no line's any more; a later one if it is what a line is
    /// compared with.
    pub(super) fn delete(&mut self, id: ViewId) {
        let Some(record) = self.history.get(id) else { return };
        if record.role == Role::Snapshot {
            self.lines.forget_snapshot(record);
            self.lines.slots.leave(record.slot, Some(id), self.epoch);
        }
        self.forget_hydrations(id);
        self.holds_of(id).into_iter().for_each(|number| self.end_hold(number));
        // Its record says so too, for the case that the commit has to leave it to a later one.
        self.history.disown(id);
        if self.lines.is_base(id) {
            self.postponed.insert(id);
            self.changed = true;
        } else {
            self.deletes.push(id);
        }
    }

    /// A snapshot of a line's own.
    pub(super) fn own_snapshot(&self, id: ViewId) -> Result<&ViewRecord> {
        self.history.get(id).filter(is_shown).ok_or(VolumeError::NoSuchView)
    }

    /// Fails unless the snapshot is the line's own. What is in the trash with its line is nobody's: who was about to do
    /// something with it finds it gone.
    pub(super) fn of_line(&self, line: LineId, id: ViewId) -> Result<()> {
        self.check_not_in_trash(line)?;
        match self.own_snapshot(id)?.line {
            own if own == line => Ok(()),
            _ if self.lines.inherits(&self.history, line, id) => Err(VolumeError::Inherited),
            _ => Err(VolumeError::NoSuchView),
        }
    }

    /// Snapshots that a line shows, oldest first, with numbers above `after`.
    pub(super) fn shown_after(&self, line: LineId, after: ViewId) -> impl Iterator<Item = &ViewRecord> {
        let mut inherited: Vec<_> = self.inherited(line).take_while(|v| v.id > after).collect();
        inherited.reverse();
        inherited.retain(|v| is_shown(v) && self.lines.shows(&self.history, line, v));
        // What is its own is younger than what it has from its origin, but for what came from another line.
        let first = self.own_after(line, after).next();
        let mixed = first.zip(inherited.last()).is_some_and(|(first, last)| first.id <= last.id);
        if mixed {
            inherited.extend(self.own_after(line, after));
            inherited.sort_unstable_by_key(|v| v.id);
            inherited.dedup_by_key(|v| v.id);
        }
        let own = (!mixed).then(|| self.own_after(line, after));
        inherited.into_iter().chain(own.into_iter().flatten())
    }

    fn own_after(&self, line: LineId, after: ViewId) -> impl DoubleEndedIterator<Item = &ViewRecord> {
        self.lines.own_after(line, after).filter_map(|id| self.history.get(id)).filter(is_shown)
    }

    /// Snapshots that a line has from its origin, newest first, with those that are nobody's any more.
    fn inherited(&self, line: LineId) -> impl Iterator<Item = &ViewRecord> {
        let origin = self.lines.origin(line);
        origin.into_iter().flat_map(|origin| self.history.snapshots_down_from(origin))
    }

    /// The newest snapshot that a line shows.
    fn newest_shown(&self, line: LineId) -> Option<&ViewRecord> {
        let own = self.own_after(line, ViewId(0)).next_back();
        let shows = |v: &&ViewRecord| is_shown(v) && self.lines.shows(&self.history, line, v);
        own.into_iter().chain(self.inherited(line).find(shows)).max_by_key(|v| v.id)
    }
}

/// True for a snapshot that has a name.
fn is_shown(record: &&ViewRecord) -> bool {
    record.role == Role::Snapshot && record.line != LineId::NONE
}

impl Txn<'_> {
    /// Ends the transaction with a snapshot of its line's head, in one record, and with its hold if it is to have one.
    fn point(self, new: &NewSnapshot<'_>, hold: Option<&NewHold<'_>>) -> Result<ViewId> {
        let line = self.line();
        let point = self.state().next_point(line, new)?;
        let id = point.id;
        let Some(hold) = hold else {
            self.end_with(&[Effect::Point(point.clone())]).alone().take_point(point);
            return Ok(id);
        };
        let record = self.state().next_hold(id, hold, None)?;
        let age = AgeRecord { secs: hold.age.secs.max(self.state().holds.age.secs), ..hold.age };
        let effects = [Effect::Point(point.clone()), Effect::SetAge(age), Effect::SetHold(record.clone())];
        let mut turn = self.end_with(&effects);
        let state = turn.alone();
        state.take_point(point);
        state.set_age(age);
        state.set_hold(record);
        Ok(id)
    }
}

impl VolumeState {
    /// A snapshot as it is listed.
    pub(super) fn info(&self, record: &ViewRecord) -> SnapshotInfo {
        visits::count();
        SnapshotInfo {
            id: record.id,
            line: record.line,
            slot: record.slot,
            generation: record.generation,
            name: record.name.clone(),
            created: record.created,
            epoch: record.epoch,
            referenced: record.referenced,
            exclusive: self.history.counted_exclusive(record),
            written: record.written,
            pause_ns: record.pause_ns,
            consistency: record.consistency,
            provenance: record.provenance.clone(),
            edited: record.edited,
            is_received: record.identity.is_some(),
        }
    }
}

impl Volume {
    /// All snapshots that a line shows, those that it has from its origin included, oldest first.
    pub fn snapshots(&self, line: LineId) -> Vec<SnapshotInfo> {
        self.snapshots_after(line, ViewId(0), usize::MAX)
    }

    /// Those of its own, oldest first.
    pub fn own_snapshots(&self, line: LineId) -> Vec<SnapshotInfo> {
        let state = self.state.read();
        state.own_after(line, ViewId(0)).map(|record| state.info(record)).collect()
    }

    /// At most `max` of them with numbers above `after`: numbers ascend with time.
    pub fn snapshots_after(&self, line: LineId, after: ViewId, max: usize) -> Vec<SnapshotInfo> {
        let state = self.state.read();
        state.shown_after(line, after).take(max).map(|record| state.info(record)).collect()
    }

    /// The newest snapshot that a line shows.
    pub fn newest_snapshot(&self, line: LineId) -> Option<SnapshotInfo> {
        let state = self.state.read();
        state.newest_shown(line).map(|record| state.info(record))
    }

    /// Number of snapshots of a line, without those that it has from its origin.
    pub fn snapshot_count(&self, line: LineId) -> usize {
        self.state.read().lines.own_count(line)
    }

    /// The snapshot that a line shows under that name.
    pub fn find_snapshot(&self, line: LineId, name: &[u8]) -> Option<SnapshotInfo> {
        let state = self.state.read();
        let id = state.lines.snapshot(&state.history, line, name)?;
        state.history.get(id).map(|record| state.info(record))
    }

    /// The snapshot of that number, as listed.
    pub fn snapshot_info(&self, id: ViewId) -> Option<SnapshotInfo> {
        let state = self.state.read();
        state.own_snapshot(id).ok().map(|record| state.info(record))
    }

    /// The generation of the slot of a snapshot, also of one that was deleted and is still read.
    pub fn slot_generation(&self, id: ViewId) -> Option<Generation> {
        self.state.read().history.get(id).map(|v| v.generation)
    }

    /// The snapshot that has a slot, as listed.
    pub fn snapshot_by_slot(&self, slot: Slot) -> Option<SnapshotInfo> {
        let state = self.state.read();
        let id = state.lines.at_slot(slot)?;
        state.history.get(id).map(|record| state.info(record))
    }

    /// The tree of a snapshot, readable for as long as the view exists, also when the snapshot is deleted meanwhile.
    pub fn snapshot(&self, id: ViewId) -> Result<Arc<View>> {
        let state = self.state.read();
        let record = state.own_snapshot(id)?;
        let root = state.roots.get(&id).ok_or(VolumeError::NoSuchView)?.clone();
        let pin = Some(Pin::snapshot(&self.shared, id));
        Ok(Arc::new(View { id, epoch: record.epoch, root, shared: self.shared.clone(), _pin: pin }))
    }

    /// Makes a snapshot of a line's head, what `prepare` adds included. One record of the log makes it durable; false
    /// if the log does not hold it, and then the caller's next commit does.
    pub fn create_snapshot(
        &self,
        line: LineId,
        new: &NewSnapshot<'_>,
        prepare: Prepare<'_>,
    ) -> Result<(ViewId, bool)> {
        self.create_held_snapshot(line, new, None, prepare)
    }

    /// The same of one that is held from the first moment on.
    pub fn create_held_snapshot(
        &self,
        line: LineId,
        new: &NewSnapshot<'_>,
        hold: Option<&NewHold<'_>>,
        prepare: Prepare<'_>,
    ) -> Result<(ViewId, bool)> {
        assert!((1..=NAME_BYTES_MAX).contains(&new.name.len()), "the name is checked above");
        self.check_writable()?;
        // Not while a commit is open: it would know the snapshot and not its tree.
        let _no_commit = self.committer.lock();
        self.check_writable()?;
        let mut txn = self.begin(line)?;
        let records = RECORDS_OF_A_POINT + if hold.is_some() { RECORDS_OF_A_HOLD } else { 0 };
        self.reserve_records(txn.state(), records, ReserveFor::Record)?;
        txn.attempt(|txn| {
            prepare(txn)?;
            txn.switch_to(line)
        })?;
        let id = txn.point(new, hold)?;
        self.write_log();
        match self.sync() {
            Ok(durable) => Ok((id, durable)),
            Err(e) => {
                self.turn().alone().forget_point(id);
                Err(e)
            }
        }
    }

    /// Fails if two snapshots, one after the other, cannot be made for want of numbers.
    pub fn check_numbers_for_two(&self) -> Result<()> {
        let state = self.state.read();
        let slots = &state.lines.slots;
        if state.next_view()?.0 + 1 >= COUNTER_MAX {
            return Err(NO_NUMBER);
        }
        slots.find().and_then(|slot| slots.find_besides(slot)).ok_or(NO_SLOT)?;
        slots.find_generations(2).ok_or(NO_GENERATION)?;
        Ok(())
    }

    /// Takes back a snapshot that the log does not hold and no commit has made durable: nobody may come to rely on it.
    pub fn take_back_snapshot(&self, line: LineId, id: ViewId) {
        let mut turn = self.turn();
        if turn.of_line(line, id).is_ok() {
            let holds = turn.holds_of(id);
            turn.alone().delete(id);
            if !self.is_read_only() {
                let ends = holds.into_iter().map(Effect::EndHold);
                self.tell_all(turn, ends.chain([Effect::Delete(id)]));
            }
        }
    }

    /// The head of a line with what `prepare` adds, which nobody sees before all of it is there: what a snapshot that is
    /// made now would hold. Nothing is left behind, and the epoch does not move on.
    pub fn complete_view(&self, line: LineId, prepare: Prepare<'_>) -> Result<View> {
        self.check_writable()?;
        // As for a snapshot: not while a commit is open.
        let _no_commit = self.committer.lock();
        let mut txn = self.begin(line)?;
        txn.attempt(|txn| {
            prepare(txn)?;
            txn.switch_to(line)
        })?;
        let view = View { _pin: Some(Pin::epoch(&self.shared, txn.view().epoch)), ..txn.view().clone() };
        Ok(view)
    }

    /// Gives a snapshot another name. Durable with the next commit. Only through its own line.
    pub fn rename_snapshot(&self, line: LineId, id: ViewId, name: &[u8]) -> Result<()> {
        self.check_writable()?;
        // Not while a commit is open: it would write some of several new names, and two snapshots could share one
        // after a crash.
        let _no_commit = self.committer.lock();
        let mut state = self.turn();
        state.of_line(line, id)?;
        if state.lines.name_is_taken(&state.history, line, id, name) {
            return Err(VolumeError::NameTaken);
        }
        self.reserve_records(&state, 1, ReserveFor::Record)?;
        state.alone().rename(id, name);
        self.tell(state, &Effect::Rename(id, name));
        Ok(())
    }

    /// Says something else about a snapshot than was said. Durable as a new name is, and only through its own line.
    pub fn describe_snapshot(&self, line: LineId, id: ViewId, description: &[u8]) -> Result<()> {
        self.check_writable()?;
        let _no_commit = self.committer.lock();
        let mut state = self.turn();
        state.of_line(line, id)?;
        let record = state.own_snapshot(id)?;
        let provenance = Provenance { description: description.to_vec(), ..record.provenance.clone() };
        let named = NamedPoint { view: id, line, name: record.name.clone(), provenance };
        self.reserve_records(&state, 1, ReserveFor::Record)?;
        state.alone().name_point(named.clone());
        self.tell(state, &Effect::Name(named));
        Ok(())
    }

    /// Ends a change of views and lines with its record.
    pub(super) fn tell(&self, state: StateTurn<'_>, effect: &Effect<'_>) {
        self.tell_all(state, std::iter::once(effect.clone()));
    }

    /// The same of several, which are done all or none.
    pub(super) fn tell_all<'e>(&self, state: StateTurn<'_>, all: impl Iterator<Item = Effect<'e>>) {
        self.append_all(&state, all);
        drop(state);
        self.write_log();
    }

    /// Adds them to the log, which is written when others have had their turn.
    pub(super) fn append_all<'e>(&self, state: &StateTurn<'_>, all: impl Iterator<Item = Effect<'e>>) {
        let mut effects = Effects::default();
        all.for_each(|effect| effects.push(&effect));
        self.log.append(LineId::MAIN, state.epoch, &effects);
    }

    /// Deletes a snapshot: the name is gone at once, the space comes back in the background after the next commit, and not
    /// before the last reader is gone. Only through its own line. `Held` while it has a hold, is copied to another store, or
    /// what is left of a purge is found from it.
    pub fn delete_snapshot(&self, line: LineId, id: ViewId) -> Result<()> {
        self.check_writable()?;
        let mut turn = self.turn();
        let mut held_up = self.removals.begin();
        turn.of_line(line, id)?;
        self.check_may_go(&turn, id)?;
        self.reserve_records(&turn, RECORDS_OF_A_POINT, ReserveFor::Delete)?;
        held_up.views = 1;
        turn.alone().delete(id);
        self.append_all(&turn, std::iter::once(Effect::Delete(id)));
        drop((held_up, turn));
        self.write_log();
        Ok(())
    }
}
