//! The leaf page: sorted slots behind the header, values on a heap that grows down from the end.
//!
//! The same 16 KiB bytes serve in memory and on disk. A slot is {key 17 (big-endian), offset u16, length u16}. Invariants:
//! keys strictly ascend; every value lies inside the heap; slots and heap do not overlap. [`LeafPage::decode`] proves
//! them, so the accessors may rely on them.

use super::key::KEY_BYTES;
use super::{FormatError, Key, NODE_BYTES, bad, header::HEADER_BYTES};

/// Bytes of a slot.
pub const SLOT_BYTES: usize = KEY_BYTES + 4;
/// Longest value in bytes. Three of the longest fit in a leaf.
pub const VALUE_BYTES_MAX: usize = 4160;

/// A leaf's bytes and counts.
#[derive(Clone)]
pub struct LeafPage {
    bytes: Box<[u8]>,
    count: usize,
    /// Lowest heap byte in use.
    heap: usize,
    /// Sum of the lengths of the values.
    live: usize,
}

impl Default for LeafPage {
    fn default() -> Self {
        Self::new()
    }
}

impl LeafPage {
    /// An empty leaf.
    pub fn new() -> LeafPage {
        LeafPage { bytes: vec![0; NODE_BYTES].into_boxed_slice(), count: 0, heap: NODE_BYTES, live: 0 }
    }

    /// Takes over the bytes of a verified block with `count` entries, after proving the invariants.
    pub fn decode(bytes: Box<[u8]>, count: u16) -> Result<LeafPage, FormatError> {
        let count = usize::from(count);
        if bytes.len() != NODE_BYTES || HEADER_BYTES + count * SLOT_BYTES > NODE_BYTES {
            return bad!("leaf of {} bytes cannot hold {count} slots", bytes.len());
        }
        let mut page = LeafPage { bytes, count, heap: NODE_BYTES, live: 0 };
        let slots_end = HEADER_BYTES + count * SLOT_BYTES;
        for i in 0..count {
            let (offset, len) = page.place(i);
            if offset < slots_end || offset + len > NODE_BYTES || len > VALUE_BYTES_MAX {
                return bad!("leaf slot {i} has value {offset}+{len} outside {slots_end}..{NODE_BYTES}");
            }
            if i > 0 && page.raw_key(i - 1) >= page.raw_key(i) {
                return bad!("leaf keys {} and {i} do not ascend", i - 1);
            }
            page.heap = page.heap.min(offset);
            page.live += len;
        }
        if page.live > NODE_BYTES - page.heap {
            return bad!("leaf values overlap: {} bytes in a heap of {}", page.live, NODE_BYTES - page.heap);
        }
        Ok(page)
    }

    /// The bytes; the header in front is the writer's to fill.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Number of items.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Bytes in use by slots and values.
    pub fn used(&self) -> usize {
        self.count * SLOT_BYTES + self.live
    }

    /// Room for slots and values.
    pub const ROOM: usize = NODE_BYTES - HEADER_BYTES;

    fn raw_key(&self, i: usize) -> &[u8] {
        let at = HEADER_BYTES + i * SLOT_BYTES;
        &self.bytes[at..at + KEY_BYTES]
    }

    fn place(&self, i: usize) -> (usize, usize) {
        let at = HEADER_BYTES + i * SLOT_BYTES + KEY_BYTES;
        let word = |a: usize| usize::from(u16::from_le_bytes([self.bytes[a], self.bytes[a + 1]]));
        (word(at), word(at + 2))
    }

    /// Key of item `i`.
    pub fn key(&self, i: usize) -> Key {
        let mut k = [0; KEY_BYTES];
        k.copy_from_slice(self.raw_key(i));
        Key::decode(&k)
    }

    /// Value of item `i`.
    pub fn value(&self, i: usize) -> &[u8] {
        let (offset, len) = self.place(i);
        &self.bytes[offset..offset + len]
    }

    /// Where `key` is, or where it would go.
    pub fn find(&self, key: &Key) -> Result<usize, usize> {
        let want = key.encode();
        let (mut lo, mut hi) = (0, self.count);
        while lo < hi {
            let mid = (lo + hi) / 2;
            match self.raw_key(mid).cmp(&want[..]) {
                std::cmp::Ordering::Equal => return Ok(mid),
                std::cmp::Ordering::Less => lo = mid + 1,
                std::cmp::Ordering::Greater => hi = mid,
            }
        }
        Err(lo)
    }

    /// True if a value of `len` bytes fits under a new key.
    pub fn fits(&self, len: usize) -> bool {
        self.used() + SLOT_BYTES + len <= Self::ROOM
    }

