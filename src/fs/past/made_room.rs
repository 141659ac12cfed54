//! What is known of the room that can be made, from one time to the next. It is lost with the mount.

use crate::format::{Epoch, ViewId};
use crate::ops::RoomFor;
use crate::volume::SnapshotUses;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

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
    /// The points behind the trip wire that would be let go of.
    pub points: Vec<ViewId>,
    /// How many bytes of files have gone since the older of them.
    pub gone_bytes: u64,
}

impl RoomUses {
    /// True if nothing else has changed than how much is gone: the same may go, and what it holds has become no less by that.
    pub fn is_so_but_for_gone(&self, other: &RoomUses) -> bool {
        (&self.store, self.standing, &self.points) == (&other.store, other.standing, &other.points)
    }
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

/// Whether somebody lets something go.
type IsMade = Arc<(Mutex<bool>, Condvar)>;

/// Nobody else lets something go while it is there.
pub struct Making(IsMade);

impl Drop for Making {
    fn drop(&mut self) {
        let (is_made, ended) = &*self.0;
        *is_made.lock() = false;
        ended.notify_all();
    }
}

/// What is known of it. There is one [`Making`] while something is let go, and it comes before all locks of the past; the others are
/// leaves.
#[derive(Default)]
pub struct MadeRoom {
    is_made: IsMade,
    /// How often some was made.
    pub made: AtomicU64,
    /// How often none was to be had, and for what, the last time.
    pub failed: Mutex<(u64, Option<RoomFor>)>,
    /// What snapshots that may go hold together, as it was counted last.
    pub may_free: AtomicU64,
    /// What comes back in the background of what was deleted, as it was counted last.
    pub coming: AtomicU64,
    /// When it may be counted again, and whether something was deleted since.
    pub coming_again: Mutex<Duration>,
    pub coming_is_old: AtomicBool,
    /// When that may be counted again because more is gone.
    pub counted_again: Mutex<Duration>,
    /// When it was counted, and of what.
    pub counted: Mutex<Option<(Duration, Counted)>>,
    /// When it was looked last what may go, and what that follows from.
    pub looked: Mutex<Option<(Duration, RoomUses)>>,
    /// How often a snapshot came to be, or ceased to be, a file system of its own.
    pub standing: AtomicU64,
    /// It is out of date.
    pub is_old: AtomicBool,
    /// How often snapshots have come or gone, or schedules.
    pub changes: AtomicU64,
    /// What was found when somebody waited.
    pub found: Mutex<Option<FoundRoom>>,
}

impl MadeRoom {
    /// Waits until nobody else lets something go, for no longer than until then.
    pub fn begin(&self, until: Instant) -> Option<Making> {
        let (is_made, ended) = &*self.is_made;
        let mut taken = is_made.lock();
        while *taken {
            if ended.wait_until(&mut taken, until).timed_out() {
                return None;
            }
        }
        *taken = true;
        Some(Making(self.is_made.clone()))
    }

    /// Snapshots have come or gone, or schedules.
    pub fn has_changed(&self) {
        self.is_old.store(true, SeqCst);
        self.changes.fetch_add(1, SeqCst);
        self.coming_is_old.store(true, SeqCst);
        *self.found.lock() = None;
    }

    /// Nothing goes by itself any more.
    pub fn end(&self) {
        self.may_free.store(0, SeqCst);
        self.coming.store(0, SeqCst);
        *self.counted.lock() = None;
        *self.looked.lock() = None;
    }

    /// Bytes that come back if all snapshots go that may go by themselves. As of the last count.
    pub fn may_free_bytes(&self) -> u64 {
        self.may_free.load(SeqCst)
    }

    /// Bytes that are on their way back of what was deleted. As of the last count.
    pub fn coming_bytes(&self) -> u64 {
        self.coming.load(SeqCst)
    }

    /// Both: a write that needs it has that done first.
    pub fn comes_bytes(&self) -> u64 {
        self.may_free_bytes().saturating_add(self.coming_bytes())
    }
}

/// Has something let go by a thread of its own, and waits for it for no longer than until then: a commit, or a device, may take as
/// long as it will. False if it is not over by then; it goes on. Where no thread starts it is done here, and waited for.
pub fn beside(until: Instant, let_go: impl FnOnce() -> bool + Send + 'static) -> bool {
    let (say, said) = sync_channel(1);
    let work = move || {
        let _ = say.send(let_go()); // nobody may wait any more
    };
    // Kept here as well, because a thread that does not start takes what it was to do along.
    let work = Arc::new(Mutex::new(Some(work)));
    let here = work.clone();
    let started = std::thread::Builder::new().name("room".into()).spawn(move || {
        let taken = work.lock().take();
        taken.map(|work| work())
    });
    if started.is_err()
        && let Some(work) = here.lock().take()
    {
        work();
    }
    said.recv_timeout(until.saturating_duration_since(Instant::now())).unwrap_or(false)
}
