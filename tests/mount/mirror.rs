//! A store on two devices, on a real mount: a directory mirrored to an image file.

mod guard;
mod place;
mod raw;
mod rotting;

use guard::can_mount;
use place::{Loop, Place, wait};
use serde_json::Value;
use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Content that tells its place.
fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..len).map(|_| random.u8(..)).collect()
}

/// A place with an image for a second side, large enough for second copies, which lie 1 GiB away.
fn with_image() -> Place {
    let p = Place::new();
    File::create(p.at("two.img")).and_then(|f| f.set_len(4 << 30)).expect("an image");
    p
}

fn status(p: &Place) -> Value {
    p.json(&["mirror", "status", "mnt", "--json"])
}

fn attach(p: &Place) {
    let said = p.run(&["mirror", "attach", "mnt", "two.img", "--wait"]);
    assert!(said.code == 0 && said.out.contains("in sync"), "{said:?}");
    assert_eq!(status(p)["in_sync"], true);
}

/// The same is on both sides.
fn is_same(p: &Place, case: &str) {
    let verified = p.json(&["mirror", "verify", "mnt", "--json"]);
    assert_eq!(verified["differing"], serde_json::json!([]), "{case}");
}

/// Mounts a store, given by its name, in the place of the usual one.
fn mount_of(p: &Place, store: &str, options: &[&str]) -> place::Said {
    let log = p.at("log");
    let mut args = vec!["mount", store, "mnt", "--log", log.to_str().expect("text")];
    if !options.is_empty() {
        args.push("-o");
        args.extend(options);
    }
    p.run(&args)
}

fn write_durably(path: &Path, content: &[u8]) {
    fs::write(path, content).expect("write");
    File::open(path).and_then(|f| f.sync_all()).expect("fsync");
}

#[test]
fn either_side_alone_is_the_store_and_the_other_comes_back() {
    if !can_mount() {
        return;
    }
    let p = with_image();
    p.mount("");
    write_durably(&p.path("before"), &pattern(3 << 20, 1));
    p.snapshot("first");
    attach(&p);
    write_durably(&p.path("both"), &pattern(1 << 20, 2));
    let verified = p.json(&["mirror", "verify", "mnt", "--json"]);
    assert!(verified["compared_bytes"].as_u64() > Some(3 << 20), "{verified}");
    assert_eq!(verified["differing"], serde_json::json!([]));
    p.kill();

    // The image alone, while the directory is away.
    fs::rename(p.at("store"), p.at("away")).unwrap();
    assert_eq!(mount_of(&p, "two.img", &[]).code, 0);
    assert!(p.log().contains("goes on alone"), "{}", p.log());
    assert_eq!(fs::read(p.path("before")).unwrap(), pattern(3 << 20, 1));
    assert_eq!(fs::read(p.path("both")).unwrap(), pattern(1 << 20, 2));
    assert_eq!(status(&p)["in_sync"], false);
    write_durably(&p.path("alone"), b"on the image");
    p.umount();

    // The directory is back, and behind: whichever is named, the newer is served and the other filled.
    fs::rename(p.at("away"), p.at("store")).unwrap();
    p.mount("");
    assert_eq!(fs::read(p.path("alone")).unwrap(), b"on the image");
    wait("both in sync", || status(&p)["in_sync"] == true);
    let filled = status(&p)["copied_bytes"].as_u64().unwrap();
    assert!(filled < 3 << 20, "{filled} bytes were copied, though little had changed");
    write_durably(&p.path("again"), b"on both");
    p.umount();
    p.check();
    assert_eq!(p.run(&["check", "two.img", "--data"]).code, 0);

    // Both went on alone: neither wins by itself.
    for (store, name) in [("store", "mine"), ("two.img", "other")] {
        assert_eq!(mount_of(&p, store, &["mirror=alone"]).code, 0);
        write_durably(&p.path(name), name.as_bytes());
        p.umount();
    }
    let said = p.mount_said("");
    assert!(said.code == 1 && said.err.contains("both sides") && said.err.contains("two.img"), "{said:?}");
    // Who only reads one of them is told.
    assert_eq!(mount_of(&p, "store", &["ro"]).code, 0);
    for told in [p.ok(&["status", "mnt"]), p.ok(&["mirror", "status", "mnt"])] {
        assert!(told.contains("both sides went on alone") && told.contains("two.img"), "{told}");
    }
    assert_eq!(status(&p)["stands"], "both ahead");
    p.umount();
    assert_eq!(mount_of(&p, "store", &["mirror=alone"]).code, 0);
    let two = p.at("two.img");
    let with = ["mirror", "resync", "mnt", "--with", two.to_str().unwrap(), "--wait"];
    let said = p.run(&[&with[..4], &[with[4], "--discard", "--dry-run"]].concat());
    assert!(said.code == 0 && said.out.contains("other") && said.out.contains("lost"), "{said:?}");
    assert_eq!(status(&p)["in_sync"], false, "nothing was done");
    let said = p.run(&[&with[..], &["--discard"]].concat());
    assert!(said.code == 0 && said.out.contains("in sync"), "{said:?}");
    assert!(p.path("mine").exists() && !p.path("other").exists());
    assert_eq!(fs::read_dir(p.path(".clones")).unwrap().count(), 0);
    p.umount();
    p.check();

    // Once more, and nobody mounts them: the image is kept this time.
    for (store, name) in [("store", "mine2"), ("two.img", "other2")] {
        assert_eq!(mount_of(&p, store, &["mirror=alone"]).code, 0);
        write_durably(&p.path(name), name.as_bytes());
        p.umount();
    }
    let said = p.run(&["mirror", "resync", "store", "--keep", "two.img"]);
    assert!(said.code == 0 && said.out.contains("in sync"), "{said:?}");
    assert!(said.out.contains("received: live in .clones/store"), "{said:?}");
    p.mount("");
    assert_eq!(status(&p)["in_sync"], true);
    assert!(p.path("other2").exists() && !p.path("mine2").exists());
    assert_eq!(fs::read(p.path(".clones/store/mine2")).unwrap(), b"mine2");
    p.umount();
    p.check();
}

