//! Random histories of a whole volume on the simulated device: writes, snapshots, lines, rollbacks, deletions, commits
//! and power cuts, against maps in memory, with the auditor after each commit.

use super::*;
use crate::check::{self, Depth};
use crate::device::{CrashPolicy, Sim};
use crate::format::provenance::Provenance;
use crate::format::view::Consistency;
use crate::format::{Copies, Extent, Generation, Key, Kind, LineId, Slot, ViewId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(super) const SIZE: u64 = 256 << 20;

type Objects = BTreeMap<u64, Vec<u8>>;

/// Contents are shared between the states of a history.
type Content = Arc<Objects>;

#[derive(Clone, PartialEq)]
struct LineModel {
    name: Vec<u8>,
    content: Content,
    slot: (Slot, Generation),
    head_generation: Generation,
    /// Snapshot that the head descends from.
    base: Option<ViewId>,
    /// What a merge compares it with.
    compared: Option<Content>,
    /// What it has from its origin.
    inherited: BTreeSet<ViewId>,
}

#[derive(Clone, PartialEq)]
struct SnapshotModel {
    line: LineId,
    name: Vec<u8>,
    slot: (Slot, Generation),
    content: Content,
    /// What is said about it.
    said: Vec<u8>,
}

#[derive(Clone, Default, PartialEq)]
struct Model {
    lines: BTreeMap<LineId, LineModel>,
    snapshots: BTreeMap<ViewId, SnapshotModel>,
    /// What each snapshot descended from when it was made.
    below: BTreeMap<ViewId, Option<ViewId>>,
}

/// Name, content, slot, generation of the head, what it is compared with.
type SeenLine = (Vec<u8>, Content, (Slot, Generation), Generation, Option<Content>);

/// All that can be seen of a volume.
#[derive(PartialEq)]
struct Seen {
    lines: BTreeMap<LineId, SeenLine>,
    snapshots: BTreeMap<(LineId, Vec<u8>), (ViewId, SnapshotModel)>,
}

impl Model {
    fn seen(&self) -> Seen {
        let line = |l: &LineModel| {
            (l.name.clone(), l.content.clone(), l.slot, l.head_generation, l.compared.clone())
        };
        let mut snapshots = BTreeMap::new();
        for (id, line) in &self.lines {
            for (view, s) in &self.snapshots {
                if s.line == *id || line.inherited.contains(view) {
                    snapshots.insert((*id, s.name.clone()), (*view, s.clone()));
                }
            }
        }
        Seen { lines: self.lines.iter().map(|(id, l)| (*id, line(l))).collect(), snapshots }
    }

    fn write(&mut self, line: LineId) -> &mut Objects {
        Arc::make_mut(&mut self.lines.get_mut(&line).unwrap().content)
    }

    fn line(record: &LineRecord, content: Content) -> LineModel {
        LineModel {
            name: record.name.clone(),
            compared: record.base.map(|_| content.clone()),
            content,
            slot: (record.slot, record.generation),
            head_generation: record.head_generation,
            base: record.origin,
            inherited: BTreeSet::new(),
        }
    }

    /// Slots and generations are never two things.
    fn check(&self) {
        let mut slots = BTreeSet::new();
        let mut generations = BTreeSet::new();
        for (slot, generation) in
            self.lines.values().map(|l| l.slot).chain(self.snapshots.values().map(|s| s.slot))
        {
            assert!(slots.insert(slot) && generations.insert(generation));
        }
        assert!(self.lines.values().all(|l| generations.insert(l.head_generation)));
    }
}

pub(super) fn open(sim: &Arc<Sim>) -> Arc<Volume> {
    let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 1 << 20 };
    let volume = Volume::open(sim.clone(), options).expect("a store that was cut off opens");
    let recovered = volume.recover(&mut NothingAbove);
    assert_eq!(recovered.damage, None);
    volume.commit(&mut |_| Ok(())).unwrap();
    volume
}

