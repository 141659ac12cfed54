//! `snapfs versions`, `log`, `changes` and `show` on real mounts: in text and JSON, of any names, of what is gone, in clones and snapshots,
//! and while it happens.

mod guard;
mod place;
mod raw;

use guard::can_mount;
use place::{PATIENCE, Place, refuses, wait};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// `versions` as FROM TO CHANGED PATH.
fn versions(p: &Place, path: &str) -> Vec<String> {
    let rows = json_lines(&p.ok(&["versions", path, "--json"]));
    let changed = |row: &Value| match row["changed"].as_array() {
        Some(all) => all.iter().map(|v| v.as_str().unwrap()).collect::<Vec<_>>().join(","),
        None => "?".into(),
    };
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_else(|| panic!("{row}")).to_string();
    let line = |row: &Value| {
        format!("{} {} {} {}", text(row, "from"), text(row, "to"), changed(row), text(row, "path"))
    };
    rows.iter().map(line).collect()
}

#[test]
fn versions_and_log_follow_a_file() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fs::create_dir_all(p.path("etc/app")).unwrap();
    p.snapshot("empty");
    fs::write(p.path("etc/app/conf"), "one\n").unwrap();
    p.snapshot("one");
    p.snapshot("idle");
    fs::write(p.path("etc/app/conf"), "one\ntwo\n").unwrap();
    p.snapshot("two");
    fs::rename(p.path("etc/app/conf"), p.path("etc/app/config")).unwrap();
    fs::hard_link(p.path("etc/app/config"), p.path("link")).unwrap();
    p.snapshot("renamed");
    fs::rename(p.path("etc"), p.path("usr")).unwrap();
    p.snapshot("above");
    fs::write(p.path("usr/app/new"), "by an editor\n").unwrap();
    fs::rename(p.path("usr/app/new"), p.path("usr/app/config")).unwrap();
    p.snapshot("replaced");
    fs::remove_file(p.path("usr/app/config")).unwrap();
    p.snapshot("gone");

    let expected = [
        "replaced replaced file usr/app/config",
        "renamed above path etc/app/config",
        "two two content etc/app/conf",
        "one idle created etc/app/conf",
    ];
    let expected: Vec<String> =
        expected.map(|line| line.replace("above path etc", "above path usr")).to_vec();
    assert_eq!(versions(&p, "mnt/usr/app/config"), expected, "the path is gone");
    // However it is called, also by a way that is not there any more.
    assert_eq!(versions(&p, "mnt/./usr/../usr/app/config"), expected);
    let both_ways = ["renamed @live path link", expected[2].as_str(), expected[3].as_str()];
    assert_eq!(versions(&p, "mnt/.snapshots/two/etc/app/conf"), both_ways, "it has that name still");
    assert_eq!(versions(&p, "mnt/etc/app/conf"), expected[2..]);
    assert_eq!(versions(&p, "mnt/link")[0], "renamed @live path link");
    // Each is where it is said to be.
    for row in json_lines(&p.ok(&["versions", "mnt/usr/app/config", "--json"])) {
        let size = fs::metadata(row["reach"].as_str().unwrap()).unwrap().len();
        assert_eq!(row["size"], size, "{row}");
    }
    let table = p.ok(&["versions", "mnt/usr/app/config"]);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines.len() == 5 && lines[0].starts_with("FROM") && lines[0].ends_with("PATH"), "{table}");
    let reach = p.past("idle", "etc/app/conf");
    assert!(lines[4].starts_with("one ") && lines[4].ends_with(reach.to_str().unwrap()), "{table}");

    let log = p.ok(&["log", "mnt/usr/app/config"]);
    let said: Vec<&str> = log.lines().filter(|line| line.starts_with("    ")).collect();
    let told = [
        "    - usr/app/config",
        "    M usr/app/config (8 B -> 13 B, replaced)",
        "    R etc/app/conf -> etc/app/config",
        "    + link (link)",
        "    M etc/app/conf (4 B -> 8 B)",
        "    + etc/app/conf",
    ];
    assert_eq!(said, told, "{log}");
    assert!(log.starts_with("snapshot gone, 20"), "{log}");
    let lines = json_lines(&p.ok(&["log", "mnt/usr/app/config", "--json", "-n", "3"]));
    let snapshots: Vec<&str> = lines.iter().map(|line| line["snapshot"].as_str().unwrap()).collect();
    assert_eq!(snapshots, ["gone", "replaced", "renamed", "renamed"]);
    assert!(lines[3]["link"] == true && lines[3]["snapshot_created"].as_str().unwrap().ends_with('Z'));
    let since = p.ok(&["log", "mnt/usr/app/config", "--since", "above"]);
    assert_eq!(since.matches("snapshot ").count(), 2, "{since}");

    // Directories: all that is below.
    let stat = p.ok(&["log", "mnt/usr", "--stat"]);
    assert!(stat.contains("\n    1 renamed; +0 B -0 B\n"), "{stat}");
    let all = p.ok(&["log", "mnt"]);
    assert!(all.contains("    R etc/ -> usr/\n") && all.ends_with("    + ./ (then or before)\n"), "{all}");
    let sums = json_lines(&p.ok(&["log", "mnt", "--stat", "--json"]));
    assert_eq!(sums[0]["summary"]["removed"], 1, "{sums:?}");

    // What nobody has mounted.
    p.umount();
    assert_eq!(p.ok(&["log", "store"]), all);
    p.check();
}

