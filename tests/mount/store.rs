//! The whole program on real mounts: what a user does by hand, what the kernel alone can show, and what a crash leaves.
//!
//! Each test has a store, a mount and a daemon of its own. The clock decides nothing: what takes time is waited for.

mod guard;
mod layout;
mod place;
mod raw;

use guard::can_mount;
use place::{Place, errno, names, refuses, said, wait};
use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).expect("open")
}

fn is_root() -> bool {
    snapfs::sys::process::effective_uid() == 0
}

/// Content that tells its place: no two blocks are equal.
fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..len).map(|_| random.u8(..)).collect()
}

#[test]
fn snapshots_by_hand() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fs::create_dir(p.path("dir")).unwrap();
    fs::write(p.path("dir/f"), "one").unwrap();
    p.snapshot("first");
    fs::write(p.path("dir/f"), "two, longer").unwrap();
    fs::write(p.path("dir/g"), "new").unwrap();
    p.snapshot("a second");
    fs::remove_dir_all(p.path("dir")).unwrap();
    p.snapshot("9third");
    assert_eq!(names(&p.path(".snapshots")), ["first", "a second", "9third"], "oldest first");
    assert_eq!(names(&p.at("mnt")), Vec::<String>::new(), "the directory is hidden");
    assert_eq!(fs::read_to_string(p.past("first", "dir/f")).unwrap(), "one");
    assert_eq!(fs::read_to_string(p.past("a second", "dir/f")).unwrap(), "two, longer");
    assert_eq!(names(&p.past("first", "dir")), ["f"]);
    assert_eq!(names(&p.past("9third", "")), Vec::<String>::new());
    let diff = said(Command::new("diff").arg("-r").arg(p.past("first", "")).arg(p.past("a second", "")));
    assert!(diff.code == 1 && diff.out.contains("Only in") && diff.out.contains(": g"), "{diff:?}");

    fs::rename(p.past("a second", ""), p.past("b", "")).unwrap();
    assert_eq!(names(&p.path(".snapshots")), ["first", "b", "9third"], "its age stays");
    assert_eq!(fs::read_to_string(p.past("b", "dir/g")).unwrap(), "new");
    refuses(fs::metadata(p.past("a second", "")), libc::ENOENT);
    fs::remove_dir(p.past("first", "")).unwrap();
    refuses(fs::metadata(p.past("first", "dir/f")), libc::ENOENT);
    assert_eq!(fs::read_to_string(p.past("@latest", "../b/dir/f")).unwrap(), "two, longer");
    assert_eq!(names(&p.past("@prev", "dir")).len(), 2);
    assert_eq!(names(&p.path(".snapshots")).len(), 2, "names for a look-up alone are not listed");
    p.umount();
    p.check();
    p.mount("");
    assert_eq!(names(&p.path(".snapshots")), ["b", "9third"]);
    assert_eq!(fs::read_to_string(p.past("b", "dir/f")).unwrap(), "two, longer");
}

#[test]
fn every_refusal_in_snapshots_has_its_number() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fs::create_dir(p.path("dir")).unwrap();
    fs::write(p.path("f"), "x").unwrap();
    fs::write(p.path("dir/f"), "x").unwrap();
    p.snapshot("one");
    let snapdir = p.path(".snapshots");
    for bad in ["@x", ".x", "@GMT-2026.01.01-00.00.00"] {
        refuses(fs::create_dir(snapdir.join(bad)), libc::EINVAL);
        refuses(fs::rename(snapdir.join("one"), snapdir.join(bad)), libc::EINVAL);
    }
    refuses(fs::create_dir(snapdir.join("n".repeat(256))), libc::ENAMETOOLONG);
    fs::create_dir(snapdir.join("n".repeat(255))).unwrap();
    fs::remove_dir(snapdir.join("n".repeat(255))).unwrap();
    refuses(fs::create_dir(snapdir.join("one")), libc::EEXIST);
    refuses(fs::create_dir(snapdir.join("@latest")), libc::EEXIST);
    refuses(fs::remove_dir(snapdir.join("none")), libc::ENOENT);
    refuses(fs::rename(snapdir.join("none"), snapdir.join("other")), libc::ENOENT);
    p.snapshot("two");
    refuses(raw::rename(&snapdir.join("one"), &snapdir.join("two"), libc::RENAME_NOREPLACE), libc::EEXIST);
    refuses(fs::rename(snapdir.join("one"), snapdir.join("two")), libc::EEXIST);
    refuses(raw::rename(&snapdir.join("one"), &snapdir.join("two"), libc::RENAME_EXCHANGE), libc::EINVAL);
    // Nothing but snapshots can be made there.
    refuses(File::create(snapdir.join("file")), libc::EPERM);
    refuses(symlink("x", snapdir.join("link")), libc::EPERM);
    refuses(raw::node(&snapdir.join("fifo"), libc::S_IFIFO | 0o600, 0, 0), libc::EPERM);
    refuses(fs::remove_dir(&snapdir), libc::EPERM);
    refuses(fs::rename(&snapdir, p.path("x")), libc::EPERM);
    refuses(fs::create_dir(p.path("dir/.snapshots/here")), libc::EPERM);
    refuses(fs::remove_dir(p.path("dir/.snapshots/one")), libc::EPERM);
    for taken in [p.path(".snapshots"), p.path("dir/.snapshots")] {
        refuses(fs::create_dir(&taken), libc::EEXIST);
        assert!(errno(File::create(&taken)) == libc::EISDIR);
    }
    // In and out.
    refuses(fs::rename(p.path("dir"), snapdir.join("new")), libc::EXDEV);
    refuses(fs::rename(p.path("f"), p.past("one", "g")), libc::EXDEV);
    refuses(fs::rename(p.past("one", "f"), p.path("g")), libc::EXDEV);
    refuses(fs::rename(snapdir.join("one"), p.path("one")), libc::EXDEV);
    refuses(fs::rename(p.past("one", "f"), p.past("two", "g")), libc::EXDEV);
    refuses(fs::hard_link(p.past("one", "f"), p.path("g")), libc::EXDEV);
    // Inside, nothing changes.
    let f = p.past("one", "f");
    let readonly = [
        File::create(p.past("one", "new")).map(drop),
        OpenOptions::new().write(true).open(&f).map(drop),
        OpenOptions::new().append(true).open(p.past("one", "dir/f")).map(drop),
        fs::create_dir(p.past("one", "new")),
        fs::remove_file(&f),
        fs::remove_dir(p.past("one", "dir")),
        fs::rename(&f, p.past("one", "g")),
        fs::hard_link(&f, p.past("one", "g")),
        symlink("x", p.past("one", "g")),
        raw::node(&p.past("one", "g"), libc::S_IFIFO | 0o600, 0, 0).map(drop),
        fs::set_permissions(&f, fs::Permissions::from_mode(0o777)),
        std::os::unix::fs::chown(&f, Some(1), Some(1)),
        raw::set_attribute(&f, "user.x", b"y").map(drop),
        raw::set_attribute(&p.past("one", ""), "user.snapfs.created", b"y").map(drop),
        File::open(&f).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH),
    ];
    for (i, result) in readonly.into_iter().enumerate() {
        let number = result.err().unwrap_or_else(|| panic!("change {i} in a snapshot")).raw_os_error();
        assert_eq!(number, Some(libc::EROFS), "change {i} in a snapshot");
    }
    // Nothing is left half-made.
    assert_eq!(names(&snapdir), ["one", "two"]);
    assert_eq!(fs::read_to_string(&f).unwrap(), "x");
    p.umount();
    p.check();
}

