//! What a record of the log may say: each effect is held against the state right before it, and refused if no program
//! could have written it there.
//!
//! A record whose checksum is right may still be nonsense, from a bug or from a hand. Whatever passes here can be carried
//! out without an assertion of the layers below being broken. One function for each kind of thing; changes nothing.

use super::error::corrupt;
use super::remap::reference;
use super::state::VolumeState;
use super::{Result, Txn};
use crate::format::deadlist::DeadEntry;
use crate::format::hold::{HOLDS_MAX, HoldRecord};
use crate::format::hydration::HydrationRecord;
use crate::format::ids::COUNTER_MAX;
use crate::format::leaf::VALUE_BYTES_MAX;
use crate::format::line::{LineRecord, LineState};
use crate::format::log::{Effect, NamedPoint, RecordHeader};
use crate::format::superblock::PendingPoint;
use crate::format::trash::{TrashRecord, Trashed};
use crate::format::{Epoch, Extent, Generation, Kind, LineId, Slot, ViewId};
use crate::limits::NAME_BYTES_MAX;
use crate::names;
use crate::store::Store;

/// Epochs from one record to the next at most: commits without anything to write raise it, and leave no record.
const EPOCH_STEP_MAX: u64 = 1 << 32;
/// No epoch is greater: what is left up to the bound of the superblock is enough for any life of a store.
const EPOCH_MAX: u64 = 1 << 61;
const NANOS: u32 = 1_000_000_000;

macro_rules! must {
    ($condition:expr, $($what:tt)*) => { if !$condition { return Err(corrupt(format!($($what)*))); } };
}

/// Whether a record may come next.
pub(super) fn header(state: &VolumeState, header: &RecordHeader) -> Result<()> {
    let (now, next) = (state.epoch.0, header.epoch.0);
    must!(next >= now, "a record of epoch {next} comes after one of {now}");
    let most = now.saturating_add(EPOCH_STEP_MAX).min(EPOCH_MAX);
    must!(next <= most, "a record of epoch {next} comes long before its time, after one of {now}");
    word(header)
}

/// Whether this may be a record of nothing: that carries word of what was flushed, from whatever epoch it is.
pub(super) fn word(header: &RecordHeader) -> Result<()> {
    must!(header.durable <= header.lsn, "a record says that what comes after it had been flushed");
    Ok(())
}

/// Whether a transaction on this line may come next.
pub(super) fn on_line(state: &VolumeState, line: LineId) -> Result<()> {
    must!(state.lines.get(line).is_some(), "a record changes line {}, which there is not", line.0);
    Ok(())
}

/// Whether this may be done to the tree that is being changed.
pub(super) fn of_tree(txn: &Txn<'_>, store: &Store, effect: &Effect<'_>) -> Result<()> {
    let epoch = txn.view().epoch();
    match effect {
        Effect::Insert(key, value) => {
            must!(value.len() <= VALUE_BYTES_MAX, "an item {key:?} of {} bytes", value.len());
            if key.kind == Kind::Extent as u8 {
                let extent = Extent::decode(value)?;
                reference_in_use(txn, store, &reference(&extent))?;
                born(extent.birth, epoch)?;
            }
        }
        Effect::Remove(key) => {
            must!(txn.view().get(key)?.is_some(), "removal of {key:?}, which is not there")
        }
        Effect::Free(addr, len, birth) => {
            reference_in_use(txn, store, &DeadEntry { addr: *addr, len: *len, birth: *birth })?;
            born(*birth, epoch)?;
        }
        Effect::Share(addr, len) => in_use(store, *addr, *len)?,
        // Its range was taken from what is free; and the layer above judges its notes.
        Effect::Publish(..) | Effect::Note(_) => {}
        Effect::Point(_)
        | Effect::Rename(..)
        | Effect::Delete(_)
        | Effect::CreateLine(_)
        | Effect::DropLine(_)
        | Effect::RenameLine(..)
        | Effect::SetTerms(..)
        | Effect::SetState(..)
        | Effect::SetSchedules(..)
        | Effect::SetHydration(_)
        | Effect::EndHydration(_)
        | Effect::SetHold(_)
        | Effect::EndHold(_)
        | Effect::SetAge(_)
        | Effect::Trash(_)
        | Effect::Undelete(..)
        | Effect::EmptyTrash(_)
        | Effect::Name(_)
        | Effect::Rollback(_)
        | Effect::Promote(_)
        | Effect::Rebase(..) => must!(false, "a change of views inside of one of a tree"),
    }
    Ok(())
}

