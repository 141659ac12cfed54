//! Random histories for streams: of a line whatever a program or a user can change of it, and between its snapshots what
//! becomes of lines: rollbacks, and clones with snapshots of their own.

use super::*;
use crate::format::dirent::NameBucket;
use crate::format::inode::Inode;
use crate::format::xattr::Xattrs;
use crate::format::{Ino, Key, Kind, LineId};
use crate::fs::{OpenForWriting, Reason, Switched};
use crate::volume::View;
use std::collections::BTreeSet;

/// A list of access control, or one that takes the list away.
fn some_list(rng: &mut fastrand::Rng) -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let (mut tags, named) = (vec![(1, NOBODY)], rng.u8(0..4));
    tags.extend((named & 1 != 0).then(|| (2, rng.u32(0..5))));
    tags.push((4, NOBODY));
    tags.extend((named & 2 != 0).then(|| (8, rng.u32(0..5))));
    tags.extend((named != 0).then_some((16, NOBODY)));
    tags.push((32, NOBODY));
    if rng.u8(0..6) == 0 {
        tags.clear();
    }
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, id) in tags {
        list.extend_from_slice(&u16::to_le_bytes(tag));
        list.extend_from_slice(&rng.u16(0..8).to_le_bytes());
        list.extend_from_slice(&u32::to_le_bytes(id));
    }
    list
}

/// Some change of the main line.
pub(super) fn some_change(t: &T, rng: &mut fastrand::Rng) {
    some_change_in(t, LineId::MAIN, rng);
}

