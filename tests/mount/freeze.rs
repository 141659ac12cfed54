//! Freezing lines of a real mount, and hooks around snapshots: who waits, who goes on, what is refused, and that it always ends.

mod guard;
mod place;
mod raw;

use guard::can_mount;
use place::{Place, names, said, wait};
use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

fn refused(p: &Place, args: &[&str], code: i32, words: &[&str]) {
    let said = p.run(args);
    assert!(said.code == code && words.iter().all(|w| said.err.contains(w)), "{args:?}: {said:?}");
}

fn frozen(p: &Place) -> Value {
    p.json(&["status", "mnt", "--json"])["frozen"].clone()
}

/// What changes something on a thread of its own, which may wait.
fn beside(change: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    std::thread::spawn(change)
}

fn append(path: &Path, text: &str) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

fn waiting(p: &Place) -> u64 {
    frozen(p)[0]["waiting"].as_u64().unwrap_or(0)
}

#[test]
fn changes_wait_and_nothing_else_does() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fs::write(p.path("a"), "one").unwrap();
    fs::write(p.path("b"), "short").unwrap();
    fs::write(p.path("c"), "read").unwrap();
    for dir in ["d/in", "e/old"] {
        fs::create_dir_all(p.path(dir)).unwrap();
    }
    p.ok(&["create", "mnt", "before"]);
    for clone in ["x", "y"] {
        p.ok(&["clone", "mnt", clone]);
    }
    append(&p.path("a"), " two");
    fs::write(p.path("m"), [0; 4096]).unwrap();
    let map = raw::Mapping::new(&File::options().read(true).write(true).open(p.path("m")).unwrap(), 4096);
    map.store(0, b'b');
    p.ok(&["freeze", "mnt", "--timeout", "60s"]);
    let state = frozen(&p);
    assert_eq!(state[0]["lines"], serde_json::json!(["."]), "{state}");
    assert!(
        state[0]["command"].as_str().unwrap().contains("freeze mnt") && state[0]["user"].is_u64(),
        "{state}"
    );
    assert!(state[0]["seconds_left"].as_u64().unwrap() <= 60 && state[0]["waiting"] == 0, "{state}");
    refused(&p, &["freeze", "mnt"], 1, &["frozen already", "snapfs freeze mnt", "snapfs thaw"]);
    refused(&p, &["freeze", "mnt/.clones/x", "--all"], 1, &["frozen already"]);

    // Whoever changes something waits, in whatever way. Each in a file or directory of its own: the kernel keeps it locked.
    let file = OpenOptions::new().write(true).open(p.path("c")).unwrap();
    let is_done = Arc::new(AtomicBool::new(false));
    let [a, b, d, e] = ["a", "b", "d", "e"].map(|name| p.path(name));
    let done = is_done.clone();
    let writers = [
        beside(move || {
            append(&a, " three");
            done.store(true, SeqCst);
        }),
        beside(move || File::options().write(true).open(b).unwrap().set_len(100).unwrap()),
        beside(move || fs::write(d.join("new"), "new").unwrap()),
        beside(move || fs::rename(e.join("old"), e.join("renamed")).unwrap()),
    ];
    wait("all to wait", || waiting(&p) == 4);
    refused(
        &p,
        &["umount", "mnt"],
        1,
        &["frozen by 'snapfs freeze mnt", "4 changes waiting", "snapfs thaw mnt"],
    );
    // Readers do not, nor whoever makes durable what was written, nor other lines. (The kernel has the page locked that is
    // being written.)
    assert_eq!(fs::read(p.path("c")).unwrap(), b"read");
    assert!(names(&p.path("")).contains(&"d".to_string()));
    fs::metadata(p.path("d/in")).unwrap();
    file.sync_data().unwrap();
    fs::write(p.path(".clones/x/own"), "own").unwrap();
    assert_eq!(p.run(&["diff", "mnt", "before"]).code, 1);

    // What is stored into a mapping stays with the kernel. (Closing such a file waits; every program that is started does so.)
    map.store(0, b'd');
    // Snapshots and clones are made at once; what exchanges the line is refused.
    p.ok(&["create", "mnt", "meanwhile"]);
    p.snapshot("by hand");
    p.ok(&["clone", "mnt", "copy"]);
    for snapshot in ["meanwhile", "by hand"] {
        assert_eq!(fs::read(p.past(snapshot, "a")).unwrap(), b"one two");
        let mut found = names(&p.past(snapshot, ""));
        found.sort();
        assert_eq!(found, ["a", "b", "c", "d", "e", "m"]);
        assert!(fs::read(p.past(snapshot, "m")).unwrap().starts_with(b"b"));
    }
    for args in [
        &["rollback", "mnt", "before", "--force"][..],
        &["restore", "mnt/a", "--from", "before"],
        &["merge", "mnt", "x"],
        &["promote", "mnt", "x"],
        &["create", "mnt", "laid out", "--method", "cow"],
    ] {
        refused(&p, args, 1, &["frozen", "snapfs thaw"]);
    }
    assert!(!names(&p.path(".snapshots")).contains(&"laid out".to_string()));
    assert!(!is_done.load(SeqCst));
    let thawed = p.json(&["thaw", "mnt", "--json"]);
    assert!(thawed["waiting"] == 4 && thawed["lines"][0] == ".", "{thawed}");
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    assert!(is_done.load(SeqCst) && frozen(&p).is_null());
    assert!(p.path("d/new").exists() && p.path("e/renamed").exists());
    assert_eq!(fs::metadata(p.path("b")).unwrap().len(), 100);
    assert_eq!(fs::read(p.path("a")).unwrap(), b"one two three");
    refused(&p, &["thaw", "mnt"], 1, &["it is not frozen"]);

    p.ok(&["create", "mnt", "thawed"]);
    assert!(fs::read(p.past("thawed", "m")).unwrap().starts_with(b"d"));
    drop(map);

    // A clone by itself, and all.
    p.ok(&["freeze", "mnt/.clones/x"]);
    fs::write(p.path("free"), "main").unwrap();
    refused(&p, &["drop", "mnt", "x"], 1, &["frozen"]);
    refused(&p, &["thaw", "mnt"], 1, &["it is not frozen"]);
    p.ok(&["thaw", "mnt/.clones/x"]);
    assert_eq!(p.json(&["freeze", "mnt", "--all", "--json"])["lines"].as_array().map(Vec::len), Some(4));
    let own = p.path(".clones/y/own");
    let writer = beside(move || fs::write(own, "y").unwrap());
    wait("the clone to be waited for", || waiting(&p) == 1);
    p.ok(&["thaw", "mnt/.clones/x"]);
    writer.join().unwrap();

    // It ends by itself, also when nobody is left who could thaw it, and that is told.
    p.ok(&["freeze", "mnt", "--timeout", "1s"]);
    append(&p.path("a"), "!");
    refused(&p, &["thaw", "mnt"], 1, &["not frozen any more", "ended by itself after 1s"]);
    assert!(p.log().contains("has ended by itself"), "{}", p.log());

    // Wrong usage, and who cannot be frozen.
    for timeout in ["0s", "2h", "soon"] {
        refused(&p, &["freeze", "mnt", "--timeout", timeout], 2, &["30s"]);
    }
    p.ok(&["freeze", "store"]); // as all commands find a mount
    p.ok(&["thaw", "store"]);
    drop(file);

    // Unmounting ends it, and so does the end of the daemon, whoever waits.
    p.ok(&["freeze", "mnt", "--timeout", "60s"]);
    p.umount();
    p.mount("");
    p.ok(&["freeze", "mnt", "--timeout", "60s"]);
    let a = p.path("a");
    let writer = beside(move || append(&a, "the end"));
    wait("the writer to wait", || waiting(&p) == 1);
    p.signal("-TERM");
    writer.join().unwrap();
    p.wait_gone();
    p.mount("");
    assert!(fs::read(p.path("a")).unwrap().ends_with(b"the end"));
    p.umount();
    p.check();
}

