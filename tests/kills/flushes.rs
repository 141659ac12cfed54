//! Kills while snapshots flush: two threads rewrite files, one makes snapshots, one makes clones, writes in them, keeps
//! snapshots of them and drops them, and the daemon or its flusher is killed at a random moment. Nothing may hang, and
//! nothing may stay: no process, no mount, no connection. The next mount just works, and has every clone that was
//! acknowledged, as it was.
//!
//! `SNAPFS_FLUSH_KILLS` is the number of kills.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::guard::{can_mount, flusher_of};
use crate::harness::{is_root, number};
use crate::place::{Place, wait};

/// Files that each writer rewrites.
const FILES: u64 = 8;
const FILE_BYTES: usize = 128 << 10;
/// Snapshots that there are at a time.
const KEPT: u64 = 3;
/// Clones that there are at a time.
const CLONES_KEPT: u64 = 4;
/// Rounds between two proofs of the whole store.
const PROVED_EACH: u64 = 25;

/// What the threads of a round share.
#[derive(Default)]
struct Work {
    ends: AtomicBool,
    making: AtomicBool,
    made: AtomicU64,
    /// Clones that have their own content and a snapshot.
    cloned: AtomicU64,
}

/// Kills the daemon so many times, mounted with these options.
pub fn kill_again_and_again(options: &str) {
    if !can_mount() {
        return;
    }
    let (kills, seed) = (number("SNAPFS_FLUSH_KILLS", 20), number("SNAPFS_SEED", 1));
    let p = Place::new();
    let connections = Connections::new(&p);
    let mut rng = fastrand::Rng::with_seed(seed);
    let work = Arc::new(Work::default());
    let (mut flushers, mut amid) = (0, 0);
    p.mount(options);
    // Made beforehand: none may be made on the bare mount point.
    for (writer, n) in [0, 1].into_iter().flat_map(|writer| (0..FILES).map(move |n| (writer, n))) {
        File::create(p.path(&format!("{writer}-{n}"))).and_then(|f| f.sync_all()).expect("a file");
    }
    for n in 1..=kills {
        let daemon = p.pid().cast_unsigned();
        let device = device_of(&p.at("mnt"));
        let flusher = wait_flusher(daemon, 0);
        let threads = begin(&p, &work);
        std::thread::sleep(Duration::from_millis(rng.u64(5..120)));
        amid += u64::from(work.making.load(Relaxed));
        let mut last_flusher = flusher;
        if n % 3 == 0 {
            signal("-KILL", flusher);
            flushers += 1;
            last_flusher = wait_flusher(daemon, flusher);
            if n % 6 == 0 {
                let before = work.made.load(Relaxed);
                wait("a snapshot after the flusher was killed", || {
                    work.made.load(Relaxed) > before || threads.iter().any(JoinHandle::is_finished)
                });
                assert!(!threads.iter().any(JoinHandle::is_finished), "a program saw the flusher die");
            }
        }
        signal("-KILL", daemon);
        work.ends.store(true, Relaxed);
        wait("programs in the mount", || threads.iter().all(JoinHandle::is_finished));
        threads.into_iter().for_each(|t| t.join().expect("a thread of the test"));
        wait("the daemon's end", || !is_there(daemon));
        wait("the flusher's end", || !is_there(last_flusher));
        p.wait_gone();
        wait("the connection's end", || !connections.has(device));
        assert_eq!(fs::read_dir(p.at("mnt")).expect("the bare mount point").count(), 0);
        if n % PROVED_EACH == 0 || n == kills {
            p.check();
        }
        p.mount(options);
        prove_clones(&p.at("mnt"), work.cloned.load(Relaxed));
    }
    p.umount();
    let (made, cloned) = (work.made.load(Relaxed), work.cloned.load(Relaxed));
    println!(
        "{options}: {kills} kills of the daemon ({amid} while a snapshot was made), {flushers} of the flusher; \
         {made} snapshots, {cloned} clones"
    );
    assert!(made > 0 && cloned > 0, "nothing was tried");
}

fn begin(p: &Place, work: &Arc<Work>) -> Vec<JoinHandle<()>> {
    work.ends.store(false, Relaxed);
    let thread = |run: fn(&Path, &Work, u64), n: u64| {
        let (root, work): (PathBuf, _) = (p.at("mnt"), work.clone());
        std::thread::spawn(move || run(&root, &work, n))
    };
    vec![thread(rewrite, 0), thread(rewrite, 1), thread(make, 0), thread(branch, 0)]
}

