//! `.snapshots`: making, finding, listing, renaming, deleting; exactness; what is refused.

use super::super::{Provenance, Reason, SnapdirMode};
use super::*;
use crate::device::{CrashPolicy, Sim};
use crate::format::provenance::MadeBy;
use crate::volume::{Access, OpenOptions};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

#[test]
fn a_snapshot_is_exact_and_read_only() {
    let t = T::new();
    let d = t.mkdir(ROOT, "d").unwrap();
    let f = t.create(d, "f");
    t.write(f, 0, b"first");
    let one = t.snapshot("one");
    t.write(f, 0, b"later, and longer");
    t.put(d, "g", b"new");
    let two = t.snapshot("two");
    t.fs.unlink(&USER, d, b"f").unwrap();
    assert_eq!(t.list(SNAPDIR), ["one", "two"]);
    let (d1, d2) = (t.find(one, "d").unwrap(), t.find(two, "d").unwrap());
    assert_eq!((t.list(d1), t.cat(d1, "f")), (vec!["f".to_string()], b"first".to_vec()));
    assert_eq!((t.cat(d2, "f"), t.cat(d2, "g")), (b"later, and longer".to_vec(), b"new".to_vec()));
    assert_eq!(t.list(d), ["g"]);
    assert_eq!(t.find(one, ".."), Ok(SNAPDIR));
    assert_eq!(t.find(d1, ".."), Ok(one));
    assert_eq!(t.find(SNAPDIR, ".."), Ok(ROOT));

    let f1 = t.find(d1, "f").unwrap();
    let set = SetAttr { mode: Some(0), ..SetAttr::default() };
    assert_eq!(t.mkdir(d1, "x"), Err(Error::ReadOnly));
    assert_eq!(t.fs.unlink(&USER, d1, b"f"), Err(Error::ReadOnly));
    assert_eq!(t.fs.rmdir(&USER, one, b"d"), Err(Error::ReadOnly));
    assert_eq!(t.fs.setattr(&USER, f1, None, &set).map(|_| ()), Err(Error::ReadOnly));
    assert_eq!(t.fs.open(&USER, f1, RW), Err(Error::ReadOnly));
    assert_eq!(t.fs.setxattr(&USER, f1, b"user.a", b"", XattrMode::Set), Err(Error::ReadOnly));
    assert_eq!(t.fs.link(&USER, f1, d, b"x").map(|_| ()), Err(Error::CrossView));
    let rename = |a, b| t.fs.rename(&USER, a, b"f", b, b"x", RenameMode::Replace);
    assert_eq!(rename(d1, d1), Err(Error::ReadOnly));
    assert_eq!(rename(d1, d2), Err(Error::CrossView));
    assert_eq!(rename(d1, d), Err(Error::CrossView));
    assert_eq!(rename(d, d1), Err(Error::CrossView));
}

#[test]
fn names_of_snapshots() {
    let t = T::new();
    let long = "n".repeat(255);
    for (name, expected) in [
        ("good", Ok(())),
        ("good", Err(Error::Exists)),
        (long.as_str(), Ok(())),
        (".hidden", Err(Error::Invalid)),
        ("@latest", Err(Error::Invalid)),
        ("@GMT-2026.01.01-00.00.00", Err(Error::Invalid)),
        (&(long.clone() + "n"), Err(Error::NameTooLong)),
    ] {
        assert_eq!(t.mkdir(SNAPDIR, name).map(|_| ()), expected, "{name}");
    }
    let automatic = b"@GMT-2026.01.01-00.00.00";
    t.fs.create_snapshot(automatic, Reason::Schedule).unwrap();
    assert!(t.fs.lookup(&USER, SNAPDIR, automatic).is_ok());
    assert_eq!(t.list(SNAPDIR).len(), 3);
}

