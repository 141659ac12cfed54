//! Ways down from a view in few steps: of each snapshot one that is far below it, and of each hidden view the next one
//! that is not hidden.
//!
//! A view takes memory of one size however many are below it, so any number of lines may have a long past in common. What
//! is kept here only makes ways shorter: views that go leave gaps, which are stepped over, and now and then all is made anew.

use super::History;
use crate::format::view::{Role, ViewRecord};
use crate::format::{Epoch, ViewId};

/// Removals after which all is made anew, at least.
const REMOVALS_MIN: usize = 64;
/// And at least one of so many views.
const REMOVALS_SHARE: usize = 16;

impl History {
    /// Makes all ways anew if many views went since that was done. Every view knows the one below it.
    pub(super) fn tend_ways(&mut self) {
        let most = (self.views.len() / REMOVALS_SHARE).max(REMOVALS_MIN);
        if self.ways.removed < most {
            return;
        }
        self.ways = Default::default();
        let places = self.views.values().filter(|v| v.role != Role::Head);
        let mut places: Vec<_> = places.map(|v| (v.epoch, v.id, v.prev)).collect();
        // Epochs ascend on every way up.
        places.sort_unstable();
        places.into_iter().for_each(|(_, id, prev)| self.ways.add(id, prev));
    }

    /// The newest of a view and those below it that is older than `epoch`, and the one above that on the way.
    pub fn older_than(&self, epoch: Epoch, from: ViewId) -> (Option<&ViewRecord>, Option<ViewId>) {
        let (mut at, mut above) = (self.views.get(&from), None);
        while let Some(view) = at.filter(|v| v.epoch >= epoch) {
            let far = self.ways.target(Some(view.id)).and_then(|far| self.views.get(&far));
            at = far.filter(|far| far.epoch >= epoch).or_else(|| {
                above = Some(view.id);
                self.views.get(&view.prev?)
            });
        }
        (at, above)
    }

    /// True if `view` is `from` or below it.
    pub fn is_below(&self, view: ViewId, from: ViewId) -> bool {
        let next = self.views.get(&view).map(|v| v.epoch.next());
        next.is_some_and(|next| self.older_than(next, from).0.is_some_and(|found| found.id == view))
    }

    /// Number of views below one, with a few that are gone.
    pub fn depth(&self, view: ViewId) -> usize {
        self.ways.depth(self.views.get(&view).and_then(|v| v.prev))
    }

    /// Snapshots from a view down, newest first, also those without a line.
    pub fn snapshots_down_from(&self, view: ViewId) -> impl Iterator<Item = &ViewRecord> {
        let next = |id: Option<ViewId>| self.views.get(&self.shown_below(id)?);
        std::iter::successors(next(Some(view)), move |v| next(v.prev))
    }

    /// The first view that is not hidden, from this one down.
    fn shown_below(&self, from: Option<ViewId>) -> Option<ViewId> {
        let mut at = from;
        while let Some(id) = at.filter(|id| self.is_passed(*id)) {
            at = self.skip(id);
        }
        at
    }

    /// The same, and makes the way shorter for whoever comes after.
    pub(super) fn find_shown_below(&mut self, from: Option<ViewId>) -> Option<ViewId> {
        let (found, mut at) = (self.shown_below(from), from);
        while let Some(id) = at.filter(|id| self.is_passed(*id)) {
            at = self.skip(id);
            self.ways.skips.insert(id, found);
        }
        found
    }

    fn is_passed(&self, id: ViewId) -> bool {
        self.views.get(&id).is_none_or(|v| v.role == Role::Hidden)
    }

