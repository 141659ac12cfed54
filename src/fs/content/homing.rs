//! Content that goes home, in the background and in bounded steps: for files that are written over in place.
//!
//! A step looks through a part of what is away. What a snapshot has at a home is copied out; where a home is free its content
//! is put there. Both are ordinary changes that the next commits take in, so a crash costs nothing but time, and whoever
//! reads or writes meanwhile notices nothing. A round goes through all files of the list; when one has found nothing to do, the
//! next waits until something was committed. It is best effort: a file that cannot come home is passed over, and where space is
//! short the round ends. Why so: docs/decisions/0032.

use crate::format::{Epoch, Extent, Ino, Key, Kind, LineId, ViewId};
use crate::fs::commits::Commits;
use crate::fs::heads::Head;
use crate::fs::items::extents::{self, Keep};
use crate::fs::items::{Items, away_record, goes_home};
use crate::ops::{Error, Result};
use crate::volume::{AtHome, ReserveFor, View};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Extents that are looked at in one go.
const EXTENTS_AT_ONCE: usize = 512;
/// What is put to its home in one write, in bytes.
const RUN_BYTES: u64 = 1 << 20;
/// What a step looks at, whether it moves or not: an extent counts 1, a part of one that is away [`LOOKS_OF_AWAY`].
const LOOKS: usize = 1 << 17;
/// For such a part, trees are asked that may have to be read.
const LOOKS_OF_AWAY: usize = 16;
/// A file that could not be read is left alone for so many commits.
const EPOCHS_AFTER_FAILURE: u64 = 64;

/// What a step has done.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct HomingStep {
    /// Bytes of snapshots that were copied to other places.
    pub copied: u64,
    /// Bytes that are home.
    pub moved: u64,
    /// The round goes on, or something waits for the next commits.
    pub more: bool,
    /// Without a commit nothing more can be done.
    pub waits: bool,
    /// Something waits for a commit that lets go of what readers of older states may still reach.
    pub leaving: bool,
}

/// Where the rounds are.
#[derive(Default)]
pub struct Homing {
    round: Mutex<Round>,
}

#[derive(Default)]
struct Round {
    /// Where it goes on: the line, the file and the offset in it. None between two rounds.
    at: Option<(LineId, Ino, u64)>,
    /// The epoch and the stamp of when it began, and the heads that there were.
    epoch: Epoch,
    stamp: u64,
    heads: Vec<(LineId, ViewId)>,
    /// It has done something, or something waits.
    busy: bool,
    /// Something was passed over: nobody knows all homes that are wanted.
    passed_over: bool,
    /// Files that could not be read, and when.
    failed: BTreeMap<(LineId, Ino), Epoch>,
}

/// What a step may still do.
struct Budget {
    /// Bytes to be copied or moved.
    bytes: u64,
    /// See [`LOOKS`].
    looks: usize,
}

impl Budget {
    fn is_used_up(&self) -> bool {
        self.bytes == 0 || self.looks == 0
    }

    fn look(&mut self, looks: usize) {
        self.looks = self.looks.saturating_sub(looks);
    }
}

/// How a pass over a head ended.
enum Passed {
    /// All of it was looked at.
    All,
    /// There was enough to do: where to go on.
    Until(Ino, u64),
    /// There is no space for more, in any head.
    Full,
}

/// One step over one head.
struct Pass<'a> {
    commits: &'a Commits,
    head: &'a Head,
    view: View,
    budget: &'a mut Budget,
    round: &'a mut Round,
    done: HomingStep,
    /// Snapshots, and what is to be copied out of each.
    out: BTreeMap<u64, (Arc<View>, Vec<Extent>)>,
}

impl Homing {
    /// Has all homes kept before anything is changed: what a session before has freed may be among them.
    pub fn keep_all(&self, commits: &Commits) -> Result<()> {
        let volume = &commits.heads.volume;
        if !volume.knows_homes() || commits.heads.is_read_only() {
            return Ok(());
        }
        for head in heads_of(commits) {
            let view = commits.heads.view(&head)?;
            for item in view.range(&away_record(Ino(0)), &away_record(Ino::END)) {
                let ino = Ino(item?.0.rest);
                let mut at = 0;
                loop {
                    let found = extents::overlapping(&view, ino, at, u64::MAX, EXTENTS_AT_ONCE)?;
                    volume.keep_homes(found.iter().map(|(_, extent)| extent));
                    match found.last() {
                        Some((start, last)) if found.len() >= EXTENTS_AT_ONCE => {
                            at = start + last.len_bytes()
                        }
                        _ => break,
                    }
                }
            }
        }
        Ok(())
    }

