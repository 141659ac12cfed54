//! Schedules under a clock of the test: what is taken and kept, what moves with the store, whose snapshots stay, want of
//! space. A year of minutes is in `tests/memory`.

use super::*;
use crate::device::mirror::write_label;
use crate::device::{Device, Memory, Mirror, Sim};
use crate::fixtures::{CACHE_BYTES, make, together_label};
use crate::format::LineId;
use crate::format::provenance::{Provenance, Reason};
use crate::fs::{HoldTerms, PRUNED_AT_ONCE, RuledSnapshot, ScheduleRun};
use crate::schedule::{Because, Period, Schedule, parse_rules};
use crate::volume::{Access, OpenOptions};
use std::collections::BTreeSet;

const SECOND: i64 = 1_000_000_000;
const MINUTE: i64 = 60;
const HOUR: i64 = 3600;
const DAY: i64 = 86_400;
const MAIN: LineId = LineId::MAIN;
/// 2026-01-05, a Monday.
const MONDAY: i64 = 1_767_571_200;

fn rules(text: &str) -> Schedule {
    parse_rules("default", text).unwrap()
}

/// A file system whose clock says that it is this Monday.
fn on_monday(text: &str) -> T {
    let t = T::new();
    t.clock.set((MONDAY - 1000) * SECOND);
    t.fs.set_schedules(MAIN, vec![rules(text)]).unwrap();
    t
}

/// Looks as often as the daemon's timer does until there is nothing more to do.
fn look(t: &T) {
    while t.fs.keep_schedules() {}
}

fn pass(t: &T, secs: i64) {
    t.clock.advance(secs * SECOND);
    look(t);
}

fn names(t: &T) -> Vec<String> {
    t.list(SNAPDIR)
}

#[test]
fn snapshots_are_taken_when_something_has_changed_and_it_is_time() {
    let t = on_monday("every=15m keep=24h,7d");
    t.put(ROOT, "a", b"one");
    look(&t);
    assert_eq!(names(&t), ["@GMT-2026.01.05-00.00.00"]);
    let info = t.fs.snapshots().remove(0);
    assert_eq!((info.provenance.reason, &info.provenance.command[..]), (Reason::Schedule, &b"default"[..]));
    // It is not time yet; and then nothing has changed, but for when something was read.
    t.put(ROOT, "b", b"two");
    pass(&t, 14 * MINUTE);
    assert_eq!(names(&t).len(), 1);
    pass(&t, MINUTE);
    assert_eq!(names(&t)[1..], ["@GMT-2026.01.05-00.15.00"]);
    pass(&t, HOUR);
    t.cat(ROOT, "a");
    pass(&t, HOUR);
    assert_eq!(names(&t).len(), 2);
    // What is delayed is a change, and a snapshot of a user's is none.
    t.snapshot("mine");
    pass(&t, HOUR);
    assert_eq!(names(&t).len(), 3);
    t.put(ROOT, "c", b"three");
    pass(&t, HOUR + 5 * MINUTE);
    assert_eq!(names(&t)[3..], ["@GMT-2026.01.05-04.20.00"]);
    assert_eq!(t.cat(t.find(SNAPDIR, "@GMT-2026.01.05-04.20.00").unwrap(), "c"), b"three");
    // With `always` one is taken in any case.
    t.fs.set_schedules(MAIN, vec![rules("every=15m keep=24h always")]).unwrap();
    pass(&t, 15 * MINUTE);
    assert_eq!(names(&t).len(), 5);
    pass(&t, 15 * MINUTE);
    // That was the fifth in a quarter of an hour of its own, and the first is not the newest of its hour.
    assert_eq!((names(&t).len(), &names(&t)[0][..]), (5, "@GMT-2026.01.05-00.15.00"));
    // After a time without anybody, one.
    let t = reopened(&t);
    pass(&t, 3 * DAY);
    pass(&t, MINUTE);
    assert_eq!(names(&t)[5..], ["@GMT-2026.01.08-04.50.00"]);
    t.fs.commit().unwrap();
    t.prove();
}

/// Another daemon on the same volume, with its own memory of what it has seen.
fn reopened(t: &T) -> T {
    let fs = Fs::open(t.fs.volume().clone(), FsOptions::default(), t.clock.clone()).unwrap();
    let head = fs.heads.main();
    T { fs, clock: t.clock.clone(), head }
}

