//! Sides that come and go: a new one is taken in, filled and made an equal; one is parted, or forgotten.

use super::label::{clear_labels, read_label, write_label};
use super::mirror::{
    Member, Members, Mirror, MirrorError, NewSide, Parted, SideRole, refused, serving, unproved,
};
use super::side::MirrorSide;
use super::timed::Holding;
use crate::device::bystander::{Beside, Bystander};
use crate::device::{Device, DeviceError};
use crate::format::mirror::{Label, PARTNER_PATH_MAX, Standing};
use crate::names::shown_bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

/// How often it is looked whether calls of a side have returned.
const CALLS_PAUSE: Duration = Duration::from_millis(10);

/// Makes a call on a side that takes part in nothing yet, which is late only if the one beside answers meanwhile. What is held of it
/// is held until the call has returned.
fn within<T: Send + 'static>(
    side: &MirrorSide,
    (limit, beside): (Duration, &Beside),
    held: &Holding,
    call: impl FnOnce(&dyn Device) -> Result<T, DeviceError> + Send + 'static,
) -> Result<T, DeviceError> {
    let held = held.clone();
    side.within(limit, beside, move |device| {
        let done = call(device);
        drop(held);
        done
    })
}

impl Mirror {
    /// The label that the side that serves has from when its partner is taken in again to be filled. What is noted there before
    /// that is noted for its generation. None if it has none.
    #[must_use]
    pub fn label_to_fill(&self) -> Option<Label> {
        self.label().map(|ours| self.to_fill(&ours))
    }

    fn to_fill(&self, ours: &Label) -> Label {
        if ours.standing == Standing::Alone && ours.opened {
            // It was begun with since the store was opened.
            return Label { number: ours.number + 1, ..ours.clone() };
        }
        Label { opened: true, ..ours.begun_again(self.next_after(ours), self.reached.load(SeqCst)) }
    }

    /// Takes in another side, which is to be filled: from now on it gets all changes. Its label says durably before
    /// anything else that it is no store, and its superblocks are gone after that. `rings` are where these are.
    ///
    /// # Errors
    /// If there are two sides, or calls of the one that was there, or of this one, have not returned.
    pub fn join(&self, new: NewSide, rings: &[(u64, u64)]) -> Result<(), MirrorError> {
        self.join_held(new, rings, Arc::new(()), &|| Ok(()))
    }

    /// The same of a side that others are kept from as long as somebody has `held`: if it does not come to be a side, that is
    /// until all calls have returned. When the one that serves has a label, and nothing was written to the other, `labelled`
    /// is called.
    ///
    /// # Errors
    /// Those of [`Mirror::join`], and of `labelled`.
    pub fn join_held(
        &self,
        new: NewSide,
        rings: &[(u64, u64)],
        held: Holding,
        labelled: &dyn Fn() -> Result<(), MirrorError>,
    ) -> Result<(), MirrorError> {
        let side = Arc::new(MirrorSide::unasked(new.device.clone(), &self.crew));
        let joined = self.take_in(&side, new, rings, (&held, labelled));
        if joined.is_err() {
            self.remember(side);
        }
        joined
    }

