//! Schedules on real mounts: what the daemon takes by itself, what moves with the store, pruning from the command line, files,
//! refusals.

mod guard;
mod place;

use guard::can_mount;
use place::{Place, names, wait};
use serde_json::Value;
use snapfs::clock::{Clock, seconds_from_date};
use snapfs::device::{Access as DeviceAccess, DirDevice};
use snapfs::format::LineId;
use snapfs::fs::{Fs, FsOptions};
use snapfs::limits::STORE_BYTES_DEFAULT;
use snapfs::ops::{Caller, NodeId, OpenFlags, Operations};
use snapfs::schedule::parse_rules;
use snapfs::volume::{Access, OpenOptions, Volume};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

const HOUR: i64 = 3600;
const AUTOMATIC: &str = "@GMT-";

fn refused(p: &Place, args: &[&str], code: i32, words: &[&str]) {
    let said = p.run(args);
    assert!(said.code == code && words.iter().all(|w| said.err.contains(w)), "{args:?}: {said:?}");
}

fn automatic(p: &Place, line: &str) -> Vec<String> {
    let all = names(&p.path(line).join(".snapshots"));
    all.into_iter().filter(|name| name.starts_with(AUTOMATIC)).collect()
}

fn states(p: &Place, target: &str) -> Vec<Value> {
    let told = p.json(&["schedule", target, "--json"]);
    told.as_array().cloned().expect("a list")
}

/// Takes a snapshot in each of so many hours from a moment on, as a daemon would have done then, in a store that nobody has
/// open.
fn past_hours(p: &Place, from: i64, hours: i64) {
    past(&p.at("store"), "every=1h keep=all", from, (HOUR, hours), "hour");
}

/// The same by other rules: one each so many seconds, so many times, with files of another name.
fn past(store: &Path, rules: &str, from: i64, (secs, times): (i64, i64), what: &str) {
    let device = Arc::new(DirDevice::open(store, STORE_BYTES_DEFAULT, DeviceAccess::ReadWrite).unwrap());
    let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 8 << 20 };
    let volume = Volume::open(device, options).unwrap();
    let clock = Clock::manual(from);
    let files = Fs::open(volume, FsOptions::default(), clock.clone()).unwrap();
    let all = vec![parse_rules("default", rules).unwrap()];
    files.set_schedules(LineId::MAIN, all).unwrap();
    let root = Caller { uid: 0, gid: 0, pid: 1, umask: 0 };
    for n in 0..times {
        let name = format!("{what} {n}");
        let (entry, handle) =
            files.create(&root, NodeId::ROOT, name.as_bytes(), 0o644, OpenFlags::READ_WRITE).unwrap();
        files.release(entry.attr.node, handle);
        assert!(!files.keep_schedules());
        clock.advance(secs * 1_000_000_000);
    }
    files.close().unwrap();
}

