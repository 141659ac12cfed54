//! Views by the words that users have for them, the present among them.

use super::snapdir::Past;
use crate::format::{Ino, Slot};
use crate::fs::heads::{Head, snapdir_node};
use crate::ops::{Error, NodeId, Result};
use crate::volume::View;
use std::sync::Arc;

/// The word for the live tree.
const LIVE: &[u8] = b"@live";
/// How the word for a clone begins.
const CLONE_PREFIX: &[u8] = b".clones/";

impl Past {
    /// The view that a word means about the line that a node is of: a snapshot by its name or by its age, as in the
    /// `.snapshots` of the line's root; `@live`; or `.clones/NAME`, of any line. What it holds stays readable as long as the answer is there.
    pub fn view_of_word(&self, at: NodeId, word: &[u8]) -> Result<Arc<View>> {
        let heads = &self.commits.heads;
        if let Some(head) = self.head_of_word(at, word)? {
            return self.present(&head);
        }
        if matches!(word, b"." | b"..") {
            return Err(Error::NotFound);
        }
        let snapdir = snapdir_node(heads.at(at)?.node(Ino::ROOT));
        let slot = self.find_in_snapdir(snapdir, word)?.attr.node.slot();
        heads.snapshot_at(Slot(slot))
    }

    /// The head that a word means, if it means what is live.
    pub fn head_of_word(&self, at: NodeId, word: &[u8]) -> Result<Option<Arc<Head>>> {
        let heads = &self.commits.heads;
        if word == LIVE {
            return heads.at(at).map(Some);
        }
        let Some(name) = word.strip_prefix(CLONE_PREFIX) else { return Ok(None) };
        let line = heads.volume.find_line(name).filter(|_| !name.is_empty()).ok_or(Error::NotFound)?;
        heads.all().into_iter().find(|head| head.line == line.id).ok_or(Error::NotFound).map(Some)
    }

    /// A head as a snapshot that is made now would hold it, without making one: what the kernel and the head hold back is
    /// brought in. Changes are held up for as long as by a snapshot.
    pub fn present(&self, head: &Arc<Head>) -> Result<Arc<View>> {
        let heads = &self.commits.heads;
        if heads.is_read_only() {
            if head.delayed_bytes() > 0 {
                let what =
                    "what a crash has left in the log is not part of the tree while nothing may be written";
                return Err(Error::Io(what.into()));
            }
            return Ok(Arc::new(heads.view(head)?));
        }
        self.write_back(head)?;
        // What a commit has placed is held back no more, and not to be seen before it is through with that.
        let no_commit = self.commits.hold_off();
        if head.delayed_bytes() == 0 {
            return Ok(Arc::new(heads.view(head)?));
        }
        let view = self.commits.complete(std::slice::from_ref(head), &mut |_| (), &mut |prepare| {
            heads.volume.complete_view(head.line, prepare)
        })?;
        drop(no_commit);
        self.commits.outlive()?;
        Ok(Arc::new(view))
    }
}
