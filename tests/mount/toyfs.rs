//! A file system in memory, the smallest that shows whether a transport does its work: no store, no snapshots, but a
//! `.snapshots` directory whose `mkdir` asks the kernel for dirty pages first and remembers what arrived.
//!
//! Not a model of snapfs: it checks no limits and keeps no promise beyond one process.

#![allow(dead_code)] // two programs share this file, and neither uses all of it

use parking_lot::{Condvar, Mutex};
use snapfs::ops::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const FOREVER: Duration = Duration::MAX;
/// The one `.snapshots` directory.
pub const SNAPDIR: NodeId = NodeId::snapdir(0, 1);
const SNAPDIR_NAME: &[u8] = b".snapshots";

#[derive(Clone)]
struct Node {
    attr: Attr,
    data: Vec<u8>,
    names: BTreeMap<Vec<u8>, u64>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    parent: u64,
}

struct State {
    nodes: BTreeMap<u64, Node>,
    /// Open files and directories: node and whether it can be written.
    handles: BTreeMap<u64, (u64, bool)>,
    points: BTreeMap<Vec<u8>, BTreeMap<u64, Vec<u8>>>,
    next: u64,
}

/// The file system; clones of the `Arc` share it.
pub struct ToyFs {
    state: Mutex<State>,
    kernel: Mutex<KernelRef>,
    /// WRITE requests that arrived.
    pub writes: AtomicU64,
    /// LOOKUP requests that arrived.
    pub lookups: AtomicU64,
    /// Who writes waits: how many do.
    standing: Mutex<Option<usize>>,
    changed: Condvar,
}

fn now() -> Timestamp {
    let d = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp { secs: d.as_secs() as i64, nanos: d.subsec_nanos() }
}

fn fresh(ino: u64, kind: FileType, mode: u32, who: &Caller, parent: u64) -> Node {
    let t = now();
    let attr = Attr {
        node: NodeId(ino),
        kind,
        mode,
        nlink: if kind == FileType::Directory { 2 } else { 1 },
        uid: who.uid,
        gid: who.gid,
        rdev: 0,
        size: 0,
        blocks: 0,
        atime: t,
        mtime: t,
        ctime: t,
        btime: t,
    };
    Node { attr, data: Vec::new(), names: BTreeMap::new(), xattrs: BTreeMap::new(), parent }
}

impl Node {
    fn entry(&self) -> Entry {
        Entry { attr: self.attr, generation: 7, entry_ttl: FOREVER, attr_ttl: FOREVER }
    }
    fn resize(&mut self, size: u64) {
        self.data.resize(size as usize, 0);
        self.touched();
    }
    fn touched(&mut self) {
        self.attr.size = self.data.len() as u64;
        self.attr.blocks = self.attr.size.div_ceil(512);
        self.attr.mtime = now();
        self.attr.ctime = self.attr.mtime;
    }
}

impl State {
    fn get(&self, node: NodeId) -> Result<&Node> {
        self.nodes.get(&node.0).ok_or(Error::Stale)
    }
    fn get_mut(&mut self, node: NodeId) -> Result<&mut Node> {
        self.nodes.get_mut(&node.0).ok_or(Error::Stale)
    }
    fn child(&self, parent: NodeId, name: &[u8]) -> Result<NodeId> {
        self.get(parent)?.names.get(name).map(|&i| NodeId(i)).ok_or(Error::NotFound)
    }
    fn add(
        &mut self,
        who: &Caller,
        parent: NodeId,
        name: &[u8],
        kind: FileType,
        mode: u32,
    ) -> Result<&mut Node> {
        if name.len() > 255 {
            return Err(Error::NameTooLong);
        }
        if self.get(parent)?.names.contains_key(name) {
            return Err(Error::Exists);
        }
        let ino = self.next;
        self.next += 1;
        let dir = self.get_mut(parent)?;
        dir.names.insert(name.to_vec(), ino);
        dir.touched();
        if kind == FileType::Directory {
            dir.attr.nlink += 1;
        }
        self.nodes.insert(ino, fresh(ino, kind, mode, who, parent.0));
        self.get_mut(NodeId(ino))
    }
    fn drop_name(&mut self, parent: NodeId, name: &[u8]) -> Result<()> {
        let ino = self.child(parent, name)?.0;
        let dir = self.get_mut(parent)?;
        dir.names.remove(name);
        dir.touched();
        if let Some(n) = self.nodes.get_mut(&ino) {
            n.attr.nlink =
                n.attr.nlink.saturating_sub(if n.attr.kind == FileType::Directory { 2 } else { 1 });
            n.attr.ctime = now();
        }
        Ok(())
    }
    fn open(&mut self, node: u64, write: bool) -> Handle {
        let h = self.next;
        self.next += 1;
        self.handles.insert(h, (node, write));
        Handle(h)
    }
}

