//! What each operation of a history does to the system and to the model.
//!
//! Callers: whoever creates is drawn; modes and owners are changed by root, bytes and attributes by an ordinary user,
//! so that the rules for set-id bits are the same whoever enforces them.

use std::collections::BTreeSet;

use snapfs::ops::{
    Caller, Error, FileType, Handle, NodeId, OpenFlags, SetAttr, SetTime, SyncScope, Timestamp, XattrMode,
};

use crate::generate::{Access, Op, Pick, Poke, SnapdirPoke};
use crate::lines::MAIN;
use crate::observe::{ADMIN, snapdir};
use crate::past;
use crate::reference::{self, Body, CAPABILITY, Content, Id, SET_ID};
use crate::run::{Borrowed, RollBack, Runner, Shorter, Step, flags, new_name, new_snapshot_name, only};

pub(crate) const USER: Caller = Caller { uid: 1000, gid: 100, pid: 1, umask: 0 };
const WRITE: OpenFlags = OpenFlags::READ_WRITE;

fn caller(uid: u32) -> Caller {
    Caller { uid, gid: uid / 10, pid: 7, umask: 0 }
}

fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut data = vec![0; len];
    match seed % 8 {
        0 => {}
        1 => data.fill(seed as u8 | 1),
        2 => data.iter_mut().enumerate().for_each(|(i, b)| *b = ((i / 4096) % 3) as u8),
        3 | 4 => data.iter_mut().enumerate().for_each(|(i, b)| *b = if i % 4 == 0 { rng.u8(..) } else { 9 }),
        _ => rng.fill(&mut data),
    }
    data
}

fn xattr_name(pick: Pick) -> &'static [u8] {
    let names: [&[u8]; 5] =
        [b"user.a", b"user.b", b"trusted.t", b"user.a-rather-long-name-of-an-attribute", CAPABILITY];
    names[pick as usize % names.len()]
}

