//! What was purged, as one state has it: places that are held, and references that lead to nothing.
//!
//! Ranges are disjoint among places, and among references: where an address has been purged before, a place is wiped and
//! stays. Pure. Why so, and the steps: docs/decisions/0040.

use crate::format::purge::{GoneRecord, HeldRecord};
use crate::format::{Epoch, FormatError, Key, Kind, bad};
use std::collections::{BTreeMap, BTreeSet};

/// A range of references: its address, length, and whether it leads to nothing.
pub(super) type Lead = (u64, u64, bool);

/// The purged. In memory whole, mirrored in the meta tree item by item.
#[derive(Clone, Default, Debug)]
pub struct Purged {
    /// Places, by address.
    held: BTreeMap<u64, HeldRecord>,
    /// References, by address.
    gone: BTreeMap<u64, GoneRecord>,
    /// Keys of items that have changed.
    dirty: BTreeSet<Key>,
    /// Bytes of all references of `gone`, and of the places that are to be written over.
    nowhere: u64,
    to_wipe: u64,
}

impl Purged {
    /// True if nothing was purged that is referred to still.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty() && self.gone.is_empty()
    }

    /// Places that are held or wiped, with their records.
    pub fn held(&self) -> impl Iterator<Item = (u64, HeldRecord)> + '_ {
        self.held.iter().map(|(addr, record)| (*addr, *record))
    }

    /// References that lead to nothing.
    pub fn gone(&self) -> impl Iterator<Item = (u64, GoneRecord)> + '_ {
        self.gone.iter().map(|(addr, record)| (*addr, *record))
    }

    /// Bytes of references that lead to nothing, and of places that are to be written over.
    pub fn sums(&self) -> (u64, u64) {
        (self.nowhere, self.to_wipe)
    }

    fn set_held(&mut self, addr: u64, held: Option<HeldRecord>) {
        let before = match held {
            Some(held) => self.held.insert(addr, held),
            None => self.held.remove(&addr),
        };
        let bytes = |held: Option<HeldRecord>| held.filter(|held| !held.wiped).map_or(0, |held| held.len);
        self.to_wipe = self.to_wipe.saturating_sub(bytes(before)).saturating_add(bytes(held));
    }

    fn set_gone(&mut self, addr: u64, gone: Option<GoneRecord>) {
        let before = match gone {
            Some(gone) => self.gone.insert(addr, gone),
            None => self.gone.remove(&addr),
        };
        let bytes = |gone: Option<GoneRecord>| gone.map_or(0, |gone| gone.len.saturating_mul(gone.refs));
        self.nowhere = self.nowhere.saturating_sub(bytes(before)).saturating_add(bytes(gone));
    }

    /// Places that are to be written over.
    pub fn to_wipe(&self) -> Vec<(u64, u64)> {
        self.held.iter().filter(|(_, held)| !held.wiped).map(|(addr, held)| (*addr, held.len)).collect()
    }

    /// Enters an item of the meta tree, if it makes sense beside the others.
    pub fn load(&mut self, key: &Key, value: &[u8]) -> Result<(), FormatError> {
        let at = key.rest;
        let free = match Kind::from_u8(key.kind) {
            Some(Kind::PurgeHeld) => {
                let record = HeldRecord::decode(at, value)?;
                let free = !self.is_place(at, record.len);
                self.set_held(at, Some(record));
                free
            }
            _ => {
                let record = GoneRecord::decode(at, value)?;
                let free = !overlaps(&self.gone, at, record.len, |gone| gone.len);
                self.set_gone(at, Some(record));
                free
            }
        };
        if free { Ok(()) } else { bad!("the record of what was purged at {at:#x} meets another") }
    }

    /// True if some content of a place is purged.
    pub fn is_place(&self, addr: u64, len: u64) -> bool {
        overlaps(&self.held, addr, len, |held| held.len)
    }

    /// The parts of a place of which no content is purged.
    pub(super) fn not_held(&self, addr: u64, len: u64) -> Vec<(u64, u64)> {
        let (mut at, end, mut new) = (addr, addr + len, Vec::new());
        let before = self.held.range(..addr).next_back().filter(|(s, held)| *s + held.len > addr);
        let met: Vec<_> =
            before.into_iter().chain(self.held.range(addr..end)).map(|(s, held)| (*s, held.len)).collect();
        for (start, had) in met {
            if start > at {
                new.push((at, start - at));
            }
            at = at.max(start + had);
        }
        if at < end {
            new.push((at, end - at));
        }
        new
    }

    /// Holds a place: returns the parts of it that were not held before.
    pub fn hold(&mut self, addr: u64, len: u64) -> Vec<(u64, u64)> {
        let new = self.not_held(addr, len);
        for (addr, len) in &new {
            self.set_held(*addr, Some(HeldRecord { len: *len, wiped: false }));
            self.dirty.insert(HeldRecord::key(*addr));
        }
        new
    }

    /// The record of the place that begins there.
    pub fn place(&self, addr: u64) -> Option<HeldRecord> {
        self.held.get(&addr).copied()
    }

    /// The place that begins there is not held any more.
    pub fn let_go_of_place(&mut self, addr: u64) {
        self.dirty.insert(HeldRecord::key(addr));
        self.set_held(addr, None);
    }

    /// Zeros are at a place that is held, and it stays as long as it has references.
    pub fn keep_wiped(&mut self, addr: u64, len: u64) {
        self.dirty.insert(HeldRecord::key(addr));
        self.set_held(addr, Some(HeldRecord { len, wiped: true }));
    }

    /// Nobody refers to a range of places any more.
    pub fn forget_place(&mut self, addr: u64, len: u64) {
        if !self.is_place(addr, len) {
            return;
        }
        let end = addr + len;
        let before = self.held.range(..addr).next_back().filter(|(s, held)| *s + held.len > addr);
        let met: Vec<_> =
            before.into_iter().chain(self.held.range(addr..end)).map(|(s, held)| (*s, *held)).collect();
        for (start, held) in met {
            self.let_go_of_place(start);
            if start < addr {
                self.dirty.insert(HeldRecord::key(start));
                self.set_held(start, Some(HeldRecord { len: addr - start, ..held }));
            }
            if start + held.len > end {
                self.dirty.insert(HeldRecord::key(end));
                self.set_held(end, Some(HeldRecord { len: start + held.len - end, ..held }));
            }
        }
    }

    /// True if some references to a range lead to nothing.
    pub fn has_gone(&self, addr: u64, len: u64) -> bool {
        overlaps(&self.gone, addr, len, |gone| gone.len)
    }

    /// All references to a range lead to nothing from now on.
    pub fn enter_gone(&mut self, addr: u64, record: GoneRecord) {
        self.dirty.insert(GoneRecord::key(addr));
        self.set_gone(addr, Some(record));
    }

    /// A range of references that have not moved, as far as they lead to something and as far as not.
    pub(super) fn leads(&self, addr: u64, len: u64, birth: Epoch) -> Vec<Lead> {
        let (mut at, end, mut out) = (addr, addr.saturating_add(len), Vec::new());
        let before = self.gone.range(..addr).next_back().filter(|(s, gone)| *s + gone.len > addr);
        for (start, gone) in before.into_iter().chain(self.gone.range(addr..end)) {
            if gone.until < birth {
                continue;
            }
            if *start > at {
                out.push((at, start - at, false));
                at = *start;
            }
            let part = (start + gone.len).min(end) - at;
            out.push((at, part, true));
            at += part;
        }
        if at < end {
            out.push((at, end - at, false));
        }
        out
    }

    /// One reference less to a range to which they lead to nothing.
    pub(super) fn release(&mut self, addr: u64, len: u64) {
        self.cut(addr);
        self.cut(addr + len);
        let met: Vec<u64> = self.gone.range(addr..addr + len).map(|(at, _)| *at).collect();
        for at in met {
            self.dirty.insert(GoneRecord::key(at));
            if let Some(gone) = self.gone.get(&at).copied() {
                let left = GoneRecord { refs: gone.refs - 1, ..gone };
                self.set_gone(at, (left.refs > 0).then_some(left));
            }
        }
    }

    /// Cuts records so that none crosses `at`.
    fn cut(&mut self, at: u64) {
        let before = self.gone.range(..at).next_back().map(|(s, gone)| (*s, *gone));
        if let Some((start, gone)) = before.filter(|(s, gone)| s + gone.len > at) {
            self.enter_gone(start, GoneRecord { len: at - start, ..gone });
            self.enter_gone(at, GoneRecord { len: start + gone.len - at, ..gone });
        }
    }

    /// Items that changed since the last call, or none for what is gone.
    pub fn take_changes(&mut self) -> Vec<(Key, Option<Vec<u8>>)> {
        let dirty = std::mem::take(&mut self.dirty).into_iter();
        let item = |key: &Key| match Kind::from_u8(key.kind) {
            Some(Kind::PurgeHeld) => self.held.get(&key.rest).map(HeldRecord::encode),
            _ => self.gone.get(&key.rest).map(GoneRecord::encode),
        };
        dirty.map(|key| (key, item(&key))).collect()
    }
}

