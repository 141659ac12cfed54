//! Files of the classic layout in other trees and other stores: streams, differences, merges, rollbacks.

use super::homing::{BLOCK, cow, home, image, overwrite, rest};
use super::homing_faults::on;
use super::merging::{bring, lines};
use super::streams::{same_tree, store};
use super::*;
use crate::device::{CrashPolicy, Device, Op, Persistence, Sim};
use crate::format::Ino;
use crate::fs::difference::has_changed;
use crate::fs::items::extents;
use crate::fs::{
    MergeWay, NamedPath, OpenForWriting, Provenance, Reason, ReceiveOrder, RestoreOrder, Switched,
};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

fn layout(t: &T, node: NodeId) -> String {
    String::from_utf8(t.fs.getxattr(node, b"user.snapfs.layout").unwrap()).unwrap()
}

fn place(t: &T, node: NodeId, block: u64) -> u64 {
    let view = t.fs.heads.view_of(node).unwrap();
    let (start, extent) = extents::at(&view, Ino(node.ino()), block * BLOCK).unwrap().unwrap();
    extent.raw_addr.0 + block * BLOCK - start
}

#[test]
fn a_store_that_receives_it_says_so_and_brings_it_home() {
    let (a, b) = (store(1), store(2));
    cow(&a, ROOT);
    let (f, mut bytes) = image(&a, 64);
    overwrite(&a, f, &mut bytes, 5, 77);
    a.fs.commit().unwrap();
    a.snapshot("one");
    assert!(!b.fs.volume().knows_homes());
    b.receive(&a.send("one", None).0).unwrap();
    assert!(b.fs.volume().knows_homes());
    b.fs.commit().unwrap();
    b.prove();
    let node = b.find(ROOT, "image").unwrap();
    assert_eq!(layout(&b, node), "cow");
    let g = b.open(node, RW);
    let runs = home(&b, node).1;
    (0..64).step_by(3).for_each(|n| overwrite(&b, g, &mut bytes, n, 0));
    b.fs.commit().unwrap();
    assert!(home(&b, node).0 > 0);
    rest(&b);
    assert_eq!((home(&b, node), b.read(g, 0, bytes.len()) == bytes), ((0, runs), true));
    b.prove();
    // A store without such files stays one for all programs.
    let (c, d) = (store(3), store(4));
    c.put(ROOT, "f", b"content");
    c.snapshot("one");
    d.receive(&c.send("one", None).0).unwrap();
    assert!(!d.fs.volume().knows_homes());
}

/// A fails over to B and back, while content of A comes home.
#[test]
fn what_only_came_home_is_no_change() {
    let (a, b) = (store(1), store(2));
    cow(&a, ROOT);
    let (f, mut bytes) = image(&a, 64);
    (0..64).step_by(5).for_each(|n| overwrite(&a, f, &mut bytes, n, 77));
    a.fs.commit().unwrap();
    assert!(home(&a, f.0).0 > 0);
    a.snapshot("one");
    a.fs.release(f.0, f.1);
    b.receive(&a.send("one", None).0).unwrap();
    assert!(rest(&a).1 > 0);
    let [before, now] = [a.fs.heads.view_of(a.find(SNAPDIR, "one").unwrap()), a.fs.heads.view_of(ROOT)];
    assert!(!has_changed(&before.unwrap(), &now.unwrap()).unwrap());
    let node = b.find(ROOT, "image").unwrap();
    let g = b.open(node, RW);
    overwrite(&b, g, &mut bytes, 3, 9);
    b.fs.commit().unwrap();
    b.snapshot("two");
    a.receive(&b.send("two", Some("one")).0).unwrap();
    assert!(a.cat(ROOT, "image") == bytes);
    a.fs.commit().unwrap();
    a.prove();
    // What was written is a change, however it lies.
    let h = a.open(a.find(ROOT, "image").unwrap(), RW);
    overwrite(&a, h, &mut bytes, 3, 10);
    rest(&a);
    a.fs.release(h.0, h.1);
    overwrite(&b, g, &mut bytes, 4, 11);
    b.snapshot("three");
    assert!(a.receive(&b.send("three", Some("two")).0).is_err());
}

#[test]
fn received_lines_are_nobodys_to_change_and_stop_nobody() {
    let (a, b) = (store(1), store(2));
    cow(&a, ROOT);
    let (f, mut bytes) = image(&a, 64);
    (0..64).step_by(5).for_each(|n| overwrite(&a, f, &mut bytes, n, 7));
    a.fs.commit().unwrap();
    a.snapshot("one");
    b.receive(&a.send("one", None).0).unwrap();
    let g = b.open(b.find(ROOT, "image").unwrap(), RW);
    overwrite(&b, g, &mut bytes.clone(), 2, 9);
    b.fs.commit().unwrap();
    b.snapshot("two");
    // What comes begins as the base is here: with content away from home.
    let stream = b.send("two", Some("one")).0;
    let order = ReceiveOrder { as_line: Some(b"x"), user: None };
    a.fs.receive(&mut &stream[..], &order, &mut |_, _| ()).unwrap();
    let (_, moved) = rest(&a);
    assert!(moved > 0 && home(&a, f.0).0 == 0, "what is not received is home");
    assert!(!a.fs.content_is_away());
    assert!(a.read(f, 0, bytes.len()) == bytes);
    a.prove();
}

