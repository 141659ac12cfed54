//! The trip wire under a clock of the test: what is caught with the first file in it, what is not, how many stay, crashes, want of space.

use super::*;
use crate::device::{CrashPolicy, Sim};
use crate::fixtures::new_store;
use crate::format::LineId;
use crate::format::provenance::{Provenance, Reason};
use crate::fs::HoldTerms;
use crate::schedule::parse_rules;
use crate::volume::{Access, OpenOptions};

const SECOND: i64 = 1_000_000_000;
const PREFIX: &str = "@before-mass-deletion-";

fn options() -> FsOptions {
    FsOptions { tripwire: true, ..FsOptions::default() }
}

fn watched() -> T {
    T::with(1 << 40, options())
}

fn on(sim: &Arc<Sim>) -> T {
    let access = OpenOptions { access: Access::ReadWrite, cache_bytes: 8 << 20 };
    T::on(Volume::open(sim.clone(), access).unwrap(), options())
}

/// So much later, looked at every second at first and then less often.
fn pass(t: &T, secs: i64) {
    t.fs.tend_tripwire();
    t.clock.advance(secs * SECOND);
    t.fs.tend_tripwire();
}

fn fill(t: &T, dir: NodeId, count: usize, bytes: usize) {
    for n in 0..count {
        t.put(dir, &format!("f{n}"), &vec![n as u8 | 1; bytes]);
    }
}

fn unlink(t: &T, dir: NodeId, count: usize) {
    (0..count).for_each(|n| t.fs.unlink(&USER, dir, format!("f{n}").as_bytes()).unwrap());
}

fn kept(t: &T) -> Vec<String> {
    t.list(SNAPDIR).into_iter().filter(|name| name.starts_with(PREFIX)).collect()
}

fn entries(t: &T, snapshot: &str, dir: &str) -> usize {
    t.list(t.find(t.find(SNAPDIR, snapshot).unwrap(), dir).unwrap()).len()
}

#[test]
fn the_first_file_of_a_mass_deletion_is_in_the_snapshot() {
    let t = watched();
    let dir = t.mkdir(ROOT, "dir").unwrap();
    fill(&t, dir, 1100, 10);
    pass(&t, 61);
    // What is deleted before the next point counts with what is deleted after it.
    unlink(&t, dir, 200);
    pass(&t, 61);
    assert_eq!((kept(&t).len(), t.fs.tripwire_state().unwrap().unwrap().gone.files), (0, 200));
    (200..1100).for_each(|n| t.fs.unlink(&USER, dir, format!("f{n}").as_bytes()).unwrap());
    t.fs.tend_tripwire();
    let all = kept(&t);
    assert_eq!((all.len(), entries(&t, &all[0], "dir")), (1, 1100));
    let info = t.fs.volume().find_snapshot(LineId::MAIN, all[0].as_bytes()).unwrap();
    assert_eq!(info.provenance.reason, Reason::MassDeletion);
    assert_eq!(info.provenance.description, b"1100 files, 11000 bytes deleted or overwritten");
    assert_eq!(t.fs.tripwire_state().unwrap().unwrap().last, Some(all[0].clone().into_bytes()));
    let back = t.find(t.find(SNAPDIR, &all[0]).unwrap(), "dir").unwrap();
    assert_eq!(t.cat(back, "f0"), [1; 10]);
    t.fs.commit().unwrap();
    t.prove();
    t.fs.delete_snapshot_of(ROOT, all[0].as_bytes()).unwrap();
    (0..3).for_each(|_| t.fs.commit().unwrap());
    t.prove();
}

