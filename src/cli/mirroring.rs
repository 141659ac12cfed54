//! What the daemon does about the sides of its store: attach, fill, split, compare, detach.
//!
//! One such order at a time. A side is filled by a thread of its own, which ends with the store; what it had not filled is
//! incomplete, and is filled from there on when the side is back. That thread also finds out what a side lacks that was behind
//! when the store was opened, so that nobody waits for that. A side that is no part of the mirror is called with a limit:
//! one that hangs is an error, and an order is the only one that waits for it.

use super::apart;
use super::fitting::Fitting;
use super::held_side::{HeldSide, LIMIT, late};
use super::kept_changes::{SideChanges, encode_kept};
use super::late_sides::LateSides;
use super::mirror_order::{MirrorOrder, Resync};
use super::refusal::{told, told_volume};
use super::side_filling::{FillingPace, FillingTold};
use super::sides::{
    OpenedSides, hold_new_side, hold_side, label_in_force, limit_of, real_path, told_mirror, went_on,
};
use super::split_copies;
use crate::ctl::{Code, Failure, StoreId};
use crate::device::bystander::Beside;
use crate::device::mirror::{MirrorError, NewSide, Timed, parted_at};
use crate::device::patience::patiently_beside;
use crate::device::{Device, Mirror, mark};
use crate::format::Epoch;
use crate::format::mirror::PARTNER_PATH_MAX;
use crate::fs::Fs;
use crate::names;
use crate::sys::random::random;
use crate::volume::{FillFrom, RINGS, compare_sides};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// The sides of an open store. Any thread; orders take turns.
pub(super) struct StoreSides {
    pub(super) fs: Arc<Fs>,
    pub(super) mirror: Arc<Mirror>,
    /// Path of the store.
    store: PathBuf,
    /// The side by which it was mounted: that is what stays when the two are parted.
    named: PathBuf,
    /// What is held, by the number of the side. No side is let go of while it takes part.
    pub(super) held: Mutex<[Option<HeldSide>; 2]>,
    pub(super) late: LateSides,
    /// Had by whoever looks at a side that takes no part.
    pub(super) looks: Arc<()>,
    end: Fitting,
    pub(super) told: Arc<FillingTold>,
    turn: Mutex<()>,
}

fn refused<T>(code: Code, what: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::new(code, what))
}

impl StoreSides {
    /// Of a store that was just opened. A side that is behind is filled in the background.
    pub(super) fn new(fs: &Arc<Fs>, opened: OpenedSides) -> Arc<StoreSides> {
        let OpenedSides { mirror, home, other, is_behind, named } = opened;
        let sides = Arc::new(StoreSides {
            fs: fs.clone(),
            late: LateSides::new(&mirror),
            end: Fitting::new(fs, &mirror, home.path.clone()),
            looks: Arc::default(),
            mirror,
            store: home.path.clone(),
            named,
            held: Mutex::new([Some(home), other]),
            told: Arc::default(),
            turn: Mutex::default(),
        });
        if fs.volume().is_mirrored() && sides.mirror.label().is_none() {
            // It has none, or lost it and somebody has said that it goes on all the same: a store by itself, from the next commit on.
            fs.volume().set_mirrored(false).unwrap_or_else(|e| log::warn!("{}", sides.failed(&e)));
        }
        if is_behind && let Err(f) = sides.fill_behind() {
            log::error!("mirror: the side that is behind is not filled: {f}");
        }
        sides
    }

    /// The device of both.
    #[cfg(test)]
    pub(super) fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// Carries out an order. `progress` hears of what takes long.
    pub(super) fn order(
        self: &Arc<StoreSides>,
        order: &MirrorOrder,
        progress: &mut dyn FnMut(Value) -> bool,
    ) -> Result<Value, Failure> {
        if let MirrorOrder::Status = order {
            return Ok(self.status_seen());
        }
        let Some(_turn) = self.turn.try_lock() else {
            return refused(Code::Busy, "another order about the mirror is being carried out");
        };
        match order {
            MirrorOrder::Status => {}
            MirrorOrder::Attach { path, force, limit } => {
                self.attach(path, *force, *limit).inspect_err(|_| self.told.forget_rate())?;
            }
            MirrorOrder::Resync { with, keep, discard, dry_run } => {
                let how = Resync::of(*dry_run, *discard);
                let answer = self.resync((with.as_deref(), keep.as_deref()), how, progress);
                if answer.is_err() || *dry_run {
                    self.told.forget_rate();
                }
                return answer;
            }
            MirrorOrder::Detach => self.detach()?,
            MirrorOrder::Verify => return self.verify(),
            MirrorOrder::Pause(paused) => {
                let has_side = self.told.running.load(SeqCst) || self.fs.volume().is_mirrored();
                self.told.pause(*paused, has_side)?;
            }
            MirrorOrder::Rate(rate) => self.told.rate.store(*rate, SeqCst),
        }
        Ok(self.status())
    }

