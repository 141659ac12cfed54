//! Frosts: lines that somebody has frozen, so that whoever changes them waits. Those who read go on.
//!
//! A frost ends when it is thawed, or by itself: whoever looks at it after its time finds that it is over, so that no thread and
//! no client has to be alive for that. Whoever changes something is counted as passing until that is done, on whatever thread, and
//! a frost is announced first: from then on nobody begins to change its trees, and when all who pass there are through it
//! begins, or goes away again. Who passes elsewhere is not waited for, nor held up. It is not announced while the kernel hands over
//! pages of such a tree, which would wait for the end, nor while it is told what has become of one: for that it locks directories, and
//! who waits for the end has some locked. The lock order: after the snapshots, before the standstill. The table is a leaf.

use crate::format::LineId;
use crate::format::provenance::Provenance;
use crate::names;
use crate::ops::{PassingRequest, Timestamp, Turnstile};
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// Frosts that have ended and are told of.
const ENDED_MAX: usize = 16;
/// Trees whose frost has ended too early for somebody, as many as are remembered. Of what is older it is not known how it ended.
const MISSED_MAX: usize = 1 << 16;
/// Who passes is counted by these. Trees that have one together, of more lines than this, are waited for together. There may be
/// any number of frosts.
const WAYS: usize = 4096;

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
    /// Somebody who knew its number has thawed it: whoever it is for.
    Thawed,
    /// Somebody has thawed whatever a line was in.
    ThawedByAnybody,
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
    /// When it is over; none as long as it has not begun.
    until: Option<Instant>,
    waiting: usize,
}

impl Lasting {
    fn told(&self, end: Option<FrostEnd>) -> Frost {
        let left = self.until.map(|until| until.saturating_duration_since(Instant::now()));
        let left = left.filter(|_| end.is_none()).unwrap_or_default();
        Frost { number: self.number, new: self.new.clone(), left, waiting: self.waiting, end }
    }

    fn has(&self, tree: u32) -> bool {
        self.new.lines.iter().any(|(_, of_line)| *of_line == tree)
    }
}

#[derive(Default)]
struct Table {
    /// Those that last, and those that are announced.
    lasting: Vec<Lasting>,
    /// Trees of which the kernel hands over pages, or is told, each as often as somebody waits for that.
    handed_over: Vec<u32>,
    ended: Vec<Frost>,
    /// Numbers and trees of those that have ended, but were not thawed by whom they were for: he may rely on them still.
    missed: BTreeSet<(u64, u32)>,
    /// Up to this number some of these are not there any more.
    forgotten: u64,
    /// Of the last.
    number: u64,
    /// No more begin.
    closed: bool,
}

impl Table {
    fn end(&mut self, at: usize, end: FrostEnd) -> Frost {
        let lasting = self.lasting.remove(at);
        let frost = lasting.told(Some(end));
        if lasting.until.is_none() {
            return frost; // nobody knows of it
        }
        if end == FrostEnd::TimedOut {
            let by = names::shown_bytes(&frost.new.by.command);
            log::warn!("a freeze ('{by}') has ended by itself after {:?}", frost.new.timeout);
        }
        if end != FrostEnd::Thawed {
            self.missed.extend(frost.new.lines.iter().map(|(_, tree)| (frost.number, *tree)));
            while self.missed.len() > MISSED_MAX
                && let Some((number, _)) = self.missed.pop_first()
            {
                self.forgotten = self.forgotten.max(number);
            }
        }
        self.ended.push(frost.clone());
        let excess = self.ended.len().saturating_sub(ENDED_MAX);
        self.ended.drain(..excess);
        frost
    }
}

/// The frosts of a file system. Any thread.
pub struct Frosts {
    /// How many pass, by ways.
    passing: Box<[AtomicUsize]>,
    /// Frosts that wait for those who pass.
    announced: AtomicUsize,
    /// How many there are, for who wants to know at no cost.
    count: AtomicUsize,
    table: Mutex<Table>,
    ended: Condvar,
    /// Somebody is through, or pages are handed over.
    through: Condvar,
}

