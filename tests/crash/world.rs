//! A store under a workload: every operation goes to the file system and to the model, and leaves a moment in the
//! history: what the model was then, and between which device calls it happened.
//!
//! Paths name things in the line at hand, so that a workload reads like a script; what it does to lines is in `forks`. As long as nothing is made to fail, every answer must be
//! the model's. Where failures are expected ([`Excuse`]) a refused operation must have changed nothing, and after one that
//! stops the store none may succeed any more.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, OnceLock};

use snapfs::clock::Clock;
use snapfs::device::{Device, Sim};
use snapfs::fs::{Between, Fs, FsOptions, Steps};
use snapfs::ops::*;
use snapfs::volume::{Access, OpenOptions, Volume};

use crate::lines::{LineKey, MAIN, Model};
use crate::observe::{self, ADMIN, Numbers, READ};
use crate::past;
use crate::reference::{self, Body, Content, Expect, Id, Inode};

/// The smallest store that there is.
pub const SIZE: u64 = 32 << 20;
const USER: Caller = Caller { uid: 1000, gid: 100, pid: 1, umask: 0 };
const WRITE: OpenFlags = OpenFlags::READ_WRITE;

/// An empty store, made once and copied for every run.
pub fn template() -> Sim {
    static TEMPLATE: OnceLock<Sim> = OnceLock::new();
    let template = TEMPLATE.get_or_init(|| {
        let sim = Arc::new(Sim::new(SIZE, 1));
        Volume::create(sim.clone(), SIZE, [9; 16], (0, 0)).expect("a new store");
        let fs = open(sim.clone(), &Limits::default()).expect("a store that was just made opens");
        fs.close().expect("and closes");
        sim.clone_image()
    });
    template.clone_image()
}

/// Memory that a store may use.
#[derive(Clone, Copy)]
pub struct Limits {
    /// For clean nodes.
    pub cache_bytes: usize,
    /// For what waits for a commit.
    pub dirty_bytes_max: u64,
    /// How long operations are cut.
    pub steps: Steps,
}

impl Limits {
    /// With a commit, and so with power cuts, between any two steps of what takes several.
    pub fn in_steps() -> Limits {
        let steps = Steps { items: 2, between: Between::Commit, ..Steps::default() };
        Limits { steps, ..Limits::default() }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { cache_bytes: 1 << 20, dirty_bytes_max: 64 << 10, steps: Steps::default() }
    }
}

/// Opens the file system of a store.
pub fn open(device: Arc<dyn Device>, limits: &Limits) -> std::result::Result<Arc<Fs>, String> {
    let options = OpenOptions { access: Access::ReadWrite, cache_bytes: limits.cache_bytes };
    let volume = Volume::open(device, options).map_err(|e| e.to_string())?;
    let Limits { dirty_bytes_max, steps, .. } = *limits;
    let options = FsOptions { dirty_bytes_max, steps, ..FsOptions::default() };
    Fs::open(volume, options, Clock::manual(1_000_000)).map_err(|e| format!("opening the file system: {e}"))
}

/// The state after an operation.
pub struct Moment {
    /// The operation.
    pub what: String,
    /// Changing device calls before it.
    pub before: u64,
    /// Changing device calls when it was answered.
    pub after: u64,
    /// What there is to see.
    pub model: Model,
    /// What there is to see in the middle of it: long work goes in steps, each of them shorter work of the same kind.
    pub steps: Vec<Model>,
    /// Its answer promised that all of this is durable.
    pub acknowledged: bool,
}

/// What an operation is to the space of the store, and what its answer promises.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It may need space.
    Change,
    /// It may need space, and what it did is durable when it is answered.
    Durable,
    /// It makes room, so it must work on a full store.
    MakesRoom,
    /// When it is answered, everything is durable. It must work on a full store.
    Sync,
}

/// Which failures may be the device's fault.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Excuse {
    /// None: every answer must be the model's.
    Nothing,
    /// The store may be full.
    Full,
    /// The device may fail in any way.
    Faults,
}

/// An open file.
struct Held {
    line: LineKey,
    id: Id,
    node: NodeId,
    handle: Handle,
}

