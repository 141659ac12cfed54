//! What tests of stores and files need again and again: somebody who asks, stores on simulated disks, files in them, and
//! where their blocks are.
//!
//! The unit tests of the crate and the programs of tests share this file, each as its module `fixtures`. It panics where
//! a request fails that no test expects to fail. It plants no damage by chance: what is spoiled, and where, is the test's.

#![allow(dead_code, reason = "each of those who share this file uses a part of it")]

use snapfs::clock::Clock;
use snapfs::device::{Device, DeviceError, RESERVED_BYTES, Sim};
use snapfs::format::mirror::{Label, Standing};
use snapfs::format::superblock::{RING_SLOTS, SLOT_BYTES, Superblock};
use snapfs::format::view::Role;
use snapfs::format::{BlockPtr, Epoch, Extent, Key, Kind, LineId};
use snapfs::fs::{Fs, FsOptions};
use snapfs::ops::{Caller, NodeId, OpenFlags, Operations};
use snapfs::tree::{Step, Visit, walk};
use snapfs::volume::audit::Committed;
use snapfs::volume::{Access, OpenOptions, Volume, VolumeError};
use std::sync::Arc;

/// An ordinary user.
pub const USER: Caller = Caller { uid: 1000, gid: 100, pid: 1, umask: 0 };
/// Root.
pub const ADMIN: Caller = Caller { uid: 0, gid: 0, pid: 1, umask: 0 };
/// To read and write.
pub const RW: OpenFlags = OpenFlags::READ_WRITE;
/// To read.
pub const RO: OpenFlags = OpenFlags::READ_ONLY;
/// The directory of all snapshots.
pub const SNAPDIR: NodeId = NodeId::snapdir(0, 1);

/// Memory for clean nodes: so little that stores of tests do not fit.
pub const CACHE_BYTES: usize = 1 << 20;

/// How long a side may keep the other waiting: no call of a simulated disk takes that long.
pub const SIDE_LIMIT_MS: u32 = 600_000;

/// The label of side 1 or 2 of a mirror of which both are together, the other being where nobody knows.
pub fn together_label(side: u64) -> Label {
    Label {
        pair: [5; 16],
        number: 1,
        side,
        partner: 3 - side,
        standing: Standing::Together,
        current: 99,
        parted_from: 0,
        parted_at: 0,
        parted_secs: 0,
        earlier: Vec::new(),
        limit_ms: SIDE_LIMIT_MS,
        opened: false,
        home: None,
        wide: 0,
        path: Vec::new(),
    }
}

/// The labels of both.
pub fn together_labels() -> [Label; 2] {
    [together_label(1), together_label(2)]
}

/// Makes a store of all of a device. Its identity is nine, sixteen times.
pub fn make(device: Arc<dyn Device>) {
    let size = device.size();
    Volume::create(device, size, [9; 16], (0, 0)).expect("a new store");
}

/// An empty store on a simulated disk.
pub fn new_store(bytes: u64) -> Arc<Sim> {
    let sim = Arc::new(Sim::new(bytes, 1));
    make(sim.clone());
    sim
}

/// Opens a store.
pub fn open(device: Arc<dyn Device>, access: Access) -> Result<Arc<Volume>, VolumeError> {
    Volume::open(device, OpenOptions { access, cache_bytes: CACHE_BYTES })
}

/// The file system of a store that is open.
pub fn files_of(volume: Arc<Volume>) -> Arc<Fs> {
    Fs::open(volume, FsOptions::default(), Clock::manual(1000)).expect("the file system opens")
}

/// The file system of a store, for reading and writing.
pub fn mount(device: Arc<dyn Device>) -> Arc<Fs> {
    files_of(open(device, Access::ReadWrite).expect("the store opens"))
}

/// Bytes that this seed decides. None is zero, so that a hole does not pass for them.
pub fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..len).map(|_| rng.u8(1..)).collect()
}

/// Makes a directory.
pub fn mkdir(fs: &Fs, dir: NodeId, name: &str) -> NodeId {
    fs.mkdir(&ADMIN, dir, name.as_bytes(), 0o755).unwrap().attr.node
}

/// Makes a file with this content.
pub fn put(fs: &Fs, dir: NodeId, name: &str, data: &[u8]) -> NodeId {
    let (entry, handle) = fs.create(&ADMIN, dir, name.as_bytes(), 0o640, RW).unwrap();
    let node = entry.attr.node;
    assert_eq!(fs.write(node, handle, 0, data, false), Ok(data.len()));
    fs.release(node, handle);
    node
}

/// Writes into a file.
pub fn overwrite(fs: &Fs, node: NodeId, at: u64, data: &[u8]) {
    let handle = fs.open(&ADMIN, node, RW).unwrap();
    assert_eq!(fs.write(node, handle, at, data, false), Ok(data.len()));
    fs.release(node, handle);
}

/// The whole content of a file.
pub fn read_whole(fs: &Fs, node: NodeId) -> snapfs::ops::Result<Vec<u8>> {
    let size = fs.getattr(node, None)?.0.size;
    let handle = fs.open(&ADMIN, node, RO)?;
    let mut content = vec![0; size as usize];
    let read = fs.read(node, handle, 0, &mut content);
    fs.release(node, handle);
    content.truncate(read?);
    Ok(content)
}

/// What is under a path from the root of the main line.
pub fn find(fs: &Fs, path: &str) -> NodeId {
    let step = |dir, name: &str| fs.lookup(&ADMIN, dir, name.as_bytes()).unwrap().attr.node;
    path.split('/').fold(NodeId::ROOT, step)
}

/// Makes a snapshot of the main line.
pub fn snapshot(fs: &Fs, name: &str) {
    fs.mkdir(&ADMIN, SNAPDIR, name.as_bytes(), 0).unwrap();
}

