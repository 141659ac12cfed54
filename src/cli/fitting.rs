//! Where a store of two sides ends: where the smaller one does, and where it did before once that has left.
//!
//! Whenever the power goes, a store that ends earlier than it did has a label that counts and says where that was. So the
//! label of the side that serves is durable first; the superblock that says that the store is mirrored is the one that says where it
//! ends; and a side gets superblocks only after that, because they must not say that it is larger than it is.

use super::held_side::HeldSide;
use super::refusal::{told, told_volume};
use crate::ctl::{Code, Failure};
use crate::device::{Device, Mirror};
use crate::fs::Fs;
use crate::names;
use crate::volume::{Volume, VolumeError};
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;

/// The end of an open store. Any thread; orders take turns.
pub(super) struct Fitting {
    fs: Arc<Fs>,
    mirror: Arc<Mirror>,
    /// Path of the store.
    store: PathBuf,
    /// Where the store ended before it was to fit on another side. Labels have it as well.
    wide: Mutex<Option<u64>>,
}

/// Has a volume end somewhere, or says where it would have to.
type EndAt = fn(&Volume, u64) -> Result<Result<(), u64>, VolumeError>;

impl Fitting {
    /// Of a store that was just opened.
    pub(super) fn new(fs: &Arc<Fs>, mirror: &Arc<Mirror>, store: PathBuf) -> Fitting {
        let wide = mirror.label().map(|label| label.wide).filter(|wide| *wide > 0);
        Fitting { fs: fs.clone(), mirror: mirror.clone(), store, wide: Mutex::new(wide) }
    }

    fn failed(&self, e: &VolumeError) -> Failure {
        told_volume(&self.store, e)
    }

    fn commit(&self) -> Result<(), Failure> {
        self.fs.commit().map_err(|e| told(&self.store, &e))
    }

    /// Keeps in mind where the store ends before it is to fit on another side, for labels too. False if that is known.
    pub(super) fn note(&self, was: u64) -> bool {
        let mut wide = self.wide.lock();
        let is_new = wide.is_none();
        self.mirror.set_wide(*wide.get_or_insert(was));
        is_new
    }

    /// It ends where it does.
    pub(super) fn forget(&self) {
        self.mirror.set_wide(0);
        *self.wide.lock() = None;
    }

    /// True if it ended elsewhere before.
    pub(super) fn is_noted(&self) -> bool {
        self.wide.lock().is_some()
    }

    fn end_with(&self, side: &HeldSide, end_at: EndAt) -> Result<(), Failure> {
        let size = side.device().size();
        let Err(end) = end_at(self.fs.volume(), size).map_err(|e| self.failed(&e))? else { return Ok(()) };
        let what = "and the highest address in use ends at";
        let place = names::shown(&side.path);
        let what = format!("{place}: it has {size} bytes, {what} {end}: give it at least so many");
        Err(Failure::new(Code::Invalid, what))
    }

    /// Has nothing be put behind the end of a side any more, or says what is there.
    pub(super) fn keep_before(&self, side: &HeldSide) -> Result<(), Failure> {
        self.end_with(side, Volume::keep_before)
    }

    /// Has the superblock say that the store is mirrored and ends where a side does, when the label says where it ended. Durable when
    /// it returns.
    pub(super) fn fit(&self, side: &HeldSide) -> Result<(), Failure> {
        let volume = self.fs.volume();
        if volume.is_mirrored() && side.device().size() >= volume.address_space() {
            return Ok(());
        }
        // In this order: no state has the end without the other.
        volume.set_mirrored(true).map_err(|e| self.failed(&e))?;
        self.end_with(side, Volume::shrink)?;
        self.commit()
    }

    /// Has the store end where it did, and be mirrored or not as it was, when a side has not come to be one. What cannot be made
    /// durable now is with the next commit.
    pub(super) fn undo(&self, size: u64, mirrored: bool) {
        let flag = self.fs.volume().set_mirrored(mirrored).map_err(|e| self.failed(&e));
        let size = size.min(self.mirror.size());
        let undone = flag.and_then(|()| self.fs.volume().widen(size, || self.commit()));
        if let Err(f) = undone.and_then(|()| self.commit()) {
            log::error!("mirror: the store is as it was before only from the next commit on: {f}");
        }
    }

    /// Has the store end where the device does on which it is alone, if that has an end of its own, or where it did before it was to
    /// fit on another side.
    pub(super) fn give_back(&self, alone: Option<u64>) -> Result<(), Failure> {
        self.mirror.fit_only_side();
        let size = alone.or(*self.wide.lock()).unwrap_or(0).min(self.mirror.size());
        self.fs.volume().widen(size, || self.commit())?;
        self.forget();
        Ok(())
    }
}
