//! The trash: snapshots and lines that were deleted, are out of sight, and can be brought back.
//!
//! A snapshot in it has no name and is of no line, as one that was deleted and is still read; its record in the trash keeps
//! it, and says what it was. A line in it keeps its head and its snapshots, has a name that nobody can say, and is known to no
//! layer above. What other lines inherit from it they show as ever. Holds keep things from getting there.
//!
//! When something goes for good is found out above, or by whoever needs its space.

use super::base::effects_of;
use super::branch::RECORDS_OF_A_LINE;
use super::commit::Prepare;
use super::numbered::{Numbered, NumberedRecord};
use super::snapshot::{self, RECORDS_OF_A_POINT, SnapshotInfo};
use super::state::VolumeState;
use super::{ReserveFor, Result, Volume, VolumeError};
use crate::format::age::AgeRecord;
use crate::format::ids::COUNTER_MAX;
use crate::format::line::{LineRecord, LineState};
use crate::format::log::Effect;
use crate::format::provenance::Provenance;
use crate::format::trash::{TrashRecord, Trashed};
use crate::format::view::Role;
use crate::format::{FormatError, LineId, ViewId};
use std::collections::{BTreeMap, BTreeSet};

/// How the names of lines in the trash begin: nobody can give one such.
const LINE_PREFIX: &str = ".trash-";

impl NumberedRecord for TrashRecord {
    const WHAT: &'static str = "the trash";
    fn number(&self) -> u64 {
        self.number
    }
    fn encode(&self) -> Vec<u8> {
        self.encode()
    }
    fn decode(bytes: &[u8]) -> std::result::Result<TrashRecord, FormatError> {
        TrashRecord::decode(bytes)
    }
}

/// What is to be put into the trash, by whom and for how long.
#[derive(Clone, Copy)]
pub struct NewTrash<'n> {
    /// Now, in seconds since 1970 UTC.
    pub since_secs: i64,
    /// The age of the store, now, and after how many seconds it goes.
    pub age: AgeRecord,
    /// See there.
    pub after: u64,
    /// By whom.
    pub by: &'n Provenance,
}

fn line_name(line: LineId) -> Vec<u8> {
    format!("{LINE_PREFIX}{}", line.0).into_bytes()
}

impl VolumeState {
    /// The trash of a store whose views and lines were loaded, and which views are kept by it.
    pub(super) fn load_trash(&mut self, items: BTreeMap<u64, Vec<u8>>) {
        let (history, lines) = (&self.history, &self.lines);
        let makes_sense = |trash: &TrashRecord| match trash.what {
            Trashed::Snapshot(view, _) => {
                history.get(view).is_some_and(|v| v.role == Role::Snapshot && v.line == LineId::NONE)
            }
            Trashed::Line(line, _) => lines.get(line).is_some_and(|l| l.record.state == LineState::Trashed),
        };
        self.trash = Numbered::load(items, makes_sense);
        // A line whose record is lost is in the trash all the same.
        let known: Vec<LineId> = self.trash.all().filter_map(|trash| trash.line()).collect();
        let lost = self.lines.records().filter(|l| l.state == LineState::Trashed && !known.contains(&l.id));
        for line in lost.cloned().collect::<Vec<_>>() {
            let Ok(number) = self.trash.next() else { continue };
            self.trash.set(TrashRecord {
                number,
                what: Trashed::Line(line.id, LineState::Writable),
                name: format!("clone-{}", line.id.0).into_bytes(),
                since_secs: line.created.0,
                ends: COUNTER_MAX - 1,
                next_view: line.head,
                by: Provenance::default(),
            });
        }
    }

    /// A line that takes changes as a whole: in the trash none does.
    pub(super) fn line_in_use(&self, line: LineId) -> Result<&LineRecord> {
        let record = self.lines.get(line).map(|l| &l.record);
        record.filter(|record| record.state != LineState::Trashed).ok_or(VolumeError::NoSuchView)
    }

    /// Fails for a line that is in the trash.
    pub(super) fn check_not_in_trash(&self, line: LineId) -> Result<()> {
        let is_there = self.lines.get(line).is_some_and(|l| l.record.state == LineState::Trashed);
        if is_there { Err(VolumeError::NoSuchView) } else { Ok(()) }
    }

    /// True for a snapshot that is in the trash.
    pub(super) fn is_in_trash(&self, view: ViewId) -> bool {
        self.trash.all().any(|trash| trash.view() == Some(view))
    }

    /// How many snapshots of a line are in the trash.
    pub(super) fn trash_of(&self, line: LineId) -> usize {
        self.trash.all().filter(|trash| matches!(trash.what, Trashed::Snapshot(_, of) if of == line)).count()
    }

