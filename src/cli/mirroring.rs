//! What the daemon does about the sides of its store: attach, fill, split, compare, detach.
//!
//! One such order at a time. A side is filled by a thread of its own, which ends with the store; what it had not filled is
//! incomplete, and is filled from there on when the side is back.

use super::apart;
use super::fill_pace::{FillPace, FillTold};
use super::kept_changes::{SideChanges, encode_kept};
use super::mirror_order::{MirrorOrder, encode_side};
use super::refusal::{told, told_volume};
use super::sides::{HeldSide, OpenedSides, hold_new_side, hold_side, label_in_force, told_mirror};
use crate::ctl::{Code, Failure, StoreId};
use crate::device::mirror::{Both, NewSide, meet, parted_at};
use crate::device::{Device, Mirror, mark};
use crate::format::Epoch;
use crate::format::mirror::{Label, PARTNER_PATH_MAX, Standing};
use crate::fs::Fs;
use crate::names;
use crate::sys::random::random;
use crate::volume::{FillFrom, Filled, RINGS, compare_sides};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a side may keep the other waiting, if nobody says.
pub(super) const LIMIT: Duration = Duration::from_secs(10);
/// How long a side that is let go of is waited for: longer than calls take that nobody waits for.
const LATE_WAIT: Duration = Duration::from_secs(1);

/// The sides of an open store. Any thread; orders take turns.
pub(super) struct StoreSides {
    fs: Arc<Fs>,
    mirror: Arc<Mirror>,
    /// Path of the store.
    store: PathBuf,
    /// The side by which it was mounted: that is what stays when the two are parted.
    named: PathBuf,
    /// What is held, by the number of the side. No side is let go of while it takes part.
    held: Mutex<[Option<HeldSide>; 2]>,
    /// Sides that left, or never came, and of which calls have not returned: so nobody else can have them.
    late: Mutex<Vec<HeldSide>>,
    filling: Mutex<Option<JoinHandle<()>>>,
    /// Where a directory store ended before it was to fit on another side.
    wide: Mutex<Option<u64>>,
    told: Arc<FillTold>,
    turn: Mutex<()>,
}

fn refused<T>(code: Code, what: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::new(code, what))
}

impl StoreSides {
    /// Of a store that was just opened. A side that is behind is filled in the background.
    pub(super) fn new(fs: &Arc<Fs>, opened: OpenedSides) -> StoreSides {
        let OpenedSides { mirror, home, other, is_behind, named } = opened;
        let sides = StoreSides {
            fs: fs.clone(),
            mirror,
            store: home.path.clone(),
            named,
            held: Mutex::new([Some(home), other]),
            late: Mutex::default(),
            filling: Mutex::default(),
            wide: Mutex::default(),
            told: Arc::default(),
            turn: Mutex::default(),
        };
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
        &self,
        order: &MirrorOrder,
        progress: &mut dyn FnMut(Value) -> bool,
    ) -> Result<Value, Failure> {
        if let MirrorOrder::Status = order {
            return Ok(self.status());
        }
        let Some(_turn) = self.turn.try_lock() else {
            return refused(Code::Busy, "another order about the mirror is being carried out");
        };
        match order {
            MirrorOrder::Status => {}
            MirrorOrder::Attach { path, force, limit } => self.attach(path, *force, *limit)?,
            MirrorOrder::Resync { with, keep, discard, dry_run } => {
                let how = match (dry_run, discard) {
                    (true, _) => Resync::DryRun { discards: *discard },
                    (false, true) => Resync::Discard,
                    (false, false) => Resync::Receive,
                };
                return self.resync((with.as_deref(), keep.as_deref()), how, progress);
            }
            MirrorOrder::Detach => self.detach()?,
            MirrorOrder::Verify => return self.verify(),
            MirrorOrder::Pause(paused) => self.told.paused.store(*paused, SeqCst),
            MirrorOrder::Rate(rate) => self.told.rate.store(*rate, SeqCst),
        }
        Ok(self.status())
    }

