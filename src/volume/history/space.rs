//! What deleting views would free: sums of buckets along chains, sets of references where branches meet.
//!
//! A component is a view to be deleted and those above it that are to be deleted too, hidden ones always. What was
//! born in it is freed exactly if it is dead on every way out of it.
//!
//! Deaths that wait for the next commit count along chains, but not where branches meet: there the answer is as of the
//! last commit.

use super::History;
use super::dead_set::DeadSet;
use super::deadlist::{self, ALL, Buckets, MetaRead};
use crate::format::ViewId;
use crate::format::view::{Role, ViewRecord};
use crate::tree::Result;
use std::collections::BTreeSet;

impl History {
    /// Bytes that no other visible view reaches: what deleting just this view frees. A counter, but for views that
    /// meet a branch: there it costs the entries of the lists concerned. 0 for a hidden view.
    pub fn exclusive(&self, view: ViewId, meta: MetaRead) -> Result<u64> {
        match self.get(view).filter(|r| r.role != Role::Hidden) {
            None => Ok(0),
            Some(record) => match self.counted_exclusive(record) {
                Some(bytes) => Ok(bytes),
                None => self.would_free(&BTreeSet::from([view]), meta),
            },
        }
    }

    /// The same if a counter tells it: none for a view that meets a branch, or was deleted and is part of one.
    pub fn counted_exclusive(&self, record: &ViewRecord) -> Option<u64> {
        let hidden = |v: &ViewId| self.view(*v).role == Role::Hidden;
        match self.children(record.id) {
            _ if record.role == Role::Hidden || record.prev.is_some_and(|p| hidden(&p)) => None,
            [] => Some(record.written),
            [only] if !hidden(only) => Some(record.exclusive),
            _ => None,
        }
    }

    /// Bytes that deleting all views of a set would free: what they reach and no visible view outside the set does.
    pub fn would_free(&self, set: &BTreeSet<ViewId>, meta: MetaRead) -> Result<u64> {
        let visible = |v: &&ViewId| self.get(**v).is_some_and(|r| r.role != Role::Hidden);
        let set: BTreeSet<ViewId> = set.iter().filter(visible).copied().collect();
        let bottoms: BTreeSet<ViewId> = set.iter().filter_map(|v| self.bottom(*v, &set)).collect();
        let (mut freed, mut anyway, none) = (0u64, 0u64, BTreeSet::new());
        for bottom in bottoms {
            let cut = Cut::new(self, meta, &set, bottom);
            freed = freed.saturating_add(cut.freed(bottom)?);
            // What hidden views hold alone goes with the next sweep, whatever is deleted.
            for v in cut.members.iter().filter(|v| self.view(**v).role == Role::Hidden) {
                if self.view(*v).prev.is_none_or(|p| self.view(p).role != Role::Hidden) {
                    anyway = anyway.saturating_add(Cut::new(self, meta, &none, *v).freed(*v)?);
                }
            }
        }
        Ok(freed.saturating_sub(anyway))
    }

    /// The bottom of the component of `view`; none if another view of the set is nearer to it.
    fn bottom(&self, view: ViewId, set: &BTreeSet<ViewId>) -> Option<ViewId> {
        let mut at = view;
        loop {
            match self.view(at).prev {
                Some(p) if set.contains(&p) => return None,
                Some(p) if self.view(p).role == Role::Hidden => at = p,
                _ => return Some(at),
            }
        }
    }
}

/// A component: `bottom` and what hangs together above it of `set` and the hidden views.
pub(super) struct Cut<'a> {
    history: &'a History,
    meta: MetaRead<'a>,
    set: &'a BTreeSet<ViewId>,
    members: Vec<ViewId>,
    /// Members above which nothing remains.
    whole: BTreeSet<ViewId>,
}

