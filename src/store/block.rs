//! Reading a metadata block: from its place, else from its second copy, and the bad place is made good again.
//!
//! Rewriting a bad place with exactly the bytes that it must hold is the one exception to the rule that a committed
//! block is never written over. It needs no flush: until the rewritten block is durable the other copy is there. Whoever
//! reads keeps the block from being freed and used for something else, as for every read.

use super::{BadCopy, Reading, Result, Store, StoreError};
use crate::format::header::{self, BlockKind, Header};
use crate::format::{BlockAddr, BlockPtr};

/// A block that was read and proved.
type Proved = (Box<[u8]>, Header);

impl Store {
    /// Reads the metadata block that `ptr` points to and proves that it is the one.
    pub fn read_block(&self, ptr: &BlockPtr, kinds: &[BlockKind]) -> Result<Proved> {
        loop {
            let entered = self.rewrites.entered();
            let read = self.read_as_it_is(ptr, kinds);
            // What was rewritten meanwhile is read as it is now.
            if entered == self.rewrites.entered() {
                return read;
            }
        }
    }

    fn read_as_it_is(&self, ptr: &BlockPtr, kinds: &[BlockKind]) -> Result<Proved> {
        let Some(rewrite) = self.rewrites.of(ptr) else { return self.read_copies(ptr, kinds) };
        let ptr = BlockPtr { checksum: rewrite.checksum, ..*ptr };
        match rewrite.bytes {
            Some(bytes) => {
                let header = header::verify(&bytes, &ptr, kinds, self.fsid())?;
                Ok((bytes.iter().copied().collect(), header))
            }
            None => self.read_copies(&ptr, kinds),
        }
    }

    fn read_copies(&self, ptr: &BlockPtr, kinds: &[BlockKind]) -> Result<Proved> {
        let first = self.read_place(ptr, ptr.addr, kinds);
        if ptr.copy.0 == 0 || (first.is_ok() && self.reading == Reading::Serve) {
            if first.is_err() {
                self.health.found_bad(ptr.addr.0);
            }
            return first;
        }
        match (first, self.read_place(ptr, ptr.copy, kinds)) {
            (Ok(found), Ok(_)) => Ok(found),
            (Ok(found), Err(e)) => {
                self.found_bad(ptr, ptr.copy, &found.0, &e);
                Ok(found)
            }
            (Err(e), Ok(found)) => {
                self.found_bad(ptr, ptr.addr, &found.0, &e);
                Ok(found)
            }
            (Err(e), Err(_)) => {
                self.health.found_bad(ptr.addr.0);
                self.health.found_bad(ptr.copy.0);
                Err(e)
            }
        }
    }

    fn read_place(&self, ptr: &BlockPtr, at: BlockAddr, kinds: &[BlockKind]) -> Result<Proved> {
        let mut buf = vec![0; ptr.len as usize].into_boxed_slice();
        let prove = |bytes: &[u8]| Ok(header::verify(bytes, ptr, kinds, self.fsid())?);
        let header = self.read_sides(at.0, &mut buf, prove)?;
        Ok((buf, header))
    }

    /// The place `at` does not hold `good`, as the other copy does.
    fn found_bad(&self, ptr: &BlockPtr, at: BlockAddr, good: &[u8], cause: &StoreError) {
        let _turn = self.rewrites.healing();
        if self.rewrites.of(ptr).is_some_and(|rewrite| rewrite.checksum != ptr.checksum) {
            return; // it was rewritten since it was read: what is good is something else
        }
        let which = if at == ptr.addr { "first" } else { "second" };
        // What is free, or was just handed out, is nobody's to write: then the pointer is stale, whatever its reader thinks.
        let settled = self.alloc.lock().is_settled(at.0, u64::from(ptr.len));
        if self.reading == Reading::Scrub && !settled {
            return; // freed since the scrub took its state: nothing is lost with it
        }
        let may_heal = self.reading != Reading::Prove && self.health.may_heal() && settled;
        let write = || {
            self.health.writes_again(at.0, u64::from(ptr.len));
            self.write_raw(at.0, good)
        };
        let healed = match may_heal.then(write) {
            Some(Ok(())) => {
                self.health.healed(at.0);
                log::warn!("healed the {which} copy of a block at {at}: {cause}");
                true
            }
            failed => {
                let why = failed.and_then(Result::err).map(|e| format!(", which cannot be healed: {e}"));
                if self.health.found_bad(at.0) && self.reading == Reading::Serve {
                    log::error!("bad {which} copy of a block at {at}{}: {cause}", why.unwrap_or_default());
                }
                false
            }
        };
        if self.reading != Reading::Serve {
            self.bad.lock().push(BadCopy { ptr: *ptr, addr: at, healed, what: cause.to_string() });
        }
    }

    /// What an auditor's store has met since the last call.
    pub fn take_bad(&self) -> Vec<BadCopy> {
        std::mem::take(&mut self.bad.lock())
    }
}
