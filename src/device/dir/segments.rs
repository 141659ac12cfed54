//! The open files of a directory store: names, handles, and which handle may be closed.
//!
//! Invariant: at most one [`Segment`] exists for a file. A handle is closed only when nobody else holds it, so never
//! while the file waits for a flush: closing it earlier could lose the host's report of a failed write-back. A file that
//! is opened again is the one that it was, or it is missing.
//! This module does not read, write or sync.

use crate::names;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::super::place::FileId;
use super::super::waited::goes_on;
use super::super::{Access, DeviceError};
use super::home::{Home, Look, Stamp, StoreFile};
use crate::sys::{self, OpenAs, process};

/// Handles kept open, at most, and the part of the descriptors of this process that they may be.
const OPEN_FILES_MAX: u64 = 512;
const OPEN_FILES_SHARE: u64 = 2;
/// Handles kept open at least: what a flush needs to go on.
const OPEN_FILES_MIN: u64 = 4;

/// A file of each directory: of the store, and of its segments.
const DIRECTORIES: [StoreFile; 2] = [StoreFile::Log, StoreFile::Segment(0)];

/// Which of [`DIRECTORIES`] a file is in.
fn directory(slot: StoreFile) -> usize {
    usize::from(matches!(slot, StoreFile::Segment(_)))
}

/// An open file of the store.
#[derive(Debug)]
pub(super) struct Segment {
    pub slot: StoreFile,
    pub file: File,
    home: Arc<Home>,
    /// Length of the file. Changed only under `shape`; every range below it can be written without that lock.
    pub len: AtomicU64,
    /// Held by whoever changes the length of the file.
    pub shape: Mutex<Shape>,
    /// When the handle was last asked for, in ticks of the cache.
    used: AtomicU64,
}

#[derive(Debug, Default)]
pub(super) struct Shape {
    /// The file has lost its name: look it up again.
    pub deleted: bool,
}

impl Segment {
    /// Notes, under `shape`, that a call was to lengthen the file to `end`. A failed one may have done so by a part.
    pub fn lengthen(&self, end: u64, succeeded: bool) {
        let now = if succeeded { end } else { self.file.metadata().map_or(0, |metadata| metadata.len()) };
        self.len.fetch_max(now, Ordering::AcqRel);
    }

    /// Where it is now, for a message.
    pub fn path(&self) -> PathBuf {
        self.home.path(self.slot)
    }

