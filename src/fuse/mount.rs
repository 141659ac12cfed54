//! Making the mount: checks with clear sentences, then `mount(2)` as root or fusermount3 as a normal user.
//!
//! fuser's own mounting is not used: 0.18.0 unmounts a second time when a session ends (and so may take away somebody
//! else's mount at that place), and passes no subtype with `mount(2)`. Nothing here serves requests.

use super::mounts;
use crate::names;
use crate::sys::{mount as sys_mount, process};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How to mount. `Default` is a read-write mount with the defaults of the manual for this user.
#[derive(Clone, Debug)]
pub struct Options {
    /// What `df` and `mount` show as the source: the store as it was given.
    pub source: OsString,
    /// Subtype: the type shown is `fuse.SUBTYPE`; empty for plain `fuse`.
    pub subtype: String,
    /// Other users may enter (their permissions are checked by the kernel).
    pub allow_other: bool,
    /// No change is possible.
    pub read_only: bool,
    /// Device nodes work. Root only.
    pub dev: bool,
    /// Set-id bits work. Root only.
    pub suid: bool,
    /// Programs can be run.
    pub exec: bool,
    /// Shown only, with the next two: access times are the file system's, not of the kernel's FUSE client.
    pub noatime: bool,
    /// Every read changes the access time.
    pub strictatime: bool,
    /// Listing a directory does not change its access time.
    pub nodiratime: bool,
    /// Every write is synchronous.
    pub sync: bool,
    /// Every change of a directory is synchronous.
    pub dirsync: bool,
    /// The kernel collects writes (`cache=writeback`) instead of passing each on (`cache=strict`).
    pub writeback_cache: bool,
    /// Request threads, 2..=64.
    pub threads: usize,
    /// The program that is started as the flusher: it calls [`super::run_flusher`]. This one by default.
    pub program: PathBuf,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            source: "snapfs".into(),
            subtype: "snapfs".into(),
            allow_other: process::effective_uid() == 0,
            read_only: false,
            dev: false,
            suid: false,
            exec: true,
            noatime: true,
            strictatime: false,
            nodiratime: false,
            sync: false,
            dirsync: false,
            writeback_cache: false,
            threads: 4,
            program: "/proc/self/exe".into(), // also when the file was replaced since
        }
    }
}

impl Options {
    /// Those that are flags of `mount(2)`.
    pub fn flags(&self) -> u64 {
        use sys_mount::flags::*;
        let flags = [
            (!self.dev, MS_NODEV),
            (!self.suid, MS_NOSUID),
            (!self.exec, MS_NOEXEC),
            (self.read_only, MS_RDONLY),
            (self.noatime, MS_NOATIME),
            (self.strictatime, MS_STRICTATIME),
            (self.nodiratime, MS_NODIRATIME),
            (self.sync, MS_SYNCHRONOUS),
            (self.dirsync, MS_DIRSYNC),
        ];
        flags.iter().filter(|(on, _)| *on).fold(0, |all, (_, flag)| all | flag)
    }
}

/// Gives the mount at `point` these flags of `mount(2)` and no others. For root.
pub fn remount(point: &Path, flags: u64) -> io::Result<()> {
    sys_mount::mount(OsStr::new("none"), point, "", flags | sys_mount::flags::MS_REMOUNT, "")
}

/// Shows the mount at `point` at a second place, with flags of its own. For root.
pub fn bind(point: &Path, second: &Path, flags: u64) -> io::Result<()> {
    use sys_mount::flags::{MS_BIND, MS_DIRSYNC, MS_REMOUNT, MS_SYNCHRONOUS};
    sys_mount::mount(point.as_os_str(), second, "", MS_BIND, "")?;
    // These two belong to the file system, and are the same at all its places.
    let flags = flags & !(MS_SYNCHRONOUS | MS_DIRSYNC);
    sys_mount::mount(OsStr::new("none"), second, "", flags | MS_BIND | MS_REMOUNT, "").inspect_err(|_| {
        let _ = unmount(second, true); // what counts is the error that we report
    })
}

/// Checks the place, clears away a dead mount there, mounts, and returns the mount point's real path with the
/// connection. The error is a sentence for the user.
pub(super) fn attach(point: &Path, options: &Options) -> Result<(PathBuf, OwnedFd), String> {
    let point = check_point(point)?;
    if process::effective_uid() == 0 {
        let device = open_device()?;
        match attach_directly(&point, options, &device) {
            Ok(()) => return Ok((point, device.into())),
            // Root without the right to mount (a container): fusermount3 may have it.
            Err(e) if e.raw_os_error() == Some(sys_mount::errno::EPERM) => {}
            Err(e) => return Err(format!("cannot mount at {}: {e}", names::shown(&point))),
        }
    }
    let fd = attach_by_helper(&point, options)?;
    Ok((point, fd))
}

