//! The plan of a restore onto itself: a path, and all below it, becomes what it is in another view.
//!
//! Found along both trees, only into directories below which anything differs. An inode keeps its number where that is
//! nobody else's in the line: it is gone, or it is the same file and has a name at or below the path. What has moved away from there since is
//! left alone, and comes back as a copy with a number of its own. So nothing outside of the path changes but the directory
//! that it is in, and hard links from outside to what is put back in place.

use super::plan::{Aspects, Plan, Takeover};
use super::tree::{Entries, entries_of, follow, has_other_attributes, names_in};
use crate::format::Ino;
use crate::format::dirent::Dirent;
use crate::fs::difference::{FileAt, Name, each_inode, is_same_content, names_of};
use crate::fs::error::inconsistent;
use crate::fs::items::Items;
use crate::ops::{Error, FileType, Result};
use crate::volume::{View, VolumeError};
use std::collections::{BTreeMap, HashMap, HashSet};

/// The plan by which paths, as lists of names from the root, become what they are in `source`, where all of them are. `at` says
/// which of them an error is about.
pub fn put_back(
    target: &View,
    source: &View,
    paths: &[Vec<Vec<u8>>],
    at: &mut Option<Vec<Vec<u8>>>,
) -> Result<Plan> {
    let mut work = PutBack {
        target,
        source,
        differs: BTreeMap::new(),
        target_dirs: HashSet::new(),
        source_dirs: HashSet::new(),
        regions: Vec::new(),
        inside_target: Inside::new(target),
        inside_source: Inside::new(source),
        walked: HashSet::new(),
        rest: Vec::new(),
        numbers: BTreeMap::new(),
        kept: HashSet::new(),
        gone: Vec::new(),
        plan: Plan::default(),
    };
    work.look()?;
    for path in paths {
        *at = Some(path.clone());
        work.region(path)?;
    }
    for path in paths {
        *at = Some(path.clone());
        work.path(path)?;
        while let Some((wanted, number, reused)) = work.rest.pop() {
            work.directory(number, wanted, reused)?;
        }
    }
    work.remove()?;
    Ok(work.plan)
}

struct PutBack<'v> {
    target: &'v View,
    source: &'v View,
    /// What differs of inodes that are in both.
    differs: BTreeMap<Ino, Aspects>,
    /// Directories at or below which anything differs, of either view.
    target_dirs: HashSet<Ino>,
    source_dirs: HashSet<Ino>,
    /// The names of the paths in the line.
    regions: Vec<Name>,
    /// What is at or below them.
    inside_target: Inside<'v>,
    inside_source: Inside<'v>,
    /// Directories of the source that are put back.
    walked: HashSet<Ino>,
    /// Of these, what is still to be looked into, what it is in the line, and whether it is there already.
    rest: Vec<(Ino, Ino, bool)>,
    /// Inodes of the source, and what they are in the line.
    numbers: BTreeMap<Ino, Ino>,
    /// Inodes of the line that have a name afterwards.
    kept: HashSet<Ino>,
    /// Directories of the line that lose their name.
    gone: Vec<Ino>,
    plan: Plan,
}

