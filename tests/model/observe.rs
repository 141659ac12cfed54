//! Reads whole views through `Operations` and compares them with the model.
//!
//! Every view is walked by every way that a reader has (readdir in pieces, plain and with attributes, lookup, getattr,
//! readlink, read, lseek, xattrs), which must agree among themselves. Not compared: times that nobody set, allocated
//! blocks, sizes of directories.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;

use snapfs::ops::{
    Attr, Caller, DirEntry, Error, FileType, Handle, NodeId, OpenFlags, Operations, SeekTarget, Timestamp,
};

use snapfs::format::ViewId;
use snapfs::format::trash::Trashed;
use snapfs::fs::Fs;

use crate::lines::{LineKey, MAIN, Model};
use crate::past::{CLONEDIR, line_root, root_of, snapdir_of};
use crate::reference::{self, Body, Content, Id, Line, Tree};
use crate::trash;

/// Root, without a process.
pub const ADMIN: Caller = Caller { uid: 0, gid: 0, pid: 0, umask: 0 };
/// The directory of all snapshots.
pub fn snapdir() -> NodeId {
    NodeId::snapdir(0, NodeId::ROOT.ino())
}
/// To open for reading.
pub const READ: OpenFlags = OpenFlags::READ_ONLY;

/// Files up to this size are read whole; of larger ones, what `lseek` calls data.
const WHOLE_MAX: u64 = 1 << 20;
/// Up to here reads are of any length, and not of whole blocks.
const ODD_MAX: u64 = 64 << 10;
/// More data than any history writes: a larger answer is a failure.
const DATA_MAX: u64 = 64 << 20;

/// One node as a reader sees it.
pub struct Seen {
    attr: Attr,
    body: Body,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}
/// One view by path.
pub type View = BTreeMap<Vec<u8>, Seen>;

/// A snapshot as it is listed: name, view number, content.
pub type SeenSnapshot = (Vec<u8>, u32, View);

/// A line beside the main line.
pub struct SeenLine {
    pub name: Vec<u8>,
    root: NodeId,
    pub live: View,
    /// What it is compared with.
    base: Option<ViewId>,
    /// Its own, in the order of the listing.
    pub snapshots: Vec<SeenSnapshot>,
    /// Names of all that it shows, in that order.
    shown: Vec<Vec<u8>>,
}

/// Everything that can be seen.
pub struct Observation {
    /// The main line.
    pub live: View,
    /// In the order of the listing.
    pub snapshots: Vec<SeenSnapshot>,
    /// All other lines, in the order in which they were made.
    pub lines: Vec<SeenLine>,
    /// What was deleted and can come back, and holds; none if there are no lines.
    pub kept: Option<Kept>,
}

/// What is in the trash, and what holds keep from it.
#[derive(PartialEq, Eq, Debug)]
pub struct Kept {
    is_kept: bool,
    /// Names, and whether each is of a line.
    trash: Vec<(String, bool)>,
    /// Names of lines and snapshots, and tags.
    holds: BTreeSet<(String, String, String)>,
}

impl Kept {
    fn seen(fs: &Fs) -> Result<Kept, String> {
        let is_line = |what| matches!(what, Trashed::Line(..));
        let trash = fs.volume().trash().into_iter().map(|t| (text(&t.name), is_line(t.what))).collect();
        let mut holds = BTreeSet::new();
        for hold in fs.volume().holds() {
            let of = fs.volume().snapshot_info(hold.view).ok_or("a hold of no snapshot")?;
            let line = fs.volume().line(of.line).map_err(|e| format!("the line of a hold: {e:?}"))?;
            holds.insert((text(&line.name), text(&of.name), hold.tag));
        }
        Ok(Kept { is_kept: fs.trash_secs().is_some(), trash, holds })
    }

    fn of(model: &Model) -> Kept {
        let is_line = |what: &trash::Trashed| matches!(what, trash::Trashed::Line(_));
        let trash = model.trash().iter().map(|t| (text(&t.name), is_line(&t.what))).collect();
        let snapshots = model.lines().flat_map(|(_, line)| line.snapshots.iter().map(move |s| (line, s)));
        let holds = snapshots.flat_map(|(line, (name, s))| {
            s.held.iter().map(|tag| (text(&line.name), text(name), (*tag).to_string()))
        });
        Kept { is_kept: model.keeps_trash, trash, holds: holds.collect() }
    }
}

/// What the runner knows besides the model: real numbers of model inodes, views of snapshots, and roots of lines.
#[derive(Clone, Default)]
pub struct Numbers {
    pub inodes: HashMap<Id, u64>,
    pub views: HashMap<u64, u32>,
    pub lines: HashMap<LineKey, NodeId>,
    /// What lines are compared with, by the numbers of the model.
    pub bases: HashMap<u64, ViewId>,
}

