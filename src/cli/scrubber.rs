//! The thread that scrubs an open store in the background: when, how fast, and what there is to tell.
//!
//! It reads a little, waits as long as its speed asks for, and writes down every while how far it got. A scrub that was
//! running when the store was closed goes on when it is opened for changes again. Orders wait for the piece that is
//! being read; what is told is a copy, and waits for nothing.

use super::engine::ScrubOrder;
use super::limit::UNLIMITED;
use super::output::rfc3339;
use crate::clock::Clock;
use crate::ctl::{Code, Failure};
use crate::format::scrub::{Finding, ScrubRecord, ScrubState};
use crate::ops::Timestamp;
use crate::scrub::Scrub;
use crate::sys::schedule;
use crate::volume::Volume;
use parking_lot::{Condvar, Mutex};
use serde_json::{Value, json};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Bytes a second unless told otherwise while nobody else uses the device, and while somebody does: 64 rests a second then,
/// fewer than one in a hundred of the calls of who keeps a store busy, so that its 99th percentile stays what it is.
const IDLE_SPEED: u64 = 64 << 20;
const BUSY_SPEED: u64 = 4 << 20;
/// Others use the device if they move so many bytes in a second.
const BUSY_BYTES: u64 = 512 << 10;
/// How much of what was lost to a slow device is made up for.
const LAG_MAX: Duration = Duration::from_millis(100);
/// After so many bytes it rests within a piece, so that nobody waits for the processor as long as a piece takes.
const REST_BYTES: u64 = 64 << 10;
/// No longer than this at once: orders wait.
const REST_MAX: Duration = Duration::from_millis(20);
/// How often the record is written down.
const SAVE_INTERVAL: Duration = Duration::from_secs(30);
/// How long a state is held on to: space that others free meanwhile cannot be reused.
const PIN_INTERVAL: Duration = Duration::from_secs(2);
/// Pieces a second: how soon orders are heard. What leads to where a piece begins is read again for each.
const PIECES: u64 = 8;
/// Least and greatest piece, in bytes.
const PIECE_BYTES: (u64, u64) = (128 << 10, 4 << 20);

/// The scrubber of one open store. Any thread may call.
pub(super) struct Scrubber {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Lock order: `scrub`, `told`; `signal` is a leaf.
struct Shared {
    volume: Arc<Volume>,
    clock: Clock,
    /// Held while a piece is read.
    scrub: Mutex<Option<Scrub>>,
    told: Mutex<Told>,
    /// Set when the thread has to look: to end, or for orders.
    signal: (Mutex<Signal>, Condvar),
}

#[derive(Default)]
struct Signal {
    end: bool,
    orders: u64,
}

/// What is known for others.
#[derive(Default)]
struct Told {
    record: Option<ScrubRecord>,
    findings: Vec<Finding>,
    /// Bytes a second of late; 0 if unknown.
    rate: u64,
    /// Why it does not go on although it is not at its end.
    failed: Option<String>,
}

impl Scrubber {
    /// Takes up what the store knows of its last scrub. `resume`: a running one goes on.
    pub(super) fn open(volume: Arc<Volume>, clock: Clock, resume: bool) -> Scrubber {
        let scrub = Scrub::load(&volume);
        let running = scrub.as_ref().is_some_and(|s| s.record().state == ScrubState::Running);
        let shared = Arc::new(Shared {
            volume,
            clock,
            scrub: Mutex::new(scrub),
            told: Mutex::default(),
            signal: Default::default(),
        });
        shared.tell(shared.scrub.lock().as_ref());
        let scrubber = Scrubber { shared, thread: Mutex::new(None) };
        if running && resume {
            log::info!("the scrub that was interrupted goes on");
            if let Err(e) = scrubber.wake() {
                log::error!("the scrub does not go on: {e}");
            }
        }
        scrubber
    }

