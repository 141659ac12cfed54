//! What is refused, and how it is said: bad stores, bad mount points, missing rights, missing parts, full disks.
//!
//! Each refusal is a sentence that names the thing and says what is wrong; the store's bytes are the same afterwards.
//! What needs root or tools that are not there is skipped, loudly.

mod guard;
mod place;
mod raw;

use guard::can_mount;
use place::{Place, Said, names, refuses, said, wait};
use snapfs::format::superblock::Superblock;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

/// Every whole superblock carries an XXH3 checksum with this seed over all of its slot but the checksum.
const SLOT_BYTES: usize = snapfs::format::superblock::SLOT_BYTES;
const SEED: u64 = 0x5342;

fn is_root() -> bool {
    snapfs::sys::process::effective_uid() == 0
}

fn skipped(why: &str) {
    eprintln!("SKIPPED: {why}");
}

/// The refusal must be a failure, in words that contain all of `words`, and one line.
#[track_caller]
fn told(said: Said, words: &[&str]) {
    let damaged = said.err.contains("damaged");
    assert!(said.code == 1 || damaged && said.code == 3, "{said:?}");
    for word in words {
        assert!(said.err.contains(word), "'{word}' in {said:?}");
    }
    assert!(said.err.starts_with("snapfs: ") && said.err.lines().count() == 1, "{said:?}");
    assert!(!said.err.contains("panicked"), "{said:?}");
}

/// A place with a store that has something in it, not mounted.
fn filled() -> Place {
    let p = Place::new();
    p.mount("");
    fill(&p);
    p.umount();
    p
}

fn fill(p: &Place) {
    let mut random = fastrand::Rng::with_seed(7);
    fs::create_dir(p.path("d")).unwrap();
    for i in 0..200 {
        let content: Vec<u8> = (0..random.usize(..20_000)).map(|_| random.u8(..)).collect();
        fs::write(p.path(&format!("d/file {i}")), content).unwrap();
    }
    fs::create_dir(p.path(".snapshots/one")).unwrap();
    fs::write(p.path("d/file 1"), "changed").unwrap();
    fs::create_dir(p.path(".snapshots/two")).unwrap();
}

/// Hash of everything readable in the mount and its snapshots; an error if anything cannot be read.
fn read_all(dir: &Path, hash: &mut u64) -> std::io::Result<()> {
    let mut list = fs::read_dir(dir)?.collect::<std::io::Result<Vec<_>>>()?;
    list.sort_by_key(|e| e.file_name());
    for entry in list {
        let mix = |hash: &mut u64, bytes: &[u8]| {
            for b in bytes {
                *hash = (*hash ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3);
            }
        };
        mix(hash, entry.file_name().as_encoded_bytes());
        if entry.file_type()?.is_dir() {
            read_all(&entry.path(), hash)?;
        } else {
            let mut content = Vec::new();
            File::open(entry.path())?.read_to_end(&mut content)?;
            mix(hash, &content);
        }
    }
    Ok(())
}

fn contents(p: &Place) -> std::io::Result<u64> {
    let mut hash = 7;
    for dir in [p.path(""), p.path(".snapshots/one"), p.path(".snapshots/two")] {
        read_all(&dir, &mut hash)?;
    }
    Ok(hash)
}

