//! What decoders answer when bytes do not mean what they should.

/// Bytes that do not mean what they should. The sentence says which field, what was found and what is allowed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FormatError(pub String);

impl std::fmt::Display for FormatError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FormatError {}

/// `Err(FormatError)` from a format string.
macro_rules! bad {
    ($($arg:tt)*) => { Err($crate::format::FormatError(format!($($arg)*))) };
}
pub(crate) use bad;
