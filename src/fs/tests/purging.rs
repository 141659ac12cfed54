//! Purges of paths: what goes, who else has it, what is refused, and what is left on the device.

use super::*;
use crate::device::Sim;
use crate::format::LineId;
use crate::format::ViewId;
use crate::fs::items::Items;
use crate::fs::{
    FreezeDone, FreezeOrder, HasToo, NamedPath, OpenForWriting, PurgeAsked, PurgeEnd, Reason, RestoreOrder,
    SendOrder, StreamError, Switched, ThawDone,
};

pub(super) const SECRET: &[u8; 16] = b"s3cr3t-0123-key!";
pub(super) const SIZE: u64 = 64 << 20;
pub(super) const CLONEDIR: NodeId = NodeId::clonedir(0);

pub(super) fn store() -> (Arc<Sim>, T) {
    let sim = Arc::new(Sim::with_fresh_content(SIZE, 1, 0));
    let t = T::on(Volume::made_on(sim.clone()), FsOptions::default());
    (sim, t)
}

/// More than fits into a leaf, and not the same in any two blocks.
pub(super) fn secret(len: usize) -> Vec<u8> {
    let line = |n: usize| [&SECRET[..], format!("{n:016}").as_bytes()].concat();
    (0..len / 32).flat_map(line).collect()
}

pub(super) fn has_secret(sim: &Sim) -> bool {
    let zeros = vec![0; 4096];
    (0..SIZE).step_by(1 << 20).any(|at| {
        let bytes = sim.peek(at, 1 << 20);
        let mut blocks = bytes.chunks(4096).filter(|block| **block != zeros[..]);
        blocks.any(|block| block.windows(16).any(|found| found == SECRET))
    })
}

pub(super) fn opened(sim: Arc<Sim>) -> Arc<Volume> {
    let options =
        crate::volume::OpenOptions { access: crate::volume::Access::ReadWrite, cache_bytes: 1 << 20 };
    Volume::open(sim, options).unwrap()
}

pub(super) fn views(t: &T, names: &[&str]) -> Vec<ViewId> {
    let find = |name: &&str| t.fs.volume().find_snapshot(LineId::MAIN, name.as_bytes()).unwrap().id;
    names.iter().map(find).collect()
}

pub(super) fn purge(t: &T, path: &str, names: &[&str], all: bool) -> Result<PurgeEnd> {
    let (path, snapshots) = (path.as_bytes().to_vec(), views(t, names));
    t.fs.purge(&PurgeAsked { path, snapshots, all, dry_run: false })
}

/// Why a purge ended of which some was done.
pub(super) fn stopped(end: Result<PurgeEnd>) -> Option<Error> {
    match end {
        Ok(PurgeEnd::Stopped(e)) => Some(e),
        _ => None,
    }
}

pub(super) fn purged(t: &T, path: &str, names: &[&str], all: bool) {
    let end = purge(t, path, names, all);
    let told = end.as_ref().err();
    assert!(matches!(end, Ok(PurgeEnd::Purged(..))), "{path}: {told:?}");
    t.prove();
}

/// Who has it too, as line, snapshot and path.
pub(super) fn refused(t: &T, path: &str, names: &[&str]) -> Vec<(String, String, String)> {
    let Ok(PurgeEnd::Planned(plan)) = purge(t, path, names, false) else { panic!("{path} is not refused") };
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let told = |other: &HasToo| {
        let snapshot = other.snapshot.as_ref().map_or("@live".into(), |name| text(name));
        let snapshot = if other.in_trash { format!("trash {snapshot}") } else { snapshot };
        (text(&other.line), snapshot, text(&other.path))
    };
    plan.others.iter().map(told).collect()
}

pub(super) fn other(line: &str, snapshot: &str, path: &str) -> (String, String, String) {
    (line.into(), snapshot.into(), path.into())
}

pub(super) fn read(t: &T, snapshot: &str, path: &str) -> Result<Vec<u8>> {
    let mut at = t.find(SNAPDIR, snapshot).unwrap();
    for name in path.split('/') {
        at = t.find(at, name)?;
    }
    read_node(t, at)
}

pub(super) fn read_node(t: &T, node: NodeId) -> Result<Vec<u8>> {
    let handle = t.fs.open(&USER, node, RO)?;
    let mut out = vec![0; 1 << 20];
    let read = t.fs.read(node, handle, 0, &mut out);
    t.fs.release(node, handle);
    out.truncate(read?);
    Ok(out)
}

