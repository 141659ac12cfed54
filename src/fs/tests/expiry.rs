//! Clones that go by themselves, and how many there may be.

use super::*;
use crate::format::provenance::Provenance;
use parking_lot::Mutex;

const CLONEDIR: NodeId = NodeId::clonedir(0);
const SECOND: i64 = 1_000_000_000;
const HOUR: u64 = 3600;

fn make(t: &T, name: &str, expire: Option<u64>, idle: Option<u64>) {
    t.fs.create_clone(ROOT, name.as_bytes(), None, &Provenance::default()).unwrap();
    t.fs.end_clone(name.as_bytes(), expire, idle).unwrap();
}

/// So much time passes while the timer of the daemon runs.
fn pass(t: &T, seconds: u64) {
    for _ in 0..20 {
        t.clock.advance(seconds as i64 * SECOND / 20);
        t.fs.drop_ended_clones();
    }
}

fn set(t: &T, node: NodeId, name: &str, value: &str) -> Result<()> {
    t.fs.setxattr(&SUPER, node, name.as_bytes(), value.as_bytes(), XattrMode::Set)
}

#[test]
fn a_clone_goes_when_its_time_is_over() {
    let t = T::new();
    for (name, after) in [("minute", 60), ("week", 7 * 24 * HOUR)] {
        make(&t, name, Some(after), None);
    }
    t.mkdir(CLONEDIR, "stays").unwrap();
    pass(&t, 59);
    assert_eq!(t.list(CLONEDIR), ["minute", "week", "stays"]);
    pass(&t, 60);
    assert_eq!(t.list(CLONEDIR), ["week", "stays"]);
    let week = t.find(CLONEDIR, "week").unwrap();
    assert_eq!(t.fs.getxattr(week, b"user.snapfs.expire"), Ok(b"1w".to_vec()));
    // Another time is said, and then none.
    set(&t, week, "user.snapfs.expire", "2h").unwrap();
    pass(&t, HOUR);
    assert_eq!(t.list(CLONEDIR), ["week", "stays"]);
    set(&t, week, "user.snapfs.expire", "none").unwrap();
    pass(&t, 30 * 24 * HOUR);
    assert_eq!(t.list(CLONEDIR), ["week", "stays"]);
    for (node, name, value) in [
        (week, "expire", "soon"),
        (week, "clones_max", "3"),
        (ROOT, "expire", "1d"),
        (ROOT, "clones_max", "0"),
    ] {
        assert!(set(&t, node, &format!("user.snapfs.{name}"), value).is_err(), "{name}={value}");
    }
    t.fs.commit().unwrap();
    t.prove();
}

#[test]
fn nothing_goes_because_somebody_set_the_clock() {
    let t = T::new();
    make(&t, "week", Some(7 * 24 * HOUR), None);
    make(&t, "idle", None, Some(24 * HOUR));
    pass(&t, 600);
    // As a machine may start; and it is put right within the hour.
    t.clock.set(10 * 365 * 24 * 3600 * SECOND);
    pass(&t, HOUR - 60);
    assert_eq!(t.list(CLONEDIR), ["week", "idle"]);
    t.clock.set(-10 * 365 * 24 * 3600 * SECOND);
    pass(&t, 2 * HOUR);
    assert_eq!(t.list(CLONEDIR), ["week", "idle"]);
    // A store that was away for long: an hour of grace.
    let t = T::on(t.fs.volume().clone(), FsOptions::default());
    t.clock.set(30 * 24 * 3600 * SECOND);
    pass(&t, HOUR - 60);
    assert_eq!(t.list(CLONEDIR), ["week", "idle"]);
    pass(&t, 600);
    assert!(t.list(CLONEDIR).is_empty());
}

/// A kernel in which one path is mounted elsewhere.
#[derive(Default)]
struct Elsewhere(Mutex<Option<Vec<u8>>>);