#[test]
fn a_split_makes_two_stores_and_a_resync_one_again() {
    if !can_mount() {
        return;
    }
    let p = with_image();
    p.mount("");
    write_durably(&p.path("file"), &pattern(8 << 20, 3));
    let identity = p.json(&["info", "mnt", "--json"])["uuid"].clone();
    let said = p.run(&["mirror", "split", "mnt", "early"]);
    assert!(said.code == 1 && said.err.contains("not in sync"), "{said:?}");
    assert!(!p.path(".snapshots/early").exists(), "nothing is left");
    attach(&p);
    let made = p.json(&["mirror", "split", "mnt", "moment", "--json"]);
    assert_eq!(made["name"], "moment");
    let told = |image: &str| {
        let shown = p.json(&["show", "mnt", "moment", "--json"]);
        assert!(shown["method"] == "mirror" && shown["state"] == "copied", "{shown}");
        assert_eq!(shown["copies"].as_array().unwrap().len(), 1, "{shown}");
        assert!(shown["copies"][0]["to"].as_str().unwrap().ends_with(image), "{shown}");
        shown["copies"][0]["store"].clone()
    };
    let other = told("/two.img");
    write_durably(&p.path("here"), b"only here");
    assert_eq!(status(&p)["mirrored"], false);
    p.umount();
    assert_eq!(mount_of(&p, "two.img", &[]).code, 0);
    assert_ne!(p.json(&["info", "mnt", "--json"])["uuid"], identity, "it has an identity of its own");
    assert_eq!(
        (p.json(&["info", "mnt", "--json"])["uuid"].clone(), told("/store")),
        (other, identity.clone())
    );
    assert_eq!(fs::read(p.past("moment", "file")).unwrap(), pattern(8 << 20, 3));
    assert!(!p.path("here").exists());
    // A snapshot and a clone are made there, of the names that others have here, and everything goes on.
    let (there, later) = (pattern(12 << 20, 5), pattern(6 << 20, 6));
    write_durably(&p.path("there"), &there);
    p.snapshot("again");
    p.ok(&["clone", "mnt", "tried"]);
    write_durably(&p.path(".clones/tried/tried"), b"in a clone there");
    write_durably(&p.path("later"), &later);
    p.snapshot("more");
    fs::remove_file(p.path("file")).unwrap();
    p.umount();
    assert_eq!(p.run(&["check", "two.img", "--data"]).code, 0);

    p.mount("");
    assert_eq!(fs::read(p.past("moment", "file")).unwrap(), pattern(8 << 20, 3));
    let here = pattern(10 << 20, 7);
    write_durably(&p.path("here"), &here);
    p.snapshot("again");
    p.snapshot("more");
    p.ok(&["clone", "mnt", "tried"]);
    let resync = ["mirror", "resync", "mnt", "--with", "two.img"];
    let told = p.json(&[&resync[..], &["--dry-run", "--json"]].concat());
    let own = told["own"].as_str().unwrap();
    assert!(own.contains("there") && own.contains("later") && own.contains("again"), "{told}");
    assert_eq!(status(&p)["in_sync"], false, "nothing was done");
    assert!(!p.path(".clones/two.img").exists());
    let did = p.run(&[&resync[..], &["--wait"]].concat());
    assert!(did.code == 0 && did.out.contains("in sync"), "{did:?}");
    // What is a side again is no copy.
    let shown = p.json(&["show", "mnt", "moment", "--json"]);
    assert!(shown["method"] == "mirror" && shown["state"] == "here alone", "{shown}");
    // All that it had is here, under names that say where it was when they were taken.
    let names =
        ["again-from-two.img", "more-from-two.img", "live"].map(|name| format!("{name} in .clones/two.img"));
    let would = names_received(&told);
    assert!(
        ["again-from-two.img", "more-from-two.img"].iter().all(|name| would.contains(&(*name).into())),
        "{told}"
    );
    for name in names {
        assert!(did.out.contains(&format!("received: {name}")), "{name}: {did:?}");
    }
    let two = |path: &str| p.path(".clones/two.img").join(path);
    assert_eq!(fs::read(two("there")).unwrap(), there);
    assert_eq!(fs::read(two("later")).unwrap(), later);
    assert!(!two("file").exists() && !two("here").exists());
    assert!(!two(".snapshots/again-from-two.img/later").exists());
    assert_eq!(fs::read(two(".snapshots/again-from-two.img/there")).unwrap(), there);
    assert_eq!(fs::read(two(".snapshots/again-from-two.img/file")).unwrap(), pattern(8 << 20, 3));
    assert_eq!(fs::read(two(".snapshots/live/later")).unwrap(), later);
    assert_eq!(fs::read(p.path(".clones/tried-from-two.img/tried")).unwrap(), b"in a clone there");
    assert_eq!(fs::read(p.path("here")).unwrap(), here);
    assert_eq!(fs::read(p.path("file")).unwrap(), pattern(8 << 20, 3));
    // What either has written since, and no more.
    let changed = (there.len() + later.len() + here.len()) as u64;
    let copied = status(&p)["copied_bytes"].as_u64().unwrap();
    assert!(copied * 10 <= changed * 11, "{copied} bytes were copied, and {changed} had changed");
    let told = told["copy_bytes"].as_u64().unwrap() + told["receive_bytes"].as_u64().unwrap();
    assert!(told <= changed * 11 / 10 && told * 10 >= changed * 9, "{told} of {changed}");
    is_same(&p, "");
    // What was split off before is there after this, and after another split that is brought in line: on both sides, as is seen below.
    let moment = pattern(8 << 20, 3);
    let early = |names: &[&str]| {
        for name in names {
            assert!(fs::read(p.past(name, "file")).unwrap() == moment, "{name}");
        }
        assert!(!p.past("moment", "here").exists());
        let was_then = fs::read(p.past("second", "then")).map(|then| then == b"second");
        assert!(!names.contains(&"second") || was_then.is_ok_and(|was| was));
    };
    early(&["moment"]);
    write_durably(&p.path("then"), b"second");
    p.ok(&["create", "mnt", "second", "--method", "mirror"]);
    write_durably(&p.path("then"), b"later");
    let did = p.run(&[&resync[..], &["--wait"]].concat());
    assert!(did.code == 0 && did.out.contains("in sync"), "{did:?}");
    early(&["moment", "second"]);
    is_same(&p, "after the second split");
    // The same by the other name. While somebody writes, the half gets more than the snapshot has, and nothing that is not here.
    let ends = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0u32;
            while !ends.load(std::sync::atomic::Ordering::SeqCst) {
                write_durably(&p.path("busy"), &n.to_le_bytes());
                n += 1;
            }
        });
        for _ in 0..3 {
            p.ok(&["create", "mnt", "both", "--method", "mirror"]);
            let did = p.run(&[&resync[..], &["--wait"]].concat());
            assert!(did.code == 0 && did.out.contains("in sync") && !did.out.contains("received"), "{did:?}");
            fs::remove_dir(p.path(".snapshots/both")).unwrap();
        }
        ends.store(true, std::sync::atomic::Ordering::SeqCst);
    });
    assert!(!p.path(".clones/two.img-2").exists());
    p.ok(&["create", "mnt", "both", "--method", "mirror"]);
    p.ok(&["create", "mnt", "row"]);
    early(&["moment", "second"]);
    p.umount();
    p.check();
    assert_eq!(mount_of(&p, "two.img", &[]).code, 0);
    assert!(p.past("both", "here").exists() && !p.path(".snapshots/row").exists());
    early(&["moment", "second"]);
    p.umount();
    assert_eq!(p.run(&["check", "two.img", "--data"]).code, 0);
}

#[test]
fn damage_of_one_side_reaches_nobody_and_what_cannot_be_attached_is_refused() {
    if !can_mount() {
        return;
    }
    let p = with_image();
    p.mount("commit=1");
    let content = pattern(4 << 20, 4);
    write_durably(&p.path("file"), &content);
    for (store, word) in [("store", "itself"), ("mnt", "other files"), ("missing/two", "cannot")] {
        let said = p.run(&["mirror", "attach", "mnt", store]);
        assert!(said.code == 1 && said.err.contains(word), "{store}: {said:?}");
    }
    File::create(p.at("small.img")).and_then(|f| f.set_len(64 << 20)).unwrap();
    let said = p.run(&["mirror", "attach", "mnt", "small.img"]);
    assert!(said.code == 1 && said.err.contains("highest address in use"), "{said:?}");
    fs::write(p.at("full.img"), vec![1; 40 << 20]).unwrap();
    let said = p.run(&["mirror", "attach", "mnt", "full.img"]);
    assert!(said.code == 1 && said.err.contains("--force"), "{said:?}");
    let said = p.run(&["mirror", "attach", "mnt", "none.img"]);
    assert!(
        said.code == 1 && said.err.contains("truncate -s 100G") && said.err.contains("none.img"),
        "{said:?}"
    );
    assert!(!p.at("none.img").exists());
    attach(&p);
    let said = p.run(&["mirror", "attach", "mnt", "small.img"]);
    assert!(said.code == 1 && said.err.contains("two sides"), "{said:?}");
    p.umount();

    // Every fifth block of the image that holds content, and every one of its nodes.
    let blocks: HashSet<&[u8]> = content.chunks(4096).collect();
    let image = File::options().read(true).write(true).open(p.at("two.img")).unwrap();
    let mut spoiled = 0;
    for at in (1 << 20..1200 << 20u64).step_by(4096) {
        let mut block = [0; 4096];
        image.read_exact_at(&mut block, at).unwrap();
        let is_content = at / 4096 % 5 == 0 && blocks.contains(&block[..]);
        if is_content || block[8..12] == *b"SnpB" {
            image.write_all_at(&[block[100] ^ 1], at + 100).unwrap();
            spoiled += 1;
        }
    }
    assert!(spoiled > 100, "{spoiled}");
    p.mount("");
    assert_eq!(status(&p)["in_sync"], true);
    let said = p.run(&["mirror", "verify", "mnt"]);
    assert!(said.code == 3 && said.err.contains("scrub"), "{said:?}");
    assert_eq!(fs::read(p.path("file")).unwrap(), content);
    let said = p.run(&["scrub", "mnt", "--wait"]);
    assert!(said.code == 0 && said.out.contains("blocks bad: 0"), "{said:?}");
    let known = p.json(&["status", "mnt", "--json"]);
    assert!(known["blocks_healed"].as_u64() > Some(100), "{known}");
    assert_eq!(known["blocks_bad"], 0);
    p.ok(&["mirror", "detach", "mnt"]);
    assert_eq!(status(&p)["mirrored"], false);
    p.umount();
    p.check();
    for options in [&[][..], &["ro"]] {
        let said = mount_of(&p, "two.img", options);
        assert!(said.code == 1 && said.err.contains("was detached from its mirror"), "{options:?} {said:?}");
    }
    assert_eq!(p.run(&["info", "two.img"]).code, 0);
    assert_eq!(mount_of(&p, "two.img", &["mirror=alone"]).code, 0);
    p.umount();
}

