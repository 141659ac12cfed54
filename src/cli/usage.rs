//! Wrong usage that only a command itself can find, after parsing.

use crate::ctl::{Code, Failure};

/// Marks a failure as wrong usage.
const USAGE_MARK: &str = "usage: ";

/// A failure that ends the program with the exit code of wrong usage.
pub(super) fn wrong(message: &str) -> Failure {
    Failure::new(Code::Invalid, format!("{USAGE_MARK}{message}"))
}

/// The sentence of such a failure; None for others.
pub(super) fn sentence(failure: &Failure) -> Option<&str> {
    failure.message.strip_prefix(USAGE_MARK)
}