#[test]
fn who_waits_for_a_thaw_keeps_nobody_else() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    p.ok(&["clone", "mnt", "x"]);
    for name in ["f", ".clones/x/f"] {
        fs::write(p.path(name), [0; 4096]).unwrap();
    }
    const IMMUTABLE: i32 = 0x10;
    let open = File::open(p.path("f")).unwrap();
    if raw::set_file_flags(&open, IMMUTABLE).is_err() {
        eprintln!("SKIPPED: no right to make a file immutable");
        return;
    }
    raw::set_file_flags(&open, 0).unwrap();
    drop(open);
    let map = |name: &str| {
        raw::Mapping::new(&File::options().read(true).write(true).open(p.path(name)).unwrap(), 4096)
    };
    let maps = [map("f"), map(".clones/x/f")];
    p.ok(&["freeze", "mnt", "--timeout", "60s"]);
    maps.iter().for_each(|map| map.store(0, b'd'));
    // What has to have the pages of a file of the frozen line waits with that for the thaw, and keeps the pages of others from nobody.
    let immutable = raw::set_file_flags_beside(&p.path("f"), IMMUTABLE);
    wait("it to wait", || waiting(&p) == 1);
    p.ok(&["create", "mnt/.clones/x", "s"]);
    p.ok(&["create", "mnt", "s"]);
    assert!(fs::read(p.path(".clones/x/.snapshots/s/f")).unwrap().starts_with(b"d"));
    assert!(fs::read(p.past("s", "f")).unwrap().starts_with(&[0]));
    assert_eq!(frozen(&p).as_array().map(Vec::len), Some(1), "it was over before");
    p.ok(&["thaw", "mnt"]);
    assert!(raw::ended(immutable));
    assert!(fs::read(p.path("f")).unwrap().starts_with(b"d"));
    assert_eq!(File::options().write(true).open(p.path("f")).unwrap_err().raw_os_error(), Some(1)); // EPERM
    raw::set_file_flags(&File::open(p.path("f")).unwrap(), 0).unwrap();
    drop(maps);
    p.umount();
    p.check();
}

