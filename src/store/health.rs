//! What is known of damage while a volume is open: places that were found bad, and how many were made good again.
//!
//! Shared by all stores on one device, so that what an auditor finds counts too. Nothing is told here.

use super::RangeSet;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Bad places that are remembered; more are counted as one.
const PLACES_MAX: usize = 4096;

/// Ranges that were written again and are remembered.
const WRITTEN_MAX: usize = 1 << 16;

/// Damage so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Damage {
    /// Bad blocks of metadata that were rewritten from their second copy.
    pub healed: u64,
    /// Addresses that are bad and were not healed.
    pub bad: u64,
}

/// The table. A leaf among the locks.
#[derive(Default)]
pub struct Health {
    may_heal: AtomicBool,
    healed: AtomicU64,
    bad: Mutex<BTreeSet<u64>>,
    written_again: Mutex<WrittenAgain>,
}

#[derive(Default)]
struct WrittenAgain {
    ranges: RangeSet,
    are_more: bool,
}

impl Health {
    /// Bad blocks may be written over from now on, or no more.
    pub fn set_may_heal(&self, may: bool) {
        self.may_heal.store(may, Relaxed);
    }

    /// True if bad blocks may be written over.
    pub fn may_heal(&self) -> bool {
        self.may_heal.load(Relaxed)
    }

    /// The counts.
    pub fn damage(&self) -> Damage {
        Damage { healed: self.healed.load(Relaxed), bad: self.bad.lock().len() as u64 }
    }

    /// The block at an address is bad and stays so. True if that is news.
    pub fn found_bad(&self, addr: u64) -> bool {
        let mut bad = self.bad.lock();
        bad.len() < PLACES_MAX && bad.insert(addr)
    }

    /// Whatever was bad is bad no more.
    pub fn forget(&self) {
        self.bad.lock().clear();
    }

    /// What is at a place is about to be written over with what it must hold.
    pub fn writes_again(&self, addr: u64, len: u64) {
        let mut written = self.written_again.lock();
        if written.ranges.len() < WRITTEN_MAX {
            written.ranges.take(addr, len);
            written.ranges.insert(addr, len);
        } else {
            written.are_more = true;
        }
    }

    /// Places that were written over with what they must hold, or were to be: a side of a mirror that is lost may be bad there,
    /// however old that is. None if there are more than are remembered.
    pub fn written_again(&self) -> Option<RangeSet> {
        let written = self.written_again.lock();
        (!written.are_more).then(|| written.ranges.clone())
    }

    /// The block at an address was bad and is good again.
    pub fn healed(&self, addr: u64) {
        self.bad.lock().remove(&addr);
        self.healed.fetch_add(1, Relaxed);
    }
}
