//! A block of the space map: a chain of changes to the set of allocated ranges, newest block first.
//!
//! Replayed oldest first over an empty set, the changes give every allocated range of the store. The blocks lie outside
//! every tree and are themselves among the ranges.

use super::header::HEADER_BYTES;
use super::pointer::{PTR_BYTES, RawPtr};
use super::{BLOCK_BYTES, BlockPtr, FormatError, NODE_BYTES, bad};
use zerocopy::{FromBytes, IntoBytes};

const ENTRY_BYTES: usize = 16;
const ENTRIES_AT: usize = HEADER_BYTES + PTR_BYTES;
/// Changes that fit in a block.
pub const CHANGES_MAX: usize = (NODE_BYTES - ENTRIES_AT) / ENTRY_BYTES;

/// A change of the allocated set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SpaceChange {
    /// The range (address, length) became allocated.
    Allocated(u64, u64),
    /// The range became free.
    Freed(u64, u64),
}

/// Lays a block out; the header is the writer's to fill.
pub fn encode(prev: Option<BlockPtr>, changes: &[SpaceChange]) -> Vec<u8> {
    assert!(changes.len() <= CHANGES_MAX);
    let mut out = vec![0; NODE_BYTES];
    out[HEADER_BYTES..ENTRIES_AT].copy_from_slice(prev.map_or(RawPtr::none(), |p| p.encode()).as_bytes());
    for (slot, change) in out[ENTRIES_AT..].chunks_exact_mut(ENTRY_BYTES).zip(changes) {
        let (addr, len) = match change {
            SpaceChange::Allocated(a, l) => (a | 1, l),
            SpaceChange::Freed(a, l) => (*a, l),
        };
        slot[..8].copy_from_slice(&addr.to_le_bytes());
        slot[8..].copy_from_slice(&len.to_le_bytes());
    }
    out
}

/// The previous block and the changes of a verified block with `count` of them.
pub fn decode(bytes: &[u8], count: u16) -> Result<(Option<BlockPtr>, Vec<SpaceChange>), FormatError> {
    let count = usize::from(count);
    if bytes.len() != NODE_BYTES || count > CHANGES_MAX {
        return bad!(
            "space map block of {} bytes has {count} changes, allowed 0..={CHANGES_MAX}",
            bytes.len()
        );
    }
    let Ok(raw) = RawPtr::read_from_bytes(&bytes[HEADER_BYTES..ENTRIES_AT]) else {
        return bad!("no pointer");
    };
    let prev = if raw.is_none() { None } else { Some(raw.decode()?) };
    let mut changes = Vec::with_capacity(count);
    for slot in bytes[ENTRIES_AT..].chunks_exact(ENTRY_BYTES).take(count) {
        let word = |b: &[u8]| u64::from_le_bytes(b.try_into().unwrap_or_default());
        let (tagged, len) = (word(&slot[..8]), word(&slot[8..]));
        let addr = tagged & !1;
        if addr % BLOCK_BYTES != 0 || len == 0 || len % BLOCK_BYTES != 0 || addr.checked_add(len).is_none() {
            return bad!("space map change {addr:#x}+{len} is not a range of blocks");
        }
        changes.push(if tagged & 1 == 1 {
            SpaceChange::Allocated(addr, len)
        } else {
            SpaceChange::Freed(addr, len)
        });
    }
    Ok((prev, changes))
}
