//! Points without a name that roll along with a line, and become snapshots if it turns out that they are wanted.
//!
//! One is there as long as somebody reads it, and its tree is whole as long ([`Volume::nameless_point`]). It has a slot from the
//! beginning, so that a name and a line are all that it has to get. A crash leaves none of them that has no name.

use super::commit::Prepare;
use super::snapshot::RECORDS_OF_A_POINT;
use super::state::VolumeState;
use super::{ReserveFor, Result, View, Volume, VolumeError};
use crate::format::log::{Effect, NamedPoint};
use crate::format::provenance::Provenance;
use crate::format::{LineId, ViewId};
use std::sync::Arc;

/// The newest point that the head of a line descends from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PointBelow {
    /// It, with a name or without.
    pub id: ViewId,
    /// The head has changed nothing since.
    pub is_as_now: bool,
}

impl VolumeState {
    /// Makes a point a snapshot of a line.
    pub(super) fn name_point(&mut self, point: NamedPoint) {
        let NamedPoint { view, line, name, provenance } = point;
        let Some(record) = self.history.get(view) else { return };
        if record.line == line {
            self.lines.rename_snapshot(record, &name);
            self.history.set_name(view, name);
        } else {
            self.history.set_line(view, line);
            self.history.set_name(view, name);
            if let Some(record) = self.history.get(view) {
                self.lines.add_snapshot(record);
            }
            self.deletes.retain(|id| *id != view);
            self.postponed.remove(&view);
            self.rolling.remove(&view);
        }
        self.history.set_provenance(view, provenance);
        self.changed = true;
    }
}

impl VolumeState {
    fn was_deleted(&self, id: ViewId) -> bool {
        let is_deleted = self.deletes.contains(&id) || self.postponed.contains(&id);
        self.is_in_trash(id) || is_deleted && !self.rolling.contains(&id)
    }
}

impl Volume {
    /// The newest point that the head of a line descends from; none if that is in the trash, or was deleted: who reads it keeps
    /// its space from coming back. Reads nothing.
    pub fn point_below(&self, line: LineId) -> Option<PointBelow> {
        let state = self.state.read();
        let head = state.lines.head(line)?;
        let id = state.history.get(head)?.prev.filter(|id| !state.was_deleted(*id))?;
        let is_as_now = state.newest_point(head, state.roots.get(&head)?) == Some(id);
        Some(PointBelow { id, is_as_now })
    }

    /// True of a snapshot that is in the trash, or was deleted and is there only because it is read.
    pub fn was_deleted(&self, id: ViewId) -> bool {
        self.state.read().was_deleted(id)
    }

    /// Bytes that a view reaches.
    pub fn referenced(&self, id: ViewId) -> u64 {
        self.state.read().history.get(id).map_or(0, |record| record.referenced)
    }

    /// The tree of a point, with a name or without; it stays as long as it is read.
    pub fn point(&self, id: ViewId) -> Result<Arc<View>> {
        self.view_of_snapshot(&self.state.read(), id)
    }

    /// A point of a line's head without a name, with what `prepare` adds; there as long as it is read. Nothing is flushed: after a
    /// crash it is gone. `pause_ns` is as of [`super::NewSnapshot`].
    pub fn rolling_point(
        &self,
        line: LineId,
        created: (i64, u32),
        pause_ns: &dyn Fn() -> u64,
        prepare: Prepare<'_>,
    ) -> Result<Arc<View>> {
        self.check_writable()?;
        // Not while a commit is open: it would know the point and not its tree.
        let _no_commit = self.committer.lock();
        self.check_writable()?;
        let mut txn = self.begin(line)?;
        self.reserve_records(txn.state(), RECORDS_OF_A_POINT, ReserveFor::Record)?;
        txn.attempt(|txn| {
            prepare(txn)?;
            txn.switch_to(line)
        })?;
        let point = self.end_with_point(txn, line, created, pause_ns)?;
        let mut turn = self.turn();
        let VolumeState { rolling, history, .. } = turn.alone();
        rolling.retain(|id| history.get(*id).is_some());
        rolling.insert(point.id);
        Ok(point)
    }

    /// Makes a point that is read a snapshot of a line, or gives a snapshot of that line another name and reason. Durable with
    /// the next flush of the log, or commit.
    pub fn name_point(&self, point: &View, line: LineId, name: &[u8], provenance: &Provenance) -> Result<()> {
        self.check_writable()?;
        // Not while a commit is open: it may be about to delete what has no name.
        let _no_commit = self.committer.lock();
        let mut turn = self.turn();
        let record = turn.history.get(point.id).ok_or(VolumeError::NoSuchView)?;
        let is_free = [LineId::NONE, line].contains(&record.line) && turn.may_be_base(point.id);
        // What a purge has not looked at may have what was purged: it stays nobody's.
        let was_seen = !self.purging.waiting.lock().unseen.contains(&point.id);
        let is_free = is_free && was_seen && !turn.is_in_trash(point.id);
        if !is_free {
            return Err(VolumeError::NoSuchView);
        }
        turn.line_in_use(line)?;
        if turn.lines.name_is_taken(&turn.history, line, point.id, name) {
            return Err(VolumeError::NameTaken);
        }
        self.reserve_records(&turn, 1, ReserveFor::Record)?;
        let (view, name, provenance) = (point.id, name.to_vec(), provenance.clone());
        let named = NamedPoint { view, line, name, provenance };
        turn.alone().name_point(named.clone());
        self.tell(turn, &Effect::Name(named));
        Ok(())
    }
}