    /// Does about `bytes` of what there is to do. One thread at a time. Fails only if nothing can be changed any more.
    pub fn step(&self, commits: &Commits, bytes: u64) -> Result<HomingStep> {
        let volume = &commits.heads.volume;
        if commits.heads.is_read_only() || commits.heads.content_was_looked_at() {
            return Ok(HomingStep::default());
        }
        let Some(_nothing_purged) = volume.hold_off_purges() else {
            return Ok(HomingStep { more: true, ..HomingStep::default() });
        };
        let round = &mut *self.round.lock();
        let heads = heads_of(commits);
        let names = || heads.iter().map(|head| (head.line, head.view)).collect::<Vec<_>>();
        if round.at.is_none() {
            volume.begin_keeping_homes();
            (round.epoch, round.stamp) = (volume.epoch(), commits.heads.stamp());
            round.failed.retain(|_, at| at.0 + EPOCHS_AFTER_FAILURE > round.epoch.0);
            (round.heads, round.busy, round.passed_over) = (names(), false, false);
        }
        let mut budget = Budget { bytes, looks: LOOKS };
        let mut done = HomingStep::default();
        // The lines come in the order of their numbers, so one that is gone or new moves no other.
        let at = round.at.take();
        for head in heads.iter().filter(|head| at.is_none_or(|(line, ..)| head.line <= line)) {
            let (ino, offset) = match at {
                Some((line, ino, offset)) if line == head.line => (ino, offset),
                _ => (Ino(0), 0),
            };
            // A line that was rolled back has another head by now, which the next round finds.
            let Ok(view) = commits.heads.view(head) else { continue };
            let (budget, step, out) = (&mut budget, HomingStep::default(), BTreeMap::new());
            let mut pass = Pass { commits, head, view, budget, round, done: step, out };
            let passed = pass.files(ino, offset)?;
            let HomingStep { copied, moved, waits, leaving, .. } = pass.done;
            round.busy |= waits || leaving || copied + moved > 0;
            done.copied += copied;
            done.moved += moved;
            done.waits |= waits;
            done.leaving |= leaving;
            match passed {
                Passed::All => {}
                Passed::Until(ino, offset) => {
                    round.at = Some((head.line, ino, offset));
                    return Ok(HomingStep { more: true, ..done });
                }
                Passed::Full => {
                    round.passed_over = true;
                    break;
                }
            }
        }
        if !round.passed_over && round.heads == names() {
            volume.end_keeping_homes();
        }
        done.waits |= volume.makes_room();
        round.busy |= done.waits;
        if !round.busy {
            commits.heads.rested.store(round.stamp, Relaxed);
        }
        Ok(HomingStep { more: round.busy, ..done })
    }
}

/// The heads in which content can move, by the number of the line, the newest first.
fn heads_of(commits: &Commits) -> Vec<Arc<Head>> {
    let mut heads = commits.heads.all();
    heads.retain(|head| !head.is_received);
    heads
}

