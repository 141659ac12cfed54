//! The device over those files: what each call does to them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use super::home::{Home, Look, StoreFile};
use super::pieces::{LOG_END, Piece, SEGMENT_BYTES, SEGMENT_SHIFT, SIZE_MAX, pieces, place};
use super::segments::{Segment, Segments};
use crate::clock::Clock;
use crate::device::access::{check_access, check_file_limit, check_new_size, check_range};
use crate::device::file::sync_parent;
use crate::device::gate::FlushGate;
use crate::device::place::{StoreLocation, birth};
use crate::device::probe::{SEGMENTS_NAME, StoreKind, probe};
use crate::device::waited::goes_on;
use crate::device::{Access, Device, DeviceError, RESERVED_BYTES};
use crate::format::mark::FileBirth;
use crate::names;
use crate::sys::{self, Advice, Fallocate};

/// A directory store. Calls run in parallel, but for flushes and for calls that change the length of one segment.
#[derive(Debug)]
pub struct DirDevice {
    pub(super) home: Arc<Home>,
    size: u64,
    access: Access,
    pub(super) segments: Segments,
    pub(super) dirty: Mutex<Unflushed>,
    gate: FlushGate,
}

/// What the next flush has to sync.
#[derive(Debug, Default)]
pub(super) struct Unflushed {
    pub files: BTreeMap<StoreFile, Arc<Segment>>,
    /// A file was created, so its name has to become durable.
    pub names: bool,
}

impl DirDevice {
    /// The address space of a directory store unless its owner limits it: 64 TiB.
    pub const DEFAULT_SIZE: u64 = 1 << 46;

    /// Makes an empty, durable store in `dir`, which must be missing (its parent not) or empty.
    ///
    /// # Errors
    /// [`DeviceError::Io`] if the size is unfit, the directory not empty, or the host refuses.
    pub fn create(dir: &Path, size: u64) -> Result<DirDevice, DeviceError> {
        check_new_size(size, SIZE_MAX)?;
        let failed =
            |source| DeviceError::host(|| format!("cannot create a store in {}", names::shown(dir)), source);
        match probe(dir)? {
            StoreKind::Missing => fs::create_dir(dir).and_then(|()| sync_parent(dir)).map_err(failed)?,
            StoreKind::EmptyDirectory => {}
            other => {
                let what = format!("cannot create a store in {}: it is {other:?}", names::shown(dir));
                return Err(DeviceError::refused(io::ErrorKind::AlreadyExists, what));
            }
        }
        fs::create_dir(dir.join(SEGMENTS_NAME)).map_err(failed)?;
        let device = DirDevice::open(dir, size, Access::ReadWrite)?;
        device.back(0, RESERVED_BYTES)?;
        device.flush()?;
        Ok(device)
    }

    /// Opens the store in `dir`; `size` limits its addresses. Files are looked at when they are used: a store that has
    /// lost some can still be read and examined where it has not.
    ///
    /// # Errors
    /// [`DeviceError::Io`] if the size is unfit or `dir` is not a directory store.
    pub fn open(dir: &Path, size: u64, access: Access) -> Result<DirDevice, DeviceError> {
        check_new_size(size, SIZE_MAX)?;
        if probe(dir)? != StoreKind::DirectoryStore {
            let what = format!("{} is not a directory store", names::shown(dir));
            return Err(DeviceError::refused(io::ErrorKind::NotFound, what));
        }
        check_file_limit(dir, access, SEGMENT_BYTES)?;
        let failed = |source| DeviceError::host(|| format!("cannot open {}", names::shown(dir)), source);
        let home = Arc::new(Home::open(dir).map_err(failed)?);
        let device = DirDevice {
            home: home.clone(),
            size,
            access,
            segments: Segments::new(home, access),
            dirty: Mutex::default(),
            gate: FlushGate::default(),
        };
        if access == Access::ReadWrite {
            device.segments.expect(device.slots()?.into_iter());
        }
        Ok(device)
    }

