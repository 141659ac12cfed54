//! Mounts that meet: at the same time, one after the other, over each other, by snapshots of one store; and commands that
//! meet a daemon which is stopped, ends, may start no thread, or goes on out of sight.

mod guard;
mod place;
mod tasks;

use guard::can_mount;
use place::{Place, Said, names, refuses, said, wait};
use snapfs::fuse::mounts;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::Command;
use tasks::TasksMax;

fn is_root() -> bool {
    snapfs::sys::process::effective_uid() == 0
}

/// The refusal must be a failure in one line that contains all of `words`.
#[track_caller]
fn told(said: &Said, code: i32, words: &[&str]) {
    assert_eq!(said.code, code, "{said:?}");
    for word in words {
        assert!(said.err.contains(word), "'{word}' in {said:?}");
    }
    assert!(said.err.starts_with("snapfs: ") && said.err.lines().count() == 1, "{said:?}");
}

fn is_mounted(point: &Path) -> bool {
    mounts::at(point).unwrap().is_some()
}

/// A further mount in a place, which goes with the test.
struct Second<'a>(&'a Place, &'a str);

impl<'a> Second<'a> {
    fn new(p: &'a Place, name: &'a str) -> Second<'a> {
        let _ = fs::create_dir(p.at(name));
        Second(p, name)
    }
}

impl Drop for Second<'_> {
    fn drop(&mut self) {
        if mounts::at(&self.0.at(self.1)).is_ok_and(|m| m.is_some()) {
            self.0.run(&["umount", "--lazy", "--timeout", "10", self.1]);
        }
    }
}

fn signal(signal: &str, pid: &str) {
    assert!(Command::new("kill").args([signal, pid]).status().unwrap().success());
}

#[test]
fn snapshots_of_one_store_outlive_each_other() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    let (_a, _b) = (Second::new(&p, "a"), Second::new(&p, "b"));
    p.mount("");
    fs::write(p.path("big"), vec![7; 4 << 20]).unwrap();
    p.snapshot("one");
    p.snapshot("two");
    p.umount();
    let mount = |name: &str, point: &str| p.ok(&["mount", "store", point, "--snapshot", name]);
    mount("one", "mnt");
    mount("two", "a");
    let mut open = File::open(p.at("a/big")).unwrap();
    p.umount();
    assert!(!is_mounted(&p.at("mnt")) && is_mounted(&p.at("a")));
    let mut content = Vec::new();
    open.read_to_end(&mut content).unwrap();
    assert_eq!(content, vec![7; 4 << 20]);
    // It is still the daemon to ask, and the store is still open.
    mount("one", "b");
    told(&p.run(&["mount", "store", "mnt"]), 1, &["in use by"]);
    drop(open);
    p.ok(&["umount", "a"]);
    assert_eq!(fs::read(p.at("b/big")).unwrap().len(), 4 << 20);
    p.ok(&["umount", "b"]);
    // The last one closes the store, which is waited for.
    p.mount("");
    p.umount();
    // A daemon that is told to end takes all with it, the first being gone or not.
    for first_goes in [false, true] {
        mount("one", "mnt");
        mount("two", "a");
        let pid = p.pid().to_string();
        if first_goes {
            p.umount();
        }
        signal("-TERM", &pid);
        wait("the end of the daemon", || p.json(&["status", "--json"]) == serde_json::json!([]));
        assert!(!is_mounted(&p.at("a")));
    }
    assert_eq!(names(&p.at("run")), Vec::<String>::new());
}

