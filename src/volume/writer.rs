//! Gathers the metadata blocks of a commit, writes them in address order in long runs, and remembers what it allocated.

use crate::format::{BlockAddr, Copies, CopyAddrs};
use crate::store::{Alloc, AllocClass, Result, Room, Store, StoreError};
use crate::tree::NodeWriter;
use std::rc::Rc;

/// Blocks are written when this many bytes have gathered, second copies not counted.
const GATHER_BYTES: usize = 4 << 20;
/// Longest single write.
const RUN_BYTES_MAX: usize = 1 << 20;
/// How often the host is asked for space far from a block before its copy goes anywhere.
const BACK_FAR_TRIES: u32 = 2;

/// The writer of one commit. Used by the committing thread alone.
pub(super) struct CommitWriter<'a> {
    store: &'a Store,
    /// How often each block is written.
    pub copies: Copies,
    gathered: Vec<(BlockAddr, Rc<[u8]>)>,
    gathered_bytes: usize,
    /// The host has no more space far from where the blocks are.
    crowded: bool,
    /// Ranges that this commit allocated.
    pub allocated: Vec<(u64, u64)>,
}

impl<'a> CommitWriter<'a> {
    pub fn new(store: &'a Store, copies: Copies) -> CommitWriter<'a> {
        let (gathered, allocated) = (Vec::new(), Vec::new());
        CommitWriter { store, copies, gathered, gathered_bytes: 0, crowded: false, allocated }
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
                run = (addr.0, bytes.to_vec());
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

    /// A place for the copy of the block at `first`: far from it where there is room.
    fn allocate_copy(&mut self, alloc: &mut Alloc, len: u64, first: u64) -> Result<u64> {
        for _ in 0..=BACK_FAR_TRIES {
            if let Some(addr) = alloc.alloc_far(len, first) {
                return Ok(addr);
            }
            self.crowded = self.crowded || !self.store.back_far(alloc, first)?;
            if self.crowded {
                break;
            }
        }
        alloc.alloc_exact(len, AllocClass::Copy).ok_or(StoreError::NoSpace)
    }
}

impl NodeWriter for CommitWriter<'_> {
    fn allocate(&mut self, len: usize) -> Result<CopyAddrs> {
        let len = len as u64;
        let mut alloc = self.store.alloc();
        self.store.secure(&mut alloc, Room::default().and(len * self.copies as u64))?;
        let addr = alloc.alloc_exact(len, AllocClass::Metadata).ok_or(StoreError::NoSpace)?;
        self.allocated.push((addr, len));
        let mut places = CopyAddrs::single(BlockAddr(addr));
        if self.copies == Copies::Two {
            places.copy = BlockAddr(self.allocate_copy(&mut alloc, len, addr)?);
            self.allocated.push((places.copy.0, len));
        }
        Ok(places)
    }

    fn write(&mut self, places: CopyAddrs, bytes: Vec<u8>) -> Result<()> {
        let bytes: Rc<[u8]> = bytes.into();
        self.gathered_bytes += bytes.len();
        if places.copy.0 != 0 {
            self.gathered.push((places.copy, bytes.clone()));
        }
        self.gathered.push((places.addr, bytes));
        if self.gathered_bytes >= GATHER_BYTES { self.write_gathered() } else { Ok(()) }
    }

    fn fsid(&self) -> u64 {
        self.store.fsid()
    }
}
