//! Requests that wait, or take long, and who goes on meanwhile: with a file system on a slow disk, and without a kernel.

use super::answering::Answering;
use super::aside::Aside;
use super::changing::Changing;
use crate::clock::Clock;
use crate::device::hanging::Hanging;
use crate::device::{Device, DeviceError, Sim};
use crate::fixtures::{Hooked, Hooks, RW, SNAPDIR, USER};
use crate::format::provenance::{Provenance, Reason};
use crate::fs::{FreezeDone, FreezeOrder, Fs, FsOptions, NamedPath, RestoreOrder, Steps};
use crate::ops::{Handle, NodeId, Operations, Result, RoomFor, SetAttr, SyncScope};
use crate::volume::Volume;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

const ROOT: NodeId = NodeId::ROOT;
/// Nothing that ends at all takes so long.
const LONG: Duration = Duration::from_secs(20);

fn file_system(disk: Arc<dyn Device>, options: FsOptions) -> (Arc<Fs>, Arc<Changing>) {
    let fs = Fs::open(Volume::made_on(disk), options, Clock::manual(1000)).unwrap();
    let aside = Aside::new(fs.clone(), None);
    let changing = Changing::new(fs.clone(), aside, Answering::default(), Arc::default());
    (fs, Arc::new(changing))
}

fn create(fs: &Fs, name: &str) -> (NodeId, Handle) {
    let (entry, handle) = fs.create(&USER, ROOT, name.as_bytes(), 0o644, RW).unwrap();
    (entry.attr.node, handle)
}

/// A channel for an answer.
fn answered<T: Send + 'static>() -> (impl FnOnce(Result<T>) + Send + 'static, Receiver<Result<T>>) {
    let (sender, answer) = mpsc::channel();
    (move |done| drop(sender.send(done)), answer)
}

/// A disk flushes so often as it may.
#[derive(Default)]
struct Flushing {
    /// None: always.
    may: Mutex<Option<usize>>,
    changed: Condvar,
    waiting: AtomicUsize,
}

impl Flushing {
    fn allow(&self, times: Option<usize>) {
        *self.may.lock() = times;
        self.changed.notify_all();
    }
}

impl Hooks for Flushing {
    fn before_flush(&self) -> std::result::Result<(), DeviceError> {
        let mut may = self.may.lock();
        self.waiting.fetch_add(1, SeqCst);
        while *may == Some(0) {
            self.changed.wait(&mut may);
        }
        self.waiting.fetch_sub(1, SeqCst);
        *may = may.map(|times| times - 1);
        Ok(())
    }
}

/// Waits until it is so, which is soon.
fn wait(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < until, "waiting for {what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_change_at_once_waits_for_one_flush_and_not_for_those_who_come() {
    let disk = Arc::new(Hooked::over(Sim::new(1 << 30, 1), Flushing::default()));
    let (fs, changing) = file_system(disk.clone(), FsOptions::default());
    let (other, one, two) = (create(&fs, "other"), create(&fs, "1"), create(&fs, "2"));
    fs.write(other.0, other.1, 0, b"then", false).unwrap();
    fs.mkdir(&USER, SNAPDIR, b"s", 0o755).unwrap();
    fs.write(other.0, other.1, 0, b"now!", false).unwrap();
    fs.release(other.0, other.1);
    fs.write(one.0, one.1, 0, b"one", false).unwrap();
    disk.hooks.allow(Some(0));
    // One flushes, and a second one comes meanwhile.
    let (first, (returned, has_returned)) = (answered(), mpsc::channel());
    let flushes = changing.clone();
    std::thread::spawn(move || {
        flushes.fsync(one.0, one.1, SyncScope::All, Box::new(first.0));
        returned.send(()).unwrap();
    });
    wait("the flush", || disk.hooks.waiting.load(SeqCst) == 1);
    let second = answered();
    fs.write(two.0, two.1, 0, b"two", false).unwrap();
    changing.fsync(two.0, two.1, SyncScope::All, Box::new(second.0));
    let restores = fs.clone();
    let restoring = std::thread::spawn(move || {
        let path = NamedPath { at: ROOT, below: vec![b"other".to_vec()], name: b"other".to_vec() };
        let order = RestoreOrder { paths: vec![path], from: Some(b"s".to_vec()), to: None };
        restores.restore(&order, &Provenance::from(Reason::Restore)).is_ok_and(|r| r.guards.is_some())
    });
    wait("the restore to wait for who has passed", || fs.unhindered(None).is_none());
    // The first is answered, and the thread that flushed for it does not go on with the second one as it has passed.
    disk.hooks.allow(Some(1));
    first.1.recv_timeout(LONG).unwrap().unwrap();
    let returned = has_returned.recv_timeout(LONG);
    disk.hooks.allow(None);
    assert!(returned.is_ok() && restoring.join().unwrap());
    second.1.recv_timeout(LONG).unwrap().unwrap();
    fs.mkdir(&USER, SNAPDIR, b"afterwards", 0o755).unwrap();
}

