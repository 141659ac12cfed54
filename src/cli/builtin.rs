//! The backend of the program: stores of this crate.
//!
//! The composition root: the only place that makes a device, opens a volume on it and a file system on that. Every
//! refusal is a sentence that says what is wrong with which path and what to do.

use super::background::Background;
use super::checked::{listed_report, report, told_copy};
use super::comparing;
use super::delete_order::DeleteOrder;
use super::deleting;
use super::engine::PurgeRequest;
use super::engine::{
    Backend, ChangesOrder, CheckReport, CloneRow, DiffOrder, Engine, FrostWish, HoldOrder, InitOptions,
    MergeRequest, MirrorOrder, OpenFor, Partner, PathOrder, PromoteOrder, RollbackAnswer, RollbackOrder,
    ScheduleOrder, ScrubOrder, SnapshotRow, SpaceOrder, StoreOptions, StreamOrder, TrashOrder, WantedHold,
};
use super::feed::{self, Feeds};
use super::freezing;
use super::held;
use super::held_side::{self, HeldSide};
use super::hold::{before_copies, lock, probe};
use super::hooks::HostHooks;
use super::hydrate_order::HydrateOrder;
use super::hydrating::Hydrating;
use super::hydrator::Hydrator;
use super::listed::{self, listed, listed_clone};
use super::making::{self, NewStore, Old, make, unfinished};
use super::merging;
use super::mirroring::StoreSides;
use super::not_ours;
use super::offline;
use super::past_of_path;
use super::planning;
use super::property::Property;
use super::purge_order;
use super::refusal::{
    COPIED, io, limited, no_thread, told, told_clone, told_name, told_snapshot, told_too_many, told_volume,
};
use super::rewind;
use super::scrubber::Scrubber;
use super::show;
use super::sides::{self, OpenedSides, lasting_name, may_be_read, recorded};
use super::standing::{self, LagWanted};
use super::store_device::open_device;
use super::store_state;
use super::streaming;
use super::streams::StoreEnd;
use super::trashed;
use super::wire::encode;
use super::{restoring, scheduling, undo};
use crate::check::{self, Depth};
use crate::clock::Clock;
use crate::ctl::{Code, Failure, StoreId};
use crate::device::lock::{LockMode, StoreLock};
use crate::device::{self, Device, Overlay, StoreKind, mark};
use crate::format::provenance::Provenance;
use crate::format::{LineId, ViewId};
use crate::fs::{Fs, FsOptions, GoesOn, Reached, RestoreOrder, Steps};
use crate::names;
use crate::ops::{Caller, Error, KernelRef, NodeId, Operations, XattrMode};
use crate::repair::{Mode, Repair};
use crate::salvage::{Listener, Summary, Wanted};
use crate::sys::process;
use crate::volume::{OpenOptions, Volume};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Stores of this crate.
pub struct Builtin;

/// Memory for a store that gets a copy in the background: clean blocks and changes, in bytes.
const COPY_BYTES: (u64, u64) = (48 << 20, 32 << 20);

/// Clean tree nodes that are kept at least, in bytes.
const CLEAN_BYTES_MIN: u64 = 8 << 20;

