//! Who keeps a mount, or files of it, in use, for messages: as far as `/proc` tells this user, in limited time.

use crate::ctl::within;
use crate::fuse::mounts;
use crate::names;
use crate::sys::mount::{fcntl, major_minor};
use std::collections::{BTreeSet, HashMap};
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
        Some(in_words(pid))
    })?
}

/// Which processes have these files of the mount with this device number open for writing, or mapped so: each file with a
/// process, in words.
pub(super) fn writers_of(device: (u32, u32), nodes: Vec<u64>) -> Vec<(u64, String)> {
    users_of(device, nodes, Use::Writes)
}

/// Which processes have these files open at all, or mapped, in the same way.
pub(super) fn openers_of(device: (u32, u32), nodes: Vec<u64>) -> Vec<(u64, String)> {
    users_of(device, nodes, Use::Any)
}

/// In which way a file is in use.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Any,
    Writes,
}

fn users_of(device: (u32, u32), nodes: Vec<u64>, of: Use) -> Vec<(u64, String)> {
    let search = move || {
        let devices: HashMap<u32, (u32, u32)> =
            mounts::all().ok()?.into_iter().map(|m| (m.id, m.device)).collect();
        let processes = fs::read_dir("/proc").ok()?.flatten();
        let pids = processes.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
        let found = pids.flat_map(|pid| {
            let used = used_by(pid, device, &devices, of).into_iter().filter(|node| nodes.contains(node));
            used.map(|node| (node, in_words(pid))).collect::<BTreeSet<_>>()
        });
        Some(found.collect())
    };
    within(PATIENCE, search).flatten().unwrap_or_default()
}

fn in_words(pid: u32) -> String {
    let name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("process {pid} ({})", names::shown_bytes(name.trim_ascii()))
}

/// Numbers of files of a device that a process has open or mapped; for writing, those that it has open so, or a shared mapping of that
/// can be written.
fn used_by(pid: u32, device: (u32, u32), devices: &HashMap<u32, (u32, u32)>, of: Use) -> Vec<u64> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let place = format!("{:02x}:{:02x}", device.0, device.1);
    let maps = fs::read_to_string(proc.join("maps")).unwrap_or_default();
    let mapped = maps.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, access, _, at, node, ..] = fields[..] else { return None };
        let is_meant = of == Use::Any || access.contains('w') && access.contains('s');
        node.parse().ok().filter(|_| is_meant && at == place)
    });
    let open = fs::read_dir(proc.join("fd")).into_iter().flatten().flatten().filter_map(|fd| {
        let info = fs::read_to_string(proc.join("fdinfo").join(fd.file_name())).ok()?;
        let field = |name: &str| Some(info.lines().find_map(|line| line.strip_prefix(name))?.trim());
        let is_ours = devices.get(&field("mnt_id:")?.parse().ok()?) == Some(&device);
        let writes = i32::from_str_radix(field("flags:")?, 8).ok()? & fcntl::O_ACCMODE != fcntl::O_RDONLY;
        let node = field("ino:")?.parse().ok()?;
        (is_ours && (writes || of == Use::Any)).then_some(node)
    });
    mapped.chain(open).collect()
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
