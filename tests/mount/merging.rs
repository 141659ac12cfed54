//! `snapfs merge` and `snapfs rebase` on real mounts: repositories, open files, conflicts, both caches, crashes, refusals.

mod guard;
mod place;
mod raw;

use guard::can_mount;
use place::{Place, names, said};
use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A path in a clone.
fn at(p: &Place, clone: &str, name: &str) -> PathBuf {
    p.path(".clones").join(clone).join(name)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn shell(p: &Place, script: &str) -> String {
    let done = said(p.settle(&mut Command::new("sh")).args(["-euc", script]));
    assert_eq!(done.code, 0, "{done:?}");
    done.out
}

fn paths(told: &Value) -> Vec<String> {
    let all = told["changes"].as_array().expect("changes");
    all.iter().map(|change| change["path"].as_str().expect("a path").to_string()).collect()
}

fn each_cache(test: impl Fn(&Place)) {
    each_mode(|p, _| test(p));
}

fn each_mode(test: impl Fn(&Place, &str)) {
    if !can_mount() {
        return;
    }
    for options in ["", "cache=writeback"] {
        let p = Place::new();
        p.mount(options);
        test(&p, options);
        p.umount();
        p.check();
    }
}

#[test]
fn a_repository_is_changed_in_a_clone_and_merged() {
    each_cache(|p| {
        let git = "git -c user.name=t -c user.email=t@t -c gc.auto=0";
        shell(
            p,
            &format!(
                "mkdir mnt/repo; cd mnt/repo; {git} init -q -b main; mkdir src docs; seq 100 > src/a; \
            seq 200 > src/b; echo x > docs/x; {git} add .; {git} commit -qm first"
            ),
        );
        p.ok(&["clone", "mnt", "work"]);
        shell(
            p,
            &format!(
                "cd mnt/.clones/work/repo; {git} checkout -qb topic; {git} mv src/a src/c; \
            echo more >> src/b; {git} rm -q docs/x; {git} add .; {git} commit -qm second"
            ),
        );
        // Meanwhile something else, which nobody closes, and which has been read already.
        fs::write(p.path("log"), "one\n").unwrap();
        let mut log = open(&p.path("log"));
        log.seek(SeekFrom::End(0)).unwrap();
        let mut seen = open(&p.path("repo/src/b"));
        let mut text = String::new();
        seen.read_to_string(&mut text).unwrap();
        assert!(fs::metadata(p.path("repo/src/c")).is_err() && fs::metadata(p.path("repo/docs/x")).is_ok());
        drop(seen);
        let would = p.json(&["merge", "mnt", "work", "--dry-run", "--json"]);
        assert!(paths(&would).contains(&"repo/src/b".to_string()) && would["done"] == false, "{would}");
        let done = p.json(&["merge", "mnt", "work", "--json"]);
        assert_eq!(
            (&done["done"], &done["dropped"], paths(&done)),
            (&true.into(), &true.into(), paths(&would))
        );
        log.write_all(b"two\n").unwrap();
        assert_eq!(read(&p.path("log")), "one\ntwo\n");
        let out = shell(
            p,
            &format!(
                "cd mnt/repo; {git} fsck --strict; {git} status --porcelain; {git} log --format=%s; \
            tail -n 1 src/b; test ! -e docs; wc -l < src/c"
            ),
        );
        assert_eq!(out.split_whitespace().collect::<Vec<_>>(), ["second", "first", "more", "100"]);
        assert!(names(&p.path(".clones")).is_empty());
        assert!(names(&p.path(".snapshots")).iter().any(|name| name.starts_with("@before-merge-")));
    });
}

#[test]
fn nothing_is_merged_twice_and_a_rebase_brings_the_rest() {
    each_mode(|p, options| {
        for name in ["a", "b", "x"] {
            fs::write(p.path(name), name).unwrap();
        }
        p.ok(&["clone", "mnt", "c"]);
        fs::write(at(p, "c", "a"), "2").unwrap();
        fs::write(p.path("b"), "3").unwrap();
        assert_eq!(paths(&p.json(&["merge", "mnt", "c", "--keep", "--json"])), ["a"]);
        assert_eq!(
            (read(&p.path("a")), read(&p.path("b")), read(&at(p, "c", "b"))),
            ("2".into(), "3".into(), "b".into())
        );
        fs::write(at(p, "c", "a"), "4").unwrap();
        assert_eq!(paths(&p.json(&["merge", "mnt", "c", "--keep", "--json"])), ["a"]);
        assert_eq!(paths(&p.json(&["merge", "mnt", "c", "--keep", "--json"])), [""; 0]);
        assert_eq!(p.ok(&["merge", "mnt", "c", "--keep"]), "c: nothing to take over\n");
        // A reader in the clone goes on, and sees what came.
        let reader = options.is_empty().then(|| File::open(at(p, "c", "b")).unwrap());
        assert_eq!(paths(&p.json(&["rebase", "mnt", "c", "--json"])), ["b"]);
        if let Some(mut reader) = reader {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            assert_eq!(text, "3");
        }
        assert_eq!(read(&at(p, "c", "b")), "3");
        fs::write(at(p, "c", "x"), "5").unwrap();
        fs::write(p.path("a"), "6").unwrap();
        p.umount();
        p.mount("");
        let said = p.ok(&["merge", "mnt", "c"]);
        assert!(said.starts_with("M x\nc: took over 1 change; before: @before-merge-"), "{said}");
        assert_eq!((read(&p.path("a")), read(&p.path("x"))), ("6".into(), "5".into()));
    });
}

#[test]
fn to_look_tells_what_is_in_the_way_as_the_merge_would() {
    each_cache(|p| {
        fs::write(p.path("a"), "as it was").unwrap();
        p.ok(&["clone", "mnt", "c"]);
        fs::write(at(p, "c", "a"), "of the clone").unwrap();
        for open in [p.path("a"), at(p, "c", "a")] {
            let writer = fs::OpenOptions::new().append(true).open(open).unwrap();
            for args in [&["merge", "mnt", "c", "--dry-run"][..], &["merge", "mnt", "c"]] {
                let said = p.run(args);
                assert!(said.code == 1 && said.err.contains("/a; close them first"), "{said:?}");
            }
            drop(writer);
        }
        let before = p.json(&["list", "mnt", "--json"]);
        assert_eq!(p.ok(&["merge", "mnt", "c", "--dry-run"]), "M a\nc: would take over 1 change\n");
        assert_eq!((p.json(&["list", "mnt", "--json"]), read(&p.path("a"))), (before, "as it was".into()));
        assert!(p.ok(&["merge", "mnt", "c"]).starts_with("M a\n"));
    });
}

#[test]
fn conflicts_are_listed_with_both_sides_and_nothing_changes() {
    each_cache(|p| {
        fs::create_dir(p.path("dir")).unwrap();
        for name in ["both", "gone", "dir/f", "fine"] {
            fs::write(p.path(name), "as it was").unwrap();
        }
        p.ok(&["clone", "mnt", "c"]);
        fs::write(at(p, "c", "both"), "of the clone").unwrap();
        fs::write(at(p, "c", "fine"), "of the clone").unwrap();
        fs::write(at(p, "c", "gone"), "not gone here").unwrap();
        fs::remove_file(at(p, "c", "dir/f")).unwrap();
        fs::remove_dir(at(p, "c", "dir")).unwrap();
        fs::write(p.path("both"), "of the line").unwrap();
        fs::remove_file(p.path("gone")).unwrap();
        fs::write(p.path("dir/new"), "new").unwrap();
        let listed = "C both: its content was changed on both sides\n    .clones/c: both (content)\n    .: both (content)\n\
             C dir: removed on one side, something was put into it on the other\n    .clones/c: removed\n    .: dir (filled)\n\
             C gone: removed on one side, changed or moved on the other\n    .clones/c: gone (content)\n    .: removed\n";
        for args in [
            &["merge", "mnt", "c", "--dry-run"][..],
            &["merge", "mnt", "c"],
            &["merge", "mnt", "c", "--keep"],
        ] {
            let done = p.run(args);
            assert_eq!((done.code, done.out.as_str()), (3, listed), "{done:?}");
            assert!(done.err.contains("3 conflicts"), "{done:?}");
        }
        let done = p.run(&["rebase", "mnt", "c", "--json"]);
        let told: Value = serde_json::from_str(&done.out).unwrap();
        let conflicts = told["conflicts"].as_array().unwrap();
        assert_eq!((done.code, conflicts.len(), &told["done"]), (3, 3, &false.into()), "{told}");
        assert_eq!(
            (&conflicts[0]["conflict"], &conflicts[0]["source"]["line"]),
            (&"content".into(), &".".into())
        );
        assert_eq!(
            (read(&p.path("fine")), read(&at(p, "c", "fine"))),
            ("as it was".into(), "of the clone".into())
        );
        assert!(names(&p.path(".snapshots")).is_empty());
        // One side gives way, and it goes.
        fs::write(p.path("both"), "as it was").unwrap();
        fs::remove_file(p.path("dir/new")).unwrap();
        fs::remove_file(at(p, "c", "gone")).unwrap();
        assert_eq!(p.json(&["merge", "mnt", "c", "--json"])["dropped"], true);
        assert_eq!(read(&p.path("both")), "of the clone");
        assert!(fs::metadata(p.path("gone")).is_err() && fs::metadata(p.path("dir")).is_err());
    });
}

#[test]
fn who_writes_is_named_and_who_is_not_concerned_notices_nothing() {
    each_mode(|p, options| {
        for name in ["taken", "other", "mapped"] {
            fs::write(p.path(name), "as it was").unwrap();
        }
        p.ok(&["clone", "mnt", "c"]);
        fs::write(at(p, "c", "taken"), "of the clone").unwrap();
        let refused = |what: &str| {
            let done = p.run(&["merge", "mnt", "c", "--keep"]);
            assert!(done.code == 1 && done.err.contains(what), "{done:?}");
        };
        let writer = open(&at(p, "c", "other"));
        refused("files of the clone are open for writing: /other");
        drop(writer);
        let writer = open(&p.path("taken"));
        refused("files that would change are open for writing: /taken");
        drop(writer);
        let mut other = open(&p.path("other"));
        // A kernel that keeps the sizes of files has to know none of what changes.
        let mut reader = options.is_empty().then(|| File::open(p.path("taken")).unwrap());
        other.write_all(b"written ").unwrap();
        // What the kernel holds of the clone is in as well.
        fs::write(at(p, "c", "late"), vec![9; 300_000]).unwrap();
        p.ok(&["merge", "mnt", "c", "--keep"]);
        let mut text = String::new();
        match &mut reader {
            Some(reader) => drop(reader.read_to_string(&mut text).unwrap()),
            None => text = read(&p.path("taken")),
        }
        other.write_all(b"on").unwrap();
        assert_eq!((text.as_str(), read(&p.path("other"))), ("of the clone", "written on".into()));
        assert_eq!(fs::read(p.path("late")).unwrap(), vec![9; 300_000]);
        // Other lines, none, and one that is read-only.
        p.ok(&["clone", "mnt/.clones/c", "d"]);
        for (args, what) in [
            (["merge", "mnt", "d"], "it was made from .clones/c: name a path in that line as MNT"),
            (["rebase", "mnt/.clones/d", "d"], "MNT is in this clone itself"),
            (["merge", "mnt", "no"], "no: no such clone"),
        ] {
            let done = p.run(&args);
            assert!(done.code == 1 && done.err.contains(what), "{done:?}");
        }
        fs::write(at(p, "d", "of d"), "d").unwrap();
        p.ok(&["merge", "mnt/.clones/c", "d"]);
        assert_eq!(read(&at(p, "c", "of d")), "d");
    });
}

#[test]
fn a_merge_survives_a_kill() {
    each_cache(|p| {
        for n in 0..300 {
            fs::write(p.path(&format!("f{n}")), format!("{n}")).unwrap();
        }
        p.ok(&["clone", "mnt", "c"]);
        for n in 0..300 {
            fs::write(at(p, "c", &format!("f{n}")), format!("{n} of the clone")).unwrap();
        }
        p.ok(&["merge", "mnt", "c", "--keep"]);
        p.kill();
        p.mount("");
        for n in 0..300 {
            assert_eq!(read(&p.path(&format!("f{n}"))), format!("{n} of the clone"));
        }
        assert_eq!(p.ok(&["merge", "mnt", "c"]), "c: nothing to take over\n");
        assert!(names(&p.path(".clones")).is_empty());
    });
}