#[test]
fn what_is_no_store() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    let mount = |store: &str| p.run(&["mount", store, "mnt"]);
    fs::create_dir(p.at("foreign")).unwrap();
    fs::write(p.at("foreign/thesis.txt"), "years of work").unwrap();
    told(mount("foreign"), &["foreign", "no snapfs store", "thesis.txt", "empty directory"]);
    told(p.run(&["init", "foreign"]), &["foreign", "thesis.txt"]);
    told(p.run(&["check", "foreign"]), &["foreign"]);
    fs::write(p.at("text"), "not an image").unwrap();
    told(mount("text"), &["text", "no snapfs store"]);
    told(p.run(&["info", "text"]), &["text", "no snapfs store"]);
    fs::write(p.at("zeros.img"), vec![0; 64 << 20]).unwrap();
    told(mount("zeros.img"), &["zeros.img", "no snapfs store"]);
    File::create(p.at("empty.img")).unwrap();
    told(mount("empty.img"), &["empty.img", "init"]);
    // A directory of that name is not what is meant.
    for said in [mount("none.img"), p.run(&["init", "none.IMG"])] {
        told(said, &["no such image file", "snapfs init --size 100G none."]);
    }
    assert!(!p.at("none.img").exists() && !p.at("none.IMG").exists());
    told(mount("/dev/null"), &["/dev/null", "character device"]);
    told(mount("none/store"), &["none/store"]);
    std::os::unix::fs::symlink("nowhere", p.at("dangling")).unwrap();
    told(mount("dangling"), &["dangling", "link"]);
    assert_eq!(names(&p.at("foreign")), ["thesis.txt"]);
    assert_eq!(fs::read_to_string(p.at("foreign/thesis.txt")).unwrap(), "years of work");
    assert_eq!(fs::read_to_string(p.at("text")).unwrap(), "not an image");
    assert!(fs::symlink_metadata(p.at("nowhere")).is_err());
    for verb in ["list", "check", "info"] {
        told(p.run(&[verb, "nothing"]), &["nothing"]);
    }
}

#[test]
fn bad_mount_points() {
    if !can_mount() {
        return;
    }
    let p = filled();
    let before = p.fingerprint();
    told(p.run(&["mount", "store", "none"]), &["none", "does not exist", "mkdir"]);
    fs::write(p.at("file"), "x").unwrap();
    told(p.run(&["mount", "store", "file"]), &["file", "not a directory"]);
    assert_eq!(p.fingerprint(), before);
    p.mount("");
    told(p.run(&["mount", "other", "mnt"]), &["mnt", "already"]);
    assert!(!p.at("other").exists(), "no store is made in vain");
    p.umount();
    for options in ["fly", "cache=sometimes", "commit=0", "commit=x", "snapdir=", "cache_size=1"] {
        let said = p.run(&["mount", "store", "mnt", "-o", options]);
        assert!(said.code == 2 && said.err.contains(options.split('=').next().unwrap()), "{said:?}");
    }
    assert_eq!(p.fingerprint(), before);
}

#[test]
fn a_mount_point_in_its_store_or_above_it() {
    if !can_mount() {
        return;
    }
    let p = filled();
    for dir in ["store/in", "above", "other"] {
        fs::create_dir(p.at(dir)).unwrap();
    }
    std::os::unix::fs::symlink("store", p.at("link")).unwrap();
    p.ok(&["init", "above/image", "--size", "64M"]);
    let before = p.fingerprint();
    for (store, point, word) in [
        ("store", "store", "the store itself"),
        ("store", "link", "the store itself"),
        ("link", "other/../store/in", "inside"),
        ("store", ".", "above"),
        ("above/image", "above", "above"),
        ("above/new", "above", "above"),
    ] {
        told(p.run(&["mount", store, point]), &[word, "choose"]);
    }
    assert!(!p.at("above/new").exists() && p.fingerprint() == before);
    if is_root()
        && Command::new("mount")
            .arg("--bind")
            .arg(p.at("store/in"))
            .arg(p.at("other"))
            .status()
            .unwrap()
            .success()
    {
        let said = p.run(&["mount", "store", "other"]);
        assert!(Command::new("umount").arg(p.at("other")).status().unwrap().success());
        told(said, &["inside", "choose"]);
    }
    fs::remove_dir(p.at("store/in")).unwrap();
}

/// Changes every superblock slot that is in use, and seals it again.
fn patch_slots(p: &Place, change: impl Fn(&mut [u8])) {
    for name in ["store/super.a", "store/super.b"] {
        let mut ring = fs::read(p.at(name)).unwrap();
        for slot in ring.chunks_exact_mut(SLOT_BYTES).filter(|s| Superblock::decode(s).is_ok()) {
            change(slot);
            let sum = xxhash_rust::xxh3::xxh3_64_with_seed(&slot[8..], SEED);
            slot[..8].copy_from_slice(&sum.to_le_bytes());
        }
        fs::write(p.at(name), ring).unwrap();
    }
}

