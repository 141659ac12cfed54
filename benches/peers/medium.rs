//! Where images and stores are: a private directory on the host's disk, or in a tmpfs that is mounted for the run.

use crate::Result;
use crate::counters::Disk;
use crate::options::{MediumKind, Options, Scale};
use crate::process;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The private directory. Dropped, it is removed, and the tmpfs unmounted.
pub struct Medium {
    dir: PathBuf,
    kind: MediumKind,
    is_mounted: bool,
}

impl Medium {
    /// Makes it.
    pub fn new(options: &Options, scale: &Scale) -> Result<Medium> {
        let from_env = std::env::var_os("SNAPFS_BENCH_DIR").map(PathBuf::from);
        let base = options.dir.clone().or(from_env).unwrap_or_else(std::env::temp_dir);
        let dir = base.join(format!("snapfs-peers-{}", std::process::id()));
        fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let mut medium = Medium { dir, kind: options.medium, is_mounted: false };
        if options.medium == MediumKind::Ram {
            // Each image, and as much again as one of them for trees and archives.
            let mib = scale.image * (options.peers.len() as u64 + 1);
            let free = memory_mib("MemAvailable:");
            if mib > free / 10 * 9 {
                let what =
                    format!("images of {} MiB each need {mib} MiB of memory, {free} are free", scale.image);
                return Err(format!("{what}: choose fewer --peers or a smaller --image").into());
            }
            let size = format!("size={mib}m,mode=700");
            process::run("mount", &["-t", "tmpfs", "-o", &size, "snapfs-peers", text(&medium.dir)?])?;
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
    pub fn image(&self, name: &str, scale: &Scale) -> Result<PathBuf> {
        let path = self.dir.join(format!("{name}.img"));
        let mut file = File::create(&path)?;
        let zeros = vec![0; 1 << 20];
        for _ in 0..scale.image {
            file.write_all(&zeros)?;
        }
        file.sync_all()?;
        Ok(path)
    }

    /// One line about the surroundings of the run.
    pub fn describe(&self, scale: &Scale) -> String {
        let medium = match self.kind {
            MediumKind::Disk => "disk",
            MediumKind::Ram => "RAM disk",
        };
        let cpus = std::thread::available_parallelism().map_or(0, usize::from);
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let kernel = kernel.split('-').next().unwrap_or_default().trim();
        let memory = memory_mib("MemTotal:") / 1024;
        let (version, scale) = (env!("CARGO_PKG_VERSION"), scale.name);
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
