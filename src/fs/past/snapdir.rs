//! `.snapshots`: the virtual directory that shows the past of a directory, and the making of snapshots.
//!
//! Its node is the live directory's number in the pseudo view. Nothing about it is stored. Snapshots are made, renamed
//! and deleted in the root's alone, one at a time.

use super::pick::pick;
use crate::format::inode::Inode;
use crate::format::view::Consistency;
use crate::format::{Ino, LineId, ViewId};
use crate::fs::attributes::{attr, entry, time_of};
use crate::fs::commits::Commits;
use crate::fs::error::write_back_error;
use crate::fs::heads::{Head, snapdir_node};
use crate::fs::items::Items;
use crate::fs::listing::Listing;
use crate::limits::SNAPSHOT_NAME_BYTES_MAX;
use crate::ops::{Attr, Entry, Error, FileType, NodeId, RenameMode, Result, Timestamp};
use crate::volume::{NewSnapshot, SnapshotInfo};
use parking_lot::{Mutex, MutexGuard};
use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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

/// Held while a snapshot is made, renamed or deleted.
pub type OneAtATime<'a> = MutexGuard<'a, ()>;

/// The past of the heads: snapshots, and how they are reached. Any thread may call any method. Lock order: `snapshot_lock`
/// before everything of `commits`; the table of those that stand alone is a leaf.
pub struct Past {
    /// What is below.
    pub commits: Arc<Commits>,
    /// One snapshot at a time is created, renamed or deleted.
    snapshot_lock: Mutex<()>,
    /// Snapshots that are file systems of their own now, and how often.
    standing_alone: Mutex<HashMap<ViewId, usize>>,
    /// Nanoseconds for which the last snapshot held up changes.
    pause_ns: AtomicU64,
}

impl Past {
    /// Of the heads of `commits`.
    pub fn new(commits: Arc<Commits>) -> Past {
        Past {
            commits,
            snapshot_lock: Mutex::new(()),
            standing_alone: Mutex::default(),
            pause_ns: AtomicU64::new(0),
        }
    }

    /// Keeps a snapshot from being deleted until [`Self::let_go`]. The caller keeps deletions off meanwhile.
    pub fn stand_alone(&self, view: ViewId, _: &OneAtATime<'_>) {
        *self.standing_alone.lock().entry(view).or_default() += 1;
    }

    /// Takes back one [`Self::stand_alone`].
    pub fn let_go(&self, view: ViewId) {
        let mut all = self.standing_alone.lock();
        let left = all.get_mut(&view).map_or(0, |n| {
            *n -= 1;
            *n
        });
        if left == 0 {
            all.remove(&view);
        }
    }

    /// Makes a snapshot of the live tree, durable when this returns. Everything whose `write` returned before the call
    /// is in. On an error nothing is left.
    pub fn create_snapshot(&self, name: &[u8], creator: SnapshotCreator) -> Result<ViewId> {
        let id = self.take_snapshot(self.commits.heads.main(), name, creator)?;
        self.commits.heads.kernel().invalidate_entry(snapdir_node(Ino::ROOT), name);
        Ok(id)
    }

    /// Gives a snapshot another name.
    pub fn rename_snapshot(&self, name: &[u8], new: &[u8]) -> Result<()> {
        self.move_snapshot(name, new)?;
        for name in [name, new] {
            self.commits.heads.kernel().invalidate_entry(snapdir_node(Ino::ROOT), name);
        }
        Ok(())
    }

    /// Deletes a snapshot: its name at once, its space in the background. Open files in it stay readable.
    pub fn delete_snapshot(&self, name: &[u8]) -> Result<()> {
        self.drop_snapshot(name, &self.one_at_a_time())?;
        self.commits.heads.kernel().invalidate_entry(snapdir_node(Ino::ROOT), name);
        Ok(())
    }

    /// All snapshots, oldest first.
    pub fn snapshots(&self) -> Vec<SnapshotInfo> {
        self.commits.heads.volume.snapshots(LineId::MAIN)
    }

    /// For how long the last snapshot held up changes.
    pub fn snapshot_pause(&self) -> Duration {
        Duration::from_nanos(self.pause_ns.load(Ordering::Relaxed))
    }

