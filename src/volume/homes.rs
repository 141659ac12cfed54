//! Content that comes home: what is to be known of places that content belongs to, and putting it there.
//!
//! A home is written to only when no superblock that could be mounted reaches it: when the allocator has it as free. What is
//! there goes into a tree by an ordinary transaction, and what it was before is freed by that. Why so: docs/decisions/0032.

use super::staged::Staged;
use super::view::Pin;
use super::{Result, View, Volume};
use crate::format::view::Role;
use crate::format::{BLOCK_BYTES, Epoch, Extent, LineId, ViewId};
use std::sync::Arc;

/// What is at a home.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AtHome {
    /// Nothing: its content may come.
    Nothing,
    /// What older states or readers may still reach.
    Leaving,
    /// What something refers to.
    Content,
}

impl Volume {
    /// Has the homes of what is away kept for it, as soon as they are free.
    pub fn keep_homes<'e>(&self, extents: impl IntoIterator<Item = &'e Extent>) {
        let mut alloc = self.shared.store().alloc();
        for extent in extents.into_iter().filter(|e| e.is_away()) {
            alloc.keep(extent.home().addr.0, extent.len_bytes());
        }
    }

    /// Begins to count anew whose homes are to be kept.
    pub fn begin_keeping_homes(&self) {
        self.shared.store().alloc().begin_keeping_round();
    }

    /// Homes that were not asked for since are anybody's.
    pub fn end_keeping_homes(&self) {
        self.shared.store().alloc().end_keeping_round();
    }

    /// True if the next commits will let go of places from which content was copied.
    pub fn makes_room(&self) -> bool {
        !self.copies.lock().is_empty() || self.committer.lock().remap.doubled_len() > 0
    }

    /// What is at the home of an extent that is away, run by run: bytes from its start, their number, and what is there.
    pub fn at_home(&self, extent: &Extent) -> Vec<(u64, u64, AtHome)> {
        let alloc = self.shared.store().alloc();
        let mut runs: Vec<(u64, u64, AtHome)> = Vec::new();
        for at in (0..extent.len_bytes()).step_by(BLOCK_BYTES as usize) {
            let what = match alloc.free_of_home(extent.home().addr.0 + at, BLOCK_BYTES) {
                (BLOCK_BYTES, _) => AtHome::Nothing,
                (_, BLOCK_BYTES) => AtHome::Leaving,
                _ => AtHome::Content,
            };
            match runs.last_mut() {
                Some((_, len, last)) if *last == what => *len += BLOCK_BYTES,
                _ => runs.push((at, BLOCK_BYTES, what)),
            }
        }
        runs
    }

    /// Puts content of `view` to its home, for [`super::Txn::publish`]. The homes of the extents follow each other, and all have
    /// content or none has. None if somebody else has the place by now.
    pub fn bring_home(&self, view: &View, extents: &[Extent]) -> Result<Option<Staged>> {
        self.check_writable()?;
        let Some(first) = extents.first() else { return Ok(None) };
        let (addr, len) = (first.home().addr.0, extents.iter().map(Extent::len_bytes).sum::<u64>());
        let follow =
            extents.windows(2).all(|two| two[0].home().addr.0 + two[0].len_bytes() == two[1].home().addr.0);
        assert!(follow, "homes follow each other");
        let mut data = Vec::new();
        if !first.is_unwritten() {
            data.resize(len as usize, 0);
            let mut at = 0;
            for extent in extents {
                let end = at + extent.len_bytes() as usize;
                view.read_extent(extent, 0, &mut data[at..end])?;
                at = end;
            }
        }
        let store = self.shared.store();
        if !self.note(store.take_home(addr, len).map_err(Into::into))? {
            return Ok(None);
        }
        self.note(Staged::at_home(store, addr, len, &data)).map(Some)
    }

    /// The snapshot below the head of a line that has had what was at the home of an extent from the first: if none has it
    /// any more that is newer, this has.
    pub fn holder_of(&self, line: LineId, extent: &Extent) -> Option<Arc<View>> {
        let state = self.state.read();
        let id = self.oldest_with(&state, state.lines.head(line)?, extent.home().birth)?;
        let record = state.history.get(id)?;
        if record.role != Role::Snapshot || record.line == LineId::NONE {
            return None;
        }
        let root = state.roots.get(&id)?.clone();
        let pin = Some(Pin::snapshot(&self.shared, id));
        Some(Arc::new(View { id, epoch: record.epoch, root, shared: self.shared.clone(), _pin: pin }))
    }

    /// The other heads that may reach what was at the home of an extent.
    pub fn others_with(&self, line: LineId, extent: &Extent) -> Vec<View> {
        let state = self.state.read();
        let Some(own) = state.lines.head(line) else { return Vec::new() };
        let birth = extent.home().birth;
        let Some(oldest) = self.oldest_with(&state, own, birth) else { return Vec::new() };
        let heads = state.history.views().filter(|v| v.role == Role::Head && v.id != own);
        let same = heads.filter(|head| self.oldest_with(&state, head.id, birth) == Some(oldest));
        let view = |id: ViewId| {
            let root = state.roots.get(&id)?.clone();
            let pin = Some(Pin::epoch(&self.shared, state.epoch));
            Some(View { id, epoch: state.epoch, root, shared: self.shared.clone(), _pin: pin })
        };
        same.filter_map(|head| view(head.id)).collect()
    }

    /// The oldest view below a head that is not older than a birth.
    fn oldest_with(&self, state: &super::state::VolumeState, head: ViewId, birth: Epoch) -> Option<ViewId> {
        let below = state.history.get(head)?.prev?;
        state.history.older_than(birth, below).1
    }
}
