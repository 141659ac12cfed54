//! The content of one inode: what is there is proved by its checksums, what is not becomes a hole and is told.
//!
//! That something is missing is known from ranges of the tree that are lost, and from the space that the inode says its
//! content has. Memory: one extent of 128 KiB, and at most 1000 ranges.

use super::items::SalvagedItems;
use super::report::ContentReport;
use crate::format::inode::Inode;
use crate::format::purge::PURGED_INLINE;
use crate::format::xattr::{PIECE_BYTES, XattrValue, Xattrs, piece_rest};
use crate::format::{BLOCK_BYTES, Extent, Ino, Key, Kind};
use crate::limits::{FILE_BYTES_MAX, INLINE_BYTES_MAX};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Reads and proves the content of a file and writes it to `out`, if that is given, up to its last byte that is not
/// zero. An error is one of writing.
pub(super) fn copy(
    items: &SalvagedItems,
    ino: Ino,
    inode: Option<&Inode>,
    out: Option<&File>,
) -> io::Result<ContentReport> {
    let mut content =
        ContentReport { size: inode.map_or(0, |i| i.size.min(FILE_BYTES_MAX)), ..ContentReport::default() };
    let end_of = |len: u64, content: &ContentReport| if inode.is_some() { content.size } else { len };
    let mut known: Vec<(u64, u64)> = Vec::new();
    // What was purged is lost.
    let inline = items.get(&Key::new(ino.0, Kind::Inline, 0)).filter(|bytes| bytes != PURGED_INLINE);
    if let Some(bytes) = &inline {
        let bytes = &bytes[..bytes.len().min(INLINE_BYTES_MAX as usize)];
        write(out, 0, bytes, end_of(u64::MAX, &content))?;
        content.good_bytes += bytes.len() as u64;
        content.size = end_of(bytes.len() as u64, &content);
        known.push((0, BLOCK_BYTES));
    } else if inode.is_some_and(|i| i.has_inline) {
        content.lose(0, content.size.min(BLOCK_BYTES));
    }
    let (mut mapped, mut end) = (0u64, 0u64);
    let mut buf = Vec::new();
    let (from, to) = (Key::new(ino.0, Kind::Extent, 0), Key::new(ino.0, Kind::Extent, u64::MAX));
    for (key, value) in items.range(from, to) {
        let extent = Extent::decode(&value).ok().filter(|e| {
            let ends = key.rest.checked_add(e.len_bytes());
            key.rest >= end && key.rest % BLOCK_BYTES == 0 && ends.is_some_and(|end| end <= FILE_BYTES_MAX)
        });
        let Some(extent) = extent else { continue };
        end = key.rest + extent.len_bytes();
        mapped += extent.occupied_bytes();
        join(&mut known, key.rest, extent.len_bytes());
        content.size = content.size.max(end_of(end, &content));
        if !extent.is_unwritten() {
            let limit = content.size;
            copy_extent(items, &extent, key.rest, limit, &mut buf, &mut content, out)?;
        }
    }
    let promised = inode.map_or(0, |i| i.blocks.saturating_mul(512));
    if mapped < promised || inode.is_none() {
        let before = content.lost.len();
        for gap in items.lost_in(from, to) {
            let upto = gap.to.map_or(u64::MAX, |to| to.rest).min(content.size);
            gaps(&known, gap.from.rest, upto).into_iter().for_each(|(at, len)| content.lose(at, len));
        }
        if content.lost.len() == before {
            content.missing_bytes = promised.saturating_sub(mapped);
        }
    }
    content.lost.sort_unstable();
    Ok(content)
}

