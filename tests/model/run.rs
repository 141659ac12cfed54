//! Runs a history on the system and on the model, and compares every answer.
//!
//! Durability: an fsync, a snapshot's creation, a commit and a clean close make everything before them durable; the
//! system may do so by itself at any time. So after a power cut the system must show exactly one of the states since
//! the last acknowledged durable point, and the runner keeps all of them. The operation that the power cut interrupts
//! may have happened or not, but not by half.

use std::collections::{BTreeSet, HashSet};

use snapfs::format::{Generation, Slot};
use snapfs::fs::Fs;
use snapfs::ops::{Caller, Error, Handle, NodeId, OpenFlags, Operations, Result as OpResult};

use crate::generate::{Access, Op, Pick};
use crate::lines::{LineKey, MAIN, Model};
use crate::observe::{self, Numbers, READ};
use crate::past;
use crate::reference::{self, Body, Content, Expect, Id};

/// What a rollback did.
pub enum RollBack {
    /// The subject has none: the operation is skipped.
    #[allow(dead_code, reason = "a subject may offer it")]
    NotOffered,
    /// Done and durable; the state before was kept as this snapshot, if any.
    Done { guard: Option<Vec<u8>> },
    /// Refused or failed.
    Failed(String),
}

/// A store under test with the simulated device below it.
pub trait Subject {
    /// The file system, to be asked again after `crash`, `reopen` and `roll_back`.
    fn ops(&self) -> &dyn Operations;
    /// Makes everything so far durable.
    fn commit(&mut self) -> Result<(), String>;
    /// Cuts the power (if it is not cut already): of the writes that were not flushed a random subset, drawn from
    /// `seed`, survives. Then the device works again and the store is opened. All handles are gone.
    fn crash(&mut self, seed: u64) -> Result<(), String>;
    /// Closes and opens. All handles have been released before.
    fn reopen(&mut self) -> Result<(), String>;
    /// Audits the store as it is now (with its uncommitted changes, or after a commit of its own): `Err` lists faults.
    fn check(&mut self) -> Result<(), String>;
    /// The tree of a line becomes that of a snapshot. All handles have been released before.
    fn roll_back(&mut self, line: &[u8], snapshot: &[u8]) -> RollBack;
    /// The file system if it has several lines: without, what needs them is skipped.
    fn fs(&self) -> Option<&Fs>;
    /// A minute passes, for all that ends by itself.
    fn pass_minute(&self) -> Result<(), String>;
    /// Does about so many bytes of what brings content home; returns how many moved.
    fn bring_home(&mut self, bytes: u64) -> Result<u64, String>;
    /// Has the device reached the call at which it was told to lose power? Every call since has failed.
    fn lost_power(&self) -> bool;
    /// Calls (reads, writes, flushes) that the device has seen.
    fn device_calls(&self) -> u64;
}

/// How a step can fail: the sentence for the person who reads it.
pub type Step = Result<(), String>;

/// Ends of steps that are tried.
const SHORTER_MAX: usize = 4096;

/// Bytes that are compared of each file that is open in a snapshot.
const PAST_BYTES: usize = 64 << 10;

const USER: Caller = Caller { uid: 1000, gid: 100, pid: 1, umask: 0 };

/// An open file.
struct Open {
    line: LineKey,
    id: Id,
    node: NodeId,
    handle: Handle,
    flags: OpenFlags,
}

/// A file of a snapshot that is open: it can be read as it was, also when the snapshot is gone.
pub(crate) struct OpenPast {
    pub node: NodeId,
    pub handle: Handle,
    pub content: Content,
}

