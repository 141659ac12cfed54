//! Frosts of a file system: whose they are, what begins and ends them, and what a snapshot is that was to be taken in one.

use super::*;
use crate::format::LineId;
use crate::format::provenance::Reason;
use crate::format::view::Consistency;
use crate::fs::{FreezeDone, FreezeOrder, Frost, FrostEnd, Reached, ThawDone};
use std::time::Duration;

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
    t.fs.thaw(ROOT, &[]).unwrap();
    // Who thaws before does not want it for the snapshot; of other stores nothing is known.
    assert_eq!(made("thawed", &[frost.number]), Consistency::Application);
    assert_eq!(made("elsewhere", &[u64::MAX]), Consistency::Application);
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
