//! The versions of a file: one for each run of moments in which it is the same.

use super::sight::FileSeen;
use super::walk::{At, Moment, Visitor};
use crate::format::inode::Inode;
use crate::format::{Ino, Key, Kind};
use crate::fs::difference::{ChangeKind, difference_of};
use crate::ops::FileType;
use crate::volume::{View, VolumeError};

type Result<T> = std::result::Result<T, VolumeError>;

/// A version of a file or directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PathVersion {
    /// Its number.
    pub ino: Ino,
    /// Its attributes, as at the newest moment.
    pub inode: Inode,
    /// Its path at the newest moment, from the root of the line.
    pub path: Vec<u8>,
    /// The newest moment at which it is so.
    pub newest: Moment,
    /// The oldest one.
    pub oldest: Moment,
    /// In what it differs from what was before it: `content`, `names` (of a directory), `path`, `file` (another one was there),
    /// `created`, and attributes. None if nothing is known of before.
    pub changed: Option<Vec<&'static str>>,
}

/// Finds them, newest first; of a file that was elsewhere while another was at its path, both.
pub struct Versions<'a> {
    /// Those that go on at the last moment.
    open: Vec<(FileSeen, PathVersion)>,
    put: &'a mut dyn FnMut(PathVersion) -> bool,
    /// How many there were.
    pub found: usize,
}

impl<'a> Versions<'a> {
    /// `put` takes each, and says by false that it has enough.
    pub fn new(put: &'a mut dyn FnMut(PathVersion) -> bool) -> Versions<'a> {
        Versions { open: Vec::new(), put, found: 0 }
    }

    fn open(&mut self, file: &FileSeen, at: &At) -> Result<()> {
        let version = PathVersion {
            ino: file.ino,
            inode: file.inode.clone(),
            path: file.path(&at.view)?,
            newest: at.moment.clone(),
            oldest: at.moment.clone(),
            changed: None,
        };
        self.open.push((file.clone(), version));
        Ok(())
    }

    fn close(&mut self, version: PathVersion) -> bool {
        self.found += 1;
        (self.put)(version)
    }
}

impl Visitor for Versions<'_> {
    fn looks_below(&self) -> bool {
        false
    }

    fn begin(&mut self, newest: &At) -> Result<bool> {
        newest.sight.files().try_for_each(|file| self.open(file, newest))?;
        Ok(true)
    }

    fn same(&mut self, older: &Moment) {
        self.open.iter_mut().for_each(|(_, version)| version.oldest = older.clone());
    }

    fn step(&mut self, newer: &At, older: &At) -> Result<bool> {
        let mut going = true;
        for (file, mut version) in std::mem::take(&mut self.open) {
            let before = older.sight.find(&file);
            let changed = match before {
                Some(before) => changes((&older.view, before), (&newer.view, &file))?,
                None => match older.sight.files().any(|other| other.name == file.name) {
                    true => vec!["file"],
                    false => vec!["created"],
                },
            };
            if let Some(before) = before.filter(|_| changed.is_empty()) {
                version.oldest = older.moment.clone();
                self.open.push((before.clone(), version));
            } else {
                version.changed = Some(changed);
                going = self.close(version) && going;
            }
        }
        for file in older.sight.files() {
            if !self.open.iter().any(|(open, _)| open.is(file)) {
                self.open(file, older)?;
            }
        }
        Ok(going)
    }

    fn end(&mut self, _: &At) -> Result<()> {
        let open = std::mem::take(&mut self.open);
        let _ = open.into_iter().all(|(_, version)| self.close(version)); // whoever has enough gets no more
        Ok(())
    }
}

/// In what a file differs. The number of its names and times of access and change are no version.
fn changes((old, before): (&View, &FileSeen), (new, now): (&View, &FileSeen)) -> Result<Vec<&'static str>> {
    let mut all = Vec::new();
    let of_file = difference_of(old, new, &[now.ino])?;
    let told = of_file.iter().find(|c| matches!(c.kind, ChangeKind::Modified | ChangeKind::Attributes));
    if let Some(change) = told {
        all.extend((change.kind == ChangeKind::Modified).then_some("content"));
        all.extend(&change.attributes);
    }
    if now.inode.kind == FileType::Directory {
        let (from, to) = (Key::new(now.ino.0, Kind::Dirent, 0), Key::new(now.ino.0, Kind::Xattr, 0));
        if let Some(entry) = old.diff(new, &from, &to).next() {
            entry?;
            all.push("names");
        }
    }
    all.extend((before.name != now.name).then_some("path"));
    Ok(all)
}