#[test]
fn nothing_is_mounted_over_stores_and_snapshots() {
    if !can_mount() || !is_root() {
        return;
    }
    let p = Place::new();
    let _other = Second::new(&p, "other");
    p.ok(&["init", "second"]);
    fs::create_dir(p.at("empty")).unwrap();
    p.mount("");
    fs::create_dir_all(p.path("dir/below")).unwrap();
    p.snapshot("one");
    for (store, point, word) in [
        ("store", "store", "the store itself"),
        ("store", "store/seg", "inside its store"),
        ("store", ".", "above its store"),
        ("store", "second", "a store itself"),
        ("empty", "second", "a store itself"),
        ("missing", "store", "a store itself"),
        ("store", "mnt/dir", "inside a mount of store"),
        ("store", "mnt/.snapshots/one", "inside a mount of store"),
        ("store", "mnt/.snapshots", "a mount of store"),
        ("second", "mnt/.snapshots", "the snapshots of the mount"),
        ("second", "mnt/dir/.snapshots", "the snapshots of the mount"),
    ] {
        told(&p.run(&["mount", store, point]), 1, &[word]);
        told(&p.run(&["mount", store, point, "-o", "ro"]), 1, &[word]);
        assert!(!p.at("missing").exists());
    }
    assert_eq!(names(&p.at("empty")), Vec::<String>::new());
    assert_eq!(names(&p.path(".snapshots")), ["one"]);
    // Elsewhere in a mount there is room for another store; and a directory may be called as one of a store's.
    fs::create_dir_all(p.at("other/seg")).unwrap();
    p.ok(&["mount", "second", "mnt/dir"]);
    told(&p.run(&["umount", "mnt"]), 1, &["mnt is busy", "another mount is below it", "mnt/dir"]);
    p.ok(&["umount", "mnt/dir"]);
    p.ok(&["mount", "second", "other"]);
    p.ok(&["umount", "other"]);
    p.umount();
    p.check();
}

#[test]
fn two_first_mounts_at_the_same_time() {
    if !can_mount() || !is_root() {
        return;
    }
    let p = Place::new();
    let _other = Second::new(&p, "other");
    for round in 0..6 {
        let mut all = ["mnt", "other"].map(|point| p.command(&["mount", "store", point]).spawn().unwrap());
        assert!(all.iter_mut().all(|mount| mount.wait().unwrap().success()), "round {round}");
        fs::write(p.path("file"), round.to_string()).unwrap();
        assert_eq!(fs::read_to_string(p.at("other/file")).unwrap(), round.to_string());
        p.ok(&["umount", "other"]);
        p.umount();
    }
    assert_eq!(names(&p.at("run")), Vec::<String>::new(), "nothing is left of the commands");
}

#[test]
fn a_mount_follows_a_signal_at_once() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    let second = "second".to_string();
    p.ok(&["init", "second"]);
    p.mount("");
    let mut store = "store";
    for round in 0..30 {
        fs::write(p.path("file"), round.to_string()).unwrap();
        let pid = p.pid().to_string();
        signal(["-TERM", "-INT"][round % 2], &pid);
        // Another store at the same place as well.
        store =
            if round % 3 == 2 { [second.as_str(), "store"][usize::from(store != "store")] } else { store };
        p.ok(&["mount", store, "mnt"]);
        assert_ne!(p.pid().to_string(), pid, "round {round}");
    }
    p.umount();
}

#[test]
fn properties_of_a_stopped_daemon() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fs::write(p.path("file"), "x").unwrap();
    p.ok(&["get", "compression", "mnt/file"]);
    let pid = p.pid().to_string();
    signal("-STOP", &pid);
    let said = [
        &["get", "compression", "mnt"][..],
        &["get", "compression", "mnt/file", "mnt"],
        &["set", "compression=zstd", "mnt"],
    ]
    .map(|args| {
        said(p.settle(Command::new("timeout").args(["60", env!("CARGO_BIN_EXE_snapfs")]).args(args)))
    });
    signal("-CONT", &pid);
    for said in said {
        assert!(said.code == 1 && said.err.contains(&format!("kill -CONT {pid}")), "{said:?}");
    }
    p.umount();
}