#[test]
fn a_newer_format() {
    if !can_mount() {
        return;
    }
    let p = filled();
    // version at 16, read-only compatible features at 32, incompatible ones at 40
    patch_slots(&p, |slot| slot[16] = 9);
    let before = p.fingerprint();
    for options in ["rw", "ro"] {
        told(p.mount_said(options), &["store", "version 9", "newer snapfs"]);
    }
    told(p.run(&["check", "store"]), &["version 9"]);
    told(p.run(&["init", "store"]), &["store"]);
    assert_eq!(p.fingerprint(), before);

    patch_slots_of_any(&p, |slot| (slot[16], slot[47]) = (1, 0x80));
    told(p.mount_said("ro"), &["features", "newer snapfs"]);
    patch_slots_of_any(&p, |slot| (slot[47], slot[32]) = (0, 4));
    let before = p.fingerprint();
    let said = p.mount_said("rw");
    if said.code == 0 {
        refuses(fs::write(p.path("x"), "x"), libc::EROFS);
        p.umount();
    } else {
        told(said, &["features"]);
    }
    p.mount("ro");
    contents(&p).unwrap();
    p.umount();
    assert_eq!(p.fingerprint(), before);
}

/// The same for slots that are already foreign.
fn patch_slots_of_any(p: &Place, change: impl Fn(&mut [u8])) {
    for name in ["store/super.a", "store/super.b"] {
        let mut ring = fs::read(p.at(name)).unwrap();
        for slot in ring.chunks_exact_mut(SLOT_BYTES).filter(|s| s.iter().any(|b| *b != 0)) {
            change(slot);
            let sum = xxhash_rust::xxh3::xxh3_64_with_seed(&slot[8..], SEED);
            slot[..8].copy_from_slice(&sum.to_le_bytes());
        }
        fs::write(p.at(name), ring).unwrap();
    }
}

#[test]
fn missing_and_cut_files() {
    if !can_mount() {
        return;
    }
    let p = filled();
    let keep = |from: &str, to: &str| {
        let _ = fs::remove_dir_all(p.at(to));
        let said = said(Command::new("cp").arg("-a").arg(p.at(from)).arg(p.at(to)));
        assert_eq!(said.code, 0, "{said:?}");
    };
    keep("store", "good");
    let refused = |words: &[&str]| {
        let before = p.fingerprint();
        let said = p.run(&["check", "store"]);
        assert!(matches!(said.code, 1 | 3), "{said:?}");
        let said = p.mount_said("");
        if said.code == 0 {
            assert!(contents(&p).is_err(), "damage must show");
            p.umount();
        } else {
            told(said, words);
            assert_eq!(p.fingerprint(), before, "nothing changed");
        }
        keep("good", "store");
    };
    fs::remove_file(p.at("store/seg/00000000")).unwrap();
    refused(&["store"]);
    fs::remove_dir_all(p.at("store/seg")).unwrap();
    refused(&["store"]);
    OpenOptions::new().write(true).open(p.at("store/seg/00000000")).unwrap().set_len(0x11_0000).unwrap();
    refused(&["store"]);
    for name in ["super.a", "super.b"] {
        fs::write(p.at("store").join(name), vec![0xA5; 512 << 10]).unwrap();
    }
    refused(&["no snapfs store", "superblock"]);
    // One ring is enough.
    for name in ["super.a", "super.b"] {
        fs::write(p.at("store").join(name), vec![0xA5; 512 << 10]).unwrap();
        p.mount("");
        contents(&p).unwrap();
        p.umount();
        keep("good", "store");
        fs::remove_file(p.at("store").join(name)).unwrap();
        let said = p.mount_said("");
        if said.code == 0 {
            contents(&p).unwrap();
            p.umount();
        } else {
            told(said, &["store", name]);
        }
        keep("good", "store");
    }
}