/// The names that a rehearsal says would be received.
fn names_received(told: &Value) -> Vec<String> {
    let all = told["received"].as_array().into_iter().flatten();
    all.filter_map(|one| one["name"].as_str().map(String::from)).collect()
}

#[test]
fn a_side_that_was_left_behind_is_known_to_be_old() {
    if !can_mount() {
        return;
    }
    let p = with_image();
    p.mount("");
    write_durably(&p.path("file"), b"of both");
    attach(&p);
    p.kill();
    // The image goes on, and forgets the directory, which nobody could tell.
    fs::rename(p.at("store"), p.at("away")).unwrap();
    assert_eq!(mount_of(&p, "two.img", &[]).code, 0);
    p.ok(&["mirror", "detach", "mnt"]);
    write_durably(&p.path("file"), b"of the image alone");
    p.umount();
    fs::rename(p.at("away"), p.at("store")).unwrap();
    for options in ["", "ro"] {
        let said = p.mount_said(options);
        assert!(
            said.code == 1 && said.err.contains("older state") && said.err.contains("two.img"),
            "{said:?}"
        );
    }
    p.mount("mirror=alone");
    assert_eq!(fs::read(p.path("file")).unwrap(), b"of both");
    p.umount();

    // What is taken in anew gives back what it had before.
    let used = |name: &str| -> u64 {
        let of = |path: &Path| std::os::unix::fs::MetadataExt::blocks(&fs::metadata(path).unwrap()) * 512;
        fs::read_dir(p.at(name).join("seg")).unwrap().map(|e| of(&e.unwrap().path())).sum()
    };
    fs::create_dir(p.at("old")).unwrap();
    assert_eq!(mount_of(&p, "old", &[]).code, 0);
    write_durably(&p.path("big"), &pattern(200 << 20, 8));
    p.umount();
    let before = used("old");
    assert!(before >= 200 << 20);
    assert_eq!(mount_of(&p, "two.img", &[]).code, 0);
    let said = p.run(&["mirror", "attach", "mnt", "old", "--force", "--wait"]);
    assert!(said.code == 0 && said.out.contains("in sync"), "{said:?}");
    // But for what is free here and has room promised.
    assert!(used("old") + (40 << 20) < before, "{} of {before}", used("old"));
    p.umount();
}

/// A side that loses content while it is in use is filled whole, whatever is in the place of what it lost by then.
#[test]
fn a_side_of_which_files_went_is_filled_anew() {
    if !can_mount() {
        return;
    }
    let p = with_image();
    p.mount("");
    for n in 0..40 {
        write_durably(&p.path(&format!("f{n}")), &pattern(300 << 10, n));
    }
    let said = p.run(&["mirror", "attach", "mnt", "two", "--wait"]);
    assert!(said.code == 0 && said.out.contains("in sync"), "{said:?}");
    let segments = || fs::read_dir(p.at("two/seg")).unwrap().map(|entry| entry.unwrap().path());
    for round in 0..2 {
        segments().for_each(|segment| fs::remove_file(segment).unwrap());
        write_durably(&p.path("more"), &pattern(5000, round));
        wait("the loss is known", || status(&p)["in_sync"] == false);
        p.ok(&["mirror", "resync", "mnt"]);
        if round == 0 {
            // Cut off at once: that it has nothing must not be forgotten.
            p.kill();
            p.mount("");
        }
        wait("both in sync", || status(&p)["in_sync"] == true);
        is_same(&p, "");
    }
    p.umount();
    p.check();
    assert_eq!(p.run(&["check", "two", "--data"]).code, 0);
    // What says that there is another side says that there is a store.
    fs::rename(p.at("store"), p.at("away")).unwrap();
    for there in [false, true] {
        if there {
            fs::create_dir(p.at("store")).unwrap();
        }
        let said = p.mount_said("mirror=two");
        assert!(
            said.code == 1 && said.err.contains("no store") && said.err.contains("snapfs mount "),
            "{said:?}"
        );
        assert_eq!(fs::read_dir(p.at("store")).is_ok_and(|all| all.count() == 0), there);
    }
    assert_eq!(mount_of(&p, "two", &[]).code, 0);
    assert_eq!(fs::read(p.path("f7")).unwrap(), pattern(300 << 10, 7));
    p.umount();
}

/// What becomes of a file of a side.
#[derive(Clone, Copy, Debug)]
enum Harm {
    Removed,
    CutShort,
    Replaced,
}

fn harm(file: &Path, how: Harm) {
    match how {
        Harm::Removed => fs::remove_file(file).unwrap(),
        Harm::CutShort => fs::File::options().write(true).open(file).unwrap().set_len(1 << 20).unwrap(),
        Harm::Replaced => {
            let other = file.with_extension("other");
            let len = fs::metadata(file).unwrap().len();
            File::create(&other).unwrap().set_len(len).unwrap();
            fs::rename(&other, file).unwrap();
        }
    }
}

/// Two directories that are mirrored, and what is in a file there: more than the file of the log has room for.
fn two_directories() -> (Place, Vec<u8>) {
    let p = Place::new();
    p.mount("");
    let big = pattern(150 << 20, 1);
    write_durably(&p.path("big"), &big);
    assert_eq!(p.run(&["mirror", "attach", "mnt", "two", "--wait"]).code, 0);
    (p, big)
}

/// A side of these gets everything.
fn is_filled_whole(p: &Place, case: &str) {
    wait("both in sync", || status(p)["in_sync"] == true);
    assert!(status(p)["copied_bytes"].as_u64() > Some(150 << 20), "{case}: {}", status(p));
    is_same(p, case);
}

/// One of them, which is not mounted, has everything without the other, which goes away.
fn is_whole_alone(p: &Place, side: &str, big: &[u8], case: &str) {
    fs::rename(p.at(if side == "two" { "store" } else { "two" }), p.at("away")).unwrap();
    assert_eq!(mount_of(p, side, &[]).code, 0, "{case}");
    assert!(fs::read(p.path("big")).unwrap() == big, "{case}");
    p.umount();
}

/// What a side lost while it was in use is known after the next mount as well, whichever side it is, whatever is in its place, and
/// however the store was closed.
#[test]
fn a_side_that_lost_files_while_it_was_in_use_is_filled_whole_when_the_store_is_mounted_again() {
    if !can_mount() {
        return;
    }
    let cases = [
        ("store", "log", Harm::Removed, "kill"),
        ("two", "log", Harm::CutShort, "umount"),
        ("two", "log", Harm::Replaced, "kill"),
        ("store", "seg/00000000", Harm::Removed, "umount"),
        ("two", "seg/00000000", Harm::Replaced, "umount"),
        ("two", "seg/00000000", Harm::CutShort, "kill"),
    ];
    for (side, file, how, closed) in cases {
        let case = format!("{side}/{file} {how:?}, {closed}");
        let (p, big) = two_directories();
        harm(&p.at(side).join(file), how);
        (0..3).for_each(|n| write_durably(&p.path("more"), &pattern(5000, n)));
        // Some is known by what is flushed, and the rest whenever it is looked.
        assert_eq!(p.json(&["status", "mnt", "--json"])["state"], "ok", "{case}");
        assert_eq!(status(&p)["in_sync"], false, "{case}");
        match closed {
            "kill" => p.kill(),
            _ => p.umount(),
        }
        p.mount("");
        is_filled_whole(&p, &case);
        p.umount();
        is_whole_alone(&p, side, &big, &case);
    }
}