/// Something that happens once.
type Once = Mutex<Option<Box<dyn FnOnce() + Send>>>;

/// A kernel whose programs do something while it is looked at whether a clone is in use, or before requests are kept off.
#[derive(Default)]
struct Meanwhile {
    /// When this path is looked at.
    looked_at: Mutex<Vec<u8>>,
    then: Once,
    before_quiet: Once,
}

impl Meanwhile {
    fn on(t: &T, path: &str) -> Arc<Meanwhile> {
        let kernel = Arc::new(Meanwhile::default());
        *kernel.looked_at.lock() = path.into();
        t.fs.set_kernel(kernel.clone());
        kernel
    }
}

fn happen(once: &Once) {
    let what = once.lock().take();
    what.into_iter().for_each(|what| what());
}

impl Kernel for Meanwhile {
    fn write_back(&self, _nodes: &[(NodeId, u64)]) -> std::io::Result<()> {
        Ok(())
    }
    fn invalidate_node(&self, _node: NodeId) {}
    fn invalidate_entry(&self, _parent: NodeId, _name: &[u8]) {}
    fn is_mounted(&self, path: &[u8]) -> bool {
        if *self.looked_at.lock() == path {
            happen(&self.then);
        }
        false
    }
    fn between_answers(&self, work: &mut dyn FnMut()) {
        happen(&self.before_quiet);
        work();
    }
}

impl Kernel for Elsewhere {
    fn write_back(&self, _nodes: &[(NodeId, u64)]) -> std::io::Result<()> {
        Ok(())
    }
    fn invalidate_node(&self, _node: NodeId) {}
    fn invalidate_entry(&self, _parent: NodeId, _name: &[u8]) {}
    fn is_mounted(&self, path: &[u8]) -> bool {
        self.0.lock().as_deref() == Some(path)
    }
}

#[test]
fn what_is_in_use_stays_until_it_is_not() {
    let t = T::new();
    let kernel = Arc::new(Elsewhere::default());
    t.fs.set_kernel(kernel.clone());
    t.put(ROOT, "f", b"f");
    for name in ["open", "mounted", "cloned", "read"] {
        make(&t, name, Some(60), None);
    }
    let root = |name| t.find(CLONEDIR, name).unwrap();
    let open = t.open(t.find(root("open"), "f").unwrap(), RO);
    *kernel.0.lock() = Some(b".clones/mounted".to_vec());
    t.mkdir(t.find(root("cloned"), ".clones").unwrap(), "child").unwrap();
    t.mkdir(t.find(root("read"), ".snapshots").unwrap(), "s").unwrap();
    let line = t.fs.volume().find_line(b"read").unwrap().id;
    let kept = t.fs.volume().find_snapshot(line, b"s").unwrap().id;
    t.fs.past.stand_alone(kept, &t.fs.past.one_at_a_time());
    pass(&t, 600);
    assert_eq!(t.list(CLONEDIR), ["open", "mounted", "cloned", "read", "child"]);
    t.fs.release(open.0, open.1);
    *kernel.0.lock() = None;
    t.fs.rmdir(&USER, CLONEDIR, b"child").unwrap();
    t.fs.past.let_go(kept);
    pass(&t, 20);
    assert!(t.list(CLONEDIR).is_empty());
}

#[test]
fn a_clone_that_is_used_is_not_idle() {
    let t = T::new();
    t.put(ROOT, "f", b"f");
    make(&t, "x", None, Some(2 * HOUR));
    let x = t.find(CLONEDIR, "x").unwrap();
    for _ in 0..5 {
        pass(&t, HOUR);
        t.find(x, "f").unwrap();
    }
    pass(&t, HOUR);
    assert_eq!(t.list(CLONEDIR), ["x"]);
    // When it was used is kept, to a share.
    let used = t.fs.volume().find_line(b"x").unwrap().terms.idling.unwrap().used;
    assert!(used > 1000 + 4 * HOUR as i64, "{used}");
    pass(&t, 2 * HOUR);
    assert!(t.list(CLONEDIR).is_empty());
}

