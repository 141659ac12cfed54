//! Which calls of a simulated device fail or go astray.
//!
//! Faults are armed one by one and count the calls that come after. They decide; the simulator carries out.

use std::ops::Range;

use super::Op;

/// Whether a fault strikes once or from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// The fault is used up when it strikes.
    Once,
    /// The fault strikes every later call, too.
    Forever,
}

/// What happens to a write that goes astray although it reports success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stray {
    Lost,
    Misdirected { to: u64 },
}

#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    failing: Vec<Failing>,
    stray: Vec<(Range<u64>, Stray, Persistence)>,
}

#[derive(Clone, Debug)]
struct Failing {
    op: Op,
    /// Calls until it strikes, that one included.
    calls_left: u64,
    persistence: Persistence,
}

impl Faults {
    pub fn fail(&mut self, op: Op, nth: u64, persistence: Persistence) {
        self.failing.push(Failing { op, calls_left: nth.max(1), persistence });
    }

    pub fn lead_astray(&mut self, range: Range<u64>, stray: Stray, persistence: Persistence) {
        self.stray.push((range, stray, persistence));
    }

    /// Whether the next call of `op`, which is being made, fails.
    pub fn strike(&mut self, op: Op) -> bool {
        let mut struck = false;
        self.failing.retain_mut(|fault| {
            if fault.op != op {
                return true;
            }
            if fault.calls_left > 1 {
                fault.calls_left -= 1;
                return true;
            }
            struck = true;
            fault.persistence == Persistence::Forever
        });
        struck
    }

    /// What happens to a write of `range`.
    pub fn divert(&mut self, range: &Range<u64>) -> Option<Stray> {
        let touches = |other: &Range<u64>| other.start < range.end && range.start < other.end;
        let hit = self.stray.iter().position(|(other, ..)| touches(other))?;
        let (_, stray, persistence) = self.stray[hit].clone();
        if persistence == Persistence::Once {
            self.stray.remove(hit);
        }
        Some(stray)
    }
}
