//! A control group that bounds the number of tasks.

use std::fs;
use std::path::{Path, PathBuf};

/// The group, which goes with the test.
pub struct TasksMax {
    pub dir: PathBuf,
}

impl TasksMax {
    /// None, loudly, where none can be made.
    pub fn new() -> Option<TasksMax> {
        for root in ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"] {
            let dir = Path::new(root).join(format!("snapfs-test-{}", std::process::id()));
            if fs::create_dir(&dir).is_ok() {
                let group = TasksMax { dir };
                if group.dir.join("pids.max").exists() {
                    return Some(group);
                }
            }
        }
        eprintln!("SKIPPED: no control group with a bound of tasks can be made here");
        None
    }

    /// No more tasks than this from now on.
    pub fn limit(&self, tasks: u32) {
        fs::write(self.dir.join("pids.max"), tasks.to_string()).unwrap();
    }

    pub fn is_empty(&self) -> bool {
        fs::read_to_string(self.dir.join("cgroup.procs")).is_ok_and(|all| all.trim().is_empty())
    }
}

impl Drop for TasksMax {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir(&self.dir) {
            eprintln!("{}: {e}", self.dir.display());
        }
    }
}
