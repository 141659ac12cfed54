//! Records of what was purged that say what is not so.

use super::*;
use crate::check::{Depth, check};
use crate::device::{CrashPolicy, Sim};
use crate::fixtures::{ADMIN, RO, mount, new_store, open, put, snapshot};
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

const SECRET: &[u8; 16] = b"s3cr3t-0123-key!";

/// A store with a purge of more leaves than one commit takes, of which some is left; and the names of the files.
fn purged_in_part() -> (Arc<Sim>, Vec<String>) {
    let sim = new_store(64 << 20);
    let names: Vec<String> = (0..40).map(|n| format!("key{n}")).collect();
    let fs = mount(sim.clone());
    let keys = fs.mkdir(&ADMIN, NodeId::ROOT, b"keys", 0o700).unwrap().attr.node;
    for name in &names {
        put(&fs, keys, name, &SECRET.repeat(120));
    }
    snapshot(&fs, "s");
    names.iter().for_each(|name| fs.unlink(&ADMIN, keys, name.as_bytes()).unwrap());
    fs.close().unwrap();
    drop(fs);
    for at in (30..).step_by(5) {
        let cut = Arc::new(sim.clone_image());
        let fs = mount(cut.clone());
        let snapshots = vec![fs.volume().find_snapshot(LineId::MAIN, b"s").unwrap().id];
        cut.set_crash_at(cut.changes() + at);
        let asked = PurgeAsked { path: b"keys".to_vec(), snapshots, all: true, dry_run: false };
        let end = fs.purge(&asked);
        assert!(!matches!(end, Ok(PurgeEnd::Purged(..))), "it was never cut off");
        drop(fs);
        let cut = Arc::new(cut.crash(CrashPolicy::KeepAll));
        let fs = mount(cut.clone());
        let has_rest = fs.volume().purge_rest().is_some();
        fs.close().unwrap();
        drop(fs);
        if has_rest {
            return (Arc::new(cut.clone_image()), names);
        }
    }
    unreachable!()
}

/// What a purge has left to do is no fault: it stays noted, and is done when the store is mounted.
#[test]
fn what_is_left_of_a_purge_is_left_by_a_repair() {
    let (sim, names) = purged_in_part();
    let rest_of = |sim: &Arc<Sim>| open(sim.clone(), Access::ReadOnly).unwrap().purge_rest();
    let rest = rest_of(&sim);
    let is_read = |sim: &Arc<Sim>| {
        let fs = mount(sim.clone());
        let root = fs.lookup(&ADMIN, NodeId::ROOT, b".snapshots").unwrap().attr.node;
        let find = |dir, name: &str| fs.lookup(&ADMIN, dir, name.as_bytes()).unwrap().attr.node;
        let keys = find(find(root, "s"), "keys");
        let read = |name: &String| {
            let node = find(keys, name);
            let handle = fs.open(&ADMIN, node, RO).unwrap();
            let is_read = fs.read(node, handle, 0, &mut [0; 4096]).is_ok();
            fs.release(node, handle);
            is_read
        };
        let read: Vec<bool> = names.iter().map(read).collect();
        fs.close().unwrap();
        read
    };
    let before = is_read(&Arc::new(sim.clone_image()));
    assert!(rest.is_some() && before.contains(&true) && before.contains(&false));
    // There is something to mend.
    let state = examine(sim.clone(), ring::read(&*sim).unwrap().states.remove(0)).unwrap().state;
    let stray = GoneRecord { len: 8192, until: Epoch(2), refs: 5 };
    mend::write(&state, &state.allocated, &mut |meta, _| {
        Ok(meta.edit.insert(meta.root, &GoneRecord::key(48 << 20), &stray.encode())?)
    })
    .unwrap();
    let done = run(sim.clone(), Mode::Write, Depth::Metadata).unwrap();
    assert_eq!(done.left, [] as [String; 0], "{done:#?}");
    assert_eq!(rest_of(&sim), rest);
    assert_eq!(is_read(&Arc::new(sim.clone_image())), before, "nothing came back");
    let fs = mount(sim.clone());
    fs.go_on_purging(&mut |_| true).unwrap();
    assert!(!fs.volume().has_purged_left());
    fs.close().unwrap();
    drop(fs);
    assert!(!is_read(&sim).contains(&true));
    let bytes = sim.peek(0, 64 << 20);
    assert!(!bytes.windows(16).any(|found| found == SECRET));
}
