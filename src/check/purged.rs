//! Content that was purged: each record of references that lead to nothing counts as many as there are, a place that stays wiped
//! has a reference, and so has a leaf that was rewritten.

use super::refs::Refs;
use crate::format::deadlist::DeadEntry;
use crate::format::purge::{GoneRecord, HeldRecord, LeafRecord};
use crate::format::{Epoch, Key, NODE_BYTES};
use crate::store::RangeSet;
use crate::volume::audit::Committed;
use crate::volume::remap::Remap;
use std::collections::BTreeSet;

/// References that lead to nothing, and leaves that references lead to.
#[derive(Default)]
pub(super) struct PurgedContent {
    refs: Refs,
    leaves: BTreeSet<u64>,
}

/// What is wrong with a record, and the items that are right in its place, if that is known.
pub(super) struct WrongRecord {
    pub what: String,
    pub items: Vec<(Key, Option<Vec<u8>>)>,
}

impl PurgedContent {
    /// A reference is resolved.
    pub fn resolve(&mut self, state: &Committed, e: &DeadEntry) {
        self.gone(&state.remap, e);
        let end = e.addr.saturating_add(e.len);
        let met = state.leaves.range(e.addr..end).filter(|(_, leaf)| leaf.birth == e.birth);
        self.leaves.extend(met.map(|(addr, _)| *addr).filter(|addr| addr + NODE_BYTES as u64 <= end));
    }

    fn gone(&mut self, remap: &Remap, e: &DeadEntry) {
        for (addr, len) in remap.nothing_of(e.addr, e.len, e.birth) {
            self.refs.add(addr, len, Epoch(1), 1);
        }
    }

    /// After all claims: what is wrong with the records. If not all trees were read, fewer references may be known than there are.
    pub fn judge(&self, state: &Committed, claims: &[(u64, u64)], complete: bool) -> Vec<WrongRecord> {
        let mut wrong = self.counts(state, complete);
        if complete {
            wrong.extend(wiped(state, claims));
            wrong.extend(state.leaves.iter().filter(|(addr, _)| !self.leaves.contains(addr)).map(
                |(addr, leaf)| {
                    WrongRecord {
                        what: format!(
                            "the leaf at {addr:#x} of epoch {} was rewritten, and nothing refers to it",
                            leaf.birth.0
                        ),
                        items: LeafRecord::piece_keys(*addr)
                            .filter(|_| leaf.in_pieces)
                            .chain([LeafRecord::key(*addr)])
                            .map(|key| (key, None))
                            .collect(),
                    }
                },
            ));
        }
        wrong
    }

    fn counts(&self, state: &Committed, complete: bool) -> Vec<WrongRecord> {
        let mut difference = self.refs.clone();
        for (addr, gone) in state.remap.purged.gone() {
            difference.add(addr, gone.len, Epoch(1), -(gone.refs as i64));
        }
        let mut wrong = Vec::new();
        let mut amended: BTreeSet<u64> = BTreeSet::new();
        for (addr, len, n) in difference.counts(Epoch(0)).filter(|(.., n)| complete || *n > 0) {
            let (kind, n) = (if n > 0 { "more" } else { "fewer" }, n.unsigned_abs());
            let what =
                format!("{n} {kind} references to {addr:#x}+{len} lead to nothing than their record counts");
            let mut items = Vec::new();
            for (at, gone) in state.remap.purged.gone() {
                let meets = at < addr + len && addr < at + gone.len;
                if meets && amended.insert(at) {
                    items.push((GoneRecord::key(at), None));
                    items.extend(self.amended(at, gone));
                }
            }
            wrong.push(WrongRecord { what, items });
        }
        wrong
    }

    /// The records that are right in the place of one.
    fn amended(&self, at: u64, gone: GoneRecord) -> Vec<(Key, Option<Vec<u8>>)> {
        let mut right = Vec::new();
        for (addr, len, n) in self.refs.counts(Epoch(0)) {
            let (from, to) = (addr.max(at), (addr + len).min(at + gone.len));
            if from < to {
                let record = GoneRecord { len: to - from, refs: n.unsigned_abs(), ..gone };
                right.push((GoneRecord::key(from), Some(record.encode())));
            }
        }
        right
    }
}

/// Places that stay wiped, and nobody refers to all of them.
fn wiped(state: &Committed, claims: &[(u64, u64)]) -> Vec<WrongRecord> {
    let places: Vec<(u64, HeldRecord)> = state.remap.purged.held().filter(|(_, held)| held.wiped).collect();
    if places.is_empty() {
        return Vec::new();
    }
    let mut claimed = RangeSet::new();
    for (addr, len) in claims.iter().filter(|(addr, len)| addr.checked_add(*len).is_some()) {
        claimed.take(*addr, *len);
        claimed.insert(*addr, *len);
    }
    let stray = places.into_iter().filter(|(addr, held)| !claimed.contains(*addr, held.len));
    let wrong = |(addr, held): (u64, HeldRecord)| {
        let what = format!("the place {addr:#x}+{} was wiped, and not all of it is referred to", held.len);
        let left = claimed.clipped(addr, held.len);
        let left = left.map(|(at, len)| (HeldRecord::key(at), Some(HeldRecord { len, ..held }.encode())));
        WrongRecord { what, items: [(HeldRecord::key(addr), None)].into_iter().chain(left).collect() }
    };
    stray.map(wrong).collect()
}