    fn take_in(
        &self,
        side: &Arc<MirrorSide>,
        new: NewSide,
        rings: &[(u64, u64)],
        (held, labelled): (&Holding, &dyn Fn() -> Result<(), MirrorError>),
    ) -> Result<(), MirrorError> {
        let (n, survivor) = {
            let members = self.members.read();
            // A loss that no flush has met yet: the label of the survivor must not call equal what is about to be written over.
            self.announce(&members)?;
            let Some(n) = serving(&members).first().copied() else { return refused("no side serves") };
            match (&members[1 - n], &members[n]) {
                (Some(other), _) if other.side.is_there() => {
                    return refused("there are two sides already");
                }
                (Some(other), _) if other.side.pending_calls() > 0 => {
                    return refused(
                        "calls of the side that was lost have not returned: it cannot be attached before",
                    );
                }
                (_, Some(survivor)) => (n, survivor.side.clone()),
                _ => return refused("no side serves"),
            }
        };
        for path in [&new.path, &new.partner_path] {
            if path.len() > PARTNER_PATH_MAX {
                return refused(format!(
                    "{}: the path is too long to be noted: {} bytes, at most {PARTNER_PATH_MAX}",
                    shown_bytes(path),
                    path.len()
                ));
            }
        }
        let limit_ms = u32::try_from(new.limit.as_millis()).unwrap_or(u32::MAX).max(1);
        let beside: Beside = Some(survivor.clone());
        let limit = (new.limit, &beside);
        let returned = |place| {
            if self.return_within(&side.device, place, limit) {
                return Ok(());
            }
            refused(
                "calls of this side have not returned, and could change it later: it cannot be attached before",
            )
        };
        returned(None)?;
        let place = within(side, limit, held, |device| Ok(device.describe()))?;
        side.set_place(place);
        returned(Some(side.place()))?;
        let theirs = within(side, limit, held, |device| read_label(device))?;
        let old = theirs.as_ref().map_or(0, |label| label.number);
        let mut labels = self.labels.lock();
        let known = match (&labels[n], theirs) {
            (Some(ours), Some(theirs))
                if ours.pair == theirs.pair && ours.partner == theirs.side && theirs.partner == ours.side =>
            {
                Some((self.to_fill(ours), theirs))
            }
            _ => None,
        };
        // One that does not count is newer than none all the same.
        let there = if labels[n].is_none() { read_label(&*survivor.device).ok().flatten() } else { None };
        let unknown = there.map_or(0, |label| label.number);
        let (ours, theirs) = known.unwrap_or_else(|| {
            let mut pair = [0; 16];
            pair[..8].copy_from_slice(&self.fresh().to_le_bytes());
            pair[8..].copy_from_slice(&self.fresh().to_le_bytes());
            let name = self.fresh();
            let partner = loop {
                let partner = self.fresh();
                if partner != name {
                    break partner;
                }
            };
            let ours = Label {
                pair,
                number: labels[n].as_ref().map_or(unknown, |label| label.number) + 1,
                side: name,
                partner,
                standing: Standing::Alone,
                current: self.fresh(),
                parted_from: 0,
                parted_at: 0,
                parted_secs: 0,
                earlier: Vec::new(),
                limit_ms,
                opened: true,
                home: None,
                wide: 0,
                path: Vec::new(),
            };
            let theirs = Label { side: partner, partner: name, number: old, opened: false, ..ours.clone() };
            (ours, theirs)
        });
        let number = theirs.number + 1;
        let wide = self.wide.load(SeqCst);
        let ours = Label { limit_ms, wide, path: new.path, ..ours };
        let standing = Standing::Incomplete;
        let theirs = Label { number, standing, limit_ms, wide, path: new.partner_path, ..theirs };
        write_label(&*survivor.device, &ours)?;
        labels[n] = Some(ours);
        drop(labels);
        labelled()?;
        // It may hang: nothing is held over its calls.
        let label = theirs.clone();
        within(side, limit, held, move |device| write_label(device, &label))?;
        for (offset, len) in rings.iter().copied() {
            within(side, limit, held, move |device| device.write_at(offset, &vec![0; len as usize]))?;
        }
        within(side, limit, held, |device| device.flush())?;
        self.labels.lock()[1 - n] = Some(theirs);
        self.limit_ms.store(u64::from(limit_ms), SeqCst);
        self.leaving.store(1 - n, SeqCst);
        let joined = Some(Member { side: side.clone(), role: SideRole::Target });
        // Closed when the lock is free again.
        let old = std::mem::replace(&mut self.members.write()[1 - n], joined);
        drop(old);
        Ok(())
    }

    /// Has labels of sides that join from now on note where the store ended before it was to fit on another.
    pub fn set_wide(&self, bytes: u64) {
        self.wide.store(bytes, SeqCst);
    }

    /// Has the address space end where the only side does, if there is only one.
    pub fn fit_only_side(&self) {
        if let [Some(only), None] | [None, Some(only)] = &*self.members.read() {
            self.size.fetch_max(only.side.device.size(), SeqCst);
        }
    }

    /// The side that is being filled has everything: makes the two equals. Durable when it returns.
    ///
    /// # Errors
    /// If that side is lost, or a label cannot be written.
    pub fn complete(&self) -> Result<(), MirrorError> {
        let target = |members: &Members| {
            let is = |m: &Option<Member>| m.as_ref().is_some_and(|m| m.role != SideRole::Serving);
            members.iter().position(is)
        };
        let n = {
            let mut members = self.members.write();
            let Some(n) = target(&members) else { return refused("no side is being filled") };
            if let Some(member) = &mut members[n] {
                member.role = SideRole::Joining;
            }
            n
        };
        // What was acknowledged before is durable on the other side alone; what comes from now on, on both.
        let flushed = self.on(n, |device| {
            device.flush()?;
            let lost = device.location().lost;
            lost.map_or(Ok(()), |what| Err(DeviceError::refused(std::io::ErrorKind::NotFound, what)))
        });
        let members = self.members.read().clone();
        if let Err(e) = flushed {
            return Err(self.given_up(e));
        }
        let mut labels = self.labels.lock();
        let (Some(ours), Some(theirs), Some(member)) = (&labels[1 - n], &labels[n], &members[1 - n]) else {
            return refused("a side has no label");
        };
        let before = [ours.clone(), theirs.clone()];
        let ours = ours.followed(Standing::Together, self.fresh(), self.reached.load(SeqCst));
        // It has what the other has, and nothing of its own: so the past of that is its past.
        let theirs = Label {
            number: theirs.number + 1,
            side: theirs.side,
            partner: theirs.partner,
            path: theirs.path.clone(),
            ..ours.clone()
        };
        let written = write_label(&*member.side.device, &ours);
        // What may be there has to be taken back before anything is acknowledged alone.
        labels[1 - n] = Some(if written.is_ok() { ours } else { unproved(&before[0], ours) });
        written?;
        let label = theirs.clone();
        let written = self.on_member(&members, n, move |device| write_label(device, &label));
        labels[n] = Some(if written.is_ok() { theirs } else { unproved(&before[1], theirs) });
        drop(labels);
        if let Err(e) = written {
            self.give_up(&e.to_string());
            return Err(e.into());
        }
        if let Some(member) = &mut self.members.write()[n] {
            member.role = SideRole::Serving;
        }
        Ok(())
    }

