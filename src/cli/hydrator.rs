//! The thread that makes copies of snapshots in other stores: which is next, how fast, what is told, and when to try again.
//!
//! What there is to do is kept in the store (`src/volume/hydrations.rs`), so it goes on with the next mount. One copy is made
//! at a time; those in one store in the order in which they were begun, so that a later one carries only what changed. What is
//! in the way of one is told and tried again, after longer and longer times; nothing but an order ends it.

use super::hydrate_order::HydrateOrder;
use super::hydrating::Hydrating;
use super::hydration::told_limit;
use super::pace::Pace;
use super::refusal::{no_thread, told_name};
use crate::clock::{self, Clock};
use crate::ctl::{Code, Failure};
use crate::format::hydration::{HydrationRecord, HydrationState};
use crate::format::{Identity, ViewId};
use crate::fs::{NewHydration, WentOn};
use crate::names;
use crate::ops::{Error, Timestamp};
use crate::sys::schedule;
use parking_lot::{Condvar, Mutex};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// From a try that failed to the next: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How long a store is left to who mounts it.
const LET_GO: Duration = Duration::from_secs(10);
/// How often it is written down how far a copy is.
const SAVE_INTERVAL: Duration = Duration::from_secs(30);

/// The copies of one open store. Any thread may call.
pub(super) struct Hydrator {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// A mount serves the store: without one nothing goes on in the background.
    is_served: AtomicBool,
    /// Copies are begun one at a time.
    beginning: Mutex<()>,
}

/// All locks are leaves.
struct Shared {
    work: Hydrating,
    clock: Clock,
    current: Mutex<Option<Current>>,
    delays: Mutex<BTreeMap<u64, Delay>>,
    signal: (Mutex<Signal>, Condvar),
}

/// The copy that is being made.
#[derive(Clone, Default)]
struct Current {
    number: u64,
    /// Bytes that the other store had before.
    before: u64,
    about: u64,
    sent: u64,
    rate: u64,
}

/// A copy that something was in the way of.
struct Delay {
    until: Duration,
    after: Duration,
}

#[derive(Default)]
struct Signal {
    end: bool,
    orders: u64,
    /// Copies that were given up: what was received of them is to be forgotten.
    untidy: Vec<(HydrationRecord, Identity)>,
}

impl Hydrator {
    /// Knows the copies of a store; makes none before [`Self::serve`].
    pub(super) fn new(work: Hydrating, clock: Clock) -> Hydrator {
        let shared = Shared {
            work,
            clock,
            current: Mutex::default(),
            delays: Mutex::default(),
            signal: Default::default(),
        };
        Hydrator {
            shared: Arc::new(shared),
            thread: Mutex::default(),
            is_served: AtomicBool::new(false),
            beginning: Mutex::default(),
        }
    }

    /// The store is mounted, and takes changes: copies that were begun go on.
    pub(super) fn serve(&self) {
        self.is_served.store(true, SeqCst);
        self.look_again();
    }

    /// Snapshots may have come back from the trash: copies of them go on.
    pub(super) fn look_again(&self) {
        if self.shared.all().iter().any(|copy| copy.state == HydrationState::Running)
            && let Err(f) = self.wake()
        {
            log::error!("copies in other stores do not go on: {f}");
        }
    }

    /// Carries out an order about a snapshot; tells how its copies stand then: an array.
    pub(super) fn order(&self, view: ViewId, order: &HydrateOrder) -> Result<Value, Failure> {
        let fs = &self.shared.work.fs;
        let info = fs.volume().snapshot_info(view).ok_or_else(|| told_name(b"", &Error::NotFound))?;
        let failed = |e: Error| told_name(&info.name, &e);
        if let HydrateOrder::Begin { to, rate, user } = order {
            self.begin(view, to, *rate, *user)?;
        } else if *order != HydrateOrder::Status {
            let copies: Vec<_> =
                fs.volume().hydrations_of(view).into_iter().filter(|c| !c.is_whole()).collect();
            if copies.is_empty() {
                let what = "no copy of it is being made: begin one with --to STORE2";
                return Err(Failure::new(
                    Code::NotFound,
                    format!("{}: {what}", names::shown_bytes(&info.name)),
                ));
            }
            for copy in copies {
                match order {
                    HydrateOrder::Pause => {
                        fs.direct_hydration(copy.number, Some(HydrationState::Paused), None)
                            .map_err(failed)?;
                    }
                    HydrateOrder::Resume => {
                        fs.direct_hydration(copy.number, Some(HydrationState::Running), None)
                            .map_err(failed)?;
                    }
                    HydrateOrder::Rate(rate) => {
                        fs.direct_hydration(copy.number, None, Some(*rate)).map_err(failed)?;
                    }
                    HydrateOrder::Cancel => {
                        let identity = fs.volume().identity(view);
                        fs.end_hydration(copy.number).map_err(failed)?;
                        self.shared
                            .signal
                            .0
                            .lock()
                            .untidy
                            .extend(identity.map(|identity| (copy.clone(), identity)));
                    }
                    HydrateOrder::Begin { .. } | HydrateOrder::LetGo { .. } | HydrateOrder::Status => {}
                }
                self.shared.delays.lock().remove(&copy.number);
            }
            self.wake()?;
        }
        Ok(self.told(Some(view)))
    }

