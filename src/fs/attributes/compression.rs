//! Compression as files see it: the property, who follows which, and when trying is not worth the time.
//!
//! The property is in the inode and copied to what is made in a directory; an inode without it follows the root. It is
//! read and set as an extended attribute that is never listed. It says what becomes of content that is written from then
//! on and changes nothing that is stored. The first one in a store waits for a commit that keeps older programs out.

use crate::format::inode::Inode;
use crate::format::link::Links;
use crate::format::{Compression, CompressionProperty, Ino, Key, Kind};
use crate::fs::commits::Commits;
use crate::fs::error::{damaged, inconsistent};
use crate::fs::heads::Change;
use crate::fs::items::{Items, has_property, in_force, inherited};
use crate::ops::{Caller, Error, FileType, NodeId, Result, XattrMode};
use crate::volume::{ReserveFor, View};

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
    let (head, ino) = commits.heads.target(node)?;
    let own = match value {
        b"inherit" => None,
        _ => {
            let parsed = std::str::from_utf8(value).ok().and_then(Compression::parse);
            Some(CompressionProperty { value: parsed.ok_or(Error::Invalid)?, inherited: false })
        }
    };
    if own.is_some() && !commits.heads.volume.knows_compression() && !commits.heads.options.read_only {
        may_set(caller, &commits.heads.live_inode(&head, ino)?)?;
        commits.heads.volume.allow_compression()?;
        commits.commit()?;
    }
    let mut change = commits.heads.change(&head)?;
    let mut inode = change.known(ino)?;
    may_set(caller, &inode)?;
    let existed = inode.compression.is_some_and(|own| !own.inherited);
    match mode {
        XattrMode::Create if existed => return Err(Error::Exists),
        XattrMode::Replace if !existed => return Err(Error::NoAttribute),
        _ => {}
    }
    inode.compression = match own {
        Some(own) => Some(own),
        None => above(&change, ino, &inode)?,
    };
    inode.ctime = change.now;
    change.put_inode(ino, &inode);
    change.finish(ReserveFor::Write)
}

/// The owner and root may.
pub(super) fn may_set(caller: &Caller, inode: &Inode) -> Result<()> {
    let owner = caller.uid == 0 || caller.uid == inode.uid;
    if owner && has_property(inode.kind) { Ok(()) } else { Err(Error::NotPermitted) }
}

/// What an inode inherits.
fn above(change: &Change<'_>, ino: Ino, inode: &Inode) -> Result<Option<CompressionProperty>> {
    Ok(match directory_of(change, ino, inode)? {
        Some(dir) => inherited(dir, &change.known(dir)?),
        None => None,
    })
}

/// The directory of an inode, and if it has several names, of one of them.
pub(super) fn directory_of(change: &Change<'_>, ino: Ino, inode: &Inode) -> Result<Option<Ino>> {
    let dir = match inode.kind {
        FileType::Directory => inode.parent,
        _ => {
            let (from, to) = (Key::new(ino.0, Kind::Link, 0), Key::new(ino.0, Kind::Dirent, 0));
            let Some(first) = change.view().range(&from, &to).next() else { return Ok(None) };
            let links = Links::decode(&first?.1).map_err(|e| damaged(ino, e))?;
            let first = links.names.first().map(|(dir, _)| *dir);
            first.ok_or_else(|| inconsistent(ino, "has a link to nowhere"))?
        }
    };
    Ok(Some(dir))
}
