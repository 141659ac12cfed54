//! Guards: how long they stay, that they go before a write fails for want of space, in which order, and what is told of them.

use super::room::{fill, patiently, scheduled};
use super::*;
use crate::fixtures::bytes;
use crate::format::LineId;
use crate::format::provenance::{Provenance, Reason};
use crate::fs::{HoldTerms, OpenForWriting, Switched, Undoable};
use crate::schedule::parse_rules;
use crate::volume::SnapshotInfo;

const MAIN: LineId = LineId::MAIN;
const SECOND: i64 = 1_000_000_000;
const MINUTE: i64 = 60;
const DAY: i64 = 86_400;
const MIB: u64 = 1 << 20;
/// More than stay however old they are.
const GUARDS_THAT_END: usize = 10;

fn guard(t: &T, reason: Reason) -> SnapshotInfo {
    let held = t.fs.past.one_at_a_time();
    t.fs.past.guard(&t.head, &reason.into(), &held).unwrap()
}

/// The line goes back to a snapshot; the guard.
fn back(t: &T, name: &[u8]) -> SnapshotInfo {
    let to = t.fs.snapshot_of_word(ROOT, name).unwrap();
    match t.fs.rollback(ROOT, &to, OpenForWriting::CutOff, &Reason::Rollback.into()) {
        Ok(Switched::Done(guard)) => guard,
        other => panic!("{other:?}"),
    }
}

fn names(t: &T) -> Vec<Vec<u8>> {
    t.fs.snapshots().into_iter().map(|s| s.name).collect()
}

fn is_guard(name: &[u8]) -> bool {
    name.starts_with(b"@before-") || name.starts_with(b"@after-")
}

fn guards(t: &T) -> usize {
    names(t).iter().filter(|name| is_guard(name)).count()
}

fn look(t: &T) {
    (0..20).for_each(|_| while t.fs.keep_schedules() {});
}

/// So many minutes pass, in each of which it is looked.
fn pass(t: &T, minutes: i64) {
    for _ in 0..minutes {
        t.clock.advance(MINUTE * SECOND);
        look(t);
    }
}

#[test]
fn no_write_fails_while_guards_may_go_but_for_the_newest() {
    const STORE: u64 = 128 * MIB;
    const EACH: u64 = 19 * MIB;
    let t = T::with(STORE, FsOptions::default());
    t.fs.set_schedules(MAIN, vec![parse_rules("default", "every=1d keep=all free=5%").unwrap()]).unwrap();
    t.put(ROOT, "small", b"x");
    t.snapshot("base");
    look(&t);
    let made: Vec<SnapshotInfo> = (0..3)
        .map(|n| {
            t.put(ROOT, &format!("big{n}"), &bytes(n, EACH as usize));
            t.fs.commit().unwrap();
            back(&t, b"base")
        })
        .collect();
    (0..3).for_each(|_| t.fs.commit().unwrap());
    look(&t);
    let (space, told) = (t.fs.volume().space(), t.fs.statfs(ROOT).unwrap());
    assert!(told.free_bytes + MIB >= space.free + 2 * EACH, "{told:?} {space:?}");
    let written = fill(&t, "fills it");
    assert!(written + 3 * MIB >= told.available_bytes, "{written} of {told:?}");
    // What was done last can be taken back.
    let left = names(&t);
    assert!(left.contains(&made[2].name) && guards(&t) == 1 && left.contains(&b"base".to_vec()), "{left:?}");
    t.prove();
    // After an hour that goes too, last of all; what a user made does not.
    pass(&t, 61);
    let told = t.fs.statfs(ROOT).unwrap();
    assert!(guards(&t) == 1 && told.free_bytes + MIB >= t.fs.volume().space().free + EACH, "{told:?}");
    assert!(fill(&t, "and more") + 3 * MIB >= EACH);
    assert!(guards(&t) == 0 && names(&t).contains(&b"base".to_vec()), "{:?}", names(&t));
    t.prove();
}

