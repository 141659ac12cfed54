//! What the committing thread keeps from one commit to the next.

use super::extra_refs::ExtraRefs;
use super::jobs::Jobs;
use super::purge::LeafTable;
use super::remap::Remap;
use super::space_map::SpaceMap;
use crate::format::purge::PurgeRest;
use crate::format::superblock::Superblock;
use crate::tree::Child;

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
    /// Background work.
    pub jobs: Jobs,
}
