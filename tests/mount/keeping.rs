//! Snapshots that are held on real mounts, and the trash: what refuses, what is told, what comes back, and that a kill changes nothing.

mod guard;
mod place;

use guard::can_mount;
use place::{Place, errno, names, refuses, wait};
use std::fs;

const EBUSY: i32 = 16;

fn refused(p: &Place, args: &[&str], code: i32, words: &[&str]) {
    let said = p.run(args);
    assert!(said.code == code && words.iter().all(|w| said.err.contains(w)), "{args:?}: {said:?}");
}

fn xattr(p: &Place, name: &str) -> Option<String> {
    let root = p.path(".snapshots").join(name);
    let value = snapfs::sys::attribute::get(&root, "user.snapfs.holds").ok().flatten()?;
    String::from_utf8(value).ok()
}

#[test]
fn holds_on_a_real_mount() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("commit=1");
    fs::write(p.path("a"), "one").unwrap();
    p.snapshot("s");
    p.ok(&["create", "mnt", "kept", "--hold", "legal", "--for", "7d", "--description", "for the court"]);
    assert_eq!(p.ok(&["hold", "mnt", "s"]), "");
    let put = p.json(&["hold", "mnt", "kept", "--tag", "ops", "--until", "2199-12-31T18:00+01:00", "--json"]);
    assert!(put["tag"] == "ops" && put["user"] == 0 && put["snapshot"] == "kept", "{put}");
    assert!(put["expires"].as_str().is_some_and(|at| at.starts_with("2199-12-31T")), "{put}");
    assert_eq!((xattr(&p, "s").as_deref(), xattr(&p, "kept").as_deref()), (Some("hold"), Some("legal,ops")));

    // Nobody deletes it, and whoever tries is told why.
    refuses(fs::remove_dir(p.path(".snapshots/kept")), EBUSY);
    refused(
        &p,
        &["delete", "mnt", "kept"],
        1,
        &["it is held (legal, ops)", "snapfs release MNT kept --tag legal"],
    );
    refused(&p, &["delete", "mnt", "s"], 1, &["it is held (hold)"]);
    // What is wrong is said.
    refused(&p, &["hold", "mnt", "s"], 1, &["it has a hold 'hold' already"]);
    refused(&p, &["hold", "mnt", "none"], 1, &["no such view"]);
    refused(&p, &["hold", "mnt", "s", "--tag", "a b"], 2, &["no tag"]);
    refused(&p, &["hold", "mnt", "s", "--until", "2001-01-01"], 2, &["is past"]);
    refused(&p, &["hold", "mnt", "s", "--for", "soon"], 2, &["no time"]);
    refused(&p, &["hold", "mnt", "s", "--for", "999999999w"], 2, &["from 1s to 50000w"]);
    refused(&p, &["hold", "mnt"], 2, &["NAME"]);
    refused(&p, &["create", "mnt", "x", "--for", "1d"], 2, &["--hold"]);
    refused(&p, &["release", "mnt", "kept"], 1, &["several holds", "legal, ops"]);
    refused(&p, &["release", "mnt", "kept", "--tag", "none"], 1, &["no hold 'none', but legal, ops"]);
    assert_eq!(names(&p.path(".snapshots")), ["s", "kept"]);

    // A clone is kept by a hold of its own snapshot; what it inherits is held where it is from.
    fs::create_dir(p.path(".clones/c")).unwrap();
    refused(&p, &["hold", "mnt/.clones/c", "s", "--tag", "mine"], 1, &["another line's"]);
    refused(&p, &["hold", "mnt", ".clones/c"], 1, &["snapfs hold MNT/.clones/c NAME"]);
    p.ok(&["create", "mnt/.clones/c", "own", "--hold", "work"]);
    assert_eq!(errno(fs::remove_dir(p.path(".clones/c"))), EBUSY);
    refused(&p, &["drop", "mnt", "c"], 1, &["own: it is held (work)"]);
    p.ok(&["release", "mnt/.clones/c", "own", "--tag", "work"]);
    p.ok(&["drop", "mnt", "c"]);

    // All of it is told, after a kill, and of a store that is not mounted.
    let told = |p: &Place, target: &str| {
        let all = p.json(&["hold", target, "--list", "--json"]);
        let all = all.as_array().expect("a list").clone();
        all.iter()
            .map(|h| format!("{} {}", h["snapshot"].as_str().unwrap(), h["tag"].as_str().unwrap()))
            .collect()
    };
    let expected = ["s hold", "kept legal", "kept ops"].map(String::from).to_vec();
    let before: Vec<String> = told(&p, "mnt");
    assert_eq!(before, expected);
    p.kill();
    p.mount("commit=1");
    assert_eq!(told(&p, "mnt"), expected);
    refuses(fs::remove_dir(p.path(".snapshots/kept")), EBUSY);
    let shown = p.ok(&["show", "mnt", "kept"]);
    assert!(shown.contains("held by: legal (by root, since"), "{shown}");
    let list = p.ok(&["list", "mnt"]);
    assert!(list.contains("HELD") && list.contains("legal,ops"), "{list}");
    assert!(p.ok(&["hold", "mnt", "--list"]).contains("ops (by root, since"));
    p.umount();
    assert_eq!(told(&p, "store"), expected);
    p.check();

    // One ends by itself, and then the snapshot goes as any.
    p.mount("commit=1");
    p.ok(&["release", "mnt", "s"]);
    p.ok(&["hold", "mnt", "s", "--tag", "moment", "--for", "1s"]);
    wait("the end of a hold", || xattr(&p, "s").is_none());
    fs::remove_dir(p.path(".snapshots/s")).unwrap();
    p.ok(&["release", "mnt", "kept", "--tag", "ops"]);
    p.ok(&["release", "mnt", "kept"]);
    p.ok(&["delete", "mnt", "kept"]);
    p.umount();
    p.check();
}

