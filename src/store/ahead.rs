//! Space that the host is asked for before anybody needs it, so that nobody has to wait for it.
//!
//! [`Store::secure`] asks when there is too little, while whoever changes something waits, and with it all others: a host
//! whose memory is its disk clears 16 MiB in 4 ms. So it also rings when what is left beyond the need becomes little, and
//! a thread with nothing else to do asks for more, in small pieces and with no lock that a change takes.

use super::{Alloc, KEEP_SHARE, Store};
use crate::bell::Bell;
use crate::device::DeviceError;
use parking_lot::MutexGuard;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// So much is secured beyond what is needed, in bytes, where the host has enough.
const AHEAD_BYTES: u64 = 64 << 20;
/// In aligned pieces of this many bytes: each keeps the host from other calls on the same file for a moment.
const AHEAD_CHUNK_BYTES: u64 = 1 << 20;

/// What whoever needs space and whoever asks the host for it know of each other.
#[derive(Default)]
pub(super) struct Ahead {
    bell: Bell,
    /// Free bytes that were needed when it was last rung.
    needed: AtomicU64,
}

impl Store {
    /// Of `free` bytes `needed` are spoken for: rings if half of what should be ahead of them is gone.
    pub(super) fn look_ahead(&self, free: u64, needed: u64) {
        if free < needed + AHEAD_BYTES / 2 {
            self.ahead.needed.store(needed, Relaxed);
            self.ahead.bell.ring();
        }
    }

    /// Secures space ahead whenever it is wanted, until [`Self::end_ahead`] is called.
    pub fn keep_ahead(&self) {
        loop {
            self.ahead.bell.wait(Duration::MAX);
            if self.ahead.bell.has_ended() {
                return;
            }
            self.back_ahead();
        }
    }

    /// Has whoever is in [`Self::keep_ahead`] return.
    pub fn end_ahead(&self) {
        self.ahead.bell.end();
    }

    /// Asks the host for space ahead of need. Does nothing on a host that is nearly full: its last space is for need.
    pub(super) fn back_ahead(&self) {
        if self.device.available() / KEEP_SHARE < AHEAD_BYTES {
            return;
        }
        let mut alloc = self.alloc();
        while !self.ahead.bell.has_ended()
            && alloc.free_bytes() < self.ahead.needed.load(Relaxed) + AHEAD_BYTES
            && let Some((addr, len)) = alloc.next_to_back(AHEAD_CHUNK_BYTES)
        {
            if let Err(e) = self.back(&mut alloc, addr, len) {
                return log::debug!("space ahead: {e}");
            }
        }
    }

    /// Has the host back a range, of which the unbacked parts become free. Nobody is kept from the allocator meanwhile.
    pub(super) fn back(&self, alloc: &mut Alloc, addr: u64, len: u64) -> Result<(), DeviceError> {
        let _turn = MutexGuard::unlocked(alloc, || {
            let turn = self.space_turn.lock();
            self.device.back(addr, len).map(|()| turn)
        })?;
        alloc.backed(addr, len);
        Ok(())
    }
}
