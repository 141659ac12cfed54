//! What a line takes over from another view, settled before anything is changed.
//!
//! Inodes and entries by number, never paths: whoever makes a plan has solved all conflicts. Nothing here looks at a tree.

use crate::format::Ino;
use std::collections::BTreeMap;

/// What of an inode is taken over.
///
/// Where an access list is in play, attributes and extended attributes go together: the group bits of a mode are the mask of
/// the list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Aspects {
    /// Mode, owner, flags, compression, layout, device number, times of access and creation. The time of modification too, where
    /// the content lies at the same place on both sides or is taken over as well.
    pub attributes: bool,
    /// The time of modification, wherever the content lies: whoever asks for it has found that to be the same.
    pub times: bool,
    /// Extended attributes, access lists among them.
    pub xattrs: bool,
    /// Content of a file, target of a symbolic link; with the time of modification.
    pub content: bool,
}

impl Aspects {
    /// Everything.
    pub const ALL: Aspects = Aspects { attributes: true, times: true, xattrs: true, content: true };

    /// Nothing.
    pub const NOTHING: Aspects = Aspects { attributes: false, times: false, xattrs: false, content: false };
}

/// From which inode of the other view, and what of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Takeover {
    /// The inode of the other view.
    pub from: Ino,
    /// What of it.
    pub aspects: Aspects,
}

/// What a line takes over.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Inodes of the line by number; where the line has none it is made, with everything.
    pub inodes: BTreeMap<Ino, Takeover>,
    /// Names in directories of the line: which inode of the line has the name then, none where the name goes.
    /// An inode that loses its last name so is removed (or stays open without a name). Link counts are derived.
    pub entries: BTreeMap<(Ino, Vec<u8>), Option<Ino>>,
}

impl Plan {
    /// Numbers from here on stand for numbers that nobody has yet: each is given one when the plan is carried out. Where a
    /// number of an inode of the line is asked for they may be used as well.
    pub const FRESH: Ino = Ino(1 << 48);

    /// True if nothing changes.
    pub fn is_empty(&self) -> bool {
        self.inodes.is_empty() && self.entries.is_empty()
    }

    /// Gives each inode whose number stands for a new one a number from `next`.
    pub fn number<E>(self, mut next: impl FnMut() -> Result<Ino, E>) -> Result<Plan, E> {
        let mut given = BTreeMap::new();
        for ino in self.inodes.keys().filter(|ino| **ino >= Plan::FRESH) {
            given.insert(*ino, next()?);
        }
        if given.is_empty() {
            return Ok(self);
        }
        let real = |ino: Ino| given.get(&ino).copied().unwrap_or(ino);
        let inodes = self.inodes.into_iter().map(|(ino, takeover)| (real(ino), takeover)).collect();
        let entries = self.entries.into_iter().map(|((dir, name), ino)| ((real(dir), name), ino.map(real)));
        Ok(Plan { inodes, entries: entries.collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_inodes_get_numbers_wherever_they_are_named() {
        let (dir, file) = (Plan::FRESH, Ino(Plan::FRESH.0 + 1));
        let mut plan = Plan::default();
        for (ino, from) in [(dir, 20), (file, 21), (Ino(30), 30)] {
            plan.inodes.insert(ino, Takeover { from: Ino(from), aspects: Aspects::ALL });
        }
        plan.entries.insert((Ino(1), b"d".to_vec()), Some(dir));
        plan.entries.insert((dir, b"f".to_vec()), Some(file));
        plan.entries.insert((Ino(1), b"x".to_vec()), None);
        let mut last = 99;
        let plan = plan.number(|| {
            last += 1;
            Ok::<_, ()>(Ino(last))
        });
        let plan = plan.unwrap();
        let numbers: Vec<_> = plan.inodes.iter().map(|(ino, takeover)| (ino.0, takeover.from.0)).collect();
        assert_eq!(numbers, [(30, 30), (100, 20), (101, 21)]);
        let entries: Vec<_> =
            plan.entries.iter().map(|((dir, _), ino)| (dir.0, ino.map(|ino| ino.0))).collect();
        assert_eq!(entries, [(1, Some(100)), (1, None), (100, Some(101))]);
    }
}
