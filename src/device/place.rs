//! Where a store is on the host, and which files it is in.

use crate::names;
use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use crate::format::mark::FileBirth;

/// Which file it is, on this host. For a block device that is the device: any number of nodes may stand for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    /// Of the file system that it is in; 0 for a block device.
    pub device: u64,
    /// Its number there, or that of the block device.
    pub inode: u64,
}

impl FileId {
    /// Of the file with these attributes.
    pub fn of(metadata: &Metadata) -> FileId {
        if metadata.file_type().is_block_device() {
            return FileId { device: 0, inode: metadata.rdev() };
        }
        FileId { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// Which file it is for ever, if the host tells when it was made.
pub(super) fn birth(metadata: &Metadata) -> Option<FileBirth> {
    let made = metadata.created().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(FileBirth { inode: metadata.ino(), secs: made.as_secs(), nanos: made.subsec_nanos() })
}

/// Where an open store is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreLocation {
    /// The path, as far as the host tells. None for a store in memory.
    pub path: Option<PathBuf>,
    /// Its directory, image file or device node.
    pub id: Option<FileId>,
    /// The path does not lead to the store any more: something was mounted over it.
    pub covered: bool,
    /// What was taken from it while it was open, in a sentence.
    pub lost: Option<String>,
}

impl StoreLocation {
    /// Of an open file or directory: its attributes, and its path.
    pub(super) fn of(metadata: &Metadata, path: PathBuf) -> StoreLocation {
        let found = std::fs::metadata(&path).ok();
        let covered =
            metadata.nlink() > 0 && found.is_none_or(|found| FileId::of(&found) != FileId::of(metadata));
        let lost = (metadata.nlink() == 0)
            .then(|| format!("{} was removed while the store was open", names::shown(&path)));
        StoreLocation { path: Some(path), id: Some(FileId::of(metadata)), covered, lost }
    }
}
