//! The ways to make a snapshot that a user can name.

use crate::format::Layout;
use crate::format::provenance::MadeBy;
use clap::ValueEnum;

/// How a snapshot is made.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Method {
    /// What is written over later goes to a new place, in all of the tree from then on
    Row,
    /// What is written over later comes back to its place, in all of the tree from then on
    Cow,
    /// And as a full copy in another store
    Clone,
    /// And as a full copy in another store, which is made in the background
    Background,
    /// By parting the second side of a mirror, as 'snapfs mirror split' does
    Mirror,
}

impl Method {
    /// What is kept of it with the snapshot.
    pub(super) fn made_by(self) -> MadeBy {
        match self {
            Method::Row => MadeBy::Row,
            Method::Cow => MadeBy::Cow,
            Method::Clone => MadeBy::Clone,
            Method::Background => MadeBy::Background,
            Method::Mirror => MadeBy::Mirror,
        }
    }

    /// The layout that the tree has from then on, if the method says so.
    pub(super) fn layout(self) -> Option<Layout> {
        match self {
            Method::Row => Some(Layout::Row),
            Method::Cow => Some(Layout::Cow),
            Method::Clone | Method::Background | Method::Mirror => None,
        }
    }
}