/// Files of a side that are not there when the store is mounted are known to be gone before anything is built upon them, whether
/// the side is one of two that are in sync or comes back.
#[test]
fn a_side_that_lacks_files_when_the_store_is_mounted_is_filled_whole() {
    if !can_mount() {
        return;
    }
    let (p, big) = two_directories();
    let cases = [
        ("two", "seg/00000000", Harm::Removed, "kill"),
        ("store", "seg/00000000", Harm::CutShort, "umount"),
        ("two", "log", Harm::Removed, "umount"),
        ("store", "log", Harm::CutShort, "kill"),
        ("two", "seg/00000000", Harm::CutShort, "away"),
    ];
    for (side, file, how, closed) in cases {
        let case = format!("{side}/{file} {how:?}, {closed}");
        write_durably(&p.path("more"), &pattern(5000, 1));
        match closed {
            "kill" => p.kill(),
            _ => p.umount(),
        }
        if closed == "away" {
            assert_eq!(mount_of(&p, "store", &["mirror=alone"]).code, 0);
            write_durably(&p.path("alone"), b"alone");
            p.umount();
        }
        harm(&p.at(side).join(file), how);
        p.mount("");
        let what = if closed == "away" { "everything is copied, because" } else { "lost files" };
        assert!(p.log().contains(what) || closed == "away", "{case}: {}", p.log());
        is_filled_whole(&p, &case);
        assert!(p.log().contains(what), "{case}: {}", p.log());
    }
    p.umount();
    // With nothing gone nothing is copied.
    p.mount("");
    assert_eq!((status(&p)["in_sync"].clone(), status(&p)["copied_bytes"].clone()), (true.into(), 0.into()));
    p.umount();
    is_whole_alone(&p, "two", &big, "at the end");
}

/// Nothing in such a file says whose it is: what a mount does not notice is answered by the other side, and healed by a scrub.
#[test]
fn a_file_of_a_side_that_was_replaced_while_the_store_was_closed_is_healed_by_a_scrub() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    let content = pattern(20 << 20, 1);
    write_durably(&p.path("file"), &content);
    assert_eq!(p.run(&["mirror", "attach", "mnt", "two", "--wait"]).code, 0);
    for side in ["store", "two"] {
        p.umount();
        harm(&p.at(side).join("seg/00000000"), Harm::Replaced);
        p.mount("");
        assert_eq!(status(&p)["in_sync"], true, "{side}");
        assert!(fs::read(p.path("file")).unwrap() == content, "{side}");
        let said = p.run(&["scrub", "mnt", "--wait"]);
        assert!(said.code == 0 && said.out.contains("blocks bad: 0"), "{side}: {said:?}");
        assert!(p.json(&["status", "mnt", "--json"])["blocks_healed"].as_u64() > Some(4000), "{side}");
        is_same(&p, side);
    }
    p.umount();
}

/// An image that has lost nothing but free space at its end does not keep its partner from being mounted, whichever is named.
#[test]
fn an_image_that_is_cut_short_behind_all_that_is_in_use_stops_nothing() {
    if !can_mount() {
        return;
    }
    let p = with_image();
    p.mount("");
    write_durably(&p.path("file"), &pattern(1 << 20, 1));
    attach(&p);
    p.umount();
    let image = File::options().write(true).open(p.at("two.img")).unwrap();
    let size = image.metadata().unwrap().len();
    for (n, named) in (1..).zip(["store", "two.img"]) {
        let short = size - (n << 20);
        image.set_len(short).unwrap();
        let said = mount_of(&p, named, &[]);
        assert_eq!(said.code, 0, "{named}: {said:?}");
        let told = format!("cut short, it ends at {short:#x}");
        assert!(p.log().contains(&told), "{named}: {}", p.log());
        assert!(fs::read(p.path("file")).unwrap() == pattern(1 << 20, 1), "{named}");
        wait("both in sync", || status(&p)["in_sync"] == true);
        is_same(&p, named);
        p.umount();
    }
}

/// Two sides that were in sync, of which the image was put back to what it had before `late` was written, and the directory, which has
/// that, has lost a file, which is kept. What was written is in the log, or also in so many states each.
fn newer_lacks_a_file(states: u64) -> Place {
    let p = with_image();
    p.mount(if states > 0 { "commit=1" } else { "" });
    write_durably(&p.path("early"), &pattern(20 << 20, 1));
    attach(&p);
    p.snapshot("early");
    let copy = |to: &str| {
        let (from, to) = if to == "old.img" { ("two.img", "old.img") } else { ("old.img", "two.img") };
        // What is there stays the same file, as when the volume that it is in is put back.
        let said = Command::new("cp").arg("--sparse=always").args([p.at(from), p.at(to)]).status();
        assert!(said.expect("cp").success());
    };
    copy("old.img");
    for n in 0..3 {
        write_durably(&p.path("late"), &pattern(300_000, 10 + n));
        p.snapshot(&format!("late{n}"));
        let epoch = || p.json(&["info", "mnt", "--json"])["epoch"].as_u64().expect("a number");
        let before = epoch();
        wait("a commit", || epoch() >= before + states || fs::write(p.path("more"), b"to commit").is_err());
    }
    write_durably(&p.path("last"), &pattern(10_000, 20));
    p.kill();
    copy("two.img");
    fs::rename(p.at("store/seg/00000000"), p.at("lost")).expect("rename");
    for named in ["store", "two.img"] {
        let said = mount_of(&p, named, &[]);
        let words = ["has lost files", "has an older state", "put back what", "-o mirror=alone"];
        assert!(said.code == 1 && words.iter().all(|word| said.err.contains(word)), "{named}: {said:?}");
        let places = [p.at("store"), p.at("two.img")].map(|place| place.display().to_string());
        assert!(places.iter().all(|place| said.err.contains(place)), "{named}: {said:?}");
    }
    p
}

/// What was acknowledged is there below a directory.
fn has_late(p: &Place, below: &Path) {
    assert!(fs::read(below.join("early")).unwrap() == pattern(20 << 20, 1));
    assert!(fs::read(below.join("late")).unwrap() == pattern(300_000, 12));
    assert!(fs::read(below.join("last")).unwrap() == pattern(10_000, 20));
    assert!(status(p)["in_sync"] == true);
    is_same(p, "");
}

/// Neither of them is served by itself, and whichever way is gone that the refusal names, nothing that was acknowledged is lost.
#[test]
fn a_newer_side_that_lacks_files_beside_an_older_one_loses_nothing_that_was_acknowledged() {
    if !can_mount() {
        return;
    }
    let put_back = |p: &Place| fs::rename(p.at("lost"), p.at("store/seg/00000000")).expect("rename");
    for states in 0..2 {
        let p = newer_lacks_a_file(states);
        put_back(&p);
        p.mount("");
        wait("both in sync", || status(&p)["in_sync"] == true);
        has_late(&p, &p.at("mnt"));
        p.umount();
    }

    let p = newer_lacks_a_file(1);
    assert_eq!(mount_of(&p, "two.img", &["mirror=alone"]).code, 0);
    assert!(p.path("early").exists() && !p.path("late").exists());
    write_durably(&p.path("mine"), b"on the older one");
    // What the newer one has is not written over as long as nobody says so.
    let resync = ["mirror", "resync", "mnt", "--with", "store", "--wait"];
    let said = p.run(&resync);
    assert!(said.code == 1 && said.err.contains("seg/00000000 is missing"), "{said:?}");
    p.umount();
    for named in ["store", "two.img"] {
        let said = mount_of(&p, named, &[]);
        let words = ["both sides of the mirror went on", "resync --keep"];
        assert!(said.code == 1 && words.iter().all(|word| said.err.contains(word)), "{named}: {said:?}");
    }
    put_back(&p);
    assert_eq!(mount_of(&p, "two.img", &["mirror=alone"]).code, 0);
    let said = p.run(&resync);
    assert!(said.code == 0 && said.out.contains("received: live in .clones/store"), "{said:?}");
    has_late(&p, &p.path(".clones/store"));
    for n in 0..3 {
        let late = p.path(&format!(".clones/store/.snapshots/late{n}/late"));
        assert!(fs::read(late).unwrap() == pattern(300_000, 10 + n), "late{n}");
    }
    assert_eq!(fs::read(p.path("mine")).unwrap(), b"on the older one");
    p.umount();
}

