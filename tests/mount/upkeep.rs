//! Many snapshots on a real mount: deletion by patterns and ranges, what stays and why, waiting for the space; what is kept before much is
//! gone; lists of chosen rows and columns, and drawn.

mod guard;
mod place;

use guard::can_mount;
use place::{Place, names, wait};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;

fn refused(p: &Place, args: &[&str], code: i32, words: &[&str]) {
    let said = p.run(args);
    assert!(said.code == code && words.iter().all(|w| said.err.contains(w)), "{args:?}: {said:?}");
}

/// Names of snapshots, of which some are no text.
fn there(p: &Place) -> Vec<String> {
    let all = fs::read_dir(p.path(".snapshots")).unwrap();
    let mut all: Vec<String> = all.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    all.sort();
    all
}

#[test]
fn snapshots_go_by_pattern_and_time() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    for name in ["nightly-1", "nightly-2", "nightly-3", "weekly-1", "nightly-*", "other"] {
        fs::write(p.path("f"), name.repeat(10_000)).unwrap();
        p.snapshot(name);
    }
    let odd = p.path(".snapshots").join(OsStr::from_bytes(b"odd\xff"));
    fs::create_dir(&odd).unwrap();

    // Nothing is done in a rehearsal, and a name is taken as it is before it is a pattern.
    let rehearsed = p.json(&["delete", "mnt", "nightly-*", "--dry-run", "--json"]);
    assert_eq!(rehearsed["would_delete"], json!(["nightly-*"]), "{rehearsed}");
    let told = p.ok(&["delete", "mnt", "nightly-[0-9]", "odd*", "--dry-run"]);
    assert!(
        told.starts_with("nightly-1\nnightly-2\nnightly-3\n") && told.contains("4 snapshots would go, and "),
        "{told}"
    );
    assert_eq!(there(&p).len(), 7);
    p.ok(&["delete", "mnt", "nightly-*"]);
    assert_eq!(there(&p).len(), 6);

    // Before and after what: another snapshot, an age, a time.
    let of = |args: &[&str]| -> Value {
        let mut all = vec!["delete", "mnt", "--dry-run", "--json"];
        all.extend(args);
        p.json(&all)["would_delete"].clone()
    };
    assert_eq!(of(&["nightly-*", "--before", "nightly-3"]), json!(["nightly-1", "nightly-2"]));
    assert_eq!(of(&["nightly-*", "--after", "nightly-1", "--before", "nightly-3"]), json!(["nightly-2"]));
    assert_eq!(of(&["*ly-1", "--before", "@-0s"]), json!(["nightly-1", "weekly-1"]));
    assert_eq!(of(&["weekly-1", "other", "--after", "@2026-01-01"]), json!(["weekly-1", "other"]));
    refused(&p, &["delete", "mnt", "*", "--before", "@-30d"], 1, &["*: it matches no snapshot of that time"]);
    refused(
        &p,
        &["delete", "mnt", "other", "--before", "@-30d"],
        1,
        &["other: no such snapshot of that time"],
    );
    refused(&p, &["delete", "mnt", "*", "--before", "yesterday"], 1, &["yesterday: no such view"]);

    // Refusals: nothing met, wrong usage; the others go all the same.
    refused(&p, &["delete", "mnt", "nothing"], 1, &["nothing: no such snapshot"]);
    refused(
        &p,
        &["delete", "mnt", "none*", "nothing"],
        1,
        &["none*: it matches no snapshot", "nothing: no such"],
    );
    refused(&p, &["delete", "mnt"], 2, &["NAME"]);
    refused(&p, &["delete", "mnt", ""], 2, &["a name is empty"]);
    refused(&p, &["delete", "mnt", "a", "--wait", "--dry-run"], 2, &["--dry-run"]);
    let said = p.run(&["delete", "mnt", "weekly-*", "nothing", "--json"]);
    let answer: Value = serde_json::from_str(&said.out).unwrap();
    assert!(said.code == 1 && said.err.contains("nothing: no such snapshot"), "{said:?}");
    assert_eq!(
        (&answer["deleted"], &answer["missing"]),
        (&json!(["weekly-1"]), &json!(["nothing: no such snapshot"]))
    );

    // What is mounted alone stays, and is told.
    fs::create_dir(p.at("alone")).unwrap();
    p.ok(&["mount", "store", "alone", "--snapshot", "nightly-2"]);
    refused(&p, &["delete", "mnt", "n*", "odd*"], 1, &["nightly-2: in use"]);
    assert_eq!(there(&p), ["nightly-2", "other"]);
    let kept = p.run(&["delete", "mnt", "n*", "--dry-run", "--json"]);
    let answer: Value = serde_json::from_str(&kept.out).unwrap();
    assert_eq!((kept.code, &answer["kept"][0]["name"]), (1, &json!("nightly-2")), "{answer}");
    p.ok(&["umount", "alone"]);
    // So does what is held, by whomever.
    p.ok(&["hold", "mnt", "nightly-2", "--tag", "legal"]);
    refused(&p, &["delete", "mnt", "n*", "o*"], 1, &["nightly-2: ", "legal"]);
    assert_eq!(there(&p), ["nightly-2"]);
    p.ok(&["release", "mnt", "nightly-2", "--tag", "legal"]);

    // What was made automatically is meant by what says so alone.
    p.ok(&["schedule", "mnt", "every=1h", "keep=24h"]);
    wait("a snapshot", || there(&p).iter().any(|name| name.starts_with("@GMT-")));
    p.ok(&["schedule", "mnt", "--remove"]);
    p.ok(&["delete", "mnt", "*", "--wait"]);
    assert!(there(&p).len() == 1 && there(&p)[0].starts_with("@GMT-"), "{:?}", there(&p));
    p.ok(&["delete", "mnt", "@GMT-*"]);
    assert_eq!(there(&p), [""; 0]);
    p.umount();
    p.check();
}

