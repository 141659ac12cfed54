//! Items of a tree as what they mean: inodes, names, extents, content.
//!
//! No state. Reads views and transactions of the volume, and changes block maps in transactions.

mod blocks;
mod compression;
pub mod extents;
mod layout;
mod path;
mod reader;

pub use blocks::{is_zero, read_blocks};
pub use compression::{has_property, in_force, inherited};
pub use layout::{FromHome, away_record, from_home, goes_home, inherited_layout, layout_in_force};
pub use path::{name_of, path_bytes, path_of};
pub use reader::{Items, decode_extent};
