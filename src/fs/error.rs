//! How a failure of the volume, or bytes that do not decode, becomes the answer to a request.
//!
//! The table is exhaustive: a new kind of failure does not compile until it has an answer here. What means damage or a
//! failed device is logged here, once, because the answer itself carries no more than EIO.

use crate::format::{FormatError, Ino};
use crate::ops::Error;
use crate::volume::VolumeError;

impl From<VolumeError> for Error {
    fn from(e: VolumeError) -> Error {
        match e {
            VolumeError::Corrupt { .. } | VolumeError::Device(_) | VolumeError::NotAStore(_) => {
                log::error!("{e}");
                Error::Io(e.to_string())
            }
            // No damage: it was wanted.
            VolumeError::Purged(what) => Error::Io(what),
            VolumeError::NoSpace => Error::NoSpace,
            VolumeError::ReadOnly(_) => Error::ReadOnly,
            VolumeError::NoSuchView => Error::Stale,
            VolumeError::Inherited => Error::NotPermitted,
            VolumeError::NameTaken => Error::Exists,
            VolumeError::Held => Error::Busy,
            VolumeError::LimitReached(_) => Error::LimitReached,
        }
    }
}

/// The failure of an item of `ino` that does not decode.
pub fn damaged(ino: Ino, e: FormatError) -> VolumeError {
    VolumeError::Corrupt { what: format!("inode {}: {e}", ino.0) }
}

/// The failure of an inode whose parts contradict each other.
pub fn inconsistent(ino: Ino, what: &str) -> VolumeError {
    VolumeError::Corrupt { what: format!("inode {}: {what}", ino.0) }
}

/// A failed write-back fails what needs it with the error that the writer would have seen.
pub fn write_back_error(e: std::io::Error) -> Error {
    match e.kind() {
        std::io::ErrorKind::StorageFull => Error::NoSpace,
        std::io::ErrorKind::QuotaExceeded => Error::LimitReached,
        _ => Error::Io(format!("writing back cached pages: {e}")),
    }
}
