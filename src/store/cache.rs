//! A bounded cache of immutable things that came from blocks, keyed by address.
//!
//! An address is used for another block once the first one is free, and freeing removes nothing from the cache. So
//! whoever gets an entry compares it with the pointer that led to it (birth and checksum) before using it. The entry of
//! a block that is gone stays until the new block is read, which replaces it, or until it is dropped as the least
//! recently used.
//!
//! The cache is split into shards, so that readers on different threads rarely wait for each other.

use crate::format::BlockAddr;
use lru::LruCache;
use parking_lot::Mutex;

const SHARDS: usize = 16;

/// Cache of values that know their weight in bytes.
pub struct Cache<V> {
    shards: Vec<Mutex<Shard<V>>>,
    shard_bytes_max: usize,
}

struct Shard<V> {
    entries: LruCache<BlockAddr, (V, usize)>,
    bytes: usize,
}

impl<V: Clone> Cache<V> {
    /// A cache of at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Cache<V> {
        let shard = || Mutex::new(Shard { entries: LruCache::unbounded(), bytes: 0 });
        Cache { shards: (0..SHARDS).map(|_| shard()).collect(), shard_bytes_max: bytes_max / SHARDS }
    }

    fn shard(&self, addr: BlockAddr) -> &Mutex<Shard<V>> {
        let hash = (addr.0 >> 12).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        &self.shards[hash as usize % SHARDS]
    }

    /// The entry of `addr`.
    pub fn get(&self, addr: BlockAddr) -> Option<V> {
        self.shard(addr).lock().entries.get(&addr).map(|(v, _)| v.clone())
    }

    /// Adds an entry of `weight` bytes and drops the least recently used ones above the bound.
    pub fn insert(&self, addr: BlockAddr, value: V, weight: usize) {
        let mut dropped = Vec::new();
        let mut shard = self.shard(addr).lock();
        shard.bytes += weight;
        if let Some((old, w)) = shard.entries.put(addr, (value, weight)) {
            shard.bytes -= w;
            dropped.push(old);
        }
        while shard.bytes > self.shard_bytes_max && shard.entries.len() > 1 {
            if let Some((_, (v, w))) = shard.entries.pop_lru() {
                shard.bytes -= w;
                dropped.push(v);
            }
        }
        drop(shard);
    }

    /// Drops the entry of `addr`.
    pub fn remove(&self, addr: BlockAddr) {
        let mut shard = self.shard(addr).lock();
        if let Some((value, weight)) = shard.entries.pop(&addr) {
            shard.bytes -= weight;
            drop(shard);
            drop(value);
        }
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        self.shards.iter().map(|s| s.lock().bytes).sum()
    }
}
