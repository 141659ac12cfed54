//! The ways in which mounts are used: one snapshot at a place of its own, two stores, other users, overlays, bind mounts,
//! mount namespaces; locks and events.
//!
//! What needs a mount of another kind makes it in a mount namespace of its own, which takes it along when it ends.

mod guard;
mod place;
mod raw;

use guard::can_mount;
use place::{Place, Said, names, refuses, said};
use snapfs::fuse::mounts;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

fn skipped(why: &str) {
    eprintln!("SKIPPED: {why}");
}

fn is_root() -> bool {
    snapfs::sys::process::effective_uid() == 0
}

fn is_mounted(point: &Path) -> bool {
    mounts::at(point).is_ok_and(|m| m.is_some())
}

/// Runs a script in the place, where `snapfs` is the program.
fn shell(p: &Place, script: &str) -> Said {
    let program = Path::new(env!("CARGO_BIN_EXE_snapfs")).parent().expect("a directory");
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap_or_default());
    said(p.settle(&mut Command::new("sh")).env("PATH", path).args(["-euc", script]))
}

/// The same in a mount namespace of its own; None where that cannot be.
fn apart(p: &Place, script: &str) -> Option<Said> {
    if shell(p, "unshare -m true").code != 0 {
        skipped("no right to make a mount namespace");
        return None;
    }
    let script = format!("unshare -m --propagation private sh -euc '{script}'");
    Some(shell(p, &script))
}

fn is_ok(said: &Said, out: &str) {
    assert!(said.code == 0 && said.out == out, "{said:?}");
}

fn ino(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).ino()
}

#[test]
fn a_snapshot_at_a_place_of_its_own() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fs::create_dir(p.path("dir")).unwrap();
    fs::write(p.path("dir/f"), "old").unwrap();
    fs::hard_link(p.path("dir/f"), p.path("g")).unwrap();
    symlink("dir/f", p.path("link")).unwrap();
    p.snapshot("a,b");
    fs::write(p.path("dir/f"), "new").unwrap();
    fs::remove_file(p.path("g")).unwrap();
    let paths = ["", "dir", "dir/f", "link"];
    let numbers = paths.map(|n| ino(&p.path(n)));
    fs::create_dir(p.at("past")).unwrap();
    p.ok(&["mount", "store", "past", "--snapshot", "a,b"]);

    assert_eq!(paths.map(|n| ino(&p.at("past").join(n))), numbers);
    assert_eq!(fs::read_to_string(p.at("past/link")).unwrap(), "old");
    let mut listed = names(&p.at("past"));
    listed.sort();
    assert_eq!(listed, ["dir", "g", "link"]);
    let g = fs::metadata(p.at("past/g")).unwrap();
    assert!(g.ino() == numbers[2] && g.nlink() == 2, "{g:?}");
    refuses(fs::metadata(p.at("past/.snapshots")), libc::ENOENT);
    refuses(fs::write(p.at("past/dir/f"), "x"), libc::EROFS);
    refuses(fs::create_dir(p.at("past/d")), libc::EROFS);
    refuses(fs::remove_file(p.at("past/g")), libc::EROFS);
    assert_eq!(p.json(&["status", "past", "--json"])["snapshot"], "a,b");
    assert_eq!(p.json(&["status", "mnt", "--json"])["snapshot"], serde_json::Value::Null);
    let shown = mounts::at(&p.at("past")).unwrap().expect("a mount").source.into_string().expect("text");
    assert!(shown.ends_with("store@a,b"), "{shown}");
    refuses(fs::remove_dir(p.past("a,b", "")), libc::EBUSY); // while it is mounted
    p.ok(&["umount", "past"]);
    fs::remove_dir(p.past("a,b", "")).unwrap();

    let none = p.run(&["mount", "store", "past", "--snapshot", "a,b"]);
    assert!(none.code == 1 && none.err.contains("a,b: no such snapshot"), "{none:?}");
    assert!(!is_mounted(&p.at("past")));
    p.snapshot("two");
    fs::write(p.path("dir/f"), "newer").unwrap();
    p.ok(&["mount", "store", "past", "-o", "snapshot=@latest"]);
    assert_eq!(fs::read_to_string(p.at("past/dir/f")).unwrap(), "new");
    p.umount(); // ends the other too
    assert!(!is_mounted(&p.at("past")));

    // Without the live tree: a daemon of its own, which keeps changes away.
    p.ok(&["mount", "store", "mnt", "--snapshot", "two"]);
    assert_eq!(fs::read_to_string(p.path("dir/f")).unwrap(), "new");
    assert_eq!(ino(&p.path("dir/f")), numbers[2]);
    let both = p.run(&["mount", "store", "past"]);
    assert!(both.code == 1 && both.err.contains("in use by"), "{both:?}");
    p.umount();
    for (name, words) in
        [("", "needs a name"), ("nope", "nope: no such snapshot"), ("..", "no such snapshot")]
    {
        let refused = p.run(&["mount", "store", "mnt", "--snapshot", name]);
        assert!(refused.code != 0 && refused.err.contains(words), "{name}: {refused:?}");
        assert!(!is_mounted(&p.at("mnt")));
    }
    p.check();
    fs::remove_dir(p.at("past")).unwrap();
}

