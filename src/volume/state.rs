//! What changes between commits: roots, epoch, and the by-products that the next commit writes down.
//!
//! One [`VolumeState`] a volume, behind one read-write lock. Whoever changes something has a [`Turn`] at it, one at a time, and
//! readers, who only clone a root, go on until there is something to change. While they wait nothing is to be read from the
//! device; what is, is counted (docs/decisions/0022).

use super::history::{Freeing, History};
use super::hold_table::Holds;
use super::hydration_table::Hydrations;
use super::lines::Lines;
use super::numbered::Numbered;
use super::turn::Turn;
use crate::format::log::Effects;
use crate::format::superblock::PendingPoint;
use crate::format::trash::TrashRecord;
use crate::format::{Copies, Epoch, Ino, Key, Kind, LineId, ViewId};
use crate::store::WaitedFor;
use crate::tree::{Child, FreedNode};
use foldhash::HashMap;
use parking_lot::RwLock;
use std::collections::{BTreeMap, BTreeSet};

/// A reference that a head has freed, not yet written down.
#[derive(Clone)]
pub(super) enum Freed {
    /// A range of file content.
    Data { addr: u64, len: u64, birth: Epoch },
    /// A tree node; its place may become known only with the next commit.
    Node(FreedNode),
}

impl Freed {
    /// Address, length and birth of each of its ranges: one of content, one of each copy of a node, none of a node that
    /// never had a place.
    pub fn resolve(&self) -> impl Iterator<Item = (u64, u64, Epoch)> + use<> {
        let (data, node) = match self {
            Freed::Data { addr, len, birth } => (Some((*addr, *len, *birth)), None),
            Freed::Node(node) => (None, node.ptr()),
        };
        let copies = node.into_iter().flat_map(|p| p.ranges().map(move |(addr, len)| (addr, len, p.birth)));
        data.into_iter().chain(copies)
    }
}

/// What is deferred, by dead list and birth bucket.
pub(super) type DeferredFrees = BTreeMap<(u64, Epoch), Vec<Freed>>;

/// Ranges that got one more reference since the last commit, and their sum, which whoever asks for the space reads each time.
#[derive(Clone, Default)]
pub(super) struct NewShares {
    ranges: Vec<(u64, u64)>,
    bytes: u64,
}

impl NewShares {
    pub fn push(&mut self, addr: u64, len: u64) {
        self.ranges.push((addr, len));
        self.bytes = self.bytes.saturating_add(len);
    }

    pub fn ranges(&self) -> &[(u64, u64)] {
        &self.ranges
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// All of them: none are left.
    pub fn take(&mut self) -> Vec<(u64, u64)> {
        std::mem::take(self).ranges
    }
}

/// The worst case of what the layer above holds back until the next commit.
#[derive(Clone, Copy, Default)]
pub(super) struct Budget {
    /// Space for all of it but `beside`.
    pub bytes: u64,
    /// See [`super::Need::beside`], the blocks that it is for, and in how many lines.
    pub beside: u64,
    pub beside_blocks: u64,
    pub beside_lines: u64,
}

/// What of this is counted for each line on its own, because each has a tree and a dead list.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct LineBudget {
    /// Blocks of content.
    pub blocks: u64,
    /// See [`super::Need::later`].
    pub later: u64,
    /// Some of [`Budget::beside`].
    pub has_beside: bool,
}

impl Budget {
    /// Of [`Self::beside`] so many leaves can change at most, when so many nodes have changed: for each the next one, and
    /// what both split into; and those that are filled with up to three inline contents or many extents.
    pub fn beside_at_most(&self, dirty_nodes: u64) -> u64 {
        self.beside.min(3 * dirty_nodes + self.beside_blocks / 3 + 4 * self.beside_lines)
    }
}

/// What comes back of the trash follows from this, as far as commits have brought in what was changed.
#[derive(PartialEq, Eq)]
pub(super) struct TrashCounted {
    epoch: Epoch,
    /// How often a line has changed, and how many views are deleted and still there.
    lines: u64,
    deleted: usize,
    /// What is in it.
    pub numbers: Vec<u64>,
}

/// The published state of all views.
#[derive(Clone)]
pub(super) struct VolumeState {
    /// Epoch of everything that is born now.
    pub epoch: Epoch,
    /// How often each node is kept: what it counts and costs.
    pub copies: Copies,
    /// Features that a program must know to open the store.
    pub incompat: u64,
    pub history: History,
    /// Current root of every view.
    pub roots: HashMap<ViewId, Child>,
    /// Views whose root is in memory and no commit has taken yet.
    pub unwritten: BTreeSet<ViewId>,
    pub lines: Lines,
    pub next_ino: Ino,
    /// Freed references that a snapshot still has: they go to dead lists.
    pub deferred: DeferredFrees,
    /// Number of entries in `deferred` and `frees`.
    pub freed_count: u64,
    /// Freed references that nobody else has.
    pub frees: Vec<Freed>,
    /// Content among them, in bytes.
    pub freed_bytes: u64,
    /// Data ranges that became part of a tree.
    pub allocs: Vec<(u64, u64)>,
    /// Ranges that got one more reference.
    pub shared: NewShares,
    /// Snapshots made since the last commit.
    pub points: Vec<PendingPoint>,
    /// Views to be deleted by the next commit.
    pub deletes: Vec<ViewId>,
    /// Some of these were too many for the last commit.
    pub deletes_left: bool,
    /// Hidden views that were due to be swept were too many for it.
    pub sweeps_left: bool,
    /// Postponed or hidden views of which the deletion, or the sweep, needs so much room, alone.
    pub no_room: BTreeMap<ViewId, u64>,
    /// Deleted snapshots that somebody still reads, that a line is compared with, or for which there is no room. They have no name, and stay in the
    /// history until the last reader and the last such line are gone, so that what the views above them let go of goes to a dead list and not to free space.
    pub postponed: BTreeSet<ViewId>,
    /// Points that never had a name, of those that are read or deleted: nobody has deleted them.
    pub rolling: BTreeSet<ViewId>,
    /// The scrub's items in the meta tree, as they are to be, and which of them no commit has taken yet.
    pub scrub: BTreeMap<u64, Vec<u8>>,
    pub scrub_dirty: BTreeSet<u64>,
    /// The same of what other stores have.
    pub peers: BTreeMap<u64, Vec<u8>>,
    pub peers_dirty: BTreeSet<u64>,
    /// Copies that are made in other stores.
    pub hydrations: Hydrations,
    /// How often a copy or a hold, which keep snapshots from going, has come, changed or gone.
    pub keepers_changed: u64,
    /// Holds of snapshots, and the age of the store.
    pub holds: Holds,
    /// What was deleted and can be brought back.
    pub trash: Numbered<TrashRecord>,
    /// Anything besides `points` that a commit has to write.
    pub changed: bool,
    /// Nodes in memory that a commit has to write.
    pub dirty_nodes: u64,
    pub budget: Budget,
    pub line_budgets: BTreeMap<LineId, LineBudget>,
    /// Memory for what the log will say of the next transaction.
    pub effects: Effects,
}

