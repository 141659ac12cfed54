//! A side of a mirror that is one state older than the other, made the same before the store is opened.
//!
//! What it gets is what its own state does not have and what proves: by the checksums of extents, of nodes, or because it is to be
//! zeros. A place of it that proves is left as it is, whatever the other side has there.

use super::audit::Committed;
use super::levelling::Levelling;
use super::mirroring::{Born, PIECE_BYTES, add, each_younger};
use super::{Access, OpenOptions, Result, Volume, ring};
use crate::device::{Device, DeviceError, Mirror, RESERVED_BYTES};
use crate::format::header::{BlockKind, verify};
use crate::format::{BLOCK_BYTES, BlockAddr, BlockPtr, Epoch, Extent, NODE_BYTES};
use crate::store::RangeSet;
use std::cell::RefCell;
use std::sync::Arc;

/// Where a side of a mirror has an older state than the other it gets what came since, unless that cannot be told: then it is
/// left out. Before a store is opened for writing.
///
/// # Errors
/// If no side is left that has all that it needs.
pub fn level_states(mirror: &Arc<Mirror>) -> Result<()> {
    let device: Arc<dyn Device> = mirror.clone();
    if !device.is_mirror() {
        return Ok(());
    }
    let mut states = ring::newest_by_side(&*device);
    states.sort_by_key(|(_, state)| state.seq);
    let [(to, older), (from, newest)] = &states[..] else { return Ok(()) };
    if older.seq == newest.seq {
        return Ok(());
    }
    let done = state_of(device.clone()).and_then(|newest| {
        let older = state_of(Arc::new(AsOnSide { mirror: mirror.clone(), side: *to }))?;
        Bringing::new(&*device, (*from, *to), &newest, &older).all(older.superblock.epoch)
    });
    match done {
        Ok(levelling) => levelling.end(),
        Err(e) => {
            let why = format!("it has an older state, and what came since cannot be read: {e}");
            // The last one is not left out: it is what there is.
            let _is_left_out = device.leave_out(*to, &why);
            Ok(())
        }
    }
}

fn state_of(device: Arc<dyn Device>) -> Result<Committed> {
    let options = OpenOptions { access: Access::ReadOnly, cache_bytes: 1 << 20 };
    Volume::open(device, options)?.committed()
}

/// A side that is one state older than another gets what came with that, durably, before it gets the superblock: a crash
/// between the two writes of that leaves such a side, which has all of it, and so does a copy from that time in its place, which has
/// nothing.
struct Bringing<'d, 's> {
    device: &'d dyn Device,
    from: usize,
    to: usize,
    newest: &'s Committed,
    older: &'s Committed,
    levelling: Levelling<'d>,
    seen: RangeSet,
}

impl<'d, 's> Bringing<'d, 's> {
    fn new(
        device: &'d dyn Device,
        (from, to): (usize, usize),
        newest: &'s Committed,
        older: &'s Committed,
    ) -> Bringing<'d, 's> {
        let levelling = Levelling::new(device);
        Bringing { device, from, to, newest, older, levelling, seen: RangeSet::new() }
    }

