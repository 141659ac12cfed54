//! The commit of a repair: derived data is written anew, as an ordinary state of the store.
//!
//! The trees of the views are not touched, and neither is any block of the state that is repaired: what is new goes to
//! free space, then the superblock follows, between two flushes. A crash leaves the old state or the new one. Pending
//! snapshots stay in the superblock, and the log goes on from the new state as from the old one. Only on a store that
//! nobody has open.

use super::audit::Committed;
use super::commit::view_key;
use super::error::corrupt;
use super::history::{Meta, deadlist};
use super::space_map::SpaceMap;
use super::writer::CommitWriter;
use super::{Result, ring};
use crate::format::deadlist::DeadEntry;
use crate::format::header::BlockKind;
use crate::format::superblock::Superblock;
use crate::format::view::ViewRecord;
use crate::format::{BlockPtr, Epoch, Key, Kind};
use crate::store::{Allocator, BadCopy, RangeSet, Store};
use crate::tree::{self, Child, Edit, Step, Visit, walk_readable};
use std::collections::BTreeMap;

/// What is right.
#[derive(Default)]
pub struct Mending {
    /// View records to write.
    pub records: Vec<ViewRecord>,
    /// Dead lists to write, with all their entries.
    pub lists: Vec<(u64, Vec<(Epoch, DeadEntry)>)>,
    /// Items of the meta tree to remove.
    pub gone: Vec<Key>,
    /// Items to remove or to write, in this order, after those that go.
    pub items: Vec<(Key, Option<Vec<u8>>)>,
    /// Objects whose chunks are to be removed.
    pub gone_chains: Vec<u64>,
    /// All extra references, if they change.
    pub extra_refs: Option<Vec<(u64, u64, u32)>>,
    /// What is allocated now. What is not may be written to.
    pub allocated: RangeSet,
}

/// Writes `mending` over the derived data of `state` and makes it durable. Returns the new state.
pub fn commit(state: &Committed, mending: &Mending) -> Result<Superblock> {
    write(state, &mending.allocated, &mut |meta, next_id| change(meta, state, mending, next_id))
}

/// Writes a state with a changed meta tree and with a space map that says: `allocated`, and what the tree and the map
/// take in place of what they took before.
pub(crate) fn write(
    state: &Committed,
    allocated: &RangeSet,
    change: &mut dyn FnMut(&mut Meta<'_, '_>, &mut u64) -> Result<()>,
) -> Result<Superblock> {
    let old = &state.superblock;
    let space = state.space();
    let mut alloc = Allocator::new(space.start, space.end);
    for (addr, len) in allocated.iter() {
        if !alloc.mark_allocated(addr, len) {
            return Err(corrupt(format!("{addr:#x}+{len} is in use, but lies outside of the store")));
        }
    }
    for (addr, len) in &state.logged {
        // What is in use can be no content of the log: a replay will stop there.
        alloc.take(*addr, *len);
    }
    let reader = state.pager.store();
    let store = Store::new(reader.device().clone(), reader.fsid(), alloc);
    let mut writer = CommitWriter::new(&store, old.metadata_copies);
    let in_memory = matches!(state.meta_root, Child::Mem(_));
    let epoch = if in_memory { old.epoch } else { old.epoch.next() };
    let (mut next_id, mut freed) = (old.next_id, Vec::new());
    let mut meta_root = state.meta_root.clone();
    let mut edit = Edit { pager: &state.pager, epoch, freed: &mut freed, nodes_made: 0 };
    let mut meta = Meta { edit: &mut edit, root: &mut meta_root };
    change(&mut meta, &mut next_id)?;
    let meta_ptr = tree::write_out(&meta_root, 0, &mut writer)?;
    let mut replaced: Vec<BlockPtr> = freed.iter().filter_map(tree::FreedNode::ptr).collect();
    if in_memory {
        replaced = meta_blocks(state)?;
    }
    let mut freed: Vec<(u64, u64)> = replaced.iter().flat_map(BlockPtr::ranges).collect();
    if let Some((addr, len)) = store.not_allocated(freed.clone()) {
        return Err(corrupt(format!("{addr:#x}+{len} would be freed, but is not allocated")));
    }
    let mut space_map = SpaceMap::to_replace(state.space_map.clone());
    space_map.append(&mut writer, &store, &[], &mut freed, epoch)?;
    writer.write_gathered()?;
    store.flush()?;
    let sum = |ranges: &[(u64, u64)]| ranges.iter().map(|(_, l)| l).sum::<u64>();
    let new = Superblock {
        seq: old.seq + 1,
        epoch,
        meta_root: meta_ptr,
        space_map: space_map.head(),
        allocated: allocated.bytes() + sum(&writer.allocated) - sum(&freed),
        next_id,
        ..old.clone()
    };
    Superblock::decode(&new.encode())?;
    ring::write(&store, &new)?;
    store.flush()?;
    Ok(new)
}

