//! Transactions, views, snapshots, space and commits: what makes trees into a store that survives anything.
//!
//! The state between commits is in [`State`](state::State) behind one read-write lock; a commit freezes it in an instant
//! and writes it down while new changes go on. Lock order: the committer's mutex, then the state lock, then the
//! allocator's. No lock but the committer's is held over a device write or flush; a commit that
//! deletes snapshots reads the meta tree with the state locked.

mod attempt;
pub mod audit;
mod branch;
mod commit;
mod error;
pub mod examine;
mod extra_refs;
pub mod history;
mod intent;
mod lines;
pub mod mend;
mod open;
mod pack;
mod reclaim;
mod recover;
mod replay_rules;
pub mod ring;
pub mod scrub;
mod slots;
mod snapshot;
mod space_map;
mod staged;
mod state;
mod txn;
mod view;
mod writer;

pub use crate::format::line::LineRecord;
pub use commit::CommitSession;
pub use error::VolumeError;
pub use open::{Access, OpenOptions};
pub use recover::{NothingAbove, Recovered, Replay};
pub use snapshot::{NewSnapshot, SnapshotInfo};
pub use staged::{Gain, Part, Staged};
pub use txn::{Need, Purpose, Txn};
pub use view::View;

use crate::format::superblock::INCOMPAT_COMPRESSION;
use crate::format::{Copies, Epoch, LineId, NODE_BYTES};
use crate::store::{Damage, IoSnapshot, KEEP_SHARE, Room};
use commit::Committer;
use intent::{Found, Log};
use parking_lot::{Mutex, RwLock};
use state::State;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use view::{Pin, Shared};

/// Result of the volume.
pub type Result<T> = std::result::Result<T, VolumeError>;

fn corrupt(what: String) -> VolumeError {
    VolumeError::Corrupt { what }
}

/// Nodes that a commit writes besides the trees of the views: meta tree paths, space map.
const COMMIT_OVERHEAD_NODES: u64 = 48;
/// Nodes that a commit writes for each bucket of a dead list that grows: the leaf of its last chunk, if no other shares
/// it.
const BUCKET_OVERHEAD_NODES: u64 = 1;
/// Bytes that a dead reference adds to a dead list in the worst case.
const GRAVE_BYTES: u64 = 64;
/// Free space at hand that is not given back to the host: a share of what the host has left, within bounds, or what was
/// needed since the commit before, up to a larger share. Securing it anew after each commit would cost more than the commit.
const KEEP_SHARE_OF_NEED: u64 = 4;
const KEEP_BYTES_MIN: u64 = 64 << 20;
const KEEP_BYTES_MAX: u64 = 256 << 20;
/// At rest so much more than what is kept may stay: less is not worth a commit.
const SPARE_BYTES_AT_REST: u64 = 32 << 20;

/// An open store. Any thread may call any method.
pub struct Volume {
    shared: Arc<Shared>,
    state: RwLock<State>,
    committer: Mutex<Committer>,
    log: Log,
    /// What an earlier session left in the log, until it is replayed.
    found: Mutex<Found>,
    /// Why no change is taken any more, once something failed.
    poisoned: Mutex<Option<String>>,
    access: Access,
    uuid: [u8; 16],
    /// Space that only deletions and commits may use.
    reserve_bytes: u64,
    /// Nodes of the frozen state that a running commit has not written yet.
    frozen_bytes: AtomicU64,
    /// Space that the state needed when a transaction last looked.
    required: AtomicU64,
    /// The most that had to be free since a commit last looked.
    needed_at_most: AtomicU64,
    /// What the newest superblock says a program must know.
    incompat: AtomicU64,
}

/// Space of a store in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    /// All that it could hold.
    pub total: u64,
    /// Not in use (waiting for reuse included).
    pub free: u64,
    /// What writers can still get.
    pub available: u64,
    /// In use by live data, snapshots and metadata.
    pub used: u64,
}

impl Volume {
    /// The published state of a line's head.
    pub fn live(&self, line: LineId) -> Result<View> {
        let state = self.state.read();
        let id = state.lines.head(line).ok_or(VolumeError::NoSuchView)?;
        let root = state.roots.get(&id).ok_or(VolumeError::NoSuchView)?.clone();
        let pin = Some(Pin::epoch(&self.shared, state.epoch));
        Ok(View { id, epoch: state.epoch, root, shared: self.shared.clone(), _pin: pin })
    }

