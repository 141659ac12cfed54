//! What the commands need of the storage engine, and nothing more: the seam between `cli` and everything below it.
//!
//! [`Backend`] opens, makes and checks stores; an [`Engine`] is an open one. The program is given a backend
//! ([`super::run`]), so that the commands can be tried over a file system in memory as well.

pub use super::delete_order::DeleteOrder;
pub use super::freeze_order::FrostWish;
pub use super::hold_order::{HoldOrder, WantedHold};
pub use super::hydrate_order::HydrateOrder;
pub use super::mirror_order::MirrorOrder;
pub use super::schedule_order::{ScheduleOrder, ScheduleWish};
pub use super::sides::Partner;
pub use super::space_order::{SpaceOrder, SpaceQuestion};
pub use super::stream_order::StreamOrder;
pub use super::trash_order::{TrashOrder, UndeleteOrder};
use crate::check::Depth;
use crate::ctl::{Code, Failure, StoreId};
use crate::format::provenance::Provenance;
use crate::format::view::Consistency;
use crate::format::{Compression, Copies};
pub use crate::fs::{
    AtimeMode, AtimeOptions, ClonedirMode, Cover, GroupMay, InTheWay, MergeWay, OpenForWriting, SnapGroup,
    SnapdirMode,
};
use crate::fs::{GoesOn, Reached, RestoreOrder, SNAPDIR_NAME};
use crate::names;
use crate::ops::{KernelRef, NodeId, Operations, Timestamp};
use crate::repair::{Mode, Repair};
use crate::salvage::{Listener, Summary, Wanted};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What a store may be opened for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenFor {
    /// To serve it: a directory that is missing or empty becomes a store first.
    Mount,
    /// To serve it without any change.
    MountReadOnly,
    /// To look at it: no change, no lock that keeps a daemon out for long.
    Look,
    /// To look at what a mount would find in it, the log included: what changes is kept in memory.
    LookAsMounted,
    /// To work on it without serving it: as for a mount, but nothing is made a store.
    Work,
}

impl OpenFor {
    /// True if changes are taken that go to the store.
    pub fn writes(self) -> bool {
        matches!(self, OpenFor::Mount | OpenFor::Work)
    }

    /// True if changes are taken, be it in memory alone.
    pub fn takes_changes(self) -> bool {
        self.writes() || self == OpenFor::LookAsMounted
    }
}

/// What a scrub is told. Limits are bytes a second: 0 as it finds right, the greatest number none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScrubOrder {
    /// To begin.
    Start {
        /// How fast.
        limit: Option<u64>,
    },
    /// To wait until it is told to go on, also over unmounting.
    Pause,
    /// To go on.
    Resume {
        /// How fast from now on; as before if nothing is said.
        limit: Option<u64>,
    },
    /// To end for good.
    Stop,
    /// To tell how it stands.
    Status,
}

/// Which difference is wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiffOrder {
    /// The word for the older view.
    pub from: Vec<u8>,
    /// The word for the newer one.
    pub to: Vec<u8>,
    /// Only what is, or was, this node or below it.
    pub under: Option<u64>,
    /// What is told of it.
    pub told: DiffTold,
}

/// What is told of a difference.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiffTold {
    /// Each change.
    Changes,
    /// Every path that is not what it was: of what was renamed both, and those of all that is below it.
    Paths,
    /// A patch.
    Patch,
}

/// What is wanted of the past of a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PathQuestion {
    /// Its versions.
    Versions,
    /// What happened to it.
    Log {
        /// The word for the snapshot after which it begins.
        since: Option<Vec<u8>>,
        /// Moments at most.
        most: u64,
    },
}

/// Which past of which path is wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PathOrder {
    /// What of it.
    pub question: PathQuestion,
    /// The last directory on the way that is there now; without names a root.
    pub dir: u64,
    /// Names below it.
    pub names: Vec<Vec<u8>>,
    /// The directory is one of the mount of this snapshot alone.
    pub of_snapshot: Option<Vec<u8>>,
}

/// Which clone is to be merged or rebased.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MergeRequest {
    /// A node of the line that it was made from.
    pub at: NodeId,
    /// Its name.
    pub name: Vec<u8>,
    /// Which way.
    pub way: MergeWay,
    /// Only tell.
    pub dry_run: bool,
    /// Why and by whom.
    pub provenance: Provenance,
}

