//! How a volume is opened.

/// What may be done with an open volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Nothing reaches the device.
    ReadOnly,
    /// Everything.
    ReadWrite,
}

/// How a volume is opened.
#[derive(Clone, Copy, Debug)]
pub struct OpenOptions {
    /// What may be done.
    pub access: Access,
    /// Bytes of memory for clean tree nodes.
    pub cache_bytes: usize,
}
