//! What a new inode is like.

use super::acl::inherit_acl;
use super::flags;
use super::privileges::SET_GROUP_ID;
use crate::format::Ino;
use crate::format::inode::{Inode, MODE_BITS};
use crate::fs::heads::{Change, Head, Heads};
use crate::fs::items::{Items, has_property, inherited, inherited_layout};
use crate::ops::{Caller, FileFlags, FileType, Result, Timestamp};
use crate::volume::ReserveFor;

/// An inode that nobody owns yet.
fn new_inode(kind: FileType, mode: u32, now: Timestamp, generation: u64) -> Inode {
    Inode {
        kind,
        mode: mode & MODE_BITS,
        nlink: if kind == FileType::Directory { 2 } else { 1 },
        uid: 0,
        gid: 0,
        rdev: 0,
        has_inline: false,
        has_xattr: false,
        size: 0,
        blocks: 0,
        atime: now,
        mtime: now,
        ctime: now,
        btime: now,
        parent: Ino(0),
        generation,
        compression: None,
        layout: None,
        flags: FileFlags::default(),
    }
}

/// A new inode in `parent`, which may pass on its group and its default access list. The caller puts it.
pub fn new_child(
    change: &mut Change<'_>,
    caller: &Caller,
    (dir, parent): (Ino, &Inode),
    kind: FileType,
    mode: u32,
) -> Result<(Ino, Inode)> {
    let mut inode = new_inode(kind, mode, change.now, change.generation());
    (inode.uid, inode.gid) = (caller.uid, caller.gid);
    if parent.mode & SET_GROUP_ID != 0 {
        inode.gid = parent.gid;
        if kind == FileType::Directory {
            inode.mode |= SET_GROUP_ID;
        }
    }
    inode.flags = flags::inherited(parent.flags, kind);
    if has_property(kind) {
        inode.compression = inherited(dir, parent);
        inode.layout = inherited_layout(dir, parent);
    }
    let ino = change.next_ino()?;
    inherit_acl(change, caller, (dir, parent), ino, &mut inode)?;
    Ok((ino, inode))
}

/// The root of an empty file system.
pub fn make_root(heads: &Heads, head: &Head) -> Result<()> {
    let mut change = heads.change(head)?;
    if change.inode(Ino::ROOT)?.is_some() {
        return Ok(());
    }
    let mut root = new_inode(FileType::Directory, 0o755, change.now, change.generation());
    (root.uid, root.gid) = (heads.options.root_uid, heads.options.root_gid);
    root.parent = Ino::ROOT;
    change.put_inode(Ino::ROOT, &root);
    change.finish(ReserveFor::Write)
}
