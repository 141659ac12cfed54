//! Stores from which content was purged: its leaves are read as they are now, and what was purged counts as lost.

use super::tests::*;
use super::{Outcome, Wanted};
use crate::device::{CrashPolicy, Sim};
use crate::fixtures::{mount, open};
use crate::format::LineId;
use crate::fs::{PurgeAsked, PurgeEnd};
use crate::volume::Access;
use std::sync::Arc;

const PURGED: &[u8] = b"dir5/small5";

/// A store that lost one small file of the snapshot, and had others in the same leaf.
fn purged(sample: &Sample) -> Arc<Sim> {
    let device = Arc::new(sample.sim.clone_image());
    let fs = mount(device.clone());
    let snapshot = fs.volume().find_snapshot(LineId::MAIN, b"past").unwrap().id;
    let asked = PurgeAsked { path: PURGED.to_vec(), snapshots: vec![snapshot], all: true, dry_run: false };
    assert!(matches!(fs.purge(&asked), Ok(PurgeEnd::Purged(..))));
    fs.close().unwrap();
    device
}

fn all_but_what_was_purged(found: &(super::Summary, Tree, Heard), expected: &Tree, what: &str) {
    let (summary, tree, heard) = found;
    for rescued in &heard.all {
        let is_purged = rescued.path == PURGED;
        assert_eq!(rescued.state != Outcome::Whole, is_purged, "{what}: {rescued:?}, {summary:?}");
    }
    for (path, seen) in expected.iter().filter(|(path, _)| *path != PURGED) {
        assert!(tree.get(path) == Some(seen), "{what}: {}", String::from_utf8_lossy(path));
    }
    assert_eq!(heard.all.len(), expected.len(), "{what}");
}

#[test]
fn rewritten_leaves_come_out_as_they_are() {
    let sample = Sample::new(1200);
    assert!(sample.past.contains_key(PURGED) && !sample.live.contains_key(PURGED));
    let device = purged(&sample);
    let past = named(b"past");
    all_but_what_was_purged(&salvage(&device, &past), &sample.past, "by its record");
    let wanted = Wanted { snapshot: past.snapshot.clone(), ..by_scan() };
    all_but_what_was_purged(&salvage(&device, &wanted), &sample.past, "by a scan");
    let state = open(device.clone(), Access::ReadOnly).unwrap().committed().unwrap();
    let root = state.records.iter().find(|r| r.name == b"past").and_then(|r| r.root).unwrap();
    let rootless = Arc::new(device.clone_image());
    root.ranges().for_each(|(addr, len)| rootless.zero(addr, len));
    all_but_what_was_purged(&salvage(&rootless, &past), &sample.past, "without its root");
    zero_superblocks(&device);
    all_but_what_was_purged(&salvage(&device, &past), &sample.past, "without superblocks");
}

/// A purge that was cut off anywhere: what nobody could read any more does not come out either, whether it was written over by then or not.
#[test]
fn what_a_purge_that_was_cut_off_has_taken_does_not_come_out() {
    let sample = Sample::new(600);
    let mut cut = 0;
    for at in (24..).step_by(9) {
        let device = Arc::new(sample.sim.clone_image());
        let fs = mount(device.clone());
        let snapshot = fs.volume().find_snapshot(LineId::MAIN, b"past").unwrap().id;
        device.set_crash_at(device.changes() + at);
        let asked =
            PurgeAsked { path: PURGED.to_vec(), snapshots: vec![snapshot], all: true, dry_run: false };
        let is_done = matches!(fs.purge(&asked), Ok(PurgeEnd::Purged(..)));
        drop(fs);
        let device = Arc::new(device.crash(CrashPolicy::KeepAll));
        let is_taken = {
            let volume = open(device.clone(), Access::ReadOnly).unwrap();
            let info = volume.find_snapshot(LineId::MAIN, b"past").unwrap();
            info.edited.is_some()
        };
        if is_taken {
            cut += u32::from(!is_done);
            let past = named(b"past");
            let what = format!("cut at {at}");
            all_but_what_was_purged(&salvage(&device, &past), &sample.past, &what);
            let wanted = Wanted { snapshot: past.snapshot.clone(), ..by_scan() };
            all_but_what_was_purged(&salvage(&device, &wanted), &sample.past, &format!("{what}, by a scan"));
        }
        if is_done {
            break;
        }
    }
    assert!(cut > 1, "{cut}");
}
