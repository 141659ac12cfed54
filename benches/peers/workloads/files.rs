//! Many small files, from one thread and from four.

use super::{Deadline, Group, Phase, Unit, file_in, in_threads, noise, phase};
use crate::Result;
use crate::run::Run;
use std::fs;
use std::path::{Path, PathBuf};

/// Files in a directory.
const IN_DIR: usize = 500;

macro_rules! group {
    ($name:literal, $threads:literal, $said:literal, $run:ident) => {
        Group {
            name: $name,
            needs_snapshots: false,
            phases: &[
                phase(
                    concat!("create-", $threads),
                    concat!("create files of 1-8 KiB", $said),
                    Unit::Operations,
                ),
                phase(concat!("stat-", $threads), concat!("stat, warm", $said), Unit::Operations),
                phase(
                    concat!("walk-", $threads),
                    concat!("readdir and lstat, cold", $said),
                    Unit::Operations,
                ),
                phase(concat!("read-", $threads), concat!("read small files, cold", $said), Unit::Operations),
                phase(concat!("rename-", $threads), concat!("rename", $said), Unit::Operations),
                phase(concat!("unlink-", $threads), concat!("unlink", $said), Unit::Operations),
            ],
            run: $run,
        }
    };
}

pub const ONE: Group = group!("files", "1", ", 1 thread", one);
pub const FOUR: Group = group!("files-4", "4", ", 4 threads", four);

fn one(run: &mut Run) -> Result<()> {
    files(run, 1, ONE.phases)
}

fn four(run: &mut Run) -> Result<()> {
    files(run, 4, FOUR.phases)
}

/// Small files in directories of a thread, made until `count` or the limit; how many.
fn create(dir: &Path, count: usize, deadline: &Deadline) -> Result<usize> {
    let (content, mut rng) = (noise(8192), fastrand::Rng::with_seed(6));
    for n in 0..count {
        let path = file_in(dir, "dir", n, IN_DIR);
        if n % IN_DIR == 0 {
            fs::create_dir_all(path.parent().ok_or("no parent")?)?;
        }
        fs::write(path, &content[..rng.usize(1024..=8192)])?;
        if deadline.has_come() {
            return Ok(n + 1);
        }
    }
    Ok(count)
}

fn files(run: &mut Run, threads: usize, phases: &[Phase]) -> Result<()> {
    let [create_id, stat_id, walk_id, read_id, rename_id, unlink_id] = phases else {
        return Err("six workloads".into());
    };
    let dirs: Vec<PathBuf> = (0..threads).map(|t| run.root().join(format!("thread{t}"))).collect();
    let (each, limit) = (run.scale.files / threads, run.scale.limit);
    dirs.iter().try_for_each(fs::create_dir)?;
    run.rate(create_id.id, |_| {
        let deadline = Deadline::after(limit);
        in_threads(threads, |t| Ok(create(&dirs[t], each, &deadline)? as u64))
    })?;
    // Those that there are now: a slow peer made fewer of them.
    let counts: Vec<usize> = dirs.iter().map(|d| count_below(d)).collect::<Result<_>>()?;
    let every = |work: fn(&Path) -> Result<()>| {
        in_threads(threads, |t| {
            (0..counts[t]).try_for_each(|n| work(&file_in(&dirs[t], "dir", n, IN_DIR)))?;
            Ok(counts[t] as u64)
        })
    };
    let stat = |path: &Path| Ok(fs::symlink_metadata(path).map(drop)?);
    every(stat)?;
    run.rate(stat_id.id, |_| every(stat))?;
    run.cold()?;
    run.rate(walk_id.id, |_| in_threads(threads, |t| Ok(count_below(&dirs[t])? as u64)))?;
    run.cold()?;
    run.rate(read_id.id, |_| every(|path| Ok(fs::read(path).map(drop)?)))?;
    run.settle()?;
    run.rate(rename_id.id, |_| every(|path| Ok(fs::rename(path, path.with_extension("renamed"))?)))?;
    run.settle()?;
    run.rate(unlink_id.id, |_| every(|path| Ok(fs::remove_file(path.with_extension("renamed"))?)))
}

/// Files in the directories below, each with its attributes.
fn count_below(dir: &Path) -> Result<usize> {
    let mut count = 0;
    for sub in fs::read_dir(dir)? {
        for file in fs::read_dir(sub?.path())? {
            count += usize::from(file?.metadata()?.is_file());
        }
    }
    Ok(count)
}