#[test]
fn a_copy_of_a_side_is_no_side_and_the_side_that_is_named_stays() {
    if !can_mount() {
        return;
    }
    let p = with_image();
    p.mount("");
    write_durably(&p.path("file"), &pattern(1 << 20, 1));
    attach(&p);
    p.umount();
    let copied = Command::new("cp").arg("-a").args([p.at("store"), p.at("copy")]).status().unwrap();
    assert!(copied.success());
    let copied =
        Command::new("cp").args(["--sparse=always"]).args([p.at("two.img"), p.at("copy.img")]).status();
    assert!(copied.unwrap().success());

    // Beside the pair it is refused; by itself it has nothing to do with the pair, also when this is named by another way.
    let said = mount_of(&p, "copy", &[]);
    assert!(
        said.code == 1 && said.err.contains("copy of a side") && said.err.contains("mirror=alone"),
        "{said:?}"
    );
    assert_eq!(p.run(&["scrub", "copy.img", "--wait"]).code, 1, "it would be written to both sides");
    for copy in ["copy", "copy.img"] {
        assert_eq!(mount_of(&p, copy, &["mirror=alone"]).code, 0);
        fs::remove_file(p.path("file")).unwrap();
        write_durably(&p.path("of the copy"), b"x");
        p.umount();
        assert_eq!(mount_of(&p, copy, &[]).code, 0, "from then on it is a store as any");
        assert!(!p.path("file").exists() && status(&p)["in_sync"] == false);
        p.umount();
        assert_eq!(p.run(&["check", copy, "--data"]).code, 0);
    }
    p.mount("");
    assert_eq!(status(&p)["in_sync"], true);
    assert_eq!(fs::read(p.path("file")).unwrap(), pattern(1 << 20, 1));
    assert_eq!(status(&p)["copied_bytes"], 0);

    // The named side is lost, the other goes on, the first comes back: it is the one that a split leaves here.
    p.umount();
    fs::rename(p.at("store"), p.at("away")).unwrap();
    assert_eq!(mount_of(&p, "two.img", &[]).code, 0);
    write_durably(&p.path("alone"), b"on the image");
    p.umount();
    fs::rename(p.at("away"), p.at("store")).unwrap();
    p.mount("");
    wait("both in sync", || status(&p)["in_sync"] == true);
    let made = p.json(&["mirror", "split", "mnt", "moment", "--json"]);
    assert!(made["store"].as_str().is_some_and(|store| store.ends_with("two.img")), "{made}");
    write_durably(&p.path("after"), b"in the store");
    p.umount();
    p.mount("");
    assert!(p.path("after").exists() && p.path("alone").exists());
    p.umount();
    p.check();
}

/// How long a side may keep the other waiting where one hangs.
const LIMIT: Duration = Duration::from_secs(1);
/// What a machine that is busy with other tests may add to what is waited for: a store promises twice the limit of its own time, and that
/// its threads get processors in time nobody does.
const OF_THE_MACHINE: Duration = Duration::from_secs(6);

/// A host that hangs when that is wanted: another store with its own daemon, which is stopped.
struct Host<'a> {
    p: &'a Place,
    pid: String,
}

impl Host<'_> {
    fn new(p: &Place) -> Host<'_> {
        fs::create_dir(p.at("host")).expect("mkdir");
        let said = p.run(&["mount", "hosts", "host"]);
        assert_eq!(said.code, 0, "{said:?}");
        let pid = p.json(&["status", "host", "--json"])["pid"].to_string();
        Host { p, pid }
    }

    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.pid]).status().expect("kill").success());
    }

    fn hangs(&self) {
        self.signal("-STOP");
    }

    fn answers(&self) {
        self.signal("-CONT");
    }
}

impl Drop for Host<'_> {
    fn drop(&mut self) {
        self.answers();
        let _ = self.p.run(&["umount", "mnt"]);
        let end = Instant::now() + place::PATIENCE;
        while self.p.run(&["umount", "host"]).code != 0 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Runs the program, which must not be held up.
fn soon(p: &Place, args: &[&str]) -> place::Said {
    let mut command = Command::new("timeout");
    command.args(["-s", "KILL", "20", env!("CARGO_BIN_EXE_snapfs")]);
    let said = place::said(p.settle(&mut command).args(args));
    assert!(said.code >= 0 && said.code < 124, "{args:?} is held up: {said:?}");
    said
}

#[test]
fn a_side_whose_host_hangs_stops_nothing_and_comes_back_when_it_answers() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    let host = Host::new(&p);
    File::create(p.at("host/two.img")).and_then(|f| f.set_len(4 << 30)).expect("an image");
    p.mount("");
    let attach = ["mirror", "attach", "mnt", "host/two.img", "--timeout", "1", "--wait"];
    assert_eq!(p.run(&attach).code, 0);
    write_durably(&p.path("both"), b"on both");

    // While it is in use.
    host.hangs();
    let since = Instant::now();
    write_durably(&p.path("alone"), b"on one");
    let took = since.elapsed();
    assert!(took >= LIMIT && took < 2 * LIMIT + OF_THE_MACHINE, "{took:?}");
    assert_eq!(soon(&p, &["status", "mnt"]).code, 0);
    assert_eq!(status(&p)["in_sync"], false);
    let resync = ["mirror", "resync", "mnt", "--wait"];
    let said = soon(&p, &resync);
    assert!(said.code == 1 && said.err.contains("have not returned"), "{said:?}");
    assert_eq!(soon(&p, &["umount", "mnt"]).code, 0);

    // When the store is opened.
    let log = p.at("log");
    let mount = ["mount", "store", "mnt", "--log", log.to_str().expect("text")];
    let said = soon(&p, &mount);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(p.log().contains("does not answer, and is waited for up to 10s"), "{}", p.log());
    assert!(p.log().contains("did not answer within 10s"), "{}", p.log());
    assert_eq!(fs::read(p.path("alone")).unwrap(), b"on one");
    write_durably(&p.path("more"), b"on one");
    // When it is asked for.
    let said = soon(&p, &resync);
    assert!(said.code == 1 && said.err.contains("did not answer within 1s"), "{said:?}");

    let said = soon(&p, &["mirror", "attach", "mnt", "host/two.img", "--force", "--timeout", "1"]);
    assert!(said.code == 1 && said.err.contains("did not answer within 1s"), "{said:?}");

    // When it is the one that is named, and there is another.
    assert_eq!(soon(&p, &["umount", "mnt"]).code, 0);
    let said = soon(&p, &["mount", "host/two.img", "mnt", "-o", "mirror=store"]);
    assert!(said.code == 1 && said.err.contains("did not answer"), "{said:?}");
    assert!(said.err.contains("mount its other side alone: snapfs mount"), "{said:?}");
    assert_eq!(soon(&p, &mount).code, 0);

    // And it comes back.
    host.answers();
    wait("the other side", || p.run(&resync).code == 0);
    assert_eq!(status(&p)["in_sync"], true);
    is_same(&p, "");

    // While the store is closed.
    host.hangs();
    assert_eq!(soon(&p, &["umount", "mnt"]).code, 0);
    host.answers();
    p.mount("");
    assert_eq!(fs::read(p.path("more")).unwrap(), b"on one");
    wait("both in sync", || status(&p)["in_sync"] == true);
    p.umount();

    // A disk that spins up for longer than the limit is no disk that is not there.
    host.hangs();
    std::thread::scope(|s| {
        let mounted = s.spawn(|| soon(&p, &mount));
        std::thread::sleep(Duration::from_secs(4));
        host.answers();
        let said = mounted.join().expect("no panic");
        assert_eq!(said.code, 0, "{said:?}");
    });
    assert_eq!((&status(&p)["in_sync"], &status(&p)["copied_bytes"]), (&Value::from(true), &Value::from(0)));
    p.umount();
    p.check();
}

