//! The file system on an open volume.

use super::attributes::make_root;
use super::commits::{Commits, Gates};
use super::content::{Homing, HomingStep, purge_all_unlinked, purge_inherited, purge_orphans};
use super::heads::Heads;
use super::options::FsOptions;
use super::past::{Deletion, GoesOn, Past, Reached};
use crate::clock::Clock;
use crate::format::provenance::Provenance;
use crate::format::terms::{Expiry, Idling};
use crate::format::{Ino, LineId, ViewId};
use crate::ops::{Error, KernelRef, NodeId, Result};
use crate::volume::{Recovered, ReserveFor, SnapshotInfo, Volume};
use std::sync::Arc;
use std::time::Duration;

/// The file system on an open volume. Any thread may call any method.
pub struct Fs {
    pub(super) heads: Arc<Heads>,
    pub(super) commits: Arc<Commits>,
    pub(super) past: Arc<Past>,
    homing: Homing,
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
        let past = Past::new(commits.clone());
        let fs = Fs { past, heads, commits, homing: Homing::default(), recovered };
        // Before anything takes a place.
        if let Err(e) = fs.homing.keep_all(&fs.commits) {
            log::warn!("some content may stay away from its home: {e}");
        }
        if !fs.heads.is_read_only() {
            if fs.recovered.records > 0 {
                fs.commit()?;
            }
            make_root(&fs.heads, &fs.heads.main())?;
            for head in fs.heads.all().into_iter().filter(|head| !head.is_received) {
                purge_orphans(&fs.commits, &head);
                purge_all_unlinked(&fs.commits, &head);
            }
        }
        Ok(Arc::new(fs))
    }

    /// Connects the way back to the kernel.
    pub fn set_kernel(&self, kernel: KernelRef) {
        let under_way = self.past.under_way.clone();
        kernel.heed_covers(Box::new(move || !under_way.covers().is_empty()));
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

    /// True if content of files that are written over in place may be on its way home.
    pub fn content_is_away(&self) -> bool {
        !self.heads.is_read_only() && !self.heads.content_was_looked_at()
    }

    /// Brings about so many bytes of it further, and commits if anything has moved or waits for that, and a commit brings it
    /// further. A thread of its own does that: no commit waits for it.
    pub fn bring_content_home(&self, bytes: u64) -> Result<HomingStep> {
        let step = self.homing.step(&self.commits, bytes)?;
        let lets_go = || step.leaving && self.heads.volume.would_let_go();
        if step.waits || step.copied + step.moved > 0 || lets_go() {
            self.commit()?;
        }
        Ok(step)
    }

    /// Waits until a commit is wanted before its time, and returns true then, or until time is over.
    pub fn wait_for_pressure(&self, timeout: Duration) -> bool {
        self.commits.wait_for_pressure(timeout)
    }

    /// Lets whoever waits for pressure go on, for good.
    pub fn end_pressure(&self) {
        self.commits.end_pressure();
    }

    /// Purges every inode without a name, whoever has it open, and commits if anything has changed. The last call: changes
    /// that come later are refused, whatever has failed.
    pub fn close(&self) -> Result<()> {
        let settled = self.settle_all();
        settled.and(self.heads.volume.close().map_err(Error::from))
    }

    fn settle_all(&self) -> Result<()> {
        if self.heads.is_read_only() {
            return Ok(());
        }
        if self.heads.options.tripwire {
            self.past.end_tripwire();
        }
        for head in self.heads.all().into_iter().filter(|head| !head.is_received) {
            purge_all_unlinked(&self.commits, &head);
        }
        self.past.note_age().unwrap_or_else(|e| log::warn!("the age of the store is not noted: {e}"));
        // A purge that failed has stopped the volume: a commit tells why.
        if self.heads.volume.is_read_only() {
            return self.commit();
        }
        self.tick().map(drop)
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
    pub fn create_snapshot(&self, name: &[u8], provenance: impl Into<Provenance>) -> Result<ViewId> {
        self.past.take_snapshot(&self.heads.main(), name, &provenance.into())
    }

    /// Makes a line, a writable tree of its own that begins as a snapshot is, durable when this returns. Returns the number
    /// of its root.
    pub fn create_line(&self, name: &[u8], from: ViewId) -> Result<NodeId> {
        Ok(self.past.create_clone_of(from, name, &Provenance::default())?.node(Ino::ROOT))
    }

    /// The same of a line as it is now: everything whose `write` returned before the call is in.
    pub fn clone_line(&self, from: LineId, name: &[u8]) -> Result<NodeId> {
        let from = self.heads.volume.line(from)?;
        let head = self.heads.of_line(&from).ok_or(Error::NotFound)?;
        Ok(self.past.create_clone(&head, name, &Provenance::default())?.node(Ino::ROOT))
    }

    /// Deletes the line whose root has this number, with what was changed in it, and its snapshots.
    pub fn drop_line(&self, root: NodeId) -> Result<()> {
        let (head, _) = self.heads.find(root)?;
        self.past.drop_line(head.line)
    }

    /// Deletes a clone by its name: that is gone at once, its space comes back in the background.
    pub fn drop_clone(&self, name: &[u8]) -> Result<()> {
        self.past.drop_clone(name)
    }

    /// Has a clone go by itself: after `expire` seconds from now, or when it was not used for `idle` seconds. Durable when
    /// this returns.
    pub fn end_clone(&self, name: &[u8], expire: Option<u64>, idle: Option<u64>) -> Result<()> {
        let line = self.heads.volume.find_line(name).ok_or(Error::NotFound)?;
        let now = self.heads.clock.now().secs;
        self.past.have_room_ahead(ReserveFor::Record, &[])?;
        self.heads.volume.set_terms(line.id, |terms| {
            terms.expiry = expire.map(|after| Expiry { after, at: now.saturating_add_unsigned(after) });
            terms.idling = idle.map(|after| Idling { after, used: now });
        })?;
        self.commits.sync()
    }

    /// True if clones are to go by themselves now. For a timer: it has to be asked often.
    pub fn clones_have_ended(&self) -> bool {
        !self.past.ended_clones().is_empty()
    }

    /// Drops these, but for those in use. May wait for the kernel.
    pub fn drop_ended_clones(&self) {
        self.past.drop_ended_clones();
    }

    /// Gives a clone another name.
    pub fn rename_clone(&self, name: &[u8], new: &[u8]) -> Result<()> {
        self.past.rename_clone(name, new)
    }

    /// The line that a node is of. A snapshot is of the line that it was made in.
    pub fn line_at(&self, node: NodeId) -> Result<LineId> {
        Ok(self.heads.at(node)?.line)
    }

    /// Makes a snapshot of the line that this node is of, as [`Self::create_snapshot`] does of the main line.
    pub fn create_snapshot_of(
        &self,
        at: NodeId,
        name: &[u8],
        provenance: impl Into<Provenance>,
    ) -> Result<ViewId> {
        self.past.take_snapshot(&self.heads.at(at)?, name, &provenance.into())
    }

    /// The same after applications have done what they do for that, or have failed to.
    pub fn create_snapshot_as(
        &self,
        at: NodeId,
        name: &[u8],
        provenance: &Provenance,
        reached: Reached<'_>,
    ) -> Result<ViewId> {
        self.past.take_snapshot_as(&self.heads.at(at)?, name, provenance, reached)
    }

    /// Makes an automatic snapshot of the line that this node is of: its name tells what for and when.
    pub fn create_guard_of(&self, at: NodeId, provenance: &Provenance) -> Result<SnapshotInfo> {
        let head = self.heads.at(at)?;
        self.heads.check_writable()?;
        self.past.have_room_ahead(ReserveFor::Record, std::slice::from_ref(&head))?;
        self.past.guard(&head, provenance, &self.past.one_at_a_time())
    }

    /// Gives a snapshot of the line that this node is of another name.
    pub fn rename_snapshot_of(&self, at: NodeId, name: &[u8], new: &[u8]) -> Result<()> {
        self.past.rename_snapshot(&*self.heads.at(at)?, name, new)
    }

    /// Says something else about a snapshot of the line that this node is of than was said.
    pub fn describe_snapshot(&self, at: NodeId, name: &[u8], description: &[u8]) -> Result<()> {
        self.past.describe_snapshot(&*self.heads.at(at)?, name, description)
    }

    /// Deletes a snapshot of the line that this node is of.
    pub fn delete_snapshot_of(&self, at: NodeId, name: &[u8]) -> Result<()> {
        self.past.delete_snapshot(&*self.heads.at(at)?, name, Deletion::Final)
    }

    /// Makes a clone of the line that this node is of, for a command to be tried on; returns its name, an automatic one.
    pub fn begin_trial(&self, at: NodeId, provenance: &Provenance, goes_on: GoesOn) -> Result<Vec<u8>> {
        let head = self.past.begin_trial(&self.heads.at(at)?, provenance, goes_on)?;
        Ok(self.heads.volume.line(head.line)?.name)
    }

    /// The trial on a clone is about to cover these paths from the root of the mount, which are names of it.
    pub fn cover_trial(&self, clone: &[u8], paths: Vec<Vec<u8>>) -> Result<()> {
        self.past.cover_trial(clone, paths)
    }

    /// Makes a snapshot of the line that this node is of before a command is run on it. As many older ones that were made for
    /// this are kept as it makes `keep` with it, and those of commands that go on.
    pub fn take_step(
        &self,
        at: NodeId,
        provenance: &Provenance,
        keep: usize,
        goes_on: GoesOn,
    ) -> Result<SnapshotInfo> {
        self.past.take_step(&self.heads.at(at)?, provenance, keep, goes_on)
    }

    /// Makes a clone of the line that this node is of, as it is now, or as a view was: `@live`, a clone as `.clones/NAME`, or
    /// what finds a snapshot in the `.snapshots` of the line.
    pub fn create_clone(
        &self,
        at: NodeId,
        name: &[u8],
        from: Option<&[u8]>,
        provenance: &Provenance,
    ) -> Result<()> {
        let head = self.heads.at(at)?;
        let made = match from {
            None | Some(b"@live") => self.past.create_clone(&head, name, provenance),
            Some(view) => match view.strip_prefix(b".clones/") {
                Some(clone) => {
                    let line = self.heads.volume.find_line(clone).ok_or(Error::NotFound)?;
                    let head = self.heads.of_line(&line).ok_or(Error::NotFound)?;
                    self.past.create_clone(&head, name, provenance)
                }
                None => self.past.create_clone_of(self.past.find_snapshot(&head, view)?, name, provenance),
            },
        };
        made.map(drop)
    }

    /// Gives a snapshot another name.
    pub fn rename_snapshot(&self, name: &[u8], new: &[u8]) -> Result<()> {
        self.rename_snapshot_of(NodeId::ROOT, name, new)
    }

    /// Deletes a snapshot: its name at once, its space in the background. Open files in it stay readable.
    pub fn delete_snapshot(&self, name: &[u8]) -> Result<()> {
        self.delete_snapshot_of(NodeId::ROOT, name)
    }

    /// All snapshots, oldest first.
    pub fn snapshots(&self) -> Vec<SnapshotInfo> {
        self.heads.volume.snapshots(self.heads.main().line)
    }

    /// For how long the last snapshot held up changes.
    pub fn snapshot_pause(&self) -> Duration {
        self.past.snapshot_pause()
    }
}