/// Whether this may be done to the views and lines.
pub(super) fn of_views(state: &VolumeState, effect: &Effect<'_>) -> Result<()> {
    match effect {
        Effect::Point(point) => self::point(state, point),
        Effect::Rename(id, name) => {
            let line = state.own_snapshot(*id)?.line;
            proper(name)?;
            must!(
                !state.lines.name_is_taken(&state.history, line, *id, name),
                "a second snapshot called '{}'",
                names::shown_bytes(name)
            );
            Ok(())
        }
        Effect::Delete(id) => {
            state.own_snapshot(*id)?;
            must!(state.check_not_held(*id).is_ok(), "view {} is deleted while it is held", id.0);
            Ok(())
        }
        Effect::CreateLine(new) => line(state, new),
        Effect::DropLine(id) => {
            let goes = can_go(state, *id) && state.check_none_held(*id).is_ok();
            must!(goes, "line {} is to go, and cannot", id.0);
            Ok(())
        }
        Effect::RenameLine(id, name) => {
            must!(can_go(state, *id), "line {} is to get another name, and cannot", id.0);
            new_line_name(state, name)
        }
        Effect::SetState(id, new) => {
            must!(
                can_go(state, *id) && *new != LineState::Trashed,
                "line {} is to be changed by others, and cannot",
                id.0
            );
            Ok(())
        }
        Effect::SetTerms(id, terms) => {
            on_line(state, *id)?;
            Ok(terms.fit(*id == LineId::MAIN)?)
        }
        Effect::SetSchedules(id, _) => on_line(state, *id),
        Effect::Rollback(to) => {
            must!(
                is_snapshot(state, to.snapshot),
                "a rollback to view {}, which is no snapshot",
                to.snapshot.0
            );
            must!(
                state.shows(to.line, to.snapshot),
                "a rollback of line {} to what it does not show",
                to.line.0
            );
            must!(to.created.1 < NANOS, "a rollback {} nanoseconds after a second", to.created.1);
            new_number(state, to.head)?;
            new_generation(state, to.head_generation)
        }
        Effect::Rebase(line, base) => {
            // What is parted from what was brought into it says so of lines in the trash, too.
            let is_clone = *line != LineId::MAIN && state.lines.get(*line).is_some();
            let may_be = if base.is_none() { is_clone } else { can_go(state, *line) };
            must!(may_be, "line {} is compared with something, and cannot", line.0);
            must!(
                base.is_none_or(|base| state.may_be_base(base)),
                "line {} is compared with what is no snapshot",
                line.0
            );
            Ok(())
        }
        Effect::Promote(to) => {
            on_line(state, to.line)?;
            let two = to.from != to.line && can_go(state, to.from);
            must!(two, "line {} is to become line {}, and cannot", to.from.0, to.line.0);
            let both = state
                .lines
                .names_of_both(&state.history, to.from, to.line)
                .next()
                .map(|view| names::shown_bytes(&view.name));
            must!(both.is_none(), "two snapshots of one line called '{}'", both.unwrap_or_default());
            new_generation(state, to.head_generation)
        }
        Effect::SetHydration(copy) => hydration(state, copy),
        Effect::EndHydration(number) => {
            must!(state.hydrations.get(*number).is_some(), "copy {number} is to end, and is not there");
            Ok(())
        }
        Effect::SetHold(new) => hold(state, new),
        Effect::EndHold(number) => {
            must!(state.holds.table.get(*number).is_some(), "hold {number} is to end, and is not there");
            Ok(())
        }
        Effect::SetAge(age) => {
            let (old, new) = (state.holds.age.secs, age.secs);
            must!(new >= old, "a store of {old} seconds becomes one of {new}");
            Ok(())
        }
        Effect::Trash(new) => trash(state, new),
        Effect::Undelete(number, name) => {
            proper(name)?;
            let Some(trash) = state.trash.get(*number) else {
                return Err(corrupt(format!("{number} comes back from the trash, and is not there")));
            };
            must!(
                state.check_undelete(trash, name).is_ok(),
                "{number} comes back from the trash, and cannot"
            );
            Ok(())
        }
        Effect::EmptyTrash(number) => {
            let Some(trash) = state.trash.get(*number) else {
                return Err(corrupt(format!("{number} goes from the trash, and is not there")));
            };
            let held = matches!(trash.what, Trashed::Line(line, _) if state.check_none_held(line).is_err());
            must!(!held, "{number} goes from the trash, and is held");
            Ok(())
        }
        Effect::Name(point) => named(state, point),
        Effect::Insert(..)
        | Effect::Remove(_)
        | Effect::Publish(..)
        | Effect::Free(..)
        | Effect::Share(..)
        | Effect::Note(_) => Err(corrupt("a change of a tree among those of views".into())),
    }
}

