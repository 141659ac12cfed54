//! Space without content: `fallocate` in all its modes, and `lseek` for data and holes.
//!
//! Space that was asked for is an unwritten extent. Very long ranges are worked off in steps from the start, each of
//! which is a shorter request of the same kind.

use super::read::{ContentView, content_any};
use super::truncate::unmap;
use crate::format::inode::Inode;
use crate::format::{BLOCK_BYTES, Extent, Ino, Key, Kind};
use crate::fs::attributes::{Writer, flags, writer, written_by};
use crate::fs::commits::Commits;
use crate::fs::heads::{Change, DirtyBlock, Head, Heads};
use crate::fs::items::extents::{self, Keep};
use crate::fs::log::Note;
use crate::fs::options::{STEP_BYTES, Steps};
use crate::limits::FILE_BYTES_MAX;
use crate::ops::{AllocateMode, Caller, Error, Handle, NodeId, Result, SeekTarget};
use crate::volume::{ReserveFor, Volume};
use std::ops::Range;

/// Of space for content, one in so many bytes is for the tree that maps it: a leaf and its copy for 100 extents of full
/// length.
const MAPPED_PER_MAP: u64 = 256;

/// The same for a step that has not been done yet, which has to secure its worst case, and for the smallest of steps.
const MAPPED_PER_MAP_OF_STEP: u64 = 24;
const MAP_OF_STEP_MIN: u64 = 2 << 20;

/// What becomes of content in a range that gets space.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Old {
    Stays,
    BecomesZero,
}

/// How much of `available` bytes of space can be content that is mapped in long extents.
pub fn room_for_content(available: u64) -> u64 {
    let step = available.min(STEP_BYTES);
    let map = available / MAPPED_PER_MAP + step / MAPPED_PER_MAP_OF_STEP + MAP_OF_STEP_MIN;
    available.saturating_sub(map)
}

/// See [`Operations::fallocate`](crate::ops::Operations::fallocate).
pub fn allocate(
    commits: &Commits,
    caller: &Caller,
    node: NodeId,
    handle: Handle,
    offset: u64,
    len: u64,
    mode: AllocateMode,
) -> Result<()> {
    let open = commits.heads.handles.get(node, handle)?;
    if !open.flags.write || !node.is_live() {
        return Err(Error::BadHandle);
    }
    if len == 0 {
        return Err(Error::Invalid);
    }
    let end = offset.checked_add(len).filter(|e| *e <= FILE_BYTES_MAX).ok_or(Error::FileTooBig)?;
    let (head, ino) = (open.head()?, Ino(node.ino()));
    if mode != AllocateMode::PunchHole {
        let outer = offset - offset % BLOCK_BYTES..end.next_multiple_of(BLOCK_BYTES);
        check_space(&commits.heads, head, ino, outer.end - outer.start)?;
    }
    let writer = writer(&commits.heads, head, caller, ino)?;
    let mut from = offset;
    while from < end {
        if from > offset {
            commits.between_steps()?;
        }
        let change = commits.heads.change(head)?;
        let steps = commits.heads.options.steps;
        from = allocate_step(change, &commits.heads.volume, steps, writer, ino, from..end, mode)?;
    }
    if open.flags.sync { commits.sync() } else { Ok(()) }
}

/// Refuses what cannot fit before anything is changed.
fn check_space(heads: &Heads, head: &Head, ino: Ino, bytes: u64) -> Result<()> {
    let inode = heads.live_inode(head, ino)?;
    let mut mapped = inode.blocks.saturating_mul(512);
    if heads.volume.knows_compression() {
        // Blocks tell what is stored. All of its content may be mapped.
        mapped = mapped.max(inode.size);
    }
    let available = heads.volume.space().available;
    if bytes.saturating_sub(mapped) > available { Err(Error::NoSpace) } else { Ok(()) }
}

/// Brings what the kernel holds of a file that is written, and has not brought by itself. It asks with the inode locked and
/// its own pages unwritten: stores to a mapping, and with the write-back cache every write, so that it may even know a
/// larger size. Only a file that is open for writing has any, and a mapping keeps it open. Before `copy_file_range`, and
/// where `fallocate` takes content away, the kernel writes its pages by itself.
pub fn drain(heads: &Heads, node: NodeId) {
    heads.kernel().drain(node);
}

/// See [`Operations::lseek`](crate::ops::Operations::lseek): of what is here, without waiting for anybody.
pub fn seek(heads: &Heads, node: NodeId, handle: Handle, offset: u64, target: SeekTarget) -> Result<u64> {
    let content = content_any(heads, node, handle, offset, u64::MAX - BLOCK_BYTES)?;
    if offset >= content.inode.size {
        return Err(Error::NoSuchOffset);
    }
    match target {
        SeekTarget::Data => content.next_data(offset)?.ok_or(Error::NoSuchOffset),
        SeekTarget::Hole => content.next_hole(offset),
    }
}

