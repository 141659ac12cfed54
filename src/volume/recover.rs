//! Replaying the log of an earlier session onto the committed state.
//!
//! Records are carried out in order, each whole or not at all, in the epochs in which they were made. Content that was
//! written in place is proved by its checksums first: if it is bad the log ends there, or, if the log says that it had been
//! flushed, that is told. What is replayed is in memory; the first commit makes it durable and ends the old session's log, so a crash in between does no harm.

use super::error::corrupt;
use super::intent::{FoundLog, LogRecord};
use super::remap::reference;
use super::state::VolumeState;
use super::{Access, Result, Txn, Volume, VolumeError, equal, replay_rules as rules};
use crate::format::deadlist::DeadEntry;
use crate::format::log::{Effect, Effects};
use crate::format::trash::{TrashRecord, Trashed};
use crate::format::{BLOCK_BYTES, BlockAddr, Extent, Ino, Key, Kind, LineId, PlacedExtent};
use crate::store::RangeSet;
use std::collections::HashMap;

/// The layer above, which knows what items and notes mean. Notes come between the changes of the tree among which they
/// were made.
pub trait Replay {
    /// The log begins, for the first time or again: nothing of it was carried out.
    fn restart(&mut self);

    /// Refuses a key that no item has, or a value that no item of that key has.
    fn prove_item(&self, key: &Key, value: Option<&[u8]>) -> Result<()>;

    /// A line has lost its head, and with it what was noted of that.
    fn forget(&mut self, line: LineId);

    /// Carries out a note, or refuses it.
    fn note(&mut self, txn: &mut Txn<'_>, note: &[u8]) -> Result<()>;
}

/// For a volume that nothing stands on: any item will do, and notes are passed over.
pub struct NothingAbove;

impl Replay for NothingAbove {
    fn restart(&mut self) {}

    fn prove_item(&self, _: &Key, _: Option<&[u8]>) -> Result<()> {
        Ok(())
    }

    fn forget(&mut self, _: LineId) {}

    fn note(&mut self, _: &mut Txn<'_>, _: &[u8]) -> Result<()> {
        Ok(())
    }
}

/// How often a replay begins anew because what the sides of a mirror hold has changed meanwhile.
const ROUNDS_MAX: usize = 4;
/// Sentences about bad content at most.
const BAD_CONTENT_MAX: usize = 20;

/// What a replay did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Recovered {
    /// Records that were carried out.
    pub records: usize,
    /// Bytes of them in the log.
    pub bytes: u64,
    /// Content that they refer to and that had been flushed, and is not what it was: a sentence for each, up to a bound.
    pub bad_content: Vec<String>,
    /// Why there were not more, if that is damage.
    pub damage: Option<String>,
}

/// What came of making the sides of a mirror the same.
#[derive(Default)]
struct Levelled {
    rounds: usize,
    /// Blocks that differ and that no side proves.
    unproved: Vec<u64>,
    /// Why they may not be the same.
    failed: Option<VolumeError>,
}

/// Why no more records were carried out, before which of them.
enum Stop {
    /// Its content is not there, and may never have been.
    Unflushed(usize),
    Damaged(usize, VolumeError),
}

impl Volume {
    /// True if the log holds something that was not replayed yet, or should.
    pub fn has_log(&self) -> bool {
        let found = self.found.lock();
        found.records.iter().any(LogRecord::tells) || found.damage.is_some()
    }

