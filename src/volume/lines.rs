//! The lines of a store: which head each has, and which snapshots by which names.
//!
//! Invariants: each line has one head, whose record says that it is the line's; names of lines are unique, and so are names
//! of snapshots in a line, those that it has from its origin included. Not synchronised: the state's lock covers every call.

use super::error::corrupt;
use super::history::History;
use super::slots::Slots;
use super::{Result, VolumeError, visits};
use crate::format::line::{LineRecord, LineState};
use crate::format::superblock::Superblock;
use crate::format::view::{Role, ViewRecord};
use crate::format::{LineId, Slot, ViewId};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// The name that the point of a clone has in the log, until the end of its record. No snapshot is called so.
pub(super) const POINT_NAME: &[u8] = b".clone";

/// A line and its snapshots.
#[derive(Clone)]
pub(super) struct Line {
    pub record: LineRecord,
    numbers: BTreeSet<ViewId>,
}

/// All lines.
#[derive(Clone)]
pub(super) struct Lines {
    map: BTreeMap<LineId, Line>,
    by_name: HashMap<Vec<u8>, LineId>,
    /// Snapshots by name: one of each line at most.
    snapshots: HashMap<Vec<u8>, BTreeMap<LineId, ViewId>>,
    /// The origins of all lines, now and as of the newest freeze.
    origins: BTreeSet<(ViewId, LineId)>,
    pub next: LineId,
    pub slots: Slots,
    /// Slot to snapshot.
    by_slot: BTreeMap<Slot, ViewId>,
    /// Lines that may go by themselves.
    ending: BTreeSet<LineId>,
    /// Lines of which snapshots are taken by themselves.
    scheduled: BTreeSet<LineId>,
    /// Lines that are being received.
    receiving: BTreeSet<LineId>,
    /// How often one has come, gone or changed.
    pub changes: u64,
    dirty: BTreeSet<LineId>,
    /// How many lines are compared with a snapshot.
    bases: HashMap<ViewId, usize>,
    /// Records as of the newest freeze.
    frozen: BTreeMap<LineId, LineRecord>,
}

impl Lines {
    /// The lines of a state, whose records were proved by [`check`].
    pub fn load(superblock: &Superblock, records: Vec<LineRecord>, history: &History) -> Lines {
        let mut lines = Lines {
            map: BTreeMap::new(),
            by_name: HashMap::new(),
            snapshots: HashMap::new(),
            origins: BTreeSet::new(),
            next: superblock.next_line,
            slots: Slots::new(superblock.next_generation),
            by_slot: BTreeMap::new(),
            ending: BTreeSet::new(),
            scheduled: BTreeSet::new(),
            receiving: BTreeSet::new(),
            changes: 0,
            dirty: BTreeSet::new(),
            bases: HashMap::new(),
            frozen: BTreeMap::new(),
        };
        for record in records {
            lines.frozen.insert(record.id, record.clone());
            lines.add(record);
        }
        lines.dirty.clear();
        for view in history.views().filter(|v| v.role == Role::Snapshot) {
            lines.add_snapshot(view);
        }
        lines
    }

    /// Lines whose records the next commit will write or remove.
    pub fn changed(&self) -> usize {
        self.dirty.len()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.map.len()
    }

    pub fn get(&self, line: LineId) -> Option<&Line> {
        self.map.get(&line)
    }

    pub fn records(&self) -> impl Iterator<Item = &LineRecord> {
        self.map.values().map(|line| &line.record).inspect(|_| visits::count())
    }

    /// Lines with numbers above `after`.
    pub fn records_after(&self, after: LineId) -> impl DoubleEndedIterator<Item = &LineRecord> {
        self.map.range(LineId(after.0.saturating_add(1))..).map(|(_, line)| &line.record)
    }

    /// Those that may go by themselves.
    pub fn ending(&self) -> impl Iterator<Item = &LineRecord> {
        self.of(&self.ending)
    }

