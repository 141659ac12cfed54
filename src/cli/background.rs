//! The threads that work for an open store in the background.
//!
//! One commits: when the interval is over, when much has changed, and as long as there is background work. The other
//! has the host secure space before a change needs it.

use crate::fs::Fs;
use crate::sys::{process, schedule};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// Free memory goes back to the system this often at most.
const TRIM_INTERVAL: Duration = Duration::from_secs(2);
/// How often the committing thread looks whether there is background work.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// From one step of that to the next while others change things: each is a commit, and holds them up several times for a
/// moment.
const STEP_INTERVAL_BUSY: Duration = Duration::from_secs(1);

/// Both threads, until they are told to stop.
pub(super) struct Background {
    fs: Arc<Fs>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Background {
    /// Starts them.
    pub fn start(fs: &Arc<Fs>, commit_interval: Duration) -> io::Result<Background> {
        let mut all = Background { fs: fs.clone(), stop: Arc::default(), threads: Vec::new() };
        let (for_commits, stop) = (fs.clone(), all.stop.clone());
        all.spawn("commit", move || commit(&for_commits, commit_interval, &stop))?;
        let volume = fs.volume().clone();
        all.spawn("space", move || volume.keep_space_ahead())?;
        Ok(all)
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.threads.push(Builder::new().name(name.into()).spawn(work)?);
        Ok(())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        self.fs.end_pressure();
        self.fs.volume().end_space_ahead();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                log::error!("a background thread has failed");
            }
        }
    }
}

/// Commits until told to stop.
fn commit(fs: &Fs, interval: Duration, stop: &AtomicBool) {
    let (mut last, mut trimmed) = (Instant::now(), Instant::now());
    let mut failed = false;
    if let Err(e) = schedule::take_long_turns() {
        log::debug!("commits take turns as everybody does: {e}");
    }
    loop {
        let pressed = fs.wait_for_pressure(LOOK_INTERVAL.min(interval));
        if stop.load(SeqCst) {
            return;
        }
        let due = last.elapsed() >= interval;
        // In the log of a daemon that is killed from here on, what was flushed is told from what was not.
        fs.volume().tell_flushed();
        // Background work goes on in small steps, as fast as commits are if nobody else is there.
        let step =
            fs.volume().has_background_work() && (last.elapsed() >= STEP_INTERVAL_BUSY || !fs.has_changes());
        if due || pressed || step {
            match fs.tick() {
                Ok(()) => failed = false,
                Err(e) if !failed => {
                    log::error!("commit: {e}");
                    failed = true;
                }
                Err(_) => {}
            }
            last = Instant::now();
            // A commit has just let go of its copies of what it wrote.
            if trimmed.elapsed() >= TRIM_INTERVAL {
                process::trim_heap();
                trimmed = last;
            }
        }
    }
}
