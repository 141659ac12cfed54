//! Filling a side: a piece is copied while nobody changes it, and after that it gets what the other gets.
//!
//! Whatever is copied is the same on both sides from then on, so ranges may be copied in any order and more than once.

use super::mirror::{Mirror, MirrorError};
use crate::device::{Device, DeviceError};
use crate::format::BLOCK_BYTES;
use std::ops::Range;

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

/// A change on its way.
pub(super) struct Passing<'a> {
    mirror: &'a Mirror,
    range: Range<u64>,
}

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        let mut traffic = self.mirror.traffic.lock();
        if let Some(n) = traffic.changing.iter().position(|r| *r == self.range) {
            traffic.changing.swap_remove(n);
        }
        self.mirror.moved.notify_all();
    }
}

/// The piece that is being copied.
struct Copying<'a>(&'a Mirror);

impl Drop for Copying<'_> {
    fn drop(&mut self) {
        self.0.traffic.lock().copying = None;
        self.0.moved.notify_all();
    }
}

impl Mirror {
    /// Waits until the range is not being copied, and keeps it from being copied.
    pub(super) fn pass(&self, (offset, len): (u64, u64)) -> Passing<'_> {
        let range = offset..offset.saturating_add(len);
        let mut traffic = self.traffic.lock();
        while traffic.copying.as_ref().is_some_and(|copying| overlap(copying, &range)) {
            self.moved.wait(&mut traffic);
        }
        traffic.changing.push(range.clone());
        Passing { mirror: self, range }
    }

    fn keep_still(&self, range: Range<u64>) -> Copying<'_> {
        let mut traffic = self.traffic.lock();
        while traffic.copying.is_some() {
            self.moved.wait(&mut traffic);
        }
        traffic.copying = Some(range.clone());
        while traffic.changing.iter().any(|changing| overlap(changing, &range)) {
            self.moved.wait(&mut traffic);
        }
        Copying(self)
    }

    /// Copies a piece, of some MiB at most, to the side that is being filled.
    ///
    /// # Errors
    /// If that side fails, which is lost then, or the other.
    pub fn copy(&self, offset: u64, len: u64) -> Result<(), MirrorError> {
        self.copy_piece(offset, len, false).map(drop)
    }

    /// Copies what of a piece is not the same there. Returns how many bytes that was.
    ///
    /// # Errors
    /// As those of [`Mirror::copy`].
    pub fn copy_differing(&self, offset: u64, len: u64) -> Result<u64, MirrorError> {
        self.copy_piece(offset, len, true)
    }

    fn copy_piece(&self, offset: u64, len: u64, compared: bool) -> Result<u64, MirrorError> {
        let Some(target) = self.second() else {
            return Err(MirrorError::Refused("no side is being filled".into()));
        };
        // Whoever is about to change who is a member waits for changes, which may wait for this.
        let members = self.members.read().clone();
        let _still = self.keep_still(offset..offset + len);
        let bytes = self.on_member(&members, 1 - target, move |device| read_piece(device, offset, len))?;
        let copied = self.on_member(&members, target, move |device| {
            // What cannot be read there differs.
            let known = if compared { read_piece(device, offset, len).ok() } else { None };
            let Some(known) = known else {
                device.back(offset, len)?;
                return device.write_at(offset, &bytes).map(|()| len);
            };
            let mut written = 0;
            let block = BLOCK_BYTES as usize;
            for start in (0..bytes.len()).step_by(block) {
                let run = start..(start + block).min(bytes.len());
                if known[run.clone()] != bytes[run.clone()] {
                    device.back(offset + start as u64, run.len() as u64)?;
                    device.write_at(offset + start as u64, &bytes[run.clone()])?;
                    written += run.len() as u64;
                }
            }
            Ok(written)
        });
        copied.map_err(|e: DeviceError| {
            self.give_up(&e.to_string());
            e.into()
        })
    }
}

fn read_piece(device: &dyn Device, offset: u64, len: u64) -> Result<Vec<u8>, DeviceError> {
    let mut bytes = vec![0; len as usize];
    device.read_at(offset, &mut bytes).map(|()| bytes)
}
