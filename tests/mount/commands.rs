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
use snapfs::ops::{Error, KernelRef, Operations, Timestamp};
use snapfs::repair::{Mode, Repair};
use snapfs::salvage::{Content, Listener, Rescued, State, Summary, Wanted};
use std::fs;
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
        if options.access == Access::Look && !store.exists() {
            return Err(Failure::new(Code::NotFound, format!("{} is no store", store.display())));
        }
        fs::create_dir_all(store).map_err(|e| Failure::new(Code::Io, e.to_string()))?;
        Ok(Arc::new(ToyEngine(ToyFs::new(), store.canonicalize().unwrap_or_default())))
    }
    fn init(&self, store: &Path, options: &InitOptions) -> Result<Value, Failure> {
        Ok(json!({"store": store, "size_bytes": options.size}))
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
            state: if damaged { State::Damaged } else { State::Whole },
            content: Content { size: 1536, lost: vec![(4096, 512)], ..Content::default() },
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
    fn snapshots(&self) -> Result<Vec<SnapshotInfo>, Failure> {
        let names = self.0.points().into_iter().enumerate();
        Ok(names
            .map(|(i, n)| SnapshotInfo {
                name: String::from_utf8_lossy(&n).into_owned(),
                id: i as u64 + 1,
                created: Timestamp { secs: 1_767_225_599, nanos: 0 },
                referenced: 3 << 20,
                exclusive: 0,
                written: 1536,
            })
            .collect())
    }
    fn create(&self, name: &str) -> Result<SnapshotInfo, Failure> {
        self.0.make_point(name.as_bytes()).map_err(failure)?;
        let all = self.snapshots()?;
        all.into_iter().find(|s| s.name == name).ok_or_else(|| failure(Error::NotFound))
    }
    fn rename(&self, name: &str, new_name: &str) -> Result<(), Failure> {
        self.0.change_point(name.as_bytes(), Some(new_name.as_bytes())).map_err(failure)
    }
    fn delete(&self, name: &str) -> Result<(), Failure> {
        self.0.change_point(name.as_bytes(), None).map_err(failure)
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
    let checks: [(&str, Check); 8] = [
        ("a mount is used and unmounted", a_mount_is_used),
        ("failures are told with the right code", failures_are_told),
        ("a busy mount stays", a_busy_mount_stays),
        ("SIGTERM ends a mount, also a busy one", sigterm_ends),
        ("a dead mount is cleared away", a_dead_mount_is_cleared),
        ("stores without a daemon", offline),
        ("repair and salvage", rescue),
        ("a broken pipe is success", broken_pipe),
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
        for name in ["mnt", "run"] {
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
        let status: Value = serde_json::from_str(&self.ok(&["status", "mnt", "--json"])).expect("JSON");
        status["pid"].as_u64().expect("pid").to_string()
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
        let point = self.path("mnt");
        if snapfs::fuse::mounts::at(&point).is_ok_and(|m| m.is_some()) {
            eprintln!("lazy unmount: {:?}", snapfs::fuse::unmount(&point, true));
        }
        for name in ["store", "run"] {
            let _ = fs::remove_dir_all(self.path(name));
        }
        let _ = fs::remove_dir(point);
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
        "NAME   CREATED              REFERENCED  EXCLUSIVE  WRITTEN\n\
         one    2025-12-31 23:59:59     3.0 MiB        0 B  1.5 KiB\n\
         three  2025-12-31 23:59:59     3.0 MiB        0 B  1.5 KiB\n"
    );
    let list: Value = serde_json::from_str(&p.ok(&["list", "mnt", "--json"])).expect("JSON");
    assert_eq!(list[0]["created"], "2025-12-31T23:59:59Z");
    assert_eq!((&list[1]["name"], &list[1]["written"]), (&json!("three"), &json!(1536)));
    let (code, _, err) = p.run(&["create", "mnt", "one"]);
    assert_eq!((code, err.as_str()), (1, "snapfs: the toy says Exists\n"));
    p.ok(&["delete", "mnt", "one", "three"]);
    let (code, _, err) = p.run(&["delete", "mnt", "one"]);
    assert!(code == 1 && err.contains("NotFound"), "{err}");
    let all = p.ok(&["status"]);
    assert!(all.contains("/mnt") && all.contains("/store"), "{all}");
    assert!(p.ok(&["info", "mnt"]).contains("size: 1.0 GiB"));
    let shown = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    assert!(shown.contains(" - fuse.snapfs store "), "source and type");
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
    told(&["mount", "other", "mnt"], 1, "mnt is a mount of snapfs already, of store");
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
        "1 findings, nothing written",
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

fn broken_pipe(p: &Place) {
    let (reader, writer) = std::io::pipe().expect("pipe");
    drop(reader);
    let status = p.command(&["check", "store"]).stdout(writer).status().expect("run");
    assert_eq!(status.code(), Some(0));
}
