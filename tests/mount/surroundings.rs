//! What happens around a mounted store: it is moved, covered, removed, copied, reached by another way, or the process
//! that serves it meets a limit. The store stays sound, or the daemon, `status` and `umount` say what was lost.

mod guard;
mod place;
mod raw;
mod tasks;

use guard::can_mount;
use place::{Loop, Place, Said, is_root, said, wait};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use tasks::TasksMax;

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
fn one_image_has_one_daemon_whatever_leads_to_it() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.ok(&["init", "disk.img", "--size", "64M"]);
    let Some(a) = Loop::over(&p.at("disk.img"), &[]) else { return };
    let Some(b) = Loop::over(&p.at("disk.img"), &[]) else { return };
    let Some(c) = Loop::over(std::path::Path::new(&b.0), &[]) else { return };
    fs::create_dir(p.at("other")).unwrap();
    let ways = ["disk.img", &a.0, &b.0, &c.0];
    for held in ways {
        p.ok(&["mount", held, "mnt"]);
        let pid = format!("process {} (", p.pid());
        for way in ways {
            let _second = Second(&p, "other");
            match way == held {
                // The same store once more is the same mount at another place.
                true => drop(p.ok(&["mount", way, "other"])),
                false => told(&p.run(&["mount", way, "other"]), 1, &["in use", &pid]),
            }
            told(&p.run(&["init", "--force", way]), 1, &["in use", &pid]);
            told(&p.run(&["check", "--repair", way]), 1, &[]);
        }
        write(&p, "file", held.as_bytes()).unwrap();
        p.umount();
    }
    // Readers share it, by any way.
    p.ok(&["mount", "disk.img", "mnt", "-o", "ro"]);
    p.ok(&["check", &a.0]);
    p.umount();
    assert!(p.run(&["check", "disk.img", "--data"]).code == 0);
}

#[test]
fn parts_of_one_file_are_stores_of_their_own() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    File::create(p.at("disk")).unwrap().set_len(128 << 20).unwrap();
    let part = |offset: &'static str| ["--offset", offset, "--sizelimit", "67108864"];
    let Some(a) = Loop::over(&p.at("disk"), &part("0")) else { return };
    let Some(b) = Loop::over(&p.at("disk"), &part("67108864")) else { return };
    let Some(c) = Loop::over(&p.at("disk"), &part("33554432")) else { return };
    fs::create_dir(p.at("other")).unwrap();
    let _second = Second(&p, "other");
    p.ok(&["init", &a.0]);
    p.ok(&["init", &b.0]);
    p.ok(&["mount", &a.0, "mnt"]);
    p.ok(&["mount", &b.0, "other"]);
    told(&p.run(&["init", "--force", &c.0]), 1, &["in use"]);
    write(&p, "file", b"1").unwrap();
    fs::write(p.at("other/file"), "2").unwrap();
    p.ok(&["umount", "other"]);
    p.umount();
}

fn cp(p: &Place, from: &str, to: &str) {
    let said = said(Command::new("cp").arg("-a").arg(p.at(from)).arg(p.at(to)));
    assert_eq!(said.code, 0, "{said:?}");
}

/// Writes over and over until it is told to end.
fn busy<T>(p: &Place, then: impl FnOnce() -> T) -> T {
    let end = std::sync::atomic::AtomicBool::new(false);
    let ordering = std::sync::atomic::Ordering::Relaxed;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = fastrand::Rng::with_seed(5);
            let mut round = 0;
            while !end.load(ordering) {
                let content: Vec<u8> = (0..random.usize(..100_000)).map(|_| random.u8(..)).collect();
                let _ = write(p, &format!("file {}", round % 40), &content);
                round += 1;
            }
        });
        let done = then();
        end.store(true, ordering);
        done
    })
}

