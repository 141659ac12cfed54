//! Dead lists in the meta tree: the record of a birth bucket, and the chunks of entries that it counts.
//!
//! A bucket item is (list id, `DeadBucket`, bucket epoch) -> [`Bucket`]; its entries are the items (bucket's `oid`,
//! `DeadChunk`, 0..`chunks`), 1 to [`CHUNK_ENTRIES_MAX`] entries each. Decoders prove every field, so that no range
//! overflows later; that the totals agree with the chunks is for the auditor.

use super::{BLOCK_BYTES, Epoch, FormatError, bad};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// Most entries in a chunk.
pub const CHUNK_ENTRIES_MAX: usize = 168;
const _: () = assert!(CHUNK_ENTRIES_MAX * ENTRY_BYTES <= super::leaf::VALUE_BYTES_MAX);

/// A freed reference to a range of blocks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DeadEntry {
    /// First byte, a multiple of 4096, never 0.
    pub addr: u64,
    /// Length in bytes, a multiple of 4096, never 0.
    pub len: u64,
    /// Epoch in which the reference was made.
    pub birth: Epoch,
}

/// Totals of a bucket, and where its entries are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bucket {
    /// Sum of the lengths of the entries.
    pub bytes: u64,
    /// Number of entries.
    pub count: u64,
    /// Object of its chunks.
    pub oid: u64,
    /// Number of chunks, and so the next sequence number.
    pub chunks: u64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawEntry {
    addr: le::U64,
    len: le::U64,
    birth: le::U64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawBucket {
    bytes: le::U64,
    count: le::U64,
    oid: le::U64,
    chunks: le::U64,
}

/// Length of an encoded entry.
pub const ENTRY_BYTES: usize = 24;
const _: () = assert!(size_of::<RawEntry>() == ENTRY_BYTES);
const _: () = assert!(size_of::<RawBucket>() == 32);

impl Bucket {
    /// To the value of its item.
    pub fn encode(&self) -> Vec<u8> {
        let raw = RawBucket {
            bytes: self.bytes.into(),
            count: self.count.into(),
            oid: self.oid.into(),
            chunks: self.chunks.into(),
        };
        raw.as_bytes().to_vec()
    }

    /// From its item.
    pub fn decode(bytes: &[u8]) -> Result<Bucket, FormatError> {
        let Ok(raw) = RawBucket::read_from_bytes(bytes) else {
            return bad!("dead list bucket has {} bytes instead of 32", bytes.len());
        };
        let b = Bucket {
            bytes: raw.bytes.get(),
            count: raw.count.get(),
            oid: raw.oid.get(),
            chunks: raw.chunks.get(),
        };
        if b.oid == 0 || b.chunks == 0 || b.count < b.chunks || b.bytes / BLOCK_BYTES < b.count {
            return bad!("dead list bucket is impossible: {b:?}");
        }
        Ok(b)
    }
}

/// Entries to the value of a chunk.
pub fn encode_chunk(entries: &[DeadEntry]) -> Vec<u8> {
    assert!(!entries.is_empty() && entries.len() <= CHUNK_ENTRIES_MAX);
    let mut out = Vec::with_capacity(entries.len() * ENTRY_BYTES);
    for e in entries {
        let raw = RawEntry { addr: e.addr.into(), len: e.len.into(), birth: e.birth.0.into() };
        out.extend_from_slice(raw.as_bytes());
    }
    out
}

/// Entries of a chunk.
pub fn decode_chunk(bytes: &[u8]) -> Result<Vec<DeadEntry>, FormatError> {
    let raw = match <[RawEntry]>::ref_from_bytes(bytes) {
        Ok(raw) if !raw.is_empty() && raw.len() <= CHUNK_ENTRIES_MAX => raw,
        _ => return bad!("dead list chunk has {} bytes, not 1..=168 times 24", bytes.len()),
    };
    let mut out = Vec::with_capacity(raw.len());
    for r in raw {
        let e = DeadEntry { addr: r.addr.get(), len: r.len.get(), birth: Epoch(r.birth.get()) };
        let sane = e.addr != 0 && e.len != 0 && e.birth.0 != 0 && e.addr.checked_add(e.len).is_some();
        if !sane || !e.addr.is_multiple_of(BLOCK_BYTES) || !e.len.is_multiple_of(BLOCK_BYTES) {
            return bad!("dead list entry is impossible: {e:?}");
        }
        out.push(e);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_damage() {
        let entries: Vec<_> =
            (1..=168).map(|n| DeadEntry { addr: n * 8192, len: 4096 * n, birth: Epoch(n) }).collect();
        let bytes = encode_chunk(&entries);
        assert_eq!(decode_chunk(&bytes).unwrap(), entries);
        let bucket = Bucket { bytes: 1 << 20, count: 9, oid: 5, chunks: 2 };
        assert_eq!(Bucket::decode(&bucket.encode()).unwrap(), bucket);
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            let mut b = bytes[..rng.usize(0..=bytes.len())].to_vec();
            if !b.is_empty() {
                let at = rng.usize(0..b.len());
                b[at] = rng.u8(..);
            }
            if let Ok(list) = decode_chunk(&b) {
                assert!(list.iter().all(|e| e.addr.checked_add(e.len).is_some()));
            }
            let _ = Bucket::decode(&b[..b.len().min(rng.usize(0..40))]);
        }
    }
}
