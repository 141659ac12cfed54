//! The past of one path: what was there in each snapshot of its line, and what happened to it in between.
//!
//! No state. A file is followed by its number, so a rename is a rename; where there is no such file yet, or not any more,
//! the path says what was there. Whether anything can have happened between two snapshots is told by the births of the
//! leaves that were read, without reading: snapshots in which nothing has happened to a file cost nothing. Holds two views at
//! a time, and that of the present only until it was compared with the newest snapshot.

mod consulted;
mod path_log;
mod place;
mod sight;
mod versions;
mod walk;

pub use path_log::{LogEntry, PathLog};
pub use place::Place;
pub use sight::Sight;
pub use versions::{PathVersion, Versions};
pub use walk::{Moment, Visitor, walk};
