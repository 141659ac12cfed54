//! A store in one image file or block device.
//!
//! Invariant: the address space is the length that the file or device had when it was opened; the file is never
//! lengthened. Exclusion of other processes is `lock`'s work, except that a block device is claimed for this process,
//! so that it cannot be mounted meanwhile.

use crate::names;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::access::{check_access, check_file_limit, check_new_size, check_range};
use super::gate::FlushGate;
use super::place::{self, FileId, StoreLocation};
use super::waited::goes_on;
use super::{Access, Device, DeviceError};
use crate::format::mark::FileBirth;
use crate::sys::{self, Advice, Fallocate};

/// The largest image: file offsets are signed 64-bit numbers.
const SIZE_MAX: u64 = 1 << 62;

/// An image file or a block device. Reads and writes run in parallel; flushes one after the other.
#[derive(Debug)]
pub struct FileDevice {
    path: PathBuf,
    file: File,
    kind: Kind,
    len: u64,
    access: Access,
    gate: FlushGate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Image,
    Block,
}

impl FileDevice {
    /// Opens the image file or block device at `path`.
    ///
    /// # Errors
    /// [`DeviceError::Io`] if the host refuses (`EBUSY`: the block device is mounted or otherwise in use) or if `path`
    /// is neither.
    pub fn open(path: &Path, access: Access) -> Result<FileDevice, DeviceError> {
        let failed = |source| DeviceError::host(|| format!("cannot open {}", names::shown(path)), source);
        let file_type = std::fs::metadata(path).map_err(failed)?.file_type();
        let kind = match file_type {
            _ if file_type.is_file() => Kind::Image,
            _ if file_type.is_block_device() => Kind::Block,
            _ => {
                let what = format!("{} is neither an image file nor a block device", names::shown(path));
                return Err(DeviceError::refused(io::ErrorKind::InvalidInput, what));
            }
        };
        let mut options = OpenOptions::new();
        options.read(true).write(access == Access::ReadWrite);
        if kind == Kind::Block && access == Access::ReadWrite {
            options.custom_flags(sys::O_EXCL);
        }
        let file = options.open(path).map_err(failed)?;
        let len = match kind {
            Kind::Image => file.metadata().map_err(failed)?.len(),
            Kind::Block => sys::blkgetsize64(file.as_fd()).map_err(failed)?,
        };
        if kind == Kind::Image {
            check_file_limit(path, access, len)?;
        }
        Ok(FileDevice { path: path.into(), file, kind, len, access, gate: FlushGate::default() })
    }

    /// Makes a sparse image file of `size` bytes and its directory entry durable. Nothing may exist at `path`.
    ///
    /// # Errors
    /// [`DeviceError::Io`] if the size is unfit, the path taken, or the host refuses.
    pub fn create_image(path: &Path, size: u64) -> Result<FileDevice, DeviceError> {
        check_new_size(size, SIZE_MAX)?;
        check_file_limit(path, Access::ReadWrite, size)?;
        let failed = |source| DeviceError::host(|| format!("cannot create {}", names::shown(path)), source);
        let file = OpenOptions::new().write(true).create_new(true).open(path).map_err(failed)?;
        let filled = sys::set_nocow(file.as_fd()).or(Ok(())).and_then(|()| file.set_len(size));
        let durable = filled.and_then(|()| file.sync_all()).and_then(|()| sync_parent(path));
        if let Err(error) = durable {
            // The file is ours and empty: leave nothing half-made behind. The first error is the one to report.
            let _ = std::fs::remove_file(path);
            return Err(failed(error));
        }
        FileDevice::open(path, Access::ReadWrite)
    }

    /// Length of the file or device in bytes, before rounding down to blocks.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// What became of the image, in a sentence: what is written to one that was removed is lost with the last descriptor, and
    /// one that was cut short has lost what was there.
    fn lost(&self) -> Option<String> {
        let file = (self.kind == Kind::Image).then(|| self.file.metadata().ok()).flatten()?;
        let what = match () {
            () if file.nlink() == 0 => "was removed",
            () if file.len() < self.len => "was cut short",
            () => return None,
        };
        Some(format!("{} {what} while the store was open", names::shown(&self.path)))
    }

    fn failed(&self, doing: &str, offset: u64, len: usize, source: io::Error) -> DeviceError {
        let place = names::shown(&self.path);
        let truncated =
            if source.kind() == io::ErrorKind::UnexpectedEof { ", which is truncated" } else { "" };
        DeviceError::host(|| format!("cannot {doing} {len} bytes at {offset} of {place}{truncated}"), source)
    }
}

