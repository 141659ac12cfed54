//! Room for those who write: a store with automatic snapshots fills up, and nothing is refused while these can go; `df` tells the truth
//! meanwhile.

use super::*;
use crate::device::Sim;
use crate::device::hanging::Hanging;
use crate::fixtures::{CACHE_BYTES, bytes, make};
use crate::format::LineId;
use crate::format::provenance::{Provenance, Reason};
use crate::fs::{
    FreezeDone, FreezeOrder, HoldTerms, NamedPath, OpenForWriting, Promoted, PromotionOrder, Reached,
    RestoreOrder, Switched,
};
use crate::schedule::parse_rules;
use crate::volume::{Access, OpenOptions};
use parking_lot::Mutex;
use std::time::Duration;

const MAIN: LineId = LineId::MAIN;
const HOUR: i64 = 3600 * 1_000_000_000;
const PIECE: usize = 1 << 20;
const MINUTE: Duration = Duration::from_secs(60);
/// Held for what a commit may need, and lost to what does not fit.
const SLACK: u64 = 3 << 20;

/// As a transport asks: again when room was made.
pub(super) fn patiently<R>(t: &T, bytes: u64, request: impl Fn() -> Result<R>) -> Result<R> {
    let wanted = RoomFor::Change(bytes);
    loop {
        match request() {
            Err(Error::NoSpace) if t.fs.can_make_room(wanted) && t.fs.make_room(wanted, MINUTE) => {}
            done => return done,
        }
    }
}

/// A store of which automatic snapshots hold so many pieces, one a piece, and the live tree one more.
pub(super) fn scheduled(store: u64, rules: &str, pieces: u64) -> T {
    scheduled_on(T::with(store, FsOptions::default()), rules, pieces)
}

fn scheduled_on(t: T, rules: &str, pieces: u64) -> T {
    t.fs.set_schedules(MAIN, vec![parse_rules("default", rules).unwrap()]).unwrap();
    let file = t.create(ROOT, "data");
    for n in 0..=pieces {
        t.write(file, 0, &bytes(n, PIECE));
        t.fs.commit().unwrap();
        while t.fs.keep_schedules() {}
        t.clock.advance(HOUR);
    }
    t.fs.release(file.0, file.1);
    assert_eq!(t.fs.snapshots().len() as u64, pieces + 1);
    t
}

fn names(t: &T) -> Vec<Vec<u8>> {
    t.fs.snapshots().into_iter().map(|s| s.name).collect()
}

/// Writes piece by piece until that is refused; how much was written.
pub(super) fn fill(t: &T, name: &str) -> u64 {
    let file = t.create(ROOT, name);
    let mut written = 0;
    let refused = loop {
        let data = bytes(written, PIECE);
        match patiently(t, PIECE as u64, || t.fs.write(file.0, file.1, written, &data, false)) {
            Ok(len) => written += len as u64,
            Err(e) => break e,
        }
    };
    t.fs.release(file.0, file.1);
    assert_eq!(refused, Error::NoSpace);
    written
}

#[test]
fn no_write_fails_before_all_that_may_go_has_gone() {
    const STORE: u64 = 128 << 20;
    // Two fifths of it.
    let t = scheduled(STORE, "every=1h keep=all free=5%", 52);
    let (all, ids) = (names(&t), t.fs.snapshots().into_iter().map(|s| s.id).collect::<Vec<_>>());
    assert!(t.fs.volume().would_free(ids.iter().copied()).unwrap() >= STORE * 2 / 5);
    // One is held, one is mounted, one is read, and one is a user's.
    let terms = HoldTerms { tag: "keep", after: None };
    t.fs.hold_snapshot(ROOT, ids[12], &terms, &Provenance::default()).unwrap();
    let mounted = t.fs.standalone(&all[7]).unwrap();
    let reader = t.fs.volume().snapshot(ids[20]).unwrap();
    t.snapshot("users");
    while t.fs.keep_schedules() {}
    let (space, told) = (t.fs.volume().space(), t.fs.statfs(ROOT).unwrap());
    assert!(told.available_bytes > space.available + (40 << 20), "{told:?} {space:?}");
    assert!(told.available_bytes <= told.free_bytes && told.free_bytes < STORE);

    let written = fill(&t, "fills it");
    let left: Vec<Vec<u8>> =
        [&all[7], &all[12], &all[20], &all[52], &b"users".to_vec()].map(Clone::clone).into();
    assert_eq!(names(&t), left, "all but the held one, those that are in use and the last are gone");
    // What df called available was written, and no more was to be had.
    assert!(written + SLACK >= told.available_bytes, "{written} of {told:?}");
    assert!(written <= told.available_bytes + STORE / 16, "{written} of {told:?}");
    // That was clean.
    t.prove();
    while t.fs.keep_schedules() {}
    assert!(t.fs.statfs(ROOT).unwrap().available_bytes < SLACK);
    assert_eq!(t.cat(ROOT, "data"), bytes(52, PIECE));
    // Room is made again when nobody uses it any more, and of what was held when it is released.
    drop((mounted, reader));
    assert!(fill(&t, "and more") >= PIECE as u64);
    assert_eq!(names(&t), [&left[1..2], &left[3..]].concat());
    t.fs.release_snapshot(ROOT, ids[12], "keep").unwrap();
    assert!(fill(&t, "and the last") > 0);
    assert_eq!(names(&t), left[3..]);
    let large = t.find(ROOT, "fills it").unwrap();
    t.fs.unlink(&USER, ROOT, b"fills it").unwrap();
    t.fs.forget(large);
    (0..4).for_each(|_| t.fs.commit().unwrap());
    t.put(ROOT, "fits", &bytes(1, PIECE));
    t.prove();
}

