//! Frosts: lines that somebody has frozen, so that whoever changes them waits. Those who read go on.
//!
//! A frost ends when it is thawed, or by itself: whoever looks at it after its time finds that it is over, so that no thread and
//! no client has to be alive for that. Whoever changes something is noted as passing until that is done, on whatever thread, and
//! a frost begins when all who pass are through. The lock order: after the snapshots, before the standstill. The table is a leaf.

use crate::format::LineId;
use crate::format::provenance::Provenance;
use crate::names;
use crate::ops::Timestamp;
use parking_lot::{Condvar, Mutex, RwLock, RwLockReadGuard};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// Frosts that have ended and are told of.
const ENDED_MAX: usize = 16;

/// A frost to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewFrost {
    /// The lines, and the trees by which requests name them.
    pub lines: Vec<(LineId, u32)>,
    /// Who asked for it.
    pub by: Provenance,
    /// When it begins.
    pub since: Timestamp,
    /// For how long it may last.
    pub timeout: Duration,
}

/// How a frost has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrostEnd {
    /// Somebody has thawed it.
    Thawed,
    /// Its time was over.
    TimedOut,
    /// The store was closed, or what it was begun for could not be done.
    CalledOff,
}

/// A frost as it is, or was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frost {
    /// Its own: no other, of whatever store of this host, has the same.
    pub number: u64,
    /// What was asked for.
    pub new: NewFrost,
    /// For how long it goes on. Nothing once it is over.
    pub left: Duration,
    /// Requests that wait for its end.
    pub waiting: usize,
    /// How it has ended, if it has.
    pub end: Option<FrostEnd>,
}

struct Lasting {
    number: u64,
    new: NewFrost,
    until: Instant,
    waiting: usize,
}

impl Lasting {
    fn told(&self, end: Option<FrostEnd>) -> Frost {
        let left = self.until.saturating_duration_since(Instant::now());
        let left = if end.is_some() { Duration::ZERO } else { left };
        Frost { number: self.number, new: self.new.clone(), left, waiting: self.waiting, end }
    }

    fn has(&self, tree: u32) -> bool {
        self.new.lines.iter().any(|(_, of_line)| *of_line == tree)
    }
}

#[derive(Default)]
struct Table {
    lasting: Vec<Lasting>,
    ended: Vec<Frost>,
    /// Of the last.
    number: u64,
    /// No more begin.
    closed: bool,
}

impl Table {
    fn end(&mut self, at: usize, end: FrostEnd) -> Frost {
        let frost = self.lasting.remove(at).told(Some(end));
        if end == FrostEnd::TimedOut {
            let by = names::shown_bytes(&frost.new.by.command);
            log::warn!("a freeze ('{by}') has ended by itself after {:?}", frost.new.timeout);
        }
        self.ended.push(frost.clone());
        let excess = self.ended.len().saturating_sub(ENDED_MAX);
        self.ended.drain(..excess);
        frost
    }
}

/// The frosts of a file system. Any thread.
#[derive(Default)]
pub struct Frosts {
    /// Had by who changes something, and for a moment by a frost that begins.
    passing: RwLock<()>,
    /// How many last, for who wants to know at no cost.
    count: AtomicUsize,
    table: Mutex<Table>,
    ended: Condvar,
}