#[test]
fn what_was_made_just_now_may_go_and_so_may_a_little() {
    let t = watched();
    t.put(ROOT, "old", b"old");
    pass(&t, 61);
    // Made and deleted, as builds do, twice.
    let dir = t.mkdir(ROOT, "target").unwrap();
    for _ in 0..2 {
        fill(&t, dir, 1200, 10);
        unlink(&t, dir, 1200);
    }
    pass(&t, 1);
    assert_eq!(kept(&t), [""; 0]);
    // A little of much. (Files without a name stay until the kernel forgets them, and nobody here does.)
    let t = watched();
    t.put(ROOT, "old", b"old");
    let dir = t.mkdir(ROOT, "target").unwrap();
    fill(&t, dir, 200, 10);
    pass(&t, 61);
    unlink(&t, dir, 40);
    pass(&t, 1);
    assert_eq!(kept(&t), [""; 0]);
    // A quarter of it, and a minute later the rest of the quarter does not count with that.
    pass(&t, 61);
    pass(&t, 61);
    assert_eq!(t.fs.tripwire_state().unwrap().unwrap().gone.files, 0);
    (40..90).for_each(|n| t.fs.unlink(&USER, dir, format!("f{n}").as_bytes()).unwrap());
    t.fs.tend_tripwire();
    assert_eq!(kept(&t).len(), 1);
    assert_eq!(entries(&t, &kept(&t)[0], "target"), 160);
}

/// What is done to each of 30 files of 64 KiB.
fn caught(harm: impl Fn(&T, NodeId, usize)) -> bool {
    let t = watched();
    let dir = t.mkdir(ROOT, "dir").unwrap();
    fill(&t, dir, 30, 64 << 10);
    for n in 0..200 {
        t.put(ROOT, &format!("small{n}"), b"small");
    }
    t.fs.commit().unwrap();
    pass(&t, 61);
    (0..30).for_each(|n| harm(&t, dir, n));
    t.fs.tend_tripwire();
    let all = kept(&t);
    if let Some(name) = all.first() {
        let past = t.find(t.find(SNAPDIR, name).unwrap(), "dir").unwrap();
        (0..30).for_each(|n| assert_eq!(t.cat(past, &format!("f{n}")), vec![n as u8 | 1; 64 << 10]));
    }
    t.fs.commit().unwrap();
    t.prove();
    all.len() == 1
}

#[test]
fn whatever_takes_content_away_counts() {
    let name = |n: usize| format!("f{n}");
    let write = |t: &T, node, len: usize, at| {
        let f = t.open(node, RW);
        t.write(f, at, &vec![77; len]);
        t.fs.release(f.0, f.1);
    };
    // By their share of all bytes: deleted, written over, in pieces, cut off, replaced.
    assert!(caught(|t, dir, n| t.fs.unlink(&USER, dir, name(n).as_bytes()).unwrap()));
    assert!(caught(|t, dir, n| write(t, t.find(dir, &name(n)).unwrap(), 64 << 10, 0)));
    assert!(caught(|t, dir, n| (0..8).for_each(|i| write(
        t,
        t.find(dir, &name(n)).unwrap(),
        4 << 10,
        i * (8 << 10)
    ))));
    assert!(caught(|t, dir, n| t.resize(t.find(dir, &name(n)).unwrap(), 0)));
    assert!(caught(|t, dir, n| {
        t.put(dir, "new", b"encrypted");
        t.fs.rename(&USER, dir, b"new", dir, name(n).as_bytes(), RenameMode::Replace).unwrap();
    }));
    // What is added to the end, a little in the middle, or moved, does not.
    assert!(!caught(|t, dir, n| write(t, t.find(dir, &name(n)).unwrap(), 64 << 10, 64 << 10)));
    assert!(!caught(|t, dir, n| write(t, t.find(dir, &name(n)).unwrap(), 16 << 10, 4096)));
    assert!(!caught(|t, dir, n| {
        t.fs.rename(&USER, dir, name(n).as_bytes(), dir, format!("g{n}").as_bytes(), RenameMode::Replace)
            .unwrap();
        t.fs.rename(&USER, dir, format!("g{n}").as_bytes(), dir, name(n).as_bytes(), RenameMode::Replace)
            .unwrap();
    }));
    // A database that is written all the time is one file.
    let t = watched();
    let node = t.put(ROOT, "db", &vec![1; 4 << 20]);
    pass(&t, 61);
    write(&t, node, 4 << 20, 0);
    pass(&t, 1);
    assert_eq!(kept(&t), [""; 0]);
}