#[test]
fn hundreds_go_at_once_and_their_space_is_waited_for() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("commit=1");
    let file = fs::File::create(p.path("f")).unwrap();
    for n in 0..600 {
        use std::os::unix::fs::FileExt;
        file.write_all_at(format!("{n:>8192}").as_bytes(), 0).unwrap();
        fs::create_dir(p.path(".snapshots").join(format!("s{n}"))).unwrap();
    }
    drop(file);
    p.ok(&["delete", "mnt", "s?"]);
    assert_eq!(there(&p).len(), 590);
    // The kernel knew the names, and does not any more.
    assert!(fs::metadata(p.past("s5", "f")).is_err() && fs::metadata(p.past("s55", "f")).is_ok());
    let said = p.run(&["delete", "mnt", "s*", "--wait", "--json"]);
    assert!(said.code == 0 && said.err.is_empty(), "{said:?}");
    let lines: Vec<Value> = said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (last, steps) = lines.split_last().unwrap();
    assert_eq!(last["deleted"].as_array().map(Vec::len), Some(590), "{last}");
    assert!(last["frees"].as_u64() >= Some(589 * 8192), "{last}");
    assert!(!steps.is_empty() && steps[0]["deleting"].as_u64().is_some(), "{steps:?}");
    assert!(
        steps.iter().all(|step| step["rate_bytes"].is_u64() && step.get("eta_seconds").is_some()),
        "{steps:?}"
    );
    for key in ["deleting", "freeing_jobs", "freeing_bytes", "snapshots"] {
        assert_eq!(p.number(key), 0, "{key}");
    }
    assert!(p.number("longest_deletion_pause_us") > 0, "for how long others were held up is told");
    p.umount();
    p.check();
}

#[test]
fn what_somebody_reads_is_waited_for_when_deleted() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("commit=1");
    fs::write(p.path("f"), vec![7; 5 << 20]).unwrap();
    p.snapshot("s");
    fs::write(p.path("f"), "little").unwrap();
    p.snapshot("t");
    // Whoever has read and closed it keeps nothing.
    assert_eq!(fs::read(p.past("t", "f")).unwrap(), b"little");
    let open = fs::File::open(p.past("s", "f")).unwrap();
    let waits = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| p.run(&["delete", "mnt", "s", "t", "--wait"]));
        wait("it is told that one is read", || p.number("deleting_read") == 1);
        assert!(p.number("deleting") >= 1 && p.number("freeing_bytes") >= 5 << 20);
        std::thread::sleep(std::time::Duration::from_millis(1500));
        assert!(!waiting.is_finished());
        drop(open);
        waiting.join().unwrap()
    });
    assert!(waits.code == 0 && waits.err.contains("1 deleted snapshot is in use still"), "{waits:?}");
    for key in ["deleting", "deleting_read", "freeing_jobs", "freeing_bytes", "snapshots"] {
        assert_eq!(p.number(key), 0, "{key}");
    }
    p.umount();
    p.check();
}

