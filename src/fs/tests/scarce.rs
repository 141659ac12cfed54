//! A host that has no room, or fails, at each call of what changes views and lines: it is done whole or not at all, what
//! was answered is committed, and all else goes on.

use super::merging::{Whole, play};
use super::*;
use crate::device::{CrashPolicy, Op, Persistence, Sim};
use crate::format::provenance::{Provenance, Reason};
use crate::fs::{
    MergeOrder, MergeRefusal, MergeWay, NamedPath, OpenForWriting, Promoted, PromotionOrder, Refusal,
    RestoreOrder, Switched, TakenBack, Undoable,
};
use crate::volume::{Access, OpenOptions, View};
use std::collections::BTreeMap;

/// Sizes of a host between two tries.
const STEP_BYTES: u64 = 128 << 10;

type Act = fn(&T) -> Result<()>;

/// What changes views and lines.
const ACTS: [(&str, Act); 20] = [
    ("snapshot", |t| t.mkdir(SNAPDIR, "new").map(drop)),
    ("delete", |t| t.fs.delete_snapshot(b"base")),
    ("rename", |t| t.fs.rename_snapshot(b"base", b"other")),
    ("clone", |t| t.fs.create_clone(ROOT, b"new", None, &Reason::User.into())),
    ("clone of a snapshot", |t| t.fs.create_clone(ROOT, b"new", Some(b"base"), &Reason::User.into())),
    ("clone of a clone", |t| t.fs.create_clone(ROOT, b"new", Some(b".clones/c"), &Reason::User.into())),
    ("clone renamed", |t| t.fs.rename_clone(b"e", b"f")),
    ("schedules", |t| {
        let rules = crate::schedule::parse_rules("default", "every=1h keep=all").unwrap();
        t.fs.set_schedules(crate::format::LineId::MAIN, vec![rules])
    }),
    ("clone that ends", |t| t.fs.end_clone(b"e", Some(3600), None)),
    ("drop", |t| t.fs.drop_clone(b"e")),
    ("drop of a line with snapshots", |t| t.fs.drop_clone(b"c")),
    ("step", |t| t.fs.take_step(ROOT, &Reason::Step.into(), 1, Box::new(|| false)).map(drop)),
    ("trial", |t| t.fs.begin_trial(ROOT, &Reason::Trial.into(), Box::new(|| false)).map(drop)),
    ("restore", restore),
    ("merge", |t| bring(t, MergeWay::Merge)),
    ("merge that keeps", |t| bring(t, MergeWay::MergeAndKeep)),
    ("rebase", |t| bring(t, MergeWay::Rebase)),
    ("rollback", |t| back(t, b"base")),
    ("promote", promote),
    ("undo", undo),
];

fn restore(t: &T) -> Result<()> {
    let paths = vec![NamedPath { at: ROOT, below: Vec::new(), name: b"root".to_vec() }];
    let order = RestoreOrder { paths, from: Some(b"base".to_vec()), to: None };
    match t.fs.restore(&order, &Reason::Restore.into()) {
        Ok(_) => Ok(()),
        Err(Refusal::Failed(e) | Refusal::Path(_, e) | Refusal::View(_, e)) => Err(e),
        Err(other) => panic!("{other:?}"),
    }
}

fn bring(t: &T, way: MergeWay) -> Result<()> {
    let order = MergeOrder { at: ROOT, clone: b"c", way };
    match t.fs.merge(&order, &Provenance::from(Reason::Merge)) {
        Ok(_) => Ok(()),
        Err(MergeRefusal::Refused(Refusal::Failed(e))) => Err(e),
        Err(other) => panic!("{other:?}"),
    }
}

fn back(t: &T, word: &[u8]) -> Result<()> {
    let to = t.fs.snapshot_of_word(ROOT, word)?;
    match t.fs.rollback(ROOT, &to, OpenForWriting::CutOff, &Reason::Rollback.into())? {
        Switched::Done(_) => Ok(()),
        other => panic!("{other:?}"),
    }
}

fn promote(t: &T) -> Result<()> {
    let order = PromotionOrder { clone: b"c", onto: None, keep_as: None, writers: OpenForWriting::CutOff };
    match t.fs.promote(&order, &Reason::Promote.into())? {
        Promoted::Switched(Switched::Done(_)) => Ok(()),
        other => panic!("{other:?}"),
    }
}

fn undo(t: &T) -> Result<()> {
    let Some(Undoable::Change(change)) = t.fs.last_undoable(ROOT)? else { panic!("nothing to undo") };
    match t.fs.take_back(ROOT, &change, &Reason::Undo.into()) {
        Ok(TakenBack::Done(_)) => Ok(()),
        Err(Refusal::Failed(e)) => Err(e),
        _ => panic!("it is refused"),
    }
}

