//! The lines of a store: which head each has, and which snapshots by which names.
//!
//! Invariants: each line has one head, whose record says that it is the line's; names of lines are unique, and so are names
//! of snapshots in a line, those that it has from its origin included. Not synchronised: the state's lock covers every call.

use super::error::corrupt;
use super::history::History;
use super::slots::Slots;
use super::{Result, VolumeError};
use crate::format::line::LineRecord;
use crate::format::superblock::Superblock;
use crate::format::view::{Role, ViewRecord};
use crate::format::{LineId, Slot, ViewId};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The name that the point of a clone has in the log, until the end of its record. No snapshot is called so.
pub(super) const POINT_NAME: &[u8] = b".clone";

/// A line and its snapshots.
#[derive(Clone)]
pub(super) struct Line {
    pub record: LineRecord,
    names: HashMap<Vec<u8>, ViewId>,
    numbers: BTreeSet<ViewId>,
    /// Snapshots among its origin and the views below that, as it was made: some may be hidden or gone.
    inherited: BTreeSet<ViewId>,
}

impl Line {
    fn new(record: LineRecord, history: &History) -> Line {
        let mut inherited = BTreeSet::new();
        let mut at = record.origin.and_then(|id| history.get(id));
        while let Some(view) = at {
            // Points of clones are nobody's to see.
            if view.role == Role::Snapshot && view.line != LineId::NONE && view.name != POINT_NAME {
                inherited.insert(view.id);
            }
            at = view.prev.and_then(|id| history.get(id));
        }
        Line { record, names: HashMap::new(), numbers: BTreeSet::new(), inherited }
    }
}

/// All lines.
#[derive(Clone)]
pub(super) struct Lines {
    map: BTreeMap<LineId, Line>,
    by_name: HashMap<Vec<u8>, LineId>,
    pub next: LineId,
    pub slots: Slots,
    /// Slot to snapshot.
    by_slot: BTreeMap<Slot, ViewId>,
    dirty: BTreeSet<LineId>,
    /// Records as of the newest freeze.
    frozen: BTreeMap<LineId, LineRecord>,
}