impl PutBack<'_> {
    /// Notes what differs, and where.
    fn look(&mut self) -> Result<()> {
        let (target, source) = (self.target, self.source);
        each_inode(target, source, &mut |diff| {
            let (mut attributes, mut content) = (false, diff.content);
            if let Some((Some(old), Some(new))) = &diff.inode {
                attributes = has_other_attributes(old, new);
                let ends = [(target, old), (source, new)];
                let [here, there] = ends.map(|(view, inode)| FileAt { view, ino: diff.ino, inode });
                content = (content || old.size != new.size)
                    && new.kind != FileType::Directory
                    && !is_same_content(here, there)?;
            }
            self.differs.insert(diff.ino, Aspects { attributes, times: false, xattrs: diff.xattrs, content });
            for (view, dirs) in [(target, &mut self.target_dirs), (source, &mut self.source_dirs)] {
                let own = view.inode(diff.ino)?.filter(|inode| inode.kind == FileType::Directory);
                let parents = names_of(view, diff.ino)?.into_iter().map(|(dir, _)| dir);
                for dir in parents.chain(own.map(|_| diff.ino)) {
                    note_way(view, dirs, dir)?;
                }
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Notes where a path is, in both views.
    fn region(&mut self, path: &[Vec<u8>]) -> Result<()> {
        let there = follow(self.source, path)?.ok_or(Error::NotFound)?;
        self.inside_source.roots.push(there.ino);
        let Some((last, dirs)) = path.split_last() else {
            self.inside_target.roots.push(Ino::ROOT);
            return Ok(());
        };
        let mut at = Ino::ROOT;
        for name in dirs {
            match self.target.find_name(at, name)? {
                Some(entry) if entry.kind == FileType::Directory => at = entry.ino,
                Some(_) => return Err(Error::NotADirectory),
                None => return Ok(()),
            }
        }
        self.regions.push((at, last.clone()));
        self.inside_target.roots.extend(self.target.find_name(at, last)?.map(|entry| entry.ino));
        Ok(())
    }

    /// Puts back one path, and the directories above it that are gone.
    fn path(&mut self, path: &[Vec<u8>]) -> Result<()> {
        let Some((last, dirs)) = path.split_last() else {
            let root = Dirent { ino: Ino::ROOT, kind: FileType::Directory, slot: 0, name: Vec::new() };
            self.numbers.insert(Ino::ROOT, Ino::ROOT);
            self.kept.insert(Ino::ROOT);
            return self.take(Ino::ROOT, &root, true);
        };
        let (mut here, mut there) = (Ino::ROOT, Ino::ROOT);
        for name in dirs {
            let entry = self.source.find_name(there, name)?.ok_or(Error::NotFound)?;
            there = entry.ino;
            let planned = self.plan.entries.get(&(here, name.clone())).copied().flatten();
            here = match (planned, self.found(here, name)?) {
                (Some(made), _) => made,
                (None, Some(found)) => found.ino,
                (None, None) => {
                    let number = self.number(&entry)?.0;
                    self.plan.entries.insert((here, name.clone()), Some(number));
                    self.plan.inodes.insert(number, Takeover { from: entry.ino, aspects: Aspects::ALL });
                    number
                }
            };
        }
        let entry = self.source.find_name(there, last)?.ok_or(Error::NotFound)?;
        let found = self.found(here, last)?;
        self.put(here, last, found.as_ref(), &entry)
    }

    /// A name of the line; none of a directory that is only planned.
    fn found(&self, dir: Ino, name: &[u8]) -> Result<Option<Dirent>> {
        if dir >= Plan::FRESH { Ok(None) } else { Ok(self.target.find_name(dir, name)?) }
    }

    /// Gives a name to what has it in the source.
    fn put(&mut self, dir: Ino, name: &[u8], found: Option<&Dirent>, wanted: &Dirent) -> Result<()> {
        let (number, reused) = self.number(wanted)?;
        if found.map(|entry| entry.ino) != Some(number) {
            self.plan.entries.insert((dir, name.to_vec()), Some(number));
            self.lose(found);
        }
        self.take(number, wanted, reused)
    }

    /// Takes over an inode; what is in it is yet to come.
    fn take(&mut self, number: Ino, wanted: &Dirent, reused: bool) -> Result<()> {
        let aspects = match reused {
            true => self.differs.get(&wanted.ino).copied(),
            false => Some(Aspects::ALL),
        };
        if let Some(aspects) = aspects.filter(|a| *a != Aspects::NOTHING) {
            self.plan.inodes.insert(number, Takeover { from: wanted.ino, aspects });
        }
        if wanted.kind == FileType::Directory && self.walked.insert(wanted.ino) {
            self.rest.push((wanted.ino, number, reused));
        }
        Ok(())
    }

    /// Makes what is in a directory what is in that of the source.
    fn directory(&mut self, number: Ino, wanted: Ino, reused: bool) -> Result<()> {
        let differs = self.target_dirs.contains(&wanted) || self.source_dirs.contains(&wanted);
        if reused && !differs {
            return Ok(());
        }
        let mut found: Entries = if reused { entries_of(self.target, number)? } else { Entries::new() };
        for (name, entry) in entries_of(self.source, wanted)? {
            let old = found.remove(&name);
            self.put(number, &name, old.as_ref(), &entry)?;
        }
        for (name, old) in found {
            self.plan.entries.insert((number, name), None);
            self.lose(Some(&old));
        }
        // Its time is what it was, too.
        let mut changed = self.plan.entries.range((number, Vec::new())..);
        if reused && changed.next().is_some_and(|((dir, _), _)| *dir == number) {
            let takeover = Takeover { from: wanted, aspects: Aspects::NOTHING };
            self.plan.inodes.entry(number).or_insert(takeover).aspects.attributes = true;
        }
        Ok(())
    }

    fn lose(&mut self, found: Option<&Dirent>) {
        self.gone.extend(found.filter(|entry| entry.kind == FileType::Directory).map(|entry| entry.ino));
    }

    /// Takes everything out of directories that are gone and were not put elsewhere.
    fn remove(&mut self) -> Result<()> {
        let mut seen = HashSet::new();
        while let Some(dir) = self.gone.pop() {
            // A directory has one name, but in a damaged tree.
            if self.kept.contains(&dir) || !seen.insert(dir) {
                continue;
            }
            for name in names_in(self.target, dir)? {
                self.lose(Some(&name));
                self.plan.entries.entry((dir, name.name)).or_insert(None);
            }
        }
        Ok(())
    }

    /// What an inode of the source is in the line, and whether it is there already.
    fn number(&mut self, wanted: &Dirent) -> Result<(Ino, bool)> {
        if let Some(number) = self.numbers.get(&wanted.ino) {
            return Ok((*number, *number == wanted.ino && self.kept.contains(number)));
        }
        // In what came from another store the number may be another file's.
        let (there, source) = (self.target.inode(wanted.ino)?, self.source.inode(wanted.ino)?);
        let is_same = there.as_ref().zip(source).is_none_or(|(here, source)| here.is_same_file(&source));
        let number = match there.filter(|inode| inode.nlink > 0 || !is_same) {
            None => wanted.ino,
            Some(_) if !is_same => Ino(Plan::FRESH.0 + self.numbers.len() as u64),
            Some(_) if self.may_reuse(wanted)? => {
                self.kept.insert(wanted.ino);
                wanted.ino
            }
            Some(_) => Ino(Plan::FRESH.0 + self.numbers.len() as u64),
        };
        self.numbers.insert(wanted.ino, number);
        Ok((number, self.kept.contains(&number)))
    }

    /// True if an inode of the line that the source has too is the one to be put back.
    fn may_reuse(&mut self, wanted: &Dirent) -> Result<bool> {
        let here = names_of(self.target, wanted.ino)?;
        for name in &here {
            if self.regions.contains(name) || self.inside_target.has(name.0)? {
                return Ok(true);
            }
        }
        let has_changed =
            self.differs.get(&wanted.ino).is_some_and(|a| a.attributes || a.xattrs || a.content);
        if wanted.kind == FileType::Directory || has_changed {
            return Ok(false);
        }
        // A file that has not changed, with names that it had elsewhere then: to give it one more name again changes
        // nothing.
        let was = names_of(self.source, wanted.ino)?;
        for name in &here {
            if !was.contains(name) || self.inside_source.has(name.0)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// What of a view is at or below some inodes.
struct Inside<'v> {
    view: &'v View,
    roots: Vec<Ino>,
    known: HashMap<Ino, bool>,
}

impl<'v> Inside<'v> {
    fn new(view: &'v View) -> Inside<'v> {
        Inside { view, roots: Vec::new(), known: HashMap::new() }
    }

    /// Whether a directory is.
    fn has(&mut self, dir: Ino) -> Result<bool> {
        let (mut at, mut way) = (dir, HashSet::new());
        let inside = loop {
            if let Some(known) = self.known.get(&at) {
                break *known;
            }
            if !way.insert(at) {
                return Err(inconsistent(dir, "a directory is below itself").into());
            }
            if self.roots.contains(&at) {
                break true;
            }
            match self.view.inode(at)? {
                Some(inode) if at != Ino::ROOT => at = inode.parent,
                _ => break false,
            }
        };
        self.known.extend(way.into_iter().map(|ino| (ino, inside)));
        Ok(inside)
    }
}

/// Notes a directory and all above it.
fn note_way(view: &View, dirs: &mut HashSet<Ino>, dir: Ino) -> std::result::Result<(), VolumeError> {
    let mut at = dir;
    while dirs.insert(at) && at != Ino::ROOT {
        match view.inode(at)? {
            Some(inode) => at = inode.parent,
            None => break,
        }
    }
    Ok(())
}
