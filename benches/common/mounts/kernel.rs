//! File systems of the kernel, on loop devices over images.

use super::{FileSystem, Snapshots, is_mounted, unmount};
use crate::common::Result;
use crate::common::counters::Disk;
use crate::common::medium::{Medium, text};
use crate::common::process;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A loop device. Dropped, it is detached.
pub struct Loop(String);

impl Loop {
    /// Attaches an image, without a second cache of its content in the host where the host can do that.
    pub fn new(image: &Path) -> Result<Loop> {
        let attach = |direct: &str| process::run("losetup", &["--find", "--show", direct, text(image)?]);
        attach("--direct-io=on").or_else(|_| attach("--direct-io=off")).map(Loop)
    }

    pub fn path(&self) -> &str {
        &self.0
    }

    pub fn disk(&self) -> Disk {
        Disk::named(self.0.trim_start_matches("/dev/"))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        if let Err(why) = process::run_patiently("losetup", &["-d", &self.0]) {
            eprintln!("{}: {why}", self.0);
        }
    }
}

/// btrfs, ext4 or xfs.
pub struct Kernel {
    kind: String,
    options: &'static str,
    device: Loop,
    dir: PathBuf,
    root: PathBuf,
}

impl Kernel {
    pub fn new(name: &str, medium: &Medium) -> Result<Kernel> {
        let (kind, options) = match name {
            "btrfs-zstd" => ("btrfs", "noatime,compress=zstd:3"),
            _ => (name, "noatime"),
        };
        // What ext4 would initialise later, in the background of other measurements, it initialises now; room for
        // millions of files.
        let make: &[&str] = match kind {
            "btrfs" => &["mkfs.btrfs", "-q"],
            "ext4" => {
                &["mkfs.ext4", "-q", "-F", "-i", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0"]
            }
            _ => &["mkfs.xfs", "-q", "-f"],
        };
        // Asked before an image is written for nothing.
        process::run(make[0], &["-V"])?;
        let (dir, device) = (medium.place(name)?, Loop::new(&medium.image(name)?)?);
        process::run(make[0], &[&make[1..], &[device.path()]].concat())?;
        let root = if kind == "btrfs" { dir.join("live") } else { dir.clone() };
        Ok(Kernel { kind: kind.into(), options, device, dir, root })
    }
}

impl FileSystem for Kernel {
    fn mount(&mut self) -> Result<()> {
        let dir = text(&self.dir)?;
        process::run("mount", &["-t", &self.kind, "-o", self.options, self.device.path(), dir])?;
        if self.kind == "btrfs" && !self.root.exists() {
            process::run("btrfs", &["subvolume", "create", text(&self.root)?])?;
            fs::create_dir(self.dir.join("snapshots"))?;
        }
        Ok(())
    }

    fn unmount(&mut self) -> Result<()> {
        unmount(&self.dir)
    }

    fn root(&self) -> &Path {
        &self.root
    }

    fn snapshots(&self) -> Option<Snapshots> {
        let of_btrfs = || Snapshots::Btrfs { live: self.root.clone(), dir: self.dir.join("snapshots") };
        (self.kind == "btrfs").then(of_btrfs)
    }

    fn disk(&self) -> Option<Disk> {
        Some(self.device.disk())
    }

    fn checker(&self) -> Option<Command> {
        let mut command = Command::new("btrfs");
        command.args(["check", "--readonly", self.device.path()]);
        (self.kind == "btrfs").then_some(command)
    }

    fn scrubber(&self) -> Option<[Command; 2]> {
        let command = |args: &[&str]| {
            let mut command = Command::new("btrfs");
            command.arg("scrub").args(args).arg(&self.dir);
            command
        };
        (self.kind == "btrfs").then(|| [command(&["start", "-B"]), command(&["cancel"])])
    }

    fn used_bytes(&self) -> Result<u64> {
        let text = process::run("btrfs", &["filesystem", "usage", "-b", text(&self.dir)?])?;
        let line = text.lines().find_map(|l| l.trim().strip_prefix("Used:"));
        let number = line.and_then(|l| l.trim().parse().ok());
        number.ok_or_else(|| "btrfs does not say what is used".into())
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        if is_mounted(&self.dir)
            && let Err(why) = unmount(&self.dir)
        {
            eprintln!("{}: {why}", self.kind);
        }
    }
}
