//! Purges of paths: what goes, who else has it, what is refused, and what is left on the device.

use super::*;
use crate::device::Sim;
use crate::format::LineId;
use crate::format::ViewId;
use crate::format::purge::PurgeRest;
use crate::fs::items::Items;
use crate::fs::{
    FreezeDone, FreezeOrder, HasToo, HoldTerms, NamedPath, OpenForWriting, Provenance, PurgeAsked, PurgeEnd,
    Reason, RestoreOrder, SendOrder, StreamError, Switched, ThawDone,
};
use crate::volume::purge::PurgeOrder;

pub(super) const SECRET: &[u8; 16] = b"s3cr3t-0123-key!";
pub(super) const SIZE: u64 = 64 << 20;
pub(super) const CLONEDIR: NodeId = NodeId::clonedir(0);

fn store() -> (Arc<Sim>, T) {
    let sim = Arc::new(Sim::with_fresh_content(SIZE, 1, 0));
    let t = T::on(Volume::made_on(sim.clone()), FsOptions::default());
    (sim, t)
}

/// More than fits into a leaf, and not the same in any two blocks.
fn secret(len: usize) -> Vec<u8> {
    let line = |n: usize| [&SECRET[..], format!("{n:016}").as_bytes()].concat();
    (0..len / 32).flat_map(line).collect()
}

fn has_secret(sim: &Sim) -> bool {
    let zeros = vec![0; 4096];
    (0..SIZE).step_by(1 << 20).any(|at| {
        let bytes = sim.peek(at, 1 << 20);
        let mut blocks = bytes.chunks(4096).filter(|block| **block != zeros[..]);
        blocks.any(|block| block.windows(16).any(|found| found == SECRET))
    })
}

fn opened(sim: Arc<Sim>) -> Arc<Volume> {
    let options =
        crate::volume::OpenOptions { access: crate::volume::Access::ReadWrite, cache_bytes: 1 << 20 };
    Volume::open(sim, options).unwrap()
}

fn views(t: &T, names: &[&str]) -> Vec<ViewId> {
    let find = |name: &&str| t.fs.volume().find_snapshot(LineId::MAIN, name.as_bytes()).unwrap().id;
    names.iter().map(find).collect()
}

fn purge(t: &T, path: &str, names: &[&str], all: bool) -> Result<PurgeEnd> {
    let (path, snapshots) = (path.as_bytes().to_vec(), views(t, names));
    t.fs.purge(&PurgeAsked { path, snapshots, all, dry_run: false })
}

fn purged(t: &T, path: &str, names: &[&str], all: bool) {
    let end = purge(t, path, names, all);
    let told = end.as_ref().err();
    assert!(matches!(end, Ok(PurgeEnd::Purged(..))), "{path}: {told:?}");
    t.prove();
}

/// Who has it too, as line, snapshot and path.
fn refused(t: &T, path: &str, names: &[&str]) -> Vec<(String, String, String)> {
    let Ok(PurgeEnd::Planned(plan)) = purge(t, path, names, false) else { panic!("{path} is not refused") };
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let told = |other: &HasToo| {
        let snapshot = other.snapshot.as_ref().map_or("@live".into(), |name| text(name));
        let snapshot = if other.in_trash { format!("trash {snapshot}") } else { snapshot };
        (text(&other.line), snapshot, text(&other.path))
    };
    plan.others.iter().map(told).collect()
}

fn other(line: &str, snapshot: &str, path: &str) -> (String, String, String) {
    (line.into(), snapshot.into(), path.into())
}

fn read(t: &T, snapshot: &str, path: &str) -> Result<Vec<u8>> {
    let mut at = t.find(SNAPDIR, snapshot).unwrap();
    for name in path.split('/') {
        at = t.find(at, name)?;
    }
    read_node(t, at)
}

fn read_node(t: &T, node: NodeId) -> Result<Vec<u8>> {
    let handle = t.fs.open(&USER, node, RO)?;
    let mut out = vec![0; 1 << 20];
    let read = t.fs.read(node, handle, 0, &mut out);
    t.fs.release(node, handle);
    out.truncate(read?);
    Ok(out)
}

