//! One mount command at a time for one store: the first starts a daemon, and the next finds it.
//!
//! A file beside the sockets is locked; the kernel lets go of it when the process ends, however that happens. Without it, or
//! when it does not come in time, a command goes on all the same: the lock on the store decides then.

use super::dirs;
use crate::sys::mount::fcntl::O_NOFOLLOW;
use crate::sys::{self, Flock};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long another command may take to mount the store.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// While it lives no other command of this user has the turn for this store.
pub struct MountTurn {
    path: PathBuf,
    _file: File,
}

impl MountTurn {
    /// Waits for the turn. `store` is the path of the store, absolute and without links, whether it is there or not.
    pub fn take(store: &Path) -> Option<MountTurn> {
        MountTurn::take_in(&dirs::own().ok()?, store, PATIENCE)
    }

    fn take_in(dir: &Path, store: &Path, patience: Duration) -> Option<MountTurn> {
        let mut hasher = DefaultHasher::new();
        store.hash(&mut hasher);
        let path = dir.join(format!("{:016x}.turn", hasher.finish()));
        let end = Instant::now() + patience;
        loop {
            let mut options = File::options();
            options.write(true).create(true).truncate(false).mode(0o600).custom_flags(O_NOFOLLOW);
            let file = options.open(&path).ok()?;
            if sys::flock(file.as_fd(), Flock::Exclusive).is_ok() {
                // Whoever had it has removed it, and the next may have made another.
                let (ours, there) = (file.metadata().ok()?, fs::metadata(&path));
                if there.is_ok_and(|there| there.ino() == ours.ino()) {
                    return Some(MountTurn { path, _file: file });
                }
            } else if Instant::now() >= end {
                return None;
            } else {
                std::thread::sleep(LOOK_AGAIN);
            }
        }
    }
}

impl Drop for MountTurn {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path); // it is in nobody's way
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn one_has_it_at_a_time() {
        let dir = std::env::temp_dir().join(format!("snapfs-turn-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("mkdir");
        let (inside, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let turn = MountTurn::take_in(&dir, Path::new("/store"), PATIENCE).expect("the turn");
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        taken.fetch_add(1, Ordering::SeqCst);
                        drop(turn);
                    }
                });
            }
        });
        assert_eq!(taken.into_inner(), 80);
        let held = MountTurn::take_in(&dir, Path::new("/store"), PATIENCE);
        assert!(MountTurn::take_in(&dir, Path::new("/store"), Duration::ZERO).is_none());
        assert!(MountTurn::take_in(&dir, Path::new("/other"), Duration::ZERO).is_some());
        drop(held);
        assert_eq!(fs::read_dir(&dir).expect("list").count(), 0, "nothing is left");
        fs::remove_dir(&dir).expect("rmdir");
    }
}
