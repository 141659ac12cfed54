//! The commands end to end - background start, control channel, umount that waits - over a file system in memory.
//!
//! This test is its own program under test: called with a verb it is `snapfs` with a backend in memory (and the daemon
//! that `mount` starts is it again); called by cargo it runs the checks, one after the other.

mod guard;
mod toyfs;

use guard::{Scratch, can_mount};
use serde_json::{Value, json};
use snapfs::check::Depth;
use snapfs::cli::{self, engine::*};
use snapfs::ctl::{Code, Failure};
use snapfs::format::view::Consistency;
use snapfs::fs::{Provenance, Reached};
use snapfs::names;
use snapfs::ops::{Error, KernelRef, NodeId, Operations, Timestamp};
use snapfs::repair::{Mode, Repair};
use snapfs::salvage::{ContentReport, Listener, Outcome, Rescued, Summary, Wanted};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};
use toyfs::ToyFs;

type Check = fn(&Place);

struct Toy;
struct ToyEngine(Arc<ToyFs>, PathBuf);

fn failure(e: Error) -> Failure {
    let code = match e {
        Error::Exists => Code::Exists,
        Error::NotFound => Code::NotFound,
        _ => Code::Other,
    };
    Failure::new(code, format!("the toy says {e}"))
}

impl Backend for Toy {
    fn open(&self, store: &Path, options: &StoreOptions) -> Result<Arc<dyn Engine>, Failure> {
        if store.ends_with("broken") {
            return Err(Failure::new(Code::Io, format!("{} is broken", store.display())));
        }
        if options.access == OpenFor::Look && !store.exists() {
            return Err(Failure::new(Code::NotFound, format!("{} is no store", store.display())));
        }
        fs::create_dir_all(store).map_err(|e| Failure::new(Code::Io, e.to_string()))?;
        Ok(Arc::new(ToyEngine(ToyFs::new(), store.canonicalize().unwrap_or_default())))
    }
    fn init(&self, store: &Path, options: &InitOptions) -> Result<Value, Failure> {
        let mut made = json!({"size_bytes": options.size});
        names::put(&mut made, "store", store);
        Ok(made)
    }
    fn check(
        &self,
        store: &Path,
        _: Depth,
        _progress: &mut dyn FnMut(Value),
    ) -> Result<CheckReport, Failure> {
        let damaged = store.ends_with("damaged");
        let findings = if damaged { vec!["a block is gone".to_string()] } else { vec![] };
        Ok(CheckReport { findings, summary: json!({"blocks": 1}) })
    }
    fn repair(&self, store: &Path, mode: Mode, _: Depth) -> Result<Repair, Failure> {
        let found = vec!["a sum is wrong".to_string()];
        let left = if store.ends_with("damaged") { vec!["a tree is gone".into()] } else { vec![] };
        let rebuilt = if mode == Mode::Write { vec!["the sum".to_string()] } else { vec!["a sum".into()] };
        Ok(Repair { found, rebuilt, left, notes: vec![] })
    }
    fn salvage(
        &self,
        store: &Path,
        out: Option<&Path>,
        wanted: &Wanted,
        listener: &mut dyn Listener,
    ) -> Result<Summary, Failure> {
        let damaged = store.ends_with("damaged");
        let name = wanted.snapshot.clone().unwrap_or_else(|| b"live".to_vec());
        listener.rescued(Rescued {
            path: name,
            kind: None,
            state: if damaged { Outcome::Damaged } else { Outcome::Whole },
            content: ContentReport { size: 1536, lost: vec![(4096, 512)], ..ContentReport::default() },
            notes: vec![],
        });
        if let Some(out) = out {
            fs::create_dir(out).map_err(|e| Failure::new(Code::Io, e.to_string()))?;
        }
        let (whole, damaged) = if damaged { (0, 1) } else { (1, 0) };
        Ok(Summary { whole, damaged, source: vec!["the toy".into()], ..Summary::default() })
    }
}

