//! What is made before a command is run: a snapshot of the line, a *step*; for a trial also a clone of that, of the same name.
//! The names are automatic.
//!
//! The step of a trial is what its clone is compared with: it goes with the clone. Steps of commands that were run on the line
//! itself are pruned by count: as many of the oldest of a line go as there are too many. Whatever is in the way of a deletion,
//! such as a mount of the step or a command that goes on, keeps it, and nothing else is taken in its place. What a user has
//! given a name of his own is his. What is to go is looked for and deleted under one lock, as are a step and its clone made.

use super::applications::Reached;
use super::snapdir::{OneAtATime, Past};
use super::underway::GoesOn;
use crate::clock::dotted;
use crate::format::line::LineRecord;
use crate::format::provenance::{Provenance, Reason};
use crate::format::{LineId, ViewId};
use crate::fs::heads::Head;
use crate::ops::{Error, Result, Timestamp};
use crate::volume::{ReserveFor, SnapshotInfo};
use std::sync::Arc;

impl Past {
    /// Makes the step and the clone of a trial. On an error neither is left.
    pub fn begin_trial(
        &self,
        from: &Arc<Head>,
        provenance: &Provenance,
        goes_on: GoesOn,
    ) -> Result<Arc<Head>> {
        self.commits.heads.check_writable()?;
        self.have_room_ahead(ReserveFor::Record, std::slice::from_ref(from))?;
        let held = self.one_at_a_time();
        // Those of trials that were cut off between the two.
        let begun = self.commits.heads.volume.origins();
        let without = self.own_for(from.line, Reason::Trial).filter(|step| !begun.contains(&step.id));
        let left: Vec<_> = without.collect();
        let (mut gone, cleared) = self.drop_steps(from, &left, &held);
        let begun = cleared.and_then(|()| {
            let name = self.trial_name(from.line, provenance)?;
            let step = self.snapshot_held(from, &name, provenance, Reached::PLAIN, &held)?;
            self.under_way.begin(step, goes_on);
            self.create_clone_held(step, &name, provenance, &held).inspect_err(|_| {
                if self.drop_snapshot(from, &name, &held).is_ok() {
                    gone.push(name);
                }
            })
        });
        drop(held);
        self.steps_are_gone(from, &gone).and(begun)
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
        let heads = &self.commits.heads;
        let origin = gone.origin.filter(|_| gone.provenance.reason == Reason::Trial);
        let held = self.one_at_a_time();
        let step = origin.and_then(|id| heads.volume.snapshot_info(id));
        let step = step.filter(|step| is_own_for(step, Reason::Trial) && !self.has_clone(step.id));
        let head = step.as_ref().and_then(|step| heads.all().into_iter().find(|head| head.line == step.line));
        let (Some(step), Some(head)) = (step, head) else { return Ok(()) };
        let (gone, dropped) = self.drop_steps(&head, &[step], &held);
        drop(held);
        self.steps_are_gone(&head, &gone).and(dropped)
    }

    /// Makes a step of a line, and lets older ones go beyond `keep`.
    pub fn take_step(
        &self,
        head: &Arc<Head>,
        provenance: &Provenance,
        keep: usize,
        goes_on: GoesOn,
    ) -> Result<SnapshotInfo> {
        self.commits.heads.check_writable()?;
        self.have_room_ahead(ReserveFor::Record, std::slice::from_ref(head))?;
        let held = self.one_at_a_time();
        let made = self.guard(head, provenance, &held)?;
        self.under_way.begin(made.id, goes_on);
        let mut steps: Vec<_> = self.own_for(head.line, Reason::Step).collect();
        steps.truncate(steps.len().saturating_sub(keep.max(1)));
        steps.retain(|step| !self.under_way.needs(step.id));
        let (gone, dropped) = self.drop_steps(head, &steps, &held);
        drop(held);
        self.steps_are_gone(head, &gone).and(dropped)?;
        Ok(made)
    }

    /// A line's own snapshots that were made for this, oldest first.
    fn own_for(&self, line: LineId, reason: Reason) -> impl Iterator<Item = SnapshotInfo> + use<> {
        let all = self.commits.heads.volume.snapshots(line);
        all.into_iter().filter(move |s| s.line == line && is_own_for(s, reason))
    }

    pub(super) fn has_clone(&self, step: ViewId) -> bool {
        self.commits.heads.volume.origins().contains(&step)
    }

    /// Deletes them as they are found with snapshots held off. The names that are gone, which is told by
    /// [`Self::steps_are_gone`] when they are held off no more.
    fn drop_steps(
        &self,
        head: &Head,
        steps: &[SnapshotInfo],
        held: &OneAtATime<'_>,
    ) -> (Vec<Vec<u8>>, Result<()>) {
        let mut gone = Vec::new();
        for step in steps {
            match self.drop_snapshot(head, &step.name, held) {
                Ok(()) => gone.push(step.name.clone()),
                // Somebody reads it as a file system of its own, or it is gone already.
                Err(Error::Busy | Error::NotFound) => {}
                Err(e) => return (gone, Err(e)),
            }
        }
        (gone, Ok(()))
    }

    fn steps_are_gone(&self, head: &Head, names: &[Vec<u8>]) -> Result<()> {
        names.iter().for_each(|name| self.tell_snapdirs(head, None, name));
        if names.is_empty() { Ok(()) } else { self.commits.outlive() }
    }
}

/// True for a snapshot that was made for this and has the automatic name still: who renames one wants to have it.
fn is_own_for(snapshot: &SnapshotInfo, reason: Reason) -> bool {
    let prefix = reason.name_prefix().unwrap_or_default();
    snapshot.provenance.reason == reason && snapshot.name.starts_with(prefix.as_bytes())
}
