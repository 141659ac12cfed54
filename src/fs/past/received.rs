//! What was received becomes part of the store: the head of a line that has not changed since the base, or a line of its own.
//!
//! For a line that there is it is as a promotion: what is open in it is stale from then on, and the same is in the way. Its
//! own head is the base, so nothing is lost with it and no guard is made.

use super::arriving::arrival_key;
use super::rollback::{InTheWay, OpenForWriting, Switched};
use super::snapdir::{Past, check_snapshot_name};
use crate::format::line::LineRecord;
use crate::format::provenance::Reason;
use crate::format::{Ino, LineId, ViewId};
use crate::fs::difference::has_changed;
use crate::fs::items::Items;
use crate::ops::{Error, Result};
use crate::volume::{NewSnapshot, ReceivedAs, ReserveFor, Txn, View, VolumeError};

/// How it ended.
#[derive(Debug)]
pub enum Published {
    /// It is there, as this snapshot.
    Done(ViewId),
    /// The line has changed since the base.
    Moved,
    /// It is in use in a way that forbids it.
    InUse(InTheWay),
}

/// Why something could not be received so, as far as it is known before.
#[derive(Debug)]
pub enum Unfit {
    /// No snapshot can be called so.
    Name,
    /// The base, or one below it, is called so here.
    InPast,
    /// There can be no clone of that name, or not one more.
    Clone(Error),
}

fn end_arrival(txn: &mut Txn<'_>) -> std::result::Result<(), VolumeError> {
    txn.remove(&arrival_key())?;
    txn.reserve_attempted(ReserveFor::Write)
}

impl Past {
    /// True if the head of a line is as the base, or, without one, has nothing in it yet: what is received may take its place.
    pub fn is_untouched(&self, head: &View, base: Option<&View>) -> Result<bool> {
        match base {
            Some(base) => Ok(!has_changed(base, head)?),
            None => Ok(head.inode(Ino::ROOT)?.is_none_or(|root| root.size == 0 && !root.has_xattr)),
        }
    }

    /// Asks before anything is received what [`Self::publish_received`] asks in the end: of the name of a snapshot that was made
    /// for this, on that base, and of the clone that it is to become.
    pub fn check_receiving(
        &self,
        (name, reason): (&[u8], Reason),
        base: Option<ViewId>,
        clone: Option<&[u8]>,
    ) -> std::result::Result<(), Unfit> {
        check_snapshot_name(name, reason).map_err(|_| Unfit::Name)?;
        clone.map_or(Ok(()), |clone| self.check_clone_name(clone, Reason::User)).map_err(Unfit::Clone)?;
        let in_past = base.is_some_and(|base| self.commits.heads.volume.has_in_past(base, name));
        if in_past { Err(Unfit::InPast) } else { Ok(()) }
    }

    /// Makes a whole line part of the store, with a snapshot of it; durable when this returns. On an error, and if it is
    /// refused, nothing has changed.
    pub fn publish_received(
        &self,
        arrived: &LineRecord,
        base: Option<ViewId>,
        to: ReceivedAs<'_>,
        new: &NewSnapshot<'_>,
    ) -> Result<Published> {
        let heads = &self.commits.heads;
        heads.check_writable()?;
        check_snapshot_name(new.name, new.provenance.reason)?;
        match to {
            ReceivedAs::Line(name) => self.publish_line(arrived, name, new),
            ReceivedAs::HeadOf(line) => self.publish_head(arrived, base, line, new),
        }
    }

    fn publish_line(&self, arrived: &LineRecord, name: &[u8], new: &NewSnapshot<'_>) -> Result<Published> {
        check_snapshot_name(name, Reason::User)?;
        let heads = &self.commits.heads;
        self.have_room_ahead(ReserveFor::Write, &[])?;
        let _held = self.one_at_a_time();
        self.commits.have_room_for_records(ReserveFor::Write)?;
        let no_commit = self.commits.hold_off();
        let to = ReceivedAs::Line(name);
        let add = &mut |line: &LineRecord| drop(heads.add(line));
        let id = heads.volume.publish_received(arrived.id, to, new, &mut end_arrival, add)?;
        drop(no_commit);
        let durable = self.commits.sync();
        self.forget_clonedir();
        self.tell_clonedir(name);
        durable.map(|()| Published::Done(id))
    }

    fn publish_head(
        &self,
        arrived: &LineRecord,
        base: Option<ViewId>,
        line: LineId,
        new: &NewSnapshot<'_>,
    ) -> Result<Published> {
        let heads = &self.commits.heads;
        let base_view = base.map(|base| heads.volume.snapshot(base)).transpose()?;
        // Content that came home since the base is read for that: while nobody waits for it. Afterwards only what has changed
        // since is looked at.
        let mut seen = heads.volume.live(line)?;
        if !self.is_untouched(&seen, base_view.as_deref())? {
            return Ok(Published::Moved);
        }
        self.have_room_to_switch(line)?;
        let held = self.one_at_a_time();
        let now = heads.volume.live(line)?;
        if has_changed(&seen, &now)? {
            return Ok(Published::Moved);
        }
        seen = now;
        let head = heads.of_line(&heads.volume.line(line)?).ok_or(Error::Stale)?;
        let cut = std::slice::from_ref(&head);
        let (mut moved, mut made) = (false, None);
        let guard = (new.name, new.provenance);
        let done = self.switch(held, cut, OpenForWriting::Spared, guard, &mut |_, prepare| {
            let id = heads.volume.publish_received(
                arrived.id,
                ReceivedAs::HeadOf(line),
                new,
                &mut |txn| {
                    txn.switch_to(line)?;
                    prepare(txn)?;
                    txn.switch_to(line)?;
                    moved = has_changed(&seen, txn.view())?;
                    if moved {
                        return Err(VolumeError::NoSuchView);
                    }
                    txn.switch_to(arrived.id)?;
                    end_arrival(txn)
                },
                &mut |line| heads.replace(line),
            )?;
            made = Some(id);
            Ok(base.unwrap_or(id))
        });
        match (done, made) {
            _ if moved => Ok(Published::Moved),
            (Ok((Switched::Refused(found), _)), None) => Ok(Published::InUse(found)),
            (Ok((_, durable)), Some(id)) => durable.map(|()| Published::Done(id)),
            (Ok(_), None) => Err(Error::Stale),
            (Err(e), _) => Err(e),
        }
    }
}
