//! `.snapshots`: the virtual directory that shows the past of a directory, and the making of snapshots.
//!
//! Its node is the live directory's number in the pseudo view. Nothing about it is stored. Snapshots are made, renamed
//! and deleted in the root's alone, one at a time.

use super::known::KnownSnapdirs;
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
use crate::ops::{Attr, Entrance, Entry, Error, FileType, NodeId, RenameMode, Result, Timestamp, Way};
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

/// The directory `dir` in a snapshot, as it is found in its `.snapshots`.
fn past_node(dir: Ino, info: &SnapshotInfo, entrance: Entrance) -> NodeId {
    NodeId::on_way(info.slot.0, Way::enter(entrance, dir == Ino::ROOT), dir.0)
}

/// Held while a snapshot is made, renamed or deleted.
pub type OneAtATime<'a> = MutexGuard<'a, ()>;

/// The past of the heads: snapshots, and how they are reached. Any thread may call any method. Lock order: `snapshot_lock`
/// before everything of `commits`; the tables of those that stand alone and of known `.snapshots` are leaves.
pub struct Past {
    /// What is below.
    pub commits: Arc<Commits>,
    /// One snapshot at a time is created, renamed or deleted.
    snapshot_lock: Mutex<()>,
    /// Snapshots that are file systems of their own now, and how often.
    standing_alone: Mutex<HashMap<ViewId, usize>>,
    /// The `.snapshots` that the kernel knows.
    pub known_snapdirs: KnownSnapdirs,
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
            known_snapdirs: KnownSnapdirs::default(),
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
        self.take_snapshot(self.commits.heads.main(), name, creator) // that there is no such snapshot is kept nowhere
    }

    /// Gives a snapshot another name.
    pub fn rename_snapshot(&self, name: &[u8], new: &[u8]) -> Result<()> {
        let done = self.move_snapshot(name, new);
        if self.is_gone(name) {
            self.tell_all_snapdirs(name);
        }
        done
    }

    /// Deletes a snapshot: its name at once, its space in the background. Open files in it stay readable.
    pub fn delete_snapshot(&self, name: &[u8]) -> Result<()> {
        let done = self.drop_snapshot(name, &self.one_at_a_time());
        if self.is_gone(name) {
            self.tell_all_snapdirs(name);
        }
        done
    }

    /// True if no snapshot has the name. What was refused leaves it, and then nobody is told: dropping a name detaches what
    /// is mounted below it.
    pub fn is_gone(&self, name: &[u8]) -> bool {
        self.commits.heads.volume.find_snapshot(LineId::MAIN, name).is_none()
    }

    /// A name in `.snapshots` is gone, by no request of the kernel's.
    fn tell_all_snapdirs(&self, name: &[u8]) {
        self.tell(&[vec![Ino::ROOT], self.known_snapdirs.all()].concat(), name);
    }

    /// A name is gone by a request in the `.snapshots` of the root, where the kernel has seen to it itself. Before that is
    /// answered: whoever asked may look elsewhere.
    pub fn tell_known_snapdirs(&self, name: &[u8]) {
        self.tell(&self.known_snapdirs.all(), name);
    }

    fn tell(&self, dirs: &[Ino], name: &[u8]) {
        if !dirs.is_empty() {
            let names = dirs.iter().map(|dir| (snapdir_node(*dir), name.to_vec())).collect();
            self.commits.heads.kernel().drop_names(names);
        }
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
        self.write_back(head)?;
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
        self.forget_snapdir();
        let (id, durable) = made?;
        self.pause_ns.store(pause.as_nanos() as u64, Ordering::Relaxed);
        drop(no_commit);
        if !durable {
            self.commits.commit()?;
        }
        Ok(id)
    }

    /// Has the kernel hand over what it holds of files of a head that are open for writing.
    pub fn write_back(&self, head: &Head) -> Result<()> {
        let heads = &self.commits.heads;
        let of_head =
            heads.handles.writers().into_iter().filter(|node| node.tree() == head.node(Ino::ROOT).tree());
        let writers: Vec<_> =
            of_head.map(|node| Ok((node, heads.generation(node)?))).collect::<Result<_>>()?;
        if writers.is_empty() {
            Ok(())
        } else {
            heads.kernel().write_back(&writers).map_err(write_back_error)
        }
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
        self.forget_snapdir();
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
        self.forget_snapdir();
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
            RenameMode::NoReplace | RenameMode::Replace => {
                let done = self.move_snapshot(name, new);
                self.tell_known_snapdirs(name);
                done
            }
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

    /// A `.snapshots` as the answer to a lookup. It stays where it is for ever.
    pub fn snapdir_entry(&self, dir: Ino) -> Result<Entry> {
        // Known before it is read: whatever changes it from here on is told.
        let ttl =
            if dir == Ino::ROOT || self.known_snapdirs.answer(dir) { Duration::MAX } else { Duration::ZERO };
        let attr = self.snapdir_attr(dir).inspect_err(|_| self.known_snapdirs.forget(dir, 1))?;
        let generation = self.commits.heads.generation(attr.node)?;
        Ok(Entry { attr, generation, entry_ttl: ttl, attr_ttl: ttl })
    }

    /// The kernel keeps what `stat` shows of a `.snapshots` that it knows until it is told: called before whatever changes
    /// that is answered.
    fn forget_snapdir(&self) {
        self.forget_snapdir_of(Ino::ROOT);
        self.known_snapdirs.all().into_iter().for_each(|dir| self.forget_snapdir_of(dir));
    }

    /// The same for the `.snapshots` of one directory.
    pub fn forget_snapdir_of(&self, dir: Ino) {
        if dir == Ino::ROOT || self.known_snapdirs.contains(dir) {
            self.commits.heads.kernel().forget_attributes(snapdir_node(dir));
        }
    }

    /// For how long the kernel may keep what it is told of the `.snapshots` of `dir`.
    pub fn snapdir_ttl(&self, dir: Ino) -> Duration {
        if dir == Ino::ROOT || self.known_snapdirs.contains(dir) { Duration::MAX } else { Duration::ZERO }
    }

    fn directory(&self, dir: Ino) -> Result<Inode> {
        let heads = &self.commits.heads;
        heads.live_inode(heads.main(), dir)
    }

    /// Finds a snapshot by name, as the past of `dir`.
    pub fn find_in_snapdir(&self, dir: Ino, name: &[u8]) -> Result<Entry> {
        match name {
            b"." => return self.snapdir_entry(dir),
            b".." => {
                let inode = self.directory(dir)?;
                return entry(&self.commits.heads, self.commits.heads.main().node(dir), &inode);
            }
            _ => {}
        }
        // Asked before the name is looked for: what takes it away later tells the kernel.
        let kept = self.snapdir_ttl(dir);
        if let Some(info) = self.commits.heads.volume.find_snapshot(LineId::MAIN, name) {
            let found = self.past_entry(dir, &info, Entrance::Name)?.ok_or(Error::NotFound)?;
            return Ok(Entry { entry_ttl: kept, ..found });
        }
        if name.first() != Some(&b'@') {
            return Err(Error::NotFound);
        }
        let mut past = self.commits.heads.volume.snapshots(LineId::MAIN);
        past.retain(|s| self.was_there(dir, s));
        let created: Vec<Timestamp> = past.iter().map(|s| time_of(s.created)).collect();
        let found = pick(name, self.commits.heads.clock.now(), &created).ok_or(Error::NotFound)?;
        self.past_entry(dir, &past[found], Entrance::Age)?.ok_or(Error::NotFound)
    }

    /// True if the live directory `dir` was a directory in the snapshot.
    fn was_there(&self, dir: Ino, info: &SnapshotInfo) -> bool {
        dir == Ino::ROOT || self.past_entry(dir, info, Entrance::Name).is_ok_and(|entry| entry.is_some())
    }

    /// `dir` as it was in a snapshot, if it was there. That never changes; its name may.
    fn past_entry(&self, dir: Ino, info: &SnapshotInfo, entrance: Entrance) -> Result<Option<Entry>> {
        let inode = self.commits.heads.volume.snapshot(info.id)?.inode(dir)?;
        let inode = inode.filter(|i| i.kind == FileType::Directory && i.nlink > 0);
        let node = past_node(dir, info, entrance);
        inode
            .map(|inode| Ok(Entry { entry_ttl: Duration::ZERO, ..entry(&self.commits.heads, node, &inode)? }))
            .transpose()
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
                let node = past_node(dir, &info, Entrance::Name);
                let cookie = info.id.0 + COOKIE_BASE;
                let ttl = Duration::ZERO;
                let found = || {
                    Ok(Entry { entry_ttl: ttl, attr_ttl: ttl, ..entry(&self.commits.heads, node, &live)? })
                };
                if !listing.give(cookie, node, FileType::Directory, &info.name, found)? {
                    return Ok(());
                }
            }
            listing.after = last;
        }
    }
}

fn only_in_root(dir: Ino) -> Result<()> {
    if dir == Ino::ROOT { Ok(()) } else { Err(Error::NotPermitted) }
}