#[test]
fn a_truncated_image() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.ok(&["init", "disk.img", "--size", "64M"]);
    p.ok(&["mount", "disk.img", "mnt"]);
    fill(&p);
    p.umount();
    let image = OpenOptions::new().write(true).open(p.at("disk.img")).unwrap();
    for len in [40u64 << 20, 2 << 20, 1 << 20, 4096] {
        image.set_len(len).unwrap();
        let before = fs::read(p.at("disk.img")).unwrap();
        told(p.run(&["mount", "disk.img", "mnt"]), &["disk.img"]);
        let said = p.run(&["check", "disk.img"]);
        assert!(matches!(said.code, 1 | 3), "{said:?}");
        assert!(fs::read(p.at("disk.img")).unwrap() == before);
    }
}

#[test]
fn a_flipped_byte_never_passes() {
    if !can_mount() {
        return;
    }
    let p = filled();
    p.mount("ro");
    let good = contents(&p).unwrap();
    p.umount();
    let segment = OpenOptions::new().read(true).write(true).open(p.at("store/seg/00000000")).unwrap();
    let len = segment.metadata().unwrap().len();
    let mut random = fastrand::Rng::with_seed(11);
    let (mut refused, mut failed, mut unused, mut place) = (0, 0, 0, 0);
    for _ in 0..120 {
        // Nothing is in most of the file, but where something was written.
        let mut block = [0; 4096];
        while block == [0; 4096] {
            let at = random.u64((1 << 20) / 4096..len / 4096) * 4096;
            segment.read_exact_at(&mut block, at).unwrap();
            place = at;
        }
        let at = place + random.u64(..4096);
        let mut byte = [0];
        segment.read_exact_at(&mut byte, at).unwrap();
        segment.write_all_at(&[byte[0] ^ 1 << random.u8(..8)], at).unwrap();
        let said = p.mount_said("ro");
        if said.code != 0 {
            told(said, &["store"]);
            refused += 1;
        } else {
            match contents(&p) {
                Ok(found) => {
                    assert_eq!(found, good, "the byte at {at:#x} changed what is read");
                    unused += 1;
                }
                Err(e) => {
                    assert_eq!(e.raw_os_error(), Some(libc::EIO), "{at:#x}: {e}");
                    failed += 1;
                }
            }
            p.umount();
        }
        segment.write_all_at(&byte, at).unwrap();
    }
    eprintln!("{refused} mounts refused, {failed} reads failed, {unused} bytes were not in use");
    assert!(failed > 0);
    p.check();
}

