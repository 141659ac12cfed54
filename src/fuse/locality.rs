//! Decides on which processor, and by how many threads, requests are answered.
//!
//! Each request costs two wake-ups: the kernel wakes a request thread, and the answer wakes the program that asked. Linux
//! likes to place a thread that wakes up on an idle processor, that is, on another one. On a virtual machine an idle
//! processor sleeps, and waking it takes longer (50 to 80 us) than most requests do. Two measures avoid that:
//!
//! - **One client.** While one thread of one program sends nearly all requests, and small ones, all request threads are
//!   bound to the processor on which that client runs, and only one of them goes on reading requests. That one runs in
//!   the scheduling class `SCHED_IDLE`: a processor that runs nothing but such threads counts as idle. So the scheduler
//!   wakes the client right there, and when the client sends its next request the thread is on that processor already.
//! - **Several clients.** While several threads send requests that only touch memory and the log, half as many request
//!   threads as there are processors go on reading, one at least. A thread that has sent its answer then usually finds
//!   the next request waiting, and no other thread has to be woken for it.
//!
//! A thread named "locality" ([`Watch`]) looks every 2 ms at who sent requests and switches these measures on and off.
//! Measurements and alternatives: docs/decisions/0014.
//!
//! Invariant: this decides where and when threads run and nothing else. A thread that does not go on reading has sent its
//! answer, holds no lock, and owes no other answer. When the threads that do read are kept from the processor, or wait for
//! a device, fewer requests are answered, and the watch ends the measure within two ticks. Nothing is done on a machine
//! that wakes processors quickly, on a single processor, or without the right to leave `SCHED_IDLE` (`CAP_SYS_NICE`).

use crate::sys::schedule::{self, Claim, Processors, ThreadId};
use parking_lot::{Condvar, Mutex};
use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Weak};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// How often it is looked at who asks.
const TICK: Duration = Duration::from_millis(2);
/// With fewer requests than this in a tick neither measure is worth its cost.
const REQUESTS_MIN: u64 = 8;
/// A measure stays on while at most one request in so many is an exception: from another client, with much data, or slow.
const OTHERS_SHARE: u64 = 8;
/// A request that needs only memory and the log takes less than this, unless its thread has to wait.
const LONG: Duration = Duration::from_micros(100);
/// After so many ticks without a reason for either measure the watch sleeps until the next request.
const IDLE_TICKS_MAX: u32 = 10;
/// When a request wakes the watch it looks for so many ticks before it sleeps again: enough to notice that a burst begins,
/// and cheap when requests come one by one.
const WOKEN_TICKS: u32 = 3;
/// Copying this much data takes longer than waking a processor.
pub(super) const BULK_BYTES_MIN: usize = 64 << 10;
/// If binding to a client's processor lasted no longer than this, other programs may compete for that processor, and the
/// watch waits before it tries again.
const SHORT: Duration = Duration::from_millis(50);
/// How long it waits the first time, and at most. It doubles in between.
const BACK_OFF: Duration = Duration::from_millis(10);
const BACK_OFF_MAX: Duration = Duration::from_secs(2);

/// Where the request threads of one mount run. Any thread may call any method.
pub(super) struct Locality {
    counts: Counts<AtomicU64>,
    /// The thread that sent the last request.
    client: AtomicU32,
    /// How many threads may go on reading requests (`usize::MAX`: all); the others wait in [`Locality::stand_aside`].
    readers_max: AtomicUsize,
    readers: Mutex<Readers>,
    changed: Condvar,
    workers: Mutex<Vec<ThreadId>>,
    /// The processors on which the threads of this mount may run.
    all: Processors,
    /// The thread of the [`Watch`], to be woken. The lock also orders the wake-up against the end of the mount.
    sleeper: Mutex<Option<Thread>>,
    sleeps: AtomicBool,
}

/// Numbers of requests, since the mount or in one tick.
#[derive(Clone, Copy, Default)]
struct Counts<N> {
    all: N,
    /// From another client than the request before, or with much data.
    others: N,
    /// With much data, or of a kind that may wait for a device.
    waits: N,
    /// Answered after more than [`LONG`].
    long: N,
}

impl Counts<AtomicU64> {
    fn now(&self) -> Counts<u64> {
        Counts {
            all: self.all.load(Relaxed),
            others: self.others.load(Relaxed),
            waits: self.waits.load(Relaxed),
            long: self.long.load(Relaxed),
        }
    }
}

