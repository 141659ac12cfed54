//! Where the tree of the wanted view begins: in the newest superblock from which it can be reached, or else in what a
//! scan of the device finds.
//!
//! Superblocks are tried newest first; one is good if the record of the view and the root of its tree can be read. An
//! older one shows the view as it was then. Without any, the scan finds the meta tree by its owner 0 and with it the
//! view records, and without these, the newest nodes of all are taken for those of the live tree. Holes below lost
//! nodes are filled from the scan in each case.

use super::items::SalvagedItems;
use super::leaves::Leaves;
use super::report::{SalvageError, SalvageProgress, Wanted};
use super::scan::{FoundNode, Scan, Scanned};
use crate::device::Device;
use crate::format::remap::RemapRecord;
use crate::format::superblock::Superblock;
use crate::format::view::{Role, ViewRecord};
use crate::format::{BlockPtr, Epoch, Key, Kind, LineId, ViewId};
use crate::names;
use crate::store::{Allocator, Store};
use crate::tree::{LostNode, Pager, Step, Visit, walk_readable};
use crate::volume::purge::LoadedLeaves;
use crate::volume::remap::Remap;
use crate::volume::ring;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Memory for clean nodes; leaves have a cache of their own.
const CACHE_BYTES: usize = 8 << 20;
/// Names of snapshots that a message tells of at most.
const NAMES_MAX: usize = 50;

/// A tree to write out, and where it comes from.
pub(super) struct Source {
    pub items: SalvagedItems,
    /// In words.
    pub told: Vec<String>,
    pub unreadable_bytes: u64,
    /// States that are newer than the one that was taken.
    pub newer_states: u64,
}

/// Finds the tree of the wanted view.
pub(super) fn find(
    device: &Arc<dyn Device>,
    wanted: &Wanted,
    progress: &mut dyn FnMut(SalvageProgress),
) -> Result<Source, SalvageError> {
    let mut told = Vec::new();
    let states = match ring::read(&**device) {
        Ok(rings) => rings.states,
        Err(e) => {
            told.push(e.to_string());
            Vec::new()
        }
    };
    let mut search = Search { device, wanted, told, progress, scan: None, names: BTreeSet::new() };
    if !wanted.by_scan {
        for (newer, state) in states.iter().enumerate() {
            if let Some(mut source) = search.in_state(state)? {
                source.newer_states = newer as u64;
                if newer > 0 {
                    source.told.push("what is newer may be found with --scan".into());
                }
                return Ok(source);
            }
        }
    }
    search.by_scan(states.first())
}

/// The records of views.
#[derive(Default)]
struct Views {
    records: BTreeMap<ViewId, ViewRecord>,
    /// Content that has moved.
    remap: Remap,
    /// Leaves that are not what pointers say.
    leaves: LoadedLeaves,
    /// No record can be missing.
    whole: bool,
}

struct Search<'a> {
    device: &'a Arc<dyn Device>,
    wanted: &'a Wanted,
    told: Vec<String>,
    progress: &'a mut dyn FnMut(SalvageProgress),
    scan: Option<Scan>,
    /// Snapshots that were met.
    names: BTreeSet<Vec<u8>>,
}

