//! Space without content: `fallocate` in all its modes, and `lseek` for data and holes.
//!
//! Space that was asked for is an unwritten extent. Long ranges are worked off in steps from the start; the size
//! changes with the last one.

use super::Fs;
use super::change::Change;
use super::dirty::DirtyBlock;
use super::extents::{self, Keep};
use super::intent::Note;
use super::read::Content;
use super::truncate::STEP_ITEMS;
use crate::format::inode::Inode;
use crate::format::{BLOCK_BYTES, Ino, Key, Kind};
use crate::limits::FILE_BYTES_MAX;
use crate::ops::{AllocateMode, Caller, Error, Handle, NodeId, Result, SeekTarget};
use crate::volume::{Purpose, Volume};

/// Space that one change allocates, in bytes.
const STEP_BYTES: u64 = 256 << 20;

/// What becomes of content in a range that gets space.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Old {
    Stays,
    BecomesZero,
}

impl Fs {
    /// See [`Operations::fallocate`](crate::ops::Operations::fallocate).
    pub(super) fn allocate(
        &self,
        caller: &Caller,
        node: NodeId,
        handle: Handle,
        offset: u64,
        len: u64,
        mode: AllocateMode,
    ) -> Result<()> {
        let open = self.handles.get(node, handle)?;
        if !open.flags.write || !node.is_live() {
            return Err(Error::BadHandle);
        }
        if len == 0 {
            return Err(Error::Invalid);
        }
        let end = offset.checked_add(len).filter(|e| *e <= FILE_BYTES_MAX).ok_or(Error::FileTooBig)?;
        let ino = Ino(node.ino());
        let (outer_from, outer_to) = (offset - offset % BLOCK_BYTES, end.next_multiple_of(BLOCK_BYTES));
        let zero = !matches!(mode, AllocateMode::Extend | AllocateMode::KeepSize);
        if mode != AllocateMode::PunchHole {
            self.check_space(ino, outer_to - outer_from)?;
        }
        if zero {
            self.zero_edges(ino, offset, end)?;
        }
        let from = offset.next_multiple_of(BLOCK_BYTES);
        let to = (end - end % BLOCK_BYTES).max(from);
        match mode {
            AllocateMode::Extend | AllocateMode::KeepSize => {
                self.allocate_in_steps(ino, outer_from, outer_to, Old::Stays)?
            }
            AllocateMode::PunchHole => self.punch(ino, from, to)?,
            AllocateMode::ZeroRange | AllocateMode::ZeroRangeKeepSize => {
                self.allocate_in_steps(ino, from, to, Old::BecomesZero)?;
                self.allocate_in_steps(ino, outer_from, outer_to, Old::Stays)?;
            }
        }
        let grow = matches!(mode, AllocateMode::Extend | AllocateMode::ZeroRange);
        self.touch_allocated(caller, ino, if grow { end } else { 0 })?;
        if open.flags.sync { self.sync() } else { Ok(()) }
    }

    /// Refuses what cannot fit before anything is changed.
    fn check_space(&self, ino: Ino, bytes: u64) -> Result<()> {
        let mapped = self.live_inode(ino)?.blocks.saturating_mul(512);
        let available = self.volume.space().available;
        if bytes.saturating_sub(mapped) > available { Err(Error::NoSpace) } else { Ok(()) }
    }

    /// Zeroes the parts of blocks at both ends of a range.
    fn zero_edges(&self, ino: Ino, offset: u64, end: u64) -> Result<()> {
        let mut change = self.change()?;
        let inode = change.regular(ino)?;
        let mut cuts: Vec<(u64, usize, usize, DirtyBlock)> = Vec::new();
        for n in [offset / BLOCK_BYTES, end / BLOCK_BYTES] {
            let at = n * BLOCK_BYTES;
            let (from, to) = (offset.max(at), end.min(at + BLOCK_BYTES));
            let partial = from < to && to - from < BLOCK_BYTES;
            if partial
                && !cuts.iter().any(|(m, ..)| *m == n)
                && let Some(block) = change.backed(ino, &inode, n)?
            {
                cuts.push((n, (from - at) as usize, (to - at) as usize, block));
            }
        }
        change.reserve(8, cuts.len() as u64 * BLOCK_BYTES, Purpose::Delete)?;
        for (n, from, to, block) in cuts {
            change.zero_in_block(ino, n, from..to, block);
        }
        change.apply()
    }

