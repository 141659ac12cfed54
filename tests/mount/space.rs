//! Space on real mounts: what is told adds up, what is planned comes true, refusals; and a disk that fills.

mod guard;
mod place;

use guard::can_mount;
use place::{Place, names, said, wait};
use serde_json::Value;
use snapfs::clock::Clock;
use snapfs::device::{Access as DeviceAccess, FileDevice};
use snapfs::format::LineId;
use snapfs::fs::{Fs, FsOptions};
use snapfs::ops::{Caller, NodeId, OpenFlags, Operations};
use snapfs::schedule::parse_rules;
use snapfs::volume::{Access, OpenOptions, Volume};
use std::fs;
use std::io::Write;
use std::process::Command;
use std::sync::Arc;

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

    // Which paths these hold; patterns as for delete.
    let held = p.json(&["space", "mnt", "--paths", "--json"]);
    let row = held["paths"].as_array().unwrap().iter().find(|row| row["path"] == "b").expect("b");
    assert!(number(row, "bytes") == 3 << 20 && row["newest"] == "it's tuesday", "{held}");
    assert!(p.ok(&["space", "mnt", "--paths", "--top", "1"]).contains("NEWEST SNAPSHOT"));
    let some = p.json(&["plan", "mnt", "delete", "*y", "--before", "wednesday", "--json"]);
    assert_eq!(some["snapshots"], 2);

    // What cannot be deleted is told.
    for (args, code, words) in [
        (&["plan", "mnt", "delete", "nothing"][..], 1, "nothing"),
        (&["plan", "mnt", "delete", ".clones/nothing"], 1, "no such clone"),
        (&["plan", "mnt/.clones/x", "delete", "monday"], 1, "another line's"),
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
    assert!(most.out.contains(r"snapfs delete mnt -- monday 'it'\''s tuesday'"), "{most:?}");

    // As it is printed it brings that back, and so it does where what is deleted would be in the trash.
    p.ok(&["set", "trash=1h", "mnt"]);
    let most = p.run(&["plan", "mnt", "free", "1T"]);
    let command = most.out.lines().last().unwrap();
    assert_eq!(command, r"snapfs delete mnt --now -- monday 'it'\''s tuesday'");
    let script = format!("snapfs() {{ {} \"$@\"; }}; {command}", env!("CARGO_BIN_EXE_snapfs"));
    let told = said(p.settle(&mut Command::new("sh")).args(["-euc", &script]));
    assert_eq!(told.code, 0, "{told:?}");
    p.ok(&["set", "trash=none", "mnt"]);
    let after = parts(&p, "mnt");
    assert_eq!(reached(&before) - reached(&after), number(&plan, "freed_bytes"));

    // A rehearsal of the deletion tells the same: what others have as well does not come back, and what is read not now.
    fs::write(p.path("d"), random(4, 1 << 20)).unwrap();
    p.ok(&["create", "mnt", "shared [1]"]);
    fs::copy(p.path("d"), p.path("e")).unwrap(); // by copy_file_range
    fs::remove_file(p.path("d")).unwrap();
    p.ok(&["create", "mnt", "newest"]);
    let rehearsed = p.json(&["delete", "mnt", "shared *", "--dry-run", "--json"]);
    assert!(number(&rehearsed, "frees") < 64 << 10 && number(&rehearsed, "shared") >= 1 << 20, "{rehearsed}");
    assert!(
        p.ok(&["delete", "mnt", "shared *", "--dry-run"]).contains("stay: other files share these blocks")
    );
    // A command that is printed means these snapshots alone, also when it is run again.
    let most = p.run(&["plan", "mnt", "free", "1T"]);
    assert!(most.out.contains(r"'shared \[1]'"), "{most:?}");
    p.ok(&["create", "mnt", "shared 1"]);
    p.ok(&["delete", "mnt", "--", r"shared \[1]"]);
    assert_eq!(p.run(&["delete", "mnt", "--", r"shared \[1]"]).code, 1);
    p.ok(&["delete", "mnt", "shared 1", "newest", "--wait"]);
    fs::remove_file(p.path("e")).unwrap();
    let after = parts(&p, "mnt");

    // Of a store that is not mounted it is the same.
    p.umount();
    assert_eq!(reached(&parts(&p, "store")), reached(&after));
    let plan = p.json(&["plan", "store", "delete", "wednesday", "--json"]);
    assert!(number(&plan, "freed_bytes") < 64 << 10, "{plan}");
    p.check();
}

