//! What is planned is what comes back: random histories with copies that share blocks, compression, clones, merges and readers; and
//! which snapshots are given for space.

use super::merging::bring;
use super::*;
use crate::fixtures::bytes;
use crate::format::LineId;
use crate::format::provenance::{Provenance, Reason};
use crate::fs::MergeWay;
use crate::schedule::parse_rules;
use crate::volume::{SpaceParts, StaysFor};

const MAIN: LineId = LineId::MAIN;

/// Until nothing waits any more.
fn settle(t: &T) {
    for _ in 0..3 {
        t.fs.commit().unwrap();
    }
    while t.fs.volume().has_background_work() {
        t.fs.commit().unwrap();
    }
}

fn parts(t: &T) -> SpaceParts {
    t.fs.planner().unwrap().parts().unwrap()
}

fn reached(parts: &SpaceParts) -> u64 {
    parts.live + parts.snapshots
}

fn copy(t: &T, from: NodeId, to: NodeId) {
    let (from, to) = (t.open(from, RO), t.open(to, RW));
    let len = t.attr(from.0).size;
    t.fs.copy_range(&USER, from.0, from.1, 0, to.0, to.1, 0, len).unwrap();
    t.fs.release(from.0, from.1);
    t.fs.release(to.0, to.1);
}

#[test]
fn the_parts_add_up_while_others_write() {
    let t = T::with(64 << 20, FsOptions::default());
    let file = t.put(ROOT, "f", &bytes(1, 1 << 20));
    t.snapshot("s");
    settle(&t);
    for n in 0..20 {
        let f = t.open(file, RW);
        t.write(f, n << 16, &bytes(n, 1 << 20));
        // In the log, and in no commit.
        t.fs.fsync(f.0, f.1, SyncScope::All).unwrap();
        t.fs.release(f.0, f.1);
        if n == 10 {
            t.fs.rmdir(&USER, SNAPDIR, b"s").unwrap();
        }
        let parts = t.fs.volume().planner().unwrap().parts().unwrap();
        assert_eq!(parts.live + parts.snapshots + parts.tables + parts.freeing, parts.used, "{n}: {parts:?}");
        assert!(parts.used < parts.total);
    }
    settle(&t);
    assert_eq!(parts(&t).freeing, 0);
}

/// One change in the root of a line.
fn change(t: &T, root: NodeId, rng: &mut fastrand::Rng) {
    let name = format!("f{}", rng.u8(0..8));
    let there = t.find(root, &name).ok();
    match (rng.u8(0..8), there) {
        (0, Some(_)) => t.fs.unlink(&USER, root, name.as_bytes()).unwrap(),
        (1..=3, Some(node)) => {
            let (file, blocks) = (t.open(node, RW), t.attr(node).size / 4096);
            let at = rng.u64(0..=blocks) * 4096;
            let data = bytes(rng.u64(..), rng.usize(1..40_000));
            t.write(file, at, &data);
            t.fs.release(file.0, file.1);
        }
        (4..=5, Some(node)) => {
            let to = format!("f{}", rng.u8(0..8));
            if to != name {
                let to = t.find(root, &to).unwrap_or_else(|_| t.put(root, &to, b""));
                t.fs.commit().unwrap();
                copy(t, node, to);
            }
        }
        (_, None) => drop(t.put(root, &name, &bytes(rng.u64(..), rng.usize(1..300_000)))),
        (_, Some(node)) => {
            // Compresses well.
            let file = t.open(node, RW);
            t.write(file, 0, &vec![rng.u8(..); rng.usize(1..200_000)]);
            t.fs.release(file.0, file.1);
        }
    }
}

fn history(seed: u64) -> (bool, bool) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let t = T::new();
    if rng.bool() {
        t.compress(ROOT, "zstd");
    }
    let clonedir = NodeId::clonedir(0);
    let roots = |t: &T| {
        let clones = t.fs.volume().clones();
        let clones = clones.iter().map(|clone| String::from_utf8(clone.line.name.clone()).unwrap());
        let clones = clones.map(|name| t.find(clonedir, &name).unwrap());
        std::iter::once(ROOT).chain(clones).collect::<Vec<_>>()
    };
    for n in 0..rng.usize(30..120) {
        let all = roots(&t);
        let root = all[rng.usize(..all.len())];
        match rng.u8(0..20) {
            0..=2 => drop(t.fs.create_snapshot_of(root, format!("s{n}").as_bytes(), Provenance::default())),
            3 if all.len() < 4 => {
                drop(t.fs.clone_line(t.fs.line_at(root).unwrap(), format!("c{n}").as_bytes()))
            }
            4 => t.fs.commit().unwrap(),
            5 => {
                // What a merge compares with stays, without a name.
                if t.fs.volume().find_line(b"c").is_none() {
                    t.fs.clone_line(MAIN, b"c").unwrap();
                } else {
                    let way = if rng.bool() { MergeWay::MergeAndKeep } else { MergeWay::Rebase };
                    drop(bring(&t, way));
                }
            }
            _ => change(&t, root, &mut rng),
        }
    }
    let reader = t.fs.snapshots().first().map(|s| t.fs.volume().snapshot(s.id).unwrap());
    settle(&t);
    let own = |line: LineId| t.fs.volume().own_snapshots(line);
    let snapshots: Vec<_> = t.fs.volume().lines().into_iter().flat_map(|line| own(line.id)).collect();
    let snapshots: Vec<_> = snapshots.into_iter().filter(|_| rng.bool()).collect();
    let lines: Vec<_> = t.fs.volume().clones().into_iter().filter(|_| rng.u8(0..3) == 0).collect();
    let before = parts(&t);
    assert_eq!(before.used, reached(&before) + before.tables, "seed {seed}: {before:?}");
    let ids: Vec<_> = snapshots.iter().map(|s| s.id).collect();
    let planned = t.fs.planner().unwrap().plan(&ids, &lines.iter().map(|c| c.line.id).collect::<Vec<_>>());
    let planned = planned.unwrap();
    for clone in &lines {
        t.fs.drop_clone(&clone.line.name).unwrap();
    }
    for s in snapshots.iter().filter(|s| t.fs.volume().snapshot_info(s.id).is_some()) {
        t.fs.volume().delete_snapshot(s.line, s.id).unwrap();
    }
    settle(&t);
    let after = parts(&t);
    assert_eq!(reached(&before) - reached(&after), planned.freed, "seed {seed}: {planned:?}");
    drop(reader);
    settle(&t);
    let for_reader = planned.staying.iter().filter(|stays| stays.stays_for == StaysFor::Reader);
    let for_reader: u64 = for_reader.map(|stays| stays.freed).sum();
    let after = parts(&t);
    assert_eq!(reached(&before) - reached(&after), planned.freed + for_reader, "seed {seed}: {planned:?}");
    assert_eq!(after.used, reached(&after) + after.tables, "seed {seed}: {after:?}");
    t.prove();
    (planned.shared > 0, !planned.staying.is_empty())
}

