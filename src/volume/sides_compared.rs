//! Both sides of a mirror compared, block by block, while the store is in use.
//!
//! What is allocated in a committed state, but for what was reserved and never written; the superblock rings; and of the log
//! what is in force. What of rings and log differs is looked at once more when nothing writes to it or it is in force no more.

use super::mirroring::{PIECE_BYTES, RINGS, unwritten};
use super::{Result, Volume, VolumeError};
use crate::device::{Device, Mirror, RESERVED_BYTES};
use crate::format::BLOCK_BYTES;

/// What a comparison of the sides has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SidesCompared {
    /// Bytes of each side that were compared.
    pub bytes: u64,
    /// Addresses of blocks that differ, or cannot be read on a side.
    pub differing: Vec<u64>,
    /// The same of superblocks and the log.
    pub tables: Vec<u64>,
}

/// Compares both sides of a mirror.
///
/// # Errors
/// If the state cannot be read, or a side is lost meanwhile.
pub fn compare_sides(volume: &Volume, mirror: &Mirror) -> Result<SidesCompared> {
    let state = volume.committed()?;
    let mut found = SidesCompared::default();
    let mut pair = Pair { mirror, buffers: [vec![0; PIECE_BYTES as usize], vec![0; PIECE_BYTES as usize]] };
    for (addr, len) in state.allocated.iter() {
        found.differing.extend(pair.differing(addr, len)?);
        found.bytes += len;
    }
    if !found.differing.is_empty() {
        let unwritten = unwritten(&state)?;
        found.differing.retain(|at| !unwritten.contains(*at, BLOCK_BYTES));
    }
    for (addr, len) in RINGS {
        // No superblock is written meanwhile.
        let _committer = volume.committer.lock();
        found.tables.extend(pair.differing(addr, len)?);
        found.bytes += len;
    }
    let log = volume.log_in_force();
    let end = RESERVED_BYTES + state.superblock.log_bytes;
    for at in (RESERVED_BYTES..end).step_by(BLOCK_BYTES as usize).filter(|at| log.holds(*at)) {
        found.bytes += BLOCK_BYTES;
        if pair.differing(at, BLOCK_BYTES)?.is_empty() {
            continue;
        }
        // The last block is written again when more comes, and what a commit frees is written over.
        let is_written_no_more = volume.log.sync(volume.shared.store()).is_ok();
        if is_written_no_more && volume.log_in_force().holds(at) {
            let differing = pair.differing(at, BLOCK_BYTES)?;
            found.tables.extend(differing.into_iter().filter(|at| volume.log_in_force().holds(*at)));
        }
    }
    Ok(found)
}

/// Both sides, and what was read of them.
struct Pair<'a> {
    mirror: &'a Mirror,
    buffers: [Vec<u8>; 2],
}

impl Pair<'_> {
    /// Blocks of a range that are not the same.
    fn differing(&mut self, addr: u64, len: u64) -> Result<Vec<u64>> {
        let (mut found, block) = (Vec::new(), BLOCK_BYTES as usize);
        for at in (addr..addr + len).step_by(PIECE_BYTES as usize) {
            let part = PIECE_BYTES.min(addr + len - at) as usize;
            if self.read(at, part)? {
                let [a, b] = [&self.buffers[0][..part], &self.buffers[1][..part]];
                let blocks = a.chunks(block).zip(b.chunks(block)).enumerate();
                found.extend(blocks.filter(|(_, (a, b))| a != b).map(|(n, _)| at + (n * block) as u64));
                continue;
            }
            for at in (at..at + part as u64).step_by(block) {
                if !self.read(at, block)? || self.buffers[0][..block] != self.buffers[1][..block] {
                    found.push(at);
                }
            }
        }
        Ok(found)
    }

    /// Reads a range of both. False if one cannot be read there.
    fn read(&mut self, at: u64, len: usize) -> Result<bool> {
        let mut is_read = true;
        for (side, buffer) in self.mirror.sides().into_iter().zip(&mut self.buffers) {
            is_read &= self.mirror.read_side(side, at, &mut buffer[..len]).is_ok();
        }
        // Also behind the reads: one of them may be what it was lost by.
        if self.mirror.sides().len() < 2 {
            return Err(VolumeError::Device("a side of the mirror was lost meanwhile".into()));
        }
        Ok(is_read)
    }
}