#[test]
fn schedules_move_with_the_store_and_clones_have_their_own() {
    let device: Arc<dyn Device> = Arc::new(Memory::new(1 << 30));
    make(device.clone());
    let open = || {
        let options = OpenOptions { access: Access::ReadWrite, cache_bytes: CACHE_BYTES };
        T::on(Volume::open(device.clone(), options).unwrap(), FsOptions::default())
    };
    let main = vec![
        rules("every=1h keep=24h budget=20% free=5%"),
        Schedule { name: "daily".into(), ..rules("every=1d keep=all timer=off") },
    ];
    let t = open();
    let clone = t.mkdir(NodeId::clonedir(0), "clone").unwrap();
    let line = t.fs.line_at(clone).unwrap();
    t.fs.set_schedules(MAIN, main.clone()).unwrap();
    t.fs.set_schedules(line, vec![rules("every=1m keep=5min")]).unwrap();
    t.put(clone, "in the clone", b"x");
    // The daemon is killed: the log has them. Then they are committed.
    for _ in 0..2 {
        let t = open();
        assert_eq!(t.fs.volume().line(MAIN).unwrap().schedules, main);
        assert_eq!(t.fs.volume().line(line).unwrap().schedules, [rules("every=1m keep=5min")]);
        t.fs.commit().unwrap();
        t.prove();
    }
    let t = open();
    look(&t);
    // Only what has changed since nothing was there: both. What is run by hand is not.
    assert_eq!(t.fs.volume().own_snapshots(MAIN).len(), 1);
    assert_eq!(t.fs.volume().own_snapshots(line).len(), 1);
    assert_eq!(t.fs.schedule_states(None).len(), 3);
    let runs = t.fs.run_schedules(MAIN, Some("daily")).unwrap();
    assert!(runs.len() == 1 && runs[0].taken.is_some());
    // A clone of it has none, and a dropped one takes its own along.
    let node = t.fs.clone_line(line, b"second").unwrap();
    assert!(t.fs.volume().line(t.fs.line_at(node).unwrap()).unwrap().schedules.is_empty());
    t.fs.drop_clone(b"clone").unwrap();
    assert_eq!(t.fs.schedule_states(None).len(), 2);
    look(&t);
    t.fs.set_schedules(MAIN, vec![]).unwrap();
    assert!(t.fs.schedule_states(None).is_empty() && !t.fs.keep_schedules());
    t.fs.commit().unwrap();
    t.prove();
}

/// A file gets this content.
fn replace(t: &T, name: &str, data: &[u8]) {
    let Ok(node) = t.find(ROOT, name) else {
        t.put(ROOT, name, data);
        return;
    };
    t.resize(node, 0);
    let file = t.open(node, RW);
    t.write(file, 0, data);
    t.fs.release(file.0, file.1);
}

/// Changes something, and so much time passes.
fn change(t: &T, n: i64, secs: i64) {
    replace(t, &format!("f{}", n % 7), n.to_string().as_bytes());
    pass(t, secs);
}

#[test]
fn what_is_not_the_schedules_own_stays() {
    let t = on_monday("every=1h keep=2h");
    look(&t);
    t.snapshot("users");
    for n in 0..3 {
        change(&t, n, HOUR);
    }
    let all = names(&t);
    assert_eq!(all, ["users", "@GMT-2026.01.05-02.00.00", "@GMT-2026.01.05-03.00.00"]);
    // One is given a name, one is read, one is mounted.
    t.fs.rename_snapshot(all[1].as_bytes(), b"wanted").unwrap();
    let file = t.find(t.find(SNAPDIR, &all[2]).unwrap(), "f0").unwrap();
    let open = t.open(file, RO);
    for n in 3..5 {
        change(&t, n, HOUR);
    }
    let alone = t.fs.standalone(b"@GMT-2026.01.05-04.00.00").unwrap();
    for n in 5..9 {
        change(&t, n, HOUR);
    }
    let stay = ["users", "wanted", &all[2], "@GMT-2026.01.05-04.00.00"];
    assert_eq!(names(&t)[..4], stay);
    assert_eq!(names(&t)[4..], ["@GMT-2026.01.05-08.00.00", "@GMT-2026.01.05-09.00.00"]);
    let because: Vec<RuledSnapshot> = t.fs.rule_schedules(MAIN, None).unwrap();
    let why: Vec<Because> = because[..2].iter().map(|ruled| ruled.ruling.0[0]).collect();
    assert_eq!(why, [Because::Kept("being read"), Because::Kept("mounted at a place of its own")]);
    // When nobody does that any more, they go.
    t.fs.release(open.0, open.1);
    drop(alone);
    pass(&t, HOUR);
    assert_eq!(names(&t)[..2], ["users", "wanted"]);
    assert_eq!(names(&t).len(), 4);
    // And those of a schedule that is gone stay.
    t.fs.set_schedules(MAIN, vec![]).unwrap();
    pass(&t, 10 * DAY);
    assert_eq!(t.fs.prune_schedules(MAIN, None).unwrap(), []);
    assert_eq!(names(&t).len(), 4);
}

