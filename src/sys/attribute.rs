//! Extended attributes of files by path. Symbolic links are followed.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Longest value that is read, in bytes.
const VALUE_BYTES_MAX: usize = 1024;

fn names(path: &Path, name: &str) -> io::Result<(CString, CString)> {
    Ok((CString::new(path.as_os_str().as_bytes())?, CString::new(name)?))
}

/// The value of an attribute; `None` if there is none of that name, or can be none.
///
/// # Errors
/// The host's: `ERANGE` for more than 1024 bytes.
pub fn get(path: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
    let (path, name) = names(path, name)?;
    let mut value = vec![0; VALUE_BYTES_MAX];
    // SAFETY: both strings end with NUL, and `value` has room for as many bytes as are told; all outlive the call.
    let len = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    match usize::try_from(len) {
        Ok(len) => {
            value.truncate(len);
            Ok(Some(value))
        }
        Err(_) => match io::Error::last_os_error() {
            e if matches!(e.raw_os_error(), Some(libc::ENODATA | libc::EOPNOTSUPP)) => Ok(None),
            e => Err(e),
        },
    }
}

/// Sets an attribute.
///
/// # Errors
/// The host's.
pub fn set(path: &Path, name: &str, value: &[u8]) -> io::Result<()> {
    let (path, name) = names(path, name)?;
    let (data, len) = (value.as_ptr().cast(), value.len());
    // SAFETY: both strings end with NUL, and `data` points to `len` bytes; all outlive the call.
    let done = unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), data, len, 0) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
