//! The past of a path, for commands: its versions, and what happened to it.

use super::difference::Paths;
use super::file_system::Fs;
use super::options::{CLONEDIR_NAME, SnapdirMode};
use super::timeline::{LogEntry, PathLog, PathVersion, Place, Sight, Versions, Visitor, walk};
use crate::format::{Ino, ViewId};
use crate::ops::{Error, NodeId, NodeKind, Result};
use crate::volume::View;

/// A path as it is asked for, whether anything is there now or not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PathAsked {
    /// The last directory on the way that is there now: of a live tree, or of a snapshot. Without names it is a root.
    pub dir: NodeId,
    /// Names below it.
    pub names: Vec<Vec<u8>>,
}

impl Fs {
    /// The versions of a file or directory in the snapshots of its line and at present, newest first, until `put` has enough,
    /// which it says by false. `NotFound`: nothing was ever there, as far as snapshots tell.
    pub fn versions(&self, asked: &PathAsked, put: &mut dyn FnMut(PathVersion) -> bool) -> Result<()> {
        let mut versions = Versions::new(put);
        self.walk_back(asked, None, &mut versions)?;
        if versions.found > 0 { Ok(()) } else { Err(Error::NotFound) }
    }

    /// What happened to a path, snapshot by snapshot, newest first; of a directory, what happened below it. `since`: the word
    /// for the snapshot of the line after which it begins.
    pub fn path_log(
        &self,
        asked: &PathAsked,
        since: Option<ViewId>,
        put: &mut dyn FnMut(LogEntry) -> bool,
    ) -> Result<()> {
        let mut log = PathLog::new(put);
        self.walk_back(asked, since, &mut log)?;
        if log.seen { Ok(()) } else { Err(Error::NotFound) }
    }

    /// How to reach, from the root of the mount, the line that a node is of: nothing, or a path with a slash behind it.
    pub fn way_to_line(&self, at: NodeId) -> Result<Vec<u8>> {
        let head = self.heads.at(at)?;
        if head.line == self.heads.main().line {
            return Ok(Vec::new());
        }
        Ok([CLONEDIR_NAME, b"/", &self.volume().line(head.line)?.name, b"/"].concat())
    }

    /// The same of a snapshot, from the root of its line; none where snapshots are not shown.
    pub fn way_to_snapshot(&self, name: &[u8]) -> Option<Vec<u8>> {
        let options = &self.heads.options;
        let is_shown = options.snapdir != SnapdirMode::Disabled;
        is_shown.then(|| [&options.snapdir_name[..], b"/", name, b"/"].concat())
    }

    fn walk_back(&self, asked: &PathAsked, since: Option<ViewId>, visitor: &mut dyn Visitor) -> Result<()> {
        if !matches!(asked.dir.kind(), NodeKind::Live | NodeKind::Snapshot) {
            return Err(Error::NotFound);
        }
        let head = self.heads.at(asked.dir)?;
        let from = match asked.dir.kind() {
            NodeKind::Snapshot => Some(self.heads.view_of(asked.dir)?),
            _ => None,
        };
        let lineage = self.volume().lineage(head.line)?;
        let newest = self.past.present(&head)?;
        let asked_of = from.as_deref().unwrap_or(&newest);
        let first = Sight::before_all(place(asked, asked_of)?).in_view(asked_of, None)?;
        // What has the path in a snapshot may have another now.
        let sight = match &from {
            Some(snapshot) => first.in_view(&newest, Some(snapshot))?,
            None => first,
        };
        Ok(walk(self.volume(), newest, sight, &lineage, since, visitor)?)
    }
}

fn place(asked: &PathAsked, view: &View) -> Result<Place> {
    let dir = Ino(asked.dir.ino());
    if asked.names.is_empty() {
        return Ok(Place::new(Ino::ROOT, b"", Vec::new()));
    }
    Ok(Place::new(dir, &Paths::new(view).directory(dir)?, asked.names.clone()))
}
