//! Holds, for commands: put, released, and ended in time.

use super::file_system::Fs;
use super::heads::Head;
use super::past::{HoldTerms, Reached};
use crate::format::ViewId;
use crate::format::hold::HoldRecord;
use crate::format::provenance::Provenance;
use crate::ops::{Error, NodeId, Result};
use std::sync::Arc;

impl Fs {
    /// Holds a snapshot of the line that a node is of: its own. Durable when this returns. `Exists` if it has a hold of that tag.
    pub fn hold_snapshot(
        &self,
        at: NodeId,
        view: ViewId,
        terms: &HoldTerms<'_>,
        by: &Provenance,
    ) -> Result<HoldRecord> {
        self.past.hold(&*self.heads.at(at)?, view, terms, by)
    }

    /// Makes a snapshot of the line that a node is of that is held from the first moment on.
    pub fn create_held_snapshot(
        &self,
        at: NodeId,
        name: &[u8],
        (provenance, reached): (&Provenance, Reached<'_>),
        terms: &HoldTerms<'_>,
    ) -> Result<ViewId> {
        self.past.take_held_snapshot(&self.heads.at(at)?, name, (provenance, reached), terms)
    }

    /// Lets a hold go. `NotFound` if there is none of that tag.
    pub fn release_snapshot(&self, at: NodeId, view: ViewId, tag: &str) -> Result<()> {
        self.past.release(&*self.heads.at(at)?, view, tag)
    }

    /// Holds a snapshot, of whatever line, for a transfer: in place of one of that tag that it has, all at once.
    pub fn hold_for_transfer(
        &self,
        view: ViewId,
        terms: &HoldTerms<'_>,
        by: &Provenance,
    ) -> Result<HoldRecord> {
        self.past.renew_hold(&*self.head_of(view)?, view, terms, by)
    }

    /// Lets it go; false if there is none.
    pub fn release_transfer(&self, view: ViewId, tag: &str) -> Result<bool> {
        match self.past.release(&*self.head_of(view)?, view, tag) {
            Ok(()) => Ok(true),
            Err(Error::NotFound) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The head of the line that a snapshot is of.
    fn head_of(&self, view: ViewId) -> Result<Arc<Head>> {
        let line = self.heads.volume.snapshot_info(view).ok_or(Error::NotFound)?.line;
        self.heads.of_line(&self.heads.volume.line(line)?).ok_or(Error::Stale)
    }

    /// Ends what is over by the age of the store. For a timer: it has to be asked often.
    pub fn keep_holds(&self) -> Result<()> {
        self.past.keep_holds()
    }

    /// When something ends by the time of day, in seconds since 1970, that ends at an age of the store: if the clock is right.
    pub fn time_of_age(&self, ends: u64) -> i64 {
        self.past.time_of_age(ends)
    }
}
