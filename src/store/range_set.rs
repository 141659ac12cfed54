//! A set of byte ranges: disjoint, merged, ordered by address. Pure.

use crate::format::NODE_BYTES;
use std::collections::{BTreeMap, BTreeSet};

const NODE: u64 = NODE_BYTES as u64;

/// Disjoint ranges `start -> length`, neighbours merged.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct RangeSet {
    map: BTreeMap<u64, u64>,
    bytes: u64,
    node_bytes: u64,
    lengths: Option<Box<Lengths>>,
}

/// Starts of ranges by the binary logarithm of their length, so that a long one is found among any number of short ones.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Lengths([BTreeSet<u64>; u64::BITS as usize]);

impl Lengths {
    fn of(&mut self, len: u64) -> &mut BTreeSet<u64> {
        &mut self.0[len.ilog2() as usize]
    }
}

impl RangeSet {
    /// Empty.
    pub fn new() -> RangeSet {
        RangeSet::default()
    }

    /// Empty, and can be searched by length: [`RangeSet::first_of`], [`RangeSet::long_from`].
    pub fn searchable() -> RangeSet {
        let lengths = Lengths(std::array::from_fn(|_| BTreeSet::new()));
        RangeSet { lengths: Some(Box::new(lengths)), ..RangeSet::default() }
    }

    /// Sum of the lengths.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Sum of the lengths as far as tree nodes fit in, one behind the other.
    pub fn node_bytes(&self) -> u64 {
        self.node_bytes
    }

    fn put(&mut self, start: u64, len: u64) {
        self.node_bytes += len / NODE * NODE;
        self.map.insert(start, len);
        if let Some(lengths) = &mut self.lengths {
            lengths.of(len).insert(start);
        }
    }

    fn pull(&mut self, start: u64) -> Option<u64> {
        let len = self.map.remove(&start)?;
        self.node_bytes -= len / NODE * NODE;
        if let Some(lengths) = &mut self.lengths {
            lengths.of(len).remove(&start);
        }
        Some(len)
    }

