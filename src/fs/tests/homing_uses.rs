//! Files that are written over in place, and what else is done with them: sent, merged, rebased, taken back, restored. Content
//! is what it is for any file, the layout stays, and so do the homes as far as content can get there.

use super::homing::{BLOCK, cow, home, image, overwrite, rest};
use super::streams::store;
use super::*;
use crate::fs::{
    MergeOrder, MergeWay, NamedPath, OpenForWriting, Provenance, Reason, RestoreOrder, SendOrder, Switched,
};

/// Blocks of the file.
const BLOCKS: u64 = 256;

fn layout(t: &T, node: NodeId) -> String {
    String::from_utf8(t.fs.getxattr(node, b"user.snapfs.layout").unwrap()).unwrap()
}

/// Deletes all snapshots: nothing is in the way of content any more.
fn forget_all(t: &T) {
    for name in t.list(SNAPDIR) {
        t.fs.rmdir(&USER, SNAPDIR, name.as_bytes()).unwrap();
    }
    (0..5).for_each(|_| t.fs.commit().unwrap());
}

#[test]
fn an_increment_carries_what_was_written_and_not_what_came_home() {
    let (a, b) = (store(1), store(2));
    [&a, &b].into_iter().for_each(|t| cow(t, ROOT));
    let (f, mut bytes) = image(&a, BLOCKS);
    let runs = home(&a, f.0).1;
    let mut states = Vec::new();
    let mut snapshot = |name: &'static str, bytes: &[u8]| {
        a.fs.commit().unwrap();
        a.snapshot(name);
        states.push((name, bytes.to_vec()));
    };
    snapshot("one", &bytes);
    (0..16).for_each(|n| overwrite(&a, f, &mut bytes, 7 * n, 200));
    snapshot("written", &bytes);
    assert_eq!(rest(&a), (16 * BLOCK, 16 * BLOCK));
    snapshot("home", &bytes);
    overwrite(&a, f, &mut bytes, 7, 200); // with what is there
    overwrite(&a, f, &mut bytes, 8, 201);
    snapshot("again", &bytes);

    // By snapshot: what it is sent against, and how many blocks that takes.
    let expected = [(None, BLOCKS), (Some("one"), 16), (Some("written"), 0), (Some("home"), 1)];
    for ((name, bytes), (base, blocks)) in states.iter().zip(expected) {
        let (stream, told) = a.send(name, base);
        assert_eq!(told.content_bytes, blocks * BLOCK, "{name}");
        b.receive(&stream).unwrap();
        assert!(b.cat(b.find(SNAPDIR, name).unwrap(), "image") == *bytes, "{name}");
        assert_eq!(a.fs.digest_of(&a.named(name)).unwrap(), b.fs.digest_of(&b.named(name)).unwrap());
    }
    assert_eq!(a.send("again", Some("one")).1.content_bytes, 17 * BLOCK, "over the move: what was written");
    // The layout has come along, and what was received goes home there.
    let copy = b.find(ROOT, "image").unwrap();
    assert_eq!((layout(&b, ROOT).as_str(), layout(&b, copy).as_str()), ("cow", "cow"));
    rest(&b);
    assert_eq!(home(&b, copy), (0, runs));
    for (name, bytes) in &states {
        assert!(b.cat(b.find(SNAPDIR, name).unwrap(), "image") == *bytes, "{name}");
    }
    [&a, &b].into_iter().for_each(T::prove);
}

/// The base is gone, so that nothing can be held against it: what came home is told once more.
#[test]
fn against_a_base_that_is_gone_what_came_home_is_sent_again() {
    let a = store(1);
    cow(&a, ROOT);
    let (f, mut bytes) = image(&a, BLOCKS);
    a.snapshot("one");
    (0..16).for_each(|n| overwrite(&a, f, &mut bytes, 7 * n, 200));
    a.fs.commit().unwrap();
    a.snapshot("written");
    let base = a.named("written");
    a.fs.volume().note_peer([2; 16], base.id, (0, b"")).unwrap();
    rest(&a);
    a.snapshot("home");
    a.fs.rmdir(&USER, SNAPDIR, b"written").unwrap();
    a.fs.commit().unwrap();
    let peer = a.fs.volume().peers().into_iter().next().unwrap();
    let snapshot = a.named("home");
    let order = SendOrder { snapshot: &snapshot, base: None, gone: Some(&peer), resume: None };
    let told = a.fs.send(&order, &mut Vec::new(), &mut |_| true).unwrap();
    assert_eq!(told.content_bytes, 16 * BLOCK);
}

/// A line with such a file, under a snapshot, some of it away; a clone of it; and then all that can be is home. So the file of
/// the line has moved since the clone was made, and has not changed.
fn forked() -> (T, (NodeId, Handle), Vec<u8>, NodeId, u64) {
    let t = T::with(1 << 30, FsOptions::default());
    cow(&t, ROOT);
    let (f, mut bytes) = image(&t, BLOCKS);
    let runs = home(&t, f.0).1;
    t.snapshot("s");
    (0..16).for_each(|n| overwrite(&t, f, &mut bytes, 7 * n, 200));
    t.fs.commit().unwrap();
    let clone = t.mkdir(NodeId::clonedir(0), "c").unwrap();
    // Both want one home: one of them has it.
    assert_eq!(rest(&t).1, 16 * BLOCK);
    let away = [f.0, t.find(clone, "image").unwrap()].map(|node| home(&t, node).0);
    assert_eq!(away.iter().sum::<u64>(), 16 * BLOCK, "{away:?}");
    (t, f, bytes, clone, runs)
}

