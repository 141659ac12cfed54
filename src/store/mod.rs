//! Verified blocks by pointer: checksums, the allocator and the device behind them.
//!
//! Nothing leaves [`Store`] unverified: metadata blocks are checked against their pointer, data against its CRCs. The
//! store knows no keys, no inodes and no epochs beyond those in pointers.

mod alloc;
mod cache;
mod error;
mod range_set;

pub use alloc::{Allocator, Purpose};
pub use cache::Cache;
pub use error::StoreError;
pub use range_set::RangeSet;

use crate::device::{Device, DeviceError};
use crate::format::header::{self, BlockKind, Header};
use crate::format::{BLOCK_BYTES, BlockAddr, BlockPtr, Extent};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Result of the store.
pub type Result<T> = std::result::Result<T, StoreError>;

/// Space is secured on the host in aligned pieces of this many bytes.
const BACK_CHUNK_BYTES: u64 = 16 << 20;
/// Down to which the last space of a host is asked for.
const BACK_CHUNK_BYTES_MIN: u64 = 256 << 10;
/// Space is given back to the host in aligned pieces of this many bytes.
const DISCARD_GRAIN_BYTES: u64 = 1 << 20;

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

/// The device with its allocator. Any thread may call any method; the allocator has its own lock, innermost of all, and
/// it is held over no I/O but the host's promise of more space.
pub struct Store {
    device: Arc<dyn Device>,
    fsid: u64,
    alloc: Mutex<Allocator>,
    io: IoCounts,
}

impl Store {
    /// A store on `device` whose blocks carry `fsid`.
    pub fn new(device: Arc<dyn Device>, fsid: u64, alloc: Allocator) -> Store {
        Store { device, fsid, alloc: Mutex::new(alloc), io: IoCounts::default() }
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
    pub fn alloc(&self) -> parking_lot::MutexGuard<'_, Allocator> {
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
        Ok(self.device.write_at(addr, buf)?)
    }

    /// The durability barrier.
    pub fn flush(&self) -> Result<()> {
        self.io.flushes.fetch_add(1, Relaxed);
        Ok(self.device.flush()?)
    }

    /// The barrier for what an earlier session left.
    pub fn flush_inherited(&self) -> Result<()> {
        self.io.flushes.fetch_add(1, Relaxed);
        Ok(self.device.flush_inherited()?)
    }

    /// Reads the metadata block that `ptr` points to and proves that it is the one.
    pub fn read_block(&self, ptr: &BlockPtr, kinds: &[BlockKind]) -> Result<(Box<[u8]>, Header)> {
        let mut buf = vec![0; ptr.len as usize].into_boxed_slice();
        self.read_raw(ptr.addr.0, &mut buf)?;
        let header = header::verify(&buf, ptr, kinds, self.fsid)?;
        Ok((buf, header))
    }

    /// Reads `out.len()` bytes from offset `from` of an extent (both multiples of 4096) and proves each block.
    pub fn read_extent(&self, extent: &Extent, from: u64, out: &mut [u8]) -> Result<()> {
        if extent.is_unwritten() {
            out.fill(0);
            return Ok(());
        }
        let addr = extent.addr.0 + from;
        self.read_raw(addr, out)?;
        let first = (from / BLOCK_BYTES) as usize;
        for (i, block) in out.chunks(BLOCK_BYTES as usize).enumerate() {
            let (found, want) = (crc32c::crc32c(block), extent.crcs.get(first + i).copied());
            if want != Some(found) {
                return Err(StoreError::Corrupt(format!(
                    "data block at {} has checksum {found:#x}, expected {:#x}",
                    BlockAddr(addr + i as u64 * BLOCK_BYTES),
                    want.unwrap_or_default()
                )));
            }
        }
        Ok(())
    }

    /// Makes sure that at least this much is free and backed, asking the host for more where needed.
    pub fn secure(&self, alloc: &mut Allocator, room: Room) -> Result<()> {
        let mut chunk = BACK_CHUNK_BYTES;
        while alloc.free_bytes() < room.bytes || alloc.node_bytes() < room.node_bytes {
            let Some((addr, len)) = alloc.next_to_back(chunk) else {
                return Err(StoreError::NoSpace);
            };
            match self.device.back(addr, len) {
                Ok(()) => alloc.backed(addr, len),
                // The host may still have room for less.
                Err(DeviceError::NoSpace) if chunk > BACK_CHUNK_BYTES_MIN => chunk /= 4,
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// Gives free space back to the host while more than `keep` bytes stay at hand.
    pub fn trim(&self, keep: u64) {
        let picked = self.alloc.lock().pick_to_discard(DISCARD_GRAIN_BYTES, keep);
        for (addr, len) in picked {
            self.device.discard(addr, len);
            self.alloc.lock().discarded(addr, len);
        }
    }
}
