//! What lines are compared with: the snapshot as of which a line and the one that it was made from were last brought together.
//!
//! It is kept as long as a line has it. Once deleted, or made for nothing else, it has no name and is nobody's to see; its
//! tree stays whole. Both lines have in them what it holds of either. Whatever takes that out of one of them (a rollback,
//! a promotion, the end of the line that it was brought into) has the other be compared with nothing from then on, in the same
//! record: what was brought over would count as brought over, and be lost, or as removed, and be removed again. So has a line
//! that comes back to where others were brought together without it.

use super::lines::POINT_NAME;
use super::snapshot::{NewSnapshot, RECORDS_OF_A_POINT};
use super::state::VolumeState;
use super::view::Pin;
use super::{ReserveFor, Result, Txn, View, Volume, VolumeError};
use crate::format::line::LineRecord;
use crate::format::log::Effect;
use crate::format::provenance::{Provenance, Reason};
use crate::format::view::{Consistency, Role, ViewRecord};
use crate::format::{LineId, ViewId};
use std::collections::HashSet;
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

/// Lines, and what they are compared with from then on.
pub(super) type OtherBases = Vec<(LineId, Option<ViewId>)>;

impl VolumeState {
    /// What a rollback of a line to a snapshot that it shows does to what lines are compared with.
    pub(super) fn bases_after_rollback(&self, line: LineId, to: ViewId) -> OtherBases {
        let parted = self.lines.records().filter_map(|record| {
            if record.id == line && line != LineId::MAIN && self.is_beginning(record, to) {
                // As if it were made of that now.
                let is_other = record.base != Some(to) && self.may_be_base(to);
                return is_other.then_some((line, Some(to)));
            }
            let base = record.base?;
            let concerns = || record.id == line || self.is_compared(record, line);
            (self.is_before(to, base) && self.was_brought(record, base) && concerns())
                .then_some((record.id, None))
        });
        parted.collect()
    }

    /// The same of a promotion: what `line` has had since it was as `from` was goes from it.
    pub(super) fn bases_after_promotion(&self, from: LineId, line: LineId) -> OtherBases {
        let [here, there] = [line, from].map(|line| self.lines.head(line).unwrap_or(ViewId(0)));
        let here: HashSet<ViewId> = self.down_from(here).map(|view| view.id).collect();
        let common = self.down_from(there).map(|view| view.id).find(|id| here.contains(id));
        let common = common.unwrap_or(ViewId(0));
        // A line at rest may be cloned at the base itself: then the clone has it.
        let goes = |base| self.is_before(common, base) && !self.history.is_below(base, common);
        let parted = self.lines.records().filter(|record| record.id != from).filter(|record| {
            let Some(base) = record.base.filter(|base| goes(*base)) else { return false };
            record.id == line || self.was_brought(record, base) && self.is_compared(record, line)
        });
        parted.map(|record| (record.id, None)).collect()
    }

    /// The same of the end of a line, of which nothing was brought elsewhere right before: what was brought into it goes too.
    pub(super) fn bases_after_end(&self, line: LineId) -> OtherBases {
        let Some(gone) = self.lines.get(line).map(|line| &line.record) else { return OtherBases::new() };
        // Up to here it was brought elsewhere itself.
        let stays = gone.base.filter(|base| self.is_given_by(gone, *base)).unwrap_or(ViewId(0));
        // Of itself nothing is said: it is gone, or comes back as it was.
        let parted = self.lines.records().filter(|record| record.id != line).filter(|record| {
            let given = record.base.filter(|base| self.is_given_by(record, *base));
            given.is_some_and(|base| stays <= base && self.is_compared(record, line))
        });
        parted.map(|record| (record.id, None)).collect()
    }

    /// Carries that out.
    pub(super) fn set_bases(&mut self, bases: &OtherBases) {
        bases.iter().for_each(|(line, base)| self.set_base(*line, *base));
    }

    /// True for a view of which the line began, and those below it.
    fn is_beginning(&self, line: &LineRecord, view: ViewId) -> bool {
        line.origin == Some(view) || self.lines.inherits(&self.history, line.id, view)
    }