#[test]
fn a_clock_that_is_wrong_neither_floods_nor_deletes() {
    let t = on_monday("every=1h keep=3h,2d");
    for n in 0..30 {
        change(&t, n, HOUR);
    }
    let before = names(&t);
    assert_eq!(before.len(), 4, "{before:?}");
    // The machine starts at 1970, and for hours nobody puts that right.
    let t = reopened(&t);
    let back = t.clock.now().secs - 10;
    t.clock.set(-back * SECOND);
    for n in 0..40 {
        change(&t, n, 15 * MINUTE);
    }
    assert_eq!(names(&t)[..4], before);
    // Ten were taken, one an hour, and three of them are kept by the hour.
    let wrong = ["@GMT-1970.01.01-08.00.10", "@GMT-1970.01.01-09.00.10", "@GMT-1970.01.01-10.00.10"];
    assert_eq!(names(&t)[4..], wrong);
    // It is put right: for an hour nothing goes, then what was taken then.
    t.clock.set(back * SECOND);
    for n in 0..3 {
        change(&t, n, 15 * MINUTE);
    }
    assert_eq!(names(&t)[..7], [&before[..], &wrong.map(String::from)].concat());
    for n in 0..6 {
        change(&t, n, 15 * MINUTE);
    }
    assert!(names(&t).iter().all(|name| !name.starts_with("@GMT-1970")), "{:?}", names(&t));
    // Forty years ahead: one snapshot more, and what that takes the place of stays for an hour.
    let before = names(&t);
    t.clock.set(40 * 365 * DAY * SECOND);
    change(&t, 1, MINUTE);
    assert_eq!(names(&t).len(), before.len() + 1);
    t.clock.set(-40 * 365 * DAY * SECOND);
    change(&t, 2, 3 * HOUR);
    let left: BTreeSet<String> = names(&t).into_iter().collect();
    assert!(left.iter().any(|name| name.starts_with("@GMT-206")), "{left:?}");
    t.fs.commit().unwrap();
    t.prove();
}

/// A run of a program that ends then, on a store that nobody has mounted, after a change: what it took, what it deleted, and what it
/// held back.
fn run_alone(t: &mut T, n: i64) -> (usize, usize, usize) {
    *t = reopened(t);
    replace(t, &format!("f{}", n % 7), format!("{n} {}", t.clock.now().secs).as_bytes());
    let runs = t.fs.run_schedules(MAIN, None).unwrap();
    let sum = |of: fn(&ScheduleRun) -> usize| runs.iter().map(of).sum();
    (sum(|run| run.taken.is_some().into()), sum(|run| run.gone.len()), sum(|run| run.kept_back))
}

/// One each minute, as a timer looks. What was taken and deleted, and the most that was held back at once.
fn run_for(t: &mut T, minutes: i64) -> (usize, usize, usize) {
    let mut all = (0, 0, 0);
    for n in 0..minutes {
        let run = run_alone(t, n);
        all = (all.0 + run.0, all.1 + run.1, all.2.max(run.2));
        t.clock.advance(MINUTE * SECOND);
    }
    all
}

