//! Snapshots: made, listed, browsed and deleted, with few and many of them and of files; and what is written to the
//! device for each byte of a user.

use super::large::write_large;
use super::{Deadline, Group, Phase, Unit, file_in, noise, phase};
use crate::Result;
use crate::common::mounts::Snapshots;
use crate::run::Run;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Snapshots of which each figure is the median.
const SAMPLES: usize = 20;
/// Files of a directory.
const IN_DIR: usize = 1000;
const BLOCK: usize = 4096;
/// A peer that has not made its snapshots or files after so long is left out of these figures.
const LIMIT: Duration = Duration::from_secs(300);

macro_rules! group {
    ($name:literal, $id:literal, $said:literal, $run:ident) => {
        Group {
            name: $name,
            needs_snapshots: true,
            phases: &[
                phase(concat!("create-idle-", $id), concat!("create, idle", $said), Unit::Milliseconds),
                phase(
                    concat!("create-busy-", $id),
                    concat!("create, busy writer", $said),
                    Unit::Milliseconds,
                ),
                phase(concat!("list-", $id), concat!("list names", $said), Unit::Milliseconds),
                phase(
                    concat!("browse-", $id),
                    concat!("read a file of the oldest, cold", $said),
                    Unit::Milliseconds,
                ),
                phase(concat!("delete-", $id), concat!("delete", $said), Unit::Milliseconds),
            ],
            run: $run,
        }
    };
}

pub const FEW: Group = group!("snapshots", "few", ": 1 snapshot", few);
pub const THOUSAND: Group = group!("snapshots-1k", "1k", ": a thousand snapshots", thousand);
pub const MANY: Group = group!("snapshots-10k", "10k", ": ten thousand snapshots", many);
pub const MANY_FILES: Group = group!("snapshots-1m", "1m", ": a million files", many_files);

pub const WALK: Group = Group {
    name: "snapshots-walk",
    needs_snapshots: true,
    phases: &[
        phase("walk-live-cold", "walk live files, cold", Unit::Operations),
        phase("walk-live-warm", "walk live files, warm", Unit::Operations),
        phase("walk-past-cold", "walk a snapshot, cold", Unit::Operations),
        phase("walk-past-warm", "walk a snapshot, warm", Unit::Operations),
        phase("walk-deep-cold", "walk live files as deep as the snapshot's, cold", Unit::Operations),
        phase("walk-deep-warm", "walk live files as deep as the snapshot's, warm", Unit::Operations),
    ],
    run: walks,
};

pub const AMPLIFICATION: Group = Group {
    name: "amplification",
    needs_snapshots: false,
    phases: &[
        phase("amplification", "device bytes for a byte of 4 KiB random overwrites", Unit::Number),
        phase("amplification-snapshots", "the same with a snapshot every second", Unit::Number),
        phase("amplification-stream", "device bytes for a byte of a stream", Unit::Number),
    ],
    run: amplification,
};

fn few(run: &mut Run) -> Result<()> {
    snapshots(run, run.scale.files / 2, 1, FEW.phases)
}

fn thousand(run: &mut Run) -> Result<()> {
    snapshots(run, run.scale.files / 2, run.scale.many_snapshots / 10, THOUSAND.phases)
}

fn many(run: &mut Run) -> Result<()> {
    snapshots(run, run.scale.files / 2, run.scale.many_snapshots, MANY.phases)
}

fn many_files(run: &mut Run) -> Result<()> {
    snapshots(run, run.scale.many_files, 1, MANY_FILES.phases)
}

/// Makes small files, in directories below `root`.
fn make_files(root: &Path, files: usize) -> Result<()> {
    let deadline = Deadline::after(LIMIT);
    for n in 0..files {
        let path = file_in(root, "dir", n, IN_DIR);
        if n % IN_DIR == 0 {
            fs::create_dir(path.parent().ok_or("no parent")?)?;
        }
        fs::write(path, b"content")?;
        if deadline.has_come() {
            return Err("making the files takes too long".into());
        }
    }
    Ok(())
}

/// Makes snapshots one after another; how long each took.
fn make(snapshots: &Snapshots, prefix: &str, made: &mut Vec<String>) -> Result<Vec<Duration>> {
    let one = |n| {
        let (name, start) = (format!("{prefix}{n}"), Instant::now());
        snapshots.create(&name)?;
        let time = start.elapsed();
        made.push(name);
        Ok(time)
    };
    (0..SAMPLES).map(one).collect()
}

fn snapshots(run: &mut Run, files: usize, before: usize, phases: &[Phase]) -> Result<()> {
    let [idle_id, busy_id, list_id, browse_id, delete_id] = phases else {
        return Err("five workloads".into());
    };
    let (snapshots, root) = (run.snapshots().ok_or("no snapshots")?, run.root());
    make_files(&root, files)?;
    // Each differs from the one before.
    let (changing, deadline) = (file_in(&root, "dir", 0, IN_DIR), Deadline::after(LIMIT));
    for n in 0..before {
        fs::write(&changing, n.to_string())?;
        snapshots.create(&format!("s{n}"))?;
        run.made(format!("s{n}"));
        if deadline.has_come() {
            return Err(format!("{n} snapshots were made in {} s", LIMIT.as_secs()).into());
        }
    }
    run.cold()?;
    let mut names = Vec::new();
    let done = run.latency(idle_id.id, |_| make(&snapshots, "idle", &mut names)).and_then(|()| {
        write_large(&root.join("busy"), 16 << 20)?;
        run.latency(busy_id.id, |_| while_busy(&root.join("busy"), || make(&snapshots, "busy", &mut names)))
    });
    names.iter().for_each(|n| run.made(n.clone()));
    done?;
    run.settle()?;
    run.latency(list_id.id, |_| {
        let list = |_| {
            let start = Instant::now();
            let count = snapshots.count()?;
            if count < before { Err(format!("{count} are listed").into()) } else { Ok(start.elapsed()) }
        };
        (0..5).map(list).collect()
    })?;
    run.cold()?;
    if let Some(oldest) = snapshots.path("s0") {
        run.latency(browse_id.id, |_| {
            let start = Instant::now();
            let content = fs::read(file_in(&oldest, "dir", 0, IN_DIR))?;
            let time = start.elapsed();
            if content == b"0" {
                Ok(vec![time])
            } else {
                Err("the oldest snapshot is not what it was".into())
            }
        })?;
    }
    let done = run.latency(delete_id.id, |_| {
        let delete = |name: &String| {
            let start = Instant::now();
            snapshots.delete(name)?;
            Ok(start.elapsed())
        };
        names.iter().map(delete).collect()
    });
    done.map(|()| names.iter().for_each(|n| run.deleted(n)))
}

