//! From the root down every directory, then what was not reached: each inode under every name that it has, once.
//!
//! An inode that no directory names goes where its own links say, into a directory that takes the place of a lost parent,
//! or under its number into `lost+found`. Directories are never reached twice, so there are no circles. In a tree that
//! was pieced together, an entry counts only if the inode, where it is known, knows the name as well: else it is one of
//! the past.

use super::directories::Directories;
use super::entry::Rescue;
use super::items::SalvagedItems;
use super::output::{Output, is_name};
use super::report::{Listener, SalvageError, Summary};
use crate::format::dirent::{NameBucket, name_hash};
use crate::format::{Ino, Key, Kind};
use crate::names;
use crate::ops::FileType;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// What collects the rest.
const LOST_FOUND: &[u8] = b"lost+found";

/// Gets everything out that `items` has.
pub(super) fn rescue(
    items: &SalvagedItems,
    out: Option<Output>,
    listener: &mut dyn Listener,
) -> Result<Summary, SalvageError> {
    let mut rescue = Rescue {
        items,
        out,
        listener,
        summary: Summary::default(),
        directories: Directories::new(Ino::ROOT),
        by_ino: HashMap::from([(Ino::ROOT, 0)]),
        seen: HashSet::from([Ino::ROOT]),
        first_names: BTreeMap::new(),
        pending: vec![0],
        lost_found: None,
    };
    rescue.descend()?;
    for object in items.objects() {
        let ino = Ino(object);
        if (Ino::FIRST_FREE..Ino::END).contains(&ino) && !rescue.seen.contains(&ino) {
            rescue.place(ino)?;
            rescue.descend()?;
        }
    }
    rescue.finish_directories();
    Ok(rescue.summary)
}

impl Rescue<'_> {
    /// Follows the entries of every pending directory.
    fn descend(&mut self) -> Result<(), SalvageError> {
        while let Some(dir) = self.pending.pop() {
            let ino = self.directories.get(dir).ino;
            let (from, to) = (Key::new(ino.0, Kind::Dirent, 0), Key::new(ino.0, Kind::Xattr, 0));
            let items = self.items;
            for entry in
                items.range(from, to).flat_map(|(_, v)| NameBucket::decode(&v).unwrap_or_default().entries)
            {
                if self.is_of_now(ino, &entry.name, entry.ino) {
                    self.entry(dir, &entry.name, entry.ino, Some(entry.kind))?;
                }
            }
        }
        Ok(())
    }

    /// False for an entry that an inode whose names are all known does not know.
    fn is_of_now(&self, dir: Ino, name: &[u8], ino: Ino) -> bool {
        if !self.items.is_patched() {
            return true;
        }
        let Some(inode) = self.items.inode(ino) else { return true };
        let (mut known, mut named) = (0, false);
        for (parent, link) in self.items.links(ino) {
            known += 1;
            named |= parent == dir && link == name;
        }
        let all = if inode.kind == FileType::Directory { 1 } else { inode.nlink };
        named || known < all
    }

    /// An inode that no directory led to.
    fn place(&mut self, ino: Ino) -> Result<(), SalvageError> {
        let inode = self.items.inode(ino);
        if inode.as_ref().is_some_and(|i| i.nlink == 0) {
            // It had no name when it was last written: deleted, and perhaps still open then.
            self.seen.insert(ino);
            return Ok(());
        }
        let items = self.items;
        for (parent, name) in items.links(ino).filter(|(_, name)| is_name(name)) {
            if let Some(dir) = self.directory_of(parent)? {
                self.entry(dir, &name, ino, None)?;
            }
        }
        if self.seen.contains(&ino) {
            return Ok(());
        }
        let (from, to) = (Key::new(ino.0, Kind::Dirent, 0), Key::new(ino.0, Kind::Xattr, 0));
        let kind = items.range(from, to).next().map(|_| FileType::Directory);
        let dir = self.lost_found()?;
        self.summary.without_parent += 1;
        self.entry(dir, ino.0.to_string().as_bytes(), ino, kind)
    }

    /// The output directory of an inode, made if nothing led to it. None if it is no directory, or inside itself.
    fn directory_of(&mut self, ino: Ino) -> Result<Option<usize>, SalvageError> {
        let (mut way, mut on_way, mut at) = (Vec::new(), BTreeSet::new(), Some(ino));
        let mut above = None;
        while let Some(ino) = at {
            above = self.by_ino.get(&ino).copied();
            let inode = self.items.inode(ino);
            let wrong = inode.is_some_and(|i| i.kind != FileType::Directory || i.nlink == 0);
            let sane = (Ino::FIRST_FREE..Ino::END).contains(&ino) && !self.seen.contains(&ino);
            if above.is_some() || wrong || !sane || !on_way.insert(ino) {
                break;
            }
            let link = self.items.links(ino).find(|(_, name)| is_name(name));
            at = link.as_ref().map(|(parent, _)| *parent);
            way.push((ino, link.map(|(_, name)| name)));
        }
        while let Some((ino, name)) = way.pop() {
            let (dir, name) = match (above, name) {
                (Some(dir), Some(name)) => (dir, name),
                _ => {
                    self.summary.without_parent += 1;
                    (self.lost_found()?, ino.0.to_string().into_bytes())
                }
            };
            self.entry(dir, &name, ino, Some(FileType::Directory))?;
            above = self.by_ino.get(&ino).copied();
        }
        Ok(above)
    }

    /// Where the rest goes, under a name that the root does not have.
    fn lost_found(&mut self) -> Result<usize, SalvageError> {
        if let Some(index) = self.lost_found {
            return Ok(index);
        }
        let mut name = LOST_FOUND.to_vec();
        let taken = |name: &[u8]| {
            let bucket = self.items.get(&Key::new(Ino::ROOT.0, Kind::Dirent, name_hash(name)));
            bucket.is_some_and(|b| NameBucket::decode(&b).unwrap_or_default().find(name).is_some())
        };
        while taken(&name) {
            name.push(b'~');
        }
        let made = self.with_destination(0, &name, |out, to| out.make_directory(to));
        made.map_err(|e| SalvageError::Output(format!("cannot make {}: {e}", names::shown_bytes(&name))))?;
        let index = self.directories.add(0, &name, Ino(0));
        self.lost_found = Some(index);
        Ok(index)
    }
}
