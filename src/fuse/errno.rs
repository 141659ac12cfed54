//! The only table from our errors to the numbers of the operating system.
//!
//! Exhaustive on purpose: a new kind of error does not compile until it has a number.

use crate::ops::Error;
use fuser::Errno;

/// The number that the kernel is told.
pub(super) fn errno(error: &Error) -> Errno {
    match error {
        Error::NotFound => Errno::ENOENT,
        Error::Exists => Errno::EEXIST,
        Error::NotADirectory => Errno::ENOTDIR,
        Error::IsADirectory => Errno::EISDIR,
        Error::NotEmpty => Errno::ENOTEMPTY,
        Error::NameTooLong => Errno::ENAMETOOLONG,
        Error::Invalid | Error::NotASymlink => Errno::EINVAL,
        Error::ReadOnly => Errno::EROFS,
        Error::NotPermitted => Errno::EPERM,
        Error::AccessDenied => Errno::EACCES,
        Error::CrossView => Errno::EXDEV,
        Error::Busy | Error::Frozen => Errno::EBUSY,
        Error::TooManyLinks => Errno::EMLINK,
        Error::FileTooBig => Errno::EFBIG,
        Error::NoSpace => Errno::ENOSPC,
        Error::LimitReached => Errno::EDQUOT,
        Error::NoAttribute => Errno::ENODATA,
        Error::TooSmall => Errno::ERANGE,
        Error::TooBig => Errno::E2BIG,
        Error::NotSupported => Errno::EOPNOTSUPP,
        Error::NoSuchOffset => Errno::ENXIO,
        Error::Stale => Errno::ESTALE,
        Error::BadHandle => Errno::EBADF,
        Error::Io(_) => Errno::EIO,
    }
}
