//! Keeps a second process out of a store, and says who is in it.
//!
//! The lock is an advisory `flock`: on the file `lock` of a directory store, otherwise on the image file or block
//! device itself. The host releases it when the process dies, however it dies, so there is nothing stale to clean up.
//! The text in the `lock` file only tells who holds the lock and decides nothing. Programs that do not ask for the lock
//! are not kept out.
//!
//! A `flock` is on one file, but the same bytes can be reached through several files: an image, and the loop devices
//! over it. So for an image or a block device, ranges of bytes are locked as well: in the file itself, and in every
//! file below it down to the last if it is a loop device. The range is the part that the device shows, so two
//! partitions of one image are two stores.

use crate::names;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use super::backing::{self, Below};
use super::probe::LOCK_NAME;
use super::{FileId, StoreKind};
use crate::sys::{self, Flock};

/// Bytes of holder text that are looked at.
const HOLDER_BYTES_MAX: usize = 4096;

/// How a store is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// With other readers, against writers.
    Shared,
    /// Against everybody.
    Exclusive,
}

/// Why a store could not be locked.
#[derive(Debug)]
pub enum LockError {
    /// Somebody else holds it.
    Held {
        /// Who, as far as can be found out.
        by: String,
    },
    /// The host failed.
    Io {
        /// What was being done.
        what: String,
        /// The host's error.
        source: io::Error,
    },
}

impl std::fmt::Display for LockError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LockError::Held { by } => write!(f, "the store is in use by {by}"),
            LockError::Io { what, source } => write!(f, "{what}: {source}"),
        }
    }
}

impl std::error::Error for LockError {}

/// A held store. Dropping it, or the death of every process that shares it by fork, releases it.
#[derive(Debug)]
pub struct StoreLock {
    file: File,
    holder: HolderText,
    /// What the device shows a part of, each locked there.
    _below: Vec<File>,
}

/// Whether the locked file is ours to write the holder's name to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HolderText {
    Kept,
    None,
}

impl StoreLock {
    /// Locks the store of `kind` at `path` without waiting. `who` is what others read about the holder, for instance
    /// its mount point.
    ///
    /// On a directory of a read-only host without a lock file, a shared lock is taken on the directory instead: there
    /// no writer of this host can exist.
    ///
    /// # Errors
    /// [`LockError::Held`] if somebody else is in the store; [`LockError::Io`] if the host fails or if nothing at
    /// `path` can be locked.
    pub fn acquire(path: &Path, kind: &StoreKind, mode: LockMode, who: &str) -> Result<StoreLock, LockError> {
        let failed = |source| LockError::Io { what: format!("cannot lock {}", names::shown(path)), source };
        let is_directory = match kind {
            StoreKind::EmptyDirectory | StoreKind::DirectoryStore => true,
            StoreKind::ImageFile { .. } | StoreKind::BlockDevice { .. } => false,
            StoreKind::Missing => return Err(failed(io::ErrorKind::NotFound.into())),
            StoreKind::ForeignDirectory { .. } | StoreKind::Other { .. } => {
                return Err(failed(io::ErrorKind::InvalidInput.into()));
            }
        };
        let file = if is_directory { open_in_directory(path, mode) } else { open_itself(path, mode) };
        let file = file.map_err(failed)?;
        let how = match mode {
            LockMode::Shared => Flock::Shared,
            LockMode::Exclusive => Flock::Exclusive,
        };
        match sys::flock(file.as_fd(), how) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(LockError::Held { by: holder_of(&file, is_directory) });
            }
            Err(error) => return Err(failed(error)),
        }
        let holder =
            if is_directory && mode == LockMode::Exclusive { HolderText::Kept } else { HolderText::None };
        let mut below = Vec::new();
        if !is_directory {
            lock_bytes(&file, how, 0, 0).map_err(|error| range_refused(path, &file, error))?;
        }
        if matches!(kind, StoreKind::BlockDevice { .. }) {
            for Below { path, file, writable, start, len } in backing::below(&file, how) {
                // Who may not write to it still shuts out every writer that may.
                let how = if writable { how } else { Flock::Shared };
                lock_bytes(&file, how, start, len).map_err(|error| range_refused(&path, &file, error))?;
                // For who asks `/proc/locks` who is there: of ranges it names nobody.
                sys::flock(file.as_fd(), Flock::Shared)
                    .map_err(|error| range_refused(&path, &file, error))?;
                below.push(file);
            }
        }
        let lock = StoreLock { file, holder, _below: below };
        lock.set_holder(who);
        Ok(lock)
    }

    /// Changes what others read about the holder, and names this process as the one: to be called again after a fork.
    /// Best effort, and without effect where there is no file for it (images, devices, shared locks).
    pub fn set_holder(&self, who: &str) {
        if self.holder == HolderText::None {
            return;
        }
        let text = format!("{} {} {who}\n", std::process::id(), host_name());
        let written = self.file.set_len(0).and_then(|()| self.file.write_all_at(text.as_bytes(), 0));
        if let Err(error) = written {
            log::debug!("cannot name the holder in the lock file: {error}");
        }
    }
}

