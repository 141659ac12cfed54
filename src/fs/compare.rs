//! Two views of a file system, compared.

use super::difference::{FilePair, PathChange, all_paths, difference, file_pairs, patch};
use super::file_system::Fs;
use crate::format::Ino;
use crate::ops::{Error, NodeId, Result};
use crate::volume::View;
use std::sync::Arc;

/// Two views, which stay readable as long as this is there, and what became of paths from the one to the other.
pub struct Compared {
    old: Arc<View>,
    new: Arc<View>,
    /// In the order of their paths.
    pub changes: Vec<PathChange>,
}

impl Fs {
    /// The view that a word means about the line that a node is of: a snapshot by its name or by its age, as in the
    /// `.snapshots` of the line's root; `@live`; or `.clones/NAME`, of any line. What is live is there as a snapshot made now would hold it; changes are held up for as long as by one.
    pub fn view_of_word(&self, at: NodeId, word: &[u8]) -> Result<Arc<View>> {
        self.past.view_of_word(at, word)
    }

    /// Compares a view with a newer one. `under`: only what is, or was, this node of any view or below it. Costs what
    /// differs, and holds up nothing.
    pub fn compare(&self, old: Arc<View>, new: Arc<View>, under: Option<NodeId>) -> Result<Compared> {
        let changes = difference(&old, &new, under.map(|node| Ino(node.ino())))?;
        Ok(Compared { old, new, changes })
    }
}

impl Compared {
    /// The changes as a patch, part by part, until `put` has enough, which it says by false. What a patch cannot tell,
    /// directories among it, is left out.
    pub fn patch(&self, put: &mut dyn FnMut(Vec<u8>) -> bool) -> Result<()> {
        for pair in self.pairs()? {
            let part = patch(&self.old, &self.new, &pair).map_err(Error::from)?;
            if !part.is_empty() && !put(part) {
                break;
            }
        }
        Ok(())
    }

    /// The changes alone: the views are let go of.
    pub fn into_changes(self) -> Vec<PathChange> {
        self.changes
    }

    /// Every path that is not what it was, in order: of what was renamed both, and those of all that is below it. Costs what is
    /// below, too. The views are let go of.
    pub fn into_paths(self) -> Result<Vec<Vec<u8>>> {
        Ok(all_paths(&self.old, &self.new, &self.changes)?)
    }

    fn pairs(&self) -> Result<Vec<FilePair>> {
        Ok(file_pairs(&self.old, &self.new, &self.changes)?)
    }
}
