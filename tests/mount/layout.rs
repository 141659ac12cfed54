//! Files that are written over in place and come home, on a real mount.

use crate::guard::can_mount;
use crate::place::Place;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;

/// A disk image that is written to at random places under snapshots lies in as many pieces afterwards as before, each
/// snapshot is what it was, and the store is sound.
#[test]
fn an_image_under_snapshots_comes_home() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    p.ok(&["create", "--method", "cow", p.path("").to_str().unwrap(), "empty"]);
    // The tree of this one is as it was before the layout was set.
    assert_eq!(p.json(&["show", "--json", p.path("").to_str().unwrap(), "empty"])["method"], "cow");
    let image = p.path("image");
    let path = image.to_str().unwrap();
    let mut content = vec![7u8; 4 << 20];
    fs::write(&image, &content).unwrap();
    File::open(&image).unwrap().sync_all().unwrap();
    let show = |more: &[&str]| p.json(&[&["show", "--json"], more, &[path]].concat());
    let before = show(&["--wait"]);
    assert_eq!((before["layout"].as_str(), before["away"].as_u64()), (Some("cow"), Some(0)), "{before}");
    let file = OpenOptions::new().write(true).open(&image).unwrap();
    let mut past = Vec::new();
    let mut rng = fastrand::Rng::with_seed(3);
    for n in 0..4u8 {
        p.snapshot(&format!("s{n}"));
        past.push(content.clone());
        for _ in 0..100 {
            let at = rng.usize(0..1024) * 4096;
            content[at..at + 4096].fill(n);
            file.write_all_at(&[n; 4096], at as u64).unwrap();
        }
        file.sync_all().unwrap();
    }
    drop(file);
    let after = show(&["--wait"]);
    assert_eq!(after["away"].as_u64(), Some(0), "{after}");
    assert_eq!(after["runs"], before["runs"], "{after}");
    assert!(fs::read(&image).unwrap() == content);
    for (n, expected) in past.iter().enumerate() {
        assert!(fs::read(p.past(&format!("s{n}"), "image")).unwrap() == *expected, "snapshot {n}");
    }
    let shown = p.ok(&["show", path]);
    assert!(shown.contains("away from home: 0"), "{shown}");
    let snapshot = p.json(&["show", "--json", p.path("").to_str().unwrap(), "s0"]);
    assert_eq!(snapshot["method"], "cow");
    let set = p.json(&["get", "--json", "layout", path]);
    assert_eq!((set[0]["value"].as_str(), set[0]["source"].as_str()), (Some("cow"), Some("store")));
    assert_eq!(p.run(&["set", "layout=fast", path]).code, 2);
    p.ok(&["check", "--data", p.path("").to_str().unwrap()]);
}

/// A file that is there keeps the pieces that it has when the layout is set on it, and every part of it stays in its own.
#[test]
fn a_file_at_rest_that_gets_the_layout_keeps_its_pieces() {
    if !can_mount() {
        return;
    }
    let p = Place::new();
    p.mount("");
    let image = p.path("image");
    let path = image.to_str().unwrap();
    let mut content = vec![7u8; 4 << 20];
    fs::write(&image, &content).unwrap();
    let file = OpenOptions::new().write(true).open(&image).unwrap();
    let mut rng = fastrand::Rng::with_seed(4);
    let mut write_over = |content: &mut [u8], byte: u8| {
        let at = rng.usize(0..1024) * 4096;
        content[at..at + 4096].fill(byte);
        file.write_all_at(&[byte; 4096], at as u64).unwrap();
    };
    // Scattered, as a file is that is written over under snapshots.
    for n in 0..3u8 {
        p.snapshot(&format!("before{n}"));
        (0..30).for_each(|_| write_over(&mut content, 10 + n));
        p.snapshot(&format!("after{n}"));
    }
    p.ok(&["set", "layout=cow", path]);
    let show = || p.json(&["show", "--json", "--wait", path]);
    let before = show();
    let runs = before["runs"].as_u64().unwrap();
    assert!(before["layout"] == "cow" && before["away"] == 0 && runs > 30, "{before}");
    (0..300).for_each(|_| write_over(&mut content, 77));
    file.sync_all().unwrap();
    let after = show();
    assert!(after["away"] == 0 && after["runs"] == runs, "{after}, and {before}");
    drop(file);
    assert!(fs::read(&image).unwrap() == content);
    p.ok(&["check", "--data", p.path("").to_str().unwrap()]);
}
