//! The store that is damaged: files of all kinds, changes, snapshots; and where its blocks are.

use snapfs::clock::Clock;
use snapfs::device::{Device, Sim};
use snapfs::format::BlockPtr;
use snapfs::format::superblock::{RING_SLOTS, SLOT_BYTES};
use snapfs::format::view::Role;
use snapfs::fs::{Fs, FsOptions};
use snapfs::ops::*;
use snapfs::volume::{Access, Volume};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::fixtures::{
    self, ADMIN, RW, SNAPDIR, USER, blocks_below, bytes, mkdir, new_store, overwrite, put,
};
use super::observe::{Seen, observe};

const SIZE: u64 = 64 << 20;

/// An undamaged store.
pub struct Sample {
    pub sim: Sim,
    /// What it holds.
    pub seen: Seen,
    /// Metadata blocks of the newest state: pointers to nodes and to the space map.
    pub metadata: Vec<BlockPtr>,
    /// Blocks of content: address, length.
    pub data: Vec<(u64, u64)>,
}

pub fn open(device: Arc<dyn Device>, access: Access) -> std::result::Result<Arc<Volume>, String> {
    fixtures::open(device, access).map_err(|e| e.to_string())
}

pub fn mount(volume: Arc<Volume>) -> std::result::Result<Arc<Fs>, String> {
    let read_only = volume.is_read_only();
    let options = FsOptions { read_only, dirty_bytes_max: 1 << 20, ..FsOptions::default() };
    Fs::open(volume, options, Clock::manual(1000)).map_err(|e| e.to_string())
}

fn fill(fs: &Fs) {
    let (dir, snapshot) = (|p, n: &str| mkdir(fs, p, n), |n: &str| fixtures::snapshot(fs, n));
    let (a, b) = (dir(NodeId::ROOT, "a"), dir(NodeId::ROOT, "b"));
    let deep = dir(dir(a, "deep"), "deeper");
    for n in 0..120_usize {
        put(fs, a, &format!("small{n}"), &bytes(n as u64, n * 17 + 1));
    }
    let mut big = Vec::new();
    for n in 0..12_usize {
        big.push(put(fs, deep, &format!("big{n}"), &bytes(1000 + n as u64, 50_000 * n + 5000)));
    }
    fs.symlink(&ADMIN, b, b"link", b"../a/small1").unwrap();
    fs.mknod(&ADMIN, b, b"pipe", FileType::Fifo, 0o600, 0).unwrap();
    fs.link(&ADMIN, big[3], b, b"hard").unwrap();
    fs.setxattr(&ADMIN, big[0], b"user.short", b"value", XattrMode::Set).unwrap();
    fs.setxattr(&ADMIN, big[0], b"user.long", &bytes(7, 20_000), XattrMode::Set).unwrap();
    let words = |n: u64, len| -> Vec<u8> {
        bytes(n, len).into_iter().enumerate().map(|(i, b)| if i % 3 == 0 { b } else { 5 }).collect()
    };
    let packed = dir(NodeId::ROOT, "packed");
    fs.setxattr(&ADMIN, packed, b"user.snapfs.compression", b"zstd:1", XattrMode::Set).unwrap();
    for n in 0..8_u64 {
        big.push(put(fs, packed, &format!("words{n}"), &words(2000 + n, 60_000 * n as usize + 9000)));
    }
    snapshot("one");
    for (n, node) in big.iter().enumerate() {
        overwrite(fs, *node, 3000 * n as u64, &bytes(50 + n as u64, 9000));
        if n % 3 == 0 {
            let h = fs.open(&ADMIN, *node, RW).unwrap();
            fs.fallocate(&ADMIN, *node, h, 1 << 20, 100_000, AllocateMode::KeepSize).unwrap();
            fs.release(*node, h);
        }
    }
    for n in (0..120).step_by(7) {
        fs.unlink(&ADMIN, a, format!("small{n}").as_bytes()).unwrap();
    }
    snapshot("two");
    fs.rename(&ADMIN, a, b"deep", b, b"moved", RenameMode::Replace).unwrap();
    for n in 0..40_usize {
        put(fs, b, &format!("later{n}"), &bytes(300 + n as u64, n * 300 + 1));
    }
    snapshot("three");
    fs.rmdir(&ADMIN, SNAPDIR, b"two").unwrap();
    fs.commit().unwrap();
}

impl Sample {
    pub fn new() -> Sample {
        let sim = new_store(SIZE);
        let fs = mount(open(sim.clone(), Access::ReadWrite).unwrap()).unwrap();
        fill(&fs);
        for _ in 0..4 {
            fs.tick().unwrap();
        }
        put(&fs, NodeId::ROOT, "last", &bytes(5, 70_000));
        fs.close().unwrap();
        let seen = observe(&fs);
        assert!(seen.errors.is_empty(), "{:?}", seen.errors);
        let (metadata, data) = places(fs.volume());
        Sample { sim: sim.clone_image(), seen, metadata, data }
    }

