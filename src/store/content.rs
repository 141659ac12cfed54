//! Reading content: every block is proved against the checksums of its extent, and what is compressed is decompressed.

use super::{Result, Store, StoreError};
use crate::format::{BLOCK_BYTES, BlockAddr, Extent, Frame};

/// Readers of one stream are nearer to each other than this: twice the read-ahead that the kernel is asked for.
const RELEASE_DISTANCE_BYTES: u64 = 4 << 20;
/// How much is let go at once: more than one read, because the host keeps a piece of which only a part was let go.
const RELEASE_BYTES: u64 = 4 << 20;
/// The largest piece in which Linux caches a file is one huge page, at a multiple of its length.
const RELEASE_GRAIN_BYTES: u64 = 2 << 20;

impl Store {
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
}