impl Engine for ToyEngine {
    fn operations(&self) -> Arc<dyn Operations> {
        self.0.clone()
    }
    fn set_kernel(&self, kernel: KernelRef) {
        self.0.set_kernel(kernel);
    }
    fn snapshots(&self, _: NodeId) -> Result<Vec<SnapshotRow>, Failure> {
        let names = self.0.points().into_iter().enumerate();
        Ok(names
            .map(|(i, n)| SnapshotRow {
                name: n,
                id: i as u64 + 1,
                created: Timestamp { secs: 1_767_225_599, nanos: 0 },
                referenced: 3 << 20,
                exclusive: Some(0),
                written: 1536,
                reason: "user".into(),
                description: Vec::new(),
                consistency: Consistency::FileSystem,
                pause_us: 7,
                held: Vec::new(),
                edited: None,
                method: None,
            })
            .collect())
    }
    fn create(
        &self,
        at: NodeId,
        name: &[u8],
        _: &Provenance,
        _: Reached<'_>,
    ) -> Result<SnapshotRow, Failure> {
        self.0.make_point(name).map_err(failure)?;
        let all = self.snapshots(at)?;
        all.into_iter().find(|s| s.name == name).ok_or_else(|| failure(Error::NotFound))
    }
    fn rename(&self, _: NodeId, name: &[u8], new_name: &[u8]) -> Result<(), Failure> {
        self.0.change_point(name, Some(new_name)).map_err(failure)
    }
    fn delete(&self, _: NodeId, name: &[u8]) -> Result<(), Failure> {
        self.0.change_point(name, None).map_err(failure)
    }
    fn check(&self, _: Depth) -> Result<CheckReport, Failure> {
        Ok(CheckReport { findings: vec![], summary: json!({"blocks": 1}) })
    }
    fn status(&self) -> Value {
        json!({"open_for_write": self.0.open_for_write().len()})
    }
    fn info(&self) -> Value {
        json!({"kind": "toy", "size_bytes": 1 << 30})
    }
    fn close(&self) -> Result<(), Failure> {
        std::thread::sleep(Duration::from_millis(300)); // so that a umount that does not wait is caught
        while self.1.join("hold").exists() {
            std::thread::sleep(Duration::from_millis(10));
        }
        let done = fs::write(self.1.join("closed"), b"");
        done.map_err(|e| Failure::new(Code::Io, e.to_string()))
    }
}

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    let verb = args.get(1).and_then(|a| a.to_str()).is_some_and(|a| !a.starts_with('-'));
    if std::env::var_os("SNAPFS_TEST_AS_PROGRAM").is_some() && verb {
        return cli::run(&Toy, args).into();
    }
    if !can_mount() {
        return ExitCode::SUCCESS;
    }
    let checks: [(&str, Check); 12] = [
        ("a mount is used and unmounted", a_mount_is_used),
        ("failures are told with the right code", failures_are_told),
        ("a busy mount stays", a_busy_mount_stays),
        ("SIGTERM ends a mount, also a busy one", sigterm_ends),
        ("a dead mount is cleared away", a_dead_mount_is_cleared),
        ("stores without a daemon", offline),
        ("repair and salvage", rescue),
        ("a broken pipe is success", broken_pipe),
        ("a daemon that closes its store is no part of the next mount", the_next_mount),
        ("a stopped daemon is not waited for", a_stopped_daemon),
        ("names that are no text", names_of_bytes),
        ("a second place, and other flags", second_place),
    ];
    for (name, check) in checks {
        let place = Place::new();
        check(&place);
        println!("ok: {name}");
    }
    ExitCode::SUCCESS
}

/// Directories of one check; whatever happens, nothing stays mounted.
struct Place {
    dir: Scratch,
}

