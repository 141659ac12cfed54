//! The snapshots of a line, and how they follow each other in the history.
//!
//! Numbers ascend with time, so they are in the order in which they were made. In the history the next below a snapshot may
//! be another than the one made before it: where the line went back to an older one, and went on from there.

use super::{Result, Volume, VolumeError};
use crate::format::{Epoch, LineId, ViewId};
use std::collections::BTreeSet;

/// A snapshot that a line shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ancestor {
    /// Its number.
    pub id: ViewId,
    /// Its point in time.
    pub epoch: Epoch,
    /// The newest of the others that it descends from.
    pub below: Option<ViewId>,
}

/// The past of a line.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Lineage {
    /// The snapshots that it shows, oldest first.
    pub snapshots: Vec<Ancestor>,
    /// The newest of them that the head descends from.
    pub newest_below: Option<ViewId>,
}

/// What keeps snapshots from going, as far as the store knows: as long as two of these are equal, nothing of it has changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotUses {
    readers: u64,
    keepers: u64,
    lines: u64,
    needed: Vec<ViewId>,
}

impl Volume {
    /// What keeps snapshots from going now. Costs the same however many there are.
    pub fn snapshot_uses(&self) -> SnapshotUses {
        let state = self.state.read();
        SnapshotUses {
            readers: self.shared.snapshot_readers_changed(),
            keepers: state.keepers_changed,
            lines: state.lines.changes,
            needed: self.purging.needed(),
        }
    }

    /// True if somebody reads the snapshot of that number.
    pub fn is_read(&self, id: ViewId) -> bool {
        self.shared.is_read(id)
    }

    /// How many read the snapshot, or point, of that number.
    pub fn readers(&self, id: ViewId) -> usize {
        self.shared.readers_of(id)
    }

    /// The snapshots that a line shows. Reads nothing from the device.
    pub fn lineage(&self, line: LineId) -> Result<Lineage> {
        let state = self.state.read();
        let head = state.lines.head(line).ok_or(VolumeError::NoSuchView)?;
        let shown: BTreeSet<ViewId> = state.shown_after(line, ViewId(0)).map(|record| record.id).collect();
        let below = |id: ViewId| {
            let mut at = state.history.get(id)?.prev;
            while let Some(id) = at.filter(|id| !shown.contains(id)) {
                at = state.history.get(id)?.prev;
            }
            at
        };
        let snapshots = shown.iter().filter_map(|id| {
            let epoch = state.history.get(*id)?.epoch;
            Some(Ancestor { id: *id, epoch, below: below(*id) })
        });
        Ok(Lineage { snapshots: snapshots.collect(), newest_below: below(head) })
    }
}