    /// Makes a snapshot of a head, durable when this returns.
    pub fn take_snapshot(&self, head: &Arc<Head>, name: &[u8], creator: SnapshotCreator) -> Result<ViewId> {
        check_snapshot_name(name, creator)?;
        let heads = &self.commits.heads;
        heads.check_writable()?;
        let _held = self.one_at_a_time();
        if heads.volume.find_snapshot(head.line, name).is_some() {
            return Err(Error::Exists);
        }
        let generation = heads.generation();
        let of_head =
            heads.handles.writers().into_iter().filter(|node| node.tree() == head.node(Ino::ROOT).tree());
        let writers: Vec<_> = of_head.map(|node| (node, generation)).collect();
        if !writers.is_empty() {
            heads.kernel().write_back(&writers).map_err(write_back_error)?;
        }
        let no_commit = self.commits.hold_off();
        let closed = OnceCell::new();
        let paused = || closed.get().map_or(Duration::ZERO, Instant::elapsed);
        let mut pause = Duration::ZERO;
        let now = heads.clock.now();
        let new = NewSnapshot {
            name,
            created: (now.secs, now.nanos),
            consistency: Consistency::FileSystem,
            pause_ns: &|| paused().as_nanos() as u64,
        };
        let note_closed = &mut |at| closed.set(at).expect("changes are held up once");
        let made = self.commits.complete(std::slice::from_ref(head), note_closed, &mut |prepare| {
            heads.volume.create_snapshot(head.line, &new, &mut |txn| {
                prepare(txn)?;
                pause = paused();
                Ok(())
            })
        });
        // Also after a failure: until it was known there was one snapshot more to be seen.
        heads.forget_snapdir();
        let (id, durable) = made?;
        self.pause_ns.store(pause.as_nanos() as u64, Ordering::Relaxed);
        drop(no_commit);
        if !durable {
            self.commits.commit()?;
        }
        Ok(id)
    }

    fn move_snapshot(&self, name: &[u8], new: &[u8]) -> Result<()> {
        check_snapshot_name(new, SnapshotCreator::User)?;
        self.commits.heads.check_writable()?;
        let _held = self.one_at_a_time();
        let info = self.commits.heads.volume.find_snapshot(LineId::MAIN, name).ok_or(Error::NotFound)?;
        if name == new {
            return Ok(());
        }
        self.commits.heads.volume.rename_snapshot(LineId::MAIN, info.id, new)?;
        self.commits.heads.forget_snapdir();
        self.commits.outlive()
    }