impl Place {
    fn new() -> Place {
        let place = Place { dir: Scratch::new() };
        for name in ["mnt", "mnt2", "run"] {
            fs::create_dir(place.path(name)).expect("mkdir");
        }
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(place.path("run"), fs::Permissions::from_mode(0o700)).expect("chmod");
        place
    }
    fn path(&self, name: &str) -> PathBuf {
        self.dir.0.join(name)
    }
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(std::env::current_exe().expect("self"));
        command
            .args(args)
            .current_dir(&self.dir.0)
            .env("SNAPFS_TEST_AS_PROGRAM", "1")
            .env("SNAPFS_RUNTIME_DIR", self.path("run"))
            .env("TZ", "UTC");
        command
    }
    fn run(&self, args: &[&str]) -> (i32, String, String) {
        let Output { status, stdout, stderr } = self.command(args).output().expect("run");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (status.code().unwrap_or(-1), text(stdout), text(stderr))
    }
    fn ok(&self, args: &[&str]) -> String {
        let (code, out, err) = self.run(args);
        assert_eq!((code, err.as_str()), (0, ""), "{args:?}: {out}");
        out
    }
    fn pid(&self) -> String {
        let status = self.json(&["status", "mnt", "--json"]);
        status["pid"].as_u64().expect("pid").to_string()
    }
    /// Waits until the daemon with this process number is no longer listed.
    fn wait_ended(&self, pid: &str) {
        let end = Instant::now() + Duration::from_secs(20);
        while self.lists(pid) {
            assert!(Instant::now() < end, "the daemon {pid} does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    fn lists(&self, pid: &str) -> bool {
        let all = self.json(&["status", "--json"]);
        let pid: u64 = pid.parse().expect("a number");
        all.as_array().expect("a list").iter().any(|r| r["pid"] == pid)
    }
    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(args)).expect("JSON")
    }
    fn wait_closed(&self) {
        let end = Instant::now() + Duration::from_secs(20);
        while !self.path("store/closed").exists() || self.path("mnt/f").exists() {
            assert!(Instant::now() < end, "the daemon does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let all = snapfs::fuse::mounts::all().unwrap_or_default();
        for mount in all.iter().filter(|m| m.point.starts_with(&self.dir.0)) {
            eprintln!("lazy unmount: {:?}", snapfs::fuse::unmount(&mount.point, true));
        }
        for point in ["mnt", "mnt2"] {
            let _ = fs::remove_dir(self.path(point));
        }
        for name in ["store", "other", "run"] {
            let _ = fs::remove_dir_all(self.path(name));
        }
    }
}

fn a_mount_is_used(p: &Place) {
    p.ok(&["mount", "store", "mnt", "-o", "commit=3,nofail,x-gvfs-show"]);
    fs::write(p.path("mnt/f"), b"content").expect("write");
    p.ok(&["create", "mnt", "one"]);
    p.ok(&["create", "mnt/f", "two"]);
    p.ok(&["rename", "store", "two", "three"]);
    let table = p.ok(&["list", "mnt"]);
    assert_eq!(
        table,
        "NAME   CREATED                    REFERENCED  EXCLUSIVE  WRITTEN\n\
         one    2025-12-31T23:59:59+00:00     3.0 MiB        0 B  1.5 KiB\n\
         three  2025-12-31T23:59:59+00:00     3.0 MiB        0 B  1.5 KiB\n"
    );
    let elsewhere = p.command(&["list", "mnt"]).env("TZ", "XST-05:30").output().expect("run");
    assert!(
        String::from_utf8_lossy(&elsewhere.stdout).contains(" 2026-01-01T05:29:59+05:30 "),
        "{elsewhere:?}"
    );
    let list: Value = serde_json::from_str(&p.ok(&["list", "mnt", "--json"])).expect("JSON");
    assert_eq!(list[0]["created"], "2025-12-31T23:59:59Z");
    assert_eq!((&list[1]["name"], &list[1]["written"]), (&json!("three"), &json!(1536)));
    let (code, _, err) = p.run(&["create", "mnt", "one"]);
    assert_eq!((code, err.as_str()), (1, "snapfs: the toy says something of that name is there already\n"));
    p.ok(&["delete", "mnt", "one", "three"]);
    let (code, _, err) = p.run(&["delete", "mnt", "one"]);
    assert!(code == 1 && err.contains("nothing of that name"), "{err}");
    let all = p.ok(&["status"]);
    assert!(all.contains("/mnt") && all.contains("/store"), "{all}");
    assert!(p.ok(&["info", "mnt"]).contains("size: 1.0 GiB"));
    let shown = fs::read("/proc/self/mountinfo").expect("mountinfo");
    let shown = String::from_utf8_lossy(&shown);
    let store = fs::canonicalize(p.path("store")).expect("the store");
    assert!(shown.contains(&format!(" - fuse.snapfs {} ", store.display())), "source and type");
    p.ok(&["umount", "mnt"]);
    assert!(p.path("store/closed").exists(), "umount waits for the store");
    assert_eq!(fs::read_dir(p.path("run")).expect("list").count(), 0);
}

fn failures_are_told(p: &Place) {
    let told = |args: &[&str], code: i32, words: &str| {
        let (got, _, err) = p.run(args);
        assert!(got == code && err.contains(words), "{args:?}: {got} {err}");
    };
    told(&["mount", "broken", "mnt"], 1, "broken is broken");
    told(&["mount", "store", "nowhere"], 1, "nowhere does not exist");
    assert!(!p.path("store").exists(), "no store is made for a mount that cannot be");
    told(&["mount", "store", "mnt", "-o", "ro,fly"], 2, "'fly'");
    told(&["mount", "store"], 2, "MNT");
    told(&["fly"], 2, "fly");
    told(&["umount", "mnt"], 1, "mnt is not mounted");
    told(&["umount", "/proc"], 1, "of type proc");
    told(&["create", "mnt", "x"], 1, "not mounted");
    told(&["./store", "./nowhere"], 32, "does not exist");
    p.ok(&["mount", "store", "mnt"]);
    let of = fs::canonicalize(p.path("store")).expect("the store");
    told(&["mount", "other", "mnt"], 1, &format!("mnt is a mount of snapfs already, of {}", of.display()));
    told(&["check", "store"], 0, "");
    p.ok(&["umount", "mnt"]);
    let _ = fs::remove_dir_all(p.path("other"));
}

fn a_busy_mount_stays(p: &Place) {
    p.ok(&["mount", "store", "mnt"]);
    let open = fs::File::create(p.path("mnt/f")).expect("create");
    let (code, _, err) = p.run(&["umount", "mnt"]);
    assert!(code == 1 && err.contains("mnt is busy"), "{err}");
    assert!(p.path("mnt/f").exists());
    drop(open);
    p.ok(&["umount", "mnt"]);
}

fn sigterm_ends(p: &Place) {
    for busy in [false, true] {
        p.ok(&["mount", "store", "mnt"]);
        let open = fs::File::create(p.path("mnt/f")).expect("create");
        let open = busy.then_some(open);
        assert!(Command::new("kill").arg(p.pid()).status().expect("kill").success());
        if busy {
            std::thread::sleep(Duration::from_millis(300));
            assert!(!p.path("mnt/f").exists(), "out of sight at once");
        }
        drop(open); // in the grace: nothing is cut off
        p.wait_closed();
        fs::remove_file(p.path("store/closed")).expect("remove");
    }
}

fn a_dead_mount_is_cleared(p: &Place) {
    p.ok(&["mount", "store", "mnt"]);
    guard::kill_both(p.pid().parse().expect("a number"));
    let end = Instant::now() + Duration::from_secs(10);
    while fs::File::open(p.path("mnt")).is_ok() {
        assert!(Instant::now() < end, "the daemon was killed");
        std::thread::sleep(Duration::from_millis(10));
    }
    let (code, _, err) = p.run(&["mount", "store", "mnt"]);
    assert!(code == 0 && err.contains("daemon that is gone"), "{err}");
    fs::write(p.path("mnt/f"), b"x").expect("write");
    assert_eq!(p.ok(&["status"]).lines().count(), 2, "the record of the dead one is gone");
    // Alone, a daemon leaves nothing to clear.
    assert!(Command::new("kill").args(["-9", &p.pid()]).status().expect("kill").success());
    let end = Instant::now() + Duration::from_secs(10);
    while snapfs::fuse::mounts::at(&p.path("mnt")).is_ok_and(|m| m.is_some()) {
        assert!(Instant::now() < end, "the mount of a killed daemon stays");
        std::thread::sleep(Duration::from_millis(10));
    }
    p.ok(&["mount", "store", "mnt"]);
    p.ok(&["umount", "mnt"]);
}

fn offline(p: &Place) {
    fs::create_dir(p.path("store")).expect("mkdir");
    assert_eq!(p.ok(&["list", "store", "--json"]), "[]\n");
    assert!(p.ok(&["info", "store"]).contains("toy"));
    assert!(p.ok(&["check", "store"]).contains("blocks: 1"));
    let (code, out, _) = p.run(&["check", "damaged", "--json"]);
    assert!(code == 3 && out.contains("a block is gone"), "{code} {out}");
    assert!(p.ok(&["init", "new", "--size", "1G", "--json"]).contains("1073741824"));
    let (code, _, err) = p.run(&["list", "nothing"]);
    assert!(code == 1 && err.contains("no store"), "{err}");
}

fn rescue(p: &Place) {
    let told = |args: &[&str], code: i32, out_words: &str, err_words: &str| {
        let (got, out, err) = p.run(args);
        assert!(
            got == code && out.contains(out_words) && err.contains(err_words),
            "{args:?}: {got} {out} {err}"
        );
    };
    told(&["check", "sound", "--repair"], 0, "found: a sum is wrong\nrebuilt: the sum\n", "");
    told(
        &["check", "sound", "--repair", "--dry-run"],
        3,
        "would rebuild: a sum\n",
        "1 finding, nothing written",
    );
    told(&["check", "damaged", "--repair"], 3, "left: a tree is gone\n", "'snapfs salvage'");
    told(&["check", "sound", "--dry-run"], 2, "", "--repair");
    let report: Value = serde_json::from_str(&p.ok(&["check", "sound", "--repair", "--json"])).expect("JSON");
    assert_eq!((&report["dry_run"], &report["rebuilt"][0]), (&json!(false), &json!("the sum")));
    told(&["salvage", "sound"], 2, "", "OUT_DIR");
    told(
        &["salvage", "sound", "--list"],
        0,
        "whole       1.5 KiB live\n    lost: 512 bytes at 4096\nfrom: the toy\n",
        "",
    );
    told(
        &["salvage", "damaged", "out", "--snapshot", "s"],
        3,
        "damaged     1.5 KiB s\n",
        "0 names came out whole, 1 damaged",
    );
    assert!(p.path("out").is_dir());
    let (code, out, _) = p.run(&["salvage", "sound", "--list", "--json"]);
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((code, &lines[0]["state"], &lines[1]["summary"]["whole"]), (0, &json!("whole"), &json!(1)));
    p.ok(&["mount", "store", "mnt"]);
    told(&["check", "mnt", "--repair"], 1, "", "it is mounted; unmount it first");
    told(&["check", "store", "--repair"], 1, "", "it is mounted; unmount it first");
    told(&["salvage", "store", "out2"], 1, "", "it is mounted");
    p.ok(&["umount", "mnt"]);
    fs::remove_dir(p.path("out")).expect("remove");
}

/// The kernel gives the device number of the first mount to the second at once.
fn the_next_mount(p: &Place) {
    let device = |name: &str| fs::metadata(p.path(name)).expect("stat").dev();
    p.ok(&["mount", "store", "mnt"]);
    let first = device("mnt");
    let pid = p.pid();
    fs::write(p.path("store/hold"), b"").expect("write");
    snapfs::fuse::unmount(&p.path("mnt"), false).expect("as umount(8), which does not wait");
    assert!(p.lists(&pid), "it is there, and closes its store");
    p.ok(&["mount", "other", "mnt"]);
    if device("mnt") != first {
        eprintln!("the kernel gave another device number: this proves little");
    }
    let other = p.path("other").canonicalize().expect("path");
    let serves_other = || {
        let status = p.json(&["status", "mnt", "--json"]);
        assert_eq!(status["store"].as_str(), other.to_str());
        p.ok(&["create", "mnt", "one"]);
        assert_eq!(p.json(&["list", "other", "--json"])[0]["name"], "one");
        p.ok(&["delete", "other", "one"]);
    };
    serves_other();
    let second = p.pid();
    assert_ne!(second, pid);
    assert!(Command::new("kill").arg(&pid).status().expect("kill").success());
    fs::remove_file(p.path("store/hold")).expect("remove");
    p.wait_ended(&pid);
    serves_other();
    // Now the other way round: the first ends by a signal and takes nothing of the second along.
    p.ok(&["mount", "store", "mnt2"]);
    assert!(Command::new("kill").arg(&second).status().expect("kill").success());
    p.wait_ended(&second);
    assert_eq!(p.json(&["list", "mnt2", "--json"]), json!([]));
    p.ok(&["umount", "mnt2"]);
    assert_eq!(fs::read_dir(p.path("run")).expect("list").count(), 0);
}

fn a_stopped_daemon(p: &Place) {
    p.ok(&["mount", "store", "mnt"]);
    let pid = p.pid();
    let signal =
        |signal: &str| assert!(Command::new("kill").args([signal, &pid]).status().expect("kill").success());
    signal("-STOP");
    let said = [
        &["list", "mnt"][..],
        &["status", "mnt"],
        &["check", "store"],
        // The kernel knows nothing of these yet.
        &["restore", "mnt/some/path", "--from", "one"],
        &["restore", "mnt", "--from", "one", "--to", "mnt/elsewhere"],
        &["versions", "mnt/some/file"],
        &["list", "mnt/a/directory"],
    ]
    .map(|args| p.run(args));
    let listed = p.lists(&pid);
    signal("-CONT");
    for (code, _, err) in said {
        assert!(
            code == 1 && err.contains(&format!("is stopped; let it go on with: kill -CONT {pid}")),
            "{err}"
        );
    }
    assert!(listed, "the list asks nobody");
    p.ok(&["create", "mnt", "one"]);
    // A record that is left of a process whose number another one has by now.
    let run = p.path("run");
    let mut files = fs::read_dir(&run).expect("list").map(|e| e.expect("entry").path());
    let record = files.find(|p| p.extension().is_some_and(|e| e == "json")).expect("a record");
    fs::copy(record, run.join("0000.json")).expect("copy");
    assert_eq!(p.ok(&["status"]).lines().count(), 2, "the living one alone");
    assert!(!run.join("0000.json").exists());
    p.ok(&["umount", "mnt"]);
}

fn names_of_bytes(p: &Place) {
    let bytes = |b: &[u8]| OsString::from_vec(b.to_vec());
    let run = |args: &[OsString]| {
        let output = p.command(&[]).args(args).output().expect("run");
        let text = |b: &[u8]| String::from_utf8(b.to_vec()).expect("text");
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let ok = |args: &[OsString]| {
        let (code, out, err) = run(args);
        assert!(code == Some(0) && err.is_empty(), "{args:?}: {code:?} {out} {err}");
        out
    };
    let (store, point) = (bytes(b"other/s\xff"), bytes(b"mnt2/m\xfe"));
    fs::create_dir(p.path("other")).expect("mkdir");
    fs::create_dir(p.dir.0.join(&point)).expect("mkdir");
    let json = |out: String| serde_json::from_str::<Value>(&out).expect("JSON");
    let made = json(ok(&["init".into(), "--json".into(), store.clone()]));
    assert_eq!(made["store_hex"], "6f746865722f73ff");
    let mounted = json(ok(&["mount".into(), "--json".into(), store.clone(), point.clone()]));
    assert_eq!(mounted["mountpoint_hex"], "6d6e74322f6dfe");
    let all = ok(&["status".into()]);
    assert!(all.contains("/m\\xfe") && all.contains("/s\\xff"), "{all}");
    ok(&["status".into(), "--json".into()]);
    ok(&["status".into(), point.clone()]);
    ok(&["info".into(), store.clone(), "--json".into()]);
    for name in [b"a\xff", b"a\xfe"] {
        ok(&["create".into(), point.clone(), bytes(name)]);
    }
    let list = ok(&["list".into(), store.clone()]);
    assert!(list.contains("\na\\xff ") && list.contains("\na\\xfe "), "{list}");
    let list = json(ok(&["list".into(), store.clone(), "--json".into()]));
    let mut listed = [&list[0]["name_hex"], &list[1]["name_hex"]].map(|hex| hex.as_str().expect("no text"));
    listed.sort_unstable();
    assert_eq!(listed, ["61fe", "61ff"]);
    let renamed =
        json(ok(&["rename".into(), point.clone(), bytes(b"a\xff"), bytes(b"b\xff"), "--json".into()]));
    assert_eq!((&renamed["name_hex"], &renamed["was_hex"]), (&json!("62ff"), &json!("61ff")));
    let deleted = json(ok(&["delete".into(), point.clone(), bytes(b"a\xfe"), "--json".into()]));
    assert_eq!(deleted["deleted_hex"], json!(["61fe"]));
    let (code, _, err) =
        run(&["mount".into(), store.clone(), "mnt".into(), "--snapshot".into(), bytes(b"c\xfd")]);
    assert!(code == Some(1) && err.contains("c\\xfd: no such snapshot"), "{err}");
    let (code, _, err) = run(&["mount".into(), store, "mnt".into(), "-o".into(), bytes(b"fly\xff")]);
    assert!(code == Some(2) && err.contains("'fly\\xff'"), "{err}");
    ok(&["umount".into(), point.clone()]);
    fs::remove_dir(p.dir.0.join(point)).expect("nothing is mounted there");
}

fn second_place(p: &Place) {
    let told = |args: &[&str], code: i32, words: &[&str]| {
        let (got, _, err) = p.run(args);
        assert!(got == code && words.iter().all(|w| err.contains(w)), "{args:?}: {got} {err}");
    };
    told(&["mount", "--ro", "store", "nowhere"], 1, &["nowhere does not exist"]);
    told(&["mount", "store", "mnt", "-o", "fsname="], 2, &["fsname= needs a text"]);
    let (code, _, err) = p.run(&["mount", "--backgroud", "store", "mnt"]);
    assert!(code == 2 && !err.contains("child"), "{err}");
    p.ok(&["mount", "store", "mnt", "-o", "commit=7"]);
    fs::write(p.path("mnt/f"), b"content").expect("write");
    let device = |name: &str| snapfs::fuse::mounts::at(&p.path(name)).expect("mounts").map(|m| m.device);
    if snapfs::sys::process::effective_uid() != 0 {
        told(&["mount", "store", "mnt2"], 1, &["in use by", &p.pid(), "mount --bind"]);
        p.ok(&["umount", "mnt"]);
        return;
    }
    told(&["mount", "store", "mnt2", "-o", "commit=5"], 1, &["in use by", &p.pid(), "commit"]);
    told(&["mount", "store", "mnt"], 1, &["a mount of snapfs already"]);
    p.ok(&["mount", "store", "mnt2", "-o", "ro,commit=7"]);
    assert_eq!(device("mnt"), device("mnt2"), "the same at both places");
    assert_eq!(fs::read(p.path("mnt2/f")).expect("read"), b"content");
    assert_eq!(fs::write(p.path("mnt2/g"), b"").err().and_then(|e| e.raw_os_error()), Some(libc::EROFS));
    fs::write(p.path("mnt/g"), b"").expect("the first place is as it was");
    told(&["mount", "store", "mnt", "-o", "remount,commit=5"], 1, &["mnt", "cannot change", "commit"]);
    p.ok(&["mount", "store", "mnt", "-r", "-o", "remount"]);
    assert!(fs::write(p.path("mnt/g"), b"").is_err());
    told(&["mount", "store", "mnt", "-o", "remount,fly"], 1, &["'fly'"]);
    // As mount(8) does, with what the kernel shows.
    p.ok(&["mount", "store", "mnt", "-o", "rw,remount,user_id=0,group_id=0,default_permissions,allow_other"]);
    fs::write(p.path("mnt/g"), b"").expect("write");
    p.ok(&["umount", "mnt"]); // does not wait: it is used at the second place
    assert!(!p.path("store/closed").exists());
    told(&["create", "mnt2", "one"], 1, &["mnt2 is read-only"]); // as `mkdir` there
    p.ok(&["create", "store", "one"]);
    p.ok(&["umount", "mnt2"]);
    assert!(p.path("store/closed").exists(), "the last place closes the store");
}

fn broken_pipe(p: &Place) {
    let (reader, writer) = std::io::pipe().expect("pipe");
    drop(reader);
    let status = p.command(&["check", "store"]).stdout(writer).status().expect("run");
    assert_eq!(status.code(), Some(0));
}