#[test]
fn automatic_snapshots_are_named_by_what_for_and_when() {
    let sim = Arc::new(Sim::new(SMALL_BYTES, 1));
    let t = T::on(Volume::made_on(sim.clone()), FsOptions::default());
    let why = Provenance {
        method: MadeBy::Cow,
        reason: Reason::Merge,
        user: Some(1000),
        description: b"first".to_vec(),
        command: b"snapfs merge".to_vec(),
    };
    let names =
        ["20", "21", "22"].map(|second| format!("@before-merge-1970.01.01-00.00.{second}").into_bytes());
    t.clock.advance(-980 * 1_000_000_000);
    for name in &names {
        let made = t.fs.create_guard_of(ROOT, &why).unwrap();
        assert_eq!((&made.name, &made.provenance), (name, &why));
    }
    assert_eq!(t.fs.create_guard_of(ROOT, &Provenance::default()).map(drop), Err(Error::Invalid));
    // From the log, from pending points of the superblock, and from view records.
    for round in 0..3 {
        let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 1 << 20 };
        let device = Arc::new(sim.crash(CrashPolicy::DropAll));
        let again = T::on(Volume::open(device, options).unwrap(), FsOptions::default());
        let all = again.fs.snapshots();
        assert_eq!(all.iter().map(|s| s.name.clone()).collect::<Vec<_>>(), names, "{round}");
        assert!(all.iter().all(|s| s.provenance == why), "{round}");
        if round == 1 {
            t.put(ROOT, "f", b"changed");
        }
        t.fs.commit().unwrap();
    }
}

#[test]
fn renaming_and_deleting_snapshots() {
    let t = T::new();
    let f = t.put(ROOT, "f", &[8; 200_000]);
    let one = t.snapshot("one");
    t.snapshot("two");
    t.resize(f, 0);
    let rename =
        |a: &str, b: &str, mode| t.fs.rename(&USER, SNAPDIR, a.as_bytes(), SNAPDIR, b.as_bytes(), mode);
    assert_eq!(rename("one", "two", RenameMode::Replace), Err(Error::Exists));
    assert_eq!(rename("one", "two", RenameMode::Exchange), Err(Error::Invalid));
    assert_eq!(rename("none", "new", RenameMode::Replace), Err(Error::NotFound));
    assert_eq!(rename("one", "@new", RenameMode::Replace), Err(Error::Invalid));
    assert_eq!(rename("one", "new", RenameMode::NoReplace), Ok(()));
    assert_eq!(t.fs.rename(&USER, SNAPDIR, b"new", ROOT, b"x", RenameMode::Replace), Err(Error::CrossView));
    assert_eq!((t.list(SNAPDIR), t.find(SNAPDIR, "new")), (vec!["new".into(), "two".into()], Ok(one)));
    let open = t.open(t.find(one, "f").unwrap(), RO);
    assert_eq!(t.fs.rmdir(&USER, SNAPDIR, b"new"), Ok(()));
    assert_eq!(t.fs.rmdir(&USER, SNAPDIR, b"new"), Err(Error::NotFound));
    assert_eq!(t.read(open, 199_999, 5), [8], "an open file outlives its snapshot");
    assert_eq!(t.fs.getattr(one, None).map(|_| ()), Err(Error::Stale));
    assert_eq!(t.list(SNAPDIR), ["two"]);
}

/// Small enough to be filled, so that everything that is free is written to again.
const SMALL_BYTES: u64 = 96 << 20;

/// Files of 1 MiB in a snapshot, open, and what is in each.
fn open_in_a_snapshot(t: &T, files: u8) -> Vec<(NodeId, Handle)> {
    let names: Vec<String> = (0..files).map(|n| format!("f{n}")).collect();
    for (n, name) in names.iter().enumerate() {
        t.put(ROOT, name, &vec![n as u8 + 1; 1 << 20]);
    }
    let snap = t.snapshot("s");
    names.iter().map(|name| t.open(t.find(snap, name).unwrap(), RO)).collect()
}

/// Removes a file that nobody has open.
fn remove(t: &T, name: &str) {
    let node = t.find(ROOT, name).unwrap();
    t.fs.unlink(&USER, ROOT, name.as_bytes()).unwrap();
    t.fs.forget(node);
}

fn fill(t: &T) {
    let f = t.create(ROOT, "filler");
    let block = [0xff; 128 << 10];
    let mut at = 0;
    while t.fs.write(f.0, f.1, at, &block, false).is_ok() {
        at += block.len() as u64;
    }
    assert!(at > 16 << 20, "there was something to fill");
    t.fs.release(f.0, f.1);
    t.fs.commit().unwrap();
}