#[test]
fn names_may_be_any_bytes_and_paths_may_have_been_anything() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    let name = OsStr::from_bytes(b"n\xff\n");
    let path = p.at("mnt").join(name);
    fs::create_dir(&path).unwrap();
    fs::write(path.join(name), "x").unwrap();
    p.snapshot("directory");
    fs::remove_dir_all(&path).unwrap();
    fs::write(&path, "a file").unwrap();
    p.snapshot("file");
    let run = |verb: &str, path: &Path, more: &[&str]| {
        let out = p.command(&[verb]).arg(path).args(more).output().unwrap();
        assert!(out.status.success() && out.stderr.is_empty(), "{out:?}");
        String::from_utf8(out.stdout).unwrap()
    };
    let rows = json_lines(&run("versions", &path, &["--json"]));
    let types: Vec<&str> = rows.iter().map(|row| row["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["file", "directory"]);
    assert_eq!(rows[0]["path_hex"], "6eff0a", "{rows:?}");
    // A file below what is no directory now.
    let rows = json_lines(&run("versions", &path.join(name), &["--json"]));
    assert_eq!((rows.len(), &rows[0]["from"]), (1, &"directory".into()));
    let log = run("log", &path.join(name), &[]);
    assert!(log.contains("    - n\\xff\\n/n\\xff\\n\n"), "{log}");
    assert!(log.ends_with("    + n\\xff\\n/n\\xff\\n (then or before)\n"), "{log}");
}

#[test]
fn clones_and_snapshots_have_their_own_past() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fs::write(p.path("f"), "main").unwrap();
    p.snapshot("origin");
    p.ok(&["clone", "mnt", "trial"]);
    fs::write(p.path(".clones/trial/f"), "in the clone").unwrap();
    fs::create_dir(p.path(".clones/trial/.snapshots/own")).unwrap();
    fs::write(p.path("f"), "in main").unwrap();
    let of_clone = versions(&p, "mnt/.clones/trial/f");
    assert_eq!(of_clone, ["own @live content f", "origin origin ? f"]);
    let rows = json_lines(&p.ok(&["versions", "mnt/.clones/trial/f", "--json"]));
    let reach: Vec<&str> = rows.iter().map(|row| row["reach"].as_str().unwrap()).collect();
    assert!(reach[1].ends_with("/.clones/trial/.snapshots/origin/f"), "{reach:?}");
    assert_eq!(fs::read(reach[0]).unwrap(), b"in the clone");
    assert_eq!(versions(&p, "mnt/f"), ["@live @live content f", "origin origin ? f"]);
    assert!(p.ok(&["log", "mnt/.clones/trial"]).contains("snapshot own, "));
}

#[test]
fn refusals_are_sentences_and_a_reader_that_goes_away_is_no_trouble() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    refuses(fs::metadata(p.path("never")), libc::ENOENT);
    for (args, code, says) in [
        (
            vec!["versions", "mnt/never/was"],
            1,
            "mnt/never/was: nothing is there, and nothing was in any snapshot",
        ),
        (vec!["log", "mnt/never"], 1, "mnt/never: nothing is there"),
        (vec!["log", "mnt", "--since", "none"], 1, "none: no such view"),
        (vec!["log", "mnt", "--since", "@live"], 1, "@live: a log begins after a snapshot"),
        (vec!["versions", "elsewhere"], 1, "elsewhere: there is no such store"),
        (vec!["versions"], 2, "required"),
        (vec!["log", "mnt", "-n", "x"], 2, "invalid"),
    ] {
        let said = p.run(&args);
        assert!(said.code == code && said.out.is_empty() && said.err.contains(says), "{args:?}: {said:?}");
    }
    p.snapshot("a");
    for n in 0..5000 {
        fs::write(p.path(&format!("a file with a long name, so that no pipe holds all of them {n}")), "")
            .unwrap();
    }
    let mut child = p.command(&["log", "mnt"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert_eq!(first, "@live\n");
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success() && done.stderr.is_empty(), "{done:?}");
}