impl Numbers {
    /// The root of a line.
    pub fn root(&self, line: LineKey) -> NodeId {
        if line == MAIN { NodeId::ROOT } else { self.lines[&line] }
    }

    /// An inode of a line.
    pub fn node(&self, line: LineKey, id: Id) -> NodeId {
        self.root(line).sibling(self.inodes[&id])
    }
}

fn text(name: &[u8]) -> String {
    let name = name.escape_ascii().to_string();
    if name.len() > 40 { format!("{}...({} bytes)", &name[..20], name.len()) } else { name }
}

fn ensure(condition: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(what()) }
}

fn same<T: PartialEq + Debug>(what: &str, real: T, expected: T) -> Result<(), String> {
    ensure(real == expected, || format!("{what} is {real:?}, expected {expected:?}"))
}

/// Reads live tree and snapshots; of a file system that has lines, all of them.
pub fn observe(ops: &dyn Operations, fs: Option<&Fs>) -> Result<Observation, String> {
    let live = view(ops, NodeId::ROOT).map_err(|e| format!("live: {e}"))?;
    let mut snapshots = Vec::new();
    for name in list(ops, snapdir(), false, usize::MAX)?.into_iter().map(|e| e.name) {
        let in_snapshot = |e| format!("snapshot {}: {e}", text(&name));
        let entry =
            ops.lookup(&ADMIN, snapdir(), &name).map_err(|e| in_snapshot(format!("lookup: {e:?}")))?;
        let root = entry.attr.node;
        ensure(!root.is_live() && !root.is_snapdir() && root.ino() == NodeId::ROOT.ino(), || {
            in_snapshot(format!("its root is {root:?}"))
        })?;
        let view = view(ops, root).map_err(in_snapshot)?;
        snapshots.push((name, root.tree(), view));
    }
    let lines = fs.map_or(Ok(Vec::new()), lines)?;
    let kept = fs.map(Kept::seen).transpose()?;
    Ok(Observation { live, snapshots, lines, kept })
}

/// Reads all lines but the main line.
fn lines(fs: &Fs) -> Result<Vec<SeenLine>, String> {
    let mut seen = Vec::new();
    let listed = list(fs, CLONEDIR, true, 2)?.into_iter().map(|e| (e.name, e.node));
    let known = fs.volume().lines().into_iter().skip(1).map(|line| (line.name.clone(), line_root(&line)));
    same("list of .clones", listed.collect::<Vec<_>>(), known.collect())?;
    for line in fs.volume().lines().into_iter().skip(1) {
        let here = |e| format!("line {}: {e}", text(&line.name));
        let root = line_root(&line);
        let live = view(fs, root).map_err(|e| here(format!("live: {e}")))?;
        let listed = fs.volume().snapshots(line.id);
        let shown = list(fs, snapdir_of(root), true, 2).map_err(here)?;
        let known = listed.iter().map(|s| (s.name.clone(), root_of(s))).collect::<Vec<_>>();
        same("list of .snapshots", shown.iter().map(|e| (e.name.clone(), e.node)).collect(), known)
            .map_err(here)?;
        let shown = shown.into_iter().map(|e| e.name).collect();
        let mut snapshots = Vec::new();
        for info in listed {
            let in_snapshot = |e| here(format!("snapshot {}: {e}", text(&info.name)));
            let found = fs.volume().find_snapshot(line.id, &info.name).map(|found| found.id);
            same("what has its name", found, Some(info.id)).map_err(in_snapshot)?;
            if info.line == line.id {
                let root = root_of(&info);
                snapshots.push((info.name.clone(), root.tree(), view(fs, root).map_err(in_snapshot)?));
            }
        }
        let (name, base) = (line.name.clone(), line.base);
        seen.push(SeenLine { name, root, live, base, snapshots, shown });
    }
    Ok(seen)
}

/// Reads one view whole.
pub fn view(ops: &dyn Operations, root: NodeId) -> Result<View, String> {
    let mut found = View::new();
    let mut todo = vec![(Vec::new(), root)];
    while let Some((path, node)) = todo.pop() {
        let at = |e| format!("/{}: {e}", text(path.strip_prefix(b"/").unwrap_or_default()));
        let (seen, entries) = look(ops, node).map_err(at)?;
        for entry in entries {
            todo.push(([&path[..], b"/", &entry.name].concat(), entry.node));
        }
        found.insert(path, seen);
    }
    Ok(found)
}