/// A store, its device, and what must be in it.
pub struct World {
    device: Arc<dyn Device>,
    /// Changing device calls so far.
    changes: Box<dyn Fn() -> u64>,
    /// `None` only while it is being opened again, and after that failed.
    fs: Option<Arc<Fs>>,
    limits: Limits,
    pub model: Model,
    pub numbers: Numbers,
    held: BTreeMap<String, Held>,
    /// States in the middle of the operation at hand.
    steps: Vec<Model>,
    pub history: Vec<Moment>,
    pub excuse: Excuse,
    /// Operations that a failure refused.
    pub refused: u64,
    /// How often a workload asked whether it is done.
    rounds: Cell<u64>,
    /// The store takes no changes: nothing may succeed any more.
    stopped: bool,
    /// A line has got another head, of which files are known only when they were looked up.
    pub is_switched: bool,
    /// Bytes that were copied out, and that were brought home.
    pub homed: (u64, u64),
}

impl Excuse {
    fn covers(self, kind: Kind, error: &Error) -> bool {
        match self {
            Excuse::Nothing => false,
            Excuse::Full => *error == Error::NoSpace && matches!(kind, Kind::Change | Kind::Durable),
            Excuse::Faults => matches!(error, Error::Io(_) | Error::ReadOnly | Error::NoSpace),
        }
    }
}

impl World {
    /// A world on a device that holds a copy of [`template`].
    pub fn new(device: Arc<dyn Device>, changes: Box<dyn Fn() -> u64>, limits: Limits) -> World {
        let mut numbers = Numbers::default();
        numbers.inodes.insert(reference::ROOT, NodeId::ROOT.ino());
        World::resume(device, changes, limits, (Model::new(0o755, 0, 0), numbers))
            .expect("the template opens")
    }

    /// A world on a device that holds `model`, whose numbers are known.
    pub fn resume(
        device: Arc<dyn Device>,
        changes: Box<dyn Fn() -> u64>,
        limits: Limits,
        (mut model, numbers): (Model, Numbers),
    ) -> std::result::Result<World, String> {
        let fs = open(device.clone(), &limits)?;
        model.drop_orphans(|_, _| false);
        model.next = numbers.inodes.keys().max().map_or(2, |last| model.next.max(last + 1));
        let start = Moment {
            what: "the start".into(),
            before: 0,
            after: changes(),
            model: model.clone(),
            steps: Vec::new(),
            acknowledged: true,
        };
        Ok(World {
            device,
            changes,
            fs: Some(fs),
            limits,
            model,
            numbers,
            held: BTreeMap::new(),
            steps: Vec::new(),
            history: vec![start],
            excuse: Excuse::Nothing,
            refused: 0,
            rounds: Cell::new(0),
            stopped: false,
            is_switched: false,
            homed: (0, 0),
        })
    }

    /// The file system. Panics if it could not be opened again.
    pub fn fs(&self) -> Arc<Fs> {
        self.fs.clone().expect("the store is open")
    }

    /// True if the device has seen so many changing calls, or takes no more.
    pub fn is_done(&self, calls: u64) -> bool {
        // Nothing changes on a device that refuses everything.
        self.rounds.set(self.rounds.get() + 1);
        let in_vain = self.excuse == Excuse::Faults && self.rounds.get() > calls;
        self.stopped || in_vain || (self.changes)() >= calls
    }

    /// True if a failure has stopped the store, and it is open.
    pub fn is_stopped(&self) -> bool {
        self.stopped && self.fs.is_some()
    }

    /// Ends the world as a crash does: nothing is written any more.
    pub fn vanish(mut self) -> (Vec<Moment>, Numbers) {
        self.held.clear();
        self.fs = None;
        (std::mem::take(&mut self.history), std::mem::take(&mut self.numbers))
    }

    /// Runs one operation on both sides and notes the moment. `None` if it was refused.
    pub fn run<R: Debug, M>(
        &mut self,
        what: String,
        kind: Kind,
        real: impl FnOnce(&Fs) -> Result<R>,
        model: impl FnOnce(&mut Model) -> Expect<M>,
    ) -> Option<(R, M)> {
        let fs = self.fs.clone()?;
        let before = (self.changes)();
        let answer = real(&fs);
        let mut next = self.model.clone();
        let expected = model(&mut next);
        let after = (self.changes)();
        let stopped_before = std::mem::replace(&mut self.stopped, fs.volume().is_read_only());
        let both = match (answer, expected) {
            (Ok(real), Ok(expected)) => {
                assert!(!stopped_before, "{what}: succeeded on a store that takes no changes");
                self.model = next;
                Some((real, expected))
            }
            (Err(real), Err(errors)) if errors.contains(&real) => None,
            (Err(error), _) if self.excuse.covers(kind, &error) => {
                let told = error == Error::ReadOnly || kind == Kind::Sync && matches!(error, Error::Io(_));
                assert!(!stopped_before || told, "{what}: {error:?} on a stopped store");
                if self.stopped && !stopped_before {
                    // It was cut off in the middle: its effect may be there.
                    self.note(format!("{what} (failed)"), before, after, next, false);
                }
                self.refused(&fs, what, error);
                return None;
            }
            (answer, expected) => panic!("{what}: {answer:?}, expected {:?}", expected.map(|_| ())),
        };
        let acknowledged = matches!(kind, Kind::Durable | Kind::Sync) && both.is_some();
        self.note(what, before, after, self.model.clone(), acknowledged);
        self.forget_orphans();
        self.stopped |= fs.volume().is_read_only();
        both
    }