#[test]
fn whoever_reads_a_deleted_snapshot_keeps_it() {
    let t = T::with(SMALL_BYTES, FsOptions::default());
    let open = open_in_a_snapshot(&t, 16);
    t.fs.rmdir(&USER, SNAPDIR, b"s").unwrap();
    t.fs.commit().unwrap();
    for n in 0..16 {
        remove(&t, &format!("f{n}"));
        t.fs.commit().unwrap();
    }
    fill(&t);
    for (n, f) in open.iter().enumerate() {
        assert!(t.read(*f, 0, 1 << 20) == vec![n as u8 + 1; 1 << 20], "file {n}");
        t.fs.release(f.0, f.1);
    }
    t.prove();
    // With the last reader it goes.
    remove(&t, "filler");
    assert!(t.fs.volume().has_background_work());
    for _ in 0..4 {
        t.fs.commit().unwrap();
    }
    assert!(!t.fs.volume().has_background_work());
    assert!(t.fs.volume().space().used < 4 << 20, "{:?}", t.fs.volume().space());
    t.prove();
}

#[test]
fn a_reader_of_one_deleted_snapshot_holds_up_no_other() {
    let t = T::with(SMALL_BYTES, FsOptions::default());
    let open = open_in_a_snapshot(&t, 1);
    t.put(ROOT, "other", &vec![9; 16 << 20]);
    t.snapshot("other");
    remove(&t, "other");
    for name in ["s", "other"] {
        t.fs.rmdir(&USER, SNAPDIR, name.as_bytes()).unwrap();
    }
    for _ in 0..4 {
        t.fs.commit().unwrap();
    }
    assert!(t.fs.volume().space().used < 6 << 20, "{:?}", t.fs.volume().space());
    assert!(!t.fs.volume().has_background_work() && !t.fs.has_changes(), "nothing is tried in vain");
    assert_eq!(t.read(open[0], 0, 3), [1; 3]);
}

#[test]
fn a_deletion_that_waits_for_a_reader_outlives_a_crash() {
    let sim = Arc::new(Sim::new(SMALL_BYTES, 1));
    let t = T::on(Volume::made_on(sim.clone()), FsOptions::default());
    let open = open_in_a_snapshot(&t, 8);
    t.fs.rmdir(&USER, SNAPDIR, b"s").unwrap();
    for n in 0..8 {
        remove(&t, &format!("f{n}"));
    }
    t.fs.commit().unwrap();
    t.fs.commit().unwrap();
    assert_eq!(t.read(open[7], 0, 3), [8; 3]);
    let after = Arc::new(sim.crash(CrashPolicy::DropAll));
    let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 1 << 20 };
    let t = T::on(Volume::open(after, options).unwrap(), FsOptions::default());
    assert!(t.list(SNAPDIR).is_empty());
    for _ in 0..4 {
        t.fs.commit().unwrap();
    }
    assert!(t.fs.volume().space().used < 4 << 20, "{:?}", t.fs.volume().space());
    t.prove();
}

#[test]
fn a_directory_that_is_open_in_a_deleted_snapshot_is_listed() {
    let t = T::new();
    let d = t.mkdir(ROOT, "d").unwrap();
    t.put(d, "f", b"content");
    let past = t.find(t.snapshot("s"), "d").unwrap();
    let handle = t.fs.opendir(&USER, past).unwrap();
    t.fs.rmdir(&USER, SNAPDIR, b"s").unwrap();
    t.fs.commit().unwrap();
    let mut names = Vec::new();
    let mut note = |entry: &DirEntry| {
        names.push(entry.name.clone());
        true
    };
    t.fs.readdir(past, handle, 0, true, &mut note).unwrap();
    assert_eq!(names, [&b"."[..], b"..", b"f"]);
    t.fs.releasedir(past, handle);
}

#[test]
fn a_number_that_is_used_again_has_another_generation() {
    let sim = Arc::new(Sim::new(SMALL_BYTES, 1));
    let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 1 << 20 };
    let mut seen = std::collections::HashSet::new();
    let mut nodes = std::collections::HashSet::new();
    let mut t = T::on(Volume::made_on(sim.clone()), FsOptions::default());
    t.put(ROOT, "f", b"content");
    for round in 0..4 {
        let snap = t.snapshot(&format!("s{round}"));
        let found = t.fs.lookup(&USER, snap, b"f").unwrap();
        let root = t.fs.lookup(&USER, SNAPDIR, format!("s{round}").as_bytes()).unwrap();
        assert_eq!(found.generation, root.generation);
        assert!(seen.insert((found.attr.node, found.generation)), "round {round}");
        nodes.insert(found.attr.node);
        t.fs.rmdir(&USER, SNAPDIR, format!("s{round}").as_bytes()).unwrap();
        t.fs.close().unwrap();
        drop(t);
        t = T::on(Volume::open(sim.clone(), options).unwrap(), FsOptions::default());
    }
    assert!(nodes.len() < 4, "numbers are used again");
}

