//! The intent log: records of what was done since the last commit, in a ring of bytes that was written beforehand.
//!
//! Every transaction appends one record before it lets go of the state, so records are in the order of history, and
//! writes it to the device before its caller answers: a killed daemon loses nothing. A flush makes everything written
//! durable, one flush for all who wait. The next record says so, or, if none comes for a while, one without effects. A
//! commit frees the space of what it contains. What does not fit is lost to the log, and then only a commit makes it
//! durable. A block that was flushed is never written again.
//!
//! Not here: what records mean (`recover`), and when to commit.

mod log;
mod scan;

pub use log::Log;
pub use scan::{FoundLog, LogRecord, scan, scan_sides};