impl<'a> Cut<'a> {
    pub fn new(
        history: &'a History,
        meta: MetaRead<'a>,
        set: &'a BTreeSet<ViewId>,
        bottom: ViewId,
    ) -> Cut<'a> {
        let mut cut = Cut { history, meta, set, members: vec![bottom], whole: BTreeSet::new() };
        let mut next = 0;
        while let Some(v) = cut.members.get(next).copied() {
            next += 1;
            let above: Vec<ViewId> = history.children(v).iter().filter(|c| cut.gone(**c)).copied().collect();
            cut.members.extend(above);
        }
        for v in cut.members.iter().rev() {
            if history.children(*v).iter().all(|c| cut.whole.contains(c)) {
                cut.whole.insert(*v);
            }
        }
        cut
    }

    fn gone(&self, view: ViewId) -> bool {
        self.set.contains(&view) || self.history.view(view).role == Role::Hidden
    }

    /// Children through which something may remain.
    fn ways_out(&self, view: ViewId) -> Vec<ViewId> {
        let children = self.history.children(view).iter();
        children.filter(|c| !self.whole.contains(c)).copied().collect()
    }

    /// Bytes born in the component from `bottom` up that are dead on every way out.
    pub fn freed(&self, bottom: ViewId) -> Result<u64> {
        let h = self.history;
        let mut freed: u64 = 0;
        // A member, the oldest bucket that counts, and the bytes from there on that are alive in it.
        let mut work = vec![(bottom, h.base(bottom), h.view(bottom).written)];
        while let Some((v, oldest, alive)) = work.pop() {
            for c in h.children(v).iter().filter(|c| self.whole.contains(c)) {
                freed = freed.saturating_add(self.written_from(*c));
            }
            match self.ways_out(v)[..] {
                [] => freed = freed.saturating_add(alive),
                [c] => {
                    let record = h.view(c);
                    let dead = h.sum(self.meta, record.list, oldest..ALL.end)?;
                    freed = freed.saturating_add(dead);
                    if self.gone(c) {
                        let alive = alive.saturating_sub(dead).saturating_add(record.written);
                        work.push((c, oldest, alive));
                    }
                }
                ref several => {
                    let own = oldest..h.view(v).epoch;
                    freed = freed.saturating_add(self.dead_on_every_edge(v, &own)?.bytes());
                    let above = several.iter().filter(|c| self.gone(**c));
                    work.extend(above.map(|c| (*c, h.view(v).epoch, h.view(*c).written)));
                }
            }
        }
        Ok(freed)
    }

    /// Bytes born in a member and above it that are alive in the view in which they came to be.
    fn written_from(&self, view: ViewId) -> u64 {
        let (mut sum, mut work) = (0u64, vec![view]);
        while let Some(v) = work.pop() {
            sum = sum.saturating_add(self.history.view(v).written);
            work.extend(self.history.children(v));
        }
        sum
    }

    /// What is alive in a member with a way out, was born in the range, and remains through none.
    pub fn dead_on_every_edge(&self, view: ViewId, range: &Buckets) -> Result<DeadSet> {
        let mut common: Option<DeadSet> = None;
        for c in self.ways_out(view) {
            let dead = self.dead_through(c, range)?;
            let both = match common {
                Some(sofar) => sofar.intersection(&dead),
                None => dead,
            };
            if both.is_empty() {
                return Ok(both);
            }
            common = Some(both);
        }
        Ok(common.unwrap_or_default())
    }

    /// What is alive below `child`, was born in the range, and remains neither in it nor, if it goes too, above it.
    fn dead_through(&self, child: ViewId, range: &Buckets) -> Result<DeadSet> {
        let (mut dead, mut at) = (DeadSet::new(), child);
        loop {
            for (_, e) in deadlist::entries(self.meta, self.history.view(at).list, range.clone())? {
                dead.insert(&e);
            }
            if !self.gone(at) {
                return Ok(dead);
            }
            match self.ways_out(at)[..] {
                [only] => at = only,
                _ => {
                    dead.extend(&self.dead_on_every_edge(at, range)?);
                    return Ok(dead);
                }
            }
        }
    }
}