pub(super) fn content(view: &View) -> Content {
    let objects = view.range(&Key::MIN, &Key::MAX).map(|r| {
        let (key, value) = r.unwrap();
        if key.kind == Kind::Extent as u8 {
            let extent = Extent::decode(&value).unwrap();
            let mut out = vec![0; extent.len_bytes() as usize];
            view.read_extent(&extent, 0, &mut out).unwrap();
            (key.object, out)
        } else {
            (key.object, value.to_vec())
        }
    });
    Arc::new(objects.collect())
}

/// What the volume holds.
fn observe(volume: &Volume) -> Seen {
    let mut seen = Seen { lines: BTreeMap::new(), snapshots: BTreeMap::new() };
    let mut contents = BTreeMap::new();
    for line in volume.lines() {
        let (slot, generation) = (line.slot, line.head_generation);
        let live = content(&volume.live(line.id).unwrap());
        for s in volume.snapshots(line.id) {
            assert_eq!(volume.find_snapshot(line.id, &s.name).as_ref(), Some(&s));
            assert_eq!(volume.snapshot_by_slot(s.slot).as_ref(), Some(&s));
            let content =
                contents.entry(s.id).or_insert_with(|| content(&volume.snapshot(s.id).unwrap())).clone();
            let (name, slot) = (s.name.clone(), (s.slot, s.generation));
            let model =
                SnapshotModel { line: s.line, name: s.name, slot, content, said: s.provenance.description };
            seen.snapshots.insert((line.id, name), (s.id, model));
        }
        if !line.name.is_empty() {
            assert_eq!(volume.find_line(&line.name).as_ref(), Some(&line));
        }
        let compared = line.base.map(|_| content(&volume.base(line.id).unwrap()));
        seen.lines.insert(line.id, (line.name, live, (slot, line.generation), generation, compared));
    }
    seen
}

fn compare(volume: &Volume, model: &Model, seed: u64) {
    let (seen, expected) = (observe(volume), model.seen());
    let lines = |s: &Seen| s.lines.iter().map(|(id, l)| (*id, l.0.clone(), l.2, l.3)).collect::<Vec<_>>();
    assert_eq!(lines(&seen), lines(&expected), "seed {seed}");
    for (id, line) in &expected.lines {
        assert!(seen.lines[id].1 == line.1, "seed {seed}: line {} differs", id.0);
        assert!(seen.lines[id].4 == line.4, "seed {seed}: what line {} is compared with differs", id.0);
    }
    let names = |s: &Seen| s.snapshots.iter().map(|(at, s)| (at.clone(), s.0)).collect::<Vec<_>>();
    assert_eq!(names(&seen), names(&expected), "seed {seed}");
    for (at, snapshot) in &expected.snapshots {
        assert!(seen.snapshots[at] == *snapshot, "seed {seed}: snapshot {at:?} differs");
    }
    model.check();
}

/// After a power cut: the longest prefix of the history that the volume holds. `past` begins with what was durable.
fn find_prefix(volume: &Volume, past: &[Model], seed: u64) -> Model {
    let seen = observe(volume);
    let held = past.iter().rev().find(|model| seen == model.seen());
    held.unwrap_or_else(|| panic!("seed {seed}: the volume is in none of {} states", past.len())).clone()
}

pub(super) fn audit(volume: &Volume, seed: u64) {
    let report = check::check_space(volume, Depth::Data).unwrap();
    if !report.is_clean() {
        let c = volume.committed().unwrap();
        for r in &c.records {
            eprintln!("{r:?}");
            for e in c.dead_list(r.list).unwrap() {
                eprintln!("   dead {e:x?}");
            }
        }
        eprintln!("jobs {:?}", c.jobs);
    }
    assert!(report.is_clean(), "seed {seed}: {:#?}", report.problems);
}

