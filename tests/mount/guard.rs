//! A mount for one test: a temporary directory, the mount, and an end that never hangs and never leaves one behind.

#![allow(dead_code)] // two programs share this file, and neither uses all of it

use snapfs::fuse::{Mounted, Options};
use snapfs::ops::Operations;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// False, loudly, where nothing can be mounted; a failure when `SNAPFS_REQUIRE_FUSE=1`.
pub fn can_mount() -> bool {
    let there = Path::new("/dev/fuse").exists();
    if !there {
        assert!(std::env::var("SNAPFS_REQUIRE_FUSE").as_deref() != Ok("1"), "/dev/fuse is missing");
        eprintln!("SKIPPED: /dev/fuse is missing, nothing is mounted");
    }
    there
}

/// The program that can be a flusher: a test program cannot.
pub fn program() -> PathBuf {
    std::env::var_os("SNAPFS_TEST_PROGRAM").map_or_else(|| env!("CARGO_BIN_EXE_snapfs").into(), PathBuf::from)
}

/// The flusher of a daemon: its child. 0 while it is started anew.
pub fn flusher_of(daemon: u32) -> u32 {
    let parent = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let alive = !fields.next()?.starts_with(['Z', 'X']);
        fields.next()?.parse::<u32>().ok().filter(|_| alive)
    };
    let processes = std::fs::read_dir("/proc").expect("/proc");
    let pids = processes.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok());
    pids.into_iter().find(|pid| parent(*pid) == Some(daemon)).unwrap_or(0)
}

/// Kills a daemon and its flusher so that the flusher cannot clear up.
pub fn kill_both(daemon: u32) {
    let signal = |name: &str, pid: u32| {
        let done = std::process::Command::new("kill").args([name, &pid.to_string()]).status();
        assert!(done.expect("kill").success(), "{name} {pid}");
    };
    signal("-STOP", daemon); // or it would start another one
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        match flusher_of(daemon) {
            0 => assert!(Instant::now() < end, "process {daemon} has no flusher"),
            flusher => break signal("-KILL", flusher),
        }
    }
    signal("-KILL", daemon);
}

/// An empty directory that is removed at the end.
pub struct Scratch(pub PathBuf);

impl Scratch {
    /// A new one.
    pub fn new() -> Scratch {
        let name = format!("snapfs-mount-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir(&dir).expect("temporary directory");
        Scratch(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0); // not recursive: never through a mount that is still there
    }
}

/// A mount that ends with its scope.
pub struct TestMount {
    pub mounted: Option<Mounted>,
    pub scratch: Scratch,
}

impl TestMount {
    /// Mounts `ops` with the defaults, as changed by `change`.
    pub fn with(ops: Arc<dyn Operations>, change: impl FnOnce(&mut Options)) -> TestMount {
        let scratch = Scratch::new();
        let mut options = Options { program: program(), ..Options::default() };
        change(&mut options);
        let mounted = Mounted::start(ops, &scratch.0, &options).expect("mount");
        TestMount { mounted: Some(mounted), scratch }
    }
    /// A path in the mount.
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.0.join(name)
    }
    /// The mount.
    pub fn mounted(&self) -> &Mounted {
        self.mounted.as_ref().expect("mounted")
    }
}

impl Drop for TestMount {
    fn drop(&mut self) {
        let Some(mounted) = self.mounted.take() else { return };
        let unmounter = mounted.unmounter();
        let end = Instant::now() + Duration::from_secs(5);
        loop {
            match unmounter.unmount() {
                Ok(true) => break,
                Ok(false) if Instant::now() < end => std::thread::sleep(Duration::from_millis(20)),
                other => {
                    eprintln!("lazy unmount of {}: {other:?}", self.scratch.0.display());
                    let _ = unmounter.detach();
                    return; // its threads end with the process
                }
            }
        }
        let _ = mounted.wait();
    }
}
