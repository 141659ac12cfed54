//! How many blocks `stat` shows of a live file, and telling the kernel when a flush has changed that.
//!
//! Nobody is told of a number that did not change, or that nobody asked for.

use super::heads::Heads;
use crate::format::inode::Inode;
use crate::format::{BLOCK_BYTES, Ino};
use crate::fs::items::Items;
use crate::limits::INLINE_BYTES_MAX;
use crate::ops::NodeId;

/// The blocks of a regular file, `fresh` delayed ones that have no place yet included.
pub fn with_delayed(inode: &Inode, fresh: u64) -> u64 {
    match inode.blocks + fresh * (BLOCK_BYTES / 512) {
        0 if inode.has_inline => inode.size.min(INLINE_BYTES_MAX).div_ceil(512),
        blocks => blocks,
    }
}

/// What `stat` shows as blocks of a regular file, noted where that may change by itself.
pub fn show_blocks(heads: &Heads, node: NodeId, inode: &Inode) -> u64 {
    let Ok((head, ino)) = heads.find(node) else { return with_delayed(inode, 0) };
    let (fresh, view) = {
        let gate = head.gate.read();
        let fresh = gate.dirty.fresh_blocks(ino);
        if !gate.dirty.waits(ino) {
            let blocks = with_delayed(inode, fresh);
            if heads.handles.is_writer(node) {
                heads.shown.tell(node, blocks);
            }
            return blocks;
        }
        // Before the gate opens, so that whoever changes the number now finds something to tell.
        heads.shown.tell(node, u64::MAX);
        (fresh, heads.view(&head))
    };
    // The view that the inode is from may be older than the flush that has placed its blocks.
    let now = view.ok().and_then(|view| view.inode(ino).ok().flatten());
    let blocks = with_delayed(now.as_ref().unwrap_or(inode), fresh);
    heads.shown.tell(node, blocks);
    blocks
}

/// A file was opened for writing.
pub fn opened_to_write(heads: &Heads, node: NodeId) {
    heads.shown.opened(node, blocks_now(heads, node).unwrap_or(0));
}

/// Has the kernel forget the number of a file if it is another now.
pub fn tell_blocks(heads: &Heads, node: NodeId) {
    let Some(number) = heads.shown.get(node) else { return };
    let now = blocks_now(heads, node);
    if now != Some(number.blocks) {
        // First, so that whoever finds nothing to tell knows that it was told.
        if now.is_some() {
            heads.kernel().forget_attributes(node);
        }
        heads.shown.forget(node, number);
    }
}

/// After a flush: the same for all files.
pub fn tell_all_blocks(heads: &Heads) {
    for node in heads.shown.all() {
        tell_blocks(heads, node);
        let waits = heads.find(node).is_ok_and(|(head, ino)| head.gate.read().dirty.waits(ino));
        if !heads.handles.is_writer(node) && !waits {
            heads.shown.drop(node);
        }
    }
}

fn blocks_now(heads: &Heads, node: NodeId) -> Option<u64> {
    let (head, ino): (_, Ino) = heads.find(node).ok()?;
    let (fresh, view) = {
        let gate = head.gate.read();
        (gate.dirty.fresh_blocks(ino), heads.view(&head).ok()?)
    };
    Some(with_delayed(&view.inode(ino).ok().flatten()?, fresh))
}
