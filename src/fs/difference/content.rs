//! Content of files of two views: whether it is the same, and all of it.

use crate::format::extent::EXTENT_BYTES_MAX;
use crate::format::inode::Inode;
use crate::format::{BLOCK_BYTES, Ino, Key, Kind};
use crate::fs::items::{Items, decode_extent, extents, read_blocks};
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
                let ((at, x), (there, y)) = (decode_extent(&a, &x)?, decode_extent(&b, &y)?);
                if at != there || !new.view.is_same_place(&x, &y) {
                    return Ok(false);
                }
            }
            _ => return Ok(false),
        }
    }
}

/// True if two files of one size have the same bytes. Reads what either has on the device; where neither has anything both
/// are zeros.
pub fn same_bytes(old: FileAt, new: FileAt) -> Result<bool> {
    let end = old.inode.size.next_multiple_of(BLOCK_BYTES);
    let (mut at, mut pieces) = (0, [vec![0; EXTENT_BYTES_MAX as usize], vec![0; EXTENT_BYTES_MAX as usize]]);
    while at < end {
        let starts = [old, new].map(|file| extents::next(file.view, file.ino, at));
        let [before, now] = starts;
        let has_inline = at == 0 && (old.inode.has_inline || new.inode.has_inline);
        let start = before?.into_iter().chain(now?).map(|(start, _)| start.max(at)).min();
        let Some(from) = (if has_inline { Some(0) } else { start.filter(|start| *start < end) }) else {
            break;
        };
        let len = (end - from).min(EXTENT_BYTES_MAX) as usize;
        for (file, piece) in [old, new].into_iter().zip(&mut pieces) {
            read_blocks(file.view, file.ino, file.inode, from, &mut piece[..len], |_| false)?;
        }
        // What is behind the end of a file counts for nothing.
        let len = len.min((old.inode.size - from) as usize);
        if pieces[0][..len] != pieces[1][..len] {
            return Ok(false);
        }
        at = from + len.next_multiple_of(BLOCK_BYTES as usize) as u64;
    }
    Ok(true)
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
