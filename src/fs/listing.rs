//! A directory that is being listed: which entries are wanted, and who takes them.

use crate::ops::{DirEntry, Entry, Error, FileType, NodeId, Result};

/// Cookie of `.`.
const COOKIE_SELF: u64 = 1;
/// Cookie of `..`.
const COOKIE_PARENT: u64 = 2;
/// A directory to list.
pub struct Listing<'a> {
    /// Where it is.
    pub node: NodeId,
    /// Entries up to this cookie are not wanted.
    pub after: u64,
    /// Attributes are wanted.
    pub plus: bool,
    /// Takes entries until it returns false.
    pub sink: &'a mut dyn FnMut(&DirEntry) -> bool,
}

impl Listing<'_> {
    /// Gives an entry to the sink if it is wanted. False when the sink is full.
    pub fn give(
        &mut self,
        cookie: u64,
        node: NodeId,
        kind: FileType,
        name: &[u8],
        entry: impl FnOnce() -> Result<Entry>,
    ) -> Result<bool> {
        if cookie <= self.after {
            return Ok(true);
        }
        let dots = name == b"." || name == b"..";
        let entry = if self.plus && !dots { Some(entry()?) } else { None };
        Ok((self.sink)(&DirEntry { node, kind, name: name.to_vec(), cookie, entry }))
    }

    /// `.` and `..`.
    pub fn give_dots(&mut self, parent: NodeId) -> Result<bool> {
        let none = || Err(Error::Invalid);
        Ok(self.give(COOKIE_SELF, self.node, FileType::Directory, b".", none)?
            && self.give(COOKIE_PARENT, parent, FileType::Directory, b"..", none)?)
    }
}
