//! The threads that work for an open store in the background.
//!
//! One commits: when the interval is over, when much has changed, and as long as there is background work. It does nothing
//! else that can fail or take long: what was promised to be durable waits for it. Another brings content home, one has
//! the host secure space before a change needs it, one goes on with purges, and two, of a store that is served, keep its
//! schedules, and the holds that end and the trip wire.

use super::engine::OpenFor;
use crate::bell::Bell;
use crate::fs::Fs;
use crate::sys::{process, schedule};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{Builder, JoinHandle, Thread};
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
/// Of the time, one part in so many is for looking at content that cannot come home.
const LOOKING_PART: u32 = 10;
/// How often it looks whether somebody has taken files of the store, or cut them short, of which nobody who uses it has seen
/// anything.
const FILES_INTERVAL: Duration = Duration::from_secs(60);
/// How often it looks for clones that are to go by themselves.
const ENDS_INTERVAL: Duration = Duration::from_secs(1);

/// How often it is looked whether a snapshot is due.
const SCHEDULE_INTERVAL: Duration = Duration::from_secs(1);
/// How often it is looked whether a purge can go on, and after one that failed.
const PURGE_INTERVAL: Duration = Duration::from_secs(1);
const PURGE_PAUSE: Duration = Duration::from_secs(30);
/// From one step of deletions to the next: others have their turn in between.
const PRUNE_PAUSE: Duration = Duration::from_millis(50);

/// The threads, until they are told to stop.
pub(super) struct Background {
    fs: Arc<Fs>,
    stop: Arc<AtomicBool>,
    /// Rung at the end, each by whom one thread waits.
    ends: [Arc<Bell>; 2],
    end_of_purges: Arc<Bell>,
    threads: Vec<JoinHandle<()>>,
}

impl Background {
    /// Starts those that a store needs that was opened for this.
    pub fn start(fs: &Arc<Fs>, commit_interval: Duration, access: OpenFor) -> io::Result<Background> {
        let (stop, ends, end_of_purges) = (Arc::default(), Default::default(), Arc::default());
        let mut all = Background { fs: fs.clone(), stop, ends, end_of_purges, threads: Vec::new() };
        let (for_commits, stop) = (fs.clone(), all.stop.clone());
        let (for_homing, end) = (fs.clone(), stop.clone());
        all.spawn("homing", move || bring_home(&for_homing, &end))?;
        let mover = all.threads[0].thread().clone();
        all.spawn("commit", move || commit(&for_commits, commit_interval, &stop, &mover))?;
        let volume = fs.volume().clone();
        all.spawn("space", move || volume.keep_space_ahead())?;
        let (for_purges, end) = (fs.clone(), all.end_of_purges.clone());
        all.spawn("purge", move || go_on_purging(&for_purges, &end))?;
        if access == OpenFor::Mount {
            let (fs, [end, end_of_holds]) = (fs.clone(), all.ends.clone());
            let for_holds = fs.clone();
            all.spawn("schedule", move || keep_schedules(&fs, &end))?;
            all.spawn("holds", move || keep_holds(&for_holds, &end_of_holds))?;
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
        self.ends.iter().for_each(|end| end.end());
        self.end_of_purges.end();
        self.fs.end_pressure();
        self.fs.volume().end_space_ahead();
        self.threads.iter().for_each(|thread| thread.thread().unpark());
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                log::error!("a background thread has failed");
            }
        }
    }
}

/// Ends holds that are over, and sees to it that there is a snapshot before much is gone, until the bell rings. Programs that a
/// schedule waits for are no reason to wait here.
fn keep_holds(fs: &Fs, end: &Bell) {
    let mut failing = Failing::default();
    loop {
        end.wait(SCHEDULE_INTERVAL);
        if end.has_ended() {
            return;
        }
        failing.note("holds that end", fs.keep_holds());
        fs.tend_tripwire();
    }
}

/// Takes what is due, and deletes what is to go, until the bell rings.
fn keep_schedules(fs: &Fs, end: &Bell) {
    let mut pause = SCHEDULE_INTERVAL;
    loop {
        end.wait(pause);
        if end.has_ended() {
            return;
        }
        pause = if fs.keep_schedules() { PRUNE_PAUSE } else { SCHEDULE_INTERVAL };
    }
}

/// Goes on with purges that were cut off, and with what was out of reach of one once it is not any more, until the bell rings.
fn go_on_purging(fs: &Fs, end: &Bell) {
    let (mut pause, mut failing) = (Duration::ZERO, Failing::default());
    loop {
        end.wait(pause);
        if end.has_ended() {
            return;
        }
        let done = match fs.purge_goes_on() {
            true => failing.note("a purge that goes on", fs.go_on_purging(&mut |_| !end.has_ended())),
            false => Some(()),
        };
        pause = if done.is_some() { PURGE_INTERVAL } else { PURGE_PAUSE };
    }
}

