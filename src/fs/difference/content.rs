//! Content of files of two views: whether it is the same, and all of it.

use crate::format::extent::EXTENT_BYTES_MAX;
use crate::format::inode::Inode;
use crate::format::{BLOCK_BYTES, Extent, Ino, Key, Kind};
use crate::fs::items::{Items, decode_extent, extents, goes_home, read_blocks};
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
/// is small; or if it has only moved. False says nothing.
pub fn is_same_content(old: FileAt, new: FileAt) -> Result<bool> {
    let inline = |file: FileAt| file.view.stored_inline(file.ino);
    if old.inode.size != new.inode.size || inline(old)? != inline(new)? {
        return Ok(false);
    }
    if is_at_one_place(old, new)? {
        return Ok(true);
    }
    let moves = goes_home(old.view, old.inode)? || goes_home(new.view, new.inode)?;
    if !moves || !has_same_checksums(old, new)? {
        return Ok(false);
    }
    match has_only_moved(old, new) {
        Err(VolumeError::Purged(_)) => Ok(false),
        done => done,
    }
}

/// True if all blocks have the same checksums: then they have most likely the same bytes.
fn has_same_checksums(old: FileAt, new: FileAt) -> Result<bool> {
    let (mut before, mut now) = (Checksums::of(old), Checksums::of(new));
    loop {
        match (before.next()?, now.next()?) {
            (None, None) => return Ok(true),
            (one, other) if one == other => {}
            _ => return Ok(false),
        }
    }
}

/// True if what of two files is mapped at the same offsets has the same bytes. What is at one place is not read.
fn has_only_moved(old: FileAt, new: FileAt) -> Result<bool> {
    let (mut at, mut pieces) = (0, [vec![0; EXTENT_BYTES_MAX as usize], vec![0; EXTENT_BYTES_MAX as usize]]);
    loop {
        let [before, now] = [old, new].map(|file| extents::next(file.view, file.ino, at));
        let ((start, x), (there, y)) = match (before?, now?) {
            (None, None) => return Ok(true),
            (Some(before), Some(now)) => (before, now),
            _ => return Ok(false),
        };
        let (from, to) = (at.max(start), (start + x.len_bytes()).min(there + y.len_bytes()));
        if from != at.max(there) {
            return Ok(false);
        }
        let (a, b) = (x.cut(from - start, to - from), y.cut(from - there, to - from));
        if !new.view.is_same_place(&a, &b) {
            let len = (to - from) as usize;
            old.view.read_extent(&a, 0, &mut pieces[0][..len])?;
            new.view.read_extent(&b, 0, &mut pieces[1][..len])?;
            if pieces[0][..len] != pieces[1][..len] {
                return Ok(false);
            }
        }
        at = to;
    }
}

/// The checksums of the blocks of a file, one by one.
struct Checksums<'v> {
    file: FileAt<'v>,
    extent: Option<(u64, Extent)>,
    at: u64,
}

impl<'v> Checksums<'v> {
    fn of(file: FileAt<'v>) -> Checksums<'v> {
        Checksums { file, extent: None, at: 0 }
    }

    /// Where the next block is, and its checksum: none for space that holds nothing, and for what is compressed.
    fn next(&mut self) -> Result<Option<(u64, Option<u32>)>> {
        let ends = |(start, extent): &(u64, Extent)| start + extent.len_bytes();
        if self.extent.as_ref().is_none_or(|found| ends(found) <= self.at) {
            self.extent = extents::next(self.file.view, self.file.ino, self.at)?;
        }
        let Some((start, extent)) = &self.extent else { return Ok(None) };
        let at = self.at.max(*start);
        self.at = at + BLOCK_BYTES;
        Ok(Some((at, extent.checksum_at(at - start))))
    }
}

fn is_at_one_place(old: FileAt, new: FileAt) -> Result<bool> {
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