/// Some change of a line. What is refused changes nothing.
pub(super) fn some_change_in(t: &T, line: LineId, rng: &mut fastrand::Rng) {
    let (view, slot) = (t.fs.volume().live(line).unwrap(), t.fs.volume().line(line).unwrap().slot.0);
    let (mut inodes, mut names) = (Vec::new(), Vec::new());
    for item in view.range(&Key::MIN, &Key::MAX) {
        let (key, value) = item.unwrap();
        if key.kind == Kind::Inode as u8 {
            let inode = Inode::decode(&value).unwrap();
            if inode.nlink > 0 {
                inodes.push((Ino(key.object), inode));
            }
        } else if key.kind == Kind::Dirent as u8 {
            names.extend(
                NameBucket::decode(&value).unwrap().entries.into_iter().map(|e| (Ino(key.object), e)),
            );
        }
    }
    let node = |ino: Ino| NodeId::live(slot, ino.0);
    let dirs: Vec<_> =
        inodes.iter().filter(|(_, i)| i.kind == FileType::Directory).map(|(ino, _)| *ino).collect();
    let files: Vec<_> =
        inodes.iter().filter(|(_, i)| i.kind == FileType::Regular).map(|(ino, _)| *ino).collect();
    let dir = node(dirs[rng.usize(..dirs.len())]);
    let any = inodes[rng.usize(..inodes.len())].0;
    let new = format!("n{}", rng.u8(..9));
    let name = rng.choice(&names).cloned();
    let file = rng.choice(&files).map(|ino| node(*ino));
    let content = |rng: &mut fastrand::Rng, len: usize| match rng.u8(0..3) {
        0 => vec![rng.u8(..); len],
        1 => (0..len).map(|i| (i / 500) as u8).collect(),
        _ => (0..len).map(|_| rng.u8(..)).collect(),
    };
    let open = |node: NodeId, flags| t.fs.open(&USER, node, flags).ok().map(|handle| (node, handle));
    let close = |(node, handle): (NodeId, Handle)| t.fs.release(node, handle);
    let write = |rng: &mut fastrand::Rng, file: NodeId| {
        let (at, len) = match rng.u8(0..4) {
            0 => (rng.u64(0..3000), rng.usize(1..2000)),
            1 => (rng.u64(0..40) * 4096, rng.usize(1..4) * 4096),
            2 => (rng.u64(0..200_000), rng.usize(1..9000)),
            _ => (rng.u64(0..10) * 4096, rng.usize(100_000..300_000)),
        };
        let bytes = content(rng, len);
        if let Some(opened) = open(file, RW) {
            t.write(opened, at, &bytes);
            close(opened);
        }
    };
    let set = |node: NodeId, name: &[u8], value: &[u8]| {
        let _ = t.fs.setxattr(&SUPER, node, name, value, XattrMode::Set);
    };
    match (rng.u8(0..32), file, name) {
        (0..=3, ..) if t.find(dir, &new).is_err() => {
            let len = [0, 50, 3000, 20_000, 300_000][rng.usize(..5)];
            let bytes = content(rng, len);
            if let Ok((entry, handle)) = t.fs.create(&USER, dir, new.as_bytes(), 0o644, RW) {
                t.write((entry.attr.node, handle), 0, &bytes);
                t.fs.release(entry.attr.node, handle);
            }
        }
        (4, ..) => drop(t.mkdir(dir, &new)),
        (5..=7, Some(file), _) => write(rng, file),
        (8, Some(file), _) => {
            let set = SetAttr { size: Some(rng.u64(0..300_000)), ..SetAttr::default() };
            let _ = t.fs.setattr(&USER, file, None, &set);
        }
        (9, _, Some((parent, e))) => {
            let _ = t.fs.unlink(&SUPER, node(parent), &e.name);
        }
        (10, _, Some((parent, e))) => {
            let _ = t.fs.rmdir(&SUPER, node(parent), &e.name);
        }
        (11..=13, _, Some((parent, e))) => {
            let mode = if rng.u8(0..3) == 0 { RenameMode::Exchange } else { RenameMode::Replace };
            let to = rng.choice(&names).filter(|_| rng.bool()).map(|(dir, e)| (node(*dir), e.name.clone()));
            let (to, as_name) = to.unwrap_or((dir, new.into_bytes()));
            let _ = t.fs.rename(&SUPER, node(parent), &e.name, to, &as_name, mode);
        }
        (14, Some(file), _) => drop(t.fs.link(&SUPER, file, dir, new.as_bytes())),
        (15, ..) => drop(t.fs.symlink(&SUPER, dir, new.as_bytes(), b"some/where")),
        (16, ..) => {
            let value = vec![rng.u8(..); [5, 900, 5000][rng.usize(..3)]];
            let names = [&b"user.a"[..], b"user.b", b"trusted.c", b"security.d"];
            set(node(any), names[rng.usize(..4)], &value);
        }
        (17, ..) => drop(t.fs.removexattr(&SUPER, node(any), b"user.a")),
        (18, ..) => {
            let set =
                SetAttr { mode: Some(rng.u32(0..0o10000)), uid: Some(rng.u32(0..3)), ..SetAttr::default() };
            let _ = t.fs.setattr(&SUPER, node(any), None, &set);
        }
        (19, Some(file), _) => {
            let modes = [AllocateMode::KeepSize, AllocateMode::Extend, AllocateMode::PunchHole];
            let (mode, at, len) = (modes[rng.usize(..3)], rng.u64(0..60) * 4096, rng.u64(1..20) * 4096);
            if let Some(opened) = open(file, RW) {
                let _ = t.fs.fallocate(&SUPER, file, opened.1, at, len, mode);
                close(opened);
            }
        }
        (20 | 21, Some(to), _) => {
            let from = node(files[rng.usize(..files.len())]);
            let (at, len) = (rng.u64(0..20) * 4096, rng.u64(1..40) * 4096);
            if let Some(b) = open(to, RW) {
                let a = t.open(from, RO);
                let _ = t.fs.copy_range(&SUPER, from, a.1, at, to, b.1, rng.u64(0..40) * 4096, len);
                close(a);
                close(b);
            }
        }
        (22, Some(file), _) => set(file, b"user.snapfs.compression", [&b"zstd"[..], b"off"][rng.usize(..2)]),
        (23, ..) => set(node(any), b"system.posix_acl_access", &some_list(rng)),
        (24, ..) => set(dir, b"system.posix_acl_default", &some_list(rng)),
        (25, ..) => {
            let kinds = [FileType::Fifo, FileType::Socket, FileType::CharDevice, FileType::BlockDevice];
            let (kind, device) = (kinds[rng.usize(..4)], rng.u32(1..0x1_0000));
            let rdev = if matches!(kind, FileType::Fifo | FileType::Socket) { 0 } else { device };
            let _ = t.fs.mknod(&SUPER, dir, new.as_bytes(), kind, rng.u32(0..0o1000), rdev);
        }
        (26, ..) => set(node(any), b"user.snapfs.layout", [&b"cow"[..], b"row", b"inherit"][rng.usize(..3)]),
        (27 | 28, ..) => {
            t.fs.commit().unwrap();
            t.fs.bring_content_home(rng.u64(1..80) * 4096).unwrap();
        }
        // Of what has a name in a directory: the root takes new names in any case.
        (29, _, Some((_, e))) => {
            let mut of = || rng.u8(0..4) == 0;
            let flags =
                FileFlags { immutable: of(), append_only: of(), no_dump: of(), no_atime: of(), sync: of() };
            let _ = t.fs.set_file_flags(node(e.ino), flags);
        }
        _ => t.fs.commit().unwrap(),
    }
    t.clock.advance(1_000_000);
}