#[test]
fn a_copy_of_a_store_in_use_is_known() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    fs::create_dir(p.at("other")).unwrap();
    p.mount("commit=1");
    write(&p, "kept", &vec![7; 1 << 20]).unwrap();
    for i in 0..40 {
        write(&p, &format!("file {i}"), b"first").unwrap();
    }
    busy(&p, || (0..4).for_each(|i| cp(&p, "store", &format!("copy {i}"))));
    // The original knows nothing of it.
    let status = p.json(&["status", "mnt", "--json"]);
    assert_eq!((&status["state"], &status["damage_known"]), (&"ok".into(), &false.into()), "{status}");
    p.ok(&["check", "mnt", "--data"]);
    p.umount();
    p.check();
    cp(&p, "store", "closed");
    for i in 0..4 {
        let copy = format!("copy {i}");
        for options in ["rw", "ro"] {
            told(&p.run(&["mount", &copy, "other", "-o", options]), 3, &["copy", "in use", "--repair"]);
        }
        // Before the repair, so that both look at the same bytes.
        let checked = p.run(&["check", &copy]);
        assert!(checked.code == 3 && checked.out.contains("in use"), "{checked:?}");
        assert_eq!(p.run(&["check", "--repair", "--dry-run", &copy]).code, 3);
        let repaired = p.run(&["check", "--repair", &copy]);
        if repaired.code != 0 {
            told(&p.run(&["mount", &copy, "other"]), 3, &["copy"]);
            continue;
        }
        // Nothing in what was proved is EIO.
        p.ok(&["mount", &copy, "other"]);
        let _second = Second(&p, "other");
        for file in fs::read_dir(p.at("other")).unwrap() {
            fs::read(file.unwrap().path()).unwrap();
        }
        p.ok(&["umount", "other"]);
    }
    // Nor does a copy of a closed store.
    p.ok(&["check", "closed"]);
    p.ok(&["mount", "closed", "other"]);
    assert_eq!(fs::read(p.at("other/kept")).unwrap(), vec![7; 1 << 20]);
    p.ok(&["umount", "other"]);
}

#[test]
fn a_store_that_was_not_closed_is_no_copy() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    write(&p, "file", b"1").unwrap();
    p.kill();
    fs::rename(p.at("store"), p.at("moved")).unwrap();
    p.ok(&["mount", "moved", "mnt"]);
    assert_eq!(fs::read(p.path("file")).unwrap(), b"1");
    p.kill();
    // The copy cannot be told from one that was made before.
    cp(&p, "moved", "copy");
    told(&p.run(&["mount", "copy", "mnt"]), 3, &["copy", "--repair"]);
    let repaired = p.run(&["check", "--repair", "copy"]);
    assert!(repaired.code == 0 && repaired.out.contains("in use"), "{repaired:?}");
    p.ok(&["check", "copy"]);
    p.ok(&["mount", "copy", "mnt"]);
    assert_eq!(fs::read(p.path("file")).unwrap(), b"1");
    p.umount();
}

