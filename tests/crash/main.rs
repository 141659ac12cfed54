//! Every crash point of a set of workloads, and every n-th failure of a device. See docs/testing.md.
//!
//! Seed in, same run out. `SNAPFS_SEED` is the seed of the workloads, `SNAPFS_WORKLOAD` the name of the only one to run,
//! `SNAPFS_CRASH_CALLS` the length of each in device calls, `SNAPFS_FAILURES` how many calls of each kind fail at most,
//! `SNAPFS_SOAK_SECONDS` how long the soak goes on with new seeds.

mod branches;
mod cuts;
mod failures;
mod forks;
mod late;
mod lies;
#[allow(dead_code, reason = "shared with the test program `model`")]
#[path = "../model/lines.rs"]
mod lines;
#[allow(dead_code, reason = "shared with the test program `model`")]
#[path = "../model/merging.rs"]
mod merging;
#[allow(dead_code, reason = "shared with the test program `model`")]
#[path = "../model/observe.rs"]
mod observe;
#[allow(dead_code, reason = "shared with the test program `model`")]
#[path = "../model/past.rs"]
mod past;
#[allow(dead_code, reason = "shared with the test program `model`")]
#[path = "../model/reference.rs"]
mod reference;
mod sides;
mod tape;
#[allow(dead_code, reason = "shared with the test program `model`")]
#[path = "../model/trash.rs"]
mod trash;
mod workloads;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cuts::{Recording, Tried, Tries};
use parking_lot::Mutex;
use sides::Lived;
use workloads::{WORKLOADS, Workload};

/// The seed when `SNAPFS_SEED` does not say.
const SEED: u64 = 1;
/// Changing device calls of each workload.
const CALLS: u64 = 2000;
/// The same where each recovery is cut off, too.
const RECOVERY_CALLS: u64 = 120;
/// Workloads that are left out there unless one is asked for: of those with several lines one is enough.
const NO_RECOVERY: [&str; 2] = ["lines_in_turn", "copies_between_lines"];
/// Crash points that `every_crash_point` tries at least, unless it was told to do less.
const CUTS_MIN: u64 = 20_000;
/// Length of the workloads in which calls fail, in device calls, and of how many calls each has to fail at most.
const FAILURE_CALLS: u64 = 250;
const FAILURES: u64 = 2000;
/// Length of the workloads in which the device lies, in device calls.
const LIE_CALLS: u64 = 300;
/// Length of the workloads on two disks, in device calls; of those in which calls fail; and of those while a disk is damaged.
const SIDE_CALLS: u64 = 250;
const SIDE_FAILURE_CALLS: u64 = 150;
const SIDE_DAMAGE_CALLS: u64 = 1200;
const SIDES_STRIDE: u64 = 3;
/// Histories in which a disk lags or hangs, and the length of each in calls of both disks.
const LATE_HISTORIES: u64 = 40;
const LATE_CALLS: u64 = 1200;
/// Parts into which a workload is cut, so that all processors have work.
const PARTS: u64 = 8;

fn number(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok();
    value.map_or(default, |v| v.parse().unwrap_or_else(|_| panic!("{name}={v} is not a number")))
}

/// The workloads that were asked for.
fn asked() -> Vec<&'static Workload> {
    let only = std::env::var("SNAPFS_WORKLOAD").ok();
    let asked: Vec<_> = WORKLOADS.iter().filter(|w| only.as_ref().is_none_or(|o| o == w.name)).collect();
    assert!(!asked.is_empty(), "there is no workload {only:?}");
    asked
}