#[test]
fn the_daemon_takes_what_is_due_and_the_store_keeps_the_rules() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("commit=1");
    assert!(p.ok(&["schedule", "mnt"]).contains("no schedule; such as: snapfs schedule mnt every=15m"));
    assert_eq!(p.json(&["status", "mnt", "--json"])["schedules"], Value::Null);
    fs::write(p.path("a"), "one").unwrap();
    let set = p.ok(&["schedule", "mnt", "every=1d", "keep=24h,7d", "budget=20%", "free=1%"]);
    assert!(set.contains("every=1d keep=24h,7d budget=20% free=1%"), "{set}");
    wait("the first snapshot", || automatic(&p, "").len() == 1);
    let name = automatic(&p, "").remove(0);
    assert_eq!(fs::read(p.past(&name, "a")).unwrap(), b"one");
    let shown = p.json(&["show", "mnt", &name, "--json"]);
    assert!(shown["reason"] == "schedule" && shown["command"] == "default", "{shown}");
    let state = &p.json(&["status", "mnt", "--json"])["schedules"][0];
    assert!(state["snapshots"] == 1 && state["line"] == "." && state["next"].is_string(), "{state}");
    assert_eq!(state["error"], Value::Null);

    // A clone has its own; by its path or by its name.
    fs::create_dir(p.path(".clones/x")).unwrap();
    assert!(states(&p, "mnt/.clones/x").is_empty());
    p.ok(&["schedule", "mnt/.clones/x", "every=1d", "keep=2d"]);
    p.ok(&["schedule", "mnt", "--clone", "x", "--name", "weekly", "every=1w", "keep=all", "timer=off"]);
    assert_eq!(states(&p, "mnt/.clones/x").len(), 2);
    let own = |p: &Place| automatic(p, ".clones/x").into_iter().filter(|n| *n != name).count();
    wait("a snapshot of the clone", || own(&p) == 1);

    // What is run by hand is run by hand.
    fs::write(p.path(".clones/x/b"), "two").unwrap();
    let run = p.ok(&["schedule", "mnt", "--clone", "x", "--run"]);
    assert!(run.starts_with("taken @GMT-") && run.ends_with("(weekly)\n"), "{run}");
    assert_eq!(p.ok(&["schedule", "mnt/.clones/x", "--run"]), "");
    assert_eq!(own(&p), 2);

    // All of it is there again, after a kill too, and nothing is taken twice.
    let before = [states(&p, "mnt"), states(&p, "mnt/.clones/x")];
    p.kill();
    p.mount("commit=1");
    assert_eq!([states(&p, "mnt"), states(&p, "mnt/.clones/x")], before);
    p.umount();
    let offline = p.json(&["schedule", "store", "--json"]);
    assert_eq!(offline[0]["rules"], "every=1d keep=24h,7d budget=20% free=1%");
    p.ok(&["schedule", "store", "--clone", "x", "--remove", "--name", "weekly"]);
    p.check();
    p.mount("commit=1");
    assert_eq!(states(&p, "mnt/.clones/x").len(), 1);
    p.ok(&["schedule", "mnt", "--remove"]);
    assert!(states(&p, "mnt").is_empty());
    assert_eq!(automatic(&p, "").len(), 1);
    p.umount();
    p.check();
}