    /// Brings all of it. What nothing refers to any more is not read by anybody, and left as it is.
    fn all(mut self, older: Epoch) -> Result<Levelling<'d>> {
        each_younger(self.newest, older, &mut || false, &mut |born| match born {
            Born::Node(ptr) => self.node(*ptr),
            Born::Content(extent) => self.content(&extent),
        })?;
        self.leaves();
        self.zeros();
        let differing = self.moved();
        self.prove_moved(differing)?;
        Ok(self.levelling)
    }

    fn read(&self, side: usize, at: u64, len: u64) -> Option<Vec<u8>> {
        let mut bytes = vec![0; len as usize];
        self.device.read_side(side, at, &mut bytes).ok().map(|()| bytes)
    }

    /// Has the older side hold what proves, if the other has that and it does not.
    fn bring(&mut self, at: u64, len: u64, proves: impl Fn(&[u8]) -> bool) {
        if self.read(self.to, at, len).is_some_and(|there| proves(&there)) {
            return;
        }
        if let Some(good) = self.read(self.from, at, len).filter(|bytes| proves(bytes)) {
            self.levelling.bring(self.to, at, &good);
        }
    }

    /// True once for each range.
    fn is_new(&mut self, at: u64, len: u64) -> bool {
        let is_new = !self.seen.contains(at, len);
        add(&mut self.seen, at, len);
        is_new
    }

    fn node(&mut self, ptr: BlockPtr) {
        let store = self.newest.pager.store();
        let checksum = match store.rewrites().of(&ptr) {
            // It is yet to be put there.
            Some(rewrite) if rewrite.bytes.is_some() => return,
            Some(rewrite) => rewrite.checksum,
            None => ptr.checksum,
        };
        let (fsid, ptr) = (store.fsid(), BlockPtr { checksum, ..ptr });
        let kinds = [BlockKind::Leaf, BlockKind::Inner, BlockKind::SpaceMap];
        for (at, len) in ptr.ranges() {
            if self.is_new(at, len) {
                self.bring(at, len, |bytes| verify(bytes, &ptr, &kinds, fsid).is_ok());
            }
        }
    }

    fn content(&mut self, extent: &Extent) {
        for (_, placed) in self.newest.remap.left_of(extent) {
            let (at, crcs) = (placed.addr(), &placed.extent().crcs);
            let len = crcs.len() as u64 * BLOCK_BYTES;
            if len == 0 || !self.is_new(at, len) {
                continue;
            }
            let there = self.read(self.to, at, len);
            for (n, crc) in crcs.iter().enumerate() {
                let inside = n * BLOCK_BYTES as usize..(n + 1) * BLOCK_BYTES as usize;
                let proves = |block: &[u8]| crc32c::crc32c(block) == *crc;
                if !there.as_ref().is_some_and(|there| proves(&there[inside.clone()])) {
                    self.bring(at + inside.start as u64, BLOCK_BYTES, proves);
                }
            }
        }
    }

    /// Leaves without what was purged keep their births.
    fn leaves(&mut self) {
        let is_as_before = |addr, record| self.older.leaves.get(addr) == Some(record);
        let leaves: Vec<_> =
            self.newest.leaves.iter().filter(|(addr, record)| !is_as_before(*addr, *record)).collect();
        for (addr, record) in leaves {
            let (birth, checksum) = (record.birth, record.checksum);
            let len = NODE_BYTES as u32;
            self.node(BlockPtr { addr: BlockAddr(*addr), copy: record.copy, birth, checksum, len });
        }
    }

    /// Places that have been written over since what was there was purged.
    fn zeros(&mut self) {
        let wiped = |state: &Committed| {
            let mut wiped = RangeSet::new();
            let held = state.remap.purged.held().filter(|(_, held)| held.wiped);
            held.for_each(|(addr, held)| add(&mut wiped, addr, held.len));
            wiped
        };
        let mut new = wiped(self.newest);
        wiped(self.older).iter().for_each(|(addr, len)| drop(new.take(addr, len)));
        for (addr, len) in new.iter() {
            for at in (addr..addr + len).step_by(BLOCK_BYTES as usize) {
                self.bring(at, BLOCK_BYTES, |bytes| bytes.iter().all(|byte| *byte == 0));
            }
        }
    }

    /// What has moved keeps its birth: blocks of it that the older state does not have there and that are not the same.
    fn moved(&self) -> RangeSet {
        let mut differing = RangeSet::new();
        for record in self.newest.remap.iter() {
            let mut new = RangeSet::new();
            new.insert(record.new.0, record.len);
            for (addr, len) in self.older.remap.places(record.old.0, record.len, record.birth) {
                new.take(addr, len);
            }
            for (addr, len) in new.iter() {
                for at in (addr..addr + len).step_by(PIECE_BYTES as usize) {
                    let part = PIECE_BYTES.min(addr + len - at);
                    let there = self.read(self.to, at, part);
                    if there.is_some() && self.read(self.from, at, part) == there {
                        continue;
                    }
                    for at in (at..at + part).step_by(BLOCK_BYTES as usize) {
                        let there = self.read(self.to, at, BLOCK_BYTES);
                        if there.is_none() || self.read(self.from, at, BLOCK_BYTES) != there {
                            add(&mut differing, at, BLOCK_BYTES);
                        }
                    }
                }
            }
        }
        differing
    }

    /// Brings such blocks. What proves them is found in trees of any age, which are read until all of them are known.
    fn prove_moved(&mut self, differing: RangeSet) -> Result<()> {
        if differing.is_empty() {
            return Ok(());
        }
        let open = RefCell::new(differing);
        let walked = each_younger(self.newest, Epoch(0), &mut || open.borrow().is_empty(), &mut |born| {
            let Born::Content(extent) = born else { return };
            for (_, placed) in self.newest.remap.left_of(&extent) {
                let blocks = (placed.addr()..).step_by(BLOCK_BYTES as usize);
                for (at, crc) in blocks.zip(&placed.extent().crcs) {
                    if !open.borrow_mut().take(at, BLOCK_BYTES).is_empty() {
                        self.bring(at, BLOCK_BYTES, |block| crc32c::crc32c(block) == *crc);
                    }
                }
            }
        });
        // It was ended because there was no more to be found.
        if open.borrow().is_empty() { Ok(()) } else { walked }
    }
}

/// A mirror as one side has its superblocks, to be read only.
struct AsOnSide {
    mirror: Arc<Mirror>,
    side: usize,
}

impl AsOnSide {
    fn to_be_read_only<T>() -> std::result::Result<T, DeviceError> {
        let what = "this state of the mirror is only read".into();
        Err(DeviceError::refused(std::io::ErrorKind::ReadOnlyFilesystem, what))
    }
}

impl Device for AsOnSide {
    fn size(&self) -> u64 {
        self.mirror.size()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::result::Result<(), DeviceError> {
        if offset < RESERVED_BYTES {
            return self.mirror.read_side(self.side, offset, buf);
        }
        // Its partner may have something else where this state has something.
        let own = self.mirror.read_side(self.side, offset, buf);
        if own.is_ok() { own } else { self.mirror.read_at(offset, buf) }
    }
    fn sides(&self) -> Vec<usize> {
        self.mirror.sides()
    }
    fn is_mirror(&self) -> bool {
        self.mirror.is_mirror()
    }
    fn read_side(&self, side: usize, offset: u64, buf: &mut [u8]) -> std::result::Result<(), DeviceError> {
        let side = if offset < RESERVED_BYTES { self.side } else { side };
        self.mirror.read_side(side, offset, buf)
    }
    fn write_side(&self, _: usize, _: u64, _: &[u8]) -> std::result::Result<(), DeviceError> {
        AsOnSide::to_be_read_only()
    }
    fn write_at(&self, _: u64, _: &[u8]) -> std::result::Result<(), DeviceError> {
        AsOnSide::to_be_read_only()
    }
    fn flush(&self) -> std::result::Result<(), DeviceError> {
        AsOnSide::to_be_read_only()
    }
    fn back(&self, _: u64, _: u64) -> std::result::Result<(), DeviceError> {
        AsOnSide::to_be_read_only()
    }
    fn discard(&self, _: u64, _: u64) {}
    fn available(&self) -> u64 {
        0
    }
    fn describe(&self) -> String {
        self.mirror.describe()
    }
}
