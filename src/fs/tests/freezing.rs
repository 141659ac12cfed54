//! Frosts of a file system: whose they are, what begins and ends them, and what a snapshot is that was to be taken in one.

use super::*;
use crate::format::LineId;
use crate::format::provenance::Reason;
use crate::format::view::Consistency;
use crate::fs::{
    FreezeDone, FreezeOrder, Frost, FrostEnd, NamedPath, OpenForWriting, PromotionOrder, Reached,
    RestoreOrder, ThawDone,
};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

const CLONEDIR: NodeId = NodeId::clonedir(0);

const LONG: Duration = Duration::from_secs(600);

fn order(timeout: Duration) -> FreezeOrder {
    FreezeOrder { at: ROOT, all: false, timeout, by: Reason::User.into() }
}

fn freeze(t: &T, timeout: Duration) -> Frost {
    loop {
        match t.fs.freeze(&order(timeout)).unwrap() {
            FreezeDone::Frozen(frost) => return frost,
            // It was over at once.
            FreezeDone::NotInTime if timeout < LONG => {}
            done => panic!("{done:?}"),
        }
    }
}

/// One that is over.
fn missed(t: &T) -> Frost {
    let frost = freeze(t, Duration::from_millis(100));
    while !t.fs.frosts().is_empty() {
        std::thread::yield_now();
    }
    frost
}

#[test]
fn who_thaws_too_late_ends_nobody_elses() {
    let t = T::new();
    let first = missed(&t);
    let second = freeze(&t, LONG);
    assert!(second.number > first.number);
    match t.fs.thaw(ROOT, &[first.number]).unwrap() {
        ThawDone::Another(now, Some(own)) => {
            assert_eq!(
                (now.number, own.number, own.end),
                (second.number, first.number, Some(FrostEnd::TimedOut))
            );
        }
        done => panic!("{done:?}"),
    }
    assert!(matches!(t.fs.thaw(ROOT, &[u64::MAX]).unwrap(), ThawDone::Another(_, None)));
    t.fs.call_off_freeze(first.number);
    assert_eq!(t.fs.frosts().len(), 1);
    let done = t.fs.thaw(ROOT, &[first.number, second.number]).unwrap();
    assert!(matches!(done, ThawDone::Thawed(frost) if frost.number == second.number));
    // Each is told of his own.
    match t.fs.thaw(ROOT, &[first.number]).unwrap() {
        ThawDone::NotFrozen(Some(own)) => assert_eq!(own.number, first.number),
        done => panic!("{done:?}"),
    }
}

#[test]
fn a_snapshot_after_its_frost_is_as_after_a_crash() {
    let t = T::new();
    let made = |name: &str, frosts: &[u64]| {
        let reached = Reached { level: Consistency::Application, frosts };
        t.fs.create_snapshot_as(ROOT, name.as_bytes(), &Reason::User.into(), reached).unwrap();
        t.fs.volume().find_snapshot(LineId::MAIN, name.as_bytes()).unwrap().consistency
    };
    let late = missed(&t);
    assert_eq!(made("late", &[late.number]), Consistency::Crash);
    let frost = freeze(&t, LONG);
    assert_eq!(made("another's", &[late.number]), Consistency::Crash);
    assert_eq!(made("in time", &[late.number, frost.number]), Consistency::Application);
    t.fs.thaw(ROOT, &[frost.number]).unwrap();
    // Who thaws before does not want it for the snapshot; of other stores nothing is known.
    assert_eq!(made("thawed", &[frost.number]), Consistency::Application);
    assert_eq!(made("elsewhere", &[u64::MAX]), Consistency::Application);
    // Somebody else who thaws it does not know for what it is.
    let taken = freeze(&t, LONG);
    t.fs.thaw(ROOT, &[]).unwrap();
    assert_eq!(made("taken", &[taken.number]), Consistency::Crash);
    // However many others come and go.
    let x = t.mkdir(CLONEDIR, "x").unwrap();
    for _ in 0..17 {
        let FreezeDone::Frozen(other) = t.fs.freeze(&FreezeOrder { at: x, ..order(LONG) }).unwrap() else {
            panic!("it is free")
        };
        t.fs.thaw(x, &[other.number]).unwrap();
    }
    assert_eq!(made("much later", &[late.number]), Consistency::Crash);
    assert_eq!(made("taken much earlier", &[taken.number]), Consistency::Crash);
    assert_eq!(made("thawed much earlier", &[frost.number]), Consistency::Application);
}

