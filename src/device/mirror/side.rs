//! One side of a mirror: its device, the threads that call it, and the calls that have not returned.
//!
//! A call belongs to whoever waits for it until its time is over; then it is late, and nobody waits. What such a call
//! needs is its own, so that it may come back at any time. A side that is lost makes no call that had not begun.

use crate::device::{Device, DeviceError};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Threads of a side at most.
const THREADS_MAX: usize = 4;

/// What is to be called.
type Call<T> = Box<dyn FnOnce(&dyn Device) -> T + Send>;

/// A device with its threads. Any thread may call any method. Its locks are leaves.
pub(super) struct MirrorSide {
    pub device: Arc<dyn Device>,
    queue: Arc<Queue>,
    lost: Mutex<Option<String>>,
}

#[derive(Default)]
struct Queue {
    calls: Mutex<Calls>,
    changed: Condvar,
}

#[derive(Default)]
struct Calls {
    waiting: VecDeque<Call<()>>,
    running: usize,
    threads: usize,
    idle: usize,
    ended: bool,
}

/// A call that somebody waits for.
pub(super) struct SideReply<T> {
    slot: Arc<AnswerSlot<T>>,
}

struct AnswerSlot<T> {
    answer: Mutex<Answer<T>>,
    answered: Condvar,
}

enum Answer<T> {
    None,
    Some(T),
    /// The call will never be made.
    Dropped,
}

/// Fills the slot, also if the call is dropped before it was made.
struct Filler<T>(Arc<AnswerSlot<T>>);

impl<T> Filler<T> {
    fn fill(&self, answer: Answer<T>) {
        let mut slot = self.0.answer.lock();
        if matches!(*slot, Answer::None) {
            *slot = answer;
            self.0.answered.notify_all();
        }
    }
}

impl<T> Drop for Filler<T> {
    fn drop(&mut self) {
        self.fill(Answer::Dropped);
    }
}

/// Why there is no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unanswered {
    /// It took longer than it may.
    Late,
    /// The side was lost before the call was made.
    Gone,
}

impl<T> SideReply<T> {
    /// Waits until `deadline`.
    pub fn wait(&self, deadline: Instant) -> Result<T, Unanswered> {
        let mut answer = self.slot.answer.lock();
        while matches!(*answer, Answer::None) {
            if self.slot.answered.wait_until(&mut answer, deadline).timed_out()
                && matches!(*answer, Answer::None)
            {
                return Err(Unanswered::Late);
            }
        }
        match std::mem::replace(&mut *answer, Answer::Dropped) {
            Answer::Some(found) => Ok(found),
            Answer::None | Answer::Dropped => Err(Unanswered::Gone),
        }
    }
}

impl MirrorSide {
    pub fn new(device: Arc<dyn Device>) -> MirrorSide {
        MirrorSide { device, queue: Arc::default(), lost: Mutex::default() }
    }

    /// Has one of the side's threads make a call.
    pub fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn Device) -> T + Send + 'static,
    ) -> SideReply<T> {
        if self.is_there() {
            return self.ask(call);
        }
        SideReply {
            slot: Arc::new(AnswerSlot { answer: Mutex::new(Answer::Dropped), answered: Condvar::new() }),
        }
    }

    /// The same, also if the side is lost.
    fn ask<T: Send + 'static>(&self, call: impl FnOnce(&dyn Device) -> T + Send + 'static) -> SideReply<T> {
        let slot = Arc::new(AnswerSlot { answer: Mutex::new(Answer::None), answered: Condvar::new() });
        let filler = Filler(slot.clone());
        self.enqueue(Box::new(move |device| filler.fill(Answer::Some(call(device)))));
        SideReply { slot }
    }

    /// Makes a call within a limit, also on a side that takes part no more or not yet.
    pub fn within<T: Send + 'static>(
        &self,
        limit: Duration,
        call: impl FnOnce(&dyn Device) -> Result<T, DeviceError> + Send + 'static,
    ) -> Result<T, DeviceError> {
        outcome(self.ask(call).wait(Instant::now() + limit), limit)
    }

    /// The same, without an answer, and also if the side is lost.
    pub fn send(&self, call: impl FnOnce(&dyn Device) + Send + 'static) {
        self.enqueue(Box::new(call));
    }

    fn enqueue(&self, call: Call<()>) {
        let mut calls = self.queue.calls.lock();
        calls.waiting.push_back(call);
        if calls.idle >= calls.waiting.len() || calls.threads == THREADS_MAX {
            drop(calls);
            self.queue.changed.notify_one();
            return;
        }
        let (queue, device) = (self.queue.clone(), self.device.clone());
        let spawned =
            std::thread::Builder::new().name("mirror side".into()).spawn(move || serve(&queue, &*device));
        match spawned {
            Ok(_) => calls.threads += 1,
            // Those that there are will come to it; if there are none it is as good as a side that hangs.
            Err(e) => log::warn!("no thread for a side of a mirror: {e}"),
        }
    }

    /// Makes no call any more but those that have begun.
    pub fn lose(&self, why: &str) {
        self.lost.lock().get_or_insert_with(|| why.to_owned());
        let dropped = std::mem::take(&mut self.queue.calls.lock().waiting);
        drop(dropped);
    }

    /// Why it is lost, if so.
    pub fn why_lost(&self) -> Option<String> {
        self.lost.lock().clone()
    }

    /// True if it can be called.
    pub fn is_there(&self) -> bool {
        self.lost.lock().is_none()
    }

    /// Calls that have not returned.
    pub fn pending_calls(&self) -> usize {
        let calls = self.queue.calls.lock();
        calls.running + calls.waiting.len()
    }
}

impl Drop for MirrorSide {
    fn drop(&mut self) {
        self.queue.calls.lock().ended = true;
        self.queue.changed.notify_all();
    }
}

fn serve(queue: &Queue, device: &dyn Device) {
    let mut calls = queue.calls.lock();
    loop {
        if let Some(call) = calls.waiting.pop_front() {
            calls.running += 1;
            drop(calls);
            call(device);
            calls = queue.calls.lock();
            calls.running -= 1;
        } else if calls.ended {
            return;
        } else {
            calls.idle += 1;
            queue.changed.wait(&mut calls);
            calls.idle -= 1;
        }
    }
}

/// An outcome as an error of the device, or none.
pub(super) fn outcome<T>(
    answer: Result<Result<T, DeviceError>, Unanswered>,
    limit: Duration,
) -> Result<T, DeviceError> {
    let refused = |kind, what| Err(DeviceError::refused(kind, what));
    match answer {
        Ok(done) => done,
        Err(Unanswered::Late) => {
            refused(std::io::ErrorKind::TimedOut, format!("it did not answer within {limit:?}"))
        }
        Err(Unanswered::Gone) => refused(std::io::ErrorKind::NotConnected, "it is lost".into()),
    }
}
