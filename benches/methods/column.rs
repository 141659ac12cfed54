//! One method on a store of its own: all that the table has of it.

use crate::Places;
use crate::common::report::median;
use crate::common::work::{self, BLOCK, noise, time};
use crate::common::{Result, raw};
use crate::method::{Made, Method, in_sync};
use crate::options::Sizes;
use crate::store::Store;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The file that is written over, and one that is written when that is at rest.
const FILE: &str = "image";
const FRESH: &str = "fresh";
/// The first snapshot: what is restored.
const FIRST: &str = "first";
/// MiB that are written at once where the order is the file's.
const CHUNK: usize = 1 << 20;

/// Overwrites of single blocks.
#[derive(Default)]
pub struct Overwrites {
    /// Microseconds, until a write returned.
    pub micros: Vec<f64>,
    /// Bytes that the device was given until all was at rest, for each byte written, turn by turn.
    pub amplification: Vec<f64>,
}

/// Overwriting from the beginning to the end.
#[derive(Default)]
pub struct Sequential {
    /// MB/s, until all was durable.
    pub rate: f64,
    pub amplification: f64,
}

/// What was found of a method.
pub struct Column {
    pub method: Method,
    /// The first snapshot.
    pub first: Made,
    /// Seconds until a mirror could be split the first time.
    pub ready: Option<f64>,
    /// `mkdir .snapshots/NAME`, in milliseconds, where that makes such a snapshot.
    pub mkdir: Option<f64>,
    /// Snapshots of the rounds: milliseconds until they were made, seconds until there was a copy that stands alone.
    pub later_made: Option<f64>,
    pub later_alone: Option<f64>,
    /// Bytes that went to the copies of the rounds, for each byte in a block that had changed.
    pub moved: Option<f64>,
    /// Of a block after a snapshot, and again.
    pub first_overwrite: Overwrites,
    pub later_overwrite: Overwrites,
    /// Physically contiguous runs, at the beginning and after the rounds.
    pub runs: [u64; 2],
    /// MB/s of a cold read: of the file after the rounds, and of one that was written afterwards.
    pub read: f64,
    pub read_fresh: f64,
    pub ratio: f64,
    /// The whole file after a snapshot, and again.
    pub first_sequential: Sequential,
    pub later_sequential: Sequential,
    /// Milliseconds until the file is as in the first snapshot.
    pub restore: Option<f64>,
    /// Milliseconds until a copy is mounted without its origin, and has been read from.
    pub mount_copy: Option<f64>,
}

struct Bench<'b> {
    method: Method,
    sizes: &'b Sizes,
    store: Store,
    /// Where the copy is.
    second: PathBuf,
    rng: fastrand::Rng,
    /// Snapshots so far.
    made: u64,
}

impl Column {
    /// Measures a method from the beginning to the end.
    pub fn measure(method: Method, places: &Places<'_>, sizes: &Sizes) -> Result<Column> {
        let name = method.name();
        let second = places.second.join(format!("{name}.copy"));
        let store = Store::new(places.first, name)?;
        let rng = fastrand::Rng::with_seed(1);
        let mut bench = Bench { method, sizes, store, second: second.clone(), rng, made: 0 };
        let found = bench.column();
        let Bench { mut store, .. } = bench;
        let mut found = found?;
        if method.is_copy() {
            store.unmount()?;
            found.mount_copy = Some(mount_copy(&second, places, name)?);
        }
        store.prove()?;
        drop(fs::remove_dir_all(second));
        Ok(found)
    }
}