/// The sides of a state, as `path of the end, how it stands`.
fn stand(status: &Value) -> Vec<(String, String)> {
    let word = |side: &Value, key: &str| side[key].as_str().unwrap_or_default().to_owned();
    let sides = status["sides"].as_array().into_iter().flatten();
    sides
        .map(|side| (word(side, "path").rsplit('/').next().unwrap_or_default().into(), word(side, "stands")))
        .collect()
}

fn stands(status: &Value, first: (&str, &str), second: (&str, &str)) {
    let own = |(path, word): (&str, &str)| (path.to_owned(), word.to_owned());
    let mut found = stand(status);
    found.sort();
    assert_eq!(found, [own(first), own(second)], "{status}");
}

/// What a side lacks, and since when.
fn lag(status: &Value, name: &str) -> (u64, String) {
    let mut sides = status["sides"].as_array().into_iter().flatten();
    let side = sides.find(|side| side["path"].as_str().is_some_and(|path| path.ends_with(name))).expect(name);
    let since = side["lag_since"].as_str().unwrap_or_else(|| panic!("{status}"));
    (side["lag_bytes"].as_u64().unwrap_or_else(|| panic!("{status}")), since.to_owned())
}

/// In every state, asked by whatever names the store: which side is newer, what the other lacks, and since when.
#[test]
fn a_status_tells_which_side_is_newer_what_the_other_lacks_and_since_when() {
    if !can_mount() {
        return;
    }
    let p = with_image();
    let closed = |name: &str| p.json(&["mirror", "status", name, "--json"]);
    p.mount("");
    let said = p.run(&["mirror", "status", "two.img"]);
    assert!(said.code == 1 && said.err.contains("no superblock"), "{said:?}");
    assert_eq!(status(&p)["mirrored"], false);
    write_durably(&p.path("before"), &pattern(3 << 20, 1));
    attach(&p);
    // By any path in the mount, by the store, and by its other side.
    for target in ["mnt", "mnt/before", "store", "two.img"] {
        let told = closed(target);
        stands(&told, ("store", "in sync"), ("two.img", "in sync"));
        assert!(told["in_sync"] == true && told["newer"].is_null() && told["limit_ms"] == 10_000, "{told}");
    }
    p.umount();
    for target in ["store", "two.img"] {
        let told = closed(target);
        stands(&told, ("store", "in sync"), ("two.img", "in sync"));
        assert!(told["in_sync"] == true && told["mounted"] == false, "{told}");
        assert!(p.ok(&["mirror", "status", target]).contains("in sync, not mounted"));
    }

    // One is gone while nobody looked.
    fs::rename(p.at("two.img"), p.at("away.img")).unwrap();
    let told = closed("store");
    stands(&told, ("store", "unknown"), ("two.img", "missing"));
    p.mount("");
    write_durably(&p.path("alone"), &pattern(2 << 20, 2));
    p.snapshot("committed");
    let told = status(&p);
    stands(&told, ("store", "newer"), ("two.img", "missing"));
    let (bytes, since) = lag(&told, "two.img");
    assert!(
        (2 << 20..4 << 20).contains(&bytes) && told["newer"].as_str().unwrap().ends_with("/store"),
        "{told}"
    );
    let text = p.ok(&["mirror", "status", "mnt"]);
    for words in ["alone: the other side is missing", "newer: ", "missing, lacks 2", " since 20"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_eq!(closed("store")["pair"], told["pair"]);

    // It is back, and older: mounted, by its own name as well, read-only, and while neither is mounted.
    fs::rename(p.at("away.img"), p.at("two.img")).unwrap();
    let older = |told: &Value| {
        stands(told, ("store", "newer"), ("two.img", "older"));
        let (bytes, since_there) = lag(told, "two.img");
        assert!((2 << 20..4 << 20).contains(&bytes), "{told}");
        assert!(since_there <= since, "{since_there} and {since}");
        assert!(told["newer"].as_str().is_some_and(|path| path.ends_with("/store")), "{told}");
    };
    older(&status(&p));
    older(&closed("two.img"));
    let text = p.ok(&["mirror", "status", "mnt"]);
    assert!(text.contains("alone: the other side is older") && text.contains("older, lacks 2"), "{text}");
    let said = p.run(&["mirror", "status", "mnt", "--wait"]);
    assert_eq!(said.code, 1, "{said:?}");
    p.umount();
    for target in ["store", "two.img"] {
        older(&closed(target));
        assert!(p.ok(&["mirror", "status", target]).contains("not mounted: the other side is older"));
    }
    assert_eq!(
        (&closed("store")["stands"], &closed("two.img")["stands"]),
        (&"ahead".into(), &"behind".into())
    );
    assert_eq!(mount_of(&p, "store", &["ro"]).code, 0);
    older(&status(&p));
    older(&closed("two.img"));
    p.umount();

    // It is being filled.
    assert_eq!(mount_of(&p, "store", &["mirror=alone"]).code, 0);
    p.ok(&["mirror", "resync", "mnt", "--rate", "64K"]);
    let told = status(&p);
    stands(&told, ("store", "newer"), ("two.img", "filling"));
    assert!(told["syncing"] == true && told["newer"].as_str().unwrap().ends_with("/store"), "{told}");
    let text = p.ok(&["mirror", "status", "mnt"]);
    assert!(text.contains("syncing, "), "{text}");
    p.umount();
    // It was cut off: what is left is to be copied, and it is no store.
    let told = closed("two.img");
    stands(&told, ("store", "newer"), ("two.img", "older"));
    let side = told["sides"].as_array().unwrap().iter().find(|side| side["standing"] == "incomplete");
    assert!(side.is_some_and(|side| side["lag_bytes"].as_u64() > Some(0)), "{told}");
    p.mount("");
    wait("both in sync", || status(&p)["in_sync"] == true);
    p.umount();

    // Both go on alone.
    for (store, name) in [("store", "mine"), ("two.img", "other")] {
        assert_eq!(mount_of(&p, store, &["mirror=alone"]).code, 0);
        write_durably(&p.path(name), name.as_bytes());
        if store == "two.img" {
            stands(&status(&p), ("store", "parted"), ("two.img", "parted"));
        }
        p.umount();
    }
    for target in ["store", "two.img"] {
        let told = closed(target);
        stands(&told, ("store", "parted"), ("two.img", "parted"));
        assert!(told["stands"] == "both ahead" && told["newer"].is_null(), "{told}");
        assert!(
            told["sides"][0]["parted_since"].as_str().is_some_and(|since| since.starts_with("20")),
            "{told}"
        );
    }
    // One is split off, which is no side any more.
    assert_eq!(mount_of(&p, "store", &["mirror=alone"]).code, 0);
    let resync = ["mirror", "resync", "mnt", "--discard", "--wait"];
    assert_eq!(p.run(&resync).code, 0);
    p.ok(&["mirror", "split", "mnt", "moment"]);
    p.umount();
    for target in ["store", "two.img"] {
        assert_eq!(closed(target)["mirrored"], false);
    }
    let said = p.run(&["mirror", "status", "nothing"]);
    assert!(said.code == 1 && said.err.contains("not mounted"), "{said:?}");
    p.check();
}

/// How long a side may keep the other waiting is a property of the store: it is set while it is mounted, and kept on both sides.
#[test]
fn the_time_limit_is_a_property_that_both_sides_keep() {
    if !can_mount() {
        return;
    }
    let p = with_image();
    let got = || {
        let all = p.json(&["get", "timeout", "mnt", "--json"]);
        (all[0]["value"].as_str().unwrap().to_owned(), all[0]["source"].as_str().unwrap().to_owned())
    };
    p.mount("");
    for args in [["get", "timeout", "mnt"], ["set", "timeout=5", "mnt"]] {
        let said = p.run(&args);
        assert!(said.code == 1 && said.err.contains("two sides"), "{said:?}");
    }
    attach(&p);
    assert_eq!(got(), ("10s".into(), "default".into()));
    for bad in ["0", "2h", "soon", "none"] {
        let said = p.run(&["set", &format!("timeout={bad}"), "mnt"]);
        assert!(said.code == 2 && said.err.contains("from 1s to 1h"), "{said:?}");
    }
    p.ok(&["set", "timeout=5", "mnt"]);
    assert_eq!(got(), ("5s".into(), "local".into()));
    assert_eq!((&status(&p)["limit_ms"], &status(&p)["in_sync"]), (&Value::from(5000), &Value::from(true)));
    assert!(p.ok(&["mirror", "status", "mnt"]).contains("timeout: 5s"));
    let said = p.run(&["set", "timeout=5", "mnt/.snapshots"]);
    assert!(said.code == 1 && said.err.contains("give its root"), "{said:?}");
    p.umount();
    for target in ["store", "two.img"] {
        assert_eq!(p.json(&["mirror", "status", target, "--json"])["limit_ms"], 5000);
    }
    // Either side alone has it, and a side that comes back gets what was said meanwhile.
    assert_eq!(mount_of(&p, "two.img", &["mirror=alone"]).code, 0);
    assert_eq!(got().0, "5s");
    p.ok(&["set", "timeout=2m", "mnt"]);
    assert_eq!(p.run(&["mirror", "resync", "mnt", "--wait"]).code, 0);
    assert_eq!(got().0, "2m");
    p.umount();
    p.mount("");
    assert_eq!((got().0, status(&p)["in_sync"].clone()), ("2m".into(), true.into()));
    p.umount();
    p.check();
}

/// All that `create` takes it takes with this method as well.
#[test]
fn a_split_is_made_with_all_that_a_snapshot_is_made_with() {
    if !can_mount() {
        return;
    }
    let p = with_image();
    p.mount("");
    write_durably(&p.path("file"), &pattern(1 << 20, 1));
    let ran = |name: &str| p.at(name).exists();
    let (pre, post) =
        (format!("touch {}", p.at("pre").display()), format!("touch {}", p.at("post").display()));
    let create = |name: &str, more: &[&str]| {
        p.run(&[&["create", "mnt", name, "--method", "mirror"][..], more].concat())
    };
    // Nothing is left of one that cannot be made.
    let said = create("early", &["--hold", "keep", "--pre", &pre, "--post", &post]);
    assert!(said.code == 1 && said.err.contains("not in sync") && ran("pre") && ran("post"), "{said:?}");
    assert!(!p.path(".snapshots/early").exists());
    attach(&p);
    let said = create("aborted", &["--pre", "false", "--hold", "keep"]);
    assert!(said.code == 1 && !p.path(".snapshots/aborted").exists(), "{said:?}");
    assert_eq!(status(&p)["in_sync"], true);
    fs::remove_file(p.at("pre")).unwrap();
    fs::remove_file(p.at("post")).unwrap();
    let said = create(
        "moment",
        &[
            "--hold",
            "keep",
            "--for",
            "7d",
            "--description",
            "as one",
            "--pre",
            &pre,
            "--post",
            &post,
            "--json",
        ],
    );
    assert_eq!(said.code, 0, "{said:?}");
    assert!(ran("pre") && ran("post"));
    let made: Value = serde_json::from_str(&said.out).unwrap();
    assert!(made["store"].as_str().is_some_and(|store| store.ends_with("/two.img")), "{made}");
    assert!(made["split_pause_us"].as_u64().is_some(), "{made}");
    let held = || {
        let shown = p.json(&["show", "mnt", "moment", "--json"]);
        assert!(shown["method"] == "mirror" && shown["description"] == "as one", "{shown}");
        assert_eq!(shown["consistency"], "application", "{shown}");
        let said = p.run(&["delete", "mnt", "moment"]);
        assert!(said.code == 1 && said.err.contains("keep"), "{said:?}");
    };
    held();
    p.ok(&["release", "mnt", "moment", "--tag", "keep"]);
    p.ok(&["delete", "mnt", "moment"]);
    p.umount();
    p.check();
    // The half is as it was at that moment: each of the two holds is one by itself.
    assert_eq!(mount_of(&p, "two.img", &[]).code, 0);
    assert_eq!(fs::read(p.past("moment", "file")).unwrap(), pattern(1 << 20, 1));
    held();
    p.umount();
}

/// The half of a split that is a block device belongs to nobody any more: whoever opens that has it alone.
#[test]
fn a_block_device_that_was_split_off_is_mounted_while_the_other_half_is() {
    if !can_mount() {
        return;
    }
    let p = with_image();
    let Some(two) = Loop::over(&p.at("two.img"), &[]) else { return };
    let device = two.0.as_str();
    p.mount("");
    write_durably(&p.path("both"), &pattern(3 << 20, 1));
    let said = p.run(&["mirror", "attach", "mnt", device, "--wait"]);
    assert!(said.code == 0 && said.out.contains("in sync"), "{said:?}");
    write_durably(&p.path("later"), &pattern(1 << 20, 2));
    let said = p.run(&["list", device]);
    assert!(said.code == 1 && said.err.contains("in use"), "one daemon has both: {said:?}");
    let made = p.json(&["mirror", "split", "mnt", "moment", "--json"]);
    assert_eq!(made["store"], device);
    fs::create_dir(p.at("half")).expect("mkdir");
    let log = p.at("half.log");
    let mount = ["mount", device, "half", "--log", log.to_str().expect("text")];
    let said = p.run(&mount);
    assert_eq!(said.code, 0, "{said:?}");
    let unmounted = Unmounted(&p, "half");
    let open = fs::read_dir(format!("/proc/{}/fd", p.pid())).expect("its files");
    let links: Vec<_> = open.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok()).collect();
    assert!(!links.iter().any(|file| file == Path::new(device)), "{links:?}");
    for name in ["both", "later"] {
        assert_eq!(fs::read(p.at("half").join(name)).unwrap(), fs::read(p.path(name)).unwrap());
    }
    // Each has what is written to it, and nothing of the other.
    write_durably(&p.path("here"), b"in the store");
    write_durably(&p.at("half/there"), b"on the device");
    assert!(!p.path("there").exists() && !p.at("half/here").exists());
    assert_eq!(p.run(&["umount", "half"]).code, 0);
    drop(unmounted);
    assert_eq!(p.run(&["check", device, "--data"]).code, 0);
    // And they come together again, with what either has.
    let said = p.run(&["mirror", "resync", "mnt", "--with", device, "--wait"]);
    assert!(said.code == 0 && said.out.contains("in sync"), "{said:?}");
    assert_eq!(status(&p)["in_sync"], true);
    p.umount();
    p.check();
}

