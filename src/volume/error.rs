//! What can go wrong in a volume.

use crate::format::FormatError;
use crate::format::superblock::SlotError;
use crate::store::StoreError;

/// What sentences about damage begin with.
pub const DAMAGED: &str = "damaged store: ";

/// Error of the volume.
#[derive(Clone, Debug)]
pub enum VolumeError {
    /// The bytes of the store are not what they must be.
    Corrupt {
        /// Where, what was found, what was expected.
        what: String,
    },
    /// The device refused or failed a call.
    Device(String),
    /// No space left.
    NoSpace,
    /// What was there was taken out of the store on purpose; the sentence says what.
    Purged(String),
    /// The volume takes no changes; the sentence says why.
    ReadOnly(String),
    /// There is no such snapshot or clone (any more).
    NoSuchView,
    /// The snapshot is another line's: only that one may change it.
    Inherited,
    /// The name is in use.
    NameTaken,
    /// The snapshot has a hold, or is needed for a copy that is being made of it.
    Held,
    /// A limit is reached; the words name it.
    LimitReached(&'static str),
    /// This is no store, or one that this program cannot open; the sentence says why and what to do.
    NotAStore(String),
}

impl std::fmt::Display for VolumeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            VolumeError::Corrupt { what } => write!(f, "{DAMAGED}{what}"),
            VolumeError::Device(what) => write!(f, "device error: {what}"),
            VolumeError::NoSpace => write!(f, "no space left in the store"),
            VolumeError::Purged(what) => write!(f, "{what}"),
            VolumeError::ReadOnly(why) => write!(f, "the store is read-only: {why}"),
            VolumeError::NoSuchView => write!(f, "no such snapshot"),
            VolumeError::Inherited => write!(f, "the snapshot belongs to what this was cloned from"),
            VolumeError::NameTaken => write!(f, "a snapshot of that name exists"),
            VolumeError::Held => write!(f, "the snapshot is held"),
            VolumeError::LimitReached(what) => write!(f, "limit reached: {what}"),
            VolumeError::NotAStore(why) => write!(f, "{why}"),
        }
    }
}

impl std::error::Error for VolumeError {}

impl From<StoreError> for VolumeError {
    fn from(e: StoreError) -> VolumeError {
        match e {
            StoreError::Corrupt(what) => VolumeError::Corrupt { what },
            StoreError::Device(what) => VolumeError::Device(what),
            StoreError::NoSpace => VolumeError::NoSpace,
            e @ StoreError::Purged(_) => VolumeError::Purged(e.to_string()),
        }
    }
}

impl From<FormatError> for VolumeError {
    fn from(e: FormatError) -> VolumeError {
        VolumeError::Corrupt { what: e.0 }
    }
}

impl From<SlotError> for VolumeError {
    fn from(e: SlotError) -> VolumeError {
        match e {
            SlotError::Invalid(what) => VolumeError::Corrupt { what },
            SlotError::Foreign(why) => VolumeError::NotAStore(why),
        }
    }
}

/// Result of the volume.
pub type Result<T> = std::result::Result<T, VolumeError>;

/// The store says something that cannot be.
pub(super) fn corrupt(what: String) -> VolumeError {
    VolumeError::Corrupt { what }
}