fn kept(p: &Place) -> Vec<String> {
    there(p).into_iter().filter(|name| name.starts_with("@before-mass-deletion-")).collect()
}

#[test]
fn much_that_goes_at_once_is_there_before() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    let fill = |dir: &str, count: usize| {
        fs::create_dir(p.path(dir)).unwrap();
        (0..count).for_each(|n| fs::write(p.path(dir).join(format!("f{n}")), format!("{n}")).unwrap());
    };
    assert!(p.ok(&["status", "mnt"]).contains("tripwire: set by the first change"));
    // Made and deleted at once, as builds are.
    fill("target", 1500);
    fs::remove_dir_all(p.path("target")).unwrap();
    fill("old", 5000);
    p.umount();
    p.mount("");
    assert_eq!(there(&p), [""; 0]);
    fs::remove_dir_all(p.path("old")).unwrap();
    wait("a snapshot of before", || !kept(&p).is_empty());
    let name = kept(&p).remove(0);
    assert_eq!(names(&p.past(&name, "old")).len(), 5000);
    assert_eq!(fs::read(p.past(&name, "old/f0")).unwrap(), b"0");
    let shown = p.json(&["show", "mnt", &name, "--json"]);
    assert_eq!(shown["reason"], "before mass deletion", "{shown}");
    let status = p.json(&["status", "mnt", "--json"]);
    assert_eq!(status["tripwire_last"], json!(name), "{status}");
    // It is a snapshot like any, after a crash as well, and files come back from it.
    File::open(p.path("")).unwrap().sync_all().unwrap();
    p.kill();
    p.mount("");
    assert_eq!(kept(&p), [&name[..]]);
    p.ok(&["restore", p.path("old").to_str().unwrap(), "--from", &name]);
    assert_eq!(names(&p.path("old")).len(), 5000);

    // What is said about it.
    assert!(p.ok(&["get", "tripwire", "mnt"]).contains("on"));
    p.ok(&["set", "tripwire=off", "mnt"]);
    wait("the end of it", || p.ok(&["status", "mnt"]).contains("tripwire: off"));
    p.ok(&["set", "tripwire=50", "mnt"]);
    assert_eq!(p.json(&["get", "tripwire", "mnt", "--json"])[0]["value"], "50");
    refused(&p, &["set", "tripwire=10%", "mnt"], 2, &["neither on, off nor a number of files"]);
    refused(&p, &["set", "tripwire=0", "mnt"], 2, &["neither on, off nor a number of files"]);
    p.umount();
    p.check();
}

