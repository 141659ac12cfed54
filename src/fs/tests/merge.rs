//! Merge and rebase of clones: nothing twice, what is refused, and all or nothing at every write.

use super::merging::{Whole, bring, lines, play};
use super::*;
use crate::device::{CrashPolicy, Op, Persistence, Sim};
use crate::format::provenance::{Provenance, Reason};
use crate::fs::{
    MergeDone, MergeOrder, MergeRefusal, MergeWay, OpenForWriting, PromotionOrder, Refusal, TakenBack,
    Undoable,
};
use crate::volume::{Access, OpenOptions};

fn tree(t: &T, word: &str) -> String {
    Whole::of(&t.word(word)).tree()
}

fn paths(done: &MergeDone) -> Vec<String> {
    done.changes.iter().map(|change| String::from_utf8_lossy(&change.path).into_owned()).collect()
}

#[test]
fn nothing_is_brought_twice() {
    let t = lines("put a A; put b B; put x X", "write a 2; put n N", "write b 3");
    let clone = t.fs.volume().find_line(b"c").unwrap().slot.0;
    let clone = NodeId::live(clone, 1);
    let order = MergeOrder { at: ROOT, clone: b"c", way: MergeWay::MergeAndKeep };
    let rehearsed = t.fs.rehearse_merge(&order).unwrap();
    assert_eq!(tree(&t, "@live"), "a=A b=3 x=X");
    let done = bring(&t, MergeWay::MergeAndKeep).unwrap();
    assert_eq!((paths(&done), &done.changes), (vec!["a".into(), "n".into()], &rehearsed));
    assert_eq!(
        (tree(&t, "@live").as_str(), tree(&t, ".clones/c").as_str()),
        ("a=2 b=3 n=N x=X", "a=2 b=B n=N x=X")
    );
    let (before, after) = done.guards.unwrap();
    assert!(before.name.starts_with(b"@before-merge-") && after.name.starts_with(b"@after-"));
    // The same file again on one side, and then on the other.
    play(&t, clone, "write a 4; mv n m");
    assert_eq!(paths(&bring(&t, MergeWay::MergeAndKeep).unwrap()), ["a", "m"]);
    assert_eq!(tree(&t, "@live"), "a=4 b=3 m=N x=X");
    play(&t, ROOT, "write a 5; write m M");
    t.fs.commit().unwrap();
    assert!(bring(&t, MergeWay::MergeAndKeep).unwrap().guards.is_none());
    assert_eq!(paths(&bring(&t, MergeWay::Rebase).unwrap()), ["a", "b", "m"]);
    assert_eq!(tree(&t, ".clones/c"), "a=5 b=3 m=M x=X");
    // Where nobody knows how both were before.
    play(&t, ROOT, "touch b 9");
    bring(&t, MergeWay::Rebase).unwrap().guards.unwrap();
    t.fs.volume().set_base(t.fs.line_at(clone).unwrap(), None).unwrap();
    assert!(matches!(bring(&t, MergeWay::Merge), Err(MergeRefusal::NoBase)));
    let base = t.fs.volume().nameless_point(crate::format::LineId::MAIN, (0, 0)).unwrap();
    t.fs.volume().set_base(t.fs.line_at(clone).unwrap(), Some(&base)).unwrap();
    // After a rebase there is nothing in it but its own.
    play(&t, clone, "write x 6");
    play(&t, ROOT, "rm b");
    let done = bring(&t, MergeWay::Merge).unwrap();
    assert_eq!((paths(&done), done.dropped), (vec!["x".into()], true));
    assert_eq!(tree(&t, "@live"), "a=5 m=M x=6");
    assert_eq!(t.fs.volume().clone_count().0, 0);
    for _ in 0..3 {
        t.fs.commit().unwrap();
        t.prove();
    }
}

