//! `snapfs restore` on real mounts: everything that a tree can have, onto itself and elsewhere, with readers, pages and names
//! that the kernel holds; refusals; a kill right afterwards.

mod guard;
mod place;
mod raw;

use guard::can_mount;
use place::Place;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

/// All that is to be seen of a file, but its number, its places on the device, and when its inode was changed.
type Seen = (u32, u32, u32, u64, u64, (i64, i64), BTreeMap<String, Vec<u8>>, Vec<u8>);

/// A whole tree by path, and which paths are one file.
type Tree = (BTreeMap<PathBuf, Seen>, Vec<Vec<PathBuf>>);

/// That of a directory.
fn tree(dir: &Path) -> Tree {
    let (mut all, mut links, mut todo) =
        (BTreeMap::new(), BTreeMap::<u64, Vec<PathBuf>>::new(), vec![PathBuf::new()]);
    while let Some(name) = todo.pop() {
        let path = if name.as_os_str().is_empty() { dir.to_path_buf() } else { dir.join(&name) };
        let meta = fs::symlink_metadata(&path).unwrap();
        let kind = meta.file_type();
        let (mut content, mut attributes) = (Vec::new(), BTreeMap::new());
        if kind.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| name.join(entry.unwrap().file_name())));
        } else if kind.is_symlink() {
            content = fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes();
        } else if kind.is_file() {
            content = fs::read(&path).unwrap();
            links.entry(meta.ino()).or_default().push(name.clone());
        } else {
            content = meta.rdev().to_le_bytes().to_vec();
        }
        if kind.is_dir() || kind.is_file() {
            let names = raw::attributes(&path).unwrap();
            attributes.extend(names.into_iter().map(|name| {
                let value = raw::attribute(&path, &name).unwrap();
                (name, value)
            }));
        }
        // Entries of a directory count themselves, and what is small takes less once it has its place.
        let size = if kind.is_dir() { 0 } else { meta.size() };
        let blocks = if size < 1 << 16 { 0 } else { meta.blocks() };
        let time = (meta.mtime(), meta.mtime_nsec());
        all.insert(name, (meta.mode(), meta.uid(), meta.gid(), size, blocks, time, attributes, content));
    }
    let mut links: Vec<Vec<PathBuf>> = links.into_values().filter(|names| names.len() > 1).collect();
    links.iter_mut().for_each(|names| names.sort());
    links.sort();
    (all, links)
}

/// Fails with what differs.
fn assert_same(found: &Tree, wanted: &Tree) {
    let differs = |(path, seen): &(&PathBuf, &Seen), others: &Tree| others.0.get(*path) != Some(*seen);
    let short = |(path, seen): (&PathBuf, &Seen)| {
        let (mode, uid, gid, size, blocks, time, attributes, content) = seen;
        let attributes: Vec<_> = attributes.iter().map(|(name, value)| (name.clone(), value.len())).collect();
        let start: Vec<u8> = content.iter().take(8).copied().collect();
        format!("{} {mode:o} {uid} {gid} {size} {blocks} {time:?} {attributes:?} {start:?}", path.display())
    };
    let other = |a: &Tree, b: &Tree| -> Vec<String> {
        a.0.iter().filter(|entry| differs(entry, b)).map(short).collect()
    };
    assert!(found == wanted, "{:#?} instead of {:#?}", other(found, wanted), other(wanted, found));
}

/// Without the times of directories, which follow what is in them.
fn timeless(mut tree: Tree) -> Tree {
    tree.0
        .values_mut()
        .filter(|seen| seen.0 & libc::S_IFMT == libc::S_IFDIR)
        .for_each(|seen| seen.5 = (0, 0));
    tree
}

/// Without any times.
fn without_times(mut tree: Tree) -> Tree {
    tree.0.values_mut().for_each(|seen| seen.5 = (0, 0));
    tree
}