    /// The file of `slot`, made if it is missing.
    fn provide(&self, slot: StoreFile) -> Result<Arc<Segment>, DeviceError> {
        if self.segments.must_flush_to_open(slot, || self.dirty.lock().files.len()) {
            self.flush()?;
        }
        // Entered before anybody can write to the file, so that no flush can cover the data without the name.
        self.segments.provide(slot, || self.dirty.lock().names = true)
    }

    fn mark_dirty(&self, file: Arc<Segment>) {
        self.dirty.lock().files.insert(file.slot, file);
    }

    fn read_piece(&self, piece: &Piece, buf: &mut [u8]) -> Result<(), DeviceError> {
        let Some(file) = self.segments.find(piece.slot)? else {
            let what = format!("{} is missing", names::shown(self.segments.path(piece.slot)));
            return Err(DeviceError::refused(io::ErrorKind::NotFound, what));
        };
        file.file.read_exact_at(buf, piece.start).map_err(|error| {
            let shorter = if error.kind() == io::ErrorKind::UnexpectedEof {
                ", which is shorter than expected"
            } else {
                ""
            };
            file.failed("read", piece.start, piece.len, shorter, error)
        })
    }

    fn write_piece(&self, piece: &Piece, buf: &[u8]) -> Result<(), DeviceError> {
        loop {
            let file = self.provide(piece.slot)?;
            let end = piece.start + piece.len;
            let written = if end <= file.len.load(Ordering::Acquire) {
                // Inside the file nothing can cut this range off: only a discard of the range itself would.
                file.file.write_all_at(buf, piece.start)
            } else {
                let shape = file.shape.lock();
                if shape.deleted {
                    continue;
                }
                let written = file.file.write_all_at(buf, piece.start);
                file.lengthen(end, written.is_ok());
                written
            };
            // Also after a failure: a part may have been written, and its write-back may fail too.
            self.mark_dirty(file.clone());
            return written.map_err(|error| file.failed("write", piece.start, piece.len, "", error));
        }
    }

    fn back_piece(&self, piece: &Piece) -> Result<(), DeviceError> {
        loop {
            let file = self.provide(piece.slot)?;
            let shape = file.shape.lock();
            if shape.deleted {
                continue;
            }
            let end = piece.start + piece.len;
            let lengthens = end > file.len.load(Ordering::Acquire);
            let backed = match sys::fallocate(file.file.as_fd(), Fallocate::Extend, piece.start, piece.len) {
                // The space cannot be secured on this host, but the file must still reach that far.
                Err(error) if sys::is_unsupported(&error) && lengthens => file.file.set_len(end),
                Err(error) if sys::is_unsupported(&error) => Ok(()),
                done => done,
            };
            if lengthens {
                file.lengthen(end, backed.is_ok());
                drop(shape);
                self.mark_dirty(file.clone());
            }
            return backed.map_err(|error| file.failed("back", piece.start, piece.len, "", error));
        }
    }

    fn advise(&self, offset: u64, len: u64, advice: Advice) {
        let len = offset.saturating_add(len).min(self.size).saturating_sub(offset);
        for piece in pieces(offset, len) {
            if let Ok(Some(file)) = self.segments.find(piece.slot) {
                sys::advise(file.file.as_fd(), piece.start, piece.len, advice);
            }
        }
    }

    fn discard_piece(&self, piece: &Piece) -> Result<(), DeviceError> {
        let Some(file) = self.segments.find(piece.slot)? else { return Ok(()) };
        let StoreFile::Segment(number) = piece.slot else { return Ok(()) };
        let first = if number == 0 { LOG_END } else { 0 };
        let end = piece.start + piece.len;
        {
            let shape = file.shape.lock();
            let len = file.len.load(Ordering::Acquire);
            if shape.deleted || piece.start >= len {
                return Ok(());
            }
            if end >= len && piece.start > first {
                file.len.store(piece.start, Ordering::Release);
                if let Err(error) = file.file.set_len(piece.start) {
                    file.len.store(len, Ordering::Release);
                    return Err(file.failed("truncate", piece.start, piece.len, "", error));
                }
                return Ok(());
            }
        }
        if piece.start <= first && self.segments.delete_within(piece.slot, end)? {
            return Ok(());
        }
        sys::fallocate(file.file.as_fd(), Fallocate::PunchHole, piece.start, piece.len)
            .map_err(|error| file.failed("discard", piece.start, piece.len, "", error))
    }

