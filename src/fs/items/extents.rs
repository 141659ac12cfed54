//! The block map of a file: extent items by file offset.
//!
//! Extents of a file never overlap, start and end on block borders, and an inode with an inline item has none in its
//! first block. The functions here change the tree at once: space for the items must have been reserved, and every
//! question that may be refused must have been asked before. Times, sizes and delayed data are not looked at.
//!
//! A compressed extent that is cut stays where it is: what is left of it are pieces, each a reference to its frame.

use crate::format::{BLOCK_BYTES, Extent, Ino, Key, Kind};
use crate::fs::items::reader::decode_extent;
use crate::volume::{Txn, View, VolumeError};

type Result<T> = std::result::Result<T, VolumeError>;

/// Of the extent at `offset`.
pub fn key(ino: Ino, offset: u64) -> Key {
    Key::new(ino.0, Kind::Extent, offset)
}

/// The extent that covers `offset`, with its own offset.
pub fn at(view: &View, ino: Ino, offset: u64) -> Result<Option<(u64, Extent)>> {
    let Some((k, item)) = view.last_at_or_before(&key(ino, offset), &key(ino, 0))? else {
        return Ok(None);
    };
    let (from, ext) = decode_extent(&k, &item)?;
    Ok((from + ext.len_bytes() > offset).then_some((from, ext)))
}

/// The first extent that ends after `offset`.
pub fn next(view: &View, ino: Ino, offset: u64) -> Result<Option<(u64, Extent)>> {
    if let Some(found) = at(view, ino, offset)? {
        return Ok(Some(found));
    }
    match view.range(&key(ino, offset), &key(ino, u64::MAX)).next() {
        Some(item) => {
            let (k, item) = item?;
            decode_extent(&k, &item).map(Some)
        }
        None => Ok(None),
    }
}

/// Every extent that overlaps `from..to`, in order, at most `limit`.
pub fn overlapping(view: &View, ino: Ino, from: u64, to: u64, limit: usize) -> Result<Vec<(u64, Extent)>> {
    let mut out = Vec::new();
    if from >= to {
        return Ok(out);
    }
    out.extend(at(view, ino, from)?);
    for item in view.range(&key(ino, from + 1), &key(ino, to)).take(limit.saturating_sub(out.len())) {
        let (k, item) = item?;
        out.push(decode_extent(&k, &item)?);
    }
    Ok(out)
}

/// The last extent of the file that begins before `end`, which is not 0.
pub fn last_before(view: &View, ino: Ino, end: u64) -> Result<Option<(u64, Extent)>> {
    match view.last_at_or_before(&key(ino, end - 1), &key(ino, 0))? {
        Some((k, item)) => decode_extent(&k, &item).map(Some),
        None => Ok(None),
    }
}

/// What is left alone by [`replace`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Nothing.
    Nothing,
    /// Extents that hold only space: they read as zeros already.
    Unwritten,
}

/// Takes away what maps `from..to` (block borders) and puts `new` there. Returns by how many bytes the mapped space
/// has grown.
pub fn replace(
    txn: &mut Txn,
    ino: Ino,
    from: u64,
    to: u64,
    keep: Keep,
    new: &[(u64, Extent)],
) -> Result<i64> {
    debug_assert!(from.is_multiple_of(BLOCK_BYTES) && to.is_multiple_of(BLOCK_BYTES));
    let mut grown = 0;
    let old = overlapping(txn.view(), ino, from, to, usize::MAX).map_err(|e| txn.failed(e))?;
    for (at, ext) in old {
        if keep == Keep::Unwritten && ext.is_unwritten() {
            continue;
        }
        let end = at + ext.len_bytes();
        let (cut_from, cut_to) = (at.max(from), end.min(to));
        txn.remove(&key(ino, at))?;
        let front = (at < cut_from).then(|| ext.cut(0, cut_from - at));
        let mut back = (cut_to < end).then(|| ext.cut(cut_to - at, end - cut_to));
        if !ext.is_compressed() {
            txn.free(&ext.slice(cut_from - at, cut_to - cut_from));
        } else if front.is_none() && back.is_none() {
            txn.free(&ext);
        } else if front.is_some() {
            // One piece goes on with the reference to the frame, a second one gets its own.
            // What is compressed never moves, so it is one. Of what was purged there is none: see [`refuse_cut`].
            back = back.and_then(|piece| txn.share(&piece).ok()?.pop());
        }
        grown -= ext.occupied_bytes() as i64;
        for (at, piece) in [(at, front), (cut_to, back)] {
            if let Some(piece) = piece {
                txn.insert(key(ino, at), &piece.encode())?;
                grown += piece.occupied_bytes() as i64;
            }
        }
    }
    for (at, ext) in new {
        debug_assert!(*at >= from && at + ext.len_bytes() <= to);
        txn.insert(key(ino, *at), &ext.encode())?;
        grown += ext.occupied_bytes() as i64;
    }
    Ok(grown)
}