fn write(volume: &Volume, line: LineId, content: &mut Objects, rng: &mut fastrand::Rng) {
    let object = rng.u64(16..400);
    let (inline, extent) = (Key::new(object, Kind::Inline, 0), Key::new(object, Kind::Extent, 0));
    let data = vec![rng.u8(1..); if rng.bool() { rng.usize(1..2000) } else { 4096 * rng.usize(1..40) }];
    let small = data.len() < 4096;
    let staged = (!small).then(|| volume.stage(&data[..data.len().min(131072)]).unwrap());
    let mut txn = volume.begin(line).unwrap();
    txn.reserve(Need { items: 4, ..Need::default() }, ReserveFor::Write).unwrap();
    let old = txn.view().get(&extent).unwrap().map(|v| Extent::decode(&v).unwrap());
    if let Some(old) = old {
        txn.free(&old);
        txn.remove(&extent).unwrap();
    }
    txn.remove(&inline).unwrap();
    content.remove(&object);
    match (rng.u8(0..10), staged) {
        (0, _) => {}
        (_, None) => {
            txn.insert(inline, &data).unwrap();
            content.insert(object, data);
        }
        (_, Some(staged)) => {
            let extents = txn.publish(staged);
            txn.insert(extent, &extents[0].encode()).unwrap();
            for rest in &extents[1..] {
                txn.free(rest);
            }
            content.insert(object, data[..extents[0].len_bytes() as usize].to_vec());
        }
    }
}

/// A second reference to the blocks of one object under another.
fn share(volume: &Volume, line: LineId, content: &mut Objects, rng: &mut fastrand::Rng) {
    let (from, to) =
        (Key::new(rng.u64(16..400), Kind::Extent, 0), Key::new(rng.u64(400..500), Kind::Extent, 0));
    let mut txn = volume.begin(line).unwrap();
    let Some(source) = txn.view().get(&from).unwrap().map(|v| Extent::decode(&v).unwrap()) else { return };
    if let Some(old) = txn.view().get(&to).unwrap().map(|v| Extent::decode(&v).unwrap()) {
        txn.free(&old);
    }
    let whole = content[&from.object].clone();
    let parts = txn.share(&source).unwrap();
    // Content in several places: the first of them.
    txn.insert(to, &parts[0].encode()).unwrap();
    parts[1..].iter().for_each(|part| txn.free(part));
    content.insert(to.object, whole[..parts[0].len_bytes() as usize].to_vec());
}

/// Ranges that histories have had moved.
static MOVED: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

/// Plans of histories that freed something, that freed less than they let go of, and of which something stayed.
static PLANNED: [std::sync::atomic::AtomicUsize; 3] = [const { std::sync::atomic::AtomicUsize::new(0) }; 3];

/// Snapshots of which a list does not tell what only they have, and of which it does.
static TOLD: [std::sync::atomic::AtomicUsize; 2] = [const { std::sync::atomic::AtomicUsize::new(0) }; 2];

/// A volume whose history is random, and what it must hold.
struct World {
    volume: Arc<Volume>,
    sim: Arc<Sim>,
    model: Model,
    /// States since the last that is durable, that one included.
    past: Vec<Model>,
    /// Views that somebody reads, and what they must show.
    readers: Vec<(View, Content)>,
    rng: fastrand::Rng,
    names: u32,
    seed: u64,
}

impl World {
    fn new(seed: u64) -> World {
        let sim = Arc::new(Sim::new(SIZE, seed));
        let copies = if seed.is_multiple_of(3) { Copies::One } else { Copies::Two };
        Volume::create_with(sim.clone(), SIZE, [seed as u8; 16], (0, 0), copies).unwrap();
        let volume = open(&sim);
        let main = Model::line(&volume.line(LineId::MAIN).unwrap(), Content::default());
        let model = Model { lines: [(LineId::MAIN, main)].into(), ..Model::default() };
        let (past, rng) = (vec![model.clone()], fastrand::Rng::with_seed(seed));
        World { volume, sim, model, past, readers: Vec::new(), rng, names: 0, seed }
    }

    fn some_line(&mut self) -> LineId {
        let lines: Vec<LineId> = self.model.lines.keys().copied().collect();
        lines[self.rng.usize(..lines.len())]
    }

    fn some_snapshot(&mut self) -> Option<ViewId> {
        let all: Vec<ViewId> = self.model.snapshots.keys().copied().collect();
        (!all.is_empty()).then(|| all[self.rng.usize(..all.len())])
    }

    fn new_name(&mut self) -> Vec<u8> {
        self.names += 1;
        format!("n{}", self.names).into_bytes()
    }

