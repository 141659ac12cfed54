//! The leaves of one tree in key order, as far as they can be had: from a root down, and where nodes are lost, from
//! what a scan found.
//!
//! The range of keys below a lost node is a hole. It is filled with the newest nodes of the tree that were found for
//! it:
//! - A leaf hides every older leaf that it overlaps: when it was born, the tree had no other leaf there.
//! - An inner node of the lowest level hides every older leaf in its range except those that it names. If one of those
//!   is lost, its range stays lost: nothing older is put in its place.
//!
//! Leaves never overlap in the result, so each key has one answer.
//!
//! Work and memory are proportional to the number of nodes, whatever they point to.

use super::scan::{FoundNode, Scan};
use crate::format::{BlockPtr, Epoch, Key};
use crate::tree::{LostNode, Pager, Step, Visit, walk_readable};
use std::collections::{BTreeMap, HashMap};

/// A range of keys: from the first up to, not including, the second; none: to the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Keys {
    pub from: Key,
    pub to: Option<Key>,
}

/// A leaf and the keys that it answers for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaf {
    pub keys: Keys,
    pub ptr: BlockPtr,
}

/// A range below a node that is lost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hole {
    pub keys: Keys,
    /// Birth of the lost node: nothing below it is newer.
    pub until: Epoch,
}

/// What is known of a tree.
#[derive(Default, Debug)]
pub(super) struct Leaves {
    /// By key, disjoint.
    pub list: Vec<Leaf>,
    /// Ranges of leaves that are known to be lost.
    pub lost: Vec<Keys>,
    /// Ranges about which nothing is known.
    pub holes: Vec<Hole>,
    /// Some of the leaves come from a scan.
    pub patched: bool,
}

impl Keys {
    pub const ALL: Keys = Keys { from: Key::MIN, to: None };

    fn is_empty(&self) -> bool {
        self.to.is_some_and(|to| to <= self.from)
    }

    /// What both have.
    pub fn meet(&self, other: &Keys) -> Option<Keys> {
        let to = match (self.to, other.to) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let both = Keys { from: self.from.max(other.from), to };
        (!both.is_empty()).then_some(both)
    }

    /// From the first to the last key, both included.
    fn span(first: Key, last: Key) -> Keys {
        Keys { from: first, to: (last < Key::MAX).then(|| last.successor()) }
    }
}

impl Leaves {
    /// A tree of which nothing is known but that its nodes are not newer than `until`.
    pub fn unknown(until: Epoch) -> Leaves {
        Leaves { holes: vec![Hole { keys: Keys::ALL, until }], ..Leaves::default() }
    }

    /// Follows a tree from its root. Leaves are not read.
    pub fn below(pager: &Pager, root: &BlockPtr) -> Leaves {
        enum LeafOrHole {
            Leaf(BlockPtr),
            Hole(Epoch),
        }
        let (mut parts, mut holes) = (Vec::new(), Vec::new());
        let mut visit = |visit: Visit<'_>| {
            Ok(match visit {
                Visit::Node(ptr, from, 0) => {
                    parts.push((from, LeafOrHole::Leaf(*ptr)));
                    Step::Over
                }
                _ => Step::Into,
            })
        };
        let mut lost = |node: LostNode<'_>| {
            holes.push((node.from, LeafOrHole::Hole(node.ptr.birth)));
            Ok(())
        };
        // Neither of the two fails, so nothing does.
        let _walked = walk_readable(pager, root, Epoch(0), &mut visit, &mut lost);
        parts.append(&mut holes);
        parts.sort_by_key(|(from, _)| *from);
        let mut leaves = Leaves::default();
        for (i, (from, part)) in parts.iter().enumerate() {
            let keys = Keys { from: *from, to: parts.get(i + 1).map(|(next, _)| *next) };
            match part {
                _ if keys.is_empty() => {}
                LeafOrHole::Leaf(ptr) => leaves.list.push(Leaf { keys, ptr: *ptr }),
                LeafOrHole::Hole(until) => leaves.holes.push(Hole { keys, until: *until }),
            }
        }
        leaves
    }

    /// Fills the holes with nodes that `belongs` takes for nodes of this tree.
    pub fn fill(&mut self, pager: &Pager, scan: &Scan, belongs: &dyn Fn(&FoundNode) -> bool) {
        let holes = std::mem::take(&mut self.holes);
        let mut fill = Fill { pager, scan, holes, covered: BTreeMap::new(), out: self };
        let mut nodes: Vec<&FoundNode> = scan.nodes().iter().filter(|n| belongs(n)).collect();
        nodes.sort_by_key(|n| (std::cmp::Reverse((n.level, n.ptr.birth)), n.ptr.addr));
        let ranges = fill.ranges(&nodes);
        nodes.retain(|n| n.level < 2);
        nodes.sort_by_key(|n| (std::cmp::Reverse((n.ptr.birth, n.level)), n.ptr.addr));
        for node in nodes {
            if node.level == 0 {
                fill.offer(node.ptr, Keys::span(node.first, node.last), node.ptr.birth);
            } else {
                fill.parent(node, ranges.get(&node.ptr.addr.0).copied());
            }
        }
        self.patched = true;
        self.list.sort_by_key(|leaf| leaf.keys.from);
        self.lost.sort_by_key(|keys| keys.from);
    }
}

