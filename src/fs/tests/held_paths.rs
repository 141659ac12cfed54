//! Which paths have what only snapshots hold.

use super::*;
use crate::fixtures::bytes;
use crate::format::provenance::Reason;
use crate::fs::{HeldContent, OpenForWriting};

fn held(t: &T, most: usize) -> HeldContent {
    let (mut told, mut last) = (0, 0);
    let held = t.fs.held_paths(ROOT, most, &mut |done, of| {
        assert!(done >= last && done <= of);
        (told, last) = (told + 1, done);
        true
    });
    assert!(told > 0);
    held.unwrap()
}

fn shown(held: &HeldContent) -> Vec<(String, u64, String)> {
    let text = |name: &[u8]| String::from_utf8(name.to_vec()).unwrap();
    held.paths.iter().map(|p| (text(&p.path), p.bytes >> 10, text(&p.snapshot))).collect()
}

fn rewrite(t: &T, node: NodeId, at: u64, data: &[u8]) {
    let file = t.open(node, RW);
    t.write(file, at, data);
    t.fs.release(file.0, file.1);
}

#[test]
fn content_is_counted_once_under_the_path_that_it_had_last() {
    let t = T::new();
    let dir = t.mkdir(ROOT, "logs").unwrap();
    let (large, many) = (t.put(dir, "large", &bytes(1, 800 << 10)), t.mkdir(ROOT, "many").unwrap());
    for n in 0..40 {
        t.put(many, &format!("small {n}"), &bytes(n, 8 << 10));
    }
    let stays = t.put(ROOT, "stays", &bytes(2, 400 << 10));
    t.snapshot("one");
    assert_eq!(held(&t, 9).bytes, 0);
    // A part of one is written over, twice in the same place; one gets another name; a directory goes.
    rewrite(&t, large, 64 << 10, &bytes(3, 64 << 10));
    t.snapshot("two");
    rewrite(&t, large, 64 << 10, &bytes(4, 64 << 10));
    t.fs.rename(&USER, ROOT, b"stays", ROOT, b"has stayed", RenameMode::Replace).unwrap();
    t.snapshot("three");
    for n in 0..40 {
        let (name, node) = (format!("small {n}"), t.find(many, &format!("small {n}")).unwrap());
        t.fs.unlink(&USER, many, name.as_bytes()).unwrap();
        t.fs.forget(node);
    }
    t.fs.rmdir(&USER, ROOT, b"many").unwrap();
    rewrite(&t, stays, 0, &bytes(5, 4 << 10));
    let all = held(&t, 9);
    assert_eq!(all.bytes, (128 + 320 + 4) << 10);
    assert_eq!(
        shown(&all)[..3],
        [
            ("many/".into(), 320, "three".into()),
            ("logs/large".into(), 128, "two".into()),
            ("many/small 0".into(), 8, "three".into())
        ]
    );
    assert_eq!(held(&t, 1).paths.len(), 1);
    // What goes with a snapshot is held no more.
    t.fs.delete_snapshot(b"two").unwrap();
    assert_eq!(held(&t, 9).bytes, (64 + 320 + 4) << 10);
    // Beside the way to the present, what came to be there.
    t.fs.commit().unwrap();
    let three = t.fs.snapshot_of_word(ROOT, b"three").unwrap();
    t.snapshot("four");
    t.fs.rollback(ROOT, &three, OpenForWriting::Spared, &Reason::Rollback.into()).unwrap();
    let all = held(&t, 9);
    assert_eq!(all.bytes, (64 + 4) << 10, "{:?}", shown(&all));
    let paths: Vec<String> = shown(&all).into_iter().map(|p| p.0).collect();
    assert_eq!(paths[..2], ["logs/large", "has stayed"]);
    // Whoever wants no more is left alone.
    t.fs.held_paths(ROOT, 9, &mut |_, _| false).unwrap();
}

/// Without anything else that holds content, it is what planning says, but for nodes.
#[test]
fn together_it_is_what_snapshots_hold() {
    let (mut rng, t) = (fastrand::Rng::with_seed(7), T::new());
    for n in 0..120 {
        let name = format!("f{}", rng.u8(0..12));
        match t.find(ROOT, &name) {
            Ok(node) if rng.u8(0..4) > 0 => {
                let data = bytes(n, rng.usize(1..100_000));
                rewrite(&t, node, rng.u64(0..8) * 4096, &data);
            }
            Ok(node) => {
                t.fs.unlink(&USER, ROOT, name.as_bytes()).unwrap();
                t.fs.forget(node);
            }
            Err(_) => drop(t.put(ROOT, &name, &bytes(n, rng.usize(8192..200_000)))),
        }
        if rng.u8(0..4) == 0 {
            t.snapshot(&format!("s{n}"));
        }
    }
    let parts = t.fs.planner().unwrap().parts().unwrap();
    let all = held(&t, 5);
    assert!(all.bytes <= parts.snapshots, "{} of {parts:?}", all.bytes);
    // The rest is nodes: some for each snapshot.
    let nodes = t.fs.snapshots().len() as u64 * 6 * 32_768;
    assert!(all.bytes + nodes >= parts.snapshots, "{} of {parts:?}", all.bytes);
}
