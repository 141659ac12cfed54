//! A view: one root, read-only. The live tree and every snapshot are the same type.

use super::remap::Places;
use super::{Result, VolumeError};
use crate::format::deadlist::DeadEntry;
use crate::format::{Epoch, Extent, Key, Slot, ViewId};
use crate::store::Store;
use crate::tree::{self, Child, DiffItem, Item, Pager};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Runs of which so much is read at once belong to a stream.
const STREAM_BYTES_MIN: u64 = 64 << 10;

/// What all views of a volume share: where nodes come from and who is reading.
pub(super) struct Shared {
    pub pager: Pager,
    /// Where content is.
    pub places: Places,
    /// Readers of live views by epoch: what they may reach is not reused.
    readers: Mutex<BTreeMap<Epoch, usize>>,
    /// Readers of snapshots: a deleted one stays in the history until they are gone.
    snapshot_readers: Mutex<HashMap<ViewId, usize>>,
    /// How often one of these has come or gone.
    snapshot_readers_changed: AtomicU64,
    /// Those who know numbers of nodes of a line, by its slot: it is nobody else's until they are gone.
    line_users: Mutex<HashMap<Slot, usize>>,
}

impl Shared {
    pub fn new(pager: Pager, places: Places) -> Shared {
        Shared {
            pager,
            places,
            readers: Mutex::default(),
            snapshot_readers: Mutex::default(),
            snapshot_readers_changed: AtomicU64::new(0),
            line_users: Mutex::default(),
        }
    }

    pub fn store(&self) -> &Arc<Store> {
        self.pager.store()
    }

    /// Epoch of the oldest reader of a live view.
    pub fn oldest_reader(&self) -> Option<Epoch> {
        self.readers.lock().keys().next().copied()
    }

    /// True if somebody reads this snapshot.
    pub fn is_read(&self, id: ViewId) -> bool {
        self.snapshot_readers.lock().contains_key(&id)
    }

    /// How often a reader of any snapshot has come or gone.
    pub fn snapshot_readers_changed(&self) -> u64 {
        self.snapshot_readers_changed.load(SeqCst)
    }

    /// How many read this snapshot.
    pub fn readers_of(&self, id: ViewId) -> usize {
        self.snapshot_readers.lock().get(&id).copied().unwrap_or(0)
    }

    /// True if somebody knows numbers of nodes of the line that has, or had, this slot.
    pub fn is_known(&self, slot: Slot) -> bool {
        self.line_users.lock().contains_key(&slot)
    }
}

enum Hold {
    Epoch(Epoch),
    Snapshot(ViewId),
    Line(Slot),
}

/// Keeps what a view reaches from being reused.
pub(super) struct Pin {
    shared: Arc<Shared>,
    hold: Hold,
}

impl Pin {
    pub fn epoch(shared: &Arc<Shared>, epoch: Epoch) -> Arc<Pin> {
        *shared.readers.lock().entry(epoch).or_default() += 1;
        Arc::new(Pin { shared: shared.clone(), hold: Hold::Epoch(epoch) })
    }

    pub fn snapshot(shared: &Arc<Shared>, id: ViewId) -> Arc<Pin> {
        *shared.snapshot_readers.lock().entry(id).or_default() += 1;
        shared.snapshot_readers_changed.fetch_add(1, SeqCst);
        Arc::new(Pin { shared: shared.clone(), hold: Hold::Snapshot(id) })
    }
}