#[test]
fn pruning_is_told_before_it_is_done() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    p.umount();
    // 2026-01-05, a Monday, long ago: the daemon deletes nothing by itself before it has seen its clock go well for an hour.
    past_hours(&p, 1_767_571_200, 30);
    p.mount("");
    fs::create_dir(p.path(".snapshots/users")).unwrap();
    assert!(automatic(&p, "").len() >= 30);
    p.ok(&["schedule", "mnt", "every=1d", "keep=3h,2d"]);
    wait("a look at the clock", || {
        p.ok(&["schedule", "mnt"]).contains("nothing is deleted by it for an hour")
    });
    let all = p.json(&["prune", "mnt", "--explain", "--json"]);
    let all = all.as_array().expect("a list");
    let goes = all.iter().filter(|s| s["goes"] == true).count();
    assert!(all.len() >= 30 && goes >= 26, "{goes} of {}", all.len());
    assert!(all.iter().all(|s| !s["because"][0].as_str().unwrap().is_empty()));
    let told = p.ok(&["prune", "mnt", "--explain"]);
    assert!(told.contains("newest of its day, 1 of 2") && told.contains("no rule keeps it"), "{told}");
    assert_eq!(p.ok(&["prune", "mnt", "--dry-run"]).lines().count(), goes + 1);
    let simulated = p.json(&["prune", "mnt", "--simulate", "90d", "--json"]);
    assert!(simulated[0]["taken"].as_u64() >= Some(89) && simulated[0]["left"].as_u64() <= Some(7));
    assert!(p.ok(&["prune", "mnt", "--simulate", "2w"]).contains("LEFT AT THE END"));
    // By rules that nobody has set, here or in a file: begun with what the schedule of that name took.
    let rules = states(&p, "mnt");
    let hourly = p.json(&["prune", "mnt", "every=1h", "keep=24h", "--simulate", "90d", "--json"]);
    assert_eq!(hourly[0]["rules"], "every=1h keep=24h");
    // And one that is there and read, if it is.
    assert!((24..=25).contains(&hourly[0]["left"].as_u64().unwrap()), "{hourly}");
    let told = p.ok(&["prune", "mnt", "--name", "new", "every=1d", "keep=2w", "--simulate", "90d"]);
    assert!(told.starts_with("new: every=1d keep=2w\n90 taken"), "{told}");
    let file = p.at("rules.toml");
    let all = "[[schedule]]\nevery = \"1h\"\nkeep = \"24h\"\n[[schedule]]\nname = \"b\"\nevery = \"1w\"\nkeep = \"all\"\n";
    fs::write(&file, all).unwrap();
    let file = file.to_str().unwrap();
    let both = p.json(&["prune", "mnt", "--from", file, "--simulate", "90d", "--json"]);
    assert_eq!((&both[0]["rules"], &both[0]["left"]), (&hourly[0]["rules"], &hourly[0]["left"]));
    assert_eq!((&both[1]["schedule"], &both[2]), (&"b".into(), &Value::Null));
    let one = p.json(&["prune", "mnt", "--from", file, "--name", "b", "--simulate", "90d", "--json"]);
    assert_eq!((&one[0]["rules"], &one[1]), (&both[1]["rules"], &Value::Null));
    refused(
        &p,
        &["prune", "mnt", "--from", file, "--name", "c", "--simulate", "90d"],
        1,
        &["none of these is called 'c'"],
    );
    refused(&p, &["prune", "mnt", "every=1h", "keep=24h"], 2, &["--simulate"]);
    refused(&p, &["prune", "mnt", "--from", file], 2, &["--simulate"]);
    refused(
        &p,
        &["prune", "mnt", "--from", file, "every=1h", "--simulate", "90d"],
        2,
        &["cannot be used with"],
    );
    refused(
        &p,
        &["prune", "mnt", "every=1h", "keep=24m", "--simulate", "90d"],
        2,
        &["column 17", "24min or 24mo"],
    );
    assert_eq!(states(&p, "mnt"), rules);
    p.ok(&["hold", "mnt", "@GMT-2026.01.05-02.00.00"]);
    let told = p.ok(&["prune", "mnt", "--explain"]);
    let users = told.lines().find(|line| line.starts_with("users ")).unwrap();
    assert!(users.contains("stays") && users.contains("kept: not automatic"), "{users}");
    let held = told.lines().find(|line| line.contains("@GMT-2026.01.05-02.00.00")).unwrap();
    assert!(held.contains("stays") && held.contains("it is held") && !held.contains("in use"), "{held}");
    p.ok(&["release", "mnt", "@GMT-2026.01.05-02.00.00"]);
    p.ok(&["clone", "mnt", "c"]);
    let empty = p.run(&["prune", "mnt/.clones/c", "--explain"]);
    assert!(empty.code == 0 && empty.err.contains("no schedule of this line has taken any"), "{empty:?}");
    p.ok(&["drop", "mnt", "c"]);
    // It is done: also what is open in one stays readable, and that one is there until it is closed.
    let open = fs::File::open(p.past("@GMT-2026.01.05-03.00.00", "hour 3")).unwrap();
    let deleted = p.ok(&["prune", "mnt"]);
    assert_eq!(deleted.lines().count(), goes - 1, "{deleted}");
    assert!(p.past("@GMT-2026.01.05-03.00.00", "hour 3").exists());
    drop(open);
    wait("the last one", || {
        p.ok(&["prune", "mnt"]);
        !p.past("@GMT-2026.01.05-03.00.00", "").exists()
    });
    assert!(p.path(".snapshots/users").exists());
    assert_eq!(p.ok(&["prune", "mnt", "--dry-run"]), "");
    p.umount();
    p.check();
}

#[test]
fn the_daemon_prunes_by_itself() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    p.umount();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    past_hours(&p, now - 40 * HOUR, 40);
    // Without a daemon nothing goes that nobody asks for, and all of it from a timer.
    p.ok(&["schedule", "store", "every=1h", "keep=12h", "timer=off"]);
    p.mount("");
    assert!(automatic(&p, "").len() >= 40);
    p.umount();
    p.ok(&["schedule", "store", "every=1h", "keep=4h"]);
    p.mount("");
    wait("what is to go has gone", || (4..=5).contains(&automatic(&p, "").len()));
    p.umount();
    p.check();
}

/// The time of central Europe, as text that needs no table of zones.
const ZONE: &str = "CET-1CEST,M3.5.0,M10.5.0/3";
/// Set where the test below runs itself: the store.
const STORE_IN_ZONE: &str = "SNAPFS_TEST_STORE_IN_ZONE";
/// In the nights of these days clocks were set there, at 01:00 in UTC.
const NIGHTS: [(i64, i64); 2] = [(3, 30), (10, 26)];

/// A snapshot in each quarter from an hour before clocks are set there until two hours after it.
fn nights_in_zone(store: &Path) {
    for ((month, day), [before, after]) in NIGHTS.into_iter().zip([[1, 3], [2, 2]]) {
        let midnight = seconds_from_date(2025, month, day).unwrap();
        let hour = |secs| snapfs::sys::process::local_time(secs).expect("a time")[3];
        assert_eq!(
            [hour(midnight + HOUR - 1), hour(midnight + HOUR)],
            [before, after],
            "the zone is in force"
        );
        past(store, "every=15m keep=all", midnight, (HOUR / 4, 12), &format!("{midnight}"));
    }
}

