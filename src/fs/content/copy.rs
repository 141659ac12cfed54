//! `copy_file_range`: shares blocks where both ends are on block borders, copies bytes elsewhere.
//!
//! Worked off in steps; an error after the first is answered with what was copied so far, and so is what was copied by value when
//! that is enough for one request: whoever asked asks for the rest.

use super::read::{content, read_file};
use super::write::write_at;
use crate::format::{BLOCK_BYTES, Ino, Key, Kind};
use crate::fs::attributes::{flags, kill_privileges};
use crate::fs::commits::{Commits, flush};
use crate::fs::heads::{Change, Gate, Head};
use crate::fs::items::Items;
use crate::fs::items::extents::{self, Keep};
use crate::limits::FILE_BYTES_MAX;
use crate::ops::{Caller, Error, Handle, NodeId, Result};
use crate::volume::ReserveFor;

/// Shared in one change, in bytes.
const SHARE_BYTES: u64 = 64 << 20;
/// Copied by value in one change, in bytes.
const COPY_BYTES: u64 = 1 << 20;
/// Copied by value for one request, in bytes, but for the last step: a thread that answers others is busy with it.
const COPY_BYTES_OF_REQUEST: u64 = 8 << 20;

/// One end of a copy.
#[derive(Clone, Copy)]
pub struct End {
    /// The file.
    pub node: NodeId,
    /// Its handle.
    pub handle: Handle,
    /// Where in it.
    pub offset: u64,
}

/// See [`Operations::copy_range`](crate::ops::Operations::copy_range).
pub fn copy(commits: &Commits, caller: &Caller, from: End, to: End, len: u64) -> Result<u64> {
    let source = commits.heads.handles.get_to_read(from.node, from.handle)?;
    let target = commits.heads.handles.get(to.node, to.handle)?;
    if !source.flags.read || !target.flags.write || !to.node.is_live() {
        return Err(Error::BadHandle);
    }
    let size = content(&commits.heads, from.node, from.handle, 0, 0)?.inode.size;
    let len = len.min(size.saturating_sub(from.offset));
    to.offset.checked_add(len).filter(|end| *end <= FILE_BYTES_MAX).ok_or(Error::FileTooBig)?;
    if from.node == to.node && from.offset < to.offset + len && to.offset < from.offset + len {
        return Err(Error::Invalid);
    }
    let (mut done, mut by_value) = (0, 0);
    while done < len && by_value < COPY_BYTES_OF_REQUEST {
        let from = End { offset: from.offset + done, ..from };
        let to = End { offset: to.offset + done, ..to };
        match copy_step(commits, caller, from, to, len - done) {
            Ok(Copied { bytes: 0, .. }) => break,
            Ok(copied) => {
                done += copied.bytes;
                by_value += copied.by_value;
                if done < len {
                    commits.between_steps()?;
                }
            }
            Err(_) if done > 0 => break,
            Err(e) => return Err(e),
        }
    }
    if target.flags.sync {
        commits.sync()?;
    }
    Ok(done)
}

/// What a step has copied, in bytes.
struct Copied {
    bytes: u64,
    /// Of these.
    by_value: u64,
}

fn copy_step(commits: &Commits, caller: &Caller, from: End, to: End, len: u64) -> Result<Copied> {
    let aligned = from.offset.is_multiple_of(BLOCK_BYTES) && to.offset.is_multiple_of(BLOCK_BYTES);
    let opened = commits.heads.handles.get(to.node, to.handle)?;
    let (head, target) = (opened.head()?, Ino(to.node.ino()));
    let most = commits.heads.options.steps.bytes;
    // Blocks that a snapshot holds are copied: sharing starts from references of a head.
    let shares = aligned && from.node.is_live();
    if shares {
        let opened = commits.heads.handles.get_to_read(from.node, from.handle)?;
        let other = opened.head()?;
        let (stager, len) = (commits.stager(other), len.min(SHARE_BYTES).min(most));
        // What is delayed is compressed and written before anything is locked; what changes meanwhile, in the change.
        let needed = from.offset / BLOCK_BYTES..from.offset.saturating_add(len).div_ceil(BLOCK_BYTES);
        let source = Ino(from.node.ino());
        let early = flush::stage_file(stager, source, needed.clone());
        let mut change = commits.heads.change(other)?;
        if !change.gate().dirty.collect(source, needed.start, needed.end).is_empty() {
            flush::flush_file(change, stager, source, early)?;
            change = commits.heads.change(other)?;
        }
        let shared = if other.line == head.line {
            share(change, caller, (from, to), len, None)?
        } else {
            drop(change); // nobody has two gates
            share(commits.heads.change(head)?, caller, (from, to), len, Some(other))?
        };
        if shared > 0 {
            return Ok(Copied { bytes: shared, by_value: 0 });
        }
    }
    let len = match aligned {
        // Only the block that could not be shared, then sharing may go on.
        true if shares => len.min(BLOCK_BYTES),
        _ => len.min(COPY_BYTES).min(most),
    };
    let mut bytes = vec![0; len as usize];
    let read = read_file(&commits.heads, from.node, from.handle, from.offset, &mut bytes)?;
    commits.relieve()?;
    write_at(commits, head, target, to.offset, false, &bytes[..read], caller.uid != 0)?;
    Ok(Copied { bytes: read as u64, by_value: read as u64 })
}

