//! The model of one line: what its tree and its snapshots must look like, small enough to be obviously right.
//!
//! A tree is a map from model numbers to inodes; a snapshot is a kept tree. Every method says what must happen: `Ok`
//! with the answer (and the model has changed), or the errors of which any one is right (and nothing has changed).
//! No time, no space, no handles, no durability: those belong to the runner. Model numbers are never reused. All lines
//! together are in `lines`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use snapfs::ops::{AllocateMode, Caller, Error, FileType, RenameMode, SeekTarget, Timestamp, XattrMode};

/// Number of an inode in the model.
pub type Id = u64;
/// The root directory.
pub const ROOT: Id = 1;
/// Set-user-id and set-group-id bits.
pub const SET_ID: u32 = 0o6000;
/// Set-group-id: on a directory, children inherit its group.
const SET_GID: u32 = 0o2000;
const BLOCK: u64 = 4096;
static ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];
/// The attribute that dies with the set-id bits.
pub const CAPABILITY: &[u8] = b"security.capability";

/// What must happen: this answer, or one of these errors.
pub type Expect<T> = Result<T, Vec<Error>>;
/// One view: its inodes by number. Unreachable ones are files that are still open.
pub type Tree = BTreeMap<Id, Arc<Inode>>;

/// Bytes of a file: size and blocks that are not all zero.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Content {
    pub size: u64,
    blocks: BTreeMap<u64, Arc<Vec<u8>>>,
}

impl Content {
    /// Bytes from `offset`, at most `len`, less at the end.
    pub fn read(&self, offset: u64, len: u64) -> Vec<u8> {
        let len = len.min(self.size.saturating_sub(offset));
        let mut out = vec![0; len as usize];
        self.pieces(offset, len, |block, at, from, n| {
            if let Some(bytes) = self.blocks.get(&block) {
                out[at..at + n].copy_from_slice(&bytes[from..from + n]);
            }
        });
        out
    }

    /// Puts `data` at `offset`, extends.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        let mut blocks = std::mem::take(&mut self.blocks);
        self.pieces(offset, data.len() as u64, |block, at, from, n| {
            let data = &data[at..at + n];
            if data == &ZEROS[..n] && !blocks.contains_key(&block) {
                return;
            }
            let bytes = blocks.entry(block).or_insert_with(|| Arc::new(vec![0; BLOCK as usize]));
            Arc::make_mut(bytes)[from..from + n].copy_from_slice(data);
            if bytes[..] == ZEROS {
                blocks.remove(&block);
            }
        });
        self.blocks = blocks;
        self.size = self.size.max(offset + data.len() as u64);
    }

    /// Makes the range read as zeros where the file has bytes.
    fn zero(&mut self, offset: u64, len: u64) {
        let end = (offset + len).min(self.size);
        if end <= offset {
            return;
        }
        let touched: Vec<u64> =
            self.blocks.range(offset / BLOCK..end.div_ceil(BLOCK)).map(|(b, _)| *b).collect();
        for block in touched {
            let (from, to) = (offset.max(block * BLOCK), end.min((block + 1) * BLOCK));
            self.write(from, &vec![0; (to.saturating_sub(from)) as usize]);
        }
    }

    /// Cuts or extends.
    pub fn resize(&mut self, size: u64) {
        self.zero(size, self.size.saturating_sub(size));
        self.size = size;
    }

    /// First byte at or after `offset` that is not zero.
    pub fn next_nonzero(&self, offset: u64) -> Option<u64> {
        self.blocks.range(offset / BLOCK..).find_map(|(block, bytes)| {
            let start = block * BLOCK;
            (start.max(offset)..start + BLOCK).find(|at| bytes[(at - start) as usize] != 0)
        })
    }

    /// The first byte that differs, or the end of the shorter one.
    pub fn first_difference(&self, other: &Content) -> Option<u64> {
        let blocks = self.blocks.keys().chain(other.blocks.keys());
        let differ = blocks.filter(|b| self.blocks.get(b) != other.blocks.get(b)).min()? * BLOCK;
        let (a, b) = (self.read(differ, BLOCK), other.read(differ, BLOCK));
        let same = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
        Some(differ + same as u64)
    }

    /// Calls `f(block, position in range, position in block, length)` for each block that the range touches.
    fn pieces(&self, offset: u64, len: u64, mut f: impl FnMut(u64, usize, usize, usize)) {
        let mut at = 0;
        while at < len {
            let from = (offset + at) % BLOCK;
            let n = (BLOCK - from).min(len - at);
            f((offset + at) / BLOCK, at as usize, from as usize, n as usize);
            at += n;
        }
    }
}