/// Does all jobs on all processors; the failures, panics among them, in the order of the jobs.
fn in_parallel<J: Sync, R: Send>(
    jobs: &[J],
    work: impl Fn(&J) -> Result<R, String> + Sync,
) -> (Vec<R>, Vec<String>) {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    let run = || {
        while let Some((n, job)) = {
            let n = next.fetch_add(1, Ordering::Relaxed);
            jobs.get(n).map(|job| (n, job))
        } {
            let outcome = catch_unwind(AssertUnwindSafe(|| work(job))).unwrap_or_else(|payload| {
                let text = payload.downcast_ref::<String>().cloned();
                let text = text.or_else(|| payload.downcast_ref::<&str>().map(|s| s.to_string()));
                Err(format!("panic: {}", text.unwrap_or_else(|| "of unknown kind".into())))
            });
            done.lock().push((n, outcome));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(run))));
    let mut done = done.into_inner();
    done.sort_by_key(|(n, _)| *n);
    let (mut results, mut failures) = (Vec::new(), Vec::new());
    for (_, outcome) in done {
        match outcome {
            Ok(result) => results.push(result),
            Err(why) => failures.push(why),
        }
    }
    (results, failures)
}

/// How to see a failure again.
fn again(test: &str, seed: u64) -> String {
    format!("again: SNAPFS_SEED={seed} SNAPFS_WORKLOAD=... cargo test --test crash {test} -- --nocapture")
}

/// Cuts the power at every call of the workloads and prints the counts.
fn sweep(test: &str, workloads: &[&Workload], seed: u64, calls: u64, depth: Tries) -> Tried {
    let recordings: Vec<Recording> = workloads.iter().map(|w| cuts::record(w, seed, calls)).collect();
    let jobs: Vec<(usize, u64, u64)> = recordings
        .iter()
        .enumerate()
        .flat_map(|(n, recording)| {
            let points = recording.tape.len() as u64 + 1;
            (0..PARTS).map(move |part| (n, points * part / PARTS, points * (part + 1) / PARTS))
        })
        .collect();
    let try_part = |job: &(usize, u64, u64)| {
        let (n, from, to) = *job;
        cuts::try_all(&recordings[n], from, to, depth).map(|tried| (n, tried))
    };
    let (results, failures) = in_parallel(&jobs, try_part);
    let mut all = Tried::default();
    for (n, recording) in recordings.iter().enumerate() {
        let mut own = Tried::default();
        results.iter().filter(|(of, _)| *of == n).for_each(|(_, tried)| own += *tried);
        let operations = recording.history.len();
        println!(
            "{}: {operations} operations, {} crash points, {} disks",
            recording.name, own.cuts, own.disks
        );
        all += own;
    }
    println!("{} workloads, {} crash points, {} disks", recordings.len(), all.cuts, all.disks);
    assert!(
        failures.is_empty(),
        "{} violations\n{}\n{}",
        failures.len(),
        failures.join("\n"),
        again(test, seed)
    );
    all
}

/// The power is cut before every changing call of every workload.
#[test]
fn every_crash_point() {
    let (workloads, calls) = (asked(), number("SNAPFS_CRASH_CALLS", CALLS));
    let tried = sweep("every_crash_point", &workloads, number("SNAPFS_SEED", SEED), calls, Tries::Once);
    let whole = workloads.len() == WORKLOADS.len() && calls >= CALLS;
    assert!(tried.cuts >= CUTS_MIN || !whole, "only {} crash points", tried.cuts);
}

/// The power is cut again at every call of the recovery from each of these crashes, and of the first commit after it.
#[test]
fn every_crash_point_of_every_recovery() {
    let seed = number("SNAPFS_SEED", SEED);
    let mut workloads = asked();
    if workloads.len() == WORKLOADS.len() {
        workloads.retain(|w| !NO_RECOVERY.contains(&w.name));
    }
    sweep("every_crash_point_of_every_recovery", &workloads, seed, RECOVERY_CALLS, Tries::Recovery);
}