impl Bench<'_> {
    fn column(&mut self) -> Result<Column> {
        let bytes = self.sizes.file << 20;
        work::write_large(&self.store.path(FILE), bytes)?;
        self.store.rest(FILE)?;
        let runs = self.runs()?;
        let ready = match self.method {
            Method::Mirror => {
                let begun = Instant::now();
                let moved = in_sync(&self.store, &self.second)?;
                Some((begun.elapsed().as_secs_f64(), moved))
            }
            _ => None,
        };
        let mut first = self.method.make(&self.store, &self.second, FIRST)?;
        if let Some((_, moved)) = ready {
            first.moved = Some(moved);
        }
        let mkdir = self.mkdir()?;
        let [first_overwrite, later_overwrite] = self.batches()?;
        let rounds = self.rounds()?;
        self.store.rest(FILE)?;
        let runs = [runs, self.runs()?];
        let [read, read_fresh, ratio] = self.reads(bytes)?;
        let [first_sequential, later_sequential] = self.sequential(bytes)?;
        let restore = self.restore()?;
        Ok(Column {
            method: self.method,
            first,
            ready: ready.map(|(seconds, _)| seconds),
            mkdir,
            later_made: rounds.made,
            later_alone: rounds.alone,
            moved: rounds.moved,
            first_overwrite,
            later_overwrite,
            runs,
            read,
            read_fresh,
            ratio,
            first_sequential,
            later_sequential,
            restore,
            mount_copy: None,
        })
    }

    fn runs(&self) -> Result<u64> {
        self.store.lies(FILE)?["runs"].as_u64().ok_or_else(|| "a file does not tell its runs".into())
    }

    /// One more snapshot by the method; a mirror is whole again afterwards, because its cost is that of two sides.
    fn snapshot(&mut self) -> Result<Made> {
        self.made += 1;
        self.method.make(&self.store, &self.second, &format!("s{}", self.made))
    }

    /// What has to be there while files are written.
    fn attach(&self) -> Result<()> {
        if self.method == Method::Mirror { in_sync(&self.store, &self.second).map(drop) } else { Ok(()) }
    }

    fn mkdir(&mut self) -> Result<Option<f64>> {
        if !matches!(self.method, Method::Row | Method::Cow) {
            return Ok(None);
        }
        let file = File::options().write(true).open(self.store.path(FILE))?;
        let mut times = Vec::new();
        for n in 0..self.sizes.turns * 4 {
            file.write_all_at(&noise(BLOCK as usize), 0)?;
            let dir = self.store.past(&format!("m{n}"), "");
            times.push(time(|| Ok(fs::create_dir(&dir)?))?.as_secs_f64() * 1e3);
        }
        Ok(median(&times))
    }

    /// Blocks written over after a snapshot, and once more, turn by turn.
    fn batches(&mut self) -> Result<[Overwrites; 2]> {
        let mut found = [Overwrites::default(), Overwrites::default()];
        let blocks = (self.sizes.file << 20) / BLOCK;
        for _ in 0..self.sizes.turns {
            self.snapshot()?;
            self.attach()?;
            let batch = work::distinct(self.sizes.batch, blocks, &mut self.rng);
            for kind in &mut found {
                self.store.rest(FILE)?;
                let before = self.store.written()?;
                kind.micros.extend(overwrite_each(&self.store.path(FILE), &batch, &mut self.rng)?);
                self.store.rest(FILE)?;
                let written = self.store.written()? - before;
                kind.amplification.push(written as f64 / (batch.len() as u64 * BLOCK) as f64);
            }
        }
        Ok(found)
    }

    /// All the random overwrites, with a snapshot before each part of them.
    fn rounds(&mut self) -> Result<Rounds> {
        let (blocks, count) = ((self.sizes.file << 20) / BLOCK, self.sizes.overwrites / self.sizes.rounds);
        let (mut made, mut changed) = (Vec::new(), 0);
        // From here on copies carry what the rounds have changed.
        self.snapshot()?;
        for _ in 0..self.sizes.rounds {
            if raw::interrupted() {
                return Err("interrupted".into());
            }
            let batch: Vec<u64> = (0..count).map(|_| self.rng.u64(..blocks)).collect();
            overwrite_each(&self.store.path(FILE), &batch, &mut self.rng)?;
            changed += BLOCK * batch.into_iter().collect::<BTreeSet<_>>().len() as u64;
            made.push(self.snapshot()?);
        }
        let of =
            |what: &dyn Fn(&Made) -> Option<f64>| median(&made.iter().filter_map(what).collect::<Vec<_>>());
        let moved: Option<u64> = made.iter().map(|m| m.moved).sum();
        let makes = self.method != Method::Nothing;
        Ok(Rounds {
            made: of(&|m| Some(m.returned.as_secs_f64() * 1e3)).filter(|_| makes),
            alone: of(&|m| m.alone.map(|alone| alone.as_secs_f64())),
            moved: moved.map(|moved| moved as f64 / changed as f64),
        })
    }

    /// Cold reads of the file and of a fresh one, in turns.
    fn reads(&mut self, bytes: u64) -> Result<[f64; 3]> {
        work::write_large(&self.store.path(FRESH), bytes)?;
        self.store.rest(FRESH)?;
        let (mut old, mut fresh, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for turn in 0..self.sizes.turns {
            let order = if turn % 2 == 0 { [FILE, FRESH] } else { [FRESH, FILE] };
            for name in order {
                self.store.cool()?;
                let took = time(|| work::read_through(&self.store.path(name)).map(drop))?;
                let rate = bytes as f64 / 1e6 / took.as_secs_f64();
                if name == FILE { old.push(rate) } else { fresh.push(rate) }
            }
            ratios.extend(old.last().zip(fresh.last()).map(|(old, fresh)| old / fresh));
        }
        eprintln!("  read cold, MB/s: {old:.0?}; one that was freshly written: {fresh:.0?}");
        fs::remove_file(self.store.path(FRESH))?;
        let middle = |of: &[f64]| median(of).ok_or("nothing was read");
        Ok([middle(&old)?, middle(&fresh)?, middle(&ratios)?])
    }

    fn sequential(&mut self, bytes: u64) -> Result<[Sequential; 2]> {
        self.snapshot()?;
        self.attach()?;
        let mut found = [Sequential::default(), Sequential::default()];
        for kind in &mut found {
            self.store.rest(FILE)?;
            let before = self.store.written()?;
            let took = time(|| overwrite_all(&self.store.path(FILE), bytes, &mut self.rng))?;
            self.store.rest(FILE)?;
            kind.rate = bytes as f64 / 1e6 / took.as_secs_f64();
            kind.amplification = (self.store.written()? - before) as f64 / bytes as f64;
        }
        // A copy that is mounted in the end has this.
        self.snapshot()?;
        Ok(found)
    }

    fn restore(&self) -> Result<Option<f64>> {
        if self.method == Method::Nothing {
            return Ok(None);
        }
        let path = self.store.path(FILE);
        let path = crate::common::medium::text(&path)?.to_string();
        let took = time(|| crate::store::command(&["restore", &path, "--from", FIRST]).map(drop))?;
        Ok(Some(took.as_secs_f64() * 1e3))
    }
}

