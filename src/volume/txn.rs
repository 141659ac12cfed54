//! The transaction: exclusive write access to one head, published when it ends.
//!
//! There is no abort. Whoever changes something reads and checks first, reserves, then changes. If a change fails half-way
//! (a node cannot be read) the volume takes no further commit, so that the half is never made durable.

use super::state::{Grave, State};
use super::{Result, View, Volume, VolumeError};
use crate::format::{BLOCK_BYTES, Epoch, Extent, Ino, Key, NODE_BYTES, ViewId, extent::EXTENT_BYTES_MAX};
use crate::store::{self, Store};
use crate::tree::Edit;
use parking_lot::RwLockWriteGuard;
use std::sync::Arc;

/// What an operation may need in the worst case.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    /// Items that it inserts, replaces or removes.
    pub items: u32,
    /// Bytes of file content that it adds.
    pub data_bytes: u64,
}

/// Who asks for space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Must leave the reserve alone.
    Write,
    /// Makes room in the end, and may use the reserve.
    Delete,
}

/// Nodes that a single item may dirty: the path and a split of each level.
const NODES_PER_ITEM: u64 = 5;
/// What a commit writes besides the trees of the views: meta tree paths, space map.
const COMMIT_OVERHEAD_BYTES: u64 = 48 * NODE_BYTES as u64;

/// Exclusive write access to a head. Dropping publishes.
pub struct Txn<'a> {
    volume: &'a Volume,
    state: RwLockWriteGuard<'a, State>,
    view: View,
}

impl<'a> Txn<'a> {
    pub(super) fn begin(volume: &'a Volume, mut state: RwLockWriteGuard<'a, State>, head: ViewId) -> Result<Txn<'a>> {
        let epoch = state.epoch;
        let root = state.roots.remove(&head).ok_or(VolumeError::NoSuchView)?;
        let view = View { id: head, epoch, root, shared: volume.shared.clone(), _pin: None };
        Ok(Txn { volume, state, view })
    }

    /// Ends the transaction without letting go of the lock.
    pub(super) fn end(mut self) -> RwLockWriteGuard<'a, State> {
        self.put_back();
        let this = std::mem::ManuallyDrop::new(self);
        take_state(this)
    }

    fn put_back(&mut self) {
        self.state.roots.insert(self.view.id, self.view.root.clone());
    }
}

impl Drop for Txn<'_> {
    fn drop(&mut self) {
        self.put_back();
    }
}
