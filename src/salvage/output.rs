//! Writes files into one directory, and nothing outside of it.
//!
//! Names from a store are not trusted. Each must be a single component, which is checked here. Every call is relative
//! to an open directory and follows no link, so neither a name nor a symbolic link that was written before leads
//! outside. `..` is used by this module alone, and never further up than it went down.
//!
//! Nothing that exists is opened or replaced. Until the output is complete, only its owner may reach it.

use super::directories::Directories;
use crate::format::inode::Inode;
use crate::names;
use crate::ops::{FileType, Timestamp};
use crate::sys::{at, process};
use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

/// Where something is written: a name in a directory.
pub(super) struct Destination<'d> {
    pub directories: &'d Directories,
    pub dir: usize,
    pub name: &'d [u8],
}

/// The output directory.
pub(super) struct Output {
    root: Rc<OwnedFd>,
    is_root: bool,
    /// The directory that was used last: the next is reached from it, as it is mostly near.
    last: RefCell<(usize, Rc<OwnedFd>)>,
}

/// True if a name can be that of a file, whatever directory it is in.
pub(super) fn is_name(name: &[u8]) -> bool {
    (1..=255).contains(&name.len())
        && name != b"."
        && name != b".."
        && !name.iter().any(|b| matches!(b, 0 | b'/'))
}

impl Output {
    /// Makes the directory, or takes one that is there and empty.
    pub fn create(path: &Path) -> io::Result<Output> {
        use std::os::unix::fs::DirBuilderExt;
        match std::fs::DirBuilder::new().mode(0o700).create(path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                if std::fs::read_dir(path)?.next().is_some() {
                    return Err(io::Error::new(e.kind(), "it is not empty; name a new or empty directory"));
                }
            }
            done => done?,
        }
        let root = Rc::new(OwnedFd::from(File::open(path)?));
        let last = RefCell::new((0, root.clone()));
        Ok(Output { root, is_root: process::effective_uid() == 0, last })
    }

    /// Opens a directory, one step at a time: neither the depth of a tree nor the length of its paths has a bound.
    fn directory(&self, to: &Destination<'_>) -> io::Result<Rc<OwnedFd>> {
        let (last, mut fd) = self.last.borrow().clone();
        let (up, down) = to.directories.way(last, to.dir);
        match up {
            Some(steps) => {
                for _ in 0..steps {
                    fd = Rc::new(at::open_directory(fd.as_fd(), b"..")?);
                }
            }
            None => fd = self.root.clone(),
        }
        for dir in down {
            let name = checked(&to.directories.get(dir).name)?;
            fd = Rc::new(at::open_directory(fd.as_fd(), name)?);
        }
        *self.last.borrow_mut() = (to.dir, fd.clone());
        Ok(fd)
    }

    /// Makes a directory.
    pub fn make_directory(&self, to: &Destination<'_>) -> io::Result<()> {
        at::make_directory(self.directory(to)?.as_fd(), checked(to.name)?)
    }

    /// Makes a file, open for writing.
    pub fn create_file(&self, to: &Destination<'_>) -> io::Result<File> {
        at::create_file(self.directory(to)?.as_fd(), checked(to.name)?)
    }

    /// Makes a symbolic link.
    pub fn make_symlink(&self, to: &Destination<'_>, target: &[u8]) -> io::Result<()> {
        at::make_symlink(self.directory(to)?.as_fd(), checked(to.name)?, target)
    }

    /// Gives what is at `from` a second name.
    pub fn make_link(&self, from: &Destination<'_>, to: &Destination<'_>) -> io::Result<()> {
        let (old, new) = (self.directory(from)?, self.directory(to)?);
        at::make_link(old.as_fd(), checked(from.name)?, new.as_fd(), checked(to.name)?)
    }

    /// Makes a pipe, a socket or a device node.
    pub fn make_node(&self, to: &Destination<'_>, inode: &Inode) -> io::Result<()> {
        let kind = u32::from(crate::format::inode::type_number(inode.kind)) << 12;
        // As the kernel passes device numbers on: 12 bits of major number inside 20 bits of minor number.
        let (major, minor) = ((inode.rdev >> 8) & 0xfff, inode.rdev & 0xff | (inode.rdev >> 12) & 0xfff00);
        at::make_node(self.directory(to)?.as_fd(), checked(to.name)?, kind | 0o600, (major, minor))
    }

    /// Gives something its attributes, once its content is complete. Returns what could not be done.
    pub fn finish(
        &self,
        to: &Destination<'_>,
        inode: &Inode,
        attributes: &[(Vec<u8>, Vec<u8>)],
    ) -> Vec<String> {
        let mut failed = Vec::new();
        let mut note = |what: &str, done: io::Result<()>| {
            if let Err(e) = done {
                failed.push(format!("{what}: {e}"));
            }
        };
        let dir = match self.directory(to) {
            Ok(dir) => dir,
            Err(e) => return vec![e.to_string()],
        };
        let dir: BorrowedFd<'_> = dir.as_fd();
        // In this order: a new owner takes set-id bits and capabilities away, permissions may forbid attributes.
        if self.is_root {
            note("owner", at::set_owner(dir, to.name, inode.uid, inode.gid));
        }
        match at::open_place(dir, to.name) {
            Ok(handle) => {
                for (name, value) in attributes {
                    let shown = names::shown_bytes(name);
                    note(&format!("attribute {shown}"), at::set_attribute(handle.as_fd(), name, value));
                }
                if inode.kind != FileType::Symlink {
                    note("permissions", at::set_mode(handle.as_fd(), inode.mode));
                }
            }
            Err(e) => note("attributes", Err(e)),
        }
        let time = |t: Timestamp| (t.secs, t.nanos);
        note("times", at::set_times(dir, to.name, time(inode.atime), time(inode.mtime)));
        failed
    }
}

fn checked(name: &[u8]) -> io::Result<&[u8]> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidInput, "this cannot be the name of a file");
    if is_name(name) { Ok(name) } else { Err(wrong()) }
}
