//! The trip wire of a file system that is served: before much is gone there is a snapshot.

use super::file_system::Fs;
use super::past::TripwireState;
use crate::ops::Result;

impl Fs {
    /// Has a snapshot be kept if much is gone of the line at the root of the mount, and the points behind it roll on. For a timer:
    /// every second.
    pub fn tend_tripwire(&self) {
        self.past.tend_tripwire();
    }

    /// How it is. None if this file system has none.
    pub fn tripwire_state(&self) -> Option<Result<TripwireState>> {
        let is_watched = self.heads.options.tripwire && !self.heads.is_read_only();
        is_watched.then(|| self.past.tripwire_state())
    }
}
