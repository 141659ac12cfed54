//! Who keeps a mount in use that nobody sees any more, for messages: as far as `/proc` tells this user, in limited time.

use crate::ctl::within;
use crate::fuse::mounts;
use crate::names;
use crate::sys::mount::major_minor;
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the search may take: a file system of another process may hang.
const PATIENCE: Duration = Duration::from_secs(2);

/// A process with an open file, its working directory or a mapping in the mount with this device number, in words.
pub(super) fn of_device(device: (u32, u32)) -> Option<String> {
    within(PATIENCE, move || {
        let devices: HashMap<u32, (u32, u32)> =
            mounts::all().ok()?.into_iter().map(|m| (m.id, m.device)).collect();
        let own = std::process::id();
        let processes = fs::read_dir("/proc").ok()?.flatten();
        let mut pids = processes.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
        let pid = pids.find(|pid| *pid != own && uses(*pid, device, &devices))?;
        let name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
        Some(format!("process {pid} ({})", names::shown_bytes(name.trim_ascii())))
    })?
}

fn uses(pid: u32, device: (u32, u32), devices: &HashMap<u32, (u32, u32)>) -> bool {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let is_in = |link: &Path| fs::metadata(link).is_ok_and(|file| major_minor(file.dev()) == device);
    let mapped = format!("{:02x}:{:02x}", device.0, device.1);
    let maps = fs::read_to_string(proc.join("maps")).unwrap_or_default();
    if maps.lines().any(|line| line.split_whitespace().nth(3) == Some(&mapped)) {
        return true;
    }
    let open = fs::read_dir(proc.join("fd")).into_iter().flatten().flatten();
    let mut links = open.map(|fd| (fd.path(), Some(proc.join("fdinfo").join(fd.file_name()))));
    let own = ["cwd", "root"].map(|name| (proc.join(name), None));
    // Where a descriptor of a mount in sight leads is known, and its file system is not asked.
    let known = |info: &Path| {
        let text = fs::read_to_string(info).ok()?;
        let id = text.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()?;
        devices.get(&id).copied()
    };
    links.by_ref().chain(own).any(|(link, info)| match info.and_then(|info| known(&info)) {
        Some(found) => found == device,
        None => fs::read_link(&link).is_ok_and(|to| to.is_absolute()) && is_in(&link),
    })
}
