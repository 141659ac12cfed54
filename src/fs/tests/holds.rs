//! Holds: what they keep from going, that they are there after any cut, and that no clock ends them before their time.

use super::*;
use crate::device::{CrashPolicy, Device, Memory, Sim};
use crate::fixtures::{CACHE_BYTES, make};
use crate::format::hold::{HOLDS_MAX, TAG_BYTES_MAX};
use crate::format::hydration::{COPIES_MAX, CopyHold, HydrationState};
use crate::format::provenance::Provenance;
use crate::format::{LineId, ViewId};
use crate::fs::{COPY_KEPT_SECS, HoldTerms, NewHydration, Reached, WentOn};
use crate::schedule::parse_rules;
use crate::volume::{Access, OpenOptions, VolumeError};

const CLONEDIR: NodeId = NodeId::clonedir(0);
const SECOND: i64 = 1_000_000_000;
const HOUR: u64 = 3600;
const DAY: u64 = 86_400;

fn view(t: &T, at: NodeId, name: &str) -> ViewId {
    t.fs.snapshot_of_word(at, name.as_bytes()).unwrap().id
}

fn hold(t: &T, at: NodeId, name: &str, tag: &str, after: Option<u64>) -> Result<()> {
    let by = Provenance { user: Some(7), command: b"snapfs hold".to_vec(), ..Provenance::default() };
    t.fs.hold_snapshot(at, view(t, at, name), &HoldTerms { tag, after }, &by).map(drop)
}

fn release(t: &T, at: NodeId, name: &str, tag: &str) -> Result<()> {
    t.fs.release_snapshot(at, view(t, at, name), tag)
}

fn tags(t: &T, name: &str) -> Vec<String> {
    t.fs.volume().holds_of(view(t, ROOT, name)).into_iter().map(|hold| hold.tag).collect()
}

fn delete(t: &T, name: &str) -> Result<()> {
    t.fs.rmdir(&SUPER, SNAPDIR, name.as_bytes())
}

/// So much time passes while the timer of the daemon runs.
fn pass(t: &T, seconds: u64) {
    for _ in 0..40 {
        t.clock.advance(seconds as i64 * SECOND / 40);
        t.fs.keep_holds().unwrap();
    }
}

/// The daemon is killed, and another one opens the store `away` seconds later, by a clock that says so.
fn killed(t: T, device: &Arc<dyn Device>, away: u64) -> T {
    let clock = t.clock.clone();
    drop(t);
    clock.set(away as i64 * SECOND);
    let options = OpenOptions { access: Access::ReadWrite, cache_bytes: CACHE_BYTES };
    let volume = Volume::open(device.clone(), options).unwrap();
    let fs = Fs::open(volume, FsOptions::default(), clock.clone()).unwrap();
    let head = fs.heads.main();
    T { fs, clock, head }
}

fn on_device() -> (T, Arc<dyn Device>) {
    let device: Arc<dyn Device> = Arc::new(Memory::new(1 << 30));
    make(device.clone());
    let options = OpenOptions { access: Access::ReadWrite, cache_bytes: CACHE_BYTES };
    (T::on(Volume::open(device.clone(), options).unwrap(), FsOptions::default()), device)
}

