//! What a path is, before anything is opened or made: the only place that decides what counts as a store.
//!
//! It looks at names and types alone and reads no content; that a store is valid is for its superblocks to say.

use crate::names;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use super::{Access, DeviceError, FileDevice};

/// Name of the file in a directory store that keeps a second process out.
pub(super) const LOCK_NAME: &str = "lock";
/// Name of the file in a directory store that is there while the store is made, and stays when that is cut off.
pub const MAKING: &str = "making";
/// Names of the two superblock rings in a directory store.
pub(super) const SUPER_NAMES: [&str; 2] = ["super.a", "super.b"];
/// Name of the file in a directory store that holds the log.
pub(super) const LOG_NAME: &str = "log";
/// Name of the directory of segments in a directory store.
pub(super) const SEGMENTS_NAME: &str = "seg";

/// What is found at the path of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// Nothing; a directory store can be made here.
    Missing,
    /// A directory without files of anybody (a `lock` and a `making` of ours and `lost+found` do not count).
    EmptyDirectory,
    /// A directory store, perhaps damaged: some of its files are there.
    DirectoryStore,
    /// A directory with other files, among them `example`.
    ForeignDirectory {
        /// The first name in order of bytes.
        example: String,
    },
    /// A regular file of `len` bytes.
    ImageFile {
        /// Its length in bytes.
        len: u64,
    },
    /// A block device of `len` bytes.
    BlockDevice {
        /// Its size in bytes.
        len: u64,
    },
    /// Something that cannot hold a store.
    Other {
        /// What it is, for a message.
        what: &'static str,
    },
}

/// Finds out what `path` is. Symbolic links are followed.
///
/// # Errors
/// [`DeviceError::Io`] if the path cannot be examined, for want of permission above all.
pub fn probe(path: &Path) -> Result<StoreKind, DeviceError> {
    let failed = |source| DeviceError::Io { what: format!("cannot examine {}", names::shown(path)), source };
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        // A dangling link is no free place: making a store there would surprise.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(match fs::symlink_metadata(path) {
                Ok(_) => StoreKind::Other { what: "a symbolic link to nothing" },
                Err(_) => StoreKind::Missing,
            });
        }
        Err(error) => return Err(failed(error)),
    };
    let kind = metadata.file_type();
    if kind.is_dir() {
        return probe_directory(path).map_err(failed);
    }
    if kind.is_file() {
        return Ok(StoreKind::ImageFile { len: metadata.len() });
    }
    if kind.is_block_device() {
        let device = FileDevice::open(path, Access::ReadOnly)?;
        return Ok(StoreKind::BlockDevice { len: device.len() });
    }
    let what = match kind {
        _ if kind.is_char_device() => "a character device",
        _ if kind.is_fifo() => "a pipe",
        _ if kind.is_socket() => "a socket",
        _ => "a file of unknown type",
    };
    Ok(StoreKind::Other { what })
}

fn probe_directory(path: &Path) -> std::io::Result<StoreKind> {
    let mut example: Option<std::ffi::OsString> = None;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        if SUPER_NAMES.iter().any(|own| name == *own) || (name == SEGMENTS_NAME && entry.path().is_dir()) {
            return Ok(StoreKind::DirectoryStore);
        }
        let ignored = name == LOCK_NAME || name == MAKING || name == "lost+found";
        if !ignored && example.as_ref().is_none_or(|known| name < *known) {
            example = Some(name);
        }
    }
    Ok(match example {
        Some(name) => StoreKind::ForeignDirectory { example: names::shown(&name) },
        None => StoreKind::EmptyDirectory,
    })
}