fn opened(sim: &Arc<Sim>) -> T {
    // Hardly any cache, so that reads reach the device.
    let options = OpenOptions { access: Access::ReadWrite, cache_bytes: 1 };
    T::on(Volume::open(sim.clone(), options).unwrap(), FsOptions::default())
}

/// A store in which each of [`ACTS`] has something to do, as it was closed, and nothing of its free space is the host's
/// promise any more.
fn story() -> Sim {
    let sim = Arc::new(Sim::new(1 << 30, 1));
    let t = T::on(Volume::made_on(sim.clone()), FsOptions::default());
    play(&t, ROOT, "put a A; put b B; mkdir d; put d/x X");
    let big = t.put(ROOT, "big", &[1; 300_000]);
    t.snapshot("base");
    let base = t.fs.snapshots().remove(0).id;
    let c = t.fs.create_line(b"c", base).unwrap();
    play(&t, c, "write a 2; put n N; mkdir e; put e/y Y");
    let in_c = t.find(c, ".snapshots").unwrap();
    t.mkdir(in_c, "of c").unwrap();
    play(&t, c, "put m M");
    play(&t, ROOT, "write b 3; mv d/x d/z");
    let w = t.open(big, RW);
    t.write(w, 100_000, &[2; 9000]);
    t.fs.release(w.0, w.1);
    t.snapshot("later");
    t.fs.create_clone(ROOT, b"e", None, &Reason::User.into()).unwrap();
    play(&t, ROOT, "put late L");
    let paths = vec![NamedPath { at: ROOT, below: vec![b"big".to_vec()], name: b"big".to_vec() }];
    let order = RestoreOrder { paths, from: Some(b"base".to_vec()), to: None };
    t.fs.restore(&order, &Reason::Restore.into()).unwrap();
    t.fs.close().unwrap();
    t.fs.volume().trim();
    drop(t);
    sim.clone_image()
}

/// What is in a view; long content by its length and sum.
fn tree(view: &View) -> String {
    let shown = |word: &str| match word.len() {
        0..100 => word.to_owned(),
        len => format!("{}({len} {})", &word[..4], word.bytes().map(u64::from).sum::<u64>()),
    };
    Whole::of(view).tree().split(' ').map(shown).collect::<Vec<_>>().join(" ")
}

/// All lines and snapshots with all that is in them.
fn seen(t: &T) -> BTreeMap<String, String> {
    let (volume, mut all) = (t.fs.volume(), BTreeMap::new());
    for line in volume.lines() {
        let name = String::from_utf8_lossy(&line.name).into_owned();
        for snapshot in volume.own_snapshots(line.id) {
            let view = volume.snapshot(snapshot.id).unwrap();
            all.insert(format!("{name}@{}", String::from_utf8_lossy(&snapshot.name)), tree(&view));
        }
        let base = volume.base(line.id).map(|base| tree(&base));
        let head = tree(&volume.live(line.id).unwrap());
        all.insert(name, format!("{head} {base:?} {:?} {:?}", line.terms, line.schedules));
    }
    all
}

/// Reads go on, and what is on the device is one of these states, whole.
fn prove_reopened(sim: &Sim, states: &[&BTreeMap<String, String>], what: &str) -> T {
    let sim = Arc::new(sim.crash(CrashPolicy::KeepAll));
    let t = opened(&sim);
    let now = seen(&t);
    assert!(states.contains(&&now), "{what}: {now:#?}");
    // It was opened on the host as it is; from here on that has room.
    sim.set_space_limit(1 << 30);
    t.fs.commit().unwrap();
    t.prove();
    t
}

/// What an act comes to where nothing is in its way.
fn outcome(image: &Sim, act: Act) -> [BTreeMap<String, String>; 2] {
    let t = opened(&Arc::new(image.clone_image()));
    let before = seen(&t);
    act(&t).unwrap();
    [before, seen(&t)]
}

/// After an act on a host that has no room: done whole and committed, or refused and as if nothing had been asked for. True if
/// it was done.
fn prove_refused_or_done(
    t: &T,
    sim: &Sim,
    done: Result<()>,
    states: &[BTreeMap<String, String>; 2],
    what: &str,
) -> bool {
    let [before, after] = states;
    assert_eq!(t.fs.volume().read_only_reason(), None, "{what}");
    let is_done = match done {
        Ok(()) => true,
        Err(Error::NoSpace) => false,
        Err(e) => panic!("{what}: {e}"),
    };
    let expected = if is_done { after } else { before };
    assert!(seen(t) == *expected, "{what}, done: {is_done}");
    match t.fs.commit() {
        Ok(()) => {}
        // Work in the background waits for a host that has room.
        Err(Error::NoSpace) if !is_done => assert_eq!(t.fs.volume().read_only_reason(), None, "{what}"),
        Err(e) => panic!("{what}, done: {is_done}, and the next commit: {e}"),
    }
    assert!(seen(t) == *expected, "{what}, done: {is_done}");
    prove_reopened(sim, &[expected], what);
    is_done
}