#[test]
fn what_is_held_is_deleted_by_nobody() {
    let t = T::new();
    t.put(ROOT, "a", b"one");
    t.snapshot("s");
    hold(&t, ROOT, "s", "legal", None).unwrap();
    assert_eq!(hold(&t, ROOT, "s", "legal", Some(5)), Err(Error::Exists));
    hold(&t, ROOT, "@latest", "backup", None).unwrap();
    let root = t.find(SNAPDIR, "s").unwrap();
    assert_eq!(t.fs.getxattr(root, b"user.snapfs.holds"), Ok(b"legal,backup".to_vec()));
    assert_eq!(delete(&t, "s"), Err(Error::Busy));
    assert_eq!(t.fs.delete_snapshot(b"s"), Err(Error::Busy));
    let main = LineId::MAIN;
    assert!(matches!(t.fs.volume().delete_snapshot(main, view(&t, ROOT, "s")), Err(VolumeError::Held)));
    // Under another name too.
    t.fs.rename_snapshot(b"s", b"renamed").unwrap();
    assert_eq!(delete(&t, "renamed"), Err(Error::Busy));
    assert_eq!(release(&t, ROOT, "renamed", "other"), Err(Error::NotFound));
    release(&t, ROOT, "renamed", "legal").unwrap();
    assert_eq!((delete(&t, "renamed"), tags(&t, "renamed")), (Err(Error::Busy), vec!["backup".to_string()]));
    release(&t, ROOT, "renamed", "backup").unwrap();
    assert_eq!(t.fs.getxattr(root, b"user.snapfs.holds"), Err(Error::NoAttribute));
    delete(&t, "renamed").unwrap();

    // So many and no more, of tags so long.
    t.snapshot("many");
    for n in 0..HOLDS_MAX {
        let tag = format!("{n:0>TAG_BYTES_MAX$}");
        hold(&t, ROOT, "many", &tag, None).unwrap();
    }
    assert_eq!(hold(&t, ROOT, "many", "more", None), Err(Error::LimitReached));
    t.fs.commit().unwrap();
    t.prove();

    // What a clone has from its origin is held and released there.
    let clone = t.mkdir(CLONEDIR, "clone").unwrap();
    assert_eq!(hold(&t, clone, "many", "mine", None), Err(Error::NotPermitted));
    let tag = format!("{:0>TAG_BYTES_MAX$}", 3);
    assert_eq!(release(&t, clone, "many", &tag), Err(Error::NotPermitted));
    // A clone goes with its own snapshots, so not while one is held: by hand, or by itself.
    t.fs.create_snapshot_of(clone, b"own", Provenance::default()).unwrap();
    hold(&t, clone, "own", "keep", None).unwrap();
    assert_eq!(t.fs.rmdir(&SUPER, CLONEDIR, b"clone"), Err(Error::Busy));
    assert_eq!(t.fs.drop_clone(b"clone"), Err(Error::Busy));
    t.fs.end_clone(b"clone", Some(60), None).unwrap();
    for _ in 0..20 {
        t.clock.advance(HOUR as i64 * SECOND);
        t.fs.drop_ended_clones();
    }
    assert_eq!(t.list(CLONEDIR), ["clone"]);
    release(&t, clone, "own", "keep").unwrap();
    t.clock.advance(SECOND);
    t.fs.drop_ended_clones();
    assert!(t.list(CLONEDIR).is_empty());
    t.fs.commit().unwrap();
    t.prove();
}

#[test]
fn schedules_leave_what_is_held() {
    let t = T::new();
    t.fs.set_schedules(
        LineId::MAIN,
        vec![parse_rules("default", "every=1h keep=1h budget=1K free=100%").unwrap()],
    )
    .unwrap();
    for n in 0..4 {
        t.put(ROOT, &format!("f{n}"), &[n; 200_000]);
        while t.fs.keep_schedules() {}
        if n == 0 {
            let first = t.list(SNAPDIR).remove(0);
            hold(&t, ROOT, &first, "keep", None).unwrap();
        }
        t.clock.advance(HOUR as i64 * SECOND);
    }
    t.fs.prune_schedules(LineId::MAIN, None).unwrap();
    let left = t.list(SNAPDIR);
    assert_eq!((left.len(), tags(&t, &left[0])), (2, vec!["keep".to_string()]));
    release(&t, ROOT, &left[0], "keep").unwrap();
    t.fs.prune_schedules(LineId::MAIN, None).unwrap();
    assert_eq!(t.list(SNAPDIR), left[1..]);
}

