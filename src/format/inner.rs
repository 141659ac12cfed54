//! The inner node on disk: entries {key 17, pointer 40} behind the header, keys strictly ascending.
//!
//! The key of an entry is a lower bound of its subtree; the first one is [`Key::MIN`].

use super::header::HEADER_BYTES;
use super::key::KEY_BYTES;
use super::pointer::{PTR_BYTES, RawPtr};
use super::{BlockPtr, FormatError, Key, NODE_BYTES, bad};
use zerocopy::{FromBytes, IntoBytes};

const ENTRY_BYTES: usize = KEY_BYTES + PTR_BYTES;
/// Most children of an inner node.
pub const CHILDREN_MAX: usize = (NODE_BYTES - HEADER_BYTES) / ENTRY_BYTES;

/// Lays the entries out in a fresh block; the header is the writer's to fill.
pub fn encode(entries: impl Iterator<Item = (Key, BlockPtr)>) -> Vec<u8> {
    let mut out = vec![0; NODE_BYTES];
    for (slot, (key, ptr)) in out[HEADER_BYTES..].chunks_exact_mut(ENTRY_BYTES).zip(entries) {
        slot[..KEY_BYTES].copy_from_slice(&key.encode());
        slot[KEY_BYTES..].copy_from_slice(ptr.encode().as_bytes());
    }
    out
}

/// Entries of a verified block with `count` of them.
pub fn decode(bytes: &[u8], count: u16) -> Result<Vec<(Key, BlockPtr)>, FormatError> {
    let count = usize::from(count);
    if count == 0 || count > CHILDREN_MAX || bytes.len() != NODE_BYTES {
        return bad!("inner node of {} bytes has {count} children, allowed 1..={CHILDREN_MAX}", bytes.len());
    }
    let mut out: Vec<(Key, BlockPtr)> = Vec::with_capacity(count);
    for slot in bytes[HEADER_BYTES..].chunks_exact(ENTRY_BYTES).take(count) {
        let (raw_key, raw_ptr) = slot.split_at(KEY_BYTES);
        let (Ok(key), Ok(ptr)) = (<[u8; KEY_BYTES]>::try_from(raw_key), RawPtr::read_from_bytes(raw_ptr))
        else {
            return bad!("inner node entry has the wrong length");
        };
        let (key, ptr) = (Key::decode(&key), ptr.decode()?);
        if ptr.len as usize != NODE_BYTES {
            return bad!("inner node child at {} has length {}", ptr.addr, ptr.len);
        }
        match out.last() {
            Some((last, _)) if *last >= key => {
                return bad!("inner node keys {last:?} and {key:?} do not ascend");
            }
            None if key != Key::MIN => return bad!("first key of an inner node is {key:?}, not the least"),
            _ => out.push((key, ptr)),
        }
    }
    Ok(out)
}
