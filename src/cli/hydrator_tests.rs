//! Copies between two simulated disks: cut and failing anywhere on either, paused, limited, given up, in turn.

use super::super::engine::OpenFor;
use super::super::streams::StoreEnd;
use super::*;
use crate::check::{Depth, check};
use crate::device::{CrashPolicy, Op, Persistence, Sim};
use crate::fixtures::{self, bytes, mkdir, overwrite, put, snapshot};
use crate::format::LineId;
use crate::format::provenance::Provenance;
use crate::fs::{Fs, FsOptions};
use crate::ops::{NodeId, Operations, XattrMode};
use crate::volume::{Access, Volume};
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;

const STORE_BYTES: u64 = 256 << 20;

fn new_sim(uuid: u8) -> Arc<Sim> {
    let sim = Arc::new(Sim::new(STORE_BYTES, uuid.into()));
    Volume::create(sim.clone(), STORE_BYTES, [uuid; 16], (0, 0)).unwrap();
    sim
}

fn open(sim: &Arc<Sim>) -> Option<Arc<Fs>> {
    let volume = fixtures::open(sim.clone(), Access::ReadWrite).ok()?;
    Fs::open(volume, FsOptions::default(), Clock::manual(1000)).ok()
}

fn named(fs: &Fs, name: &str) -> ViewId {
    fs.volume().find_snapshot(LineId::MAIN, name.as_bytes()).unwrap().id
}

/// A source with a snapshot, of which a store that has it gets a second one.
fn source() -> Arc<Sim> {
    let sim = new_sim(1);
    let fs = open(&sim).unwrap();
    let dir = mkdir(&fs, NodeId::ROOT, "d");
    (0..6).for_each(|n| {
        put(&fs, dir, &format!("f{n}"), &bytes(n, 3000 * n as usize));
    });
    let big = put(&fs, NodeId::ROOT, "big", &bytes(9, 1_500_000));
    snapshot(&fs, "one");
    overwrite(&fs, big, 4096, &bytes(10, 900_000));
    put(&fs, dir, "new", &bytes(11, 5000));
    snapshot(&fs, "two");
    fs.close().unwrap();
    Arc::new(sim.clone_image())
}

/// Copies of a source in one other store, which may be away.
fn hydrating(from: &Arc<Fs>, to: Option<&Arc<Fs>>) -> Hydrating {
    let to = to.cloned();
    let open = move |path: &Path, _: OpenFor| match &to {
        Some(to) => Ok(StoreEnd::Here(to.clone(), path.to_path_buf())),
        None => Err(Failure::new(Code::NotFound, "there is no such store")),
    };
    Hydrating { fs: from.clone(), store: PathBuf::from("/source"), open: Box::new(open) }
}

fn begin(from: &Arc<Fs>, to: &Arc<Fs>, name: &str) -> Result<HydrationRecord, Failure> {
    let (work, view) = (hydrating(from, Some(to)), named(from, name));
    let goal = work.look(view, Path::new("/target"))?;
    let new = NewHydration {
        view,
        store: goal.store,
        path: goal.path,
        rate: 0,
        about_bytes: goal.about_bytes,
        user: None,
    };
    from.begin_hydration(&new).map_err(|e| told_name(name.as_bytes(), &e))
}

/// One try without a limit: bytes that went.
fn try_once(from: &Arc<Fs>, to: &Arc<Fs>, record: &HydrationRecord) -> Result<u64, Failure> {
    let sent = AtomicU64::new(0);
    let gate = |bytes: usize| {
        sent.fetch_add(bytes as u64, SeqCst);
        Ok(())
    };
    hydrating(from, Some(to)).copy(record, &gate, &|_, _| ())?;
    from.finish_hydration(record.number, 0).map_err(|e| told_name(b"", &e))?;
    Ok(sent.into_inner())
}

/// What is in a snapshot, in whatever store.
fn sum(fs: &Fs, name: &str) -> u128 {
    let view = fs.volume().snapshot(named(fs, name)).unwrap();
    fs.sums_of(&view, &mut |_, _| ()).unwrap()
}

fn prove(fs: &Fs, what: &str) {
    fs.commit().unwrap();
    let report = check(fs.volume(), Depth::Data).unwrap();
    assert!(report.is_clean(), "{what}: {report:?}");
}