    /// Numbers of the segments that are there, ascending.
    pub(super) fn numbers(&self) -> Result<Vec<u32>, DeviceError> {
        let failed = |source| {
            self.home.note_limit(&source);
            let names = self.home.place().join(SEGMENTS_NAME);
            DeviceError::host(|| format!("cannot list {}", names::shown(&names)), source)
        };
        let mut numbers = Vec::new();
        for name in self.home.segments().map_err(failed)? {
            numbers.extend(name.to_str().and_then(|name| u32::from_str_radix(name, 16).ok()));
        }
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers)
    }

    /// All files that a store of these segments has.
    fn slots(&self) -> Result<Vec<StoreFile>, DeviceError> {
        let mut slots = vec![StoreFile::Super(0), StoreFile::Super(1), StoreFile::Log];
        slots.extend(self.numbers()?.into_iter().map(StoreFile::Segment));
        Ok(slots)
    }

    fn sync(&self) -> Result<(), (String, io::Error)> {
        let dirty = std::mem::take(&mut *self.dirty.lock());
        for file in dirty.files.values() {
            file.file
                .sync_data()
                .map_err(|error| (format!("sync of {}", names::shown(file.path())), error))?;
        }
        if dirty.names {
            self.home.sync()?;
        }
        let look = Look::new(&self.home, Clock::System.now());
        self.segments.prove_names(&look)?;
        dirty.files.values().try_for_each(|file| file.prove_length())?;
        if look.is_removed() {
            let what = format!("{} was removed while the store was open", names::shown(self.home.place()));
            return Err((what, io::ErrorKind::NotFound.into()));
        }
        Ok(())
    }
}

impl Device for DirDevice {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), DeviceError> {
        check_range(self, offset, buf.len() as u64)?;
        pieces(offset, buf.len() as u64)
            .try_for_each(|piece| self.read_piece(&piece, &mut buf[piece.in_buffer()]))
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<(), DeviceError> {
        check_access(self, self.access)?;
        check_range(self, offset, buf.len() as u64)?;
        pieces(offset, buf.len() as u64)
            .try_for_each(|piece| self.write_piece(&piece, &buf[piece.in_buffer()]))
    }

    fn flush(&self) -> Result<(), DeviceError> {
        if self.access == Access::ReadOnly {
            return Ok(());
        }
        self.gate.pass(|| self.sync())
    }

    fn flush_inherited(&self) -> Result<(), DeviceError> {
        self.dirty.lock().names = true;
        for slot in self.slots()? {
            // One at a time, so that no more handles are kept open than the cache allows.
            if let Some(file) = self.segments.find(slot)? {
                let synced = || {
                    file.file.sync_data().map_err(|e| (format!("sync of {}", names::shown(file.path())), e))
                };
                self.gate.pass(synced)?;
                goes_on();
            }
        }
        self.flush()
    }

    fn back(&self, offset: u64, len: u64) -> Result<(), DeviceError> {
        check_access(self, self.access)?;
        check_range(self, offset, len)?;
        pieces(offset, len).try_for_each(|piece| self.back_piece(&piece))
    }

    fn discard(&self, offset: u64, len: u64) {
        let len = offset.saturating_add(len).min(self.size).saturating_sub(offset);
        if self.access == Access::ReadOnly {
            return;
        }
        for piece in pieces(offset, len) {
            if let Err(error) = self.discard_piece(&piece) {
                log::debug!("{error}");
            }
        }
    }

