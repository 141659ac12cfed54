//! Differences: what became of each path between two views of one store, and that as a patch.
//!
//! No state. Numbers of inodes are the store's and never given twice, so a renamed file is known by its number and nothing
//! is guessed. Reads views, at the cost of what differs; a patch reads the content of the files that changed as well.

mod all_paths;
mod content;
#[expect(clippy::module_inception, reason = "the room is named after what it finds")]
mod difference;
mod file_pair;
mod hunks;
mod inode_diff;
mod patch;
mod path_change;
mod paths;

pub use all_paths::all_paths;
pub use content::{FileAt, has_content, is_same_content, same_bytes};
pub use difference::{difference, difference_of};
pub use file_pair::{FilePair, file_pairs};
pub use inode_diff::{InodeDiff, each_inode, has_changed, items_of};
pub use patch::patch;
pub use path_change::{ChangeKind, FileVersion, PathChange};
pub use paths::{Name, Paths, is_below, names_of};
