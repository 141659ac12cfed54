//! Purges where there is little room: some is made, or less is done at once, or it is told what is done and what is not.

use super::purging::*;
use super::purging_rest::{Dropping, lost, with_secrets};
use super::*;
use crate::device::{CrashPolicy, Sim};
use crate::format::purge::PurgeRest;
use crate::fs::PurgeEnd;
use crate::volume::purge::PurgeOrder;

/// A purge that there is no room for has it made, as whoever writes.
#[test]
fn a_purge_has_room_made() {
    let t = super::room::scheduled(256 << 20, "every=1h keep=all", 40);
    let scheduled = t.fs.snapshots().len();
    let file = t.create(ROOT, "key");
    let (block, len) = (4096, 140 << 20);
    for at in (0..len).step_by(1 << 20) {
        t.write(file, at, &secret(1 << 20));
    }
    t.fs.commit().unwrap();
    // Many places, and all that is free between them is of use.
    for at in (0..len).step_by(5 * block) {
        t.fs.fallocate(&USER, file.0, file.1, at, 4 * block as u64, AllocateMode::PunchHole).unwrap();
    }
    t.fs.release(file.0, file.1);
    t.snapshot("s");
    remove(&t, ROOT, "key");
    (0..4).for_each(|_| t.fs.commit().unwrap());
    // As much as fits while nothing goes.
    let file = t.create(ROOT, "filler");
    let mut at = 0;
    for len in [1 << 20, 1 << 16] {
        while t.fs.write(file.0, file.1, at, &vec![at as u8 | 1; len], false).is_ok() {
            at += len as u64;
        }
        t.fs.commit().unwrap();
    }
    t.fs.release(file.0, file.1);
    assert_eq!(t.fs.snapshots().len(), scheduled + 1);
    purged(&t, "key", &["s"], false);
    assert!(t.fs.snapshots().len() <= scheduled, "room was made");
    is_gone(read(&t, "s", "key"));
}

/// Until nobody can write any more; what is left for those who may have more is in holes that no node fits into.
fn fill_but_for_holes(t: &T) {
    const BLOCK: u64 = 4096;
    let file = t.create(ROOT, "filler");
    let mut end = 0;
    for len in [1 << 20, 1 << 16, 1 << 12] {
        while t.fs.write(file.0, file.1, end, &vec![end as u8 | 1; len], false).is_ok() {
            end += len as u64;
        }
        t.fs.commit().unwrap();
    }
    for at in (0..end).step_by(2 * BLOCK as usize) {
        if at % (1 << 20) == 0 {
            t.fs.commit().unwrap();
        }
        let punch = || t.fs.fallocate(&USER, file.0, file.1, at, BLOCK, AllocateMode::PunchHole);
        if punch().is_err() {
            t.fs.commit().unwrap();
            if punch().is_err() {
                break;
            }
        }
    }
    t.fs.release(file.0, file.1);
    (0..4).for_each(|_| t.fs.commit().unwrap());
    let space = t.fs.volume().space();
    assert!(space.free > space.total / 20, "{space:?}");
}

/// A file with many places, in the snapshot `s` alone.
fn put_places(t: &T, len: u64) {
    let file = t.create(ROOT, "key");
    for at in (0..len).step_by(1 << 20) {
        t.write(file, at, &secret(1 << 20));
    }
    t.fs.commit().unwrap();
    for at in (0..len).step_by(8192) {
        t.fs.fallocate(&USER, file.0, file.1, at, 4096, AllocateMode::PunchHole).unwrap();
    }
    t.fs.release(file.0, file.1);
    t.snapshot("s");
    remove(t, ROOT, "key");
    (0..4).for_each(|_| t.fs.commit().unwrap());
}

/// Where no node fits into what is free, and nothing may go, fewer places are taken at once.
#[test]
fn a_purge_without_room_takes_less_at_once() {
    let sim = Arc::new(Sim::with_fresh_content(256 << 20, 1, 0));
    let t = T::on(Volume::made_on(sim.clone()), FsOptions::default());
    put_places(&t, 16 << 20);
    fill_but_for_holes(&t);
    let before = t.fs.volume().epoch();
    purged(&t, "key", &["s"], false);
    assert!(t.fs.volume().epoch().0 - before.0 > 10, "it takes several commits");
    is_gone(read(&t, "s", "key"));
    let found = |at: u64| sim.peek(at, 1 << 20).windows(16).step_by(16).any(|found| found == SECRET);
    assert!(!t.fs.volume().has_purged_left() && !(0..256).any(|n| found(n << 20)));
}