impl Runner {
    /// Does one operation.
    pub(crate) fn apply(&mut self, op: &Op) -> Step {
        match *op {
            Op::Create { .. } | Op::Mkdir { .. } | Op::Mknod { .. } | Op::Symlink { .. } => self.make(op),
            Op::Link { node, dir, name } => self.link(node, dir, name),
            Op::Unlink { dir, name } => {
                let (dir, name) = self.old(dir, name);
                let real = self.subject.ops().unlink(&ADMIN, self.node(dir), &name);
                Self::agree(real, self.model.unlink(dir, &name)).map(drop)
            }
            Op::Rmdir { dir, name } => {
                let (dir, name) =
                    self.empty_dir(name).filter(|_| dir % 4 != 0).unwrap_or(self.old(dir, name));
                let real = self.subject.ops().rmdir(&ADMIN, self.node(dir), &name);
                Self::agree(real, self.model.rmdir(dir, &name)).map(drop)
            }
            Op::Rename { dir, name, to, to_name, mode } => {
                let (dir, name) = self.old(dir, name);
                let (to, existing) = self.old(to, to_name / 2);
                let to_name = if to_name.is_multiple_of(2) { existing } else { new_name(to_name / 2) };
                let (from_node, to_node) = (self.node(dir), self.node(to));
                let real = self.subject.ops().rename(&ADMIN, from_node, &name, to_node, &to_name, mode);
                Self::agree(real, self.model.rename(dir, &name, to, &to_name, mode)).map(drop)
            }
            Op::Lookup { dir, name } => {
                let (dir, name) = self.old(dir, name);
                let real = self.subject.ops().lookup(&USER, self.node(dir), &name);
                let both = Self::agree(real, self.model.lookup(dir, &name))?;
                both.map_or(Ok(()), |(entry, id)| self.check_attr(&entry.attr, id))
            }
            Op::NotADirectory { node, how } => self.not_a_directory(node, how),
            Op::Readlink { node } => {
                let id = self.any(node);
                let both = Self::agree(self.subject.ops().readlink(self.node(id)), self.model.readlink(id))?;
                both.map_or(Ok(()), |(real, expected)| equal(&real, &expected))
            }
            Op::Open { file, access } => self.open(file, access),
            Op::Release { handle } => {
                self.release(handle);
                Ok(())
            }
            Op::Write { .. } | Op::WriteBeyond { .. } | Op::Read { .. } => self.transfer(op),
            Op::Fallocate { .. } | Op::Seek { .. } | Op::Fsync { .. } => self.transfer(op),
            Op::Copy { from, at, to, to_at, len } => self.copy(None, (from, at), (to, to_at), len),
            Op::Truncate { node, size, by_handle } => self.truncate(node, size, by_handle),
            Op::Chmod { .. } | Op::Chown { .. } | Op::Times { .. } => self.attributes(op),
            Op::SetXattr { .. } | Op::GetXattr { .. } | Op::RemoveXattr { .. } => self.xattrs(op),
            Op::Forget { node } => {
                self.subject.ops().forget(self.node(self.any(node)));
                Ok(())
            }
            Op::FsyncDir { dir } => {
                Self::agree(self.subject.ops().fsyncdir(self.node(self.dir(dir))), Ok(()))?;
                self.durable();
                Ok(())
            }
            Op::Commit => {
                self.subject.commit()?;
                self.durable();
                Ok(())
            }
            Op::Crash { seed } => self.crash(seed),
            Op::Reopen => self.reopen(),
            Op::Snap { .. } | Op::Unsnap { .. } | Op::RenameSnap { .. } | Op::RollBack { .. } => {
                self.snapshots(op)
            }
            Op::Poke { snapshot, node, what } => self.poke(snapshot, node, what),
            Op::PokeSnapdir { node, what } => self.on(MAIN, |main| main.poke_snapdir(node, what)),
            Op::Undo { force } => self.undo(force),
            Op::RollBackInUse { name, force } => self.roll_back_in_use(name, force),
            Op::Restore { from } => self.restore(from),
            Op::Promote { clone, onto, force } => self.promote(clone, onto, force),
            Op::Merge { clone, way, closed } => self.merge(clone, way, closed),
            Op::Turn { .. }
            | Op::Fork { .. }
            | Op::CloneLine { .. }
            | Op::DropLine { .. }
            | Op::RenameLine { .. } => self.lines(op),
            Op::CopyAcross { .. } | Op::PokeAcross { .. } => self.lines(op),
            Op::OpenPast { .. } | Op::ReleasePast { .. } | Op::CopyPast { .. } => self.lines(op),
            Op::KeepTrash { .. } | Op::Undelete { .. } | Op::EmptyTrash { .. } | Op::EmptySome => {
                self.trashing(op)
            }
            Op::Hold { .. } | Op::LetGo { .. } | Op::PassTime { .. } | Op::PokeTrash { .. } => {
                self.trashing(op)
            }
            Op::Layout { node, cow } => self.layout(node, cow),
            Op::BringHome { bytes, committed } => {
                if !committed {
                    self.subject.commit()?;
                }
                self.done.homed += self.subject.bring_home(bytes)?;
                Ok(())
            }
            Op::CheckLive => self.check_live(),
            Op::CheckAll => self.check_all(),
        }
    }

    fn old(&self, dir: Pick, name: Pick) -> (Id, Vec<u8>) {
        let dir = self.dir(dir);
        (dir, self.old_name(dir, name))
    }

    /// An empty directory by its name.
    fn empty_dir(&self, pick: Pick) -> Option<(Id, Vec<u8>)> {
        let empty = self.pick(pick, |n| matches!(&n.body, Body::Dir(entries) if entries.is_empty()))?;
        self.model.live.iter().find_map(|(id, n)| {
            let Body::Dir(entries) = &n.body else { return None };
            entries.iter().find(|(_, child)| **child == empty).map(|(name, _)| (*id, name.clone()))
        })
    }

    /// Mostly an offset inside the file: beyond its end there is little to see.
    fn inside(&self, id: Id, offset: u64, len: u64) -> u64 {
        inside(self.model.content(id).size, offset, len)
    }

