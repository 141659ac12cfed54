//! Stores from which content was purged: its leaves are read as they are now, and what was purged counts as lost.

use super::tests::*;
use super::{Outcome, Wanted};
use crate::device::Sim;
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