impl Pass<'_> {
    /// Goes through the files of the list from one on.
    fn files(&mut self, from: Ino, offset: u64) -> Result<Passed> {
        let (view, line) = (self.view.clone(), self.head.line);
        for item in view.range(&away_record(from), &away_record(Ino::END)) {
            let item = item.map_err(Error::from);
            let ino = item.as_ref().map_or(Ino(0), |(key, _)| Ino(key.rest));
            if self.round.failed.contains_key(&(line, ino)) {
                self.round.passed_over = true;
                continue;
            }
            let start = if ino == from { offset } else { 0 };
            match item.and_then(|_| self.file(ino, start)) {
                Ok(None) if self.budget.looks > 0 => {}
                Ok(None) => return Ok(Passed::Until(ino, u64::MAX)),
                Ok(Some(stopped)) => return Ok(Passed::Until(ino, stopped)),
                Err(Error::NoSpace) => return Ok(Passed::Full),
                Err(e) if self.commits.heads.is_read_only() => return Err(e),
                Err(Error::Stale) => break,
                Err(e) => {
                    log::warn!("content of inode {} does not come home: {e}", ino.0);
                    self.round.failed.insert((line, ino), self.round.epoch);
                    self.round.passed_over = true;
                }
            }
        }
        Ok(Passed::All)
    }

    /// Returns the offset at which to go on, if there was enough to do.
    fn file(&mut self, ino: Ino, from: u64) -> Result<Option<u64>> {
        self.budget.look(LOOKS_OF_AWAY);
        let Some(inode) = self.view.inode(ino)? else {
            self.forget(ino)?;
            return Ok(None);
        };
        if !goes_home(&self.view, &inode)? {
            return Ok(None);
        }
        let (mut at, mut any) = (from, from > 0);
        loop {
            let found = extents::overlapping(&self.view, ino, at, u64::MAX, EXTENTS_AT_ONCE)?;
            self.budget.look(found.len());
            let Some((start, last)) = found.last() else { break };
            let next = start + last.len_bytes();
            let away: Vec<_> = found.iter().filter(|(_, extent)| extent.is_away()).collect();
            any |= !away.is_empty();
            self.commits.heads.volume.keep_homes(away.iter().map(|(_, extent)| extent));
            let mut home: Vec<(u64, Extent)> = Vec::new();
            for (start, extent) in away {
                for (inside, len, what) in self.commits.heads.volume.at_home(extent) {
                    self.budget.look(LOOKS_OF_AWAY);
                    let part = (start + inside, extent.slice(inside, len));
                    match what {
                        AtHome::Nothing => home.push(part),
                        AtHome::Leaving => self.done.leaving = true,
                        AtHome::Content => self.make_room(ino, part)?,
                    }
                }
            }
            self.copy_out()?;
            self.bring_home(ino, &home)?;
            if found.len() < EXTENTS_AT_ONCE {
                break;
            }
            at = next;
            if self.budget.is_used_up() {
                return Ok(Some(at));
            }
        }
        if !any {
            self.forget(ino)?;
        }
        Ok(if self.budget.bytes == 0 { Some(u64::MAX) } else { None })
    }

    /// What is at the home of `away`, if it is a snapshot's and no other head has it, is to be copied out.
    fn make_room(&mut self, ino: Ino, (at, away): (u64, Extent)) -> Result<()> {
        let volume = &self.commits.heads.volume;
        let (line, to) = (self.head.line, at + away.len_bytes());
        let Some(holder) = volume.holder_of(line, &away) else { return Ok(()) };
        let others = volume.others_with(line, &away);
        for (start, old) in extents::overlapping(&holder, ino, at, to, usize::MAX)? {
            let (first, end) = (start.max(at), (start + old.len_bytes()).min(to));
            if old.is_compressed() || first >= end {
                continue;
            }
            let old = old.slice(first - start, end - first);
            if !old.was_at_home_of(&away.slice(first - at, end - first)) {
                continue;
            }
            // What has moved, or is on its way, gives no more room.
            if !volume.can_move_out(&old) {
                continue;
            }
            let mut taken = Vec::new();
            for other in &others {
                taken.extend(references(other, ino, first, &old)?);
            }
            for (inside, len) in without(old.len_bytes(), taken) {
                if self.budget.bytes == 0 {
                    return Ok(());
                }
                self.budget.bytes = self.budget.bytes.saturating_sub(len);
                let out = self.out.entry(holder.id().0).or_insert_with(|| (holder.clone(), Vec::new()));
                out.1.push(old.slice(inside, len));
            }
        }
        Ok(())
    }

    fn copy_out(&mut self) -> Result<()> {
        for (view, old) in std::mem::take(&mut self.out).into_values() {
            self.done.copied += self.commits.heads.volume.copy_out(&view, &old)?;
        }
        Ok(())
    }

    /// Puts extents to their homes, which are free, in runs.
    fn bring_home(&mut self, ino: Ino, extents: &[(u64, Extent)]) -> Result<()> {
        let mut rest = extents;
        while self.budget.bytes > 0 && !rest.is_empty() {
            let mut len = rest[0].1.len_bytes();
            let more = rest.windows(2).take_while(|two| {
                let ((at, this), (next, that)) = (&two[0], &two[1]);
                len += that.len_bytes();
                at + this.len_bytes() == *next
                    && this.home_is_followed_by(that)
                    && this.is_unwritten() == that.is_unwritten()
                    && len <= RUN_BYTES
            });
            let (run, tail) = rest.split_at(1 + more.count());
            rest = tail;
            let moved = self.move_run(ino, run)?;
            self.done.moved += moved;
            self.budget.bytes = self.budget.bytes.saturating_sub(moved);
        }
        Ok(())
    }

    /// One run. Nothing happens if it was written over meanwhile, or somebody else has its home.
    fn move_run(&self, ino: Ino, run: &[(u64, Extent)]) -> Result<u64> {
        let heads = &self.commits.heads;
        let parts: Vec<Extent> = run.iter().map(|(_, extent)| extent.clone()).collect();
        let Some(staged) = heads.volume.bring_home(&self.view, &parts)? else { return Ok(0) };
        let (from, len) = (run[0].0, parts.iter().map(Extent::len_bytes).sum::<u64>());
        let to = from + len;
        let mut change = heads.change(self.head)?;
        for (at, extent) in run {
            if !has_reference(change.view(), ino, *at, extent)? {
                return Ok(0);
            }
        }
        let Some(inode) = change.inode(ino)? else { return Ok(0) };
        let old = change.mapped(ino, from..to, usize::MAX)?;
        let places: Vec<_> = extents::places(from, staged.extents()).collect();
        change.foresee_map(ino, from..to, &old, places);
        change.reserve(old.len() + staged.extents().len() + 2, ReserveFor::Write)?;
        let new = extents::lay(from, change.txn().publish(staged));
        let grown = extents::replace(change.txn(), ino, from, to, Keep::Nothing, &new)?;
        debug_assert_eq!(grown, 0, "it takes what it took: {} blocks", inode.blocks);
        change.apply()?;
        Ok(len)
    }

    /// Nothing of a file is away: it goes off the list, unless it was changed since it was looked at.
    fn forget(&mut self, ino: Ino) -> Result<()> {
        let mut change = self.commits.heads.change(self.head)?;
        let [from, to] = [0, u64::MAX].map(|at| Key::new(ino.0, Kind::Extent, at));
        let changed = change.view().newest_birth(&from, &to)? >= self.view.epoch();
        let record = away_record(ino);
        let listed = change.with(&record, |value| Ok(value.is_some()))?;
        if listed && !changed && change.gate().dirty.count(ino) == 0 {
            change.delete(record);
            change.finish(ReserveFor::Delete)?;
            self.done.waits = true;
        }
        Ok(())
    }
}

