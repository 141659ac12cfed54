//! Writing content.
//!
//! Whole blocks of a long write go to the device first, without any lock, and only their mapping is a change. The rest
//! becomes delayed data, for which space is reserved here: a write that was accepted cannot run out of space later.

use crate::format::inode::Inode;
use crate::format::{BLOCK_BYTES, Ino, Key, Kind};
use crate::fs::attributes::{flags, kill_privileges};
use crate::fs::commits::{Commits, Stager};
use crate::fs::heads::{Change, DirtyBlock, Head, zero_block};
use crate::fs::items::extents::{self, Keep};
use crate::fs::items::{Items, is_zero};
use crate::limits::FILE_BYTES_MAX;
use crate::ops::{Error, Handle, NodeId, Result};
use crate::volume::{ReserveFor, Staged};

/// Whole blocks of at least this many bytes are not delayed.
const DIRECT_BYTES_MIN: u64 = 64 * 1024;

/// A piece of a long write: whole blocks, staged, or zeros that need no place.
struct Piece {
    from: u64,
    len: u64,
    staged: Option<Staged>,
}

impl Piece {
    /// Where its extents will be, and how long their items.
    fn places(&self) -> impl Iterator<Item = (u64, usize)> {
        extents::places(self.from, self.staged.as_ref().map_or(&[], Staged::extents))
    }
}

/// See [`Operations::write`](crate::ops::Operations::write).
pub fn write_file(
    commits: &Commits,
    node: NodeId,
    handle: Handle,
    offset: u64,
    data: &[u8],
    kill_set_id: bool,
) -> Result<usize> {
    let open = commits.heads.handles.get(node, handle)?;
    if !open.flags.write || !node.is_live() {
        return Err(Error::BadHandle);
    }
    let (head, ino) = (open.head()?, Ino(node.ino()));
    let guess = if open.flags.append { commits.heads.live_inode(head, ino)?.size } else { offset };
    write_at(commits, head, ino, guess, open.flags.append, data, kill_set_id)?;
    if open.flags.sync {
        commits.sync()?;
    }
    Ok(data.len())
}

/// Writes `data` at `offset`, or at the end if `append` (then `offset` is where the end is expected).
pub fn write_at(
    commits: &Commits,
    head: &Head,
    ino: Ino,
    offset: u64,
    append: bool,
    data: &[u8],
    kill_set_id: bool,
) -> Result<()> {
    if data.is_empty() {
        return Ok(());
    }
    let (whole_from, whole_to) = whole_blocks(offset, data.len() as u64)?;
    let pieces = if commits.heads.options.read_only {
        Vec::new()
    } else {
        let whole = (whole_from.max(offset) - offset) as usize..(whole_to.max(offset) - offset) as usize;
        let stored = stored_as(commits.stager(head), ino)?;
        stage_pieces(commits.stager(head), (ino, stored), whole_from, data.get(whole).unwrap_or_default())?
    };
    let change = commits.heads.change(head)?;
    let inode = change.regular(ino)?;
    flags::check_addition(&inode)?;
    let moved = append && inode.size != offset;
    if moved {
        // Another append came between: what was staged is for another offset, and is given back.
        let offset = inode.size;
        whole_blocks(offset, data.len() as u64)?;
        write(change, ino, inode, offset, data, (offset, offset), Vec::new(), kill_set_id)
    } else {
        write(change, ino, inode, offset, data, (whole_from, whole_to), pieces, kill_set_id)
    }
}

/// How content of a file is stored.
#[derive(Clone, Copy, Default)]
struct Stored {
    /// The level at which it is to be compressed, if it is.
    level: Option<u8>,
    /// Zeros have a place, too.
    with_zeros: bool,
}

fn stored_as(stager: Stager, ino: Ino) -> Result<Stored> {
    if !stager.volume.knows_compression() && !stager.volume.knows_homes() {
        return Ok(Stored::default());
    }
    let view = stager.view()?;
    let inode = view.inode(ino)?.ok_or(Error::Stale)?;
    let level = stager.level(&view, ino, &inode)?;
    Ok(Stored { level, with_zeros: stager.goes_home(&view, &inode)? })
}

/// The part of a write that is not delayed, empty if there is none.
fn whole_blocks(offset: u64, len: u64) -> Result<(u64, u64)> {
    let end = offset.checked_add(len).filter(|end| *end <= FILE_BYTES_MAX).ok_or(Error::FileTooBig)?;
    let (from, to) = (offset.next_multiple_of(BLOCK_BYTES), end - end % BLOCK_BYTES);
    Ok(if to > from && to - from >= DIRECT_BYTES_MIN { (from, to) } else { (offset, offset) })
}

/// Stages whole blocks, zeros left out.
fn stage_pieces(stager: Stager, (ino, stored): (Ino, Stored), from: u64, data: &[u8]) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    let block = BLOCK_BYTES as usize;
    let mut at = 0;
    while at < data.len() {
        let is_hole = |at: usize| !stored.with_zeros && is_zero(&data[at..at + block]);
        let zero = is_hole(at);
        let mut end = at + block;
        while end < data.len() && is_hole(end) == zero {
            end += block;
        }
        let staged = match zero {
            true => None,
            false => {
                let part = stager.part(ino, from + at as u64, (end - at) as u64, stored.level);
                let staged = stager.volume.stage_runs(&data[at..end], &[part])?;
                staged.gains().iter().for_each(|gain| stager.head.misses.learn(ino, *gain));
                Some(staged)
            }
        };
        pieces.push(Piece { from: from + at as u64, len: (end - at) as u64, staged });
        at = end;
    }
    Ok(pieces)
}