impl Device for FileDevice {
    fn size(&self) -> u64 {
        self.len / 4096 * 4096
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), DeviceError> {
        check_range(self, offset, buf.len() as u64)?;
        self.file.read_exact_at(buf, offset).map_err(|error| self.failed("read", offset, buf.len(), error))
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> Result<(), DeviceError> {
        check_access(self, self.access)?;
        check_range(self, offset, buf.len() as u64)?;
        self.file.write_all_at(buf, offset).map_err(|error| self.failed("write", offset, buf.len(), error))
    }

    fn flush(&self) -> Result<(), DeviceError> {
        if self.access == Access::ReadOnly {
            return Ok(());
        }
        self.gate.pass(|| {
            self.file
                .sync_data()
                .map_err(|error| (format!("sync of {}", names::shown(&self.path)), error))?;
            self.lost().map_or(Ok(()), |what| Err((what, io::ErrorKind::NotFound.into())))
        })
    }

    fn back(&self, offset: u64, len: u64) -> Result<(), DeviceError> {
        check_access(self, self.access)?;
        check_range(self, offset, len)?;
        if self.kind == Kind::Block || len == 0 {
            return Ok(());
        }
        match sys::fallocate(self.file.as_fd(), Fallocate::KeepSize, offset, len) {
            Err(error) if !sys::is_unsupported(&error) => Err(DeviceError::host(
                || format!("cannot back {len} bytes at {offset} of {}", self.describe()),
                error,
            )),
            _ => Ok(()),
        }
    }

    fn discard(&self, offset: u64, len: u64) {
        let len = offset.saturating_add(len).min(self.size()).saturating_sub(offset);
        if self.access == Access::ReadOnly || len == 0 {
            return;
        }
        let given_back = match self.kind {
            Kind::Image => sys::fallocate(self.file.as_fd(), Fallocate::PunchHole, offset, len),
            Kind::Block => sys::blkdiscard(self.file.as_fd(), offset, len),
        };
        if let Err(error) = given_back {
            log::debug!("cannot discard {len} bytes at {offset} of {}: {error}", names::shown(&self.path));
        }
    }

    fn release(&self, offset: u64, len: u64) {
        sys::advise(self.file.as_fd(), offset, len, Advice::DontNeed);
    }

    fn will_need(&self, offset: u64, len: u64) {
        sys::advise(self.file.as_fd(), offset, len, Advice::WillNeed);
    }

    fn stored(&self) -> Vec<(u64, u64)> {
        let (size, mut at, mut ranges) = (self.size(), 0, Vec::new());
        while self.kind == Kind::Image && at < size {
            // A host that cannot tell calls everything data.
            let (start, end) = match sys::next_data(self.file.as_fd(), at) {
                Ok(Some(found)) => found,
                Ok(None) => break,
                // Whatever is there.
                Err(_) => (at, size),
            };
            goes_on();
            let start = (start / 4096 * 4096).max(at);
            at = end.next_multiple_of(4096).min(size);
            if start >= at {
                break;
            }
            ranges.push((start, at - start));
        }
        if self.kind == Kind::Block { vec![(0, size)] } else { ranges }
    }

    /// For an image file what its file system has left; for a block device, which backs everything, its whole size.
    fn available(&self) -> u64 {
        match self.kind {
            Kind::Image => sys::fstatvfs(self.file.as_fd()).map_or(0, |host| host.available_bytes),
            Kind::Block => self.size(),
        }
    }

    fn describe(&self) -> String {
        names::shown(&self.path)
    }

    fn birth(&self, _offset: u64) -> Option<FileBirth> {
        let image = (self.kind == Kind::Image).then(|| self.file.metadata().ok()).flatten()?;
        place::birth(&image)
    }

    fn location(&self) -> StoreLocation {
        let path = std::fs::read_link(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        let path = path.unwrap_or_else(|_| self.path.clone());
        match self.file.metadata() {
            Ok(file) if self.kind == Kind::Image => {
                let place = StoreLocation::of(&file, path);
                StoreLocation { lost: place.lost.or_else(|| self.lost()), ..place }
            }
            // The node of a block device may come and go.
            node => StoreLocation {
                path: Some(path),
                id: node.ok().map(|node| FileId::of(&node)),
                ..StoreLocation::default()
            },
        }
    }
}

/// Makes the directory entry of `path` durable.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => return Ok(()),
    };
    File::open(parent)?.sync_all()
}
