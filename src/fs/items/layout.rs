//! The property that says where content goes that is written over: in the inode, or of the root for an inode without. And the
//! list of files whose content may be away from home.

use super::extents;
use super::reader::Items;
use crate::format::inode::Inode;
use crate::format::{Ino, Key, Kind, Layout, LayoutProperty};
use crate::ops::FileType;
use crate::volume::{View, VolumeError};

/// How far a file is from home.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct FromHome {
    /// Bytes that have a place.
    pub mapped: u64,
    /// Those of them that are away.
    pub away: u64,
    /// Physically contiguous runs of them.
    pub runs: u64,
}

/// Extents that are looked at in one go.
const EXTENTS_AT_ONCE: usize = 512;

/// The choice for an inode, and where it is from.
pub fn layout_in_force(
    items: &impl Items,
    inode: &Inode,
) -> std::result::Result<(Layout, &'static str), VolumeError> {
    if let Some(own) = inode.layout {
        return Ok((own.value, if own.inherited { "inherited" } else { "local" }));
    }
    let root = items.inode(Ino::ROOT)?.and_then(|root| root.layout);
    Ok(root.map_or((Layout::Row, "default"), |own| (own.value, "store")))
}

/// What something gets that is made in a directory, or gives up its own. The root's is followed, not copied.
pub fn inherited_layout(dir: Ino, inode: &Inode) -> Option<LayoutProperty> {
    let own = inode.layout.filter(|_| dir != Ino::ROOT)?;
    Some(LayoutProperty { inherited: true, ..own })
}

/// True for a file whose content goes home.
pub fn goes_home(items: &impl Items, inode: &Inode) -> std::result::Result<bool, VolumeError> {
    Ok(inode.kind == FileType::Regular && layout_in_force(items, inode)?.0 == Layout::Cow)
}

/// The item of a file that may have content away from home.
pub fn away_record(ino: Ino) -> Key {
    Key::new(Ino::ORPHANS.0, Kind::Away, ino.0)
}

/// How far a file is from home, by its extents in a view.
pub fn from_home(view: &View, ino: Ino, inode: &Inode) -> std::result::Result<FromHome, VolumeError> {
    let (mut found, mut end) = (FromHome::default(), None);
    let mut at = 0;
    while at < inode.size.max(1) {
        let some = extents::overlapping(view, ino, at, u64::MAX, EXTENTS_AT_ONCE)?;
        let Some((start, last)) = some.last() else { break };
        at = start + last.len_bytes();
        for (_, extent) in &some {
            found.mapped += extent.len_bytes();
            found.away += if extent.is_away() { extent.len_bytes() } else { 0 };
            for (from, to) in view.runs_of(extent) {
                found.runs += u64::from(end != Some(from));
                end = Some(to);
            }
        }
        if some.len() < EXTENTS_AT_ONCE {
            break;
        }
    }
    Ok(found)
}
