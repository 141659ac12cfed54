//! Lines: made of snapshots, renamed, rolled back, dropped.
//!
//! Nothing is copied. What a line loses by any of this is deleted like a snapshot: its space comes back in the background.

use super::base::{OtherBases, effects_of};
use super::commit::Prepare;
use super::lines::{NO_GENERATION, NO_NUMBER, NO_SLOT, POINT_NAME};
use super::snapshot::{NewSnapshot, RECORDS_OF_A_POINT};
use super::state::VolumeState;
use super::{ReserveFor, Result, Txn, Volume, VolumeError};
use crate::format::ids::COUNTER_MAX;
use crate::format::line::{LineRecord, LineState};
use crate::format::log::{Effect, Rollback};
use crate::format::provenance::Provenance;
use crate::format::schedule::{SCHEDULES_MAX, Schedule};
use crate::format::superblock::PendingPoint;
use crate::format::terms::Terms;
use crate::format::view::{Consistency, Role};
use crate::format::{Generation, LineId, ViewId};
use crate::limits::NAME_BYTES_MAX;
use crate::tree::Child;
use crate::volume::view::LineHold;
use std::collections::{BTreeSet, HashSet};

/// Records that making, switching or ending a line changes besides those of its snapshots: its own, those of two heads, and
/// those of a point.
pub(super) const RECORDS_OF_A_LINE: usize = 3 + RECORDS_OF_A_POINT;
/// And for each of its snapshots in the trash: that of the view, and that of the trash.
const RECORDS_OF_TRASHED: usize = 2;

impl VolumeState {
    /// Makes the line of a record: its numbers, name and slot are free, its origin is a snapshot, or a view on which a head
    /// is that has changed nothing since; without one it begins empty.
    pub(super) fn create_line(&mut self, record: LineRecord) {
        let Some(origin) = record.origin else {
            self.begin_line(&record);
            self.lines.add(record);
            return;
        };
        if self.own_snapshot(origin).is_ok() {
            self.fork(record.head, origin, record.id, record.created);
        } else if let Some(other) = self.untouched_on(origin) {
            self.history.fork_beside_as(record.head, other, record.id, record.created);
            self.take_root(record.head, other);
        }
        self.lines.add(record);
    }

    /// A head on that view which has changed nothing since.
    pub(super) fn untouched_on(&self, view: ViewId) -> Option<ViewId> {
        let is_untouched = |head: &ViewId| {
            self.roots.get(head).is_some_and(|root| self.newest_point(*head, root) == Some(view))
        };
        self.history.children(view).iter().copied().find(is_untouched)
    }

    /// The view that a head is on, if it has changed nothing since: its root is older.
    pub(super) fn newest_point(&self, head: ViewId, root: &Child) -> Option<ViewId> {
        let record = self.history.get(head).filter(|v| v.role == Role::Head)?;
        let birth = match root {
            Child::Stored(ptr) => ptr.birth,
            Child::Mem(node) => node.birth(),
        };
        record.prev.filter(|_| birth <= self.history.base(head))
    }

    /// Gives a snapshot a head with that number.
    fn fork(&mut self, head: ViewId, snapshot: ViewId, line: LineId, created: (i64, u32)) {
        self.history.fork_as(head, snapshot, line, created);
        self.take_root(head, snapshot);
    }

    /// A new head begins with the tree of another view.
    fn take_root(&mut self, head: ViewId, from: ViewId) {
        let root = self.roots[&from].clone();
        if matches!(root, Child::Mem(_)) {
            self.unwritten.insert(head);
        }
        self.roots.insert(head, root);
        self.changed = true;
    }

    /// Gives a line another head. The old one is deleted.
    pub(super) fn roll_back(&mut self, to: &Rollback) {
        let Some(old) = self.lines.head(to.line) else { return };
        self.fork(to.head, to.snapshot, to.line, to.created);
        self.lines.slots.use_generation(to.head_generation);
        self.lines.change(to.line, |record| {
            (record.head, record.head_generation) = (to.head, to.head_generation);
        });
        self.delete(old);
    }

    /// Deletes a line with its head and its own snapshots.
    pub(super) fn drop_line(&mut self, line: LineId) {
        let Some(record) = self.lines.get(line).map(|l| l.record.clone()) else { return };
        self.hand_over_trash(line, None);
        for snapshot in self.lines.own(line) {
            self.delete(snapshot);
        }
        self.delete(record.head);
        self.lines.slots.leave(record.slot, None, self.epoch);
        self.lines.remove(line);
        self.changed = true;
    }

    /// Records that the end of a line changes: with its snapshots, those in the trash and their records there among them.
    pub(super) fn records_of_end(&self, line: LineId) -> usize {
        RECORDS_OF_A_LINE + self.lines.own_count(line) + RECORDS_OF_TRASHED * self.trash_of(line)
    }

