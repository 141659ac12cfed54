//! Getting files out of a store whose superblocks, roots or nodes are lost. The store is only read.
//!
//! In the order in which they are used:
//! - [`source`] finds where the tree of the wanted view begins;
//! - [`leaves`] finds what is left of that tree. Where pointers lead nowhere it takes what a [`scan`] of the device
//!   found;
//! - [`items`] reads the items in these leaves;
//! - [`names`] goes down the directories, and collects files that have lost their directory;
//! - [`entry`] writes out what is under one name;
//! - [`content`] checks the content of files against its checksums and copies it;
//! - [`output`] writes, inside one directory only, whose [`directories`] may be of any depth.
//!
//! Content that does not fit its checksum is not written: it becomes a hole, and is told.
//!
//! Bounds: a crafted image decides nothing but the amount of work, and that is proportional to its nodes and to what
//! its extents name. A second name of a file takes as many steps as there are directories between the two. Memory, in
//! bytes: about 100 for each leaf of the tree; the same for each node on the device if it is scanned; 100 and the name
//! for each directory and for each file with several names; 20 for every other file.

mod content;
mod directories;
mod entry;
mod items;
mod leaves;
#[cfg(test)]
mod moved_tests;
mod names;
mod output;
#[cfg(test)]
mod purge_tests;
mod report;
mod run;
mod scan;
mod source;
#[cfg(test)]
mod tests;

pub use report::{ContentReport, Listener, Outcome, Rescued, SalvageError, SalvageProgress, Summary, Wanted};
pub use run::run;
