//! Files of a head whose content could not be compressed lately, and for how long they are left alone.

use crate::format::Ino;
use crate::volume::Gain;
use foldhash::HashMap;
use parking_lot::Mutex;

/// Frames in a row that must not have paid before a file is left alone.
const MISSES_MIN: u32 = 8;
/// For how many bytes a file is left alone at first, and at most.
const SKIP_BYTES_MIN: u64 = 1 << 20;
const SKIP_BYTES_MAX: u64 = 64 << 20;
/// Files that are remembered.
const FILES_MAX: usize = 4096;

/// Files whose content did not pay. For speed alone: it may forget at any time. Its lock is a leaf.
#[derive(Default)]
pub struct Misses(Mutex<HashMap<Ino, Miss>>);

#[derive(Clone, Copy, Default)]
struct Miss {
    in_a_row: u32,
    /// Length of the last break, in bytes, and how much of it is left.
    skip_bytes: u64,
    skip_left: u64,
}

impl Misses {
    /// True if content of a file is worth trying now.
    pub fn allow(&self, ino: Ino, len: u64) -> bool {
        let mut files = self.0.lock();
        let Some(miss) = files.get_mut(&ino).filter(|miss| miss.skip_left >= len) else { return true };
        miss.skip_left -= len;
        false
    }

    /// Notes what became of a part of a file.
    pub fn learn(&self, ino: Ino, gain: Gain) {
        if gain.tried == 0 {
            return;
        }
        let mut files = self.0.lock();
        let before = match gain.failed_last == gain.tried {
            true => files.get(&ino).copied().unwrap_or_default(),
            false => Miss::default(),
        };
        let in_a_row = before.in_a_row.saturating_add(gain.failed_last);
        if in_a_row == 0 {
            files.remove(&ino);
            return;
        }
        let mut miss = Miss { in_a_row, ..before };
        if in_a_row >= MISSES_MIN {
            miss.skip_bytes = (before.skip_bytes * 2).clamp(SKIP_BYTES_MIN, SKIP_BYTES_MAX);
            miss.skip_left = miss.skip_bytes;
        }
        if files.len() >= FILES_MAX {
            files.clear();
        }
        files.insert(ino, miss);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breaks_double_and_end_with_the_first_gain() {
        let (misses, ino) = (Misses::default(), Ino(20));
        let fail = |n: u32| misses.learn(ino, Gain { tried: n, failed_last: n });
        let skipped = || (0..).take_while(|_| !misses.allow(ino, 1 << 20)).count();
        fail(7);
        assert_eq!(skipped(), 0);
        misses.learn(ino, Gain::default());
        fail(1);
        assert_eq!(skipped(), 1);
        for expected in [2, 4, 8, 16, 32, 64, 64] {
            fail(1);
            assert_eq!(skipped(), expected);
        }
        misses.learn(ino, Gain { tried: 9, failed_last: 7 });
        assert_eq!(skipped(), 0);
        fail(1);
        assert_eq!(skipped(), 1);
        misses.learn(ino, Gain { tried: 1, failed_last: 0 });
        assert!(misses.0.lock().is_empty());
        (16..16 + 2 * FILES_MAX as u64).for_each(|n| misses.learn(Ino(n), Gain { tried: 1, failed_last: 1 }));
        assert!(misses.0.lock().len() <= FILES_MAX);
    }
}