/// The root of the main line's tree.
pub fn live_root(state: &Committed) -> BlockPtr {
    let live = state.records.iter().find(|r| r.role == Role::Head && r.line == LineId::MAIN);
    live.and_then(|record| record.root).expect("a live tree")
}

/// What a tree is made of.
#[derive(Default)]
pub struct Blocks {
    /// Its nodes with their levels, the root first.
    pub nodes: Vec<(BlockPtr, u8)>,
    /// Its runs of content, in the order of their keys.
    pub extents: Vec<(Key, Extent)>,
    /// Where the content of these is stored: address, bytes.
    pub data: Vec<(u64, u64)>,
}

/// All that can be reached from a node.
pub fn blocks_below(state: &Committed, root: &BlockPtr) -> Blocks {
    let mut blocks = Blocks::default();
    walk(&state.pager, root, Epoch(0), &mut |visit| {
        match visit {
            Visit::Node(ptr, _, level) => blocks.nodes.push((*ptr, level)),
            Visit::Item(key, value) if key.kind == Kind::Extent as u8 => {
                let extent = Extent::decode(value)?;
                if !extent.is_unwritten() {
                    // The address is the crate's own business, and the first thing in the item.
                    let addr = u64::from_le_bytes(value[..8].try_into().expect("eight bytes"));
                    blocks.data.push((addr, extent.stored_bytes()));
                }
                blocks.extents.push((key, extent));
            }
            _ => {}
        }
        Ok(Step::Into)
    })
    .unwrap();
    blocks
}

/// Sets every copy of a block to zeros.
pub fn zero(sim: &Sim, ptr: &BlockPtr) {
    ptr.ranges().for_each(|(at, len)| sim.zero(at, len));
}

/// Flips bits of one byte in every copy of a block.
pub fn flip(sim: &Sim, ptr: &BlockPtr, byte: u64, mask: u8) {
    ptr.ranges().for_each(|(at, _)| sim.flip(at + byte, mask));
}

/// Makes the checksum of a node or a block of the space map right, and returns it.
pub fn reseal(block: &mut [u8]) -> u64 {
    let sum = xxhash_rust::xxh3::xxh3_64_with_seed(&block[8..], u64::from(block[12]));
    block[..8].copy_from_slice(&sum.to_le_bytes());
    sum
}

/// Writes a state of the store into its slot of both rings.
pub fn write_superblock(device: &dyn Device, superblock: &Superblock) {
    for ring in [0, RESERVED_BYTES / 2] {
        let at = ring + superblock.seq % RING_SLOTS * SLOT_BYTES as u64;
        device.write_at(at, &superblock.encode()).unwrap();
    }
    device.flush().unwrap();
}

/// What a [`Hooked`] device does besides.
pub trait Hooks: Send + Sync {
    /// The size that it has, of a device with so many bytes.
    fn size(&self, bytes: u64) -> u64 {
        bytes
    }
    /// Before something is read there.
    fn before_read(&self, _at: u64) {}
    /// Before so many bytes are written.
    fn before_write(&self, _bytes: usize) {}
    /// Before a flush, which an error takes the place of.
    fn before_flush(&self) -> Result<(), DeviceError> {
        Ok(())
    }
    /// Whether the device hears of what is discarded.
    fn passes_discards(&self) -> bool {
        true
    }
    /// When space has been promised for a range.
    fn after_back(&self, _at: u64, _len: u64) {}
    /// What it says that it keeps.
    fn kept_parts(&self) -> Option<Vec<(u64, u64, u64)>> {
        None
    }
    /// What it says that it lacks of some ranges; none if it leaves that to the device.
    fn lacks(&self, _ranges: &[(u64, u64)]) -> Option<Vec<(u64, u64)>> {
        None
    }
}

/// A device that passes everything on to another, and calls hooks.
pub struct Hooked<H> {
    below: Arc<dyn Device>,
    /// What is called.
    pub hooks: H,
}

impl<H: Hooks> Hooked<H> {
    /// Over another device.
    pub fn over(below: impl Device + 'static, hooks: H) -> Hooked<H> {
        Hooked::over_shared(Arc::new(below), hooks)
    }

    /// Over one that others have as well.
    pub fn over_shared(below: Arc<dyn Device>, hooks: H) -> Hooked<H> {
        Hooked { below, hooks }
    }
}

impl<H: Hooks> Device for Hooked<H> {
    fn size(&self) -> u64 {
        self.hooks.size(self.below.size())
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), DeviceError> {
        self.hooks.before_read(offset);
        self.below.read_at(offset, buf)
    }
    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<(), DeviceError> {
        self.hooks.before_write(buf.len());
        self.below.write_at(offset, buf)
    }
    fn flush(&self) -> Result<(), DeviceError> {
        self.hooks.before_flush()?;
        self.below.flush()
    }
    fn back(&self, offset: u64, len: u64) -> Result<(), DeviceError> {
        self.below.back(offset, len)?;
        self.hooks.after_back(offset, len);
        Ok(())
    }
    fn kept_parts(&self) -> Option<Vec<(u64, u64, u64)>> {
        self.hooks.kept_parts()
    }
    fn lacks(&self, ranges: &[(u64, u64)]) -> Vec<(u64, u64)> {
        self.hooks.lacks(ranges).unwrap_or_else(|| self.below.lacks(ranges))
    }
    fn discard(&self, offset: u64, len: u64) {
        if self.hooks.passes_discards() {
            self.below.discard(offset, len);
        }
    }
    fn available(&self) -> u64 {
        self.below.available()
    }
    fn describe(&self) -> String {
        format!("{} with hooks", self.below.describe())
    }
}