impl Search<'_> {
    fn pager(&self, fsid: u64) -> Pager {
        let store = Store::new(self.device.clone(), fsid, Allocator::new(0, 0));
        Pager::new(Arc::new(store), CACHE_BYTES)
    }

    /// The view as a superblock leads to it. None if it does not.
    fn in_state(&mut self, state: &Superblock) -> Result<Option<Source>, SalvageError> {
        let fsid = u64::from_le_bytes(state.uuid[..8].try_into().unwrap_or_default());
        if self.wanted.fsid.is_some_and(|wanted| wanted != fsid) {
            return Ok(None);
        }
        let pager = self.pager(fsid);
        let views = views_of_state(&pager, state);
        views.leaves.known_as_far_as_read(pager.store());
        let Some((record, root)) = self.pick(&views) else {
            if views.whole && self.wanted.snapshot.is_some() {
                return Err(self.no_such_snapshot());
            }
            self.told.push(format!("state {}: no record of the view can be read", state.seq));
            return Ok(None);
        };
        if let Err(e) = pager.load_uncached(&root) {
            self.told.push(format!("state {}: {e}", state.seq));
            return Ok(None);
        }
        self.told.push(format!("state {} of epoch {}", state.seq, state.epoch.0));
        let leaves = Leaves::below(&pager, &root);
        self.source(pager, leaves, &views, Some(record.id)).map(Some)
    }

    /// The view as the nodes on the device tell of it.
    fn by_scan(&mut self, newest: Option<&Superblock>) -> Result<Source, SalvageError> {
        let known = newest.map(|s| u64::from_le_bytes(s.uuid[..8].try_into().unwrap_or_default()));
        let fsid = self.scan(self.wanted.fsid.or(known))?;
        let pager = self.pager(fsid);
        let scan = self.scan.take().ok_or(SalvageError::Nothing)?;
        let mut meta = Leaves::unknown(Epoch(u64::MAX));
        meta.fill(&pager, &scan, &|node| node.owner == 0);
        self.scan = Some(scan);
        let meta = SalvagedItems::new(self.pager(fsid), meta, Remap::default());
        let mut views = Views::default();
        let (from, to) = (Key::new(0, Kind::View, 0), Key::new(0, Kind::View, u64::MAX));
        for record in meta.range(from, to).filter_map(|(_, value)| ViewRecord::decode(&value).ok()) {
            views.records.insert(record.id, record);
        }
        let (from, to) = (Key::new(0, Kind::Remap, 0), Key::new(0, Kind::Remap, u64::MAX));
        for (key, value) in meta.range(from, to) {
            note_moved(&mut views.remap, &key, &value);
        }
        let (from, to) = (Key::new(0, Kind::PurgedLeaf, 0), Key::new(0, Kind::PurgedPiece, u64::MAX));
        for (key, value) in meta.range(from, to) {
            note_rewritten(&mut views.leaves, &key, &value);
        }
        views.leaves.known_as_far_as_read(pager.store());
        match self.pick(&views) {
            Some((record, root)) if !self.wanted.by_scan && pager.load_uncached(&root).is_ok() => {
                self.told.push(format!("a scan of all nodes, and the record of view {} in it", record.id.0));
                let leaves = Leaves::below(&pager, &root);
                self.source(pager, leaves, &views, Some(record.id))
            }
            Some((record, _)) => {
                self.told.push(format!("a scan of all nodes for those of view {}", record.id.0));
                let until = if record.role == Role::Head { Epoch(u64::MAX) } else { record.epoch };
                self.source(pager, Leaves::unknown(until), &views, Some(record.id))
            }
            None if self.wanted.snapshot.is_some() => Err(self.no_such_snapshot()),
            None => {
                self.told.push("a scan of all nodes; the newest count as the live tree".into());
                self.source(pager, Leaves::unknown(Epoch(u64::MAX)), &views, None)
            }
        }
    }

    /// Reads the device, if that was not done yet; returns the store whose nodes are taken.
    fn scan(&mut self, fsid: Option<u64>) -> Result<u64, SalvageError> {
        let scanned = Scanned::read(&**self.device, self.progress);
        let stores = scanned.stores();
        let fsid = fsid.or_else(|| stores.first().map(|(fsid, _)| *fsid)).ok_or(SalvageError::Nothing)?;
        for (other, nodes) in stores.iter().filter(|(id, _)| *id != fsid) {
            self.told.push(format!("{nodes} nodes of another store are left out: --fsid {other:016x}"));
        }
        self.scan = Some(scanned.of_store(fsid));
        Ok(fsid)
    }

    /// The record of the wanted view, and the root of its tree.
    fn pick(&mut self, views: &Views) -> Option<(ViewRecord, BlockPtr)> {
        let named = |r: &&ViewRecord| r.role != Role::Hidden && !r.name.is_empty();
        self.names.extend(views.records.values().filter(named).map(|r| r.name.clone()));
        let all = || views.records.values().filter(|r| r.root.is_some());
        let found = match &self.wanted.snapshot {
            // The main line's, if it has one of that name.
            Some(name) => {
                all().filter(named).filter(|r| r.name == *name).max_by_key(|r| (r.line == LineId::MAIN, r.id))
            }
            // A scan meets heads that a rollback took the place of, too.
            None => all()
                .filter(|r| r.role == Role::Head && r.line == LineId::MAIN)
                .max_by_key(|r| (r.root.map(|root| root.birth), r.id)),
        };
        found.and_then(|r| Some((r.clone(), r.root?)))
    }

    fn source(
        &mut self,
        pager: Pager,
        mut leaves: Leaves,
        views: &Views,
        view: Option<ViewId>,
    ) -> Result<Source, SalvageError> {
        if !leaves.holes.is_empty() {
            let fsid = pager.store().fsid();
            if self.scan.is_none() {
                self.told.push(format!(
                    "{} inner nodes are lost; what was below them is looked for by a scan",
                    leaves.holes.len()
                ));
                self.scan(Some(fsid))?;
            }
            let scan = self.scan.take().ok_or(SalvageError::Nothing)?;
            let belongs = Belongs::new(views, view);
            leaves.fill(&pager, &scan, &|node| belongs.has(node));
            self.scan = Some(scan);
        }
        let unreadable_bytes = self.scan.as_ref().map_or(0, |scan| scan.unreadable_bytes);
        let told = std::mem::take(&mut self.told);
        let items = SalvagedItems::new(pager, leaves, views.remap.clone());
        Ok(Source { items, told, unreadable_bytes, newer_states: 0 })
    }

    fn no_such_snapshot(&self) -> SalvageError {
        let names = self.names.iter().take(NAMES_MAX).map(|n| names::shown_bytes(n));
        SalvageError::NoSuchSnapshot { known: names.collect() }
    }
}