#[test]
fn guards_go_after_what_schedules_took_and_held_ones_never() {
    let t = scheduled(96 * MIB, "every=1h keep=all", 8);
    let file = t.create(ROOT, "more");
    let made: Vec<SnapshotInfo> =
        [Reason::Rollback, Reason::Restore, Reason::After, Reason::Undo, Reason::Merge, Reason::After]
            .into_iter()
            .enumerate()
            .map(|(n, reason)| {
                t.write(file, 0, &bytes(100 + n as u64, MIB as usize));
                t.fs.commit().unwrap();
                guard(&t, reason)
            })
            .collect();
    t.fs.release(file.0, file.1);
    let terms = HoldTerms { tag: "keep", after: None };
    t.fs.hold_snapshot(ROOT, made[1].id, &terms, &Provenance::default()).unwrap();
    t.fs.rename_snapshot(&made[3].name, b"mine").unwrap();
    look(&t);
    // Both between which the last change lies are the newest.
    let (stay, go) = ([1, 3, 4, 5], [0, 2]);
    let file = t.create(ROOT, "fills it");
    let (mut written, mut seen) = (0, Vec::new());
    loop {
        let all = t.fs.snapshots();
        let of_schedule = all.iter().filter(|s| s.name.starts_with(b"@GMT-")).count();
        let now: (Vec<u64>, usize) = (all.iter().map(|s| s.id.0).collect(), of_schedule);
        if seen.last() != Some(&now) {
            seen.push(now);
        }
        let data = bytes(written, MIB as usize);
        match patiently(&t, MIB, || t.fs.write(file.0, file.1, written, &data, false)) {
            Ok(len) => written += len as u64,
            Err(e) => break assert_eq!(e, Error::NoSpace),
        }
    }
    t.fs.release(file.0, file.1);
    let is_there = |ids: &[u64], n: usize| ids.contains(&made[n].id.0);
    let (last, _) = seen.last().unwrap();
    assert!(stay.iter().all(|n| is_there(last, *n)) && go.iter().all(|n| !is_there(last, *n)), "{last:?}");
    for (ids, of_schedule) in &seen {
        assert!(go.iter().all(|n| is_there(ids, *n)) || *of_schedule == 1, "{seen:?}");
    }
    // An hour later the newest stay only because undo would go back to what somebody has named, and is older.
    let left = || -> Vec<usize> {
        let left: Vec<u64> = t.fs.snapshots().iter().map(|s| s.id.0).collect();
        (0..made.len()).filter(|n| is_there(&left, *n)).collect()
    };
    pass(&t, 61);
    fill(&t, "and more");
    assert_eq!(left(), stay);
    t.fs.delete_snapshot(b"mine").unwrap();
    pass(&t, 1);
    fill(&t, "and all");
    assert_eq!(left(), [1]);
    t.prove();
}

#[test]
fn guards_end_by_age_and_count() {
    let t = T::new();
    t.put(ROOT, "f", b"x");
    look(&t);
    let made: Vec<SnapshotInfo> = (0..80)
        .map(|n| {
            let made = guard(&t, if n % 2 == 0 { Reason::Restore } else { Reason::After });
            pass(&t, 1);
            made
        })
        .collect();
    assert_eq!(guards(&t), 64);
    assert_eq!(t.fs.snapshots()[0].id, made[16].id, "the oldest went");
    // What somebody has named or holds is his, and does not go in the place of another.
    t.fs.rename_snapshot(&made[16].name, b"mine").unwrap();
    let terms = HoldTerms { tag: "keep", after: None };
    t.fs.hold_snapshot(ROOT, made[17].id, &terms, &Provenance::default()).unwrap();
    let step = guard(&t, Reason::Step);
    // The clock says that they are old: for an hour nobody believes that.
    t.clock.set(40 * DAY * SECOND);
    pass(&t, 58);
    assert_eq!(guards(&t), 63);
    t.clock.set(-40 * DAY * SECOND);
    pass(&t, 120);
    assert_eq!(guards(&t), 63);
    // They are.
    t.clock.advance(31 * DAY * SECOND);
    pass(&t, 1);
    let left: Vec<_> = t.fs.snapshots().iter().map(|s| s.id).collect();
    let expected = [&made[16..18], &made[72..], std::slice::from_ref(&step)].concat();
    assert_eq!(left, expected.iter().map(|s| s.id).collect::<Vec<_>>());
    // The last few stay however old they are.
    pass(&t, 1);
    t.clock.advance(400 * DAY * SECOND);
    pass(&t, 61);
    assert_eq!(guards(&t), 9);
    t.fs.commit().unwrap();
    t.prove();
}