    /// Those of which snapshots are taken by themselves.
    pub fn scheduled(&self) -> impl Iterator<Item = &LineRecord> {
        self.of(&self.scheduled)
    }

    /// Those that are being received.
    pub fn receiving(&self) -> impl Iterator<Item = &LineRecord> {
        self.of(&self.receiving)
    }

    fn of(&self, some: &BTreeSet<LineId>) -> impl Iterator<Item = &LineRecord> {
        some.iter().filter_map(|id| Some(&self.map.get(id)?.record)).inspect(|_| visits::count())
    }

    /// The record of a line is new, is another, or is gone: has those be found that are looked for often.
    fn enter(&mut self, line: LineId) {
        self.changes += 1;
        let record = self.map.get(&line).map(|line| &line.record);
        let is = |what: fn(&LineRecord) -> bool| record.is_some_and(what);
        for (all, is_in) in [
            (&mut self.ending, is(|record| record.terms.ends())),
            (&mut self.scheduled, is(|record| !record.schedules.is_empty())),
            (&mut self.receiving, is(|record| record.state == LineState::Receiving)),
        ] {
            if is_in {
                all.insert(line)
            } else {
                all.remove(&line)
            };
        }
    }

    /// The head of a line.
    pub fn head(&self, line: LineId) -> Option<ViewId> {
        self.map.get(&line).map(|line| line.record.head)
    }

    pub fn find(&self, name: &[u8]) -> Option<LineId> {
        self.by_name.get(name).copied()
    }

    /// The snapshot that has a slot.
    pub fn at_slot(&self, slot: Slot) -> Option<ViewId> {
        self.by_slot.get(&slot).copied()
    }

    /// The snapshot of that name that a line shows: its own, or the newest that it has from its origin. It may have several from there, if
    /// the line that it was made from had become what a clone of a third one was.
    pub fn snapshot(&self, history: &History, line: LineId, name: &[u8]) -> Option<ViewId> {
        let named = self.snapshots.get(name)?;
        let own = named.get(&line).copied();
        own.or_else(|| named.values().copied().filter(|id| self.inherits(history, line, *id)).max())
    }

    /// True if what a line has is what it shows under that name.
    pub fn shows(&self, history: &History, line: LineId, view: &ViewRecord) -> bool {
        let is_one = self.snapshots.get(&view.name).is_some_and(|named| named.len() == 1);
        is_one || self.snapshot(history, line, &view.name) == Some(view.id)
    }

    /// True if a line has the view from its origin: it is that or below it. It may be hidden, or nobody's.
    pub fn inherits(&self, history: &History, line: LineId, id: ViewId) -> bool {
        let origin = self.map.get(&line).and_then(|l| l.record.origin);
        origin.is_some_and(|origin| history.is_below(id, origin))
    }

    /// True if a snapshot of that name is this view or below it.
    pub fn is_named_below(&self, history: &History, view: ViewId, name: &[u8]) -> bool {
        let mut named = self.snapshots.get(name).into_iter().flat_map(BTreeMap::values);
        named.any(|id| history.is_below(*id, view))
    }

    /// True if another snapshot of that name keeps `id` from having it, in its line or in one that inherits it.
    pub fn name_is_taken(&self, history: &History, line: LineId, id: ViewId, name: &[u8]) -> bool {
        let mut heirs = self.snapshots.get(name).into_iter().flat_map(BTreeMap::keys);
        self.snapshot(history, line, name).is_some() || heirs.any(|heir| self.inherits(history, *heir, id))
    }

