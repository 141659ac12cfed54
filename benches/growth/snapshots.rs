//! More and more snapshots, each of which differs from the one before by one block.

use crate::common::{Result, raw};
use crate::options::Scale;
use crate::site::{Kind, Site, Subject};
use crate::work::{self, Deadline, noise, time};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// Of so many of the last of a step is the figure the median.
const SAMPLES: usize = 50;
const FILE: u64 = 16 << 20;
/// A peer that has not made the snapshots of a step after so long is left out of it.
const LIMIT: Duration = Duration::from_secs(180);

pub const KIND: Kind = Kind {
    name: "snapshots",
    image: |scale| if scale.is_small { 1_024 } else { 4_096 },
    steps: |scale| scale.snapshots.len(),
    new: |_: &Scale| Box::new(Snapshots { next: 0, names: Vec::new(), rng: fastrand::Rng::with_seed(2) }),
};

struct Snapshots {
    next: u64,
    /// Those that are there, oldest first.
    names: Vec<String>,
    rng: fastrand::Rng,
}

impl Snapshots {
    /// Makes them up to a number; how long each took.
    fn make(&mut self, site: &Site, count: u64) -> Result<Vec<Duration>> {
        let (snapshots, deadline) = (site.snapshots()?, Deadline::after(LIMIT));
        let file = File::options().write(true).open(site.root().join("large"))?;
        let (mut block, mut times) = (noise(work::BLOCK as usize), Vec::new());
        while (self.names.len() as u64) < count {
            block[..8].copy_from_slice(&self.next.to_le_bytes());
            file.write_all_at(&block, self.rng.u64(..FILE / work::BLOCK) * work::BLOCK)?;
            let name = format!("s{}", self.next);
            times.push(time(|| snapshots.create(&name))?);
            self.names.push(name);
            self.next += 1;
            if deadline.has_come() {
                return Err(format!("{} snapshots after {} s", self.names.len(), LIMIT.as_secs()).into());
            }
        }
        Ok(times)
    }
}

impl Subject for Snapshots {
    fn step(&mut self, site: &mut Site, step: usize) -> Result<()> {
        let (at, path) = (site.scale.snapshots[step], site.root().join("large"));
        if step == 0 {
            work::write_large(&path, FILE)?;
        }
        let snapshots = site.snapshots()?;
        let made = self.make(site, at)?;
        site.times("snapshots.make", at, &made[made.len().saturating_sub(SAMPLES)..])?;
        site.memory("snapshots.memory", at);
        let mount = site.cold()?;
        site.times("snapshots.mount", at, &[mount])?;
        let list = |_| {
            let start = Instant::now();
            match snapshots.count()? {
                count if (count as u64) < at => Err(format!("{count} are listed").into()),
                _ => Ok(start.elapsed()),
            }
        };
        let listed = (0..5).map(list).collect::<Result<Vec<Duration>>>()?;
        site.times("snapshots.list", at, &listed)?;
        let (random, limit, rng) = (site.scale.random, site.scale.limit, &mut self.rng);
        site.rate("snapshots.overwrite", at, || work::overwrite(&path, random, rng, limit))?;
        let mut deleted = Vec::new();
        // No more than a fifth, and they are made again: the number is what it says.
        for _ in 0..at.div_ceil(5).min(11) {
            let name = self.names.remove(self.names.len() / 2);
            deleted.push(time(|| snapshots.delete(&name))?);
        }
        site.times("snapshots.delete", at, &deleted)?;
        self.make(site, at)?;
        if raw::interrupted() { Err("interrupted".into()) } else { Ok(()) }
    }
}
