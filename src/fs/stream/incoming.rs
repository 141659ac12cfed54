//! Taking in a packet: all of it in one transaction of the line that is received, with how far it is then.
//!
//! Each change may be done again, and so may a packet: a range is made what it is to be, whatever is there. What goes away is
//! taken away in bounded steps before, each a transaction of its own, whatever all of its changes take away together. Whether what is there in the end makes sense is
//! judged then; here nothing is believed but what decodes, and content is proved by its checksums before it is stored.

use super::stream_error::{Result, StreamError};
use crate::format::inode::Inode;
use crate::format::stream::{
    ArrivalRecord, ContentPlace, ContentSide, INO_END, ITEM_BYTES_MAX, StreamChange,
};
use crate::format::{BLOCK_BYTES, Extent, Ino, Key, Kind, LineId, item};
use crate::fs::items::{Items, away_record, decode_extent, extents, goes_home};
use crate::fs::past::Past;
use crate::limits::FILE_BYTES_MAX;
use crate::ops::{self, RoomFor};
use crate::volume::{ReserveFor, Staged, StoredContent, Txn, View, Volume, VolumeError};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

/// Items that are taken away in one step, and with a packet besides.
const STEP_ITEMS: usize = 256;

/// A line that is received.
pub struct Incoming<'i> {
    /// What makes room.
    pub past: &'i Past,
    /// The line.
    pub line: LineId,
    /// The base as it is here.
    pub base: Option<&'i View>,
}

/// Takes in the changes of a packet, after which the line is as far as `record` says. `bad` makes the error of what cannot be.
pub fn take_in(
    into: &Incoming<'_>,
    payload: &[u8],
    record: &ArrivalRecord,
    bad: &dyn Fn(String) -> StreamError,
) -> Result<()> {
    let volume = &into.past.commits.heads.volume;
    let (mut changes, mut rest, mut item_bytes) = (Vec::new(), payload, 0);
    while !rest.is_empty() {
        let before = rest.len();
        let change = StreamChange::take(&mut rest).map_err(|e| bad(e.0))?;
        prove(&change, volume).map_err(bad)?;
        if !matches!(change, StreamChange::Content { .. }) {
            item_bytes += before - rest.len();
        }
        if item_bytes > ITEM_BYTES_MAX {
            return Err(bad(format!("more than {ITEM_BYTES_MAX} bytes of changes beside content")));
        }
        changes.push(change);
    }
    allow(into, &changes)?;
    let mut going = all_going(into, &changes)?;
    while take_away(into, &mut going)? {}
    let stored: Vec<StoredContent<'_>> = changes.iter().filter_map(content_of).collect();
    let wrong = RefCell::new(None);
    let done = into.past.in_room(RoomFor::Change(payload.len() as u64), || {
        let staged = volume.stage_stored(&stored)?;
        let spaces = changes.iter().filter_map(|change| match change {
            StreamChange::Space(_, _, len) => Some(volume.stage_unwritten(*len)),
            _ => None,
        });
        let spaces = spaces.collect::<Changed<VecDeque<Staged>>>()?;
        let mut txn = volume.begin(into.line)?;
        let taken = txn.attempt(|txn| {
            let mut work = Work::new(txn, into, &wrong);
            work.stored = work.txn.publish(staged).into();
            work.spaces = spaces;
            changes.iter().try_for_each(|change| work.take(change))?;
            work.settle()?;
            txn.insert(Key::new(Ino::ARRIVAL.0, Kind::Arrival, 0), &record.encode())?;
            txn.reserve_attempted(ReserveFor::Write)
        });
        Ok(taken?)
    });
    done.map_err(|e: ops::Error| match wrong.into_inner() {
        Some(what) => bad(what),
        None => StreamError::Failed(e),
    })
}

/// Has programs that do not know what inodes say that come here refuse the store, before the first of them comes.
fn allow(into: &Incoming<'_>, changes: &[StreamChange<'_>]) -> Result<()> {
    let volume = &into.past.commits.heads.volume;
    let has_layout = |change: &StreamChange<'_>| match change {
        StreamChange::Set(key, value) if key.kind == Kind::Inode as u8 => {
            Inode::decode(value).is_ok_and(|inode| inode.layout.is_some())
        }
        _ => false,
    };
    if !volume.knows_homes() && changes.iter().any(has_layout) {
        volume.allow_homes().map_err(ops::Error::from)?;
        into.past.commits.commit()?;
    }
    Ok(())
}

