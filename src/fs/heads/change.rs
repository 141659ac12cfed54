//! A change of a writable tree: what one request does, all or nothing.
//!
//! Items are collected and read back through the collection; nothing reaches the tree before [`Change::finish`] has
//! reserved the space for all of it. A change that is dropped has done nothing. The exceptions are changes of block
//! maps, which go straight into the transaction: they reserve first ([`Change::reserve`]) and then cannot be refused.
//! Has a turn at the gate and, inside it, the transaction: in this order, released in the reverse one. Readers go on until
//! something is changed; what the tree needs for that is read before, so block maps say what they will change
//! ([`Change::foresee`]). The gate closes before the transaction does the same, because readers lock in that order.

use super::dirty::{Block, DirtyBlock, zero_block};
use super::head::{Gate, Head};
use super::tripwire::LostPart;
use crate::format::inode::{INODE_BYTES, Inode};
use crate::format::leaf::VALUE_BYTES_MAX;
use crate::format::{BLOCK_BYTES, Extent, Ino, Key, Kind};
use crate::fs::error::inconsistent;
use crate::fs::items::{Items, away_record, extents, goes_home, read_blocks};
use crate::fs::log::Note;
use crate::ops::{Error, FileType, NodeId, Result, Timestamp};
use crate::volume::{Need, ReserveFor, Turn, Txn, View, VolumeError};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// For so few delayed blocks of a file the nodes that its extents are in are not counted.
const FEW_BLOCKS: u64 = 8;
/// Nor are more than this many.
const SPAN_MAX: usize = 2000;
/// Stand for values that are not known yet.
static ZEROS: [u8; VALUE_BYTES_MAX] = [0; VALUE_BYTES_MAX];

/// One change in progress.
pub struct Change<'a> {
    batch: BTreeMap<Key, Option<Vec<u8>>>,
    unlinked: Vec<Ino>,
    /// What files lose by it.
    lost: Vec<LostPart>,
    /// What was announced for the next [`Change::reserve`], and the leaves among it for whose file, see
    /// [`crate::fs::heads::dirty::Held`].
    need: Need,
    leaves: Option<(Ino, u64, u64)>,
    /// What the gate is to know once it is closed: what was reserved, and the nodes that were counted.
    held: Vec<(Ino, u64, u64)>,
    spans: Vec<(Ino, Option<usize>)>,
    /// What goes straight into the tree.
    foreseen: Vec<(Key, Option<usize>)>,
    /// Inodes whose set-id bits fall, and where to tell that when it has happened.
    fallen: (Vec<Ino>, &'a Mutex<Vec<NodeId>>),
    head: &'a Head,
    /// Dropped, and so visible, before the gate opens.
    txn: Txn<'a>,
    gate: Turn<'a, Gate>,
    /// The time of the change.
    pub now: Timestamp,
}

impl Items for Change<'_> {
    fn with<T>(
        &self,
        key: &Key,
        f: impl FnOnce(Option<&[u8]>) -> std::result::Result<T, VolumeError>,
    ) -> std::result::Result<T, VolumeError> {
        match self.batch.get(key) {
            Some(value) => f(value.as_deref()),
            None => self.txn.view().with(key, f),
        }
    }
}

