//! What differs, inode by inode, as changes in the packets of a stream.
//!
//! Of files only ranges that are mapped otherwise are told, each with what is stored there as it is stored. Content is read
//! when it is written to the stream, proved by its checksums.

use super::content_sum::sum_of_item;
use super::inodes::InodeVisitor;
use super::packets::PacketWriter;
use super::shares::Shares;
use super::stream_error::{Result, StreamError};
use crate::format::inode::Inode;
use crate::format::stream::{ContentPlace, ContentSide, INO_END, StreamChange};
use crate::format::{BLOCK_BYTES, Extent, Ino, Key, Kind};
use crate::fs::items::{decode_extent, extents};
use crate::volume::View;

/// What was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SentStream {
    /// Sum over what is in the snapshot.
    pub digest: u128,
    /// Packets of the stream.
    pub packets: u64,
    /// Bytes that were written.
    pub bytes: u64,
    /// Bytes of content in the stream, as they are stored.
    pub content_bytes: u64,
    /// Of these, content with several references that may have been sent before.
    pub shared_bytes: u64,
}

/// What tells it.
pub struct Teller<'t> {
    old: Option<&'t View>,
    /// The snapshot.
    pub new: &'t View,
    shares: Shares,
    /// Where it goes.
    pub packets: PacketWriter<'t>,
    /// What was told so far.
    pub told: SentStream,
    /// The inode was there, and is not there any more.
    was_there: bool,
    is_gone: bool,
    progress: &'t mut dyn FnMut(u64) -> bool,
}

impl InodeVisitor for Teller<'_> {
    type Error = StreamError;

    fn begin(&mut self, ino: Ino, old: Option<&Inode>, new: Option<&Inode>) -> Result<()> {
        if ino >= INO_END {
            return Err(StreamError::Refused(
                "an inode has a number beyond what a stream can tell (2^39)".into(),
            ));
        }
        (self.was_there, self.is_gone) = (old.is_some(), new.is_none());
        if self.is_gone { self.packets.put(&StreamChange::Clear(ino, Ino(ino.0 + 1))) } else { Ok(()) }
    }

    fn item(&mut self, key: &Key, old: Option<&[u8]>, new: Option<&[u8]>) -> Result<()> {
        if let Some(old) = old {
            self.told.digest = self.told.digest.wrapping_sub(sum_of_item(key, old)?);
        }
        if let Some(new) = new {
            self.told.digest = self.told.digest.wrapping_add(sum_of_item(key, new)?);
        }
        if self.is_gone {
            return Ok(());
        }
        if key.kind == Kind::Extent as u8 {
            return self.extents(key, old, new);
        }
        match (old, new) {
            (_, Some(new)) => self.packets.put(&StreamChange::Set(*key, new)),
            (Some(_), None) => self.packets.put(&StreamChange::Remove(*key)),
            (None, None) => Ok(()),
        }
    }

    fn end(&mut self) -> Result<()> {
        Ok(())
    }
}