/// A directory with something of everything.
fn fill(p: &Place) {
    let dir = p.path("work");
    fs::create_dir_all(dir.join("sub/deep")).unwrap();
    fs::write(dir.join("small"), "small").unwrap();
    fs::write(dir.join("large"), vec![7; 300_000]).unwrap();
    fs::hard_link(dir.join("large"), dir.join("sub/also large")).unwrap();
    symlink("small", dir.join("link")).unwrap();
    raw::node(&dir.join("pipe"), libc::S_IFIFO | 0o640, 0, 0).unwrap();
    raw::node(&dir.join("socket"), libc::S_IFSOCK | 0o600, 0, 0).unwrap();
    raw::node(&dir.join("null"), libc::S_IFCHR | 0o666, 1, 3).unwrap();
    let sparse = File::create(dir.join("sparse")).unwrap();
    sparse.write_all_at(&[1; 5000], 1 << 20).unwrap();
    sparse.set_len(5 << 20).unwrap();
    fs::write(dir.join("sub/deep/owned"), "of somebody").unwrap();
    chown(dir.join("sub/deep/owned"), Some(1234), Some(99)).unwrap();
    fs::set_permissions(dir.join("sub/deep/owned"), fs::Permissions::from_mode(0o4750)).unwrap();
    raw::set_attribute(&dir.join("small"), "user.short", b"value").unwrap();
    raw::set_attribute(&dir.join("sub"), "user.long", &[b'x'; 4000]).unwrap();
    // user::rw-, user:1001:rwx, group::r--, mask::rwx, other::---
    let acl = [(1u16, 6u16, u32::MAX), (2, 7, 1001), (4, 4, u32::MAX), (16, 7, u32::MAX), (32, 0, u32::MAX)];
    let acl = acl.iter().flat_map(|(tag, perm, id)| {
        [tag.to_le_bytes().as_slice(), &perm.to_le_bytes(), &id.to_le_bytes()].concat()
    });
    let acl: Vec<u8> = 2u32.to_le_bytes().into_iter().chain(acl).collect();
    raw::set_attribute(&dir.join("small"), "system.posix_acl_access", &acl).unwrap();
    raw::set_attribute(&dir.join("sub"), "system.posix_acl_default", &acl).unwrap();
    assert!(
        Command::new("touch")
            .args(["-d", "2001-02-03 04:05:06.789"])
            .arg(dir.join("large"))
            .status()
            .unwrap()
            .success()
    );
}