impl Default for Frosts {
    fn default() -> Frosts {
        Frosts {
            passing: (0..WAYS).map(|_| AtomicUsize::new(0)).collect(),
            announced: AtomicUsize::default(),
            count: AtomicUsize::default(),
            table: Mutex::default(),
            ended: Condvar::default(),
            through: Condvar::default(),
        }
    }
}

/// Since 1970.
fn micros(time: Timestamp) -> u64 {
    let micros = time.secs.saturating_mul(1_000_000).saturating_add(i64::from(time.nanos / 1000));
    u64::try_from(micros).unwrap_or(0)
}

fn way_of(tree: u32) -> usize {
    tree as usize % WAYS
}

impl Turnstile for Frosts {
    fn is_through(&self, way: usize) {
        // Either whoever announces one finds nobody there any more, or we find that one is announced.
        if self.passing[way].fetch_sub(1, SeqCst) == 1 && self.announced.load(SeqCst) != 0 {
            drop(self.table.lock()); // who is about to wait has seen it, or waits
            self.through.notify_all();
        }
    }
}

/// Kept while the kernel hands over pages of a tree, or is told of names in it: no frost of it is announced meanwhile.
pub struct HandingOver<'a> {
    frosts: &'a Frosts,
    tree: u32,
}

impl Drop for HandingOver<'_> {
    fn drop(&mut self) {
        let mut table = self.frosts.table.lock();
        if let Some(at) = table.handed_over.iter().position(|tree| *tree == self.tree) {
            table.handed_over.swap_remove(at);
        }
        drop(table);
        self.frosts.through.notify_all();
    }
}

impl Frosts {
    /// Those of a file system that is opened now. What has begun before has ended with the mount of then.
    pub fn opened_at(now: Timestamp) -> Frosts {
        let first = micros(now);
        let table = Table { number: first, forgotten: first, ..Table::default() };
        Frosts { table: Mutex::new(table), ..Frosts::default() }
    }

