//! What the trip wire costs, which is on unless somebody turns it off: the same is done on a store with it and on one without, in
//! turns. From one turn to the next both come to rest, so that there is a new point before the old files are removed.

use crate::Places;
use crate::common::report::{quantile, shown};
use crate::common::work::{self, BLOCK, noise};
use crate::common::{Result, raw};
use crate::options::Sizes;
use crate::ratios::{Ratio, middle, with_file};
use crate::store::{Store, command};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::Instant;

const FILE: &str = "image";
/// MiB of the file that is written.
const FILE_MIB: u64 = 64;
/// Of so many writes that other parts make one is made durable here.
const DURABLE_SHARE: usize = 4;

const KINDS: [&str; 3] = ["a block written and made durable", "a file made", "an old file removed"];

/// Of both stores, with it and without, the microseconds of each call; and the ratios of the turns.
#[derive(Default)]
struct Found {
    calls: [Vec<f64>; 2],
    turns: Vec<f64>,
}

pub fn measure(places: &Places<'_>, sizes: &Sizes) -> Result<Vec<Ratio>> {
    let on = with_file(places.first, "tripwire-on", FILE_MIB)?;
    let off = with_file(places.first, "tripwire-off", FILE_MIB)?;
    command(&["set", "tripwire=off", off.mnt()?])?;
    let (mut rng, blocks) = (fastrand::Rng::with_seed(6), (FILE_MIB << 20) / BLOCK);
    let mut found = KINDS.map(|_| Found::default());
    for turn in 0..sizes.turns * 2 {
        let numbers = work::distinct(sizes.batch, blocks, &mut rng);
        for (kind, found) in found.iter_mut().enumerate().filter(|(kind, _)| turn > 0 || *kind < 2) {
            let mut both = [0.0; 2];
            for side in [turn % 2, 1 - turn % 2] {
                if raw::interrupted() {
                    return Err("interrupted".into());
                }
                let store = [&on, &off][side];
                store.rest(FILE)?;
                let calls = match kind {
                    0 => durably(store, &numbers[..numbers.len() / DURABLE_SHARE])?,
                    1 => make(store, turn, sizes.batch)?,
                    _ => remove(store, turn - 1, sizes.batch)?,
                };
                both[side] = calls.iter().sum();
                found.calls[side].extend(calls);
            }
            found.turns.push(both[1] / both[0]);
        }
    }
    let status = on.ask(&["status"], &[])?;
    if status["tripwire_point"].is_null() {
        return Err(format!("the trip wire was not set: {}", status["tripwire"]).into());
    }
    on.prove()?;
    off.prove()?;
    let ratio = |(kind, found): (&str, Found)| {
        let us = |side: usize, share| quantile(&found.calls[side], share).map_or("-".into(), shown);
        let text = format!(
            "mean {} and {} us, p50 {} and {}, p99 {} and {}",
            shown(mean(&found.calls[0])),
            shown(mean(&found.calls[1])),
            us(0, 0.5),
            us(1, 0.5),
            us(0, 0.99),
            us(1, 0.99)
        );
        let what = format!("trip wire: speed with it beside without, {kind}");
        Ok(Ratio::new(what, text, Some(middle(&found.turns)?), ">= 0.95"))
    };
    KINDS.into_iter().zip(found).map(ratio).collect()
}

fn mean(of: &[f64]) -> f64 {
    of.iter().sum::<f64>() / of.len().max(1) as f64
}

fn micros(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed().as_secs_f64() * 1e6)
}

fn durably(store: &Store, blocks: &[u64]) -> Result<Vec<f64>> {
    let (file, mut block) = (File::options().write(true).open(store.path(FILE))?, noise(BLOCK as usize));
    let write = |number: &u64| {
        block[..8].copy_from_slice(&number.to_le_bytes());
        micros(|| {
            file.write_all_at(&block, number * BLOCK)?;
            Ok(file.sync_data()?)
        })
    };
    blocks.iter().map(write).collect()
}

fn make(store: &Store, turn: usize, count: u64) -> Result<Vec<f64>> {
    let dir = store.path(&format!("made-{turn}"));
    fs::create_dir(&dir)?;
    (0..count).map(|n| micros(|| Ok(File::create(dir.join(n.to_string())).map(drop)?))).collect()
}

/// What was made in that turn.
fn remove(store: &Store, turn: usize, count: u64) -> Result<Vec<f64>> {
    let dir = store.path(&format!("made-{turn}"));
    let times = (0..count).map(|n| micros(|| Ok(fs::remove_file(dir.join(n.to_string()))?)));
    let times = times.collect::<Result<_>>()?;
    fs::remove_dir(dir)?;
    Ok(times)
}
