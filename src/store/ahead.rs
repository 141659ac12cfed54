//! Asks the host for space before a change needs it, so that no change has to wait for the host.
//!
//! A change must know that the host has promised space for all that it writes. [`Store::secure`] asks the host when too
//! little is promised, but then the change waits with its locks held, and with it every other change: a tmpfs, for
//! example, clears the memory that it promises and takes 4 ms for 16 MiB. So `secure` also rings a bell as soon as little
//! more is promised than is needed. A thread that does nothing else hears it and asks the host for more, in small pieces
//! and without holding any lock that a change takes.

use super::space::{BACK_CHUNK_BYTES, KEEP_SHARE};
use super::{Alloc, Store};
use crate::device::DeviceError;
use crate::format::Copies;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// The thread has the host promise so many bytes beyond what is needed, if the host has plenty.
const AHEAD_BYTES: u64 = 64 << 20;
/// It asks for aligned pieces of this many bytes. While the host handles one, other calls on the same file wait.
const AHEAD_CHUNK_BYTES: u64 = 1 << 20;

/// At most so many pieces are asked for until one has room for second copies: free space may be fragmented.
const COPIES_TRIES: u32 = 4;

impl Store {
    /// Called with the free bytes and how many of them are needed: rings the bell if fewer than half of [`AHEAD_BYTES`] are
    /// left beyond the need.
    pub fn look_ahead(&self, free: u64, needed: u64) {
        if free < needed + AHEAD_BYTES / 2 {
            self.ahead.needed.store(needed, Relaxed);
            self.ahead.bell.ring();
        }
    }

    /// How many bytes are asked for beyond the need: 0 on a host that is nearly full, whose last space is for changes that
    /// need it now.
    pub fn ahead_bytes(&self) -> u64 {
        if self.device.available() / KEEP_SHARE < AHEAD_BYTES { 0 } else { AHEAD_BYTES }
    }

    /// Asks for space whenever the bell rings, until [`Self::end_ahead`] is called; for second copies too, if the store
    /// keeps them. Runs in a thread of its own.
    pub fn keep_ahead(&self, copies: Copies) {
        loop {
            self.ahead.bell.wait(Duration::MAX);
            if self.ahead.bell.has_ended() {
                return;
            }
            self.back_ahead(copies);
        }
    }

    /// Has whoever is in [`Self::keep_ahead`] return.
    pub fn end_ahead(&self) {
        self.ahead.bell.end();
    }

    /// Asks the host for pieces of space until enough is free beyond the need.
    pub(super) fn back_ahead(&self, copies: Copies) {
        if self.ahead_bytes() == 0 {
            return;
        }
        let mut alloc = self.alloc();
        let mut tries = if copies == Copies::Two { COPIES_TRIES } else { 0 };
        let mut next = |alloc: &Alloc| {
            if alloc.free_bytes() < self.ahead.needed.load(Relaxed) + AHEAD_BYTES {
                return alloc.next_to_back(AHEAD_CHUNK_BYTES);
            }
            tries = tries.checked_sub(1)?;
            alloc.next_to_back_for_copies(AHEAD_CHUNK_BYTES)
        };
        while !self.ahead.bell.has_ended()
            && let Some((addr, len)) = next(&alloc)
        {
            if let Err(e) = self.back(&mut alloc, addr, len) {
                return log::debug!("space ahead: {e}");
            }
        }
    }

