//! Replaying the log of an earlier session onto the committed state.
//!
//! Records are carried out in order, each whole or not at all, in the epochs in which they were made. Content that was
//! written in place is proved by its checksums first, unless the log says that it had been flushed. What is replayed is
//! in memory; the first commit makes it durable and ends the old session's log, so a crash in between does no harm.

use super::intent::Record;
use super::{Access, Result, Txn, Volume, VolumeError, corrupt};
use crate::format::log::{Effect, Effects};
use crate::format::{Extent, Ino, Key, Kind};
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
            let mut txn = self.begin_on(record.header.view)?;
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
        match effect {
            Effect::Point(point) => {
                let fresh = s.history.get(point.id).is_none() && !s.names.contains_key(&point.name);
                if !fresh || point.epoch != s.epoch || s.history.views().any(|v| v.epoch >= point.epoch) {
                    return Err(corrupt(format!("snapshot {} of a record is impossible", point.id.0)));
                }
                s.take_point(point);
            }
            Effect::Rename(id, name) => {
                let free = s.history.get(id).is_some() && !name.is_empty() && !s.names.contains_key(name);
                if !free {
                    return Err(corrupt(format!("renaming of snapshot {} in a record is impossible", id.0)));
                }
                s.rename(id, name);
            }
            Effect::Delete(id) => {
                let name = s.history.get(id).map(|v| v.name.clone());
                let name = name.filter(|_| id != s.live && !s.deletes.contains(&id));
                let name = name
                    .ok_or_else(|| corrupt(format!("deletion of view {} in a record is impossible", id.0)))?;
                s.names.remove(&name);
                s.delete(id);
            }
            Effect::Fork(snapshot, head, created) => {
                let root = s.roots.get(&snapshot).cloned().ok_or(VolumeError::NoSuchView)?;
                if s.history.next_ids().0 != head.0 || s.fork(snapshot, root, created) != head {
                    return Err(corrupt(format!("clone {} of a record has another number", head.0)));
                }
            }
            Effect::Promote(head) => {
                s.roots.get(&head).ok_or(VolumeError::NoSuchView)?;
                (s.live, s.changed) = (head, true);
            }
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