#[test]
fn what_snapdir_refuses() {
    let t = T::new();
    let one = t.snapshot("one");
    let d = t.mkdir(ROOT, "d").unwrap();
    let below = t.find(d, ".snapshots").unwrap();
    assert_eq!(t.fs.create(&USER, SNAPDIR, b"f", 0o644, RW).map(|_| ()), Err(Error::NotPermitted));
    assert_eq!(t.fs.unlink(&USER, SNAPDIR, b"one"), Err(Error::NotPermitted));
    assert_eq!(t.mkdir(below, "x"), Err(Error::NotPermitted));
    assert_eq!(t.fs.rmdir(&USER, below, b"one"), Err(Error::NotPermitted));
    assert_eq!(t.fs.rmdir(&USER, ROOT, b".snapshots"), Err(Error::NotPermitted));
    assert_eq!(t.find(one, ".snapshots"), Err(Error::NotFound));
    assert_eq!(t.fs.open(&USER, SNAPDIR, RO), Err(Error::IsADirectory));
    assert_eq!(t.fs.listxattr(SNAPDIR), Ok(vec![]));
}

#[test]
fn every_directory_has_its_past() {
    let t = T::new();
    t.snapshot("before");
    let d = t.mkdir(ROOT, "d").unwrap();
    t.put(d, "f", b"1");
    let with = t.snapshot("with");
    t.fs.rename(&USER, ROOT, b"d", ROOT, b"e", RenameMode::Replace).unwrap();
    t.snapshot("moved");
    let past = t.find(d, ".snapshots").unwrap();
    assert_eq!(t.list(past), ["with", "moved"]);
    assert_eq!(t.find(past, "before"), Err(Error::NotFound));
    let (own, below) = (t.find(past, "with").unwrap(), t.find(with, "d").unwrap());
    assert_eq!((own.slot(), own.ino(), t.list(own)), (below.slot(), below.ino(), t.list(below)));
    assert_eq!(t.find(past, ".."), Ok(d));
    assert_eq!(t.list(d), ["f"]);
    let view = |dir, name| t.find(dir, name).unwrap().slot();
    assert_eq!(view(SNAPDIR, "@latest"), view(SNAPDIR, "moved"));
    assert_eq!(view(past, "@prev"), view(past, "with"));
    assert_eq!(t.find(past, "@-1h"), Err(Error::NotFound));
}

#[test]
fn showing_and_hiding() {
    for (snapdir, found, listed) in [
        (SnapdirMode::Hidden, true, false),
        (SnapdirMode::Visible, true, true),
        (SnapdirMode::Disabled, false, false),
    ] {
        let t = T::with(1 << 30, FsOptions { snapdir, snapdir_everywhere: false, ..FsOptions::default() });
        let d = t.mkdir(ROOT, "d").unwrap();
        assert_eq!(t.find(ROOT, ".snapshots").is_ok(), found);
        assert_eq!(t.list(ROOT).contains(&".snapshots".to_string()), listed);
        assert_eq!(t.find(d, ".snapshots"), Err(Error::NotFound));
    }
}

/// The kernel looks for the name of what it knows by number: it must be there however the listing is cut.
#[test]
fn whoever_searches_finds_what_is_not_listed() {
    for (snapdir, snapdir_everywhere) in
        [(SnapdirMode::Hidden, true), (SnapdirMode::Visible, true), (SnapdirMode::Hidden, false)]
    {
        let t = T::with(1 << 30, FsOptions { snapdir, snapdir_everywhere, ..FsOptions::default() });
        let d = t.mkdir(ROOT, "d").unwrap();
        t.mkdir(d, "e").unwrap();
        let past = t.snapshot("s");
        let searched = |dir| {
            let handle = t.fs.opendir_to_search(&USER, dir).unwrap();
            let (mut found, mut after) = (Vec::new(), 0);
            loop {
                let (mut more, from) = (false, after);
                let mut take = |e: &DirEntry| {
                    let taken = !std::mem::replace(&mut more, true);
                    if taken {
                        found.push((String::from_utf8(e.name.clone()).unwrap(), e.node));
                        after = e.cookie;
                    }
                    taken
                };
                t.fs.readdir(dir, handle, from, true, &mut take).unwrap();
                if !more {
                    t.fs.releasedir(dir, handle);
                    break found.split_off(2);
                }
            }
        };
        let entry = |dir, name: &str| (name.to_string(), t.find(dir, name).unwrap());
        assert_eq!(searched(ROOT), [".snapshots", ".clones", "d"].map(|name| entry(ROOT, name)));
        let own = if snapdir_everywhere { vec![entry(d, ".snapshots")] } else { vec![] };
        assert_eq!(searched(d), [own, vec![entry(d, "e")]].concat());
        assert_eq!(searched(SNAPDIR), [("s".to_string(), past)]);
        assert_eq!(searched(past), [entry(past, "d")]);
    }
}

