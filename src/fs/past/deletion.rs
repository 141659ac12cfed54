//! Where what is deleted goes: into the trash, or nowhere.

use crate::format::provenance::Provenance;

/// Where what is deleted goes.
#[derive(Clone, Copy)]
pub enum Deletion<'p> {
    /// Into the trash if there is one: by whom.
    Kept(&'p Provenance),
    /// For good.
    Final,
}

/// Where something has gone that was deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gone {
    /// Into the trash.
    ToTrash,
    /// For good, as it was asked for, or because there is no trash.
    ForGood,
    /// For good, because there was no room for it in the trash.
    NoRoomInTrash,
}
