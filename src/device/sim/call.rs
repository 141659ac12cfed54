//! Calls of a simulated disk.

/// A kind of device call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// `read_at`
    Read,
    /// `write_at`
    Write,
    /// `flush`
    Flush,
    /// `back`
    Back,
    /// `discard`
    Discard,
    /// `release`; not counted
    Release,
    /// `will_need`; not counted
    WillNeed,
}

/// A recorded call. A flush has no range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// What was called.
    pub op: Op,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}