#[test]
fn two_stores_at_once() {
    if !can_mount() {
        return;
    }
    let (p, q) = (Place::new(), Place::new());
    p.mount("");
    q.mount("cache=writeback");
    fs::write(p.path("f"), vec![7; 300_000]).unwrap();
    let copied =
        shell(&p, &format!("cp mnt/f {0}/f; mkdir mnt/.snapshots/a; rm mnt/f", q.at("mnt").display()));
    is_ok(&copied, "");
    assert_eq!(names(&q.path(".snapshots")), Vec::<String>::new());
    assert_eq!(names(&p.at("mnt")), Vec::<String>::new());
    assert!(fs::read(q.path("f")).unwrap() == fs::read(p.past("a", "f")).unwrap());
    refuses(fs::rename(q.path("f"), p.path("f")), libc::EXDEV);
    refuses(fs::hard_link(q.path("f"), p.path("f")), libc::EXDEV);
    assert_eq!(p.json(&["status", "--json"]).as_array().map(Vec::len), Some(1), "of this place");
    p.umount();
    assert!(fs::read(q.path("f")).unwrap() == vec![7; 300_000]);
    q.umount();
    p.check();
    q.check();
}

#[test]
fn access_lists_decide_for_other_users() {
    if !can_mount() {
        return;
    }
    if !is_root() || !Path::new("/usr/bin/setfacl").exists() || !Path::new("/usr/bin/setpriv").exists() {
        return skipped("no root, setfacl or setpriv: nothing is tried as another user");
    }
    let p = Place::new();
    fs::set_permissions(&p.dir.0, fs::Permissions::from_mode(0o755)).unwrap();
    p.mount("allow_other");
    let as_user = |uid: u32, script: &str| {
        shell(&p, &format!("setpriv --reuid={uid} --regid={uid} --clear-groups sh -c '{script}' 2>/dev/null"))
    };
    let made = shell(
        &p,
        "chmod 755 mnt; mkdir -m 750 mnt/d; setfacl -m u:1001:rwx,d:u:1001:rw,d:g::-,d:o::- mnt/d; umask 0; echo one > \
         mnt/d/f; mkdir mnt/d/sub; getfacl -cEn mnt/d/f mnt/d/sub",
    );
    let file = "user::rw-\nuser:1001:rw-\ngroup::---\nmask::rw-\nother::---\n\n";
    let dir = "user::rwx\nuser:1001:rw-\ngroup::---\nmask::rw-\nother::---\ndefault:user::rwx\ndefault:user:1001:rw-\n\
               default:group::---\ndefault:mask::rw-\ndefault:other::---\n\n";
    is_ok(&made, &format!("{file}{dir}"));
    is_ok(&as_user(1001, "echo two >> mnt/d/f && cat mnt/d/f && echo new > mnt/d/g"), "one\ntwo\n");
    assert_ne!(as_user(1002, "cat mnt/d/f").code, 0);
    assert_ne!(as_user(1001, "ls mnt/d/sub/x").code, 0, "no right to search");
    is_ok(
        &shell(&p, "mkdir mnt/.snapshots/a; setfacl -b mnt/d/f mnt/d; getfacl -cEn mnt/d/f"),
        "user::rw-\ngroup::---\nother::---\n\n",
    );
    assert_ne!(as_user(1001, "cat mnt/d/f").code, 0);
    is_ok(&as_user(1001, "cat mnt/.snapshots/a/d/f"), "one\ntwo\n"); // as they were then
    // Kept by whoever copies, and in a snapshot.
    let same = "getfacl -cEn mnt/.snapshots/a/d/f > a; cp -a mnt/.snapshots/a/d/f mnt/copy; getfacl -cEn mnt/copy | cmp - a";
    is_ok(&shell(&p, same), "");
    fs::remove_file(p.at("a")).unwrap();
    p.umount();
    p.check();
}

