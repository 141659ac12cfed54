//! The remap as one state has it: ranges of content that have moved, found by their references and by their places.
//!
//! Ranges are disjoint on either side: a reference has one place, and what is at a place has one reference that says
//! otherwise. No record leads to another, because the place of one is never the address of a reference that moves. Pure:
//! who may move what is not decided here.

use super::purged::Purged;
use crate::format::deadlist::DeadEntry;
use crate::format::purge::{GoneRecord, HeldRecord};
use crate::format::remap::RemapRecord;
use crate::format::{BlockAddr, Epoch, Extent, PlacedExtent};
use crate::volume::extra_refs::ExtraRefs;
use std::collections::{BTreeMap, BTreeSet};

/// A range: length, where it is, and whether the old place holds it, too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Moved {
    len: u64,
    new: u64,
    doubled: bool,
}

/// The reference that an extent is.
pub fn reference(extent: &Extent) -> DeadEntry {
    DeadEntry { addr: extent.raw_addr.0, len: extent.stored_bytes(), birth: extent.birth }
}

/// What became of a part of a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum PartPlace {
    /// It is where references say.
    Here,
    /// It is somewhere else.
    Moved(Moved),
    /// It was purged.
    Nothing,
}

impl PartPlace {
    fn moved(self) -> Option<Moved> {
        match self {
            PartPlace::Moved(moved) => Some(moved),
            PartPlace::Here | PartPlace::Nothing => None,
        }
    }
}

/// A part of a range as it was asked for: where it was, how long it is, and what became of it.
type Part = (u64, u64, PartPlace);

/// What became of places that were purged, when their content was written over.
#[derive(Default, Debug)]
pub struct Wiped {
    /// References that lead to nothing now.
    pub gone: Vec<(u64, GoneRecord)>,
    /// Places that stay.
    pub kept: Vec<(u64, u64)>,
    /// Places that nobody has any more.
    pub freed: Vec<(u64, u64)>,
    /// Those of them that would have stayed.
    pub unheld: Vec<(u64, u64)>,
}

/// The remap. In memory whole, mirrored in the meta tree item by item.
#[derive(Clone, Default, Debug)]
pub struct Remap {
    /// By birth and old address.
    by_old: BTreeMap<(Epoch, u64), Moved>,
    /// New address -> length, old address, birth.
    by_new: BTreeMap<u64, (u64, u64, Epoch)>,
    /// Births and old addresses of what is doubled.
    doubled: BTreeSet<(Epoch, u64)>,
    /// New addresses whose items have changed.
    dirty: BTreeSet<u64>,
    /// What leads to nothing.
    pub purged: Purged,
}

impl Remap {
    /// True if nothing has moved.
    pub fn is_empty(&self) -> bool {
        self.by_old.is_empty()
    }

    /// Number of ranges.
    pub fn len(&self) -> usize {
        self.by_old.len()
    }

    /// How many of them are doubled.
    pub fn doubled_len(&self) -> usize {
        self.doubled.len()
    }

    /// Enters a record. False, and nothing happens, if it is no range, or meets another one on either side.
    pub fn insert(&mut self, record: &RemapRecord) -> bool {
        let RemapRecord { old, birth, len, new, doubled } = *record;
        let (old, new) = (old.0, new.0);
        let (Some(old_end), Some(new_end)) = (old.checked_add(len), new.checked_add(len)) else {
            return false;
        };
        let before = self.by_old.range((birth, 0)..(birth, old_end)).next_back();
        let free = before.is_none_or(|((_, at), moved)| at + moved.len <= old)
            && self.by_new.range(..new_end).next_back().is_none_or(|(at, (len, ..))| at + len <= new);
        if !free || len == 0 {
            return false;
        }
        self.put((birth, old), Moved { len, new, doubled });
        true
    }

    fn put(&mut self, at: (Epoch, u64), moved: Moved) {
        self.by_old.insert(at, moved);
        self.by_new.insert(moved.new, (moved.len, at.1, at.0));
        self.dirty.insert(moved.new);
        if moved.doubled {
            self.doubled.insert(at);
        }
    }

    fn take(&mut self, at: (Epoch, u64)) -> Option<Moved> {
        let moved = self.by_old.remove(&at)?;
        self.by_new.remove(&moved.new);
        self.dirty.insert(moved.new);
        self.doubled.remove(&at);
        Some(moved)
    }

    /// Cuts ranges so that none of this birth crosses `addr`.
    fn cut(&mut self, birth: Epoch, addr: u64) {
        let before = self.by_old.range((birth, 0)..(birth, addr)).next_back();
        if let Some((at, moved)) = before.map(|(at, moved)| (*at, *moved))
            && at.1 + moved.len > addr
        {
            let front = addr - at.1;
            self.take(at);
            self.put(at, Moved { len: front, ..moved });
            self.put((birth, addr), Moved { len: moved.len - front, new: moved.new + front, ..moved });
        }
    }