#[test]
fn it_can_be_set_and_switched_off() {
    let t = watched();
    let set = |value: &[u8]| t.fs.setxattr(&SUPER, ROOT, b"user.snapfs.tripwire", value, XattrMode::Set);
    let get = || t.fs.getxattr(ROOT, b"user.snapfs.tripwire").unwrap();
    assert_eq!(get(), b"on");
    let dir = t.mkdir(ROOT, "dir").unwrap();
    fill(&t, dir, 100, 10);
    for wrong in [&b"0"[..], b"-1", b"10%", b"4294967295", b"\xff"] {
        assert_eq!(set(wrong), Err(Error::Invalid), "{wrong:?}");
    }
    set(b"off").unwrap();
    pass(&t, 61);
    unlink(&t, dir, 100);
    pass(&t, 1);
    assert_eq!((get(), kept(&t).len()), (b"off".to_vec(), 0));
    assert_eq!(t.fs.tripwire_state().unwrap().unwrap().files_max, None);
    set(b"5").unwrap();
    fill(&t, dir, 100, 10);
    pass(&t, 1);
    pass(&t, 61);
    unlink(&t, dir, 4);
    t.fs.tend_tripwire();
    assert_eq!(kept(&t).len(), 0);
    t.fs.unlink(&USER, dir, b"f4").unwrap();
    t.fs.tend_tripwire();
    assert_eq!((get(), kept(&t).len()), (b"5".to_vec(), 1));
    set(b"on").unwrap();
    assert_eq!(get(), b"on");
    // A clone is a copy of what is there still: what goes from it is not watched.
    t.fs.create_clone(ROOT, b"c", None, &Default::default()).unwrap();
    let clone = t.find(t.find(ROOT, ".clones").unwrap(), "c").unwrap();
    let dir = t.find(clone, "dir").unwrap();
    pass(&t, 3700);
    (5..100).for_each(|n| t.fs.unlink(&USER, dir, format!("f{n}").as_bytes()).unwrap());
    pass(&t, 1);
    assert_eq!(kept(&t).len(), 1);
}

#[test]
fn each_mass_deletion_is_kept_and_of_these_the_last_few() {
    let t = watched();
    let dir = t.mkdir(ROOT, "dir").unwrap();
    let mut made: usize = 0;
    for _ in 0..6 {
        for _ in 0..2 {
            fill(&t, dir, 30, 10);
            pass(&t, 61);
            unlink(&t, dir, 30);
            t.fs.tend_tripwire();
            made += 1;
            // Before the last eight there is one of each hour.
            assert_eq!(kept(&t).len(), made.min(8) + made.saturating_sub(8).div_ceil(2), "{made}");
            assert_eq!(entries(&t, kept(&t).last().unwrap(), "dir"), 30);
        }
        pass(&t, 3700);
    }
    // Whoever renames one wants to have it.
    let oldest = kept(&t)[0].clone();
    t.fs.rename_snapshot_of(ROOT, oldest.as_bytes(), b"mine").unwrap();
    for _ in 0..4 {
        fill(&t, dir, 30, 10);
        pass(&t, 61);
        unlink(&t, dir, 30);
        t.fs.tend_tripwire();
    }
    assert_eq!((t.list(SNAPDIR).len(), kept(&t).len()), (12, 11));
    t.fs.commit().unwrap();
    t.prove();
}

/// Whatever was kept just before: what is gone now is not in that.
#[test]
fn the_second_mass_deletion_within_an_hour_is_kept_too() {
    let t = watched();
    let dir = t.mkdir(ROOT, "dir").unwrap();
    fill(&t, dir, 200, 10);
    pass(&t, 61);
    unlink(&t, dir, 100);
    t.fs.tend_tripwire();
    assert_eq!(kept(&t).len(), 1);
    let nodes: Vec<NodeId> = (0..300).map(|n| t.put(dir, &format!("new{n}"), b"new")).collect();
    pass(&t, 65);
    pass(&t, 65);
    (0..300).for_each(|n| t.fs.unlink(&USER, dir, format!("new{n}").as_bytes()).unwrap());
    nodes.into_iter().for_each(|node| t.fs.forget(node));
    t.fs.tend_tripwire();
    let all = kept(&t);
    assert_eq!((all.len(), entries(&t, &all[0], "dir"), entries(&t, &all[1], "dir")), (2, 200, 400));
    t.fs.commit().unwrap();
    t.prove();
}