impl Backend for Builtin {
    fn open(&self, store: &Path, options: &StoreOptions) -> Result<Arc<dyn Engine>, Failure> {
        // What is dirty is a part of the memory that was granted, not on top of it.
        let clean_bytes = options.cache_bytes.saturating_sub(options.dirty_bytes).max(CLEAN_BYTES_MIN);
        let open = || open_volume(store, options.access, &options.partner, clean_bytes);
        let opened = before_copies(store, options.mount_point.as_deref(), open)?;
        let fs_options = FsOptions {
            read_only: !options.access.takes_changes(),
            snapdir: options.snapdir,
            writeback_cache: options.writeback_cache,
            tripwire: options.access == OpenFor::Mount,
            snapdir_everywhere: options.snapdir_everywhere,
            snapdir_name: options.snapdir_name.clone(),
            snap_group: options.snap_group(),
            clonedir: options.clonedir,
            root: options.root.clone(),
            atime: options.atime,
            root_uid: process::effective_uid(),
            root_gid: process::effective_gid(),
            dirty_bytes_max: options.dirty_bytes / 2,
            steps: Steps::default(),
        };
        let fs = Fs::open(opened.volume, fs_options, Clock::System).map_err(|e| match &options.root {
            Some(clone) if e == Error::NotFound => told_clone(clone, &e),
            _ => told(store, &e),
        })?;
        // Damage here would show as a mount that does not answer.
        fs.getattr(NodeId::ROOT, None).map_err(|e| match e {
            Error::Stale => {
                let what = "its making was cut off; mount it once for writing, or make it again";
                Failure::new(Code::Invalid, format!("{}: {what}", names::shown(store)))
            }
            e => told(store, &e),
        })?;
        if let (OpenFor::Mount, Some(mount)) = (options.access, &options.mount_point) {
            fs.set_applications(HostHooks::of(&fs, mount, store));
        }
        let background = options
            .access
            .writes()
            .then(|| Background::start(&fs, options.commit_interval, options.access))
            .transpose()
            .map_err(|e| Failure::new(Code::Other, no_thread(&e)))?;
        let scrubber = Scrubber::open(fs.volume().clone(), Clock::System, options.access.writes());
        let work = Hydrating { fs: fs.clone(), store: store.into(), open: Box::new(open_for_copy) };
        let hydrator = Hydrator::new(work, Clock::System);
        let (sides, lock, stands) = match opened.held {
            Held::Lock(lock, stands) => (None, Some(lock), stands),
            Held::Sides(sides) => (Some(StoreSides::new(&fs, sides)), None, None),
        };
        Ok(Arc::new(Open {
            fs,
            feeds: Feeds::default(),
            scrubber,
            hydrator,
            background: Mutex::new(background),
            store: store.into(),
            writes: options.access.writes(),
            sides,
            stands,
            lock: Mutex::new(lock),
        }))
    }

    fn init(&self, store: &Path, options: &InitOptions) -> Result<Value, Failure> {
        let (copies, compression) = (options.metadata_copies, options.compression);
        let new = NewStore { copies, compression, ..NewStore::default() };
        let old = if options.force { Old::Goes } else { Old::Stays };
        making::init(store, options.size, &new, old)
    }

    fn check(
        &self,
        store: &Path,
        depth: Depth,
        _progress: &mut dyn FnMut(Value),
    ) -> Result<CheckReport, Failure> {
        match open_volume(store, OpenFor::Look, &Partner::AsNoted, 64 << 20) {
            Ok(Opened { volume, device, held: _held }) => {
                let copied = mark::is_copy_of_open(&*device);
                let depth = if copied { Depth::Data } else { depth };
                let found = check::check(&volume, depth).and_then(|mut report| {
                    check::check_waiting(device, depth, &mut report)?;
                    if copied {
                        report.problems.insert(0, told_copy(report.problems.is_empty()));
                    }
                    Ok(listed_report(report, true))
                });
                let found = found.map_err(|e| told_volume(store, &e));
                volume.limit_met().map_or(found, |limit| Err(limited(store, &limit)))
            }
            // What keeps it from being opened may not be all that is wrong.
            Err(f) if f.code == Code::Damaged => offline::look(store, depth).map_err(|_| f),
            Err(f) => Err(f),
        }
    }

    fn repair(&self, store: &Path, mode: Mode, depth: Depth) -> Result<Repair, Failure> {
        offline::repair(store, mode, depth)
    }

    fn salvage(
        &self,
        store: &Path,
        out: Option<&Path>,
        wanted: &Wanted,
        listener: &mut dyn Listener,
    ) -> Result<Summary, Failure> {
        offline::salvage(store, out, wanted, listener)
    }
}

pub(super) struct Opened {
    pub(super) volume: Arc<Volume>,
    device: Arc<dyn Device>,
    pub(super) held: Held,
}