#[test]
fn runs_that_remember_nothing_are_stopped_by_no_wrong_clock() {
    for wrong in [MONDAY + 40 * 365 * DAY, 100] {
        let mut t = on_monday("every=15m keep=2h,2d timer=off");
        assert_eq!(run_for(&mut t, 3 * 60).0, 12);
        let before = names(&t);
        let there = |t: &T| before.iter().filter(|name| names(t).contains(name)).count();
        // The clock is wrong for half an hour: three at most, and nothing goes, though much would.
        let away = wrong - t.clock.now().secs;
        t.clock.set(away * SECOND);
        let (taken, gone, _) = run_for(&mut t, 30);
        assert!((2..=3).contains(&taken) && gone == 0 && there(&t) == before.len(), "{taken} {gone}");
        // It is put right: one is taken at once, none of another time holds that up, and the next when it is time. For an hour
        // nothing goes.
        t.clock.set(-away * SECOND);
        let (taken, gone, _) = run_for(&mut t, 1);
        assert_eq!((taken, gone), (1, 0));
        let (taken, gone, held_back) = run_for(&mut t, 58);
        assert!(taken == 3 && gone == 0 && held_back > 0, "{taken} {gone} {held_back}");
        assert_eq!(there(&t), before.len());
        let (taken, gone, _) = run_for(&mut t, 60);
        assert!(taken == 4 && gone > 0, "{taken} {gone}");
        // Who says `prune` is not kept waiting.
        t.clock.set(away * SECOND);
        assert_eq!(run_alone(&mut t, 1).0, 1);
        t.fs.set_schedules(MAIN, vec![rules("every=15m keep=1h timer=off")]).unwrap();
        assert_eq!(run_alone(&mut t, 2).1, 0);
        let pruned = t.fs.prune_schedules(MAIN, None).unwrap();
        assert!(wrong < MONDAY || pruned[0].gone.len() >= 2);
        t.fs.commit().unwrap();
        t.prove();
    }
}

#[test]
fn a_clock_that_runs_backwards_has_one_taken_in_each_period() {
    let mut t = on_monday("every=1h keep=all timer=off");
    let mut taken = 0;
    for n in 0..180 {
        taken += run_for(&mut t, 1).0;
        t.clock.set(-2 * MINUTE * SECOND);
        assert_eq!(taken, 1 + n / 60);
    }
}

#[test]
fn what_is_run_by_hand_is_remembered_while_it_is_mounted() {
    let t = on_monday("every=1h keep=2h timer=off");
    look(&t);
    let run = |t: &T| t.fs.run_schedules(MAIN, None).unwrap().remove(0);
    for n in 0..4 {
        change(&t, n, HOUR);
        assert!(run(&t).taken.is_some());
    }
    assert_eq!(names(&t).len(), 2);
    // The clock is set, which only who looks all the time can know: by less than makes anybody wonder who begins to look.
    t.clock.set(3 * DAY * SECOND);
    look(&t);
    t.fs.set_schedules(MAIN, vec![rules("every=1h keep=1h timer=off")]).unwrap();
    change(&t, 4, MINUTE);
    let ran = run(&t);
    assert!(ran.taken.is_some() && ran.gone.is_empty() && ran.kept_back == 2, "{ran:?}");
    assert!(t.fs.schedule_states(None)[0].clock_distrusted);
    // Back again: as much time passes as a period has.
    t.clock.set(-3 * DAY * SECOND);
    change(&t, 5, MINUTE);
    assert!(run(&t).taken.is_none());
    change(&t, 6, HOUR);
    let ran = run(&t);
    assert!(ran.taken.is_some() && !ran.gone.is_empty() && ran.kept_back == 0, "{ran:?}");
    t.fs.commit().unwrap();
    t.prove();
}

#[test]
fn want_of_space_thins_the_oldest_class_first_and_never_the_last() {
    let t = T::with(64 << 20, FsOptions::default());
    t.clock.set((MONDAY - 1000) * SECOND);
    t.fs.set_schedules(MAIN, vec![rules("every=1h keep=24h,7d free=50%")]).unwrap();
    t.snapshot("users");
    // Each holds 2 MiB that nobody else does, up to more than half of the store.
    for n in 0..30 {
        replace(&t, "big", &crate::fixtures::bytes(n, 2 << 20));
        t.fs.commit().unwrap();
        pass(&t, HOUR);
        for _ in 0..8 {
            // What was deleted comes back.
            t.fs.tick().unwrap();
            pass(&t, 3);
        }
        let space = t.fs.volume().space();
        assert!(space.free > space.total / 2 - (8 << 20), "{n}: {space:?}");
    }
    let left = names(&t);
    assert!(left.len() < 20 && left[0] == "users", "{left:?}");
    assert!(left.last().unwrap().starts_with("@GMT-2026.01.06-06"), "{left:?}");
    // A budget, of what they hold alone.
    t.fs.set_schedules(MAIN, vec![rules("every=1h keep=24h,7d budget=6M")]).unwrap();
    pass(&t, HOUR);
    let own: Vec<_> = t.fs.volume().own_snapshots(MAIN).into_iter().filter(|s| s.name != b"users").collect();
    let held = t.fs.volume().would_free(own.iter().map(|s| s.id)).unwrap();
    assert!(own.len() >= 2 && held <= 6 << 20, "{} hold {held}", own.len());
    // However little is allowed, the last one stays.
    t.fs.set_schedules(MAIN, vec![rules("every=1h keep=24h,7d budget=1K free=100%")]).unwrap();
    pass(&t, HOUR);
    assert_eq!(names(&t).len(), 2);
    t.fs.commit().unwrap();
    t.prove();
}