#[test]
fn the_lower_layer_of_an_overlay() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fs::create_dir_all(p.path("d/sub")).unwrap();
    fs::write(p.path("d/f"), "lower").unwrap();
    fs::write(p.path("d/sub/g"), "gone").unwrap();
    fs::write(p.path("d/exec"), "#!/bin/sh\necho ran\n").unwrap();
    fs::set_permissions(p.path("d/exec"), fs::Permissions::from_mode(0o755)).unwrap();
    p.snapshot("a");
    let before = ino(&p.path("d/f"));
    fs::create_dir(p.at("over")).unwrap();
    for lower in ["mnt/d", "mnt/.snapshots/a/d"] {
        let script = "mount -t tmpfs none over; mkdir over/u over/w over/m; mount -t overlay -o \
            lowerdir=LOWER,upperdir=over/u,workdir=over/w none over/m; cd over/m; ./exec; cat f; echo upper >> f; rm -r sub; \
            mv f h; mkdir sub; ln h i; ls; cat i; ls sub";
        let Some(said) = apart(&p, &script.replace("LOWER", lower)) else {
            let _ = fs::remove_dir(p.at("over"));
            return;
        };
        if said.err.contains("unknown filesystem type") {
            skipped("the kernel has no overlayfs");
            break;
        }
        is_ok(&said, "ran\nlowerexec\nh\ni\nsub\nlowerupper\n");
    }
    assert_eq!(fs::read_to_string(p.path("d/f")).unwrap(), "lower");
    assert_eq!(fs::read_to_string(p.path("d/sub/g")).unwrap(), "gone");
    assert_eq!(ino(&p.path("d/f")), before);
    fs::remove_dir(p.at("over")).unwrap();
    p.umount();
    p.check();
}

#[test]
fn bind_mounts_and_mount_namespaces() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fs::create_dir_all(p.path("a/b")).unwrap();
    fs::create_dir(p.at("bound")).unwrap();
    // A part of it at another place, which may be read-only by itself; its past is there too.
    let script = "mount --bind mnt/a bound; echo one > bound/b/f; mkdir mnt/.snapshots/s; echo two > bound/b/f; \
        cat bound/.snapshots/s/b/f mnt/a/b/f; ls bound/..; mount -o remount,bind,ro bound; \
        if echo x 2>/dev/null > bound/x; then echo written; fi; umount bound";
    let Some(bound) = apart(&p, script) else {
        let _ = fs::remove_dir(p.at("bound"));
        return;
    };
    assert!(
        bound.code == 0 && bound.out.starts_with("one\ntwo\n") && !bound.out.contains("written"),
        "{bound:?}"
    );
    // A mount that only its namespace sees.
    let script = "snapfs mount other bound; echo here > bound/f; mkdir bound/.snapshots/x; snapfs umount bound; \
                  snapfs mount other bound; cat bound/.snapshots/x/f; snapfs umount bound";
    is_ok(&apart(&p, script).expect("as before"), "here\n");
    assert_eq!(names(&p.at("bound")), Vec::<String>::new());
    assert_eq!(p.run(&["check", "other", "--data"]).code, 0);
    p.umount();
    p.check();
    fs::remove_dir(p.at("bound")).unwrap();
}

#[test]
fn a_mount_below_a_snapshot_goes_with_it() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fs::create_dir_all(p.path("d/deep")).unwrap();
    fs::create_dir(p.at("e")).unwrap();
    for (place, how) in
        [("d", "rmdir mnt/.snapshots/a"), ("d/deep", "rmdir mnt/.snapshots/a"), ("d", "snapfs delete mnt a")]
    {
        p.snapshot("a");
        if shell(&p, &format!("mount --bind e mnt/.snapshots/a/{place}")).code != 0 {
            skipped("no right to bind a directory");
            break;
        }
        is_ok(&shell(&p, how), "");
        let is_there = || mounts::all().unwrap().iter().any(|m| m.point.starts_with(p.path(".snapshots")));
        place::wait("the mount below the snapshot", || !is_there());
    }
    fs::remove_dir(p.at("e")).unwrap();
    p.umount();
    p.check();
}

#[test]
fn a_mount_that_is_moved_renamed_or_covered_goes_on() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    for options in ["", "-o cache=writeback"] {
        // Open for reading, too: else the kernel can hold nothing of it, and the way to the mount is not needed.
        let script = format!(
            "set -e; mount --make-rprivate /; mkdir -p up/m other; snapfs mount store up/m {options}; \
             : >up/m/f; exec 3<>up/m/f; echo one >&3; mv up moved; mkdir moved/m/.snapshots/renamed; \
             echo two >&3; mount --move moved/m other; mkdir other/.snapshots/moved; \
             cd other; echo three >&3; mount -t tmpfs none \"$PWD\"; mkdir .snapshots/covered; \
             mount -t tmpfs none \"$PWD\"; mount -t tmpfs none \"${{PWD%/*}}\"; echo four >&3; mkdir .snapshots/deep; \
             umount \"${{PWD%/*}}\"; umount \"$PWD\"; umount \"$PWD\"; \
             for s in renamed moved covered deep; do wc -l <.snapshots/$s/f; rmdir .snapshots/$s; done; \
             cd ..; exec 3>&-; mkdir -p up/m; snapfs umount up/m && exit 9; rmdir up/m up; \
             snapfs umount other; rmdir other moved/m moved"
        );
        let Some(said) = apart(&p, &script) else { return skipped("no right to move mounts") };
        is_ok(&said, "1\n2\n3\n4\n");
        assert!(said.err.contains("up/m is not mounted: the mount is at"), "{said:?}");
        // Unmounted by the path that it has now, the store is closed.
        p.check();
    }
}

