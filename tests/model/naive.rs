//! A second, simple file system in memory: it proves that the runner, the comparison and the shrinker work.
//!
//! The naive store keeps whole states; its "device calls" are its changes; a power cut takes it back to a random state
//! since the last durable one. `Bug` plants one fault, which the tests expect to be found. It is not a model: it has
//! its own structures and was written from the descriptions in `snapfs::ops`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use snapfs::ops::*;

use crate::run::{RollBack, Subject};

const PAGE: u64 = 1024;
const EPOCH: Timestamp = Timestamp { secs: 5, nanos: 0 };

/// A planted fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    TruncateKeepsTail,
    ForgetsFsync,
    SnapshotFollowsWrites,
    RenameLeaksLink,
    SetIdStays,
    Panics,
}

#[derive(Clone)]
struct Node {
    attr: Attr,
    pages: BTreeMap<u64, Arc<Vec<u8>>>,
    names: BTreeMap<Vec<u8>, u64>,
    target: Vec<u8>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Node {
    fn get(&self, at: u64) -> u8 {
        self.pages.get(&(at / PAGE)).map_or(0, |p| p[(at % PAGE) as usize])
    }
    fn put(&mut self, at: u64, byte: u8) {
        if byte != self.get(at) {
            let page = self.pages.entry(at / PAGE).or_insert_with(|| Arc::new(vec![0; PAGE as usize]));
            Arc::make_mut(page)[(at % PAGE) as usize] = byte;
        }
    }
    fn zero(&mut self, from: u64, to: u64) {
        let pages: Vec<u64> = self.pages.range(from / PAGE..=to / PAGE).map(|(p, _)| *p).collect();
        for page in pages {
            (page * PAGE..(page + 1) * PAGE)
                .filter(|at| (from..to).contains(at))
                .for_each(|at| self.put(at, 0));
        }
    }
    fn changed(&mut self) {
        self.attr.mtime = EPOCH;
    }
    fn kill(&mut self, bug: Bug) {
        if bug != Bug::SetIdStays {
            self.attr.mode &= 0o1777;
        }
        self.xattrs.remove(&b"security.capability"[..]);
    }
}

type View = HashMap<u64, Arc<Node>>;

#[derive(Clone)]
struct State {
    views: HashMap<u32, View>,
    snapshots: Vec<(Vec<u8>, u32)>,
    next_ino: u64,
    next_view: u32,
}

struct Inner {
    now: State,
    past: Vec<State>,
    handles: HashMap<u64, (NodeId, OpenFlags)>,
    next_handle: u64,
    calls: u64,
    crash_at: u64,
    lost: bool,
}

struct Naive {
    inner: Mutex<Inner>,
    bug: Bug,
}

/// The store and its switch.
pub struct NaiveSubject {
    fs: Naive,
}

fn attr(node: NodeId, kind: FileType, mode: u32, caller: &Caller, rdev: u32) -> Attr {
    let (uid, gid) = (caller.uid, caller.gid);
    let nlink = if kind == FileType::Directory { 2 } else { 1 };
    let [atime, mtime, ctime, btime] = [EPOCH; 4];
    Attr { node, kind, mode, nlink, uid, gid, rdev, size: 0, blocks: 0, atime, mtime, ctime, btime }
}

fn node(attr: Attr) -> Arc<Node> {
    let (pages, names, target, xattrs) = Default::default();
    Arc::new(Node { attr, pages, names, target, xattrs })
}

impl NaiveSubject {
    /// An empty store that loses power at the given change.
    pub fn new(crash_at: Option<u64>, bug: Bug) -> NaiveSubject {
        let root =
            attr(NodeId::ROOT, FileType::Directory, 0o755, &Caller { uid: 0, gid: 0, pid: 0, umask: 0 }, 0);
        let views = HashMap::from([(0, View::from([(1, node(root))]))]);
        let now = State { views, snapshots: vec![], next_ino: 2, next_view: NodeId::snapshot(1, 0).tree() };
        let inner = Inner {
            past: vec![now.clone()],
            now,
            handles: HashMap::new(),
            next_handle: 1,
            calls: 0,
            crash_at: crash_at.unwrap_or(u64::MAX),
            lost: false,
        };
        NaiveSubject { fs: Naive { inner: Mutex::new(inner), bug } }
    }
}

impl Subject for NaiveSubject {
    fn ops(&self) -> &dyn Operations {
        &self.fs
    }
    fn commit(&mut self) -> std::result::Result<(), String> {
        self.fs.sync().map_err(|e| e.to_string())
    }
    fn crash(&mut self, seed: u64) -> std::result::Result<(), String> {
        let inner = self.fs.inner.get_mut();
        inner.past.push(inner.now.clone());
        let survivor = fastrand::Rng::with_seed(seed).usize(0..inner.past.len());
        inner.now = inner.past.swap_remove(survivor);
        inner.past = vec![inner.now.clone()];
        inner.handles.clear();
        (inner.lost, inner.crash_at) = (false, u64::MAX);
        Ok(())
    }
    fn reopen(&mut self) -> std::result::Result<(), String> {
        self.commit()
    }
    fn check(&mut self) -> std::result::Result<(), String> {
        Ok(())
    }
    fn roll_back(&mut self, _line: &[u8], snapshot: &[u8]) -> RollBack {
        let inner = self.fs.inner.get_mut();
        let Some(view) = inner.now.snapshots.iter().find(|s| s.0 == snapshot).map(|s| s.1) else {
            return RollBack::Failed("no such snapshot".into());
        };
        inner.now.views.insert(0, inner.now.views[&view].clone());
        inner.past = vec![inner.now.clone()];
        RollBack::Done { guard: None }
    }
    fn fs(&self) -> Option<&snapfs::fs::Fs> {
        None
    }
    fn pass_minute(&self) -> std::result::Result<(), String> {
        Ok(())
    }
    fn bring_home(&mut self, _bytes: u64) -> std::result::Result<u64, String> {
        Ok(0)
    }
    fn lost_power(&self) -> bool {
        self.fs.inner.lock().lost
    }
    fn device_calls(&self) -> u64 {
        self.fs.inner.lock().calls
    }
}

impl State {
    fn get(&self, id: NodeId) -> Result<&Arc<Node>> {
        self.views.get(&id.tree()).ok_or(Error::Stale)?.get(&id.ino()).ok_or(Error::NotFound)
    }
    fn dir(&self, id: NodeId) -> Result<&Arc<Node>> {
        self.get(id)
            .and_then(|n| if n.attr.kind == FileType::Directory { Ok(n) } else { Err(Error::NotADirectory) })
    }
    fn find(&self, parent: NodeId, name: &[u8]) -> Result<NodeId> {
        if parent.is_snapdir() {
            let found = self.snapshots.iter().find(|s| s.0 == name).ok_or(Error::NotFound)?;
            return Ok(NodeId::in_tree(found.1, 1));
        }
        let ino = self.dir(parent)?.names.get(name).ok_or(Error::NotFound)?;
        Ok(parent.sibling(*ino))
    }
    fn edit(&mut self, id: NodeId) -> Result<&mut Node> {
        self.get(id)?;
        if !id.is_live() {
            return Err(Error::ReadOnly);
        }
        Ok(Arc::make_mut(self.views.get_mut(&0).and_then(|v| v.get_mut(&id.ino())).ok_or(Error::NotFound)?))
    }
    fn attr(&self, id: NodeId) -> Result<Attr> {
        if id.is_snapdir() {
            return Ok(attr(id, FileType::Directory, 0o755, &Caller { uid: 0, gid: 0, pid: 0, umask: 0 }, 0));
        }
        Ok(Attr { node: id, ..self.get(id)?.attr })
    }
    fn entry(&self, id: NodeId) -> Result<Entry> {
        let attr = self.attr(id)?;
        Ok(Entry { attr, generation: 0, entry_ttl: Duration::MAX, attr_ttl: Duration::MAX })
    }
    fn is_dir(&self, id: NodeId) -> bool {
        self.dir(id).is_ok()
    }
    fn make(
        &mut self,
        caller: &Caller,
        parent: NodeId,
        name: &[u8],
        kind: FileType,
        mode: u32,
    ) -> Result<NodeId> {
        if parent.is_snapdir() {
            return Err(Error::NotPermitted);
        }
        let ino = self.next_ino;
        let dir = self.dir(parent)?.attr;
        if !parent.is_live() {
            return Err(Error::ReadOnly);
        }
        self.add_name(parent, name, ino)?;
        self.next_ino += 1;
        let id = NodeId::live(0, ino);
        let mut attr = attr(id, kind, mode, caller, 0);
        if dir.mode & 0o2000 != 0 {
            attr.gid = dir.gid;
            attr.mode |= if kind == FileType::Directory { 0o2000 } else { 0 };
        }
        self.views.get_mut(&0).ok_or(Error::Stale)?.insert(ino, node(attr));
        self.edit(parent)?.attr.nlink += u32::from(kind == FileType::Directory);
        Ok(id)
    }
    fn add_name(&mut self, parent: NodeId, name: &[u8], ino: u64) -> Result<()> {
        self.dir(parent)?;
        if name.len() > 255 {
            return Err(Error::NameTooLong);
        }
        let dir = self.edit(parent)?;
        if dir.names.contains_key(name) {
            return Err(Error::Exists);
        }
        dir.changed();
        dir.names.insert(name.to_vec(), ino);
        Ok(())
    }
    fn remove_name(&mut self, parent: NodeId, name: &[u8]) -> Result<()> {
        let is_dir = self.is_dir(self.find(parent, name)?);
        let dir = self.edit(parent)?;
        dir.changed();
        dir.names.remove(name);
        dir.attr.nlink -= u32::from(is_dir);
        Ok(())
    }
    fn is_below(&self, id: NodeId, top: NodeId) -> bool {
        let children =
            self.get(top).map(|n| n.names.values().copied().collect::<Vec<_>>()).unwrap_or_default();
        id == top || children.into_iter().any(|c| self.is_below(id, NodeId::live(0, c)))
    }
}

impl Naive {
    fn look<T>(&self, f: impl FnOnce(&State) -> Result<T>) -> Result<T> {
        let inner = self.inner.lock();
        if inner.lost {
            return Err(Error::Io("no power".into()));
        }
        f(&inner.now)
    }
    fn change<T>(&self, f: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let mut inner = self.inner.lock();
        if inner.lost {
            return Err(Error::Io("no power".into()));
        }
        let mut next = inner.now.clone();
        let answer = f(&mut next)?;
        inner.calls += 1;
        inner.lost = inner.calls > inner.crash_at;
        if inner.lost && inner.calls.is_multiple_of(2) {
            return Err(Error::Io("no power".into()));
        }
        let before = std::mem::replace(&mut inner.now, next);
        inner.past.push(before);
        if inner.lost { Err(Error::Io("no power".into())) } else { Ok(answer) }
    }
    fn sync(&self) -> Result<()> {
        self.change(|_| Ok(()))?;
        if self.bug != Bug::ForgetsFsync {
            self.inner.lock().past.clear();
        }
        Ok(())
    }
    fn open_handle(&self, id: NodeId, flags: OpenFlags) -> Handle {
        let mut inner = self.inner.lock();
        inner.next_handle += 1;
        let handle = inner.next_handle;
        inner.handles.insert(handle, (id, flags));
        Handle(handle)
    }
    fn flags(&self, handle: Handle) -> Result<OpenFlags> {
        self.inner.lock().handles.get(&handle.0).map(|h| h.1).ok_or(Error::BadHandle)
    }
}

impl Operations for Naive {
    fn lookup(&self, _: &Caller, parent: NodeId, name: &[u8]) -> Result<Entry> {
        self.look(|s| s.entry(s.find(parent, name)?))
    }
    fn forget(&self, _: NodeId) {}
    fn getattr(&self, node: NodeId, _: Option<Handle>) -> Result<(Attr, Duration)> {
        self.look(|s| Ok((s.attr(node)?, Duration::MAX)))
    }
    fn setattr(&self, _: &Caller, id: NodeId, _: Option<Handle>, set: &SetAttr) -> Result<(Attr, Duration)> {
        let bug = self.bug;
        self.change(|s| {
            let node = s.edit(id)?;
            if let Some(size) = set.size {
                match node.attr.kind {
                    FileType::Regular => {}
                    FileType::Directory => return Err(Error::IsADirectory),
                    _ => return Err(Error::Invalid),
                }
                let (low, high) = (size.min(node.attr.size), node.attr.size);
                if bug != Bug::TruncateKeepsTail {
                    node.zero(low, high);
                }
                node.attr.size = size;
                node.changed();
            }
            if set.size.is_some() || set.uid.or(set.gid).is_some() && node.attr.kind == FileType::Regular {
                node.kill(bug);
            }
            let attr = &mut node.attr;
            attr.mode = set.mode.unwrap_or(attr.mode);
            attr.uid = set.uid.unwrap_or(attr.uid);
            attr.gid = set.gid.unwrap_or(attr.gid);
            if let Some(SetTime::At(time)) = set.mtime {
                attr.mtime = time;
            }
            Ok((*attr, Duration::MAX))
        })
    }
    fn readlink(&self, node: NodeId) -> Result<Vec<u8>> {
        self.look(|s| {
            let node = s.get(node)?;
            if node.attr.kind == FileType::Symlink {
                Ok(node.target.clone())
            } else {
                Err(Error::NotASymlink)
            }
        })
    }
    fn mknod(
        &self,
        c: &Caller,
        parent: NodeId,
        name: &[u8],
        kind: FileType,
        mode: u32,
        rdev: u32,
    ) -> Result<Entry> {
        self.change(|s| {
            let id = s.make(c, parent, name, kind, mode)?;
            s.edit(id)?.attr.rdev = rdev;
            s.entry(id)
        })
    }
    fn mkdir(&self, c: &Caller, parent: NodeId, name: &[u8], mode: u32) -> Result<Entry> {
        if !parent.is_snapdir() {
            return self
                .change(|s| s.make(c, parent, name, FileType::Directory, mode).and_then(|id| s.entry(id)));
        }
        let made = self.change(|s| {
            if name.len() > 255 || name.starts_with(b".") || name.starts_with(b"@") {
                return Err(Error::Invalid);
            }
            if s.find(parent, name).is_ok() {
                return Err(Error::Exists);
            }
            s.views.insert(s.next_view, s.views[&0].clone());
            s.snapshots.push((name.to_vec(), s.next_view));
            s.next_view += 1;
            s.entry(NodeId::in_tree(s.next_view - 1, 1))
        });
        made.and_then(|entry| self.sync().map(|()| entry))
    }
    fn unlink(&self, _: &Caller, parent: NodeId, name: &[u8]) -> Result<()> {
        self.change(|s| {
            let id = s.find(parent, name)?;
            if s.is_dir(id) {
                return Err(Error::IsADirectory);
            }
            s.remove_name(parent, name)?;
            s.edit(id)?.attr.nlink -= 1;
            Ok(())
        })
    }
    fn rmdir(&self, _: &Caller, parent: NodeId, name: &[u8]) -> Result<()> {
        self.change(|s| {
            let id = s.find(parent, name)?;
            if parent.is_snapdir() {
                s.views.remove(&id.tree());
                s.snapshots.retain(|n| n.0 != name);
                return Ok(());
            }
            if parent.is_live() && !s.dir(id)?.names.is_empty() {
                return Err(Error::NotEmpty);
            }
            s.remove_name(parent, name)
        })
    }
    fn symlink(&self, c: &Caller, parent: NodeId, name: &[u8], target: &[u8]) -> Result<Entry> {
        self.change(|s| {
            let id = s.make(c, parent, name, FileType::Symlink, 0o777)?;
            let node = s.edit(id)?;
            node.target = target.to_vec();
            node.attr.size = target.len() as u64;
            s.entry(id)
        })
    }
    fn rename(
        &self,
        _: &Caller,
        parent: NodeId,
        name: &[u8],
        to: NodeId,
        to_name: &[u8],
        mode: RenameMode,
    ) -> Result<()> {
        let bug = self.bug;
        self.change(|s| {
            if parent.tree() != to.tree() {
                return Err(Error::CrossView);
            }
            let id = s.find(parent, name)?;
            let target = s.find(to, to_name).ok();
            if parent.is_snapdir() {
                if target.is_some() {
                    return Err(Error::Exists);
                }
                s.snapshots.iter_mut().filter(|n| n.0 == name).for_each(|n| n.0 = to_name.to_vec());
                return Ok(());
            }
            s.edit(to)?;
            s.dir(to)?;
            if to_name.len() > 255 {
                return Err(Error::NameTooLong);
            }
            if s.is_below(to, id)
                || mode == RenameMode::Exchange && target.is_some_and(|t| s.is_below(parent, t))
            {
                return Err(Error::Invalid);
            }
            match (mode, target) {
                (RenameMode::NoReplace, Some(_)) => return Err(Error::Exists),
                (RenameMode::Exchange, None) => return Err(Error::NotFound),
                (RenameMode::Whiteout, _) => return Err(Error::Invalid), // no history has one
                (_, Some(t)) if t == id => return Ok(()),
                (RenameMode::Exchange, Some(t)) => {
                    s.remove_name(parent, name)?;
                    s.remove_name(to, to_name)?;
                    s.add_name(parent, name, t.ino())?;
                    s.edit(parent)?.attr.nlink += u32::from(s.is_dir(t));
                }
                (RenameMode::Replace, Some(t)) => {
                    match (s.is_dir(id), s.is_dir(t)) {
                        (true, false) => return Err(Error::NotADirectory),
                        (false, true) => return Err(Error::IsADirectory),
                        (_, true) if !s.get(t)?.names.is_empty() => return Err(Error::NotEmpty),
                        _ => {}
                    }
                    s.remove_name(to, to_name)?;
                    s.edit(t)?.attr.nlink -= u32::from(bug != Bug::RenameLeaksLink);
                    s.remove_name(parent, name)?;
                }
                (_, None) => s.remove_name(parent, name)?,
            }
            s.add_name(to, to_name, id.ino())?;
            s.edit(to)?.attr.nlink += u32::from(s.is_dir(id));
            Ok(())
        })
    }
    fn link(&self, _: &Caller, node: NodeId, parent: NodeId, name: &[u8]) -> Result<Entry> {
        self.change(|s| {
            if node.tree() != parent.tree() {
                return Err(Error::CrossView);
            }
            if s.is_dir(node) {
                return Err(Error::NotPermitted);
            }
            s.add_name(parent, name, node.ino())?;
            s.edit(node)?.attr.nlink += 1;
            s.entry(node)
        })
    }
    fn open(&self, c: &Caller, node: NodeId, flags: OpenFlags) -> Result<Handle> {
        if flags.write && !node.is_live() {
            return Err(Error::ReadOnly);
        }
        if flags.truncate {
            self.setattr(c, node, None, &SetAttr { size: Some(0), ..SetAttr::default() })?;
        }
        self.look(|s| s.get(node).map(drop))?;
        Ok(self.open_handle(node, flags))
    }
    fn create(
        &self,
        c: &Caller,
        parent: NodeId,
        name: &[u8],
        mode: u32,
        flags: OpenFlags,
    ) -> Result<(Entry, Handle)> {
        let entry = self.mknod(c, parent, name, FileType::Regular, mode, 0)?;
        Ok((entry, self.open_handle(entry.attr.node, flags)))
    }
    fn read(&self, node: NodeId, _: Handle, offset: u64, out: &mut [u8]) -> Result<usize> {
        self.look(|s| {
            let node = s.get(node)?;
            let end = node.attr.size.min(offset + out.len() as u64).max(offset);
            out[..(end - offset) as usize].fill(0);
            for (page, bytes) in node.pages.range(offset / PAGE..end.div_ceil(PAGE)) {
                let (from, to) = ((page * PAGE).max(offset), ((page + 1) * PAGE).min(end));
                let source = &bytes[(from - page * PAGE) as usize..(to - page * PAGE) as usize];
                out[(from - offset) as usize..(to - offset) as usize].copy_from_slice(source);
            }
            Ok((end - offset) as usize)
        })
    }
    fn write(&self, node: NodeId, handle: Handle, offset: u64, data: &[u8], kill: bool) -> Result<usize> {
        let (flags, bug) = (self.flags(handle)?, self.bug);
        assert!(bug != Bug::Panics || offset != 0 || data.len() < 10_000, "a planted panic");
        let write = |s: &mut State, id: u32| -> Result<usize> {
            let node = Arc::make_mut(
                s.views.get_mut(&id).and_then(|v| v.get_mut(&node.ino())).ok_or(Error::NotFound)?,
            );
            let at = if flags.append { node.attr.size } else { offset };
            if at > i64::MAX as u64 {
                return Err(Error::FileTooBig);
            }
            data.iter().enumerate().for_each(|(i, b)| node.put(at + i as u64, *b));
            node.attr.size = node.attr.size.max(at + data.len() as u64);
            node.changed();
            if kill {
                node.kill(bug);
            }
            Ok(data.len())
        };
        let answer = self.change(|s| {
            if bug == Bug::SnapshotFollowsWrites && offset > 4096 {
                let _ = write(s, NodeId::snapshot(1, 0).tree());
            }
            write(s, 0)
        })?;
        if flags.sync { self.sync().map(|()| answer) } else { Ok(answer) }
    }
    fn release(&self, _: NodeId, handle: Handle) {
        self.inner.lock().handles.remove(&handle.0);
    }
    fn fsync(&self, _: NodeId, _: Handle, _: SyncScope) -> Result<()> {
        self.sync()
    }
    fn opendir(&self, _: &Caller, _: NodeId) -> Result<Handle> {
        Ok(Handle(0))
    }
    fn readdir(
        &self,
        node: NodeId,
        _: Handle,
        after: u64,
        _: bool,
        sink: &mut dyn FnMut(&DirEntry) -> bool,
    ) -> Result<()> {
        self.look(|s| {
            let mut all = vec![(b".".to_vec(), node), (b"..".to_vec(), node)];
            if node.is_snapdir() {
                all.extend(s.snapshots.iter().map(|(name, view)| (name.clone(), NodeId::in_tree(*view, 1))));
            } else {
                let names = &s.dir(node)?.names;
                all.extend(names.iter().map(|(name, ino)| (name.clone(), node.sibling(*ino))));
            }
            for (i, (name, node)) in all.into_iter().enumerate().skip(after as usize) {
                let entry = s.entry(node)?;
                let kind = entry.attr.kind;
                if !sink(&DirEntry { node, kind, name, cookie: i as u64 + 1, entry: Some(entry) }) {
                    break;
                }
            }
            Ok(())
        })
    }
    fn releasedir(&self, _: NodeId, _: Handle) {}
    fn fsyncdir(&self, _: NodeId) -> Result<()> {
        self.sync()
    }
    fn statfs(&self, _: NodeId) -> Result<StatFs> {
        let (total_bytes, free_bytes, available_bytes) = (9, 8, 7);
        Ok(StatFs {
            total_bytes,
            free_bytes,
            available_bytes,
            inodes: 9,
            inodes_free: 8,
            block_size: 4096,
            name_max: 255,
        })
    }
    fn setxattr(&self, _: &Caller, id: NodeId, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        self.change(|s| {
            let xattrs = &mut s.edit(id)?.xattrs;
            match (mode, xattrs.contains_key(name)) {
                (XattrMode::Create, true) => return Err(Error::Exists),
                (XattrMode::Replace, false) => return Err(Error::NoAttribute),
                _ => xattrs.insert(name.to_vec(), value.to_vec()),
            };
            Ok(())
        })
    }
    fn getxattr(&self, node: NodeId, name: &[u8]) -> Result<Vec<u8>> {
        self.look(|s| s.get(node)?.xattrs.get(name).cloned().ok_or(Error::NoAttribute))
    }
    fn listxattr(&self, node: NodeId) -> Result<Vec<u8>> {
        self.look(|s| Ok(s.get(node)?.xattrs.keys().flat_map(|n| [n, &b"\0"[..]].concat()).collect()))
    }
    fn removexattr(&self, _: &Caller, node: NodeId, name: &[u8]) -> Result<()> {
        self.change(|s| s.edit(node)?.xattrs.remove(name).map(drop).ok_or(Error::NoAttribute))
    }
    fn fallocate(
        &self,
        _: &Caller,
        id: NodeId,
        _: Handle,
        at: u64,
        len: u64,
        mode: AllocateMode,
    ) -> Result<()> {
        let bug = self.bug;
        self.change(|s| {
            if len == 0 {
                return Err(Error::Invalid);
            }
            let node = s.edit(id)?;
            if !matches!(mode, AllocateMode::Extend | AllocateMode::KeepSize) {
                node.zero(at, at + len);
            }
            if matches!(mode, AllocateMode::Extend | AllocateMode::ZeroRange) {
                node.attr.size = node.attr.size.max(at + len);
            }
            node.kill(bug);
            node.changed();
            Ok(())
        })
    }
    fn lseek(&self, node: NodeId, _: Handle, offset: u64, target: SeekTarget) -> Result<u64> {
        self.look(|s| {
            let node = s.get(node)?;
            if offset >= node.attr.size {
                return Err(Error::NoSuchOffset);
            }
            if target == SeekTarget::Hole {
                return Ok(node.attr.size);
            }
            let next = node.pages.range(offset / PAGE..).next().ok_or(Error::NoSuchOffset)?;
            let at = offset.max(next.0 * PAGE);
            if at < node.attr.size { Ok(at) } else { Err(Error::NoSuchOffset) }
        })
    }
    fn copy_range(
        &self,
        _: &Caller,
        from: NodeId,
        _: Handle,
        at: u64,
        to: NodeId,
        _: Handle,
        to_at: u64,
        len: u64,
    ) -> Result<u64> {
        let bug = self.bug;
        self.change(|s| {
            let source = s.get(from)?.clone();
            let len = len.min(source.attr.size.saturating_sub(at));
            if from == to && at.abs_diff(to_at) < len {
                return Err(Error::Invalid);
            }
            let node = s.edit(to)?;
            (0..len).for_each(|i| node.put(to_at + i, source.get(at + i)));
            if len > 0 {
                node.attr.size = node.attr.size.max(to_at + len);
                node.kill(bug);
                node.changed();
            }
            Ok(len)
        })
    }
}
