//! What a record of the log may say: each effect is held against the state right before it, and refused if no program
//! could have written it there.
//!
//! A record whose checksum is right may still be nonsense, from a bug or from a hand. Whatever passes here can be carried
//! out without an assertion of the layers below being broken. One function for each kind of thing; changes nothing.

use super::state::State;
use super::{Result, Txn, corrupt};
use crate::format::leaf::VALUE_BYTES_MAX;
use crate::format::log::{Effect, RecordHeader};
use crate::format::superblock::PendingPoint;
use crate::format::view::{Role, ViewRecord};
use crate::format::{Epoch, Extent, Kind, ViewId};
use crate::limits::{NAME_BYTES_MAX, VIEW_ID_MAX};
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
pub(super) fn header(state: &State, header: &RecordHeader) -> Result<()> {
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

/// Whether a transaction on this view may come next.
pub(super) fn on_head(state: &State, view: ViewId) -> Result<()> {
    must!(is_head(state, view), "a record changes view {}, which is no head", view.0);
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
                in_use(store, extent.addr.0, extent.stored_bytes())?;
                born(extent.birth, epoch)?;
            }
        }
        Effect::Remove(key) => {
            must!(txn.view().get(key)?.is_some(), "removal of {key:?}, which is not there")
        }
        Effect::Free(addr, len, birth) => {
            in_use(store, *addr, *len)?;
            born(*birth, epoch)?;
        }
        Effect::Share(addr, len) => in_use(store, *addr, *len)?,
        // Its range was taken from what is free; and the layer above judges its notes.
        Effect::Publish(..) | Effect::Note(_) => {}
        Effect::Point(_) | Effect::Rename(..) | Effect::Delete(_) | Effect::Fork(..) | Effect::Promote(_) => {
            must!(false, "a change of views inside of one of a tree")
        }
    }
    Ok(())
}

/// Whether this may be done to the views, by a record of view `on`.
pub(super) fn of_views(state: &State, on: ViewId, effect: &Effect<'_>) -> Result<()> {
    // The record of a promotion is already the new live head's.
    let of_live = on == state.live || *effect == Effect::Promote(on);
    must!(of_live, "a record of view {} changes views; {} is the live one", on.0, state.live.0);
    match effect {
        Effect::Point(point) => self::point(state, point),
        Effect::Rename(id, name) => {
            must!(has_name(state, *id), "renaming of view {}, which is no snapshot with a name", id.0);
            new_name(state, name)
        }
        Effect::Delete(id) => {
            let head = is_head(state, *id) && *id != state.live;
            must!(head || has_name(state, *id), "deletion of view {}, which cannot be", id.0);
            Ok(())
        }
        Effect::Fork(snapshot, head, (_, nanos)) => {
            let root = has_name(state, *snapshot) && state.roots.contains_key(snapshot);
            must!(root, "a clone of view {}, which is no snapshot with a name", snapshot.0);
            must!(*nanos < NANOS, "a clone was made {nanos} nanoseconds after a second");
            new_number(state, *head)
        }
        Effect::Promote(head) => {
            let root = is_head(state, *head) && state.roots.contains_key(head);
            must!(root, "view {} is to be the live one and is no head", head.0);
            Ok(())
        }
        Effect::Insert(..)
        | Effect::Remove(_)
        | Effect::Publish(..)
        | Effect::Free(..)
        | Effect::Share(..)
        | Effect::Note(_) => Err(corrupt("a change of a tree among those of views".into())),
    }
}

fn point(state: &State, point: &PendingPoint) -> Result<()> {
    let (id, epoch) = (point.id.0, point.epoch.0);
    new_number(state, point.id)?;
    new_name(state, &point.name)?;
    must!(point.epoch == state.epoch, "snapshot {id} has epoch {epoch} in a record of {}", state.epoch.0);
    let newest = state.history.views().map(|v| v.epoch).max().unwrap_or_default();
    must!(point.epoch > newest, "snapshot {id} of epoch {epoch} is not the newest: another has {}", newest.0);
    must!(point.created.1 < NANOS, "snapshot {id} was made {} nanoseconds after a second", point.created.1);
    Ok(())
}

/// The number is the one that would be given out now.
fn new_number(state: &State, id: ViewId) -> Result<()> {
    let next = state.history.next_ids().0;
    must!(id.0 == next && id.0 <= VIEW_ID_MAX, "view {} of a record: the next number is {next}", id.0);
    Ok(())
}

fn new_name(state: &State, name: &[u8]) -> Result<()> {
    let shown = String::from_utf8_lossy(name);
    must!((1..=NAME_BYTES_MAX).contains(&name.len()), "a snapshot's name of {} bytes", name.len());
    must!(!state.names.contains_key(name), "a second snapshot called '{shown}'");
    Ok(())
}

fn born(birth: Epoch, now: Epoch) -> Result<()> {
    must!((1..=now.0).contains(&birth.0), "content born in epoch {} in a record of {}", birth.0, now.0);
    Ok(())
}

fn in_use(store: &Store, addr: u64, len: u64) -> Result<()> {
    let free = store.alloc().not_allocated(&[(addr, len)], 0).is_some();
    must!(!free, "{addr:#x}+{len} is referred to by a record, and is free or outside of the store");
    Ok(())
}

fn role(state: &State, id: ViewId) -> Option<&ViewRecord> {
    state.history.get(id).filter(|_| !state.deletes.contains(&id))
}

fn is_head(state: &State, id: ViewId) -> bool {
    role(state, id).is_some_and(|v| v.role == Role::Head)
}

fn has_name(state: &State, id: ViewId) -> bool {
    let record = role(state, id).filter(|v| v.role == Role::Snapshot && !v.name.is_empty());
    record.is_some_and(|v| state.names.get(&v.name) == Some(&id))
}