/// Until the first error: the mount is dead.
fn rewrite(root: &Path, work: &Work, writer: u64) {
    let mut n = 0_u64;
    while !work.ends.load(Relaxed) {
        n += 1;
        let path = root.join(format!("{writer}-{}", n % FILES));
        // For reading, too: else the kernel can hold nothing of it, and there is nothing to flush.
        let wrote = File::options().read(true).write(true).open(&path).and_then(|file| {
            (0..8).try_for_each(|part| {
                file.write_all_at(&vec![n as u8; FILE_BYTES / 8], part * FILE_BYTES as u64 / 8)
            })
        });
        if wrote.is_err() {
            return;
        }
    }
}

fn make(root: &Path, work: &Work, _: u64) {
    let snapshot = |n: u64| root.join(format!(".snapshots/s{n}"));
    while !work.ends.load(Relaxed) {
        let n = work.made.load(Relaxed);
        work.making.store(true, Relaxed);
        let made = fs::create_dir(snapshot(n));
        work.making.store(false, Relaxed);
        match made {
            Err(e) if e.raw_os_error() != Some(libc::EEXIST) => return, // one may have been made by a kill's last request
            _ => work.made.fetch_add(1, Relaxed),
        };
        if n >= KEPT {
            let _ = fs::remove_dir(snapshot(n - KEPT)); // if the mount has died, the next call says so
        }
    }
}

fn clone(root: &Path, n: u64) -> PathBuf {
    root.join(format!(".clones/c{n}"))
}

/// What is written in a clone.
fn own(n: u64) -> Vec<u8> {
    format!("clone {n} ").into_bytes().repeat(4000)
}

/// Until the first error, like the others. What a kill's last request has done already is no error.
fn branch(root: &Path, work: &Work, _: u64) {
    let again = |made: std::io::Result<()>| match made {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(e),
        _ => Ok(()),
    };
    while !work.ends.load(Relaxed) {
        let n = work.cloned.load(Relaxed);
        let dir = clone(root, n);
        let made = again(fs::create_dir(&dir)).and_then(|()| {
            // Held open: the snapshot has to flush it.
            let file = File::create(dir.join("own"))?;
            file.write_all_at(&own(n), 0)?;
            again(fs::create_dir(dir.join(".snapshots/s")))?;
            file.sync_all()
        });
        if made.is_err() {
            return;
        }
        work.cloned.store(n + 1, Relaxed);
        if n >= CLONES_KEPT {
            let _ = fs::remove_dir(clone(root, n - CLONES_KEPT)); // as above
        }
    }
}

/// The last clones are there, with what was written in them; their snapshots too.
fn prove_clones(root: &Path, cloned: u64) {
    for n in cloned.saturating_sub(CLONES_KEPT)..cloned {
        for file in ["own", ".snapshots/s/own"] {
            let path = clone(root, n).join(file);
            let found = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            assert!(found == own(n), "{} is not as it was", path.display());
        }
        assert!(clone(root, n).join("0-0").exists(), "clone {n} has not what its line had");
    }
}

fn wait_flusher(daemon: u32, other_than: u32) -> u32 {
    let found = || Some(flusher_of(daemon)).filter(|pid| *pid != 0 && *pid != other_than);
    wait("a flusher", || found().is_some());
    found().expect("it stays")
}

fn device_of(point: &Path) -> u32 {
    snapfs::fuse::mounts::at(point).expect("mountinfo").expect("mounted").device.1
}

fn signal(name: &str, pid: u32) {
    assert!(
        Command::new("kill").args([name, &pid.to_string()]).status().expect("kill").success(),
        "{name} {pid}"
    );
}

/// A process that nobody has waited for yet is gone all the same.
fn is_there(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// The kernel's list of FUSE connections, for root.
struct Connections(Option<PathBuf>);

impl Connections {
    fn new(p: &Place) -> Connections {
        let dir = p.at("connections");
        fs::create_dir(&dir).expect("mkdir");
        let mounted = is_root()
            && Command::new("mount")
                .args(["-t", "fusectl", "none"])
                .arg(&dir)
                .status()
                .is_ok_and(|s| s.success());
        Connections(mounted.then_some(dir))
    }
    fn has(&self, device: u32) -> bool {
        self.0.as_ref().is_some_and(|dir| dir.join(device.to_string()).exists())
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        if let Some(dir) = &self.0 {
            let _ = Command::new("umount").arg(dir).status(); // else it stays in a temporary directory
        }
    }
}
