//! Telling a snapshot against a base that is not here any more: of each leaf that is younger than the base all is told, and
//! what it does not have is told not to be there.
//!
//! What was mapped before the base came to be is mapped so in the base, too, and is not told; neither are leaves that are
//! older. So of content what has changed is told, of items the leaves with something that has. An extent may end behind the
//! keys of its leaf, and so may what was there before: what is not mapped is told up to what is mapped next, in whatever leaf.

use super::stream_error::Result;
use super::teller::Teller;
use crate::format::stream::StreamChange;
use crate::format::{BLOCK_BYTES, Epoch, Ino, Key, Kind};
use crate::fs::items::{Items, decode_extent, extents};
use crate::limits::FILE_BYTES_MAX;
use crate::volume::YoungLeaf;

const EXTENTS: u8 = Kind::Extent as u8;

/// What a base was, as far as it is kept in mind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GoneBase {
    /// Its point in time.
    pub epoch: Epoch,
    /// Inodes without a name that it had: whoever received it does not have them.
    pub nameless: Vec<Ino>,
}

/// Tells what is younger than the base.
pub fn tell_younger(teller: &mut Teller<'_>, base: &GoneBase) -> Result<()> {
    let view = teller.new;
    view.younger(base.epoch, &mut |leaf| Leaf { teller: &mut *teller, epoch: base.epoch }.tell(&leaf))?;
    // What had no name was not sent, whatever is younger of it.
    for ino in &base.nameless {
        if view.inode(*ino)?.is_some_and(|inode| inode.nlink > 0) {
            let mut whole = Leaf { teller: &mut *teller, epoch: Epoch(0) };
            let [from, to] = [ino.0, ino.0 + 1].map(|object| Key { object, kind: 0, rest: 0 });
            let items = view.range(&from, &to).map(|item| item.map(|(key, value)| (key, value.to_vec())));
            let items = items.collect::<std::result::Result<Vec<_>, _>>()?;
            items.iter().try_for_each(|(key, value)| whole.item(key, value))?;
        }
    }
    Ok(())
}

struct Leaf<'l, 't> {
    teller: &'l mut Teller<'t>,
    /// What is not younger is as it was.
    epoch: Epoch,
}

impl Leaf<'_, '_> {
    fn tell(&mut self, leaf: &YoungLeaf) -> Result<()> {
        let mut at = leaf.from;
        for (key, value) in &leaf.items {
            self.nothing(&at, key)?;
            at = key.successor();
            let ino = Ino(key.object);
            if !self.is_told(ino)? && key.kind == Kind::Inode as u8 {
                self.teller.packets.put(&StreamChange::Clear(ino, Ino(ino.0 + 1)))?;
            } else if self.is_told(ino)? {
                self.item(key, value)?;
                if key.kind == EXTENTS {
                    let (offset, extent) = decode_extent(key, value)?;
                    at = Key { rest: offset.saturating_add(extent.len_bytes()), ..*key };
                }
            }
        }
        if at < leaf.to {
            return self.nothing(&at, &leaf.to);
        }
        // What the last extent was longer by is behind the keys of its leaf.
        match Ino(at.object) {
            ino if at.kind == EXTENTS && self.is_told(ino)? => self.hole(ino, at.rest),
            _ => Ok(()),
        }
    }

    /// False for what the receiver has none of: numbers that are no inode's, and inodes without a name.
    fn is_told(&mut self, ino: Ino) -> Result<bool> {
        let is_inode = ino == Ino::ROOT || (Ino::FIRST_FREE..Ino::END).contains(&ino);
        Ok(is_inode && self.teller.new.inode(ino)?.is_some_and(|inode| inode.nlink > 0))
    }

    fn item(&mut self, key: &Key, value: &[u8]) -> Result<()> {
        if key.kind != EXTENTS {
            return self.teller.packets.put(&StreamChange::Set(*key, value));
        }
        let (at, extent) = decode_extent(key, value)?;
        if extent.birth <= self.epoch {
            return Ok(());
        }
        self.teller.mapped(Ino(key.object), at, &extent, (at, at + extent.len_bytes()))
    }

    /// Tells that there is nothing from one key up to, not including, another.
    fn nothing(&mut self, from: &Key, to: &Key) -> Result<()> {
        if from >= to {
            return Ok(());
        }
        if from.object == to.object {
            return self.nothing_of(Ino(from.object), (from.kind, from.rest), (to.kind, to.rest));
        }
        // The rest of the first inode, those in between, and the beginning of the last.
        let mut first = from.object;
        if (from.kind, from.rest) > (Kind::Inode as u8, 0) {
            self.nothing_of(Ino(first), (from.kind, from.rest), (u8::MAX, 0))?;
            first += 1;
        }
        for (low, high) in [(1, 2), (Ino::FIRST_FREE.0, Ino::END.0)] {
            let (low, high) = (first.max(low), to.object.min(high));
            if low < high {
                self.teller.packets.put(&StreamChange::Clear(Ino(low), Ino(high)))?;
            }
        }
        if to.object < Ino::END.0 {
            self.nothing_of(Ino(to.object), (0, 0), (to.kind, to.rest))?;
        }
        Ok(())
    }

    /// The same inside of one inode: kinds and what follows.
    fn nothing_of(&mut self, ino: Ino, from: (u8, u64), to: (u8, u64)) -> Result<()> {
        if !self.is_told(ino)? {
            let is_inode = ino == Ino::ROOT || (Ino::FIRST_FREE..Ino::END).contains(&ino);
            // Once is enough: where its own item would be.
            let is_first = from <= (Kind::Inode as u8, 0) && is_inode;
            return match is_first {
                true => self.teller.packets.put(&StreamChange::Clear(ino, Ino(ino.0 + 1))),
                false => Ok(()),
            };
        }
        let key = |(kind, rest): (u8, u64)| Key { object: ino.0, kind, rest };
        let end = to.min((EXTENTS, 0));
        if from < end {
            self.teller.packets.put(&StreamChange::ClearItems(key(from), key(end)))?;
        }
        if to <= (EXTENTS, 0) || from.0 > EXTENTS {
            return Ok(());
        }
        self.hole(ino, if from.0 == EXTENTS { from.1 } else { 0 })
    }

    /// Tells that a file has nothing from an offset up to what it has next.
    fn hole(&mut self, ino: Ino, from: u64) -> Result<()> {
        let start = from.next_multiple_of(BLOCK_BYTES);
        // What covers the beginning may be in the leaf before.
        let start = match extents::at(self.teller.new, ino, start)? {
            Some((at, extent)) => at + extent.len_bytes(),
            None => start,
        };
        let end = extents::next(self.teller.new, ino, start)?.map_or(FILE_BYTES_MAX, |(at, _)| at);
        if start < end {
            self.teller.packets.put(&StreamChange::Hole(ino, start, end))?;
        }
        Ok(())
    }
}
