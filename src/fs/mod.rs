//! POSIX meaning on top of the volume: inodes, names, data, extended attributes and `.snapshots`.
//!
//! [`Fs`] implements [`Operations`](crate::ops::Operations). The live tree in the volume plus what the gate guards
//! (delayed data, unlinked inodes) is the state of the file system; nothing is kept for an inode that the kernel merely
//! looked up. It does not check permissions (the kernel does) and knows no addresses.
//!
//! Lock order: `snapshot_lock`, `commit_lock`, then the gate, then the volume's transaction; the handle table,
//! `pressure` and `kernel` are leaves.
//! Changes hold the gate for writing. Readers of content hold it for reading only while they take a view and the
//! delayed blocks; readers of attributes and names need no more than a view.

mod acl;
mod around;
mod atime;
mod change;
mod compress;
mod copy;
mod create;
mod dir;
mod dirty;
mod error;
mod extents;
mod flags;
mod flush;
mod handle;
mod hole;
mod inode;
mod intent;
mod items;
mod known;
mod name;
mod operations;
mod options;
mod orphan;
mod path;
mod pick;
mod pressure;
mod read;
mod remove;
mod rename;
mod snapdir;
mod standalone;
mod sync;
mod truncate;
mod write;
mod xattr;

#[cfg(test)]
mod tests;

pub use options::{AtimeMode, AtimeOptions, FsOptions, SnapdirMode};
pub use snapdir::SnapshotCreator;
pub use standalone::Standalone;

use crate::bell::Bell;
use crate::clock::Clock;
use crate::format::{Ino, ViewId};
use crate::ops::{KernelRef, NoKernel, Result};
use crate::volume::{Recovered, Volume};
use change::Gate;
use handle::Handles;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The file system on an open volume. Any thread may call any method.
pub struct Fs {
    volume: Arc<Volume>,
    options: FsOptions,
    clock: Clock,
    gate: RwLock<Gate>,
    handles: Handles,
    kernel: RwLock<KernelRef>,
    /// One snapshot at a time is created, renamed or deleted.
    snapshot_lock: Mutex<()>,
    /// Snapshots that are file systems of their own now, and how often. A leaf.
    standing_alone: Mutex<HashMap<ViewId, usize>>,
    /// One commit at a time, so that nobody waits for the device with the gate closed. Holds the number of the last
    /// one that succeeded.
    commit_lock: Mutex<u64>,
    commits_started: AtomicU64,
    /// Brings the thread that commits to do it before its time.
    pressure: Bell,
    /// Nanoseconds for which the last snapshot held up changes.
    snapshot_pause_ns: AtomicU64,
    generation: AtomicU64,
    recovered: Recovered,
    /// Inodes that lost set-id bits by a request whose answer does not say so: the kernel has to be told.
    fallen: Mutex<Vec<Ino>>,
    waiting: sync::Waiting,
    known_snapdirs: known::KnownSnapdirs,
    misses: compress::Misses,
}

impl Fs {
    /// The file system of `volume`: replays its log, makes the root of an empty one, and purges what a crash has left
    /// without a name.
    pub fn open(volume: Arc<Volume>, options: FsOptions, clock: Clock) -> Result<Arc<Fs>> {
        let mut gate = Gate::default();
        let recovered = volume.recover(&mut |txn, note| intent::replay(&mut gate, txn, note));
        let fs = Fs {
            volume,
            options,
            clock,
            gate: RwLock::new(gate),
            handles: Handles::default(),
            kernel: RwLock::new(Arc::new(NoKernel)),
            snapshot_lock: Mutex::new(()),
            standing_alone: Mutex::default(),
            commit_lock: Mutex::new(0),
            commits_started: AtomicU64::new(0),
            pressure: Bell::default(),
            snapshot_pause_ns: AtomicU64::new(0),
            generation: AtomicU64::new(1),
            recovered,
            fallen: Mutex::new(Vec::new()),
            waiting: sync::Waiting::default(),
            known_snapdirs: known::KnownSnapdirs::default(),
            misses: compress::Misses::default(),
        };
        if !fs.options.read_only && !fs.volume.is_read_only() {
            if fs.recovered.records > 0 {
                fs.commit()?;
            }
            fs.make_root()?;
            fs.purge_orphans()?;
            fs.purge_all_unlinked();
        }
        Ok(Arc::new(fs))
    }

    /// Connects the way back to the kernel.
    pub fn set_kernel(&self, kernel: KernelRef) {
        *self.kernel.write() = kernel;
    }

    /// Makes every change that has returned durable.
    pub fn commit(&self) -> Result<()> {
        let before = self.commits_started.load(Ordering::SeqCst);
        let mut last_done = self.commit_lock.lock();
        if *last_done > before {
            // It started after this call, so everything that this caller did is in it.
            return Ok(());
        }
        self.commit_locked(&mut last_done)
    }

    fn commit_locked(&self, last_done: &mut u64) -> Result<()> {
        let number = self.commits_started.fetch_add(1, Ordering::SeqCst) + 1;
        let mut early = Some(flush::stage_early(&self.gate, self.stager()));
        let mut gate = Some(self.gate.write());
        let mut round = 0;
        let stager = self.stager();
        self.volume.commit(&mut |txn| {
            if let Some(gate) = gate.as_mut() {
                round = flush::prepare(gate, stager, txn, early.take().unwrap_or_default())?;
            }
            // Readers find the flushed blocks as settling until the transaction is visible.
            gate = None;
            Ok(())
        })?;
        self.gate.write().dirty.end_round(round);
        *last_done = number;
        Ok(())
    }

    /// True if somebody changed something since the last commit.
    pub fn has_changes(&self) -> bool {
        let delayed = self.gate.read().dirty.bytes() > 0;
        delayed || self.volume.needs_commit()
    }

    /// Commits if anything has changed; otherwise has the host get back what is not needed at rest. For a timer.
    pub fn tick(&self) -> Result<()> {
        if self.options.read_only || self.volume.is_read_only() {
            return Ok(());
        }
        if self.has_changes() || self.volume.has_background_work() {
            return self.commit();
        }
        if self.volume.has_space_to_return() {
            self.commit()?;
        }
        self.volume.rest();
        Ok(())
    }

    /// Purges every inode without a name, whoever has it open, and commits if anything has changed. The last call.
    pub fn close(&self) -> Result<()> {
        if self.options.read_only || self.volume.is_read_only() {
            return Ok(());
        }
        self.purge_all_unlinked();
        // A purge that failed has stopped the volume: a commit tells why.
        if self.volume.is_read_only() { self.commit() } else { self.tick() }
    }

    /// What was replayed when it was opened.
    pub fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// The volume below.
    pub fn volume(&self) -> &Arc<Volume> {
        &self.volume
    }

    fn stager(&self) -> flush::Stager<'_> {
        flush::Stager { volume: &self.volume, misses: &self.misses }
    }

    fn kernel(&self) -> KernelRef {
        self.kernel.read().clone()
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }
}