    /// What may happen while a commit is open, too.
    fn change(&mut self, dice: u8) {
        let line = self.some_line();
        match dice {
            0..=49 => write(&self.volume, line, self.model.write(line), &mut self.rng),
            50..=55 => share(&self.volume, line, self.model.write(line), &mut self.rng),
            56..=58 => self.switch_lines(),
            59..=69 => {
                if let Some(id) = self.some_snapshot() {
                    let own = self.model.snapshots[&id].line;
                    let other = self.model.lines.keys().find(|l| **l != own);
                    if let Some(other) = other {
                        assert!(self.volume.delete_snapshot(*other, id).is_err(), "through another line");
                    }
                    self.volume.delete_snapshot(own, id).unwrap();
                    self.model.snapshots.remove(&id);
                }
            }
            70..=77 => self.create_line(),
            78..=82 if line != LineId::MAIN => {
                let bases = self.bases();
                self.volume.drop_line(line).unwrap();
                self.model.lines.remove(&line);
                self.model.snapshots.retain(|_, s| s.line != line);
                self.take_bases(&bases, None);
            }
            83..=86 if line != LineId::MAIN => {
                let name = self.new_name();
                self.volume.rename_line(line, &name).unwrap();
                self.model.lines.get_mut(&line).unwrap().name = name;
            }
            _ => self.roll_back(line),
        }
        self.remember();
    }

    /// One transaction on several lines.
    fn switch_lines(&mut self) {
        let (first, second) = (self.some_line(), self.some_line());
        let key = Key::new(self.rng.u64(16..400), Kind::Inline, 0);
        let mut txn = self.volume.begin(first).unwrap();
        for line in [first, second, first] {
            // Content of another kind under this number stays out of it.
            let extent = Key::new(key.object, Kind::Extent, 0);
            txn.switch_to(line).unwrap();
            if txn.view().get(&extent).unwrap().is_none() {
                let value = vec![self.rng.u8(1..); 100];
                txn.insert(key, &value).unwrap();
                self.model.write(line).insert(key.object, value);
            }
            // A power cut may part them: each is a record.
            self.past.push(self.model.clone());
        }
        assert!(txn.switch_to(LineId(1 << 30)).is_err());
    }

    fn create_line(&mut self) {
        let Some(from) = self.some_snapshot().filter(|_| self.model.lines.len() < 5) else { return };
        let name = self.new_name();
        let record = self.volume.create_line(&name, from, (3, 4), &Provenance::default()).unwrap();
        assert_eq!((record.name == name, record.origin), (true, Some(from)));
        self.add_line(&record, from, self.model.snapshots[&from].content.clone());
    }

    /// The record of a new line with this origin.
    fn add_line(&mut self, record: &LineRecord, from: ViewId, content: Content) {
        let mut line = Model::line(record, content);
        let mut at = Some(from);
        while let Some(view) = at {
            line.inherited.insert(view);
            at = self.model.below[&view];
        }
        self.model.lines.insert(record.id, line);
    }

    /// Of a line as it is: its point is nobody's.
    fn clone_line(&mut self) {
        if self.model.lines.len() >= 5 {
            return;
        }
        let (from, name) = (self.some_line(), self.new_name());
        let (record, durable) =
            self.volume.clone_line(from, &name, (3, 4), &Provenance::default(), &mut |_| Ok(())).unwrap();
        assert!(
            self.volume.clone_line(from, &name, (3, 4), &Provenance::default(), &mut |_| Ok(())).is_err(),
            "the name is taken"
        );
        // If nothing has changed since the newest point, that is it, be it a snapshot or the point of another clone.
        let point = record.origin.unwrap();
        let model = self.model.lines.get_mut(&from).unwrap();
        if !self.model.below.contains_key(&point) {
            assert!(self.volume.snapshot_info(point).is_none());
            self.model.below.insert(point, model.base.replace(point));
        }
        let content = model.content.clone();
        self.add_line(&record, point, content);
        self.remember();
        if durable {
            self.is_durable();
        }
    }