#[test]
fn writes_wait_for_a_thaw_without_a_thread_for_each() {
    let (fs, changing) = file_system(Arc::new(Sim::new(1 << 30, 1)), FsOptions::default());
    let (node, handle) = create(&fs, "f");
    let by = Provenance::from(Reason::User);
    let frozen = fs.freeze(&FreezeOrder { at: ROOT, all: false, timeout: 10 * LONG, by });
    assert!(matches!(frozen, Ok(FreezeDone::Frozen(_))), "{frozen:?}");
    let (sender, answers) = mpsc::channel();
    for n in 0..2000_u64 {
        let sender = sender.clone();
        let write = move |ops: &dyn Operations, data: &[u8]| ops.write(node, handle, n * 4096, data, false);
        changing.write(node, &[n as u8; 4096], write, move |done| sender.send(done).unwrap());
    }
    assert!((1..=20).contains(&changing.waiting_writes.threads()), "{}", changing.waiting_writes.threads());
    assert!(answers.try_recv().is_err());
    fs.thaw(ROOT, &[]).unwrap();
    for _ in 0..2000 {
        assert_eq!(answers.recv_timeout(LONG).unwrap(), Ok(4096));
    }
    let mut found = vec![0; 2000 * 4096];
    assert_eq!(fs.read(node, handle, 0, &mut found), Ok(found.len()));
    assert!(found.chunks(4096).enumerate().all(|(n, block)| block == [n as u8; 4096]));
    while changing.waiting_writes.threads() > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn between_two_steps_of_a_truncation_others_are_answered() {
    let disk = Hanging::new(Sim::new(1 << 30, 1));
    let options = FsOptions { steps: Steps { items: 4, ..Steps::default() }, ..FsOptions::default() };
    let (fs, changing) = file_system(disk.clone(), options);
    let (node, handle) = create(&fs, "f");
    for n in 0..40 {
        fs.write(node, handle, n << 20, &[1; 4096], false).unwrap();
    }
    fs.commit().unwrap();
    disk.hang(true);
    let (answer, shrunk) = answered();
    let shrinks = changing.clone();
    let shrinking = std::thread::spawn(move || {
        let set = SetAttr { size: Some(0), ..SetAttr::default() };
        let ahead = set;
        shrinks.telling_of(
            node,
            RoomFor::Deletion,
            move |ops| ops.setattr_ahead(&USER, node, Some(handle), &ahead),
            move |ops| ops.setattr(&USER, node, Some(handle), &set),
            answer,
        );
    });
    while disk.waiting() == 0 {
        std::thread::yield_now();
    }
    let (sender, exchanged) = mpsc::channel();
    let between = changing.clone();
    let exchanging = std::thread::spawn(move || {
        between.answering.between(&mut || ());
        let _answer = between.answering.begin();
        between.ops.getattr(ROOT, None).unwrap();
        sender.send(()).unwrap();
    });
    let exchanged = exchanged.recv_timeout(LONG);
    let was_answered = shrunk.try_recv().is_ok();
    disk.hang(false);
    exchanging.join().unwrap();
    shrinking.join().unwrap();
    assert!(exchanged.is_ok() && !was_answered);
    assert_eq!(shrunk.recv().unwrap().unwrap().0.size, 0);
}
