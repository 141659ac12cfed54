//! One side of a mirror: its device, and the calls on it that have not returned.
//!
//! A call belongs to whoever waits for it until its time is over; then it is late, and nobody waits. What such a call
//! needs is its own, so that it may come back at any time. The time of a question of many calls of the host begins again with
//! each of them that returns. A side that is lost makes no call that had not begun. A call that
//! fails an assertion is one that failed.

use super::crew::{CallCrew, Lane, SideCall};
use super::pace::ReadPace;
use crate::device::bystander::{Beside, judge_late_beside};
use crate::device::waited::{Awaited, Waited, awaited};
use crate::device::{Device, DeviceError};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Whoever waits looks so often whether a thread can be had that could not be had before.
const TRY_AGAIN: Duration = Duration::from_millis(10);

/// A device with its calls. Any thread may call any method. Its locks are leaves.
pub(super) struct MirrorSide {
    /// To be called without a limit by whoever knows that there is nobody else to be asked.
    pub device: Arc<dyn Device>,
    /// Calls of which nobody has the answer yet.
    under_way: Arc<CallsUnderWay>,
    /// How long its last reads took.
    pub reads: Arc<ReadPace>,
    /// What a person called it when it came: who tells of a side that hangs must not have to ask it.
    place: OnceLock<String>,
    crew: Arc<CallCrew>,
    lane: Lane,
    lost: Mutex<Option<String>>,
    /// Content of it is gone, and its partner has not noted that yet.
    lost_content: AtomicBool,
}

/// Calls of which nobody has the answer yet.
struct CallsUnderWay {
    calls: AtomicUsize,
    begin: Instant,
    /// When the last one was answered, or the first one was made while there was none: microseconds after `begin`.
    since: AtomicU64,
}

impl CallsUnderWay {
    fn new() -> CallsUnderWay {
        CallsUnderWay { calls: AtomicUsize::new(0), begin: Instant::now(), since: AtomicU64::new(0) }
    }

    fn note_time(&self) {
        self.since.store(self.passed(), Relaxed);
    }

    fn passed(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// A call is under way as long as this is there.
struct UnderWay(Arc<CallsUnderWay>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.note_time();
        self.0.calls.fetch_sub(1, Relaxed);
    }
}

/// A call that somebody waits for.
pub(super) struct SideReply<T> {
    slot: Arc<AnswerSlot<T>>,
    crew: Arc<CallCrew>,
}

struct AnswerSlot<T> {
    answer: Mutex<Answer<T>>,
    answered: Condvar,
    is_answered: AtomicBool,
    /// Calls of the host that have returned, of an answer of many.
    steps: AtomicU64,
}

impl<T: Send> Awaited for AnswerSlot<T> {
    fn goes_on(&self) {
        self.steps.fetch_add(1, Relaxed);
    }
}

enum Answer<T> {
    None,
    Some(T),
    /// The call will never be made.
    Dropped,
    /// The call has failed an assertion.
    Failed,
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
        self.fill(if std::thread::panicking() { Answer::Failed } else { Answer::Dropped });
    }
}

/// Why there is no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unanswered {
    /// It took longer than it may.
    Late,
    /// The side was lost before the call was made.
    Gone,
    /// An assertion has failed.
    Failed,
}

impl<T> SideReply<T> {
    /// True if it need not be waited for.
    pub fn is_answered(&self) -> bool {
        self.slot.is_answered.load(Acquire)
    }

    /// Waits up to a limit.
    pub fn wait(&self, limit: Duration) -> Result<T, Unanswered> {
        self.wait_on(&mut Waited::new(limit))
    }

    /// The same. None: it took longer.
    pub fn wait_in_time(&self, limit: Duration) -> Option<Result<T, Unanswered>> {
        match self.wait(limit) {
            Err(Unanswered::Late) => None,
            answer => Some(answer),
        }
    }

    /// What it is, once, if it is there. If not, it is tried again whether a thread can be had.
    pub fn if_answered(&self) -> Option<Result<T, Unanswered>> {
        if self.is_answered() {
            return Some(self.wait(Duration::ZERO));
        }
        self.crew.call_up();
        None
    }

    /// Waits on, with a time that may have begun before.
    pub fn wait_on(&self, waited: &mut Waited) -> Result<T, Unanswered> {
        let mut answer = self.slot.answer.lock();
        let mut steps = self.slot.steps.load(Relaxed);
        while matches!(*answer, Answer::None) {
            if waited.is_over() {
                return Err(Unanswered::Late);
            }
            let until_look = waited.until_look().min(TRY_AGAIN);
            if self.slot.answered.wait_for(&mut answer, until_look).timed_out()
                && matches!(*answer, Answer::None)
            {
                let before = std::mem::replace(&mut steps, self.slot.steps.load(Relaxed));
                if before != steps {
                    waited.again();
                }
                MutexGuard::unlocked(&mut answer, || self.crew.call_up());
            }
        }
        match std::mem::replace(&mut *answer, Answer::Dropped) {
            Answer::Some(found) => Ok(found),
            Answer::Failed => Err(Unanswered::Failed),
            Answer::None | Answer::Dropped => Err(Unanswered::Gone),
        }
    }
}