#[test]
fn pages_that_wait_for_a_thaw_keep_none_of_others() {
    if !can_mount() {
        return;
    }
    const LEN: usize = 1 << 20;
    let p = Place::new();
    p.mount("");
    for name in ["f", "cold"] {
        fs::write(p.path(name), [1; LEN]).unwrap();
    }
    p.ok(&["clone", "mnt", "x"]);
    p.umount();
    p.mount("");
    let map = |name: &str| {
        raw::Mapping::new(&File::options().read(true).write(true).open(p.path(name)).unwrap(), LEN)
    };
    let (frozen_map, map) = (map("f"), map(".clones/x/f"));
    p.ok(&["freeze", "mnt", "--timeout", "60s"]);
    // Each is a write by itself, and they are more than the kernel has under way as a rule.
    (0..LEN).step_by(8192).for_each(|at| frozen_map.store(at, b'd'));
    let writing_back = raw::write_back_beside(&p.path("f"));
    wait("pages to wait", || waiting(&p) >= 16);
    std::thread::sleep(Duration::from_millis(200)); // so that all come that will
    let begun = Instant::now();
    map.store(0, b'x');
    assert!(fs::read(p.path(".clones/x/cold")).unwrap() == [1; LEN]);
    p.ok(&["create", "mnt/.clones/x", "s"]);
    p.ok(&["create", "mnt", "s"]);
    assert_eq!(frozen(&p).as_array().map(Vec::len), Some(1), "it was over before: {:?}", begun.elapsed());
    assert!(fs::read(p.path(".clones/x/.snapshots/s/f")).unwrap().starts_with(b"x"));
    assert!(fs::read(p.past("s", "f")).unwrap() == [1; LEN]);
    p.ok(&["thaw", "mnt"]);
    assert!(raw::ended(writing_back));
    p.ok(&["create", "mnt", "thawed"]);
    let written = fs::read(p.past("thawed", "f")).unwrap();
    assert!(written.iter().enumerate().all(|(at, byte)| *byte == if at % 8192 == 0 { b'd' } else { 1 }));
    drop((frozen_map, map));
    p.umount();
    p.check();
}

fn consistency(p: &Place, name: &str) -> String {
    p.json(&["show", "mnt", name, "--json"])["consistency"].as_str().unwrap().to_string()
}