/// A second mount of a test, which goes with it.
struct Unmounted<'a>(&'a Place, &'a str);

impl Drop for Unmounted<'_> {
    fn drop(&mut self) {
        self.0.run(&["umount", "--lazy", "--timeout", "10", self.1]);
    }
}

/// Both sides on one disk that stalls, and a daemon that is stopped: for several times the limit, while work goes on.
#[test]
fn what_stands_still_with_both_sides_costs_neither() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    let host = Host::new(&p);
    for side in ["host/one.img", "host/two.img"] {
        File::create(p.at(side)).and_then(|f| f.set_len(4 << 30)).expect("an image");
    }
    assert_eq!(p.run(&["init", "host/one.img"]).code, 0);
    assert_eq!(mount_of(&p, "host/one.img", &[]).code, 0);
    let attach = ["mirror", "attach", "mnt", "host/two.img", "--timeout", "1", "--wait"];
    assert_eq!(p.run(&attach).code, 0);
    fs::write(p.path("old"), pattern(8 << 20, 1)).expect("write");
    let pid = p.pid().to_string();
    let signal = |signal: &str| {
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill").success());
    };
    let ended = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|s| {
        let works = |name: &'static str| {
            let (p, ended) = (&p, &ended);
            s.spawn(move || {
                let mut n = 0;
                while !ended.load(std::sync::atomic::Ordering::SeqCst) {
                    write_durably(&p.path(name), &pattern(100_000, n));
                    n += 1;
                }
            });
        };
        works("a");
        works("b");
        for n in 0..6 {
            std::thread::sleep(Duration::from_millis(300));
            if n % 2 == 0 {
                host.hangs()
            } else {
                signal("-STOP")
            }
            std::thread::sleep(Duration::from_millis(3500));
            if n % 2 == 0 { host.answers() } else { signal("-CONT") }
        }
        ended.store(true, std::sync::atomic::Ordering::SeqCst);
    });
    assert_eq!(status(&p)["in_sync"], true, "{}", p.log());
    assert!(!p.log().contains("is lost"), "{}", p.log());
    is_same(&p, "");
    p.umount();
}