#[test]
fn what_is_planned_is_what_comes_back() {
    let (mut shared, mut stayed) = (0, 0);
    for seed in 0..40 {
        let (is_shared, is_staying) = history(seed);
        (shared, stayed) = (shared + usize::from(is_shared), stayed + usize::from(is_staying));
    }
    assert!(shared > 3 && stayed > 3, "{shared} {stayed}");
}

#[test]
fn room_is_made_of_what_is_worth_the_least() {
    let t = T::new();
    let schedule = parse_rules("default", "every=1h keep=24h,7d").unwrap();
    t.fs.set_schedules(MAIN, vec![schedule]).unwrap();
    let file = t.create(ROOT, "f");
    let write = |n: u64| {
        t.write(file, 0, &bytes(n, 1 << 20));
        t.fs.commit().unwrap();
    };
    write(0);
    t.snapshot("users");
    for n in 1..40 {
        write(n);
        while t.fs.keep_schedules() {}
        t.clock.advance(3600 * 1_000_000_000);
    }
    write(40);
    let guard = Provenance { reason: Reason::Step, ..Provenance::default() };
    t.fs.take_step(ROOT, &guard, 10, Box::new(|| true)).unwrap();
    write(41);
    while t.fs.keep_schedules() {}
    let planner = t.fs.planner().unwrap();
    let plan = |bytes| t.fs.plan_room(&planner, MAIN, bytes).unwrap();
    let names = |plan: &crate::fs::RoomPlan| {
        plan.snapshots.iter().map(|s| String::from_utf8(s.name.clone()).unwrap()).collect::<Vec<_>>()
    };
    let all = t.fs.snapshots();
    // The coarsest class first: that of days, of which the one is the oldest there is.
    let few = plan(1 << 20);
    assert_eq!((few.is_enough, few.snapshots.len()), (true, 1));
    assert_eq!(few.snapshots[0].name, all[1].name);
    assert!(few.freed >= 1 << 20);
    // Automatic ones as long as these are enough, then the guard, then what somebody made; the last one never.
    let automatic = all.iter().filter(|s| s.provenance.reason == Reason::Schedule).count() as u64 - 1;
    let most = plan(automatic << 20);
    assert!(most.is_enough && names(&most).iter().all(|name| name.starts_with("@GMT-")), "{most:?}");
    let more = plan((automatic + 1) << 20);
    assert!(more.is_enough && names(&more).iter().any(|name| name.starts_with("@step-")), "{more:?}");
    assert!(!names(&more).contains(&"users".into()));
    let whole = plan((automatic + 2) << 20);
    assert!(whole.is_enough && names(&whole).contains(&"users".into()), "{whole:?}");
    let too_much = plan(1 << 30);
    assert!(!too_much.is_enough && too_much.snapshots.len() == all.len() - 1);
    drop(planner);
    // It is what comes back.
    let before = parts(&t);
    for s in &more.snapshots {
        t.fs.delete_snapshot(&s.name).unwrap();
    }
    settle(&t);
    assert_eq!(reached(&before) - reached(&parts(&t)), more.freed);
    t.fs.release(file.0, file.1);
}

#[test]
fn what_cannot_be_reached_is_planned_up_to_the_most_there_is() {
    let t = T::new();
    let file = t.create(ROOT, "f");
    t.write(file, 0, &[1; 1 << 20]);
    for name in ["first", "same", "last"] {
        t.snapshot(name);
    }
    let plan = |wanted| {
        let planner = t.fs.planner().unwrap();
        t.fs.plan_room(&planner, MAIN, wanted).unwrap()
    };
    let none = plan(1 << 30);
    assert!(!none.is_enough && none.snapshots.is_empty() && none.freed == 0, "{none:?}");
    // One more that has what nobody else has: it alone is the most.
    t.write(file, 0, &[2; 1 << 20]);
    t.snapshot("other");
    t.write(file, 0, &[3; 1 << 20]);
    t.snapshot("newest");
    let most = plan(1 << 30);
    assert!(!most.is_enough && most.freed >= 2 << 20, "{most:?}");
    assert!(most.snapshots.iter().any(|s| s.name == b"other"), "{most:?}");
}
