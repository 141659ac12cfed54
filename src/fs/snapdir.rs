//! `.snapshots`: the virtual directory that shows the past of a directory, and the making of snapshots.
//!
//! Its node is the live directory's number in the pseudo view. Nothing about it is stored. Snapshots are made, renamed
//! and deleted in the root's alone, one at a time.

use super::Fs;
use super::dir::Listing;
use super::flush;
use super::items::Items;
use super::pick::pick;
use crate::clock::rfc3339;
use crate::format::view::Consistency;
use crate::format::{Ino, ViewId};
use crate::limits::SNAPSHOT_NAME_BYTES_MAX;
use crate::ops::{Attr, Entrance, Entry, Error, FileType, NodeId, RenameMode, Result, Timestamp, Way};
use crate::volume::{NewSnapshot, SnapshotInfo};
use parking_lot::MutexGuard;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Cookies of snapshots are their view numbers plus this: behind `.` and `..`.
const COOKIE_BASE: u64 = 3;
/// Snapshots looked at together while a `.snapshots` is listed.
const LIST_BATCH: usize = 256;
/// How the names of automatic snapshots begin.
const AUTOMATIC_PREFIX: &[u8] = b"@GMT-";

/// Who makes a snapshot: decides which names are allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SnapshotCreator {
    /// A person or a program.
    User,
    /// The schedule, whose names begin with `@GMT-`.
    Schedule,
}

/// Refuses what cannot name a snapshot.
fn check_snapshot_name(name: &[u8], creator: SnapshotCreator) -> Result<()> {
    if name.len() > SNAPSHOT_NAME_BYTES_MAX {
        return Err(Error::NameTooLong);
    }
    if name.is_empty() || name.contains(&b'/') || name.contains(&0) {
        return Err(Error::Invalid);
    }
    let automatic = creator == SnapshotCreator::Schedule && name.starts_with(AUTOMATIC_PREFIX);
    if matches!(name[0], b'.' | b'@') && !automatic {
        return Err(Error::Invalid);
    }
    Ok(())
}

/// The node of the `.snapshots` in a live directory.
fn snapdir_node(dir: Ino) -> NodeId {
    NodeId::new(NodeId::SNAPDIR_VIEW, dir.0)
}

/// The directory `dir` in a snapshot, as it is found in its `.snapshots`.
fn past_node(dir: Ino, id: ViewId, entrance: Entrance) -> NodeId {
    NodeId::on_way(id.0, Way::enter(entrance, dir == Ino::ROOT), dir.0)
}

/// Held while a snapshot is made, renamed or deleted.
pub(super) type OneAtATime<'a> = MutexGuard<'a, ()>;

impl Fs {
    /// Makes a snapshot of the live tree, durable when this returns. Everything whose `write` returned before the call
    /// is in. On an error nothing is left.
    pub fn create_snapshot(&self, name: &[u8], creator: SnapshotCreator) -> Result<ViewId> {
        self.take_snapshot(name, creator) // that there is no such snapshot is kept nowhere
    }

    /// Gives a snapshot another name.
    pub fn rename_snapshot(&self, name: &[u8], new: &[u8]) -> Result<()> {
        let done = self.move_snapshot(name, new);
        self.tell_all_snapdirs(name);
        done
    }

    /// Deletes a snapshot: its name at once, its space in the background. Open files in it stay readable.
    pub fn delete_snapshot(&self, name: &[u8]) -> Result<()> {
        let done = self.drop_snapshot(name, &self.one_at_a_time());
        self.tell_all_snapdirs(name);
        done
    }

    /// A name in `.snapshots` is gone, by no request of the kernel's.
    fn tell_all_snapdirs(&self, name: &[u8]) {
        self.tell(&[vec![Ino::ROOT], self.known_snapdirs.all()].concat(), name);
    }

    /// A name is gone by a request in the `.snapshots` of the root, where the kernel has seen to it itself. Before that is
    /// answered: whoever asked may look elsewhere.
    pub(super) fn tell_known_snapdirs(&self, name: &[u8]) {
        self.tell(&self.known_snapdirs.all(), name);
    }