#[test]
fn descriptions_are_given_to_what_is_there() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("commit=1");
    fs::write(p.path("a"), "one").unwrap();
    p.ok(&["create", "mnt", "s", "--description", "at first"]);
    p.ok(&["create", "mnt", "base"]);
    p.ok(&["rollback", "mnt", "base"]);
    let guard = names(&p.path(".snapshots")).pop().unwrap();
    assert!(guard.starts_with("@before-rollback-"), "{guard}");
    let past = |name: &str| p.path(".snapshots").join(name).to_str().unwrap().to_string();
    let of = |name: &str| p.json(&["get", "description", &past(name), "--json"])[0].clone();
    assert_eq!((&of("s")["value"], &of("s")["source"]), (&"at first".into(), &"local".into()));
    assert_eq!((&of("base")["value"], &of("base")["source"]), (&"".into(), &"default".into()));
    p.ok(&["hold", "mnt", "s"]);
    assert_eq!(p.ok(&["set", "description=before the = upgrade", &past("s")]), "");
    let told = p.json(&["set", "description=why", &past(&guard), &past("base"), "--json"]);
    assert!(told[0]["value"] == "why" && told[1]["source"] == "local", "{told}");
    p.ok(&["set", "description=", &past("base")]);
    let expected = [("s", "before the = upgrade"), ("base", ""), (&guard[..], "why")];
    let looks = || {
        for (name, text) in expected {
            assert_eq!(of(name)["value"], text, "{name}");
            let shown = p.json(&["show", "mnt", name, "--json"]);
            assert_eq!(shown["description"].as_str().unwrap_or_default(), text, "{shown}");
        }
        let reason = p.json(&["show", "mnt", &guard, "--json"])["reason"].clone();
        assert_eq!(reason, "before rollback");
        assert!(p.ok(&["list", "mnt", "--columns", "name,description"]).contains("before the = upgrade"));
    };
    looks();
    p.kill();
    p.mount("commit=1");
    looks();
    // The way back is as it was.
    fs::write(p.path("a"), "two").unwrap();
    p.ok(&["undo", "mnt"]);
    assert_eq!(fs::read(p.path("a")).unwrap(), b"one");
    // What is wrong is said.
    refused(&p, &["set", "description=x", "mnt"], 1, &["a description is of a snapshot"]);
    refused(&p, &["set", "description=x", &past("none")], 1, &["none: no such snapshot"]);
    refused(&p, &["get", "description", "mnt/a"], 1, &["a description is of a snapshot"]);
    refused(
        &p,
        &["set", &format!("description={}", "x".repeat(1025)), &past("s")],
        2,
        &["1024 bytes at most"],
    );
    p.ok(&["clone", "mnt", "c"]);
    let inherited = p.path(".clones/c/.snapshots/s");
    refused(&p, &["set", "description=x", inherited.to_str().unwrap()], 1, &["s: it is another line's"]);
    p.umount();
    p.mount("ro");
    refused(&p, &["set", "description=x", &past("s")], 1, &["takes no changes"]);
    assert_eq!(of("s")["value"], "before the = upgrade");
    p.umount();
    p.check();
}