/// The threads that go on reading requests while others stand aside.
#[derive(Default)]
struct Readers {
    threads: Vec<ThreadId>,
    claim: Claim,
}

thread_local! {
    /// This thread's number, if it is a request thread and known to be one.
    static WORKER: Cell<Option<ThreadId>> = const { Cell::new(None) };
}

impl Locality {
    /// Starts the watch for the request threads of a new mount. `None` where there is nothing to gain.
    pub fn start() -> Option<Arc<Locality>> {
        let all = Processors::allowed().ok()?;
        if all.numbers().len() < 2 || !schedule::claims_normally() {
            return None;
        }
        let locality = Arc::new(Locality::new(all));
        let weak = Arc::downgrade(&locality);
        let started = std::thread::Builder::new().name("locality".into()).spawn(move || {
            match cost::is_worth_it(&all) {
                Ok(true) => Watch::new().run(&weak),
                Ok(false) => {}
                Err(e) => log::debug!("requests are answered anywhere: {e}"),
            }
        });
        if let Ok(handle) = started {
            *locality.sleeper.lock() = Some(handle.thread().clone());
        }
        Some(locality)
    }

    fn new(all: Processors) -> Locality {
        Locality {
            counts: Counts::default(),
            client: AtomicU32::new(0),
            readers_max: AtomicUsize::new(usize::MAX),
            readers: Mutex::default(),
            changed: Condvar::new(),
            workers: Mutex::default(),
            all,
            sleeper: Mutex::default(),
            sleeps: AtomicBool::new(true),
        }
    }

    /// Notes that a request of `client` with `bytes` of data has arrived on the calling thread. The caller keeps what is
    /// returned until the request is answered.
    pub fn arrived(&self, client: u32, bytes: usize) -> Served<'_> {
        let me = WORKER.get().unwrap_or_else(|| {
            let me = ThreadId::current();
            self.workers.lock().push(me);
            WORKER.set(Some(me));
            me
        });
        self.counts.all.fetch_add(1, Relaxed);
        let is_bulk = bytes >= BULK_BYTES_MIN;
        if is_bulk {
            self.note_wait();
        }
        if is_bulk || self.client.load(Relaxed) != client {
            self.client.store(client, Relaxed);
            self.counts.others.fetch_add(1, Relaxed);
        }
        if self.sleeps.load(Relaxed) && self.sleeps.swap(false, SeqCst) {
            self.wake();
        }
        Served { locality: self, me, begin: Instant::now() }
    }

    /// Notes a request that may wait for a device or keep its thread for long.
    pub fn note_wait(&self) {
        self.counts.waits.fetch_add(1, Relaxed);
    }

    /// Lets the calling thread run on any processor: for threads that a bound request thread has started.
    pub fn roam(&self) {
        let _stays_where_it_is = schedule::set_processors(ThreadId::current(), &self.all);
    }

    fn wake(&self) {
        if let Some(thread) = &*self.sleeper.lock() {
            thread.unpark();
        }
    }

    /// Binds all request threads, or lets them go.
    fn bind(&self, to: &Processors) -> io::Result<()> {
        self.workers.lock().iter().try_for_each(|thread| schedule::set_processors(*thread, to))
    }

    /// From now on at most `max` threads go on reading requests, in this scheduling class.
    fn set_readers(&self, max: usize, claim: Claim) {
        let mut readers = self.readers.lock();
        self.readers_max.store(max, SeqCst);
        let before = std::mem::replace(&mut *readers, Readers { threads: Vec::new(), claim });
        if before.claim != Claim::Normal {
            for thread in before.threads {
                let _gone = schedule::set_claim(thread, Claim::Normal); // fails only for a thread that has ended
            }
        }
        self.changed.notify_all();
    }

    /// Called by a request thread that has sent its answer: returns when it may read the next request.
    fn stand_aside(&self, me: ThreadId) {
        let mut readers = self.readers.lock();
        loop {
            let max = self.readers_max.load(SeqCst);
            if max == usize::MAX || readers.threads.contains(&me) {
                return;
            }
            if readers.threads.len() >= max {
                self.changed.wait(&mut readers);
                continue;
            }
            if readers.claim != Claim::Normal && schedule::set_claim(me, readers.claim).is_err() {
                return;
            }
            readers.threads.push(me);
        }
    }
}

