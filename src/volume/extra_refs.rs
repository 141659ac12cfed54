//! Extra references: address ranges that more than one reference reaches (blocks shared by `copy_file_range`).
//!
//! Sparse: a range without an entry has one reference. Consulted only when a reference is freed, inside a commit. In
//! memory whole, mirrored in the meta tree item by item.

use std::collections::{BTreeMap, BTreeSet};

/// Ranges `start -> (length, extra references)`, disjoint.
#[derive(Clone, Default)]
pub struct ExtraRefs {
    map: BTreeMap<u64, (u64, u32)>,
    /// How many bytes all references have more than the ranges.
    bytes: u64,
    dirty: BTreeSet<u64>,
}

impl ExtraRefs {
    /// While loading: an entry as it stands in the meta tree. False if it is no range or overlaps another.
    pub fn load(&mut self, addr: u64, len: u64, extra: u32) -> bool {
        let Some(end) = addr.checked_add(len) else { return false };
        let free = self.map.range(..end).next_back().is_none_or(|(s, (l, _))| s + l <= addr);
        if !free || len == 0 || extra == 0 || self.map.contains_key(&addr) {
            return false;
        }
        self.set(addr, Some((len, extra)));
        true
    }

    /// All entries as (start, length, extra).
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64, u32)> + '_ {
        self.map.iter().map(|(s, (l, n))| (*s, *l, *n))
    }

    /// How many ranges have more than one reference.
    pub fn count(&self) -> usize {
        self.map.len()
    }

    /// True if each range has one reference.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// How many bytes all references have more than the ranges.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Cuts entries so that none crosses `at`.
    fn cut(&mut self, at: u64) {
        if let Some((s, (l, n))) = self.map.range(..at).next_back().map(|(s, e)| (*s, *e))
            && s + l > at
        {
            self.put(s, at - s, n);
            self.put(at, s + l - at, n);
        }
    }

    fn put(&mut self, addr: u64, len: u64, extra: u32) {
        self.dirty.insert(addr);
        self.set(addr, (extra > 0).then_some((len, extra)));
    }

    fn set(&mut self, addr: u64, entry: Option<(u64, u32)>) {
        let before = match entry {
            Some(entry) => self.map.insert(addr, entry),
            None => self.map.remove(&addr),
        };
        let bytes = |entry: Option<(u64, u32)>| entry.map_or(0, |(len, n)| len.saturating_mul(n.into()));
        self.bytes = self.bytes.saturating_sub(bytes(before)).saturating_add(bytes(entry));
    }

    /// One more reference to the range.
    pub fn add(&mut self, addr: u64, len: u64) {
        self.cut(addr);
        self.cut(addr + len);
        let mut at = addr;
        let inside: Vec<_> = self.map.range(addr..addr + len).map(|(s, e)| (*s, *e)).collect();
        for (s, (l, n)) in inside {
            if s > at {
                self.put(at, s - at, 1);
            }
            self.put(s, l, n + 1);
            at = s + l;
        }
        if at < addr + len {
            self.put(at, addr + len - at, 1);
        }
    }

    /// The parts of a range with their extra references, which may be none.
    pub fn parts(&self, addr: u64, len: u64) -> Vec<(u64, u64, u32)> {
        let (mut at, end, mut out) = (addr, addr + len, Vec::new());
        let before = self.map.range(..addr).next_back().filter(|(s, (l, _))| *s + l > addr);
        for (start, (had, extra)) in before.into_iter().chain(self.map.range(addr..end)) {
            if *start > at {
                out.push((at, start - at, 0));
                at = *start;
            }
            let part = (start + had).min(end) - at;
            out.push((at, part, *extra));
            at += part;
        }
        if at < end {
            out.push((at, end - at, 0));
        }
        out
    }

    /// The range has one reference, or none, from now on.
    pub fn clear(&mut self, addr: u64, len: u64) {
        self.cut(addr);
        self.cut(addr + len);
        let inside: Vec<_> = self.map.range(addr..addr + len).map(|(s, (l, _))| (*s, *l)).collect();
        inside.into_iter().for_each(|(s, l)| self.put(s, l, 0));
    }

    /// True if a part of the range has more than one reference.
    pub fn overlaps(&self, addr: u64, len: u64) -> bool {
        self.map.range(..addr.saturating_add(len)).next_back().is_some_and(|(s, (l, _))| s + l > addr)
    }

    /// One reference less; returns the parts that nobody refers to any more.
    pub fn release(&mut self, addr: u64, len: u64) -> Vec<(u64, u64)> {
        if !self.overlaps(addr, len) {
            return vec![(addr, len)];
        }
        self.cut(addr);
        self.cut(addr + len);
        let (mut at, mut freed) = (addr, Vec::new());
        let inside: Vec<_> = self.map.range(addr..addr + len).map(|(s, e)| (*s, *e)).collect();
        for (s, (l, n)) in inside {
            if s > at {
                freed.push((at, s - at));
            }
            self.put(s, l, n - 1);
            at = s + l;
        }
        if at < addr + len {
            freed.push((at, addr + len - at));
        }
        freed
    }

    /// Entries that changed since the last call: the new value, or none if it is gone.
    pub fn take_changes(&mut self) -> Vec<(u64, Option<(u64, u32)>)> {
        std::mem::take(&mut self.dirty).into_iter().map(|a| (a, self.map.get(&a).copied())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_counters_per_block() {
        let mut rng = fastrand::Rng::with_seed(5);
        let (mut refs, mut count) = (ExtraRefs::default(), [1u32; 40]);
        for _ in 0..20_000 {
            let (s, l) = (rng.usize(0..36), rng.usize(1..5));
            let range = s..s + l;
            for (at, len, extra) in refs.parts(s as u64, l as u64) {
                assert!(count[at as usize..(at + len) as usize].iter().all(|n| *n == extra + 1));
            }
            if rng.u8(..50) == 0 {
                refs.clear(s as u64, l as u64);
                count[range.clone()].fill(1);
            }
            if rng.bool() && count[range.clone()].iter().all(|c| (1..6).contains(c)) {
                refs.add(s as u64, l as u64);
                count[range].iter_mut().for_each(|c| *c += 1);
            } else if count[range.clone()].iter().all(|c| *c > 0) {
                let freed: u64 = refs.release(s as u64, l as u64).iter().map(|(_, l)| l).sum();
                count[range.clone()].iter_mut().for_each(|c| *c -= 1);
                assert_eq!(freed as usize, count[range.clone()].iter().filter(|c| **c == 0).count());
                count[range].iter_mut().filter(|c| **c == 0).for_each(|c| *c = 1);
            }
        }
        let extra: u64 = refs.iter().map(|(_, l, n)| l * u64::from(n)).sum();
        assert_eq!(extra, count.iter().map(|c| u64::from(*c - 1)).sum::<u64>());
    }
}
