//! Short histories of several lines, many of them: lines branch, change, keep snapshots and go, in every order that seeds
//! draw, and each is cut off at every call, or has every call fail.
//!
//! The workloads of `workloads` are long and few. What goes wrong only between two certain operations is met here.
//! `SNAPFS_SEED` is the first seed, `SNAPFS_BRANCHES` how many follow from it.

use fastrand::Rng;
use snapfs::fs::MergeWay;
use snapfs::ops::{AllocateMode, RenameMode, SyncScope};

use crate::cuts::{self, Recording, Tried, Tries};
use crate::failures::{self, FaultKind};
use crate::lines::MAIN;
use crate::workloads::{Workload, any_line, bytes, size};
use crate::world::{Excuse, World};
use crate::{SEED, again, in_parallel, number};

/// Histories of which each is cut off at every call, and their length in device calls.
const CUT: (u64, u64) = (150, 90);
/// The same of those in which every call fails.
const FAILING: (u64, u64) = (24, 60);
/// Calls of each kind that fail at most in one history.
const FAILURES: u64 = 200;
/// Lines at once.
const LINES_MAX: usize = 5;

const BRANCHES: Workload = Workload { name: "branches", run: branch };

/// Files that are written in all lines.
fn file(rng: &mut Rng) -> String {
    ["a", "b", "d/a", "d/b", "d/c"][rng.usize(..5)].into()
}

/// Everything that there is to do with lines, a little of it with files in between.
fn branch(w: &mut World, rng: &mut Rng, calls: u64) {
    w.mkdir("d");
    let data = bytes(rng, 9000);
    w.put("a", &data);
    w.put("d/a", b"small");
    w.snap("first");
    w.clone_line("second");
    for round in 0_usize.. {
        if w.is_done(calls) {
            return;
        }
        if rng.u8(0..3) > 0 {
            w.turn_to(any_line(w, rng));
        }
        if rng.bool() {
            change(w, rng);
        } else {
            change_lines(w, rng, round);
        }
    }
}

fn change(w: &mut World, rng: &mut Rng) {
    let (name, other) = (file(rng), file(rng));
    let (there, len) = (w.has(&name), size(rng).min(20_000));
    let data = bytes(rng, len.max(1));
    let at = [rng.u64(0..12_000), rng.u64(0..4) * 4096][rng.usize(..2)];
    match rng.u8(0..16) {
        0..=2 if w.has("d") || !name.contains('/') => w.put(&name, &data),
        3 if there => w.append(&name, &data, rng.bool()),
        4 | 5 if there => w.write(&name, at, &data),
        6 if there => w.truncate(&name, at),
        7 if there => {
            w.fallocate(&name, at, 4096, [AllocateMode::PunchHole, AllocateMode::Extend][rng.usize(..2)])
        }
        8 if there => w.unlink(&name),
        9 if there && w.has(&other) => w.rename(&name, &other, RenameMode::Exchange),
        10 if there && name != other && (w.has("d") || !other.contains('/')) => {
            w.rename(&name, &other, RenameMode::Replace);
        }
        11 if there && w.has(&other) && name != other => {
            w.unlink(&other);
            w.link(&name, &other);
        }
        12 if there => w.set_xattr(&name, "user.a", &data[..data.len().min(3000)]),
        13 if w.has("d") && !w.has("e") => w.rename("d", "e", RenameMode::NoReplace),
        13 if w.has("e") && !w.has("d") => w.rename("e", "d", RenameMode::NoReplace),
        14 if there => w.fsync(&name, SyncScope::All),
        _ => {
            let from = any_line(w, rng);
            let here = w.model.at();
            w.turn_to(from);
            let source = w.has(&name) && w.size(&name) > 0;
            w.turn_to(here);
            if from != here && source && w.has(&other) {
                w.copy_from(from, (&name, 0), (&other, rng.u64(0..3) * 4096), 1 << 14);
            }
        }
    }
}

