//! A file of which more and more blocks were overwritten at random places, with snapshots between.

use crate::common::Result;
use crate::options::Scale;
use crate::site::{Kind, Site, Subject};
use crate::work;
use std::time::Duration;

/// Percent of the blocks that were overwritten, at each step, and from one snapshot to the next.
const STEPS: [u64; 4] = [0, 25, 100, 400];
const PER_SNAPSHOT: u64 = 5;
/// One batch of overwrites takes no longer.
const LIMIT: Duration = Duration::from_secs(60);

pub const KIND: Kind = Kind {
    name: "fragments",
    image: |scale| (scale.fragmented * 12).max(1_024),
    steps: |_| STEPS.len(),
    new: |_: &Scale| Box::new(Fragments { snapshots: 0, rng: fastrand::Rng::with_seed(3) }),
};

struct Fragments {
    snapshots: u64,
    rng: fastrand::Rng,
}

impl Subject for Fragments {
    fn step(&mut self, site: &mut Site, step: usize) -> Result<()> {
        let (at, path, len) = (STEPS[step], site.root().join("large"), site.scale.fragmented << 20);
        if step == 0 {
            work::write_large(&path, len)?;
        }
        let (snapshots, per_snapshot) = (site.snapshots()?, len / work::BLOCK * PER_SNAPSHOT / 100);
        while self.snapshots < at / PER_SNAPSHOT {
            if work::overwrite(&path, per_snapshot, &mut self.rng, LIMIT)? < per_snapshot {
                return Err("overwriting takes too long".into());
            }
            snapshots.create(&format!("s{}", self.snapshots))?;
            self.snapshots += 1;
        }
        let (random, limit, rng) = (site.scale.random, site.scale.limit, &mut self.rng);
        site.cold()?;
        site.stream("fragments.stream", at, &path)?;
        site.cold()?;
        let blocks = work::distinct(random, len / work::BLOCK, rng);
        site.rate("fragments.read", at, || work::read_blocks(&path, &blocks, limit))?;
        site.cold()?;
        // These fragment the file too, by less than what lies between two snapshots.
        site.rate("fragments.overwrite", at, || work::overwrite(&path, random.min(per_snapshot), rng, limit))
    }
}
