//! Space of the host: asked for where a change needs it, and given back where nothing does.

use super::{Alloc, Room, Store, StoreError};
use crate::device::DeviceError;
use parking_lot::MutexGuard;
use std::sync::atomic::Ordering::Relaxed;

/// Space is secured on the host in aligned pieces of this many bytes.
pub(super) const BACK_CHUNK_BYTES: u64 = 4 << 20;
/// Down to which the last space of a host is asked for.
const BACK_CHUNK_BYTES_MIN: u64 = 256 << 10;
/// What is kept at hand beyond need is not more than this share of what the host has left.
pub const KEEP_SHARE: u64 = 16;
/// So many pieces are asked for in one search of a host that is full: some milliseconds.
const BACKED_TRIES: usize = 2048;
/// Space is given back to the host in aligned pieces of this many bytes.
const DISCARD_GRAIN_BYTES: u64 = 1 << 20;
/// In one call it is given no more than this back.
const DISCARD_BYTES_MAX: u64 = 16 << 20;

/// The first address from `from` on in a part for which the host keeps more than what is known to be kept; parts as
/// [`crate::device::Device::kept_parts`] tells them.
fn next_with_more(alloc: &Alloc, parts: &[(u64, u64, u64)], from: u64) -> Option<u64> {
    let has_more = |(start, len, kept): &&(u64, u64, u64)| {
        let known = len - alloc.unbacked_bytes_in(*start, *len);
        start + len > from && *kept >= known + BACK_CHUNK_BYTES_MIN
    };
    parts.iter().find(has_more).map(|(start, _, _)| from.max(*start))
}

impl Store {
    /// Makes sure that at least this much is free and backed, asking the host for more where needed.
    pub fn secure(&self, alloc: &mut Alloc, room: Room) -> Result<(), StoreError> {
        let mut chunk = BACK_CHUNK_BYTES;
        while alloc.free_bytes() < room.bytes || alloc.node_bytes() < room.node_bytes {
            let Some((addr, len)) = alloc.next_to_back(chunk) else {
                // Better content that stays away from home than none.
                if alloc.keep_nothing() > 0 {
                    continue;
                }
                return Err(StoreError::NoSpace);
            };
            match self.back(alloc, addr, len) {
                // The host may still have room for less.
                Err(DeviceError::NoSpace) if chunk > BACK_CHUNK_BYTES_MIN => chunk /= 4,
                Err(DeviceError::NoSpace) if alloc.keep_nothing() > 0 => {}
                Err(DeviceError::NoSpace) => return self.look_for_backed(alloc, room),
                done => done?,
            }
        }
        self.look_ahead(alloc.free_bytes(), room.bytes);
        Ok(())
    }

    /// The host has no room. What it has kept for the store since earlier mounts may lie behind what it has not, and is not known:
    /// each piece is asked for once, some at a time, but for parts of which the host tells that it keeps no more than is known.
    fn look_for_backed(&self, alloc: &mut Alloc, room: Room) -> Result<(), StoreError> {
        let is_over = |store: &Store| store.looked_for_backed_to.load(Relaxed) >= store.device.size();
        let parts =
            if is_over(self) { None } else { MutexGuard::unlocked(alloc, || self.device.kept_parts()) };
        for _ in 0..BACKED_TRIES {
            if alloc.free_bytes() >= room.bytes && alloc.node_bytes() >= room.node_bytes {
                return Ok(());
            }
            let mut from = self.looked_for_backed_to.load(Relaxed);
            if let Some(parts) = &parts {
                from = next_with_more(alloc, parts, from).unwrap_or(self.device.size());
                self.looked_for_backed_to.fetch_max(from, Relaxed);
            }
            let Some((addr, len)) = alloc.next_to_back_from(BACK_CHUNK_BYTES_MIN, from) else { break };
            self.looked_for_backed_to.store(addr + len, Relaxed);
            match self.back(alloc, addr, len) {
                Err(DeviceError::NoSpace) => {}
                done => done?,
            }
        }
        Err(StoreError::NoSpace)
    }

    /// Hands out a range that content belongs to, backed. False if it is in use, or the host has no room.
    pub fn take_home(&self, addr: u64, len: u64) -> Result<bool, StoreError> {
        let taken = self.alloc().take_home(addr, len);
        match taken {
            None => Ok(false),
            Some(true) => Ok(true),
            Some(false) => {
                let _turn = self.space_turn.lock();
                let backed = self.back_on_device(addr, len);
                if backed.is_err() {
                    self.alloc().take_back(addr, len);
                }
                match backed {
                    Ok(()) => Ok(true),
                    Err(DeviceError::NoSpace) => Ok(false),
                    Err(e) => Err(e.into()),
                }
            }
        }
    }