    /// All of it.
    pub(super) fn trash_numbers(&self) -> Vec<u64> {
        self.trash.all().map(|trash| trash.number).collect()
    }

    /// The views that go when it is emptied.
    pub(super) fn views_in_trash(&self) -> Vec<ViewId> {
        self.trash.all().flat_map(|trash| self.views_of_trash(trash)).collect()
    }

    /// The views that go with one thing in it, but for what is in the trash by itself.
    fn views_of_trash(&self, trash: &TrashRecord) -> Vec<ViewId> {
        let of_line = |line| self.lines.own(line).into_iter().chain(self.lines.head(line));
        trash.view().into_iter().chain(trash.line().into_iter().flat_map(of_line)).collect()
    }

    /// The views that go with the next commits when these are emptied: not what a line that stays is compared with.
    pub(super) fn views_gone_with(&self, trash: &BTreeSet<u64>) -> Vec<ViewId> {
        let of_these = |t: &&TrashRecord| trash.contains(&t.number);
        let lines: BTreeSet<LineId> =
            self.trash.all().filter(of_these).filter_map(TrashRecord::line).collect();
        let goes = |t: &&TrashRecord| {
            of_these(t) || matches!(t.what, Trashed::Snapshot(_, line) if lines.contains(&line))
        };
        let stay = self.lines.records().filter(|line| !lines.contains(&line.id));
        let bases: BTreeSet<ViewId> = stay.filter_map(|line| line.base).collect();
        let views = self.trash.all().filter(goes).flat_map(|trash| self.views_of_trash(trash));
        views.filter(|view| !bases.contains(view)).collect()
    }

    /// A record of something, after so many others that are to go there as well.
    fn next_trash(
        &self,
        (what, name): (Trashed, &[u8]),
        new: &NewTrash<'_>,
        others: usize,
    ) -> Result<TrashRecord> {
        Ok(TrashRecord {
            number: self.trash.next_after(others)?,
            what,
            name: name.to_vec(),
            since_secs: new.since_secs,
            ends: new.age.secs.saturating_add(new.after).min(COUNTER_MAX - 1),
            next_view: self.next_view()?,
            by: new.by.clone(),
        })
    }

    /// Puts something into the trash that was proved to be there.
    pub(super) fn put_in_trash(&mut self, trash: TrashRecord) {
        match trash.what {
            Trashed::Snapshot(view, _) => {
                if let Some(record) = self.history.get(view) {
                    self.lines.forget_snapshot(record);
                }
                self.history.disown(view);
            }
            Trashed::Line(line, _) => {
                self.lines.rename(line, &line_name(line));
                self.lines.change(line, |record| record.state = LineState::Trashed);
            }
        }
        self.trash.set(trash);
        self.changed = true;
    }

    /// Brings something back under a name that is free.
    pub(super) fn undelete(&mut self, number: u64, name: &[u8]) {
        let Some(trash) = self.trash.remove(number) else { return };
        match trash.what {
            Trashed::Snapshot(view, line) => {
                self.history.own(view, line, name.to_vec());
                if let Some(record) = self.history.get(view) {
                    self.lines.add_snapshot(record);
                }
            }
            Trashed::Line(line, state) => {
                self.lines.rename(line, name);
                self.lines.change(line, |record| record.state = state);
            }
        }
        self.changed = true;
    }

    /// Has something in the trash go for good.
    pub(super) fn empty_trash(&mut self, number: u64) {
        let Some(trash) = self.trash.remove(number) else { return };
        match trash.what {
            Trashed::Snapshot(view, _) => self.delete(view),
            Trashed::Line(line, _) => self.drop_line(line),
        }
        self.changed = true;
    }

    /// A line goes, and with it its snapshots in the trash; or another line has them from now on.
    pub(super) fn hand_over_trash(&mut self, from: LineId, to: Option<LineId>) {
        let of_line = |trash: &&TrashRecord| matches!(trash.what, Trashed::Snapshot(_, line) if line == from);
        for trash in self.trash.all().filter(of_line).cloned().collect::<Vec<_>>() {
            match (to, trash.what) {
                (Some(to), Trashed::Snapshot(view, _)) => {
                    self.trash.set(TrashRecord { what: Trashed::Snapshot(view, to), ..trash });
                }
                _ => self.empty_trash(trash.number),
            }
        }
    }

    /// Fails unless something can be brought back under that name.
    pub(super) fn check_undelete(&self, trash: &TrashRecord, name: &[u8]) -> Result<()> {
        match trash.what {
            Trashed::Snapshot(view, line) => {
                self.line_in_use(line)?;
                let taken = self.lines.name_is_taken(&self.history, line, view, name);
                if taken { Err(VolumeError::NameTaken) } else { Ok(()) }
            }
            Trashed::Line(..) if self.lines.find(name).is_some() => Err(VolumeError::NameTaken),
            Trashed::Line(..) => Ok(()),
        }
    }
}