fn unlink_from(t: &T, dir: NodeId, first: usize, count: usize) {
    (first..first + count).for_each(|n| t.fs.unlink(&USER, dir, format!("f{n}").as_bytes()).unwrap());
    t.fs.tend_tripwire();
}

/// 300 files that have been there for a while, and a fifth of them is gone: that was kept.
fn begun() -> (T, NodeId) {
    let t = watched();
    t.fs.setxattr(&SUPER, ROOT, b"user.snapfs.tripwire", b"20", XattrMode::Set).unwrap();
    let dir = t.mkdir(ROOT, "dir").unwrap();
    fill(&t, dir, 300, 10);
    pass(&t, 200);
    unlink_from(&t, dir, 0, 60);
    assert_eq!(kept(&t).len(), 1);
    (t, dir)
}

/// What goes on for longer than a minute is kept once, as it was in the beginning; unless that is not there any more, or another hour has
/// begun.
#[test]
fn what_was_kept_is_kept_once() {
    for what in ["goes on", "an hour", "deleted", "renamed"] {
        let (t, dir) = begun();
        let first = kept(&t).remove(0);
        match what {
            "an hour" => (0..61).for_each(|_| pass(&t, 60)),
            "deleted" => t.fs.delete_snapshot_of(ROOT, first.as_bytes()).unwrap(),
            "renamed" => t.fs.rename_snapshot_of(ROOT, first.as_bytes(), b"mine").unwrap(),
            _ => {}
        }
        for round in 1..5 {
            pass(&t, 61);
            unlink_from(&t, dir, 60 * round, 30);
            pass(&t, 61);
            unlink_from(&t, dir, 60 * round + 30, 30);
        }
        let all = t.list(SNAPDIR);
        let wanted = if what == "an hour" { 2 } else { 1 };
        assert_eq!(all.len(), wanted, "{what}: {all:?}");
        let left = if matches!(what, "an hour" | "deleted") { 240 } else { 300 };
        assert_eq!(entries(&t, all.last().unwrap(), "dir"), left, "{what}");
    }
}

/// What was written since is in no snapshot, however old the file is and whatever the clock says.
#[test]
fn what_was_changed_since_is_kept_again() {
    for set_back in [0, 7200, -7200] {
        for has_grown in [false, true] {
            let (t, dir) = begun();
            pass(&t, 61);
            t.clock.set(-set_back * SECOND);
            for n in 100..130 {
                let f = t.open(t.find(dir, &format!("f{n}")).unwrap(), RW);
                t.write(f, if has_grown { 10 } else { 0 }, b"since then");
                t.fs.release(f.0, f.1);
            }
            pass(&t, 61);
            pass(&t, 61);
            pass(&t, 61);
            let before = kept(&t).len();
            unlink_from(&t, dir, 100, 30);
            let all = kept(&t);
            assert_eq!(all.len(), before + 1, "{set_back} {has_grown}");
            let past = t.find(t.find(SNAPDIR, all.last().unwrap()).unwrap(), "dir").unwrap();
            assert!(t.cat(past, "f100").ends_with(b"since then"), "{set_back} {has_grown}");
        }
    }
}

/// A program that makes and removes files all day has one of each minute, and no more of them than of a few.
#[test]
fn a_day_of_builds_leaves_a_few() {
    let t = watched();
    t.fs.setxattr(&SUPER, ROOT, b"user.snapfs.tripwire", b"5", XattrMode::Set).unwrap();
    let dir = t.mkdir(ROOT, "target").unwrap();
    for minute in 0..24 * 60 {
        let nodes: Vec<NodeId> = (0..5).map(|n| t.put(dir, &format!("f{n}"), b"built")).collect();
        pass(&t, 61);
        unlink(&t, dir, 5);
        nodes.into_iter().for_each(|node| t.fs.forget(node));
        t.fs.tend_tripwire();
        assert!(kept(&t).len() <= 12, "{minute}");
        if minute % 10 == 0 {
            t.fs.commit().unwrap();
        }
    }
    let all = t.fs.volume().own_snapshots(LineId::MAIN);
    let apart: Vec<i64> = all.windows(2).map(|two| two[1].created.0 - two[0].created.0).collect();
    assert_eq!((all.len(), apart[4..].iter().all(|secs| *secs == 61)), (12, true), "{apart:?}");
    assert!(apart[..3].iter().all(|secs| (3600..3700).contains(secs)), "{apart:?}");
    t.fs.commit().unwrap();
    t.prove();
}