/// Runs a command as a user without rights, in the place; None where that cannot be.
fn as_nobody(p: &Place, args: &[&str]) -> Option<Said> {
    if !is_root() || !Path::new("/usr/bin/setpriv").exists() {
        skipped("no root or no setpriv: nothing is run as another user");
        return None;
    }
    fs::set_permissions(&p.dir.0, fs::Permissions::from_mode(0o755)).unwrap();
    // The build directory may be closed to others.
    let program = p.at("snapfs");
    if !program.exists() {
        // Not copied here: a process that another test starts meanwhile would have it open for writing.
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_snapfs")).arg(&program).status();
        assert!(copied.unwrap().success());
    }
    let runtime = p.at("run-nobody");
    if !runtime.exists() {
        fs::create_dir(&runtime).unwrap();
        fs::set_permissions(&runtime, fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::chown(&runtime, Some(65534), Some(65534)).unwrap();
    }
    let mut command = Command::new("/usr/bin/setpriv");
    p.settle(&mut command)
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .args(args);
    Some(said(command.env("SNAPFS_RUNTIME_DIR", &runtime)))
}

/// What looks at a mount or a store, and makes none.
const LOOKING: [[&str; 4]; 5] = [
    ["list", "DIR", "--json", "--clones"],
    ["diff", "DIR", "first", "@live"],
    ["log", "DIR", "--since", "first"],
    ["changes", "DIR", "--since", "first"],
    ["show", "DIR", "first", "--json"],
];

#[test]
fn a_directory_that_is_nothing_of_ours() {
    let p = Place::new();
    fs::create_dir(p.at("plain")).unwrap();
    fs::write(p.at("plain/file"), "x").unwrap();
    for args in LOOKING {
        let said = p.run(&args.map(|arg| if arg == "DIR" { "plain" } else { arg }));
        assert!(
            said.code != 0 && said.err.contains("neither in a mount of snapfs nor a store"),
            "{args:?}: {said:?}"
        );
    }
    told(p.run(&["check", "plain"]), &["neither in a mount of snapfs nor a store"]);
    // Who is about to mount wants to know where a new store may be.
    told(p.run(&["mount", "plain", "mnt"]), &["new or empty directory"]);
}

#[test]
fn without_the_right() {
    if !can_mount() {
        return;
    }
    let p = filled();
    fs::set_permissions(p.at("store"), fs::Permissions::from_mode(0o700)).unwrap();
    let before = p.fingerprint();
    for verb in [vec!["mount", "store", "mnt"], vec!["check", "store"], vec!["list", "store"]] {
        let Some(said) = as_nobody(&p, &verb) else { return };
        told(said, &["store", "ermission denied"]);
    }
    if let Some(said) = as_nobody(&p, &["mount", "new", "mnt"]) {
        told(said, &["new", "ermission denied"]);
    }
    assert_eq!(p.fingerprint(), before);
    // Somebody else's mount: may be used as far as the files allow, not be managed.
    p.mount("allow_other");
    let Some(said) = as_nobody(&p, &["create", "mnt", "mine"]) else { return };
    assert_eq!(said.code, 1, "{said:?}");
    for args in LOOKING {
        let Some(said) = as_nobody(&p, &args.map(|arg| if arg == "DIR" { "mnt" } else { arg })) else {
            return;
        };
        assert!(said.code != 0 && said.err.contains("in the mount of root at "), "{args:?}: {said:?}");
    }
    assert_eq!(p.json(&["list", "mnt", "--json"]).as_array().unwrap().len(), 2);
    let mkdir = ["--reuid=65534", "--regid=65534", "--clear-groups", "mkdir"];
    let said = place::said(p.settle(&mut Command::new("setpriv")).args(mkdir).arg(p.path(".snapshots/mine")));
    assert!(said.code == 1 && said.err.contains("ermi"), "{said:?}");
    p.umount();
}

#[test]
fn snapshots_of_others() {
    if !can_mount() {
        return;
    }
    let p = filled();
    p.mount("allow_other");
    let chmod =
        |name: &str, mode| fs::set_permissions(p.path(name), fs::Permissions::from_mode(mode)).unwrap();
    let made = [("secret", 0o600), ("set-id", 0o4755), ("group", 0o2755), ("open", 0o644)];
    for (name, mode) in made {
        fs::write(p.path(name), name).unwrap();
        chmod(name, mode);
    }
    fs::create_dir(p.path("closed")).unwrap();
    fs::write(p.path("closed/inside"), "x").unwrap();
    chmod("closed", 0o700);
    p.snapshot("theirs");
    // Whatever becomes of the live files, the picture has the rights of its time.
    made.iter().for_each(|(name, _)| chmod(name, 0o777));
    for (name, mode) in made {
        assert_eq!(
            fs::metadata(p.past("theirs", name)).unwrap().permissions().mode() & 0o7777,
            mode,
            "{name}"
        );
    }
    let nobody = |args: &[&str], path: std::path::PathBuf| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).args(args).arg(path);
        place::said(p.settle(&mut command))
    };
    if !is_root() {
        return skipped("no root: no other user to be");
    }
    let denied = |said: Said| assert!(said.code != 0 && said.err.contains("ermi"), "{said:?}");
    assert_eq!(nobody(&["cat"], p.past("theirs", "open")).out, "open");
    denied(nobody(&["cat"], p.past("theirs", "secret")));
    denied(nobody(&["ls"], p.past("theirs", "closed")));
    denied(nobody(&["mkdir"], p.path(".snapshots/mine")));
    denied(nobody(&["rmdir"], p.path(".snapshots/theirs")));
    denied(nobody(&["mv", "-T", p.path(".snapshots/theirs").to_str().unwrap()], p.path(".snapshots/mine")));
    assert!(p.past("theirs", "open").exists());
    p.umount();
}