#[test]
fn no_more_goes_for_want_of_space_than_is_wanted() {
    let t = T::with(256 << 20, FsOptions::default());
    t.clock.set((MONDAY - 1000) * SECOND);
    t.fs.set_schedules(MAIN, vec![rules("every=1h keep=all")]).unwrap();
    for n in 0..60 {
        replace(&t, "big", &crate::fixtures::bytes(n, 2 << 20));
        pass(&t, HOUR);
    }
    t.fs.commit().unwrap();
    let (space, all) = (t.fs.volume().space(), names(&t).len());
    // Ten more are to be free, of sixty, and it is looked often before anybody else commits.
    let floor = (space.free + (20 << 20)) * 4 / 5;
    t.fs.set_schedules(MAIN, vec![rules(&format!("every=1h keep=all free={}M", floor >> 20))]).unwrap();
    for _ in 0..30 {
        while t.fs.keep_schedules() {}
        t.clock.advance(3 * SECOND);
    }
    let left = names(&t).len();
    assert!((all - 16..=all - 9).contains(&left), "{left} of {all}");
}

/// A file gets this content, and it is in a snapshot of an hour of its own.
fn hour(t: &T, name: &str, data: &[u8]) {
    replace(t, name, data);
    t.fs.commit().unwrap();
    pass(t, HOUR);
}

#[test]
fn no_history_goes_for_a_budget_that_cannot_be_reached() {
    // What is held, read, or what a clone is compared with; and what the last one has alone.
    for kept in ["held", "read", "compared", "last"] {
        let t = T::with(512 << 20, FsOptions::default());
        t.clock.set((MONDAY - 1000) * SECOND);
        t.fs.set_schedules(MAIN, vec![rules("every=1h keep=all")]).unwrap();
        let large = |t: &T| hour(t, "big", &crate::fixtures::bytes(100, 8 << 20));
        if kept != "last" {
            large(&t);
        }
        let first = t.fs.snapshots().pop();
        let mut reader = None;
        match (kept, &first) {
            ("held", Some(s)) => {
                let terms = HoldTerms { tag: "keep", after: None };
                t.fs.hold_snapshot(ROOT, s.id, &terms, &Provenance::default()).unwrap();
            }
            ("read", Some(s)) => reader = Some(t.fs.volume().snapshot(s.id).unwrap()),
            ("compared", Some(_)) => {
                let past = t.find(SNAPDIR, &names(&t).pop().unwrap()).unwrap();
                t.fs.create_clone(past, b"c", None, &Default::default()).unwrap();
                let clone = t.find(NodeId::clonedir(0), "c").unwrap();
                t.fs.unlink(&USER, clone, b"big").unwrap();
            }
            _ => {}
        }
        for n in 0..10 {
            hour(&t, "big", &crate::fixtures::bytes(n, 40 << 10));
        }
        if kept == "last" {
            large(&t);
        }
        replace(&t, "big", b"");
        t.fs.commit().unwrap();
        let all = names(&t);
        t.fs.set_schedules(MAIN, vec![rules("every=1h keep=all budget=4M")]).unwrap();
        let ruled = t.fs.rule_schedules(MAIN, None).unwrap();
        assert!(ruled.iter().all(|ruled| ruled.thinned.is_none()), "{kept}");
        t.fs.prune_schedules(MAIN, None).unwrap();
        assert_eq!(names(&t), all, "{kept}");
        drop(reader);
        // What can be brought within a budget is, whatever is held besides.
        for n in 0..10 {
            hour(&t, "more", &crate::fixtures::bytes(n, 1 << 20));
        }
        let held = || {
            let ids = t.fs.snapshots().into_iter().map(|s| s.id);
            t.fs.volume().would_free(ids.filter(|id| first.as_ref().is_none_or(|s| s.id != *id))).unwrap()
        };
        pass(&t, HOUR);
        assert!(held() <= 4 << 20, "{kept}: {}", held());
        t.fs.commit().unwrap();
        t.prove();
    }
}

