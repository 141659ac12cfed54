//! A line gets another head, and what it had stays as a snapshot, its guard: one record of the log has both, so nobody ever
//! finds the one without the other.

use super::base::effects_of;
use super::branch::RECORDS_OF_A_LINE;
use super::commit::Prepare;
use super::lines::NO_GENERATION;
use super::snapshot::{NewSnapshot, SnapshotInfo};
use super::state::VolumeState;
use super::{ReserveFor, Result, Txn, Volume, VolumeError};
use crate::format::line::LineRecord;
use crate::format::log::{Effect, Promotion, Rollback};
use crate::format::superblock::PendingPoint;
use crate::format::{Generation, LineId, ViewId};
use crate::limits::NAME_BYTES_MAX;
use std::collections::{HashMap, HashSet};

/// Snapshots of a line that becomes part of another, and the names that they have from then on.
pub type Renamed<'n> = &'n [(ViewId, Vec<u8>)];

impl VolumeState {
    /// The guard and the head of a rollback that is done now.
    fn next_rollback(
        &self,
        line: LineId,
        snapshot: ViewId,
        guard: &NewSnapshot<'_>,
    ) -> Result<(PendingPoint, Rollback)> {
        if !self.shows(line, snapshot) {
            return Err(VolumeError::NoSuchView);
        }
        let point = self.next_point(line, guard)?;
        let first = self.lines.slots.find_generations(2).ok_or(NO_GENERATION)?.0;
        let (head, head_generation) = (ViewId(point.id.0 + 1), Generation(first + 1));
        let to = Rollback { line, snapshot, head, head_generation, created: guard.created };
        Ok((point, to))
    }

    /// The guard and the head of a promotion that is done now, once snapshots of the line that goes have these other names.
    fn next_promotion(
        &self,
        from: LineId,
        line: LineId,
        (guard, renamed): (&NewSnapshot<'_>, Renamed<'_>),
    ) -> Result<(PendingPoint, Promotion)> {
        if from == LineId::MAIN || from == line {
            return Err(VolumeError::NoSuchView);
        }
        self.line_in_use(from)?;
        let others: HashMap<ViewId, &[u8]> = renamed.iter().map(|(id, name)| (*id, &name[..])).collect();
        let mut new: HashSet<&[u8]> = HashSet::from([guard.name]);
        for (id, name) in renamed {
            self.of_line(from, *id)?;
            let is_taken = self.lines.name_is_taken(&self.history, from, *id, name)
                || self.lines.snapshot(&self.history, line, name).is_some();
            if is_taken || !new.insert(name) {
                return Err(VolumeError::NameTaken);
            }
        }
        let both = self.lines.names_of_both(&self.history, from, line);
        if both.into_iter().any(|view| !others.contains_key(&view.id)) || self.lines.has_own(from, guard.name)
        {
            return Err(VolumeError::NameTaken);
        }
        let point = self.next_point(line, guard)?;
        let first = self.lines.slots.find_generations(2).ok_or(NO_GENERATION)?.0;
        Ok((point, Promotion { from, line, head_generation: Generation(first + 1) }))
    }

    /// Gives a line the head of another, and its snapshots. The old head is deleted, and the other line is no more.
    pub(super) fn promote(&mut self, to: &Promotion) {
        let Some(from) = self.lines.get(to.from).map(|l| l.record.clone()) else { return };
        let Some(old) = self.lines.head(to.line) else { return };
        for view in self.lines.own(from.id).into_iter().chain([from.head]) {
            self.history.set_line(view, to.line);
        }
        self.lines.hand_over(&self.history, from.id, to.line);
        self.lines.slots.use_generation(to.head_generation);
        self.lines.change(to.line, |record| {
            (record.head, record.head_generation) = (from.head, to.head_generation);
        });
        self.hand_over_trash(from.id, Some(to.line));
        self.lines.slots.leave(from.slot, None, self.epoch);
        self.lines.remove(from.id);
        self.changed = true;
        self.delete(old);
    }
}

