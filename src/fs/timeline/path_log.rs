//! What happened to a path, snapshot by snapshot.

use super::sight::FileSeen;
use super::walk::{At, Moment, Visitor};
use crate::format::Ino;
use crate::fs::difference::{ChangeKind, FileVersion, PathChange, difference, difference_of, is_below};
use crate::fs::items::Items;
use crate::volume::{View, VolumeError};

type Result<T> = std::result::Result<T, VolumeError>;

/// What happened before one moment, and after the snapshot before that.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogEntry {
    /// The moment at which it shows first.
    pub moment: Moment,
    /// What happened, in the order of the paths; and whether a name is a hard link that came or went.
    pub changes: Vec<(PathChange, bool)>,
    /// Nothing is known of before: it was made then, or is older.
    pub is_first: bool,
}

/// Tells it, newest first. Of a directory what happened below it counts.
pub struct PathLog<'a> {
    put: &'a mut dyn FnMut(LogEntry) -> bool,
    /// True if the path was there at any moment.
    pub seen: bool,
}

impl<'a> PathLog<'a> {
    /// `put` takes each entry, and says by false that it has enough.
    pub fn new(put: &'a mut dyn FnMut(LogEntry) -> bool) -> PathLog<'a> {
        PathLog { put, seen: false }
    }
}

impl Visitor for PathLog<'_> {
    fn looks_below(&self) -> bool {
        true
    }

    fn begin(&mut self, newest: &At) -> Result<bool> {
        self.seen = newest.sight.files().next().is_some();
        Ok(true)
    }

    fn same(&mut self, _: &Moment) {}

    fn step(&mut self, newer: &At, older: &At) -> Result<bool> {
        self.seen |= older.sight.files().next().is_some();
        let (old, new) = (&older.view, &newer.view);
        let changes = if newer.sight.has_directory() || older.sight.has_directory() {
            let paths =
                |at: &At| at.sight.files().map(|file| file.path(&at.view)).collect::<Result<Vec<_>>>();
            let (before, now) = (paths(older)?, paths(newer)?);
            let inside = |path: &[u8], all: &[Vec<u8>]| all.iter().any(|dir| is_below(path, dir));
            let mut all = difference(old, new, None)?;
            all.retain(|change| {
                change.old.is_some() && inside(change.path_before(), &before)
                    || change.new.is_some() && inside(&change.path, &now)
            });
            all
        } else {
            let mut all: Vec<Ino> = newer.sight.files().chain(older.sight.files()).map(|f| f.ino).collect();
            all.sort_unstable();
            all.dedup();
            difference_of(old, new, &all)?
        };
        if changes.is_empty() {
            return Ok(true);
        }
        let changes = changes.into_iter().map(|change| Ok((is_link(old, new, &change)?, change)));
        let changes = changes.map(|both| both.map(|(link, change)| (change, link)));
        let changes = changes.collect::<Result<Vec<_>>>()?;
        Ok((self.put)(LogEntry { moment: newer.moment.clone(), changes, is_first: false }))
    }

    fn end(&mut self, oldest: &At) -> Result<()> {
        let added = |file: &FileSeen| {
            let change = PathChange {
                kind: ChangeKind::Added,
                path: file.path(&oldest.view)?,
                old_path: None,
                old: None,
                new: Some(FileVersion::of(file.ino, &file.inode)),
                attributes: Vec::new(),
            };
            Ok((change, false))
        };
        let changes = oldest.sight.files().map(added).collect::<Result<Vec<_>>>()?;
        if !changes.is_empty() {
            (self.put)(LogEntry { moment: oldest.moment.clone(), changes, is_first: true });
        }
        Ok(())
    }
}

/// True if a name came to a file, or went from one, that was there before and is now.
fn is_link(old: &View, new: &View, change: &PathChange) -> Result<bool> {
    let ino = match (change.kind, change.old, change.new) {
        (ChangeKind::Added, _, Some(now)) => now.ino,
        (ChangeKind::Removed, Some(before), _) => before.ino,
        _ => return Ok(false),
    };
    let which = |view: &View| {
        let inode = view.inode(ino)?.filter(|inode| inode.nlink > 0);
        Ok::<_, VolumeError>(inode.map(|inode| (inode.generation, inode.kind)))
    };
    let (before, now) = (which(old)?, which(new)?);
    Ok(before.is_some() && before == now)
}
