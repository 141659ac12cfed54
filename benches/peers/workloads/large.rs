//! One large file: streams, blocks at random places, mapped stores, appends.

use super::{Deadline, Group, Unit, noise, phase};
use crate::Result;
use crate::common::raw::Mapping;
use crate::run::Run;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

const BLOCK: usize = 4096;
const CHUNK: usize = 1 << 20;

pub const STREAM: Group = Group {
    name: "stream",
    needs_snapshots: false,
    phases: &[
        phase("stream-write", "stream write, fsync at the end", Unit::Megabytes),
        phase("stream-read-warm", "stream read, warm", Unit::Megabytes),
        phase("stream-read-cold", "stream read, cold", Unit::Megabytes),
    ],
    run: stream,
};

pub const RANDOM: Group = Group {
    name: "random",
    needs_snapshots: false,
    phases: &[
        phase("random-read", "4 KiB random read, cold", Unit::Operations),
        phase("overwrite", "4 KiB random overwrite, fsync at the end", Unit::Operations),
        phase("overwrite-after-snapshot", "the same, straight after a snapshot", Unit::Operations),
        phase("overwrite-snapshots", "the same, with a snapshot every 100 ms", Unit::Operations),
    ],
    run: random,
};

pub const MAPPED: Group = Group {
    name: "mmap",
    needs_snapshots: false,
    phases: &[phase("mmap", "mapped stores at random places, msync at the end", Unit::Operations)],
    run: mapped,
};

pub const APPEND: Group = Group {
    name: "append",
    needs_snapshots: false,
    phases: &[phase("append", "4 KiB appends, no sync", Unit::Operations)],
    run: append,
};

/// Writes a file of which no two blocks are alike, and makes it durable.
pub(super) fn write_large(path: &Path, len: u64) -> Result<()> {
    let (mut file, mut chunk) = (File::create(path)?, noise(CHUNK));
    for n in 0..len / CHUNK as u64 {
        for (i, block) in chunk.chunks_mut(BLOCK).enumerate() {
            block[..8].copy_from_slice(&(n << 16 | i as u64).to_le_bytes());
        }
        file.write_all(&chunk)?;
    }
    Ok(file.sync_all()?)
}

fn read_through(path: &Path) -> Result<u64> {
    let (mut file, mut buffer, mut sum) = (File::open(path)?, vec![0; CHUNK], 0);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(sum),
            got => sum += got as u64,
        }
    }
}

fn stream(run: &mut Run) -> Result<()> {
    let (path, len) = (run.root().join("large"), run.scale.file);
    run.rate("stream-write", |_| write_large(&path, len).map(|()| len))?;
    read_through(&path)?;
    run.rate("stream-read-warm", |_| read_through(&path))?;
    run.cold()?;
    run.rate("stream-read-cold", |_| read_through(&path))
}

/// Overwrites blocks at random places, then fsync; how many.
fn overwrite(path: &Path, len: u64, count: usize, seed: u64, limit: Duration) -> Result<u64> {
    let (file, mut block) = (File::options().write(true).open(path)?, noise(BLOCK));
    let (mut rng, deadline, mut done) = (fastrand::Rng::with_seed(seed), Deadline::after(limit), 0);
    while done < count as u64 && !deadline.has_come() {
        block[..8].copy_from_slice(&rng.u64(..).to_le_bytes());
        file.write_all_at(&block, rng.u64(..len / BLOCK as u64) * BLOCK as u64)?;
        done += 1;
    }
    file.sync_all()?;
    Ok(done)
}

fn random(run: &mut Run) -> Result<()> {
    let (path, len, count, limit) =
        (run.root().join("large"), run.scale.file, run.scale.random, run.scale.limit);
    write_large(&path, len)?;
    run.cold()?;
    run.rate("random-read", |_| {
        let (file, mut block) = (File::open(&path)?, [0; BLOCK]);
        let (mut rng, deadline, mut done) = (fastrand::Rng::with_seed(1), Deadline::after(limit), 0);
        while done < count as u64 && !deadline.has_come() {
            file.read_exact_at(&mut block, rng.u64(..len / BLOCK as u64) * BLOCK as u64)?;
            done += 1;
        }
        Ok(done)
    })?;
    run.cold()?;
    run.rate("overwrite", |_| overwrite(&path, len, count, 2, limit))?;
    let Some(snapshots) = run.snapshots() else { return Ok(()) };
    run.cold()?;
    snapshots.create("before")?;
    run.made("before".into());
    run.rate("overwrite-after-snapshot", |_| overwrite(&path, len, count, 3, limit))?;
    run.cold()?;
    let names = run.rate_with_snapshots(&path, len, Duration::from_millis(100))?;
    names.into_iter().for_each(|n| run.made(n));
    Ok(())
}

impl Run<'_> {
    /// Overwrites while another thread makes snapshots; their names.
    fn rate_with_snapshots(&mut self, path: &Path, len: u64, every: Duration) -> Result<Vec<String>> {
        let Some(snapshots) = self.snapshots() else { return Ok(Vec::new()) };
        // Long enough for many of them, however fast the peer is.
        let (limit, stop) = (self.scale.seconds, AtomicBool::new(false));
        let mut names = Vec::new();
        self.rate("overwrite-snapshots", |_| {
            std::thread::scope(|scope| {
                let maker = scope.spawn(|| -> Result<Vec<String>> {
                    let mut made = Vec::new();
                    while !stop.load(Relaxed) {
                        let name = format!("every{}", made.len());
                        snapshots.create(&name)?;
                        made.push(name);
                        std::thread::sleep(every);
                    }
                    Ok(made)
                });
                let done = overwrite(path, len, usize::MAX, 4, limit);
                stop.store(true, Relaxed);
                names = maker.join().map_err(|_| "the thread of the snapshots panicked")??;
                done
            })
        })?;
        Ok(names)
    }
}

fn mapped(run: &mut Run) -> Result<()> {
    let (path, len, count) = (run.root().join("mapped"), run.scale.file / 8, run.scale.random);
    write_large(&path, len)?;
    run.cold()?;
    run.rate("mmap", |_| {
        let file = File::options().read(true).write(true).open(&path)?;
        let (mapping, mut rng) = (Mapping::new(&file, len as usize)?, fastrand::Rng::with_seed(5));
        (0..count).for_each(|_| mapping.store(rng.usize(..len as usize), rng.u8(..)));
        mapping.sync()?;
        Ok(count as u64)
    })
}

fn append(run: &mut Run) -> Result<()> {
    let (path, limit, count) = (run.root().join("appended"), run.scale.limit, run.scale.random);
    run.rate("append", |_| {
        let (mut file, block, deadline, mut done) =
            (File::create(&path)?, noise(BLOCK), Deadline::after(limit), 0);
        while done < count as u64 && !deadline.has_come() {
            file.write_all(&block)?;
            done += 1;
        }
        Ok(done)
    })?;
    Ok(fs::remove_file(&path)?)
}
