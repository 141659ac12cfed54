//! The ratios that tell whether a method has the weakness that it is known for.

use crate::column::{Column, overwrite_all, overwrite_each};
use crate::common::report::{median, quantile, shown};
use crate::common::work::{self, BLOCK, noise};
use crate::common::{Result, raw};
use crate::method::{Method, in_sync};
use crate::options::Sizes;
use crate::store::Store;
use crate::{Places, deletion, foreground, history, hold_up, tripwire};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

const FILE: &str = "image";

/// What measures some of them.
type Part = fn(&Places<'_>, &Sizes) -> Result<Vec<Ratio>>;

const PARTS: [(&str, Part); 7] = [
    ("plain", plain),
    ("history", history::measure),
    ("mirror", mirror),
    ("split", hold_up::measure),
    ("copy", foreground::measure),
    ("deletion", deletion::measure),
    ("tripwire", tripwire::measure),
];

/// One of them.
pub struct Ratio {
    pub what: String,
    /// What both sides of it are, or the figure itself.
    pub found: String,
    pub ratio: Option<f64>,
    /// What it is to be.
    pub wanted: &'static str,
}

impl Ratio {
    pub fn new(what: impl Into<String>, found: String, ratio: Option<f64>, wanted: &'static str) -> Ratio {
        Ratio { what: what.into(), found, ratio, wanted }
    }

    /// All that were asked for, one after the other, until one fails; some are in the columns.
    pub fn measure(
        all: &mut Vec<Ratio>,
        columns: &[Column],
        places: &Places<'_>,
        sizes: &Sizes,
        wants: &dyn Fn(&str) -> bool,
    ) -> Result<()> {
        all.extend(columns.iter().find(|c| c.method == Method::Cow).map(|column| {
            let found = format!("{} and {} MB/s", shown(column.read), shown(column.read_fresh));
            let what = "COW: the file at rest, read cold, beside a freshly written one";
            Ratio::new(what, found, Some(column.ratio), ">= 0.9")
        }));
        let moving = columns.iter().filter(|column| column.moved.is_some());
        all.extend(moving.map(|column| {
            let way = if column.method == Method::Mirror { "resync" } else { "later copy" };
            let what =
                format!("{}: bytes moved by a {way} beside bytes in changed blocks", column.method.title());
            Ratio::new(what, "random blocks of 4 KiB".into(), column.moved, "<= 1.1 of content")
        }));
        for (name, part) in PARTS.iter().filter(|(name, _)| wants(name)) {
            if raw::interrupted() {
                return Err("interrupted".into());
            }
            eprintln!("{name}");
            all.extend(part(places, sizes).map_err(|why| format!("{name}: {why}"))?);
        }
        Ok(())
    }
}

/// A new store with a file at rest.
pub fn with_file(place: &Path, name: &str, mib: u64) -> Result<Store> {
    let store = Store::new(place, name)?;
    work::write_large(&store.path(FILE), mib << 20)?;
    store.rest(FILE)?;
    Ok(store)
}

/// The median.
pub fn middle(of: &[f64]) -> Result<f64> {
    median(of).ok_or_else(|| "nothing was measured".into())
}

/// Seconds until blocks are written over and durable.
fn batch(store: &Store, blocks: &[u64], rng: &mut fastrand::Rng) -> Result<f64> {
    let begun = Instant::now();
    overwrite_each(&store.path(FILE), blocks, rng)?;
    Ok(begun.elapsed().as_secs_f64())
}

/// The same writes without snapshots and after one, in turns.
fn plain(places: &Places<'_>, sizes: &Sizes) -> Result<Vec<Ratio>> {
    let bare = with_file(places.first, "plain-none", sizes.file)?;
    let row = with_file(places.first, "plain-row", sizes.file)?;
    let (bytes, blocks) = (sizes.file << 20, (sizes.file << 20) / BLOCK);
    let mut rng = fastrand::Rng::with_seed(2);
    // By kind: seconds without snapshots, seconds with, ratios of speed.
    let mut found = [[Vec::new(), Vec::new(), Vec::new()], [Vec::new(), Vec::new(), Vec::new()]];
    for turn in 0..sizes.turns * 2 {
        let numbers = work::distinct(sizes.batch, blocks, &mut rng);
        for (kind, found) in found.iter_mut().enumerate() {
            let run = |store: &Store, rng: &mut fastrand::Rng| -> Result<f64> {
                if kind == 0 {
                    return batch(store, &numbers, rng);
                }
                let begun = Instant::now();
                overwrite_all(&store.path(FILE), bytes, rng)?;
                Ok(begun.elapsed().as_secs_f64())
            };
            fs::create_dir(row.past(&format!("s{turn}-{kind}"), ""))?;
            let mut both = [0.0; 2];
            for side in [turn % 2, 1 - turn % 2] {
                let store = [&bare, &row][side];
                store.rest(FILE)?;
                both[side] = run(store, &mut rng)?;
            }
            found[0].push(both[0]);
            found[1].push(both[1]);
            found[2].push(both[0] / both[1]);
        }
        // The space of what was written over.
        if turn >= 2 {
            fs::remove_dir(row.past(&format!("s{}-1", turn - 2), ""))?;
        }
    }
    let [random, sequential] = found;
    let us = |seconds: f64| seconds / sizes.batch as f64 * 1e6;
    let random_found =
        format!("{} and {} us", shown(us(middle(&random[1])?)), shown(us(middle(&random[0])?)));
    let rate = |seconds: f64| bytes as f64 / 1e6 / seconds;
    let (with, without) = (rate(middle(&sequential[1])?), rate(middle(&sequential[0])?));
    let sequential_found = format!("{} and {} MB/s", shown(with), shown(without));
    bare.prove()?;
    row.prove()?;
    Ok(vec![
        Ratio::new(
            "ROW: speed of random overwrites right after a snapshot, beside a store without snapshots",
            random_found,
            Some(middle(&random[2])?),
            "1",
        ),
        Ratio::new(
            "ROW: speed of overwriting the whole file right after a snapshot, beside one without",
            sequential_found,
            Some(middle(&sequential[2])?),
            "1",
        ),
    ])
}

/// A store on each device alone, and one on both.
fn mirror(places: &Places<'_>, sizes: &Sizes) -> Result<Vec<Ratio>> {
    let alone = [
        with_file(places.first, "alone-first", sizes.file)?,
        with_file(places.second, "alone-second", sizes.file)?,
    ];
    let both = with_file(places.first, "both", sizes.file)?;
    let copy = places.second.join("both.copy");
    in_sync(&both, &copy)?;
    both.rest(FILE)?;
    let stores = [&alone[0], &alone[1], &both];
    let (bytes, blocks) = (sizes.file << 20, (sizes.file << 20) / BLOCK);
    let mut rng = fastrand::Rng::with_seed(3);
    let kinds = ["in order", "random blocks", "random blocks, each made durable"];
    let mut found: Vec<[Vec<f64>; 3]> = kinds.iter().map(|_| Default::default()).collect();
    for turn in 0..sizes.turns * 2 {
        let numbers = work::distinct(sizes.batch, blocks, &mut rng);
        for (kind, found) in found.iter_mut().enumerate() {
            for n in 0..stores.len() {
                let side = (n + turn) % stores.len();
                let store = stores[side];
                store.rest(FILE)?;
                let begun = Instant::now();
                match kind {
                    0 => overwrite_all(&store.path(FILE), bytes, &mut rng)?,
                    1 => drop(overwrite_each(&store.path(FILE), &numbers, &mut rng)?),
                    _ => durably(&store.path(FILE), &numbers[..numbers.len() / 4], &mut rng)?,
                }
                found[side].push(begun.elapsed().as_secs_f64());
            }
        }
    }
    let mut ratios = Vec::new();
    for (kind, times) in kinds.iter().zip(&found) {
        let turns = (0..times[0].len()).map(|n| times[0][n].max(times[1][n]) / times[2][n]);
        let ratio = median(&turns.collect::<Vec<f64>>());
        let units = if *kind == "in order" { bytes as f64 / 1e6 } else { sizes.batch as f64 };
        let of = if kind.contains("durable") { 0.25 } else { 1.0 };
        let rate = |n: usize| -> Result<String> { Ok(shown(units * of / middle(&times[n])?)) };
        let unit = if *kind == "in order" { "MB/s" } else { "writes/s" };
        let text = format!("both {}, first alone {}, second alone {} {unit}", rate(2)?, rate(0)?, rate(1)?);
        let what = format!("mirror: writes ({kind}) beside its slower side alone");
        ratios.push(Ratio::new(what, text, ratio, ">= 0.9"));
    }
    for store in alone {
        store.prove()?;
    }
    both.prove()?;
    drop(fs::remove_dir_all(copy));
    Ok(ratios)
}

fn durably(path: &Path, blocks: &[u64], rng: &mut fastrand::Rng) -> Result<()> {
    let (file, mut block) = (File::options().write(true).open(path)?, noise(BLOCK as usize));
    for number in blocks {
        block[..8].copy_from_slice(&rng.u64(..).to_le_bytes());
        file.write_all_at(&block, number * BLOCK)?;
        file.sync_all()?;
    }
    Ok(())
}

/// The value that 99 of 100 are below.
pub fn p99(values: &[f64]) -> Result<f64> {
    quantile(values, 0.99).ok_or_else(|| "nothing was measured".into())
}
