//! Lookups and ordered iteration. A root is immutable while it is borrowed, so what is read here is one moment.

use super::node::{Body, Child, Node};
use super::{Pager, Result};
use crate::format::{BlockPtr, Epoch, Key};
use std::sync::Arc;

/// A value inside its leaf; keeps the leaf alive.
#[derive(Clone)]
pub struct Item {
    leaf: Arc<Node>,
    index: usize,
}

impl Item {
    /// The item of a leaf at an index that it has.
    pub(super) fn of(leaf: &Arc<Node>, index: usize) -> Item {
        Item { leaf: leaf.clone(), index }
    }
}

impl std::ops::Deref for Item {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match &self.leaf.body {
            Body::Leaf(page) => page.value(self.index),
            Body::Inner(_) => unreachable!("an item is always in a leaf"),
        }
    }
}

/// The value of `key`.
pub fn get(pager: &Pager, root: &Child, key: &Key) -> Result<Option<Item>> {
    let mut node = pager.resolve(root)?;
    loop {
        let next = match &node.body {
            Body::Leaf(page) => {
                let found = page.find(key).ok();
                return Ok(found.map(|index| Item { leaf: node, index }));
            }
            Body::Inner(inner) => pager.resolve(&inner.children[inner.index(key)])?,
        };
        node = next;
    }
}

/// Where the leaf is that has `key`, if it has been written.
pub fn leaf_of(pager: &Pager, root: &Child, key: &Key) -> Result<Option<BlockPtr>> {
    let (mut at, mut node) = (root.place(), pager.resolve(root)?);
    loop {
        let next = match &node.body {
            Body::Leaf(page) => return Ok(at.filter(|_| page.find(key).is_ok())),
            Body::Inner(inner) => {
                let child = &inner.children[inner.index(key)];
                at = child.place();
                pager.resolve(child)?
            }
        };
        node = next;
    }
}

/// How many nodes the keys `from..=to` are in, or would be; none if there are more than `most`. Reads no leaves.
pub fn nodes_between(
    pager: &Pager,
    root: &Child,
    from: &Key,
    to: &Key,
    most: usize,
) -> Result<Option<usize>> {
    let node = pager.resolve(root)?;
    let Body::Inner(inner) = &node.body else { return Ok(Some(1)) };
    let (first, last) = (inner.index(from), inner.index(to));
    if inner.level == 1 {
        return Ok(Some(last - first + 2).filter(|n| *n <= most));
    }
    let mut nodes = 1;
    for child in &inner.children[first..=last] {
        match most.checked_sub(nodes) {
            Some(rest) => match nodes_between(pager, child, from, to, rest)? {
                Some(below) => nodes += below,
                None => return Ok(None),
            },
            None => return Ok(None),
        }
    }
    Ok(Some(nodes))
}

/// Epoch in which the newest of the leaves came to be that the keys `from..to` are in, or would be. Reads no leaves but a
/// root.
pub fn newest_birth(pager: &Pager, root: &Child, from: &Key, to: &Key) -> Result<Epoch> {
    let node = pager.resolve(root)?;
    let Body::Inner(inner) = &node.body else { return Ok(node.birth()) };
    let last = inner.keys.partition_point(|key| key < to).max(1);
    let mut newest = Epoch(0);
    for child in &inner.children[inner.index(from)..last] {
        newest = newest.max(match inner.level {
            1 => child.birth(),
            _ => newest_birth(pager, child, from, to)?,
        });
    }
    Ok(newest)
}

/// Where the leaves are that the keys `from..to` are in, or would be, and that are not in memory. Reads no leaves but a root.
pub fn leaves_to_read(pager: &Pager, root: &Child, from: &Key, to: &Key) -> Result<Vec<BlockPtr>> {
    let node = pager.resolve(root)?;
    let Body::Inner(inner) = &node.body else { return Ok(Vec::new()) };
    let (first, end) = (inner.index(from), inner.keys.partition_point(|key| key < to));
    let mut leaves = Vec::new();
    for child in inner.children.get(first..end).unwrap_or_default() {
        match inner.level {
            1 => leaves.extend(child.stored().filter(|ptr| pager.resident(ptr).is_none())),
            _ => leaves.extend(leaves_to_read(pager, child, from, to)?),
        }
    }
    Ok(leaves)
}

/// The greatest item in `floor..=key`.
pub fn last_at_or_before(pager: &Pager, root: &Child, key: &Key, floor: &Key) -> Result<Option<(Key, Item)>> {
    let node = pager.resolve(root)?;
    match &node.body {
        Body::Leaf(page) => {
            let end = match page.find(key) {
                Ok(i) => i + 1,
                Err(i) => i,
            };
            let Some(index) = end.checked_sub(1) else { return Ok(None) };
            let found = page.key(index);
            Ok((found >= *floor).then(|| (found, Item { leaf: node.clone(), index })))
        }
        Body::Inner(inner) => {
            for i in (0..=inner.index(key)).rev() {
                if let Some(found) = last_at_or_before(pager, &inner.children[i], key, floor)? {
                    return Ok(Some(found));
                }
                if inner.keys[i] <= *floor {
                    break;
                }
            }
            Ok(None)
        }
    }
}

/// Iterator over the items of a half-open key range, ascending.
pub struct Range<'a> {
    pager: &'a Pager,
    /// Nodes from the root down with the index of the next entry in each.
    stack: Vec<(Arc<Node>, usize)>,
    /// First child still to descend into, with the key to start from.
    start: Option<(Child, Key)>,
    to: Key,
}

/// Items from `from` up to, not including, `to`.
pub fn range<'a>(pager: &'a Pager, root: &Child, from: &Key, to: &Key) -> Range<'a> {
    Range { pager, stack: Vec::new(), start: Some((root.clone(), *from)), to: *to }
}

impl Range<'_> {
    fn descend(&mut self, child: Child, from: &Key) -> Result<()> {
        let mut node = self.pager.resolve(&child)?;
        loop {
            let (index, next) = match &node.body {
                Body::Leaf(page) => (page.find(from).unwrap_or_else(|i| i), None),
                Body::Inner(inner) => {
                    let i = inner.index(from);
                    (i + 1, Some(self.pager.resolve(&inner.children[i])?))
                }
            };
            self.stack.push((node, index));
            match next {
                Some(n) => node = n,
                None => return Ok(()),
            }
        }
    }

    fn step(&mut self) -> Result<Option<(Key, Item)>> {
        if let Some((child, from)) = self.start.take() {
            self.descend(child, &from)?;
        }
        loop {
            let Some((node, index)) = self.stack.last_mut() else { return Ok(None) };
            let i = *index;
            *index += 1;
            match &node.body {
                Body::Leaf(page) if i < page.count() => {
                    let key = page.key(i);
                    if key >= self.to {
                        self.stack.clear();
                        return Ok(None);
                    }
                    return Ok(Some((key, Item { leaf: node.clone(), index: i })));
                }
                Body::Inner(inner) if i < inner.children.len() => {
                    if inner.keys[i] >= self.to {
                        self.stack.clear();
                        return Ok(None);
                    }
                    let child = inner.children[i].clone();
                    self.descend(child, &Key::MIN)?;
                }
                _ => {
                    self.stack.pop();
                }
            }
        }
    }
}

impl Iterator for Range<'_> {
    type Item = Result<(Key, Item)>;
    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            self.stack.clear();
        }
        step.transpose()
    }
}