fn look(ops: &dyn Operations, node: NodeId) -> Result<(Seen, Vec<DirEntry>), String> {
    let (attr, _) = ops.getattr(node, None).map_err(|e| format!("getattr: {e:?}"))?;
    same("node", attr.node, node)?;
    let mut entries = Vec::new();
    let body = match attr.kind {
        FileType::Regular => Body::File(content(ops, node, attr.size)?),
        FileType::Symlink => Body::Link(ops.readlink(node).map_err(|e| format!("readlink: {e:?}"))?),
        FileType::Directory => {
            entries = directory(ops, node)?;
            Body::Dir(BTreeMap::new())
        }
        kind => Body::Special(kind, attr.rdev),
    };
    let names = ops.listxattr(node).map_err(|e| format!("listxattr: {e:?}"))?;
    ensure(names.is_empty() || names.ends_with(&[0]), || "listxattr: no zero at the end".into())?;
    let mut xattrs = BTreeMap::new();
    for name in names.split(|b| *b == 0).filter(|n| !n.is_empty()) {
        let value = ops.getxattr(node, name).map_err(|e| format!("getxattr {}: {e:?}", text(name)))?;
        ensure(xattrs.insert(name.to_vec(), value).is_none(), || {
            format!("xattr {} listed twice", text(name))
        })?;
    }
    Ok((Seen { attr, body, xattrs }, entries))
}

/// Lists a directory in two ways, which must agree, and looks every name up.
fn directory(ops: &dyn Operations, node: NodeId) -> Result<Vec<DirEntry>, String> {
    let plain = list(ops, node, false, usize::MAX)?;
    let plus = list(ops, node, true, 3)?;
    let key = |e: &DirEntry| (e.name.clone(), e.node, e.kind, e.cookie);
    same(
        "listing with attributes",
        plus.iter().map(key).collect::<Vec<_>>(),
        plain.iter().map(key).collect(),
    )?;
    for listed in &plus {
        let at = |e| format!("entry {}: {e}", text(&listed.name));
        let found = ops.lookup(&ADMIN, node, &listed.name).map_err(|e| at(format!("lookup: {e:?}")))?.attr;
        let inside = listed.entry.ok_or_else(|| at("no attributes".into()))?.attr;
        same("attributes in the listing", no_atime(inside), no_atime(found)).map_err(at)?;
        let (own, _) = ops.getattr(found.node, None).map_err(|e| at(format!("getattr: {e:?}")))?;
        same("attributes by lookup", no_atime(found), no_atime(own)).map_err(at)?;
        same("node", (listed.node, listed.kind), (found.node, found.kind)).map_err(at)?;
        same("view", found.node.tree(), node.tree()).map_err(at)?;
    }
    Ok(plain)
}

fn no_atime(attr: Attr) -> Attr {
    Attr { atime: Timestamp { secs: 0, nanos: 0 }, ..attr }
}

/// Lists a directory, `piece` entries a call; `.` and `..` are checked and left out.
pub fn list(ops: &dyn Operations, node: NodeId, plus: bool, piece: usize) -> Result<Vec<DirEntry>, String> {
    let handle = ops.opendir(&ADMIN, node).map_err(|e| format!("opendir: {e:?}"))?;
    let mut all: Vec<DirEntry> = Vec::new();
    loop {
        let mut taken = 0;
        let after = all.last().map_or(0, |e| e.cookie);
        ops.readdir(node, handle, after, plus, &mut |entry| {
            let take = taken < piece;
            if take {
                taken += 1;
                all.push(entry.clone());
            }
            take
        })
        .map_err(|e| format!("readdir: {e:?}"))?;
        if taken < piece {
            break;
        }
    }
    ops.releasedir(node, handle);
    let mut before = 0;
    for entry in &all {
        ensure(entry.cookie > before, || format!("cookie {} after {before}", entry.cookie))?;
        before = entry.cookie;
    }
    let dots: Vec<&[u8]> = all.iter().take(2).map(|e| &e.name[..]).collect();
    same("start of the listing", dots, vec![&b"."[..], b".."])?;
    same("node of .", all[0].node, node)?;
    Ok(all.split_off(2))
}

fn content(ops: &dyn Operations, node: NodeId, size: u64) -> Result<Content, String> {
    let handle = ops.open(&ADMIN, node, READ).map_err(|e| format!("open: {e:?}"))?;
    let mut content = Content::default();
    content.resize(size);
    let read = if size <= WHOLE_MAX {
        read_into(ops, node, handle, 0, &mut content).map(drop)
    } else {
        read_sparse(ops, node, handle, &mut content)
    };
    ops.release(node, handle);
    read.map(|()| content)
}

