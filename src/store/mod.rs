//! Verified blocks by pointer: checksums, the allocator and the device behind them.
//!
//! Nothing leaves [`Store`] unverified: metadata blocks are checked against their pointer, data against its CRCs. The
//! store knows no keys, no inodes and no epochs beyond those in pointers.

mod ahead;
mod alloc;
mod batches;
mod block;
mod cache;
mod codec;
mod error;
mod health;
mod range_set;

pub use alloc::{Allocator, Purpose};
pub use batches::{BATCH, end_batch};
pub use block::{BadPlace, Reading};
pub use cache::Cache;
pub use codec::Codec;
pub use error::StoreError;
pub use health::{Damage, Health};
pub use range_set::RangeSet;

use crate::device::{Device, DeviceError};
use crate::format::{BLOCK_BYTES, BlockAddr, Extent, Frame};
use ahead::Ahead;
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Result of the store.
pub type Result<T> = std::result::Result<T, StoreError>;

/// Space is secured on the host in aligned pieces of this many bytes.
const BACK_CHUNK_BYTES: u64 = 4 << 20;
/// Down to which the last space of a host is asked for.
const BACK_CHUNK_BYTES_MIN: u64 = 256 << 10;
/// What is kept at hand beyond need is not more than this share of what the host has left.
pub const KEEP_SHARE: u64 = 16;
/// Space is given back to the host in aligned pieces of this many bytes.
const DISCARD_GRAIN_BYTES: u64 = 1 << 20;
/// In one call it is given no more than this back.
const DISCARD_BYTES_MAX: u64 = 16 << 20;

/// Device calls since the store was opened.
#[derive(Default)]
pub struct IoCounts {
    reads: AtomicU64,
    read_bytes: AtomicU64,
    writes: AtomicU64,
    written_bytes: AtomicU64,
    flushes: AtomicU64,
}

/// [`IoCounts`] at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct IoSnapshot {
    /// Read calls.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Write calls.
    pub writes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Flush calls.
    pub flushes: u64,
}

impl std::ops::Sub for IoSnapshot {
    type Output = IoSnapshot;
    fn sub(self, o: IoSnapshot) -> IoSnapshot {
        IoSnapshot {
            reads: self.reads - o.reads,
            read_bytes: self.read_bytes - o.read_bytes,
            writes: self.writes - o.writes,
            written_bytes: self.written_bytes - o.written_bytes,
            flushes: self.flushes - o.flushes,
        }
    }
}

/// Readers of one stream are nearer to each other than this: twice the read-ahead that the kernel is asked for.
const RELEASE_DISTANCE_BYTES: u64 = 4 << 20;
/// How much is let go at once: more than one read, because the host keeps a piece of which only a part was let go.
const RELEASE_BYTES: u64 = 4 << 20;
/// The largest piece in which Linux caches a file is one huge page, at a multiple of its length.
const RELEASE_GRAIN_BYTES: u64 = 2 << 20;

/// Free space in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Room {
    /// In pieces of any length.
    pub bytes: u64,
    /// Of these, in pieces in which tree nodes fit.
    pub node_bytes: u64,
}

impl Room {
    /// So much more of both.
    pub fn and(self, bytes: u64) -> Room {
        Room { bytes: self.bytes + bytes, node_bytes: self.node_bytes + bytes }
    }
}

/// Exclusive access to the allocator.
pub type Alloc<'a> = MutexGuard<'a, Allocator>;

/// The device with its allocator. Any thread may call any method; the allocator has its own lock, innermost of all, and
/// it is held over no I/O: whoever asks the host for space lets go of it meanwhile.
pub struct Store {
    device: Arc<dyn Device>,
    fsid: u64,
    alloc: Arc<Mutex<Allocator>>,
    io: IoCounts,
    health: Arc<Health>,
    reading: Reading,
    /// Bad places that an auditor's store has met.
    bad: Mutex<Vec<BadPlace>>,
    codec: Codec,
    ahead: Ahead,
    /// Held while the host promises space, or takes it back, until the allocator knows: what was just promised must not
    /// be gone when it is noted. Taken before the allocator.
    space_turn: Mutex<()>,
}