    /// Exclusive write access to a line.
    pub fn begin(&self, line: LineId) -> Result<Txn<'_>> {
        Txn::begin(self, self.state.write(), line)
    }

    /// Allocates, checksums and writes whole blocks, without any lock over the I/O. Part of nothing until
    /// [`Txn::publish`].
    pub fn stage(&self, data: &[u8]) -> Result<Staged> {
        let keep = self.keep_for_stage()?;
        self.note(Staged::write(self.shared.store(), data, keep))
    }

    /// Allocates whole blocks that read as zeros.
    pub fn stage_unwritten(&self, len: u64) -> Result<Staged> {
        let keep = self.keep_for_stage()?;
        self.note(Staged::unwritten(self.shared.store(), len, keep))
    }

    /// As [`Self::stage`], for parts that may be compressed.
    pub fn stage_parts(&self, data: &[u8], parts: &[Part]) -> Result<Staged> {
        let keep = self.keep_for_stage()?;
        self.note(Staged::write_parts(self.shared.store(), data, parts, keep))
    }

    /// Stages content for which a transaction has reserved: nothing is kept for others.
    pub fn stage_reserved(&self, data: &[u8], parts: &[Part]) -> Result<Staged> {
        self.check_writable()?;
        self.note(Staged::write_parts(self.shared.store(), data, parts, Room::default()))
    }

    /// True if programs that do not know compression refuse the store, so that content may be compressed.
    pub fn knows_compression(&self) -> bool {
        self.incompat.load(Relaxed) & INCOMPAT_COMPRESSION != 0
    }

    /// Has the next commit say that the store needs programs that know compression. Nothing may depend on it before that
    /// commit has returned.
    pub fn allow_compression(&self) -> Result<()> {
        self.check_writable()?;
        let mut state = self.state.write();
        state.incompat |= INCOMPAT_COMPRESSION;
        state.changed = true;
        Ok(())
    }

    /// No lock: whoever stages may hold the transaction.
    fn keep_for_stage(&self) -> Result<Room> {
        self.check_writable()?;
        Ok(self.kept(self.reserve_bytes).and(self.required.load(Relaxed)))
    }

    /// Of `reserve` bytes half must be fit for tree nodes: the other half lets a fragmented store still map what goes
    /// into pieces that are too short for nodes.
    fn kept(&self, reserve: u64) -> Room {
        Room { bytes: reserve, node_bytes: reserve / 2 }
    }

    /// A device failure poisons; running out of space does not.
    fn note<T>(&self, result: Result<T>) -> Result<T> {
        if let Err(e @ VolumeError::Device(_)) = &result {
            self.poison(e);
        }
        result
    }

    /// Space that everything not yet committed needs in the worst case.
    fn required_bytes(&self, state: &State) -> u64 {
        let copies = state.copies as u64;
        let nodes =
            state.dirty_nodes + COMMIT_OVERHEAD_NODES + state.graves.len() as u64 * BUCKET_OVERHEAD_NODES;
        // A node that dies is as many references as it has copies, and each entry is in as many leaves.
        nodes * state.copies.node_bytes()
            + self.frozen_bytes.load(Relaxed)
            + self.held_bytes(state)
            + state.grave_count * GRAVE_BYTES * copies * copies
    }

    /// Of these, what the layer above holds back.
    fn held_bytes(&self, state: &State) -> u64 {
        state.held.bytes + state.held.beside_at_most(state.dirty_nodes) * state.copies.node_bytes()
    }

    /// Bytes of tree nodes in memory that a commit would write now.
    pub fn dirty_bytes(&self) -> u64 {
        let state = self.state.read();
        state.dirty_nodes * NODE_BYTES as u64
    }

    /// Content that was freed since the last commit, in bytes: its space is of no use before the next.
    pub fn freed_bytes(&self) -> u64 {
        self.state.read().freed_bytes
    }

    /// Space that commits can make available: freed since the last one, quarantined, held for the worst case, or waiting
    /// for background work.
    pub fn reclaimable_bytes(&self) -> u64 {
        let state = self.state.read();
        let held = self.held_bytes(&state) + state.freed_bytes;
        drop(state);
        let work = if self.has_background_work() { u64::MAX / 2 } else { 0 };
        self.shared.store().alloc().quarantined_bytes() + held + work
    }

    /// True if something changed since the last commit, or background work waits for one.
    pub fn needs_commit(&self) -> bool {
        let state = self.state.read();
        state.changed || !state.points.is_empty() || !state.deletes.is_empty()
    }

    /// At the end of a commit.
    fn trim_after_commit(&self) {
        let available = self.shared.store().device().available();
        let share = (available / KEEP_SHARE).clamp(KEEP_BYTES_MIN, KEEP_BYTES_MAX);
        let needed = self.needed_at_most.swap(0, Relaxed).min(available / KEEP_SHARE_OF_NEED);
        let keep = share.max(needed);
        self.trim_spare(keep, keep.min(KEEP_BYTES_MAX));
    }

    /// Gives free space beyond what is kept at hand back to the host, if that is more than `least`.
    fn trim_spare(&self, keep: u64, least: u64) {
        let store = self.shared.store();
        let free = store.alloc().free_bytes();
        if free > keep + least {
            store.trim(keep);
        }
    }

    /// Nothing has changed for a while: less is kept at hand.
    pub fn rest(&self) {
        if !self.is_read_only() {
            self.trim_spare(self.kept_at_rest(), SPARE_BYTES_AT_REST);
        }
    }

    /// True if so much of what the last commit freed waits for another that the host should have it back, and another
    /// would let go of it.
    pub fn has_space_to_return(&self) -> bool {
        let unreachable = self.unreachable(self.epoch());
        let keep = self.kept_at_rest();
        let alloc = self.shared.store().alloc();
        alloc.would_release(unreachable)
            && alloc.free_bytes() + alloc.quarantined_bytes() > keep + SPARE_BYTES_AT_REST
    }

    /// Free bytes at hand while nothing changes: what the next change needs, and what is secured ahead of that.
    fn kept_at_rest(&self) -> u64 {
        self.needed_at_rest() + self.shared.store().ahead_bytes()
    }

    /// Free bytes without which nothing can be changed while nothing is.
    fn needed_at_rest(&self) -> u64 {
        self.kept(self.reserve_bytes).and(self.required.load(Relaxed)).bytes
    }

    /// Has the host secure space before changes need it, the first included, until [`Self::end_space_ahead`] is called. For
    /// a thread of its own.
    pub fn keep_space_ahead(&self) {
        let store = self.shared.store();
        // As if nothing were free, so that it begins at once.
        store.look_ahead(0, self.needed_at_rest());
        let copies = self.state.read().copies;
        store.keep_ahead(copies);
    }

    /// Has whoever is in [`Self::keep_space_ahead`] return.
    pub fn end_space_ahead(&self) {
        self.shared.store().end_ahead();
    }

    /// Writes the records of all transactions that have ended, so that they outlive this process.
    fn write_log(&self) {
        if let Err(e) = self.log.write_out(self.shared.store()) {
            self.poison(&e.into());
        }
    }

    /// Makes everything that was published durable, without a commit. False if the log does not hold all of it: then a
    /// commit has to.
    pub fn sync(&self) -> Result<bool> {
        if let Some(why) = self.poisoned.lock().clone() {
            return Err(VolumeError::Device(why));
        }
        self.note(self.log.sync(self.shared.store()).map_err(VolumeError::from))
    }

    /// Has the log say that what was flushed last had been, unless a record says so already. Not flushed itself.
    pub fn tell_flushed(&self) {
        if self.is_read_only() {
            return;
        }
        if let Err(e) = self.log.tell_flushed(self.shared.store()) {
            self.poison(&e.into());
        }
    }

    /// True while only a commit would keep what has happened from being lost with this process.
    pub fn log_is_behind(&self) -> bool {
        self.log.is_behind()
    }

    /// Bytes of the log in use, and of all of it. A commit makes room in it.
    pub fn log_fill(&self) -> (u64, u64) {
        (self.log.used_bytes(), self.log.bytes())
    }

    /// Current epoch.
    pub fn epoch(&self) -> Epoch {
        self.state.read().epoch
    }

    /// Space in use and left.
    pub fn space(&self) -> Space {
        let required = self.required_bytes(&self.state.read());
        let store = self.shared.store();
        let available = store.device().available();
        let alloc = store.alloc();
        let free = alloc.free_bytes() + alloc.quarantined_bytes() + alloc.unbacked_bytes().min(available);
        let used = alloc.used_bytes();
        let for_nodes = alloc.node_bytes_in_sum();
        drop(alloc);
        Space {
            total: used + free,
            free,
            // Without room for the nodes that map it, free space is of no use to a writer.
            available: match self.kept(self.reserve_bytes).and(required) {
                kept if for_nodes > kept.node_bytes => free.saturating_sub(kept.bytes),
                _ => 0,
            },
            used,
        }
    }

    /// Device calls since the store was opened.
    pub fn io(&self) -> IoSnapshot {
        self.shared.store().io()
    }

    /// What is known of damage since the store was opened.
    pub fn damage(&self) -> Damage {
        self.shared.store().health().damage()
    }

    /// Bytes of clean nodes in memory.
    pub fn cached_bytes(&self) -> usize {
        self.shared.pager.cached_bytes()
    }

    /// How often each metadata block is kept.
    pub fn metadata_copies(&self) -> Copies {
        self.state.read().copies
    }

    /// Identity of the store.
    pub fn uuid(&self) -> [u8; 16] {
        self.uuid
    }

    /// Where the store is now, and whether files were taken from it.
    pub fn place(&self) -> crate::device::Place {
        self.shared.store().device().place()
    }

    /// The limit of this process that was in the way of a call of the device, in a sentence.
    pub fn limit_met(&self) -> Option<String> {
        self.shared.store().device().limit_met()
    }

    /// What a person calls the place of the store.
    pub fn describe(&self) -> String {
        self.shared.store().device().describe()
    }

    /// Why no change is taken, if so.
    pub fn read_only_reason(&self) -> Option<String> {
        if self.access == Access::ReadOnly {
            return Some("it was opened read-only".into());
        }
        self.poisoned.lock().clone()
    }

    fn is_poisoned(&self) -> bool {
        self.poisoned.lock().is_some()
    }

    /// True if no change is taken.
    pub fn is_read_only(&self) -> bool {
        self.read_only_reason().is_some()
    }

    fn check_writable(&self) -> Result<()> {
        self.read_only_reason().map_or(Ok(()), |why| Err(VolumeError::ReadOnly(why)))
    }

    fn poison(&self, cause: &VolumeError) {
        self.shared.store().health().set_may_heal(false);
        let mut poisoned = self.poisoned.lock();
        if poisoned.is_none() {
            log::error!("the store takes no more changes until it is opened again: {cause}");
            *poisoned = Some(cause.to_string());
        }
    }
}

