//! After a crash the sides of a mirror may differ in what was not flushed. What recovery takes as the state must be on
//! both before a superblock depends on it.
//!
//! Rings and the records that were found: when a store is opened. Ranges that replayed records published: when they were
//! replayed, proved where an extent tells how, else from the first side. Where nothing differs nothing is written.

use super::intent::FoundLog;
use super::{Result, VolumeError, ring};
use crate::device::{Device, DeviceError, RESERVED_BYTES};
use crate::format::BLOCK_BYTES;
use crate::format::log::FLUSH_BYTES;
use crate::store::RangeSet;
use std::collections::HashMap;

fn failed(e: DeviceError) -> VolumeError {
    VolumeError::Device(e.to_string())
}

/// Makes rings and found records of the log the same on all sides, durably.
pub(super) fn equalise_tables(device: &dyn Device, found: &FoundLog, log_bytes: u64) -> Result<()> {
    if !device.is_mirror() {
        return Ok(());
    }
    let mut written = ring::equalise(device)?;
    for record in &found.records {
        // A record may go on at the start of the ring.
        let at = record.header.lsn % log_bytes;
        let (head, tail) = record.bytes().split_at(((log_bytes - at) as usize).min(record.bytes().len()));
        for (place, bytes) in [(at, head), (0, tail)] {
            written |= equalise_bytes(device, place, bytes)?;
        }
    }
    if written { device.flush().map_err(failed) } else { Ok(()) }
}

/// Has all sides hold these bytes of the log.
fn equalise_bytes(device: &dyn Device, place: u64, bytes: &[u8]) -> Result<bool> {
    if bytes.is_empty() {
        return Ok(false);
    }
    let start = place / FLUSH_BYTES * FLUSH_BYTES;
    let end = (place + bytes.len() as u64).next_multiple_of(FLUSH_BYTES);
    let inside = (place - start) as usize..(place - start) as usize + bytes.len();
    let mut written = false;
    for side in device.sides() {
        let mut blocks = vec![0; (end - start) as usize];
        let read = device.read_side(side, RESERVED_BYTES + start, &mut blocks);
        if read.is_err() || blocks[inside.clone()] != *bytes {
            blocks[inside.clone()].copy_from_slice(bytes);
            device.write_side(side, RESERVED_BYTES + start, &blocks).map_err(failed)?;
            written = true;
        }
    }
    Ok(written)
}

/// Makes published ranges the same on all sides, durably. `crcs` are those of the blocks of which they are known.
pub(super) fn equalise_content(
    device: &dyn Device,
    published: &RangeSet,
    crcs: &HashMap<u64, u32>,
) -> Result<()> {
    if !device.is_mirror() {
        return Ok(());
    }
    let mut written = false;
    for (addr, len) in published.iter() {
        for at in (addr..addr + len).step_by(BLOCK_BYTES as usize) {
            written |= equalise_block(device, at, crcs.get(&at).copied())?;
        }
    }
    if written { device.flush().map_err(failed) } else { Ok(()) }
}

fn equalise_block(device: &dyn Device, at: u64, crc: Option<u32>) -> Result<bool> {
    let read = |side| {
        let mut block = vec![0; BLOCK_BYTES as usize];
        device.read_side(side, at, &mut block).ok().map(|()| block)
    };
    let found: Vec<_> = device.sides().into_iter().map(|side| (side, read(side))).collect();
    let proves = |block: &&Vec<u8>| crc.is_none_or(|crc| crc32c::crc32c(block) == crc);
    let readable = || found.iter().filter_map(|(_, block)| block.as_ref());
    let Some(good) = readable().find(proves).or_else(|| readable().next()) else { return Ok(false) };
    let mut written = false;
    for (side, block) in &found {
        if block.as_ref() != Some(good) {
            device.write_side(*side, at, good).map_err(failed)?;
            written = true;
        }
    }
    Ok(written)
}