    fn tell(&self, dirs: &[Ino], name: &[u8]) {
        if !dirs.is_empty() {
            self.kernel().drop_names(dirs.iter().map(|dir| (snapdir_node(*dir), name.to_vec())).collect());
        }
    }

    /// All snapshots, oldest first.
    pub fn snapshots(&self) -> Vec<SnapshotInfo> {
        self.volume.snapshots()
    }

    /// For how long the last snapshot held up changes.
    pub fn snapshot_pause(&self) -> Duration {
        Duration::from_nanos(self.snapshot_pause_ns.load(Ordering::Relaxed))
    }

    fn take_snapshot(&self, name: &[u8], creator: SnapshotCreator) -> Result<ViewId> {
        check_snapshot_name(name, creator)?;
        self.check_writable()?;
        let _held = self.one_at_a_time();
        if self.volume.find_snapshot(name).is_some() {
            return Err(Error::Exists);
        }
        let generation = self.generation();
        let writers: Vec<(NodeId, u64)> =
            self.handles.writers().into_iter().map(|ino| (NodeId::new(0, ino.0), generation)).collect();
        if !writers.is_empty() {
            self.kernel().write_back(&writers).map_err(write_back_error)?;
        }
        let no_commit = self.commit_lock.lock();
        let mut early = Some(flush::stage_early(&self.gate, self.stager()));
        let mut gate = Some(self.gate.write());
        let closed = Instant::now();
        let mut pause = Duration::ZERO;
        let mut round = 0;
        let stager = self.stager();
        let now = self.clock.now();
        let new = NewSnapshot {
            name,
            created: (now.secs, now.nanos),
            consistency: Consistency::FileSystem,
            pause_ns: &|| closed.elapsed().as_nanos() as u64,
        };
        let made = self.volume.create_snapshot(&new, &mut |txn| {
            if let Some(gate) = gate.as_mut() {
                round = flush::prepare(gate, stager, txn, early.take().unwrap_or_default())?;
            }
            gate = None;
            pause = closed.elapsed();
            Ok(())
        });
        // Also after a failure: until it was known there was one snapshot more to be seen.
        self.forget_snapdir();
        let (id, durable) = made?;
        self.gate.write().dirty.end_round(round);
        self.snapshot_pause_ns.store(pause.as_nanos() as u64, Ordering::Relaxed);
        drop(no_commit);
        if !durable {
            self.commit()?;
        }
        Ok(id)
    }

    fn move_snapshot(&self, name: &[u8], new: &[u8]) -> Result<()> {
        check_snapshot_name(new, SnapshotCreator::User)?;
        self.check_writable()?;
        let _held = self.one_at_a_time();
        let info = self.volume.find_snapshot(name).ok_or(Error::NotFound)?;
        if name == new {
            return Ok(());
        }
        self.volume.rename_snapshot(info.id, new)?;
        self.forget_snapdir();
        self.outlive()
    }