    /// A refused operation must have changed nothing, unless the store has stopped.
    fn refused(&mut self, fs: &Fs, what: String, error: Error) {
        if !self.stopped {
            self.prove_live(fs, &format!("{what} was refused with {error:?}"));
        }
        self.refused += 1;
    }

    /// The live tree must be the model's. A read may meet a fault, but only one that is there for good meets it twice.
    fn prove_live(&self, fs: &Fs, why: &str) {
        let lines: Vec<_> = fs.volume().lines().into_iter().map(|line| line.name).collect();
        assert_eq!(lines, self.model.lines().map(|(_, line)| line.name.clone()).collect::<Vec<_>>(), "{why}");
        let look = || observe::view(fs, self.root());
        match look().or_else(|_| look()) {
            Ok(seen) => observe::compare_view(&seen, &self.model.live, &self.numbers)
                .unwrap_or_else(|e| panic!("{why}, and something changed: {e}")),
            Err(e) => assert!(self.excuse == Excuse::Faults, "{why}, and now: {e}"),
        }
    }

    /// A store that has stopped refuses every change, makes nothing durable, says why, and can be read.
    pub fn prove_stopped(&mut self) {
        let fs = self.fs();
        if past::line_id(&fs, &self.model.name).is_err() {
            // As with a snapshot below: its end was cut off.
            self.model.turn_to(MAIN);
        }
        let why = fs.volume().read_only_reason();
        assert!(why.as_ref().is_some_and(|why| !why.is_empty()), "it does not say why it stopped: {why:?}");
        let refused = |what: &str, answer: Result<()>| {
            let right = matches!(answer, Err(Error::ReadOnly)) || what == "fsync" && answer.is_err();
            assert!(right, "{what} on a stopped store: {answer:?}");
        };
        let node = |id: &Id| self.numbers.inodes.contains_key(id).then(|| self.node(*id));
        let Body::Dir(entries) = &self.model.live[&reference::ROOT].body else { panic!("the root") };
        let (root, line) = (self.root(), &self.model.name);
        refused("mkdir", fs.mkdir(&USER, root, b"no", 0o755).map(drop));
        refused("create", fs.create(&USER, root, b"no", 0o644, WRITE).map(drop));
        refused("snapshot", past::take(&fs, root, b"no").map(drop));
        refused("clone", past::clone_line(&fs, root, b"no").map(drop));
        refused("fsync", fs.fsyncdir(root));
        refused("fsync", fs.commit());
        for (name, id) in entries {
            let inode = &self.model.live[id];
            let Some(node) = node(id) else { continue };
            refused("rename", fs.rename(&USER, root, name, root, b"no", RenameMode::Replace));
            match &inode.body {
                Body::File(_) => {
                    refused("unlink", fs.unlink(&USER, root, name));
                    if self.is_switched && self.look_up(&String::from_utf8_lossy(name)) != Some(node) {
                        continue; // as with lines above
                    }
                    let handle = fs.open(&USER, node, WRITE).expect("a stopped store can be read");
                    refused("write", fs.write(node, handle, 0, b"no", false).map(drop));
                    refused("long write", fs.write(node, handle, 0, &[1; 100_000], false).map(drop));
                    refused("fsync", fs.fsync(node, handle, SyncScope::All));
                    fs.release(node, handle);
                    let set = SetAttr { size: Some(0), ..SetAttr::default() };
                    refused("truncate", fs.setattr(&USER, node, None, &set).map(drop));
                }
                Body::Dir(inside) if inside.is_empty() => refused("rmdir", fs.rmdir(&USER, root, name)),
                _ => {}
            }
        }
        for snapshot in self.model.snapshots.keys() {
            // One whose deletion was cut off is gone for this session.
            if let Ok(info) = past::find(&fs, line, snapshot) {
                refused("delete snapshot", past::delete(&fs, line, snapshot));
                refused("rename snapshot", past::rename(&fs, line, snapshot, b"no"));
                refused("fork", fs.create_line(b"no", info.id).map(drop));
            }
        }
        for (key, line) in self.model.lines().skip(1) {
            if past::line_id(&fs, &line.name).is_ok() {
                refused("drop line", past::drop_line(&fs, &line.name, self.numbers.root(key)));
                refused("rename line", past::rename_line(&fs, &line.name, b"no"));
            }
        }
    }