#[test]
fn every_directory_shows_its_past() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    p.snapshot("before");
    fs::create_dir_all(p.path("a/b")).unwrap();
    fs::write(p.path("a/b/f"), "old").unwrap();
    p.snapshot("one");
    fs::write(p.path("a/b/f"), "new").unwrap();
    fs::rename(p.path("a"), p.path("moved")).unwrap();
    assert_eq!(fs::read_to_string(p.path("moved/b/.snapshots/one/f")).unwrap(), "old", "a moved one as well");
    assert_eq!(names(&p.path("moved/b/.snapshots")), ["one"], "only where it was there");
    assert_eq!(names(&p.path("moved")), ["b"], "hidden everywhere");
    refuses(fs::metadata(p.path("moved/b/.snapshots/before")), libc::ENOENT);
    // A careless delete, du and find never walk into the past.
    let found = said(Command::new("find").arg(p.at("mnt")));
    assert!(found.code == 0 && !found.out.contains(".snapshots"), "{found:?}");
    fs::remove_dir_all(p.path("moved")).unwrap();
    assert_eq!(fs::read_to_string(p.past("one", "a/b/f")).unwrap(), "old");
    p.umount();

    fs::create_dir(p.at("other")).unwrap();
    p.mount("snapdir=visible,no_snapdir_everywhere");
    fs::create_dir(p.path("dir")).unwrap();
    assert_eq!(names(&p.at("mnt")).iter().filter(|n| *n == ".snapshots").count(), 1);
    refuses(fs::metadata(p.path("dir/.snapshots")), libc::ENOENT);
    p.umount();
    p.mount("snapdir=disabled");
    refuses(fs::metadata(p.path(".snapshots")), libc::ENOENT);
    refuses(fs::create_dir(p.past("x", "")), libc::ENOENT);
    assert_eq!(p.json(&["list", "mnt", "--json"]).as_array().unwrap().len(), 2, "commands do without");
    p.umount();
}

#[test]
fn numbers_of_inodes_are_distinct_and_stay() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fs::create_dir(p.path("d")).unwrap();
    for i in 0..50 {
        fs::write(p.path(&format!("d/{i}")), "x").unwrap();
    }
    p.snapshot("one");
    p.snapshot("two");
    let look = || {
        let dirs = [p.path("d"), p.past("one", "d"), p.past("two", "d")];
        let inos = |d: &Path| -> Vec<u64> {
            let of_dir = fs::metadata(d).unwrap().ino();
            let files = (0..50).map(|i| fs::metadata(d.join(i.to_string())).unwrap().ino());
            [of_dir].into_iter().chain(files).collect()
        };
        dirs.iter().flat_map(|d| inos(d)).collect::<Vec<u64>>()
    };
    let before = look();
    assert_eq!(before.iter().collect::<HashSet<_>>().len(), before.len(), "all distinct");
    p.umount();
    p.mount("");
    assert_eq!(look(), before, "the same after a remount");
    let in_listing = fs::read_dir(p.past("one", "d")).unwrap();
    use std::os::unix::fs::DirEntryExt;
    for entry in in_listing.map(Result::unwrap) {
        assert_eq!(entry.ino(), entry.metadata().unwrap().ino(), "readdir and stat agree");
    }
    p.umount();
}

#[test]
fn stores_to_a_mapping_are_in_the_snapshot() {
    if !can_mount() {
        return;
    }
    for options in ["", "cache=writeback"] {
        let p = Place::new();
        p.mount(options);
        let file = open(&p.path("f"));
        file.set_len(1 << 20).unwrap();
        let mapping = raw::Mapping::new(&file, 1 << 20);
        drop(file); // the mapping alone keeps it open
        for round in 1..=20u8 {
            for page in 0..256 {
                mapping.store(page * 4096 + 7, round);
            }
            p.snapshot(&round.to_string());
            mapping.store(7, 255); // too late for this snapshot
        }
        for round in 1..=20u8 {
            let past = fs::read(p.past(&round.to_string(), "f")).unwrap();
            for page in 0..256 {
                assert_eq!(past[page * 4096 + 7], round, "{options}: snapshot {round}, page {page}");
            }
        }
        drop(mapping);
        p.umount();
        p.check();
    }
}

/// Appends and mapped pages go where the kernel says, through whichever handle it writes them back.
#[test]
fn both_cache_modes_keep_appends_and_mappings_apart() {
    if !can_mount() {
        return;
    }
    for cache in ["cache=strict", "cache=writeback"] {
        let p = Place::new();
        p.mount(cache);
        let path = p.path("log");
        std::fs::write(&path, [b'x'; 100]).expect("write");
        let mut log = File::options().append(true).open(&path).expect("append, without reading");
        for n in 0..500 {
            writeln!(log, "line {n}").expect("append");
        }
        let file = File::options().read(true).append(true).create(true).open(p.path("mapped")).expect("open");
        file.set_len(1 << 20).expect("extend");
        let mapping = raw::Mapping::new(&file, 1 << 20);
        mapping.store(5000, b'a');
        p.snapshot("one");
        log.write_all(b"after").expect("append");
        mapping.store(5000, b'b');
        let (then, now) =
            (std::fs::read(p.past("one", "log")).expect("read"), std::fs::read(&path).expect("read"));
        assert!(
            now.starts_with(&then) && now[then.len()..] == *b"after",
            "{cache}: {} {}",
            then.len(),
            now.len()
        );
        assert!(then.starts_with(&[b'x'; 100]) && then.ends_with(b"line 499\n"), "{cache}");
        let mapped = std::fs::read(p.past("one", "mapped")).expect("read");
        assert_eq!(
            (mapped.len(), mapped[4999], mapped[5000], mapped[5001]),
            (1 << 20, 0, b'a', 0),
            "{cache}"
        );
        drop((log, mapping, file));
        p.umount();
        p.check();
    }
}

