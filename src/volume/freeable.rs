//! What deleting snapshots would free.

use super::history::MetaRead;
use super::{Result, Volume};
use crate::format::ViewId;
use std::collections::BTreeSet;

impl Volume {
    /// Bytes that come back if all snapshots of a set are deleted, beyond what comes back of those that are already. Holds off
    /// commits while it reads the meta tree, and nobody else.
    pub fn would_free(&self, set: impl IntoIterator<Item = ViewId>) -> Result<u64> {
        let committer = self.committer.lock();
        let (history, going) = {
            let state = self.state.read();
            (state.history.clone(), state.deletes.iter().copied().collect::<BTreeSet<_>>())
        };
        let meta = MetaRead { pager: &self.shared.pager, root: &committer.meta_root };
        let all: BTreeSet<ViewId> = set.into_iter().chain(going.iter().copied()).collect();
        let freed = history.would_free(&all, meta)?;
        let anyway = if going.is_empty() { 0 } else { history.would_free(&going, meta)? };
        Ok(freed.saturating_sub(anyway))
    }
}