    /// The same, used since and not closed: what came after the last commit is in the log alone, all of it durable.
    pub fn with_log() -> Sample {
        let sample = Sample::new();
        let sim = Arc::new(sample.sim.clone_image());
        let fs = mount(open(sim.clone(), Access::ReadWrite).unwrap()).unwrap();
        // The first change of a session ends in a commit.
        put(&fs, NodeId::ROOT, "first", b"first");
        fs.commit().unwrap();
        let (metadata, data) = places(fs.volume());
        let b = fs.lookup(&ADMIN, NodeId::ROOT, b"b").unwrap().attr.node;
        for n in 0..12_usize {
            let node = put(&fs, b, &format!("logged{n}"), &bytes(500 + n as u64, n * 4000 + 9));
            fs.setxattr(&ADMIN, node, b"user.n", &[n as u8], XattrMode::Set).unwrap();
            fs.fsyncdir(NodeId::ROOT).unwrap();
        }
        fs.rename(&ADMIN, b, b"later5", NodeId::ROOT, b"from the log", RenameMode::Replace).unwrap();
        fs.unlink(&ADMIN, b, b"later6").unwrap();
        fixtures::snapshot(&fs, "logged");
        fs.rmdir(&ADMIN, SNAPDIR, b"three").unwrap();
        fs.fsyncdir(NodeId::ROOT).unwrap();
        fs.volume().tell_flushed();
        let seen = observe(&fs);
        assert!(seen.errors.is_empty(), "{:?}", seen.errors);
        Sample { sim: sim.clone_image(), seen, metadata, data }
    }

    /// The same with content that was put into its place before the record that tells of it, and was flushed with it.
    pub fn with_content_in_log() -> Sample {
        let sample = Sample::with_log();
        let sim = Arc::new(sample.sim.clone_image());
        let fs = mount(open(sim.clone(), Access::ReadWrite).unwrap()).unwrap();
        put(&fs, NodeId::ROOT, "second", b"second");
        fs.commit().unwrap();
        let (metadata, data) = places(fs.volume());
        for n in 0..3_u64 {
            put(&fs, NodeId::ROOT, &format!("direct{n}"), &bytes(700 + n, 600_000));
            fs.fsyncdir(NodeId::ROOT).unwrap();
        }
        fs.volume().tell_flushed();
        let seen = observe(&fs);
        assert!(seen.errors.is_empty(), "{:?}", seen.errors);
        Sample { sim: sim.clone_image(), seen, metadata, data }
    }

    /// The same with two more snapshots, `pair1` and `pair2`, whose records are written.
    pub fn with_pair() -> Sample {
        let sim = Arc::new(Sample::new().sim.clone_image());
        let fs = mount(open(sim.clone(), Access::ReadWrite).unwrap()).unwrap();
        for name in ["pair1", "pair2"] {
            put(&fs, NodeId::ROOT, name, name.as_bytes());
            fs.mkdir(&USER, SNAPDIR, name.as_bytes(), 0).unwrap();
        }
        fs.close().unwrap();
        let seen = observe(&fs);
        let (metadata, data) = places(fs.volume());
        Sample { sim: sim.clone_image(), seen, metadata, data }
    }

    /// Addresses of the superblock slots that were ever written.
    pub fn slots(&self) -> Vec<u64> {
        let ring = (0..RING_SLOTS).map(|n| n * SLOT_BYTES as u64);
        let both = ring.flat_map(|at| [at, at + snapfs::device::RESERVED_BYTES / 2]);
        both.filter(|at| self.sim.peek(*at, SLOT_BYTES as u64).iter().any(|b| *b != 0)).collect()
    }
}

/// Where the blocks of the newest committed state are.
fn places(volume: &Volume) -> (Vec<BlockPtr>, Vec<(u64, u64)>) {
    let state = volume.committed().unwrap();
    let mut metadata: BTreeMap<u64, BlockPtr> = state.space_map.iter().map(|p| (p.addr.0, *p)).collect();
    let mut data = BTreeMap::new();
    let views = state.records.iter().filter(|r| r.role != Role::Hidden).filter_map(|r| r.root);
    for root in views.chain([state.superblock.meta_root]) {
        let below = blocks_below(&state, &root);
        metadata.extend(below.nodes.iter().map(|(ptr, _)| (ptr.addr.0, *ptr)));
        data.extend(below.data);
    }
    (metadata.into_values().collect(), data.into_iter().collect())
}