/// The system, the model, and what connects them.
pub struct Runner {
    pub subject: Box<dyn Subject>,
    pub(crate) model: Model,
    pub(crate) numbers: Numbers,
    open: Vec<Open>,
    /// Files that are open in lines that are gone.
    stale: Vec<Open>,
    pub(crate) past: Vec<OpenPast>,
    /// States since the last durable point with the number of the operation that made each.
    history: Vec<(usize, Model)>,
    /// Work on a long range that the operation at hand does in steps: what a shorter one would have done.
    pub(crate) shorter: Option<Shorter>,
    /// The same of earlier operations, by the number of the operation.
    all_shorter: Vec<(usize, Shorter)>,
    /// Where blocks of ranges begin that were allocated, or punched, at offsets that were moved into their file.
    pub(crate) moved: BTreeSet<u64>,
    /// Slots with their generations that lines and snapshots have had.
    pub(crate) used: HashSet<(u32, u32)>,
    /// Lines that were changed while there were several.
    changed: HashSet<LineKey>,
    /// Number of the operation that runs.
    at: usize,
    /// Power cuts that were survived.
    pub crashes: usize,
    /// What was done to lines as a whole.
    pub done: Done,
}

/// How often each was done, and how much moved.
#[derive(Clone, Copy, Default, Debug)]
pub struct Done {
    pub merges: u64,
    pub conflicts: u64,
    pub taken_back: u64,
    pub promotions: u64,
    pub brought_back: u64,
    /// Bytes of content that was copied out or came home.
    pub homed: u64,
}

impl std::ops::AddAssign for Done {
    fn add_assign(&mut self, other: Done) {
        self.merges += other.merges;
        self.conflicts += other.conflicts;
        self.taken_back += other.taken_back;
        self.promotions += other.promotions;
        self.brought_back += other.brought_back;
        self.homed += other.homed;
    }
}

/// Runs all of a history; the error tells operation and difference.
pub fn run(subject: Box<dyn Subject>, ops: &[Op]) -> Result<Runner, String> {
    let mut runner = Runner::new(subject).map_err(|e| format!("at the start: {e}"))?;
    for (at, op) in ops.iter().enumerate() {
        runner.step(at, op).map_err(|e| format!("operation {at} {op:?}: {e}"))?;
    }
    runner.finish().map_err(|e| format!("at the end: {e}"))?;
    Ok(runner)
}

impl Runner {
    /// Takes a new, empty store.
    pub fn new(subject: Box<dyn Subject>) -> Result<Runner, String> {
        let mut numbers = Numbers::default();
        numbers.inodes.insert(reference::ROOT, NodeId::ROOT.ino());
        let mut model = Model::new(0o755, 0, 0);
        // A device that fails from the first call on leaves a root with attributes unknown; all subjects start alike.
        if let Ok((attr, _)) = subject.ops().getattr(NodeId::ROOT, None) {
            model = Model::new(attr.mode, attr.uid, attr.gid);
        }
        let history = vec![(0, model.clone())];
        Ok(Runner {
            subject,
            model,
            numbers,
            open: Vec::new(),
            stale: Vec::new(),
            past: Vec::new(),
            history,
            shorter: None,
            moved: BTreeSet::new(),
            all_shorter: Vec::new(),
            used: HashSet::new(),
            changed: HashSet::new(),
            at: 0,
            crashes: 0,
            done: Done::default(),
        })
    }

    /// One operation, and what the kernel would do behind it.
    pub fn step(&mut self, at: usize, op: &Op) -> Step {
        self.at = at;
        let result = self.apply(op).and_then(|()| self.forget_orphans());
        self.remember();
        if self.subject.lost_power() {
            return self.crash(at as u64 ^ 0x5eed);
        }
        result
    }

    /// The full comparison, then again after closing and opening.
    fn finish(&mut self) -> Step {
        self.at += 1;
        let result = self.check_all().and_then(|()| self.reopen()).and_then(|()| self.check_all());
        if self.subject.lost_power() {
            self.remember();
            return self.crash(self.at as u64);
        }
        result
    }

    /// Lines that were changed while there were several.
    pub fn heads(&self) -> usize {
        self.changed.len()
    }

    fn remember(&mut self) {
        if let Some((_, before)) = self.history.last().filter(|_| self.model.lines().len() > 1) {
            self.changed.extend(self.model.changed_since(before));
        }
        self.all_shorter.extend(self.shorter.take().map(|s| (self.at, s)));
        self.history.push((self.at, self.model.clone()));
    }