/// A `snapfs changes --follow`, and its lines as they come.
struct Following {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Following {
    fn new(p: &Place, args: &[&str]) -> Following {
        let mut command = p.command(&[&["changes", "mnt", "--follow"], args].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (send, lines) = mpsc::channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || out.lines().map_while(Result::ok).all(|line| send.send(line).is_ok()));
        Following { child, lines }
    }
    /// Waits for a line that is so; others may come before it.
    fn wait_for(&self, what: &str, is_it: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|e| panic!("no {what}: {e}"));
            if is_it(&line) {
                return line;
            }
        }
    }
    /// Its end, and that it had nothing to complain of.
    fn ends(mut self) -> Option<i32> {
        let end = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < end, "it goes on");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let mut complaint = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
        assert_eq!(complaint, "");
        self.child.wait().unwrap().code()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}

#[test]
fn changes_are_told_as_they_happen_until_the_mount_ends() {
    if !can_mount() {
        return;
    }
    for options in ["cache=strict", "cache=writeback"] {
        let p = Place::new();
        p.mount(options);
        fs::write(p.path("before"), "x").unwrap();
        p.snapshot("a");
        fs::write(p.path("early"), "x").unwrap();
        fs::remove_file(p.path("before")).unwrap();
        assert_eq!(p.ok(&["changes", "mnt", "--since", "a"]), "- before\n+ early\n");
        let following = Following::new(&p, &["--since", "a"]);
        following.wait_for("early change", |line| line == "+ early");
        let only_new = Following::new(&p, &["--json"]);
        // A writer that keeps its file open.
        let mut file = fs::File::create(p.path("open")).unwrap();
        for n in 1..=3usize {
            file.write_all(&[b'x'; 5000]).unwrap();
            let size = n * 5000;
            let text = snapfs_size(size);
            following.wait_for("size", |line| {
                line == "+ open" && n == 1
                    || line.starts_with("M open (") && line.ends_with(&format!("-> {text})"))
            });
        }
        fs::rename(p.path("open"), p.path("moved")).unwrap();
        following.wait_for("rename", |line| line == "R open -> moved");
        fs::remove_file(p.path("early")).unwrap();
        following.wait_for("removal", |line| line == "- early");
        let line = only_new.wait_for("rename", |line| line.contains("\"old_path\":\"open\""));
        let change: Value = serde_json::from_str(&line).unwrap();
        assert!(change["change"] == "R" && change["time"].as_str().unwrap().ends_with('Z'), "{line}");
        assert_eq!(p.json(&["list", "mnt", "--json"]).as_array().unwrap().len(), 1, "no snapshot was left");
        drop(file);
        p.umount();
        assert_eq!((following.ends(), only_new.ends()), (Some(0), Some(0)));
        p.check();
        assert_eq!(p.ok(&["changes", "store", "--since", "a"]), "- before\n+ moved\n");
    }
}

/// As the program shows it.
fn snapfs_size(bytes: usize) -> String {
    format!("{:.1} KiB", bytes as f64 / 1024.0)
}

