//! How fast something goes on in the background: as a limit says, or as it finds right beside others.

use super::limit::UNLIMITED;
use std::time::Duration;

/// Bytes a second unless told otherwise while others use the store: few enough that their 99th percentile stays what it is.
const BUSY_SPEED: u64 = 4 << 20;
/// Others use the store if they move so many bytes in a second.
const BUSY_BYTES: u64 = 512 << 10;
/// How often it looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// How much of what was lost to a slow device is made up for.
const LAG_MAX: Duration = Duration::from_millis(100);
/// The rate that is told is that of so long.
const RATE_WINDOW: Duration = Duration::from_secs(3);

/// The pace of one transfer. Times are what has passed since any moment.
pub(super) struct Pace {
    /// When the next bytes may go.
    due: Duration,
    /// When others were last looked at, what all had moved by then, and what this had.
    looked: Duration,
    moved: u64,
    own: u64,
    is_busy: bool,
    /// Bytes so far.
    pub(super) sent: u64,
    /// Bytes at the beginning of the window before, and of this one, and when they began.
    windows: [(Duration, u64); 2],
}

impl Pace {
    /// One that begins now; `moved` is what all have moved so far.
    pub(super) fn new(now: Duration, moved: u64) -> Pace {
        // Slow until it is known.
        Pace { due: now, looked: now, moved, own: 0, is_busy: true, sent: 0, windows: [(now, 0); 2] }
    }

    /// So many bytes go: how long to wait before. `moved` is what all have moved so far, by reading and writing.
    pub(super) fn before(&mut self, bytes: u64, limit: u64, now: Duration, moved: u64) -> Duration {
        self.look(now, moved);
        self.sent += bytes;
        if now.saturating_sub(self.windows[1].0) >= RATE_WINDOW {
            self.windows = [self.windows[1], (now, self.sent)];
        }
        let speed = match limit {
            0 if self.is_busy => BUSY_SPEED,
            0 | UNLIMITED => {
                self.due = now;
                return Duration::ZERO;
            }
            limit => limit,
        };
        self.due = self.due.max(now.saturating_sub(LAG_MAX));
        let wait = self.due.saturating_sub(now);
        self.due += Duration::from_secs_f64(bytes as f64 / speed as f64);
        wait
    }

    fn look(&mut self, now: Duration, moved: u64) {
        let elapsed = now.saturating_sub(self.looked);
        if elapsed < LOOK_INTERVAL {
            return;
        }
        // What goes is read before, with what leads to it.
        let own = (self.sent - self.own) / 4 * 5;
        let others = moved.saturating_sub(self.moved).saturating_sub(own);
        let second = u128::from(others) * 1000 / elapsed.as_millis().max(1);
        self.is_busy = second > u128::from(BUSY_BYTES);
        (self.looked, self.moved, self.own) = (now, moved, self.sent);
    }

    /// Bytes a second of late.
    pub(super) fn rate(&self, now: Duration) -> u64 {
        let (began, sent) = self.windows[0];
        let elapsed = now.saturating_sub(began).as_secs_f64();
        if elapsed < 0.05 { 0 } else { ((self.sent - sent) as f64 / elapsed) as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that go in each second of so many, in pieces of so many, while for each thousand `others` are moved in all.
    fn run(pace: &mut Pace, limit: u64, piece: u64, others: u64, seconds: u64) -> Vec<u64> {
        let (mut now, mut all) = (Duration::from_secs(100), vec![0; seconds as usize]);
        let mut moved = 0;
        loop {
            moved += others * piece / 1000;
            now += pace.before(piece, limit, now, moved) + Duration::from_micros(20);
            let Some(second) = all.get_mut((now.as_secs() - 100) as usize) else { return all };
            *second += piece;
        }
    }

    #[test]
    fn a_limit_holds_in_each_second() {
        for (limit, piece) in
            [(1 << 20, 64 << 10), (50 << 20, 64 << 10), (10_000, 1000), (64 << 10, 64 << 10)]
        {
            let mut pace = Pace::new(Duration::from_secs(100), 0);
            for bytes in run(&mut pace, limit, piece, 0, 10) {
                assert!(bytes <= limit + piece && bytes + 2 * piece >= limit, "{bytes} of {limit}");
            }
        }
    }

    #[test]
    fn it_is_slow_beside_others_only() {
        let mut pace = Pace::new(Duration::from_secs(100), 0);
        let alone = run(&mut pace, 0, 64 << 10, 1000, 3);
        assert!(alone[1] > 10 * BUSY_SPEED, "{alone:?}");
        let mut pace = Pace::new(Duration::from_secs(100), 0);
        let beside = run(&mut pace, 0, 64 << 10, 3000, 3);
        assert!(beside.iter().all(|bytes| *bytes <= BUSY_SPEED + (64 << 10)), "{beside:?}");
        let mut pace = Pace::new(Duration::from_secs(100), 0);
        let unlimited = run(&mut pace, UNLIMITED, 64 << 10, 3000, 3);
        assert!(unlimited[0] > 10 * BUSY_SPEED, "{unlimited:?}");
    }

    #[test]
    fn what_was_missed_is_made_up_for_a_little() {
        let mut pace = Pace::new(Duration::ZERO, 0);
        let limit = 1 << 20;
        pace.before(64 << 10, limit, Duration::ZERO, 0);
        // The device stood still for ten seconds.
        let now = Duration::from_secs(10);
        let at_once = (0..1000).take_while(|_| pace.before(64 << 10, limit, now, 0).is_zero()).count();
        assert!(at_once <= 3, "{at_once}");
    }
}
