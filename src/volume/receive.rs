//! Lines that are being received from another store, and how they become part of this one: in one record, or not at all.
//!
//! Until then such a line is nobody's to see but who receives it. It begins with an empty tree, or as a snapshot that it is a
//! later state of. What tells snapshots of several stores apart, and the sums over them, are here too.

use super::branch::RECORDS_OF_A_LINE;
use super::commit::Prepare;
use super::lines::{NO_GENERATION, NO_NUMBER, NO_SLOT};
use super::snapshot::NewSnapshot;
use super::state::VolumeState;
use super::{ReserveFor, Result, SnapshotInfo, Txn, View, Volume, VolumeError};
use crate::format::ids::COUNTER_MAX;
use crate::format::line::{LineRecord, LineState};
use crate::format::log::{Effect, Promotion};
use crate::format::provenance::Provenance;
use crate::format::superblock::PendingPoint;
use crate::format::terms::Terms;
use crate::format::view::ViewRecord;
use crate::format::{Generation, Identity, LineId, ViewId};
use crate::limits::NAME_BYTES_MAX;
use crate::tree;

/// What becomes of a line that has been received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReceivedAs<'n> {
    /// A line of that name, which nobody changes.
    Line(&'n [u8]),
    /// The head of a line that there is, whose own is gone.
    HeadOf(LineId),
}

impl VolumeState {
    /// Gives a line that descends from nothing its head.
    pub(super) fn begin_line(&mut self, record: &LineRecord) {
        self.history.begin_as(record.head, record.id, record.created);
        self.roots.insert(record.head, tree::empty(self.epoch));
        self.account(record.head, 1, Vec::new());
    }

    /// The line in which something is received that is told against a snapshot.
    pub(super) fn arrival_on(&self, base: ViewId) -> Option<&LineRecord> {
        self.lines.receiving().find(|line| line.base == Some(base))
    }

    pub(super) fn set_line_state(&mut self, line: LineId, state: LineState) {
        self.lines.change(line, |record| record.state = state);
        self.changed = true;
    }

    /// The point with which a received line becomes part of the store, and the promotion if that makes it a head.
    fn next_received(
        &self,
        from: LineId,
        to: ReceivedAs<'_>,
        new: &NewSnapshot<'_>,
    ) -> Result<(PendingPoint, Option<Promotion>)> {
        let record = self.lines.get(from).map(|line| &line.record).ok_or(VolumeError::NoSuchView)?;
        if record.state != LineState::Receiving {
            return Err(VolumeError::NoSuchView);
        }
        let point = self.next_point(from, new)?;
        match to {
            ReceivedAs::Line(name) if self.lines.find(name).is_some() => Err(VolumeError::NameTaken),
            ReceivedAs::Line(_) => Ok((point, None)),
            ReceivedAs::HeadOf(line) if self.line_in_use(line).is_err() => Err(VolumeError::NoSuchView),
            ReceivedAs::HeadOf(line) => {
                if self.lines.names_of_both(&self.history, from, line).next().is_some()
                    || self.lines.snapshot(&self.history, line, new.name).is_some()
                {
                    return Err(VolumeError::NameTaken);
                }
                let first = self.lines.slots.find_generations(2).ok_or(NO_GENERATION)?.0;
                Ok((point, Some(Promotion { from, line, head_generation: Generation(first + 1) })))
            }
        }
    }
}

