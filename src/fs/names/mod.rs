//! Names: finding, listing, making, moving and removing them.
//!
//! No state of its own. Changes heads through `heads`, asks `past` for what is below a `.snapshots`, and leaves what a name
//! stands for to `attributes` and `content`.

mod create;
mod dir;
mod name;
mod remove;
mod rename;

pub use create::{NewNode, create_file, make, make_link, make_symlink, read_link};
pub use dir::{find, list, open_directory};
pub use name::check_new_name;
pub use remove::{remove_directory, remove_file};
pub use rename::rename;