    /// The line that a clone of `line` with that root will be, and the point that it is made from: none if nothing has changed since the
    /// newest, so that clones of a line at rest leave nothing in its past.
    fn next_clone(
        &self,
        (line, root): (LineId, &Child),
        name: &[u8],
        created: (i64, u32),
        provenance: &Provenance,
    ) -> Result<(Option<PendingPoint>, LineRecord)> {
        if self.lines.find(name).is_some() {
            return Err(VolumeError::NameTaken);
        }
        if self.lines.next.0 >= COUNTER_MAX {
            return Err(NO_NUMBER);
        }
        let consistency = Consistency::FileSystem;
        let new = NewSnapshot {
            name: POINT_NAME,
            created,
            consistency,
            provenance: &Provenance::default(),
            pause_ns: &|| 0,
            identity: None,
        };
        let newest = self.lines.head(line).and_then(|head| self.newest_point(head, root));
        // What has a name is known by it; what a line is compared with has to be whole.
        let origin = newest.filter(|id| self.own_snapshot(*id).is_err() && self.may_be_base(*id));
        let point = if origin.is_none() { Some(self.next_point(line, &new)?) } else { None };
        let origin = point.as_ref().map(|point| point.id).or(origin);
        let first = self.lines.slots.find_generations(3).ok_or(NO_GENERATION)?.0;
        let (head, slot) = match &point {
            Some(point) => (ViewId(point.id.0 + 1), self.lines.slots.find_besides(point.slot)),
            None => (self.next_view()?, self.lines.slots.find()),
        };
        let record = LineRecord {
            id: self.lines.next,
            name: name.to_vec(),
            head,
            slot: slot.ok_or(NO_SLOT)?,
            generation: Generation(first + 1),
            head_generation: Generation(first + 2),
            origin,
            base: origin,
            from: Some(line),
            created,
            terms: Terms::default(),
            state: LineState::Writable,
            provenance: provenance.clone(),
            schedules: Vec::new(),
        };
        Ok((point, record))
    }

    pub(super) fn set_terms(&mut self, line: LineId, terms: Terms) {
        self.lines.change(line, |record| record.terms = terms);
        self.changed = true;
    }

    pub(super) fn set_schedules(&mut self, line: LineId, schedules: Vec<Schedule>) {
        self.lines.change(line, |record| record.schedules = schedules);
        self.changed = true;
    }

    pub(super) fn rename_line(&mut self, line: LineId, name: &[u8]) {
        self.lines.rename(line, name);
        self.changed = true;
    }

    /// True if a line shows the snapshot.
    pub(super) fn shows(&self, line: LineId, snapshot: ViewId) -> bool {
        self.own_snapshot(snapshot)
            .is_ok_and(|v| v.line == line || self.lines.inherits(&self.history, line, snapshot))
    }
}

impl Txn<'_> {
    pub(super) fn next_clone(
        &self,
        name: &[u8],
        created: (i64, u32),
        provenance: &Provenance,
    ) -> Result<(Option<PendingPoint>, LineRecord)> {
        // Whoever changes a tree has its root alone.
        self.state().next_clone((self.line(), &self.view().root), name, created, provenance)
    }

    /// Ends the transaction with a new line that begins as its own is then, in one record: a point, the line, and that
    /// nobody wants the point; the line alone if the newest point will do.
    fn fork(self, name: &[u8], created: (i64, u32), provenance: &Provenance) -> Result<LineRecord> {
        let (point, record) = self.next_clone(name, created, provenance)?;
        let line = Effect::CreateLine(record.clone());
        let Some(point) = point else {
            self.end_with(&[line]).alone().create_line(record.clone());
            return Ok(record);
        };
        let id = point.id;
        let mut turn = self.end_with(&[Effect::Point(point.clone()), line, Effect::Delete(id)]);
        let state = turn.alone();
        state.take_point(point);
        state.create_line(record.clone());
        state.delete(id);
        Ok(record)
    }
}

impl Volume {
    /// All lines but those in the trash, the main line first.
    pub fn lines(&self) -> Vec<LineRecord> {
        let mut lines = self.lines_with_trash();
        lines.retain(|line| line.state != LineState::Trashed);
        lines
    }

    /// All lines, those in the trash too, whose names nobody can say.
    pub fn lines_with_trash(&self) -> Vec<LineRecord> {
        self.state.read().lines.records().cloned().collect()
    }

    /// At most `max` of the lines with numbers above `after`, in the order in which they were made.
    pub fn lines_after(&self, after: LineId, max: usize) -> Vec<LineRecord> {
        self.state.read().lines.records_after(after).take(max).cloned().collect()
    }