    fn make(&mut self, op: &Op) -> Step {
        let (Op::Create { dir, name, .. }
        | Op::Mkdir { dir, name, .. }
        | Op::Mknod { dir, name, .. }
        | Op::Symlink { dir, name, .. }) = *op
        else {
            unreachable!("called for creations")
        };
        let (dir, name) = (self.dir(dir), new_name(name));
        let (parent, ops) = (self.node(dir), self.subject.ops());
        let file = || Body::File(Content::default());
        let mut opened = None;
        let (real, who, mode, body) = match *op {
            Op::Create { mode, access, uid, .. } => {
                let flags = OpenFlags { exclusive: true, ..flags(access) };
                let real = ops.create(&caller(uid), parent, &name, mode, flags).map(|(entry, handle)| {
                    opened = Some((handle, flags));
                    entry
                });
                (real, caller(uid), mode, file())
            }
            Op::Mkdir { mode, uid, .. } => {
                let real = ops.mkdir(&caller(uid), parent, &name, mode);
                (real, caller(uid), mode, Body::Dir(Default::default()))
            }
            Op::Mknod { kind, rdev, .. } => {
                let device = matches!(kind, FileType::CharDevice | FileType::BlockDevice);
                let rdev = if device { rdev } else { 0 };
                let body = if kind == FileType::Regular { file() } else { Body::Special(kind, rdev) };
                (ops.mknod(&ADMIN, parent, &name, kind, 0o640, rdev), ADMIN, 0o640, body)
            }
            Op::Symlink { target_len, .. } => {
                let target: Vec<u8> = (0..target_len).map(|i| b"../x/"[i % 5]).collect();
                (ops.symlink(&USER, parent, &name, &target), USER, 0o777, Body::Link(target))
            }
            _ => unreachable!("called for creations"),
        };
        let expected = self.model.make(&who, dir, &name, mode, body);
        let Some((entry, id)) = Self::agree(real, expected)? else { return Ok(()) };
        self.learn(&entry, id)?;
        if let Some((handle, flags)) = opened {
            self.keep_open(id, handle, flags);
        }
        Ok(())
    }

    fn link(&mut self, node: Pick, dir: Pick, name: Pick) -> Step {
        let (id, dir, name) = (self.any(node), self.dir(dir), new_name(name));
        let (node, parent) = (self.node(id), self.node(dir));
        let real = self.subject.ops().link(&ADMIN, node, parent, &name);
        let both = Self::agree(real, self.model.link(id, dir, &name))?;
        both.map_or(Ok(()), |(entry, ())| self.check_attr(&entry.attr, id))
    }

    /// What needs a directory, on something else.
    fn not_a_directory(&mut self, node: Pick, how: Pick) -> Step {
        let Some(id) = self.pick(node, |n| !n.is_dir()) else { return Ok(()) };
        let (node, ops) = (self.node(id), self.subject.ops());
        let real = match how % 5 {
            0 => ops.lookup(&USER, node, b"a").map(drop),
            1 => ops.mkdir(&ADMIN, node, b"a", 0o755).map(drop),
            2 => ops.unlink(&ADMIN, node, b"a"),
            3 => ops.rmdir(&ADMIN, node, b"a"),
            _ => ops.create(&ADMIN, node, b"a", 0o644, WRITE).map(drop),
        };
        Self::agree(real, only::<()>(&[Error::NotADirectory])).map(drop)
    }

    fn open(&mut self, file: Pick, access: Access) -> Step {
        let Some(id) = self.pick(file, |n| matches!(n.body, Body::File(_))) else { return Ok(()) };
        let flags = flags(access);
        if flags.truncate {
            self.may_shrink(id, 0);
        }
        let real = self.subject.ops().open(&USER, self.node(id), flags);
        let expected = if flags.truncate { self.model.truncate(id, 0) } else { Ok(()) };
        if let Some((handle, ())) = Self::agree(real, expected)? {
            self.keep_open(id, handle, flags);
        }
        Ok(())
    }

    /// What one file handle is enough for.
    fn transfer(&mut self, op: &Op) -> Step {
        let (pick, write) = match *op {
            Op::Write { file, .. } | Op::WriteBeyond { file } | Op::Fallocate { file, .. } => (file, true),
            Op::Read { file, .. } | Op::Seek { file, .. } | Op::Fsync { file, .. } => (file, false),
            _ => unreachable!("called for transfers"),
        };
        let Some(file) = self.borrow(pick, write)? else { return Ok(()) };
        let result = self.on(file.line, |here| here.transfer_on(op, &file));
        self.give_back(&file);
        result
    }

