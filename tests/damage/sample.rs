//! The store that is damaged: files of all kinds, changes, snapshots; and where its blocks are.

use snapfs::clock::Clock;
use snapfs::device::Sim;
use snapfs::format::superblock::{RING_SLOTS, SLOT_BYTES};
use snapfs::format::view::Role;
use snapfs::format::{BlockPtr, Epoch, Extent, Kind};
use snapfs::fs::{Fs, FsOptions};
use snapfs::ops::*;
use snapfs::tree::{Step, Visit, walk};
use snapfs::volume::{Access, OpenOptions, Volume};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::observe::{Seen, observe};

pub const USER: Caller = Caller { uid: 0, gid: 0, pid: 1, umask: 0 };
pub const RW: OpenFlags = OpenFlags {
    read: true,
    write: true,
    append: false,
    at_end: false,
    truncate: false,
    exclusive: false,
    sync: false,
    no_atime: false,
};
pub const SNAPDIR: NodeId = NodeId::snapdir(0, 1);
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

pub fn open(
    device: Arc<dyn snapfs::device::Device>,
    access: Access,
) -> std::result::Result<Arc<Volume>, String> {
    let options = OpenOptions { access, cache_bytes: 1 << 20 };
    Volume::open(device, options).map_err(|e| e.to_string())
}

pub fn mount(volume: Arc<Volume>) -> std::result::Result<Arc<Fs>, String> {
    let read_only = volume.is_read_only();
    let options = FsOptions { read_only, dirty_bytes_max: 1 << 20, ..FsOptions::default() };
    Fs::open(volume, options, Clock::manual(1000)).map_err(|e| e.to_string())
}

fn put(fs: &Fs, dir: NodeId, name: &str, data: &[u8]) -> NodeId {
    let (entry, handle) = fs.create(&USER, dir, name.as_bytes(), 0o644, RW).unwrap();
    fs.write(entry.attr.node, handle, 0, data, false).unwrap();
    fs.release(entry.attr.node, handle);
    entry.attr.node
}

fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..len).map(|_| rng.u8(..)).collect()
}

fn fill(fs: &Fs) {
    let dir = |p, n: &str| fs.mkdir(&USER, p, n.as_bytes(), 0o755).unwrap().attr.node;
    let snapshot = |n: &str| fs.mkdir(&USER, SNAPDIR, n.as_bytes(), 0).map(drop).unwrap();
    let (a, b) = (dir(NodeId::ROOT, "a"), dir(NodeId::ROOT, "b"));
    let deep = dir(dir(a, "deep"), "deeper");
    for n in 0..120_usize {
        put(fs, a, &format!("small{n}"), &bytes(n as u64, n * 17 + 1));
    }
    let mut big = Vec::new();
    for n in 0..12_usize {
        big.push(put(fs, deep, &format!("big{n}"), &bytes(1000 + n as u64, 50_000 * n + 5000)));
    }
    fs.symlink(&USER, b, b"link", b"../a/small1").unwrap();
    fs.mknod(&USER, b, b"pipe", FileType::Fifo, 0o600, 0).unwrap();
    fs.link(&USER, big[3], b, b"hard").unwrap();
    fs.setxattr(&USER, big[0], b"user.short", b"value", XattrMode::Set).unwrap();
    fs.setxattr(&USER, big[0], b"user.long", &bytes(7, 20_000), XattrMode::Set).unwrap();
    let words = |n: u64, len| -> Vec<u8> {
        bytes(n, len).into_iter().enumerate().map(|(i, b)| if i % 3 == 0 { b } else { 5 }).collect()
    };
    let packed = dir(NodeId::ROOT, "packed");
    fs.setxattr(&USER, packed, b"user.snapfs.compression", b"zstd:1", XattrMode::Set).unwrap();
    for n in 0..8_u64 {
        big.push(put(fs, packed, &format!("words{n}"), &words(2000 + n, 60_000 * n as usize + 9000)));
    }
    snapshot("one");
    for (n, node) in big.iter().enumerate() {
        let h = fs.open(&USER, *node, RW).unwrap();
        fs.write(*node, h, 3000 * n as u64, &bytes(50 + n as u64, 9000), false).unwrap();
        if n % 3 == 0 {
            fs.fallocate(&USER, *node, h, 1 << 20, 100_000, AllocateMode::KeepSize).unwrap();
        }
        fs.release(*node, h);
    }
    for n in (0..120).step_by(7) {
        fs.unlink(&USER, a, format!("small{n}").as_bytes()).unwrap();
    }
    snapshot("two");
    fs.rename(&USER, a, b"deep", b, b"moved", RenameMode::Replace).unwrap();
    for n in 0..40_usize {
        put(fs, b, &format!("later{n}"), &bytes(300 + n as u64, n * 300 + 1));
    }
    snapshot("three");
    fs.rmdir(&USER, SNAPDIR, b"two").unwrap();
    fs.commit().unwrap();
}

impl Sample {
    pub fn new() -> Sample {
        let sim = Arc::new(Sim::new(SIZE, 1));
        Volume::create(sim.clone(), SIZE, [3; 16], (0, 0)).unwrap();
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
        let b = fs.lookup(&USER, NodeId::ROOT, b"b").unwrap().attr.node;
        for n in 0..12_usize {
            let node = put(&fs, b, &format!("logged{n}"), &bytes(500 + n as u64, n * 4000 + 9));
            fs.setxattr(&USER, node, b"user.n", &[n as u8], XattrMode::Set).unwrap();
            fs.fsyncdir(NodeId::ROOT).unwrap();
        }
        fs.rename(&USER, b, b"later5", NodeId::ROOT, b"from the log", RenameMode::Replace).unwrap();
        fs.unlink(&USER, b, b"later6").unwrap();
        fs.mkdir(&USER, SNAPDIR, b"logged", 0).map(drop).unwrap();
        fs.rmdir(&USER, SNAPDIR, b"three").unwrap();
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
        walk(&state.pager, &root, Epoch(0), &mut |visit| {
            match visit {
                Visit::Node(ptr, ..) => drop(metadata.insert(ptr.addr.0, *ptr)),
                Visit::Item(key, value) if key.kind == Kind::Extent as u8 => {
                    let extent = Extent::decode(value)?;
                    if !extent.is_unwritten() {
                        let addr = u64::from_le_bytes(value[..8].try_into().unwrap());
                        data.insert(addr, extent.stored_bytes());
                    }
                }
                _ => {}
            }
            Ok(Step::Into)
        })
        .unwrap();
    }
    (metadata.into_values().collect(), data.into_iter().collect())
}
