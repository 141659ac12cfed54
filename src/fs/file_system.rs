//! The file system on an open volume.

use super::attributes::make_root;
use super::commits::{Commits, Gates};
use super::content::{purge_all_unlinked, purge_inherited, purge_orphans};
use super::heads::Heads;
use super::options::FsOptions;
use super::past::{Past, SnapshotCreator};
use crate::clock::Clock;
use crate::format::{Ino, ViewId};
use crate::ops::{KernelRef, NodeId, Result};
use crate::volume::{Recovered, SnapshotInfo, Volume};
use std::sync::Arc;
use std::time::Duration;

/// The file system on an open volume. Any thread may call any method.
pub struct Fs {
    pub(super) heads: Arc<Heads>,
    pub(super) commits: Arc<Commits>,
    pub(super) past: Past,
    recovered: Recovered,
}

impl Fs {
    /// The file system of `volume`: replays its log, makes the root of an empty one, and purges what a crash has left
    /// without a name.
    pub fn open(volume: Arc<Volume>, options: FsOptions, clock: Clock) -> Result<Arc<Fs>> {
        let mut gates = Gates::default();
        let recovered = volume.recover(&mut gates);
        let heads = Arc::new(Heads::new(volume, options, clock, gates.0)?);
        let commits = Arc::new(Commits::new(heads.clone()));
        let fs = Fs { past: Past::new(commits.clone()), heads, commits, recovered };
        if !fs.heads.is_read_only() {
            if fs.recovered.records > 0 {
                fs.commit()?;
            }
            make_root(&fs.heads, fs.heads.main())?;
            for head in fs.heads.all() {
                purge_orphans(&fs.commits, &head);
                purge_all_unlinked(&fs.commits, &head);
            }
        }
        Ok(Arc::new(fs))
    }

    /// Connects the way back to the kernel.
    pub fn set_kernel(&self, kernel: KernelRef) {
        self.heads.set_kernel(kernel);
    }

    /// Makes every change that has returned durable.
    pub fn commit(&self) -> Result<()> {
        self.commits.commit()
    }

    /// True if somebody changed something since the last commit.
    pub fn has_changes(&self) -> bool {
        self.commits.has_changes()
    }

    /// Commits if anything has changed; otherwise has the host get back what is not needed at rest. Before, purges some of
    /// what new lines have without a name. For a timer.
    pub fn tick(&self) -> Result<()> {
        if !self.heads.is_read_only() {
            purge_inherited(&self.commits);
        }
        self.commits.tick()
    }

    /// Waits until a commit is wanted before its time, and returns true then, or until time is over.
    pub fn wait_for_pressure(&self, timeout: Duration) -> bool {
        self.commits.wait_for_pressure(timeout)
    }

    /// Lets whoever waits for pressure go on, for good.
    pub fn end_pressure(&self) {
        self.commits.end_pressure();
    }

    /// Purges every inode without a name, whoever has it open, and commits if anything has changed. The last call.
    pub fn close(&self) -> Result<()> {
        if self.heads.is_read_only() {
            return Ok(());
        }
        for head in self.heads.all() {
            purge_all_unlinked(&self.commits, &head);
        }
        // A purge that failed has stopped the volume: a commit tells why.
        if self.heads.volume.is_read_only() {
            return self.commit();
        }
        self.tick()?;
        Ok(self.heads.volume.close_log()?)
    }

    /// What was replayed when it was opened.
    pub fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// The volume below.
    pub fn volume(&self) -> &Arc<Volume> {
        &self.heads.volume
    }

    /// Makes a snapshot of the live tree, durable when this returns. Everything whose `write` returned before the call
    /// is in. On an error nothing is left.
    pub fn create_snapshot(&self, name: &[u8], creator: SnapshotCreator) -> Result<ViewId> {
        self.past.create_snapshot(name, creator)
    }

    /// Makes a line, a writable tree of its own that begins as a snapshot is, durable when this returns. Returns the number
    /// of its root.
    pub fn create_line(&self, name: &[u8], from: ViewId) -> Result<NodeId> {
        self.heads.check_writable()?;
        // A commit brings in what each head holds back: it must know all of them.
        let no_commit = self.commits.hold_off();
        let now = self.heads.clock.now();
        let line = self.heads.volume.create_line(name, from, (now.secs, now.nanos))?;
        let head = self.heads.add(&line);
        drop(no_commit);
        self.commits.sync()?;
        Ok(head.node(Ino::ROOT))
    }

    /// Deletes the line whose root has this number, with what was changed in it, and its snapshots.
    pub fn drop_line(&self, root: NodeId) -> Result<()> {
        self.heads.check_writable()?;
        let (head, _) = self.heads.find(root)?;
        {
            let _no_commit = self.commits.hold_off();
            self.heads.volume.drop_line(head.line)?;
            self.heads.remove(head.line);
        }
        self.commits.sync()
    }

    /// Makes a snapshot of the line whose root has this number, as [`Self::create_snapshot`] does of the main line.
    pub fn create_snapshot_of(&self, root: NodeId, name: &[u8], creator: SnapshotCreator) -> Result<ViewId> {
        self.past.take_snapshot(&self.heads.find(root)?.0, name, creator)
    }

    /// Gives a snapshot another name.
    pub fn rename_snapshot(&self, name: &[u8], new: &[u8]) -> Result<()> {
        self.past.rename_snapshot(name, new)
    }

    /// Deletes a snapshot: its name at once, its space in the background. Open files in it stay readable.
    pub fn delete_snapshot(&self, name: &[u8]) -> Result<()> {
        self.past.delete_snapshot(name)
    }

    /// All snapshots, oldest first.
    pub fn snapshots(&self) -> Vec<SnapshotInfo> {
        self.past.snapshots()
    }

    /// For how long the last snapshot held up changes.
    pub fn snapshot_pause(&self) -> Duration {
        self.past.snapshot_pause()
    }
}
