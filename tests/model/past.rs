//! Lines and their snapshots as a person asks for them: through `.clones`, and the `.snapshots` of each line.

use snapfs::format::{Ino, Key, Kind, LineId};
use snapfs::fs::{
    Fs, MergeDone, MergeOrder, MergeRefusal, MergeWay, OpenForWriting, Promoted, PromotionOrder, Reason,
    Refusal,
};
use snapfs::ops::{Error, NodeId, Operations, RenameMode, Result};
use snapfs::volume::{LineRecord, SnapshotInfo};

use crate::observe::ADMIN;

/// The `.clones` of the main line.
pub const CLONEDIR: NodeId = NodeId::clonedir(0);

/// Number of the line of that name; the main line has none.
pub fn line_id(fs: &Fs, line: &[u8]) -> Result<LineId> {
    match line {
        b"" => Ok(LineId::MAIN),
        name => fs.volume().find_line(name).map(|line| line.id).ok_or(Error::NotFound),
    }
}

/// The line of that name.
pub fn line_of(fs: &Fs, line: &[u8]) -> Result<LineRecord> {
    Ok(fs.volume().line(line_id(fs, line)?)?)
}

/// The root of a line.
pub fn line_root(line: &LineRecord) -> NodeId {
    NodeId::live(line.slot.0, NodeId::ROOT.ino())
}

/// The `.snapshots` of the line whose root this is.
pub fn snapdir_of(root: NodeId) -> NodeId {
    NodeId::snapdir(root.slot(), NodeId::ROOT.ino())
}

/// The same of the line of that name.
fn snapdir_in(fs: &Fs, line: &[u8]) -> Result<NodeId> {
    Ok(snapdir_of(line_root(&line_of(fs, line)?)))
}

/// The root of a snapshot.
pub fn root_of(snapshot: &SnapshotInfo) -> NodeId {
    NodeId::snapshot(snapshot.slot.0, NodeId::ROOT.ino())
}

/// The snapshot that a line shows under that name.
pub fn find(fs: &Fs, line: &[u8], name: &[u8]) -> Result<SnapshotInfo> {
    fs.volume().find_snapshot(line_id(fs, line)?, name).ok_or(Error::NotFound)
}

/// Makes a snapshot of the line whose root this is; returns the root of the snapshot.
pub fn take(fs: &Fs, root: NodeId, name: &[u8]) -> Result<NodeId> {
    Ok(fs.mkdir(&ADMIN, snapdir_of(root), name, 0o755)?.attr.node)
}

/// Deletes a snapshot of the line.
pub fn delete(fs: &Fs, line: &[u8], name: &[u8]) -> Result<()> {
    fs.rmdir(&ADMIN, snapdir_in(fs, line)?, name)
}

/// Gives a snapshot of the line another name.
pub fn rename(fs: &Fs, line: &[u8], name: &[u8], to: &[u8]) -> Result<()> {
    let snapdir = snapdir_in(fs, line)?;
    fs.rename(&ADMIN, snapdir, name, snapdir, to, RenameMode::NoReplace)
}

/// Has a line begin as the one is now whose root this is; returns its root.
pub fn clone_line(fs: &Fs, root: NodeId, name: &[u8]) -> Result<NodeId> {
    Ok(fs.mkdir(&ADMIN, NodeId::clonedir(root.slot()), name, 0o755)?.attr.node)
}

/// Gives a line another name.
pub fn rename_line(fs: &Fs, line: &[u8], to: &[u8]) -> Result<()> {
    if line.is_empty() {
        // The main line has no name to be found by, and gets none.
        return Ok(fs.volume().rename_line(LineId::MAIN, to)?);
    }
    fs.rename(&ADMIN, CLONEDIR, line, CLONEDIR, to, RenameMode::NoReplace)
}

/// Drops the line whose root this is.
pub fn drop_line(fs: &Fs, line: &[u8], root: NodeId) -> Result<()> {
    // As above: nothing leads to it but its number.
    if line.is_empty() { fs.drop_line(root) } else { fs.rmdir(&ADMIN, CLONEDIR, line) }
}

/// Puts back all that a snapshot has into the line whose root this is; the guards, if anything has changed.
pub fn restore(
    fs: &Fs,
    root: NodeId,
    name: &[u8],
) -> std::result::Result<Option<(SnapshotInfo, SnapshotInfo)>, Refusal> {
    let view = fs.view_of_word(root, name)?;
    let done = fs.restore_line(root, &view, &Reason::Restore.into())?;
    Ok(done.map(|done| (done.before, done.after)))
}

/// Merges the clone of that name into the line whose root this is, or rebases it.
pub fn merge(
    fs: &Fs,
    root: NodeId,
    clone: &[u8],
    way: MergeWay,
) -> std::result::Result<MergeDone, MergeRefusal> {
    let reason = if way == MergeWay::Rebase { Reason::Rebase } else { Reason::Merge };
    fs.merge(&MergeOrder { at: root, clone, way }, &reason.into())
}

/// Has the clone of that name become the line of another.
pub fn promote(fs: &Fs, clone: &[u8], onto: &[u8], writers: OpenForWriting) -> Result<Promoted> {
    let order = PromotionOrder { clone, onto: Some(onto), keep_as: None, writers };
    fs.promote(&order, &Reason::Promote.into())
}

/// Inodes without a name that a line still has.
pub fn orphans(fs: &Fs, line: &[u8]) -> Result<usize> {
    let key = |ino: Ino| Key::new(Ino::ORPHANS.0, Kind::Orphan, ino.0);
    let view = fs.volume().live(line_id(fs, line)?)?;
    let mut count = 0;
    for item in view.range(&key(Ino(0)), &key(Ino::END)) {
        item?;
        count += 1;
    }
    Ok(count)
}

/// Fails if a line has inodes without a name: after opening none has any, for nobody can have them open.
pub fn no_orphans(fs: &Fs) -> std::result::Result<(), String> {
    for line in fs.volume().lines() {
        match orphans(fs, &line.name) {
            Ok(0) => {}
            found => return Err(format!("line {:?} has inodes without a name: {found:?}", line.name)),
        }
    }
    Ok(())
}