#[test]
fn a_crash_keeps_what_was_kept_and_leaves_no_point() {
    for kept_before in [false, true] {
        let sim: Arc<Sim> = new_store(64 << 20);
        let t = on(&sim);
        let dir = t.mkdir(ROOT, "dir").unwrap();
        fill(&t, dir, 30, 5000);
        pass(&t, 61);
        t.fs.commit().unwrap();
        unlink(&t, dir, 25);
        if kept_before {
            t.fs.tend_tripwire();
        }
        let crashed = Arc::new(sim.crash(CrashPolicy::KeepAll));
        let after = on(&crashed);
        assert_eq!(kept(&after).len(), usize::from(kept_before));
        if kept_before {
            assert_eq!(entries(&after, &kept(&after)[0], "dir"), 30);
        }
        (0..3).for_each(|_| after.fs.commit().unwrap());
        after.prove();
        assert_eq!(after.fs.volume().leftover().unwrap(), Default::default());
        // The first change after a mount has a point before it; and what is much by then is kept at the end.
        let dir = after.find(ROOT, "dir").unwrap();
        fill(&after, dir, 25, 10);
        after.fs.close().unwrap();
        let again = on(&crashed);
        let dir = again.find(ROOT, "dir").unwrap();
        again.clock.advance(4000 * SECOND);
        unlink(&again, dir, 30);
        again.fs.close().unwrap();
        let last = on(&crashed);
        let names = kept(&last);
        assert_eq!(
            (names.len(), entries(&last, names.last().unwrap(), "dir")),
            (1 + usize::from(kept_before), 30)
        );
        last.prove();
    }
}

#[test]
fn a_young_snapshot_of_a_schedule_serves() {
    let t = watched();
    t.clock.set(1_767_571_200 * SECOND);
    t.fs.set_schedules(LineId::MAIN, vec![parse_rules("default", "every=1min keep=all").unwrap()]).unwrap();
    let dir = t.mkdir(ROOT, "dir").unwrap();
    fill(&t, dir, 30, 10);
    t.fs.tend_tripwire();
    t.clock.advance(61 * SECOND);
    while t.fs.keep_schedules() {}
    let views = t.fs.snapshots().len();
    t.put(ROOT, "after", b"it");
    t.fs.tend_tripwire();
    assert_eq!((views, t.fs.snapshots().len()), (1, 1));
    unlink(&t, dir, 30);
    t.fs.tend_tripwire();
    // It is the one that is kept, under the name that says why.
    assert_eq!((t.list(SNAPDIR), kept(&t).len()), (kept(&t), 1));
    assert_eq!(entries(&t, &kept(&t)[0], "dir"), 30);
    // One that somebody renamed or holds is his, and is left as it is.
    for renamed in [true, false] {
        let t = watched();
        t.clock.set(1_767_571_200 * SECOND);
        let rules = vec![parse_rules("default", "every=1min keep=all").unwrap()];
        t.fs.set_schedules(LineId::MAIN, rules).unwrap();
        let dir = t.mkdir(ROOT, "dir").unwrap();
        fill(&t, dir, 30, 10);
        t.clock.advance(61 * SECOND);
        while t.fs.keep_schedules() {}
        let mut name = t.list(SNAPDIR).remove(0);
        if renamed {
            t.fs.rename_snapshot_of(ROOT, name.as_bytes(), b"golden").unwrap();
            name = "golden".into();
        } else {
            let id = t.fs.snapshot_of_word(ROOT, name.as_bytes()).unwrap().id;
            let terms = HoldTerms { tag: "legal", after: None };
            t.fs.hold_snapshot(ROOT, id, &terms, &Provenance::default()).unwrap();
        }
        t.fs.tend_tripwire();
        unlink(&t, dir, 30);
        t.fs.tend_tripwire();
        assert_eq!(t.list(SNAPDIR), [name]);
    }
    // A snapshot of a user's that has all of it is left as it is.
    let t = watched();
    fill(&t, ROOT, 30, 10);
    t.snapshot("mine");
    pass(&t, 61);
    unlink(&t, ROOT, 30);
    t.fs.tend_tripwire();
    assert_eq!(t.list(SNAPDIR), ["mine"]);
}

