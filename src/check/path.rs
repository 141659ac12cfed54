//! The path of an inode, as its links tell it: for findings. Best effort.

use crate::format::link::Links;
use crate::format::{Ino, Key, Kind};
use crate::tree::{self, Child, Pager};

/// Components of a path that is told.
const PATH_DEPTH_MAX: usize = 64;

/// One of the paths of an inode in a tree; none if a part of it cannot be found.
pub fn path_of(pager: &Pager, root: &Child, ino: Ino) -> Option<Vec<u8>> {
    let (mut at, mut path) = (ino, Vec::new());
    for _ in 0..PATH_DEPTH_MAX {
        if at == Ino::ROOT {
            return Some(if path.is_empty() { b"/".to_vec() } else { path });
        }
        let (from, to) = (Key::new(at.0, Kind::Link, 0), Key::new(at.0, Kind::Dirent, 0));
        let (_, item) = tree::range(pager, root, &from, &to).next()?.ok()?;
        let (parent, name) = Links::decode(&item).ok()?.names.into_iter().next()?;
        path = [b"/", name.as_slice(), &path].concat();
        at = parent;
    }
    None
}