    fn transfer_on(&mut self, op: &Op, file: &Borrowed) -> Step {
        let (node, handle, ops) = (file.node, file.handle, self.subject.ops());
        match *op {
            Op::Write { offset, len, seed, kill, .. } => {
                let data = bytes(seed, len);
                let real = ops.write(node, handle, offset, &data, kill);
                let at = if file.flags.append { self.model.content(file.id).size } else { offset };
                if let Some((written, ())) = Self::agree(real, self.model.write(file.id, at, &data, kill))? {
                    equal(&written, &len)?;
                    if file.flags.sync {
                        self.durable();
                    }
                }
                Ok(())
            }
            Op::WriteBeyond { .. } if file.flags.append => Ok(()),
            Op::WriteBeyond { .. } => {
                let real = ops.write(node, handle, u64::MAX - 4096, b"0123456789", false);
                Self::agree(real, self.model.write(file.id, u64::MAX - 4096, b"0123456789", false)).map(drop)
            }
            Op::Read { offset, len, .. } => {
                let offset = self.inside(file.id, offset, len as u64);
                let mut out = vec![7; len];
                let read = ops.read(node, handle, offset, &mut out).map(|len| out.truncate(len));
                Self::agree(read, Ok(()))?;
                let expected = self.model.content(file.id).read(offset, len as u64);
                if out == expected {
                    Ok(())
                } else {
                    Err(format!("{} other bytes of {}", out.len(), expected.len()))
                }
            }
            Op::Fallocate { offset, len, mode, .. } => {
                let offset = self.inside(file.id, offset, len);
                let id = file.id;
                self.moved.extend((offset / 4096..=(offset + len) / 4096 + 1).map(|block| block * 4096));
                self.shorter = Some(Shorter {
                    before: self.model.clone(),
                    len,
                    offsets: vec![offset],
                    apply: Box::new(move |model, len| drop(model.fallocate(id, offset, len, mode))),
                });
                let real = ops.fallocate(&USER, node, handle, offset, len, mode);
                Self::agree(real, self.model.fallocate(file.id, offset, len, mode)).map(drop)
            }
            Op::Seek { offset, to, .. } => {
                let offset = self.inside(file.id, offset, offset / 3);
                let real = ops.lseek(node, handle, offset, to);
                let right = self.model.seek_is_right(file.id, offset, to, &real);
                if right { Ok(()) } else { Err(format!("the answer {real:?} is wrong")) }
            }
            Op::Fsync { scope, .. } => {
                debug_assert!(matches!(scope, SyncScope::All | SyncScope::Data));
                Self::agree(ops.fsync(node, handle, scope), Ok(()))?;
                self.durable();
                Ok(())
            }
            _ => unreachable!("called for transfers"),
        }
    }

    /// Between two files, of which the source may be of the line `across`.
    pub(crate) fn copy(
        &mut self,
        across: Option<Pick>,
        (from, at): (Pick, u64),
        (to, to_at): (Pick, u64),
        len: u64,
    ) -> Step {
        let other = across.map_or(self.model.at(), |line| self.old_line(line));
        let Some(source) = self.on(other, |there| there.borrow(from, false))? else { return Ok(()) };
        let Some(target) = self.borrow(to, true)? else {
            self.give_back(&source);
            return Ok(());
        };
        let mut result = Ok(());
        if !target.flags.append {
            let at = self.on(source.line, |there| there.inside(source.id, at, len / 2));
            let (from, to) = ((source.line, source.id), (target.line, target.id));
            self.shorter = Some(Shorter {
                before: self.model.clone(),
                len,
                offsets: vec![to_at, 0],
                apply: Box::new(move |model, len| drop(model.copy(from, at, to, to_at, len))),
            });
            let real = self.subject.ops().copy_range(
                &USER,
                source.node,
                source.handle,
                at,
                target.node,
                target.handle,
                to_at,
                len,
            );
            let both = Self::agree(real, self.model.copy(from, at, to, to_at, len));
            result = both.and_then(|both| both.map_or(Ok(()), |(real, expected)| equal(&real, &expected)));
        }
        self.give_back(&source);
        self.give_back(&target);
        result
    }

    /// A truncation goes in steps from the end, each of which ends where a block does.
    fn may_shrink(&mut self, id: Id, size: u64) {
        let Body::File(content) = &self.model.live[&id].body else { return };
        // What histories write begins near one of these, or where a range was moved into a file.
        let near = [0, 4 << 30, 1 << 40].into_iter().flat_map(|from| (from..from + (1 << 20)).step_by(4096));
        let ends: BTreeSet<u64> = near.chain(self.moved.iter().copied()).collect();
        let ends: Vec<u64> = ends.into_iter().filter(|end| (size..content.size).contains(end)).collect();
        self.shorter = Some(Shorter {
            before: self.model.clone(),
            len: ends.len() as u64 * 4096 + 1,
            offsets: vec![0],
            apply: Box::new(move |model, step| {
                let end = ends.iter().rev().nth((step / 4096).saturating_sub(1) as usize);
                end.iter().for_each(|end| drop(model.truncate(id, **end)));
            }),
        });
    }