#[test]
fn a_hold_is_there_after_any_cut_and_with_its_snapshot() {
    let (mut t, device) = on_device();
    t.put(ROOT, "a", b"one");
    t.snapshot("s");
    hold(&t, ROOT, "s", "first", None).unwrap();
    let terms = HoldTerms { tag: "made", after: Some(DAY) };
    let by = Provenance { user: Some(5), description: b"words".to_vec(), ..Provenance::default() };
    let made = t.fs.create_held_snapshot(ROOT, b"held", (&by, Reached::PLAIN), &terms).unwrap();
    let holds = t.fs.volume().holds();
    assert_eq!((holds.len(), holds[1].view, holds[1].by.user), (2, made, Some(5)));
    assert!(holds[0].ends.is_none() && holds[1].ends.is_some());
    // From the log, and from the tree, twice; the numbers go on.
    for round in 0..4 {
        t = killed(t, &device, 0);
        assert_eq!(t.fs.volume().holds()[..2], holds);
        assert_eq!((delete(&t, "s"), delete(&t, "held")), (Err(Error::Busy), Err(Error::Busy)));
        if round % 2 == 1 {
            t.fs.commit().unwrap();
        }
        hold(&t, ROOT, "s", &format!("round{round}"), None).unwrap();
        t.prove();
    }
    assert_eq!(tags(&t, "s").len(), 5);
    for tag in tags(&t, "s") {
        release(&t, ROOT, "s", &tag).unwrap();
        t = killed(t, &device, 0);
    }
    delete(&t, "s").unwrap();
    t = killed(t, &device, 0);
    assert_eq!((t.list(SNAPDIR), t.fs.volume().holds().len()), (vec!["held".to_string()], 1));
    // What could not be made is not held either.
    assert_eq!(t.fs.create_held_snapshot(ROOT, b"held", (&by, Reached::PLAIN), &terms), Err(Error::Exists));
    assert_eq!(t.fs.volume().holds().len(), 1);
    t.fs.commit().unwrap();
    t.prove();
    // Its line becomes another's: it is held there.
    let clone = t.mkdir(CLONEDIR, "clone").unwrap();
    t.fs.create_snapshot_of(clone, b"own", Provenance::default()).unwrap();
    hold(&t, clone, "own", "keep", None).unwrap();
    assert_eq!(t.fs.volume().holds().len(), 2);
}

#[test]
fn a_hold_ends_when_its_time_has_really_passed() {
    let t = T::new();
    t.snapshot("s");
    hold(&t, ROOT, "s", "day", Some(DAY)).unwrap();
    hold(&t, ROOT, "s", "for-ever", None).unwrap();
    pass(&t, DAY - HOUR);
    assert_eq!(tags(&t, "s").len(), 2);
    // A clock that jumps, back and forth, for minutes or for days.
    for jump in [400 * DAY as i64, -900 * DAY as i64, 500 * DAY as i64, 40 * DAY as i64, -40 * DAY as i64] {
        t.clock.set(jump * SECOND);
        pass(&t, 60);
        assert_eq!(tags(&t, "s").len(), 2, "{jump}");
    }
    pass(&t, HOUR - 10 * 60);
    assert_eq!(tags(&t, "s").len(), 2);
    pass(&t, 10 * 60);
    assert_eq!(tags(&t, "s"), ["for-ever"]);
    assert_eq!(delete(&t, "s"), Err(Error::Busy));
}

#[test]
fn time_without_a_mount_counts_when_the_clock_has_shown_itself() {
    let (t, device) = on_device();
    t.snapshot("s");
    hold(&t, ROOT, "s", "week", Some(7 * DAY)).unwrap();
    pass(&t, DAY);
    t.fs.close().unwrap();
    // Five days later: they count when an hour has passed, and in it a jump counts for nothing.
    let t = killed(t, &device, 5 * DAY);
    hold(&t, ROOT, "s", "new", Some(2 * HOUR)).unwrap();
    pass(&t, HOUR / 2);
    t.clock.set(300 * DAY as i64 * SECOND);
    pass(&t, HOUR + 60);
    assert_eq!(tags(&t, "s"), ["week", "new"], "six days and a half have passed");
    pass(&t, HOUR);
    assert_eq!(tags(&t, "s"), ["week"], "what began later ends by its own time");
    pass(&t, DAY);
    assert!(tags(&t, "s").is_empty());
    // A clock that is years ahead ages a store by a month, and that not at once.
    hold(&t, ROOT, "s", "month", Some(31 * DAY)).unwrap();
    pass(&t, HOUR);
    let t = killed(t, &device, 4000 * DAY);
    pass(&t, 2 * HOUR);
    assert_eq!(tags(&t, "s"), ["month"]);
    pass(&t, DAY);
    assert!(tags(&t, "s").is_empty());
    delete(&t, "s").unwrap();
    t.fs.commit().unwrap();
    t.prove();
}

#[test]
fn where_copies_are_is_known_of_the_last_so_many() {
    let (t, device) = on_device();
    t.put(ROOT, "a", b"one");
    t.snapshot("s");
    let s = view(&t, ROOT, "s");
    for n in 1..=COPIES_MAX as u8 + 8 {
        t.fs.note_copy(s, [n; 16], b"/copy").unwrap();
    }
    // Once more, and elsewhere by now.
    t.fs.note_copy(s, [20; 16], b"/moved").unwrap();
    let known = t.fs.volume().hydrations_of(s);
    let stores: Vec<u8> = known.iter().map(|copy| copy.store[0]).collect();
    assert_eq!(stores, (9..=COPIES_MAX as u8 + 8).collect::<Vec<_>>());
    assert!(known.iter().all(|copy| (copy.path == b"/moved") == (copy.store == [20; 16])));
    let t = killed(t, &device, 0);
    assert_eq!(t.fs.volume().hydrations_of(s), known);
    // They hold nothing, and go with it.
    t.fs.forget_copies_at(b"/moved").unwrap();
    assert_eq!(t.fs.volume().hydrations_of(s).len(), COPIES_MAX - 1);
    delete(&t, "s").unwrap();
    t.fs.commit().unwrap();
    assert!(t.fs.volume().hydrations().is_empty());
    t.prove();
}