#[test]
fn a_snapshot_never_has_the_second_write_without_the_first() {
    if !can_mount() {
        return;
    }
    const WRITERS: usize = 8;
    const SNAPSHOTS: usize = 40;
    let p = Place::new();
    p.mount("");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let files = ["a", "b"].map(|n| open(&p.path(&format!("{writer}{n}"))));
            let names = ["x", "y"].map(|n| p.path(&format!("{writer}{n}")));
            let stop = &stop;
            scope.spawn(move || {
                for n in 1u64.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    // Written in place, far apart, and made by name: the first always before the second.
                    for file in &files {
                        file.write_all_at(&n.to_le_bytes(), 300_000 * (writer as u64)).unwrap();
                    }
                    for name in &names {
                        fs::write(name, n.to_string()).unwrap();
                    }
                }
            });
        }
        for i in 0..SNAPSHOTS {
            p.snapshot(&format!("s{i}"));
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        stop.store(true, Ordering::Relaxed);
    });
    let mut seen = 0;
    for i in 0..SNAPSHOTS {
        for writer in 0..WRITERS {
            let number = |n: &str| {
                let mut bytes = [0; 8];
                let file = File::open(p.past(&format!("s{i}"), &format!("{writer}{n}"))).ok()?;
                file.read_exact_at(&mut bytes, 300_000 * (writer as u64)).ok()?;
                Some(u64::from_le_bytes(bytes))
            };
            let (a, b) = (number("a").unwrap_or(0), number("b").unwrap_or(0));
            assert!(b == a || b + 1 == a, "snapshot {i}, writer {writer}: a {a}, b {b}");
            // A file is cut and filled again: an empty one is either of two numbers.
            let text = |n: &str| {
                let text = fs::read_to_string(p.past(&format!("s{i}"), &format!("{writer}{n}"))).ok()?;
                text.parse::<u64>().ok()
            };
            if let (Some(x), Some(y)) = (text("x"), text("y")) {
                assert!(
                    b >= x && (y == x || y + 1 == x),
                    "snapshot {i}, writer {writer}: b {b}, x {x}, y {y}"
                );
            }
            seen += usize::from(a > 0);
        }
    }
    assert!(seen > WRITERS * SNAPSHOTS / 2, "the writers were at work");
    p.umount();
    p.check();
}

#[test]
fn what_was_synced_survives_a_kill() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("commit=3600");
    let content = pattern(3 << 20, 1);
    for round in 0..3 {
        let mut file = File::create(p.path(&format!("f{round}"))).unwrap();
        file.write_all(&content).unwrap();
        file.sync_all().unwrap();
        fs::write(p.path(&format!("unsynced{round}")), &content).unwrap();
        if round == 1 {
            p.snapshot("one");
            fs::write(p.path("f0"), "changed after").unwrap();
            File::open(p.path("f0")).unwrap().sync_all().unwrap();
        }
        let kept = ["f0", "f1", "f2"];
        p.kill();
        p.mount("commit=3600");
        for (i, name) in kept.iter().enumerate().take(round + 1) {
            let there = fs::read(p.path(name)).unwrap();
            let expected: &[u8] = if i == 0 && round >= 1 { b"changed after" } else { &content };
            assert!(there == expected, "{name} after kill {round}: {} bytes", there.len());
        }
        if round >= 1 {
            assert!(fs::read(p.past("one", "f0")).unwrap() == content, "the snapshot was durable");
            assert!(fs::read(p.past("one", "unsynced1")).unwrap() == content, "with all that was written");
        }
    }
    p.umount();
    p.check();
}

#[test]
fn unlinked_open_files_give_their_space_back_after_a_kill() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    p.umount();
    p.mount("");
    // Its point keeps what was there for up to two minutes.
    p.ok(&["set", "tripwire=off", "mnt"]);
    let empty = p.number("used_bytes");
    let content = pattern(8 << 20, 2);
    let open: Vec<File> = (0..4)
        .map(|i| {
            let path = p.path(&format!("f{i}"));
            fs::write(&path, &content).unwrap();
            let file = open(&path);
            fs::remove_file(&path).unwrap();
            file
        })
        .collect();
    let mut back = Vec::new();
    (&open[0]).read_to_end(&mut back).unwrap();
    assert!(back == content, "readable while it is open");
    open[1].write_all_at(b"still", 0).unwrap();
    assert_eq!(open[1].metadata().unwrap().nlink(), 0);
    open[1].sync_all().unwrap();
    assert!(p.number("used_bytes") >= empty + (32 << 20));
    p.kill();
    drop(open);
    p.mount("");
    p.wait_freed();
    wait("the space", || p.number("used_bytes") <= empty + (1 << 20));
    p.umount();
    p.check();
}

#[test]
fn a_store_is_mounted_once() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fs::create_dir(p.at("mnt2")).unwrap();
    let second = p.run(&["mount", "store", "mnt2", "-o", "ro"]);
    if is_root() {
        // One file system at two places.
        assert!(second.code == 0 && second.err.is_empty(), "{second:?}");
        fs::write(p.path("f"), "both").unwrap();
        assert_eq!(fs::read_to_string(p.at("mnt2/f")).unwrap(), "both");
        refuses(fs::write(p.at("mnt2/f"), "x"), libc::EROFS);
        assert_eq!(fs::metadata(p.at("mnt2")).unwrap().dev(), fs::metadata(p.path("")).unwrap().dev());
        p.ok(&["umount", "mnt2"]);
        assert_eq!(fs::read_to_string(p.path("f")).unwrap(), "both");
    } else {
        let pid = p.pid().to_string();
        assert!(
            second.code == 1 && second.err.contains(&pid) && second.err.contains("in use by"),
            "{second:?}"
        );
    }
    for verb in [["init", "store"], ["init", "./store/"]] {
        let said = p.run(&verb);
        assert_eq!(said.code, 1, "{said:?}");
        let said = p.run(&[verb[0], verb[1], "--force"]);
        assert!(said.code == 1 && said.err.contains("in use"), "{said:?}");
    }
    fs::write(p.path("f"), "x").unwrap();
    p.umount();
    p.check();
}

#[test]
fn a_mount_ends_cleanly() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    for (round, signal) in ["-TERM", "-INT", "umount"].into_iter().enumerate() {
        p.mount("commit=3600");
        fs::write(p.path(&format!("f{round}")), pattern(5 << 20, round as u64)).unwrap();
        if signal == "umount" {
            p.umount();
        } else {
            p.signal(signal);
            wait("the end of the daemon", || p.json(&["status", "--json"]) == serde_json::json!([]));
        }
        p.check(); // at once: the end was waited for
    }
    p.mount("");
    for round in 0..3 {
        assert!(fs::read(p.path(&format!("f{round}"))).unwrap() == pattern(5 << 20, round as u64));
    }
    p.umount();
}

#[test]
fn a_store_that_is_being_closed_is_waited_for() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    let data = pattern(40 << 20, 3);
    p.mount("dirty_size=256");
    for round in 0..3 {
        fs::write(p.path("f"), &data[round..]).unwrap();
        // As umount(8): it does not wait for the daemon, which has all of this to write.
        snapfs::fuse::unmount(&p.at("mnt"), false).unwrap();
        p.mount("dirty_size=256");
        assert!(fs::read(p.path("f")).unwrap() == data[round..]);
    }
    p.umount();
    p.check();
}

