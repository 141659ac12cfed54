//! Set-id bits and `security.capability`: they fall when the owner changes, or somebody else changes content.
//!
//! Who may change what is the kernel's question.

use super::stored::take_xattr;
use crate::format::Ino;
use crate::format::inode::Inode;
use crate::fs::heads::{Change, Head, Heads};
use crate::ops::{Caller, Result};

const SET_USER_ID: u32 = 0o4000;
/// The set-group-id bit.
pub const SET_GROUP_ID: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o010;

/// Whose change of content it is, as far as set-id bits care.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// Root: nothing falls.
    Privileged,
    /// Somebody in the group of the file.
    Member,
    /// Somebody else: set-group-id falls also where it marks no program.
    Outsider,
}

/// What the caller is to the file. The group is asked for only where it matters.
pub fn writer(heads: &Heads, head: &Head, caller: &Caller, ino: Ino) -> Result<Writer> {
    if caller.uid == 0 {
        return Ok(Writer::Privileged);
    }
    let inode = heads.live_inode(head, ino)?;
    let outside = inode.mode & SET_GROUP_ID != 0 && !heads.kernel().is_member(caller, inode.gid);
    Ok(if outside { Writer::Outsider } else { Writer::Member })
}

/// What a change of content by `writer` takes away. The caller puts the inode.
pub fn written_by(change: &mut Change<'_>, writer: Writer, ino: Ino, inode: &mut Inode) -> Result<()> {
    if writer == Writer::Privileged {
        return Ok(());
    }
    kill_privileges(change, ino, inode)?;
    if writer == Writer::Outsider && inode.mode & SET_GROUP_ID != 0 {
        inode.mode &= !SET_GROUP_ID;
        change.tell_fallen(ino);
    }
    Ok(())
}

/// What a change by somebody else takes away: set-user-id, set-group-id of what the group can execute, and
/// capabilities. The caller puts the inode.
pub fn kill_privileges(change: &mut Change<'_>, ino: Ino, inode: &mut Inode) -> Result<()> {
    let before = inode.mode;
    inode.mode &= !SET_USER_ID;
    if inode.mode & GROUP_EXECUTE != 0 {
        inode.mode &= !SET_GROUP_ID;
    }
    if inode.mode != before {
        change.tell_fallen(ino);
    }
    if inode.has_xattr {
        take_xattr(change, ino, b"security.capability")?;
    }
    Ok(())
}