    /// What became of each part of a range that is referred to.
    fn parts(&self, addr: u64, len: u64, birth: Epoch) -> Vec<Part> {
        let end = addr.saturating_add(len);
        let first =
            self.by_old.range((birth, 0)..(birth, addr)).next_back().filter(|((_, s), m)| s + m.len > addr);
        let (mut at, mut out) = (addr, Vec::new());
        for ((_, start), moved) in first.into_iter().chain(self.by_old.range((birth, addr)..(birth, end))) {
            if *start > at {
                self.unmoved(at, start - at, birth, &mut out);
                at = *start;
            }
            let skipped = at - start;
            let part = (moved.len - skipped).min(end - at);
            out.push((at, part, PartPlace::Moved(Moved { len: part, new: moved.new + skipped, ..*moved })));
            at += part;
        }
        if at < end {
            self.unmoved(at, end - at, birth, &mut out);
        }
        out
    }

    fn unmoved(&self, addr: u64, len: u64, birth: Epoch, out: &mut Vec<Part>) {
        let leads = self.purged.leads(addr, len, birth).into_iter();
        let lies = |nothing| if nothing { PartPlace::Nothing } else { PartPlace::Here };
        out.extend(leads.map(|(at, len, nothing)| (at, len, lies(nothing))));
    }

    /// True if nothing has moved and nothing was purged.
    fn is_plain(&self) -> bool {
        self.by_old.is_empty() && self.purged.is_empty()
    }

    /// True if some content of a range that is referred to was purged.
    pub fn is_purged(&self, addr: u64, len: u64, birth: Epoch) -> bool {
        !self.purged.is_empty()
            && self.parts(addr, len, birth).into_iter().any(|(at, len, lies)| match lies {
                PartPlace::Here => self.purged.is_place(at, len),
                PartPlace::Moved(moved) => self.purged.is_place(moved.new, len),
                PartPlace::Nothing => true,
            })
    }

    /// The parts of a range that is referred to which lead to nothing.
    pub fn nothing_of(&self, addr: u64, len: u64, birth: Epoch) -> Vec<(u64, u64)> {
        if self.purged.is_empty() {
            return Vec::new();
        }
        let parts = self.parts(addr, len, birth).into_iter();
        parts.filter(|(.., lies)| *lies == PartPlace::Nothing).map(|(at, len, _)| (at, len)).collect()
    }

