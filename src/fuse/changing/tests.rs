//! Requests that wait, or take long, and who goes on meanwhile: with a file system on a slow disk, and without a kernel.

use super::*;
use crate::clock::Clock;
use crate::device::hanging::Hanging;
use crate::device::{Device, DeviceError, Sim};
use crate::fixtures::{RW, SNAPDIR, USER};
use crate::format::provenance::{Provenance, Reason};
use crate::fs::{FreezeDone, FreezeOrder, Fs, FsOptions, NamedPath, RestoreOrder, Steps};
use crate::ops::SetAttr;
use crate::volume::Volume;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{OnceLock, Weak};
use std::time::Duration;

const ROOT: NodeId = NodeId::ROOT;
/// Nothing that ends at all takes so long.
const LONG: Duration = Duration::from_secs(60);

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

/// A disk whose flushes take until somebody else wants one, or a while.
struct Slow {
    sim: Sim,
    fs: OnceLock<Weak<Fs>>,
    is_flushing: AtomicBool,
}

const A_WHILE: Duration = Duration::from_millis(200);

/// Waits until it is so, or for a while.
fn wait_a_while(is_so: impl Fn() -> bool) {
    let until = Instant::now() + A_WHILE;
    while !is_so() && Instant::now() < until {
        std::thread::sleep(Duration::from_micros(100));
    }
}

impl Device for Slow {
    fn size(&self) -> u64 {
        self.sim.size()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::result::Result<(), DeviceError> {
        self.sim.read_at(offset, buf)
    }
    fn write_at(&self, offset: u64, buf: &[u8]) -> std::result::Result<(), DeviceError> {
        self.sim.write_at(offset, buf)
    }
    fn flush(&self) -> std::result::Result<(), DeviceError> {
        if let Some(fs) = self.fs.get().and_then(Weak::upgrade) {
            self.is_flushing.store(true, SeqCst);
            wait_a_while(|| fs.waiting_fsyncs() > 0);
            self.is_flushing.store(false, SeqCst);
        }
        self.sim.flush()
    }
    fn back(&self, offset: u64, len: u64) -> std::result::Result<(), DeviceError> {
        self.sim.back(offset, len)
    }
    fn discard(&self, offset: u64, len: u64) {
        self.sim.discard(offset, len);
    }
    fn available(&self) -> u64 {
        self.sim.available()
    }
    fn describe(&self) -> String {
        "a slow disk".into()
    }
}

type Request = Box<dyn FnOnce(&Changing) + Send>;

/// The threads that answer requests, until there are no more.
fn answer_requests(changing: &Arc<Changing>, threads: usize) -> Sender<Request> {
    let (sender, requests) = mpsc::channel::<Request>();
    let requests = Arc::new(parking_lot::Mutex::new(requests));
    for _ in 0..threads {
        let (changing, requests) = (changing.clone(), requests.clone());
        std::thread::spawn(move || {
            loop {
                let next = requests.lock().recv();
                let Ok(request) = next else { return };
                request(&changing);
            }
        });
    }
    sender
}

#[test]
fn a_change_at_once_does_not_wait_for_an_end_of_those_who_fsync() {
    let (sim, fs) = (Sim::new(1 << 30, 1), OnceLock::new());
    let disk = Arc::new(Slow { sim, fs, is_flushing: AtomicBool::new(false) });
    let (fs, changing) = file_system(disk.clone(), FsOptions::default());
    let other = create(&fs, "other");
    fs.write(other.0, other.1, 0, b"then", false).unwrap();
    fs.mkdir(&USER, SNAPDIR, b"s", 0o755).unwrap();
    fs.write(other.0, other.1, 0, b"now!", false).unwrap();
    fs.release(other.0, other.1);
    let (requests, ends) = (answer_requests(&changing, 8), Arc::new(AtomicBool::new(false)));
    let synced = Arc::new(AtomicUsize::new(0));
    disk.fs.set(Arc::downgrade(&fs)).unwrap();
    // There are always some who wait for the next flush: each writes as soon as one has begun.
    let programs: Vec<_> = (0..2)
        .map(|n| {
            let (node, handle) = create(&fs, &n.to_string());
            let (requests, ends, synced) = (requests.clone(), ends.clone(), synced.clone());
            let disk = disk.clone();
            std::thread::spawn(move || {
                while !ends.load(SeqCst) {
                    wait_a_while(|| disk.is_flushing.load(SeqCst));
                    let (answer, written) = answered();
                    let write =
                        move |ops: &dyn Operations, data: &[u8]| ops.write(node, handle, 0, data, false);
                    requests.send(Box::new(move |c| c.write(node, b"data", write, answer))).unwrap();
                    written.recv().unwrap().unwrap();
                    let (answer, durable) = answered();
                    let answer = Box::new(answer);
                    requests.send(Box::new(move |c| c.fsync(node, handle, SyncScope::All, answer))).unwrap();
                    durable.recv().unwrap().unwrap();
                    synced.fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    while synced.load(SeqCst) < 30 {
        std::thread::yield_now();
    }
    let (sender, done) = mpsc::channel();
    let restores = fs.clone();
    let restoring = std::thread::spawn(move || {
        let path = NamedPath { at: ROOT, below: vec![b"other".to_vec()], name: b"other".to_vec() };
        let order = RestoreOrder { paths: vec![path], from: Some(b"s".to_vec()), to: None };
        let restored = restores.restore(&order, &Provenance::from(Reason::Restore));
        let made = restores.mkdir(&USER, SNAPDIR, b"meanwhile", 0o755);
        sender.send((restored.is_ok_and(|r| r.guards.is_some()), made.is_ok())).unwrap();
    });
    let done = done.recv_timeout(LONG);
    ends.store(true, SeqCst);
    programs.into_iter().for_each(|program| program.join().unwrap());
    restoring.join().unwrap();
    assert_eq!(done, Ok((true, true)), "with the load on");
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
        let ahead = set.clone();
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
