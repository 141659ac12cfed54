//! What became of a path between two views.

use crate::format::Ino;
use crate::format::inode::Inode;
use crate::ops::FileType;

/// What became of it. Those that follow stand for one path in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ChangeKind {
    /// It is not there any more.
    Removed,
    /// It is new.
    Added,
    /// It has another path. Exact: it is the same inode. What lies below a directory that has moved is not told one by one.
    Renamed,
    /// Its content was written, or another file of the same type has its name.
    Modified,
    /// Only attributes have changed.
    Attributes,
}

/// A file as it is in one of the views.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileVersion {
    /// Its number.
    pub ino: Ino,
    /// Its type.
    pub kind: FileType,
    /// Permission bits.
    pub mode: u32,
    /// Its size in bytes; of a directory, how many names are in it.
    pub size: u64,
}

impl FileVersion {
    /// Of an inode.
    pub fn of(ino: Ino, inode: &Inode) -> FileVersion {
        FileVersion { ino, kind: inode.kind, mode: inode.mode, size: inode.size }
    }
}

/// A path that is not in both views as it is in the other. Paths go from the root of the view, without a slash at either
/// end; that of the root is empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PathChange {
    /// What became of it.
    pub kind: ChangeKind,
    /// Its path in the newer view; in the older one if it was removed.
    pub path: Vec<u8>,
    /// Its path in the older view, if that was another: it was renamed itself, or a directory above it was.
    pub old_path: Option<Vec<u8>>,
    /// What it was; none if it was added.
    pub old: Option<FileVersion>,
    /// What it is; none if it was removed.
    pub new: Option<FileVersion>,
    /// Which attributes differ: `mode`, `owner`, `flags`, `compression`, `layout`, `device`, `acl`, `xattr`, `mtime`.
    pub attributes: Vec<&'static str>,
}

impl PathChange {
    /// Where it was.
    pub fn path_before(&self) -> &[u8] {
        self.old_path.as_ref().unwrap_or(&self.path)
    }

    /// The type that it has, or had.
    pub fn file_type(&self) -> Option<FileType> {
        self.new.or(self.old).map(|version| version.kind)
    }
}
