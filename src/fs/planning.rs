//! What deleting snapshots and clones would bring back, and which of a line's snapshots bring back a wanted amount at the least
//! loss of history.
//!
//! Nothing is changed, but that what was changed before is committed, so that it counts. How little a snapshot is worth (why so:
//! docs/decisions/0037): least what its schedule does not keep; then what the coarsest class of one keeps; then what was made before
//! something was done, which takes that back; most what somebody made.

use super::file_system::Fs;
use crate::format::LineId;
use crate::format::provenance::Reason;
use crate::ops::Result;
use crate::schedule::{decide, least_loss};
use crate::volume::{Planner, SnapshotInfo};
use std::collections::HashMap;

/// Worths: of what no rule keeps; above it those that the classes of schedules keep; of guards; and of what people made.
const WORTH_NONE: u64 = 0;
const WORTH_GUARD: u64 = 1 << 41;
const WORTH_USERS: u64 = 1 << 42;
/// No class is coarser, in seconds.
const CLASS_SECS_MAX: u64 = 1 << 40;

/// Snapshots that bring back a wanted amount.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoomPlan {
    /// Those to be deleted, first what is worth the least; if it cannot be reached, those that bring back the most that can be
    /// had, and none that adds nothing to that.
    pub snapshots: Vec<SnapshotInfo>,
    /// What that brings back, in bytes.
    pub freed: u64,
    /// It is as much as is wanted.
    pub is_enough: bool,
}

impl Fs {
    /// To plan on what has been changed until now.
    pub fn planner(&self) -> Result<Planner<'_>> {
        if !self.heads.is_read_only() {
            self.past.let_go_of_point();
            self.commits.commit()?;
        }
        Ok(self.heads.volume.planner()?)
    }

    /// What comes back, in bytes, if all snapshots go that go by themselves before a write fails: as it was counted last, and 0
    /// where nobody keeps schedules.
    pub fn may_free(&self) -> u64 {
        self.past.room.may_free_bytes()
    }

    /// What comes back by itself, in bytes, of what was deleted and nobody reads: as it was counted last, and so as `df` has it.
    pub fn comes_back(&self) -> u64 {
        self.past.room.coming_bytes()
    }

    /// Why nobody may delete a snapshot now: in words behind "it is".
    pub fn keeps_from_deletion(&self, snapshot: &SnapshotInfo) -> Option<&'static str> {
        self.past.keeps_from_deletion(snapshot)
    }

    /// Why nothing may be purged from a snapshot now, in the same way.
    pub fn keeps_from_purge(&self, snapshot: &SnapshotInfo) -> Option<&'static str> {
        self.past.keeps_from_purge(snapshot)
    }

    /// The snapshots of a line's own to delete so that so many bytes come back, at the least loss.
    pub fn plan_room(&self, planner: &Planner<'_>, line: LineId, wanted: u64) -> Result<RoomPlan> {
        let all = self.dispensable(planner, line)?;
        let worths: Vec<u64> = all.iter().map(|(worth, _)| *worth).collect();
        let mut freed =
            |set: &[usize]| planner.would_free(&set.iter().map(|i| all[*i].1.id).collect::<Vec<_>>());
        let chosen = least_loss(&worths, wanted, planner.tries_max(), &mut freed)?;
        let is_enough = chosen.is_some();
        let chosen = match chosen {
            Some(chosen) => chosen,
            None => {
                let every: Vec<usize> = (0..all.len()).collect();
                let most = freed(&every)?;
                least_loss(&worths, most, planner.tries_max(), &mut freed)?.unwrap_or(every)
            }
        };
        let freed = freed(&chosen)?;
        let snapshots = chosen.into_iter().map(|i| all[i].1.clone()).collect();
        Ok(RoomPlan { snapshots, freed, is_enough })
    }

    /// Snapshots of a line's own that may be given for space, with what they are worth, the least first: not the newest of the line or of a
    /// schedule, and nothing that is in use or that a clone is compared with.
    fn dispensable(&self, planner: &Planner<'_>, line: LineId) -> Result<Vec<(u64, SnapshotInfo)>> {
        let mut worths = HashMap::new();
        let now = self.heads.clock.now().secs;
        for schedule in self.heads.volume.line(line)?.schedules {
            let taken = self.past.scheduled(line, &schedule.name);
            let rulings = decide(&schedule, &self.past.as_taken(&taken), now);
            for (snapshot, ruling) in taken.iter().zip(&rulings) {
                let class = WORTH_NONE + 1 + CLASS_SECS_MAX - ruling.class_secs().min(CLASS_SECS_MAX);
                worths.insert(snapshot.id, if ruling.goes() { WORTH_NONE } else { class });
            }
            worths.extend(taken.last().map(|last| (last.id, u64::MAX)));
        }
        let worth = |s: &SnapshotInfo| match worths.get(&s.id) {
            Some(worth) => *worth,
            None => match s.provenance.reason.name_prefix() {
                Some(prefix) if s.name.starts_with(prefix.as_bytes()) => match s.provenance.reason {
                    // Of a schedule that is gone.
                    Reason::Schedule => WORTH_NONE + 1,
                    _ => WORTH_GUARD,
                },
                _ => WORTH_USERS,
            },
        };
        let mut own = self.heads.volume.own_snapshots(line);
        own.pop();
        own.retain(|s| self.past.keeps_from_going(s).is_none() && !planner.is_base(s.id));
        let mut all: Vec<_> = own.into_iter().map(|s| (worth(&s), s)).collect();
        all.retain(|(worth, _)| *worth != u64::MAX);
        all.sort_by_key(|(worth, s)| (*worth, s.created, s.id));
        Ok(all)
    }
}
