//! Making and opening a volume, and closing it.

use super::committer::Committer;
use super::error::corrupt;
use super::extra_refs::ExtraRefs;
use super::history::History;
use super::hold_table::Holds;
use super::hydration_table::Hydrations;
use super::intent::{self, Log};
use super::jobs::Jobs;
use super::lines::{self, Lines};
use super::numbered::Numbered;
use super::purge::{KnownLeaves, LeafTable, LoadedLeaves, Purging};
use super::remap::{Places, Remap};
use super::removal_pauses::RemovalCounts;
use super::space_map::SpaceMap;
use super::state::{Budget, NewShares, VolumeState};
use super::view::Shared;
use super::{Access, OpenOptions, Result, Volume, VolumeError, equal, ring};
use crate::device::mirror::clear_labels;
use crate::device::{Device, RESERVED_BYTES};
use crate::format::age::AgeRecord;
use crate::format::hold::HoldRecord;
use crate::format::job::Job;
use crate::format::line::{LineRecord, LineState};
use crate::format::provenance::Provenance;
use crate::format::purge::PurgeRest;
use crate::format::remap::RemapRecord;
use crate::format::superblock::Superblock;
use crate::format::terms::Terms;
use crate::format::view::{Role, ViewRecord};
use crate::format::{
    BLOCK_BYTES, BlockAddr, BlockPtr, Copies, Epoch, Generation, Ino, Key, Kind, LineId, Slot, ViewId,
};
use crate::limits::{LOG_BYTES_MAX, LOG_BYTES_MIN, STORE_BYTES_MIN};
use crate::store::{Allocator, Store, StoreError};
use crate::tree::{self, Child, Edit, Pager};
use foldhash::HashMap;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// First list id that is given out; the live head's list is 1.
const FIRST_ID: u64 = 2;
/// Least space that only deletions and commits may use, for each copy of metadata.
const RESERVE_BYTES_MIN: u64 = 4 << 20;
/// And most.
const RESERVE_BYTES_MAX: u64 = 64 << 20;
/// One of so many parts of a store is its log.
const LOG_SHARE: u64 = 128;

impl Volume {
    /// Writes a new, empty store of `size` bytes on the device, with its metadata kept twice. What was there is lost.
    pub fn create(device: Arc<dyn Device>, size: u64, uuid: [u8; 16], created: (i64, u32)) -> Result<()> {
        Volume::create_with(device, size, uuid, created, Copies::default())
    }