#[test]
fn a_trash_on_a_real_mount() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("commit=1");
    fs::write(p.path("a"), "one").unwrap();
    // Without one what is deleted is gone, and that is said.
    p.snapshot("gone");
    p.ok(&["delete", "mnt", "gone"]);
    refused(&p, &["undelete", "mnt", "gone"], 1, &["there is no trash", "snapfs set trash=1h"]);
    assert!(p.ok(&["get", "trash", "mnt"]).contains("none"));
    p.ok(&["set", "trash=1h", "mnt"]);
    assert!(p.ok(&["get", "trash", "mnt"]).contains("1h"));
    refused(&p, &["set", "trash=soon", "mnt"], 2, &["no time"]);

    // By rmdir and by command, snapshots and clones.
    for name in ["by rmdir", "by command", "now"] {
        p.snapshot(name);
    }
    fs::create_dir(p.path(".clones/c")).unwrap();
    fs::create_dir(p.path(".clones/d")).unwrap();
    fs::write(p.path(".clones/c/b"), "two").unwrap();
    fs::remove_dir(p.path(".snapshots/by rmdir")).unwrap();
    // What goes into the trash frees nothing before that is emptied, and that is told.
    fs::write(p.path("a"), "two").unwrap();
    let told = p.json(&["delete", "mnt", "by command", "--dry-run", "--json"]);
    assert!(told["frees"] == 0 && told["in_trash"].is_u64(), "{told}");
    let said = p.ok(&["delete", "mnt", "by command", "--dry-run"]);
    assert!(said.contains("1 snapshot would go into the trash") && said.contains("--now"), "{said}");
    let said = p.ok(&["delete", "mnt", "now", "--now", "--dry-run"]);
    assert!(said.contains("1 snapshot would go, and"), "{said}");
    let told = p.json(&["delete", "mnt", "by command", "--json"]);
    assert!(told["frees"] == 0 && told["in_trash"].is_u64(), "{told}");
    let told = p.json(&["delete", "mnt", "now", "--now", "--json"]);
    assert!(told["frees"].is_u64() && told["in_trash"].is_null(), "{told}");
    fs::remove_dir(p.path(".clones/c")).unwrap();
    p.ok(&["drop", "mnt", "d"]);
    assert!(names(&p.path(".snapshots")).is_empty() && names(&p.path(".clones")).is_empty());
    let told = |p: &Place, target: &str| -> Vec<String> {
        let all = p.json(&["list", target, "--trash", "--json"]);
        let all = all.as_array().expect("a list").clone();
        all.iter().map(|t| t["name"].as_str().unwrap().to_string()).collect()
    };
    let all = [".clones/d", ".clones/c", "by command", "by rmdir"];
    assert_eq!(told(&p, "mnt"), all);
    let status = p.json(&["status", "mnt", "--json"]);
    assert!(status["trash"] == "1h" && status["trash_items"] == 4 && status["snapshots"] == 0, "{status}");
    assert!(p.json(&["space", "mnt", "--json"])["trash_bytes"].as_u64() > Some(0));
    assert!(!p.ok(&["space", "mnt"]).contains(".trash-"));
    let table = p.ok(&["list", "mnt", "--trash"]);
    assert!(table.contains("DELETED") && table.contains("root"), "{table}");

    // A kill changes nothing, nor does unmounting.
    p.kill();
    p.mount("commit=1");
    assert_eq!(told(&p, "mnt"), all);
    p.umount();
    assert_eq!(told(&p, "store"), all);
    p.check();
    p.mount("commit=1");

    // Back they come: under another name if need be, and by undo.
    p.snapshot("by rmdir");
    refused(&p, &["undelete", "mnt", "by rmdir"], 1, &["by now", "--as"]);
    p.ok(&["undelete", "mnt", "by rmdir", "--as", "old"]);
    assert_eq!(fs::read(p.past("old", "a")).unwrap(), b"one");
    p.ok(&["undelete", "mnt", ".clones/c"]);
    assert_eq!(fs::read(p.path(".clones/c/b")).unwrap(), b"two");
    fs::write(p.path(".clones/c/b"), "three").unwrap();
    refused(&p, &["undelete", "mnt", ".clones/c"], 1, &["not in the trash"]);
    fs::remove_dir(p.path(".snapshots/old")).unwrap();
    assert!(p.ok(&["undo", "mnt", "--dry-run"]).contains("old would come back"));
    assert_eq!(p.ok(&["undo", "mnt"]), "old is back from the trash\n");
    assert_eq!(names(&p.path(".snapshots")), ["old", "by rmdir"]);
    // What one command has deleted comes back as one.
    ["t1", "t2", "t3"].iter().for_each(|name| p.snapshot(name));
    p.ok(&["delete", "mnt", "t?"]);
    assert_eq!(p.ok(&["undo", "mnt"]).lines().count(), 3);
    assert_eq!(names(&p.path(".snapshots")), ["old", "by rmdir", "t1", "t2", "t3"]);
    // And by pattern, or what of it can: what has the name by now is in the way.
    p.ok(&["delete", "mnt", "t?"]);
    p.snapshot("t2");
    let would = p.run(&["undelete", "mnt", "t[12]", ".clones/*", "--dry-run"]);
    assert_eq!((would.code, would.out.as_str()), (1, ".clones/d\nt1\n2 would come back\n"));
    assert!(would.err.contains("called t2 by now"), "{would:?}");
    assert_eq!(names(&p.path(".snapshots")), ["old", "by rmdir", "t2"]);
    refused(&p, &["undelete", "mnt", "t*", "--as", "u"], 1, &["--as is for one", "3"]);
    refused(&p, &["undelete", "mnt", "t*", "none*"], 1, &["called t2 by now", "none*: it matches nothing"]);
    assert_eq!(names(&p.path(".snapshots")), ["old", "by rmdir", "t1", "t3", "t2"]);
    p.ok(&["delete", "mnt", "--trash", "t?"]);
    p.ok(&["delete", "mnt", "t?", "--now"]);
    // A file that is open in one that is deleted stays readable.
    let open = fs::File::open(p.past("old", "a")).unwrap();
    fs::remove_dir(p.path(".snapshots/old")).unwrap();
    assert_eq!(std::io::read_to_string(open).unwrap(), "one");

    // Emptied: one, then all.
    refused(&p, &["delete", "mnt", "--trash", "none"], 1, &["not in the trash"]);
    p.ok(&["delete", "mnt", "--trash", "old"]);
    assert_eq!(told(&p, "mnt"), [".clones/d", "by command"]);
    p.ok(&["delete", "mnt", "--trash"]);
    assert!(told(&p, "mnt").is_empty());
    // And by itself.
    p.ok(&["set", "trash=1s", "mnt"]);
    fs::remove_dir(p.path(".snapshots/by rmdir")).unwrap();
    wait("the end of a trash", || told(&p, "mnt").is_empty());
    p.ok(&["set", "trash=none", "mnt"]);
    p.umount();
    p.check();
}

