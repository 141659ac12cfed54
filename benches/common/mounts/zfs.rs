//! ZFS in user space: its daemon, and a pool on an image file. A remount is an export and an import, which empty its
//! cache; the daemon stays.

use super::{FileSystem, Snapshots};
use crate::common::Result;
use crate::common::medium::{Medium, text};
use crate::common::process::{self, Daemon};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

pub struct Zfs {
    pool: String,
    dir: PathBuf,
    /// Where the pool's image is found again.
    images: PathBuf,
    is_imported: bool,
    daemon: Daemon,
}

impl Zfs {
    pub fn new(medium: &Medium) -> Result<Zfs> {
        process::run("sh", &["-c", "command -v zfs-fuse zpool zfs"])
            .map_err(|_| "zfs-fuse is not installed")?;
        if process::run("zpool", &["list"]).is_ok() {
            return Err("another zfs-fuse runs already".into());
        }
        let dir = medium.place("zfs-fuse")?;
        let images = medium.place("zfs-images")?;
        let image = images.join("pool.img");
        std::fs::rename(medium.image("zfs-fuse")?, &image)?;
        let mut command = Command::new("zfs-fuse");
        command.args(["-n", "--no-kstat-mount", "-p"]).arg(medium.dir().join("zfs-fuse.pid"));
        let daemon = Daemon::start(&mut command, &medium.dir().join("zfs-fuse.log"))?;
        let pool = format!("snapfspeers{}", std::process::id());
        let mut zfs = Zfs { pool, dir, images, is_imported: false, daemon };
        let until = Instant::now() + Duration::from_secs(10);
        while let Err(why) = zfs.command("zpool", &["create", "-f", "-O", "atime=off"], Some(&image)) {
            if Instant::now() > until {
                return Err(why);
            }
            std::thread::sleep(Duration::from_millis(300));
        }
        zfs.is_imported = true;
        Ok(zfs)
    }

    fn command(&self, program: &str, args: &[&str], image: Option<&Path>) -> Result<()> {
        let mut args = args.to_vec();
        if let Some(image) = image {
            args.extend(["-m", text(&self.dir)?, &self.pool, text(image)?]);
        } else {
            args.push(&self.pool);
        }
        process::run(program, &args).map(drop)
    }
}

impl FileSystem for Zfs {
    fn mount(&mut self) -> Result<()> {
        if !self.is_imported {
            let images = text(&self.images)?.to_string();
            self.command("zpool", &["import", "-d", &images], None)?;
            self.is_imported = true;
        }
        Ok(())
    }

    fn unmount(&mut self) -> Result<()> {
        process::run_patiently("zpool", &["export", &self.pool])?;
        self.is_imported = false;
        Ok(())
    }

    fn root(&self) -> &Path {
        &self.dir
    }

    fn pid(&self) -> Option<u32> {
        Some(self.daemon.pid())
    }

    fn snapshots(&self) -> Option<Snapshots> {
        Some(Snapshots::Zfs(self.pool.clone()))
    }
}

impl Drop for Zfs {
    fn drop(&mut self) {
        if self.is_imported
            && let Err(why) = process::run_patiently("zpool", &["destroy", "-f", &self.pool])
        {
            eprintln!("zfs-fuse: {why}");
        }
    }
}