/// What is in the trash is on its way out: it is no point, and keeps none from being made.
#[test]
fn what_is_in_the_trash_is_no_point() {
    let t = watched();
    t.fs.setxattr(&SUPER, ROOT, b"user.snapfs.trash", b"1h", XattrMode::Set).unwrap();
    fill(&t, ROOT, 30, 10);
    t.snapshot("s");
    t.fs.rmdir(&SUPER, SNAPDIR, b"s").unwrap();
    pass(&t, 1);
    pass(&t, 61);
    unlink(&t, ROOT, 30);
    t.fs.tend_tripwire();
    assert_eq!((t.list(SNAPDIR), kept(&t).len()), (kept(&t), 1));
    assert_eq!(t.fs.trash_of(ROOT).unwrap().len(), 1);
}

#[test]
fn nothing_is_kept_while_space_is_short() {
    let t = T::with(256 << 20, options());
    let dir = t.mkdir(ROOT, "dir").unwrap();
    fill(&t, dir, 30, 1000);
    pass(&t, 61);
    let big = t.put(ROOT, "big", &vec![1; 10 << 20]);
    t.fs.commit().unwrap();
    pass(&t, 61);
    // What is written over is there twice, as long as there is space for that.
    for round in 0..12 {
        let f = t.open(big, RW);
        for mib in 0..10 {
            t.write(f, mib << 20, &vec![round; 1 << 20]);
        }
        t.fs.release(f.0, f.1);
        pass(&t, 61);
    }
    let total = t.fs.volume().space().total as usize;
    let mut n = 0;
    while t.fs.volume().space().free > total as u64 / 11 {
        t.put(ROOT, &format!("fill{n}"), &vec![3; 1 << 20]);
        n += 1;
    }
    pass(&t, 61);
    let state = t.fs.tripwire_state().unwrap().unwrap();
    assert!(state.is_short_of_space && state.point.is_none(), "{state:?}");
    unlink(&t, dir, 30);
    pass(&t, 1);
    assert_eq!(kept(&t), [""; 0]);
    // There is room again, and it is set again.
    (0..n).for_each(|n| t.fs.unlink(&USER, ROOT, format!("fill{n}").as_bytes()).unwrap());
    (0..4).for_each(|_| t.fs.commit().unwrap());
    pass(&t, 61);
    assert!(t.fs.tripwire_state().unwrap().unwrap().point.is_some());
    t.fs.commit().unwrap();
    t.prove();
}

/// What was kept just now stays for an hour, whatever a clock that is set says meanwhile, and in a mount that has not seen it made.
#[test]
fn a_clock_that_is_set_takes_nothing_away_that_was_kept() {
    let device: Arc<dyn crate::device::Device> = Arc::new(crate::device::Memory::new(256 << 20));
    crate::fixtures::make(device.clone());
    let open = || {
        let access = OpenOptions { access: Access::ReadWrite, cache_bytes: 8 << 20 };
        T::on(Volume::open(device.clone(), access).unwrap(), options())
    };
    for reopened in [false, true] {
        let mut t = open();
        t.clock.set(-t.clock.now().secs * SECOND);
        let dir = t.mkdir(ROOT, &format!("dir{reopened}")).unwrap();
        fill(&t, dir, 30, 1000);
        pass(&t, 61);
        unlink(&t, dir, 30);
        t.fs.tend_tripwire();
        assert_eq!(kept(&t).len(), 1);
        if reopened {
            drop(t);
            t = open();
        }
        t.clock.set(50 * 365 * 86_400 * SECOND);
        let total = t.fs.volume().space().total;
        let mut n = 0;
        while t.fs.volume().space().free > total / 11 {
            t.put(ROOT, &format!("fill{n}"), &vec![3; 1 << 20]);
            n += 1;
        }
        pass(&t, 61);
        assert!(t.fs.tripwire_state().unwrap().unwrap().is_short_of_space);
        assert_eq!(kept(&t).len(), 1, "{reopened}");
        // After an hour it goes.
        pass(&t, 3600);
        assert_eq!(kept(&t).len(), 0, "{reopened}");
        for n in 0..n {
            let node = t.find(ROOT, &format!("fill{n}")).unwrap();
            t.fs.unlink(&USER, ROOT, format!("fill{n}").as_bytes()).unwrap();
            t.fs.forget(node);
        }
        (0..4).for_each(|_| t.fs.commit().unwrap());
        t.prove();
        t.fs.close().unwrap();
    }
}

