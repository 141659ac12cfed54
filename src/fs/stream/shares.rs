//! Content that a stream need not tell again: what it has told already at another place, or what the receiver has in the
//! base where that lost it.
//!
//! Only content with more than one reference is looked for, so the memory that this takes follows what is shared.

use super::inodes::{InodeVisitor, visit_inodes};
use crate::format::inode::Inode;
use crate::format::stream::{ContentPlace, ContentSide};
use crate::format::{Extent, Ino, Key, Kind};
use crate::fs::items::decode_extent;
use crate::volume::{View, VolumeError};
use std::collections::BTreeMap;

type Result<T> = std::result::Result<T, VolumeError>;

/// Where the receiver has shared content, by its address here.
pub struct Shares {
    /// Shared ranges, by address.
    ranges: Vec<(u64, u64)>,
    /// Address -> length and place of content that is no frame.
    plain: BTreeMap<u64, (u64, ContentPlace)>,
    /// Address of a frame -> place of a piece of it.
    frames: BTreeMap<u64, ContentPlace>,
}

impl Shares {
    /// What is shared in the store, and of that what the receiver has lost between `old` and `new`.
    pub fn between(ranges: Vec<(u64, u64)>, old: Option<&View>, new: &View) -> Result<Shares> {
        let mut shares = Shares { ranges, plain: BTreeMap::new(), frames: BTreeMap::new() };
        if old.is_some() && !shares.ranges.is_empty() {
            visit_inodes(old, new, &mut Lost { shares: &mut shares })?;
        }
        Ok(shares)
    }

    /// True if more than one reference reaches any of it.
    pub fn is_shared(&self, extent: &Extent) -> bool {
        let (addr, end) = (extent.addr.0, extent.addr.0 + extent.stored_bytes());
        let next = self.ranges.partition_point(|(start, len)| start + len <= addr);
        self.ranges.get(next).is_some_and(|(start, _)| *start < end)
    }

    /// The receiver has this content there.
    pub fn note(&mut self, extent: &Extent, place: ContentPlace) {
        if extent.is_unwritten() || !self.is_shared(extent) {
            return;
        }
        if extent.is_compressed() {
            self.frames.entry(extent.addr.0).or_insert(place);
        } else {
            self.plain.entry(extent.addr.0).or_insert((extent.len_bytes(), place));
        }
    }

    /// Where a piece of this frame is.
    pub fn frame(&self, extent: &Extent) -> Option<ContentPlace> {
        self.frames.get(&extent.addr.0).copied()
    }

    /// Where the beginning of this content, which is no frame, is, and how much is there; none and how much is nowhere.
    pub fn plain(&self, addr: u64, len: u64) -> (u64, Option<ContentPlace>) {
        if let Some((start, (had, place))) = self.plain.range(..=addr).next_back()
            && start + had > addr
        {
            let place = ContentPlace { offset: place.offset + (addr - start), ..*place };
            return (len.min(start + had - addr), Some(place));
        }
        let next = self.plain.range(addr..addr + len).next();
        (next.map_or(len, |(start, _)| start - addr), None)
    }
}

/// Finds what the older view has where the newer one has something else.
struct Lost<'s> {
    shares: &'s mut Shares,
}

impl InodeVisitor for Lost<'_> {
    type Error = VolumeError;

    fn begin(&mut self, _: Ino, _: Option<&Inode>, _: Option<&Inode>) -> Result<()> {
        Ok(())
    }

    fn item(&mut self, key: &Key, old: Option<&[u8]>, _: Option<&[u8]>) -> Result<()> {
        if let Some(old) = old.filter(|_| key.kind == Kind::Extent as u8) {
            let (offset, extent) = decode_extent(key, old)?;
            let place = ContentPlace { side: ContentSide::Base, ino: Ino(key.object), offset };
            self.shares.note(&extent, place);
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        Ok(())
    }
}
