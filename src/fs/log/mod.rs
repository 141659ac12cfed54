//! The vocabulary of the log: what a record says of the part of a head that is not in the tree.
//!
//! No state. Written by changes (`heads`), carried out by `commits`.

mod note;

pub use note::Note;