    /// The state in the middle of work on a long range that shows what was seen.
    fn find_shorter(&self, seen: &observe::Observation) -> Option<Model> {
        self.all_shorter.iter().rev().find_map(|(_, shorter)| {
            let mut states = shorter.states();
            states.find(|model| observe::compare(seen, model, &self.numbers).is_ok())
        })
    }

    /// Everything up to now is durable.
    pub(crate) fn durable(&mut self) {
        self.history.clear();
        self.all_shorter.clear();
        self.remember();
    }

    /// Compares all views, and audits.
    pub(crate) fn check_all(&mut self) -> Step {
        let seen = observe::observe(self.subject.ops(), self.subject.fs())?;
        observe::compare(&seen, &self.model, &self.numbers)?;
        let space = self.subject.ops().statfs(NodeId::ROOT).map_err(|e| format!("statfs: {e:?}"))?;
        let adds_up = space.available_bytes <= space.free_bytes && space.free_bytes <= space.total_bytes;
        if !adds_up || space.inodes_free > space.inodes || space.name_max != 255 {
            return Err(format!("statfs makes no sense: {space:?}"));
        }
        self.check_open()?;
        self.subject.check().map_err(|e| format!("audit: {e}"))
    }

    /// Whoever has a file open in a line that is gone reads and writes nothing; in a snapshot, what it had.
    fn check_open(&self) -> Step {
        for open in &self.past {
            let mut out = vec![7; PAST_BYTES];
            let read = self.subject.ops().read(open.node, open.handle, 0, &mut out);
            let len = read.map_err(|e| format!("reading what is open in a snapshot: {e:?}"))?;
            if out[..len] != open.content.read(0, PAST_BYTES as u64) {
                return Err("what is open in a snapshot has changed".into());
            }
        }
        for open in &self.stale {
            let ops = self.subject.ops();
            let read = ops.read(open.node, open.handle, 0, &mut [0; 9]);
            if open.flags.read && read != Err(Error::Stale) {
                return Err(format!("reading in a line that is gone: {read:?}"));
            }
            let write = ops.write(open.node, open.handle, 0, b"late", false);
            if open.flags.write && write != Err(Error::Stale) {
                return Err(format!("writing in a line that is gone: {write:?}"));
            }
        }
        Ok(())
    }

    /// Compares the tree of the line at hand.
    pub(crate) fn check_live(&mut self) -> Step {
        let seen = observe::view(self.subject.ops(), self.root())?;
        observe::compare_view(&seen, &self.model.live, &self.numbers)
    }

    pub(crate) fn crash(&mut self, seed: u64) -> Step {
        self.crashes += 1;
        self.open.clear();
        self.stale.clear();
        self.past.clear();
        self.subject.crash(seed).map_err(|e| format!("reopening after a power cut: {e}"))?;
        let seen = observe::observe(self.subject.ops(), self.subject.fs())
            .map_err(|e| format!("after a power cut: {e}"))?;
        let names = |line: &[u8]| -> Vec<Vec<u8>> { seen.names_of_snapshots(line) };
        for (_, model) in &mut self.history {
            *model = model.with_known_guards(names).unwrap_or_else(|| model.clone());
        }
        let fits = |(_, model): &&(usize, Model)| observe::compare(&seen, model, &self.numbers).is_ok();
        let whole = self.history.iter().rev().find(fits).map(|(_, model)| model.clone());
        let Some(found) = whole.or_else(|| self.find_shorter(&seen)) else {
            let tell = |(at, model): &(usize, Model)| {
                let why = observe::compare(&seen, model, &self.numbers).expect_err("none fits");
                format!("\n  not the state after operation {at}: {why}")
            };
            return Err(format!(
                "after a power cut the store shows none of the states since the last durable point:{}",
                self.history.iter().map(tell).collect::<String>()
            ));
        };
        let next = self.model.next;
        self.model = found;
        self.model.next = next;
        seen.teach(&self.model, &mut self.numbers);
        self.model.drop_orphans(|_, _| false);
        self.durable();
        self.subject.fs().map_or(Ok(()), past::no_orphans)?;
        self.subject.check().map_err(|e| format!("audit after a power cut: {e}"))
    }

