//! Times of snapshots: made, listed, browsed and deleted, with few and many files and snapshots.
//!
//! `cargo bench --bench snapshots` mounts a store in `SNAPFS_BENCH_DIR` (a fresh directory in the temporary one unless
//! given) and prints a table; `SNAPFS_BENCH_FILES` and `SNAPFS_BENCH_SNAPSHOTS` set the large numbers. What the costs
//! are in device calls is asserted in `tests/cost`; here the clock only informs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// A mounted store that is unmounted and removed whatever happens.
struct Mount {
    dir: PathBuf,
}

impl Mount {
    fn new(dir: &Path) -> Mount {
        fs::create_dir_all(dir.join("mnt")).expect("the directory of the benchmark can be made");
        let mount = Mount { dir: dir.into() };
        let status = Command::new(env!("CARGO_BIN_EXE_snapfs"))
            .args(["mount".into(), dir.join("store"), dir.join("mnt")])
            .status()
            .expect("snapfs runs");
        assert!(status.success(), "snapfs mount failed");
        mount
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join("mnt").join(name)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let done =
            Command::new(env!("CARGO_BIN_EXE_snapfs")).arg("umount").arg(self.dir.join("mnt")).status();
        if done.is_ok_and(|s| s.success()) {
            drop(fs::remove_dir_all(&self.dir));
        } else {
            eprintln!("{} could not be unmounted", self.dir.display());
        }
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn time<T>(work: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn make_snapshots(mount: &Mount, prefix: &str, count: usize) -> Duration {
    let make =
        |i: usize| time(|| fs::create_dir(mount.path(&format!(".snapshots/{prefix}{i}"))).expect("mkdir"));
    median((0..count).map(make).collect())
}

fn settle() {
    // Longer than the commit interval: nothing is dirty then.
    std::thread::sleep(Duration::from_secs(7));
}

fn main() {
    let (files, snapshots) =
        (number("SNAPFS_BENCH_FILES", 1_000_000), number("SNAPFS_BENCH_SNAPSHOTS", 10_000));
    let base = std::env::var_os("SNAPFS_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let mount = Mount::new(&base.join(format!("snapfs-bench-{}", std::process::id())));
    let row = |what: &str, time: Duration| println!("{what:<58} {:>12.3} ms", time.as_secs_f64() * 1e3);
    println!("{:<58} {:>15}", "what", "median");

    (0..10).for_each(|i| fs::write(mount.path(&format!("few{i}")), b"content").expect("write"));
    settle();
    row("mkdir .snapshots/x, idle, 10 files, 0 snapshots", make_snapshots(&mount, "a", 21));
    let filled = time(|| {
        for i in 0..files {
            if i % 1000 == 0 {
                fs::create_dir(mount.path(&format!("d{}", i / 1000))).expect("mkdir");
            }
            fs::write(mount.path(&format!("d{}/f{i}", i / 1000)), b"content").expect("write");
        }
    });
    println!("{files} files of 7 bytes made in {:.1} s", filled.as_secs_f64());
    settle();
    row(&format!("mkdir .snapshots/x, idle, {files} files"), make_snapshots(&mount, "b", 21));
    let many = time(|| {
        for i in 0..snapshots {
            fs::write(mount.path("changing"), format!("{i}")).expect("write");
            fs::create_dir(mount.path(&format!(".snapshots/s{i}"))).expect("mkdir");
        }
    });
    println!("{snapshots} snapshots with a change before each in {:.1} s", many.as_secs_f64());
    settle();
    row(
        &format!("mkdir .snapshots/x, idle, {snapshots} snapshots before it"),
        make_snapshots(&mount, "c", 21),
    );
    let list = || fs::read_dir(mount.path(".snapshots")).expect("readdir").count();
    assert!(list() >= snapshots);
    row(&format!("list {snapshots} snapshots (readdir)"), median((0..5).map(|_| time(list)).collect()));
    let listed = || {
        let out = Command::new(env!("CARGO_BIN_EXE_snapfs")).arg("list").arg(mount.path("")).output();
        assert!(out.is_ok_and(|o| o.status.success()));
    };
    row(
        &format!("snapfs list, {snapshots} snapshots, process included"),
        median((0..5).map(|_| time(listed)).collect()),
    );
    for (what, i) in [("oldest", 0), ("middle", snapshots / 2), ("newest", snapshots - 1)] {
        let read = || {
            assert_eq!(
                fs::read(mount.path(&format!(".snapshots/s{i}/changing"))).expect("read"),
                format!("{i}").as_bytes()
            )
        };
        row(&format!("first read of a file through the {what}"), time(read));
    }
    let deleted = time(|| {
        (0..snapshots).for_each(|i| fs::remove_dir(mount.path(&format!(".snapshots/s{i}"))).expect("rmdir"));
    });
    row("rmdir .snapshots/x, mean", deleted / snapshots as u32);
}
