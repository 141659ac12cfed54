//! Streams against a base that is gone, where leaves end: what a file has lost there is told, whatever of it is in which leaf.

use super::streams::{same_tree, send_against_gone, store};
use super::*;
use crate::format::{Epoch, Key, Kind};
use crate::fs::items::decode_extent;

const EXTENTS: u8 = Kind::Extent as u8;
const COUNT: u64 = 700;
/// From one extent to the next: two blocks, and one that is none of the file's.
const STEP: u64 = 3 * 4096;

/// A store with a file of many extents and others behind it, whose snapshot another store has and it has not any more.
fn pair() -> (T, T, NodeId) {
    let (a, b) = (store(1), store(2));
    let file = a.create(ROOT, "log");
    for n in 0..COUNT {
        a.write(file, n * STEP, &[n as u8 | 1; 8192]);
    }
    a.fs.release(file.0, file.1);
    a.fs.commit().unwrap();
    for n in 0..200 {
        a.put(ROOT, &format!("behind-{n}"), &[n as u8; 300]);
    }
    a.snapshot("one");
    b.receive(&a.send("one", None).0).unwrap();
    assert!(a.fs.volume().note_peer([2; 16], a.named("one").id, (0, b"")).unwrap());
    (a, b, file.0)
}

/// Extents of the file with which leaves end: where each is, and what the next leaf begins with.
fn last_of_leaves(t: &T, file: NodeId) -> Vec<(u64, Key)> {
    t.fs.commit().unwrap();
    let view = t.view_in(&t.named("one"));
    let mut found = Vec::new();
    view.younger::<crate::volume::VolumeError>(Epoch(0), &mut |leaf| {
        if let Some((key, value)) =
            leaf.items.last().filter(|(key, _)| key.object == file.ino() && key.kind == EXTENTS)
        {
            let (at, extent) = decode_extent(key, value)?;
            assert_eq!(extent.len_bytes(), 8192);
            found.push((at, leaf.to));
        }
        Ok(())
    })
    .unwrap();
    found
}

#[test]
fn what_is_cut_off_where_a_leaf_ends_is_told_as_not_there() {
    let (probe, _, file) = pair();
    let ends = last_of_leaves(&probe, file);
    assert!(ends.len() > 1, "{ends:?}");
    // The first key of the next leaf is one that no extent can have.
    assert!(ends.iter().any(|(_, to)| to.kind == EXTENTS && !to.rest.is_multiple_of(4096)), "{ends:?}");
    for (at, _) in ends {
        // All of the last extent, some of it, and what is behind, by holes and by other ends.
        for (from, to) in
            [(at, at + 8192), (at + 4096, at + 8192), (at, at + 4096), (at + 4096, at + STEP + 4096)]
        {
            for truncated in [false, true] {
                let (a, b, node) = pair();
                a.fs.delete_snapshot(b"one").unwrap();
                a.fs.commit().unwrap();
                if truncated {
                    a.resize(node, from);
                } else {
                    let handle = a.open(node, RW);
                    a.fs.fallocate(&SUPER, node, handle.1, from, to - from, AllocateMode::PunchHole).unwrap();
                    a.fs.release(handle.0, handle.1);
                }
                a.snapshot("two");
                let what = format!("{from} to {to}, truncated {truncated}");
                let got = b.receive(&send_against_gone(&a, "two", [2; 16]).0);
                let got = got.unwrap_or_else(|e| panic!("{what}: {e}"));
                same_tree((&a, &a.named("two")), (&b, &got.snapshot), &what);
                b.fs.commit().unwrap();
                b.prove();
            }
        }
    }
}

#[test]
fn files_of_many_leaves_lose_and_get_ranges_anywhere() {
    for seed in 0..12 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (a, b, node) = pair();
        for round in 0..3 {
            let name = if round == 0 { "one".to_string() } else { format!("s{round}") };
            a.fs.delete_snapshot(name.as_bytes()).unwrap();
            let handle = a.open(node, RW);
            for _ in 0..rng.u32(1..40) {
                let (at, len) = (rng.u64(0..COUNT * 3) * 4096, rng.u64(1..40) * 4096);
                match rng.u8(0..4) {
                    0 => a.write(handle, at, &vec![rng.u8(1..); rng.usize(1..5) * 4096]),
                    1 => a.resize(node, rng.u64(COUNT..COUNT * 4) * 4096),
                    _ => a.fs.fallocate(&SUPER, node, handle.1, at, len, AllocateMode::PunchHole).unwrap(),
                }
                if rng.u8(0..5) == 0 {
                    a.fs.commit().unwrap();
                }
            }
            a.fs.release(handle.0, handle.1);
            let name = format!("s{}", round + 1);
            a.snapshot(&name);
            let got = b.receive(&send_against_gone(&a, &name, [2; 16]).0);
            let got = got.unwrap_or_else(|e| panic!("seed {seed}, {name}: {e}"));
            same_tree((&a, &a.named(&name)), (&b, &got.snapshot), &format!("seed {seed}, {name}"));
            assert!(a.fs.volume().note_peer([2; 16], a.named(&name).id, (0, b"")).unwrap());
        }
    }
}