/// Which changes are wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChangesOrder {
    /// The word for the view since which.
    pub since: Vec<u8>,
    /// Only what is, or was, this node or below it.
    pub under: Option<u64>,
    /// To go on, and look so often.
    pub interval: Option<Duration>,
}

/// How to open a store.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// What for.
    pub access: OpenFor,
    /// Cache of clean blocks, in bytes.
    pub cache_bytes: u64,
    /// Changes that may wait for a commit, in bytes.
    pub dirty_bytes: u64,
    /// Longest time between a change and its commit.
    pub commit_interval: Duration,
    /// Where `.snapshots` shows itself.
    pub snapdir: SnapdirMode,
    /// `.snapshots` is in every directory, not in the root alone.
    pub snapdir_everywhere: bool,
    /// Its name in the place of `.snapshots`: what can name a file.
    pub snapdir_name: Vec<u8>,
    /// Groups whose members make snapshots, and also rename and delete them. If there are both, they are the same.
    pub snap_create: Option<u32>,
    /// See there.
    pub snap_delete: Option<u32>,
    /// Whether there is `.clones`.
    pub clonedir: ClonedirMode,
    /// Where the other side is, if it is mirrored.
    pub partner: Partner,
    /// The clone that is served in the place of the main line.
    pub root: Option<Vec<u8>>,
    /// Access times.
    pub atime: AtimeOptions,
    /// Where it is mounted, or is going to be.
    pub mount_point: Option<PathBuf>,
    /// The kernel collects writes (`cache=writeback`): sizes and times of open files are its.
    pub writeback_cache: bool,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions {
            access: OpenFor::Mount,
            cache_bytes: 256 << 20,
            dirty_bytes: 64 << 20,
            commit_interval: Duration::from_secs(5),
            snapdir: SnapdirMode::Hidden,
            snapdir_everywhere: true,
            snapdir_name: SNAPDIR_NAME.to_vec(),
            snap_create: None,
            snap_delete: None,
            clonedir: ClonedirMode::Hidden,
            partner: Partner::AsNoted,
            root: None,
            atime: AtimeOptions { mode: AtimeMode::Never, directories: true },
            mount_point: None,
            writeback_cache: false,
        }
    }
}

impl StoreOptions {
    /// The group that makes snapshots besides root and the owner of the root directory.
    pub fn snap_group(&self) -> Option<SnapGroup> {
        let deletes = self.snap_delete.map(|gid| SnapGroup { gid, may: GroupMay::MakeAndDelete });
        deletes.or(self.snap_create.map(|gid| SnapGroup { gid, may: GroupMay::Make }))
    }
}

/// How to make a store.
#[derive(Clone, Debug, Default)]
pub struct InitOptions {
    /// Size in bytes: of an image file that is made, or the limit of a directory store. `None`: what there is.
    pub size: Option<u64>,
    /// How often metadata is kept.
    pub metadata_copies: Copies,
    /// Compression of content that no directory or file says otherwise of.
    pub compression: Compression,
    /// Overwrites what is there.
    pub force: bool,
}

/// One snapshot in a listing. Sizes are counters, in bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotRow {
    /// Its name: any bytes.
    pub name: Vec<u8>,
    /// Its number, never reused.
    pub id: u64,
    /// Its point in time.
    pub created: Timestamp,
    /// What it reaches.
    pub referenced: u64,
    /// What its deletion would free; none where lines part, and no counter tells.
    pub exclusive: Option<u64>,
    /// What was written since the snapshot before it.
    pub written: u64,
    /// Why it was made.
    pub reason: String,
    /// What was said about it.
    pub description: Vec<u8>,
    /// What took part in it.
    pub consistency: Consistency,
    /// For how long it held up changes, in microseconds.
    pub pause_us: u64,
    /// What holds it: tags.
    pub held: Vec<String>,
    /// When content was last purged from it, or from what it was made of, in seconds since 1970 UTC.
    pub edited: Option<i64>,
    /// By which method it was made, if that was asked for.
    pub method: Option<String>,
}

/// What a user wants purged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PurgeRequest {
    /// The path; of it only where it is counts.
    pub path: PathOrder,
    /// In which snapshots, in the words of the user.
    pub snapshots: Vec<u8>,
    /// Whoever else has some of it loses it.
    pub all: bool,
    /// Nothing is done.
    pub dry_run: bool,
}

