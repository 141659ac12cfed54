//! Which files of a head the kernel was told of, in a line that was rolled back while it was mounted.
//!
//! A request names a file by its number alone, which is the same in all heads of a line. A kernel that was told of a file in
//! this head knows it by its generation, and has put away what it knew by an older one; one that was not may ask for a file
//! of an older head, and then the answer is that it is gone. To be told once may not be enough: a kernel that asks for a name which it
//! knows only drops that name if the generation is another, and puts away the file when it asks again. Nothing is taken out: what a
//! kernel has forgotten it is told of again. The lock is a leaf.

use crate::format::Ino;
use foldhash::HashMap;
use parking_lot::Mutex;

/// Numbers of inodes, 64 to a word: those of files that were made together are neighbours.
#[derive(Default)]
pub struct Told(Mutex<HashMap<u64, Word>>);

#[derive(Clone, Copy, Default)]
struct Word {
    /// Those that it was told of.
    told: u64,
    /// Those of them of which it has no other any more by that number.
    sure: u64,
}

fn place(ino: Ino) -> (u64, u64) {
    (ino.0 / 64, 1 << (ino.0 % 64))
}

impl Told {
    /// The kernel is being told of it.
    pub fn add(&self, ino: Ino) {
        let (word, bit) = place(ino);
        let mut words = self.0.lock();
        let word = words.entry(word).or_default();
        word.sure |= word.told & bit;
        word.told |= bit;
    }

    /// The same, and it takes that in: it has asked to make or to open this one.
    pub fn add_surely(&self, ino: Ino) {
        let (word, bit) = place(ino);
        let mut words = self.0.lock();
        let word = words.entry(word).or_default();
        word.sure |= bit;
        word.told |= bit;
    }

    /// True if it was told.
    pub fn has(&self, ino: Ino) -> bool {
        let (word, bit) = place(ino);
        self.0.lock().get(&word).is_some_and(|word| word.told & bit != 0)
    }

    /// True if it was told twice, or has taken it in.
    pub fn is_sure(&self, ino: Ino) -> bool {
        let (word, bit) = place(ino);
        self.0.lock().get(&word).is_some_and(|word| word.sure & bit != 0)
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
        assert!(added.iter().all(|n| told.has(Ino(*n)) && !told.is_sure(Ino(*n))));
        assert!([1, 62, 65, (1 << 39) + 1].iter().all(|n| !told.has(Ino(*n))));
    }

    #[test]
    fn what_was_added_twice_or_taken_in_is_sure() {
        let told = Told::default();
        [7, 8, 7].into_iter().for_each(|n| told.add(Ino(n)));
        told.add_surely(Ino(9));
        assert_eq!([7, 8, 9].map(|n| told.is_sure(Ino(n))), [true, false, true]);
        assert!(told.has(Ino(9)));
    }
}