    fn release(&self, offset: u64, len: u64) {
        self.advise(offset, len, Advice::DontNeed);
    }

    fn will_need(&self, offset: u64, len: u64) {
        self.advise(offset, len, Advice::WillNeed);
    }

    fn stored(&self) -> Vec<(u64, u64)> {
        let (ranges, failed) = self.stored_as_told();
        if let Some(e) = failed {
            log::warn!("{e}");
        }
        ranges
    }

    fn all_stored(&self) -> Result<Vec<(u64, u64)>, DeviceError> {
        match self.stored_as_told() {
            (ranges, None) => Ok(ranges),
            (_, Some(e)) => Err(e),
        }
    }

    fn lacks(&self, ranges: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let mut ends = BTreeMap::new();
        let mut end_of = |slot| {
            *ends.entry(slot).or_insert_with(|| {
                goes_on();
                match self.home.id_of(slot) {
                    Ok(found) => found.map_or(0, |file| file.len),
                    Err(_) => u64::MAX,
                }
            })
        };
        let mut lacking: Vec<(u64, u64)> = Vec::new();
        for (at, len) in ranges {
            let mut start = *at;
            for piece in pieces(*at, *len) {
                let (from, end) = (piece.start, piece.start + piece.len);
                let there = end_of(piece.slot).clamp(from, end);
                lacking.extend((there < end).then_some((start + there - from, end - there)));
                start += piece.len;
            }
        }
        lacking
    }

    fn kept_parts(&self) -> Option<Vec<(u64, u64, u64)>> {
        let part = |number: u32| {
            let slot = StoreFile::Segment(number);
            let file = self.segments.find(slot).ok()??;
            let blocks = file.file.metadata().ok()?.blocks();
            goes_on();
            let start = u64::from(number) << SEGMENT_SHIFT;
            let end = start + SEGMENT_BYTES;
            Some((start.max(LOG_END), end - start.max(LOG_END), blocks * 512))
        };
        // One that is gone meanwhile is nobody's business here.
        Some(self.numbers().ok()?.into_iter().filter_map(part).collect())
    }

    fn available(&self) -> u64 {
        sys::fstatvfs(self.home.dir().as_fd()).map_or(0, |host| host.available_bytes)
    }

    fn describe(&self) -> String {
        names::shown(self.home.place())
    }

    fn birth(&self, offset: u64) -> Option<FileBirth> {
        let file = self.segments.find(place(offset).0).ok().flatten()?;
        birth(&file.file.metadata().ok()?)
    }

    fn location(&self) -> StoreLocation {
        let Ok(dir) = self.home.dir().metadata() else { return StoreLocation::default() };
        let mut place = StoreLocation::of(&dir, self.home.place());
        place.lost = place.lost.or_else(|| self.segments.lost());
        place
    }

    fn limit_met(&self) -> Option<String> {
        self.home.limit()
    }
}

impl DirDevice {
    /// What is stored, as far as the host tells, and why that is not all.
    fn stored_as_told(&self) -> (Vec<(u64, u64)>, Option<DeviceError>) {
        let mut failed = None;
        let numbers = self.numbers().unwrap_or_else(|e| {
            failed = Some(e);
            Vec::new()
        });
        let mut found = |file| {
            let found = self.segments.find(file).unwrap_or_else(|e| {
                failed = Some(e);
                None
            });
            goes_on();
            found
        };
        let log_bytes = found(StoreFile::Log).map_or(0, |file| file.len.load(Ordering::Acquire));
        let mut ranges = vec![(0, (RESERVED_BYTES + log_bytes).min(LOG_END))];
        for number in numbers {
            let Some(file) = found(StoreFile::Segment(number)) else { continue };
            let start = u64::from(number) << SEGMENT_SHIFT;
            let end = start + file.len.load(Ordering::Acquire).min(SEGMENT_BYTES);
            let start = start.max(LOG_END);
            if start < end.min(self.size) {
                ranges.push((start, end.min(self.size) - start));
            }
        }
        (ranges, failed)
    }
}
