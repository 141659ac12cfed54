//! What is not what pointers and checksums say, because its content was purged: leaves that were rewritten, and places that
//! are written over. Shared by all who read one device in this process.
//!
//! Nobody heals what is being purged: whoever read the old bytes before must not bring them back. Any thread may call. The locks
//! are leaves, but for the one of those who heal, which is held over the write that heals. Why so: docs/decisions/0040.

use super::RangeSet;
use crate::format::{BlockPtr, Epoch};
use foldhash::HashMap;
use parking_lot::{Mutex, MutexGuard, RwLock};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A leaf as it is now.
#[derive(Clone)]
pub struct Rewrite {
    /// What it hashes to.
    pub checksum: u64,
    /// All of it, while it may not be at its place.
    pub bytes: Option<Arc<[u8]>>,
}

/// The table.
#[derive(Default)]
pub struct Rewrites {
    /// How often something was entered; 0 while nothing ever was.
    entered: AtomicU64,
    /// By address and birth: no other block ever has both.
    leaves: RwLock<HashMap<(u64, Epoch), Rewrite>>,
    places: RwLock<RangeSet>,
    healing: Mutex<()>,
}

impl Rewrites {
    /// Changes whenever something becomes other than it was.
    pub fn entered(&self) -> u64 {
        self.entered.load(Ordering::Acquire)
    }

    /// What became of a block, if it was rewritten.
    pub fn of(&self, ptr: &BlockPtr) -> Option<Rewrite> {
        if self.entered() == 0 {
            return None;
        }
        self.leaves.read().get(&(ptr.addr.0, ptr.birth)).cloned()
    }

    /// A leaf is `rewrite` from now on. Whoever heals what it was has done so.
    pub fn enter_leaf(&self, addr: u64, birth: Epoch, rewrite: Rewrite) {
        let _turn = self.healing.lock();
        self.leaves.write().insert((addr, birth), rewrite);
        self.entered.fetch_add(1, Ordering::Release);
    }

    /// The same for what a state on the device says, which is no news if it is known.
    pub fn load_leaf(&self, addr: u64, birth: Epoch, rewrite: Rewrite) {
        if !self.leaves.read().contains_key(&(addr, birth)) {
            self.enter_leaf(addr, birth, rewrite);
        }
    }

    /// All of a leaf that may not be at its place.
    pub fn bytes_of(&self, addr: u64, birth: Epoch) -> Option<Arc<[u8]>> {
        self.leaves.read().get(&(addr, birth)).and_then(|rewrite| rewrite.bytes.clone())
    }

    /// It is at its place, durably.
    pub fn at_its_place(&self, addr: u64, birth: Epoch) {
        if let Some(rewrite) = self.leaves.write().get_mut(&(addr, birth)) {
            rewrite.bytes = None;
        }
    }

    /// Whatever is at these places is purged.
    pub fn enter_places(&self, places: &[(u64, u64)]) {
        let _turn = self.healing.lock();
        let mut set = self.places.write();
        for (addr, len) in places {
            set.take(*addr, *len);
            set.insert(*addr, *len);
        }
        self.entered.fetch_add(1, Ordering::Release);
    }

    /// These places are anybody's.
    pub fn leave_places(&self, places: &[(u64, u64)]) {
        let mut set = self.places.write();
        places.iter().for_each(|(addr, len)| drop(set.take(*addr, *len)));
    }

    /// True if something in a range is purged.
    pub fn is_purged(&self, addr: u64, len: u64) -> bool {
        self.entered() != 0 && self.places.read().overlaps(addr, len)
    }

    /// Held by whoever heals something, from the moment in which he looks whether he may.
    pub(super) fn healing(&self) -> MutexGuard<'_, ()> {
        self.healing.lock()
    }
}