/// Says whether [`super::Mounted::start`] can be tried there, before anything else is done; clears away a dead mount. Returns
/// the mount point's real path; the error is a sentence for the user.
pub fn check_point(point: &Path) -> Result<PathBuf, String> {
    let point = prepare_point(point)?;
    if !Path::new(DEVICE).exists() {
        return Err(format!("{DEVICE} does not exist; load the kernel module with: modprobe fuse"));
    }
    Ok(point)
}

/// Unmounts. As a normal user, or without the right, with the help of fusermount3.
///
/// # Errors
/// A busy mount gives EBUSY; what is not mounted gives EINVAL, as `umount2(2)` does.
pub fn unmount(point: &Path, lazy: bool) -> io::Result<()> {
    match sys_mount::umount(point, lazy) {
        Err(e) if e.raw_os_error() == Some(sys_mount::errno::EPERM) => unmount_by_helper(point, lazy),
        result => result,
    }
}

/// Detaches the mount at `point` that `root` (opened with `O_PATH`) is the root of. For root this is exactly that mount,
/// whatever happens at the place meanwhile.
pub(super) fn detach(root: &File, point: &Path) -> io::Result<()> {
    match sys_mount::detach_exactly(root) {
        Err(e) if e.raw_os_error() == Some(sys_mount::errno::EPERM) => unmount_by_helper(point, true),
        result => result,
    }
}

/// What a mount answers whose daemon is gone, or goes while it is asked.
pub(super) fn is_dead_error(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(sys_mount::errno::ENOTCONN | sys_mount::errno::ECONNABORTED))
}

fn unmount_by_helper(point: &Path, lazy: bool) -> io::Result<()> {
    let Some(helper) = find_helper() else {
        return Err(io::Error::other(HELPER_MISSING));
    };
    let flags = if lazy { "-uz" } else { "-u" };
    let output = Command::new(helper)
        .arg(flags)
        .arg("--")
        .arg(point)
        .stdin(Stdio::null())
        .env("LC_ALL", "C")
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = names::shown_bytes(output.stderr.trim_ascii());
    if said.contains("busy") {
        return Err(io::Error::from_raw_os_error(sys_mount::errno::EBUSY));
    }
    Err(io::Error::other(said))
}

const DEVICE: &str = "/dev/fuse";
const HELPER_MISSING: &str = "fusermount3 is not installed; install the package fuse3";

fn find_helper() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let fixed = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let places: Vec<PathBuf> = std::env::split_paths(&path).chain(fixed).collect();
    ["fusermount3", "fusermount"]
        .iter()
        .flat_map(|name| places.iter().map(move |dir| dir.join(name)))
        .find(|file| file.is_file())
}

/// The mount point, checked and with all links resolved.
fn prepare_point(point: &Path) -> Result<PathBuf, String> {
    let shown = names::shown(point);
    clear_dead_mount(point)?;
    let meta = match fs::metadata(point) {
        Ok(meta) => meta,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(format!("the mount point {shown} does not exist; create it with: mkdir -p {shown}"));
        }
        Err(e) => return Err(format!("cannot use the mount point {shown}: {e}")),
    };
    if !meta.is_dir() {
        return Err(format!("the mount point {shown} is not a directory"));
    }
    let real = fs::canonicalize(point).map_err(|e| format!("cannot use the mount point {shown}: {e}"))?;
    if let Ok(Some(m)) = mounts::at(&real)
        && m.is_snapfs()
    {
        return Err(format!("{shown} is a mount of snapfs already, of {}", names::shown(&m.source)));
    }
    Ok(real)
}

/// A daemon that was killed together with its flusher leaves its mount behind ("Transport endpoint is not connected").
/// Opening tells; `stat` may be answered from the kernel's cache.
fn clear_dead_mount(point: &Path) -> Result<(), String> {
    if !File::open(point).is_err_and(|e| is_dead_error(&e)) {
        return Ok(());
    }
    log::warn!("{}: clearing away the mount of a daemon that is gone", names::shown(point));
    let cleared = File::options()
        .read(true)
        .custom_flags(sys_mount::fcntl::O_PATH | sys_mount::fcntl::O_DIRECTORY)
        .open(point)
        .and_then(|root| detach(&root, point));
    match cleared {
        // Its flusher was there first.
        Err(_) if !File::open(point).is_err_and(|e| is_dead_error(&e)) => Ok(()),
        cleared => cleared.map_err(|e| {
            format!("{} is the mount of a daemon that is gone; unmounting it: {e}", names::shown(point))
        }),
    }
}

/// Takes away what a daemon that died while it started has left at `point`.
pub fn clear_if_dead(point: &Path) {
    let (Ok(absolute), true) =
        (std::path::absolute(point), File::open(point).is_err_and(|e| is_dead_error(&e)))
    else {
        return;
    };
    if let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name())
        && let Ok(point) = fs::canonicalize(parent).map(|parent| parent.join(name))
        && mounts::at(&point).is_ok_and(|m| m.is_some_and(|m| m.is_snapfs()))
        && let Err(e) = clear_dead_mount(&point)
    {
        log::warn!("{e}");
    }
}