    /// The same with as many copies of metadata as told.
    pub fn create_with(
        device: Arc<dyn Device>,
        size: u64,
        uuid: [u8; 16],
        created: (i64, u32),
        metadata_copies: Copies,
    ) -> Result<()> {
        let size = size / BLOCK_BYTES * BLOCK_BYTES;
        if size < STORE_BYTES_MIN || size > device.size() {
            return Err(VolumeError::NotAStore(format!(
                "a store needs between {} MiB and the size of its device, {} has {} MiB",
                STORE_BYTES_MIN >> 20,
                device.describe(),
                device.size() >> 20
            )));
        }
        let log_bytes = log_bytes(size.min(device.available()));
        let alloc = Allocator::new(RESERVED_BYTES + log_bytes, size);
        let store = Arc::new(Store::new(device, fsid(&uuid), alloc));
        store.flush()?;
        ring::clear(&store)?;
        clear_labels(&**store.device()).map_err(|e| VolumeError::Device(e.to_string()))?;
        clear_log(&store, log_bytes)?;
        let pager = Pager::new(store.clone(), 1 << 20);
        let epoch = Epoch(1);
        let mut freed = Vec::new();
        let mut edit = Edit { pager: &pager, epoch, freed: &mut freed, nodes_made: 0 };
        let (root, meta_root) = (edit.new_root(), edit.new_root());
        let live = ViewId(1);
        let line = LineRecord {
            id: LineId::MAIN,
            name: Vec::new(),
            head: live,
            slot: Slot::MAIN,
            generation: Generation(1),
            head_generation: Generation(2),
            origin: None,
            base: None,
            from: None,
            created,
            terms: Terms::default(),
            state: LineState::Writable,
            provenance: Provenance::default(),
            schedules: Vec::new(),
        };
        let root_bytes = metadata_copies.node_bytes();
        let head = ViewRecord::head(live, LineId::MAIN, 1, created);
        let record = ViewRecord { referenced: root_bytes, written: root_bytes, ..head };
        let superblock = Superblock {
            uuid,
            identity: uuid,
            seq: 0,
            epoch,
            time: created,
            size,
            // Replaced by the first commit below, before anything is written.
            meta_root: BlockPtr {
                addr: BlockAddr(RESERVED_BYTES + log_bytes),
                copy: BlockAddr(0),
                birth: epoch,
                checksum: 0,
                len: 4096,
            },
            space_map: None,
            allocated: 0,
            next_view: ViewId(2),
            next_line: LineId(2),
            next_generation: Generation(3),
            next_ino: Ino::FIRST_FREE,
            next_id: FIRST_ID,
            metadata_copies,
            incompat: 0,
            log_bytes,
            log_start: 0,
            log_generation: 0,
            log_begins: false,
            pending: Vec::new(),
        };
        let loaded = Loaded {
            superblock,
            meta_root,
            space_map: SpaceMap::default(),
            extra_refs: ExtraRefs::default(),
            remap: Remap::default(),
            leaves: LeafTable::new(),
            wiping: false,
            purge_rest: None,
            jobs: BTreeMap::new(),
            scrub: BTreeMap::new(),
            peers: BTreeMap::new(),
            hydrations: BTreeMap::new(),
            holds: BTreeMap::new(),
            trash: BTreeMap::new(),
            age: AgeRecord::default(),
            records: vec![record],
            lines: vec![line],
        };
        let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 1 << 20 };
        let volume = Volume::assemble(pager, loaded, options, Some(root))?;
        {
            let mut turn = volume.turn();
            let state = turn.alone();
            state.history.set_pause(live, 0);
            state.unwritten.insert(live);
            state.lines.change(LineId::MAIN, |_| {});
            state.changed = true;
        }
        volume.commit(&mut |_| Ok(()))
    }

    /// Opens the newest state of a store.
    pub fn open(device: Arc<dyn Device>, options: OpenOptions) -> Result<Arc<Volume>> {
        let sides = device.sides().len();
        let rings = ring::read(&*device)?;
        for damage in &rings.damaged {
            log::warn!("{}: superblock {damage}", device.describe());
        }
        if rings.unknown_ro_features != 0 && options.access == Access::ReadWrite {
            return Err(VolumeError::NotAStore(format!(
                "{} uses features {:#x} that this program may only read: mount it with -o ro or use a newer snapfs",
                device.describe(),
                rings.unknown_ro_features
            )));
        }
        let superblock = rings.states.into_iter().next().ok_or_else(|| corrupt("no superblock".into()))?;
        if superblock.size > device.size() {
            return Err(VolumeError::NotAStore(format!(
                "{} is cut short: the store has {} bytes, the device only {}; restore its full length first",
                device.describe(),
                superblock.size,
                device.size()
            )));
        }
        let mut alloc = Allocator::new(RESERVED_BYTES + superblock.log_bytes, superblock.size);
        let loader = Store::new(device.clone(), fsid(&superblock.uuid), Allocator::new(0, 0));
        loader.health().set_may_heal(options.access == Access::ReadWrite);
        let space_map = SpaceMap::load(&loader, superblock.space_map, &mut alloc)?;
        if alloc.used_bytes() != superblock.allocated {
            return Err(corrupt(format!(
                "the space map says {} bytes are allocated, the superblock {}",
                alloc.used_bytes(),
                superblock.allocated
            )));
        }
        let found = intent::scan(&*device, &superblock);
        let store = Arc::new(loader.with_alloc(alloc));
        if options.access == Access::ReadWrite {
            // A process that was killed may have left what only the host's memory holds, superblocks included.
            store.flush_inherited()?;
            equal::equalise_tables(&*device, &found, superblock.log_bytes)?;
            if device.sides().len() < sides {
                // What was read may be what the side had that is lost: the other one is opened as it is.
                return Volume::open(device, options);
            }
            device.reached(superblock.epoch.0, superblock.time.0);
        }
        let pager = Pager::new(store, options.cache_bytes);
        let loaded = Loaded::read(&pager, superblock, space_map)?;
        let mut volume = Volume::assemble(pager, loaded, options, None)?;
        volume.log = volume.log.after(found.start, found.end);
        volume.found = Mutex::new(found);
        Ok(Arc::new(volume))
    }

    fn assemble(pager: Pager, loaded: Loaded, options: OpenOptions, root: Option<Child>) -> Result<Volume> {
        let held: Vec<_> = loaded.remap.purged.held().map(|(addr, held)| (addr, held.len)).collect();
        if !held.is_empty() {
            pager.store().rewrites().enter_places(&held);
        }
        let shared = Shared::new(pager, Places::of(&loaded.remap));
        let superblock = loaded.superblock;
        let mut roots = HashMap::default();
        for record in &loaded.records {
            if record.role == Role::Hidden {
                continue;
            }
            let stored = record.root.map(Child::Stored).or_else(|| root.clone());
            let stored = stored.ok_or_else(|| corrupt(format!("view {} has no root", record.id.0)))?;
            roots.insert(record.id, stored);
        }
        let history = History::from_records(loaded.records, superblock.next_view, superblock.next_id)
            .map_err(|e| corrupt(e.to_string()))?;
        let lines = Lines::load(&superblock, loaded.lines, &history);
        // Somebody still read them when this state was written, or a line is compared with them.
        let deletes = history.views().filter(|v| v.line == LineId::NONE && v.role != Role::Hidden);
        let deletes: Vec<ViewId> = deletes.map(|v| v.id).collect();
        let mut state = VolumeState {
            epoch: superblock.epoch.next(),
            copies: superblock.metadata_copies,
            history,
            roots,
            incompat: superblock.incompat,
            lines,
            unwritten: BTreeSet::new(),
            next_ino: superblock.next_ino,
            deferred: BTreeMap::new(),
            freed_count: 0,
            frees: Vec::new(),
            freed_bytes: 0,
            allocs: Vec::new(),
            shared: NewShares::default(),
            points: Vec::new(),
            deletes: Vec::new(),
            deletes_left: false,
            sweeps_left: false,
            no_room: BTreeMap::new(),
            postponed: BTreeSet::new(),
            rolling: BTreeSet::new(),
            scrub: loaded.scrub,
            scrub_dirty: BTreeSet::new(),
            peers: loaded.peers,
            peers_dirty: BTreeSet::new(),
            hydrations: Hydrations::default(),
            keepers_changed: 0,
            holds: Holds::default(),
            trash: Numbered::default(),
            changed: false,
            dirty_nodes: 0,
            budget: Budget::default(),
            line_budgets: BTreeMap::new(),
            effects: Default::default(),
        };
        for point in &superblock.pending {
            state.apply_point(point);
        }
        let holds = Numbered::load(loaded.holds, |hold: &HoldRecord| state.own_snapshot(hold.view).is_ok());
        state.holds = Holds::new(holds, loaded.age);
        state.load_trash(loaded.trash);
        let may_come_back = |view| state.own_snapshot(view).is_ok() || state.is_in_trash(view);
        state.hydrations = Hydrations::load(loaded.hydrations, may_come_back);
        let gone: Vec<_> = deletes.into_iter().filter(|id| !state.is_in_trash(*id)).collect();
        gone.into_iter().for_each(|id| state.delete(id));
        // What the store can become here: its address space may be far larger than the host.
        let room = superblock.allocated.saturating_add(shared.store().device().available());
        let least = RESERVE_BYTES_MIN * superblock.metadata_copies as u64;
        let reserve_bytes = (room.min(superblock.size) / 32).clamp(least, RESERVE_BYTES_MAX);
        let purging = Purging::default();
        purging.need_for(loaded.purge_rest.as_ref());
        let (uuid, origin, incompat) = (superblock.identity, superblock.uuid, superblock.incompat);
        let log = Log::new(superblock.log_bytes, superblock.log_start, superblock.log_generation + 1);
        let shared_bytes = loaded.extra_refs.bytes().saturating_add(loaded.remap.purged.sums().0);
        let committer = Committer {
            superblock,
            meta_root: loaded.meta_root,
            space_map: loaded.space_map,
            extra_refs: loaded.extra_refs,
            remap: loaded.remap,
            leaves: loaded.leaves,
            wiping: loaded.wiping,
            purge_rest: loaded.purge_rest,
            jobs: Jobs::new(loaded.jobs),
        };
        Ok(Volume {
            shared: Arc::new(shared),
            state: RwLock::new(state),
            committer: Mutex::new(committer),
            log,
            found: Mutex::default(),
            purging,
            copies: Mutex::default(),
            poisoned: Mutex::new(None),
            closed: AtomicBool::new(false),
            access: options.access,
            uuid,
            origin,
            reserve_bytes,
            frozen_bytes: Default::default(),
            freeing_bytes: Default::default(),
            shared_bytes: shared_bytes.into(),
            required: Default::default(),
            needed_at_most: Default::default(),
            trash_counted: Mutex::default(),
            removals: RemovalCounts::default(),
            incompat: incompat.into(),
        })
    }

    /// A number that is given out twice would make one file of two, so the next one is above all that heads have, whatever
    /// the superblock says. A head whose last leaf cannot be read tells that when it is used.
    pub(super) fn raise_next_ino(&self) {
        let (mut state, pager) = (self.state.write(), &self.shared.pager);
        let state = &mut *state;
        let heads = state.history.views().filter(|v| v.role == Role::Head);
        for root in heads.filter_map(|head| state.roots.get(&head.id)) {
            let next = state.next_ino;
            if let Ok(Some(last)) = last_inode(pager, root, next) {
                log::warn!(
                    "the next inode number is {}, and inode {} is there: it is raised",
                    next.0,
                    last.0
                );
                state.next_ino = Ino(last.0 + 1);
            }
        }
    }

    /// Gives free space at hand back to the host. The last call before a clean close.
    pub fn trim(&self) {
        if self.access == Access::ReadWrite && !self.is_read_only() {
            let store = self.shared.store();
            store.release(Epoch(u64::MAX));
            store.alloc().keep_nothing();
            // On a host that is nearly full the reserve stays, so that deleting works after the next mount.
            let scarce = store.device().available() < 4 * self.reserve_bytes;
            store.trim(if scarce { self.reserve_bytes } else { 0 });
        }
    }
}