/// Shares the blocks of the start of a range, of a file in the same head or in another; returns how many bytes, 0 if they
/// must be copied by value. What one head takes from another is a reference of its own, born when it takes it.
fn share(
    mut change: Change<'_>,
    caller: &Caller,
    (from, to): (End, End),
    len: u64,
    other: Option<&Head>,
) -> Result<u64> {
    let (source, target) = (Ino(from.node.ino()), Ino(to.node.ino()));
    let other_view = other.map(|other| change.view_of(other)).transpose()?;
    let inode = match &other_view {
        Some(view) => view.inode(source)?.ok_or(Error::Stale)?,
        None => change.regular(source)?,
    };
    let target_size = change.regular(target)?.size;
    let len = len.min(inode.size.saturating_sub(from.offset));
    // The last block of a file is zero behind its end, so it may be shared when the copy ends there too.
    let to_the_end = from.offset + len == inode.size && to.offset + len >= target_size;
    let whole = if to_the_end { len.next_multiple_of(BLOCK_BYTES) } else { len - len % BLOCK_BYTES };
    let len = len.min(whole);
    if whole == 0 {
        return Ok(0);
    }
    let (first, last) = (from.offset / BLOCK_BYTES, (from.offset + whole) / BLOCK_BYTES);
    // It may have been written to since it was flushed.
    let delayed = match other {
        // Who has that gate closed may wait for the one that this change has. No content comes to be delayed meanwhile: that
        // takes a transaction.
        Some(other) => other.gate.try_read().is_none_or(|gate| is_delayed(&gate, source, first, last)),
        None => is_delayed(change.gate(), source, first, last),
    };
    if delayed || first == 0 && inode.has_inline {
        return Ok(0);
    }
    let view = other_view.as_ref().unwrap_or(change.view());
    let found = extents::overlapping(view, source, from.offset, from.offset + whole, usize::MAX)?;
    found.iter().try_for_each(|(_, ext)| view.refuse_purged(ext))?;
    let replaced = change.mapped(target, to.offset..to.offset + whole, usize::MAX)?;
    extents::refuse_cut(change.view(), &replaced, to.offset, to.offset + whole)?;
    let mut inode = change.regular(target)?;
    flags::check_addition(&inode)?;
    if caller.uid != 0 {
        kill_privileges(&mut change, target, &mut inode)?;
    }
    change.will_cut(extents::cuts(&replaced, 1));
    let places =
        found.iter().map(|(at, ext)| (to.offset + at.saturating_sub(from.offset), ext.encoded_len()));
    change.foresee_map(target, to.offset..to.offset + whole, &replaced, places);
    change.will_lose(target, &inode, to.offset..to.offset + whole);
    change.foresee_inode(target, &inode);
    change.reserve(2 * found.len() + replaced.len() + 8, ReserveFor::Write)?;

    change.discard(target, to.offset / BLOCK_BYTES, (to.offset + whole) / BLOCK_BYTES);
    if to.offset == 0 && inode.has_inline {
        change.delete(Key::new(target.0, Kind::Inline, 0));
        inode.has_inline = false;
    }
    let mut new = Vec::new();
    for (at, ext) in found {
        let (cut_from, cut_to) = (at.max(from.offset), (at + ext.len_bytes()).min(from.offset + whole));
        if !ext.is_unwritten() {
            let shared = change.txn().share(&ext.cut(cut_from - at, cut_to - cut_from))?;
            new.extend(extents::lay(to.offset + (cut_from - from.offset), shared));
        }
    }
    let end = to.offset + whole;
    let grown = extents::replace(change.txn(), target, to.offset, end, Keep::Nothing, &new)?;
    inode.blocks = extents::add_blocks(inode.blocks, grown);
    inode.size = inode.size.max(to.offset + len);
    (inode.mtime, inode.ctime) = (change.now, change.now);
    change.put_inode(target, &inode);
    change.apply()?;
    Ok(len)
}

fn is_delayed(gate: &Gate, ino: Ino, first: u64, last: u64) -> bool {
    !gate.dirty.collect(ino, first, last).is_empty()
}