#[test]
fn hooks_are_run_around_a_snapshot() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fs::write(p.path("a"), "one").unwrap();
    let log = p.at("hooks");
    let told = || fs::read_to_string(&log).unwrap_or_default();
    let say = "echo $SNAPFS_HOOK $SNAPFS_NAME $SNAPFS_PRE $SNAPFS_RESULT >> hooks";

    // What the first leaves running, and what it leaves in its directory, is there for the second.
    let pre = format!("{say}; echo two > $SNAPFS_MNT/a; sleep 600 & echo $! > $SNAPFS_STATE/left");
    let post = format!(
        "{say}; kill -0 $(cat $SNAPFS_STATE/left) && echo three > $SNAPFS_MNT/a && cp $SNAPFS_STATE/left ."
    );
    let made = p.json(&["create", "mnt", "quiet", "--pre", &pre, "--post", &post, "--json"]);
    assert!(made["consistency"] == "application" && made["pause_us"].as_u64() > Some(0), "{made}");
    assert_eq!(told(), "pre quiet\npost quiet done made\n");
    assert_eq!(fs::read(p.past("quiet", "a")).unwrap(), b"two\n");
    assert_eq!(fs::read(p.path("a")).unwrap(), b"three\n");
    let left = fs::read_to_string(p.at("left")).unwrap();
    wait("what was left running to end", || {
        !fs::read(format!("/proc/{}/cmdline", left.trim())).is_ok_and(|line| !line.is_empty())
    });
    p.ok(&["create", "mnt", "plain"]);
    let of = |name: &str| {
        let all = p.json(&["list", "mnt", "--json"]);
        let found = all.as_array().unwrap().iter().find(|s| s["name"] == name).cloned();
        found.unwrap_or(Value::Null)["consistency"].clone()
    };
    assert_eq!([of("quiet"), of("plain")], ["application", "file system"]);
    let mut attribute = Command::new("getfattr");
    let attribute =
        attribute.args(["--only-values", "-n", "user.snapfs.consistency"]).arg(p.past("quiet", ""));
    assert_eq!(attribute.output().unwrap().stdout, b"application");

    // One that fails, or takes too long: none is made, or one that says so; the second is run in any case.
    fs::remove_file(&log).unwrap();
    refused(&p, &["create", "mnt", "n", "--pre", "exit 7", "--post", say], 1, &["not made", "exit code 7"]);
    refused(
        &p,
        &["create", "mnt", "n", "--pre", "sleep 600", "--post", say, "--hook-timeout", "1s"],
        1,
        &["not made", "longer than 1 s"],
    );
    assert_eq!(told(), "post n failed failed\n".repeat(2));
    let all_the_same = &["create", "mnt", "crash", "--pre", "exit 7", "--on-pre-failure", "crash-consistent"];
    let said = p.run(all_the_same);
    assert!(said.code == 0 && said.err.contains("as after a crash"), "{said:?}");
    assert_eq!(consistency(&p, "crash"), "crash");
    // A name that is taken is refused before any is run. The snapshot fails after the first: the second is run.
    let before = told();
    refused(&p, &["create", "mnt", "crash", "--post", say], 1, &["exists"]);
    assert_eq!(told(), before);
    let first = format!("mkdir '{}'", p.past("faster", "").display());
    refused(&p, &["create", "mnt", "faster", "--pre", &first, "--post", say], 1, &["exists"]);
    assert!(told().contains("post faster") && told().ends_with(" failed\n"), "{}", told());
    refused(&p, &["create", "mnt", "made", "--post", "exit 3"], 1, &["'made' is made", "exit code 3"]);
    assert_eq!(consistency(&p, "made"), "file system");
    refused(&p, &["create", "mnt", "u", "--on-pre-failure", "abort"], 2, &["--pre"]);

    // A signal in the midst of the first: none is made, and the second is run.
    fs::remove_file(&log).unwrap();
    let pre = format!("{say}; sleep 600");
    let mut command = p.command(&["create", "mnt", "n", "--pre", &pre, "--post", say]);
    let create = command.stderr(Stdio::piped()).spawn().unwrap();
    wait("the hook", || told() == "pre n\n");
    assert!(Command::new("kill").arg(create.id().to_string()).status().unwrap().success());
    let said = create.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.status.code() == Some(1) && words.contains("interrupted"), "{words}");
    assert_eq!(told(), "pre n\npost n failed failed\n");
    assert!(!names(&p.path(".snapshots")).contains(&"n".to_string()));

    // A freeze goes well with it: the snapshot is made in it.
    let (pre, post) = ("snapfs freeze $SNAPFS_MNT", "snapfs thaw $SNAPFS_MNT");
    let path = Path::new(env!("CARGO_BIN_EXE_snapfs")).parent().unwrap();
    let path = format!("{}:{}", path.display(), std::env::var("PATH").unwrap_or_default());
    let mut create = p.command(&["create", "mnt", "in a frost", "--pre", pre, "--post", post]);
    assert!(create.env("PATH", &path).status().unwrap().success());
    assert!(frozen(&p).is_null() && consistency(&p, "in a frost") == "application");
    // Not if it was over before, though somebody else has frozen the line since: that is his.
    let over = "while snapfs status $SNAPFS_MNT --json | grep -q seconds_left; do sleep 0.1; done";
    let pre = format!(
        "snapfs freeze $SNAPFS_MNT --timeout 1s && {over} && SNAPFS_STATE= snapfs freeze $SNAPFS_MNT"
    );
    let mut create = p.command(&["create", "mnt", "late", "--pre", &pre, "--post", post]);
    let said = create.env("PATH", &path).output().unwrap();
    let words = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.status.code() == Some(1) && words.contains("not frozen any more"), "{words}");
    assert_eq!(consistency(&p, "late"), "crash");
    let number = frozen(&p)[0]["number"].to_string();
    refused(&p, &["thaw", "mnt", "--of", "7"], 1, &["snapfs freeze", "another freeze", "goes on"]);
    p.ok(&["thaw", "mnt", "--of", &number]);
    p.umount();
    p.check();
}

/// Another mount, which goes in the end, also when the test fails.
struct Over(PathBuf);

