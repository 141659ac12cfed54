//! Where content is, for everybody who reads a volume and for whoever shares: one table beside the trees, and the reading of
//! content that may move meanwhile.
//!
//! Any thread may call. The lock is a leaf, held over no I/O. A record that is gone from the committed state stays here until
//! nobody can have an older root: no other reference ever has its address and birth, so it misleads nobody.

use super::table::{Remap, Wiped, reference};
use crate::format::deadlist::DeadEntry;
use crate::format::remap::RemapRecord;
use crate::format::{BlockAddr, Epoch, Extent, PlacedExtent};
use crate::store::{RangeSet, Store, StoreError};
use parking_lot::RwLock;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where content is now.
#[derive(Default)]
pub struct Places {
    table: RwLock<Table>,
    /// How often something has moved; 0 while nothing ever has.
    moves: AtomicU64,
}

#[derive(Default)]
struct Table {
    remap: Remap,
    /// References that commits of these epochs let go of.
    gone: VecDeque<(Epoch, Vec<DeadEntry>)>,
    /// Places that were purged, and that they let go of.
    unheld: VecDeque<(Epoch, Vec<(u64, u64)>)>,
    /// Places that are about to be purged: nobody else comes to refer to them.
    closing: RangeSet,
}

impl Places {
    /// As a state has it.
    pub fn of(remap: &Remap) -> Places {
        let moves = AtomicU64::new(u64::from(!remap.is_empty() || !remap.purged.is_empty()));
        Places { table: RwLock::new(Table { remap: remap.clone(), ..Table::default() }), moves }
    }

    fn moves(&self) -> u64 {
        self.moves.load(Ordering::Acquire)
    }

    /// The commit of `epoch` is in force: these have moved, and these references are gone.
    pub fn publish(&self, epoch: Epoch, moved: &[RemapRecord], gone: Vec<DeadEntry>) {
        if moved.is_empty() && gone.is_empty() {
            return;
        }
        let mut table = self.table.write();
        for record in moved {
            assert!(table.remap.insert(record), "{record:?} meets another");
        }
        if !gone.is_empty() {
            table.gone.push_back((epoch, gone));
        }
        // Nobody asks it for items.
        drop(table.remap.take_changes());
        self.moves.fetch_add(1, Ordering::Release);
    }

    /// A commit is about to purge these places, which are disjoint, unless others have come to share them before.
    pub fn may_not_be_shared(&self, places: &[(u64, u64)]) {
        let mut table = self.table.write();
        for (addr, len) in places {
            table.closing.insert(*addr, *len);
        }
        self.moves.fetch_add(1, Ordering::Release);
    }

    /// That commit is in force.
    pub fn may_be_shared(&self) {
        self.table.write().closing = RangeSet::new();
    }

    /// True if some content of an extent is purged, or about to be.
    pub fn is_closed(&self, extent: &Extent) -> bool {
        let closing = |runs: &[(u64, u64)]| {
            let table = self.table.read();
            runs.iter().any(|(addr, len)| table.closing.overlaps(*addr, *len))
        };
        self.is_purged(extent) || (self.moves() != 0 && closing(&self.runs(extent)))
    }

    /// These places are purged: whoever refers to them reads nothing more.
    pub fn hold(&self, places: &[(u64, u64)]) {
        let mut table = self.table.write();
        for (addr, len) in places {
            table.remap.purged.hold(*addr, *len);
        }
        drop(table.remap.purged.take_changes());
        self.moves.fetch_add(1, Ordering::Release);
    }

    /// A commit of `epoch` let go of these places, where zeros were.
    pub fn forget_places(&self, epoch: Epoch, places: &[(u64, u64)]) {
        if !places.is_empty() {
            self.table.write().unheld.push_back((epoch, places.to_vec()));
        }
    }

    /// What was held is written over.
    pub fn settle_purged(&self, held: &[(u64, u64)], wiped: &Wiped) {
        let mut table = self.table.write();
        table.remap.take_over_purged(held, wiped);
        drop(table.remap.purged.take_changes());
        self.moves.fetch_add(1, Ordering::Release);
    }

    /// True if some content of an extent was purged.
    pub fn is_purged(&self, extent: &Extent) -> bool {
        let DeadEntry { addr, len, birth } = reference(extent);
        self.moves() != 0 && self.table.read().remap.is_purged(addr, len, birth)
    }

    /// Nobody reaches any more what commits before this epoch let go of.
    pub fn forget(&self, before: Epoch) {
        if self.moves() == 0 {
            return;
        }
        let mut table = self.table.write();
        while table.gone.front().is_some_and(|(epoch, _)| *epoch < before) {
            let gone = table.gone.pop_front().map(|(_, gone)| gone).unwrap_or_default();
            for entry in gone {
                table.remap.release(&entry);
            }
        }
        while table.unheld.front().is_some_and(|(epoch, _)| *epoch < before) {
            let unheld = table.unheld.pop_front().map(|(_, unheld)| unheld).unwrap_or_default();
            for (addr, len) in unheld {
                table.remap.purged.forget_place(addr, len);
            }
        }
        drop((table.remap.take_changes(), table.remap.purged.take_changes()));
    }