/// Whoever does one thing with what others do another with at the same moment: either comes first.
#[test]
fn no_more_clones_come_back_than_there_may_be() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("commit=1");
    p.ok(&["set", "trash=1h", "mnt"]);
    p.ok(&["clone", "mnt", "c"]);
    fs::write(p.path(".clones/c/f"), "kept").unwrap();
    fs::remove_dir(p.path(".clones/c")).unwrap();
    p.ok(&["clone", "mnt", "d"]);
    p.ok(&["set", "clones_max=1", "mnt"]);
    for order in [&["undelete", "mnt", ".clones/c"][..], &["undelete", "mnt", ".clones/c", "--as", "e"]] {
        let words = ["as many clones as there may be", "drop one, or snapfs set clones_max="];
        refused(&p, order, 1, &words);
    }
    assert_eq!(names(&p.path(".clones")), ["d"]);
    p.ok(&["set", "clones_max=2", "mnt"]);
    p.ok(&["undelete", "mnt", ".clones/c"]);
    assert_eq!(fs::read_to_string(p.path(".clones/c/f")).unwrap(), "kept");
    p.umount();
    p.check();
}

#[test]
fn all_that_keeps_and_deletes_at_once() {
    const ROUNDS: usize = 24;
    /// What is said when somebody else was faster. Of hundreds of commands at once nothing else goes wrong.
    const REASONS: [&str; 15] = [
        "it is held (t); 'snapfs release MNT",
        ": in use",
        "nothing was changed, try again",
        "a snapshot of that name exists",
        "a clone of that name exists",
        "no such snapshot",
        "no such clone",
        "no such view",
        "it matches no",
        "not in the trash",
        "in the trash no more",
        "by now; bring this one back under another name",
        "there is nothing to take back",
        "it has no hold 't'",
        "the trash is empty",
    ];
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("commit=1");
    p.ok(&["set", "trash=1h", "mnt"]);
    p.ok(&["schedule", "mnt", "every=1m", "keep=2h", "always"]);
    type Job = fn(&Place, usize, &mut dyn FnMut(&[&str]));
    let jobs: [Job; 8] = [
        |p, n, run| {
            let _ = fs::write(p.path("a"), format!("{n}"));
            run(&["create", "mnt", NAMES[n % 5]]);
        },
        |_, n, run| match n % 3 {
            0 => run(&["clone", "mnt", CLONES[n % 2]]),
            1 => run(&["drop", "mnt", CLONES[n / 2 % 2]]),
            _ => run(&["undelete", "mnt", [".clones/*", ".clones/c1"][n / 3 % 2]]),
        },
        |_, n, run| {
            run(&["hold", "mnt", NAMES[n % 5], "--tag", "t"]);
            run(&["release", "mnt", NAMES[n % 5], "--tag", "t"]);
        },
        |p, n, run| match n % 3 {
            0 => drop(fs::remove_dir(p.path(".snapshots").join(NAMES[n % 5]))),
            1 => run(&["delete", "mnt", NAMES[n % 5]]),
            _ => run(&["delete", "mnt", "n*"]),
        },
        |_, n, run| match n % 3 {
            0 => run(&["undelete", "mnt", NAMES[n % 5]]),
            1 => run(&["undelete", "mnt", NAMES[n % 5], "--as", "other"]),
            _ => run(&["undelete", "mnt", "n*"]),
        },
        |_, _, run| run(&["undo", "mnt"]),
        |_, n, run| match n % 4 {
            0 => run(&["delete", "mnt", "--trash", NAMES[n % 5]]),
            1 => run(&["delete", "mnt", "--trash"]),
            2 => run(&["list", "mnt", "--trash"]),
            _ => run(&["status", "mnt"]),
        },
        |_, n, run| match n % 2 {
            0 => run(&["schedule", "mnt", "--run"]),
            _ => run(&["prune", "mnt"]),
        },
    ];
    let odd: Vec<String> = std::thread::scope(|s| {
        let work = |job: Job| {
            let p = &p;
            move || {
                let mut odd = Vec::new();
                for n in 0..ROUNDS {
                    job(p, n, &mut |args| {
                        let said = p.run(args);
                        let lines =
                            said.err.lines().filter(|line| !REASONS.iter().any(|why| line.contains(why)));
                        odd.extend(lines.map(|line| format!("{args:?} {}: {line}", said.code)));
                    });
                }
                odd
            }
        };
        let all: Vec<_> = jobs.into_iter().map(|job| s.spawn(work(job))).collect();
        all.into_iter().flat_map(|one| one.join().unwrap()).collect()
    });
    assert!(odd.is_empty(), "{}", odd.join("\n"));
    p.umount();
    p.check();
}

const NAMES: [&str; 5] = ["n0", "n1", "n2", "n3", "n4"];
const CLONES: [&str; 2] = ["c0", "c1"];