    /// Numbers of a line's own snapshots above `after`. All are younger than what it has from its origin.
    pub fn own_after(&self, line: LineId, after: ViewId) -> impl DoubleEndedIterator<Item = ViewId> + '_ {
        let from = ViewId(after.0.saturating_add(1))..;
        self.map.get(&line).into_iter().flat_map(move |l| l.numbers.range(from.clone())).copied()
    }

    /// The newest view that a line has in common with the one that it was made from.
    pub fn origin(&self, line: LineId) -> Option<ViewId> {
        self.map.get(&line)?.record.origin
    }

    /// Snapshots of a line's own of whose names a second line shows another one.
    pub fn names_of_both<'h>(
        &'h self,
        history: &'h History,
        from: LineId,
        to: LineId,
    ) -> impl Iterator<Item = &'h ViewRecord> {
        let own = self.own_after(from, ViewId(0)).filter_map(|id| history.get(id));
        own.filter(move |v| self.snapshot(history, to, &v.name).is_some_and(|other| other != v.id))
    }

    /// True if a snapshot of a line's own has the name.
    pub fn has_own(&self, line: LineId, name: &[u8]) -> bool {
        self.snapshots.get(name).is_some_and(|named| named.contains_key(&line))
    }

    /// Gives all snapshots of a line's own to another, which has no other ones of their names.
    pub fn hand_over(&mut self, history: &History, from: LineId, to: LineId) {
        let Some(line) = self.map.get_mut(&from) else { return };
        let numbers = std::mem::take(&mut line.numbers);
        for view in numbers.iter().filter_map(|id| history.get(*id)) {
            let named = self.snapshots.entry(view.name.clone()).or_default();
            named.remove(&from);
            named.insert(to, view.id);
        }
        if let Some(line) = self.map.get_mut(&to) {
            line.numbers.extend(numbers);
        }
    }

    /// Number of snapshots of a line's own.
    pub fn own_count(&self, line: LineId) -> usize {
        self.map.get(&line).map_or(0, |l| l.numbers.len())
    }

    /// Numbers of a line's own snapshots.
    pub fn own(&self, line: LineId) -> Vec<ViewId> {
        self.map.get(&line).map_or(Vec::new(), |l| l.numbers.iter().copied().collect())
    }

    /// Enters a line with a free name and a free slot.
    pub fn add(&mut self, record: LineRecord) {
        self.next = self.next.max(LineId(record.id.0 + 1));
        self.slots.take(record.slot);
        self.slots.use_generation(record.generation);
        self.slots.use_generation(record.head_generation);
        if !record.name.is_empty() {
            self.by_name.insert(record.name.clone(), record.id);
        }
        let id = record.id;
        self.dirty.insert(id);
        self.origins.extend(record.origin.map(|origin| (origin, id)));
        record.base.into_iter().for_each(|base| *self.bases.entry(base).or_default() += 1);
        self.map.insert(id, Line { record, numbers: BTreeSet::new() });
        self.enter(id);
    }

    /// Enters a snapshot with a free slot, under its name if it is of a line.
    pub fn add_snapshot(&mut self, view: &ViewRecord) {
        self.slots.take(view.slot);
        self.slots.use_generation(view.generation);
        if let Some(line) = self.map.get_mut(&view.line) {
            line.numbers.insert(view.id);
            self.by_slot.insert(view.slot, view.id);
            self.snapshots.entry(view.name.clone()).or_default().insert(view.line, view.id);
        }
    }

    /// A snapshot is of no line any more.
    pub fn forget_snapshot(&mut self, view: &ViewRecord) {
        if let Some(line) = self.map.get_mut(&view.line) {
            line.numbers.remove(&view.id);
            self.by_slot.remove(&view.slot);
            self.forget_name(view);
        }
    }

    fn forget_name(&mut self, view: &ViewRecord) {
        if let Some(named) = self.snapshots.get_mut(&view.name) {
            named.remove(&view.line);
            if named.is_empty() {
                self.snapshots.remove(&view.name);
            }
        }
    }

    pub fn rename_snapshot(&mut self, view: &ViewRecord, name: &[u8]) {
        if self.map.contains_key(&view.line) {
            self.forget_name(view);
            self.snapshots.entry(name.to_vec()).or_default().insert(view.line, view.id);
        }
    }

    /// Changes the record of a line; its number and name stay.
    pub fn change(&mut self, line: LineId, change: impl FnOnce(&mut LineRecord)) {
        if let Some(of) = self.map.get_mut(&line) {
            change(&mut of.record);
            self.dirty.insert(line);
            self.origins.extend(of.record.origin.map(|origin| (origin, line)));
            self.enter(line);
        }
    }

    /// A record of a line had an origin: it may have another now.
    fn forget_origin(&mut self, line: LineId, origin: Option<ViewId>) {
        let Some(origin) = origin else { return };
        let now = self.map.get(&line).map(|l| &l.record);
        let records = now.into_iter().chain(self.frozen.get(&line));
        if !records.into_iter().any(|record| record.origin == Some(origin)) {
            self.origins.remove(&(origin, line));
        }
    }

    pub fn rename(&mut self, line: LineId, name: &[u8]) {
        let old = self.map.get(&line).map(|l| l.record.name.clone()).unwrap_or_default();
        self.by_name.remove(&old);
        self.by_name.insert(name.to_vec(), line);
        self.change(line, |record| record.name = name.to_vec());
    }

    /// A line without snapshots goes.
    pub fn remove(&mut self, line: LineId) {
        if let Some(gone) = self.map.remove(&line) {
            self.by_name.remove(&gone.record.name);
            self.enter(line);
            self.dirty.insert(line);
            self.forget_origin(line, gone.record.origin);
            self.leave_base(gone.record.base);
        }
    }

    /// True if a line is compared with the snapshot.
    pub fn is_base(&self, id: ViewId) -> bool {
        self.bases.contains_key(&id)
    }

    /// What lines are compared with.
    pub fn bases(&self) -> HashSet<ViewId> {
        self.bases.keys().copied().collect()
    }

    /// What lines are compared with as of the newest freeze.
    pub fn frozen_bases(&self) -> HashSet<ViewId> {
        self.frozen.values().filter_map(|record| record.base).collect()
    }

    /// Has a line be compared with another snapshot, or with none.
    pub fn set_base(&mut self, line: LineId, base: Option<ViewId>) {
        let Some(of) = self.map.get_mut(&line) else { return };
        let old = std::mem::replace(&mut of.record.base, base);
        self.changes += 1;
        self.dirty.insert(line);
        base.into_iter().for_each(|base| *self.bases.entry(base).or_default() += 1);
        self.leave_base(old);
    }

    fn leave_base(&mut self, base: Option<ViewId>) {
        let Some(base) = base else { return };
        if let Some(count) = self.bases.get_mut(&base) {
            *count -= 1;
            if *count == 0 {
                self.bases.remove(&base);
            }
        }
    }

    /// Records that changed since the last freeze, and numbers of those that went: what a commit writes.
    pub fn freeze(&mut self) -> BTreeMap<LineId, Option<LineRecord>> {
        let mut changes = BTreeMap::new();
        for id in std::mem::take(&mut self.dirty) {
            let record = self.map.get(&id).map(|l| l.record.clone());
            let old = match &record {
                Some(record) => self.frozen.insert(id, record.clone()),
                None => self.frozen.remove(&id),
            };
            self.forget_origin(id, old.and_then(|old| old.origin));
            changes.insert(id, record);
        }
        changes
    }

    /// A view went and this one is below it: lines whose origin it was have another. The open commit writes that too.
    pub fn origin_gone(
        &mut self,
        view: ViewId,
        below: Option<ViewId>,
        changes: &mut BTreeMap<LineId, Option<LineRecord>>,
    ) {
        let lines = self.origins.range((view, LineId(0))..=(view, LineId(u64::MAX)));
        for id in lines.map(|(_, id)| *id).collect::<Vec<_>>() {
            self.origins.remove(&(view, id));
            self.origins.extend(below.map(|below| (below, id)));
            if let Some(line) = self.map.get_mut(&id).filter(|l| l.record.origin == Some(view)) {
                line.record.origin = below;
            }
            if let Some(record) = self.frozen.get_mut(&id).filter(|r| r.origin == Some(view)) {
                record.origin = below;
                changes.insert(id, Some(record.clone()));
            }
        }
    }
}

