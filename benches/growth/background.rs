//! What background work does to the latency of the foreground: windows alone and beside it take turns, as many and as
//! long, so that drift cancels.

use crate::common::mounts::Snapshots;
use crate::common::process::run_command;
use crate::common::report::{median, quantile};
use crate::common::{Result, counters, raw};
use crate::curves::{BACKGROUND, FOREGROUND, background_id};
use crate::options::Scale;
use crate::site::{Kind, Site, Subject};
use crate::work::{self, Deadline, noise};
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Large snapshots deleted in a window, and blocks overwritten before each is made.
const LARGE_IN_WINDOW: usize = 3;
const LARGE_BLOCKS: u64 = 12_000;
/// Small ones.
const SMALL_IN_WINDOW: usize = 40;
const SMALL_BLOCKS: u64 = 8;
/// If the host of a virtual machine takes more than this share of its processors' time away during a pair of windows,
/// latencies tell of that and of little else: another pair is run, up to so many times as many in all. If too few are
/// quiet even so, the quietest of the others count as well.
const STOLEN_SHARE_MAX: f64 = 0.01;
const ATTEMPTS_MAX: usize = 3;
/// A scrub runs for hours: that it begins is not measured.
const SCRUB_LEAD: Duration = Duration::from_millis(250);
/// A preparation takes no longer, and no scrub that somebody ends.
const LIMIT: Duration = Duration::from_secs(120);

pub const KIND: Kind = Kind {
    name: "background",
    image: |scale| if scale.is_small { 1_536 } else { 5_120 },
    steps: |_| BACKGROUND.len(),
    new: |_: &Scale| Box::new(Background),
};

struct Background;

/// Latencies of each kind of call of the foreground, in microseconds.
type Latencies = [Vec<f64>; FOREGROUND.len()];

/// Bytes of the files that are overwritten by the foreground, read by it, and changed between snapshots.
fn lengths(scale: &Scale) -> [u64; 3] {
    if scale.is_small { [8 << 20, 64 << 20, 32 << 20] } else { [64 << 20, 512 << 20, 128 << 20] }
}

/// What runs beside the foreground.
enum Work {
    Nothing,
    /// Deletes these, at an even pace.
    Delete(Vec<String>),
    Scrub,
}

impl Subject for Background {
    fn step(&mut self, site: &mut Site, step: usize) -> Result<()> {
        let (kind, root, scale) = (BACKGROUND[step].0, site.root(), site.scale);
        let snapshots = site.snapshots()?;
        if step == 0 {
            for (name, len) in ["written", "read", "changed"].into_iter().zip(lengths(&scale)) {
                work::write_large(&root.join(name), len)?;
            }
            fs::create_dir(root.join("made"))?;
        }
        let (in_window, blocks) = match kind {
            "deletion" if scale.is_small => (LARGE_IN_WINDOW, LARGE_BLOCKS / 10),
            "deletion" => (LARGE_IN_WINDOW, LARGE_BLOCKS),
            "pruning" => (SMALL_IN_WINDOW, SMALL_BLOCKS),
            _ => (0, 0),
        };
        let mut pairs: Vec<Pair> = Vec::new();
        while pairs.iter().filter(|p| p.is_quiet(&scale)).count() < scale.pairs
            && pairs.len() < scale.pairs * ATTEMPTS_MAX
        {
            let first = pairs.len() * in_window;
            let names = make_snapshots(&snapshots, &root, kind, first..first + in_window, blocks)?;
            let work = match kind {
                "deletion" | "pruning" => Work::Delete(names),
                "scrub" => Work::Scrub,
                _ => Work::Nothing,
            };
            pairs.push(Pair::run(site, &snapshots, &work, pairs.len().is_multiple_of(2))?);
        }
        let disturbed = pairs.iter().filter(|p| !p.is_quiet(&scale)).count();
        if disturbed > 0 {
            eprintln!("{kind}: the host disturbed {disturbed} of {} pairs", pairs.len());
        }
        pairs.sort_by(|a, b| f64::total_cmp(&a.stolen, &b.stolen));
        pairs.truncate(scale.pairs);
        for (call, (name, _)) in FOREGROUND.iter().enumerate() {
            let alone: Vec<_> = pairs.iter().map(|p| p.alone[call].clone()).collect();
            let beside: Vec<_> = pairs.iter().map(|p| p.beside[call].clone()).collect();
            summarise(site, kind, name, &alone, &beside)?;
        }
        site.peer.wait_until_freed()
    }
}