    /// Carries out an order about all copies; tells how those stand that it is about: an array.
    pub(super) fn order_of_all(&self, order: &HydrateOrder) -> Result<Value, Failure> {
        match order {
            HydrateOrder::LetGo { of } => self.let_go(of),
            _ => Ok(self.told(None)),
        }
    }

    /// Copies in a store wait for a while, the one that is being made too, so that somebody can mount it: then they go on through its
    /// daemon. Tells which: an array.
    fn let_go(&self, of: &Path) -> Result<Value, Failure> {
        let is_there = |copy: &HydrationRecord| {
            copy.state == HydrationState::Running && copy.path == of.as_os_str().as_bytes()
        };
        let shared = &self.shared;
        let copies: Vec<HydrationRecord> = shared.all().into_iter().filter(is_there).collect();
        let until = shared.clock.passed() + LET_GO;
        let delays = copies.iter().map(|copy| (copy.number, Delay { until, after: RETRY.0 }));
        shared.delays.lock().extend(delays);
        if !copies.is_empty() {
            self.wake()?;
        }
        Ok(Value::Array(copies.iter().map(|copy| shared.tell(copy, None)).collect()))
    }

    fn begin(&self, view: ViewId, to: &Path, rate: u64, user: Option<u32>) -> Result<(), Failure> {
        let _turn = self.beginning.lock();
        let (shared, fs) = (&self.shared, &self.shared.work.fs);
        let real = super::apart::real(to).unwrap_or_else(|_| to.to_path_buf());
        // A store that gets another copy just now may be open here.
        let known = shared
            .all()
            .into_iter()
            .find(|copy| !copy.is_whole() && copy.path == real.as_os_str().as_bytes());
        let about = fs.volume().snapshot_info(view).map_or(0, |info| info.referenced);
        let new = match known {
            Some(copy) => {
                NewHydration { view, store: copy.store, path: copy.path, rate, about_bytes: about, user }
            }
            None => {
                let wanted = shared.work.look(view, to)?;
                let (store, path, about_bytes) = (wanted.store, wanted.path, wanted.about_bytes);
                NewHydration { view, store, path, rate, about_bytes, user }
            }
        };
        fs.begin_hydration(&new).map_err(|e| match e {
            Error::Exists => {
                let what = "a copy of the snapshot is being made there already";
                Failure::new(Code::Exists, format!("{}: {what}", names::shown(to)))
            }
            e => super::refusal::told(&shared.work.store, &e),
        })?;
        self.wake()
    }

    /// How the copies of a snapshot stand, or all: an array.
    pub(super) fn told(&self, view: Option<ViewId>) -> Value {
        let all = self.shared.all();
        let current = self.shared.current.lock().clone();
        let wanted = all.iter().filter(|copy| view.is_none_or(|view| copy.view == view));
        Value::Array(wanted.map(|copy| self.shared.tell(copy, current.as_ref())).collect())
    }

    /// The copies that are not whole, in a few words.
    pub(super) fn summary(&self) -> Option<String> {
        let told = self.told(None);
        let some = |copy: &&Value| copy["state"] != "whole";
        let words = |copy: &Value| {
            let shown =
                |key: &str| names::get(copy, key).map(|name| names::shown_bytes(&name)).unwrap_or_default();
            format!("'{}' to {}: {}", shown("name"), shown("to"), super::hydration::in_words(copy))
        };
        let all: Vec<String> = told.as_array().into_iter().flatten().filter(some).map(words).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// Has the thread look, and starts it if there is none.
    fn wake(&self) -> Result<(), Failure> {
        {
            let mut signal = self.shared.signal.0.lock();
            signal.orders += 1;
            self.shared.signal.1.notify_all();
        }
        let mut thread = self.thread.lock();
        if thread.is_none() && self.is_served.load(SeqCst) {
            let shared = self.shared.clone();
            let started = std::thread::Builder::new().name("hydrate".into()).spawn(move || shared.run());
            *thread = Some(started.map_err(|e| Failure::new(Code::Other, no_thread(&e)))?);
        }
        Ok(())
    }

    /// Ends the thread, and with it what it was doing. The last call.
    pub(super) fn close(&self) {
        self.is_served.store(false, SeqCst);
        self.shared.signal.0.lock().end = true;
        self.shared.signal.1.notify_all();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            log::error!("the thread that copies to other stores has failed");
        }
    }
}