    /// Number of lines without the main line, and when the newest of them was made.
    pub fn clone_count(&self) -> (usize, Option<(i64, u32)>) {
        let state = self.state.read();
        let mut clones = state.lines.records_after(LineId::MAIN).filter(|line| line.state.is_shown());
        let newest = clones.next_back().map(|line| line.created);
        (clones.count() + usize::from(newest.is_some()), newest)
    }

    /// A line.
    pub fn line(&self, line: LineId) -> Result<LineRecord> {
        let state = self.state.read();
        state.lines.get(line).map(|l| l.record.clone()).ok_or(VolumeError::NoSuchView)
    }

    /// Keeps the slot of a line from being another's, for whoever knows numbers of its nodes.
    pub fn hold_line(&self, line: &LineRecord) -> LineHold {
        LineHold::new(&self.shared, line.slot)
    }

    /// The line of that name.
    pub fn find_line(&self, name: &[u8]) -> Option<LineRecord> {
        let state = self.state.read();
        let line = &state.lines.get(state.lines.find(name)?)?.record;
        Some(line.clone()).filter(|line| line.state != LineState::Trashed)
    }

    /// A new line that starts as a snapshot is. Durable with the next commit or [`Volume::sync`].
    pub fn create_line(
        &self,
        name: &[u8],
        from: ViewId,
        created: (i64, u32),
        provenance: &Provenance,
    ) -> Result<LineRecord> {
        assert!((1..=NAME_BYTES_MAX).contains(&name.len()), "the name is checked above");
        self.check_writable()?;
        let mut state = self.turn();
        let s = &*state;
        s.own_snapshot(from)?;
        if s.lines.find(name).is_some() {
            return Err(VolumeError::NameTaken);
        }
        if s.lines.next.0 >= COUNTER_MAX {
            return Err(NO_NUMBER);
        }
        self.reserve_records(s, RECORDS_OF_A_LINE, ReserveFor::Record)?;
        let generation = s.lines.slots.find_generations(2).ok_or(NO_GENERATION)?;
        let record = LineRecord {
            id: s.lines.next,
            name: name.to_vec(),
            head: s.next_view()?,
            slot: s.lines.slots.find().ok_or(NO_SLOT)?,
            generation,
            head_generation: Generation(generation.0 + 1),
            origin: Some(from),
            base: Some(from),
            from: s.history.get(from).map(|v| v.line),
            created,
            terms: Terms::default(),
            state: LineState::Writable,
            provenance: provenance.clone(),
            schedules: Vec::new(),
        };
        state.alone().create_line(record.clone());
        self.tell(state, &Effect::CreateLine(record.clone()));
        Ok(record)
    }

    /// A new line that starts as another is now, what `prepare` adds included: from a point that has no name and stays,
    /// hidden, as long as somebody needs it. One record of the log makes it durable; false if the log does not hold it, and
    /// then the caller's next commit does.
    pub fn clone_line(
        &self,
        line: LineId,
        name: &[u8],
        created: (i64, u32),
        provenance: &Provenance,
        prepare: Prepare<'_>,
    ) -> Result<(LineRecord, bool)> {
        assert!((1..=NAME_BYTES_MAX).contains(&name.len()), "the name is checked above");
        self.check_writable()?;
        // Not while a commit is open: it would know the point and not its tree.
        let _no_commit = self.committer.lock();
        self.check_writable()?;
        let mut txn = self.begin(line)?;
        txn.next_clone(name, created, provenance)?;
        self.reserve_records(txn.state(), RECORDS_OF_A_LINE, ReserveFor::Record)?;
        txn.attempt(|txn| {
            prepare(txn)?;
            txn.switch_to(line)
        })?;
        let record = txn.fork(name, created, provenance)?;
        self.write_log();
        match self.sync() {
            Ok(durable) => Ok((record, durable)),
            Err(e) => {
                self.turn().alone().drop_line(record.id);
                Err(e)
            }
        }
    }

    /// Gives a line another name; the main line has none. Durable as a line that is made.
    pub fn rename_line(&self, line: LineId, name: &[u8]) -> Result<()> {
        assert!((1..=NAME_BYTES_MAX).contains(&name.len()), "the name is checked above");
        self.check_writable()?;
        let mut turn = self.turn();
        if line == LineId::MAIN {
            return Err(VolumeError::NoSuchView);
        }
        turn.line_in_use(line)?;
        if turn.lines.find(name).is_some() {
            return Err(VolumeError::NameTaken);
        }
        self.reserve_records(&turn, 1, ReserveFor::Record)?;
        turn.alone().rename_line(line, name);
        self.tell(turn, &Effect::RenameLine(line, name));
        Ok(())
    }

