//! `.snapshots`: the virtual directory that shows the past of a directory, and the making of snapshots.
//!
//! Each line has its own: they show the snapshots of that line, and those that it has from its origin. The node of one is the
//! live directory's number with another kind. Nothing about it is stored. Snapshots are made, renamed and deleted in those
//! of roots alone, one at a time.

use super::ageing::Ageing;
use super::applications::Reached;
use super::arriving::Arriving;
use super::deletion::Deletion;
use super::departing::Departing;
use super::known::KnownSnapdirs;
use super::made_room::MadeRoom;
use super::pick::pick;
use super::seen_guards::SeenGuards;
use super::timekeeper::Timekeeper;
use super::underway::UnderWay;
use super::watch::Watch;
use crate::clock::dotted;
use crate::format::inode::Inode;
use crate::format::provenance::{Provenance, Reason};
use crate::format::view::Consistency;
use crate::format::{Ino, LineId, Slot, ViewId};
use crate::fs::attributes::{attr, entry, time_of};
use crate::fs::commits::Commits;
use crate::fs::error::write_back_error;
use crate::fs::heads::Head;
use crate::fs::items::Items;
use crate::fs::listing::Listing;
use crate::fs::options::SnapGroup;
use crate::limits::SNAPSHOT_NAME_BYTES_MAX;
use crate::ops::{Attr, Entrance, Entry, Error, FileType, NodeId, RenameMode, Result, Timestamp, Way};
use crate::volume::{NewHold, NewSnapshot, ReserveFor, SnapshotInfo, VolumeError};
use parking_lot::{Mutex, MutexGuard};
use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Cookies of snapshots are their view numbers plus this: behind `.` and `..`.
const COOKIE_BASE: u64 = 3;
/// Snapshots looked at together while a `.snapshots` is listed.
const LIST_BATCH: usize = 256;
/// That of the root of a mount, which the kernel always may know.
const ROOT_SNAPDIR: NodeId = NodeId::snapdir(0, 1);

/// Refuses what cannot name a snapshot or clone that is made for that reason.
pub fn check_snapshot_name(name: &[u8], reason: Reason) -> Result<()> {
    if name.len() > SNAPSHOT_NAME_BYTES_MAX {
        return Err(Error::NameTooLong);
    }
    if name.is_empty() || name.contains(&b'/') || name.contains(&0) {
        return Err(Error::Invalid);
    }
    let automatic = reason.name_prefix().is_some_and(|prefix| name.starts_with(prefix.as_bytes()));
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
    /// Itself, for threads of its own.
    pub(super) me: Weak<Past>,
    /// What is below.
    pub commits: Arc<Commits>,
    /// One snapshot at a time is created, renamed or deleted.
    snapshot_lock: Mutex<()>,
    /// One purge at a time, to its end. Taken before all others.
    pub(super) purging: Mutex<()>,
    /// Purges are to end.
    pub(super) purges_end: AtomicBool,
    /// Snapshots that are file systems of their own now, and how often.
    standing_alone: Mutex<HashMap<ViewId, usize>>,
    /// The `.snapshots` that the kernel knows.
    pub known_snapdirs: KnownSnapdirs,
    /// Nanoseconds for which the last snapshot held up changes.
    pause_ns: AtomicU64,
    /// Clones that may go by themselves.
    pub(super) watch: Watch,
    /// What is remembered of schedules.
    pub timekeeper: Timekeeper,
    /// How old the store is.
    pub(super) ageing: Ageing,
    /// When the mount began, as time that has passed.
    pub(super) begun: Duration,
    /// Snapshots that the trip wire has kept since, and when, in the same way. A leaf.
    pub(super) kept_at: Mutex<HashMap<ViewId, Duration>>,
    /// What is remembered of guards. A leaf.
    pub(super) guards: Mutex<SeenGuards>,
    /// What snapshots that may go hold.
    pub room: MadeRoom,
    /// Commands that steps and trials were made for.
    pub under_way: Arc<UnderWay>,
    /// What is being received now.
    pub arriving: Arriving,
    /// What is being sent now.
    pub departing: Arc<Departing>,
}