impl Drop for StoreLock {
    fn drop(&mut self) {
        // The name goes before the lock does. After a fork the file has several owners: only the named one clears it.
        if self.holder == HolderText::Kept
            && read_text(&self.file).split(' ').next() == Some(&std::process::id().to_string())
        {
            let _ = self.file.set_len(0);
        }
    }
}

fn open_in_directory(dir: &Path, mode: LockMode) -> io::Result<File> {
    let path = dir.join(LOCK_NAME);
    if mode == LockMode::Exclusive {
        return OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    }
    let missing = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => error,
        done => return done,
    };
    match OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path) {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => File::open(dir),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(missing),
        done => done,
    }
}

fn open_itself(path: &Path, mode: LockMode) -> io::Result<File> {
    // Network file systems grant exclusive locks on files open for writing only.
    OpenOptions::new().read(true).write(mode == LockMode::Exclusive).open(path)
}

/// Locks a range of an image or device. A host that knows no such locks leaves it at the `flock`.
fn lock_bytes(file: &File, how: Flock, start: u64, len: u64) -> io::Result<()> {
    match sys::lock_range(file.as_fd(), how, start, len) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
        Err(error) if sys::is_unsupported(&error) || sys::has_no_locks(&error) => {
            log::debug!("the host has no locks of ranges: {error}");
            Ok(())
        }
        done => done,
    }
}

fn range_refused(path: &Path, file: &File, error: io::Error) -> LockError {
    if error.kind() == io::ErrorKind::WouldBlock {
        let by = match range_holder(file).or_else(|| locking_process(file)) {
            Some((pid, command)) => format!("process {pid} ({command})"),
            None => "another process".into(),
        };
        return LockError::Held { by: format!("{by}, by way of {}", names::shown(path)) };
    }
    LockError::Io { what: format!("cannot lock {}", names::shown(path)), source: error }
}

/// A process that has locked a range of `file`: the kernel names none, but shows the locks of each open file to who has
/// the right.
fn range_holder(file: &File) -> Option<(u32, String)> {
    let id = FileId::of(&file.metadata().ok()?);
    let holds = |pid: u32| {
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        fds.flatten().find(|fd| {
            let info = Path::new("/proc").join(pid.to_string()).join("fdinfo").join(fd.file_name());
            fs::metadata(fd.path()).is_ok_and(|found| FileId::of(&found) == id)
                && fs::read_to_string(info).is_ok_and(|info| info.contains("OFDLCK"))
        })
    };
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let pid = pids.find(|pid| holds(*pid).is_some())?;
    Some((pid, command_line(pid).unwrap_or_else(|| "unknown command".into())))
}

/// Who holds the lock on `file`, for a message.
fn holder_of(file: &File, has_text: bool) -> String {
    let text = if has_text { read_text(file) } else { String::new() };
    let mut words = text.trim_end().splitn(3, ' ');
    if let (Some(pid), Some(host), Some(who)) = (words.next(), words.next(), words.next())
        && !pid.is_empty()
    {
        return format!("process {pid} on host {host} ({who})");
    }
    match locking_process(file) {
        Some((pid, command)) => format!("process {pid} ({command})"),
        None => "another process".into(),
    }
}

/// The process that `/proc/locks` names as holder of a `flock` on `file`, and its command line.
fn locking_process(file: &File) -> Option<(u32, String)> {
    let found = file.metadata().ok()?;
    let (id, device) = (FileId::of(&found), device_shown(found.dev()));
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let holders: Vec<(u32, &str)> =
        locks.lines().filter_map(|line| flock_holder(line, found.ino())).collect();
    // More than one file system may use the inode number. Some show another number of the device than `stat` does: there
    // it counts who has the file open.
    let here = holders.iter().find(|(_, place)| *place == device);
    let (pid, _) = here.or_else(|| holders.iter().find(|(pid, _)| has_open(*pid, id)))?;
    Some((*pid, command_line(*pid).unwrap_or_else(|| "unknown command".into())))
}

/// A device as `/proc/locks` shows it.
fn device_shown(dev: u64) -> String {
    let (major, minor) = ((dev >> 8) & 0xfff | (dev >> 32) & !0xfff, dev & 0xff | (dev >> 12) & 0xf_ff00);
    format!("{major:02x}:{minor:02x}")
}

/// True if a process has a file open, as far as anybody may know.
fn has_open(pid: u32, id: FileId) -> bool {
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    fds.into_iter().any(|fd| fs::metadata(fd.path()).is_ok_and(|found| FileId::of(&found) == id))
}

/// The process of a line of `/proc/locks`, such as `3: FLOCK  ADVISORY  WRITE 712 fd:01:23 0 EOF`, if it holds a
/// `flock` on `inode`, and the device that this is on. Lines of waiting processes have `->` as second word and do not match.
fn flock_holder(line: &str, inode: u64) -> Option<(u32, &str)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, "FLOCK", _, _, pid, place, ..] = words[..] else { return None };
    let (device, number) = place.rsplit_once(':')?;
    let pid = pid.parse().ok()?;
    (number.parse() == Ok(inode)).then_some((pid, device))
}

