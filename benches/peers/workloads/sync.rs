//! Appends that are made durable one by one, from one writer and from sixteen.

use super::{Deadline, Group, Unit, in_threads, noise, phase};
use crate::Result;
use crate::run::Run;
use std::fs::{self, File};
use std::io::{self, Write};

pub const FSYNC: Group = Group {
    name: "fsync",
    needs_snapshots: false,
    phases: &[
        phase("fsync-1", "4 KiB append and fsync, 1 writer", Unit::Operations),
        phase("fsync-16", "4 KiB append and fsync, 16 writers", Unit::Operations),
        phase("fdatasync-1", "4 KiB append and fdatasync, 1 writer", Unit::Operations),
        phase("fdatasync-16", "4 KiB append and fdatasync, 16 writers", Unit::Operations),
        phase("flushes", "flushes of the host's disk for each fsync, 1 writer", Unit::Number),
    ],
    run: fsync,
};

type Sync = fn(&File) -> io::Result<()>;

fn fsync(run: &mut Run) -> Result<()> {
    let disk = run.medium.disk();
    let flushes = || disk.as_ref().and_then(|d| d.calls()).map(|c| c.flushes);
    let workloads: [(&str, usize, Sync); 4] = [
        ("fsync-1", 1, File::sync_all),
        ("fsync-16", 16, File::sync_all),
        ("fdatasync-1", 1, File::sync_data),
        ("fdatasync-16", 16, File::sync_data),
    ];
    for (id, writers, sync) in workloads {
        let (dir, time) = (run.root().join(id), run.scale.seconds);
        fs::create_dir(&dir)?;
        run.settle()?;
        let (before, mut sum) = (flushes(), 0);
        run.rate(id, |_| {
            sum = in_threads(writers, |n| {
                let mut file = File::create(dir.join(n.to_string()))?;
                let (block, deadline, mut calls) = (noise(4096), Deadline::after(time), 0);
                while !deadline.has_come() {
                    file.write_all(&block)?;
                    sync(&file)?;
                    calls += 1;
                }
                Ok(calls)
            })?;
            Ok(sum)
        })?;
        if let (1, "fsync-1", Some(before), Some(now)) = (writers, id, before, flushes()) {
            run.figure("flushes", (now - before) as f64 / sum as f64);
        }
    }
    Ok(())
}
