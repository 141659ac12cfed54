//! Content and extended attributes of one inode, made those of another, of any view.
//!
//! Item by item along both: what is the same already stays, so a file that has changed in one place costs that place. What
//! is taken over is a reference of its own, born in the epoch of whoever takes it; space that was asked for and holds
//! nothing is shared like content, because whoever writes there takes another place. No content is read or written.

use super::work::Transfer;
use crate::format::purge::PURGED_INLINE;
use crate::format::{Extent, Ino, Key, Kind};
use crate::fs::items::{decode_extent, extents};
use crate::volume::{View, VolumeError};
use std::collections::VecDeque;

type Result<T> = std::result::Result<T, VolumeError>;

/// Makes the content of `ino` that of `from` in the source.
pub fn take_content(work: &mut Transfer<'_, '_>, ino: Ino, from: Ino) -> Result<()> {
    let inline = |ino: Ino| Key::new(ino.0, Kind::Inline, 0);
    let wanted = work.source.get(&inline(from))?.map(|value| value.to_vec());
    let found = work.before.get(&inline(ino))?.map(|value| value.to_vec());
    if wanted != found {
        if wanted.as_deref() == Some(PURGED_INLINE) {
            return Err(VolumeError::Purged("purged: the content was taken out of the store".into()));
        }
        work.set(inline(ino), wanted)?;
    }
    take_extents(work, ino, from)
}

fn take_extents(work: &mut Transfer<'_, '_>, ino: Ino, from: Ino) -> Result<()> {
    let (before, source) = (work.before, work.source);
    let (here, there) = (ends(ino), ends(from));
    let (mut old, mut new) = (extents_of(before, &here).peekable(), extents_of(source, &there).peekable());
    // What came may be in more pieces than it was, since parts of it have moved: none is put where what goes may still be.
    let mut come_pieces: VecDeque<(u64, Extent)> = VecDeque::new();
    loop {
        // Whoever is first; both if they are at the same place.
        let at = |next: Option<&Result<(u64, Extent)>>| match next {
            Some(Ok((at, _))) => Some(*at),
            Some(Err(_)) => Some(0),
            None => None,
        };
        let (left, right) = (at(old.peek()), at(new.peek()));
        let first = left.into_iter().chain(right).min();
        while come_pieces.front().is_some_and(|(at, _)| first.is_none_or(|first| *at < first))
            && let Some((at, extent)) = come_pieces.pop_front()
        {
            work.txn.insert(Key::new(ino.0, Kind::Extent, at), &extent.encode())?;
        }
        let Some(first) = first else { return Ok(()) };
        let take = |is_first: bool, from: &mut dyn Iterator<Item = Result<(u64, Extent)>>| {
            if is_first { from.next().transpose() } else { Ok(None) }
        };
        let gone = take(left == Some(first), &mut old)?;
        let come = take(right == Some(first), &mut new)?;
        if let (Some((_, gone)), Some((_, come))) = (&gone, &come)
            && source.is_same_place(gone, come)
        {
            continue;
        }
        if let Some((at, extent)) = gone {
            work.txn.remove(&Key::new(ino.0, Kind::Extent, at))?;
            work.txn.free(&extent);
        }
        if let Some((at, extent)) = come {
            let shared = work.txn.share(&extent)?;
            come_pieces.extend(extents::lay(at, shared));
        }
    }
}

fn ends(ino: Ino) -> [Key; 2] {
    [0, u64::MAX].map(|rest| Key::new(ino.0, Kind::Extent, rest))
}

fn extents_of<'v>(
    view: &'v View,
    [from, to]: &'v [Key; 2],
) -> impl Iterator<Item = Result<(u64, Extent)>> + 'v {
    view.range(from, to).map(|item| item.and_then(|(key, value)| decode_extent(&key, &value)))
}

/// Makes the extended attributes of `ino` those of `from` in the source.
pub fn take_xattrs(work: &mut Transfer<'_, '_>, ino: Ino, from: Ino) -> Result<()> {
    let items = |view: &View, ino: Ino| {
        let (first, end) = (Key::new(ino.0, Kind::Xattr, 0), Key::new(ino.0, Kind::Inline, 0));
        let all = view.range(&first, &end).map(|item| item.map(|(key, value)| (key, value.to_vec())));
        all.collect::<Result<Vec<_>>>()
    };
    let (old, new) = (items(work.before, ino)?, items(work.source, from)?);
    let rest = |key: &Key| (key.kind, key.rest);
    for (key, _) in &old {
        if new.binary_search_by_key(&rest(key), |(key, _)| rest(key)).is_err() {
            work.set(*key, None)?;
        }
    }
    for (key, value) in new {
        let same =
            old.binary_search_by_key(&rest(&key), |(key, _)| rest(key)).is_ok_and(|i| old[i].1 == value);
        if !same {
            work.set(Key { object: ino.0, ..key }, Some(value))?;
        }
    }
    Ok(())
}
