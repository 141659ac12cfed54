//! `snapfs diff` on real mounts: every kind of change, patches carried out by git and patch, stores that are not mounted.

mod guard;
mod place;
mod raw;

use guard::can_mount;
use place::{Place, said};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A tree with something of everything, at the snapshot `a`; then each kind of change.
fn change_everything(p: &Place) {
    let lines = |from: u32, to: u32| (from..to).map(|n| format!("line {n}\n")).collect::<String>();
    for dir in ["d/inside", "e", "lib"] {
        fs::create_dir_all(p.path(dir)).unwrap();
    }
    for (name, content) in [
        ("gone", "gone\n".into()),
        ("text", lines(0, 50)),
        ("no newline", "one\ntwo".into()),
        ("d/inside/deep", lines(0, 20)),
        ("d/inside/still", lines(0, 9)),
        ("d/inside/replaced", lines(0, 30)),
        ("d/two", "a hard link\n".into()),
        ("swap1", "first\n".into()),
        ("swap2", "second\n".into()),
        ("moved", lines(5, 30)),
        ("moved and written", lines(5, 60)),
        ("over", "over what is there\n".into()),
        ("there", "there\n".into()),
        ("script", "#!/bin/sh\n".into()),
        ("becomes", "a directory\n".into()),
        ("attributes", String::new()),
        ("saved", "by an editor\n".into()),
        ("\u{e9} \"quoted\"\\", "x\n".into()),
        ("lib/empty", String::new()),
    ] {
        fs::write(p.path(name), content).unwrap();
    }
    symlink("text", p.path("link")).unwrap();
    symlink("text", p.path("link2")).unwrap();
    fs::hard_link(p.path("d/two"), p.path("hard")).unwrap();
    p.snapshot("a");
    fs::remove_file(p.path("gone")).unwrap();
    fs::write(p.path("new"), lines(0, 3)).unwrap();
    fs::write(p.path("empty"), "").unwrap();
    fs::write(p.path("text"), lines(0, 10) + "changed\n" + &lines(11, 40) + "more").unwrap();
    fs::write(p.path("no newline"), "one\ntwo\n").unwrap();
    raw::rename(&p.path("swap1"), &p.path("swap2"), libc::RENAME_EXCHANGE).unwrap();
    fs::rename(p.path("moved"), p.path("e/moved")).unwrap();
    fs::rename(p.path("moved and written"), p.path("lib/m")).unwrap();
    fs::write(p.path("lib/m"), lines(5, 40) + "!\n" + &lines(41, 60)).unwrap();
    fs::rename(p.path("over"), p.path("there")).unwrap();
    fs::set_permissions(p.path("script"), fs::Permissions::from_mode(0o755)).unwrap();
    raw::set_attribute(&p.path("attributes"), "user.x", b"y").unwrap();
    fs::write(p.path("saved.tmp"), "by an editor, twice\n").unwrap();
    fs::rename(p.path("saved.tmp"), p.path("saved")).unwrap();
    fs::write(p.path("\u{e9} \"quoted\"\\"), "y\n").unwrap();
    fs::remove_file(p.path("link")).unwrap();
    symlink("script", p.path("link")).unwrap();
    // A directory moves into its sibling, and a file in it is written.
    fs::rename(p.path("d"), p.path("e/d")).unwrap();
    fs::write(p.path("e/d/inside/deep"), lines(0, 19) + "deeper\n").unwrap();
    fs::write(p.path("tmp"), lines(0, 29)).unwrap();
    fs::rename(p.path("tmp"), p.path("e/d/inside/replaced")).unwrap();
    fs::rename(p.path("hard"), p.path("e/hard too")).unwrap();
}

const TOLD: &str = "\
A attributes (xattr)
R d/ -> e/d/
M e/d/inside/deep (150 B -> 149 B)
M e/d/inside/replaced (230 B -> 222 B)
R hard -> e/hard too
R moved -> e/moved
+ empty
- gone
R moved and written -> lib/m
M lib/m (435 B -> 429 B)
M link (4 B -> 6 B)
+ new
M no newline (7 B -> 8 B)
M saved (13 B -> 20 B)
A script (mode)
R swap2 -> swap1
R swap1 -> swap2
M text (390 B -> 314 B)
- there
R over -> there
M \u{e9} \"quoted\"\\\\ (2 B -> 2 B)
";

/// Files of a tree: whether each may be run, and its content or target. Directories are what patches do not know.
fn files(dir: &Path) -> BTreeMap<PathBuf, (bool, Vec<u8>)> {
    let (mut all, mut todo) = (BTreeMap::new(), vec![dir.to_path_buf()]);
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(dir).unwrap().to_path_buf();
        if meta.is_dir() {
            todo.extend(
                fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()).filter(|p| !p.ends_with(".git")),
            );
        } else if meta.is_symlink() {
            let target = fs::read_link(&path).unwrap();
            all.insert(name, (false, [b"-> ", target.as_os_str().as_bytes()].concat()));
        } else {
            all.insert(name, (meta.permissions().mode() & 0o100 != 0, fs::read(&path).unwrap()));
        }
    }
    all
}

