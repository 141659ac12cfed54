//! When what was changed becomes durable: commits, `fsync`, and what a request does before and after a change for the
//! space that it takes.
//!
//! Lock order: `commit_lock`, then the gates of all heads, then the volume's transaction. Nobody else has two gates.

use super::flush;
use super::pressure::{Fill, fill};
use super::stager::Stager;
use super::sync::Waiting;
use crate::bell::Bell;
use crate::fs::heads::{Gate, Head, Heads, tell_all_blocks};
use crate::fs::options::Between;
use crate::ops::{Answer, Error, Result};
use crate::volume::{ReserveFor, Turn, Txn};
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Less than this, and than this share of a store, is not worth a commit when space is short: every commit itself leaves
/// some behind.
const RECLAIM_BYTES_MIN: u64 = 1 << 20;
const RECLAIM_SHARE_MIN: u64 = 64;
/// Commits that a request waits for at most when space is short.
const RECLAIM_COMMITS_MAX: usize = 64;

/// Makes changes of all heads durable. Any thread may call any method.
pub struct Commits {
    /// Whose changes they are.
    pub heads: Arc<Heads>,
    /// One commit at a time, so that nobody waits for the device with a gate closed. Holds the number of the last one
    /// that succeeded.
    commit_lock: Mutex<u64>,
    started: AtomicU64,
    /// Brings the thread that commits to do it before its time.
    pressure: Bell,
    waiting: Waiting,
}

/// How often a commit that is under way is waited for before requests wait for it too.
const COMMITS_WAITED_FOR: usize = 16;

/// Held while no commit may begin.
pub type NoCommit<'a> = MutexGuard<'a, u64>;

/// A head with the turn at its gate.
pub type HeldGate<'h> = (&'h Head, Turn<'h, Gate>);

