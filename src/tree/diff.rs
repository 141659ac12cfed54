//! Comparing two trees: the items in which they differ, at the cost of what differs.
//!
//! Both are walked together by key. Two subtrees that are one node, at the same place on the device or the same in memory,
//! are passed over without being read (docs/architecture.md, invariant 3). What is read besides is the way from the roots
//! to the leaves that differ, on both sides, and no more than twice that where borders between nodes have moved. Memory: one
//! such way for each side.

use super::node::{Body, Child, Node};
use super::{Item, Pager, Result, TreeError};
use crate::format::Key;
use std::cmp::Ordering;
use std::sync::Arc;

/// A key whose items differ: the value in the older tree and in the newer one, none where the key is not there.
pub struct DiffItem {
    /// The key.
    pub key: Key,
    /// Before.
    pub old: Option<Item>,
    /// Now.
    pub new: Option<Item>,
}

/// Iterator over the items of a half-open key range in which two trees differ, ascending. Ends after an error.
pub struct Diff<'a> {
    old: Position<'a>,
    new: Position<'a>,
}

/// Items from `from` up to, not including, `to` that differ between two trees of one store, whatever their heights.
pub fn diff<'a>(pager: &'a Pager, old: &Child, new: &Child, from: &Key, to: &Key) -> Diff<'a> {
    let start = |root: &Child| Position {
        pager,
        stack: Vec::new(),
        head: Some(Head::Subtree { from: *from, child: root.clone(), level: None }),
        from: *from,
        to: *to,
    };
    Diff { old: start(old), new: start(new) }
}

/// What comes next in a tree.
enum Head {
    /// A node that was not read yet, with the least key that is wanted of it, and its level if its parent says so.
    Subtree { from: Key, child: Child, level: Option<u8> },
    /// An item.
    Item(Key, Item),
}

impl Head {
    fn key(&self) -> &Key {
        match self {
            Head::Subtree { from, .. } | Head::Item(from, _) => from,
        }
    }

    fn is_subtree(&self) -> bool {
        matches!(self, Head::Subtree { .. })
    }
}

/// Where the walk is in one of the trees.
struct Position<'a> {
    pager: &'a Pager,
    /// Nodes from the root down with the index of the entry behind the head in each.
    stack: Vec<(Arc<Node>, usize)>,
    head: Option<Head>,
    from: Key,
    to: Key,
}

impl Position<'_> {
    /// Goes on behind the head, without reading.
    fn pass(&mut self) {
        self.head = loop {
            let Some((node, index)) = self.stack.last_mut() else { break None };
            let i = *index;
            *index += 1;
            match &node.body {
                Body::Leaf(page) if i < page.count() && page.key(i) < self.to => {
                    break Some(Head::Item(page.key(i), Item::of(node, i)));
                }
                Body::Inner(inner) if i < inner.children.len() && inner.keys[i] < self.to => {
                    let (from, child) = (inner.keys[i].max(self.from), inner.children[i].clone());
                    break Some(Head::Subtree { from, child, level: Some(inner.level - 1) });
                }
                _ => drop(self.stack.pop()),
            }
        };
    }

    /// Reads the node that comes next; the head is the first of what is in it.
    fn enter(&mut self) -> Result<()> {
        let Some(Head::Subtree { child, level, .. }) = &self.head else { return Ok(()) };
        let node = self.pager.resolve(child)?;
        // So a walk ends, whatever the bytes are.
        if let Some(level) = level.filter(|level| *level != node.level()) {
            let place = child.place().map_or("in memory".into(), |ptr| format!("at {}", ptr.addr));
            let what = format!("tree node {place} has level {}, expected {level}", node.level());
            return Err(TreeError::corrupt(what));
        }
        let index = match &node.body {
            Body::Leaf(page) => page.find(&self.from).unwrap_or_else(|i| i),
            Body::Inner(inner) => inner.index(&self.from),
        };
        self.stack.push((node, index));
        self.pass();
        Ok(())
    }

    /// Takes the item that comes next.
    fn take(&mut self) -> Option<Item> {
        match self.head.take() {
            Some(Head::Item(_, item)) => {
                self.pass();
                Some(item)
            }
            other => {
                self.head = other;
                None
            }
        }
    }
}

