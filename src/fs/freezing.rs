//! Freezing lines for applications, and thawing them.
//!
//! From when [`Fs::freeze`] has returned nobody changes these lines until they are thawed or the time is over: requests of the
//! kernel wait, and changes at once, rollbacks and what else exchanges a head are refused ([`Frozen`](crate::ops::Error::Frozen)). Snapshots and clones
//! are made at once: what the kernel holds back was handed over when the frost began, and what it takes up meanwhile waits as
//! any other change. Commits go on, as they change nothing that can be seen.

use super::file_system::Fs;
use super::heads::{Frost, FrostEnd, Head, NewFrost};
use crate::format::provenance::Provenance;
use crate::format::{Ino, LineId};
use crate::ops::{Error, NodeId, PassingRequest, Result};
use parking_lot::MutexGuard;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// So long those who are under way are waited for at once, with snapshots and their like held off: one may need these to get on.
const ATTEMPT: Duration = Duration::from_secs(2);

/// Which lines are to be frozen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FreezeOrder {
    /// A node of the line.
    pub at: NodeId,
    /// All others too that there are.
    pub all: bool,
    /// For how long at most; within the same time it has to begin.
    pub timeout: Duration,
    /// Who asks.
    pub by: Provenance,
}

/// How an order to freeze has ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FreezeDone {
    /// They are frozen.
    Frozen(Frost),
    /// One of them was already.
    Already(Frost),
    /// Others were busy with them for so long that it has not begun, or is over again.
    NotInTime,
}

/// How an order to thaw has ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ThawDone {
    /// This frost is over.
    Thawed(Frost),
    /// The line is in this one, which is none of those that were meant; how the last of those has ended.
    Another(Frost, Option<Frost>),
    /// The line was not frozen; how it was thawed the last time since the store was opened.
    NotFrozen(Option<Frost>),
}

fn tree(head: &Head) -> u32 {
    head.node(Ino::ROOT).tree()
}

impl Fs {
    /// Freezes lines: what was written before, the pages of the kernel included, is durable when this returns.
    pub fn freeze(&self, order: &FreezeOrder) -> Result<FreezeDone> {
        self.heads.check_writable()?;
        let deadline = Instant::now() + order.timeout;
        let lines = self.lines_to_freeze(order)?;
        // Little is left for when everybody waits.
        self.commit()?;
        self.past.write_back_ahead(&lines)?;
        let number = loop {
            // What waits for the kernel with snapshots held off would wait for the end.
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(held) = self.past.one_at_a_time_within(left) else { return Ok(FreezeDone::NotInTime) };
            // Those of now, which nobody adds to or takes from.
            let lines = self.lines_to_freeze(order)?;
            if let Some(frost) = lines.iter().find_map(|head| self.frost_of(head.line)) {
                return Ok(FreezeDone::Already(frost));
            }
            for head in &lines {
                self.past.write_back(head)?;
            }
            let new = NewFrost {
                lines: lines.iter().map(|head| (head.line, tree(head))).collect(),
                by: order.by.clone(),
                since: self.heads.clock.now(),
                timeout: order.timeout,
            };
            let frosts = &self.heads.frosts;
            if let Some(number) = frosts.begin(new, deadline.min(Instant::now() + ATTEMPT)) {
                break number;
            }
            if frosts.is_closed() || Instant::now() >= deadline {
                return Ok(FreezeDone::NotInTime);
            }
            // Others get their turn, who may be what is waited for.
            MutexGuard::unlock_fair(held);
        };
        let frosts = &self.heads.frosts;
        if let Err(e) = self.commit() {
            frosts.end(number, FrostEnd::CalledOff);
            return Err(e);
        }
        // Not whatever the line is in by now.
        Ok(frosts.lasting(&[number]).map_or(FreezeDone::NotInTime, FreezeDone::Frozen))
    }

    /// The lines that are meant. An error if nobody changes any of them.
    fn lines_to_freeze(&self, order: &FreezeOrder) -> Result<Vec<Arc<Head>>> {
        let asked = self.heads.at(order.at)?;
        let mut lines = if order.all { self.heads.all() } else { vec![asked] };
        // Nobody changes what was received.
        lines.retain(|head| !head.is_received);
        if lines.is_empty() { Err(Error::ReadOnly) } else { Ok(lines) }
    }

    /// Ends the frost that the line of a node is in, also for the other lines in it. If any are given it has to be one of them, and whoever
    /// asks has made use of it; otherwise that is taken from whoever has begun it.
    pub fn thaw(&self, at: NodeId, of: &[u64]) -> Result<ThawDone> {
        let (head, frosts) = (self.heads.at(at)?, &self.heads.frosts);
        let Some(now) = self.frost_of(head.line) else {
            let last = frosts.ended(of).or_else(|| frosts.last_of(tree(&head)));
            return Ok(ThawDone::NotFrozen(last));
        };
        if !of.is_empty() && !of.contains(&now.number) {
            return Ok(ThawDone::Another(now, frosts.ended(of)));
        }
        let end = if of.is_empty() { FrostEnd::ThawedByAnybody } else { FrostEnd::Thawed };
        let ended = frosts.end(now.number, end);
        Ok(ended.map_or_else(|| ThawDone::NotFrozen(frosts.ended(&[now.number])), ThawDone::Thawed))
    }

    /// Calls off what [`Self::freeze`] has begun a moment ago: nobody knows of it.
    pub fn call_off_freeze(&self, number: u64) {
        self.heads.frosts.end(number, FrostEnd::CalledOff);
    }

    /// All frosts that last, oldest first.
    pub fn frosts(&self) -> Vec<Frost> {
        self.heads.frosts.all()
    }

    /// The frost that a line is in.
    pub fn frost_of(&self, line: LineId) -> Option<Frost> {
        self.frosts().into_iter().find(|frost| frost.new.lines.iter().any(|(of, _)| *of == line))
    }

    /// For what changes the line of a node and is no request of the kernel: kept until it is done. Refused if that is frozen.
    pub fn pass_thawed(&self, at: NodeId) -> Result<PassingRequest<'_>> {
        self.heads.frosts.pass(tree(&*self.heads.at(at)?)).ok_or(Error::Frozen)
    }

    /// Ends all frosts for good, and what applications are asked: the file system is going to be closed.
    pub fn end_frosts(&self) {
        if let Some(applications) = &*self.past.timekeeper.applications.read() {
            applications.end();
        }
        self.heads.frosts.close();
    }
}
