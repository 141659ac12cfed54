//! What the steps do to files. What counts operations ends after a limit of time, and says how many it did.

use crate::common::mounts::Snapshots;
use crate::common::{Result, raw};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub const BLOCK: u64 = 4096;
const CHUNK: usize = 1 << 20;
/// Files of a directory.
pub const IN_DIR: u64 = 500;

/// Bytes that neither compress nor repeat, the same in every run.
pub fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(7).fill(&mut bytes);
    bytes
}

/// An end for operations that are counted. An interrupt brings it forward.
pub struct Deadline(Instant);

impl Deadline {
    pub fn after(time: Duration) -> Deadline {
        Deadline(Instant::now() + time)
    }

    pub fn has_come(&self) -> bool {
        raw::interrupted() || Instant::now() >= self.0
    }
}

/// How long something took.
pub fn time(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

/// The n-th of many files.
pub fn file_in(dir: &Path, n: u64) -> PathBuf {
    dir.join(format!("d{}", n / IN_DIR)).join(format!("f{n}"))
}

/// Makes empty files with these numbers, and their directories.
pub fn make_files(dir: &Path, numbers: std::ops::Range<u64>) -> Result<u64> {
    let (mut current, count) = (None, numbers.end - numbers.start);
    for n in numbers {
        if current.replace(n / IN_DIR) != Some(n / IN_DIR) {
            if raw::interrupted() {
                return Err("interrupted".into());
            }
            fs::create_dir_all(dir.join(format!("d{}", n / IN_DIR)))?;
        }
        File::create(file_in(dir, n))?;
    }
    Ok(count)
}

/// Writes a file of which no two blocks are alike, and makes it durable.
pub fn write_large(path: &Path, len: u64) -> Result<()> {
    let (mut file, mut chunk, mut left) = (File::create(path)?, noise(CHUNK), len);
    while left > 0 {
        for (i, block) in chunk.chunks_mut(BLOCK as usize).enumerate() {
            block[..8].copy_from_slice(&(left << 8 | i as u64).to_le_bytes());
        }
        let part = left.min(CHUNK as u64);
        file.write_all(&chunk[..part as usize])?;
        left -= part;
    }
    Ok(file.sync_all()?)
}

/// Overwrites blocks at random places; the file is durable at the end.
pub fn overwrite(path: &Path, count: u64, rng: &mut fastrand::Rng, limit: Duration) -> Result<u64> {
    let (file, mut block, deadline) =
        (File::options().write(true).open(path)?, noise(BLOCK as usize), Deadline::after(limit));
    let (blocks, mut done) = (file.metadata()?.len() / BLOCK, 0);
    while done < count && !deadline.has_come() {
        block[..8].copy_from_slice(&rng.u64(..).to_le_bytes());
        file.write_all_at(&block, rng.u64(..blocks) * BLOCK)?;
        done += 1;
    }
    file.sync_all()?;
    Ok(done)
}

/// So many different numbers below another in random order; all of them if there are no more.
pub fn distinct(count: u64, below: u64, rng: &mut fastrand::Rng) -> Vec<u64> {
    let mut all: Vec<u64> = (0..below).collect();
    rng.shuffle(&mut all);
    all.truncate(count as usize);
    all
}

/// Reads blocks at random places, none of them twice.
pub fn read_blocks(path: &Path, blocks: &[u64], limit: Duration) -> Result<u64> {
    let (file, mut block, deadline) = (File::open(path)?, [0; BLOCK as usize], Deadline::after(limit));
    let mut done = 0;
    for n in blocks {
        if deadline.has_come() {
            break;
        }
        file.read_exact_at(&mut block, n * BLOCK)?;
        done += 1;
    }
    Ok(done)
}

/// Reads a file from end to end; its bytes.
pub fn read_through(path: &Path) -> Result<u64> {
    let (mut file, mut buffer, mut sum) = (File::open(path)?, vec![0; CHUNK], 0);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(sum),
            got => sum += got as u64,
        }
    }
}

/// Makes snapshots with a block of `path` overwritten before each; how long each took. They are deleted again.
pub fn sample_snapshots(snapshots: &Snapshots, path: &Path, count: usize) -> Result<Vec<Duration>> {
    let (file, block) = (File::options().write(true).open(path)?, noise(BLOCK as usize));
    let names: Vec<String> = (0..count).map(|n| format!("sample{n}")).collect();
    let make = |name: &String| {
        file.write_all_at(&block, 0)?;
        time(|| snapshots.create(name))
    };
    let times = names.iter().map(make).collect();
    names.iter().try_for_each(|name| snapshots.delete(name))?;
    times
}