impl ToyFs {
    /// An empty file system, its root owned by this process and open to all.
    pub fn new() -> Arc<ToyFs> {
        let who = Caller {
            uid: snapfs::sys::process::effective_uid(),
            gid: snapfs::sys::process::effective_gid(),
            pid: 0,
            umask: 0,
        };
        let root = fresh(1, FileType::Directory, 0o777, &who, 1);
        let state = State {
            nodes: BTreeMap::from([(1, root)]),
            handles: BTreeMap::new(),
            points: BTreeMap::new(),
            next: 16,
        };
        Arc::new(ToyFs {
            state: Mutex::new(state),
            kernel: Mutex::new(Arc::new(NoKernel)),
            writes: AtomicU64::new(0),
            lookups: AtomicU64::new(0),
            standing: Mutex::new(None),
            changed: Condvar::new(),
        })
    }
    /// Whoever writes waits from now on.
    pub fn stand_still(&self) {
        *self.standing.lock() = Some(0);
    }
    /// Waits until so many wait.
    pub fn await_waiting(&self, count: usize) {
        let mut standing = self.standing.lock();
        while standing.is_some_and(|waiting| waiting < count) {
            self.changed.wait(&mut standing);
        }
    }
    /// Lets all who wait go on.
    pub fn go_on(&self) {
        *self.standing.lock() = None;
        self.changed.notify_all();
    }
    fn wait_if_still(&self) {
        let mut standing = self.standing.lock();
        if let Some(waiting) = &mut *standing {
            *waiting += 1;
            self.changed.notify_all();
        }
        while standing.is_some() {
            self.changed.wait(&mut standing);
        }
    }
    /// The way back.
    pub fn set_kernel(&self, kernel: KernelRef) {
        *self.kernel.lock() = kernel;
    }
    /// Nodes with a writable open file, as `Kernel::write_back` wants them.
    pub fn open_for_write(&self) -> Vec<(NodeId, u64)> {
        let state = self.state.lock();
        let nodes: BTreeSet<u64> = state.handles.values().filter(|h| h.1).map(|h| h.0).collect();
        nodes.into_iter().map(|n| (NodeId(n), 7)).collect()
    }
    /// What of a file has arrived here.
    pub fn content(&self, name: &[u8]) -> Vec<u8> {
        let state = self.state.lock();
        state.child(NodeId::ROOT, name).and_then(|n| Ok(state.get(n)?.data.clone())).unwrap_or_default()
    }
    /// What of a file is in a point that `mkdir .snapshots/POINT` made.
    pub fn content_at(&self, point: &[u8], name: &[u8]) -> Vec<u8> {
        let state = self.state.lock();
        let Ok(node) = state.child(NodeId::ROOT, name) else { return Vec::new() };
        state.points.get(point).and_then(|p| p.get(&node.0)).cloned().unwrap_or_default()
    }
    /// Flushes, then remembers all contents under a name: the core of a snapshot.
    pub fn make_point(&self, name: &[u8]) -> Result<()> {
        let dirty = self.open_for_write();
        let kernel = self.kernel.lock().clone();
        kernel.write_back(&dirty).map_err(|e| Error::Io(e.to_string()))?;
        let mut state = self.state.lock();
        if state.points.contains_key(name) {
            return Err(Error::Exists);
        }
        let copy = state.nodes.iter().map(|(i, n)| (*i, n.data.clone())).collect();
        state.points.insert(name.to_vec(), copy);
        Ok(())
    }
    /// Names of the points.
    pub fn points(&self) -> Vec<Vec<u8>> {
        self.state.lock().points.keys().cloned().collect()
    }
    /// Removes or renames a point.
    pub fn change_point(&self, name: &[u8], to: Option<&[u8]>) -> Result<()> {
        let mut state = self.state.lock();
        if to.is_some_and(|t| state.points.contains_key(t)) {
            return Err(Error::Exists);
        }
        let point = state.points.remove(name).ok_or(Error::NotFound)?;
        if let Some(to) = to {
            state.points.insert(to.to_vec(), point);
        }
        Ok(())
    }
    fn snapdir_entry(&self, node: NodeId, ttl: Duration) -> Entry {
        let who = Caller { uid: 0, gid: 0, pid: 0, umask: 0 };
        let mut attr = fresh(node.0, FileType::Directory, 0o777, &who, 1).attr;
        attr.node = node;
        Entry { attr, generation: 7, entry_ttl: ttl, attr_ttl: Duration::ZERO }
    }
    fn point_node(&self, name: &[u8]) -> Result<NodeId> {
        let state = self.state.lock();
        let at = state.points.keys().position(|k| k == name).ok_or(Error::NotFound)?;
        Ok(NodeId::snapshot(at as u32 + 1, 1))
    }
}

