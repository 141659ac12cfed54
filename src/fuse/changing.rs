//! Requests that change something: done on the thread that read them, or beside where they have to wait.
//!
//! They wait for what is done at once, and for room: one that is refused for want of space is done again when something was
//! let go for it. That is waited for with nothing held, no pass either, and where no requests are answered.

use super::answering::Answering;
use super::aside::Aside;
use crate::ops::{Error, NodeId, Operations, ROOM_WAIT_MAX, Result, RoomFor};
use std::sync::Arc;
use std::time::Instant;

/// Where changes are done, and how their answers are told.
pub(super) struct Changing {
    pub(super) ops: Arc<dyn Operations>,
    pub(super) aside: Aside,
    pub(super) answering: Answering,
}

/// What a change is about.
struct About {
    /// What is changed, or an entry in it: it may be frozen. None: that does not matter.
    node: Option<NodeId>,
    /// What it may need.
    wanted: RoomFor,
    /// The answer names a node, or tells of its attributes.
    telling: Option<Answering>,
}

impl Changing {
    /// Does what changes a node, or an entry in it, and needs no space: here, or beside if it would have to wait for something
    /// long. Without a node: what only makes durable.
    pub(super) fn at_no_cost(
        &self,
        node: Option<NodeId>,
        work: impl FnOnce(&dyn Operations) + Send + 'static,
    ) {
        match self.ops.unhindered(node) {
            Some(_unhindered) => work(self.ops.as_ref()),
            None => self.aside.change(node, work),
        }
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
        self.here_or_beside(About { node: Some(node), wanted, telling: None }, work, answer);
    }

    /// The same of a change that needs little, if the answer names a node.
    pub(super) fn telling<T>(
        &self,
        node: NodeId,
        work: impl Fn(&dyn Operations) -> Result<T> + Send + 'static,
        answer: impl FnOnce(Result<T>) + Send + 'static,
    ) {
        self.telling_of(node, RoomFor::Change(0), work, answer);
    }

    /// The same of what may need this, if the answer names a node, or tells of its attributes.
    pub(super) fn telling_of<T>(
        &self,
        node: NodeId,
        wanted: RoomFor,
        work: impl Fn(&dyn Operations) -> Result<T> + Send + 'static,
        answer: impl FnOnce(Result<T>) + Send + 'static,
    ) {
        let telling = Some(self.answering.clone());
        self.here_or_beside(About { node: Some(node), wanted, telling }, work, answer);
    }

    /// Does beside, where it may wait for long, what changes records of views or lines, in the same way; what is frozen does
    /// not keep it.
    pub(super) fn beside<T>(
        &self,
        work: impl Fn(&dyn Operations) -> Result<T> + Send + 'static,
        answer: impl FnOnce(Result<T>) + Send + 'static,
    ) {
        let about = About { node: None, wanted: RoomFor::Record, telling: None };
        self.aside.run_when_thawed(move |ops| wait_for_room(ops, &about, &work, answer));
    }

    /// Writes. What is written is copied only for who waits.
    pub(super) fn write(
        &self,
        node: NodeId,
        data: &[u8],
        write: impl Fn(&dyn Operations, &[u8]) -> Result<usize> + Send + 'static,
        answer: impl FnOnce(Result<usize>) + Send + 'static,
    ) {
        let wanted = RoomFor::Change(data.len() as u64);
        if let Some(_unhindered) = self.ops.unhindered(Some(node)) {
            match write(self.ops.as_ref(), data) {
                Err(Error::NoSpace) if self.ops.can_make_room(wanted) => {}
                done => return answer(done),
            }
        }
        let (data, about) = (data.to_vec(), About { node: Some(node), wanted, telling: None });
        let work = move |ops: &dyn Operations| write(ops, &data);
        self.aside.run_when_thawed(move |ops| wait_for_room(ops, &about, &work, answer));
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
        self.aside.run_when_thawed(move |ops| wait_for_room(ops, &about, &work, answer));
    }
}

/// Does it and answers; or gives the answer back, if there is no space and some can be made.
fn attempt<T, A: FnOnce(Result<T>)>(
    ops: &dyn Operations,
    about: &About,
    work: &impl Fn(&dyn Operations) -> Result<T>,
    answer: A,
) -> Option<A> {
    let _answer = about.telling.as_ref().map(Answering::begin);
    match work(ops) {
        Err(Error::NoSpace) if ops.can_make_room(about.wanted) => Some(answer),
        done => {
            answer(done);
            None
        }
    }
}

/// Does it as often as room was made for it, and answers.
fn wait_for_room<T, A: FnOnce(Result<T>)>(
    ops: &dyn Operations,
    about: &About,
    work: &impl Fn(&dyn Operations) -> Result<T>,
    mut answer: A,
) {
    let until = Instant::now() + ROOM_WAIT_MAX;
    loop {
        let thawed = about.node.map(|node| ops.wait_to_change(Some(node)));
        match attempt(ops, about, work, answer) {
            Some(again) => answer = again,
            None => return,
        }
        // Whoever makes room holds nothing.
        drop(thawed);
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || !ops.make_room(about.wanted, left) {
            return answer(Err(Error::NoSpace));
        }
    }
}
