//! `fsync`: whoever finds nobody at it flushes, for all who come meanwhile too.
//!
//! A request that finds a flush in progress leaves its answer with whoever flushes and gives its thread back, so that
//! many can wait with few threads. The answer is given after a flush that began when the request was there already.

use super::Fs;
use crate::ops::{Answer, Result};
use parking_lot::Mutex;

/// Requests that wait for a flush. The lock is a leaf.
#[derive(Default)]
pub(super) struct Waiting(Mutex<State>);

#[derive(Default)]
struct State {
    flushing: bool,
    answers: Vec<Answer>,
}

impl Waiting {
    /// Adds a request; true if its thread has to flush.
    fn join(&self, answer: Answer) -> bool {
        let mut state = self.0.lock();
        state.answers.push(answer);
        !std::mem::replace(&mut state.flushing, true)
    }

    /// Everybody who waits; nobody ends the flushing.
    fn take(&self) -> Vec<Answer> {
        let mut state = self.0.lock();
        state.flushing = !state.answers.is_empty();
        std::mem::take(&mut state.answers)
    }
}

impl Fs {
    /// Makes everything that has returned durable, then answers.
    pub(super) fn sync_then(&self, answer: Answer) {
        if !self.waiting.join(answer) {
            return;
        }
        loop {
            let answers = self.waiting.take();
            if answers.is_empty() {
                return;
            }
            let done = self.sync();
            answers.into_iter().for_each(|answer| answer(done.clone()));
        }
    }

    /// Makes everything that has returned durable, of all files, by the log if it holds it. On a read-only mount there
    /// is nothing to do.
    pub(super) fn sync(&self) -> Result<()> {
        if self.options.read_only || self.volume.sync()? { Ok(()) } else { self.commit() }
    }
}