fn change_lines(w: &mut World, rng: &mut Rng, round: usize) {
    let (room, other) = (w.lines().len() < LINES_MAX, any_line(w, rng));
    let shown: Vec<String> = w
        .model
        .shown(w.model.at())
        .into_iter()
        .map(|(name, _)| String::from_utf8_lossy(name).into())
        .collect();
    let own = w.snapshots();
    let shown = (!shown.is_empty()).then(|| shown[rng.usize(..shown.len())].clone());
    let own = (!own.is_empty()).then(|| own[rng.usize(..own.len())].clone());
    let trash = (w.trash() > 0).then(|| rng.usize(..w.trash().max(1)));
    match (rng.u8(0..25), own, shown) {
        (0 | 1, ..) if room => w.clone_line(&format!("c{round}")),
        (2 | 3, _, Some(from)) if room => w.fork(&format!("l{round}"), &from),
        (4, ..) => w.drop_line(other),
        (5, Some(old), _) => w.rename_snap(&old, &format!("r{round}")),
        (6 | 7, Some(old), _) => w.unsnap(&old),
        (8, ..) => {
            let (tag, name) = (format!("h{}", rng.u8(0..2)), file(rng));
            w.let_go(&tag);
            if w.has(&name) {
                w.hold(&tag, &name);
                w.unlink(&name);
                w.write_held(&tag, 5000, b"held");
            }
        }
        (10, _, Some(from)) => w.restore(&from),
        (14..=16, ..) if other != MAIN => {
            let ways = [MergeWay::Merge, MergeWay::MergeAndKeep, MergeWay::Rebase];
            w.merge(other, ways[rng.usize(..3)]);
        }
        (17, ..) if other != MAIN => w.promote(other),
        (18 | 19, ..) => w.undo(),
        (20, ..) => w.keep_trash(rng.u8(0..4) > 0),
        (21..=23, ..) if trash.is_some() => w.undelete(trash.unwrap_or(0)),
        (24, ..) if trash.is_some() => w.empty_trash(trash.unwrap_or(0)),
        (9, _, Some(to)) if rng.bool() => w.roll_back(&to),
        (9, ..) => w.commit(),
        // A device that fails then leaves no line to turn to.
        (11, ..) if w.excuse == Excuse::Nothing && rng.u8(0..4) == 0 => w.reopen(),
        _ => w.snap(&format!("s{round}")),
    }
}

/// Lines that a history changes.
fn heads(recording: &Recording) -> usize {
    let changed = recording.history.windows(2).flat_map(|two| two[1].model.changed_since(&two[0].model));
    changed.collect::<std::collections::BTreeSet<_>>().len()
}

/// The power is cut before every call of each history.
#[test]
fn every_crash_point_of_branches() {
    let (first, count) = (number("SNAPFS_SEED", SEED), number("SNAPFS_BRANCHES", CUT.0));
    let seeds: Vec<u64> = (first..first + count).collect();
    let (results, failures) = in_parallel(&seeds, |seed| {
        let recording = cuts::record(&BRANCHES, *seed, CUT.1);
        let points = recording.tape.len() as u64 + 1;
        let tried = cuts::try_all(&recording, 0, points, Tries::Once);
        Ok((heads(&recording), tried.map_err(|why| format!("seed {seed}: {why}"))?))
    });
    let mut all = Tried::default();
    results.iter().for_each(|(_, tried)| all += *tried);
    let branched = results.iter().filter(|(heads, _)| *heads > 1).count();
    println!(
        "{count} histories, {branched} that change several lines, {} crash points, {} disks",
        all.cuts, all.disks
    );
    let test = "every_crash_point_of_branches";
    assert!(failures.is_empty(), "{}\n{}", failures.join("\n"), again(test, first));
    assert!(branched * 2 > results.len(), "hardly any history has branches");
}

/// Every call of each history fails, in every way, once or for good.
#[test]
fn every_failure_in_branches() {
    let (first, count) = (number("SNAPFS_SEED", SEED), number("SNAPFS_BRANCHES", FAILING.0));
    let ways = failures::ways();
    let jobs: Vec<(u64, FaultKind)> =
        (first..first + count).flat_map(|seed| ways.iter().map(move |way| (seed, *way))).collect();
    let (results, wrong) = in_parallel(&jobs, |(seed, way)| {
        failures::sweep(&BRANCHES, *seed, FAILING.1, *way, FAILURES)
            .map_err(|why| format!("seed {seed}: {why}"))
    });
    let sum = |of: fn(&failures::Swept) -> u64| results.iter().map(of).sum::<u64>();
    println!(
        "{} failures in {count} histories, {} stopped the store, {} refused operations",
        sum(|s| s.runs),
        sum(|s| s.stopped),
        sum(|s| s.refused)
    );
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), again("every_failure_in_branches", first));
    assert!(sum(|s| s.stopped) > 0 && sum(|s| s.refused) > 0);
}
