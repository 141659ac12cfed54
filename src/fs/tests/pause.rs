//! For how long changes were held up for a snapshot: each tells it, however it came to be.

use super::*;
use crate::device::{DeviceError, Memory};
use crate::fixtures::{Hooked, Hooks};
use crate::format::provenance::{Provenance, Reason};
use crate::fs::{NamedPath, OpenForWriting, RestoreOrder, Switched};
use crate::volume::{Access, OpenOptions};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// So long a flush takes.
const FLUSH: Duration = Duration::from_millis(20);

/// A device takes its time for flushes when it is told to.
#[derive(Default)]
struct Lazy(AtomicBool);

impl Hooks for Lazy {
    fn before_flush(&self) -> std::result::Result<(), DeviceError> {
        if self.0.load(Ordering::SeqCst) {
            std::thread::sleep(FLUSH);
        }
        Ok(())
    }
}

#[test]
fn each_snapshot_tells_for_how_long_it_held_up_changes() {
    let device = Arc::new(Hooked::over(Memory::new(256 << 20), Lazy::default()));
    let options = FsOptions { tripwire: true, ..FsOptions::default() };
    let t = T::on(Volume::made_on(device.clone()), options);
    for n in 0..40 {
        t.put(ROOT, &format!("f{n}"), &vec![n; 9000]);
    }
    t.snapshot("made");
    device.hooks.0.store(true, Ordering::SeqCst);
    t.put(ROOT, "f", b"new");
    t.fs.unlink(&USER, ROOT, b"f0").unwrap();

    // One restore makes two: until the second is made changes wait for the first to be durable.
    let path = NamedPath { at: ROOT, below: vec![b"f0".to_vec()], name: b"f0".to_vec() };
    let order = RestoreOrder { paths: vec![path], from: Some(b"made".to_vec()), to: None };
    let restored = t.fs.restore(&order, &Provenance::from(Reason::Restore)).unwrap();
    let (_, after) = restored.guards.unwrap();
    assert!(u128::from(after.pause_ns) >= FLUSH.as_nanos(), "{after:?}");

    // A rollback, and what the trip wire keeps.
    let to = t.fs.snapshot_of_word(ROOT, b"made").unwrap();
    let done = t.fs.rollback(ROOT, &to, OpenForWriting::CutOff, &Reason::Rollback.into());
    assert!(matches!(done, Ok(Switched::Done(_))));
    t.put(ROOT, "more", b"more");
    t.clock.advance(61 * 1_000_000_000);
    t.fs.tend_tripwire();
    (0..30).for_each(|n| t.fs.unlink(&USER, ROOT, format!("f{n}").as_bytes()).unwrap());
    t.fs.tend_tripwire();

    let all = t.fs.snapshots();
    let reasons: Vec<Reason> = all.iter().map(|s| s.provenance.reason).collect();
    let wanted = [Reason::User, Reason::Restore, Reason::After, Reason::Rollback, Reason::MassDeletion];
    assert_eq!(reasons, wanted);
    assert_eq!(all.iter().filter(|s| s.pause_ns == 0).count(), 0, "{all:?}");
    // It is kept with them.
    t.fs.close().unwrap();
    drop(t);
    let access = OpenOptions { access: Access::ReadWrite, cache_bytes: 8 << 20 };
    let again = T::on(Volume::open(device, access).unwrap(), FsOptions::default());
    let pauses = |all: &[crate::volume::SnapshotInfo]| all.iter().map(|s| s.pause_ns).collect::<Vec<_>>();
    assert_eq!(pauses(&again.fs.snapshots()), pauses(&all));
}