#[test]
fn who_follows_may_go_away_at_any_time() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    // Nothing happens, and its reader is gone.
    let mut child = p.command(&["changes", "mnt", "-f"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let end = Instant::now() + PATIENCE;
    let code = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status.code(),
            None => assert!(Instant::now() < end, "it goes on without a reader"),
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    assert_eq!(code, Some(0));
    // More, one after the other, than there may be at once. A store's daemon is not asked to look for those who are gone.
    for n in 0..20 {
        let following = Following::new(&p, &[]);
        fs::write(p.path("f"), format!("{n}")).unwrap();
        let pid = following.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        let mut following = following;
        assert_eq!(following.child.wait().unwrap().code(), None, "by the signal");
    }
    let end = Instant::now() + PATIENCE;
    let mut following = Following::new(&p, &[]);
    for n in 0.. {
        fs::write(p.path("g"), format!("{n}")).unwrap();
        if following.lines.recv_timeout(std::time::Duration::from_millis(50)).is_ok() {
            break;
        }
        assert!(Instant::now() < end, "those who are gone are in the way");
        if following.child.try_wait().unwrap().is_some() {
            following = Following::new(&p, &[]); // the last of them was there still
        }
    }
    for (args, code, says) in [
        (vec!["changes", "mnt"], 2, "--since"),
        (vec!["changes", "mnt", "--since", "none"], 1, "none: no such view"),
        (vec!["changes", "mnt", "--since", "@live", "--interval", "2"], 2, "--follow"),
        (vec!["changes", "mnt", "-f", "--interval", "0"], 2, "1..=60"),
    ] {
        let said = p.run(&args);
        assert!(said.code == code && said.out.is_empty() && said.err.contains(says), "{args:?}: {said:?}");
    }
}

#[test]
fn a_snapshot_or_clone_is_shown_whole() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fs::write(p.path("f"), vec![b'x'; 100_000]).unwrap();
    p.snapshot("by hand");
    p.ok(&["create", "mnt", "told", "--description", "caf\u{e9}\nbefore it"]);
    p.ok(&["clone", "mnt", "trial", "--from", "told", "--description", "an attempt", "--idle", "7d"]);
    p.ok(&["create", "mnt/.clones/trial", "own"]);
    let uid = snapfs::sys::process::effective_uid();
    let by_hand = p.json(&["show", "mnt", "by hand", "--json"]);
    let is = |object: &Value, expected: &[(&str, Value)]| {
        for (key, value) in expected {
            assert_eq!(&object[*key], value, "{key} in {object}");
        }
    };
    let (text, null) = (|text: &str| Value::from(text), Value::Null);
    is(
        &by_hand,
        &[
            ("kind", text("snapshot")),
            ("line", text(".")),
            ("reason", text("user")),
            ("user", uid.into()),
            ("description", null.clone()),
            ("command", null.clone()),
            ("after", null.clone()),
            ("read_now", false.into()),
            ("mounted_alone", false.into()),
        ],
    );
    assert!(by_hand["referenced"].as_u64().unwrap() > 100_000, "{by_hand}");
    let told = p.json(&["show", "mnt", "@latest", "--json"]);
    is(
        &told,
        &[
            ("name", text("told")),
            ("after", text("by hand")),
            ("description", text("caf\u{e9}\nbefore it")),
            ("command", text("snapfs create mnt told --description caf\u{e9}\nbefore it")),
            ("clones", serde_json::json!(["trial"])),
        ],
    );
    let clone = p.json(&["show", "mnt", ".clones/trial", "--json"]);
    is(
        &clone,
        &[
            ("kind", text("clone")),
            ("origin", text(".snapshots/told")),
            ("description", text("an attempt")),
            ("snapshots", 1.into()),
            ("idle_seconds", (7 * 86_400).into()),
            ("expires", null.clone()),
            ("user", uid.into()),
        ],
    );
    is(&p.json(&["show", "mnt/.clones/trial", "told", "--json"]), &[("inherited", true.into())]);
    is(&p.json(&["show", "mnt/.clones/trial", "own", "--json"]), &[("line", text(".clones/trial"))]);
    let open = fs::File::open(p.past("by hand", "f")).unwrap();
    let shown = p.ok(&["show", "mnt", "by hand"]);
    assert!(shown.contains("\nbeing read: yes\n") && shown.starts_with("snapshot: by hand\n"), "{shown}");
    drop(open);
    // It is an attribute of its root as well, and in the log.
    let attribute = |name: &str| raw::attribute(&p.past("told", ""), &format!("user.snapfs.{name}"));
    assert_eq!(attribute("description").unwrap(), "caf\u{e9}\nbefore it".as_bytes());
    assert_eq!(attribute("reason").unwrap(), b"user");
    assert_eq!(attribute("user").unwrap(), uid.to_string().as_bytes());
    refuses(raw::attribute(&p.past("by hand", ""), "user.snapfs.description"), libc::ENODATA);
    fs::write(p.path("f"), "y").unwrap();
    p.ok(&["create", "mnt", "after", "--description", "changed"]);
    assert!(p.ok(&["log", "mnt", "-n", "1"]).contains("\n    changed\n    $ snapfs create mnt after"));
    for (args, says) in [
        (vec!["show", "mnt", "none"], "none: no such view"),
        (vec!["show", "mnt", ".clones/none"], "none: no such clone"),
        (vec!["show", "mnt", "@live"], "@live: the live tree is no snapshot"),
        (vec!["create", "mnt", "long", "--description", &"x".repeat(1025)], "1024 bytes at most"),
    ] {
        let said = p.run(&args);
        assert!(said.code == 1 && said.out.is_empty() && said.err.contains(says), "{args:?}: {said:?}");
    }
    // All of it is there again.
    p.umount();
    let offline = p.json(&["show", "store", "told", "--json"]);
    p.mount("");
    assert_eq!(p.json(&["show", "mnt", "told", "--json"]), offline);
    is(&offline, &[("description", text("caf\u{e9}\nbefore it")), ("name", text("told"))]);
}

