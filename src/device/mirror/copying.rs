//! Filling a side: a piece is copied while nobody changes it, and after that it gets what the other gets.
//!
//! Whatever is copied is the same on both sides from then on, so ranges may be copied in any order and more than once.

use super::label::{read_rest, write_rest};
use super::mirror::{Mirror, MirrorError, SideRole, gone, refused, serving};
use crate::device::{Device, DeviceError};
use crate::format::rest::FillRest;
use crate::format::{BLOCK_BYTES, Epoch};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

/// Whether a block that is not the same there has to be: told its piece's address, what the piece is there, and its number in it.
pub type IsNeeded = Arc<dyn Fn(u64, &[u8], usize) -> bool + Send + Sync>;

/// A part of a piece: where it is, and what is there if it can be read.
type ReadPart = (u64, Option<Vec<u8>>);

/// What was copied of a piece.
#[derive(Default)]
pub struct Copied {
    /// Bytes that were written there.
    pub bytes: u64,
    /// Blocks that cannot be read here.
    pub unread: Vec<u64>,
}

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

    /// The epoch of what was committed last.
    #[must_use]
    pub fn reached_epoch(&self) -> Epoch {
        Epoch(self.reached.load(SeqCst))
    }

    /// Has the side that is being filled note what it does not have yet. What was committed up to `epoch` and is not in the
    /// ranges was copied to it, or was written since it came. Durable when it returns.
    ///
    /// # Errors
    /// If that side fails, which is lost then.
    pub fn note_rest(&self, epoch: Epoch, ranges: Vec<(u64, u64)>) -> Result<(), MirrorError> {
        let Some(target) = self.second() else { return refused("no side is being filled") };
        let members = self.members.read().clone();
        let Some(ours) = self.labels.lock()[1 - target].clone() else {
            return refused("a side has no label");
        };
        let written = self.on_member(&members, target, move |device| {
            let number = read_rest(device).map_or(1, |rest| rest.number + 1);
            let (pair, generation) = (ours.pair, ours.current);
            write_rest(device, &FillRest { number, pair, generation, epoch, ranges })
        });
        written.map_err(|e| self.given_up(e))
    }

    /// Copies what of a piece, of some MiB at most, is `wanted`, as told when nobody can change it, to the side that is being
    /// filled. What cannot be read here stays there as it is.
    ///
    /// # Errors
    /// If that side fails, which is lost then.
    pub fn copy_wanted(
        &self,
        offset: u64,
        len: u64,
        wanted: &dyn Fn(u64, u64) -> Vec<(u64, u64)>,
    ) -> Result<Copied, MirrorError> {
        let still = self.keep_still(offset..offset + len);
        let mut copied = Copied::default();
        for (at, part) in wanted(offset, len) {
            for (at, bytes) in self.read_survivor(at, part)? {
                match bytes {
                    Some(bytes) => copied.bytes += self.write_target(at, bytes, None)?,
                    None => {
                        // What is allocated has a place there, whatever is in it.
                        let backed = self.second().map(|n| self.on(n, move |d| d.back(at, BLOCK_BYTES)));
                        backed.transpose().map_err(|e| self.given_up(e))?;
                        copied.unread.push(at);
                    }
                }
            }
        }
        drop(still);
        Ok(copied)
    }

    /// Copies a piece. What cannot be read here stays there as it is.
    ///
    /// # Errors
    /// As those of [`Mirror::copy_wanted`].
    pub fn copy(&self, offset: u64, len: u64) -> Result<Copied, MirrorError> {
        self.copy_all(offset, len, None)
    }

    /// The same of blocks that are not the same there already and are needed.
    ///
    /// # Errors
    /// As those of [`Mirror::copy`].
    pub fn copy_differing(&self, offset: u64, len: u64, is_needed: &IsNeeded) -> Result<Copied, MirrorError> {
        self.copy_all(offset, len, Some(is_needed))
    }

    /// Writes zeros to a block of the side that is being filled, unless it can be read here: then that.
    ///
    /// # Errors
    /// As those of [`Mirror::copy`].
    pub fn copy_or_clear(&self, offset: u64) -> Result<(), MirrorError> {
        let _still = self.keep_still(offset..offset + BLOCK_BYTES);
        for (at, bytes) in self.read_survivor(offset, BLOCK_BYTES)? {
            self.write_target(at, bytes.unwrap_or_else(|| vec![0; BLOCK_BYTES as usize]), None)?;
        }
        Ok(())
    }

    fn copy_all(&self, offset: u64, len: u64, compared: Option<&IsNeeded>) -> Result<Copied, MirrorError> {
        let _still = self.keep_still(offset..offset + len);
        let mut copied = Copied::default();
        for (at, bytes) in self.read_survivor(offset, len)? {
            match bytes {
                Some(bytes) => copied.bytes += self.write_target(at, bytes, compared)?,
                None => copied.unread.push(at),
            }
        }
        Ok(copied)
    }

    /// Has the host of the side that is being filled take back what of a range is `unwanted`, as told when nobody can change
    /// it.
    ///
    /// # Errors
    /// As those of [`Mirror::copy_wanted`].
    pub fn discard_there(
        &self,
        offset: u64,
        len: u64,
        unwanted: &dyn Fn(u64, u64) -> Vec<(u64, u64)>,
    ) -> Result<(), MirrorError> {
        let Some(target) = self.second() else { return refused("no side is being filled") };
        let members = self.members.read().clone();
        let _still = self.keep_still(offset..offset + len);
        for (at, part) in unwanted(offset, len) {
            let discard = move |device: &dyn Device| {
                device.discard(at, part);
                Ok(())
            };
            self.on_member(&members, target, discard).map_err(|e| self.given_up(e))?;
        }
        Ok(())
    }

    /// What the side that is being filled stores.
    #[must_use]
    pub fn stored_there(&self) -> Vec<(u64, u64)> {
        let target = self.second();
        let stored = target.and_then(|n| self.on(n, |device| Ok(device.stored())).ok());
        stored.unwrap_or_default()
    }

    /// A piece of the side that serves, or block by block what of it can be read. However long that takes: nobody else has it.
    fn read_survivor(&self, offset: u64, len: u64) -> Result<Vec<ReadPart>, MirrorError> {
        // Whoever is about to change who is a member waits for changes, which may wait for this.
        let members = self.members.read().clone();
        let serving = serving(&members).first().and_then(|n| members[*n].clone());
        let device = serving.ok_or_else(gone)?.side.device.clone();
        let whole = read_piece(&*device, offset, len);
        if let Ok(bytes) = whole {
            return Ok(vec![(offset, Some(bytes))]);
        }
        let blocks = (offset..offset + len).step_by(BLOCK_BYTES as usize);
        Ok(blocks.map(|at| (at, read_piece(&*device, at, BLOCK_BYTES).ok())).collect())
    }

    fn write_target(
        &self,
        offset: u64,
        bytes: Vec<u8>,
        compared: Option<&IsNeeded>,
    ) -> Result<u64, MirrorError> {
        let Some(target) = self.second() else { return refused("no side is being filled") };
        let len = bytes.len() as u64;
        let compared = compared.cloned();
        let written = self.on(target, move |device| {
            // What cannot be read there differs.
            let known =
                compared.and_then(|is_needed| Some((is_needed, read_piece(device, offset, len).ok()?)));
            let Some((is_needed, known)) = known else {
                device.back(offset, len)?;
                return device.write_at(offset, &bytes).map(|()| len);
            };
            let mut written = 0;
            let block = BLOCK_BYTES as usize;
            for start in (0..bytes.len()).step_by(block) {
                let run = start..(start + block).min(bytes.len());
                let differs = known[run.clone()] != bytes[run.clone()];
                if differs && is_needed(offset, &known, start / block) {
                    device.back(offset + start as u64, run.len() as u64)?;
                    device.write_at(offset + start as u64, &bytes[run.clone()])?;
                    written += run.len() as u64;
                }
            }
            Ok(written)
        });
        written.map_err(|e| self.given_up(e))
    }

    /// Gives up filling a side because of an error of it.
    pub(super) fn given_up(&self, e: DeviceError) -> MirrorError {
        let members = self.members.read().clone();
        let filled = members.iter().flatten().filter(|m| m.role != SideRole::Serving);
        filled.for_each(|member| member.side.note_error(&e));
        self.give_up(&e.to_string());
        e.into()
    }
}

fn read_piece(device: &dyn Device, offset: u64, len: u64) -> Result<Vec<u8>, DeviceError> {
    let mut bytes = vec![0; len as usize];
    device.read_at(offset, &mut bytes).map(|()| bytes)
}