/// What the thread does next.
enum Next {
    Copy(Box<HydrationRecord>),
    WaitFor(Duration),
    WaitForOrders,
}

impl Shared {
    fn all(&self) -> Vec<HydrationRecord> {
        // Each side of a split has a record of both, and one of these is about itself.
        let volume = self.work.fs.volume();
        volume.hydrations().into_iter().filter(|copy| copy.store != volume.uuid()).collect()
    }

    fn run(&self) {
        schedule::give_way();
        if let Err(e) = schedule::take_long_turns() {
            log::debug!("copies to other stores take turns as everybody does: {e}");
        }
        loop {
            let (orders, untidy) = {
                let mut signal = self.signal.0.lock();
                if signal.end {
                    return;
                }
                (signal.orders, std::mem::take(&mut signal.untidy))
            };
            for (copy, identity) in untidy {
                if let Err(f) = self.work.tidy(&copy, identity) {
                    log::info!("what was received of a copy that was given up stays for a week: {f}");
                }
            }
            match self.next() {
                Next::Copy(copy) => self.attempt(&copy),
                Next::WaitFor(time) => self.wait(orders, Some(time)),
                Next::WaitForOrders => self.wait(orders, None),
            }
        }
    }

    fn next(&self) -> Next {
        let (now, delays) = (self.clock.passed(), self.delays.lock());
        let (mut taken, mut soonest) = (BTreeSet::new(), None);
        // What is in the trash, itself or with its line, waits for coming back.
        let fs = &self.work.fs;
        let is_there = |copy: &HydrationRecord| {
            fs.volume().snapshot_info(copy.view).is_some_and(|found| fs.root_of(found.line).is_ok())
        };
        for copy in self.all().into_iter().filter(|copy| !copy.is_whole() && is_there(copy)) {
            // Those behind it would have to carry more, or could not be made what they are.
            if !taken.insert(copy.store) || copy.state != HydrationState::Running {
                continue;
            }
            match delays.get(&copy.number).map(|delay| delay.until).filter(|until| *until > now) {
                None => return Next::Copy(Box::new(copy)),
                Some(until) => soonest = Some(soonest.map_or(until, |soonest: Duration| soonest.min(until))),
            }
        }
        soonest.map_or(Next::WaitForOrders, |until| Next::WaitFor(until - now))
    }

    /// Waits for new orders or the end, or until the time is over.
    fn wait(&self, orders: u64, time: Option<Duration>) {
        let mut signal = self.signal.0.lock();
        let until = time.map(|t| Instant::now() + t);
        while !signal.end && signal.orders == orders {
            match until {
                Some(until) if self.signal.1.wait_until(&mut signal, until).timed_out() => return,
                Some(_) => {}
                None => self.signal.1.wait(&mut signal),
            }
        }
    }

    /// Tries to bring a copy to its end.
    fn attempt(&self, copy: &HydrationRecord) {
        let (number, fs) = (copy.number, &self.work.fs);
        *self.current.lock() =
            Some(Current { number, before: copy.done_bytes, about: copy.about_bytes, ..Current::default() });
        let pace = Mutex::new((Pace::new(self.clock.passed(), self.moved()), self.clock.passed()));
        let received = |before: u64, about: u64| {
            // Its store is there: what is to be sent of it is kept.
            fs.note_hydration(number, (before, about), "", WentOn::Yes);
            self.current.lock().iter_mut().for_each(|now| (now.before, now.about) = (before, about));
        };
        let done = self.work.copy(copy, &|bytes| self.pass(number, bytes as u64, &pace), &received);
        let current = self.current.lock().take().unwrap_or_default();
        let so_far = current.before + current.sent;
        let went_on = if current.sent > 0 { WentOn::Yes } else { WentOn::No };
        let shown = names::shown_bytes(&copy.path);
        let done = done.and_then(|_| {
            let ended = self.work.fs.finish_hydration(number, so_far);
            ended.map_err(|e| super::refusal::told(&self.work.store, &e))
        });
        match done {
            Ok(_) => {
                self.delays.lock().remove(&number);
                log::info!("the copy in {shown} is whole: {so_far} bytes");
            }
            Err(_) if !self.goes_on(number) => {
                fs.note_hydration(number, (so_far, current.about), "", went_on);
            }
            Err(f) => {
                let after = self.delay(number, current.sent > 0);
                log::warn!(
                    "the copy in {shown} does not go on: {f}; the next try is in {} s",
                    after.as_secs()
                );
                fs.note_hydration(number, (so_far, current.about), &f.message, went_on);
            }
        }
    }

