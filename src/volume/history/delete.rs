//! Deleting views: one step over bucket items, and what is then to be reclaimed in the background.
//!
//! Invariant: what a deletion makes unreachable is named by its [`Reclaim`] exactly once. Only inside a commit, after
//! the frozen entries were appended.

use super::History;
use super::dead_set::DeadSet;
use super::deadlist::{self, ALL, Buckets, Meta, take_id};
use super::space::Cut;
use crate::format::deadlist::DeadEntry;
use crate::format::view::Role;
use crate::format::{BlockPtr, Epoch, Generation, LineId, Slot, ViewId};

use crate::tree::Result;
use std::collections::BTreeSet;

/// A tree that no view has any more. Blocks born up to `newer_than` belong to others: not even to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FreeTree {
    /// The view that it was.
    pub view: ViewId,
    /// Its root as the record had it.
    pub root: Option<BlockPtr>,
    /// All that was born later is to be freed.
    pub newer_than: Epoch,
}

/// What a deletion leaves to do, in any order and at any speed, but to be remembered over a crash.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reclaim {
    /// Lists to drain: their entries are to be freed.
    pub free_lists: Vec<u64>,
    /// Lists to drain: their entries are alive elsewhere, to be forgotten.
    pub drop_lists: Vec<u64>,
    /// Trees to walk and free.
    pub free_trees: Vec<FreeTree>,
}

impl Reclaim {
    /// That, too.
    pub fn extend(&mut self, more: Reclaim) {
        self.free_lists.extend(more.free_lists);
        self.drop_lists.extend(more.drop_lists);
        self.free_trees.extend(more.free_trees);
    }
}

/// A sweep that is under way: some hidden views, one after the other.
pub struct Sweep {
    list: u64,
    found: bool,
}

impl Sweep {
    /// What there is to free.
    pub fn end(self) -> Reclaim {
        let free_lists = if self.found { vec![self.list] } else { Vec::new() };
        Reclaim { free_lists, ..Reclaim::default() }
    }
}

impl History {
    /// Deletes a snapshot or drops a head. Only if [`History::deletable`]. What hidden views hold alone by this goes with
    /// the next sweep.
    pub fn delete(&mut self, view: ViewId, meta: &mut Meta) -> Result<Reclaim> {
        assert!(self.frozen.is_empty(), "deletions come after the append");
        assert!(self.deletable(view), "view {} can be deleted in this commit", view.0);
        let mut out = Reclaim::default();
        match self.children(view).len() {
            0 => self.cut_tail(view, meta, &mut out)?,
            1 => self.unlink(view, meta, &mut out)?,
            _ => self.hide(view),
        }
        Ok(out)
    }

    /// Frees what only hidden views hold, for each of them below which at least `grown_bytes_min` (and at least one)
    /// was freed since it was last swept. Costs nothing if nothing grew, bucket items if a child has nothing dead in the
    /// range, else the entries of the children's lists in the range: a commit may put it off by a larger minimum.
    pub fn sweep_hidden(&mut self, meta: &mut Meta, grown_bytes_min: u64) -> Result<Reclaim> {
        let due = self.due(grown_bytes_min);
        if due.is_empty() {
            return Ok(Reclaim::default());
        }
        let mut sweep = self.begin_sweep();
        due.into_iter().try_for_each(|view| self.sweep_view(view, &mut sweep, meta))?;
        Ok(sweep.end())
    }

    /// Hidden views that are to be swept, as [`History::sweep_hidden`] says. Any of them may be left out.
    pub fn due(&self, grown_bytes_min: u64) -> Vec<ViewId> {
        self.grown.keys().copied().filter(|view| self.is_due(*view, grown_bytes_min)).collect()
    }

    /// True if the view is among these.
    pub fn is_due(&self, view: ViewId, grown_bytes_min: u64) -> bool {
        self.grown.get(&view).is_some_and(|grown| *grown >= grown_bytes_min.max(1))
    }

