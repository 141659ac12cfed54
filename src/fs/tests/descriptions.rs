//! What is said about a snapshot after it was made: of any, through any cut, and nothing else of it changes.

use super::*;
use crate::device::{Device, Memory};
use crate::fixtures::{CACHE_BYTES, make};
use crate::format::LineId;
use crate::format::provenance::{DESCRIPTION_BYTES_MAX, Provenance, Reason};
use crate::fs::HoldTerms;
use crate::schedule::parse_rules;
use crate::volume::{Access, OpenOptions, SnapshotInfo};

const MAIN: LineId = LineId::MAIN;

fn said(t: &T) -> Vec<Vec<u8>> {
    t.fs.snapshots().into_iter().map(|s| s.provenance.description).collect()
}

fn without(mut s: SnapshotInfo) -> SnapshotInfo {
    s.provenance.description.clear();
    s
}

#[test]
fn a_description_is_given_to_any_snapshot_and_survives_any_end() {
    let device: Arc<dyn Device> = Arc::new(Memory::new(1 << 30));
    make(device.clone());
    let open = || {
        let options = OpenOptions { access: Access::ReadWrite, cache_bytes: CACHE_BYTES };
        T::on(Volume::open(device.clone(), options).unwrap(), FsOptions::default())
    };
    let t = open();
    t.put(ROOT, "f", b"one");
    t.fs.set_schedules(MAIN, vec![parse_rules("default", "every=1h keep=all").unwrap()]).unwrap();
    while t.fs.keep_schedules() {}
    let made = Provenance { user: Some(7), description: b"old".to_vec(), ..Provenance::default() };
    t.fs.create_snapshot_as(ROOT, b"users", &made, crate::fs::Reached::PLAIN).unwrap();
    let guard = {
        let held = t.fs.past.one_at_a_time();
        t.fs.past.guard(&t.head, &Reason::Rollback.into(), &held).unwrap()
    };
    t.fs.commit().unwrap();
    let terms = HoldTerms { tag: "keep", after: None };
    t.fs.hold_snapshot(ROOT, guard.id, &terms, &Provenance::default()).unwrap();
    let alone = t.fs.standalone(b"users").unwrap();
    let all = t.fs.snapshots();
    let automatic = all[0].name.clone();
    let long = vec![0xff; DESCRIPTION_BYTES_MAX];
    let say = |t: &T, name: &[u8], text: &[u8]| t.fs.describe_snapshot(ROOT, name, text);
    say(&t, &automatic, b"the first one").unwrap();
    say(&t, b"users", b"new").unwrap();
    say(&t, b"users", &long).unwrap();
    say(&t, b"@latest", b"before it went wrong").unwrap();
    assert_eq!(say(&t, b"none", b"x"), Err(Error::NotFound));
    assert_eq!(say(&t, b"users", &vec![0; DESCRIPTION_BYTES_MAX + 1]), Err(Error::TooBig));
    drop(alone);
    let expected = [b"the first one".to_vec(), long, b"before it went wrong".to_vec()];
    assert_eq!(said(&t), expected);
    assert_eq!(
        t.fs.getxattr(t.find(SNAPDIR, "users").unwrap(), b"user.snapfs.description").unwrap(),
        expected[1]
    );
    // The log has it; then it is committed. Nothing else has changed, and the schedule's is its own.
    for _ in 0..3 {
        let t = open();
        assert_eq!(said(&t), expected);
        let now: Vec<SnapshotInfo> = t.fs.snapshots().into_iter().map(without).collect();
        let then: Vec<SnapshotInfo> = all.iter().cloned().map(without).collect();
        let (now_told, then_told) = (now.iter(), then.iter());
        for (now, then) in now_told.zip(then_told) {
            assert_eq!((&now.name, now.id, &now.provenance), (&then.name, then.id, &then.provenance));
            assert_eq!((now.created, now.line, now.is_received), (then.created, then.line, then.is_received));
        }
        assert_eq!(t.fs.schedule_states(Some(MAIN))[0].snapshots, 1);
        assert!(t.fs.volume().is_held(guard.id));
        t.fs.commit().unwrap();
        t.prove();
    }
    // Nothing is said any more, and what a clone has from its origin is described there.
    let t = open();
    say(&t, b"users", b"").unwrap();
    let clone = t.mkdir(NodeId::clonedir(0), "c").unwrap();
    assert_eq!(t.fs.describe_snapshot(clone, b"users", b"x"), Err(Error::NotPermitted));
    let t = open();
    assert_eq!(said(&t)[1], b"");
    t.prove();
}