impl Store {
    /// A store on `device` whose blocks carry `fsid`.
    pub fn new(device: Arc<dyn Device>, fsid: u64, alloc: Allocator) -> Store {
        let (health, reading) = (Arc::default(), Reading::Serve);
        let (io, bad) = (IoCounts::default(), Mutex::default());
        let (codec, ahead, space_turn) = Default::default();
        let alloc = Arc::new(Mutex::new(alloc));
        Store { device, fsid, alloc, io, health, reading, bad, codec, ahead, space_turn }
    }

    /// Another store on the same device and space that reads as told. Both know the same of damage.
    pub fn beside(&self, reading: Reading) -> Store {
        let mut store = Store::new(self.device.clone(), self.fsid, Allocator::new(0, 0));
        (store.reading, store.health, store.alloc) = (reading, self.health.clone(), self.alloc.clone());
        store
    }

    /// The same store once its space is known.
    pub fn with_alloc(self, alloc: Allocator) -> Store {
        *self.alloc.lock() = alloc;
        self
    }

    /// What is known of damage.
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// Identity in every block header.
    pub fn fsid(&self) -> u64 {
        self.fsid
    }

    /// The device, for superblocks and for its description.
    pub fn device(&self) -> &Arc<dyn Device> {
        &self.device
    }