    fn failed(&self, e: &crate::volume::VolumeError) -> Failure {
        told_volume(&self.store, e)
    }

    /// The number of the side that serves; of the first, if both do.
    fn serving(&self) -> usize {
        self.mirror.sides().first().copied().unwrap_or(0)
    }

    /// The side that serves is asked before another is taken for late.
    pub(super) fn beside(&self) -> Beside {
        self.held.lock()[self.serving()].as_ref().map(HeldSide::bystander)
    }

    /// Where the side is that serves, and what it is called for its partner.
    fn served(&self) -> (PathBuf, PathBuf) {
        let held = self.held.lock();
        held[self.serving()]
            .as_ref()
            .map_or((self.store.clone(), self.store.clone()), |side| (side.path.clone(), side.named.clone()))
    }

    /// Lets go of sides that take part no more. What was held of the last of them.
    fn let_go(&self) -> Option<HeldSide> {
        let states = self.mirror.states();
        let mut held = self.held.lock();
        let gone = held.iter_mut().zip(&states).filter(|(_, state)| state.is_none());
        let gone: Vec<HeldSide> = gone.filter_map(|(held, _)| held.take()).collect();
        // Closed when nobody waits for the lock.
        drop(held);
        gone.into_iter().last()
    }

    /// Has the side leave by which the store is not known.
    fn keep_named(&self) {
        let held = self.held.lock();
        let is_named = |held: &Option<HeldSide>| held.as_ref().is_some_and(|side| side.path == self.named);
        if let Some(n) = held.iter().position(is_named) {
            self.mirror.set_leaving(1 - n);
        }
    }

    /// Has the store end where it did before it was to fit on another side.
    fn give_back(&self) -> Result<(), Failure> {
        let only = self.serving();
        let sized =
            self.held.lock()[only].as_ref().filter(|side| !side.is_directory).map(|s| s.device().size());
        self.end.give_back(sized)
    }

    fn commit(&self) -> Result<(), Failure> {
        self.fs.commit().map_err(|e| told(&self.store, &e))
    }

    /// Has the superblock say whether the store is mirrored.
    fn set_mirrored(&self, mirrored: bool) -> Result<(), Failure> {
        self.fs.volume().set_mirrored(mirrored).map_err(|e| self.failed(&e))?;
        self.commit()
    }

    fn no_second(&self) -> Result<(), Failure> {
        if self.told.running.load(SeqCst) {
            let what = "a side is being filled: 'snapfs mirror status --wait' returns when both are in sync";
            return refused(Code::Busy, what);
        }
        if self.mirror.states().iter().flatten().filter(|s| s.state != "lost").count() > 1 {
            return refused(Code::Exists, "the store has two sides already");
        }
        Ok(())
    }

