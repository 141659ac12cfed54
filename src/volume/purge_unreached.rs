//! What no tree leads to: the ring of the log but for what is in force, and free space. Whatever of a purged file was there
//! once is written over.
//!
//! Only what the device has stored is looked at, and what is zeros stays as it is, so that space which the host has never given
//! is not asked for.

use crate::format::BLOCK_BYTES;
use crate::store::Store;
use crate::volume::{Result, Volume};

/// So much is looked at at once. Nobody gets it meanwhile.
const WINDOW_BYTES: u64 = 1 << 20;

/// What was written over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WipedBytes {
    /// Of the log.
    pub log: u64,
    /// Of free space.
    pub free: u64,
    /// What was freed, and waits for readers: it was not looked at.
    pub held_up: u64,
}

impl Volume {
    /// Writes over what no tree leads to, durably. What was freed is to have been let go of by commits before. The next commit
    /// says that it is done.
    pub fn wipe_unreached(&self, go_on: &mut dyn FnMut(u64) -> bool) -> Result<Option<WipedBytes>> {
        let _one = self.purging.wiping.lock();
        self.check_writable()?;
        let store = self.shared.store();
        let log = self.note(self.log.wipe(store).map_err(Into::into))?;
        let held_up = store.alloc().quarantined_bytes();
        let mut wiped = WipedBytes { log, free: 0, held_up };
        for (start, len) in store.device().stored() {
            let (mut at, end) = (start, start + len);
            loop {
                // Not with the allocator locked.
                let next = store.alloc().next_free(at);
                let Some(next) = next.filter(|next| *next < end) else { break };
                at = next + WINDOW_BYTES.min(end - next);
                let taken = store.alloc().take_to_wipe(next, at - next);
                let done =
                    taken.ranges().map(|(addr, len)| wipe_range(store, addr, len)).sum::<Result<u64>>();
                store.alloc().put_back(taken);
                wiped.free += self.note(done)?;
                if !go_on(at) {
                    return Ok(None);
                }
            }
        }
        self.note(store.flush().map_err(Into::into))?;
        let mut waiting = self.purging.waiting.lock();
        waiting.wiping = Some(false);
        drop(waiting);
        Ok(Some(wiped))
    }
}

/// Writes zeros over what is not zeros.
fn wipe_range(store: &Store, addr: u64, len: u64) -> Result<u64> {
    let block = BLOCK_BYTES as usize;
    let mut dirty = vec![false; (len / BLOCK_BYTES) as usize];
    let mut bytes = vec![0; len as usize];
    for side in store.device().sides() {
        // What cannot be read is written over.
        let read = store.read_raw_side(side, addr, &mut bytes);
        for (n, block) in bytes.chunks(block).enumerate() {
            dirty[n] |= read.is_err() || block.iter().any(|byte| *byte != 0);
        }
    }
    let (mut n, mut written) = (0, 0);
    while n < dirty.len() {
        let run = dirty[n..].iter().take_while(|dirty| **dirty).count();
        if run > 0 {
            bytes[..run * block].fill(0);
            store.write_raw(addr + n as u64 * BLOCK_BYTES, &bytes[..run * block])?;
            written += (run * block) as u64;
        }
        n += run.max(1);
    }
    Ok(written)
}
