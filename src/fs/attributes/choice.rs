//! A choice that is kept in inodes: who may set it, and what an inode gets that gives up its own.
//!
//! It is copied to what is made in a directory; an inode without it follows the root. It says what becomes of content that
//! is written from then on and changes nothing that is stored. The first one in a store waits for a commit that keeps
//! programs out that do not know it.

use crate::format::inode::Inode;
use crate::format::link::Links;
use crate::format::{Ino, Key, Kind};
use crate::fs::commits::Commits;
use crate::fs::error::{damaged, inconsistent};
use crate::fs::heads::Change;
use crate::fs::items::has_property;
use crate::ops::{Caller, Error, FileType, NodeId, Result, XattrMode};
use crate::volume::{ReserveFor, Volume, VolumeError};

/// One kind of choice, as an inode has it.
pub trait Choice: Copy {
    /// Where an inode keeps it.
    fn of(inode: &mut Inode) -> &mut Option<Self>;
    /// True if it was copied from a directory.
    fn is_inherited(&self) -> bool;
    /// What something gets that is made in a directory, or gives up its own there.
    fn inherited(dir: Ino, inode: &Inode) -> Option<Self>;
    /// True if programs that do not know it refuse the store.
    fn is_known(volume: &Volume) -> bool;
    /// Has the next commit keep them out.
    fn allow(volume: &Volume) -> std::result::Result<(), VolumeError>;
}

/// The choice that the value of an attribute makes, none to give up one's own.
pub fn chosen<T>(value: &[u8], parse: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>> {
    match value {
        b"inherit" => Ok(None),
        _ => std::str::from_utf8(value).ok().and_then(parse).map(Some).ok_or(Error::Invalid),
    }
}

/// Sets the choice of a live inode, or has it give up its own.
pub fn set_choice<C: Choice>(
    commits: &Commits,
    caller: &Caller,
    node: NodeId,
    own: Option<C>,
    mode: XattrMode,
) -> Result<()> {
    let (head, ino) = commits.heads.target(node)?;
    let volume = &commits.heads.volume;
    if own.is_some() && !C::is_known(volume) && !commits.heads.options.read_only {
        may_set(caller, &commits.heads.live_inode(&head, ino)?)?;
        C::allow(volume)?;
        commits.commit()?;
    }
    let mut change = commits.heads.change(&head)?;
    let mut inode = change.known(ino)?;
    may_set(caller, &inode)?;
    let existed = C::of(&mut inode).is_some_and(|own| !own.is_inherited());
    match mode {
        XattrMode::Create if existed => return Err(Error::Exists),
        XattrMode::Replace if !existed => return Err(Error::NoAttribute),
        _ => {}
    }
    let own = match own {
        Some(own) => Some(own),
        None => match directory_of(&change, ino, &inode)? {
            Some(dir) => C::inherited(dir, &change.known(dir)?),
            None => None,
        },
    };
    *C::of(&mut inode) = own;
    inode.ctime = change.now;
    change.put_inode(ino, &inode);
    change.finish(ReserveFor::Write)
}

/// The owner and root may.
fn may_set(caller: &Caller, inode: &Inode) -> Result<()> {
    let owner = caller.uid == 0 || caller.uid == inode.uid;
    if owner && has_property(inode.kind) { Ok(()) } else { Err(Error::NotPermitted) }
}

/// The directory of an inode, and if it has several names, of one of them.
fn directory_of(change: &Change<'_>, ino: Ino, inode: &Inode) -> Result<Option<Ino>> {
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