/// Tells of a failure that comes again and again once.
#[derive(Default)]
struct Failing(bool);

impl Failing {
    fn note<T>(&mut self, what: &str, done: crate::ops::Result<T>) -> Option<T> {
        let failed = done.is_err();
        let done = done.inspect_err(|e| {
            if !self.0 {
                log::error!("{what}: {e}");
            }
        });
        self.0 = failed;
        done.ok()
    }
}

/// Brings content home until told to stop, whenever it is woken and some is away.
fn bring_home(fs: &Arc<Fs>, stop: &AtomicBool) {
    let mut failing = Failing::default();
    while !stop.load(SeqCst) {
        if !fs.content_is_away() {
            std::thread::park();
            continue;
        }
        let began = Instant::now();
        let step = failing.note("content that comes home", fs.bring_content_home(HOMING_BYTES));
        let moved = step.is_some_and(|step| step.copied + step.moved > 0);
        let mut pause = if fs.has_changes() { STEP_INTERVAL_BUSY } else { LOOK_INTERVAL };
        if !moved {
            // What only looks takes a small part of the time.
            pause = pause.max(began.elapsed() * LOOKING_PART);
        }
        let until = Instant::now() + pause;
        while !stop.load(SeqCst)
            && let Some(rest) = until.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero())
        {
            std::thread::park_timeout(rest);
        }
    }
}

/// Commits until told to stop, and wakes whoever brings content home.
fn commit(fs: &Arc<Fs>, interval: Duration, stop: &AtomicBool, mover: &Thread) {
    let (mut last, mut trimmed) = (Instant::now(), Instant::now());
    let mut failing = Failing::default();
    let (mut proved, mut losing) = (Instant::now(), Failing::default());
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
        if proved.elapsed() >= FILES_INTERVAL {
            let lost = fs.volume().location().lost;
            losing.note("files of the store", lost.map_or(Ok(()), |lost| Err(crate::ops::Error::Io(lost))));
            proved = Instant::now();
        }
        let due = last.elapsed() >= interval;
        // In the log of a daemon that is killed from here on, what was flushed is told from what was not.
        fs.volume().tell_flushed();
        // Background work goes on in small steps, as fast as commits are if nobody else is there.
        if fs.content_is_away() {
            mover.unpark();
        }
        let step =
            fs.volume().has_background_work() && (last.elapsed() >= STEP_INTERVAL_BUSY || !fs.has_changes());
        if due || pressed || step {
            failing.note("commit", fs.tick());
            last = Instant::now();
            // A commit has just let go of its copies of what it wrote.
            if trimmed.elapsed() >= TRIM_INTERVAL {
                process::trim_heap();
                trimmed = last;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Sim;
    use crate::fixtures::{ADMIN, find, mount, new_store, overwrite, put, snapshot};
    use crate::format::{Extent, Key, Kind};
    use crate::ops::{NodeId, Operations, XattrMode};

    /// Where the content of the first block of a file is that is away from home.
    fn place(fs: &Fs, node: NodeId) -> u64 {
        let view = fs.volume().live(crate::format::LineId::MAIN).unwrap();
        let item = view.get(&Key::new(node.ino(), Kind::Extent, 0)).unwrap().unwrap();
        let extent = Extent::decode(&item).unwrap();
        assert!(extent.is_away());
        extent.raw_addr.0
    }

    #[test]
    fn commits_go_on_whatever_cannot_come_home() {
        let sim: Arc<Sim> = new_store(64 << 20);
        let fs = mount(sim.clone());
        fs.setxattr(&ADMIN, NodeId::ROOT, b"user.snapfs.layout", b"cow", XattrMode::Set).unwrap();
        let node = put(&fs, NodeId::ROOT, "image", &[1; 16 * 4096]);
        fs.commit().unwrap();
        snapshot(&fs, "s");
        overwrite(&fs, node, 0, &[2; 4096]);
        fs.commit().unwrap();
        sim.corrupt(place(&fs, node), 4096, 1);
        let all = Background::start(&fs, Duration::from_millis(50), OpenFor::Mount).unwrap();
        for round in 0..3 {
            put(&fs, NodeId::ROOT, &format!("f{round}"), b"content");
            let until = Instant::now() + Duration::from_secs(60);
            while fs.has_changes() {
                assert!(Instant::now() < until, "nobody commits");
                std::thread::park_timeout(Duration::from_millis(1));
            }
        }
        drop(all);
        assert_eq!(find(&fs, "f2").slot(), 0);
    }
}
