//! Which `.snapshots` the kernel knows, besides that of the root.
//!
//! Invariant: a directory is here from before the first answer that names its `.snapshots` with a time to live until the
//! kernel has taken back the last. Whoever changes the names of snapshots does so first, then asks here and tells the
//! kernel: an answer with the old state is dropped by that, or the kernel has not got it yet.

use crate::format::Ino;
use parking_lot::Mutex;
use std::collections::HashMap;

/// Most directories: each costs a change of snapshots a notification. What is kept of others has no time to live.
const KNOWN_MAX: usize = 1024;

/// Directories, and how many answers the kernel has with their `.snapshots`. Its lock is a leaf.
#[derive(Default)]
pub struct KnownSnapdirs(Mutex<HashMap<Ino, u64>>);

impl KnownSnapdirs {
    /// An answer is about to name the `.snapshots` of `dir`. True if it may be kept.
    pub fn answer(&self, dir: Ino) -> bool {
        let mut known = self.0.lock();
        if known.len() >= KNOWN_MAX && !known.contains_key(&dir) {
            return false;
        }
        *known.entry(dir).or_default() += 1;
        true
    }

    /// So many answers were taken back.
    pub fn forget(&self, dir: Ino, answers: u64) {
        let mut known = self.0.lock();
        if let Some(left) = known.get_mut(&dir) {
            *left = left.saturating_sub(answers);
            if *left == 0 {
                known.remove(&dir);
            }
        }
    }

    /// True if the kernel can be told about that of `dir`.
    pub fn contains(&self, dir: Ino) -> bool {
        self.0.lock().contains_key(&dir)
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// All of them.
    pub fn all(&self) -> Vec<Ino> {
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
        assert!(all.clone().all(|n| known.answer(Ino(n))) && known.answer(Ino(1)));
        assert!(!known.answer(Ino(5000)) && !known.contains(Ino(5000)));
        known.forget(Ino(5000), 1); // was never counted
        known.forget(Ino(1), 1);
        assert!(known.contains(Ino(1)) && known.all().len() == KNOWN_MAX);
        known.forget(Ino(1), 1);
        assert!(!known.contains(Ino(1)) && known.answer(Ino(5000)));
        all.for_each(|n| known.forget(Ino(n), 7));
        known.forget(Ino(5000), 1);
        assert!(known.is_empty());
    }
}
