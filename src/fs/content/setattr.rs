//! `setattr`: changing attributes, the size among them.

use super::truncate::{change_of_size, exceeds_step, resize};
use crate::format::inode::{Inode, MODE_BITS};
use crate::fs::attributes::{Writer, attr, flags, follow_mode, kill_privileges, writer, written_by};
use crate::fs::commits::Commits;
use crate::ops::{Attr, Caller, FileType, NodeId, Result, SetAttr, SetTime, Timestamp};
use crate::volume::ReserveFor;
use std::time::Duration;

/// See [`Operations::setattr_ahead`](crate::ops::Operations::setattr_ahead).
pub fn shrink_ahead(commits: &Commits, caller: &Caller, node: NodeId, size: u64) -> Result<()> {
    let heads = &commits.heads;
    let (head, ino) = heads.target(node)?;
    // Most files shrink in one step, and that is found without a change.
    if !exceeds_step(commits, &heads.view(&head)?, ino, size) {
        return Ok(());
    }
    let writer = writer(heads, &head, caller, ino)?;
    commits.with_space(|| change_of_size(commits, &head, writer, ino, size).map(drop))
}

/// See [`Operations::setattr`](crate::ops::Operations::setattr).
pub fn set_attributes(
    commits: &Commits,
    caller: &Caller,
    node: NodeId,
    set: &SetAttr,
) -> Result<(Attr, Duration)> {
    let heads = &commits.heads;
    let (head, ino) = heads.target(node)?;
    let writer = if set.size.is_some() { writer(heads, &head, caller, ino)? } else { Writer::Privileged };
    let mut change = match set.size {
        Some(size) => change_of_size(commits, &head, writer, ino, size)?,
        None => heads.change(&head)?,
    };
    let mut inode = change.known(ino)?;
    flags::check_attributes(&inode, set)?;
    let chown = set.uid.is_some() || set.gid.is_some();
    if set.size.is_some() {
        change.regular(ino)?;
    }
    let not_directory = inode.kind != FileType::Directory;
    if not_directory && chown {
        kill_privileges(&mut change, ino, &mut inode)?;
    }
    written_by(&mut change, writer, ino, &mut inode)?;
    let now = change.now;
    if set.size.is_some() {
        inode.mtime = now;
    }
    let changed_before = inode.ctime;
    apply_attributes(&mut inode, set, now);
    if set.mode.is_some() {
        follow_mode(&mut change, ino, &inode)?;
    }
    match set.size {
        Some(size) => {
            // What is cut off was there before.
            let changed = std::mem::replace(&mut inode.ctime, changed_before);
            resize(&mut change, ino, &mut inode, size)?;
            inode.ctime = changed;
            change.put_inode(ino, &inode);
        }
        None => {
            change.put_inode(ino, &inode);
            change.reserve(0, ReserveFor::Write)?;
        }
    }
    change.apply()?;
    let shown = attr(heads, node, &inode);
    heads.shown.doubt(node);
    Ok((shown, Duration::MAX))
}

fn apply_attributes(inode: &mut Inode, set: &SetAttr, now: Timestamp) {
    let time = |t: SetTime| match t {
        SetTime::Now => now,
        SetTime::At(at) => at,
    };
    inode.mode = set.mode.map_or(inode.mode, |m| m & MODE_BITS);
    inode.uid = set.uid.unwrap_or(inode.uid);
    inode.gid = set.gid.unwrap_or(inode.gid);
    inode.atime = set.atime.map_or(inode.atime, time);
    inode.mtime = set.mtime.map_or(inode.mtime, time);
    inode.ctime = set.ctime.unwrap_or(now);
}