impl Txn<'_> {
    /// Ends the transaction with a line that begins as its own is then, from a point that nobody else needs, and that stands on
    /// the base: in one record.
    fn fork_to_receive(
        self,
        name: &[u8],
        base: ViewId,
        (created, by): ((i64, u32), &Provenance),
        terms: Terms,
    ) -> Result<LineRecord> {
        let (point, new) = self.next_clone(name, created, by)?;
        let record = LineRecord { terms, state: LineState::Receiving, ..new };
        let id = record.id;
        let mut effects: Vec<Effect<'_>> = point.iter().cloned().map(Effect::Point).collect();
        effects.extend([Effect::CreateLine(record.clone()), Effect::Rebase(id, Some(base))]);
        effects.extend(point.iter().map(|point| Effect::Delete(point.id)));
        let mut turn = self.end_with(&effects);
        let state = turn.alone();
        let point_id = point.as_ref().map(|point| point.id);
        point.into_iter().for_each(|point| state.take_point(point));
        state.create_line(record.clone());
        state.set_base(id, Some(base));
        point_id.into_iter().for_each(|id| state.delete(id));
        Ok(LineRecord { base: Some(base), ..record })
    }

    /// Ends the transaction, which is on a line that is being received: that is part of the store from then on.
    fn publish_line(
        self,
        to: ReceivedAs<'_>,
        new: &NewSnapshot<'_>,
        switched: &mut dyn FnMut(&LineRecord),
    ) -> Result<ViewId> {
        let (from, terms, kept) = (self.line(), Terms::default(), LineState::Received);
        let (point, promotion) = self.state().next_received(from, to, new)?;
        let mut effects = vec![Effect::Point(point.clone())];
        match (&promotion, to) {
            (Some(promotion), _) => effects.push(Effect::Promote(*promotion)),
            (None, ReceivedAs::Line(name)) => effects.extend([
                Effect::RenameLine(from, name),
                Effect::SetTerms(from, terms),
                Effect::SetState(from, kept),
            ]),
            (None, ReceivedAs::HeadOf(_)) => return Err(VolumeError::NoSuchView),
        }
        let (id, mut turn) = (point.id, self.end_with(&effects));
        let state = turn.alone();
        state.take_point(point);
        let line = match (&promotion, to) {
            (Some(promotion), _) => {
                state.promote(promotion);
                promotion.line
            }
            (None, ReceivedAs::Line(name)) => {
                state.rename_line(from, name);
                state.set_terms(from, terms);
                state.set_line_state(from, kept);
                from
            }
            (None, ReceivedAs::HeadOf(_)) => from,
        };
        if let Some(line) = state.lines.get(line) {
            switched(&line.record);
        }
        Ok(id)
    }
}

impl Volume {
    /// A line for what is being received: it begins as a snapshot is, or empty. That snapshot stays until the line is there no
    /// more. Durable with the next commit or [`Volume::sync`].
    pub fn begin_receiving(
        &self,
        name: &[u8],
        from: Option<ViewId>,
        created: (i64, u32),
        terms: Terms,
        provenance: &Provenance,
    ) -> Result<LineRecord> {
        assert!((1..=NAME_BYTES_MAX).contains(&name.len()), "the name is made above");
        self.check_writable()?;
        let mut turn = self.turn();
        let state = &*turn;
        if state.lines.find(name).is_some() {
            return Err(VolumeError::NameTaken);
        }
        self.reserve_records(state, RECORDS_OF_A_LINE, ReserveFor::Write)?;
        if state.lines.next.0 >= COUNTER_MAX {
            return Err(NO_NUMBER);
        }
        let line = match from {
            Some(from) => {
                let line = state.own_snapshot(from)?.line;
                state.check_not_in_trash(line)?;
                Some(line)
            }
            None => None,
        };
        let generation = state.lines.slots.find_generations(2).ok_or(NO_GENERATION)?;
        let record = LineRecord {
            id: state.lines.next,
            name: name.to_vec(),
            head: state.next_view()?,
            slot: state.lines.slots.find().ok_or(NO_SLOT)?,
            generation,
            head_generation: Generation(generation.0 + 1),
            origin: from,
            base: from,
            from: line,
            created,
            terms,
            state: LineState::Receiving,
            provenance: provenance.clone(),
            schedules: Vec::new(),
        };
        turn.alone().create_line(record.clone());
        self.tell(turn, &Effect::CreateLine(record.clone()));
        Ok(record)
    }

