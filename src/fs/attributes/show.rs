//! What `stat` shows of an inode.

use crate::format::Ino;
use crate::format::inode::Inode;
use crate::fs::heads::{Heads, Target, show_blocks, target};
use crate::fs::items::Items;
use crate::ops::{Attr, Entry, Error, FileType, Handle, NodeId, Result};
use crate::volume::View;
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
        generation: heads.generation(node, inode.kind)?,
        entry_ttl: Duration::MAX,
        attr_ttl: Duration::MAX,
    })
}

/// The same for an inode that was read in `view`, which may be of a snapshot that is deleted and still read.
pub fn entry_in(heads: &Heads, view: &View, node: NodeId, inode: &Inode) -> Result<Entry> {
    let Target::Snapshot(..) = target(node) else { return entry(heads, node, inode) };
    let generation = heads.volume.slot_generation(view.id()).ok_or(Error::Stale)?;
    let (entry_ttl, attr_ttl) = (Duration::MAX, Duration::MAX);
    Ok(Entry { attr: attr(heads, node, inode), generation: generation.0.into(), entry_ttl, attr_ttl })
}

/// See [`Operations::getattr`](crate::ops::Operations::getattr), for nodes of heads and snapshots.
pub fn get(heads: &Heads, node: NodeId, handle: Option<Handle>) -> Result<(Attr, Duration)> {
    let view = heads.view_through(node, handle)?;
    let ino = Ino(node.ino());
    let inode = view.inode(ino)?.ok_or(Error::Stale)?;
    Ok((attr(heads, node, &inode), Duration::MAX))
}
