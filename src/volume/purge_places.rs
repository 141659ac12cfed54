//! The places of what is to be purged, and who else has some of them.

use crate::format::view::Role;
use crate::format::{Epoch, Extent, Ino, Kind, ViewId};
use crate::store::RangeSet;
use crate::tree::{Step, Visit, walk};
use crate::volume::{Result, View, Volume};
use std::collections::BTreeSet;

/// Places of content, wherever it has moved.
#[derive(Clone, Default)]
pub struct PlaceSet(RangeSet);

impl PlaceSet {
    /// Adds the places of an extent, as far as they have its content still.
    pub fn add(&mut self, view: &View, extent: &Extent) {
        if extent.is_unwritten() {
            return;
        }
        for (addr, len) in view.shared.places.runs_left(extent) {
            self.0.take(addr, len);
            self.0.insert(addr, len);
        }
    }

    /// True if some content of an extent is at one of them. What was purged from it is nowhere, whoever has its place now.
    pub fn has_some_of(&self, view: &View, extent: &Extent) -> bool {
        !self.0.is_empty()
            && !extent.is_unwritten()
            && view.shared.places.runs_left(extent).iter().any(|(at, len)| self.0.overlaps(*at, *len))
    }

    /// All of them, ascending, none in another.
    pub fn ranges(&self) -> Vec<(u64, u64)> {
        self.0.iter().collect()
    }

    /// Their bytes.
    pub fn bytes(&self) -> u64 {
        self.0.bytes()
    }
}

impl Volume {
    /// Which inodes have content at these places, and in which view each was first met: all leaves of all views are read. For
    /// a state that has been committed.
    pub fn inodes_at(&self, places: &PlaceSet) -> Result<BTreeSet<(ViewId, Ino)>> {
        let state = self.committed()?;
        let mut found = BTreeSet::new();
        for record in state.records.iter().filter(|record| record.role != Role::Hidden) {
            let Some(root) = record.root else { continue };
            // What a hidden view has nobody else has read.
            let below = record.prev.and_then(|prev| state.history.get(prev));
            let base = below.filter(|below| below.role != Role::Hidden).map_or(Epoch(0), |below| below.epoch);
            walk(&state.pager, &root, base, &mut |visit| {
                if let Visit::Item(key, value) = visit
                    && key.kind == Kind::Extent as u8
                {
                    let extent = Extent::decode(value)?;
                    let runs = state.remap.runs_left(&extent);
                    let met = runs.iter().any(|(at, len)| places.0.overlaps(*at, *len));
                    if met && !extent.is_unwritten() {
                        found.insert((record.id, Ino(key.object)));
                    }
                }
                Ok(Step::Into)
            })?;
        }
        Ok(found)
    }
}