impl Over {
    /// None without the right to make it.
    fn new(p: &Place, args: &[&str], at: &str) -> Option<Over> {
        let mounted = Command::new("mount").args(args).current_dir(&p.dir.0).status().unwrap();
        mounted.success().then(|| Over(p.at(at)))
    }
}

impl Drop for Over {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg(&self.0).status();
    }
}

/// Who waits for a thaw has a directory locked, and what looks for a path in it says why it does not find it.
#[test]
fn a_path_is_not_found_where_somebody_waits_for_a_thaw() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    fs::write(p.path("k"), "k").unwrap();
    p.snapshot("one");
    p.ok(&["freeze", "mnt", "--timeout", "6s"]);
    let path = p.path("k");
    let waiting = beside(move || fs::remove_file(path).unwrap());
    wait("who waits", || frozen(&p)[0]["waiting"] == 1);
    // The kernel lets it go with the thaw.
    refused(
        &p,
        &["versions", "mnt/gone"],
        1,
        &["it is frozen by 'snapfs freeze mnt", "1 change waiting", "thaw it"],
    );
    waiting.join().unwrap();
    p.umount();
    p.check();
}

/// What a daemon had begun is not gone on with by the command that asked for it: that knows nothing of the hooks.
#[test]
fn what_ends_with_its_daemon_is_not_done_by_the_command() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    let hooks = p.at("etc/hooks.d");
    fs::create_dir_all(&hooks).unwrap();
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for dir in [&p.dir.0, &p.at("etc"), &hooks] {
        mode(dir, 0o755);
    }
    let begun = p.at("begun");
    let text = format!("mount = '{}'\npre = 'touch {}; sleep 600'\n", p.at("mnt").display(), begun.display());
    fs::write(hooks.join("a.toml"), text).unwrap();
    mode(&hooks.join("a.toml"), 0o644);
    for target in ["store", "mnt"] {
        for end in ["umount", "kill"] {
            let mut mount = p.command(&["mount", "store", "mnt", "--log", p.at("log").to_str().unwrap()]);
            assert!(mount.env("SNAPFS_HOOKS_DIR", &hooks).status().unwrap().success());
            p.ok(&["schedule", "mnt", "every=1d", "keep=2d", "always", "timer=off"]);
            let said = std::thread::scope(|scope| {
                let running = scope.spawn(|| p.run(&["schedule", target, "--run"]));
                wait("the hook", || begun.exists());
                if end == "kill" {
                    p.kill()
                } else {
                    p.umount()
                }
                running.join().unwrap()
            });
            assert!(said.code == 1 && said.out.is_empty(), "{target} {end}: {said:?}");
            assert!(end == "umount" || said.err.contains("ended before it answered"), "{target}: {said:?}");
            p.mount("");
            assert!(names(&p.path(".snapshots")).is_empty(), "{target} {end}: {said:?}");
            p.umount();
            fs::remove_file(&begun).unwrap();
        }
    }
    // What only looks says so too, if it was asked of a mount; of a store it goes on with that.
    p.mount("");
    fs::write(p.path("large"), vec![7; 64 << 20]).unwrap();
    p.snapshot("one");
    for target in ["mnt", "store"] {
        let said = std::thread::scope(|scope| {
            let running = scope.spawn(|| p.run(&["check", target, "--data"]));
            std::thread::sleep(Duration::from_millis(100));
            p.kill();
            running.join().unwrap()
        });
        let told =
            said.err.contains("ended before it answered") || said.err.contains("the mount there has ended");
        assert!(said.code == 0 || target == "mnt" && told, "{target}: {said:?}");
        p.mount("");
    }
    p.umount();
    p.check();
}

