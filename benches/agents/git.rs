//! A commit of everything after each step, built files and all. A branch is a branch of git in the same work tree: one
//! at a time can be worked on.

use crate::common::Result;
use crate::tree::{output, succeed, timed};
use crate::ways::{Diff, Kept, Way};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

pub struct Git {
    dir: PathBuf,
}

impl Git {
    pub fn new(dir: PathBuf) -> Git {
        Git { dir }
    }

    fn git(&self, args: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "safe.directory=*"]);
        command.args(["-c", "maintenance.auto=false", "-c", "gc.auto=0"]).args(args);
        command.current_dir(self.tree());
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
        command
    }

    fn commit(&self, message: &str) -> Result<()> {
        succeed(&mut self.git(&["add", "-A"]))?;
        succeed(&mut self.git(&["commit", "-q", "-m", message]))
    }
}

impl Way for Git {
    fn tree(&self) -> PathBuf {
        self.dir.join("tree")
    }

    fn planted(&mut self) -> Result<()> {
        succeed(&mut self.git(&["init", "-q", "-b", "main"]))?;
        self.commit("all")
    }

    fn after(&mut self, step: usize) -> Result<Kept> {
        let ((), time) = timed(|| self.commit(&format!("step {step}")))?;
        let names = ["diff", "--name-only", "-z", "--no-renames", "HEAD~1", "HEAD"];
        let (said, took) = timed(|| output(&mut self.git(&names), &[0]))?;
        let said = String::from_utf8(said)?;
        let paths = said.split('\0').filter(|path| !path.is_empty()).map(String::from).collect();
        Ok(Kept { time, diffs: vec![Diff { time: took, paths: Some(paths) }] })
    }

    fn diffs(&self) -> &'static [&'static str] {
        &["git diff --name-only"]
    }

    fn branch(&mut self, name: &str) -> Result<PathBuf> {
        succeed(&mut self.git(&["checkout", "-q", "-b", name]))?;
        Ok(self.tree())
    }

    fn merge(&mut self, name: &str) -> Result<()> {
        self.commit(name)?;
        succeed(&mut self.git(&["checkout", "-q", "main"]))?;
        succeed(&mut self.git(&["merge", "-q", "--ff", name]))?;
        succeed(&mut self.git(&["branch", "-q", "-d", name]))
    }

    fn drop_branch(&mut self, name: &str) -> Result<()> {
        // What was left in the work tree is the branch's.
        succeed(&mut self.git(&["branch", "-q", "-D", name]))
    }

    fn leave(&mut self, name: &str) -> Result<()> {
        self.commit(name)?;
        succeed(&mut self.git(&["checkout", "-q", "main"]))
    }

    fn start(&self) -> Option<Duration> {
        let version = || output(&mut self.git(&["--version"]), &[0]);
        timed(version).ok().map(|(_, time)| time)
    }
}