/// Changes everything in it.
fn spoil(p: &Place) {
    let dir = p.path("work");
    fs::write(dir.join("small"), "not so small any more").unwrap();
    OpenOptions::new()
        .write(true)
        .open(dir.join("large"))
        .unwrap()
        .write_all_at(&[8; 200_000], 250_000)
        .unwrap();
    for name in ["link", "pipe", "socket", "null", "sub/also large"] {
        fs::remove_file(dir.join(name)).unwrap();
    }
    fs::remove_dir_all(dir.join("sub")).unwrap();
    fs::write(dir.join("sub"), "a file now").unwrap();
    File::options()
        .write(true)
        .open(dir.join("sparse"))
        .unwrap()
        .write_all_at(&[2; 100_000], 3 << 20)
        .unwrap();
    fs::create_dir(dir.join("newer")).unwrap();
    fs::write(dir.join("newer/file"), "newer").unwrap();
    fs::set_permissions(dir.join("small"), fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_tree_comes_back_with_all_that_it_had() {
    if !can_mount() {
        return;
    }
    for options in ["cache=strict", "cache=writeback"] {
        let p = Place::new();
        p.mount(options);
        fill(&p);
        let was = tree(&p.path("work"));
        fs::write(p.path("beside"), "is left alone").unwrap();
        p.snapshot("monday");
        let number = fs::metadata(p.path("work/large")).unwrap().ino();
        spoil(&p);
        let spoiled = tree(&p.path("work"));
        // What a dry run tells is what a difference tells, the other way round; and it leaves no trace.
        let told = p.ok(&["restore", "mnt/work", "--from", "monday", "--dry-run"]);
        assert!(told.contains("- work/newer/\n") && told.contains("+ work/sub/deep/owned\n"), "{told}");
        assert!(
            told.contains("M work/small (21 B -> 5 B, mode, acl") && told.contains("would change: "),
            "{told}"
        );
        assert_same(&tree(&p.path("work")), &spoiled);
        assert_eq!(p.json(&["list", "mnt", "--json"]).as_array().unwrap().len(), 1);

        // Names that the kernel knows not to be there, and pages that it holds.
        assert!(fs::metadata(p.path("work/pipe")).is_err() && fs::metadata(p.path("work/sub/deep")).is_err());
        fs::read(p.path("work/large")).unwrap();
        let said = p.json(&["restore", "mnt/work", "--from", "monday", "--json"]);
        assert_eq!(said["changed"], true);
        assert!(said["before"].as_str().unwrap().starts_with("@before-restore-"), "{said}");
        assert!(said["after"].as_str().unwrap().starts_with("@after-"), "{said}");
        assert_same(&tree(&p.path("work")), &was);
        assert_eq!(fs::metadata(p.path("work/large")).unwrap().ino(), number);
        assert!(
            fs::metadata(p.path("work/newer")).is_err()
                && fs::metadata(p.path("work/sub/deep")).unwrap().is_dir()
        );
        assert_eq!(fs::read_to_string(p.path("beside")).unwrap(), "is left alone");
        let guard = tree(&p.past(said["before"].as_str().unwrap(), "work"));
        match options {
            "cache=strict" => assert_same(&guard, &spoiled),
            // The kernel has times of its own until it hands over what it holds.
            _ => assert_same(&without_times(guard), &without_times(spoiled)),
        }
        assert_eq!(p.ok(&["restore", "mnt/work", "--from", "monday"]), "nothing differs\n");
        // Killed at once: it was answered, so it is there.
        p.kill();
        p.mount(options);
        assert_same(&tree(&p.path("work")), &was);
        p.umount();
        p.check();
    }
}

#[test]
fn copies_of_what_was_are_put_elsewhere() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fill(&p);
    let was = tree(&p.path("work"));
    p.snapshot("monday");
    fs::remove_dir_all(p.path("work")).unwrap();
    fs::create_dir(p.path("to")).unwrap();
    // It is gone, and its name is still found by where it was.
    p.ok(&["restore", "mnt/work", "--from", "monday", "--to", "mnt/to"]);
    assert_same(&tree(&p.path("to/work")), &was);
    p.ok(&["restore", "mnt/.snapshots/monday/work/sub", "--to", "mnt/to"]);
    assert!(fs::metadata(p.path("to/sub/deep")).unwrap().is_dir() && fs::metadata(p.path("work")).is_err());
    assert_ne!(
        fs::metadata(p.path("to/work/large")).unwrap().ino(),
        fs::metadata(p.path("to/sub/also large")).unwrap().ino()
    );
    let said = p.run(&["restore", "mnt/work", "--from", "monday", "--to", "mnt/to"]);
    assert!(said.code == 1 && said.err.contains("something of that name is there already"), "{said:?}");
    // Into a clone, and several at once, all or none.
    p.ok(&["clone", "mnt", "c"]);
    p.ok(&["restore", "mnt/work/small", "mnt/work/large", "--from", "monday", "--to", "mnt/.clones/c"]);
    assert_eq!(fs::read_to_string(p.path(".clones/c/small")).unwrap(), "small");
    let said = p.run(&["restore", "mnt/work/small", "mnt/work/no", "--from", "monday"]);
    assert!(said.code == 1 && said.err.contains("work/no: it is not in that view"), "{said:?}");
    assert!(fs::metadata(p.path("work")).is_err());
    p.ok(&["restore", "mnt/work/small", "mnt/work/sub/deep/owned", "--from", "monday"]);
    assert_eq!(fs::metadata(p.path("work/sub/deep/owned")).unwrap().mode() & 0o7777, 0o4750);
    p.ok(&["restore", "mnt/.snapshots/monday/work"]);
    assert_same(&tree(&p.path("work")), &was);
    p.umount();
    p.check();
}

#[test]
fn who_reads_sees_what_is_restored_and_who_writes_is_asked_to_stop() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fs::write(p.path("f"), vec![1; 100_000]).unwrap();
    p.snapshot("s");
    fs::write(p.path("f"), vec![2; 300_000]).unwrap();
    let (reader, mut buffer) = (File::open(p.path("f")).unwrap(), vec![0; 400_000]);
    assert_eq!(reader.read_at(&mut buffer, 0).unwrap(), 300_000);
    let writer = OpenOptions::new().write(true).open(p.path("f")).unwrap();
    let said = p.run(&["restore", "mnt/f", "--from", "s"]);
    assert!(said.code == 1 && said.err.starts_with("snapfs: /f: in use"), "{said:?}");
    assert_eq!(p.json(&["list", "mnt", "--json"]).as_array().unwrap().len(), 1, "no guard was left behind");
    drop(writer);
    p.ok(&["restore", "mnt/f", "--from", "s"]);
    let mut at = 0;
    while let Ok(n @ 1..) = reader.read_at(&mut buffer[at..], at as u64) {
        at += n;
    }
    assert!(at == 100_000 && buffer[..at].iter().all(|byte| *byte == 1), "{at} bytes");
    assert_eq!(reader.metadata().unwrap().len(), 100_000);
    // A mapping that somebody still has sees it too.
    fs::write(p.path("f"), vec![3; 100_000]).unwrap();
    let shell = "exec 3< mnt/f; tail -c 1 <&3 | od -An -tu1; read line; tail -c 1 mnt/f | od -An -tu1";
    let mut command = Command::new("sh");
    let mut child = p
        .settle(&mut command)
        .args(["-c", shell])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    p.ok(&["restore", "mnt/f", "--from", "s"]);
    drop(child.stdin.take());
    let out = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    assert!(out.trim_end().ends_with('1'), "{out}");
    // A file that was removed while somebody reads it is a file again; one that goes is read to its end.
    let gone = File::open(p.path("f")).unwrap();
    fs::remove_file(p.path("f")).unwrap();
    assert_eq!(gone.metadata().unwrap().nlink(), 0);
    p.ok(&["restore", "mnt/f", "--from", "s"]);
    assert_eq!((gone.metadata().unwrap().nlink(), fs::read(p.path("f")).unwrap().len()), (1, 100_000));
    fs::create_dir(p.path("d")).unwrap();
    p.snapshot("empty");
    fs::write(p.path("d/newer"), vec![5; 50_000]).unwrap();
    let newer = File::open(p.path("d/newer")).unwrap();
    p.ok(&["restore", "mnt/d", "--from", "empty"]);
    assert!(fs::metadata(p.path("d/newer")).is_err() && fs::read_dir(p.path("d")).unwrap().next().is_none());
    assert_eq!(newer.read_at(&mut buffer, 0).unwrap(), 50_000);
    drop((newer, gone, reader));
    p.umount();
    p.check();
    // Where the kernel keeps sizes, nobody may have it open at all.
    p.mount("cache=writeback");
    fs::write(p.path("f"), "changed").unwrap();
    let reader = File::open(p.path("f")).unwrap();
    let said = p.run(&["restore", "mnt/f", "--from", "s"]);
    assert!(said.code == 1 && said.err.contains("cache=writeback"), "{said:?}");
    drop(reader);
    p.ok(&["restore", "mnt/f", "--from", "s"]);
    assert!(fs::read(p.path("f")).unwrap() == vec![1; 100_000]);
    p.umount();
    p.check();
}

