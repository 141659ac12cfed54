//! What happens around a mounted store: it is moved, covered, removed, copied, reached by another way, or the process
//! that serves it meets a limit. The store stays sound, or the daemon, `status` and `umount` say what was lost.

mod guard;
mod place;

use guard::can_mount;
use place::{Place, Said, said, wait};
use std::fs::{self, File};
use std::io::Write;
use std::process::{Command, Stdio};

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

/// A second mount in a place, which goes with the test.
struct Second<'a>(&'a Place, &'a str);

impl Drop for Second<'_> {
    fn drop(&mut self) {
        self.0.run(&["umount", "--lazy", "--timeout", "10", self.1]);
    }
}

/// Writes a file and makes it durable.
fn write(p: &Place, name: &str, content: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(p.path(name))?;
    file.write_all(content)?;
    file.sync_all()
}

#[test]
fn a_moved_store_stays_the_store() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    write(&p, "before", b"1").unwrap();
    fs::rename(p.at("store"), p.at("old")).unwrap();
    fs::create_dir(p.at("other")).unwrap();
    let _second = Second(&p, "other");
    p.ok(&["mount", "store", "other"]);
    write(&p, "after", &vec![7; 40 << 20]).unwrap();
    fs::write(p.at("other/file"), vec![8; 40 << 20]).unwrap();
    p.snapshot("s");
    assert_eq!(p.json(&["status", "mnt", "--json"])["store"], p.at("old").to_str().unwrap());
    assert_eq!(p.json(&["status", "other", "--json"])["store"], p.at("store").to_str().unwrap());
    assert!(p.ok(&["list", "old"]).contains("s ") && p.run(&["list", "store"]).out.is_empty());
    assert!(p.ok(&["status"]).contains("moved"));
    p.ok(&["umount", "other"]);
    p.umount();
    for store in ["store", "old"] {
        p.ok(&["check", store, "--data"]);
    }
    p.ok(&["mount", "old", "mnt"]);
    assert_eq!(fs::read(p.path("after")).unwrap(), vec![7; 40 << 20]);
    p.umount();
}

#[test]
fn a_covered_store_is_served_and_told() {
    if !can_mount() || !is_root() {
        return;
    }
    let p = Place::new();
    p.mount("");
    let tmpfs =
        |args: &[&str]| assert_eq!(said(Command::new(args[0]).args(&args[1..]).arg(p.at("store"))).code, 0);
    let room = p.number("available_bytes");
    tmpfs(&["mount", "-t", "tmpfs", "-o", "size=1M", "none"]);
    let written = write(&p, "file", &vec![7; 20 << 20]);
    let (status, now) = (p.json(&["status", "mnt", "--json"]), p.number("available_bytes"));
    tmpfs(&["umount"]);
    written.unwrap();
    assert_eq!(status["store_covered"], true);
    assert!(now > room / 2, "{now} of {room}: the room is that of the store");
    p.umount();
    p.check();
}

#[test]
fn a_store_whose_files_are_removed() {
    if !can_mount() {
        return;
    }
    for gone in ["store", "store/seg", "store/seg/00000000", "store/log", "store/super.a", "disk.img"] {
        let p = Place::new();
        let store = if gone == "disk.img" { gone } else { "store" };
        if store == "disk.img" {
            p.ok(&["init", store, "--size", "64M"]);
        }
        let log = p.at("log");
        p.ok(&["mount", store, "mnt", "--log", log.to_str().unwrap(), "-o", "commit=3600"]);
        write(&p, "before", &[1; 100_000]).unwrap();
        let _ = fs::remove_dir_all(p.at(gone)).or_else(|_| fs::remove_file(p.at(gone)));
        let state = p.json(&["status", "mnt", "--json"])["state"].as_str().unwrap().to_string();
        assert!(state.contains("removed"), "{gone}: {state}");
        fs::write(p.path("later"), vec![2; 100_000]).unwrap();
        if gone != "store/super.a" {
            assert!(
                File::open(p.path("later")).unwrap().sync_all().is_err(),
                "{gone}: an fsync that is worth nothing"
            );
        }
        told(&p.run(&["umount", "mnt"]), 1, &["mnt", "unmounted", "removed"]);
        wait("the daemon's words", || p.log().contains("removed"));
    }
}

#[test]
fn a_daemon_that_lost_its_store_fails() {
    if !can_mount() {
        return;
    }
    for touched in [true, false] {
        let p = Place::new();
        let mut daemon = p.command(&["mount", "-f", "store", "mnt"]);
        let mut daemon = daemon.stderr(Stdio::piped()).spawn().unwrap();
        wait("the mount", || p.run(&["status", "mnt"]).code == 0);
        fs::write(p.path("file"), "x").unwrap();
        fs::remove_dir_all(p.at("store")).unwrap();
        if touched {
            fs::write(p.path("later"), "x").unwrap();
        }
        assert_eq!(said(Command::new("umount").arg(p.at("mnt"))).code, 0);
        let mut words = String::new();
        std::io::Read::read_to_string(daemon.stderr.as_mut().unwrap(), &mut words).unwrap();
        assert_eq!(daemon.wait().unwrap().code(), Some(1), "{words}");
        assert!(words.contains("removed"), "{words}");
    }
}
