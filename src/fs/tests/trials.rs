//! Steps and clones of trials: their names, what goes with what, and what stays.

use super::super::{
    Cover, GoesOn, MergeOrder, MergeRefusal, MergeWay, OpenForWriting, Reason, Refusal, Switched, Uncovered,
};
use super::*;
use crate::format::provenance::Provenance;
use std::sync::atomic::{AtomicBool, Ordering};

const CLONEDIR: NodeId = NodeId::clonedir(0);

fn of(reason: Reason) -> Provenance {
    Provenance { user: Some(7), command: b"make test".to_vec(), ..reason.into() }
}

/// A command that goes on no more.
fn ended() -> GoesOn {
    Box::new(|| false)
}

fn trial(t: &T, at: NodeId) -> Vec<u8> {
    t.fs.begin_trial(at, &of(Reason::Trial), ended()).unwrap()
}

fn root_of(t: &T, clone: &[u8]) -> NodeId {
    t.fs.lookup(&USER, CLONEDIR, clone).unwrap().attr.node
}

#[test]
fn a_trial_has_a_step_that_goes_with_its_clone() {
    let t = T::new();
    t.put(ROOT, "f", b"one");
    let first = trial(&t, ROOT);
    assert_eq!(first, b"@trial-1970.01.01-00.16.40");
    let second = trial(&t, ROOT);
    assert_eq!(second, b"@trial-1970.01.01-00.16.41", "the second is taken");
    let step = t.fs.snapshots().remove(0);
    assert_eq!((step.name, step.provenance), (first.clone(), of(Reason::Trial)));
    let clone = t.fs.volume().clones().remove(0);
    assert_eq!((clone.line.provenance, clone.snapshot), (of(Reason::Trial), Some(first.clone())));
    assert_eq!(t.cat(root_of(&t, &first), "f"), b"one");
    // A trial in a trial: its step is of the line that is tried.
    let inner = trial(&t, root_of(&t, &first));
    assert_eq!(t.fs.snapshots().len(), 2);
    t.fs.drop_clone(&inner).unwrap();
    let snapdir = t.find(root_of(&t, &first), ".snapshots").unwrap();
    assert_eq!(t.list(snapdir).len(), 1, "the inherited one alone");
    // A clone of the step keeps it, and so does a trial that is renamed.
    t.fs.create_clone(ROOT, b"other", Some(&first), &Provenance::default()).unwrap();
    t.fs.drop_clone(&first).unwrap();
    assert_eq!(t.list(SNAPDIR).len(), 2);
    t.fs.rename_clone(&second, b"kept").unwrap();
    t.fs.commit().unwrap();
    t.prove();
    t.fs.drop_clone(b"kept").unwrap();
    assert_eq!(t.list(SNAPDIR), [String::from_utf8(first).unwrap()]);
    // The next trial takes away what is of no use.
    t.fs.drop_clone(b"other").unwrap();
    let last = trial(&t, ROOT);
    assert_eq!(t.list(SNAPDIR), [String::from_utf8(last.clone()).unwrap()]);
    t.fs.drop_clone(&last).unwrap();
    assert!(t.list(SNAPDIR).is_empty() && t.list(CLONEDIR).is_empty());
    t.fs.commit().unwrap();
    t.prove();
}

#[test]
fn steps_are_pruned_by_count_and_nothing_else_is() {
    let t = T::new();
    let step = |keep| t.fs.take_step(ROOT, &of(Reason::Step), keep, ended()).unwrap().name;
    t.mkdir(SNAPDIR, "mine").unwrap();
    let first = step(3);
    assert_eq!(first, b"@step-1970.01.01-00.16.40");
    let alone = t.fs.standalone(&first).unwrap();
    let trial = trial(&t, ROOT);
    for n in 0..10 {
        t.put(ROOT, &format!("f{n}"), b"x");
        step(3);
    }
    let left = t.list(SNAPDIR);
    let steps: Vec<_> = left.iter().filter(|name| name.starts_with("@step-")).collect();
    // One is in use, and none goes in its place; more than were asked for are kept so.
    assert_eq!((left.len(), steps.len()), (6, 4));
    assert_eq!(*steps[0], String::from_utf8(first).unwrap());
    drop(alone);
    step(2);
    assert_eq!(t.list(SNAPDIR).iter().filter(|name| name.starts_with("@step-")).count(), 2);
    // Those of a clone are its own.
    let root = root_of(&t, &trial);
    for _ in 0..3 {
        t.fs.take_step(root, &of(Reason::Step), 1, ended()).unwrap();
    }
    assert_eq!(t.list(SNAPDIR).iter().filter(|name| name.starts_with("@step-")).count(), 2);
    t.fs.commit().unwrap();
    t.prove();
}

