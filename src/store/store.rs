//! The device with its allocator: raw bytes, what is known of damage, and what the calls cost.

use super::alloc::Allocator;
use super::codec::Codec;
use super::error::{Result, StoreError};
use super::health::Health;
use super::io::{IoCounts, IoSnapshot, WaitedFor};
use super::reading::{BadCopy, BadSide, Reading};
use super::rewrites::Rewrites;
use crate::bell::Bell;
use crate::device::Device;
use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Exclusive access to the allocator.
pub type Alloc<'a> = MutexGuard<'a, Allocator>;

/// The device with its allocator. Any thread may call any method; the allocator has its own lock, innermost of all, and
/// it is held over no I/O: whoever asks the host for space lets go of it meanwhile.
pub struct Store {
    pub(super) device: Arc<dyn Device>,
    fsid: u64,
    pub(super) alloc: Arc<Mutex<Allocator>>,
    io: IoCounts,
    pub(super) health: Arc<Health>,
    pub(super) rewrites: Arc<Rewrites>,
    pub(super) reading: Reading,
    /// Bad places that an auditor's store has met.
    pub(super) bad: Mutex<Vec<BadCopy>>,
    /// And those on one side of a mirror.
    pub(super) bad_sides: Mutex<Vec<BadSide>>,
    pub(super) codec: Codec,
    pub(super) ahead: Ahead,
    /// Held while the host promises space, or takes it back, until the allocator knows: what was just promised must not
    /// be gone when it is noted. Taken before the allocator.
    pub(super) space_turn: Mutex<()>,
    /// Whether this process may change the device still. Held for reading over each change.
    may_change: Arc<RwLock<bool>>,
    /// Up to here a full host was asked for what it has kept since earlier mounts.
    pub(super) looked_for_backed_to: AtomicU64,
}

/// What the changes that need space tell the thread that asks for it.
#[derive(Default)]
pub(super) struct Ahead {
    pub bell: Bell,
    /// Free bytes that were needed when the bell was last rung.
    pub needed: AtomicU64,
}

impl Store {
    /// A store on `device` whose blocks carry `fsid`.
    pub fn new(device: Arc<dyn Device>, fsid: u64, alloc: Allocator) -> Store {
        let (health, rewrites, reading) = (Arc::default(), Arc::default(), Reading::Serve);
        let (io, bad, bad_sides) = Default::default();
        let (codec, ahead, space_turn) = Default::default();
        let looked_for_backed_to = AtomicU64::default();
        let alloc = Arc::new(Mutex::new(alloc));
        let may_change = Arc::new(RwLock::new(true));
        Store {
            device,
            fsid,
            alloc,
            io,
            health,
            rewrites,
            reading,
            bad,
            bad_sides,
            codec,
            ahead,
            space_turn,
            may_change,
            looked_for_backed_to,
        }
    }

    /// Another store on the same device and space that reads as told. Both know the same of damage.
    pub fn beside(&self, reading: Reading) -> Store {
        let mut store = Store::new(self.device.clone(), self.fsid, Allocator::new(0, 0));
        (store.reading, store.health, store.alloc) = (reading, self.health.clone(), self.alloc.clone());
        store.may_change = self.may_change.clone();
        store.rewrites = self.rewrites.clone();
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

    /// What is not what pointers and checksums say.
    pub fn rewrites(&self) -> &Rewrites {
        &self.rewrites
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
        self.io.now()
    }

    /// Reads among them of threads that others waited for.
    pub fn reads_waited_for(&self) -> u64 {
        self.io.waited_for.load(Relaxed)
    }

    /// Writes and flushes, in the same way.
    pub fn writes_waited_for(&self) -> u64 {
        self.io.writes_waited_for.load(Relaxed)
    }

    /// Reads raw bytes: for superblocks, and for callers that prove nothing.
    pub fn read_raw(&self, addr: u64, buf: &mut [u8]) -> Result<()> {
        self.count_read(addr, buf)?;
        Ok(self.device.read_at(addr, buf)?)
    }

    /// The same for who proves what is read, and asks each side of a mirror if it is not right.
    pub(super) fn read_to_prove(&self, addr: u64, buf: &mut [u8]) -> Result<()> {
        self.count_read(addr, buf)?;
        Ok(self.device.read_one(addr, buf)?)
    }

    fn count_read(&self, addr: u64, buf: &[u8]) -> Result<()> {
        self.io.reads.fetch_add(1, Relaxed);
        self.io.read_bytes.fetch_add(buf.len() as u64, Relaxed);
        if WaitedFor::is_this_thread() {
            self.io.waited_for.fetch_add(1, Relaxed);
        }
        if addr.checked_add(buf.len() as u64).is_none_or(|end| end > self.device.size()) {
            return Err(StoreError::Corrupt(format!(
                "pointer to {addr:#x} leads behind the end of the store"
            )));
        }
        Ok(())
    }

    fn count_write(&self, buf: &[u8]) {
        self.io.writes.fetch_add(1, Relaxed);
        self.io.written_bytes.fetch_add(buf.len() as u64, Relaxed);
        self.count_waited_for();
    }

    fn count_waited_for(&self) {
        if WaitedFor::is_this_thread() {
            self.io.writes_waited_for.fetch_add(1, Relaxed);
        }
    }

    /// The same of one side of a mirror alone.
    pub fn read_raw_side(&self, side: usize, addr: u64, buf: &mut [u8]) -> Result<()> {
        self.io.reads.fetch_add(1, Relaxed);
        self.io.read_bytes.fetch_add(buf.len() as u64, Relaxed);
        Ok(self.device.read_side(side, addr, buf)?)
    }

    /// Changes nothing on the device from when this returns on, whoever tries to: somebody else may open it then.
    pub fn let_go(&self) {
        *self.may_change.write() = false;
    }

    /// Keeps [`Self::let_go`] waiting while the device is changed.
    ///
    /// # Errors
    /// If it is too late.
    pub fn changing(&self) -> Result<RwLockReadGuard<'_, bool>> {
        let may = self.may_change.read();
        if *may { Ok(may) } else { Err(StoreError::Device("the store has been closed".into())) }
    }

    /// Writes to one side of a mirror what another has. A side that does not take it is left out, unless the other has
    /// been meanwhile.
    pub fn write_raw_side(&self, side: usize, addr: u64, buf: &[u8]) -> Result<()> {
        let _changing = self.changing()?;
        self.count_write(buf);
        self.device.write_side(side, addr, buf).map_err(|e| {
            if !self.device.leave_out(side, &e.to_string()) {
                log::error!("the last side of the mirror does not take what another had at {addr:#x}: {e}");
                self.health.found_bad(addr);
            }
            StoreError::broken_promise(e)
        })
    }

    /// Writes raw bytes.
    pub fn write_raw(&self, addr: u64, buf: &[u8]) -> Result<()> {
        let _changing = self.changing()?;
        self.count_write(buf);
        self.device.write_at(addr, buf).map_err(StoreError::broken_promise)
    }

    /// The durability barrier.
    pub fn flush(&self) -> Result<()> {
        let _changing = self.changing()?;
        self.io.flushes.fetch_add(1, Relaxed);
        self.count_waited_for();
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
}