    /// A store that has stopped shows its snapshots as they were, and trees that are whole.
    pub fn prove_readable(&self) {
        let fs = self.fs();
        let seen = observe::observe(&*fs, Some(&fs))
            .unwrap_or_else(|e| panic!("a stopped store cannot be read: {e}"));
        let lines = seen.lines.iter().map(|line| (&line.name[..], &line.snapshots));
        for (line, snapshots) in lines.chain([(&b""[..], &seen.snapshots)]) {
            for (name, _, view) in snapshots {
                // One that was being made or renamed when it stopped is known by the history alone.
                let known = self.history.iter().rev().find_map(|moment| {
                    let key = moment.model.find_line(line)?;
                    moment.model.line(key).snapshots.get(name)
                });
                // So is a guard, which tells nobody its name before all is done.
                if known.is_none() && name.starts_with(b"@") {
                    continue;
                }
                let known = known.unwrap_or_else(|| panic!("an unknown snapshot {name:?}"));
                observe::compare_view(view, &known.tree, &self.numbers)
                    .unwrap_or_else(|e| panic!("a snapshot changed when the store stopped: {e}"));
            }
        }
        let shows = |model: &Model| observe::compare_heads(&seen, model, &self.numbers).is_ok();
        let mut last_two = self.history.iter().rev().take(2).enumerate();
        assert!(
            // Of what was cut off, also as it was in the middle.
            last_two.any(|(n, m)| shows(&m.model) || n == 0 && m.steps.iter().any(shows)),
            "the trees of a stopped store are neither the last state nor the next"
        );
    }

    fn note(&mut self, what: String, before: u64, after: u64, model: Model, acknowledged: bool) {
        let steps = std::mem::take(&mut self.steps);
        self.history.push(Moment { what, before, after, model, steps, acknowledged });
    }

    /// What the kernel does with inodes that have lost their last name.
    fn forget_orphans(&mut self) {
        let held = &self.held;
        let gone = self.model.drop_orphans(|line, id| held.values().any(|h| (h.line, h.id) == (line, id)));
        let Some(fs) = &self.fs else { return };
        gone.into_iter()
            .filter(|(_, id)| self.numbers.inodes.contains_key(id))
            .for_each(|(line, id)| fs.forget(self.numbers.node(line, id)));
    }

    /// The root of the line at hand.
    pub fn root(&self) -> NodeId {
        self.numbers.root(self.model.at())
    }

    /// An inode of the line at hand.
    fn node(&self, id: Id) -> NodeId {
        self.numbers.node(self.model.at(), id)
    }

    /// The inode of a path. Without faults it must be there.
    pub fn find(&self, path: &str) -> Option<Id> {
        let found =
            path.split('/').filter(|name| !name.is_empty()).try_fold(
                reference::ROOT,
                |dir, name| match &self.model.live[&dir].body {
                    Body::Dir(entries) => entries.get(name.as_bytes()).copied(),
                    _ => None,
                },
            );
        assert!(
            found.is_some() || self.excuse != Excuse::Nothing,
            "{path} is not there: the workload is wrong"
        );
        if self.is_switched && found.is_some() {
            self.look_up(path);
        }
        found
    }