#[test]
fn locks_of_all_kinds() {
    if !can_mount() {
        return;
    }
    for options in ["", "cache=writeback"] {
        let p = Place::new();
        p.mount(options);
        let file = |name| {
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(p.path(name)).unwrap()
        };
        // Ranges, by description: another description of the same file is another owner.
        let (a, b) = (file("f"), file("f"));
        raw::lock_range(&a, libc::F_WRLCK, 10, 10).unwrap();
        refuses(raw::lock_range(&b, libc::F_RDLCK, 19, 1), libc::EAGAIN);
        raw::lock_range(&b, libc::F_WRLCK, 20, 0).unwrap();
        refuses(raw::lock_range(&a, libc::F_WRLCK, 1 << 40, 1), libc::EAGAIN);
        drop(b); // lets go
        raw::lock_range(&a, libc::F_WRLCK, 1 << 40, 1).unwrap();
        // Of the whole file, also between processes.
        let held = file("g");
        held.lock().unwrap();
        let other = |kind: &str| shell(&p, &format!("flock -n {kind} mnt/g true")).code;
        assert_eq!(other("-x"), 1);
        held.unlock().unwrap();
        held.lock_shared().unwrap();
        assert_eq!((other("-s"), other("-x")), (0, 1));
        drop(held);
        assert_eq!(other("-x"), 0);
        // A snapshot is locked by itself.
        let held = file("g");
        held.lock().unwrap();
        p.snapshot("s");
        File::open(p.past("s", "g")).unwrap().try_lock_shared().unwrap();
        drop((held, a));
        p.umount();
    }
}

#[test]
fn file_handles_outlive_the_mount() {
    if !can_mount() {
        return;
    }
    if !is_root() {
        return skipped("no root: files are not opened by handle");
    }
    let p = Place::new();
    p.mount("");
    fs::create_dir_all(p.path("d/e")).unwrap();
    fs::write(p.path("d/e/f"), "content").unwrap();
    fs::write(p.path("d/gone"), "content").unwrap();
    let handles = ["d/e/f", "d/e", "d/gone"].map(|n| raw::handle_of(&p.path(n)).unwrap());
    fs::remove_file(p.path("d/gone")).unwrap();
    p.umount();
    p.mount("");
    let root = File::open(p.path("")).unwrap();
    let open = |n: usize| raw::open_handle(&root, &handles[n], libc::O_RDONLY);
    let mut text = String::new();
    open(0).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "content");
    // A directory is found again with the way to it, through "..".
    let dir = open(1).unwrap();
    let way = fs::read_link(format!("/proc/self/fd/{}", dir.as_raw_fd())).unwrap();
    assert_eq!(way, p.path("d/e"));
    refuses(open(2), libc::ESTALE);
    fs::write(p.path("d/next"), "another").unwrap(); // its number is a new one
    refuses(open(2), libc::ESTALE);
    drop((dir, root));
    p.umount();
}