    /// For a request that changes something in this tree: kept until that is done. None while that would have to wait.
    pub fn pass(&self, tree: u32) -> Option<PassingRequest<'_>> {
        let way = way_of(tree);
        self.passing[way].fetch_add(1, SeqCst);
        let passage = PassingRequest { turnstile: self, way };
        self.number_of(tree).is_none().then_some(passage)
    }

    /// The same, where it may wait.
    pub fn wait_to_pass(&self, tree: u32) -> PassingRequest<'_> {
        loop {
            self.wait_for_end(tree);
            if let Some(passage) = self.pass(tree) {
                return passage;
            }
        }
    }

    /// For who has the kernel hand over pages of this tree, or tells it of names there: kept until that is done. None of a tree that
    /// is frozen: it would wait for the end.
    pub fn hand_over(&self, tree: u32) -> Option<HandingOver<'_>> {
        let mut table = self.table.lock();
        self.end_in_time(&mut table);
        if table.lasting.iter().any(|frost| frost.has(tree)) {
            return None;
        }
        table.handed_over.push(tree);
        drop(table);
        Some(HandingOver { frosts: self, tree })
    }

    /// The number of the frost that this tree is in, or is going to be.
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
            let number = frost.number;
            match frost.until {
                Some(until) => drop(self.ended.wait_until(&mut table, until)),
                // Whoever has announced it says how it goes on.
                None => self.ended.wait(&mut table),
            }
            if let Some(frost) = table.lasting.iter_mut().find(|frost| frost.number == number) {
                frost.waiting -= 1;
            }
        }
    }

    /// Begins one when all who pass in its trees are through, if that is before `deadline`. Its number; none if it was not, or no
    /// more begin.
    pub fn begin(&self, new: NewFrost, deadline: Instant) -> Option<u64> {
        let trees: Vec<u32> = new.lines.iter().map(|(_, tree)| *tree).collect();
        let mut table = self.table.lock();
        while !table.closed && table.handed_over.iter().any(|tree| trees.contains(tree)) {
            if Instant::now() >= deadline {
                return None;
            }
            self.through.wait_until(&mut table, deadline);
        }
        if table.closed {
            return None;
        }
        // Numbers get known outside, where there are other stores, and are kept over the end of a mount.
        table.number = micros(new.since).max(table.number + 1);
        let number = table.number;
        let timeout = new.timeout;
        table.lasting.push(Lasting { number, new, until: None, waiting: 0 });
        self.count.store(table.lasting.len(), SeqCst);
        self.announced.fetch_add(1, SeqCst);
        let is_free = || trees.iter().all(|tree| self.passing[way_of(*tree)].load(SeqCst) == 0);
        while !table.closed && !is_free() && Instant::now() < deadline {
            self.through.wait_until(&mut table, deadline);
        }
        self.announced.fetch_sub(1, SeqCst);
        let begins = is_free();
        // It is gone if no more are to begin.
        let at = table.lasting.iter().position(|frost| frost.number == number)?;
        if begins {
            table.lasting[at].until = Some(Instant::now() + timeout);
        } else {
            table.lasting.remove(at);
        }
        self.tell(&table);
        begins.then_some(number)
    }

    /// No more begin.
    pub fn is_closed(&self) -> bool {
        self.table.lock().closed
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
        self.through.notify_all();
    }

    fn end_in_time(&self, table: &mut Table) {
        let now = Instant::now();
        while let Some(at) =
            table.lasting.iter().position(|frost| frost.until.is_some_and(|until| until <= now))
        {
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
        table.lasting.iter().filter(|frost| frost.until.is_some()).map(|frost| frost.told(None)).collect()
    }

    /// One of these, if it lasts.
    pub fn lasting(&self, numbers: &[u64]) -> Option<Frost> {
        self.all().into_iter().find(|frost| numbers.contains(&frost.number))
    }

    /// The last of these that has ended, if it is told of yet.
    pub fn ended(&self, numbers: &[u64]) -> Option<Frost> {
        self.table.lock().ended.iter().rev().find(|frost| numbers.contains(&frost.number)).cloned()
    }

    /// True if this tree was in one of these that has ended before whoever knew its number thawed it, or may have been, and is in none
    /// of them any more.
    pub fn is_missed(&self, tree: u32, numbers: &[u64]) -> bool {
        let mut table = self.table.lock();
        self.end_in_time(&mut table);
        let is_missed = |number| number <= table.forgotten || table.missed.contains(&(number, tree));
        let lasts = table.lasting.iter().any(|frost| numbers.contains(&frost.number) && frost.has(tree));
        !lasts && numbers.iter().any(|number| is_missed(*number))
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
        assert!(frosts.pass(7).is_none() && frosts.pass(8).is_some());
        let passed = AtomicBool::new(false);
        std::thread::scope(|s| {
            s.spawn(|| {
                let _passing = frosts.wait_to_pass(7);
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
    fn what_is_forgotten_counts_as_missed() {
        let frosts = Frosts::default();
        let [first, second] =
            [0, 1].map(|_| begin(&frosts, 7, LONG).and_then(|n| frosts.end(n, FrostEnd::Thawed)));
        let [first, second] = [first, second].map(|frost| frost.unwrap().number);
        assert!(![first, second].iter().any(|n| frosts.is_missed(7, &[*n])));
        // One of more trees than are remembered, and one that ends after it.
        let early = begin(&frosts, 7, LONG).unwrap();
        let lines = (8..=8 + MISSED_MAX as u32).map(|tree| (LineId(u64::from(tree)), tree)).collect();
        let (by, since) = (Provenance::default(), Timestamp { secs: 1, nanos: 2 });
        let many = NewFrost { lines, by, since, timeout: LONG };
        let many = frosts.begin(many, Instant::now() + LONG).unwrap();
        frosts.end(many, FrostEnd::TimedOut);
        frosts.end(early, FrostEnd::TimedOut);
        assert!([8, 9].iter().all(|tree| frosts.is_missed(*tree, &[many])) && frosts.is_missed(7, &[early]));
        assert!(frosts.is_missed(7, &[first]), "how it ended is not known any more");
        let last = begin(&frosts, 7, LONG).unwrap();
        frosts.end(last, FrostEnd::Thawed);
        assert!(!frosts.is_missed(7, &[last]));
    }

    #[test]
    fn nobody_has_to_be_alive_for_its_end() {
        let frosts = Frosts::default();
        begin(&frosts, 7, Duration::from_millis(50)).unwrap();
        drop(frosts.wait_to_pass(7));
        assert!(frosts.all().is_empty() && frosts.pass(7).is_some());
        assert_eq!(frosts.last_of(7).unwrap().end, Some(FrostEnd::TimedOut));
        // One that nobody waits for is over as well.
        begin(&frosts, 7, Duration::ZERO).unwrap();
        assert!(frosts.number_of(7).is_none());
    }

    #[test]
    fn it_begins_when_all_are_through_or_not_at_all() {
        let frosts = Frosts::default();
        let passing = frosts.pass(7).unwrap();
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
            s.spawn(|| drop(frosts.wait_to_pass(7)));
            while frosts.all().first().is_some_and(|frost| frost.waiting == 0) {
                std::thread::yield_now();
            }
            frosts.close();
        });
        assert!(begin(&frosts, 7, LONG).is_none());
        assert_eq!(frosts.last_of(7).unwrap().end, Some(FrostEnd::CalledOff));
    }

    #[test]
    fn who_passes_elsewhere_is_neither_held_up_nor_waited_for() {
        let frosts = Frosts::default();
        let [here, elsewhere] = [7, 8].map(|tree| frosts.pass(tree).unwrap());
        std::thread::scope(|s| {
            let begun = s.spawn(|| begin(&frosts, 7, LONG));
            while frosts.number_of(7).is_none() {
                std::thread::yield_now();
            }
            // It is announced: nobody begins to change its tree, and all others go on.
            assert!(frosts.pass(7).is_none() && frosts.all().is_empty());
            assert!(frosts.pass(8).is_some() && frosts.hand_over(8).is_some());
            drop(here);
            assert!(begun.join().unwrap().is_some());
        });
        assert_eq!(frosts.all().len(), 1);
        drop(elsewhere);
        // One that does not come to be leaves nothing, and whoever waited goes on.
        let frosts = Frosts::default();
        let here = frosts.pass(7).unwrap();
        std::thread::scope(|s| {
            let begun = s.spawn(|| begin(&frosts, 7, LONG));
            while frosts.number_of(7).is_none() {
                std::thread::yield_now();
            }
            let waits = s.spawn(|| drop(frosts.wait_to_pass(7)));
            frosts.close();
            waits.join().unwrap();
            assert!(begun.join().unwrap().is_none());
        });
        drop(here);
        assert!(frosts.pass(7).is_some() && frosts.last_of(7).is_none());
    }

    #[test]
    fn there_may_be_any_number_of_them() {
        let frosts = Frosts::default();
        // Who is under way in one tree holds up no frost of others.
        let elsewhere: Vec<_> = (0..300).map(|n| frosts.pass(2 * n).unwrap()).collect();
        let mut numbers: Vec<u64> = (0..300).map(|n| begin(&frosts, 2 * n + 1, LONG).unwrap()).collect();
        drop(elsewhere);
        // Those that are counted together with others are frosts of their own.
        let more = WAYS as u32..WAYS as u32 + 300;
        numbers.extend(more.clone().map(|tree| begin(&frosts, tree, LONG).unwrap()));
        assert_eq!(frosts.all().len(), 600);
        assert!((0..600).all(|tree| frosts.pass(tree).is_some() == (tree % 2 == 0)));
        assert!(more.clone().all(|tree| frosts.pass(tree).is_none()) && frosts.pass(more.end).is_some());
        for number in numbers {
            assert_eq!(frosts.end(number, FrostEnd::Thawed).unwrap().number, number);
        }
        assert!((0..600).chain(more).all(|tree| frosts.pass(tree).is_some()) && frosts.all().is_empty());
    }

    #[test]
    fn none_is_announced_while_pages_are_handed_over() {
        let frosts = Frosts::default();
        let handing_over = frosts.hand_over(7).unwrap();
        std::thread::scope(|s| {
            let begun = s.spawn(|| begin(&frosts, 7, LONG));
            // The pages pass, and others may be asked for, whenever that is.
            for _ in 0..1000 {
                assert!(frosts.pass(7).is_some() && frosts.hand_over(7).is_some());
            }
            drop(handing_over);
            assert!(begun.join().unwrap().is_some());
        });
        assert!(frosts.hand_over(7).is_none() && frosts.hand_over(8).is_some());
    }
}
