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
pub enum Failure {
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
    /// Another place.
    Elsewhere { from: u64 },
}

#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    failing: Vec<Failing>,
    stray: Vec<(Victim, Stray, Persistence)>,
    wrong: Vec<(Range<u64>, Wrong, Persistence)>,
}

#[derive(Clone, Debug)]
struct Failing {
    op: Op,
    /// Calls until it strikes, that one included.
    calls_left: u64,
    persistence: Persistence,
    failure: Failure,
}

/// Which writes a fault is for.
#[derive(Clone, Debug)]
pub(super) enum Victim {
    /// Those that touch the range.
    Place(Range<u64>),
    /// The one after so many calls, itself included.
    Nth(u64),
}

impl Faults {
    pub fn fail(&mut self, op: Op, nth: u64, persistence: Persistence, failure: Failure) {
        self.failing.push(Failing { op, calls_left: nth.max(1), persistence, failure });
    }

    pub fn lead_astray(&mut self, victim: Victim, stray: Stray, persistence: Persistence) {
        self.stray.push((victim, stray, persistence));
    }

    pub fn answer_wrongly(&mut self, range: Range<u64>, wrong: Wrong, persistence: Persistence) {
        self.wrong.push((range, wrong, persistence));
    }

    /// Whether the next call of `op`, which is being made, fails, and how.
    pub fn strike(&mut self, op: Op) -> Option<Failure> {
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
        struck
    }

    /// What happens to a write of `range`, which is being made.
    pub fn divert(&mut self, range: &Range<u64>) -> Option<Stray> {
        let mut hit = None;
        for (n, (victim, ..)) in self.stray.iter_mut().enumerate() {
            let is_hit = match victim {
                Victim::Place(place) => touch(place, range),
                Victim::Nth(calls_left) => {
                    *calls_left = calls_left.saturating_sub(1);
                    *calls_left == 0
                }
            };
            if is_hit && hit.is_none() {
                hit = Some(n);
            }
        }
        let (_, stray, persistence) = self.stray[hit?].clone();
        if persistence == Persistence::Once {
            self.stray.remove(hit?);
        }
        Some(stray)
    }

    /// What a read of `range`, which is being made, returns instead of what is there, and where.
    pub fn mislead(&mut self, range: &Range<u64>) -> Option<(Range<u64>, Wrong)> {
        let hit = self.wrong.iter().position(|(other, ..)| touch(other, range))?;
        let (place, wrong, persistence) = self.wrong[hit].clone();
        if persistence == Persistence::Once {
            self.wrong.remove(hit);
        }
        Some((place, wrong))
    }
}

fn touch(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}