impl Drop for Locality {
    fn drop(&mut self) {
        self.wake(); // it finds nobody to watch, and ends
    }
}

/// A request being served, from its arrival to its answer. A thread serves one at a time, and holds no lock when this is
/// dropped.
pub(super) struct Served<'a> {
    locality: &'a Locality,
    me: ThreadId,
    begin: Instant,
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        if self.begin.elapsed() > LONG {
            self.locality.counts.long.fetch_add(1, Relaxed);
        }
        if self.locality.readers_max.load(Relaxed) != usize::MAX {
            self.locality.stand_aside(self.me);
        }
    }
}

/// Looks at who sends requests, and binds the request threads or limits how many of them read.
struct Watch {
    /// The processor that they are bound to, and since when.
    bound: Option<(usize, Instant)>,
    few: bool,
    /// As of the last look.
    counts: Counts<u64>,
    calm_until: Instant,
    back_off: Duration,
    idle_ticks: u32,
}

impl Watch {
    fn new() -> Watch {
        let (calm_until, counts) = (Instant::now(), Counts::default());
        Watch { bound: None, few: false, counts, calm_until, back_off: BACK_OFF, idle_ticks: 0 }
    }

    /// Until nobody is left to watch.
    fn run(mut self, locality: &Weak<Locality>) {
        while let Some(l) = locality.upgrade() {
            let asked = self.look(&l);
            let lazy = self.idle_ticks > IDLE_TICKS_MAX;
            if lazy && asked == 0 {
                l.sleeps.store(true, SeqCst);
                drop(l);
                std::thread::park();
                self.idle_ticks = IDLE_TICKS_MAX - WOKEN_TICKS;
            } else {
                drop(l);
                std::thread::sleep(if lazy { TICK * 10 } else { TICK });
            }
        }
    }

    /// Looks at the requests since the last look, and switches the measures on or off. Returns their number.
    fn look(&mut self, l: &Locality) -> u64 {
        let (now, then) = (l.counts.now(), self.counts);
        self.counts = now;
        let asked = now.all - then.all;
        let is_small_part = |n: u64| n * OTHERS_SHARE < asked;
        let alone = asked >= REQUESTS_MIN && is_small_part(now.others - then.others);
        let light = asked >= REQUESTS_MIN && now.waits == then.waits && is_small_part(now.long - then.long);
        let calm = Instant::now() < self.calm_until;
        let client = ThreadId::new(l.client.load(Relaxed));
        let wanted = if alone && !calm { schedule::processor_of(client) } else { None };
        match (wanted, self.bound) {
            (Some(cpu), Some((place, _))) if cpu == place => {}
            (Some(cpu), before) => {
                if let Err(e) = self.go_near(l, cpu) {
                    log::debug!("requests are not answered on processor {cpu}: {e}");
                    self.go_far(l, true);
                } else if before.is_none() {
                    l.set_readers(1, Claim::Leftover);
                }
            }
            (None, Some(_)) => self.go_far(l, asked > 0),
            (None, None) => {}
        }
        let few = light && self.bound.is_none();
        if few && !self.few {
            l.set_readers((l.all.numbers().len() / 2).max(1), Claim::Normal);
        } else if self.few && !few && self.bound.is_none() {
            l.set_readers(usize::MAX, Claim::Normal);
        }
        self.few = few;
        self.idle_ticks = if alone || light { 0 } else { self.idle_ticks.saturating_add(1) };
        asked
    }

    fn go_near(&mut self, l: &Locality, cpu: usize) -> io::Result<()> {
        // This thread leaves that processor first: with anything else to run it would not count as idle.
        schedule::set_processors(ThreadId::current(), &l.all.without(cpu))?;
        l.bind(&Processors::only(cpu))?;
        self.bound = Some((cpu, self.bound.map_or_else(Instant::now, |(_, since)| since)));
        Ok(())
    }

    /// Lets the threads run anywhere again. `again` says that requests still come.
    fn go_far(&mut self, l: &Locality, again: bool) {
        l.set_readers(usize::MAX, Claim::Normal);
        self.few = false;
        if let Err(e) = l.bind(&l.all) {
            log::debug!("request threads stay where they are: {e}");
        }
        let short = self.bound.take().is_none_or(|(_, since)| since.elapsed() < SHORT);
        if again && short {
            self.calm_until = Instant::now() + self.back_off;
            self.back_off = (self.back_off * 2).min(BACK_OFF_MAX);
        } else {
            self.back_off = BACK_OFF;
        }
    }
}

