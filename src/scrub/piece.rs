//! One piece of a scrub: some superblocks, a part of a tree, some content.

use super::hits;
use super::plan::{self, Work};
use super::scrub::{Scrub, list};
use crate::format::header::BlockKind;
use crate::format::scrub::{Finding, ScrubState, Stage};
use crate::format::superblock::SLOT_BYTES;
use crate::format::view::ViewRecord;
use crate::format::{BLOCK_BYTES, BlockPtr, Epoch, Extent, Ino, Key, Kind, PlacedExtent, space_map};
use crate::store::{Store, StoreError};
use crate::tree::{Bounds, Met, Span, Step, scan};
use crate::volume::scrub::Pinned;
use crate::volume::{Volume, VolumeError};

/// Blocks of the space map at most: a chain that does not end is damage.
const SPACE_MAP_BLOCKS_MAX: usize = 1 << 20;

/// The reading of a part of one tree.
struct TreeScan<'a> {
    scrub: &'a mut Scrub,
    state: &'a Pinned,
    /// The view whose tree it is; none: the meta tree.
    view: Option<&'a ViewRecord>,
    root: &'a BlockPtr,
    newer_than: Epoch,
    /// Where it starts.
    from: Key,
    /// Bytes read, and the number that is enough.
    read: u64,
    enough: u64,
    /// Where it stopped, if not at the end.
    stopped: Option<Key>,
}

impl Scrub {
    /// Reads on from the cursor, up to about `enough` bytes or to the end of what it is in. Moves the cursor.
    pub(super) fn piece(
        &mut self,
        volume: &Volume,
        state: &Pinned,
        work: &[Work],
        enough: u64,
    ) -> Result<u64, VolumeError> {
        let mut cursor = self.record.cursor;
        let (read, end) = match cursor.stage {
            Stage::Tables => (self.tables(volume, state)?, true),
            Stage::Meta => {
                let root = state.superblock.meta_root;
                let (read, stopped) = self.part(state, None, &root, Epoch(0), cursor.key, enough)?;
                cursor.key = stopped.unwrap_or(Key::MIN);
                (read, stopped.is_none())
            }
            Stage::Snapshots | Stage::Heads => {
                let Some((work, from)) = plan::next(work, &cursor) else {
                    self.record.state = ScrubState::Finished;
                    return Ok(0);
                };
                cursor = from;
                let Some(view) = state.history.get(work.view) else { return Ok(0) };
                let (root, key) = (&work.root, cursor.key);
                let (read, stopped) = self.part(state, Some(view), root, cursor.newer_than, key, enough)?;
                if stopped.is_none() {
                    self.name_files(state, root);
                }
                // No view has the next number yet or ever again: what comes next is found by it.
                cursor.number += u64::from(stopped.is_none());
                cursor.key = stopped.unwrap_or(Key::MIN);
                (read, false)
            }
        };
        if end {
            cursor.stage = if cursor.stage == Stage::Tables { Stage::Meta } else { Stage::Snapshots };
            (cursor.number, cursor.key) = (0, Key::MIN);
        }
        self.record.cursor = cursor;
        Ok(read)
    }

    /// Superblocks and the space map.
    fn tables(&mut self, volume: &Volume, state: &Pinned) -> Result<u64, VolumeError> {
        for slot in volume.scrub_superblocks() {
            let what = format!("superblock slot at {:#x}: {}", slot.addr, slot.what);
            match slot.healed {
                true => {
                    log::warn!("scrub: healed {what}");
                    self.record.healed += 1;
                }
                false => {
                    let len = SLOT_BYTES as u64;
                    self.found(Finding { addr: slot.addr, len, what, ..Finding::default() });
                }
            }
        }
        let store = state.pager.store();
        let (mut at, mut blocks, mut read) = (state.superblock.space_map, 0, 0);
        while let Some(ptr) = at.filter(|_| blocks < SPACE_MAP_BLOCKS_MAX) {
            let decoded = store.read_block(&ptr, &[BlockKind::SpaceMap]).and_then(|(bytes, header)| {
                Ok(space_map::decode(&bytes, header.count).map_err(StoreError::from)?.0)
            });
            at = decoded.unwrap_or_else(|e| {
                self.found(lost_block("space map", &ptr, &e));
                None
            });
            read += self.count(&ptr);
            blocks += 1;
        }
        still_there(store)?;
        self.drain(store, "space map");
        Ok(read)
    }