    fn skip(&self, id: ViewId) -> Option<ViewId> {
        match self.ways.skips.get(&id) {
            Some(below) => *below,
            None => self.views.get(&id)?.prev,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Point;
    use super::*;
    use crate::format::provenance::Provenance;
    use crate::format::view::Consistency;
    use crate::format::{Generation, LineId, Slot};

    fn point(h: &mut History, head: ViewId, epoch: u64) -> ViewId {
        let point = Point {
            identity: None,
            epoch: Epoch(epoch),
            name: b"x".to_vec(),
            slot: Slot(1),
            generation: Generation(1),
            created: (1, 2),
            consistency: Consistency::Crash,
            provenance: Provenance::default(),
        };
        h.point(head, point)
    }

    /// Takes a view out as a deletion does, but for its lists.
    fn unlink(h: &mut History, view: ViewId) {
        let prev = h.view(view).prev;
        let children = h.children.remove(&view).unwrap_or_default();
        h.views.remove(&view);
        children.iter().for_each(|c| h.view_mut(*c).prev = prev);
        if let Some(prev) = prev {
            let siblings = h.children.entry(prev).or_default();
            siblings.retain(|c| *c != view);
            siblings.extend(children);
        }
        h.ways.remove(view, prev);
        h.tend_ways();
    }

    fn walk(h: &History, from: Option<ViewId>) -> Vec<&ViewRecord> {
        std::iter::successors(from.and_then(|id| h.get(id)), |v| h.get(v.prev?)).collect()
    }

    #[test]
    fn ways_lead_where_walking_leads() {
        for seed in 0..40 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (mut h, first) = History::new((0, 0));
            let mut heads = vec![first];
            for epoch in 1..400 {
                let places: Vec<_> = h.views().filter(|v| v.role != Role::Head).map(|v| v.id).collect();
                match rng.u8(0..20) {
                    0..=9 => {
                        point(&mut h, heads[rng.usize(0..heads.len())], epoch);
                    }
                    10 | 11 if !places.is_empty() => {
                        let from = places[rng.usize(0..places.len())];
                        if h.view(from).role == Role::Snapshot {
                            heads.push(h.fork(from, LineId(2), (0, 0)));
                        }
                    }
                    12 | 13 if !places.is_empty() => {
                        h.view_mut(places[rng.usize(0..places.len())]).role = Role::Hidden
                    }
                    14..=16 if !places.is_empty() => unlink(&mut h, places[rng.usize(0..places.len())]),
                    _ => {}
                }
                let head = heads[rng.usize(0..heads.len())];
                let prev = h.view(head).prev;
                let walked = walk(&h, prev);
                let ids = |views: &[&ViewRecord]| views.iter().map(|v| v.id).collect::<Vec<_>>();
                let shown: Vec<_> = walked.iter().copied().filter(|v| v.role == Role::Snapshot).collect();
                let (all, shown) = (ids(&walked), ids(&shown));
                assert!(h.depth(head) >= all.len());
                assert_eq!(ids(&h.snapshots_down_from(head).skip(1).collect::<Vec<_>>()), shown);
                let asked = Epoch(rng.u64(0..=epoch + 1));
                let at = walked.iter().position(|v| v.epoch < asked).unwrap_or(walked.len());
                if let Some(prev) = prev {
                    let (found, above) = h.older_than(asked, prev);
                    assert_eq!(found.map(|v| v.id), all.get(at).copied());
                    assert_eq!(above, at.checked_sub(1).map(|i| all[i]));
                    let other = h.views().nth(rng.usize(0..h.count())).unwrap().id;
                    assert_eq!(h.is_below(other, prev), all.contains(&other));
                }
                assert_eq!(h.find_shown_below(prev), shown.first().copied());
            }
        }
    }

    #[test]
    fn long_ways_take_few_steps() {
        let (mut h, head) = History::new((0, 0));
        for epoch in 1..=10_000 {
            point(&mut h, head, epoch);
        }
        let steps = |h: &History, epoch: u64| {
            let (mut at, mut n) = (h.view(head).prev, 0);
            while let Some(id) = at.filter(|id| h.view(*id).epoch.0 >= epoch) {
                let far = h.ways.target(Some(id));
                let far = far.filter(|far| h.get(*far).is_some_and(|v| v.epoch.0 >= epoch));
                (at, n) = (far.or(h.view(id).prev), n + 1);
            }
            n
        };
        assert!((1..=10_000).all(|epoch| steps(&h, epoch) < 60));
        let (all, mut rng) = ((1..10_000).step_by(3), fastrand::Rng::with_seed(1));
        for id in all.filter(|_| rng.bool()) {
            let id = h.views().find(|v| v.epoch == Epoch(id)).unwrap().id;
            unlink(&mut h, id);
        }
        assert!((1..=10_000).all(|epoch| steps(&h, epoch) < 200));
    }
}
