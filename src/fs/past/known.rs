//! Which `.snapshots` the kernel knows, besides that of the root.
//!
//! Invariant: a `.snapshots` is here from before the first answer that names it with a time to live until the
//! kernel has taken back the last. Whoever changes the names of snapshots does so first, then asks here and tells the
//! kernel: an answer with the old state is dropped by that, or the kernel has not got it yet.

use crate::ops::NodeId;
use foldhash::HashMap;
use parking_lot::Mutex;

/// Most of them: each costs a change of snapshots a notification. What is kept of others has no time to live.
const KNOWN_MAX: usize = 1024;

/// Those of all lines, and how many answers the kernel has with each. Its lock is a leaf.
#[derive(Default)]
pub struct KnownSnapdirs(Mutex<HashMap<NodeId, u64>>);

impl KnownSnapdirs {
    /// An answer is about to name the `.snapshots` of `dir`. True if it may be kept.
    pub fn answer(&self, snapdir: NodeId) -> bool {
        let mut known = self.0.lock();
        if known.len() >= KNOWN_MAX && !known.contains_key(&snapdir) {
            return false;
        }
        *known.entry(snapdir).or_default() += 1;
        true
    }

    /// So many answers were taken back.
    pub fn forget(&self, snapdir: NodeId, answers: u64) {
        let mut known = self.0.lock();
        if let Some(left) = known.get_mut(&snapdir) {
            *left = left.saturating_sub(answers);
            if *left == 0 {
                known.remove(&snapdir);
            }
        }
    }

    /// True if the kernel can be told about it.
    pub fn contains(&self, snapdir: NodeId) -> bool {
        self.0.lock().contains_key(&snapdir)
    }

    /// All of them.
    pub fn all(&self) -> Vec<NodeId> {
        self.0.lock().keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_until_the_last_answer_is_taken_back() {
        let known = KnownSnapdirs::default();
        let all = 1..=KNOWN_MAX as u64;
        let of = |ino| NodeId::snapdir(0, ino);
        assert!(all.clone().all(|n| known.answer(of(n))) && known.answer(of(1)));
        assert!(!known.answer(of(5000)) && !known.contains(of(5000)));
        known.forget(of(5000), 1); // was never counted
        known.forget(of(1), 1);
        assert!(known.contains(of(1)) && known.all().len() == KNOWN_MAX);
        assert!(!known.contains(NodeId::snapdir(3, 1)), "that of another line");
        known.forget(of(1), 1);
        assert!(!known.contains(of(1)) && known.answer(of(5000)));
        all.for_each(|n| known.forget(of(n), 7));
        known.forget(of(5000), 1);
        assert!(known.all().is_empty());
    }
}