#[test]
fn hooks_of_the_host_are_run_around_scheduled_snapshots() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    let hooks = p.at("etc/hooks.d");
    fs::create_dir_all(&hooks).unwrap();
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for dir in [&p.dir.0, &p.at("etc"), &hooks] {
        mode(dir, 0o755);
    }
    let log = p.at("hooks");
    let told = || fs::read_to_string(&log).unwrap_or_default();
    let write = |name: &str, text: &str| {
        let text = text.replace("MNT", p.at("mnt").to_str().unwrap()).replace("LOG", log.to_str().unwrap());
        fs::write(hooks.join(name), text).unwrap();
        mode(&hooks.join(name), 0o644);
    };
    let say = "echo $SNAPFS_HOOK $SNAPFS_LINE $SNAPFS_SCHEDULE $SNAPFS_PRE $SNAPFS_RESULT >> LOG";
    let mut mount = p.command(&["mount", "store", "mnt", "--log", p.at("log").to_str().unwrap()]);
    assert!(mount.env("SNAPFS_HOOKS_DIR", &hooks).status().unwrap().success());
    fs::write(p.path("a"), "one").unwrap();
    for name in ["first", "second", "frost", "long"] {
        p.ok(&["schedule", "mnt", "--name", name, "every=1d", "keep=2d", "always", "timer=off"]);
    }
    let run = |name: &str| p.run(&["schedule", "mnt", "--run", "--name", name]);
    let state = |name: &str| {
        let all = p.json(&["schedule", "mnt", "--json"]);
        all.as_array().unwrap().iter().find(|one| one["name"] == name).cloned().unwrap_or_default()
    };
    let last = || names(&p.path(".snapshots")).last().cloned().unwrap_or_default();

    // One that is for this mount and schedule, and may use the mount; others that are not.
    write(
        "pg.toml",
        &format!("mount = 'MNT'\nschedule = 'first'\npre = '{say}; echo two > MNT/a'\npost = '{say}'\n"),
    );
    write("other.toml", &format!("mount = '/elsewhere'\npre = '{say}'\n"));
    write("clone.toml", &format!("mount = 'MNT'\nline = '.clones/x'\npre = '{say}'\n"));
    assert_eq!(run("first").code, 0);
    assert_eq!(told(), "pre . first\npost . first done made\n");
    assert_eq!(fs::read(p.past(&last(), "a")).unwrap(), b"two\n");
    assert_eq!(consistency(&p, &last()), "application");
    assert_eq!(state("first")["error"], Value::Null);

    // One that fails: none is taken, and that is said; or one that says so.
    write(
        "a.toml",
        &format!("mount = 'MNT'\nschedule = 'second'\npre = 'echo no server >&2; exit 7'\npost = '{say}'\n"),
    );
    let said = run("second");
    assert!(said.code == 1 && said.err.contains("a.toml") && said.err.contains("no server"), "{said:?}");
    assert!(told().ends_with("post . second failed failed\n"), "{}", told());
    assert_eq!(state("second")["snapshots"], 0);
    write("a.toml", "mount = 'MNT'\nschedule = 'second'\npre = 'exit 7'\non-failure = 'crash-consistent'\n");
    assert_eq!(run("second").code, 0);
    assert_eq!(consistency(&p, &last()), "crash");
    let error = state("second")["error"].to_string();
    assert!(error.contains("a.toml") && error.contains("exit code 7"), "{error}");

    // By itself, and with a file that others can write to: that is not run, and said.
    mode(&hooks.join("a.toml"), 0o666);
    let before = state("second")["snapshots"].clone();
    p.ok(&["schedule", "mnt", "--name", "third", "every=1d", "keep=2d"]);
    wait("a snapshot", || state("third")["snapshots"] == 1);
    assert_eq!(consistency(&p, &last()), "crash");
    wait("what is wrong", || state("third")["error"].to_string().contains("chmod go-w"));
    assert_eq!(state("second")["snapshots"], before);
    assert!(p.log().contains("chmod go-w"), "{}", p.log());

    // Hooks freeze and thaw the line; what they leave running ends with them, and what is too much of what they say is left out.
    fs::remove_file(hooks.join("a.toml")).unwrap();
    let freeze = format!("'{}' freeze MNT", env!("CARGO_BIN_EXE_snapfs"));
    let thaw = format!("'{}' thaw MNT", env!("CARGO_BIN_EXE_snapfs"));
    write(
        "frozen.toml",
        &format!(
            "mount = 'MNT'\nschedule = 'frost'\npre = \"\"\"{freeze} && yes loud | head -5000 >&2\nsleep 600 & echo $! > LOG.left\"\"\"\n\
             post = \"\"\"{thaw} && {say}\"\"\"\n"
        ),
    );
    assert_eq!(run("frost").code, 0);
    assert_eq!(consistency(&p, &last()), "application");
    assert!(told().ends_with("post . frost done made\n") && frozen(&p).is_null(), "{}", told());
    let left = fs::read_to_string(p.at("hooks.left")).unwrap();
    let is_there = || fs::read(format!("/proc/{}/cmdline", left.trim())).is_ok_and(|line| !line.is_empty());
    wait("what was left", || !is_there());
    wait("the rest to be left out", || p.log().contains("says more"));
    assert!(p.log().matches("loud").count() <= 100);
    // While one is at work the mount goes on, and the schedule may go: nothing is taken for it then.
    write(
        "frozen.toml",
        "mount = 'MNT'\nschedule = 'long'\npre = 'touch LOG.begun; while [ ! -e LOG.go ]; do sleep 0.1; done'\n",
    );
    let mut slow = p.command(&["schedule", "mnt", "--run", "--name", "long"]).spawn().unwrap();
    wait("the hook", || p.at("hooks.begun").exists());
    p.ok(&["create", "mnt", "meanwhile"]);
    p.ok(&["hold", "mnt", "meanwhile", "--for", "1s"]);
    wait("the hold to end", || p.json(&["hold", "mnt", "--list", "--json"]).as_array().unwrap().is_empty());
    fs::write(p.path("a"), "three").unwrap();
    p.ok(&["rollback", "mnt", "meanwhile"]);
    p.ok(&["schedule", "mnt", "--name", "long", "--remove"]);
    let before = names(&p.path(".snapshots"));
    fs::write(p.at("hooks.go"), "").unwrap();
    assert!(slow.wait().unwrap().success());
    assert_eq!(names(&p.path(".snapshots")), before);
    // One that hangs does not keep the store from being closed, be it before or afterwards.
    for (part, other) in [("pre", "post"), ("post", "pre")] {
        write(
            "slow.toml",
            &format!(
                "mount = 'MNT'\nschedule = '{part}'\n{part} = '{say}; sleep 600'\n{other} = '{say}'\ntimeout = '1h'\n"
            ),
        );
        p.ok(&["schedule", "mnt", "--name", part, "every=1d", "keep=2d"]);
        wait("the hook", || told().contains(&format!("{part} . {part}")));
        p.umount();
        p.check();
        let mut mount = p.command(&["mount", "store", "mnt", "--log", p.at("log").to_str().unwrap()]);
        assert!(mount.env("SNAPFS_HOOKS_DIR", &hooks).status().unwrap().success());
    }
    assert!(told().contains("post . pre failed failed\n"), "{}", told());
    // What is in the store is never read for this, though it is root's.
    p.umount();
    let mut mount = p.command(&["mount", "store", "mnt", "--log", p.at("log").to_str().unwrap()]);
    assert!(mount.env("SNAPFS_HOOKS_DIR", p.path("hooks.d")).status().unwrap().success());
    fs::create_dir(p.path("hooks.d")).unwrap();
    fs::write(p.path("hooks.d/x.toml"), "mount = '/'\npre = 'exit 1'\n").unwrap();
    for path in [p.path(""), p.path("hooks.d"), p.path("hooks.d/x.toml")] {
        mode(&path, 0o755);
    }
    p.ok(&["schedule", "mnt", "--name", "inside", "every=1d", "keep=2d", "always", "timer=off"]);
    assert_eq!(run("inside").code, 0);
    let error = state("inside")["error"].to_string();
    assert!(error.contains("in the store itself"), "{error}");
    p.umount();
    // Neither when it is in sight elsewhere, and something else where it was mounted.
    fs::create_dir(p.at("bound")).unwrap();
    let mut mount = p.command(&["mount", "store", "mnt", "--log", p.at("log").to_str().unwrap()]);
    assert!(mount.env("SNAPFS_HOOKS_DIR", p.at("bound/hooks.d")).status().unwrap().success());
    p.ok(&["schedule", "mnt", "--name", "bound", "every=1d", "keep=2d", "always", "timer=off"]);
    let bound = Over::new(&p, &["--bind", "mnt", "bound"], "bound");
    let covering = bound.as_ref().and_then(|_| Over::new(&p, &["-t", "tmpfs", "none", "mnt"], "mnt"));
    if covering.is_some() {
        assert_eq!(p.run(&["schedule", "bound", "--run", "--name", "bound"]).code, 0);
        let all = p.json(&["schedule", "bound", "--json"]);
        let taken = all.as_array().unwrap().iter().find(|one| one["name"] == "bound").unwrap();
        assert!(taken["error"].to_string().contains("in the store itself"), "{taken}");
    } else {
        eprintln!("SKIPPED: no right to mount something over the mount");
    }
    drop((covering, bound));
    p.umount();
    p.check();
}

