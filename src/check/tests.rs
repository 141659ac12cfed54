//! The auditor of files over a store made by `fs`: clean as it is, and with each kind of wrong state crafted into it.

use super::{Depth, Report, check};
use crate::fixtures::{RW, SNAPDIR, USER, files_of};
use crate::format::dirent::{Dirent, NameBucket, name_hash};
use crate::format::inode::Inode;
use crate::format::link::{Links, link_hash};
use crate::format::xattr::{XattrValue, Xattrs, piece_rest, xattr_hash};
use crate::format::{Extent, Ino, Key, Kind, LineId};
use crate::fs::Fs;
use crate::ops::*;
use crate::volume::{Need, ReserveFor, Txn, Volume};
use std::sync::Arc;

/// A store with a bit of everything, and the inodes in it.
struct Sample {
    fs: Arc<Fs>,
    dir: u64,
    inner: u64,
    small: u64,
    big: u64,
    link: u64,
    orphan: u64,
}

impl Sample {
    fn new() -> Sample {
        let fs = files_of(Volume::memory(1 << 30));
        let mkdir = |p, n: &str| fs.mkdir(&USER, p, n.as_bytes(), 0o755).unwrap().attr.node;
        let put = |p, n: &str, data: &[u8]| {
            let (e, h) = fs.create(&USER, p, n.as_bytes(), 0o644, RW).unwrap();
            fs.write(e.attr.node, h, 0, data, false).unwrap();
            (e.attr.node, h)
        };
        let dir = mkdir(NodeId::ROOT, "dir");
        let inner = mkdir(dir, "inner");
        let (small, _) = put(dir, "small", b"hello");
        let (big, h) = put(inner, "big", &[7; 300_000]);
        fs.fallocate(&USER, big, h, 400_000, 100_000, AllocateMode::KeepSize).unwrap();
        fs.link(&USER, big, NodeId::ROOT, b"again").unwrap();
        let link = fs.symlink(&USER, dir, b"link", b"../target").unwrap().attr.node;
        fs.mknod(&USER, dir, b"pipe", FileType::Fifo, 0o600, 0).unwrap();
        fs.setxattr(&USER, small, b"user.short", b"value", XattrMode::Set).unwrap();
        fs.setxattr(&USER, small, b"user.long", &[5; 10_000], XattrMode::Set).unwrap();
        let (orphan, _) = put(dir, "gone", &[9; 9000]);
        fs.unlink(&USER, dir, b"gone").unwrap();
        fs.mkdir(&USER, SNAPDIR, b"first", 0).unwrap();
        for n in 0..300 {
            put(dir, &format!("file{n}"), &vec![n as u8; n * 40 + 1]);
        }
        fs.commit().unwrap();
        let ino = |n: NodeId| n.ino();
        Sample {
            dir: ino(dir),
            inner: ino(inner),
            small: ino(small),
            big: ino(big),
            link: ino(link),
            orphan: ino(orphan),
            fs,
        }
    }

    fn check(&self) -> Report {
        check(self.fs.volume(), Depth::Data).unwrap()
    }

