//! What is refused before the host is asked: ranges, sizes, and changes of what is open for reading.

use super::{Device, DeviceError};
use crate::limits::RESERVED_BYTES;
use crate::names;

/// Whether a store is opened for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Every changing call fails; nothing of the host is touched.
    ReadOnly,
    /// All calls work.
    ReadWrite,
}

/// Refuses a range that ends past the address space. Arithmetic on the range is safe afterwards.
pub(super) fn check_range(device: &dyn Device, offset: u64, len: u64) -> Result<(), DeviceError> {
    let size = device.size();
    if offset.checked_add(len).is_some_and(|end| end <= size) {
        return Ok(());
    }
    let place = device.describe();
    let what =
        format!("{len} bytes at {offset} lie past the end of {place} ({size} bytes): is it truncated?");
    Err(DeviceError::refused(std::io::ErrorKind::UnexpectedEof, what))
}

/// Refuses a changing call on a store that was opened for reading.
pub(super) fn check_access(device: &dyn Device, access: Access) -> Result<(), DeviceError> {
    match access {
        Access::ReadWrite => Ok(()),
        Access::ReadOnly => {
            let what = format!("{} is open for reading only", device.describe());
            Err(DeviceError::refused(std::io::ErrorKind::ReadOnlyFilesystem, what))
        }
    }
}

/// Refuses to write to files that this process may not make as long as they can become: it would fail half-way.
pub(super) fn check_file_limit(
    path: &std::path::Path,
    access: Access,
    bytes: u64,
) -> Result<(), DeviceError> {
    let limit = crate::sys::process::file_bytes_max();
    if access == Access::ReadOnly || bytes <= limit {
        return Ok(());
    }
    let what = format!(
        "{} has files of up to {bytes} bytes, and this process may write {limit}: raise the limit ('ulimit -f')",
        names::shown(path)
    );
    Err(DeviceError::refused(std::io::ErrorKind::FileTooLarge, what))
}

/// Refuses the size of a new store that could not hold its superblocks or is no whole number of blocks.
pub(super) fn check_new_size(size: u64, size_max: u64) -> Result<(), DeviceError> {
    if size > RESERVED_BYTES && size <= size_max && size.is_multiple_of(4096) {
        return Ok(());
    }
    let what = format!(
        "{size} is no size for a store: a multiple of 4096, above {RESERVED_BYTES}, at most {size_max}"
    );
    Err(DeviceError::refused(std::io::ErrorKind::InvalidInput, what))
}