    /// Changes the terms of a line. Durable as a line that is made.
    pub fn set_terms(&self, line: LineId, change: impl FnOnce(&mut Terms)) -> Result<()> {
        self.check_writable()?;
        let mut turn = self.turn();
        let mut terms = turn.line_in_use(line)?.terms;
        change(&mut terms);
        terms.fit(line == LineId::MAIN)?;
        self.reserve_records(&turn, 1, ReserveFor::Record)?;
        turn.alone().set_terms(line, terms);
        self.tell(turn, &Effect::SetTerms(line, terms));
        Ok(())
    }

    /// Has snapshots of a line be taken by these schedules. Durable as a line that is made.
    pub fn set_schedules(&self, line: LineId, schedules: Vec<Schedule>) -> Result<()> {
        self.check_writable()?;
        assert!(schedules.len() <= SCHEDULES_MAX, "the number is checked above");
        let mut turn = self.turn();
        turn.line_in_use(line)?;
        self.reserve_records(&turn, 1, ReserveFor::Record)?;
        turn.alone().set_schedules(line, schedules.clone());
        self.tell(turn, &Effect::SetSchedules(line, schedules));
        Ok(())
    }

    /// Lines of which snapshots are taken by themselves.
    pub fn scheduled_lines(&self) -> Vec<LineRecord> {
        self.state.read().lines.scheduled().cloned().collect()
    }

    /// Clones that may go by themselves.
    pub fn ending_lines(&self) -> Vec<LineRecord> {
        self.state.read().lines.ending().cloned().collect()
    }

    /// True if a clone was made from the line that is still there.
    pub fn has_clones(&self, line: LineId) -> bool {
        let is_made = |other: &LineRecord| other.from == Some(line) && other.state != LineState::Trashed;
        self.state.read().lines.records().any(is_made)
    }

    /// The views that lines began as.
    pub fn origins(&self) -> BTreeSet<ViewId> {
        self.state.read().lines.records().filter_map(|line| line.origin).collect()
    }

    /// The snapshots that lines are compared with: deleting one brings nothing back before that ends.
    pub fn bases(&self) -> HashSet<ViewId> {
        self.state.read().lines.bases()
    }

    /// Deletes a line, which is not the main line, with its snapshots; `Held` while one of these is held. Lines that were made from these stay.
    pub fn drop_line(&self, line: LineId) -> Result<()> {
        self.drop_line_with(line, |state| {
            let bases = state.bases_after_end(line);
            let records = state.records_of_end(line) + bases.len();
            self.reserve_records(state, records, ReserveFor::Delete).map(|()| bases)
        })
    }

    /// Takes back a line that the log does not hold and no commit has made durable: its records have room.
    pub fn take_back_line(&self, line: LineId) -> Result<()> {
        self.drop_line_with(line, |state| Ok(state.bases_after_end(line)))
    }

    /// The same of a line of which all was brought into another.
    pub fn drop_merged_line(&self, line: LineId) -> Result<()> {
        self.drop_line_with(line, |state| {
            let records = state.records_of_end(line);
            self.reserve_records(state, records, ReserveFor::Delete).map(|()| OtherBases::new())
        })
    }

    fn drop_line_with(
        &self,
        line: LineId,
        bases: impl FnOnce(&VolumeState) -> Result<OtherBases>,
    ) -> Result<()> {
        self.check_writable()?;
        let mut turn = self.turn();
        if line == LineId::MAIN {
            return Err(VolumeError::NoSuchView);
        }
        turn.line_in_use(line)?;
        self.check_line_may_go(&turn, line)?;
        let bases = bases(&turn)?;
        let state = turn.alone();
        state.drop_line(line);
        state.set_bases(&bases);
        self.tell_all(turn, std::iter::once(Effect::DropLine(line)).chain(effects_of(&bases)));
        Ok(())
    }

    /// Gives a line a head that starts as a snapshot that it shows. What the old one had and no snapshot has is gone;
    /// newer snapshots stay. Durable as a line that is made.
    pub fn rollback(&self, line: LineId, snapshot: ViewId, created: (i64, u32)) -> Result<LineRecord> {
        self.check_writable()?;
        let mut state = self.turn();
        state.line_in_use(line)?;
        if !state.shows(line, snapshot) {
            return Err(VolumeError::NoSuchView);
        }
        let head_generation = state.lines.slots.find_generations(1).ok_or(NO_GENERATION)?;
        let to = Rollback { line, snapshot, head: state.next_view()?, head_generation, created };
        let bases = state.bases_after_rollback(line, snapshot);
        self.reserve_records(&state, RECORDS_OF_A_LINE + bases.len(), ReserveFor::Record)?;
        let s = state.alone();
        s.roll_back(&to);
        s.set_bases(&bases);
        let record = s.lines.get(line).map(|l| l.record.clone()).ok_or(VolumeError::NoSuchView)?;
        self.tell_all(state, std::iter::once(Effect::Rollback(to)).chain(effects_of(&bases)));
        Ok(record)
    }
}
