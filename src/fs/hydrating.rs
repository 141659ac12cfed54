//! Copies of snapshots in other stores, most of them made in the background: what this store keeps of each.
//!
//! Who makes them, and how they travel, is decided above. What is changed here is durable when it returns.

use super::file_system::Fs;
use crate::format::hydration::{HydrationRecord, HydrationState};
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

impl Fs {
    /// Begins a copy: its snapshot stays until it is whole.
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
        };
        match self.heads.volume.begin_hydration(record) {
            Ok(_) => self.commits.sync(),
            Err(VolumeError::NameTaken) => Ok(()),
            Err(e) => Err(e.into()),
        }
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

    /// Has a copy go on or wait, or gives it another rate.
    pub fn direct_hydration(
        &self,
        number: u64,
        state: Option<HydrationState>,
        rate: Option<u64>,
    ) -> Result<HydrationRecord> {
        let changed = self.heads.volume.change_hydration(number, |record| {
            record.state = state.filter(|_| record.holds()).unwrap_or(record.state);
            record.rate = rate.unwrap_or(record.rate);
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