#[test]
fn members_of_a_group_make_and_delete_snapshots() {
    if !can_mount() {
        return;
    }
    if !is_root() || !Path::new("/usr/bin/setpriv").exists() {
        return skipped("no root or no setpriv: no other user to be");
    }
    use std::os::unix::fs::MetadataExt;
    let p = filled();
    for options in ["snap_create=7,snap_delete=8", "snap_create=no-such-group"] {
        let said = p.mount_said(options);
        assert!(said.code == 2 && said.err.contains("group"), "{said:?}");
    }
    // Somebody in a group besides his own, or not.
    let by = |groups: &str, args: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534"]).arg(format!("--groups={groups}")).args(args);
        place::said(p.settle(&mut command))
    };
    let (member, other) = (|args: &[&str]| by("54321", args), |args: &[&str]| by("54322", args));
    let denied = |said: Said| assert!(said.code != 0 && said.err.contains("ermi"), "{said:?}");
    let done = |said: Said| assert!(said.code == 0, "{said:?}");
    let shown = || {
        let snapdir = fs::metadata(p.path(".snapshots")).unwrap();
        (snapdir.mode() & 0o7777, snapdir.gid())
    };
    let change = |who: &dyn Fn(&[&str]) -> Said, told: &dyn Fn(Said)| {
        told(who(&["mv", "-T", "mnt/.snapshots/one", "mnt/.snapshots/moved"]));
        told(who(&["rmdir", "mnt/.snapshots/two"]));
    };
    p.mount("allow_other,snap_create=54321");
    assert_eq!(shown(), (0o1775, 54321));
    done(member(&["mkdir", "mnt/.snapshots/theirs"]));
    denied(other(&["mkdir", "mnt/.snapshots/others"]));
    change(&member, &denied);
    change(&other, &denied);
    denied(member(&["rmdir", "mnt/.snapshots/theirs"]));
    // Nothing else in the mount is theirs, and below the root it is as it was.
    denied(member(&["mkdir", "mnt/dir"]));
    denied(member(&["mkdir", "mnt/.clones/c"]));
    denied(member(&["mkdir", "mnt/d/.snapshots/below"]));
    assert_eq!(names(&p.path(".snapshots")), ["one", "two", "theirs"]);
    p.umount();
    p.mount("allow_other,snap_delete=54321");
    assert_eq!(shown(), (0o775, 54321));
    p.ok(&["hold", "mnt", "theirs"]);
    done(member(&["mkdir", "mnt/.snapshots/more"]));
    change(&other, &denied);
    change(&member, &done);
    let held = member(&["rmdir", "mnt/.snapshots/theirs"]);
    assert!(held.code != 0 && held.err.contains("busy"), "{held:?}");
    assert_eq!(names(&p.path(".snapshots")), ["moved", "theirs", "more"]);
    p.umount();
    p.mount("allow_other");
    assert_eq!(shown(), (0o755, 0));
    denied(member(&["mkdir", "mnt/.snapshots/again"]));
    p.umount();
    p.check();
}

