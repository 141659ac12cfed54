//! `snapfs versions` and `snapfs log` on real mounts: in text and JSON, of any names, of what is gone, in clones and snapshots.

mod guard;
mod place;

use guard::can_mount;
use place::{Place, refuses};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Stdio;

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
