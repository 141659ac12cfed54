//! Changing the size of a file.
//!
//! Content beyond the end is given back and the rest of the last block zeroed at once, so that a file which grows again
//! reads as zeros. A file with very many extents shrinks in steps; each step is a state that a reader may see and that
//! a crash may leave: a shorter file.

use super::Fs;
use super::change::Change;
use super::dirty::DirtyBlock;
use super::extents::{self, Keep};
use super::flags;
use super::items::Items;
use crate::format::inode::Inode;
use crate::format::{BLOCK_BYTES, Ino, Key, Kind, LineId};
use crate::limits::FILE_BYTES_MAX;
use crate::ops::{Error, Result};
use crate::volume::Purpose;

/// Extents that one change takes away.
pub(super) const STEP_ITEMS: usize = 256;

impl Fs {
    /// Cuts the file from its end until what is left beyond `size` fits one change.
    pub(super) fn shrink_in_steps(&self, ino: Ino, size: u64) -> Result<()> {
        if size > FILE_BYTES_MAX {
            return Err(Error::FileTooBig);
        }
        loop {
            let view = self.volume.live(LineId::MAIN)?;
            let from = Key::new(ino.0, Kind::Extent, size);
            let end = Key::new(ino.0, Kind::Extent, u64::MAX);
            if view.range(&from, &end).take(STEP_ITEMS + 1).count() <= STEP_ITEMS {
                return Ok(());
            }
            drop(view);
            let mut change = self.change()?;
            let mut inode = change.regular(ino)?;
            flags::check_change(&inode)?;
            change.reserve(STEP_ITEMS, Purpose::Delete)?;
            for _ in 0..STEP_ITEMS {
                match extents::last(change.view(), ino)? {
                    Some((at, ext)) if at >= size => {
                        change.unmap(ino, &mut inode, at, at + ext.len_bytes())?;
                        if inode.size > at {
                            inode.size = at;
                        }
                    }
                    _ => break,
                }
            }
            (inode.mtime, inode.ctime) = (change.now, change.now);
            change.put_inode(ino, &inode);
            change.apply()?;
        }
    }
}

impl Change<'_> {
    /// Makes `inode` of `size` bytes. Reserves on its own for the shrinking; the caller puts the inode and applies.
    pub fn resize(&mut self, ino: Ino, inode: &mut Inode, size: u64) -> Result<()> {
        if size > FILE_BYTES_MAX {
            return Err(Error::FileTooBig);
        }
        if size >= inode.size {
            inode.size = size;
            return self.reserve(1, Purpose::Write);
        }
        let from = size.next_multiple_of(BLOCK_BYTES);
        let tail = self.tail_block(ino, inode, size)?;
        self.will_delay(ino, inode, u64::from(tail.is_some()))?;
        self.reserve(STEP_ITEMS + 4, Purpose::Delete)?;
        self.discard(ino, from / BLOCK_BYTES, u64::MAX);
        self.unmap(ino, inode, from, u64::MAX - u64::MAX % BLOCK_BYTES)?;
        self.cut_inline(ino, inode, size)?;
        if !size.is_multiple_of(BLOCK_BYTES) {
            let n = size / BLOCK_BYTES;
            let delayed = self.gate.dirty.get(ino, n).is_some();
            if delayed || tail.is_some() {
                let base =
                    tail.unwrap_or_else(|| DirtyBlock { data: super::dirty::zero_block(), fresh: true });
                self.zero_in_block(ino, n, (size % BLOCK_BYTES) as usize..BLOCK_BYTES as usize, base);
            }
        }
        inode.size = size;
        Ok(())
    }

    /// The last block of the shortened file, if it must be rewritten and is not delayed yet.
    fn tail_block(&self, ino: Ino, inode: &Inode, size: u64) -> Result<Option<DirtyBlock>> {
        let n = size / BLOCK_BYTES;
        if size.is_multiple_of(BLOCK_BYTES) || self.gate.dirty.get(ino, n).is_some() {
            return Ok(None);
        }
        match extents::at(self.view(), ino, size)? {
            Some((_, ext)) if !ext.is_unwritten() => {
                Ok(Some(DirtyBlock { data: self.old_block(ino, inode, n)?, fresh: false }))
            }
            _ => Ok(None),
        }
    }

    fn cut_inline(&mut self, ino: Ino, inode: &mut Inode, size: u64) -> Result<()> {
        if !inode.has_inline {
            return Ok(());
        }
        let bytes = self.inline(ino)?;
        let key = Key::new(ino.0, Kind::Inline, 0);
        if size == 0 {
            self.delete(key);
            inode.has_inline = false;
        } else if (bytes.len() as u64) > size {
            self.put(key, bytes[..size as usize].to_vec());
        }
        Ok(())
    }

    /// Takes the blocks `from..to` out of the map. Space for the items has been reserved.
    pub fn unmap(&mut self, ino: Ino, inode: &mut Inode, from: u64, to: u64) -> Result<()> {
        let grown = extents::replace(&mut self.txn, ino, from, to, Keep::Nothing, &[])?;
        inode.blocks = extents::add_blocks(inode.blocks, grown);
        Ok(())
    }
}
