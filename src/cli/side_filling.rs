//! What a filling of a side tells, and is told: how far it is, how fast it may be, and that it is to end.

use super::refusal::no_thread;
use crate::ctl::{Code, Failure};
use crate::volume::Filled;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often a filling that is paused looks whether it may go on.
const PAUSE: Duration = Duration::from_millis(100);

/// What a filling tells, and is told. Any thread.
#[derive(Default)]
pub(super) struct FillingTold {
    pub(super) running: AtomicBool,
    pub(super) done: AtomicU64,
    pub(super) total: AtomicU64,
    pub(super) copied: AtomicU64,
    /// What of that was content, once it is known, and what could not be read.
    pub(super) content: Mutex<Option<u64>>,
    pub(super) unread: AtomicU64,
    ends: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The store is being closed: nothing begins any more.
    closes: AtomicBool,
    pub(super) paused: AtomicBool,
    /// Bytes a second at most; 0: no limit. That of one filling: the next has none of its own accord.
    pub(super) rate: AtomicU64,
    /// How the last one ended, if not well.
    pub(super) failed: Mutex<Option<String>>,
}

impl FillingTold {
    pub(super) fn at(&self, filled: Filled) {
        self.done.store(filled.done, SeqCst);
        self.total.store(filled.total, SeqCst);
        self.copied.store(filled.copied, SeqCst);
        self.unread.store(filled.unread, SeqCst);
        *self.content.lock() = filled.content;
    }

    /// Puts into the state of a mirror how far it is. `running` was asked before the sides were.
    pub(super) fn put(&self, status: &mut Value, running: bool) {
        let numbers = [
            ("done_bytes", &self.done),
            ("total_bytes", &self.total),
            ("copied_bytes", &self.copied),
            ("unread_bytes", &self.unread),
        ];
        numbers.iter().for_each(|(key, number)| status[*key] = number.load(SeqCst).into());
        status["syncing"] = running.into();
        status["copied_content_bytes"] = json!(*self.content.lock());
        status["paused"] = self.paused.load(SeqCst).into();
        status["rate"] = json!(Some(self.rate.load(SeqCst)).filter(|rate| running && *rate > 0));
        status["sync_failed"] = json!(*self.failed.lock());
    }

    /// Has it wait, or go on: what is under way, or what the store comes to with a side that it had.
    pub(super) fn pause(&self, paused: bool, has_side: bool) -> Result<(), Failure> {
        if paused && !has_side {
            let what = "the store has no other side that could be filled: see 'snapfs mirror attach'";
            return Err(Failure::new(Code::Invalid, what));
        }
        self.paused.store(paused, SeqCst);
        Ok(())
    }

    /// The other side is none any more: nothing of its filling counts for the next.
    pub(super) fn forget_side(&self) {
        self.paused.store(false, SeqCst);
        *self.failed.lock() = None;
    }

    /// An order that was given a rate has begun nothing.
    pub(super) fn forget_rate(&self) {
        if !self.running.load(SeqCst) {
            self.rate.store(0, SeqCst);
        }
    }

    /// Something begins that may be ended. False if it is over with the store.
    pub(super) fn begins(&self) -> bool {
        self.ends.store(false, SeqCst);
        !self.closes.load(SeqCst)
    }

    /// Has a thread do something about a side, which may be ended, and ends with the store at the latest.
    pub(super) fn start(
        self: &Arc<FillingTold>,
        work: impl FnOnce() -> Result<(), String> + Send + 'static,
    ) -> Result<(), Failure> {
        let mut thread = self.thread.lock();
        if !self.begins() {
            return Err(Failure::new(Code::Other, "the store is being unmounted"));
        }
        self.running.store(true, SeqCst);
        self.at(Filled::default());
        *self.failed.lock() = None;
        let told = self.clone();
        let work = move || {
            if let Err(why) = work() {
                log::error!("mirror: the other side was not filled: {why}");
                *told.failed.lock() = Some(why);
            }
            told.rate.store(0, SeqCst);
            told.running.store(false, SeqCst);
        };
        let started = std::thread::Builder::new().name("mirror".into()).spawn(work);
        let started = started.map_err(|e| {
            self.running.store(false, SeqCst);
            Failure::new(Code::Other, no_thread(&e))
        })?;
        *thread = Some(started);
        Ok(())
    }

    /// Has what goes on end, and waits for that.
    pub(super) fn end(&self) {
        let thread = {
            // With the lock: what begins after that is something else.
            let mut thread = self.thread.lock();
            self.ends.store(true, SeqCst);
            thread.take()
        };
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            log::error!("the thread that fills a side has failed");
        }
    }

    /// Has what goes on end, and what would begin from now on.
    pub(super) fn close(&self) {
        self.closes.store(true, SeqCst);
    }

    /// True if whoever works is to end.
    pub(super) fn is_ended(&self) -> bool {
        self.ends.load(SeqCst) || self.closes.load(SeqCst)
    }
}

/// Keeps a filling to its rate.
pub(super) struct FillingPace<'a> {
    told: &'a FillingTold,
    since: Instant,
    from: u64,
}

impl FillingPace<'_> {
    pub(super) fn new(told: &FillingTold) -> FillingPace<'_> {
        FillingPace { told, since: Instant::now(), from: 0 }
    }

    pub(super) fn at(&mut self, filled: Filled) -> ControlFlow<()> {
        self.told.at(filled);
        loop {
            if self.told.is_ended() {
                return ControlFlow::Break(());
            }
            let rate = self.told.rate.load(SeqCst);
            let ahead = rate > 0
                && (filled.done - self.from) as f64 > rate as f64 * self.since.elapsed().as_secs_f64();
            if !self.told.paused.load(SeqCst) && !ahead {
                return ControlFlow::Continue(());
            }
            if self.told.paused.load(SeqCst) {
                (self.since, self.from) = (Instant::now(), filled.done);
            }
            std::thread::sleep(if ahead { PAUSE / 10 } else { PAUSE });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_one_filling() {
        let told = Arc::new(FillingTold::default());
        told.rate.store(5 << 20, SeqCst);
        told.start(|| Ok(())).unwrap();
        told.end();
        assert_eq!(told.rate.load(SeqCst), 0);
        // Nor does it outlast an order that begins nothing.
        told.rate.store(5 << 20, SeqCst);
        told.forget_rate();
        assert_eq!(told.rate.load(SeqCst), 0);
    }
}
