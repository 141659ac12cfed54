//! What lines are compared with: the snapshot as of which a line and the one that it was made from were last brought together.
//!
//! It is kept as long as a line has it. Once deleted, or made for nothing else, it has no name and is nobody's to see; its
//! tree stays whole.

use super::lines::POINT_NAME;
use super::snapshot::NewSnapshot;
use super::state::VolumeState;
use super::view::Pin;
use super::{Result, Txn, View, Volume, VolumeError};
use crate::format::log::Effect;
use crate::format::provenance::Provenance;
use crate::format::view::{Consistency, Role};
use crate::format::{LineId, ViewId};
use std::sync::Arc;

impl VolumeState {
    /// Has a line be compared with another snapshot, or with none.
    pub(super) fn set_base(&mut self, line: LineId, base: Option<ViewId>) {
        self.lines.set_base(line, base);
        self.changed = true;
    }

    /// True if a line can be compared with it.
    pub(super) fn may_be_base(&self, id: ViewId) -> bool {
        self.history.get(id).is_some_and(|view| view.role == Role::Snapshot) && self.roots.contains_key(&id)
    }
}

impl Volume {
    /// What a line is compared with.
    pub fn base(&self, line: LineId) -> Result<Arc<View>> {
        let state = self.state.read();
        let base = state.lines.get(line).and_then(|line| line.record.base).ok_or(VolumeError::NoSuchView)?;
        self.view_of_snapshot(&state, base)
    }

    fn view_of_snapshot(&self, state: &VolumeState, id: ViewId) -> Result<Arc<View>> {
        let record = state.history.get(id).ok_or(VolumeError::NoSuchView)?;
        let root = state.roots.get(&id).ok_or(VolumeError::NoSuchView)?.clone();
        let pin = Some(Pin::snapshot(&self.shared, id));
        Ok(Arc::new(View { id, epoch: record.epoch, root, shared: self.shared.clone(), _pin: pin }))
    }

    /// A snapshot of a line's head without a name, there as long as somebody reads it or a line is compared with it. Nothing
    /// is delayed above; what it holds is durable when the head is.
    pub fn nameless_point(&self, line: LineId, created: (i64, u32)) -> Result<Arc<View>> {
        self.check_writable()?;
        // Not while a commit is open: it would know the point and not its tree.
        let _no_commit = self.committer.lock();
        self.check_writable()?;
        let txn = self.begin(line)?;
        let new = NewSnapshot {
            name: POINT_NAME,
            created,
            consistency: Consistency::FileSystem,
            provenance: &Provenance::default(),
            pause_ns: &|| 0,
            identity: None,
        };
        let point = txn.state().next_point(line, &new)?;
        let id = point.id;
        let mut turn = txn.end_with(&[Effect::Point(point.clone()), Effect::Delete(id)]);
        let state = turn.alone();
        state.take_point(point);
        let view = self.view_of_snapshot(state, id);
        state.delete(id);
        drop(turn);
        self.write_log();
        view
    }

    /// Has a line be compared with a snapshot that somebody reads, or with nothing.
    pub fn set_base(&self, line: LineId, base: Option<&View>) -> Result<()> {
        self.check_writable()?;
        let mut turn = self.turn();
        let state = turn.alone();
        let may_be = base.is_none_or(|base| state.may_be_base(base.id));
        if line == LineId::MAIN || state.lines.get(line).is_none() || !may_be {
            return Err(VolumeError::NoSuchView);
        }
        let base = base.map(|base| base.id);
        state.set_base(line, base);
        self.tell(turn, &Effect::Rebase(line, base));
        Ok(())
    }

    /// The line that was brought together with another when this guard was made: it is compared with the point that was
    /// made right before.
    pub fn brought_together_at(&self, guard: ViewId) -> Option<LineId> {
        let point = ViewId(guard.0.saturating_sub(1));
        let state = self.state.read();
        state.lines.records().find(|line| line.base == Some(point)).map(|line| line.id)
    }
}

impl Txn<'_> {
    /// Ends the transaction, and in the same record has a line, which is there, be compared with a snapshot that somebody
    /// reads, or with nothing.
    pub fn end_with_base(self, line: LineId, base: Option<&View>) {
        let base = base.map(|base| base.id);
        let mut turn = self.end_with(&[Effect::Rebase(line, base)]);
        turn.alone().set_base(line, base);
    }
}