    /// Gives free space back to the host while more than `keep` bytes stay at hand.
    pub fn trim(&self, keep: u64) {
        let picked = self.alloc.lock().pick_to_discard(DISCARD_GRAIN_BYTES, keep);
        for (addr, len) in picked {
            // From behind, so that a file of the host that ends there becomes shorter with each piece.
            let mut end = addr + len;
            while end > addr {
                let at = end.saturating_sub(DISCARD_BYTES_MAX).max(addr);
                let _turn = self.space_turn.lock();
                let Ok(_changing) = self.changing() else { return };
                self.device.discard(at, end - at);
                self.alloc.lock().discarded(at, end - at);
                end = at;
            }
        }
    }
    /// Has the host promise space for a range, whose unbacked parts become free. The allocator is unlocked meanwhile, and
    /// `space_turn` keeps the range from being given back before the allocator knows of the promise.
    pub(super) fn back(&self, alloc: &mut Alloc, addr: u64, len: u64) -> Result<(), DeviceError> {
        let _turn = MutexGuard::unlocked(alloc, || {
            let turn = self.space_turn.lock();
            self.back_on_device(addr, len).map(|()| turn)
        })?;
        alloc.backed(addr, len);
        Ok(())
    }

    /// Calls `back` for each part of a range that is not unbacked, which it stays meanwhile: for a device that has come since the
    /// host of another promised space for it.
    ///
    /// # Errors
    /// Those of `back`.
    pub fn promise_again<E>(
        &self,
        (addr, len): (u64, u64),
        back: impl Fn(u64, u64) -> Result<(), E>,
    ) -> Result<(), E> {
        for at in (addr..addr + len).step_by(BACK_CHUNK_BYTES as usize) {
            let _turn = self.space_turn.lock();
            let parts = self.alloc().not_unbacked_of(at, BACK_CHUNK_BYTES.min(addr + len - at));
            parts.into_iter().try_for_each(|(at, len)| back(at, len))?;
        }
        Ok(())
    }

    /// Does something while the host neither promises space nor takes any back: no range that is unbacked is one that the host has
    /// promised space for and the allocator does not know of yet. Nobody else takes that turn in `work`.
    pub fn while_promises_stay<T>(&self, work: impl FnOnce() -> T) -> T {
        let _turn = self.space_turn.lock();
        work()
    }

    fn back_on_device(&self, addr: u64, len: u64) -> Result<(), DeviceError> {
        let closed = |e: StoreError| DeviceError::refused(std::io::ErrorKind::Other, e.to_string());
        let _changing = self.changing().map_err(closed)?;
        self.device.back(addr, len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Device, Mirror, Sim};
    use crate::fixtures::{Hooked, Hooks, together_label};
    use crate::store::Allocator;
    use std::sync::Arc;

    const SIZE: u64 = 8 << 30;
    const KEPT_AT: u64 = 5 << 30;
    const KEPT: u64 = 8 << 20;

    /// Tells what it keeps, in files of 1 GiB.
    struct Directory;

    impl Hooks for Directory {
        fn kept_parts(&self) -> Option<Vec<(u64, u64, u64)>> {
            let kept = |at| if at == KEPT_AT { KEPT } else { 0 };
            Some((0..SIZE).step_by(1 << 30).map(|at| (at, 1 << 30, kept(at))).collect())
        }
    }

    #[test]
    fn full_hosts_of_both_sides_of_a_mirror_are_asked_only_where_they_have_kept_something() {
        let sims = [1, 2].map(|n| Arc::new(Sim::new(SIZE, n)));
        for sim in &sims {
            // As an earlier mount has left it.
            sim.back(KEPT_AT, KEPT).unwrap();
            sim.set_space_limit(sim.backed_bytes());
        }
        let [a, b] = sims.clone().map(|sim| Arc::new(Hooked::over_shared(sim, Directory)));
        let mirror = Arc::new(Mirror::together([(a, together_label(1)), (b, together_label(2))], 7));
        let store = Store::new(mirror.clone(), 1, Allocator::new(0, SIZE));
        let refused = |bytes: u64| store.secure(&mut store.alloc(), Room::default().and(bytes)).is_err();
        let asked = || sims[0].counts().backs.max(sims[1].counts().backs);
        assert!(!refused(KEPT), "what both have kept is found at once");
        assert!(asked() < 64, "in {} calls", asked());
        let before = asked();
        assert!(refused(2 * KEPT));
        assert!(asked() < before + 64, "in {} calls", asked() - before);
        assert_eq!(mirror.sides(), [0, 1]);
    }
}
