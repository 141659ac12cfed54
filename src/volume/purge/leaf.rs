//! A leaf as it is to be: the same items, but for the inline content that is purged.

use crate::format::header::{self, BlockKind, Header};
use crate::format::leaf::LeafPage;
use crate::format::purge::PURGED_INLINE;
use crate::format::{BlockPtr, CopyAddrs, Key, Kind};
use crate::store::Store;
use crate::tree::TreeError;
use crate::volume::Result;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Where the leaf is that has an item.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeafPlace(pub(in crate::volume) BlockPtr);

impl LeafPlace {
    /// A number that no other leaf has at the same time.
    pub fn number(&self) -> u64 {
        self.0.addr.0
    }
}

/// A leaf that is to be written over, and what it is to be then.
#[derive(Clone)]
pub struct NewLeaf {
    pub(super) ptr: BlockPtr,
    pub(super) checksum: u64,
    pub(super) bytes: Arc<[u8]>,
}

impl NewLeaf {
    /// The leaf at a place without the inline content of these inodes. None if it has none of it.
    pub(in crate::volume) fn without(
        store: &Store,
        place: &LeafPlace,
        inodes: &BTreeSet<u64>,
    ) -> Result<Option<NewLeaf>> {
        let ptr = place.0;
        let (bytes, found) = store.read_block(&ptr, &[BlockKind::Leaf])?;
        let in_block = |e| TreeError::corrupt(format!("tree node at {}: {e}", ptr.addr));
        let old = LeafPage::decode(bytes, found.count).map_err(in_block)?;
        let (mut new, mut purged) = (LeafPage::new(), false);
        for i in 0..old.count() {
            let (key, value) = (old.key(i), old.value(i));
            let is_purged = is_inline_of(&key, inodes) && value != PURGED_INLINE;
            purged |= is_purged;
            new.insert(i, &key, if is_purged { PURGED_INLINE } else { value });
        }
        if !purged {
            return Ok(None);
        }
        let header =
            Header { kind: BlockKind::Leaf, level: 0, count: old.count() as u16, owner: found.owner };
        let mut bytes = new.bytes().to_vec();
        let places = CopyAddrs { addr: ptr.addr, copy: ptr.copy };
        let sealed = header::seal(&mut bytes, header, store.fsid(), places, ptr.birth);
        Ok(Some(NewLeaf { ptr, checksum: sealed.checksum, bytes: bytes.into() }))
    }
}

fn is_inline_of(key: &Key, inodes: &BTreeSet<u64>) -> bool {
    key.kind == Kind::Inline as u8 && inodes.contains(&key.object)
}