#[test]
fn summer_time_leaves_no_gap_and_makes_no_name_twice() {
    if let Some(store) = std::env::var_os(STORE_IN_ZONE) {
        return nights_in_zone(Path::new(&store));
    }
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    p.umount();
    // What says which zone it is belongs to a process from its beginning on.
    let mut there = Command::new(std::env::current_exe().unwrap());
    there.args(["--exact", "summer_time_leaves_no_gap_and_makes_no_name_twice", "--nocapture"]);
    let taken = place::said(there.env(STORE_IN_ZONE, p.at("store")).env("TZ", ZONE));
    assert!(taken.code == 0 && taken.out.contains("1 passed"), "{taken:?}");
    let name = |(month, day), quarter: i64| {
        format!("@GMT-2025.{month:02}.{day:02}-{:02}.{:02}.00", quarter / 4, quarter % 4 * 15)
    };
    let all: Vec<String> =
        NIGHTS.into_iter().flat_map(|night| (0..12).map(move |quarter| name(night, quarter))).collect();
    // A daemon and commands that are in that zone.
    let there = |args: &[&str]| {
        let said = place::said(p.command(args).env("TZ", ZONE));
        assert!(said.code == 0, "{args:?}: {said:?}");
        said.out
    };
    there(&["mount", "store", "mnt", "--log", p.at("log").to_str().unwrap()]);
    assert_eq!(automatic(&p, ""), all);
    let listed = there(&["list", "mnt"]);
    for shown in ["2025-03-30T01:45:00+01:00", "2025-03-30T03:00:00+02:00", "2025-10-26T02:15:00+02:00"] {
        assert!(listed.contains(shown), "{shown} in {listed}");
    }
    assert!(listed.contains("2025-10-26T02:15:00+01:00") && !listed.contains("2025-03-30T02:"), "{listed}");
    // Hours are those of UTC, too: the one that clocks go through twice is two.
    there(&["schedule", "mnt", "every=15m", "keep=3h", "timer=off"]);
    let stays: Vec<String> = [3, 7, 8, 9, 10, 11].map(|quarter| name(NIGHTS[1], quarter)).into();
    let told: Value = serde_json::from_str(&there(&["prune", "mnt", "--explain", "--json"])).unwrap();
    let told = told.as_array().expect("a list").iter().filter(|row| row["goes"] != true);
    assert_eq!(told.map(|row| row["name"].as_str().unwrap()).collect::<Vec<_>>(), stays);
    there(&["prune", "mnt"]);
    assert_eq!(automatic(&p, ""), stays);
    p.umount();
    p.check();
}

#[test]
fn a_store_that_nobody_has_mounted_is_kept_by_commands() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    p.umount();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    past_hours(&p, now - 12 * HOUR, 12);
    let listed = || -> Vec<String> {
        let all = p.json(&["list", "store", "--automatic", "--json"]);
        all.as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap().to_string()).collect()
    };
    let change = |name: &str| {
        p.mount("");
        fs::write(p.path(name), name).unwrap();
        p.umount();
    };
    p.ok(&["schedule", "store", "every=1h", "keep=4h", "timer=off"]);
    // Nothing has changed since the last one; what is to go goes.
    let run = p.ok(&["schedule", "store", "--run"]);
    assert!(run.lines().count() == 8 && run.lines().all(|line| line.starts_with("deleted @GMT-")), "{run}");
    change("a");
    let run = p.ok(&["schedule", "store", "--run"]);
    assert!(run.starts_with("taken @GMT-"), "{run}");
    assert_eq!(p.ok(&["schedule", "store", "--run"]), "");
    // A clock was wrong by years when the newest were taken: one is taken all the same, and for now nothing goes.
    past(&p.at("store"), "every=1h keep=all", now + 40_000 * HOUR, (HOUR, 3), "later");
    change("b");
    p.ok(&["schedule", "store", "every=1h", "keep=1h", "timer=off"]);
    let before = listed();
    let run = p.json(&["schedule", "store", "--run", "--json"]);
    assert!(run[0]["taken"].is_object() && run[0]["deleted"] == serde_json::json!([]), "{run}");
    assert!(run[0]["kept_back"].as_u64() >= Some(3), "{run}");
    assert_eq!(listed().len(), before.len() + 1);
    let told = p.ok(&["schedule", "store", "--run"]);
    let is_kept_back = told.contains("4 snapshots no rule keeps stay for now");
    assert!(is_kept_back && told.lines().count() == 1, "{told}");
    // Who says so has it now.
    let dry = p.ok(&["prune", "store", "--dry-run"]).lines().count() - 1;
    let pruned = p.ok(&["prune", "store"]);
    assert!(dry >= 3 && pruned.lines().count() == dry, "{dry}: {pruned}");
    // The last one and those of a time to come.
    assert_eq!(listed().len(), 4, "{:?}", listed());
    p.check();
}