fn command_line(pid: u32) -> Option<String> {
    let raw = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words: Vec<_> = raw.split(|byte| *byte == 0).filter(|word| !word.is_empty()).collect();
    let command = words.iter().map(|word| names::shown_bytes(word)).collect::<Vec<_>>().join(" ");
    (!command.is_empty()).then_some(command)
}

fn read_text(file: &File) -> String {
    let mut bytes = vec![0; HOLDER_BYTES_MAX];
    let len = file.read_at(&mut bytes, 0).unwrap_or(0);
    names::shown_bytes(bytes[..len].trim_ascii_end())
}

fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.split_whitespace().next() {
        Some(name) => name.to_owned(),
        None => "unknown".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Scratch;
    use super::super::{DirDevice, probe};
    use super::*;

    fn held_by(path: &Path, mode: LockMode) -> String {
        match StoreLock::acquire(path, &probe(path).unwrap(), mode, "second") {
            Err(LockError::Held { by }) => by,
            other => panic!("expected a held lock, got {other:?}"),
        }
    }

    #[test]
    fn directory_holder_is_named() {
        let scratch = Scratch::new();
        let path = scratch.path("store");
        fs::create_dir(&path).unwrap();
        let lock =
            StoreLock::acquire(&path, &StoreKind::EmptyDirectory, LockMode::Exclusive, "/mnt/a b").unwrap();
        assert_eq!(probe(&path).unwrap(), StoreKind::EmptyDirectory);
        DirDevice::create(&path, DirDevice::DEFAULT_SIZE).unwrap();
        for mode in [LockMode::Exclusive, LockMode::Shared] {
            let by = held_by(&path, mode);
            assert!(by.starts_with(&format!("process {} on host ", std::process::id())), "{by}");
            assert!(by.ends_with("(/mnt/a b)"), "{by}");
        }
        lock.set_holder("/mnt/c");
        assert!(held_by(&path, LockMode::Shared).ends_with("(/mnt/c)"));
        drop(lock);
        assert_eq!(fs::read(path.join("lock")).unwrap(), b"");
        StoreLock::acquire(&path, &StoreKind::DirectoryStore, LockMode::Exclusive, "").unwrap();
    }

    #[test]
    fn image_holder_is_found_and_readers_share() {
        let scratch = Scratch::new();
        let path = scratch.path("image");
        fs::write(&path, b"content").unwrap();
        let kind = probe(&path).unwrap();
        let first = StoreLock::acquire(&path, &kind, LockMode::Shared, "a").unwrap();
        let second = StoreLock::acquire(&path, &kind, LockMode::Shared, "b").unwrap();
        drop(first);
        assert!(!held_by(&path, LockMode::Exclusive).is_empty());
        drop(second);
        let _lock = StoreLock::acquire(&path, &kind, LockMode::Exclusive, "c").unwrap();
        assert!(!held_by(&path, LockMode::Shared).is_empty());
        assert_eq!(fs::read(&path).unwrap(), b"content");
    }

    #[test]
    fn lock_lines_are_understood() {
        assert_eq!(flock_holder("3: FLOCK  ADVISORY  WRITE 712 fd:01:23 0 EOF", 23), Some((712, "fd:01")));
        assert_eq!(flock_holder("3: FLOCK  ADVISORY  WRITE 712 fd:01:23 0 EOF", 24), None);
        assert_eq!(flock_holder("3: -> FLOCK  ADVISORY  WRITE 712 fd:01:23 0 EOF", 23), None);
        assert_eq!(flock_holder("3: POSIX  ADVISORY  WRITE 712 fd:01:23 0 EOF", 23), None);
        assert_eq!(flock_holder("3: FLOCK  ADVISORY  WRITE -1 fd:01:23 0 EOF", 23), None);
        assert_eq!(flock_holder("", 23), None);
    }

    #[test]
    fn devices_are_shown_as_the_kernel_shows_them() {
        for (dev, shown) in [(0xfd01, "fd:01"), (0x801, "08:01"), (0x1b, "00:1b"), (0x10_0001, "00:101")] {
            assert_eq!(device_shown(dev), shown);
        }
        // Who holds this lock has it open, whatever the numbers of its device are.
        let scratch = Scratch::new();
        let path = scratch.path("image");
        fs::write(&path, b"content").unwrap();
        let file = File::open(&path).unwrap();
        sys::flock(file.as_fd(), Flock::Shared).unwrap();
        assert_eq!(locking_process(&file).map(|(pid, _)| pid), Some(std::process::id()));
        assert!(has_open(std::process::id(), FileId::of(&file.metadata().unwrap())));
        let other = fs::metadata(path.parent().unwrap()).unwrap();
        assert!(!has_open(std::process::id(), FileId { inode: u64::MAX, ..FileId::of(&other) }));
    }

    #[test]
    fn what_cannot_be_locked_is_an_error() {
        let scratch = Scratch::new();
        for kind in [StoreKind::Missing, StoreKind::ForeignDirectory { example: "x".into() }] {
            let error = StoreLock::acquire(&scratch.path("none"), &kind, LockMode::Shared, "").unwrap_err();
            assert!(matches!(error, LockError::Io { .. }));
        }
    }
}
