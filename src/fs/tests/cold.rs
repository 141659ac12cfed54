//! Whoever waits for the device holds up nobody who needs nothing from it.

use super::*;
use crate::device::Memory;
use crate::fixtures::{Hooked, Hooks};
use crate::volume::{Access, OpenOptions};
use parking_lot::{Condvar, Mutex};
use std::sync::mpsc;
use std::time::Duration;

/// As long as nothing on the way takes for ever.
const SOON: Duration = Duration::from_secs(30);
const FILES: usize = 3000;

/// A device makes reads wait when it is told to.
#[derive(Default)]
struct Slow {
    /// Whether reads wait, and how many do.
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Slow {
    fn hold(&self, hold: bool) {
        self.state.lock().0 = hold;
        self.changed.notify_all();
    }

    /// Waits until a read waits; false if `done` comes first.
    fn somebody_waits(&self, done: impl Fn() -> bool) -> bool {
        let mut state = self.state.lock();
        while state.1 == 0 && !done() {
            self.changed.wait_for(&mut state, Duration::from_millis(1));
        }
        state.1 > 0
    }
}

impl Hooks for Slow {
    fn before_read(&self, _at: u64) {
        let mut state = self.state.lock();
        state.1 += 1;
        self.changed.notify_all();
        while state.0 {
            self.changed.wait(&mut state);
        }
        state.1 -= 1;
    }
}

/// Lets reads go on, whatever becomes of the test.
struct Held<'a>(&'a Slow);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.hold(false);
    }
}

fn opened(device: &Arc<Hooked<Slow>>, cache_bytes: usize) -> T {
    let options = OpenOptions { access: Access::ReadWrite, cache_bytes };
    T::on(Volume::open(device.clone(), options).unwrap(), FsOptions::default())
}

fn name(n: usize) -> String {
    format!("file {n:05}")
}

/// A store with many small files in a directory, one with many extents, and snapshots. Nothing of it is in memory.
fn store() -> Arc<Hooked<Slow>> {
    let device = Arc::new(Hooked::over(Memory::new(256 << 20), Slow::default()));
    let t = T::on(Volume::made_on(device.clone()), FsOptions::default());
    t.put(ROOT, "warm", b"warm content");
    let dir = t.mkdir(ROOT, "dir").unwrap();
    for n in 0..FILES {
        t.put(dir, &name(n), format!("content {n}").as_bytes());
    }
    let long = t.create(ROOT, "long");
    (0..2000).for_each(|n| t.write(long, n * 8192, &[7; 4096]));
    t.fs.release(long.0, long.1);
    for s in ["one", "two", "three"] {
        t.snapshot(s);
        for n in (0..FILES).step_by(97) {
            t.put(dir, &format!("{} after {s}", name(n)), b"x");
            t.fs.unlink(&USER, dir, format!("{} after {s}", name(n)).as_bytes()).unwrap();
        }
        t.fs.commit().unwrap();
    }
    t.fs.close().unwrap();
    device
}

/// What needs nothing from the device once it has been done.
fn read(t: &T) {
    assert_eq!(t.cat(ROOT, "warm"), b"warm content");
    t.attr(ROOT);
    assert!(t.list(ROOT).contains(&"warm".into()));
    let past = t.find(SNAPDIR, "two").unwrap();
    assert_eq!(t.cat(past, "warm"), b"warm content");
    assert!(t.list(past).contains(&"dir".into()));
    t.fs.statfs(ROOT).unwrap();
}

fn readers_go_on_while(
    what: &str,
    prepare: impl Fn(&T) + Sync,
    change: impl Fn(&T) + Sync,
    prove: impl Fn(&T),
) {
    let device = store();
    let t = opened(&device, 1 << 20);
    prepare(&t);
    read(&t);
    std::thread::scope(|scope| {
        let held = Held(&device.hooks);
        device.hooks.hold(true);
        let writer = scope.spawn(|| change(&t));
        assert!(device.hooks.somebody_waits(|| writer.is_finished()), "{what} finds all in memory");
        let (tell, told) = mpsc::channel();
        let reader = scope.spawn({
            let t = &t;
            move || {
                read(t);
                tell.send(()).unwrap();
            }
        });
        let went_on = told.recv_timeout(SOON);
        assert!(!writer.is_finished(), "{what}");
        drop(held);
        reader.join().unwrap();
        writer.join().unwrap();
        assert!(went_on.is_ok(), "readers wait for {what}");
    });
    prove(&t);
    assert_eq!(t.fs.volume().reads_waited_for(), 0, "{what}");
    t.fs.commit().unwrap();
    t.prove();
}

fn dir(t: &T) -> NodeId {
    t.find(ROOT, "dir").unwrap()
}

#[test]
fn readers_go_on_while_a_name_is_made_removed_or_moved() {
    let nothing = |_: &T| ();
    readers_go_on_while(
        "a new file",
        nothing,
        |t| {
            t.put(dir(t), "new", b"new content");
        },
        |t| assert_eq!(t.cat(dir(t), "new"), b"new content"),
    );
    readers_go_on_while(
        "an unlink",
        nothing,
        |t| t.fs.unlink(&USER, dir(t), name(1500).as_bytes()).unwrap(),
        |t| assert_eq!(t.find(dir(t), &name(1500)), Err(Error::NotFound)),
    );
    readers_go_on_while(
        "a rename",
        nothing,
        |t| {
            let (from, to) = (name(100), name(2500));
            t.fs.rename(&USER, dir(t), from.as_bytes(), dir(t), to.as_bytes(), RenameMode::Replace).unwrap();
        },
        |t| assert_eq!(t.cat(dir(t), &name(2500)), b"content 100"),
    );
}

