//! An open volume: its state, who may write, and what is asked of it without a transaction.

use super::committer::Committer;
use super::intent::{FoundLog, Log};
use super::purge::Purging;
use super::remap::Moving;
use super::removal_pauses::{RemovalCounts, RemovalPauses};
use super::state::{StateTurn, TrashCounted, VolumeState};
use super::view::{Pin, Shared, View};
use super::{Access, Result, VolumeError};
use crate::format::{Copies, Epoch, LineId};
use crate::store::{Damage, IoSnapshot};
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// An open store. Any thread may call any method.
pub struct Volume {
    pub(super) shared: Arc<Shared>,
    pub(super) state: RwLock<VolumeState>,
    pub(super) committer: Mutex<Committer>,
    /// Copied content that the next commit takes in. A leaf lock.
    pub(super) copies: Mutex<Vec<Moving>>,
    pub(super) log: Log,
    pub(super) purging: Purging,
    /// What an earlier session left in the log, until it is replayed.
    pub(super) found: Mutex<FoundLog>,
    /// Why no change is taken any more, once something failed.
    pub(super) poisoned: Mutex<Option<String>>,
    /// Set in a turn at the state, when no change is taken any more.
    pub(super) closed: AtomicBool,
    pub(super) access: Access,
    pub(super) uuid: [u8; 16],
    /// The same, or that of the store that it was split off from.
    pub(super) origin: [u8; 16],
    /// Space that only deletions and commits may use.
    pub(super) reserve_bytes: u64,
    /// Space for what a running commit has frozen and may still have to write.
    pub(super) frozen_bytes: AtomicU64,
    /// Content that the running commit frees, in bytes.
    pub(super) freeing_bytes: AtomicU64,
    /// At most so many bytes of references can be freed without that anything comes back: others reach the same, or it was purged.
    pub(super) shared_bytes: AtomicU64,
    /// Space that the state needed when a transaction last looked.
    pub(super) required: AtomicU64,
    /// The most that had to be free since a commit last looked.
    pub(super) needed_at_most: AtomicU64,
    /// What comes back of the trash, as it was counted last, and of what. A leaf lock.
    pub(super) trash_counted: Mutex<Option<(TrashCounted, u64)>>,
    /// For how long deletion has held up changes.
    pub(super) removals: RemovalCounts,
    /// What the newest superblock says a program must know.
    pub(super) incompat: AtomicU64,
}

impl Volume {
    /// Waits for a turn at the state.
    pub(super) fn turn(&self) -> StateTurn<'_> {
        StateTurn::of(&self.state)
    }

    /// Device reads, since the store was opened, of threads for which readers of anything waited: each is one too many.
    pub fn reads_waited_for(&self) -> u64 {
        self.shared.store().reads_waited_for()
    }

    /// Device writes and flushes, in the same way.
    pub fn writes_waited_for(&self) -> u64 {
        self.shared.store().writes_waited_for()
    }

    /// For how long deletion has held up changes since the store was opened.
    pub fn removal_pauses(&self) -> RemovalPauses {
        self.removals.now()
    }

    /// The published state of a line's head.
    pub fn live(&self, line: LineId) -> Result<View> {
        let state = self.state.read();
        let id = state.lines.head(line).ok_or(VolumeError::NoSuchView)?;
        let root = state.roots.get(&id).ok_or(VolumeError::NoSuchView)?.clone();
        let pin = Some(Pin::epoch(&self.shared, state.epoch));
        Ok(View { id, epoch: state.epoch, root, shared: self.shared.clone(), _pin: pin })
    }

    /// A device failure poisons; running out of space does not.
    pub(super) fn note<T>(&self, result: Result<T>) -> Result<T> {
        if let Err(e @ VolumeError::Device(_)) = &result {
            self.poison(e);
        }
        result
    }

    /// True if something changed since the last commit, or background work waits for one.
    pub fn needs_commit(&self) -> bool {
        let state = self.state.read();
        state.changed || !state.points.is_empty() || !state.deletes.is_empty()
    }

    /// Writes the records of all transactions that have ended, so that they outlive this process.
    pub(super) fn write_log(&self) {
        if let Err(e) = self.log.write_out(self.shared.store()) {
            self.poison(&e.into());
        }
    }

    /// Makes everything that was published durable, without a commit. False if the log does not hold all of it: then a
    /// commit has to.
    pub fn sync(&self) -> Result<bool> {
        self.check_unbroken()?;
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
    pub fn location(&self) -> crate::device::StoreLocation {
        self.shared.store().device().location()
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

    /// Fails once something has failed: then what was changed may be lost with this process.
    pub fn check_unbroken(&self) -> Result<()> {
        self.poisoned.lock().clone().map_or(Ok(()), |why| Err(VolumeError::Device(why)))
    }

    pub(super) fn is_poisoned(&self) -> bool {
        self.poisoned.lock().is_some()
    }

    /// True if no change is taken.
    pub fn is_read_only(&self) -> bool {
        self.read_only_reason().is_some()
    }

    pub(super) fn check_open(&self) -> Result<()> {
        let is_closed = self.closed.load(Relaxed);
        if is_closed { Err(VolumeError::ReadOnly("it is being closed".into())) } else { Ok(()) }
    }

    pub(super) fn check_writable(&self) -> Result<()> {
        self.check_open()?;
        self.read_only_reason().map_or(Ok(()), |why| Err(VolumeError::ReadOnly(why)))
    }

    pub(super) fn poison(&self, cause: &VolumeError) {
        self.shared.store().health().set_may_heal(false);
        let mut poisoned = self.poisoned.lock();
        if poisoned.is_none() {
            log::error!("the store takes no more changes until it is opened again: {cause}");
            *poisoned = Some(cause.to_string());
        }
    }
}