/// Asks for the attributes of every file by its whole path, again until `least` has gone by.
fn walk(root: &Path, files: usize, least: Duration) -> Result<u64> {
    let (start, mut count) = (Instant::now(), 0);
    loop {
        for n in 0..files {
            fs::symlink_metadata(file_in(root, "dir", n, IN_DIR))?;
        }
        count += files as u64;
        if start.elapsed() >= least {
            return Ok(count);
        }
    }
}

/// The live tree and a snapshot of it, path by path; and the same files live, in directories below as many others as
/// those of the snapshot.
fn walks(run: &mut Run) -> Result<()> {
    let (snapshots, root, files) = (run.snapshots().ok_or("no snapshots")?, run.root(), run.scale.files);
    make_files(&root, files)?;
    snapshots.create("walked")?;
    run.made("walked".into());
    let past = snapshots.path("walked").ok_or("snapshots are not browsed")?;
    let depth = |path: &Path| path.components().count();
    let deep = (depth(&root)..depth(&past)).fold(root.clone(), |path, _| path.join("deeper"));
    fs::create_dir_all(&deep)?;
    make_files(&deep, files)?;
    run.settle()?;
    let second = Duration::from_secs(1);
    for (root, cold, warm) in [
        (&root, "walk-live-cold", "walk-live-warm"),
        (&past, "walk-past-cold", "walk-past-warm"),
        (&deep, "walk-deep-cold", "walk-deep-warm"),
    ] {
        run.cold()?;
        run.rate(cold, |_| walk(root, files, Duration::ZERO))?;
        run.rate(warm, |_| walk(root, files, second))?;
    }
    Ok(())
}

/// Does `work` while another thread overwrites blocks of a file as fast as it can.
fn while_busy<T>(path: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let (file, stop) = (File::options().write(true).open(path)?, AtomicBool::new(false));
    let (blocks, block) = (file.metadata()?.len() / BLOCK as u64, noise(BLOCK));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| -> Result<()> {
            let mut rng = fastrand::Rng::with_seed(8);
            while !stop.load(Relaxed) {
                file.write_all_at(&block, rng.u64(..blocks) * BLOCK as u64)?;
            }
            Ok(())
        });
        // It is in full swing.
        std::thread::sleep(Duration::from_millis(50));
        let done = work();
        stop.store(true, Relaxed);
        writer.join().map_err(|_| "the writer panicked")??;
        done
    })
}

/// Overwrites a second long at the same pace for every peer; the bytes.
fn overwrite_a_second(file: &File, blocks: u64, rng: &mut fastrand::Rng) -> Result<u64> {
    const PER_SLICE: usize = 20;
    const SLICE: Duration = Duration::from_millis(10);
    let (mut block, start, mut bytes) = (noise(BLOCK), Instant::now(), 0);
    for slice in 1..=100 {
        for _ in 0..PER_SLICE {
            block[..8].copy_from_slice(&rng.u64(..).to_le_bytes());
            file.write_all_at(&block, rng.u64(..blocks) * BLOCK as u64)?;
            bytes += BLOCK as u64;
        }
        std::thread::sleep((SLICE * slice).saturating_sub(start.elapsed()));
    }
    Ok(bytes)
}

fn amplification(run: &mut Run) -> Result<()> {
    let (path, len) = (run.root().join("large"), run.scale.file / 8);
    write_large(&path, len)?;
    let seconds = run.scale.limit.as_secs();
    let ways: &[(&'static str, bool)] = &[("amplification", false), ("amplification-snapshots", true)];
    for (id, with_snapshots) in ways {
        let snapshots = run.snapshots().filter(|_| *with_snapshots);
        if *with_snapshots && snapshots.is_none() {
            continue;
        }
        let Some(before) = run.device_bytes()? else { return Ok(()) };
        let (file, mut rng, mut bytes) =
            (File::options().write(true).open(&path)?, fastrand::Rng::with_seed(9), 0);
        for second in 0..seconds {
            bytes += overwrite_a_second(&file, len / BLOCK as u64, &mut rng)?;
            if let Some(snapshots) = &snapshots {
                let name = format!("second{second}");
                snapshots.create(&name)?;
                run.made(name);
            }
        }
        file.sync_all()?;
        drop(file);
        let Some(after) = run.device_bytes()? else { return Ok(()) };
        run.figure(id, (after - before) as f64 / bytes as f64);
    }
    let Some(before) = run.device_bytes()? else { return Ok(()) };
    write_large(&run.root().join("stream"), run.scale.file)?;
    let Some(after) = run.device_bytes()? else { return Ok(()) };
    run.figure("amplification-stream", (after - before) as f64 / run.scale.file as f64);
    Ok(())
}