#[test]
fn a_layout_is_an_attribute_that_is_told_merged_and_restored() {
    let t = lines("put a A; put b B", "write a 2", "write b 3");
    let slot = t.fs.volume().find_line(b"c").unwrap().slot.0;
    let clone = NodeId::live(slot, 1);
    cow(&t, t.find(clone, "a").unwrap());
    bring(&t, MergeWay::MergeAndKeep).unwrap();
    assert_eq!(layout(&t, t.find(ROOT, "a").unwrap()), "cow");
    // Alone it is a change, too.
    cow(&t, t.find(clone, "b").unwrap());
    bring(&t, MergeWay::MergeAndKeep).unwrap();
    let b = t.find(ROOT, "b").unwrap();
    assert_eq!(layout(&t, b), "cow");
    t.snapshot("s");
    t.fs.setxattr(&SUPER, b, b"user.snapfs.layout", b"row", XattrMode::Set).unwrap();
    let told: Vec<_> = t.changes("s", "@live").iter().map(super::difference::line).collect();
    assert_eq!(told, ["A b layout"]);
    // Both ways are a conflict.
    t.fs.setxattr(&SUPER, t.find(clone, "b").unwrap(), b"user.snapfs.layout", b"inherit", XattrMode::Set)
        .unwrap();
    assert!(bring(&t, MergeWay::Merge).is_err());
    let path = NamedPath { at: ROOT, below: vec![b"b".to_vec()], name: b"b".to_vec() };
    let order = RestoreOrder { paths: vec![path], from: Some(b"s".to_vec()), to: None };
    assert!(t.fs.restore(&order, &Provenance::from(Reason::Restore)).is_ok());
    assert_eq!(layout(&t, b), "cow");
    t.prove();
}

/// Rolls the main line back; the name of the guard.
fn back(t: &T, word: &[u8]) -> String {
    let to = t.fs.snapshot_of_word(ROOT, word).unwrap();
    let done = t.fs.rollback(ROOT, &to, OpenForWriting::CutOff, &Reason::Rollback.into()).unwrap();
    let Switched::Done(guard) = done else { panic!("{done:?}") };
    String::from_utf8(guard.name).unwrap()
}

fn forget(t: &T, name: &str) {
    t.fs.rmdir(&USER, SNAPDIR, name.as_bytes()).unwrap();
}

fn commits(t: &T) {
    (0..5).for_each(|_| t.fs.commit().unwrap());
}

/// A place that moved content has left comes round again: one tree has two references to it, of different births. When the
/// snapshot that both heads are on goes, each is let go of by itself.
#[test]
fn a_place_that_comes_round_again_is_told_from_what_had_been_there() {
    let sim = Arc::new(Sim::new(64 << 20, 1));
    Volume::create(sim.clone(), sim.size(), [1; 16], (0, 0)).unwrap();
    let t = on(&sim);
    cow(&t, ROOT);
    let (f, mut bytes) = image(&t, 16);
    let old = bytes.clone();
    t.snapshot("s1");
    let left = place(&t, f.0, 5);
    overwrite(&t, f, &mut bytes, 5, 99);
    rest(&t);
    assert_eq!((place(&t, f.0, 5), home(&t, f.0).0), (left, 0));
    t.fs.release(f.0, f.1);
    let guard = back(&t, b"s1");
    forget(&t, &guard);
    forget(&t, "s1");
    commits(&t);
    t.prove();
    // A mount begins at the lowest free place. Small files until one gets the place that was left.
    t.fs.close().unwrap();
    drop(t);
    let t = on(&Arc::new(sim.clone_image()));
    let has_it = |n: &usize| {
        let node = t.put(ROOT, &format!("g{n}"), &[*n as u8 | 1; BLOCK as usize]);
        t.fs.commit().unwrap();
        place(&t, node, 0) == left
    };
    let taker = (0..400).find(has_it);
    let taker = format!("g{}", taker.expect("the place comes round"));
    let content = t.cat(ROOT, &taker);
    assert!(t.cat(ROOT, "image") == old, "and what had been there is elsewhere");
    t.snapshot("h");
    let f = t.open(t.find(ROOT, "image").unwrap(), RW);
    let mut newer = old.clone();
    overwrite(&t, f, &mut newer, 5, 111);
    t.fs.release(f.0, f.1);
    t.fs.commit().unwrap();
    let guard = back(&t, b"h");
    t.rm(ROOT, &taker);
    t.fs.commit().unwrap();
    forget(&t, "h");
    commits(&t);
    t.prove();
    // Whatever was freed is written over.
    for n in 0..400 {
        t.put(ROOT, &format!("new{n}"), &[7; BLOCK as usize]);
    }
    commits(&t);
    assert!(t.cat(ROOT, "image") == old);
    let guarded = t.find(SNAPDIR, &guard).unwrap();
    assert!(t.cat(guarded, &taker) == content && t.cat(guarded, "image") == newer);
    t.prove();
    forget(&t, &guard);
    commits(&t);
    assert!(t.cat(ROOT, "image") == old);
    t.prove();
}

