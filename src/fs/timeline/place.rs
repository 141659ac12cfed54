//! A place for a file: a name in a directory, found again in views of other times.

use super::consulted::Consulted;
use crate::format::Ino;
use crate::fs::difference::{Name, Paths};
use crate::ops::FileType;
use crate::volume::{View, VolumeError};

type Result<T> = std::result::Result<T, VolumeError>;

/// Names on a way down.
type Names = Vec<Vec<u8>>;

/// Names below a directory that is followed by its number, however it is renamed. Where there is no such directory its last
/// path counts; and where nothing is found so, the path that was asked for.
#[derive(Clone)]
pub struct Place {
    base: Ino,
    names: Names,
    /// From the root, as it was when the directory was seen last.
    last: Names,
    /// From the root.
    asked: Names,
}

impl Place {
    /// Names below a directory that has this path; none: the root.
    pub fn new(base: Ino, path: &[u8], names: Names) -> Place {
        let above = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        let asked: Names = above.map(<[u8]>::to_vec).chain(names.iter().cloned()).collect();
        Place { base, names, last: asked.clone(), asked }
    }

    /// The place in another view. `seen`: the view in which it was looked for before.
    pub fn find(&mut self, view: &View, seen: Option<&View>, notes: &mut Consulted) -> Result<Option<Ino>> {
        if self.asked.is_empty() {
            return Ok(Some(Ino::ROOT));
        }
        let mut found = if notes.is_directory(view, self.base)? {
            self.go_down(view, self.base, self.names.clone(), notes)?
        } else {
            if let Some(seen) = seen
                && Consulted::default().is_directory(seen, self.base)?
            {
                self.last =
                    Place::new(self.base, &Paths::new(seen).directory(self.base)?, self.names.clone()).asked;
            }
            self.go_down(view, Ino::ROOT, self.last.clone(), notes)?
        };
        if found.is_none() {
            let mut other = self.clone();
            found = other.go_down(view, Ino::ROOT, self.asked.clone(), notes)?;
            if found.is_some() {
                *self = other;
            }
        }
        Ok(found)
    }

    /// From here on the directory is followed that the name is looked for in.
    fn go_down(
        &mut self,
        view: &View,
        mut dir: Ino,
        names: Names,
        notes: &mut Consulted,
    ) -> Result<Option<Ino>> {
        let Some((last, above)) = names.split_last() else { return Ok(None) };
        for name in above {
            match notes.entry(view, dir, name)? {
                Some(entry) if entry.kind == FileType::Directory => dir = entry.ino,
                _ => return Ok(None),
            }
        }
        (self.base, self.names) = (dir, vec![last.clone()]);
        Ok(notes.entry(view, dir, last)?.map(|entry| entry.ino))
    }

    /// The name in its directory, once that was found.
    pub fn name(&self) -> Option<Name> {
        match &self.names[..] {
            [name] => Some((self.base, name.clone())),
            _ => None,
        }
    }
}
