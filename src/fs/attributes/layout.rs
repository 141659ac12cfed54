//! The layout as files see it: the property, and who follows which.
//!
//! As with compression, it is in the inode and copied to what is made in a directory; an inode without it follows the root. It
//! is read and set as an extended attribute that is never listed. Nothing moves when it is set: where content is, there is
//! its home. The first one in a store waits for a commit that keeps older programs out.

use super::compression::directory_of;
use crate::format::{BLOCK_BYTES, Ino, Layout, LayoutProperty};
use crate::fs::commits::Commits;
use crate::fs::heads::Heads;
use crate::fs::items::{FromHome, Items, from_home, has_property, inherited_layout, layout_in_force};
use crate::ops::{Caller, Error, FileType, NodeId, Result, XattrMode};
use crate::volume::{ReserveFor, View};

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
    let rests = heads.content_rests() && delayed == 0;
    let FromHome { mapped, away, runs } = found;
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
    let (head, ino) = commits.heads.target(node)?;
    let own = match value {
        b"inherit" => None,
        _ => {
            let parsed = std::str::from_utf8(value).ok().and_then(Layout::parse);
            Some(LayoutProperty { value: parsed.ok_or(Error::Invalid)?, inherited: false })
        }
    };
    let volume = &commits.heads.volume;
    if own.is_some() && !volume.knows_homes() && !commits.heads.options.read_only {
        super::compression::may_set(caller, &commits.heads.live_inode(&head, ino)?)?;
        volume.allow_homes()?;
        commits.commit()?;
    }
    let mut change = commits.heads.change(&head)?;
    let mut inode = change.known(ino)?;
    super::compression::may_set(caller, &inode)?;
    let existed = inode.layout.is_some_and(|own| !own.inherited);
    match mode {
        XattrMode::Create if existed => return Err(Error::Exists),
        XattrMode::Replace if !existed => return Err(Error::NoAttribute),
        _ => {}
    }
    inode.layout = match own {
        Some(own) => Some(own),
        None => match directory_of(&change, ino, &inode)? {
            Some(dir) => inherited_layout(dir, &change.known(dir)?),
            None => None,
        },
    };
    inode.ctime = change.now;
    change.put_inode(ino, &inode);
    change.finish(ReserveFor::Write)
}