    /// Changes items behind the back of `fs`, commits, and wants a problem with these words.
    fn craft(&self, change: impl FnOnce(&mut Txn<'_>), words: &[&str]) {
        let volume = self.fs.volume();
        let mut txn = volume.begin(LineId::MAIN).unwrap();
        txn.reserve(Need { items: 10, ..Need::default() }, ReserveFor::Write).unwrap();
        change(&mut txn);
        drop(txn);
        volume.commit(&mut |_| Ok(())).unwrap();
        let problems = self.check().problems;
        for word in words {
            assert!(problems.iter().any(|p| p.contains(word)), "{word:?} is not in {problems:#?}");
        }
    }
}

fn key(ino: u64, kind: Kind, rest: u64) -> Key {
    Key::new(ino, kind, rest)
}

fn edit_inode(txn: &mut Txn<'_>, ino: u64, edit: impl FnOnce(&mut Inode)) {
    let at = key(ino, Kind::Inode, 0);
    let mut inode = Inode::decode(&txn.view().get(&at).unwrap().unwrap()).unwrap();
    edit(&mut inode);
    txn.insert(at, &inode.encode()).unwrap();
}

fn set_entry(txn: &mut Txn<'_>, dir: u64, name: &[u8], ino: u64, kind: FileType) {
    let entry = Dirent { ino: Ino(ino), kind, slot: 0, name: name.to_vec() };
    let bucket = NameBucket { entries: vec![entry] };
    txn.insert(key(dir, Kind::Dirent, name_hash(name)), &bucket.encode()).unwrap();
}

fn set_link(txn: &mut Txn<'_>, ino: u64, dir: u64, name: &[u8]) {
    let links = Links { names: vec![(Ino(dir), name.to_vec())] };
    txn.insert(key(ino, Kind::Link, link_hash(Ino(dir), name)), &links.encode()).unwrap();
}

fn first_extent(txn: &Txn<'_>, ino: u64) -> (Key, Extent) {
    let (from, to) = (key(ino, Kind::Extent, 0), key(ino, Kind::Extent, u64::MAX));
    let (key, value) = txn.view().range(&from, &to).next().unwrap().unwrap();
    (key, Extent::decode(&value).unwrap())
}

#[test]
fn what_fs_makes_is_clean() {
    let s = Sample::new();
    let report = s.check();
    assert_eq!(report.problems, Vec::<String>::new());
    // Root, two directories, small, big, link, pipe, the orphan, 300 files.
    assert_eq!((report.inodes, report.snapshots_unchecked), (308, 0));
    s.fs.close().unwrap();
    assert_eq!(s.check().problems, Vec::<String>::new());
}

#[test]
fn a_store_that_was_never_mounted_is_clean() {
    let report = check(&Volume::memory(1 << 30), Depth::Data).unwrap();
    assert_eq!((report.problems.len(), report.inodes), (0, 0));
}

#[test]
fn many_snapshots_are_counted_when_not_read() {
    let s = Sample::new();
    for n in 0..70 {
        s.fs.mkdir(&USER, SNAPDIR, format!("s{n}").as_bytes(), 0).unwrap();
        s.fs.mkdir(&USER, NodeId::ROOT, format!("d{n}").as_bytes(), 0o755).unwrap();
    }
    s.fs.commit().unwrap();
    let report = s.check();
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!(report.snapshots_unchecked, 7);
}

#[test]
fn names_that_do_not_match() {
    let s = Sample::new();
    let (dir, small, inner) = (s.dir, s.small, s.inner);
    let at = |name: &[u8]| key(dir, Kind::Dirent, name_hash(name));
    s.craft(
        |t| assert!(t.remove(&at(b"small")).unwrap()),
        &["(/dir/small): link 'small' in inode 16 has no entry", "has 0 names, but a link count of 1"],
    );
    let s = Sample::new();
    s.craft(
        |t| {
            t.remove(&key(small, Kind::Link, link_hash(Ino(dir), b"small"))).unwrap();
        },
        &["entry 'small' in inode 16 has no link item"],
    );
    let s = Sample::new();
    s.craft(
        |t| set_entry(t, dir, b"small", s.big, FileType::Regular),
        &["link 'small' in inode 16 has no entry", "entry 'small' in inode 16 has no link item"],
    );
    let s = Sample::new();
    s.craft(
        |t| set_entry(t, dir, b"small", small, FileType::Socket),
        &["is a Regular, its directory entry says another type"],
    );
    let s = Sample::new();
    s.craft(
        |t| set_entry(t, dir, b"small", 1 << 30, FileType::Regular),
        &["entry 'small' names inode 1073741824, impossible"],
    );
    let s = Sample::new();
    s.craft(
        |t| assert!(t.remove(&key(small, Kind::Inode, 0)).unwrap()),
        &["has 1 names, but there is no inode"],
    );
    let s = Sample::new();
    s.craft(
        |t| {
            let bytes = t.view().get(&at(b"small")).unwrap().unwrap().to_vec();
            t.remove(&at(b"small")).unwrap();
            t.insert(at(b"other"), &bytes).unwrap();
        },
        &["entry 'small' stands under the wrong hash"],
    );
    let s = Sample::new();
    s.craft(
        |t| {
            set_entry(t, inner, b"another", small, FileType::Regular);
            set_link(t, small, inner, b"another");
        },
        &["directory counts 1 entries, but has 2", "has 2 names, but a link count of 1"],
    );
}

#[test]
fn directories_that_make_no_tree() {
    let s = Sample::new();
    let (dir, inner) = (s.dir, s.inner);
    s.craft(
        |t| edit_inode(t, dir, |i| i.nlink = 7),
        &["(/dir): directory has a link count of 7, but 1 subdirectories"],
    );
    s.craft(|t| edit_inode(t, dir, |i| i.size += 1), &["directory counts 305 entries, but has 304"]);
    s.craft(
        |t| edit_inode(t, inner, |i| i.parent = Ino::ROOT),
        &["directory says that it is in inode 1, its entry is in 16"],
    );
    let s = Sample::new();
    s.craft(
        |t| {
            set_entry(t, inner, b"up", dir, FileType::Directory);
            set_link(t, dir, inner, b"up");
            t.remove(&key(1, Kind::Dirent, name_hash(b"dir"))).unwrap();
            t.remove(&key(dir, Kind::Link, link_hash(Ino::ROOT, b"dir"))).unwrap();
            edit_inode(t, dir, |i| i.parent = Ino(inner));
            edit_inode(t, inner, |i| (i.nlink, i.size) = (3, 2));
            edit_inode(t, 1, |i| (i.nlink, i.size) = (2, 1));
        },
        &["directory cannot be reached from the root: it is inside itself"],
    );
    let s = Sample::new();
    s.craft(
        |t| {
            set_entry(t, 1, b"twice", inner, FileType::Directory);
            set_link(t, inner, 1, b"twice");
        },
        &["directory has 2 names instead of 1"],
    );
    let s = Sample::new();
    s.craft(
        |t| assert!(t.remove(&key(1, Kind::Inode, 0)).unwrap()),
        &["there is no root directory", "inode 1 (/): has items, but there is no inode"],
    );
}

#[test]
fn orphans_that_are_none() {
    let s = Sample::new();
    let orphan = key(Ino::ORPHANS.0, Kind::Orphan, s.orphan);
    s.craft(|t| assert!(t.remove(&orphan).unwrap()), &["has no name and no orphan record"]);
    let wrong = key(Ino::ORPHANS.0, Kind::Orphan, s.small);
    s.craft(|t| t.insert(wrong, &[]).unwrap(), &["has an orphan record, but 1 names and a link count of 1"]);
    let beyond = key(Ino::ORPHANS.0, Kind::Orphan, 1 << 39);
    s.craft(|t| t.insert(beyond, &[]).unwrap(), &["no inode has this number"]);
    let alien = key(1 << 39, Kind::Inline, 0);
    s.craft(|t| t.insert(alien, b"x").unwrap(), &["no inode has this number"]);
}

#[test]
fn content_that_cannot_be() {
    let s = Sample::new();
    let (big, small, link) = (s.big, s.small, s.link);
    s.craft(
        |t| {
            edit_inode(t, big, |i| i.blocks += 8);
            edit_inode(t, small, |i| i.has_inline = false);
            edit_inode(t, link, |i| i.size = 3);
        },
        &[
            "blocks of 512 bytes, its extents map",
            "its inode says no content in the tree, found there is",
            "symbolic link of size 3 has a target of 9 bytes",
        ],
    );
    let s = Sample::new();
    s.craft(
        |t| edit_inode(t, big, |i| i.size = 5000),
        &["has content up to 303104, beyond its size of 5000"],
    );
    let s = Sample::new();
    s.craft(
        |t| {
            let layout =
                crate::format::LayoutProperty { value: crate::format::Layout::Cow, inherited: false };
            edit_inode(t, big, |i| i.layout = Some(layout));
        },
        &["1 items are about content away from home, and the superblock does not say that there may be such"],
    );
    let s = Sample::new();
    s.craft(
        |t| t.insert(key(big, Kind::Inline, 0), &[1; 3000]).unwrap(),
        &["its inode says no content in the tree"],
    );
    s.craft(
        |t| edit_inode(t, big, |i| i.has_inline = true),
        &["has content in the tree and an extent in the first block"],
    );
    let s = Sample::new();
    s.craft(
        |t| {
            let (_, extent) = first_extent(t, big);
            t.insert(key(big, Kind::Extent, 4096), &extent.slice(4096, 4096).encode()).unwrap();
            t.insert(key(big, Kind::Extent, 1000), &extent.slice(4096, 4096).encode()).unwrap();
            t.insert(key(big, Kind::Extent, 1 << 63), &extent.slice(4096, 4096).encode()).unwrap();
        },
        &["extent at 4096 overlaps", "does not start at a block", "ends beyond the largest file"],
    );
    let s = Sample::new();
    s.craft(|t| t.insert(key(small, Kind::Extent, 0), b"junk").unwrap(), &["extent item has 4 bytes"]);
}

#[test]
fn extended_attributes_that_are_incomplete() {
    let s = Sample::new();
    let small = s.small;
    s.craft(
        |t| assert!(t.remove(&key(small, Kind::XattrData, piece_rest(1, 2))).unwrap()),
        &["attribute value 1 has 3 pieces instead of 4"],
    );
    s.craft(
        |t| t.insert(key(small, Kind::XattrData, piece_rest(1, 1)), b"short").unwrap(),
        &["piece 1 of value 1 has 5 bytes, expected 3072"],
    );
    s.craft(
        |t| t.insert(key(small, Kind::XattrData, piece_rest(9, 0)), b"x").unwrap(),
        &["piece 0 of value 9 belongs to no attribute"],
    );
    s.craft(
        |t| edit_inode(t, small, |i| i.has_xattr = false),
        &["has extended attributes, but its inode says not"],
    );
    let s = Sample::new();
    s.craft(
        |t| {
            let at = key(small, Kind::Xattr, xattr_hash(b"user.short"));
            let bytes = t.view().get(&at).unwrap().unwrap().to_vec();
            t.insert(key(small, Kind::Xattr, 77), &bytes).unwrap();
        },
        &["attribute 'user.short' stands under the wrong hash"],
    );
}

#[test]
fn a_wrong_snapshot_is_told_from_the_live_tree() {
    let s = Sample::new();
    let volume = s.fs.volume();
    let mut txn = volume.begin(LineId::MAIN).unwrap();
    edit_inode(&mut txn, s.dir, |i| i.nlink = 9);
    drop(txn);
    s.fs.mkdir(&USER, SNAPDIR, b"wrong", 0).unwrap();
    s.craft(|t| edit_inode(t, s.dir, |i| i.nlink = 3), &["view 3: inode 16 (/dir): directory has a link"]);
    assert_eq!(s.check().problems.len(), 1);
}

#[test]
fn names_that_are_no_text_are_told_whole() {
    let s = Sample::new();
    let named = |txn: &mut Txn<'_>| {
        set_entry(txn, s.dir, b"a\xff", s.small, FileType::Regular);
        set_entry(txn, s.dir, b"a\xfe\n", 1 << 30, FileType::Regular);
        set_link(txn, s.inner, s.dir, b"b\xff");
        let value = XattrValue::Short(b"value".to_vec());
        let attribute = Xattrs { entries: vec![(b"user.\xff".to_vec(), value)] };
        txn.insert(key(s.small, Kind::Xattr, 1), &attribute.encode()).unwrap();
    };
    let words = [r"entry 'a\xff'", r"entry 'a\xfe\n'", r"link 'b\xff'", r"attribute 'user.\xff'"];
    s.craft(named, &words);
}
