//! The path of an inode, for people: what a log line about damage names.
//!
//! Follows link items upwards, the first name of each inode. Best effort: what cannot be read is shown by number.

use crate::format::link::Links;
use crate::format::{Ino, Key, Kind};
use crate::names;
use crate::volume::View;

/// Directories that are followed at most; a path of the kernel cannot have more.
const DEPTH_MAX: usize = 2048;

/// A path from the root of the view, such as `/etc/passwd`.
pub fn path_of(view: &View, ino: Ino) -> String {
    let (mut at, mut parts) = (ino, Vec::new());
    while at != Ino::ROOT && parts.len() < DEPTH_MAX {
        match name_of(view, at) {
            Some((parent, name)) => {
                parts.push(names::shown_bytes(&name));
                at = parent;
            }
            None => {
                parts.push(format!("<inode {}>", at.0));
                break;
            }
        }
    }
    parts.reverse();
    format!("/{}", parts.join("/"))
}

fn name_of(view: &View, ino: Ino) -> Option<(Ino, Vec<u8>)> {
    let (from, to) = (Key::new(ino.0, Kind::Link, 0), Key::new(ino.0, Kind::Dirent, 0));
    let (_, value) = view.range(&from, &to).next()?.ok()?;
    Links::decode(&value).ok()?.names.into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::tests::T;
    use crate::ops::NodeId;

    #[test]
    fn follows_names_upwards() {
        let t = T::new();
        let a = t.mkdir(NodeId::ROOT, "a").unwrap();
        let b = t.mkdir(a, "b c").unwrap();
        let (file, _) = t.create(b, "f\n");
        let view = t.fs.volume().live(crate::format::LineId::MAIN).unwrap();
        assert_eq!(path_of(&view, Ino(file.ino())), "/a/b c/f\\n");
        assert_eq!(path_of(&view, Ino::ROOT), "/");
        assert_eq!(path_of(&view, Ino(999)), "/<inode 999>");
    }
}