/// What is held of a store.
pub(super) enum Held {
    /// For reading, and how it stands to its other side.
    Lock(StoreLock, Option<Value>),
    /// For writing, with its other side. The devices are without the record of them: marks are about these files, and mean
    /// nothing where a record is played.
    Sides(OpenedSides),
}

pub(super) fn open_volume(
    store: &Path,
    access: OpenFor,
    partner: &Partner,
    cache_bytes: u64,
) -> Result<Opened, Failure> {
    let is_mounted = matches!(access, OpenFor::Mount | OpenFor::MountReadOnly);
    let mut kind = if is_mounted { probe(store) } else { not_ours::probe_to_look(store) }?;
    let refuse = |code, what: String| Err(Failure::new(code, format!("{}: {what}", names::shown(store))));
    match &kind {
        StoreKind::Missing | StoreKind::EmptyDirectory if access == OpenFor::Mount => {
            partner.proves_a_store(store)?;
            make(store, &NewStore::default(), Old::Stays)?;
            kind = StoreKind::DirectoryStore;
        }
        StoreKind::Missing => return refuse(Code::NotFound, "there is no such store".into()),
        StoreKind::EmptyDirectory => {
            return refuse(Code::NotFound, "this directory is empty, not a store".into());
        }
        StoreKind::ForeignDirectory { example } => {
            let what = "this directory is no snapfs store and not empty";
            let hint = "give a new or empty directory for a new store";
            return refuse(Code::Invalid, format!("{what} (it has '{example}'); {hint}"));
        }
        StoreKind::Other { what } => return refuse(Code::Invalid, format!("{what} cannot be a store")),
        StoreKind::ImageFile { len: 0 } => {
            return refuse(
                Code::Invalid,
                "this file is empty; make a store in it with 'snapfs init --size'".into(),
            );
        }
        StoreKind::DirectoryStore if access == OpenFor::Mount && unfinished(store) => {
            make(store, &NewStore::default(), Old::Stays)?
        }
        _ => {}
    }
    // A daemon leaves the directory that it was started in, and opens files of the store for as long as it lives.
    let given = store;
    let store = &store.canonicalize().map_err(|e| {
        Failure::new(Code::Io, format!("{}: cannot find the way to the store: {e}", names::shown(store)))
    })?;
    let mode = if access.writes() { LockMode::Exclusive } else { LockMode::Shared };
    let lock = lock(store, &kind, mode)?;
    let device_access = match access {
        OpenFor::Mount | OpenFor::Work => device::Access::ReadWrite,
        OpenFor::MountReadOnly | OpenFor::Look | OpenFor::LookAsMounted => device::Access::ReadOnly,
    };
    let is_directory = kind == StoreKind::DirectoryStore;
    let device = open_device(store, &kind, device_access).map_err(|e| io(store, e))?;
    if !matches!(access, OpenFor::Look | OpenFor::LookAsMounted) && mark::is_copy_of_open(&*device) {
        let way = "mount the store that it was copied from, or prove and accept this one with 'snapfs check --repair'";
        return refuse(Code::Damaged, format!("{COPIED}; {way}"));
    }
    let raw = device.clone();
    let device = recorded(device)?;
    let (held, device): (_, Arc<dyn Device>) = if access.writes() {
        let named = lasting_name(given, store);
        let places = (store.clone(), named);
        let home = HeldSide::new(places, is_directory, (raw, lock), held_side::LIMIT);
        let sides = sides::open(home, device, partner)?;
        let mirror = sides.mirror.clone();
        (Held::Sides(sides), mirror)
    } else {
        let served = access == OpenFor::MountReadOnly && *partner != Partner::Nobody;
        may_be_read(store, &device, served)?;
        let is_served = access == OpenFor::MountReadOnly;
        let stands = is_served.then(|| standing::of_mounted(store, LagWanted::Uncounted)).flatten();
        if stands.as_ref().is_some_and(|stands| stands["stands"] == "both ahead") {
            log::warn!("{}: its other side went on by itself as well", names::shown(store));
        }
        (Held::Lock(lock, stands), device)
    };
    let (device, device_access): (Arc<dyn Device>, _) = match access {
        OpenFor::LookAsMounted => (Arc::new(Overlay::new(device)), device::Access::ReadWrite),
        _ => (device, device_access),
    };
    let options = OpenOptions { access: device_access, cache_bytes: cache_bytes as usize };
    let opened = Volume::open(device.clone(), options).map_err(|e| told_volume(store, &e));
    let volume = device.limit_met().map_or(opened, |limit| Err(limited(store, &limit)))?;
    if let Held::Sides(sides) = &held {
        sides.mark_open();
    }
    Ok(Opened { volume, device, held })
}