#[test]
fn what_is_told_of_a_budget_is_what_is_done() {
    let t = T::with(512 << 20, FsOptions::default());
    t.clock.set((MONDAY - 1000) * SECOND);
    t.fs.set_schedules(MAIN, vec![rules("every=1h keep=all")]).unwrap();
    t.put(ROOT, "big", &crate::fixtures::bytes(1, 12 << 20));
    for n in 0..10 {
        if n == 8 {
            let node = t.find(ROOT, "big").unwrap();
            t.fs.unlink(&USER, ROOT, b"big").unwrap();
            t.fs.forget(node);
        }
        hour(&t, "small", &[n; 100]);
    }
    // Each of eight has the file, and none alone.
    let budget = 10 << 20;
    t.fs.set_schedules(MAIN, vec![rules("every=1h keep=all budget=10M")]).unwrap();
    let own = |t: &T| t.fs.snapshots().into_iter().map(|s| s.id).collect::<Vec<_>>();
    assert!(t.fs.volume().would_free(own(&t)).unwrap() > budget);
    let ruled = t.fs.rule_schedules(MAIN, None).unwrap();
    let told: Vec<_> = ruled.iter().filter(|r| r.thinned.is_some()).map(|r| r.snapshot.id).collect();
    assert_eq!(told, own(&t)[..8]);
    let runs = t.fs.prune_schedules(MAIN, None).unwrap();
    assert_eq!(runs[0].gone.iter().map(|s| s.id).collect::<Vec<_>>(), told);
    assert!(t.fs.volume().would_free(own(&t)).unwrap() <= budget);
    assert!(t.fs.rule_schedules(MAIN, None).unwrap().iter().all(|ruled| ruled.thinned.is_none()));
    t.fs.commit().unwrap();
    t.prove();
}

#[test]
fn a_floor_is_reached_though_the_clock_is_not_trusted() {
    let t = T::with(128 << 20, FsOptions::default());
    t.clock.set((MONDAY - 1000) * SECOND);
    t.fs.set_schedules(MAIN, vec![rules("every=1h keep=all")]).unwrap();
    for n in 0..30 {
        hour(&t, "big", &crate::fixtures::bytes(n, 2 << 20));
    }
    t.clock.set(HOUR * SECOND);
    pass(&t, 1);
    // By the clock most are to go, and do not go yet; ten more are to be free.
    let space = t.fs.volume().space();
    let floor = (space.free + (20 << 20)) * 4 / 5;
    t.fs.set_schedules(MAIN, vec![rules(&format!("every=1h keep=6h free={}M", floor >> 20))]).unwrap();
    let all = names(&t).len();
    for _ in 0..30 {
        while t.fs.keep_schedules() {}
        t.fs.tick().unwrap();
        t.clock.advance(3 * SECOND);
    }
    assert!(t.fs.schedule_states(Some(MAIN))[0].clock_distrusted);
    let space = t.fs.volume().space();
    assert!(space.free >= floor, "{space:?} {floor}");
    let left = names(&t).len();
    assert!((all - 16..=all - 9).contains(&left), "{left} of {all}");
}

/// A file system on one disk, or on two that are a mirror.
fn on_disks(count: u64) -> (T, Vec<Arc<Sim>>) {
    let sims: Vec<_> = (1..=count).map(|n| Arc::new(Sim::new(1 << 30, n))).collect();
    let device: Arc<dyn Device> = match &sims[..] {
        [first, second] => {
            let labelled = [(first, 1), (second, 2)].map(|(sim, side)| {
                write_label(&**sim, &together_label(side)).unwrap();
                (sim.clone() as Arc<dyn Device>, together_label(side))
            });
            Arc::new(Mirror::together(labelled, 7))
        }
        _ => sims[0].clone(),
    };
    let volume = Volume::made_on(device);
    if count == 2 {
        volume.set_mirrored(true).unwrap();
    }
    (T::on(volume, FsOptions::default()), sims)
}