/// True if a view has all of an extent at this place of a file.
fn has_reference(view: &View, ino: Ino, at: u64, extent: &Extent) -> Result<bool> {
    let had = references(view, ino, at, extent)?;
    Ok(without(extent.len_bytes(), had).is_empty())
}

/// The parts of an extent that a view has at this place of a file: bytes from its start, and their number.
fn references(view: &View, ino: Ino, at: u64, extent: &Extent) -> Result<Vec<(u64, u64)>> {
    let (to, mut had) = (at + extent.len_bytes(), Vec::new());
    for (start, found) in extents::overlapping(view, ino, at, to, usize::MAX)? {
        let (from, end) = (start.max(at), (start + found.len_bytes()).min(to));
        if found.is_compressed() || from >= end {
            continue;
        }
        let (here, there) = (found.slice(from - start, end - from), extent.slice(from - at, end - from));
        if here.is_same_reference(&there) {
            had.push((from - at, end - from));
        }
    }
    Ok(had)
}

/// What of so many bytes is in none of these parts.
fn without(len: u64, mut parts: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    parts.sort_unstable();
    let (mut at, mut rest) = (0, Vec::new());
    for (from, len) in parts.into_iter().chain([(len, 0)]) {
        if from > at {
            rest.push((at, from - at));
        }
        at = at.max(from + len);
    }
    rest
}
