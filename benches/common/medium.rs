//! Where images and stores are: a private directory on the host's disk, or in a tmpfs that is mounted for the run.

use crate::common::Result;
use crate::common::counters::Disk;
use crate::common::process;
use clap::ValueEnum;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Where the images and stores are.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MediumKind {
    /// A directory of the host: `--dir`, `SNAPFS_BENCH_DIR` or the temporary directory.
    Disk,
    /// A tmpfs of bounded size that the bench mounts and unmounts.
    Ram,
}

/// The private directory. Dropped, it is removed, and the tmpfs unmounted.
pub struct Medium {
    dir: PathBuf,
    kind: MediumKind,
    is_mounted: bool,
    /// MiB of each image.
    image: u64,
}

impl Medium {
    /// Makes it for images of `image` MiB each, in `dir` or the directory that the environment names; a tmpfs holds
    /// `total` MiB at most.
    pub fn new(name: &str, kind: MediumKind, dir: Option<&Path>, image: u64, total: u64) -> Result<Medium> {
        let from_env = || std::env::var_os("SNAPFS_BENCH_DIR").map(PathBuf::from);
        let base = dir.map(PathBuf::from).or_else(from_env).unwrap_or_else(std::env::temp_dir);
        let dir = base.join(format!("snapfs-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let mut medium = Medium { dir, kind, is_mounted: false, image };
        if kind == MediumKind::Ram {
            let free = memory_mib("MemAvailable:");
            if total > free / 10 * 9 {
                let what = format!("images of {image} MiB each need {total} MiB of memory, {free} are free");
                return Err(format!("{what}: choose fewer --peers or a smaller --image").into());
            }
            let size = format!("size={total}m,mode=700");
            let source = format!("snapfs-{name}");
            process::run("mount", &["-t", "tmpfs", "-o", &size, &source, text(&medium.dir)?])?;
            medium.is_mounted = true;
        }
        Ok(medium)
    }

    /// Its place.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The block device that holds it. None for a RAM disk.
    pub fn disk(&self) -> Option<Disk> {
        if self.is_mounted { None } else { Disk::below(&self.dir) }
    }

    /// A place of its own for a peer.
    pub fn place(&self, name: &str) -> Result<PathBuf> {
        let dir = self.dir.join(name);
        fs::create_dir(&dir)?;
        Ok(dir)
    }

    /// An image whose bytes were all written: no peer pays for space that the host allocates late.
    pub fn image(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir.join(format!("{name}.img"));
        let mut file = File::create(&path)?;
        let zeros = vec![0; 1 << 20];
        for _ in 0..self.image {
            file.write_all(&zeros)?;
        }
        file.sync_all()?;
        Ok(path)
    }

    /// One line about the surroundings of the run.
    pub fn describe(&self, scale: &str) -> String {
        let medium = match self.kind {
            MediumKind::Disk => "disk",
            MediumKind::Ram => "RAM disk",
        };
        let cpus = std::thread::available_parallelism().map_or(0, usize::from);
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let kernel = kernel.split('-').next().unwrap_or_default().trim();
        let memory = memory_mib("MemTotal:") / 1024;
        let version = env!("CARGO_PKG_VERSION");
        format!(
            "snapfs {version}, {medium}, {scale} size, kernel {kernel}, {cpus} CPUs, {memory} GiB of memory"
        )
    }
}

impl Drop for Medium {
    fn drop(&mut self) {
        if self.is_mounted
            && let Err(why) = text(&self.dir).and_then(|dir| process::run_patiently("umount", &[dir]))
        {
            eprintln!("{}: {why}", self.dir.display());
        }
        drop(fs::remove_dir_all(&self.dir));
    }
}

/// A path as an argument.
pub fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| format!("{} is no text", path.display()).into())
}

fn memory_mib(field: &str) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix(field)).unwrap_or_default();
    line.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) / 1024
}