impl TrashRecord {
    fn view(&self) -> Option<ViewId> {
        match self.what {
            Trashed::Snapshot(view, _) => Some(view),
            Trashed::Line(..) => None,
        }
    }

    fn line(&self) -> Option<LineId> {
        match self.what {
            Trashed::Snapshot(..) => None,
            Trashed::Line(line, _) => Some(line),
        }
    }
}

impl Volume {
    /// All that is in the trash, what was deleted first first.
    pub fn trash(&self) -> Vec<TrashRecord> {
        self.state.read().trash.all().cloned().collect()
    }

    /// Snapshots that are in the trash by themselves, what was deleted first first, with the names and lines that they had.
    pub fn trashed_snapshots(&self) -> Vec<SnapshotInfo> {
        let state = self.state.read();
        let as_it_was = |trash: &TrashRecord| {
            let Trashed::Snapshot(view, line) = trash.what else { return None };
            let info = snapshot::info(state.history.get(view)?);
            Some(SnapshotInfo { line, name: trash.name.clone(), ..info })
        };
        state.trash.all().filter_map(as_it_was).collect()
    }

    /// As if the trash had taken all that it ever takes, but for so much.
    #[cfg(test)]
    pub fn use_up_trash(&self, left: u64) {
        self.turn().alone().trash.use_up(left);
    }

    /// What is over at this age of the store.
    pub fn ended_trash(&self, age_secs: u64) -> Vec<TrashRecord> {
        self.state.read().trash.all().filter(|trash| trash.ends <= age_secs).cloned().collect()
    }

    /// What of it may go, what was deleted first first: the rest is needed by a purge.
    pub fn trash_that_may_go(&self) -> Vec<u64> {
        let state = self.state.read();
        let may_go = |trash: &&TrashRecord| match trash.what {
            Trashed::Snapshot(view, _) => self.check_may_go(&state, view).is_ok(),
            Trashed::Line(line, _) => self.check_line_may_go(&state, line).is_ok(),
        };
        state.trash.all().filter(may_go).map(|trash| trash.number).collect()
    }

    /// How much there is in the trash, and how many bytes come back when it is emptied: planned when something has come there, or
    /// was deleted, or a commit has brought in what was changed.
    pub fn trash_bytes(&self) -> Result<(usize, u64)> {
        let now = self.state.read().trash_counted();
        let count = now.numbers.len();
        if count == 0 {
            return Ok((0, 0));
        }
        if let Some((of, bytes)) = &*self.trash_counted.lock()
            && *of == now
        {
            return Ok((count, *bytes));
        }
        let bytes = self.planner()?.would_free_with_trash(&[], &[])?;
        *self.trash_counted.lock() = Some((now, bytes));
        Ok((count, bytes))
    }

    /// Puts a snapshot into the trash, as [`Volume::delete_snapshot`] deletes it.
    pub fn trash_snapshot(&self, line: LineId, id: ViewId, new: &NewTrash<'_>) -> Result<()> {
        self.trash_snapshots(line, &[id], new)?.pop().unwrap_or(Err(VolumeError::NoSuchView))
    }

    /// The same of several, which go in one record: or says of each why it stays.
    pub fn trash_snapshots(
        &self,
        line: LineId,
        all: &[ViewId],
        new: &NewTrash<'_>,
    ) -> Result<Vec<Result<()>>> {
        self.check_writable()?;
        let mut turn = self.turn();
        let allowed = |id: &ViewId| turn.of_line(line, *id).and_then(|()| turn.check_not_needed(*id));
        let told: Vec<Result<()>> = all.iter().map(allowed).collect();
        let go: Vec<ViewId> =
            all.iter().zip(&told).filter(|(_, told)| told.is_ok()).map(|(id, _)| *id).collect();
        self.reserve_records(&turn, RECORDS_OF_A_POINT * go.len(), ReserveFor::Delete)?;
        let mut records = Vec::new();
        for id in go {
            let name = turn.own_snapshot(id)?.name.clone();
            records.push(turn.next_trash((Trashed::Snapshot(id, line), &name), new, records.len())?);
        }
        let age = AgeRecord { secs: new.age.secs.max(turn.holds.age.secs), ..new.age };
        let state = turn.alone();
        state.set_age(age);
        let mut effects = vec![Effect::SetAge(age)];
        for trash in records {
            state.put_in_trash(trash.clone());
            effects.push(Effect::Trash(trash));
        }
        self.tell_all(turn, effects.into_iter());
        Ok(told)
    }