#[test]
fn a_line_at_rest_costs_nothing() {
    let t = watched();
    fill(&t, ROOT, 50, 10);
    t.fs.tick().unwrap();
    pass(&t, 61);
    (0..6).for_each(|_| t.fs.tick().unwrap());
    let before = (t.fs.volume().io(), t.fs.volume().epoch());
    for _ in 0..1000 {
        pass(&t, 61);
        t.fs.tick().unwrap();
    }
    assert_eq!((t.fs.volume().io(), t.fs.volume().epoch()), before);
    // A store that is not used has no point, and costs nothing.
    let t = watched();
    (0..4).for_each(|_| t.fs.tick().unwrap());
    let before = (t.fs.volume().io(), t.fs.volume().epoch());
    pass(&t, 1000);
    assert_eq!((t.fs.volume().io(), t.fs.volume().epoch()), before);
    assert_eq!(t.fs.tripwire_state().unwrap().unwrap().point, None);
}

#[test]
fn what_is_deleted_is_kept_by_no_point() {
    let t = T::with(128 << 20, FsOptions { tripwire: true, ..FsOptions::default() });
    t.put(ROOT, "f", b"content");
    t.fs.tend_tripwire();
    t.clock.advance(61 * 1_000_000_000);
    t.put(ROOT, "g", b"content");
    // It is what the line is, so it serves as the point.
    t.snapshot("s");
    t.fs.tend_tripwire();
    let all = t.fs.snapshots();
    let mut told = |_: usize| {
        t.clock.advance(61 * 1_000_000_000);
        t.fs.tend_tripwire();
        true
    };
    assert!(t.fs.delete_snapshots_of(ROOT, &all, &mut told).unwrap()[0].is_ok());
    t.clock.advance(61 * 1_000_000_000);
    t.fs.tend_tripwire();
    for _ in 0..4 {
        t.fs.commit().unwrap();
    }
    assert_eq!(t.fs.volume().leftover().unwrap(), Default::default());
}

/// Also where so much has gone since that the point would not be given up for a deletion.
#[test]
fn a_point_that_is_deleted_becomes_no_snapshot_again() {
    let t = T::with(128 << 20, FsOptions { tripwire: true, ..FsOptions::default() });
    for n in 0..1100 {
        let node = t.put(ROOT, &format!("old{n}"), b"few");
        t.fs.forget(node);
    }
    t.fs.tend_tripwire();
    t.clock.advance(61 * 1_000_000_000);
    t.put(ROOT, "g", b"content");
    t.snapshot("s");
    t.fs.tend_tripwire();
    let gone = |from: usize, to: usize| {
        (from..to).for_each(|n| t.fs.unlink(&USER, ROOT, format!("old{n}").as_bytes()).unwrap());
    };
    gone(0, 30);
    t.fs.delete_snapshot(b"s").unwrap();
    gone(30, 1090);
    t.fs.tend_tripwire();
    for _ in 0..4 {
        t.fs.commit().unwrap();
    }
    assert_eq!(t.fs.snapshots(), []);
    assert_eq!(t.fs.volume().leftover().unwrap(), Default::default());
}