/// Leaves that have something of it are rewritten some at once. Where there is no room for so many it is half of them, and so on: one at
/// a time where there is no more. With less than that nothing of it is done.
#[test]
fn a_purge_without_room_takes_half_as_many_leaves_at_once() {
    /// The host gives so much at once.
    const PIECE: u64 = 256 << 10;
    const STEP: u64 = 16 << 10;
    let (image, t) = store();
    let dir = t.mkdir(ROOT, "keys").unwrap();
    let names = put_keys(&t, dir, &secret(2000));
    t.snapshot("s");
    names.iter().for_each(|name| remove(&t, dir, name));
    (0..4).for_each(|_| t.fs.commit().unwrap());
    t.fs.close().unwrap();
    drop(t);
    // How many commits it takes if the host has so much left, less what is written before; none if it is refused.
    let commits = |room: u64, less: u64| {
        let sim = Arc::new(image.clone_image());
        let t = T::on(opened(sim.clone()), FsOptions::default());
        t.put(ROOT, "filler", &crate::fixtures::bytes(1, less as usize));
        (0..4).for_each(|_| t.fs.commit().unwrap());
        t.fs.volume().trim();
        sim.set_space_limit(sim.backed_bytes() + room);
        let before = t.fs.volume().epoch().0;
        match purge(&t, "keys", &["s"], false) {
            Ok(PurgeEnd::Purged(..)) => {}
            // Before it begins, or amid it: then a later one finds more.
            Err(Error::NoSpace) => return None,
            Ok(PurgeEnd::Stopped(Error::NoSpace)) => return None,
            end => panic!("{room} {less}: {:?}", stopped(end)),
        }
        names.iter().for_each(|name| is_gone(read(&t, "s", &format!("keys/{name}"))));
        assert!(!t.fs.volume().has_purged_left());
        Some((t.fs.volume().epoch().0 - before, sim, t))
    };
    let (mut low, mut high) = (0, SIZE / PIECE / 2);
    while low < high {
        let middle = (low + high) / 2;
        if commits(middle * PIECE, 0).is_some() { high = middle } else { low = middle + 1 }
    }
    let ample = commits(SIZE, 0).unwrap().0;
    let mut found = Vec::new();
    let rooms =
        (low.saturating_sub(1)..low + 2).flat_map(|room| (0..PIECE / STEP).map(move |less| (room, less)));
    for (room, less) in rooms {
        let Some((took, sim, t)) = commits(room * PIECE, less * STEP) else { continue };
        // Each way to do it is looked at closely once.
        if !found.contains(&took) {
            assert!(!has_secret(&sim));
            t.prove();
            found.push(took);
        }
    }
    // The less room, the fewer at once: half of them take twice as many commits, two for each time.
    let most = found.iter().max().copied().unwrap_or(0);
    assert!(found.iter().all(|took| *took >= ample) && found.len() >= 3, "{found:?} {ample}");
    assert!(most >= ample + names.len() as u64 / 4, "{found:?} {ample}");
}

/// What goes on in the background has room made as well.
#[test]
fn what_is_left_of_a_purge_has_room_made() {
    let t = super::room::scheduled(256 << 20, "every=1h keep=all", 40);
    put_places(&t, 16 << 20);
    // All of it is left.
    let asked = Some(PurgeRest { path: b"key".to_vec(), views: views(&t, &["s"]), all: false });
    let order = PurgeOrder { asked, has_more: true, ..PurgeOrder::default() };
    t.fs.volume().order_purge(&t.fs.volume().hold_content(), order).unwrap();
    t.fs.commit().unwrap();
    fill_but_for_holes(&t);
    let before = t.fs.snapshots().len();
    // Whoever unmounts need not wait for it.
    assert_eq!(t.fs.go_on_purging(&mut |_| false), Ok(()));
    assert!(t.fs.volume().purge_rest().is_some() && t.fs.snapshots().len() == before);
    t.fs.go_on_purging(&mut |_| true).unwrap();
    assert!(!t.fs.volume().has_purged_left() && t.fs.snapshots().len() < before);
    is_gone(read(&t, "s", "key"));
    t.prove();
}

/// Room is wanted when some is gone already: that is said, and stays, of each file all or nothing, also after a crash. A second purge does the
/// rest.
#[test]
fn a_purge_that_has_no_room_to_go_on_says_so_and_is_whole_as_far_as_it_is() {
    for path in ["keys", "large"] {
        let (sim, t) = with_secrets();
        let fs = t.fs.clone();
        Dropping::of(&t, move || fs.volume().break_promises(SIZE));
        assert_eq!(stopped(purge(&t, path, &["s"], false)), Some(Error::NoSpace), "{path}");
        let done = lost(&t);
        assert!(done.contains(&true) && done.contains(&false), "{path}: {done:?}");
        assert_eq!(
            (t.fs.volume().purge_rest().is_some(), t.fs.volume().has_purged_left()),
            (path == "keys", true)
        );
        assert_eq!(t.fs.volume().read_only_reason(), None);
        for policy in
            [CrashPolicy::DropAll, CrashPolicy::KeepAll, CrashPolicy::Random(1), CrashPolicy::Random(2)]
        {
            let sim = Arc::new(sim.crash(policy));
            let t = T::on(opened(sim.clone()), FsOptions::default());
            assert_eq!(lost(&t), done, "{path}: {policy:?}");
            t.fs.go_on_purging(&mut |_| true).unwrap();
            assert!(!t.fs.volume().has_purged_left());
            let both = ["keys", "large"]
                .map(|path| matches!(purge(&t, path, &["s"], false), Ok(PurgeEnd::Purged(..))));
            assert!(both == [true; 2] && !has_secret(&sim), "{path}: {policy:?}");
            t.prove();
        }
        Dropping::of(&t, || ());
        t.fs.volume().break_promises(0);
        purged(&t, path, &["s"], false);
        purged(&t, if path == "keys" { "large" } else { "keys" }, &["s"], false);
        assert!(lost(&t).iter().all(|lost| *lost) && !has_secret(&sim));
    }
}