    /// Makes a hole of whole blocks.
    fn punch(&self, ino: Ino, mut from: u64, to: u64) -> Result<()> {
        while from < to {
            let mut change = self.change()?;
            let mut inode = change.regular(ino)?;
            let found = extents::overlapping(change.view(), ino, from, to, STEP_ITEMS + 1)?;
            let step = if found.len() > STEP_ITEMS { found[STEP_ITEMS].0 } else { to };
            change.reserve(found.len() + 4, 0, Purpose::Delete)?;
            change.forget_content(ino, &mut inode, from, step);
            change.unmap(ino, &mut inode, from, step)?;
            change.put_inode(ino, &inode);
            change.apply()?;
            from = step;
        }
        Ok(())
    }

    fn allocate_in_steps(&self, ino: Ino, mut from: u64, to: u64, old: Old) -> Result<()> {
        while from < to {
            let step = to.min(from + STEP_BYTES);
            self.change()?.allocate(&self.volume, ino, from, step, old)?;
            from = step;
        }
        Ok(())
    }

    /// Times, privileges and perhaps the size after space has changed.
    fn touch_allocated(&self, caller: &Caller, ino: Ino, size: u64) -> Result<()> {
        let mut change = self.change()?;
        let mut inode = change.regular(ino)?;
        inode.size = inode.size.max(size);
        (inode.mtime, inode.ctime) = (change.now, change.now);
        if caller.uid != 0 {
            change.kill_privileges(ino, &mut inode)?;
        }
        change.put_inode(ino, &inode);
        change.finish(Purpose::Delete)
    }

    /// See [`Operations::lseek`](crate::ops::Operations::lseek).
    pub(super) fn seek(&self, node: NodeId, handle: Handle, offset: u64, target: SeekTarget) -> Result<u64> {
        let content = self.content_any(node, handle, offset, u64::MAX - BLOCK_BYTES)?;
        if offset >= content.inode.size {
            return Err(Error::NoSuchOffset);
        }
        match target {
            SeekTarget::Data => content.next_data(offset)?.ok_or(Error::NoSuchOffset),
            SeekTarget::Hole => content.next_hole(offset),
        }
    }
}