#[test]
fn what_would_be_refused_all_the_same_costs_no_history() {
    const STORE: u64 = 96 << 20;
    let t = scheduled(STORE, "every=1h keep=all", 30);
    while t.fs.keep_schedules() {}
    let all = names(&t);
    let file = t.create(ROOT, "large");
    let allocate =
        |len: u64| patiently(&t, len, || t.fs.fallocate(&USER, file.0, file.1, 0, len, AllocateMode::Extend));
    assert_eq!(allocate(STORE), Err(Error::NoSpace));
    assert_eq!(names(&t), all);
    // As few as are enough go, the oldest first.
    let available = t.fs.volume().space().available;
    allocate(available + (4 << 20)).unwrap();
    let left = names(&t);
    assert!(left.len() < all.len() - 3 && left.len() > 15, "{} of {}", left.len(), all.len());
    assert_eq!(left, all[all.len() - left.len()..]);
    t.fs.release(file.0, file.1);
    // A schedule that is run by hand keeps what it took, and then df says no more than what is free.
    let t = scheduled(STORE, "every=1h keep=all", 5);
    t.fs.set_schedules(MAIN, vec![parse_rules("default", "every=1h keep=all timer=off").unwrap()]).unwrap();
    while t.fs.keep_schedules() {}
    let (space, told) = (t.fs.volume().space(), t.fs.statfs(ROOT).unwrap());
    assert_eq!(told.free_bytes, space.free);
    fill(&t, "fills it");
    assert_eq!(names(&t).len(), 6);
}

/// A host without room has a store lack much of what it keeps for commits: no name is made all the same, and costs nothing. What
/// deletes may use some of that.
#[test]
fn no_name_that_is_refused_all_the_same_costs_history() {
    let sim = Arc::new(Sim::new(1 << 30, 3));
    let t = T::on(Volume::made_on(sim.clone()), FsOptions::default());
    t.fs.set_schedules(MAIN, vec![parse_rules("default", "every=1h keep=all").unwrap()]).unwrap();
    let file = t.create(ROOT, "data");
    for n in 0..8 {
        t.write(file, 0, &bytes(n, PIECE));
        t.fs.commit().unwrap();
        while t.fs.keep_schedules() {}
        t.clock.advance(HOUR);
    }
    t.fs.release(file.0, file.1);
    t.fs.commit().unwrap();
    t.fs.volume().trim();
    sim.set_space_limit(sim.backed_bytes());
    let lacking = t.fs.volume().space().lacking;
    sim.set_space_limit(sim.backed_bytes() + lacking - (12 << 20));
    let (all, space) = (names(&t), t.fs.volume().space());
    assert!((11 << 20..13 << 20).contains(&space.lacking), "{space:?}");
    let mode = 0o755;
    assert!(matches!(patiently(&t, 0, || t.fs.mkdir(&USER, ROOT, b"new", mode)), Err(Error::NoSpace)));
    let rename = || t.fs.rename(&USER, ROOT, b"data", ROOT, b"other", RenameMode::Replace);
    assert_eq!(patiently(&t, 0, rename), Err(Error::NoSpace));
    assert_eq!(names(&t), all);
    // What deletes is tried with all that may go.
    assert!(t.fs.make_room(RoomFor::Deletion, MINUTE));
    assert!(names(&t).len() < all.len());
}

/// Nobody waits for room for longer than he has, whoever else waits, and whatever keeps it from being made.
#[test]
fn who_waits_for_room_waits_no_longer_than_he_has() {
    let t = scheduled(96 << 20, "every=1h keep=all", 30);
    let other = t.mkdir(NodeId::clonedir(0), "c").unwrap();
    let of_clone = t.fs.line_at(other).unwrap();
    t.fs.set_schedules(of_clone, vec![parse_rules("default", "every=1h keep=all").unwrap()]).unwrap();
    while t.fs.keep_schedules() {}
    let all = names(&t);
    let (patience, wanted) = (Duration::from_secs(2), RoomFor::Change(t.fs.volume().space().available + 1));
    // Somebody makes a snapshot that takes long.
    let held = t.fs.past.one_at_a_time();
    let began = std::time::Instant::now();
    let made: Vec<bool> = std::thread::scope(|s| {
        let wait = || t.fs.make_room(wanted, patience);
        let waiting: Vec<_> = (0..4).map(|_| s.spawn(wait)).collect();
        waiting.into_iter().map(|waits| waits.join().unwrap()).collect()
    });
    assert_eq!(made, [false; 4]);
    assert!(began.elapsed() < 3 * patience, "{:?}", began.elapsed());
    assert_eq!(names(&t), all);
    drop(held);
    assert!(t.fs.make_room(wanted, patience) && names(&t).len() < all.len());
}