/// A store that gets a copy in the background, or the daemon that has it.
fn open_for_copy(store: &Path, access: OpenFor) -> Result<StoreEnd, Failure> {
    StoreEnd::open_with(store, || {
        let (cache_bytes, dirty_bytes) = COPY_BYTES;
        Builtin.open(store, &StoreOptions { access, cache_bytes, dirty_bytes, ..StoreOptions::default() })
    })
}

/// An open store.
struct Open {
    fs: Arc<Fs>,
    /// Those who follow what changes.
    feeds: Feeds,
    scrubber: Scrubber,
    /// Its copies in other stores.
    hydrator: Hydrator,
    background: Mutex<Option<Background>>,
    store: PathBuf,
    /// It was opened for changes.
    writes: bool,
    /// Its sides, if it was.
    sides: Option<Arc<StoreSides>>,
    /// How it stands to its other side, if it is only read.
    stands: Option<Value>,
    /// Let go of by `close`: who waits for that finds the store free.
    lock: Mutex<Option<StoreLock>>,
}

impl Open {
    fn sides(&self) -> Result<&Arc<StoreSides>, Failure> {
        let what = "the store is mounted read-only: nothing can be done about its sides";
        self.sides.as_ref().ok_or_else(|| Failure::new(Code::ReadOnly, what))
    }

    fn line(&self, at: NodeId) -> Result<LineId, Failure> {
        self.fs.line_at(at).map_err(|e| told(&self.store, &e))
    }

    fn find_clone(&self, name: &[u8]) -> Result<CloneRow, Failure> {
        let found = self.fs.volume().clone_info(name);
        found.map(|clone| listed_clone(&clone)).ok_or_else(|| told_clone(name, &Error::NotFound))
    }

    fn find(&self, at: NodeId, name: &[u8]) -> Result<SnapshotRow, Failure> {
        let found = self.fs.volume().find_snapshot(self.line(at)?, name);
        found
            .and_then(|s| held::rows(&self.fs, &[s]).pop())
            .ok_or_else(|| told(&self.store, &Error::NotFound))
    }
}

impl Engine for Open {
    fn operations(&self) -> Arc<dyn Operations> {
        self.fs.clone()
    }

    fn standalone(&self, name: &[u8]) -> Result<Arc<dyn Operations>, Failure> {
        let found = self.fs.standalone(name);
        found.map(|s| s as Arc<dyn Operations>).map_err(|e| told_name(name, &e))
    }

    fn set_kernel(&self, kernel: KernelRef) {
        self.fs.set_kernel(kernel);
        if self.writes {
            self.hydrator.serve();
        }
    }

    fn snapshots(&self, at: NodeId) -> Result<Vec<SnapshotRow>, Failure> {
        Ok(held::rows(&self.fs, &self.fs.volume().snapshots(self.line(at)?)))
    }

    fn snapshots_of_clone(&self, name: &[u8]) -> Result<Vec<SnapshotRow>, Failure> {
        let line = self.fs.volume().find_line(name).filter(|line| line.id != LineId::MAIN);
        let line = line.ok_or_else(|| told_clone(name, &Error::NotFound))?;
        Ok(held::rows(&self.fs, &self.fs.volume().snapshots(line.id)))
    }