    /// Replays the log, once, before anything else is done with the volume. What was acknowledged and cannot be had
    /// back is told in the result; the volume takes no changes then if carrying on would lose more.
    pub fn recover(&self, replay: &mut dyn Replay) -> Recovered {
        if self.access == Access::ReadWrite {
            self.raise_next_ino();
        }
        let found = std::mem::take(&mut *self.found.lock());
        let (mut most, mut damage) = (found.records.len(), None);
        let before = (most > 0).then(|| self.state.read().clone());
        let mut bad_content = Vec::new();
        let mut levelled = Levelled::default();
        let records = loop {
            replay.restart();
            bad_content.clear();
            let mut published = RangeSet::new();
            let sides = self.shared.store().device().sides();
            let stop = self.replay_records(&found, most, &mut published, &mut bad_content, replay);
            let records = match stop {
                None => most,
                Some(Stop::Unflushed(n)) => n,
                Some(Stop::Damaged(n, e)) => {
                    let at = found.records[n].header.lsn;
                    damage.get_or_insert(corrupt(format!("the log cannot be replayed at {at}: {e}")));
                    // A part of that record may have been carried out: again without it.
                    most = n;
                    self.undo_replay(&published, before.as_ref());
                    continue;
                }
            };
            if self.level(&found.records[..records], &published, &sides, &mut levelled) {
                if records < most {
                    let at = found.records[records].header.lsn;
                    log::info!("the log ends at {at}: the content that follows was not flushed");
                }
                break records;
            }
            self.undo_replay(&published, before.as_ref());
        };
        if let Some(e) = &damage
            && self.access == Access::ReadWrite
        {
            // Everything up to here is whole and can be read; the log stays for another try.
            self.poison(e);
        }
        for at in &levelled.unproved {
            log::error!("{}: no side of the mirror has at {at:#x} what the log says", self.describe());
        }
        if let Some(e) = &levelled.failed {
            self.poison(e);
        }
        let told = || found.records.iter().take(records).filter(|r| r.tells());
        let (records, bytes) = (told().count(), told().map(|r| u64::from(r.header.len)).sum());
        let damage = found.damage.clone().or(damage.map(|e| e.to_string()));
        if let Some(damage) = &damage {
            log::error!("{}: {damage}; acknowledged changes are lost", self.describe());
        } else if records > 0 {
            log::info!("{}: replayed {records} records of the log", self.describe());
        }
        for what in &bad_content {
            log::error!("{}: {what}", self.describe());
        }
        Recovered { records, bytes, bad_content, damage }
    }

    /// Everything is as it was before the replay.
    fn undo_replay(&self, published: &RangeSet, before: Option<&VolumeState>) {
        let mut alloc = self.shared.store().alloc();
        published.iter().for_each(|(addr, len)| alloc.take_back(addr, len));
        drop(alloc);
        if let Some(before) = before {
            *self.turn().alone() = before.clone();
        }
    }

    /// Makes what was published the same on all sides. False if what was replayed may not be what they hold now: a side may have
    /// been lost that alone had it. `sides` are those that there were before the replay.
    fn level(
        &self,
        records: &[LogRecord],
        published: &RangeSet,
        sides: &[usize],
        levelled: &mut Levelled,
    ) -> bool {
        let is_plain = !self.shared.store().device().is_mirror() && published.is_empty();
        if self.access != Access::ReadWrite || is_plain {
            return true;
        }
        levelled.rounds += 1;
        let unproved = match self.equalise_published(records, published) {
            Ok(unproved) => unproved,
            Err(e) => {
                levelled.failed = Some(e);
                return true;
            }
        };
        // What is bad for good is so each time: that the replay has told.
        let is_known = unproved == levelled.unproved;
        levelled.unproved = unproved;
        if is_known && self.shared.store().device().sides() == sides {
            return true;
        }
        if levelled.rounds == ROUNDS_MAX {
            let what = "what the sides of the mirror hold is another each time that it is read";
            levelled.failed = Some(VolumeError::Device(what.into()));
        }
        levelled.failed.is_some()
    }

    /// What records published may have reached one side of a mirror alone. Returns the blocks that no side proves.
    fn equalise_published(&self, records: &[LogRecord], published: &RangeSet) -> Result<Vec<u64>> {
        let device = self.shared.store().device();
        if !device.is_mirror() {
            return Ok(Vec::new());
        }
        // Also where nothing was published: what was written to room that was promised before, or in the place of what has moved.
        let (mut crcs, mut beside) = (HashMap::new(), RangeSet::new());
        for effect in records.iter().flat_map(|record| Effects::decode(record.effects())) {
            if let Ok(Effect::Insert(key, value)) = effect
                && key.kind == Kind::Extent as u8
                && let Ok(extent) = Extent::decode(value)
                // The place that an extent names is of something else once its content has moved.
                && self.shared.places.is_in_place(&extent)
            {
                let DeadEntry { addr, len, .. } = reference(&extent);
                let blocks = (addr..).step_by(BLOCK_BYTES as usize);
                crcs.extend(blocks.zip(extent.crcs.iter().copied()));
                if addr.checked_add(len).is_some() {
                    beside.take(addr, len);
                    beside.insert(addr, len);
                }
            }
        }
        for (addr, len) in published.iter() {
            beside.take(addr, len);
        }
        equal::equalise_content(&**device, (published, &beside), &crcs)
    }