    fn attach(
        self: &Arc<StoreSides>,
        path: &Path,
        force: bool,
        limit: Option<Duration>,
    ) -> Result<(), Failure> {
        self.no_second()?;
        let (limit, beside) = (limit.unwrap_or(LIMIT), &self.beside());
        let Some(canonical) = real_path(path, limit, beside) else { return Err(late(path, limit)) };
        let canonical = canonical.unwrap_or_else(|| path.into());
        let is_here = |side: &HeldSide| {
            let store = &side.path;
            canonical == *store || canonical.starts_with(store) || store.starts_with(&canonical)
        };
        if self.held.lock()[self.serving()].as_ref().is_some_and(is_here) {
            return refused(
                Code::Invalid,
                format!("{}: this is the store itself, or in it, or around it", names::shown(path)),
            );
        }
        let own = self.fs.volume().location().id.map(|id| StoreId(id.device, id.inode));
        let (place, at) = (path.to_owned(), self.served().0);
        let outside = patiently_beside(limit, beside, move |_| apart::outside_of_mounts(&place, (own, &at)));
        outside.unwrap_or_else(|| Err(late(path, limit)))?;
        if !self.mirror.forget_lost() {
            return refused(Code::Busy, "calls of the side that was lost have not returned");
        }
        self.let_go().into_iter().for_each(|side| self.late.let_go(side));
        self.late.refuse(path, limit, beside)?;
        let side = hold_new_side(path, force, limit, beside)?;
        // What was deleted a moment ago may still be in use behind the new end.
        self.commit()?;
        self.commit()?;
        let (was, label) = (self.fs.volume().address_space(), self.mirror.label().is_some());
        // Of one that was split off the next label counts only if the superblock says so.
        if label && !self.fs.volume().is_mirrored() {
            self.set_mirrored(true)?;
        }
        let first = self.end.note(was);
        let joined = self
            .end
            .keep_before(&side)
            .and_then(|()| self.join(&side, &side.timed(limit, beside.clone()), &FillFrom::Nothing, limit));
        if let Err(f) = joined {
            if first {
                self.end.forget();
            }
            // The label of a side that took one says what the superblock has to say as well.
            self.end.undo(was, label || self.mirror.label().is_some());
            self.late.let_go(side);
            return Err(f);
        }
        self.start(side, FillFrom::Nothing)
    }

    /// Takes in a side, which notes first what it has, so that no older note of it counts.
    fn join(&self, side: &HeldSide, calls: &Timed, from: &FillFrom, limit: Duration) -> Result<(), Failure> {
        let (_, ours) = self.served();
        for path in [&ours, &side.named] {
            if path.as_os_str().len() > PARTNER_PATH_MAX {
                return refused(Code::Invalid, format!("{}: the path is too long", names::shown(path)));
            }
        }
        let new = NewSide {
            device: side.device().clone(),
            path: side.named.as_os_str().as_bytes().to_vec(),
            partner_path: ours.as_os_str().as_bytes().to_vec(),
            limit,
        };
        if let Some(ours) = self.mirror.label_to_fill() {
            let noted = self.fs.volume().note_rest(from, &ours, calls);
            noted.map_err(|e| told_volume(&side.path, &e))?;
        }
        // A store that says that it is a side has a label, whenever the power goes.
        let labelled = || self.end.fit(side).map_err(|f| MirrorError::Refused(f.message));
        let joined = self.mirror.join_held(new, &RINGS, side.holding(), &labelled);
        joined.map_err(|e| told_mirror(&side.path, e))?;
        if let Err(e) = mark::open(calls) {
            log::warn!("cannot mark the other side as open: {e}");
        }
        Ok(())
    }

    /// Fills a side that has joined, in the background.
    fn start(self: &Arc<StoreSides>, side: HeldSide, from: FillFrom) -> Result<(), Failure> {
        split_copies::forget(&self.fs, &side.path);
        self.keep(side);
        self.in_background(move |sides| sides.fill(&from)).inspect_err(|_| self.mirror.give_up("no thread"))
    }

    /// Keeps hold of the side that is not the one that serves.
    fn keep(&self, side: HeldSide) {
        let old = self.held.lock()[1 - self.serving()].replace(side);
        // Closed when nobody waits for the lock.
        drop(old);
    }

    /// Has a thread do something about the other side, which ends with the store.
    fn in_background(
        self: &Arc<StoreSides>,
        work: impl FnOnce(&Arc<StoreSides>) -> Result<(), String> + Send + 'static,
    ) -> Result<(), Failure> {
        let sides = self.clone();
        self.told.start(move || work(&sides))
    }

    fn fill(&self, from: &FillFrom) -> Result<(), String> {
        if let Err(e) = self.fs.will_fill_a_side() {
            self.mirror.give_up(&e.to_string());
            return Err(e.to_string());
        }
        let mut pace = FillingPace::new(&self.told);
        let filled = self.fs.volume().fill(&self.mirror, from, &mut |filled| pace.at(filled));
        let filled = filled.map_err(|e| e.to_string())?;
        self.told.at(filled);
        let unread = match filled.unread {
            0 => String::new(),
            bytes => format!(", but for {bytes} that cannot be read"),
        };
        log::info!("mirror: both sides are in sync, {} bytes were copied{unread}", filled.copied);
        Ok(())
    }

