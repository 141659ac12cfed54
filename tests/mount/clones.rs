//! Clones on real mounts: whole trees that are written, kernel's pages and caches, commands, places of their own, crashes.

mod guard;
mod place;
mod raw;

use guard::can_mount;
use place::{Place, names, refuses, said, wait};
use snapfs::fuse::mounts;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).expect("open")
}

/// A path in a clone.
fn at(p: &Place, clone: &str, name: &str) -> PathBuf {
    p.path(".clones").join(clone).join(name)
}

fn make(p: &Place, clone: &str) {
    fs::create_dir(at(p, clone, "")).unwrap_or_else(|e| panic!("mkdir .clones/{clone}: {e}"));
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn shell(p: &Place, script: &str) -> place::Said {
    said(p.settle(&mut Command::new("sh")).args(["-euc", script]))
}

#[test]
fn a_clone_is_a_whole_tree() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fs::create_dir(p.path("dir")).unwrap();
    fs::write(p.path("dir/f"), "one").unwrap();
    fs::write(p.path("big"), vec![7; 3 << 20]).unwrap();
    make(&p, "x");
    assert_eq!((names(&p.path(".clones")), names(&p.at("mnt")).len()), (vec!["x".into()], 2));
    fs::write(at(&p, "x", "dir/f"), "of x").unwrap();
    fs::write(p.path("dir/f"), "two").unwrap();
    assert_eq!((read(&at(&p, "x", "dir/f")), read(&p.path("dir/f"))), ("of x".into(), "two".into()));
    assert_eq!(names(&p.path(".snapshots")), Vec::<String>::new(), "nothing is left of its making");

    // Its nodes are on the same device, and others.
    let (ours, theirs) = [p.path("dir/f"), at(&p, "x", "dir/f")].map(|f| fs::metadata(f).unwrap()).into();
    assert!(ours.dev() == theirs.dev() && ours.ino() != theirs.ino());
    fs::rename(at(&p, "x", "dir/f"), at(&p, "x", "g")).unwrap();
    fs::hard_link(at(&p, "x", "g"), at(&p, "x", "dir/h")).unwrap();
    refuses(fs::rename(at(&p, "x", "g"), p.path("g")), libc::EXDEV);
    refuses(fs::hard_link(at(&p, "x", "g"), p.path("g")), libc::EXDEV);
    let script = "cd mnt/.clones/x; test $PWD = $(pwd -P); mv g k; setfattr -n user.a -v b k 2>/dev/null || true
        flock k true; dd if=/dev/zero of=direct bs=4096 count=4 oflag=direct 2>/dev/null; df . >/dev/null
        cp --reflink=auto big copy; cmp big copy; cp ../../big from-main; cmp big from-main; ls -la >/dev/null
        ln -s k link; cat link; test $(stat -c %h k) = 2; chmod 600 k; tar c . | tar t >/dev/null; getfattr -d k >/dev/null 2>&1 || true";
    let done = shell(&p, script);
    assert!(done.code == 0 && done.out == "of x", "{done:?}");

    // A snapshot of the clone, and a clone of the clone.
    fs::create_dir(at(&p, "x", ".snapshots/s")).unwrap();
    fs::write(at(&p, "x", "k"), "later").unwrap();
    assert_eq!(read(&at(&p, "x", ".snapshots/s/k")), "of x");
    refuses(fs::write(at(&p, "x", ".snapshots/s/k"), ""), libc::EROFS);
    fs::create_dir(at(&p, "x", ".clones/y")).unwrap();
    assert_eq!(read(&at(&p, "y", "k")), "later");
    assert_eq!(read(&at(&p, "x", ".clones/y/k")), "later");
    assert_eq!(read(&at(&p, "y", ".snapshots/s/k")), "of x");
    refuses(fs::remove_dir(at(&p, "y", ".snapshots/s")), libc::EPERM);
    fs::rename(at(&p, "y", ""), at(&p, "z", "")).unwrap();
    refuses(fs::metadata(at(&p, "y", "k")), libc::ENOENT);
    assert_eq!(read(&at(&p, "z", "k")), "later");

    // Refusals.
    for (name, error) in [(".x", libc::EINVAL), ("@x", libc::EINVAL), ("x", libc::EEXIST)] {
        refuses(fs::create_dir(at(&p, name, "")), error);
    }
    refuses(fs::rename(at(&p, "x", ""), at(&p, ".n", "")), libc::EINVAL);
    refuses(fs::write(p.path(".clones/file"), ""), libc::EPERM);
    refuses(fs::rename(p.path("big"), p.path(".clones/big")), libc::EXDEV);
    refuses(fs::create_dir(p.path(".clones")), libc::EEXIST);
    refuses(fs::remove_dir(p.path(".clones")), libc::EPERM);
    refuses(fs::metadata(p.path("dir/.clones")), libc::ENOENT);

    fs::remove_dir(at(&p, "x", "")).unwrap();
    assert_eq!(read(&at(&p, "z", "k")), "later");
    p.umount();
    p.check();
    p.mount("ro");
    assert_eq!((names(&p.path(".clones")), read(&at(&p, "z", "k"))), (vec!["z".into()], "later".into()));
    refuses(fs::create_dir(at(&p, "n", "")), libc::EROFS);
    refuses(fs::remove_dir(at(&p, "z", "")), libc::EROFS);
    p.umount();
    p.mount("clonedir=disabled");
    refuses(fs::metadata(p.path(".clones")), libc::ENOENT);
    fs::create_dir(p.path(".clones")).unwrap();
    fs::remove_dir(p.path(".clones")).unwrap();
    p.umount();
}

