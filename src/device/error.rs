//! Why a device call failed.

/// Why a device call failed.
#[derive(Debug)]
pub enum DeviceError {
    /// The host has no space left for the range.
    NoSpace,
    /// The host refused or failed the call.
    Io {
        /// What was being done, to what, at which offset.
        what: String,
        /// The host's error.
        source: std::io::Error,
    },
}

impl std::fmt::Display for DeviceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DeviceError::NoSpace => write!(f, "no space left on the host of the store"),
            DeviceError::Io { what, source } => write!(f, "{what}: {source}"),
        }
    }
}

impl std::error::Error for DeviceError {}

impl DeviceError {
    /// An error of the host: [`DeviceError::NoSpace`] if that is what it says, else with the place it happened.
    pub(crate) fn host(what: impl FnOnce() -> String, source: std::io::Error) -> DeviceError {
        use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        match source.kind() {
            StorageFull | QuotaExceeded => DeviceError::NoSpace,
            // Looked at when the store was opened, and made smaller since.
            FileTooLarge => {
                static TOLD: std::sync::Once = std::sync::Once::new();
                TOLD.call_once(|| {
                    log::error!("{}: {source}: raise the limit of file sizes ('ulimit -f')", what());
                });
                DeviceError::NoSpace
            }
            _ => DeviceError::Io { what: what(), source },
        }
    }

    /// A call that is refused before the host sees it.
    pub(crate) fn refused(kind: std::io::ErrorKind, what: String) -> DeviceError {
        DeviceError::Io { what, source: kind.into() }
    }
}
