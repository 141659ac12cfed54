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
use super::inode::Writer;
use super::items::Items;
use super::options::Between;
use crate::format::inode::Inode;
use crate::format::{BLOCK_BYTES, Ino, Key, Kind};
use crate::limits::FILE_BYTES_MAX;
use crate::ops::{Error, Result};
use crate::volume::Purpose;

impl Fs {
    /// A change in which what the file has beyond `size` can be taken away, after as many that cut it from its end.
    pub(super) fn change_of_size(&self, writer: Writer, ino: Ino, size: u64) -> Result<Change<'_>> {
        if size > FILE_BYTES_MAX {
            return Err(Error::FileTooBig);
        }
        loop {
            let change = self.change()?;
            let (from, end) = (Key::new(ino.0, Kind::Extent, size), Key::new(ino.0, Kind::Extent, u64::MAX));
            let most = self.options.steps.items;
            if change.view().range(&from, &end).take(most + 1).count() <= most {
                return Ok(change);
            }
            change.shrink_step(writer, ino, size, most)?;
            self.between_steps()?;
        }
    }

    /// Called between two changes of one operation.
    pub(super) fn between_steps(&self) -> Result<()> {
        match self.options.steps.between {
            Between::Nothing => Ok(()),
            Between::Commit => self.commit(),
        }
    }
}

impl Change<'_> {
    /// Takes the last extents away and makes the file end where they began, what is delayed beyond included.
    fn shrink_step(mut self, writer: Writer, ino: Ino, size: u64, extents: usize) -> Result<()> {
        let mut inode = self.regular(ino)?;
        flags::check_change(&inode)?;
        self.written_by(writer, ino, &mut inode)?;
        self.reserve(extents, Purpose::Delete)?;
        for _ in 0..extents {
            match extents::last(self.view(), ino)? {
                Some((at, ext)) if at >= size => {
                    self.unmap(ino, &mut inode, at, at + ext.len_bytes())?;
                    inode.size = inode.size.min(at);
                }
                _ => break,
            }
        }
        // From the new end on: a flush between two steps must find nothing to map there.
        self.discard(ino, inode.size.div_ceil(BLOCK_BYTES), u64::MAX);
        (inode.mtime, inode.ctime) = (self.now, self.now);
        self.put_inode(ino, &inode);
        self.apply()
    }

    /// Makes `inode` of `size` bytes, in a change from [`Fs::change_of_size`]. Reserves on its own for the shrinking; the
    /// caller puts the inode and applies.
    pub fn resize(&mut self, ino: Ino, inode: &mut Inode, size: u64) -> Result<()> {
        if size > FILE_BYTES_MAX {
            return Err(Error::FileTooBig);
        }
        if size > inode.size {
            inode.size = size;
            return self.reserve(1, Purpose::Write);
        }
        // Also to the size that it has: then space beyond its end, which was asked for, is given back.
        let from = size.next_multiple_of(BLOCK_BYTES);
        let shorter = size < inode.size;
        let tail = if shorter { self.tail_block(ino, inode, size)? } else { None };
        let beyond = extents::overlapping(self.view(), ino, from, FILE_BYTES_MAX, usize::MAX)?.len();
        self.will_delay(ino, inode, u64::from(tail.is_some()))?;
        self.reserve(beyond + 4, Purpose::Delete)?;
        self.discard(ino, from / BLOCK_BYTES, u64::MAX);
        self.unmap(ino, inode, from, u64::MAX - u64::MAX % BLOCK_BYTES)?;
        self.cut_inline(ino, inode, size)?;
        if shorter && !size.is_multiple_of(BLOCK_BYTES) {
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