    fn truncate(&mut self, node: Pick, size: u64, by_handle: bool) -> Step {
        let file = if by_handle { self.borrow(node, true)? } else { None };
        let id = file.as_ref().map_or(self.any(node), |f| f.id);
        let line = file.as_ref().map_or(self.model.at(), |f| f.line);
        let handle = file.as_ref().map(|f| f.handle);
        let both = self.on(line, |here| here.truncate_on(id, size, handle));
        if let Some(file) = &file {
            self.give_back(file);
        }
        both
    }

    fn truncate_on(&mut self, id: Id, size: u64, handle: Option<Handle>) -> Step {
        let set = SetAttr { size: Some(size), ..SetAttr::default() };
        self.may_shrink(id, size);
        let real = self.subject.ops().setattr(&USER, self.node(id), handle, &set);
        let both = Self::agree(real, self.model.truncate(id, size))?;
        both.map_or(Ok(()), |((attr, _), ())| self.check_attr(&attr, id))
    }

    /// Nothing that can be seen changes. A system without files and lines knows no layouts.
    fn layout(&mut self, node: Pick, cow: bool) -> Step {
        let id = self.pick(node, |n| matches!(n.body, Body::File(_) | Body::Dir(_)));
        let Some(id) = id.filter(|_| self.subject.fs().is_some()) else { return Ok(()) };
        let (name, value): (_, &[u8]) = (b"user.snapfs.layout", if cow { b"cow" } else { b"row" });
        let real = self.subject.ops().setxattr(&ADMIN, self.node(id), name, value, XattrMode::Set);
        Self::agree(real, Ok(())).map(drop)
    }

    fn attributes(&mut self, op: &Op) -> Step {
        let (Op::Chmod { node, .. } | Op::Chown { node, .. } | Op::Times { node, .. }) = *op else {
            unreachable!("called for attributes")
        };
        let mut id = self.any(node);
        let mut set = SetAttr::default();
        match *op {
            Op::Chmod { mode, .. } => {
                // Set-id bits mean something on files and directories; the mode of a link nothing at all.
                id = self.pick(node, |n| !matches!(n.body, Body::Link(_))).unwrap_or(id);
                let special = matches!(self.model.live[&id].body, Body::Special(..));
                let mode = if special { mode & !SET_ID } else { mode };
                set.mode = Some(mode);
                self.model.chmod(id, mode);
            }
            Op::Chown { uid, gid, .. } => {
                (set.uid, set.gid) = (uid, gid);
                self.model.chown(id, uid, gid);
            }
            Op::Times { secs, nanos, .. } => {
                let at = secs.map(|secs| Timestamp { secs, nanos });
                set.mtime = Some(at.map_or(SetTime::Now, SetTime::At));
                set.atime = set.mtime;
                self.model.set_mtime(id, at);
            }
            _ => unreachable!("called for attributes"),
        }
        let (attr, _) = self
            .subject
            .ops()
            .setattr(&ADMIN, self.node(id), None, &set)
            .map_err(|e| format!("failed with {e:?}"))?;
        self.check_attr(&attr, id)
    }