    /// How the sides are: an object.
    pub(super) fn status(&self) -> Value {
        // In this order: when it is over the sides are what has come of it.
        let running = self.told.running.load(SeqCst);
        let states = self.mirror.states();
        let sides: Vec<Value> = {
            let held = self.held.lock();
            let path = |held: &Option<HeldSide>| held.as_ref().map(|side| side.path.clone());
            let paths = held.iter().map(path);
            let each = states.iter().zip(paths).filter_map(|(state, path)| Some((state.as_ref()?, path)));
            each.map(|(state, path)| encode_side(state, path.as_deref())).collect()
        };
        let is_mirrored = self.fs.volume().is_mirrored();
        let serving = states.iter().flatten().filter(|s| s.state == "serving").count();
        let mut status = json!({
            "mirrored": is_mirrored,
            "in_sync": is_mirrored && serving == 2,
            "sides": sides,
            "syncing": running,
            "done_bytes": self.told.done.load(SeqCst),
            "total_bytes": self.told.total.load(SeqCst),
            "copied_bytes": self.told.copied.load(SeqCst),
            "copied_content_bytes": *self.told.content.lock(),
            "unread_bytes": self.told.unread.load(SeqCst),
            "paused": self.told.paused.load(SeqCst),
            "sync_failed": *self.told.failed.lock(),
            "limit_ms": self.mirror.time_limit().as_millis() as u64,
        });
        if let Some(label) = self.mirror.label().filter(|label| !label.path.is_empty()) {
            names::put(&mut status, "partner", std::ffi::OsStr::from_bytes(&label.path));
        }
        status
    }

    fn failed(&self, e: &crate::volume::VolumeError) -> Failure {
        told_volume(&self.store, e)
    }

    /// The number of the side that serves; of the first, if both do.
    fn serving(&self) -> usize {
        self.mirror.sides().first().copied().unwrap_or(0)
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
        gone.filter_map(|(held, _)| held.take()).last()
    }

    /// Lets go of a side, when its calls have returned.
    fn drop_side(&self, side: HeldSide) {
        if !self.mirror.have_returned(&side.device, LATE_WAIT) {
            self.late.lock().push(side);
        }
    }

    /// Refuses a side that left and that late calls may still change.
    fn refuse_late(&self, path: &Path) -> Result<(), Failure> {
        let mut late = self.late.lock();
        late.retain(|side| self.mirror.pending_calls_of(&side.device) > 0);
        let canonical = path.canonicalize().unwrap_or_else(|_| path.into());
        if !late.iter().any(|side| side.path == canonical) {
            return Ok(());
        }
        let what =
            "calls of this side from before it left have not returned: it cannot come back before they have";
        refused(Code::Busy, format!("{}: {what}", names::shown(path)))
    }

    /// Has the side leave by which the store is not known.
    fn keep_named(&self) {
        let held = self.held.lock();
        let is_named = |held: &Option<HeldSide>| held.as_ref().is_some_and(|side| side.path == self.named);
        if let Some(n) = held.iter().position(is_named) {
            self.mirror.set_leaving(1 - n);
        }
    }