/// Takes a snapshot in each of so many hours, each with a mebibyte of its own, in a store that nobody has open.
fn past_hours(p: &Place, hours: u64) {
    let device = Arc::new(FileDevice::open(&p.at("store"), DeviceAccess::ReadWrite).unwrap());
    let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 8 << 20 };
    let volume = Volume::open(device, options).unwrap();
    // 2026-01-05, a Monday.
    let clock = Clock::manual(1_767_571_200);
    let files = Fs::open(volume, FsOptions::default(), clock.clone()).unwrap();
    let rules = parse_rules("default", "every=1h keep=all free=5%").unwrap();
    files.set_schedules(LineId::MAIN, vec![rules]).unwrap();
    let root = Caller { uid: 0, gid: 0, pid: 1, umask: 0 };
    let (entry, handle) = files.create(&root, NodeId::ROOT, b"data", 0o644, OpenFlags::READ_WRITE).unwrap();
    for n in 0..hours {
        files.write(entry.attr.node, handle, 0, &random(n, 1 << 20), false).unwrap();
        files.commit().unwrap();
        assert!(!files.keep_schedules());
        clock.advance(3600 * 1_000_000_000);
    }
    files.release(entry.attr.node, handle);
    files.close().unwrap();
}

/// What df says is available.
fn available(p: &Place) -> u64 {
    let df = Command::new("df").args(["--output=avail", "-B1"]).arg(p.at("mnt")).output().unwrap();
    let text = String::from_utf8(df.stdout).unwrap();
    text.lines().last().and_then(|line| line.trim().parse().ok()).unwrap_or_else(|| panic!("{text}"))
}

#[test]
fn a_full_disk_gives_automatic_snapshots_first() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    fs::File::create(p.at("store")).unwrap().set_len(128 << 20).unwrap();
    p.ok(&["init", "store"]);
    past_hours(&p, 53);
    p.mount("commit=1");
    p.ok(&["create", "mnt", "users"]);
    let automatic = || -> Vec<String> {
        names(&p.path(".snapshots")).into_iter().filter(|name| name.starts_with("@GMT-")).collect()
    };
    let all = automatic();
    assert_eq!(all.len(), 53);
    // Two fifths of the disk are in them, and one of them is held.
    assert!(number(&parts(&p, "mnt"), "snapshots_bytes") >= (128 << 20) * 2 / 5);
    p.ok(&["hold", "mnt", &all[20]]);
    let free = p.number("free_bytes");
    wait("what they hold to be counted", || available(&p) > free);

    assert!(p.ok(&["space", "mnt"]).contains("df calls that free"));
    assert!(number(&parts(&p, "mnt"), "may_free_bytes") >= 51 << 20);
    let told = available(&p);
    let mut file = fs::File::create(p.path("fills it")).unwrap();
    let (data, mut written) = (random(1, 1 << 20), 0);
    let refused = loop {
        match file.write(&data) {
            Ok(len) => written += len as u64,
            Err(e) => break e,
        }
    };
    assert_eq!(refused.raw_os_error(), Some(libc::ENOSPC));
    assert_eq!(automatic(), [all[20].clone(), all[52].clone()], "all but the one that is held and the last");
    assert_eq!(fs::read(p.past(&all[20], "data")).unwrap(), random(20, 1 << 20));
    assert!(written + (4 << 20) >= told, "{written} of {told}");
    drop(file);
    fs::remove_file(p.path("fills it")).unwrap();
    wait("space", || fs::write(p.path("fits"), &data).is_ok());
    p.umount();
    p.check();
}
