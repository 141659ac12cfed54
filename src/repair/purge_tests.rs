//! Records of what was purged that say what is not so.

use super::*;
use crate::check::{Depth, check};
use crate::device::Sim;
use crate::fixtures::{ADMIN, mount, new_store, open, put, snapshot};
use crate::format::purge::{GoneRecord, HeldRecord, LeafRecord};
use crate::format::{BlockAddr, Epoch, LineId};
use crate::fs::{PurgeAsked, PurgeEnd};
use crate::ops::{NodeId, Operations};
use crate::volume::examine::examine;
use crate::volume::{Access, mend, ring};
use std::sync::Arc;

/// A store that lost a small file and a large one from a snapshot.
fn purged() -> Sim {
    let sim = new_store(64 << 20);
    let fs = mount(sim.clone());
    for (name, len) in [("small", 100), ("large", 40_000), ("other", 100)] {
        put(&fs, NodeId::ROOT, name, &vec![7; len]);
    }
    snapshot(&fs, "s");
    for name in ["small", "large"] {
        fs.unlink(&ADMIN, NodeId::ROOT, name.as_bytes()).unwrap();
    }
    fs.close().unwrap();
    let fs = mount(sim.clone());
    let snapshots = vec![fs.volume().find_snapshot(LineId::MAIN, b"s").unwrap().id];
    for path in ["small", "large"] {
        let path = path.as_bytes().to_vec();
        let asked = PurgeAsked { path, snapshots: snapshots.clone(), all: true, dry_run: false };
        assert!(matches!(fs.purge(&asked), Ok(PurgeEnd::Purged(..))));
    }
    fs.close().unwrap();
    sim.clone_image()
}

#[test]
fn records_of_what_nothing_refers_to_go_and_counts_are_made_right() {
    let sim = Arc::new(purged());
    let state = examine(sim.clone(), ring::read(&*sim).unwrap().states.remove(0)).unwrap().state;
    let (gone, leaves) = (state.remap.purged.gone().collect::<Vec<_>>(), state.leaves.clone());
    assert!(!gone.is_empty() && !leaves.is_empty());
    let clean = || {
        let volume = open(sim.clone(), Access::ReadOnly).unwrap();
        check(&volume, Depth::Data).unwrap().problems
    };
    assert_eq!(clean(), [] as [String; 0]);
    // Free places, far behind what is in use.
    let free = 48u64 << 20;
    let (at, first) = gone[0];
    let (leaf, _) = leaves.iter().next().unwrap();
    let kept = leaves[leaf];
    mend::write(&state, &state.allocated, &mut |meta, _| {
        let stray = GoneRecord { len: 8192, until: Epoch(2), refs: 5 };
        let counted = GoneRecord { refs: first.refs + 3, ..first };
        let wiped = HeldRecord { len: 4096, wiped: true };
        let rewritten = LeafRecord { copy: BlockAddr(0), birth: Epoch(2), checksum: 9, in_pieces: true };
        let mut items = vec![
            (GoneRecord::key(free), stray.encode()),
            (GoneRecord::key(at), counted.encode()),
            (HeldRecord::key(free + (1 << 20)), wiped.encode()),
            (LeafRecord::key(free + (2 << 20)), rewritten.encode()),
        ];
        items.extend(LeafRecord::piece_keys(free + (2 << 20)).map(|key| (key, vec![0; 4096])));
        items.iter().try_for_each(|(key, value)| meta.edit.insert(meta.root, key, value))?;
        Ok(())
    })
    .unwrap();
    assert_eq!(clean().len(), 4, "{:#?}", clean());
    let done = run(sim.clone(), Mode::Write, Depth::Metadata).unwrap();
    assert_eq!(done.left, [] as [String; 0], "{done:#?}");
    assert_eq!(clean(), [] as [String; 0]);
    let after = examine(sim.clone(), ring::read(&*sim).unwrap().states.remove(0)).unwrap().state;
    assert_eq!(after.remap.purged.gone().collect::<Vec<_>>(), gone);
    assert_eq!((after.leaves.len(), after.leaves[leaf]), (leaves.len(), kept));
}
