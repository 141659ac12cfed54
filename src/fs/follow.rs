//! What changes in a line, as it happens: views of it at moments of the caller's choice, each compared with the one before.
//!
//! No snapshot is made. Between two moments the view of the first is held, as by a reader; where nothing has changed it is
//! exchanged for one of now, so that nothing that others free meanwhile is kept from being used again. A line in which
//! nothing happens is looked at without any call of the device.

use super::difference::{PathChange, difference};
use super::file_system::Fs;
use crate::format::Ino;
use crate::ops::{NodeId, Result};
use crate::volume::View;
use std::sync::Arc;

/// The kernel may hold pages of files that are open for writing in a line in which nothing seems to happen: it is asked for them
/// after so many looks that found nothing.
const LOOKS_BEFORE_ASKING: u32 = 5;

/// Follows one line. One thread.
pub struct Follow {
    fs: Arc<Fs>,
    at: NodeId,
    under: Option<NodeId>,
    last: Arc<View>,
    /// Looks that found nothing, since something was found or the kernel was asked.
    quiet: u32,
}

impl Fs {
    /// Follows the line that a node is of, from the view that a word means. `under`: only what is, or was, this node or below it.
    pub fn follow(self: &Arc<Fs>, at: NodeId, since: &[u8], under: Option<NodeId>) -> Result<Follow> {
        let last = self.view_of_word(at, since)?;
        Ok(Follow { fs: self.clone(), at, under, last, quiet: LOOKS_BEFORE_ASKING })
    }
}

impl Follow {
    /// What has changed since the view that it began with, or since it was asked last, in the order of the paths. Costs what
    /// differs; brings in what is held back as a snapshot does, if anything is.
    pub fn changes(&mut self) -> Result<Vec<PathChange>> {
        let heads = &self.fs.heads;
        let head = heads.at(self.at)?;
        let published = heads.view(&head)?;
        let nothing_seen = published.is_same_tree(&self.last) && head.delayed_bytes() == 0;
        if nothing_seen && self.quiet < LOOKS_BEFORE_ASKING {
            self.quiet += 1;
            self.last = Arc::new(published);
            return Ok(Vec::new());
        }
        drop(published);
        let now = self.fs.past.present(&head)?;
        let changes = if now.is_same_tree(&self.last) {
            Vec::new()
        } else {
            difference(&self.last, &now, self.under.map(|node| Ino(node.ino())))?
        };
        self.last = now;
        self.quiet = if changes.is_empty() { 1 } else { LOOKS_BEFORE_ASKING };
        Ok(changes)
    }
}