/// Appends lines again and again until told to end: how many.
fn append_lines(file: &Path, other: &Path, ends: &AtomicBool) -> usize {
    let mut lines = 0;
    while !ends.load(Ordering::Relaxed) {
        let appended =
            OpenOptions::new().append(true).open(file).and_then(|mut f| f.write_all(b"one line\n"));
        match appended {
            Ok(()) => lines += 1,
            // Exchanged once more while its name was looked for again.
            Err(e) if e.raw_os_error() == Some(libc::ESTALE) => {}
            Err(e) => panic!("{e}"),
        }
        // The file is not open for most of the time.
        (0..20).for_each(|_| assert_eq!(fs::read(other).unwrap(), b"other"));
    }
    lines
}

#[test]
fn what_is_appended_while_a_file_is_restored_is_behind_its_end() {
    if !can_mount() {
        return;
    }
    for options in ["", "cache=writeback"] {
        let p = Place::new();
        p.mount(options);
        fs::write(p.path("f"), "then\n").unwrap();
        fs::write(p.path("other"), "other").unwrap();
        p.snapshot("s");
        let (mut lines, mut restored) = (0, 0);
        for _ in 0..4 {
            fs::write(p.path("f"), "now\n".repeat(3000)).unwrap();
            let ends = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let appending = scope.spawn(|| append_lines(&p.path("f"), &p.path("other"), &ends));
                for _ in 0..10 {
                    let said = p.run(&["restore", "mnt/f", "--from", "s"]);
                    assert!(said.code == 0 || said.err.contains("in use"), "{said:?}");
                    restored += usize::from(said.code == 0);
                }
                ends.store(true, Ordering::Relaxed);
                lines += appending.join().unwrap();
            });
            p.ok(&["create", "mnt", "last"]);
            for file in [p.path("f"), p.path(".snapshots/last/f")] {
                let text = String::from_utf8(fs::read(&file).unwrap()).unwrap();
                let mut all = text.lines();
                let first = all.next().unwrap();
                let rest = if first == "now" { all.skip(2999).collect::<Vec<_>>() } else { all.collect() };
                assert!(["then", "now"].contains(&first), "{options} {file:?}: {text:?}");
                assert!(rest.iter().all(|line| *line == "one line"), "{options} {file:?}: {rest:?}");
            }
            p.ok(&["delete", "mnt", "last"]);
        }
        assert!(lines > 0 && restored > 0, "{lines} {restored}");
        p.umount();
        p.check();
    }
}

