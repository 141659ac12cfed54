//! snapfs: `mkdir` in `.snapshots` after each step, and `snapfs diff` between that and the one before. Branches are clones.

use crate::common::Result;
use crate::common::mounts::Peer;
use crate::tree::{output, succeed, timed};
use crate::ways::{Diff, Kept, PROGRAM, Way};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

/// `snapfs diff` found changes, as diff(1) says it.
const DIFFERENT: i32 = 1;
/// Of so many starts of the program the median counts.
const STARTS: usize = 21;

pub struct Snapfs {
    peer: Rc<Peer>,
    /// The newest snapshot.
    last: String,
}

impl Snapfs {
    pub fn new(peer: Rc<Peer>) -> Snapfs {
        Snapfs { peer, last: String::new() }
    }

    fn snapshot(&mut self, name: String) -> Result<String> {
        fs::create_dir(self.peer.root().join(".snapshots").join(&name))?;
        Ok(std::mem::replace(&mut self.last, name))
    }

    fn clone_dir(&self, name: &str) -> PathBuf {
        self.peer.root().join(".clones").join(name)
    }
}

impl Way for Snapfs {
    fn tree(&self) -> PathBuf {
        self.peer.root().join("tree")
    }

    fn planted(&mut self) -> Result<()> {
        self.snapshot("planted".into()).map(drop)
    }

    fn after(&mut self, step: usize) -> Result<Kept> {
        let (before, time) = timed(|| self.snapshot(format!("step{step}")))?;
        let mut diff = Command::new(PROGRAM);
        diff.args(["diff", "--name-only", "-0"]).arg(self.peer.root()).args([&before, &self.last]);
        let (said, took) = timed(|| output(&mut diff, &[0, DIFFERENT]))?;
        let said = String::from_utf8(said)?;
        let paths = said.split('\0').filter(|path| !path.is_empty());
        let paths = paths.map(|path| path.trim_start_matches("tree/").to_string()).collect();
        Ok(Kept { time, diffs: vec![Diff { time: took, paths: Some(paths) }] })
    }

    fn diffs(&self) -> &'static [&'static str] {
        &["snapfs diff --name-only"]
    }

    fn branch(&mut self, name: &str) -> Result<PathBuf> {
        let dir = self.clone_dir(name);
        fs::create_dir(&dir)?;
        Ok(dir.join("tree"))
    }

    fn merge(&mut self, name: &str) -> Result<()> {
        succeed(Command::new(PROGRAM).arg("merge").arg(self.peer.root()).arg(name))
    }

    fn drop_branch(&mut self, name: &str) -> Result<()> {
        Ok(fs::remove_dir(self.clone_dir(name))?)
    }

    fn start(&self) -> Option<Duration> {
        let version = || output(Command::new(PROGRAM).arg("--version"), &[0]);
        let times: Result<Vec<Duration>> =
            (0..STARTS).map(|_| timed(version).map(|(_, time)| time)).collect();
        let mut times = times.ok()?;
        times.sort();
        times.get(times.len() / 2).copied()
    }
}