/// Two windows, one after the other.
struct Pair {
    alone: Latencies,
    beside: Latencies,
    /// Seconds of processors that the host took away.
    stolen: f64,
}

impl Pair {
    fn run(site: &Site, snapshots: &Snapshots, work: &Work, alone_first: bool) -> Result<Pair> {
        let mut stolen = 0.0;
        let mut run = |work| -> Result<Latencies> {
            site.peer.wait_until_freed()?;
            let before = counters::stolen_seconds();
            let found = window(site, snapshots, work)?;
            stolen += counters::stolen_seconds().zip(before).map_or(0.0, |(now, before)| now - before);
            if raw::interrupted() { Err("interrupted".into()) } else { Ok(found) }
        };
        let (alone, beside) = if alone_first {
            let alone = run(&Work::Nothing)?;
            (alone, run(work)?)
        } else {
            let beside = run(work)?;
            (run(&Work::Nothing)?, beside)
        };
        Ok(Pair { alone, beside, stolen })
    }

    fn is_quiet(&self, scale: &Scale) -> bool {
        let processors = std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
        self.stolen <= STOLEN_SHARE_MAX * 2.0 * scale.window.as_secs_f64() * processors
    }
}

/// Makes snapshots with so many blocks overwritten before each; their names.
fn make_snapshots(
    snapshots: &Snapshots,
    root: &Path,
    kind: &str,
    numbers: Range<usize>,
    blocks: u64,
) -> Result<Vec<String>> {
    let mut rng = fastrand::Rng::with_seed(numbers.start as u64);
    let mut make = |n| {
        if work::overwrite(&root.join("changed"), blocks, &mut rng, LIMIT)? < blocks {
            return Err("making the snapshots takes too long".into());
        }
        let name = format!("{kind}{n}");
        snapshots.create(&name)?;
        Ok(name)
    };
    numbers.map(&mut make).collect()
}

/// One window: the foreground, and some work beside it.
fn window(site: &Site, snapshots: &Snapshots, work: &Work) -> Result<Latencies> {
    let (root, scale, stop) = (site.root(), &site.scale, AtomicBool::new(false));
    let seed = site.found.len() as u64;
    let (mut start_scrub, mut end_scrub) = site.peer.scrubber().map(<(Command, Command)>::from).unzip();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| match work {
            Work::Nothing => Ok(()),
            Work::Delete(names) => delete(snapshots, names, scale.window),
            Work::Scrub => scrub(start_scrub.as_mut().ok_or("it has no scrub")?, &stop),
        });
        if let Work::Scrub = work {
            std::thread::sleep(SCRUB_LEAD);
        }
        let end = Instant::now() + scale.window;
        let root = &root;
        let reader = scope.spawn(move || read_and_create(root, scale, seed, end));
        let written = write(root, scale, seed, end);
        let read = reader.join().map_err(|_| "the reader panicked")?;
        stop.store(true, Relaxed);
        if let (Work::Scrub, Some(end_scrub)) = (work, &mut end_scrub) {
            // It may have ended by itself.
            drop(run_command(end_scrub, LIMIT));
        }
        other.join().map_err(|_| "the background panicked")??;
        let [read, made] = read?;
        Ok([written?, read, made])
    })
}

/// Deletes snapshots at an even pace.
fn delete(snapshots: &Snapshots, names: &[String], during: Duration) -> Result<()> {
    let (start, pace) = (Instant::now(), during / names.len().max(1) as u32);
    for (n, name) in names.iter().enumerate() {
        std::thread::sleep((pace * n as u32).saturating_sub(start.elapsed()));
        snapshots.delete(name)?;
        if names.len() <= LARGE_IN_WINDOW {
            snapshots.hasten()?;
        }
    }
    Ok(())
}