#[test]
fn what_goes_and_nobody_knows_gives_its_space_back() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fs::create_dir(p.path("d")).unwrap();
    p.snapshot("empty");
    fs::write(p.path("d/large"), vec![3; 8 << 20]).unwrap();
    // Mounted anew, so that the kernel knows nothing of it.
    p.umount();
    p.mount("");
    let used = raw::df(&p.at("mnt"));
    let used = used.0 - used.1;
    let said = p.json(&["restore", "mnt/d", "--from", "empty", "--json"]);
    p.ok(&["delete", "mnt", said["before"].as_str().unwrap(), said["after"].as_str().unwrap()]);
    let now = || {
        let (total, free, _) = raw::df(&p.at("mnt"));
        total - free
    };
    place::wait("the space", || now() + (7 << 20) < used);
    p.umount();
    p.check();
}

#[test]
fn what_cannot_be_restored_is_said() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fs::create_dir(p.path("d")).unwrap();
    fs::write(p.path("d/f"), "f").unwrap();
    p.snapshot("s");
    fs::remove_dir_all(p.path("d")).unwrap();
    fs::write(p.path("d"), "a file").unwrap();
    let refused = |args: &[&str], code: i32, why: &str| {
        let said = p.run(&[&["restore"], args].concat());
        assert!(
            said.code == code && said.err.contains(why) && said.err.lines().count() == 1,
            "{args:?}: {said:?}"
        );
    };
    refused(&["mnt/d"], 1, "Say --from VIEW");
    refused(&["mnt/d", "--from", "tuesday"], 1, "tuesday: no such view");
    refused(&["mnt/x/y/z", "--from", "s"], 1, "x/y/z: it is not in that view");
    refused(&["mnt/d/f", "--from", "s"], 1, "no directory now");
    refused(&["mnt/d", "--from", "s", "--to", "mnt/no"], 1, "no such directory");
    refused(&["mnt/d", "--from", "s", "--to", "mnt/.snapshots/s"], 1, "nothing can be changed there");
    refused(&["mnt/.snapshots/s/d", "--from", "s"], 1, "not both");
    refused(&["run", "--from", "s"], 1, "not in a mount");
    refused(&["mnt/d", "run", "--from", "s"], 1, "in different mounts");
    assert_eq!(p.run(&["restore"]).code, 2);
    assert_eq!(p.json(&["list", "mnt", "--json"]).as_array().unwrap().len(), 1);
    p.umount();
    p.mount("ro");
    refused(&["mnt/d", "--from", "s"], 1, "takes no changes");
    p.umount();
    p.check();
}