    /// Does what is ordered, and tells how it stands then.
    pub(super) fn order(&self, order: ScrubOrder) -> Result<Value, Failure> {
        let refused = |what: &str| Err(Failure::new(Code::Busy, what));
        if order == ScrubOrder::Status {
            return Ok(self.status());
        }
        let shared = &self.shared;
        let mut scrub = shared.scrub.lock();
        let state = scrub.as_ref().filter(|s| s.is_unfinished()).map(|s| s.record().state);
        match (order, state, scrub.as_mut()) {
            (ScrubOrder::Start { .. }, Some(_), _) if shared.told.lock().failed.is_some() => {
                return refused("a scrub came to a halt: --resume goes on with it, --stop ends it");
            }
            (ScrubOrder::Start { .. }, Some(ScrubState::Running), _) => return refused("a scrub is running"),
            (ScrubOrder::Start { .. }, Some(_), _) => {
                return refused("a scrub is paused: --resume goes on with it, --stop ends it");
            }
            (ScrubOrder::Start { limit }, None, _) => {
                *scrub = Some(Scrub::start(&shared.volume, limit.unwrap_or(0), shared.now()));
            }
            (ScrubOrder::Pause, Some(_), Some(s)) => s.set_state(ScrubState::Paused),
            (ScrubOrder::Stop, Some(_), Some(s)) => s.set_state(ScrubState::Stopped),
            (ScrubOrder::Resume { limit }, Some(_), Some(s)) => {
                limit.into_iter().for_each(|l| s.set_limit(l));
                s.set_state(ScrubState::Running);
            }
            _ => return Err(Failure::new(Code::NotFound, "no scrub is running or paused")),
        }
        scrub.as_mut().into_iter().for_each(|s| s.save(&shared.volume, shared.now()));
        shared.told.lock().failed = None;
        shared.tell(scrub.as_ref());
        drop(scrub);
        self.wake()?;
        Ok(self.status())
    }

    /// How it stands: an object.
    pub(super) fn status(&self) -> Value {
        let told = self.shared.told.lock();
        let Some(record) = &told.record else { return json!({"state": "none"}) };
        let time = |secs| rfc3339(Timestamp { secs, nanos: 0 });
        let state = match record.state {
            ScrubState::Running if told.failed.is_some() => "failed",
            ScrubState::Running => "running",
            ScrubState::Paused => "paused",
            ScrubState::Finished => "finished",
            ScrubState::Stopped => "stopped",
        };
        let done = if record.state == ScrubState::Finished { record.total_bytes } else { record.done_bytes };
        let left = record.total_bytes - done.min(record.total_bytes);
        let eta = (state == "running" && told.rate > 0).then(|| left / told.rate);
        let mut status = json!({
            "state": state,
            "started": time(record.started_secs),
            "done_bytes": done,
            "total_bytes": record.total_bytes,
            "rate_bytes": told.rate,
            "eta_seconds": eta,
            "limit_bytes": Some(record.limit).filter(|l| *l != 0 && *l != UNLIMITED),
            "blocks_healed": record.healed,
            "blocks_bad": record.bad,
            "findings": told.findings.iter().map(finding).collect::<Vec<_>>(),
        });
        if !matches!(state, "running" | "failed") {
            status["ended"] = json!(time(record.ended_secs));
        }
        if let Some(why) = &told.failed {
            status["failed"] = json!(why);
        }
        status
    }

    /// The last scrub in a few words, and whether damage is known from it.
    pub(super) fn summary(&self) -> (String, bool) {
        let status = self.status();
        let text = |key: &str| status[key].as_str().unwrap_or_default().to_string();
        let number = |key: &str| status[key].as_u64().unwrap_or(0);
        let (bad, healed) = (number("blocks_bad"), number("blocks_healed"));
        let percent = number("done_bytes") * 100 / number("total_bytes").max(1);
        let words = match text("state").as_str() {
            "none" => "never".to_string(),
            "finished" => format!("finished {}, {bad} bad, {healed} healed", text("ended")),
            state => format!("{state} at {percent}%, {bad} bad, {healed} healed"),
        };
        (words, bad > 0)
    }

    /// Has the thread look, and starts it if there is none.
    fn wake(&self) -> Result<(), Failure> {
        {
            let mut signal = self.shared.signal.0.lock();
            signal.orders += 1;
            self.shared.signal.1.notify_all();
        }
        let mut thread = self.thread.lock();
        if thread.is_none() {
            let shared = self.shared.clone();
            let started = std::thread::Builder::new().name("scrub".into()).spawn(move || shared.run());
            let failed = |e| Failure::new(Code::Other, format!("cannot start a thread: {e}"));
            *thread = Some(started.map_err(failed)?);
        }
        Ok(())
    }

    /// Ends the thread and writes down how far the scrub got. The last call.
    pub(super) fn close(&self) {
        self.shared.signal.0.lock().end = true;
        self.shared.signal.1.notify_all();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            log::error!("the scrubbing thread has failed");
        }
    }
}

fn finding(f: &Finding) -> Value {
    json!({
        "address": f.addr, "bytes": f.len, "what": f.what,
        "files": f.files, "files_total": f.files_total,
        "snapshots": f.views, "snapshots_total": f.views_total,
    })
}

impl Shared {
    fn now(&self) -> i64 {
        self.clock.now().secs
    }