#[test]
fn a_copy_holds_its_snapshot_for_as_long_as_it_goes_on_and_a_month() {
    let (t, device) = on_device();
    t.put(ROOT, "a", b"one");
    for name in ["s", "paused", "whole"] {
        t.snapshot(name);
    }
    let begin = |t: &T, name: &str| {
        let (view, path) = (view(t, ROOT, name), b"/copy".to_vec());
        let new = NewHydration { view, store: [7; 16], path, rate: 0, about_bytes: 9, user: Some(7) };
        t.fs.begin_hydration(&new).unwrap()
    };
    let [copy, paused, whole] = ["s", "paused", "whole"].map(|name| begin(&t, name));
    t.fs.direct_hydration(paused.number, Some(HydrationState::Paused), None).unwrap();
    t.fs.finish_hydration(whole.number, 9).unwrap();
    delete(&t, "whole").unwrap();
    let is_held =
        |t: &T, name: &str| delete(t, name) == Err(Error::Busy) && t.fs.volume().is_held(view(t, ROOT, name));
    pass(&t, COPY_KEPT_SECS - DAY);
    // A clock that jumps ends nothing.
    for jump in [400 * DAY as i64, -900 * DAY as i64, 500 * DAY as i64] {
        t.clock.set(jump * SECOND);
        pass(&t, 60);
        assert!(is_held(&t, "s") && is_held(&t, "paused"), "{jump}");
    }
    // One goes on, and is tried in vain later; the other waits.
    t.fs.note_hydration(copy.number, (5, 9), "", WentOn::Yes);
    pass(&t, 2 * DAY);
    t.fs.note_hydration(copy.number, (5, 9), "it is away", WentOn::No);
    assert!(is_held(&t, "s") && !t.fs.volume().is_held(view(&t, ROOT, "paused")));
    // That the hold of the other has ended is told by the log, and by the tree.
    let mut t = t;
    for _ in 0..2 {
        t = killed(t, &device, 0);
        assert!(is_held(&t, "s") && !t.fs.volume().is_held(view(&t, ROOT, "paused")));
        t.fs.commit().unwrap();
    }
    // It goes on all the same, and holds again from then on.
    let known = t.fs.volume().hydration(paused.number).unwrap();
    assert!((known.state, known.hold) == (HydrationState::Paused, CopyHold::Ended) && !known.holds());
    t.fs.direct_hydration(paused.number, Some(HydrationState::Running), None).unwrap();
    assert!(is_held(&t, "paused"));
    pass(&t, COPY_KEPT_SECS + DAY);
    for name in ["s", "paused"] {
        assert!(!t.fs.volume().is_held(view(&t, ROOT, name)));
        delete(&t, name).unwrap();
    }
    // What is known of a copy goes with its snapshot, and nothing waits for any time any more.
    assert!(t.fs.volume().hydrations().is_empty() && !t.fs.volume().waits_for_age());
    t.fs.commit().unwrap();
    t.prove();
}