    /// The side that was found to be behind when the store was opened: in the background, because to find out what it lacks
    /// takes as long as to read all that it knows.
    fn fill_behind(self: &Arc<StoreSides>) -> Result<(), Failure> {
        let Some(side) = self.held.lock()[1 - self.serving()].take() else { return Ok(()) };
        self.in_background(move |sides| {
            let brought = || {
                let calls = sides.calls(&side);
                let from = sides.fill_from(&side, &calls)?;
                sides.take_in(&side, &calls, &from).map(|()| from)
            };
            let from = brought().map_err(|f| f.to_string())?;
            sides.keep(side);
            sides.fill(&from)
        })
    }

    /// How long the other side is waited for.
    pub(super) fn limit(&self) -> Duration {
        self.mirror.label().map_or(LIMIT, |label| limit_of(&label))
    }

    /// A side that takes part in nothing, for whoever waits for it no longer than the limit and ends with the store.
    fn calls(&self, side: &HeldSide) -> Arc<Timed> {
        let told = self.told.clone();
        Arc::new(side.timed(self.limit(), self.beside()).until(Arc::new(move || told.is_ended())))
    }

    /// What a side has that was here before.
    fn fill_from(&self, side: &HeldSide, calls: &Arc<Timed>) -> Result<FillFrom, Failure> {
        let (theirs, _) = label_in_force(&side.path, &**calls)?;
        let (Some(ours), Some(theirs)) = (self.mirror.label(), theirs) else { return Ok(FillFrom::Nothing) };
        let from = FillFrom::of_side(calls.clone(), &ours, &theirs, self.mirror.reached_epoch());
        let told = &self.told;
        let from = self.fs.volume().as_far_as_there(from, &**calls, &mut || told.is_ended());
        // What cannot be read of it is copied; of one that hangs, or when this is to end, nothing is known.
        if calls.is_lost() {
            return Err(late(&side.path, self.limit()));
        }
        if self.told.is_ended() {
            return refused(Code::Other, "it was ended");
        }
        from.map_err(|e| self.failed(&e))
    }

    /// Takes in a side that was here before, to be filled with no more than what differs if that can be known.
    fn take_in(&self, side: &HeldSide, calls: &Timed, from: &FillFrom) -> Result<(), Failure> {
        label_in_force(&side.path, calls)?;
        // It has a label, of which the next one counts only if the superblock says so.
        if !self.fs.volume().is_mirrored() {
            self.set_mirrored(true)?;
        }
        let was = self.fs.volume().address_space();
        self.end.keep_before(side)?;
        let shrinks = side.device().size() < was;
        let first = shrinks && self.end.note(was);
        // Not the one that it had when it went.
        let limit = self.limit();
        self.join(side, calls, from, limit).inspect_err(|_| {
            if first {
                self.end.forget();
            }
            if shrinks {
                self.end.undo(was, true);
            }
        })
    }

