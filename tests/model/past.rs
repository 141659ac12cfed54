//! Lines and their snapshots as a person would ask for them: what `.snapshots` does for the main line, for any line.

use snapfs::format::{Ino, Key, Kind, LineId};
use snapfs::fs::{Fs, Reason};
use snapfs::ops::{Error, NodeId, Operations, RenameMode, Result};
use snapfs::volume::{LineRecord, SnapshotInfo};

use crate::observe::{ADMIN, snapdir};

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

/// The root of a snapshot.
pub fn root_of(snapshot: &SnapshotInfo) -> NodeId {
    NodeId::snapshot(snapshot.slot.0, NodeId::ROOT.ino())
}

/// The snapshot that a line shows under that name.
pub fn find(fs: &Fs, line: &[u8], name: &[u8]) -> Result<SnapshotInfo> {
    fs.volume().find_snapshot(line_id(fs, line)?, name).ok_or(Error::NotFound)
}

/// Makes a snapshot of the line whose root this is; returns the root of the snapshot.
pub fn take(fs: &Fs, line: &[u8], root: NodeId, name: &[u8]) -> Result<NodeId> {
    if line.is_empty() {
        return Ok(fs.mkdir(&ADMIN, snapdir(), name, 0o755)?.attr.node);
    }
    let id = fs.create_snapshot_of(root, name, Reason::User)?;
    fs.volume().snapshot_info(id).map(|info| root_of(&info)).ok_or(Error::Stale)
}

/// Deletes a snapshot of the line.
pub fn delete(fs: &Fs, line: &[u8], name: &[u8]) -> Result<()> {
    if line.is_empty() {
        return fs.rmdir(&ADMIN, snapdir(), name);
    }
    fs.volume().delete_snapshot(line_id(fs, line)?, find(fs, line, name)?.id)?;
    outlive(fs)
}

/// Gives a snapshot of the line another name.
pub fn rename(fs: &Fs, line: &[u8], name: &[u8], to: &[u8]) -> Result<()> {
    if line.is_empty() {
        return fs.rename(&ADMIN, snapdir(), name, snapdir(), to, RenameMode::NoReplace);
    }
    fs.volume().rename_snapshot(line_id(fs, line)?, find(fs, line, name)?.id, to)?;
    outlive(fs)
}

/// Gives a line another name.
pub fn rename_line(fs: &Fs, line: &[u8], to: &[u8]) -> Result<()> {
    // The main line has no name to be found by, and gets none.
    fs.volume().rename_line(line_id(fs, line)?, to)?;
    outlive(fs)
}

/// What was answered outlives the process, also when it did not fit the log.
fn outlive(fs: &Fs) -> Result<()> {
    if fs.volume().log_is_behind() { fs.commit() } else { Ok(()) }
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
