//! What is known of the room that can be made, from one time to the next. It is lost with the mount.

use crate::format::{Epoch, ViewId};
use crate::ops::RoomFor;
use crate::volume::SnapshotUses;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

/// What the count was of: it is as old as this is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counted {
    /// Snapshots that may go.
    pub may_go: Vec<ViewId>,
    /// The points behind the trip wire, if something has gone since the older one, and how many bytes of files that is.
    pub points: Vec<ViewId>,
    /// See there.
    pub gone_bytes: u64,
}

/// What the list of snapshots that may go follows from, besides snapshots, schedules and time: as long as this is equal, so is that.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoomUses {
    /// What the store knows.
    pub store: SnapshotUses,
    /// How often one came to be, or ceased to be, a file system of its own.
    pub standing: u64,
    /// The points behind the trip wire that would be let go of, and how many bytes have gone since.
    pub points: (Vec<ViewId>, u64),
}

/// What was found when somebody waited, of a store without points behind the trip wire.
pub struct FoundRoom {
    /// Snapshots that may go.
    pub may_go: Vec<ViewId>,
    /// As of the commit before this epoch: what is deleted afterwards may leave them more.
    pub epoch: Epoch,
    /// What they hold together, in bytes.
    pub together: u64,
}

/// What is known of it. `making` is held while something is let go, before all locks of the past; the others are leaves.
#[derive(Default)]
pub struct MadeRoom {
    /// Held while something is let go.
    pub making: Mutex<()>,
    /// How often some was made.
    pub made: AtomicU64,
    /// How often none was to be had, and for what, the last time.
    pub failed: Mutex<(u64, Option<RoomFor>)>,
    /// What snapshots that may go hold together, as it was counted last.
    pub may_free: AtomicU64,
    /// When it was counted, and of what.
    pub counted: Mutex<Option<(Duration, Counted)>>,
    /// When it was looked last what may go, and what that follows from.
    pub looked: Mutex<Option<(Duration, RoomUses)>>,
    /// How often a snapshot came to be, or ceased to be, a file system of its own.
    pub standing: AtomicU64,
    /// It is out of date.
    pub is_old: AtomicBool,
    /// What was found when somebody waited.
    pub found: Mutex<Option<FoundRoom>>,
}

impl MadeRoom {
    /// Snapshots have come or gone, or schedules.
    pub fn has_changed(&self) {
        self.is_old.store(true, SeqCst);
        *self.found.lock() = None;
    }

    /// Nothing goes by itself any more.
    pub fn end(&self) {
        self.may_free.store(0, SeqCst);
        *self.counted.lock() = None;
        *self.looked.lock() = None;
    }

    /// Bytes that come back if all snapshots go that may go by themselves. As of the last count.
    pub fn may_free_bytes(&self) -> u64 {
        self.may_free.load(SeqCst)
    }
}