#[allow(clippy::too_many_arguments)]
fn write(
    mut change: Change<'_>,
    ino: Ino,
    mut inode: Inode,
    offset: u64,
    data: &[u8],
    (whole_from, whole_to): (u64, u64),
    pieces: Vec<Piece>,
    kill_set_id: bool,
) -> Result<()> {
    let end = offset + data.len() as u64;
    let parts =
        if pieces.is_empty() { vec![(offset, end)] } else { vec![(offset, whole_from), (whole_to, end)] };
    // Every read comes before the first change.
    let mut loaded = Vec::new();
    let mut new_blocks = 0;
    for (from, to) in parts.iter().copied().filter(|(from, to)| from < to) {
        let (missing, cuts) = load_edges(&change, ino, &inode, from, to, &mut loaded)?;
        new_blocks += missing;
        change.will_cut(cuts);
    }
    let mut replaces = loaded.iter().any(|(_, block)| !block.fresh);
    if !pieces.is_empty() {
        let old = change.mapped(ino, whole_from..whole_to, usize::MAX)?;
        replaces |= !old.is_empty();
        extents::refuse_cut(change.view(), &old, whole_from, whole_to)?;
        change.will_cut(extents::cuts(&old, pieces.len()));
        change.foresee_map(ino, whole_from..whole_to, &old, pieces.iter().flat_map(Piece::places));
    }
    change.foresee_inode(ino, &inode);
    change.will_lose(ino, &inode, offset..end);
    inode.mtime = change.now;
    inode.ctime = change.now;
    if kill_set_id {
        kill_privileges(&mut change, ino, &mut inode)?;
    }
    let at_home = replaces && change.will_write_over(ino, &inode)?;
    let items = 4 + 3 * pieces.len() + data.len() / (64 * 1024) + new_blocks as usize / 8;
    change.will_delay(ino, &inode, new_blocks)?;
    change.reserve(items, ReserveFor::Write)?;

    if !pieces.is_empty() {
        let (first, last) = (whole_from / BLOCK_BYTES, whole_to / BLOCK_BYTES);
        change.discard(ino, first, last);
        if first == 0 && inode.has_inline {
            change.delete(Key::new(ino.0, Kind::Inline, 0));
            inode.has_inline = false;
        }
    }
    for piece in pieces {
        let new = match piece.staged {
            Some(staged) => extents::lay(piece.from, change.txn().publish(staged)),
            None => Vec::new(),
        };
        let keep = if new.is_empty() { Keep::Unwritten } else { Keep::Nothing };
        let to = piece.from + piece.len;
        let grown = match at_home && !new.is_empty() {
            true => extents::replace_at_home(change.txn(), ino, piece.from, to, keep, &new)?,
            false => extents::replace(change.txn(), ino, piece.from, to, keep, &new)?,
        };
        inode.blocks = extents::add_blocks(inode.blocks, grown);
    }
    let mut loaded = loaded.into_iter().peekable();
    for (from, to) in parts {
        delay(&mut change, ino, from, to, &data[(from - offset) as usize..], &mut loaded);
    }
    inode.size = inode.size.max(end);
    change.put_inode(ino, &inode);
    change.apply()
}

/// Loads what a write of `from..to` needs of blocks that are not delayed yet: the old content of those it covers in
/// part, and whether they are mapped. Returns their number, and how many compressed extents they may cut.
fn load_edges(
    change: &Change<'_>,
    ino: Ino,
    inode: &Inode,
    from: u64,
    to: u64,
    out: &mut Vec<(u64, DirtyBlock)>,
) -> Result<(u64, usize)> {
    let (first, last) = (from / BLOCK_BYTES, to.div_ceil(BLOCK_BYTES));
    let missing = change.gate().dirty.missing(ino, first, last);
    if missing == 0 {
        return Ok((0, 0));
    }
    let mapped =
        extents::overlapping(change.view(), ino, first * BLOCK_BYTES, last * BLOCK_BYTES, usize::MAX)?;
    extents::refuse_cut(change.view(), &mapped, first * BLOCK_BYTES, last * BLOCK_BYTES)?;
    for n in first..last {
        if change.gate().dirty.get(ino, n).is_some() {
            continue;
        }
        let at = n * BLOCK_BYTES;
        let fresh = !mapped.iter().any(|(off, ext)| *off <= at && at < off + ext.len_bytes());
        let whole = from <= at && at + BLOCK_BYTES <= to;
        let data = if whole { zero_block() } else { change.old_block(ino, inode, n)? };
        out.push((n, DirtyBlock { data, fresh }));
    }
    Ok((missing, extents::cuts(&mapped, usize::MAX)))
}

/// Puts bytes for `from..to` into delayed blocks; `loaded` has those that are new, in order.
fn delay(
    change: &mut Change<'_>,
    ino: Ino,
    from: u64,
    to: u64,
    mut data: &[u8],
    loaded: &mut std::iter::Peekable<impl Iterator<Item = (u64, DirtyBlock)>>,
) {
    let mut at = from;
    while at < to {
        let n = at / BLOCK_BYTES;
        let inside = (at % BLOCK_BYTES) as usize;
        let len = (to - at).min(BLOCK_BYTES - inside as u64) as usize;
        let next = loaded.next_if(|b| b.0 == n).map(|b| b.1);
        let base = next.unwrap_or_else(|| DirtyBlock { data: zero_block(), fresh: true });
        change.write_block(ino, n, inside, &data[..len], base);
        data = &data[len..];
        at += len as u64;
    }
}
