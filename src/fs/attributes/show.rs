//! What `stat` shows of an inode.

use crate::format::Ino;
use crate::format::inode::Inode;
use crate::fs::heads::{Heads, show_blocks};
use crate::fs::items::Items;
use crate::ops::{Attr, Entry, Error, FileType, Handle, NodeId, Result};
use std::time::Duration;

/// What `stat` shows of an inode.
pub fn attr(heads: &Heads, node: NodeId, inode: &Inode) -> Attr {
    let blocks = match inode.kind {
        FileType::Regular => show_blocks(heads, node, inode),
        _ => inode.blocks,
    };
    Attr {
        node,
        kind: inode.kind,
        mode: inode.mode,
        nlink: inode.nlink,
        uid: inode.uid,
        gid: inode.gid,
        rdev: inode.rdev,
        size: inode.size,
        blocks,
        atime: inode.atime,
        mtime: inode.mtime,
        ctime: inode.ctime,
        btime: inode.btime,
    }
}

/// The answer to a lookup that found `inode`. The kernel may trust it until it is told otherwise.
pub fn entry(heads: &Heads, node: NodeId, inode: &Inode) -> Result<Entry> {
    Ok(Entry {
        attr: attr(heads, node, inode),
        generation: heads.generation(node)?,
        entry_ttl: Duration::MAX,
        attr_ttl: Duration::MAX,
    })
}

/// See [`Operations::getattr`](crate::ops::Operations::getattr), for nodes of heads and snapshots.
pub fn get(heads: &Heads, node: NodeId, handle: Option<Handle>) -> Result<(Attr, Duration)> {
    let view = heads.view_through(node, handle)?;
    let ino = Ino(node.ino());
    let inode = view.inode(ino)?.ok_or(Error::Stale)?;
    Ok((attr(heads, node, &inode), Duration::MAX))
}
