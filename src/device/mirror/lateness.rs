//! Waiting for sides, and which of them is lost that is late.
//!
//! A side that has not answered when its time is over is lost only if its partner does answer: see [`crate::device::bystander`]. So
//! is one that takes part in no mirror yet, or no more, beside the one that serves.

use super::crew::CallCrew;
use super::mirror::{ChangeReply, Member, Members, Mirror, gone, is_serving};
use super::side::{MirrorSide, SideReply, Unanswered, outcome};
use crate::device::bystander::{Bystander, Question, judge_late};
use crate::device::waited::Waited;
use crate::device::{Device, DeviceError};
use crate::format::mirror::{LABEL_ADDRS, LABEL_BYTES};
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked which of two has answered.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Reads something small from the disk itself: places that are the same in the memory of the host, which need not ask the
/// disk for them. True if any can be read.
fn is_alive(device: &dyn Device) -> bool {
    LABEL_ADDRS.into_iter().any(|at| {
        device.release(at, LABEL_BYTES as u64);
        device.read_at(at, &mut [0; LABEL_BYTES]).is_ok()
    })
}

impl Bystander for MirrorSide {
    fn question(&self) -> Question {
        let reply = self.call(is_alive);
        Box::new(move || Some(reply.if_answered()? == Ok(true)))
    }
}

/// A device that is asked before another one is taken for late. Threads of its own do that, once it comes to it.
#[must_use]
pub fn bystander(device: Arc<dyn Device>) -> Arc<dyn Bystander> {
    Arc::new(MirrorSide::unasked(device, &CallCrew::new()))
}

impl Mirror {
    /// Makes a call on one side, which may be any, within the limit.
    pub(super) fn on<T: Send + 'static>(
        &self,
        n: usize,
        call: impl FnOnce(&dyn Device) -> Result<T, DeviceError> + Send + 'static,
    ) -> Result<T, DeviceError> {
        self.on_member(&self.members.read().clone(), n, call)
    }

    /// The same. A side that is late while its partner answers is lost, unless it is the last that serves: that is waited for.
    pub(super) fn on_member<T: Send + 'static>(
        &self,
        members: &Members,
        n: usize,
        call: impl FnOnce(&dyn Device) -> Result<T, DeviceError> + Send + 'static,
    ) -> Result<T, DeviceError> {
        let member = members.get(n).and_then(Option::as_ref).ok_or_else(gone)?;
        let reply = member.side.call(call);
        self.crew.hurry(|| reply.is_answered());
        let limit = self.limit();
        let answer = match reply.wait(limit) {
            Err(Unanswered::Late) => self.wait_for_late(&member.side, &reply),
            answer => answer,
        };
        outcome(answer, limit)
    }

    /// Waits for replies up to the limit, and then for as long as nobody who serves has answered: what only a side has that is
    /// being filled nobody has. Then one that is late is lost if the other answers, be it with an error.
    pub(super) fn gather(
        &self,
        members: &Members,
        replies: Vec<ChangeReply>,
    ) -> Vec<(usize, Result<(), DeviceError>)> {
        let limit = self.limit();
        let mut waited = Waited::new(limit);
        let mut answers: Vec<_> = replies.iter().map(|(_, reply)| reply.wait_on(&mut waited)).collect();
        let is_late = |answer: &Result<_, _>| matches!(answer, Err(Unanswered::Late));
        let is_there = |n: usize| members[n].as_ref().is_some_and(|member| member.side.is_there());
        loop {
            // One that somebody else has lost meanwhile need never answer.
            for ((n, _), answer) in replies.iter().zip(&mut answers) {
                if is_late(answer) && !is_there(*n) {
                    *answer = Err(Unanswered::Gone);
                }
            }
            let mut outcomes = replies.iter().map(|(n, _)| *n).zip(&answers);
            let is_answered = outcomes.any(|(n, answer)| !is_late(answer) && is_serving(members, n));
            if is_answered || !answers.iter().any(is_late) {
                break;
            }
            // Whoever goes on first gives the other its whole time.
            for ((_, reply), answer) in replies.iter().zip(&mut answers).filter(|(_, answer)| is_late(answer))
            {
                *answer = reply.wait(LOOK_AGAIN);
            }
            if answers.iter().any(|answer| !is_late(answer)) {
                waited = Waited::new(limit);
                for ((_, reply), answer) in
                    replies.iter().zip(&mut answers).filter(|(_, answer)| is_late(answer))
                {
                    *answer = reply.wait_on(&mut waited);
                }
            }
        }
        let mut outcomes = replies.iter().map(|(n, _)| *n).zip(&answers);
        let has_served = outcomes.any(|(n, answer)| matches!(answer, Ok(Ok(()))) && is_serving(members, n));
        for ((n, reply), answer) in replies.iter().zip(&mut answers).filter(|(_, answer)| is_late(answer)) {
            let Some(member) = &members[*n] else { continue };
            // What one that does not serve says makes no difference to an error of all that do.
            if has_served || is_serving(members, *n) || !self.lose_late(&member.side) {
                *answer = self.wait_for_late(&member.side, reply);
            }
        }
        replies.iter().zip(answers).map(|((n, _), answer)| (*n, outcome(answer, limit))).collect()
    }

    /// Waits for a side that is late until it answers, or is lost because its partner does.
    fn wait_for_late<T>(&self, side: &Arc<MirrorSide>, reply: &SideReply<T>) -> Result<T, Unanswered> {
        let ask = || self.partner_of(side).map(|partner| partner.question());
        let answer = judge_late(self.limit(), |time| reply.wait_in_time(time), ask, || self.lose_late(side));
        answer.unwrap_or(Err(Unanswered::Late))
    }

    fn lose_late(&self, side: &Arc<MirrorSide>) -> bool {
        self.lose(side, &format!("a call did not return within {:?}", self.limit()))
    }

    /// Who is to be asked before a side is lost. None if it is the last, or takes part no more.
    fn partner_of(&self, side: &Arc<MirrorSide>) -> Option<Arc<MirrorSide>> {
        // The caller may be reading them, and somebody may be waiting to write them.
        let members = self.members.read_recursive();
        let is_it = |m: &Option<Member>| m.as_ref().is_some_and(|m| Arc::ptr_eq(&m.side, side));
        let n = members.iter().position(is_it)?;
        let is_asked = side.is_there() && is_serving(&members, 1 - n);
        members[1 - n].as_ref().filter(|_| is_asked).map(|partner| partner.side.clone())
    }
}
