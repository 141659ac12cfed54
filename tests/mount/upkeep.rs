//! `snapfs delete` on a real mount: patterns, ranges, rehearsals, what stays and why, and waiting for the space.

mod guard;
mod place;

use guard::can_mount;
use place::{Place, names, wait};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

fn refused(p: &Place, args: &[&str], code: i32, words: &[&str]) {
    let said = p.run(args);
    assert!(said.code == code && words.iter().all(|w| said.err.contains(w)), "{args:?}: {said:?}");
}

fn there(p: &Place) -> Vec<String> {
    names(&p.path(".snapshots"))
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
    let told = p.ok(&["delete", "mnt", "nightly-?", "odd*", "--dry-run"]);
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
    p.mount("");
    let file = fs::File::create(p.path("f")).unwrap();
    for n in 0..600 {
        use std::os::unix::fs::FileExt;
        file.write_all_at(format!("{n:>8192}").as_bytes(), 0).unwrap();
        fs::create_dir(p.path(".snapshots").join(format!("s{n}"))).unwrap();
    }
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
    for key in ["deleting", "freeing_jobs", "freeing_bytes", "snapshots"] {
        assert_eq!(p.number(key), 0, "{key}");
    }
    p.umount();
    p.check();
}