/// The first daemon has gigabytes to let go of when the next mount gets its device number.
#[test]
fn a_mount_ends_while_the_next_begins() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    fs::create_dir(p.at("other")).unwrap();
    fs::create_dir(p.at("mnt2")).unwrap();
    for round in 0..3 {
        p.mount("");
        let device = fs::metadata(p.path("")).unwrap().dev();
        let file = open(&p.path("f"));
        file.write_all_at(&pattern(96 << 20, round), 0).unwrap();
        fs::remove_file(p.path("f")).unwrap();
        drop(file);
        // A program that another test starts just now may have our descriptors for an instant.
        wait("the unmount", || snapfs::fuse::unmount(&p.at("mnt"), false).is_ok());
        p.ok(&["mount", "other/store", "mnt2"]);
        let same = fs::metadata(p.at("mnt2")).unwrap().dev() == device;
        eprintln!("round {round}: the device number is {}", if same { "the same" } else { "another" });
        p.ok(&["create", "mnt2", &format!("s{round}")]);
        wait("the end of the first daemon", || p.json(&["status", "--json"]).as_array().unwrap().len() == 1);
        assert_eq!(p.json(&["list", "other/store", "--json"]).as_array().unwrap().len(), round as usize + 1);
        wait("the other unmount", || p.run(&["umount", "mnt2"]).code == 0);
        assert_eq!(fs::read_dir(p.at("run")).unwrap().count(), 0, "nobody is left");
    }
    p.check();
}

/// By `mkdir` with any bytes, by commands the same.
#[test]
fn snapshots_with_names_that_are_no_text() {
    if !can_mount() {
        return;
    }
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let p = Place::new();
    p.mount("");
    let [a, b] = [&b"s\xff"[..], b"s\xfe"].map(OsStr::from_bytes);
    fs::write(p.path("f"), "old").unwrap();
    for name in [a, b] {
        fs::create_dir(p.path(".snapshots").join(name)).unwrap();
    }
    fs::write(p.path("f"), "new").unwrap();
    let run = |args: &[&OsStr]| said(p.command(&[]).args(args));
    let table = p.ok(&["list", "mnt"]);
    assert!(table.contains("s\\xff ") && table.contains("s\\xfe "), "{table}");
    fs::create_dir(p.at("past")).unwrap();
    let [mount, store, past, option] = ["mount", "store", "past", "--snapshot"].map(OsStr::new);
    for _ in 0..2 {
        let mounted = run(&[mount, store, past, option, a]);
        assert_eq!(mounted.code, 0, "{mounted:?}");
        assert_eq!(fs::read_to_string(p.at("past/f")).unwrap(), "old");
        assert_eq!(p.json(&["status", "past", "--json"])["snapshot_hex"], "73ff");
        p.ok(&["umount", "past"]);
        if fs::metadata(p.path(".snapshots")).is_ok() {
            p.umount(); // and once more by a daemon of its own
        }
    }
    p.mount("");
    let [rename, delete, mnt, new] = ["rename", "delete", "mnt", "text"].map(OsStr::new);
    assert_eq!(run(&[rename, mnt, a, new]).code, 0);
    assert_eq!(run(&[delete, mnt, b]).code, 0);
    assert_eq!(names(&p.path(".snapshots")), ["text"]);
    p.umount();
    p.check();
}

/// Whatever is given, and in which order: a store that can be read before it was ever written to.
#[test]
fn a_fresh_store_is_complete() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    let fresh = |store: &str| {
        assert_eq!(p.run(&["list", store]).err, "no snapshots\n", "{store}");
        p.ok(&["info", store]);
        p.ok(&["check", store, "--data"]);
        p.ok(&["mount", store, "mnt", "-o", "ro"]);
        assert_eq!(names(&p.path("")), Vec::<String>::new(), "{store}");
        p.ok(&["umount", "mnt"]);
        p.ok(&["mount", store, "mnt"]);
        fs::write(p.path("f"), "x").unwrap();
        p.ok(&["umount", "mnt"]);
        p.ok(&["check", store, "--data"]);
    };
    fs::create_dir(p.at("empty")).unwrap();
    for store in ["missing", "empty"] {
        p.ok(&["init", store]);
        fresh(store);
    }
    p.ok(&["init", "--compression", "zstd", "--size", "1G", "compressed"]);
    fresh("compressed");
    let file = |name: &str, len: u64, content: &[u8]| {
        let file = File::create(p.at(name)).unwrap();
        file.set_len(len).unwrap();
        file.write_all_at(content, 0).unwrap();
    };
    p.ok(&["init", "--size", "64M", "new.img"]);
    fresh("new.img");
    // An image file that is there: empty, too short, long enough, full of something.
    file("empty.img", 0, b"");
    let said = p.run(&["mount", "empty.img", "mnt"]);
    assert!(said.code == 1 && said.err.contains("init --size"), "{said:?}");
    let said = p.run(&["init", "empty.img"]);
    assert!(said.code == 1 && said.err.contains("needs --size"), "{said:?}");
    p.ok(&["init", "--size", "64M", "empty.img"]);
    fresh("empty.img");
    file("short.img", 1 << 20, b"");
    let said = p.run(&["init", "short.img"]);
    assert!(
        said.code == 1 && said.err.contains("at least 32 MiB") && said.err.contains("--size"),
        "{said:?}"
    );
    p.ok(&["init", "short.img", "--metadata-copies", "1", "--size", "64M"]);
    assert_eq!(fs::metadata(p.at("short.img")).unwrap().len(), 64 << 20);
    fresh("short.img");
    file("zeros.img", 64 << 20, &[0; 4096]);
    p.ok(&["init", "zeros.img"]);
    fresh("zeros.img");
    file("text.img", 40 << 20, b"a thesis");
    file("tail.img", 40 << 20, b"");
    OpenOptions::new().write(true).open(p.at("tail.img")).unwrap().write_all_at(b"x", 39 << 20).unwrap();
    for name in ["text.img", "tail.img", "new.img"] {
        for args in [vec!["init", name], vec!["init", "--size", "64M", name]] {
            let said = p.run(&args);
            assert!(said.code == 1 && said.err.contains("--force"), "{said:?}");
        }
        p.ok(&["init", "--force", name, "--size", "64M"]);
        fresh(name);
    }
    if !is_root() {
        return;
    }
    file("disk", 48 << 20, b"");
    let looped = place::said(Command::new("losetup").args(["-f", "--show"]).arg(p.at("disk")));
    if looped.code != 0 {
        eprintln!("SKIPPED: no loop device: {looped:?}");
        return;
    }
    let device = looped.out.trim().to_string();
    let results = [
        p.run(&["init", &device, "--size", "1G"]),
        p.run(&["init", &device]),
        p.run(&["list", &device]),
        p.run(&["init", "--force", &device, "--size", "40M"]),
        p.run(&["info", "--json", &device]),
        p.run(&["check", &device]),
    ];
    assert_eq!(place::said(Command::new("losetup").args(["-d", &device])).code, 0);
    assert!(results[0].code == 1 && results[0].err.contains("no more than"), "{results:?}");
    assert!(results[1..].iter().all(|said| said.code == 0), "{results:?}");
}