impl Txn<'_> {
    /// Ends the transaction with a guard of its line's head and another head.
    fn roll_back(
        self,
        snapshot: ViewId,
        guard: &NewSnapshot<'_>,
        switched: &mut dyn FnMut(&LineRecord),
    ) -> Result<ViewId> {
        let line = self.line();
        let (point, to) = self.state().next_rollback(line, snapshot, guard)?;
        let id = point.id;
        let bases = self.state().bases_after_rollback(line, snapshot);
        let mut effects = vec![Effect::Point(point.clone()), Effect::Rollback(to)];
        effects.extend(effects_of(&bases));
        let mut turn = self.end_with(&effects);
        let state = turn.alone();
        state.take_point(point);
        state.roll_back(&to);
        state.set_bases(&bases);
        if let Some(line) = state.lines.get(line) {
            switched(&line.record);
        }
        Ok(id)
    }

    /// Ends the transaction with a guard of its line's head, and the head of another line.
    fn promote(
        self,
        from: LineId,
        (guard, renamed): (&NewSnapshot<'_>, Renamed<'_>),
        switched: &mut dyn FnMut(&LineRecord),
    ) -> Result<ViewId> {
        let line = self.line();
        let (point, to) = self.state().next_promotion(from, line, (guard, renamed))?;
        let id = point.id;
        let bases = self.state().bases_after_promotion(from, line);
        let mut effects: Vec<_> = renamed.iter().map(|(id, name)| Effect::Rename(*id, name)).collect();
        effects.extend([Effect::Point(point.clone()), Effect::Promote(to)]);
        effects_of(&bases).for_each(|effect| effects.push(effect));
        let mut turn = self.end_with(&effects);
        let state = turn.alone();
        renamed.iter().for_each(|(id, name)| state.rename(*id, name));
        state.take_point(point);
        state.promote(&to);
        state.set_bases(&bases);
        if let Some(line) = state.lines.get(line) {
            switched(&line.record);
        }
        Ok(id)
    }
}

impl Volume {
    /// The line that one was made from, if that is still there.
    pub fn line_above(&self, line: LineId) -> Option<LineRecord> {
        self.state.read().line_above(line)
    }

    /// Snapshots of a line's own of whose names a second line shows another one.
    pub fn names_of_both(&self, from: LineId, line: LineId) -> Vec<SnapshotInfo> {
        let state = self.state.read();
        let both = state.lines.names_of_both(&state.history, from, line);
        both.map(|record| state.info(record)).collect()
    }

    /// True if a snapshot may get that name, in its line and in another that is to have it.
    pub fn is_free_for(&self, snapshot: &SnapshotInfo, line: LineId, name: &[u8]) -> bool {
        let state = self.state.read();
        !state.lines.name_is_taken(&state.history, snapshot.line, snapshot.id, name)
            && state.lines.snapshot(&state.history, line, name).is_none()
    }

    /// Gives a line what another has, its snapshots included, some of them under other names, and the other is gone. Otherwise as
    /// [`Volume::rollback_with_guard`]; `prepare` may go to both lines.
    pub fn promote_with_guard(
        &self,
        from: LineId,
        line: LineId,
        (guard, renamed): (&NewSnapshot<'_>, Renamed<'_>),
        prepare: Prepare<'_>,
        switched: &mut dyn FnMut(&LineRecord),
    ) -> Result<ViewId> {
        let may = &|state: &VolumeState| {
            state.next_promotion(from, line, (guard, renamed))?;
            Ok(state.lines.own_count(from) + state.bases_after_promotion(from, line).len())
        };
        self.switch_heads(line, guard, may, prepare, |txn| txn.promote(from, (guard, renamed), switched))
    }

    /// Gives a line a head that starts as a snapshot that it shows. What it has now, what `prepare` adds included, stays as a
    /// snapshot: its number. `switched` is called while nobody can see the line. Durable with the next commit or
    /// [`Volume::sync`].
    pub fn rollback_with_guard(
        &self,
        line: LineId,
        snapshot: ViewId,
        guard: &NewSnapshot<'_>,
        prepare: Prepare<'_>,
        switched: &mut dyn FnMut(&LineRecord),
    ) -> Result<ViewId> {
        let may = &|state: &VolumeState| {
            state.next_rollback(line, snapshot, guard)?;
            Ok(state.bases_after_rollback(line, snapshot).len())
        };
        self.switch_heads(line, guard, may, prepare, |txn| txn.roll_back(snapshot, guard, switched))
    }

    /// Ends a transaction of a line, in which `prepare` was done, by `switch`, which gives the line another head. What
    /// `may` refuses is refused before anything is done; it tells how many records change besides those of the line.
    fn switch_heads(
        &self,
        line: LineId,
        guard: &NewSnapshot<'_>,
        may: &dyn Fn(&VolumeState) -> Result<usize>,
        prepare: Prepare<'_>,
        switch: impl FnOnce(Txn<'_>) -> Result<ViewId>,
    ) -> Result<ViewId> {
        assert!((1..=NAME_BYTES_MAX).contains(&guard.name.len()), "the name is checked above");
        self.check_writable()?;
        // Not while a commit is open: it would know the guard and not its tree.
        let _no_commit = self.committer.lock();
        self.check_writable()?;
        let mut txn = self.begin(line)?;
        let records = may(txn.state())? + RECORDS_OF_A_LINE;
        self.reserve_records(txn.state(), records, ReserveFor::Record)?;
        txn.attempt(|txn| {
            prepare(txn)?;
            txn.switch_to(line)
        })?;
        let id = switch(txn)?;
        self.write_log();
        Ok(id)
    }
}
