//! Content: reading and writing it, its size, the space that it has, copies; opening and closing files; and what becomes
//! of an inode that has lost its name.
//!
//! No state of its own: what is delayed is in `heads`, and `commits` gives it its place. Uses `attributes` for what a
//! change of content does to an inode.

mod copy;
mod hole;
mod homing;
mod open;
mod orphan;
mod read;
mod setattr;
mod truncate;
mod write;

pub use copy::{End, copy};
pub use hole::{allocate, drain, room_for_content, seek};
pub use homing::{Homing, HomingStep};
pub use open::{close_handle, open_file};
#[cfg(test)]
pub use orphan::{PurgeStep, purge_step};
pub use orphan::{drop_left, drop_reference, purge_all_unlinked, purge_inherited, purge_orphans};
pub use read::read_file;
pub use setattr::{set_attributes, shrink_ahead};
#[cfg(test)]
pub use truncate::change_of_size;
pub use write::write_file;