    /// When it is tried again: sooner if it had come further.
    fn delay(&self, number: u64, is_further: bool) -> Duration {
        let mut delays = self.delays.lock();
        let last = delays.get(&number).filter(|_| !is_further).map(|delay| delay.after);
        let after = next_delay(last);
        delays.insert(number, Delay { until: self.clock.passed() + after, after });
        after
    }

    fn moved(&self) -> u64 {
        let io = self.work.fs.volume().io();
        io.read_bytes + io.written_bytes
    }

    fn goes_on(&self, number: u64) -> bool {
        let now = self.clock.passed();
        // Only what was let go of waits while it is being made.
        if self.delays.lock().get(&number).is_some_and(|delay| delay.until > now) {
            return false;
        }
        let copy = self.work.fs.volume().hydration(number);
        copy.is_some_and(|copy| copy.state == HydrationState::Running) && !self.signal.0.lock().end
    }

    /// So many bytes are about to go: waits until they may, and fails if they shall not any more. No bytes wait for nothing.
    fn pass(&self, number: u64, bytes: u64, pace: &Mutex<(Pace, Duration)>) -> io::Result<()> {
        let orders = self.signal.0.lock().orders;
        let copy = self.work.fs.volume().hydration(number);
        let Some(copy) = copy.filter(|_| self.goes_on(number)) else {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "it was told to stop"));
        };
        if bytes == 0 {
            return Ok(());
        }
        let now = self.clock.passed();
        let (wait, rate, is_due) = {
            let (pace, saved) = &mut *pace.lock();
            let wait = pace.before(bytes, copy.rate, now, self.moved());
            let is_due = now.saturating_sub(*saved) >= SAVE_INTERVAL;
            if is_due {
                *saved = now;
            }
            (wait, pace.rate(now), is_due)
        };
        let so_far = {
            let mut current = self.current.lock();
            let current = current.get_or_insert_default();
            current.sent += bytes;
            current.rate = rate;
            current.clone()
        };
        if is_due {
            let bytes = (so_far.before + so_far.sent, so_far.about);
            self.work.fs.note_hydration(number, bytes, "", WentOn::Yes);
        }
        if !wait.is_zero() {
            self.wait(orders, Some(wait));
        }
        Ok(())
    }

    fn tell(&self, copy: &HydrationRecord, current: Option<&Current>) -> Value {
        let time = |secs: i64| (secs != 0).then(|| clock::rfc3339(Timestamp { secs, nanos: 0 }));
        let current = current.filter(|now| now.number == copy.number);
        let (done, about) =
            current.map_or((copy.done_bytes, copy.about_bytes), |now| (now.before + now.sent, now.about));
        let state = match copy.state {
            HydrationState::Running if current.is_some_and(|now| now.sent > 0) => "running",
            HydrationState::Running if !copy.trouble.is_empty() => "waiting",
            HydrationState::Running if current.is_some() => "running",
            HydrationState::Running => "queued",
            state => state.name(),
        };
        let rate = current.map_or(0, |now| now.rate);
        let eta = (state == "running" && rate > 0).then(|| about.saturating_sub(done) / rate);
        let trouble = Some(names::shown_bytes(&copy.trouble)).filter(|text| !text.is_empty());
        let mut told = json!({
            "state": state,
            "store": Identity(copy.store).to_string(),
            "snapshot_id": copy.view.0,
            "done_bytes": done,
            "about_bytes": about,
            "sent_bytes": current.map(|now| now.sent),
            "rate_bytes": rate,
            "eta_seconds": eta,
            "limit_bytes": told_limit(copy.rate),
            "trouble": trouble,
            "user": copy.user,
            "begun": time(copy.begun_secs),
            "ended": time(copy.ended_secs),
        });
        names::put(&mut told, "to", OsStr::from_bytes(&copy.path));
        let name = self.work.fs.volume().snapshot_info(copy.view).map(|info| info.name).unwrap_or_default();
        names::put(&mut told, "name", OsStr::from_bytes(&name));
        told
    }
}

/// The time to the next try, after this one.
fn next_delay(last: Option<Duration>) -> Duration {
    last.map_or(RETRY.0, |last| (last * 2).min(RETRY.1))
}

#[cfg(test)]
#[path = "hydrator_tests.rs"]
mod tests;
