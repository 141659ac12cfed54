//! Items that were looked at in a view, and since when they are as they are.

use crate::format::dirent::{Dirent, name_hash};
use crate::format::inode::Inode;
use crate::format::{Epoch, Ino, Key, Kind};
use crate::fs::difference::items_of;
use crate::fs::items::Items;
use crate::ops::FileType;
use crate::volume::{View, VolumeError};

type Result<T> = std::result::Result<T, VolumeError>;

/// Reads, and remembers where it has read. That something is not there is remembered by the inode that says so, too: a leaf
/// that has become empty is taken out, and its neighbour then stands for its keys without being new.
#[derive(Clone, Default)]
pub struct Consulted(Vec<(Key, Key)>);

impl Consulted {
    /// A file with a name, and its attributes.
    pub fn file(&mut self, view: &View, ino: Ino) -> Result<Option<Inode>> {
        self.0.push(items_of(ino));
        Ok(view.inode(ino)?.filter(|inode| inode.nlink > 0))
    }

    /// True if there is a directory of that number.
    pub fn is_directory(&mut self, view: &View, dir: Ino) -> Result<bool> {
        let key = Key::new(dir.0, Kind::Inode, 0);
        self.0.push((key, key.successor()));
        Ok(view.inode(dir)?.is_some_and(|inode| inode.kind == FileType::Directory && inode.nlink > 0))
    }

    /// The entry of a directory that is there.
    pub fn entry(&mut self, view: &View, dir: Ino, name: &[u8]) -> Result<Option<Dirent>> {
        let [inode, entry] = [(Kind::Inode, 0), (Kind::Dirent, name_hash(name))]
            .map(|(kind, rest)| Key::new(dir.0, kind, rest));
        self.0.extend([inode, entry].map(|key| (key, key.successor())));
        view.find_name(dir, name)
    }

    /// Views below this one in the history whose point in time is not before this epoch say the same.
    pub fn quiet_since(&self, view: &View) -> Result<Epoch> {
        self.0.iter().try_fold(Epoch(0), |newest, (from, to)| Ok(newest.max(view.newest_birth(from, to)?)))
    }
}
