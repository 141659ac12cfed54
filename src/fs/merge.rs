//! Merge and rebase: what a clone changed, into the line that it was made from, and the other way round.
//!
//! Both lines are compared with the view as of which they were last the same: the origin of the clone at first; after a merge
//! or a rebase, the side that gave, as it was then. It is set in the same record as the change, so a crash leaves both
//! or neither, and nothing is brought over twice (docs/decisions/0024).

use super::difference::{PathChange, difference};
use super::file_system::Fs;
use super::heads::{Head, KeptOut};
use super::items::path_of;
use super::merging::{Conflict, Merged, three_way};
use super::transfer::{
    ChangeOrder, Plan, Refusal, Settled, Sides, TakenFrom, change_at_once, once_closed, rehearse_at_once,
};
use crate::format::Ino;
use crate::format::provenance::Provenance;
use crate::ops::{Error, NodeId, Result};
use crate::volume::{LineRecord, SnapshotInfo, View};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Paths that a refusal names at most.
const PATHS_MAX: usize = 20;

/// Which way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MergeWay {
    /// From the clone into the line, after which the clone goes.
    Merge,
    /// The same, and the clone stays.
    MergeAndKeep,
    /// From the line into the clone.
    Rebase,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct MergeOrder<'o> {
    /// A node of the line.
    pub at: NodeId,
    /// The name of the clone.
    pub clone: &'o [u8],
    /// Which way.
    pub way: MergeWay,
}

/// What was changed.
#[derive(Debug)]
pub struct MergeDone {
    /// What was taken over, by path from the root of the line that it was taken from.
    pub changes: Vec<PathChange>,
    /// The line that took over, before and after; none if there was nothing to take over.
    pub guards: Option<(SnapshotInfo, SnapshotInfo)>,
    /// The clone is gone.
    pub dropped: bool,
}

/// Why nothing was changed.
#[derive(Debug)]
pub enum MergeRefusal {
    /// The sides contradict each other: all in which they do.
    Conflicts(Vec<Conflict>),
    /// Files of the clone are open for writing: paths, of some if they are many, and how many there are.
    CloneWriters(Vec<String>, usize),
    /// The clone was made from another line: the name of that, empty for the main line.
    OtherLine(Vec<u8>),
    /// The line is the clone itself.
    Itself,
    /// What the clone was last compared with was taken back since.
    NoBase,
    /// What has nothing to do with merging.
    Refused(Refusal),
}

impl<E: Into<Error>> From<E> for MergeRefusal {
    fn from(e: E) -> MergeRefusal {
        MergeRefusal::Refused(Refusal::Failed(e.into()))
    }
}

type Answer<T> = std::result::Result<T, MergeRefusal>;

/// What a merge takes over, to be told when it is done.
struct Brought {
    base: Arc<View>,
    source: Arc<View>,
    plan: Plan,
}

/// The lines that it is about.
struct Lines {
    clone: LineRecord,
    source: Arc<Head>,
    target: Arc<Head>,
}

impl Fs {
    /// Merges or rebases, all or nothing, durable when this returns.
    pub fn merge(&self, order: &MergeOrder<'_>, provenance: &Provenance) -> Answer<MergeDone> {
        once_closed(&self.heads, KeptOut::Writers, |open| self.merge_now(order, provenance, open))
    }

    fn merge_now(
        &self,
        order: &MergeOrder<'_>,
        provenance: &Provenance,
        open: &mut Vec<NodeId>,
    ) -> Answer<MergeDone> {
        let lines = self.lines_of(order)?;
        let change = ChangeOrder { head: &lines.target, other: Some(&lines.source), provenance };
        let (mut refusal, mut brought) = (None, None);
        let done = change_at_once(&self.past, &change, &mut |sides| match self
            .settle_merge(&lines, order.way, sides, open)
        {
            Ok((settled, told)) => {
                brought = Some(told);
                Ok(Some(settled))
            }
            Err(MergeRefusal::Refused(Refusal::Failed(e))) => Err(e),
            Err(other) => {
                refusal = Some(other);
                Ok(None)
            }
        });
        let done = done.map_err(MergeRefusal::Refused)?;
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        // Also what needed no change but a new base.
        self.commits.sync()?;
        let dropped = order.way == MergeWay::Merge && self.drop_merged(&lines.clone);
        let changes = done.as_ref().and(brought).map(|brought| brought.told()).unwrap_or_default();
        Ok(MergeDone { changes, guards: done.map(|done| (done.before, done.after)), dropped })
    }

    /// What a merge or rebase would take over now.
    pub fn rehearse_merge(&self, order: &MergeOrder<'_>) -> Answer<Vec<PathChange>> {
        once_closed(&self.heads, KeptOut::Writers, |open| self.rehearse_merge_now(order, open))
    }

    fn rehearse_merge_now(&self, order: &MergeOrder<'_>, open: &mut Vec<NodeId>) -> Answer<Vec<PathChange>> {
        let lines = self.lines_of(order)?;
        let provenance = &Provenance::default();
        let change = ChangeOrder { head: &lines.target, other: Some(&lines.source), provenance };
        let (mut refusal, mut changes) = (None, None);
        // So that whatever would be in the way is told as well.
        let rehearsed = rehearse_at_once(&self.past, &change, &mut |sides| match self
            .plan_of_merge(&lines, order.way, sides, open)
        {
            Ok((plan, base, source)) => {
                changes = Some(told(&base, source, &plan)?);
                Ok(Some(Settled { plan, source: TakenFrom::Other, base: None }))
            }
            Err(why) => {
                refusal = Some(why);
                Ok(None)
            }
        });
        rehearsed.map_err(MergeRefusal::Refused)?;
        refusal.map_or(Ok(changes.unwrap_or_default()), Err)
    }