struct Fill<'a> {
    pager: &'a Pager,
    scan: &'a Scan,
    /// By key, disjoint.
    holes: Vec<Hole>,
    /// What is answered for inside the holes: from -> to, disjoint.
    covered: BTreeMap<Key, Option<Key>>,
    out: &'a mut Leaves,
}

impl Fill<'_> {
    /// Ranges of inner nodes as the newest nodes above them tell, by address. `nodes` has the highest level first.
    fn ranges(&self, nodes: &[&FoundNode]) -> HashMap<u64, Keys> {
        let mut ranges: HashMap<u64, Keys> = HashMap::new();
        for node in nodes.iter().filter(|n| n.level > 1) {
            let own = ranges.get(&node.ptr.addr.0).copied().unwrap_or(Keys::ALL);
            for (keys, child) in self.children(&node.ptr, own) {
                if self.found(&child).is_some_and(|found| found.level + 1 == node.level) {
                    ranges.entry(child.addr.0).or_insert(keys);
                }
            }
        }
        ranges
    }

    /// The node that a pointer means, be it rewritten since.
    fn found(&self, ptr: &BlockPtr) -> Option<&FoundNode> {
        self.scan.find(ptr).or_else(|| {
            let rewritten = self.pager.store().rewrites().of(ptr)?;
            self.scan.find(&BlockPtr { checksum: rewritten.checksum, ..*ptr })
        })
    }

    /// Children of an inner node with their ranges.
    fn children(&self, ptr: &BlockPtr, own: Keys) -> Vec<(Keys, BlockPtr)> {
        let entries = self.pager.load_entries(ptr).unwrap_or_default();
        let with_ends = entries.iter().enumerate().map(|(i, (key, child))| {
            let keys = Keys { from: *key, to: entries.get(i + 1).map(|(next, _)| *next) };
            (keys, *child)
        });
        with_ends.filter_map(|(keys, child)| Some((keys.meet(&own)?, child))).collect()
    }

    /// The leaves that an inner node of the lowest level names.
    fn parent(&mut self, node: &FoundNode, range: Option<Keys>) {
        let whole = Keys { from: node.first, to: Some(node.last) };
        if range.is_none() && node.first < node.last && !self.has_room(&whole) {
            return;
        }
        let children = self.children(&node.ptr, range.unwrap_or(Keys::ALL));
        let last = children.len().saturating_sub(1);
        for (i, (mut keys, child)) in children.into_iter().enumerate() {
            let found = self.found(&child).filter(|found| found.level == 0).copied();
            if range.is_none() {
                // Where the outer leaves of a lone node begin and end, only they can tell.
                let span = found.map(|f| Keys::span(f.first, f.last));
                if i == 0 {
                    keys.from = span.map_or(keys.to.unwrap_or(Key::MAX), |s| s.from);
                }
                if i == last {
                    keys.to = span.map_or(Some(keys.from), |s| s.to);
                }
            }
            if keys.is_empty() {
                continue;
            }
            if found.is_some() {
                self.offer(child, keys, node.ptr.birth);
            } else {
                self.lose(keys, node.ptr.birth);
            }
        }
    }

    fn has_room(&self, keys: &Keys) -> bool {
        self.in_holes(keys, Epoch(0)).iter().any(|part| !self.is_covered(part))
    }

    /// The parts of a range that lie in holes of nodes that are not older than `birth`.
    fn in_holes(&self, keys: &Keys, birth: Epoch) -> Vec<Keys> {
        let first = self.holes.partition_point(|h| h.keys.to.is_some_and(|to| to <= keys.from));
        let near = self.holes.iter().skip(first).take_while(|h| keys.to.is_none_or(|to| h.keys.from < to));
        near.filter(|h| birth <= h.until).filter_map(|h| h.keys.meet(keys)).collect()
    }

    /// True if a part of the range is answered for.
    fn touches(&self, keys: &Keys) -> bool {
        let before = self.covered.range(..=keys.from).next_back();
        let inside = before.is_some_and(|(_, to)| to.is_none_or(|to| to > keys.from));
        let next = self.covered.range(keys.from..).next();
        inside || next.is_some_and(|(from, _)| keys.to.is_none_or(|to| *from < to))
    }

    /// True if all of the range is answered for.
    fn is_covered(&self, keys: &Keys) -> bool {
        let before = self.covered.range(..=keys.from).next_back();
        before.is_some_and(|(_, to)| to.is_none_or(|to| keys.to.is_some_and(|end| end <= to)))
    }

    fn cover(&mut self, keys: Keys) {
        let Keys { mut from, mut to } = keys;
        if let Some((f, t)) = self.covered.range(..from).next_back().map(|(f, t)| (*f, *t))
            && t == Some(from)
        {
            self.covered.remove(&f);
            from = f;
        }
        if let Some(end) = to
            && let Some(t) = self.covered.remove(&end)
        {
            to = t;
        }
        self.covered.insert(from, to);
    }

    /// Takes a leaf, unless something newer is in a part of its range.
    fn offer(&mut self, ptr: BlockPtr, keys: Keys, birth: Epoch) {
        for part in self.in_holes(&keys, birth) {
            if !self.touches(&part) {
                self.cover(part);
                self.out.list.push(Leaf { keys: part, ptr });
            }
        }
    }

    fn lose(&mut self, keys: Keys, birth: Epoch) {
        for part in self.in_holes(&keys, birth) {
            if !self.touches(&part) {
                self.cover(part);
                self.out.lost.push(part);
            }
        }
    }
}