    /// Puts a line, with what `prepare` adds, into the trash, as [`Volume::drop_line`] drops it. One record of the log makes it
    /// durable; false if the log does not hold it, and then the caller's next commit does.
    pub fn trash_line(&self, line: LineId, new: &NewTrash<'_>, prepare: Prepare<'_>) -> Result<bool> {
        self.check_writable()?;
        // Not while a commit is open, as for a clone that is made.
        let _no_commit = self.committer.lock();
        self.check_writable()?;
        let mut txn = self.begin(line)?;
        let record = txn.state().lines.get(line).map(|l| l.record.clone()).ok_or(VolumeError::NoSuchView)?;
        if line == LineId::MAIN || !record.state.is_shown() {
            return Err(VolumeError::NoSuchView);
        }
        txn.state().check_none_needed(line)?;
        let bases = txn.state().bases_after_end(line);
        let records = RECORDS_OF_A_LINE + bases.len();
        self.reserve_records(txn.state(), records, ReserveFor::Record)?;
        txn.attempt(|txn| {
            prepare(txn)?;
            txn.switch_to(line)
        })?;
        let trash = txn.state().next_trash((Trashed::Line(line, record.state), &record.name), new, 0)?;
        let age = AgeRecord { secs: new.age.secs.max(txn.state().holds.age.secs), ..new.age };
        let mut effects = vec![Effect::SetAge(age), Effect::Trash(trash.clone())];
        effects.extend(effects_of(&bases));
        let mut turn = txn.end_with(&effects);
        let state = turn.alone();
        state.set_age(age);
        state.put_in_trash(trash);
        state.set_bases(&bases);
        drop(turn);
        self.write_log();
        self.sync()
    }

    /// Fails as [`Volume::undelete`] would.
    pub fn check_undelete(&self, number: u64, name: &[u8]) -> Result<()> {
        self.check_writable()?;
        let state = self.state.read();
        let trash = state.trash.get(number).ok_or(VolumeError::NoSuchView)?;
        state.check_undelete(trash, name)
    }

    /// Brings something back; its line, if it is one. Durable with the next commit or [`Volume::sync`]. `NameTaken` if something
    /// has the name, `NoSuchView` if the line of a snapshot is gone, or it is in the trash no more.
    pub fn undelete(&self, number: u64, name: &[u8]) -> Result<Option<LineRecord>> {
        self.check_writable()?;
        // As a new name: not while a commit is open.
        let _no_commit = self.committer.lock();
        let mut turn = self.turn();
        let trash = turn.trash.get(number).cloned().ok_or(VolumeError::NoSuchView)?;
        turn.check_undelete(&trash, name)?;
        let records = trash.line().map_or(0, |_| turn.lines.records().filter(|l| l.base.is_some()).count());
        self.reserve_records(&turn, RECORDS_OF_A_POINT + records, ReserveFor::Record)?;
        let state = turn.alone();
        state.undelete(number, name);
        let line = trash.line().and_then(|line| Some(state.lines.get(line)?.record.clone()));
        let bases = line.as_ref().map(|line| state.bases_after_return(line.id, trash.next_view));
        let bases = bases.unwrap_or_default();
        state.set_bases(&bases);
        self.tell_all(turn, std::iter::once(Effect::Undelete(number, name)).chain(effects_of(&bases)));
        Ok(line)
    }

    /// Has something in the trash go for good: names of snapshots that others may have shown and that are gone now. Durable as
    /// what is brought back.
    pub fn empty_trash(&self, number: u64) -> Result<Vec<Vec<u8>>> {
        self.check_writable()?;
        let mut turn = self.turn();
        let trash = turn.trash.get(number).cloned().ok_or(VolumeError::NoSuchView)?;
        let (mut names, mut bases, mut records) = (Vec::new(), Vec::new(), RECORDS_OF_A_POINT);
        if let Trashed::Snapshot(view, _) = trash.what {
            self.check_may_go(&turn, view)?;
        }
        if let Some(line) = trash.line() {
            self.check_line_may_go(&turn, line)?;
            bases = turn.bases_after_end(line);
            let own = turn.lines.own(line);
            records = turn.records_of_end(line) + bases.len();
            names = own.iter().filter_map(|id| turn.history.get(*id)).map(|view| view.name.clone()).collect();
        }
        self.reserve_records(&turn, records, ReserveFor::Delete)?;
        let state = turn.alone();
        state.empty_trash(number);
        state.set_bases(&bases);
        self.tell_all(turn, std::iter::once(Effect::EmptyTrash(number)).chain(effects_of(&bases)));
        Ok(names)
    }
}