/// Scrubs again and again until it is stopped.
fn scrub(command: &mut Command, stop: &AtomicBool) -> Result<()> {
    while !stop.load(Relaxed) {
        let done = run_command(command, LIMIT);
        if !stop.load(Relaxed) {
            done?;
        }
    }
    Ok(())
}

fn micros(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    Ok(work::time(work)?.as_secs_f64() * 1e6)
}

/// The foreground, first thread: blocks overwritten and made durable.
fn write(root: &Path, scale: &Scale, seed: u64, end: Instant) -> Result<Vec<f64>> {
    let (file, mut block) =
        (File::options().write(true).open(root.join("written"))?, noise(work::BLOCK as usize));
    let (mut rng, mut found, blocks) =
        (fastrand::Rng::with_seed(seed), Vec::new(), lengths(scale)[0] / work::BLOCK);
    let deadline = Deadline::after(end.saturating_duration_since(Instant::now()));
    while !deadline.has_come() {
        block[..8].copy_from_slice(&rng.u64(..).to_le_bytes());
        let offset = rng.u64(..blocks) * work::BLOCK;
        found.push(micros(|| {
            file.write_all_at(&block, offset)?;
            Ok(file.sync_all()?)
        })?);
        rest(scale);
    }
    Ok(found)
}

/// The foreground, second thread: blocks that the kernel does not have read, files made and removed again.
fn read_and_create(root: &Path, scale: &Scale, seed: u64, end: Instant) -> Result<[Vec<f64>; 2]> {
    let (file, made) = (File::open(root.join("read"))?, root.join("made"));
    let (mut rng, mut block, blocks) =
        (fastrand::Rng::with_seed(seed + 1), [0; work::BLOCK as usize], lengths(scale)[1] / work::BLOCK);
    let (mut found, mut number) = ([Vec::new(), Vec::new()], 0);
    let deadline = Deadline::after(end.saturating_duration_since(Instant::now()));
    while !deadline.has_come() {
        let offset = rng.u64(..blocks) * work::BLOCK;
        raw::forget_pages(&file, offset, work::BLOCK)?;
        found[0].push(micros(|| Ok(file.read_exact_at(&mut block, offset)?))?);
        rest(scale);
        let path = made.join(format!("f{number}"));
        found[1].push(micros(|| Ok(File::create(&path).map(drop)?))?);
        fs::remove_file(path)?;
        number += 1;
        rest(scale);
    }
    Ok(found)
}

fn rest(scale: &Scale) {
    if !scale.rest.is_zero() {
        std::thread::sleep(scale.rest);
    }
}

/// Keeps the medians over the windows, the median of the ratios of the pairs, and the ratio of all latencies together.
fn summarise(site: &mut Site, kind: &str, call: &str, alone: &[Vec<f64>], beside: &[Vec<f64>]) -> Result<()> {
    let each = |windows: &[Vec<f64>], of| {
        let found: Option<Vec<f64>> = windows.iter().map(|w| quantile(w, of)).collect();
        found.ok_or("a window without a call")
    };
    let mut put = |figure: &str, value: Option<f64>| -> Result<()> {
        site.put(background_id(kind, call, figure), 0, value.ok_or("no window")?);
        Ok(())
    };
    let (alone_99, beside_99) = (each(alone, 0.99)?, each(beside, 0.99)?);
    put("p50.alone", median(&each(alone, 0.5)?))?;
    put("p50.beside", median(&each(beside, 0.5)?))?;
    put("p99.alone", median(&alone_99))?;
    put("p99.beside", median(&beside_99))?;
    let ratios: Vec<f64> = beside_99.iter().zip(&alone_99).map(|(b, a)| b / a).collect();
    put("ratio", median(&ratios))?;
    let all = |windows: &[Vec<f64>]| quantile(&windows.concat(), 0.99);
    put("ratio.all", all(beside).zip(all(alone)).map(|(b, a)| b / a))
}