    fn resync(
        self: &Arc<StoreSides>,
        (with, keep): (Option<&Path>, Option<&Path>),
        how: Resync,
        progress: &mut dyn FnMut(Value) -> bool,
    ) -> Result<Value, Failure> {
        self.no_second()?;
        let (served, _) = self.served();
        let (limit, beside) = (self.limit(), &self.beside());
        if let Some(keep) = keep
            && real_path(keep, limit, beside).flatten().as_ref() != Some(&served)
        {
            return refused(
                Code::Invalid,
                format!(
                    "{}: the side to keep is the one that is served, {}: mount the other alone with -o mirror=alone to keep that",
                    names::shown(keep),
                    names::shown(&served)
                ),
            );
        }
        if !self.mirror.forget_lost() {
            return refused(
                Code::Busy,
                "calls of the side that was lost have not returned: it cannot come back before they have",
            );
        }
        self.mirror.announce_loss().map_err(|e| told_mirror(&self.store, e))?;
        let Some(ours) = self.mirror.label() else {
            return refused(Code::Invalid, "the store has no other side: see 'snapfs mirror attach'");
        };
        let noted = Path::new(std::ffi::OsStr::from_bytes(&ours.path)).to_owned();
        let path = with.unwrap_or(&noted);
        if path.as_os_str().is_empty() {
            return refused(Code::Invalid, "it is not known where the other side is: say so with --with");
        }
        if !self.told.begins() {
            return refused(Code::Other, "the store is being unmounted");
        }
        self.late.refuse(path, limit, beside)?;
        let held = self.held.lock()[1 - self.serving()].take();
        let real = real_path(path, limit, beside);
        let is_it = |side: &HeldSide| real.as_ref().is_some_and(|real| real.as_ref() == Some(&side.path));
        let (held, other) = if held.as_ref().is_some_and(is_it) { (held, None) } else { (None, held) };
        other.into_iter().for_each(|side| self.late.let_go(side));
        if real.is_none() {
            return Err(late(path, limit));
        }
        // One that was cut short, or of which files went: nothing of it counts, whatever is there by now.
        let (mut lost_content, mut flushes) = (false, false);
        if let Some(side) = &held {
            let calls = self.calls(side);
            lost_content = calls.location().lost.is_some();
            flushes = calls.flush().is_ok();
            if calls.is_lost() {
                return Err(late(path, limit));
            }
        }
        if lost_content {
            self.mirror.partner_lost_content().map_err(|e| told_mirror(&self.store, e))?;
        }
        // One that has failed once flushes nothing any more, and is opened anew.
        let side = match held.filter(|_| !lost_content && flushes) {
            Some(side) => side,
            None => hold_side(path, limit, beside)?,
        };
        let calls = self.calls(&side);
        let (theirs, went_on) = went_on(path, &ours, label_in_force(&side.path, &*calls)?)?;
        let has = if went_on && !matches!(how, Resync::Discard) {
            let from = (side.path.as_path(), calls.clone() as Arc<dyn Device>);
            let has = SideChanges::open(&self.fs, from, Epoch(parted_at(&ours, &theirs)));
            Some(has?)
        } else {
            None
        };
        let from = if lost_content { FillFrom::Nothing } else { self.fill_from(&side, &calls)? };
        if let Resync::DryRun { discards } = how {
            return self.foretell((&side, &calls), &from, has.as_ref(), discards);
        }
        let told = &mut |bytes| {
            progress(json!({"received_bytes": bytes}));
        };
        let kept = has.map(|has| has.receive(told)).transpose()?.unwrap_or_default();
        self.take_in(&side, &calls, &from)?;
        self.start(side, from)?;
        let mut status = self.status();
        if went_on {
            status["received"] = encode_kept(&kept);
        }
        Ok(status)
    }

    /// What a resync would do: an object.
    fn foretell(
        &self,
        (side, calls): (&HeldSide, &Timed),
        from: &FillFrom,
        has: Option<&SideChanges<'_>>,
        discards: bool,
    ) -> Result<Value, Failure> {
        let bytes = self.fs.volume().bytes_to_fill(from, calls);
        let kept = match has {
            Some(has) if !discards => has.planned()?,
            _ => Vec::new(),
        };
        let mut object = json!({
            "dry_run": true,
            "copy_bytes": bytes.map_err(|e| self.failed(&e))?,
            "receive_bytes": if discards { 0 } else { has.map_or(0, SideChanges::about_bytes) },
            "own": has.map(SideChanges::told),
            "discarded": discards && has.is_some(),
            "received": encode_kept(&kept),
        });
        names::put(&mut object, "side", &side.path);
        Ok(object)
    }

