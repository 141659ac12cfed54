//! The crate branchfs, over a directory of the bare file system. It has neither snapshots nor differences: each step is
//! a branch that is committed when its files have been listed in branchfs's own directory.

use crate::common::Result;
use crate::common::medium::Medium;
use crate::tree::{output, succeed, timed};
use crate::ways::{Diff, Kept, Way};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

pub struct Branchfs {
    program: PathBuf,
    /// What is under the mount: the tree is planted there.
    base: PathBuf,
    storage: PathBuf,
    mount: PathBuf,
    is_mounted: bool,
}

impl Branchfs {
    pub fn new(program: &Path, below: &Path, medium: &Medium) -> Result<Branchfs> {
        output(Command::new(program).arg("--help"), &[0])?;
        let (base, storage) = (below.join("branchfs-base"), below.join("branchfs-storage"));
        fs::create_dir(&base)?;
        let mount = medium.place("branchfs")?;
        Ok(Branchfs { program: program.into(), base, storage, mount, is_mounted: false })
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(verb).arg("--storage").arg(&self.storage);
        command
    }

    fn create(&self, name: &str) -> Result<()> {
        succeed(self.command("create").arg(name).arg(&self.mount))
    }

    /// A word to a branch that is not the one that the mount shows.
    fn tell(&self, name: &str, word: &str) -> Result<()> {
        Ok(fs::write(self.mount.join(format!("@{name}/.branchfs_ctl")), word)?)
    }
}

impl Way for Branchfs {
    fn tree(&self) -> PathBuf {
        if self.is_mounted { self.mount.join("tree") } else { self.base.join("tree") }
    }

    fn planted(&mut self) -> Result<()> {
        // Its daemon stays behind with what it was given.
        let mut mount = self.command("mount");
        mount.arg("--base").arg(&self.base).arg(&self.mount);
        mount.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // In a group of its own an interrupt of the bench does not reach it.
        mount.process_group(0);
        self.is_mounted = mount.status()?.success();
        if self.is_mounted { Ok(()) } else { Err("it cannot be mounted".into()) }
    }

    fn before(&mut self, step: usize) -> Result<Duration> {
        timed(|| self.create(&format!("step{step}"))).map(|((), time)| time)
    }

    fn after(&mut self, step: usize) -> Result<Kept> {
        let files = self.storage.join(format!("branches/step{step}/files/tree"));
        let mut find = Command::new("find");
        find.arg(&files).args(["!", "-type", "d", "-printf", r"%P\0"]);
        let (said, took) = timed(|| output(&mut find, &[0]))?;
        let said = String::from_utf8(said)?;
        let paths = said.split('\0').filter(|path| !path.is_empty()).map(String::from).collect();
        let ((), time) = timed(|| succeed(self.command("commit").arg(&self.mount)))?;
        Ok(Kept { time, diffs: vec![Diff { time: took, paths: Some(paths) }] })
    }

    fn diffs(&self) -> &'static [&'static str] {
        &["find in the branch's files"]
    }

    fn branch(&mut self, name: &str) -> Result<PathBuf> {
        self.create(name)?;
        Ok(self.mount.join(format!("@{name}/tree")))
    }

    fn merge(&mut self, name: &str) -> Result<()> {
        self.tell(name, "commit")
    }

    fn drop_branch(&mut self, name: &str) -> Result<()> {
        self.tell(name, "abort")
    }
}

impl Drop for Branchfs {
    fn drop(&mut self) {
        let unmounted = || {
            succeed(self.command("unmount").arg(&self.mount))
                .or_else(|_| succeed(Command::new("umount").arg("-l").arg(&self.mount)))
        };
        if self.is_mounted
            && let Err(why) = unmounted()
        {
            eprintln!("branchfs: {why}");
        }
    }
}