/// One clone in a listing. Sizes are counters, in bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CloneRow {
    /// Its name: any bytes.
    pub name: Vec<u8>,
    /// Its number, never reused.
    pub id: u64,
    /// When it was made.
    pub created: Timestamp,
    /// The view that it began as: `.` for the main line as it was then, `.clones/NAME` for another clone, a snapshot in one
    /// of these by its name behind `.snapshots/`. None if that is gone.
    pub origin: Option<Vec<u8>>,
    /// When it goes by itself.
    pub expires: Option<Timestamp>,
    /// For how many seconds it may be idle before it does.
    pub idle: Option<u64>,
    /// Why it was made.
    pub reason: String,
    /// Snapshots of its own.
    pub snapshots: u64,
    /// What it reaches.
    pub referenced: u64,
    /// What dropping it frees at least.
    pub exclusive: u64,
    /// What was written in it and is still there.
    pub written: u64,
}

/// Which line is to be rolled back, and to what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RollbackOrder {
    /// A node of the line.
    pub at: NodeId,
    /// The snapshot, as a user calls it.
    pub view: Vec<u8>,
    /// What becomes of files that are open for writing.
    pub writers: OpenForWriting,
    /// Nothing is to be done: what stands in the way is asked for.
    pub dry_run: bool,
}

/// Which clone is to become which line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PromoteOrder {
    /// Its name.
    pub name: Vec<u8>,
    /// The clone that it becomes, or the main line by an empty name. None: the line that it came from.
    pub onto: Option<Vec<u8>>,
    /// What the snapshot of what the line had is to be called.
    pub keep_as: Option<Vec<u8>>,
    /// What becomes of files that are open for writing.
    pub writers: OpenForWriting,
}

/// What came of a rollback, or of a promotion.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RollbackAnswer {
    /// The root of the line.
    pub root: NodeId,
    /// The name of the snapshot that it went back to, or would; of the clone that it became.
    pub view: Vec<u8>,
    /// The snapshot of what was there before; none if nothing was done.
    pub guard: Option<Vec<u8>>,
    /// What stands in the way.
    pub in_the_way: InTheWay,
}

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct CheckReport {
    /// One sentence for each damage; empty for a sound store.
    pub findings: Vec<String>,
    /// Numbers for people and programs: an object.
    pub summary: Value,
}

/// Makes, opens and checks stores.
pub trait Backend: Send + Sync {
    /// Opens a store. The failure is a sentence that names the store, and who holds it if it is in use.
    fn open(&self, store: &Path, options: &StoreOptions) -> Result<Arc<dyn Engine>, Failure>;
    /// Makes a store; the answer is an object that says what was made.
    fn init(&self, store: &Path, options: &InitOptions) -> Result<Value, Failure>;
    /// Proves the invariants from the bytes of a store that nobody has open. `progress` gets objects.
    fn check(
        &self,
        store: &Path,
        depth: Depth,
        progress: &mut dyn FnMut(Value),
    ) -> Result<CheckReport, Failure>;
    /// Repairs derived data of a store that nobody has open.
    fn repair(&self, store: &Path, mode: Mode, depth: Depth) -> Result<Repair, Failure>;
    /// Gets files out of a store that nobody has open, into `out` if that is given. Writes nothing to the store.
    fn salvage(
        &self,
        store: &Path,
        out: Option<&Path>,
        wanted: &Wanted,
        listener: &mut dyn Listener,
    ) -> Result<Summary, Failure>;
}