/// A tmpfs that is unmounted in the end, also when the test fails.
struct Tmpfs(PathBuf);

impl Tmpfs {
    /// None without the right to mount one.
    fn new(at: PathBuf) -> Option<Tmpfs> {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&at).status().unwrap();
        mounted.success().then_some(Tmpfs(at))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn what_is_mounted_below_stays() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fs::create_dir(p.path("d")).unwrap();
    fs::write(p.path("d/old"), "old").unwrap();
    p.snapshot("before");
    fs::create_dir(p.path("d/tm")).unwrap();
    p.ok(&["clone", "mnt", "tried"]);
    fs::rename(p.path(".clones/tried/d"), p.path(".clones/tried/e")).unwrap();
    let Some(tmpfs) = Tmpfs::new(p.path("d/tm")) else {
        return eprintln!("SKIPPED: no right to mount a tmpfs");
    };
    fs::write(p.path("d/tm/precious"), "precious").unwrap();
    let refused = |args: &[&str]| {
        let said = p.run(args);
        let told = said.err.contains("unmount them first") && said.err.contains("d/tm");
        assert!(said.code == 1 && told, "{args:?}: {said:?}");
        assert_eq!(fs::read(p.path("d/tm/precious")).unwrap(), b"precious", "{args:?}");
    };
    let dir = p.path("d");
    let restore = ["restore", dir.to_str().unwrap(), "--from", "before"];
    refused(&[&restore[..], &["--dry-run"]].concat());
    refused(&restore);
    refused(&["merge", "mnt", "tried"]);
    // What is beside it can be restored.
    fs::write(p.path("d/old"), "new").unwrap();
    p.ok(&["restore", p.path("d/old").to_str().unwrap(), "--from", "before"]);
    assert_eq!(fs::read(p.path("d/old")).unwrap(), b"old");
    drop(tmpfs);
    p.ok(&restore);
    assert!(!p.path("d/tm").exists());
    // To take that back makes it again; a mount there then is in the way of doing it once more.
    p.ok(&["undo", "mnt"]);
    let tmpfs = Tmpfs::new(p.path("d/tm"));
    fs::write(p.path("d/tm/precious"), "precious").unwrap();
    refused(&["undo", "mnt"]);
    drop(tmpfs);
    p.umount();
    p.check();
}

#[test]
fn a_restore_is_taken_back_unless_something_is_in_the_way() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    let said = p.run(&["undo", "mnt"]);
    assert!(said.code == 1 && said.err.contains("there is nothing to take back"), "{said:?}");
    fill(&p);
    p.snapshot("s");
    spoil(&p);
    let spoiled = tree(&p.path("work"));
    p.ok(&["restore", "mnt/work", "--from", "s"]);
    fs::write(p.path("later"), "stays").unwrap();
    let told = p.ok(&["undo", "mnt", "--dry-run"]);
    assert!(told.contains("+ work/newer/\n") && told.contains("would change"), "{told}");
    let said = p.json(&["undo", "mnt", "--json"]);
    assert_eq!(said["changed"], true);
    assert!(said["before"].as_str().unwrap().starts_with("@before-undo-"), "{said}");
    assert_same(&timeless(tree(&p.path("work"))), &timeless(spoiled));
    assert_eq!(fs::read_to_string(p.path("later")).unwrap(), "stays");
    // Again is forward; and after a remount.
    p.umount();
    p.mount("");
    p.ok(&["undo", "mnt/work"]);
    assert!(fs::metadata(p.path("work/pipe")).unwrap().file_type().is_fifo());
    fs::write(p.path("work/small"), "in the way").unwrap();
    let said = p.run(&["undo", "mnt"]);
    assert!(said.code == 3 && said.out.starts_with("C work/small: its content was changed"), "{said:?}");
    assert!(said.err.contains("nothing was taken back"), "{said:?}");
    assert_eq!(fs::read_to_string(p.path("work/small")).unwrap(), "in the way");
    p.umount();
    p.check();
}
