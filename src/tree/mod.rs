//! An ordered map of [`Key`] to bytes over copy-on-write blocks.
//!
//! A tree is its root ([`Child`]); cloning a root is a snapshot of the whole map. Changes go through [`Edit`], which
//! copies every node that is older than the current epoch and reports the replaced one as freed: a node that any root,
//! reader or commit may still see is never changed. Addresses are assigned late, by [`write_out`].
//!
//! The tree knows nothing of files, snapshots or free space.

mod diff;
mod edit;
mod kept;
mod node;
mod pager;
mod read;

mod rehearsal;
mod scan;
mod walk;
mod write;

pub use diff::{Diff, DiffItem, diff, is_same};
pub use edit::{Edit, FreedNode, empty};
pub use kept::Kept;
pub use node::{Child, Node};
pub use pager::Pager;
pub use read::{
    Item, Range, get, last_at_or_before, leaf_of, leaves_to_read, newest_birth, nodes_between, range,
};
pub use rehearsal::Planned;
pub use scan::{Bounds, Met, Span, leads_to, scan};
pub use walk::{LostNode, Step, Visit, walk, walk_readable};
pub use write::{NodeWriter, settle, write_out};

/// Result of the tree: its only failures are those of the store.
pub type Result<T> = crate::store::Result<T>;
pub(crate) use crate::store::StoreError as TreeError;

#[cfg(test)]
mod diff_tests;
#[cfg(test)]
mod tests;
