//! Getting files out of a store whose superblocks, roots or nodes are lost. The store is only read.
//!
//! [`source`] finds where the tree of the wanted view begins and [`leaves`] what is left of it, with the help of a
//! [`scan`] of the device where pointers lead nowhere; [`items`] reads it, [`names`] goes down the directories and
//! collects what has lost its directory, [`entry`] writes out one name, [`content`] proves and copies what is in files,
//! [`output`] writes it, inside one directory, whose [`directories`] may be of any depth. Nothing unproved is written: what does not fit its checksum is a hole, and told.
//!
//! Bounds: an image decides nothing but the amount of work, which is proportional to its nodes and to what its extents
//! name; a second name takes as many steps as the directories of both are apart. Memory is about 100 bytes for each leaf of the tree, the same for each node on the device if it is scanned, 100
//! bytes and the name for each directory and each file with several names, and 20 for every other file.

mod content;
mod directories;
mod entry;
mod items;
mod leaves;
mod names;
mod output;
mod report;
mod run;
mod scan;
mod source;
#[cfg(test)]
mod tests;

pub use report::{ContentReport, Listener, Outcome, Rescued, SalvageError, SalvageProgress, Summary, Wanted};
pub use run::run;
