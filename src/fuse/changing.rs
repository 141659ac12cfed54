//! Requests that change something: done on the thread that read them, or beside where they have to wait.
//!
//! They wait for what is done at once, and for room: one that is refused for want of space is done again when something was
//! let go for it. That is waited for with nothing held, no pass either, and where no requests are answered.

use super::answering::Answering;
use super::aside::Aside;
use super::background::BackgroundRequests;
use super::waiting_writes::{RoomWait, WaitEnd, WaitingWrites, Write};
use crate::ops::{Answer, Error, Handle, NodeId, Operations, ROOM_WAIT_MAX, Result, RoomFor, SyncScope};
use std::sync::Arc;
use std::time::Instant;

/// Where changes are done, and how their answers are told.
pub(super) struct Changing {
    pub(super) ops: Arc<dyn Operations>,
    pub(super) aside: Aside,
    pub(super) answering: Answering,
    pub(super) waiting_writes: WaitingWrites,
}

/// Flushes for all who wait, on whatever thread this is dropped: also where none starts for it.
struct Flushing(Arc<dyn Operations>);

impl Drop for Flushing {
    fn drop(&mut self) {
        while self.0.fsync_for_others() {}
    }
}

/// What a change is about.
struct About {
    /// What is changed, or an entry in it: it may be frozen. None: that does not matter.
    node: Option<NodeId>,
    /// What it may need.
    wanted: RoomFor,
    /// The answer names a node, or tells of its attributes.
    telling: Option<Answering>,
    /// What is done first, before others may have to wait for the answer.
    ahead: Option<Ahead>,
}

/// What of a request may take long, and may be seen by itself.
type Ahead = Box<dyn Fn(&dyn Operations) -> Result<()> + Send>;

impl Changing {
    pub(super) fn new(
        ops: Arc<dyn Operations>,
        aside: Aside,
        answering: Answering,
        background: Arc<BackgroundRequests>,
    ) -> Changing {
        Changing { ops, aside, answering, waiting_writes: WaitingWrites::new(background) }
    }

    /// Does what only makes durable: here, or beside while a change at once is under way.
    pub(super) fn make_durable(&self, work: impl FnOnce(&dyn Operations) + Send + 'static) {
        match self.ops.unhindered(None) {
            Some(_unhindered) => work(self.ops.as_ref()),
            None => self.aside.run(work),
        }
    }

    /// The same for a file, with all who want that meanwhile. Each flush passes by itself: a change at once does not wait for
    /// those who come while it is to begin.
    pub(super) fn fsync(&self, node: NodeId, handle: Handle, scope: SyncScope, answer: Answer) {
        let Some(unhindered) = self.ops.unhindered(None) else {
            return self.aside.run(move |ops| {
                if ops.fsync_then(node, handle, scope, answer) {
                    while ops.fsync_for_others() {}
                }
            });
        };
        if !self.ops.fsync_then(node, handle, scope, answer) {
            return;
        }
        drop(unhindered);
        while let Some(_unhindered) = self.ops.unhindered(None) {
            if !self.ops.fsync_for_others() {
                return;
            }
        }
        let flushing = Flushing(self.ops.clone());
        self.aside.run(move |_| drop(flushing));
    }

    /// Does what changes a node, or an entry in it, and may need this. What is refused has changed nothing, and may be
    /// done again.
    pub(super) fn in_room<T>(
        &self,
        node: NodeId,
        wanted: RoomFor,
        work: impl Fn(&dyn Operations) -> Result<T> + Send + 'static,
        answer: impl FnOnce(Result<T>) + Send + 'static,
    ) {
        let about = About { node: Some(node), wanted, telling: None, ahead: None };
        self.here_or_beside(about, work, answer);
    }

    /// The same of a change that needs little, if the answer names a node.
    pub(super) fn telling<T>(
        &self,
        node: NodeId,
        work: impl Fn(&dyn Operations) -> Result<T> + Send + 'static,
        answer: impl FnOnce(Result<T>) + Send + 'static,
    ) {
        let telling = Some(self.answering.clone());
        let about = About { node: Some(node), wanted: RoomFor::Change(0), telling, ahead: None };
        self.here_or_beside(about, work, answer);
    }

