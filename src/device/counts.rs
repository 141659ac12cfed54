//! How often a device was called.

/// How often a device was called, and for how many bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls of `read_at`.
    pub reads: u64,
    /// Calls of `write_at`.
    pub writes: u64,
    /// Calls of `flush`.
    pub flushes: u64,
    /// Calls of `back`.
    pub backs: u64,
    /// Calls of `discard`.
    pub discards: u64,
    /// Bytes asked of `read_at`.
    pub bytes_read: u64,
    /// Bytes given to `write_at`.
    pub bytes_written: u64,
}

impl Counts {
    /// What happened between `earlier` and these counts of the same device.
    #[must_use]
    pub fn since(&self, earlier: &Counts) -> Counts {
        Counts {
            reads: self.reads - earlier.reads,
            writes: self.writes - earlier.writes,
            flushes: self.flushes - earlier.flushes,
            backs: self.backs - earlier.backs,
            discards: self.discards - earlier.discards,
            bytes_read: self.bytes_read - earlier.bytes_read,
            bytes_written: self.bytes_written - earlier.bytes_written,
        }
    }
}