/// Keeps the slot of a line, also when the line is dropped.
pub struct LineHold(#[expect(dead_code, reason = "held, and not looked at")] Arc<Pin>);

impl LineHold {
    pub(super) fn new(shared: &Arc<Shared>, slot: Slot) -> LineHold {
        *shared.line_users.lock().entry(slot).or_default() += 1;
        LineHold(Arc::new(Pin { shared: shared.clone(), hold: Hold::Line(slot) }))
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        fn leave<K: Copy, M>(
            map: &mut M,
            key: K,
            get: impl Fn(&mut M, K) -> Option<&mut usize>,
            remove: impl Fn(&mut M, K),
        ) {
            if let Some(n) = get(map, key) {
                *n -= 1;
                if *n == 0 {
                    remove(map, key);
                }
            }
        }
        match self.hold {
            Hold::Epoch(e) => leave(
                &mut *self.shared.readers.lock(),
                e,
                |m, k| m.get_mut(&k),
                |m, k| {
                    m.remove(&k);
                },
            ),
            Hold::Line(slot) => leave(
                &mut *self.shared.line_users.lock(),
                slot,
                |m, k| m.get_mut(&k),
                |m, k| {
                    m.remove(&k);
                },
            ),
            Hold::Snapshot(id) => {
                leave(
                    &mut *self.shared.snapshot_readers.lock(),
                    id,
                    |m, k| m.get_mut(&k),
                    |m, k| {
                        m.remove(&k);
                    },
                );
                self.shared.snapshot_readers_changed.fetch_add(1, SeqCst);
            }
        }
    }
}

/// A readable root. Cheap to clone; any thread may read; no lock is held over I/O. What it reaches stays readable as
/// long as it exists.
#[derive(Clone)]
pub struct View {
    pub(super) id: ViewId,
    pub(super) epoch: Epoch,
    pub(super) root: Child,
    pub(super) shared: Arc<Shared>,
    pub(super) _pin: Option<Arc<Pin>>,
}

impl View {
    /// Its number.
    pub fn id(&self) -> ViewId {
        self.id
    }

    /// A snapshot's point in time; of a live view, the epoch in which it was taken.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The value of `key`.
    pub fn get(&self, key: &Key) -> Result<Option<Item>> {
        Ok(tree::get(&self.shared.pager, &self.root, key)?)
    }

    /// The greatest item in `floor..=key`.
    pub fn last_at_or_before(&self, key: &Key, floor: &Key) -> Result<Option<(Key, Item)>> {
        Ok(tree::last_at_or_before(&self.shared.pager, &self.root, key, floor)?)
    }

    /// How many nodes of the tree the keys `from..=to` are in, or would be; none if there are more than `most`.
    pub fn nodes_between(&self, from: &Key, to: &Key, most: usize) -> Result<Option<usize>> {
        Ok(tree::nodes_between(&self.shared.pager, &self.root, from, to, most)?)
    }

    /// Items in `from..to`, ascending.
    pub fn range(&self, from: &Key, to: &Key) -> impl Iterator<Item = Result<(Key, Item)>> + '_ {
        tree::range(&self.shared.pager, &self.root, from, to).map(|r| r.map_err(VolumeError::from))
    }

    /// Items in `from..to` that differ between this view and a newer one of the same store, ascending. Costs what differs.
    pub fn diff(&self, newer: &View, from: &Key, to: &Key) -> impl Iterator<Item = Result<DiffItem>> + '_ {
        debug_assert!(Arc::ptr_eq(&self.shared, &newer.shared), "both are of one store");
        tree::diff(&self.shared.pager, &self.root, &newer.root, from, to)
            .map(|r| r.map_err(VolumeError::from))
    }

    /// True if both are one tree, which they may be without it.
    pub fn is_same_tree(&self, other: &View) -> bool {
        tree::is_same(&self.root, &other.root)
    }

    /// Epoch in which the newest of the leaves came to be that the keys `from..to` are in, or would be. Each view below this
    /// one in the history whose point in time is not before that has the same leaves. Reads no leaves.
    pub fn newest_birth(&self, from: &Key, to: &Key) -> Result<Epoch> {
        Ok(tree::newest_birth(&self.shared.pager, &self.root, from, to)?)
    }

    /// Reads `out.len()` bytes from offset `from` of an extent (both multiples of 4096), verified.
    ///
    /// Much of a head at once is a stream, which whoever reads it keeps: the host need not keep it as well
    /// (docs/decisions/0015). What is read of a snapshot stays with the host, because other snapshots share it.
    pub fn read_extent(&self, extent: &Extent, from: u64, out: &mut [u8]) -> Result<()> {
        Ok(self.shared.places.read(self.shared.store(), extent, from, out, &mut self.release_behind())?)
    }

    /// Reads extents that follow each other, none of them compressed or unwritten, as [`Self::read_extent`] does each. What lies
    /// in one run is read at once.
    pub fn read_extents(&self, extents: &[&Extent], out: &mut [u8]) -> Result<()> {
        Ok(self.shared.places.read_plain(self.shared.store(), extents, out, &mut self.release_behind())?)
    }

    /// What is done where so many bytes of one run were read.
    fn release_behind(&self) -> impl FnMut(u64, u64) + '_ {
        let may_be_stream = !self.is_of_snapshot();
        move |place, len| {
            if may_be_stream && len >= STREAM_BYTES_MIN {
                self.shared.store().release_before(place);
            }
        }
    }

    /// True if it is held as a snapshot: what it reaches does not change as long as it is.
    pub fn is_of_snapshot(&self) -> bool {
        self._pin.as_ref().is_some_and(|pin| matches!(pin.hold, Hold::Snapshot(_)))
    }

    /// True if two extents refer to the same content by where it is; both of views of this volume.
    pub fn is_same_place(&self, a: &Extent, b: &Extent) -> bool {
        self.shared.places.are_one(a, b)
    }

    /// Where the content of an extent is: the first byte of each run, and the one behind it.
    pub fn runs_of(&self, extent: &Extent) -> Vec<(u64, u64)> {
        self.shared.places.runs(extent).into_iter().map(|(at, len)| (at, at + len)).collect()
    }

    /// Every place that a reference has.
    pub(super) fn places_of(&self, e: &DeadEntry) -> Vec<(u64, u64)> {
        self.shared.places.of_reference(e.addr, e.len, e.birth)
    }

    /// Says that the leaves will be read soon that the keys `from..to` are in. What goes wrong here is found by the read.
    pub fn will_need_leaves(&self, from: &Key, to: &Key) {
        let leaves = tree::leaves_to_read(&self.shared.pager, &self.root, from, to).unwrap_or_default();
        for ptr in leaves {
            self.shared.store().device().will_need(ptr.addr.0, u64::from(ptr.len));
        }
    }

    /// Says that `len` bytes from offset `from` of an extent (both multiples of 4096) will be read soon.
    pub fn will_need(&self, extent: &Extent, from: u64, len: u64) {
        if extent.is_compressed() || extent.is_unwritten() {
            return;
        }
        let part = extent.slice(from, len);
        for placed in self.shared.places.resolve(&part) {
            let len = placed.extent().len_bytes();
            self.shared.store().will_need(&placed, 0, len);
        }
    }
}
