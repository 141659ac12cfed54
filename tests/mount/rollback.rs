//! Rollbacks of real mounts that are in use: what is open, who writes, who stands inside, kills.

mod guard;
mod place;
mod raw;

use guard::can_mount;
use place::{Place, names, refuses, said, wait};
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const CACHES: [&str; 2] = ["cache=strict", "cache=writeback"];

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).expect("open")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// What was open before is gone: nothing else is an answer.
#[track_caller]
fn is_stale<T>(result: std::io::Result<T>) {
    let code = result.err().expect("this must fail").raw_os_error();
    assert!(code == Some(libc::ESTALE) || code == Some(libc::EIO), "{code:?}");
}

/// A shell that stands somewhere, and is told line by line what to do.
struct Shell(Child, BufReader<std::process::ChildStdout>);

impl Shell {
    fn at(dir: &Path) -> Shell {
        let mut shell = Command::new("sh");
        shell.current_dir(dir).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = shell.spawn().expect("sh");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        Shell(child, out)
    }
    /// What a command prints, without the last line break, and its exit code.
    fn says(&mut self, command: &str) -> (String, String) {
        let stdin = self.0.stdin.as_mut().expect("piped");
        writeln!(stdin, "{command}; code=$?; echo; echo \"end $code\"").expect("write");
        let mut text = String::new();
        loop {
            let mut line = String::new();
            assert!(self.1.read_line(&mut line).expect("read") > 0, "the shell has ended: {text}");
            if let Some(code) = line.strip_prefix("end ") {
                return (text.trim_end().to_string(), code.trim().to_string());
            }
            text += &line;
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
fn what_is_open_is_stale_and_what_is_opened_is_new() {
    if !can_mount() {
        return;
    }
    for options in CACHES {
        for clone in ["", ".clones/x/"] {
            eprintln!("{options} {clone}");
            open_and_opened(options, clone);
        }
    }
}

fn open_and_opened(options: &str, line: &str) {
    let p = Place::new();
    p.mount(options);
    if !line.is_empty() {
        fs::create_dir(p.path(line)).unwrap();
    }
    let at = |name: &str| p.path(line).join(name);
    let mnt = format!("mnt/{line}");
    let old = |n: u8| vec![n; 300_000];
    fs::create_dir_all(at("dir/deep")).unwrap();
    fs::create_dir(at("gone")).unwrap();
    for (name, content) in [("long", old(1)), ("short", vec![2; 10]), ("dir/f", b"old".to_vec())] {
        fs::write(at(name), content).unwrap();
    }
    fs::write(at("dir/removed"), "is back").unwrap();
    fs::write(at("gone/f"), "old").unwrap();
    fs::create_dir(at(".snapshots/s")).unwrap();
    let before = raw::handle_of(&at("dir/f"));

    // Now everything is otherwise.
    fs::write(at("long"), b"cut").unwrap();
    fs::write(at("short"), vec![7; 300_000]).unwrap();
    fs::write(at("dir/f"), "new and longer").unwrap();
    fs::remove_file(at("dir/removed")).unwrap();
    fs::remove_file(at("gone/f")).unwrap();
    fs::remove_dir(at("gone")).unwrap();
    fs::rename(at("dir/deep"), at("moved")).unwrap();
    fs::create_dir(at("later")).unwrap();
    fs::write(at("later/f"), "later").unwrap();
    fs::write(at("dir/added"), "added").unwrap();
    refuses(fs::metadata(at("dir/removed")), libc::ENOENT);
    fs::create_dir(at(".snapshots/t")).unwrap();

    let readers = ["long", "short", "dir/f", "later/f"].map(|name| File::open(at(name)).unwrap());
    let maps = readers.each_ref().map(|file| {
        let mut all = Vec::new();
        std::io::Read::read_to_end(&mut &*file, &mut all).unwrap();
        // A mapping that is read needs no descriptor that writes.
        raw::Mapping::read_only(file, 4096)
    });
    assert_eq!(maps.each_ref().map(|map| map.load(0).unwrap()), [b'c', 7, b'n', b'l']);
    let dir = File::open(at("dir")).unwrap();
    let in_dir = |name: &str| {
        Path::new("/proc/self/fd").join(std::os::fd::AsRawFd::as_raw_fd(&dir).to_string()).join(name)
    };
    assert_eq!(names(&at("dir")).len(), 2);
    let (mut inside, mut later, mut moved) =
        (Shell::at(&at("dir")), Shell::at(&at("later")), Shell::at(&at("moved")));
    assert_eq!(inside.says("cat f").0, "new and longer");
    assert_eq!(later.says("cat f").0, "later");
    assert_eq!(moved.says("cat ../long").0, "cut");

    let said = p.ok(&["rollback", &mnt, "s"]);
    assert!(
        said.starts_with("went back to s; what was there before is snapshot @before-rollback-"),
        "{said}"
    );

    // Through what was open: nothing, old or new.
    for (file, map) in readers.iter().zip(&maps) {
        is_stale(file.read_at(&mut [0; 4096], 0));
        is_stale(file.metadata());
        is_stale(file.sync_all());
        is_stale(map.load(0));
    }
    // By path, by a directory that was open, from a working directory, through a mapping.
    let content = |name: &str| fs::read(at(name)).unwrap();
    assert!(content("long") == old(1) && content("short") == vec![2; 10]);
    assert_eq!((read(&at("dir/f")), read(&in_dir("f"))), ("old".into(), "old".into()));
    assert_eq!((read(&at("dir/removed")), read(&in_dir("removed"))), ("is back".into(), "is back".into()));
    assert_eq!(names(&at("dir")), names(&in_dir("")));
    let mut listed = names(&at("dir"));
    listed.sort();
    assert_eq!(listed, ["deep", "f", "removed"]);
    refuses(fs::metadata(at("later")), libc::ENOENT);
    refuses(fs::metadata(at("moved")), libc::ENOENT);
    refuses(fs::metadata(at("dir/added")), libc::ENOENT);
    assert_eq!(fs::metadata(at("gone/f")).unwrap().len(), 3);
    assert_eq!(inside.says("cat f removed; ls").0, "oldis backdeep\nf\nremoved");
    assert_eq!(inside.says("/bin/pwd -P").0, fs::canonicalize(at("dir")).unwrap().to_str().unwrap());
    assert_eq!(inside.says("echo more > written").1, "0");
    assert_eq!(read(&at("dir/written")), "more\n");
    assert_ne!(later.says("cat f").1, "0");
    assert_ne!(later.says("echo x > g").1, "0");
    // A directory that was moved is where it was.
    assert_eq!(moved.says("/bin/pwd -P").0, fs::canonicalize(at("dir/deep")).unwrap().to_str().unwrap());
    assert_eq!(moved.says("cat ../f").0, "old");
    let file = open(&at("short"));
    let map = raw::Mapping::new(&file, 4096);
    assert_eq!((map.load(9).unwrap(), map.load(10).unwrap()), (2, 0));
    // By handles of before and of now.
    if let Ok(before) = before {
        let root = File::open(p.at("mnt")).unwrap();
        refuses(raw::open_handle(&root, &before, libc::O_RDONLY), libc::ESTALE);
        let now = raw::handle_of(&at("dir/f")).unwrap();
        let mut text = String::new();
        let mut file = raw::open_handle(&root, &now, libc::O_RDONLY).unwrap();
        std::io::Read::read_to_string(&mut file, &mut text).unwrap();
        assert_eq!(text, "old");
        refuses(raw::open_handle(&root, &before, libc::O_RDONLY), libc::ESTALE);
    }
    // What was there before is a snapshot, and newer ones stay.
    let past = names(&at(".snapshots"));
    assert!(
        past[..2] == ["s", "t"] && past[2].starts_with("@before-rollback-") && past.len() == 3,
        "{past:?}"
    );
    assert_eq!(read(&at(".snapshots").join(&past[2]).join("later/f")), "later");
    drop((map, file, maps, readers, dir));
    fs::write(at("since"), "x").unwrap();
    // Undone, and done again.
    p.ok(&["undo", &mnt]);
    assert_eq!(
        (read(&at("long")), read(&at("later/f")), read(&at("moved/../dir/f"))),
        ("cut".into(), "later".into(), "new and longer".into())
    );
    assert_eq!(later.says("cat f").0, "later");
    refuses(fs::metadata(at("since")), libc::ENOENT);
    p.ok(&["undo", &mnt]);
    assert_eq!((read(&at("dir/f")), read(&at("since"))), ("old".into(), "x".into()));
    drop((inside, later, moved));
    p.umount();
    p.check();
    p.mount("");
    assert_eq!((read(&at("dir/f")), read(&at("since"))), ("old".into(), "x".into()));
    p.umount();
}

#[test]
fn whoever_writes_is_named_or_cut_off() {
    if !can_mount() {
        return;
    }
    for options in CACHES {
        let p = Place::new();
        p.mount(options);
        fs::create_dir(p.path("dir")).unwrap();
        fs::write(p.path("dir/f"), vec![1; 100_000]).unwrap();
        fs::write(p.path("mapped"), vec![1; 8192]).unwrap();
        p.snapshot("s");
        let file = open(&p.path("dir/f"));
        let map = raw::Mapping::new(&open(&p.path("mapped")), 8192);
        map.store(0, 5);
        file.write_all_at(&[2; 5000], 0).unwrap();
        let unlinked = open(&p.path("unlinked"));
        fs::remove_file(p.path("unlinked")).unwrap();
        for args in [&["rollback", "mnt", "s"][..], &["rollback", "mnt", "s", "--dry-run"]] {
            let said = p.run(args);
            let me = format!("process {} (", std::process::id());
            assert!(said.code == 1, "{said:?}");
            for words in [
                "open for writing",
                "dir/f by process",
                "\n  mapped by",
                "without a name (inode",
                &me,
                "--force",
            ] {
                assert!(said.err.contains(words), "{words}: {said:?}");
            }
            if args.len() == 4 {
                assert!(said.out.contains("M dir/f (") && said.out.contains("M mapped ("), "{said:?}");
            }
        }
        assert_eq!(names(&p.path(".snapshots")), ["s"]);
        file.write_all_at(&[3; 5000], 5000).unwrap();
        map.store(4096, 5);
        drop(unlinked);
        let done = p.json(&["rollback", "mnt", "@latest", "--force", "--json"]);
        let guard = done["guard"].as_str().unwrap();
        assert_eq!(done["view"], "s");
        is_stale(file.write_all_at(&[4; 5000], 0).and_then(|()| file.sync_all()));
        is_stale(file.sync_all());
        is_stale(file.set_len(3));
        is_stale(map.load(0));
        assert!(fs::read(p.path("dir/f")).unwrap() == vec![1; 100_000]);
        assert!(fs::read(p.path("mapped")).unwrap() == vec![1; 8192]);
        let kept = fs::read(p.past(guard, "dir/f")).unwrap();
        assert!(
            kept[..10_000] == [vec![2; 5000], vec![3; 5000]].concat(),
            "what was written before is in the guard"
        );
        let kept = fs::read(p.past(guard, "mapped")).unwrap();
        assert_eq!((kept[0], kept[4096]), (5, 5));
        // Who opens it now writes what is there now.
        let again = open(&p.path("dir/f"));
        again.write_all_at(&[9; 10], 0).unwrap();
        drop((file, map));
        again.sync_all().unwrap();
        let now = fs::read(p.path("dir/f")).unwrap();
        assert!(now.len() == 100_000 && now[..10] == [9; 10] && now[10..] == vec![1; 99_990]);
        drop(again);
        p.umount();
        p.check();
        p.mount("");
        assert!(fs::read(p.path("dir/f")).unwrap() == now);
        p.umount();
    }
}

#[test]
fn a_line_in_use_goes_back_again_and_again() {
    if !can_mount() {
        return;
    }
    const FILES: usize = 4;
    const BYTES: usize = 200_000;
    for options in CACHES {
        let p = Place::new();
        p.mount(options);
        for n in 0..FILES {
            fs::write(p.path(&format!("f{n}")), vec![1; BYTES]).unwrap();
        }
        p.snapshot("s");
        let (stop, writes) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for n in 0..FILES {
                let (p, stop, writes) = (&p, &stop, &writes);
                scope.spawn(move || {
                    let path = p.path(&format!("f{n}"));
                    let mut byte = 1u8;
                    while !stop.load(Ordering::Relaxed) {
                        // Whatever is cut off is begun again.
                        let mut work = || {
                            let file = OpenOptions::new().read(true).write(true).open(&path)?;
                            loop {
                                byte = byte.wrapping_add(2) | 1;
                                file.write_all_at(&vec![byte; BYTES], 0)?;
                                let mut seen = vec![0; BYTES];
                                file.read_exact_at(&mut seen, 0)?;
                                let other = seen.iter().position(|b| *b != byte);
                                let at = other.map(|at| (at, seen[at]));
                                assert!(other.is_none(), "{options:?} {n}: {byte} written, {at:?} read");
                                writes.fetch_add(1, Ordering::Relaxed);
                                if stop.load(Ordering::Relaxed) {
                                    return Ok(());
                                }
                            }
                        };
                        let done: std::io::Result<()> = work();
                        if let Err(e) = done {
                            let code = e.raw_os_error();
                            assert!(code == Some(libc::ESTALE) || code == Some(libc::EIO), "{e}");
                        }
                    }
                });
            }
            for round in 0..10 {
                let so_far = writes.load(Ordering::Relaxed);
                wait("some writes", || writes.load(Ordering::Relaxed) > so_far + 3);
                p.ok(&["rollback", "mnt", "s", "--force"]);
                if round % 3 == 0 {
                    fs::create_dir(p.past(&format!("between {round}"), "")).unwrap();
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        p.ok(&["rollback", "mnt", "s"]);
        for n in 0..FILES {
            assert!(fs::read(p.path(&format!("f{n}"))).unwrap() == vec![1; BYTES]);
        }
        p.umount();
        p.check();
    }
}

#[test]
fn mounts_inside_are_named_in_a_refusal() {
    if !can_mount() || snapfs::sys::process::effective_uid() != 0 {
        return;
    }
    let p = Place::new();
    p.mount("");
    fs::create_dir_all(p.path("a/b")).unwrap();
    p.snapshot("s");
    let inside = p.path("a/b");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&inside).status().unwrap();
    assert!(mounted.success());
    fs::create_dir(p.path(".clones/x")).unwrap();
    let refused = p.run(&["rollback", "mnt", "s", "--force"]);
    let there = fs::metadata(&inside).unwrap().dev() != fs::metadata(p.path("a")).unwrap().dev();
    // A clone has nothing to do with it.
    p.ok(&["rollback", "mnt/.clones/x", "s"]);
    let still = fs::metadata(&inside).unwrap().dev() != fs::metadata(p.path("a")).unwrap().dev();
    assert!(Command::new("umount").arg(&inside).status().unwrap().success());
    assert!(
        refused.code == 1 && refused.err.contains("mounted below") && refused.err.contains("/mnt/a/b"),
        "{refused:?}"
    );
    assert!(there && still, "it survives");
    p.ok(&["rollback", "mnt", "s"]);
    p.umount();
    p.check();
}

#[test]
fn what_cannot_be_gone_back_to_is_refused_with_the_way() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fs::write(p.path("f"), "one").unwrap();
    p.snapshot("s");
    fs::create_dir(p.path(".clones/x")).unwrap();
    fs::create_dir(p.path(".clones/x/.snapshots/of x")).unwrap();
    for (args, words) in [
        (["mnt", "none"], "none: no such view"),
        (["mnt", ".clones/x"], "'snapfs promote'"),
        (["mnt", "@live"], "as it is now"),
        (["mnt", "of x"], "of x: this is a snapshot of .clones/x"),
    ] {
        let said = p.run(&["rollback", args[0], args[1]]);
        assert!(said.code == 1 && said.err.contains(words), "{args:?}: {said:?}");
    }
    let said = p.run(&["undo", "mnt"]);
    assert!(said.code == 1 && said.err.contains("nothing to take back"), "{said:?}");
    // A snapshot that a clone has from its origin will do.
    fs::write(p.path(".clones/x/f"), "two").unwrap();
    p.ok(&["rollback", "mnt/.clones/x", "s"]);
    assert_eq!(read(&p.path(".clones/x/f")), "one");
    p.umount();
    p.mount("ro");
    let said = p.run(&["rollback", "mnt", "s"]);
    assert!(said.code == 1 && said.err.contains("read-only"), "{said:?}");
    p.umount();
}

#[test]
fn a_rollback_survives_a_kill_or_was_none() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fs::write(p.path("f"), "old").unwrap();
    p.snapshot("s");
    p.umount();
    let (mut done, mut not_done) = (0, 0);
    for round in 0..10u64 {
        p.mount("");
        fs::write(p.path("f"), format!("new {round}")).unwrap();
        let before = names(&p.path(".snapshots")).len();
        let mut rolling =
            p.command(&["rollback", "mnt", "s"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        if round % 2 == 0 {
            assert!(rolling.wait().unwrap().success());
        } else {
            std::thread::sleep(std::time::Duration::from_millis(round));
        }
        p.kill();
        let answered = rolling.wait().unwrap().success();
        p.check();
        p.mount("");
        let (now, past) = (read(&p.path("f")), names(&p.path(".snapshots")));
        if past.len() > before {
            done += 1;
            assert_eq!(now, "old");
            assert_eq!(read(&p.past(past.last().unwrap(), "f")), format!("new {round}"));
        } else {
            not_done += 1;
            assert_eq!(now, format!("new {round}"));
            assert!(!answered, "what was answered is durable");
        }
        p.umount();
        p.check();
    }
    assert!(done >= 5, "{done} done, {not_done} not");
}

#[test]
fn a_database_is_as_it_was() {
    if !can_mount() || !Path::new("/usr/bin/sqlite3").exists() {
        return;
    }
    for options in CACHES {
        let p = Place::new();
        p.mount(options);
        let sql = |script: &str| said(p.settle(&mut Command::new("sqlite3")).args(["mnt/db", script]));
        let made = sql("create table t(a); insert into t values (1),(2);");
        assert_eq!(made.code, 0, "{made:?}");
        p.snapshot("s");
        assert_eq!(
            sql("insert into t select a + 2 from t; pragma integrity_check; select count(*) from t;").out,
            "ok\n4\n"
        );
        // One that has it open is cut off, and nothing of it comes to what is there now.
        let mut session = Command::new("sqlite3");
        let mut session = p
            .settle(&mut session)
            .arg("mnt/db")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = session.stdin.take().unwrap();
        writeln!(input, "begin immediate; insert into t values (99);").unwrap();
        writeln!(input, "select 'ready';").unwrap();
        input.flush().unwrap();
        let mut line = String::new();
        BufReader::new(session.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let refused = p.run(&["rollback", "mnt", "s"]);
        assert!(refused.code == 1 && refused.err.contains("(sqlite3)"), "{refused:?}");
        p.ok(&["rollback", "mnt", "s", "--force"]);
        writeln!(input, "insert into t select a from t; commit;").unwrap();
        drop(input);
        let ended = session.wait_with_output().unwrap();
        assert!(!ended.stderr.is_empty(), "it was told");
        assert_eq!(sql("pragma integrity_check; select sum(a) from t;").out, "ok\n3\n");
        assert_eq!(sql("insert into t values (7); select sum(a) from t;").out, "10\n");
        p.umount();
        p.check();
    }
}

#[test]
fn a_clone_is_promoted_while_both_are_in_use() {
    if !can_mount() {
        return;
    }
    for options in CACHES {
        let p = Place::new();
        p.mount(options);
        fs::create_dir(p.path("dir")).unwrap();
        fs::write(p.path("dir/f"), vec![1; 100_000]).unwrap();
        fs::create_dir(p.path(".clones/x")).unwrap();
        let of_x = |name: &str| p.path(".clones/x").join(name);
        fs::write(of_x("dir/f"), vec![2; 50]).unwrap();
        fs::create_dir(of_x(".snapshots/of x")).unwrap();
        fs::write(of_x("dir/g"), "g").unwrap();
        let (mut inside, mut in_x) = (Shell::at(&p.path("dir")), Shell::at(&of_x("dir")));
        assert_eq!((inside.says("ls").0, in_x.says("ls").0), ("f".into(), "f\ng".into()));
        let reader = File::open(p.path("dir/f")).unwrap();
        let writer = open(&of_x("dir/f"));
        let map = raw::Mapping::new(&writer, 4096);
        assert_eq!(map.load(49).unwrap(), 2);
        let refused = p.run(&["promote", "mnt", "x"]);
        assert!(refused.code == 1 && refused.err.contains("\n  .clones/x/dir/f by process"), "{refused:?}");
        let done = p.json(&["promote", "mnt", "x", "--as", "before x", "--force", "--json"]);
        assert_eq!((&done["view"], &done["guard"]), (&"x".into(), &"before x".into()));
        is_stale(reader.read_at(&mut [0; 10], 0));
        is_stale(writer.write_all_at(&[5; 10], 0).and_then(|()| writer.sync_all()));
        is_stale(map.load(0));
        assert!(fs::read(p.path("dir/f")).unwrap() == vec![2; 50]);
        assert_eq!((read(&p.path("dir/g")), inside.says("cat g").0), ("g".into(), "g".into()));
        assert_ne!(in_x.says("cat g").1, "0");
        refuses(fs::metadata(of_x("dir")), libc::ENOENT);
        assert_eq!(names(&p.path(".snapshots")), ["of x", "before x"]);
        assert!(fs::read(p.past("before x", "dir/f")).unwrap() == vec![1; 100_000]);
        drop((reader, writer, map, in_x, inside));
        // The name is free again, and another is not what it was.
        fs::create_dir(p.path(".clones/x")).unwrap();
        assert!(fs::read(of_x("dir/f")).unwrap() == vec![2; 50]);
        for (args, words) in [
            (&["promote", "mnt", "none"][..], "none: no such clone"),
            (&["promote", "mnt", "x", "--onto", ".clones/none"], "none: no such clone"),
            (
                &["promote", "mnt", "x", "--onto", "none"],
                "none: a line is '.', the main line, or .clones/NAME",
            ),
            (&["promote", "mnt", "x", "--as", "of x"], "a snapshot called of x is there"),
            (&["promote", "mnt", "x", "--as", "@x"], "@x is not a name for a snapshot"),
        ] {
            let said = p.run(args);
            assert!(said.code == 1 && said.err.contains(words), "{args:?}: {said:?}");
        }
        p.kill();
        p.check();
        p.mount(options);
        assert!(fs::read(p.path("dir/f")).unwrap() == vec![2; 50]);
        p.ok(&["undo", "mnt"]);
        assert!(fs::read(p.path("dir/f")).unwrap() == vec![1; 100_000]);
        p.umount();
        p.check();
    }
}