/// The power of two disks that hold one store is cut before every changing call, in different ways on each.
#[test]
fn every_crash_point_of_two_sides() {
    let (workloads, calls) = (asked(), number("SNAPFS_CRASH_CALLS", SIDE_CALLS));
    let seed = number("SNAPFS_SEED", SEED);
    let recordings: Vec<Recording> = workloads.iter().map(|w| cuts::record(w, seed, calls)).collect();
    let (results, wrong) =
        in_parallel(&recordings, |recording| sides::try_cuts(recording, 0, recording.tape.len() as u64 + 1));
    let mut all = Tried::default();
    results.into_iter().for_each(|tried| all += tried);
    println!("{} workloads, {} crash points, {} pairs of disks", recordings.len(), all.cuts, all.disks);
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), again("every_crash_point_of_two_sides", seed));
    assert!(all.cuts > 0);
}

/// A store gets a second disk, is split, gets it back and lets go of it; the power of either or both is cut at every step of
/// that, and every write, flush and promise of space of either fails.
#[test]
fn every_crash_point_of_attach_split_and_resync() {
    use sides::Trouble;
    use snapfs::device::Op;
    let seed = number("SNAPFS_SEED", SEED);
    let whole = sides::live(Trouble::None, 1, seed).expect("without a cut");
    let Lived { filled, changed, .. } = whole;
    println!("filled with {filled:?} bytes, {changed} were written while they were apart");
    assert!(filled[1] > 100_000 && filled[1] * 10 <= changed * 11 && filled[1] < filled[0] / 2);
    let troubles = (0..2).flat_map(|n| {
        let calls = [Op::Write, Op::Flush, Op::Back].map(|op| Trouble::Call(n, op));
        calls.into_iter().chain([Trouble::Power(n)])
    });
    let troubles: Vec<Trouble> = troubles.chain([Trouble::Blackout]).collect();
    let jobs: Vec<(Trouble, u64)> =
        troubles.iter().flat_map(|trouble| (0..PARTS).map(move |part| (*trouble, part))).collect();
    // The first ones all, and then some, unless all are asked for.
    let stride = number("SNAPFS_SIDES_STRIDE", SIDES_STRIDE).max(1);
    let (results, wrong) = in_parallel(&jobs, |(trouble, part)| {
        let (mut nth, mut cuts) = (1 + part, 0);
        while sides::live(*trouble, nth, seed).map_err(|e| format!("{trouble:?}, call {nth}: {e}"))?.met {
            nth += PARTS * stride;
            cuts += 1;
        }
        Ok(cuts)
    });
    println!("{} cuts and failures", results.iter().sum::<u64>());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(results.iter().sum::<u64>() > 200);
}

/// A filling that is cut off goes on from where it was: what was copied by then is not copied again.
#[test]
fn a_filling_that_is_cut_off_goes_on() {
    let seed = number("SNAPFS_SEED", SEED);
    for cut in [sides::Cut::Ended, sides::Cut::Power, sides::Cut::Away] {
        for was_there in [false, true] {
            let done = sides::cut_filling(cut, was_there, seed);
            done.unwrap_or_else(|why| panic!("{cut:?}, the disk was there before: {was_there}: {why}"));
        }
    }
}

/// While a disk is filled calls of the other fail, and files are deleted.
#[test]
fn what_happens_while_a_disk_is_filled() {
    for op in [snapfs::device::Op::Read, snapfs::device::Op::Write, snapfs::device::Op::Flush] {
        let met = sides::attach_with_failures(op).unwrap_or_else(|why| panic!("{why}"));
        assert!(met > 3, "{op:?}: {met}");
    }
    sides::freed_while_filled().unwrap_or_else(|why| panic!("{why}"));
}

/// After a power cut one of two disks takes no more writes, from each write on that the opening makes: nobody notices.
#[test]
fn a_side_that_takes_no_writes_after_a_crash() {
    let seed = number("SNAPFS_SEED", SEED);
    let recordings: Vec<Recording> =
        asked().iter().map(|w| cuts::record(w, seed, SIDE_FAILURE_CALLS)).collect();
    let (results, wrong) = in_parallel(&recordings, |recording| sides::unwritable(recording, 29));
    println!("{} openings with a disk that takes no writes", results.iter().sum::<u64>());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(results.iter().sum::<u64>() > 100);
}

