//! Replaying the log of an earlier session onto the committed state.
//!
//! Records are carried out in order, each whole or not at all, in the epochs in which they were made. Content that was
//! written in place is proved by its checksums first, unless the log says that it had been flushed. What is replayed is
//! in memory; the first commit makes it durable and ends the old session's log, so a crash in between does no harm.

use super::intent::Record;
use super::state::State;
use super::{Access, Result, Txn, Volume, corrupt};
use crate::format::log::{Effect, Effects};
use crate::format::superblock::COUNTER_MAX;
use crate::format::{Extent, Generation, Ino, Key, Kind, LineId, Slot, ViewId};
use crate::limits::NAME_BYTES_MAX;
use crate::store::RangeSet;

/// Carries out the notes of the layer above: they come between the changes of the tree among which they were made.
pub type Replay<'r> = &'r mut dyn FnMut(&mut Txn<'_>, &[u8]) -> Result<()>;

/// What a replay did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Recovered {
    /// Records that were carried out.
    pub records: usize,
    /// Why there were not more, if that is damage.
    pub damage: Option<String>,
}

impl Volume {
    /// Replays the log, once, before anything else is done with the volume. What was acknowledged and cannot be had
    /// back is told in the result; the volume takes no changes then if carrying on would lose more.
    pub fn recover(&self, replay: Replay<'_>) -> Recovered {
        let found = std::mem::take(&mut *self.found.lock());
        let mut done = Recovered { records: 0, damage: found.damage };
        let mut published = RangeSet::new();
        for record in &found.records {
            let flushed = record.header.end() <= found.durable;
            match self.replay_record(record, flushed, &mut published, replay) {
                Ok(true) => done.records += 1,
                Ok(false) => {
                    log::info!(
                        "the log ends at {}: the content that follows was not flushed",
                        record.header.lsn
                    );
                    break;
                }
                Err(e) => {
                    // Everything up to here is whole and can be read; the log stays for another try.
                    let e = corrupt(format!("the log cannot be replayed at {}: {e}", record.header.lsn));
                    done.damage = Some(e.to_string());
                    if self.access == Access::ReadWrite {
                        self.poison(&e);
                    }
                    break;
                }
            }
        }
        if let Some(damage) = &done.damage {
            log::error!("{}: {damage}; acknowledged changes are lost", self.describe());
        } else if done.records > 0 {
            log::info!("{}: replayed {} records of the log", self.describe(), done.records);
        }
        done
    }