    fn xattrs(&mut self, op: &Op) -> Step {
        let (Op::SetXattr { node, name, .. } | Op::GetXattr { node, name } | Op::RemoveXattr { node, name }) =
            *op
        else {
            unreachable!("called for xattrs")
        };
        let holds = |n: &reference::Inode| matches!(n.body, Body::File(_) | Body::Dir(_));
        let mut id = self.pick(node, holds).unwrap_or(reference::ROOT);
        // The capability belongs to files: on a directory nothing says when it goes.
        let mut name = xattr_name(if self.model.live[&id].is_dir() { name % 4 } else { name });
        let held = self.pick(node, |n| !n.xattrs.is_empty());
        if let (false, Some(holder)) = (matches!(op, Op::SetXattr { .. }) || node % 4 == 0, held) {
            let held = self.model.live[&holder].xattrs.keys().next().expect("not empty");
            (id, name) = (holder, (0..5).map(xattr_name).find(|n| n == held).unwrap_or(name));
        }
        let (node, ops) = (self.node(id), self.subject.ops());
        match *op {
            Op::SetXattr { len, mode, .. } => {
                let value = bytes(len as u64 + u64::from(mode as u8), len);
                let real = ops.setxattr(&ADMIN, node, name, &value, mode);
                Self::agree(real, self.model.set_xattr(id, name, &value, mode)).map(drop)
            }
            Op::RemoveXattr { .. } => {
                let real = ops.removexattr(&ADMIN, node, name);
                Self::agree(real, self.model.remove_xattr(id, name)).map(drop)
            }
            _ => {
                let both = Self::agree(ops.getxattr(node, name), self.model.get_xattr(id, name))?;
                both.map_or(Ok(()), |(real, expected)| equal(&real, &expected))
            }
        }
    }

    fn snapshots(&mut self, op: &Op) -> Step {
        let line = self.model.name.clone();
        match *op {
            Op::Snap { name } => {
                let (name, root) = (new_snapshot_name(name), self.root());
                let real = match self.subject.fs() {
                    Some(fs) => past::take(fs, root, &name),
                    None => {
                        self.subject.ops().mkdir(&ADMIN, snapdir(), &name, 0o755).map(|entry| entry.attr.node)
                    }
                };
                let Some((node, id)) = Self::agree(real, self.model.snap(&name))? else { return Ok(()) };
                let fresh = !self.numbers_of_snapshots().contains(&node.tree());
                if node.is_live() || node.is_snapdir() || node.ino() != NodeId::ROOT.ino() || !fresh {
                    return Err(format!("root of the new snapshot is {node:?}"));
                }
                self.numbers.views.insert(id, node.tree());
                self.durable();
                let info = self.subject.fs().and_then(|fs| past::find(fs, &line, &name).ok());
                info.map_or(Ok(()), |info| self.is_fresh(info.slot, info.generation))
            }
            Op::Unsnap { name } => {
                let name = self.old_snapshot(name);
                if let Some(id) = self.model.find_snapshot(&name).map(|s| s.id) {
                    self.learn_snapshot(id);
                }
                let real = match self.subject.fs() {
                    Some(fs) => past::delete(fs, &line, &name),
                    None => self.subject.ops().rmdir(&ADMIN, snapdir(), &name),
                };
                let Some(((), id)) = Self::agree(real, self.model.unsnap(&name))? else { return Ok(()) };
                let root = NodeId::in_tree(self.numbers.views[&id], NodeId::ROOT.ino());
                let real = self.subject.ops().getattr(root, None);
                Self::agree(real, only::<()>(&[Error::Stale, Error::NotFound])).map(drop)
            }
            Op::RenameSnap { name, to } => {
                let name = self.old_snapshot(name);
                // A name that is taken may be so in another line, which shows this snapshot or not.
                let to = match to % 3 {
                    0 => self.on(self.old_line(to / 3), |there| there.old_snapshot(to / 48 * 16 + 1)),
                    _ => new_snapshot_name(to / 3),
                };
                if name == to {
                    return Ok(());
                }
                let no_replace = snapfs::ops::RenameMode::NoReplace;
                let real = match self.subject.fs() {
                    Some(fs) => past::rename(fs, &line, &name, &to),
                    None => self.subject.ops().rename(&ADMIN, snapdir(), &name, snapdir(), &to, no_replace),
                };
                Self::agree(real, self.model.rename_snapshot(&name, &to)).map(drop)
            }
            Op::RollBack { name } => self.roll_back(name),
            _ => unreachable!("called for snapshots"),
        }
    }

    /// Views of all snapshots that are there and known.
    fn numbers_of_snapshots(&self) -> Vec<u32> {
        let all = self.model.lines().flat_map(|(_, line)| line.snapshots.values());
        all.filter_map(|s| self.numbers.views.get(&s.id).copied()).collect()
    }

