//! What is remembered from one look at the schedules to the next. It is lost with the mount.

use super::applications::Applications;
use crate::format::LineId;
use crate::schedule::{Cadence, Schedule, SteadyClock};
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What is remembered of schedules. Lock order: `running` before everything of the past, held over a whole look; `seen` is a
/// leaf.
#[derive(Default)]
pub struct Timekeeper {
    /// Held over a look.
    pub running: Mutex<()>,
    /// What was seen.
    pub seen: Mutex<SeenSchedules>,
    /// Who is asked before a snapshot is taken.
    pub applications: RwLock<Option<Arc<dyn Applications>>>,
    /// What went wrong with them around the last one of a schedule, though it was taken. A leaf.
    pub troubles: Mutex<BTreeMap<(LineId, String), String>>,
}

/// What was seen at the last look.
#[derive(Default)]
pub struct SeenSchedules {
    /// The clock.
    pub clock: SteadyClock,
    /// Schedules by line and name.
    pub schedules: BTreeMap<(LineId, String), WatchedSchedule>,
}

/// What is remembered of one.
pub struct WatchedSchedule {
    /// It.
    pub schedule: Schedule,
    /// When it is due.
    pub pace: Cadence,
    /// The time of the last that was taken.
    pub last: Option<i64>,
    /// When it was looked what is to go.
    pub pruned: Option<Duration>,
    /// Why the last attempt failed, if it did.
    pub error: Option<String>,
}
