//! Scrubs of real mounts: damage on the disk is healed or told with names, kills and unmounting do not lose the place.

mod guard;
mod place;

use guard::can_mount;
use place::{Place, Said, wait};
use serde_json::Value;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// Content that tells its place: no two blocks are equal.
fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..len).map(|_| random.u8(..)).collect()
}

fn status(p: &Place) -> Value {
    serde_json::from_str(&p.run(&["scrub", "mnt", "--status", "--json"]).out).expect("JSON")
}

/// Waits until a commit has written everything down.
fn settle(p: &Place) {
    let epoch = || p.json(&["info", "mnt", "--json"])["epoch"].as_u64().expect("a number");
    // One commit may be under way already.
    for _ in 0..2 {
        let before = epoch();
        fs::write(p.path("settled"), format!("{before}")).expect("write");
        wait("a commit", || epoch() > before);
    }
}

/// Changes a byte of every 4 KiB block of a segment that is chosen. Returns how many.
fn spoil(p: &Place, segment: &str, chosen: impl Fn(&[u8]) -> bool) -> usize {
    let path = p.at("store/seg").join(segment);
    let (all, file) =
        (fs::read(&path).expect("read"), File::options().write(true).open(&path).expect("open"));
    let hit = all.chunks(4096).enumerate().filter(|(_, block)| chosen(block));
    hit.map(|(n, block)| file.write_all_at(&[block[100] ^ 1], n as u64 * 4096 + 100).expect("write")).count()
}

fn told(said: &Said, code: i32, words: &[&str]) {
    let all = format!("{}{}", said.out, said.err);
    assert!(said.code == code && words.iter().all(|w| all.contains(w)), "{said:?}");
}

#[test]
fn damage_on_the_disk_is_healed_or_told_with_names() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("commit=1");
    fs::create_dir(p.path("dir")).unwrap();
    let precious = pattern(100_000, 1);
    fs::write(p.path("dir/precious"), &precious).unwrap();
    (0..500).for_each(|n| fs::write(p.path(&format!("small{n}")), format!("{n}")).unwrap());
    p.snapshot("before");
    p.snapshot("and after");
    fs::write(p.path("dir/precious"), "short").unwrap();
    settle(&p);
    told(&p.run(&["scrub", "mnt", "--wait"]), 0, &["finished", "blocks bad: 0"]);

    // The copies of all metadata are in the next segment.
    let nodes = spoil(&p, "00000000", |block| block[8..12] == *b"SnpB");
    let content = spoil(&p, "00000000", |block| block == &precious[8192..12288]);
    assert!(nodes > 10 && content == 1, "{nodes} nodes, {content} blocks");
    let said = p.run(&["scrub", "mnt", "--wait"]);
    told(&said, 3, &["/dir/precious", "bytes 8192 to 12288", "before, and after", "blocks bad: 1"]);
    let found = status(&p);
    assert!(found["blocks_healed"].as_u64() > Some(5), "{found}");
    assert_eq!(found["findings"][0]["files"], serde_json::json!(["/dir/precious"]));
    assert_eq!(found["findings"][0]["snapshots"], serde_json::json!(["before", "and after"]));
    assert_eq!(p.run(&["scrub", "mnt", "--status"]).code, 3);
    let known = p.json(&["status", "mnt", "--json"]);
    assert!(known["damage_known"] == true && known["scrub"].as_str().unwrap().contains("1 bad"), "{known}");
    assert!(p.log().contains("/dir/precious"), "it is in the log");

    // All is known after a mount as well, and gone with what was hit.
    p.umount();
    p.mount("commit=1");
    assert_eq!(p.json(&["status", "mnt", "--json"])["damage_known"], true);
    assert_eq!(status(&p)["findings"], found["findings"]);
    fs::remove_dir(p.past("before", "")).unwrap();
    fs::remove_dir(p.past("and after", "")).unwrap();
    settle(&p);
    p.wait_freed();
    told(&p.run(&["scrub", "mnt", "--wait"]), 0, &["blocks bad: 0", "blocks healed: 0"]);
    assert_eq!(p.json(&["status", "mnt", "--json"])["damage_known"], false);
    p.umount();
    p.check();
    let lines = p.run(&["scrub", "store", "--wait", "--json"]);
    let last: Value = serde_json::from_str(lines.out.lines().last().expect("a line")).expect("JSON");
    assert!(lines.code == 0 && last["state"] == "finished", "{lines:?}");
}

#[test]
fn a_scrub_keeps_its_place_over_orders_unmounting_and_kills() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("commit=1");
    told(&p.run(&["scrub", "mnt", "--pause"]), 1, &["no scrub is running"]);
    (0..24).for_each(|n| fs::write(p.path(&format!("f{n}")), pattern(1 << 20, n)).unwrap());
    settle(&p);
    let done = |p: &Place| status(p)["done_bytes"].as_u64().expect("a number");
    let state = |p: &Place| status(p)["state"].as_str().expect("text").to_string();
    told(&p.run(&["scrub", "mnt", "--limit", "4M"]), 0, &["running"]);
    told(&p.run(&["scrub", "mnt"]), 1, &["a scrub is running"]);
    wait("a part", || done(&p) > 4 << 20);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| p.run(&["scrub", "mnt", "--wait"]));
        std::thread::sleep(Duration::from_millis(500));
        told(&p.run(&["scrub", "mnt", "--pause"]), 0, &["paused"]);
        told(&waits.join().expect("a thread"), 1, &["was paused"]);
    });
    let paused = done(&p);
    assert!(paused < 20 << 20, "{paused} bytes: that was too fast");
    told(&p.run(&["scrub", "mnt"]), 1, &["--resume"]);
    settle(&p);
    assert_eq!(done(&p), paused);

    p.kill();
    p.mount("commit=1");
    assert_eq!((state(&p).as_str(), done(&p)), ("paused", paused), "a kill changes nothing");
    told(&p.run(&["scrub", "mnt", "--resume", "--limit", "2M"]), 0, &["running"]);
    wait("some more", || done(&p) > paused + (1 << 20));
    p.umount();
    p.mount("commit=1");
    assert_eq!(state(&p), "running", "it goes on by itself");
    assert!(done(&p) > paused + (1 << 20));
    told(&p.run(&["scrub", "mnt", "--resume", "--limit", "none", "--wait"]), 0, &["finished"]);
    told(&p.run(&["scrub", "mnt", "--stop"]), 1, &["no scrub is running"]);
    told(&p.run(&["scrub", "mnt"]), 0, &["running"]);
    told(&p.run(&["scrub", "mnt", "--stop"]), 0, &["stopped"]);
    p.umount();
    told(&p.run(&["scrub", "store", "--status"]), 0, &["stopped"]);
    told(&p.run(&["scrub", "store"]), 0, &["finished"]);
    told(&p.run(&["scrub", "none"]), 1, &["no such store"]);
    p.check();
}
