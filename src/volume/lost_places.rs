//! Places of content that has moved, found again by checksums: for the repair of a store that has lost records of the remap.
//!
//! A reference whose content is not where it says has lost its record, or its content is bad. The place is one that the
//! space map has as in use, that nothing else leads to, and that has the bytes: the checksums of a reference say which. Which of
//! several places with the same bytes it was is all the same. Reads all content once. Nothing is changed.

use super::Result;
use super::remap::{Remap, reference};
use crate::format::remap::RemapRecord;
use crate::format::{BLOCK_BYTES, BlockAddr, BlockPtr, Epoch, Extent, Kind};
use crate::store::{RangeSet, Store};
use crate::tree::{Pager, Step, Visit, walk_readable};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Content that is read in one go where places are looked through.
const LOOK_BYTES: u64 = 1 << 20;

/// What was found.
pub struct FoundPlaces {
    /// Where content is.
    pub records: Vec<RemapRecord>,
    /// Bytes of content that are nowhere.
    pub missing: u64,
    /// Every place could be read: what was not found is not there.
    pub is_sure: bool,
}

/// Blocks of content that are not where references say, with their checksums.
type Missing = BTreeMap<(Epoch, u64), u32>;

/// What the trees of all views lead to.
struct Reached<'a> {
    store: &'a Store,
    remap: &'a Remap,
    /// Nodes, and content that is where it is said to be.
    ranges: RangeSet,
    missing: Missing,
}

impl Reached<'_> {
    fn add(&mut self, addr: u64, len: u64) {
        self.ranges.take(addr, len);
        self.ranges.insert(addr, len);
    }

    fn extent(&mut self, extent: &Extent) {
        let entry = reference(extent);
        if extent.is_compressed() || extent.is_unwritten() {
            return self.add(entry.addr, entry.len);
        }
        let mut bytes = vec![0; extent.len_bytes() as usize];
        let mut at = 0;
        for part in self.remap.resolve(extent) {
            let len = part.extent().len_bytes();
            if self.store.prove_extent(&part, &mut bytes[..len as usize]).is_ok() {
                self.add(part.addr(), len);
            } else {
                for from in (0..len).step_by(BLOCK_BYTES as usize) {
                    self.block(&extent.slice(at + from, BLOCK_BYTES), &mut bytes[..BLOCK_BYTES as usize]);
                }
            }
            at += len;
        }
    }

    fn block(&mut self, block: &Extent, bytes: &mut [u8]) {
        let entry = reference(block);
        if self.remap.is_purged(entry.addr, entry.len, entry.birth) {
            return;
        }
        let is_in_place = self.remap.is_in_place(entry.addr, entry.len, entry.birth);
        let good = self.remap.resolve(block).iter().all(|part| self.store.prove_extent(part, bytes).is_ok());
        match block.crcs.first() {
            Some(crc) if !good && is_in_place => drop(self.missing.insert((entry.birth, entry.addr), *crc)),
            _ => self.remap.resolve(block).iter().for_each(|part| self.add(part.addr(), BLOCK_BYTES)),
        }
    }
}

/// Looks for content of the trees below `roots` that is not where references and `remap` say, in what is in use.
pub fn find(pager: &Pager, roots: &[BlockPtr], remap: &Remap, in_use: &RangeSet) -> Result<FoundPlaces> {
    let store = pager.store();
    let mut reached = Reached { store, remap, ranges: RangeSet::new(), missing: Missing::new() };
    let mut seen: HashSet<BlockPtr> = HashSet::new();
    for root in roots {
        root.ranges().for_each(|(addr, len)| reached.add(addr, len));
        let mut visit = |visit: Visit<'_>| {
            match visit {
                Visit::Node(ptr, ..) => {
                    if !seen.insert(*ptr) {
                        return Ok(Step::Over);
                    }
                    ptr.ranges().for_each(|(addr, len)| reached.add(addr, len));
                }
                Visit::Item(key, value) if key.kind == Kind::Extent as u8 => {
                    if let Ok(extent) = Extent::decode(value) {
                        reached.extent(&extent);
                    }
                }
                _ => {}
            }
            Ok(Step::Into)
        };
        walk_readable(pager, root, Epoch(0), &mut visit, &mut |_| Ok(()))?;
    }
    let Reached { ranges, missing, .. } = reached;
    let (places, is_sure) = match missing.is_empty() {
        true => (HashMap::new(), true),
        false => places_of(store, in_use, &ranges, &missing),
    };
    let (records, found) = assign(&missing, places);
    Ok(FoundPlaces { records, missing: (missing.len() as u64 - found) * BLOCK_BYTES, is_sure })
}

/// Places that nothing leads to and that have bytes which are missed, by checksum.
fn places_of(
    store: &Store,
    in_use: &RangeSet,
    reached: &RangeSet,
    missing: &Missing,
) -> (HashMap<u32, BTreeSet<u64>>, bool) {
    let wanted: HashSet<u32> = missing.values().copied().collect();
    let mut unclaimed = in_use.clone();
    for (addr, len) in reached.iter() {
        unclaimed.take(addr, len);
    }
    let (mut places, mut is_sure): (HashMap<u32, BTreeSet<u64>>, _) = (HashMap::new(), true);
    let mut bytes = vec![0; LOOK_BYTES as usize];
    for (start, len) in unclaimed.iter() {
        for at in (start..start + len).step_by(LOOK_BYTES as usize) {
            let some = &mut bytes[..LOOK_BYTES.min(start + len - at) as usize];
            if store.device().read_at(at, some).is_err() {
                is_sure = false;
                continue;
            }
            for (n, block) in (0..).zip(some.chunks(BLOCK_BYTES as usize)) {
                let crc = crc32c::crc32c(block);
                if wanted.contains(&crc) {
                    places.entry(crc).or_default().insert(at + n * BLOCK_BYTES);
                }
            }
        }
    }
    (places, is_sure)
}

/// Gives each missing block a place, in runs where there are any. Returns how many have one.
fn assign(missing: &Missing, mut places: HashMap<u32, BTreeSet<u64>>) -> (Vec<RemapRecord>, u64) {
    let (mut records, mut found): (Vec<RemapRecord>, u64) = (Vec::new(), 0);
    for ((birth, old), crc) in missing {
        let Some(free) = places.get_mut(crc) else { continue };
        let behind = records.last().map(|last| last.new.0 + last.len).filter(|at| free.contains(at));
        let Some(new) = behind.or_else(|| free.first().copied()) else { continue };
        free.remove(&new);
        found += 1;
        match records.last_mut() {
            Some(last)
                if (last.birth, last.old.0 + last.len, last.new.0 + last.len) == (*birth, *old, new) =>
            {
                last.len += BLOCK_BYTES;
            }
            _ => records.push(RemapRecord {
                old: BlockAddr(*old),
                birth: *birth,
                len: BLOCK_BYTES,
                new: BlockAddr(new),
                doubled: false,
            }),
        }
    }
    (records, found)
}
