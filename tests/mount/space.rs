//! Space on real mounts: what is told adds up, what is planned comes true, refusals.

mod guard;
mod place;

use guard::can_mount;
use place::{Place, wait};
use serde_json::Value;
use std::fs;

fn random(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| rng.u8(..)).take(len).collect()
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("{key} in {value}"))
}

/// What the space is used for, once nothing is on its way back.
fn parts(p: &Place, target: &str) -> Value {
    let ask = || p.json(&["space", target, "--json"]);
    wait("the background", || ask()["freeing_bytes"] == 0);
    let parts = ask();
    let sum =
        ["live_bytes", "snapshots_bytes", "tables_bytes", "freeing_bytes"].map(|key| number(&parts, key));
    assert_eq!(sum.iter().sum::<u64>(), number(&parts, "used_bytes"), "{parts}");
    parts
}

fn reached(parts: &Value) -> u64 {
    number(parts, "live_bytes") + number(parts, "snapshots_bytes")
}

#[test]
fn what_is_told_adds_up_and_what_is_planned_comes_true() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("commit=1");
    fs::write(p.path("a"), random(1, 3 << 20)).unwrap();
    fs::copy(p.path("a"), p.path("b")).unwrap();
    p.ok(&["create", "mnt", "monday"]);
    fs::write(p.path("a"), random(2, 2 << 20)).unwrap();
    fs::create_dir(p.path(".clones/x")).unwrap();
    fs::write(p.path(".clones/x/c"), random(3, 1 << 20)).unwrap();
    p.ok(&["create", "mnt/.clones/x", "step"]);
    p.ok(&["create", "mnt", "it's tuesday"]);
    fs::remove_file(p.path("b")).unwrap();
    p.ok(&["create", "mnt", "wednesday"]);

    let before = parts(&p, "mnt");
    assert_eq!(before["snapshots"].as_array().map(Vec::len), Some(4));
    assert_eq!(before["clones"][0]["name"], "x");
    assert!(number(&before["clones"][0], "exclusive") >= 1 << 20);
    let text = p.ok(&["space", "mnt"]);
    assert!(text.contains("it's tuesday") && text.contains(".clones/x/.snapshots/step"), "{text}");
    assert!(text.contains("what only snapshots have"), "{text}");

    // All of what is deleted together, and not before.
    let plan = p.json(&["plan", "mnt", "delete", "monday", "it's tuesday", ".clones/x", "--json"]);
    let alone = p.json(&["plan", "mnt", "delete", "monday", "--json"]);
    assert!(
        number(&plan, "freed_bytes") >= 4 << 20 && number(&alone, "freed_bytes") < 3 << 20,
        "{plan} {alone}"
    );
    let text = p.ok(&["plan", "mnt", "delete", "monday", "it's tuesday", ".clones/x"]);
    assert!(text.starts_with("deleting 2 snapshots and 1 clone brings back"), "{text}");
    assert_eq!(reached(&parts(&p, "mnt")), reached(&before), "a plan changes nothing");

    // What cannot be deleted is told.
    for (args, code, words) in [
        (&["plan", "mnt", "delete", "nothing"][..], 1, "no such"),
        (&["plan", "mnt", "delete", ".clones/nothing"], 1, "no such clone"),
        (&["plan", "mnt/.clones/x", "delete", "monday"], 1, "cloned from"),
        (&["plan", "mnt", "delete"], 2, "NAME"),
        (&["plan", "mnt", "free", "much"], 2, "no size"),
    ] {
        let said = p.run(args);
        assert!(said.code == code && said.err.contains(words), "{args:?}: {said:?}");
    }

    p.ok(&["drop", "mnt", "x"]);

    // For a wanted amount, with the command; or as much as can be.
    let free = p.json(&["plan", "mnt", "free", "1M", "--json"]);
    assert!(free["is_enough"] == true && number(&free, "freed_bytes") >= 1 << 20, "{free}");
    let command = free["command"].as_str().unwrap();
    assert!(command.starts_with("snapfs delete mnt ") && !command.contains("wednesday"), "{command}");
    let most = p.run(&["plan", "mnt", "free", "1T"]);
    assert!(most.code == 1 && most.err.contains("cannot be reached"), "{most:?}");
    assert!(most.out.contains(r"snapfs delete mnt monday 'it'\''s tuesday'"), "{most:?}");

    p.ok(&["delete", "mnt", "monday", "it's tuesday"]);
    let after = parts(&p, "mnt");
    assert_eq!(reached(&before) - reached(&after), number(&plan, "freed_bytes"));

    // Of a store that is not mounted it is the same.
    p.umount();
    assert_eq!(reached(&parts(&p, "store")), reached(&after));
    let plan = p.json(&["plan", "store", "delete", "wednesday", "--json"]);
    assert_eq!(plan["freed_bytes"], 0);
    p.check();
}
