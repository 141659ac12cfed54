//! Room for a change that found none: whoever keeps the schedules deletes snapshots, and the change waits for that.
//!
//! Who waits is answering a request, and must not tell the kernel of names that go; so another thread deletes. The wait is bounded,
//! and there is none where nobody keeps schedules.

use crate::bell::Bell;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

/// For so long a change waits for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Between those who want room and the one who makes it. Any thread. Its locks are leaves.
#[derive(Default)]
pub struct RoomMaker {
    wanted: AtomicBool,
    /// Wakes who makes room, and which thread that is.
    server: Mutex<Option<(Arc<Bell>, ThreadId)>>,
    answers: Mutex<Answers>,
    answered: Condvar,
}

#[derive(Default)]
struct Answers {
    count: u64,
    /// The count of the last that told of room.
    made: u64,
}

impl RoomMaker {
    /// From here on this thread makes room when the bell rings.
    pub fn serve(&self, bell: &Arc<Bell>) {
        *self.server.lock() = Some((bell.clone(), thread::current().id()));
    }

    /// Nobody does any more.
    pub fn end(&self) {
        *self.server.lock() = None;
        self.answer(false);
    }

    /// Waits until something was deleted for room. False if there was nothing, or nobody answers.
    pub fn ask(&self) -> bool {
        let bell = match &*self.server.lock() {
            Some((bell, thread)) if *thread != thread::current().id() => bell.clone(),
            _ => return false,
        };
        let end = Instant::now() + ANSWER_MAX;
        let mut answers = self.answers.lock();
        let before = answers.count;
        self.wanted.store(true, SeqCst);
        bell.ring();
        while answers.count == before {
            if self.answered.wait_until(&mut answers, end).timed_out() {
                return false;
            }
        }
        // One that told of none may have followed.
        answers.made > before
    }

    /// True if somebody wants room, who is then to be answered.
    pub fn is_wanted(&self) -> bool {
        self.wanted.swap(false, SeqCst)
    }

    /// Whether something was deleted.
    pub fn answer(&self, made: bool) {
        let mut answers = self.answers.lock();
        answers.count += 1;
        if made {
            answers.made = answers.count;
        }
        self.answered.notify_all();
    }
}
