//! When a commit comes before its time: much is delayed, changed or freed, or the log fills.
//!
//! From three quarters of a limit on the thread that commits in the background is asked for it, so that requests go on
//! meanwhile. At the limit itself whoever makes a change waits for that commit, or makes it: nothing grows without bound
//! when changes come faster than the device takes them, or where nobody commits in the background.

use crate::fs::heads::Heads;

/// Freed content that brings a commit forward, in bytes: what is written and deleted, or replaced, all the time must not
/// take ever more space of the host between two commits.
const FREED_BYTES_MAX: u64 = 256 << 20;

/// How much of what is bounded there is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fill {
    /// No reason for a commit.
    Low,
    /// One is wanted.
    High,
    /// One is needed before anything else.
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

/// How full the fullest of what is bounded is.
pub fn fill(heads: &Heads) -> Fill {
    let (volume, limit) = (&heads.volume, heads.options.dirty_bytes_max);
    let data = Fill::of(heads.delayed_bytes(), limit);
    let tree = Fill::of(volume.dirty_bytes(), limit);
    let freed = Fill::of(volume.freed_bytes(), FREED_BYTES_MAX);
    let (used, log_bytes) = volume.log_fill();
    // A commit lets go of its records when it is done; those that come meanwhile need space too.
    data.max(tree).max(freed).max(Fill::of(used, log_bytes / 2))
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