    pub(crate) fn reopen(&mut self) -> Step {
        self.release_all()?;
        self.subject.reopen().map_err(|e| format!("reopening: {e}"))?;
        self.durable();
        self.subject.fs().map_or(Ok(()), past::no_orphans)
    }

    pub(crate) fn release_all(&mut self) -> Step {
        let stale = std::mem::take(&mut self.stale);
        for open in std::mem::take(&mut self.open).into_iter().chain(stale) {
            self.subject.ops().release(open.node, open.handle);
        }
        for open in std::mem::take(&mut self.past) {
            self.subject.ops().release(open.node, open.handle);
        }
        self.forget_orphans()
    }

    fn forget_orphans(&mut self) -> Step {
        let open = &self.open;
        let is_open = |line, id| open.iter().any(|o| (o.line, o.id) == (line, id));
        for (line, id) in self.model.drop_orphans(is_open) {
            self.subject.ops().forget(self.numbers.node(line, id));
        }
        Ok(())
    }

    /// What is made or gets another head is known by its slot with a generation that nothing ever had with it.
    pub(crate) fn is_fresh(&mut self, slot: Slot, generation: Generation) -> Step {
        let fresh = self.used.insert((slot.0, generation.0));
        if fresh { Ok(()) } else { Err(format!("{slot:?} with {generation:?} was another's")) }
    }

    /// Learns what a line is compared with since the system did that.
    pub(crate) fn learn_base(&mut self, line: LineKey) {
        let of = self.model.line(line);
        let real =
            self.subject.fs().and_then(|fs| past::line_of(fs, &of.name).ok()).and_then(|line| line.base);
        if let (Some(base), Some(real)) = (&of.base, real) {
            self.numbers.bases.entry(base.number).or_insert(real);
        }
    }

    /// Learns the number of a snapshot, which lines may be compared with.
    pub(crate) fn learn_snapshot(&mut self, id: u64) {
        let all =
            self.model.lines().flat_map(|(_, of)| of.snapshots.iter().map(move |(name, s)| (of, name, s)));
        let Some((of, name, _)) = all.into_iter().find(|(.., s)| s.id == id) else { return };
        let real = self.subject.fs().and_then(|fs| past::find(fs, &of.name, name).ok());
        self.numbers.bases.extend(real.map(|real| (id, real.id)));
    }

    /// Closes what is open in the line at hand.
    pub(crate) fn release_line(&mut self) -> Step {
        let here = self.model.at();
        let (closed, open): (Vec<_>, _) =
            std::mem::take(&mut self.open).into_iter().partition(|o| o.line == here);
        self.open = open;
        for open in closed {
            self.subject.ops().release(open.node, open.handle);
        }
        self.forget_orphans()
    }

    /// Files that are open for writing in the line at hand.
    pub(crate) fn writers(&self) -> BTreeSet<Id> {
        let here = self.open.iter().filter(|o| o.line == self.model.at() && o.flags.write);
        here.map(|o| o.id).collect()
    }

    /// After a power cut the model as it is now may be what is found.
    pub(crate) fn might_be(&mut self) {
        self.history.push((self.at, self.model.clone()));
    }

    /// A head is gone, or its line: its files stay open, and are of no use.
    pub(crate) fn line_is_gone(&mut self, line: LineKey) -> Step {
        let (gone, open) = std::mem::take(&mut self.open).into_iter().partition(|o| o.line == line);
        self.open = open;
        self.stale.extend::<Vec<_>>(gone);
        self.check_open()
    }

    /// Does something with another line at hand.
    pub(crate) fn on<T>(&mut self, line: LineKey, work: impl FnOnce(&mut Self) -> T) -> T {
        let back = self.model.at();
        self.model.turn_to(line);
        let done = work(self);
        self.model.turn_to(back);
        done
    }

    /// The root of the line at hand.
    pub(crate) fn root(&self) -> NodeId {
        self.numbers.root(self.model.at())
    }

    /// An inode of the line at hand.
    pub(crate) fn node(&self, id: Id) -> NodeId {
        self.numbers.node(self.model.at(), id)
    }

