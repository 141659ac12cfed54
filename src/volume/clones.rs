//! What there is to tell of clones: from which line each is, and what it holds.
//!
//! Sums of counters over the history in memory; nothing is read from the device.

use super::Volume;
use super::state::VolumeState;
use crate::format::line::{LineRecord, LineState};
use crate::format::view::{Role, ViewRecord};
use crate::format::{LineId, ViewId};
use std::collections::HashMap;

/// A clone as it is listed. Counters are bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CloneInfo {
    /// Its record.
    pub line: LineRecord,
    /// The line that it was made from, or what that was made from if it is gone: its name, empty for the main line. None if
    /// all are gone.
    pub from: Option<Vec<u8>>,
    /// The snapshot that it began as, if it was one that is still there.
    pub snapshot: Option<Vec<u8>>,
    /// Snapshots of its own.
    pub snapshots: usize,
    /// Everything that it reaches.
    pub referenced: u64,
    /// What dropping it frees at least: all that was born in it, but for what other clones have from it.
    pub exclusive: u64,
    /// What was written in it and is still in it, or in a snapshot of its own.
    pub written: u64,
}

/// Of each view the oldest line that it is in the past of.
type Owners = HashMap<ViewId, LineId>;

impl VolumeState {
    fn owners(&self) -> Owners {
        let mut owners = Owners::new();
        for line in self.lines.records() {
            let mut at = Some(line.head);
            while let Some(id) = at.filter(|id| !owners.contains_key(id)) {
                owners.insert(id, line.id);
                at = self.history.get(id).and_then(|v| v.prev);
            }
        }
        owners
    }

    /// The views from one down to the first.
    pub(super) fn down_from(&self, view: ViewId) -> impl Iterator<Item = &ViewRecord> {
        std::iter::successors(self.history.get(view), |v| self.history.get(v.prev?))
    }

    /// The line that one was made from, if that is still there.
    pub(super) fn line_above(&self, line: LineId) -> Option<LineRecord> {
        let record = &self.lines.get(line)?.record;
        self.made_from(record, &self.owners()).cloned()
    }

    /// The line of which a record says that it was made from it; if that is gone, the one that its past is of.
    fn made_from(&self, line: &LineRecord, owners: &Owners) -> Option<&LineRecord> {
        let owner = |v: &ViewRecord| owner_of(v, owners).filter(|owner| *owner != line.id);
        let there = |id: LineId| {
            self.lines.get(id).map(|l| &l.record).filter(|record| record.state != LineState::Trashed)
        };
        let named = line.from.and_then(there);
        named.or_else(|| self.down_from(line.head).filter_map(owner).find_map(there))
    }

    fn tell_clone(&self, line: &LineRecord, owners: &Owners) -> CloneInfo {
        let owner = |v: &&ViewRecord| owner_of(v, owners);
        let from = self.made_from(line, owners).map(|from| from.name.clone());
        let origin = line.origin.and_then(|id| self.history.get(id));
        let snapshot = origin.filter(|v| v.role == Role::Snapshot && v.line != LineId::NONE);
        let (mut exclusive, mut written, mut shared) = (0u64, 0u64, false);
        for view in self.down_from(line.head).take_while(|v| owner(v) == Some(line.id)) {
            shared |= self.history.children(view.id).len() > 1;
            written = written.saturating_add(view.written);
            // Where lines part no counter tells, and it may be nothing.
            let only_its_own = || self.history.counted_exclusive(view).unwrap_or(0);
            exclusive = exclusive.saturating_add(if shared { only_its_own() } else { view.written });
        }
        CloneInfo {
            from,
            snapshot: snapshot.map(|v| v.name.clone()),
            snapshots: self.lines.own_count(line.id),
            referenced: self.history.get(line.head).map_or(0, |head| head.referenced),
            exclusive,
            written,
            line: line.clone(),
        }
    }
}

/// The line that a view is of. A line that was rolled back, or has become another, does not descend from all of its snapshots.
fn owner_of(view: &ViewRecord, owners: &Owners) -> Option<LineId> {
    let own = Some(view.line).filter(|line| view.role == Role::Snapshot && *line != LineId::NONE);
    own.or_else(|| owners.get(&view.id).copied())
}

impl Volume {
    /// The clone of that name. Costs what all do.
    pub fn clone_info(&self, name: &[u8]) -> Option<CloneInfo> {
        let state = self.state.read();
        let line = &state.lines.get(state.lines.find(name)?)?.record;
        Some(state.tell_clone(line, &state.owners()))
    }

    /// All clones, oldest first.
    pub fn clones(&self) -> Vec<CloneInfo> {
        let state = self.state.read();
        let owners = state.owners();
        let clones = state.lines.records_after(LineId::MAIN);
        let clones = clones.filter(|line| line.state.is_shown());
        clones.map(|line| state.tell_clone(line, &owners)).collect()
    }
}