#[test]
fn lists_show_what_is_asked_for() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    for (name, len) in [("small", 1), ("large", 300), ("middle", 40)] {
        fs::write(p.path("f"), name.repeat(len << 10)).unwrap();
        p.snapshot(name);
    }
    fs::write(p.path("f"), "now").unwrap();
    p.ok(&["create", "mnt", "told", "--description", "with words"]);
    let largest = p.ok(&["list", "mnt", "--sort", "-exclusive,name"]);
    assert!(largest.lines().nth(1).is_some_and(|row| row.starts_with("large ")), "{largest}");
    p.ok(&["clone", "mnt", "c", "--from", "large"]);
    // The clone has all that it has: that no counter tells is said, and the number is had.
    let exclusive = |all: &Value, name: &str| {
        let row = all.as_array().unwrap().iter().find(|row| row["name"] == name);
        row.unwrap()["exclusive"].clone()
    };
    assert_eq!(exclusive(&p.json(&["list", "mnt", "--json"]), "large"), Value::Null);
    assert_eq!(exclusive(&p.json(&["space", "mnt", "--json"])["snapshots"], "large"), json!(0));
    assert!(p.ok(&["show", "mnt", "large"]).contains("exclusive: - (snapfs space tells)"));
    let usual = p.ok(&["list", "mnt"]);
    assert!(usual.starts_with("NAME    CREATED ") && usual.contains("CLONE"), "{usual}");
    let first = |args: &[&str]| -> Vec<String> {
        let out = p.ok(args);
        assert!(!out.contains("CLONE") && !out.contains('\x1b'), "{out}");
        out.lines().skip(1).map(|line| line.split(' ').next().unwrap_or_default().into()).collect()
    };
    assert_eq!(first(&["list", "mnt", "--sort", "-exclusive,name"])[0], "middle");
    assert_eq!(
        first(&["list", "mnt", "--sort=name", "--columns", "name,id"]),
        ["large", "middle", "small", "told"]
    );
    assert_eq!(first(&["list", "mnt", "--since", "middle", "--columns", "name"]), ["middle", "told"]);
    assert_eq!(first(&["list", "mnt", "--since", "@-1h", "--sort", "-created"])[0], "told");
    assert_eq!(first(&["list", "mnt", "--clone", "c", "--columns", "name"]), ["small", "large"]);
    assert_eq!(first(&["list", "mnt", "--held", "--columns", "name"]).len(), 0);
    p.ok(&["hold", "mnt", "large", "--tag", "legal"]);
    assert_eq!(first(&["list", "mnt", "--held", "--columns", "name,held"]), ["large"]);
    let told = p.ok(&["list", "mnt", "--columns", "name,reason,description", "--since", "told"]);
    assert_eq!(told, "NAME  REASON  DESCRIPTION\ntold  user    with words\n");
    let told = p.json(&["list", "mnt", "--json", "--columns", "name,reason,description", "--since", "told"]);
    assert_eq!(told, json!([{"name": "told", "reason": "user", "description": "with words"}]));
    let columns = ["list", "mnt", "--json", "--columns", "consistency,pause,method", "--since", "told"];
    let told = p.json(&columns);
    assert_eq!((&told[0]["consistency"], &told[0]["method"]), (&json!("file system"), &json!("row")));
    assert!(told[0]["pause_us"].as_u64() > Some(0), "{told}");
    let all = p.json(&["list", "mnt", "--json"]);
    let mut keys: Vec<&String> = all[0].as_object().unwrap().keys().collect();
    keys.sort();
    let without_asking =
        ["consistency", "created", "exclusive", "held", "id", "name", "pause_us", "referenced", "written"];
    assert_eq!(keys, without_asking);
    let sorted = p.json(&["list", "mnt", "--json", "--sort", "-name"]);
    assert_eq!((&sorted[0]["name"], sorted.as_array().map(Vec::len)), (&json!("told"), Some(4)));
    let strip = p.ok(&["list", "mnt", "--strip"]);
    assert!(
        strip.starts_with("hours  ...") && strip.contains("4 snapshots until ") && !strip.contains('\x1b'),
        "{strip}"
    );
    assert!(p.ok(&["list", "mnt", "--graph"]).starts_with("referenced, at most "));
    for (args, word) in [
        (&["--columns", "size"][..], "there is no column 'size'; there are: name, id, created"),
        (&["--sort", "-"], "there is no column ''"),
        (&["--strip", "--json"], "--json"),
        (&["--strip", "--graph"], "--graph"),
    ] {
        refused(&p, &[&["list", "mnt"], args].concat(), 2, &[word]);
    }
    refused(&p, &["list", "mnt", "--since", "yesterday"], 1, &["yesterday: no such view"]);
    refused(&p, &["list", "mnt", "--clone", "none"], 1, &["none: no such clone"]);
    p.umount();
    // A store that is not mounted is listed in the same way.
    assert_eq!(first(&["list", "store", "--sort=-name", "--columns", "name"])[0], "told");
    assert_eq!(first(&["list", "store", "--clone", "c", "--columns", "name"]), ["small", "large"]);
    assert_eq!(first(&["list", "store", "--sort", "method", "--columns", "method"]), ["row"; 4]);
}