#[test]
fn readers_go_on_while_content_and_attributes_are_changed() {
    let nothing = |_: &T| ();
    let set = |t: &T, name: &str, set: SetAttr| {
        let node = t.find(dir(t), name).unwrap();
        t.fs.setattr(&USER, node, None, &set).unwrap();
    };
    readers_go_on_while(
        "a change of the mode",
        nothing,
        |t| set(t, &name(1234), SetAttr { mode: Some(0o600), ..SetAttr::default() }),
        |t| assert_eq!(t.attr(t.find(dir(t), &name(1234)).unwrap()).mode, 0o600),
    );
    readers_go_on_while(
        "a small write",
        nothing,
        |t| {
            let f = t.open(t.find(dir(t), &name(777)).unwrap(), RW);
            t.write(f, 8, b"more");
        },
        |t| assert_eq!(t.cat(dir(t), &name(777)), b"content more"),
    );
    let long = |t: &T| t.find(ROOT, "long").unwrap();
    readers_go_on_while(
        "a long write",
        nothing,
        |t| t.write(t.open(long(t), RW), 8 << 20, &[9; 1 << 20]),
        |t| assert!(t.read(t.open(long(t), RO), 8 << 20, 1 << 20) == [9; 1 << 20]),
    );
    readers_go_on_while(
        "a truncation",
        nothing,
        |t| t.resize(long(t), 5 << 20),
        |t| assert_eq!((t.attr(long(t)).size, t.attr(long(t)).blocks), (5 << 20, 640 * 8)),
    );
    readers_go_on_while(
        "a copy",
        nothing,
        |t| {
            let (from, to) = (t.open(long(t), RO), t.create(ROOT, "copy"));
            assert_eq!(
                t.fs.copy_range(&USER, from.0, from.1, 0, to.0, to.1, 0, 1 << 30),
                Ok(2000 * 8192 - 4096)
            );
        },
        |t| assert!(t.cat(ROOT, "copy") == t.cat(ROOT, "long")),
    );
}

#[test]
fn readers_go_on_while_a_commit_reads() {
    readers_go_on_while(
        "a deletion",
        // It has been long.
        |t| (0..FILES).for_each(|n| drop(t.cat(dir(t), &name(n)))),
        |t| {
            t.fs.delete_snapshot(b"one").unwrap();
            t.fs.commit().unwrap();
        },
        |t| assert_eq!(t.fs.snapshots().len(), 2),
    );
}

/// Changes of all kinds in a store of which next to nothing is kept in memory: whatever a change needs was read before
/// anybody had to wait for it.
#[test]
fn nothing_is_read_while_somebody_waits() {
    let device = store();
    let t = opened(&device, 0);
    let (dir, long) = (dir(&t), t.open(t.find(ROOT, "long").unwrap(), RW));
    let mut r = fastrand::Rng::with_seed(1);
    for i in 0..1500 {
        let n = r.usize(0..FILES);
        let (before, reads) = (t.fs.volume().reads_waited_for(), t.fs.volume().io().reads);
        let what = r.u8(0..12);
        match what {
            0..=1 => {
                drop(t.fs.mknod(&USER, dir, format!("{} {i}", name(n)).as_bytes(), FileType::Fifo, 0o600, 0))
            }
            2..=4 => drop(t.fs.unlink(&USER, dir, name(n).as_bytes())),
            5 => {
                let to = name(r.usize(0..FILES));
                let _ = t.fs.rename(&USER, dir, name(n).as_bytes(), dir, to.as_bytes(), RenameMode::Replace);
            }
            6 => {
                if let Ok(node) = t.find(dir, &name(n)) {
                    let f = t.open(node, RW);
                    t.write(f, r.u64(0..6000), &vec![3; r.usize(1..9000)]);
                    t.fs.release(f.0, f.1);
                }
            }
            7 => t.write(long, r.u64(0..16 << 20), &vec![4; r.usize(1..20_000)]),
            8 => t.write(long, r.u64(0..16 << 20), &vec![5; r.usize(70_000..200_000)]),
            9 => {
                let mode = if r.bool() { AllocateMode::PunchHole } else { AllocateMode::Extend };
                t.fs.fallocate(&USER, long.0, long.1, r.u64(0..16 << 20), r.u64(1..100_000), mode).unwrap();
            }
            10 => {
                let (from, to, len) = (r.u64(0..4000), r.u64(4200..8000), r.u64(1..100));
                let copied = (long.0, long.1, from * 4096);
                t.fs.copy_range(&USER, copied.0, copied.1, copied.2, long.0, long.1, to * 4096, len * 4096)
                    .unwrap();
            }
            _ => match r.u8(0..4) {
                0 => t.fs.commit().unwrap(),
                1 => t.resize(long.0, r.u64(10 << 20..40 << 20)),
                2 => drop(t.fs.create_snapshot(format!("s{i}").as_bytes(), crate::fs::Reason::User)),
                _ => {
                    if let Some(s) = t.fs.snapshots().first() {
                        t.fs.delete_snapshot(&s.name).unwrap();
                    }
                }
            },
        }
        let waited = t.fs.volume().reads_waited_for() - before;
        assert_eq!(waited, 0, "step {i}, kind {what}: of {} reads", t.fs.volume().io().reads - reads);
    }
    assert!(t.fs.volume().io().reads > 1000, "{} reads: it was not cold", t.fs.volume().io().reads);
    t.fs.commit().unwrap();
    t.prove();
}
