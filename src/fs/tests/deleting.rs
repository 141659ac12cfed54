//! Many snapshots deleted by one order: which stay and why, no room for a batch, and a crash at any moment of it.

use super::*;
use crate::device::{CrashPolicy, Device, Sim};
use crate::fixtures::{mount, new_store, put, snapshot};
use crate::format::LineId;
use crate::format::provenance::Provenance;
use crate::fs::Deletion;

fn all_of(t: &T) -> Vec<crate::volume::SnapshotInfo> {
    t.fs.volume().own_snapshots(LineId::MAIN)
}

#[test]
fn what_is_in_use_stays_and_the_others_go() {
    let t = T::new();
    for n in 0..200 {
        t.put(ROOT, &format!("f{n}"), b"content");
        t.snapshot(&format!("s{n}"));
    }
    let alone = t.fs.standalone(b"s7").unwrap();
    t.fs.delete_snapshot_of(ROOT, b"s9").unwrap();
    let mut all = all_of(&t);
    all[3].name = b"another".to_vec();
    let mut told = Vec::new();
    let mut enough = |n| {
        told.push(n);
        false
    };
    let done = t.fs.delete_snapshots_of(ROOT, &all, &mut enough).unwrap();
    assert_eq!((told, done.iter().filter(|done| done.is_ok()).count()), (vec![64], 62));
    assert_eq!(
        (&done[3], &done[7], &done[64]),
        (&Err(Error::NotFound), &Err(Error::Busy), &Err(Error::Busy))
    );
    let done = t.fs.delete_snapshots_of(ROOT, &all_of(&t), &mut |_| true).unwrap();
    assert_eq!(done.iter().filter(|done| done.is_err()).collect::<Vec<_>>(), [&Err(Error::Busy)]);
    assert_eq!(t.list(SNAPDIR), ["s7"]);
    drop(alone);
    t.fs.delete_snapshots_of(ROOT, &all_of(&t), &mut |_| true).unwrap();
    t.fs.commit().unwrap();
    t.fs.commit().unwrap();
    t.prove();
    // A clone shows what it has from its origin, and does not delete it.
    t.snapshot("origin");
    t.fs.create_clone(ROOT, b"c", None, &Default::default()).unwrap();
    let clone = t.find(t.find(ROOT, ".clones").unwrap(), "c").unwrap();
    let done = t.fs.delete_snapshots_of(clone, &all_of(&t), &mut |_| true).unwrap();
    assert_eq!(done, [Err(Error::NotPermitted)]);
}

/// What was deleted before comes back with a commit, or never: so many snapshots as there is room for are in the trash, and none
/// goes for good while there is room for it.
#[test]
fn many_are_in_the_trash_as_far_as_there_is_room() {
    for has_waiting in [true, false] {
        let t = T::with(256 << 20, FsOptions::default());
        t.fs.setxattr(&SUPER, ROOT, b"user.snapfs.trash", b"1h", XattrMode::Set).unwrap();
        for n in 0..130 {
            t.snapshot(&format!("s{n}"));
        }
        let waits = t.create(ROOT, "waits");
        (0..48).for_each(|n| t.write(waits, n << 20, &crate::fixtures::bytes(n, 1 << 20)));
        t.fs.release(waits.0, waits.1);
        t.fs.commit().unwrap();
        let full = t.create(ROOT, "fills it");
        let mut at = 0;
        let piece = |at| crate::fixtures::bytes(at, 256 << 10);
        while t.fs.write(full.0, full.1, at, &piece(at), false).is_ok() {
            at += 256 << 10;
        }
        t.fs.release(full.0, full.1);
        t.fs.commit().unwrap();
        if has_waiting {
            t.fs.unlink(&USER, ROOT, b"waits").unwrap();
            t.fs.forget(waits.0);
        }
        let all = all_of(&t);
        let why = Provenance::default();
        let done = t.fs.discard_snapshots_of(ROOT, &all, Deletion::Kept(&why), &mut |_| true).unwrap();
        let (gone, left) = (done.iter().filter(|done| done.is_ok()).count(), t.list(SNAPDIR).len());
        assert_eq!((gone, left), (130, 0), "{has_waiting}");
        assert_eq!(t.fs.volume().trash().len(), 130, "{has_waiting}");
        t.fs.commit().unwrap();
        t.prove();
    }
}

#[test]
fn a_crash_leaves_whole_batches() {
    for cut in [1, 2, 3] {
        let sim: Arc<Sim> = new_store(64 << 20);
        let fs = mount(sim.clone());
        put(&fs, NodeId::ROOT, "f", b"content");
        for n in 0..150 {
            snapshot(&fs, &format!("s{n}"));
        }
        fs.commit().unwrap();
        let all = fs.volume().own_snapshots(LineId::MAIN);
        let mut batches = 0;
        let mut told = |_: usize| {
            batches += 1;
            batches < cut
        };
        fs.delete_snapshots_of(NodeId::ROOT, &all, &mut told).unwrap();
        sim.flush().unwrap();
        // Nobody closes it: what the log tells is what there is.
        let after = mount(Arc::new(sim.crash(CrashPolicy::KeepAll)));
        let left = after.volume().own_snapshots(LineId::MAIN).len();
        assert_eq!(left, 150_usize.saturating_sub(64 * cut), "{cut}");
        for _ in 0..4 {
            after.commit().unwrap();
        }
        assert_eq!(after.volume().leftover().unwrap(), Default::default());
        let report = crate::check::check(after.volume(), crate::check::Depth::Data).unwrap();
        assert!(report.is_clean(), "{report:?}");
    }
}