    /// Carries out `most` records, or as many as there can be.
    fn replay_records(
        &self,
        found: &FoundLog,
        most: usize,
        published: &mut RangeSet,
        bad_content: &mut Vec<String>,
        replay: &mut dyn Replay,
    ) -> Option<Stop> {
        for (n, record) in found.records.iter().take(most).enumerate() {
            let flushed = record.header.end() <= found.durable;
            match self.replay_record(record, flushed, published, bad_content, replay) {
                Ok(true) => {}
                Ok(false) => return Some(Stop::Unflushed(n)),
                Err(e) => return Some(Stop::Damaged(n, e)),
            }
        }
        None
    }

    /// False if the content that the record refers to is not there.
    fn replay_record(
        &self,
        record: &LogRecord,
        flushed: bool,
        published: &mut RangeSet,
        bad_content: &mut Vec<String>,
        replay: &mut dyn Replay,
    ) -> Result<bool> {
        let effects: Vec<Effect<'_>> =
            Effects::decode(record.effects()).collect::<std::result::Result<_, _>>()?;
        if effects.is_empty() {
            return rules::word(&record.header).map(|()| true);
        }
        self.take_published(&effects, published)?;
        let bad = self.bad_content(&effects, published);
        if !flushed && bad.is_some() {
            self.give_back(&effects, published);
            return Ok(false);
        }
        // What had been flushed is damage; the rest of the record is as good as ever.
        let room = bad_content.len() < BAD_CONTENT_MAX;
        bad_content.extend(bad.filter(|_| room).map(|(key, extent)| {
            format!(
                "inode {}: the content at {} is bad, {} bytes at {}, which the log says had been flushed",
                key.object,
                key.rest,
                extent.stored_bytes(),
                BlockAddr(reference(&extent).addr)
            )
        }));
        {
            let mut turn = self.turn();
            let state = turn.alone();
            rules::header(state, &record.header)?;
            state.epoch = record.header.epoch;
        }
        let (store, line) = (self.shared.store(), record.header.line);
        let mut effects = effects.into_iter().peekable();
        while effects.peek().is_some() {
            rules::on_line(&self.state.read(), line)?;
            let mut txn = self.begin(line)?;
            while let Some(effect) = effects.next_if(|e| is_of_tree(e)) {
                rules::of_tree(&txn, store, &effect)?;
                replay_effect(&mut txn, &effect, replay)?;
            }
            drop(txn);
            while let Some(effect) = effects.next_if(|e| !is_of_tree(e)) {
                let headless = match &effect {
                    Effect::Rollback(to) => vec![to.line],
                    Effect::DropLine(line) => vec![*line],
                    Effect::Promote(to) => vec![to.from, to.line],
                    Effect::Trash(TrashRecord { what: Trashed::Line(line, _), .. }) => vec![*line],
                    _ => Vec::new(),
                };
                self.replay_view_effect(effect)?;
                headless.into_iter().for_each(|line| replay.forget(line));
            }
        }
        Ok(true)
    }

