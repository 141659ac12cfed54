//! Which calls of a simulated device fail or go astray.
//!
//! Faults are armed one by one and count the calls that come after. They decide; the simulator carries out.

use std::ops::Range;

use super::Op;
use super::image::Image;

/// Whether a fault strikes once or from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// The fault is used up when it strikes.
    Once,
    /// The fault strikes every later call, too.
    Forever,
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// With an I/O error.
    Io,
    /// For want of space.
    NoSpace,
}

/// What happens to a write that goes astray although it reports success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stray {
    Lost,
    Misdirected { to: u64 },
}

/// What a read returns instead of what is there, although it reports success.
#[derive(Clone, Debug)]
pub(super) enum Wrong {
    /// The same place of an earlier disk.
    Older(Image),
    /// Another place, so far away; a place before it is a wrapped difference.
    Elsewhere { shift: u64 },
}

#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    failing: Vec<Failing>,
    stray: Vec<(Victim, Stray, Persistence)>,
    wrong: Vec<(Victim, Wrong, Persistence)>,
    /// Calls that failed or went astray.
    pub struck: u64,
}

#[derive(Clone, Debug)]
struct Failing {
    op: Op,
    /// Calls until it strikes, that one included.
    calls_left: u64,
    persistence: Persistence,
    failure: FaultKind,
}

/// Which reads, or writes, a fault is for.
#[derive(Clone, Debug)]
pub(super) enum Victim {
    /// Those that touch the range.
    Range(Range<u64>),
    /// The one after so many calls, itself included.
    Nth(u64),
}

impl Victim {
    /// Whether the call of `range` that is being made is one: then the part of it that is hit.
    fn hit(&mut self, range: &Range<u64>) -> Option<Range<u64>> {
        match self {
            Victim::Range(place) => {
                let part = place.start.max(range.start)..place.end.min(range.end);
                (part.start < part.end).then_some(part)
            }
            Victim::Nth(calls_left) => {
                *calls_left = calls_left.saturating_sub(1);
                (*calls_left == 0).then(|| range.clone())
            }
        }
    }
}

impl Faults {
    pub fn fail(&mut self, op: Op, nth: u64, persistence: Persistence, failure: FaultKind) {
        self.failing.push(Failing { op, calls_left: nth.max(1), persistence, failure });
    }

    pub fn lead_astray(&mut self, victim: Victim, stray: Stray, persistence: Persistence) {
        self.stray.push((victim, stray, persistence));
    }

    pub fn answer_wrongly(&mut self, victim: Victim, wrong: Wrong, persistence: Persistence) {
        self.wrong.push((victim, wrong, persistence));
    }

    /// Whether the next call of `op`, which is being made, fails, and how.
    pub fn strike(&mut self, op: Op) -> Option<FaultKind> {
        let mut struck = None;
        self.failing.retain_mut(|fault| {
            if fault.op != op {
                return true;
            }
            if fault.calls_left > 1 {
                fault.calls_left -= 1;
                return true;
            }
            struck = struck.or(Some(fault.failure));
            fault.persistence == Persistence::Forever
        });
        self.struck += u64::from(struck.is_some());
        struck
    }

    /// What happens to a write of `range`, which is being made.
    pub fn divert(&mut self, range: &Range<u64>) -> Option<Stray> {
        let hit = pick(&mut self.stray, range);
        self.struck += u64::from(hit.is_some());
        hit.map(|(_, stray)| stray)
    }

    /// What a read of `range`, which is being made, returns instead of what is there, and in which part of the range.
    pub fn mislead(&mut self, range: &Range<u64>) -> Option<(Range<u64>, Wrong)> {
        let hit = pick(&mut self.wrong, range);
        self.struck += u64::from(hit.is_some());
        hit
    }
}

/// The first fault that a call of `range` meets. All of them count the call.
fn pick<F: Clone>(faults: &mut Vec<(Victim, F, Persistence)>, range: &Range<u64>) -> Option<(Range<u64>, F)> {
    let hits: Vec<_> = faults.iter_mut().map(|(victim, ..)| victim.hit(range)).collect();
    let (at, part) = hits.into_iter().enumerate().find_map(|(at, part)| Some((at, part?)))?;
    let (_, fault, persistence) = faults[at].clone();
    if persistence == Persistence::Once {
        faults.remove(at);
    }
    Some((part, fault))
}
