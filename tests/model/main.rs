//! Random histories and power cuts against a model of the file system layer. See docs/testing.md.
//!
//! Seed in, same run out. `SNAPFS_SEED` is the first seed, `SNAPFS_MODEL_HISTORIES` how many follow from it,
//! `SNAPFS_CRASH_POINTS` how many power cuts are tried, `SNAPFS_SOAK_SECONDS` how long the soak goes on with new seeds.
//! A failure is shrunk and printed with the command that replays it. Time and scheduling are not tested here.

mod across;
mod apply;
mod engine;
mod generate;
mod lines;
mod merging;
mod naive;
mod observe;
mod past;
mod reference;
mod run;
mod shrink;
mod trash;
mod trashing;
mod whole;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use engine::Content;
use generate::Op;
use naive::{Bug, NaiveSubject};
use parking_lot::Mutex;
use run::{Done, Subject};

/// The first seed when `SNAPFS_SEED` does not say.
const SEED: u64 = 0x5eed_0000;

/// An empty store; its device loses power at changing call `crash_at`, counted from now on. Every third compresses, and
/// in every third files are written over in place.
fn subject(seed: u64, crash_at: Option<u64>) -> Box<dyn Subject> {
    let content = [Content::Compressed, Content::InPlace, Content::Plain][(seed % 3) as usize];
    Box::new(engine::Engine::new(content, crash_at))
}

fn number(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok();
    value.map_or(default, |v| v.parse().unwrap_or_else(|_| panic!("{name}={v} is not a number")))
}