/// Carries a patch out on a copy of the older tree.
fn patched(p: &Place, tool: &[&str], patch: &str, old: &str) -> BTreeMap<PathBuf, (bool, Vec<u8>)> {
    let copy = p.at(&format!("copy-{}", tool[0]));
    let _ = fs::remove_dir_all(&copy);
    // patch(1) takes the names of one inode for one name.
    let copied =
        Command::new("cp").args(["-a", "--no-preserve=links"]).arg(p.past(old, "")).arg(&copy).status();
    assert!(copied.unwrap().success());
    let mut command = Command::new(tool[0]);
    command.args(&tool[1..]).current_dir(&copy).env("GIT_CEILING_DIRECTORIES", &p.dir.0);
    let mut child =
        command.stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(patch.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    assert!(done.status.success(), "{tool:?}: {}{}\n{patch}", said(&done.stdout), said(&done.stderr));
    files(&copy)
}

fn is_there(tool: &str) -> bool {
    let there = Command::new(tool).arg("--version").output().is_ok_and(|o| o.status.success());
    if !there {
        eprintln!("SKIPPED: there is no {tool}");
    }
    there
}

#[test]
fn every_kind_of_change_is_told_and_patches_make_the_newer_tree() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    change_everything(&p);
    let diff = |args: &[&str]| p.run(&[&["diff", "mnt"], args].concat());
    let told = diff(&["a"]);
    assert_eq!((told.code, told.out.as_str(), told.err.as_str()), (1, TOLD, ""));
    p.snapshot("b");
    assert_eq!(diff(&["a", "b"]).out, TOLD);
    assert_eq!(diff(&["a", "@latest"]).out, TOLD);
    assert_eq!(diff(&["@prev", "@live"]).out, TOLD);
    assert_eq!((diff(&["b"]).code, diff(&["b"]).out.as_str()), (0, ""), "nothing has changed since");
    // Other forms.
    let stat = diff(&["a", "b", "--stat"]).out;
    let sums = stat.lines().last().unwrap();
    assert!(sums.starts_with("2 added, 2 removed, 8 modified, 2 attributes, 7 renamed; +"), "{stat}");
    let paths = diff(&["a", "b", "--name-only", "-0"]).out;
    assert!(paths.contains("\0e/hard too\0") && paths.ends_with("\u{e9} \"quoted\"\\\0"), "{paths:?}");
    // Both of what was renamed, and all below it, each once.
    let all: Vec<&str> = paths.split_terminator('\0').collect();
    assert!(all.windows(2).all(|two| two[0] < two[1]), "{all:?}");
    for path in ["d", "e/d", "d/inside", "e/d/inside", "d/inside/deep", "e/d/inside/deep", "moved", "e/moved"]
    {
        assert!(all.contains(&path), "{path}: {all:?}");
    }
    let lines: Vec<Value> =
        diff(&["a", "b", "--json"]).out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), TOLD.lines().count());
    let moved = lines.iter().find(|l| l["path"] == "e/d").unwrap();
    assert_eq!(
        (&moved["change"], &moved["type"], &moved["old_path"]),
        (&"R".into(), &"directory".into(), &"d".into())
    );
    // Only a part: by any path that leads there.
    let below = p.run(&["diff", "mnt/e/d/inside", "a", "b"]).out;
    assert_eq!(below, "M e/d/inside/deep (150 B -> 149 B)\nM e/d/inside/replaced (230 B -> 222 B)\n");
    assert_eq!(p.run(&["diff", "mnt/.snapshots/a/d/inside", "a", "b"]).out, below);
    assert_eq!(p.run(&["diff", "mnt/new", "a", "b"]).out, "+ new\n");
    // Patches, both ways.
    for (old, new) in [("a", "b"), ("b", "a")] {
        let patch = diff(&[old, new, "--patch"]);
        assert_eq!((patch.code, patch.err.as_str()), (1, ""));
        for tool in [&["git", "apply"][..], &["patch", "-p1", "-s"]] {
            if is_there(tool[0]) {
                assert_eq!(
                    patched(&p, tool, &patch.out, old),
                    files(&p.past(new, "")),
                    "{tool:?}: {}",
                    patch.out
                );
            }
        }
    }
    // Types that change are more than patch(1) can do.
    fs::remove_file(p.path("becomes")).unwrap();
    fs::create_dir(p.path("becomes")).unwrap();
    fs::write(p.path("becomes/inside"), "x\n").unwrap();
    fs::remove_file(p.path("link2")).unwrap();
    fs::write(p.path("link2"), "no link\n").unwrap();
    assert_eq!(diff(&["b"]).out, "- becomes\n+ becomes/\n+ becomes/inside\n- link2\n+ link2\n");
    p.snapshot("c");
    for (old, new) in [("b", "c"), ("c", "b"), ("a", "c"), ("c", "a")] {
        let patch = diff(&[old, new, "-p"]).out;
        if is_there("git") {
            assert_eq!(patched(&p, &["git", "apply"], &patch, old), files(&p.past(new, "")), "{patch}");
        }
    }
    // A store that nobody has mounted tells the same, also what a killed daemon has left in its log.
    fs::write(p.path("late"), "x".repeat(100_000)).unwrap();
    p.kill();
    let before = p.fingerprint();
    let offline = p.run(&["diff", "store", "a", "b"]);
    assert_eq!((offline.code, offline.out.as_str(), offline.err.as_str()), (1, TOLD, ""));
    assert_eq!(p.run(&["diff", "store", "c"]).out, "+ late\n");
    assert_eq!(p.fingerprint(), before, "nothing was written");
    p.check();
}