/// A disk is put back to an older time behind the back of the store: it is not taken for an equal, and filled.
#[test]
fn an_older_copy_of_a_side() {
    let seed = number("SNAPFS_SEED", SEED);
    for mounts in 0..4 {
        let filled =
            sides::older_copy(mounts, seed).unwrap_or_else(|why| panic!("{mounts} mounts ago: {why}"));
        println!("{mounts} mounts ago: {filled} bytes");
        // Files and nodes of five commits a mount; the 2 MB that were there before are not among them.
        let changed = 700_000 * (mounts + 1);
        assert!(filled < changed, "{mounts} mounts ago: {filled} bytes, no more than what has changed");
    }
}

/// Blocks of one disk are destroyed while a workload runs: no error reaches it, and a scrub heals all.
#[test]
fn damage_of_one_side() {
    let (workloads, seed) = (asked(), number("SNAPFS_SEED", SEED));
    let jobs: Vec<_> = workloads.iter().flat_map(|w| [(*w, 0), (*w, 1)]).collect();
    let (results, wrong) = in_parallel(&jobs, |(workload, side)| {
        sides::damage(workload, seed, SIDE_DAMAGE_CALLS, *side)
            .map_err(|why| format!("{} with damage on side {side}: {why}", workload.name))
    });
    println!("{} places healed", results.iter().sum::<u64>());
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), again("damage_of_one_side", seed));
    assert!(results.iter().sum::<u64>() > 100);
}

/// The same while content is copied out and goes home.
#[test]
fn damage_of_one_side_under_what_moves() {
    let seed = number("SNAPFS_SEED", SEED);
    for side in 0..2 {
        let [healed, copied, moved] =
            sides::damage_of_what_moves(seed, side).unwrap_or_else(|why| panic!("side {side}: {why}"));
        println!("side {side}: {healed} places healed, {copied} bytes copied out, {moved} brought home");
        assert!(healed > 20 && copied > 0 && moved > 0);
    }
}

/// The workload of files that are written over in place does what it is for, also where it is short.
#[test]
fn content_moves_in_the_workload_for_that() {
    let workload = WORKLOADS.iter().find(|workload| workload.name == "in_place").expect("it is there");
    for calls in [RECOVERY_CALLS, SIDE_FAILURE_CALLS, FAILURE_CALLS, CALLS] {
        let sim = std::sync::Arc::new(world::template());
        let counter = sim.clone();
        let limits = world::Limits::in_steps();
        let mut world = world::World::new(sim, Box::new(move || counter.changes()), limits);
        (workload.run)(&mut world, &mut fastrand::Rng::with_seed(SEED), calls);
        let (copied, moved) = world.homed;
        println!("{calls} calls: {copied} bytes were copied out, {moved} came home");
        assert!(
            copied > 0 && moved > 0,
            "in {calls} calls {copied} bytes were copied out, {moved} came home"
        );
    }
}

/// One disk after the other lags or hangs while a workload runs, is left out, comes back and is filled, and is late again: nobody
/// notices, and either disk alone has everything in the end.
#[test]
fn a_side_that_lags_or_hangs_and_comes_back() {
    let (seed, calls) = (number("SNAPFS_SEED", SEED), number("SNAPFS_CRASH_CALLS", LATE_CALLS));
    let jobs: Vec<u64> = (0..number("SNAPFS_LATE", LATE_HISTORIES)).map(|n| seed * 1000 + n).collect();
    let (results, wrong) = in_parallel(&jobs, |seed| late::history(*seed, calls));
    let mut all = late::Tended::default();
    results.into_iter().for_each(|tended| all += tended);
    println!("{} histories: {all:?}", jobs.len());
    assert!(
        wrong.is_empty(),
        "{}\n{}",
        wrong.join("\n"),
        again("a_side_that_lags_or_hangs_and_comes_back", seed)
    );
    let told = [all.hung, all.lagged, all.lost, all.filled];
    assert!(told.iter().all(|count| *count >= jobs.len() as u64) && all.cut > 0 && all.apart > 0, "{all:?}");
}

