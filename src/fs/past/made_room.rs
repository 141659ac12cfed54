//! What is known of the room that can be made, from one time to the next. It is lost with the mount.

use crate::format::ViewId;
use crate::ops::RoomFor;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

/// What the count was of: it is as old as this is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counted {
    /// Snapshots that may go.
    pub may_go: Vec<ViewId>,
    /// The point behind the trip wire, and how many bytes of files have gone since.
    pub point: Option<(ViewId, u64)>,
    /// Bytes of what was deleted that are on their way back.
    pub coming: u64,
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
    /// What comes back in the background of what was deleted, as it was counted last.
    pub coming: AtomicU64,
    /// When it was counted, and of what.
    pub counted: Mutex<Option<(Duration, Counted)>>,
    /// It is out of date.
    pub is_old: AtomicBool,
    /// Those of which it was found, when somebody waited, and how much.
    pub found: Mutex<Option<(Vec<ViewId>, u64)>>,
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
        self.coming.store(0, SeqCst);
        *self.counted.lock() = None;
    }

    /// Bytes that come back if all snapshots go that may go by themselves. As of the last count.
    pub fn may_free_bytes(&self) -> u64 {
        self.may_free.load(SeqCst)
    }

    /// The same, with what was deleted before and is on its way back: a write that needs it has that done first.
    pub fn comes_bytes(&self) -> u64 {
        self.may_free_bytes().saturating_add(self.coming.load(SeqCst))
    }
}
