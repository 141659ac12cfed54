//! The layout as files see it: the property, and who follows which.
//!
//! It is a choice as in `choice`, read and set as an extended attribute that is never listed. Nothing moves when it is set:
//! where content is, there is its home.

use super::choice::{Choice, chosen, set_choice};
use crate::format::inode::Inode;
use crate::format::{BLOCK_BYTES, Ino, Layout, LayoutProperty};
use crate::fs::commits::Commits;
use crate::fs::heads::Heads;
use crate::fs::items::{FromHome, Items, from_home, has_property, inherited_layout, layout_in_force};
use crate::ops::{Caller, Error, FileType, NodeId, Result, XattrMode};
use crate::volume::{View, Volume, VolumeError};

/// The attribute with the choice that is in force; `inherit` takes it away.
pub const LAYOUT: &[u8] = b"user.snapfs.layout";
/// The attribute that says where it is from.
pub const LAYOUT_SOURCE: &[u8] = b"user.snapfs.layout.source";

/// The attribute that says how far a file is from home.
pub const LAYOUT_HOME: &[u8] = b"user.snapfs.layout.home";

/// How far a file is from home: words with bytes, runs, and whether anything still moves.
pub fn home_attribute(heads: &Heads, node: NodeId) -> Result<Vec<u8>> {
    let (view, ino) = (heads.view_of(node)?, Ino(node.ino()));
    let inode = view.inode(ino)?.ok_or(Error::Stale)?;
    if inode.kind != FileType::Regular {
        return Err(Error::NoAttribute);
    }
    let found = from_home(&view, ino, &inode)?;
    let delayed = match heads.target(node) {
        Ok((head, ino)) => head.gate.read().dirty.count(ino) * BLOCK_BYTES,
        Err(_) => 0,
    };
    let FromHome { mapped, away, runs } = found;
    let rests = delayed == 0 && (away == 0 || heads.content_rests());
    let state = if rests { "resting" } else { "moving" };
    Ok(format!("mapped={mapped} away={away} runs={runs} delayed={delayed} state={state}").into_bytes())
}

/// The value of one of the two attributes in a view.
pub fn layout_attribute(view: &View, ino: Ino, name: &[u8]) -> Result<Vec<u8>> {
    let inode = view.inode(ino)?.ok_or(Error::Stale)?;
    if !has_property(inode.kind) {
        return Err(Error::NoAttribute);
    }
    let (value, source) = layout_in_force(view, &inode)?;
    Ok(if name == LAYOUT_SOURCE { source.into() } else { value.to_string().into_bytes() })
}

/// Sets the property of a live inode from the value of the attribute.
pub fn set_layout(
    commits: &Commits,
    caller: &Caller,
    node: NodeId,
    value: &[u8],
    mode: XattrMode,
) -> Result<()> {
    let own = chosen(value, Layout::parse)?;
    let own = own.map(|value| LayoutProperty { value, inherited: false });
    set_choice(commits, caller, node, own, mode)
}

impl Choice for LayoutProperty {
    fn of(inode: &mut Inode) -> &mut Option<LayoutProperty> {
        &mut inode.layout
    }

    fn is_inherited(&self) -> bool {
        self.inherited
    }

    fn inherited(dir: Ino, inode: &Inode) -> Option<LayoutProperty> {
        inherited_layout(dir, inode)
    }

    fn is_known(volume: &Volume) -> bool {
        volume.knows_homes()
    }

    fn allow(volume: &Volume) -> std::result::Result<(), VolumeError> {
        volume.allow_homes()
    }
}