/// Also where one commit takes longer than that; and what nobody waits for any more costs no history.
#[test]
fn who_waits_for_room_is_answered_though_a_commit_takes_long() {
    let disk = Hanging::new(Sim::new(96 << 20, 1));
    make(disk.clone());
    let options = OpenOptions { access: Access::ReadWrite, cache_bytes: CACHE_BYTES };
    let t = T::on(Volume::open(disk.clone(), options).unwrap(), FsOptions::default());
    let t = scheduled_on(t, "every=1h keep=all", 30);
    while t.fs.keep_schedules() {}
    let (all, wanted) = (names(&t), RoomFor::Change(t.fs.volume().space().available + 1));
    t.put(ROOT, "to be committed", b"x");
    disk.hang(true);
    for patience in [500, 1].map(Duration::from_millis) {
        let fs = t.fs.clone();
        let waits: Vec<_> = (0..3)
            .map(|_| {
                let fs = fs.clone();
                std::thread::spawn(move || patiently_within(move || fs.make_room(wanted, patience)))
            })
            .collect();
        let made: Vec<_> = waits.into_iter().map(|waits| waits.join().unwrap()).collect();
        assert_eq!(made, [Some(false); 3]);
    }
    disk.hang(false);
    // The one that hung is over, and has let nothing go.
    drop(t.fs.past.room.begin(std::time::Instant::now() + MINUTE).unwrap());
    assert_eq!(names(&t), all);
    assert!(t.fs.make_room(wanted, MINUTE) && names(&t).len() < all.len());
    t.prove();
}

/// Does something that must not take long.
fn patiently_within<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> Option<R> {
    crate::device::patience::patiently(Duration::from_secs(20), move |_| work())
}

#[test]
fn what_the_trip_wire_kept_goes_last() {
    const STORE: u64 = 128 << 20;
    let t = T::with(STORE, FsOptions { tripwire: true, ..FsOptions::default() });
    t.fs.set_schedules(MAIN, vec![parse_rules("default", "every=1h keep=all").unwrap()]).unwrap();
    let look = |secs: i64| {
        t.fs.tend_tripwire();
        t.clock.advance(secs * 1_000_000_000);
        t.fs.tend_tripwire();
        while t.fs.keep_schedules() {}
    };
    for n in 0..30 {
        t.put(ROOT, &format!("f{n}"), &bytes(n, PIECE));
    }
    look(3600);
    // Two of the schedule's, the mistake, and one more of the schedule's.
    t.put(ROOT, "changed", b"1");
    look(3600);
    for name in (0..30).map(|n| format!("f{n}")) {
        let node = t.find(ROOT, &name).unwrap();
        t.fs.unlink(&USER, ROOT, name.as_bytes()).unwrap();
        t.fs.forget(node);
    }
    t.fs.tend_tripwire();
    let kept = |t: &T| names(t).iter().filter(|name| name.starts_with(b"@before-mass-deletion-")).count();
    assert_eq!(kept(&t), 1, "{:?}", names(&t));
    look(3600);
    assert_eq!((kept(&t), names(&t).len()), (1, 4), "{:?}", names(&t));
    let told = t.fs.statfs(ROOT).unwrap();

    // While others may go it stays; whoever deleted all that to make room has the room.
    let file = t.create(ROOT, "more");
    let mut written = 0;
    let mut went_at = None;
    loop {
        let data = bytes(written, PIECE);
        match patiently(&t, PIECE as u64, || t.fs.write(file.0, file.1, written, &data, false)) {
            Ok(len) => written += len as u64,
            Err(e) => break assert_eq!(e, Error::NoSpace),
        }
        if kept(&t) == 0 && went_at.is_none() {
            went_at = Some((written, names(&t).len()));
        }
    }
    t.fs.release(file.0, file.1);
    assert!(matches!(went_at, Some((_, 1))), "{went_at:?}");
    assert!(written >= STORE * 3 / 4, "{written} of {told:?}");
    assert!(written + SLACK >= told.available_bytes, "{written} of {told:?}");
    t.prove();
}

#[test]
fn what_df_tells_follows_what_may_go() {
    let t = scheduled(128 << 20, "every=1h keep=all", 30);
    let told = || {
        while t.fs.keep_schedules() {}
        t.fs.statfs(ROOT).unwrap().available_bytes >> 20
    };
    let before = told();
    // Somebody reads them, or holds them, and then not any more.
    let readers: Vec<_> =
        t.fs.snapshots()[..10].iter().map(|s| t.fs.volume().snapshot(s.id).unwrap()).collect();
    assert!((9..12).contains(&(before - told())), "{before} {}", told());
    drop(readers);
    assert_eq!(told(), before);
    // The point behind the trip wire has what was deleted just now, and gives it when it is wanted.
    let t = T::with(128 << 20, FsOptions { tripwire: true, ..FsOptions::default() });
    let node = t.put(ROOT, "big", &bytes(1, 40 << 20));
    t.fs.commit().unwrap();
    let tick = || {
        t.fs.tend_tripwire();
        while t.fs.keep_schedules() {}
        t.clock.advance(61 * 1_000_000_000);
    };
    (0..3).for_each(|_| tick());
    let available = |t: &T| t.fs.statfs(ROOT).unwrap().available_bytes >> 20;
    let before = available(&t);
    t.fs.unlink(&USER, ROOT, b"big").unwrap();
    t.fs.forget(node);
    t.fs.commit().unwrap();
    while t.fs.keep_schedules() {}
    assert!(available(&t) >= before + 39, "{before} {}", available(&t));
}