    /// Waits for the snapshot that is being made, or deleted, and keeps others from it.
    pub(super) fn one_at_a_time(&self) -> OneAtATime<'_> {
        self.snapshot_lock.lock()
    }

    /// The same without waiting. While a snapshot is being made its maker may wait for requests of the kernel.
    pub(super) fn one_at_a_time_now(&self) -> Option<OneAtATime<'_>> {
        self.snapshot_lock.try_lock()
    }

    fn drop_snapshot(&self, name: &[u8], _: &OneAtATime<'_>) -> Result<()> {
        self.check_writable()?;
        let info = self.volume.find_snapshot(name).ok_or(Error::NotFound)?;
        if self.standing_alone.lock().contains_key(&info.id) {
            return Err(Error::Busy);
        }
        self.volume.delete_snapshot(info.id)?;
        self.forget_snapdir();
        self.outlive()
    }

    fn check_writable(&self) -> Result<()> {
        if self.options.read_only || self.volume.is_read_only() { Err(Error::ReadOnly) } else { Ok(()) }
    }

    /// `mkdir` in a `.snapshots`.
    pub(super) fn make_in_snapdir(&self, dir: Ino, name: &[u8]) -> Result<Entry> {
        only_in_root(dir)?;
        self.take_snapshot(name, SnapshotCreator::User)?;
        self.find_in_snapdir(dir, name)
    }

    /// `rmdir` in a `.snapshots`.
    pub(super) fn remove_in_snapdir(&self, dir: Ino, name: &[u8], held: &OneAtATime<'_>) -> Result<()> {
        only_in_root(dir)?;
        self.drop_snapshot(name, held)
    }

    /// `rename` inside `.snapshots`.
    pub(super) fn rename_in_snapdir(
        &self,
        dir: Ino,
        name: &[u8],
        new_dir: Ino,
        new: &[u8],
        mode: RenameMode,
    ) -> Result<()> {
        only_in_root(dir)?;
        only_in_root(new_dir)?;
        match mode {
            RenameMode::Exchange | RenameMode::Whiteout => Err(Error::Invalid),
            RenameMode::NoReplace if name == new => Err(Error::Exists),
            RenameMode::NoReplace | RenameMode::Replace => {
                let done = self.move_snapshot(name, new);
                self.tell_known_snapdirs(name);
                done
            }
        }
    }

    /// What `stat` shows of a `.snapshots`.
    pub(super) fn snapdir_attr(&self, dir: Ino) -> Result<Attr> {
        let inode = self.live_inode(dir)?;
        if inode.kind != FileType::Directory {
            return Err(Error::NotADirectory);
        }
        let newest = self.volume.newest_snapshot();
        let time = newest.map_or(inode.btime, |s| time_of(s.created));
        // Elsewhere than in the root the number would have to be looked for; 1 says that it is not known.
        let nlink = if dir == Ino::ROOT { 2 + self.volume.snapshot_count() as u32 } else { 1 };
        Ok(Attr {
            mode: 0o755,
            nlink,
            size: 0,
            blocks: 0,
            atime: time,
            mtime: time,
            ctime: time,
            ..self.attr(snapdir_node(dir), &inode)
        })
    }

    /// A `.snapshots` as the answer to a lookup. It stays where it is for ever.
    pub(super) fn snapdir_entry(&self, dir: Ino) -> Result<Entry> {
        // Known before it is read: whatever changes it from here on is told.
        let ttl =
            if dir == Ino::ROOT || self.known_snapdirs.answer(dir) { Duration::MAX } else { Duration::ZERO };
        let attr = self.snapdir_attr(dir).inspect_err(|_| self.known_snapdirs.forget(dir, 1))?;
        Ok(Entry { attr, generation: self.generation(), entry_ttl: ttl, attr_ttl: ttl })
    }

    /// The kernel keeps what `stat` shows of a `.snapshots` that it knows until it is told: called before whatever changes
    /// that is answered.
    pub(super) fn forget_snapdir(&self) {
        self.forget_snapdir_of(Ino::ROOT);
        self.known_snapdirs.all().into_iter().for_each(|dir| self.forget_snapdir_of(dir));
    }

    /// The same for the `.snapshots` of one directory.
    pub(super) fn forget_snapdir_of(&self, dir: Ino) {
        if dir == Ino::ROOT || self.known_snapdirs.contains(dir) {
            self.kernel().forget_attributes(snapdir_node(dir));
        }
    }

    /// For how long the kernel may keep what it is told of the `.snapshots` of `dir`.
    pub(super) fn snapdir_ttl(&self, dir: Ino) -> Duration {
        if dir == Ino::ROOT || self.known_snapdirs.contains(dir) { Duration::MAX } else { Duration::ZERO }
    }

    /// Finds a snapshot by name, as the past of `dir`.
    pub(super) fn find_in_snapdir(&self, dir: Ino, name: &[u8]) -> Result<Entry> {
        match name {
            b"." => return self.snapdir_entry(dir),
            b".." => {
                let inode = self.live_inode(dir)?;
                return Ok(self.entry(NodeId::new(0, dir.0), &inode));
            }
            _ => {}
        }
        let kept = self.snapdir_ttl(dir);
        if let Some(info) = self.volume.find_snapshot(name) {
            let found = self.past_entry(dir, info.id, Entrance::Name)?.ok_or(Error::NotFound)?;
            return Ok(Entry { entry_ttl: kept, ..found });
        }
        if name.first() != Some(&b'@') {
            return Err(Error::NotFound);
        }
        let mut past = self.volume.snapshots();
        past.retain(|s| self.was_there(dir, s.id));
        let created: Vec<Timestamp> = past.iter().map(|s| time_of(s.created)).collect();
        let found = pick(name, self.clock.now(), &created).ok_or(Error::NotFound)?;
        self.past_entry(dir, past[found].id, Entrance::Age)?.ok_or(Error::NotFound)
    }

    /// True if the live directory `dir` was a directory in the snapshot.
    fn was_there(&self, dir: Ino, id: ViewId) -> bool {
        dir == Ino::ROOT || self.past_entry(dir, id, Entrance::Name).is_ok_and(|entry| entry.is_some())
    }

    /// `dir` as it was in a snapshot, if it was there. That never changes; its name may.
    fn past_entry(&self, dir: Ino, id: ViewId, entrance: Entrance) -> Result<Option<Entry>> {
        let inode = self.volume.snapshot(id)?.inode(dir)?;
        let inode = inode.filter(|i| i.kind == FileType::Directory && i.nlink > 0);
        let node = past_node(dir, id, entrance);
        Ok(inode.map(|inode| Entry { entry_ttl: Duration::ZERO, ..self.entry(node, &inode) }))
    }

    /// Lists the snapshots in which `dir` was there.
    pub(super) fn list_snapdir(&self, dir: Ino, mut listing: Listing) -> Result<()> {
        if !listing.give_dots(NodeId::new(0, dir.0))? {
            return Ok(());
        }
        // The kernel asks again before it believes these attributes, so they need not be read from each snapshot.
        let live = self.live_inode(dir)?;
        loop {
            let after = ViewId(listing.after.saturating_sub(COOKIE_BASE) as u32);
            let batch = self.volume.snapshots_after(after, LIST_BATCH);
            let Some(last) = batch.last().map(|s| u64::from(s.id.0) + COOKIE_BASE) else { return Ok(()) };
            for info in batch {
                // A snapshot may be deleted while they are listed.
                if !self.was_there(dir, info.id) {
                    continue;
                }
                let node = past_node(dir, info.id, Entrance::Name);
                let cookie = u64::from(info.id.0) + COOKIE_BASE;
                let ttl = Duration::ZERO;
                let entry = || Ok(Entry { entry_ttl: ttl, attr_ttl: ttl, ..self.entry(node, &live) });
                if !listing.give(cookie, node, FileType::Directory, &info.name, entry)? {
                    return Ok(());
                }
            }
            listing.after = last;
        }
    }

    /// What the extended attributes of a snapshot's root say, without their prefix.
    pub(super) fn snapshot_attributes(&self, id: ViewId) -> Result<Vec<(&'static str, String)>> {
        let info = self.volume.snapshot_info(id).ok_or(Error::Stale)?;
        Ok(vec![
            ("created", rfc3339(time_of(info.created))),
            ("method", "row".to_string()),
            ("consistency", info.consistency.name().to_string()),
            ("referenced", info.referenced.to_string()),
            ("exclusive", info.exclusive.to_string()),
            ("written", info.written.to_string()),
            ("id", info.id.0.to_string()),
        ])
    }
}

fn time_of((secs, nanos): (i64, u32)) -> Timestamp {
    Timestamp { secs, nanos }
}

fn only_in_root(dir: Ino) -> Result<()> {
    if dir == Ino::ROOT { Ok(()) } else { Err(Error::NotPermitted) }
}

/// A failed write-back fails what needs it with the error that the writer would have seen.
pub(super) fn write_back_error(e: std::io::Error) -> Error {
    match e.kind() {
        std::io::ErrorKind::StorageFull => Error::NoSpace,
        std::io::ErrorKind::QuotaExceeded => Error::LimitReached,
        _ => Error::Io(format!("writing back cached pages: {e}")),
    }
}