/// The source knows of the copy, and holds on to the snapshot until it is whole; then the other store has all of it.
fn go_on(from: &Arc<Fs>, to: &Arc<Fs>, must_be_known: bool, what: &str) {
    let known = from.volume().hydrations().into_iter().find(|copy| copy.view == named(from, "two"));
    assert!(known.is_some() || !must_be_known, "{what}: it is not known any more");
    let record = known.unwrap_or_else(|| begin(from, to, "two").unwrap());
    if !record.is_whole() {
        assert_eq!(from.delete_snapshot(b"two"), Err(Error::Busy), "{what}");
        try_once(from, to, &record).unwrap_or_else(|f| panic!("{what}: {f}"));
    }
    assert_eq!(sum(from, "two"), sum(to, "two"), "{what}");
    assert!(to.arrivals().is_empty(), "{what}");
    assert_eq!(from.delete_snapshot(b"two"), Ok(()), "{what}");
    assert!(from.volume().hydrations().iter().all(|copy| copy.view == named(from, "one")), "{what}");
    prove(from, what);
    prove(to, what);
    let live = to.volume().live(LineId::MAIN).unwrap();
    let copy = to.volume().snapshot(named(to, "two")).unwrap();
    assert_eq!(
        to.sums_of(&live, &mut |_, _| ()).unwrap(),
        to.sums_of(&copy, &mut |_, _| ()).unwrap(),
        "{what}"
    );
}

/// Both stores, of which the second has the first snapshot, or nothing.
fn pair(has_one: bool) -> [Arc<Sim>; 2] {
    let (a, b) = (source(), new_sim(2));
    if has_one {
        let (from, to) = (open(&a).unwrap(), open(&b).unwrap());
        let record = begin(&from, &to, "one").unwrap();
        try_once(&from, &to, &record).unwrap();
        from.close().unwrap();
        to.close().unwrap();
    }
    [&a, &b].map(|sim| Arc::new(sim.clone_image()))
}

/// From the beginning to the end on these disks. Whether the copy was begun, and whether it ended.
fn whole_way([a, b]: &[Arc<Sim>; 2]) -> (bool, bool) {
    let (Some(from), Some(to)) = (open(a), open(b)) else { return (false, false) };
    let Ok(record) = begin(&from, &to, "two") else { return (false, false) };
    let done = try_once(&from, &to, &record).is_ok();
    (true, done)
}

/// A cut of one of the disks, or both, at each of their changes.
fn cut_everywhere(has_one: bool, which: &[usize]) {
    let base = pair(has_one);
    for n in 1.. {
        let sims = base.clone().map(|sim| Arc::new(sim.clone_image()));
        which.iter().for_each(|i| sims[*i].set_crash_at(sims[*i].changes() + n));
        let (begun, done) = whole_way(&sims);
        let is_cut = which.iter().any(|i| sims[*i].is_crashed());
        for policy in [CrashPolicy::DropAll, CrashPolicy::KeepAll, CrashPolicy::Random(n)] {
            let what = format!("{which:?} {n} {policy:?}");
            let [from, to] = [0, 1]
                .map(|i| open(&Arc::new(sims[i].crash(policy))).unwrap_or_else(|| panic!("{what}: {i}")));
            assert!(!done || named(&to, "two").0 > 0, "{what}");
            go_on(&from, &to, begun, &what);
        }
        if !is_cut {
            break;
        }
    }
}

#[test]
fn a_cut_on_the_store_that_is_copied_loses_nothing() {
    cut_everywhere(false, &[0]);
}

#[test]
fn a_cut_on_the_store_that_gets_the_copy_loses_nothing() {
    cut_everywhere(false, &[1]);
    cut_everywhere(true, &[1]);
}

#[test]
fn a_cut_on_both_loses_nothing() {
    cut_everywhere(true, &[0, 1]);
}