/// An open store. Any thread may call any method at any time.
pub trait Engine: Send + Sync {
    /// The file system in it.
    fn operations(&self) -> Arc<dyn Operations>;
    /// One snapshot as a file system of its own; it cannot be deleted before that is dropped.
    fn standalone(&self, name: &[u8]) -> Result<Arc<dyn Operations>, Failure> {
        let name = names::shown_bytes(name);
        Err(Failure::new(Code::NotFound, format!("{name}: no such snapshot")))
    }
    /// Tells it the way back to the kernel, once it is mounted.
    fn set_kernel(&self, kernel: KernelRef);
    /// All snapshots of the line that a node is of, oldest first. So for all that follow.
    fn snapshots(&self, at: NodeId) -> Result<Vec<SnapshotRow>, Failure>;
    /// The same of a clone, by its name.
    fn snapshots_of_clone(&self, name: &[u8]) -> Result<Vec<SnapshotRow>, Failure> {
        let name = names::shown_bytes(name);
        Err(Failure::new(Code::NotFound, format!("{name}: no such clone")))
    }
    /// By which method the snapshot of this number was made, if it is there. Reads its tree.
    fn method_of(&self, _id: u64) -> Option<String> {
        None
    }
    /// Makes a snapshot, before which this was reached with applications; it is durable when this returns.
    fn create(
        &self,
        at: NodeId,
        name: &[u8],
        provenance: &Provenance,
        reached: Reached<'_>,
    ) -> Result<SnapshotRow, Failure>;
    /// The same of one that is held from the first moment on.
    fn create_held(
        &self,
        _at: NodeId,
        _name: &[u8],
        _made: (&Provenance, Reached<'_>),
        _hold: &WantedHold,
    ) -> Result<SnapshotRow, Failure> {
        Err(Failure::new(Code::UnknownVerb, "snapshots of this store cannot be held"))
    }
    /// The one or the other.
    fn create_as(
        &self,
        at: NodeId,
        name: &[u8],
        made: (&Provenance, Reached<'_>),
        hold: Option<&WantedHold>,
    ) -> Result<SnapshotRow, Failure> {
        match hold {
            None => self.create(at, name, made.0, made.1),
            Some(hold) => self.create_held(at, name, made, hold),
        }
    }
    /// Takes that back: what was not made as it was asked for was not made.
    fn unmake(&self, at: NodeId, name: &[u8], hold: Option<&WantedHold>, by: &Provenance) {
        if let Some(hold) = hold {
            let order = HoldOrder::Release(name.to_vec(), Some(hold.tag.clone()));
            let _ = self.hold(at, &order, by);
        }
        let _ = self.delete(at, name);
    }
    /// Carries out an order about holds of snapshots, for whoever that is. Says what came of it: an object, or an array of what
    /// holds which.
    fn hold(&self, _at: NodeId, _order: &HoldOrder, _by: &Provenance) -> Result<Value, Failure> {
        Err(Failure::new(Code::UnknownVerb, "snapshots of this store cannot be held"))
    }
    /// Says where content goes that is written over in the tree of a line: `row` or `cow`.
    fn set_layout(&self, _at: NodeId, _layout: &str) -> Result<(), Failure> {
        Err(Failure::new(Code::UnknownVerb, "this store has no layouts"))
    }
    /// Renames a snapshot.
    fn rename(&self, at: NodeId, name: &[u8], new_name: &[u8]) -> Result<(), Failure>;
    /// Says something else about a snapshot than was said when it was made.
    fn describe(&self, _at: NodeId, _name: &[u8], _description: &[u8]) -> Result<(), Failure> {
        Err(Failure::new(Code::UnknownVerb, "nothing is said about snapshots of this store"))
    }
    /// Deletes a snapshot; the space comes back in the background.
    fn delete(&self, at: NodeId, name: &[u8]) -> Result<(), Failure>;
    /// Deletes snapshots by names and patterns, or tells which that would be; by whoever that is. Says which are gone, and which
    /// stay: an object.
    fn delete_meant(
        &self,
        order: &DeleteOrder,
        _by: &Provenance,
        _progress: &mut dyn FnMut(Value) -> bool,
    ) -> Result<Value, Failure> {
        order.by_name_alone(&mut |name| self.delete(order.at, name))
    }
    /// Drops a clone as users do: into the trash if there is one, unless it is to go now. Says what came of it: an object.
    fn discard_clone(&self, name: &[u8], _by: &Provenance, _now: bool) -> Result<Value, Failure> {
        self.drop_clone(name).map(|()| json!({}))
    }
    /// Carries out an order about the trash. Says what came of it: an object, or an array of what is in it.
    fn trash(&self, _at: NodeId, _order: &TrashOrder) -> Result<Value, Failure> {
        Err(Failure::new(Code::UnknownVerb, "this store has no trash"))
    }
    /// All clones, oldest first.
    fn clones(&self) -> Result<Vec<CloneRow>, Failure> {
        Ok(Vec::new())
    }
    /// Makes a clone of a line, or of a view of it; it is durable when this returns.
    fn create_clone(
        &self,
        _at: NodeId,
        _name: &[u8],
        _from: Option<&[u8]>,
        _provenance: &Provenance,
    ) -> Result<CloneRow, Failure> {
        Err(Failure::new(Code::UnknownVerb, "this store has no clones"))
    }
    /// Has a clone go by itself: after so many seconds, and when it was idle for so many.
    fn end_clone(&self, name: &[u8], _expire: Option<u64>, _idle: Option<u64>) -> Result<CloneRow, Failure> {
        let name = names::shown_bytes(name);
        Err(Failure::new(Code::NotFound, format!("{name}: no such clone")))
    }
    /// Makes a clone of a line under an automatic name, for a trial.
    fn begin_trial(
        &self,
        _at: NodeId,
        _provenance: &Provenance,
        _goes_on: GoesOn,
    ) -> Result<CloneRow, Failure> {
        Err(Failure::new(Code::UnknownVerb, "this store has no clones"))
    }
    /// The trial on this clone is about to cover these paths from the root of the mount, which are names of it.
    fn cover_trial(&self, name: &[u8], _paths: Vec<Vec<u8>>) -> Result<(), Failure> {
        let name = names::shown_bytes(name);
        Err(Failure::new(Code::NotFound, format!("{name}: no such clone")))
    }
    /// Makes a snapshot of a line under an automatic name, before a command is run on it. It, and so many older ones that
    /// were made for this that they are `keep` with it, are kept, and those of commands that go on.
    fn take_step(
        &self,
        _at: NodeId,
        _provenance: &Provenance,
        _keep: usize,
        _goes_on: GoesOn,
    ) -> Result<SnapshotRow, Failure> {
        Err(Failure::new(Code::UnknownVerb, "this store takes no steps"))
    }
    /// Renames a clone.
    fn rename_clone(&self, name: &[u8], _new_name: &[u8]) -> Result<(), Failure> {
        let name = names::shown_bytes(name);
        Err(Failure::new(Code::NotFound, format!("{name}: no such clone")))
    }
    /// Drops a clone; the space comes back in the background.
    fn drop_clone(&self, name: &[u8]) -> Result<(), Failure> {
        let name = names::shown_bytes(name);
        Err(Failure::new(Code::NotFound, format!("{name}: no such clone")))
    }
    /// Merges or rebases a clone: objects with changes or conflicts for `put`; the answer names the snapshots of before and
    /// after, and says whether the clone is gone.
    fn merge(&self, _request: &MergeRequest, _put: &mut dyn FnMut(Value) -> bool) -> Result<Value, Failure> {
        Err(Failure::new(Code::UnknownVerb, "this store has no clones"))
    }
    /// All that is known of a snapshot of the line that a node is of, or of a clone: an object.
    fn show(&self, _at: NodeId, name: &[u8]) -> Result<Value, Failure> {
        let name = names::shown_bytes(name);
        Err(Failure::new(Code::NotFound, format!("{name}: no such snapshot")))
    }
    /// Proves the invariants of the newest committed state, while everything goes on.
    fn check(&self, depth: Depth) -> Result<CheckReport, Failure>;
    /// Carries out an order about the sides of a mirror. Says how they stand, or what a comparison found: an object.
    fn mirror(
        &self,
        _order: &MirrorOrder,
        _progress: &mut dyn FnMut(Value) -> bool,
    ) -> Result<Value, Failure> {
        Err(Failure::new(Code::UnknownVerb, "this store cannot be mirrored"))
    }
    /// Parts the second side of a mirror, with a snapshot of that moment on both, held on both if that is wanted: an object, as of
    /// a snapshot, with the path of the store that left.
    fn split(
        &self,
        _at: NodeId,
        _name: &[u8],
        _made: (&Provenance, Reached<'_>),
        _hold: Option<&WantedHold>,
    ) -> Result<Value, Failure> {
        Err(Failure::new(Code::UnknownVerb, "this store cannot be split"))
    }
    /// Reads every block in the background and heals what has a second copy. Says how the scrub stands: an object.
    fn scrub(&self, _order: ScrubOrder) -> Result<Value, Failure> {
        Err(Failure::new(Code::UnknownVerb, "this store cannot be scrubbed"))
    }
    /// Freezes lines, or thaws them. Says which: an object.
    fn frost(&self, _wish: &FrostWish) -> Result<Value, Failure> {
        Err(Failure::new(Code::UnknownVerb, "this store cannot be frozen"))
    }
    /// Carries out an order about schedules of a line. Says what came of it: an object.
    fn schedule(
        &self,
        _order: &ScheduleOrder,
        _put: &mut dyn FnMut(Value) -> bool,
    ) -> Result<Value, Failure> {
        Err(Failure::new(Code::UnknownVerb, "this store takes no snapshots by itself"))
    }
    /// Answers a question about space: an object. What takes long tells `put` how far it is.
    fn space(&self, _order: &SpaceOrder, _put: &mut dyn FnMut(Value) -> bool) -> Result<Value, Failure> {
        Err(Failure::new(Code::UnknownVerb, "this store does not tell what its space is used for"))
    }
    /// What became of paths between two views: objects for `put`, until it has enough, which it says by false.
    fn diff(&self, _order: &DiffOrder, _put: &mut dyn FnMut(Value) -> bool) -> Result<(), Failure> {
        Err(Failure::new(Code::UnknownVerb, "views of this store cannot be compared"))
    }
    /// The past of a path: objects for `put`, until it has enough, which it says by false.
    fn past_of_path(&self, _order: &PathOrder, _put: &mut dyn FnMut(Value) -> bool) -> Result<(), Failure> {
        Err(Failure::new(Code::UnknownVerb, "this store does not tell the past of paths"))
    }

    /// Rolls the line that a node is of back to a snapshot, or says what would stand in the way.
    fn rollback(&self, _order: &RollbackOrder) -> Result<RollbackAnswer, Failure> {
        Err(Failure::new(Code::UnknownVerb, "this store cannot be rolled back"))
    }
    /// Has a clone become a line.
    fn promote(&self, _order: &PromoteOrder) -> Result<RollbackAnswer, Failure> {
        Err(Failure::new(Code::UnknownVerb, "this store has no clones"))
    }
    /// Restores paths, or only tells what that would change: objects for `put`. Says by which snapshots it is guarded.
    fn restore(
        &self,
        _order: &RestoreOrder,
        _dry_run: bool,
        _provenance: &Provenance,
        _put: &mut dyn FnMut(Value) -> bool,
    ) -> Result<Value, Failure> {
        Err(Failure::new(Code::UnknownVerb, "nothing of this store can be restored"))
    }
    /// Takes back what was done to the line that a node is of at last, or only tells what that would change: objects for
    /// `put`. The word of the order is of no account. Says what became of it: an object.
    fn undo(
        &self,
        _order: &RollbackOrder,
        _provenance: &Provenance,
        _put: &mut dyn FnMut(Value) -> bool,
    ) -> Result<Value, Failure> {
        Err(Failure::new(Code::UnknownVerb, "this store cannot take back anything"))
    }
    /// What has changed since a view, and what changes from then on if that is wanted: objects for `put`, until it has enough,
    /// which it says by false, or the store is closed.
    fn changes(&self, _order: &ChangesOrder, _put: &mut dyn FnMut(Value) -> bool) -> Result<(), Failure> {
        Err(Failure::new(Code::UnknownVerb, "views of this store cannot be compared"))
    }
    /// Carries out an order about streams, which go to `output` or come from `input`. Says what came of it.
    fn stream(
        &self,
        _order: &StreamOrder,
        _input: &mut dyn Read,
        _output: &mut dyn Write,
        _progress: &mut dyn FnMut(Value) -> bool,
    ) -> Result<Value, Failure> {
        Err(Failure::new(Code::UnknownVerb, "this store neither sends nor receives"))
    }
    /// Keeps a snapshot from being deleted while it is sent, until what this returns is dropped.
    fn keep_while_sent(
        &self,
        _at: NodeId,
        _view: &[u8],
        _user: Option<u32>,
    ) -> Result<Box<dyn Send>, Failure> {
        Ok(Box::new(()))
    }
    /// Carries out an order about the copies of a snapshot in other stores, or about all. Says how they stand: an array.
    fn hydrate(&self, _at: NodeId, _name: Option<&[u8]>, _order: &HydrateOrder) -> Result<Value, Failure> {
        Err(Failure::new(Code::UnknownVerb, "this store makes no copies in the background"))
    }
    /// Takes content of a path out of snapshots, or says what that would do: an object.
    fn purge(&self, _request: &PurgeRequest) -> Result<Value, Failure> {
        Err(Failure::new(Code::UnknownVerb, "this store does not purge content"))
    }
    /// How it is doing now: an object.
    fn status(&self) -> Value;
    /// Which file, directory or device the store is, by which it is known wherever it is moved. None: what is at its path.
    fn store_id(&self) -> Option<StoreId> {
        None
    }
    /// What kind of store it is: an object.
    fn info(&self) -> Value;
    /// Commits and closes. Called once, after the last request.
    fn close(&self) -> Result<(), Failure>;
}
