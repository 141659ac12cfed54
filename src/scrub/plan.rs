//! What a scrub has to read, in which order, so that each block is read once and none is missed.
//!
//! First come the snapshots that were there when the scrub began, the oldest first. Then comes what the heads held at
//! that moment. A head changes while the scrub runs, so for each head, in their order, the plan names the lowest of the
//! views that were made of it since, whose tree still holds what the head held; or the head, if there is none. Of each
//! view only blocks are read that are newer than the nearest visible view below it: older ones were read there. Blocks
//! that were born after the scrub began are left out, so that a scrub ends however much is written meanwhile.
//!
//! The plan is made anew for each state that is read. The position of the scrub has to mean the same in every one of
//! them:
//! - A new snapshot of a head holds everything that was to be read in that head, and takes its place in the plan. No
//!   position moves forward by that: a snapshot has a greater number than the head that it was made of.
//! - When a snapshot is deleted, the blocks that it shared with views above it are read with those, which come later.
//!   Some of them are read a second time.

use crate::format::scrub::{Cursor, Stage};
use crate::format::view::{Role, ViewRecord};
use crate::format::{BlockPtr, Epoch, Key, ViewId};
use crate::volume::scrub::Pinned;
use std::collections::BTreeMap;

/// A tree to read.
#[derive(Clone, Debug)]
pub(super) struct Work {
    /// The view.
    pub view: ViewId,
    /// Its root.
    pub root: BlockPtr,
    /// Where the reading of it starts.
    pub start: Cursor,
}

/// Everything to read of `state` by a scrub of what was born up to `until`, in order.
pub(super) fn plan(state: &Pinned, until: Epoch) -> Vec<Work> {
    let first_heads = first_heads(state);
    let mut all = Vec::new();
    for record in state.records.iter().filter(|r| r.role != Role::Hidden) {
        let newer_than = visible_base(state, record);
        let (stage, number) = if record.role == Role::Snapshot && record.epoch <= until {
            (Stage::Snapshots, record.epoch.0)
        } else if newer_than <= until {
            let head = first_heads.get(&record.id).unwrap_or(&record.id).min(&record.id);
            (Stage::Heads, head.0)
        } else {
            // It was made since, and so was the view below it, which has all that is to be read.
            continue;
        };
        let start = Cursor { stage, number, newer_than, key: Key::MIN };
        all.extend(record.root.map(|root| Work { view: record.id, root, start }));
    }
    all.sort_by_key(|w| (w.start.stage, w.start.number));
    all
}

/// Of each view the first head above it.
fn first_heads(state: &Pinned) -> BTreeMap<ViewId, ViewId> {
    let mut found = BTreeMap::new();
    let mut heads: Vec<&ViewRecord> = state.records.iter().filter(|r| r.role == Role::Head).collect();
    heads.sort_by_key(|r| r.id);
    for head in heads {
        let mut at = head.prev;
        // What is below a view that an earlier head has found was found by it, too.
        while let Some(view) = at.filter(|v| !found.contains_key(v)) {
            found.insert(view, head.id);
            at = state.history.get(view).and_then(|v| v.prev);
        }
    }
    found
}

/// Epoch of the nearest visible view below.
fn visible_base(state: &Pinned, record: &ViewRecord) -> Epoch {
    let mut at = record.prev.and_then(|p| state.history.get(p));
    while let Some(below) = at.filter(|v| v.role == Role::Hidden) {
        at = below.prev.and_then(|p| state.history.get(p));
    }
    at.map_or(Epoch(0), |v| v.epoch)
}

/// What to read next, and from where, if the scrub got as far as `cursor`.
pub(super) fn next<'a>(plan: &'a [Work], cursor: &Cursor) -> Option<(&'a Work, Cursor)> {
    let at = (cursor.stage, cursor.number);
    let work = plan.iter().find(|w| (w.start.stage, w.start.number) >= at)?;
    // Without a key nothing of it was read yet: then the cursor may still say what holds for the one before.
    let begun = (work.start.stage, work.start.number) == at && cursor.key > Key::MIN;
    Some((work, if begun { *cursor } else { work.start }))
}