/// What an inode holds.
#[derive(Clone, PartialEq, Eq)]
pub enum Body {
    File(Content),
    Dir(BTreeMap<Vec<u8>, Id>),
    Link(Vec<u8>),
    Special(FileType, u32),
}

/// One inode.
#[derive(Clone)]
pub struct Inode {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Names of anything but a directory.
    pub links: u32,
    /// Known only after it was set to a given time.
    pub mtime: Option<Timestamp>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub body: Body,
}

impl Inode {
    pub fn kind(&self) -> FileType {
        match &self.body {
            Body::File(_) => FileType::Regular,
            Body::Dir(_) => FileType::Directory,
            Body::Link(_) => FileType::Symlink,
            Body::Special(kind, _) => *kind,
        }
    }
    pub fn is_dir(&self) -> bool {
        matches!(self.body, Body::Dir(_))
    }
    /// What a write, a cut or a change of owner by an ordinary user takes away.
    fn clear_set_id(&mut self) {
        self.mode &= !SET_ID;
        self.xattrs.remove(CAPABILITY);
    }
}

/// A snapshot: `id` grows with every creation.
#[derive(Clone)]
pub struct Snapshot {
    pub id: u64,
    pub tree: Arc<Tree>,
    /// The snapshots below it, of its line or another, those that are gone included.
    pub past: Vec<u64>,
    pub why: Why,
    /// The tags of its holds.
    pub held: BTreeSet<&'static str>,
}

/// What a snapshot was taken for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// Somebody asked for it.
    Asked,
    /// Taken by the system before its line became what another snapshot is.
    Switch,
    /// Before its line was changed at once. A merge has brought a line together with another: the number of its base.
    Change(Option<u64>),
    /// After that.
    Changed,
}

/// What a line is compared with.
#[derive(Clone)]
pub struct Base {
    pub number: u64,
    pub tree: Arc<Tree>,
    /// The number of what it was compared with before.
    pub before: Option<u64>,
    /// None of what the line began as.
    pub brought: Option<Brought>,
}

/// How a line was brought together with the one that it is compared with.
#[derive(Clone, Copy)]
pub struct Brought {
    /// Snapshots up to this number have not got what was brought over.
    pub until: u64,
    /// The line was merged, not rebased.
    pub by_merge: bool,
}

/// A line: a tree that can be written, and the snapshots that were made of it.
#[derive(Clone)]
pub struct Line {
    /// Empty for the main line alone.
    pub name: Vec<u8>,
    pub live: Tree,
    /// Its own.
    pub snapshots: BTreeMap<Vec<u8>, Snapshot>,
    /// The snapshots below its tree, those that are gone included.
    pub past: Vec<u64>,
    /// The same as it was made: of these it shows what is left.
    pub inherited: Vec<u64>,
    /// The line that it was made from.
    pub from: Option<u64>,
    /// None after what was brought together was parted.
    pub base: Option<Base>,
    /// It is in the trash: out of sight, but for its snapshots in lines that were made of them.
    pub is_trashed: bool,
}

