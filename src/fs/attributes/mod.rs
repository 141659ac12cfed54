//! Attributes of inodes: what `stat` shows, extended attributes and access lists, flags, access times, compression; and
//! what a new inode gets.
//!
//! No state of its own: it works on `heads` and, for the one property that waits for a commit, on `commits`. Sizes and
//! block maps are not changed here.

mod acl;
mod atime;
mod choice;
mod compression;
pub mod flags;
mod layout;
mod method;
mod new;
mod privileges;
mod show;
mod side_limit;
mod snapshot;
mod stored;
mod terms;
mod xattr;

pub use acl::{follow_mode, is_acl};
pub use atime::{accessed, cache_of};
pub use method::{method_of, stores_with};
pub use new::{make_root, new_child};
pub use privileges::{Writer, kill_privileges, writer, written_by};
pub use show::{attr, entry, entry_in, get};
pub use snapshot::time_of;
pub use stored::all_xattrs;
pub use xattr::{get_xattr, list_xattr, remove_xattr, set_xattr};
