//! Content as the tree maps it.

use super::extents;
use super::reader::Items;
use crate::format::inode::Inode;
use crate::format::{BLOCK_BYTES, Extent, Ino};
use crate::volume::{View, VolumeError};

/// Fills `out` (whole blocks from `from`) with what the tree maps and zeros between, except where `covered` says that the
/// block will be replaced anyway: there anything may be left.
pub fn read_blocks(
    view: &View,
    ino: Ino,
    inode: &Inode,
    from: u64,
    out: &mut [u8],
    covered: impl Fn(u64) -> bool,
) -> std::result::Result<(), VolumeError> {
    let to = from + out.len() as u64;
    let at = |offset: u64| (offset - from) as usize;
    // Up to here it is filled.
    let mut filled = from;
    if inode.has_inline && from == 0 {
        let bytes = view.inline(ino)?;
        let len = bytes.len().min(out.len());
        out[..len].copy_from_slice(&bytes[..len]);
        filled = len as u64;
    }
    let mut run = Run { from, end: from, extents: Vec::new() };
    for (start, ext) in extents::overlapping(view, ino, from, to, usize::MAX)? {
        let (mut first, mut end) = (start.max(from), (start + ext.len_bytes()).min(to));
        if ext.is_unwritten() {
            continue;
        }
        while first < end && covered(first / BLOCK_BYTES) {
            first += BLOCK_BYTES;
        }
        while first < end && covered(end / BLOCK_BYTES - 1) {
            end -= BLOCK_BYTES;
        }
        if first < end {
            // A damaged tree may map a place twice.
            out[at(filled.min(first))..at(first)].fill(0);
            filled = filled.max(end);
            if run.end != first || ext.is_compressed() {
                run.read(view, &mut out[at(run.from)..at(run.end)])?;
                run.from = first;
            }
            if ext.is_compressed() {
                view.read_extent(&ext, first - start, &mut out[at(first)..at(end)])?;
                run.from = end;
            } else {
                let is_whole = end - first == ext.len_bytes();
                run.extents.push(if is_whole { ext } else { ext.slice(first - start, end - first) });
            }
            run.end = end;
        }
    }
    run.read(view, &mut out[at(run.from)..at(run.end)])?;
    out[at(filled)..].fill(0);
    Ok(())
}

/// Extents that follow each other in a file and are not read yet, none of them compressed or unwritten.
struct Run {
    from: u64,
    end: u64,
    extents: Vec<Extent>,
}

impl Run {
    /// Reads them, and has none then.
    fn read(&mut self, view: &View, out: &mut [u8]) -> std::result::Result<(), VolumeError> {
        if !self.extents.is_empty() {
            view.read_extents(&self.extents.iter().collect::<Vec<_>>(), out)?;
            self.extents.clear();
        }
        Ok(())
    }
}

/// True if there is nothing but zeros.
pub fn is_zero(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<64>();
    rest.iter().all(|b| *b == 0) && chunks.iter().all(|c| c.iter().fold(0, |a, b| a | b) == 0)
}
