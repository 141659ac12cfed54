//! Content that is taken out of the store on purpose: what is asked of commits for it, and what is written over.
//!
//! A commit holds the places and has the new leaves; then zeros and leaves are written; the next commit gives the places
//! back. Each step is found again after a crash and done again. Why so: docs/decisions/0040.

mod leaf;
mod load;
mod order;
mod step;

#[cfg(test)]
mod order_tests;
#[cfg(test)]
mod tests;

pub use leaf::{InlineContents, LeafPlace, NewLeaf};
pub(super) use load::KnownLeaves;
pub use load::LoadedLeaves;
pub(super) use order::OutOfReach;
pub use order::{Ordered, PurgeOrder, Purging};
pub use step::LeafTable;
pub(super) use step::{PurgeTurn, purge_nodes};