/// A secret that was snapshotted: refused, taken, gone from the image, and what the kernel had of it with it.
#[test]
fn a_purge_takes_a_secret_out_of_snapshots_and_image() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.ok(&["init", "store.img", "--size", "64M"]);
    fs::rename(p.at("store.img"), p.at("store")).unwrap();
    p.mount("");
    let (small, large) = ("s3cr3t-0123-key!", "s3cr3t-0123-key!".repeat(20_000));
    let image = || fs::read(p.at("store")).unwrap().windows(16).any(|found| found == small.as_bytes());
    fs::create_dir(p.path("app")).unwrap();
    fs::write(p.path("app/.env"), small).unwrap();
    fs::write(p.path("app/key.pem"), &large).unwrap();
    fs::write(p.path("app/note"), "a note").unwrap();
    for name in ["mon", "tue"] {
        p.snapshot(name);
        fs::write(p.path(&format!("app/{name}")), name).unwrap();
    }
    // The kernel has its pages.
    assert_eq!(fs::read_to_string(p.past("mon", "app/key.pem")).unwrap(), large);
    assert_eq!(fs::read_to_string(p.past("tue", "app/.env")).unwrap(), small);
    let refused = p.run(&["purge", "mnt/app/key.pem"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("/app/key.pem in the live tree"), "{refused:?}");
    assert!(refused.err.contains("delete it there"), "{refused:?}");
    assert_eq!(p.run(&["purge", "mnt/app/key.pem", "--all"]).code, 1, "what is live is not taken");
    for name in [".env", "key.pem"] {
        fs::remove_file(p.path("app").join(name)).unwrap();
    }
    p.snapshot("wed");
    let refused = p.run(&["purge", "mnt/app/.env", "--snapshots", "mon"]);
    assert!(refused.code == 1 && refused.err.contains("/app/.env in snapshot tue"), "{refused:?}");
    assert!(refused.err.contains("--all takes it from them, too"), "{refused:?}");
    let planned = p.json(&["purge", "mnt/app/key.pem", "--dry-run", "--json"]);
    assert_eq!((planned["purged"].as_bool(), planned["refused"].as_bool()), (Some(false), Some(false)));
    assert!(planned["stored_bytes"].as_u64() >= Some(320_000) && planned["others"] == serde_json::json!([]));
    for (path, code) in [("mnt/app", 1), ("mnt", 1), ("mnt/nothing", 1)] {
        assert_eq!(p.run(&["purge", path]).code, code, "{path}");
    }
    assert_eq!(p.run(&["purge", "mnt/app/.env", "--snapshots", "tue..mon"]).code, 1);
    assert!(image());
    let said = p.ok(&["purge", "mnt/app/.env", "--snapshots", "mon..tue"]);
    assert!(said.contains("purged mnt/app/.env from 2 snapshots (mon, tue)"), "{said}");
    p.ok(&["purge", "mnt/app/key.pem", "--snapshots", "tue,mon"]);
    for snapshot in ["mon", "tue"] {
        for name in [".env", "key.pem"] {
            let read = fs::read(p.past(snapshot, "app").join(name));
            assert_eq!(read.unwrap_err().raw_os_error(), Some(5), "{snapshot} {name}");
        }
        assert_eq!(fs::read_to_string(p.past(snapshot, "app/note")).unwrap(), "a note");
        assert!(p.json(&["show", "mnt", snapshot, "--json"])["edited"].is_string());
    }
    assert!(!image(), "it is in no block of the image");
    // A directory of such.
    fs::create_dir(p.path("keys")).unwrap();
    fs::write(p.path("keys/one"), small).unwrap();
    fs::write(p.path("keys/two"), &large).unwrap();
    p.snapshot("thu");
    fs::remove_dir_all(p.path("keys")).unwrap();
    let planned = p.ok(&["purge", "mnt/keys", "--snapshots", "thu", "--dry-run"]);
    assert!(
        planned.contains("  /keys/one\n  /keys/two\n") && planned.contains("nothing was done"),
        "{planned}"
    );
    let done = p.json(&["purge", "mnt/keys", "--snapshots", "thu", "--json"]);
    assert_eq!((done["file_count"].as_u64(), done["complete"].as_bool()), (Some(2), Some(true)), "{done}");
    assert!(fs::read(p.past("thu", "keys/two")).is_err() && !image());
    let listed = p.json(&["list", "mnt", "--json"]);
    let edited = listed.as_array().unwrap().iter().filter(|s| s["edited"].is_string());
    assert_eq!(edited.count(), 3, "{listed}");
    assert!(p.ok(&["list", "mnt"]).lines().next().unwrap().ends_with("EDITED"));
    assert!(p.log().contains("purged app/.env from mon, tue"), "{}", p.log());
    // A patch has all else, and says of these that they differ.
    let patch = p.run(&["diff", "mnt", "tue", "--patch"]);
    assert!(patch.code == 1 && patch.out.contains("a/app/key.pem and /dev/null differ"), "{patch:?}");
    let sent = p.run(&["send", "mnt", "tue"]);
    assert!(sent.code != 0 && sent.err.contains("content was purged from the snapshot tue"), "{sent:?}");
    p.umount();
    p.check();
    assert!(!image());
    p.mount("");
    assert!(fs::read(p.past("mon", "app/.env")).is_err());
    p.umount();
}