    /// Exclusive access to the allocator.
    pub fn alloc(&self) -> Alloc<'_> {
        self.alloc.lock()
    }

    /// Device calls so far.
    pub fn io(&self) -> IoSnapshot {
        IoSnapshot {
            reads: self.io.reads.load(Relaxed),
            read_bytes: self.io.read_bytes.load(Relaxed),
            writes: self.io.writes.load(Relaxed),
            written_bytes: self.io.written_bytes.load(Relaxed),
            flushes: self.io.flushes.load(Relaxed),
        }
    }

    /// Reads raw bytes: for verified callers inside the store and for superblocks.
    pub fn read_raw(&self, addr: u64, buf: &mut [u8]) -> Result<()> {
        self.io.reads.fetch_add(1, Relaxed);
        self.io.read_bytes.fetch_add(buf.len() as u64, Relaxed);
        if addr.checked_add(buf.len() as u64).is_none_or(|end| end > self.device.size()) {
            return Err(StoreError::Corrupt(format!(
                "pointer to {addr:#x} leads behind the end of the store"
            )));
        }
        Ok(self.device.read_at(addr, buf)?)
    }

    /// Writes raw bytes.
    pub fn write_raw(&self, addr: u64, buf: &[u8]) -> Result<()> {
        self.io.writes.fetch_add(1, Relaxed);
        self.io.written_bytes.fetch_add(buf.len() as u64, Relaxed);
        self.device.write_at(addr, buf).map_err(StoreError::broken_promise)
    }

    /// The durability barrier.
    pub fn flush(&self) -> Result<()> {
        self.io.flushes.fetch_add(1, Relaxed);
        self.device.flush().map_err(StoreError::broken_promise)
    }

    /// The barrier for what an earlier session left.
    pub fn flush_inherited(&self) -> Result<()> {
        self.io.flushes.fetch_add(1, Relaxed);
        Ok(self.device.flush_inherited()?)
    }

    /// Compresses content, and decompresses it.
    pub fn codec(&self) -> &Codec {
        &self.codec
    }

    /// Reads `out.len()` bytes of content from offset `from` of an extent (both multiples of 4096) and proves each block
    /// that is read.
    pub fn read_extent(&self, extent: &Extent, from: u64, out: &mut [u8]) -> Result<()> {
        match extent.frame {
            None => self.read_stored(extent, from, out),
            Some(frame) => self.read_frame(extent, &frame, (u64::from(frame.from) + from) as usize, out),
        }
    }

    /// Reads `out.len()` bytes of what is stored of an extent, from offset `from` on (both multiples of 4096), and proves
    /// each block: the content itself, if it is not compressed.
    pub fn read_stored(&self, extent: &Extent, from: u64, out: &mut [u8]) -> Result<()> {
        self.read_proved(extent, from, out).map_err(|(addr, e)| {
            self.health.found_bad(addr);
            e
        })
    }

    /// Reads content from offset `start` of a frame.
    fn read_frame(&self, extent: &Extent, frame: &Frame, start: usize, out: &mut [u8]) -> Result<()> {
        if self.codec.recall(extent, start, out) {
            return Ok(());
        }
        let content_len = frame.content_len as usize;
        let damaged = |e: String| {
            self.health.found_bad(extent.addr.0);
            StoreError::Corrupt(format!("compressed content at {} cannot be decompressed: {e}", extent.addr))
        };
        let mut unpacker = self.codec.unpacker().map_err(damaged)?;
        unpacker.stored.resize(frame.stored_len as usize, 0);
        self.read_stored(extent, 0, &mut unpacker.stored)?;
        let len = frame.stored_len as usize - usize::from(frame.pad);
        if out.len() == content_len {
            unpacker.unpack_stored(len, out).map_err(damaged)?;
        } else {
            let mut content = self.codec.buffer();
            content.resize(content_len, 0);
            unpacker.unpack_stored(len, &mut content).map_err(damaged)?;
            out.copy_from_slice(&content[start..start + out.len()]);
            self.codec.remember(extent, content);
        }
        self.codec.put_back(unpacker);
        Ok(())
    }

    /// True if the device has what is stored of an extent. That it has not may be no damage: it was never made durable.
    pub fn has_content(&self, extent: &Extent) -> bool {
        let mut stored = vec![0; extent.stored_bytes() as usize];
        self.read_proved(extent, 0, &mut stored).is_ok()
    }

    /// An error comes with the address of the first bad block.
    fn read_proved(
        &self,
        extent: &Extent,
        from: u64,
        out: &mut [u8],
    ) -> std::result::Result<(), (u64, StoreError)> {
        if extent.is_unwritten() {
            out.fill(0);
            return Ok(());
        }
        let addr = extent.addr.0 + from;
        self.read_raw(addr, out).map_err(|e| (addr, e))?;
        let first = (from / BLOCK_BYTES) as usize;
        for (i, block) in out.chunks(BLOCK_BYTES as usize).enumerate() {
            let (found, want) = (crc32c::crc32c(block), extent.crcs.get(first + i).copied());
            if want != Some(found) {
                let at = BlockAddr(addr + i as u64 * BLOCK_BYTES);
                let want = want.unwrap_or_default();
                let e = StoreError::Corrupt(format!(
                    "data block at {at} has checksum {found:#x}, expected {want:#x}"
                ));
                return Err((at.0, e));
            }
        }
        Ok(())
    }

    /// A stream of reads has come to `addr`: lets the host drop what is well before that. A hint; others who read there
    /// get it from the device again.
    pub fn release_before(&self, addr: u64) {
        let end = addr.saturating_sub(RELEASE_DISTANCE_BYTES) / RELEASE_GRAIN_BYTES * RELEASE_GRAIN_BYTES;
        let start = end.saturating_sub(RELEASE_BYTES);
        if start < end {
            self.device.release(start, end - start);
        }
    }

    /// `len` bytes of content from offset `from` of an extent will be read soon: lets the host begin to. A compressed one
    /// is read whole anyway.
    pub fn will_need(&self, extent: &Extent, from: u64, len: u64) {
        if extent.frame.is_none() && !extent.is_unwritten() {
            self.device.will_need(extent.addr.0 + from, len);
        }
    }

    /// Makes sure that at least this much is free and backed, asking the host for more where needed.
    pub fn secure(&self, alloc: &mut Alloc, room: Room) -> Result<()> {
        let mut chunk = BACK_CHUNK_BYTES;
        while alloc.free_bytes() < room.bytes || alloc.node_bytes() < room.node_bytes {
            let Some((addr, len)) = alloc.next_to_back(chunk) else {
                return Err(StoreError::NoSpace);
            };
            match self.back(alloc, addr, len) {
                // The host may still have room for less.
                Err(DeviceError::NoSpace) if chunk > BACK_CHUNK_BYTES_MIN => chunk /= 4,
                done => done?,
            }
        }
        self.look_ahead(alloc.free_bytes(), room.bytes);
        Ok(())
    }

    /// Gives free space back to the host while more than `keep` bytes stay at hand.
    pub fn trim(&self, keep: u64) {
        let picked = self.alloc.lock().pick_to_discard(DISCARD_GRAIN_BYTES, keep);
        for (addr, len) in picked {
            // From behind, so that a file of the host that ends there becomes shorter with each piece.
            let mut end = addr + len;
            while end > addr {
                let at = end.saturating_sub(DISCARD_BYTES_MAX).max(addr);
                let _turn = self.space_turn.lock();
                self.device.discard(at, end - at);
                self.alloc.lock().discarded(at, end - at);
                end = at;
            }
        }
    }
}
