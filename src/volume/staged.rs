//! File content on its way in: allocated, checksummed and written, but part of nothing yet.

use super::Result;
use crate::format::extent::EXTENT_BYTES_MAX;
use crate::format::{BLOCK_BYTES, BlockAddr, Epoch, Extent};
use crate::store::{Purpose, Room, Store, StoreError};
use std::sync::Arc;

/// Written content that no tree refers to. Dropping it gives the space back.
pub struct Staged {
    store: Arc<Store>,
    extents: Vec<Extent>,
}

impl Staged {
    /// Allocates and writes `data` (whole blocks). Leaves `keep` for others.
    pub(super) fn write(store: &Arc<Store>, data: &[u8], keep: Room) -> Result<Staged> {
        assert!((data.len() as u64).is_multiple_of(BLOCK_BYTES), "staged data is whole blocks");
        let mut staged = Staged { store: store.clone(), extents: Vec::new() };
        let mut rest = data;
        while !rest.is_empty() {
            let (addr, len) = staged.allocate(rest.len() as u64, keep)?;
            let (run, tail) = rest.split_at(len as usize);
            let crcs: Vec<u32> = run.chunks(BLOCK_BYTES as usize).map(crc32c::crc32c).collect();
            staged.push(addr, len, &crcs);
            store.write_raw(addr, run)?;
            rest = tail;
        }
        Ok(staged)
    }

    /// Allocates `len` bytes (whole blocks) that read as zeros. Leaves `keep` for others.
    pub(super) fn unwritten(store: &Arc<Store>, len: u64, keep: Room) -> Result<Staged> {
        assert!(len.is_multiple_of(BLOCK_BYTES), "staged space is whole blocks");
        let mut staged = Staged { store: store.clone(), extents: Vec::new() };
        let mut rest = len;
        while rest > 0 {
            let (addr, len) = staged.allocate(rest, keep)?;
            staged.push(addr, len, &[]);
            rest -= len;
        }
        Ok(staged)
    }

    fn allocate(&self, len: u64, keep: Room) -> Result<(u64, u64)> {
        let mut alloc = self.store.alloc();
        let found = match self.store.secure(&mut alloc, keep.and(len)) {
            Ok(()) => alloc.alloc(len, Purpose::Data),
            // What is too short for tree nodes need not be kept for them.
            Err(StoreError::NoSpace) if alloc.free_bytes() >= keep.bytes + len => alloc.alloc_rest(len),
            Err(e) => return Err(e.into()),
        };
        Ok(found.ok_or(StoreError::NoSpace)?)
    }

    /// Cuts a run into extents. `crcs` is empty for unwritten space.
    fn push(&mut self, addr: u64, len: u64, crcs: &[u32]) {
        for at in (0..len).step_by(EXTENT_BYTES_MAX as usize) {
            let part = EXTENT_BYTES_MAX.min(len - at);
            let (first, last) = ((at / BLOCK_BYTES) as usize, ((at + part) / BLOCK_BYTES) as usize);
            let crcs = if crcs.is_empty() { Vec::new() } else { crcs[first..last].to_vec() };
            self.extents.push(Extent { addr: BlockAddr(addr + at), birth: Epoch(0), len: part as u32, crcs });
        }
    }

    /// Bytes in all.
    pub fn len_bytes(&self) -> u64 {
        self.extents.iter().map(Extent::len_bytes).sum()
    }

    pub(super) fn into_extents(mut self) -> Vec<Extent> {
        std::mem::take(&mut self.extents)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let mut alloc = self.store.alloc();
        for extent in &self.extents {
            alloc.give_back(extent.addr.0, extent.len_bytes());
        }
    }
}