/// Takes a volume operation through which a point or a commit is made, and what it has to call in its transaction.
type Point<'p, T> = &'p mut dyn FnMut(&mut dyn FnMut(&mut Txn<'_>) -> VolumeResult<()>) -> VolumeResult<T>;

type VolumeResult<T> = std::result::Result<T, crate::volume::VolumeError>;

impl Commits {
    /// Of these heads.
    pub fn new(heads: Arc<Heads>) -> Commits {
        Commits {
            heads,
            commit_lock: Mutex::new(0),
            started: AtomicU64::new(0),
            pressure: Bell::default(),
            waiting: Waiting::default(),
        }
    }

    /// How many commits have begun.
    #[cfg(test)]
    pub fn started(&self) -> u64 {
        self.started.load(Ordering::SeqCst)
    }

    /// What puts content of `head` onto the device.
    pub fn stager<'a>(&'a self, head: &'a Head) -> Stager<'a> {
        Stager { volume: &self.heads.volume, head }
    }

    /// Makes every change that has returned durable.
    pub fn commit(&self) -> Result<()> {
        let before = self.started.load(Ordering::SeqCst);
        let mut last_done = self.commit_lock.lock();
        if *last_done > before {
            // It started after this call, so everything that this caller did is in it.
            return Ok(());
        }
        self.commit_locked(&mut last_done)
    }

    fn commit_locked(&self, last_done: &mut u64) -> Result<()> {
        let number = self.started.fetch_add(1, Ordering::SeqCst) + 1;
        self.complete(&self.heads.all(), &mut |_| (), &mut |prepare| self.heads.volume.commit(prepare))?;
        *last_done = number;
        self.heads.commits_ended.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// Keeps commits from beginning.
    pub fn hold_off(&self) -> NoCommit<'_> {
        self.commit_lock.lock()
    }

    /// Does `work` between two answers of the kernel's requests, with commits held off. For a commit that is under way this
    /// waits, and requests do not. As for [`crate::ops::Kernel::between_answers`].
    pub fn between_answers(&self, work: &mut dyn FnMut()) {
        let (kernel, mut done) = (self.heads.kernel(), false);
        for _ in 0..COMMITS_WAITED_FOR {
            kernel.between_answers(&mut || {
                // A request that is being answered may wait for a commit: this comes first, and then what keeps commits off.
                if let Some(_no_commit) = self.commit_lock.try_lock() {
                    work();
                    done = true;
                }
            });
            if done {
                return;
            }
            drop(self.hold_off());
        }
        // One follows the other.
        kernel.between_answers(&mut || {
            let _no_commit = self.hold_off();
            work();
        });
    }

    /// Brings what `heads` hold back into the transaction of `point`, at one instant for all of them; of none of them if
    /// that cannot be done for one. `closed` is called when changes are held up, just before. The caller holds commits off.
    pub fn complete<T>(
        &self,
        heads: &[Arc<Head>],
        closed: &mut dyn FnMut(Instant),
        point: Point<'_, T>,
    ) -> Result<T> {
        let (done, rounds) = self.complete_heads(heads, closed, &mut |_, gate| drop(gate), point)?;
        for (head, round) in rounds {
            head.gate.write().dirty.end_round(round);
        }
        tell_all_blocks(&self.heads);
        Ok(done)
    }

    /// The same, and changes of `heads` stay held up: nothing comes to be held back as long as whoever calls this has the
    /// turns at their gates. Readers go on.
    pub fn complete_and_hold<'h, T>(
        &self,
        heads: &'h [Arc<Head>],
        closed: &mut dyn FnMut(Instant),
        point: Point<'_, T>,
    ) -> Result<(T, Vec<HeldGate<'h>>)> {
        let mut held: Vec<HeldGate<'h>> = Vec::new();
        let mut keep = |head: &'h Head, mut gate: Turn<'h, Gate>| {
            gate.share();
            held.push((head, gate));
        };
        let (done, rounds) = self.complete_heads(heads, closed, &mut keep, point)?;
        for ((_, gate), (_, round)) in held.iter_mut().zip(rounds) {
            gate.alone().dirty.end_round(round);
            gate.share();
        }
        tell_all_blocks(&self.heads);
        Ok((done, held))
    }

    /// `settled` takes each gate as soon as what was delayed behind it settles. Returns the rounds to be ended.
    fn complete_heads<'h, T>(
        &self,
        heads: &'h [Arc<Head>],
        closed: &mut dyn FnMut(Instant),
        settled: &mut dyn FnMut(&'h Head, Turn<'h, Gate>),
        point: Point<'_, T>,
    ) -> Result<(T, Vec<(&'h Head, u64)>)> {
        let stagers: Vec<Stager> = heads.iter().map(|head| self.stager(head)).collect();
        let mut early: Vec<_> = stagers.iter().zip(heads).zip(flush::stage_early(&stagers)).collect();
        // What little has come to be delayed since is written with gates closed: those of heads that hold nothing back are
        // closed only then.
        early.sort_by_key(|((_, head), _)| head.delayed_bytes() == 0);
        let mut gates = Vec::new();
        for ((stager, head), early) in early {
            let gate = Turn::of(&head.gate);
            if gates.is_empty() {
                closed(Instant::now());
            }
            let found = flush::look_through_all(&gate, *stager, early)?;
            gates.push((&**head, gate, Some(found)));
        }
        let mut rounds = Vec::new();
        let done = point(&mut |txn| {
            let mut placed = Vec::new();
            for (head, gate, found) in &mut gates {
                txn.switch_to(head.line)?;
                if let Some(found) = found.take() {
                    placed.push(flush::complete(gate, txn, found)?);
                }
            }
            // Readers find the flushed blocks as settling until the transaction is visible.
            for ((head, mut gate, _), placed) in gates.drain(..).zip(placed) {
                rounds.push((head, flush::settle_round(gate.alone(), placed)));
                settled(head, gate);
            }
            Ok(())
        })?;
        Ok((done, rounds))
    }

    /// True if somebody changed something since the last commit.
    pub fn has_changes(&self) -> bool {
        self.heads.delayed_bytes() > 0 || self.heads.volume.needs_commit()
    }

    /// Commits if anything has changed; otherwise has the host get back what is not needed at rest. For a timer.
    pub fn tick(&self) -> Result<()> {
        let volume = &self.heads.volume;
        if self.heads.is_read_only() {
            return Ok(());
        }
        if self.has_changes() || volume.has_background_work() {
            return self.commit();
        }
        if volume.has_space_to_return() {
            self.commit()?;
        }
        volume.rest();
        Ok(())
    }

    /// Waits until a commit is wanted before its time, and returns true then, or until time is over.
    pub fn wait_for_pressure(&self, timeout: Duration) -> bool {
        let until = Instant::now() + timeout;
        while self.pressure.wait(until.saturating_duration_since(Instant::now())) {
            // Whoever asked during the last commit may have got enough by it.
            if fill(&self.heads) > Fill::Low || self.pressure.has_ended() {
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
    pub fn relieve(&self) -> Result<()> {
        match fill(&self.heads) {
            Fill::Low => Ok(()),
            Fill::High => {
                self.pressure.ring();
                Ok(())
            }
            Fill::Full => {
                let mut last_done = self.commit_lock.lock();
                // The commit that was waited for may have been enough.
                if fill(&self.heads) == Fill::Full { self.commit_locked(&mut last_done) } else { Ok(()) }
            }
        }
    }

    /// Runs a change. If space is short, brings in what commits can make available, and tries once more: nothing is given up for
    /// it here (`Past::make_room` is for that). A change that was refused has changed nothing, so it may be run again.
    pub fn with_space<T>(&self, change: impl Fn() -> Result<T>) -> Result<T> {
        let done = self.once_with_space(change);
        self.outliving(done)
    }

    /// The same for a change of which something is to be told before it outlives this process: that is left to the caller.
    pub fn once_with_space<T>(&self, change: impl Fn() -> Result<T>) -> Result<T> {
        self.relieve()?;
        self.arm_tripwire();
        let done = match change() {
            Err(Error::NoSpace) if self.reclaim()? => change(),
            done => done,
        };
        self.heads.tell_fallen();
        done
    }

    /// Has commits bring in what they can if a view or a line is to be made or changed and space is short. Called before that,
    /// with commits not held off; it may be refused all the same.
    pub fn have_room_for_records(&self, purpose: ReserveFor) -> Result<()> {
        self.once_with_space(|| Ok(self.heads.volume.check_room_for_records(purpose)?))
    }

    /// Called between two changes of one operation.
    pub fn between_steps(&self) -> Result<()> {
        match self.heads.options.steps.between {
            Between::Nothing => Ok(()),
            Between::Commit => self.commit(),
        }
    }

    /// What is answered must outlive this process, also when it did not fit the log; what could not be written there does not.
    /// Never refused for want of space: what was done must not be done once more.
    pub fn outlive(&self) -> Result<()> {
        self.catch_up()?;
        Ok(self.heads.volume.check_unbroken()?)
    }

    /// The same for a request that has ended so. One that was refused says why, whatever the volume takes by now.
    pub fn outliving<T>(&self, done: Result<T>) -> Result<T> {
        match done {
            Ok(done) => self.outlive().map(|()| done),
            Err(e) => self.catch_up().and(Err(e)),
        }
    }

    /// Commits what did not fit the log.
    fn catch_up(&self) -> Result<()> {
        if self.heads.volume.log_is_behind() && !self.heads.options.read_only {
            self.commit().map_err(of_what_is_done)
        } else {
            Ok(())
        }
    }

    /// [`Self::sync`] after something that must not be done once more: never refused for want of space.
    pub fn sync_what_is_done(&self) -> Result<()> {
        self.sync().map_err(of_what_is_done)
    }

    /// Commits until nothing that was freed waits any more, or until a commit brings nothing in: what somebody still reads
    /// waits for the reader. False if there was nothing.
    fn reclaim(&self) -> Result<bool> {
        let volume = &self.heads.volume;
        let mut any = false;
        let least = RECLAIM_BYTES_MIN.min(volume.space().total / RECLAIM_SHARE_MIN);
        let mut before = None;
        for _ in 0..RECLAIM_COMMITS_MAX {
            let (waits, free) = (volume.reclaimable_bytes(), volume.space().free);
            let brought = before.is_none_or(|(waited, had)| waits < waited || free > had);
            let works = volume.has_background_work();
            if self.heads.options.read_only || waits < least || !(brought || works) {
                break;
            }
            before = Some((waits, free));
            self.commit()?;
            any = true;
        }
        Ok(any)
    }

    /// Commits until what was let go of is back.
    pub fn bring_back(&self) -> Result<()> {
        for _ in 0..RECLAIM_COMMITS_MAX {
            self.commit()?;
            if !self.heads.volume.has_background_work() {
                break;
            }
        }
        // What the last one freed is let go of by the next.
        self.commit()
    }

    /// Makes everything that has returned durable, then answers, unless somebody is at it, who answers then. True if others have
    /// come meanwhile: then [`Self::sync_for_others`] has to be called.
    pub fn sync_then(&self, answer: Answer) -> bool {
        self.waiting.join(answer) && self.sync_for_others()
    }

    /// The same for who came meanwhile. Each time is bounded; there may be no end of those who come.
    pub fn sync_for_others(&self) -> bool {
        let answers = self.waiting.take();
        if !answers.is_empty() {
            let done = self.sync();
            answers.into_iter().for_each(|answer| answer(done.clone()));
        }
        self.waiting.goes_on()
    }

    /// Makes everything that has returned durable, of all files, by the log if it holds it. On a read-only mount there
    /// is nothing to do.
    pub fn sync(&self) -> Result<()> {
        if self.heads.options.read_only || self.heads.volume.sync()? { Ok(()) } else { self.commit() }
    }
}

/// Want of space is for what was refused, and may be asked for again.
fn of_what_is_done(e: Error) -> Error {
    match e {
        Error::NoSpace => Error::Io("it is done, and there is no space to make it durable".into()),
        e => e,
    }
}