/// Refuses what is nobody's to tell: what no item of an inode is, content that is not what its checksums say, and frames that
/// are none.
fn prove(change: &StreamChange<'_>, volume: &Volume) -> std::result::Result<(), String> {
    let of_view = |key: &Key| {
        let kind = Kind::from_u8(key.kind);
        // Where content lies, what has no name and how far a line is are each store's own.
        let own = matches!(kind, Some(Kind::Extent | Kind::Orphan | Kind::Arrival | Kind::Away));
        let fits = !own && key.object < INO_END.0;
        if fits { item::prove_key(key).map_err(|e| e.0) } else { Err(format!("no item is told by {key:?}")) }
    };
    match change {
        StreamChange::Set(key, value) => {
            of_view(key)?;
            item::prove(key, value).map_err(|e| e.0)?;
            let named =
                key.kind != Kind::Inode as u8 || Inode::decode(value).is_ok_and(|inode| inode.nlink > 0);
            if named { Ok(()) } else { Err(format!("inode {} has no name", key.object)) }
        }
        StreamChange::Remove(key) => of_view(key),
        StreamChange::Clear(from, to) => {
            let fits = *from == Ino::ROOT && to.0 == from.0 + 1 || *from >= Ino::FIRST_FREE;
            if fits { Ok(()) } else { Err(format!("numbers {} to {} are no inodes", from.0, to.0)) }
        }
        StreamChange::ClearItems(from, _) => {
            let ino = Ino(from.object);
            let fits = ino == Ino::ROOT || (Ino::FIRST_FREE..INO_END).contains(&ino);
            if fits { Ok(()) } else { Err(format!("number {} is no inode", ino.0)) }
        }
        StreamChange::Content { ino, offset, crcs, stored, frame, .. } => {
            let blocks = stored.chunks(BLOCK_BYTES as usize);
            if let Some(n) = blocks.zip(crcs).position(|(block, crc)| crc32c::crc32c(block) != *crc) {
                return Err(format!(
                    "inode {}: block {n} of the content at {offset} has a wrong checksum",
                    ino.0
                ));
            }
            let proved = frame.map_or(Ok(()), |frame| volume.prove_frame(&frame, stored));
            proved
                .map_err(|e| format!("inode {}: the content at {offset} cannot be decompressed: {e}", ino.0))
        }
        _ => Ok(()),
    }
}

fn content_of<'c>(change: &'c StreamChange<'_>) -> Option<StoredContent<'c>> {
    let StreamChange::Content { frame, crcs, stored, .. } = change else { return None };
    let frame = frame.map(|frame| crate::format::Frame { from: 0, ..frame });
    Some(StoredContent { bytes: stored, crcs, frame })
}

/// What a change takes away: items between two keys. Those of a hole are cut, where they begin before it.
#[derive(Clone, Copy)]
struct Going {
    from: Key,
    to: Key,
    is_hole: bool,
}

impl Going {
    fn change(self) -> StreamChange<'static> {
        match self.is_hole {
            true => StreamChange::Hole(Ino(self.from.object), self.from.rest, self.to.rest),
            false => StreamChange::ClearItems(self.from, self.to),
        }
    }
}

/// All that these changes take away.
fn all_going(into: &Incoming<'_>, changes: &[StreamChange<'_>]) -> Changed<VecDeque<Going>> {
    let view = into.past.commits.heads.volume.live(into.line)?;
    let mut all = VecDeque::new();
    for change in changes {
        all.extend(going(change));
        if let StreamChange::Set(key, _) = change
            && key.kind == Kind::Inode as u8
            && view.inode(Ino(key.object))?.is_none_or(|inode| inode.nlink == 0)
        {
            // As it does for a file without a name that has the number.
            let [from, to] = [key.object, key.object + 1].map(|object| Key { object, kind: 0, rest: 0 });
            all.push_back(Going { from, to, is_hole: false });
        }
    }
    Ok(all)
}

fn going(change: &StreamChange<'_>) -> Option<Going> {
    match change {
        StreamChange::Clear(from, to) => {
            let [from, to] = [from, to].map(|ino| Key { object: ino.0, kind: 0, rest: 0 });
            Some(Going { from, to, is_hole: false })
        }
        StreamChange::ClearItems(from, to) => Some(Going { from: *from, to: *to, is_hole: false }),
        StreamChange::Hole(ino, from, to) => {
            let [from, to] = [from, to].map(|offset| Key::new(ino.0, Kind::Extent, *offset));
            Some(Going { from, to, is_hole: true })
        }
        _ => None,
    }
}