fn open_device() -> Result<File, String> {
    match File::options().read(true).write(true).open(DEVICE) {
        Ok(file) if file.metadata().is_ok_and(|m| is_fuse(&m)) => Ok(file),
        Ok(_) => {
            Err(format!("{DEVICE} is not the FUSE device; make it with: mknod -m 666 {DEVICE} c 10 229"))
        }
        Err(e) => Err(format!("cannot open {DEVICE}: {e}")),
    }
}

/// The number is fixed (Documentation/admin-guide/devices.txt of the kernel).
fn is_fuse(meta: &fs::Metadata) -> bool {
    meta.file_type().is_char_device() && sys_mount::major_minor(meta.rdev()) == (10, 229)
}

fn attach_directly(point: &Path, options: &Options, device: &File) -> io::Result<()> {
    let mode = fs::metadata(point)?.mode();
    let mut data = format!(
        "fd={},rootmode={:o},user_id={},group_id={},default_permissions",
        device.as_raw_fd(),
        mode & sys_mount::fcntl::S_IFMT,
        process::effective_uid(),
        process::effective_gid()
    );
    if options.allow_other {
        data.push_str(",allow_other");
    }
    if !options.subtype.is_empty() {
        data.push_str(",subtype=");
        data.push_str(&options.subtype);
    }
    sys_mount::mount(&options.source, point, "fuse", options.flags(), &data)
}

/// fusermount3 mounts for users without the right, and sends the connection back over a socket.
fn attach_by_helper(point: &Path, options: &Options) -> Result<OwnedFd, String> {
    let helper = find_helper().ok_or(HELPER_MISSING)?;
    let failed = |e: io::Error| format!("cannot run {}: {e}", names::shown(&helper));
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    // Between here and the spawn another thread's child could inherit the descriptor too; mounting happens before
    // any other thread of the daemon starts a program.
    sys_mount::keep_over_exec(theirs.as_raw_fd()).map_err(failed)?;
    let mut child = Command::new(&helper)
        .arg("-o")
        .arg(helper_options(options))
        .arg("--")
        .arg(point)
        .env("_FUSE_COMMFD", theirs.as_raw_fd().to_string())
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    drop(theirs);
    let received = sys_mount::receive_descriptor(&ours);
    let output = {
        let mut said = String::new();
        if let Some(mut stderr) = child.stderr.take() {
            let _ = io::Read::read_to_string(&mut stderr, &mut said); // only for the message below
        }
        let _ = child.wait(); // its word is the descriptor, not its code
        said.trim().to_string()
    };
    match received {
        Ok(Some(fd)) => Ok(fd),
        Ok(None) | Err(_) if output.contains("user_allow_other") => {
            Err("allow_other needs the line user_allow_other in /etc/fuse.conf, or root".into())
        }
        Ok(None) | Err(_) if output.contains("open /dev/fuse: Permission denied") => {
            Err("no permission to open /dev/fuse; its usual mode is 0666".into())
        }
        Ok(None) if output.is_empty() => {
            Err(format!("{} did not mount and did not say why", names::shown(&helper)))
        }
        Ok(None) => Err(format!("cannot mount at {}: {output}", names::shown(point))),
        Err(e) => Err(format!("no connection from {}: {e}; {output}", names::shown(&helper))),
    }
}

/// Commas and backslashes inside a value are escaped, as libfuse does.
fn helper_options(options: &Options) -> OsString {
    let escape = |text: &str| text.replace('\\', "\\\\").replace(',', "\\,");
    let mut list = vec!["default_permissions".to_string()];
    if !options.subtype.is_empty() {
        list.push(format!("subtype={}", escape(&options.subtype)));
    }
    let root = process::effective_uid() == 0;
    let words = [
        (options.allow_other, "allow_other"),
        (options.read_only, "ro"),
        (!options.dev || !root, "nodev"), // not for a normal user to have; the helper would only say so
        (!options.suid || !root, "nosuid"),
        (!options.exec, "noexec"),
        (options.noatime, "noatime"),
        (options.nodiratime, "nodiratime"),
        (options.sync, "sync"),
        (options.dirsync, "dirsync"),
    ];
    list.extend(words.iter().filter(|(on, _)| *on).map(|(_, word)| word.to_string()));
    let mut list = OsString::from(list.join(",") + ",fsname=");
    for byte in options.source.as_bytes().chunks(1) {
        if matches!(byte, b"\\" | b",") {
            list.push("\\");
        }
        list.push(OsStr::from_bytes(byte));
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_place_is_explained() {
        let gone = prepare_point(Path::new("/nonexistent/place"));
        assert!(gone.is_err_and(|e| e.contains("does not exist") && e.contains("mkdir -p")));
        let file = prepare_point(Path::new("/proc/self/status"));
        assert!(file.is_err_and(|e| e.contains("not a directory")));
    }

    #[test]
    fn commas_in_a_source_do_not_become_options() {
        let options = Options { source: "/a,suid".into(), ..Options::default() };
        assert!(helper_options(&options).as_bytes().ends_with(b",fsname=/a\\,suid"));
    }
}