    /// A line is compared with a snapshot, or with another line as that is now.
    fn rebase(&mut self) {
        let line = self.some_line();
        let (base, content) = match self.some_snapshot().filter(|_| self.rng.bool()) {
            Some(id) => (self.volume.snapshot(id).unwrap(), self.model.snapshots[&id].content.clone()),
            None => {
                let from = self.some_line();
                let point = self.volume.nameless_point(from, (3, 4)).unwrap();
                assert!(self.volume.snapshot_info(point.id()).is_none());
                // No line shows it, so it is in nobody's past.
                (point, self.model.lines[&from].content.clone())
            }
        };
        if line == LineId::MAIN {
            assert!(self.volume.set_base(line, Some(&base)).is_err(), "the main line came from nowhere");
            return;
        }
        self.volume.set_base(line, Some(&base)).unwrap();
        self.model.lines.get_mut(&line).unwrap().compared = Some(content);
        self.remember();
    }

    fn roll_back(&mut self, line: LineId) {
        let Some(to) = self.some_snapshot() else { return };
        let inherited = self.model.lines[&line].inherited.contains(&to);
        if self.model.snapshots[&to].line != line && !inherited {
            assert!(self.volume.rollback(line, to, (5, 6)).is_err(), "to what the line does not show");
            return;
        }
        let bases = self.bases();
        let record = self.volume.rollback(line, to, (5, 6)).unwrap();
        let content = self.model.snapshots[&to].content.clone();
        let model = self.model.lines.get_mut(&line).unwrap();
        (model.content, model.base) = (content, Some(to));
        model.head_generation = record.head_generation;
        self.take_bases(&bases, Some((line, to)));
    }

    /// What lines are compared with.
    fn bases(&self) -> BTreeMap<LineId, Option<ViewId>> {
        self.volume.lines().into_iter().map(|line| (line.id, line.base)).collect()
    }

    /// Some are compared with nothing now; one that was rolled back, as if it were made then.
    fn take_bases(&mut self, before: &BTreeMap<LineId, Option<ViewId>>, rolled: Option<(LineId, ViewId)>) {
        for (line, base) in self.bases().into_iter().filter(|(line, base)| before[line] != *base) {
            assert!(base.is_none() || rolled.is_some_and(|(of, to)| of == line && base == Some(to)));
            let content = base.map(|to| self.model.snapshots[&to].content.clone());
            self.model.lines.get_mut(&line).unwrap().compared = content;
        }
    }

    fn guard<'n>(name: &'n [u8], provenance: &'n Provenance) -> NewSnapshot<'n> {
        let consistency = Consistency::FileSystem;
        NewSnapshot { name, created: (1, 2), consistency, provenance, pause_ns: &|| 7, identity: None }
    }

    /// What the line had is a snapshot, in the same record.
    fn roll_back_with_guard(&mut self) {
        let (line, name, why) = (self.some_line(), self.new_name(), Provenance::default());
        let Some(to) = self.some_snapshot() else { return };
        let shown = self.model.snapshots[&to].line == line || self.model.lines[&line].inherited.contains(&to);
        let (guard, mut record) = (World::guard(&name, &why), None);
        let bases = self.bases();
        let switched = &mut |line: &LineRecord| record = Some(line.clone());
        let done = self.volume.rollback_with_guard(line, to, &guard, &mut |_| Ok(()), switched);
        assert_eq!(done.is_ok(), shown, "to what the line does not show");
        let Ok(id) = done else { return };
        self.add_guard(line, id, name);
        let content = self.model.snapshots[&to].content.clone();
        let model = self.model.lines.get_mut(&line).unwrap();
        (model.content, model.base) = (content, Some(to));
        model.head_generation = record.unwrap().head_generation;
        self.take_bases(&bases, Some((line, to)));
        self.remember();
    }

    fn add_guard(&mut self, line: LineId, id: ViewId, name: Vec<u8>) {
        let info = self.volume.snapshot_info(id).unwrap();
        let model = &self.model.lines[&line];
        self.model.below.insert(id, model.base);
        let (slot, content) = ((info.slot, info.generation), model.content.clone());
        self.model.snapshots.insert(id, SnapshotModel { line, name, slot, content, said: Vec::new() });
    }