/// Looks as the timer does, and so much time passes.
fn tick(t: &T, secs: i64) {
    t.fs.tend_tripwire();
    while t.fs.keep_schedules() {}
    t.clock.advance(secs * 1_000_000_000);
}

fn delete(t: &T, name: &str) {
    let node = t.find(ROOT, name).unwrap();
    t.fs.unlink(&USER, ROOT, name.as_bytes()).unwrap();
    t.fs.forget(node);
}

/// Two files share a block: from then on plans count references.
fn share_something(t: &T) {
    let (from, to) = (t.put(ROOT, "shared", &bytes(5, 8192)), t.put(ROOT, "shares", b""));
    t.fs.commit().unwrap();
    let (from, to) = (t.open(from, RO), t.open(to, RW));
    t.fs.copy_range(&USER, from.0, from.1, 0, to.0, to.1, 0, 8192).unwrap();
    t.fs.release(from.0, from.1);
    t.fs.release(to.0, to.1);
    t.fs.commit().unwrap();
}

/// Half a minute before an hour is over: the newest point behind the trip wire is a minute old and has all files, and so has what a
/// schedule took by then, if there is one.
fn pointed(t: &T, has_schedule: bool) {
    if has_schedule {
        t.fs.set_schedules(MAIN, vec![parse_rules("default", "every=1h keep=all").unwrap()]).unwrap();
    }
    let secs = t.clock.now().secs;
    tick(t, 7200 - 150 - secs);
    for (n, pause) in [61, 61, 2].into_iter().enumerate() {
        t.put(ROOT, &format!("changed{n}"), b"it");
        if n == 1
            && let Ok(file) = t.find(ROOT, "written over")
        {
            // The schedule's has a little that the point does not have.
            let file = t.open(file, RW);
            t.write(file, 0, &bytes(8, 64 << 10));
            t.fs.release(file.0, file.1);
        }
        t.fs.commit().unwrap();
        tick(t, pause);
    }
}

#[test]
fn both_points_of_the_trip_wire_give_what_was_deleted_just_now() {
    for (has_schedule, shares) in [(false, false), (true, false), (false, true), (true, true)] {
        let what = format!("schedule {has_schedule}, shared blocks {shares}");
        let t = T::with(128 << 20, FsOptions { tripwire: true, ..FsOptions::default() });
        t.put(ROOT, "big", &bytes(1, 40 << 20));
        if shares {
            share_something(&t);
        }
        pointed(&t, has_schedule);
        let available = || t.fs.statfs(ROOT).unwrap().available_bytes >> 20;
        let before = available();
        delete(&t, "big");
        t.fs.commit().unwrap();
        t.clock.advance(28_000_000_000);
        // The schedule's last, which stays, is without it.
        while t.fs.keep_schedules() {}
        assert!(available() >= before + 39, "{what}: {before} {}", available());
        // There is a newer point, without it, and the one before that has it.
        tick(&t, 40);
        tick(&t, 1);
        tick(&t, 1);
        assert!(available() >= before + 39, "{what}: {before} {}", available());
        let (file, len) = (t.create(ROOT, "large"), t.fs.volume().space().available + (20 << 20));
        let allocate = || t.fs.fallocate(&USER, file.0, file.1, 0, len, AllocateMode::Extend);
        assert_eq!(patiently(&t, len, allocate), Ok(()), "{what}");
        t.fs.release(file.0, file.1);
        t.prove();
    }
}

/// Each second of a deletion that goes on more may be had: that is counted for a part of the time, whatever it costs, and what no longer may
/// be had at once.
#[test]
fn what_more_may_be_had_of_a_deletion_is_counted_for_a_part_of_the_time() {
    let t = T::with(256 << 20, FsOptions { tripwire: true, ..FsOptions::default() });
    for name in ["one", "two", "three"] {
        t.put(ROOT, name, &bytes(name.len() as u64, 20 << 20));
    }
    pointed(&t, false);
    let told = |secs: i64| {
        t.fs.commit().unwrap();
        t.clock.advance(secs * 1_000_000_000);
        while t.fs.keep_schedules() {}
        t.fs.may_free() >> 20
    };
    let before = told(1);
    delete(&t, "one");
    let one = told(1);
    assert!(one >= before + 19, "{before} {one}");
    let again = &t.fs.past.room.counted_again;
    assert!(*again.lock() > t.clock.passed(), "the count has taken some time");
    // It was long.
    *again.lock() = t.clock.passed() + Duration::from_secs(10);
    delete(&t, "two");
    assert_eq!((0..8).map(|_| told(1)).collect::<Vec<_>>(), [one; 8]);
    let both = told(3);
    assert!(both >= one + 19, "{one} {both}");
    *again.lock() = t.clock.passed() + Duration::from_secs(10);
    t.head().tripwire.let_go();
    assert!(told(1) < 20, "what is gone is not to be had");
}