/// Rolls the main line back to one of its snapshots. The kernel learns of it as it does: by asking for names.
pub(super) fn some_rollback(t: &T, rng: &mut fastrand::Rng) {
    let all = t.fs.snapshots();
    let Some(to) = rng.choice(&all) else { return };
    let done = t.fs.rollback(ROOT, to, OpenForWriting::CutOff, &Reason::Rollback.into()).unwrap();
    assert!(matches!(done, Switched::Done(_)), "{done:?}");
    let view = t.fs.volume().live(LineId::MAIN).unwrap();
    for item in view.range(&Key::MIN, &Key::MAX) {
        let (key, value) = item.unwrap();
        if key.kind == Kind::Dirent as u8 {
            for entry in NameBucket::decode(&value).unwrap().entries {
                // What comes after the first answer may be about the file of before.
                (0..2).for_each(|_| drop(t.fs.lookup(&SUPER, NodeId::live(0, key.object), &entry.name)));
            }
        }
    }
}

/// What there is in a view of what not every one has, in words.
pub(super) fn oddities(view: &View) -> BTreeSet<&'static str> {
    let mut found = BTreeSet::new();
    for item in view.range(&Key::MIN, &Key::MAX) {
        let (key, value) = item.unwrap();
        match Kind::from_u8(key.kind).unwrap() {
            Kind::Inode => {
                let inode = Inode::decode(&value).unwrap();
                let is = |yes: bool, what| yes.then_some(what);
                found.extend(is(inode.layout.is_some(), "a layout"));
                found.extend(is(inode.flags.immutable, "what does not change"));
                found.extend(is(inode.flags.append_only, "what only grows"));
                found.extend(is(inode.rdev != 0, "a device"));
                found.extend(is(inode.kind == FileType::Fifo, "a pipe"));
            }
            Kind::Xattr => {
                for (name, _) in Xattrs::decode(&value).unwrap().entries {
                    found.extend(match &name[..] {
                        b"system.posix_acl_access" => Some("a list"),
                        b"system.posix_acl_default" => Some("a default list"),
                        b"trusted.c" => Some("a trusted attribute"),
                        _ => None,
                    });
                }
            }
            Kind::Away => drop(found.insert("content away from home")),
            _ => {}
        }
    }
    found
}

/// Snapshots of a random history of the main line.
pub(super) fn history(t: &T, rng: &mut fastrand::Rng, snapshots: usize, steps: usize) -> Vec<String> {
    let make = |n: usize, rng: &mut fastrand::Rng| {
        if n > 0 && rng.u8(0..5) == 0 {
            some_rollback(t, rng);
        }
        (0..rng.usize(1..steps)).for_each(|_| some_change(t, rng));
        let name = format!("s{n}");
        t.snapshot(&name);
        name
    };
    (0..snapshots).map(|n| make(n, rng)).collect()
}

/// A clone of a snapshot of the main line, and the names of its own snapshots: two, after as many steps each.
pub(super) fn clone_of(t: &T, name: &str, rng: &mut fastrand::Rng, steps: usize) -> (LineId, [String; 2]) {
    let of = t.fs.snapshot_of_word(ROOT, name.as_bytes()).unwrap();
    let root = t.fs.create_line(b"c", of.id).unwrap();
    let line = t.fs.line_at(root).unwrap();
    let names = ["c0", "c1"].map(|name| {
        (0..rng.usize(1..steps)).for_each(|_| some_change_in(t, line, rng));
        t.fs.create_snapshot_of(root, name.as_bytes(), Reason::User).unwrap();
        name.to_string()
    });
    (line, names)
}