/// View records of a state, as far as its meta tree can be read; pending snapshots have the root of their line's head.
fn views_of_state(pager: &Pager, state: &Superblock) -> Views {
    let (mut records, mut remap, mut leaves) = (BTreeMap::new(), Remap::default(), LoadedLeaves::default());
    let end = Key { object: 0, kind: Kind::View as u8 + 1, rest: 0 };
    let lists = Key { object: 1, kind: 0, rest: 0 };
    let mut visit = |visit: Visit<'_>| {
        Ok(match visit {
            Visit::Node(_, from, _) if from >= lists => Step::Over,
            Visit::Item(key, value) if key.object == 0 && key.kind == Kind::Remap as u8 => {
                note_moved(&mut remap, &key, value);
                Step::Into
            }
            Visit::Item(key, value) if key.object == 0 && is_about_leaves(&key) => {
                note_rewritten(&mut leaves, &key, value);
                Step::Into
            }
            Visit::Item(key, value) if key.object == 0 && key.kind == Kind::View as u8 => {
                if let Ok(record) = ViewRecord::decode(value) {
                    records.insert(record.id, record);
                }
                Step::Into
            }
            _ => Step::Into,
        })
    };
    let mut whole = true;
    let mut lost = |node: LostNode<'_>| {
        whole &= node.from >= end;
        Ok(())
    };
    // Neither of the two fails, so nothing does.
    let _walked = walk_readable(pager, &state.meta_root, Epoch(0), &mut visit, &mut lost);
    for point in &state.pending {
        let head = records.values().find(|r| r.role == Role::Head && r.line == point.line).cloned();
        let (role, name, epoch) = (Role::Snapshot, point.name.clone(), point.epoch);
        if let Some(head) = head {
            records.entry(point.id).or_insert(ViewRecord { id: point.id, role, name, epoch, ..head });
        }
    }
    Views { records, remap, leaves, whole }
}

/// Takes in an item that tells of moved content. One that makes no sense, or another than before of what was overwritten,
/// counts for nothing.
fn note_moved(remap: &mut Remap, key: &Key, value: &[u8]) {
    let record = RemapRecord::decode(key.rest, value).ok();
    let _taken = record.is_some_and(|record| remap.insert(&record));
}

fn is_about_leaves(key: &Key) -> bool {
    [Kind::PurgedLeaf as u8, Kind::PurgedPiece as u8].contains(&key.kind)
}

/// Takes in an item that tells of a leaf that was rewritten, if it makes sense.
fn note_rewritten(leaves: &mut LoadedLeaves, key: &Key, value: &[u8]) {
    let _taken = leaves.load(key, value);
}

/// Which nodes may be those of one view's tree.
struct Belongs {
    view: Option<u64>,
    /// Owners that are no ancestors, and up to which epoch their line was ours.
    others: HashMap<u64, Epoch>,
}

impl Belongs {
    /// Views that are gone are unknown, so they may have been ancestors. Another view's nodes are ours as far as they
    /// were written before the two lines parted.
    fn new(views: &Views, view: Option<ViewId>) -> Belongs {
        let mut belongs = Belongs { view: view.map(|id| id.0), others: HashMap::new() };
        let Some(own) = view.and_then(|id| views.records.get(&id)) else { return belongs };
        let (mut line, mut at) = (BTreeSet::new(), Some(own));
        while let Some(record) = at.filter(|r| line.insert(r.id)) {
            at = record.prev.and_then(|id| views.records.get(&id));
        }
        let mut records: Vec<&ViewRecord> = views.records.values().collect();
        // Views come after those below them.
        records.sort_by_key(|r| (r.role == Role::Head, r.epoch));
        let mut parted: HashMap<ViewId, Epoch> = HashMap::new();
        for record in records {
            let epoch = match record.prev.and_then(|id| parted.get(&id)) {
                _ if line.contains(&record.id) => record.epoch,
                below => below.copied().unwrap_or_default(),
            };
            parted.insert(record.id, epoch);
            if !line.contains(&record.id) {
                belongs.others.insert(record.id.0, epoch);
            }
        }
        belongs
    }

    fn has(&self, node: &FoundNode) -> bool {
        let other = self.others.get(&node.owner).filter(|_| Some(node.owner) != self.view);
        node.owner != 0 && other.is_none_or(|until| node.ptr.birth <= *until)
    }
}