pub(super) fn is_gone(read: Result<Vec<u8>>) {
    assert!(matches!(&read, Err(Error::Io(what)) if what.contains("purged")), "{read:?}");
}

/// The kernel forgets what has no name and is not open.
pub(super) fn remove(t: &T, dir: NodeId, name: &str) {
    let node = t.find(dir, name).unwrap();
    t.fs.unlink(&USER, dir, name.as_bytes()).unwrap();
    t.fs.forget(node);
}

/// Whoever reopens it finds the same.
pub(super) fn again(t: T, sim: &Arc<Sim>) -> T {
    t.fs.close().unwrap();
    drop(t);
    let options =
        crate::volume::OpenOptions { access: crate::volume::Access::ReadWrite, cache_bytes: 1 << 20 };
    T::on(Volume::open(sim.clone(), options).unwrap(), FsOptions::default())
}

/// Nobody has it: neither is it told as held, nor as what others share.
#[test]
fn what_was_purged_takes_no_space() {
    let (_sim, t) = store();
    t.put(ROOT, "key", &secret(400 << 10));
    t.put(ROOT, "other", &crate::fixtures::bytes(1, 200 << 10));
    t.snapshot("one");
    remove(&t, ROOT, "key");
    remove(&t, ROOT, "other");
    t.snapshot("two");
    let held = || t.fs.held_paths(ROOT, 9, &mut |_, _| true).unwrap();
    let plan = || t.fs.planner().unwrap().plan(&views(&t, &["one"]), &[]).unwrap();
    let (before, freed) = (held().bytes, plan().freed);
    assert!(before > 200 << 10 && plan().shared == 0, "{before} {:?}", plan());
    purged(&t, "key", &["one"], false);
    let after = held();
    assert!(after.bytes == 200 << 10 && after.paths.iter().all(|held| held.path == b"other"), "{after:?}");
    assert!(plan().shared == 0 && plan().freed < freed, "{:?}", plan());
}

#[test]
fn nothing_of_a_secret_is_left_but_its_names() {
    let (sim, t) = store();
    let dir = t.mkdir(ROOT, "app").unwrap();
    t.put(dir, ".env", SECRET);
    t.put(dir, "key.pem", &secret(300 << 10));
    t.put(dir, "note", b"not secret");
    t.fs.symlink(&USER, dir, b"link", SECRET).unwrap();
    t.snapshot("mon");
    // Each commit leaves the leaf somewhere else.
    for n in 0..4 {
        t.put(dir, &format!("other{n}"), b"x");
        t.fs.commit().unwrap();
    }
    t.snapshot("tue");
    for name in [".env", "key.pem", "link"] {
        remove(&t, dir, name);
    }
    t.snapshot("wed");
    t.fs.commit().unwrap();
    assert!(has_secret(&sim));
    let both = &["mon", "tue"][..];
    assert!(matches!(purge(&t, "app/.env", &["wed"], false), Err(Error::NotFound)));
    let Ok(PurgeEnd::Planned(plan)) = purge(&t, "app", both, true) else { panic!() };
    assert!(plan.is_live() && plan.files.len() == 8, "what else is there is live: {:?}", plan.files);
    assert_eq!(refused(&t, "app/.env", &["mon"]), [other("", "tue", "app/.env")]);
    for name in ["app/.env", "app/key.pem", "app/link"] {
        purged(&t, name, &["mon", "tue", "wed"], false);
    }
    assert!(!has_secret(&sim));
    let t = again(t, &sim);
    for snapshot in both {
        is_gone(read(&t, snapshot, "app/.env"));
        is_gone(read(&t, snapshot, "app/key.pem"));
        let dir = t.find(t.find(SNAPDIR, snapshot).unwrap(), "app").unwrap();
        assert!(t.fs.readlink(t.find(dir, "link").unwrap()).is_err());
        assert_eq!(read(&t, snapshot, "app/note").unwrap(), b"not secret");
        assert_eq!(t.attr(t.find(dir, "key.pem").unwrap()).size, 300 << 10);
        assert!(t.list(dir).contains(&".env".to_string()));
        let root = t.find(SNAPDIR, snapshot).unwrap();
        assert!(t.fs.getxattr(root, b"user.snapfs.edited").is_ok());
        let info = t.fs.volume().find_snapshot(LineId::MAIN, snapshot.as_bytes()).unwrap();
        assert!(matches!(t.fs.digest_of(&info), Err(StreamError::Refused(_))));
    }
    assert!(t.fs.getxattr(t.find(SNAPDIR, "wed").unwrap(), b"user.snapfs.edited").is_err());
    let Ok(PurgeEnd::Purged(plan, _)) = purge(&t, "app/.env", both, false) else { panic!() };
    assert!(plan.is_empty(), "there is nothing left");
    t.prove();
    // They go like any snapshot.
    for name in ["tue", "mon", "wed"] {
        t.fs.rmdir(&USER, SNAPDIR, name.as_bytes()).unwrap();
        (0..4).for_each(|_| t.fs.commit().unwrap());
        t.prove();
    }
}

