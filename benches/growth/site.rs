//! A peer at work on a subject: what the steps call, and where their figures go.

use crate::common::mounts::{Peer, Snapshots};
use crate::common::{Error, Result, counters, raw};
use crate::figures::Point;
use crate::options::Scale;
use crate::{age, background, files, fragments, size, snapshots, work};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What changes with the steps, on one peer.
pub trait Subject {
    /// Goes on from the step before, and measures. The peer is settled.
    fn step(&mut self, site: &mut Site, step: usize) -> Result<()>;
}

/// A subject by its name.
pub struct Kind {
    pub name: &'static str,
    /// MiB of the image that it needs.
    pub image: fn(&Scale) -> u64,
    pub steps: fn(&Scale) -> usize,
    pub new: fn(&Scale) -> Box<dyn Subject>,
}

/// All of them, in order.
pub const KINDS: [&Kind; 6] =
    [&files::KIND, &snapshots::KIND, &size::KIND, &fragments::KIND, &age::KIND, &background::KIND];

/// The subjects of these names.
pub fn chosen(names: &[String]) -> Result<Vec<&'static Kind>> {
    if names.iter().any(|n| n == "all") {
        return Ok(KINDS.to_vec());
    }
    let known = || KINDS.map(|k| k.name).join(", ");
    let find = |name: &String| {
        let found = KINDS.into_iter().find(|k| k.name == name);
        found.ok_or_else(|| Error::from(format!("no subject {name}; there are {}", known())))
    };
    names.iter().map(find).collect()
}

/// A peer, and what was found on it.
pub struct Site {
    pub peer: Peer,
    pub scale: Scale,
    /// Bytes of the image.
    pub image: u64,
    pub found: Vec<Point>,
}

impl Site {
    pub fn new(peer: Peer, scale: Scale, image: u64) -> Site {
        Site { peer, scale, image, found: Vec::new() }
    }

    /// Where files may be made.
    pub fn root(&self) -> PathBuf {
        self.peer.root().to_path_buf()
    }

    pub fn snapshots(&self) -> Result<Snapshots> {
        self.peer.snapshots().ok_or_else(|| "it makes no snapshots".into())
    }

    /// Keeps a figure.
    pub fn put(&mut self, id: impl Into<String>, at: u64, value: f64) {
        self.found.push(Point { id: id.into(), at, value });
    }

    /// Measures what is done in a second; `work` says how much it did.
    pub fn rate(&mut self, id: &str, at: u64, work: impl FnOnce() -> Result<u64>) -> Result<()> {
        if raw::interrupted() {
            return Err("interrupted".into());
        }
        let start = Instant::now();
        let amount = work()?;
        self.put(id, at, amount as f64 / start.elapsed().as_secs_f64());
        Ok(())
    }

    /// Measures how fast a file is read from end to end, in MB/s.
    pub fn stream(&mut self, id: &str, at: u64, path: &Path) -> Result<()> {
        let start = Instant::now();
        let bytes = work::read_through(path)?;
        self.put(id, at, bytes as f64 / 1e6 / start.elapsed().as_secs_f64());
        Ok(())
    }

    /// Keeps the median of some times, in milliseconds.
    pub fn times(&mut self, id: &str, at: u64, times: &[Duration]) -> Result<()> {
        let mut sorted = times.to_vec();
        sorted.sort();
        let middle = sorted.get(sorted.len() / 2).ok_or("nothing was measured")?;
        self.put(id, at, middle.as_secs_f64() * 1e3);
        Ok(())
    }

    /// Makes the caches cold; how long the mount took.
    pub fn cold(&mut self) -> Result<Duration> {
        if raw::interrupted() {
            return Err("interrupted".into());
        }
        let time = self.peer.remount()?;
        self.peer.settle()?;
        Ok(time)
    }

    /// The memory of the daemon, where there is one.
    pub fn memory(&mut self, id: &str, at: u64) {
        if let Some(mib) = self.peer.pid().and_then(counters::resident_mib) {
            self.put(id, at, mib);
        }
    }

    /// Proves the metadata, and keeps how many seconds that took.
    pub fn check(&mut self, id: &str, at: u64) -> Result<()> {
        if let Some(time) = self.peer.check()? {
            self.put(id, at, time.as_secs_f64());
        }
        Ok(())
    }
}