/// Restoring a tree that has a `.snapshots` of its own makes no snapshots by accident.
#[test]
fn snapdir_has_the_name_that_is_chosen() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    let copy = || {
        fs::create_dir(p.path(".snapshots"))?;
        fs::create_dir(p.path(".snapshots/1"))?;
        fs::write(p.path(".snapshots/1/info"), "not ours")
    };
    p.mount("snapdir_name=.past,snapdir=visible");
    copy().unwrap();
    fs::create_dir(p.path(".past/one")).unwrap();
    assert_eq!(names(&p.path(".past")), ["one"]);
    assert_eq!(fs::read_to_string(p.path(".past/one/.snapshots/1/info")).unwrap(), "not ours");
    refuses(fs::create_dir(p.path(".past")), libc::EEXIST);
    refuses(fs::rename(p.path(".snapshots"), p.path(".past")), libc::EEXIST);
    refuses(fs::remove_dir(p.path(".past")), libc::EPERM);
    fs::create_dir_all(p.path("d/.snapshots/x")).unwrap();
    assert_eq!(names(&p.path("d/.past")), Vec::<String>::new());
    let mut all = names(&p.path(""));
    all.sort();
    assert_eq!(all, [".past", ".snapshots", "d"]);
    p.umount();
    // Under the usual name it is out of sight, and nothing of it is lost.
    p.mount("snapdir=visible");
    assert_eq!(names(&p.path(".snapshots")), ["one"]);
    assert_eq!(names(&p.path("")).iter().filter(|n| *n == ".snapshots").count(), 1);
    p.umount();
    p.mount("snapdir=disabled");
    assert_eq!(fs::read_to_string(p.path(".snapshots/1/info")).unwrap(), "not ours");
    fs::remove_dir_all(p.path(".snapshots")).unwrap();
    copy().unwrap();
    fs::rename(p.path(".snapshots"), p.path("own")).unwrap();
    p.umount();
    p.check();
    p.mount("no_snapdir_everywhere");
    fs::create_dir(p.path("own/.snapshots")).unwrap();
    refuses(fs::create_dir(p.path(".snapshots")), libc::EEXIST);
    p.umount();
    p.check();
}

#[test]
fn a_relative_store_grows_beyond_its_first_segment() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount(""); // "store", from a daemon that has left this directory
    let (total, free, available) = raw::df(&p.at("mnt"));
    let (_, host_free, host_available) = raw::df(&p.dir.0);
    assert!(available <= free && free <= total && available > 0);
    assert!(free > host_available / 2 && free < host_free * 2, "{free} free, {host_available} on the host");
    let file = open(&p.path("f"));
    raw::allocate(&file, 0, 0, 1200 << 20).expect("space in the second segment");
    drop(file);
    fs::remove_file(p.path("f")).unwrap();
    p.umount();
    p.check();
}

#[test]
fn a_read_only_mount_changes_nothing() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fs::write(p.path("f"), pattern(1 << 20, 3)).unwrap();
    p.snapshot("one");
    fs::write(p.path("g"), "x").unwrap();
    p.umount();
    let before = p.fingerprint();
    p.mount("ro");
    assert!(fs::read(p.path("f")).unwrap() == pattern(1 << 20, 3));
    assert_eq!(names(&p.path(".snapshots")), ["one"]);
    refuses(fs::write(p.path("f"), "x"), libc::EROFS);
    refuses(fs::create_dir(p.path("d")), libc::EROFS);
    refuses(fs::create_dir(p.past("two", "")), libc::EROFS);
    refuses(fs::remove_dir(p.past("one", "")), libc::EROFS);
    let said = p.run(&["create", "mnt", "two"]);
    assert!(said.code == 1 && said.err.contains("no changes"), "{said:?}");
    p.umount();
    assert_eq!(p.fingerprint(), before);
    // The same after a crash: what is read is right, and nothing is repaired.
    p.mount("commit=3600");
    let mut file = File::create(p.path("h")).unwrap();
    file.write_all(b"synced").unwrap();
    file.sync_all().unwrap();
    p.kill();
    drop(file);
    let before = p.fingerprint();
    p.mount("ro");
    assert_eq!(fs::read_to_string(p.path("h")).unwrap(), "synced");
    p.umount();
    assert_eq!(p.fingerprint(), before);
}

#[test]
fn a_deleted_snapshot_serves_who_has_it_open() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    // Its point keeps what was there for up to two minutes.
    p.ok(&["set", "tripwire=off", "mnt"]);
    let content = pattern(4 << 20, 4);
    fs::write(p.path("f"), &content).unwrap();
    fs::create_dir(p.path("d")).unwrap();
    p.snapshot("one");
    fs::remove_file(p.path("f")).unwrap();
    let full = p.number("used_bytes");
    let mut file = File::open(p.past("one", "f")).unwrap();
    fs::remove_dir(p.past("one", "")).unwrap();
    for i in 0..20 {
        fs::write(p.path(&format!("new{i}")), pattern(1 << 20, i)).unwrap();
        File::open(p.path(&format!("new{i}"))).unwrap().sync_all().unwrap();
    }
    let _ = fs::write("/proc/sys/vm/drop_caches", "1"); // reads come from the daemon, where that is permitted
    let mut back = Vec::new();
    file.read_to_end(&mut back).unwrap();
    assert!(back == content, "its content is still what it was");
    drop(file);
    for i in 0..20 {
        fs::remove_file(p.path(&format!("new{i}"))).unwrap();
    }
    p.wait_freed();
    wait("the space", || p.number("used_bytes") <= full - (3 << 20));
    p.umount();
    p.check();
}

#[test]
fn a_snapshot_tells_about_itself() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fs::write(p.path("f"), pattern(1 << 20, 5)).unwrap();
    raw::set_attribute(&p.path(""), "user.mine", b"kept").unwrap();
    p.snapshot("one");
    fs::remove_file(p.path("f")).unwrap();
    p.snapshot("two");
    let root = p.past("one", "");
    let told = |name: &str| {
        String::from_utf8(raw::attribute(&root, &format!("user.snapfs.{name}")).unwrap()).unwrap()
    };
    let created = told("created");
    assert!(created.ends_with('Z') && created.contains('T'), "{created}");
    assert_eq!((told("method").as_str(), told("consistency").as_str()), ("row", "file system"));
    let numbers = ["referenced", "exclusive", "written"].map(|n| told(n).parse::<u64>().unwrap());
    assert!(numbers[0] >= 1 << 20 && numbers[1] >= 1 << 20 && numbers[2] >= 1 << 20, "{numbers:?}");
    assert_eq!(raw::attribute(&root, "user.mine").unwrap(), b"kept");
    let listed = raw::attributes(&root).unwrap();
    assert_eq!(listed, ["user.mine"], "what a copy should have");
    refuses(raw::attribute(&p.path(""), "user.snapfs.created"), libc::ENODATA);
    let list = p.json(&["list", "mnt", "--json"]);
    assert_eq!(list[0]["exclusive"].as_u64(), Some(numbers[1]), "the command says the same");
    p.umount();
}

