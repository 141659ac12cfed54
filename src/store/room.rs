//! An amount of free space.

/// Free space in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Room {
    /// In pieces of any length.
    pub bytes: u64,
    /// Of these, in pieces in which tree nodes fit.
    pub node_bytes: u64,
}

impl Room {
    /// So much more of both.
    pub fn and(self, bytes: u64) -> Room {
        Room { bytes: self.bytes + bytes, node_bytes: self.node_bytes + bytes }
    }
}