#[test]
fn a_hold_that_is_renewed_is_there_after_a_cut_at_any_write() {
    let sim = Arc::new(Sim::new(64 << 20, 1));
    make(sim.clone());
    let opened = |sim: Sim| {
        let options = OpenOptions { access: Access::ReadWrite, cache_bytes: CACHE_BYTES };
        T::on(Volume::open(Arc::new(sim), options).unwrap(), FsOptions::default())
    };
    let by = Provenance { user: Some(7), ..Provenance::default() };
    let terms = |days: u64| HoldTerms { tag: "send-1", after: Some(days * DAY) };
    {
        let t = opened(sim.clone_image());
        t.snapshot("s");
        let first = t.fs.hold_for_transfer(view(&t, ROOT, "s"), &terms(1), &by).unwrap();
        let second = t.fs.hold_for_transfer(view(&t, ROOT, "s"), &terms(3), &by).unwrap();
        assert!(second.number > first.number && second.ends > first.ends);
        assert_eq!(t.fs.volume().holds(), [second]);
    }
    let mut seen = [false; 2];
    for n in 1.. {
        let sim = Arc::new(sim.clone_image());
        let options = OpenOptions { access: Access::ReadWrite, cache_bytes: CACHE_BYTES };
        let t = T::on(Volume::open(sim.clone(), options).unwrap(), FsOptions::default());
        t.snapshot("s");
        let s = view(&t, ROOT, "s");
        let first = t.fs.hold_for_transfer(s, &terms(1), &by).unwrap().ends;
        let second = first.map(|ends| ends + 2 * DAY);
        sim.set_crash_at(sim.changes() + n);
        let done = t.fs.hold_for_transfer(s, &terms(3), &by);
        let crashed = sim.is_crashed();
        for policy in [CrashPolicy::DropAll, CrashPolicy::KeepAll, CrashPolicy::Random(n)] {
            let b = opened(sim.crash(policy));
            let holds = b.fs.volume().holds();
            let [hold] = &holds[..] else { panic!("{n} {policy:?}: {holds:?}") };
            let is_new = hold.ends == second;
            assert!(is_new || hold.ends == first && done.is_err(), "{n} {policy:?}: {hold:?}");
            seen[usize::from(is_new)] = true;
            assert_eq!(delete(&b, "s"), Err(Error::Busy));
            b.fs.commit().unwrap();
            b.prove();
        }
        if !crashed {
            break;
        }
    }
    assert_eq!(seen, [true; 2]);
}

#[test]
fn what_is_sent_stays_until_that_has_ended() {
    let (t, device) = on_device();
    t.put(ROOT, "a", b"one");
    t.snapshot("s");
    let s = view(&t, ROOT, "s");
    let clone = t.mkdir(CLONEDIR, "clone").unwrap();
    t.fs.create_snapshot_of(clone, b"own", Provenance::default()).unwrap();
    let own = view(&t, clone, "own");
    let sent = [s, s, own].map(|view| t.fs.begin_departure(view, Some(7)).unwrap());
    let told: Vec<_> = t.fs.departures().iter().map(|one| (one.view, one.user)).collect();
    assert_eq!(told, [(s, Some(7)), (s, Some(7)), (own, Some(7))]);
    let info = t.fs.volume().snapshot_info(s).unwrap();
    assert!(t.fs.keeps_from_deletion(&info).is_some_and(|why| why.contains("sent")));
    let [first, second, third] = sent;
    drop(first);
    assert_eq!((delete(&t, "s"), t.fs.delete_snapshot(b"s")), (Err(Error::Busy), Err(Error::Busy)));
    assert_eq!(t.fs.check_deletable(ROOT, &info), Err(Error::Busy));
    assert_eq!(
        (t.fs.rmdir(&SUPER, CLONEDIR, b"clone"), t.fs.drop_clone(b"clone")),
        (Err(Error::Busy), Err(Error::Busy))
    );
    drop((second, third));
    t.fs.rmdir(&SUPER, CLONEDIR, b"clone").unwrap();

    // To another store it is held in the store, also over a cut; once more begins its time anew.
    let by = Provenance { user: Some(7), ..Provenance::default() };
    let terms = HoldTerms { tag: "send-1", after: Some(7 * DAY) };
    t.fs.hold_for_transfer(s, &terms, &by).unwrap();
    pass(&t, 4 * DAY);
    t.fs.hold_for_transfer(s, &terms, &by).unwrap();
    pass(&t, 4 * DAY);
    assert_eq!((tags(&t, "s"), delete(&t, "s")), (vec!["send-1".to_string()], Err(Error::Busy)));
    let t = killed(t, &device, 9 * DAY);
    assert_eq!(delete(&t, "s"), Err(Error::Busy));
    assert_eq!(t.fs.release_transfer(s, "send-2"), Ok(false));
    assert_eq!(t.fs.release_transfer(s, "send-1"), Ok(true));
    t.fs.hold_for_transfer(s, &terms, &by).unwrap();
    pass(&t, 8 * DAY);
    assert!(tags(&t, "s").is_empty(), "it falls off");
    delete(&t, "s").unwrap();
    assert!(matches!(t.fs.begin_departure(s, None), Err(Error::NotFound)));
    assert!(t.fs.departures().is_empty());
    t.prove();
}