    /// Parts the other side as a store of its own, once a snapshot of that moment was made.
    pub(super) fn split(
        &self,
        snapshot: &mut dyn FnMut() -> Result<Value, Failure>,
        undo: &mut dyn FnMut(),
    ) -> Result<Value, Failure> {
        let Some(_turn) = self.turn.try_lock() else {
            return refused(Code::Busy, "another order about the mirror is being carried out");
        };
        let states = self.mirror.states();
        if states.iter().flatten().filter(|s| s.state == "serving").count() < 2 {
            return refused(Code::Invalid, "the two sides are not in sync: see 'snapfs mirror status'");
        }
        // The bulk first, so that little is left for the moment itself.
        self.commit()?;
        let mut made = snapshot()?;
        self.keep_named();
        let volume = self.fs.volume();
        let identity = random().map_err(|e| Failure::new(Code::Other, e.to_string()))?;
        let there = self.held.lock()[1 - self.serving()].as_ref().map(|side| side.path.clone());
        split_copies::note(&self.fs, &made, [(Some(self.served().0), volume.uuid()), (there, identity)]);
        let paused = match volume.split(&self.mirror, identity) {
            Ok(paused) => paused,
            Err(e) => {
                undo();
                return Err(self.failed(&e));
            }
        };
        self.set_mirrored(false)?;
        self.told.forget_side();
        if let Some(side) = self.let_go() {
            if let Err(e) = mark::close(&side.timed(self.mirror.time_limit(), self.beside())) {
                log::warn!("cannot mark the side that left as closed: {e}");
            }
            names::put(&mut made, "store", &side.path);
            self.late.let_go(side);
        }
        made["split_pause_us"] = json!(paused.as_micros() as u64);
        Ok(made)
    }

    fn detach(&self) -> Result<(), Failure> {
        self.told.end();
        let in_sync = self.mirror.states().iter().flatten().filter(|s| s.state == "serving").count() == 2;
        if in_sync {
            self.keep_named();
            let parted = self.mirror.part().map_err(|e| told_mirror(&self.store, e))?;
            let stale = parted.label.clone().detached();
            // It has the identity of this store, so it must not be taken for one.
            let told = parted.call(move |device| {
                crate::device::mirror::write_label(device, &stale)?;
                let _closed = mark::close(device);
                Ok(())
            });
            if let Err(e) = told {
                log::warn!("the side that was detached cannot be told so: {e}");
            }
        } else {
            let limit = self.limit();
            if !self.mirror.forget_lost_within(limit) {
                let what =
                    "calls of the side that was lost have not returned: try again when its host answers";
                return refused(Code::Busy, format!("{what}; they were waited for {limit:?}"));
            }
            if self.mirror.label().is_none() {
                if self.end.is_noted() {
                    self.give_back()?;
                }
                return refused(Code::Invalid, "the store has no other side");
            }
        }
        // While the label knows where the store ended.
        self.give_back()?;
        // One that says that it is a side has a label.
        self.set_mirrored(false)?;
        self.mirror.relabel(|_| None).map_err(|e| told_mirror(&self.store, e))?;
        self.let_go().into_iter().for_each(|side| self.late.let_go(side));
        self.told.forget_side();
        Ok(())
    }

    fn verify(&self) -> Result<Value, Failure> {
        if !self.mirror.is_mirror() {
            return refused(Code::Invalid, "the two sides are not in sync: see 'snapfs mirror status'");
        }
        let found = compare_sides(self.fs.volume(), &self.mirror).map_err(|e| self.failed(&e))?;
        Ok(json!({
            "compared_bytes": found.bytes,
            "differing": found.differing,
            "tables_differing": found.tables,
        }))
    }

    /// Ends what goes on in the background. The sides stay for the last commit.
    pub(super) fn end(&self) {
        self.told.close();
        self.told.end();
    }

    /// True if it does.
    #[cfg(test)]
    pub(super) fn is_ending(&self) -> bool {
        self.told.is_ended()
    }

    /// Marks the sides as closed, if everything is durable, and lets go of them.
    pub(super) fn close(&self, whole: bool) {
        let serving = self.mirror.sides();
        let held = std::mem::take(&mut *self.held.lock());
        let in_sync = held.iter().enumerate().filter(|(n, _)| whole && serving.contains(n));
        for (n, side) in in_sync.filter_map(|(n, side)| Some((n, side.as_ref()?))) {
            let other = held[1 - n].as_ref().filter(|_| serving.len() > 1);
            if let Err(e) = side.mark(other, self.mirror.time_limit(), mark::close) {
                let what = "as closed, a copy of it will be taken for one of a store in use";
                log::warn!("cannot mark {} {what}: {e}", names::shown(&side.path));
            }
        }
        self.late.close(held.into_iter().flatten());
    }
}