/// Every n-th read, write, flush and promise of space fails on one of two disks, and its power is cut: nobody notices.
#[test]
fn every_failure_of_one_side() {
    let (workloads, seed) = (asked(), number("SNAPFS_SEED", SEED));
    let faults = sides::side_faults();
    let jobs: Vec<_> =
        faults.into_iter().flat_map(|fault| workloads.iter().map(move |w| (*w, fault))).collect();
    let most = number("SNAPFS_FAILURES", FAILURES);
    let (results, wrong) = in_parallel(&jobs, |(workload, fault)| {
        sides::sweep(workload, seed, SIDE_FAILURE_CALLS, *fault, most)
    });
    let runs = results.iter().sum::<u64>();
    println!("{runs} failures of one side");
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), again("every_failure_of_one_side", seed));
    assert!(runs >= jobs.len() as u64 * most.min(5), "{runs} failures of {} kinds", jobs.len());
}

/// Every n-th read, write, flush and promise of space fails, once and for good.
#[test]
fn every_failure_of_the_device() {
    let (workloads, seed) = (asked(), number("SNAPFS_SEED", SEED));
    let jobs: Vec<_> = failures::ways()
        .into_iter()
        .flat_map(|failure| workloads.iter().map(move |w| (*w, failure)))
        .collect();
    let (results, wrong) = in_parallel(&jobs, |(workload, failure)| {
        failures::sweep(workload, seed, FAILURE_CALLS, *failure, number("SNAPFS_FAILURES", FAILURES))
    });
    let sum = |of: fn(&failures::Swept) -> u64| results.iter().map(of).sum::<u64>();
    let runs = sum(|s| s.runs);
    println!(
        "{runs} failures, {} stopped the store, {} refused operations",
        sum(|s| s.stopped),
        sum(|s| s.refused)
    );
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), again("every_failure_of_the_device", seed));
    assert!(runs > 0 && sum(|s| s.stopped) > 0 && sum(|s| s.refused) > 0);
}

/// Every n-th write is lost or lands elsewhere, and every n-th read is stale, while the device says that all went well.
#[test]
fn every_lie_of_the_device() {
    let (workloads, seed) = (asked(), number("SNAPFS_SEED", SEED));
    let jobs: Vec<_> = lies::LIES.iter().flat_map(|lie| workloads.iter().map(move |w| (*w, *lie))).collect();
    let (results, wrong) = in_parallel(&jobs, |(workload, lie)| {
        lies::sweep(workload, seed, LIE_CALLS, *lie, number("SNAPFS_FAILURES", FAILURES)).map(|l| (*lie, l))
    });
    for lie in lies::LIES {
        let sum = |of: fn(&lies::Lied) -> u64| {
            results.iter().filter(|(l, _)| *l == lie).map(|(_, lied)| of(lied)).sum::<u64>()
        };
        println!("{lie:?}: {} runs, {} told, {} unseen", sum(|l| l.runs), sum(|l| l.told), sum(|l| l.unseen));
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), again("every_lie_of_the_device", seed));
    assert!(results.iter().any(|(_, lied)| lied.told > 0));
}

/// New seeds for as long as is wanted.
#[test]
fn soak() {
    let end = Instant::now() + Duration::from_secs(number("SNAPFS_SOAK_SECONDS", 0));
    let mut seed = number("SNAPFS_SEED", std::time::UNIX_EPOCH.elapsed().map_or(SEED, |d| d.as_secs() << 20));
    while Instant::now() < end {
        sweep("every_crash_point", &asked(), seed, CALLS, Tries::Once);
        seed += 1;
    }
}