    fn roll_back(&mut self, name: Pick) -> Step {
        let name = self.old_snapshot(name);
        let Some(to) = self.model.find_snapshot(&name).map(|to| to.id) else { return Ok(()) };
        let line = self.model.name.clone();
        self.release_all()?;
        self.learn_snapshot(to);
        let before = self.model.clone();
        self.model.roll_back(&name);
        match self.subject.roll_back(&line, &name) {
            RollBack::NotOffered => {
                self.model = before;
                return Ok(());
            }
            RollBack::Failed(why) => return Err(format!("failed: {why}")),
            RollBack::Done { guard: None } => {
                let line = self.subject.fs().and_then(|fs| past::line_of(fs, &line).ok());
                line.map_or(Ok(()), |line| self.is_fresh(line.slot, line.head_generation))?;
            }
            RollBack::Done { guard: Some(guard) } => {
                let after = std::mem::replace(&mut self.model, before);
                let id = self.model.snap(&guard).map_err(|e| format!("its guard snapshot: {e:?}"))?;
                let entry = self
                    .subject
                    .ops()
                    .lookup(&ADMIN, snapdir(), &guard)
                    .map_err(|e| format!("guard: {e:?}"))?;
                self.numbers.views.insert(id, entry.attr.node.tree());
                self.model.live = after.live.clone();
            }
        }
        self.durable();
        self.check_all()
    }

    /// Tries to change a snapshot, or to move something over its border.
    fn poke(&mut self, snapshot: Pick, node: Pick, what: Poke) -> Step {
        let Some(snapshot) =
            self.model.snapshots.values().nth(snapshot as usize % self.model.snapshots.len().max(1))
        else {
            return Ok(());
        };
        let paths = reference::paths(&snapshot.tree);
        let one = |fits: &dyn Fn(&reference::Inode) -> bool| {
            let all: Vec<Id> = paths.values().copied().filter(|id| fits(&snapshot.tree[id])).collect();
            (!all.is_empty()).then(|| all[node as usize % all.len()])
        };
        let view = self.numbers.views[&snapshot.id];
        let in_view = |id: Id| NodeId::in_tree(view, self.numbers.inodes[&id]);
        let dir = one(&|n| n.is_dir()).unwrap_or(reference::ROOT);
        let Body::Dir(entries) = &snapshot.tree[&dir].body else { unreachable!("a directory") };
        let named = |fits: &dyn Fn(&reference::Inode) -> bool| {
            entries.iter().find(|(_, id)| fits(&snapshot.tree[id])).map(|(name, _)| name)
        };
        let (dir, ops, any) = (in_view(dir), self.subject.ops(), one(&|_| true).map_or(self.root(), in_view));
        let file = one(&|n| matches!(n.body, Body::File(_))).map(in_view);
        let live_name = self.old_name(reference::ROOT, 1);
        let live_file = self.pick(node, |n| !n.is_dir()).map(|id| self.node(id));
        let live_there =
            matches!(&self.model.live[&reference::ROOT].body, Body::Dir(d) if d.contains_key(&live_name));
        let rename = |from, name: &[u8], to| {
            ops.rename(&ADMIN, from, name, to, b"fresh", snapfs::ops::RenameMode::Replace)
        };
        let mut expected = Error::ReadOnly;
        let real = match what {
            Poke::OpenWrite => file.map(|f| ops.open(&ADMIN, f, WRITE).map(drop)),
            Poke::Chmod => {
                let set = SetAttr { mode: Some(0o700), ..SetAttr::default() };
                Some(ops.setattr(&ADMIN, any, None, &set).map(drop))
            }
            Poke::Truncate => {
                let set = SetAttr { size: Some(1), ..SetAttr::default() };
                file.map(|f| ops.setattr(&ADMIN, f, None, &set).map(drop))
            }
            Poke::Mkdir => Some(ops.mkdir(&ADMIN, dir, b"fresh", 0o755).map(drop)),
            Poke::Create => Some(ops.create(&ADMIN, dir, b"fresh", 0o644, WRITE).map(drop)),
            Poke::Mknod => Some(ops.mknod(&ADMIN, dir, b"fresh", FileType::Fifo, 0o644, 0).map(drop)),
            Poke::Symlink => Some(ops.symlink(&ADMIN, dir, b"fresh", b"to").map(drop)),
            Poke::Unlink => named(&|n| !n.is_dir()).map(|name| ops.unlink(&ADMIN, dir, name)),
            Poke::Rmdir => named(&|n| n.is_dir()).map(|name| ops.rmdir(&ADMIN, dir, name)),
            Poke::RenameInside => named(&|_| true).map(|name| rename(dir, name, dir)),
            Poke::LinkInside => file.map(|f| ops.link(&ADMIN, f, dir, b"fresh").map(drop)),
            Poke::SetXattr => Some(ops.setxattr(&ADMIN, any, b"user.a", b"no", snapfs::ops::XattrMode::Set)),
            Poke::RemoveXattr => Some(ops.removexattr(&ADMIN, any, b"user.a")),
            Poke::RenameIn | Poke::RenameOut | Poke::LinkOut | Poke::LinkIn => {
                expected = Error::CrossView;
                match what {
                    Poke::RenameIn => live_there.then(|| rename(self.root(), &live_name, dir)),
                    Poke::RenameOut => named(&|_| true).map(|name| rename(dir, name, self.root())),
                    Poke::LinkOut => file.map(|f| ops.link(&ADMIN, f, self.root(), b"fresh").map(drop)),
                    _ => live_file.map(|f| ops.link(&ADMIN, f, dir, b"fresh").map(drop)),
                }
            }
        };
        real.map_or(Ok(()), |real| Self::agree(real, only::<()>(&[expected])).map(drop))
    }