/// Whoever waits for a side is told if it is not filled because somebody has it wait; and that ends with the side.
#[test]
fn who_waits_for_a_filling_that_is_paused_is_told() {
    if !can_mount() {
        return;
    }
    let p = with_image();
    p.mount("");
    write_durably(&p.path("file"), &pattern(8 << 20, 1));
    let pause = ["mirror", "resync", "mnt", "--pause"];
    let said = p.run(&pause);
    assert!(said.code == 1 && said.err.contains("no other side"), "{said:?}");
    let attach = ["mirror", "attach", "mnt", "two.img", "--force"];
    p.ok(&[&attach[..], &["--rate", "1M"]].concat());
    let waiting = ["mirror", "status", "mnt", "--wait"];
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| p.run(&waiting));
        std::thread::sleep(Duration::from_millis(500));
        p.ok(&pause);
        let said = waits.join().expect("a thread");
        assert!(said.code == 1 && said.err.contains("resync MNT --resume"), "{said:?}");
    });
    let said = p.run(&waiting);
    assert!(said.code == 1 && said.err.contains("is paused"), "{said:?}");
    // A resync finds that it is under way.
    let said = p.run(&["mirror", "resync", "mnt", "--wait"]);
    assert!(said.code == 1 && said.err.contains("is paused"), "{said:?}");
    p.ok(&["mirror", "detach", "mnt"]);
    let said = p.run(&["mirror", "resync", "mnt"]);
    assert!(said.code == 1 && said.err.contains("no other side"), "{said:?}");
    p.ok(&[&attach[..], &["--wait"]].concat());
    assert_eq!((&status(&p)["in_sync"], &status(&p)["paused"]), (&true.into(), &false.into()));
    assert_eq!(p.run(&["mirror", "resync", "mnt", "--wait"]).code, 0, "it is in sync");
    // What was paused for the side that is split off is none of the next one's.
    p.ok(&pause);
    p.ok(&["mirror", "split", "mnt", "moment"]);
    assert_eq!(status(&p)["paused"], false);
    let said = p.run(&pause);
    assert!(said.code == 1 && said.err.contains("no other side"), "{said:?}");
    p.umount();
    p.check();
}

/// A side or a copy that is over a file in the store's own mount would wait for itself, whatever is between.
#[test]
fn what_is_in_the_store_by_way_of_a_device_is_no_place_for_a_side() {
    if !can_mount() {
        return;
    }
    let p = with_image();
    p.mount("");
    File::create(p.path("img")).and_then(|f| f.set_len(64 << 20)).expect("an image");
    let attach = |at: &str| p.run(&["mirror", "attach", "mnt", at]);
    let copy = |at: &str, name: &str| p.run(&["create", "mnt", name, "--method", "clone", "--to", at]);
    let refused = |at: &str, name: &str| {
        for said in [attach(at), copy(at, name)] {
            assert!(said.code == 1 && said.err.contains("the store itself"), "{at}: {said:?}");
        }
    };
    refused("store/sub", "one");
    if let Some(over) = Loop::over(&p.path("img"), &[]) {
        refused(&over.0, "two");
        let stacked = Loop::over(Path::new(&over.0), &["--offset", "1048576"]);
        stacked.iter().for_each(|stacked| refused(&stacked.0, "three"));
    }
    p.umount();
    p.check();
}

/// What becomes a side is no copy any more, and no copy can be begun in one.
#[test]
fn a_copy_in_what_becomes_a_side_ends() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    write_durably(&p.path("file"), &pattern(2 << 20, 1));
    p.ok(&["create", "mnt", "bg", "--method", "background", "--to", "two", "--rate", "100K"]);
    p.ok(&["hydrate", "mnt", "bg", "pause"]);
    let attach = ["mirror", "attach", "mnt", "two", "--force", "--wait"];
    wait("it is a side", || p.run(&attach).code == 0);
    let said = p.run(&["hydrate", "mnt", "bg", "resume"]);
    assert!(said.code == 1 && said.err.contains("no copy of it is being made"), "{said:?}");
    for method in ["clone", "background"] {
        let said = p.run(&["create", "mnt", method, "--method", method, "--to", "two"]);
        assert!(said.code == 1 && said.err.contains("a side of the store itself"), "{said:?}");
    }
    p.umount();
    p.check();
}

/// What a half has of its own is received also when content was purged from what both had; that content does not come back.
#[test]
fn what_a_half_has_of_its_own_comes_back_after_a_purge() {
    if !can_mount() {
        return;
    }
    for there_too in [false, true] {
        let p = Place::new();
        p.mount("");
        write_durably(&p.path("small"), b"a secret");
        write_durably(&p.path("large"), &pattern(1 << 20, 1));
        write_durably(&p.path("kept"), &pattern(1 << 20, 2));
        p.ok(&["mirror", "attach", "mnt", "two", "--wait"]);
        p.ok(&["mirror", "split", "mnt", "both"]);
        fs::create_dir(p.at("half")).expect("mkdir");
        p.ok(&["mount", "two", "half"]);
        let unmounted = Unmounted(&p, "half");
        write_durably(&p.at("half/own"), b"of its own");
        for name in ["small", "large"] {
            fs::remove_file(p.at("half").join(name)).unwrap();
            fs::remove_file(p.path(name)).unwrap();
        }
        fs::create_dir(p.at("half/.snapshots/first")).unwrap();
        write_durably(&p.at("half/more"), b"later");
        fs::create_dir(p.at("half/.snapshots/second")).unwrap();
        for name in ["small", "large"] {
            p.ok(&["purge", &format!("mnt/{name}"), "--all"]);
            if there_too {
                p.ok(&["purge", &format!("half/{name}"), "--all"]);
            }
        }
        p.ok(&["umount", "half"]);
        drop(unmounted);
        let dry = p.run(&["mirror", "resync", "mnt", "--dry-run"]);
        assert!(dry.code == 0 && dry.out.contains("second"), "{dry:?}");
        let did = p.run(&["mirror", "resync", "mnt", "--wait"]);
        assert!(did.code == 0 && did.out.contains("in sync"), "{did:?}");
        let line = p.path(".clones/two/.snapshots");
        assert_eq!(fs::read(line.join("second/own")).unwrap(), b"of its own");
        assert_eq!(fs::read(line.join("second/kept")).unwrap(), pattern(1 << 20, 2));
        assert!(!line.join("second/large").exists() && !line.join("both").exists());
        is_same(&p, "");
        p.umount();
        p.check();
    }
}

#[test]
fn what_was_purged_does_not_come_back_with_a_half() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    for name in ["small", "large"] {
        let content = if name == "small" { b"a secret".to_vec() } else { pattern(1 << 20, 1) };
        write_durably(&p.path(name), &content);
        p.ok(&["mirror", "attach", "mnt", "two", "--force", "--wait"]);
        p.ok(&["mirror", "split", "mnt", name]);
        let _ = fs::create_dir(p.at("half"));
        p.ok(&["mount", "two", "half"]);
        let unmounted = Unmounted(&p, "half");
        write_durably(&p.at("half/own"), b"of its own");
        p.ok(&["umount", "half"]);
        drop(unmounted);
        fs::remove_file(p.path(name)).unwrap();
        p.ok(&["purge", &format!("mnt/{name}"), "--all"]);
        for how in ["--dry-run", "--wait"] {
            let said = p.run(&["mirror", "resync", "mnt", how]);
            let names_it = said.err.contains("its live tree has content that was purged here");
            assert!(said.code == 1 && names_it && said.err.contains("--discard"), "{said:?}");
        }
        p.ok(&["mirror", "resync", "mnt", "--discard", "--wait"]);
        assert!(!p.path(".clones/two").exists());
        p.ok(&["mirror", "split", "mnt", &format!("after-{name}")]);
    }
    p.umount();
    p.check();
}