impl Frosts {
    /// For a request that changes something in this tree, or nothing in any: kept until that is done. None while that would
    /// have to wait.
    pub fn pass(&self, tree: Option<u32>) -> Option<RwLockReadGuard<'_, ()>> {
        let passing = self.passing.try_read()?;
        tree.is_none_or(|tree| self.number_of(tree).is_none()).then_some(passing)
    }

    /// The same, where it may wait.
    pub fn wait_to_pass(&self, tree: Option<u32>) -> RwLockReadGuard<'_, ()> {
        loop {
            if let Some(tree) = tree {
                self.wait_for_end(tree);
            }
            let passing = self.passing.read();
            if tree.is_none_or(|tree| self.number_of(tree).is_none()) {
                return passing;
            }
        }
    }

    /// The number of the frost that this tree is in.
    pub fn number_of(&self, tree: u32) -> Option<u64> {
        if self.count.load(SeqCst) == 0 {
            return None;
        }
        let mut table = self.table.lock();
        self.end_in_time(&mut table);
        table.lasting.iter().find(|frost| frost.has(tree)).map(|frost| frost.number)
    }

    fn wait_for_end(&self, tree: u32) {
        if self.count.load(SeqCst) == 0 {
            return;
        }
        let mut table = self.table.lock();
        loop {
            self.end_in_time(&mut table);
            let Some(frost) = table.lasting.iter_mut().find(|frost| frost.has(tree)) else { return };
            frost.waiting += 1;
            let (number, until) = (frost.number, frost.until);
            self.ended.wait_until(&mut table, until);
            if let Some(frost) = table.lasting.iter_mut().find(|frost| frost.number == number) {
                frost.waiting -= 1;
            }
        }
    }

    /// Begins one when all who pass are through, if that is before `deadline`. Its number; none if it was not, or no more
    /// begin.
    pub fn begin(&self, new: NewFrost, deadline: Instant) -> Option<u64> {
        let _nobody_passes = self.passing.try_write_until(deadline)?;
        let mut table = self.table.lock();
        if table.closed {
            return None;
        }
        // Numbers get known outside, where there are other stores, and are kept over the end of a mount.
        let micros =
            new.since.secs.saturating_mul(1_000_000).saturating_add(i64::from(new.since.nanos / 1000));
        table.number = u64::try_from(micros).unwrap_or(0).max(table.number + 1);
        let number = table.number;
        let until = Instant::now() + new.timeout;
        table.lasting.push(Lasting { number, new, until, waiting: 0 });
        self.count.store(table.lasting.len(), SeqCst);
        Some(number)
    }

    /// Ends one. None if it is over already.
    pub fn end(&self, number: u64, end: FrostEnd) -> Option<Frost> {
        let mut table = self.table.lock();
        self.end_in_time(&mut table);
        let at = table.lasting.iter().position(|frost| frost.number == number)?;
        let frost = table.end(at, end);
        self.tell(&table);
        Some(frost)
    }

    /// Ends all of them, and lets no more begin.
    pub fn close(&self) {
        let mut table = self.table.lock();
        table.closed = true;
        while !table.lasting.is_empty() {
            table.end(0, FrostEnd::CalledOff);
        }
        self.tell(&table);
    }

    fn end_in_time(&self, table: &mut Table) {
        let now = Instant::now();
        while let Some(at) = table.lasting.iter().position(|frost| frost.until <= now) {
            table.end(at, FrostEnd::TimedOut);
            self.tell(table);
        }
    }

    fn tell(&self, table: &Table) {
        self.count.store(table.lasting.len(), SeqCst);
        self.ended.notify_all();
    }

    /// Those that last, oldest first.
    pub fn all(&self) -> Vec<Frost> {
        let mut table = self.table.lock();
        self.end_in_time(&mut table);
        table.lasting.iter().map(|frost| frost.told(None)).collect()
    }

    /// One of these, if it lasts.
    pub fn lasting(&self, numbers: &[u64]) -> Option<Frost> {
        self.all().into_iter().find(|frost| numbers.contains(&frost.number))
    }

    /// The last of these that has ended, if it is told of yet.
    pub fn ended(&self, numbers: &[u64]) -> Option<Frost> {
        self.table.lock().ended.iter().rev().find(|frost| numbers.contains(&frost.number)).cloned()
    }

    /// True if this tree was in one of these whose time was over, and is in none of them any more.
    pub fn is_missed(&self, tree: u32, numbers: &[u64]) -> bool {
        let of_tree = |frost: &Frost| {
            numbers.contains(&frost.number) && frost.new.lines.iter().any(|(_, of_line)| *of_line == tree)
        };
        let lasts = self.all().iter().any(of_tree);
        let table = self.table.lock();
        !lasts && table.ended.iter().any(|frost| of_tree(frost) && frost.end == Some(FrostEnd::TimedOut))
    }

    /// The last one that this tree was in and that has ended.
    pub fn last_of(&self, tree: u32) -> Option<Frost> {
        let table = self.table.lock();
        let of_tree = |frost: &&Frost| frost.new.lines.iter().any(|(_, of_line)| *of_line == tree);
        table.ended.iter().rev().find(of_tree).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    const LONG: Duration = Duration::from_secs(600);

    fn begin(frosts: &Frosts, tree: u32, timeout: Duration) -> Option<u64> {
        let by = Provenance { command: b"test".to_vec(), ..Provenance::default() };
        let since = Timestamp { secs: 1, nanos: 2 };
        let new = NewFrost { lines: vec![(LineId(u64::from(tree) + 1), tree)], by, since, timeout };
        frosts.begin(new, Instant::now() + LONG)
    }

    #[test]
    fn a_frost_holds_its_trees_until_it_is_thawed() {
        let frosts = Frosts::default();
        let number = begin(&frosts, 7, LONG).unwrap();
        assert!(
            frosts.pass(Some(7)).is_none() && frosts.pass(Some(8)).is_some() && frosts.pass(None).is_some()
        );
        let passed = AtomicBool::new(false);
        std::thread::scope(|s| {
            s.spawn(|| {
                let _passing = frosts.wait_to_pass(Some(7));
                passed.store(true, SeqCst);
            });
            while frosts.all()[0].waiting == 0 {
                std::thread::yield_now();
            }
            assert!(!passed.load(SeqCst) && frosts.last_of(7).is_none());
            let frost = frosts.end(number, FrostEnd::Thawed).unwrap();
            assert_eq!((frost.waiting, frost.end), (1, Some(FrostEnd::Thawed)));
        });
        assert!(passed.load(SeqCst) && frosts.end(number, FrostEnd::Thawed).is_none());
        assert_eq!(frosts.last_of(7).unwrap().end, Some(FrostEnd::Thawed));
        assert!(frosts.last_of(8).is_none());
    }

    #[test]
    fn nobody_has_to_be_alive_for_its_end() {
        let frosts = Frosts::default();
        begin(&frosts, 7, Duration::from_millis(50)).unwrap();
        drop(frosts.wait_to_pass(Some(7)));
        assert!(frosts.all().is_empty() && frosts.pass(Some(7)).is_some());
        assert_eq!(frosts.last_of(7).unwrap().end, Some(FrostEnd::TimedOut));
        // One that nobody waits for is over as well.
        begin(&frosts, 7, Duration::ZERO).unwrap();
        assert!(frosts.number_of(7).is_none());
    }

    #[test]
    fn it_begins_when_all_are_through_or_not_at_all() {
        let frosts = Frosts::default();
        let passing = frosts.pass(Some(7)).unwrap();
        let new = NewFrost {
            lines: vec![(LineId::MAIN, 7)],
            by: Provenance::default(),
            since: Timestamp { secs: 0, nanos: 0 },
            timeout: LONG,
        };
        assert!(frosts.begin(new, Instant::now()).is_none());
        assert!(frosts.all().is_empty());
        drop(passing);
        begin(&frosts, 7, LONG).unwrap();
        std::thread::scope(|s| {
            s.spawn(|| drop(frosts.wait_to_pass(Some(7))));
            while frosts.all().first().is_some_and(|frost| frost.waiting == 0) {
                std::thread::yield_now();
            }
            frosts.close();
        });
        assert!(begin(&frosts, 7, LONG).is_none());
        assert_eq!(frosts.last_of(7).unwrap().end, Some(FrostEnd::CalledOff));
    }
}
