//! Snapshots that are taken by themselves: the rules in which users say so, when one is due, and which of them are kept.
//!
//! Pure: no I/O, no clock of its own, nothing but times that it is given. Times are seconds since 1970, and all that is
//! counted by them is counted in UTC, so that no change of a local time makes a period longer or shorter. The times of
//! snapshots are what a clock said, which may have been wrong: what that can do is bounded here, and by whom it is told.

mod age;
mod cadence;
mod keep;
mod least_loss;
mod period;
mod rules;
mod simulate;

#[cfg(test)]
mod tests;

pub use crate::format::schedule::{
    Class, DEFAULT_SCHEDULE, Period, SCHEDULE_NAME_BYTES_MAX, SCHEDULES_MAX, Schedule, Share, Unit,
    is_schedule_name,
};
pub use age::AgeClock;
pub use cadence::{Cadence, SteadyClock};
pub use keep::{Because, Ruling, TakenSnapshot, classes, decide, thinning_order};
pub use least_loss::least_loss;
pub use period::plural;
pub use rules::{RuleError, RuleWords, parse_rule_word, parse_rules, parse_share, share_text};
pub use simulate::{Simulated, simulate};