/// What is free is what the host of a store has, if that is less; of a mirror what the side has that has less.
#[test]
fn a_floor_is_kept_on_the_host_of_each_side() {
    for (disks, full) in [(1, 0), (2, 0), (2, 1)] {
        let (t, sims) = on_disks(disks);
        t.clock.set((MONDAY - 1000) * SECOND);
        t.fs.set_schedules(MAIN, vec![rules("every=1h keep=all")]).unwrap();
        for n in 0..30 {
            hour(&t, "big", &crate::fixtures::bytes(n, 2 << 20));
        }
        t.fs.commit().unwrap();
        t.fs.volume().trim();
        let all = names(&t).len();
        // One host has little, though more than what deletions need; the other, if there is one, has nearly all of a gibibyte.
        let sim = &sims[full];
        let little = sim.backed_bytes() + (40 << 20);
        sim.set_space_limit(little);
        let free = || t.fs.volume().space().free;
        let (floor, space) = (free() + (12 << 20), t.fs.volume().space());
        assert!(space.free < 96 << 20 && space.used > 56 << 20, "{space:?}");
        let look_often = || {
            for _ in 0..40 {
                while t.fs.keep_schedules() {}
                t.fs.tick().unwrap();
                t.clock.advance(3 * SECOND);
            }
        };
        sim.set_space_limit(1 << 30);
        t.fs.set_schedules(MAIN, vec![rules(&format!("every=1h keep=all free={}M", floor >> 20))]).unwrap();
        look_often();
        assert_eq!(names(&t).len(), all, "{disks} {full}");
        t.fs.volume().trim();
        sim.set_space_limit(little);
        assert!(free() < floor);
        let wanted = ((floor + floor / 4 - free()) >> 21) as usize;
        look_often();
        // As many as are wanted with the margin, at two mebibytes each, and few more.
        let left = names(&t).len();
        assert!(free() >= floor, "{disks} {full}: {} of {floor}", free());
        assert!(
            (all - wanted - 4..all - 5).contains(&left),
            "{disks} {full}: {left} of {all} are left, {wanted} were to go"
        );
        t.prove();
    }
}

#[test]
fn two_schedules_with_budgets_keep_to_them_together() {
    let t = T::with(256 << 20, FsOptions::default());
    t.clock.set((MONDAY - 1000) * SECOND);
    let named = |name: &str| parse_rules(name, "every=1h keep=all budget=10M").unwrap();
    t.fs.set_schedules(MAIN, vec![named("one"), named("two")]).unwrap();
    for n in 0..16 {
        replace(&t, "big", &crate::fixtures::bytes(n, 2 << 20));
        pass(&t, HOUR);
        pass(&t, 3);
    }
    // Each moment is in both.
    let ids: Vec<_> = t.fs.snapshots().iter().map(|s| s.id).collect();
    let held = t.fs.planner().unwrap().would_free(&ids).unwrap();
    assert!(ids.len() >= 8 && ids.len() <= 14 && held <= 11 << 20, "{} hold {held}", ids.len());
}

#[test]
fn what_brings_nothing_back_does_not_go_for_want_of_space() {
    let t = T::with(1 << 30, FsOptions::default());
    t.clock.set((MONDAY - 1000) * SECOND);
    t.fs.set_schedules(MAIN, vec![rules("every=1h keep=24h,7d free=100%")]).unwrap();
    for n in 0..4 {
        replace(&t, "big", &crate::fixtures::bytes(n, 2 << 20));
        // Another file has what the snapshot has.
        let (from, to) = (t.find(ROOT, "big").unwrap(), t.put(ROOT, &format!("copy{n}"), b""));
        t.fs.commit().unwrap();
        let (from, to) = (t.open(from, RO), t.open(to, RW));
        t.fs.copy_range(&USER, from.0, from.1, 0, to.0, to.1, 0, 2 << 20).unwrap();
        t.fs.release(from.0, from.1);
        t.fs.release(to.0, to.1);
        pass(&t, HOUR);
        t.fs.tick().unwrap();
        pass(&t, 3);
    }
    let all = names(&t);
    let plan = |n: usize| {
        let ids: Vec<_> = t.fs.snapshots()[..n].iter().map(|s| s.id).collect();
        t.fs.planner().unwrap().would_free(&ids).unwrap()
    };
    assert!(all.len() == 4 && plan(3) < 512 << 10, "{all:?}: {}", plan(3));
}

#[test]
fn a_step_deletes_few_and_says_that_there_is_more() {
    let t = on_monday("every=1h keep=all");
    for n in 0..40 {
        change(&t, n, HOUR);
    }
    assert_eq!(names(&t).len(), 40);
    t.fs.set_schedules(MAIN, vec![rules("every=1h keep=1h")]).unwrap();
    let mut steps = 0;
    loop {
        let before = names(&t).len();
        let more = t.fs.keep_schedules();
        let gone = before - names(&t).len();
        assert!(gone <= PRUNED_AT_ONCE, "{gone} in one step");
        steps += 1;
        if !more {
            break;
        }
    }
    assert_eq!((names(&t).len(), steps), (1, 39_usize.div_ceil(PRUNED_AT_ONCE)));
}

