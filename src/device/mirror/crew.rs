//! The threads of a mirror: they make the calls of all sides, and any of them those of any side.
//!
//! Invariant: a side that hangs keeps no more than [`CALLS_MAX`] threads, so there is always one for its partner; whoever
//! waits for a call is never the one who makes it. A call that is put in goes to a thread that is awake or is woken, but for
//! one that was put in behind another: that is made by the same thread, unless it is asked for before
//! ([`CallCrew::hurry`]). A thread that could not be started is tried again by whoever waits for a call
//! ([`CallCrew::call_up`]), and a call that fails an assertion has returned like any other.
//!
//! Waking a thread takes longer than a write to the memory of the host does, most of all where an idle processor sleeps. So a
//! thread that has nothing to do after a call looks out for the next one for a while before it sleeps, if the last one came
//! as soon, on another processor than whoever has calls made.

use crate::device::{Device, patience};
use crate::sys::schedule::{self, Processors, ThreadId};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// Calls of a side at once.
const CALLS_MAX: usize = 4;
/// How long a thread looks out for its next call.
const LOOK_OUT: Duration = Duration::from_micros(50);
/// How long whoever waits looks out for the answer.
const LOOK_FOR_ANSWER: Duration = Duration::from_micros(20);
/// A thread changes its processors no more often than this.
const MOVE_AGAIN: Duration = Duration::from_millis(10);
/// Between two looks at the clock.
const TURNS: u32 = 16;
/// How long is waited for a host to close what is let go of.
const CLOSING: Duration = Duration::from_secs(1);

/// What is to be called.
pub(super) type SideCall = Box<dyn FnOnce(&dyn Device) + Send>;

/// The threads. Any thread may call any method. The lock is a leaf.
pub(super) struct CallCrew(Arc<Crew>);

/// The calls of one side, until it is let go of.
pub(super) struct Lane {
    crew: Arc<CallCrew>,
    number: u64,
}

struct Crew {
    state: Mutex<CrewState>,
    /// Calls that a thread could begin with.
    ready: AtomicUsize,
    /// Processors of this process. None: there is only one, so nobody looks out.
    processors: Option<Processors>,
    /// Threads that the system refuses to start.
    #[cfg(test)]
    refused: AtomicUsize,
}

#[derive(Default)]
struct CrewState {
    lanes: Vec<LaneState>,
    numbers: u64,
    /// Threads that sleep: the last to fall asleep is woken first, so that few have all the calls.
    idle: Vec<Arc<Condvar>>,
    /// Threads that were started or woken and are not there yet.
    coming: usize,
    /// One of those that are there has nothing to do and looks out.
    looks_out: bool,
    /// When there was nothing to do any more.
    rests_since: Option<Instant>,
    /// The last rest was so short that it is worth to look out for the end of the next.
    is_busy: bool,
    /// On which processor the last call was asked for.
    asked_on: usize,
    /// A thread was started, so calls are not only made by those who ask for them.
    has_threads: bool,
    /// The last thread that was wanted could not be started.
    lacks_threads: bool,
    ended: bool,
}

struct LaneState {
    number: u64,
    device: Arc<dyn Device>,
    waiting: VecDeque<SideCall>,
    running: usize,
    /// Nobody puts in calls any more.
    ended: bool,
}

impl LaneState {
    fn ready(&self) -> usize {
        self.waiting.len().min(CALLS_MAX.saturating_sub(self.running))
    }
}

impl CrewState {
    fn ready(&self) -> usize {
        self.lanes.iter().map(LaneState::ready).sum()
    }

    /// The next call, of the side with the fewest under way.
    fn take(&mut self) -> Option<(u64, Arc<dyn Device>, SideCall)> {
        let lane = self.lanes.iter_mut().filter(|lane| lane.ready() > 0).min_by_key(|lane| lane.running)?;
        let call = lane.waiting.pop_front()?;
        lane.running += 1;
        Some((lane.number, lane.device.clone(), call))
    }