    /// The real answer must be what the model says; both answers come back when both are `Ok`.
    pub(crate) fn agree<R: std::fmt::Debug, M>(
        real: OpResult<R>,
        expected: Expect<M>,
    ) -> Result<Option<(R, M)>, String> {
        match (real, expected) {
            (Ok(real), Ok(expected)) => Ok(Some((real, expected))),
            (Err(real), Err(errors)) if errors.contains(&real) => Ok(None),
            (Ok(_), Err(errors)) => Err(format!("succeeded, expected {errors:?}")),
            (Err(real), Ok(_)) => Err(format!("failed with {real:?}, expected success")),
            (Err(real), Err(errors)) => Err(format!("failed with {real:?}, expected {errors:?}")),
        }
    }

    /// Learns the number of a new inode, which must be free, and checks the attributes in the answer.
    pub(crate) fn learn(&mut self, entry: &snapfs::ops::Entry, id: Id) -> Step {
        let node = entry.attr.node;
        let taken = self
            .model
            .live
            .keys()
            .find(|other| **other != id && self.numbers.inodes.get(other) == Some(&node.ino()));
        if node.tree() != self.root().tree() || taken.is_some() {
            return Err(format!("the new inode is {node:?}, which is taken or of another tree"));
        }
        self.numbers.inodes.insert(id, node.ino());
        self.check_attr(&entry.attr, id)
    }

    pub(crate) fn check_attr(&self, attr: &snapfs::ops::Attr, id: Id) -> Step {
        if attr.node.tree() != self.root().tree() {
            return Err(format!("answer: {:?} is of another tree than {:?}", attr.node, self.root()));
        }
        observe::compare_attr(attr, &self.model.live, id, &self.numbers).map_err(|e| format!("answer: {e}"))
    }

    /// Keeps a handle open.
    pub(crate) fn keep_open(&mut self, id: Id, handle: Handle, flags: OpenFlags) {
        let (line, node) = (self.model.at(), self.node(id));
        self.open.push(Open { line, id, node, handle, flags });
    }

    pub(crate) fn release(&mut self, pick: Pick) {
        if !self.open.is_empty() {
            let open = self.open.swap_remove(pick as usize % self.open.len());
            self.subject.ops().release(open.node, open.handle);
        }
    }

    /// A handle that can write (or read): one that is open, in any line, else a file of the line at hand that is opened for
    /// this operation only.
    pub(crate) fn borrow(&self, pick: Pick, write: bool) -> Result<Option<Borrowed>, String> {
        let fits = |o: &&Open| if write { o.flags.write } else { o.flags.read };
        let open: Vec<&Open> = self.open.iter().filter(fits).collect();
        if pick.is_multiple_of(2) && !open.is_empty() {
            let open = open[pick as usize / 2 % open.len()];
            let Open { line, id, node, handle, flags } = *open;
            return Ok(Some(Borrowed { line, id, node, handle, flags, brief: false }));
        }
        let Some(id) = self.pick(pick / 2, |n| matches!(n.body, Body::File(_))) else { return Ok(None) };
        let flags = OpenFlags { write, ..READ };
        let node = self.node(id);
        let handle = self.subject.ops().open(&USER, node, flags).map_err(|e| format!("open: {e:?}"))?;
        Ok(Some(Borrowed { line: self.model.at(), id, node, handle, flags, brief: true }))
    }

    /// Ends a loan.
    pub(crate) fn give_back(&self, file: &Borrowed) {
        if file.brief {
            self.subject.ops().release(file.node, file.handle);
        }
    }

    /// One of the live inodes that have a name and satisfy `fits`.
    pub(crate) fn pick(&self, pick: Pick, fits: impl Fn(&reference::Inode) -> bool) -> Option<Id> {
        let all: Vec<Id> =
            self.model.live.iter().filter(|(_, n)| n.links > 0 && fits(n)).map(|(id, _)| *id).collect();
        (!all.is_empty()).then(|| all[pick as usize % all.len()])
    }

    /// A directory; the root more often than others.
    pub(crate) fn dir(&self, pick: Pick) -> Id {
        let id = if pick.is_multiple_of(4) { None } else { self.pick(pick / 4, reference::Inode::is_dir) };
        id.unwrap_or(reference::ROOT)
    }