fn overlaps<T>(map: &BTreeMap<u64, T>, addr: u64, len: u64, len_of: impl Fn(&T) -> u64) -> bool {
    let before = map.range(..addr.saturating_add(len)).next_back();
    before.is_some_and(|(at, record)| at + len_of(record) > addr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_held_once_and_forgotten_in_parts() {
        let mut purged = Purged::default();
        assert_eq!(purged.hold(8192, 8192), [(8192, 8192)]);
        assert_eq!(purged.hold(4096, 16384), [(4096, 4096), (16384, 4096)]);
        assert_eq!(purged.hold(8192, 4096), []);
        purged.forget_place(12288, 4096);
        assert!(purged.is_place(8192, 4096) && !purged.is_place(12288, 4096) && purged.is_place(16384, 1));
        prove_sums(&purged);
        let items = purged.take_changes();
        let mut back = Purged::default();
        for (key, value) in items {
            if let Some(value) = value {
                back.load(&key, &value).unwrap();
            }
        }
        assert_eq!((back.held.clone(), back.sums()), (purged.held.clone(), purged.sums()));
        purged.keep_wiped(16384, 4096);
        prove_sums(&purged);
        let (key, value) = (HeldRecord::key(4096), HeldRecord { len: 8192, wiped: false }.encode());
        assert!(back.load(&key, &value).is_err(), "it meets another");
    }

    /// What is kept of the sums is what the records come to.
    fn prove_sums(purged: &Purged) {
        let nowhere = purged.gone().map(|(_, gone)| gone.len * gone.refs).sum::<u64>();
        assert_eq!(purged.sums(), (nowhere, purged.to_wipe().iter().map(|(_, len)| *len).sum()));
    }

    /// Against a count for each block and birth.
    #[test]
    fn references_are_counted_down() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut purged = Purged::default();
        let mut counts = [0u64; 64];
        for n in 0..8u64 {
            let refs = rng.u64(1..4);
            purged.enter_gone(n * 8 * 4096, GoneRecord { len: 8 * 4096, until: Epoch(5), refs });
            counts[(n * 8) as usize..(n * 8 + 8) as usize].fill(refs);
        }
        for _ in 0..5000 {
            let len = rng.usize(1..5);
            let first = rng.usize(0..=64 - len);
            for (at, len, nothing) in purged.leads(first as u64 * 4096, len as u64 * 4096, Epoch(5)) {
                let range = (at / 4096) as usize..((at + len) / 4096) as usize;
                assert!(counts[range.clone()].iter().all(|n| (*n > 0) == nothing), "{range:?} {nothing}");
                if nothing && rng.u8(..4) == 0 {
                    purged.release(at, len);
                    counts[range].iter_mut().for_each(|n| *n -= 1);
                }
            }
            prove_sums(&purged);
            let younger = purged.leads(first as u64 * 4096, len as u64 * 4096, Epoch(6));
            assert_eq!(younger, [(first as u64 * 4096, len as u64 * 4096, false)]);
        }
        assert!(counts.iter().all(|n| *n == 0) && purged.is_empty());
    }
}
