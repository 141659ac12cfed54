//! Compression as files see it: the property, who follows which, and when trying is not worth the time.
//!
//! It is a choice as in `choice`, read and set as an extended attribute that is never listed.

use super::choice::{Choice, chosen, set_choice};
use crate::format::inode::Inode;
use crate::format::{Compression, CompressionProperty, Ino};
use crate::fs::commits::Commits;
use crate::fs::items::{Items, has_property, in_force, inherited};
use crate::ops::{Caller, Error, NodeId, Result, XattrMode};
use crate::volume::{View, Volume, VolumeError};

/// The attribute with the choice that is in force; `inherit` takes it away.
pub const CHOICE: &[u8] = b"user.snapfs.compression";
/// The attribute that says where it is from.
pub const SOURCE: &[u8] = b"user.snapfs.compression.source";

/// The value of one of the two attributes in a view.
pub fn compression_attribute(view: &View, ino: Ino, name: &[u8]) -> Result<Vec<u8>> {
    let inode = view.inode(ino)?.ok_or(Error::Stale)?;
    if !has_property(inode.kind) {
        return Err(Error::NoAttribute);
    }
    let (value, source) = in_force(view, &inode)?;
    Ok(if name == SOURCE { source.into() } else { value.to_string().into_bytes() })
}

/// Sets the property of a live inode from the value of the attribute.
pub fn set_compression(
    commits: &Commits,
    caller: &Caller,
    node: NodeId,
    value: &[u8],
    mode: XattrMode,
) -> Result<()> {
    let own = chosen(value, Compression::parse)?;
    let own = own.map(|value| CompressionProperty { value, inherited: false });
    set_choice(commits, caller, node, own, mode)
}

impl Choice for CompressionProperty {
    fn of(inode: &mut Inode) -> &mut Option<CompressionProperty> {
        &mut inode.compression
    }

    fn is_inherited(&self) -> bool {
        self.inherited
    }

    fn inherited(dir: Ino, inode: &Inode) -> Option<CompressionProperty> {
        inherited(dir, inode)
    }

    fn is_known(volume: &Volume) -> bool {
        volume.knows_compression()
    }

    fn allow(volume: &Volume) -> std::result::Result<(), VolumeError> {
        volume.allow_compression()
    }
}
