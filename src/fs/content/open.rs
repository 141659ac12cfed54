//! Opening and closing files.

use super::orphan::drop_reference;
use super::setattr::set_attributes;
use crate::fs::attributes::flags::check_open;
use crate::fs::commits::Commits;
use crate::fs::heads::{OpenBy, Target, opened_to_write, target};
use crate::ops::{Caller, Error, FileType, Handle, NodeId, OpenFlags, Opening, Result, SetAttr};

/// See [`Operations::open_at_once`](crate::ops::Operations::open_at_once).
pub fn open_file(
    commits: &Commits,
    caller: &Caller,
    (node, by): (NodeId, OpenBy),
    flags: OpenFlags,
) -> Result<Opening> {
    let heads = &commits.heads;
    let view = match target(node) {
        Target::Live(_) if heads.options.read_only && (flags.write || flags.truncate) => {
            return Err(Error::ReadOnly);
        }
        Target::Live(_)
            if (flags.write || flags.truncate) && heads.asked_to_open(node, by)?.0.is_received =>
        {
            return Err(Error::ReadOnly);
        }
        Target::Live(_) => None,
        Target::Snapshot(..) if flags.write || flags.truncate => return Err(Error::ReadOnly),
        Target::Snapshot(slot, _) => Some(heads.snapshot_at(slot)?),
        Target::Snapdir(_) | Target::Clonedir => return Err(Error::IsADirectory),
    };
    let opening = heads.open((node, by), view, |inode| {
        match inode.kind {
            FileType::Regular => {}
            FileType::Directory => return Err(Error::IsADirectory),
            _ => return Err(Error::Invalid),
        }
        check_open(inode, flags)?;
        Ok(OpenFlags { sync: flags.sync || inode.flags.sync, ..flags })
    })?;
    let handle = match opening {
        Opening::Done(handle) => handle,
        later => return Ok(later),
    };
    if flags.write && node.is_live() {
        opened_to_write(heads, node);
    }
    if flags.truncate {
        let cut = SetAttr { size: Some(0), ..SetAttr::default() };
        if let Err(e) = set_attributes(commits, caller, node, &cut) {
            close_handle(commits, node, handle);
            return Err(e);
        }
    }
    heads.tell_opened(node, handle);
    Ok(Opening::Done(handle))
}

/// Closes a file or directory.
pub fn close_handle(commits: &Commits, node: NodeId, handle: Handle) {
    if commits.heads.handles.remove(handle) {
        commits.heads.shown.closed(node);
    }
    drop_reference(commits, node, false);
}