#[test]
fn whoever_shares_it_is_named_and_loses_it_only_if_told() {
    let (sim, t) = store();
    t.compress(ROOT, "zstd");
    let text: Vec<u8> = secret(200 << 10);
    let file = t.put(ROOT, "packed", &text);
    t.put(ROOT, "small", SECRET);
    t.fs.commit().unwrap();
    t.fs.link(&USER, t.find(ROOT, "small").unwrap(), ROOT, b"hard").unwrap();
    // A frame that three files have pieces of.
    let from = t.open(file, RO);
    for name in ["copy", "copy2"] {
        let to = t.create(ROOT, name);
        assert_eq!(t.fs.copy_range(&USER, from.0, from.1, 8192, to.0, to.1, 0, 40960), Ok(40960));
        t.fs.release(to.0, to.1);
    }
    t.fs.release(from.0, from.1);
    t.snapshot("s");
    t.mkdir(CLONEDIR, "c").unwrap();
    remove(&t, ROOT, "packed");
    remove(&t, ROOT, "copy2");
    t.fs.commit().unwrap();
    let in_snapshot: Vec<_> = refused(&t, "packed", &["s"]);
    assert!(
        in_snapshot.contains(&other("", "s", "copy")) && in_snapshot.contains(&other("", "@live", "copy"))
    );
    assert!(in_snapshot.contains(&other("c", "@live", "packed")), "{in_snapshot:?}");
    let others = refused(&t, "small", &["s"]);
    assert!(
        others.contains(&other("", "s", "hard")) && others.contains(&other("", "@live", "hard"))
            || others.contains(&other("", "@live", "small")),
        "{others:?}"
    );
    assert_eq!(t.cat(ROOT, "copy").len(), 40960, "nothing was done");
    // What is live stays as it is, whatever is asked for.
    for name in ["packed", "small"] {
        let end = purge(&t, name, &["s"], true);
        assert!(matches!(&end, Ok(PurgeEnd::Planned(plan)) if plan.is_live()), "{name}");
    }
    assert_eq!(t.cat(ROOT, "small"), SECRET);
    for name in ["copy", "small", "hard"] {
        remove(&t, ROOT, name);
    }
    t.fs.rmdir(&USER, CLONEDIR, b"c").unwrap();
    (0..4).for_each(|_| t.fs.commit().unwrap());
    purged(&t, "packed", &["s"], true);
    purged(&t, "small", &["s"], true);
    for name in ["packed", "copy", "copy2", "small", "hard"] {
        is_gone(read(&t, "s", name));
    }
    assert!(!has_secret(&sim));
    // A file of one zero byte is no such thing, and neither is another file of the same number.
    t.put(ROOT, "nul", b"\0");
    t.fs.commit().unwrap();
    let t = again(t, &sim);
    assert_eq!(t.cat(ROOT, "nul"), b"\0");
    t.fs.rmdir(&USER, SNAPDIR, b"s").unwrap();
    (0..6).for_each(|_| t.fs.commit().unwrap());
    t.prove();
}

/// Small files, so many that their leaves are more than one commit takes.
pub(super) fn put_keys(t: &T, dir: NodeId, content: &[u8]) -> Vec<String> {
    let names: Vec<String> = (0..40).map(|n| format!("key{n}")).collect();
    for name in &names {
        t.put(dir, name, content);
    }
    names
}

