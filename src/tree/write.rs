//! Writing a dirty tree out, bottom-up, and exchanging written nodes for their stored form.

use super::node::{Body, Child, Inner, Node};
use super::{Pager, Result};
use crate::format::header::{self, BlockKind, Header};
use crate::format::{BlockPtr, CopyAddrs, Epoch, NODE_BYTES, inner};
use std::sync::Arc;

/// Where the writer gets addresses and leaves bytes; `volume` gathers them to long runs.
pub trait NodeWriter {
    /// Addresses for a block of `len` bytes of metadata, as many as the store keeps copies.
    fn allocate(&mut self, len: usize) -> Result<CopyAddrs>;
    /// Takes the bytes of a block for all its places. They may reach the device later, before the next flush.
    fn write(&mut self, places: CopyAddrs, bytes: Vec<u8>) -> Result<()>;
    /// Identity for the headers.
    fn fsid(&self) -> u64;
}

/// Writes every node below `root` that has no place yet, children first, and returns the pointer to the root.
pub fn write_out(root: &Child, owner: u64, writer: &mut dyn NodeWriter) -> Result<BlockPtr> {
    let node = match root {
        Child::Stored(ptr) => return Ok(*ptr),
        Child::Mem(node) => node,
    };
    if let Some(ptr) = node.stored_at() {
        return Ok(ptr);
    }
    let (mut bytes, kind, level, count) = match &node.body {
        Body::Leaf(page) => (page.bytes().to_vec(), BlockKind::Leaf, 0, page.count()),
        Body::Inner(node) => {
            let mut ptrs = Vec::with_capacity(node.children.len());
            for child in &node.children {
                ptrs.push(write_out(child, owner, writer)?);
            }
            let bytes = inner::encode(node.keys.iter().copied().zip(ptrs));
            (bytes, BlockKind::Inner, node.level, node.children.len())
        }
    };
    let places = writer.allocate(NODE_BYTES)?;
    let header = Header { kind, level, count: count as u16, owner };
    let ptr = header::seal(&mut bytes, header, writer.fsid(), places, node.birth);
    writer.write(places, bytes)?;
    Ok(*node.ptr.get_or_init(|| ptr))
}

/// Exchanges nodes below `root` that were written by a commit of before `epoch` for their stored form, so that memory
/// is bounded by the cache. Descends only into nodes of `epoch`; one that a reader holds is left for the next time.
pub fn settle(pager: &Pager, root: &mut Child, epoch: Epoch) {
    let Child::Mem(arc) = root else { return };
    if let Some(ptr) = arc.stored_at() {
        let node = clean(pager, arc);
        pager.adopt(&ptr, node);
        *root = Child::Stored(ptr);
    } else if arc.birth == epoch
        && let Some(Node { body: Body::Inner(inner), .. }) = Arc::get_mut(arc)
    {
        for child in &mut inner.children {
            settle(pager, child, epoch);
        }
    }
}

/// The form of a written node that keeps no other node in memory; its written children go to the cache on the way.
fn clean(pager: &Pager, node: &Arc<Node>) -> Arc<Node> {
    let Body::Inner(inner) = &node.body else { return node.clone() };
    let children = inner.children.iter().map(|child| match child {
        Child::Mem(below) => match below.stored_at() {
            Some(ptr) => {
                pager.adopt(&ptr, clean(pager, below));
                Child::Stored(ptr)
            }
            None => unreachable!("a written node has written children"),
        },
        Child::Stored(ptr) => Child::Stored(*ptr),
    });
    let copy = Node::inner(
        node.birth,
        Inner { level: inner.level, keys: inner.keys.clone(), children: children.collect() },
    );
    if let Some(ptr) = node.stored_at() {
        copy.ptr.get_or_init(|| ptr);
    }
    Arc::new(copy)
}
