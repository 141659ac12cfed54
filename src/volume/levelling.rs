//! Writing to the sides of a mirror what they lack of what another has.

use super::{Result, VolumeError};
use crate::device::{Device, DeviceError};
use std::collections::{BTreeMap, btree_map::Entry};

fn failed(e: DeviceError) -> VolumeError {
    VolumeError::Device(e.to_string())
}

/// Writes to sides what they lack. One that does not take it is left out when all is written, and not before: it may be the
/// only one that has what another lacks.
pub(super) struct Levelling<'a> {
    device: &'a dyn Device,
    failed: BTreeMap<usize, DeviceError>,
    has_written: bool,
}

impl Levelling<'_> {
    /// Nothing yet.
    pub(super) fn new(device: &dyn Device) -> Levelling<'_> {
        Levelling { device, failed: BTreeMap::new(), has_written: false }
    }

    /// Has a side hold these bytes.
    pub(super) fn bring(&mut self, side: usize, at: u64, bytes: &[u8]) {
        self.has_written = true;
        if let Entry::Vacant(failed) = self.failed.entry(side)
            && let Err(e) = self.device.write_side(side, at, bytes)
        {
            failed.insert(e);
        }
    }

    /// All that was brought is durable on each side that is left.
    ///
    /// # Errors
    /// If no side is left that has all of it.
    pub(super) fn end(mut self) -> Result<()> {
        if !self.has_written {
            return Ok(());
        }
        let is_whole = |side: &usize| !self.failed.contains_key(side);
        if !self.device.sides().iter().any(is_whole)
            && let Some((_, e)) = self.failed.pop_first()
        {
            return Err(failed(e));
        }
        for (side, e) in self.failed {
            if !self.device.leave_out(side, &e.to_string()) {
                // The one that has everything was lost meanwhile, and this one does not.
                return Err(failed(e));
            }
        }
        self.device.flush().map_err(failed)
    }
}