/// Reads up to 1 MiB at `offset`; returns where it ended.
fn read_into(
    ops: &dyn Operations,
    node: NodeId,
    handle: Handle,
    offset: u64,
    content: &mut Content,
) -> Result<u64, String> {
    // One byte more than there are; of much, whole blocks, which are not copied on their way.
    let more = (content.size - offset).min(WHOLE_MAX) + 1;
    let asked = if more < ODD_MAX { more } else { more.next_multiple_of(4096) };
    let mut out = vec![7; asked as usize];
    let read = ops.read(node, handle, offset, &mut out).map_err(|e| format!("read at {offset}: {e:?}"))?;
    out.truncate(read);
    let expected = (content.size - offset).min(asked) as usize;
    same(&format!("bytes read at {offset}"), out.len(), expected)?;
    content.write(offset, &out);
    Ok(offset + out.len() as u64)
}

fn read_sparse(
    ops: &dyn Operations,
    node: NodeId,
    handle: Handle,
    content: &mut Content,
) -> Result<(), String> {
    let (mut at, mut total) = (0, 0);
    while at < content.size {
        let data = match ops.lseek(node, handle, at, SeekTarget::Data) {
            Ok(data) if data >= at && data < content.size => data,
            Err(Error::NoSuchOffset) => break,
            other => return Err(format!("lseek to data from {at}: {other:?}")),
        };
        at = read_into(ops, node, handle, data, content)?;
        total += at - data;
        ensure(total <= DATA_MAX, || {
            format!("more than {DATA_MAX} bytes of data in a file of {}", content.size)
        })?;
    }
    Ok(())
}

impl Observation {
    /// Names of the snapshots of a line's own, oldest first.
    pub fn names_of_snapshots(&self, line: &[u8]) -> Vec<Vec<u8>> {
        let other = self.lines.iter().find(|other| other.name == line).map(|other| &other.snapshots);
        let snapshots = if line.is_empty() { Some(&self.snapshots) } else { other };
        snapshots.into_iter().flatten().map(|(name, ..)| name.clone()).collect()
    }

    /// Learns the numbers of what an interrupted operation made: nobody has been told them. The model must fit.
    pub fn teach(&self, model: &Model, numbers: &mut Numbers) {
        let main = (MAIN, model.main(), &self.live, &self.snapshots);
        let others = model.lines().skip(1).zip(&self.lines).map(|((key, line), seen)| {
            numbers.lines.entry(key).or_insert(seen.root);
            if let (Some(base), Some(real)) = (&line.base, seen.base) {
                numbers.bases.entry(base.number).or_insert(real);
            }
            (key, line, &seen.live, &seen.snapshots)
        });
        for (_, line, live, snapshots) in [main].into_iter().chain(others) {
            for (path, id) in reference::paths(&line.live) {
                numbers.inodes.entry(id).or_insert(live[&path].attr.node.ino());
            }
            for (name, view, _) in snapshots {
                numbers.views.entry(line.snapshots[name].id).or_insert(*view);
            }
        }
    }
}

/// The first difference between what is seen and a model, if any.
pub fn compare(seen: &Observation, model: &Model, numbers: &Numbers) -> Result<(), String> {
    compare_heads(seen, model, numbers)?;
    if let Some(kept) = &seen.kept {
        same("what is kept", kept, &Kept::of(model))?;
    }
    compare_snapshots(&seen.snapshots, model.main(), numbers)?;
    for ((key, line), seen) in model.lines().skip(1).zip(&seen.lines) {
        let at = |e| format!("line {}: {e}", text(&line.name));
        let shown = model.shown(key).into_iter().map(|(name, _)| text(name)).collect::<Vec<_>>();
        same("snapshots that it shows", seen.shown.iter().map(|n| text(n)).collect::<Vec<_>>(), shown)
            .map_err(at)?;
        compare_snapshots(&seen.snapshots, line, numbers).map_err(at)?;
    }
    Ok(())
}

