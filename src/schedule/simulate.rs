//! What a schedule would have after a time in which something changes in each of its periods, and nobody is away.

use super::keep::{Ruling, TakenSnapshot, decide};
use crate::format::schedule::Schedule;

/// So many snapshots are simulated at most.
const TAKEN_MAX: u64 = 6_000_000;

/// What there would be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Simulated {
    /// Seconds since 1970 of the end, or of the moment up to which it went.
    pub until: i64,
    /// Snapshots that were taken.
    pub taken: u64,
    /// Most that there were at once.
    pub most: usize,
    /// Those that are there at the end, oldest first, with their rulings.
    pub left: Vec<(TakenSnapshot, Ruling)>,
}

/// From what there is at a moment, for so many seconds. `watch` is told of each moment and how many there are then.
pub fn simulate(
    schedule: &Schedule,
    there_is: &[TakenSnapshot],
    from: i64,
    secs: u64,
    watch: &mut dyn FnMut(i64, usize),
) -> Simulated {
    let end = from.saturating_add_unsigned(secs);
    let mut all = there_is.to_vec();
    let (mut taken, mut most, mut now) = (0, all.len(), from);
    while let Some(next) = schedule.every.next_after(now).filter(|next| *next <= end) {
        if taken == TAKEN_MAX {
            break;
        }
        now = next;
        all.push(TakenSnapshot { at: now, kept: None });
        taken += 1;
        let mut rulings = decide(schedule, &all, now).into_iter();
        all.retain(|_| rulings.next().is_some_and(|ruling| !ruling.goes()));
        most = most.max(all.len());
        watch(now, all.len());
    }
    let until = if taken == TAKEN_MAX { now } else { end };
    let rulings = decide(schedule, &all, until);
    Simulated { until, taken, most, left: all.into_iter().zip(rulings).collect() }
}
