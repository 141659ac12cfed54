//! Which slots are taken, and the generations that tell their holders apart.
//!
//! Next fit: a slot that was given back is taken again as late as possible. A slot is taken as long as a record of the
//! newest state on the device has it, or somebody reads what had it.

use crate::format::{Epoch, Generation, Slot, ViewId};

/// Slots and generations of a store.
#[derive(Clone)]
pub(super) struct Slots {
    /// A bit for each slot, up to the last word that was needed.
    taken: Vec<u64>,
    /// Where the search goes on.
    next: u32,
    /// Next generation; none when all are used up.
    next_generation: Generation,
    leaving: Vec<Leaving>,
}

/// A slot whose holder was deleted.
#[derive(Clone)]
struct Leaving {
    slot: Slot,
    /// The snapshot that had it; none if it was a line's.
    view: Option<ViewId>,
    /// Epoch of the deletion.
    epoch: Epoch,
}

impl Slots {
    /// All slots are free.
    pub fn new(next_generation: Generation) -> Slots {
        Slots { taken: Vec::new(), next: 1, next_generation, leaving: Vec::new() }
    }

    /// Next generation; none when all are used up.
    pub fn next_generation(&self) -> Generation {
        self.next_generation
    }

    fn is_taken(&self, slot: Slot) -> bool {
        self.taken.get(slot.0 as usize / 64).is_some_and(|word| word >> (slot.0 % 64) & 1 == 1)
    }

    /// True for a slot that can be taken.
    pub fn is_free(&self, slot: Slot) -> bool {
        slot < Slot::END && !self.is_taken(slot)
    }

    /// Takes a slot that a record says is taken. False if it is, or is none.
    pub fn take(&mut self, slot: Slot) -> bool {
        if !self.is_free(slot) {
            return false;
        }
        let word = slot.0 as usize / 64;
        if self.taken.len() <= word {
            self.taken.resize(word + 1, 0);
        }
        self.taken[word] |= 1 << (slot.0 % 64);
        self.next = slot.0 + 1;
        true
    }

    /// A free slot, if there is one. It is not taken yet.
    pub fn find(&self) -> Option<Slot> {
        self.free_in(self.next, Slot::END.0).or_else(|| self.free_in(1, self.next))
    }

    /// Another free slot than this one, which is free.
    pub fn find_besides(&self, slot: Slot) -> Option<Slot> {
        self.free_in(slot.0 + 1, Slot::END.0).or_else(|| self.free_in(1, slot.0))
    }

    fn free_in(&self, from: u32, to: u32) -> Option<Slot> {
        let mut at = from;
        while at < to {
            // Bits of the word below `at` count as taken.
            let below = (1u64 << (at % 64)) - 1;
            let word = self.taken.get(at as usize / 64).copied().unwrap_or(0) | below;
            if word != u64::MAX {
                let slot = at / 64 * 64 + word.trailing_ones();
                return (slot < to).then_some(Slot(slot));
            }
            at = (at / 64 + 1) * 64;
        }
        None
    }

    /// `count` new generations, if there are so many: the first. They are not taken yet.
    pub fn find_generations(&self, count: u32) -> Option<Generation> {
        let first = self.next_generation;
        (first.0 != 0 && first.0.checked_add(count - 1).is_some()).then_some(first)
    }

    /// A generation that is used is not given out again.
    pub fn use_generation(&mut self, generation: Generation) {
        if self.next_generation.0 != 0 && generation >= self.next_generation {
            self.next_generation = Generation(generation.0.wrapping_add(1));
        }
    }

    /// What had the slot was deleted in this epoch: it is free once [`Slots::release`] says so.
    pub fn leave(&mut self, slot: Slot, view: Option<ViewId>, epoch: Epoch) {
        self.leaving.push(Leaving { slot, view, epoch });
    }

    /// The state that closed `epoch` is on the device: frees the slots that none of its records has and for which nobody
    /// reads. Views of which `is_kept` is true have a record or a reader; live views are read from `oldest` on, and lines
    /// whose slot `is_known` have users.
    pub fn release(
        &mut self,
        epoch: Epoch,
        oldest: Option<Epoch>,
        is_kept: impl Fn(ViewId) -> bool,
        is_known: impl Fn(Slot) -> bool,
    ) {
        let taken = &mut self.taken;
        self.leaving.retain(|l| {
            let kept = match l.view {
                Some(view) => is_kept(view),
                None => is_known(l.slot) || oldest.is_some_and(|oldest| oldest <= l.epoch),
            };
            if !kept && l.epoch <= epoch {
                taken[l.slot.0 as usize / 64] &= !(1 << (l.slot.0 % 64));
                return false;
            }
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(slots: &mut Slots) -> Option<Slot> {
        let slot = slots.find()?;
        assert!(slots.take(slot), "{slot:?} is free");
        Some(slot)
    }

    #[test]
    fn the_last_slot_is_given_and_then_no_other() {
        let mut slots = Slots::new(Generation(3));
        assert!(slots.take(Slot::MAIN));
        assert!((1..Slot::END.0).all(|n| take(&mut slots) == Some(Slot(n))));
        assert_eq!(take(&mut slots), None);
        assert_eq!(slots.find_besides(Slot(9)), None);
        assert!(!slots.take(Slot::END) && !slots.take(Slot(5)));
        slots.leave(Slot(5), None, Epoch(1));
        slots.leave(Slot(Slot::END.0 - 1), Some(ViewId(8)), Epoch(2));
        slots.release(Epoch(2), Some(Epoch(1)), |view| view == ViewId(8), |_| false);
        slots.release(Epoch(2), None, |view| view == ViewId(8), |slot| slot == Slot(5));
        assert_eq!(take(&mut slots), None, "both are read");
        slots.release(Epoch(1), Some(Epoch(2)), |_| false, |_| false);
        assert_eq!((take(&mut slots), take(&mut slots)), (Some(Slot(5)), None));
        slots.release(Epoch(2), None, |_| false, |_| false);
        assert_eq!((take(&mut slots), take(&mut slots)), (Some(Slot(Slot::END.0 - 1)), None));
    }

    #[test]
    fn what_was_given_back_comes_last() {
        let mut slots = Slots::new(Generation(3));
        assert!(slots.take(Slot::MAIN));
        assert_eq!([take(&mut slots), take(&mut slots)], [Some(Slot(1)), Some(Slot(2))]);
        slots.leave(Slot(1), None, Epoch(1));
        slots.release(Epoch(1), None, |_| false, |_| false);
        assert_eq!(take(&mut slots), Some(Slot(3)));
    }

    #[test]
    fn generations_end() {
        let mut slots = Slots::new(Generation(u32::MAX - 1));
        assert_eq!(slots.find_generations(2), Some(Generation(u32::MAX - 1)));
        assert_eq!(slots.find_generations(3), None);
        slots.use_generation(Generation(u32::MAX));
        assert_eq!((slots.next_generation(), slots.find_generations(1)), (Generation(0), None));
    }
}