/// As [`replace`], for a file whose content goes home: what is new gets the home of what it takes the place of.
pub fn replace_at_home(
    txn: &mut Txn,
    ino: Ino,
    from: u64,
    to: u64,
    keep: Keep,
    new: &[(u64, Extent)],
) -> Result<i64> {
    let old = overlapping(txn.view(), ino, from, to, usize::MAX).map_err(|e| txn.failed(e))?;
    let new = with_homes(&old, new);
    txn.keep_homes(new.iter().map(|(_, extent)| extent));
    replace(txn, ino, from, to, keep, &new)
}

/// Extents with the homes of those that they take the place of.
fn with_homes(old: &[(u64, Extent)], new: &[(u64, Extent)]) -> Vec<(u64, Extent)> {
    let mut out = Vec::new();
    for (start, extent) in new {
        // Staged before the file was of this layout. It stays in one piece, and where it is.
        if extent.is_compressed() {
            out.push((*start, extent.clone()));
            continue;
        }
        let (mut at, end) = (*start, start + extent.len_bytes());
        for (first, before) in old {
            let (from, to) = ((*first).max(at), (first + before.len_bytes()).min(end));
            if from >= to {
                continue;
            }
            if at < from {
                out.push((at, extent.slice(at - start, from - at)));
            }
            let part = extent.slice(from - start, to - from);
            out.push((from, part.at_home_of(&before.cut(from - first, to - from))));
            at = to;
        }
        if at < end {
            out.push((at, extent.slice(at - start, end - at)));
        }
    }
    out
}

/// How many extents a change of blocks among `old` may cut in two, if it happens in `places` contiguous ranges: only
/// those that are compressed count, see [`Need::cuts`](crate::volume::Need).
pub fn cuts(old: &[(u64, Extent)], places: usize) -> usize {
    old.iter().filter(|(_, ext)| ext.is_compressed()).count().min(places)
}

/// Fails if a change of the blocks `from..to` among `old` would leave two pieces of a frame whose content was purged: there is
/// no second reference to be had to what is not there, and a piece without one would be a hole.
pub fn refuse_cut(view: &View, old: &[(u64, Extent)], from: u64, to: u64) -> Result<()> {
    let in_two = |at: u64, ext: &Extent| at < from && to < at + ext.len_bytes();
    let mut cut = old.iter().filter(|(at, ext)| ext.is_compressed() && in_two(*at, ext));
    cut.try_for_each(|(_, ext)| view.refuse_purged(ext))
}

/// Lays `extents` one behind the other from `offset` on, as few items as possible.
pub fn lay(offset: u64, extents: impl IntoIterator<Item = Extent>) -> Vec<(u64, Extent)> {
    let mut out: Vec<(u64, Extent)> = Vec::new();
    let mut at = offset;
    for ext in extents {
        let len = ext.len_bytes();
        match out.last_mut() {
            Some((_, last)) if last.joins(&ext) => *last = last.clone().join(&ext),
            _ => out.push((at, ext)),
        }
        at += len;
    }
    out
}

/// Where `extents` are if they lie one behind the other from `offset` on, and how long their items.
pub fn places(offset: u64, extents: &[Extent]) -> impl Iterator<Item = (u64, usize)> {
    extents.iter().scan(offset, |at, ext| {
        let place = *at;
        *at += ext.len_bytes();
        Some((place, ext.encoded_len()))
    })
}

/// `blocks` of an inode (512-byte units) after its mapped space has grown by `bytes`.
pub fn add_blocks(blocks: u64, bytes: i64) -> u64 {
    blocks.saturating_add_signed(bytes / 512)
}
