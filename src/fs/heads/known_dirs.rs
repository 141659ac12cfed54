//! Which directories of writable trees the kernel knows: what it keeps of them, and what it has in a place where no name is
//! asked for, it is told of when their line gets another head.
//!
//! Counted by answers that name one, and by what the kernel takes back. An answer that never came leaves a count behind, and
//! costs a notification that nobody needed. The lock is a leaf.

use crate::ops::NodeId;
use foldhash::HashMap;
use parking_lot::Mutex;

/// All of them, with the number of answers that the kernel has.
#[derive(Default)]
pub struct KnownDirs(Mutex<HashMap<NodeId, u64>>);

impl KnownDirs {
    /// An answer names it.
    pub fn answer(&self, dir: NodeId) {
        *self.0.lock().entry(dir).or_default() += 1;
    }

    /// So many answers were taken back.
    pub fn forget(&self, dir: NodeId, answers: u64) {
        let mut known = self.0.lock();
        if let Some(left) = known.get_mut(&dir) {
            *left = left.saturating_sub(answers);
            if *left == 0 {
                known.remove(&dir);
            }
        }
    }

    /// Those of a tree.
    pub fn of_tree(&self, tree: u32) -> Vec<NodeId> {
        self.0.lock().keys().filter(|dir| dir.tree() == tree).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_until_the_last_answer_is_taken_back() {
        let known = KnownDirs::default();
        let [a, b] = [NodeId::live(0, 7), NodeId::live(3, 7)];
        [a, a, b].into_iter().for_each(|dir| known.answer(dir));
        known.forget(a, 1);
        known.forget(b, 2);
        known.forget(NodeId::live(0, 9), 1);
        assert_eq!((known.of_tree(a.tree()), known.of_tree(b.tree())), (vec![a], Vec::new()));
        known.forget(a, 1);
        assert_eq!(known.of_tree(a.tree()), []);
    }
}