/// Compares the live trees of all lines.
pub fn compare_heads(seen: &Observation, model: &Model, numbers: &Numbers) -> Result<(), String> {
    compare_view(&seen.live, &model.main().live, numbers).map_err(|e| format!("live{e}"))?;
    let expected = model.lines().skip(1);
    let names = |names: Vec<&Vec<u8>>| names.into_iter().map(|n| text(n)).collect::<Vec<_>>();
    let real = names(seen.lines.iter().map(|line| &line.name).collect());
    same("list of lines", real, names(expected.clone().map(|(_, line)| &line.name).collect()))?;
    for (seen, (key, line)) in seen.lines.iter().zip(expected) {
        let at = |e| format!("line {}{e}", text(&line.name));
        if let Some(known) = numbers.lines.get(&key) {
            same(": root", seen.root, *known).map_err(at)?;
        }
        compare_view(&seen.live, &line.live, numbers).map_err(at)?;
        let known = line.base.as_ref().map(|base| (numbers.bases.get(&base.number), base.before));
        match (seen.base, known) {
            (real, None) => same(": base", real, None),
            (real, Some((Some(known), _))) => same(": base", real, Some(*known)),
            // Nobody has been told: it is another than before.
            (real, Some((None, before))) => {
                let old = before.and_then(|before| numbers.bases.get(&before)).copied();
                ensure(real.is_some() && real != old, || format!(": base is {real:?}"))
            }
        }
        .map_err(at)?;
    }
    Ok(())
}

fn compare_snapshots(seen: &[SeenSnapshot], line: &Line, numbers: &Numbers) -> Result<(), String> {
    let mut expected: Vec<_> = line.snapshots.iter().collect();
    expected.sort_by_key(|(_, s)| s.id);
    let names = |all: Vec<&Vec<u8>>| all.iter().map(|n| text(n)).collect::<Vec<_>>();
    let real = names(seen.iter().map(|(n, ..)| n).collect());
    same("list of snapshots", real, names(expected.iter().map(|(n, _)| *n).collect()))?;
    for ((name, number, view), (_, snapshot)) in seen.iter().zip(expected) {
        let at = |e| format!("snapshot {}{e}", text(name));
        if let Some(known) = numbers.views.get(&snapshot.id) {
            same(": view number", number, known).map_err(at)?;
        }
        compare_view(view, &snapshot.tree, numbers).map_err(at)?;
    }
    Ok(())
}

/// Compares one view.
pub fn compare_view(seen: &View, tree: &Tree, numbers: &Numbers) -> Result<(), String> {
    let expected = reference::paths(tree);
    let missing = expected.keys().find(|path| !seen.contains_key(*path));
    let surplus = seen.keys().find(|path| !expected.contains_key(*path));
    ensure(missing.is_none(), || format!("{} is missing", text(missing.expect("checked"))))?;
    ensure(surplus.is_none(), || format!("{} should not be there", text(surplus.expect("checked"))))?;
    for (path, id) in expected {
        compare_node(&seen[&path], tree, id, numbers).map_err(|e| format!("{}: {e}", text(&path)))?;
    }
    Ok(())
}

/// Compares attributes alone.
pub fn compare_attr(attr: &Attr, tree: &Tree, id: Id, numbers: &Numbers) -> Result<(), String> {
    let inode = &tree[&id];
    if let Some(known) = numbers.inodes.get(&id) {
        same("inode", attr.node.ino(), *known)?;
    }
    same("kind", attr.kind, inode.kind())?;
    same("mode", format!("{:o}", attr.mode), format!("{:o}", inode.mode))?;
    same("owner", (attr.uid, attr.gid), (inode.uid, inode.gid))?;
    same("nlink", attr.nlink, reference::nlink(tree, id))?;
    if let Some(mtime) = inode.mtime {
        same("mtime", attr.mtime, mtime)?;
    }
    match &inode.body {
        Body::File(content) => same("size", attr.size, content.size),
        Body::Link(target) => same("size", attr.size, target.len() as u64),
        Body::Special(_, rdev) => same("rdev", attr.rdev, *rdev),
        Body::Dir(_) => Ok(()),
    }
}

fn compare_node(seen: &Seen, tree: &Tree, id: Id, numbers: &Numbers) -> Result<(), String> {
    compare_attr(&seen.attr, tree, id, numbers)?;
    let inode = &tree[&id];
    match (&seen.body, &inode.body) {
        (Body::File(real), Body::File(expected)) => {
            if let Some(at) = real.first_difference(expected) {
                let (a, b) = (real.read(at, 16), expected.read(at, 16));
                return Err(format!("content at byte {at} of {} is {a:?}, expected {b:?}", expected.size));
            }
        }
        (Body::Link(real), Body::Link(expected)) => same("target", text(real), text(expected))?,
        _ => {}
    }
    let names = |all: &BTreeMap<Vec<u8>, Vec<u8>>| all.keys().map(|n| text(n)).collect::<Vec<_>>();
    same("list of xattrs", names(&seen.xattrs), names(&inode.xattrs))?;
    let wrong = inode.xattrs.iter().find(|(name, value)| seen.xattrs[*name] != **value);
    ensure(wrong.is_none(), || format!("xattr {} differs", text(wrong.expect("checked").0)))
}
