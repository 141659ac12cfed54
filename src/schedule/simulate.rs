//! What a schedule would have after a time in which something changes in each of its periods, and nobody is away.
//!
//! Each snapshot that is taken takes the place of one in each class at most, so a step costs no more however many are kept.

use super::keep::{Because, Ruling, TakenSnapshot, classes, decide};
use crate::format::schedule::{Period, Schedule};
use std::collections::VecDeque;

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

/// From what there is at a moment, for so many seconds. `watch` is told of each moment and how many there are then, and says by false that
/// nobody wants to know any more: then there is no outcome.
pub fn simulate(
    schedule: &Schedule,
    there_is: &[TakenSnapshot],
    from: i64,
    secs: u64,
    watch: &mut dyn FnMut(i64, usize) -> bool,
) -> Option<Simulated> {
    let end = from.saturating_add_unsigned(secs);
    let mut held = Held::new(schedule, there_is.to_vec(), from);
    let (mut taken, mut most, mut now) = (0, there_is.len(), from);
    while let Some(next) = schedule.every.next_after(now).filter(|next| *next <= end) {
        if taken == TAKEN_MAX {
            break;
        }
        now = next;
        held.take(now);
        taken += 1;
        most = most.max(held.count);
        if !watch(now, held.count) {
            return None;
        }
    }
    let until = if taken == TAKEN_MAX { now } else { end };
    let all = if taken == 0 { there_is.to_vec() } else { held.all() };
    let rulings = decide(schedule, &all, until);
    Some(Simulated { until, taken, most, left: all.into_iter().zip(rulings).collect() })
}

/// What there is, and which class keeps what of it.
struct Held<'s> {
    schedule: &'s Schedule,
    all: Vec<TakenSnapshot>,
    /// For how many reasons each stays.
    reasons: Vec<usize>,
    /// How many have any.
    count: usize,
    /// Of each class the periods that keep one, the newest first, with the one that they keep.
    classes: Vec<Kept>,
    /// The time of some is still to come: until then all is looked at each time.
    has_to_come: bool,
}

/// A class: its period, how many of these keep one, and the number of each with what it keeps.
struct Kept {
    period: Period,
    of: u32,
    newest: VecDeque<(i64, usize)>,
}

impl Held<'_> {
    fn new(schedule: &Schedule, all: Vec<TakenSnapshot>, now: i64) -> Held<'_> {
        let mut held = Held {
            schedule,
            count: 0,
            reasons: vec![1; all.len()],
            all,
            classes: Vec::new(),
            has_to_come: true,
        };
        held.look_at_all(now, |_| false);
        held
    }

    /// Counts the reasons anew; what has none of these goes, if so it is said.
    fn look_at_all(&mut self, now: i64, goes: impl Fn(&Ruling) -> bool) {
        let rulings = decide(self.schedule, &self.all, now);
        let mut gone = rulings.iter().map(&goes);
        self.all.retain(|_| gone.next() == Some(false));
        let rulings: Vec<Ruling> = rulings.into_iter().filter(|ruling| !goes(ruling)).collect();
        let is_newest = |why: &&Because| matches!(why, Because::NewestOf { .. });
        self.reasons = rulings.iter().map(|ruling| ruling.0.len()).collect();
        self.count = self.reasons.iter().filter(|n| **n > 0).count();
        self.has_to_come = self.all.iter().any(|taken| taken.at > now);
        let kept = |(period, of): (Period, u32)| {
            let mut newest: Vec<(i64, u32, usize)> = Vec::new();
            for (i, ruling) in rulings.iter().enumerate() {
                for why in ruling.0.iter().filter(is_newest) {
                    if let Because::NewestOf { period: p, nth, of: n } = why
                        && (*p, *n) == (period, of)
                    {
                        newest.push((period.number_at(self.all[i].at), *nth, i));
                    }
                }
            }
            newest.sort_by_key(|(_, nth, _)| *nth);
            // Two classes may be the same.
            newest.dedup();
            Kept { period, of, newest: newest.into_iter().map(|(number, _, i)| (number, i)).collect() }
        };
        self.classes = classes(self.schedule).into_iter().map(kept).collect();
    }

    /// One is taken, and what no rule keeps then goes.
    fn take(&mut self, now: i64) {
        let (new, before) = (self.all.len(), self.all.len().checked_sub(1));
        self.all.push(TakenSnapshot { at: now, kept: None });
        if self.has_to_come {
            return self.look_at_all(now, Ruling::goes);
        }
        let mut lost: Vec<usize> = before.into_iter().collect();
        // It is the last one, and what keeps all keeps it.
        let mut reasons = 1 + usize::from(self.schedule.keep.is_empty());
        for class in &mut self.classes {
            let number = class.period.number_at(now);
            match class.newest.front_mut() {
                Some((last, newest)) if *last == number => lost.push(std::mem::replace(newest, new)),
                _ => class.newest.push_front((number, new)),
            }
            reasons += 1;
            if class.newest.len() > class.of as usize {
                class
                    .newest
                    .pop_back()
                    .into_iter()
                    .for_each(|(_, i)| if i == new { reasons -= 1 } else { lost.push(i) });
            }
        }
        self.reasons.push(reasons);
        self.count += 1;
        for i in lost {
            self.reasons[i] -= 1;
            self.count -= usize::from(self.reasons[i] == 0);
        }
    }

    /// Those that stay, oldest first.
    fn all(self) -> Vec<TakenSnapshot> {
        self.all.into_iter().zip(self.reasons).filter(|(_, n)| *n > 0).map(|(taken, _)| taken).collect()
    }
}