    /// Takes the ranges that became part of a head from what is free.
    fn take_published(&self, effects: &[Effect<'_>], published: &mut RangeSet) -> Result<()> {
        let mut alloc = self.shared.store().alloc();
        for effect in effects {
            if let Effect::Publish(addr, len) = *effect
                && !(alloc.take(addr, len) && published.insert(addr, len))
            {
                return Err(corrupt(format!("the range {addr:#x}+{len} of a record is in use")));
            }
        }
        Ok(())
    }

    /// Takes back what [`Self::take_published`] did for a record that is not carried out.
    fn give_back(&self, effects: &[Effect<'_>], published: &mut RangeSet) {
        let mut alloc = self.shared.store().alloc();
        for effect in effects {
            if let Effect::Publish(addr, len) = *effect
                && published.remove(addr, len)
            {
                alloc.take_back(addr, len);
            }
        }
    }

    /// The first extent of a record whose content was written since the last commit and is not there.
    fn bad_content(&self, effects: &[Effect<'_>], published: &RangeSet) -> Option<(Key, Extent)> {
        effects.iter().find_map(|effect| {
            let Effect::Insert(key, value) = effect else { return None };
            // One that makes no sense is refused later.
            let extent = Extent::decode(value).ok().filter(|_| key.kind == Kind::Extent as u8)?;
            let DeadEntry { addr, len, .. } = reference(&extent);
            // What has moved was committed; the place that it names is of something else.
            let in_place = self.shared.places.is_in_place(&extent);
            let new = in_place && addr.checked_add(len).is_some() && published.contains(addr, len);
            let good = !new || self.shared.store().has_content(&PlacedExtent::in_place(&extent));
            (!good).then_some((*key, extent))
        })
    }

    /// What [`rules::of_views`] has let pass.
    fn replay_view_effect(&self, effect: Effect<'_>) -> Result<()> {
        let mut state = self.turn();
        let s = state.alone();
        rules::of_views(s, &effect)?;
        match effect {
            Effect::Point(point) => s.take_point(point),
            Effect::Rename(id, name) => s.rename(id, name),
            Effect::Delete(id) => s.delete(id),
            Effect::CreateLine(line) => s.create_line(line),
            Effect::DropLine(line) => s.drop_line(line),
            Effect::RenameLine(line, name) => s.rename_line(line, name),
            Effect::Rollback(to) => s.roll_back(&to),
            Effect::Rebase(line, base) => s.set_base(line, base),
            Effect::SetTerms(line, terms) => s.set_terms(line, terms),
            Effect::SetState(line, state) => s.set_line_state(line, state),
            Effect::SetSchedules(line, schedules) => s.set_schedules(line, schedules),
            Effect::Promote(to) => s.promote(&to),
            Effect::SetHydration(copy) => s.set_hydration(copy),
            Effect::EndHydration(number) => s.remove_hydration(number),
            Effect::SetHold(hold) => s.set_hold(hold),
            Effect::EndHold(number) => s.end_hold(number),
            Effect::SetAge(age) => s.set_age(age),
            Effect::Trash(trash) => s.put_in_trash(trash),
            Effect::Undelete(number, name) => s.undelete(number, name),
            Effect::EmptyTrash(number) => s.empty_trash(number),
            Effect::Name(point) => s.name_point(point),
            _ => {}
        }
        Ok(())
    }
}

/// True for what happens inside a transaction.
fn is_of_tree(effect: &Effect<'_>) -> bool {
    use Effect::*;
    matches!(effect, Insert(..) | Remove(_) | Publish(..) | Free(..) | Share(..) | Note(_))
}

fn replay_effect(txn: &mut Txn<'_>, effect: &Effect<'_>, replay: &mut dyn Replay) -> Result<()> {
    match effect {
        Effect::Insert(key, value) => {
            replay.prove_item(key, Some(value))?;
            reserve_number(txn, key);
            txn.insert(*key, value)?;
        }
        Effect::Remove(key) => {
            replay.prove_item(key, None)?;
            txn.remove(key)?;
        }
        Effect::Publish(addr, len) => txn.adopt(*addr, *len),
        Effect::Free(addr, len, birth) => txn.free_range(*addr, *len, *birth),
        Effect::Share(addr, len) => txn.share_range(*addr, *len),
        Effect::Note(note) => replay.note(txn, note)?,
        _ => {}
    }
    Ok(())
}

/// An inode number is never given out again.
fn reserve_number(txn: &mut Txn<'_>, key: &Key) {
    let number = Ino(key.object);
    if key.kind == Kind::Inode as u8 && number < Ino::END {
        let state = txn.state_mut();
        state.next_ino = state.next_ino.max(Ino(number.0 + 1));
    }
}