impl Lines {
    /// The lines of a state, whose records were proved by [`check`].
    pub fn load(superblock: &Superblock, records: Vec<LineRecord>, history: &History) -> Lines {
        let mut lines = Lines {
            map: BTreeMap::new(),
            by_name: HashMap::new(),
            next: superblock.next_line,
            slots: Slots::new(superblock.next_generation),
            by_slot: BTreeMap::new(),
            dirty: BTreeSet::new(),
            frozen: BTreeMap::new(),
        };
        for record in records {
            lines.frozen.insert(record.id, record.clone());
            lines.add(record, history);
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
        self.map.values().map(|line| &line.record)
    }

    /// Lines with numbers above `after`.
    pub fn records_after(&self, after: LineId) -> impl Iterator<Item = &LineRecord> {
        self.map.range(LineId(after.0.saturating_add(1))..).map(|(_, line)| &line.record)
    }

    /// The line that was made last.
    pub fn newest(&self) -> Option<&LineRecord> {
        self.map.values().next_back().map(|line| &line.record)
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

    /// The snapshot of that name that a line shows.
    pub fn snapshot(&self, line: LineId, name: &[u8]) -> Option<ViewId> {
        let line = self.map.get(&line)?;
        let own = line.names.get(name).copied();
        own.or_else(|| {
            let named = self.map.values().filter_map(|other| other.names.get(name));
            named.copied().find(|id| line.inherited.contains(id))
        })
    }

    /// True if a line has the view from its origin.
    pub fn inherits(&self, line: LineId, id: ViewId) -> bool {
        self.map.get(&line).is_some_and(|l| l.inherited.contains(&id))
    }

    /// True if another snapshot of that name keeps `id` from having it, in its line or in one that inherits it.
    pub fn name_is_taken(&self, line: LineId, id: ViewId, name: &[u8]) -> bool {
        let heirs = self.map.values().filter(|l| l.inherited.contains(&id));
        self.snapshot(line, name).is_some() || heirs.into_iter().any(|l| l.names.contains_key(name))
    }

    /// Numbers of the snapshots that a line shows, above `after`; with some that it does not show any more.
    pub fn numbers_after(&self, line: LineId, after: ViewId) -> impl DoubleEndedIterator<Item = ViewId> + '_ {
        let from = ViewId(after.0.saturating_add(1))..;
        let line = self.map.get(&line);
        // Everything of its own is younger than what it inherited, for that was there when it was made.
        let inherited = line.into_iter().flat_map({
            let from = from.clone();
            move |l| l.inherited.range(from.clone())
        });
        inherited.chain(line.into_iter().flat_map(move |l| l.numbers.range(from.clone()))).copied()
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
    pub fn add(&mut self, record: LineRecord, history: &History) {
        self.next = self.next.max(LineId(record.id.0 + 1));
        self.slots.take(record.slot);
        self.slots.use_generation(record.generation);
        self.slots.use_generation(record.head_generation);
        if !record.name.is_empty() {
            self.by_name.insert(record.name.clone(), record.id);
        }
        self.dirty.insert(record.id);
        self.map.insert(record.id, Line::new(record, history));
    }

    /// Enters a snapshot with a free slot, under its name if it is of a line.
    pub fn add_snapshot(&mut self, view: &ViewRecord) {
        self.slots.take(view.slot);
        self.slots.use_generation(view.generation);
        if let Some(line) = self.map.get_mut(&view.line) {
            line.names.insert(view.name.clone(), view.id);
            line.numbers.insert(view.id);
            self.by_slot.insert(view.slot, view.id);
        }
    }

    /// A snapshot is of no line any more.
    pub fn forget_snapshot(&mut self, view: &ViewRecord) {
        if let Some(line) = self.map.get_mut(&view.line) {
            line.names.remove(&view.name);
            line.numbers.remove(&view.id);
            self.by_slot.remove(&view.slot);
        }
    }

    pub fn rename_snapshot(&mut self, view: &ViewRecord, name: &[u8]) {
        if let Some(line) = self.map.get_mut(&view.line) {
            line.names.remove(&view.name);
            line.names.insert(name.to_vec(), view.id);
        }
    }

    /// Changes the record of a line; its number and name stay.
    pub fn change(&mut self, line: LineId, change: impl FnOnce(&mut LineRecord)) {
        if let Some(line) = self.map.get_mut(&line) {
            change(&mut line.record);
            self.dirty.insert(line.record.id);
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
            self.dirty.insert(line);
        }
    }

    /// Records that changed since the last freeze, and numbers of those that went: what a commit writes.
    pub fn freeze(&mut self) -> BTreeMap<LineId, Option<LineRecord>> {
        let mut changes = BTreeMap::new();
        for id in std::mem::take(&mut self.dirty) {
            let record = self.map.get(&id).map(|l| l.record.clone());
            match &record {
                Some(record) => drop(self.frozen.insert(id, record.clone())),
                None => drop(self.frozen.remove(&id)),
            }
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
        for line in self.map.values_mut() {
            line.inherited.remove(&view);
            if line.record.origin == Some(view) {
                line.record.origin = below;
            }
        }
        for record in self.frozen.values_mut().filter(|r| r.origin == Some(view)) {
            record.origin = below;
            changes.insert(record.id, Some(record.clone()));
        }
    }
}

/// What superblock, line records and view records must say about each other.
pub(super) fn check(superblock: &Superblock, lines: &[LineRecord], views: &[ViewRecord]) -> Result<()> {
    let heads: HashMap<ViewId, &ViewRecord> =
        views.iter().filter(|v| v.role == Role::Head).map(|v| (v.id, v)).collect();
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