#[test]
fn files_and_refusals() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    refused(&p, &["schedule", "mnt", "every=1h", "keep=24m"], 2, &["column 17", "24min or 24mo"]);
    refused(&p, &["schedule", "mnt", "every=30s", "keep=24h"], 2, &["column 9", "a minute is the shortest"]);
    refused(&p, &["schedule", "mnt", "every=1h"], 2, &["what is kept is missing"]);
    refused(&p, &["schedule", "mnt", "every=1h", "keep=all", "--remove"], 2, &["cannot be used with"]);
    refused(&p, &["schedule", "mnt", "--name", "a b"], 2, &["up to 32 letters"]);
    refused(&p, &["schedule", "mnt", "--remove", "--name", "x"], 1, &["no schedule 'x'", "it has none"]);
    refused(&p, &["schedule", "mnt", "--clone", "x"], 1, &["x", "no such clone"]);
    refused(&p, &["prune", "mnt", "--simulate", "soon"], 2, &["no time"]);
    refused(&p, &["schedule", "nowhere", "every=1h", "keep=all"], 1, &["nowhere"]);
    let file = p.at("rules.toml");
    let file_name = file.to_str().unwrap();
    fs::write(&file, "[[schedule]]\nevery = \"1h\"\nkeep = \"24h,7m\"\n").unwrap();
    refused(
        &p,
        &["schedule", "mnt", "--from", file_name],
        1,
        &["rules.toml", "line 3, column 14", "7min or 7mo"],
    );
    fs::write(&file, "[[schedule]]\nevery = \"1h\"\nkeep = \"24h\"\npre = \"touch /x\"\n").unwrap();
    refused(&p, &["schedule", "mnt", "--from", file_name], 1, &["line 4, column 1", "'pre' is no key"]);
    refused(&p, &["schedule", "mnt", "--from", "missing.toml"], 1, &["missing.toml"]);
    assert!(states(&p, "mnt").is_empty(), "nothing came of any of these");

    let rules = "[[schedule]]\nname = \"often\"\nevery = \"15m\"\nkeep = [\"24h\", \"7d\"]\nfree = \"5%\"\ntimer = false\n";
    fs::write(&file, rules).unwrap();
    p.ok(&["schedule", "mnt", "--from", file_name]);
    p.ok(&["schedule", "mnt", "--name", "daily", "every=1d", "keep=2y", "timer=off"]);
    let exported = p.ok(&["schedule", "mnt", "--export"]);
    let both = states(&p, "mnt");
    refused(&p, &["schedule", "mnt", "--remove"], 1, &["say which with --name", "often", "daily"]);
    refused(&p, &["schedule", "mnt", "--from", "/dev/zero"], 1, &["too long"]);
    p.ok(&["schedule", "mnt", "--remove", "--name", "often"]);
    p.ok(&["schedule", "mnt", "--remove"]);
    fs::write(&file, &exported).unwrap();
    p.ok(&["schedule", "mnt", "--from", file_name]);
    assert_eq!((states(&p, "mnt"), both.len()), (both.clone(), 2));
    assert_eq!(p.ok(&["schedule", "mnt", "--export"]), exported);
    for n in 0..6 {
        p.ok(&["schedule", "mnt", "--name", &format!("n{n}"), "every=1d", "keep=2y", "timer=off"]);
    }
    refused(&p, &["schedule", "mnt", "--name", "n6", "every=1d", "keep=2y"], 1, &["8 schedules at most"]);
    p.umount();
    // Nobody changes a store that is mounted for reading.
    p.mount("ro");
    refused(&p, &["schedule", "mnt", "--name", "n0", "every=1h", "keep=all"], 1, &["takes no changes"]);
    refused(&p, &["prune", "mnt"], 1, &["takes no changes"]);
    assert_eq!(states(&p, "mnt").len(), 8);
    p.umount();
    p.check();
}
