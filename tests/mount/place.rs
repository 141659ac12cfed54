//! A store, a mount point and the program itself, for one test on a real mount.
//!
//! Invariant: whatever happens, nothing stays mounted, no daemon of ours lives on, and nothing is removed through a
//! mount. It signals only daemons that it started.

#![allow(dead_code)] // two programs share this file, and neither uses all of it

use super::guard::Scratch;
use serde_json::Value;
use snapfs::fuse::mounts;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// How long anything may take that is waited for.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What a command left: exit code, standard output, standard error.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// Directories of one test.
pub struct Place {
    pub dir: Scratch,
}

impl Place {
    /// A new place: `mnt` and `run` are there, `store` is not.
    pub fn new() -> Place {
        let place = Place { dir: Scratch::new() };
        for name in ["mnt", "run"] {
            fs::create_dir(place.at(name)).expect("mkdir");
        }
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(place.at("run"), fs::Permissions::from_mode(0o700)).expect("chmod");
        place
    }
    /// A path beside store and mount.
    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.0.join(name)
    }
    /// A path in the mount.
    pub fn path(&self, name: &str) -> PathBuf {
        self.at("mnt").join(name)
    }
    /// A path in a snapshot.
    pub fn past(&self, snapshot: &str, name: &str) -> PathBuf {
        self.path(".snapshots").join(snapshot).join(name)
    }
    /// The program, in this place.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_snapfs"));
        self.settle(&mut command).args(args);
        command
    }
    /// Gives any command the directory and the environment of this place.
    pub fn settle<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.current_dir(&self.dir.0).env("SNAPFS_RUNTIME_DIR", self.at("run")).env("TZ", "UTC")
    }
    /// Runs the program.
    pub fn run(&self, args: &[&str]) -> Said {
        said(&mut self.command(args))
    }
    /// Runs it; it must succeed and complain about nothing.
    pub fn ok(&self, args: &[&str]) -> String {
        let said = self.run(args);
        assert!(said.code == 0 && said.err.is_empty(), "{args:?}: {said:?}");
        said.out
    }
    /// Runs it and reads its JSON.
    pub fn json(&self, args: &[&str]) -> Value {
        let out = self.ok(args);
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{args:?}: {e}: {out}"))
    }
    /// Mounts `store` on `mnt`.
    pub fn mount(&self, options: &str) {
        let said = self.mount_said(options);
        assert_eq!(said.code, 0, "{said:?}");
    }
    /// The same, whatever becomes of it. The log goes to `log`.
    pub fn mount_said(&self, options: &str) -> Said {
        let log = self.at("log");
        let log = log.to_str().expect("text");
        match options {
            "" => self.run(&["mount", "store", "mnt", "--log", log]),
            _ => self.run(&["mount", "store", "mnt", "--log", log, "-o", options]),
        }
    }
    /// Unmounts and waits until the store is closed. A program that another test is starting just now may have our
    /// descriptors for an instant, so a busy mount is tried again.
    pub fn umount(&self) {
        let mut said = self.run(&["umount", "mnt"]);
        let end = Instant::now() + Duration::from_secs(3);
        while said.err.contains("is busy") && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(50));
            said = self.run(&["umount", "mnt"]);
        }
        assert!(said.code == 0 && said.err.is_empty(), "{said:?}");
    }
    /// The store must be sound; not mounted.
    pub fn check(&self) {
        let said = self.run(&["check", "store", "--data"]);
        assert_eq!(said.code, 0, "{said:?}");
    }
    /// A number of the status.
    pub fn number(&self, key: &str) -> u64 {
        let status = self.json(&["status", "mnt", "--json"]);
        status[key].as_u64().unwrap_or_else(|| panic!("{key} in {status}"))
    }
    /// The daemon's process.
    pub fn pid(&self) -> i32 {
        self.number("pid") as i32
    }
    /// Ends the daemon at once, as a crash would, and waits until it is gone, and its mount with it.
    pub fn kill(&self) {
        self.signal("-KILL");
        self.wait_gone();
    }
    /// Waits until the mount of a daemon that was killed is gone.
    pub fn wait_gone(&self) {
        wait("the mount's end", || mounts::at(&self.at("mnt")).is_ok_and(|m| m.is_none()));
    }
    /// Signals the daemon.
    pub fn signal(&self, signal: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill").success());
    }
    /// Waits until no space is being freed, and what was freed is free.
    pub fn wait_freed(&self) {
        wait("the space", || {
            self.json(&["status", "mnt", "--json"])["freeing"] == false && self.number("dirty_bytes") == 0
        });
    }
    /// Takes a snapshot by hand.
    pub fn snapshot(&self, name: &str) {
        fs::create_dir(self.past(name, "")).unwrap_or_else(|e| panic!("mkdir .snapshots/{name}: {e}"));
    }
    /// What is in the log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.at("log")).unwrap_or_default()
    }
    /// Hash of every file of the store but the lock.
    pub fn fingerprint(&self) -> Vec<(PathBuf, u64)> {
        let mut all = Vec::new();
        let mut todo = vec![self.at("store")];
        while let Some(path) = todo.pop() {
            if path.is_dir() {
                todo.extend(fs::read_dir(&path).expect("list").map(|e| e.expect("entry").path()));
            } else if path.is_file() && !path.ends_with("lock") {
                let content = fs::read(&path).expect("read");
                all.push((path, content.iter().fold(content.len() as u64, |h, b| mix(h, *b))));
            }
        }
        all.sort();
        all
    }
}

