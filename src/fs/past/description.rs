//! What somebody says about a snapshot, also long after it was made. Nothing else of it changes.

use super::snapdir::Past;
use crate::format::provenance::DESCRIPTION_BYTES_MAX;
use crate::fs::heads::Head;
use crate::ops::{Error, Result};
use crate::volume::ReserveFor;

impl Past {
    /// Says something else about a snapshot of a line than was said, or nothing. Whatever made it, and whoever holds it: what it is and
    /// why it is there stays.
    pub fn describe_snapshot(&self, head: &Head, name: &[u8], description: &[u8]) -> Result<()> {
        if description.len() > DESCRIPTION_BYTES_MAX {
            return Err(Error::TooBig);
        }
        self.commits.heads.check_writable()?;
        self.have_room_ahead(ReserveFor::Record, &[])?;
        let held = self.one_at_a_time();
        let volume = &self.commits.heads.volume;
        let id = self.find_snapshot(head, name)?;
        self.commits.have_room_for_records(ReserveFor::Record)?;
        volume.describe_snapshot(head.line, id, description)?;
        drop(held);
        self.commits.outlive()
    }
}
