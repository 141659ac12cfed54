//! Snapshots and clones as the rows of a list: what the volume knows of them, in the words of the commands.

use super::engine::{CloneRow, SnapshotRow};
use crate::format::ViewId;
use crate::fs::{Fs, method_of};
use crate::ops::Timestamp;
use crate::volume;

pub(super) fn listed(s: &volume::SnapshotInfo) -> SnapshotRow {
    SnapshotRow {
        name: s.name.clone(),
        id: s.id.0,
        created: Timestamp { secs: s.created.0, nanos: s.created.1 },
        referenced: s.referenced,
        exclusive: s.exclusive,
        written: s.written,
        reason: s.provenance.reason.name().into(),
        description: s.provenance.description.clone(),
        consistency: s.consistency,
        pause_us: s.pause_ns / 1000,
        held: Vec::new(),
        edited: s.edited,
        method: None,
    }
}

/// By which method a snapshot was made, if it is there.
pub(super) fn method(fs: &Fs, id: u64) -> Option<String> {
    let volume = fs.volume();
    method_of(volume, &volume.snapshot_info(ViewId(id))?).ok().map(Into::into)
}

pub(super) fn listed_clone(clone: &volume::CloneInfo) -> CloneRow {
    let line = clone.from.as_ref().map(|name| match &name[..] {
        b"" => b".".to_vec(),
        name => [b".clones/", name].concat(),
    });
    let origin = line.map(|line| match &clone.snapshot {
        Some(name) if line == b"." => [b".snapshots/", &name[..]].concat(),
        Some(name) => [&line[..], b"/.snapshots/", name].concat(),
        None => line,
    });
    CloneRow {
        name: clone.line.name.clone(),
        id: clone.line.id.0,
        created: Timestamp { secs: clone.line.created.0, nanos: clone.line.created.1 },
        origin,
        expires: clone.line.terms.expiry.map(|e| Timestamp { secs: e.at, nanos: 0 }),
        idle: clone.line.terms.idling.map(|i| i.after),
        reason: clone.line.provenance.reason.name().into(),
        snapshots: clone.snapshots as u64,
        referenced: clone.referenced,
        exclusive: clone.exclusive,
        written: clone.written,
    }
}
