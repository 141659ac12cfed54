//! Multisets of references to ranges of blocks, by birth: the arithmetic of the audit.

use crate::format::Epoch;
use std::collections::BTreeMap;

/// How often each byte is referred to, as steps: address -> change of the count.
type Steps = BTreeMap<u64, i64>;

/// References by birth: the same address may be referred to again under another birth.
#[derive(Clone, Default)]
pub(super) struct Refs(BTreeMap<Epoch, Steps>);

impl Refs {
    /// Adds `times` references to a range; negative ones take away.
    pub fn add(&mut self, addr: u64, len: u64, birth: Epoch, times: i64) {
        let steps = self.0.entry(birth).or_default();
        *steps.entry(addr).or_default() += times;
        *steps.entry(addr.saturating_add(len)).or_default() -= times;
    }

    /// Adds all references of another multiset born up to `until`.
    pub fn add_all(&mut self, other: &Refs, until: Epoch, times: i64) {
        for (birth, steps) in other.0.range(..=until) {
            let own = self.0.entry(*birth).or_default();
            for (addr, step) in steps {
                *own.entry(*addr).or_default() += step * times;
            }
        }
    }

    /// Ranges with their counts (not 0) born after `than`, in order.
    pub fn counts(&self, than: Epoch) -> impl Iterator<Item = (u64, u64, i64)> + '_ {
        self.0.range(than.next()..).flat_map(|(_, steps)| counts(steps))
    }

    /// Ranges with their births and counts (not 0), in order of birth.
    pub fn by_birth(&self) -> impl Iterator<Item = (Epoch, u64, u64, i64)> + '_ {
        self.by_birth_after(Epoch(0))
    }

    /// Those of them that were born after `than`.
    pub fn by_birth_after(&self, than: Epoch) -> impl Iterator<Item = (Epoch, u64, u64, i64)> + '_ {
        self.0
            .range(than.next()..)
            .flat_map(|(birth, steps)| counts(steps).map(|(addr, len, n)| (*birth, addr, len, n)))
    }

    /// Bytes whose count is above and below zero.
    pub fn imbalance(&self) -> (u64, u64) {
        self.counts(Epoch(0)).fold((0, 0), |(above, below), (_, len, n)| {
            if n > 0 { (above + len * n as u64, below) } else { (above, below + len * n.unsigned_abs()) }
        })
    }

    /// For each byte the greater of two counts.
    pub fn max(&self, other: &Refs) -> Refs {
        let mut out = self.clone();
        for (birth, steps) in &other.0 {
            // max(a, b) = a + max(b - a, 0)
            let mut difference = steps.clone();
            for (addr, step) in self.0.get(birth).into_iter().flatten() {
                *difference.entry(*addr).or_default() -= step;
            }
            for (addr, len, n) in counts(&difference).filter(|(_, _, n)| *n > 0) {
                out.add(addr, len, *birth, n);
            }
        }
        out
    }
}

fn counts(steps: &Steps) -> impl Iterator<Item = (u64, u64, i64)> + '_ {
    let mut count = 0;
    let next = steps.keys().skip(1).copied().chain([u64::MAX]);
    steps.iter().zip(next).filter_map(move |((addr, step), next)| {
        count += step;
        (count != 0).then_some((*addr, next - addr, count))
    })
}