/// Measures what a wake-up across processors costs on this machine.
mod cost {
    use super::{Claim, Duration, Instant, Processors, ThreadId, io, schedule};
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    /// Round trips of a measurement, and measurements of which the fastest counts.
    const ROUNDS: u32 = 20;
    const TRIES: usize = 5;
    /// A round trip that takes longer than this is worth avoiding.
    const SLOW: Duration = Duration::from_micros(20);

    /// Whether binding threads to a client's processor is worth it, and allowed: tries both, with this thread and another.
    pub(super) fn is_worth_it(all: &Processors) -> io::Result<bool> {
        schedule::set_claim(ThreadId::current(), Claim::Leftover)?;
        schedule::set_claim(ThreadId::current(), Claim::Normal)?;
        let numbers = all.numbers();
        let far = round_trip(numbers[0], numbers[1])?;
        schedule::set_processors(ThreadId::current(), all)?;
        log::debug!("a round trip between processors takes {far:?}");
        Ok(far > SLOW)
    }

    /// The time of one round trip between two threads on these processors.
    fn round_trip(here: usize, there: usize) -> io::Result<Duration> {
        schedule::set_processors(ThreadId::current(), &Processors::only(here))?;
        let (mut ours, mut theirs) = UnixStream::pair()?;
        let mut byte = [0];
        std::thread::Builder::new().name("locality".into()).spawn(move || {
            // Not where it should be: it ends, which the asker sees.
            if schedule::set_processors(ThreadId::current(), &Processors::only(there)).is_ok() {
                while theirs.read_exact(&mut byte).and_then(|()| theirs.write_all(&byte)).is_ok() {}
            }
        })?;
        let mut best = Duration::MAX;
        for _ in 0..TRIES {
            let begin = Instant::now();
            for _ in 0..ROUNDS {
                ours.write_all(&byte)?;
                ours.read_exact(&mut byte)?;
            }
            best = best.min(begin.elapsed() / ROUNDS);
        }
        Ok(best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of the threads answer anything between two looks.
    fn busy(answered: &[AtomicU64]) -> usize {
        let before: Vec<u64> = answered.iter().map(|n| n.load(Relaxed)).collect();
        std::thread::sleep(Duration::from_millis(20));
        answered.iter().zip(before).filter(|(n, before)| n.load(Relaxed) != *before).count()
    }

    #[test]
    fn as_many_read_on_as_it_is_said_and_none_is_left_behind() {
        let locality = Locality::new(Processors::allowed().unwrap());
        let answered: [AtomicU64; 4] = Default::default();
        let stop = AtomicBool::new(false);
        let wait_for = |count: usize| {
            let deadline = Instant::now() + Duration::from_secs(60);
            while busy(&answered) != count {
                assert!(Instant::now() < deadline, "{count} threads should answer");
            }
        };
        std::thread::scope(|s| {
            for n in &answered {
                s.spawn(|| {
                    while !stop.load(Relaxed) {
                        drop(locality.arrived(1, 0));
                        n.fetch_add(1, Relaxed);
                        std::thread::sleep(Duration::from_micros(100));
                    }
                });
            }
            wait_for(4);
            for max in [1, 3, 2] {
                locality.set_readers(max, Claim::Normal);
                wait_for(max);
            }
            locality.set_readers(usize::MAX, Claim::Normal);
            wait_for(4);
            stop.store(true, Relaxed);
        });
    }

    /// What the watch makes of a tick with so many requests for names from 4 programs, and of those that may wait.
    fn readers_after(requests: u32, waits: u32) -> usize {
        let locality = Locality::new(Processors::allowed().unwrap());
        let mut watch = Watch::new();
        for n in 0..requests {
            drop(locality.arrived(n % 4 + 1, 0));
        }
        (0..waits).for_each(|_| locality.note_wait());
        watch.look(&locality);
        locality.readers_max.load(Relaxed)
    }

    #[test]
    fn few_read_on_only_while_nobody_may_wait() {
        let few = (Processors::allowed().unwrap().numbers().len() / 2).max(1);
        assert_eq!(readers_after(1000, 0), few);
        assert_eq!(readers_after(1000, 1), usize::MAX);
        assert_eq!(readers_after(3, 0), usize::MAX);
    }
}