/// What the kernel holds counts for every request whose answer depends on content.
#[test]
fn seeking_and_copying_see_the_pages_of_the_kernel() {
    if !can_mount() {
        return;
    }
    let (data, hole) = (libc::SEEK_DATA, libc::SEEK_HOLE);
    for options in ["", "cache=writeback"] {
        let p = Place::new();
        p.mount(options);
        let file = open(&p.path("written"));
        file.write_all_at(&[1; 10_000], 1 << 20).unwrap();
        assert_eq!(raw::seek(&file, 0, data).unwrap(), 1 << 20, "{options}");
        assert_eq!(raw::seek(&file, 1 << 20, hole).unwrap(), (1 << 20) + 10_000, "{options}");
        drop(file);

        let file = open(&p.path("mapped"));
        file.set_len(1 << 20).unwrap();
        let mapping = raw::Mapping::new(&file, 1 << 20);
        mapping.store(8192, 7);
        mapping.store(300_000, 7);
        refuses(raw::seek(&file, 1 << 20, data), libc::ENXIO);
        assert_eq!(raw::seek(&file, 0, data).unwrap(), 8192, "{options}");
        assert_eq!(raw::seek(&file, 8192, hole).unwrap(), 12_288, "{options}");
        mapping.store(20_480, 8);
        let reader = File::open(p.path("mapped")).unwrap();
        assert_eq!(raw::seek(&reader, 12_288, data).unwrap(), 20_480, "{options}: through another handle");

        mapping.store(40_960, 9);
        let copy = open(&p.path("copy"));
        assert_eq!(raw::copy_range(&file, 0, &copy, 0, 1 << 20).unwrap(), 1 << 20);
        mapping.store(45_056, 10);
        let (original, copied) = (fs::read(p.path("mapped")).unwrap(), fs::read(p.path("copy")).unwrap());
        for at in [8192, 20_480, 40_960, 300_000] {
            assert!(copied[at] > 0 && copied[at] == original[at], "{options}: byte {at}");
        }
        assert_eq!((original[45_056], copied[45_056]), (10, 0), "{options}");
        drop((mapping, file, reader, copy));
        p.umount();
        p.check();
    }
}

/// Attributes are cached for ever, also the number of blocks that a flush changes.
#[test]
fn the_number_of_blocks_is_right_once_content_has_its_place() {
    if !can_mount() {
        return;
    }
    for options in ["commit=1", "commit=1,cache=writeback"] {
        let p = Place::new();
        p.mount(options);
        p.ok(&["set", "compression=zstd", "mnt"]);
        let file = open(&p.path("compressed"));
        file.write_all_at(&[7; 40_960], 0).unwrap();
        drop(file);
        assert_eq!(fs::metadata(p.path("compressed")).unwrap().blocks(), 80, "{options}");
        let file = open(&p.path("open"));
        let mut content = vec![0; 40_960];
        fastrand::Rng::with_seed(3).fill(&mut content);
        file.write_all_at(&content, 0).unwrap();
        file.sync_all().unwrap();
        assert_eq!(file.metadata().unwrap().blocks(), 80, "{options}: open and synced");
        // A snapshot places what is delayed.
        p.snapshot("placed");
        assert_eq!(fs::metadata(p.path("compressed")).unwrap().blocks(), 8, "{options}");
        drop(file);
        p.umount();
        p.check();
    }
}

#[test]
fn sparse_files_and_holes() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    let file = open(&p.path("sparse"));
    let far = (5u64 << 40) + 4096;
    file.write_all_at(b"far", far).unwrap();
    file.write_all_at(b"near", 1 << 20).unwrap();
    file.sync_all().unwrap();
    assert_eq!(file.metadata().unwrap().len(), far + 3);
    assert!(file.metadata().unwrap().blocks() <= 64);
    let (data, hole) = (libc::SEEK_DATA, libc::SEEK_HOLE);
    assert_eq!(raw::seek(&file, 0, data).unwrap(), 1 << 20);
    assert_eq!(raw::seek(&file, 0, hole).unwrap(), 0);
    assert_eq!(raw::seek(&file, 1 << 20, hole).unwrap(), (1 << 20) + 4096);
    assert_eq!(raw::seek(&file, 2 << 20, data).unwrap(), far);
    assert_eq!(raw::seek(&file, far, hole).unwrap(), far + 3, "the end is a hole");
    refuses(raw::seek(&file, far + 3, data), libc::ENXIO);
    refuses(raw::seek(&file, far + 4, hole), libc::ENXIO);
    p.snapshot("one");
    let past = File::open(p.past("one", "sparse")).unwrap();
    assert_eq!(raw::seek(&past, 2 << 20, data).unwrap(), far, "in a snapshot as well");
    let mut bytes = [1; 4];
    past.read_exact_at(&mut bytes, 3 << 40).unwrap();
    assert_eq!(bytes, [0; 4]);
    past.read_exact_at(&mut bytes[..3], far).unwrap();
    assert_eq!(&bytes[..3], b"far");

    let f = open(&p.path("f"));
    let content = pattern(1 << 20, 6);
    f.write_all_at(&content, 0).unwrap();
    let all = |f: &File| {
        let mut bytes = vec![0; f.metadata().unwrap().len() as usize];
        f.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    };
    raw::allocate(&f, libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, 10_000, 300_000).unwrap();
    let mut expected = content.clone();
    expected[10_000..310_000].fill(0);
    assert!(all(&f) == expected, "punched");
    assert_eq!(raw::seek(&f, 0, hole).unwrap(), 12288);
    raw::allocate(&f, libc::FALLOC_FL_ZERO_RANGE, (1 << 20) - 5, 10).unwrap();
    expected.resize((1 << 20) + 5, 0);
    expected[(1 << 20) - 5..].fill(0);
    assert!(all(&f) == expected, "zeroed beyond the end");
    raw::allocate(&f, libc::FALLOC_FL_KEEP_SIZE, 2 << 20, 1 << 20).unwrap();
    assert_eq!(f.metadata().unwrap().len(), (1 << 20) + 5);
    raw::allocate(&f, 0, 2 << 20, 1 << 20).unwrap();
    expected.resize(3 << 20, 0);
    assert!(all(&f) == expected, "allocated");
    refuses(raw::allocate(&f, libc::FALLOC_FL_COLLAPSE_RANGE, 0, 4096), libc::EOPNOTSUPP);
    drop((file, past, f));
    p.umount();
    p.check();
}