impl MirrorSide {
    pub fn new(device: Arc<dyn Device>, crew: &Arc<CallCrew>) -> MirrorSide {
        let side = MirrorSide::unasked(device, crew);
        side.set_place(side.device.describe());
        side
    }

    /// The same of a device that may hang: it is not asked what it is called.
    pub fn unasked(device: Arc<dyn Device>, crew: &Arc<CallCrew>) -> MirrorSide {
        let (lane, crew) = (crew.lane(device.clone()), crew.clone());
        let (lost, lost_content) = (Mutex::default(), AtomicBool::new(false));
        MirrorSide {
            under_way: Arc::new(CallsUnderWay::new()),
            reads: Arc::default(),
            place: OnceLock::new(),
            crew,
            lane,
            device,
            lost,
            lost_content,
        }
    }

    /// What a person calls it, if nobody has said so before.
    pub fn set_place(&self, place: String) {
        self.place.get_or_init(|| place);
    }

    /// What a person calls it.
    pub fn place(&self) -> &str {
        self.place.get().map_or("a side of the mirror", String::as_str)
    }

    /// Has one of the threads make a call.
    pub fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn Device) -> T + Send + 'static,
    ) -> SideReply<T> {
        if self.is_there() { self.ask(call) } else { self.prepare(call).0 }
    }

    /// The same behind the call of another side, by the same thread if that is soon done. Who does that looks at
    /// [`CallCrew::hurry`].
    pub fn call_behind<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn Device) -> T + Send + 'static,
    ) -> SideReply<T> {
        let (reply, call) = self.prepare(call);
        if !self.is_there() {
            drop(call);
            return reply;
        }
        self.lane.put_behind(call);
        reply
    }

    /// The same, also if the side is lost.
    fn ask<T: Send + 'static>(&self, call: impl FnOnce(&dyn Device) -> T + Send + 'static) -> SideReply<T> {
        let (reply, call) = self.prepare(call);
        self.lane.put(call);
        reply
    }

    /// Makes a call within a limit, also on a side that takes part no more or not yet. It is late only if another answers meanwhile.
    pub fn within<T: Send + 'static>(
        &self,
        limit: Duration,
        beside: &Beside,
        call: impl FnOnce(&dyn Device) -> Result<T, DeviceError> + Send + 'static,
    ) -> Result<T, DeviceError> {
        let reply = self.ask(call);
        let wait = |time| reply.wait_in_time(time);
        let answer = wait(limit).or_else(|| judge_late_beside(limit, beside, wait));
        outcome(answer.unwrap_or(Err(Unanswered::Late)), limit)
    }

    /// The same, without an answer, and also if the side is lost.
    pub fn send(&self, call: impl FnOnce(&dyn Device) + Send + 'static) {
        let under_way = self.under_way();
        self.lane.put(Box::new(move |device: &dyn Device| {
            call(device);
            drop(under_way);
        }));
    }

    /// Makes no call any more but those that have begun.
    pub fn lose(&self, why: &str) {
        self.lost.lock().get_or_insert_with(|| why.to_owned());
        self.lane.clear();
    }

    /// What it had is not what it was, if an error says so: a file of it is gone, or is another, or was cut short.
    pub fn note_error(&self, e: &DeviceError) {
        let kinds = [std::io::ErrorKind::NotFound, std::io::ErrorKind::UnexpectedEof];
        if matches!(e, DeviceError::Io { source, .. } if kinds.contains(&source.kind())) {
            self.note_lost_content(true);
        }
    }

    /// Whether content of it is gone, without its partner having noted that.
    pub fn note_lost_content(&self, is_so: bool) {
        self.lost_content.store(is_so, Release);
    }

    /// True if that is so.
    pub fn has_lost_content(&self) -> bool {
        self.lost_content.load(Acquire)
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

    /// Calls of which nobody has the answer yet: one that was just answered may still be among those that have not returned.
    pub fn calls_under_way(&self) -> usize {
        self.under_way.calls.load(Relaxed)
    }

    /// For how long it has answered none of these; no time if there are none.
    pub fn silent_for(&self) -> Duration {
        match self.calls_under_way() {
            0 => Duration::ZERO,
            _ => {
                let since = self.under_way.since.load(Relaxed);
                Duration::from_micros(self.under_way.passed().saturating_sub(since))
            }
        }
    }

    fn under_way(&self) -> UnderWay {
        if self.under_way.calls.fetch_add(1, Relaxed) == 0 {
            self.under_way.note_time();
        }
        UnderWay(self.under_way.clone())
    }

    /// A call, and where its answer will be.
    fn prepare<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn Device) -> T + Send + 'static,
    ) -> (SideReply<T>, SideCall) {
        let slot = Arc::new(AnswerSlot {
            answer: Mutex::new(Answer::None),
            answered: Condvar::new(),
            is_answered: AtomicBool::new(false),
            steps: AtomicU64::new(0),
        });
        let (filler, under_way) = (Filler(slot.clone()), self.under_way());
        let call = Box::new(move |device: &dyn Device| {
            let done = awaited(filler.0.clone(), || call(device));
            drop(under_way);
            filler.fill(Answer::Some(done));
        });
        (SideReply { slot, crew: self.crew.clone() }, call)
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
        Err(Unanswered::Failed) => {
            refused(std::io::ErrorKind::Other, "a call of it has failed an assertion".into())
        }
    }
}
