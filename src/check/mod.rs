//! The auditor: proves the invariants of `docs/architecture.md` from the bytes of one committed state.
//!
//! It trusts nothing that the running volume holds in memory, reads around the cache, changes nothing, and works offline
//! as well as on a live store (the state is pinned). It reports what it finds, in stable sentences, and goes on.

mod audit;
mod derived;
mod files;
mod lists;
mod moved;
mod object;
mod path;
mod purged;
mod refs;
mod report;
mod space;
mod tiling;
mod waiting;

pub use audit::{check, check_space, derive};
pub use derived::{Counters, Derived, SpaceTruth};
pub use path::path_of;
pub use report::{Depth, Report};
pub use waiting::check_waiting;

#[cfg(test)]
mod tests;