impl Past {
    /// Of the heads of `commits`.
    pub fn new(commits: Arc<Commits>) -> Arc<Past> {
        Arc::new_cyclic(|me| Past {
            me: me.clone(),
            begun: commits.heads.clock.passed(),
            commits,
            snapshot_lock: Mutex::new(()),
            purging: Mutex::new(()),
            purges_end: AtomicBool::new(false),
            standing_alone: Mutex::default(),
            known_snapdirs: KnownSnapdirs::default(),
            pause_ns: AtomicU64::new(0),
            watch: Watch::default(),
            timekeeper: Timekeeper::default(),
            ageing: Ageing::default(),
            kept_at: Mutex::default(),
            guards: Mutex::default(),
            room: MadeRoom::default(),
            under_way: Arc::default(),
            arriving: Arriving::default(),
            departing: Arc::default(),
        })
    }

    /// Keeps a snapshot from being deleted until [`Self::let_go`]. The caller keeps deletions off meanwhile.
    pub fn stand_alone(&self, view: ViewId, _: &OneAtATime<'_>) {
        *self.standing_alone.lock().entry(view).or_default() += 1;
        self.room.standing.fetch_add(1, Ordering::SeqCst);
    }

    /// True if one of these snapshots is kept so.
    pub fn is_kept(&self, mut views: impl Iterator<Item = ViewId>) -> bool {
        let all = self.standing_alone.lock();
        views.any(|view| all.contains_key(&view))
    }

    /// True if a snapshot stays for now, whatever is kept about it in the store: it is a file system of its own, something is
    /// being received that is told against it, or it is being sent.
    pub fn is_in_use_here(&self, view: ViewId) -> bool {
        self.is_kept(std::iter::once(view))
            || self.received_against(view).is_some()
            || self.departing.has(view)
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
        self.room.standing.fetch_add(1, Ordering::SeqCst);
    }

    /// Gives a snapshot of a line another name.
    pub fn rename_snapshot(&self, head: &Head, name: &[u8], new: &[u8]) -> Result<()> {
        let done = self.move_snapshot(head, name, new);
        self.tell_snapdirs(head, None, name); // that there is no such snapshot is kept nowhere
        done.and_then(|()| self.commits.outlive())
    }

    /// Deletes a snapshot of a line, or has it in the trash: its name at once, its space in the background. Open files in it stay readable.
    pub fn delete_snapshot(&self, head: &Head, name: &[u8], deletion: Deletion<'_>) -> Result<()> {
        self.commits.heads.check_writable()?;
        self.have_room_ahead(ReserveFor::Delete, &[])?;
        let done = self.discard_snapshot(head, name, deletion, &self.one_at_a_time());
        self.let_go_of_point();
        self.tell_snapdirs(head, None, name);
        done.and_then(|()| self.commits.outlive())
    }

    /// A name of a head's line may be gone: has the kernel drop it in each `.snapshots` that it knows, where it is. Not in
    /// the one that the request came to: the kernel has seen to that itself, and has it locked until it is answered. Before
    /// that: whoever asked may look elsewhere. What was refused leaves the name, and then nobody is told, for dropping a name
    /// detaches what is mounted below it.
    pub(super) fn tell_snapdirs(&self, head: &Head, asked: Option<NodeId>, name: &[u8]) {
        if self.commits.heads.volume.find_snapshot(head.line, name).is_none() {
            self.tell_where_gone(asked, &[name.to_vec()]);
        }
    }

    /// Snapshots of these names went with their line: the same, for all that have shown them.
    pub(super) fn tell_gone(&self, names: &[Vec<u8>]) {
        if !names.is_empty() {
            self.forget_snapdirs();
            self.tell_where_gone(None, names);
        }
    }

