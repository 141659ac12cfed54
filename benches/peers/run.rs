//! One group of workloads on one peer: what the workloads call, and what is measured around them.

use crate::Result;
use crate::assets::Assets;
use crate::common::counters;
use crate::common::medium::Medium;
use crate::common::memory;
use crate::common::mounts::{Peer, Snapshots};
use crate::common::process::{self, Daemon};
use crate::common::raw;
use crate::figures::Measure;
use crate::options::{Options, Scale};
use crate::workloads::Group;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// A large file is in memory so often while it is written: in the kernel's pages, in a store on a RAM disk, and on the way
/// from one to the other.
const WARM_FILES: u64 = 3;

/// A group in progress.
pub struct Run<'a> {
    peer: &'a mut Peer,
    group: &'static Group,
    pub scale: &'a Scale,
    pub assets: &'a Assets,
    pub medium: &'a Medium,
    options: &'a Options,
    found: Vec<Measure>,
    /// Snapshots that are there.
    names: Vec<String>,
}

/// How long something took, and what it cost the daemon.
#[derive(Clone, Copy)]
struct Cost {
    time: Duration,
    cpu: Option<f64>,
    peak: Option<f64>,
}

impl<'a> Run<'a> {
    /// Runs a group from an empty, settled file system to one that is empty and settled again.
    pub fn group(
        peer: &'a mut Peer,
        group: &'static Group,
        scale: &'a Scale,
        assets: &'a Assets,
        medium: &'a Medium,
        options: &'a Options,
    ) -> (Result<()>, Vec<Measure>) {
        let (found, names) = (Vec::new(), Vec::new());
        let mut run = Run { peer, group, scale, assets, medium, options, found, names };
        eprintln!("{}: {}", group.name, run.peer.name());
        let done = (group.run)(&mut run);
        // After an interrupt all of it is thrown away at once.
        let cleared = if raw::interrupted() { Ok(()) } else { run.clear() };
        (done.and(cleared), run.found)
    }

    /// Where files may be made.
    pub fn root(&self) -> PathBuf {
        self.peer.root().to_path_buf()
    }

    /// Makes the caches cold.
    pub fn cold(&mut self) -> Result<()> {
        self.peer.remount()?;
        self.peer.settle()
    }

    /// Nothing of what came before is still being worked on.
    pub fn settle(&self) -> Result<()> {
        self.peer.settle()
    }

    /// Bytes that reached the device so far; everything before must be on it. None if nobody counts them.
    pub fn device_bytes(&mut self) -> Result<Option<u64>> {
        self.peer.remount()?;
        let disk = self.medium.disk().or_else(|| self.peer.disk());
        Ok(disk.and_then(|d| d.calls()).map(|c| c.written_bytes))
    }

    /// Bytes of the store that are in use, if the peer says so.
    pub fn used_bytes(&self) -> Option<u64> {
        self.peer.used_bytes().ok()
    }

    fn cost<T>(&mut self, id: &str, work: impl FnOnce(&Path) -> Result<T>) -> Result<(T, Cost)> {
        if raw::interrupted() {
            return Err("interrupted".into());
        }
        memory::warm(WARM_FILES * self.scale.file)?;
        let (pid, root) = (self.peer.pid(), self.root());
        pid.iter().for_each(|p| counters::forget_peak(*p));
        let profile = pid.and_then(|p| self.profile(p, id));
        let cpu = || pid.and_then(counters::cpu_seconds);
        let (before, start) = (cpu(), Instant::now());
        let done = work(&root);
        let time = start.elapsed();
        let cpu = cpu().zip(before).map(|(now, before)| now - before);
        if let Some(profile) = profile {
            process::run("kill", &["-INT", &profile.pid().to_string()])?;
            profile.ended()?;
        }
        Ok((done?, Cost { time, cpu, peak: pid.and_then(counters::peak_mib) }))
    }

    fn profile(&self, pid: u32, id: &str) -> Option<Daemon> {
        let dir = self.options.profile.as_ref()?;
        let path = |kind| dir.join(format!("{}.{id}.{kind}", self.peer.name()));
        let mut command = Command::new("perf");
        command.args(["record", "-q", "-g", "-p", &pid.to_string(), "-o"]).arg(path("data"));
        let daemon = fs::create_dir_all(dir)
            .map_err(Into::into)
            .and_then(|()| Daemon::start(&mut command, &path("log")));
        daemon.inspect_err(|why| eprintln!("no profile: {why}")).ok()
    }

    fn keep(&mut self, id: &'static str, value: f64, cost: Option<Cost>) {
        assert!(self.group.phases.iter().any(|p| p.id == id), "{id} is a workload of {}", self.group.name);
        let (cpu, peak) = cost.map_or((None, None), |c| (c.cpu, c.peak));
        self.found.push(Measure { id, value, cpu, peak });
    }

    /// Measures what is done in a second; `work` says how much it did.
    pub fn rate(&mut self, id: &'static str, work: impl FnOnce(&Path) -> Result<u64>) -> Result<()> {
        let (amount, cost) = self.cost(id, work)?;
        self.keep(id, amount as f64 / cost.time.as_secs_f64(), Some(cost));
        Ok(())
    }

    /// Measures how many seconds the whole takes.
    pub fn seconds(&mut self, id: &'static str, work: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let ((), cost) = self.cost(id, work)?;
        self.keep(id, cost.time.as_secs_f64(), Some(cost));
        Ok(())
    }

    /// Measures something many times: the median of what `work` returns, in milliseconds.
    pub fn latency(
        &mut self,
        id: &'static str,
        work: impl FnOnce(&Path) -> Result<Vec<Duration>>,
    ) -> Result<()> {
        let (mut times, cost) = self.cost(id, work)?;
        times.sort();
        let middle = times.get(times.len() / 2).ok_or("nothing was measured")?;
        self.keep(id, middle.as_secs_f64() * 1e3, Some(cost));
        Ok(())
    }

    /// A figure that the workload worked out itself.
    pub fn figure(&mut self, id: &'static str, value: f64) {
        self.keep(id, value, None);
    }

    /// How this peer makes snapshots.
    pub fn snapshots(&self) -> Option<Snapshots> {
        self.peer.snapshots()
    }

    /// Tells of a snapshot that was made, so that it is deleted in the end.
    pub fn made(&mut self, name: String) {
        self.names.push(name);
    }

    pub fn deleted(&mut self, name: &str) {
        self.names.retain(|n| n != name);
    }

    fn clear(&mut self) -> Result<()> {
        if let Some(snapshots) = self.peer.snapshots() {
            for name in std::mem::take(&mut self.names) {
                snapshots.delete(&name)?;
            }
            snapshots.wait_until_gone()?;
        }
        for entry in fs::read_dir(self.peer.root())? {
            let path = entry?.path();
            if path.is_dir() {
                // What a file system makes for itself may stay.
                drop(fs::remove_dir_all(&path));
            } else {
                fs::remove_file(&path)?;
            }
        }
        self.peer.settle()?;
        self.peer.remount()?;
        self.peer.settle()
    }
}