fn hydration(state: &VolumeState, copy: &HydrationRecord) -> Result<()> {
    let number = copy.number;
    state.own_snapshot(copy.view)?;
    let same = |old: &HydrationRecord| (old.view, old.store) == (copy.view, copy.store);
    must!(state.hydrations.get(number).is_none_or(same), "copy {number} becomes one of something else");
    let is_other = |o: &&HydrationRecord| o.store == copy.store && o.number != number && !o.is_whole();
    let other = state.hydrations.of(copy.view).find(is_other);
    must!(other.is_none(), "copy {number} is a second one of view {} in a store", copy.view.0);
    Ok(())
}

fn trash(state: &VolumeState, new: &TrashRecord) -> Result<()> {
    let number = new.number;
    must!(state.trash.get(number).is_none(), "a second {number} in the trash");
    match new.what {
        Trashed::Snapshot(view, line) => {
            let is_its = state.own_snapshot(view)?.line == line && state.check_not_held(view).is_ok();
            must!(is_its, "view {} of line {} is to be in the trash, and cannot", view.0, line.0);
        }
        Trashed::Line(line, was) => {
            let record = state.lines.get(line).map(|l| &l.record).filter(|_| can_go(state, line));
            let goes = record.is_some_and(|l| l.state == was) && state.check_none_held(line).is_ok();
            must!(goes, "line {} is to be in the trash, and cannot", line.0);
        }
    }
    Ok(())
}

fn hold(state: &VolumeState, new: &HoldRecord) -> Result<()> {
    let (number, view) = (new.number, new.view);
    state.own_snapshot(view)?;
    must!(state.holds.table.get(number).is_none(), "a second hold {number}");
    let others: Vec<_> = state.holds.of(view).collect();
    must!(others.len() < HOLDS_MAX, "hold {number} is one too many of view {}", view.0);
    must!(others.iter().all(|other| other.tag != new.tag), "view {} is held as {} twice", view.0, new.tag);
    Ok(())
}

fn named(state: &VolumeState, point: &NamedPoint) -> Result<()> {
    let (id, line) = (point.view, point.line);
    on_line(state, line)?;
    proper(&point.name)?;
    let record = state.history.get(id);
    let is_free = record.is_some_and(|record| [LineId::NONE, line].contains(&record.line));
    must!(
        is_free && state.may_be_base(id) && !state.is_in_trash(id),
        "view {} is to be a snapshot of line {}, and cannot",
        id.0,
        line.0
    );
    // One that keeps its name gets another description, or reason.
    let is_so = record.is_some_and(|record| record.line == line && record.name == point.name);
    let taken = !is_so && state.lines.name_is_taken(&state.history, line, id, &point.name);
    must!(!taken, "a second snapshot called '{}'", names::shown_bytes(&point.name));
    Ok(())
}

