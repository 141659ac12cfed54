//! snapfs itself: its store is a directory, an image file or a loop device. Another program of it, by its path, is a peer
//! like any other, with its store in a directory.

use super::kernel::Loop;
use super::{FileSystem, Snapshots, is_mounted, unmount};
use crate::common::Result;
use crate::common::counters::Disk;
use crate::common::medium::{Medium, text};
use crate::common::process::{self, Daemon};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program that is measured.
const PROGRAM: &str = env!("CARGO_BIN_EXE_snapfs");

pub struct Snapfs {
    program: String,
    store: PathBuf,
    dir: PathBuf,
    log: PathBuf,
    options: &'static str,
    daemon: Option<Daemon>,
    /// Detached after the daemon has ended: fields are dropped in this order.
    device: Option<Loop>,
}

impl Snapfs {
    /// The peer `name`, of the program that is measured or of another.
    pub fn new(name: &str, program: Option<&str>, medium: &Medium) -> Result<Snapfs> {
        let program = program.unwrap_or(PROGRAM).to_string();
        let dir = medium.place(name)?;
        let mut device = None;
        let store = match name {
            "snapfs-image" => medium.image(name)?,
            "snapfs-loop" => {
                let attached = Loop::new(&medium.image(name)?)?;
                let path = PathBuf::from(attached.path());
                device = Some(attached);
                path
            }
            _ => medium.dir().join(format!("{name}.store")),
        };
        let how: &[&str] = match name {
            "snapfs-image" | "snapfs-loop" => &["--force"],
            "snapfs-zstd" => &["--compression", "zstd"],
            _ => &[],
        };
        process::run(&program, &[&["init"], how, &[text(&store)?]].concat())?;
        let options = if name == "snapfs-writeback" { "cache=writeback" } else { "cache=strict" };
        let log = medium.dir().join(format!("{name}.log"));
        Ok(Snapfs { program, store, dir, log, options, daemon: None, device })
    }

    fn status(&self) -> Result<serde_json::Value> {
        let text = process::run(&self.program, &["status", "--json", text(&self.dir)?])?;
        Ok(serde_json::from_str(&text)?)
    }
}

impl FileSystem for Snapfs {
    fn mount(&mut self) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.args(["mount", "-f", "-o", self.options]).args([&self.store, &self.dir]);
        let daemon = self.daemon.insert(Daemon::start(&mut command, &self.log)?);
        daemon.wait_until(|| is_mounted(&self.dir))
    }

    fn unmount(&mut self) -> Result<()> {
        process::run_patiently(&self.program, &["umount", text(&self.dir)?])?;
        self.daemon.take().map_or(Ok(()), Daemon::ended)
    }

    fn root(&self) -> &Path {
        &self.dir
    }

    fn pid(&self) -> Option<u32> {
        self.daemon.as_ref().map(Daemon::pid)
    }

    fn snapshots(&self) -> Option<Snapshots> {
        Some(Snapshots::Directory(self.dir.join(".snapshots")))
    }

    fn disk(&self) -> Option<Disk> {
        self.device.as_ref().map(Loop::disk)
    }

    fn checker(&self) -> Option<Command> {
        let mut command = Command::new(&self.program);
        command.arg("check").arg(&self.store);
        Some(command)
    }

    fn scrubber(&self) -> Option<[Command; 2]> {
        let command = |option: &str| {
            let mut command = Command::new(&self.program);
            command.args(["scrub", option]).arg(&self.dir);
            command
        };
        Some([command("--wait"), command("--stop")])
    }

    fn used_bytes(&self) -> Result<u64> {
        self.status()?["used_bytes"].as_u64().ok_or_else(|| "the status lacks used_bytes".into())
    }

    fn is_freeing(&self) -> Result<bool> {
        self.status()?["freeing"].as_bool().ok_or_else(|| "the status lacks freeing".into())
    }
}

impl Drop for Snapfs {
    fn drop(&mut self) {
        if is_mounted(&self.dir)
            && let Err(why) = unmount(&self.dir)
        {
            eprintln!("snapfs: {why}");
        }
        if let Some(Err(why)) = self.daemon.take().map(Daemon::ended) {
            eprintln!("{why}");
        }
    }
}