#[test]
fn all_kinds_of_files() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("dev,suid");
    fs::write(p.path("f"), "x").unwrap();
    for i in 0..100 {
        fs::hard_link(p.path("f"), p.path(&format!("link{i}"))).unwrap();
    }
    symlink("a/target that is not there", p.path("symlink")).unwrap();
    raw::node(&p.path("fifo"), libc::S_IFIFO | 0o640, 0, 0).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(p.path("socket")).unwrap();
    let client = std::os::unix::net::UnixStream::connect(p.path("socket"));
    assert!(client.is_ok(), "a socket works");
    if is_root() {
        raw::node(&p.path("null"), libc::S_IFCHR | 0o666, 1, 3).unwrap();
        raw::node(&p.path("block"), libc::S_IFBLK | 0o600, 259, 1 << 19).unwrap();
        fs::write(p.path("null"), "into nothing").unwrap();
    }
    p.snapshot("one");
    for i in 0..99 {
        fs::remove_file(p.path(&format!("link{i}"))).unwrap();
    }
    drop(socket);
    p.umount();
    p.mount("");
    assert_eq!(fs::metadata(p.path("f")).unwrap().nlink(), 2);
    assert_eq!(fs::metadata(p.past("one", "f")).unwrap().nlink(), 101);
    for root in [p.path(""), p.past("one", "")] {
        let kind = |n: &str| fs::symlink_metadata(root.join(n)).unwrap();
        assert_eq!(fs::read_link(root.join("symlink")).unwrap().to_str(), Some("a/target that is not there"));
        assert!(kind("fifo").file_type().is_fifo() && kind("fifo").mode() & 0o777 == 0o640 & !umask());
        assert!(kind("socket").file_type().is_socket());
        assert_eq!(kind("f").ino(), kind("link99").ino());
        if is_root() {
            assert!(kind("null").file_type().is_char_device() && kind("null").rdev() == 0x103);
            assert!(kind("block").file_type().is_block_device());
            assert_eq!(kind("block").rdev(), libc::makedev(259, 1 << 19));
        }
    }
    p.umount();
    p.check();
}

fn umask() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("Umask:")).unwrap();
    u32::from_str_radix(line.trim(), 8).unwrap()
}

#[test]
fn rename_with_flags() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fs::create_dir_all(p.path("a/sub")).unwrap();
    fs::create_dir(p.path("b")).unwrap();
    fs::write(p.path("a/f"), "one").unwrap();
    fs::write(p.path("b/g"), "two").unwrap();
    let (f, g) = (p.path("a/f"), p.path("b/g"));
    refuses(raw::rename(&f, &g, libc::RENAME_NOREPLACE), libc::EEXIST);
    raw::rename(&f, &g, libc::RENAME_EXCHANGE).unwrap();
    assert_eq!(
        (fs::read_to_string(&f).unwrap(), fs::read_to_string(&g).unwrap()),
        ("two".into(), "one".into())
    );
    raw::rename(&p.path("a/sub"), &g, libc::RENAME_EXCHANGE).unwrap(); // a directory and a file
    assert!(fs::metadata(&g).unwrap().is_dir() && fs::metadata(p.path("a/sub")).unwrap().is_file());
    assert_eq!(fs::metadata(p.path("a")).unwrap().nlink(), 2);
    assert_eq!(fs::metadata(p.path("b")).unwrap().nlink(), 3);
    raw::rename(&f, &p.path("free"), libc::RENAME_NOREPLACE).unwrap();
    refuses(raw::rename(&p.path("none"), &f, libc::RENAME_EXCHANGE), libc::ENOENT);
    refuses(raw::rename(&p.path("free"), &p.path("x"), libc::RENAME_EXCHANGE), libc::ENOENT);
    refuses(raw::rename(&p.path("b"), &p.path("b/g/inside"), 0), libc::EINVAL);
    refuses(raw::rename(&p.path("b"), &p.path("b/g"), libc::RENAME_EXCHANGE), libc::EINVAL);
    refuses(fs::rename(p.path("a"), p.path("b")), libc::ENOTEMPTY);
    refuses(fs::rename(p.path("a"), p.path("free")), libc::ENOTDIR);
    refuses(fs::rename(p.path("free"), p.path("a")), libc::EISDIR);
    p.umount();
    p.check();
}

#[test]
fn a_copy_shares_its_blocks() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    let content = pattern(16 << 20, 7);
    fs::write(p.path("f"), &content).unwrap();
    let from = open(&p.path("f"));
    from.sync_all().unwrap();
    let before = p.number("used_bytes");
    for i in 0..4 {
        let to = open(&p.path(&format!("copy{i}")));
        let mut done = 0;
        while done < 16 << 20 {
            done += raw::copy_range(&from, done, &to, done, (16 << 20) - done).unwrap();
        }
        to.sync_all().unwrap();
    }
    drop(from);
    let grown = p.number("used_bytes") - before;
    assert!(grown < 2 << 20, "four copies took {grown} bytes");
    open(&p.path("copy1")).write_all_at(b"changed", 5_000_000).unwrap();
    fs::remove_file(p.path("f")).unwrap();
    p.snapshot("one");
    fs::remove_file(p.path("copy0")).unwrap();
    p.umount();
    p.check();
    p.mount("");
    let mut changed = content.clone();
    changed[5_000_000..5_000_007].copy_from_slice(b"changed");
    assert!(fs::read(p.path("copy1")).unwrap() == changed);
    assert!(fs::read(p.path("copy2")).unwrap() == content);
    assert!(fs::read(p.past("one", "copy0")).unwrap() == content);
    p.umount();
}

#[test]
fn a_listing_survives_deletions() {
    if !can_mount() {
        return;
    }
    const COUNT: usize = 20_000;
    let p = Place::new();
    p.mount("");
    fs::create_dir(p.path("d")).unwrap();
    for i in 0..COUNT {
        File::create(p.path(&format!("d/a name of some length {i}"))).unwrap();
    }
    p.snapshot("all");
    let mut seen = Vec::new();
    for (n, entry) in fs::read_dir(p.path("d")).unwrap().enumerate() {
        seen.push(entry.unwrap().file_name().into_string().unwrap());
        if n == 1000 {
            for i in (0..COUNT).step_by(2) {
                fs::remove_file(p.path(&format!("d/a name of some length {i}"))).unwrap();
            }
        }
    }
    let distinct: HashSet<&String> = seen.iter().collect();
    assert_eq!(distinct.len(), seen.len(), "nothing twice");
    for i in (1..COUNT).step_by(2) {
        assert!(distinct.contains(&format!("a name of some length {i}")), "what stayed is listed");
    }
    assert_eq!(names(&p.path("d")).len(), COUNT / 2);
    assert_eq!(names(&p.past("all", "d")).len(), COUNT);
    p.umount();
    p.check();
}

