//! The repair of derived data: what follows from the rest of a store is counted anew and written again.
//!
//! Derived are the space map and its sum, extra references, dead lists, counters of views, and the second ring of
//! superblocks. Everything else - trees, view records, content - is read and never touched: what is wrong there is told
//! and left. If nothing derived is wrong, nothing is written. What is written is an ordinary commit, so a crash at any
//! moment leaves the store as it was or as it is to be. Only on a store that nobody has open.

#[cfg(test)]
mod moved_tests;
#[cfg(test)]
mod purge_tests;
mod run;
#[cfg(test)]
mod tests;

pub use run::{Mode, Repair, run};