/// Servers are played: what counts is where they say that they are.
#[test]
fn ready_made_hooks_want_all_of_a_database_in_the_line_of_the_snapshot() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    p.ok(&["clone", "mnt", "x"]);
    let (here, clone) = (p.path("db"), p.path(".clones/x/part"));
    fs::create_dir_all(here.join("bank")).unwrap();
    fs::create_dir(&clone).unwrap();
    let program = |name: &str, text: &str| {
        let text = text.replace("HERE", here.to_str().unwrap()).replace("CLONE", clone.to_str().unwrap());
        fs::write(p.at(name), format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(p.at(name), fs::Permissions::from_mode(0o755)).unwrap();
    };
    let hooks = Path::new(env!("CARGO_MANIFEST_DIR")).join("mount-helpers/hooks");
    let create = |target: &str, name: &str, hook: &str, arguments: &str| {
        let [pre, post] = ["pre", "post"].map(|part| format!("'{}/{hook}' {part}", hooks.display()));
        let mut create =
            p.command(&["create", target, name, "--pre", &format!("{pre} {arguments}"), "--post", &post]);
        let all = [("PSQL", "psql"), ("MARIADB", "mariadb"), ("SQLITE", "sqlite")];
        said(create.envs(all.map(|(key, name)| (key, p.at(name)))))
    };
    let refused = |target: &str, hook: &str, arguments: &str, what: &str| {
        let said = create(target, "refused", hook, arguments);
        assert!(said.code == 1 && said.err.contains(&format!("{what} is not in the line of")), "{said:?}");
    };
    let made = |target: &str, name: &str, hook: &str| {
        let said = create(target, name, hook, "");
        assert_eq!(said.code, 0, "{said:?}");
    };

    // A part of it is in a clone, which is on the same device.
    program("psql", "case \"$*\" in *data_directory*) echo HERE ;; *tablespace*) cat HERE/../spaces ;; esac");
    fs::write(p.path("spaces"), "").unwrap();
    symlink(&clone, here.join("pg_wal")).unwrap();
    refused("mnt", "postgresql", "", "pg_wal");
    fs::remove_file(here.join("pg_wal")).unwrap();
    fs::create_dir(here.join("pg_wal")).unwrap();
    made("mnt", "pg", "postgresql");
    assert_eq!(consistency(&p, "pg"), "application");
    fs::write(p.path("spaces"), format!("{}\n{}\n", here.display(), clone.display())).unwrap();
    refused("mnt", "postgresql", "", "part");
    // All of it is in another line than the one that is asked for.
    refused("mnt/.clones/x", "postgresql", "", "db");

    let variables =
        "case \"$*\" in *SHOW*) printf 'datadir\\tHERE/\\ninnodb_log_group_home_dir\\tLOGS\\n' ;; *) ";
    let mariadb = |logs: &str| {
        program(
            "mariadb",
            &format!("{}sed -un 's/^system //p' | sh ;; esac", variables.replace("LOGS", logs)),
        );
    };
    mariadb("CLONE");
    refused("mnt", "mariadb", "", "part");
    mariadb("./");
    made("mnt", "maria", "mariadb");
    fs::write(clone.join("t"), "").unwrap();
    symlink(clone.join("t"), here.join("bank/t.MYD")).unwrap();
    refused("mnt", "mariadb", "", "t.MYD");
    fs::remove_file(here.join("bank/t.MYD")).unwrap();
    fs::write(here.join("bank/t.isl"), format!("{}/t", clone.display())).unwrap();
    refused("mnt", "mariadb", "", "part/t");

    symlink(clone.join("t"), here.join("t.db")).unwrap();
    refused("mnt", "sqlite", &format!("'{}'", here.join("t.db").display()), "t.db");
    p.umount();
    p.check();
}

