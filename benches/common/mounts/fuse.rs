//! FUSE file systems whose daemon stays in the foreground and ends when it is unmounted.

use super::{FileSystem, is_mounted, unmount};
use crate::common::Result;
use crate::common::medium::{Medium, text};
use crate::common::process::{self, Daemon};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Fuse {
    name: String,
    /// Program and arguments, without the mount point.
    serve: Vec<String>,
    dir: PathBuf,
    log: PathBuf,
    daemon: Option<Daemon>,
}

impl Fuse {
    pub fn new(name: &str, medium: &Medium) -> Result<Fuse> {
        let installed = |program: &str| {
            process::run("sh", &["-c", &format!("command -v {program}")])
                .map_err(|_| format!("{program} is not installed"))
        };
        let mut serve: Vec<String> = Vec::new();
        match name {
            "ntfs-3g" | "ntfs-3g-open" => {
                installed("ntfs-3g")?;
                installed("mkntfs")?;
                let image = medium.image(name)?;
                process::run("mkntfs", &["-q", "-F", "-Q", text(&image)?])?;
                // Without `permissions` it keeps no owners and modes, and everybody may do everything.
                let permissions = if name == "ntfs-3g" { ",permissions" } else { "" };
                let options = format!("no_detach,noatime,allow_other{permissions}");
                serve.extend(["ntfs-3g", "-o", &options, text(&image)?].map(String::from));
            }
            "fuse2fs" => {
                installed("fuse2fs")?;
                let image = medium.image(name)?;
                process::run("mkfs.ext4", &["-q", "-F", "-i", "4096", text(&image)?])?;
                serve.extend(["fuse2fs", "-f", "-o", "allow_other", text(&image)?].map(String::from));
            }
            "bindfs" => {
                installed("bindfs")?;
                let below = medium.place("bindfs-below")?;
                serve.extend(["bindfs", "-f", text(&below)?].map(String::from));
            }
            _ => {
                installed("mkfs.s3ql")?;
                let (store, cache) = (medium.place("s3ql-store")?, medium.place("s3ql-cache")?);
                let (url, cache) = (format!("local://{}", text(&store)?), text(&cache)?.to_string());
                process::run("mkfs.s3ql", &["--plain", "--cachedir", &cache, &url])?;
                let args = ["mount.s3ql", "--fg", "--allow-other", "--compress", "none", "--cachedir"];
                serve.extend(args.map(String::from));
                serve.extend([cache, url]);
            }
        }
        let (dir, log) = (medium.place(name)?, medium.dir().join(format!("{name}.log")));
        Ok(Fuse { name: name.into(), serve, dir, log, daemon: None })
    }

    fn end(&mut self) -> Result<()> {
        if self.name == "s3ql" {
            process::run_patiently("umount.s3ql", &[text(&self.dir)?])?;
        } else {
            unmount(&self.dir)?;
        }
        self.daemon.take().map_or(Ok(()), Daemon::ended)
    }
}

impl FileSystem for Fuse {
    fn mount(&mut self) -> Result<()> {
        let mut command = Command::new(&self.serve[0]);
        command.args(&self.serve[1..]).arg(&self.dir);
        let daemon = self.daemon.insert(Daemon::start(&mut command, &self.log)?);
        let told = |why| {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            format!("{why}: {}", log.lines().last().unwrap_or_default())
        };
        daemon.wait_until(|| is_mounted(&self.dir)).map_err(told)?;
        Ok(())
    }

    fn unmount(&mut self) -> Result<()> {
        self.end()
    }

    fn root(&self) -> &Path {
        &self.dir
    }

    fn pid(&self) -> Option<u32> {
        self.daemon.as_ref().map(Daemon::pid)
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        if is_mounted(&self.dir)
            && let Err(why) = self.end()
        {
            eprintln!("{}: {why}", self.name);
        }
    }
}
