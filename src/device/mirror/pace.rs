//! How long reads of a side have taken of late, and so how much longer than the other's they take.
//!
//! A side is slow if even the shortest of its last reads took much longer than the shortest of the other: one read that waited for a
//! processor, or for a disk that did something else, says nothing. Two that are about as fast count the same. Nothing here
//! is exact, and nothing but the choice of a side depends on it.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// Reads that are remembered.
const READS: usize = 8;
/// Who reads more at once is expected to wait longer, for each piece of so many bytes that begins.
const PIECE_BYTES: usize = 64 << 10;
/// A side is not slow as long as it takes no longer than this, in microseconds.
const SOON_MICROS: u32 = 500;
/// It is not slow, either, if it takes less than so many times as long as the other.
const FACTOR_MIN: u32 = 4;
/// It counts as no slower than this.
const FACTOR_MAX: u32 = 64;
/// Of so many reads that a slow side is passed over for, it gets one: it may be slow no more.
const PASSED_OVER_MAX: u32 = 32;

/// The last reads of one side. Any thread may call any method.
#[derive(Default)]
pub(super) struct ReadPace {
    /// In microseconds for each piece; 0 if there was none.
    micros: [AtomicU32; READS],
    next: AtomicUsize,
    passed_over: AtomicU32,
}

impl ReadPace {
    /// A read of so many bytes took so long.
    pub fn note(&self, took: Duration, len: usize) {
        let pieces = len.div_ceil(PIECE_BYTES).max(1) as u128;
        let micros = u32::try_from(took.as_micros() / pieces).unwrap_or(u32::MAX).max(1);
        self.micros[self.next.fetch_add(1, Relaxed) % READS].store(micros, Relaxed);
    }

    /// The shortest, if enough are known.
    fn shortest(&self) -> Option<u32> {
        self.micros.iter().map(|micros| micros.load(Relaxed)).min().filter(|micros| *micros > 0)
    }

    /// How long one read of it takes, as far as is known.
    pub fn one(&self) -> Duration {
        Duration::from_micros(self.shortest().unwrap_or(SOON_MICROS).max(SOON_MICROS).into())
    }

    /// How many reads of the other take as long as one of this side; 1 if it is not slow. As long as nothing is known of the other it
    /// may be faster than one that takes long.
    pub fn factor(&self, other: &ReadPace) -> usize {
        let Some(own) = self.shortest() else { return 1 };
        let factor = other.shortest().map_or(FACTOR_MIN, |other| own / other.max(SOON_MICROS / FACTOR_MIN));
        let is_slow = own > SOON_MICROS && factor >= FACTOR_MIN;
        if is_slow { factor.min(FACTOR_MAX) as usize } else { 1 }
    }

    /// It is slow, and the other is to be read: true if this one is to be read all the same, to see whether it still is.
    pub fn is_tried_again(&self) -> bool {
        (self.passed_over.fetch_add(1, Relaxed) + 1).is_multiple_of(PASSED_OVER_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(micros: &[u64]) -> ReadPace {
        let pace = ReadPace::default();
        micros.iter().for_each(|micros| pace.note(Duration::from_micros(*micros), 4096));
        pace
    }

    #[test]
    fn slow_is_what_takes_long_every_time() {
        let (fast, disk) = (pace(&[90; 8]), pace(&[7000; 8]));
        assert_eq!((disk.factor(&fast), fast.factor(&disk)), (56, 1));
        // Too little is known, or one of the last was soon done.
        assert_eq!(pace(&[7000; 7]).factor(&fast), 1);
        assert_eq!((disk.factor(&pace(&[])), fast.factor(&pace(&[]))), (FACTOR_MIN as usize, 1));
        assert_eq!(pace(&[7000, 7000, 7000, 80, 7000, 7000, 7000, 7000]).factor(&fast), 1);
        // Both are as fast as anybody needs, or one is hardly slower than the other.
        assert_eq!(pace(&[400; 8]).factor(&pace(&[3; 8])), 1);
        assert_eq!(disk.factor(&pace(&[3000; 8])), 1);
        assert_eq!(pace(&[9_000_000; 8]).factor(&fast), FACTOR_MAX as usize);
        // What it did before is forgotten, and much takes longer than little.
        (0..8).for_each(|_| disk.note(Duration::from_micros(7000), 1 << 20));
        assert_eq!(disk.factor(&fast), 1);
        assert_eq!((1..=64).filter(|_| disk.is_tried_again()).count(), 2);
    }
}
