//! Where requests are answered, and by how many threads: near the program that waits, and by few, where that pays.
//!
//! A request is two wake-ups: of a request thread, and of the program that waits for the answer. The kernel sends each to
//! a processor that is idle, which is another one, and on a virtual machine waking a sleeping processor takes longer than
//! most requests. So while one program alone asks, one small request after the other, the request threads are bound to
//! the processor that it runs on, and one of them alone goes on reading, with a low claim: for the scheduler a processor
//! with nothing else to run is free, so whoever gets an answer goes on right there, and then the thread is there already
//! when the next request comes.
//!
//! While several ask, and only for what memory and the log answer, half as many threads as there are processors go on
//! reading requests: a thread that has given its answer mostly finds the next request waiting, where another one would
//! have to be woken for it. What was measured is in docs/decisions/0014.
//!
//! Invariant: this decides where and when threads run and nothing else. A thread that stands aside has given its answer,
//! holds no lock, and owes nobody another answer. As soon as fewer requests come, because those that read on are kept from
//! the processor or wait for a device, [`Watch`] ends all this within two ticks. It does nothing where another processor
//! is woken quickly, where there is one alone, and without the right to take back a claim (`CAP_SYS_NICE`).

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
/// Requests of a tick that are worth the trouble.
const REQUESTS_MIN: u64 = 8;
/// One request in so many may come from somebody else, or move much data, or take long.
const OTHERS_SHARE: u64 = 8;
/// What memory and the log answer takes less than this, unless the thread is kept waiting.
const LONG: Duration = Duration::from_micros(100);
/// Ticks without a reason to go on before the watch sleeps until the next request.
const IDLE_TICKS_MAX: u32 = 10;
/// How many of them are left when it is woken: long enough to see a burst of requests begin, short enough to cost little
/// where they come one by one.
const WOKEN_TICKS: u32 = 3;
/// More data than this takes longer to copy than a processor takes to wake.
pub(super) const BULK_BYTES_MIN: usize = 64 << 10;
/// If it lasted no longer than this, perhaps others kept the thread from the processor: not again at once.
const SHORT: Duration = Duration::from_millis(50);
/// For how long not, first and at most.
const BACK_OFF: Duration = Duration::from_millis(10);
const BACK_OFF_MAX: Duration = Duration::from_secs(2);

/// Where the request threads of one mount run. Any thread.
pub(super) struct Locality {
    counts: Counts<AtomicU64>,
    client: AtomicU32,
    /// How many threads go on reading requests; the others stand aside.
    readers_max: AtomicUsize,
    readers: Mutex<Readers>,
    changed: Condvar,
    workers: Mutex<Vec<ThreadId>>,
    /// Where the threads of this mount may run.
    all: Processors,
    /// The thread of [`watch`] if it sleeps. Also guards its end.
    sleeper: Mutex<Option<Thread>>,
    sleeps: AtomicBool,
}

/// Requests since the mount, or of a tick.
#[derive(Clone, Copy, Default)]
struct Counts<N> {
    all: N,
    /// Of another program than the one before, or with much data.
    others: N,
    /// With much data, or of those that may wait for a device.
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
    /// For the request threads of a new mount. `None` where there is nothing to gain.
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

    /// A request of `client` with `bytes` of data has arrived on this thread. What is returned is kept until it is
    /// answered.
    pub fn turn(&self, client: u32, bytes: usize) -> Turn<'_> {
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
        Turn { locality: self, me, begin: Instant::now() }
    }

    /// Somebody asks for what may make a request thread wait, or keep it for long.
    pub fn note_wait(&self) {
        self.counts.waits.fetch_add(1, Relaxed);
    }

    /// Lets a thread that was started by a request thread run anywhere.
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

    /// From now on at most `max` threads go on reading requests, with this claim.
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

    /// Called by a request thread that has given its answer: returns when it may read the next.
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

/// The time from the arrival of a request to its answer. A thread has one at a time, and holds no lock when it ends.
pub(super) struct Turn<'a> {
    locality: &'a Locality,
    me: ThreadId,
    begin: Instant,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.begin.elapsed() > LONG {
            self.locality.counts.long.fetch_add(1, Relaxed);
        }
        if self.locality.readers_max.load(Relaxed) != usize::MAX {
            self.locality.stand_aside(self.me);
        }
    }
}

/// Binds the threads to where the requests come from, or limits how many of them read.
struct Watch {
    /// The processor that they are bound to, and since when.
    place: Option<(usize, Instant)>,
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
        Watch { place: None, few: false, counts, calm_until, back_off: BACK_OFF, idle_ticks: 0 }
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

    /// Looks at who asked since the last time, and decides. Returns the number of requests.
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
        match (wanted, self.place) {
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
        let few = light && self.place.is_none();
        if few && !self.few {
            l.set_readers((l.all.numbers().len() / 2).max(1), Claim::Normal);
        } else if self.few && !few && self.place.is_none() {
            l.set_readers(usize::MAX, Claim::Normal);
        }
        self.few = few;
        self.idle_ticks = if alone || light { 0 } else { self.idle_ticks.saturating_add(1) };
        asked
    }

    fn go_near(&mut self, l: &Locality, cpu: usize) -> io::Result<()> {
        // Out of the way first: with anything else to run the processor would not be free.
        schedule::set_processors(ThreadId::current(), &l.all.without(cpu))?;
        l.bind(&Processors::only(cpu))?;
        self.place = Some((cpu, self.place.map_or_else(Instant::now, |(_, since)| since)));
        Ok(())
    }

    /// `again` if requests go on.
    fn go_far(&mut self, l: &Locality, again: bool) {
        l.set_readers(usize::MAX, Claim::Normal);
        self.few = false;
        if let Err(e) = l.bind(&l.all) {
            log::debug!("request threads stay where they are: {e}");
        }
        let short = self.place.take().is_none_or(|(_, since)| since.elapsed() < SHORT);
        if again && short {
            self.calm_until = Instant::now() + self.back_off;
            self.back_off = (self.back_off * 2).min(BACK_OFF_MAX);
        } else {
            self.back_off = BACK_OFF;
        }
    }
}

/// What a wake-up across processors costs here.
mod cost {
    use super::{Claim, Duration, Instant, Processors, ThreadId, io, schedule};
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    /// Round trips of a measurement, and measurements of which the fastest counts.
    const ROUNDS: u32 = 20;
    const TRIES: usize = 5;
    /// A round trip that takes longer than this is worth avoiding.
    const SLOW: Duration = Duration::from_micros(20);

    /// Whether answering near is worth it, and allowed: by trying both, on this thread and one more.
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
                        drop(locality.turn(1, 0));
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
            drop(locality.turn(n % 4 + 1, 0));
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