    /// What of an extent was not purged: how far in it is, and where. Of a frame all or nothing.
    pub fn left_of<'e>(&self, extent: &'e Extent) -> Vec<(u64, PlacedExtent<'e>)> {
        let mut at = 0;
        let placed = self.resolve(extent).into_iter().map(|part| {
            at += part.extent().len_bytes();
            (at - part.extent().len_bytes(), part)
        });
        let DeadEntry { addr, len, birth } = reference(extent);
        if !self.is_purged(addr, len, birth) {
            return placed.collect();
        }
        if extent.is_compressed() {
            return Vec::new();
        }
        let part =
            |(from, len, place)| (from, PlacedExtent::moved(extent.slice(from, len), BlockAddr(place)));
        self.left(addr, len, birth).into_iter().map(part).collect()
    }

    /// Where the content of an extent is that was not purged, in runs.
    pub fn runs_left(&self, extent: &Extent) -> Vec<(u64, u64)> {
        let DeadEntry { addr, len, birth } = reference(extent);
        self.left(addr, len, birth).into_iter().map(|(_, len, place)| (place, len)).collect()
    }

    /// What of a range that is referred to was not purged: how far in it is, its length, and where.
    fn left(&self, addr: u64, len: u64, birth: Epoch) -> Vec<(u64, u64, u64)> {
        let mut left = Vec::new();
        for (at, len, lies) in self.parts(addr, len, birth) {
            let place = match lies {
                PartPlace::Here => at,
                PartPlace::Moved(moved) => moved.new,
                PartPlace::Nothing => continue,
            };
            let free = self.purged.not_held(place, len).into_iter();
            left.extend(free.map(|(start, len)| (at - addr + (start - place), len, start)));
        }
        left
    }

    /// In a commit: zeros are where `held` is, durably. `until` is its epoch: no reference to it is younger, and none comes
    /// to be. Its record is one of the extra references, and goes.
    pub fn settle_purged(&mut self, held: &[(u64, u64)], extra_refs: &mut ExtraRefs, until: Epoch) -> Wiped {
        let mut wiped = Wiped::default();
        for (addr, len) in held.iter().copied() {
            if self.purged.place(addr) != Some(HeldRecord { len, wiped: false }) {
                continue;
            }
            self.purged.let_go_of_place(addr);
            if self.has_moved_to(addr, len) || self.purged.has_gone(addr, len) {
                self.purged.keep_wiped(addr, len);
                wiped.kept.push((addr, len));
                for (addr, len) in extra_refs.release(addr, len) {
                    self.purged.forget_place(addr, len);
                    wiped.freed.push((addr, len));
                    wiped.unheld.push((addr, len));
                }
                continue;
            }
            for (addr, len, refs) in extra_refs.parts(addr, len) {
                if refs > 0 {
                    let record = GoneRecord { len, until, refs: u64::from(refs) };
                    self.purged.enter_gone(addr, record);
                    wiped.gone.push((addr, record));
                }
                extra_refs.clear(addr, len);
                wiped.freed.push((addr, len));
            }
        }
        wiped
    }

    /// The same for who was told of it.
    pub fn take_over_purged(&mut self, held: &[(u64, u64)], wiped: &Wiped) {
        for (addr, _) in held {
            self.purged.let_go_of_place(*addr);
        }
        wiped.kept.iter().for_each(|(addr, len)| self.purged.keep_wiped(*addr, *len));
        wiped.gone.iter().for_each(|(addr, record)| self.purged.enter_gone(*addr, *record));
    }

    /// True if all of a range is where references say.
    pub fn is_in_place(&self, addr: u64, len: u64, birth: Epoch) -> bool {
        self.is_plain() || matches!(self.parts(addr, len, birth)[..], [(_, _, PartPlace::Here)])
    }

    /// Every place that holds content of a range that is referred to: of what is doubled, both.
    pub fn places(&self, addr: u64, len: u64, birth: Epoch) -> Vec<(u64, u64)> {
        if self.is_plain() {
            return vec![(addr, len)];
        }
        let mut out = Vec::new();
        for (at, len, lies) in self.parts(addr, len, birth) {
            out.extend(lies.moved().map(|moved| (moved.new, len)));
            if lies == PartPlace::Here || lies.moved().is_some_and(|moved| moved.doubled) {
                out.push((at, len));
            }
        }
        out
    }

    /// The new places of what has moved of a range that is referred to.
    pub fn moved_to(&self, addr: u64, len: u64, birth: Epoch) -> Vec<(u64, u64)> {
        if self.by_old.is_empty() {
            return Vec::new();
        }
        let parts = self.parts(addr, len, birth).into_iter();
        parts.filter_map(|(_, len, lies)| Some((lies.moved()?.new, len))).collect()
    }

    /// Where the content of an extent is, part by part in order.
    pub fn resolve<'e>(&self, extent: &'e Extent) -> Vec<PlacedExtent<'e>> {
        let (addr, len) = (extent.raw_addr.0, extent.stored_bytes());
        if self.by_old.is_empty() {
            return vec![PlacedExtent::in_place(extent)];
        }
        let parts = self.parts(addr, len, extent.birth);
        if let [(_, _, PartPlace::Here | PartPlace::Nothing)] = parts[..] {
            return vec![PlacedExtent::in_place(extent)];
        }
        let placed = parts.into_iter().map(|(at, len, lies)| {
            let to = BlockAddr(lies.moved().map_or(at, |moved| moved.new));
            // Only what is not compressed moves; of a frame nothing is cut.
            let part = if extent.is_compressed() { extent.clone() } else { extent.slice(at - addr, len) };
            PlacedExtent::moved(part, to)
        });
        placed.collect()
    }

    /// Where the content of an extent is, in runs.
    pub fn runs(&self, extent: &Extent) -> Vec<(u64, u64)> {
        self.resolve(extent).iter().map(|part| (part.addr(), part.extent().stored_bytes())).collect()
    }

    /// The reference to a range goes, and what tells of it: the places that it had.
    pub fn release(&mut self, entry: &DeadEntry) -> Vec<(u64, u64)> {
        let DeadEntry { addr, len, birth } = *entry;
        let places = self.places(addr, len, birth);
        for (at, len) in self.nothing_of(addr, len, birth) {
            self.purged.release(at, len);
        }
        if !self.by_old.is_empty() {
            self.cut(birth, addr);
            self.cut(birth, addr + len);
            let gone: Vec<_> =
                self.by_old.range((birth, addr)..(birth, addr + len)).map(|(at, _)| *at).collect();
            for at in gone {
                self.take(at);
            }
        }
        places
    }

    /// What was doubled so far is no more: returns the old places that are let go of.
    pub fn settle(&mut self) -> Vec<(u64, u64)> {
        let mut old = Vec::new();
        for at in std::mem::take(&mut self.doubled) {
            if let Some(moved) = self.by_old.get_mut(&at) {
                moved.doubled = false;
                self.dirty.insert(moved.new);
                old.push((at.1, moved.len));
            }
        }
        old
    }

    /// True if something that has moved is in this range now.
    pub fn has_moved_to(&self, addr: u64, len: u64) -> bool {
        let before = self.by_new.range(..addr.saturating_add(len)).next_back();
        before.is_some_and(|(at, (len, ..))| at + len > addr)
    }

    /// All records, by new address.
    pub fn iter(&self) -> impl Iterator<Item = RemapRecord> + '_ {
        self.by_new.keys().filter_map(|new| self.record(*new))
    }

    fn record(&self, new: u64) -> Option<RemapRecord> {
        let (len, old, birth) = *self.by_new.get(&new)?;
        let doubled = self.by_old.get(&(birth, old))?.doubled;
        Some(RemapRecord { old: BlockAddr(old), birth, len, new: BlockAddr(new), doubled })
    }

    /// Items that changed since the last call: new address, and the record, or none if it is gone.
    pub fn take_changes(&mut self) -> Vec<(u64, Option<RemapRecord>)> {
        std::mem::take(&mut self.dirty).into_iter().map(|new| (new, self.record(new))).collect()
    }
}