#[test]
fn of_each_snapshot_it_is_told_why_it_stays() {
    let t = scheduled(64 * MIB, "every=1h keep=all", 2);
    t.snapshot("users");
    let renamed = guard(&t, Reason::Undo);
    t.fs.rename_snapshot(&renamed.name, b"mine").unwrap();
    let held = guard(&t, Reason::Rollback);
    let terms = HoldTerms { tag: "keep", after: None };
    t.fs.hold_snapshot(ROOT, held.id, &terms, &Provenance::default()).unwrap();
    guard(&t, Reason::Merge);
    guard(&t, Reason::MassDeletion);
    t.fs.begin_trial(ROOT, &Reason::Trial.into(), Box::new(|| false)).unwrap();
    t.fs.take_step(ROOT, &Reason::Step.into(), 9, Box::new(|| false)).unwrap();
    t.fs.take_step(ROOT, &Reason::Step.into(), 9, Box::new(|| false)).unwrap();
    guard(&t, Reason::Restore);
    guard(&t, Reason::After);
    let told = |t: &T| t.fs.rule_others(MAIN).unwrap();
    let all = told(&t);
    let starts = [
        "kept: not automatic",
        "kept: somebody has renamed it",
        "it is held",
        "a guard: it stays for 30 days, the last 8 longer",
        "what was there before a mass deletion",
        "it is what a command or a trial goes on from",
        "a step: ",
        "the newest step: ",
        "the newest guard: ",
        "the newest guard: ",
    ];
    assert_eq!(all.len(), starts.len());
    for (other, start) in all.iter().zip(starts) {
        assert!(other.because.starts_with(start) && !other.goes, "{other:?}: {start}");
    }
    // What a schedule took that is there no more is left alone, and said to be.
    t.fs.set_schedules(MAIN, Vec::new()).unwrap();
    let all = told(&t);
    assert_eq!(all.len(), starts.len() + 3);
    assert!(all[0].because.contains("taken by 'default', which is no schedule of the line any more"));
}

/// So many guards, a minute apart, in a store that has been looked at for long enough to trust its clock.
fn guards_of_a_trusted_clock(many: usize) -> T {
    let t = T::new();
    t.put(ROOT, "f", b"x");
    (0..many).for_each(|_| drop(guard(&t, Reason::Rollback)));
    pass(&t, 90);
    assert_eq!(guards(&t), many);
    t
}

#[test]
fn no_guard_ends_by_a_clock_that_nobody_has_looked_at() {
    let t = guards_of_a_trusted_clock(20);
    // Whoever runs schedules by hand is at it while the clock is set, so it is not looked at.
    let running = t.fs.past.timekeeper.running.lock();
    t.clock.set(400 * DAY * SECOND);
    for _ in 0..5 {
        t.clock.advance(MINUTE * SECOND);
        t.fs.keep_schedules();
    }
    assert_eq!(guards(&t), 20);
    drop(running);
    pass(&t, 5);
    assert_eq!(guards(&t), 20, "it was set");
}

#[test]
fn who_looks_at_guards_waits_once_for_who_makes_snapshots() {
    const LINES: usize = 8;
    let t = guards_of_a_trusted_clock(1);
    let first = t.fs.snapshots()[0].id;
    for n in 0..LINES {
        let root = t.fs.create_line(format!("c{n}").as_bytes(), first).unwrap();
        let head = t.fs.heads.at(root).unwrap();
        let held = t.fs.past.one_at_a_time();
        (0..GUARDS_THAT_END).for_each(|_| drop(t.fs.past.guard(&head, &Reason::Undo.into(), &held).unwrap()));
    }
    let all = || t.fs.volume().lines().iter().map(|l| t.fs.volume().own_snapshots(l.id).len()).sum::<usize>();
    let before = all();
    t.clock.advance(31 * DAY * SECOND);
    let held = t.fs.past.one_at_a_time();
    let begun = std::time::Instant::now();
    t.fs.keep_schedules();
    let waited = begun.elapsed();
    assert!(waited < std::time::Duration::from_millis(2000), "{waited:?}");
    assert_eq!(all(), before);
    drop(held);
    // It is not long until it is looked again.
    pass(&t, 3);
    assert!(all() < before);
}

