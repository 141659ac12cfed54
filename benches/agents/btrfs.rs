//! btrfs: a read-only snapshot by ioctl after each step. Of two snapshots `btrfs send --no-data` tells the difference, and
//! `find -newer` what was written since the step before, but not what is gone. Branches are writable snapshots.

use crate::common::Result;
use crate::common::mounts::{Peer, Snapshots};
use crate::common::raw;
use crate::plain::{copy_newer, newer, stamp};
use crate::tree::{output, timed};
use crate::ways::{Diff, Kept, Way};
use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::rc::Rc;

pub struct Btrfs {
    peer: Rc<Peer>,
    live: PathBuf,
    snapshots: PathBuf,
    /// The newest snapshot.
    last: PathBuf,
}

impl Btrfs {
    pub fn new(peer: Rc<Peer>) -> Result<Btrfs> {
        let Some(Snapshots::Btrfs { live, dir }) = peer.snapshots() else {
            return Err("no snapshots".into());
        };
        Ok(Btrfs { peer, live, last: dir.clone(), snapshots: dir })
    }

    fn snapshot(&mut self, name: &str) -> Result<PathBuf> {
        raw::btrfs_snapshot(&self.live, &self.snapshots, name)?;
        Ok(std::mem::replace(&mut self.last, self.snapshots.join(name)))
    }

    /// Beside the snapshots: inside of the tree it would be a change.
    fn stamp(&self, name: &str) -> PathBuf {
        self.snapshots.join(format!("{name}.stamp"))
    }

    fn sent(&self, before: &PathBuf) -> Result<()> {
        let mut send = Command::new("btrfs");
        send.args(["send", "-q", "--no-data", "-p"]).args([before, &self.last]);
        let mut send = send.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let stream = send.stdout.take().ok_or("no output")?;
        output(Command::new("btrfs").args(["receive", "--dump"]).stdin(stream), &[0])?;
        let sent = send.wait_with_output()?;
        // Who reads the stream may have seen its end before who writes it is done with the pipe.
        if sent.status.success() || sent.status.signal() == Some(libc::SIGPIPE) {
            return Ok(());
        }
        Err(format!("btrfs send: {}: {}", sent.status, String::from_utf8_lossy(&sent.stderr).trim()).into())
    }
}

impl Way for Btrfs {
    fn tree(&self) -> PathBuf {
        self.peer.root().join("tree")
    }

    fn planted(&mut self) -> Result<()> {
        stamp(&self.stamp("step"))?;
        self.snapshot("planted").map(drop)
    }

    fn after(&mut self, step: usize) -> Result<Kept> {
        let (before, time) = timed(|| self.snapshot(&format!("step{step}")))?;
        let ((), sent) = timed(|| self.sent(&before))?;
        let (found, took) = timed(|| newer(&self.tree(), &self.stamp("step")))?;
        let paths: BTreeSet<String> = found.iter().map(|path| path.to_string_lossy().into_owned()).collect();
        stamp(&self.stamp("step"))?;
        let found = Diff { time: took, paths: Some(paths) };
        Ok(Kept { time, diffs: vec![found, Diff { time: sent, paths: None }] })
    }

    fn diffs(&self) -> &'static [&'static str] {
        &["find -newer", "btrfs send --no-data | btrfs receive --dump"]
    }

    fn branch(&mut self, name: &str) -> Result<PathBuf> {
        raw::btrfs_branch(&self.live, &self.snapshots, name)?;
        stamp(&self.stamp(name))?;
        Ok(self.snapshots.join(name).join("tree"))
    }

    fn merge(&mut self, name: &str) -> Result<()> {
        let branch = self.snapshots.join(name).join("tree");
        copy_newer(&branch, &self.tree(), &self.stamp(name), "--reflink=always")?;
        self.drop_branch(name)
    }

    fn drop_branch(&mut self, name: &str) -> Result<()> {
        raw::btrfs_delete(&self.snapshots, name)
    }
}