/// Notes how often the device is read while no request is answered.
struct Counting {
    sim: Arc<Sim>,
    reads: AtomicU64,
}

impl Kernel for Counting {
    fn write_back(&self, _nodes: &[(NodeId, u64)]) -> std::io::Result<()> {
        Ok(())
    }
    fn invalidate_node(&self, _node: NodeId) {}
    fn invalidate_entry(&self, _parent: NodeId, _name: &[u8]) {}
    fn between_answers(&self, work: &mut dyn FnMut()) {
        let before = self.sim.counts().reads;
        work();
        self.reads.fetch_add(self.sim.counts().reads - before, Relaxed);
    }
}

/// A receiver on a simulated disk.
fn receiver() -> (Arc<Sim>, T) {
    let sim = Arc::new(Sim::new(1 << 30, 1));
    Volume::create(sim.clone(), 1 << 30, [2; 16], (0, 0)).unwrap();
    (sim.clone(), on(&sim))
}

/// The line is compared with what it was, and what came home is read for that, before anybody has to wait.
#[test]
fn nobody_waits_while_what_came_home_is_compared() {
    let reads = |blocks: u64| {
        let (a, (sim, b)) = (store(1), receiver());
        cow(&a, ROOT);
        let (f, mut bytes) = image(&a, 256);
        a.snapshot("one");
        b.receive(&a.send("one", None).0).unwrap();
        (0..blocks).for_each(|n| overwrite(&a, f, &mut bytes, n, 200));
        a.fs.commit().unwrap();
        a.snapshot("two");
        b.receive(&a.send("two", Some("one")).0).unwrap();
        assert_eq!(rest(&b).1, blocks * BLOCK);
        overwrite(&a, f, &mut bytes, 255, 9);
        a.fs.commit().unwrap();
        a.snapshot("three");
        let kernel = Arc::new(Counting { sim, reads: AtomicU64::new(0) });
        b.fs.set_kernel(kernel.clone());
        b.receive(&a.send("three", Some("two")).0).unwrap();
        assert!(b.cat(ROOT, "image") == bytes);
        kernel.reads.load(Relaxed)
    };
    let (few, many) = (reads(3), reads(200));
    assert!(many <= few + 4, "{few} reads, and {many}");
}

/// What came home in the line that is received into stays there when the next increment comes.
#[test]
fn each_increment_brings_home_what_it_has_brought() {
    let (a, (_, b)) = (store(1), receiver());
    cow(&a, ROOT);
    let (f, mut bytes) = image(&a, 256);
    a.snapshot("s0");
    b.receive(&a.send("s0", None).0).unwrap();
    let mut moved = Vec::new();
    for round in 1..=5u64 {
        (0..10).for_each(|n| overwrite(&a, f, &mut bytes, 20 * round + n, round as u8));
        a.fs.commit().unwrap();
        a.snapshot(&format!("s{round}"));
        let stream = a.send(&format!("s{round}"), Some(&format!("s{}", round - 1))).0;
        let got = b.receive(&stream).unwrap();
        same_tree((&a, &a.named(&format!("s{round}"))), (&b, &got.snapshot), "increment");
        moved.push(rest(&b).1 / BLOCK);
        assert!(b.cat(ROOT, "image") == bytes, "{round}");
        b.fs.commit().unwrap();
        b.prove();
    }
    assert_eq!(moved, [10; 5]);
}