    fn part(
        &mut self,
        state: &Pinned,
        view: Option<&ViewRecord>,
        root: &BlockPtr,
        newer_than: Epoch,
        from: Key,
        enough: u64,
    ) -> Result<(u64, Option<Key>), VolumeError> {
        let mut part =
            TreeScan { scrub: self, state, view, root, newer_than, from, read: 0, enough, stopped: None };
        scan(&state.pager, root, Bounds { newer_than, from }, &mut |met| part.met(met))?;
        let (read, stopped) = (part.read, part.stopped);
        self.drain(state.pager.store(), "tree");
        Ok((read, stopped))
    }

    fn count(&mut self, ptr: &BlockPtr) -> u64 {
        let bytes = ptr.ranges().map(|(_, len)| len).sum();
        self.done(bytes);
        self.rest(bytes);
        bytes
    }

    /// So many bytes were read.
    fn rest(&mut self, bytes: u64) {
        if let Some(rest) = &mut self.rest {
            rest(bytes);
        }
    }

    /// A node on the way to where a piece starts may count twice, and what a deleted snapshot had, too.
    fn done(&mut self, bytes: u64) {
        self.record.done_bytes = (self.record.done_bytes + bytes).min(self.record.total_bytes);
    }

    /// Takes in what the store has met: blocks with a bad copy and a good one.
    pub(super) fn drain(&mut self, store: &Store, place: &str) {
        for bad in store.take_bad_sides() {
            if bad.healed {
                self.record.healed += 1;
                continue;
            }
            let (addr, len) = (bad.addr, bad.len);
            let what =
                format!("{place}: bad on side {} of the mirror, good on the other: {}", bad.side, bad.what);
            self.found(Finding { addr, len, what, ..Finding::default() });
        }
        for bad in store.take_bad() {
            if bad.healed {
                // The store has told it.
                self.record.healed += 1;
            } else {
                let (addr, len) = (bad.addr.0, u64::from(bad.ptr.len));
                let what = format!(
                    "{place}: the copy at {} of the block at {} is bad, another is good: {}",
                    bad.addr, bad.ptr.addr, bad.what
                );
                self.found(Finding { addr, len, what, ..Finding::default() });
            }
        }
    }

    /// The end of a tree: which files have items in the nodes of it that are lost.
    fn name_files(&mut self, state: &Pinned, root: &BlockPtr) {
        let lost = std::mem::take(&mut self.lost);
        if lost.is_empty() {
            return;
        }
        for (n, span) in lost {
            let Some(finding) = n.and_then(|n| self.findings.get_mut(n)) else { continue };
            (finding.files_total, finding.files) = hits::files(&state.pager, root, &[span]);
            log::error!(
                "scrub: {} hits {} files{}",
                finding.what,
                finding.files_total,
                list(": ", &finding.files)
            );
            self.unsaved.extend(n);
        }
        // The search has met the same bad blocks again.
        let _known = (state.pager.store().take_bad(), state.pager.store().take_bad_sides());
    }
}

