//! Content that moves while references to it stay as they are: which has moved, to where, and reading it wherever it is.
//!
//! Why and how: docs/decisions/0032. References are (address, birth); what a device has at an address is a place. This is the
//! only module that makes the one of the other.

mod moving;
mod places;
mod purged;
mod table;

#[cfg(test)]
mod tests;

pub use moving::Moving;
pub use places::Places;
pub use purged::Purged;
pub use table::{Remap, Wiped, reference};