    /// The same for the `.snapshots` alone that the kernel knows, `asked` left out.
    pub(super) fn tell_where_gone(&self, asked: Option<NodeId>, names: &[Vec<u8>]) {
        let (heads, mut gone) = (&self.commits.heads, Vec::new());
        let all = [vec![ROOT_SNAPDIR], self.known_snapdirs.all()].concat();
        for snapdir in all.into_iter().filter(|snapdir| Some(*snapdir) != asked) {
            let Ok(head) = heads.known_line_of(snapdir) else { continue };
            let missing = names.iter().filter(|name| heads.volume.find_snapshot(head.line, name).is_none());
            gone.extend(missing.map(|name| (snapdir, name.clone())));
        }
        if !gone.is_empty() {
            heads.kernel().drop_names(gone);
        }
    }

    /// A name may be gone by a request in a `.snapshots`, which is about to be answered.
    pub fn tell_other_snapdirs(&self, asked: NodeId, name: &[u8]) {
        if let Ok(head) = self.of_root(asked) {
            self.tell_snapdirs(&head, Some(asked), name);
        }
    }

    /// True if nobody but the `.snapshots` that a request came to has to be told that a name is gone there.
    pub fn is_alone(&self, snapdir: NodeId) -> bool {
        snapdir == ROOT_SNAPDIR && self.known_snapdirs.all().is_empty()
    }

    /// For how long the last snapshot held up changes.
    pub fn snapshot_pause(&self) -> Duration {
        Duration::from_nanos(self.pause_ns.load(Ordering::Relaxed))
    }

    /// Makes a snapshot of a head, durable when this returns. Everything whose `write` returned before the call is in. On an
    /// error nothing is left.
    pub fn take_snapshot(&self, head: &Arc<Head>, name: &[u8], provenance: &Provenance) -> Result<ViewId> {
        self.take_snapshot_as(head, name, provenance, Reached::PLAIN)
    }

    /// The same after applications have done what they do for that, or have failed to.
    pub fn take_snapshot_as(
        &self,
        head: &Arc<Head>,
        name: &[u8],
        provenance: &Provenance,
        reached: Reached<'_>,
    ) -> Result<ViewId> {
        self.have_room_ahead(ReserveFor::Record, std::slice::from_ref(head))?;
        self.snapshot_held(head, name, provenance, reached, &self.one_at_a_time())
    }

    /// Makes an automatic snapshot, whose name tells what for and when. As [`Self::take_snapshot`].
    pub fn guard(
        &self,
        head: &Arc<Head>,
        provenance: &Provenance,
        held: &OneAtATime<'_>,
    ) -> Result<SnapshotInfo> {
        self.guard_as(head, provenance, Reached::PLAIN, held)
    }

    /// The same after applications have done what they do for that, or have failed to.
    pub fn guard_as(
        &self,
        head: &Arc<Head>,
        provenance: &Provenance,
        reached: Reached<'_>,
        held: &OneAtATime<'_>,
    ) -> Result<SnapshotInfo> {
        let name = self.automatic_name(head, provenance.reason)?;
        let id = self.snapshot_held(head, &name, provenance, reached, held)?;
        self.commits.heads.volume.snapshot_info(id).ok_or(Error::Stale)
    }

    /// Makes an automatic snapshot of a head that holds nothing back and whose gate the caller holds since then, and commits off. False
    /// if the log does not hold it: then the caller's next commit makes it durable. It is told by [`Self::forget_snapdirs`].
    pub fn guard_as_held(
        &self,
        head: &Head,
        provenance: &Provenance,
        closed: Instant,
        _held: &OneAtATime<'_>,
    ) -> Result<(SnapshotInfo, bool)> {
        let (heads, name) = (&self.commits.heads, self.automatic_name(head, provenance.reason)?);
        let now = heads.clock.now();
        let new = NewSnapshot {
            name: &name,
            created: (now.secs, now.nanos),
            consistency: Consistency::FileSystem,
            provenance,
            pause_ns: &|| closed.elapsed().as_nanos() as u64,
            identity: None,
        };
        let (id, durable) = heads.volume.create_snapshot(head.line, &new, &mut |_| Ok(()))?;
        Ok((heads.volume.snapshot_info(id).ok_or(Error::Stale)?, durable))
    }