/// A server knows a directory by its handle alone. The kernel asks for the way up, and in each directory for the name of the
/// one below.
#[test]
fn handles_of_the_past_and_of_clones_outlive_the_mount() {
    if !can_mount() {
        return;
    }
    if !is_root() {
        return skipped("no root: files are not opened by handle");
    }
    for options in ["", "snapdir=visible", "snapdir_name=.past"] {
        let p = Place::new();
        p.mount(options);
        let snapdir = if options.contains("name") { ".past" } else { ".snapshots" };
        fs::create_dir_all(p.path("d/e")).unwrap();
        fs::write(p.path("d/e/f"), "content").unwrap();
        p.ok(&["create", "mnt", "s"]);
        p.ok(&["clone", "mnt", "c"]);
        p.ok(&["create", "mnt/.clones/c", "t"]);
        let ways = [
            "PAST",
            "PAST/s",
            "PAST/s/d/e",
            "d/PAST",
            "d/PAST/s",
            "d/PAST/s/e",
            ".clones",
            ".clones/c",
            ".clones/c/d/e",
            ".clones/c/PAST",
            ".clones/c/d/PAST/t/e",
        ];
        let ways = ways.map(|way| p.path(&way.replace("PAST", snapdir)));
        let handles = ways.each_ref().map(|way| raw::handle_of(way).unwrap());
        p.umount();
        p.mount(options);
        let root = File::open(p.path("")).unwrap();
        let open = |n: usize| raw::open_handle(&root, &handles[n], libc::O_RDONLY);
        // The deepest first: what is above is not known yet either.
        for n in (0..ways.len()).rev() {
            let dir = open(n).unwrap();
            assert_eq!(fs::read_link(format!("/proc/self/fd/{}", dir.as_raw_fd())).unwrap(), ways[n]);
        }
        let shown = if options.contains("visible") { vec!["d", ".snapshots"] } else { vec!["d"] };
        assert_eq!((names(&p.path("")), names(&p.path("d"))), (owned(&shown), owned(&["e"])));
        p.ok(&["delete", "mnt", "s"]);
        p.ok(&["drop", "mnt", "c"]);
        for n in [1, 2, 4, 5, 7, 8, 9, 10] {
            refuses(open(n), libc::ESTALE);
        }
        drop(root);
        p.umount();
        p.check();
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

#[test]
fn events_reach_who_watches() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fs::create_dir(p.path("d")).unwrap();
    let mask = libc::IN_CREATE | libc::IN_MODIFY | libc::IN_MOVE | libc::IN_DELETE | libc::IN_CLOSE_WRITE;
    let mut watch = raw::Watch::new(&p.path("d"), mask).unwrap();
    // By a program of its own: a file that is open here is for a moment open in whatever another test starts.
    is_ok(&shell(&p, "printf x > mnt/d/f && mv mnt/d/f mnt/d/g && rm mnt/d/g"), "");
    let events = [
        (libc::IN_CREATE, "f"),
        (libc::IN_MODIFY, "f"),
        (libc::IN_CLOSE_WRITE, "f"),
        (libc::IN_MOVED_FROM, "f"),
        (libc::IN_MOVED_TO, "g"),
        (libc::IN_DELETE, "g"),
    ];
    assert_eq!(watch.events(), events.map(|(kind, name)| (kind, name.to_string())));
    // Those of .snapshots are of no file in the live tree.
    p.snapshot("s");
    assert_eq!(watch.events(), []);
    let mut watch = raw::Watch::new(&p.path(".snapshots"), mask).unwrap();
    p.snapshot("t");
    fs::remove_dir(p.past("s", "")).unwrap();
    let kinds: Vec<u32> = watch.events().into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [libc::IN_CREATE | libc::IN_ISDIR, libc::IN_DELETE | libc::IN_ISDIR]);
    p.umount();
}

#[test]
fn appends_of_many_processes_are_whole() {
    if !can_mount() {
        return;
    }
    for options in ["", "cache=writeback"] {
        let p = Place::new();
        p.mount(options);
        let script = "for p in 1 2 3 4 5 6; do (i=0; while [ $i -lt 300 ]; do i=$((i+1)); printf \"%d %0200d\\n\" $p $i; done) \
            >> mnt/log & done; wait; mkdir mnt/.snapshots/s";
        is_ok(&shell(&p, script), "");
        for path in [p.path("log"), p.past("s", "log")] {
            let text = fs::read_to_string(path).unwrap();
            let mut next = [1; 7];
            for line in text.lines() {
                assert_eq!(line.len(), 202, "{line}");
                let (writer, count) = line.split_once(' ').expect("two numbers");
                let writer: usize = writer.parse().unwrap();
                assert_eq!(count.parse::<u32>().unwrap(), next[writer], "of {writer}");
                next[writer] += 1;
            }
            assert_eq!(next[1..], [301; 6]);
        }
        p.umount();
        p.check();
    }
}

