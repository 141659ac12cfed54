//! Writes that wait for a thaw, a change at once or room: in order, by the trees that they change, with few threads for each.
//!
//! The kernel writes back pages without anybody who waits for that, and so may hand over any number of them, as many as it may have
//! dirty. They are kept here, and not on threads: a tree that waits for long takes few of these, and none from other trees.

use super::aside::Aside;
use super::background::BackgroundRequests;
use crate::ops::Operations;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

/// Threads for the writes of a tree at most: enough that they share a flush.
pub const THREADS_MAX: usize = 16;
/// Threads for all trees from which on a tree has one only.
const THREADS_OF_ALL: usize = 128;

/// A write that waits.
pub(super) type Write = Box<dyn FnOnce(&dyn Operations, RoomWait) -> WaitEnd + Send>;

/// Whether a write that is refused for want of space may wait for room.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum RoomWait {
    /// It may.
    ToCome,
    /// It was there when another was refused that had waited, and so has waited with that.
    Over,
}

/// How a write has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum WaitEnd {
    /// It is answered.
    Done,
    /// It was refused for want of space, and room was waited for, or is not to be had.
    Refused,
}

/// Those of one mount. Any thread. Under the lock the kernel is told how much it may have under way.
#[derive(Clone)]
pub(super) struct WaitingWrites {
    trees: Arc<Mutex<Trees>>,
    background: Arc<BackgroundRequests>,
}

#[derive(Default)]
struct Trees {
    queues: HashMap<u32, Queue>,
    /// Threads of all queues.
    threads: usize,
    /// Writes that are not answered, and how much is written by them.
    writes: usize,
    bytes: usize,
}

#[derive(Default)]
struct Queue {
    /// In order.
    writes: VecDeque<Waiting>,
    threads: usize,
    /// When one was refused that had waited for room.
    refused: Option<Instant>,
}

struct Waiting {
    since: Instant,
    bytes: usize,
    write: Write,
}

impl WaitingWrites {
    pub(super) fn new(background: Arc<BackgroundRequests>) -> WaitingWrites {
        WaitingWrites { trees: Arc::default(), background }
    }

    /// Has a write of so many bytes to this tree done beside, by a thread that may wait with it.
    pub(super) fn add(&self, aside: &Aside, tree: u32, bytes: usize, write: Write) {
        let mut trees = self.trees.lock();
        trees.writes += 1;
        trees.bytes += bytes;
        self.background.waiting(trees.writes, trees.bytes);
        let is_crowded = trees.threads >= THREADS_OF_ALL;
        let queue = trees.queues.entry(tree).or_default();
        queue.writes.push_back(Waiting { since: Instant::now(), bytes, write });
        if queue.threads >= if is_crowded { 1 } else { THREADS_MAX } {
            return;
        }
        queue.threads += 1;
        trees.threads += 1;
        drop(trees);
        let worker = Worker { waiting: self.clone(), tree, has_ended: false };
        aside.run_when_thawed(move |ops| worker.work(ops));
    }

    /// So many are answered.
    fn answered(&self, trees: &mut Trees, writes: usize, bytes: usize) {
        trees.writes -= writes;
        trees.bytes -= bytes;
        self.background.waiting(trees.writes, trees.bytes);
    }

    /// How many threads there are for them.
    #[cfg(test)]
    pub(super) fn threads(&self) -> usize {
        self.trees.lock().threads
    }
}

impl Trees {
    /// A thread of a queue ends. What is left if there is none any more.
    fn leave(&mut self, tree: u32) -> VecDeque<Waiting> {
        self.threads -= 1;
        let Some(queue) = self.queues.get_mut(&tree) else { return VecDeque::new() };
        queue.threads -= 1;
        if queue.threads > 0 {
            return VecDeque::new();
        }
        self.queues.remove(&tree).map(|queue| queue.writes).unwrap_or_default()
    }
}

/// A thread that does writes of a tree, or was to.
struct Worker {
    waiting: WaitingWrites,
    tree: u32,
    has_ended: bool,
}

impl Worker {
    fn work(mut self, ops: &dyn Operations) {
        while let Some((room, Waiting { bytes, write, .. })) = self.next() {
            let outcome = write(ops, room);
            let trees = &mut *self.waiting.trees.lock();
            self.waiting.answered(trees, 1, bytes);
            if outcome == WaitEnd::Refused
                && let Some(queue) = trees.queues.get_mut(&self.tree)
            {
                queue.refused = Some(Instant::now());
            }
        }
    }

    /// The next one. If there is none, this has ended.
    fn next(&mut self) -> Option<(RoomWait, Waiting)> {
        let mut trees = self.waiting.trees.lock();
        let next = trees.queues.get_mut(&self.tree).and_then(|queue| {
            let next = queue.writes.pop_front()?;
            let is_over = queue.refused.is_some_and(|refused| next.since <= refused);
            Some((if is_over { RoomWait::Over } else { RoomWait::ToCome }, next))
        });
        if next.is_none() {
            self.has_ended = true;
            trees.leave(self.tree);
        }
        next
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        // It had no thread. What nobody does is answered EIO as it is dropped.
        let mut trees = self.waiting.trees.lock();
        let left = trees.leave(self.tree);
        self.waiting.answered(&mut trees, left.len(), left.iter().map(|waiting| waiting.bytes).sum());
        drop(trees);
        drop(left);
    }
}