    /// Fails if somebody else has cut the file short: what was in the rest of it is lost.
    pub fn prove_length(&self) -> Result<(), (String, io::Error)> {
        // In this order: the length is noted when the file has it, and taken back before it is cut.
        let is_short =
            || self.file.metadata().is_ok_and(|file| file.len() < self.len.load(Ordering::Acquire));
        if is_short() {
            let shape = self.shape.lock();
            if !shape.deleted && is_short() {
                return Err((self.home.cut(self.slot), io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Ok(())
    }

    /// The error of a call on this file.
    pub fn failed(&self, doing: &str, start: u64, len: u64, note: &str, source: io::Error) -> DeviceError {
        let path = self.path();
        let path = names::shown(&path);
        DeviceError::host(|| format!("cannot {doing} {len} bytes at {start} of {path}{note}"), source)
    }
}

/// A file that belongs to the store.
#[derive(Clone, Copy, Debug)]
struct KnownFile {
    id: FileId,
    /// How long it was when it was closed, or the store opened: only who has it open changes that.
    len: u64,
}

/// The cache of open files.
#[derive(Debug)]
pub(super) struct Segments {
    home: Arc<Home>,
    access: Access,
    open: RwLock<HashMap<StoreFile, Arc<Segment>>>,
    /// Every file that was there when the store was opened for writing, or was open since, and was not deleted by us.
    /// Behind `open` in the order of locks.
    known: Mutex<HashMap<StoreFile, KnownFile>>,
    /// The directories of the store and of its segments when all known files were last found in them. A leaf.
    proved: Mutex<[Option<Stamp>; 2]>,
    clock: AtomicU64,
    open_max: usize,
}

impl Segments {
    pub fn new(home: Arc<Home>, access: Access) -> Segments {
        Segments {
            home,
            access,
            open: RwLock::default(),
            known: Mutex::default(),
            proved: Mutex::default(),
            clock: AtomicU64::new(0),
            open_max: (process::open_files_max() / OPEN_FILES_SHARE).clamp(OPEN_FILES_MIN, OPEN_FILES_MAX)
                as usize,
        }
    }

    #[cfg(test)]
    pub fn set_open_max(&mut self, open_max: usize) {
        self.open_max = open_max;
    }

    #[cfg(test)]
    pub fn open_count(&self) -> usize {
        self.open.read().len()
    }

    /// True if nobody holds up whoever opens a file.
    #[cfg(test)]
    pub fn is_unlocked(&self) -> bool {
        self.open.try_write().is_some()
    }

    /// Where the file of `slot` is now, for a message.
    pub fn path(&self, slot: StoreFile) -> PathBuf {
        self.home.path(slot)
    }

    /// From now on these belong to the store, as far as they are there.
    pub fn expect(&self, slots: impl Iterator<Item = StoreFile>) {
        let found = slots.filter_map(|slot| {
            let named = self.home.id_of(slot).ok()??;
            Some((slot, KnownFile { id: named.id, len: named.len }))
        });
        self.known.lock().extend(found);
    }

    /// The first file that is not there any more, or was cut short, in a sentence. All are looked at without any lock: where there are
    /// many that takes long, and whoever opens a file would wait for it, and with it everybody else.
    pub fn lost(&self) -> Option<String> {
        let mut seem_lost: Vec<StoreFile> = self
            .all_known()
            .into_iter()
            .filter_map(|(slot, known)| {
                let found = self.home.id_of(slot).ok()?;
                goes_on();
                found.is_none_or(|now| now.id != known.id || now.len < known.len).then_some(slot)
            })
            .collect();
        seem_lost.sort_unstable();
        let first = seem_lost.into_iter().find_map(|slot| self.is_lost(slot));
        first.or_else(|| {
            let slots: Vec<StoreFile> = self.open.read().keys().copied().collect();
            // One at a time: a file that is held cannot be closed.
            let file = |slot: &StoreFile| self.open.read().get(slot).cloned();
            slots.iter().filter_map(file).find_map(|file| file.prove_length().err()).map(|(what, _)| what)
        })
    }

    /// Looks at one file while no deletion of ours is under way: what is wrong with it, in a sentence.
    fn is_lost(&self, slot: StoreFile) -> Option<String> {
        let open = self.open.read();
        let known = self.known.lock().get(&slot).copied()?;
        let found = self.home.id_of(slot).ok()?;
        goes_on();
        match found {
            Some(now) if now.id == known.id => {
                (now.len < known.len && !open.contains_key(&slot)).then(|| self.home.cut(slot))
            }
            _ => Some(self.home.lost(slot)),
        }
    }

    /// Fails if the store has lost a file, whoever used it last: its name is gone, or means another one. What is written to
    /// such a file would be lost with the last descriptor, and what was in it is. In a directory in which nothing has
    /// changed nothing is looked up.
    pub fn prove_names(&self, look: &Look) -> Result<(), (String, io::Error)> {
        let stamps = DIRECTORIES.map(|any| look.stamp(any));
        if DIRECTORIES.iter().zip(stamps).all(|(any, stamp)| self.is_proved(*any, stamp)) {
            return Ok(());
        }
        // Held, so that no deletion of ours is under way.
        let _open = self.open.read();
        let mut direct = [true; 2];
        for (slot, KnownFile { id, .. }) in self.all_known() {
            if self.is_proved(slot, stamps[directory(slot)]) {
                continue;
            }
            match self.home.id_of(slot) {
                Ok(Some(found)) if found.id == id => direct[directory(slot)] &= found.is_direct,
                Ok(_) => return Err((self.home.lost(slot), io::ErrorKind::NotFound.into())),
                Err(error) => {
                    return Err((format!("cannot examine {}", names::shown(self.path(slot))), error));
                }
            }
        }
        let mut proved = self.proved.lock();
        for (n, stamp) in stamps.into_iter().enumerate() {
            let lasts = direct[n] && (proved[n] == stamp || stamp.is_some_and(|s| s.is_of_the_past(look)));
            proved[n] = stamp.filter(|_| lasts);
        }
        Ok(())
    }

    /// True if the directory of `slot` is as it was when all known files were found in it.
    pub fn is_proved(&self, slot: StoreFile, stamp: Option<Stamp>) -> bool {
        stamp.is_some() && self.proved.lock()[directory(slot)] == stamp
    }

    fn all_known(&self) -> Vec<(StoreFile, KnownFile)> {
        self.known.lock().iter().map(|(slot, known)| (*slot, *known)).collect()
    }

    /// The file of `slot`, or `None` if it is missing.
    pub fn find(&self, slot: StoreFile) -> Result<Option<Arc<Segment>>, DeviceError> {
        if let Some(segment) = self.cached(slot) {
            return Ok(Some(segment));
        }
        let mut open = self.open.write();
        if let Some(segment) = open.get(&slot) {
            return Ok(Some(segment.clone()));
        }
        let how = if self.access == Access::ReadWrite { OpenAs::Write } else { OpenAs::Read };
        match self.open_file(&mut open, slot, how) {
            Ok(file) => self.admit(&mut open, slot, file).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed("open", slot, error)),
        }
    }

    /// The file of `slot`. If it is missing it is made, and `created` called before anybody gets it.
    pub fn provide(&self, slot: StoreFile, created: impl FnOnce()) -> Result<Arc<Segment>, DeviceError> {
        if let Some(segment) = self.find(slot)? {
            return Ok(segment);
        }
        let mut open = self.open.write();
        if let Some(segment) = open.get(&slot) {
            return Ok(segment.clone());
        }
        if self.known.lock().contains_key(&slot) && self.home.id_of(slot).is_ok_and(|id| id.is_none()) {
            return Err(DeviceError::refused(io::ErrorKind::NotFound, self.home.lost(slot)));
        }
        // It may be there: another thread may have made it and lost it from the cache again.
        let file = self.open_file(&mut open, slot, OpenAs::Make);
        let file = file.map_err(|error| self.failed("create", slot, error))?;
        // Best effort: most hosts have no such flag.
        let _ = sys::set_nocow(file.as_fd());
        created();
        self.admit(&mut open, slot, file)
    }

    /// Whether so many files wait for a flush that opening one more needs a flush first. `waiting` counts them.
    pub fn must_flush_to_open(&self, slot: StoreFile, waiting: impl FnOnce() -> usize) -> bool {
        let open = self.open.read();
        let full = open.len() >= self.open_max && !open.contains_key(&slot);
        drop(open);
        full && waiting() >= self.open_max
    }

    /// Deletes the file of `slot` if it ends at or before `end`. The caller has discarded all of it.
    pub fn delete_within(&self, slot: StoreFile, end: u64) -> Result<bool, DeviceError> {
        let mut open = self.open.write();
        let Some(segment) = open.get(&slot).cloned() else { return Ok(false) };
        let mut shape = segment.shape.lock();
        if segment.len.load(Ordering::Acquire) > end {
            return Ok(false);
        }
        self.home.remove(slot).map_err(|error| self.failed("delete", slot, error))?;
        shape.deleted = true;
        self.known.lock().remove(&slot);
        segment.len.store(0, Ordering::Release);
        // The next flush may still hold the file open: give its space back now. Best effort.
        let _ = segment.file.set_len(0);
        open.remove(&slot);
        Ok(true)
    }

    fn cached(&self, slot: StoreFile) -> Option<Arc<Segment>> {
        let open = self.open.read();
        let segment = open.get(&slot)?;
        segment.used.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        Some(segment.clone())
    }

    fn admit(
        &self,
        open: &mut HashMap<StoreFile, Arc<Segment>>,
        slot: StoreFile,
        file: File,
    ) -> Result<Arc<Segment>, DeviceError> {
        let metadata = file.metadata().map_err(|error| self.failed("examine", slot, error))?;
        let (len, id) = (metadata.len(), FileId::of(&metadata));
        let known = *self.known.lock().entry(slot).or_insert(KnownFile { id, len });
        if known.id != id {
            return Err(DeviceError::refused(io::ErrorKind::NotFound, self.home.lost(slot)));
        }
        self.evict(open);
        let segment = Arc::new(Segment {
            slot,
            file,
            home: self.home.clone(),
            // One that was cut short meanwhile is found to be so by whoever proves its length.
            len: AtomicU64::new(len.max(known.len)),
            shape: Mutex::default(),
            used: AtomicU64::new(self.clock.fetch_add(1, Ordering::Relaxed)),
        });
        open.insert(slot, segment.clone());
        Ok(segment)
    }

    /// Closes the handles unused for longest, an eighth of the limit at a time, when the limit is reached.
    fn evict(&self, open: &mut HashMap<StoreFile, Arc<Segment>>) {
        if open.len() < self.open_max {
            return;
        }
        // The cache is locked for writing: a handle that is held once, by the cache, cannot gain holders meanwhile.
        let idle = open.iter().filter(|(_, segment)| Arc::strong_count(segment) == 1);
        let mut idle: Vec<(u64, StoreFile)> =
            idle.map(|(slot, segment)| (segment.used.load(Ordering::Relaxed), *slot)).collect();
        idle.sort_unstable();
        for (_, slot) in idle.into_iter().take(self.open_max.div_ceil(8)) {
            open.remove(&slot).iter().for_each(|segment| self.note_length(segment));
        }
    }

    /// Keeps in mind how long a file is that is about to be closed.
    fn note_length(&self, segment: &Segment) {
        if let Some(known) = self.known.lock().get_mut(&segment.slot) {
            known.len = segment.len.load(Ordering::Acquire);
        }
    }

    /// Opens a file. Out of descriptors, what is idle is closed first.
    fn open_file(
        &self,
        open: &mut HashMap<StoreFile, Arc<Segment>>,
        slot: StoreFile,
        how: OpenAs,
    ) -> io::Result<File> {
        match self.home.open_slot(slot, how) {
            Err(error) if sys::is_out_of_descriptors(&error) => {
                open.retain(|_, segment| {
                    let is_used = Arc::strong_count(segment) > 1;
                    if !is_used {
                        self.note_length(segment);
                    }
                    is_used
                });
                self.home.open_slot(slot, how)
            }
            opened => opened,
        }
    }

    fn failed(&self, doing: &str, slot: StoreFile, source: io::Error) -> DeviceError {
        self.home.note_limit(&source);
        DeviceError::host(|| format!("cannot {doing} {}", names::shown(self.path(slot))), source)
    }
}