#[test]
fn a_host_without_room_refuses_before_anything_is_done() {
    let image = story();
    for (name, act) in ACTS {
        let states = outcome(&image, act);
        let (mut refused, mut done) = (0, 0);
        for n in 1.. {
            let sim = Arc::new(image.clone_image());
            let t = opened(&sim);
            sim.fail(Op::Back, n, Persistence::Forever);
            let result = act(&t);
            let struck = sim.faults_struck() > 0;
            let what = format!("{name}, no room from call {n} on");
            match prove_refused_or_done(&t, &sim, result, &states, &what) {
                true => done += 1,
                false => refused += 1,
            }
            if !struck {
                break;
            }
        }
        assert!(refused > 0 && done > 0, "{name}: {refused} {done}");
    }
}

#[test]
fn on_a_host_that_is_full_what_was_promised_suffices() {
    let image = story();
    for (name, act) in ACTS {
        let states = outcome(&image, act);
        for steps in 0.. {
            let sim = Arc::new(image.clone_image());
            sim.set_space_limit(sim.backed_bytes() + steps * STEP_BYTES);
            let t = opened(&sim);
            let done = act(&t);
            let what = format!("{name}, with {steps} steps of room");
            if prove_refused_or_done(&t, &sim, done, &states, &what) {
                break;
            }
            assert!(steps < 1000, "{what}");
        }
    }
}

#[test]
fn a_mount_that_has_made_room_deletes_whatever_the_host_does() {
    let image = story();
    for (name, act) in ACTS {
        let states = outcome(&image, act);
        let sim = Arc::new(image.clone_image());
        let t = opened(&sim);
        let f = t.put(ROOT, "f", &[1; 4096]);
        t.fs.unlink(&USER, ROOT, b"f").unwrap();
        t.fs.forget(f);
        t.fs.commit().unwrap();
        sim.set_space_limit(sim.backed_bytes());
        sim.fail(Op::Back, 1, Persistence::Forever);
        let what = format!("{name}, on a host that became full");
        let (done, big) = (act(&t), t.find(ROOT, "big").unwrap());
        prove_refused_or_done(&t, &sim, done, &states, &what);
        t.fs.unlink(&USER, ROOT, b"big").unwrap();
        t.fs.forget(big);
        t.fs.commit().unwrap();
        t.prove();
    }
}

/// What is left of an act of two steps that is cut off between them: the step of a trial, which goes with the next trial, and
/// a clone of which nothing is left to be merged.
fn between_two(
    image: &Sim,
    name: &str,
    [before, after]: [&BTreeMap<String, String>; 2],
) -> BTreeMap<String, String> {
    match name {
        "trial" => {
            let mut between = after.clone();
            between.retain(|key, _| before.contains_key(key) || key.starts_with("@@"));
            between
        }
        "merge" => {
            let [_, kept] = outcome(image, |t| bring(t, MergeWay::MergeAndKeep));
            kept
        }
        _ => before.clone(),
    }
}

#[test]
fn whatever_call_fails_it_is_done_whole_or_not_at_all() {
    let image = story();
    let (mut stopped, mut done_all_the_same) = (0, 0);
    for (name, act) in ACTS {
        let [before, after] = outcome(&image, act);
        let between = between_two(&image, name, [&before, &after]);
        for op in [Op::Read, Op::Write, Op::Flush] {
            for for_space in [false, true].into_iter().filter(|for_space| !for_space || op != Op::Read) {
                for n in 1.. {
                    let sim = Arc::new(image.clone_image());
                    let t = opened(&sim);
                    match for_space {
                        true => sim.fail_for_space(op, n, Persistence::Once),
                        false => sim.fail(op, n, Persistence::Once),
                    }
                    let done = act(&t);
                    let what = format!("{name}, {op:?} {n} for space {for_space}: {done:?}");
                    if sim.faults_struck() == 0 {
                        done.unwrap();
                        break;
                    }
                    let now = seen(&t);
                    if t.fs.volume().is_read_only() {
                        stopped += 1;
                        // What it shows until it is opened again was not answered.
                        let states =
                            if done.is_ok() { vec![&after] } else { vec![&before, &after, &between] };
                        prove_reopened(&sim, &states, &what);
                    } else {
                        assert!(
                            now == if done.is_ok() { &after } else { &before }.clone(),
                            "{what}: {now:#?}"
                        );
                        t.fs.commit().unwrap();
                        t.prove();
                        prove_reopened(&sim, &[&now], &what);
                    }
                    done_all_the_same += u32::from(done.is_ok());
                }
            }
        }
    }
    assert!(stopped > 0 && done_all_the_same > 0, "{stopped} {done_all_the_same}");
}