/// A user's snapshot serves as a point; it stays, and `df` does not count what it holds.
#[test]
fn what_a_users_snapshot_holds_is_not_told_to_be_free() {
    let t = T::with(128 << 20, FsOptions { tripwire: true, ..FsOptions::default() });
    t.put(ROOT, "big", &bytes(1, 40 << 20));
    t.snapshot("users");
    (0..3).for_each(|_| tick(&t, 61));
    delete(&t, "big");
    t.fs.commit().unwrap();
    tick(&t, 1);
    tick(&t, 1);
    let space = t.fs.volume().space();
    assert_eq!(t.fs.may_free(), 0);
    let (file, len) = (t.create(ROOT, "large"), space.available + (20 << 20));
    let allocate = || t.fs.fallocate(&USER, file.0, file.1, 0, len, AllocateMode::Extend);
    assert_eq!(patiently(&t, len, allocate), Err(Error::NoSpace));
    t.fs.release(file.0, file.1);
}

#[test]
fn what_a_point_and_snapshots_have_only_together_comes_back() {
    for (has_rolled, has_little) in [(false, false), (true, false), (false, true), (true, true)] {
        let t = T::with(256 << 20, FsOptions { tripwire: true, ..FsOptions::default() });
        t.put(ROOT, "stays", &bytes(1, 100 << 20));
        for n in 0..100 {
            t.put(ROOT, &format!("small{n}"), b"few");
        }
        for n in 0..21 {
            t.put(ROOT, &format!("old{n}"), &bytes(n, PIECE));
        }
        if has_little {
            t.put(ROOT, "written over", &bytes(7, 256 << 10));
        }
        t.fs.commit().unwrap();
        pointed(&t, true);
        (0..21).for_each(|n| delete(&t, &format!("old{n}")));
        t.fs.commit().unwrap();
        t.clock.advance(28_000_000_000);
        while t.fs.keep_schedules() {}
        if has_rolled {
            tick(&t, 61);
            t.put(ROOT, "changed more", b"it");
            tick(&t, 1);
        }
        let state = t.fs.tripwire_state().unwrap().unwrap();
        assert!(state.point.is_some() && state.gone.files == 21 && state.last.is_none(), "{state:?}");
        assert!(names(&t).len() > 1, "{:?}", names(&t));
        let (file, len) = (t.create(ROOT, "large"), t.fs.volume().space().available + (10 << 20));
        let allocate = || t.fs.fallocate(&USER, file.0, file.1, 0, len, AllocateMode::Extend);
        assert_eq!(patiently(&t, len, allocate), Ok(()), "{has_rolled} {has_little}");
        t.fs.release(file.0, file.1);
        t.prove();
    }
}

/// That there was nothing to be had is known no longer than until something is deleted.
#[test]
fn what_was_found_to_bring_nothing_is_looked_at_again() {
    let t = T::with(128 << 20, FsOptions::default());
    t.fs.set_schedules(MAIN, vec![parse_rules("default", "every=1h keep=all").unwrap()]).unwrap();
    t.put(ROOT, "big", &bytes(1, 40 << 20));
    t.fs.commit().unwrap();
    tick(&t, 3600);
    t.mkdir(NodeId::clonedir(0), "c").unwrap();
    delete(&t, "big");
    t.fs.commit().unwrap();
    tick(&t, 3600);
    // Nothing comes back of the one that has the file while the clone has it.
    let had = names(&t);
    fill(&t, "fills it");
    assert_eq!(names(&t), had);
    t.fs.rmdir(&SUPER, NodeId::clonedir(0), b"c").unwrap();
    t.fs.commit().unwrap();
    assert!(fill(&t, "and more") > 30 << 20);
    assert_eq!(names(&t), had[1..]);
    t.prove();
}

#[test]
fn what_was_deleted_is_free_before_the_next_commit() {
    let t = T::with(128 << 20, FsOptions::default());
    let available = |t: &T| t.fs.statfs(ROOT).unwrap().available_bytes >> 20;
    let node = t.put(ROOT, "big", &bytes(1, 40 << 20));
    t.fs.commit().unwrap();
    let with = available(&t);
    t.fs.unlink(&USER, ROOT, b"big").unwrap();
    t.fs.forget(node);
    let before = available(&t);
    assert!(before >= with + 38, "{before} {with}");
    assert!(t.fs.volume().space_with_freed().used < 8 << 20);
    let node = t.put(ROOT, "more", &bytes(2, 60 << 20));
    t.fs.commit().unwrap();
    // A snapshot that is deleted counts as soon as it is, unless somebody reads it.
    t.snapshot("s");
    t.fs.unlink(&USER, ROOT, b"more").unwrap();
    t.fs.forget(node);
    t.fs.commit().unwrap();
    let told = || {
        t.clock.advance(1_000_000_000);
        while t.fs.keep_schedules() {}
        available(&t)
    };
    let held = told();
    let reader = t.fs.volume().snapshot(t.fs.snapshots()[0].id).unwrap();
    t.fs.delete_snapshot(b"s").unwrap();
    assert!(told() <= held + 1);
    drop(reader);
    assert!(told() >= held + 55, "{held} {}", told());
    for _ in 0..5 {
        t.fs.commit().unwrap();
    }
    assert!((before - 3..=before + 6).contains(&told()), "{before} {}", told());
    // Of what two files share nothing counts that is not free in the end.
    let node = t.put(ROOT, "one", &bytes(3, 20 << 20));
    t.fs.commit().unwrap();
    let to = t.create(ROOT, "two");
    let from = t.open(node, RO);
    t.fs.copy_range(&USER, from.0, from.1, 0, to.0, to.1, 0, 20 << 20).unwrap();
    t.fs.release(from.0, from.1);
    t.fs.release(to.0, to.1);
    let both = available(&t);
    t.fs.unlink(&USER, ROOT, b"one").unwrap();
    t.fs.forget(node);
    assert!(available(&t) <= both + 1, "{both} {}", available(&t));
}