#[test]
fn a_copy_of_an_image_in_use_is_known() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.ok(&["init", "disk.img", "--size", "64M"]);
    p.ok(&["mount", "disk.img", "mnt"]);
    write(&p, "file", b"1").unwrap();
    cp(&p, "disk.img", "copy.img");
    p.umount();
    cp(&p, "disk.img", "closed.img");
    told(&p.run(&["mount", "copy.img", "mnt"]), 3, &["copy", "--repair"]);
    assert_eq!(p.run(&["check", "copy.img"]).code, 3);
    // Another store in its place is none.
    p.ok(&["init", "--force", "copy.img"]);
    for image in ["closed.img", "copy.img"] {
        p.ok(&["mount", image, "mnt"]);
        p.umount();
    }
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
fn a_store_that_is_cut_short() {
    if !can_mount() {
        return;
    }
    for (store, file) in [("disk.img", "disk.img"), ("store", "store/seg/00000000")] {
        let p = Place::new();
        if store == "disk.img" {
            p.ok(&["init", store, "--size", "64M"]);
        }
        p.ok(&["mount", store, "mnt"]);
        write(&p, "before", &vec![1; 20 << 20]).unwrap();
        let image = File::options().write(true).open(p.at(file)).unwrap();
        image.set_len(if store == "disk.img" { 20 << 20 } else { 1 << 20 }).unwrap();
        let state = p.json(&["status", "mnt", "--json"])["state"].as_str().unwrap().to_string();
        assert!(state.contains("cut short"), "{store}: {state}");
        assert!(write(&p, "later", &vec![2; 100_000]).is_err(), "{store}: an fsync that is worth nothing");
        told(&p.run(&["umount", "mnt"]), 1, &["mnt", "unmounted", "cut short"]);
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

/// How long a command may take that a limit is in the way of.
const LIMITED_SECONDS: &str = "20";

/// The program under a limit, as `prlimit` takes it; code 124 if it does not end.
fn limited(p: &Place, limit: &str, args: &[&str]) -> Said {
    let mut command = Command::new("timeout");
    command.args(["-k", "1", LIMITED_SECONDS, "prlimit", limit, env!("CARGO_BIN_EXE_snapfs")]).args(args);
    said(p.settle(&mut command))
}

/// A mount under a limit works, or it is refused and leaves nothing behind. True if it works.
fn mounts_or_refuses(p: &Place, limit: &str, mounted: Said) -> bool {
    let there = || snapfs::fuse::mounts::at(&p.at("mnt")).unwrap().is_some();
    if limit.starts_with("--as") {
        // Where a later allocation fails the daemon ends at that moment, and its flusher takes the mount away.
        let worked = mounted.code == 0 && there();
        let began = !mounted.err.contains("while loading shared libraries");
        assert!(!began || mounted.code <= 1, "{limit}: {mounted:?}");
        assert!(!mounted.err.contains("panicked"), "{limit}: {mounted:?}");
        if mounted.code == 0 {
            p.run(&["umount", "mnt"]);
            let _ = snapfs::fuse::unmount(&p.at("mnt"), true);
        }
        wait("the end of the mount", || !there());
        return worked;
    }
    let there = there();
    if mounted.code == 0 {
        assert!(there, "{limit}");
        write(p, "file", &vec![3; 3 << 20]).unwrap();
        assert_eq!(fs::read(p.path("file")).unwrap(), vec![3; 3 << 20]);
        p.umount();
        return true;
    }
    assert!(mounted.code == 1 && !there, "{limit}: {mounted:?}, mounted: {there}");
    assert!(!mounted.err.contains("panicked"), "{limit}: {mounted:?}");
    false
}

/// Tries ever higher limits until a mount has worked three times: a low one is refused, a high one is enough.
fn climb(p: &Place, limits: impl Iterator<Item = String>, mount: &dyn Fn(&str) -> Said) {
    let (mut refused, mut worked) = (0, 0);
    for limit in limits {
        match mounts_or_refuses(p, &limit, mount(&limit)) {
            true => worked += 1,
            false => refused += 1,
        }
        if worked == 3 {
            break;
        }
    }
    p.check();
    assert!(refused > 0 && worked == 3, "{refused} refused, {worked} worked");
}

/// A store that lies in a mount of another: its path means that store, and not the mount.
#[test]
fn a_store_in_the_mount_of_another_is_that_store() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    fs::create_dir(p.at("host")).unwrap();
    p.ok(&["mount", "outer", "host"]);
    p.mount("");
    let uuid = |target: &str| p.json(&["info", target, "--json"])["uuid"].as_str().unwrap().to_string();
    p.ok(&["init", "host/image", "--size", "64M"]);
    for (name, to) in
        [("one", "host/inner"), ("two", "host/inner"), ("three", "host/image"), ("four", "host/image")]
    {
        write(&p, name, name.as_bytes()).unwrap();
        p.ok(&["create", "mnt", name, "--method", "clone", "--to", to]);
    }
    for (name, to, names) in [("five", "host/inner", 3), ("six", "host/image", 3)] {
        p.ok(&["create", "mnt", name, "--method", "background", "--to", to, "--wait"]);
        assert_eq!(p.json(&["list", to, "--json"]).as_array().unwrap().len(), names, "{to}");
        assert_ne!(uuid(to), uuid("host"), "{to}");
        told(&p.run(&["status", to]), 1, &[to, "is not mounted"]);
        p.ok(&["check", to, "--data"]);
    }
    assert_eq!(p.json(&["list", "host", "--json"]).as_array().map(Vec::len), Some(0));
    assert!(place::names(&p.at("host/.clones")).is_empty());
    // Mounted, by the daemon that has it.
    fs::create_dir(p.at("third")).unwrap();
    p.ok(&["mount", "host/inner", "third"]);
    assert_eq!(
        p.json(&["status", "host/inner", "--json"])["mountpoint"],
        p.json(&["status", "third", "--json"])["mountpoint"]
    );
    told(&p.run(&["check", "host/inner", "--repair"]), 1, &["it is mounted"]);
    p.ok(&["umount", "third"]);
    p.ok(&["check", "host/inner", "--repair"]);
    p.umount();
    p.ok(&["umount", "host"]);
}

#[test]
fn few_descriptors_are_no_damage() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    for n in 0..20 {
        write(&p, &format!("file {n}"), &vec![n; 100_000]).unwrap();
    }
    p.umount();
    for n in 3..24 {
        let limit = format!("--nofile={n}:{n}");
        let out = format!("out {n}");
        for verb in
            [&["check", "store", "--data"][..], &["salvage", "store", &out], &["check", "store", "--repair"]]
        {
            let found = limited(&p, &limit, verb);
            // Below, the program cannot be loaded.
            let refused = found.code == 1 && found.err.contains("Too many open files") || n < 6;
            assert!(refused || found.code == 0, "{limit} {verb:?}: {found:?}");
            assert!(n < 16 || found.code == 0, "{limit} {verb:?}: {found:?}");
        }
    }
    // What the process may take it takes.
    assert_eq!(limited(&p, "--nofile=8:1024", &["check", "store", "--data"]).code, 0);
    climb(&p, (8..80).step_by(4).map(|n| format!("--nofile={n}:{n}")), &|limit| {
        limited(&p, limit, &["mount", "store", "mnt"])
    });
}

