//! The path of an inode, for people: what a log line about damage names, or a refusal.
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
    let (names, lost) = names_of(view, ino);
    let lost = lost.map(|ino| format!("<inode {}>", ino.0));
    let parts = lost.into_iter().chain(names.iter().map(|name| names::shown_bytes(name)));
    format!("/{}", parts.collect::<Vec<_>>().join("/"))
}

/// The same without the first slash, as it is; none if no name leads there.
pub fn path_bytes(view: &View, ino: Ino) -> Option<Vec<u8>> {
    match names_of(view, ino) {
        (names, None) => Some(names.join(&b'/')),
        (_, Some(_)) => None,
    }
}

/// The names on the way down to an inode, and the inode, if any, that has none.
fn names_of(view: &View, ino: Ino) -> (Vec<Vec<u8>>, Option<Ino>) {
    let (mut at, mut names, mut lost) = (ino, Vec::new(), None);
    while at != Ino::ROOT && names.len() < DEPTH_MAX {
        let Some((parent, name)) = name_of(view, at) else {
            lost = Some(at);
            break;
        };
        names.push(name);
        at = parent;
    }
    names.reverse();
    (names, lost)
}

/// The first name of an inode: its directory, and the name there.
pub fn name_of(view: &View, ino: Ino) -> Option<(Ino, Vec<u8>)> {
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