#[test]
fn immutable_files_have_all_that_was_written_before() {
    if !can_mount() {
        return;
    }
    for options in ["", "cache=writeback"] {
        let p = Place::new();
        p.mount(options);
        if shell(&p, "command -v chattr lsattr && : > mnt/try && chattr +i mnt/try").code != 0 {
            skipped("no chattr (package e2fsprogs), or no right to make a file immutable");
            p.umount();
            return;
        }
        let mut open = File::create(p.path("f")).unwrap();
        open.write_all(b"written, and not closed").unwrap();
        raw::set_file_flags(&open, 0x10).unwrap(); // chattr opens the file and closes it, which flushes
        is_ok(&shell(&p, "lsattr mnt/f | cut -c5"), "i\n");
        refuses(File::options().append(true).open(p.path("f")), libc::EPERM);
        refuses(fs::remove_file(p.path("f")), libc::EPERM);
        refuses(fs::rename(p.path("f"), p.path("g")), libc::EPERM);
        drop(open);
        is_ok(&shell(&p, "echo a > mnt/log; chattr +a mnt/log; echo b >> mnt/log; cat mnt/log"), "a\nb\n");
        refuses(File::create(p.path("log")), libc::EPERM);
        p.umount();
        p.mount(options);
        assert_eq!(fs::read(p.path("f")).unwrap(), b"written, and not closed");
        assert_eq!(fs::read(p.path("log")).unwrap(), b"a\nb\n");
        is_ok(&shell(&p, "chattr -i mnt/f mnt/try; chattr -a mnt/log; rm mnt/*"), "");
        p.umount();
        p.check();
    }
}

/// Scheduling policy and number of allowed processors of each thread of a process.
fn threads_of(pid: u64) -> Vec<(libc::c_int, usize)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let of = |dir: std::path::PathBuf| {
        let stat = fs::read_to_string(dir.join("stat")).ok()?;
        let status = fs::read_to_string(dir.join("status")).ok()?;
        let mask = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed:"))?.trim().to_owned();
        let ones = mask.chars().filter_map(|c| c.to_digit(16)).map(|d| d.count_ones() as usize).sum();
        // The 39th field behind the name is the policy: proc_pid_stat(5).
        Some((stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(38)?.parse().ok()?, ones))
    };
    tasks.filter_map(|task| of(task.path())).collect()
}

/// So many programs ask for names as fast as they can while others write, wait for the disk, and make snapshots.
fn ask_all_the_time(p: &Place, programs: usize) {
    let stop = AtomicBool::new(false);
    let greedy = |program: usize| {
        // One small request after the other: lookups of what is not there yet, creations, removals.
        for n in 0.. {
            let path = p.path(&format!("g{program}-{}", n % 50));
            fs::write(&path, b"x").unwrap();
            fs::remove_file(&path).unwrap();
            if stop.load(Ordering::Relaxed) {
                return n;
            }
        }
        unreachable!()
    };
    std::thread::scope(|s| {
        let greedy: Vec<_> = (0..programs).map(|program| s.spawn(move || greedy(program))).collect();
        let others: Vec<_> = (0..3)
            .map(|t| {
                s.spawn(move || {
                    let mut file = File::create(p.path(&format!("other{t}"))).unwrap();
                    for n in 0..60 {
                        file.write_all(&[t; 5000]).unwrap();
                        file.sync_all().unwrap();
                        std::thread::sleep(Duration::from_millis(n % 7));
                    }
                })
            })
            .collect();
        for n in 0..20 {
            p.snapshot(&format!("s{programs}-{n}"));
            std::thread::sleep(Duration::from_millis(25));
        }
        others.into_iter().for_each(|other| other.join().unwrap());
        stop.store(true, Ordering::Relaxed);
        for program in greedy {
            assert!(program.join().unwrap() > 0);
        }
    });
}

#[test]
fn who_asks_all_the_time_keeps_nobody_else_waiting() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    for programs in [1, 4] {
        ask_all_the_time(&p, programs);
    }
    // When nobody asks any more the daemon's threads are as all others.
    let pid = p.json(&["status", "mnt", "--json"])["pid"].as_u64().unwrap();
    let all = threads_of(u64::from(std::process::id())).iter().map(|t| t.1).max().unwrap();
    place::wait("ordinary threads", || {
        let of_requests = threads_of(pid);
        // But for the one that commits.
        let others: Vec<_> = of_requests.iter().map(|t| t.0).filter(|p| *p != libc::SCHED_OTHER).collect();
        others == [libc::SCHED_BATCH]
            && of_requests.iter().filter(|(_, processors)| *processors == all).count() + 1
                >= of_requests.len()
    });
    p.umount();
    p.check();
}

#[test]
fn programs_run_from_the_mount_and_from_snapshots() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    // A program that runs from the mount: mapped for execution, its data private.
    let copied = shell(
        &p,
        "cp \"$(command -v sleep)\" mnt/prog && ./mnt/prog 0 && cmp mnt/prog \"$(command -v sleep)\"",
    );
    is_ok(&copied, "");
    let before = fs::read(p.path("prog")).unwrap();
    p.snapshot("s");
    fs::remove_file(p.path("prog")).unwrap();
    let mut file = File::create(p.path("prog")).unwrap();
    file.write_all(b"not a program").unwrap();
    drop(file);
    fs::set_permissions(p.path("prog"), fs::Permissions::from_mode(0o755)).unwrap();
    is_ok(&shell(&p, "mnt/.snapshots/s/prog 0"), "");
    assert!(fs::read(p.past("s", "prog")).unwrap() == before);
    p.umount();
}