    /// Has the label of a side that serves alone say so, also if nothing was flushed since the other was lost. Durable when it
    /// returns.
    ///
    /// # Errors
    /// If the label cannot be written.
    pub fn announce_loss(&self) -> Result<(), MirrorError> {
        Ok(self.announce(&self.members.read())?)
    }

    /// Gives up filling a side: it stays incomplete.
    pub fn give_up(&self, why: &str) {
        let members = self.members.read().clone();
        for member in members.iter().flatten().filter(|m| m.role != SideRole::Serving) {
            self.lose(&member.side, why);
        }
    }

    /// Which side is to leave when the two are parted: the one that came last, if nobody says.
    pub fn set_leaving(&self, n: usize) {
        self.leaving.store(n & 1, SeqCst);
    }

    /// Parts the side that is to leave at a moment at which no call is half-way: it has all that was written until then, and gets
    /// nothing more. Durably alone when it returns.
    ///
    /// # Errors
    /// If both are not in sync, or the label cannot be written.
    pub fn part(&self) -> Result<Parted, MirrorError> {
        let (n, side, beside) = {
            let mut members = self.members.write();
            if serving(&members).len() < 2 {
                return refused("the two sides are not in sync");
            }
            let n = self.leaving.load(SeqCst);
            let Some(member) = members[n].take() else { return refused("no second side") };
            let beside = members[1 - n].as_ref().map(|survivor| survivor.side.clone() as Arc<dyn Bystander>);
            // Whoever has a copy of the members calls it no more, and takes it for nobody's partner.
            member.side.lose("it was parted");
            self.remember(member.side.clone());
            (n, member.side, beside)
        };
        let parted = self.labels.lock()[n].take();
        // One flush: what was written before is durable with the label.
        self.announce(&self.members.read())?;
        match parted {
            Some(label) => Ok(Parted { side, limit: self.limit(), beside, label }),
            None => refused("a side has no label"),
        }
    }

    /// A side that was parted is a store of its own: both labels say so, durably, and from when on, so that one can be
    /// brought in line with the other again at a cost that follows what changed.
    ///
    /// # Errors
    /// The devices'.
    pub fn left(&self, parted: &Parted) -> Result<(), MirrorError> {
        // Both parted from the generation that they had.
        let at = self.label().map_or(0, |ours| ours.parted_at);
        let split = parted.label.followed(Standing::Split, self.fresh(), at);
        parted.call(move |device| write_label(device, &split))?;
        self.relabel(|label| Some(Label { standing: Standing::Split, ..label.clone() }))
    }

    /// Lets go of a side that is lost or was never whole. False if calls of it have not returned.
    pub fn forget_lost(&self) -> bool {
        // Closed when nobody is kept from anything by that.
        let mut gone = Vec::new();
        let mut members = self.members.write();
        for n in 0..2 {
            if let Some(member) = &members[n]
                && !member.side.is_there()
            {
                if member.side.pending_calls() > 0 {
                    return false;
                }
                gone.extend(members[n].take());
                self.labels.lock()[n] = None;
            }
        }
        drop(members);
        true
    }

    /// The same, once they have returned: false if they do not within the limit.
    pub fn forget_lost_within(&self, limit: Duration) -> bool {
        let begin = Instant::now();
        while !self.forget_lost() {
            if begin.elapsed() >= limit {
                return false;
            }
            std::thread::sleep(CALLS_PAUSE);
        }
        true
    }

    /// Gives the side that serves alone another label, or none. Durable when it returns.
    ///
    /// # Errors
    /// If there are two, or the device fails.
    pub fn relabel(&self, change: impl FnOnce(&Label) -> Option<Label>) -> Result<(), MirrorError> {
        let members = self.members.read().clone();
        let [n] = serving(&members)[..] else { return refused("both sides are there") };
        let mut labels = self.labels.lock();
        let (Some(member), Some(label)) = (&members[n], &labels[n]) else { return Ok(()) };
        let new = change(label).map(|new| Label { number: label.number + 1, ..new });
        match &new {
            Some(new) => write_label(&*member.side.device, new)?,
            None => clear_labels(&*member.side.device)?,
        }
        labels[n] = new;
        Ok(())
    }
}