/// A turn at the state.
pub(super) struct StateTurn<'a> {
    turn: Turn<'a, VolumeState>,
    waited_for: Option<WaitedFor>,
}

impl<'a> StateTurn<'a> {
    /// Waits for a turn.
    pub fn of(state: &'a RwLock<VolumeState>) -> StateTurn<'a> {
        StateTurn { turn: Turn::of(state), waited_for: None }
    }

    pub fn is_alone(&self) -> bool {
        self.turn.is_alone()
    }

    /// To change it: readers wait from now on.
    pub fn alone(&mut self) -> &mut VolumeState {
        self.waited_for.get_or_insert_with(WaitedFor::new);
        self.turn.alone()
    }
}

impl std::ops::Deref for StateTurn<'_> {
    type Target = VolumeState;
    fn deref(&self) -> &VolumeState {
        &self.turn
    }
}

impl VolumeState {
    /// What comes back of the trash now follows from that.
    pub fn trash_counted(&self) -> TrashCounted {
        TrashCounted {
            epoch: self.epoch,
            lines: self.lines.changes,
            deleted: self.deletes.len() + self.postponed.len(),
            numbers: self.trash.all().map(|trash| trash.number).collect(),
        }
    }

    /// Books what a change of `head`'s tree did.
    pub fn account(&mut self, head: ViewId, nodes_made: i64, freed: Vec<FreedNode>) {
        let bytes = nodes_made.unsigned_abs() * self.copies.node_bytes();
        if nodes_made >= 0 {
            self.history.born(head, bytes);
            self.dirty_nodes += nodes_made.unsigned_abs();
        } else {
            let _own = self.history.free(head, self.epoch, bytes);
            self.dirty_nodes = self.dirty_nodes.saturating_sub(nodes_made.unsigned_abs());
        }
        self.unwritten.insert(head);
        for node in freed {
            self.free(head, Freed::Node(node), self.copies.node_bytes());
        }
        self.changed = true;
    }

    /// So much is held for the layer above, and so much of it for a line.
    pub fn hold(&mut self, line: LineId, budget: Budget, of_line: LineBudget) {
        self.budget = budget;
        if of_line != LineBudget::default() {
            self.line_budgets.insert(line, of_line);
        }
    }

    /// Items of the scrub, of other stores and of copies in them, of holds, the age and the trash that changed, for the
    /// commit to write.
    pub fn take_beside(&mut self) -> Vec<(Key, Option<Vec<u8>>)> {
        let scrub = std::mem::take(&mut self.scrub_dirty).into_iter();
        let scrub = scrub.map(|n| (Key::new(0, Kind::Scrub, n), self.scrub.get(&n).cloned()));
        let peers = std::mem::take(&mut self.peers_dirty).into_iter();
        let peers = peers.map(|n| (Key::new(0, Kind::Peer, n), self.peers.get(&n).cloned()));
        let copies = self.hydrations.take_changes();
        let copies = copies.map(|(n, item)| (Key::new(0, Kind::Hydration, n), item));
        let age = self.holds.take_age().map(|age| (Key::new(0, Kind::Age, 0), Some(age.encode().to_vec())));
        let holds = self.holds.table.take_changes();
        let holds = holds.map(|(n, item)| (Key::new(0, Kind::Hold, n), item));
        let trash = self.trash.take_changes();
        let trash = trash.map(|(n, item)| (Key::new(0, Kind::Trash, n), item));
        scrub.chain(peers).chain(copies).chain(holds).chain(age).chain(trash).collect()
    }

    /// `head` no longer reaches a reference: decides from births alone where it goes.
    pub fn free(&mut self, head: ViewId, freed: Freed, len: u64) {
        let birth = match &freed {
            Freed::Data { birth, .. } => *birth,
            Freed::Node(node) => node.birth(),
        };
        self.freed_count += 1;
        match self.history.free(head, birth, len) {
            Freeing::Now => {
                self.freed_bytes += if matches!(freed, Freed::Data { .. }) { len } else { 0 };
                self.frees.push(freed);
            }
            Freeing::Deferred { list, bucket } => {
                self.deferred.entry((list, bucket)).or_default().push(freed)
            }
        }
        self.changed = true;
    }
}