fn is_gone(read: Result<Vec<u8>>) {
    assert!(matches!(&read, Err(Error::Io(what)) if what.contains("purged")), "{read:?}");
}

/// The kernel forgets what has no name and is not open.
pub(super) fn remove(t: &T, dir: NodeId, name: &str) {
    let node = t.find(dir, name).unwrap();
    t.fs.unlink(&USER, dir, name.as_bytes()).unwrap();
    t.fs.forget(node);
}

/// Whoever reopens it finds the same.
fn again(t: T, sim: &Arc<Sim>) -> T {
    t.fs.close().unwrap();
    drop(t);
    let options =
        crate::volume::OpenOptions { access: crate::volume::Access::ReadWrite, cache_bytes: 1 << 20 };
    T::on(Volume::open(sim.clone(), options).unwrap(), FsOptions::default())
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

/// What a power cut leaves of a purge goes on when the store is opened.
#[test]
fn a_purge_that_was_cut_off_goes_on() {
    for at in [40, 55, 70, 90] {
        let (sim, t) = store();
        t.put(ROOT, "key", &secret(64 << 10));
        t.snapshot("s");
        remove(&t, ROOT, "key");
        t.fs.commit().unwrap();
        sim.set_crash_at(sim.changes() + at);
        let _ = purge(&t, "key", &["s"], false);
        drop(t);
        let after = Arc::new(sim.crash(crate::device::CrashPolicy::Random(at)));
        let options =
            crate::volume::OpenOptions { access: crate::volume::Access::ReadWrite, cache_bytes: 1 << 20 };
        let t = T::on(Volume::open(after.clone(), options).unwrap(), FsOptions::default());
        if t.fs.volume().has_purged_left() {
            is_gone(read(&t, "s", "key"));
            t.fs.go_on_purging(&mut |_| true).unwrap();
        }
        if t.fs.volume().find_snapshot(LineId::MAIN, b"s").unwrap().edited.is_some() {
            is_gone(read(&t, "s", "key"));
            assert!(!has_secret(&after) && !t.fs.volume().has_purged_left());
        }
        t.prove();
    }
}

/// Small files, so many that their leaves are more than one commit takes.
fn put_keys(t: &T, dir: NodeId, content: &[u8]) -> Vec<String> {
    let names: Vec<String> = (0..40).map(|n| format!("key{n}")).collect();
    for name in &names {
        t.put(dir, name, content);
    }
    names
}

/// What is more than one commit takes is planned anew, and nothing has to be asked for twice: neither what is under the path, nor what
/// others have of it.
#[test]
fn a_purge_of_many_small_files_that_was_cut_off_goes_on() {
    let (mut cut, mut at) = (0, 30);
    loop {
        let (sim, t) = store();
        let dir = t.mkdir(ROOT, "keys").unwrap();
        let names = put_keys(&t, dir, &secret(2000));
        t.snapshot("one");
        // The same content in leaves of its own.
        for name in &names {
            let node = t.find(dir, name).unwrap();
            t.fs.setxattr(&USER, node, b"user.a", b"1", XattrMode::Set).unwrap();
        }
        t.snapshot("two");
        names.iter().for_each(|name| remove(&t, dir, name));
        t.fs.commit().unwrap();
        sim.set_crash_at(sim.changes() + at);
        let is_done = purge(&t, "keys", &["one"], true).is_ok();
        drop(t);
        let after = Arc::new(sim.crash(crate::device::CrashPolicy::Random(at)));
        let options =
            crate::volume::OpenOptions { access: crate::volume::Access::ReadWrite, cache_bytes: 1 << 20 };
        let t = T::on(Volume::open(after.clone(), options).unwrap(), FsOptions::default());
        let edited = t.fs.volume().find_snapshot(LineId::MAIN, b"one").unwrap().edited;
        cut += u32::from(t.fs.volume().purge_rest().is_some());
        t.fs.go_on_purging(&mut |_| true).unwrap();
        if edited.is_some() {
            assert!(!has_secret(&after) && !t.fs.volume().has_purged_left(), "cut at {at}");
            for snapshot in ["one", "two"] {
                names.iter().for_each(|name| is_gone(read(&t, snapshot, &format!("keys/{name}"))));
            }
        }
        t.prove();
        if is_done {
            break;
        }
        at += 17;
    }
    assert!(cut > 3, "{cut}");
}

/// What is left of a purge waits until nobody holds it.
#[test]
fn what_is_left_of_a_purge_waits_for_a_hold() {
    let (sim, t) = store();
    let dir = t.mkdir(ROOT, "keys").unwrap();
    let names = put_keys(&t, dir, &secret(2000));
    t.snapshot("s");
    names.iter().for_each(|name| remove(&t, dir, name));
    t.fs.commit().unwrap();
    let t = cut_with_rest(t, &sim);
    let (volume, view) = (t.fs.volume(), views(&t, &["s"])[0]);
    let terms = HoldTerms { tag: "t", after: None };
    t.fs.hold_snapshot(ROOT, view, &terms, &Reason::User.into()).unwrap();
    assert!(matches!(t.fs.go_on_purging(&mut |_| true), Err(Error::Busy)) && volume.has_purged_left());
    t.fs.release_snapshot(ROOT, view, "t").unwrap();
    t.fs.go_on_purging(&mut |_| true).unwrap();
    assert!(!volume.has_purged_left());
    // Nothing of it is left either if the snapshots are gone.
    let (sim, t) = store();
    t.put(ROOT, "other", b"x");
    let dir = t.mkdir(ROOT, "keys").unwrap();
    put_keys(&t, dir, &secret(2000));
    t.snapshot("s");
    names.iter().for_each(|name| remove(&t, dir, name));
    t.fs.commit().unwrap();
    let t = cut_with_rest(t, &sim);
    t.fs.rmdir(&USER, SNAPDIR, b"s").unwrap();
    t.fs.go_on_purging(&mut |_| true).unwrap();
    assert!(!t.fs.volume().has_purged_left());
    t.prove();
}

/// The purge of `keys` is cut off where some is left that is planned anew.
fn cut_with_rest(t: T, sim: &Arc<Sim>) -> T {
    cut_with_rest_of(t, sim, false)
}

/// The same; with what others have of it.
fn cut_with_rest_of(t: T, sim: &Arc<Sim>, all: bool) -> T {
    let image = sim.clone_image();
    drop(t);
    for at in (30..).step_by(5) {
        let sim = Arc::new(image.clone_image());
        let t = T::on(opened(sim.clone()), FsOptions::default());
        sim.set_crash_at(sim.changes() + at);
        assert!(purge(&t, "keys", &["s"], all).is_err(), "it was never cut off");
        drop(t);
        let cut = Arc::new(sim.crash(crate::device::CrashPolicy::Random(at)));
        let t = T::on(opened(cut), FsOptions::default());
        if t.fs.volume().purge_rest().is_some() {
            t.prove();
            return t;
        }
    }
    unreachable!()
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

fn with_trash() -> (Arc<Sim>, T) {
    let (sim, t) = store();
    t.fs.setxattr(&SUPER, ROOT, b"user.snapfs.trash", b"1h", XattrMode::Set).unwrap();
    (sim, t)
}

/// Snapshots in the trash are part of what is chosen or have it too, and what comes back lacks the content.
#[test]
fn nothing_of_a_secret_is_left_in_the_trash() {
    let (sim, t) = with_trash();
    t.put(ROOT, "small", SECRET);
    t.put(ROOT, "large", &secret(100 << 10));
    let made: Vec<&str> = vec!["mon", "tue", "wed"];
    for name in &made {
        t.snapshot(name);
        t.put(ROOT, name, b"x");
    }
    for name in ["small", "large"] {
        remove(&t, ROOT, name);
    }
    let all = views(&t, &made);
    for name in ["tue", "wed"] {
        t.fs.rmdir(&USER, SNAPDIR, name.as_bytes()).unwrap();
    }
    t.fs.commit().unwrap();
    let in_trash = |path: &str| ["tue", "wed"].map(|name| other("", &format!("trash {name}"), path));
    for path in ["small", "large"] {
        assert_eq!(refused(&t, path, &["mon"]), in_trash(path));
        let path = path.as_bytes().to_vec();
        let asked = PurgeAsked { path, snapshots: all.clone(), all: false, dry_run: false };
        let Ok(PurgeEnd::Purged(plan, wiped)) = t.fs.purge(&asked) else { panic!("{:?}", asked.path) };
        let found: Vec<bool> = plan.found.iter().map(|found| found.in_trash).collect();
        assert_eq!((found, wiped.is_all()), (vec![false, true, true], true));
        t.prove();
    }
    assert!(!has_secret(&sim));
    let t = again(t, &sim);
    for trash in t.fs.trash_of(ROOT).unwrap() {
        t.fs.undelete(&trash, &trash.name).unwrap();
    }
    for name in made {
        is_gone(read(&t, name, "small"));
        is_gone(read(&t, name, "large"));
        assert!(t.fs.volume().find_snapshot(LineId::MAIN, name.as_bytes()).unwrap().edited.is_some());
    }
    t.prove();
}

/// A clone in the trash is nobody's live tree: it loses what it has, with its snapshots, if that is wanted.
#[test]
fn a_clone_in_the_trash_loses_it_only_if_told() {
    let (sim, t) = with_trash();
    t.put(ROOT, "small", SECRET);
    t.put(ROOT, "large", &secret(100 << 10));
    t.snapshot("s");
    let clone = t.mkdir(CLONEDIR, "c").unwrap();
    t.put(clone, "own", b"own");
    t.mkdir(NodeId::snapdir(clone.slot(), clone.ino()), "inner").unwrap();
    for name in ["small", "large"] {
        remove(&t, ROOT, name);
    }
    t.fs.commit().unwrap();
    let Ok(PurgeEnd::Planned(plan)) = purge(&t, "small", &["s"], true) else { panic!() };
    assert!(plan.is_live(), "the clone is there");
    t.fs.rmdir(&USER, CLONEDIR, b"c").unwrap();
    for path in ["small", "large"] {
        let expected = ["trash @live", "trash inner"].map(|snapshot| other("c", snapshot, path));
        assert_eq!(refused(&t, path, &["s"]), expected);
        purged(&t, path, &["s"], true);
    }
    assert!(!has_secret(&sim));
    let t = again(t, &sim);
    let trash = t.fs.trash_of(ROOT).unwrap().remove(0);
    t.fs.undelete(&trash, b"c").unwrap();
    let clone = t.find(CLONEDIR, "c").unwrap();
    for name in ["small", "large"] {
        is_gone(read_node(&t, t.find(clone, name).unwrap()));
    }
    assert_eq!(t.cat(clone, "own"), b"own");
    t.put(clone, "new", b"new");
    t.fs.commit().unwrap();
    t.prove();
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

/// Whoever unmounts waits for one step of what goes on in the background, and the next mount does the rest.
#[test]
fn a_purge_that_goes_on_ends_within_a_step() {
    const STEP_BYTES: u64 = 1 << 20;
    let (sim, t) = store();
    for name in ["key", "other"] {
        t.put(ROOT, name, &secret(8 << 20));
    }
    t.put(ROOT, "small", SECRET);
    t.snapshot("s");
    ["key", "other", "small"].iter().for_each(|name| remove(&t, ROOT, name));
    t.fs.commit().unwrap();
    // All of it is held, and nothing written over yet.
    let mut image = None;
    for at in 1.. {
        let now = Arc::new(sim.crash(crate::device::CrashPolicy::KeepAll));
        let copy = T::on(opened(now.clone()), FsOptions::default());
        now.set_crash_at(now.changes() + at);
        let _ = purge(&copy, "key", &["s"], false);
        drop(copy);
        let cut = Arc::new(now.crash(crate::device::CrashPolicy::KeepAll));
        let copy = T::on(opened(cut.clone()), FsOptions::default());
        if copy.fs.volume().has_purged_left() {
            drop(copy);
            image = Some(cut);
            break;
        }
    }
    let sim = image.unwrap();
    let mut t = T::on(opened(sim.clone()), FsOptions::default());
    let mut mounts = 0;
    while t.fs.purge_goes_on() {
        let (before, mut steps) = (t.fs.volume().io(), 0);
        t.fs.go_on_purging(&mut |_| {
            steps += 1;
            steps <= 4 * mounts
        })
        .unwrap();
        let done = t.fs.volume().io();
        // So many steps, and the commits beside them.
        let limit = STEP_BYTES * (2 + 4 * mounts);
        assert!(done.written_bytes - before.written_bytes <= limit, "{mounts}: {before:?} {done:?}");
        is_gone(read(&t, "s", "key"));
        t = again(t, &sim);
        mounts += 1;
    }
    assert!(mounts > 2 && !t.fs.volume().has_purged_left(), "{mounts}");
    t.prove();
    let found = (0..SIZE).step_by(1 << 20).map(|at| sim.peek(at, 1 << 20));
    let blocks: usize =
        found.map(|b| b.chunks(4096).filter(|b| b.windows(16).any(|w| w == SECRET)).count()).sum();
    assert!(blocks <= 2100, "only the other file has its content: {blocks}");
}

/// What is in the trash is no live tree, and is not looked at.
#[test]
fn a_clone_in_the_trash_is_in_nobodys_way() {
    let (_, t) = store();
    t.fs.setxattr(&SUPER, ROOT, b"user.snapfs.trash", b"1h", XattrMode::Set).unwrap();
    t.put(ROOT, "key", &secret(64 << 10));
    t.put(ROOT, "small", SECRET);
    t.snapshot("s");
    let clone = t.mkdir(CLONEDIR, "c").unwrap();
    t.fs.create_snapshot_of(clone, b"own", Provenance::default()).unwrap();
    t.fs.create_clone(clone, b"heir", None, &Provenance::default()).unwrap();
    let heir = t.find(CLONEDIR, "heir").unwrap();
    for dir in [ROOT, heir] {
        ["key", "small"].iter().for_each(|name| remove(&t, dir, name));
    }
    t.fs.commit().unwrap();
    let Ok(PurgeEnd::Planned(plan)) = purge(&t, "key", &["s"], true) else { panic!() };
    assert!(plan.is_live(), "the clone has it");
    t.fs.rmdir(&SUPER, CLONEDIR, b"c").unwrap();
    // It is named, and is in nobody's way. What others show of it is theirs.
    assert_eq!(refused(&t, "key", &["s"]), [other("c", "trash @live", "key"), other("heir", "own", "key")]);
    for name in ["key", "small"] {
        purged(&t, name, &["s"], true);
        is_gone(read(&t, "s", name));
    }
    let trash = t.fs.trash_of(ROOT).unwrap().remove(0);
    t.fs.undelete(&trash, b"c").unwrap();
    let back = t.find(CLONEDIR, "c").unwrap();
    is_gone(read_node(&t, t.find(back, "key").unwrap()));
    remove(&t, back, "key");
    (0..3).for_each(|_| t.fs.commit().unwrap());
    t.prove();
}

/// A kernel that notes what it is told to drop, and does something then.
struct Dropping {
    told: parking_lot::Mutex<std::collections::BTreeSet<NodeId>>,
    does: Box<dyn Fn() + Send + Sync>,
}

impl Dropping {
    fn of(t: &T, does: impl Fn() + Send + Sync + 'static) -> Arc<Dropping> {
        let kernel = Arc::new(Dropping { told: Default::default(), does: Box::new(does) });
        t.fs.set_kernel(kernel.clone());
        kernel
    }
}

impl Kernel for Dropping {
    fn write_back(&self, _nodes: &[(NodeId, u64)]) -> std::io::Result<()> {
        Ok(())
    }
    fn invalidate_node(&self, _node: NodeId) {}
    fn invalidate_now(&self, node: NodeId) -> bool {
        self.told.lock().insert(node);
        (self.does)();
        true
    }
    fn invalidate_entry(&self, _parent: NodeId, _name: &[u8]) {}
}

/// A store with the secret in more leaves than one commit takes, in the snapshot `s` alone, and in a file that only the snapshot
/// `other` has.
fn with_keys() -> (Arc<Sim>, T, Vec<String>) {
    let (sim, t) = store();
    let dir = t.mkdir(ROOT, "keys").unwrap();
    let names = put_keys(&t, dir, &secret(2000));
    t.snapshot("s");
    names.iter().for_each(|name| remove(&t, dir, name));
    t.put(ROOT, "small", SECRET);
    let more = t.mkdir(ROOT, "more").unwrap();
    put_keys(&t, more, &secret(2000));
    t.snapshot("other");
    names.iter().for_each(|name| remove(&t, more, name));
    remove(&t, ROOT, "small");
    t.fs.commit().unwrap();
    (sim, t, names)
}

/// What a purge that was cut off has left to do is done before another begins, which would not leave it noted.
#[test]
fn another_purge_does_what_is_left_of_one_first() {
    let (sim, t, names) = with_keys();
    let t = cut_with_rest(t, &sim);
    let view = views(&t, &["s"])[0];
    let rest = t.fs.volume().purge_rest();
    t.fs.hold_snapshot(ROOT, view, &HoldTerms { tag: "t", after: None }, &Reason::User.into()).unwrap();
    // What leaves nothing to note is done beside it; what would is refused, and nothing of it is done.
    purged(&t, "small", &["other"], false);
    is_gone(read(&t, "other", "small"));
    let left = || names.iter().filter(|name| read(&t, "s", &format!("keys/{name}")).is_ok()).count();
    assert_eq!((left() > 0, t.fs.volume().purge_rest()), (true, rest.clone()));
    assert!(matches!(purge(&t, "more", &["other"], false), Err(Error::Busy)));
    assert!((0..40).all(|n| read(&t, "other", &format!("more/key{n}")).is_ok()));
    assert_eq!(t.fs.volume().purge_rest(), rest);
    t.fs.release_snapshot(ROOT, view, "t").unwrap();
    purged(&t, "more", &["other"], false);
    purged(&t, "small", &["other"], false);
    names.iter().for_each(|name| is_gone(read(&t, "s", &format!("keys/{name}"))));
    is_gone(read(&t, "other", "small"));
    assert!(!t.fs.volume().has_purged_left());
    // To ask for the same once more, or for more, is to go on with it.
    let (sim, t, names) = with_keys();
    let t = cut_with_rest(t, &sim);
    purged(&t, "keys", &["s", "other"], true);
    names.iter().for_each(|name| is_gone(read(&t, "s", &format!("keys/{name}"))));
    assert!(!t.fs.volume().has_purged_left());
}

/// Whoever holds a snapshot while it is purged keeps what is left of it, and the kernel has dropped what is gone.
#[test]
fn a_hold_amid_a_purge_keeps_the_rest() {
    let (_, t, names) = with_keys();
    let (volume, view) = (t.fs.volume().clone(), views(&t, &["s"])[0]);
    let kernel = Dropping::of(&t, move || {
        let age = volume.age();
        let by = Reason::User.into();
        let hold = crate::volume::NewHold { tag: "t", since_secs: 0, age, after: None, by: &by };
        let _ = volume.hold_snapshot(LineId::MAIN, view, &hold);
    });
    assert!(matches!(purge(&t, "keys", &["s"], false), Err(Error::Busy)));
    assert!(t.fs.volume().is_held(view) && t.fs.volume().purge_rest().is_some());
    assert!(kernel.told.lock().len() >= names.len());
    let left = names.iter().filter(|name| read(&t, "s", &format!("keys/{name}")).is_ok()).count();
    assert!(0 < left && left < names.len(), "{left}");
    t.prove();
    t.fs.set_kernel(Arc::new(Dropping { told: Default::default(), does: Box::new(|| ()) }));
    assert!(matches!(t.fs.go_on_purging(&mut |_| true), Err(Error::Busy)));
    t.fs.release_snapshot(ROOT, view, "t").unwrap();
    t.fs.go_on_purging(&mut |_| true).unwrap();
    names.iter().for_each(|name| is_gone(read(&t, "s", &format!("keys/{name}"))));
    assert!(!t.fs.volume().has_purged_left());
    t.prove();
}

/// The kernel drops what is gone also where the purge fails later.
#[test]
fn the_kernel_drops_what_is_gone_of_a_purge_that_fails() {
    let (sim, t, names) = with_keys();
    let image = sim.clone_image();
    drop(t);
    let mut failed = 0;
    for at in (30..).step_by(15) {
        let sim = Arc::new(image.clone_image());
        let t = T::on(opened(sim.clone()), FsOptions::default());
        let kernel = Dropping::of(&t, || ());
        sim.set_crash_at(sim.changes() + at);
        let is_done = purge(&t, "keys", &["s"], false).is_ok();
        let is_told = kernel.told.lock().len() >= names.len();
        failed += u32::from(!is_done && is_told && t.fs.volume().purge_rest().is_some());
        if is_done {
            break;
        }
    }
    assert!(failed > 0);
}

/// What others share is found from the chosen snapshots: these stay until all of it is gone.
#[test]
fn the_chosen_snapshots_stay_until_all_that_others_share_is_gone() {
    let (sim, t) = store();
    let dir = t.mkdir(ROOT, "keys").unwrap();
    let names = put_keys(&t, dir, &secret(2000));
    t.snapshot("s");
    for name in &names {
        let node = t.find(dir, name).unwrap();
        t.fs.setxattr(&USER, node, b"user.a", b"1", XattrMode::Set).unwrap();
    }
    t.snapshot("two");
    names.iter().for_each(|name| remove(&t, dir, name));
    t.fs.commit().unwrap();
    let t = cut_with_rest_of(t, &sim, true);
    let info = t.fs.volume().find_snapshot(LineId::MAIN, b"s").unwrap();
    assert_eq!(t.fs.rmdir(&USER, SNAPDIR, b"s"), Err(Error::Busy));
    assert!(t.fs.keeps_from_deletion(&info).is_some_and(|why| why.contains("purge")));
    // In the trash it is found as well, and stays there.
    t.fs.setxattr(&SUPER, ROOT, b"user.snapfs.trash", b"1h", XattrMode::Set).unwrap();
    t.fs.rmdir(&SUPER, SNAPDIR, b"s").unwrap();
    let trash = t.fs.trash_of(ROOT).unwrap().remove(0);
    assert_eq!(t.fs.empty_trash(trash.number), Err(Error::Busy));
    t.fs.go_on_purging(&mut |_| true).unwrap();
    names.iter().for_each(|name| is_gone(read(&t, "two", &format!("keys/{name}"))));
    assert!(!t.fs.volume().has_purged_left());
    t.fs.empty_trash(trash.number).unwrap();
    t.prove();
}

/// A purge that there is no room for has it made, as whoever writes.
#[test]
fn a_purge_has_room_made() {
    let t = super::room::scheduled(256 << 20, "every=1h keep=all", 40);
    let scheduled = t.fs.snapshots().len();
    let file = t.create(ROOT, "key");
    let (block, len) = (4096, 140 << 20);
    for at in (0..len).step_by(1 << 20) {
        t.write(file, at, &secret(1 << 20));
    }
    t.fs.commit().unwrap();
    // Many places, and all that is free between them is of use.
    for at in (0..len).step_by(5 * block) {
        t.fs.fallocate(&USER, file.0, file.1, at, 4 * block as u64, AllocateMode::PunchHole).unwrap();
    }
    t.fs.release(file.0, file.1);
    t.snapshot("s");
    remove(&t, ROOT, "key");
    (0..4).for_each(|_| t.fs.commit().unwrap());
    // As much as fits while nothing goes.
    let file = t.create(ROOT, "filler");
    let mut at = 0;
    for len in [1 << 20, 1 << 16] {
        while t.fs.write(file.0, file.1, at, &vec![at as u8 | 1; len], false).is_ok() {
            at += len as u64;
        }
        t.fs.commit().unwrap();
    }
    t.fs.release(file.0, file.1);
    assert_eq!(t.fs.snapshots().len(), scheduled + 1);
    purged(&t, "key", &["s"], false);
    assert!(t.fs.snapshots().len() <= scheduled, "room was made");
    is_gone(read(&t, "s", "key"));
}

/// Until nobody can write any more; what is left for those who may have more is in holes that no node fits into.
fn fill_but_for_holes(t: &T) {
    const BLOCK: u64 = 4096;
    let file = t.create(ROOT, "filler");
    let mut end = 0;
    for len in [1 << 20, 1 << 16, 1 << 12] {
        while t.fs.write(file.0, file.1, end, &vec![end as u8 | 1; len], false).is_ok() {
            end += len as u64;
        }
        t.fs.commit().unwrap();
    }
    for at in (0..end).step_by(2 * BLOCK as usize) {
        if at % (1 << 20) == 0 {
            t.fs.commit().unwrap();
        }
        let punch = || t.fs.fallocate(&USER, file.0, file.1, at, BLOCK, AllocateMode::PunchHole);
        if punch().is_err() {
            t.fs.commit().unwrap();
            if punch().is_err() {
                break;
            }
        }
    }
    t.fs.release(file.0, file.1);
    (0..4).for_each(|_| t.fs.commit().unwrap());
    let space = t.fs.volume().space();
    assert!(space.free > space.total / 20, "{space:?}");
}

/// A file with many places, in the snapshot `s` alone.
fn put_places(t: &T, len: u64) {
    let file = t.create(ROOT, "key");
    for at in (0..len).step_by(1 << 20) {
        t.write(file, at, &secret(1 << 20));
    }
    t.fs.commit().unwrap();
    for at in (0..len).step_by(8192) {
        t.fs.fallocate(&USER, file.0, file.1, at, 4096, AllocateMode::PunchHole).unwrap();
    }
    t.fs.release(file.0, file.1);
    t.snapshot("s");
    remove(t, ROOT, "key");
    (0..4).for_each(|_| t.fs.commit().unwrap());
}

/// Where no node fits into what is free, and nothing may go, fewer places are taken at once.
#[test]
fn a_purge_without_room_takes_less_at_once() {
    let sim = Arc::new(Sim::with_fresh_content(256 << 20, 1, 0));
    let t = T::on(Volume::made_on(sim.clone()), FsOptions::default());
    put_places(&t, 16 << 20);
    fill_but_for_holes(&t);
    let before = t.fs.volume().epoch();
    purged(&t, "key", &["s"], false);
    assert!(t.fs.volume().epoch().0 - before.0 > 10, "it takes several commits");
    is_gone(read(&t, "s", "key"));
    let found = |at: u64| sim.peek(at, 1 << 20).windows(16).step_by(16).any(|found| found == SECRET);
    assert!(!t.fs.volume().has_purged_left() && !(0..256).any(|n| found(n << 20)));
}

/// What goes on in the background has room made as well.
#[test]
fn what_is_left_of_a_purge_has_room_made() {
    let t = super::room::scheduled(256 << 20, "every=1h keep=all", 40);
    put_places(&t, 16 << 20);
    // All of it is left.
    let asked = Some(PurgeRest { path: b"key".to_vec(), views: views(&t, &["s"]), all: false });
    let order = PurgeOrder { asked, has_more: true, ..PurgeOrder::default() };
    t.fs.volume().order_purge(&t.fs.volume().hold_content(), order).unwrap();
    t.fs.commit().unwrap();
    fill_but_for_holes(&t);
    let before = t.fs.snapshots().len();
    // Whoever unmounts need not wait for it.
    assert_eq!(t.fs.go_on_purging(&mut |_| false), Ok(()));
    assert!(t.fs.volume().purge_rest().is_some() && t.fs.snapshots().len() == before);
    t.fs.go_on_purging(&mut |_| true).unwrap();
    assert!(!t.fs.volume().has_purged_left() && t.fs.snapshots().len() < before);
    is_gone(read(&t, "s", "key"));
    t.prove();
}