#[test]
fn what_was_written_before_is_in_clones_and_in_snapshots_of_clones() {
    if !can_mount() {
        return;
    }
    for options in ["cache=strict", "cache=writeback"] {
        let p = Place::new();
        p.mount(options);
        fs::write(p.path("mapped"), vec![9; 1 << 20]).unwrap();
        make(&p, "x");
        let mut made = Vec::new();
        for round in 1..=5u8 {
            for (line, root) in [("main", p.at("mnt")), ("x", at(&p, "x", ""))] {
                let (file, mapped) = (open(&root.join("plain")), open(&root.join("mapped")));
                let map = raw::Mapping::new(&mapped, 1 << 20);
                let fill = |byte| (0..256).for_each(|page| map.store(page * 4096, byte));
                file.write_all_at(&vec![round; 300_000], 0).unwrap();
                fill(round);
                let name = format!("{line}-{round}");
                fs::create_dir(root.join(".snapshots").join(&name)).unwrap();
                fs::create_dir(root.join(".clones").join(&name)).unwrap();
                made.push((root.join(".snapshots").join(&name), round));
                made.push((at(&p, &name, ""), round));
                // What comes later is not in.
                fill(100 + round);
                file.write_all_at(&vec![100 + round; 300_000], 0).unwrap();
            }
        }
        let exact = || {
            for (root, round) in &made {
                let [plain, mapped] = ["plain", "mapped"].map(|name| fs::read(root.join(name)).unwrap());
                assert!(plain == vec![*round; 300_000], "{}", root.display());
                assert!(mapped.iter().step_by(4096).all(|byte| byte == round), "{}", root.display());
            }
        };
        exact();
        p.umount();
        p.check();
        p.mount(options);
        exact();
        p.umount();
    }
}

