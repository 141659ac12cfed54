//! Promotion: a clone becomes the line that it came from, or another. The line gets the clone's tree as its head, and the clone's
//! snapshots; what it had stays as a snapshot, the guard. The clone is no more.
//!
//! For both it is as a rollback is: the same is in the way, and what is open is stale from then on.

use super::clonedir::path_of;
use super::rollback::{OpenForWriting, Switched};
use super::snapdir::{Past, check_snapshot_name};
use crate::clock::dotted;
use crate::format::line::LineRecord;
use crate::format::provenance::{Provenance, Reason};
use crate::format::{Ino, LineId, ViewId};
use crate::ops::{Error, Result, Timestamp};
use crate::volume::{ReserveFor, SnapshotInfo};
use std::collections::HashSet;

/// What is to become of a clone.
#[derive(Clone, Copy, Debug)]
pub struct PromotionOrder<'n> {
    /// Its name.
    pub clone: &'n [u8],
    /// The line that it becomes: a clone by its name, the main line by an empty one. None: the line that it came from.
    pub onto: Option<&'n [u8]>,
    /// The name of the guard. None: an automatic one.
    pub keep_as: Option<&'n [u8]>,
    /// What becomes of files that are open for writing.
    pub writers: OpenForWriting,
}

/// How a promotion has ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Promoted {
    /// It went as a rollback does.
    Switched(Switched),
    /// The line that the clone came from is gone, and no other was named.
    NoLine,
    /// The line has another snapshot of that name.
    NameTaken(Vec<u8>),
}

impl Past {
    /// Carries out such an order; durable when this returns. On an error, and if it is refused, nothing is left.
    pub fn promote(&self, order: &PromotionOrder<'_>, why: &Provenance) -> Result<Promoted> {
        let heads = &self.commits.heads;
        heads.check_writable()?;
        let clone = heads.volume.find_line(order.clone);
        let onto = order.onto.and_then(|name| heads.volume.find_line(name));
        let above = clone.as_ref().and_then(|clone| heads.volume.line_above(clone.id));
        let now: Vec<_> =
            [clone, onto, above].into_iter().flatten().filter_map(|line| heads.of_line(&line)).collect();
        self.have_room_ahead(ReserveFor::Record, &now)?;
        let _kept = self.under_way.keep_covers();
        let held = self.one_at_a_time();
        let from = heads.volume.find_line(order.clone).ok_or(Error::NotFound)?;
        let onto = match order.onto {
            Some(b"") => Some(heads.volume.line(LineId::MAIN)?),
            Some(name) => Some(heads.volume.find_line(name).ok_or(Error::NotFound)?),
            None => heads.volume.line_above(from.id),
        };
        let Some(onto) = onto else { return Ok(Promoted::NoLine) };
        if onto.id == from.id {
            return Err(Error::Invalid);
        }
        if heads.main().line == from.id {
            return Err(Error::Busy); // it is the root of the mount
        }
        let head = |line: &LineRecord| heads.of_line(line).ok_or(Error::Stale);
        let (gone, line) = (head(&from)?, head(&onto)?);
        let name = match order.keep_as {
            Some(name) => {
                check_snapshot_name(name, Reason::User)?;
                name.to_vec()
            }
            None => self.automatic_name_besides(&line, why.reason, Some(from.id))?,
        };
        let is_taken = |line| heads.volume.find_snapshot(line, &name).is_some();
        let both = heads.volume.names_of_both(from.id, onto.id);
        let renamed = match self.other_names(&both, onto.id, &name) {
            Ok(_) if is_taken(onto.id) || is_taken(from.id) => return Ok(Promoted::NameTaken(name)),
            Ok(renamed) => renamed,
            Err(taken) => return Ok(Promoted::NameTaken(taken)),
        };
        let cut = [line, gone.clone()];
        let done = self.switch(held, &cut, order.writers, (&name, why), &mut |guard, prepare| {
            let switched = &mut |line: &LineRecord| {
                heads.replace(line);
                heads.remove(from.id);
            };
            heads.volume.promote_with_guard(from.id, onto.id, (guard, &renamed), prepare, switched)
        });
        let (done, durable) = done?;
        if let Switched::Done(_) = &done {
            // As when it is dropped: its nodes are no more.
            let root = gone.node(Ino::ROOT);
            heads.kernel().detach_below(root, &path_of(&from.name));
            self.forget_clonedir();
            self.tell_clonedir(&from.name);
            // Lines that were made from it show them by their new names.
            self.tell_gone(&both.into_iter().map(|s| s.name).collect::<Vec<_>>());
        }
        durable.map(|()| Promoted::Switched(done))
    }

    /// Other names for snapshots whose names the line has that they come to: of automatic ones the next free second, as when they are
    /// made. A name that somebody has given is nobody's to change: the first such.
    fn other_names(
        &self,
        both: &[SnapshotInfo],
        onto: LineId,
        guard: &[u8],
    ) -> std::result::Result<Vec<(ViewId, Vec<u8>)>, Vec<u8>> {
        let volume = &self.commits.heads.volume;
        let mut given = HashSet::from([guard.to_vec()]);
        let other = |s: &SnapshotInfo| {
            let prefix =
                s.provenance.reason.name_prefix().filter(|prefix| s.name.starts_with(prefix.as_bytes()));
            let prefix = prefix.ok_or_else(|| s.name.clone())?;
            let second = |later| dotted(Timestamp { secs: s.created.0.saturating_add(later), nanos: 0 });
            let names = (1..).map(|later| format!("{prefix}{}", second(later)).into_bytes());
            let mut free = names.filter(|name| !given.contains(name) && volume.is_free_for(s, onto, name));
            let name = free.next().ok_or_else(|| s.name.clone())?;
            given.insert(name.clone());
            Ok((s.id, name))
        };
        both.iter().map(other).collect()
    }
}
