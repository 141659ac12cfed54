//! What the committing thread keeps from one commit to the next.

use super::extra_refs::ExtraRefs;
use super::purge::LeafTable;
use super::remap::Remap;
use super::space_map::SpaceMap;
use crate::format::job::Job;
use crate::format::purge::PurgeRest;
use crate::format::superblock::Superblock;
use crate::tree::Child;
use std::collections::BTreeMap;

/// What only the committing thread touches, behind the committer's mutex.
pub(super) struct Committer {
    /// The state on the device.
    pub superblock: Superblock,
    pub meta_root: Child,
    pub space_map: SpaceMap,
    pub extra_refs: ExtraRefs,
    pub remap: Remap,
    /// Leaves that are not what pointers say.
    pub leaves: LeafTable,
    /// What no tree leads to is being written over.
    pub wiping: bool,
    /// What a purge has left to do that is planned anew.
    pub purge_rest: Option<PurgeRest>,
    /// Background work by id.
    pub jobs: BTreeMap<u64, Job>,
    /// Entries that the next step of it frees at most.
    pub step_entries: usize,
}