#[test]
fn a_failure_of_any_call_on_either_store_is_told_and_gone_on_from() {
    let base = pair(true);
    for which in [0, 1] {
        for op in [Op::Read, Op::Write, Op::Flush] {
            for n in 1.. {
                let sims = base.clone().map(|sim| Arc::new(sim.clone_image()));
                let what = format!("store {which}, {op:?} {n}");
                let (Some(from), Some(to)) = (open(&sims[0]), open(&sims[1])) else { panic!("{what}") };
                let struck = sims[which].faults_struck();
                sims[which].fail(op, n, Persistence::Once);
                let begun = begin(&from, &to, "two");
                let done = begun.as_ref().map_err(Clone::clone).and_then(|copy| try_once(&from, &to, copy));
                let has_struck = sims[which].faults_struck() > struck;
                if !has_struck {
                    assert!(done.is_ok(), "{what}: {done:?}");
                    break;
                }
                // A store that takes no more changes is opened again.
                let again = |fs: Arc<Fs>, sim: &Arc<Sim>| match fs.volume().is_read_only() {
                    true => open(&Arc::new(sim.crash(CrashPolicy::KeepAll))).unwrap(),
                    false => fs,
                };
                let (from, to) = (again(from, &sims[0]), again(to, &sims[1]));
                go_on(&from, &to, begun.is_ok(), &what);
            }
        }
    }
}