    /// True if a merge or rebase has made that the base of the line.
    fn was_brought(&self, line: &LineRecord, base: ViewId) -> bool {
        !self.is_beginning(line, base)
    }

    /// True if it is a point of the line's own, with which a merge has brought over what the line had changed.
    fn is_given_by(&self, line: &LineRecord, base: ViewId) -> bool {
        let below = self.history.get(line.head).and_then(|head| head.prev);
        self.was_brought(line, base) && below.is_some_and(|below| self.history.is_below(base, below))
    }

    /// True if what was brought over with that base is not in the view: right after the base came a guard, if anything was.
    fn is_before(&self, view: ViewId, base: ViewId) -> bool {
        let is_guard = |guard: &ViewRecord| {
            guard.id.0 == base.0 + 1 && matches!(guard.provenance.reason, Reason::Merge | Reason::Rebase)
        };
        view <= base || self.history.get(view).is_some_and(is_guard)
    }

    /// The same of a line that has come back from the trash, into which it went when that was the next view: what was brought
    /// together since then, with a line in its place, is not in it.
    pub(super) fn bases_after_return(&self, line: LineId, next_view: ViewId) -> OtherBases {
        let parted = self.lines.records().filter(|record| {
            let since = record.base.filter(|base| next_view <= *base && self.was_brought(record, *base));
            since.is_some() && self.is_compared(record, line)
        });
        parted.map(|record| (record.id, None)).collect()
    }

    /// True if a merge compares a line with that one: one in the trash is as gone.
    fn is_compared(&self, line: &LineRecord, other: LineId) -> bool {
        match line.from.filter(|from| self.line_in_use(*from).is_ok()) {
            Some(from) => from == other,
            None => self.line_above(line.id).is_none_or(|above| above.id == other),
        }
    }
}

/// The effects that tell of it.
pub(super) fn effects_of<'b>(bases: &'b OtherBases) -> impl Iterator<Item = Effect<'b>> {
    bases.iter().map(|(line, base)| Effect::Rebase(*line, *base))
}

impl Volume {
    /// What a line is compared with.
    pub fn base(&self, line: LineId) -> Result<Arc<View>> {
        let state = self.state.read();
        let base = state.lines.get(line).and_then(|line| line.record.base).ok_or(VolumeError::NoSuchView)?;
        self.view_of_snapshot(&state, base)
    }

    pub(super) fn view_of_snapshot(&self, state: &VolumeState, id: ViewId) -> Result<Arc<View>> {
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
        self.reserve_records(txn.state(), RECORDS_OF_A_POINT, ReserveFor::Record)?;
        self.end_with_point(txn, line, created, &|| 0)
    }

    /// Ends a transaction in a line, for which the records of a point are reserved, with a point that has no name.
    pub(super) fn end_with_point(
        &self,
        txn: Txn<'_>,
        line: LineId,
        created: (i64, u32),
        pause_ns: &dyn Fn() -> u64,
    ) -> Result<Arc<View>> {
        let new = NewSnapshot {
            name: POINT_NAME,
            created,
            consistency: Consistency::FileSystem,
            provenance: &Provenance::default(),
            pause_ns,
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
        let may_be = base.is_none_or(|base| turn.may_be_base(base.id));
        if line == LineId::MAIN || !may_be {
            return Err(VolumeError::NoSuchView);
        }
        turn.line_in_use(line)?;
        self.reserve_records(&turn, 1, ReserveFor::Record)?;
        let base = base.map(|base| base.id);
        turn.alone().set_base(line, base);
        self.tell(turn, &Effect::Rebase(line, base));
        Ok(())
    }

    /// The line that was brought together with another when this guard was made: it is compared with the point that was
    /// made right before.
    pub fn brought_together_at(&self, guard: ViewId) -> Option<LineId> {
        let point = ViewId(guard.0.saturating_sub(1));
        let state = self.state.read();
        // A clone that was made of that point has it as well.
        let was_brought = |line: &&LineRecord| line.base == Some(point) && state.was_brought(line, point);
        state.lines.records().find(was_brought).map(|line| line.id)
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