#[test]
fn names_may_be_any_bytes_and_content_may_be_no_text() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    p.snapshot("a");
    let name = OsStr::from_bytes(b"n\xff\n");
    fs::write(p.at("mnt").join(name), b"latin \xe9\n").unwrap();
    fs::write(p.path("binary"), b"\0\x01").unwrap();
    let diff = |args: &[&str]| p.run(&[&["diff", "mnt", "a"], args].concat());
    assert_eq!(diff(&[]).out, "+ binary\n+ n\\xff\\n\n");
    let json = diff(&["--json"]).out;
    assert!(json.contains("\"path_hex\":\"6eff0a\""), "{json}");
    let patch = p.command(&["diff", "mnt", "a", "--patch"]).output().unwrap().stdout;
    let expected = b"diff --git a/binary b/binary\nnew file mode 100644\nBinary files /dev/null and b/binary differ\n\
        diff --git \"a/n\\377\\n\" \"b/n\\377\\n\"\nnew file mode 100644\n--- /dev/null\n+++ \"b/n\\377\\n\"\n\
        @@ -0,0 +1 @@\n+latin \xe9\n";
    assert_eq!(String::from_utf8_lossy(&patch), String::from_utf8_lossy(expected));
    assert_eq!(patch, expected);
}

#[test]
fn trouble_is_2_and_a_reader_that_goes_away_is_none() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    p.snapshot("a");
    for (args, says) in [
        (vec!["diff", "mnt", "none"], "none: no such view"),
        (vec!["diff", "mnt", "a", "@-9w"], "@-9w: no such view"),
        (vec!["diff", "mnt", "a", ".clones/none"], ".clones/none: no such view"),
        (vec!["diff", "mnt"], "required"),
        (vec!["diff", "mnt", "a", "-0"], "--name-only"),
        (vec!["diff", "mnt", "a", "--stat", "--patch"], "cannot be used"),
        (vec!["diff", "nowhere", "a"], "no such store"),
    ] {
        let said = p.run(&args);
        assert!(said.code == 2 && said.out.is_empty() && said.err.contains(says), "{args:?}: {said:?}");
    }
    for n in 0..3000 {
        fs::write(p.path(&format!("a file with a long name, so that no pipe holds all of them {n}")), "")
            .unwrap();
    }
    for form in ["--json", "--patch"] {
        let mut child = p
            .command(&["diff", "mnt", "a", form])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        assert!(first.contains("long name"), "{first}");
        let done = child.wait_with_output().unwrap();
        assert!(done.status.code() == Some(1) && done.stderr.is_empty(), "{done:?}");
    }
    // A mount that takes no changes, and that of one snapshot.
    p.umount();
    p.mount("ro");
    let said = p.run(&["diff", "mnt", "a", "--name-only"]);
    assert_eq!((said.code, said.out.lines().count()), (1, 3000));
}

#[test]
fn what_is_delayed_mapped_or_being_written_is_seen() {
    if !can_mount() {
        return;
    }
    for options in ["cache=strict", "cache=writeback"] {
        let p = Place::new();
        p.mount(options);
        p.snapshot("a");
        let mut file = fs::File::create(p.path("f")).unwrap();
        for n in 1..=20usize {
            file.write_all(&vec![b'x'; 5000]).unwrap();
            let lines = p.run(&["diff", "mnt", "a", "--json"]).out;
            let change: Value = serde_json::from_str(lines.trim()).unwrap();
            assert_eq!(change["new_size"], n * 5000, "{options}");
            let patch = p.run(&["diff", "mnt", "a", "--patch"]).out;
            assert_eq!(patch.matches('x').count(), n * 5000, "{options}");
        }
        let list = said(&mut p.command(&["list", "mnt", "--json"])).out;
        assert_eq!(list.matches("\"id\"").count(), 1, "no snapshot was left behind");
    }
}
