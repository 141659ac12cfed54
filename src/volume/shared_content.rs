//! Content that is found again by where it is: for who tells of content once, and of other references to it by what was told.
//!
//! Only content with more than one reference is kept in mind, so the memory that this takes follows what is shared.

use super::view::Shared;
use super::{View, Volume};
use crate::format::Extent;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where shared content was met, by where it is. What was met has a number, given by the caller.
pub struct SharedContent {
    shared: Arc<Shared>,
    /// Ranges with several references, by address.
    ranges: Vec<(u64, u64)>,
    /// Address -> length, number, and how far in what has it.
    plain: BTreeMap<u64, (u64, usize, u64)>,
    /// Address of a frame -> number.
    frames: BTreeMap<u64, usize>,
}

/// A part of an extent, and where it was met.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MetPart {
    /// Its length in bytes.
    pub len: u64,
    /// Number of what has it, and how far in; none if it was not met.
    pub met: Option<(usize, u64)>,
}

impl MetPart {
    fn goes_on_with(&self, met: Option<(usize, u64)>) -> bool {
        match (self.met, met) {
            (Some((number, from)), Some((next, at))) => number == next && from + self.len == at,
            (None, None) => true,
            _ => false,
        }
    }
}

impl SharedContent {
    /// True if nothing is shared.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// True if more than one reference reaches any of it.
    pub fn is_shared(&self, extent: &Extent) -> bool {
        let parts = self.shared.places.resolve(extent);
        parts.iter().any(|part| self.is_shared_range(part.addr(), part.extent().stored_bytes()))
    }

    fn is_shared_range(&self, addr: u64, len: u64) -> bool {
        let next = self.ranges.partition_point(|(start, len)| start + len <= addr);
        self.ranges.get(next).is_some_and(|(start, _)| *start < addr + len)
    }

    /// What has this number has this content.
    pub fn note(&mut self, extent: &Extent, number: usize) {
        if extent.is_unwritten() || self.shared.places.is_purged(extent) || !self.is_shared(extent) {
            return;
        }
        if extent.is_compressed() {
            // What is compressed never moves.
            self.frames.entry(self.shared.places.resolve(extent)[0].addr()).or_insert(number);
            return;
        }
        let mut at = 0;
        for part in self.shared.places.resolve(extent) {
            let len = part.extent().len_bytes();
            self.plain.entry(part.addr()).or_insert((len, number, at));
            at += len;
        }
    }

    /// What has a piece of this frame.
    pub fn frame(&self, extent: &Extent) -> Option<usize> {
        if self.shared.places.is_purged(extent) {
            return None;
        }
        let parts = self.shared.places.resolve(extent);
        parts.first().and_then(|part| self.frames.get(&part.addr()).copied())
    }

    /// Content that is no frame, part by part. Where it lies now has no part in it: neighbours of which the same is to be said
    /// are one part, wherever either has moved.
    pub fn parts(&self, extent: &Extent) -> Vec<MetPart> {
        let mut found: Vec<MetPart> = Vec::new();
        // What was purged is nowhere, whoever has its place now.
        if self.shared.places.is_purged(extent) {
            return vec![MetPart { len: extent.len_bytes(), met: None }];
        }
        for part in self.shared.places.resolve(extent) {
            let (mut at, end) = (part.addr(), part.addr() + part.extent().len_bytes());
            while at < end {
                let before = self.plain.range(..=at).next_back();
                let covering = before.filter(|(start, (had, ..))| *start + had > at);
                let (len, met) = match covering {
                    Some((start, (had, number, from))) => {
                        (start + had - at, Some((*number, from + (at - start))))
                    }
                    None => {
                        (self.plain.range(at..end).next().map_or(end - at, |(start, _)| start - at), None)
                    }
                };
                let len = len.min(end - at);
                match found.last_mut() {
                    Some(last) if last.goes_on_with(met) => last.len += len,
                    _ => found.push(MetPart { len, met }),
                }
                at += len;
            }
        }
        found
    }
}

impl Volume {
    /// What is shared now, and nothing met yet.
    pub fn shared_content(&self) -> SharedContent {
        let ranges = self.shared_ranges();
        SharedContent { shared: self.shared.clone(), ranges, plain: BTreeMap::new(), frames: BTreeMap::new() }
    }

    /// Ranges of content that more than one reference reaches, by address.
    fn shared_ranges(&self) -> Vec<(u64, u64)> {
        let committer = self.committer.lock();
        let mut ranges: Vec<_> = committer.extra_refs.iter().map(|(addr, len, _)| (addr, len)).collect();
        ranges.extend_from_slice(self.state.read().shared.ranges());
        drop(committer);
        ranges.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
        for (addr, len) in ranges {
            match merged.last_mut() {
                Some((start, had)) if *start + *had >= addr => *had = (*had).max(addr + len - *start),
                _ => merged.push((addr, len)),
            }
        }
        merged
    }
}

impl View {
    /// Reads all that is stored of an extent, verified: its content, or the frame of which it is a piece.
    pub fn read_stored(&self, extent: &Extent, out: &mut [u8]) -> super::Result<()> {
        if !extent.is_compressed() {
            return self.read_extent(extent, 0, out);
        }
        self.refuse_purged(extent)?;
        let parts = self.shared.places.resolve(extent);
        Ok(parts.first().map_or(Ok(()), |part| self.shared.store().read_stored(part, 0, out))?)
    }
}