#[test]
fn what_a_user_has_renamed_is_his() {
    let t = T::new();
    t.put(ROOT, "f", b"one");
    let step = || t.fs.take_step(ROOT, &of(Reason::Step), 1, ended()).unwrap().name;
    let [first, second] = [step(), trial(&t, ROOT)];
    t.fs.rename_snapshot(&first, b"my step").unwrap();
    t.fs.rename_snapshot(&second, b"my trial").unwrap();
    (0..3).for_each(|_| drop(step()));
    t.fs.drop_clone(&second).unwrap();
    trial(&t, ROOT);
    let left = t.list(SNAPDIR);
    assert_eq!((left.len(), &left[..2]), (4, &["my step".to_string(), "my trial".to_string()][..]));
    t.fs.commit().unwrap();
    t.prove();
}

#[test]
fn the_step_of_a_command_that_goes_on_stays() {
    let t = T::new();
    t.put(ROOT, "f", b"one");
    let goes_on = Arc::new(AtomicBool::new(true));
    let asked = goes_on.clone();
    let outer = Box::new(move || asked.load(Ordering::SeqCst));
    let outer = t.fs.take_step(ROOT, &of(Reason::Step), 1, outer).unwrap();
    let step = || t.fs.take_step(ROOT, &of(Reason::Step), 1, ended()).unwrap();
    (0..3).for_each(|_| drop(step()));
    let left: Vec<_> = t.fs.snapshots().into_iter().map(|s| s.id).collect();
    assert!(left.len() == 2 && left[0] == outer.id, "{left:?}");
    goes_on.store(false, Ordering::SeqCst);
    let last = step();
    assert_eq!(t.fs.snapshots().into_iter().map(|s| s.id).collect::<Vec<_>>(), [last.id]);
    t.fs.commit().unwrap();
    t.prove();
}

#[test]
fn trials_that_begin_at_once_leave_each_other_alone() {
    const THREADS: usize = 8;
    const EACH: usize = 12;
    let t = T::new();
    t.put(ROOT, "f", b"one");
    let together = std::sync::Barrier::new(THREADS);
    let begun: Vec<_> = std::thread::scope(|scope| {
        let begin = || {
            together.wait();
            (0..EACH).map(|_| t.fs.begin_trial(ROOT, &of(Reason::Trial), ended())).collect::<Vec<_>>()
        };
        let all: Vec<_> = (0..THREADS).map(|_| scope.spawn(begin)).collect();
        all.into_iter().flat_map(|one| one.join().unwrap()).collect()
    });
    let mut begun = begun.into_iter().collect::<Result<Vec<_>>>().unwrap();
    begun.sort();
    let names = |all: Vec<String>| all.into_iter().map(String::into_bytes).collect::<Vec<_>>();
    assert_eq!((names(t.list(SNAPDIR)), names(t.list(CLONEDIR))), (begun.clone(), begun));
    t.fs.commit().unwrap();
    t.prove();
}

#[test]
fn what_a_trial_covers_on_a_name_is_not_renamed_or_rolled_back() {
    let t = T::new();
    let dir = t.mkdir(ROOT, "dir").unwrap();
    t.mkdir(dir, "sub").unwrap();
    t.put(ROOT, "f", b"one");
    t.mkdir(SNAPDIR, "s").unwrap();
    let changed = t.mkdir(CLONEDIR, "c").unwrap();
    t.fs.rename(&USER, changed, b"dir", changed, b"other", RenameMode::Replace).unwrap();
    let goes_on = Arc::new(AtomicBool::new(true));
    let asked = goes_on.clone();
    let goes = Box::new(move || asked.load(Ordering::SeqCst));
    let clone = t.fs.begin_trial(ROOT, &of(Reason::Trial), goes).unwrap();
    t.fs.cover_trial(&clone, vec![b"dir/sub".to_vec()]).unwrap();
    let cover = Cover { trial: clone, path: b"dir/sub".to_vec() };
    let to = t.fs.snapshot_of_word(ROOT, b"s").unwrap();
    let back = || t.fs.rollback(ROOT, &to, OpenForWriting::CutOff, &Reason::Rollback.into()).unwrap();
    let order = MergeOrder { at: ROOT, clone: b"c", way: MergeWay::MergeAndKeep };
    let merge = || t.fs.merge(&order, &Reason::Merge.into());
    let refused = back();
    assert!(matches!(&refused, Switched::Refused(found) if found.covers == [cover.clone()]), "{refused:?}");
    let count = t.fs.snapshots().len();
    assert!(
        matches!(merge(), Err(MergeRefusal::Refused(Refusal::Uncovers(Uncovered::Cover(found)))) if found == cover)
    );
    assert_eq!(t.fs.snapshots().len(), count, "no guard is left of it");
    assert!(t.find(ROOT, "dir").is_ok() && t.find(ROOT, "other").is_err());
    // What is elsewhere changes, and the line of the clone has its own names.
    t.put(changed, "new", b"n");
    t.fs.rename(&USER, changed, b"other", changed, b"dir", RenameMode::Replace).unwrap();
    assert!(merge().unwrap().guards.is_some() && t.find(ROOT, "new").is_ok());
    t.fs.rename_clone(b"c", b"d").unwrap();
    goes_on.store(false, Ordering::SeqCst);
    assert!(matches!(back(), Switched::Done(_)));
    t.fs.commit().unwrap();
    t.prove();
}
