//! Content that a stream need not tell again: what it has told already at another place, or what the receiver has in the
//! base where that lost it.

use super::inodes::{InodeVisitor, visit_inodes};
use crate::format::inode::Inode;
use crate::format::stream::{ContentPlace, ContentSide};
use crate::format::{Extent, Ino, Key, Kind};
use crate::fs::items::decode_extent;
use crate::volume::{SharedContent, View, VolumeError};

type Result<T> = std::result::Result<T, VolumeError>;

/// Where the receiver has shared content.
pub struct Shares {
    content: SharedContent,
    /// By the numbers that they have there.
    places: Vec<ContentPlace>,
}

impl Shares {
    /// What is shared in the store, and of that what the receiver has lost between `old` and `new`.
    pub fn between(content: SharedContent, old: Option<&View>, new: &View) -> Result<Shares> {
        let mut shares = Shares { content, places: Vec::new() };
        if old.is_some() && !shares.content.is_empty() {
            visit_inodes(old, new, &mut Lost { shares: &mut shares })?;
        }
        Ok(shares)
    }

    /// True if more than one reference reaches any of it.
    pub fn is_shared(&self, extent: &Extent) -> bool {
        self.content.is_shared(extent)
    }

    /// The receiver has this content there.
    pub fn note(&mut self, extent: &Extent, place: ContentPlace) {
        if self.is_shared(extent) {
            self.content.note(extent, self.places.len());
            self.places.push(place);
        }
    }

    /// Where a piece of this frame is.
    pub fn frame(&self, extent: &Extent) -> Option<ContentPlace> {
        self.content.frame(extent).and_then(|number| self.places.get(number).copied())
    }

    /// Content that is no frame, part by part: how much, and where it is.
    pub fn parts(&self, extent: &Extent) -> Vec<(u64, Option<ContentPlace>)> {
        let place = |(number, from): (usize, u64)| {
            let place = self.places.get(number)?;
            Some(ContentPlace { offset: place.offset + from, ..*place })
        };
        let parts = self.content.parts(extent).into_iter();
        parts.map(|part| (part.len, part.met.and_then(place))).collect()
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