impl<'a> Change<'a> {
    /// A change of `head`, at whose gate this is the turn, in a transaction that began inside of it. What it does to set-id
    /// bits it tells `fallen`.
    pub fn new(
        head: &'a Head,
        mut gate: Turn<'a, Gate>,
        txn: Txn<'a>,
        now: Timestamp,
        fallen: &'a Mutex<Vec<NodeId>>,
    ) -> Change<'a> {
        if gate.dirty.is_settling() {
            gate.alone().dirty.settled();
            gate.share();
        }
        let (batch, need, fallen) = (BTreeMap::new(), Need::default(), (Vec::new(), fallen));
        let (unlinked, lost, leaves, foreseen) = (Vec::new(), Vec::new(), None, Vec::new());
        let (held, spans) = (Vec::new(), Vec::new());
        Change { batch, unlinked, lost, need, leaves, held, spans, foreseen, fallen, head, txn, gate, now }
    }

    /// What is not in the tree.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// See [`Volume::knows_homes`](crate::volume::Volume::knows_homes).
    pub fn knows_homes(&self) -> bool {
        self.txn.knows_homes()
    }

    /// To change the tree.
    pub fn txn(&mut self) -> &mut Txn<'a> {
        self.change_both().1
    }

    /// To change both.
    pub fn change_both(&mut self) -> (&mut Gate, &mut Txn<'a>) {
        let gate = self.gate.alone();
        for (ino, leaves, beside) in self.held.drain(..) {
            let held = gate.dirty.held(ino);
            held.leaves += leaves;
            held.beside += beside;
        }
        for (ino, span) in self.spans.drain(..) {
            gate.dirty.held(ino).span = Some(span);
        }
        (gate, &mut self.txn)
    }

    /// Does all of `place`, which closes the gate as its last step, or leaves everything as it was.
    pub fn attempt(
        mut self,
        place: impl FnOnce(&mut Turn<'a, Gate>, &mut Txn<'a>) -> std::result::Result<(), VolumeError>,
    ) -> std::result::Result<(), VolumeError> {
        let gate = &mut self.gate;
        self.txn.attempt(|txn| place(gate, txn))
    }

    /// A number for a new inode.
    pub fn next_ino(&mut self) -> Result<Ino> {
        Ok(self.txn.next_ino()?)
    }

    /// Says what will come to the tree after the next [`Self::reserve`], which reads what is needed for it: a value of about
    /// this length for a key, none if that will be removed.
    pub fn foresee(&mut self, key: Key, value: Option<usize>) {
        self.foreseen.push((key, value));
    }

    /// The same of an inode that will be put, and of content in the tree that may be cut or removed.
    pub fn foresee_inode(&mut self, ino: Ino, inode: &Inode) {
        self.foresee(Key::new(ino.0, Kind::Inode, 0), Some(INODE_BYTES));
        if inode.has_inline {
            self.foresee(Key::new(ino.0, Kind::Inline, 0), None);
        }
    }

    /// Extents of a file that overlap `range` (block borders), at most so many, for [`extents::replace`] to find once more.
    pub fn mapped(&mut self, ino: Ino, range: Range<u64>, most: usize) -> Result<Vec<(u64, Extent)>> {
        Ok(self.txn.keeping(|view| extents::overlapping(view, ino, range.start, range.end, most))?)
    }

    /// Foresees that all of `range` (block borders), where there is `old`, or parts of it, will be mapped by `new`.
    pub fn foresee_map(
        &mut self,
        ino: Ino,
        range: Range<u64>,
        old: &[(u64, Extent)],
        new: impl IntoIterator<Item = (u64, usize)>,
    ) {
        let key = |at| Key::new(ino.0, Kind::Extent, at);
        for (at, ext) in old {
            self.foresee(key(*at), None);
            if *at < range.start {
                self.foresee(key(*at), Some(ext.encoded_len()));
            }
            if *at + ext.len_bytes() > range.end {
                self.foresee(key(range.end), Some(ext.encoded_len()));
            }
        }
        for (at, len) in new {
            self.foresee(key(at), Some(len));
        }
    }

    /// Reads what the tree needs for everything that is known to come.
    fn rehearse(&mut self) -> Result<()> {
        let collected = self.batch.iter().map(|(key, value)| (*key, value.as_deref()));
        if self.foreseen.is_empty() {
            return Ok(self.txn.rehearse(&collected.collect::<Vec<_>>())?);
        }
        let foreseen = std::mem::take(&mut self.foreseen);
        let mut all: Vec<_> =
            foreseen.iter().map(|(key, len)| (*key, len.map(|len| &ZEROS[..len]))).collect();
        all.extend(collected);
        all.sort_by_key(|(key, _)| *key);
        Ok(self.txn.rehearse(&all)?)
    }

    /// The generation that inodes get which the change makes.
    pub fn generation(&self) -> u64 {
        self.head.generation(FileType::Regular).0.into()
    }

    /// The tree without what was collected.
    pub fn view(&self) -> &View {
        self.txn.view()
    }

    /// The tree of another head as it is, and stays during the change.
    pub fn view_of(&self, other: &Head) -> Result<View> {
        let view = self.txn.view_of(other.line)?;
        if view.id() == other.view { Ok(view) } else { Err(Error::Stale) }
    }

    /// Collects a new value.
    pub fn put(&mut self, key: Key, value: Vec<u8>) {
        self.batch.insert(key, Some(value));
    }

    /// Collects a removal.
    pub fn delete(&mut self, key: Key) {
        self.batch.insert(key, None);
    }

    /// Has the kernel told, once the change is visible, that set-id bits of `ino` are gone.
    pub fn tell_fallen(&mut self, ino: Ino) {
        self.fallen.0.push(ino);
    }

    /// The last key from `from` to `to` that was collected.
    pub fn last_collected(&self, from: &Key, to: &Key) -> Option<&Key> {
        self.batch.range(from..=to).next_back().map(|(key, _)| key)
    }

    /// The inode of a node that the kernel knows.
    pub fn known(&self, ino: Ino) -> Result<Inode> {
        self.inode(ino)?.ok_or(Error::Stale)
    }

    /// The inode that a directory entry names: it must exist.
    pub fn named(&self, ino: Ino) -> Result<Inode> {
        Ok(self.inode(ino)?.ok_or_else(|| inconsistent(ino, "has a name but no inode"))?)
    }

    /// The inode of a directory that can take names.
    pub fn directory(&self, ino: Ino) -> Result<Inode> {
        let inode = self.known(ino)?;
        match (inode.kind, inode.nlink) {
            (FileType::Directory, 0) => Err(Error::NotFound),
            (FileType::Directory, _) => Ok(inode),
            _ => Err(Error::NotADirectory),
        }
    }

    /// The inode of a regular file.
    pub fn regular(&self, ino: Ino) -> Result<Inode> {
        let inode = self.known(ino)?;
        match inode.kind {
            FileType::Regular => Ok(inode),
            FileType::Directory => Err(Error::IsADirectory),
            _ => Err(Error::Invalid),
        }
    }

    /// Content of a block as the tree has it.
    pub fn old_block(&self, ino: Ino, inode: &Inode, n: u64) -> Result<Block> {
        let mut block = zero_block();
        let at = n * BLOCK_BYTES;
        if at < inode.size {
            let bytes = Arc::make_mut(&mut block);
            read_blocks(self.view(), ino, inode, at, bytes, |_| false)?;
        }
        Ok(block)
    }

    /// Content that the tree maps gets new content, now or by what is delayed: a file whose content goes home is put in the
    /// list. True if it is one. Before the next [`Self::reserve`].
    pub fn will_write_over(&mut self, ino: Ino, inode: &Inode) -> Result<bool> {
        if !self.knows_homes() || !goes_home(self, inode)? {
            return Ok(false);
        }
        if !self.with(&away_record(ino), |value| Ok(value.is_some()))? {
            self.put(away_record(ino), Vec::new());
        }
        Ok(true)
    }

    /// Collects content that is kept in the tree.
    pub fn put_inline(&mut self, ino: Ino, bytes: &[u8]) {
        self.put(Key::new(ino.0, Kind::Inline, 0), bytes.to_vec());
    }

    /// Collects an inode.
    pub fn put_inode(&mut self, ino: Ino, inode: &Inode) {
        self.put(Key::new(ino.0, Kind::Inode, 0), inode.encode().to_vec());
    }

    /// Takes one name off the count of `ino`; all of them from a directory.
    pub fn drop_link(&mut self, ino: Ino) -> Result<()> {
        let mut inode = self.named(ino)?;
        inode.nlink = match inode.kind {
            FileType::Directory => 0,
            _ => inode.nlink.checked_sub(1).ok_or_else(|| inconsistent(ino, "has a name and no links"))?,
        };
        let changed = std::mem::replace(&mut inode.ctime, self.now);
        self.put_inode(ino, &inode);
        if inode.nlink == 0 {
            self.unlinked.push(ino);
            if inode.kind == FileType::Regular {
                self.lost.push(LostPart { ino, size: inode.size, bytes: None, changed });
            }
        }
        Ok(())
    }

    /// Says that `range` of a file, as far as it has content, is cut off or written over. Before the inode has another time of change.
    pub fn will_lose(&mut self, ino: Ino, inode: &Inode, range: Range<u64>) {
        let bytes = range.end.min(inode.size).saturating_sub(range.start);
        if bytes > 0 {
            let changed = inode.ctime;
            self.lost.push(LostPart { ino, size: inode.size, bytes: Some(bytes), changed });
        }
    }

    /// Puts bytes into a delayed block, which is `base` if it was not delayed yet.
    pub fn write_block(&mut self, ino: Ino, block: u64, at: usize, bytes: &[u8], base: DirtyBlock) {
        let (gate, txn) = self.change_both();
        Note::Write { ino, block, at: at as u16, fresh: base.fresh, bytes }.put(txn);
        gate.dirty.edit(ino, block, || base)[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Zeroes a part of a delayed block, which is `base` if it was not delayed yet.
    pub fn zero_in_block(&mut self, ino: Ino, block: u64, part: Range<usize>, base: DirtyBlock) {
        let (at, len) = (part.start as u16, part.len() as u16);
        let (gate, txn) = self.change_both();
        Note::Zero { ino, block, at, fresh: base.fresh, len }.put(txn);
        gate.dirty.edit(ino, block, || base)[part].fill(0);
    }

    /// Forgets delayed blocks of a range.
    pub fn discard(&mut self, ino: Ino, from: u64, to: u64) {
        let (gate, txn) = self.change_both();
        if gate.dirty.discard(ino, from, to) {
            Note::Discard { ino, from, to }.put(txn);
        }
    }

    /// Secures space for the collected items, `items` more and what has been announced with [`Self::will_cut`] and
    /// [`Self::will_delay`].
    pub fn reserve(&mut self, items: usize, purpose: ReserveFor) -> Result<()> {
        self.rehearse()?;
        let items = (items + self.batch.len() + 1) as u32;
        // One for each inode that loses its last name: its orphan record.
        let later = self.unlinked.len() as u32;
        self.txn.reserve(Need { items, later, ..self.need }, purpose)?;
        self.need = Need::default();
        self.held.extend(self.leaves.take());
        Ok(())
    }

    /// Has the next [`Self::reserve`] reserve for so many more delayed blocks of `ino`.
    pub fn will_delay(&mut self, ino: Ino, inode: &Inode, blocks: u64) -> Result<()> {
        if blocks == 0 {
            return Ok(());
        }
        let all = self.gate.dirty.count(ino) + blocks;
        let held = self.gate.dirty.held_for(ino);
        let (mut leaves, mut beside) = (0, 0);
        if inode.blocks == 0 && !inode.has_inline && !inode.has_xattr {
            beside = Need::beside(all).saturating_sub(held.beside);
            self.need.beside_blocks += blocks;
        } else {
            let span = if all > FEW_BLOCKS { self.span(ino)? } else { None };
            leaves = Need::leaves(all, span).saturating_sub(held.leaves);
        }
        self.need.data_bytes += blocks * BLOCK_BYTES;
        self.need.leaves += leaves;
        self.need.beside += beside;
        self.leaves = Some((ino, leaves, beside));
        Ok(())
    }

    /// How many nodes of the tree the extents of a file are in. None if they are too many to count.
    fn span(&mut self, ino: Ino) -> Result<Option<usize>> {
        if let Some(span) = self.gate.dirty.held_for(ino).span {
            return Ok(span);
        }
        let (from, to) = (Key::new(ino.0, Kind::Extent, 0), Key::new(ino.0, Kind::Extent, u64::MAX));
        let span = self.view().nodes_between(&from, &to, SPAN_MAX)?;
        self.spans.push((ino, span));
        Ok(span)
    }

    /// Has the next [`Self::reserve`] reserve for so many compressed extents more that may be cut in two.
    pub fn will_cut(&mut self, extents: usize) {
        self.need.cuts += extents as u32;
    }

    /// Reserves, then puts everything into the tree.
    pub fn finish(mut self, purpose: ReserveFor) -> Result<()> {
        self.reserve(0, purpose)?;
        self.apply()
    }

    /// Puts everything into the tree. Space has been reserved.
    pub fn apply(mut self) -> Result<()> {
        let (batch, unlinked) = (std::mem::take(&mut self.batch), std::mem::take(&mut self.unlinked));
        let (gate, txn) = self.change_both();
        for (key, value) in batch {
            match value {
                Some(value) => txn.insert(key, &value)?,
                None => {
                    txn.remove(&key)?;
                }
            }
        }
        for ino in unlinked {
            Note::Unlinked { ino }.put(txn);
            gate.unlinked.insert(ino, false);
        }
        let lost = std::mem::take(&mut self.lost);
        let (head, (fallen, told)) = (self.head, (std::mem::take(&mut self.fallen.0), self.fallen.1));
        drop(self); // visible from here on
        if !lost.is_empty() {
            head.tripwire.note(&lost);
        }
        if !fallen.is_empty() {
            told.lock().extend(fallen.into_iter().map(|ino| head.node(ino)));
        }
        Ok(())
    }
}
