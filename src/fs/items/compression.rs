//! The property that says whether content is to be compressed: in the inode, or of the root for an inode without.

use super::reader::Items;
use crate::format::inode::Inode;
use crate::format::{Compression, CompressionProperty, Ino};
use crate::ops::FileType;
use crate::volume::VolumeError;

/// The choice for an inode, and where it is from.
pub fn in_force(
    items: &impl Items,
    inode: &Inode,
) -> std::result::Result<(Compression, &'static str), VolumeError> {
    if let Some(own) = inode.compression {
        return Ok((own.value, if own.inherited { "inherited" } else { "local" }));
    }
    let root = items.inode(Ino::ROOT)?.and_then(|root| root.compression);
    Ok(root.map_or((Compression::Off, "default"), |own| (own.value, "store")))
}

/// What something gets that is made in a directory, or gives up its own. The root's is followed, not copied.
pub fn inherited(dir: Ino, inode: &Inode) -> Option<CompressionProperty> {
    let own = inode.compression.filter(|_| dir != Ino::ROOT)?;
    Some(CompressionProperty { inherited: true, ..own })
}

/// True for what has the property.
pub fn has_property(kind: FileType) -> bool {
    matches!(kind, FileType::Regular | FileType::Directory)
}
