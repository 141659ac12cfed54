//! Why a stream was not sent or received.

use crate::ops;
use crate::volume::VolumeError;

/// Why a stream was not sent or received. Nothing of it is to be seen then.
#[derive(Debug)]
pub enum StreamError {
    /// The store.
    Store(VolumeError),
    /// What carries the stream.
    Carrier(std::io::Error),
    /// The stream says what cannot be: in which packet, where that begins in bytes from the beginning of what was read, and what.
    Bad(u64, u64, String),
    /// It is not taken here; the sentence says why and what to do.
    Refused(String),
    /// Another reason.
    Failed(ops::Error),
}

impl From<VolumeError> for StreamError {
    fn from(e: VolumeError) -> StreamError {
        StreamError::Store(e)
    }
}

impl From<ops::Error> for StreamError {
    fn from(e: ops::Error) -> StreamError {
        StreamError::Failed(e)
    }
}

impl std::fmt::Display for StreamError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StreamError::Store(e) => write!(f, "{e}"),
            StreamError::Carrier(e) => write!(f, "the stream broke off: {e}"),
            StreamError::Bad(packet, offset, what) => {
                write!(
                    f,
                    "the stream is damaged in packet {packet}, {offset} bytes from its beginning: {what}"
                )
            }
            StreamError::Refused(why) => write!(f, "{why}"),
            StreamError::Failed(e) => write!(f, "{e}"),
        }
    }
}

/// Of what is done with a stream.
pub type Result<T> = std::result::Result<T, StreamError>;
