//! From the present back to the oldest snapshot of a line, with what is seen of a path at each moment.

use super::sight::Sight;
use crate::format::ViewId;
use crate::volume::{Ancestor, Lineage, SnapshotInfo, View, Volume, VolumeError};
use std::sync::Arc;

type Result<T> = std::result::Result<T, VolumeError>;

/// A snapshot, or the present.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Moment {
    /// Now.
    Present,
    /// Then.
    Snapshot(Arc<SnapshotInfo>),
}

/// What is seen at a moment.
pub struct At {
    /// When.
    pub moment: Moment,
    /// All of it.
    pub view: Arc<View>,
    /// The path.
    pub sight: Sight,
}

/// What is made of it. Each says by false that it has enough.
pub trait Visitor {
    /// True if what lies below a directory counts as well.
    fn looks_below(&self) -> bool;
    /// The newest moment.
    fn begin(&mut self, newest: &At) -> Result<bool>;
    /// Nothing has happened to the path between the last moment and this older one.
    fn same(&mut self, older: &Moment);
    /// Something may have happened between the last moment and an older one.
    fn step(&mut self, newer: &At, older: &At) -> Result<bool>;
    /// There is nothing before the oldest moment.
    fn end(&mut self, oldest: &At) -> Result<()>;
}

/// Goes back in time from the newest view of a line, with what is seen of the path in it. `since`: that snapshot is what the last step is from, and there is no
/// end. Snapshots that are deleted meanwhile are passed over.
pub fn walk(
    volume: &Volume,
    newest: Arc<View>,
    sight: Sight,
    lineage: &Lineage,
    since: Option<ViewId>,
    visitor: &mut dyn Visitor,
) -> Result<()> {
    let mut now = At { moment: Moment::Present, view: newest, sight };
    let (mut below, mut quiet_since) = (lineage.newest_below, now.sight.quiet_since(&now.view)?);
    if !visitor.begin(&now)? {
        return Ok(());
    }
    let wanted = |ancestor: &&Ancestor| since.is_none_or(|since| ancestor.id >= since);
    for ancestor in lineage.snapshots.iter().rev().take_while(wanted) {
        let is_below = below == Some(ancestor.id);
        if is_below {
            below = ancestor.below;
        }
        let Some(info) = volume.snapshot_info(ancestor.id) else { continue };
        let moment = Moment::Snapshot(Arc::new(info));
        let looks_below = visitor.looks_below() && now.sight.has_directory();
        if is_below && ancestor.epoch >= quiet_since && !looks_below {
            visitor.same(&moment);
            now.moment = moment;
            continue;
        }
        let view = match volume.snapshot(ancestor.id) {
            Err(VolumeError::NoSuchView) => continue,
            view => view?,
        };
        // Of the last moment itself: what is above the file may have another name since.
        if let Moment::Snapshot(info) = &now.moment
            && let Ok(view) = volume.snapshot(info.id)
        {
            now.view = view;
        }
        let sight = now.sight.in_view(&view, Some(&now.view))?;
        let older = At { moment, view, sight };
        if !visitor.step(&now, &older)? {
            return Ok(());
        }
        now = older;
        (below, quiet_since) = (ancestor.below, now.sight.quiet_since(&now.view)?);
    }
    if since.is_none() { visitor.end(&now) } else { Ok(()) }
}