#[test]
fn a_failing_disk_stops_changes_and_nothing_else() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fs::write(p.path("old"), "old").unwrap();
    p.snapshot("one");
    p.umount();
    // The record of the device's calls is where space ends soon, and a write fails whose record cannot be written.
    fs::create_dir(p.at("tiny")).unwrap();
    let host = |args: &[&str]| said(p.settle(&mut Command::new(args[0])).args(&args[1..]));
    if host(&["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "tiny"]).code != 0 {
        return eprintln!("SKIPPED: no right to mount a tmpfs");
    }
    let log = p.at("failed");
    let mut mount = p.command(&["mount", "store", "mnt", "--log", log.to_str().unwrap()]);
    let mounted = said(mount.env("SNAPFS_RECORD", p.at("tiny/record")));
    assert_eq!(host(&["umount", "-l", "tiny"]).code, 0);
    assert_eq!(mounted.code, 0, "{mounted:?}");
    let synced = |n: usize| -> io::Result<()> {
        let file = File::create(p.path(&format!("new{n}")))?;
        file.write_all_at(&[7; 10_000], 0)?;
        file.sync_all()
    };
    let failed = (0..50).find_map(|n| synced(n).err().map(|e| (n, e.raw_os_error())));
    let (kept, error) = failed.expect("64 KiB are full");
    assert!(matches!(error, Some(libc::EIO | libc::EROFS)), "{error:?}");
    assert!(matches!(errno(File::open(p.path("old")).unwrap().sync_all()), libc::EIO | libc::EROFS));
    refuses(fs::write(p.path("newer"), "new"), libc::EROFS);
    refuses(fs::create_dir(p.path(".snapshots/two")), libc::EROFS);
    refuses(fs::remove_dir(p.path(".snapshots/one")), libc::EROFS);
    refuses(fs::remove_file(p.path("old")), libc::EROFS);
    assert_eq!(fs::read_to_string(p.path("old")).unwrap(), "old");
    assert_eq!(fs::read_to_string(p.past("one", "old")).unwrap(), "old");
    let status = p.json(&["status", "mnt", "--json"]);
    let state = status["state"].as_str().unwrap();
    assert!(state.starts_with("read-only: ") && state.contains("record"), "{state}");
    assert!(p.run(&["status", "mnt"]).out.contains(state), "{state}");
    let _said = p.run(&["umount", "mnt"]);
    let told = fs::read_to_string(log).unwrap();
    assert_eq!(told.matches("takes no more changes").count(), 1, "{told}");
    p.mount("");
    assert_eq!(fs::read_to_string(p.path("old")).unwrap(), "old");
    (0..kept).for_each(|n| assert_eq!(fs::read(p.path(&format!("new{n}"))).unwrap(), [7; 10_000]));
    fs::write(p.path("newer"), "new").unwrap();
    p.umount();
    p.check();
}

/// A program that runs cannot be written or cut, and is whole after every attempt.
#[test]
fn a_running_program_is_not_touched() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    let program = p.path("sleep");
    fs::copy("/bin/sleep", &program).expect("copy");
    let size = fs::metadata(&program).expect("stat").len();
    let mut running = Command::new(&program).arg("60").spawn().expect("run");
    for (write, flags) in [(true, 0), (true, libc::O_TRUNC), (false, libc::O_TRUNC)] {
        let opened = OpenOptions::new().read(true).write(write).custom_flags(flags).open(&program);
        refuses(opened, libc::ETXTBSY);
        assert_eq!(fs::metadata(&program).expect("stat").len(), size, "write {write}, flags {flags:#o}");
    }
    assert!(running.try_wait().expect("wait").is_none(), "it still runs");
    running.kill().expect("kill");
    running.wait().expect("wait");
    assert_eq!(fs::read(&program).expect("read"), fs::read("/bin/sleep").expect("read"));
    p.umount();
    p.check();
}

#[test]
fn compression_by_command_and_attribute() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    let store = p.at("store");
    p.ok(&["init", store.to_str().unwrap(), "--compression", "zstd:2"]);
    p.mount("");
    let text: Vec<u8> =
        pattern(1 << 20, 4).into_iter().enumerate().map(|(i, b)| b * (i % 4 == 0) as u8).collect();
    fs::create_dir_all(p.path("logs/old")).unwrap();
    let get = |path: &str| {
        let all = p.json(&["get", "--json", "compression", p.path(path).to_str().unwrap()]);
        let text = |key: &str| all[0][key].as_str().unwrap().to_string();
        (text("value"), text("source"))
    };
    let is = |value: &str, source: &str| (value.to_string(), source.to_string());
    assert_eq!((get(""), get("logs")), (is("zstd:2", "local"), is("zstd:2", "store")));
    p.ok(&["set", "compression=off", p.path("logs").to_str().unwrap(), p.path("logs/old").to_str().unwrap()]);
    fs::write(p.path("logs/plain"), &text).unwrap();
    assert_eq!(get("logs/plain"), is("off", "inherited"));
    fs::write(p.path("packed"), &text).unwrap();
    File::open(p.path("packed")).unwrap().sync_all().unwrap();
    p.snapshot("one");
    let stored = |path: &str| fs::metadata(p.path(path)).unwrap().blocks() * 512;
    assert!(stored("packed") < 1 << 19 && stored("logs/plain") == 1 << 20, "{}", stored("packed"));
    assert!(fs::read(p.path("packed")).unwrap() == text);
    assert!(fs::read(p.past("one", "packed")).unwrap() == text);
    let shown = p.ok(&["get", "compression", p.path("packed").to_str().unwrap()]);
    assert!(shown.contains("zstd:2") && shown.contains("SOURCE"), "{shown}");
    // The attribute is the same, by name alone.
    let name = "user.snapfs.compression";
    raw::set_attribute(&p.path("packed"), name, b"zstd:9").unwrap();
    assert_eq!(raw::attribute(&p.path("packed"), name).unwrap(), b"zstd:9");
    assert_eq!(raw::attributes(&p.path("packed")).unwrap(), Vec::<String>::new());
    refuses(raw::set_attribute(&p.path("packed"), name, b"lzma"), libc::EINVAL);
    refuses(raw::set_attribute(&p.past("one", "packed"), name, b"off"), libc::EROFS);
    // What is refused, and how.
    let packed = p.path("packed");
    let packed = packed.to_str().unwrap();
    assert_eq!(p.run(&["set", "compression=fast", packed]).code, 2);
    assert_eq!(p.run(&["set", "colour=red", packed]).code, 2);
    let missing = p.path("missing");
    let both = p.run(&["set", "--json", "compression=zstd", missing.to_str().unwrap(), packed]);
    assert!(both.code == 1 && both.out.contains("zstd:3") && both.err.contains("no such file"), "{both:?}");
    let snapshot = p.past("one", "packed");
    let inside = p.run(&["set", "compression=off", snapshot.to_str().unwrap()]);
    assert!(inside.code == 1 && inside.err.contains("snapshot"), "{inside:?}");
    let outside = p.run(&["get", "compression", store.to_str().unwrap()]);
    assert!(outside.code == 1 && outside.err.contains("mount"), "{outside:?}");
    p.umount();
    p.check();
    p.mount("");
    assert_eq!(get("packed"), is("zstd:3", "local"));
    assert!(fs::read(packed).unwrap() == text);
}
