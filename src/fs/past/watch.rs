//! What has been seen of the clones that may go by themselves, and which of them are to go at a moment.

use crate::format::LineId;
use crate::format::line::LineRecord;
use crate::format::terms::{Expiry, Idling};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::Duration;

/// For so long a clone is watched at most.
const WATCH_MAX: Duration = Duration::from_secs(3600);

/// The time of day was set if it is so many seconds away from where it was and what has passed since.
const SET_SECS: u64 = 60;

/// What has been seen of the clones that may go. A leaf in the order of locks.
#[derive(Default)]
pub struct Watch {
    /// All of it.
    pub seen: Mutex<Seen>,
}

/// The same, locked.
#[derive(Default)]
pub struct Seen {
    /// Time of day and what had passed, at the last look.
    pub last: Option<(i64, Duration)>,
    /// Those that may go.
    pub clones: HashMap<LineId, WatchedClone>,
}

impl Seen {
    /// True if the time of day was set since the last look.
    pub fn is_set_since(&self, (now, passed): (i64, Duration)) -> bool {
        self.last.is_some_and(|(then, before)| {
            let expected = then.saturating_add_unsigned(passed.saturating_sub(before).as_secs());
            now.abs_diff(expected) > SET_SECS
        })
    }
}

/// What is known of one, in time passed.
pub struct WatchedClone {
    /// Its moment, and for how long it may be idle.
    pub terms: (Option<Expiry>, Option<u64>),
    /// From when it was watched.
    pub since: Duration,
    /// Its last use, and the time of day then.
    pub used: Option<(Duration, i64)>,
}

impl WatchedClone {
    /// One that is watched from now on.
    pub fn since(passed: Duration, line: &LineRecord) -> WatchedClone {
        WatchedClone { terms: terms_of(line), since: passed, used: None }
    }

    /// True if this is what it was watched for.
    pub fn is_watched_for(&self, line: &LineRecord) -> bool {
        self.terms == terms_of(line)
    }

    /// Why it is to go at this moment.
    pub fn end(&self, line: &LineRecord, (now, passed): (i64, Duration)) -> Option<&'static str> {
        let watched =
            |after: u64, since| passed.saturating_sub(since) >= Duration::from_secs(after).min(WATCH_MAX);
        let expired = line.terms.expiry.is_some_and(|e| now >= e.at && watched(e.after, self.since));
        let idle = |i: Idling| {
            let (since, used) = self.used.unwrap_or((self.since, i.used));
            let over = used.max(i.used).saturating_add_unsigned(i.after);
            now >= over && watched(i.after, since.max(self.since))
        };
        match (expired, line.terms.idling.is_some_and(idle)) {
            (true, _) => Some("its time is over"),
            (_, true) => Some("nobody has used it"),
            _ => None,
        }
    }
}

fn terms_of(line: &LineRecord) -> (Option<Expiry>, Option<u64>) {
    (line.terms.expiry, line.terms.idling.map(|i| i.after))
}