impl Operations for ToyFs {
    fn unhindered(&self, _node: Option<NodeId>) -> Option<Unhindered<'_>> {
        self.standing.lock().is_none().then(Unhindered::default)
    }
    fn lookup(&self, _c: &Caller, parent: NodeId, name: &[u8]) -> Result<Entry> {
        self.lookups.fetch_add(1, Ordering::Relaxed);
        if parent == SNAPDIR {
            return Ok(self.snapdir_entry(self.point_node(name)?, Duration::ZERO));
        }
        if parent == NodeId::ROOT && name == SNAPDIR_NAME {
            return Ok(self.snapdir_entry(SNAPDIR, FOREVER));
        }
        let state = self.state.lock();
        match name {
            b"." => Ok(state.get(parent)?.entry()),
            b".." => Ok(state.get(NodeId(state.get(parent)?.parent))?.entry()),
            _ => Ok(state.get(state.child(parent, name)?)?.entry()),
        }
    }
    fn forget(&self, _node: NodeId) {}
    fn getattr(&self, node: NodeId, _h: Option<Handle>) -> Result<(Attr, Duration)> {
        if !node.is_live() {
            return Ok((self.snapdir_entry(node, Duration::ZERO).attr, Duration::ZERO));
        }
        Ok((self.state.lock().get(node)?.attr, FOREVER))
    }
    fn setattr(
        &self,
        _c: &Caller,
        node: NodeId,
        _h: Option<Handle>,
        set: &SetAttr,
    ) -> Result<(Attr, Duration)> {
        let mut state = self.state.lock();
        let n = state.get_mut(node)?;
        if let Some(size) = set.size {
            n.resize(size);
        }
        let time = |t: SetTime| match t {
            SetTime::Now => now(),
            SetTime::At(t) => t,
        };
        n.attr.mode = set.mode.unwrap_or(n.attr.mode);
        n.attr.uid = set.uid.unwrap_or(n.attr.uid);
        n.attr.gid = set.gid.unwrap_or(n.attr.gid);
        n.attr.atime = set.atime.map_or(n.attr.atime, time);
        n.attr.mtime = set.mtime.map_or(n.attr.mtime, time);
        n.attr.ctime = set.ctime.unwrap_or_else(now);
        Ok((n.attr, FOREVER))
    }
    fn readlink(&self, node: NodeId) -> Result<Vec<u8>> {
        Ok(self.state.lock().get(node)?.data.clone())
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
        let mut state = self.state.lock();
        let n = state.add(c, parent, name, kind, mode & !c.umask)?;
        n.attr.rdev = rdev;
        Ok(n.entry())
    }
    fn mkdir(&self, c: &Caller, parent: NodeId, name: &[u8], mode: u32) -> Result<Entry> {
        if parent == SNAPDIR {
            self.make_point(name)?;
            return Ok(self.snapdir_entry(self.point_node(name)?, Duration::ZERO));
        }
        Ok(self.state.lock().add(c, parent, name, FileType::Directory, mode & !c.umask)?.entry())
    }
    fn unlink(&self, _c: &Caller, parent: NodeId, name: &[u8]) -> Result<()> {
        self.wait_if_still();
        self.state.lock().drop_name(parent, name)
    }
    fn rmdir(&self, _c: &Caller, parent: NodeId, name: &[u8]) -> Result<()> {
        if parent == SNAPDIR {
            return self.change_point(name, None);
        }
        let mut state = self.state.lock();
        let child = state.child(parent, name)?;
        if !state.get(child)?.names.is_empty() {
            return Err(Error::NotEmpty);
        }
        state.drop_name(parent, name)?;
        state.get_mut(parent)?.attr.nlink -= 1;
        Ok(())
    }
    fn symlink(&self, c: &Caller, parent: NodeId, name: &[u8], target: &[u8]) -> Result<Entry> {
        let mut state = self.state.lock();
        let n = state.add(c, parent, name, FileType::Symlink, 0o777)?;
        n.data = target.to_vec();
        n.touched();
        Ok(n.entry())
    }
    fn rename(
        &self,
        _c: &Caller,
        parent: NodeId,
        name: &[u8],
        new_parent: NodeId,
        new_name: &[u8],
        mode: RenameMode,
    ) -> Result<()> {
        if parent == SNAPDIR && new_parent == SNAPDIR {
            return self.change_point(name, Some(new_name));
        }
        if parent == SNAPDIR || new_parent == SNAPDIR {
            return Err(Error::CrossView);
        }
        let mut state = self.state.lock();
        let from = state.child(parent, name)?;
        let to = state.child(new_parent, new_name).ok();
        match (mode, to) {
            (RenameMode::NoReplace, Some(_)) => return Err(Error::Exists),
            (RenameMode::Exchange, None) => return Err(Error::NotFound),
            (RenameMode::Exchange, Some(to)) => {
                state.get_mut(parent)?.names.insert(name.to_vec(), to.0);
            }
            (_, Some(_)) => {
                state.drop_name(new_parent, new_name)?;
                state.get_mut(parent)?.names.remove(name);
            }
            (_, None) => {
                state.get_mut(parent)?.names.remove(name);
            }
        }
        state.get_mut(new_parent)?.names.insert(new_name.to_vec(), from.0);
        state.get_mut(from)?.parent = new_parent.0;
        Ok(())
    }
    fn link(&self, _c: &Caller, node: NodeId, new_parent: NodeId, new_name: &[u8]) -> Result<Entry> {
        let mut state = self.state.lock();
        if state.get(new_parent)?.names.contains_key(new_name) {
            return Err(Error::Exists);
        }
        state.get_mut(new_parent)?.names.insert(new_name.to_vec(), node.0);
        let n = state.get_mut(node)?;
        n.attr.nlink += 1;
        Ok(n.entry())
    }
    fn open(&self, _c: &Caller, node: NodeId, flags: OpenFlags) -> Result<Handle> {
        let mut state = self.state.lock();
        if flags.truncate {
            state.get_mut(node)?.resize(0);
        }
        Ok(state.open(node.0, flags.write))
    }
    fn create(
        &self,
        c: &Caller,
        parent: NodeId,
        name: &[u8],
        mode: u32,
        flags: OpenFlags,
    ) -> Result<(Entry, Handle)> {
        let mut state = self.state.lock();
        let entry = state.add(c, parent, name, FileType::Regular, mode & !c.umask)?.entry();
        Ok((entry, state.open(entry.attr.node.0, flags.write)))
    }
    fn read(&self, node: NodeId, _h: Handle, offset: u64, out: &mut [u8]) -> Result<usize> {
        let state = self.state.lock();
        let data = &state.get(node)?.data;
        let start = (offset as usize).min(data.len());
        let len = out.len().min(data.len() - start);
        out[..len].copy_from_slice(&data[start..start + len]);
        Ok(len)
    }
    fn write(&self, node: NodeId, _h: Handle, offset: u64, data: &[u8], kill: bool) -> Result<usize> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.wait_if_still();
        let mut state = self.state.lock();
        let n = state.get_mut(node)?;
        let end = offset as usize + data.len();
        if n.data.len() < end {
            n.data.resize(end, 0);
        }
        n.data[offset as usize..end].copy_from_slice(data);
        n.touched();
        if kill {
            n.attr.mode &= !0o6000;
        }
        Ok(data.len())
    }
    fn release(&self, _node: NodeId, handle: Handle) {
        self.state.lock().handles.remove(&handle.0);
    }
    fn fsync(&self, _node: NodeId, _h: Handle, _scope: SyncScope) -> Result<()> {
        Ok(())
    }
    fn opendir(&self, _c: &Caller, node: NodeId) -> Result<Handle> {
        Ok(self.state.lock().open(node.0, false))
    }
    fn readdir(
        &self,
        node: NodeId,
        _h: Handle,
        after: u64,
        plus: bool,
        sink: &mut dyn FnMut(&DirEntry) -> bool,
    ) -> Result<()> {
        let mut all = Vec::new();
        for name in [&b"."[..], b".."] {
            all.push(DirEntry {
                node,
                kind: FileType::Directory,
                name: name.to_vec(),
                cookie: 0,
                entry: None,
            });
        }
        if node == SNAPDIR {
            for name in self.points() {
                let point = self.point_node(&name)?;
                let entry = plus.then(|| self.snapdir_entry(point, Duration::ZERO));
                all.push(DirEntry { node: point, kind: FileType::Directory, name, cookie: 0, entry });
            }
        } else if node.is_live() {
            let state = self.state.lock();
            for (name, ino) in &state.get(node)?.names {
                let n = state.get(NodeId(*ino))?;
                all.push(DirEntry {
                    node: n.attr.node,
                    kind: n.attr.kind,
                    name: name.clone(),
                    cookie: 0,
                    entry: plus.then(|| n.entry()),
                });
            }
        }
        for (at, e) in all.iter_mut().enumerate().skip(after as usize) {
            e.cookie = at as u64 + 1;
            if !sink(e) {
                break;
            }
        }
        Ok(())
    }
    fn releasedir(&self, _node: NodeId, handle: Handle) {
        self.state.lock().handles.remove(&handle.0);
    }
    fn fsyncdir(&self, _node: NodeId) -> Result<()> {
        Ok(())
    }
    fn statfs(&self, _node: NodeId) -> Result<StatFs> {
        Ok(StatFs {
            total_bytes: 1 << 30,
            free_bytes: 1 << 29,
            available_bytes: 1 << 28,
            inodes: 1000,
            inodes_free: 900,
            block_size: 4096,
            name_max: 255,
        })
    }
    fn setxattr(&self, _c: &Caller, node: NodeId, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        let mut state = self.state.lock();
        let n = state.get_mut(node)?;
        match (mode, n.xattrs.contains_key(name)) {
            (XattrMode::Create, true) => Err(Error::Exists),
            (XattrMode::Replace, false) => Err(Error::NoAttribute),
            _ => {
                n.xattrs.insert(name.to_vec(), value.to_vec());
                Ok(())
            }
        }
    }
    fn getxattr(&self, node: NodeId, name: &[u8]) -> Result<Vec<u8>> {
        if !node.is_live() {
            return Err(Error::NoAttribute);
        }
        self.state.lock().get(node)?.xattrs.get(name).cloned().ok_or(Error::NoAttribute)
    }
    fn listxattr(&self, node: NodeId) -> Result<Vec<u8>> {
        let state = self.state.lock();
        Ok(state.get(node)?.xattrs.keys().flat_map(|k| k.iter().copied().chain([0])).collect())
    }
    fn removexattr(&self, _c: &Caller, node: NodeId, name: &[u8]) -> Result<()> {
        self.state.lock().get_mut(node)?.xattrs.remove(name).map(drop).ok_or(Error::NoAttribute)
    }
    fn fallocate(
        &self,
        _c: &Caller,
        node: NodeId,
        _h: Handle,
        offset: u64,
        len: u64,
        mode: AllocateMode,
    ) -> Result<()> {
        let mut state = self.state.lock();
        let n = state.get_mut(node)?;
        let end = offset + len;
        if matches!(mode, AllocateMode::Extend | AllocateMode::ZeroRange) && end > n.attr.size {
            n.resize(end);
        }
        if !matches!(mode, AllocateMode::Extend | AllocateMode::KeepSize) {
            let size = n.data.len() as u64;
            n.data[offset.min(size) as usize..end.min(size) as usize].fill(0);
            n.touched();
        }
        Ok(())
    }
    fn lseek(&self, node: NodeId, _h: Handle, offset: u64, target: SeekTarget) -> Result<u64> {
        let size = self.state.lock().get(node)?.attr.size;
        match target {
            _ if offset >= size => Err(Error::NoSuchOffset),
            SeekTarget::Data => Ok(offset),
            SeekTarget::Hole => Ok(size),
        }
    }
    fn copy_range(
        &self,
        _c: &Caller,
        from: NodeId,
        fh: Handle,
        from_offset: u64,
        to: NodeId,
        th: Handle,
        to_offset: u64,
        len: u64,
    ) -> Result<u64> {
        let mut data = vec![0; len as usize];
        let read = self.read(from, fh, from_offset, &mut data)?;
        Ok(self.write(to, th, to_offset, &data[..read], false)? as u64)
    }
}