/// Length of the log of a store with this much room.
fn log_bytes(room: u64) -> u64 {
    (room / LOG_SHARE / BLOCK_BYTES * BLOCK_BYTES).clamp(LOG_BYTES_MIN, LOG_BYTES_MAX)
}

/// Writes the log's space once, so that later writes to it change nothing on the host but content: their flush is
/// cheap, and an earlier store's records are gone.
fn clear_log(store: &Store, bytes: u64) -> Result<()> {
    let zeros = vec![0; LOG_BYTES_MIN as usize];
    let (mut at, end) = (RESERVED_BYTES, RESERVED_BYTES + bytes);
    while at < end {
        let part = (end - at).min(zeros.len() as u64);
        store.write_raw(at, &zeros[..part as usize])?;
        at += part;
    }
    Ok(())
}

/// First eight bytes of the uuid: what every block header carries.
pub(crate) fn fsid(uuid: &[u8; 16]) -> u64 {
    u64::from_le_bytes([uuid[0], uuid[1], uuid[2], uuid[3], uuid[4], uuid[5], uuid[6], uuid[7]])
}

/// What the meta tree holds.
pub(crate) struct Loaded {
    pub superblock: Superblock,
    pub meta_root: Child,
    pub space_map: SpaceMap,
    pub extra_refs: ExtraRefs,
    pub remap: Remap,
    /// Leaves that are not what pointers say; whoever reads with this pager has them as they are.
    pub leaves: LeafTable,
    pub wiping: bool,
    pub purge_rest: Option<PurgeRest>,
    pub jobs: BTreeMap<u64, Job>,
    /// The scrub's items, as they are.
    pub scrub: BTreeMap<u64, Vec<u8>>,
    pub peers: BTreeMap<u64, Vec<u8>>,
    pub hydrations: BTreeMap<u64, Vec<u8>>,
    pub holds: BTreeMap<u64, Vec<u8>>,
    pub trash: BTreeMap<u64, Vec<u8>>,
    pub age: AgeRecord,
    pub records: Vec<ViewRecord>,
    pub lines: Vec<LineRecord>,
}