    /// Tries to put into the directory of snapshots what does not belong there.
    fn poke_snapdir(&mut self, node: Pick, what: SnapdirPoke) -> Step {
        let ops = self.subject.ops();
        let live_file = self.pick(node, |n| !n.is_dir()).map(|id| self.node(id));
        let live_name = self.old_name(reference::ROOT, 1);
        let snapshot = self.model.snapshots.keys().next();
        let rename = |from, name: &[u8], to| {
            ops.rename(&ADMIN, from, name, to, b"fresh", snapfs::ops::RenameMode::Replace)
        };
        let not_permitted = [Error::NotPermitted];
        let (real, expected): (_, &[Error]) = match what {
            SnapdirPoke::Create => {
                (Some(ops.create(&ADMIN, snapdir(), b"fresh", 0o644, WRITE).map(drop)), &not_permitted)
            }
            SnapdirPoke::Mknod => (
                Some(ops.mknod(&ADMIN, snapdir(), b"fresh", FileType::Fifo, 0o644, 0).map(drop)),
                &not_permitted,
            ),
            SnapdirPoke::Symlink => {
                (Some(ops.symlink(&ADMIN, snapdir(), b"fresh", b"to").map(drop)), &not_permitted)
            }
            SnapdirPoke::Unlink => (
                snapshot.map(|name| ops.unlink(&ADMIN, snapdir(), name)),
                &[Error::IsADirectory, Error::NotPermitted],
            ),
            SnapdirPoke::Link => (
                live_file.map(|f| ops.link(&ADMIN, f, snapdir(), b"fresh").map(drop)),
                &[Error::CrossView, Error::NotPermitted],
            ),
            SnapdirPoke::RenameIn => (
                self.model
                    .lookup(reference::ROOT, &live_name)
                    .is_ok()
                    .then(|| rename(self.root(), &live_name, snapdir())),
                &[Error::CrossView],
            ),
            SnapdirPoke::RenameOut => {
                (snapshot.map(|name| rename(snapdir(), name, self.root())), &[Error::CrossView])
            }
            SnapdirPoke::BadName => {
                let name: &[u8] = [&b".hidden"[..], b"@latest"][node as usize % 2];
                (Some(ops.mkdir(&ADMIN, snapdir(), name, 0o755).map(drop)), &[Error::Invalid])
            }
            SnapdirPoke::LongName => (
                Some(ops.mkdir(&ADMIN, snapdir(), &[b's'; 256], 0o755).map(drop)),
                &[Error::NameTooLong, Error::Invalid],
            ),
            SnapdirPoke::LookupMissing => {
                (Some(ops.lookup(&ADMIN, snapdir(), b"never-made").map(drop)), &[Error::NotFound])
            }
        };
        real.map_or(Ok(()), |real| Self::agree(real, only::<()>(expected)).map(drop))
    }
}

/// Mostly an offset below `size`.
pub(crate) fn inside(size: u64, offset: u64, len: u64) -> u64 {
    if offset >= size && size > 0 && !len.is_multiple_of(4) { offset % size } else { offset }
}

pub(crate) fn equal<T: PartialEq + std::fmt::Debug>(real: &T, expected: &T) -> Step {
    if real == expected { Ok(()) } else { Err(format!("answered {real:.300?}, expected {expected:.300?}")) }
}