    /// Has the store end where it did before it was to fit on another side, or where its device does, as far as it was opened.
    fn give_back(&self) -> Result<(), Failure> {
        let held =
            self.held.lock()[self.serving()].as_ref().map(|side| (side.path.is_dir(), side.device.size()));
        let size = match (held, self.wide.lock().take()) {
            (Some((false, size)), _) => size,
            (_, wide) => wide.unwrap_or(0),
        };
        let size = size.min(self.mirror.size());
        self.fs.volume().widen(size, || self.commit())
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
            return refused(Code::Busy, "a side is being filled");
        }
        if self.mirror.states().iter().flatten().filter(|s| s.state != "lost").count() > 1 {
            return refused(Code::Exists, "the store has two sides already");
        }
        Ok(())
    }

    fn attach(&self, path: &Path, force: bool, limit: Option<Duration>) -> Result<(), Failure> {
        self.no_second()?;
        let canonical = path.canonicalize().unwrap_or_else(|_| path.into());
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
        apart::outside_of_mounts(
            path,
            self.fs.volume().location().id.map(|id| StoreId(id.device, id.inode)),
        )?;
        if !self.mirror.forget_lost() {
            return refused(Code::Busy, "calls of the side that was lost have not returned");
        }
        self.let_go().into_iter().for_each(|side| self.drop_side(side));
        self.refuse_late(path)?;
        let side = hold_new_side(path, force)?;
        // What was deleted a moment ago may still be in use behind the new end.
        self.commit()?;
        self.commit()?;
        let (was, label) = (self.fs.volume().address_space(), self.mirror.label().is_some());
        let first = self.wide.lock().is_none();
        self.wide.lock().get_or_insert(was);
        let joined = self.shrink_to(&side).and_then(|()| {
            self.set_mirrored(true)?;
            self.join(&side, &FillFrom::Nothing, limit.unwrap_or(LIMIT))
        });
        if let Err(f) = joined {
            if first {
                *self.wide.lock() = None;
            }
            // The label of a side that took one says what the superblock has to say as well.
            self.undo(was, label || self.mirror.label().is_some());
            self.drop_side(side);
            return Err(f);
        }
        self.start(side, FillFrom::Nothing)
    }

    /// Has the store end where a side does, from the next commit on.
    fn shrink_to(&self, side: &HeldSide) -> Result<(), Failure> {
        let size = side.device.size();
        let Err(end) = self.fs.volume().shrink(size).map_err(|e| self.failed(&e))? else { return Ok(()) };
        let what = "and the highest address in use ends at";
        let place = names::shown(&side.path);
        refused(
            Code::Invalid,
            format!("{place}: it has {size} bytes, {what} {end}: give it at least so many"),
        )
    }

    /// Has the store end where it did, and be mirrored or not as it was, when a side has not come to be one. What cannot be made
    /// durable now is with the next commit.
    fn undo(&self, size: u64, mirrored: bool) {
        let flag =
            if mirrored { Ok(()) } else { self.fs.volume().set_mirrored(false).map_err(|e| self.failed(&e)) };
        let size = size.min(self.mirror.size());
        let undone = flag.and_then(|()| self.fs.volume().widen(size, || self.commit()));
        if let Err(f) = undone.and_then(|()| self.commit()) {
            log::error!("mirror: the store is as it was before only from the next commit on: {f}");
        }
    }

    /// Takes in a side, which notes first what it has, so that no older note of it counts.
    fn join(&self, side: &HeldSide, from: &FillFrom, limit: Duration) -> Result<(), Failure> {
        let (_, ours) = self.served();
        for path in [&ours, &side.named] {
            if path.as_os_str().len() > PARTNER_PATH_MAX {
                return refused(Code::Invalid, format!("{}: the path is too long", names::shown(path)));
            }
        }
        let new = NewSide {
            device: side.device.clone(),
            path: side.named.as_os_str().as_bytes().to_vec(),
            partner_path: ours.as_os_str().as_bytes().to_vec(),
            limit,
        };
        if let Some(ours) = self.mirror.label_to_fill() {
            let noted = self.fs.volume().note_rest(from, &ours, &*side.device);
            noted.map_err(|e| told_volume(&side.path, &e))?;
        }
        self.mirror.join(new, &RINGS).map_err(|e| told_mirror(&side.path, e))?;
        if let Err(e) = mark::open(&*side.device) {
            log::warn!("cannot mark the other side as open: {e}");
        }
        Ok(())
    }

    /// Fills a side that has joined, in the background.
    fn start(&self, side: HeldSide, from: FillFrom) -> Result<(), Failure> {
        self.held.lock()[1 - self.serving()] = Some(side);
        let (fs, mirror, told) = (self.fs.clone(), self.mirror.clone(), self.told.clone());
        told.running.store(true, SeqCst);
        told.ends.store(false, SeqCst);
        told.at(Filled::default());
        *told.failed.lock() = None;
        let work = move || {
            let mut pace = FillPace::new(&told);
            if let Err(e) = fs.will_fill_a_side() {
                log::error!("mirror: the other side is not filled: {e}");
                mirror.give_up(&e.to_string());
                *told.failed.lock() = Some(e.to_string());
                return told.running.store(false, SeqCst);
            }
            let filled = fs.volume().fill(&mirror, &from, &mut |filled| pace.at(filled));
            match filled {
                Ok(filled) => {
                    told.at(filled);
                    let unread = match filled.unread {
                        0 => String::new(),
                        bytes => format!(", but for {bytes} that cannot be read"),
                    };
                    log::info!("mirror: both sides are in sync, {} bytes were copied{unread}", filled.copied);
                }
                Err(e) => {
                    log::error!("mirror: the other side was not filled: {e}");
                    *told.failed.lock() = Some(e.to_string());
                }
            }
            told.running.store(false, SeqCst);
        };
        let thread = std::thread::Builder::new().name("mirror".into()).spawn(work);
        match thread {
            Ok(thread) => *self.filling.lock() = Some(thread),
            Err(e) => {
                self.told.running.store(false, SeqCst);
                self.mirror.give_up("no thread");
                return refused(Code::Other, super::refusal::no_thread(&e));
            }
        }
        Ok(())
    }

    /// The side that was found to be behind when the store was opened.
    fn fill_behind(&self) -> Result<(), Failure> {
        let Some(side) = self.held.lock()[1 - self.serving()].take() else { return Ok(()) };
        let from = self.fill_from(&side)?;
        self.bring_back(side, from)
    }

    /// What a side has that was here before.
    fn fill_from(&self, side: &HeldSide) -> Result<FillFrom, Failure> {
        let (theirs, _) = label_in_force(&side.path, &*side.device)?;
        let (Some(ours), Some(theirs)) = (self.mirror.label(), theirs) else { return Ok(FillFrom::Nothing) };
        Ok(FillFrom::of_side(side.device.clone(), &ours, &theirs, self.mirror.reached_epoch()))
    }

    /// Fills a side that was here before, with no more than what differs if that can be known.
    fn bring_back(&self, side: HeldSide, from: FillFrom) -> Result<(), Failure> {
        let (theirs, _) = label_in_force(&side.path, &*side.device)?;
        if !self.fs.volume().is_mirrored() {
            self.set_mirrored(true)?;
        }
        let was = self.fs.volume().address_space();
        self.shrink_to(&side)?;
        let shrunk = self.fs.volume().address_space() < was;
        let limit = theirs.map_or(LIMIT, |label| Duration::from_millis(u64::from(label.limit_ms)));
        // The superblocks that it gets must not say that it is larger than it is.
        let committed = if shrunk { self.commit() } else { Ok(()) };
        if let Err(f) = committed.and_then(|()| self.join(&side, &from, limit)) {
            if shrunk {
                self.undo(was, true);
            }
            self.drop_side(side);
            return Err(f);
        }
        self.start(side, from)
    }

    fn resync(
        &self,
        (with, keep): (Option<&Path>, Option<&Path>),
        how: Resync,
        progress: &mut dyn FnMut(Value) -> bool,
    ) -> Result<Value, Failure> {
        self.no_second()?;
        let (served, _) = self.served();
        if let Some(keep) = keep
            && keep.canonicalize().ok().as_ref() != Some(&served)
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
            return refused(Code::Invalid, "the store was never mirrored: see 'snapfs mirror attach'");
        };
        let noted = Path::new(std::ffi::OsStr::from_bytes(&ours.path)).to_owned();
        let path = with.unwrap_or(&noted);
        if path.as_os_str().is_empty() {
            return refused(Code::Invalid, "it is not known where the other side is: say so with --with");
        }
        self.refuse_late(path)?;
        let held = self.held.lock()[1 - self.serving()].take();
        let is_there = |side: &HeldSide| path.canonicalize().is_ok_and(|path| path == side.path);
        // One that was cut short, or of which files went: nothing of it counts, whatever is there by now.
        let lost_content =
            held.as_ref().is_some_and(|side| is_there(side) && side.device.location().lost.is_some());
        // One that has failed once flushes nothing any more, and is opened anew.
        let side = match held {
            Some(side) if is_there(&side) && !lost_content && side.device.flush().is_ok() => side,
            other => {
                other.into_iter().for_each(|side| self.drop_side(side));
                hold_side(path)?
            }
        };
        let (theirs, _) = label_in_force(&side.path, &*side.device)?;
        let strangers = || {
            refused(
                Code::Invalid,
                format!(
                    "{}: this is no side of this mirror: see 'snapfs mirror attach --force'",
                    names::shown(path)
                ),
            )
        };
        let Some(theirs) = theirs else { return strangers() };
        let went_on = match meet(&ours, &theirs) {
            Both::Together => return refused(Code::Invalid, "both sides are in sync"),
            Both::FirstAhead => false,
            Both::SplitBrain | Both::SecondAhead | Both::Neither => true,
            Both::Strangers => {
                let partners = ours.pair == theirs.pair && ours.partner == theirs.side;
                if !partners || theirs.partner != ours.side {
                    return strangers();
                }
                true
            }
        };
        // What was being filled is no store and has nothing.
        let went_on = went_on && theirs.standing != Standing::Incomplete;
        // What it had when it was split it has from here.
        let went_on = went_on && (theirs.standing != Standing::Split || theirs.opened);
        let has = if went_on && !matches!(how, Resync::Discard) {
            let from = (side.path.as_path(), side.device.clone());
            let has = SideChanges::open(&self.fs, from, Epoch(parted_at(&ours, &theirs)));
            Some(has.map_err(|f| unreadable(path, &f))?)
        } else {
            None
        };
        let from = if lost_content { FillFrom::Nothing } else { self.fill_from(&side)? };
        if let Resync::DryRun { discards } = how {
            return self.foretell(&side, &from, has.as_ref(), discards);
        }
        let told = &mut |bytes| {
            progress(json!({"received_bytes": bytes}));
        };
        let kept = has.map(|has| has.receive(told)).transpose()?.unwrap_or_default();
        self.bring_back(side, from)?;
        let mut status = self.status();
        if went_on {
            status["received"] = encode_kept(&kept);
        }
        Ok(status)
    }

    /// What a resync would do: an object.
    fn foretell(
        &self,
        side: &HeldSide,
        from: &FillFrom,
        has: Option<&SideChanges<'_>>,
        discards: bool,
    ) -> Result<Value, Failure> {
        let bytes = self.fs.volume().bytes_to_fill(from, &*side.device);
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
        let paused = match volume.split(&self.mirror, identity) {
            Ok(paused) => paused,
            Err(e) => {
                undo();
                return Err(self.failed(&e));
            }
        };
        self.set_mirrored(false)?;
        if let Some(side) = self.let_go() {
            if let Err(e) = mark::close(&*side.device) {
                log::warn!("cannot mark the side that left as closed: {e}");
            }
            names::put(&mut made, "store", &side.path);
            self.drop_side(side);
        }
        made["split_pause_us"] = json!(paused.as_micros() as u64);
        Ok(made)
    }

    fn detach(&self) -> Result<(), Failure> {
        self.end_filling();
        let in_sync = self.mirror.states().iter().flatten().filter(|s| s.state == "serving").count() == 2;
        if in_sync {
            self.keep_named();
            let parted = self.mirror.part().map_err(|e| told_mirror(&self.store, e))?;
            let stale =
                Label { number: parted.label.number + 1, standing: Standing::Stale, ..parted.label.clone() };
            // It has the identity of this store, so it must not be taken for one.
            let told = parted.call(move |device| {
                crate::device::mirror::write_label(device, &stale)?;
                let _closed = mark::close(device);
                Ok(())
            });
            if let Err(e) = told {
                log::warn!("the side that was detached cannot be told so: {e}");
            }
        } else if !self.mirror.forget_lost() {
            return refused(Code::Busy, "calls of the side that was lost have not returned");
        } else if self.mirror.label().is_none() {
            if self.wide.lock().is_some() {
                self.give_back()?;
            }
            return refused(Code::Invalid, "the store has no other side");
        }
        self.mirror.relabel(|_| None).map_err(|e| told_mirror(&self.store, e))?;
        self.set_mirrored(false)?;
        self.let_go().into_iter().for_each(|side| self.drop_side(side));
        *self.told.failed.lock() = None;
        self.give_back()
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

    fn end_filling(&self) {
        self.told.ends.store(true, SeqCst);
        if let Some(thread) = self.filling.lock().take()
            && thread.join().is_err()
        {
            log::error!("the thread that fills a side has failed");
        }
    }

    /// Ends what goes on in the background. The sides stay for the last commit.
    pub(super) fn end(&self) {
        self.end_filling();
    }

    /// Marks the sides as closed, if everything is durable, and lets go of them.
    pub(super) fn close(&self, whole: bool) {
        let serving = self.mirror.sides();
        let held = std::mem::take(&mut *self.held.lock());
        let late = std::mem::take(&mut *self.late.lock());
        for (n, side) in held.iter().enumerate() {
            let Some(side) = side.as_ref().filter(|_| whole && serving.contains(&n)) else { continue };
            if let Err(e) = mark::close(&*side.device) {
                log::warn!(
                    "cannot mark the store as closed, a copy of it will be taken for one of a store in use: {e}"
                );
            }
        }
        // What is not let go of is held as long as this process is there.
        let pends = |side: &HeldSide| !self.mirror.have_returned(&side.device, LATE_WAIT);
        held.into_iter().flatten().chain(late).filter(pends).for_each(std::mem::forget);
    }
}

/// What is to become of changes that only the other side has.
#[derive(Clone, Copy)]
enum Resync {
    /// They are received first.
    Receive,
    /// They are lost, as was asked for.
    Discard,
    /// Nothing is done.
    DryRun { discards: bool },
}

/// A side that went on and of which nothing can be received.
fn unreadable(side: &Path, f: &Failure) -> Failure {
    let what = "it went on by itself, and what it has cannot be read, so that it would be lost; say --discard if it may be";
    Failure::new(f.code, format!("{}: {what}: {}", names::shown(side), f.message))
}
