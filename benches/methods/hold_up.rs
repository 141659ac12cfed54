//! How long splitting a mirror holds up a writer: the largest gap between the ends of two writes of one that never rests,
//! around the split, and as long again before it.

use crate::Places;
use crate::common::Result;
use crate::common::report::{median, shown};
use crate::common::work::{BLOCK, noise};
use crate::method::in_sync;
use crate::options::Sizes;
use crate::ratios::{Ratio, with_file};
use crate::store::Store;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

const FILE: &str = "image";
/// MiB of a small mirror, and how many times the file of the table is in a large one.
const SMALL_MIB: u64 = 8;
const LARGE_TIMES: u64 = 2;
/// The writer writes for so long before the split is told to begin.
const LEAD: Duration = Duration::from_millis(400);

/// Gaps, in milliseconds, and how long the daemon itself says that writers waited.
#[derive(Default)]
struct Gaps {
    before: Vec<f64>,
    around: Vec<f64>,
    told: Vec<f64>,
}

pub fn measure(places: &Places<'_>, sizes: &Sizes) -> Result<Vec<Ratio>> {
    let mut ratios = Vec::new();
    for mib in [SMALL_MIB, sizes.file * LARGE_TIMES] {
        let name = format!("split-{mib}");
        let store = with_file(places.first, &name, mib)?;
        let copy = places.second.join(format!("{name}.copy"));
        let mut gaps = Gaps::default();
        for n in 0..sizes.turns * 2 {
            in_sync(&store, &copy)?;
            store.rest(FILE)?;
            one(&store, &format!("s{n}"), &mut gaps)?;
        }
        store.prove()?;
        drop(fs::remove_dir_all(&copy));
        let most = |of: &[f64]| of.iter().copied().fold(0.0, f64::max);
        let middle = |of: &[f64]| median(of).unwrap_or(0.0);
        let found = format!(
            "largest gap {} ms, median {} ms; {} and {} ms without a split; the daemon says {} ms at most",
            shown(most(&gaps.around)),
            shown(middle(&gaps.around)),
            shown(most(&gaps.before)),
            shown(middle(&gaps.before)),
            shown(most(&gaps.told)),
        );
        let what = format!("split of a mirror of {mib} MiB: a writer waits");
        ratios.push(Ratio::new(what, found, None, "< 10 ms"));
    }
    Ok(ratios)
}

fn one(store: &Store, name: &str, gaps: &mut Gaps) -> Result<()> {
    let stop = AtomicBool::new(false);
    let path = store.path(FILE);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(&path, &stop));
        std::thread::sleep(LEAD);
        let begun = Instant::now();
        let told = store.ask(&["mirror", "split"], &[name]);
        let took = begun.elapsed();
        // As long again as the split may still be felt.
        std::thread::sleep(LEAD / 4);
        stop.store(true, Relaxed);
        let ends = writer.join().map_err(|_| "the writer panicked")??;
        let told = told?["split_pause_us"].as_u64().ok_or("a split tells its pause")?;
        let around = LEAD / 4 + took;
        let largest = |from: Instant, to: Instant| {
            let inside = |two: &&[Instant]| two[1] > from && two[0] < to;
            let gap = |two: &[Instant]| (two[1] - two[0]).as_secs_f64() * 1e3;
            ends.windows(2).filter(inside).map(gap).fold(0.0, f64::max)
        };
        let early = begun.checked_sub(around.min(LEAD / 2)).ok_or("time began just now")?;
        gaps.before.push(largest(early, begun));
        gaps.around.push(largest(begun, begun + around));
        gaps.told.push(told as f64 / 1e3);
        Ok(())
    })
}

/// Writes one block after the other; when each write ended.
fn write(path: &Path, stop: &AtomicBool) -> Result<Vec<Instant>> {
    let (file, block, mut rng) =
        (File::options().write(true).open(path)?, noise(BLOCK as usize), fastrand::Rng::with_seed(5));
    let blocks = file.metadata()?.len() / BLOCK;
    let mut ends = vec![Instant::now()];
    while !stop.load(Relaxed) {
        file.write_all_at(&block, rng.u64(..blocks) * BLOCK)?;
        ends.push(Instant::now());
    }
    Ok(ends)
}