    /// Begins to sweep some.
    pub fn begin_sweep(&mut self) -> Sweep {
        assert!(self.frozen.is_empty(), "sweeps come after the append");
        Sweep { list: take_id(&mut self.next_id), found: false }
    }

    /// A view without children goes; the one below lost a child.
    fn cut_tail(&mut self, view: ViewId, meta: &mut Meta, out: &mut Reclaim) -> Result<()> {
        let newer_than = self.base(view);
        let record = self.view(view);
        let (list, prev, root) = (record.list, record.prev, record.root);
        out.free_trees.push(FreeTree { view, root, newer_than });
        if !deadlist::is_empty(meta.read(), list)? {
            out.drop_lists.push(list);
        }
        self.pending.retain(|(l, _), _| *l != list);
        self.remove(view);
        let Some(prev) = prev else { return Ok(()) };
        let siblings = self.children.get_mut(&prev).expect("has the view as child");
        siblings.retain(|c| *c != view);
        match (self.view(prev).role == Role::Hidden, self.children(prev).len()) {
            (true, 1) => self.unlink(prev, meta, out),
            (true, _) => {
                self.mark(prev);
                Ok(())
            }
            (false, _) => self.count_exclusive(prev, meta),
        }
    }

    /// A view with one child goes: what was born after the view below it and freed on the way to the child is free.
    fn unlink(&mut self, view: ViewId, meta: &mut Meta, out: &mut Reclaim) -> Result<()> {
        let record = self.view(view);
        let (list, prev, written) = (record.list, record.prev, record.written);
        let own: Buckets = self.base(view)..ALL.end;
        let next = self.children(view)[0];
        let next_list = self.view(next).list;

        let free = take_id(&mut self.next_id);
        let freed = deadlist::move_buckets(meta, next_list, own.clone(), free)?;
        if freed > 0 {
            out.free_lists.push(free);
        }
        deadlist::splice(meta, list, next_list)?;
        // Deaths that wait for the next commit: `route` will free them.
        let pending = self.sum_pending(next_list, &own);
        self.pending.retain(|(l, b), _| !(*l == next_list && own.contains(b)));

        let delta = self.remove(view);
        let record = self.view_mut(next);
        record.prev = prev;
        record.written = record.written.saturating_add(written).saturating_sub(freed).saturating_sub(pending);
        self.late.shift_written(next, delta.written - pending as i64);
        self.touch(next);
        self.count_exclusive(next, meta)?;
        if let Some(prev) = prev {
            let siblings = self.children.get_mut(&prev).expect("has the view as child");
            siblings.iter_mut().filter(|c| **c == view).for_each(|c| *c = next);
            self.count_exclusive(prev, meta)?;
            self.mark(prev);
        }
        self.mark(next);
        self.tend_ways();
        Ok(())
    }

    /// A view with several children loses its line, name and slot, and keeps its place.
    fn hide(&mut self, view: ViewId) {
        let record = self.view_mut(view);
        record.role = Role::Hidden;
        record.line = LineId::NONE;
        record.name.clear();
        (record.slot, record.generation) = (Slot(0), Generation(0));
        record.exclusive = 0;
        // The sweep frees parts of the tree: nobody may walk it.
        record.root = None;
        self.touch(view);
        self.mark(view);
    }

    fn remove(&mut self, view: ViewId) -> super::late::Delta {
        let record = self.views.remove(&view).expect("a view that exists");
        self.children.remove(&view);
        self.lists.remove(&record.list);
        self.grown.remove(&view);
        self.grown_pending.remove(&view);
        self.dirty.remove(&view);
        self.removed.insert(view);
        self.gone.push((view, record.prev));
        self.ways.remove(view, record.prev);
        self.late.remove(view)
    }

