//! Restore: what was, once more, in the line as it is.

use super::file_system::Fs;
use super::transfer::{ChangeOrder, Done, Refusal, Settled, TakenFrom, between, change_at_once};
use crate::format::provenance::Provenance;
use crate::ops::NodeId;
use crate::volume::View;
use std::sync::Arc;

impl Fs {
    /// Makes the line that a node is of, all of it, what a snapshot is; nothing if it is that already.
    pub fn restore_line(
        &self,
        at: NodeId,
        view: &Arc<View>,
        provenance: &Provenance,
    ) -> Result<Option<Done>, Refusal> {
        let head = self.heads.at(at)?;
        let order = ChangeOrder { head: &head, other: None, provenance };
        change_at_once(&self.past, &order, &mut |sides| {
            let plan = between(sides.target, view)?;
            Ok(Some(Settled { plan, source: TakenFrom::View(view.clone()), base: None }))
        })
    }
}
