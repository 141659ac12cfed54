//! What is asked of the next commits for a purge, and what became of it.

use super::NewLeaf;
use crate::format::purge::PurgeRest;
use crate::format::{Epoch, ViewId};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeSet, VecDeque};

/// Content that the next commit holds.
#[derive(Clone, Default)]
pub struct PurgeOrder {
    /// Places, disjoint and ascending.
    pub places: Vec<(u64, u64)>,
    /// Their parts with their extra references, as whoever asks knows them.
    pub known: Vec<(u64, u64, u32)>,
    /// Leaves.
    pub leaves: Vec<NewLeaf>,
    /// Snapshots that lose content.
    pub edited: Vec<ViewId>,
    /// Views that it was looked for in.
    pub seen: BTreeSet<ViewId>,
    /// When, in seconds.
    pub secs: i64,
    /// What was asked for.
    pub asked: Option<PurgeRest>,
    /// More orders are to follow for it: it is planned anew if they do not.
    pub has_more: bool,
}

impl PurgeOrder {
    /// Leaves, and what takes as much room in the meta tree: four pieces of what is to be planned anew.
    pub(in crate::volume) fn leaf_count(&self) -> u64 {
        let rest = self.asked.as_ref().filter(|_| self.has_more);
        let pieces = rest.map_or(0, |rest| rest.items().len() as u64);
        self.leaves.len() as u64 + pieces.div_ceil(4)
    }

    /// What is left to do of a purge is this one's, and is done with it.
    pub(super) fn takes_over(&self, rest: &PurgeRest) -> bool {
        self.asked.as_ref().is_some_and(|asked| asked.covers(rest))
    }
}

/// What became of an order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ordered {
    /// From now on nobody reads it.
    Held,
    /// Nothing was done: others have come to refer to some of it since it was planned.
    Changed,
}

/// What was out of reach when what no tree leads to was written over last.
#[derive(Clone, Default)]
pub(in crate::volume) struct OutOfReach {
    /// Freed by commits up to this epoch, and in quarantine.
    pub until: Epoch,
    /// Of no line, and not looked at.
    pub views: BTreeSet<ViewId>,
    /// What was deleted and is not free yet.
    pub unfreed: bool,
    /// A side of the mirror.
    pub side: bool,
    /// How many fillings of a side had begun.
    pub fillings: u64,
}

/// Purges of an open volume.
#[derive(Default)]
pub struct Purging {
    /// Held for writing while a purge is planned and entered: content stays where it is. For reading by whoever moves some.
    pub(in crate::volume) turn: RwLock<()>,
    /// One at a time writes over what no tree leads to.
    pub(in crate::volume) wiping: Mutex<()>,
    /// A leaf lock.
    pub(in crate::volume) waiting: Mutex<WaitingPurge>,
    /// What is left to do of a purge is found from these snapshots. A leaf lock.
    needed: Mutex<Vec<ViewId>>,
}

/// What waits for a commit.
#[derive(Default)]
pub(in crate::volume) struct WaitingPurge {
    pub order: Option<PurgeOrder>,
    pub ordered: Option<Ordered>,
    /// Zeros are there, durably.
    pub wiped: Vec<(u64, u64)>,
    /// Leaves that are at their places, durably.
    pub in_place: Vec<(u64, Epoch)>,
    /// Whether what no tree leads to is being written over, if that has changed.
    pub wiping: Option<bool>,
    /// Nothing is left that was to be planned anew.
    pub rest_is_over: bool,
    /// What only hidden views hold is to be freed, however little it is.
    pub sweep: bool,
    /// What was out of reach when that was done last.
    pub out_of_reach: Option<OutOfReach>,
    /// Views of no line that nobody had looked at when something was ordered: points that were made while it was planned.
    pub unseen: BTreeSet<ViewId>,
    /// How many fillings of a side of a mirror have begun.
    pub fillings: u64,
    /// What commits of these epochs let go of: until nobody can have an older root.
    pub leaving: VecDeque<(Epoch, Vec<(u64, u64)>)>,
}

impl Purging {
    /// This is left to do of a purge. What sharers lose is known from the chosen snapshots alone: these stay until it is done. Content that
    /// nobody else has goes with them.
    pub(in crate::volume) fn need_for(&self, rest: Option<&PurgeRest>) {
        let views = rest.filter(|rest| rest.all).map(|rest| rest.views.clone());
        *self.needed.lock() = views.unwrap_or_default();
    }

    /// The snapshots from which what is left of a purge is found.
    pub(in crate::volume) fn needed(&self) -> Vec<ViewId> {
        self.needed.lock().clone()
    }

    /// True if what is left of a purge is found from this snapshot, among others.
    pub(in crate::volume) fn needs(&self, view: ViewId) -> bool {
        self.needed.lock().contains(&view)
    }

    /// True if a commit has something to do for a purge.
    pub(in crate::volume) fn waits(&self) -> bool {
        let waiting = self.waiting.lock();
        waiting.order.is_some()
            || !waiting.wiped.is_empty()
            || !waiting.in_place.is_empty()
            || waiting.wiping.is_some()
            || waiting.rest_is_over
            || waiting.sweep
    }

    /// Places and leaves of the order that waits.
    pub(in crate::volume) fn ordered_counts(&self) -> (u64, u64) {
        let waiting = self.waiting.lock();
        waiting.order.as_ref().map_or((0, 0), |o| (o.places.len() as u64, o.leaf_count()))
    }
}