    /// Where the content of an extent is, part by part in order.
    pub fn resolve<'e>(&self, extent: &'e Extent) -> Vec<PlacedExtent<'e>> {
        if self.moves() == 0 {
            vec![PlacedExtent::in_place(extent)]
        } else {
            self.table.read().remap.resolve(extent)
        }
    }

    /// Every place that a reference has.
    pub fn of_reference(&self, addr: u64, len: u64, birth: Epoch) -> Vec<(u64, u64)> {
        match self.moves() {
            0 => vec![(addr, len)],
            _ => self.table.read().remap.places(addr, len, birth),
        }
    }

    /// True if two extents are of one length and kind and have their content at the same place.
    pub fn are_one(&self, a: &Extent, b: &Extent) -> bool {
        let alike = (a.len, a.frame, &a.crcs) == (b.len, b.frame, &b.crcs);
        alike && ((a.raw_addr, a.birth) == (b.raw_addr, b.birth) || self.runs(a) == self.runs(b))
    }

    /// Where the content of an extent is, in runs.
    pub fn runs(&self, extent: &Extent) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for part in self.resolve(extent) {
            let len = part.extent().stored_bytes();
            match runs.last_mut() {
                Some((at, before)) if *at + *before == part.addr() => *before += len,
                _ => runs.push((part.addr(), len)),
            }
        }
        runs
    }

    /// The same of content that was not purged.
    pub fn runs_left(&self, extent: &Extent) -> Vec<(u64, u64)> {
        match self.moves() {
            0 => vec![(extent.raw_addr.0, extent.stored_bytes())],
            _ => self.table.read().remap.runs_left(extent),
        }
    }

    /// True if all content of an extent is where the extent says.
    pub fn is_in_place(&self, extent: &Extent) -> bool {
        let (addr, len) = (extent.raw_addr.0, extent.stored_bytes());
        self.moves() == 0 || self.table.read().remap.is_in_place(addr, len, extent.birth)
    }

    /// True if something that has moved is at the place that an extent names.
    pub fn has_moved_to(&self, extent: &Extent) -> bool {
        let (addr, len) = (extent.raw_addr.0, extent.stored_bytes());
        self.moves() != 0 && self.table.read().remap.has_moved_to(addr, len)
    }

    /// Number of ranges that have moved.
    pub fn count(&self) -> usize {
        self.table.read().remap.len()
    }

    /// Reads `out.len()` bytes from offset `from` of an extent (both multiples of 4096), proved. `read` is told each run
    /// that was read, where it begins and how long it is.
    pub fn read(
        &self,
        store: &Store,
        extent: &Extent,
        from: u64,
        out: &mut [u8],
        read: &mut dyn FnMut(u64, u64),
    ) -> Result<(), StoreError> {
        if extent.is_unwritten() {
            return store.read_extent(&PlacedExtent::in_place(extent), from, out);
        }
        let purged = || StoreError::Purged(BlockAddr(extent.raw_addr.0));
        if extent.is_compressed() {
            if self.is_purged(extent) {
                return Err(purged());
            }
            let read = store.read_extent(&PlacedExtent::in_place(extent), from, out);
            // Zeros may have come there meanwhile.
            return if self.is_purged(extent) { Err(purged()) } else { read };
        }
        let part;
        let wanted = if from == 0 && out.len() as u64 == extent.len_bytes() {
            extent
        } else {
            part = extent.slice(from, out.len() as u64);
            &part
        };
        self.read_plain(store, &[wanted], out, read)
    }

    /// Reads content of neighbours, none of them compressed or unwritten, proved: `out` is as long as these are together. What
    /// lies in one run is read at once. `read` is told as there.
    pub fn read_plain(
        &self,
        store: &Store,
        wanted: &[&Extent],
        out: &mut [u8],
        read: &mut dyn FnMut(u64, u64),
    ) -> Result<(), StoreError> {
        let purged = || wanted.iter().find(|extent| self.is_purged(extent));
        loop {
            let before = self.moves();
            if let Some(extent) = purged() {
                return Err(StoreError::Purged(BlockAddr(extent.raw_addr.0)));
            }
            let placed = self.resolve_in_runs(wanted);
            let (mut at, mut bad) = (0, None);
            for part in &placed {
                let len = part.extent().len_bytes() as usize;
                if let Err(e) = store.prove_extent(part, &mut out[at..at + len]) {
                    bad = Some(e);
                    break;
                }
                at += len;
            }
            // Who has moved what was being read may have let others write over it.
            if self.moves() != before && (self.resolve_in_runs(wanted) != placed || purged().is_some()) {
                continue;
            }
            return match bad {
                Some((addr, _)) if store.rewrites().is_purged(addr, 1) => {
                    Err(StoreError::Purged(BlockAddr(addr)))
                }
                Some((addr, e)) => Err(store.note_bad(addr, e)),
                None => {
                    placed.iter().for_each(|part| read(part.addr(), part.extent().len_bytes()));
                    Ok(())
                }
            };
        }
    }

    /// Where the content of these is, in order, as few parts as there are runs.
    fn resolve_in_runs<'e>(&self, extents: &[&'e Extent]) -> Vec<PlacedExtent<'e>> {
        let mut runs: Vec<PlacedExtent<'e>> = Vec::new();
        for part in extents.iter().flat_map(|extent| self.resolve(extent)) {
            if !runs.last_mut().is_some_and(|run| run.join(&part)) {
                runs.push(part);
            }
        }
        runs
    }
}
