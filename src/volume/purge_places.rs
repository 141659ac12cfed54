//! The places of what is to be purged, and who else has some of them.

use crate::format::purge::PURGED_INLINE;
use crate::format::view::{Role, ViewRecord};
use crate::format::{Epoch, Extent, Ino, Key, Kind, LineId, Slot, ViewId};
use crate::store::RangeSet;
use crate::tree::{Step, Visit, walk};
use crate::volume::audit::Committed;
use crate::volume::{Result, View, Volume};
use std::collections::BTreeSet;
use std::sync::Arc;

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
        let left = || view.shared.places.runs_left(extent);
        !self.0.is_empty() && !extent.is_unwritten() && self.overlaps(&left())
    }

    fn overlaps(&self, runs: &[(u64, u64)]) -> bool {
        runs.iter().any(|(addr, len)| self.0.overlaps(*addr, *len))
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
        let (state, mut found) = (self.committed()?, BTreeSet::new());
        state.each_extent(&mut |view, ino, extent| {
            let has_some = || places.overlaps(&state.remap.runs_left(extent));
            if !extent.is_unwritten() && has_some() {
                found.insert((view, ino));
            }
            true
        })?;
        Ok(found)
    }
}

impl Volume {
    /// The views that have a tree and are of no line, with what numbers of their nodes carry: what lines are compared with, and what was
    /// deleted and is there as long as somebody reads it. What is in the trash is not among them.
    pub fn views_of_no_line(&self) -> Result<Vec<(Arc<View>, Slot)>> {
        let state = self.state.read();
        let is_nobodys = |view: &&ViewRecord| {
            view.line == LineId::NONE && view.role != Role::Hidden && !state.is_in_trash(view.id)
        };
        let with_tree = |view: &&ViewRecord| state.roots.contains_key(&view.id);
        let all = state.history.views().filter(is_nobodys).filter(with_tree);
        all.map(|view| Ok((self.view_of_snapshot(&state, view.id)?, view.slot))).collect()
    }
}

/// Content of files of a view: at which places it is, and what is in the tree itself.
#[derive(Default)]
pub struct ContentSet {
    places: PlaceSet,
    inline: BTreeSet<Vec<u8>>,
}

impl View {
    /// The files from which content was purged. Reads all of its tree.
    pub fn purged_files(&self) -> Result<BTreeSet<Ino>> {
        let mut found = BTreeSet::new();
        for item in self.range(&Key::MIN, &Key::MAX) {
            let (key, value) = item?;
            if self.is_item_purged(&key, &value)? {
                found.insert(Ino(key.object));
            }
        }
        Ok(found)
    }

    /// Adds what files have of content here.
    pub fn add_content_of(&self, files: &BTreeSet<Ino>, content: &mut ContentSet) -> Result<()> {
        for item in self.range(&Key::MIN, &Key::MAX) {
            let (key, value) = item?;
            match Kind::from_u8(key.kind) {
                _ if !files.contains(&Ino(key.object)) => {}
                Some(Kind::Extent) => content.places.add(self, &Extent::decode(&value)?),
                Some(Kind::Inline) if *value != *PURGED_INLINE => drop(content.inline.insert(value.to_vec())),
                _ => {}
            }
        }
        Ok(())
    }

    /// True if it has some of that content, in whatever file. What is in the tree itself counts by what it says.
    pub fn has_some_of(&self, content: &ContentSet) -> Result<bool> {
        for item in self.range(&Key::MIN, &Key::MAX) {
            let (key, value) = item?;
            let has = match Kind::from_u8(key.kind) {
                Some(Kind::Extent) => content.places.has_some_of(self, &Extent::decode(&value)?),
                Some(Kind::Inline) => content.inline.contains(&*value),
                _ => false,
            };
            if has {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_item_purged(&self, key: &Key, value: &[u8]) -> Result<bool> {
        Ok(match Kind::from_u8(key.kind) {
            Some(Kind::Extent) => self.is_purged(&Extent::decode(value)?),
            Some(Kind::Inline) => *value == *PURGED_INLINE,
            _ => false,
        })
    }

    /// True if content was purged from some file of it. Reads all of its tree, or as far as to the first such.
    pub fn lacks_content(&self) -> Result<bool> {
        for item in self.range(&Key::MIN, &Key::MAX) {
            let (key, value) = item?;
            if self.is_item_purged(&key, &value)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Committed {
    /// Each extent of each view, in the oldest view that has it, until `f` says no. Those of hidden views nobody has read.
    pub(super) fn each_extent(&self, f: &mut dyn FnMut(ViewId, Ino, &Extent) -> bool) -> Result<()> {
        let mut goes_on = true;
        for record in self.records.iter().filter(|record| record.role != Role::Hidden) {
            let Some(root) = record.root else { continue };
            // What a hidden view has nobody else has read.
            let below = record.prev.and_then(|prev| self.history.get(prev));
            let base = below.filter(|below| below.role != Role::Hidden).map_or(Epoch(0), |below| below.epoch);
            walk(&self.pager, &root, base, &mut |visit| {
                if let Visit::Item(key, value) = visit
                    && key.kind == Kind::Extent as u8
                {
                    goes_on = f(record.id, Ino(key.object), &Extent::decode(value)?);
                }
                Ok(if goes_on { Step::Into } else { Step::Stop })
            })?;
            if !goes_on {
                break;
            }
        }
        Ok(())
    }
}
