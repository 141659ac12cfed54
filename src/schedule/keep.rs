//! Which automatic snapshots stay and which go, and why.
//!
//! A class `24h` keeps the newest snapshot of each of the last 24 hours *that have any*. Hours without a snapshot, because
//! the machine was off or nothing changed, do not count, so nothing goes because time has passed: only a newer snapshot ever
//! takes the place of an older one. Each that is taken takes the place of one in each class at most. So no jump of a clock
//! empties a history.
//!
//! What goes now would have gone at any later look, and what stays was not to go at any earlier one: it does not matter
//! how often it is looked, as long as clocks go forward.

use crate::format::schedule::{Class, Period, Schedule, Unit};
use std::cmp::Reverse;

/// A snapshot that a schedule took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TakenSnapshot {
    /// What the clock said, in seconds since 1970.
    pub at: i64,
    /// What keeps it from being deleted, such as a hold: in words behind "it is".
    pub kept: Option<&'static str>,
}

/// Why a snapshot stays.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Because {
    /// It is the last one that was taken.
    Last,
    /// It is the newest of its period, which is the `nth` from now of `of` that keep one.
    NewestOf {
        /// The period.
        period: Period,
        /// Counted from 1.
        nth: u32,
        /// How many periods keep one.
        of: u32,
    },
    /// All are kept.
    All,
    /// Its time is still to come, so a clock is wrong, or was. It is not counted.
    TimeToCome,
    /// Something keeps it from being deleted: what, in words behind "it is".
    Kept(&'static str),
}

/// What is to become of a snapshot: for which reasons it stays. Without any it goes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ruling(pub Vec<Because>);

impl Ruling {
    /// True if it is to go.
    pub fn goes(&self) -> bool {
        self.0.is_empty()
    }

    /// True if neither want of space nor anything else makes it go.
    fn is_fixed(&self) -> bool {
        self.0.iter().any(|why| matches!(why, Because::Last | Because::Kept(_)))
    }

    /// The finest period that keeps it, in seconds; those that nothing of a class keeps are the coarsest.
    pub fn class_secs(&self) -> u64 {
        let periods = self.0.iter().filter_map(|why| match why {
            Because::NewestOf { period, .. } => Some(period.least_secs()),
            _ => None,
        });
        periods.min().unwrap_or(u64::MAX)
    }
}

/// The classes of a schedule as periods, and how many of each keep one: before those that it names, that of its own pace,
/// for one unit of the finest of these. So `every=15m keep=24h` has the last four quarters of an hour too.
pub fn classes(schedule: &Schedule) -> Vec<(Period, u32)> {
    let named = |class: &Class| (Period::from(class.unit), class.count);
    let Some(finest) = schedule.keep.first() else { return Vec::new() };
    let own = Period::from(finest.unit).least_secs().div_ceil(schedule.every.least_secs().max(1));
    let own = (schedule.every, u32::try_from(own).unwrap_or(u32::MAX));
    std::iter::once(own).chain(schedule.keep.iter().map(named)).collect()
}

/// What becomes of all that a schedule took, in the order in which they were taken, at a moment.
pub fn decide(schedule: &Schedule, all: &[TakenSnapshot], now: i64) -> Vec<Ruling> {
    let mut rulings = vec![Ruling::default(); all.len()];
    let mut counted: Vec<usize> = (0..all.len()).filter(|i| all[*i].at <= now).collect();
    // Newest first: of those of one second the one that was taken last.
    counted.sort_by_key(|i| Reverse((all[*i].at, *i)));
    for (i, ruling) in rulings.iter_mut().enumerate() {
        let reasons = [
            (i + 1 == all.len()).then_some(Because::Last),
            all[i].kept.map(Because::Kept),
            (all[i].at > now).then_some(Because::TimeToCome),
            schedule.keep.is_empty().then_some(Because::All),
        ];
        ruling.0.extend(reasons.into_iter().flatten());
    }
    for (period, of) in classes(schedule) {
        let (mut nth, mut last) = (0, None);
        for i in &counted {
            let number = Some(period.number_at(all[*i].at));
            if number == last {
                continue;
            }
            (nth, last) = (nth + 1, number);
            if nth > of {
                break;
            }
            rulings[*i].0.push(Because::NewestOf { period, nth, of });
        }
    }
    rulings
}

/// Of snapshots that were not to go, those that may go for want of space, first what is to go first: what only the coarsest
/// class keeps, the oldest of it before the others. Never the last one, nor what something keeps.
pub fn thinning_order(all: &[TakenSnapshot], rulings: &[Ruling]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..all.len()).filter(|i| !rulings[*i].is_fixed()).collect();
    order.sort_by_key(|i| (Reverse(rulings[*i].class_secs()), all[*i].at, *i));
    order
}

impl Because {
    /// As a sentence without an end: it stays because ...
    pub fn words(self) -> String {
        match self {
            Because::Last => "it is the last one taken".into(),
            Because::NewestOf { period, nth, of } if period.count == 1 => {
                format!("newest of its {}, {nth} of {of}", period.unit.word())
            }
            Because::NewestOf { period, nth, of } => {
                format!("newest of its {}, {nth} of {of}", period.words())
            }
            Because::All => "keep=all".into(),
            Because::TimeToCome => "its time is still to come, a clock is or was wrong: not counted".into(),
            Because::Kept(why) => format!("it is {why}"),
        }
    }

    /// For programs.
    pub fn word(self) -> String {
        match self {
            Because::Last => "last".into(),
            Because::NewestOf { period, nth, of } => format!("{period}:{nth}/{of}"),
            Because::All => "all".into(),
            Because::TimeToCome => "time-to-come".into(),
            Because::Kept(_) => "kept".into(),
        }
    }
}

/// Units in which a schedule may keep, finest first, with what they are called: for messages.
pub(super) fn unit_list() -> String {
    let all: Vec<String> = Unit::ALL.iter().map(|u| format!("{} ({}s)", u.name(), u.word())).collect();
    all.join(", ")
}
