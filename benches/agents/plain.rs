//! Nothing is kept. A branch is a copy of the tree, and a merge copies back what is newer than the branch.

use crate::common::Result;
use crate::tree::{output, succeed};
use crate::ways::Way;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

pub struct Plain {
    dir: PathBuf,
    has_branches: bool,
}

impl Plain {
    pub fn new(dir: PathBuf, has_branches: bool) -> Plain {
        Plain { dir, has_branches }
    }

    fn branch_dir(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// A file whose time is now, and older than that of whatever is written from now on: the kernel's clock for files stands
/// still for some milliseconds.
pub fn stamp(path: &Path) -> Result<()> {
    let written = |path: &Path| -> Result<SystemTime> {
        fs::write(path, b"now")?;
        Ok(fs::metadata(path)?.modified()?)
    };
    let (time, later) = (written(path)?, path.with_extension("later"));
    while written(&later)? <= time {}
    Ok(fs::remove_file(later)?)
}

/// Files below `dir` that were written after `stamp` was, from `dir`. What is gone it does not know.
pub fn newer(dir: &Path, stamp: &Path) -> Result<Vec<PathBuf>> {
    let mut find = Command::new("find");
    find.current_dir(dir).args([".", "!", "-type", "d", "-newer"]).arg(stamp).args(["-printf", r"%P\0"]);
    let found = output(&mut find, &[0])?;
    let names = found.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(|name| PathBuf::from(OsStr::from_bytes(name))).collect())
}

/// Copies what is newer than `stamp` from one tree into another.
pub fn copy_newer(from: &Path, to: &Path, stamp: &Path, how: &str) -> Result<()> {
    let mut copy = Command::new("xargs");
    copy.args(["-0", "cp", "-a", how, "--parents", "-t"]).arg(to).current_dir(from).stdin(Stdio::piped());
    let mut child = copy.spawn()?;
    let names = newer(from, stamp)?;
    let mut input = child.stdin.take().ok_or("no input")?;
    names.iter().try_for_each(|name| input.write_all(&[name.as_os_str().as_bytes(), b"\0"].concat()))?;
    drop(input);
    if child.wait()?.success() { Ok(()) } else { Err("cp failed".into()) }
}

impl Way for Plain {
    fn tree(&self) -> PathBuf {
        self.dir.join("tree")
    }

    fn has_branches(&self) -> bool {
        self.has_branches
    }

    fn branch(&mut self, name: &str) -> Result<PathBuf> {
        let branch = self.branch_dir(name);
        succeed(Command::new("cp").arg("-a").args([&self.tree(), &branch]))?;
        stamp(&branch.with_extension("stamp"))?;
        Ok(branch)
    }

    fn merge(&mut self, name: &str) -> Result<()> {
        let branch = self.branch_dir(name);
        copy_newer(&branch, &self.tree(), &branch.with_extension("stamp"), "--reflink=auto")?;
        self.drop_branch(name)
    }

    fn drop_branch(&mut self, name: &str) -> Result<()> {
        let branch = self.branch_dir(name);
        fs::remove_file(branch.with_extension("stamp"))?;
        Ok(fs::remove_dir_all(branch)?)
    }
}