/// What superblock, line records and view records must say about each other.
pub(super) fn check(superblock: &Superblock, lines: &[LineRecord], views: &[ViewRecord]) -> Result<()> {
    let heads: HashMap<ViewId, &ViewRecord> =
        views.iter().filter(|v| v.role == Role::Head).map(|v| (v.id, v)).collect();
    let snapshots: HashSet<ViewId> =
        views.iter().filter(|v| v.role == Role::Snapshot).map(|v| v.id).collect();
    let mut found = Found { superblock, slots: BTreeSet::new(), lines: BTreeSet::new() };
    let mut names = BTreeSet::new();
    for line in lines {
        let what = format!("line {}", line.id.0);
        if line.id >= superblock.next_line || !found.lines.insert(line.id) || !names.insert(&line.name) {
            return Err(corrupt(format!(
                "{what} has another's number or name, or one that was not given yet"
            )));
        }
        if heads.get(&line.head).is_none_or(|head| head.line != line.id) {
            return Err(corrupt(format!("view {} is not the head of {what}", line.head.0)));
        }
        if line.origin.is_some_and(|id| id >= superblock.next_view) {
            return Err(corrupt(format!("{what} has an origin that was never made")));
        }
        if line.base.is_some_and(|id| !snapshots.contains(&id)) {
            return Err(corrupt(format!("{what} is compared with what is no snapshot")));
        }
        found.slot(&what, line.slot, &[line.generation.0, line.head_generation.0])?;
    }
    if !found.lines.contains(&LineId::MAIN) {
        return Err(corrupt("the main line has no record".into()));
    }
    let of_lines = heads.values().filter(|head| head.line != LineId::NONE).count();
    if of_lines != lines.len() {
        return Err(corrupt(format!("{of_lines} heads are those of {} lines", lines.len())));
    }
    let mut names = BTreeSet::new();
    for view in views.iter().filter(|v| v.role == Role::Snapshot) {
        let what = format!("snapshot {}", view.id.0);
        if view.line != LineId::NONE {
            found.name(&what, view.line, &view.name, &mut names)?;
        }
        found.slot(&what, view.slot, &[view.generation.0])?;
    }
    for point in &superblock.pending {
        let what = format!("pending snapshot {}", point.id.0);
        found.name(&what, point.line, &point.name, &mut names)?;
        found.slot(&what, point.slot, &[point.generation.0])?;
    }
    Ok(())
}