#[test]
fn what_is_restored_on_a_full_store_finds_room() {
    let t = scheduled(128 << 20, "every=1h keep=all", 10);
    let dir = t.mkdir(ROOT, "many").unwrap();
    for n in 0..2000 {
        t.put(dir, &format!("f{n}"), &[n as u8; 300]);
    }
    t.snapshot("whole");
    for n in 0..2000 {
        t.fs.unlink(&USER, dir, format!("f{n}").as_bytes()).unwrap();
    }
    t.fs.commit().unwrap();
    // By somebody who does not wait for room, up to the last byte.
    let file = t.create(ROOT, "fills it");
    let mut at = 0;
    while t.fs.write(file.0, file.1, at, &bytes(at, 64 << 10), false).is_ok() {
        at += 64 << 10;
    }
    t.fs.release(file.0, file.1);
    (0..10_000)
        .take_while(|n| t.fs.mkdir(&USER, ROOT, format!("{n:0>200}").as_bytes(), 0o755).is_ok())
        .count();
    let had = names(&t).len();
    let path = NamedPath { at: ROOT, below: vec![b"many".to_vec()], name: b"many".to_vec() };
    let order = RestoreOrder { paths: vec![path], from: Some(b"whole".to_vec()), to: None };
    t.fs.restore(&order, &Provenance::from(Reason::Restore)).unwrap();
    assert_eq!(t.list(dir).len(), 2000);
    assert!(names(&t).len() < had && names(&t).contains(&b"whole".to_vec()), "{had}");
    t.prove();
}

#[test]
fn several_who_write_wait_for_the_same_room() {
    let t = scheduled(128 << 20, "every=1h keep=all", 40);
    while t.fs.keep_schedules() {}
    let available = t.fs.statfs(ROOT).unwrap().available_bytes;
    let written: u64 = std::thread::scope(|s| {
        let fill = |n: u32| fill(&t, &format!("writer {n}"));
        let all: Vec<_> = (0..4).map(|n| s.spawn(move || fill(n))).collect();
        all.into_iter().map(|writer| writer.join().unwrap()).sum()
    });
    assert_eq!(names(&t).len(), 1);
    assert!(written + 4 * SLACK >= available, "{written} of {available}");
    t.prove();
}

/// What there is to give up: something in the trash, snapshots of a schedule, and a point that has more than a few deleted files.
fn with_all_to_give_up(store: u64) -> T {
    let t = T::with(store, FsOptions { tripwire: true, ..FsOptions::default() });
    t.fs.setxattr(&SUPER, ROOT, b"user.snapfs.trash", b"1w", XattrMode::Set).unwrap();
    t.fs.set_schedules(MAIN, vec![parse_rules("default", "every=1h keep=all").unwrap()]).unwrap();
    let file = t.create(ROOT, "data");
    for n in 0..12 {
        t.write(file, 0, &bytes(n, PIECE));
        t.fs.commit().unwrap();
        while t.fs.keep_schedules() {}
        t.clock.advance(HOUR);
    }
    t.fs.release(file.0, file.1);
    for n in 0..2 {
        t.put(ROOT, "trashed", &bytes(100 + n, 8 * PIECE));
        t.snapshot(&format!("deleted{n}"));
    }
    for n in 0..100 {
        t.put(ROOT, &format!("small{n}"), b"few");
    }
    (0..2).for_each(|n| t.fs.rmdir(&SUPER, SNAPDIR, format!("deleted{n}").as_bytes()).unwrap());
    t.fs.commit().unwrap();
    t.clock.advance(61 * 1_000_000_000);
    t.fs.tend_tripwire();
    // Not enough of them for a snapshot of their own: there are others that are not old.
    (0..21).for_each(|n| t.fs.unlink(&USER, ROOT, format!("small{n}").as_bytes()).unwrap());
    t.fs.tend_tripwire();
    let state = t.fs.tripwire_state().unwrap().unwrap();
    assert!(state.point.is_some() && state.gone.files == 21 && state.last.is_none(), "{state:?}");
    t
}

