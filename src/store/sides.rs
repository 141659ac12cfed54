//! Reading what can be proved from a mirror: from whichever side proves it, and the bad place of another is made good.
//!
//! The rules are those of second copies: a place is written over only with exactly the bytes that it must hold, while
//! its reader keeps it from being used for something else, and only if it is part of a committed state.

use super::{BadSide, Reading, Result, Store, StoreError};

impl Store {
    /// Fills `buf` from `addr` so that `prove` holds. A scrub reads all sides; others a second one only if the first
    /// does not prove.
    pub(super) fn read_sides<T>(
        &self,
        addr: u64,
        buf: &mut [u8],
        prove: impl Fn(&[u8]) -> Result<T>,
    ) -> Result<T> {
        let is_mirror = self.device.is_mirror();
        let first = match self.reading {
            Reading::Scrub if is_mirror => None,
            _ => Some(self.read_to_prove(addr, buf).and_then(|()| prove(buf))),
        };
        match first {
            Some(found) if found.is_ok() || !is_mirror => return found,
            _ => {}
        }
        let (mut good, mut bad) = (None, Vec::new());
        for side in self.device.sides() {
            let mut bytes = vec![0; buf.len()];
            match self.read_raw_side(side, addr, &mut bytes).and_then(|()| prove(&bytes)) {
                Ok(proved) => {
                    good.get_or_insert((bytes, proved));
                }
                Err(e) => bad.push((side, e)),
            }
        }
        let Some((bytes, proved)) = good else {
            let error = bad.into_iter().map(|(_, e)| e).next();
            return Err(error.unwrap_or_else(|| StoreError::Device("no side of the mirror is there".into())));
        };
        buf.copy_from_slice(&bytes);
        for (side, e) in bad {
            self.heal_side(side, addr, &bytes, &e);
        }
        Ok(proved)
    }

    /// The place `addr` of one side does not hold `good`, as another does.
    fn heal_side(&self, side: usize, addr: u64, good: &[u8], cause: &StoreError) {
        if !self.device.sides().contains(&side) {
            return; // it went away meanwhile, which says nothing of the place
        }
        let len = good.len() as u64;
        let _turn = self.rewrites.healing();
        if self.rewrites.is_purged(addr, len) {
            return; // nobody is to have it again
        }
        let settled = self.alloc.lock().is_settled(addr, len);
        if self.reading == Reading::Scrub && !settled {
            return; // freed since the scrub took its state: nothing is lost with it
        }
        let may_heal = self.reading != Reading::Prove && self.health.may_heal() && settled;
        if may_heal {
            self.health.writes_again(addr, len);
        }
        let healed = may_heal && self.write_raw_side(side, addr, good).is_ok();
        if healed {
            self.health.healed(addr);
            log::warn!("healed {len} bytes at {addr:#x} on side {side} of the mirror: {cause}");
        }
        if self.reading != Reading::Serve {
            let what = cause.to_string();
            self.bad_sides.lock().push(BadSide { side, addr, len, healed, what });
        }
    }

    /// What an auditor's store has met of bad places on one side since the last call.
    pub fn take_bad_sides(&self) -> Vec<BadSide> {
        std::mem::take(&mut self.bad_sides.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Allocator;
    use super::*;
    use crate::device::{Device, Mirror, Op, Persistence, Sim};
    use crate::fixtures::together_labels;
    use std::sync::Arc;

    const SIZE: u64 = 16 << 20;
    const AT: u64 = 8 << 20;

    /// A side that does not take what another has is left out. The last one is not: it stays, and the place is known to be bad.
    #[test]
    fn what_the_last_side_does_not_take_is_bad_there() {
        let sims = [1, 2].map(|n| Arc::new(Sim::new(SIZE, n)));
        let ([a, b], [one, two]) = (sims.clone(), together_labels());
        let mirror = Arc::new(Mirror::together([(a, one), (b, two)], 7));
        let store = Store::new(mirror.clone(), 1, Allocator::new(0, SIZE));
        for (side, bad) in [(1, 0), (0, 1)] {
            sims[side].fail(Op::Write, 1, Persistence::Once);
            assert!(store.write_raw_side(side, AT, &[7; 4096]).is_err());
            assert_eq!((mirror.sides(), store.health().damage().bad), (vec![0], bad), "side {side}");
        }
        assert!(store.write_raw_side(0, AT, &[7; 4096]).is_ok(), "it goes on");
    }
}
