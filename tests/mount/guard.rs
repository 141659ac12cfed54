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
        let mut options = Options::default();
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