    /// Counts again what only a snapshot holds, from its only child. Beside others, a clone made since the freeze does
    /// not count: the record that the commit writes has no such child, and the counter in memory is not used.
    fn count_exclusive(&mut self, view: ViewId, meta: &Meta) -> Result<()> {
        if self.view(view).role != Role::Snapshot {
            return Ok(());
        }
        let children = self.children(view);
        let mut known = children.iter().filter(|c| children.len() == 1 || !self.late.is_new(**c));
        let (bytes, pending) = match (known.next(), known.next()) {
            (Some(only), None) => {
                let (list, own) = (self.view(*only).list, self.base(view)..ALL.end);
                let pending = self.sum_pending(list, &own);
                (deadlist::sum(meta.read(), list, own)?.saturating_add(pending), pending)
            }
            _ => (0, 0),
        };
        self.view_mut(view).exclusive = bytes;
        self.late.set_exclusive(view, pending as i64);
        self.touch(view);
        Ok(())
    }

    /// Has a hidden view and the hidden ones right below it swept by the next sweep, and again after the next append. Below
    /// one that is to be swept so all are already.
    fn mark(&mut self, view: ViewId) {
        let (mut at, again) = (Some(view), !self.pending.is_empty());
        while let Some(v) = at.filter(|v| self.view(*v).role == Role::Hidden) {
            let marked = self.grown.insert(v, u64::MAX) == Some(u64::MAX);
            if (!again || self.grown_pending.insert(v, u64::MAX) == Some(u64::MAX)) && marked {
                break;
            }
            at = self.view(v).prev;
        }
    }

    /// Frees what only one hidden view holds.
    pub fn sweep_view(&mut self, view: ViewId, sweep: &mut Sweep, meta: &mut Meta) -> Result<()> {
        self.grown.remove(&view);
        let own = self.base(view)..self.view(view).epoch;
        if self.has_clean_child(view, &own, meta)? {
            return Ok(());
        }
        let none = BTreeSet::new();
        let gone = Cut::new(self, meta.read(), &none, view).dead_on_every_edge(view, &own)?;
        if gone.is_empty() {
            return Ok(());
        }
        sweep.found = true;
        let mut removed = Vec::new();
        for (n, child) in self.children(view).to_vec().into_iter().enumerate() {
            let taken = self.take_below(child, &own, &gone, meta)?;
            if n == 0 {
                removed = taken;
            }
        }
        removed.sort_by_key(|(bucket, e)| (*bucket, e.addr));
        for group in removed.chunk_by(|a, b| a.0 == b.0) {
            let entries: Vec<DeadEntry> = group.iter().map(|(_, e)| *e).collect();
            deadlist::append(meta, sweep.list, group[0].0, &entries, &mut self.next_id)?;
        }
        let record = self.view_mut(view);
        record.written = record.written.saturating_sub(gone.bytes());
        self.touch(view);
        Ok(())
    }

    /// True if a visible child has nothing dead in the range: then the intersection is empty.
    fn has_clean_child(&self, view: ViewId, own: &Buckets, meta: &Meta) -> Result<bool> {
        for child in self.children(view) {
            let record = self.view(*child);
            if record.role != Role::Hidden && deadlist::sum(meta.read(), record.list, own.clone())? == 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes `gone` out of the list of `child` and, as far as it is alive in a hidden child, of all lists above it.
    fn take_below(
        &self,
        child: ViewId,
        own: &Buckets,
        gone: &DeadSet,
        meta: &mut Meta,
    ) -> Result<Vec<(Epoch, DeadEntry)>> {
        let record = self.view(child);
        let mut taken = deadlist::remove(meta, record.list, own.clone(), gone)?;
        if record.role == Role::Hidden {
            let mut rest = gone.clone();
            for (_, e) in &taken {
                rest.take(e);
            }
            if !rest.is_empty() {
                for (n, next) in self.children(child).iter().enumerate() {
                    let above = self.take_below(*next, own, &rest, meta)?;
                    if n == 0 {
                        taken.extend(above);
                    }
                }
            }
        }
        Ok(taken)
    }
}