    /// The same of what may need this, and tells of attributes. What of it may take long is done ahead.
    pub(super) fn telling_of<T>(
        &self,
        node: NodeId,
        wanted: RoomFor,
        ahead: impl Fn(&dyn Operations) -> Result<()> + Send + 'static,
        work: impl Fn(&dyn Operations) -> Result<T> + Send + 'static,
        answer: impl FnOnce(Result<T>) + Send + 'static,
    ) {
        let telling = Some(self.answering.clone());
        let about = About { node: Some(node), wanted, telling, ahead: Some(Box::new(ahead)) };
        self.here_or_beside(about, work, answer);
    }

    /// Does beside, where it may wait for long, what changes records of views or lines, in the same way; what is frozen does
    /// not keep it.
    pub(super) fn beside<T>(
        &self,
        work: impl Fn(&dyn Operations) -> Result<T> + Send + 'static,
        answer: impl FnOnce(Result<T>) + Send + 'static,
    ) {
        let about = About { node: None, wanted: RoomFor::Record, telling: None, ahead: None };
        self.aside.run_when_thawed(move |ops| {
            wait_for_room(ops, &about, RoomWait::ToCome, &work, answer);
        });
    }

    /// Writes. What is written is copied only for who waits, and that without a thread of its own: the kernel may hand over many pages
    /// while nobody waits.
    pub(super) fn write(
        &self,
        node: NodeId,
        data: &[u8],
        write: impl Fn(&dyn Operations, &[u8]) -> Result<usize> + Send + 'static,
        answer: impl FnOnce(Result<usize>) + Send + 'static,
    ) {
        let (bytes, wanted) = (data.len(), RoomFor::Change(data.len() as u64));
        if let Some(_unhindered) = self.ops.unhindered(Some(node)) {
            match write(self.ops.as_ref(), data) {
                Err(Error::NoSpace) if self.ops.can_make_room(wanted) => {}
                done => return answer(done),
            }
        }
        let (data, about) = (data.to_vec(), About { node: Some(node), wanted, telling: None, ahead: None });
        let work = move |ops: &dyn Operations| write(ops, &data);
        let write: Write = Box::new(move |ops, room| wait_for_room(ops, &about, room, &work, answer));
        self.waiting_writes.add(&self.aside, node.tree(), bytes, write);
    }

    fn here_or_beside<T>(
        &self,
        about: About,
        work: impl Fn(&dyn Operations) -> Result<T> + Send + 'static,
        answer: impl FnOnce(Result<T>) + Send + 'static,
    ) {
        let answer = match self.ops.unhindered(about.node) {
            Some(_unhindered) => match attempt(self.ops.as_ref(), &about, &work, answer) {
                Some(answer) => answer,
                None => return,
            },
            None => answer,
        };
        self.aside.run_when_thawed(move |ops| {
            wait_for_room(ops, &about, RoomWait::ToCome, &work, answer);
        });
    }
}

/// Does it and answers; or gives the answer back, if there is no space and some can be made.
fn attempt<T, A: FnOnce(Result<T>)>(
    ops: &dyn Operations,
    about: &About,
    work: &impl Fn(&dyn Operations) -> Result<T>,
    answer: A,
) -> Option<A> {
    let ahead = about.ahead.as_ref().map_or(Ok(()), |ahead| ahead(ops));
    let _answer = about.telling.as_ref().map(Answering::begin);
    match ahead.and_then(|()| work(ops)) {
        Err(Error::NoSpace) if ops.can_make_room(about.wanted) => Some(answer),
        done => {
            answer(done);
            None
        }
    }
}

/// Does it as often as room was made for it, and answers. The time in which it is frozen does not count.
fn wait_for_room<T, A: FnOnce(Result<T>)>(
    ops: &dyn Operations,
    about: &About,
    room: RoomWait,
    work: &impl Fn(&dyn Operations) -> Result<T>,
    mut answer: A,
) -> WaitEnd {
    let mut until = None;
    loop {
        let thawed = about.node.map(|node| ops.wait_to_change(Some(node)));
        let until = *until.get_or_insert_with(|| Instant::now() + ROOM_WAIT_MAX);
        match attempt(ops, about, work, answer) {
            Some(again) => answer = again,
            None => return WaitEnd::Done,
        }
        // Whoever makes room holds nothing.
        drop(thawed);
        let left = until.saturating_duration_since(Instant::now());
        if room == RoomWait::Over || left.is_zero() || !ops.make_room(about.wanted, left) {
            answer(Err(Error::NoSpace));
            return WaitEnd::Refused;
        }
    }
}