/// Takes back what was done last to the line that a node is of.
fn take_back(t: &T, at: NodeId) {
    let Some(Undoable::Change(change)) = t.fs.last_undoable(at).unwrap() else {
        panic!("nothing to take back")
    };
    let done = t.fs.take_back(at, &change, &Provenance::from(Reason::Undo)).unwrap();
    assert!(matches!(done, TakenBack::Done(_)));
}

#[test]
fn what_is_taken_back_parts_those_that_it_had_brought_together_and_no_others() {
    for way in [MergeWay::MergeAndKeep, MergeWay::Rebase] {
        let t = lines("put a A; put b B", "write a 2", "write b 3");
        let clone = NodeId::live(t.fs.volume().find_line(b"c").unwrap().slot.0, 1);
        bring(&t, way).unwrap();
        take_back(&t, if way == MergeWay::Rebase { clone } else { ROOT });
        assert_eq!((tree(&t, "@live").as_str(), tree(&t, ".clones/c").as_str()), ("a=A b=3", "a=2 b=B"));
        // To compare with what was taken back would revert what either has changed.
        for again in [MergeWay::Merge, MergeWay::Rebase] {
            assert!(matches!(bring(&t, again), Err(MergeRefusal::NoBase)));
        }
    }
    // A clone of the snapshot that was made right before the guard of a restore.
    let t = T::new();
    play(&t, ROOT, "put a A");
    t.snapshot("s");
    play(&t, ROOT, "write a 2; put b B");
    let view = t.word("s");
    t.fs.restore_line(ROOT, &view, &Reason::Restore.into()).map_err(|_| "refused").unwrap().unwrap();
    let clone = t.fs.create_line(b"c", view.id()).unwrap();
    play(&t, clone, "put c C");
    take_back(&t, ROOT);
    bring(&t, MergeWay::Merge).unwrap();
    assert_eq!(tree(&t, "@live"), "a=2 b=B c=C");
    t.fs.commit().unwrap();
    t.prove();
}

#[test]
fn what_is_taken_back_parts_no_clone_that_was_made_of_the_same_point() {
    let t = lines("put a A; put b B", "write a 2", "write b 3");
    let clone = NodeId::live(t.fs.volume().find_line(b"c").unwrap().slot.0, 1);
    bring(&t, MergeWay::Rebase).unwrap();
    // Nothing has changed since: it begins with the point that the other was brought together at.
    t.mkdir(NodeId::clonedir(0), "d").unwrap();
    let bases = || [b"c", b"d"].map(|name| t.fs.volume().find_line(name).unwrap().base);
    assert!(bases()[0].is_some() && bases()[0] == bases()[1]);
    t.fs.volume().set_base(t.fs.line_at(clone).unwrap(), None).unwrap();
    let before = bases();
    take_back(&t, clone);
    assert_eq!(bases(), before);
}

#[test]
fn a_change_is_taken_back_with_both_of_its_guards_or_not() {
    let t = T::new();
    play(&t, ROOT, "put a A");
    t.snapshot("s");
    let change = || {
        play(&t, ROOT, "write a 2");
        let view = t.word("s");
        t.fs.restore_line(ROOT, &view, &Reason::Restore.into()).map_err(|_| "refused").unwrap().unwrap()
    };
    let delete = |guard: &crate::volume::SnapshotInfo| t.fs.delete_snapshot(&guard.name).unwrap();
    // What is left of two is not one.
    let (first, second) = (change(), change());
    delete(&first.after);
    delete(&second.before);
    assert_eq!(t.fs.last_undoable(ROOT), Ok(None));
    // What was taken back of a change is no other head that the line had.
    change();
    take_back(&t, ROOT);
    let guard = t.fs.snapshots().pop().unwrap();
    delete(&guard);
    assert_eq!(t.fs.last_undoable(ROOT), Ok(None));
    assert_eq!(tree(&t, "@live"), "a=2");
}