impl TreeScan<'_> {
    fn met(&mut self, met: Met<'_>) -> Result<Step, StoreError> {
        match met {
            Met::Node(ptr, span, level) => {
                if level == 0 && self.is_enough(span.least) {
                    return Ok(Step::Stop);
                }
                // Nodes on the way to the start were read before.
                if span.least >= self.from {
                    self.read += self.scrub.count(ptr);
                }
            }
            Met::Lost(ptr, span, _, e) => {
                still_there(self.state.pager.store()).map_err(|_| e.clone())?;
                self.read += self.scrub.count(ptr);
                self.lost(ptr, span, e);
            }
            Met::Item(key, value) => {
                if self.is_enough(key) {
                    return Ok(Step::Stop);
                }
                if self.view.is_some() && key.kind == Kind::Extent as u8 {
                    match Extent::decode(value) {
                        Ok(extent) => self.extent(&key, &extent)?,
                        Err(e) => {
                            let what = format!("content of inode {}: {e}", key.object);
                            self.scrub.found(Finding { what, ..Finding::default() });
                        }
                    }
                }
            }
        }
        Ok(Step::Into)
    }

    /// True if this key is for the next piece. Never for the first: each piece gets on.
    fn is_enough(&mut self, key: Key) -> bool {
        let enough = self.read >= self.enough && key > self.from;
        if enough {
            self.stopped = Some(key);
        }
        enough
    }

    fn lost(&mut self, ptr: &BlockPtr, span: Span, e: &StoreError) {
        let Some(view) = self.view else {
            self.scrub.found(lost_block("meta tree", ptr, e));
            return;
        };
        let pager = &self.state.pager;
        let key = span.least;
        let views = hits::views(self.state, view, &|root| crate::tree::leads_to(pager, root, &key, ptr));
        let last = span.end.map_or("the end".to_string(), |end| end.object.to_string());
        let finding = Finding {
            what: format!("tree node with what is of inodes {} to {last}: {e}", key.object),
            views_total: views.len() as u64,
            views,
            ..lost_block("", ptr, e)
        };
        let n = self.scrub.found(finding);
        self.scrub.lost.push((n, span));
    }

    fn extent(&mut self, key: &Key, extent: &Extent) -> Result<(), StoreError> {
        if extent.birth <= self.newer_than || extent.birth > self.scrub.record.until {
            return Ok(());
        }
        self.scrub.done(extent.stored_bytes());
        if extent.is_unwritten() {
            return Ok(());
        }
        let store = self.state.pager.store();
        let mut placed = self.state.remap.left_of(extent);
        // What was purged since is not there, either.
        placed.retain(|(_, part)| !store.rewrites().is_purged(part.addr(), part.extent().stored_bytes()));
        if placed.is_empty() {
            return Ok(());
        }
        self.read += extent.stored_bytes();
        let good = placed.iter().all(|(_, part)| store.has_content(part));
        self.scrub.rest(extent.stored_bytes());
        if good {
            return Ok(());
        }
        // Runs of bad blocks: offset in what is stored, length, what is wrong with the first.
        let mut runs: Vec<(u64, u64, StoreError)> = Vec::new();
        let mut block = [0; BLOCK_BYTES as usize];
        for (start, part) in &placed {
            for at in (0..part.extent().stored_bytes()).step_by(BLOCK_BYTES as usize) {
                let Err(e) = store.read_stored(part, at, &mut block) else { continue };
                still_there(store)?;
                match runs.last_mut() {
                    Some((from, len, _)) if *from + *len == at => *len += BLOCK_BYTES,
                    _ => runs.push((at, BLOCK_BYTES, e)),
                }
            }
            runs.drain(..).for_each(|(at, len, e)| self.bad_content(key, part, (*start, at), len, &e));
        }
        Ok(())
    }

    /// `len` bytes from `at` of what is stored of a part of an extent, which begins at `start` in it, are bad. If it is
    /// compressed all of its content is lost.
    fn bad_content(
        &mut self,
        key: &Key,
        part: &PlacedExtent<'_>,
        (start, at): (u64, u64),
        len: u64,
        e: &StoreError,
    ) {
        let Some(view) = self.view else { return };
        let (pager, ino) = (&self.state.pager, Ino(key.object));
        let extent = part.extent();
        let (offset, bytes) = if extent.is_compressed() {
            (key.rest, extent.len_bytes())
        } else {
            (key.rest + start + at, len)
        };
        let addr = part.addr() + at;
        let remap = &self.state.remap;
        let maps = |root: &BlockPtr| hits::maps(pager, remap, root, ino, offset, addr);
        let views = hits::views(self.state, view, &maps);
        self.scrub.found(Finding {
            addr,
            len,
            files_total: 1,
            views_total: views.len() as u64,
            what: format!("content, bytes {offset} to {}: {e}", offset + bytes),
            files: vec![hits::path(pager, self.root, ino)],
            views,
        });
    }
}

fn lost_block(place: &str, ptr: &BlockPtr, e: &StoreError) -> Finding {
    let what = format!("{place}: {e}");
    Finding { addr: ptr.addr.0, len: u64::from(ptr.len), what, ..Finding::default() }
}

/// Tells a bad block from a device that is gone.
fn still_there(store: &Store) -> Result<(), StoreError> {
    store.read_raw(0, &mut [0; SLOT_BYTES])
}