#[test]
fn a_full_store_is_told_and_tried_again() {
    let t = T::with(32 << 20, FsOptions::default());
    t.clock.set((MONDAY - 1000) * SECOND);
    t.fs.set_schedules(MAIN, vec![rules("every=1h keep=24h always")]).unwrap();
    look(&t);
    let (node, handle) = t.create(ROOT, "all");
    let block = vec![7; 1 << 20];
    let full = (0..64).find_map(|n| t.fs.write(node, handle, n << 20, &block, false).err());
    assert_eq!(full, Some(Error::NoSpace));
    for _ in 0..3 {
        pass(&t, HOUR);
    }
    let state = t.fs.schedule_states(Some(MAIN)).remove(0);
    // Whether one fits or not, what failed is told, and once there is space the next is taken.
    let told = state.error.is_some() || state.snapshots == 4;
    assert!(told, "{state:?}");
    t.resize(node, 0);
    t.fs.release(node, handle);
    let own: Vec<_> = t.fs.snapshots().into_iter().map(|s| s.name).collect();
    own[1..].iter().for_each(|name| t.fs.delete_snapshot(name).unwrap());
    t.fs.commit().unwrap();
    t.fs.commit().unwrap();
    pass(&t, HOUR);
    let state = t.fs.schedule_states(Some(MAIN)).remove(0);
    assert!(state.error.is_none() && t.fs.snapshots().len() >= 2, "{state:?}");
}

#[test]
fn a_look_at_rest_costs_the_same_whatever_there_is() {
    let t = T::with(1 << 40, FsOptions { tripwire: true, ..FsOptions::default() });
    t.clock.set((MONDAY - 1000) * SECOND);
    t.put(ROOT, "a", b"a");
    for n in 0..1000 {
        t.fs.create_clone(ROOT, format!("c{n}").as_bytes(), None, &Default::default()).unwrap();
    }
    t.fs.set_schedules(MAIN, vec![rules("every=1h keep=all always")]).unwrap();
    let clone = t.find(NodeId::clonedir(0), "c7").unwrap();
    t.fs.set_schedules(t.fs.line_at(clone).unwrap(), vec![rules("every=1h keep=all timer=off")]).unwrap();
    for _ in 0..1000 {
        pass(&t, HOUR);
    }
    assert_eq!(t.fs.snapshots().len(), 1000);
    t.fs.set_schedules(MAIN, vec![rules("every=1h keep=all")]).unwrap();
    t.fs.tend_tripwire();
    pass(&t, 2 * HOUR);
    let visited = |looks: u64| {
        let before = crate::volume::visits::so_far();
        for _ in 0..looks {
            t.fs.tend_tripwire();
            pass(&t, 1);
        }
        crate::volume::visits::so_far() - before
    };
    visited(2);
    let (ten, minutes) = (visited(10), visited(240));
    assert!(ten <= 10 * 10, "{ten} in ten looks");
    // What may go, and what is to go, is looked at once a minute, for each once or twice.
    assert!(minutes <= 240 * 10 + 5 * 4 * 1000, "{minutes} in four minutes");
    // It is seen at the next look when one is kept, by whatever there is.
    let all = t.fs.snapshots();
    let (id, before) = (all[3].id, visited(1));
    assert!(before <= 10);
    let terms = HoldTerms { tag: "keep", after: None };
    t.fs.hold_snapshot(ROOT, id, &terms, &Provenance::default()).unwrap();
    assert!(visited(1) >= 1000);
    let reader = t.fs.volume().snapshot(all[4].id).unwrap();
    assert!(visited(1) >= 1000);
    drop(reader);
    assert!(visited(1) >= 1000);
    let alone = t.fs.standalone(&all[5].name).unwrap();
    assert!(visited(1) >= 1000);
    drop(alone);
    assert!(visited(1) >= 1000 && visited(1) <= 10);
}

#[test]
fn the_next_one_is_told() {
    let t = on_monday("every=15m keep=24h");
    let state = || t.fs.schedule_states(Some(MAIN)).remove(0);
    assert_eq!((state().snapshots, state().last, state().next), (0, None, Some(MONDAY)));
    change(&t, 1, MINUTE);
    assert_eq!(state().last, Some((MONDAY + MINUTE, 0)));
    assert_eq!(state().next, Some(MONDAY + 15 * MINUTE));
    assert_eq!(state().schedule.every, Period { count: 15, unit: crate::schedule::Unit::Minute });
}
