//! Verified blocks by pointer: checksums, the allocator and the device behind them.
//!
//! Nothing leaves [`Store`] unverified: metadata blocks are checked against their pointer, data against its CRCs. The
//! store knows no keys, no inodes and no epochs beyond those in pointers.

mod ahead;
mod alloc;
mod batches;
mod block;
mod cache;
mod codec;
mod content;
mod error;
mod health;
#[cfg(test)]
mod homes_tests;
mod io;
mod range_set;
mod reading;
mod rewrites;
mod room;
mod sides;
mod space;
#[expect(clippy::module_inception, reason = "the module is named after the type that everybody has from it")]
mod store;

pub use alloc::{AllocClass, Allocator, TakenFree};
pub use batches::{BATCH, end_batch};
pub use cache::Cache;
pub use codec::Codec;
pub use error::{Result, StoreError};
pub use health::{Damage, Health};
pub use io::{IoCounts, IoSnapshot, WaitedFor};
pub use range_set::RangeSet;
pub use reading::{BadCopy, BadSide, Reading};
pub use rewrites::{Rewrite, Rewrites};
pub use room::Room;
pub use space::KEEP_SHARE;
pub use store::{Alloc, Store};
