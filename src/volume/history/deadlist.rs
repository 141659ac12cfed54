//! Dead lists: buckets of entries in the meta tree, by the age of what died.
//!
//! Moving and joining lists moves bucket items; a chunk is touched only where both lists have the same bucket, and then
//! the smaller one's. Only buckets with entries exist. A failed call may have changed a part: the root is then to be
//! thrown away with the whole commit. Nothing here knows what a list is for.

use super::dead_set::DeadSet;
use crate::format::deadlist::{Bucket, CHUNK_ENTRIES_MAX, DeadEntry, decode_chunk, encode_chunk};
use crate::format::{Epoch, Key, Kind};
use crate::store::end_batch;
use crate::tree::{self, Child, Edit, Pager, Result, TreeError};
use std::ops::Range;

/// A half-open range of buckets. Births in `(a, b]` are the buckets `a..b`, if a and b are snapshots of the branch.
pub type Buckets = Range<Epoch>;

/// Every bucket.
pub const ALL: Buckets = Epoch(0)..Epoch(u64::MAX);

/// The meta tree, to read.
#[derive(Clone, Copy)]
pub struct MetaRead<'a> {
    /// Reads nodes.
    pub pager: &'a Pager,
    /// The tree.
    pub root: &'a Child,
}

/// The meta tree, to change.
pub struct Meta<'a, 'b> {
    /// The change.
    pub edit: &'b mut Edit<'a>,
    /// The tree.
    pub root: &'b mut Child,
}

impl Meta<'_, '_> {
    /// The same tree, to read.
    pub fn read(&self) -> MetaRead<'_> {
        MetaRead { pager: self.edit.pager, root: self.root }
    }

    fn set_bucket(&mut self, list: u64, epoch: Epoch, bucket: &Bucket) -> Result<()> {
        self.edit.insert(self.root, &bucket_key(list, epoch), &bucket.encode())
    }

    fn drop_bucket(&mut self, list: u64, epoch: Epoch) -> Result<()> {
        self.edit.remove(self.root, &bucket_key(list, epoch)).map(|_| ())
    }

    fn drop_chunks(&mut self, bucket: &Bucket) -> Result<()> {
        for seq in 0..bucket.chunks {
            if !self.edit.remove(self.root, &chunk_key(bucket.oid, seq))? {
                return Err(missing(bucket.oid, seq));
            }
        }
        Ok(())
    }
}

impl MetaRead<'_> {
    fn bucket(&self, list: u64, epoch: Epoch) -> Result<Option<Bucket>> {
        let item = tree::get(self.pager, self.root, &bucket_key(list, epoch))?;
        Ok(item.map(|v| Bucket::decode(&v)).transpose()?)
    }

    fn buckets(&self, list: u64, range: &Buckets) -> Result<Vec<(Epoch, Bucket)>> {
        let (from, to) = (bucket_key(list, range.start), bucket_key(list, range.end));
        tree::range(self.pager, self.root, &from, &to)
            .map(|item| item.and_then(|(key, value)| Ok((Epoch(key.rest), Bucket::decode(&value)?))))
            .collect()
    }

    fn chunk(&self, oid: u64, seq: u64) -> Result<Vec<DeadEntry>> {
        let item = tree::get(self.pager, self.root, &chunk_key(oid, seq))?;
        Ok(decode_chunk(&item.ok_or_else(|| missing(oid, seq))?)?)
    }

    fn bucket_entries(&self, bucket: &Bucket) -> Result<Vec<DeadEntry>> {
        let mut out = Vec::new();
        for seq in 0..bucket.chunks {
            out.extend(self.chunk(bucket.oid, seq)?);
        }
        Ok(out)
    }
}

fn bucket_key(list: u64, epoch: Epoch) -> Key {
    Key::new(list, Kind::DeadBucket, epoch.0)
}

fn chunk_key(oid: u64, seq: u64) -> Key {
    Key::new(oid, Kind::DeadChunk, seq)
}