/// `Err` with every error whose condition holds, else `Ok`: which one is reported first is the system's choice.
pub fn refuse_if(conditions: &[(bool, Error)]) -> Expect<()> {
    let errors: Vec<Error> = conditions.iter().filter(|(c, _)| *c).map(|(_, e)| e.clone()).collect();
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

pub fn no<T>(error: Error) -> Expect<T> {
    Err(vec![error])
}

pub fn is_long(name: &[u8]) -> bool {
    name.len() > 255
}

/// Number of names of an inode as `stat` shows it: a directory has its own, `.` and one `..` of each subdirectory.
pub fn nlink(tree: &Tree, id: Id) -> u32 {
    match &tree[&id].body {
        Body::Dir(entries) => 2 + entries.values().filter(|e| tree[*e].is_dir()).count() as u32,
        _ => tree[&id].links,
    }
}

/// Every path of a view with its inode, sorted.
pub fn paths(tree: &Tree) -> BTreeMap<Vec<u8>, Id> {
    let mut found = BTreeMap::from([(Vec::new(), ROOT)]);
    let mut todo = vec![(Vec::new(), ROOT)];
    while let Some((path, id)) = todo.pop() {
        let Body::Dir(entries) = &tree[&id].body else { continue };
        for (name, child) in entries {
            let path = [&path[..], b"/", name].concat();
            todo.push((path.clone(), *child));
            found.insert(path, *child);
        }
    }
    found
}

impl Line {
    /// An empty line whose root has these attributes.
    pub fn new(mode: u32, uid: u32, gid: u32) -> Line {
        let body = Body::Dir(BTreeMap::new());
        let root = Inode { mode, uid, gid, links: 1, mtime: None, xattrs: BTreeMap::new(), body };
        Line {
            name: Vec::new(),
            live: Tree::from([(ROOT, Arc::new(root))]),
            snapshots: BTreeMap::new(),
            past: Vec::new(),
            inherited: Vec::new(),
            from: None,
            base: None,
            is_trashed: false,
        }
    }

    /// Whether a snapshot of its own is held.
    pub fn is_held(&self) -> bool {
        self.snapshots.values().any(|snapshot| !snapshot.held.is_empty())
    }

    /// To change an inode.
    fn node(&mut self, id: Id) -> &mut Inode {
        Arc::make_mut(self.live.get_mut(&id).expect("the runner names only inodes that exist"))
    }
    fn entries(&self, dir: Id) -> Expect<&BTreeMap<Vec<u8>, Id>> {
        match &self.live[&dir].body {
            Body::Dir(entries) => Ok(entries),
            _ => no(Error::NotADirectory),
        }
    }
    /// Changes the names of a directory, which changes its time.
    fn edit(&mut self, dir: Id) -> &mut BTreeMap<Vec<u8>, Id> {
        let node = self.node(dir);
        node.mtime = None;
        let Body::Dir(entries) = &mut node.body else { panic!("checked by entries()") };
        entries
    }
    pub fn content(&self, id: Id) -> &Content {
        let Body::File(content) = &self.live[&id].body else { panic!("the runner opens only files") };
        content
    }
    fn content_mut(&mut self, id: Id) -> &mut Content {
        let node = self.node(id);
        node.mtime = None;
        let Body::File(content) = &mut node.body else { panic!("the runner opens only files") };
        content
    }
    /// Files without names that `open` does not hold.
    pub fn orphans(&self, open: impl Fn(Id) -> bool) -> Vec<Id> {
        self.live.iter().filter(|(id, n)| n.links == 0 && !open(**id)).map(|(id, _)| *id).collect()
    }

    pub fn lookup(&self, dir: Id, name: &[u8]) -> Expect<Id> {
        let found = self.entries(dir)?.get(name).copied();
        let too_long = refuse_if(&[(is_long(name), Error::NameTooLong), (true, Error::NotFound)]);
        found.ok_or_else(|| too_long.expect_err("it is missing"))
    }

    /// mkdir, mknod, symlink and create: an inode with the number `id`.
    pub fn make_as(
        &mut self,
        id: Id,
        caller: &Caller,
        dir: Id,
        name: &[u8],
        mode: u32,
        body: Body,
    ) -> Expect<()> {
        refuse_if(&[
            (is_long(name), Error::NameTooLong),
            (self.entries(dir)?.contains_key(name), Error::Exists),
        ])?;
        let parent = &self.live[&dir];
        let inherits = parent.mode & SET_GID != 0;
        let gid = if inherits { parent.gid } else { caller.gid };
        let mode = if inherits && matches!(body, Body::Dir(_)) { mode | SET_GID } else { mode };
        let inode =
            Inode { mode, uid: caller.uid, gid, links: 1, mtime: None, xattrs: BTreeMap::new(), body };
        self.live.insert(id, Arc::new(inode));
        self.edit(dir).insert(name.to_vec(), id);
        Ok(())
    }

    pub fn unlink(&mut self, dir: Id, name: &[u8]) -> Expect<()> {
        let id = self.lookup(dir, name)?;
        refuse_if(&[(self.live[&id].is_dir(), Error::IsADirectory)])?;
        self.edit(dir).remove(name);
        self.node(id).links -= 1;
        Ok(())
    }

    pub fn rmdir(&mut self, dir: Id, name: &[u8]) -> Expect<()> {
        let id = self.lookup(dir, name)?;
        refuse_if(&[(!self.entries(id)?.is_empty(), Error::NotEmpty)])?;
        self.edit(dir).remove(name);
        self.node(id).links = 0;
        Ok(())
    }

    pub fn link(&mut self, id: Id, dir: Id, name: &[u8]) -> Expect<()> {
        refuse_if(&[
            (is_long(name), Error::NameTooLong),
            (self.live[&id].is_dir(), Error::NotPermitted),
            (self.live[&id].links == 0, Error::NotFound),
            (self.entries(dir)?.contains_key(name), Error::Exists),
        ])?;
        self.edit(dir).insert(name.to_vec(), id);
        self.node(id).links += 1;
        Ok(())
    }

    pub fn rename(&mut self, dir: Id, name: &[u8], to: Id, to_name: &[u8], mode: RenameMode) -> Expect<()> {
        let found = self.lookup(dir, name);
        let missing =
            [(is_long(name) || is_long(to_name), Error::NameTooLong), (found.is_err(), Error::NotFound)];
        refuse_if(&missing)?;
        let source = found?;
        let target = self.entries(to)?.get(to_name).copied();
        let is_dir = |id: Id| self.live[&id].is_dir();
        refuse_if(&[
            (mode == RenameMode::NoReplace && target.is_some(), Error::Exists),
            (mode == RenameMode::Exchange && target.is_none(), Error::NotFound),
            (is_dir(source) && self.is_inside(to, source), Error::Invalid),
            (mode == RenameMode::Exchange && target.is_some_and(|t| self.is_inside(dir, t)), Error::Invalid),
        ])?;
        let Some(target) = target else {
            self.edit(dir).remove(name);
            self.edit(to).insert(to_name.to_vec(), source);
            return Ok(());
        };
        if target == source {
            return Ok(());
        }
        if mode == RenameMode::Exchange {
            self.edit(dir).insert(name.to_vec(), target);
            self.edit(to).insert(to_name.to_vec(), source);
            return Ok(());
        }
        refuse_if(&[
            (is_dir(source) && !is_dir(target), Error::NotADirectory),
            (!is_dir(source) && is_dir(target), Error::IsADirectory),
            (is_dir(target) && !self.entries(target).is_ok_and(BTreeMap::is_empty), Error::NotEmpty),
        ])?;
        let left = if is_dir(target) { 0 } else { self.live[&target].links - 1 };
        self.node(target).links = left;
        self.edit(dir).remove(name);
        self.edit(to).insert(to_name.to_vec(), source);
        Ok(())
    }

    /// Is `id` the directory `ancestor` or somewhere under it?
    fn is_inside(&self, id: Id, ancestor: Id) -> bool {
        let Body::Dir(entries) = &self.live[&ancestor].body else { return false };
        id == ancestor || entries.values().any(|child| self.is_inside(id, *child))
    }

    pub fn readlink(&self, id: Id) -> Expect<Vec<u8>> {
        match &self.live[&id].body {
            Body::Link(target) => Ok(target.clone()),
            _ => Err(vec![Error::NotASymlink, Error::Invalid]),
        }
    }

    /// By a caller without privileges.
    pub fn truncate(&mut self, id: Id, size: u64) -> Expect<()> {
        match &self.live[&id].body {
            Body::File(_) => {}
            Body::Dir(_) => return Err(vec![Error::IsADirectory, Error::Invalid]),
            _ => return Err(vec![Error::Invalid, Error::NotSupported]),
        }
        self.content_mut(id).resize(size);
        self.node(id).clear_set_id();
        Ok(())
    }
    pub fn chmod(&mut self, id: Id, mode: u32) {
        self.node(id).mode = mode;
    }
    pub fn chown(&mut self, id: Id, uid: Option<u32>, gid: Option<u32>) {
        let node = self.node(id);
        node.uid = uid.unwrap_or(node.uid);
        node.gid = gid.unwrap_or(node.gid);
        if matches!(node.body, Body::File(_)) {
            node.clear_set_id();
        }
    }
    pub fn set_mtime(&mut self, id: Id, mtime: Option<Timestamp>) {
        self.node(id).mtime = mtime;
    }

    pub fn write(&mut self, id: Id, offset: u64, data: &[u8], kill_set_id: bool) -> Expect<()> {
        let beyond = offset.checked_add(data.len() as u64).is_none_or(|end| end > i64::MAX as u64);
        if beyond {
            return Err(vec![Error::FileTooBig, Error::Invalid]);
        }
        self.content_mut(id).write(offset, data);
        if kill_set_id {
            self.node(id).clear_set_id();
        }
        Ok(())
    }

    /// By a caller without privileges.
    pub fn fallocate(&mut self, id: Id, offset: u64, len: u64, mode: AllocateMode) -> Expect<()> {
        refuse_if(&[(len == 0, Error::Invalid)])?;
        let content = self.content_mut(id);
        if !matches!(mode, AllocateMode::Extend | AllocateMode::KeepSize) {
            content.zero(offset, len);
        }
        if matches!(mode, AllocateMode::Extend | AllocateMode::ZeroRange) {
            content.resize(content.size.max(offset + len));
        }
        self.node(id).clear_set_id();
        Ok(())
    }

    /// Is this a right answer to a seek? A hole need not be reported, data must not be skipped.
    pub fn seek_is_right(&self, id: Id, offset: u64, to: SeekTarget, answer: &Result<u64, Error>) -> bool {
        let content = self.content(id);
        let data = content.next_nonzero(offset);
        match (answer, to) {
            (Err(Error::NoSuchOffset), SeekTarget::Data) => data.is_none(),
            (Err(Error::NoSuchOffset), SeekTarget::Hole) => offset >= content.size,
            (Ok(at), SeekTarget::Data) => {
                offset <= *at && *at < content.size && data.is_none_or(|d| *at <= d)
            }
            (Ok(at), SeekTarget::Hole) => {
                offset < content.size
                    && offset <= *at
                    && *at <= content.size
                    && content.next_nonzero(*at) != Some(*at)
            }
            _ => false,
        }
    }

    pub fn set_xattr(&mut self, id: Id, name: &[u8], value: &[u8], mode: XattrMode) -> Expect<()> {
        let there = self.live[&id].xattrs.contains_key(name);
        refuse_if(&[
            (mode == XattrMode::Create && there, Error::Exists),
            (mode == XattrMode::Replace && !there, Error::NoAttribute),
        ])?;
        self.node(id).xattrs.insert(name.to_vec(), value.to_vec());
        Ok(())
    }
    pub fn get_xattr(&self, id: Id, name: &[u8]) -> Expect<Vec<u8>> {
        self.live[&id].xattrs.get(name).cloned().ok_or_else(|| vec![Error::NoAttribute])
    }
    pub fn remove_xattr(&mut self, id: Id, name: &[u8]) -> Expect<()> {
        self.node(id).xattrs.remove(name).map(drop).ok_or_else(|| vec![Error::NoAttribute])
    }
}
