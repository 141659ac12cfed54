//! Items of a tree as what they mean: read the same way from a view and from a change in progress.
//!
//! Readers only. Whatever they return has been decoded, so it is checked; damage comes back as an error.

use crate::format::dirent::{Dirent, NameBucket, name_hash};
use crate::format::inode::Inode;
use crate::format::purge::PURGED_INLINE;
use crate::format::{Extent, Ino, Key, Kind};
use crate::fs::error::damaged;
use crate::volume::{View, VolumeError};

/// Something that holds items by key.
pub trait Items {
    /// Calls `f` with the value of `key`.
    fn with<T>(
        &self,
        key: &Key,
        f: impl FnOnce(Option<&[u8]>) -> Result<T, VolumeError>,
    ) -> Result<T, VolumeError>;

    /// The inode, if it exists.
    fn inode(&self, ino: Ino) -> Result<Option<Inode>, VolumeError> {
        self.with(&Key::new(ino.0, Kind::Inode, 0), |value| {
            value.map(|v| Inode::decode(v).map_err(|e| damaged(ino, e))).transpose()
        })
    }

    /// Names in `dir` that share the hash `hash`.
    fn bucket(&self, dir: Ino, hash: u64) -> Result<NameBucket, VolumeError> {
        self.with(&Key::new(dir.0, Kind::Dirent, hash), |value| match value {
            Some(v) => NameBucket::decode(v).map_err(|e| damaged(dir, e)),
            None => Ok(NameBucket::default()),
        })
    }

    /// The entry `name` of `dir`.
    fn find_name(&self, dir: Ino, name: &[u8]) -> Result<Option<Dirent>, VolumeError> {
        Ok(self.bucket(dir, name_hash(name))?.find(name).cloned())
    }

    /// Content kept in the tree: of a small file, or the target of a link. Fails if it was purged.
    fn inline(&self, ino: Ino) -> Result<Vec<u8>, VolumeError> {
        self.with(&Key::new(ino.0, Kind::Inline, 0), |value| match value {
            Some(PURGED_INLINE) => {
                Err(VolumeError::Purged("purged: the content was taken out of the store".into()))
            }
            value => Ok(value.unwrap_or_default().to_vec()),
        })
    }

    /// The same as it is stored: of content that was purged, nothing.
    fn stored_inline(&self, ino: Ino) -> Result<Vec<u8>, VolumeError> {
        self.with(&Key::new(ino.0, Kind::Inline, 0), |value| Ok(value.unwrap_or_default().to_vec()))
    }
}

impl Items for View {
    fn with<T>(
        &self,
        key: &Key,
        f: impl FnOnce(Option<&[u8]>) -> Result<T, VolumeError>,
    ) -> Result<T, VolumeError> {
        let item = self.get(key)?;
        f(item.as_deref())
    }
}

/// The extent of an item under `key`.
pub fn decode_extent(key: &Key, value: &[u8]) -> Result<(u64, Extent), VolumeError> {
    let ext = Extent::decode(value).map_err(|e| damaged(Ino(key.object), e))?;
    Ok((key.rest, ext))
}