#[test]
fn attributes_of_snapdir_and_snapshots() {
    let t = T::new();
    t.clock.advance(60_000_000_000);
    let one = t.snapshot("one");
    let e = t.fs.lookup(&USER, ROOT, b".snapshots").unwrap();
    assert_eq!((e.attr.mode, e.attr.nlink, e.attr.mtime.secs), (0o755, 3, 1060));
    assert_eq!((e.entry_ttl, e.attr_ttl), (Duration::MAX, Duration::MAX), "the kernel is told of changes");
    let d = t.mkdir(ROOT, "d").unwrap();
    let e = t.fs.lookup(&USER, d, b".snapshots").unwrap();
    assert_eq!((e.entry_ttl, e.attr_ttl), (Duration::MAX, Duration::MAX), "it is known from here on");
    t.fs.forget_answers(e.attr.node, 1);
    assert_eq!(t.fs.getattr(e.attr.node, None).unwrap().1, Duration::ZERO, "and no longer");
    for (name, ttl) in [("one", Duration::MAX), ("@latest", Duration::ZERO)] {
        let e = t.fs.lookup(&USER, SNAPDIR, name.as_bytes()).unwrap();
        assert_eq!((e.entry_ttl, e.attr_ttl), (ttl, Duration::MAX), "{name}");
    }
    let get = |name: &str| String::from_utf8(t.fs.getxattr(one, name.as_bytes()).unwrap()).unwrap();
    assert_eq!(get("user.snapfs.created"), "1970-01-01T00:17:40Z");
    assert_eq!((get("user.snapfs.method"), get("user.snapfs.id")), ("row".into(), "2".into()));
    let names = String::from_utf8(t.fs.listxattr(one).unwrap()).unwrap();
    assert!(!names.contains("user.snapfs."), "whoever copies a snapshot would copy them: {names}");
    assert_eq!(t.fs.getxattr(one, b"user.snapfs.x"), Err(Error::NoAttribute));
}

/// A kernel that holds one write back until it is asked for it.
struct Cache {
    fs: Mutex<Option<Arc<Fs>>>,
    file: (NodeId, Handle),
    fails: bool,
}

