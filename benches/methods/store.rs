//! A store with its mount, and the program's commands on it. Dropped, it is unmounted and removed.

use crate::common::medium::text;
use crate::common::process::{self, Daemon};
use crate::common::{Result, raw};
use serde_json::Value;
use snapfs::fuse::mounts;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The program that is measured.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_snapfs");
/// Commits come every second, so that it is soon at rest.
const OPTIONS: &str = "commit=1";
/// No command takes longer, and nothing needs longer to come to rest.
const LIMIT: Duration = Duration::from_secs(600);
/// Nothing was written for so long: it is at rest. Longer than from one commit to the next.
const QUIET: Duration = Duration::from_millis(1_200);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A store in a directory.
pub struct Store {
    store: PathBuf,
    dir: PathBuf,
    log: PathBuf,
    daemon: Option<Daemon>,
}

/// Runs the program.
pub fn command(args: &[&str]) -> Result<String> {
    process::run_command(Command::new(PROGRAM).args(args), LIMIT)
}

impl Store {
    /// A new one, mounted.
    pub fn new(place: &Path, name: &str) -> Result<Store> {
        let store = place.join(format!("{name}.store"));
        command(&["init", text(&store)?])?;
        Store::open(&store, place, name)
    }

    /// Mounts one that is there.
    pub fn open(store: &Path, place: &Path, name: &str) -> Result<Store> {
        let dir = place.join(name);
        fs::create_dir(&dir)?;
        let log = place.join(format!("{name}.log"));
        let mut opened = Store { store: store.into(), dir, log, daemon: None };
        opened.mount()?;
        Ok(opened)
    }

    /// Where its files are.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Where a file of a snapshot is.
    pub fn past(&self, snapshot: &str, name: &str) -> PathBuf {
        self.dir.join(".snapshots").join(snapshot).join(name)
    }

    /// The mount point as an argument.
    pub fn mnt(&self) -> Result<&str> {
        text(&self.dir)
    }

    fn mount(&mut self) -> Result<()> {
        let mut command = Command::new(PROGRAM);
        command.args(["mount", "-f", "-o", OPTIONS]).args([&self.store, &self.dir]);
        let daemon = self.daemon.insert(Daemon::start(&mut command, &self.log)?);
        daemon.wait_until(|| mounts::at(&self.dir).is_ok_and(|mount| mount.is_some()))
    }

    /// Unmounts it; it is closed on return.
    pub fn unmount(&mut self) -> Result<()> {
        process::run_patiently(PROGRAM, &["umount", text(&self.dir)?])?;
        self.daemon.take().map_or(Ok(()), Daemon::ended)
    }

    /// Closes and opens it with nothing in the caches of the host.
    pub fn cool(&mut self) -> Result<()> {
        self.unmount()?;
        raw::sync_host();
        fs::write("/proc/sys/vm/drop_caches", "3")?;
        self.mount()
    }

    /// Unmounts it, if it is mounted, and proves it.
    pub fn prove(mut self) -> Result<()> {
        if self.daemon.is_some() {
            self.unmount()?;
        }
        command(&["check", text(&self.store)?]).map(drop)
    }

    /// Runs a verb whose first argument is the mount point, and reads its JSON: the last object that it prints.
    pub fn ask(&self, verb: &[&str], args: &[&str]) -> Result<Value> {
        let all = [verb, &[self.mnt()?], args, &["--json"]].concat();
        let out = command(&all)?;
        let last = serde_json::Deserializer::from_str(&out).into_iter::<Value>().last();
        Ok(last.ok_or_else(|| format!("{all:?} prints nothing"))??)
    }

    /// A number of the status.
    pub fn number(&self, key: &str) -> Result<u64> {
        self.ask(&["status"], &[])?[key].as_u64().ok_or_else(|| format!("the status lacks {key}").into())
    }

    /// Bytes that the daemon has written to its device so far; of two sides, to each.
    pub fn written(&self) -> Result<u64> {
        self.number("device_written_bytes")
    }

    /// How a file lies.
    pub fn lies(&self, name: &str) -> Result<Value> {
        let out = command(&["show", "--json", text(&self.path(name))?])?;
        Ok(serde_json::from_str(&out)?)
    }

    /// Waits until nothing is written any more, and all content of `file` is home that can be.
    pub fn rest(&self, file: &str) -> Result<()> {
        let (until, mut last, mut since) = (Instant::now() + LIMIT, 0, Instant::now());
        loop {
            let status = self.ask(&["status"], &[])?;
            let written = status["device_written_bytes"].as_u64().unwrap_or(0);
            let moves = self.lies(file)?["state"] == "moving";
            if moves || written != last || status["dirty_bytes"] != 0 || status["freeing"] != false {
                (last, since) = (written, Instant::now());
            } else if since.elapsed() >= QUIET {
                return Ok(());
            }
            if raw::interrupted() {
                return Err("interrupted".into());
            }
            if Instant::now() > until {
                return Err(format!("{}: it does not come to rest: {status}", self.dir.display()).into());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if self.daemon.is_some()
            && mounts::at(&self.dir).is_ok_and(|mount| mount.is_some())
            && let Err(why) = self.unmount()
        {
            eprintln!("{}: {why}", self.dir.display());
        }
        if mounts::at(&self.dir).is_ok_and(|mount| mount.is_none()) {
            drop(fs::remove_dir(&self.dir));
            drop(fs::remove_dir_all(&self.store));
        }
    }
}