/// Does the start of a range, whole as if it were all that was asked for; returns its end.
fn allocate_step(
    mut change: Change<'_>,
    volume: &Volume,
    steps: Steps,
    writer: Writer,
    ino: Ino,
    range: Range<u64>,
    mode: AllocateMode,
) -> Result<u64> {
    let mut inode = change.regular(ino)?;
    match mode {
        AllocateMode::Extend | AllocateMode::KeepSize => flags::check_addition(&inode)?,
        _ => flags::check_change(&inode)?,
    }
    let zero = !matches!(mode, AllocateMode::Extend | AllocateMode::KeepSize);
    let space = mode != AllocateMode::PunchHole;
    let (step, found) =
        step_of(&mut change, ino, &range, if space { steps.bytes } else { u64::MAX }, steps.items)?;
    let outer = step.start - step.start % BLOCK_BYTES..step.end.next_multiple_of(BLOCK_BYTES);
    let inner_from = step.start.next_multiple_of(BLOCK_BYTES);
    let inner = inner_from..(step.end - step.end % BLOCK_BYTES).max(inner_from);

    if zero {
        extents::refuse_cut(change.view(), &found, inner.start, inner.end)?;
    }
    let cuts = if zero { edges(&change, ino, &inode, &step)? } else { Vec::new() };
    let gaps = match (space, zero) {
        (false, _) => Vec::new(),
        (true, false) => gaps(&found, &outer, Old::Stays),
        (true, true) => {
            let (left, right) =
                (outer.start..inner.start.min(outer.end), inner.end.max(inner.start)..outer.end);
            let mut all = gaps(&found, &left, Old::Stays);
            all.extend(gaps(&found, &inner, Old::BecomesZero));
            all.extend(gaps(&found, &right, Old::Stays));
            all
        }
    };
    let staged = gaps
        .iter()
        .map(|gap| volume.stage_unwritten(gap.end - gap.start))
        .collect::<std::result::Result<Vec<_>, _>>()?;
    // Content in the tree must move out of the way of an extent in the first block.
    let moves = space && outer.start == 0 && inode.has_inline && !cuts.iter().any(|cut| cut.block == 0);
    let moved = match moves {
        true => Some(DirtyBlock { data: change.old_block(ino, &inode, 0)?, fresh: false }),
        false => None,
    };
    written_by(&mut change, writer, ino, &mut inode)?;
    let items = 2 * found.len() + 2 * gaps.len() + ((outer.end - outer.start) / (128 * 1024)) as usize + 8;
    let delayed = cuts.len() as u64 + u64::from(moves);
    // A hole inside of what was compressed together frees nothing, so it must not use what deletions live on.
    let frees = |(at, ext): &(u64, Extent)| *at >= inner.start && at + ext.len_bytes() <= inner.end;
    let in_vain = extents::cuts(&found, 1) > 0 && !found.iter().any(frees);
    let purpose = if space || in_vain { ReserveFor::Write } else { ReserveFor::Delete };
    change.will_cut(extents::cuts(&found, gaps.len() + cuts.len() + 1));
    change.will_delay(ino, &inode, delayed)?;
    change.foresee_map(ino, if space { outer.clone() } else { inner.clone() }, &found, []);
    for (gap, staged) in gaps.iter().zip(&staged) {
        change.foresee_map(ino, gap.clone(), &[], extents::places(gap.start, staged.extents()));
    }
    change.foresee_inode(ino, &inode);
    let replaces = cuts.iter().any(|cut| !cut.base.fresh) || (space && zero && !found.is_empty());
    let at_home = replaces && change.will_write_over(ino, &inode)?;
    change.reserve(items, purpose)?;
    if zero {
        change.will_lose(ino, &inode, step.start..step.end);
    }

    for cut in cuts {
        change.zero_in_block(ino, cut.block, cut.part, cut.base);
    }
    if let Some(block) = moved {
        change.write_block(ino, 0, 0, &[], block);
    }
    if zero {
        forget_content(&mut change, ino, &mut inode, inner.start, inner.end);
    }
    if space {
        mapped(&mut change, ino, outer.start / BLOCK_BYTES, outer.end / BLOCK_BYTES);
        if outer.start == 0 && inode.has_inline {
            change.delete(Key::new(ino.0, Kind::Inline, 0));
            inode.has_inline = false;
        }
    } else {
        unmap(&mut change, ino, &mut inode, inner.start, inner.end)?;
    }
    for (gap, staged) in gaps.into_iter().zip(staged) {
        let new = extents::lay(gap.start, change.txn().publish(staged));
        let (from, to, keep) = (gap.start, gap.end, Keep::Nothing);
        let grown = match at_home {
            true => extents::replace_at_home(change.txn(), ino, from, to, keep, &new)?,
            false => extents::replace(change.txn(), ino, from, to, keep, &new)?,
        };
        inode.blocks = extents::add_blocks(inode.blocks, grown);
    }
    if matches!(mode, AllocateMode::Extend | AllocateMode::ZeroRange) {
        inode.size = inode.size.max(step.end);
    }
    (inode.mtime, inode.ctime) = (change.now, change.now);
    change.put_inode(ino, &inode);
    change.apply()?;
    Ok(step.end)
}