/// Takes away the first [`STEP_ITEMS`] of all that goes. False, with nothing done, if there are no more: the packet does that.
fn take_away(into: &Incoming<'_>, going: &mut VecDeque<Going>) -> Result<bool> {
    let volume = &into.past.commits.heads.volume;
    let (mut step, mut items) = (Vec::new(), 0);
    let mut cut = None;
    {
        let view = volume.live(into.line)?;
        for (n, part) in going.iter().enumerate() {
            let left = STEP_ITEMS - items;
            let keys = view.range(&part.from, &part.to).take(left + 1).map(|item| item.map(|(key, _)| key));
            let keys = keys.collect::<Changed<Vec<_>>>()?;
            if keys.len() > left {
                let end = keys[left];
                if part.from < end {
                    step.push(Going { to: end, ..*part });
                }
                cut = Some((n, end));
                break;
            }
            items += keys.len();
            step.push(*part);
        }
    }
    let Some((n, end)) = cut else { return Ok(false) };
    into.past.in_room(RoomFor::Deletion, || {
        let mut txn = volume.begin(into.line)?;
        let wrong = RefCell::new(None);
        let taken = txn.attempt(|txn| {
            let mut work = Work::new(txn, into, &wrong);
            step.iter().try_for_each(|part| work.take(&part.change()))?;
            work.settle()?;
            txn.reserve_attempted(ReserveFor::Delete)
        });
        Ok(taken?)
    })?;
    going.drain(..n);
    if let Some(part) = going.front_mut() {
        part.from = end;
    }
    Ok(true)
}

type Changed<T> = std::result::Result<T, VolumeError>;

/// The work on one packet, inside of an attempt.
struct Work<'w, 'a> {
    txn: &'w mut Txn<'a>,
    base: Option<&'w View>,
    /// By how many bytes the mapped space of each file has grown.
    grown: BTreeMap<Ino, i64>,
    /// What is stored of the contents to come, in order, and the space of the spaces.
    stored: VecDeque<Extent>,
    spaces: VecDeque<Staged>,
    /// What the stream says that cannot be.
    wrong: &'w RefCell<Option<String>>,
}

impl<'w, 'a> Work<'w, 'a> {
    fn new(txn: &'w mut Txn<'a>, into: &Incoming<'w>, wrong: &'w RefCell<Option<String>>) -> Work<'w, 'a> {
        let (grown, stored, spaces) = (BTreeMap::new(), VecDeque::new(), VecDeque::new());
        Work { txn, base: into.base, grown, stored, spaces, wrong }
    }

    /// The stream says what cannot be: nothing of the packet is taken in.
    fn refuse<T>(&self, what: String) -> Changed<T> {
        *self.wrong.borrow_mut() = Some(what);
        Err(VolumeError::NoSuchView)
    }

    /// Carries out a change.
    fn take(&mut self, change: &StreamChange<'_>) -> Changed<()> {
        match change {
            StreamChange::Set(key, value) => self.set(key, value),
            StreamChange::Remove(key) => self.txn.remove(key).map(drop),
            StreamChange::Clear(from, to) => {
                let [from, to] = [from, to].map(|ino| Key { object: ino.0, kind: 0, rest: 0 });
                self.clear(&from, &to)
            }
            StreamChange::ClearItems(from, to) => self.clear(from, to),
            StreamChange::Hole(ino, from, to) => self.map(*ino, *from, *to, &[]),
            StreamChange::Space(ino, offset, len) => self.space(*ino, *offset, *len),
            StreamChange::Content { ino, offset, len, frame, stored, .. } => {
                let (mut new, mut at) = (Vec::new(), *offset);
                let end = offset + u64::from(*len);
                let mut left = stored.len() as u64;
                while left > 0 {
                    let Some(extent) = self.stored.pop_front() else {
                        return self.refuse("more content than was stored".into());
                    };
                    left = left.saturating_sub(extent.stored_bytes());
                    let extent = match frame {
                        Some(frame) => extent.cut(frame.from.into(), (*len).into()),
                        None => extent,
                    };
                    let len = extent.len_bytes();
                    new.push((at, extent));
                    at += len;
                }
                self.map(*ino, *offset, end, &new)
            }
            StreamChange::Share { ino, offset, len, place, piece } => {
                self.share(*ino, *offset, (*len).into(), place, *piece)
            }
        }
    }

