//! The threads that work for an open store in the background.
//!
//! One commits: when the interval is over, when much has changed, and as long as there is background work. Another has the
//! host secure space before a change needs it. A third, of a store that is served, keeps its schedules.

use super::engine::OpenFor;
use crate::bell::Bell;
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
/// Content that goes home in one step, in bytes.
const HOMING_BYTES: u64 = 8 << 20;
/// How often it looks for clones that are to go by themselves.
const ENDS_INTERVAL: Duration = Duration::from_secs(1);

/// How often it is looked whether a snapshot is due.
const SCHEDULE_INTERVAL: Duration = Duration::from_secs(1);
/// From one step of deletions to the next: others have their turn in between.
const PRUNE_PAUSE: Duration = Duration::from_millis(50);

/// All of them, until they are told to stop.
pub(super) struct Background {
    fs: Arc<Fs>,
    stop: Arc<AtomicBool>,
    /// Rung at the end.
    end: Arc<Bell>,
    threads: Vec<JoinHandle<()>>,
}

impl Background {
    /// Starts those that a store needs that was opened for this.
    pub fn start(fs: &Arc<Fs>, commit_interval: Duration, access: OpenFor) -> io::Result<Background> {
        let (stop, end) = (Arc::default(), Arc::default());
        let mut all = Background { fs: fs.clone(), stop, end, threads: Vec::new() };
        let (for_commits, stop) = (fs.clone(), all.stop.clone());
        all.spawn("commit", move || commit(&for_commits, commit_interval, &stop))?;
        let volume = fs.volume().clone();
        all.spawn("space", move || volume.keep_space_ahead())?;
        if access == OpenFor::Mount {
            let (fs, end) = (fs.clone(), all.end.clone());
            all.spawn("schedule", move || keep_schedules(&fs, &end))?;
        }
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
        self.end.end();
        self.fs.end_pressure();
        self.fs.volume().end_space_ahead();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                log::error!("a background thread has failed");
            }
        }
    }
}

/// Takes what is due and deletes what is to go, until the bell rings.
fn keep_schedules(fs: &Fs, end: &Arc<Bell>) {
    fs.serve_schedules(end);
    let mut pause = SCHEDULE_INTERVAL;
    loop {
        end.wait(pause);
        if end.has_ended() {
            return fs.end_schedules();
        }
        pause = if fs.keep_schedules() { PRUNE_PAUSE } else { SCHEDULE_INTERVAL };
    }
}

/// Commits until told to stop.
fn commit(fs: &Arc<Fs>, interval: Duration, stop: &AtomicBool) {
    let (mut last, mut trimmed) = (Instant::now(), Instant::now());
    let mut failed = false;
    let (mut looked, mut dropping) = (Instant::now(), None::<JoinHandle<()>>);
    if let Err(e) = schedule::take_long_turns() {
        log::debug!("commits take turns as everybody does: {e}");
    }
    loop {
        let pressed = fs.wait_for_pressure(LOOK_INTERVAL.min(interval));
        if stop.load(SeqCst) {
            if let Some(Err(_)) = dropping.take().map(JoinHandle::join) {
                log::error!("the thread that drops clones has failed");
            }
            return;
        }
        if looked.elapsed() >= ENDS_INTERVAL {
            looked = Instant::now();
            if dropping.as_ref().is_none_or(JoinHandle::is_finished) && fs.clones_have_ended() {
                // By a thread of its own: the kernel is told, and waits for requests that may wait for a commit.
                let fs = fs.clone();
                let work = move || fs.drop_ended_clones();
                dropping = Builder::new().name("clones".into()).spawn(work).ok();
            }
        }
        let due = last.elapsed() >= interval;
        // In the log of a daemon that is killed from here on, what was flushed is told from what was not.
        fs.volume().tell_flushed();
        // Background work goes on in small steps, as fast as commits are if nobody else is there.
        let away = fs.content_is_away();
        let step = (away || fs.volume().has_background_work())
            && (last.elapsed() >= STEP_INTERVAL_BUSY || !fs.has_changes());
        if due || pressed || step {
            let moved = if away { fs.bring_content_home(HOMING_BYTES).map(drop) } else { Ok(()) };
            match moved.and_then(|()| fs.tick()) {
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
