//! When a commit comes before its time: much is delayed, changed or freed, or the log fills.
//!
//! From three quarters of a limit on the thread that commits in the background is asked for it, so that requests go on
//! meanwhile. At the limit itself whoever makes a change waits for that commit, or makes it: nothing grows without bound
//! when changes come faster than the device takes them, or where nobody commits in the background.

use super::Fs;
use crate::ops::Result;
use std::time::{Duration, Instant};

/// Freed content that brings a commit forward, in bytes: what is written and deleted, or replaced, all the time must not
/// take ever more space of the host between two commits.
const FREED_BYTES_MAX: u64 = 256 << 20;

/// How much of what is bounded there is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Fill {
    Low,
    High,
    Full,
}

impl Fill {
    fn of(used: u64, limit: u64) -> Fill {
        match used {
            _ if used > limit => Fill::Full,
            _ if used > limit / 4 * 3 => Fill::High,
            _ => Fill::Low,
        }
    }
}

impl Fs {
    /// Waits until a commit is wanted before its time, and returns true then, or until time is over.
    pub fn wait_for_pressure(&self, timeout: Duration) -> bool {
        let until = Instant::now() + timeout;
        while self.pressure.wait(until.saturating_duration_since(Instant::now())) {
            // Whoever asked during the last commit may have got enough by it.
            if self.fill() > Fill::Low || self.pressure.has_ended() {
                return true;
            }
        }
        false
    }

    /// Lets whoever waits for pressure go on, for good.
    pub fn end_pressure(&self) {
        self.pressure.end();
    }

    /// Called before a change: keeps below the limits.
    pub(super) fn relieve(&self) -> Result<()> {
        match self.fill() {
            Fill::Low => Ok(()),
            Fill::High => {
                self.pressure.ring();
                Ok(())
            }
            Fill::Full => {
                let mut last_done = self.commit_lock.lock();
                // The commit that was waited for may have been enough.
                if self.fill() == Fill::Full { self.commit_locked(&mut last_done) } else { Ok(()) }
            }
        }
    }

    fn fill(&self) -> Fill {
        let limit = self.options.dirty_bytes_max;
        let data = Fill::of(self.gate.read().dirty.bytes(), limit);
        let tree = Fill::of(self.volume.dirty_bytes(), limit);
        let freed = Fill::of(self.volume.freed_bytes(), FREED_BYTES_MAX);
        let (used, log_bytes) = self.volume.log_fill();
        // A commit lets go of its records when it is done; those that come meanwhile need space too.
        data.max(tree).max(freed).max(Fill::of(used, log_bytes / 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn above_three_quarters_is_high_and_above_the_limit_full() {
        let fills = [0, 75, 76, 100, 101].map(|used| Fill::of(used, 100));
        assert_eq!(fills, [Fill::Low, Fill::Low, Fill::High, Fill::High, Fill::Full]);
    }
}
