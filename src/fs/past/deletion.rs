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