/// Writes bad copies of blocks of a state anew, each from the good one, and makes that durable. A crash leaves the good
/// ones as they were.
pub fn heal(state: &Committed, copies: &[BadCopy]) -> Result<()> {
    let (store, space) = (state.pager.store(), state.space());
    for bad in copies {
        let (bytes, _) =
            store.read_block(&bad.ptr, &[BlockKind::Leaf, BlockKind::Inner, BlockKind::SpaceMap])?;
        let at = bad.addr.0;
        if at < space.start || at.checked_add(bytes.len() as u64).is_none_or(|end| end > space.end) {
            return Err(corrupt(format!("the copy of a block at {at:#x} would lie outside of the store")));
        }
        store.write_raw(at, &bytes)?;
    }
    if copies.is_empty() { Ok(()) } else { Ok(store.flush()?) }
}

fn change(meta: &mut Meta<'_, '_>, state: &Committed, mending: &Mending, next_id: &mut u64) -> Result<()> {
    for key in &mending.gone {
        meta.edit.remove(meta.root, key)?;
    }
    for (key, value) in &mending.items {
        match value {
            Some(value) => meta.edit.insert(meta.root, key, value)?,
            None => drop(meta.edit.remove(meta.root, key)?),
        }
    }
    for oid in &mending.gone_chains {
        deadlist::drop_chain(meta, *oid)?;
    }
    for (list, entries) in &mending.lists {
        deadlist::replace(meta, *list, entries, next_id)?;
    }
    for record in &mending.records {
        meta.edit.insert(meta.root, &view_key(record.id), &record.encode())?;
    }
    let Some(extra_refs) = &mending.extra_refs else { return Ok(()) };
    let before: BTreeMap<u64, (u64, u32)> = state.extra_refs.iter().map(|(a, l, n)| (*a, (*l, *n))).collect();
    let after: BTreeMap<u64, (u64, u32)> = extra_refs.iter().map(|(a, l, n)| (*a, (*l, *n))).collect();
    for addr in before.keys().filter(|addr| !after.contains_key(addr)) {
        meta.edit.remove(meta.root, &Key::new(0, Kind::ExtraRefs, *addr))?;
    }
    for (addr, (len, extra)) in after.iter().filter(|(addr, entry)| before.get(addr) != Some(entry)) {
        let item = [len.to_le_bytes(), u64::from(*extra).to_le_bytes()].concat();
        meta.edit.insert(meta.root, &Key::new(0, Kind::ExtraRefs, *addr), &item)?;
    }
    Ok(())
}

/// All blocks of the meta tree of a state, those that cannot be read included.
fn meta_blocks(state: &Committed) -> Result<Vec<BlockPtr>> {
    let (mut blocks, mut lost_root) = (Vec::new(), None);
    let mut visit = |visit: Visit<'_>| {
        if let Visit::Node(ptr, ..) = visit {
            blocks.push(*ptr);
        }
        Ok(Step::Into)
    };
    walk_readable(&state.pager, &state.superblock.meta_root, Epoch(0), &mut visit, &mut |node| {
        if node.level.is_none() {
            lost_root = Some(*node.ptr);
        }
        Ok(())
    })?;
    blocks.extend(lost_root);
    Ok(blocks)
}
