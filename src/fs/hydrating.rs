//! Copies of snapshots in other stores, most of them made in the background: what this store keeps of each.
//!
//! Who makes them, and how they travel, is decided above. What is changed here is durable when it returns.

use super::file_system::Fs;
use crate::format::hydration::{CopyHold, HydrationRecord, HydrationState};
use crate::format::{Ino, LineId, ViewId};
use crate::ops::{NodeId, Result};
use crate::volume::VolumeError;

/// A copy to be.
#[derive(Clone, Debug)]
pub struct NewHydration {
    /// Of this snapshot.
    pub view: ViewId,
    /// In this store.
    pub store: [u8; 16],
    /// Where that is: an absolute path.
    pub path: Vec<u8>,
    /// Bytes a second at most: 0 as it is found right, the greatest number none.
    pub rate: u64,
    /// Bytes that are to go there, about.
    pub about_bytes: u64,
    /// Who asks for it, where it is known.
    pub user: Option<u32>,
}

/// Whether a copy has come further.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WentOn {
    /// It has, or its store was found.
    Yes,
    /// It has not.
    No,
}

impl Fs {
    /// Begins a copy: its snapshot stays until it is whole, or does not go on for [`COPY_KEPT_SECS`](super::past::COPY_KEPT_SECS).
    pub fn begin_hydration(&self, new: &NewHydration) -> Result<HydrationRecord> {
        let record = HydrationRecord {
            number: 0,
            view: new.view,
            store: new.store,
            path: new.path.clone(),
            state: HydrationState::Running,
            rate: new.rate,
            begun_secs: self.heads.clock.now().secs,
            ended_secs: 0,
            done_bytes: 0,
            about_bytes: new.about_bytes,
            trouble: Vec::new(),
            user: new.user,
            hold: self.past.hold_of_copy()?,
        };
        let begun = self.heads.volume.begin_hydration(record)?;
        self.commits.sync()?;
        Ok(begun)
    }

    /// Notes that another store has all of a snapshot. Nothing is changed if a copy is being made there in the background: that
    /// finds it out by itself.
    pub fn note_copy(&self, view: ViewId, store: [u8; 16], path: &[u8]) -> Result<()> {
        let now = self.heads.clock.now().secs;
        let record = HydrationRecord {
            number: 0,
            view,
            store,
            path: path.to_vec(),
            state: HydrationState::Whole,
            rate: 0,
            begun_secs: now,
            ended_secs: now,
            done_bytes: 0,
            about_bytes: 0,
            trouble: Vec::new(),
            user: None,
            hold: CopyHold::Always,
        };
        match self.heads.volume.begin_hydration(record) {
            Ok(_) => self.commits.sync(),
            Err(VolumeError::NameTaken) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Notes what another store has now, so that what comes later can be told against it also when it is gone here. False if it is
    /// no base.
    pub fn note_sent(&self, view: ViewId, store: [u8; 16], path: &[u8]) -> Result<bool> {
        Ok(self.heads.volume.note_peer(store, view, (self.heads.clock.now().secs, path))?)
    }

    /// Forgets the copies in the store at a path, which is another one from now on: also those that are not whole, which end.
    pub fn forget_copies_at(&self, path: &[u8]) -> Result<()> {
        let volume = &self.heads.volume;
        let is_there = |copy: &HydrationRecord| copy.path == path;
        for copy in volume.hydrations().into_iter().filter(is_there) {
            match volume.end_hydration(copy.number) {
                Ok(()) | Err(VolumeError::NoSuchView) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// Notes how far a copy is, and what is in its way; if it has gone on it holds its snapshot as one that begins.
    pub fn note_hydration(&self, number: u64, bytes: (u64, u64), trouble: &str, went_on: WentOn) {
        if self.heads.volume.is_read_only() {
            return;
        }
        let hold = match went_on {
            WentOn::Yes => self.past.hold_of_copy(),
            WentOn::No => return self.heads.volume.note_hydration(number, bytes, trouble, None),
        };
        let hold = hold.map_err(|e| log::warn!("the hold of a copy is not renewed: {e}")).ok();
        self.heads.volume.note_hydration(number, bytes, trouble, hold);
    }

    /// Has a copy go on or wait, or gives it another rate. It holds its snapshot as one that begins.
    pub fn direct_hydration(
        &self,
        number: u64,
        state: Option<HydrationState>,
        rate: Option<u64>,
    ) -> Result<HydrationRecord> {
        let hold = self.past.hold_of_copy()?;
        let changed = self.heads.volume.change_hydration(number, |record| {
            record.rate = rate.unwrap_or(record.rate);
            if !record.is_whole() {
                record.state = state.unwrap_or(record.state);
                record.hold = hold;
            }
        })?;
        self.commits.sync()?;
        Ok(changed)
    }

    /// A copy is whole: its snapshot may go.
    pub fn finish_hydration(&self, number: u64, done_bytes: u64) -> Result<HydrationRecord> {
        let done = self.heads.volume.finish_hydration(number, done_bytes, self.heads.clock.now().secs)?;
        self.commits.sync()?;
        Ok(done)
    }

    /// Gives a copy up, or forgets one that is whole.
    pub fn end_hydration(&self, number: u64) -> Result<()> {
        self.heads.volume.end_hydration(number)?;
        self.commits.sync()
    }

    /// The root of a line.
    pub fn root_of(&self, line: LineId) -> Result<NodeId> {
        let line = self.heads.volume.line(line)?;
        let head = self.heads.of_line(&line).ok_or(crate::ops::Error::Stale)?;
        Ok(head.node(Ino::ROOT))
    }
}