#[test]
fn a_daemon_without_threads_takes_commands() {
    if !can_mount() || !is_root() {
        return;
    }
    let Some(group) = TasksMax::new() else { return };
    let p = Place::new();
    let _other = Second::new(&p, "other");
    p.mount("");
    fs::write(group.dir.join("cgroup.procs"), p.pid().to_string()).unwrap();
    group.limit(1);
    p.ok(&["create", "mnt", "one"]);
    p.ok(&["status", "mnt"]);
    p.ok(&["info", "store"]);
    p.ok(&["check", "store"]);
    assert!(p.ok(&["list", "store"]).contains("one "));
    p.ok(&["mount", "store", "other"]);
    p.ok(&["umount", "other"]);
    let mut refused = Command::new("timeout");
    refused.args(["60", env!("CARGO_BIN_EXE_snapfs"), "mount", "store", "other", "--snapshot", "one"]);
    told(&said(p.settle(&mut refused)), 1, &["pids.max"]);
    p.ok(&["delete", "mnt", "one"]);
    p.umount();
    wait("the end of all of the group", || group.is_empty());
    p.check();
}

#[test]
fn a_mount_in_use_goes_out_of_sight() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    let _other = Second::new(&p, "other");
    p.mount("");
    fs::write(p.path("file"), "content").unwrap();
    let mut user =
        Command::new("sleep").arg("1000").stdin(File::open(p.path("file")).unwrap()).spawn().unwrap();
    let who = format!("process {} (sleep)", user.id());
    let said = p.run(&["umount", "-l", "mnt", "--timeout", "1000"]);
    assert!(said.code == 0 && said.err.contains(&who), "{said:?}");
    assert!(!is_mounted(&p.at("mnt")));
    for point in ["mnt", "other"] {
        told(&p.run(&["mount", "store", point]), 1, &["in use by process", "unmounted there", &who]);
    }
    user.kill().unwrap();
    user.wait().unwrap();
    p.mount("");
    // Without users it is waited for as ever.
    p.ok(&["umount", "-l", "mnt"]);
    p.check();
}

#[test]
fn a_read_only_place_takes_no_snapshot() {
    if !can_mount() || !is_root() {
        return;
    }
    let p = Place::new();
    let _other = Second::new(&p, "other");
    p.mount("");
    p.ok(&["create", "mnt", "one"]);
    p.ok(&["mount", "store", "other", "-o", "ro"]);
    let refused = |target: &str| {
        refuses(fs::create_dir(p.at(target).join(".snapshots/x")), libc::EROFS);
        told(&p.run(&["create", target, "x"]), 1, &[target, "read-only"]);
        told(&p.run(&["rename", target, "one", "x"]), 1, &[target, "read-only"]);
        told(&p.run(&["delete", target, "one"]), 1, &[target, "read-only"]);
        told(&p.run(&["set", "compression=zstd", target]), 1, &[target, "read-only"]);
    };
    refused("other");
    p.ok(&["create", "mnt", "two"]);
    p.ok(&["umount", "other"]);
    p.ok(&["mount", "store", "mnt", "-o", "remount,ro"]);
    refused("mnt");
    told(&p.run(&["create", "store", "x"]), 1, &["store", "read-only"]);
    p.ok(&["mount", "store", "mnt", "-o", "remount,rw"]);
    p.ok(&["rename", "mnt", "one", "three"]);
    p.umount();
}

#[test]
fn what_the_host_shows_of_a_mount_leads_to_the_store() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.ok(&["init", "store"]);
    std::os::unix::fs::symlink("store", p.at("link")).unwrap();
    let real = fs::canonicalize(p.at("store")).unwrap();
    for store in ["store", "link", "./store/"] {
        p.ok(&["mount", store, "mnt"]);
        assert_eq!(mounts::at(&p.at("mnt")).unwrap().unwrap().source, real.as_os_str(), "{store}");
        p.umount();
    }
    // As mount(8) names it, and by names of what is there.
    p.ok(&["store", "mnt", "-o", "ro"]);
    p.umount();
    p.ok(&["store", "mnt"]);
    p.umount();
}

#[test]
fn a_log_file_is_no_part_of_the_store() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.ok(&["init", "store"]);
    p.ok(&["init", "disk.img", "--size", "64M"]);
    let before = p.fingerprint();
    for (store, log) in [("store", "store/log"), ("store", "store/seg/new"), ("disk.img", "disk.img")] {
        told(&p.run(&["mount", store, "mnt", "--log", log]), 1, &[log, "in the store"]);
    }
    assert_eq!(p.fingerprint(), before);
    p.ok(&["mount", "disk.img", "mnt"]);
    p.umount();
}