    /// Puts a new item at `i`, its place in key order. Only if it [`Self::fits`].
    pub fn insert(&mut self, i: usize, key: &Key, value: &[u8]) {
        assert!(self.fits(value.len()) && value.len() <= VALUE_BYTES_MAX);
        if HEADER_BYTES + (self.count + 1) * SLOT_BYTES + value.len() > self.heap {
            self.compact();
        }
        let at = HEADER_BYTES + i * SLOT_BYTES;
        self.bytes.copy_within(at..HEADER_BYTES + self.count * SLOT_BYTES, at + SLOT_BYTES);
        self.count += 1;
        self.heap -= value.len();
        self.live += value.len();
        self.bytes[at..at + KEY_BYTES].copy_from_slice(&key.encode());
        self.set_place(i, self.heap, value.len());
        self.bytes[self.heap..self.heap + value.len()].copy_from_slice(value);
    }

    fn set_place(&mut self, i: usize, offset: usize, len: usize) {
        let at = HEADER_BYTES + i * SLOT_BYTES + KEY_BYTES;
        self.bytes[at..at + 2].copy_from_slice(&(offset as u16).to_le_bytes());
        self.bytes[at + 2..at + 4].copy_from_slice(&(len as u16).to_le_bytes());
    }

    /// Replaces the value of item `i` if it has the same length.
    pub fn overwrite(&mut self, i: usize, value: &[u8]) -> bool {
        let (offset, len) = self.place(i);
        if len != value.len() {
            return false;
        }
        self.bytes[offset..offset + len].copy_from_slice(value);
        true
    }

    /// Removes item `i`.
    pub fn remove(&mut self, i: usize) {
        let (offset, len) = self.place(i);
        let at = HEADER_BYTES + i * SLOT_BYTES;
        let end = HEADER_BYTES + self.count * SLOT_BYTES;
        self.bytes.copy_within(at + SLOT_BYTES..end, at);
        self.bytes[end - SLOT_BYTES..end].fill(0);
        self.bytes[offset..offset + len].fill(0);
        self.count -= 1;
        self.live -= len;
        if offset == self.heap {
            self.heap += len;
        }
        if self.count == 0 {
            self.heap = NODE_BYTES;
        }
    }

    /// Moves items `from..` to a new leaf.
    pub fn split_off(&mut self, from: usize) -> LeafPage {
        let mut right = LeafPage::new();
        for i in from..self.count {
            right.insert(i - from, &self.key(i), self.value(i));
        }
        let mut left = LeafPage::new();
        for i in 0..from {
            left.insert(i, &self.key(i), self.value(i));
        }
        *self = left;
        right
    }

    /// Takes over all items of `next`, whose keys are all greater. Only if they fit.
    pub fn append(&mut self, next: &LeafPage) {
        for i in 0..next.count {
            self.insert(self.count, &next.key(i), next.value(i));
        }
    }

    fn compact(&mut self) {
        let old = self.clone();
        self.heap = NODE_BYTES;
        let slots_end = HEADER_BYTES + self.count * SLOT_BYTES;
        self.bytes[slots_end..].fill(0);
        for i in 0..self.count {
            let value = old.value(i);
            self.heap -= value.len();
            let heap = self.heap;
            self.bytes[heap..heap + value.len()].copy_from_slice(value);
            self.set_place(i, heap, value.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Kind;

    fn key(n: u64) -> Key {
        Key::new(n, Kind::Inode, 0)
    }

    #[test]
    fn behaves_like_a_sorted_map() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut model = std::collections::BTreeMap::new();
        let mut page = LeafPage::new();
        for step in 0..20_000 {
            let k = key(rng.u64(1..200));
            if rng.bool() {
                let v = vec![step as u8; rng.usize(0..300)];
                if let Ok(i) = page.find(&k) {
                    if page.overwrite(i, &v) {
                        model.insert(k, v);
                        continue;
                    }
                    page.remove(i);
                    model.remove(&k);
                }
                if page.fits(v.len()) {
                    page.insert(page.find(&k).unwrap_err(), &k, &v);
                    model.insert(k, v);
                }
            } else if let Ok(i) = page.find(&k) {
                page.remove(i);
                assert!(model.remove(&k).is_some());
            }
            assert_eq!(page.count(), model.len());
        }
        let back = LeafPage::decode(page.bytes().into(), page.count() as u16).unwrap();
        let items: Vec<_> = (0..back.count()).map(|i| (back.key(i), back.value(i).to_vec())).collect();
        assert_eq!(items, model.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn damage_is_an_error_not_a_panic() {
        let mut page = LeafPage::new();
        for n in 1..50 {
            page.insert(page.count(), &key(n), &[n as u8; 40]);
        }
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            let mut bytes: Box<[u8]> = page.bytes().into();
            for _ in 0..rng.usize(1..8) {
                bytes[rng.usize(HEADER_BYTES..HEADER_BYTES + 50 * SLOT_BYTES)] = rng.u8(..);
            }
            if let Ok(p) = LeafPage::decode(bytes, rng.u16(0..800)) {
                (0..p.count()).for_each(|i| assert!(p.value(i).len() <= VALUE_BYTES_MAX));
            }
        }
    }
}
