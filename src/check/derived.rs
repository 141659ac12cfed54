//! What the auditor counted anew: data that is derived from other data, as it must be.
//!
//! Only what differs from the stored bytes is listed. All of it follows from the trees of the views and their records,
//! so it can be written again without looking at what was stored. No file needs it to be read.

use crate::format::deadlist::DeadEntry;
use crate::format::{Epoch, Key, ViewId};
use crate::store::{BadCopy, RangeSet};

/// Bytes that a view record counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counters {
    /// What the view reaches.
    pub referenced: u64,
    /// What was written since the view below.
    pub written: u64,
    /// What only it reaches.
    pub exclusive: u64,
}

/// What is in use.
pub struct SpaceTruth {
    /// Every allocated range, blocks of the meta tree and of the space map included.
    pub allocated: RangeSet,
    /// Ranges with more than one reference (start, length, extra references), if those of the store are wrong.
    pub extra_refs: Option<Vec<(u64, u64, u32)>>,
}

/// Derived data that is wrong, and what is right.
#[derive(Default)]
pub struct Derived {
    /// What was found, in words: each is a problem of the report, too.
    pub found: Vec<String>,
    /// Every tree of a view was read whole, and all that says where content has moved: what nobody refers to is free.
    pub complete: bool,
    /// Counters of view records.
    pub counters: Vec<(ViewId, Counters)>,
    /// Dead lists: all entries with their buckets.
    pub lists: Vec<(u64, Vec<(Epoch, DeadEntry)>)>,
    /// Buckets of lists that nobody has.
    pub stray_buckets: Vec<Key>,
    /// Objects of chunks that no bucket names.
    pub stray_chains: Vec<u64>,
    /// Background jobs that cannot go on, and need not: what they would free, nobody refers to.
    pub jobs_gone: Vec<u64>,
    /// Records of moved content that no reference needs: the items of the meta tree.
    pub moved_gone: Vec<Key>,
    /// Records of purged content that are wrong: the items that are right, or none for those that are to go. What comes later counts.
    pub purge_items: Vec<(Key, Option<Vec<u8>>)>,
    /// Addresses of metadata blocks that do not hold what the block's other place does.
    pub copies: Vec<BadCopy>,
    /// Space map, sum of it in the superblock, extra references.
    pub space: Option<SpaceTruth>,
    /// Two owners claim the same block of metadata: nothing can be said about free space.
    pub conflict: bool,
    /// What a repair cannot bring back, and what that costs.
    pub leaks: Vec<String>,
}

impl Derived {
    /// True if nothing derived is wrong.
    pub fn is_right(&self) -> bool {
        self.found.is_empty()
    }
}
