//! A side of a mirror that is one state older than the other, made the same before the store is opened.

use super::levelling::Levelling;
use super::mirroring::{PIECE_BYTES, newer};
use super::{Access, OpenOptions, Result, Volume, ring};
use crate::device::{Device, Mirror};
use crate::format::BLOCK_BYTES;
use crate::store::RangeSet;
use std::sync::Arc;

/// Where a side of a mirror has an older state than the other it gets what came since, unless that cannot be told: then it is
/// left out. Before a store is opened for writing.
///
/// # Errors
/// If no side is left that has all that it needs.
pub fn level_states(mirror: &Arc<Mirror>) -> Result<()> {
    let device: Arc<dyn Device> = mirror.clone();
    if !device.is_mirror() {
        return Ok(());
    }
    let mut states = ring::newest_by_side(&*device);
    states.sort_by_key(|(_, state)| state.seq);
    let [(to, older), (from, newest)] = &states[..] else { return Ok(()) };
    if older.seq == newest.seq {
        return Ok(());
    }
    let options = OpenOptions { access: Access::ReadOnly, cache_bytes: 1 << 20 };
    let state = Volume::open(device.clone(), options).and_then(|volume| volume.committed());
    match state.and_then(|state| newer(&state, older.epoch, &mut || false)) {
        Ok(newer) => bring_newer(&*device, (*from, *to), &newer.all),
        Err(e) => {
            let why = format!("it has an older state, and what came since cannot be read: {e}");
            // The last one is not left out: it is what there is.
            let _is_left_out = device.leave_out(*to, &why);
            Ok(())
        }
    }
}

/// A side that is one state older than another gets what came with that, durably, before it gets the superblock: a crash
/// between the two writes of that leaves such a side, which has all of it, and so does a copy from that time in its place, which has
/// nothing. `newer` is what came.
fn bring_newer(device: &dyn Device, (from, to): (usize, usize), newer: &RangeSet) -> Result<()> {
    let mut levelling = Levelling::new(device);
    let read = |side, at, len: u64| {
        let mut bytes = vec![0; len as usize];
        device.read_side(side, at, &mut bytes).ok().map(|()| bytes)
    };
    for (addr, len) in newer.iter() {
        for at in (addr..addr + len).step_by(PIECE_BYTES as usize) {
            let part = PIECE_BYTES.min(addr + len - at);
            let there = read(to, at, part);
            if there.is_some() && read(from, at, part) == there {
                continue;
            }
            for at in (at..at + part).step_by(BLOCK_BYTES as usize) {
                if let Some(block) = read(from, at, BLOCK_BYTES)
                    && read(to, at, BLOCK_BYTES).as_ref() != Some(&block)
                {
                    levelling.bring(to, at, &block);
                }
            }
        }
    }
    levelling.end()
}
