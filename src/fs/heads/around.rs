//! What lies around small reads of an open file, and when to have the host read it ahead of the next one
//! (docs/decisions/0016); and whether large ones are a stream, for which the next leaves of the tree are wanted soon.
//!
//! The kernel asks for each block once and then keeps it, so a second small read of a cluster is of another block: then
//! the rest of the cluster will be asked for as well. Once many clusters were touched the whole file will be, and then
//! the first read of a cluster is enough. A cluster is named once in the life of a handle: whatever is read, the host
//! reads no more than the file in vain.

use crate::sys::process::memory_bytes;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Bytes of a cluster, aligned to as much. On an SSD a read of so much takes about half as long again as one of 4 KiB.
const CLUSTER_BYTES: u64 = 64 << 10;
/// A file of which this part of the clusters was touched is going to be read whole.
const DENSE_PART: usize = 8;
/// A file that takes more than this part of the memory is not kept by the host until it pays.
const MEMORY_PART: u64 = 4;

const UNTOUCHED: u8 = 0;
const TOUCHED: u8 = 1;
const NAMED: u8 = 2;

/// A read this near to the end of the one before goes on with it: parts of a stream are asked for side by side.
const STREAM_GAP_BYTES: u64 = 1 << 20;
/// Leaves are named for so many bytes of the file ahead of a stream, further ones when half of it has been read: more than the
/// kernel asks for at once, and few leaves in vain where the stream ends.
const STREAM_AHEAD_BYTES: u64 = 8 << 20;

/// The clusters of an open file. Any thread; two that touch one cluster at the same time may both name it.
#[derive(Default)]
pub struct Around {
    clusters: OnceLock<Clusters>,
    /// Where the last large read ended.
    end: AtomicU64,
    /// Up to where leaves were named.
    named: AtomicU64,
}

struct Clusters {
    states: Box<[AtomicU8]>,
    touched: AtomicUsize,
}

impl Clusters {
    /// Of a file of `size` bytes; what it grows later has none.
    fn new(size: u64, memory: u64) -> Clusters {
        let count = if size <= memory / MEMORY_PART { size.div_ceil(CLUSTER_BYTES) } else { 0 };
        Clusters {
            states: (0..count).map(|_| AtomicU8::new(UNTOUCHED)).collect(),
            touched: AtomicUsize::new(0),
        }
    }

    fn touch(&self, n: usize) -> bool {
        let Some(state) = self.states.get(n) else { return false };
        let named = match state.load(Relaxed) {
            UNTOUCHED => self.touched.fetch_add(1, Relaxed) >= self.states.len() / DENSE_PART,
            TOUCHED => true,
            _ => return false,
        };
        state.store(if named { NAMED } else { TOUCHED }, Relaxed);
        named
    }
}

impl Around {
    /// Notes a read of `len` bytes at `offset` of a file of `size` bytes: the range of the file around it if the rest of
    /// that will be needed soon.
    pub fn note(&self, offset: u64, len: u64, size: u64) -> Option<Range<u64>> {
        if len >= CLUSTER_BYTES.min(size) {
            return None;
        }
        let clusters = self.clusters.get_or_init(|| Clusters::new(size, memory_bytes()));
        let n = offset / CLUSTER_BYTES;
        clusters.touch(n as usize).then(|| n * CLUSTER_BYTES..(n + 1) * CLUSTER_BYTES)
    }

    /// Notes a read of `len` bytes at `offset`: true if it is a large one that goes on where the one before ended.
    pub fn streams(&self, offset: u64, len: u64) -> bool {
        len >= CLUSTER_BYTES
            && self.end.swap(offset.saturating_add(len), Relaxed).abs_diff(offset) <= STREAM_GAP_BYTES
    }

    /// The range of the file whose leaves a stream that has come to `offset` should name now.
    pub fn ahead(&self, offset: u64) -> Option<Range<u64>> {
        let (named, end) = (self.named.load(Relaxed), offset.saturating_add(STREAM_AHEAD_BYTES));
        let goes_on = (offset..=end).contains(&named);
        if goes_on && named - offset > STREAM_AHEAD_BYTES / 2 {
            return None;
        }
        self.named.store(end, Relaxed);
        Some(if goes_on { named } else { offset }..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: u64 = 1 << 30;

    #[test]
    fn large_reads_near_to_each_other_are_a_stream() {
        let around = Around::default();
        let large = 128 << 10;
        // Parts that come in another order; a small one, that changes nothing; and one elsewhere.
        let reads = [
            (0, large),
            (2 * large, large),
            (large, large),
            (9 << 20, 4096),
            (3 * large, large),
            (8 << 20, large),
        ];
        assert_eq!(reads.map(|(at, len)| around.streams(at, len)), [true, true, true, false, true, false]);
    }

    #[test]
    fn a_stream_names_leaves_ahead_once_each() {
        let (around, mib) = (Around::default(), 1 << 20);
        let ranges = [0, 1, 3, 4, 5, 9, 100, 50].map(|n| around.ahead(n * mib));
        let named = [Some(0..8), None, None, Some(8..12), None, Some(12..17), Some(100..108), Some(50..58)];
        assert_eq!(ranges, named.map(|range| range.map(|r| r.start * mib..r.end * mib)));
    }

    #[test]
    fn a_second_read_of_a_cluster_names_it_once() {
        let clusters = Clusters::new(64 * CLUSTER_BYTES, MEMORY);
        let of_one = [5; 4].map(|n| clusters.touch(n));
        assert_eq!(of_one, [false, true, false, false]);
        assert!(!clusters.touch(64), "past the end that the file had");
    }

    #[test]
    fn many_touched_clusters_name_the_rest_at_once() {
        let clusters = Clusters::new(64 * CLUSTER_BYTES, MEMORY);
        let named = (0..64).map(|n| clusters.touch(n)).collect::<Vec<_>>();
        assert_eq!(named.iter().position(|named| *named), Some(8));
        assert!(named[8..].iter().all(|named| *named));
        assert_eq!((0..64).filter(|n| clusters.touch(*n)).count(), 8, "those that were not named before");
        assert_eq!((0..64).filter(|n| clusters.touch(*n)).count(), 0);
    }

    #[test]
    fn files_that_memory_does_not_hold_are_left_alone() {
        assert!(!Clusters::new(MEMORY / 4, MEMORY).states.is_empty());
        let clusters = Clusters::new(MEMORY / 4 + 1, MEMORY);
        assert_eq!([0; 3].map(|n| clusters.touch(n)), [false; 3]);
        assert!(!Clusters::new(0, MEMORY).touch(0));
    }

    #[test]
    fn a_read_of_a_whole_cluster_or_file_is_no_small_one() {
        let around = Around::default();
        assert_eq!(around.note(0, CLUSTER_BYTES, 2 * CLUSTER_BYTES), None);
        assert_eq!(around.note(0, 8192, 5000), None);
        assert_eq!(around.note(4096, 4096, CLUSTER_BYTES), Some(0..CLUSTER_BYTES));
        assert_eq!(around.note(8192, 4096, CLUSTER_BYTES), None);
    }
}
