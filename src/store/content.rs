//! Reading content: every block is proved against the checksums of its extent, and what is compressed is decompressed.

use super::{Result, Store, StoreError};
use crate::format::{BLOCK_BYTES, BlockAddr, Frame, PlacedExtent};

/// Readers of one stream are nearer to each other than this: twice the read-ahead that the kernel is asked for.
const RELEASE_DISTANCE_BYTES: u64 = 4 << 20;
/// How much is let go at once: more than one read, because the host keeps a piece of which only a part was let go.
const RELEASE_BYTES: u64 = 4 << 20;
/// The largest piece in which Linux caches a file is one huge page, at a multiple of its length.
const RELEASE_GRAIN_BYTES: u64 = 2 << 20;

impl Store {
    /// Reads `out.len()` bytes of content from offset `from` of an extent (both multiples of 4096) and proves each block
    /// that is read.
    pub fn read_extent(&self, placed: &PlacedExtent<'_>, from: u64, out: &mut [u8]) -> Result<()> {
        match placed.extent().frame {
            None => self.read_stored(placed, from, out),
            Some(frame) => self.read_frame(placed, &frame, (u64::from(frame.from) + from) as usize, out),
        }
    }

    /// Reads all of an extent that is not compressed, and proves it. An error comes with the address of the first bad block,
    /// and is noted nowhere: the content may have moved meanwhile.
    pub fn prove_extent(
        &self,
        placed: &PlacedExtent<'_>,
        out: &mut [u8],
    ) -> std::result::Result<(), (u64, StoreError)> {
        self.read_proved(placed, 0, out)
    }

    /// Notes that what is at an address is bad.
    pub fn note_bad(&self, addr: u64, error: StoreError) -> StoreError {
        self.health.found_bad(addr);
        error
    }

    /// Reads `out.len()` bytes of what is stored of an extent, from offset `from` on (both multiples of 4096), and proves
    /// each block: the content itself, if it is not compressed.
    pub fn read_stored(&self, placed: &PlacedExtent<'_>, from: u64, out: &mut [u8]) -> Result<()> {
        self.read_proved(placed, from, out).map_err(|(addr, e)| self.note_bad(addr, e))
    }

    /// Reads content from offset `start` of a frame.
    fn read_frame(
        &self,
        placed: &PlacedExtent<'_>,
        frame: &Frame,
        start: usize,
        out: &mut [u8],
    ) -> Result<()> {
        if self.codec.recall(placed, start, out) {
            return Ok(());
        }
        let content_len = frame.content_len as usize;
        let damaged = |e: String| {
            let at = BlockAddr(placed.addr());
            self.note_bad(
                at.0,
                StoreError::Corrupt(format!("compressed content at {at} cannot be decompressed: {e}")),
            )
        };
        let mut unpacker = self.codec.unpacker().map_err(damaged)?;
        unpacker.stored.resize(frame.stored_len as usize, 0);
        self.read_stored(placed, 0, &mut unpacker.stored)?;
        let len = frame.stored_len as usize - usize::from(frame.pad);
        if out.len() == content_len {
            unpacker.unpack_stored(len, out).map_err(damaged)?;
        } else {
            let mut content = self.codec.buffer();
            content.resize(content_len, 0);
            unpacker.unpack_stored(len, &mut content).map_err(damaged)?;
            out.copy_from_slice(&content[start..start + out.len()]);
            self.codec.remember(placed, content);
        }
        self.codec.put_back(unpacker);
        Ok(())
    }

    /// True if the device has what is stored of an extent. That it has not may be no damage: it was never made durable.
    pub fn has_content(&self, placed: &PlacedExtent<'_>) -> bool {
        let mut stored = vec![0; placed.extent().stored_bytes() as usize];
        self.read_proved(placed, 0, &mut stored).is_ok()
    }

    /// An error comes with the address of the first bad block.
    fn read_proved(
        &self,
        placed: &PlacedExtent<'_>,
        from: u64,
        out: &mut [u8],
    ) -> std::result::Result<(), (u64, StoreError)> {
        let extent = placed.extent();
        if extent.is_unwritten() {
            out.fill(0);
            return Ok(());
        }
        let addr = placed.addr() + from;
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
    pub fn will_need(&self, placed: &PlacedExtent<'_>, from: u64, len: u64) {
        if !placed.extent().is_compressed() && !placed.extent().is_unwritten() {
            self.device.will_need(placed.addr() + from, len);
        }
    }
}
