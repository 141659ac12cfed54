//! Paths of a view: from the links of inodes upwards, and from the root downwards.
//!
//! What is damaged is an error, unlike in `items::path`, which is for people.

use crate::format::link::Links;
use crate::format::{Ino, Key, Kind};
use crate::fs::error::{damaged, inconsistent};
use crate::fs::items::Items;
use crate::ops::FileType;
use crate::volume::{View, VolumeError};
use std::collections::HashMap;
use std::sync::Arc;

type Result<T> = std::result::Result<T, VolumeError>;

/// Directories above a file, at most: more than any way that a program could take.
const DEPTH_MAX: usize = 1 << 20;

/// A name of an inode: its directory, and its name there.
pub type Name = (Ino, Vec<u8>);

/// Paths of one view. Remembers those of directories.
pub struct Paths<'v> {
    view: &'v View,
    directories: HashMap<Ino, Arc<[u8]>>,
}

impl<'v> Paths<'v> {
    /// Of a view.
    pub fn new(view: &'v View) -> Paths<'v> {
        Paths { view, directories: HashMap::from([(Ino::ROOT, Arc::default())]) }
    }

    /// The path of a directory.
    pub fn directory(&mut self, dir: Ino) -> Result<Arc<[u8]>> {
        let (mut at, mut way) = (dir, Vec::new());
        let mut path = loop {
            if let Some(path) = self.directories.get(&at) {
                break path.clone();
            }
            let Some((parent, name)) = names_of(self.view, at)?.into_iter().next() else {
                return Err(inconsistent(at, "a directory with names in it has none itself"));
            };
            way.push((at, name));
            at = parent;
            if way.len() > DEPTH_MAX {
                return Err(inconsistent(dir, "the way to the root has no end"));
            }
        };
        for (at, name) in way.into_iter().rev() {
            path = join(&path, &name).into();
            self.directories.insert(at, path.clone());
        }
        Ok(path)
    }

    /// The path of a name.
    pub fn of(&mut self, (parent, name): &Name) -> Result<Vec<u8>> {
        Ok(join(&self.directory(*parent)?, name))
    }

    /// The first path of an inode, if it is there.
    pub fn first(&mut self, ino: Ino) -> Result<Option<Vec<u8>>> {
        if ino == Ino::ROOT {
            return Ok(Some(Vec::new()));
        }
        names_of(self.view, ino)?.first().map(|name| self.of(name)).transpose()
    }
}

/// A path one level below another.
pub fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}

/// True if a path is that of `dir` or below it.
pub fn is_below(path: &[u8], dir: &[u8]) -> bool {
    dir.is_empty() || path.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// All names of an inode.
pub fn names_of(view: &View, ino: Ino) -> Result<Vec<Name>> {
    let (from, to) = (Key::new(ino.0, Kind::Link, 0), Key::new(ino.0, Kind::Dirent, 0));
    let mut names = Vec::new();
    for item in view.range(&from, &to) {
        names.extend(Links::decode(&item?.1).map_err(|e| damaged(ino, e))?.names);
    }
    Ok(names)
}

/// What a path leads to.
pub fn find(view: &View, path: &[u8]) -> Result<Option<(Ino, FileType)>> {
    let mut at = (Ino::ROOT, FileType::Directory);
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        if at.1 != FileType::Directory {
            return Ok(None);
        }
        match view.find_name(at.0, name)? {
            Some(entry) => at = (entry.ino, entry.kind),
            None => return Ok(None),
        }
    }
    Ok(Some(at))
}
