//! How a volume is opened.

use crate::device::Access;

/// How a volume is opened.
#[derive(Clone, Copy, Debug)]
pub struct OpenOptions {
    /// What may be done.
    pub access: Access,
    /// Bytes of memory for clean tree nodes.
    pub cache_bytes: usize,
}