#[test]
fn more_segments_than_descriptors_are_no_damage() {
    // A mount is refused with fewer descriptors than 64.
    const PARTS: u64 = 70;
    const PARTS_AT_ONCE: u64 = 7;
    const PART_BYTES: u64 = 1 << 30;
    if !can_mount() {
        return;
    }
    let p = Place::new();
    let host = snapfs::fuse::mounts::containing(&fs::canonicalize(&p.dir.0).unwrap()).unwrap();
    if raw::df(&p.dir.0).2 < 2 * PARTS_AT_ONCE * PART_BYTES || host.is_some_and(|m| m.fstype == "tmpfs") {
        return eprintln!("SKIPPED: needs {PARTS_AT_ONCE} GiB on a disk twice");
    }
    let content = |n: u64| vec![n as u8 + 1; 100_000];
    for first in (0..PARTS).step_by(PARTS_AT_ONCE as usize) {
        p.mount("");
        let file = File::options().create(true).truncate(false).write(true).open(p.path("long")).unwrap();
        for n in first..first + PARTS_AT_ONCE {
            file.write_all_at(&content(n), n * PART_BYTES).unwrap();
            file.sync_all().unwrap();
            // Space up to the next, so that this is in another segment.
            raw::allocate(&file, 0, n * PART_BYTES, PART_BYTES).unwrap();
        }
        drop(file);
        p.umount();
        for segment in fs::read_dir(p.at("store/seg")).unwrap() {
            let (segment, sparse) = (segment.unwrap().path(), p.at("sparse"));
            let copied = Command::new("cp").arg("--sparse=always").args([&segment, &sparse]).status();
            assert!(copied.unwrap().success());
            fs::rename(sparse, segment).unwrap();
        }
    }
    let segments = fs::read_dir(p.at("store/seg")).unwrap().count() as u64;
    assert!(segments >= PARTS, "{segments} segments");
    let (check, salvage) = (&["check", "store", "--data"][..], &["salvage", "store", "--list"][..]);
    for (n, verbs) in [(8, &[check][..]), (16, &[check, salvage]), (64, &[])] {
        let limit = format!("--nofile={n}:{n}");
        for verb in verbs {
            let found = limited(&p, &limit, verb);
            let refused = found.code == 1 && found.err.contains("Too many open files");
            assert!(n < 16 && refused || found.code == 0, "{limit} {verb:?}: {found:?}");
        }
        let mounted = limited(&p, &limit, &["mount", "store", "mnt"]);
        if n < 64 {
            told(&mounted, 1, &["open files", "ulimit -n"]);
            continue;
        }
        assert_eq!(mounted.code, 0, "{mounted:?}");
        let file = File::open(p.path("long")).unwrap();
        for n in (0..PARTS).rev().chain(0..PARTS) {
            let mut found = vec![0; 100_000];
            file.read_exact_at(&mut found, n * PART_BYTES).unwrap();
            assert!(found == content(n), "part {n}");
        }
        drop(file);
        p.snapshot("s");
        assert!(mounts_or_refuses(&p, &limit, mounted));
    }
    p.check();
}

#[test]
fn short_files_are_refused_and_kill_nobody() {
    if !can_mount() || !is_root() {
        return;
    }
    let p = Place::new();
    let mount = |limit: &str, store: &str| limited(&p, limit, &["mount", store, "mnt"]);
    p.ok(&["init", "store"]);
    p.ok(&["init", "disk.img", "--size", "64M"]);
    for store in ["store", "disk.img"] {
        told(&mount("--fsize=1000000:1000000", store), 1, &[store, "ulimit -f"]);
        assert_eq!(mount("--fsize=1000000:unlimited", store).code, 0, "the soft limit is raised");
        p.umount();
        assert_eq!(limited(&p, "--fsize=1000000:1000000", &["check", store]).code, 0);
    }
    told(&limited(&p, "--fsize=1000000:1000000", &["init", "new.img", "--size", "64M"]), 1, &["ulimit -f"]);
    assert!(!p.at("new.img").exists());
}

