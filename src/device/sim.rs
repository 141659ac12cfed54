//! A simulated disk that fails as real ones do, and the same way for the same seed.
//!
//! It keeps two images: what calls see, and what is durable; the changes between them are the unsynced calls in order.
//! A crash builds a new disk from the durable image and any subset of those changes, torn at 512-byte sectors. Changes
//! are applied in the order of the calls: since the last one kept decides a sector, subsets cover every reordering.
//!
//! Invariants: no clock, no ambient randomness, no dependence on hash order; space is taken for written pages alone,
//! and copies share pages, so that thousands of disks and crashes cost little. It does not simulate delays.

mod call;
mod crash;
mod disk;
mod faults;
mod image;
mod random;
mod state;
#[cfg(test)]
mod tests;

pub use call::{Call, Op};
pub use crash::CrashPolicy;
pub use disk::Sim;
pub use faults::Persistence;