#[test]
fn what_a_clone_is_compared_with_is_not_given_up_for_space() {
    const EACH: u64 = 19 * MIB;
    let t = T::with(128 * MIB, FsOptions::default());
    t.put(ROOT, "big", &bytes(1, EACH as usize));
    t.fs.commit().unwrap();
    guard(&t, Reason::Restore);
    let base = guard(&t, Reason::After);
    let clone = t.fs.create_line(b"c", base.id).unwrap();
    // Nobody but the guards has what was there before.
    for (n, root) in [(2, ROOT), (3, clone)] {
        let file = t.open(t.find(root, "big").unwrap(), RW);
        t.write(file, 0, &bytes(n, EACH as usize));
        t.fs.release(file.0, file.1);
        t.fs.commit().unwrap();
    }
    pass(&t, 61);
    assert!(t.fs.may_free() < MIB, "{}", t.fs.may_free());
    let told = t.fs.rule_others(MAIN).unwrap();
    assert!(told[1].because.starts_with("a guard that a clone is compared with"), "{told:?}");
    fill(&t, "fills it");
    assert_eq!(guards(&t), 2, "nothing went that brings nothing back");
    // Once nobody is compared with it any more, it does.
    t.fs.drop_clone(b"c").unwrap();
    pass(&t, 1);
    assert!(fill(&t, "and more") + 3 * MIB >= 2 * EACH);
    assert_eq!(guards(&t), 0);
    t.prove();
}

#[test]
fn a_step_does_not_take_the_place_of_what_undo_goes_back_to() {
    const EACH: u64 = 19 * MIB;
    let t = T::with(128 * MIB, FsOptions::default());
    let step = || t.fs.take_step(ROOT, &Reason::Step.into(), 9, Box::new(|| false)).unwrap();
    t.put(ROOT, "small", b"x");
    t.snapshot("base");
    t.put(ROOT, "big", &bytes(1, EACH as usize));
    t.fs.commit().unwrap();
    let guard = back(&t, b"base");
    let first = step();
    look(&t);
    fill(&t, "fills it");
    let left = names(&t);
    assert!(left.contains(&guard.name) && left.contains(&first.name), "{left:?}");
    assert!(matches!(t.fs.last_undoable(ROOT).unwrap(), Some(Undoable::Switch(to)) if to.id == guard.id));
    // Each has an hour of its own.
    let large = t.find(ROOT, "fills it").unwrap();
    t.fs.unlink(&USER, ROOT, b"fills it").unwrap();
    t.fs.forget(large);
    pass(&t, 50);
    let second = step();
    pass(&t, 15);
    fill(&t, "fills it again");
    assert_eq!(names(&t), [b"base".to_vec(), second.name]);
    t.prove();
}

#[test]
fn undo_goes_back_to_nothing_older_than_what_was_done_last() {
    const EACH: u64 = 19 * MIB;
    let t = T::with(128 * MIB, FsOptions::default());
    t.put(ROOT, "small", b"x");
    t.snapshot("base");
    let first = guard(&t, Reason::Rollback);
    let terms = HoldTerms { tag: "keep", after: None };
    t.fs.hold_snapshot(ROOT, first.id, &terms, &Provenance::default()).unwrap();
    let large = t.put(ROOT, "big", &bytes(1, EACH as usize));
    t.fs.commit().unwrap();
    let pair = [guard(&t, Reason::Merge), guard(&t, Reason::After)];
    t.fs.unlink(&USER, ROOT, b"big").unwrap();
    t.fs.forget(large);
    pass(&t, 90);
    // While the first is held, the last two stay: without them it would be what undo goes back to.
    assert!(t.fs.may_free() < MIB, "{}", t.fs.may_free());
    fill(&t, "fills it");
    assert_eq!(guards(&t), 3);
    let last = t.fs.last_undoable(ROOT).unwrap();
    assert!(matches!(last, Some(Undoable::Change(change)) if change.before.id == pair[0].id));
    // The same of one that somebody has named. When that is gone the others may go.
    t.fs.rename_snapshot(&first.name, b"mine").unwrap();
    pass(&t, 1);
    assert!(fill(&t, "and more") < MIB);
    assert!(matches!(t.fs.last_undoable(ROOT).unwrap(), Some(Undoable::Change(_))));
    t.fs.release_snapshot(ROOT, first.id, "keep").unwrap();
    t.fs.delete_snapshot(b"mine").unwrap();
    pass(&t, 1);
    assert!(fill(&t, "and all") + 3 * MIB >= EACH);
    assert_eq!(names(&t), [b"base".to_vec()]);
    assert_eq!(t.fs.last_undoable(ROOT), Ok(None));
    t.prove();
}
