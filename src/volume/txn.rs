//! The transaction: write access to one head, published when it ends.
//!
//! When it ends, the log gets a record of what it did. There is no abort, but for what a commit brings in
//! ([`Txn::attempt`]). Whoever changes something else reads and checks first, reserves, then changes. If a change fails
//! half-way (a node cannot be read) the volume takes no further commit, so that the half is never made durable.

use super::attempt::{Attempt, Product};
use super::remap::reference;
use super::space::{BUCKET_OVERHEAD_NODES, DEFERRED_BYTES, NODES_PER_LEAF_OF_RECORDS, ReserveFor};
use super::staged::Staged;
use super::state::{Budget, Freed, LineBudget, StateTurn, VolumeState};
use super::view::Pin;
use super::{Access, Result, View, Volume, VolumeError};
use crate::format::deadlist::DeadEntry;
use crate::format::log::{Effect, Effects};
use crate::format::{BLOCK_BYTES, Epoch, Extent, Ino, Key, LineId, ViewId};
use crate::tree::{Child, Edit, Kept, Planned};

/// Space that an operation may need in the worst case: for what it changes now, and for content that is delayed until the
/// next commit.
#[derive(Clone, Copy, Default, Debug)]
pub struct Need {
    /// Items that it inserts, replaces or removes.
    pub items: u32,
    /// Bytes of file content that the operation delays. Their space stays reserved until the next commit.
    pub data_bytes: u64,
    /// Leaves of the head's tree that change when this content gets its place, as [`Need::leaves`] counts them. Those that
    /// were reserved for the same file before are not among them.
    pub leaves: u64,
    /// The same for files that have an inode and nothing else yet, as [`Need::beside`] counts them. Their content comes
    /// beside the inode, and the inode is in a leaf that has changed since the last commit anyway.
    pub beside: u64,
    /// How many of the blocks in `data_bytes` are for files that `beside` is about.
    pub beside_blocks: u64,
    /// Items without a value that will be inserted before the next commit, at the latest by it. Their keys are neighbours.
    pub later: u32,
    /// Compressed extents that may be cut in two, by the operation or by content that it delays. Each cut is an extra
    /// reference, for which the commit may write a leaf of the meta tree.
    pub cuts: u32,
    /// Nodes that were made already, beside the published trees.
    pub nodes: u64,
    /// References that are let go of.
    pub freed: u64,
}

impl Need {
    /// How many leaves, and nodes above them, change at most when so many blocks of content of a file get their places. The
    /// extents of the file are in `span` nodes, if that was counted.
    ///
    /// Two bounds hold, and the lower one counts. A block by itself changes a leaf and the node above it, and may split the
    /// leaf: three nodes. All blocks together split each of the `span` nodes once, which makes two of each, and split again
    /// whenever half a leaf is filled with new extents.
    pub fn leaves(blocks: u64, span: Option<usize>) -> u64 {
        span.map_or(3 * blocks, |span| (3 * blocks).min(2 * span as u64 + blocks / BLOCKS_IN_HALF_A_LEAF + 4))
    }

    /// The same for a file that has no extents yet.
    pub fn beside(blocks: u64) -> u64 {
        (2 * blocks).min(blocks / BLOCKS_IN_HALF_A_LEAF + 3)
    }
}

/// Nodes that a single item may dirty: the path and a split of each level.
const NODES_PER_ITEM: u64 = 5;
/// Nodes that a run of neighbouring items may dirty besides its leaves.
const NODES_OF_A_RUN: u64 = 40;
/// Neighbouring items in a leaf at least, on average.
const ITEMS_PER_LEAF_MIN: u64 = 8;
/// The same for items without a value.
const KEYS_PER_LEAF_MIN: u64 = 64;
/// Extents of single blocks that half a leaf holds, and what is left of the one that each cuts in two.
const BLOCKS_IN_HALF_A_LEAF: u64 = 30;
/// Nodes on the way to these.
const NODES_OF_LATER: u64 = 4;