/// What keeps content of a deleted file is told by process, and the trash is no way around a purge.
#[test]
fn a_purge_finds_what_is_open_and_in_the_trash() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.ok(&["init", "store.img", "--size", "64M"]);
    fs::rename(p.at("store.img"), p.at("store")).unwrap();
    p.mount("");
    let secret = "s3cr3t-0123-key!";
    let image = || fs::read(p.at("store")).unwrap().windows(16).any(|found| found == secret.as_bytes());
    p.ok(&["set", "trash=1h", "mnt"]);
    fs::write(p.path("key"), secret).unwrap();
    for name in ["mon", "tue", "wed"] {
        p.snapshot(name);
    }
    p.ok(&["clone", "mnt", "c"]);
    let open = fs::File::open(p.path("key")).unwrap();
    fs::remove_file(p.path("key")).unwrap();
    p.ok(&["drop", "mnt", "c"]);
    p.ok(&["delete", "mnt", "tue", "wed"]);
    let planned = p.ok(&["purge", "mnt/key", "--snapshots", "mon..tue", "--dry-run"]);
    let by = format!("by process {} (", std::process::id());
    assert!(!planned.contains("0 B of content"), "{planned}");
    assert!(planned.contains("1 file deleted and still open") && planned.contains(&by), "{planned}");
    assert!(planned.contains("(mon, tue (in the trash))"), "{planned}");
    assert!(planned.contains("/key in snapshot wed (in the trash)"), "{planned}");
    assert!(planned.contains("/key in clone c (in the trash)"), "{planned}");
    assert!(p.ok(&["purge", "mnt/key", "--snapshots", "[mt]*", "-n"]).contains("(mon, tue (in the trash))"));
    for (which, word) in [
        ("x*", "no such view; a snapshot goes by"),
        ("@live", "make one first"),
        (".clones/c", "this is a clone"),
    ] {
        let refused = p.run(&["purge", "mnt/key", "--snapshots", which]);
        assert!(refused.code == 1 && refused.err.contains(word), "{refused:?}");
    }
    let refused = p.run(&["purge", "mnt/key", "--all"]);
    assert!(refused.code == 1 && refused.err.contains(&by), "{refused:?}");
    drop(open);
    // The kernel tells of a file that was closed a moment later.
    wait("the file to be closed", || !p.ok(&["purge", "mnt/key", "--dry-run"]).contains("still open"));
    let refused = p.run(&["purge", "mnt/key"]);
    assert!(refused.code == 1 && refused.err.contains("--all takes it from them, too"), "{refused:?}");
    p.ok(&["purge", "mnt/key", "--all"]);
    assert!(!image());
    p.ok(&["undelete", "mnt", "wed"]);
    p.ok(&["undelete", "mnt", ".clones/c"]);
    for read in [fs::read(p.past("wed", "key")), fs::read(p.path(".clones/c/key"))] {
        assert_eq!(read.unwrap_err().raw_os_error(), Some(5));
    }
    p.umount();
    p.check();
    assert!(!image());
}

/// Who purges nothing, and of what nothing is purged; after each refusal all is as it was.
#[test]
fn what_is_not_purged() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    let secret = "s3cr3t-0123-key!";
    fs::write(p.path("key"), secret).unwrap();
    p.ok(&["create", "mnt", "mon", "--hold", "audit"]);
    p.snapshot("tue");
    fs::remove_file(p.path("key")).unwrap();
    for (args, words) in [
        (&["mnt/key", "--all"][..], "the snapshot mon is held: nothing of it is purged until that ends"),
        (&["mnt/key", "--snapshots", "mon..tue", "--all"], "the snapshot mon is held"),
        (&["mnt"], "this is the root of the tree; name a file in it"),
        (&["mnt/.snapshots/tue/key"], "name the path in the live tree"),
        (&["mnt/.snapshots/tue"], "name the path in the live tree"),
    ] {
        let refused = p.run(&[&["purge"][..], args].concat());
        assert!(
            refused.code == 1 && refused.out.is_empty() && refused.err.contains(words),
            "{args:?}: {refused:?}"
        );
    }
    if place::is_root() && Path::new("/usr/bin/setpriv").exists() {
        // Where the program was built may be closed to others.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&p.dir.0, open).unwrap();
        let program = p.at("snapfs");
        assert!(
            Command::new("cp").arg(env!("CARGO_BIN_EXE_snapfs")).arg(&program).status().unwrap().success()
        );
        let mut other = Command::new("setpriv");
        other.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
        other.args(["purge", "mnt/key", "--snapshots", "tue"]);
        let refused = place::said(p.settle(&mut other));
        let words = "only root purges what snapshots hold";
        assert!(refused.code == 1 && refused.err.contains(words), "{refused:?}");
    } else {
        eprintln!("SKIPPED: no root or no setpriv: nobody else tries to purge");
    }
    for name in ["mon", "tue"] {
        assert_eq!(fs::read_to_string(p.past(name, "key")).unwrap(), secret, "{name}");
    }
    // With one side of a mirror away it would come back with that.
    fs::File::create(p.at("two.img")).and_then(|f| f.set_len(4 << 30)).unwrap();
    p.ok(&["mirror", "attach", "mnt", "two.img", "--wait"]);
    p.ok(&["release", "mnt", "mon"]);
    p.umount();
    fs::rename(p.at("two.img"), p.at("away.img")).unwrap();
    p.mount("");
    let refused = p.run(&["purge", "mnt/key", "--all"]);
    let words = "one side of the mirror is not there, and would bring the content back";
    assert!(refused.code == 1 && refused.err.contains(words), "{refused:?}");
    assert_eq!(fs::read_to_string(p.past("mon", "key")).unwrap(), secret);
    p.umount();
    fs::rename(p.at("away.img"), p.at("two.img")).unwrap();
    p.mount("");
    wait("both sides", || p.json(&["mirror", "status", "mnt", "--json"])["in_sync"] == true);
    p.ok(&["purge", "mnt/key", "--all"]);
    p.umount();
    p.check();
}

