//! The directories of the output, made or to be made: a tree of any depth, by number.
//!
//! The first is the output itself. Every other has a smaller number above it, so nothing here goes in circles. Nothing
//! recurses, and no path is longer than is told.

use crate::format::Ino;

/// Bytes of a path that are told: a tree may be as deep as it has directories.
const PATH_BYTES_MAX: usize = 1 << 16;

/// One directory.
pub(super) struct Directory {
    pub ino: Ino,
    pub parent: usize,
    pub name: Box<[u8]>,
    /// Names in it that came out.
    pub entries: u64,
    depth: u32,
}

/// All of them.
pub(super) struct Directories(Vec<Directory>);

impl Directories {
    /// The output itself, which takes the place of the inode `root`.
    pub fn new(root: Ino) -> Directories {
        Directories(vec![Directory { ino: root, parent: 0, name: Box::default(), entries: 0, depth: 0 }])
    }

    /// Takes one more, and gives it a number.
    pub fn add(&mut self, parent: usize, name: &[u8], ino: Ino) -> usize {
        let depth = self.0[parent].depth + 1;
        self.0.push(Directory { ino, parent, name: name.into(), entries: 0, depth });
        self.0.len() - 1
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    pub fn get(&self, dir: usize) -> &Directory {
        &self.0[dir]
    }

    /// Counts a name in one.
    pub fn count_entry(&mut self, dir: usize) {
        self.0[dir].entries += 1;
    }

    /// The shorter way to `to`: from `from`, or from the output (none). Steps up, then directories to go down to.
    pub fn way(&self, from: usize, to: usize) -> (Option<usize>, Vec<usize>) {
        let (mut up, mut down, mut a, mut b) = (0, Vec::new(), from, to);
        while a != b {
            if self.0[a].depth > self.0[b].depth {
                (a, up) = (self.0[a].parent, up + 1);
            } else {
                down.push(b);
                b = self.0[b].parent;
            }
        }
        if up > self.0[b].depth as usize {
            while b != 0 {
                down.push(b);
                b = self.0[b].parent;
            }
            down.reverse();
            return (None, down);
        }
        down.reverse();
        (Some(up), down)
    }

    /// The path of a name below the output, as it is told.
    pub fn path(&self, dir: usize, name: &[u8]) -> Vec<u8> {
        let (mut parts, mut len, mut at) = (vec![name], name.len() + 4, dir);
        while at != 0 {
            let name = &self.0[at].name;
            len += name.len() + 1;
            if len > PATH_BYTES_MAX {
                parts.push(b"...");
                break;
            }
            parts.push(name);
            at = self.0[at].parent;
        }
        parts.reverse();
        parts.join(&b'/')
    }
}