/// True if both are the same node. False says nothing of what is below.
pub fn is_same(a: &Child, b: &Child) -> bool {
    match (a, b) {
        (Child::Mem(a), Child::Mem(b)) if Arc::ptr_eq(a, b) => true,
        _ => a.place().is_some_and(|place| b.place() == Some(place)),
    }
}

/// What to do next.
enum Move {
    PassBoth,
    EnterOld,
    EnterNew,
    TakeOld,
    TakeNew,
    TakeBoth,
}

impl Diff<'_> {
    fn next_move(&self) -> Option<Move> {
        let (old, new) = match (&self.old.head, &self.new.head) {
            (None, None) => return None,
            (Some(old), None) => {
                return Some(if old.is_subtree() { Move::EnterOld } else { Move::TakeOld });
            }
            (None, Some(new)) => {
                return Some(if new.is_subtree() { Move::EnterNew } else { Move::TakeNew });
            }
            (Some(old), Some(new)) => (old, new),
        };
        if let (Head::Subtree { child: a, level: la, .. }, Head::Subtree { child: b, level: lb, .. }) =
            (old, new)
        {
            if is_same(a, b) {
                return Some(Move::PassBoth);
            }
            return Some(match old.key().cmp(new.key()) {
                // What begins first has to be read, however the other goes on.
                Ordering::Less => Move::EnterOld,
                Ordering::Greater => Move::EnterNew,
                // A root, whose level is not known yet, is above all; else the higher may have the lower below it.
                Ordering::Equal => match (la, lb) {
                    (None, _) => Move::EnterOld,
                    (_, None) => Move::EnterNew,
                    (Some(la), Some(lb)) if la >= lb => Move::EnterOld,
                    _ => Move::EnterNew,
                },
            });
        }
        Some(match (old.key().cmp(new.key()), old.is_subtree(), new.is_subtree()) {
            (Ordering::Less, true, _) | (Ordering::Equal, true, _) => Move::EnterOld,
            (Ordering::Greater, _, true) | (Ordering::Equal, _, true) => Move::EnterNew,
            (Ordering::Less, false, _) => Move::TakeOld,
            (Ordering::Greater, _, false) => Move::TakeNew,
            (Ordering::Equal, false, false) => Move::TakeBoth,
        })
    }

    fn step(&mut self) -> Result<Option<DiffItem>> {
        while let Some(next) = self.next_move() {
            let key = |position: &Position<'_>| position.head.as_ref().map_or(Key::MAX, |head| *head.key());
            match next {
                Move::PassBoth => {
                    self.old.pass();
                    self.new.pass();
                }
                Move::EnterOld => self.old.enter()?,
                Move::EnterNew => self.new.enter()?,
                Move::TakeOld => {
                    return Ok(Some(DiffItem { key: key(&self.old), old: self.old.take(), new: None }));
                }
                Move::TakeNew => {
                    return Ok(Some(DiffItem { key: key(&self.new), old: None, new: self.new.take() }));
                }
                Move::TakeBoth => {
                    let key = key(&self.old);
                    let (old, new) = (self.old.take(), self.new.take());
                    if old.as_deref() != new.as_deref() {
                        return Ok(Some(DiffItem { key, old, new }));
                    }
                }
            }
        }
        Ok(None)
    }
}

impl Iterator for Diff<'_> {
    type Item = Result<DiffItem>;
    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            for position in [&mut self.old, &mut self.new] {
                position.stack.clear();
                position.head = None;
            }
        }
        step.transpose()
    }
}
