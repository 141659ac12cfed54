//! The directory that files are written to, and nothing outside of it.
//!
//! Names from a store are not trusted: each is one component, checked here, and every call is relative to an open
//! directory and follows no link, so that neither a name nor a symbolic link that was written before leads out. Nothing
//! that exists is opened or replaced. Until it is complete, everything is its owner's alone.

use crate::format::inode::Inode;
use crate::ops::{FileType, Timestamp};
use crate::sys::{at, process};
use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

/// The name of something that was written: its directory, as components below the output, and its last component.
pub(super) struct Place<'p> {
    pub dir: &'p [Vec<u8>],
    pub name: &'p [u8],
}

/// The output directory.
pub(super) struct Output {
    root: Rc<OwnedFd>,
    is_root: bool,
    /// The directory that was used last.
    last: RefCell<(Vec<Vec<u8>>, Rc<OwnedFd>)>,
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
        let last = RefCell::new((Vec::new(), root.clone()));
        Ok(Output { root, is_root: process::effective_uid() == 0, last })
    }

    fn directory(&self, path: &[Vec<u8>]) -> io::Result<Rc<OwnedFd>> {
        if let (known, fd) = &*self.last.borrow()
            && known == path
        {
            return Ok(fd.clone());
        }
        let mut fd = self.root.clone();
        for name in path {
            fd = Rc::new(at::open_directory(fd.as_fd(), checked(name)?)?);
        }
        *self.last.borrow_mut() = (path.to_vec(), fd.clone());
        Ok(fd)
    }

    /// Makes a directory.
    pub fn make_directory(&self, place: &Place<'_>) -> io::Result<()> {
        at::make_directory(self.directory(place.dir)?.as_fd(), checked(place.name)?)
    }

    /// Makes a file, open for writing.
    pub fn create_file(&self, place: &Place<'_>) -> io::Result<File> {
        at::create_file(self.directory(place.dir)?.as_fd(), checked(place.name)?)
    }

    /// Makes a symbolic link.
    pub fn make_symlink(&self, place: &Place<'_>, target: &[u8]) -> io::Result<()> {
        at::make_symlink(self.directory(place.dir)?.as_fd(), checked(place.name)?, target)
    }

    /// Gives what is at `from` a second name.
    pub fn make_link(&self, from: &Place<'_>, to: &Place<'_>) -> io::Result<()> {
        let (old, new) = (self.directory(from.dir)?, self.directory(to.dir)?);
        at::make_link(old.as_fd(), checked(from.name)?, new.as_fd(), checked(to.name)?)
    }

    /// Makes a pipe, a socket or a device node.
    pub fn make_node(&self, place: &Place<'_>, inode: &Inode) -> io::Result<()> {
        let kind = u32::from(crate::format::inode::type_number(inode.kind)) << 12;
        // As the kernel passes device numbers on: 12 bits of major number inside 20 bits of minor number.
        let (major, minor) = ((inode.rdev >> 8) & 0xfff, inode.rdev & 0xff | (inode.rdev >> 12) & 0xfff00);
        at::make_node(self.directory(place.dir)?.as_fd(), checked(place.name)?, kind | 0o600, (major, minor))
    }

    /// Gives something its attributes, once its content is complete. Returns what could not be done.
    pub fn finish(&self, place: &Place<'_>, inode: &Inode, attributes: &[(Vec<u8>, Vec<u8>)]) -> Vec<String> {
        let mut failed = Vec::new();
        let mut note = |what: &str, done: io::Result<()>| {
            if let Err(e) = done {
                failed.push(format!("{what}: {e}"));
            }
        };
        let dir = match self.directory(place.dir) {
            Ok(dir) => dir,
            Err(e) => return vec![e.to_string()],
        };
        let dir: BorrowedFd<'_> = dir.as_fd();
        // In this order: a new owner takes set-id bits and capabilities away, permissions may forbid attributes.
        if self.is_root {
            note("owner", at::set_owner(dir, place.name, inode.uid, inode.gid));
        }
        match at::open_place(dir, place.name) {
            Ok(handle) => {
                for (name, value) in attributes {
                    let shown = String::from_utf8_lossy(name);
                    note(&format!("attribute {shown}"), at::set_attribute(handle.as_fd(), name, value));
                }
                if inode.kind != FileType::Symlink {
                    note("permissions", at::set_mode(handle.as_fd(), inode.mode));
                }
            }
            Err(e) => note("attributes", Err(e)),
        }
        let time = |t: Timestamp| (t.secs, t.nanos);
        note("times", at::set_times(dir, place.name, time(inode.atime), time(inode.mtime)));
        failed
    }
}

fn checked(name: &[u8]) -> io::Result<&[u8]> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidInput, "this cannot be the name of a file");
    if is_name(name) { Ok(name) } else { Err(wrong()) }
}