#[cfg(test)]
impl Volume {
    /// A new store in memory with room for `bytes` and the overheads of an empty one.
    pub fn memory(bytes: u64) -> Arc<Volume> {
        let size = bytes.max(crate::limits::STORE_BYTES_MIN);
        Volume::made_on(Arc::new(crate::device::Memory::new(size)))
    }

    /// A volume of all of `device`.
    pub fn made_on(device: Arc<dyn crate::device::Device>) -> Arc<Volume> {
        Volume::create(device.clone(), device.size(), [1; 16], (0, 0)).unwrap();
        let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 4 << 20 };
        let volume = Volume::open(device, options).unwrap();
        volume.recover(&mut NothingAbove);
        volume.commit(&mut |_| Ok(())).unwrap();
        volume
    }

    /// Keys of the live tree.
    pub fn live_items(&self) -> Vec<crate::format::Key> {
        use crate::format::Key;
        self.live(LineId::MAIN).unwrap().range(&Key::MIN, &Key::MAX).map(|r| r.unwrap().0).collect()
    }

    /// Blocks that the extents of the live tree refer to.
    pub fn live_blocks(&self) -> u64 {
        use crate::format::{BLOCK_BYTES, Extent, Key, Kind};
        let view = self.live(LineId::MAIN).unwrap();
        let items = view.range(&Key::MIN, &Key::MAX).map(|r| r.unwrap());
        let extents = items.filter(|(k, _)| k.kind == Kind::Extent as u8);
        extents.map(|(_, v)| Extent::decode(&v).unwrap().stored_bytes() / BLOCK_BYTES).sum()
    }
}

#[cfg(test)]
mod copy_tests;
#[cfg(test)]
mod space_tests;
#[cfg(test)]
mod tests;
