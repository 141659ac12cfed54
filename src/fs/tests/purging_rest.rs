//! Purges that were cut off, that wait, and that are to end: what is left of them goes on.

use super::purging::*;
use super::*;
use crate::device::Sim;
use crate::format::LineId;
use crate::fs::{HoldTerms, PurgeEnd, Reason};

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

/// A snapshot "two" has the same content in leaves of its own; then it is removed.
fn go_with_second_snapshot(t: &T, dir: NodeId, names: &[String]) {
    for name in names {
        let node = t.find(dir, name).unwrap();
        t.fs.setxattr(&USER, node, b"user.a", b"1", XattrMode::Set).unwrap();
    }
    t.snapshot("two");
    names.iter().for_each(|name| remove(t, dir, name));
    t.fs.commit().unwrap();
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
        go_with_second_snapshot(&t, dir, &names);
        sim.set_crash_at(sim.changes() + at);
        let is_done = matches!(purge(&t, "keys", &["one"], true), Ok(PurgeEnd::Purged(..)));
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
        let end = purge(&t, "keys", &["s"], all);
        assert!(!matches!(end, Ok(PurgeEnd::Purged(..))), "it was never cut off");
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

/// A kernel that notes what it is told to drop, and does something then.
pub(super) struct Dropping {
    pub(super) told: parking_lot::Mutex<std::collections::BTreeSet<NodeId>>,
    does: Box<dyn Fn() + Send + Sync>,
}

impl Dropping {
    pub(super) fn of(t: &T, does: impl Fn() + Send + Sync + 'static) -> Arc<Dropping> {
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
pub(super) fn with_keys() -> (Arc<Sim>, T, Vec<String>) {
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
    assert_eq!(stopped(purge(&t, "keys", &["s"], false)), Some(Error::Busy));
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
        let is_done = matches!(purge(&t, "keys", &["s"], false), Ok(PurgeEnd::Purged(..)));
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
    go_with_second_snapshot(&t, dir, &names);
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

/// Small files in more leaves than one commit takes, and a large one, in the snapshot `s` alone. Nothing else has the secret.
pub(super) fn with_secrets() -> (Arc<Sim>, T) {
    let (sim, t) = store();
    let dir = t.mkdir(ROOT, "keys").unwrap();
    let names = put_keys(&t, dir, &secret(2000));
    t.put(ROOT, "large", &secret(4 << 20));
    t.snapshot("s");
    names.iter().for_each(|name| remove(&t, dir, name));
    remove(&t, ROOT, "large");
    t.fs.commit().unwrap();
    (sim, t)
}

/// Which of the files of [`with_secrets`] have lost their content. None has lost a part.
pub(super) fn lost(t: &T) -> Vec<bool> {
    let small = (0..40).map(|n| (format!("keys/key{n}"), secret(2000)));
    let has_lost = |(path, content): (String, Vec<u8>)| match read(t, "s", &path) {
        Ok(found) => {
            assert!(content.starts_with(&found) && !found.is_empty(), "{path}");
            false
        }
        gone => {
            is_gone(gone);
            true
        }
    };
    small.chain([("large".to_string(), secret(4 << 20))]).map(has_lost).collect()
}

/// Whoever closes the store has purges end within a step, of which what is done is told, and the next mount does the rest.
#[test]
fn a_purge_ends_when_the_store_is_about_to_be_closed() {
    for path in ["keys", "large"] {
        let (sim, t) = with_secrets();
        let (fs, is_told) = (t.fs.clone(), std::sync::atomic::AtomicBool::new(false));
        Dropping::of(&t, move || {
            if !is_told.swap(true, std::sync::atomic::Ordering::SeqCst) {
                fs.end_purges();
            }
        });
        let end = stopped(purge(&t, path, &["s"], false));
        assert!(matches!(&end, Some(Error::Io(what)) if what.contains("closed")), "{path}: {end:?}");
        let done = lost(&t);
        assert!(done.contains(&true) && done.contains(&false) && has_secret(&sim), "{path}");
        assert!(t.fs.volume().has_purged_left());
        let (before, other) = (t.fs.volume().io(), if path == "keys" { "large" } else { "keys" });
        assert!(matches!(purge(&t, other, &["s"], false), Err(Error::Io(_))), "nothing is begun any more");
        assert_eq!(t.fs.volume().io().written_bytes, before.written_bytes);
        t.fs.set_kernel(Arc::new(Dropping { told: Default::default(), does: Box::new(|| ()) }));
        let t = again(t, &sim);
        assert_eq!(lost(&t), done);
        t.fs.go_on_purging(&mut |_| true).unwrap();
        assert!(!t.fs.volume().has_purged_left());
        purged(&t, other, &["s"], false);
        assert!(lost(&t).iter().all(|lost| *lost) && !has_secret(&sim));
    }
}
