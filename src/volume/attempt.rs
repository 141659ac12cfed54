//! A part of a transaction that is done as a whole or not at all, over several lines: what a commit brings in of each head.
//!
//! Trees are immutable once shared, so the published roots are left as they are, for readers and to go back to; everything
//! that a change does beside its tree is only noted until the whole has succeeded, and carried out then by steps that cannot
//! fail.

use super::state::{Freed, VolumeState};
use crate::format::log::Effects;
use crate::format::{LineId, ViewId};
use crate::tree::{Child, FreedNode};
use foldhash::HashMap;

/// Neighbouring references whose records, with those that they cut, are in one leaf at least.
const SHARES_PER_LEAF_MIN: usize = 16;

/// What a change of a head's tree does to the rest of the state.
pub(super) enum Product {
    /// Nodes were made, and some are no longer reached.
    Edited { made: i64, freed: Vec<FreedNode> },
    /// The head reaches a range of content that was handed out and is in no commit.
    Adopted { addr: u64, len: u64 },
    /// It reaches a range once more.
    Shared { addr: u64, len: u64 },
    /// It no longer reaches so many bytes.
    Freed { freed: Freed, len: u64 },
}

/// What was done so far, and what it takes to go back.
pub(super) struct Attempt {
    /// The line on which it began, its head, and the root of that as it was.
    pub began: (LineId, ViewId, Child),
    /// Heads that it has left, and their roots as they are to be.
    pub left: HashMap<ViewId, Child>,
    /// In order, with their heads.
    pub products: Vec<(ViewId, Product)>,
    /// Records of the lines that it has left.
    pub records: Vec<(LineId, Effects)>,
}

/// What an attempt leaves to the next commit.
#[derive(Clone, Copy, Default)]
pub(super) struct AttemptCost {
    /// Nodes that were made.
    pub nodes: u64,
    /// References that were let go of.
    pub freed: u64,
    /// Leaves of the meta tree with records of references that were taken.
    pub leaves: u32,
}

impl Attempt {
    /// Begins on a line whose head and root these are.
    pub fn new(line: LineId, head: ViewId, root: Child) -> Attempt {
        let (left, products, records) = (HashMap::default(), Vec::new(), Vec::new());
        Attempt { began: (line, head, root), left, products, records }
    }

    /// Goes on with another line than this.
    pub fn leave(&mut self, line: LineId, (head, root): (ViewId, Child), effects: Effects) {
        self.left.insert(head, root);
        self.records.push((line, effects));
    }

    /// The root of a head that it has been at, to go on with.
    pub fn root_of(&mut self, head: ViewId) -> Option<Child> {
        self.left.remove(&head)
    }

    /// What the next commit needs for all that it has done.
    pub fn cost(&self) -> AttemptCost {
        let (mut nodes, mut freed, mut shared) = (0, 0, Vec::new());
        for (_, product) in &self.products {
            match product {
                Product::Edited { made, freed: gone } => {
                    nodes += made;
                    freed += gone.len() as u64;
                }
                Product::Freed { .. } => freed += 1,
                Product::Shared { addr, len } => shared.push((*addr, *len)),
                Product::Adopted { .. } => {}
            }
        }
        // Records of extra references are kept by address. Those of ranges that follow each other are neighbours.
        shared.sort_unstable();
        let runs = shared.chunk_by(|a, b| a.0 + a.1 == b.0).count();
        let leaves = (2 * runs + shared.len() / SHARES_PER_LEAF_MIN) as u32;
        AttemptCost { nodes: nodes.max(0).unsigned_abs(), freed, leaves }
    }

    /// Ranges that became part of a tree: if it is taken back they are free.
    pub fn adopted(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.products.iter().filter_map(|(_, product)| match product {
            Product::Adopted { addr, len } => Some((*addr, *len)),
            _ => None,
        })
    }
}

impl VolumeState {
    /// Carries out what a change of `head` does beside its tree.
    pub fn take_in(&mut self, head: ViewId, product: Product) {
        match product {
            Product::Edited { made, freed } => self.account(head, made, freed),
            Product::Adopted { addr, len } => {
                self.history.born(head, len);
                self.allocs.push((addr, len));
                self.changed = true;
            }
            Product::Shared { addr, len } => {
                self.history.born(head, len);
                self.shared.push(addr, len);
                self.changed = true;
            }
            Product::Freed { freed, len } => self.free(head, freed, len),
        }
    }
}