    /// Waits for the snapshot that is being made, or deleted, and keeps others from it.
    pub fn one_at_a_time(&self) -> OneAtATime<'_> {
        self.snapshot_lock.lock()
    }

    /// The same without waiting. While a snapshot is being made its maker may wait for requests of the kernel.
    pub fn one_at_a_time_now(&self) -> Option<OneAtATime<'_>> {
        self.snapshot_lock.try_lock()
    }

    fn drop_snapshot(&self, name: &[u8], _: &OneAtATime<'_>) -> Result<()> {
        self.commits.heads.check_writable()?;
        let info = self.commits.heads.volume.find_snapshot(LineId::MAIN, name).ok_or(Error::NotFound)?;
        if self.standing_alone.lock().contains_key(&info.id) {
            return Err(Error::Busy);
        }
        self.commits.heads.volume.delete_snapshot(LineId::MAIN, info.id)?;
        self.commits.heads.kernel().detach_below(NodeId::snapshot(info.slot.0, Ino::ROOT.0), name);
        self.commits.heads.forget_snapdir();
        self.commits.outlive()
    }

    /// `mkdir` in a `.snapshots`.
    pub fn make_in_snapdir(&self, dir: Ino, name: &[u8]) -> Result<Entry> {
        only_in_root(dir)?;
        self.take_snapshot(self.commits.heads.main(), name, SnapshotCreator::User)?;
        self.find_in_snapdir(dir, name)
    }

    /// `rmdir` in a `.snapshots`.
    pub fn remove_in_snapdir(&self, dir: Ino, name: &[u8], held: &OneAtATime<'_>) -> Result<()> {
        only_in_root(dir)?;
        self.drop_snapshot(name, held)
    }

    /// `rename` inside `.snapshots`.
    pub fn rename_in_snapdir(
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
            RenameMode::NoReplace | RenameMode::Replace => self.move_snapshot(name, new),
        }
    }

    /// What `stat` shows of a `.snapshots`.
    pub fn snapdir_attr(&self, dir: Ino) -> Result<Attr> {
        let inode = self.directory(dir)?;
        if inode.kind != FileType::Directory {
            return Err(Error::NotADirectory);
        }
        let newest = self.commits.heads.volume.newest_snapshot(LineId::MAIN);
        let time = newest.map_or(inode.btime, |s| time_of(s.created));
        // Elsewhere than in the root the number would have to be looked for; 1 says that it is not known.
        let nlink = if dir == Ino::ROOT {
            2 + self.commits.heads.volume.snapshot_count(LineId::MAIN) as u32
        } else {
            1
        };
        Ok(Attr {
            mode: 0o755,
            nlink,
            size: 0,
            blocks: 0,
            atime: time,
            mtime: time,
            ctime: time,
            ..attr(&self.commits.heads, snapdir_node(dir), &inode)
        })
    }

    /// A `.snapshots` as the answer to a lookup. That of the root stays where it is for ever.
    pub fn snapdir_entry(&self, dir: Ino) -> Result<Entry> {
        let entry = self.short_lived(self.snapdir_attr(dir)?);
        let entry_ttl = if dir == Ino::ROOT { Duration::MAX } else { entry.entry_ttl };
        Ok(Entry { attr_ttl: snapdir_ttl(dir), entry_ttl, ..entry })
    }

    fn directory(&self, dir: Ino) -> Result<Inode> {
        let heads = &self.commits.heads;
        heads.live_inode(heads.main(), dir)
    }

    fn short_lived(&self, attr: Attr) -> Entry {
        let (entry_ttl, attr_ttl) = (Duration::ZERO, Duration::ZERO);
        Entry { attr, generation: self.commits.heads.generation(), entry_ttl, attr_ttl }
    }

    /// Finds a snapshot by name, as the past of `dir`.
    pub fn find_in_snapdir(&self, dir: Ino, name: &[u8]) -> Result<Entry> {
        match name {
            b"." => return self.snapdir_entry(dir),
            b".." => {
                let inode = self.directory(dir)?;
                return Ok(entry(&self.commits.heads, self.commits.heads.main().node(dir), &inode));
            }
            _ => {}
        }
        if let Some(info) = self.commits.heads.volume.find_snapshot(LineId::MAIN, name) {
            return self.past_entry(dir, &info)?.ok_or(Error::NotFound);
        }
        if name.first() != Some(&b'@') {
            return Err(Error::NotFound);
        }
        let mut past = self.commits.heads.volume.snapshots(LineId::MAIN);
        past.retain(|s| self.was_there(dir, s));
        let created: Vec<Timestamp> = past.iter().map(|s| time_of(s.created)).collect();
        let found = pick(name, self.commits.heads.clock.now(), &created).ok_or(Error::NotFound)?;
        self.past_entry(dir, &past[found])?.ok_or(Error::NotFound)
    }

    /// True if the live directory `dir` was a directory in the snapshot.
    fn was_there(&self, dir: Ino, info: &SnapshotInfo) -> bool {
        dir == Ino::ROOT || self.past_entry(dir, info).is_ok_and(|entry| entry.is_some())
    }

    /// `dir` as it was in a snapshot, if it was there.
    fn past_entry(&self, dir: Ino, info: &SnapshotInfo) -> Result<Option<Entry>> {
        let inode = self.commits.heads.volume.snapshot(info.id)?.inode(dir)?;
        let inode = inode.filter(|i| i.kind == FileType::Directory && i.nlink > 0);
        Ok(inode.map(|inode| {
            self.short_lived(attr(&self.commits.heads, NodeId::snapshot(info.slot.0, dir.0), &inode))
        }))
    }

    /// Lists the snapshots in which `dir` was there.
    pub fn list_snapdir(&self, dir: Ino, mut listing: Listing) -> Result<()> {
        if !listing.give_dots(self.commits.heads.main().node(dir))? {
            return Ok(());
        }
        // The kernel asks again before it believes these attributes, so they need not be read from each snapshot.
        let live = self.directory(dir)?;
        loop {
            let after = ViewId(listing.after.saturating_sub(COOKIE_BASE));
            let batch = self.commits.heads.volume.snapshots_after(LineId::MAIN, after, LIST_BATCH);
            let Some(last) = batch.last().map(|s| s.id.0 + COOKIE_BASE) else { return Ok(()) };
            for info in batch {
                // A snapshot may be deleted while they are listed.
                if !self.was_there(dir, &info) {
                    continue;
                }
                let node = NodeId::snapshot(info.slot.0, dir.0);
                let cookie = info.id.0 + COOKIE_BASE;
                let entry = || Ok(self.short_lived(attr(&self.commits.heads, node, &live)));
                if !listing.give(cookie, node, FileType::Directory, &info.name, entry)? {
                    return Ok(());
                }
            }
            listing.after = last;
        }
    }
}

/// For how long the kernel may keep the attributes of the `.snapshots` of `dir`. Only that of the root is certain to be
/// known to the kernel when there is something to tell.
pub fn snapdir_ttl(dir: Ino) -> Duration {
    if dir == Ino::ROOT { Duration::MAX } else { Duration::ZERO }
}

fn only_in_root(dir: Ino) -> Result<()> {
    if dir == Ino::ROOT { Ok(()) } else { Err(Error::NotPermitted) }
}
