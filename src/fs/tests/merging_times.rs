//! Times of modification of files with extents, where one side has what an earlier merge or rebase brought, and where both
//! have written the same.

use super::merging::{bring, play};
use super::*;
use crate::fs::{Aspects, MergeDone, MergeWay, Merged, three_way};

/// More than an inode holds by itself.
const BYTES: usize = 20_000;

/// Two lines with a file `f` that has extents, and where they are: the line, and its clone.
fn forked() -> (T, NodeId, NodeId) {
    let t = T::new();
    t.snapshot("base");
    t.put(ROOT, "f", &[1; BYTES]);
    t.snapshot("both");
    let from = t.fs.snapshots()[1].id;
    let clone = t.fs.create_line(b"c", from).unwrap();
    t.fs.commit().unwrap();
    (t, ROOT, clone)
}

fn write(t: &T, root: NodeId, byte: u8) {
    let file = t.open(t.find(root, "f").unwrap(), RW);
    t.write(file, 0, &[byte; BYTES]);
    t.fs.release(file.0, file.1);
    t.clock.advance(1_000_000);
}

/// What is taken over next is born in another epoch.
fn settle(t: &T) {
    t.fs.commit().unwrap();
}

fn modified(t: &T, root: NodeId) -> Timestamp {
    t.attr(t.find(root, "f").unwrap()).mtime
}

fn at(secs: i64) -> Timestamp {
    Timestamp { secs, nanos: 0 }
}

/// Brings something while `f` is open for writing on the side that gets it.
fn bring_to_a_writer(t: &T, way: MergeWay, target: NodeId) -> MergeDone {
    let writer = t.open(t.find(target, "f").unwrap(), RW);
    let done = bring(t, way).expect("what is written there does not change");
    t.fs.release(writer.0, writer.1);
    settle(t);
    done
}

/// Each way with who gives and who gets: what it is brought by, the other way, and the two sides.
fn both_ways(each: impl Fn(&T, MergeWay, MergeWay, [NodeId; 2])) {
    for is_merge in [true, false] {
        let (t, line, clone) = forked();
        match is_merge {
            true => each(&t, MergeWay::MergeAndKeep, MergeWay::Rebase, [clone, line]),
            false => each(&t, MergeWay::Rebase, MergeWay::MergeAndKeep, [line, clone]),
        }
        settle(&t);
        t.prove();
    }
}

#[test]
fn a_time_is_brought_to_what_was_taken_over_before() {
    both_ways(|t, way, back, [giver, getter]| {
        write(t, giver, 2);
        settle(t);
        assert!(bring(t, way).unwrap().guards.is_some());
        settle(t);
        // Once more from the same side.
        play(t, giver, "touch f 77");
        settle(t);
        assert!(bring_to_a_writer(t, way, getter).guards.is_some());
        assert_eq!((modified(t, giver), modified(t, getter)), (at(77), at(77)), "{way:?}");
        // And from the one that took it over.
        play(t, getter, "touch f 99");
        settle(t);
        assert!(bring_to_a_writer(t, back, giver).guards.is_some());
        assert_eq!((modified(t, giver), modified(t, getter)), (at(99), at(99)), "{way:?}");
        for again in [way, back] {
            assert!(bring(t, again).unwrap().guards.is_none(), "{way:?}, then {again:?}");
        }
    });
}

#[test]
fn a_time_stays_where_the_other_side_only_took_over() {
    both_ways(|t, way, back, [giver, _]| {
        write(t, giver, 2);
        settle(t);
        assert!(bring(t, way).unwrap().guards.is_some());
        settle(t);
        play(t, giver, "touch f 99");
        settle(t);
        // Who only took it over has nothing to give.
        for _ in 0..2 {
            let done = bring_to_a_writer(t, back, giver);
            assert!(done.guards.is_none() && done.changes.is_empty(), "{way:?}: {:?}", done.changes);
            assert_eq!(modified(t, giver), at(99), "{way:?}");
        }
    });
}

#[test]
fn of_the_same_written_on_both_sides_the_later_time_stays() {
    for (of_giver, of_getter) in [(77, 99), (99, 77)] {
        both_ways(|t, way, _, [giver, getter]| {
            for (root, secs) in [(giver, of_giver), (getter, of_getter)] {
                write(t, root, 2);
                play(t, root, &format!("touch f {secs}"));
            }
            settle(t);
            let done = bring_to_a_writer(t, way, getter);
            assert_eq!(done.guards.is_some(), of_giver > of_getter, "{way:?}");
            assert_eq!((modified(t, giver), modified(t, getter)), (at(of_giver), at(99)), "{way:?}");
            assert!(bring(t, way).unwrap().guards.is_none(), "{way:?}");
        });
    }
}

#[test]
fn of_the_same_in_a_file_that_the_base_has_not_the_later_time_is_taken() {
    // The file is in both lines, and not in what they are compared with here.
    let (t, line, clone) = forked();
    for (root, secs) in [(line, 77), (clone, 99)] {
        write(&t, root, 2);
        play(&t, root, &format!("touch f {secs}"));
    }
    settle(&t);
    let file = crate::format::Ino(t.find(line, "f").unwrap().ino());
    let taken = |source: &str, target: &str| {
        let [base, source, target] = ["base", source, target].map(|word| t.word(word));
        match three_way(&base, &source, &target).unwrap() {
            Merged::Clean(plan) => plan.inodes.get(&file).map(|takeover| takeover.aspects),
            Merged::Conflicts(all) => panic!("{all:?}"),
        }
    };
    let time = Aspects { attributes: true, times: true, ..Aspects::NOTHING };
    assert_eq!((taken(".clones/c", "@live"), taken("@live", ".clones/c")), (Some(time), None));
}