    /// A line gets what another has.
    fn promote(&mut self) {
        let (from, line) = (self.some_line(), self.some_line());
        let (name, why) = (self.new_name(), Provenance::default());
        let (guard, mut record) = (World::guard(&name, &why), None);
        let bases = self.bases();
        let switched = &mut |line: &LineRecord| record = Some(line.clone());
        let done = self.volume.promote_with_guard(from, line, (&guard, &[]), &mut |_| Ok(()), switched);
        assert_eq!(done.is_ok(), from != line && from != LineId::MAIN);
        let Ok(id) = done else { return };
        self.add_guard(line, id, name);
        let gone = self.model.lines.remove(&from).unwrap();
        self.model.snapshots.values_mut().filter(|s| s.line == from).for_each(|s| s.line = line);
        let model = self.model.lines.get_mut(&line).unwrap();
        (model.content, model.base) = (gone.content, gone.base);
        model.head_generation = record.unwrap().head_generation;
        self.take_bases(&bases, None);
        self.remember();
    }

    fn remember(&mut self) {
        if self.past.last() != Some(&self.model) {
            self.past.push(self.model.clone());
        }
    }

    fn is_durable(&mut self) {
        self.past = vec![self.model.clone()];
    }

    fn create_snapshot(&mut self) {
        let (line, name) = (self.some_line(), self.new_name());
        let why = Provenance::default();
        let new = World::guard(&name, &why);
        let (id, durable) = self.volume.create_snapshot(line, &new, &mut |_| Ok(())).unwrap();
        let info = self.volume.snapshot_info(id).unwrap();
        let model = self.model.lines.get_mut(&line).unwrap();
        self.model.below.insert(id, model.base.replace(id));
        let (slot, content) = ((info.slot, info.generation), model.content.clone());
        self.model.snapshots.insert(id, SnapshotModel { line, name, slot, content, said: Vec::new() });
        self.remember();
        if durable {
            self.is_durable();
        }
    }

    /// Content of a snapshot moves, and nobody sees anything of it.
    fn copy_out(&mut self) {
        let Some(id) = self.some_snapshot() else { return };
        let view = self.volume.snapshot(id).unwrap();
        let extents = view.range(&Key::MIN, &Key::MAX).filter_map(|item| {
            let (key, value) = item.unwrap();
            let extent = Extent::decode(&value).ok().filter(|_| key.kind == Kind::Extent as u8)?;
            let blocks = extent.len_bytes() / 4096;
            let from = self.rng.u64(0..blocks);
            let len = self.rng.u64(1..=blocks - from);
            (self.rng.u8(0..4) == 0).then(|| extent.slice(4096 * from, 4096 * len))
        });
        let extents: Vec<Extent> = extents.collect();
        self.volume.copy_out(&view, &extents).unwrap();
        MOVED.fetch_add(extents.len(), std::sync::atomic::Ordering::Relaxed);
    }

    fn describe_snapshot(&mut self) {
        let Some(id) = self.some_snapshot() else { return };
        let said = vec![self.rng.u8(..); self.rng.usize(0..40)];
        self.volume.describe_snapshot(self.model.snapshots[&id].line, id, &said).unwrap();
        self.model.snapshots.get_mut(&id).unwrap().said = said;
        self.remember();
    }

    fn rename_snapshot(&mut self) {
        if self.rng.bool() {
            return self.describe_snapshot();
        }
        let Some(id) = self.some_snapshot() else { return };
        let name = self.new_name();
        self.volume.rename_snapshot(self.model.snapshots[&id].line, id, &name).unwrap();
        self.model.snapshots.get_mut(&id).unwrap().name = name;
        self.remember();
    }

    /// Things happen between the freeze and the end of it.
    fn commit(&mut self, changes: usize) {
        let volume = self.volume.clone();
        let mut session = volume.begin_commit().unwrap();
        session.freeze(&mut |_| Ok(())).unwrap();
        let durable = self.past.len();
        self.past.push(self.model.clone());
        for _ in 0..changes {
            let dice = self.rng.u8(0..100);
            self.change(dice);
        }
        session.finish().unwrap();
        self.past.drain(..durable);
        audit(&self.volume, self.seed);
    }

