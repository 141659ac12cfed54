//! A set of byte ranges, for counting what is backed.
//!
//! Invariant: the ranges are not empty, do not touch each other, and `total` is the sum of their lengths.
//! It knows no limits; callers compare [`ByteRanges::total`] with theirs.

use std::collections::BTreeMap;

/// Disjoint half-open ranges `start..end`, merged where they touch.
#[derive(Clone, Debug, Default)]
pub(super) struct ByteRanges {
    ranges: BTreeMap<u64, u64>,
    total: u64,
}

impl ByteRanges {
    /// Bytes in the set.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Whether any byte of `start..end` is in the set.
    pub fn touches(&self, start: u64, end: u64) -> bool {
        self.overlapping(start, end).next().is_some()
    }

    /// The parts of `start..end` that are not in the set, in order.
    pub fn gaps(&self, start: u64, end: u64) -> Vec<(u64, u64)> {
        let mut gaps = Vec::new();
        let mut from = start;
        for (held_start, held_end) in self.overlapping(start, end) {
            if held_start > from {
                gaps.push((from, held_start));
            }
            from = from.max(held_end);
        }
        if from < end {
            gaps.push((from, end));
        }
        gaps
    }

    /// Adds `start..end`.
    pub fn insert(&mut self, mut start: u64, mut end: u64) {
        if start >= end {
            return;
        }
        if self.ranges.range(..=start).next_back().is_some_and(|(_, held_end)| *held_end >= end) {
            return;
        }
        self.remove(start, end);
        self.total += end - start;
        if let Some((&before, &before_end)) = self.ranges.range(..start).next_back()
            && before_end == start
        {
            self.ranges.remove(&before);
            start = before;
        }
        if let Some(after_end) = self.ranges.remove(&end) {
            end = after_end;
        }
        self.ranges.insert(start, end);
    }

    /// Adds as much of `start..end` as `total` may grow to `total_max`, from the front. Whether all of it fitted.
    pub fn insert_within(&mut self, start: u64, end: u64, total_max: u64) -> bool {
        for (gap_start, gap_end) in self.gaps(start, end) {
            let room = total_max.saturating_sub(self.total);
            if gap_end - gap_start > room {
                self.insert(gap_start, gap_start + room);
                return false;
            }
            self.insert(gap_start, gap_end);
        }
        true
    }

    /// Takes `start..end` out.
    pub fn remove(&mut self, start: u64, end: u64) {
        let hit: Vec<(u64, u64)> = self.overlapping(start, end).collect();
        for (held_start, held_end) in hit {
            self.ranges.remove(&held_start);
            self.total -= held_end.min(end) - held_start.max(start);
            if held_start < start {
                self.ranges.insert(held_start, start);
            }
            if held_end > end {
                self.ranges.insert(end, held_end);
            }
        }
    }

    fn overlapping(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, u64)> {
        let first = self.ranges.range(..=start).next_back().filter(|(_, held_end)| **held_end > start);
        let from = first.map_or(start, |(held_start, _)| *held_start);
        let to = if start < end { end } else { from };
        self.ranges.range(from..to).map(|(held_start, held_end)| (*held_start, *held_end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behaves_like_a_set_of_numbers() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut set = ByteRanges::default();
        let mut model = [false; 64];
        for _ in 0..20_000 {
            let start = rng.usize(0..64);
            let end = rng.usize(start..=64);
            let insert = rng.bool();
            if insert {
                set.insert(start as u64, end as u64)
            } else {
                set.remove(start as u64, end as u64)
            }
            model[start..end].fill(insert);
            assert_eq!(set.total(), model.iter().filter(|held| **held).count() as u64);

            let (start, end) = (rng.usize(0..32), rng.usize(32..=64));
            let free: u64 = set.gaps(start as u64, end as u64).iter().map(|(from, to)| to - from).sum();
            assert_eq!(free, model[start..end].iter().filter(|held| !**held).count() as u64);
            assert_eq!(set.touches(start as u64, end as u64), model[start..end].contains(&true));
            let mut last_end = None;
            for (from, to) in &set.ranges {
                assert!(from < to && last_end.is_none_or(|last| last < *from));
                last_end = Some(*to);
            }
        }
    }

    #[test]
    fn inserts_a_prefix_when_there_is_no_room() {
        let mut set = ByteRanges::default();
        set.insert(4, 6);
        assert!(!set.insert_within(0, 10, 7));
        assert_eq!(set.gaps(0, 10), [(7, 10)]);
        assert!(set.insert_within(2, 6, 0));
    }
}