fn missing(oid: u64, seq: u64) -> TreeError {
    TreeError::corrupt(format!("dead list chunk {seq} of object {oid} is missing"))
}

/// Takes the next number.
pub(super) fn take_id(next_id: &mut u64) -> u64 {
    let id = *next_id;
    *next_id += 1;
    id
}

/// Adds entries to a bucket of a list. `next_id` numbers new chunk chains.
pub fn append(
    meta: &mut Meta,
    list: u64,
    epoch: Epoch,
    entries: &[DeadEntry],
    next_id: &mut u64,
) -> Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let mut bucket = match meta.read().bucket(list, epoch)? {
        Some(bucket) => bucket,
        None => Bucket { bytes: 0, count: 0, oid: take_id(next_id), chunks: 0 },
    };
    write_entries(meta, &mut bucket, entries)?;
    meta.set_bucket(list, epoch, &bucket)
}

/// Fills the last chunk and makes new ones; the caller stores the bucket.
fn write_entries(meta: &mut Meta, bucket: &mut Bucket, entries: &[DeadEntry]) -> Result<()> {
    let mut rest = entries;
    if let Some(last) = bucket.chunks.checked_sub(1) {
        let mut chunk = meta.read().chunk(bucket.oid, last)?;
        let (fill, more) = rest.split_at(rest.len().min(CHUNK_ENTRIES_MAX - chunk.len()));
        if !fill.is_empty() {
            chunk.extend_from_slice(fill);
            meta.edit.insert(meta.root, &chunk_key(bucket.oid, last), &encode_chunk(&chunk))?;
        }
        rest = more;
    }
    for chunk in rest.chunks(CHUNK_ENTRIES_MAX) {
        meta.edit.insert(meta.root, &chunk_key(bucket.oid, bucket.chunks), &encode_chunk(chunk))?;
        bucket.chunks += 1;
    }
    bucket.count = bucket.count.saturating_add(entries.len() as u64);
    bucket.bytes = entries.iter().fold(bucket.bytes, |sum, e| sum.saturating_add(e.len));
    Ok(())
}

/// Bytes of a range of buckets: reads bucket items only.
pub fn sum(meta: MetaRead, list: u64, range: Buckets) -> Result<u64> {
    Ok(meta.buckets(list, &range)?.iter().fold(0, |sum, (_, b)| sum.saturating_add(b.bytes)))
}

/// True if a list has no entry.
pub fn is_empty(meta: MetaRead, list: u64) -> Result<bool> {
    let (from, to) = (bucket_key(list, ALL.start), bucket_key(list, ALL.end));
    Ok(tree::range(meta.pager, meta.root, &from, &to).next().transpose()?.is_none())
}

/// Entries of a range of buckets, in no order, with their buckets.
pub fn entries(meta: MetaRead, list: u64, range: Buckets) -> Result<Vec<(Epoch, DeadEntry)>> {
    let mut out = Vec::new();
    for (epoch, bucket) in meta.buckets(list, &range)? {
        out.extend(meta.bucket_entries(&bucket)?.into_iter().map(|e| (epoch, e)));
    }
    Ok(out)
}

/// Shows each entry of a list, in no order, and has no more than a chunk of them in memory.
pub fn each(meta: MetaRead, list: u64, visit: &mut dyn FnMut(&DeadEntry)) -> Result<()> {
    for (_, bucket) in meta.buckets(list, &ALL)? {
        for seq in 0..bucket.chunks {
            meta.chunk(bucket.oid, seq)?.iter().for_each(&mut *visit);
        }
    }
    Ok(())
}

/// A list as it was found, whatever is wrong with it.
#[derive(Clone, Debug, Default)]
pub struct FoundList {
    /// Entries that can be read, with their buckets.
    pub entries: Vec<(Epoch, DeadEntry)>,
    /// What does not agree or cannot be decoded, in words.
    pub faults: Vec<String>,
}

