//! Giving up what is being received, and what is kept for it.

use super::arriving::{AtWork, stream_of};
use super::snapdir::Past;
use crate::format::line::{LineRecord, LineState};
use crate::format::{Identity, ViewId};
use crate::ops::Result;
use crate::volume::ReserveFor;

impl Past {
    /// True if somebody receives into a line now, or gives it up.
    pub fn is_worked_on(&self, line: &LineRecord) -> bool {
        stream_of(line).is_some_and(|stream| self.arriving.has(stream))
    }

    /// Drops a line that is being received, by who works on it. Durable when this returns.
    pub fn give_up(&self, line: &LineRecord, _: &AtWork<'_>) -> Result<()> {
        self.have_room_ahead(ReserveFor::Delete, &[])?;
        let no_commit = self.commits.hold_off();
        self.commits.heads.volume.drop_line(line.id)?;
        drop(no_commit);
        self.commits.sync()
    }

    /// The same by whoever has seen this record of it; false, with nothing done, if it is another by now or somebody works
    /// on it.
    pub fn give_up_as_seen(&self, line: &LineRecord) -> Result<bool> {
        let on: Vec<Identity> = stream_of(line).into_iter().collect();
        let Some(at_work) = self.arriving.begin(&on) else { return Ok(false) };
        let now = self.commits.heads.volume.line(line.id);
        if now.is_ok_and(|now| now.state == LineState::Receiving && now.terms == line.terms) {
            self.give_up(line, &at_work).map(|()| true)
        } else {
            Ok(false)
        }
    }

    /// What is being received, or waits for its rest, against a snapshot: that is kept for it.
    pub fn received_against(&self, base: ViewId) -> Option<LineRecord> {
        self.commits.heads.volume.received_against(base)
    }
}
