//! What is made before a command is run: a snapshot of the line, a *step*; for a trial also a clone of that, of the same name.
//! The names are automatic.
//!
//! The step of a trial is what its clone is compared with: it goes with the clone. Steps of commands that were run on the line
//! itself are pruned by count: as many of the oldest of a line go as there are too many. Whatever is in the way of a deletion,
//! such as a mount of the step, keeps it, and nothing else is taken in its place.

use super::snapdir::Past;
use crate::clock::dotted;
use crate::format::line::LineRecord;
use crate::format::provenance::{Provenance, Reason};
use crate::format::{LineId, ViewId};
use crate::fs::heads::Head;
use crate::ops::{Error, Result, Timestamp};
use crate::volume::SnapshotInfo;
use std::sync::Arc;

/// How often another name is tried: somebody else may take one at the same moment.
const NAME_TRIES_MAX: usize = 100;

impl Past {
    /// Makes the step and the clone of a trial. On an error neither is left.
    pub fn begin_trial(&self, from: &Arc<Head>, provenance: &Provenance) -> Result<Arc<Head>> {
        // Those of trials that were cut off between the two.
        self.delete_steps(from, &self.trial_steps(from.line), Past::delete_unless_cloned)?;
        for _ in 0..NAME_TRIES_MAX {
            match self.try_to_begin(from, &self.trial_name(from.line, provenance)?, provenance) {
                Err(Error::Exists) => {} // another has it since
                begun => return begun,
            }
        }
        Err(Error::Exists)
    }

    /// The same under a name.
    fn try_to_begin(&self, from: &Arc<Head>, name: &[u8], provenance: &Provenance) -> Result<Arc<Head>> {
        // Nobody finds the step without its clone.
        let held = self.one_at_a_time();
        let step = self.snapshot_held(from, name, provenance, &held)?;
        let made = self.create_clone_held(step, name, provenance, &held);
        drop(held);
        if made.is_err() {
            let _ = self.delete_snapshot(from, name); // what counts is the error that we report
        }
        made
    }

    /// A name for a snapshot of the line and a clone: a second that either has gets the next free one.
    fn trial_name(&self, line: LineId, provenance: &Provenance) -> Result<Vec<u8>> {
        let heads = &self.commits.heads;
        let prefix = provenance.reason.name_prefix().ok_or(Error::Invalid)?;
        let now = heads.clock.now().secs;
        let is_free = |name: &Vec<u8>| {
            heads.volume.find_line(name).is_none() && heads.volume.find_snapshot(line, name).is_none()
        };
        let name = |secs| format!("{prefix}{}", dotted(Timestamp { secs, nanos: 0 })).into_bytes();
        (now..).map(name).find(is_free).ok_or(Error::Invalid)
    }

    /// The step of a trial goes with its clone, which has gone.
    pub(super) fn end_trial(&self, gone: &LineRecord) -> Result<()> {
        let origin = gone.origin.filter(|_| gone.provenance.reason == Reason::Trial);
        let Some(step) = origin.and_then(|id| self.commits.heads.volume.snapshot_info(id)) else {
            return Ok(());
        };
        if step.provenance.reason != Reason::Trial || self.has_clone(step.id) {
            return Ok(());
        }
        let heads = &self.commits.heads;
        let head = heads.all().into_iter().find(|head| head.line == step.line);
        head.map_or(Ok(()), |head| self.delete_steps(&head, &[step.name], Past::delete_unless_cloned))
    }

    /// Makes a step of a line, and lets older ones go beyond `keep`.
    pub fn take_step(&self, head: &Arc<Head>, provenance: &Provenance, keep: usize) -> Result<SnapshotInfo> {
        let made = self.guard(head, provenance, &self.one_at_a_time())?;
        let steps: Vec<_> = self.own_for(head.line, Reason::Step).map(|s| s.name).collect();
        let beyond = steps.len().saturating_sub(keep.max(1));
        self.delete_steps(head, &steps[..beyond], Past::delete_snapshot)?;
        Ok(made)
    }

    /// A line's own snapshots that were made for this, oldest first.
    fn own_for(&self, line: LineId, reason: Reason) -> impl Iterator<Item = SnapshotInfo> + use<> {
        let all = self.commits.heads.volume.snapshots(line);
        all.into_iter().filter(move |s| s.line == line && s.provenance.reason == reason)
    }

    /// Steps of trials that have no clone.
    fn trial_steps(&self, line: LineId) -> Vec<Vec<u8>> {
        let begun = self.commits.heads.volume.origins();
        let without = self.own_for(line, Reason::Trial).filter(|step| !begun.contains(&step.id));
        without.map(|step| step.name).collect()
    }

    fn has_clone(&self, step: ViewId) -> bool {
        self.commits.heads.volume.has_clones_of(step)
    }

    fn delete_steps(
        &self,
        head: &Arc<Head>,
        names: &[Vec<u8>],
        delete: fn(&Past, &Head, &[u8]) -> Result<()>,
    ) -> Result<()> {
        for name in names {
            match delete(self, head, name) {
                // Somebody reads it as a file system of its own, or it is gone already.
                Ok(()) | Err(Error::Busy | Error::NotFound) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}
