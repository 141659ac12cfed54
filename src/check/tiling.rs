//! The claims against the space map and the extra references: invariant 5, and what would fulfil it.
//!
//! If every tree of a view was read, what nobody claims is free, whatever the map says. If not, space below what cannot
//! be read is kept: nothing that the map calls allocated becomes free, and no reference less is counted.

use super::derived::SpaceTruth;
use super::space::Auditor;
use crate::store::RangeSet;
use std::collections::BTreeMap;

/// How often a range is claimed, allocated and counted besides.
#[derive(Clone, Copy, Default)]
struct Counts {
    claimed: i64,
    allocated: i64,
    extra: i64,
}

impl Auditor<'_> {
    /// The claims, sorted, must cover the allocated ranges exactly, each as often as it has references.
    pub fn tiling(&mut self) {
        let mut edges: BTreeMap<u64, Counts> = BTreeMap::new();
        let mut add = |addr: u64, len: u64, change: &dyn Fn(&mut Counts, i64)| {
            change(edges.entry(addr).or_default(), 1);
            change(edges.entry(addr.saturating_add(len)).or_default(), -1);
        };
        for (addr, len) in std::mem::take(&mut self.claims) {
            add(addr, len, &|c, sign| c.claimed += sign);
        }
        for (addr, len) in self.state.allocated.iter() {
            add(addr, len, &|c, sign| c.allocated += sign);
        }
        for (addr, len, n) in &self.state.extra_refs {
            add(*addr, *len, &|c, sign| c.extra += sign * i64::from(*n));
        }
        let mut truth = Truth { allocated: RangeSet::new(), extra: Vec::new(), wrong_extra: false };
        let (mut sum, mut from) = (Counts::default(), 0);
        let mut right = self.state.map_is_readable;
        for (at, change) in edges {
            if at > from {
                right &= self.range(from..at, sum, &mut truth);
            }
            sum.claimed += change.claimed;
            sum.allocated += change.allocated;
            sum.extra += change.extra;
            from = at;
        }
        let had = self.state.superblock.allocated;
        let allocated = self.state.allocated.bytes();
        if self.state.map_is_readable && had != allocated {
            self.wrong(format!("the space map says {allocated} bytes are allocated, the superblock {had}"));
            right = false;
        }
        let extra = truth.wrong_extra.then_some(truth.extra);
        if !self.state.map_is_readable && !self.derived.complete {
            let what = "the space map cannot be made again: what is below lost nodes would count as free";
            self.report.problem(what.into());
        } else if !right || extra.is_some() {
            self.derived.space = Some(SpaceTruth { allocated: truth.allocated, extra_refs: extra });
        }
    }

    /// Judges one range whose counts are the same all over; false if the map must change.
    fn range(&mut self, range: std::ops::Range<u64>, counts: Counts, truth: &mut Truth) -> bool {
        let (from, at) = (range.start, range.end);
        let Counts { claimed, allocated, extra } = counts;
        let wanted = allocated + extra;
        let space = self.state.space();
        let outside = from < space.start || at > space.end;
        // Metadata has one reference; whatever else claims it, one of the two is not what it seems to be.
        let torn_between = claimed > 1 && self.metadata.iter_from(from).next().is_some_and(|(s, _)| s < at);
        self.derived.conflict |= torn_between;
        let agree = claimed == wanted && (allocated > 0 || extra == 0);
        if !agree && self.state.map_is_readable {
            let what = match (claimed, wanted) {
                (0, _) => "allocated, but nothing refers to it (leak)",
                (_, 0) => "referred to, but free",
                (c, w) if c > w => "referred to more often than counted",
                _ => "referred to less often than counted",
            };
            let what = format!("space {from:#x}..{at:#x}: {what} ({claimed} of {wanted})");
            let unknown = claimed < wanted && !self.derived.complete;
            if outside || torn_between || unknown { self.report.problem(what) } else { self.wrong(what) }
        } else if claimed > 0 && (outside || torn_between) {
            self.report.problem(format!(
                "space {from:#x}..{at:#x}: {}",
                if outside { "referred to, but outside of the store" } else { "referred to as two things" }
            ));
        }
        let references = if self.derived.complete { claimed } else { claimed.max(wanted) };
        if references > 0 && !outside {
            truth.allocated.insert(from, at - from);
        }
        let should = if torn_between || outside { extra } else { (references - 1).max(0) };
        if should > 0 {
            truth.add_extra(from, at - from, should as u32);
        }
        truth.wrong_extra |= should != extra;
        agree || (allocated > 0) == (references > 0)
    }
}

/// What the claims say.
struct Truth {
    allocated: RangeSet,
    extra: Vec<(u64, u64, u32)>,
    wrong_extra: bool,
}

impl Truth {
    fn add_extra(&mut self, addr: u64, len: u64, n: u32) {
        match self.extra.last_mut() {
            Some((a, l, m)) if *a + *l == addr && *m == n => *l += len,
            _ => self.extra.push((addr, len, n)),
        }
    }
}