/// Of each of these, in the order in which they go, how much there is.
fn to_give_up(t: &T) -> [usize; 3] {
    let has_point = t.fs.tripwire_state().unwrap().unwrap().point.is_some();
    [t.fs.trash_of(ROOT).unwrap().len(), names(t).len(), usize::from(has_point)]
}

#[test]
fn what_goes_for_space_goes_in_one_order() {
    const STORE: u64 = 128 << 20;
    let t = with_all_to_give_up(STORE);
    let file = t.create(ROOT, "fills it");
    let (mut written, mut seen) = (0, vec![to_give_up(&t)]);
    loop {
        let data = bytes(written, PIECE);
        match patiently(&t, PIECE as u64, || t.fs.write(file.0, file.1, written, &data, false)) {
            Ok(len) => written += len as u64,
            Err(e) => break assert_eq!(e, Error::NoSpace),
        }
        let now = to_give_up(&t);
        if seen.last() != Some(&now) {
            seen.push(now);
        }
    }
    t.fs.release(file.0, file.1);
    seen.push(to_give_up(&t));
    assert_eq!((seen[0], seen.last()), ([2, 12, 1], Some(&[0, 1, 0])), "{seen:?}");
    for pair in seen.windows(2) {
        let [before, after] = [pair[0], pair[1]];
        assert!(after[1] == before[1] || before[0] == 0 || after[0] == 0, "the trash goes first: {seen:?}");
        assert!(after[2] == before[2] || after[..2] == [0, 1], "the point goes last: {seen:?}");
    }
    assert!(seen.iter().any(|now| now[0] == 1), "one at a time: {seen:?}");
    t.prove();
}

#[test]
fn what_could_never_be_had_costs_neither_trash_nor_point() {
    const STORE: u64 = 128 << 20;
    let t = with_all_to_give_up(STORE);
    let all = to_give_up(&t);
    let file = t.create(ROOT, "large");
    let allocate =
        |len: u64| patiently(&t, len, || t.fs.fallocate(&USER, file.0, file.1, 0, len, AllocateMode::Extend));
    // More than the store has, and more than could be had of it.
    for len in [1 << 40, STORE, t.fs.volume().space().available + (40 << 20)] {
        assert_eq!(allocate(len), Err(Error::NoSpace));
        assert_eq!(to_give_up(&t), all, "{len}");
    }
    // What can be had costs the trash.
    allocate(t.fs.volume().space().available + (3 << 20)).unwrap();
    assert_eq!(to_give_up(&t), [1, 12, 1]);
    t.fs.release(file.0, file.1);
    t.prove();
}

/// A kernel with pages of a file that it has not written, and how often it was asked for them.
struct Holding {
    fs: Mutex<Option<Arc<Fs>>>,
    file: (NodeId, Handle),
    dirty: Mutex<u64>,
    asked: Mutex<usize>,
}

impl Holding {
    fn of(t: &T, file: (NodeId, Handle), dirty: u64) -> Arc<Holding> {
        let fs = Mutex::new(Some(t.fs.clone()));
        let kernel = Arc::new(Holding { fs, file, dirty: Mutex::new(dirty), asked: Mutex::new(0) });
        t.fs.set_kernel(kernel.clone());
        kernel
    }
}

impl Kernel for Holding {
    fn write_back(&self, _nodes: &[(NodeId, u64)]) -> std::io::Result<()> {
        *self.asked.lock() += 1;
        let (fs, dirty) = (self.fs.lock().clone().unwrap(), std::mem::take(&mut *self.dirty.lock()));
        for at in (0..dirty).step_by(PIECE) {
            let data = bytes(at + 7, PIECE);
            loop {
                match fs.write(self.file.0, self.file.1, at, &data, false) {
                    Ok(_) => break,
                    Err(Error::NoSpace) if fs.can_make_room(RoomFor::Change(data.len() as u64)) => {
                        if !fs.make_room(RoomFor::Change(data.len() as u64), MINUTE) {
                            return Err(std::io::ErrorKind::StorageFull.into());
                        }
                    }
                    Err(e) => panic!("{e}"),
                }
            }
        }
        Ok(())
    }
    fn dirty_bytes_at_most(&self) -> u64 {
        *self.dirty.lock()
    }
    fn invalidate_node(&self, _node: NodeId) {}
    fn invalidate_entry(&self, _parent: NodeId, _name: &[u8]) {}
}

type Act = fn(&T) -> Result<()>;