/// Reads a list and proves that its buckets count what their chunks hold. Fails only if a node cannot be read.
pub fn found(meta: MetaRead, list: u64) -> Result<FoundList> {
    let (mut out, mut buckets) = (FoundList::default(), Vec::new());
    let (from, to) = (bucket_key(list, ALL.start), bucket_key(list, ALL.end));
    for item in tree::range(meta.pager, meta.root, &from, &to) {
        let (key, value) = item?;
        match Bucket::decode(&value) {
            Ok(bucket) => buckets.push((Epoch(key.rest), bucket)),
            Err(e) => out.faults.push(format!("bucket {}: {e}", key.rest)),
        }
    }
    for (epoch, bucket) in buckets {
        let (mut count, mut bytes, mut chunks) = (0u64, 0u64, 0);
        for item in
            tree::range(meta.pager, meta.root, &chunk_key(bucket.oid, 0), &chunk_key(bucket.oid, u64::MAX))
        {
            let (key, value) = item?;
            match decode_chunk(&value) {
                Ok(entries) => {
                    count += entries.len() as u64;
                    bytes = entries.iter().fold(bytes, |sum, e| sum.saturating_add(e.len));
                    out.entries.extend(entries.into_iter().map(|e| (epoch, e)));
                }
                Err(e) => out.faults.push(format!("bucket {}, chunk {}: {e}", epoch.0, key.rest)),
            }
            if key.rest != chunks {
                out.faults.push(format!("bucket {}: chunk {} where {chunks} must be", epoch.0, key.rest));
            }
            chunks = key.rest.saturating_add(1);
        }
        let has = Bucket { bytes, count, oid: bucket.oid, chunks };
        if has != bucket {
            out.faults.push(format!("bucket {} counts {bucket:?}, but has {has:?}", epoch.0));
        }
    }
    Ok(out)
}

/// Puts these entries in the place of all that a list has, whatever is wrong with that. `next_id` numbers its chains.
pub fn replace(meta: &mut Meta, list: u64, entries: &[(Epoch, DeadEntry)], next_id: &mut u64) -> Result<()> {
    let (from, to) = (bucket_key(list, ALL.start), bucket_key(list, ALL.end));
    let old: Vec<(Key, Option<u64>)> = tree::range(meta.edit.pager, meta.root, &from, &to)
        .map(|item| item.map(|(key, value)| (key, Bucket::decode(&value).ok().map(|b| b.oid))))
        .collect::<Result<_>>()?;
    for (key, oid) in old {
        meta.edit.remove(meta.root, &key)?;
        if let Some(oid) = oid {
            drop_chain(meta, oid)?;
        }
    }
    let mut entries = entries.to_vec();
    entries.sort_unstable();
    for bucket in entries.chunk_by(|a, b| a.0 == b.0) {
        let of_bucket: Vec<DeadEntry> = bucket.iter().map(|(_, e)| *e).collect();
        append(meta, list, bucket[0].0, &of_bucket, next_id)?;
    }
    Ok(())
}

/// Removes every chunk of an object.
pub fn drop_chain(meta: &mut Meta, oid: u64) -> Result<()> {
    let (from, to) = (chunk_key(oid, 0), chunk_key(oid, u64::MAX));
    let keys: Vec<Key> = tree::range(meta.edit.pager, meta.root, &from, &to)
        .map(|item| item.map(|(key, _)| key))
        .collect::<Result<_>>()?;
    for key in keys {
        meta.edit.remove(meta.root, &key)?;
    }
    meta.edit.remove(meta.root, &to).map(drop)
}

/// Moves a range of buckets to another list; returns their bytes.
pub fn move_buckets(meta: &mut Meta, from: u64, range: Buckets, to: u64) -> Result<u64> {
    let mut moved: u64 = 0;
    for (epoch, bucket) in meta.read().buckets(from, &range)? {
        moved = moved.saturating_add(bucket.bytes);
        let joined = match meta.read().bucket(to, epoch)? {
            Some(other) => join(meta, bucket, other)?,
            None => bucket,
        };
        meta.drop_bucket(from, epoch)?;
        meta.set_bucket(to, epoch, &joined)?;
    }
    Ok(moved)
}