#[test]
fn little_memory_is_refused_and_hangs_nobody() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.ok(&["init", "store"]);
    // With less the program itself has no room to begin.
    let limits = (0..60).map(|n| format!("--as={}", (20u64 << 20) * (100 + 16 * n) / 100));
    climb(&p, limits, &|limit| limited(&p, limit, &["mount", "store", "mnt"]));
}

/// The program in the group; code 124 if it does not end.
fn run_in(group: &TasksMax, p: &Place, tasks: u32, args: &[&str]) -> Said {
    group.limit(tasks);
    let enter = "echo 0 >\"$0/cgroup.procs\"; exec timeout -k 1 \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-ec", enter]).arg(&group.dir).args([LIMITED_SECONDS, env!("CARGO_BIN_EXE_snapfs")]);
    said(p.settle(&mut command).args(args))
}

#[test]
fn few_tasks_are_refused_and_hang_nobody() {
    if !can_mount() || !is_root() {
        return;
    }
    let Some(group) = TasksMax::new() else { return };
    let p = Place::new();
    p.mount("");
    write(&p, "content", &vec![7; 1 << 20]).unwrap();
    p.umount();
    let mut worked = 0;
    // The shell and `timeout` are one task.
    for tasks in 2..64 {
        let limit = format!("pids.max of {tasks}");
        for verb in [&["check", "store", "--data"][..], &["salvage", "store", "--list"]] {
            let found = run_in(&group, &p, tasks, verb);
            assert!(found.code <= 1 && (found.code == 0 || !found.err.is_empty()), "{limit}: {found:?}");
        }
        let mounted = run_in(&group, &p, tasks, &["mount", "store", "mnt"]);
        if mounted.code == 0 {
            // A request that gets no thread is refused.
            let mut make = Command::new("timeout");
            let made = said(make.args([LIMITED_SECONDS, "mkdir"]).arg(p.past("s", "")));
            assert!(made.code <= 1, "{limit}: {made:?}");
            if made.code == 0 {
                fs::remove_dir(p.past("s", "")).unwrap();
                worked += 1;
            }
        }
        mounts_or_refuses(&p, &limit, mounted);
        wait("the end of all of the group", || group.is_empty());
        if worked == 3 {
            break;
        }
    }
    p.check();
    assert_eq!(worked, 3);
}

#[test]
fn few_threads_are_refused_and_hang_nobody() {
    const USER: &str = "54321";
    if !can_mount() || !is_root() || said(Command::new("fusermount3").arg("-V")).code != 0 {
        return eprintln!("SKIPPED: needs root and fusermount3");
    }
    let p = Place::new();
    let own = |path: &str| assert_eq!(said(Command::new("chown").args(["-R", USER]).arg(p.at(path))).code, 0);
    p.ok(&["init", "store"]);
    fs::set_permissions(&p.dir.0, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    ["store", "mnt", "run"].into_iter().for_each(own);
    for n in 1..40 {
        let mut command = Command::new("timeout");
        command.args([
            "-k",
            "1",
            LIMITED_SECONDS,
            "setpriv",
            "--reuid",
            USER,
            "--regid",
            USER,
            "--clear-groups",
        ]);
        command.args([
            "prlimit",
            &format!("--nproc={n}:{n}"),
            env!("CARGO_BIN_EXE_snapfs"),
            "mount",
            "store",
            "mnt",
        ]);
        let mounted = said(p.settle(&mut command));
        let there = snapfs::fuse::mounts::at(&p.at("mnt")).unwrap().is_some();
        assert!(there == (mounted.code == 0) && mounted.code <= 1, "{n}: {mounted:?}, mounted: {there}");
        if there {
            let mut end = Command::new("setpriv");
            end.args([
                "--reuid",
                USER,
                "--regid",
                USER,
                "--clear-groups",
                env!("CARGO_BIN_EXE_snapfs"),
                "umount",
                "mnt",
            ]);
            let end = said(p.settle(&mut end));
            assert_eq!(end.code, 0, "{n}: {end:?}");
        }
    }
}