/// Medians of the snapshots of the rounds, and what was moved for what had changed.
struct Rounds {
    made: Option<f64>,
    alone: Option<f64>,
    moved: Option<f64>,
}

/// Writes over blocks, one by one; how long each took, in microseconds. All of it is durable on return.
pub fn overwrite_each(path: &Path, blocks: &[u64], rng: &mut fastrand::Rng) -> Result<Vec<f64>> {
    let (file, mut block) = (File::options().write(true).open(path)?, noise(BLOCK as usize));
    let mut found = Vec::with_capacity(blocks.len());
    for number in blocks {
        block[..8].copy_from_slice(&rng.u64(..).to_le_bytes());
        let begun = Instant::now();
        file.write_all_at(&block, number * BLOCK)?;
        found.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    file.sync_all()?;
    Ok(found)
}

/// Writes over a whole file from the beginning to the end, and makes it durable.
pub fn overwrite_all(path: &Path, bytes: u64, rng: &mut fastrand::Rng) -> Result<()> {
    let (file, mut chunk) = (File::options().write(true).open(path)?, noise(CHUNK));
    for at in (0..bytes).step_by(CHUNK) {
        for block in chunk.chunks_mut(BLOCK as usize) {
            block[..8].copy_from_slice(&rng.u64(..).to_le_bytes());
        }
        file.write_all_at(&chunk, at)?;
    }
    Ok(file.sync_all()?)
}

/// Milliseconds until a copy is mounted alone and the beginning of the file was read.
fn mount_copy(copy: &Path, places: &Places<'_>, name: &str) -> Result<f64> {
    raw::sync_host();
    fs::write("/proc/sys/vm/drop_caches", "3")?;
    let begun = Instant::now();
    let store = Store::open(copy, places.second, &format!("{name}-copy"))?;
    File::open(store.path(FILE))?.read_exact_at(&mut [0; BLOCK as usize], 0)?;
    let took: Duration = begun.elapsed();
    store.prove()?;
    Ok(took.as_secs_f64() * 1e3)
}