#[test]
fn a_clone_knows_what_it_began_as_when_that_is_gone() {
    let sim = Arc::new(Sim::new(1 << 30, 1));
    let t = T::on(Volume::made_on(sim.clone()), FsOptions::default());
    play(&t, ROOT, "put a A; put b B");
    t.snapshot("base");
    let clone = t.fs.create_line(b"c", t.fs.snapshots()[0].id).unwrap();
    t.fs.clone_line(crate::format::LineId::MAIN, b"d").unwrap();
    t.fs.delete_snapshot(b"base").unwrap();
    play(&t, clone, "write a 2");
    play(&t, ROOT, "write b 3; rm a; put a other");
    for _ in 0..3 {
        t.fs.commit().unwrap();
        t.prove();
    }
    let t = mounted(&sim);
    assert!(t.list(SNAPDIR).is_empty());
    assert!(matches!(bring(&t, MergeWay::Merge), Err(MergeRefusal::Conflicts(all)) if all.len() == 1));
    play(&t, ROOT, "rm a");
    let clone = t.find(NodeId::clonedir(0), "c").unwrap();
    play(&t, clone, "rm a; put n N");
    assert_eq!(paths(&bring(&t, MergeWay::Merge).unwrap()), ["n"]);
    assert_eq!(tree(&t, "@live"), "b=3 n=N");
    t.fs.drop_clone(b"d").unwrap();
    for guard in t.fs.snapshots() {
        t.fs.delete_snapshot(&guard.name).unwrap();
    }
    for _ in 0..4 {
        t.fs.commit().unwrap();
        t.prove();
    }
    // Nothing is left of what they began as.
    assert_eq!(t.fs.volume().committed().unwrap().records.len(), 1);
}

#[test]
fn refusals_change_nothing() {
    let t = lines("put a A; put b B; put x X", "write a 2", "write a 3");
    let clone = NodeId::live(t.fs.volume().find_line(b"c").unwrap().slot.0, 1);
    let before = (tree(&t, "@live"), tree(&t, ".clones/c"), t.fs.snapshots().len());
    for way in [MergeWay::Merge, MergeWay::MergeAndKeep, MergeWay::Rebase] {
        assert!(matches!(bring(&t, way), Err(MergeRefusal::Conflicts(all)) if all.len() == 1));
    }
    assert_eq!((tree(&t, "@live"), tree(&t, ".clones/c"), t.fs.snapshots().len()), before);
    play(&t, ROOT, "write a A");
    // Who writes in the clone is not done yet.
    let writer = t.open(t.find(clone, "b").unwrap(), RW);
    let merged = bring(&t, MergeWay::MergeAndKeep);
    assert!(matches!(merged, Err(MergeRefusal::CloneWriters(paths, 1)) if paths == ["/b"]));
    t.fs.release(writer.0, writer.1);
    // Who writes what is taken over would go on with something else; who writes another file notices nothing.
    let (taken, other) = (t.open(t.find(ROOT, "a").unwrap(), RW), t.open(t.find(ROOT, "x").unwrap(), RW));
    let merged = bring(&t, MergeWay::MergeAndKeep);
    assert!(matches!(merged, Err(MergeRefusal::Refused(Refusal::Writers(paths, 1))) if paths == ["/a"]));
    t.fs.release(taken.0, taken.1);
    t.write(other, 0, b"!");
    assert_eq!(paths(&bring(&t, MergeWay::MergeAndKeep).unwrap()), ["a"]);
    t.write(other, 1, b"?");
    assert_eq!((tree(&t, "@live").as_str(), t.read(other, 0, 9)), ("a=2 b=B x=!?", b"!?".to_vec()));
    // Of another line, of itself, of nothing.
    let d = t.fs.clone_line(t.fs.line_at(clone).unwrap(), b"d").unwrap();
    let merge = |at, clone: &[u8]| {
        let order = MergeOrder { at, clone, way: MergeWay::Merge };
        t.fs.merge(&order, &Provenance::from(Reason::Merge))
    };
    assert!(matches!(merge(ROOT, b"d"), Err(MergeRefusal::OtherLine(name)) if name == b"c"));
    assert!(matches!(merge(d, b"d"), Err(MergeRefusal::Itself)));
    assert!(matches!(merge(ROOT, b"e"), Err(MergeRefusal::Refused(Refusal::Failed(Error::NotFound)))));
    play(&t, d, "put n N");
    assert!(merge(clone, b"d").unwrap().dropped);
    assert_eq!(tree(&t, ".clones/c"), "a=2 b=B n=N x=X");
    t.fs.commit().unwrap();
    t.prove();
}

