//! File content on its way in: compressed where that is wanted and pays, allocated, checksummed and written, but part of
//! nothing yet.

use super::pack::{Chunk, ContentRun, Gain, pack};
use super::{Result, Volume};
use crate::format::extent::EXTENT_BYTES_MAX;
use crate::format::{BLOCK_BYTES, BlockAddr, Epoch, Extent, Frame};
use crate::store::{AllocClass, Room, Store, StoreError};
use std::sync::Arc;

/// What is left for others when space is allocated.
type Keep<'a> = &'a dyn Fn() -> Room;

/// What is stored of content somewhere else, proved by its checksums: whole blocks.
#[derive(Clone, Copy, Debug)]
pub struct StoredContent<'c> {
    /// The bytes.
    pub bytes: &'c [u8],
    /// CRC-32C of each block of them.
    pub crcs: &'c [u32],
    /// If they are compressed: how. The extent is all of the content then.
    pub frame: Option<Frame>,
}

/// Written content that no tree refers to. Dropping it gives the space back.
pub struct Staged {
    store: Arc<Store>,
    extents: Vec<Extent>,
    gains: Vec<Gain>,
}

impl Staged {
    fn new(store: &Arc<Store>) -> Staged {
        Staged { store: store.clone(), extents: Vec::new(), gains: Vec::new() }
    }

    /// Allocates and writes `data` (whole blocks). Leaves `keep` for others.
    pub(super) fn write(store: &Arc<Store>, data: &[u8], keep: Keep<'_>) -> Result<Staged> {
        assert!((data.len() as u64).is_multiple_of(BLOCK_BYTES), "staged data is whole blocks");
        let mut staged = Staged::new(store);
        staged.write_plain(data, keep)?;
        Ok(staged)
    }

    /// The same for parts that make up `data`.
    pub(super) fn write_runs(
        store: &Arc<Store>,
        data: &[u8],
        parts: &[ContentRun],
        keep: Keep<'_>,
    ) -> Result<Staged> {
        let total: u64 = parts.iter().map(|part| part.len).sum();
        assert!(total == data.len() as u64 && total.is_multiple_of(BLOCK_BYTES), "parts make up the data");
        let mut staged = Staged::new(store);
        let packed = pack(store.codec(), data, parts);
        staged.gains = packed.gains;
        if packed.bytes.is_empty() {
            staged.write_plain(data, keep)?;
        } else {
            staged.write_chunks(packed.chunks, &packed.bytes, keep)?;
        }
        Ok(staged)
    }

    fn write_plain(&mut self, data: &[u8], keep: Keep<'_>) -> Result<()> {
        let mut rest = data;
        while !rest.is_empty() {
            let (addr, len) = self.allocate(rest.len() as u64, keep)?;
            let (run, tail) = rest.split_at(len as usize);
            self.push(addr, len, &checksums(run));
            self.store.write_raw(addr, run)?;
            rest = tail;
        }
        Ok(())
    }

    /// Writes chunks one behind the other in runs as long as there are. A frame is in one piece: one that no free range
    /// takes is given up, and its content, which may be cut, is stored as it is.
    fn write_chunks(&mut self, chunks: Vec<Chunk<'_>>, packed: &[u8], keep: Keep<'_>) -> Result<()> {
        let mut rest = std::collections::VecDeque::from(chunks);
        let mut run = Vec::new();
        while !rest.is_empty() {
            let wanted = rest.iter().map(Chunk::stored_len).sum();
            let (addr, len) = self.allocate(wanted, keep)?;
            run.clear();
            while let Some(chunk) = rest.front_mut()
                && (run.len() as u64) < len
            {
                let (at, room) = (addr + run.len() as u64, (len - run.len() as u64) as usize);
                match chunk.frame {
                    Some((frame, from)) if frame.stored_len as usize <= room => {
                        let stored = &packed[from..from + frame.stored_len as usize];
                        run.extend_from_slice(stored);
                        self.push_frame(at, frame, checksums(stored));
                        rest.pop_front();
                    }
                    Some(_) => break,
                    None => {
                        let (now, later) = chunk.content.split_at(room.min(chunk.content.len()));
                        run.extend_from_slice(now);
                        self.push(at, now.len() as u64, &checksums(now));
                        chunk.content = later;
                        if later.is_empty() {
                            rest.pop_front();
                        }
                    }
                }
            }
            if (run.len() as u64) < len {
                self.store.alloc().give_back(addr + run.len() as u64, len - run.len() as u64);
            }
            match rest.front_mut() {
                Some(chunk) if run.is_empty() => chunk.frame = None,
                _ => self.store.write_raw(addr, &run)?,
            }
        }
        Ok(())
    }