/// A leaf that only the live tree had, with the secret, was freed and is read by somebody when the purge is made.
#[test]
fn what_is_being_read_goes_when_nobody_reads_it_any_more() {
    let (sim, t) = store();
    t.put(ROOT, "small", SECRET);
    t.snapshot("s");
    t.put(ROOT, "neighbour", b"x");
    t.fs.commit().unwrap();
    let reader = t.fs.volume().live(LineId::MAIN).unwrap();
    remove(&t, ROOT, "small");
    t.fs.commit().unwrap();
    let Ok(PurgeEnd::Purged(_, wiped)) = purge(&t, "small", &["s"], false) else { panic!() };
    assert!(wiped.held_up > 0 && !wiped.is_all(), "{wiped:?}");
    is_gone(read(&t, "s", "small"));
    assert!(has_secret(&sim) && t.fs.volume().has_purged_left() && !t.fs.purge_goes_on());
    // To run it again is to look again, and changes nothing of that.
    let Ok(PurgeEnd::Purged(_, wiped)) = purge(&t, "small", &["s"], false) else { panic!() };
    assert!(!wiped.is_all() && !t.fs.purge_goes_on());
    drop(reader);
    (0..2).for_each(|_| t.fs.commit().unwrap());
    assert!(t.fs.purge_goes_on());
    t.fs.go_on_purging(&mut |_| true).unwrap();
    assert!(!has_secret(&sim) && !t.fs.volume().has_purged_left());
    // After a crash it is not known who read, and it is done anew.
    t.put(ROOT, "other", SECRET);
    t.snapshot("t");
    remove(&t, ROOT, "other");
    t.fs.commit().unwrap();
    let reader = t.fs.volume().live(LineId::MAIN).unwrap();
    t.put(ROOT, "neighbour", b"y");
    let Ok(PurgeEnd::Purged(_, wiped)) = purge(&t, "other", &["t"], false) else { panic!() };
    assert!(!wiped.is_all());
    drop(reader);
    let t = again(t, &sim);
    assert!(t.fs.purge_goes_on());
    t.fs.go_on_purging(&mut |_| true).unwrap();
    assert!(!has_secret(&sim) && !t.fs.volume().has_purged_left());
    t.prove();
}

fn send(t: &T, name: &str) -> std::result::Result<(), StreamError> {
    let snapshot = t.fs.volume().find_snapshot(LineId::MAIN, name.as_bytes()).unwrap();
    let order = SendOrder { snapshot: &snapshot, base: None, gone: None, resume: None };
    t.fs.send(&order, &mut Vec::new(), &mut |_| true).map(drop)
}

/// A clone of a snapshot that lost content, and the line that was taken back to it: nothing of that reads as zeros or is sent.
#[test]
fn what_is_made_from_what_lacks_content_lacks_it_as_well() {
    let (sim, t) = store();
    t.compress(ROOT, "zstd");
    t.put(ROOT, "packed", &secret(120 << 10));
    t.put(ROOT, "small", SECRET);
    t.put(ROOT, "other", b"stays");
    t.snapshot("s");
    ["packed", "small"].iter().for_each(|name| remove(&t, ROOT, name));
    t.fs.commit().unwrap();
    purged(&t, "packed", &["s"], false);
    purged(&t, "small", &["s"], false);
    assert!(!has_secret(&sim));
    let clone = t.fs.create_line(b"c", views(&t, &["s"])[0]).unwrap();
    let packed = t.find(clone, "packed").unwrap();
    let file = t.open(packed, RW);
    let purged = |done: Result<()>| {
        assert!(matches!(&done, Err(Error::Io(what)) if what.contains("purged")), "{done:?}")
    };
    // Within a frame of which nothing is left there can be no change that leaves a piece on each side.
    purged(t.fs.write(file.0, file.1, 32 << 10, &[1; 8192], false).map(drop));
    purged(t.fs.fallocate(&USER, file.0, file.1, 32 << 10, 8192, AllocateMode::PunchHole));
    purged(t.fs.fallocate(&USER, file.0, file.1, 32 << 10, 8192, AllocateMode::ZeroRange));
    let from = t.open(t.put(clone, "source", &[7; 16384]), RO);
    t.fs.commit().unwrap();
    let copied = t.fs.copy_range(&USER, from.0, from.1, 0, file.0, file.1, 64 << 10, 16384);
    purged(copied.map(drop));
    t.fs.release(from.0, from.1);
    // From its beginning on there can.
    t.write(file, 0, &[2; 16384]);
    t.fs.commit().unwrap();
    t.prove();
    assert_eq!(t.read(file, 0, 16384), [2; 16384]);
    let mut out = vec![0; 4096];
    for at in [16 << 10, 64 << 10, 116 << 10] {
        assert!(t.fs.read(file.0, file.1, at, &mut out).is_err(), "{at}: no zeros");
    }
    t.resize(packed, 16384);
    t.fs.release(file.0, file.1);
    t.fs.commit().unwrap();
    t.prove();
    // The line is taken back, and goes on.
    let to = t.fs.snapshot_of_word(ROOT, b"s").unwrap();
    let back = t.fs.rollback(ROOT, &to, OpenForWriting::CutOff, &Reason::Rollback.into());
    assert!(matches!(back, Ok(Switched::Done(_))));
    is_gone(read_node(&t, t.find(ROOT, "small").unwrap()));
    t.put(ROOT, "new", b"new");
    t.snapshot("later");
    let info = t.fs.volume().find_snapshot(LineId::MAIN, b"later").unwrap();
    assert!(info.edited.is_some());
    assert!(matches!(send(&t, "later"), Err(StreamError::Refused(what)) if what.contains("purged")));
    assert!(t.fs.digest_of(&info).is_err());
    ["packed", "small"].iter().for_each(|name| remove(&t, ROOT, name));
    // Neither of them is brought back as what it is not.
    for name in ["packed", "small"] {
        let below = vec![name.as_bytes().to_vec()];
        let path = NamedPath { at: ROOT, below, name: name.as_bytes().to_vec() };
        let order = RestoreOrder { paths: vec![path], from: Some(b"s".to_vec()), to: None };
        assert!(t.fs.restore(&order, &Reason::Restore.into()).is_err());
        assert!(t.find(ROOT, name).is_err(), "{name}");
    }
    t.snapshot("clean");
    send(&t, "clean").unwrap();
    let t = again(t, &sim);
    assert!(send(&t, "later").is_err());
    send(&t, "clean").unwrap();
    t.prove();
}

