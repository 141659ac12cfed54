//! Writing out one name: a directory, a new file, or a second name of one that was written already.
//!
//! A failure that concerns only this name is told and passed over; one of the whole output ends the work. Attributes of
//! directories come last, when nothing is made in them any more.

use super::content;
use super::directories::{Directories, Directory};
use super::items::SalvagedItems;
use super::output::{Destination, Output, is_name};
use super::report::{ContentReport, Listener, Outcome, Rescued, SalvageError, SalvageProgress, Summary};
use crate::format::inode::Inode;
use crate::format::{Ino, Key, Kind};
use crate::names;
use crate::ops::FileType;
use crate::sys;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;

/// A salvage at work: what was written so far.
pub(super) struct Rescue<'a> {
    pub items: &'a SalvagedItems,
    pub out: Option<Output>,
    pub listener: &'a mut dyn Listener,
    pub summary: Summary,
    pub directories: Directories,
    pub by_ino: HashMap<Ino, usize>,
    pub seen: HashSet<Ino>,
    /// First names of what has several: directory and name.
    pub first_names: BTreeMap<Ino, (usize, Box<[u8]>)>,
    /// Directories whose entries are still to be followed.
    pub pending: Vec<usize>,
    pub lost_found: Option<usize>,
}

impl Rescue<'_> {
    /// One name of an inode.
    pub fn entry(
        &mut self,
        dir: usize,
        name: &[u8],
        ino: Ino,
        kind: Option<FileType>,
    ) -> Result<(), SalvageError> {
        if !(Ino::FIRST_FREE..Ino::END).contains(&ino) || !is_name(name) {
            return Ok(());
        }
        let inode = self.items.inode(ino);
        let kind = inode.as_ref().map(|i| i.kind).or(kind);
        let mut rescued = Rescued {
            path: self.directories.path(dir, name),
            kind,
            state: Outcome::Whole,
            content: ContentReport::default(),
            notes: Vec::new(),
        };
        let new = self.seen.insert(ino);
        let done = match kind {
            Some(FileType::Directory) if !new => {
                rescued.state = Outcome::Damaged;
                rescued.notes.push("a second name of a directory: left out".into());
                Ok(())
            }
            Some(FileType::Directory) => self.directory(dir, name, ino, &mut rescued),
            _ if !new => self.second_name(dir, name, ino, &mut rescued),
            kind => self.file(dir, name, ino, kind, inode.as_ref(), &mut rescued),
        };
        if let Err(e) = done {
            if is_fatal(&e) {
                let path = names::shown_bytes(&rescued.path);
                return Err(SalvageError::Output(format!("cannot write {path}: {e}")));
            }
            rescued.state = Outcome::Damaged;
            rescued.notes.push(e.to_string());
            if new && is_about_name(&e) {
                // It will be looked at again, as one that nothing leads to.
                self.seen.remove(&ino);
            }
        }
        self.directories.count_entry(dir);
        self.tell(rescued);
        Ok(())
    }

    fn tell(&mut self, rescued: Rescued) {
        let count = match rescued.state {
            Outcome::Whole => &mut self.summary.whole,
            Outcome::Damaged => &mut self.summary.damaged,
            Outcome::Lost => &mut self.summary.lost,
        };
        *count += 1;
        self.summary.bytes += rescued.content.good_bytes;
        self.listener.rescued(rescued);
        let Summary { whole, damaged, lost, bytes, .. } = self.summary;
        self.listener.progress(SalvageProgress::Files { names: whole + damaged + lost, bytes });
    }

    fn directory(&mut self, dir: usize, name: &[u8], ino: Ino, rescued: &mut Rescued) -> io::Result<()> {
        self.with_destination(dir, name, |out, to| out.make_directory(to))?;
        let index = self.directories.add(dir, name, ino);
        self.by_ino.insert(ino, index);
        self.pending.push(index);
        if self.items.inode(ino).is_none() {
            rescued.state = Outcome::Damaged;
            rescued.notes.push("its attributes are lost".into());
        }
        Ok(())
    }

    fn second_name(&mut self, dir: usize, name: &[u8], ino: Ino, rescued: &mut Rescued) -> io::Result<()> {
        let Some((first_dir, first)) = self.first_names.get(&ino).cloned() else {
            rescued.state = Outcome::Damaged;
            rescued.notes.push("a second name of a file that has one only: left out".into());
            return Ok(());
        };
        let Some(out) = &self.out else { return Ok(()) };
        out.make_link(&self.destination(first_dir, &first), &self.destination(dir, name))
    }

    /// A new inode that is no directory.
    fn file(
        &mut self,
        dir: usize,
        name: &[u8],
        ino: Ino,
        kind: Option<FileType>,
        inode: Option<&Inode>,
        rescued: &mut Rescued,
    ) -> io::Result<()> {
        match (kind, inode) {
            (Some(FileType::Regular) | None, _) => self.regular(dir, name, ino, inode, rescued)?,
            (Some(FileType::Symlink), Some(inode)) => match content::target(self.items, ino, inode) {
                Some(target) => {
                    rescued.content.size = target.len() as u64;
                    self.with_destination(dir, name, |out, to| out.make_symlink(to, &target))?;
                }
                None => rescued.state = Outcome::Lost,
            },
            (Some(_), Some(inode)) => self.with_destination(dir, name, |out, to| out.make_node(to, inode))?,
            (Some(_), None) => rescued.state = Outcome::Lost,
        }
        if rescued.state == Outcome::Lost {
            return Ok(());
        }
        if inode.is_none_or(|i| i.nlink != 1) {
            self.first_names.insert(ino, (dir, name.into()));
        }
        self.finish(dir, name, ino, inode, rescued);
        Ok(())
    }

    fn regular(
        &mut self,
        dir: usize,
        name: &[u8],
        ino: Ino,
        inode: Option<&Inode>,
        rescued: &mut Rescued,
    ) -> io::Result<()> {
        let (from, to) = (Key::new(ino.0, Kind::Inline, 0), Key::new(ino.0, Kind::Extent, u64::MAX));
        if inode.is_none() && self.items.range(from, to).next().is_none() {
            rescued.state = Outcome::Lost;
            return Ok(());
        }
        let mut file = None;
        self.with_destination(dir, name, |out, to| {
            file = Some(out.create_file(to)?);
            Ok(())
        })?;
        rescued.content = content::copy(self.items, ino, inode, file.as_ref())?;
        if let Some(Err(e)) = file.map(|file| file.set_len(rescued.content.size)) {
            if is_fatal(&e) {
                return Err(e);
            }
            rescued.notes.push(format!("its size of {} bytes: {e}", rescued.content.size));
        }
        if !rescued.content.is_whole() {
            rescued.state = Outcome::Damaged;
        }
        Ok(())
    }

    /// Attributes of something whose content is complete.
    fn finish(&self, dir: usize, name: &[u8], ino: Ino, inode: Option<&Inode>, rescued: &mut Rescued) {
        let Some(inode) = inode else {
            rescued.state = Outcome::Damaged;
            rescued.notes.push("its attributes are lost".into());
            return;
        };
        let attributes = content::attributes(self.items, ino);
        for name in attributes.lost {
            rescued.state = Outcome::Damaged;
            rescued.notes.push(format!("attribute {} is lost", names::shown_bytes(&name)));
        }
        if let Some(out) = &self.out {
            // What the host does not take is no damage of the store.
            rescued.notes.extend(out.finish(&self.destination(dir, name), inode, &attributes.whole));
        }
    }

    /// Attributes of directories, the inner ones first, and what is missing in them.
    pub fn finish_directories(&mut self) {
        for index in (0..self.directories.count()).rev() {
            let Directory { ino, parent, ref name, entries, .. } = *self.directories.get(index);
            let Some(inode) = self.items.inode(ino) else { continue };
            let name = name.clone();
            let path = if index == 0 { b".".to_vec() } else { self.directories.path(parent, &name) };
            let mut rescued = Rescued {
                path,
                kind: Some(FileType::Directory),
                state: Outcome::Whole,
                content: ContentReport::default(),
                notes: Vec::new(),
            };
            if index > 0 {
                self.finish(parent, &name, ino, Some(&inode), &mut rescued);
            }
            if entries < inode.size {
                rescued.state = Outcome::Damaged;
                rescued.notes.push(format!(
                    "{} of its {} names are missing",
                    inode.size - entries,
                    inode.size
                ));
            }
            if rescued.state == Outcome::Whole && rescued.notes.is_empty() {
                continue;
            }
            // It was told of as whole when it was made; the output itself was not.
            self.summary.whole = self.summary.whole.saturating_sub(u64::from(index > 0));
            self.tell(rescued);
        }
    }

    pub fn with_destination(
        &self,
        dir: usize,
        name: &[u8],
        make: impl FnOnce(&Output, &Destination<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        self.out.as_ref().map_or(Ok(()), |out| make(out, &self.destination(dir, name)))
    }

    fn destination<'d>(&'d self, dir: usize, name: &'d [u8]) -> Destination<'d> {
        Destination { directories: &self.directories, dir, name }
    }
}

/// Failures of a name that another name would not have.
fn is_about_name(e: &io::Error) -> bool {
    use io::ErrorKind::{AlreadyExists, InvalidFilename, InvalidInput};
    matches!(e.kind(), AlreadyExists | InvalidFilename | InvalidInput)
}

/// Failures after which writing on is of no use. A file that is too long for the host is no such; one that is too long
/// for this process is.
fn is_fatal(e: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, OutOfMemory, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let limited = || sys::process::file_bytes_max() < u64::MAX;
    match e.kind() {
        StorageFull | QuotaExceeded | ReadOnlyFilesystem | OutOfMemory => true,
        FileTooLarge => limited(),
        _ => sys::is_out_of_descriptors(e),
    }
}
