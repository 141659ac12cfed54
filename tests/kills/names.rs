//! Names: files are made, renamed and deleted, and snapshots and clones taken, each counted when the system call has returned.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use crate::harness::Program;
use crate::place::{Place, names};

/// Files that live for a while, and snapshots of them.
pub struct Names {
    done: u64,
    proved: u64,
    worker: Option<JoinHandle<u64>>,
    root: PathBuf,
}

/// Files that there are at a time.
const ALIVE: u64 = 40;
/// A snapshot is taken after so many steps.
const EACH: u64 = 25;
/// Snapshots that there are at a time.
const KEPT: u64 = 4;

impl Names {
    pub fn new(p: &Place) -> Option<Names> {
        fs::create_dir(p.path("names")).expect("mkdir");
        Some(Names { done: 0, proved: 0, worker: None, root: p.path("") })
    }
}

fn content(n: u64) -> String {
    format!("{n} ").repeat((n * 31 % 2500) as usize + 1)
}

fn file(root: &Path, n: u64) -> PathBuf {
    root.join(format!("names/f{n}"))
}

fn snapshot(root: &Path, n: u64) -> PathBuf {
    root.join(format!(".snapshots/s{n}"))
}

fn clone(root: &Path, n: u64) -> PathBuf {
    root.join(format!(".clones/c{n}"))
}

/// What another try finds done already is no error.
fn again(done: io::Result<()>) -> io::Result<()> {
    done.or_else(|e| {
        let known = [io::ErrorKind::NotFound, io::ErrorKind::AlreadyExists].contains(&e.kind());
        if known { Ok(()) } else { Err(e) }
    })
}

fn step(root: &Path, n: u64) -> io::Result<()> {
    let new = root.join("names/new");
    fs::write(&new, content(n))?;
    fs::rename(&new, file(root, n))?;
    if n > ALIVE {
        again(fs::remove_file(file(root, n - ALIVE)))?;
    }
    if n.is_multiple_of(EACH) {
        again(fs::create_dir(snapshot(root, n)))?;
        if n > KEPT * EACH {
            again(fs::remove_dir(snapshot(root, n - KEPT * EACH)))?;
        }
        again(fs::create_dir(clone(root, n)))?;
        fs::write(clone(root, n).join("own"), content(n))?;
        if n > KEPT * EACH {
            again(fs::remove_dir(clone(root, n - KEPT * EACH)))?;
        }
    }
    root.join("names").symlink_metadata().map(drop) // or what was not found was the mount
}

/// The directory must hold exactly the files that are alive after step `n`, and, if the next step may have begun, what
/// it made. Returns if it did.
fn prove(dir: &Path, n: u64, next_may_be_there: bool) {
    let found: BTreeSet<String> = names(&dir.join("names")).into_iter().collect();
    let alive: BTreeSet<String> = (n.saturating_sub(ALIVE) + 1..=n).map(|n| format!("f{n}")).collect();
    let next = [String::from("new"), format!("f{}", n + 1)];
    let oldest = format!("f{}", n.saturating_sub(ALIVE) + 1);
    for name in alive.symmetric_difference(&found) {
        let excused = next.contains(name) || *name == oldest && found.contains(&next[1]);
        assert!(next_may_be_there && excused, "{}: {name} after step {n}", dir.display());
    }
    for name in alive.intersection(&found) {
        let number = name[1..].parse().expect("a number");
        let text = fs::read_to_string(dir.join("names").join(name)).expect("read");
        assert!(text == content(number), "{} of {} is not as it was", name, dir.display());
    }
}

impl Program for Names {
    fn name(&self) -> String {
        "names and snapshots".into()
    }

    fn start(&mut self, _: &Place) {
        let (root, from) = (self.root.clone(), self.done);
        self.worker = Some(std::thread::spawn(move || {
            (from + 1..).find(|n| step(&root, *n).is_err()).map_or(from, |failed| failed - 1)
        }));
    }

    fn stop(&mut self) {
        let done = self.worker.take().expect("started").join().expect("the worker");
        self.done = done;
    }

    fn prove(&mut self, _: &Place) -> u64 {
        prove(&self.root, self.done, true);
        let last = self.done / EACH * EACH;
        // A step may have failed after the deletion of the oldest snapshot.
        let first = last.saturating_sub((KEPT - 2) * EACH).max(EACH);
        for n in (first..=last).step_by(EACH as usize) {
            prove_snapshot(&self.root, n);
        }
        let new = self.done - self.proved;
        self.proved = self.done;
        new
    }
}

fn prove_snapshot(root: &Path, n: u64) {
    assert!(snapshot(root, n).is_dir(), "snapshot {n} is gone");
    prove(&snapshot(root, n), n, false);
    prove(&clone(root, n), n, false);
    let own = fs::read_to_string(clone(root, n).join("own")).expect("read");
    assert!(own == content(n), "what was written in clone {n} is not as it was");
}