impl Loaded {
    pub fn read(pager: &Pager, superblock: Superblock, space_map: SpaceMap) -> Result<Loaded> {
        let meta_root = Child::Stored(superblock.meta_root);
        let (mut records, mut jobs, mut extra_refs) = (Vec::new(), BTreeMap::new(), ExtraRefs::default());
        let (mut scrub, mut peers, mut lines) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        let (mut remap, mut hydrations) = (Remap::default(), BTreeMap::new());
        let (mut holds, mut trash, mut age) = (BTreeMap::new(), BTreeMap::new(), AgeRecord::default());
        let mut leaves = LoadedLeaves::default();
        let end = Key { object: 1, kind: 0, rest: 0 };
        for item in tree::range(pager, &meta_root, &Key::MIN, &end) {
            let (key, value) = item?;
            match Kind::from_u8(key.kind) {
                Some(Kind::View) => {
                    let record = ViewRecord::decode(&value)?;
                    if record.id.0 != key.rest {
                        return Err(corrupt(format!("view record {} stands at {}", record.id.0, key.rest)));
                    }
                    records.push(record);
                }
                Some(Kind::Line) => lines.push(read_line(&key, &value)?),
                Some(Kind::Job) => {
                    jobs.insert(key.rest, Job::decode(&value)?);
                }
                Some(Kind::ExtraRefs) => read_extra_refs(&mut extra_refs, &key, &value)?,
                Some(Kind::Remap) => read_remap(&mut remap, &key, &value)?,
                Some(Kind::PurgeHeld | Kind::Purged) => remap.purged.load(&key, &value)?,
                Some(Kind::PurgedLeaf | Kind::PurgedPiece | Kind::PurgeWiping | Kind::PurgeRest) => {
                    leaves.load(&key, &value)?
                }
                Some(Kind::Scrub) => {
                    scrub.insert(key.rest, value.to_vec());
                }
                Some(Kind::Peer) => {
                    peers.insert(key.rest, value.to_vec());
                }
                Some(Kind::Hydration) => {
                    hydrations.insert(key.rest, value.to_vec());
                }
                Some(Kind::Hold) => {
                    holds.insert(key.rest, value.to_vec());
                }
                Some(Kind::Trash) => {
                    trash.insert(key.rest, value.to_vec());
                }
                Some(Kind::Age) => age = AgeRecord::decode(&value)?,
                _ => return Err(corrupt(format!("unknown item {key:?} in the meta tree"))),
            }
        }
        check_records(&superblock, &records, &lines)?;
        drop(remap.take_changes());
        let KnownLeaves { leaves, wiping, rest } = leaves.known_to(pager.store())?;
        Ok(Loaded {
            superblock,
            meta_root,
            space_map,
            extra_refs,
            remap,
            leaves,
            wiping,
            purge_rest: rest,
            jobs,
            scrub,
            peers,
            hydrations,
            holds,
            trash,
            age,
            records,
            lines,
        })
    }
}

