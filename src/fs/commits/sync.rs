//! `fsync`: whoever finds nobody at it flushes, for all who come meanwhile too.
//!
//! A request that finds a flush in progress leaves its answer with whoever flushes and gives its thread back, so that
//! many can wait with few threads. The answer is given after a flush that began when the request was there already.

use crate::ops::Answer;
use parking_lot::Mutex;

/// Requests that wait for a flush. The lock is a leaf.
#[derive(Default)]
pub struct Waiting(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    flushing: bool,
    answers: Vec<Answer>,
}

impl Waiting {
    /// Adds a request; true if its thread has to flush.
    pub fn join(&self, answer: Answer) -> bool {
        let mut state = self.0.lock();
        state.answers.push(answer);
        !std::mem::replace(&mut state.flushing, true)
    }

    /// Everybody who waits, for who flushes.
    pub fn take(&self) -> Vec<Answer> {
        std::mem::take(&mut self.0.lock().answers)
    }

    /// These are answered. True if others wait, for whom whoever flushes has to go on; nobody ends the flushing.
    pub fn goes_on(&self) -> bool {
        let mut state = self.0.lock();
        state.flushing = !state.answers.is_empty();
        state.flushing
    }
}
