//! Which side of a mirror has lost files while nobody looked: what is allocated was written, so each side has a place for it. What is
//! in that place is not looked at. What is reserved and was never written counts for nothing: room for it may have been promised
//! before a side came, and so on the other alone. To find that out takes as long as to read all trees, so it is asked only when
//! something lacks a place.

use super::filling::FillFrom;
use super::intent::scan_sides;
use super::mirroring::{RINGS, add, unwritten};
use super::open::fsid;
use super::space_map::SpaceMap;
use super::{Access, OpenOptions, Result, Volume, newest_superblock};
use crate::device::{Device, Mirror, RESERVED_BYTES};
use crate::store::{Allocator, RangeSet, Store};
use std::sync::Arc;

/// A side that does not have what its partner has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LackingSide {
    /// Its number.
    pub side: usize,
    /// The first address that it has no place for.
    pub at: u64,
}

/// The side that has no place for something that the newest state needs and for which the other has one. None if that is
/// so of neither, or of both. Gives a side a place for what is reserved, was never written, and has one on the other.
///
/// # Errors
/// If the state cannot be read, or a side does not answer.
pub fn side_that_lacks(mirror: &Arc<Mirror>) -> Result<Option<LackingSide>> {
    let superblock = newest_superblock(&**mirror)?;
    let mut alloc = Allocator::new(RESERVED_BYTES + superblock.log_bytes, superblock.size);
    let device: Arc<dyn Device> = mirror.clone();
    let loader = Store::new(device, fsid(&superblock.uuid), Allocator::new(0, 0));
    loader.health().set_may_heal(false);
    SpaceMap::load(&loader, superblock.space_map, &mut alloc)?;
    let mut needed = alloc.in_use();
    RINGS.iter().for_each(|(at, len)| add(&mut needed, *at, *len));
    add(&mut needed, RESERVED_BYTES, superblock.log_bytes);
    let needed: Vec<_> = needed.iter().collect();
    let lacks = |n| -> Result<RangeSet> {
        let mut lacking = RangeSet::new();
        let told = mirror.lacks_on(n, needed.clone());
        let told = told.map_err(|e| super::VolumeError::Device(e.to_string()))?;
        told.into_iter().for_each(|(at, len)| add(&mut lacking, at, len));
        Ok(lacking)
    };
    let lacking = [lacks(0)?, lacks(1)?];
    let mut alone = [0, 1].map(|n: usize| {
        let mut alone = lacking[n].clone();
        take_all(&mut alone, &lacking[1 - n]);
        alone
    });
    if alone.iter().any(|lacking| !lacking.is_empty()) {
        // What is not known to be unwritten was written.
        let unwritten = unwritten_on(mirror.clone()).unwrap_or_else(|e| {
            log::debug!("mirror: it cannot be found out what was never written: {e}");
            RangeSet::new()
        });
        for (n, lacking) in alone.iter_mut().enumerate() {
            // With a place for it nobody needs to ask again.
            for (at, len) in unwritten.iter().flat_map(|(at, len)| lacking.clipped(at, len)) {
                let _best_effort = mirror.back_on(n, at, len);
            }
            take_all(lacking, &unwritten);
        }
    }
    let first = |n: usize| alone[n].iter().next().map(|(at, _)| LackingSide { side: n, at });
    Ok(match (first(0), first(1)) {
        (Some(_), Some(_)) => None,
        (a, b) => a.or(b),
    })
}

/// Where the log of each side ends, as records tell that follow its newest state: who has more of it has what came later, also
/// where both have the same state.
///
/// # Errors
/// If neither side has a state.
pub fn log_ends(mirror: &Mirror) -> Result<[u64; 2]> {
    let superblock = newest_superblock(mirror)?;
    Ok([0, 1].map(|side| scan_sides(mirror, vec![side], &superblock).end))
}

/// The side whose device is too short for the store, while the other's is not. Nothing that is in use need be behind its end: a
/// store is not opened on it all the same.
///
/// # Errors
/// If neither side tells how long the store is.
pub fn side_that_is_short(mirror: &Mirror, sizes: [u64; 2]) -> Result<Option<LackingSide>> {
    let size = newest_superblock(mirror)?.size;
    let short: Vec<usize> = (0..2).filter(|n| sizes[*n] < size).collect();
    let [side] = short[..] else { return Ok(None) };
    Ok(Some(LackingSide { side, at: sizes[side] }))
}

fn take_all(set: &mut RangeSet, others: &RangeSet) {
    for (at, len) in others.iter() {
        set.take(at, len);
    }
}

/// What is reserved in the newest state of a device and was never written.
fn unwritten_on(device: Arc<dyn Device>) -> Result<RangeSet> {
    let options = OpenOptions { access: Access::ReadOnly, cache_bytes: 1 << 20 };
    unwritten(&Volume::open(device, options)?.committed()?)
}

impl Volume {
    /// What is to be filled of a side that is thought to have `from`: nothing of that counts if it lacks files that it had then. To
    /// find that out takes as long as to read all that came since, or until it `ends`.
    ///
    /// # Errors
    /// If it was ended.
    pub fn as_far_as_there(
        &self,
        from: FillFrom,
        device: &dyn Device,
        ends: &mut dyn FnMut() -> bool,
    ) -> Result<FillFrom> {
        let Some(claimed) = self.claimed(&from, ends)? else { return Ok(from) };
        let claimed: Vec<_> = claimed.iter().collect();
        let mut lacking = RangeSet::new();
        device.lacks(&claimed).into_iter().for_each(|(at, len)| add(&mut lacking, at, len));
        if !lacking.is_empty() {
            let unwritten = match &from {
                FillFrom::Stale(stale) => unwritten_on(stale.device.clone()),
                _ => self.committed().and_then(|state| unwritten(&state)),
            };
            // What is not known to be unwritten was written.
            unwritten.iter().for_each(|unwritten| take_all(&mut lacking, unwritten));
        }
        let Some((at, _)) = lacking.iter().next() else { return Ok(from) };
        let place = device.describe();
        log::warn!("mirror: everything is copied, because {place} has lost what it had at {at:#x}");
        Ok(FillFrom::Nothing)
    }
}