    fn lane(&mut self, number: u64) -> Option<&mut LaneState> {
        self.lanes.iter_mut().find(|lane| lane.number == number)
    }

    /// A side that is let go of and of which all calls have returned. To be dropped without the lock: devices are closed.
    fn take_ended(&mut self) -> Option<LaneState> {
        let is = |lane: &LaneState| lane.ended && lane.running == 0 && lane.waiting.is_empty();
        let n = self.lanes.iter().position(is)?;
        Some(self.lanes.swap_remove(n))
    }
}

impl CallCrew {
    pub fn new() -> Arc<CallCrew> {
        let processors = Processors::allowed().ok().filter(|all| all.numbers().len() > 1);
        Arc::new(CallCrew(Arc::new(Crew {
            state: Mutex::default(),
            ready: AtomicUsize::new(0),
            processors,
            #[cfg(test)]
            refused: AtomicUsize::new(0),
        })))
    }

    /// From now on so many threads cannot be started.
    #[cfg(test)]
    pub fn refuse_threads(&self, count: usize) {
        self.0.refused.store(count, SeqCst);
    }

    /// Another side.
    pub fn lane(self: &Arc<CallCrew>, device: Arc<dyn Device>) -> Lane {
        let mut state = self.0.state.lock();
        state.numbers += 1;
        let number = state.numbers;
        state.lanes.push(LaneState { number, device, waiting: VecDeque::new(), running: 0, ended: false });
        Lane { crew: self.clone(), number }
    }

    /// Waits for a short time until `is_done`, and then has a thread for each call that nobody has begun with.
    pub fn hurry(&self, is_done: impl Fn() -> bool) {
        if self.0.processors.is_some() && look_out(LOOK_FOR_ANSWER, &is_done) {
            return;
        }
        self.call_up();
    }

    /// Has a thread for each call that nobody has begun with, also if there was none to be had before.
    pub fn call_up(&self) {
        let mut state = self.0.state.lock();
        self.0.call_up(&mut state);
    }
}

impl Drop for CallCrew {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.ended = true;
        for sleeper in std::mem::take(&mut state.idle) {
            state.coming += 1;
            sleeper.notify_one();
        }
    }
}

impl Lane {
    /// Has a call made.
    pub fn put(&self, call: SideCall) {
        let crew = &self.crew.0;
        let mut state = crew.state.lock();
        self.push(&mut state, call);
        crew.call_up(&mut state);
    }

    /// Has a call made when one that was put in before has been: who does that has to [`CallCrew::hurry`].
    pub fn put_behind(&self, call: SideCall) {
        let crew = &self.crew.0;
        let mut state = crew.state.lock();
        self.push(&mut state, call);
        crew.ready.store(state.ready(), SeqCst);
    }

    fn push(&self, state: &mut CrewState, call: SideCall) {
        state.asked_on = schedule::processor();
        if let Some(since) = state.rests_since.take() {
            state.is_busy = since.elapsed() < LOOK_OUT;
        }
        if let Some(lane) = state.lane(self.number) {
            lane.waiting.push_back(call);
        }
    }

    /// Makes no call any more but those that have begun.
    pub fn clear(&self) {
        let dropped = {
            let mut state = self.crew.0.state.lock();
            let dropped = state.lane(self.number).map(|lane| std::mem::take(&mut lane.waiting));
            self.crew.0.ready.store(state.ready(), SeqCst);
            dropped
        };
        drop(dropped);
    }

    /// Calls that have not returned.
    pub fn pending_calls(&self) -> usize {
        let mut state = self.crew.0.state.lock();
        state.lane(self.number).map_or(0, |lane| lane.running + lane.waiting.len())
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let mut state = self.crew.0.state.lock();
        if let Some(lane) = state.lane(self.number) {
            lane.ended = true;
        }
        let (gone, has_threads) = (state.take_ended(), state.has_threads);
        drop(state);
        if has_threads && gone.is_some() {
            // To close a file is a call as well, and who lets go of a side may hold up others.
            let _late = patience::patiently(CLOSING, move |_| drop(gone));
        }
    }
}

