//! Gathers the metadata blocks of a commit, writes them in address order in long runs, and remembers what it allocated.

use crate::format::BlockAddr;
use crate::store::{Purpose, Result, Room, Store, StoreError};
use crate::tree::NodeWriter;

/// Blocks are written when this many bytes have gathered.
const GATHER_BYTES: usize = 4 << 20;
/// Longest single write.
const RUN_BYTES_MAX: usize = 1 << 20;

/// The writer of one commit. Used by the committing thread alone.
pub(super) struct CommitWriter<'a> {
    store: &'a Store,
    gathered: Vec<(BlockAddr, Vec<u8>)>,
    gathered_bytes: usize,
    /// Ranges that this commit allocated.
    pub allocated: Vec<(u64, u64)>,
}

impl<'a> CommitWriter<'a> {
    pub fn new(store: &'a Store) -> CommitWriter<'a> {
        CommitWriter { store, gathered: Vec::new(), gathered_bytes: 0, allocated: Vec::new() }
    }

    /// Hands everything gathered to the device.
    pub fn write_gathered(&mut self) -> Result<()> {
        self.gathered.sort_by_key(|(addr, _)| *addr);
        let mut run: (u64, Vec<u8>) = (0, Vec::new());
        for (addr, bytes) in self.gathered.drain(..) {
            if run.0 + run.1.len() as u64 != addr.0 || run.1.len() + bytes.len() > RUN_BYTES_MAX {
                if !run.1.is_empty() {
                    self.store.write_raw(run.0, &run.1)?;
                }
                run = (addr.0, bytes);
            } else {
                run.1.extend_from_slice(&bytes);
            }
        }
        if !run.1.is_empty() {
            self.store.write_raw(run.0, &run.1)?;
        }
        self.gathered_bytes = 0;
        Ok(())
    }
}

impl NodeWriter for CommitWriter<'_> {
    fn allocate(&mut self, len: usize) -> Result<BlockAddr> {
        let len = len as u64;
        let mut alloc = self.store.alloc();
        self.store.secure(&mut alloc, Room::default().and(len))?;
        let addr = alloc.alloc_exact(len, Purpose::Metadata).ok_or(StoreError::NoSpace)?;
        self.allocated.push((addr, len));
        Ok(BlockAddr(addr))
    }

    fn write(&mut self, addr: BlockAddr, bytes: Vec<u8>) -> Result<()> {
        self.gathered_bytes += bytes.len();
        self.gathered.push((addr, bytes));
        if self.gathered_bytes >= GATHER_BYTES { self.write_gathered() } else { Ok(()) }
    }

    fn fsid(&self) -> u64 {
        self.store.fsid()
    }
}
