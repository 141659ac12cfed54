//! The memory into which a request thread reads: reused, so that a read allocates nothing.

use std::cell::RefCell;

/// Pages of memory that buffers are aligned to.
const PAGE_BYTES: usize = 4096;

thread_local! {
    /// The data of the READ in progress on this request thread.
    static READ_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Hands over `len` bytes that begin where a page of memory does. The kernel copies an answer page by page: one that lies across
/// them takes it two copies for each, and the copy from the medium is slower as well.
pub(super) fn with_pages<T>(len: usize, read: impl FnOnce(&mut [u8]) -> T) -> T {
    READ_BUFFER.with_borrow_mut(|buffer| {
        if buffer.len() < len + PAGE_BYTES {
            buffer.resize(len + PAGE_BYTES, 0);
        }
        let start = buffer.as_ptr().align_offset(PAGE_BYTES);
        read(&mut buffer[start..start + len])
    })
}
