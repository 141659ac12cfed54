//! The scrub: reads every block that is reachable, in pieces, heals what has a second copy, and tells whom the rest hits.
//!
//! Works on a volume that is mounted and being written to. A piece is read of a committed state that is pinned; between
//! pieces the state may be let go of, and the next piece goes on in the newest one. How far it got is an item of the
//! meta tree, so it goes on after a crash as well. Whoever drives it decides when and how fast: nothing here waits.
//!
//! It proves checksums, not meaning: that is what [`check`](crate::check) does.

mod hits;
#[cfg(test)]
mod moved_tests;
mod piece;
mod plan;
#[expect(clippy::module_inception, reason = "the module is named after the type that everybody has from it")]
mod scrub;
#[cfg(test)]
mod tests;

pub use scrub::Scrub;
