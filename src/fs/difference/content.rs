//! Content of files of two views: whether it is the same, and all of it.

use crate::format::inode::Inode;
use crate::format::{BLOCK_BYTES, Ino, Key, Kind};
use crate::fs::items::{Items, decode_extent, read_blocks};
use crate::ops::FileType;
use crate::volume::{View, VolumeError};

type Result<T> = std::result::Result<T, VolumeError>;

/// A file in a view.
#[derive(Clone, Copy)]
pub struct FileAt<'v> {
    /// The view.
    pub view: &'v View,
    /// Its number.
    pub ino: Ino,
    /// Its attributes there.
    pub inode: &'v Inode,
}

/// True for files with bytes of their own.
pub fn has_content(kind: FileType) -> bool {
    matches!(kind, FileType::Regular | FileType::Symlink)
}

/// True if two files have the same content by where it lies: nothing was written, or it was copied by sharing blocks, or it
/// is small. False says nothing.
pub fn is_same_content(old: FileAt, new: FileAt) -> Result<bool> {
    if old.inode.size != new.inode.size || old.view.inline(old.ino)? != new.view.inline(new.ino)? {
        return Ok(false);
    }
    let ends = |ino: Ino| [0, u64::MAX].map(|rest| Key::new(ino.0, Kind::Extent, rest));
    let ([old_from, old_to], [new_from, new_to]) = (ends(old.ino), ends(new.ino));
    let mut before = old.view.range(&old_from, &old_to);
    let mut now = new.view.range(&new_from, &new_to);
    loop {
        match (before.next().transpose()?, now.next().transpose()?) {
            (None, None) => return Ok(true),
            (Some((a, x)), Some((b, y))) => {
                let ((at, mut x), (there, y)) = (decode_extent(&a, &x)?, decode_extent(&b, &y)?);
                x.birth = y.birth;
                if (at, x) != (there, y) {
                    return Ok(false);
                }
            }
            _ => return Ok(false),
        }
    }
}

/// The whole content of a file that memory can hold, or the target of a link.
pub fn whole_content(file: FileAt) -> Result<Vec<u8>> {
    if file.inode.kind == FileType::Symlink {
        return file.view.inline(file.ino);
    }
    let mut bytes = vec![0; file.inode.size.next_multiple_of(BLOCK_BYTES) as usize];
    read_blocks(file.view, file.ino, file.inode, 0, &mut bytes, |_| false)?;
    bytes.truncate(file.inode.size as usize);
    Ok(bytes)
}