/// Runs `job(0)`, `job(1)`, ... on all processors until it says stop (`Ok(false)`) or fails; returns the first failure.
fn in_parallel<F: Sync + Fn(u64) -> Result<bool, String>>(job: F) -> Result<(), String> {
    let (next, stop, failure) = (AtomicU64::new(0), AtomicBool::new(false), Mutex::new(None));
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            match job(next.fetch_add(1, Ordering::Relaxed)) {
                Ok(true) => {}
                Ok(false) => break,
                Err(why) => {
                    stop.store(true, Ordering::Relaxed);
                    failure.lock().get_or_insert(why);
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    failure.into_inner().map_or(Ok(()), Err)
}

/// A test that draws histories, or workloads to cut, from seeds.
struct Draw {
    test: &'static str,
    draw: fn(u64) -> Vec<Op>,
}

const HISTORIES: Draw = Draw { test: "histories", draw: generate::history };
const HISTORIES_OF_LINES: Draw = Draw { test: "histories_of_lines", draw: generate::history_of_lines };
const CRASH_POINTS: Draw = Draw { test: "crash_points", draw: generate::workload };
const CRASH_POINTS_OF_LINES: Draw = Draw { test: "crash_points_of_lines", draw: generate::workload_of_lines };

/// Runs one seed's history; returns how many of its lines were changed while there were several, and what was done to them.
fn history(of: &Draw, seed: u64, make: &dyn Fn() -> Box<dyn Subject>) -> Result<(usize, Done), String> {
    let ops = (of.draw)(seed);
    let mut heads = (0, Done::default());
    let once = || run::run(make(), &ops).map(|runner| heads = (runner.heads(), runner.done));
    let again = |ops: &[Op]| shrink::attempt(|| run::run(make(), ops).map(drop));
    shrink::attempt(once).map_err(|why| shrink::report(seed, of.test, &ops, &why, &again))?;
    Ok(heads)
}

/// As many histories as were asked for, each of which changes at least so many lines.
fn run_histories(of: &Draw, default: u64, heads: usize) {
    let (first, count) = (number("SNAPFS_SEED", SEED), number("SNAPFS_MODEL_HISTORIES", default));
    let (fit, others, done) = (AtomicU64::new(0), AtomicU64::new(0), Mutex::new(Done::default()));
    let outcome = in_parallel(|i| {
        if fit.load(Ordering::Relaxed) >= count {
            return Ok(false);
        }
        let seed = first.wrapping_add(i);
        let (changed, of_lines) = history(of, seed, &|| subject(seed, None))?;
        *done.lock() += of_lines;
        let enough = changed >= heads;
        (if enough { &fit } else { &others }).fetch_add(1, Ordering::Relaxed);
        Ok(true)
    });
    assert!(outcome.is_ok(), "{}", outcome.expect_err("checked"));
    println!(
        "{} {} from seed {first} that change {heads} lines at least, {} others",
        fit.into_inner(),
        of.test,
        others.into_inner()
    );
    let done = done.into_inner();
    println!("{done:?}");
    let all = [done.merges, done.conflicts, done.taken_back, done.promotions, done.brought_back];
    assert!(count < 100 || done.homed > count << 11, "hardly anything came home: {done:?}");
    assert!(heads < 2 || count < 1000 || all.iter().all(|n| n * 20 > count), "hardly any of some: {done:?}");
}

#[test]
fn histories() {
    run_histories(&HISTORIES, 10_000, 0);
}

/// Several lines in one file system, up to 40. Only histories count in which two heads or more are at work.
#[test]
fn histories_of_lines() {
    run_histories(&HISTORIES_OF_LINES, 10_000, 2);
}

#[test]
fn soak() {
    let end = Instant::now() + Duration::from_secs(number("SNAPFS_SOAK_SECONDS", 0));
    let first = number("SNAPFS_SEED", std::time::UNIX_EPOCH.elapsed().map_or(SEED, |d| d.as_secs() << 20));
    let done = AtomicU64::new(0);
    let outcome = in_parallel(|i| {
        if Instant::now() >= end {
            return Ok(false);
        }
        done.fetch_add(1, Ordering::Relaxed);
        let seed = first.wrapping_add(i);
        let of = if i.is_multiple_of(2) { &HISTORIES } else { &HISTORIES_OF_LINES };
        history(of, seed, &|| subject(seed, None)).map(|_| true)
    });
    assert!(outcome.is_ok(), "{}", outcome.expect_err("checked"));
    println!("{} histories from seed {first}", done.into_inner());
}

/// Each workload is run once to count its device calls, then again with a power cut at every n-th of them; what is left
/// of it runs on the recovered store.
#[test]
fn crash_points() {
    cut_workloads(&CRASH_POINTS, 1500);
}

/// The same with several lines.
#[test]
fn crash_points_of_lines() {
    cut_workloads(&CRASH_POINTS_OF_LINES, 1000);
}

/// Tries as many power cuts as were asked for.
fn cut_workloads(of: &Draw, default: u64) {
    let first = number("SNAPFS_SEED", SEED);
    let wanted = number("SNAPFS_CRASH_POINTS", default);
    let (points, workloads, calls) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let outcome = in_parallel(|i| {
        if points.load(Ordering::Relaxed) >= wanted {
            return Ok(false);
        }
        let seed = first.wrapping_add(i);
        let (tried, total) = crash_workload(of, seed, &|at| subject(seed, at))?;
        points.fetch_add(tried, Ordering::Relaxed);
        workloads.fetch_add(1, Ordering::Relaxed);
        calls.fetch_add(total, Ordering::Relaxed);
        Ok(true)
    });
    assert!(outcome.is_ok(), "{}", outcome.expect_err("checked"));
    let (points, workloads, calls) = (points.into_inner(), workloads.into_inner(), calls.into_inner());
    println!("{points} power cuts in {workloads} workloads of {calls} device calls");
    assert!(points >= wanted, "only {points} power cuts were tried");
}

/// Power cuts over one workload: how many were tried, among how many device calls.
fn crash_workload(
    of: &Draw,
    seed: u64,
    make: &dyn Fn(Option<u64>) -> Box<dyn Subject>,
) -> Result<(u64, u64), String> {
    let ops = (of.draw)(seed);
    let attempt = |at: Option<u64>, ops: &[Op]| {
        let mut seen = (0, 0);
        shrink::attempt(|| {
            let runner = run::run(make(at), ops)?;
            seen = (runner.crashes as u64, runner.subject.device_calls());
            Ok(())
        })
        .map(|()| seen)
    };
    let (_, calls) = attempt(None, &ops)
        .map_err(|why| shrink::report(seed, of.test, &ops, &why, &|ops| attempt(None, ops).map(drop)))?;
    let stride = (calls / 40).max(1);
    let mut tried = 0;
    for at in (seed % stride..calls).step_by(stride as usize) {
        let cut = |ops: &[Op]| attempt(Some(at), ops);
        tried += cut(&ops)
            .map_err(|why| {
                let why = format!("power cut at device call {at}: {why}");
                shrink::report(seed, of.test, &ops, &why, &|ops| cut(ops).map(drop))
            })?
            .0;
    }
    Ok((tried, calls))
}

/// Every planted fault is found.
#[test]
fn planted_faults_are_found() {
    for bug in [
        Bug::TruncateKeepsTail,
        Bug::ForgetsFsync,
        Bug::SnapshotFollowsWrites,
        Bug::RenameLeaksLink,
        Bug::SetIdStays,
        Bug::Panics,
    ] {
        let found = (0..500)
            .find_map(|seed| history(&HISTORIES, seed, &|| Box::new(NaiveSubject::new(None, bug))).err());
        let found = found.unwrap_or_else(|| panic!("{bug:?} was not found"));
        println!("{bug:?}: {found}\n");
        let left = found.lines().filter(|line| line.starts_with("    ")).count();
        assert!((1..=12).contains(&left), "{bug:?} was not shrunk");
    }
}