fn copy_extent(
    items: &SalvagedItems,
    extent: &Extent,
    offset: u64,
    limit: u64,
    buf: &mut Vec<u8>,
    content: &mut ContentReport,
    out: Option<&File>,
) -> io::Result<()> {
    buf.resize(extent.len_bytes() as usize, 0);
    if items.read_content(extent, 0, buf) {
        content.good_bytes += buf.len() as u64;
        return write(out, offset, buf, limit);
    }
    if extent.is_compressed() {
        // All of it or nothing.
        content.lose(offset, extent.len_bytes().min(limit.saturating_sub(offset)));
        return Ok(());
    }
    for at in (0..extent.len_bytes()).step_by(BLOCK_BYTES as usize) {
        let block = &mut buf[..BLOCK_BYTES as usize];
        if items.read_content(extent, at, block) {
            content.good_bytes += BLOCK_BYTES;
            write(out, offset + at, block, limit)?;
        } else if offset + at < limit {
            content.lose(offset + at, BLOCK_BYTES.min(limit - offset - at));
        }
    }
    Ok(())
}

/// Writes what lies before `limit`, but no zeros: they are holes.
fn write(out: Option<&File>, offset: u64, bytes: &[u8], limit: u64) -> io::Result<()> {
    let Some(out) = out else { return Ok(()) };
    let len = (bytes.len() as u64).min(limit.saturating_sub(offset)) as usize;
    if bytes[..len].iter().all(|b| *b == 0) { Ok(()) } else { out.write_all_at(&bytes[..len], offset) }
}

fn join(known: &mut Vec<(u64, u64)>, offset: u64, len: u64) {
    match known.last_mut() {
        Some((at, l)) if *at + *l == offset => *l += len,
        _ => known.push((offset, len)),
    }
}

/// Parts of `from..to` outside of the ranges `known`, which ascend.
fn gaps(known: &[(u64, u64)], from: u64, to: u64) -> Vec<(u64, u64)> {
    let (mut at, mut out) = (from, Vec::new());
    for (start, len) in known {
        if *start >= to {
            break;
        }
        if *start > at {
            out.push((at, start - at));
        }
        at = at.max(start + len);
    }
    if at < to {
        out.push((at, to - at));
    }
    out
}

/// The target of a symbolic link, if it is there whole.
pub(super) fn target(items: &SalvagedItems, ino: Ino, inode: &Inode) -> Option<Vec<u8>> {
    let target = items.get(&Key::new(ino.0, Kind::Inline, 0))?;
    (target.len() as u64 == inode.size && !target.is_empty() && !target.contains(&0)).then_some(target)
}

/// Extended attributes of an inode.
#[derive(Default)]
pub(super) struct Attributes {
    /// Names and values.
    pub whole: Vec<(Vec<u8>, Vec<u8>)>,
    /// Names of those whose values are not there whole.
    pub lost: Vec<Vec<u8>>,
}

/// Reads the extended attributes. Only kinds that a store can have.
pub(super) fn attributes(items: &SalvagedItems, ino: Ino) -> Attributes {
    let Attributes { mut whole, mut lost } = Attributes::default();
    let (from, to) = (Key::new(ino.0, Kind::Xattr, 0), Key::new(ino.0, Kind::XattrData, 0));
    for (name, value) in
        items.range(from, to).flat_map(|(_, v)| Xattrs::decode(&v).unwrap_or_default().entries)
    {
        if ![b"user.".as_slice(), b"trusted.", b"security."].iter().any(|kind| name.starts_with(kind)) {
            continue;
        }
        match value {
            XattrValue::Short(value) => whole.push((name, value)),
            XattrValue::Long { number, len } => match long_value(items, ino, number, len as usize) {
                Some(value) => whole.push((name, value)),
                None => lost.push(name),
            },
        }
    }
    Attributes { whole, lost }
}

fn long_value(items: &SalvagedItems, ino: Ino, number: u64, len: usize) -> Option<Vec<u8>> {
    let mut value = Vec::with_capacity(len.min(1 << 16));
    for piece in 0..len.div_ceil(PIECE_BYTES) as u64 {
        let key = Key::new(ino.0, Kind::XattrData, piece_rest(number, piece));
        value.extend_from_slice(&items.get(&key)?);
    }
    (value.len() == len).then_some(value)
}