impl Kernel for Cache {
    fn write_back(&self, nodes: &[(NodeId, u64)]) -> std::io::Result<()> {
        assert_eq!((nodes.len(), nodes[0].0), (1, self.file.0));
        if self.fails {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        let fs = self.fs.lock().clone().unwrap();
        assert_eq!(nodes[0].1, fs.heads.generation(self.file.0, FileType::Regular).unwrap());
        assert_eq!(fs.rmdir_at_once(&USER, SNAPDIR, b"one"), None, "it would wait for this snapshot");
        fs.write(self.file.0, self.file.1, 0, b"from the cache", false).unwrap();
        Ok(())
    }
    fn invalidate_node(&self, _node: NodeId) {}
    fn invalidate_entry(&self, _parent: NodeId, _name: &[u8]) {}
}

/// A kernel that counts how often it is told to forget the attributes of the root's `.snapshots`.
#[derive(Default)]
struct Told(AtomicUsize);

impl Kernel for Told {
    fn write_back(&self, _nodes: &[(NodeId, u64)]) -> std::io::Result<()> {
        Ok(())
    }
    fn forget_attributes(&self, node: NodeId) {
        match node {
            SNAPDIR => drop(self.0.fetch_add(1, Ordering::SeqCst)),
            other => assert_eq!(other, NodeId::clonedir(0)),
        }
    }
    fn invalidate_node(&self, _node: NodeId) {}
    fn invalidate_entry(&self, _parent: NodeId, _name: &[u8]) {}
}

#[test]
fn the_kernel_hears_of_whatever_changes_snapdir() {
    let t = T::new();
    let told = Arc::new(Told::default());
    t.fs.set_kernel(told.clone());
    let mut before = t.attr(SNAPDIR);
    let mut changed = |what: &str| {
        let now = t.attr(SNAPDIR);
        assert_ne!(now, before, "{what}");
        before = now;
        assert_eq!(told.0.swap(0, Ordering::SeqCst), 1, "{what}");
    };
    t.clock.advance(1_000_000_000);
    t.mkdir(SNAPDIR, "asked for").unwrap();
    changed("mkdir");
    t.clock.advance(1_000_000_000);
    t.fs.create_snapshot(b"from elsewhere", Reason::User).unwrap();
    changed("create");
    t.fs.delete_snapshot(b"from elsewhere").unwrap();
    changed("delete");
    t.fs.rmdir(&USER, SNAPDIR, b"asked for").unwrap();
    changed("rmdir");
    let owner = SetAttr { uid: Some(7), ..SetAttr::default() };
    t.fs.setattr(&USER, ROOT, None, &owner).unwrap();
    changed("chown of the root");
}

#[test]
fn pages_in_the_kernel_are_in_the_snapshot() {
    for fails in [false, true] {
        let t = T::new();
        let file = t.create(ROOT, "f");
        t.open(t.put(ROOT, "only read", b""), RO);
        // Nobody can map it.
        let write_only = OpenFlags { read: false, ..OpenFlags::READ_WRITE };
        t.open(t.put(ROOT, "only written", b""), write_only);
        let cache = Arc::new(Cache { fs: Mutex::new(Some(t.fs.clone())), file, fails });
        t.fs.set_kernel(cache.clone());
        let made = t.mkdir(SNAPDIR, "one");
        *cache.fs.lock() = None;
        if fails {
            assert_eq!((made, t.list(SNAPDIR)), (Err(Error::NoSpace), vec![]));
        } else {
            assert_eq!(t.cat(made.unwrap(), "f"), b"from the cache");
            assert_eq!(t.fs.rmdir_at_once(&USER, ROOT, b"one"), None, "only in .snapshots");
            assert_eq!(t.fs.rmdir_at_once(&USER, SNAPDIR, b"one"), Some(Ok(())));
            assert_eq!(t.fs.rmdir_at_once(&USER, SNAPDIR, b"one"), Some(Err(Error::NotFound)));
        }
    }
}

#[test]
fn a_directory_has_one_place_for_each_number() {
    let t = T::new();
    let d = t.mkdir(ROOT, "d").unwrap();
    let e = t.mkdir(d, "e").unwrap();
    let f = t.put(e, "f", b"content");
    let s = t.snapshot("s");
    let snapdir = |dir: NodeId| t.find(dir, ".snapshots").unwrap();
    // The same directory by its way from the root, from itself and from the one above, named and picked by age.
    let from = |top: NodeId, names: &[&str]| names.iter().fold(top, |at, name| t.find(at, name).unwrap());
    let ways: Vec<NodeId> = ["s", "@latest"]
        .iter()
        .flat_map(|name| {
            [from(SNAPDIR, &[name, "d", "e"]), from(snapdir(d), &[name, "e"]), from(snapdir(e), &[name])]
        })
        .collect();
    let mut numbers = ways.clone();
    numbers.extend([d, e, f, s]);
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 10, "{ways:?}");
    for (way, above) in ways.iter().zip([2, 1, 0, 2, 1, 0]) {
        assert_eq!(t.find(*way, "f"), Ok(NodeId::snapshot(s.slot(), f.ino())), "a file has one number");
        assert_eq!((t.list(*way), t.cat(*way, "f")), (vec!["f".to_string()], b"content".to_vec()));
        assert_eq!(t.attr(*way).node, *way);
        // And up again, to the `.snapshots` that the way began at.
        let top = (0..above).fold(*way, |at, _| t.find(at, "..").unwrap());
        assert_eq!(t.find(top, ".."), Ok(snapdir([ROOT, d, e][2 - above])));
    }
}

#[test]
fn a_snapshot_that_neither_log_nor_commit_holds_was_not_made() {
    let device = super::device::Moody::new(1 << 30);
    let t = T::on(Volume::made_on(device.clone()), FsOptions::default());
    t.put(ROOT, "f", b"content");
    t.fs.create_snapshot(b"before", Reason::User).unwrap();
    t.fill_log();
    device.fail(t.fs.volume().log_fill().1);
    assert!(t.fs.create_snapshot(b"s", Reason::User).is_err());
    assert_eq!((t.list(SNAPDIR), t.find(SNAPDIR, "s")), (vec!["before".into()], Err(Error::NotFound)));
    assert_eq!(t.cat(t.find(SNAPDIR, "before").unwrap(), "f"), b"content");
}