/// What a clone lists of the line that it came from is purged there: that it has the content is told, and is no success.
#[test]
fn a_purge_in_a_clone_tells_what_it_inherited() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fs::write(p.path("x"), "SECRET-v1").unwrap();
    p.snapshot("one");
    p.ok(&["clone", "mnt", "c"]);
    fs::remove_file(p.path("x")).unwrap();
    p.snapshot("without");
    fs::write(p.path(".clones/c/x"), "SECRET-v2").unwrap();
    p.ok(&["create", "mnt/.clones/c", "own"]);
    fs::remove_file(p.path(".clones/c/x")).unwrap();
    // Also if it is held.
    p.ok(&["hold", "mnt", "one"]);
    let purge = |args: &[&str]| p.run(&[&["purge", "mnt/.clones/c/x"][..], args].concat());
    let told = "the snapshot one has it still: it belongs to the main line";
    let planned = purge(&["--dry-run"]);
    assert!(planned.code == 0 && planned.out.contains(told), "{planned:?}");
    let said = purge(&[]);
    assert!(said.code == 1 && said.out.starts_with("purged ") && said.out.contains(told), "{said:?}");
    assert!(said.err.contains("snapshots that this was cloned from have it still"), "{said:?}");
    assert!(fs::read(p.path(".clones/c/.snapshots/own/x")).is_err());
    assert_eq!(fs::read_to_string(p.past("one", "x")).unwrap(), "SECRET-v1");
    let said = purge(&["--json"]);
    let answer: Value = serde_json::from_str(&said.out).unwrap();
    assert!(
        said.code == 1 && answer["complete"] == false && answer["inherited"][0]["name"] == "one",
        "{answer}"
    );
    // Who names snapshots wants no others.
    let said = purge(&["--snapshots", "own"]);
    assert!(said.code == 0 && said.out.contains(told), "{said:?}");
    for (args, words) in [
        (&["delete", "mnt/.clones/c", "one"][..], "one: it is another line's, from which this was cloned"),
        (&["rename", "mnt/.clones/c", "one", "uno"], "one: it is another line's, from which this was cloned"),
        (&["purge", "mnt/.clones/none/x"], "none: no such clone"),
        (&["purge", "mnt/.snapshots/none/x"], "none: no such snapshot"),
    ] {
        let refused = p.run(args);
        assert!(refused.code == 1 && refused.err.contains(words), "{args:?}: {refused:?}");
    }
    p.ok(&["delete", "mnt/.clones/c", "own"]);
    let refused = purge(&[]);
    let words =
        "there are no snapshots of its own, and those of what it was cloned from are purged there: one";
    assert!(refused.code == 1 && refused.err.contains(words), "{refused:?}");
    p.ok(&["release", "mnt", "one"]);
    p.ok(&["purge", "mnt/x"]);
    p.ok(&["create", "mnt/.clones/c", "later"]);
    let refused = purge(&[]);
    assert!(refused.code == 1 && refused.err.contains("in none of these snapshots"), "{refused:?}");
    p.umount();
    p.check();
}

/// A tmpfs that is unmounted in the end, also when the test fails.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn over(p: &Place, name: &str) -> Option<Tmpfs> {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "none"]).arg(p.at(name)).status().unwrap();
        if !mounted.success() {
            eprintln!("SKIPPED: no right to mount a tmpfs over {name}");
        }
        mounted.success().then(|| Tmpfs(p.at(name)))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A store stands for its mount elsewhere, but what is in its directory is not in the mount: numbers there mean other files.