fn mix(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
        let point = self.at("mnt");
        let all: Vec<_> =
            fs::read_dir(&self.dir.0).into_iter().flatten().flatten().map(|e| e.path()).collect();
        // Whatever a test mounted here, by hand too.
        for path in all.iter().filter(|path| mounts::at(path).is_ok_and(|m| m.is_some())) {
            let said = said(self.command(&["umount"]).arg(path).args(["--timeout", "10"]));
            if said.code != 0 {
                eprintln!("lazy unmount after {said:?}: {:?}", snapfs::fuse::unmount(path, true));
            }
        }
        if mounts::at(&point).is_ok_and(|m| m.is_none()) {
            let _ = fs::remove_dir(&point);
            let _ = fs::remove_file(&point);
        }
        for path in all {
            if path != point && mounts::at(&path).is_ok_and(|m| m.is_none()) {
                let _ = fs::remove_dir_all(&path);
                let _ = fs::remove_file(&path);
            }
        }
    }
}

/// Runs a command to its end.
pub fn said(command: &mut Command) -> Said {
    let Output { status, stdout, stderr } = command.output().expect("run");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said { code: status.code().unwrap_or(-1), out: text(stdout), err: text(stderr) }
}

/// Waits until something holds.
pub fn wait(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The number of the error that must have happened.
pub fn errno<T>(result: io::Result<T>) -> i32 {
    let error = result.err().expect("this must fail");
    error.raw_os_error().unwrap_or_else(|| panic!("no number: {error}"))
}

/// Fails unless an error with this number happened.
#[track_caller]
pub fn refuses<T>(result: io::Result<T>, number: i32) {
    match result {
        Ok(_) => panic!("this must fail with {}", io::Error::from_raw_os_error(number)),
        Err(e) => assert_eq!(e.raw_os_error(), Some(number), "{e}"),
    }
}

/// Names in a directory, in the order in which it tells them.
pub fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    entries.map(|e| e.expect("entry").file_name().into_string().expect("text")).collect()
}

/// True if the tests run as root.
pub fn is_root() -> bool {
    snapfs::sys::process::effective_uid() == 0
}

/// A loop device, which goes with the test.
pub struct Loop(pub String);

impl Loop {
    /// Over a part of a file; None, loudly, where there are none.
    pub fn over(file: &Path, part: &[&str]) -> Option<Loop> {
        let made = is_root().then(|| {
            let mut command = Command::new("losetup");
            command.args(part).args(["--find", "--show"]).arg(file).output()
        });
        match made {
            Some(Ok(made)) if made.status.success() => {
                Some(Loop(String::from_utf8(made.stdout).unwrap().trim().to_string()))
            }
            other => {
                eprintln!("SKIPPED: no loop device: {other:?}");
                None
            }
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}