#[test]
fn a_frost_that_the_end_of_the_mount_has_ended_is_missed() {
    let t = T::new();
    let frost = freeze(&t, LONG);
    t.fs.end_frosts();
    let clock = Clock::manual(2000);
    let fs = Fs::open(t.fs.volume().clone(), FsOptions::default(), clock.clone()).unwrap();
    let t = T { head: fs.heads.main(), fs, clock };
    let made = |name: &str, frosts: &[u64]| {
        let reached = Reached { level: Consistency::Application, frosts };
        t.fs.create_snapshot_as(ROOT, name.as_bytes(), &Reason::User.into(), reached).unwrap();
        t.fs.volume().find_snapshot(LineId::MAIN, name.as_bytes()).unwrap().consistency
    };
    assert_eq!(made("late", &[frost.number]), Consistency::Crash);
    let frost = freeze(&t, LONG);
    assert_eq!(made("in time", &[frost.number]), Consistency::Application);
}

#[test]
fn all_lines_are_those_of_the_moment_in_which_it_begins() {
    let t = T::new();
    t.mkdir(NodeId::clonedir(0), "x").unwrap();
    t.mkdir(SNAPDIR, "s").unwrap();
    let from = t.fs.volume().find_snapshot(LineId::MAIN, b"s").unwrap().id;
    t.put(ROOT, "f", b"to be committed");
    let held = t.fs.past.one_at_a_time();
    let done = std::thread::scope(|scope| {
        let all = FreezeOrder { all: true, ..order(LONG) };
        let commits = t.fs.volume().epoch();
        let frozen = {
            let fs = &t.fs;
            scope.spawn(move || fs.freeze(&all))
        };
        // What is made while it waits for its turn.
        while t.fs.volume().epoch() == commits {
            std::thread::yield_now();
        }
        t.fs.past.create_clone_held(from, b"y", &Reason::User.into(), &held).unwrap();
        drop(held);
        frozen.join().unwrap().unwrap()
    });
    assert!(matches!(&done, FreezeDone::Frozen(frost) if frost.new.lines.len() == 3), "{done:?}");
}

/// A kernel that is told of the first change only when somebody lets it.
struct Slow {
    is_told: Barrier,
    goes_on: Barrier,
    times: AtomicUsize,
}

impl Kernel for Slow {
    fn write_back(&self, _nodes: &[(NodeId, u64)]) -> std::io::Result<()> {
        Ok(())
    }
    fn invalidate_node(&self, _node: NodeId) {}
    fn invalidate_entry(&self, _parent: NodeId, _name: &[u8]) {}
    fn take_in(&self, _dirs: &[NodeId]) {
        if self.times.fetch_add(1, Relaxed) == 0 {
            self.is_told.wait();
            self.goes_on.wait();
        }
    }
}

#[test]
fn none_begins_before_the_kernel_knows_what_a_line_has_become() {
    let restores = |t: &T| {
        let paths = vec![NamedPath { at: ROOT, below: vec![b"f".to_vec()], name: b"f".to_vec() }];
        let order = RestoreOrder { paths, from: Some(b"s".to_vec()), to: None };
        t.fs.restore(&order, &Reason::Restore.into()).map(drop).unwrap();
    };
    let back = |t: &T, at: NodeId| {
        let to = t.fs.snapshot_of_word(ROOT, b"s").unwrap();
        t.fs.rollback(at, &to, OpenForWriting::Spared, &Reason::Rollback.into()).map(drop).unwrap();
    };
    let promotes = |t: &T| {
        let writers = OpenForWriting::Spared;
        let order = PromotionOrder { clone: b"x", onto: None, keep_as: None, writers };
        t.fs.promote(&order, &Reason::Promote.into()).map(drop).unwrap();
    };
    let changes: [&(dyn Fn(&T) + Sync); 4] = [
        &restores,
        &|t| back(t, ROOT),
        // The way to it is in the line that is to be frozen.
        &|t| back(t, t.find(CLONEDIR, "x").unwrap()),
        &promotes,
    ];
    for (n, change) in changes.into_iter().enumerate() {
        let t = T::new();
        let f = t.put(ROOT, "f", b"as it was");
        t.snapshot("s");
        t.mkdir(CLONEDIR, "x").unwrap();
        t.resize(f, 3);
        let two = || Barrier::new(2);
        let kernel = Arc::new(Slow { is_told: two(), goes_on: two(), times: AtomicUsize::new(0) });
        t.fs.set_kernel(kernel.clone());
        std::thread::scope(|scope| {
            scope.spawn(|| change(&t));
            kernel.is_told.wait();
            let early = t.fs.freeze(&order(Duration::from_millis(50)));
            let waits = scope.spawn(|| t.fs.freeze(&order(LONG)));
            kernel.goes_on.wait();
            assert_eq!(early, Ok(FreezeDone::NotInTime), "{n}");
            let frozen = waits.join().unwrap();
            assert!(matches!(&frozen, Ok(FreezeDone::Frozen(_))), "{n}: {frozen:?}");
        });
    }
}
