//! Content that has moved: each record is needed by one reference, wholly.

use crate::format::deadlist::DeadEntry;
use crate::format::inode::Inode;
use crate::format::{Extent, Key, Kind};
use crate::store::RangeSet;
use crate::volume::remap::Remap;

/// True if programs that do not know of content away from home cannot know an item.
pub(super) fn needs_homes(key: &Key, value: &[u8]) -> bool {
    match Kind::from_u8(key.kind) {
        Some(Kind::Inode) => Inode::decode(value).is_ok_and(|inode| inode.layout.is_some()),
        Some(Kind::Extent) => Extent::decode(value).is_ok_and(|extent| extent.is_away()),
        kind => kind == Some(Kind::Away),
    }
}

/// What references say that has moved.
#[derive(Default)]
pub(super) struct MovedContent {
    /// Places that references led to by a record.
    places: RangeSet,
    /// Bytes that several did.
    twice: u64,
}

impl MovedContent {
    /// A reference is resolved.
    pub fn resolve(&mut self, remap: &Remap, e: &DeadEntry) {
        for (addr, len) in remap.moved_to(e.addr, e.len, e.birth) {
            if !self.places.insert(addr, len) {
                self.twice += self.places.take(addr, len).iter().map(|(_, len)| len).sum::<u64>();
                self.places.insert(addr, len);
            }
        }
    }
}

impl MovedContent {
    /// After all claims: what is wrong with the records. Of one that nobody needs, and only if every tree was read, also the
    /// item that is to go.
    pub fn judge(&self, remap: &Remap, complete: bool) -> Vec<(String, Option<Key>)> {
        let mut wrong = Vec::new();
        if self.twice > 0 {
            wrong.push((format!("{} bytes that have moved have two references", self.twice), None));
        }
        for record in remap.iter().filter(|_| complete) {
            let (new, len) = (record.new.0, record.len);
            if self.places.contains(new, len) {
                continue;
            }
            let part = self.places.overlaps(new, len);
            let what = format!(
                "content of {len} bytes has moved from {} to {}, and no reference needs {}",
                record.old,
                record.new,
                if part { "all of it" } else { "it" }
            );
            wrong.push((what, (!part).then(|| Key::new(0, Kind::Remap, new))));
        }
        wrong
    }
}
