//! Writing out one name: a directory, a new file, or a second name of one that was written already.
//!
//! A failure that concerns only this name is told and passed over; one of the whole output ends the work. Attributes of
//! directories come last, when nothing is made in them any more.

use super::content::{self, Content};
use super::items::Items;
use super::output::{Output, Place, is_name};
use super::{Listener, Progress, Rescued, SalvageError, State, Summary};
use crate::format::inode::Inode;
use crate::format::{Ino, Key, Kind};
use crate::ops::FileType;
use crate::sys;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;

/// Directories inside each other at most; deeper ones go to `lost+found`.
const DEPTH_MAX: u32 = 1000;

/// A directory of the output. The first is the output itself.
pub(super) struct Directory {
    pub ino: Ino,
    pub parent: usize,
    pub name: Box<[u8]>,
    pub depth: u32,
    /// Names in it that came out.
    pub entries: u64,
}

pub(super) struct Rescue<'a> {
    pub items: &'a Items,
    pub out: Option<Output>,
    pub listener: &'a mut dyn Listener,
    pub summary: Summary,
    pub directories: Vec<Directory>,
    pub by_ino: HashMap<Ino, usize>,
    pub seen: HashSet<Ino>,
    /// First names of what has several: directory and name.
    pub first_names: BTreeMap<Ino, (usize, Box<[u8]>)>,
    /// Directories whose entries are still to be followed.
    pub pending: Vec<usize>,
    /// Lost parents that are being placed.
    pub on_way: Vec<Ino>,
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
            path: self.path(dir, name),
            kind,
            state: State::Whole,
            content: Content::default(),
            notes: Vec::new(),
        };
        let new = self.seen.insert(ino);
        let done = match kind {
            Some(FileType::Directory) if !new => {
                rescued.state = State::Damaged;
                rescued.notes.push("a second name of a directory: left out".into());
                Ok(())
            }
            Some(FileType::Directory) => self.directory(dir, name, ino, &mut rescued),
            _ if !new => self.second_name(dir, name, ino, &mut rescued),
            kind => self.file(dir, name, ino, kind, inode.as_ref(), &mut rescued),
        };
        if let Err(e) = done {
            if is_fatal(&e) {
                let path = String::from_utf8_lossy(&rescued.path).into_owned();
                return Err(SalvageError::Output(format!("cannot write {path}: {e}")));
            }
            rescued.state = State::Damaged;
            rescued.notes.push(e.to_string());
            if new && is_about_name(&e) {
                // It will be looked at again, as one that nothing leads to.
                self.seen.remove(&ino);
            }
        }
        self.directories[dir].entries += 1;
        self.tell(rescued);
        Ok(())
    }

    fn tell(&mut self, rescued: Rescued) {
        let count = match rescued.state {
            State::Whole => &mut self.summary.whole,
            State::Damaged => &mut self.summary.damaged,
            State::Lost => &mut self.summary.lost,
        };
        *count += 1;
        self.summary.bytes += rescued.content.good_bytes;
        self.listener.rescued(rescued);
        let Summary { whole, damaged, lost, bytes, .. } = self.summary;
        self.listener.progress(Progress::Files { names: whole + damaged + lost, bytes });
    }

    fn directory(&mut self, dir: usize, name: &[u8], ino: Ino, rescued: &mut Rescued) -> io::Result<()> {
        let depth = self.directories[dir].depth + 1;
        if depth > DEPTH_MAX {
            self.seen.remove(&ino);
            return Err(io::Error::other("directories are too deep here; look for it in lost+found"));
        }
        self.with_place(dir, name, |out, place| out.make_directory(place))?;
        let index = self.directories.len();
        self.directories.push(Directory { ino, parent: dir, name: name.into(), depth, entries: 0 });
        self.by_ino.insert(ino, index);
        self.pending.push(index);
        if self.items.inode(ino).is_none() {
            rescued.state = State::Damaged;
            rescued.notes.push("its attributes are lost".into());
        }
        Ok(())
    }

    fn second_name(&mut self, dir: usize, name: &[u8], ino: Ino, rescued: &mut Rescued) -> io::Result<()> {
        let Some((first_dir, first)) = self.first_names.get(&ino).cloned() else {
            rescued.state = State::Damaged;
            rescued.notes.push("a second name of a file that has one only: left out".into());
            return Ok(());
        };
        let (from, to) = (self.components(first_dir), self.components(dir));
        let Some(out) = &self.out else { return Ok(()) };
        out.make_link(&Place { dir: &from, name: &first }, &Place { dir: &to, name })
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
                    self.with_place(dir, name, |out, place| out.make_symlink(place, &target))?;
                }
                None => rescued.state = State::Lost,
            },
            (Some(_), Some(inode)) => self.with_place(dir, name, |out, place| out.make_node(place, inode))?,
            (Some(_), None) => rescued.state = State::Lost,
        }
        if rescued.state == State::Lost {
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
            rescued.state = State::Lost;
            return Ok(());
        }
        let mut file = None;
        self.with_place(dir, name, |out, place| {
            file = Some(out.create_file(place)?);
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
            rescued.state = State::Damaged;
        }
        Ok(())
    }

    /// Attributes of something whose content is complete.
    fn finish(&self, dir: usize, name: &[u8], ino: Ino, inode: Option<&Inode>, rescued: &mut Rescued) {
        let Some(inode) = inode else {
            rescued.state = State::Damaged;
            rescued.notes.push("its attributes are lost".into());
            return;
        };
        let attributes = content::attributes(self.items, ino);
        for name in attributes.lost {
            rescued.state = State::Damaged;
            rescued.notes.push(format!("attribute {} is lost", String::from_utf8_lossy(&name)));
        }
        let components = self.components(dir);
        if let Some(out) = &self.out {
            // What the host does not take is no damage of the store.
            rescued.notes.extend(out.finish(&Place { dir: &components, name }, inode, &attributes.whole));
        }
    }

    /// Attributes of directories, the inner ones first, and what is missing in them.
    pub fn finish_directories(&mut self) {
        for index in (0..self.directories.len()).rev() {
            let Directory { ino, parent, ref name, entries, .. } = self.directories[index];
            let Some(inode) = self.items.inode(ino) else { continue };
            let name = name.clone();
            let path = if index == 0 { b".".to_vec() } else { self.path(parent, &name) };
            let mut rescued = Rescued {
                path,
                kind: Some(FileType::Directory),
                state: State::Whole,
                content: Content::default(),
                notes: Vec::new(),
            };
            if index > 0 {
                self.finish(parent, &name, ino, Some(&inode), &mut rescued);
            }
            if entries < inode.size {
                rescued.state = State::Damaged;
                rescued.notes.push(format!(
                    "{} of its {} names are missing",
                    inode.size - entries,
                    inode.size
                ));
            }
            if rescued.state == State::Whole && rescued.notes.is_empty() {
                continue;
            }
            // It was told of as whole when it was made; the output itself was not.
            self.summary.whole = self.summary.whole.saturating_sub(u64::from(index > 0));
            self.tell(rescued);
        }
    }

    pub fn with_place(
        &self,
        dir: usize,
        name: &[u8],
        make: impl FnOnce(&Output, &Place<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let Some(out) = &self.out else { return Ok(()) };
        make(out, &Place { dir: &self.components(dir), name })
    }

    /// Names from the output down to a directory.
    fn components(&self, dir: usize) -> Vec<Vec<u8>> {
        let (mut names, mut at) = (Vec::new(), dir);
        while at != 0 {
            names.push(self.directories[at].name.to_vec());
            at = self.directories[at].parent;
        }
        names.reverse();
        names
    }

    fn path(&self, dir: usize, name: &[u8]) -> Vec<u8> {
        let mut path = self.components(dir).join(&b'/');
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        path
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