fn mounted(sim: &Arc<Sim>) -> T {
    let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 1 << 20 };
    T::on(Volume::open(sim.clone(), options).unwrap(), FsOptions::default())
}

/// A store with a clone that is to be merged or rebased, and how both lines are before and after.
fn to_be_brought(way: MergeWay) -> (Sim, [[String; 2]; 2]) {
    let sim = Arc::new(Sim::new(1 << 30, 1));
    let t = T::on(Volume::made_on(sim.clone()), FsOptions::default());
    play(&t, ROOT, "mkdir d; put d/x X; put a A; put b B; put l L; link l l2");
    t.put(ROOT, "large", &[7; 300_000]);
    t.snapshot("base");
    let clone = t.fs.create_line(b"c", t.fs.snapshots()[0].id).unwrap();
    play(&t, clone, "mv d e; write e/x 2; rm l; swap a b; mkdir new; put new/n N");
    play(&t, ROOT, "put d/y Y; write l 3; put m M");
    let file = t.open(t.find(clone, "large").unwrap(), RW);
    t.write(file, 100_000, &[8; 50_000]);
    t.fs.release(file.0, file.1);
    t.fs.commit().unwrap();
    let before = [tree(&t, "@live"), tree(&t, ".clones/c")];
    let image = sim.clone_image();
    bring(&t, way).unwrap();
    let after = [tree(&t, "@live"), tree(&t, ".clones/c")];
    assert_ne!(before, after);
    (image, [before, after])
}

#[test]
fn a_crash_or_a_failure_at_any_write_leaves_all_or_nothing() {
    for way in [MergeWay::MergeAndKeep, MergeWay::Rebase] {
        let (image, states) = to_be_brought(way);
        let (mut seen, mut done) = ([false; 2], false);
        for n in 1.. {
            for fault in 0..4 {
                let sim = Arc::new(image.clone_image());
                let t = mounted(&sim);
                t.fs.commit().unwrap();
                match fault {
                    0 | 1 => sim.set_crash_at(sim.changes() + n),
                    2 => sim.fail(Op::Write, n, Persistence::Once),
                    _ => sim.fail_for_space(Op::Write, n, Persistence::Once),
                }
                let answer = bring(&t, way);
                let policy = if fault == 0 { CrashPolicy::DropAll } else { CrashPolicy::Random(n) };
                let struck = sim.is_crashed() || sim.faults_struck() > 0;
                done |= !struck && fault == 0;
                drop(t);
                let sim = Arc::new(sim.crash(policy));
                let t = mounted(&sim);
                let state = [tree(&t, "@live"), tree(&t, ".clones/c")];
                let which = states.iter().position(|known| *known == state);
                let which = which.unwrap_or_else(|| panic!("{way:?}, {fault} at {n}: {state:?}"));
                assert!(answer.is_err() || which == 1, "{way:?}, {fault} at {n}: it was said to be done");
                seen[which] = true;
                t.fs.commit().unwrap();
                t.prove();
                // Whatever it is: once more, and all is there, once.
                bring(&t, way).unwrap();
                assert_eq!([tree(&t, "@live"), tree(&t, ".clones/c")], states[1]);
                assert!(bring(&t, way).unwrap().guards.is_none());
                t.fs.commit().unwrap();
                t.prove();
            }
            if done {
                break;
            }
        }
        assert_eq!(seen, [true, true]);
    }
}

