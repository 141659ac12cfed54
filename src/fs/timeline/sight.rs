//! What is seen of a path in one view.

use super::consulted::Consulted;
use super::place::Place;
use crate::format::inode::Inode;
use crate::format::{Epoch, Ino};
use crate::fs::difference::{Name, Paths, names_of};
use crate::ops::FileType;
use crate::volume::{View, VolumeError};

type Result<T> = std::result::Result<T, VolumeError>;

/// A file as it is in a view.
#[derive(Clone)]
pub struct FileSeen {
    /// Its number.
    pub ino: Ino,
    /// Its attributes.
    pub inode: Inode,
    /// Its name, one of several; none for the root.
    pub name: Option<Name>,
}

impl FileSeen {
    /// Its path in the view in which it was seen, or in one in which it has that name too.
    pub fn path(&self, view: &View) -> Result<Vec<u8>> {
        self.name.as_ref().map_or(Ok(Vec::new()), |name| Paths::new(view).of(name))
    }

    /// True if it is that file, at whatever time.
    pub fn is(&self, other: &FileSeen) -> bool {
        let which = |file: &FileSeen| (file.ino, file.inode.generation, file.inode.kind);
        which(self) == which(other)
    }
}

/// The file that is followed by its number, and another one that is at the path.
pub struct Sight {
    place: Place,
    /// The file that is followed.
    pub by_number: Option<FileSeen>,
    /// What is at the path, if that is another.
    pub by_path: Option<FileSeen>,
    notes: Consulted,
}

impl Sight {
    /// Nothing was seen yet: what is at this place first is followed.
    pub fn before_all(place: Place) -> Sight {
        Sight { place, by_number: None, by_path: None, notes: Consulted::default() }
    }

    /// What is seen of it in another view. `seen`: the view of this one.
    pub fn in_view(&self, view: &View, seen: Option<&View>) -> Result<Sight> {
        let (mut place, mut notes) = (self.place.clone(), Consulted::default());
        let there = match place.find(view, seen, &mut notes)? {
            Some(ino) => {
                let inode = notes.file(view, ino)?;
                inode.map(|inode| FileSeen { ino, inode, name: place.name() })
            }
            None => None,
        };
        let followed = match &self.by_number {
            Some(file) if there.as_ref().is_some_and(|there| there.is(file)) => None,
            Some(file) => Self::follow(view, file, &mut notes)?,
            None => None,
        };
        let (by_number, by_path) = match followed {
            Some(file) => (Some(file), there),
            None => (there, None),
        };
        Ok(Sight { place, by_number, by_path, notes })
    }

    fn follow(view: &View, file: &FileSeen, notes: &mut Consulted) -> Result<Option<FileSeen>> {
        let Some(inode) = notes.file(view, file.ino)? else { return Ok(None) };
        // Of several names that which is most like the one that it had: it, the same in another directory, another in the same.
        let alike = |(dir, name): &Name| {
            let was = file.name.as_ref();
            let (same_name, same_dir) = (was.is_some_and(|w| w.1 == *name), was.is_some_and(|w| w.0 == *dir));
            (same_name && same_dir, same_name, same_dir)
        };
        let mut names = names_of(view, file.ino)?;
        names.sort_unstable();
        names.reverse();
        let name = names.into_iter().max_by_key(alike);
        let found = FileSeen { ino: file.ino, inode, name };
        Ok((found.name.is_some() && found.is(file)).then_some(found))
    }

    /// All that is seen.
    pub fn files(&self) -> impl Iterator<Item = &FileSeen> {
        self.by_number.iter().chain(&self.by_path)
    }

    /// That file, if it is seen.
    pub fn find(&self, file: &FileSeen) -> Option<&FileSeen> {
        self.files().find(|seen| seen.is(file))
    }

    /// True if a directory is seen.
    pub fn has_directory(&self) -> bool {
        self.files().any(|file| file.inode.kind == FileType::Directory)
    }

    /// Views below this one in the history whose point in time is not before this epoch show the same.
    pub fn quiet_since(&self, view: &View) -> Result<Epoch> {
        self.notes.quiet_since(view)
    }
}