#[test]
fn what_is_used_or_kept_while_others_go_stays() {
    for kept in [false, true] {
        let t = T::new();
        for name in ["a", "b"] {
            make(&t, name, None, Some(2 * HOUR));
        }
        let b = t.find(CLONEDIR, "b").unwrap();
        let kernel = Meanwhile::on(&t, ".clones/a");
        let fs = t.fs.clone();
        *kernel.then.lock() = Some(Box::new(move || {
            if kept {
                return fs.setxattr(&SUPER, b, b"user.snapfs.idle", b"none", XattrMode::Set).unwrap();
            }
            let (made, handle) = fs.create(&USER, b, b"f", 0o644, RW).unwrap();
            fs.write(made.attr.node, handle, 0, b"acknowledged", false).unwrap();
            fs.release(made.attr.node, handle);
        }));
        pass(&t, 2 * HOUR + 600);
        assert!(kernel.then.lock().is_none());
        assert_eq!(t.list(CLONEDIR), ["b"], "{kept}");
        if !kept {
            assert_eq!(t.cat(b, "f"), b"acknowledged");
            // That counts from then on, as any use.
            pass(&t, 2 * HOUR + 600);
            assert!(t.list(CLONEDIR).is_empty());
        }
    }
}

#[test]
fn whoever_opens_a_file_while_its_clone_is_to_go_keeps_it() {
    let t = T::new();
    t.put(ROOT, "f", b"f");
    make(&t, "x", Some(60), None);
    let f = t.find(t.find(CLONEDIR, "x").unwrap(), "f").unwrap();
    let kernel = Meanwhile::on(&t, "");
    let (fs, handle) = (t.fs.clone(), Arc::new(Mutex::new(None)));
    let opened = handle.clone();
    *kernel.before_quiet.lock() = Some(Box::new(move || *opened.lock() = fs.open(&USER, f, RO).ok()));
    pass(&t, 120);
    let handle = handle.lock().take().expect("opened");
    assert_eq!(t.list(CLONEDIR), ["x"]);
    assert_eq!(t.read((f, handle), 0, 9), b"f");
    t.fs.release(f, handle);
    pass(&t, 120);
    assert!(t.list(CLONEDIR).is_empty());
}

#[test]
fn there_are_no_more_clones_than_there_may_be() {
    let t = T::new();
    assert_eq!(t.fs.getxattr(ROOT, b"user.snapfs.clones_max"), Ok(b"none".to_vec()));
    assert_eq!(t.fs.getxattr(ROOT, b"user.snapfs.clones_max.source"), Ok(b"default".to_vec()));
    let denied = t.fs.setxattr(&USER, ROOT, b"user.snapfs.clones_max", b"2", XattrMode::Set);
    assert_eq!(denied, Err(Error::NotPermitted));
    set(&t, ROOT, "user.snapfs.clones_max", "2").unwrap();
    assert_eq!(t.fs.getxattr(ROOT, b"user.snapfs.clones_max.source"), Ok(b"local".to_vec()));
    for name in ["a", "b"] {
        t.mkdir(CLONEDIR, name).unwrap();
    }
    assert_eq!(t.mkdir(CLONEDIR, "c"), Err(Error::LimitReached));
    let t = T::on(t.fs.volume().clone(), FsOptions::default());
    assert_eq!(t.mkdir(CLONEDIR, "c"), Err(Error::LimitReached));
    t.fs.rmdir(&USER, CLONEDIR, b"a").unwrap();
    t.mkdir(CLONEDIR, "c").unwrap();
    t.fs.removexattr(&SUPER, ROOT, b"user.snapfs.clones_max").unwrap();
    t.mkdir(CLONEDIR, "d").unwrap();
    assert_eq!(t.list(CLONEDIR), ["b", "c", "d"]);
}