/// What has the kernel hand over what it holds of a line, which is the main line or a clone.
const ACTS: [(&str, bool, Act); 14] = [
    ("snapshot", true, |t| t.mkdir(SNAPDIR, "new").map(drop)),
    ("held snapshot", true, |t| {
        let terms = HoldTerms { tag: "keep", after: None };
        t.fs.create_held_snapshot(ROOT, b"new", (&Provenance::default(), Reached::PLAIN), &terms).map(drop)
    }),
    ("guard", true, |t| t.fs.create_guard_of(ROOT, &Reason::Rollback.into()).map(drop)),
    ("step", true, |t| t.fs.take_step(ROOT, &Reason::Step.into(), 1, Box::new(|| false)).map(drop)),
    ("schedule", true, |t| {
        t.clock.advance(HOUR);
        t.fs.run_schedules(MAIN, None).map(drop)
    }),
    ("clone", true, |t| t.fs.create_clone(ROOT, b"new", None, &Reason::User.into())),
    ("clone of a clone", false, |t| t.mkdir(NodeId::clonedir(0), "new").map(drop).and(clone_of_clone(t))),
    ("trial", true, |t| t.fs.begin_trial(ROOT, &Reason::Trial.into(), Box::new(|| false)).map(drop)),
    ("rollback", true, |t| rollback(t)),
    ("undo", true, |t| t.fs.undo(ROOT, OpenForWriting::CutOff).map(|done| assert!(done.is_some()))),
    ("promote", false, |t| {
        let order =
            PromotionOrder { clone: b"c", onto: None, keep_as: None, writers: OpenForWriting::CutOff };
        let done = t.fs.promote(&order, &Reason::Promote.into())?;
        assert!(matches!(done, Promoted::Switched(Switched::Done(_))), "{done:?}");
        Ok(())
    }),
    ("drop into the trash", false, |t| t.fs.rmdir(&SUPER, NodeId::clonedir(0), b"c")),
    ("restore", true, |t| {
        let path = NamedPath { at: ROOT, below: Vec::new(), name: b"data".to_vec() };
        let order = RestoreOrder { paths: vec![path], from: Some(b"base".to_vec()), to: None };
        t.fs.restore(&order, &Reason::Restore.into()).map(drop).map_err(|e| panic!("{e:?}"))
    }),
    ("freeze", true, |t| {
        let timeout = Duration::from_secs(30);
        let order = FreezeOrder { at: ROOT, all: false, timeout, by: Provenance::default() };
        let done = t.fs.freeze(&order)?;
        assert!(matches!(done, FreezeDone::Frozen(_)), "{done:?}");
        Ok(())
    }),
];

fn clone_of_clone(t: &T) -> Result<()> {
    t.fs.create_clone(t.find(NodeId::clonedir(0), "c")?, b"newer", None, &Reason::User.into())
}

fn rollback(t: &T) -> Result<()> {
    let to = t.fs.snapshot_of_word(ROOT, b"base")?;
    let done = t.fs.rollback(ROOT, &to, OpenForWriting::CutOff, &Reason::Rollback.into())?;
    assert!(matches!(done, Switched::Done(_)), "{done:?}");
    Ok(())
}

/// A nearly full store with snapshots that may go, and a kernel that holds more than there is room for.
fn nearly_full(of_root: bool, dirty: u64) -> (T, Arc<Holding>) {
    let t = scheduled(80 << 20, "every=1h keep=all", 20);
    t.fs.setxattr(&SUPER, ROOT, b"user.snapfs.trash", b"1w", XattrMode::Set).unwrap();
    t.snapshot("base");
    rollback(&t).unwrap();
    t.mkdir(NodeId::clonedir(0), "c").unwrap();
    t.put(ROOT, "data", b"other");
    let line = if of_root { ROOT } else { t.find(NodeId::clonedir(0), "c").unwrap() };
    let file = t.create(line, "mapped");
    t.fs.commit().unwrap();
    // By somebody who does not wait for room.
    let full = t.create(ROOT, "fills it");
    let mut at = 0;
    while t.fs.write(full.0, full.1, at, &bytes(at, PIECE), false).is_ok() {
        at += PIECE as u64;
    }
    t.fs.release(full.0, full.1);
    t.fs.commit().unwrap();
    let kernel = Holding::of(&t, file, dirty);
    (t, kernel)
}

#[test]
fn whoever_waits_for_the_kernels_pages_keeps_nobody_from_making_room_for_them() {
    for (name, of_root, act) in ACTS {
        const DIRTY: u64 = 6 << 20;
        let (t, kernel) = nearly_full(of_root, DIRTY);
        let before = names(&t);
        act(&t).unwrap_or_else(|e| panic!("{name}: {e}"));
        t.fs.set_kernel(Arc::new(NoKernel));
        *kernel.fs.lock() = None;
        assert_eq!(*kernel.dirty.lock(), 0, "{name}");
        let now = names(&t);
        let gone = before.iter().filter(|name| !now.contains(name)).count();
        assert!((1..16).contains(&gone), "{name}: {gone} gave room");
        t.fs.commit().unwrap();
        t.prove();
    }
}

#[test]
fn nothing_is_given_up_for_pages_that_the_kernel_does_not_hold() {
    let (t, kernel) = nearly_full(true, 0);
    let before = names(&t);
    t.mkdir(SNAPDIR, "new").unwrap();
    t.fs.create_clone(ROOT, b"new", None, &Reason::User.into()).unwrap();
    assert_eq!(names(&t), [before, vec![b"new".to_vec()]].concat());
    // Where there is room it is asked once.
    let t = T::with(128 << 20, FsOptions::default());
    *kernel.fs.lock() = None;
    let kernel = Holding::of(&t, t.create(ROOT, "mapped"), 8 << 20);
    t.mkdir(SNAPDIR, "new").unwrap();
    assert_eq!((*kernel.asked.lock(), *kernel.dirty.lock()), (1, 0));
    *kernel.fs.lock() = None;
    t.prove();
}