    /// The name of an automatic snapshot of now: a second that is taken gets the next free one.
    pub(super) fn automatic_name(&self, head: &Head, reason: Reason) -> Result<Vec<u8>> {
        self.automatic_name_besides(head, reason, None)
    }

    /// The same, if it is to be free in another line as well.
    pub(super) fn automatic_name_besides(
        &self,
        head: &Head,
        reason: Reason,
        besides: Option<LineId>,
    ) -> Result<Vec<u8>> {
        let heads = &self.commits.heads;
        let prefix = reason.name_prefix().ok_or(Error::Invalid)?;
        let now = heads.clock.now();
        let names = (0..).map(|later| {
            format!("{prefix}{}", dotted(Timestamp { secs: now.secs + later, nanos: 0 })).into_bytes()
        });
        let lines = || besides.into_iter().chain([head.line]);
        let mut free =
            names.filter(|name| lines().all(|line| heads.volume.find_snapshot(line, name).is_none()));
        free.next().ok_or(Error::Invalid)
    }

    /// As [`Self::take_snapshot`].
    pub(super) fn snapshot_held(
        &self,
        head: &Arc<Head>,
        name: &[u8],
        provenance: &Provenance,
        reached: Reached<'_>,
        held: &OneAtATime<'_>,
    ) -> Result<ViewId> {
        self.snapshot_with(head, (name, provenance, reached), None, held)
    }

    /// The same of one that has a hold from the first moment on.
    pub(super) fn snapshot_with(
        &self,
        head: &Arc<Head>,
        what: (&[u8], &Provenance, Reached<'_>),
        hold: Option<&NewHold<'_>>,
        held: &OneAtATime<'_>,
    ) -> Result<ViewId> {
        loop {
            if let Some(made) = self.snapshot_once(head, what, hold, held)? {
                return Ok(made);
            }
        }
    }

    /// None if it is to be tried again: the line was thawed in between.
    fn snapshot_once(
        &self,
        head: &Arc<Head>,
        (name, provenance, reached): (&[u8], &Provenance, Reached<'_>),
        hold: Option<&NewHold<'_>>,
        _held: &OneAtATime<'_>,
    ) -> Result<Option<ViewId>> {
        check_snapshot_name(name, provenance.reason)?;
        let heads = &self.commits.heads;
        heads.check_writable()?;
        if heads.volume.find_snapshot(head.line, name).is_some() {
            return Err(Error::Exists);
        }
        let frost = heads.frost_of(head);
        self.write_back(head)?;
        self.commits.have_room_for_records(ReserveFor::Record)?;
        let no_commit = self.commits.hold_off();
        let (closed, mut is_late) = (OnceCell::new(), false);
        let paused = || closed.get().map_or(Duration::ZERO, Instant::elapsed);
        let mut pause = Duration::ZERO;
        let now = heads.clock.now();
        let new = NewSnapshot {
            name,
            created: (now.secs, now.nanos),
            consistency: heads.level_of(head, reached.level, reached.frosts),
            provenance,
            pause_ns: &|| paused().as_nanos() as u64,
            identity: None,
        };
        let note_closed = &mut |at| closed.set(at).expect("changes are held up once");
        let made = self.commits.complete(std::slice::from_ref(head), note_closed, &mut |prepare| {
            is_late = frost.is_some() && heads.frost_of(head) != frost;
            if is_late {
                return Err(VolumeError::NoSuchView); // changes have gone on since what the kernel holds was asked for
            }
            heads.volume.create_held_snapshot(head.line, &new, hold, &mut |txn| {
                prepare(txn)?;
                pause = paused();
                Ok(())
            })
        });
        if is_late {
            return Ok(None);
        }
        // Also after a failure: until it was known there was one snapshot more to be seen.
        self.forget_snapdirs();
        let (id, durable) = made?;
        self.pause_ns.store(pause.as_nanos() as u64, Ordering::Relaxed);
        drop(no_commit);
        if !durable && let Err(e) = self.commits.commit() {
            heads.volume.take_back_snapshot(head.line, id);
            self.forget_snapdirs();
            return Err(e);
        }
        Ok(Some(id))
    }

    /// Has the kernel hand over what it holds of files of a head that are open for writing: that takes the flusher, and so a
    /// switch of processes or two, where it may hold anything. Of a line that is frozen it did so when that began, and what it
    /// has taken up since waits.
    pub fn write_back(&self, head: &Head) -> Result<()> {
        let heads = &self.commits.heads;
        let Some(_handing_over) = heads.frosts.hand_over(head.node(Ino::ROOT).tree()) else { return Ok(()) };
        let of_head =
            heads.handles.mappers().into_iter().filter(|node| node.tree() == head.node(Ino::ROOT).tree());
        let writers: Vec<_> = of_head
            .map(|node| Ok((node, heads.generation(node, FileType::Regular)?)))
            .collect::<Result<_>>()?;
        if writers.is_empty() {
            Ok(())
        } else {
            heads.kernel().write_back(&writers).map_err(write_back_error)
        }
    }

    fn move_snapshot(&self, head: &Head, name: &[u8], new: &[u8]) -> Result<()> {
        check_snapshot_name(new, Reason::User)?;
        self.commits.heads.check_writable()?;
        self.have_room_ahead(ReserveFor::Record, &[])?;
        let _held = self.one_at_a_time();
        let info = self.commits.heads.volume.find_snapshot(head.line, name).ok_or(Error::NotFound)?;
        if name == new {
            return Ok(());
        }
        self.commits.have_room_for_records(ReserveFor::Record)?;
        self.commits.heads.volume.rename_snapshot(head.line, info.id, new)?;
        self.forget_snapdirs();
        Ok(())
    }

    /// Waits for the snapshot that is being made, or deleted, and keeps others from it.
    pub fn one_at_a_time(&self) -> OneAtATime<'_> {
        self.snapshot_lock.lock()
    }

    /// The same without waiting. While a snapshot is being made its maker may wait for requests of the kernel.
    pub fn one_at_a_time_now(&self) -> Option<OneAtATime<'_>> {
        self.snapshot_lock.try_lock()
    }