    /// Opens what is left of the device.
    fn reopen(&mut self) {
        self.readers.clear();
        self.volume = open(&self.sim);
    }

    /// Somebody begins to read a snapshot and a head, and goes on whatever becomes of them.
    fn read_on(&mut self) {
        if let Some(id) = self.some_snapshot() {
            let view = self.volume.snapshot(id).unwrap();
            self.readers.push((View::clone(&view), self.model.snapshots[&id].content.clone()));
        }
        let line = self.some_line();
        let view = self.volume.live(line).unwrap();
        self.readers.push((view, self.model.lines[&line].content.clone()));
        self.readers.drain(..self.readers.len().saturating_sub(5));
    }

    /// Commits until nothing waits any more.
    fn settle(&mut self) {
        let volume = self.volume.clone();
        for _ in 0..3 {
            volume.commit(&mut |_| Ok(())).unwrap();
        }
        while volume.has_background_work() {
            volume.commit(&mut |_| Ok(())).unwrap();
        }
        self.is_durable();
    }

    /// What is planned is what comes back, and the parts of the space add up.
    fn plan(&mut self) {
        if self.rng.bool() {
            self.readers.clear();
        }
        self.settle();
        let volume = self.volume.clone();
        let snapshots: Vec<ViewId> =
            self.model.snapshots.keys().copied().filter(|_| self.rng.u8(0..3) == 0).collect();
        let lines: Vec<LineId> = self.model.lines.keys().copied().collect();
        let lines: Vec<LineId> =
            lines.into_iter().filter(|line| *line != LineId::MAIN && self.rng.u8(0..3) == 0).collect();
        let planner = volume.planner().unwrap();
        let (before, plan) = (planner.parts().unwrap(), planner.plan(&snapshots, &lines).unwrap());
        self.compare_exclusive(&planner);
        drop(planner);
        let reached = |parts: &SpaceParts| parts.live + parts.snapshots;
        // Readers keep deleted snapshots, and nothing else is left over.
        assert_eq!(before.used, reached(&before) + before.tables, "seed {}: {before:?}", self.seed);
        for line in &lines {
            let bases = self.bases();
            volume.drop_line(*line).unwrap();
            self.model.lines.remove(line);
            self.model.snapshots.retain(|_, s| s.line != *line);
            self.take_bases(&bases, None);
        }
        for id in &snapshots {
            if let Some(gone) = self.model.snapshots.remove(id) {
                volume.delete_snapshot(gone.line, *id).unwrap();
            }
        }
        self.remember();
        self.settle();
        let after = volume.planner().unwrap().parts().unwrap();
        let came_back = reached(&before) - reached(&after);
        assert_eq!(came_back, plan.freed, "seed {}: {snapshots:?} {lines:?} {plan:?}", self.seed);
        let for_readers = plan.staying.iter().filter(|stays| stays.stays_for == StaysFor::Reader);
        let for_readers: u64 = for_readers.map(|stays| stays.freed).sum();
        if for_readers > 0 && self.readers.len() > 1 {
            self.readers.clear();
            self.settle();
            let after = volume.planner().unwrap().parts().unwrap();
            let came_back = reached(&before) - reached(&after);
            assert!(came_back >= plan.freed + for_readers, "seed {}: {plan:?}", self.seed);
        }
        let counted = [plan.freed, plan.shared, plan.staying.len() as u64];
        PLANNED.iter().zip(counted).for_each(|(sum, n)| {
            sum.fetch_add(usize::from(n > 0), std::sync::atomic::Ordering::Relaxed);
        });
    }