    /// Asks the host for more space far from `first` at once. False if there is none.
    pub fn back_far(&self, alloc: &mut Alloc, first: u64) -> Result<bool, DeviceError> {
        let Some((addr, len)) = alloc.next_to_back_far(BACK_CHUNK_BYTES, first) else { return Ok(false) };
        self.ahead.bell.ring();
        match self.back(alloc, addr, len) {
            Err(DeviceError::NoSpace) => Ok(false),
            done => done.map(|()| true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Device, Op, Persistence, Sim};
    use crate::store::{AllocClass, Allocator, Room};
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    const MIB: u64 = 1 << 20;
    const SIZE: u64 = 8 << 30;

    /// An empty store on a host that can back so much.
    fn store(limit: u64) -> (Arc<Sim>, Store) {
        let sim = Arc::new(Sim::new(SIZE, 1));
        sim.set_space_limit(limit);
        let store = Store::new(sim.clone(), 1, Allocator::new(0, SIZE));
        (sim, store)
    }

    fn secure(store: &Store, bytes: u64) {
        store.secure(&mut store.alloc(), Room::default().and(bytes)).unwrap();
    }

    #[test]
    fn who_needs_more_finds_it_secured() {
        let (sim, store) = store(SIZE);
        let rung = || store.ahead.bell.wait(Duration::ZERO);
        secure(&store, 10 * MIB);
        assert!(rung() && !rung());
        sim.start_recording();
        store.back_ahead(Copies::One);
        let calls = sim.take_recording();
        assert!(calls.iter().all(|call| call.op == Op::Back && call.len == AHEAD_CHUNK_BYTES), "{calls:?}");
        assert!((10 * MIB + AHEAD_BYTES..11 * MIB + AHEAD_BYTES).contains(&store.alloc().free_bytes()));
        // Until half of it is gone nobody asks the host, and nobody is woken.
        secure(&store, 10 * MIB + AHEAD_BYTES / 2);
        assert!(!rung());
        secure(&store, 10 * MIB + AHEAD_BYTES);
        assert!(rung() && sim.take_recording().is_empty());
        store.back_ahead(Copies::One);
        assert!(store.alloc().free_bytes() >= 10 * MIB + 2 * AHEAD_BYTES);
        let before = sim.backed_bytes();
        store.back_ahead(Copies::One);
        assert_eq!(sim.backed_bytes(), before, "enough is enough");
    }

    #[test]
    fn the_last_space_of_a_host_is_for_need() {
        let limit = KEEP_SHARE * AHEAD_BYTES;
        let (sim, store) = store(limit);
        secure(&store, 8 * MIB);
        let before = sim.backed_bytes();
        store.back_ahead(Copies::One);
        assert_eq!(sim.backed_bytes(), before);
        secure(&store, limit / 2);
        sim.set_space_limit(sim.backed_bytes() + MIB);
        assert!(store.secure(&mut store.alloc(), Room::default().and(SIZE / 2)).is_err());
    }

    #[test]
    fn what_a_full_host_has_kept_is_found_wherever_it_is_and_looked_for_once() {
        let (sim, store) = store(SIZE);
        // As an earlier mount has left it.
        for at in [300 * MIB, 5 << 30] {
            sim.back(at, 8 * MIB).unwrap();
        }
        sim.set_space_limit(sim.backed_bytes());
        let refused = |mib: u64| store.secure(&mut store.alloc(), Room::default().and(mib * MIB)).is_err();
        assert!(!refused(8));
        let asked = sim.counts().backs;
        assert!(!refused(8) && sim.counts().backs == asked);
        assert!((0..10).any(|_| !refused(16)), "some pieces at a time");
        assert_eq!(store.alloc().free_bytes(), 16 * MIB);
        while store.looked_for_backed_to.load(Relaxed) < SIZE {
            assert!(refused(17));
        }
        let asked = sim.counts().backs;
        assert!(refused(17) && sim.counts().backs < asked + 4);
        // A host that has room again is asked as ever.
        sim.set_space_limit(SIZE);
        assert!(!refused(17));
    }

    #[test]
    fn a_host_that_refuses_is_asked_again_by_need() {
        let (sim, store) = store(SIZE);
        secure(&store, MIB);
        sim.fail(Op::Back, 3, Persistence::Once);
        let before = store.alloc().free_bytes();
        store.back_ahead(Copies::One);
        assert_eq!(store.alloc().free_bytes(), before + 2 * AHEAD_CHUNK_BYTES);
        secure(&store, AHEAD_BYTES);
    }

    #[test]
    fn the_thread_ends_when_it_is_told_to() {
        let (_sim, store) = store(SIZE);
        std::thread::scope(|s| {
            let thread = s.spawn(|| store.keep_ahead(Copies::One));
            secure(&store, MIB);
            while store.alloc().free_bytes() < MIB + AHEAD_BYTES {
                std::thread::yield_now();
            }
            store.end_ahead();
            thread.join().unwrap();
        });
    }

    /// Ends the other threads, also when an assertion fails.
    struct Stop<'a>(&'a Store, &'a AtomicBool);

    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.1.store(true, Relaxed);
            self.0.end_ahead();
        }
    }

    /// Free is what the host has promised, whoever asks it for space and gives it back at the same time.
    #[test]
    fn what_is_free_is_backed() {
        let (sim, store) = store(SIZE);
        let done = AtomicBool::new(false);
        std::thread::scope(|s| {
            let ahead = s.spawn(|| store.keep_ahead(Copies::One));
            let trimmer = s.spawn(|| {
                let mut rng = fastrand::Rng::with_seed(6);
                while !done.load(Relaxed) {
                    store.trim(rng.u64(0..8) * MIB);
                }
            });
            let stop = Stop(&store, &done);
            let mut rng = fastrand::Rng::with_seed(5);
            for round in 0..100_000 {
                secure(&store, rng.u64(1..16) * MIB);
                let taken = store.alloc().alloc(rng.u64(1..4096) * 4096, AllocClass::Data);
                if let Some((addr, len)) = taken {
                    store.alloc().give_back(addr, len);
                }
                if round % 16 == 0 {
                    let _turn = store.space_turn.lock();
                    let alloc = store.alloc();
                    assert!(alloc.free_bytes() <= sim.backed_bytes());
                }
            }
            drop(stop);
            trimmer.join().unwrap();
            ahead.join().unwrap();
        });
        assert_eq!(sim.backed_bytes(), store.alloc().free_bytes());
    }
}