    fn tell(&self, scrub: Option<&Scrub>) {
        let mut told = self.told.lock();
        told.record = scrub.map(|s| s.record().clone());
        told.findings = scrub.map(|s| s.findings().to_vec()).unwrap_or_default();
    }

    fn run(&self) {
        schedule::give_way();
        if let Err(e) = schedule::take_long_turns() {
            log::debug!("the scrub takes turns as everybody does: {e}");
        }
        let mut pace = Pace::new(self.volume.io().read_bytes + self.volume.io().written_bytes);
        let (mut saved, mut pinned) = (Instant::now(), Instant::now());
        loop {
            let orders = {
                let signal = self.signal.0.lock();
                if signal.end {
                    break;
                }
                signal.orders
            };
            let mut scrub = self.scrub.lock();
            let Some(s) = scrub.as_mut().filter(|s| s.record().state == ScrubState::Running) else {
                drop(scrub);
                pace.rest();
                self.wait(orders, None);
                continue;
            };
            let io = self.volume.io();
            let speed = pace.speed(s.record().limit, io.read_bytes + io.written_bytes);
            let piece = (speed / PIECES).clamp(PIECE_BYTES.0, PIECE_BYTES.1);
            let mut owed = 0;
            s.rest_with(move |read| {
                owed += read;
                if owed >= REST_BYTES {
                    std::thread::sleep(Duration::from_secs_f64(owed as f64 / speed as f64).min(REST_MAX));
                    owed = 0;
                }
            });
            let step = s.step(&self.volume, piece);
            if pinned.elapsed() > PIN_INTERVAL {
                s.unpin();
                pinned = Instant::now();
            }
            if saved.elapsed() > SAVE_INTERVAL || !s.is_unfinished() {
                s.save(&self.volume, self.now());
                saved = Instant::now();
            }
            if !s.is_unfinished() {
                let r = s.record();
                log::info!("scrub finished: {} blocks bad, {} healed", r.bad, r.healed);
            }
            self.tell(Some(s));
            let pause = match step {
                Ok(read) => pace.after(read, speed),
                Err(e) => {
                    log::error!("the scrub does not go on: {e}");
                    s.unpin();
                    self.told.lock().failed = Some(e.to_string());
                    drop(scrub);
                    self.wait(orders, None);
                    continue;
                }
            };
            self.told.lock().rate = pace.rate();
            if pause > PIN_INTERVAL {
                s.unpin();
            }
            drop(scrub);
            self.wait(orders, Some(pause));
        }
        if let Some(s) = self.scrub.lock().as_mut().filter(|s| s.is_unfinished()) {
            s.unpin();
            s.save(&self.volume, self.now());
        }
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
}

/// How fast it may go, and how fast it went.
struct Pace {
    /// When the next piece may begin.
    due: Instant,
    /// When others were last looked at, and how many bytes they had moved by then.
    looked: Instant,
    others: u64,
    others_busy: bool,
    /// Bytes and time of the last while.
    read: u64,
    began: Instant,
}

impl Pace {
    fn new(others: u64) -> Pace {
        let now = Instant::now();
        // Slow until it is known.
        Pace { due: now, looked: now, others, others_busy: true, read: 0, began: now }
    }

    /// Bytes a second. `others`: bytes that everybody else has moved so far.
    fn speed(&mut self, limit: u64, others: u64) -> u64 {
        let elapsed = self.looked.elapsed();
        if elapsed >= Duration::from_secs(1) {
            let moved = others.saturating_sub(self.others) as u128 * 1000 / elapsed.as_millis().max(1);
            self.others_busy = moved > u128::from(BUSY_BYTES);
            (self.looked, self.others) = (Instant::now(), others);
        }
        match limit {
            0 if self.others_busy => BUSY_SPEED,
            0 => IDLE_SPEED,
            limit => limit,
        }
    }

    /// How long to wait after a piece.
    fn after(&mut self, read: u64, speed: u64) -> Duration {
        self.read += read;
        let now = Instant::now();
        self.due = self.due.max(now - LAG_MAX.min(now - self.began));
        self.due += Duration::from_secs_f64(read as f64 / speed as f64);
        self.due.saturating_duration_since(now)
    }

    /// Bytes a second since it last rested.
    fn rate(&self) -> u64 {
        (self.read as f64 / self.began.elapsed().as_secs_f64().max(0.001)) as u64
    }

    /// Nothing is read for a while.
    fn rest(&mut self) {
        (self.read, self.began, self.due) = (0, Instant::now(), Instant::now());
    }
}