/// Two lines as [`lines`] makes them, on a device that can crash.
fn durable_lines(base: &str, one: &str, other: &str) -> (Arc<Sim>, T) {
    let sim = Arc::new(Sim::new(1 << 30, 1));
    let t = T::on(Volume::made_on(sim.clone()), FsOptions::default());
    play(&t, ROOT, base);
    t.snapshot("base");
    let clone = t.fs.create_line(b"c", t.fs.snapshots()[0].id).unwrap();
    play(&t, clone, one);
    play(&t, ROOT, other);
    (sim, t)
}

fn clone_root(t: &T, name: &str) -> NodeId {
    t.find(NodeId::clonedir(0), name).unwrap()
}

fn roll_back(t: &T, at: NodeId, name: &[u8]) {
    let to = t.fs.snapshot_of_word(at, name).unwrap();
    t.fs.rollback(at, &to, OpenForWriting::CutOff, &Reason::Rollback.into()).unwrap();
}

fn promote(t: &T, clone: &str) {
    let (clone, writers) = (clone.as_bytes(), OpenForWriting::CutOff);
    let order = PromotionOrder { clone, onto: None, keep_as: None, writers };
    assert!(matches!(t.fs.promote(&order, &Reason::Promote.into()), Ok(crate::fs::Promoted::Switched(_))));
}

/// Neither way is anything brought: not now, and not after a crash.
fn assert_parted(sim: &Arc<Sim>, t: T) {
    let both = || (tree(&t, "@live"), tree(&t, ".clones/c"));
    let before = both();
    for way in [MergeWay::Merge, MergeWay::MergeAndKeep, MergeWay::Rebase] {
        let done = bring(&t, way);
        assert!(matches!(done, Err(MergeRefusal::NoBase)), "{way:?}: {done:?}");
    }
    assert_eq!(both(), before);
    let t = mounted(&Arc::new(sim.crash(CrashPolicy::DropAll)));
    assert!(matches!(bring(&t, MergeWay::Merge), Err(MergeRefusal::NoBase)));
    for _ in 0..4 {
        t.fs.commit().unwrap();
        t.prove();
    }
    // Begun anew with what both lines had from the start.
    let clone = clone_root(&t, "c");
    roll_back(&t, clone, b"base");
    play(&t, clone, "put fresh F");
    let live = tree(&t, "@live");
    assert_eq!(paths(&bring(&t, MergeWay::Merge).unwrap()), ["fresh"]);
    assert_eq!(tree(&t, "@live"), format!("{live} fresh=F"));
    for _ in 0..4 {
        t.fs.commit().unwrap();
        t.prove();
    }
}

#[test]
fn a_rollback_to_before_both_were_brought_together_parts_them() {
    for (way, later, rolls_back_clone) in [
        (MergeWay::Rebase, "", true),
        (MergeWay::MergeAndKeep, "", false),
        (MergeWay::MergeAndKeep, "put n N", false),
    ] {
        let (sim, t) = durable_lines("put a A; put b B", "write a 2", "write b 3");
        let at = if rolls_back_clone { clone_root(&t, "c") } else { ROOT };
        let (before, after) = bring(&t, way).unwrap().guards.unwrap();
        play(&t, clone_root(&t, "c"), later);
        // What came after is no such thing.
        play(&t, at, "put z Z");
        roll_back(&t, at, &after.name);
        bring(&t, MergeWay::MergeAndKeep).unwrap();
        let (sim2, t2) = (sim, t);
        roll_back(&t2, at, &before.name);
        assert_parted(&sim2, t2);
    }
    // Also one to long before, and of the line that gave.
    for (way, at_clone) in
        [(MergeWay::MergeAndKeep, false), (MergeWay::Rebase, false), (MergeWay::MergeAndKeep, true)]
    {
        let (sim, t) = durable_lines("put a A; put b B", "write a 2", "write b 3");
        let at = if at_clone { clone_root(&t, "c") } else { ROOT };
        t.mkdir(t.find(at, ".snapshots").unwrap(), "own").unwrap();
        bring(&t, way).unwrap();
        roll_back(&t, at, b"own");
        assert_parted(&sim, t);
    }
    // Where nothing was brought over, what came next is not before it.
    let (_, t) = durable_lines("put a A", "write a 2", "");
    bring(&t, MergeWay::Rebase).unwrap();
    t.mkdir(t.find(clone_root(&t, "c"), ".snapshots").unwrap(), "own").unwrap();
    roll_back(&t, clone_root(&t, "c"), b"own");
    assert!(bring(&t, MergeWay::Merge).unwrap().dropped);
    assert_eq!(tree(&t, "@live"), "a=2");
}