impl Crew {
    /// Has a thread for each call that can be begun with.
    fn call_up(self: &Arc<Crew>, state: &mut CrewState) {
        let ready = state.ready();
        self.ready.store(ready, SeqCst);
        let wanted = ready.saturating_sub(usize::from(state.looks_out) + state.coming);
        for _ in 0..wanted {
            if let Some(sleeper) = state.idle.pop() {
                state.coming += 1;
                sleeper.notify_one();
                continue;
            }
            match self.start() {
                Ok(()) => {
                    state.coming += 1;
                    (state.has_threads, state.lacks_threads) = (true, false);
                }
                // Those that there are may come to it, and whoever waits tries again.
                Err(e) => {
                    if !std::mem::replace(&mut state.lacks_threads, true) {
                        log::warn!("no thread for a side of a mirror, it is tried again: {e}");
                    }
                    return;
                }
            }
        }
    }

    fn start(self: &Arc<Crew>) -> std::io::Result<()> {
        #[cfg(test)]
        if self.refused.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Err(std::io::ErrorKind::WouldBlock.into());
        }
        let crew = self.clone();
        std::thread::Builder::new().name("mirror side".into()).spawn(move || serve(&crew)).map(drop)
    }
}

/// Looks for a while whether something is so.
fn look_out(time: Duration, is_so: impl Fn() -> bool) -> bool {
    let until = Instant::now() + time;
    loop {
        for _ in 0..TURNS {
            if is_so() {
                return true;
            }
            std::hint::spin_loop();
        }
        if Instant::now() >= until {
            return false;
        }
    }
}

/// Keeps the calling thread off a processor, if it was not told so a moment ago.
fn keep_off(all: &Processors, cpu: usize, moved: &mut Option<Instant>) {
    if moved.is_some_and(|moved| moved.elapsed() < MOVE_AGAIN) {
        return;
    }
    *moved = Some(Instant::now());
    if let Err(e) = schedule::set_processors(ThreadId::current(), &all.without(cpu)) {
        log::debug!("a thread of a mirror stays where it is: {e}");
    }
}

fn serve(crew: &Crew) {
    // Whoever started it may be bound to one processor.
    if let Some(all) = &crew.processors {
        let _best_effort = schedule::set_processors(ThreadId::current(), all);
    }
    let (mut moved, sleeper) = (None, Arc::new(Condvar::new()));
    let mut state = crew.state.lock();
    state.coming -= 1;
    loop {
        if let Some((number, device, call)) = state.take() {
            crew.ready.store(state.ready(), SeqCst);
            drop(state);
            // Whoever waits for it is told by what the call leaves behind.
            if catch_unwind(AssertUnwindSafe(|| call(&*device))).is_err() {
                log::error!("a call of a side of a mirror has failed an assertion");
            }
            drop(device);
            state = crew.state.lock();
            if let Some(lane) = state.lane(number) {
                lane.running -= 1;
            }
            if let Some(gone) = state.take_ended() {
                drop(state);
                drop(gone);
                state = crew.state.lock();
            }
            continue;
        }
        if state.ended {
            return;
        }
        state.rests_since = Some(Instant::now());
        if let Some(all) = crew.processors.as_ref().filter(|_| state.is_busy && !state.looks_out) {
            let asked_on = state.asked_on;
            if asked_on == schedule::processor() {
                // Whoever is waited for would have to wait.
                drop(state);
                keep_off(all, asked_on, &mut moved);
                state = crew.state.lock();
                if state.ready() > 0 {
                    continue;
                }
            } else {
                state.looks_out = true;
                drop(state);
                look_out(LOOK_OUT, || crew.ready.load(Relaxed) > 0);
                state = crew.state.lock();
                state.looks_out = false;
                if state.ready() > 0 {
                    continue;
                }
            }
        }
        if state.ended {
            return;
        }
        state.idle.push(sleeper.clone());
        while state.idle.iter().any(|idle| Arc::ptr_eq(idle, &sleeper)) {
            sleeper.wait(&mut state);
        }
        state.coming -= 1;
    }
}
