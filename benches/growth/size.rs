//! Files of growing size, one at a time.

use crate::common::Result;
use crate::site::{Kind, Site, Subject};
use crate::work::{self, time};
use std::fs::{self, File};

/// Files that are truncated, where they are small enough to be written so often.
const SAMPLES: usize = 5;
const SAMPLED_MIB: u64 = 16;

pub const KIND: Kind = Kind {
    name: "size",
    image: |scale| if scale.is_small { 1_024 } else { 6_144 },
    steps: |scale| scale.sizes.len(),
    new: |_| Box::new(Size),
};

struct Size;

impl Subject for Size {
    fn step(&mut self, site: &mut Site, step: usize) -> Result<()> {
        let (at, path) = (site.scale.sizes[step], site.root().join("large"));
        let len = at << 20;
        if len > site.image / 4 * 3 {
            return Err(format!("{at} MiB are too much for the medium").into());
        }
        let (random, limit) = (site.scale.random, site.scale.limit);
        let mut rng = fastrand::Rng::with_seed(at);
        work::write_large(&path, len)?;
        site.cold()?;
        let blocks = work::distinct(random, len / work::BLOCK, &mut rng);
        site.rate("size.read", at, || work::read_blocks(&path, &blocks, limit))?;
        site.cold()?;
        site.rate("size.overwrite", at, || work::overwrite(&path, random, &mut rng, limit))?;
        let times = work::sample_snapshots(&site.snapshots()?, &path, 7)?;
        site.times("size.snapshot", at, &times)?;
        site.peer.wait_until_freed()?;
        let mut times = Vec::new();
        for n in 0..if at > SAMPLED_MIB { 1 } else { SAMPLES } {
            if n > 0 {
                work::write_large(&path, len)?;
                site.peer.settle()?;
            }
            let file = File::options().write(true).open(&path)?;
            times.push(time(|| Ok(file.set_len(0)?))?);
        }
        site.times("size.truncate", at, &times)?;
        fs::remove_file(&path)?;
        site.peer.wait_until_freed()
    }
}
