//! The ways themselves: of each snapshot a view that is far below it, and of each hidden view, or one that is gone, the next
//! one that is not. What they lead through is the history's business.

use crate::format::ViewId;
use std::collections::HashMap;

/// A view far below another.
#[derive(Clone, Copy)]
struct Jump {
    to: Option<ViewId>,
    /// Number of views from the first one up to this, with some that are gone.
    depth: usize,
}

/// Ways down of all views but heads.
#[derive(Clone, Default)]
pub(super) struct Ancestry {
    jumps: HashMap<ViewId, Jump>,
    /// Of a hidden view, or one that is gone, a view below it: all between the two are such.
    pub skips: HashMap<ViewId, Option<ViewId>>,
    /// Views that went since all was made.
    pub removed: usize,
}

impl Ancestry {
    /// Number of views from the first one up to this.
    pub fn depth(&self, view: Option<ViewId>) -> usize {
        view.and_then(|v| self.jumps.get(&v)).map_or(0, |jump| jump.depth)
    }

    /// The view far below one.
    pub fn target(&self, view: Option<ViewId>) -> Option<ViewId> {
        self.jumps.get(&view?)?.to
    }

    /// Enters a view with the one below it. Two jumps of one length become one: so the ways are logarithmic.
    pub fn add(&mut self, view: ViewId, prev: Option<ViewId>) {
        let near = self.target(prev);
        let far = self.target(near);
        let depths = [prev, near, far].map(|v| self.depth(v));
        let to = if depths[0] - depths[1].min(depths[0]) == depths[1] - depths[2].min(depths[1]) {
            far
        } else {
            prev
        };
        self.jumps.insert(view, Jump { to, depth: depths[0] + 1 });
    }

    /// A view goes.
    pub fn remove(&mut self, view: ViewId, prev: Option<ViewId>) {
        if self.jumps.remove(&view).is_some() {
            self.skips.insert(view, prev);
            self.removed += 1;
        }
    }
}