#[test]
fn what_is_open_in_a_dropped_clone_is_stale_at_once() {
    if !can_mount() {
        return;
    }
    for options in ["cache=strict", "cache=writeback"] {
        let p = Place::new();
        p.mount(options);
        make(&p, "x");
        fs::create_dir(at(&p, "x", "dir")).unwrap();
        fs::write(at(&p, "x", "dir/f"), vec![1; 20 << 20]).unwrap();
        fs::create_dir(at(&p, "x", ".snapshots/s")).unwrap();
        let file = open(&at(&p, "x", "dir/f"));
        file.write_all_at(&[2; 5000], 0).unwrap();
        let mut inside = Command::new("sh")
            .args(["-c", "read go; ls; echo $?; cat f; echo $?; echo x > g; echo $?; cd ..; ls"])
            .current_dir(at(&p, "x", "dir"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        if options == "cache=strict" {
            fs::remove_dir(at(&p, "x", "")).unwrap();
        } else {
            p.ok(&["drop", "mnt", "x"]);
        }
        refuses(fs::metadata(at(&p, "x", "dir")), libc::ENOENT);
        wait("the pages to go", || file.read_at(&mut [0; 5000], 0).is_err());
        let failed = file.write_all_at(&[3; 5000], 0).and_then(|()| file.sync_all());
        let code = failed.expect_err("it is gone").raw_os_error();
        assert!(code == Some(libc::ESTALE) || code == Some(libc::EIO), "{code:?}");
        refuses(file.metadata().and_then(|_| file.sync_all()), libc::ESTALE);
        drop(inside.stdin.take());
        let out = inside.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(!said.contains("f\n") && said.lines().all(|code| code != "0"), "{said}");
        drop(file);
        p.wait_freed();
        let used = p.number("used_bytes");
        assert!(used < 10 << 20, "{used}");
        // The name is free, and what gets it is another.
        make(&p, "x");
        assert_eq!(names(&at(&p, "x", "")), Vec::<String>::new());
        p.umount();
        p.check();
    }
}

#[test]
fn clones_survive_kills() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    for round in 0..6 {
        p.mount("");
        let expected: Vec<String> = (0..round).map(|n| format!("c{n}")).collect();
        assert_eq!(names(&p.path(".clones")), expected);
        for n in 0..round {
            assert_eq!(read(&at(&p, &format!("c{n}"), "f")), format!("of c{n}"));
            assert_eq!(read(&at(&p, &format!("c{n}"), ".snapshots/s/f")), format!("main {n}"));
        }
        fs::write(p.path("f"), format!("main {round}")).unwrap();
        make(&p, &format!("c{round}"));
        make(&p, "dropped");
        fs::create_dir(at(&p, &format!("c{round}"), ".snapshots/s")).unwrap();
        fs::write(at(&p, &format!("c{round}"), "f"), format!("of c{round}")).unwrap();
        fs::remove_dir(at(&p, "dropped", "")).unwrap();
        p.kill();
        p.check();
    }
}

#[test]
fn commands_are_about_the_line_of_their_path() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fs::create_dir(p.path("dir")).unwrap();
    fs::write(p.path("dir/f"), "one").unwrap();
    p.ok(&["create", "mnt", "monday"]);
    fs::write(p.path("dir/f"), "two").unwrap();
    assert_eq!(p.ok(&["clone", "mnt", "now"]), "");
    let made = p.json(&["clone", "mnt", "then", "--from", "monday", "--json"]);
    assert_eq!((&made["name"], &made["origin"]), (&"then".into(), &".snapshots/monday".into()));
    assert_eq!((read(&at(&p, "now", "dir/f")), read(&at(&p, "then", "dir/f"))), ("two".into(), "one".into()));
    let inside = "mnt/.clones/then/dir";
    p.ok(&["create", inside, "step1"]);
    p.ok(&["rename", inside, "step1", "step 1"]);
    let listed = |target: &str| {
        let all = p.json(&["list", target, "--json"]);
        all.as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(
        (listed("mnt"), listed(inside)),
        (vec!["monday".into()], vec!["monday".into(), "step 1".into()])
    );
    assert_eq!(listed("mnt/.clones/then/.snapshots/step 1"), ["monday", "step 1"]);
    // From a clone, by its name and by a path in it.
    fs::write(at(&p, "then", "dir/f"), "three").unwrap();
    p.ok(&["clone", "mnt", "a", "--from", ".clones/then"]);
    p.ok(&["clone", inside, "b"]);
    p.ok(&["clone", inside, "c", "--from", "@latest"]);
    for (clone, content) in [("a", "three"), ("b", "three"), ("c", "one")] {
        assert_eq!(read(&at(&p, clone, "dir/f")), content, "{clone}");
    }
    let clones = p.json(&["list", "mnt", "--clones", "--json"]);
    let told: Vec<_> =
        clones.as_array().unwrap().iter().map(|c| (c["name"].as_str(), c["origin"].as_str())).collect();
    let expected = [
        ("now", "."),
        ("then", ".snapshots/monday"),
        ("a", ".clones/then"),
        ("b", ".clones/then"),
        ("c", ".clones/then/.snapshots/step 1"),
    ];
    assert_eq!(told, expected.map(|(name, origin)| (Some(name), Some(origin))));
    let table = p.ok(&["list", "mnt"]);
    assert!(
        table.contains("monday") && table.contains("ORIGIN") && table.contains(".clones/then"),
        "{table}"
    );
    fs::write(at(&p, "now", "own"), vec![5; 3 << 20]).unwrap();
    File::open(at(&p, "now", "own")).unwrap().sync_all().unwrap();
    wait("the counters", || {
        let now = p.json(&["list", "mnt", "--clones", "--json"])[0].clone();
        let number = |key: &str| now[key].as_u64().unwrap();
        number("written") > 3 << 20 && number("exclusive") > 3 << 20 && number("referenced") > 3 << 20
    });
    assert_eq!(p.number("clones"), 5);
    // Refusals.
    for (args, words) in [
        (&["clone", "mnt", "now"][..], "now: a clone of that name exists"),
        (&["clone", "mnt", ".x"], ".x: not a name for a clone"),
        (&["clone", "mnt", "x", "--from", "none"], "none: no such snapshot"),
        (&["clone", "mnt", "x", "--from", ".clones/none"], ".clones/none: no such snapshot"),
        (&["drop", "mnt", "none"], "none: no such clone"),
        (&["delete", "mnt", "step 1"], "step 1: no such snapshot"),
        (
            &["delete", "mnt/.clones/then", "monday"],
            "monday: it is another line's, from which this was cloned",
        ),
        (&["clone", "store", "x", "--from", "step 1"], "step 1: no such snapshot"),
    ] {
        let said = p.run(args);
        assert!(said.code == 1 && said.err.contains(words), "{args:?}: {said:?}");
    }
    p.ok(&["delete", inside, "step 1"]);
    let dropped = p.json(&["drop", "mnt", "then", "now", "--json"]);
    assert_eq!(dropped["dropped"], serde_json::json!(["then", "now"]));
    refuses(fs::metadata(at(&p, "then", "dir")), libc::ENOENT);
    assert_eq!(read(&at(&p, "b", "dir/f")), "three");
    p.umount();
    let offline = p.json(&["list", "store", "--clones", "--json"]);
    assert_eq!(offline.as_array().unwrap().len(), 3);
    p.check();
}

#[test]
fn a_clone_at_a_place_of_its_own() {
    if !can_mount() || snapfs::sys::process::effective_uid() != 0 {
        return;
    }
    let p = Place::new();
    p.mount("");
    fs::write(p.path("f"), "main").unwrap();
    make(&p, "x");
    fs::write(at(&p, "x", "f"), "x").unwrap();
    fs::create_dir(p.at("trial")).unwrap();
    let none = p.run(&["mount", "store", "trial", "-o", "clone=none"]);
    assert!(none.code == 1 && none.err.contains("none: no such clone"), "{none:?}");
    // Of a store that is mounted: the same files at a second place.
    p.ok(&["mount", "store", "trial", "-o", "clone=x"]);
    fs::write(p.at("trial/f"), "written there").unwrap();
    assert_eq!((read(&at(&p, "x", "f")), read(&p.path("f"))), ("written there".into(), "main".into()));
    p.ok(&["create", "trial", "s"]);
    assert_eq!(names(&p.at("trial/.snapshots")), ["s"]);
    fs::create_dir(p.at("trial/.clones/y")).unwrap();
    assert_eq!(read(&p.at("trial/.clones/y/f")), "written there");
    assert!(Command::new("umount").arg(p.at("trial")).status().unwrap().success());
    p.umount();
    // Of one that is not: the clone alone.
    let number = |path: PathBuf| fs::metadata(path).unwrap().ino();
    p.mount("clone=x");
    assert_eq!(read(&p.path("f")), "written there");
    assert_eq!((number(p.at("mnt")), names(&p.path(".clones"))), (1, vec!["y".into()]));
    fs::write(p.path("f"), "alone").unwrap();
    p.snapshot("t");
    assert_eq!(names(&p.path(".snapshots")), ["s", "t"]);
    let listed = p.json(&["list", "mnt", "--json"]);
    assert_eq!(listed.as_array().unwrap().len(), 2);
    let busy = p.run(&["drop", "mnt", "x"]);
    assert!(busy.code == 1 && busy.err.contains("x: in use"), "{busy:?}");
    fs::write(p.path(".clones/y/f"), "of y").unwrap();
    p.kill();
    assert!(!mounts::at(&p.at("mnt")).is_ok_and(|m| m.is_some()));
    p.mount("");
    assert_eq!((read(&p.path("f")), read(&at(&p, "x", "f"))), ("main".into(), "alone".into()));
    assert_eq!(
        (read(&at(&p, "y", "f")), names(&at(&p, "x", ".snapshots"))),
        ("of y".into(), vec!["s".into(), "t".into()])
    );
    p.umount();
    let none = p.run(&["mount", "store", "mnt", "-o", "clone=none"]);
    assert!(none.code == 1 && none.err.contains("none: no such clone"), "{none:?}");
    p.check();
}

#[test]
fn a_thousand_clones_and_their_names() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    for n in 0..200 {
        fs::write(p.path(&format!("f{n}")), format!("{n}")).unwrap();
    }
    let made = shell(&p, "cd mnt/.clones; seq 1000 | xargs -n 100 mkdir");
    assert_eq!(made.code, 0, "{made:?}");
    assert_eq!(names(&p.path(".clones")).len(), 1000);
    assert_eq!(fs::metadata(p.path(".clones")).unwrap().nlink(), 1002);
    assert_eq!(read(&at(&p, "777", "f7")), "7");
    let calls = |name: &str| {
        let keys = ["device_reads", "device_writes", "device_flushes"];
        let before = keys.map(|key| p.number(key));
        make(&p, name);
        let after = keys.map(|key| p.number(key));
        [0, 1, 2].map(|n| after[n] - before[n])
    };
    // A commit that comes by itself is no part of it.
    let few = (0..20).map(|n| calls(&format!("last {n}"))).min().unwrap();
    assert!(few[0] == 0 && few[1] <= 2 && few[2] <= 1, "{few:?}");
    let dropped = shell(&p, "cd mnt/.clones; rmdir -- *");
    assert_eq!(dropped.code, 0, "{dropped:?}");
    assert_eq!(names(&p.path(".clones")).len(), 0);
    p.wait_freed();
    p.umount();
    p.check();
}