#[test]
fn a_daemon_keeps_only_what_it_needs() {
    if !can_mount() {
        return;
    }
    let p = filled();
    p.mount("");
    let pid = p.pid();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = |key: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("{key} in {status}")).trim().to_string()
    };
    assert_eq!(value("Umask"), "0077");
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|l| l.starts_with("Max core file size")).unwrap();
    assert!(core.split_whitespace().rev().take(3).any(|word| word == "0"), "{core}");
    if is_root() {
        assert_eq!(value("NoNewPrivs"), "1");
        // To unmount, to reach a store that belongs to somebody else, and to schedule its own threads.
        for set in ["CapEff", "CapPrm"] {
            assert_eq!(
                u64::from_str_radix(&value(set), 16).unwrap() & !0xa0_000e,
                0,
                "{set}: {}",
                value(set)
            );
        }
        assert_eq!(u64::from_str_radix(&value("CapInh"), 16).unwrap(), 0);
    }
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for (path, _) in p.fingerprint() {
        assert_eq!(mode(&path) & 0o077, 0, "{}", path.display());
    }
    assert_eq!(mode(&p.at("run")), 0o700);
    for entry in fs::read_dir(p.at("run")).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    p.umount();
}

#[test]
fn without_fusermount() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    if !is_root() {
        return skipped("no root: fusermount3 cannot be hidden");
    }
    fs::create_dir(p.at("home")).unwrap();
    for name in ["home", "mnt"] {
        std::os::unix::fs::chown(p.at(name), Some(65534), Some(65534)).unwrap();
    }
    let Some(said) = as_nobody(&p, &["status"]) else { return };
    assert_eq!(said.code, 0, "{said:?}");
    // Where fusermount3 is, an empty file system lies over it, for this command alone.
    let script = format!(
        "for f in /usr/bin/fusermount3 /bin/fusermount3 /usr/bin/fusermount /bin/fusermount; do \
           [ ! -e $f ] || mount --bind /dev/null $f; done; \
         exec setpriv --reuid=65534 --regid=65534 --clear-groups {} mount home/store mnt",
        p.at("snapfs").display()
    );
    let mut command = Command::new("unshare");
    p.settle(&mut command).args(["-m", "sh", "-c", &script]).env("SNAPFS_RUNTIME_DIR", p.at("run-nobody"));
    told(place::said(&mut command), &["fusermount3", "fuse3"]);
    assert!(!p.at("home/store").exists() || names(&p.at("home/store/seg")).len() <= 2);
}

#[test]
fn a_user_without_rights_mounts() {
    if !can_mount() {
        return;
    }
    if !Path::new("/usr/bin/fusermount3").exists() {
        return skipped("no fusermount3: no mount for a normal user");
    }
    let p = Place::new();
    for name in ["home", "mnt"] {
        let _ = fs::create_dir(p.at(name));
        let _ = std::os::unix::fs::chown(p.at(name), Some(65534), Some(65534));
    }
    let Some(said) = as_nobody(&p, &["mount", "home/store", "mnt"]) else { return };
    if said.err.contains("no permission to open /dev/fuse") {
        return skipped("/dev/fuse is closed to users here");
    }
    assert!(said.code == 0 && said.err.is_empty(), "{said:?}");
    fs::create_dir(p.at("second")).unwrap();
    std::os::unix::fs::chown(p.at("second"), Some(65534), Some(65534)).unwrap();
    let second = as_nobody(&p, &["mount", "home/store", "second"]).expect("as before");
    told(second, &["home/store", "in use by process", "serves it at", "mount --bind"]);
    let script =
        "echo one > mnt/f && mkdir mnt/.snapshots/a && echo two > mnt/f && cat mnt/.snapshots/a/f mnt/f";
    let mut shell = Command::new("setpriv");
    let rights = ["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", script];
    let said = place::said(p.settle(&mut shell).args(rights));
    assert!(said.code == 0 && said.out == "one\ntwo\n", "{said:?}");
    refuses(fs::read_dir(p.path("")), libc::EACCES); // not for others, root among them
    let end = as_nobody(&p, &["umount", "mnt"]).expect("as before");
    assert!(end.code == 0 && end.err.is_empty(), "{end:?}");
    let check = as_nobody(&p, &["check", "home/store"]).expect("as before");
    assert_eq!(check.code, 0, "{check:?}");
}