    /// False if the content that the record refers to is not there.
    fn replay_record(
        &self,
        record: &Record,
        flushed: bool,
        published: &mut RangeSet,
        replay: Replay<'_>,
    ) -> Result<bool> {
        let effects: Vec<Effect<'_>> =
            Effects::decode(record.effects()).collect::<std::result::Result<_, _>>()?;
        self.take_published(&effects, published)?;
        if !flushed && !self.content_is_there(&effects, published) {
            return Ok(false);
        }
        {
            let mut state = self.state.write();
            if record.header.epoch < state.epoch {
                return Err(corrupt(format!(
                    "a record of epoch {} comes after one of {}",
                    record.header.epoch.0, state.epoch.0
                )));
            }
            state.epoch = record.header.epoch;
        }
        let mut effects = effects.into_iter().peekable();
        while effects.peek().is_some() {
            let mut txn = self.begin(record.header.line)?;
            while let Some(effect) = effects.next_if(|e| is_of_tree(e)) {
                replay_effect(&mut txn, &effect, replay).map_err(|e| txn.failed(e))?;
            }
            drop(txn);
            while let Some(effect) = effects.next_if(|e| !is_of_tree(e)) {
                self.replay_view_effect(effect)?;
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

    /// Proves the content behind the extents of a record that was written since the last commit.
    fn content_is_there(&self, effects: &[Effect<'_>], published: &RangeSet) -> bool {
        effects.iter().all(|effect| match effect {
            Effect::Insert(key, value) if key.kind == Kind::Extent as u8 => {
                let Ok(extent) = Extent::decode(value) else { return false };
                let new = published.contains(extent.addr.0, extent.stored_bytes());
                !new || self.shared.store().has_content(&extent)
            }
            _ => true,
        })
    }

    fn replay_view_effect(&self, effect: Effect<'_>) -> Result<()> {
        let mut state = self.state.write();
        let s = &mut *state;
        if !is_possible(s, &effect) {
            return Err(corrupt(format!("a record is impossible: {effect:?}")));
        }
        match effect {
            Effect::Point(point) => s.take_point(point),
            Effect::Rename(id, name) => s.rename(id, name),
            Effect::Delete(id) => s.delete(id),
            Effect::CreateLine(line) => s.create_line(line),
            Effect::DropLine(line) => s.drop_line(line),
            Effect::RenameLine(line, name) => s.rename_line(line, name),
            Effect::Rollback(to) => s.roll_back(&to),
            _ => {}
        }
        Ok(())
    }
}

/// Proves what a record says of views and lines before it is carried out.
fn is_possible(s: &State, effect: &Effect<'_>) -> bool {
    let is_name = |name: &[u8]| (1..=NAME_BYTES_MAX).contains(&name.len());
    let is_new = |id: ViewId| id.0 != 0 && id.0 < COUNTER_MAX && s.history.get(id).is_none();
    let is_fresh = |g: Generation| s.lines.slots.find_generations(1).is_some_and(|next| g >= next);
    let is_free = |slot: Slot| s.lines.slots.is_free(slot);
    let is_snapshot = |id: ViewId| s.own_snapshot(id).is_ok() && s.roots.contains_key(&id);
    let is_line = |line: LineId| s.lines.get(line).is_some();
    let can_go = |line: LineId| line != LineId::MAIN && is_line(line);
    match effect {
        Effect::Point(p) => {
            let named = is_line(p.line) && is_name(&p.name) && s.lines.snapshot(p.line, &p.name).is_none();
            let newest = p.epoch == s.epoch && s.history.views().all(|v| v.epoch < p.epoch);
            named && newest && is_new(p.id) && is_free(p.slot) && is_fresh(p.generation)
        }
        Effect::Rename(id, name) => {
            let line = s.own_snapshot(*id).map(|v| v.line);
            is_name(name) && line.is_ok_and(|line| !s.lines.name_is_taken(line, *id, name))
        }
        Effect::Delete(id) => s.own_snapshot(*id).is_ok(),
        Effect::CreateLine(l) => {
            let named = is_name(&l.name) && s.lines.find(&l.name).is_none();
            let fresh = is_fresh(l.generation) && is_fresh(l.head_generation) && is_free(l.slot);
            let new = l.id >= s.lines.next && l.id.0 < COUNTER_MAX && is_new(l.head);
            named && new && fresh && l.origin.is_some_and(is_snapshot)
        }
        Effect::DropLine(line) => can_go(*line),
        Effect::RenameLine(line, name) => can_go(*line) && is_name(name) && s.lines.find(name).is_none(),
        Effect::Rollback(r) => {
            is_snapshot(r.snapshot)
                && s.shows(r.line, r.snapshot)
                && is_new(r.head)
                && is_fresh(r.head_generation)
        }
        _ => true,
    }
}

/// True for what happens inside a transaction.
fn is_of_tree(effect: &Effect<'_>) -> bool {
    use Effect::*;
    matches!(effect, Insert(..) | Remove(_) | Publish(..) | Free(..) | Share(..) | Note(_))
}

fn replay_effect(txn: &mut Txn<'_>, effect: &Effect<'_>, replay: Replay<'_>) -> Result<()> {
    match effect {
        Effect::Insert(key, value) => {
            reserve_number(txn, key);
            txn.insert(*key, value)?;
        }
        Effect::Remove(key) => {
            txn.remove(key)?;
        }
        Effect::Publish(addr, len) => txn.adopt(*addr, *len),
        Effect::Free(addr, len, birth) => txn.free_range(*addr, *len, *birth),
        Effect::Share(addr, len) => txn.share_range(*addr, *len),
        Effect::Note(note) => replay(txn, note)?,
        _ => {}
    }
    Ok(())
}

/// An inode number is never given out again.
fn reserve_number(txn: &mut Txn<'_>, key: &Key) {
    let number = Ino(key.object);
    if key.kind == Kind::Inode as u8 && number < Ino::END {
        let state = txn.state();
        state.next_ino = state.next_ino.max(Ino(number.0 + 1));
    }
}
