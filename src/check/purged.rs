//! Content that was purged: each record of references that lead to nothing counts as many as there are.

use super::refs::Refs;
use crate::format::Epoch;
use crate::format::deadlist::DeadEntry;
use crate::volume::remap::{Purged, Remap};

/// References that lead to nothing.
#[derive(Default)]
pub(super) struct PurgedContent {
    refs: Refs,
}

impl PurgedContent {
    /// A reference is resolved.
    pub fn resolve(&mut self, remap: &Remap, e: &DeadEntry) {
        for (addr, len) in remap.nothing_of(e.addr, e.len, e.birth) {
            self.refs.add(addr, len, Epoch(1), 1);
        }
    }

    /// After all claims: what is wrong with the records. If not all trees were read, fewer references may be known than there are.
    pub fn judge(&mut self, purged: &Purged, complete: bool) -> Vec<String> {
        for (addr, gone) in purged.gone() {
            self.refs.add(addr, gone.len, Epoch(1), -(gone.refs as i64));
        }
        let counts = self.refs.counts(Epoch(0)).filter(|(.., n)| complete || *n > 0);
        let wrong = counts.map(|(addr, len, n)| {
            let what = if n > 0 { "more" } else { "fewer" };
            let n = n.unsigned_abs();
            format!("{n} {what} references to {addr:#x}+{len} lead to nothing than their record counts")
        });
        wrong.collect()
    }
}