    /// Any inode with a name.
    pub(crate) fn any(&self, pick: Pick) -> Id {
        self.pick(pick, |_| true).unwrap_or(reference::ROOT)
    }

    /// A name of the directory, mostly one that exists.
    pub(crate) fn old_name(&self, dir: Id, pick: Pick) -> Vec<u8> {
        match &self.model.live[&dir].body {
            Body::Dir(entries) if !entries.is_empty() && !pick.is_multiple_of(8) => {
                entries.keys().nth(pick as usize / 8 % entries.len()).expect("in range").clone()
            }
            _ => new_name(pick / 8),
        }
    }

    /// One of the lines.
    pub(crate) fn old_line(&self, pick: Pick) -> LineKey {
        self.model.lines().nth(pick as usize % self.model.lines().len()).map_or(MAIN, |(key, _)| key)
    }

    /// A snapshot's name in the line at hand, mostly one that exists.
    pub(crate) fn old_snapshot(&self, pick: Pick) -> Vec<u8> {
        let mut names: Vec<_> =
            self.model.shown(self.model.at()).into_iter().map(|(name, _)| name.to_vec()).collect();
        names.sort();
        if names.is_empty() || pick.is_multiple_of(16) {
            return new_snapshot_name(pick / 16);
        }
        names[pick as usize / 16 % names.len()].clone()
    }
}

/// Does so many bytes of some work on a model.
pub(crate) type Applier = Box<dyn Fn(&mut Model, u64)>;

/// Work on a long range, which a power cut may leave as work on the start of the range.
pub(crate) struct Shorter {
    /// The state before.
    pub before: Model,
    /// Bytes of the range; steps end at multiples of 4096 of one of the offsets.
    pub len: u64,
    pub offsets: Vec<u64>,
    /// Does so many bytes of it.
    pub apply: Applier,
}

impl Shorter {
    fn states(&self) -> impl Iterator<Item = Model> + '_ {
        let ends = self
            .offsets
            .iter()
            .flat_map(|offset| (4096 - offset % 4096..self.len).step_by(4096).take(SHORTER_MAX));
        ends.map(|len| {
            let mut model = self.before.clone();
            (self.apply)(&mut model, len);
            model
        })
    }
}

/// A file that one operation uses.
pub(crate) struct Borrowed {
    pub line: LineKey,
    pub id: Id,
    pub node: NodeId,
    pub handle: Handle,
    pub flags: OpenFlags,
    /// Opened for one operation only.
    brief: bool,
}

/// A name to create, out of few, so that it is often taken; some are long, one is too long.
pub(crate) fn new_name(pick: Pick) -> Vec<u8> {
    match pick % 32 {
        n @ 0..24 => vec![b'a' + (n % 12) as u8],
        n @ 24..27 => format!("name-{n}").repeat(20).into_bytes(),
        27..29 => vec![b'x'; 255],
        29 => vec![0xff, 0xfe, b'\n'],
        30 => vec![b'x'; 256],
        _ => b"...".to_vec(),
    }
}

/// A snapshot's name to create.
pub(crate) fn new_snapshot_name(pick: Pick) -> Vec<u8> {
    match pick % 16 {
        n @ 0..15 => format!("s{n}").into_bytes(),
        _ => vec![b's'; 255],
    }
}

/// A line's name to create, out of few.
pub(crate) fn new_line_name(pick: Pick) -> Vec<u8> {
    match pick % 12 {
        n @ 0..11 => format!("line-{n}").into_bytes(),
        _ => vec![b'l'; 255],
    }
}

/// Flags of an opening.
pub(crate) fn flags(access: Access) -> OpenFlags {
    let write = !matches!(access, Access::Read);
    let (append, truncate) = (matches!(access, Access::Append), matches!(access, Access::Cut));
    OpenFlags { write, append, truncate, sync: matches!(access, Access::Sync), ..READ }
}

/// An error in the form of an expectation.
pub(crate) fn only<T>(errors: &[Error]) -> Expect<T> {
    Err(errors.to_vec())
}