#[test]
fn a_rollback_to_what_the_line_had_before_the_clone_was_made_reverts_nothing_in_it() {
    let t = T::new();
    play(&t, ROOT, "put a A");
    t.snapshot("old");
    play(&t, ROOT, "put b B");
    t.snapshot("base");
    let clone = t.fs.create_line(b"c", t.fs.snapshots()[1].id).unwrap();
    play(&t, clone, "put x X");
    roll_back(&t, clone, b"old");
    play(&t, clone, "put n N");
    t.fs.delete_snapshot(b"old").unwrap();
    t.fs.commit().unwrap();
    assert_eq!(paths(&bring(&t, MergeWay::Merge).unwrap()), ["n"]);
    assert_eq!(tree(&t, "@live"), "a=A b=B n=N");
    t.fs.commit().unwrap();
    t.prove();
}

#[test]
fn a_promotion_parts_a_line_from_what_had_been_brought_into_it() {
    for (is_older, parts) in [(true, true), (false, false)] {
        let (sim, t) = durable_lines("put a A; put b B", "write a 2", "write b 3");
        let other = || assert!(t.fs.clone_line(crate::format::LineId::MAIN, b"d").is_ok());
        if is_older {
            other();
        }
        bring(&t, MergeWay::MergeAndKeep).unwrap();
        if !is_older {
            other();
        }
        play(&t, clone_root(&t, "d"), "put d D");
        promote(&t, "d");
        if parts {
            assert_eq!(tree(&t, "@live"), "a=A b=3 d=D");
            assert_parted(&sim, t);
        } else {
            play(&t, clone_root(&t, "c"), "put n N");
            assert_eq!(paths(&bring(&t, MergeWay::Merge).unwrap()), ["n"]);
            assert_eq!(tree(&t, "@live"), "a=2 b=3 d=D n=N");
            t.fs.commit().unwrap();
            t.prove();
        }
    }
}

#[test]
fn what_was_brought_into_a_clone_goes_with_it_unless_that_is_merged() {
    for merged in [false, true] {
        let t = T::new();
        play(&t, ROOT, "put a A");
        let middle = t.fs.clone_line(crate::format::LineId::MAIN, b"m").unwrap();
        let clone = t.fs.clone_line(t.fs.line_at(middle).unwrap(), b"c").unwrap();
        play(&t, clone, "put x X");
        let merge = |at, clone: &[u8], way| {
            t.fs.merge(&MergeOrder { at, clone, way }, &Provenance::from(Reason::Merge))
        };
        merge(middle, b"c", MergeWay::MergeAndKeep).unwrap();
        play(&t, clone, "put y Y");
        if merged {
            assert!(merge(ROOT, b"m", MergeWay::Merge).unwrap().dropped);
            assert_eq!(paths(&merge(ROOT, b"c", MergeWay::Merge).unwrap()), ["y"]);
            assert_eq!(tree(&t, "@live"), "a=A x=X y=Y");
        } else {
            t.fs.drop_clone(b"m").unwrap();
            assert!(matches!(merge(ROOT, b"c", MergeWay::Merge), Err(MergeRefusal::NoBase)));
            assert_eq!((tree(&t, "@live").as_str(), tree(&t, ".clones/c").as_str()), ("a=A", "a=A x=X y=Y"));
        }
        t.fs.commit().unwrap();
        t.prove();
    }
}