/// Puts the chunks of the bucket that has fewer behind those of the other.
fn join(meta: &mut Meta, a: Bucket, b: Bucket) -> Result<Bucket> {
    let (small, mut large) = if a.chunks <= b.chunks { (a, b) } else { (b, a) };
    for seq in 0..small.chunks {
        let key = chunk_key(small.oid, seq);
        let value = tree::get(meta.edit.pager, meta.root, &key)?.ok_or_else(|| missing(small.oid, seq))?;
        meta.edit.insert(meta.root, &chunk_key(large.oid, large.chunks), &value)?;
        drop(value);
        meta.edit.remove(meta.root, &key)?;
        large.chunks += 1;
    }
    large.count = large.count.saturating_add(small.count);
    large.bytes = large.bytes.saturating_add(small.bytes);
    Ok(large)
}

/// Moves everything; `from` is gone afterwards.
pub fn splice(meta: &mut Meta, from: u64, into: u64) -> Result<()> {
    move_buckets(meta, from, ALL, into).map(|_| ())
}

/// Removes and returns whole chunks, at least one and no more than `entries_max` entries if several; nothing when the
/// list is empty.
pub fn drain(meta: &mut Meta, list: u64, entries_max: usize) -> Result<Vec<DeadEntry>> {
    let mut out: Vec<DeadEntry> = Vec::new();
    loop {
        let (from, to) = (bucket_key(list, ALL.start), bucket_key(list, ALL.end));
        let first = tree::range(meta.edit.pager, meta.root, &from, &to).next().transpose()?;
        let Some((key, value)) = first else { return Ok(out) };
        let (epoch, mut bucket) = (Epoch(key.rest), Bucket::decode(&value)?);
        drop(value);
        while let Some(last) = bucket.chunks.checked_sub(1) {
            let chunk = meta.read().chunk(bucket.oid, last)?;
            if !out.is_empty() && out.len() + chunk.len() > entries_max {
                meta.set_bucket(list, epoch, &bucket)?;
                return Ok(out);
            }
            meta.edit.remove(meta.root, &chunk_key(bucket.oid, last))?;
            bucket.chunks = last;
            bucket.count = bucket.count.saturating_sub(chunk.len() as u64);
            bucket.bytes = chunk.iter().fold(bucket.bytes, |sum, e| sum.saturating_sub(e.len));
            out.extend(chunk);
            end_batch();
        }
        meta.drop_bucket(list, epoch)?;
    }
}

/// Removes references from a range of buckets, cutting entries where they stick out, and returns what it removed. A
/// reference that the set has once is removed once, however many are like it.
pub fn remove(meta: &mut Meta, list: u64, range: Buckets, gone: &DeadSet) -> Result<Vec<(Epoch, DeadEntry)>> {
    let (mut left, mut removed) = (gone.clone(), Vec::new());
    for (epoch, bucket) in meta.read().buckets(list, &range)? {
        let (mut kept, before) = (Vec::new(), removed.len());
        for e in meta.read().bucket_entries(&bucket)? {
            let mut at = e.addr;
            for (start, len) in left.take(&e) {
                if at < start {
                    kept.push(DeadEntry { addr: at, len: start - at, ..e });
                }
                removed.push((epoch, DeadEntry { addr: start, len, ..e }));
                at = start + len;
            }
            if at < e.addr + e.len {
                kept.push(DeadEntry { addr: at, len: e.addr + e.len - at, ..e });
            }
        }
        if removed.len() == before {
            continue;
        }
        meta.drop_chunks(&bucket)?;
        if kept.is_empty() {
            meta.drop_bucket(list, epoch)?;
        } else {
            let mut bucket = Bucket { bytes: 0, count: 0, chunks: 0, ..bucket };
            write_entries(meta, &mut bucket, &kept)?;
            meta.set_bucket(list, epoch, &bucket)?;
        }
    }
    Ok(removed)
}