/// Content that is held back may be put onto the device twice before it is where it stays.
const DELAYED_FACTOR: u64 = 2;
/// Dead references that a block of it leaves at most: what it replaces, and the leaf.
const FREED_PER_BLOCK: u64 = 2;
/// Memory for effects is kept for the next transaction up to this size.
const EFFECTS_BYTES_KEPT: usize = 64 << 10;

/// Write access to the head of a line. Dropping publishes.
///
/// Others who want to write wait. Readers do not, until the first change: up to then it only reads, and keeps in mind what
/// it reserves and the numbers that it gives out. So whoever changes something reads first, and has the rest read that
/// the change will need ([`Txn::rehearse`]). From the first change on the tree is nobody else's and changes in place.
pub struct Txn<'a> {
    volume: &'a Volume,
    /// Taken only by [`Txn::end`].
    state: Option<StateTurn<'a>>,
    line: LineId,
    view: View,
    /// What the state is to know as soon as there is a change.
    minded: Minded,
    /// What was read ahead.
    kept: Kept,
    /// Something was changed: what fails from now on fails half-way.
    touched: bool,
    /// What the log will say of it.
    effects: Effects,
    recording: Recording,
    /// What is done as a whole or not at all, while that is going on.
    attempt: Option<Attempt>,
}

/// What a transaction keeps in mind before it changes anything.
#[derive(Default)]
struct Minded {
    budget: Option<(Budget, LineBudget)>,
    next_ino: Option<Ino>,
}

/// Whether the log is told of changes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Recording {
    Off,
    On,
    /// A note stands for them.
    ByNote,
}

impl Volume {
    /// Write access to a line. Waits for whoever has it to any line.
    pub fn begin(&self, line: LineId) -> Result<Txn<'_>> {
        let state = self.turn();
        self.check_open()?;
        state.check_not_in_trash(line)?;
        let (id, root) = root_of(&state, line)?;
        let view = View { id, epoch: state.epoch, root, shared: self.shared.clone(), _pin: None };
        Ok(Txn {
            volume: self,
            state: Some(state),
            line,
            view,
            minded: Minded::default(),
            kept: Kept::default(),
            touched: false,
            effects: Effects::default(),
            attempt: None,
            recording: if self.access == Access::ReadOnly { Recording::Off } else { Recording::On },
        })
    }
}

/// The head of a line and its root.
fn root_of(state: &VolumeState, line: LineId) -> Result<(ViewId, Child)> {
    let head = state.lines.head(line).ok_or(VolumeError::NoSuchView)?;
    Ok((head, state.roots.get(&head).ok_or(VolumeError::NoSuchView)?.clone()))
}

const UNTIL_THE_END: &str = "present until the end";

