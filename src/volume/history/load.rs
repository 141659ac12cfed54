//! From the records of the meta tree to a history, after proving that they are a forest.

use super::History;
use crate::format::ids::COUNTER_MAX;
use crate::format::view::{Role, ViewRecord};
use crate::format::{Epoch, FormatError, ViewId, bad};
use std::collections::BTreeSet;

impl History {
    /// The history of a store from its records, in any order, and the counters of its superblock. Every hidden view
    /// counts as grown, so that the first sweep does what a crash may have put off.
    pub fn from_records(
        records: Vec<ViewRecord>,
        next_view: ViewId,
        next_id: u64,
    ) -> Result<History, FormatError> {
        let mut history = History::empty(next_view.0, next_id);
        let mut epochs = BTreeSet::new();
        // Ancestors first: epochs ascend along every branch, and heads come last.
        let mut records = records;
        records.sort_by_key(|r| (r.role == Role::Head, r.epoch, r.id));
        for record in records {
            let id = record.id.0;
            if id == 0 || record.id >= next_view || next_view.0 > COUNTER_MAX {
                return bad!("view {id} is not below the next number {}", next_view.0);
            }
            if history.views.contains_key(&record.id) {
                return bad!("view {id} has two records");
            }
            if record.list == 0 || record.list >= next_id || history.lists.contains_key(&record.list) {
                return bad!("view {id} has dead list {}, taken or not below {next_id}", record.list);
            }
            if record.role == Role::Head {
                if record.epoch != Epoch(0) {
                    return bad!("head {id} has epoch {} instead of 0", record.epoch.0);
                }
            } else if record.epoch == Epoch(0) || !epochs.insert(record.epoch) {
                return bad!("view {id} has epoch {}, which is 0 or another's", record.epoch.0);
            }
            if let Some(prev) = record.prev {
                match history.get(prev) {
                    Some(p) if p.role != Role::Head => {}
                    _ => return bad!("view {id} descends from {}, which is no older snapshot", prev.0),
                }
            }
            history.add(record);
        }
        let hidden: Vec<ViewId> = history.views().filter(|v| v.role == Role::Hidden).map(|v| v.id).collect();
        for id in hidden {
            if history.children(id).len() < 2 {
                return bad!(
                    "hidden view {} has {} children, fewer than 2",
                    id.0,
                    history.children(id).len()
                );
            }
            history.grown.insert(id, u64::MAX);
        }
        Ok(history)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{History, Point};
    use super::*;
    use crate::format::view::Consistency;
    use crate::format::{Generation, LineId, Slot};

    fn records() -> (Vec<ViewRecord>, ViewId, u64) {
        let (mut h, head) = History::new((1, 2));
        let point = |n| Point {
            identity: None,
            provenance: crate::format::provenance::Provenance::default(),
            epoch: Epoch(n),
            name: vec![b'a' + n as u8],
            slot: Slot(n as u32),
            generation: Generation(n as u32),
            created: (3, 4),
            consistency: Consistency::FileSystem,
        };
        let first = h.point(head, point(5));
        h.point(head, point(6));
        let clone = h.fork(first, LineId(2), (0, 0));
        h.point(clone, point(9));
        let (view, id) = h.next_ids();
        (h.views().cloned().collect(), view, id)
    }

    #[test]
    fn a_forest_comes_back_whatever_the_order() {
        let (mut all, view, id) = records();
        let expected = all.clone();
        fastrand::Rng::with_seed(5).shuffle(&mut all);
        let h = History::from_records(all, view, id).unwrap();
        assert_eq!(h.views().cloned().collect::<Vec<_>>(), expected);
        let past = |head| h.snapshots_down_from(head).skip(1).map(|v| v.epoch).collect::<Vec<_>>();
        assert_eq!(past(ViewId(1)), [Epoch(6), Epoch(5)]);
        assert_eq!(past(ViewId(4)), [Epoch(9), Epoch(5)]);
    }

    #[test]
    fn damage_is_an_error_not_a_panic() {
        let (all, view, id) = records();
        let mut rng = fastrand::Rng::with_seed(1);
        let mut refused = 0;
        for _ in 0..20_000 {
            let mut damaged = all.clone();
            let at = rng.usize(0..damaged.len());
            let r = &mut damaged[at];
            match rng.u8(0..5) {
                0 => r.id = ViewId(rng.u64(0..9)),
                1 => r.prev = Some(ViewId(rng.u64(0..9))),
                2 => r.list = rng.u64(0..12),
                3 => r.epoch = Epoch(rng.u64(0..12)),
                _ => r.role = [Role::Head, Role::Snapshot, Role::Hidden][rng.usize(0..3)],
            }
            match History::from_records(damaged, view, id) {
                Ok(h) => h.views().for_each(|r| assert!(r.prev.is_none_or(|p| h.get(p).is_some()))),
                Err(_) => refused += 1,
            }
        }
        assert!(refused > 5_000);
    }
}