    /// The same, if that takes no longer than this.
    pub fn one_at_a_time_within(&self, patience: Duration) -> Option<OneAtATime<'_>> {
        self.snapshot_lock.try_lock_for(patience)
    }

    pub(super) fn drop_snapshot(&self, head: &Head, name: &[u8], held: &OneAtATime<'_>) -> Result<()> {
        self.discard_snapshot(head, name, Deletion::Final, held)
    }

    fn discard_snapshot(
        &self,
        head: &Head,
        name: &[u8],
        deletion: Deletion<'_>,
        _: &OneAtATime<'_>,
    ) -> Result<()> {
        self.commits.heads.check_writable()?;
        let info = self.commits.heads.volume.find_snapshot(head.line, name).ok_or(Error::NotFound)?;
        if self.is_in_use_here(info.id) {
            return Err(Error::Busy);
        }
        self.commits.have_room_for_records(ReserveFor::Delete)?;
        let volume = &self.commits.heads.volume;
        let kept =
            self.with_new_trash(deletion, |new| Ok(volume.trash_snapshot(head.line, info.id, new)?))?;
        if kept.is_none() {
            volume.delete_snapshot(head.line, info.id)?;
            self.gone_for_good(deletion, name);
        }
        let root = NodeId::snapshot(info.slot.0, Ino::ROOT.0);
        let heads = &self.commits.heads;
        heads.kernel().detach_below(root, &[&heads.options.snapdir_name[..], b"/", name].concat());
        self.forget_snapdirs();
        Ok(())
    }

    /// `mkdir` in a `.snapshots`, by this user.
    pub fn make_in_snapdir(&self, snapdir: NodeId, name: &[u8], user: u32) -> Result<Entry> {
        let head = self.of_root(snapdir)?;
        let provenance = Provenance { user: Some(user), ..Provenance::default() };
        let made = self.take_snapshot(&head, name, &provenance)?;
        self.find_in_snapdir(snapdir, name).or_else(|e| {
            // What cannot be shown to whoever made it was not made.
            self.commits.heads.volume.delete_snapshot(head.line, made)?;
            self.forget_snapdirs();
            self.commits.outlive()?;
            Err(e)
        })
    }

    /// `rmdir` in a `.snapshots`, by this user.
    pub fn remove_in_snapdir(
        &self,
        snapdir: NodeId,
        name: &[u8],
        user: u32,
        held: &OneAtATime<'_>,
    ) -> Result<()> {
        let by = Provenance { user: Some(user), ..Provenance::default() };
        let done = self.discard_snapshot(&*self.of_root(snapdir)?, name, Deletion::Kept(&by), held);
        self.let_go_of_point();
        done
    }

    /// `rename` inside `.snapshots`.
    pub fn rename_in_snapdir(
        &self,
        snapdir: NodeId,
        name: &[u8],
        new_snapdir: NodeId,
        new: &[u8],
        mode: RenameMode,
    ) -> Result<()> {
        let head = self.of_root(snapdir)?;
        if self.of_root(new_snapdir)?.line != head.line {
            return Err(Error::CrossView);
        }
        match mode {
            RenameMode::Exchange | RenameMode::Whiteout => Err(Error::Invalid),
            RenameMode::NoReplace if name == new => Err(Error::Exists),
            RenameMode::NoReplace | RenameMode::Replace => {
                let done = self.move_snapshot(&head, name, new);
                self.tell_snapdirs(&head, Some(snapdir), name);
                done
            }
        }
    }

    /// The head whose root has this `.snapshots`. Elsewhere nothing changes.
    fn of_root(&self, snapdir: NodeId) -> Result<Arc<Head>> {
        let head = self.commits.heads.line_of(snapdir)?;
        if Ino(snapdir.ino()) == Ino::ROOT { Ok(head) } else { Err(Error::NotPermitted) }
    }

    /// What `stat` shows of a `.snapshots`.
    pub fn snapdir_attr(&self, snapdir: NodeId) -> Result<Attr> {
        let (head, dir, inode) = self.directory(snapdir)?;
        if inode.kind != FileType::Directory {
            return Err(Error::NotADirectory);
        }
        let newest = self.commits.heads.volume.newest_snapshot(head.line);
        let time = newest.map_or(inode.btime, |s| time_of(s.created));
        // Elsewhere than in the root the number would have to be looked for; 1 says that it is not known.
        let nlink =
            if dir == Ino::ROOT { 2 + self.commits.heads.volume.snapshot_count(head.line) as u32 } else { 1 };
        // Nothing is made or deleted elsewhere.
        let group = self.commits.heads.options.snap_group.filter(|_| dir == Ino::ROOT);
        Ok(Attr {
            mode: group.map_or(0o755, SnapGroup::mode),
            gid: group.map_or(inode.gid, |group| group.gid),
            nlink,
            size: 0,
            blocks: 0,
            atime: time,
            mtime: time,
            ctime: time,
            ..attr(&self.commits.heads, snapdir, &inode)
        })
    }

    /// A `.snapshots` as the answer to a lookup. It stays where it is for ever.
    pub fn snapdir_entry(&self, snapdir: NodeId) -> Result<Entry> {
        // Known before it is read: whatever changes it from here on is told.
        let kept = snapdir == ROOT_SNAPDIR || self.known_snapdirs.answer(snapdir);
        let ttl = if kept { Duration::MAX } else { Duration::ZERO };
        let read = || {
            let attr = self.snapdir_attr(snapdir)?;
            Ok((attr, self.commits.heads.generation(snapdir, FileType::Directory)?))
        };
        let (attr, generation) = read().inspect_err(|_: &Error| self.known_snapdirs.forget(snapdir, 1))?;
        Ok(Entry { attr, generation, entry_ttl: ttl, attr_ttl: ttl })
    }

    /// The kernel keeps what `stat` shows of a `.snapshots` that it knows until it is told: called before whatever changes
    /// that is answered.
    pub fn forget_snapdirs(&self) {
        self.room.has_changed();
        self.forget_snapdir(ROOT_SNAPDIR);
        self.known_snapdirs.all().into_iter().for_each(|snapdir| self.forget_snapdir(snapdir));
    }

    /// The same for one `.snapshots`.
    pub fn forget_snapdir(&self, snapdir: NodeId) {
        if snapdir == ROOT_SNAPDIR || self.known_snapdirs.contains(snapdir) {
            self.commits.heads.kernel().forget_attributes(snapdir);
        }
    }

    /// For how long the kernel may keep what it is told of a `.snapshots`.
    pub fn snapdir_ttl(&self, snapdir: NodeId) -> Duration {
        let kept = snapdir == ROOT_SNAPDIR || self.known_snapdirs.contains(snapdir);
        if kept { Duration::MAX } else { Duration::ZERO }
    }

    /// The directory whose past a `.snapshots` shows.
    fn directory(&self, snapdir: NodeId) -> Result<(Arc<Head>, Ino, Inode)> {
        let heads = &self.commits.heads;
        let (head, dir) = (heads.line_of(snapdir)?, Ino(snapdir.ino()));
        let inode = heads.live_inode(&head, dir)?;
        Ok((head, dir, inode))
    }

    /// Finds a snapshot of its line by name, as the past of its directory.
    pub fn find_in_snapdir(&self, snapdir: NodeId, name: &[u8]) -> Result<Entry> {
        let heads = &self.commits.heads;
        match name {
            b"." => return self.snapdir_entry(snapdir),
            b".." => {
                let (head, dir, inode) = self.directory(snapdir)?;
                return entry(heads, head.node(dir), &inode);
            }
            _ => {}
        }
        let (line, dir) = (heads.line_of(snapdir)?.line, Ino(snapdir.ino()));
        // Asked before the name is looked for: what takes it away later tells the kernel.
        let kept = self.snapdir_ttl(snapdir);
        if let Some(info) = heads.volume.find_snapshot(line, name) {
            let found = self.past_entry(dir, &info, Entrance::Name)?.ok_or(Error::NotFound)?;
            return Ok(Entry { entry_ttl: kept, ..found });
        }
        if name.first() != Some(&b'@') {
            return Err(Error::NotFound);
        }
        let mut past = heads.volume.snapshots(line);
        past.retain(|s| self.was_there(dir, s));
        let created: Vec<Timestamp> = past.iter().map(|s| time_of(s.created)).collect();
        let found = pick(name, heads.clock.now(), &created).ok_or(Error::NotFound)?;
        self.past_entry(dir, &past[found], Entrance::Age)?.ok_or(Error::NotFound)
    }

    /// The snapshot that a name stands for in the `.snapshots` of a line's root: its own, or one that picks by age.
    pub fn find_snapshot(&self, head: &Head, name: &[u8]) -> Result<ViewId> {
        if matches!(name, b"." | b"..") {
            return Err(Error::NotFound);
        }
        let snapdir = NodeId::snapdir(head.node(Ino::ROOT).slot(), Ino::ROOT.0);
        let slot = Slot(self.find_in_snapdir(snapdir, name)?.attr.node.slot());
        Ok(self.commits.heads.volume.snapshot_by_slot(slot).ok_or(Error::Stale)?.id)
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

    /// Lists the snapshots of its line in which its directory was there.
    pub fn list_snapdir(&self, mut listing: Listing) -> Result<()> {
        // The kernel asks again before it believes these attributes, so they need not be read from each snapshot.
        let (head, dir, live) = self.directory(listing.node)?;
        if !listing.give_dots(head.node(dir))? {
            return Ok(());
        }
        loop {
            let after = ViewId(listing.after.saturating_sub(COOKIE_BASE));
            let batch = self.commits.heads.volume.snapshots_after(head.line, after, LIST_BATCH);
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
