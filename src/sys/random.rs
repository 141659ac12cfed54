//! Random numbers of the system.

use std::io;

/// So many random bytes, at most 256, that nobody can foresee.
///
/// # Errors
/// The system's.
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    const { assert!(N <= 256) } // so many come whole, whatever signals do: getrandom(2)
    let mut bytes = [0; N];
    // SAFETY: the buffer is as long as is said.
    match unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), N, 0) } {
        got if got == N as isize => Ok(bytes),
        _ => Err(io::Error::last_os_error()),
    }
}