#[test]
fn one_snapshot_is_walked_through_many_snapdirs_at_once() {
    if !can_mount() {
        return;
    }
    for options in ["", "cache=writeback"] {
        let p = Place::new();
        p.mount(options);
        fs::create_dir_all(p.path("d/e/x/y/z")).unwrap();
        fs::write(p.path("d/e/x/f"), "content").unwrap();
        fs::write(p.path("d/e/x/y/z/g"), "content").unwrap();
        p.snapshot("s");
        fs::write(p.path("d/e/x/f"), "later").unwrap();
        let ways = [("", "d/e/x"), ("d", "e/x"), ("d/e", "x"), ("d/e/x", "")].map(|(dir, below)| {
            let way = p.path(dir).join(".snapshots/s").join(below).display().to_string();
            way.trim_end_matches('/').to_string()
        });
        // Where names could not be dropped one by one soon enough all are asked for anew: a moment in which none is there.
        let script =
            "here() { k=0; while :; do is=$(readlink /proc/self/cwd); [ \"$is\" = \"$1 (deleted)\" ] || break
                k=$((k+1)); [ $k -lt 100 ] || break; sleep 0.02; stat \"$1\" > /dev/null; done
              [ \"$is\" = \"$1\" ] || { echo \"$is is not $1\"; exit 1; }; }
            i=0; while [ $i -lt 12 ]; do i=$((i+1))
            cd \"$1\"; here \"$1\"; [ \"$(cat f)\" = content ]; ls -lR > /dev/null; here \"$1\"
            cd y/z; here \"$1/y/z\"; stat g ../../f > /dev/null; cd ../..; here \"$1\"; cd /; done";
        let walkers: Vec<_> = (0..50)
            .map(|n| {
                let way = ways[n % ways.len()].clone();
                let mut command = Command::new("sh");
                command.args(["-euc", script, "sh", &way]).current_dir("/");
                std::thread::spawn(move || said(&mut command))
            })
            .collect();
        let mut n = 0;
        while walkers.iter().any(|walker| !walker.is_finished()) {
            p.snapshot(&format!("t{n}"));
            fs::rename(p.past(&format!("t{n}"), ""), p.past(&format!("u{n}"), "")).unwrap();
            assert_eq!(fs::read(p.path(&format!("d/e/.snapshots/u{n}/x/f"))).unwrap(), b"later");
            fs::remove_dir(p.past(&format!("u{n}"), "")).unwrap();
            n += 1;
        }
        for walker in walkers {
            is_ok(&walker.join().unwrap(), "");
        }
        p.umount();
        p.check();
    }
}

#[test]
fn names_of_snapshots_are_never_stale() {
    if !can_mount() {
        return;
    }
    for options in ["", "cache=writeback"] {
        let p = Place::new();
        p.mount(options);
        fs::create_dir_all(p.path("d/e")).unwrap();
        fs::write(p.path("d/e/f"), "0").unwrap();
        let ways = [".snapshots/NAME/d/e/f", "d/.snapshots/NAME/e/f", "d/e/.snapshots/NAME/f"];
        let seen = |name: &str| ways.map(|way| fs::read_to_string(p.path(&way.replace("NAME", name))).ok());
        let all = |text: &str| [(); 3].map(|()| Some(text.to_string()));
        assert_eq!(seen("s"), [None, None, None]);
        for round in 0..5 {
            fs::write(p.path("d/e/f"), format!("a{round}")).unwrap();
            p.snapshot("s");
            assert_eq!(seen("s"), all(&format!("a{round}")));
            fs::rename(p.past("s", ""), p.past("t", "")).unwrap();
            assert_eq!((seen("s"), seen("t")), ([None, None, None], all(&format!("a{round}"))));
            // With a file and a directory of it open, gone by request of the kernel's and made anew.
            let (mut file, dir) =
                (File::open(p.path("d/e/.snapshots/t/f")).unwrap(), p.path("d/.snapshots/t"));
            let within = raw::handle_of(&dir).unwrap();
            fs::remove_dir(p.past("t", "")).unwrap();
            assert_eq!(seen("t"), [None, None, None]);
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, format!("a{round}"));
            drop(file);
            if is_root() {
                let root = File::open(p.path("")).unwrap();
                assert!(raw::open_handle(&root, &within, libc::O_RDONLY).and_then(|d| d.metadata()).is_err());
            }
            // The same by command.
            fs::write(p.path("d/e/f"), format!("b{round}")).unwrap();
            p.ok(&["create", "mnt", "s"]);
            assert_eq!(seen("s"), all(&format!("b{round}")));
            p.ok(&["rename", "mnt", "s", "t"]);
            assert_eq!((seen("s"), seen("t")), ([None, None, None], all(&format!("b{round}"))));
            p.ok(&["delete", "mnt", "t"]);
            assert_eq!((seen("s"), seen("t")), ([None, None, None], [None, None, None]));
        }
        p.umount();
        p.check();
    }
}

