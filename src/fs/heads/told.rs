//! Which files of a head the kernel was told of, in a line that was rolled back while it was mounted.
//!
//! A request names a file by its number alone, which is the same in all heads of a line. A kernel that was told of a file in
//! this head knows it by its generation, and has put away what it knew by an older one; one that was not may ask for a file
//! of an older head, and then the answer is that it is gone. Nothing is taken out: what a kernel has forgotten it is told of
//! again. The lock is a leaf.

use crate::format::Ino;
use foldhash::HashMap;
use parking_lot::Mutex;

/// Numbers of inodes, 64 to a word: those of files that were made together are neighbours.
#[derive(Default)]
pub struct Told(Mutex<HashMap<u64, u64>>);

fn place(ino: Ino) -> (u64, u64) {
    (ino.0 / 64, 1 << (ino.0 % 64))
}

impl Told {
    /// The kernel is being told of it.
    pub fn add(&self, ino: Ino) {
        let (word, bit) = place(ino);
        *self.0.lock().entry(word).or_default() |= bit;
    }

    /// True if it was.
    pub fn has(&self, ino: Ino) -> bool {
        let (word, bit) = place(ino);
        self.0.lock().get(&word).is_some_and(|bits| bits & bit != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_there_and_nothing_else() {
        let told = Told::default();
        let added = [0, 63, 64, 1 << 39];
        added.iter().for_each(|n| told.add(Ino(*n)));
        assert!(added.iter().all(|n| told.has(Ino(*n))));
        assert!([1, 62, 65, (1 << 39) + 1].iter().all(|n| !told.has(Ino(*n))));
    }
}