    /// Allocates and writes what is stored of contents, as it is. Leaves `keep` for others. A frame is in one piece, or
    /// there is no space for it. The extents come in order; content that is no frame may be several.
    pub(super) fn write_stored(
        store: &Arc<Store>,
        parts: &[StoredContent<'_>],
        keep: Keep<'_>,
    ) -> Result<Staged> {
        let mut staged = Staged::new(store);
        let mut run: (u64, Vec<u8>) = (0, Vec::new());
        for part in parts {
            let mut done = 0;
            while done < part.bytes.len() {
                let wanted = (part.bytes.len() - done) as u64;
                let (addr, len) = staged.allocate(wanted, keep)?;
                let (first, last) =
                    (done / BLOCK_BYTES as usize, (done + len as usize) / BLOCK_BYTES as usize);
                match part.frame {
                    Some(frame) if len == wanted => staged.push_frame(addr, frame, part.crcs.to_vec()),
                    Some(_) => {
                        store.alloc().give_back(addr, len);
                        return Err(StoreError::NoSpace.into());
                    }
                    None => staged.push(addr, len, &part.crcs[first..last]),
                }
                if run.0 + run.1.len() as u64 != addr {
                    if !run.1.is_empty() {
                        store.write_raw(run.0, &run.1)?;
                    }
                    run = (addr, Vec::new());
                }
                run.1.extend_from_slice(&part.bytes[done..done + len as usize]);
                done += len as usize;
            }
        }
        if !run.1.is_empty() {
            store.write_raw(run.0, &run.1)?;
        }
        Ok(staged)
    }

    /// Allocates `len` bytes (whole blocks) that read as zeros. Leaves `keep` for others.
    pub(super) fn unwritten(store: &Arc<Store>, len: u64, keep: Keep<'_>) -> Result<Staged> {
        assert!(len.is_multiple_of(BLOCK_BYTES), "staged space is whole blocks");
        let mut staged = Staged::new(store);
        let mut rest = len;
        while rest > 0 {
            let (addr, len) = staged.allocate(rest, keep)?;
            staged.push(addr, len, &[]);
            rest -= len;
        }
        Ok(staged)
    }

    /// Writes `data` to a place that was handed out; none makes space that reads as zeros.
    pub(super) fn at_home(store: &Arc<Store>, addr: u64, len: u64, data: &[u8]) -> Result<Staged> {
        let mut staged = Staged::new(store);
        staged.push(addr, len, &checksums(data));
        if !data.is_empty() {
            store.write_raw(addr, data)?;
        }
        Ok(staged)
    }

    fn allocate(&self, len: u64, keep: Keep<'_>) -> Result<(u64, u64)> {
        let mut alloc = self.store.alloc();
        // Looked at with the allocator locked: meanwhile others may have reserved.
        let keep = keep();
        let found = match self.store.secure(&mut alloc, keep.and(len)) {
            Ok(()) => alloc.alloc(len, AllocClass::Data),
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
            let raw_addr = BlockAddr(addr + at);
            let (birth, len) = (Epoch(0), part as u32);
            self.extents.push(Extent { raw_addr, birth, len, crcs, frame: None, home: None });
        }
    }

    fn push_frame(&mut self, addr: u64, frame: Frame, crcs: Vec<u32>) {
        let (raw_addr, len) = (BlockAddr(addr), frame.content_len);
        self.extents.push(Extent { raw_addr, birth: Epoch(0), len, crcs, frame: Some(frame), home: None });
    }

    /// Bytes of content in all.
    pub fn len_bytes(&self) -> u64 {
        self.extents.iter().map(Extent::len_bytes).sum()
    }

    /// What it will be in trees, in order.
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// What became of each part, in order.
    pub fn gains(&self) -> &[Gain] {
        &self.gains
    }

    pub(super) fn into_extents(mut self) -> Vec<Extent> {
        std::mem::take(&mut self.extents)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let mut alloc = self.store.alloc();
        for extent in &self.extents {
            alloc.give_back(extent.raw_addr.0, extent.stored_bytes());
        }
    }
}

fn checksums(run: &[u8]) -> Vec<u32> {
    run.chunks(BLOCK_BYTES as usize).map(crc32c::crc32c).collect()
}

impl Volume {
    /// Allocates, checksums and writes whole blocks, without any lock over the I/O. Part of nothing until
    /// [`Txn::publish`].
    pub fn stage(&self, data: &[u8]) -> Result<Staged> {
        self.check_writable()?;
        self.note(Staged::write(self.shared.store(), data, &|| self.keep_for_stage()))
    }

    /// Allocates whole blocks that read as zeros.
    pub fn stage_unwritten(&self, len: u64) -> Result<Staged> {
        self.check_writable()?;
        self.note(Staged::unwritten(self.shared.store(), len, &|| self.keep_for_stage()))
    }

    /// Writes what is stored of contents of another store, as it is.
    pub fn stage_stored(&self, parts: &[StoredContent<'_>]) -> Result<Staged> {
        self.check_writable()?;
        self.note(Staged::write_stored(self.shared.store(), parts, &|| self.keep_for_stage()))
    }

    /// Refuses what is stored of a frame if it cannot be decompressed, to as much as it says.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn prove_frame(&self, frame: &Frame, stored: &[u8]) -> std::result::Result<(), String> {
        let mut content = vec![0; frame.content_len as usize];
        let len = stored.len().saturating_sub(frame.pad.into());
        self.shared.store().codec().unpack(&stored[..len], &mut content)
    }

    /// As [`Self::stage`], for parts that may be compressed.
    pub fn stage_runs(&self, data: &[u8], parts: &[ContentRun]) -> Result<Staged> {
        self.check_writable()?;
        self.note(Staged::write_runs(self.shared.store(), data, parts, &|| self.keep_for_stage()))
    }

    /// Stages content for which a transaction has reserved: nothing is kept for others.
    pub fn stage_reserved(&self, data: &[u8], parts: &[ContentRun]) -> Result<Staged> {
        self.check_writable()?;
        self.note(Staged::write_runs(self.shared.store(), data, parts, &Room::default))
    }
}