/// A rename from one `.snapshots` to another is always refused, and locks both: at each moment one waits for the request
/// that deletes, and keeps the other locked.
#[test]
fn renames_that_are_refused_keep_no_name() {
    if !can_mount() {
        return;
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let numbers: Vec<u32> = release.split(['.', '-']).map_while(|n| n.parse().ok()).take(2).collect();
    if numbers < vec![6, 16] {
        return skipped("the kernel has no other way to drop names");
    }
    let p = Place::new();
    p.mount("");
    fs::create_dir_all(p.path("d/e")).unwrap();
    p.snapshot("kept");
    let snapdirs = ["", "d", "d/e"].map(|dir| p.path(dir).join(".snapshots"));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (from, to) in [(0, 1), (1, 0), (1, 2), (2, 0)] {
            let (from, to, done) = (snapdirs[from].join("kept"), snapdirs[to].join("other"), &done);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    assert!(fs::rename(&from, &to).is_err());
                }
            });
        }
        let _end = Flag(&done);
        let seen = |name: &str| snapdirs.each_ref().map(|dir| dir.join(name).join(".").exists());
        for round in 0..12 {
            let (s, t) = (format!("s{round}"), format!("t{round}"));
            assert_eq!((seen(&s), seen(&t)), ([false; 3], [false; 3]));
            p.snapshot(&s);
            assert_eq!(seen(&s), [true; 3], "made in round {round}");
            fs::rename(p.past(&s, ""), p.past(&t, "")).unwrap();
            assert_eq!((seen(&s), seen(&t)), ([false; 3], [true; 3]), "renamed in round {round}");
            let mut within = Command::new("sh");
            within.args(["-c", "read _; pwd -P"]).current_dir(snapdirs[1].join("kept"));
            let mut within = within.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            fs::remove_dir(p.past(&t, "")).unwrap();
            assert_eq!(seen(&t), [false; 3], "deleted in round {round}");
            assert_eq!(seen("kept"), [true; 3]);
            within.stdin.take().unwrap().write_all(b"\n").unwrap();
            let said = within.wait_with_output().unwrap();
            assert!(said.stdout.ends_with(b"/d/.snapshots/kept\n"), "{said:?}");
        }
    });
    p.umount();
    p.check();
}

/// Is raised at the end of its scope, however that comes.
struct Flag<'a>(&'a AtomicBool);

impl Drop for Flag<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_name_given_again_means_the_new_snapshot_to_all_who_walk() {
    if !can_mount() {
        return;
    }
    for options in ["", "cache=writeback"] {
        let p = Place::new();
        p.mount(options);
        fs::create_dir_all(p.path("d/e")).unwrap();
        let ways = [".snapshots/s/d/e/f", "d/.snapshots/s/e/f", "d/e/.snapshots/s/f"].map(|way| p.path(way));
        // What is older than this is deleted, and whoever deleted it was told so.
        let (oldest, working) = (AtomicU64::new(1), Arc::new(()));
        let watch = Arc::downgrade(&working);
        std::thread::scope(|scope| {
            for n in 0..12 {
                let (way, oldest, watch) = (&ways[n % ways.len()], &oldest, &watch);
                scope.spawn(move || {
                    while watch.strong_count() > 0 {
                        let least = oldest.load(Ordering::SeqCst);
                        match fs::read_to_string(way) {
                            Ok(text) => assert!(text.parse::<u64>().unwrap() >= least, "{text}, {least}"),
                            Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::NotFound, "{e}"),
                        }
                    }
                });
            }
            let _working = working;
            for round in 1..=40 {
                fs::write(p.path("d/e/f"), round.to_string()).unwrap();
                let by_command = round % 2 == 0;
                if by_command {
                    p.ok(&["create", "mnt", "s"]);
                } else {
                    p.snapshot("s");
                }
                for way in &ways {
                    assert_eq!(fs::read_to_string(way).unwrap(), round.to_string());
                }
                if by_command {
                    p.ok(&["delete", "mnt", "s"]);
                } else {
                    fs::remove_dir(p.past("s", "")).unwrap();
                }
                oldest.store(round + 1, Ordering::SeqCst);
                assert!(ways.iter().all(|way| !way.exists()));
            }
        });
        p.umount();
        p.check();
    }
}