/// A line record from its item.
pub(super) fn read_line(key: &Key, value: &[u8]) -> Result<LineRecord> {
    let line = LineRecord::decode(value)?;
    if line.id.0 != key.rest {
        return Err(corrupt(format!("line record {} stands at {}", line.id.0, key.rest)));
    }
    Ok(line)
}

/// Enters an item of extra references, if it makes sense beside the others.
pub(super) fn read_extra_refs(extra_refs: &mut ExtraRefs, key: &Key, value: &[u8]) -> Result<()> {
    let word = |at: usize| value.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
    let (Some(len), Some(extra), 16) = (word(0), word(8), value.len()) else {
        return Err(corrupt(format!("extra reference item of {} bytes, not 16", value.len())));
    };
    if u32::try_from(extra).is_ok_and(|n| extra_refs.load(key.rest, len, n)) {
        return Ok(());
    }
    Err(corrupt(format!("extra references {:#x}+{len} x {extra} make no sense", key.rest)))
}

/// Enters a remap record, if it makes sense beside the others.
pub(super) fn read_remap(remap: &mut Remap, key: &Key, value: &[u8]) -> Result<()> {
    let record = RemapRecord::decode(key.rest, value)?;
    if remap.insert(&record) {
        return Ok(());
    }
    Err(corrupt(format!("the record of what has moved to {:#x} meets another", key.rest)))
}

/// The last inode of a tree, if its number is not below `from`, and if items of the greatest number are of an inode.
pub fn last_inode(pager: &Pager, root: &Child, from: Ino) -> std::result::Result<Option<Ino>, StoreError> {
    let floor = Key { object: from.0, kind: 0, rest: 0 };
    let last = Key { object: Ino::END.0 - 1, kind: u8::MAX, rest: u64::MAX };
    let Some((key, _)) = tree::last_at_or_before(pager, root, &last, &floor)? else { return Ok(None) };
    let inode = tree::get(pager, root, &Key::new(key.object, Kind::Inode, 0))?;
    Ok(inode.map(|_| Ino(key.object)))
}

/// What superblock and records must say about each other before a history is built of them.
pub(super) fn check_records(
    superblock: &Superblock,
    records: &[ViewRecord],
    lines: &[LineRecord],
) -> Result<()> {
    lines::check(superblock, lines, records)?;
    let mut newest = records.iter().map(|r| r.epoch).max().unwrap_or_default();
    if newest > superblock.epoch {
        return Err(corrupt(format!("a view of epoch {} is newer than the store", newest.0)));
    }
    let mut ids: BTreeSet<ViewId> = records.iter().map(|r| r.id).collect();
    for point in &superblock.pending {
        let (id, epoch, name) = (point.id, point.epoch, &point.name);
        let fresh = (ViewId(1)..superblock.next_view).contains(&id) && ids.insert(id);
        if !fresh || epoch <= newest || epoch > superblock.epoch || !(1..=255).contains(&name.len()) {
            return Err(corrupt(format!("pending snapshot {} of epoch {} is impossible", id.0, epoch.0)));
        }
        newest = epoch;
    }
    Ok(())
}
