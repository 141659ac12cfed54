//! Changing the size of a file.
//!
//! Content beyond the end is given back and the rest of the last block zeroed at once, so that a file which grows again
//! reads as zeros. A file with very many extents shrinks in steps; each step is a state that a reader may see and that
//! a crash may leave: a shorter file.

use crate::format::inode::Inode;
use crate::format::{BLOCK_BYTES, Extent, Ino, Key, Kind};
use crate::fs::attributes::{Writer, flags, written_by};
use crate::fs::commits::Commits;
use crate::fs::heads::{Change, DirtyBlock, Head, zero_block};
use crate::fs::items::Items;
use crate::fs::items::extents::{self, Keep};
use crate::limits::FILE_BYTES_MAX;
use crate::ops::{Error, Result};
use crate::volume::{ReserveFor, View};

/// A change in which what the file has beyond `size` can be taken away, after as many that cut it from its end.
pub fn change_of_size<'a>(
    commits: &'a Commits,
    head: &'a Head,
    writer: Writer,
    ino: Ino,
    size: u64,
) -> Result<Change<'a>> {
    if size > FILE_BYTES_MAX {
        return Err(Error::FileTooBig);
    }
    loop {
        let change = commits.heads.change(head)?;
        if size > change.known(ino)?.size {
            return Ok(change); // it grows, and keeps the space beyond its end that was asked for
        }
        if !exceeds_step(commits, change.view(), ino, size) {
            return Ok(change);
        }
        shrink_step(change, writer, ino, size, commits.heads.options.steps.items)?;
        commits.between_steps()?;
    }
}

/// True if a file has more beyond `size` than one change takes away.
pub fn exceeds_step(commits: &Commits, view: &View, ino: Ino, size: u64) -> bool {
    let (from, end) = (Key::new(ino.0, Kind::Extent, size), Key::new(ino.0, Kind::Extent, u64::MAX));
    let most = commits.heads.options.steps.items;
    view.range(&from, &end).take(most + 1).count() > most
}

/// Takes the last extents away and makes the file end where they began, what is delayed beyond included.
fn shrink_step(mut change: Change<'_>, writer: Writer, ino: Ino, size: u64, extents: usize) -> Result<()> {
    let mut inode = change.regular(ino)?;
    flags::check_change(&inode)?;
    written_by(&mut change, writer, ino, &mut inode)?;
    let last = last_extents(&change, ino, size, extents)?;
    for (at, ext) in &last {
        change.foresee_map(ino, *at..*at + ext.len_bytes(), &[(*at, ext.clone())], []);
    }
    change.foresee_inode(ino, &inode);
    change.reserve(extents, ReserveFor::Delete)?;
    let before = inode.clone();
    for (at, ext) in last {
        unmap(&mut change, ino, &mut inode, at, at + ext.len_bytes())?;
        inode.size = inode.size.min(at);
    }
    change.will_lose(ino, &before, inode.size..before.size);
    // From the new end on: a flush between two steps must find nothing to map there.
    change.discard(ino, inode.size.div_ceil(BLOCK_BYTES), u64::MAX);
    (inode.mtime, inode.ctime) = (change.now, change.now);
    change.put_inode(ino, &inode);
    change.apply()
}

/// At most so many extents from the end of a file, the last one first, none that begins before `size`.
fn last_extents(change: &Change<'_>, ino: Ino, size: u64, most: usize) -> Result<Vec<(u64, Extent)>> {
    let (mut last, mut end) = (Vec::new(), u64::MAX);
    while last.len() < most
        && let Some((at, ext)) = extents::last_before(change.view(), ino, end)?
        && at >= size
    {
        last.push((at, ext));
        end = at;
    }
    Ok(last)
}

/// Makes `inode` of `size` bytes, in a change from [`change_of_size`]. Reserves on its own for the shrinking; the caller
/// puts the inode and applies.
pub fn resize(change: &mut Change<'_>, ino: Ino, inode: &mut Inode, size: u64) -> Result<()> {
    if size > FILE_BYTES_MAX {
        return Err(Error::FileTooBig);
    }
    change.foresee_inode(ino, inode);
    if size > inode.size {
        inode.size = size;
        return change.reserve(1, ReserveFor::Write);
    }
    // Also to the size that it has: then space beyond its end, which was asked for, is given back.
    let from = size.next_multiple_of(BLOCK_BYTES);
    let shorter = size < inode.size;
    change.will_lose(ino, inode, size..inode.size);
    let tail = if shorter { tail_block(change, ino, inode, size)? } else { None };
    let beyond = change.mapped(ino, from..FILE_BYTES_MAX, usize::MAX)?;
    change.foresee_map(ino, from..FILE_BYTES_MAX, &beyond, []);
    if tail.is_some() {
        change.will_write_over(ino, inode)?;
    }
    change.will_delay(ino, inode, u64::from(tail.is_some()))?;
    change.reserve(beyond.len() + 4, ReserveFor::Delete)?;
    change.discard(ino, from / BLOCK_BYTES, u64::MAX);
    unmap(change, ino, inode, from, u64::MAX - u64::MAX % BLOCK_BYTES)?;
    cut_inline(change, ino, inode, size)?;
    if shorter && !size.is_multiple_of(BLOCK_BYTES) {
        let n = size / BLOCK_BYTES;
        let delayed = change.gate().dirty.get(ino, n).is_some();
        if delayed || tail.is_some() {
            let base = tail.unwrap_or_else(|| DirtyBlock { data: zero_block(), fresh: true });
            change.zero_in_block(ino, n, (size % BLOCK_BYTES) as usize..BLOCK_BYTES as usize, base);
        }
    }
    inode.size = size;
    Ok(())
}

/// The last block of the shortened file, if it must be rewritten and is not delayed yet.
fn tail_block(change: &Change<'_>, ino: Ino, inode: &Inode, size: u64) -> Result<Option<DirtyBlock>> {
    let n = size / BLOCK_BYTES;
    if size.is_multiple_of(BLOCK_BYTES) || change.gate().dirty.get(ino, n).is_some() {
        return Ok(None);
    }
    match extents::at(change.view(), ino, size)? {
        Some((_, ext)) if !ext.is_unwritten() => {
            Ok(Some(DirtyBlock { data: change.old_block(ino, inode, n)?, fresh: false }))
        }
        _ => Ok(None),
    }
}

fn cut_inline(change: &mut Change<'_>, ino: Ino, inode: &mut Inode, size: u64) -> Result<()> {
    if !inode.has_inline {
        return Ok(());
    }
    let bytes = change.stored_inline(ino)?;
    let key = Key::new(ino.0, Kind::Inline, 0);
    if size == 0 {
        change.delete(key);
        inode.has_inline = false;
    } else if (bytes.len() as u64) > size {
        change.put(key, bytes[..size as usize].to_vec());
    }
    Ok(())
}

/// Takes the blocks `from..to` out of the map. Space for the items has been reserved.
pub fn unmap(change: &mut Change<'_>, ino: Ino, inode: &mut Inode, from: u64, to: u64) -> Result<()> {
    let grown = extents::replace(change.txn(), ino, from, to, Keep::Nothing, &[])?;
    inode.blocks = extents::add_blocks(inode.blocks, grown);
    Ok(())
}