    /// Number of ranges.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// True without any range.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// All ranges as (start, length), ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.map.iter().map(|(s, l)| (*s, *l))
    }

    /// Ranges from the first that ends behind `at`, ascending.
    pub fn iter_from(&self, at: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let before = self.map.range(..at).next_back().filter(|(s, l)| **s + **l > at);
        before.into_iter().chain(self.map.range(at..)).map(|(s, l)| (*s, *l))
    }

    /// The first range that begins at `from` or later and has `len` bytes (1 or more). If `len` is no power of two, it may
    /// be missed among many that are a little too short.
    pub fn first_of(&self, len: u64, from: u64) -> Option<(u64, u64)> {
        const LOOK_MAX: usize = 256;
        let lengths = &self.lengths.as_ref().expect("a searchable set").0;
        let class = len.ilog2() as usize;
        let longer = &lengths[class + usize::from(!len.is_power_of_two())..];
        let mut found = longer.iter().filter_map(|l| l.range(from..).next().copied()).min();
        if !len.is_power_of_two() {
            let mut alike = lengths[class].range(from..found.unwrap_or(u64::MAX)).take(LOOK_MAX);
            found = alike.find(|s| self.map[s] >= len).copied().or(found);
        }
        found.map(|s| (s, self.map[&s]))
    }

    /// A range of at least half the length of the longest, if there is one the first that begins at `from` or later.
    pub fn long_from(&self, from: u64) -> Option<(u64, u64)> {
        let lengths = &self.lengths.as_ref().expect("a searchable set").0;
        let longest = lengths.iter().rfind(|l| !l.is_empty())?;
        let start = longest.range(from..).next().or_else(|| longest.first())?;
        Some((*start, self.map[start]))
    }

    /// What of `start..start + len` is in the set, in order.
    pub fn clipped(&self, start: u64, len: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let end = start.saturating_add(len);
        self.iter_from(start).take_while(move |(s, _)| *s < end).map(move |(s, l)| {
            let from = s.max(start);
            (from, (s + l).min(end) - from)
        })
    }

    /// True if a part of the range is there.
    pub fn overlaps(&self, start: u64, len: u64) -> bool {
        self.map.range(..start + len).next_back().is_some_and(|(s, l)| s + l > start)
    }

    /// Adds a range. False, and no change, if a part of it is there already.
    pub fn insert(&mut self, start: u64, len: u64) -> bool {
        if len == 0 {
            return true;
        }
        let before = self.map.range(..start + len).next_back().map(|(s, l)| (*s, *l));
        if before.is_some_and(|(s, l)| s + l > start) {
            return false;
        }
        self.bytes += len;
        let (mut start, mut len) = (start, len);
        if let Some((s, l)) = before
            && s + l == start
        {
            self.pull(s);
            (start, len) = (s, l + len);
        }
        if let Some(l) = self.pull(start + len) {
            len += l;
        }
        self.put(start, len);
        true
    }

    /// Removes a range that is wholly inside. False, and no change, if it is not.
    pub fn remove(&mut self, start: u64, len: u64) -> bool {
        if len == 0 {
            return true;
        }
        let Some((s, l)) = self.map.range(..=start).next_back().map(|(s, l)| (*s, *l)) else { return false };
        if s + l < start + len {
            return false;
        }
        self.bytes -= len;
        self.pull(s);
        if s < start {
            self.put(s, start - s);
        }
        if start + len < s + l {
            self.put(start + len, s + l - start - len);
        }
        true
    }

    /// The parts of a range that are there.
    pub fn clone_part(&self, start: u64, len: u64) -> Vec<(u64, u64)> {
        let end = start + len;
        self.iter_from(start)
            .take_while(|(s, _)| *s < end)
            .map(|(s, l)| (s.max(start), (s + l).min(end) - s.max(start)))
            .collect()
    }

    /// Removes whatever of the range is there and returns the removed parts.
    pub fn take(&mut self, start: u64, len: u64) -> Vec<(u64, u64)> {
        let parts = self.clone_part(start, len);
        for (s, l) in &parts {
            assert!(self.remove(*s, *l));
        }
        parts
    }

    /// True if all of the range is inside.
    pub fn contains(&self, start: u64, len: u64) -> bool {
        self.map.range(..=start).next_back().is_some_and(|(s, l)| s + l >= start + len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_a_bitmap() {
        let mut rng = fastrand::Rng::with_seed(3);
        let (mut set, mut bits) = (RangeSet::searchable(), [false; 64]);
        for _ in 0..50_000 {
            let (s, l) = (rng.usize(0..60), rng.usize(1..5));
            let (all, none) = (bits[s..s + l].iter().all(|b| *b), bits[s..s + l].iter().all(|b| !*b));
            assert_eq!(set.contains(s as u64, l as u64), all);
            assert_eq!(set.overlaps(s as u64, l as u64), !none);
            match rng.u8(0..3) {
                0 => {
                    assert_eq!(set.insert(s as u64, l as u64), none);
                    if none {
                        bits[s..s + l].fill(true);
                    }
                }
                1 => {
                    assert_eq!(set.remove(s as u64, l as u64), all);
                    if all {
                        bits[s..s + l].fill(false);
                    }
                }
                _ => {
                    let taken: u64 = set.take(s as u64, l as u64).iter().map(|(_, l)| l).sum();
                    assert_eq!(taken as usize, bits[s..s + l].iter().filter(|b| **b).count());
                    bits[s..s + l].fill(false);
                }
            }
            assert_eq!(set.bytes() as usize, bits.iter().filter(|b| **b).count());
            assert_eq!(set.node_bytes(), set.iter().map(|(_, l)| l / NODE * NODE).sum::<u64>());
            assert!(set.iter().zip(set.iter().skip(1)).all(|(a, b)| a.0 + a.1 < b.0));
            let (s, l) = (s as u64, l as u64);
            assert_eq!(set.first_of(l, s), set.iter().find(|(start, len)| *start >= s && *len >= l));
            let longest = set.iter().map(|(_, len)| len).max();
            let long = set.long_from(s);
            assert!(long.is_none_or(|(start, len)| set.contains(start, len)));
            assert!(long.map(|(_, len)| len) > longest.map(|len| len / 2) || longest.is_none());
        }
    }
}
