//! Clones that go by themselves: at a moment, or when nobody has used them for a while.
//!
//! The time of day may be wrong, above all when a machine starts, so it is not enough that it says so: the clone must have been
//! watched for an hour too, or for as long as it was to be kept if that is less, and while it is watched the time of day
//! must go on as time passes. A clone in use stays: one with open files, that is mounted, with a snapshot that is kept, or
//! from which another was made. It goes when it is in use no more.

use super::clonedir::CloneEnd;
use super::snapdir::Past;
use super::watch::WatchedClone;
use crate::format::line::{LineRecord, LineState};
use crate::fs::heads::Head;
use crate::ops::Error;

/// What is kept of the last use is newer than this share of the time for which a clone may be idle.
const USED_SHARE: u64 = 8;

impl Past {
    /// Looks at the clones that may go by themselves. Those that are to go now.
    pub fn ended_clones(&self) -> Vec<(LineRecord, &'static str)> {
        let heads = &self.commits.heads;
        let lines = heads.volume.ending_lines();
        if lines.is_empty() || heads.is_read_only() {
            self.watch.seen.lock().clones.clear();
            return Vec::new();
        }
        let (now, passed) = (heads.clock.now().secs, heads.clock.passed());
        let mut seen = self.watch.seen.lock();
        if seen.is_set_since((now, passed)) {
            seen.clones.clear();
        }
        seen.last = Some((now, passed));
        let mut before = std::mem::take(&mut seen.clones);
        let mut ended = Vec::new();
        for line in lines {
            let head = heads.of_line(&line);
            // While something comes it has not ended.
            let waits = line.state == LineState::Receiving && !self.is_worked_on(&line);
            if head.is_none() && !waits {
                continue;
            }
            let known = before.remove(&line.id).filter(|clone| clone.is_watched_for(&line));
            let mut clone = known.unwrap_or(WatchedClone::since(passed, &line));
            if head.is_some_and(|head| head.take_used()) {
                clone.used = Some((passed, now));
                self.note_use(&line, now);
            }
            ended.extend(clone.end(&line, (now, passed)).map(|why| (line.clone(), why)));
            seen.clones.insert(line.id, clone);
        }
        ended
    }

    /// True if a clone that was to go by itself still is, at this moment: not if it was used or given other terms since, nor if
    /// the time of day was set.
    pub(super) fn still_ends(&self, line: &LineRecord, head: &Head) -> bool {
        let heads = &self.commits.heads;
        let at @ (now, passed) = (heads.clock.now().secs, heads.clock.passed());
        let mut seen = self.watch.seen.lock();
        if seen.is_set_since(at) {
            return false;
        }
        let Some(clone) = seen.clones.get_mut(&line.id).filter(|clone| clone.is_watched_for(line)) else {
            return false;
        };
        if head.take_used() {
            clone.used = Some((passed, now));
            self.note_use(line, now);
        }
        clone.end(line, at).is_some()
    }

    /// Keeps that a clone was used, if what is kept is old.
    fn note_use(&self, line: &LineRecord, now: i64) {
        let Some(idling) = line.terms.idling else { return };
        if now.saturating_sub_unsigned(idling.after / USED_SHARE) > idling.used {
            let noted = self.commits.heads.volume.set_terms(line.id, |terms| {
                terms.idling.iter_mut().for_each(|idling| idling.used = now);
            });
            noted.unwrap_or_else(|e| log::debug!("the use of a clone is not noted: {e}"));
        }
    }

    /// Drops the clones that are to go and are not in use. May wait for the kernel, and for whoever makes a snapshot: each is
    /// looked at once more when it is its turn.
    pub fn drop_ended_clones(&self) {
        self.ended_clones().into_iter().for_each(|(line, why)| self.drop_ended(&line, why));
    }

    /// Drops one that was to go when its record was this.
    pub fn drop_ended(&self, line: &LineRecord, why: &str) {
        let name = crate::names::shown_bytes(&line.name);
        if line.state == LineState::Receiving {
            return match self.give_up_as_seen(line) {
                Ok(true) => {
                    log::info!("what was received of a stream was given up, nobody went on: '{name}'")
                }
                Ok(false) => log::debug!("what was received of a stream is gone on with: '{name}'"),
                Err(e) => log::warn!("what was received of a stream stays ('{name}'): {e}"),
            };
        }
        match self.drop_line_if(line.id, CloneEnd::Unused) {
            Ok(_) => log::info!("the clone '{name}' was dropped: {why}"),
            Err(Error::Busy | Error::Frozen) => {
                log::debug!("the clone '{name}' stays while it is in use: {why}")
            }
            Err(e) => log::warn!("the clone '{name}' could not be dropped ({why}): {e}"),
        }
    }

    /// True if a clone is to stay for now whatever its terms say.
    pub(super) fn is_in_use(&self, line: &LineRecord, head: &Head) -> bool {
        let heads = &self.commits.heads;
        self.is_open(head)
            || heads.volume.has_clones(line.id)
            || heads.kernel().is_mounted(&super::clonedir::path_of(&line.name))
    }

    /// True if anything of a line is open.
    pub(super) fn is_open(&self, head: &Head) -> bool {
        let tree = head.node(crate::format::Ino::ROOT).tree();
        self.commits.heads.handles.all().iter().any(|node| node.tree() == tree)
    }
}
