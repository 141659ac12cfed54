//! Records of views as of the freeze of the open commit, and which views it may delete.

use super::History;
use crate::format::ViewId;
use crate::format::view::{Role, ViewRecord};

impl History {
    /// False while a change since the freeze concerns the view: it was made or cloned since, or written to. To be tried
    /// again in the next commit. Hidden views are deleted already.
    pub fn deletable(&self, view: ViewId) -> bool {
        let Some(record) = self.get(view) else { return false };
        let changed = record.role == Role::Head
            && (self.late.deltas.contains_key(&view) || self.late.stand_in.contains_key(&view));
        record.role != Role::Hidden
            && !self.late.created.contains(&view)
            && !changed
            && !self.children(view).iter().any(|c| self.late.is_new(*c))
            && !record.prev.is_some_and(|prev| self.has_late_child(prev))
    }

    /// True if a head was made on a hidden view since the freeze: the records that the open commit writes do not count it,
    /// and without another of those that they do a view would be hidden in them for nothing.
    fn has_late_child(&self, view: ViewId) -> bool {
        let is_child =
            |v: &ViewId| self.late.is_new(*v) && self.get(*v).is_some_and(|v| v.prev == Some(view));
        self.view(view).role == Role::Hidden && self.late.created.iter().any(is_child)
    }

    /// Notes that the open commit changed a view.
    pub(super) fn touch(&mut self, view: ViewId) {
        let name = self.late.committed_name(view);
        self.dirty.insert(name);
    }

    /// Views that the open commit removed, and those below them, in order.
    pub fn take_gone(&mut self) -> Vec<(ViewId, Option<ViewId>)> {
        std::mem::take(&mut self.gone)
    }

    /// Step 4 of the commit: records to write, and numbers of those to remove, as far as they were ever written.
    pub fn take_records(&mut self) -> (Vec<ViewRecord>, Vec<ViewId>) {
        let dirty = std::mem::take(&mut self.dirty);
        let records = dirty.into_iter().filter_map(|v| self.committed(v)).collect();
        (records, std::mem::take(&mut self.removed).into_iter().collect())
    }

    /// A view as of the freeze and the deletions since.
    fn committed(&self, view: ViewId) -> Option<ViewRecord> {
        let record = self.get(view).filter(|_| !self.late.created.contains(&view))?;
        let source = self.late.stand_in.get(&view).copied().unwrap_or(view);
        let delta = self.late.deltas.get(&source).copied().unwrap_or_default();
        let place = self.view(source);
        let identity = self.late.identities.get(&view).filter(|_| record.role != Role::Hidden);
        let (line, name) = identity.cloned().unwrap_or_else(|| (record.line, record.name.clone()));
        Some(ViewRecord {
            line,
            name,
            prev: place.prev,
            list: place.list,
            referenced: place.referenced.saturating_add_signed(delta.referenced.saturating_neg()),
            written: place.written.saturating_add_signed(delta.written.saturating_neg()),
            exclusive: if record.role == Role::Head {
                0
            } else {
                place.exclusive.saturating_add_signed(delta.exclusive.saturating_neg())
            },
            ..record.clone()
        })
    }
}
