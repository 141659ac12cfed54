//! Many snapshots that are deleted together, and how far it is with what was deleted.
//!
//! They go in one record of the log, so all or none; each commit then takes some of them out of the history
//! ([`Volume::delete_snapshot`]). No more than the caller names at a time: others wait meanwhile.

use super::history::MetaRead;
use super::history::deadlist::{self, ALL};
use super::snapshot::RECORDS_OF_A_POINT;
use super::{ReserveFor, Result, Volume};
use crate::format::job::Job;
use crate::format::log::Effect;
use crate::format::{LineId, ViewId};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// What is still to be done for what was deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Leftover {
    /// Deleted snapshots and heads that are in the history still.
    pub views: usize,
    /// Of these, how many stay until nobody reads them any more.
    pub read: usize,
    /// And how many there is no room to take out of the history, or of which something cannot be read. Nothing below counts them.
    pub without_room: usize,
    /// Lists and trees that are being freed.
    pub jobs: usize,
    /// Others, of which something cannot be read: they are tried again when the store is opened anew.
    pub jobs_set_aside: usize,
    /// What comes back of all these, but for trees that are being walked: nobody knows before.
    pub bytes: u64,
    /// Of that, what comes back only when nobody reads any more what is read now.
    pub read_bytes: u64,
}

impl Volume {
    /// True if something was deleted that no commit has taken yet: its space is on its way.
    pub fn has_deleted(&self) -> bool {
        !self.state.read().deletes.is_empty()
    }

    /// Fails if a snapshot of a line would not be deleted now.
    pub fn check_deletable(&self, line: LineId, id: ViewId) -> Result<()> {
        let state = self.state.read();
        state.of_line(line, id).and_then(|()| self.check_may_go(&state, id))
    }

    /// Deletes these snapshots of a line, each as [`Volume::delete_snapshot`] does, or says of it why it stays.
    pub fn delete_snapshots(&self, line: LineId, all: &[ViewId]) -> Result<Vec<Result<()>>> {
        self.check_writable()?;
        let mut turn = self.turn();
        let mut held_up = self.removals.begin();
        let allowed = |id: &ViewId| turn.of_line(line, *id).and_then(|()| self.check_may_go(&turn, *id));
        let told: Vec<Result<()>> = all.iter().map(allowed).collect();
        let go: BTreeSet<ViewId> =
            all.iter().zip(&told).filter(|(_, told)| told.is_ok()).map(|(id, _)| *id).collect();
        if go.is_empty() {
            return Ok(told);
        }
        self.reserve_records(&turn, RECORDS_OF_A_POINT * go.len(), ReserveFor::Delete)?;
        held_up.views = go.len();
        let state = turn.alone();
        go.iter().for_each(|id| state.delete(*id));
        self.append_all(&turn, go.iter().map(|id| Effect::Delete(*id)));
        drop((held_up, turn));
        self.write_log();
        Ok(told)
    }

    /// How far it is with what was deleted, but for what a clone is compared with, which stays as long as the clone, and points
    /// without a name that are kept for what may be deleted yet. Holds off commits while it reads the meta tree, and nobody else.
    pub fn leftover(&self) -> Result<Leftover> {
        Ok(self.leftover_and_cost()?.0)
    }

    /// The same, and how long it took without what it waited for a commit.
    pub fn leftover_and_cost(&self) -> Result<(Leftover, Duration)> {
        let committer = self.committer.lock();
        let begun = Instant::now();
        let (history, without_room, going, unread) = {
            let state = self.state.read();
            let all = state.postponed.iter().chain(&state.deletes).copied();
            let is_kept_for_itself = |id: &ViewId| state.rolling.contains(id) && self.shared.is_read(*id);
            let stays = |id: &ViewId| state.lines.is_base(*id) || is_kept_for_itself(id);
            let (without_room, going): (BTreeSet<ViewId>, BTreeSet<ViewId>) =
                all.filter(|id| !stays(id)).partition(|id| state.no_room.contains_key(id));
            let unread = going.iter().filter(|id| !self.shared.is_read(**id)).copied();
            let unread: BTreeSet<ViewId> = unread.collect();
            ((!going.is_empty()).then(|| state.history.clone()), without_room.len(), going, unread)
        };
        let meta = MetaRead { pager: &self.shared.pager, root: &committer.meta_root };
        let would_free = |set| history.as_ref().map_or(Ok(0), |history| history.would_free(set, meta));
        let mut bytes = would_free(&going)?;
        let read = going.len() - unread.len();
        let read_bytes = if read == 0 { 0 } else { bytes.saturating_sub(would_free(&unread)?) };
        for job in committer.jobs.going_on() {
            if let Job::FreeList(list) = job {
                bytes = bytes.saturating_add(deadlist::sum(meta, *list, ALL)?);
            }
        }
        let (jobs, jobs_set_aside) = (committer.jobs.going_on().count(), committer.jobs.set_aside());
        let views = going.len() + without_room;
        let left = Leftover { views, read, without_room, jobs, jobs_set_aside, bytes, read_bytes };
        Ok((left, begun.elapsed()))
    }
}