#[test]
fn without_dev_fuse() {
    if !can_mount() {
        return;
    }
    let p = filled();
    if !is_root() {
        return skipped("no root: /dev/fuse cannot be hidden");
    }
    let before = p.fingerprint();
    let program = env!("CARGO_BIN_EXE_snapfs");
    let hide = |how: &str| {
        let script = format!("{how} && exec {program} mount store mnt");
        let mut command = Command::new("unshare");
        said(p.settle(&mut command).args(["-m", "sh", "-c", &script]))
    };
    told(hide("mount --bind /dev/null /dev/fuse"), &["/dev/fuse"]);
    told(hide("mount -t tmpfs none /dev && mknod /dev/null c 1 3"), &["/dev/fuse", "modprobe fuse"]);
    assert_eq!(p.fingerprint(), before);
}

/// A store that gets full: what was written stays, deleting works, then writing works again.
fn fills_up(p: &Place, store: &str) {
    p.ok(&["mount", store, "mnt"]);
    let block: Vec<u8> = (0..256 << 10)
        .map({
            let mut random = fastrand::Rng::with_seed(3);
            move |_| random.u8(..)
        })
        .collect();
    let write = |name: &str| -> std::io::Result<()> {
        let mut file = File::create(p.path(name))?;
        file.write_all(&block)?;
        file.sync_all()
    };
    let mut whole = 0;
    for round in 0..3 {
        let first = whole;
        while let Ok(()) = write(&format!("f{whole}")) {
            whole += 1;
            assert!(whole < 2000, "this store is never full");
        }
        // What a commit gives back takes a little more, now and then.
        let mut more = 0;
        let refused = loop {
            match write(&format!("again{more}")) {
                Ok(()) => more += 1,
                refused => break refused,
            }
        };
        refuses(refused, libc::ENOSPC);
        assert!(more <= 4, "round {round}: {more} files fitted after the store was full");
        assert!(whole - first > 10, "round {round}: {} files fitted", whole - first);
        for i in first..whole {
            assert!(fs::read(p.path(&format!("f{i}"))).unwrap() == block, "f{i} is whole");
        }
        // On a full store a snapshot may be refused, but not half-made.
        let snapshot = p.path(".snapshots").join(format!("s{round}"));
        if let Err(e) = fs::create_dir(&snapshot) {
            assert_eq!(e.raw_os_error(), Some(libc::ENOSPC));
            fs::remove_file(p.path(&format!("f{first}"))).unwrap();
            wait("room for a snapshot", || fs::create_dir(&snapshot).is_ok());
        }
        for i in first..whole {
            let gone = fs::remove_file(p.path(&format!("f{i}")));
            assert!(gone.is_ok() || i == first, "f{i}: {gone:?}");
        }
        for n in 0..=more {
            let _ = fs::remove_file(p.path(&format!("again{n}")));
        }
        let _ = fs::remove_file(p.path(&format!("f{whole}")));
        fs::remove_dir(&snapshot).expect("deleting works on a full store");
        p.wait_freed();
    }
    wait("room", || write("after all").is_ok());
    assert!(fs::read(p.path("after all")).unwrap() == block);
    p.umount();
    let said = p.run(&["check", store, "--data"]);
    assert_eq!(said.code, 0, "{said:?}");
}

#[test]
fn a_full_image() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.ok(&["init", "disk.img", "--size", "64M"]);
    fills_up(&p, "disk.img");
}

#[test]
fn a_full_disk_under_a_directory() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    if !is_root() {
        return skipped("no root: no small file system for a store");
    }
    fs::create_dir(p.at("small")).unwrap();
    let tmpfs =
        said(Command::new("mount").args(["-t", "tmpfs", "-o", "size=48m", "none"]).arg(p.at("small")));
    if tmpfs.code != 0 {
        return skipped("no right to mount a tmpfs");
    }
    let undo = Undo(&p);
    fills_up(&p, "small/store");
    drop(undo);
}

/// Unmounts the small file system, also after a failure.
struct Undo<'a>(&'a Place);

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.0.run(&["umount", "mnt"]);
        }
        let _ = said(Command::new("umount").arg(self.0.at("small")));
    }
}