struct Found<'a> {
    superblock: &'a Superblock,
    slots: BTreeSet<Slot>,
    lines: BTreeSet<LineId>,
}

impl Found<'_> {
    fn slot(&mut self, what: &str, slot: Slot, generations: &[u32]) -> Result<()> {
        let next = self.superblock.next_generation.0;
        if !self.slots.insert(slot) {
            return Err(corrupt(format!("{what} has slot {}, which is another's", slot.0)));
        }
        if next != 0 && generations.iter().any(|g| *g >= next) {
            return Err(corrupt(format!(
                "{what} has generation {generations:?}, not below the next, {next}"
            )));
        }
        Ok(())
    }

    fn name<'n>(
        &self,
        what: &str,
        line: LineId,
        name: &'n [u8],
        names: &mut BTreeSet<(LineId, &'n [u8])>,
    ) -> Result<()> {
        if !self.lines.contains(&line) {
            return Err(corrupt(format!("{what} is of line {}, which has no record", line.0)));
        }
        if !names.insert((line, name)) {
            return Err(corrupt(format!("{what} has the name of another of its line")));
        }
        Ok(())
    }
}

/// Why nothing new can be made.
pub(super) const NO_SLOT: VolumeError =
    VolumeError::LimitReached("all slots are taken (2^22 snapshots and clones): delete some");
/// The same.
pub(super) const NO_NUMBER: VolumeError = VolumeError::LimitReached("all numbers of clones are used up");
/// The same.
pub(super) const NO_GENERATION: VolumeError = VolumeError::LimitReached(
    "all generations are used up (2^32 snapshots and clones in the life of a store)",
);
