//! Sets of dead references to blocks, each known by where it points and when it was born.
//!
//! One tree may have several references to one block: files share it, or what one of them leads to was moved away and its
//! place was given out again. A birth says which are meant; of several with the same birth one is as good as another, and
//! the set counts them.

use crate::format::Epoch;
use crate::format::deadlist::DeadEntry;
use crate::store::RangeSet;
use std::collections::BTreeMap;

/// See the module.
#[derive(Clone, Default, Debug)]
pub struct DeadSet {
    /// Of each birth the blocks with at least one reference, with at least two, and so on: each lies within the one before.
    births: BTreeMap<Epoch, Vec<RangeSet>>,
}

impl DeadSet {
    /// Empty.
    pub fn new() -> DeadSet {
        DeadSet::default()
    }

    /// True if there is no reference.
    pub fn is_empty(&self) -> bool {
        self.births.values().flatten().all(RangeSet::is_empty)
    }

    /// Bytes of all references.
    pub fn bytes(&self) -> u64 {
        self.births.values().flatten().fold(0, |sum, layer| sum.saturating_add(layer.bytes()))
    }

    /// Adds a reference to each block of an entry.
    pub fn insert(&mut self, entry: &DeadEntry) {
        let layers = self.births.entry(entry.birth).or_default();
        let mut rest = vec![(entry.addr, entry.len)];
        for layer in layers.iter_mut() {
            let mut there = Vec::new();
            for (start, len) in rest {
                let parts = layer.clone_part(start, len);
                for (s, l) in gaps(start, len, &parts) {
                    layer.insert(s, l);
                }
                there.extend(parts);
            }
            rest = there;
            if rest.is_empty() {
                return;
            }
        }
        let mut layer = RangeSet::new();
        for (start, len) in rest {
            layer.insert(start, len);
        }
        layers.push(layer);
    }

    /// Adds all that another set has.
    pub fn extend(&mut self, other: &DeadSet) {
        for (birth, layers) in &other.births {
            for (addr, len) in layers.iter().flat_map(RangeSet::iter) {
                self.insert(&DeadEntry { addr, len, birth: *birth });
            }
        }
    }

    /// Removes a reference to each block of an entry that has one here: those blocks, by address.
    pub fn take(&mut self, entry: &DeadEntry) -> Vec<(u64, u64)> {
        let (mut taken, mut rest) = (Vec::new(), vec![(entry.addr, entry.len)]);
        for layer in self.births.get_mut(&entry.birth).into_iter().flatten().rev() {
            let mut left = Vec::new();
            for (start, len) in rest {
                let parts = layer.take(start, len);
                left.extend(gaps(start, len, &parts));
                taken.extend(parts);
            }
            rest = left;
        }
        taken.sort_unstable();
        taken
    }

    /// What both have, as often as both have it.
    pub fn intersection(&self, other: &DeadSet) -> DeadSet {
        let mut births = BTreeMap::new();
        for (birth, layers) in &self.births {
            let others = other.births.get(birth).map_or(&[][..], Vec::as_slice);
            let both: Vec<_> = layers
                .iter()
                .zip(others)
                .map(|(a, b)| common(a, b))
                .take_while(|layer| !layer.is_empty())
                .collect();
            if !both.is_empty() {
                births.insert(*birth, both);
            }
        }
        DeadSet { births }
    }
}

/// What of a range lies in none of its parts, which are in order.
fn gaps(start: u64, len: u64, parts: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let (mut out, mut at) = (Vec::new(), start);
    for (s, l) in parts.iter().copied().chain([(start + len, 0)]) {
        if at < s {
            out.push((at, s - at));
        }
        at = s + l;
    }
    out
}

fn common(a: &RangeSet, b: &RangeSet) -> RangeSet {
    let (few, many) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let mut out = RangeSet::new();
    for (start, len) in few.iter() {
        for (from, len) in many.clone_part(start, len) {
            out.insert(from, len);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    type Counts = BTreeMap<(u64, u64), u32>;

    fn counts(set: &DeadSet) -> Counts {
        let mut out = Counts::new();
        for (birth, layers) in &set.births {
            for (start, len) in layers.iter().flat_map(RangeSet::iter) {
                (start..start + len).for_each(|at| *out.entry((birth.0, at)).or_default() += 1);
            }
        }
        out
    }

    #[test]
    fn equals_counting_each_reference() {
        let mut rng = fastrand::Rng::with_seed(5);
        for _ in 0..300 {
            let mut sets = [DeadSet::new(), DeadSet::new()];
            let mut models = [Counts::new(), Counts::new()];
            for _ in 0..40 {
                let n = rng.usize(0..2);
                let (addr, len, birth) = (rng.u64(0..20), rng.u64(1..8), Epoch(rng.u64(0..3)));
                let entry = DeadEntry { addr, len, birth };
                let keys = (addr..addr + len).map(|at| (birth.0, at));
                match rng.u8(0..8) {
                    0..=4 => {
                        sets[n].insert(&entry);
                        keys.for_each(|key| *models[n].entry(key).or_default() += 1);
                    }
                    5 | 6 => {
                        let taken = sets[n].take(&entry);
                        let mut expected = Vec::new();
                        for key in keys {
                            if let Some(count) = models[n].get_mut(&key).filter(|count| **count > 0) {
                                *count -= 1;
                                expected.push(key.1);
                            }
                        }
                        let blocks: Vec<u64> = taken.iter().flat_map(|(s, l)| *s..s + l).collect();
                        assert_eq!(blocks, expected);
                    }
                    _ => {
                        let other = sets[1 - n].clone();
                        sets[n].extend(&other);
                        for (key, count) in models[1 - n].clone() {
                            *models[n].entry(key).or_default() += count;
                        }
                    }
                }
                models[n].retain(|_, count| *count > 0);
                assert_eq!(counts(&sets[n]), models[n]);
                assert_eq!(sets[n].bytes(), models[n].values().map(|count| u64::from(*count)).sum::<u64>());
                assert_eq!(sets[n].is_empty(), models[n].is_empty());
                let both = models[0].iter().filter_map(|(key, count)| {
                    let least = *count.min(models[1].get(key)?);
                    Some((*key, least))
                });
                assert_eq!(counts(&sets[0].intersection(&sets[1])), both.collect());
            }
        }
    }
}