    /// Both lines, if the clone was made from the line or that is gone.
    fn lines_of(&self, order: &MergeOrder<'_>) -> Answer<Lines> {
        let volume = self.volume();
        let line = self.heads.at(order.at)?;
        let clone =
            volume.find_line(order.clone).filter(|_| !order.clone.is_empty()).ok_or(Error::NotFound)?;
        let head = self.heads.of_line(&clone).ok_or(Error::NotFound)?;
        if head.line == line.line {
            return Err(MergeRefusal::Itself);
        }
        match volume.line_above(clone.id) {
            Some(above) if above.id != line.line => return Err(MergeRefusal::OtherLine(above.name)),
            _ => {}
        }
        let (source, target) = match order.way {
            MergeWay::Merge | MergeWay::MergeAndKeep => (head, line),
            MergeWay::Rebase => (line, head),
        };
        Ok(Lines { clone, source, target })
    }

    fn base_of(&self, clone: &LineRecord) -> Answer<Arc<View>> {
        match self.volume().line(clone.id)?.base {
            Some(_) => Ok(self.volume().base(clone.id)?),
            None => Err(MergeRefusal::NoBase),
        }
    }

    /// What is half written is not to be merged, nor to go with the clone: `open` is that.
    fn refuse_clone_writers(
        &self,
        lines: &Lines,
        way: MergeWay,
        source: &View,
        open: &mut Vec<NodeId>,
    ) -> Answer<()> {
        if way == MergeWay::Rebase {
            return Ok(());
        }
        let root = lines.source.node(Ino::ROOT);
        *open = self.heads.handles.writers();
        open.retain(|node| node.tree() == root.tree());
        if open.is_empty() {
            return Ok(());
        }
        let paths = open.iter().take(PATHS_MAX).map(|node| path_of(source, Ino(node.ino()))).collect();
        Err(MergeRefusal::CloneWriters(paths, open.len()))
    }

    /// The plan, while both lines are held, with what they are compared with and what it is taken from.
    fn plan_of_merge<'s>(
        &self,
        lines: &Lines,
        way: MergeWay,
        sides: &Sides<'s>,
        open: &mut Vec<NodeId>,
    ) -> Answer<(Plan, Arc<View>, &'s View)> {
        let source = sides.other.ok_or(Error::Invalid)?;
        self.refuse_clone_writers(lines, way, source, open)?;
        let base = self.base_of(&lines.clone)?;
        match three_way(&base, source, sides.target)? {
            Merged::Clean(plan) => Ok((plan, base, source)),
            Merged::Conflicts(all) => Err(MergeRefusal::Conflicts(all)),
        }
    }

    /// The same, settled; and what there is to tell of it later.
    fn settle_merge(
        &self,
        lines: &Lines,
        way: MergeWay,
        sides: &Sides<'_>,
        open: &mut Vec<NodeId>,
    ) -> Answer<(Settled, Brought)> {
        let (plan, base, _) = self.plan_of_merge(lines, way, sides, open)?;
        let now = self.heads.clock.now();
        let point = self.volume().nameless_point(lines.source.line, (now.secs, now.nanos))?;
        let brought = Brought { base, source: point.clone(), plan: plan.clone() };
        let base = Some((lines.clone.id, Some(point.clone())));
        Ok((Settled { plan, source: TakenFrom::View(point), base }, brought))
    }

    /// Drops a clone of which nothing is left to be merged. False if it is in use, or was changed meanwhile: what was merged
    /// is, whatever becomes of the clone.
    fn drop_merged(&self, clone: &LineRecord) -> bool {
        let base = self.volume().base(clone.id).map_err(Error::from);
        match base.and_then(|base| self.past.drop_merged(clone, &base)) {
            Ok(()) => true,
            Err(Error::Busy | Error::Frozen) => false,
            // Somebody else was faster.
            Err(Error::NotFound | Error::Stale) if self.volume().line(clone.id).is_err() => true,
            // Also what is gone here and comes back when the store is opened again.
            Err(e) => {
                log::warn!("a clone that was merged stays: {e}");
                false
            }
        }
    }
}

impl Brought {
    /// It is done, whatever there is to be told of it.
    fn told(&self) -> Vec<PathChange> {
        told(&self.base, &self.source, &self.plan).unwrap_or_else(|e| {
            log::warn!("what a merge has brought cannot be told: {e}");
            Vec::new()
        })
    }
}

/// What became of paths from the base to the source, as far as the plan brings it over.
fn told(base: &View, source: &View, plan: &Plan) -> Result<Vec<PathChange>> {
    let mut inodes: BTreeSet<Ino> =
        plan.inodes.iter().flat_map(|(ino, takeover)| [*ino, takeover.from]).collect();
    inodes.extend(plan.entries.values().flatten());
    for (dir, name) in plan.entries.keys() {
        inodes.extend(super::items::Items::find_name(base, *dir, name)?.map(|entry| entry.ino));
    }
    let mut changes = difference(base, source, None)?;
    changes.retain(|change| {
        [change.old, change.new].iter().flatten().any(|version| inodes.contains(&version.ino))
    });
    Ok(changes)
}