impl<'t> Teller<'t> {
    /// Tells `new` to whoever has `old`.
    pub fn new(
        old: Option<&'t View>,
        new: &'t View,
        shares: Shares,
        packets: PacketWriter<'t>,
        progress: &'t mut dyn FnMut(u64) -> bool,
    ) -> Teller<'t> {
        let told = SentStream::default();
        Teller { old, new, shares, packets, told, was_there: false, is_gone: false, progress }
    }

    /// Tells in what the extents under a key differ from what the other view has in their ranges.
    fn extents(&mut self, key: &Key, old: Option<&[u8]>, new: Option<&[u8]>) -> Result<()> {
        let ino = Ino(key.object);
        if let Some(old) = old {
            let (at, extent) = decode_extent(key, old)?;
            let end = at + extent.len_bytes();
            let mut from = at;
            for (start, found) in extents::overlapping(self.new, ino, at, end, usize::MAX)? {
                if start > from {
                    self.packets.put(&StreamChange::Hole(ino, from, start))?;
                }
                from = start + found.len_bytes();
            }
            if from < end {
                self.packets.put(&StreamChange::Hole(ino, from, end))?;
            }
        }
        let Some(new) = new else { return Ok(()) };
        let (at, extent) = decode_extent(key, new)?;
        let end = at + extent.len_bytes();
        // What an inode without a name had is not what the receiver has.
        let before = match self.old.filter(|_| self.was_there) {
            Some(view) => extents::overlapping(view, ino, at, end, usize::MAX)?,
            None => Vec::new(),
        };
        let mut from = at;
        for (start, found) in before {
            let (first, last) = (start.max(at), (start + found.len_bytes()).min(end));
            let (a, b) = (found.cut(first - start, last - first), extent.cut(first - at, last - first));
            for (inside, len) in self.same_parts(&a, &b)? {
                self.mapped(ino, from, &extent, (at, first + inside))?;
                from = first + inside + len;
            }
        }
        self.mapped(ino, from, &extent, (at, end))
    }

    /// The parts, by offset and length, in which the receiver has what `now` is: where that was before is `before`. That is
    /// all of it if it is at the same place, and blocks that were written again with the same bytes, or have come home.
    fn same_parts(&self, before: &Extent, now: &Extent) -> Result<Vec<(u64, u64)>> {
        let len = now.len_bytes();
        if self.new.is_same_place(before, now) {
            return Ok(vec![(0, len)]);
        }
        let sum = |extent: &Extent, at| extent.checksum_at(at);
        let looks_same = |at: &u64| sum(now, *at).is_some() && sum(before, *at) == sum(now, *at);
        let blocks: Vec<u64> = (0..len).step_by(BLOCK_BYTES as usize).filter(looks_same).collect();
        let Some(old) = self.old.filter(|_| !blocks.is_empty()) else { return Ok(Vec::new()) };
        // A checksum is no proof. What cannot be read of the base is told: not for a failure that passes, or what is told
        // again would be something else.
        let [mut was, mut is] = [vec![0; len as usize], vec![0; len as usize]];
        let mut can_be_read = || old.read_extent(before, 0, &mut was).is_ok();
        if !can_be_read() && !can_be_read() {
            return Ok(Vec::new());
        }
        self.new.read_extent(now, 0, &mut is)?;
        let mut parts: Vec<(u64, u64)> = Vec::new();
        for at in blocks {
            let block = at as usize..(at + BLOCK_BYTES) as usize;
            match parts.last_mut() {
                _ if was[block.clone()] != is[block.clone()] => {}
                Some((from, len)) if *from + *len == at => *len += BLOCK_BYTES,
                _ => parts.push((at, BLOCK_BYTES)),
            }
        }
        Ok(parts)
    }

    /// Tells the part of an extent at `at` that is from `from` to `to` in the file.
    pub fn mapped(&mut self, ino: Ino, from: u64, extent: &Extent, (at, to): (u64, u64)) -> Result<()> {
        if from >= to {
            return Ok(());
        }
        let part = extent.cut(from - at, to - from);
        if part.is_unwritten() {
            return self.packets.put(&StreamChange::Space(ino, from, part.len_bytes()));
        }
        if part.is_compressed() {
            return self.piece(ino, from, &part);
        }
        if !self.shares.is_shared(&part) {
            return self.content(ino, from, &part);
        }
        let mut done = 0;
        for (len, place) in self.shares.parts(&part) {
            let offset = from + done;
            match place {
                Some(place) => {
                    let len = len as u32;
                    self.packets.put(&StreamChange::Share { ino, offset, len, place, piece: None })?;
                }
                None => self.content(ino, offset, &part.slice(done, len))?,
            }
            done += len;
        }
        Ok(())
    }

    /// Tells a piece of a frame.
    fn piece(&mut self, ino: Ino, offset: u64, part: &Extent) -> Result<()> {
        let from = part.frame.map_or(0, |frame| frame.from);
        match self.shares.frame(part) {
            Some(place) => {
                let (len, piece) = (part.len_bytes() as u32, Some(from));
                self.packets.put(&StreamChange::Share { ino, offset, len, place, piece })
            }
            None => self.content(ino, offset, part),
        }
    }

    fn content(&mut self, ino: Ino, offset: u64, part: &Extent) -> Result<()> {
        let (stored_len, len) = (part.stored_bytes(), part.len_bytes() as u32);
        self.told.content_bytes += stored_len;
        if self.shares.is_shared(part) {
            self.told.shared_bytes += stored_len;
        }
        if !(self.progress)(self.told.content_bytes) {
            let stopped = std::io::Error::new(std::io::ErrorKind::Interrupted, "it was stopped");
            return Err(StreamError::Carrier(stopped));
        }
        let new = self.new;
        self.packets.put_content(StreamChange::content_len(stored_len), |payload| {
            let mut stored = vec![0; stored_len as usize];
            new.read_stored(part, &mut stored)?;
            let (crcs, frame) = (part.crcs.clone(), part.frame);
            StreamChange::Content { ino, offset, len, frame, crcs, stored: &stored }.put(payload);
            Ok(())
        })?;
        self.shares.note(part, ContentPlace { side: ContentSide::Here, ino, offset });
        Ok(())
    }
}