/// As much of the start of a range as one change may do, and the extents in it.
fn step_of(change: &mut Change<'_>, ino: Ino, range: &Range<u64>, most: u64, items: usize) -> Result<Step> {
    let end = range.end.min(range.start.saturating_add(most) / BLOCK_BYTES * BLOCK_BYTES);
    let outer_from = range.start - range.start % BLOCK_BYTES;
    let outer_to = end.next_multiple_of(BLOCK_BYTES);
    let mut found = change.mapped(ino, outer_from..outer_to, items + 1)?;
    let mut step = range.start..end;
    if let Some((next, _)) = found.get(items) {
        step.end = *next;
        found.truncate(items);
    }
    Ok((step, found))
}

/// The parts of blocks at both ends of a range that have content to be zeroed.
fn edges(change: &Change<'_>, ino: Ino, inode: &Inode, range: &Range<u64>) -> Result<Vec<Cut>> {
    let mut cuts: Vec<Cut> = Vec::new();
    for block in [range.start / BLOCK_BYTES, range.end / BLOCK_BYTES] {
        let at = block * BLOCK_BYTES;
        let (from, to) = (range.start.max(at), range.end.min(at + BLOCK_BYTES));
        let partial = from < to && to - from < BLOCK_BYTES;
        if partial
            && !cuts.iter().any(|cut| cut.block == block)
            && let Some(base) = backed(change, ino, inode, block)?
        {
            cuts.push(Cut { block, part: (from - at) as usize..(to - at) as usize, base });
        }
    }
    Ok(cuts)
}

/// The content of a block, in the form in which it can be delayed; `None` if it is a hole. `fresh` is true if the tree
/// maps nothing there yet. A block that is delayed already is returned as it is delayed.
fn backed(change: &Change<'_>, ino: Ino, inode: &Inode, n: u64) -> Result<Option<DirtyBlock>> {
    if let Some(data) = change.gate().dirty.get(ino, n) {
        return Ok(Some(DirtyBlock { data: data.clone(), fresh: false }));
    }
    let mapped = extents::at(change.view(), ino, n * BLOCK_BYTES)?;
    let inline = n == 0 && inode.has_inline;
    if !inline && mapped.as_ref().is_none_or(|(_, ext)| ext.is_unwritten()) {
        return Ok(None);
    }
    Ok(Some(DirtyBlock { data: change.old_block(ino, inode, n)?, fresh: mapped.is_none() }))
}

/// Notes that the tree maps blocks now.
fn mapped(change: &mut Change<'_>, ino: Ino, from: u64, to: u64) {
    let (gate, txn) = change.change_both();
    Note::Mapped { ino, from, to }.put(txn);
    gate.dirty.mapped(ino, from, to);
}

/// Forgets content outside the block map.
fn forget_content(change: &mut Change<'_>, ino: Ino, inode: &mut Inode, from: u64, to: u64) {
    change.discard(ino, from / BLOCK_BYTES, to / BLOCK_BYTES);
    if from == 0 && to > 0 && inode.has_inline {
        change.delete(Key::new(ino.0, Kind::Inline, 0));
        inode.has_inline = false;
    }
}

/// A range that one change works on, and the extents in it with their places.
type Step = (Range<u64>, Vec<(u64, Extent)>);

/// Bytes of a block that become zero.
struct Cut {
    block: u64,
    part: Range<usize>,
    base: DirtyBlock,
}

/// The parts of a range that get new space.
fn gaps(found: &[(u64, Extent)], range: &Range<u64>, old: Old) -> Vec<Range<u64>> {
    let mut gaps = Vec::new();
    let mut at = range.start;
    for (from, ext) in found {
        let (from, to) = (*from, from + ext.len_bytes());
        if to <= range.start || from >= range.end || (old == Old::BecomesZero && !ext.is_unwritten()) {
            continue;
        }
        if at < from {
            gaps.push(at..from);
        }
        at = to;
    }
    if at < range.end {
        gaps.push(at..range.end);
    }
    gaps
}

impl ContentView {
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