/// A hook that goes on writing into the line that it has frozen cannot even be killed: nobody waits for it.
#[test]
fn a_hook_that_cannot_be_ended_keeps_up_nobody() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    let hooks = p.at("etc/hooks.d");
    fs::create_dir_all(&hooks).unwrap();
    for dir in [&p.dir.0, &p.at("etc"), &hooks] {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let (file, mnt) = (hooks.join("stuck.toml"), p.at("mnt"));
    let freeze = format!("'{}' freeze '{}' --timeout 60s", env!("CARGO_BIN_EXE_snapfs"), mnt.display());
    let pre = format!("{freeze} && echo two > '{}/a'", mnt.display());
    let text = format!("mount = '{}'\nschedule = 'stuck'\ntimeout = '2s'\npre = \"{pre}\"\n", mnt.display());
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let mut mount = p.command(&["mount", "store", "mnt", "--log", p.at("log").to_str().unwrap()]);
    assert!(mount.env("SNAPFS_HOOKS_DIR", &hooks).status().unwrap().success());
    fs::write(p.path("a"), "one").unwrap();
    for name in ["stuck", "other"] {
        p.ok(&["schedule", "mnt", "--name", name, "every=1d", "keep=2d", "always", "timer=off"]);
    }
    let began = Instant::now();
    let run = |name: &str| p.run(&["schedule", "mnt", "--run", "--name", name]);
    let said = run("stuck");
    // Two seconds, two of grace, and half of one after the last signal.
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}: {said:?}", began.elapsed());
    assert!(said.code == 1 && said.err.contains("cannot be ended now"), "{said:?}");
    assert_eq!(waiting(&p), 1);
    assert_eq!(run("other").code, 0);
    assert_eq!(names(&p.path(".snapshots")).len(), 1);
    assert_eq!(waiting(&p), 1);
    p.signal("-TERM");
    p.wait_gone();
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    p.check();
}
