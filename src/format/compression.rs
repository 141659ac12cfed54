//! How content is to be compressed: the choice, its text, and its place in an inode.
//!
//! It says what becomes of content that is written from now on, never what a stored extent is: that is in its item.

use super::{FormatError, bad};
use std::fmt;

/// Level of `zstd` without a number.
pub const LEVEL_DEFAULT: u8 = 3;
/// Highest level.
pub const LEVEL_MAX: u8 = 19;

/// A choice.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Compression {
    /// Content is stored as it is.
    #[default]
    Off,
    /// zstd at this level, 1 to 19, where it pays.
    Zstd(u8),
}

impl Compression {
    /// From `off`, `zstd` or `zstd:LEVEL`.
    pub fn parse(text: &str) -> Option<Compression> {
        match (text, text.strip_prefix("zstd:")) {
            ("off", _) => Some(Compression::Off),
            ("zstd", _) => Some(Compression::Zstd(LEVEL_DEFAULT)),
            (_, Some(level)) if level.bytes().all(|b| b.is_ascii_digit()) => {
                let level = level.parse().ok().filter(|level| (1..=LEVEL_MAX).contains(level));
                level.map(Compression::Zstd)
            }
            _ => None,
        }
    }

    /// The level, if content is to be compressed.
    pub fn level(self) -> Option<u8> {
        match self {
            Compression::Off => None,
            Compression::Zstd(level) => Some(level),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Compression::Off => f.write_str("off"),
            Compression::Zstd(level) => write!(f, "zstd:{level}"),
        }
    }
}

/// A choice in an inode, and where it is from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CompressionProperty {
    /// The choice.
    pub value: Compression,
    /// Copied from the directory in which the inode was made; otherwise it was set on the inode itself.
    pub inherited: bool,
}

const OFF: u8 = 1;
const ZSTD: u8 = 2;
const INHERITED: u8 = 1;

impl CompressionProperty {
    /// To three bytes of an inode; zeros for none.
    pub(super) fn encode(property: Option<CompressionProperty>) -> [u8; 3] {
        let Some(property) = property else { return [0; 3] };
        let (kind, level) = match property.value {
            Compression::Off => (OFF, 0),
            Compression::Zstd(level) => (ZSTD, level),
        };
        [kind, level, if property.inherited { INHERITED } else { 0 }]
    }

    /// From three bytes of an inode.
    pub(super) fn decode(bytes: [u8; 3]) -> Result<Option<CompressionProperty>, FormatError> {
        let value = match bytes {
            [0, 0, 0] => return Ok(None),
            [OFF, 0, 0 | INHERITED] => Compression::Off,
            [ZSTD, level @ 1..=LEVEL_MAX, 0 | INHERITED] => Compression::Zstd(level),
            _ => return bad!("inode has compression {bytes:?}"),
        };
        Ok(Some(CompressionProperty { value, inherited: bytes[2] == INHERITED }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_nonsense_is_refused() {
        for text in ["off", "zstd:1", "zstd:3", "zstd:19"] {
            assert_eq!(Compression::parse(text).map(|c| c.to_string()).as_deref(), Some(text));
        }
        assert_eq!(Compression::parse("zstd"), Some(Compression::Zstd(3)));
        for text in ["", "on", "OFF", "zstd:", "zstd:0", "zstd:20", "zstd:+3", "zstd:999", "lz4", "zstd: 3"] {
            assert_eq!(Compression::parse(text), None, "{text}");
        }
    }

    #[test]
    fn bytes_round_trip_and_nonsense_is_refused() {
        let mut good = 0;
        for bytes in (0..=255).flat_map(|a| (0..=255).flat_map(move |b| (0..4).map(move |c| [a, b, c]))) {
            if let Ok(property) = CompressionProperty::decode(bytes) {
                assert_eq!(CompressionProperty::encode(property), bytes);
                good += 1;
            }
        }
        assert_eq!(good, 1 + 2 + 2 * 19);
    }
}
