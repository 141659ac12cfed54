//! Reading content: what the tree maps, under what is delayed.
//!
//! The same for the live tree and for snapshots. Locks are held only to take a view and the delayed blocks of the
//! range, never during I/O.

use crate::format::inode::Inode;
use crate::format::{BLOCK_BYTES, Ino};
use crate::fs::heads::{Around, Block, Heads, Open};
use crate::fs::items::{Items, extents, path_of, read_blocks};
use crate::ops::{Error, FileType, Handle, NodeId, Result};
use crate::volume::{View, VolumeError};
use std::ops::Range;
use std::sync::Arc;

/// A file at one moment: its view and the delayed blocks of the range that was asked for.
pub struct ContentView {
    /// Where the rest is.
    pub view: Arc<View>,
    /// Its number there.
    pub ino: Ino,
    /// Its attributes.
    pub inode: Inode,
    /// Delayed blocks by number.
    pub overlay: Vec<(u64, Block)>,
}

/// The regular file behind a handle, with the delayed blocks that `from..to` (bytes) touches.
pub fn content(heads: &Heads, node: NodeId, handle: Handle, from: u64, to: u64) -> Result<ContentView> {
    content_of(heads, &*readable(heads, node, handle)?, from, to)
}

fn readable(heads: &Heads, node: NodeId, handle: Handle) -> Result<Arc<Open>> {
    let open = heads.handles.get_to_read(node, handle)?;
    if open.flags.read { Ok(open) } else { Err(Error::BadHandle) }
}

/// As [`Self::content`], through a handle that may be for writing only.
pub fn content_any(heads: &Heads, node: NodeId, handle: Handle, from: u64, to: u64) -> Result<ContentView> {
    content_of(heads, &*heads.handles.get_to_read(node, handle)?, from, to)
}

fn content_of(heads: &Heads, open: &Open, from: u64, to: u64) -> Result<ContentView> {
    let ino = Ino(open.node.ino());
    let (view, overlay) = match &open.view {
        Some(view) => (view.clone(), Vec::new()),
        None => {
            let head = open.head()?;
            let gate = head.gate.read();
            let overlay = gate.dirty.collect(ino, from / BLOCK_BYTES, to.div_ceil(BLOCK_BYTES));
            (Arc::new(heads.view(head)?), overlay)
        }
    };
    let inode = view.inode(ino)?.ok_or(Error::Stale)?;
    match inode.kind {
        FileType::Regular => Ok(ContentView { view, ino, inode, overlay }),
        FileType::Directory => Err(Error::IsADirectory),
        _ => Err(Error::Invalid),
    }
}

/// See [`Operations::read`](crate::ops::Operations::read).
pub fn read_file(heads: &Heads, node: NodeId, handle: Handle, offset: u64, out: &mut [u8]) -> Result<usize> {
    let (open, len) = (readable(heads, node, handle)?, out.len());
    let content = content_of(heads, &open, offset, offset.saturating_add(len as u64))?;
    if let Some(around) = open.around.note(offset, len as u64, content.inode.size) {
        content.will_need(around, offset, len);
    }
    if open.around.streams(offset, len as u64) {
        content.will_need_leaves(&open.around, offset.saturating_add(len as u64));
    }
    content.read(offset, out).map_err(|e| content.unreadable(offset, e))
}

impl ContentView {
    /// The answer to a read that failed: damage is logged with the path, for whoever has to restore the file.
    fn unreadable(&self, offset: u64, e: VolumeError) -> Error {
        if !matches!(e, VolumeError::Corrupt { .. } | VolumeError::Device(_)) {
            return e.into();
        }
        let what =
            format!("{} (view {}), from byte {offset}: {e}", path_of(&self.view, self.ino), self.view.id().0);
        log::error!("{what}");
        Error::Io(what)
    }

    /// Says what of the file is needed soon: those parts of `around` that lie beside a read of `len` bytes from `offset`
    /// on the device as well. What goes wrong here is found by the read.
    fn will_need(&self, around: Range<u64>, offset: u64, len: usize) {
        let from = offset - offset % BLOCK_BYTES;
        let to = self.inode.size.min(offset.saturating_add(len as u64)).next_multiple_of(BLOCK_BYTES);
        for (start, ext) in
            extents::overlapping(&self.view, self.ino, from, to, usize::MAX).unwrap_or_default()
        {
            let (first, end) = (start.max(around.start), (start + ext.len_bytes()).min(around.end));
            if first < from || to < end {
                self.view.will_need(&ext, first - start, end - first);
            }
        }
    }

    /// Says which leaves behind `offset` are needed soon: a fragmented file has one for each MiB or two.
    fn will_need_leaves(&self, around: &Around, offset: u64) {
        if offset < self.inode.size
            && let Some(ahead) = around.ahead(offset)
        {
            let (from, to) = (extents::key(self.ino, ahead.start), extents::key(self.ino, ahead.end));
            self.view.will_need_leaves(&from, &to);
        }
    }

    /// Fills `out` from `offset` on and tells how much of it; less than all only at the end of the file.
    pub fn read(&self, offset: u64, out: &mut [u8]) -> std::result::Result<usize, VolumeError> {
        let end = self.inode.size.min(offset.saturating_add(out.len() as u64));
        if offset >= end {
            return Ok(0);
        }
        let (from, len) = (offset - offset % BLOCK_BYTES, (end - offset) as usize);
        let whole = (end.next_multiple_of(BLOCK_BYTES) - from) as usize;
        if from == offset && whole <= out.len() {
            self.read_whole(from, &mut out[..whole])?;
        } else {
            let mut blocks = vec![0; whole];
            self.read_whole(from, &mut blocks)?;
            let skipped = (offset - from) as usize;
            out[..len].copy_from_slice(&blocks[skipped..skipped + len]);
        }
        Ok(len)
    }

    /// Fills `out` with whole blocks from `from` on, zeros behind the end of the file.
    fn read_whole(&self, from: u64, out: &mut [u8]) -> std::result::Result<(), VolumeError> {
        let to = from + out.len() as u64;
        read_blocks(&self.view, self.ino, &self.inode, from, out, |n| {
            self.overlay.binary_search_by_key(&n, |b| b.0).is_ok()
        })?;
        for (n, block) in &self.overlay {
            let at = n * BLOCK_BYTES;
            if at >= from && at < to {
                let at = (at - from) as usize;
                out[at..at + BLOCK_BYTES as usize].copy_from_slice(&block[..]);
            }
        }
        Ok(())
    }
}