    /// As a kernel does before it asks about what is there. A failure is met again by what comes then.
    fn look_up(&self, path: &str) -> Option<NodeId> {
        let fs = self.fs.as_ref()?;
        let mut at = self.root();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let look = || fs.lookup(&ADMIN, at, name.as_bytes());
            match look().or_else(|_| look()) {
                Ok(entry) => at = entry.attr.node,
                Err(_) => return None,
            }
        }
        Some(at)
    }

    /// True if there is such a path.
    pub fn has(&self, path: &str) -> bool {
        reference::paths(&self.model.live).contains_key(format!("/{path}").as_bytes())
    }

    /// Size of a file, 0 if it is not there.
    pub fn size(&self, path: &str) -> u64 {
        self.find(path).map_or(0, |id| self.model.content(id).size)
    }

    fn parent<'p>(&self, path: &'p str) -> Option<(Id, &'p [u8])> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        Some((self.find(dir)?, name.as_bytes()))
    }

    fn make(
        &mut self,
        what: &str,
        path: &str,
        mode: u32,
        body: Body,
        real: impl FnOnce(&Fs, NodeId, &[u8]) -> Result<Entry>,
    ) {
        let Some((dir, name)) = self.parent(path) else { return };
        let parent = self.node(dir);
        let made = self.run(
            format!("{what} {path}"),
            Kind::Change,
            |fs| real(fs, parent, name),
            |model| model.make(&USER, dir, name, mode, body),
        );
        if let Some((entry, id)) = made {
            self.numbers.inodes.insert(id, entry.attr.node.ino());
        }
    }

    /// Has the content of all files compressed that is written from now on.
    pub fn compress(&mut self) {
        let (name, value) = (b"user.snapfs.compression", b"zstd:1");
        let root = self.root();
        let set = |fs: &Fs| fs.setxattr(&ADMIN, root, name, value, XattrMode::Set);
        self.run("compress".into(), Kind::Change, set, |_| Ok(()));
    }

    /// Has all files written over in place that are made from now on.
    pub fn lay_in_place(&mut self) {
        let (name, value) = (b"user.snapfs.layout", b"cow");
        let root = self.root();
        let set = |fs: &Fs| fs.setxattr(&ADMIN, root, name, value, XattrMode::Set);
        self.run("layout".into(), Kind::Change, set, |_| Ok(()));
    }

    /// Does about so many bytes of what brings content home.
    pub fn bring_home(&mut self, bytes: u64) {
        // On a store that takes no changes nothing is done, and that is no error.
        if !self.stopped {
            let real = |fs: &Fs| fs.bring_content_home(bytes);
            let done = self.run(format!("bring {bytes} home"), Kind::Change, real, |_| Ok(()));
            let (copied, moved) = done.map_or((0, 0), |(step, ())| (step.copied, step.moved));
            self.homed = (self.homed.0 + copied, self.homed.1 + moved);
        }
    }

    pub fn mkdir(&mut self, path: &str) {
        let body = Body::Dir(BTreeMap::new());
        self.make("mkdir", path, 0o755, body, |fs, parent, name| fs.mkdir(&USER, parent, name, 0o755));
    }

    /// Makes an empty file.
    pub fn create(&mut self, path: &str) {
        self.make("create", path, 0o644, Body::File(Content::default()), |fs, parent, name| {
            let (entry, handle) = fs.create(&USER, parent, name, 0o644, WRITE)?;
            fs.release(entry.attr.node, handle);
            Ok(entry)
        });
    }

    pub fn symlink(&mut self, path: &str, target: &str) {
        let body = Body::Link(target.into());
        self.make("symlink", path, 0o777, body, |fs, parent, name| {
            fs.symlink(&USER, parent, name, target.as_bytes())
        });
    }

    pub fn mkfifo(&mut self, path: &str) {
        let body = Body::Special(FileType::Fifo, 0);
        self.make("mkfifo", path, 0o600, body, |fs, parent, name| {
            fs.mknod(&USER, parent, name, FileType::Fifo, 0o600, 0)
        });
    }

    pub fn link(&mut self, from: &str, to: &str) {
        let (Some(id), Some((dir, name))) = (self.find(from), self.parent(to)) else { return };
        let (node, parent) = (self.node(id), self.node(dir));
        let real = |fs: &Fs| fs.link(&USER, node, parent, name);
        self.run(format!("link {from} {to}"), Kind::Change, real, |model| model.link(id, dir, name));
    }

    pub fn unlink(&mut self, path: &str) {
        let Some((dir, name)) = self.parent(path) else { return };
        let parent = self.node(dir);
        let real = |fs: &Fs| fs.unlink(&USER, parent, name);
        self.run(format!("unlink {path}"), Kind::MakesRoom, real, |model| model.unlink(dir, name));
    }

    pub fn rmdir(&mut self, path: &str) {
        let Some((dir, name)) = self.parent(path) else { return };
        let parent = self.node(dir);
        let real = |fs: &Fs| fs.rmdir(&USER, parent, name);
        self.run(format!("rmdir {path}"), Kind::MakesRoom, real, |model| model.rmdir(dir, name));
    }

    /// Removes a directory and all that is in it.
    pub fn remove_all(&mut self, path: &str) {
        let Some(id) = self.find(path) else { return };
        let Body::Dir(entries) = &self.model.live[&id].body else { return self.unlink(path) };
        for name in entries.keys().cloned().collect::<Vec<_>>() {
            self.remove_all(&format!("{path}/{}", String::from_utf8_lossy(&name)));
        }
        self.rmdir(path);
    }

    pub fn rename(&mut self, from: &str, to: &str, mode: RenameMode) {
        let (Some((dir, name)), Some((to_dir, to_name))) = (self.parent(from), self.parent(to)) else {
            return;
        };
        let (parent, to_parent) = (self.node(dir), self.node(to_dir));
        self.run(
            format!("rename {from} {to} {mode:?}"),
            Kind::Change,
            |fs| fs.rename(&USER, parent, name, to_parent, to_name, mode),
            |model| model.rename(dir, name, to_dir, to_name, mode),
        );
    }

    /// Runs an operation that needs a handle, on one that is open for it alone.
    fn with_handle<R: Debug, M>(
        &mut self,
        what: String,
        kind: Kind,
        (id, flags): (Id, OpenFlags),
        real: impl FnOnce(&Fs, NodeId, Handle) -> Result<R>,
        model: impl FnOnce(&mut Model) -> Expect<M>,
    ) -> Option<(R, M)> {
        let node = self.node(id);
        let real = |fs: &Fs| {
            let handle = fs.open(&USER, node, flags)?;
            let done = real(fs, node, handle);
            fs.release(node, handle);
            done
        };
        self.run(what, kind, real, model)
    }

    /// Writes `data` at `at`.
    pub fn write(&mut self, path: &str, at: u64, data: &[u8]) {
        let Some(id) = self.find(path) else { return };
        self.with_handle(
            format!("write {path} {at}+{}", data.len()),
            Kind::Change,
            (id, WRITE),
            |fs, node, handle| fs.write(node, handle, at, data, false),
            |model| model.write(id, at, data, false),
        );
    }

    /// Writes at the end; with `sync` as on a file opened with `O_SYNC`.
    pub fn append(&mut self, path: &str, data: &[u8], sync: bool) {
        let Some(id) = self.find(path) else { return };
        let at = self.model.content(id).size;
        self.with_handle(
            format!("append {path} {} sync {sync}", data.len()),
            if sync { Kind::Durable } else { Kind::Change },
            (id, OpenFlags { append: true, sync, ..WRITE }),
            |fs, node, handle| fs.write(node, handle, 0, data, false),
            |model| model.write(id, at, data, false),
        );
    }

    /// Makes a file with this content, or gives it this content.
    pub fn put(&mut self, path: &str, data: &[u8]) {
        if self.has(path) {
            self.truncate(path, 0);
        } else {
            self.create(path);
        }
        if !data.is_empty() {
            self.write(path, 0, data);
        }
    }

    pub fn truncate(&mut self, path: &str, size: u64) {
        let Some(id) = self.find(path) else { return };
        let node = self.node(id);
        let set = SetAttr { size: Some(size), ..SetAttr::default() };
        let kind = if size == 0 { Kind::MakesRoom } else { Kind::Change };
        // Steps end where blocks do, the last first.
        let old = self.model.content(id).size;
        let ends = (size + 1..old).filter(|end| end.is_multiple_of(4096)).rev();
        self.steps = ends
            .map(|end| {
                let mut model = self.model.clone();
                model.truncate(id, end).map(|_| model).unwrap_or(self.model.clone())
            })
            .collect();
        let real = |fs: &Fs| fs.setattr(&USER, node, None, &set);
        self.run(format!("truncate {path} {size}"), kind, real, |model| model.truncate(id, size));
    }

    pub fn fallocate(&mut self, path: &str, at: u64, len: u64, mode: AllocateMode) {
        let Some(id) = self.find(path) else { return };
        let ends = (1..len).filter(|n| (at + n).is_multiple_of(4096));
        self.steps = ends
            .map(|len| {
                let mut model = self.model.clone();
                model.fallocate(id, at, len, mode).map(|_| model).unwrap_or(self.model.clone())
            })
            .collect();
        self.with_handle(
            format!("fallocate {path} {at}+{len} {mode:?}"),
            Kind::Change,
            (id, WRITE),
            |fs, node, handle| fs.fallocate(&USER, node, handle, at, len, mode),
            |model| model.fallocate(id, at, len, mode),
        );
    }

    pub fn copy(&mut self, (from, at): (&str, u64), (to, to_at): (&str, u64), len: u64) {
        self.copy_from(self.model.at(), (from, at), (to, to_at), len);
    }

    /// From a file of another line.
    pub fn copy_from(&mut self, line: LineKey, (from, at): (&str, u64), (to, to_at): (&str, u64), len: u64) {
        let here = self.model.at();
        self.model.turn_to(line);
        let source = self.find(from).map(|id| (line, id));
        self.model.turn_to(here);
        let (Some(source), Some(target)) = (source, self.find(to)) else { return };
        let source_node = self.numbers.node(source.0, source.1);
        // Steps end where blocks of either end do.
        let ends = (1..len).filter(|n| n.is_multiple_of(4096) || (to_at + n).is_multiple_of(4096));
        self.steps = ends
            .map(|len| {
                let mut model = self.model.clone();
                model
                    .copy(source, at, (here, target), to_at, len)
                    .map(|_| model)
                    .unwrap_or(self.model.clone())
            })
            .collect();
        // Of a copy that could not go on, what was copied counts.
        let copied = Cell::new(len);
        self.with_handle(
            format!("copy {from} {at} of line {line} {to} {to_at} {len}"),
            Kind::Change,
            (target, WRITE),
            |fs, node, handle| {
                let from = fs.open(&USER, source_node, READ)?;
                let done = fs.copy_range(&USER, source_node, from, at, node, handle, to_at, len);
                fs.release(source_node, from);
                copied.set(*done.as_ref().unwrap_or(&len));
                done
            },
            |model| model.copy(source, at, (here, target), to_at, copied.get()),
        );
    }

    fn set_attr(&mut self, what: &str, path: &str, set: &SetAttr, model: impl FnOnce(&mut Model, Id)) {
        let Some(id) = self.find(path) else { return };
        let node = self.node(id);
        let model = |m: &mut Model| {
            model(m, id);
            Ok(())
        };
        self.run(format!("{what} {path}"), Kind::Change, |fs| fs.setattr(&ADMIN, node, None, set), model);
    }

    pub fn chmod(&mut self, path: &str, mode: u32) {
        let set = SetAttr { mode: Some(mode), ..SetAttr::default() };
        self.set_attr("chmod", path, &set, |model, id| model.chmod(id, mode));
    }

    pub fn chown(&mut self, path: &str, uid: u32, gid: u32) {
        let set = SetAttr { uid: Some(uid), gid: Some(gid), ..SetAttr::default() };
        self.set_attr("chown", path, &set, |model, id| model.chown(id, Some(uid), Some(gid)));
    }

    pub fn touch(&mut self, path: &str, secs: i64) {
        let at = Timestamp { secs, nanos: 5 };
        let set = SetAttr { mtime: Some(SetTime::At(at)), ..SetAttr::default() };
        self.set_attr("touch", path, &set, |model, id| model.set_mtime(id, Some(at)));
    }

    pub fn set_xattr(&mut self, path: &str, name: &str, value: &[u8]) {
        let Some(id) = self.find(path) else { return };
        let (node, name) = (self.node(id), name.as_bytes());
        self.run(
            format!("setxattr {path} {} bytes", value.len()),
            Kind::Change,
            |fs| fs.setxattr(&ADMIN, node, name, value, XattrMode::Set),
            |model| model.set_xattr(id, name, value, XattrMode::Set),
        );
    }

    pub fn remove_xattr(&mut self, path: &str, name: &str) {
        let Some(id) = self.find(path) else { return };
        let (node, name) = (self.node(id), name.as_bytes());
        let real = |fs: &Fs| fs.removexattr(&ADMIN, node, name);
        self.run(format!("removexattr {path}"), Kind::Change, real, |model| model.remove_xattr(id, name));
    }

    pub fn fsync(&mut self, path: &str, scope: SyncScope) {
        let Some(id) = self.find(path) else { return };
        let real = |fs: &Fs, node, handle| fs.fsync(node, handle, scope);
        self.with_handle(format!("fsync {path} {scope:?}"), Kind::Sync, (id, WRITE), real, |_| Ok(()));
    }

    pub fn fsync_dir(&mut self, path: &str) {
        let Some(id) = self.find(path) else { return };
        let node = self.node(id);
        self.run(format!("fsync of directory {path}"), Kind::Sync, |fs| fs.fsyncdir(node), |_| Ok(()));
    }

    pub fn commit(&mut self) {
        self.run("commit".into(), Kind::Sync, Fs::commit, |_| Ok(()));
    }

    pub fn snap(&mut self, name: &str) {
        let (bytes, root) = (name.as_bytes(), self.root());
        let real = |fs: &Fs| past::take(fs, root, bytes);
        let made = self.run(format!("snapshot {name}"), Kind::Durable, real, |model| model.snap(bytes));
        if let Some((root, id)) = made {
            self.numbers.views.insert(id, root.tree());
        }
    }

    pub fn unsnap(&mut self, name: &str) {
        let (bytes, line) = (name.as_bytes(), self.model.name.clone());
        let real = |fs: &Fs| past::delete(fs, &line, bytes);
        if self.model.snapshots.contains_key(bytes) || self.excuse == Excuse::Nothing {
            self.run(format!("delete snapshot {name}"), Kind::MakesRoom, real, |model| model.unsnap(bytes));
        }
    }

    pub fn rename_snap(&mut self, name: &str, to: &str) {
        let (from, new, line) = (name.as_bytes(), to.as_bytes(), self.model.name.clone());
        let real = |fs: &Fs| past::rename(fs, &line, from, new);
        if self.model.snapshots.contains_key(from) || self.excuse == Excuse::Nothing {
            self.run(format!("rename snapshot {name} {to}"), Kind::Change, real, |model| {
                model.rename_snapshot(from, new)
            });
        }
    }

    /// Names of the snapshots of the line at hand.
    pub fn snapshots(&self) -> Vec<String> {
        self.model.snapshots.keys().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
    }

    /// Keeps a file open under `tag`.
    pub fn hold(&mut self, tag: &str, path: &str) {
        let Some(id) = self.find(path) else { return };
        let node = self.node(id);
        match self.fs().open(&USER, node, WRITE) {
            Ok(handle) => {
                let line = self.model.at();
                self.held.insert(tag.into(), Held { line, id, node, handle });
            }
            Err(e) => assert!(self.excuse != Excuse::Nothing, "opening {path}: {e:?}"),
        }
    }

    /// Writes to a file that is held, whether it has a name or not.
    pub fn write_held(&mut self, tag: &str, at: u64, data: &[u8]) {
        let Some(held) = self.held.get(tag) else { return };
        let (line, id, node, handle) = (held.line, held.id, held.node, held.handle);
        let here = self.model.at();
        self.run(
            format!("write held {tag} {at}+{}", data.len()),
            Kind::Change,
            |fs| fs.write(node, handle, at, data, false),
            |model| {
                model.turn_to(line);
                let written = model.write(id, at, data, false);
                model.turn_to(here);
                written
            },
        );
    }

    /// What is held in the line at hand.
    pub fn held_here(&self) -> Vec<String> {
        let here = self.held.iter().filter(|(_, held)| held.line == self.model.at());
        here.map(|(tag, _)| tag.clone()).collect()
    }

    /// Lets go of what is held in a line that is gone: it is of no use.
    pub fn let_go_of_line(&mut self, line: LineKey) {
        let tags: Vec<String> =
            self.held.iter().filter(|(_, h)| h.line == line).map(|(tag, _)| tag.clone()).collect();
        for tag in tags {
            let (held, fs) = (&self.held[&tag], self.fs());
            let write = fs.write(held.node, held.handle, 0, b"late", false);
            assert!(
                write == Err(Error::Stale) || self.excuse == Excuse::Faults && write.is_err(),
                "a write in a line that is gone: {write:?}"
            );
            self.let_go(&tag);
        }
    }

    pub fn fsync_held(&mut self, tag: &str) {
        let Some(held) = self.held.get(tag) else { return };
        let (node, handle) = (held.node, held.handle);
        self.run(
            format!("fsync held {tag}"),
            Kind::Sync,
            |fs| fs.fsync(node, handle, SyncScope::All),
            |_| Ok(()),
        );
    }

    /// Closes a file that is held.
    pub fn let_go(&mut self, tag: &str) {
        if let (Some(held), Some(fs)) = (self.held.remove(tag), &self.fs) {
            fs.release(held.node, held.handle);
            self.forget_orphans();
        }
    }

    /// Closes the store and opens it again.
    pub fn reopen(&mut self) {
        let tags: Vec<String> = self.held.keys().cloned().collect();
        tags.iter().for_each(|tag| self.let_go(tag));
        let close = |fs: &Fs| {
            fs.close()?;
            fs.volume().trim();
            Ok(())
        };
        let was_stopped = self.stopped;
        if was_stopped || self.run("close".into(), Kind::Sync, close, |_| Ok(())).is_none() {
            return;
        }
        let before = (self.changes)();
        self.fs = None;
        match open(self.device.clone(), &self.limits) {
            Ok(fs) => {
                self.fs = Some(fs);
                self.stopped = false;
            }
            Err(e) => {
                assert!(self.excuse != Excuse::Nothing, "opening again: {e}");
                self.refused += 1;
                self.stopped = true;
            }
        }
        let after = (self.changes)();
        self.note("open".into(), before, after, self.model.clone(), true);
    }

    /// Bytes that a writer can still get.
    pub fn available(&self) -> u64 {
        self.fs.as_ref().map_or(0, |fs| fs.volume().space().available)
    }

    /// The inode of a path, if it is there.
    pub fn inode(&self, path: &str) -> Option<&Inode> {
        self.find(path).map(|id| &*self.model.live[&id])
    }
}
