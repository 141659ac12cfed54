//! Where content that is written over goes: the choice, its text, and its place in an inode.

use super::{FormatError, bad};
use std::fmt;

/// A choice.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Layout {
    /// To a new place, where it stays.
    #[default]
    Row,
    /// To a new place, and from there, in the background, to where it was before.
    Cow,
}

impl Layout {
    /// From `row` or `cow`.
    pub fn parse(text: &str) -> Option<Layout> {
        match text {
            "row" => Some(Layout::Row),
            "cow" => Some(Layout::Cow),
            _ => None,
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Layout::Row => "row",
            Layout::Cow => "cow",
        })
    }
}

/// A choice in an inode, and where it is from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LayoutProperty {
    /// The choice.
    pub value: Layout,
    /// Copied from the directory in which the inode was made; otherwise it was set on the inode itself.
    pub inherited: bool,
}

const ROW: u8 = 1;
const COW: u8 = 2;

impl LayoutProperty {
    /// To two bytes of an inode; zeros for none.
    pub(super) fn encode(property: Option<LayoutProperty>) -> [u8; 2] {
        let Some(property) = property else { return [0; 2] };
        let value = match property.value {
            Layout::Row => ROW,
            Layout::Cow => COW,
        };
        [value, property.inherited.into()]
    }

    /// From two bytes of an inode.
    pub(super) fn decode(bytes: [u8; 2]) -> Result<Option<LayoutProperty>, FormatError> {
        let value = match bytes {
            [0, 0] => return Ok(None),
            [ROW, 0 | 1] => Layout::Row,
            [COW, 0 | 1] => Layout::Cow,
            [value, inherited] => return bad!("inode has layout {value}, inherited {inherited}"),
        };
        Ok(Some(LayoutProperty { value, inherited: bytes[1] == 1 }))
    }
}