    /// The same that begins as the head of a line is, in which what has come home since the base is home: that head must be `seen`,
    /// to whoever looks the same as the base. None, with nothing done, if it is another by now.
    pub fn begin_receiving_in(
        &self,
        name: &[u8],
        (line, seen): (LineId, &View),
        base: ViewId,
        made: ((i64, u32), &Provenance),
        terms: Terms,
    ) -> Result<Option<LineRecord>> {
        assert!((1..=NAME_BYTES_MAX).contains(&name.len()), "the name is made above");
        self.check_writable()?;
        // Not while a commit is open: it would know the point and not its tree.
        let _no_commit = self.committer.lock();
        self.check_writable()?;
        let txn = self.begin(line)?;
        if !txn.view().is_same_tree(seen) || !txn.state().shows(line, base) {
            return Ok(None);
        }
        txn.state().check_not_in_trash(line)?;
        self.reserve_records(txn.state(), RECORDS_OF_A_LINE + 1, ReserveFor::Write)?;
        let record = txn.fork_to_receive(name, base, made, terms)?;
        self.write_log();
        Ok(Some(record))
    }

    /// Makes a line that has been received part of the store, with a snapshot of it: in one record. `prepare` does what is
    /// still to be done, and ends on that line; `switched` is called with the line that there is then, while nobody can see
    /// it. Durable with the next commit or [`Volume::sync`].
    pub fn publish_received(
        &self,
        from: LineId,
        to: ReceivedAs<'_>,
        new: &NewSnapshot<'_>,
        prepare: Prepare<'_>,
        switched: &mut dyn FnMut(&LineRecord),
    ) -> Result<ViewId> {
        self.check_writable()?;
        // Not while a commit is open: it would know the snapshot and not its tree.
        let _no_commit = self.committer.lock();
        self.check_writable()?;
        let mut txn = self.begin(from)?;
        txn.state().next_received(from, to, new)?;
        self.reserve_records(txn.state(), RECORDS_OF_A_LINE, ReserveFor::Write)?;
        txn.attempt(|txn| {
            prepare(txn)?;
            txn.switch_to(from)
        })?;
        let id = txn.publish_line(to, new, switched)?;
        self.write_log();
        Ok(id)
    }

    /// True if a snapshot of that name is what would be inherited by a line that began as this one.
    pub fn has_in_past(&self, base: ViewId, name: &[u8]) -> bool {
        let state = self.state.read();
        state.lines.is_named_below(&state.history, base, name)
    }

    /// The line in which something is received that is told against a snapshot.
    pub fn received_against(&self, base: ViewId) -> Option<LineRecord> {
        self.state.read().arrival_on(base).cloned()
    }

    /// What a snapshot is known by in all stores. One that was there before a split is the same in both.
    pub fn identity(&self, id: ViewId) -> Option<Identity> {
        let state = self.state.read();
        let record = state.own_snapshot(id).ok()?;
        Some(
            record
                .identity
                .unwrap_or_else(|| Identity::made_in(self.origin, record.id, record.epoch, record.created)),
        )
    }

    /// The snapshot that is known by this, if it is here. What is in the trash, by itself or with its line, is not: it goes
    /// without asking anybody. Looks at all.
    pub fn find_identity(&self, identity: Identity) -> Option<SnapshotInfo> {
        let ids: Vec<ViewId> = {
            let state = self.state.read();
            let stays = |view: &&ViewRecord| state.check_not_in_trash(view.line).is_ok();
            state.history.views().filter(stays).map(|view| view.id).collect()
        };
        let found = ids.into_iter().rev().find(|id| self.identity(*id) == Some(identity))?;
        self.snapshot_info(found)
    }

    /// The sum over what is in a snapshot, if it is kept.
    pub fn digest(&self, id: ViewId) -> Option<u128> {
        self.state.read().own_snapshot(id).ok()?.digest
    }

    /// Keeps the sum over what is in a snapshot. Durable with the next commit; what is lost can be counted again.
    pub fn keep_digest(&self, id: ViewId, digest: u128) {
        if digest == 0 || self.is_read_only() {
            return;
        }
        // Not while a commit is open, which has taken the records that changed.
        let _no_commit = self.committer.lock();
        let mut turn = self.turn();
        let is_new = turn.own_snapshot(id).is_ok_and(|record| record.digest != Some(digest));
        if is_new && self.reserve_records(&turn, 1, ReserveFor::Write).is_ok() {
            let state = turn.alone();
            state.history.set_digest(id, digest);
            state.changed = true;
        }
    }
}