impl<'a> Txn<'a> {
    /// Ends the transaction, and readers wait. The log is not written yet.
    pub(super) fn end(mut self) -> StateTurn<'a> {
        self.state_mut();
        self.publish_root().expect("taken only at the end")
    }

    /// As [`Txn::end`]; `last` goes into the record of the transaction as its end.
    pub(super) fn end_with(mut self, last: &[Effect<'_>]) -> StateTurn<'a> {
        last.iter().for_each(|effect| self.record(effect));
        self.end()
    }

    /// The line that it is on.
    pub fn line(&self) -> LineId {
        self.line
    }

    /// Goes on with another line. What was done so far is published and is a record of its own, but nobody sees the one
    /// without the other.
    pub fn switch_to(&mut self, line: LineId) -> Result<()> {
        if line == self.line {
            return Ok(());
        }
        if self.minded.budget.is_some() {
            // It would take the published root in place of what the attempt has made of it.
            assert!(self.attempt.is_none(), "whoever attempts something has reserved before");
            self.state_mut();
        }
        let state = self.state.as_mut().expect(UNTIL_THE_END);
        let (head, mut root) = root_of(state, line)?;
        if let Some(attempt) = &mut self.attempt {
            let left = (self.view.id, std::mem::replace(&mut self.view.root, root));
            attempt.leave(self.line, left, std::mem::take(&mut self.effects));
            if let Some(root) = attempt.root_of(head) {
                self.view.root = root;
            }
        } else {
            if state.is_alone() {
                let state = state.alone();
                state.roots.remove(&head);
                std::mem::swap(&mut self.view.root, &mut root);
                state.roots.insert(self.view.id, root);
            } else {
                self.view.root = root;
            }
            self.log_effects();
        }
        self.effects = std::mem::take(&mut self.effects).cleared();
        (self.line, self.view.id) = (line, head);
        Ok(())
    }

    /// Does all of `change`, which may go from line to line, or leaves everything as it was before. Then nothing keeps the
    /// volume from being written to: what could not be done can be tried again. Before there is any other change; readers
    /// see the trees as they were meanwhile, and do not wait.
    pub fn attempt<T>(&mut self, change: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        assert!(!self.touched, "an attempt comes first");
        self.attempt = Some(Attempt::new(self.line, self.view.id, self.view.root.clone()));
        let done = change(self);
        match &done {
            Ok(_) => self.take_in(),
            Err(_) => self.take_back(),
        }
        done
    }

    /// The attempt has succeeded.
    fn take_in(&mut self) {
        let Some(attempt) = self.attempt.take() else { return };
        self.touched = true;
        for (line, effects) in attempt.records {
            self.log_of(line, &effects);
        }
        let root = self.view.root.clone();
        let state = self.state_mut();
        state.roots.extend(attempt.left);
        for (head, product) in attempt.products {
            state.take_in(head, product);
        }
        self.view.root = root;
    }

    /// The attempt has failed.
    fn take_back(&mut self) {
        let Some(attempt) = self.attempt.take() else { return };
        let mut alloc = self.volume.shared.store().alloc();
        attempt.adopted().for_each(|(addr, len)| alloc.give_back(addr, len));
        drop(alloc);
        (self.line, self.view.id, self.view.root) = attempt.began;
        self.effects = std::mem::take(&mut self.effects).cleared();
    }

    /// A change has done this beside the tree.
    fn produce(&mut self, product: Product) {
        let head = self.view.id;
        match &mut self.attempt {
            Some(attempt) => attempt.products.push((head, product)),
            None => {
                self.touched = true;
                self.state_mut().take_in(head, product);
            }
        }
    }

    fn log_effects(&self) {
        self.log_of(self.line, &self.effects);
    }

    fn log_of(&self, line: LineId, effects: &Effects) {
        // What was done by half is never made durable, nor is anything after it.
        if !self.volume.is_poisoned() {
            self.volume.log.append(line, self.view.epoch, effects);
        }
    }

    fn publish_root(&mut self) -> Option<StateTurn<'a>> {
        self.take_back();
        let mut state = self.state.take()?;
        self.log_effects();
        if state.is_alone() {
            let state = state.alone();
            state.roots.insert(self.view.id, self.view.root.clone());
            if self.effects.capacity() <= EFFECTS_BYTES_KEPT {
                state.effects = std::mem::take(&mut self.effects).cleared();
            }
        }
        Some(state)
    }

    fn record(&mut self, effect: &Effect<'_>) {
        if self.recording == Recording::On {
            self.have_memory_for_effects();
            self.effects.push(effect);
        }
    }

    /// The state has it, and a change begins now anyway.
    fn have_memory_for_effects(&mut self) {
        if self.attempt.is_none() {
            self.state_mut();
        }
    }

    /// Reads what changes of these keys, in ascending order, will need, before there is any change: readers wait for
    /// none of that. Does nothing later on.
    pub fn rehearse(&mut self, changes: &[Planned<'_>]) -> Result<()> {
        if self.state.as_ref().is_some_and(StateTurn::is_alone) {
            return Ok(());
        }
        let (view, kept) = (&self.view, &mut self.kept);
        Ok(kept.rehearse(&view.shared.pager, &view.root, view.epoch, changes)?)
    }

    /// Reads with what is read kept for the changes to come.
    pub fn keeping<T>(&mut self, read: impl FnOnce(&View) -> T) -> T {
        let (view, kept) = (&self.view, &mut self.kept);
        kept.meeting(|| read(view))
    }

    /// Leaves word for whoever replays the log above the volume: the bytes that `put` appends.
    pub fn note(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        if self.recording == Recording::On {
            self.have_memory_for_effects();
            self.effects.push_note(put);
        }
    }

    /// Leaves word in place of what `change` does to the tree: a replay does the same again.
    pub fn by_note<T>(&mut self, note: impl FnOnce(&mut Vec<u8>), change: impl FnOnce(&mut Self) -> T) -> T {
        self.note(note);
        let before = self.recording;
        if before == Recording::On {
            self.recording = Recording::ByNote;
        }
        let done = change(self);
        self.recording = before;
        done
    }

    pub(super) fn state(&self) -> &VolumeState {
        self.state.as_ref().expect(UNTIL_THE_END)
    }

    /// To change it. The root of the head is nobody else's any more.
    pub(super) fn state_mut(&mut self) -> &mut VolumeState {
        let turn = self.state.as_mut().expect(UNTIL_THE_END);
        let is_first = !turn.is_alone();
        let state = turn.alone();
        if is_first {
            if let Some(root) = state.roots.remove(&self.view.id) {
                self.view.root = root;
            }
            if self.effects.capacity() == 0 {
                self.effects = std::mem::take(&mut state.effects);
            }
            let minded = std::mem::take(&mut self.minded);
            state.next_ino = minded.next_ino.unwrap_or(state.next_ino);
            if let Some((budget, of_line)) = minded.budget {
                state.hold(self.line, budget, of_line);
            }
        }
        state
    }

    /// Whoever cannot go on after an error says so here: if something was changed already, the half is kept from ever
    /// being made durable.
    pub fn failed(&self, error: VolumeError) -> VolumeError {
        if self.touched {
            self.volume.poison(&error);
        }
        error
    }

    /// The head with all changes so far.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Another line as it is, and stays until this ends.
    pub fn view_of(&self, line: LineId) -> Result<View> {
        let (id, root) = root_of(self.state(), line)?;
        let (shared, epoch) = (self.view.shared.clone(), self.view.epoch);
        let pin = Some(Pin::epoch(&shared, epoch));
        Ok(View { id, epoch, root, shared, _pin: pin })
    }

    /// Makes sure that a change of this size cannot run out of space, now or at its commit.
    pub fn reserve(&mut self, need: Need, purpose: ReserveFor) -> Result<()> {
        self.volume.check_writable()?;
        // Few items may each have a path of their own; many are neighbours: extents, pieces of a value.
        let items = u64::from(need.items);
        let nodes = need.nodes + (items * NODES_PER_ITEM).min(NODES_OF_A_RUN + items / ITEMS_PER_LEAF_MIN);
        let (before, mut of_line) = self.budget_so_far();
        let held = self.held(need, &of_line);
        let state = self.state();
        let (mut after, dirty) = (before, state.dirty_nodes);
        after.beside += need.beside;
        after.beside_blocks += need.beside_blocks;
        if need.beside > 0 && !of_line.has_beside {
            after.beside_lines += 1;
            of_line.has_beside = true;
        }
        let beside = after.beside_at_most(dirty + nodes) - before.beside_at_most(dirty);
        let worst = (nodes + beside) * state.copies.node_bytes() + held + self.of_freed(need.freed);
        let required = self.volume.required_for(state, &before) + worst;
        self.volume.secure_required(required, purpose)?;
        after.bytes += held;
        of_line.blocks += need.data_bytes / BLOCK_BYTES;
        of_line.later += u64::from(need.later);
        let line = self.line;
        match self.state.as_mut().filter(|state| state.is_alone()) {
            Some(state) => state.alone().hold(line, after, of_line),
            None => self.minded.budget = Some((after, of_line)),
        }
        Ok(())
    }

    /// Makes sure that what was attempted so far cannot run out of space at its commit, by what it has done: nodes that it
    /// made, references that it let go of, those that it took, and the record of a line, with which it may end. Nothing of it
    /// is to be seen before the attempt has ended, so it may be refused.
    pub fn reserve_attempted(&mut self, purpose: ReserveFor) -> Result<()> {
        let cost = self.attempt.as_ref().map(Attempt::cost).unwrap_or_default();
        let nodes = cost.nodes + NODES_PER_LEAF_OF_RECORDS;
        let need = Need { nodes, freed: cost.freed, cuts: cost.leaves, ..Need::default() };
        self.reserve(need, purpose)
    }

    /// What so many references that are let go of need at most until they are counted by themselves.
    fn of_freed(&self, freed: u64) -> u64 {
        let (head, state) = (self.view.id, self.state());
        let (node, copies) = (state.copies.node_bytes(), state.copies as u64);
        let buckets = freed.min(state.history.depth(head) as u64 + 1) * BUCKET_OVERHEAD_NODES;
        freed * DEFERRED_BYTES * copies * copies + buckets * node
    }

    /// What is held for the layer above, and of it for this line.
    fn budget_so_far(&self) -> (Budget, LineBudget) {
        let state = self.state();
        let so_far = || (state.budget, state.line_budgets.get(&self.line).copied().unwrap_or_default());
        self.minded.budget.unwrap_or_else(so_far)
    }

    /// What a change of this size leaves to the next commit, in bytes.
    fn held(&self, need: Need, before: &LineBudget) -> u64 {
        let (head, state) = (self.view.id, self.state());
        let (node, copies) = (state.copies.node_bytes(), state.copies as u64);
        let blocks = need.data_bytes / BLOCK_BYTES;
        // What it replaces may be of as many times as there are snapshots, and each has a bucket of its own.
        let buckets_max = state.history.depth(head) as u64 + 1;
        let buckets = |blocks: u64| blocks.min(buckets_max) * BUCKET_OVERHEAD_NODES;
        let buckets = buckets(before.blocks + blocks) - buckets(before.blocks);
        let later = match need.later {
            0 => 0,
            n => {
                u64::from(n) * node / KEYS_PER_LEAF_MIN
                    + if before.later == 0 { NODES_OF_LATER * node } else { 0 }
            }
        };
        need.data_bytes * DELAYED_FACTOR
            + blocks * FREED_PER_BLOCK * DEFERRED_BYTES * copies * copies
            + (need.leaves + u64::from(need.cuts) + buckets) * node
            + later
    }

    /// Sets the value of a key: at most [`crate::format::leaf::VALUE_BYTES_MAX`] bytes.
    pub fn insert(&mut self, key: Key, value: &[u8]) -> Result<()> {
        self.record(&Effect::Insert(key, value));
        self.edit(|edit, root| edit.insert(root, &key, value))
    }

    /// Removes a key; false if it was not there.
    pub fn remove(&mut self, key: &Key) -> Result<bool> {
        let was_there = self.edit(|edit, root| edit.remove(root, key))?;
        if was_there {
            self.record(&Effect::Remove(*key));
        }
        Ok(was_there)
    }

    fn edit<T>(
        &mut self,
        change: impl FnOnce(&mut Edit<'_>, &mut Child) -> crate::tree::Result<T>,
    ) -> Result<T> {
        if self.attempt.is_none() {
            self.touched = true;
            self.state_mut();
        }
        let mut freed = Vec::new();
        let shared = self.view.shared.clone();
        let mut edit =
            Edit { pager: &shared.pager, epoch: self.view.epoch, freed: &mut freed, nodes_made: 0 };
        let done = change(&mut edit, &mut self.view.root);
        let made = edit.nodes_made;
        if made != 0 || !freed.is_empty() || done.is_ok() {
            self.produce(Product::Edited { made, freed });
        }
        done.map_err(|e| {
            let e = VolumeError::from(e);
            if self.attempt.is_none() {
                self.volume.poison(&e);
            }
            e
        })
    }

    /// Makes staged content part of the head and returns its extents in order.
    pub fn publish(&mut self, staged: Staged) -> Vec<Extent> {
        let mut extents = staged.into_extents();
        for extent in &mut extents {
            extent.birth = self.view.epoch;
            let range = reference(extent);
            self.adopt(range.addr, range.len);
        }
        extents
    }

    /// The head reaches a range of content that was handed out and is in no commit.
    pub(super) fn adopt(&mut self, addr: u64, len: u64) {
        self.record(&Effect::Publish(addr, len));
        self.produce(Product::Adopted { addr, len });
    }

    /// The head no longer reaches this extent.
    pub fn free(&mut self, extent: &Extent) {
        let DeadEntry { addr, len, birth } = reference(extent);
        self.free_range(addr, len, birth);
    }

    pub(super) fn free_range(&mut self, addr: u64, len: u64, birth: Epoch) {
        self.record(&Effect::Free(addr, len, birth));
        self.produce(Product::Freed { freed: Freed::Data { addr, len, birth }, len });
    }

    /// See [`Volume::knows_homes`].
    pub fn knows_homes(&self) -> bool {
        self.volume.knows_homes()
    }

    /// Has the homes of what is away kept for it.
    pub fn keep_homes<'e>(&self, extents: impl IntoIterator<Item = &'e Extent>) {
        self.volume.keep_homes(extents);
    }

    /// A second reference to the same blocks, for another offset or file. Each reference is freed on its own. Refers to where
    /// the content is now, and so may be several extents, in order. What was purged cannot be shared.
    pub fn share(&mut self, extent: &Extent) -> Result<Vec<Extent>> {
        let shared = self.view.shared.clone();
        self.view.refuse_closed(extent)?;
        let parts = shared.places.resolve(extent);
        let birth = self.view.epoch;
        let new = parts.iter().map(|part| {
            self.share_range(part.addr(), part.extent().stored_bytes());
            Extent { birth, home: None, ..part.extent().clone() }
        });
        Ok(new.collect())
    }

    pub(super) fn share_range(&mut self, addr: u64, len: u64) {
        self.record(&Effect::Share(addr, len));
        self.produce(Product::Shared { addr, len });
    }

    /// A number for a new inode: never given out before in this store.
    pub fn next_ino(&mut self) -> Result<Ino> {
        let ino = self.minded.next_ino.unwrap_or(self.state().next_ino);
        if ino >= Ino::END {
            return Err(VolumeError::LimitReached("all inode numbers are used up (2^40)"));
        }
        let next = Ino(ino.0 + 1);
        match self.state.as_mut().filter(|state| state.is_alone()) {
            Some(state) => state.alone().next_ino = next,
            None => self.minded.next_ino = Some(next),
        }
        Ok(ino)
    }

    /// No number below this is given to a new inode from now on.
    pub fn raise_next_ino(&mut self, least: Ino) {
        let next = self.minded.next_ino.unwrap_or(self.state().next_ino).max(least);
        match self.state.as_mut().filter(|state| state.is_alone()) {
            Some(state) => state.alone().next_ino = next,
            None => self.minded.next_ino = Some(next),
        }
    }
}

impl Drop for Txn<'_> {
    fn drop(&mut self) {
        if let Some(state) = self.publish_root() {
            drop(state);
            self.volume.write_log();
        }
    }
}