fn point(state: &VolumeState, point: &PendingPoint) -> Result<()> {
    let (id, epoch) = (point.id.0, point.epoch.0);
    on_line(state, point.line)?;
    new_number(state, point.id)?;
    proper(&point.name)?;
    let taken = state.lines.snapshot(&state.history, point.line, &point.name).is_some();
    must!(!taken, "a second snapshot called '{}'", names::shown_bytes(&point.name));
    new_slot(state, point.slot)?;
    new_generation(state, point.generation)?;
    must!(point.epoch == state.epoch, "snapshot {id} has epoch {epoch} in a record of {}", state.epoch.0);
    let newest = state.history.newest();
    must!(point.epoch > newest, "snapshot {id} of epoch {epoch} is not the newest: another has {}", newest.0);
    must!(point.created.1 < NANOS, "snapshot {id} was made {} nanoseconds after a second", point.created.1);
    Ok(())
}

fn line(state: &VolumeState, new: &LineRecord) -> Result<()> {
    let number = new.id >= state.lines.next && new.id.0 < COUNTER_MAX;
    must!(number, "line {} of a record: the next number is {}", new.id.0, state.lines.next.0);
    new_line_name(state, &new.name)?;
    let is_empty = new.origin.is_none() && new.state == LineState::Receiving;
    let origin = new.origin.is_some_and(|id| is_snapshot(state, id) || state.untouched_on(id).is_some());
    must!(origin || is_empty, "line {} begins as what is no snapshot, and no line is as it was", new.id.0);
    let base = new.base == new.origin && new.base.is_some_and(|id| state.may_be_base(id));
    must!(
        base || is_empty && new.base.is_none(),
        "line {} is compared with something else than its origin",
        new.id.0
    );
    must!(new.state != LineState::Trashed, "line {} is made in the trash", new.id.0);
    must!(new.created.1 < NANOS, "line {} was made {} nanoseconds after a second", new.id.0, new.created.1);
    new_number(state, new.head)?;
    new_slot(state, new.slot)?;
    new_generation(state, new.generation)?;
    new_generation(state, new.head_generation)
}

/// No view has the number. A superblock may count numbers that were given out while its commit was written, so the number
/// of a record may be below the next.
fn new_number(state: &VolumeState, id: ViewId) -> Result<()> {
    let new = id.0 != 0 && id.0 < COUNTER_MAX && state.history.get(id).is_none();
    must!(new, "view {} of a record is no new number", id.0);
    Ok(())
}

fn new_slot(state: &VolumeState, slot: Slot) -> Result<()> {
    must!(state.lines.slots.is_free(slot), "slot {} of a record is not free", slot.0);
    Ok(())
}

fn new_generation(state: &VolumeState, generation: Generation) -> Result<()> {
    let next = state.lines.slots.find_generations(1);
    must!(next.is_some_and(|next| generation >= next), "generation {} of a record was used", generation.0);
    Ok(())
}

fn new_line_name(state: &VolumeState, name: &[u8]) -> Result<()> {
    proper(name)?;
    must!(state.lines.find(name).is_none(), "a second line called '{}'", names::shown_bytes(name));
    Ok(())
}

fn proper(name: &[u8]) -> Result<()> {
    must!((1..=NAME_BYTES_MAX).contains(&name.len()), "a name of {} bytes", name.len());
    Ok(())
}

fn is_snapshot(state: &VolumeState, id: ViewId) -> bool {
    state.own_snapshot(id).is_ok() && state.roots.contains_key(&id)
}

fn can_go(state: &VolumeState, line: LineId) -> bool {
    // What is in the trash only comes back or goes.
    line != LineId::MAIN && state.lines.get(line).is_some_and(|l| l.record.state != LineState::Trashed)
}

fn born(birth: Epoch, now: Epoch) -> Result<()> {
    must!((1..=now.0).contains(&birth.0), "content born in epoch {} in a record of {}", birth.0, now.0);
    Ok(())
}

/// Its content may have moved, and others may have the place that it names.
fn reference_in_use(txn: &Txn<'_>, store: &Store, e: &DeadEntry) -> Result<()> {
    for (addr, len) in txn.view().places_of(e) {
        in_use(store, addr, len)?;
    }
    Ok(())
}

fn in_use(store: &Store, addr: u64, len: u64) -> Result<()> {
    let free = store.alloc().not_allocated(&[(addr, len)], 0).is_some();
    must!(!free, "{addr:#x}+{len} is referred to by a record, and is free or outside of the store");
    Ok(())
}