impl Change<'_> {
    /// A block that holds content and is not delayed, ready to be; `None` if it is a hole. A delayed one is returned as
    /// an empty stand-in that is not used.
    fn backed(&self, ino: Ino, inode: &Inode, n: u64) -> Result<Option<DirtyBlock>> {
        if let Some(data) = self.gate.dirty.get(ino, n) {
            return Ok(Some(DirtyBlock { data: data.clone(), fresh: false }));
        }
        let mapped = extents::at(self.view(), ino, n * BLOCK_BYTES)?;
        let inline = n == 0 && inode.has_inline;
        if !inline && mapped.as_ref().is_none_or(|(_, ext)| ext.is_unwritten()) {
            return Ok(None);
        }
        Ok(Some(DirtyBlock { data: self.old_block(ino, inode, n)?, fresh: mapped.is_none() }))
    }

    /// Notes that the tree maps blocks now.
    fn mapped(&mut self, ino: Ino, from: u64, to: u64) {
        Note::Mapped { ino, from, to }.put(&mut self.txn);
        self.gate.dirty.mapped(ino, from, to);
    }

    /// Forgets content outside the block map.
    fn forget_content(&mut self, ino: Ino, inode: &mut Inode, from: u64, to: u64) {
        self.discard(ino, from / BLOCK_BYTES, to / BLOCK_BYTES);
        if from == 0 && to > 0 && inode.has_inline {
            self.delete(Key::new(ino.0, Kind::Inline, 0));
            inode.has_inline = false;
        }
    }

    fn allocate(mut self, volume: &Volume, ino: Ino, from: u64, to: u64, old: Old) -> Result<()> {
        let mut inode = self.regular(ino)?;
        let found = extents::overlapping(self.view(), ino, from, to, usize::MAX)?;
        let mut gaps = Vec::new();
        let mut at = from;
        for (off, ext) in &found {
            if old == Old::BecomesZero && !ext.is_unwritten() {
                continue;
            }
            if at < *off {
                gaps.push((at, *off));
            }
            at = off + ext.len_bytes();
        }
        if at < to {
            gaps.push((at, to));
        }
        let staged = gaps
            .iter()
            .map(|(from, to)| volume.stage_unwritten(to - from))
            .collect::<std::result::Result<Vec<_>, _>>()?;
        // Content in the tree must move out of the way of an extent in the first block.
        let moved = match old == Old::Stays && from == 0 && inode.has_inline {
            true => Some(DirtyBlock { data: self.old_block(ino, &inode, 0)?, fresh: false }),
            false => None,
        };
        let items = found.len() + 2 * gaps.len() + ((to - from) / (128 * 1024)) as usize + 4;
        self.reserve(items, if moved.is_some() { BLOCK_BYTES } else { 0 }, Purpose::Write)?;
        match old {
            Old::BecomesZero => self.forget_content(ino, &mut inode, from, to),
            Old::Stays => self.mapped(ino, from / BLOCK_BYTES, to / BLOCK_BYTES),
        }
        if let Some(block) = moved {
            self.write_block(ino, 0, 0, &[], block);
            self.delete(Key::new(ino.0, Kind::Inline, 0));
            inode.has_inline = false;
        }
        for ((from, to), staged) in gaps.into_iter().zip(staged) {
            let new = extents::lay(from, self.txn.publish(staged));
            let grown = extents::replace(&mut self.txn, ino, from, to, Keep::Nothing, &new)?;
            inode.blocks = extents::add_blocks(inode.blocks, grown);
        }
        self.put_inode(ino, &inode);
        self.apply()
    }
}

impl Content {
    /// Start of the data at or after `pos`.
    fn next_data(&self, pos: u64) -> Result<Option<u64>> {
        if self.inode.has_inline && pos < BLOCK_BYTES {
            return Ok(Some(pos));
        }
        let delayed = self.overlay.partition_point(|(n, _)| (n + 1) * BLOCK_BYTES <= pos);
        let delayed = self.overlay.get(delayed).map(|(n, _)| pos.max(n * BLOCK_BYTES));
        let mut mapped = None;
        let mut from = pos;
        while let Some((at, ext)) = extents::next(&self.view, self.ino, from)? {
            if !ext.is_unwritten() {
                mapped = Some(pos.max(at));
                break;
            }
            from = at + ext.len_bytes();
        }
        let first = delayed.into_iter().chain(mapped).min();
        Ok(first.filter(|at| *at < self.inode.size))
    }

    /// Start of the hole at or after `pos`; the end of the file is one.
    fn next_hole(&self, mut pos: u64) -> Result<u64> {
        while pos < self.inode.size {
            let n = pos / BLOCK_BYTES;
            let delayed = self.overlay.binary_search_by_key(&n, |b| b.0).is_ok();
            if delayed || (n == 0 && self.inode.has_inline) {
                pos = (n + 1) * BLOCK_BYTES;
                continue;
            }
            match extents::at(&self.view, self.ino, pos)? {
                Some((at, ext)) if !ext.is_unwritten() => pos = at + ext.len_bytes(),
                _ => return Ok(pos),
            }
        }
        Ok(self.inode.size)
    }
}
