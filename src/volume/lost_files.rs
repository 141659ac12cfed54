//! Which side of a mirror has lost files while nobody looked: what is allocated was written, or had room promised, so each side has a
//! place for it. What is in that place is not looked at.

use super::filling::FillFrom;
use super::mirroring::{RINGS, add};
use super::open::fsid;
use super::space_map::SpaceMap;
use super::{Result, Volume, newest_superblock};
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
/// so of neither, or of both.
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
    let first = |n: usize| {
        let mut alone = lacking[n].clone();
        for (at, len) in lacking[1 - n].iter() {
            alone.take(at, len);
        }
        alone.iter().next().map(|(at, _)| LackingSide { side: n, at })
    };
    Ok(match (first(0), first(1)) {
        (Some(_), Some(_)) => None,
        (a, b) => a.or(b),
    })
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
        let Some((at, _)) = device.lacks(&claimed).first().copied() else { return Ok(from) };
        let place = device.describe();
        log::warn!("mirror: everything is copied, because {place} has lost what it had at {at:#x}");
        Ok(FillFrom::Nothing)
    }
}