#[test]
fn what_came_before_a_cut_is_not_sent_again() {
    let [a, b] = pair(false);
    let (from, to) = (open(&a).unwrap(), open(&b).unwrap());
    put(&from, NodeId::ROOT, "more", &bytes(20, 9 << 20));
    snapshot(&from, "three");
    let record = begin(&from, &to, "three").unwrap();
    let (mut all, mut tries) = (0, 0);
    loop {
        let sent = AtomicU64::new(0);
        // Each time two MiB go.
        let gate = |bytes: usize| match sent.fetch_add(bytes as u64, SeqCst) {
            sent if sent >= 2 << 20 => Err(io::Error::other("cut")),
            _ => Ok(()),
        };
        let before = AtomicU64::new(0);
        let received = |bytes: u64, _: u64| before.store(bytes, SeqCst);
        let done = hydrating(&from, Some(&to)).copy(&record, &gate, &received);
        // What it says that it has is what was sent but for a packet or so each time.
        assert!(before.into_inner() + (700 << 10) * tries >= all, "{tries}");
        (all, tries) = (all + sent.into_inner(), tries + 1);
        if done.is_ok() {
            break;
        }
    }
    assert_eq!(sum(&from, "three"), sum(&to, "three"));
    let content: u64 = (9 << 20) + 1_600_000;
    assert!(tries >= 5 && all < content + tries * (700 << 10), "{all} bytes in {tries} tries");
    // The next one carries what has changed.
    from.finish_hydration(record.number, all).unwrap();
    put(&from, NodeId::ROOT, "little", &bytes(21, 10_000));
    snapshot(&from, "four");
    from.delete_snapshot(b"three").unwrap();
    let record = begin(&from, &to, "four").unwrap();
    let sent = try_once(&from, &to, &record).unwrap();
    assert!(sent < 40_000, "{sent} bytes");
    assert_eq!(sum(&from, "four"), sum(&to, "four"));
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn hydrator(from: &Arc<Fs>, work: Hydrating) -> Hydrator {
    let hydrator = Hydrator::new(work, Clock::manual(1000));
    assert!(from.volume().hydrations().is_empty());
    hydrator.serve();
    hydrator
}

fn state(hydrator: &Hydrator, view: ViewId) -> String {
    hydrator.told(Some(view))[0]["state"].as_str().unwrap_or("none").to_string()
}

#[test]
fn orders_are_heard_while_it_goes_on() {
    let [a, b] = pair(false);
    let (from, to) = (open(&a).unwrap(), open(&b).unwrap());
    let hydrator = hydrator(&from, hydrating(&from, Some(&to)));
    let (one, two) = (named(&from, "one"), named(&from, "two"));
    // A byte a second: it is on its way for a while.
    let slow = HydrateOrder::Begin { to: "/target".into(), rate: 1, user: Some(7) };
    hydrator.order(one, &slow).unwrap();
    let again = hydrator.order(one, &slow).unwrap_err();
    assert!(again.message.contains("already"), "{again}");
    hydrator.order(two, &HydrateOrder::Begin { to: "/target".into(), rate: 0, user: Some(7) }).unwrap();
    wait_until("it goes on", || state(&hydrator, one) == "running");
    assert_eq!(state(&hydrator, two), "queued");
    assert!(hydrator.summary().unwrap().contains("'two' to /target: queued"));
    for name in ["one", "two"] {
        assert_eq!(from.delete_snapshot(name.as_bytes()), Err(Error::Busy));
    }
    hydrator.order(one, &HydrateOrder::Pause).unwrap();
    wait_until("it pauses", || hydrator.shared.current.lock().is_none());
    assert_eq!((state(&hydrator, one), state(&hydrator, two)), ("paused".into(), "queued".into()));
    hydrator.order(one, &HydrateOrder::Rate(2)).unwrap();
    assert_eq!(hydrator.told(Some(one))[0]["limit_bytes"], 2);
    hydrator.order(one, &HydrateOrder::Resume).unwrap();
    wait_until("it goes on again", || state(&hydrator, one) == "running");
    // The daemon ends in the middle, and the next goes on.
    hydrator.close();
    assert!(hydrator.shared.current.lock().is_none());
    let hydrator = Hydrator::new(hydrating(&from, Some(&to)), Clock::manual(1000));
    hydrator.serve();
    wait_until("it goes on after all", || state(&hydrator, one) == "running");
    hydrator.order(one, &HydrateOrder::Rate(u64::MAX)).unwrap();
    wait_until("both are whole", || state(&hydrator, one) == "whole" && state(&hydrator, two) == "whole");
    assert_eq!(hydrator.summary(), None);
    assert!(hydrator.order(one, &HydrateOrder::Cancel).is_err());
    hydrator.close();
    for name in ["one", "two"] {
        assert_eq!(sum(&from, name), sum(&to, name));
        assert_eq!(from.delete_snapshot(name.as_bytes()), Ok(()));
    }
    assert!(from.volume().hydrations().is_empty());
    prove(&from, "the source");
    prove(&to, "the copy");
}

#[test]
fn what_is_given_up_leaves_nothing_on_either_side() {
    let [a, b] = pair(false);
    let (from, to) = (open(&a).unwrap(), open(&b).unwrap());
    let hydrator = hydrator(&from, hydrating(&from, Some(&to)));
    let two = named(&from, "two");
    hydrator.order(two, &HydrateOrder::Begin { to: "/target".into(), rate: 1 << 20, user: Some(7) }).unwrap();
    wait_until("some came", || to.arrivals().iter().any(|arrival| arrival.record.received_bytes > 0));
    hydrator.order(two, &HydrateOrder::Cancel).unwrap();
    assert_eq!(hydrator.told(None), json!([]));
    assert_eq!(from.delete_snapshot(b"two"), Ok(()));
    wait_until("nothing is left there", || to.arrivals().is_empty());
    hydrator.close();
    prove(&from, "the source");
    prove(&to, "the other store");
}

#[test]
fn a_store_that_is_away_is_waited_for() {
    let [a, b] = pair(false);
    let (from, to) = (open(&a).unwrap(), open(&b).unwrap());
    let two = named(&from, "two");
    begin(&from, &to, "two").unwrap();
    let is_away = Arc::new(AtomicBool::new(true));
    let (away, there) = (is_away.clone(), to.clone());
    let open = move |path: &Path, _: OpenFor| match away.load(SeqCst) {
        true => Err(Failure::new(Code::NotFound, "/target: there is no such store")),
        false => Ok(StoreEnd::Here(there.clone(), path.to_path_buf())),
    };
    let work = Hydrating { fs: from.clone(), store: "/source".into(), open: Box::new(open) };
    let hydrator = Hydrator::new(work, Clock::manual(1000));
    hydrator.serve();
    wait_until("it waits", || state(&hydrator, two) == "waiting" && hydrator.shared.current.lock().is_none());
    assert!(hydrator.told(Some(two))[0]["trouble"].as_str().unwrap().contains("no such store"));
    assert!(hydrator.summary().unwrap().contains("no such store"));
    is_away.store(false, SeqCst);
    hydrator.order(two, &HydrateOrder::Resume).unwrap();
    wait_until("it is whole", || state(&hydrator, two) == "whole");
    assert_eq!(hydrator.told(Some(two))[0]["trouble"], Value::Null);
    hydrator.close();
    let delays: Vec<u64> =
        std::iter::successors(Some(next_delay(None)), |last| Some(next_delay(Some(*last))))
            .map(|delay| delay.as_secs())
            .take(9)
            .collect();
    assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
}

#[test]
fn what_cannot_be_is_refused_before_it_is_begun() {
    let [a, b] = pair(true);
    let (from, to) = (open(&a).unwrap(), open(&b).unwrap());
    let refused = |to: &Arc<Fs>, what: &str| {
        let f = begin(&from, to, "two").unwrap_err();
        assert!(f.message.contains(what), "{f}");
        assert_eq!(from.volume().hydrations().len(), 1);
    };
    refused(&from, "the store itself");
    put(&to, NodeId::ROOT, "own", b"x");
    refused(&to, "has changed since 'one'");
    // A store of its own gets a clone; of that name it has one.
    let other = open(&new_sim(3)).unwrap();
    put(&other, NodeId::ROOT, "own", b"x");
    other.create_clone(NodeId::ROOT, b"two", None, &Provenance::default()).unwrap();
    refused(&other, "a clone called 'two'");
    // Another store came to be where it was.
    other.drop_clone(b"two").unwrap();
    let record = begin(&from, &other, "two").unwrap();
    let f = try_once(&from, &to, &record).unwrap_err();
    assert!(f.message.contains("another store is there"), "{f}");
    try_once(&from, &other, &record).unwrap();
    assert!(other.volume().find_line(b"two").is_some());
    // One that has no room.
    let small = Arc::new(Sim::new(48 << 20, 4));
    Volume::create(small.clone(), 48 << 20, [4; 16], (0, 0)).unwrap();
    let small = open(&small).unwrap();
    put(&from, NodeId::ROOT, "huge", &bytes(5, 60 << 20));
    snapshot(&from, "huge");
    let f = begin(&from, &small, "huge").unwrap_err();
    assert!(f.message.contains("there is room for"), "{f}");
    assert_eq!(from.delete_snapshot(b"huge"), Ok(()));
}

/// A store that has content of its own and a trash, so that what comes is clones.
fn with_trash() -> Arc<Fs> {
    let other = open(&new_sim(5)).unwrap();
    put(&other, NodeId::ROOT, "own", b"x");
    other.setxattr(&fixtures::ADMIN, NodeId::ROOT, b"user.snapfs.trash", b"1h", XattrMode::Set).unwrap();
    other
}

/// The sum of the newest snapshot of a clone.
fn sum_of_clone(fs: &Fs, name: &str) -> u128 {
    let line = fs.volume().find_line(name.as_bytes()).unwrap();
    let newest = fs.volume().newest_snapshot(line.id).unwrap();
    fs.sums_of(&fs.volume().snapshot(newest.id).unwrap(), &mut |_, _| ()).unwrap()
}

#[test]
fn a_copy_in_the_trash_of_the_other_store_is_none() {
    let (from, to) = (open(&source()).unwrap(), with_trash());
    let record = begin(&from, &to, "one").unwrap();
    try_once(&from, &to, &record).unwrap();
    to.discard_clone(b"one", &Provenance::default()).unwrap();
    assert_eq!(to.volume().trash().len(), 1);
    // The same once more comes whole.
    let record = begin(&from, &to, "one").unwrap();
    try_once(&from, &to, &record).unwrap();
    assert_eq!(sum_of_clone(&to, "one"), sum(&from, "one"));
    // And so does the next one, of which nothing is told against what is in the trash.
    to.discard_clone(b"one", &Provenance::default()).unwrap();
    let record = begin(&from, &to, "two").unwrap();
    try_once(&from, &to, &record).unwrap();
    assert_eq!(sum_of_clone(&to, "two"), sum(&from, "two"));
    to.volume().trash().iter().for_each(|trash| to.empty_trash(trash.number).unwrap());
    prove(&to, "the other store");
}

/// When all has come, and is proved, an order to stop is heard as well.
#[test]
fn what_is_proved_waits_when_it_is_told_to_stop() {
    let (from, to) = (open(&source()).unwrap(), open(&new_sim(2)).unwrap());
    let dir = mkdir(&from, NodeId::ROOT, "many");
    for n in 0..4500 {
        mkdir(&from, dir, &n.to_string());
    }
    snapshot(&from, "three");
    let record = begin(&from, &to, "three").unwrap();
    let sent = AtomicU64::new(0);
    let gate = |bytes: usize| match sent.fetch_add(bytes as u64, SeqCst) {
        _ if bytes == 0 => Err(io::Error::other("stop")),
        _ => Ok(()),
    };
    assert!(hydrating(&from, Some(&to)).copy(&record, &gate, &|_, _| ()).is_err());
    let sent = sent.into_inner();
    assert!(to.arrivals()[0].record.received_bytes > sent / 2);
    let again = try_once(&from, &to, &record).unwrap();
    assert!(again < sent / 10, "{again} after {sent} bytes");
    assert_eq!(sum(&from, "three"), sum(&to, "three"));
}