/// A receiver that has two snapshots of a sender, of which the second came home, and the third on its way.
fn third_on_its_way() -> (T, Arc<Sim>, Vec<u8>, Vec<u8>) {
    let (a, (sim, b)) = (store(1), receiver());
    cow(&a, ROOT);
    let (f, mut bytes) = image(&a, 64);
    a.put(ROOT, "read", b"now and then");
    a.snapshot("one");
    b.receive(&a.send("one", None).0).unwrap();
    (0..9).for_each(|n| overwrite(&a, f, &mut bytes, 5 * n, 200));
    a.fs.commit().unwrap();
    a.snapshot("two");
    b.receive(&a.send("two", Some("one")).0).unwrap();
    assert_eq!(rest(&b).1, 9 * BLOCK);
    // Somebody reads there: times of access are no change, and no part of what comes.
    b.clock.advance(1_000_000_000);
    b.cat(ROOT, "read");
    b.cat(ROOT, "image");
    b.fs.close().unwrap();
    (0..9).for_each(|n| overwrite(&a, f, &mut bytes, 5 * n + 1, 201));
    a.fs.commit().unwrap();
    a.snapshot("three");
    let three = a.send("three", Some("two")).0;
    (a, Arc::new(sim.clone_image()), three, bytes)
}

#[test]
fn a_cut_while_something_begins_in_a_line_that_came_home_leaves_all_or_nothing() {
    let (a, image, three, bytes) = third_on_its_way();
    for n in 1.. {
        let sim = Arc::new(image.clone_image());
        let t = on(&sim);
        sim.set_crash_at(sim.changes() + n);
        let done = t.receive(&three).is_ok();
        let is_cut = sim.is_crashed();
        assert!(is_cut || done);
        for policy in [CrashPolicy::DropAll, CrashPolicy::KeepAll, CrashPolicy::Random(n)] {
            let b = on(&Arc::new(sim.crash(policy)));
            let what = format!("{n} {policy:?}");
            assert!(b.fs.volume().read_only_reason().is_none(), "{what}: {:?}", b.fs.recovered());
            b.prove();
            let got = b.receive(&three).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert!(got.was_here || !done, "{what}: it was answered");
            same_tree((&a, &a.named("three")), (&b, &got.snapshot), &what);
            assert!(b.cat(ROOT, "image") == bytes && b.fs.arrivals().is_empty(), "{what}");
            rest(&b);
            assert!(b.cat(b.find(SNAPDIR, "three").unwrap(), "image") == bytes, "{what}");
            b.prove();
        }
        if !is_cut {
            break;
        }
    }
}

#[test]
fn a_failure_while_something_begins_in_a_line_that_came_home_leaves_all_or_nothing() {
    let (a, image, three, bytes) = third_on_its_way();
    for op in [Op::Read, Op::Write, Op::Flush] {
        for n in 1.. {
            let sim = Arc::new(image.clone_image());
            let t = on(&sim);
            let struck = sim.faults_struck();
            sim.fail(op, n, Persistence::Once);
            let done = t.receive(&three);
            let what = format!("{op:?} {n}: {done:?}");
            if sim.faults_struck() == struck {
                assert!(done.is_ok(), "{what}");
                break;
            }
            let b = match t.fs.volume().is_read_only() {
                true => on(&Arc::new(sim.crash(CrashPolicy::KeepAll))),
                false => t,
            };
            let got = b.receive(&three).unwrap_or_else(|e| panic!("{what}: {e}"));
            same_tree((&a, &a.named("three")), (&b, &got.snapshot), &what);
            assert!(b.cat(ROOT, "image") == bytes && b.fs.arrivals().is_empty(), "{what}");
            b.fs.commit().unwrap();
            b.prove();
        }
    }
}

/// A file without a name is no part of what comes, however much is written to it.
#[test]
fn what_has_no_name_in_the_line_is_no_part_of_what_begins_in_it() {
    let (a, b) = (store(1), store(2));
    let nameless = b.create(ROOT, "gone");
    cow(&b, ROOT);
    let (f, mut bytes) = image(&b, 64);
    (0..600).for_each(|n| b.write(nameless, n * 8192, &[1; 4096]));
    let _kept = b.open(nameless.0, RO);
    b.rm(ROOT, "gone");
    b.fs.commit().unwrap();
    b.snapshot("zero");
    (0..9).for_each(|n| overwrite(&b, f, &mut bytes, 5 * n, 200));
    b.fs.commit().unwrap();
    b.snapshot("one");
    a.receive(&b.send("one", None).0).unwrap();
    let copy = a.open(a.find(ROOT, "image").unwrap(), RW);
    overwrite(&a, copy, &mut bytes, 2, 9);
    a.fs.commit().unwrap();
    a.snapshot("two");
    (0..600).for_each(|n| b.write(nameless, n * 8192, &[2; 4096]));
    [f, nameless].into_iter().for_each(|(node, handle)| b.fs.release(node, handle));
    assert_eq!(rest(&b).1, 609 * BLOCK, "what has no name as well");
    let got = b.receive(&a.send("two", Some("one")).0).unwrap();
    same_tree((&a, &a.named("two")), (&b, &got.snapshot), "two");
    assert!(b.cat(ROOT, "image") == bytes);
    assert_eq!(rest(&b).1, BLOCK, "the rest is home");
    b.fs.commit().unwrap();
    b.prove();
    a.fs.release(copy.0, copy.1);
}
