//! Records of content that has moved are lost or spoiled; the repair finds the content again.

use super::*;
use crate::check::{Depth, check};
use crate::device::Sim;
use crate::fixtures::{
    ADMIN, blocks_below, find, flip, mount, new_store, open, overwrite, put, read_whole, snapshot,
};
use crate::format::{Key, Kind};
use crate::ops::{NodeId, Operations, XattrMode};
use crate::volume::audit::Committed;
use crate::volume::examine::examine;
use crate::volume::mend;
use crate::volume::{Access, ring};
use std::sync::Arc;

const BLOCKS: u64 = 2400;

/// What the file has, what its snapshot has, and the store: every other block of the snapshot's has moved.
fn moved() -> (Vec<u8>, Vec<u8>, Sim) {
    let sim = new_store(128 << 20);
    let fs = mount(sim.clone());
    fs.setxattr(&ADMIN, NodeId::ROOT, b"user.snapfs.layout", b"cow", XattrMode::Set).unwrap();
    let old: Vec<u8> = (0..BLOCKS * 4096).map(|i| (i / 4096 * 7 + i % 251 + i / 1_044_480) as u8).collect();
    let node = put(&fs, NodeId::ROOT, "image", &old);
    fs.commit().unwrap();
    snapshot(&fs, "s");
    let mut new = old.clone();
    for n in (0..BLOCKS).step_by(2) {
        let data = vec![n as u8 | 1; 4096];
        overwrite(&fs, node, n * 4096, &data);
        new[(n * 4096) as usize..][..4096].copy_from_slice(&data);
    }
    fs.commit().unwrap();
    while fs.bring_content_home(8 << 20).unwrap().more {}
    fs.close().unwrap();
    let records = state(&sim).remap.len();
    assert!(records > 600, "{records}");
    (old, new, sim.clone_image())
}

fn state(sim: &Arc<Sim>) -> Committed {
    examine(sim.clone(), ring::read(&**sim).unwrap().states.remove(0)).unwrap().state
}

fn is_right(sim: &Arc<Sim>, old: &[u8], new: &[u8]) {
    let volume = open(sim.clone(), Access::ReadOnly).unwrap();
    assert_eq!(check(&volume, Depth::Data).unwrap().problems, [] as [String; 0]);
    drop(volume);
    let fs = mount(Arc::new(sim.clone_image()));
    assert!(read_whole(&fs, find(&fs, "image")).unwrap() == new);
    assert!(read_whole(&fs, find(&fs, ".snapshots/s/image")).unwrap() == old);
    // Whatever is free is written over.
    for n in 0..40 {
        put(&fs, NodeId::ROOT, &format!("new{n}"), &vec![n; 1 << 20]);
    }
    fs.commit().unwrap();
    assert!(read_whole(&fs, find(&fs, ".snapshots/s/image")).unwrap() == old);
}

#[test]
fn lost_leaves_of_records_are_made_again_of_checksums() {
    let (old, new, made) = moved();
    let nodes = blocks_below(
        &state(&Arc::new(made.clone_image())),
        &state(&Arc::new(made.clone_image())).superblock.meta_root,
    )
    .nodes;
    let mut found = 0;
    for (ptr, _) in &nodes {
        let sim = Arc::new(made.clone_image());
        flip(&sim, ptr, 500, 4);
        let dry = run(sim.clone(), Mode::DryRun, Depth::Metadata).unwrap();
        if dry.found.is_empty() {
            assert!(dry.left[0].contains("records of views or lines are lost"), "{dry:?}");
            continue;
        }
        let done = run(sim.clone(), Mode::Write, Depth::Metadata).unwrap();
        assert_eq!(done.left, [] as [String; 0], "{done:#?}");
        found += usize::from(done.rebuilt.iter().any(|what| what.contains("found again by checksums")));
        is_right(&sim, &old, &new);
    }
    assert!(found >= 2, "{found} of {}", nodes.len());
}

/// Of what is bad where it had moved to, nothing is found, and that is said. The rest is.
#[test]
fn what_is_nowhere_is_told() {
    let (old, _, made) = moved();
    let sim = Arc::new(made.clone_image());
    let some: Vec<_> = state(&sim).remap.iter().take(3).collect();
    let key = Key::new(0, Kind::Remap, some[0].new.0);
    let before = state(&sim);
    let spoil = |meta: &mut crate::volume::history::Meta<'_, '_>| {
        some.iter().try_for_each(|record| {
            let key = Key::new(0, Kind::Remap, record.new.0);
            meta.edit.insert(meta.root, &key, &[7; 31]).map(drop)
        })
    };
    mend::write(&before, &before.allocated, &mut |meta, _| Ok(spoil(meta)?)).unwrap();
    sim.corrupt(some[1].new.0, some[1].len, 3);
    let done = run(sim.clone(), Mode::Write, Depth::Metadata).unwrap();
    let lost = format!("{} bytes of content are nowhere to be found", some[1].len);
    assert!(done.found.iter().any(|what| what.contains(&lost)), "{done:#?}");
    assert_eq!(done.left, [] as [String; 0], "{done:#?}");
    let after = state(&sim);
    assert_eq!(after.remap.len() + 1, before.remap.len());
    assert!(after.remap.iter().any(|record| Key::new(0, Kind::Remap, record.new.0) == key));
    let fs = mount(sim.clone());
    let node = find(&fs, ".snapshots/s/image");
    assert!(read_whole(&fs, node).is_err(), "one block is lost");
    let handle = fs.open(&ADMIN, node, crate::fixtures::RO).unwrap();
    let mut block = vec![0; 4096];
    let good = (0..BLOCKS).filter(|n| {
        let read = fs.read(node, handle, n * 4096, &mut block);
        assert!(read.is_err() || block[..] == old[(n * 4096) as usize..][..4096]);
        read.is_ok()
    });
    assert_eq!(good.count() as u64, BLOCKS - some[1].len / 4096);
}