    fn method_of(&self, id: u64) -> Option<String> {
        listed::method(&self.fs, id)
    }

    fn create(
        &self,
        at: NodeId,
        name: &[u8],
        provenance: &Provenance,
        reached: Reached<'_>,
    ) -> Result<SnapshotRow, Failure> {
        let made = self.fs.create_snapshot_as(at, name, provenance, reached);
        made.map_err(|e| told_name(name, &e))?;
        self.find(at, name)
    }

    fn create_held(
        &self,
        at: NodeId,
        name: &[u8],
        (provenance, reached): (&Provenance, Reached<'_>),
        hold: &WantedHold,
    ) -> Result<SnapshotRow, Failure> {
        held::create(&self.fs, at, name, (provenance, reached), hold)?;
        self.find(at, name)
    }

    fn hold(&self, at: NodeId, order: &HoldOrder, by: &Provenance) -> Result<Value, Failure> {
        held::carry_out(&self.fs, at, order, by)
    }

    fn set_layout(&self, at: NodeId, layout: &str) -> Result<(), Failure> {
        let set = || {
            let _passage = self.fs.pass_thawed(at)?;
            let root = self.fs.root_of_line(at)?;
            // Whoever may make snapshots by command owns the mount or is root.
            let caller = Caller { uid: 0, gid: 0, pid: 0, umask: 0 };
            let name = Property::Layout.attribute();
            self.fs.setxattr(&caller, root, name.as_bytes(), layout.as_bytes(), XattrMode::Set)
        };
        set().map_err(|e| told(&self.store, &e))
    }

    fn rename(&self, at: NodeId, name: &[u8], new_name: &[u8]) -> Result<(), Failure> {
        self.fs.rename_snapshot_of(at, name, new_name).map_err(|e| {
            let about = if matches!(e, Error::NotFound | Error::NotPermitted) { name } else { new_name };
            told_name(about, &e)
        })
    }

    fn describe(&self, at: NodeId, name: &[u8], description: &[u8]) -> Result<(), Failure> {
        self.fs.describe_snapshot(at, name, description).map_err(|e| told_name(name, &e))
    }

    fn delete(&self, at: NodeId, name: &[u8]) -> Result<(), Failure> {
        self.fs.delete_snapshot_of(at, name).map_err(|e| held::told_kept(&self.fs, at, name, &e))
    }

    fn delete_meant(
        &self,
        order: &DeleteOrder,
        by: &Provenance,
        progress: &mut dyn FnMut(Value) -> bool,
    ) -> Result<Value, Failure> {
        deleting::carry_out(&self.fs, &self.store, (order, by), progress)
    }

    fn discard_clone(&self, name: &[u8], by: &Provenance, now: bool) -> Result<Value, Failure> {
        deleting::drop_clone(&self.fs, name, (!now).then_some(by))
    }

    fn trash(&self, at: NodeId, order: &TrashOrder) -> Result<Value, Failure> {
        let done = trashed::carry_out(&self.fs, at, order)?;
        self.hydrator.look_again();
        Ok(done)
    }

    fn clones(&self) -> Result<Vec<CloneRow>, Failure> {
        Ok(self.fs.volume().clones().iter().map(listed_clone).collect())
    }

    fn create_clone(
        &self,
        at: NodeId,
        name: &[u8],
        from: Option<&[u8]>,
        provenance: &Provenance,
    ) -> Result<CloneRow, Failure> {
        self.fs.create_clone(at, name, from, provenance).map_err(|e| match (from, &e) {
            (Some(from), Error::NotFound) => told_name(from, &e),
            (_, Error::LimitReached) => told_too_many(self.fs.volume(), name),
            _ => told_clone(name, &e),
        })?;
        self.find_clone(name)
    }

    fn end_clone(&self, name: &[u8], expire: Option<u64>, idle: Option<u64>) -> Result<CloneRow, Failure> {
        self.fs.end_clone(name, expire, idle).map_err(|e| told_clone(name, &e))?;
        self.find_clone(name)
    }

    fn begin_trial(&self, at: NodeId, provenance: &Provenance, goes_on: GoesOn) -> Result<CloneRow, Failure> {
        let name = self.fs.begin_trial(at, provenance, goes_on).map_err(|e| told(&self.store, &e))?;
        self.find_clone(&name)
    }

    fn cover_trial(&self, name: &[u8], paths: Vec<Vec<u8>>) -> Result<(), Failure> {
        self.fs.cover_trial(name, paths).map_err(|e| told_clone(name, &e))
    }

    fn take_step(
        &self,
        at: NodeId,
        provenance: &Provenance,
        keep: usize,
        goes_on: GoesOn,
    ) -> Result<SnapshotRow, Failure> {
        let made = self.fs.take_step(at, provenance, keep, goes_on);
        made.map(|made| listed(&made)).map_err(|e| told(&self.store, &e))
    }

    fn rename_clone(&self, name: &[u8], new_name: &[u8]) -> Result<(), Failure> {
        self.fs.rename_clone(name, new_name).map_err(|e| {
            let about = if e == Error::NotFound { name } else { new_name };
            told_clone(about, &e)
        })
    }

    fn drop_clone(&self, name: &[u8]) -> Result<(), Failure> {
        self.fs.drop_clone(name).map_err(|e| held::told_kept_clone(&self.fs, name, &e))
    }

    fn merge(&self, request: &MergeRequest, put: &mut dyn FnMut(Value) -> bool) -> Result<Value, Failure> {
        merging::serve(&self.fs, request, put)
    }

    fn show(&self, at: NodeId, name: &[u8]) -> Result<Value, Failure> {
        let mut shown = show::answer(&self.fs, &self.store, at, name)?;
        if shown["kind"] == "snapshot"
            && let Some(id) = shown["id"].as_u64()
        {
            shown["copies"] = self.hydrator.told(Some(ViewId(id)));
        }
        Ok(shown)
    }

    fn check(&self, depth: Depth) -> Result<CheckReport, Failure> {
        report(self.fs.volume(), depth).map_err(|e| told_volume(&self.store, &e))
    }

    fn mirror(&self, order: &MirrorOrder, progress: &mut dyn FnMut(Value) -> bool) -> Result<Value, Failure> {
        match order {
            MirrorOrder::Status if self.sides.is_none() => {
                // The daemon has left the directory that it was started in.
                let place = self.fs.volume().location().path;
                Ok(standing::of_mounted_now(place.as_deref().unwrap_or(&self.store)))
            }
            order => self.sides()?.order(order, progress),
        }
    }

    fn split(
        &self,
        at: NodeId,
        name: &[u8],
        made: (&Provenance, Reached<'_>),
        hold: Option<&WantedHold>,
    ) -> Result<Value, Failure> {
        let mut make = || self.create_as(at, name, made, hold).map(|made| encode(&made));
        self.sides()?.split(&mut make, &mut || self.unmake(at, name, hold, made.0))
    }

    fn scrub(&self, order: ScrubOrder) -> Result<Value, Failure> {
        self.scrubber.order(order)
    }

    fn schedule(&self, order: &ScheduleOrder, put: &mut dyn FnMut(Value) -> bool) -> Result<Value, Failure> {
        scheduling::carry_out(&self.fs, &self.store, order, put)
    }

    fn space(&self, order: &SpaceOrder, put: &mut dyn FnMut(Value) -> bool) -> Result<Value, Failure> {
        planning::answer(&self.fs, &self.store, order, put)
    }

    fn diff(&self, order: &DiffOrder, put: &mut dyn FnMut(Value) -> bool) -> Result<(), Failure> {
        comparing::answer(&self.fs, &self.store, order, put)
    }

    fn frost(&self, wish: &FrostWish) -> Result<Value, Failure> {
        freezing::carry_out(&self.fs, &self.store, wish)
    }

    fn past_of_path(&self, order: &PathOrder, put: &mut dyn FnMut(Value) -> bool) -> Result<(), Failure> {
        past_of_path::answer(&self.fs, &self.store, order, put)
    }

    fn rollback(&self, order: &RollbackOrder) -> Result<RollbackAnswer, Failure> {
        rewind::rollback(&self.fs, &self.store, order)
    }

    fn promote(&self, order: &PromoteOrder) -> Result<RollbackAnswer, Failure> {
        rewind::promote(&self.fs, order)
    }

    fn restore(
        &self,
        order: &RestoreOrder,
        dry_run: bool,
        provenance: &Provenance,
        put: &mut dyn FnMut(Value) -> bool,
    ) -> Result<Value, Failure> {
        let asked = restoring::RestoreWanted { order, dry_run, provenance };
        restoring::carry_out(&self.fs, &self.store, &asked, put)
    }

    fn undo(
        &self,
        order: &RollbackOrder,
        provenance: &Provenance,
        put: &mut dyn FnMut(Value) -> bool,
    ) -> Result<Value, Failure> {
        let done = undo::carry_out(&self.fs, &self.store, order, provenance, put)?;
        self.hydrator.look_again();
        Ok(done)
    }

    fn changes(&self, order: &ChangesOrder, put: &mut dyn FnMut(Value) -> bool) -> Result<(), Failure> {
        feed::answer(&self.fs, &self.feeds, &self.store, order, put)
    }

    fn stream(
        &self,
        order: &StreamOrder,
        input: &mut dyn Read,
        output: &mut dyn Write,
        progress: &mut dyn FnMut(Value) -> bool,
    ) -> Result<Value, Failure> {
        streaming::carry_out(&self.fs, &self.store, order, (input, output), progress)
    }

    fn keep_while_sent(&self, at: NodeId, view: &[u8], user: Option<u32>) -> Result<Box<dyn Send>, Failure> {
        streaming::keep_while_sent(&self.fs, at, view, user)
    }

    fn hydrate(&self, at: NodeId, name: Option<&[u8]>, order: &HydrateOrder) -> Result<Value, Failure> {
        let Some(name) = name else { return self.hydrator.order_of_all(order) };
        let found = self.fs.snapshot_of_word(at, name).map_err(|e| told_snapshot(name, &e))?;
        self.hydrator.order(found.id, order)
    }

    fn purge(&self, request: &PurgeRequest) -> Result<Value, Failure> {
        purge_order::answer(&self.fs, &self.store, request)
    }

    fn status(&self) -> Value {
        let mut status = store_state::status(&self.fs, &self.store, self.scrubber.summary());
        status["schedules"] = scheduling::states(&self.fs);
        status["frozen"] = freezing::states(&self.fs);
        if let Some(copies) = self.hydrator.summary() {
            status["copies"] = json!(copies);
        }
        let mirror = self.sides.as_ref().map(|sides| sides.status()).or_else(|| self.stands.clone());
        mirror.into_iter().for_each(|mirror| status["mirror"] = mirror);
        status
    }

    fn store_id(&self) -> Option<StoreId> {
        self.fs.volume().location().id.map(|id| StoreId(id.device, id.inode))
    }

    fn info(&self) -> Value {
        store_state::info(&self.fs, &self.store)
    }

    fn close(&self) -> Result<(), Failure> {
        self.fs.end_frosts();
        self.feeds.close();
        self.hydrator.close();
        self.scrubber.close();
        self.fs.end_purges();
        *self.background.lock() = None;
        if let Some(sides) = &self.sides {
            sides.end();
        }
        let closed = self.fs.close().map_err(|e| told(&self.store, &e));
        let volume = self.fs.volume();
        volume.trim();
        let whole = if self.writes { store_state::prove_whole(volume, &self.store) } else { Ok(()) };
        // Commands that are under way go on, and the store may be another's as soon as the lock is free.
        volume.let_go();
        if let Some(sides) = &self.sides {
            sides.close(whole.is_ok() && closed.is_ok());
        }
        *self.lock.lock() = None;
        whole.and(closed)
    }
}
