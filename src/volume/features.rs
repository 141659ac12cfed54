//! Features that programs have to know for a store: which it has, and how it gets one.

use super::{ReserveFor, Result, Volume};
use crate::format::superblock::{INCOMPAT_COMPRESSION, INCOMPAT_PURGED, INCOMPAT_REMAP};
use std::sync::atomic::Ordering::Relaxed;

impl Volume {
    /// True if programs that do not know compression refuse the store, so that content may be compressed.
    pub fn knows_compression(&self) -> bool {
        self.incompat.load(Relaxed) & INCOMPAT_COMPRESSION != 0
    }

    /// Has the next commit say that the store needs programs that know compression. Nothing may depend on it before that
    /// commit has returned.
    pub fn allow_compression(&self) -> Result<()> {
        self.need(INCOMPAT_COMPRESSION)
    }

    /// True if programs that do not know of content away from home refuse the store.
    pub fn knows_homes(&self) -> bool {
        self.incompat.load(Relaxed) & INCOMPAT_REMAP != 0
    }

    /// Has the next commit say that the store needs programs that know of homes. Nothing may depend on it before that commit
    /// has returned.
    pub fn allow_homes(&self) -> Result<()> {
        self.need(INCOMPAT_REMAP)
    }

    /// Has the next commit say that the store needs programs that know of content that was purged. Nothing may depend on it
    /// before that commit has returned.
    pub fn allow_purging(&self) -> Result<()> {
        self.need(INCOMPAT_PURGED)
    }

    fn need(&self, feature: u64) -> Result<()> {
        self.check_writable()?;
        let mut turn = self.turn();
        self.reserve_records(&turn, 0, ReserveFor::Write)?;
        let state = turn.alone();
        state.incompat |= feature;
        state.changed = true;
        Ok(())
    }
}