    fn set(&mut self, key: &Key, value: &[u8]) -> Changed<()> {
        if key.kind != Kind::Inode as u8 {
            return self.txn.insert(*key, value);
        }
        let ino = Ino(key.object);
        let before = self.txn.view().inode(ino)?.filter(|inode| inode.nlink > 0);
        if before.is_none() {
            // What the base has of a file without a name that had the number, and of its purge, is no part of this one.
            let [from, to] = [ino.0, ino.0 + 1].map(|object| Key { object, kind: 0, rest: 0 });
            self.clear(&from, &to)?;
            self.grown.remove(&ino);
            self.txn.remove(&Key::new(Ino::ORPHANS.0, Kind::Orphan, ino.0))?;
        }
        let blocks = before.map_or(0, |inode| inode.blocks);
        let Ok(inode) = Inode::decode(value) else { return self.refuse(format!("inode {}", ino.0)) };
        self.txn.raise_next_ino(Ino(ino.0 + 1).max(Ino::FIRST_FREE));
        self.txn.insert(*key, &Inode { blocks, ..inode }.encode())
    }

    fn clear(&mut self, from: &Key, to: &Key) -> Changed<()> {
        let items = self.txn.view().range(from, to).collect::<Changed<Vec<_>>>()?;
        for (key, value) in items {
            self.txn.remove(&key)?;
            if key.kind == Kind::Extent as u8 {
                let (_, extent) = decode_extent(&key, &value)?;
                *self.grown.entry(Ino(key.object)).or_default() -= extent.occupied_bytes() as i64;
                self.txn.free(&extent);
            }
        }
        Ok(())
    }

    fn map(&mut self, ino: Ino, from: u64, to: u64, new: &[(u64, Extent)]) -> Changed<()> {
        let to = to.min(FILE_BYTES_MAX);
        // As a write does: what takes the place of the base's content has its home.
        let at_home = !new.is_empty() && self.txn.knows_homes() && {
            let inode = self.txn.view().inode(ino)?;
            inode.map_or(Ok(false), |inode| goes_home(self.txn.view(), &inode))?
        };
        let grown = match at_home {
            true => {
                if self.txn.view().get(&away_record(ino))?.is_none() {
                    self.txn.insert(away_record(ino), &[])?;
                }
                extents::replace_at_home(self.txn, ino, from, to, extents::Keep::Nothing, new)?
            }
            false => extents::replace(self.txn, ino, from, to, extents::Keep::Nothing, new)?,
        };
        *self.grown.entry(ino).or_default() += grown;
        Ok(())
    }

    fn space(&mut self, ino: Ino, offset: u64, len: u64) -> Changed<()> {
        let Some(staged) = self.spaces.pop_front() else {
            return self.refuse("more space than was asked for".into());
        };
        let extents = extents::lay(offset, self.txn.publish(staged));
        self.map(ino, offset, offset + len, &extents)
    }

    fn share(
        &mut self,
        ino: Ino,
        offset: u64,
        len: u64,
        place: &ContentPlace,
        piece: Option<u32>,
    ) -> Changed<()> {
        let here = self.txn.view().clone();
        let view = match place.side {
            ContentSide::Here => &here,
            ContentSide::Base => match self.base {
                Some(base) => base,
                None => return self.refuse("content of a base, and there is none".into()),
            },
        };
        let from = place.offset;
        let lost = || format!("content of inode {} at {from} that is not there", place.ino.0);
        let mut new = Vec::new();
        if let Some(piece) = piece {
            let found =
                extents::at(view, place.ino, from)?.and_then(|(_, extent)| extent.piece(piece, len as u32));
            let Some(found) = found else { return self.refuse(lost()) };
            new.extend(extents::lay(offset, self.txn.share(&found)?));
        } else {
            let mut at = from;
            for (start, found) in extents::overlapping(view, place.ino, from, from + len, usize::MAX)? {
                if start > at || found.is_unwritten() {
                    break;
                }
                let end = (start + found.len_bytes()).min(from + len);
                let parts = self.txn.share(&found.cut(at - start, end - at))?;
                new.extend(extents::lay(offset + (at - from), parts));
                at = end;
            }
            if at < from + len {
                return self.refuse(lost());
            }
        }
        drop(here);
        self.map(ino, offset, offset + len, &new)
    }

    /// Notes in the inodes what their files take.
    fn settle(&mut self) -> Changed<()> {
        for (ino, grown) in std::mem::take(&mut self.grown) {
            match self.txn.view().inode(ino)? {
                Some(inode) if grown != 0 => {
                    let blocks = extents::add_blocks(inode.blocks, grown);
                    let key = Key::new(ino.0, Kind::Inode, 0);
                    self.txn.insert(key, &Inode { blocks, ..inode }.encode())?;
                }
                Some(_) => {}
                None if grown <= 0 => {}
                None => return self.refuse(format!("content of inode {}, which is not there", ino.0)),
            }
        }
        Ok(())
    }
}