/// A line that is frozen is as it was, and nothing of a purge waits for its thaw.
#[test]
fn a_frozen_line_is_left_as_it_is() {
    let (sim, t) = store();
    t.put(ROOT, "key", &secret(64 << 10));
    t.put(ROOT, "open", b"live");
    t.snapshot("s");
    remove(&t, ROOT, "key");
    let order = FreezeOrder {
        at: ROOT,
        all: true,
        timeout: std::time::Duration::from_secs(3600),
        by: Reason::User.into(),
    };
    assert!(matches!(t.fs.freeze(&order), Ok(FreezeDone::Frozen(_))));
    let before = t.fs.volume().live(LineId::MAIN).unwrap();
    purged(&t, "key", &["s"], false);
    assert!(t.fs.volume().live(LineId::MAIN).unwrap().is_same_tree(&before));
    drop(before);
    assert!(matches!(t.fs.thaw(ROOT, &[]), Ok(ThawDone::Thawed(_))));
    (0..2).for_each(|_| t.fs.commit().unwrap());
    t.fs.go_on_purging(&mut |_| true).unwrap();
    assert!(!has_secret(&sim));
}

/// A point of the trip wire that somebody looks at while it is purged does not become a snapshot with what was purged.
#[test]
fn a_point_from_before_a_purge_becomes_no_snapshot() {
    let sim = Arc::new(Sim::with_fresh_content(SIZE, 1, 0));
    let options = FsOptions { tripwire: true, ..FsOptions::default() };
    let t = T::on(Volume::made_on(sim.clone()), options);
    let names = put_keys(&t, ROOT, SECRET);
    t.snapshot("s");
    t.put(ROOT, "more", b"x");
    t.clock.advance(61_000_000_000);
    t.fs.tend_tripwire();
    let point = t.head().tripwire.newest().unwrap().view;
    names.iter().for_each(|name| remove(&t, ROOT, name));
    for name in &names {
        assert!(matches!(purge(&t, name, &["s"], false), Ok(PurgeEnd::Purged(..))));
    }
    // Whoever looks at it finds nothing there either.
    let ino = Items::find_name(&*point, crate::format::Ino::ROOT, names[0].as_bytes()).unwrap().unwrap().ino;
    assert!(Items::inline(&*point, ino).is_err());
    assert!(!has_secret(&sim) && !t.fs.volume().has_purged_left());
    t.fs.tend_tripwire();
    assert_eq!(t.list(SNAPDIR), ["s"], "the trip wire has let go of it");
    drop(point);
    (0..3).for_each(|_| t.fs.commit().unwrap());
    t.prove();
}

