//! A leaf as it is to be: the same items, but for the inline content that is purged.

use crate::format::header::{self, BlockKind, Header};
use crate::format::leaf::LeafPage;
use crate::format::purge::PURGED_INLINE;
use crate::format::{BlockPtr, CopyAddrs, Key, Kind};
use crate::store::Store;
use crate::tree::TreeError;
use crate::volume::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Content in leaves that is to go, by inode.
pub type InlineContents = BTreeMap<u64, BTreeSet<Vec<u8>>>;

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
    /// The leaf at a place without this inline content of inodes, by their numbers. None if it has none of it.
    pub(in crate::volume) fn without(
        store: &Store,
        place: &LeafPlace,
        contents: &InlineContents,
    ) -> Result<Option<NewLeaf>> {
        let ptr = place.0;
        let (bytes, found) = store.read_block(&ptr, &[BlockKind::Leaf])?;
        let in_block = |e| TreeError::corrupt(format!("tree node at {}: {e}", ptr.addr));
        let old = LeafPage::decode(bytes, found.count).map_err(in_block)?;
        let (mut new, mut purged) = (LeafPage::new(), false);
        for i in 0..old.count() {
            let (key, value) = (old.key(i), old.value(i));
            let is_purged = is_one_of(contents, &key, value);
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

/// An inode of that number may be another file elsewhere.
fn is_one_of(contents: &InlineContents, key: &Key, value: &[u8]) -> bool {
    let of_inode = || contents.get(&key.object).is_some_and(|all| all.contains(value));
    key.kind == Kind::Inline as u8 && value != PURGED_INLINE && of_inode()
}
