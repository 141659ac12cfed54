//! Answers that come in many lines: read as fast as the daemon tells them, and taken as fast as somebody wants them.
//!
//! Whoever reads what a command prints may stop for as long as he likes, as in a pager. What the daemon holds for an answer it
//! holds until it has told it, so it is the command that keeps what is not wanted yet, up to a bound.

use super::protocol;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io;

/// What waits to be taken, at most, in bytes, besides one line.
const WAITING_BYTES_MAX: usize = 256 << 20;

#[derive(Default)]
struct Waiting {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// There is no more to come.
    end: Option<io::Result<()>>,
    /// No more is wanted.
    enough: bool,
}

/// Lines between the thread that reads them and the one that takes them.
#[derive(Default)]
pub(super) struct AnswersAhead {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

impl AnswersAhead {
    /// Reads lines by `next` until the last of the answer, or until no more are wanted.
    pub(super) fn read(&self, next: &mut dyn FnMut() -> io::Result<Option<Vec<u8>>>) {
        let end = loop {
            match next() {
                Ok(Some(line)) => {
                    let is_last = !protocol::is_progress(&line);
                    if !self.push(line) || is_last {
                        break Ok(());
                    }
                }
                done => break done.map(drop),
            }
        };
        self.waiting.lock().end.get_or_insert(end);
        self.changed.notify_all();
    }

    /// Takes a line in. False if no more is wanted.
    pub(super) fn push(&self, line: Vec<u8>) -> bool {
        let mut waiting = self.waiting.lock();
        self.changed.wait_while(&mut waiting, |w| w.bytes > WAITING_BYTES_MAX && !w.enough);
        waiting.bytes += line.len();
        waiting.lines.push_back(line);
        self.changed.notify_all();
        !waiting.enough
    }

    /// The next line; none at the end.
    pub(super) fn take(&self) -> io::Result<Option<Vec<u8>>> {
        let mut waiting = self.waiting.lock();
        self.changed.wait_while(&mut waiting, |w| w.lines.is_empty() && w.end.is_none());
        match waiting.lines.pop_front() {
            Some(line) => {
                waiting.bytes -= line.len();
                self.changed.notify_all();
                Ok(Some(line))
            }
            None => waiting.end.take().unwrap_or(Ok(())).map(|()| None),
        }
    }

    /// No more is wanted.
    pub(super) fn enough(&self) {
        self.waiting.lock().enough = true;
        self.changed.notify_all();
    }
}