/// What is deleted and open is told.
#[test]
fn what_is_open_without_a_name_is_told() {
    let (_, t) = store();
    let node = t.put(ROOT, "key", SECRET);
    t.snapshot("s");
    let open = t.open(node, RO);
    t.fs.unlink(&USER, ROOT, b"key").unwrap();
    let Ok(PurgeEnd::Planned(plan)) = purge(&t, "key", &["s"], true) else { panic!() };
    let told: Vec<NodeId> = plan.open.iter().map(|open| open.node).collect();
    assert!(plan.is_live() && plan.others.is_empty() && told == [node]);
    t.fs.release(open.0, open.1);
    t.fs.forget(node);
    purged(&t, "key", &["s"], true);
}

#[test]
fn a_directory_goes_with_all_files_below_it() {
    let (sim, t) = store();
    let keys = t.mkdir(ROOT, "keys").unwrap();
    let sub = t.mkdir(keys, "sub").unwrap();
    t.put(keys, "a", SECRET);
    t.put(sub, "b", &secret(100 << 10));
    t.fs.symlink(&USER, sub, b"link", SECRET).unwrap();
    t.fs.mknod(&USER, keys, b"pipe", FileType::Fifo, 0o600, 0).unwrap();
    t.put(ROOT, "keysnot", b"stays");
    t.fs.link(&USER, t.find(keys, "a").unwrap(), sub, b"a2").unwrap();
    t.snapshot("one");
    t.put(keys, "c", &secret(64 << 10));
    t.fs.link(&USER, t.find(keys, "c").unwrap(), ROOT, b"out").unwrap();
    t.snapshot("two");
    for (dir, name) in [(keys, "a"), (sub, "a2"), (sub, "b"), (sub, "link"), (keys, "c"), (ROOT, "out")] {
        remove(&t, dir, name);
    }
    t.fs.commit().unwrap();
    assert_eq!(refused(&t, "keys", &["one", "two"]), [other("", "two", "out")]);
    let Ok(PurgeEnd::Planned(plan)) = purge(&t, "keys/sub", &["two"], false) else { panic!() };
    let told: Vec<&[u8]> = plan.files.iter().map(|file| &file[..]).collect();
    assert_eq!(told, [&b"keys/sub/a2"[..], b"keys/sub/b", b"keys/sub/link"]);
    let Ok(PurgeEnd::Purged(plan, _)) = purge(&t, "keys", &["one", "two"], true) else { panic!() };
    let files: Vec<u64> = plan.found.iter().map(|found| found.files).collect();
    assert_eq!((files, plan.files.len()), (vec![4, 5], 5));
    for file in ["keys/a", "keys/sub/b", "keys/sub/a2"] {
        is_gone(read(&t, "one", file));
        is_gone(read(&t, "two", file));
    }
    is_gone(read(&t, "two", "out"));
    assert_eq!(read(&t, "two", "keysnot").unwrap(), b"stays");
    assert!(!has_secret(&sim));
    assert!(matches!(purge(&t, "keys/pipe", &["one"], false), Err(Error::NotSupported)));
    t.prove();
}

/// Nothing changes by a purge that is not carried out: it was only asked for, or others have some of it.
#[test]
fn what_is_only_planned_changes_nothing() {
    let t = T::with(SIZE, FsOptions { tripwire: true, ..FsOptions::default() });
    t.put(ROOT, "key", &secret(64 << 10));
    t.snapshot("s");
    t.snapshot("also");
    remove(&t, ROOT, "key");
    t.fs.commit().unwrap();
    t.fs.tend_tripwire();
    let point = || t.fs.tripwire_state().unwrap().unwrap().point;
    let before = point();
    assert!(before.is_some());
    let (path, snapshots) = (b"key".to_vec(), views(&t, &["s"]));
    for all in [false, true] {
        let asked = PurgeAsked { path: path.clone(), snapshots: snapshots.clone(), all, dry_run: true };
        let Ok(PurgeEnd::Planned(plan)) = t.fs.purge(&asked) else { panic!() };
        assert_eq!((plan.others.len(), point()), (1, before));
    }
    assert_eq!((refused(&t, "key", &["s"]).len(), point()), (1, before));
    purged(&t, "key", &["s", "also"], false);
    is_gone(read(&t, "s", "key"));
    assert!(point().is_none(), "what the point has would be read");
}