fn merge(t: &T, way: MergeWay) {
    t.fs.merge(&MergeOrder { at: ROOT, clone: b"c", way }, &Provenance::from(Reason::Merge)).unwrap();
}

#[test]
fn what_came_home_in_the_line_does_not_contradict_a_merge() {
    let (t, f, mut bytes, clone, runs) = forked();
    let of_clone = t.open(t.find(clone, "image").unwrap(), RW);
    (0..4).for_each(|n| overwrite(&t, of_clone, &mut bytes, 50 * n, 9));
    t.fs.release(of_clone.0, of_clone.1);
    t.fs.release(f.0, f.1);
    t.fs.commit().unwrap();
    merge(&t, MergeWay::Merge);
    let file = t.find(ROOT, "image").unwrap();
    assert!(t.cat(ROOT, "image") == bytes);
    assert_eq!(layout(&t, file), "cow");
    t.fs.commit().unwrap();
    t.prove();
    forget_all(&t);
    rest(&t);
    // What was taken over lies where the clone had it.
    let (away, now) = home(&t, file);
    assert!(away == 0 && now <= runs + 2 * 4, "{now} runs");
    assert!(t.cat(ROOT, "image") == bytes);
    t.prove();
}

#[test]
fn a_rebase_brings_what_came_home_to_a_clone() {
    let (t, f, mut bytes, clone, runs) = forked();
    t.put(clone, "own", b"own");
    (0..4).for_each(|n| overwrite(&t, f, &mut bytes, 50 * n, 9));
    t.fs.release(f.0, f.1);
    t.fs.commit().unwrap();
    merge(&t, MergeWay::Rebase);
    let copy = t.find(clone, "image").unwrap();
    assert!(t.cat(clone, "image") == bytes && t.cat(clone, "own") == b"own");
    assert_eq!(layout(&t, copy), "cow");
    rest(&t);
    t.prove();
    assert!(t.cat(ROOT, "image") == bytes && t.cat(clone, "image") == bytes);
    t.fs.drop_clone(b"c").unwrap();
    forget_all(&t);
    rest(&t);
    assert_eq!(home(&t, f.0), (0, runs));
    assert!(t.cat(ROOT, "image") == bytes);
    t.prove();
}

#[test]
fn a_rollback_brings_content_and_homes_back() {
    let t = T::with(1 << 30, FsOptions::default());
    cow(&t, ROOT);
    let (f, mut bytes) = image(&t, BLOCKS);
    let runs = home(&t, f.0).1;
    let old = bytes.clone();
    t.snapshot("s");
    (0..16).for_each(|n| overwrite(&t, f, &mut bytes, 7 * n, 200));
    t.fs.release(f.0, f.1);
    rest(&t);
    let to = t.fs.snapshot_of_word(ROOT, b"s").unwrap();
    let done = t.fs.rollback(ROOT, &to, OpenForWriting::CutOff, &Reason::Rollback.into()).unwrap();
    let Switched::Done(guard) = done else { panic!("{done:?}") };
    let file = t.find(ROOT, "image").unwrap();
    assert!(t.cat(ROOT, "image") == old);
    assert_eq!(layout(&t, file), "cow");
    rest(&t);
    // It is where the snapshot had it, and that had made room.
    let (away, scattered) = home(&t, file);
    assert!(away == 0 && scattered <= runs + 2 * 16, "{scattered} runs");
    // What is written now goes on from there.
    let w = t.open(file, RW);
    let mut now = old.clone();
    (0..BLOCKS).for_each(|n| overwrite(&t, w, &mut now, n, 3));
    rest(&t);
    let past = t.find(SNAPDIR, std::str::from_utf8(&guard.name).unwrap()).unwrap();
    assert!(t.cat(ROOT, "image") == now && t.cat(past, "image") == bytes);
    t.prove();
    forget_all(&t);
    rest(&t);
    assert_eq!(
        home(&t, file),
        (0, runs),
        "written again it is in the places that it had before the snapshot"
    );
    assert!(t.cat(ROOT, "image") == now);
    t.prove();
}

#[test]
fn a_restore_shares_with_the_snapshot_and_goes_home_when_that_goes() {
    let t = T::with(1 << 30, FsOptions::default());
    cow(&t, ROOT);
    let (f, mut bytes) = image(&t, BLOCKS);
    let runs = home(&t, f.0).1;
    let old = bytes.clone();
    t.snapshot("s");
    (0..16).for_each(|n| overwrite(&t, f, &mut bytes, 7 * n, 200));
    t.fs.release(f.0, f.1);
    rest(&t);
    let path = NamedPath { at: ROOT, below: vec![b"image".to_vec()], name: b"image".to_vec() };
    let order = RestoreOrder { paths: vec![path], from: Some(b"s".to_vec()), to: None };
    t.fs.restore(&order, &Provenance::from(Reason::Restore)).unwrap();
    let file = t.find(ROOT, "image").unwrap();
    assert!(t.cat(ROOT, "image") == old);
    assert_eq!(layout(&t, file), "cow");
    rest(&t);
    let (away, scattered) = home(&t, file);
    assert!(away == 0 && scattered <= runs + 2 * 16, "{scattered} runs");
    t.prove();
    let w = t.open(file, RW);
    let mut now = old.clone();
    (0..BLOCKS).for_each(|n| overwrite(&t, w, &mut now, n, 3));
    rest(&t);
    assert!(t.cat(ROOT, "image") == now);
    t.prove();
    forget_all(&t);
    rest(&t);
    let (away, now_runs) = home(&t, file);
    assert!(away == 0 && now_runs <= scattered, "{now_runs} runs");
    assert!(t.cat(ROOT, "image") == now);
    t.prove();
}
