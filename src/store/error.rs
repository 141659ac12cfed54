//! What can go wrong between a pointer and its block.

use crate::device::DeviceError;
use crate::format::{BlockAddr, FormatError};

/// Result of the store.
pub type Result<T> = std::result::Result<T, StoreError>;

/// Error of the store.
#[derive(Clone, Debug)]
pub enum StoreError {
    /// The bytes are not what they must be. The sentence says where, what was found and what was expected.
    Corrupt(String),
    /// The device refused or failed a call.
    Device(String),
    /// No space left.
    NoSpace,
    /// What was there was taken out of the store on purpose.
    Purged(BlockAddr),
}

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StoreError::Corrupt(what) => write!(f, "damaged store: {what}"),
            StoreError::Device(what) => write!(f, "device error: {what}"),
            StoreError::NoSpace => write!(f, "no space left in the store"),
            StoreError::Purged(at) => {
                write!(f, "purged: the content that was at {at} was taken out of the store")
            }
        }
    }
}

impl std::error::Error for StoreError {}

impl StoreError {
    pub(crate) fn corrupt(what: String) -> StoreError {
        StoreError::Corrupt(what)
    }

    /// The error of a write or a flush. Space for it was secured before: a host that has none for it all the same has
    /// failed, and what was to be written is only half there. That is no refusal.
    pub(super) fn broken_promise(e: DeviceError) -> StoreError {
        StoreError::Device(e.to_string())
    }
}

impl From<DeviceError> for StoreError {
    fn from(e: DeviceError) -> StoreError {
        match e {
            DeviceError::NoSpace => StoreError::NoSpace,
            e @ DeviceError::Io { .. } => StoreError::Device(e.to_string()),
        }
    }
}

impl From<FormatError> for StoreError {
    fn from(e: FormatError) -> StoreError {
        StoreError::Corrupt(e.0)
    }
}
