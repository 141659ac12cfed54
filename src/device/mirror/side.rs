//! One side of a mirror: its device, and the calls on it that have not returned.
//!
//! A call belongs to whoever waits for it until its time is over; then it is late, and nobody waits. What such a call
//! needs is its own, so that it may come back at any time. A side that is lost makes no call that had not begun.

use super::crew::{CallCrew, Lane, SideCall};
use crate::device::{Device, DeviceError};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Release};
use std::time::{Duration, Instant};

/// A device with its calls. Any thread may call any method. Its locks are leaves.
pub(super) struct MirrorSide {
    pub device: Arc<dyn Device>,
    lane: Lane,
    lost: Mutex<Option<String>>,
}

/// A call that somebody waits for.
pub(super) struct SideReply<T> {
    slot: Arc<AnswerSlot<T>>,
}

struct AnswerSlot<T> {
    answer: Mutex<Answer<T>>,
    answered: Condvar,
    is_answered: AtomicBool,
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
            self.0.is_answered.store(true, Release);
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
    /// True if it need not be waited for.
    pub fn is_answered(&self) -> bool {
        self.slot.is_answered.load(Acquire)
    }

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
    pub fn new(device: Arc<dyn Device>, crew: &Arc<CallCrew>) -> MirrorSide {
        MirrorSide { lane: crew.lane(device.clone()), device, lost: Mutex::default() }
    }

    /// Has one of the threads make a call.
    pub fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn Device) -> T + Send + 'static,
    ) -> SideReply<T> {
        if self.is_there() { self.ask(call) } else { prepare(call).0 }
    }

    /// The same behind the call of another side, by the same thread if that is soon done. Who does that looks at
    /// [`CallCrew::hurry`].
    pub fn call_behind<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn Device) -> T + Send + 'static,
    ) -> SideReply<T> {
        let (reply, call) = prepare(call);
        if !self.is_there() {
            drop(call);
            return reply;
        }
        self.lane.put_behind(call);
        reply
    }

    /// The same, also if the side is lost.
    fn ask<T: Send + 'static>(&self, call: impl FnOnce(&dyn Device) -> T + Send + 'static) -> SideReply<T> {
        let (reply, call) = prepare(call);
        self.lane.put(call);
        reply
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
        self.lane.put(Box::new(call));
    }

    /// Makes no call any more but those that have begun.
    pub fn lose(&self, why: &str) {
        self.lost.lock().get_or_insert_with(|| why.to_owned());
        self.lane.clear();
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
        self.lane.pending_calls()
    }
}

/// A call, and where its answer will be.
fn prepare<T: Send + 'static>(
    call: impl FnOnce(&dyn Device) -> T + Send + 'static,
) -> (SideReply<T>, SideCall) {
    let slot = Arc::new(AnswerSlot {
        answer: Mutex::new(Answer::None),
        answered: Condvar::new(),
        is_answered: AtomicBool::new(false),
    });
    let filler = Filler(slot.clone());
    (SideReply { slot }, Box::new(move |device| filler.fill(Answer::Some(call(device)))))
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