    /// What lists tell of snapshots is what deleting each would free, or nothing where lines part.
    fn compare_exclusive(&self, planner: &Planner<'_>) {
        for s in self.volume.lines().iter().flat_map(|line| self.volume.own_snapshots(line.id)) {
            let only = planner.exclusive(s.id).unwrap();
            let is_told = s.exclusive.is_some();
            assert!(!is_told || s.exclusive == Some(only), "seed {}: {only}, not as in {s:?}", self.seed);
            TOLD[usize::from(is_told)].fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    fn step(&mut self) {
        match self.rng.u8(0..100) {
            0..=11 => self.create_snapshot(),
            12 => self.rename_snapshot(),
            26..=28 => self.clone_line(),
            29..=32 => self.rebase(),
            13..=17 => {
                let changes = if self.rng.bool() { 0 } else { self.rng.usize(1..6) };
                self.commit(changes);
            }
            18..=19 => {
                if self.volume.sync().unwrap() {
                    self.is_durable();
                }
            }
            20 => {
                // Killed: everything that was written is there, flushed or not.
                self.reopen();
                compare(&self.volume, &self.model, self.seed);
                self.is_durable();
                audit(&self.volume, self.seed);
            }
            21..=22 => {
                self.sim = Arc::new(self.sim.crash(CrashPolicy::Random(self.rng.u64(..))));
                self.reopen();
                self.model = find_prefix(&self.volume, &self.past, self.seed);
                self.is_durable();
                audit(&self.volume, self.seed);
            }
            23..=24 => {
                compare(&self.volume, &self.model, self.seed);
                for (view, expected) in &self.readers {
                    let held = content(view) == *expected;
                    assert!(held, "seed {}: a reader of view {} differs", self.seed, view.id().0);
                }
                let stay = self.rng.usize(..=self.readers.len());
                self.readers.truncate(stay);
            }
            25 => self.read_on(),
            37..=42 | 44..=46 => self.copy_out(),
            43 => self.plan(),
            33..=34 => self.roll_back_with_guard(),
            35..=36 => self.promote(),
            _ => {
                let dice = self.rng.u8(0..100);
                self.change(dice);
            }
        }
    }

    /// Without snapshots and other lines the space is what the main line needs, whatever happened before.
    fn end(&mut self) {
        self.readers.clear();
        let (volume, seed) = (&self.volume, self.seed);
        compare(volume, &self.model, seed);
        for line in self.model.lines.keys().filter(|l| **l != LineId::MAIN) {
            volume.drop_line(*line).unwrap();
        }
        let main = LineId::MAIN;
        volume.snapshots(main).iter().for_each(|s| volume.delete_snapshot(main, s.id).unwrap());
        for _ in 0..6 {
            volume.commit(&mut |_| Ok(())).unwrap();
        }
        audit(volume, seed);
        let state = volume.committed().unwrap();
        let left = (state.records.len(), state.lines.len(), state.jobs.len());
        assert_eq!(left, (1, 1, 0), "seed {seed}");
        let meta = (2 * state.space_map.len() as u64 + 8) * volume.metadata_copies().node_bytes();
        let (used, live) = (volume.space().used, state.records[0].referenced);
        assert!(used <= live + meta, "seed {seed}: {used} bytes in use for {live} of live data");
    }
}

fn history(seed: u64, steps: usize) {
    let mut world = World::new(seed);
    (0..steps).for_each(|_| world.step());
    world.end();
}

#[test]
fn random_histories() {
    for seed in 0..150 {
        history(seed, 150);
    }
    assert!(MOVED.load(std::sync::atomic::Ordering::Relaxed) > 1000, "content moved meanwhile");
    let planned = PLANNED.each_ref().map(|sum| sum.load(std::sync::atomic::Ordering::Relaxed));
    assert!(planned[0] > 50 && planned[1] > 0 && planned[2] > 10, "{planned:?}");
    let told = TOLD.each_ref().map(|sum| sum.load(std::sync::atomic::Ordering::Relaxed));
    assert!(told.iter().all(|sum| *sum > 100), "{told:?}");
}

#[test]
fn long_history() {
    history(4711, 1500);
}

pub(super) fn put(txn: &mut Txn<'_>, object: u64, value: &[u8]) {
    txn.insert(Key::new(object, Kind::Inline, 0), value).unwrap();
}

pub(super) fn new_snapshot(volume: &Volume, line: LineId, name: &[u8]) -> Result<ViewId> {
    let new = NewSnapshot {
        name,
        created: (1, 2),
        consistency: Consistency::Crash,
        provenance: &Provenance::default(),
        pause_ns: &|| 1,
        identity: None,
    };
    volume.create_snapshot(line, &new, &mut |_| Ok(())).map(|(id, _)| id)
}
