//! Making room: content of a snapshot is copied to another place, and its references are told where it is from the next
//! commit on; the commit after that frees the place where it was.
//!
//! No step changes anything that anybody reads. The copy is made by whoever asks, without a lock; what it becomes is decided
//! by the commit, which alone knows of extra references. Why so: docs/decisions/0032.

use super::remap::{Moving, reference};
use super::{ReserveFor, Result, Staged, View, Volume};
use crate::format::remap::RemapRecord;
use crate::format::superblock::INCOMPAT_REMAP;
use crate::format::{BlockAddr, Extent};

impl Volume {
    /// True if an extent of a snapshot can be copied to another place and let go of its own by that: nothing of it has moved
    /// or is on its way, and nobody else has it.
    pub fn can_move_out(&self, extent: &Extent) -> bool {
        let places = &self.shared.places;
        if extent.is_compressed() || !places.is_in_place(extent) || places.has_moved_to(extent) {
            return false;
        }
        let entry = reference(extent);
        if self.copies.lock().iter().any(|moving| moving.has_some_of(&entry)) {
            return false;
        }
        // With other references, moving one of them would not free the place.
        !self.committer.lock().extra_refs.overlaps(entry.addr, entry.len)
    }

    /// Copies extents of a snapshot to other places; from the next commit on they are there, and from the one after it the
    /// old places are free, as far as nobody has other references to them. What has moved already, or is compressed, stays.
    /// Returns how many bytes were copied.
    ///
    /// `view` is a snapshot, and its tree has these extents.
    pub fn copy_out(&self, view: &View, extents: &[Extent]) -> Result<u64> {
        // While something is purged nothing is copied.
        let Some(_turn) = self.purging.turn.try_read() else { return Ok(0) };
        assert!(view.is_of_snapshot(), "what a head has may be let go of at any time");
        let alone: Vec<&Extent> = extents.iter().filter(|extent| self.can_move_out(extent)).collect();
        let mut copied = 0;
        for unwritten in [false, true] {
            let of_kind = |e: &&Extent| e.is_unwritten() == unwritten;
            let some: Vec<&Extent> = alone.iter().copied().filter(of_kind).collect();
            let total: u64 = some.iter().map(|e| e.len_bytes()).sum();
            if total == 0 {
                continue;
            }
            let staged = if unwritten {
                self.stage_unwritten(total)?
            } else {
                let mut data = vec![0; total as usize];
                let mut at = 0;
                for extent in &some {
                    let len = extent.len_bytes() as usize;
                    view.read_extent(extent, 0, &mut data[at..at + len])?;
                    at += len;
                }
                self.stage(&data)?
            };
            let records = records(&some, &staged);
            self.reserve_records(&self.turn(), records.len(), ReserveFor::Write)?;
            let (store, hold) = (self.shared.store().clone(), Box::new(view.clone()));
            staged.into_extents();
            self.copies.lock().push(Moving::new(store, records, hold));
            copied += total;
        }
        if copied == 0 {
            return Ok(0);
        }
        let mut turn = self.turn();
        let state = turn.alone();
        state.incompat |= INCOMPAT_REMAP;
        state.changed = true;
        Ok(copied)
    }
}

/// What tells where each of the extents is: `staged` has their content one behind the other.
fn records(extents: &[&Extent], staged: &Staged) -> Vec<RemapRecord> {
    let mut records: Vec<RemapRecord> = Vec::new();
    let mut pieces = staged.extents().iter().map(|piece| (reference(piece).addr, piece.len_bytes()));
    let (mut new, mut room) = (0, 0);
    for extent in extents {
        let (mut old, mut left) = (reference(extent).addr, extent.len_bytes());
        while left > 0 {
            if room == 0 {
                let Some(piece) = pieces.next() else { return records };
                (new, room) = piece;
            }
            let len = left.min(room);
            match records.last_mut() {
                Some(last)
                    if (last.old.0 + last.len, last.new.0 + last.len, last.birth)
                        == (old, new, extent.birth) =>
                {
                    last.len += len;
                }
                _ => records.push(RemapRecord {
                    old: BlockAddr(old),
                    birth: extent.birth,
                    len,
                    new: BlockAddr(new),
                    doubled: true,
                }),
            }
            (old, new, left, room) = (old + len, new + len, left - len, room - len);
        }
    }
    records
}
