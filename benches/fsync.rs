//! fsync of small appends, one writer and sixteen, on snapfs and on file systems of the kernel and of others.
//!
//! `cargo bench --bench fsync`, as root: snapfs in a directory and in an image file, btrfs and ext4 on loop devices,
//! and zfs-fuse on an image file, all on the same host file system, `SNAPFS_BENCH_DIR` or the temporary directory.
//! Each writer appends 4 KiB to a file of its own and makes it durable, for `SNAPFS_BENCH_SECONDS` (2 unless given); the
//! rounds, `SNAPFS_BENCH_ROUNDS` (3 unless given), are interleaved. It prints medians of calls in a second and the ratio of
//! each to btrfs. A peer that cannot be had is left out with a line that says why. How often the device is flushed is
//! asserted in `tests/cost`; here the clock only informs.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Bytes of each image.
const IMAGE_BYTES: u64 = 2 << 30;
const BLOCK: [u8; 4096] = [0x5A; 4096];

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// Runs a command; what it says if it fails.
fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(args).output().map_err(|e| format!("{program}: {e}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_string();
    if output.status.success() { Ok(()) } else { Err(format!("{program} {}: {said}", args.join(" "))) }
}

/// A mounted file system that is unmounted whatever happens.
struct Peer {
    name: &'static str,
    dir: PathBuf,
    end: Vec<Vec<String>>,
    daemon: Option<Child>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        for command in &self.end {
            let args: Vec<&str> = command[1..].iter().map(String::as_str).collect();
            // What was just deleted may be busy for a moment.
            let mut tries = (0..25).map(|_| {
                run(&command[0], &args).inspect_err(|_| std::thread::sleep(Duration::from_millis(200)))
            });
            if !tries.any(|done| done.is_ok()) {
                eprintln!("cannot be ended: {}", command.join(" "));
            }
        }
        if let Some(daemon) = &mut self.daemon {
            let _ended = (daemon.kill(), daemon.wait());
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of the benchmark is text")
}

fn image(base: &Path, name: &str) -> Result<PathBuf, String> {
    let path = base.join(format!("{name}.img"));
    let made = File::create(&path).and_then(|f| f.set_len(IMAGE_BYTES));
    made.map_err(|e| format!("{}: {e}", path.display()))?;
    // Space of its own: no peer pays for the growth of a sparse file.
    run("fallocate", &["-l", &IMAGE_BYTES.to_string(), text(&path)])?;
    Ok(path)
}

fn place(base: &Path, name: &str) -> Result<PathBuf, String> {
    let dir = base.join(name);
    fs::create_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    Ok(dir)
}

fn on_loop(base: &Path, name: &'static str, make: &[&str]) -> Result<Peer, String> {
    let (image, dir) = (image(base, name)?, place(base, name)?);
    run(make[0], &[&make[1..], &[text(&image)]].concat())?;
    run("mount", &["-o", "loop,noatime", "-t", name, text(&image), text(&dir)])?;
    let end = vec![vec!["umount".into(), text(&dir).into()]];
    Ok(Peer { name, dir, end, daemon: None })
}

fn snapfs(base: &Path, name: &'static str, in_image: bool) -> Result<Peer, String> {
    let (program, dir) = (env!("CARGO_BIN_EXE_snapfs"), place(base, name)?);
    let store = base.join(format!("{name}.store"));
    if in_image {
        run(program, &["init", "--size", "2G", text(&store)])?;
        run("fallocate", &["-l", &IMAGE_BYTES.to_string(), text(&store)])?;
    }
    run(program, &["mount", text(&store), text(&dir)])?;
    let end = vec![vec![program.into(), "umount".into(), text(&dir).into()]];
    Ok(Peer { name, dir, end, daemon: None })
}

fn zfs_fuse(base: &Path) -> Result<Peer, String> {
    let (image, dir) = (image(base, "zfs-fuse")?, place(base, "zfs-fuse")?);
    let pool = format!("snapfsbench{}", std::process::id());
    let mut daemon = Command::new("zfs-fuse");
    daemon.args(["-n", "-p", text(&base.join("zfs-fuse.pid"))]);
    let daemon = daemon.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let daemon = daemon.map_err(|e| format!("zfs-fuse: {e}"))?;
    let mut peer = Peer { name: "zfs-fuse", dir, end: Vec::new(), daemon: Some(daemon) };
    let until = Instant::now() + Duration::from_secs(10);
    let make = ["create", "-f", "-m", text(&peer.dir), &pool, text(&image)];
    while let Err(why) = run("zpool", &make) {
        if Instant::now() > until {
            return Err(why);
        }
        std::thread::sleep(Duration::from_millis(300));
    }
    peer.end = vec![vec!["zpool".into(), "destroy".into(), "-f".into(), pool]];
    Ok(peer)
}

/// What a writer does after each append.
#[derive(Clone, Copy)]
struct Workload {
    name: &'static str,
    writers: usize,
    sync: fn(&File) -> std::io::Result<()>,
}

const WORKLOADS: [Workload; 4] = [
    Workload { name: "fsync, 1 writer", writers: 1, sync: File::sync_all },
    Workload { name: "fsync, 16 writers", writers: 16, sync: File::sync_all },
    Workload { name: "fdatasync, 1 writer", writers: 1, sync: File::sync_data },
    Workload { name: "fdatasync, 16 writers", writers: 16, sync: File::sync_data },
];

/// Calls in a second.
fn measure(peer: &Peer, workload: &Workload, time: Duration) -> f64 {
    let dir = peer.dir.join("files");
    fs::create_dir(&dir).expect("mkdir");
    let write = |n: usize| {
        let mut file = File::create(dir.join(n.to_string())).expect("create");
        let (start, mut calls) = (Instant::now(), 0_u64);
        while start.elapsed() < time {
            file.write_all(&BLOCK).expect("write");
            (workload.sync)(&file).expect("fsync");
            calls += 1;
        }
        calls as f64 / start.elapsed().as_secs_f64()
    };
    let sum = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workload.writers).map(|n| scope.spawn(move || write(n))).collect();
        threads.into_iter().map(|t| t.join().expect("a writer")).sum()
    });
    fs::remove_dir_all(&dir).expect("rm -r");
    sum
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let (rounds, seconds) = (number("SNAPFS_BENCH_ROUNDS", 3), number("SNAPFS_BENCH_SECONDS", 2));
    let base = std::env::var_os("SNAPFS_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let base = base.join(format!("snapfs-fsync-{}", std::process::id()));
    fs::create_dir_all(&base).expect("the directory of the benchmark can be made");
    let made = [
        snapfs(&base, "snapfs", false),
        snapfs(&base, "snapfs-image", true),
        on_loop(&base, "btrfs", &["mkfs.btrfs", "-q"]),
        on_loop(&base, "ext4", &["mkfs.ext4", "-q", "-F"]),
        zfs_fuse(&base),
    ];
    let (peers, missing): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
    let peers: Vec<Peer> = peers.into_iter().filter_map(Result::ok).collect();
    missing.iter().filter_map(|m| m.as_ref().err()).for_each(|why| println!("left out: {why}"));

    println!(
        "4 KiB appends made durable, calls in a second; median of {rounds} rounds of {seconds} s, ratio to btrfs"
    );
    let names: Vec<&str> = peers.iter().map(|p| p.name).collect();
    println!("| workload | {} |", names.join(" | "));
    println!("|---|{}", "---|".repeat(peers.len()));
    for workload in &WORKLOADS {
        let mut found = vec![Vec::new(); peers.len()];
        for round in 0..rounds as usize {
            for n in 0..peers.len() {
                let turn = (n + round) % peers.len();
                found[turn].push(measure(&peers[turn], workload, Duration::from_secs(seconds)));
            }
        }
        let medians: Vec<f64> = found.into_iter().map(median).collect();
        let btrfs = peers.iter().position(|p| p.name == "btrfs").map(|n| medians[n]);
        let cell = |value: &f64| match btrfs {
            Some(btrfs) => format!("{value:.0} ({:.2})", value / btrfs),
            None => format!("{value:.0}"),
        };
        println!("| {} | {} |", workload.name, medians.iter().map(cell).collect::<Vec<_>>().join(" | "));
    }
    drop(peers);
    drop(fs::remove_dir_all(&base));
}