#[test]
fn a_path_in_the_store_is_none_in_the_mount() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    fs::create_dir(p.at("store")).unwrap();
    // The root of a file system has the number that the root of a mount has.
    let below = Tmpfs::over(&p, "store");
    p.mount("");
    fs::create_dir(p.path("app")).unwrap();
    fs::write(p.path("app/env"), "precious").unwrap();
    p.snapshot("one");
    fs::remove_dir_all(p.path("app")).unwrap();
    symlink(p.at("store"), p.path("link")).unwrap();
    symlink(p.at("store"), p.at("link")).unwrap();
    let point = fs::canonicalize(p.at("mnt")).unwrap();
    let words = format!(
        "this is in the store of the mount at {0}, not in the mount: name the path below {0}",
        point.display()
    );
    for path in ["store/app/env", "store/log", "store/app", "link/app/env", "mnt/link/app/env"] {
        for verb in [&["purge", path, "--all"][..], &["versions", path], &["log", path]] {
            let refused = p.run(verb);
            assert!(
                refused.code == 1 && refused.out.is_empty() && refused.err.contains(&words),
                "{verb:?}: {refused:?}"
            );
        }
    }
    let refused = p.run(&["restore", "store/app/env", "--from", "one"]);
    assert!(refused.code == 1 && refused.err.contains("not in a mount"), "{refused:?}");
    // What is mounted over the mount has numbers of its own, too.
    if let Some(over) = Tmpfs::over(&p, "mnt") {
        for verb in
            [&["purge", "mnt/app/env", "--all"][..], &["versions", "mnt/app/env"], &["log", "mnt/app"]]
        {
            let refused = p.run(verb);
            let words = "another file system is mounted over the mount at";
            assert!(refused.code == 1 && refused.err.contains(words), "{verb:?}: {refused:?}");
        }
        drop(over);
    }
    assert_eq!(fs::read_to_string(p.past("one", "app/env")).unwrap(), "precious");
    p.ok(&["purge", "mnt/app/env"]);
    p.umount();
    p.check();
    drop(below);
}

/// A mount that ends amid a purge: the command ends soon and says so, and the next mount and a second purge do the rest.
#[test]
fn a_purge_whose_mount_ends_is_done_with_the_next() {
    const FREE: usize = 128 << 20;
    if !can_mount() {
        return;
    }
    let secret = "s3cr3t-0123-key!";
    for end in ["umount", "kill"] {
        let p = Place::new();
        p.ok(&["init", "store.img", "--size", "512M"]);
        fs::rename(p.at("store.img"), p.at("store")).unwrap();
        let zeros = [0; 4096];
        let image = || {
            let bytes = fs::read(p.at("store")).unwrap();
            let mut blocks = bytes.chunks(4096).filter(|block| **block != zeros);
            blocks.any(|block| block.windows(16).any(|found| found == secret.as_bytes()))
        };
        p.mount("");
        let mut amid = 0;
        for when in ["at once", "soon", "when some is held", "when some is held"] {
            let dir = format!("keys {amid} {when}");
            let name = p.json(&["list", "mnt", "--json"]).as_array().unwrap().len().to_string();
            // Free space that was in use takes long.
            let filler = fs::File::create(p.path("filler")).unwrap();
            (&filler).write_all(&vec![7; FREE]).unwrap();
            filler.sync_all().unwrap();
            drop(filler);
            fs::remove_file(p.path("filler")).unwrap();
            fs::create_dir(p.path(&dir)).unwrap();
            for n in 0..300 {
                fs::write(p.path(&dir).join(n.to_string()), secret.repeat(100)).unwrap();
            }
            fs::write(p.path(&dir).join("large"), secret.repeat(1 << 18)).unwrap();
            p.snapshot(&name);
            fs::remove_dir_all(p.path(&dir)).unwrap();
            let path = format!("mnt/{dir}");
            let purge = ["purge", &path[..], "--snapshots", &name[..]];
            let said = std::thread::scope(|scope| {
                let purging = scope.spawn(|| p.run(&purge));
                match when {
                    "at once" => {}
                    "soon" => std::thread::sleep(Duration::from_millis(50)),
                    _ => wait("some of it", || {
                        purging.is_finished() || p.json(&["status", "mnt", "--json"])["purge_left"] == true
                    }),
                }
                let begun = Instant::now();
                if end == "kill" {
                    p.kill()
                } else {
                    p.umount()
                }
                let said = purging.join().unwrap();
                assert!(begun.elapsed() < Duration::from_secs(20), "{end} {when}: {:?}", begun.elapsed());
                said
            });
            match said.code {
                0 => {}
                1 if said.err.contains("goes on by itself") => amid += 1,
                // It had not begun.
                1 if said.err.contains("not mounted") && when != "when some is held" => {}
                _ => panic!("{end} {when}: {said:?}"),
            }
            assert!(said.code == 0 || said.out.is_empty(), "{end} {when}: {said:?}");
            p.mount("");
            let done = p.json(&["purge", &path, "--snapshots", &name, "--json"]);
            assert_eq!(done["complete"], true, "{end} {when}: {done}");
            for file in ["0", "299", "large"] {
                let read = fs::read(p.past(&name, &dir).join(file));
                assert_eq!(read.unwrap_err().raw_os_error(), Some(5), "{end} {when} {file}");
            }
            assert!(!image(), "{end} {when}");
            assert_eq!(p.json(&["status", "mnt", "--json"])["purge_left"], false, "{end} {when}");
        }
        assert!(amid > 0, "{end}: no purge was met amid");
        p.umount();
        p.check();
        assert!(!image());
    }
}
